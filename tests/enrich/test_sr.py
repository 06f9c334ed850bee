"""SR written, read back, and read by others."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, config
from pydicom.filereader import read_dataset
from pydicom.sr.coding import Code
from voxfleet.enrich.encoding.content_items import CONTAINS, number_item
from voxfleet.enrich.measurement import Measured
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.series import SourceImage
from voxfleet.enrich.sr import UnlinkedMeasurement, decode_sr, encode_sr
from voxfleet.enrich.validate import validate_pair
from voxfleet.models.segmentation import Segmentation

BIN = Path(sys.executable).parent


class Products:
    """SEG, SR and what they were made from."""

    def __init__(self, case, measured: Measured | None = None, segmentation_type: str = "BINARY") -> None:
        self.case = case
        self.measured = measured or measure(case.source.volume, case.segmentation)
        self.seg = encode_seg(case.source, case.segmentation, case.producer, segmentation_type=segmentation_type)
        self.sr = encode_sr(case.source, self.seg, case.segmentation, self.measured, case.producer)


@pytest.fixture
def products(tiny_source: SourceImage, case_of) -> Products:
    """SEG and SR of a real chest CT, lungs overlapping their opacity, one segment absent."""
    return Products(case_of(tiny_source, overlapping=True))


def saved(dataset: Dataset, folder: Path) -> Path:
    """The data set as a file."""
    path = folder / "sr.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def written(dataset: Dataset) -> bytes:
    """The bytes of its file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def walk(item: Dataset) -> Iterator[Dataset]:
    """All content items below an item."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def name(item: Dataset) -> tuple[str, str, str]:
    """Concept name of an item as stored, letter for letter."""
    code = item.ConceptNameCodeSequence[0]
    return code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning


def groups_of(sr: Dataset) -> list[Dataset]:
    """What IDC takes for measurement groups: containers whose concept reads Measurement Group."""
    containers = (i for i in walk(sr) if i.ValueType == "CONTAINER" and "ConceptNameCodeSequence" in i)
    return [i for i in containers if name(i)[2] == "Measurement Group"]


def only(group: Dataset, value: str, scheme: str, value_type: str) -> Dataset:
    """The one item of a group with this concept and value type."""
    found = [i for i in group.ContentSequence if name(i)[:2] == (value, scheme) and i.ValueType == value_type]
    assert len(found) == 1
    return found[0]


def test_values_come_back_exactly(products: Products, through_bytes) -> None:
    """Every number is the same double after a file was written and read, under its code and unit."""
    groups = decode_sr(through_bytes(products.sr))
    assert [g.segment_number for g in groups] == [1, 2, 4, 5]
    actual = [m for group in groups for m in group.measurements]
    assert len(actual) == len(products.measured.measurements) > 100
    for one, other in zip(products.measured.measurements, actual, strict=True):
        assert (one.segment_number, one.value, one.concept, one.unit) == (
            other.segment_number, other.value, other.concept, other.unit,
        )  # fmt: skip
        assert one.concept.meaning == other.concept.meaning


def test_linked_to_the_seg(products: Products, through_bytes) -> None:
    """Each group has its segment's number, Tracking ID and Tracking UID, and the SEG's UID."""
    seg, sr = through_bytes(products.seg), through_bytes(products.sr)
    validate_pair(seg, sr)
    items = {item.SegmentNumber: item for item in seg.SegmentSequence}
    for group in decode_sr(sr):
        assert group.seg_sop_instance_uid == seg.SOPInstanceUID
        assert group.tracking_uid == items[group.segment_number].TrackingUID
        assert group.tracking_id == items[group.segment_number].TrackingID
        assert group.source_series_instance_uid == products.case.source.series.series_instance_uid


def test_finding_and_site(products: Products) -> None:
    """An organ is a structure at its own site; an opacity is a finding in the lung; both on a side."""
    lung, _, bone, opacity = decode_sr(products.sr)
    assert (lung.finding.meaning, lung.finding_site.meaning) == ("Anatomical Structure", "Lung")
    assert lung.laterality == Code("24028007", "SCT", "Right")
    assert bone.laterality is None
    assert (opacity.finding.meaning, opacity.finding_site.meaning) == ("Ground-glass opacity", "Lung")


def test_dciodvfy_finds_no_error(petct_source: SourceImage, tiny_source: SourceImage, case_of, dciodvfy) -> None:
    """dicom3tools' validator finds no error in the SR of two real chest CTs."""
    for source in (petct_source, tiny_source):
        assert dciodvfy(Products(case_of(source)).sr) == []


