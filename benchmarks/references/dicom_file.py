"""What experts' DICOM objects tell of themselves, whatever they hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom import Dataset

from ...enrich.archives.header import DAMAGE, read_header
from .errors import UnreadableReference
from .reference import Subject


def is_of_class(path: Path, sop_classes: Set[str]) -> bool:
    """Whether a file is a DICOM object of one of the SOP classes."""
    header = read_header(path)
    return header.uids is not None and header.uids.sop_class_uid in sop_classes


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what pydicom raises for absent and broken elements into one error of ours.

    Raises
    ------
    UnreadableReference
        It names the attribute that is absent.
    """
    try:
        yield
    except AttributeError as exc:
        raise UnreadableReference(str(path), f"lacks the attribute {exc.name}") from exc
    except DAMAGE as exc:
        raise UnreadableReference(str(path), f"holds elements that cannot be read ({type(exc).__name__})") from exc


def opened(path: Path, *, with_pixels: bool = True) -> Dataset:
    """The data set of a file.

    Raises
    ------
    UnreadableReference
        If the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break their VR, which is not ours to judge here
            return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except (OSError, *DAMAGE) as exc:
        raise UnreadableReference(str(path), f"is no DICOM file that can be read ({type(exc).__name__})") from exc


def references_of(dataset: Dataset) -> Subject:
    """Patient, frame of reference and images that a SEG refers to.

    Series by the Common Instance Reference module (PS3.3 C.12.2); where that is absent, instances by the
    frames' Derivation Image Sequence.
    """
    series = list(dataset.get("ReferencedSeriesSequence") or ())
    for study in dataset.get("StudiesContainingOtherReferencedInstancesSequence") or ():
        series += study.get("ReferencedSeriesSequence") or ()
    return Subject(
        patient_id=str(dataset.get("PatientID") or "") or None,
        study_instance_uids=frozenset({str(dataset.StudyInstanceUID)}),
        series_instance_uids=frozenset(str(item.SeriesInstanceUID) for item in series),
        sop_instance_uids=frozenset() if series else frozenset(_source_instances(dataset)),
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or ""),
    )


def _source_instances(dataset: Dataset) -> Iterator[str]:
    """SOP Instance UIDs of the images that frames were derived from."""
    for groups in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        for derivation in groups.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                yield str(source.ReferencedSOPInstanceUID)


def reader_of(dataset: Dataset) -> str:
    """Who made an object: Content Creator, operator or ROI interpreter, as far as it tells; empty otherwise."""
    for keyword in ("ContentCreatorName", "OperatorsName"):
        if name := str(dataset.get(keyword) or "").strip("^ "):
            return name
    return ""
