"""A trained nnU-Net v2 folder as a warm network: an array in, labels out, equal to ``nnUNetv2_predict``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from ..speed import AS_TRAINED, Speed
from ..weights import InvalidWeights
from .card import CHECKPOINT_SUFFIX, DATASET, PLANS
from .checkpoint import Checkpoint, read_checkpoint, read_verified
from .ladder import Rung, Window, climb_down, ladder
from .logit_labels import labels_of_logits
from .preprocessing import Cropped, preprocessed
from .regridding import Regridding
from .sliding_window import predict_slabs
from .trainer import build_network


@dataclass(frozen=True, slots=True)
class Inference:
    """How to predict; the defaults are those of ``nnUNetv2_predict``.

    Attributes
    ----------
    folds : tuple of str
        E.g. ``("0", "1")``; the mean of their logits is taken. Empty: all that are loaded.
    mirroring : bool
        Take the mean over the mirrorings that the training allows.
    step_size : float
        Distance of tiles as a part of their size, above 0 and at most 1.
    smaller_tiles : bool
        When the GPU's memory does not suffice, try smaller tiles, which changes the result a little.
    speed : Speed
        Precision, and whether the network is compiled.
    """

    folds: tuple[str, ...] = ()
    mirroring: bool = True
    step_size: float = 0.5
    smaller_tiles: bool = False
    speed: Speed = AS_TRAINED


class TrainedNetwork:
    """A network with the weights of its folds, on its device; made by `load_network`.

    Attributes
    ----------
    name : str
        For errors.
    plans, configuration : PlansManager, ConfigurationManager
        nnU-Net's, of the trained folder.
    dataset : dict
        Content of ``dataset.json``.
    folds : mapping of str to Checkpoint
        ``"0"``, ``"all"``, ... in ascending order.
    """

    def __init__(
        self,
        name: str,
        plans: PlansManager,
        dataset: dict[str, Any],
        folds: Mapping[str, Checkpoint],
        device: str,
        own_trainers: Collection[str] = (),
    ) -> None:
        first = next(iter(folds.values()))
        self.name, self.plans, self.dataset, self.folds = name, plans, dataset, folds
        self.configuration: ConfigurationManager = plans.get_configuration(first.configuration)
        self.label_manager = plans.get_label_manager(dataset)
        if self.configuration.previous_stage_name is not None:
            raise InvalidWeights(name, "is the second stage of a cascade, which needs the first one's result")
        inputs = determine_num_input_channels(plans, self.configuration, dataset)
        channels = (inputs, self.label_manager.num_segmentation_heads)
        network = build_network(first.trainer, plans, self.configuration, channels, own_trainers)
        for fold, checkpoint in folds.items():
            _load(network, checkpoint, f"{name}/fold_{fold}")
        self._device = device
        self._network = network.to(device).eval()
        self._inputs = inputs
        self._mirroring_axes = first.mirroring_axes

    @cached_property
    def _compiled(self) -> torch.nn.Module:
        """The network behind ``torch.compile``, which works when it first sees a tile."""
        return cast(torch.nn.Module, torch.compile(self._network, dynamic=False))

    @property
    def reader(self) -> str:
        """nnU-Net's class that read the training images, e.g. ``SimpleITKIO``."""
        return str(self.plans.plans["image_reader_writer"])

    def labels(
        self,
        channels: NDArray[Any],
        spacing_mm: tuple[float, float, float],
        inference: Inference = Inference(),
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Label map of one image, on its own grid.

        Parameters
        ----------
        channels : ndarray
            (channel, k, j, i) as nnU-Net's reader gives it, all finite.
        spacing_mm : tuple of float
            Along k, j, i.
        inference : Inference
            How to predict.

        Returns
        -------
        ndarray
            (k, j, i); uint8, or uint16 from 255 labels on.

        Raises
        ------
        InvalidWeights
            If a fold is asked for that is not loaded, or the channels are not those of the training.
        InvalidVolume
            If the image is too thin for the network.
        OutOfMemory, InvalidLogits
            If memory does not suffice; if the network gives values that are not finite.
        """
        if len(channels) != self._inputs:
            raise InvalidWeights(self.name, f"takes {self._inputs} channels, not {len(channels)}")
        weights = [self._fold(fold).weights for fold in inference.folds or self.folds]
        seen, cropped = preprocessed(channels, spacing_mm, self.plans, self.configuration, self.dataset, self.name)
        image = torch.from_numpy(seen)
        axes = self._mirroring_axes if inference.mirroring else ()
        tile = tuple(self.configuration.patch_size)
        outputs, speed = self.label_manager.num_segmentation_heads, inference.speed
        window = Window(tile, inference.step_size, axes, outputs, speed.precision, speed.batch)
        network = self._compiled if speed.compiled else self._network
        strides = np.prod(self.configuration.pool_op_kernel_sizes, axis=0).tolist() if inference.smaller_tiles else None
        rungs = ladder(window, self._device, strides)
        grid = self._regridding(cropped)

        def labels_by(rung: Rung) -> NDArray[np.int16]:
            slabs = predict_slabs(network, weights, image, rung, self.name)
            return labels_of_logits(slabs, tuple(image.shape[1:]), grid, self.label_manager)

        return self._to_source(climb_down(rungs, labels_by, self.name), cropped)

    def _fold(self, fold: str) -> Checkpoint:
        if fold not in self.folds:
            raise InvalidWeights(self.name, f"no fold {fold!r}; there are {', '.join(self.folds)}")
        return self.folds[fold]

    def _regridding(self, cropped: Cropped) -> Regridding:
        """From the network's grid to that of the image, cropped."""
        own = tuple(self.configuration.spacing)
        own = own if len(own) == len(cropped.shape) else (cropped.spacing_mm[0], *own)
        return Regridding(self.configuration.resampling_fn_probabilities, cropped.shape, own, cropped.spacing_mm)

    def _to_source(self, found: NDArray[np.int16], cropped: Cropped) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Labels on the grid of the image as it was given: uncropped, axes turned back."""
        kind = np.uint8 if len(self.label_manager.foreground_labels) < 255 else np.uint16  # noqa: PLR2004 - nnU-Net's
        whole = np.zeros(cropped.whole, dtype=kind)
        whole[cropped.box] = found
        return np.ascontiguousarray(whole.transpose(self.plans.transpose_backward))


def find_checkpoints(folder: Path, file: str = f"checkpoint_final{CHECKPOINT_SUFFIX}") -> tuple[str, ...]:
    """Checkpoints of a trained folder, e.g. ``fold_0/checkpoint_final.pth``, as ``nnUNetv2_predict`` finds them.

    All numbered folds; ``fold_all`` where there is no other.
    """
    found = sorted(f"{path.parent.name}/{path.name}" for path in folder.glob(f"fold_*/{file}"))
    numbered = tuple(each for each in found if not each.startswith("fold_all/"))
    return numbered or tuple(found)


def load_network(
    folder: Path,
    files: Mapping[str, str | None],
    device: str = "cpu",
    own_trainers: Collection[str] | None = (),
) -> TrainedNetwork:
    """The network of a trained nnU-Net v2 folder.

    Parameters
    ----------
    folder : Path
        With ``plans.json`` and ``dataset.json``.
    files : mapping of str to str or None
        Each checkpoint to load, relative to `folder` (``fold_0/checkpoint_final.pth``), with the SHA-256 it
        must have or None. ``plans.json`` and ``dataset.json`` may stand there too, for the same check.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ...
    own_trainers : collection of str or None
        Trainers that nnU-Net does not ship and that take the network of the plans; None: any trainer does.

    Raises
    ------
    InvalidWeights
        If a file is damaged, or does not fit the others.
    WeightsMissing, WrongHash, UnsafeWeights
        If a file is missing or another one; if a checkpoint asks for code to be run.
    """
    plans, dataset = (_json(folder / file, files.get(file)) for file in (PLANS, DATASET))
    folds = {
        PurePosixPath(file).parent.name.removeprefix("fold_"): read_checkpoint(folder / file, sha256)
        for file, sha256 in sorted(files.items())
        if file.endswith(CHECKPOINT_SUFFIX)
    }
    if not folds:
        raise InvalidWeights(folder.name, "no checkpoint is named")
    if own_trainers is None:
        own_trainers = {checkpoint.trainer for checkpoint in folds.values()}
    try:
        with redirect_stdout(StringIO()):
            return TrainedNetwork(folder.name, PlansManager(plans), dataset, folds, device, own_trainers)
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError, ImportError) as exc:
        reason = f"plans.json, dataset.json and checkpoint do not make a network: {type(exc).__name__}: {exc}"
        raise InvalidWeights(folder.name, reason) from exc


def _json(path: Path, sha256: str | None) -> dict[str, Any]:
    try:
        content = json.loads(read_verified(path, sha256))
    except ValueError as exc:
        raise InvalidWeights(path.name, f"is no JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise InvalidWeights(path.name, "is no JSON object")
    return content


def _load(network: torch.nn.Module, checkpoint: Checkpoint, place: str) -> None:
    """Try the weights, so that a fold that does not fit is found when the model loads."""
    try:
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as exc:
        reason = " ".join(str(exc).split())[:300]
        raise InvalidWeights(place, f"the weights are not those of the network in plans.json: {reason}") from exc
