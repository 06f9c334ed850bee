"""An SR tells which filter an image had before it was measured, and other readers read it."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from voxfleet.enrich.encoding.content_items import CONTAINS, number_item, root
from voxfleet.enrich.encoding.equipment import measuring_of
from voxfleet.enrich.encoding.filter_items import FILTERS, filter_items, read_filter
from voxfleet.enrich.features.texture_codes import FEATURES
from voxfleet.enrich.measurement import Measured, Measurement
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.series import SourceImage
from voxfleet.enrich.sr import decode_sr, encode_sr
from voxfleet.enrich.validate import validate_pair

FEATURES_CONTENT = json.dumps({"featureClass": {"glcm": ["Contrast", "MCC"]}, "pyradiomics": "3.1.4"})
NAMES = ["original", "log-sigma-2-5-mm-3D", "log-sigma-3-mm-3D", "wavelet-LLH", "wavelet2-HHH", *FILTERS]


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_comes_back_from_its_items(name: str) -> None:
    """The items below a NUM, read from bytes, give the filter's name."""
    contrast = FEATURES["glcm_Contrast"]
    item = number_item(contrast.concept, CONTAINS, 1.5, contrast.unit, filter_items(name))
    report = root(Code("126000", "DCM", "Imaging Measurement Report"), [item], "1500")
    report.file_meta = Dataset()
    buffer = BytesIO()
    report.save_as(buffer, implicit_vr=False, little_endian=True)
    buffer.seek(0)
    assert read_filter(dcmread(buffer, force=True).ContentSequence[0]) == name


def test_a_sigma_is_its_number() -> None:
    """A sigma that was written 2.0 reads as 2, which is the same filter."""
    assert filter_items("log-sigma-2-0-mm-3D") == filter_items("log-sigma-2-mm-3D")


@pytest.fixture
def report(tiny_source: SourceImage, case_of) -> tuple[Dataset, tuple[Measurement, ...]]:
    """SR of a real chest CT with textures of several images, and what it was written from."""
    case = case_of(tiny_source)
    measurements = tuple(
        Measurement(number, name, number + 0.25, FEATURES[name].concept, FEATURES[name].unit, image_filter)
        for number in (1, 2)
        for image_filter in NAMES
        for name in ("glcm_Contrast", "glcm_MCC", "ngtdm_Contrast")
    )
    producer = type(case.producer)("cd" * 32, case.producer.card, {}, measuring_of(FEATURES_CONTENT))
    seg = encode_seg(case.source, case.segmentation, producer)
    sr = encode_sr(case.source, seg, case.segmentation, Measured(measurements), producer)
    validate_pair(seg, sr)
    return sr, measurements


def test_our_own_reader(report, through_bytes) -> None:
    """Every value comes back with its code and its filter."""
    sr, written = report
    read = [m for group in decode_sr(through_bytes(sr)) for m in group.measurements]
    assert [(m.value, m.concept, m.image_filter) for m in read] == [
        (m.value, m.concept, m.image_filter) for m in written
    ]
    assert sr.SeriesDescription.startswith("hu-bands(v1.2) Radiomics Measurements of series")


def test_dciodvfy_finds_no_error(report, dciodvfy) -> None:
    """dicom3tools' validator takes modifiers and parameters below a NUM."""
    assert dciodvfy(report[0]) == []


def test_dcmqi_reads_filters_and_parameters(report, tmp_path: Path) -> None:
    """The reader of dcmqi gives filters as modifiers, a sigma as a derivation parameter, the parameter file whole."""
    sr, written = report
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    command = [Path(sys.executable).parent / "tid1500reader", "--inputDICOM", tmp_path / "sr.dcm"]
    subprocess.run([*command, "--outputMetadata", tmp_path / "sr.json"], check=True, capture_output=True, timeout=280)
    groups = [g for g in json.loads((tmp_path / "sr.json").read_text())["Measurements"] if g["measurementItems"]]
    items = [item for group in groups for item in group["measurementItems"]]
    assert [float(item["value"]) for item in items] == [m.value for m in written]
    assert [item["quantity"]["CodeValue"] for item in items] == [m.concept.value for m in written]
    log = items[3 * NAMES.index("log-sigma-2-5-mm-3D")]
    assert log["measurementModifiers"][0]["modifierValue"]["CodeMeaning"] == "Laplacian of Gaussian"
    assert log["measurementDerivationParameters"][0]["derivationParameterValue"] == "2.5"
    band = items[3 * NAMES.index("wavelet-LLH")]["measurementModifiers"][1]["modifierValue"]
    assert band["CodeValue"] == "LLH"
    assert "measurementModifiers" not in items[0]
    identification = groups[0]["measurementAlgorithmIdentification"]
    assert FEATURES_CONTENT in identification["AlgorithmParameters"][0]


def test_highdicom_reads_every_number(report, tmp_path: Path) -> None:
    """The reader of highdicom takes it for TID 1500, with all numbers of each group."""
    sr, written = report
    sr.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    groups = hd.sr.srread(tmp_path / "sr.dcm").content.get_volumetric_roi_measurement_groups()
    values = [measurement.value for group in groups for measurement in group.get_measurements()]
    assert values == [m.value for m in written]
