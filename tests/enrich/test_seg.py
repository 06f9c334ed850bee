"""SEG written, read back, and read by others."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, config, dcmread
from pydicom.encaps import encapsulate, generate_frames
from voxfleet.enrich.phantom import chest_phantom, write_ct_series
from voxfleet.enrich.seg import EncodeError, OverlappingSegments, encode_seg
from voxfleet.enrich.seg_decode import DecodeError, decode_seg, frame_segments
from voxfleet.enrich.series import SourceImage, read_volume
from voxfleet.enrich.validate import validate
from voxfleet.models import codes
from voxfleet.models.segmentation import InvalidSegmentation, Segment, Segmentation

CaseOf = Callable[..., object]
Turn = Callable[[Dataset], Dataset]
Check = Callable[[Dataset], list[str]]

EACH = pytest.mark.parametrize("kind", ["BINARY", "BINARY_DEFLATED", "LABELMAP"])


def encoded(case, kind="BINARY") -> Dataset:
    """SEG of a case."""
    return encode_seg(case.source, case.segmentation, case.producer, segmentation_type=kind)


def file_bytes(dataset: Dataset) -> bytes:
    """The whole file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def assert_equal(expected: Segmentation, actual: Segmentation) -> None:
    """All voxels of all segments are the same."""
    for segment in expected.segments:
        assert np.array_equal(expected.mask(segment.number), actual.mask(segment.number)), segment.label


@EACH
def test_real_ct_comes_back(petct_source: SourceImage, case_of: CaseOf, through_bytes: Turn, kind: str) -> None:
    """Label map and segments of a real chest CT are the same after a file was written and read."""
    case = case_of(petct_source)
    dataset = through_bytes(encoded(case, kind))
    validate(dataset)
    result = decode_seg(dataset, petct_source.volume)
    assert np.array_equal(case.segmentation.labelmap.array, result.labelmap.array)
    assert [s.number for s in result.segments] == [1, 2, 3, 4, 5]
    for expected, actual in zip(case.segmentation.segments, result.segments, strict=True):
        for name in ("label", "name", "category", "type", "laterality", "anatomic_region"):
            assert getattr(expected, name) == getattr(actual, name)
        assert actual.color == pytest.approx(expected.color, abs=1)


def test_overlap_comes_back(tiny_source: SourceImage, case_of: CaseOf, through_bytes: Turn) -> None:
    """Voxels that belong to two segments are stored in both, and told apart again."""
    case = case_of(tiny_source, overlapping=True)
    dataset = through_bytes(encoded(case))
    assert dataset.SegmentsOverlap == "YES"
    result = decode_seg(dataset, tiny_source.volume)
    assert result.segments[0].contains == (5,)
    assert_equal(case.segmentation, result)


def test_highdicom_reads_the_same_masks(tiny_source: SourceImage, case_of: CaseOf, through_bytes: Turn) -> None:
    """A reader of others, highdicom's, which checks the IOD's required attributes, gives every segment's mask."""
    case = case_of(tiny_source, overlapping=True)
    seg = hd.seg.Segmentation.from_dataset(through_bytes(encoded(case)))
    for number in (1, 2, 4, 5):
        volume = seg.get_volume(segment_numbers=[number], combine_segments=False)
        aligned = volume.squeeze_channel().match_geometry(tiny_source.volume)
        assert np.array_equal(case.segmentation.mask(number), aligned.array == 1)


def test_highdicom_writes_the_same_frames(tiny_source: SourceImage, case_of: CaseOf) -> None:
    """Segment, place, source and pixels of every frame are those of highdicom's writer; its order is the reverse."""
    case = case_of(tiny_source)
    ours = encoded(case)
    descriptions = [
        hd.seg.SegmentDescription(
            s.number, s.label, s.category, s.type, "AUTOMATIC", case.producer.algorithm_identification()
        )
        for s in case.segmentation.segments
    ]
    theirs = hd.seg.Segmentation(
        [copy.deepcopy(h) for h in tiny_source.headers], case.segmentation.labelmap, "BINARY", descriptions,
        hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1",
    )  # fmt: skip
    assert frames_by_place(ours) == frames_by_place(theirs)


