"""From a path or an archive to what experts marked on a series.

.. code-block:: python

    references = open_references("annotations/", Reading(), scratch)
    for annotation in references.of(image): ...

A file belongs to a series if it names it: by Series Instance UID, by SOP Instance UID, or in its path. A file
that names none belongs to the series of its patient and frame of reference (DICOM; a SEG to those of them on
whose voxels it lies, if there are any), or of exactly its grid (NIfTI, NRRD). The same goes for SEGs that a
model made: `open_references` opens predictions too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np

from ... import Error
from ...enrich.archives.archive import Archive, SeriesEntry
from ...enrich.archives.opening import open_archive
from ...enrich.archives.packed.pack import SUFFIXES
from ...enrich.series import SourceImage
from .errors import InvalidReference
from .formats import FORMATS, format_of
from .label_map import NoLabelMap
from .merging import one_a_reader
from .placing import GRID_TOLERANCE
from .reference import Annotation, Reading, ReferenceFormat, Remark, Subject

MODALITIES = frozenset({"SEG", "RTSTRUCT", "SR"})
"""Series of an archive that may hold references."""
_UID = re.compile(r"[0-9]+(\.[0-9]+){5,}|2\.25\.[0-9]+")
"""A part of a path that is a UID by all that can be told."""


class NoReference(InvalidReference):
    """A path that holds no file of a known format."""

    code = "NO_REFERENCE"


class SharedReference(InvalidReference):
    """A file without identifier whose grid is that of several patients' series."""

    code = "SHARED_REFERENCE"


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceFile:
    """One file that holds references, and whom it says it is about."""

    path: Path
    format: ReferenceFormat
    subject: Subject


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """All references of one place.

    Attributes
    ----------
    place : str
        As it was given.
    files : tuple of ReferenceFile
        In the order of their paths.
    passed_over : tuple of Remark
        Files whose names are those of references and which cannot be read.
    """

    place: str
    files: tuple[ReferenceFile, ...]
    reading: Reading
    passed_over: tuple[Remark, ...] = ()
    claims: dict[Path, set[str]] = field(default_factory=dict)
    """Patients for whose series each file was read."""
    resampled: set[Path] = field(default_factory=set)
    """Of these, files whose voxels were not those of the series."""

    def of(self, image: SourceImage, refused: list[Error] | None = None) -> tuple[Annotation, ...]:
        """What each reader marked on an image; empty if no file is of it.

        Files of one folder, format and reader are one annotation.

        Parameters
        ----------
        refused : list, optional
            Takes what is wrong with files, which are then passed over: what their readers marked in other
            files stays.

        Raises
        ------
        InvalidReference
            In one of its kinds, if a file that names the series does not fit it. Where the place is one
            file, also if it names another.
        SharedReference
            If a file without identifier was read for another patient's series before.
        """
        alone = len(self.files) == 1 and Path(self.place).is_file()
        mine = [each for each in self.files if alone or concerns(each.subject, image)]
        patient = str(image.headers[0].get("PatientID") or image.series.study_instance_uid)
        found: list[Annotation] = []
        for each in mine:
            try:
                read = self._read(each, image, patient, alone=alone)
            except InvalidReference as exc:
                if refused is None:
                    raise
                refused.append(exc)
                continue
            found += read
            if any(annotation.resampled for annotation in read):
                self.resampled.add(each.path)
        return one_a_reader(found)

    def _read(self, file: ReferenceFile, image: SourceImage, patient: str, *, alone: bool) -> tuple[Annotation, ...]:
        """What one file holds; nothing of the image itself as NIfTI beside its mask."""
        claimed = self.claims.setdefault(file.path, set())
        named = _named(file.subject, image)
        if file.subject.grid is not None and not named and claimed - {patient}:
            reason = "names no series, and its grid is that of several patients: put it into a folder of its UID"
            raise SharedReference(str(file.path), reason)
        try:
            read = file.format.read(file.path, image, self.reading)
        except NoLabelMap:
            if alone or named:
                raise
            return ()
        claimed.add(patient)
        return read


