"""RTSTRUCT on the image's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from voxfleet.benchmarks.references import rtstruct
from voxfleet.benchmarks.references.errors import (
    InvalidReference,
    NothingUsable,
    OtherFrameOfReference,
    OtherPatient,
    OtherSeries,
    OutsideImage,
    UnreadableReference,
)
from voxfleet.benchmarks.references.reference import Annotation, Reading
from voxfleet.enrich.series import SourceImage

RT = "1.2.840.10008.5.1.4.1.1.481.3"
Contours = list[tuple[str, list[list[float]]]]


def rings(z: float, *corners: tuple[float, float], kind: str = "CLOSED_PLANAR") -> Contours:
    """Squares on an axial plane, each from corner (low, low) to (high, high) in mm."""
    return [(kind, [[low, low, z], [high, low, z], [high, high, z], [low, high, z]]) for low, high in corners]


@pytest.fixture
def write_rs(tmp_path: Path) -> Callable[..., Path]:
    """Write an RTSTRUCT of ROIs (name -> contours) for the image of the fixtures."""

    def write(rois: dict[str, Contours], **changes: str) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RT
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Modality, dataset.PatientID = "RTSTRUCT", changes.get("patient", "P-1")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.1", generate_uid()
        frame_uid = changes.get("frame", "1.2.3.3")
        series, study, frame = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID = changes.get("series", "1.2.3.2")
        study.RTReferencedSeriesSequence = [series]
        frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = frame_uid, [study]
        dataset.ReferencedFrameOfReferenceSequence = [frame]
        dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
        dataset.RTROIObservationsSequence = []
        for number, (name, contours) in enumerate(rois.items(), start=1):
            roi, drawn, observation = Dataset(), Dataset(), Dataset()
            roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame_uid
            drawn.ReferencedROINumber, drawn.ContourSequence = number, []
            observation.ReferencedROINumber = number
            observation.ROIInterpreter = changes.get("interpreter", "")
            for kind, points in contours:
                item = Dataset()
                item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
                item.ContourData = [f"{value:.6g}" for point in points for value in point]
                drawn.ContourSequence.append(item)
            dataset.StructureSetROISequence.append(roi)
            dataset.ROIContourSequence.append(drawn)
            dataset.RTROIObservationsSequence.append(observation)
        path = tmp_path / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def read(path: Path, image: SourceImage) -> Annotation:
    """Its only annotation."""
    (annotation,) = rtstruct.read(path, image, Reading())
    return annotation


def test_sarcoma_on_ct_and_pet(sarcoma: Path, sarcoma_ct: SourceImage, sarcoma_pet: SourceImage) -> None:
    """The tumour has the 17,090 voxels on CT and 555 on PET that IBSI's NIfTI masks of it have."""
    for modality, source, voxels in (("CT", sarcoma_ct, 17090), ("PET", sarcoma_pet, 555)):
        annotation = read(sarcoma / "dicom" / modality / "mask" / "RS.dcm", source)
        assert annotation.masks[1].voxels == voxels
        assert annotation.structures[0].name == f"GTV_Mass_{modality}"