def test_no_attribute_of_an_image(phantom_source: SourceImage, case_of, dciodvfy) -> None:
    """An SR has no General Series module: the body part stays in the SEG; a long Study ID is valid in both."""
    headers = copy.deepcopy(phantom_source.headers)
    headers[0].BodyPartExamined = "CHEST"
    with config.disable_value_validation():
        headers[0].StudyID = "a study of more than sixteen characters"
    products = Products(case_of(replace(phantom_source, headers=headers)))
    assert "BodyPartExamined" not in products.sr
    assert dciodvfy(products.sr) == dciodvfy(products.seg) == []


NOT_KNOWN_TO_DCIODVFY = "ReferencedSegmentNumber(0062,000b)> - Shall not be present for Referenced SOP Class"


def test_the_one_complaint_about_a_label_map(tiny_source: SourceImage, case_of, dciodvfy) -> None:
    """PS3.3 C.18.4 asks for the segment's number in a reference to a Segmentation; dciodvfy knows the older class only.

    The same report that refers to a SEG of type BINARY has no error, and nothing else is said of this one.
    """
    products = Products(case_of(tiny_source), segmentation_type="LABELMAP")
    complaints = dciodvfy(products.sr)
    assert len(complaints) == len(decode_sr(products.sr))
    assert all(NOT_KNOWN_TO_DCIODVFY in line for line in complaints)
    groups = hd.sr.srread(BytesIO(written(products.sr))).content.get_volumetric_roi_measurement_groups()
    assert [g.referenced_segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber for g in groups] == [1, 2, 4, 5]