def open_references(place: str, reading: Reading, scratch: Path) -> References:
    """References of a file, a folder (DICOM, NIfTI, NRRD, JSON, XML, mixed) or an archive.

    Parameters
    ----------
    place : str
        Path, or URI as of `open_archive`.
    scratch : Path
        Folder for what must be copied from an archive.

    Raises
    ------
    NoReference
        If nothing there is of a known format.
    SearchError, RetrieveError, AccessDenied
        If the archive cannot be listed, or an object not be had.
    """
    path = Path(place)
    if path.is_file() and not is_packed(path):
        candidates = iter([path])
    elif path.is_dir():
        candidates = iter(sorted({*_dicom_files(open_archive(place), scratch), *_other_files(path)}))
    else:
        candidates = _dicom_files(open_archive(place), scratch)
    files, passed_over = [], []
    for each in candidates:
        try:
            found = format_of(each)
            if found is not None:
                files.append(ReferenceFile(each, found, found.subject(each)))
        except InvalidReference as exc:
            passed_over.append(Remark(exc.code, "", str(exc)))
    if not files:
        told = "; ".join(remark.reason for remark in passed_over)
        names = ", ".join(each.NAME for each in FORMATS)
        raise NoReference(place, told or f"no file there is one of {names}")
    return References(place, tuple(files), reading, tuple(passed_over))


def is_packed(path: Path) -> bool:
    """Whether a path is a zip or tar file, an archive of DICOM objects."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def concerns(subject: Subject, image: SourceImage) -> bool:
    """Whether a file is of a series, by what it names, else by patient and place."""
    if subject.series_instance_uids:
        return image.series.series_instance_uid in subject.series_instance_uids
    if subject.sop_instance_uids:
        return any(each.sop_instance_uid in subject.sop_instance_uids for each in image.series.instances)
    if subject.grid is not None:
        if image.series.series_instance_uid in subject.names:
            return True
        others = {name for name in subject.names if _UID.fullmatch(name)} - {image.series.study_instance_uid}
        return not others and _same_grid(subject.grid, image)
    patient = str(image.headers[0].get("PatientID") or "")
    if subject.patient_id and patient and subject.patient_id != patient:
        return False
    frame = subject.frame_of_reference_uid
    return bool(frame) and frame == image.volume.frame_of_reference_uid


def _named(subject: Subject, image: SourceImage) -> bool:
    """Whether a path names the image's patient, study or series."""
    patient = str(image.headers[0].get("PatientID") or "")
    series = image.series
    return bool({patient, series.study_instance_uid, series.series_instance_uid} & subject.names)


def _same_grid(grid: hd.VolumeGeometry, image: SourceImage) -> bool:
    """Whether two grids have the same voxels, in whatever order of axes."""
    matrix = image.volume.inverse_affine @ grid.affine
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.spatial_shape], indexing="ij")).reshape(3, -1)
    reached = np.sort((matrix[:3, :3] @ corners + matrix[:3, 3:]).T, axis=0)
    shape = image.volume.spatial_shape
    own = np.sort(np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1).T, axis=0)
    turned = sorted(grid.spatial_shape) == sorted(shape)
    return turned and bool(np.abs(reached - own).max() <= GRID_TOLERANCE)


def _dicom_files(archive: Archive, scratch: Path) -> Iterator[Path]:
    """Objects of an archive that may hold references, on this machine's disk."""
    try:
        for entry in archive.search():
            if isinstance(entry, SeriesEntry) and entry.modality in MODALITIES:
                folder = scratch / entry.series_instance_uid
                folder.mkdir(parents=True, exist_ok=True)
                yield from (each.path for each in archive.retrieve(entry, folder).instances)
    finally:
        archive.close()


def _other_files(folder: Path) -> Iterator[Path]:
    """Files below a folder that are of other formats than DICOM, by their names."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if any(each.recognises(path) for each in FORMATS if not hasattr(each, "SOP_CLASSES")):
                yield path
