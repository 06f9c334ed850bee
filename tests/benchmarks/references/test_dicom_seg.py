"""SEG of every type on the image's grid."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes
from voxfleet.benchmarks.references import dicom_seg, nrrd
from voxfleet.benchmarks.references.errors import (
    GeometryUnknown,
    OtherFrameOfReference,
    OtherPatient,
    OtherSeries,
    OutsideImage,
    UnreadableReference,
)
from voxfleet.benchmarks.references.reference import Reading
from voxfleet.enrich.series import SourceImage


def test_fractional_without_references(breast_folder: Path, breast_mr: SourceImage) -> None:
    """A FRACTIONAL SEG that names no series lies on 42 of 60 sagittal slices, at the places of its frames."""
    path = next(each for each in breast_folder.rglob("*.dcm") if dicom_seg.recognises(each))
    subject = dicom_seg.subject(path)
    assert not subject.series_instance_uids
    assert not subject.sop_instance_uids
    assert subject.frame_of_reference_uid == breast_mr.volume.frame_of_reference_uid
    (annotation,) = dicom_seg.read(path, breast_mr, Reading())
    dataset = dcmread(path)
    expected = np.zeros(breast_mr.volume.spatial_shape, bool)
    places = np.array([header.ImagePositionPatient for header in breast_mr.headers], float)
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        expected[np.abs(places - place).sum(axis=1).argmin()] = frame >= 255 / 2
    assert np.array_equal(annotation.masks[1].whole(), expected)
    assert annotation.structures[0].laterality.meaning == "Left"


def test_threshold(shared_data: Path, three_slices: SourceImage) -> None:
    """A voxel of a fractional segment belongs to it from the threshold on."""
    del three_slices
    path = shared_data / "highdicom-test-files" / "seg_image_ct_true_fractional.dcm"
    seg = hd.seg.segread(path)
    values = seg.get_volume(rescale_fractional=True, combine_segments=False)
    image = _image_on(values.get_geometry(), path)
    for threshold in (0.25, 0.5, 1.0):
        (annotation,) = dicom_seg.read(path, image, Reading(threshold))
        assert annotation.masks[1].voxels == np.count_nonzero(values.array >= threshold)


def _image_on(geometry: hd.VolumeGeometry, path: Path) -> SourceImage:
    """Image of zeros on the grid of a SEG."""
    from voxfleet.enrich.series import Series

    header = dcmread(path, stop_before_pixels=True)
    series = str(header.ReferencedSeriesSequence[0].SeriesInstanceUID)
    volume = hd.Volume(
        np.zeros(geometry.spatial_shape, np.int16), geometry.affine, "PATIENT", header.FrameOfReferenceUID
    )
    return SourceImage(Series(str(header.StudyInstanceUID), series, "CT", ()), volume, (header,), (), ())


def test_overlapping_segments(shared_data: Path, three_slices: SourceImage) -> None:
    """Five segments that share voxels in part have the voxels of the label maps that dcmqi made the SEG from."""
    folder = shared_data / "dcmqi" / "segmentations"
    (annotation,) = dicom_seg.read(folder / "partial_overlaps.dcm", three_slices, Reading())
    by_name = {structure.name: annotation.masks[structure.number].whole() for structure in annotation.structures}
    expected = {}
    for number in (1, 2, 3):
        (layer,) = nrrd.read(folder / f"partial_overlaps-{number}.nrrd", three_slices, Reading())
        expected |= {each.name: layer.masks[each.number].whole() for each in layer.structures}
    names = {"GREEN": "partial_overlaps-1 1", "LIGHT_BLUE": "partial_overlaps-1 4", "DARK_BLUE": "partial_overlaps-1 5"}
    names |= {"ORANGE": "partial_overlaps-2", "PURPLE": "partial_overlaps-3"}
    assert set(by_name) == set(names)
    for name, theirs in names.items():
        assert np.array_equal(by_name[name], expected[theirs]), name
    assert (by_name["GREEN"] & by_name["ORANGE"]).any()


def test_liver_is_the_label_map(shared_data: Path, three_slices: SourceImage) -> None:
    """The liver SEG of dcmqi and the NRRD it was made from are the same 107,098 voxels."""
    folder = shared_data / "dcmqi" / "segmentations"
    (seg,) = dicom_seg.read(folder / "liver.dcm", three_slices, Reading())
    (label_map,) = nrrd.read(folder / "liver_seg.nrrd", three_slices, Reading())
    assert seg.masks[1].voxels == 107098
    assert np.array_equal(seg.masks[1].whole(), label_map.masks[1].whole())


@pytest.mark.parametrize("name", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_label_map_seg(shared_data: Path, name: str) -> None:
    """A LABELMAP SEG gives its one structure, whatever value pads it; the background is none."""
    path = shared_data / "dcmqi" / "segmentations" / name
    dataset = dcmread(path)
    values = dataset.pixel_array
    geometry = hd.seg.segread(path).get_volume_geometry(allow_missing_positions=True)
    (annotation,) = dicom_seg.read(path, _image_on(geometry, path), Reading())
    assert [each.name for each in annotation.structures] == ["Liver"]
    assert annotation.masks[1].voxels == np.count_nonzero(values == 1) > 0


@pytest.fixture
def write_seg(tmp_path: Path) -> Callable[..., Path]:
    """Write a SEG of one segment on a volume, referring to an image of the fixtures."""

    def write(image: SourceImage, volume: hd.Volume, **changes: object) -> Path:
        header = copy.deepcopy(image.headers[0])
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
            setattr(header, keyword, "")
        header.AccessionNumber, header.Modality = "", "CT"
        header.file_meta = _file_meta()
        header.Rows, header.Columns = image.volume.spatial_shape[1:]
        header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        header.SliceThickness = 2
        algorithm = hd.AlgorithmIdentificationSequence("a", codes.DCM.ArtificialIntelligence, "1")
        segment = hd.seg.SegmentDescription(
            1, "Tumour", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "AUTOMATIC", algorithm
        )
        seg = hd.seg.Segmentation(
            [header],
            volume,
            "BINARY",
            [segment],
            "1.2.3.9",
            9,
            "1.2.3.9.1",
            1,
            "x",
            "x",
            "1",
            "1",
        )
        for keyword, value in changes.items():
            setattr(seg, keyword, value)
        path = tmp_path / "seg.dcm"
        seg.save_as(path)
        return path

    return write


def _file_meta() -> object:
    from pydicom import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _block(image: SourceImage) -> hd.Volume:
    """A block of 3 x 4 x 5 voxels of the image's grid."""
    array = np.zeros(image.volume.spatial_shape, np.uint8)
    array[1:4, 2:6, 3:8] = 1
    return hd.Volume(array, image.volume.affine, "PATIENT", image.volume.frame_of_reference_uid)