def frames_by_place(dataset: Dataset) -> dict[tuple[int, str, tuple[float, ...]], bytes]:
    """Pixels of each frame by segment, source instance and position."""
    size = int(dataset.Rows) * int(dataset.Columns) // 8
    result = {}
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        position = tuple(round(float(v), 3) for v in groups.PlanePositionSequence[0].ImagePositionPatient)
        place = (int(number), str(image.ReferencedSOPInstanceUID), position)
        result[place] = dataset.PixelData[index * size : (index + 1) * size]
    return result


@EACH
def test_dciodvfy_finds_no_error(petct_source: SourceImage, case_of: CaseOf, dciodvfy: Check, kind: str) -> None:
    """dicom3tools' validator finds no error in the SEG of a real chest CT."""
    assert dciodvfy(encoded(case_of(petct_source), kind)) == []


def test_dciodvfy_finds_no_error_with_overlap(tiny_source: SourceImage, case_of: CaseOf, dciodvfy: Check) -> None:
    """Nor where segments share voxels."""
    assert dciodvfy(encoded(case_of(tiny_source, overlapping=True))) == []


@EACH
def test_dcmqi_reads_the_same_label_map(petct_source: SourceImage, case_of: CaseOf, tmp_path: Path, kind: str) -> None:
    """The reader of dcmqi, segimage2itkimage, gives back the label map voxel by voxel."""
    case = case_of(petct_source)
    dataset = encoded(case, kind)
    dataset.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    program = Path(sys.executable).parent / "segimage2itkimage"
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nii"]
    subprocess.run([*command, "--mergeSegments"], check=True, capture_output=True, timeout=280)
    image = nib.load(tmp_path / "1.nii.gz")
    array = np.asarray(image.dataobj).astype(np.uint8).transpose(2, 1, 0)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine @ np.eye(4)[:, [2, 1, 0, 3]]
    grid = hd.Volume(array, lps, "PATIENT", frame_of_reference_uid=petct_source.volume.frame_of_reference_uid)
    aligned = grid.match_geometry(petct_source.volume, tol=1e-3)
    assert np.array_equal(case.segmentation.labelmap.array, aligned.array)


def test_each_frame_names_its_source_slice(petct_source: SourceImage, case_of: CaseOf) -> None:
    """Each frame lies exactly where its source slice does, and refers to it with the codes of CID 7202 and 7203."""
    dataset = encoded(case_of(petct_source))
    positions = {h.SOPInstanceUID: list(h.ImagePositionPatient) for h in petct_source.headers}
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        derived = groups.DerivationImageSequence[0]
        (image,) = derived.SourceImageSequence
        assert positions[image.ReferencedSOPInstanceUID] == list(groups.PlanePositionSequence[0].ImagePositionPatient)
        code = derived.DerivationCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113076", "DCM", "Segmentation")
        code = image.PurposeOfReferenceCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("121322", "DCM")
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == petct_source.series.series_instance_uid
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert sorted(named) == sorted(i.sop_instance_uid for i in petct_source.series.instances)


def test_absent_segment_keeps_its_number(tiny_source: SourceImage, case_of: CaseOf) -> None:
    """A segment that was not found is described under its number and has no frame."""
    dataset = encoded(case_of(tiny_source))
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [1, 2, 3, 4, 5]
    assert dataset.SegmentSequence[2].SegmentLabel == "Spleen"
    assert set(frame_segments(dataset)) == {1, 2, 4, 5}


def test_segments_say_what_and_by_whom(tiny_source: SourceImage, case_of: CaseOf) -> None:
    """Each segment item holds what part A of our conventions asks for."""
    case = case_of(tiny_source)
    dataset = encoded(case)
    lung, opacity = dataset.SegmentSequence[0], dataset.SegmentSequence[4]
    assert (lung.SegmentLabel, lung.SegmentDescription) == ("Right Lung", "hu-bands 1 : lung_right")
    assert (lung.SegmentAlgorithmType, lung.SegmentAlgorithmName) == ("AUTOMATIC", "hu-bands v1.2")
    (identification,) = lung.SegmentationAlgorithmIdentificationSequence
    assert (identification.AlgorithmName, identification.AlgorithmVersion) == ("hu-bands", "1.2")
    assert identification.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Morphological Operations"
    assert "weights_sha256=none" in identification.AlgorithmParameters
    assert (
        hd.AlgorithmIdentificationSequence.from_sequence(lung.SegmentationAlgorithmIdentificationSequence).parameters[
            "air"
        ]
        == "-950;-500"
    )
    assert lung.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    modifier = lung.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodeValue, modifier.CodeMeaning) == ("24028007", "Right")
    assert opacity.AnatomicRegionSequence[0].CodeValue == "39607008"
    # sRGB (255, 0, 0) is CIELab (53.24, 80.09, 67.20) under D65: L x 655.35, (a + 128) x 257 (PS3.3 C.10.7.1.1)
    assert opacity.RecommendedDisplayCIELabValue == pytest.approx([34891, 53479, 50166], rel=1e-3)
    assert len({item.TrackingUID for item in dataset.SegmentSequence}) == 5
    assert all(item.TrackingID for item in dataset.SegmentSequence)


