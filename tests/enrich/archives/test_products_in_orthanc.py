"""A real Orthanc keeps SEG and SR as they are written, and gives them back for others to read."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.seg_decode import decode_seg
from voxfleet.enrich.series import SourceImage
from voxfleet.enrich.sr import decode_sr, encode_sr

pytestmark = pytest.mark.orthanc

SYNTAXES = {
    "BINARY": ExplicitVRLittleEndian,
    "BINARY_DEFLATED": DeflatedExplicitVRLittleEndian,
    "LABELMAP": RLELossless,
}


def test_every_kind_comes_back_as_it_was_written(orthanc, tiny_source: SourceImage, case_of, tmp_path: Path) -> None:
    """SEG in each encoding and their SRs are stored, found, and given back equal and in their own transfer syntax."""
    archive = open_archive(orthanc.uri)
    case = case_of(tiny_source)
    measured = measure(case.source.volume, case.segmentation)
    written = {}
    for number, (kind, syntax) in enumerate(SYNTAXES.items()):
        producer = replace(case.producer, key=f"{number}d" * 32)
        seg = encode_seg(case.source, case.segmentation, producer, segmentation_type=kind)
        sr = encode_sr(case.source, seg, case.segmentation, measured, producer)
        for dataset, expected in ((seg, syntax), (sr, ExplicitVRLittleEndian)):
            assert archive.store(dataset).sha256 == dataset_digest(dataset)
            written[str(dataset.SOPInstanceUID)] = (dataset_digest(dataset), expected)
    entries = [each for each in archive.search() if isinstance(each, SeriesEntry)]
    assert sorted(each.modality for each in entries) == ["SEG"] * 3 + ["SR"] * 3
    for entry in entries:
        (instance,) = archive.retrieve(entry, tmp_path / entry.series_instance_uid).instances
        back = pydicom.dcmread(instance.path)
        assert (dataset_digest(back), back.file_meta.TransferSyntaxUID) == written[instance.sop_instance_uid]
        if entry.modality == "SEG":
            decoded = decode_seg(back, case.source.volume)
            np.testing.assert_array_equal(decoded.labelmap.array, case.segmentation.labelmap.array)
        else:
            assert len(decode_sr(back)) == 4


@pytest.mark.parametrize(("kind", "given"), [("BINARY", True), ("LABELMAP", True), ("BINARY_DEFLATED", False)])
def test_frames_for_viewers(orthanc, tiny_source: SourceImage, case_of, kind: str, given: bool) -> None:
    """Viewers that ask for frames get them, except out of a deflated file, which this Orthanc cannot cut."""
    case = case_of(tiny_source)
    seg = encode_seg(case.source, case.segmentation, case.producer, segmentation_type=kind)
    open_archive(orthanc.uri).store(seg)
    path = f"studies/{seg.StudyInstanceUID}/series/{seg.SeriesInstanceUID}/instances/{seg.SOPInstanceUID}/frames/1"
    accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
    request = urllib.request.Request(f"{orthanc.url}/{path}", headers={"Accept": accept})
    if given:
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert answer.status == 200
            assert len(answer.read()) > 100
    else:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(request, timeout=120)