def test_same_grid(write_seg: Callable[..., Path], image: SourceImage) -> None:
    """A SEG on the image's grid is copied, and tells its codes."""
    (annotation,) = dicom_seg.read(write_seg(image, _block(image)), image, Reading())
    assert annotation.masks[1].voxels == 60
    assert annotation.masks[1].box == (slice(1, 4), slice(2, 6), slice(3, 8))
    assert annotation.structures[0].type.value == "108369006"


@pytest.mark.parametrize("flip", [(0,), (1, 2), (0, 1, 2)])
def test_flipped_and_cropped_grid(write_seg: Callable[..., Path], image: SourceImage, flip: tuple[int, ...]) -> None:
    """A SEG on mirrored axes of a part of the grid covers the same voxels, of a block without three of its corners."""
    block = _block(image)
    block.array[1, 2, 3] = block.array[1, 2, 7] = block.array[3, 2, 3] = 0
    turned = block[0:5, 1:10, 2:12].flip_spatial(list(flip))
    (annotation,) = dicom_seg.read(write_seg(image, turned), image, Reading())
    assert np.array_equal(annotation.masks[1].whole(), block.array == 1)


def test_finer_grid(write_seg: Callable[..., Path], image: SourceImage) -> None:
    """A SEG of half the voxel size in each direction, drawn along voxel faces, covers the same voxels."""
    fine = np.repeat(np.repeat(np.repeat(_block(image).array, 2, 0), 2, 1), 2, 2)
    affine = image.volume.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = image.volume.map_indices_to_reference(np.array([[-0.25, -0.25, -0.25]]))[0]
    volume = hd.Volume(fine, affine, "PATIENT", image.volume.frame_of_reference_uid)
    (annotation,) = dicom_seg.read(write_seg(image, volume), image, Reading())
    assert annotation.masks[1].box == (slice(1, 4), slice(2, 6), slice(3, 8))
    assert annotation.masks[1].voxels == 60


def test_outside_the_image(write_seg: Callable[..., Path], image: SourceImage) -> None:
    """Voxels where the image has none are not cut away in silence."""
    wide = _block(image).pad([(0, 0), (0, 0), (0, 4)])
    wide.array[2, 2, -1] = 1
    with pytest.raises(OutsideImage, match="1 of 61 voxels of Tumour") as caught:
        dicom_seg.read(write_seg(image, wide), image, Reading())
    assert caught.value.code == "OUTSIDE_IMAGE"


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("PatientID", "P-2", OtherPatient),
        ("FrameOfReferenceUID", "1.9", OtherFrameOfReference),
        ("ReferencedSeriesSequence", "1.9", OtherSeries),
        ("PixelData", b"\0", UnreadableReference),
    ],
)
def test_bad_input(
    write_seg: Callable[..., Path], image: SourceImage, keyword: str, value: object, error: type[Exception]
) -> None:
    """What is not of the image, or broken, is refused."""
    path = write_seg(image, _block(image))
    dataset = dcmread(path)
    if keyword == "ReferencedSeriesSequence":
        dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = value
    else:
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(error):
        dicom_seg.read(path, image, Reading())


def test_frames_of_no_grid(write_seg: Callable[..., Path], image: SourceImage) -> None:
    """Frames shifted in their planes form no volume."""
    path = write_seg(image, _block(image))
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [5, 0, 4]
    dataset.save_as(path)
    with pytest.raises(GeometryUnknown):
        dicom_seg.read(path, image, Reading())


def test_frames_that_lie_otherwise(write_seg: Callable[..., Path], image: SourceImage) -> None:
    """Frames may each tell their own orientation, if it is the same."""
    path = write_seg(image, _block(image))
    dataset = dcmread(path)
    (shared,) = dataset.SharedFunctionalGroupsSequence
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.PlaneOrientationSequence = copy.deepcopy(shared.PlaneOrientationSequence)
    del shared.PlaneOrientationSequence
    dataset.save_as(path)
    (annotation,) = dicom_seg.read(path, image, Reading())
    assert np.array_equal(annotation.masks[1].whole(), _block(image).array == 1)
    groups.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    dataset.save_as(path)
    with pytest.raises(GeometryUnknown, match="differ in orientation"):
        dicom_seg.read(path, image, Reading())