def test_series_and_equipment(petct_source: SourceImage, case_of: CaseOf) -> None:
    """Series and equipment attributes are informative and unique in the study."""
    dataset = encoded(case_of(petct_source))
    assert dataset.SeriesDescription == "hu-bands(v1.2) Segmentation of Series 2"
    assert 20_001 < dataset.SeriesNumber < 29_999
    assert (dataset.InstanceNumber, dataset.ContentLabel) == (1, "SEGMENTATION")
    assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("Voxfleet", "hu-bands")
    assert list(dataset.SoftwareVersions)[1] == "hu-bands 1.2"
    assert len(dataset.DeviceSerialNumber) == 16
    platform = dataset.ContributingEquipmentSequence[0]
    assert platform.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert "BodyPartExamined" not in dataset
    assert dataset.PatientID == petct_source.headers[0].PatientID
    assert dataset.FrameOfReferenceUID == petct_source.headers[0].FrameOfReferenceUID


def test_long_model_name_is_cut(tiny_source: SourceImage, case_of: CaseOf) -> None:
    """Series Description stays within an LO and keeps what it says of the source."""
    dataset = encoded(case_of(tiny_source, name="a-model-whose-name-is-longer-than-any-series-description-may-be"))
    assert len(dataset.SeriesDescription) == 64
    number = tiny_source.headers[0].SeriesNumber
    assert dataset.SeriesDescription.startswith("a-model-whose-name-is-longer")
    assert dataset.SeriesDescription.endswith(f"(v1.2) Segmentation of Series {number}")


def test_body_part_and_loss_are_inherited(phantom_source: SourceImage, case_of: CaseOf) -> None:
    """Body part and lossy compression of the source are the SEG's."""
    headers = copy.deepcopy(phantom_source.headers)
    headers[0].BodyPartExamined = "CHEST"
    headers[3].LossyImageCompression = "01"
    headers[3].LossyImageCompressionRatio = "12.5"
    headers[3].LossyImageCompressionMethod = "ISO_15444_1"
    dataset = encoded(case_of(replace(phantom_source, headers=headers)))
    assert dataset.BodyPartExamined == "CHEST"
    assert dataset.LossyImageCompression == "01"
    assert float(dataset.LossyImageCompressionRatio) == 12.5
    assert dataset.LossyImageCompressionMethod == "ISO_15444_1"


def test_names_in_other_scripts(phantom_source: SourceImage, case_of: CaseOf, through_bytes: Turn) -> None:
    """A patient's name in Japanese and our own accented words both survive."""
    headers = copy.deepcopy(phantom_source.headers)
    headers[0].SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    headers[0].PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    case = case_of(replace(phantom_source, headers=headers), description="Modèle à seuils")
    dataset = through_bytes(encoded(case))
    assert dataset.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert dataset.ContributingEquipmentSequence[0].ContributionDescription == "Modele a seuils"


@EACH
def test_dirty_source_is_encoded(phantom_source: SourceImage, case_of: CaseOf, through_bytes: Turn, kind: str) -> None:
    """Patient attributes that break their VR do not stop the work, and come over as they are."""
    headers = copy.deepcopy(phantom_source.headers)
    with config.disable_value_validation():
        headers[0].PatientBirthDate = "02/03/1970"
        headers[0].PatientID = "9" * 70
        headers[0].StudyTime = "noon"
        headers[0].AcquisitionDate = "1.1.2020"
        del headers[0].SeriesNumber
    dataset = through_bytes(encoded(case_of(replace(phantom_source, headers=headers)), kind))
    validate(dataset)
    assert (dataset.PatientBirthDate, dataset.PatientID, dataset.StudyTime) == ("02/03/1970", "9" * 70, "noon")
    assert dataset.SeriesDescription == "hu-bands(v1.2) Segmentation of Series"


