"""Points, boxes and measurements of SRs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from voxfleet.benchmarks.references import tid1500
from voxfleet.benchmarks.references.errors import (
    NothingUsable,
    OtherFrameOfReference,
    OtherPatient,
    OtherSeries,
    OutsideImage,
)
from voxfleet.benchmarks.references.reference import Annotation, Reading
from voxfleet.enrich.series import SourceImage

NODULE, LUNG = codes.SCT.Nodule, Code("39607008", "SCT", "Lung")
Region = hd.sr.ImageRegion | hd.sr.ImageRegion3D
Write = Callable[..., Path]


def on_slice(k: int, kind: str, points: list[list[float]]) -> hd.sr.ImageRegion:
    """Region on slice k of the image of the fixtures, in (column, row) from the corner of the first pixel."""
    source = hd.sr.SourceImageForRegion("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.2.{k + 1}")
    return hd.sr.ImageRegion(kind, np.array(points, float), source)


def in_space(kind: str, points: list[list[float]], frame: str = "1.2.3.3") -> hd.sr.ImageRegion3D:
    """Region in LPS mm."""
    return hd.sr.ImageRegion3D(kind, np.array(points, float), frame)


@pytest.fixture
def write(image: SourceImage, tmp_path: Path) -> Write:
    """Write a report with one planar group a region (highdicom), of a nodule of the lung, 7.5 mm long."""

    def report(*regions: Region, **changes: str) -> Path:
        groups = [
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=hd.sr.TrackingIdentifier(f"1.2.3.8.{n}", f"lesion {n}"),
                referenced_region=region,
                finding_type=NODULE,
                finding_sites=[hd.sr.FindingSite(LUNG, laterality=codes.SCT.Left)],
                measurements=[hd.sr.Measurement(codes.SCT.Length, 7.5, codes.UCUM.Millimeter)],
                qualitative_evaluations=[
                    hd.sr.QualitativeEvaluation(
                        Code("RID34373", "RADLEX", "Likelihood"), Code("RID39153", "RADLEX", "Probable")
                    )
                ],
            )
            for n, region in enumerate(regions, start=1)
        ]
        observer = hd.sr.ObserverContext(codes.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes("Reader^One"))
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_person_context=observer),
            procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
            imaging_measurements=groups,
        )
        evidence = [_header(each) for each in image.headers]
        sr = hd.sr.Comprehensive3DSR(evidence, content[0], "1.2.3.7", 9, "1.2.3.7.1", 1, "x")
        sr.PatientID = changes.get("patient", "P-1")
        evidence_item = sr.get("CurrentRequestedProcedureEvidenceSequence", sr.get("PertinentOtherEvidenceSequence"))
        evidence_item[0].ReferencedSeriesSequence[0].SeriesInstanceUID = changes.get("series", "1.2.3.2")
        sr.save_as(tmp_path / "sr.dcm")
        return tmp_path / "sr.dcm"

    return report


def _header(header: Dataset) -> Dataset:
    """Header with what highdicom copies into a report."""
    full = copy.deepcopy(header)
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(full, keyword, "")
    full.AccessionNumber, full.Modality = "", "CT"
    return full


def read(path: Path, image: SourceImage) -> Annotation:
    """Its only annotation."""
    (annotation,) = tid1500.read(path, image, Reading())
    return annotation


def test_box_point_and_measurement(write: Write, image: SourceImage) -> None:
    """A rectangle is a box in voxels, a point a place in mm, and the length 7.5 mm."""
    corners = [[2.0, 3.0], [7.0, 3.0], [7.0, 6.0], [2.0, 6.0], [2.0, 3.0]]
    path = write(on_slice(2, "POLYLINE", corners), on_slice(3, "POINT", [[4.5, 6.5]]))
    annotation = read(path, image)
    assert tid1500.recognises(path)
    assert annotation.reader == "Reader^One"
    assert [(b.structure, b.low, b.high) for b in annotation.boxes] == [(1, (1.5, 2.5, 1.5), (2.5, 5.5, 6.5))]
    assert [(p.structure, p.position_mm) for p in annotation.points] == [(2, (4, 6, 6))]
    lengths = [(v.structure, v.value, v.unit) for v in annotation.values if v.value is not None]
    assert lengths == [(1, 7.5, "mm"), (2, 7.5, "mm")]
    assert [v.answer for v in annotation.values if v.answer] == ["Probable", "Probable"]


def test_codes(write: Write, image: SourceImage) -> None:
    """A finding is the type, its site the region, with the side."""
    structure = read(write(on_slice(3, "POINT", [[4.5, 6.5]])), image).structures[0]
    assert structure.name == "lesion 1"
    assert structure.type.value == NODULE.value
    assert structure.anatomic_region.value == LUNG.value
    assert structure.laterality.meaning == "Left"


@pytest.mark.parametrize(
    ("region", "voxels"),
    [
        (on_slice(2, "CIRCLE", [[8.5, 6.5], [10.5, 6.5]]), 13),  # radius 2 round a centre
        (on_slice(2, "ELLIPSE", [[5.5, 6.5], [11.5, 6.5], [8.5, 5.5], [8.5, 7.5]]), 7 + 2 * 1),  # half axes 3 and 1
        (on_slice(2, "POLYLINE", [[1.0, 1.0], [7.0, 1.0], [1.0, 7.0], [1.0, 1.0]]), 15),  # 5 + 4 + 3 + 2 + 1
        (in_space("POLYGON", [[0.5, 0.5, 4], [6.5, 0.5, 4], [6.5, 3.5, 4], [0.5, 3.5, 4], [0.5, 0.5, 4]]), 18),
    ],
)
def test_outlines(write: Write, image: SourceImage, region: Region, voxels: int) -> None:
    """Closed regions have voxels on their slice."""
    mask = read(write(region), image).masks[1]
    assert (mask.voxels, mask.box[0]) == (voxels, slice(2, 3))


def test_places_in_space(write: Write, image: SourceImage) -> None:
    """Points and lines in mm are taken as they are."""
    path = write(in_space("POINT", [[3, 4, 5]]), in_space("POLYLINE", [[3, 4, 5], [9, 4, 5]]))
    annotation = read(path, image)
    assert annotation.points[0].position_mm == (3, 4, 5)
    assert annotation.lines[0].points_mm == ((3, 4, 5), (9, 4, 5))


def test_report_of_dcmqi(shared_data: Path) -> None:
    """A real report of a segment: its 21 numbers and the finding, without voxels of its own."""
    path = shared_data / "dcmqi" / "sr-example" / "sr.dcm"
    assert tid1500.recognises(path)
    subject = tid1500.subject(path)
    assert subject.series_instance_uids
    dataset = dcmread(path)
    numbers = [item for item in dataset.iterall() if item.keyword == "NumericValue"]
    assert len(numbers) > 20


@pytest.mark.parametrize(
    ("region", "changes", "error"),
    [
        (on_slice(3, "POINT", [[4.5, 6.5]]), {"patient": "P-2"}, OtherPatient),
        (on_slice(3, "POINT", [[4.5, 6.5]]), {"series": "1.9"}, OtherSeries),
        (in_space("POINT", [[3, 4, 5]], "1.9"), {}, OtherFrameOfReference),
        (on_slice(3, "POINT", [[40.5, 6.5]]), {}, OutsideImage),
        (in_space("POINT", [[3, 4, 500]]), {}, OutsideImage),
        (on_slice(3, "POLYLINE", [[20.0, 3.0], [27.0, 3.0], [27.0, 6.0], [20.0, 6.0], [20.0, 3.0]]), {}, OutsideImage),
    ],
)
def test_bad_input(
    write: Write, image: SourceImage, region: Region, changes: dict[str, str], error: type[Exception]
) -> None:
    """What is not of the image, or beyond it, is refused."""
    with pytest.raises(error) as caught:
        tid1500.read(write(region, **changes), image, Reading())
    assert type(caught.value) is error


def test_self_crossing(write: Write, image: SourceImage) -> None:
    """An outline that crosses itself is left out; its length stays."""
    eight = on_slice(2, "POLYLINE", [[1.0, 1.0], [9.0, 9.0], [9.0, 1.0], [1.0, 8.0], [1.0, 1.0]])
    annotation = read(write(eight), image)
    assert not annotation.masks
    assert [remark.code for remark in annotation.remarks] == ["SELF_CROSSING_CONTOUR"]
    assert NothingUsable.code == "NO_USABLE_STRUCTURE"
