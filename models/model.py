"""ModelCard and the Model protocol."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import highdicom as hd

from .. import Error
from .measured import Measured
from .segmentation import Segment, Segmentation


class ModelError(Error):
    """A model could not make a segmentation of this volume."""

    code = "MODEL_ERROR"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(model, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class NeedsSeries(ModelError):
    """A volume was given to a model that takes the files of a series."""

    code = "NEEDS_SERIES"


@dataclass(frozen=True, slots=True)
class Weights:
    """One weights file: where it comes from and the SHA-256 it must have."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file: the last part of the URL's path."""
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model declares about itself before it runs.

    Attributes
    ----------
    name, version : str
        E.g. ``ct-threshold`` and ``1.0``; a change of result is a change of version.
    description, intended_use : str
        One sentence each.
    modality : tuple of str
        DICOM Modality (0008,0060) values that the model takes.
    body_part : str
        For people, e.g. ``CHEST``.
    algorithm_family : str
        ``AI`` for a trained network, ``RULES`` for thresholds and morphology.
    segments : tuple of Segment
        All that the model can find, in label map order.
    weights : tuple of Weights
        Empty for a weight-free model.
    parameters : mapping of str to str
        Every parameter with its default, as text.
    memory_bytes, gpu_bytes : int
        Needed on the host and on the GPU for 512x512x300; 0 GPU bytes: no GPU needed.
    code_licence, weights_licence : str
        SPDX identifiers; ``none`` where there are no weights.
    citations : tuple of str
        Papers that the numbers come from.
    commercial_use : bool
        Whether the licence of the weights allows it, as far as the licence's name does not say.
    place : str
        Folder or file of a model that a user brings, on this machine; empty for all others. No part of what
        the model is: it enters no key and no result.
    reproducibility : str
        Whether the same input gives the same output bit for bit, and where not; empty where nothing is known.
    measured : Measured or None
        What series took; None: not measured.
    """

    name: str
    version: str
    description: str
    intended_use: str
    modality: tuple[str, ...]
    body_part: str
    algorithm_family: str
    segments: tuple[Segment, ...]
    weights: tuple[Weights, ...]
    parameters: Mapping[str, str]
    memory_bytes: int
    gpu_bytes: int
    code_licence: str
    weights_licence: str
    citations: tuple[str, ...]
    commercial_use: bool = True
    place: str = ""
    reproducibility: str = ""
    measured: Measured | None = None

    @property
    def reference(self) -> str:
        """What the catalogue knows it by: its name, or ``family:place`` for a model that a user brings."""
        return f"{self.name.partition(':')[0]}:{self.place}" if self.place else self.name

    @property
    def forbids_commercial_use(self) -> bool:
        """Whether the licence of the weights forbids commercial use: so said, or NC or Noncommercial in its name."""
        words = re.split(r"[^a-z]+", self.weights_licence.lower())
        return not self.commercial_use or "nc" in words or "noncommercial" in "".join(words)

    @property
    def weights_sha256(self) -> str:
        """One digest of all weights, in order; ``none`` for a weight-free model."""
        if not self.weights:
            return "none"
        return hashlib.sha256("\n".join(w.sha256 for w in self.weights).encode()).hexdigest()

    @property
    def overlapping(self) -> bool:
        """Whether its segments share voxels, so that a LABELMAP SEG cannot hold them."""
        return any(segment.contains for segment in self.segments)


class Model(Protocol):
    """A loaded model: made once, then a volume in and a segmentation out, as often as wanted."""

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        ...

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """Segmentation of one volume.

        Parameters
        ----------
        volume : highdicom.Volume
            Array (k, j, i), Hounsfield units for CT, int16 or float32; affine to LPS mm.
            Any orientation: the model turns it as it needs and gives the result on this grid.
        parameters : mapping of str to str
            Those of the card, with the caller's changes; unknown names raise ModelError.

        Raises
        ------
        ModelError
            If the volume breaks what the model needs (empty, NaN, no lung found, ...).
        """
        ...


@runtime_checkable
class SeriesModel(Model, Protocol):
    """A loaded model that wants the files of a series as they are; its `segment` raises `NeedsSeries`."""

    def segment_series(
        self,
        files: Sequence[Path],
        volume: hd.Volume,
        parameters: Mapping[str, str],
        read_result: Callable[[Path, hd.Volume], Segmentation],
    ) -> Segmentation:
        """Segmentation of one series.

        Parameters
        ----------
        files : sequence of Path
            Those of the series; what is in them is no concern of models.
        volume : highdicom.Volume
            The volume read from them; as for `Model.segment`.
        parameters : mapping of str to str
            As for `Model.segment`.
        read_result : callable
            Reads a file of the same kind that holds a segmentation, on the grid of a volume.

        Raises
        ------
        ModelError
            If the files give no segmentation of this volume.
        """
        ...