AGAIN = """
import hashlib, pickle, sys
from io import BytesIO
from voxfleet.enrich.seg import encode_seg
source, segmentation, producer = pickle.load(open(sys.argv[1], 'rb'))
for kind in ('BINARY', 'BINARY_DEFLATED', 'LABELMAP'):
    buffer = BytesIO()
    encode_seg(source, segmentation, producer, segmentation_type=kind).save_as(buffer, enforce_file_format=True)
    print(hashlib.sha256(buffer.getvalue()).hexdigest())
"""


def test_same_work_gives_the_same_file(phantom_source: SourceImage, case_of: CaseOf, tmp_path: Path) -> None:
    """Another process, at another time, with another hash seed and time zone, writes the same bytes."""
    case = case_of(phantom_source)
    (tmp_path / "case.pickle").write_bytes(pickle.dumps((case.source, case.segmentation, case.producer)))
    environment = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PATH": ""}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "case.pickle")]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=280)
    expected = [
        hashlib.sha256(file_bytes(encoded(case, kind))).hexdigest()
        for kind in ("BINARY", "BINARY_DEFLATED", "LABELMAP")
    ]
    assert expected == result.stdout.split()


def test_labelmap_refuses_overlap(phantom_source: SourceImage, case_of: CaseOf) -> None:
    """Segments that share voxels are refused as a label map, for a reason that machines can read."""
    case = case_of(phantom_source, overlapping=True)
    with pytest.raises(OverlappingSegments, match="lung_right") as caught:
        encoded(case, "LABELMAP")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.code, error.refused, error.retryable) == ("OVERLAPPING_SEGMENTS", True, False)
    assert str(error) == str(caught.value)


def test_other_grid_is_refused(phantom_source: SourceImage, case_of: CaseOf) -> None:
    """A label map that is not on the source's grid is not written."""
    case = case_of(phantom_source)
    moved = Segmentation(case.segmentation.labelmap[1:], case.segmentation.segments)
    with pytest.raises(EncodeError, match="not on the grid"):
        encode_seg(case.source, moved, case.producer)
    with pytest.raises(EncodeError, match="FRACTIONAL"):
        encoded(case, "FRACTIONAL")


@EACH
def test_nothing_found_is_a_result(
    phantom_source: SourceImage, case_of: CaseOf, through_bytes: Turn, dciodvfy: Check, kind: str
) -> None:
    """Where no segment has a voxel the SEG says so in one frame of zeros, since DICOM wants one."""
    case = case_of(phantom_source)
    empty = case.segmentation.labelmap.with_array(np.zeros_like(case.segmentation.labelmap.array))
    case = replace(case, segmentation=Segmentation(empty, case.segmentation.segments))
    dataset = through_bytes(encoded(case, kind))
    validate(dataset)
    assert dataset.NumberOfFrames == 1
    assert not decode_seg(dataset, phantom_source.volume).labelmap.array.any()
    assert dciodvfy(dataset) == []


@EACH
@pytest.mark.parametrize("cosines", [(1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, 0, 0, -1), (0, 1, 0, 0.6, 0, 0.8)])
def test_any_orientation(write_ct, series_of, case_of: CaseOf, through_bytes: Turn, cosines, kind: str) -> None:
    """Oblique and anisotropic volumes come back on their own grid, found from the SEG alone."""
    random = np.random.default_rng(5)
    stored = random.integers(-1000, 400, (6, 7, 5)).astype(np.int16)
    normal = np.cross(cosines[:3], cosines[3:])
    positions = [(10.0, -20.0, 30.0) + 2.5 * k * normal for k in range(6)]
    source = read_volume(series_of(write_ct(stored[::-1], positions[::-1], orientation=cosines, spacing=(0.7, 1.3))))
    case = case_of(source)
    dataset = through_bytes(encoded(case, kind))
    result = decode_seg(dataset)
    assert result.labelmap.geometry_equal(source.volume, tol=1e-6)
    assert_equal(case.segmentation, result)


