"""Broken objects are refused before they are stored."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from pydicom import Dataset
from voxfleet.enrich.encoding.content_items import children
from voxfleet.enrich.encoding.report_codes import FINDING_SITE, IMAGING_MEASUREMENTS
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.series import SourceImage
from voxfleet.enrich.sr import encode_sr
from voxfleet.enrich.validate import InvalidObject, check_linked, validate, validate_pair


@pytest.fixture
def pair(phantom_source: SourceImage, case_of) -> tuple[Dataset, Dataset]:
    """A valid SEG and its SR."""
    case = case_of(phantom_source, overlapping=True)
    seg = encode_seg(case.source, case.segmentation, case.producer)
    measured = measure(case.source.volume, case.segmentation)
    return seg, encode_sr(case.source, seg, case.segmentation, measured, case.producer)


def group(sr: Dataset) -> Dataset:
    """The first measurement group."""
    return next(children(sr, IMAGING_MEASUREMENTS)).ContentSequence[0]


def drop(item: Dataset, value: str) -> None:
    """Remove the content items of this concept."""
    item.ContentSequence = [i for i in item.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue != value]


def number(sr: Dataset) -> Dataset:
    """The first measured value."""
    return next(i for i in group(sr).ContentSequence if i.ValueType == "NUM").MeasuredValueSequence[0]


def test_our_pair_is_valid(pair: tuple[Dataset, Dataset], through_bytes) -> None:
    """What we write passes, before and after it was a file."""
    validate_pair(*pair)
    validate_pair(*(through_bytes(dataset) for dataset in pair))


DAMAGES_OF_SEG: list[tuple[Callable[[Dataset], object], str]] = [
    (lambda d: d.__delattr__("PatientID"), "PatientID is absent"),
    (lambda d: setattr(d, "Manufacturer", ""), "Manufacturer is absent or empty"),
    (lambda d: setattr(d, "SOPInstanceUID", "{0F8FAD5B-D9CB}"), "SOPInstanceUID is empty or no UID"),
    (lambda d: setattr(d, "SeriesDescription", ""), "SeriesDescription is empty"),
    (lambda d: setattr(d, "ContentDate", ""), "ContentDate is no date"),
    (lambda d: d.private_block(0x11, "ACME", create=True).add_new(1, "LO", "x"), "private attributes"),
    (lambda d: d.SegmentSequence.pop(2), "are not 1..N without gap"),
    (lambda d: d.SegmentSequence[1].__delattr__("TrackingUID"), "segment 2 has no TrackingUID"),
    (lambda d: setattr(d.SegmentSequence[0], "SegmentAlgorithmType", "MANUAL"), "segment 1 is not AUTOMATIC"),
    (lambda d: setattr(d, "NumberOfFrames", d.NumberOfFrames + 1), "functional groups for"),
    (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "does not hold"),
    (lambda d: setattr(d, "ReferencedSeriesSequence", []), "names no source instance"),
    (lambda d: setattr(d, "FrameOfReferenceUID", ""), "FrameOfReferenceUID is empty"),
    (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "neither SEG nor SR"),
]


@pytest.mark.parametrize(("damage", "rule"), DAMAGES_OF_SEG, ids=[rule for _, rule in DAMAGES_OF_SEG])
def test_damaged_seg(pair: tuple[Dataset, Dataset], damage: Callable[[Dataset], object], rule: str) -> None:
    """Each damage is found and named with the object."""
    damage(pair[0])
    with pytest.raises(InvalidObject, match=rule) as caught:
        validate(pair[0])
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.code) == (str(caught.value), "INVALID_OBJECT")
    assert pair[0].SOPInstanceUID in str(error)


DAMAGES_OF_SR: list[tuple[Callable[[Dataset], object], str]] = [
    (lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "2000"), "not of template 1500"),
    (lambda d: setattr(d, "CompletionFlag", "PARTIAL"), "not COMPLETE"),
    (lambda d: setattr(group(d).ConceptNameCodeSequence[0], "CodeMeaning", "Measurement group"), "does not read"),
    (lambda d: drop(group(d), "112039"), "Tracking Identifier"),
    (lambda d: drop(group(d), "112040"), "Tracking Unique Identifier"),
    (lambda d: drop(group(d), "121071"), "not one Finding "),
    (lambda d: drop(group(d), "363698007"), "not one Finding Site"),
    (lambda d: drop(group(d), "121232"), "Source series for segmentation"),
    (lambda d: drop(group(d), "121191"), "Referenced Segment"),
    (lambda d: setattr(number(d), "NumericValue", "inf"), "not finite"),
    (lambda d: number(d).__delattr__("MeasurementUnitsCodeSequence"), "has no unit"),
    (lambda d: drop(d, "126010"), "0 items of Imaging Measurements"),
]


@pytest.mark.parametrize(("damage", "rule"), DAMAGES_OF_SR, ids=[rule for _, rule in DAMAGES_OF_SR])
def test_damaged_sr(pair: tuple[Dataset, Dataset], damage: Callable[[Dataset], object], rule: str) -> None:
    """Each item that the Imaging Data Commons joins on is missed, which dciodvfy does not do."""
    damage(pair[1])
    with pytest.raises(InvalidObject, match=rule):
        validate(pair[1])


def test_something_before_laterality(pair: tuple[Dataset, Dataset]) -> None:
    """A Finding Site whose first child is not its Laterality would lose its side."""
    site = next(children(group(pair[1]), FINDING_SITE))
    other = copy.deepcopy(site.ContentSequence[0])
    other.ConceptNameCodeSequence[0].CodeValue = "106233006"
    other.ConceptNameCodeSequence[0].CodeMeaning = "Topographical modifier"
    site.ContentSequence.insert(0, other)
    with pytest.raises(InvalidObject, match="not its Laterality"):
        validate(pair[1])


def renumber(sr: Dataset, value: int) -> None:
    """Let the first group refer to another segment."""
    image = next(i for i in group(sr).ContentSequence if i.ValueType == "IMAGE")
    image.ReferencedSOPSequence[0].ReferencedSegmentNumber = value


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda seg, sr: renumber(sr, 9), "segment 9, which the SEG does not describe"),
        (lambda seg, sr: renumber(sr, 2), "segment 2 is tracked under another UID"),
        (lambda seg, sr: setattr(seg, "SOPInstanceUID", "1.2.3"), "not to the SEG"),
        (lambda seg, sr: setattr(sr, "PatientID", "other"), "PatientID differs"),
        (lambda seg, sr: setattr(sr, "SeriesNumber", seg.SeriesNumber), "not of two series"),
        (lambda seg, sr: setattr(seg.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2"), "source series"),
    ],
)
def test_unlinked(pair: tuple[Dataset, Dataset], damage: Callable[[Dataset, Dataset], object], rule: str) -> None:
    """An SR that does not belong to the SEG is refused."""
    damage(*pair)
    with pytest.raises(InvalidObject, match=rule):
        check_linked(*pair)
