"""container:CARD - any image with a folder in and a folder out, MHub's among them, run by the engine that is there.

An image is a program of others: it gets a copy of the series (or its volume as NIfTI) read-only, an empty folder for
its result, no network, the memory of its card and its time, and no more. What it writes is read, checked against
the series' grid and the card's labels, and encoded anew, so that codes, UIDs, measurements and cost are as for
every other model. Nothing is pulled here: see the card's `container` block, in `models.container.card`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import highdicom as hd

from ..container.card import DICOM, SEG, Image, read
from ..container.engines import Engine, NoEngine, engine_for, gpu_of, succeeds
from ..container.label_map import from_label_map, from_segments, read_label_map, write_volume
from ..container.running import copied, run_image, the_result, workplace
from ..model import ModelCard, NeedsSeries
from ..parameters import numbers
from ..segmentation import Segmentation
from ..volume_check import check_values
from ..weights import WeightsMissing, check_hash


class VolumeImage:
    """An image that takes a volume as NIfTI; it is started anew for each."""

    def __init__(self, card: ModelCard, image: Image, engine: Engine, gpu: str) -> None:
        self._card, self._image, self._engine, self._gpu = card, image, engine, gpu

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:
        """What the image finds, on the grid of `volume`; see `Model.segment`.

        Raises
        ------
        InvalidParameter, InvalidVolume
            If a parameter is given (there are none); if the volume is empty, constant or not finite.
        ImageFailed, ImageTimedOut, OutOfMemory, ImageWroteNothing
            If the image gave no result.
        InvalidResult
            If it is of another grid, or has labels that the card does not know.
        """
        numbers(self._card, parameters)
        check_values(volume, self._card.name)
        name, image = self._card.name, self._image
        with workplace() as place:
            write_volume(volume, place.input / image.input_file)
            run_image(name, self._engine, image, place, self._gpu)
            values = read_label_map(name, the_result(name, image, place), volume)
        return from_label_map(name, image, values, volume, self._card.segments)


class SeriesImage:
    """An image that takes the files of a series; it is started anew for each. A `SeriesModel`."""

    def __init__(self, card: ModelCard, image: Image, engine: Engine, gpu: str) -> None:
        self._card, self._image, self._engine, self._gpu = card, image, engine, gpu

    @property
    def card(self) -> ModelCard:
        """What the model declares about itself."""
        return self._card

    def segment(self, volume: hd.Volume, parameters: Mapping[str, str]) -> Segmentation:  # noqa: ARG002 - see below
        """Refuse a volume; raises NeedsSeries."""
        raise NeedsSeries(self._card.name, "its image takes the files of a series, and no volume: `voxfleet run` does")

    def segment_series(
        self,
        files: Sequence[Path],
        volume: hd.Volume,
        parameters: Mapping[str, str],
        read_result: Callable[[Path, hd.Volume], Segmentation],
    ) -> Segmentation:
        """What the image finds, on the grid of `volume`; see `SeriesModel.segment_series`, and above for errors."""
        numbers(self._card, parameters)
        name, image = self._card.name, self._image
        with workplace() as place:
            copied(files, place.input)
            run_image(name, self._engine, image, place, self._gpu)
            result = the_result(name, image, place)
            if image.output_kind == SEG:
                return from_segments(name, image, read_result(result, volume), volume, self._card.segments)
            values = read_label_map(name, result, volume)
        return from_label_map(name, image, values, volume, self._card.segments)


def load(card: ModelCard, device: str) -> VolumeImage | SeriesImage:
    """The image, ready to be run; nothing of it is started yet.

    Raises
    ------
    NoEngine
        If no engine works here that can run it, or give it a GPU.
    WeightsMissing, WrongHash
        If the image is not on this machine; if its file is another one.
    """
    _, image = read(Path(card.place))
    engine = engine_for(card.name, image)
    if image.sif is not None:
        check_hash(card.name, image.sif, image.sha256)
    elif not succeeds(engine.has(image.image)):
        raise WeightsMissing(card.name, f"the image is not on this machine; run: {engine.pull} {image.image}")
    if device.startswith("cuda") and engine.name == "buildah":
        raise NoEngine(card.name, "buildah gives an image no GPU; install podman or docker, or run on the CPU")
    kind = SeriesImage if image.input == DICOM else VolumeImage
    return kind(card, image, engine, gpu_of(card.name, device))