def test_enhanced_source(tmp_path: Path, series_of, case_of: CaseOf, dciodvfy: Check) -> None:
    """Frames made from a multi-frame image refer to its frame numbers, whatever their order."""
    phantom = chest_phantom((8, 32, 32), (28.0, 11.0, 11.0), seed=3)
    slices = [dcmread(path) for path in write_ct_series(phantom.volume, tmp_path / "ct")]
    uids = [hd.UID() for _ in range(2)]
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        [slices[n] for n in (3, 1, 7, 0, 2, 6, 4, 5)], uids[0], 9, uids[1], 1
    )
    enhanced.save_as(tmp_path / "enhanced.dcm")
    source = read_volume(series_of([tmp_path / "enhanced.dcm"]))
    dataset = encoded(case_of(source))
    frames = dcmread(tmp_path / "enhanced.dcm").PerFrameFunctionalGroupsSequence
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == uids[1]
        frame = frames[image.ReferencedFrameNumber - 1]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(
            groups.PlanePositionSequence[0].ImagePositionPatient
        )
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
    assert dciodvfy(dataset) == []


@pytest.mark.parametrize(
    "places",
    [([0, 2, 4, 6, 9, 11, 13, 15], (1, 0, 0, 0, 1, 0)), (range(0, 16, 2), (1, 0, 0, 0, 0.96, 0.28))],
    ids=["gap", "tilt"],
)
def test_repaired_source(write_ct, series_of, case_of: CaseOf, through_bytes: Turn, dciodvfy: Check, places) -> None:
    """Frames of a resampled volume lie on the volume's grid, refer to the series only, and say what was done."""
    random = np.random.default_rng(5)
    stored = random.integers(-1000, 400, (8, 16, 16)).astype(np.int16)
    heights, cosines = places
    files = write_ct(stored, [(0.0, 0.0, float(z)) for z in heights], orientation=cosines)
    source = read_volume(series_of(files), repair=True)
    assert source.repairs
    case = case_of(source)
    dataset = through_bytes(encoded(case))
    assert all(not groups.DerivationImageSequence for groups in dataset.PerFrameFunctionalGroupsSequence)
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 8
    assert dataset.DerivationDescription
    assert_equal(case.segmentation, decode_seg(dataset, source.volume))
    assert dciodvfy(dataset) == []


def many_segments(count: int) -> tuple[Segment, ...]:
    """Segments that only differ in number."""
    return tuple(
        Segment(n, f"Part {n}", f"part_{n}", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (9, 9, 9))
        for n in range(1, count + 1)
    )


def test_more_segments_than_a_byte_holds(phantom_source: SourceImage, case_of: CaseOf, through_bytes: Turn) -> None:
    """A label map of 300 segments takes 16 bits a voxel and comes back."""
    labels = np.random.default_rng(1).integers(0, 301, phantom_source.volume.array.shape).astype(np.uint16)
    segmentation = Segmentation(phantom_source.volume.with_array(labels), many_segments(300))
    case = replace(case_of(phantom_source), segmentation=segmentation)
    dataset = through_bytes(encoded(case, "LABELMAP"))
    assert dataset.BitsAllocated == 16
    assert np.array_equal(labels, decode_seg(dataset, phantom_source.volume).labelmap.array)


def test_labelmap_of_101_by_101(write_ct, series_of, case_of: CaseOf) -> None:
    """RLE of odd frames, at which GDCM's encoder aborts the process, is done by another."""
    stored = np.random.default_rng(5).integers(-1000, 400, (4, 101, 101)).astype(np.int16)
    source = read_volume(series_of(write_ct(stored, [(0.0, 0.0, 2.0 * k) for k in range(4)])))
    dataset = encoded(case_of(source), "LABELMAP")
    assert np.array_equal(case_of(source).segmentation.labelmap.array, decode_seg(dataset).labelmap.array)


@pytest.mark.parametrize("name", ["seg_image_ct_binary.dcm", "seg_image_ct_binary_overlap.dcm"])
def test_seg_of_another_writer(shared_data: Path, name: str) -> None:
    """Each segment of highdicom's own test SEGs has the mask that highdicom reads, overlap included."""
    dataset = dcmread(shared_data / "highdicom-test-files" / name)
    reader = hd.seg.Segmentation.from_dataset(copy.deepcopy(dataset))
    result = decode_seg(dataset)
    for number in reader.segment_numbers:
        volume = reader.get_volume(segment_numbers=[number], combine_segments=False).squeeze_channel()
        assert np.array_equal(volume.match_geometry(result.labelmap).array == 1, result.mask(number))


