"""What one stage leaves on the local disk for the next, so that no pixels cross a pipe."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import config

from ..enrich.series import SourceImage
from ..models.segmentation import Segment, Segmentation

_VOLUME, _IMAGE, _LABELMAP = "volume.npy", "image.pickle", "labelmap.npy"


def save_image(image: SourceImage, folder: Path) -> None:
    """Write the array, uncompressed, beside all the rest of a SourceImage."""
    _save_array(image.volume.array, folder / _VOLUME)
    rest = {each.name: getattr(image, each.name) for each in fields(image) if each.name != "volume"}
    place = (image.volume.affine, image.volume.frame_of_reference_uid)
    temporary = folder / f"{_IMAGE}.tmp"
    temporary.write_bytes(pickle.dumps((rest, place)))
    temporary.replace(folder / _IMAGE)


def has_image(folder: Path) -> bool:
    """Whether `save_image` came to its end here."""
    return (folder / _IMAGE).is_file()


def load_image(folder: Path) -> SourceImage:
    """The SourceImage that `save_image` wrote; its array is mapped from disk and may be changed."""
    rest, place = pickle.loads((folder / _IMAGE).read_bytes())  # noqa: S301 - written by a stage of our own
    # The headers were read, and judged, before: their values are not to be judged (and warned of) again.
    config.settings.reading_validation_mode = config.IGNORE
    array = np.load(folder / _VOLUME, mmap_mode="c")
    return SourceImage(volume=volume_like(array, *place), **rest)


def save_segmentation(segmentation: Segmentation, folder: Path) -> None:
    """Write the label map; the volume's geometry is its geometry."""
    _save_array(segmentation.labelmap.array, folder / _LABELMAP)


def load_segmentation(folder: Path, image: SourceImage, segments: tuple[Segment, ...]) -> Segmentation:
    """The Segmentation that `save_segmentation` wrote, on the grid of `image`."""
    array = np.load(folder / _LABELMAP, mmap_mode="c")
    volume = image.volume
    return Segmentation(volume_like(array, volume.affine, volume.frame_of_reference_uid), segments)


def _save_array(array: NDArray[np.generic], path: Path) -> None:
    """Write an array as ``.npy``; unlike `numpy.save`, a full disk is told as what it is (ENOSPC)."""
    whole = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


def volume_like(
    array: NDArray[np.generic], affine: NDArray[np.floating], frame_of_reference_uid: str | None
) -> hd.Volume:
    """Volume (k, j, i) in the patient's coordinate system (LPS mm)."""
    return hd.Volume(
        array=array, affine=affine, coordinate_system="PATIENT", frame_of_reference_uid=frame_of_reference_uid
    )