def test_dcmqi_reads_every_number(products: Products, tmp_path: Path) -> None:
    """The reader of dcmqi, tid1500reader, gives every group with its codes, and every number to a relative 1e-6."""
    path = saved(products.sr, tmp_path)
    command = [BIN / "tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "sr.json"]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    report = json.loads((tmp_path / "sr.json").read_text())
    items = {item.SegmentNumber: item for item in products.seg.SegmentSequence}
    numbers = []
    for group in report["Measurements"]:
        number = group["ReferencedSegment"]
        assert group["TrackingUniqueIdentifier"] == items[number].TrackingUID
        assert group["segmentationSOPInstanceUID"] == products.seg.SOPInstanceUID
        assert group["SourceSeriesForImageSegmentation"] == products.case.source.series.series_instance_uid
        assert "binWidth=25" in group["measurementAlgorithmIdentification"]["AlgorithmParameters"][0]
        for item in group["measurementItems"]:
            quantity, unit = item["quantity"], item["units"]
            codes = (quantity["CodeValue"], quantity["CodeMeaning"], unit["CodeValue"])
            numbers.append((number, *codes, float(item["value"])))
    expected = [
        (m.segment_number, m.concept.value, m.concept.meaning, m.unit.value, m.value)
        for m in products.measured.measurements
    ]
    assert [n[:4] for n in expected] == [n[:4] for n in numbers]
    assert [n[4] for n in numbers] == pytest.approx([n[4] for n in expected], rel=1e-6)


def test_dcmtk_prints_the_tree(products: Products, tmp_path: Path) -> None:
    """DCMTK's dsrdump reads the report and prints each measurement."""
    result = subprocess.run(
        ["dsrdump", saved(products.sr, tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.startswith("Enhanced SR Document")
    assert result.stdout.count("<contains NUM:") == len(products.measured.measurements)
    assert result.stdout.count('"Measurement Group"') == 4


def test_highdicom_reads_the_template(products: Products, tmp_path: Path) -> None:
    """The reader of highdicom takes it for TID 1500 with volumetric groups of TID 1411."""
    report = hd.sr.srread(saved(products.sr, tmp_path))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [len(group.get_measurements()) for group in groups] == [
        len(group.measurements) for group in decode_sr(products.sr)
    ]
    assert groups[0].finding_sites[0].laterality.meaning == "Right"


# The rules below are those of etl_flow's measurement_groups.sql and quantitative_measurements.sql at b903f62.


def test_idc_finds_the_document(products: Products) -> None:
    """Rule 1: SOP class of an SR that IDC reads, template 1500 of DCMR."""
    sr = products.sr
    assert sr.SOPClassUID in {f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (11, 22, 33, 34, 35)}
    template = sr.ContentTemplateSequence[0]
    assert (template.TemplateIdentifier, template.MappingResource) == ("1500", "DCMR")


def test_idc_finds_the_groups(products: Products) -> None:
    """Rule 2: one container named exactly Measurement Group for each segment with voxels."""
    assert len(groups_of(products.sr)) == 4
    assert {name(group) for group in groups_of(products.sr)} == {("125007", "DCM", "Measurement Group")}


@pytest.mark.parametrize(
    ("value", "scheme", "value_type", "filled"),
    [
        ("112039", "DCM", "TEXT", "TextValue"),
        ("112040", "DCM", "UIDREF", "UID"),
        ("121071", "DCM", "CODE", "ConceptCodeSequence"),
        ("363698007", "SCT", "CODE", "ConceptCodeSequence"),
        ("121232", "DCM", "UIDREF", "UID"),
    ],
)
def test_idc_joins_the_group(products: Products, value: str, scheme: str, value_type: str, filled: str) -> None:
    """Rules 3 to 7: tracking identifier, its UID, finding, site and source series, each of the right type."""
    for group in groups_of(products.sr):
        assert only(group, value, scheme, value_type).get(filled)


def test_idc_finds_the_segment(products: Products) -> None:
    """Rule 8: an image item that refers to a segment of a SEG of class 66.4."""
    for group in groups_of(products.sr):
        images = [i for i in group.ContentSequence if i.ValueType == "IMAGE"]
        references = [i.ReferencedSOPSequence[0] for i in images]
        (reference,) = [r for r in references if r.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"]
        assert reference.ReferencedSOPInstanceUID == products.seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber in {1, 2, 4, 5}


def test_idc_reads_side_and_numbers(products: Products) -> None:
    """Laterality is the first child of the site; no item precedes a derivation; values cast to NUMERIC."""
    for group in groups_of(products.sr):
        site = only(group, "363698007", "SCT", "CODE")
        if "ContentSequence" in site:
            assert name(site.ContentSequence[0])[:2] == ("272741003", "SCT")
        for item in (i for i in group.ContentSequence if i.ValueType == "NUM"):
            assert "ContentSequence" not in item or name(item.ContentSequence[0])[0] == "121401"
            value = str(item.MeasuredValueSequence[0].NumericValue)
            assert len(value) <= 16
            assert np.isfinite(float(value))


def test_root_context(products: Products) -> None:
    """Language, device observer, procedure and library stand under the root as TID 1500 has them."""
    sr = products.sr
    assert name(sr) == ("126000", "DCM", "Imaging Measurement Report")
    items = {name(item)[0]: item for item in sr.ContentSequence}
    assert items["121049"].ConceptCodeSequence[0].CodeValue == "eng"
    assert items["121049"].ConceptCodeSequence[0].CodingSchemeDesignator == "RFC5646"
    assert items["121005"].ConceptCodeSequence[0].CodeValue == "121007"
    assert items["121012"].UID.startswith("2.25.")
    assert [items[key].TextValue for key in ("121013", "121015")] == ["Voxfleet", "hu-bands"]
    assert items["121016"].TextValue == sr.DeviceSerialNumber
    assert items["121058"].ConceptCodeSequence[0].CodeValue == "363679005"
    library = [i for i in walk(items["111028"]) if i.ValueType == "IMAGE"]
    named = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in library]
    assert sorted(named) == sorted(i.sop_instance_uid for i in products.case.source.series.instances)


def test_evidence_is_complete(products: Products) -> None:
    """Every object that the content refers to is listed as evidence (PS3.3 C.17.2)."""
    (study,) = products.sr.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == products.seg.StudyInstanceUID
    listed = {r.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for r in s.ReferencedSOPSequence}
    referred = {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in walk(products.sr) if i.ValueType == "IMAGE"
    }
    assert listed == referred


def test_series_is_next_to_the_seg(products: Products) -> None:
    """SR and SEG are two series, numbered one after the other, of one patient and study."""
    seg, sr = products.seg, products.sr
    assert sr.SeriesNumber == seg.SeriesNumber + 1
    assert sr.SeriesInstanceUID != seg.SeriesInstanceUID
    assert "shape+firstorder Measurements of series" in sr.SeriesDescription
    assert (sr.CompletionFlag, sr.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert (sr.PatientID, sr.StudyInstanceUID) == (seg.PatientID, seg.StudyInstanceUID)


def test_settings_are_recorded(products: Products) -> None:
    """Each group names what measured, its version and its settings."""
    for group in groups_of(products.sr):
        assert only(group, "111001", "DCM", "TEXT").TextValue
        assert only(group, "111003", "DCM", "TEXT").TextValue
        parameters = only(group, "111002", "DCM", "TEXT").TextValue
        for setting in ("binWidth=25", "resampledPixelSpacing=none", "geometryTolerance=1e-3"):
            assert setting in parameters


AGAIN = """
import hashlib, pickle, sys
from io import BytesIO
from voxfleet.enrich.sr import encode_sr
buffer = BytesIO()
encode_sr(*pickle.load(open(sys.argv[1], 'rb'))).save_as(buffer, enforce_file_format=True)
print(hashlib.sha256(buffer.getvalue()).hexdigest())
"""


def test_same_work_gives_the_same_file(products: Products, tmp_path: Path) -> None:
    """Another process, at another time, with another hash seed and time zone, writes the same bytes."""
    case = products.case
    arguments = (case.source, products.seg, case.segmentation, products.measured, case.producer)
    (tmp_path / "case.pickle").write_bytes(pickle.dumps(arguments))
    environment = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PATH": ""}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "case.pickle")]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=280)
    buffer = BytesIO()
    products.sr.save_as(buffer, enforce_file_format=True)
    assert hashlib.sha256(buffer.getvalue()).hexdigest() == result.stdout.strip()


def test_failed_feature_is_left_out(products: Products) -> None:
    """A feature without value is missing in the report, and nothing else changes place."""
    kept = tuple(m for m in products.measured.measurements if m.name != "shape_Sphericity" or m.segment_number != 2)
    sr = Products(products.case, Measured(kept)).sr
    assert [len(g.measurements) for g in decode_sr(products.sr)][1] == len(decode_sr(sr)[1].measurements) + 1
    assert [g.segment_number for g in decode_sr(sr)] == [1, 2, 4, 5]


def test_measurement_of_an_absent_segment_is_refused(products: Products) -> None:
    """A number for a segment that has no voxel links to nothing, and is not written."""
    stray = replace(products.measured.measurements[0], segment_number=3)
    with pytest.raises(UnlinkedMeasurement, match="segment 3 is measured") as caught:
        Products(products.case, Measured((stray,)))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_nothing_found_is_a_report_without_groups(products: Products, dciodvfy) -> None:
    """A segmentation without voxels gives a valid report that measures nothing."""
    case = products.case
    empty = case.segmentation.labelmap.with_array(np.zeros_like(case.segmentation.labelmap.array))
    result = Products(replace(case, segmentation=Segmentation(empty, case.segmentation.segments)), Measured(()))
    validate_pair(result.seg, result.sr)
    assert decode_sr(result.sr) == ()
    assert dciodvfy(result.sr) == []


@given(st.floats(-1e300, 1e300))
def test_any_double_fits_a_decimal_string(value: float) -> None:
    """A finite double gives a DS of at most 16 characters, right to the digits that fit, and itself beside it."""
    item = number_item(Code("Q4LE", "IBSI", "Mean"), CONTAINS, value, Code("1", "UCUM", "no units"))
    (measured,) = read_dataset(BytesIO(item), is_implicit_VR=False, is_little_endian=True).MeasuredValueSequence
    text = str(measured.NumericValue)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8, abs=5e-324)
    assert measured.FloatingPointValue == value