def test_compressed_bits(shared_data: Path) -> None:
    """The liver has the same voxels from frames of single bits that are compressed (JPEG 2000) as from plain ones."""
    plain = decode_seg(dcmread(shared_data / "dcmqi" / "segmentations" / "liver.dcm"))
    packed = decode_seg(dcmread(shared_data / "hard" / "pydicom-data" / "liver_j2k.dcm"))
    assert np.array_equal(plain.labelmap.array, packed.labelmap.array)
    assert np.count_nonzero(packed.labelmap.array) == 107_098


def test_frame_off_the_grid_is_refused(phantom_source: SourceImage, case_of: CaseOf) -> None:
    """A SEG is not put on a grid that its frames do not lie on."""
    dataset = encoded(case_of(phantom_source))
    affine = phantom_source.volume.affine.copy()
    affine[2, 3] += 7.0
    other = hd.VolumeGeometry(affine, phantom_source.volume.spatial_shape, "PATIENT")
    with pytest.raises(DecodeError, match="frame 1 does not lie on the grid"):
        decode_seg(dataset, other)


def test_frames_turned_or_stretched_are_refused(phantom_source: SourceImage, case_of: CaseOf) -> None:
    """Nor where only the first voxel of each frame lies on the grid, or one frame lies otherwise than the rest."""
    dataset = encoded(case_of(phantom_source))
    (shared,) = dataset.SharedFunctionalGroupsSequence
    (orientation,), (measures,) = shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    cosines, spacing = list(orientation.ImageOrientationPatient), list(measures.PixelSpacing)
    orientation.ImageOrientationPatient = [-each for each in cosines[:3]] + cosines[3:]
    with pytest.raises(DecodeError, match="frame 1 does not lie on the grid"):
        decode_seg(dataset, phantom_source.volume)
    orientation.ImageOrientationPatient = cosines
    measures.PixelSpacing = [spacing[0] * 2, spacing[1]]
    with pytest.raises(DecodeError, match="frame 1 does not lie on the grid"):
        decode_seg(dataset, phantom_source.volume)
    measures.PixelSpacing = spacing
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        groups.PlaneOrientationSequence = copy.deepcopy(shared.PlaneOrientationSequence)
    del shared.PlaneOrientationSequence
    assert_equal(case_of(phantom_source).segmentation, decode_seg(dataset, phantom_source.volume))
    groups.PlaneOrientationSequence[0].ImageOrientationPatient = [-each for each in cosines]
    with pytest.raises(DecodeError, match="its frames differ in orientation"):
        decode_seg(dataset, phantom_source.volume)


def test_fractional_is_refused(shared_data: Path) -> None:
    """Fractions are no segments: who wants them as such names a threshold."""
    dataset = dcmread(shared_data / "highdicom-test-files" / "seg_image_ct_true_fractional.dcm")
    with pytest.raises(DecodeError, match="is of type FRACTIONAL"):
        decode_seg(dataset)


@pytest.mark.parametrize("bits", [8, 16])
def test_damaged_label_map_is_refused(phantom_source: SourceImage, case_of: CaseOf, bits: int) -> None:
    """A frame cut short, or with bytes changed, is an error of ours, whatever the decoder makes of it."""
    case, random = case_of(phantom_source), np.random.default_rng(3)
    if bits == 16:
        labels = case.segmentation.labelmap.array.astype(np.uint16)
        segmentation = Segmentation(phantom_source.volume.with_array(labels), many_segments(300))
        case = replace(case, segmentation=segmentation)
    dataset = encoded(case, "LABELMAP")
    first, *others = generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames)
    dataset.PixelData = encapsulate([first[: len(first) // 4 * 2], *others])
    with pytest.raises(DecodeError, match="cannot be decoded"):
        decode_seg(dataset, phantom_source.volume)
    for _ in range(50):
        stream = bytearray(first)
        stream[int(random.integers(64, len(stream)))] ^= 1 << int(random.integers(8))
        dataset.PixelData = encapsulate([bytes(stream), *others])
        with suppress(DecodeError, InvalidSegmentation):
            decode_seg(dataset, phantom_source.volume)
