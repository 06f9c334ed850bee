"""Series, and the volume read from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file of a series, on this machine's disk."""

    sop_class_uid: str
    sop_instance_uid: str
    sha256: str
    """Of the file's bytes."""
    bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class Series:
    """A series whose instances lie on this machine's disk.

    Raises its errors when read, not when made: a bad instance is still an instance.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """A series read: its volume, and the headers its results refer to.

    Attributes
    ----------
    volume : highdicom.Volume
        Array (k, j, i), int16 kept as int16 (rescaled values: HU for CT), affine to LPS mm;
        k ascends along the slice normal.
    headers : tuple of pydicom.Dataset
        Single-frame: one data set per slice without pixel data, in the order of k.
        Enhanced multi-frame: one data set.
    repairs : tuple of str
        What `--repair` changed, one sentence each; empty if nothing.
    """

    series: Series
    volume: hd.Volume
    headers: tuple[Dataset, ...]
    repairs: tuple[str, ...] = ()