def test_holes_and_several_contours(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """A ring of 36 - 4 pixels and a square of 4 beside it on one slice: 36."""
    path = write_rs({"ring": [*rings(4, (0.5, 6.5), (2.5, 4.5)), *rings(4, (9.5, 11.5))]})
    mask = read(path, image).masks[1]
    assert mask.voxels == 36 - 4 + 4
    assert mask.box[0] == slice(2, 3)


def test_xor_contours(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """CLOSEDPLANAR_XOR overlaps by definition: 25 + 36 less twice the 4 shared pixels."""
    path = write_rs({"xor": rings(4, (0.5, 5.5), (3.5, 9.5), kind="CLOSEDPLANAR_XOR")})
    assert read(path, image).masks[1].voxels == 25 + 36 - 2 * 4


def test_contours_between_slices(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """Contours 3 mm apart stand for 1.5 mm on both sides: slices at 0, 2, 4 and 6 mm take the nearest."""
    path = write_rs({"between": [*rings(1.0, (0.5, 2.5)), *rings(4.0, (0.5, 4.5)), *rings(7.0, (0.5, 6.5))]})
    counts = read(path, image).masks[1].whole().sum(axis=(1, 2))
    assert counts.tolist() == [4, 4, 16, 36, 36, 0]


def test_gaps_stay_gaps(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """Contours on every other slice fill these and none between."""
    path = write_rs({"gap": [*rings(0.0, (0.5, 2.5)), *rings(4.0, (0.5, 2.5))]})
    assert read(path, image).masks[1].whole().sum(axis=(1, 2)).tolist() == [4, 0, 4, 0, 0, 0]


def test_oblique_image(write_rs: Callable[..., Path], image_of: Callable[..., SourceImage]) -> None:
    """An image turned by 30 degrees, with contours drawn on its slices, has the voxels of the axial case."""
    angle = np.deg2rad(30)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, 1], [0, 1, 0], [2, 0, 0]], float)
    affine[:3, 3] = (11.0, -7.0, 3.0)
    drawn = [
        (kind, (np.array(points) @ turn.T + affine[:3, 3]).tolist())
        for kind, points in rings(4, (0.5, 6.5), (2.5, 4.5))
    ]
    mask = read(write_rs({"ring": drawn}), image_of(affine=affine)).masks[1]
    assert (mask.voxels, mask.box[0]) == (32, slice(2, 3))


def test_contours_across_the_slices(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """Sagittal contours of 4 rows by 4 slices, on three columns, are 48 voxels of an axial image."""
    sheets = [("CLOSED_PLANAR", [[x, 2.5, 1.0], [x, 6.5, 1.0], [x, 6.5, 9.0], [x, 2.5, 9.0]]) for x in (5.0, 6.0, 7.0)]
    mask = read(write_rs({"sheets": sheets}), image).masks[1]
    assert (mask.voxels, mask.box) == (48, (slice(1, 5), slice(3, 7), slice(5, 8)))


def test_points_and_lines(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """POINT is a point, OPEN_PLANAR a line; neither has voxels."""
    path = write_rs({"p": [("POINT", [[3, 4, 4]])], "l": [("OPEN_PLANAR", [[3, 4, 4], [8, 4, 4]])]})
    annotation = read(path, image)
    assert annotation.points[0].position_mm == (3, 4, 4)
    assert annotation.lines[0].points_mm == ((3, 4, 4), (8, 4, 4))
    assert not annotation.masks


def test_two_interpreters_are_two_readers(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """The reader is the ROI Interpreter."""
    assert read(write_rs({"a": rings(4, (0.5, 6.5))}, interpreter="R^Two"), image).reader == "R^Two"


def test_copies_count_once(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """A contour that is there twice is no hole."""
    annotation = read(write_rs({"twice": rings(4, (0.5, 6.5), (0.5, 6.5))}), image)
    assert annotation.masks[1].voxels == 36
    assert [remark.code for remark in annotation.remarks] == ["REPEATED_CONTOUR"]


def test_contours_without_area_are_told(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """A stray click is passed over, and told of; an ROI of nothing else is refused."""
    stray = ("CLOSED_PLANAR", [[9.0, 9.0, 4.0]])
    annotation = read(write_rs({"tumour": [*rings(4, (0.5, 6.5)), stray]}), image)
    assert annotation.masks[1].voxels == 36
    assert [(r.code, r.left_out) for r in annotation.remarks] == [("ZERO_AREA_CONTOUR", False)]
    with pytest.raises(NothingUsable, match="ZERO_AREA_CONTOUR"):
        read(write_rs({"stray": [stray]}), image)


def test_self_crossing_structure_is_left_out(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """A figure of eight is left out and told of, its neighbour is read; alone it is an error."""
    eight = [("CLOSED_PLANAR", [[0, 0, 4], [9, 9, 4], [9, 0, 4], [0, 9, 4]])]
    annotation = read(write_rs({"eight": eight, "tumour": rings(4, (0.5, 6.5))}), image)
    assert list(annotation.masks) == [2]
    assert [(r.code, r.structure, r.left_out) for r in annotation.remarks] == [("SELF_CROSSING_CONTOUR", "eight", True)]
    with pytest.raises(NothingUsable, match="SELF_CROSSING_CONTOUR") as caught:
        read(write_rs({"eight": eight}), image)
    assert caught.value.code == "NO_USABLE_STRUCTURE"


def test_bent_contour_is_left_out(write_rs: Callable[..., Path], image: SourceImage) -> None:
    """A closed contour whose corners do not lie on a plane has no inside."""
    bent = [("CLOSED_PLANAR", [[0, 0, 0], [9, 0, 2], [9, 9, 6], [0, 9, 0]])]
    with pytest.raises(NothingUsable, match="NON_PLANAR_CONTOUR"):
        read(write_rs({"bent": bent}), image)


@pytest.mark.parametrize(
    ("changes", "contours", "error"),
    [
        ({"patient": "P-2"}, rings(4, (0.5, 6.5)), OtherPatient),
        ({"series": "1.9"}, rings(4, (0.5, 6.5)), OtherSeries),
        ({"frame": "1.9"}, rings(4, (0.5, 6.5)), OtherFrameOfReference),
        ({}, rings(4, (-3.5, 6.5)), OutsideImage),
        ({}, rings(24, (0.5, 6.5)), OutsideImage),
        ({}, [("POINT", [[99.0, 4.0, 4.0]])], OutsideImage),
        ({}, [("CLOSED_ROUND", [[9.0, 4.0, 4.0]])], InvalidReference),
    ],
)
def test_bad_input(
    write_rs: Callable[..., Path],
    image: SourceImage,
    changes: dict[str, str],
    contours: Contours,
    error: type[InvalidReference],
) -> None:
    """What is not of the image, or reaches beyond it, is refused; the message names no patient."""
    with pytest.raises(error) as caught:
        read(write_rs({"roi": contours}, **changes), image)
    assert type(caught.value) is error
    assert "P-" not in str(caught.value).replace(str(Path(caught.value.args[0])), "")


def test_any_attribute_may_lack(write_rs: Callable[..., Path], image: SourceImage, tmp_path: Path) -> None:
    """Whatever attribute is taken away, the structure set is read or refused with an error of ours."""
    path = write_rs({"tumour": rings(4, (0.5, 6.5))})
    refused = 0
    for place in list(_places(dcmread(path))):
        dataset = dcmread(path)
        holder = dataset
        for parent in place[:-1]:
            holder = holder[parent].value[0]
        del holder[place[-1]]
        dataset.save_as(tmp_path / "less.dcm")
        try:
            rtstruct.read(tmp_path / "less.dcm", image, Reading())
        except InvalidReference:
            refused += 1
    assert refused > 5


def _places(dataset: Dataset) -> Iterator[tuple[BaseTag, ...]]:
    """Tags that lead to each element, by the first item of each sequence."""
    for element in dataset:
        yield (element.tag,)
        if element.VR == "SQ" and element.value:
            yield from ((element.tag, *inner) for inner in _places(element.value[0]))


def test_no_rtstruct(tmp_path: Path, image: SourceImage) -> None:
    """A file that is no DICOM is told so."""
    (tmp_path / "x.dcm").write_bytes(b"no dicom")
    assert not rtstruct.recognises(tmp_path / "x.dcm")
    with pytest.raises(UnreadableReference):
        read(tmp_path / "x.dcm", image)
