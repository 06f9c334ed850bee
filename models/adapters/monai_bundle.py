"""Any MONAI bundle, through MONAI's own ConfigParser, transforms and inferer.

What the bundle's evaluator does for one image is done here, with the same objects, but the network is loaded once,
and nothing is read from or written to NIfTI: the volume takes the place of ``LoadImaged``, and the prediction is
taken where ``SaveImaged`` would write it. Custom code of a bundle must be importable (``PYTHONPATH``), as for
MONAI's own command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import highdicom as hd
import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import decollate_batch, list_data_collate
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from ..memory import OutOfMemory, ran_out_of_memory
from ..model import ModelCard, ModelError
from ..monai_card import BundleFiles, verified_files
from ..parameters import numbers
from ..reproducible import fixed_algorithms
from ..segmentation import Segmentation
from ..state_dict import load_into, read_state_dict
from ..volume_check import finite_values
from ..weights import InvalidWeights

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
IMAGE, PREDICTION = "image", "pred"
"""Keys of MONAI's dictionaries (`monai.utils.CommonKeys`)."""

_READING, _WRITING = "LoadImaged", ("SaveImaged", "SaveImage")


class InvalidBundle(ModelError):
    """A bundle whose configuration cannot be run, or does not give one label for each voxel."""

    code = "INVALID_BUNDLE"


class MonaiBundle:
    """The loaded bundle."""

    def __init__(self, card: ModelCard, files: BundleFiles, device: str) -> None:
        self._card = card
        self._device = torch.device(device)
        config = _config(card.name, files, device)
        parser = ConfigParser(config)
        self._preprocess: Callable[[Any], Any] = _content(card.name, parser, "preprocessing")
        self._postprocess: Callable[[Any], Any] = _content(card.name, parser, "postprocessing")
        self._infer: Callable[..., Any] = _content(card.name, parser, "inferer")
        self._mixed = self._device.type == "cuda" and bool(config.get("evaluator", {}).get("amp", False))
        self._network = _network(card.name, parser, files, device)

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Segmentation of one volume; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is given (there are none); if the volume is empty, constant or not finite.
        InvalidBundle
            If the bundle does not give one label for each voxel, or one that its card does not have.
        """
        numbers(self._card, parameters)
        prepared = self._preprocess({IMAGE: image_of(volume, finite_values(volume, self._card.name))})
        batch = list_data_collate([prepared])
        with torch.inference_mode(), torch.autocast("cuda", enabled=self._mixed), fixed_algorithms():
            batch[PREDICTION] = self._infer(batch[IMAGE].to(self._device), self._network)
        with torch.inference_mode():
            (done,) = (self._postprocess(each) for each in decollate_batch(batch))
        return Segmentation(self._labelmap(done[PREDICTION], volume), self._card.segments)

    def _labelmap(self, prediction: torch.Tensor, volume: hd.Volume) -> hd.Volume:
        """The prediction (1, i, j, k) on the grid of the volume."""
        wanted = (1, *volume.spatial_shape[::-1])
        if tuple(prediction.shape) != wanted:
            shape = " x ".join(map(str, prediction.shape))
            raise InvalidBundle(
                self._card.name, f"its postprocessing gives {shape} values: {wanted[0]} label is needed"
            )
        labels: NDArray[np.float32] = prediction[0].cpu().numpy()
        numbers_found = np.unique(labels)
        if not np.isin(numbers_found, np.arange(len(self._card.segments) + 1)).all():
            last = f"{numbers_found[-1]:g}"
            raise InvalidBundle(self._card.name, f"labels up to {last}; its card has {len(self._card.segments)}")
        dtype = np.uint8 if len(self._card.segments) <= np.iinfo(np.uint8).max else np.uint16
        return volume.with_array(np.ascontiguousarray(labels.transpose(2, 1, 0).astype(dtype)))


def load(card: ModelCard, device: str) -> MonaiBundle:
    """The bundle's network on a device, and its transforms.

    Raises
    ------
    WeightsMissing, WrongHash, UnsafeWeights, InvalidWeights
        If the files are not those that the card pins, or hold no weights of this network.
    InvalidBundle
        If the configuration lacks what inference needs.
    """
    return MonaiBundle(card, verified_files(card), device)


def image_of(volume: hd.Volume, values: NDArray[np.float32]) -> MetaTensor:
    """What ``LoadImaged`` gives for a NIfTI file of this volume: axes (i, j, k), affine to RAS mm, no channel."""
    affine = LPS_TO_RAS @ volume.affine
    affine[:, :3] = affine[:, 2::-1]
    meta = {
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(values.shape[::-1]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
    }
    return MetaTensor(torch.from_numpy(values.transpose(2, 1, 0)), affine=torch.from_numpy(affine), meta=meta)


def _config(model: str, files: BundleFiles, device: str) -> dict[str, Any]:
    """The bundle's configuration for this device, without what reads and writes files."""
    try:
        config: dict[str, Any] = ConfigParser.load_config_file(str(files.config))
    except (OSError, ValueError) as exc:
        raise InvalidBundle(model, f"{files.config.name} cannot be read: {exc}") from exc
    config["bundle_root"] = str(files.root)
    config["device"] = f"$torch.device({device!r})"
    for chain, dropped in (("preprocessing", (_READING,)), ("postprocessing", _WRITING)):
        transforms = config.get(chain, {}).get("transforms") if isinstance(config.get(chain), dict) else None
        if not isinstance(transforms, list):
            raise InvalidBundle(model, f"{files.config.name} has no {chain} with a list of transforms")
        config[chain]["transforms"] = [each for each in transforms if _target(each) not in dropped]
    return {**config, "imports": [*config.get("imports", []), "$import torch"]}


def _target(transform: object) -> str:
    """Class name of a transform, without its module."""
    return str(transform.get("_target_", "")).rpartition(".")[2] if isinstance(transform, dict) else ""


def _content(model: str, parser: ConfigParser, name: str) -> Any:
    """An object that the configuration describes; the configuration's code is pinned by the card's hash."""
    try:
        return parser.get_parsed_content(name)
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, RuntimeError, NameError) as exc:
        if ran_out_of_memory(exc.__cause__ or exc):
            raise OutOfMemory(model, f"memory does not suffice for its {name}") from exc
        reason = " ".join(str(exc.__cause__ or exc).split())[:300]
        raise InvalidBundle(model, f"its configuration gives no {name}: {reason}") from exc


def _network(model: str, parser: ConfigParser, files: BundleFiles, device: str) -> torch.nn.Module:
    """The network with its weights, ready to infer."""
    if files.is_torchscript:
        try:
            network: torch.nn.Module = torch.jit.load(str(files.network), map_location=device)
        except (RuntimeError, ValueError) as exc:
            if ran_out_of_memory(exc):
                raise
            raise InvalidWeights(model, f"{files.network.name} is truncated, or no TorchScript") from exc
        return network.eval()
    network = _content(model, parser, "network_def")
    state = read_state_dict(model, files.network, "cpu")
    # As ignite's checkpoint loader, which bundles use: a lone "model" is taken out of its wrapping.
    inner = state.get("model")
    load_into(model, network, inner if isinstance(inner, Mapping) else state, files.network)
    return network.to(device).eval()
