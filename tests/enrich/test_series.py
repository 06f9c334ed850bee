"""Reading series: real ones as other readers read them, and bad ones refused in one line."""

from __future__ import annotations

import dataclasses
import math
import shutil

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset, FileMetaDataset, Sequence, dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from voxfleet.enrich.geometry import GeometryRefused, Refusal
from voxfleet.enrich.reading.pixels import DECODING_PLUGINS, decode_frames, open_image
from voxfleet.enrich.series import read_volume

REGULAR = {
    "tiny-chest-ct-cip/ct-64Dicom": np.int16,
    "sarcoma-rtstruct-sts002/dicom/CT/image": np.int16,
    "sarcoma-rtstruct-sts002/dicom/PET/image": np.float32,  # its rescale slope varies from slice to slice
    "chest-petct-acrin042/CT": np.int16,
    "chest-petct-acrin042/PT_AC": np.float32,
}
"""Real series that form a volume, and the type of their rescaled values."""

SLICES = 30
"""As many of each real series are read, neighbours: enough, and fast."""

PATIENT = ("Roe", "Jane", "MRN-4711", "19700203", "20200102")
HEIGHTS = [(0.0, 0.0, 2.0 * k) for k in range(6)]


@pytest.fixture(params=REGULAR)
def regular(request, shared_data, tmp_path):
    """Folder of neighbouring slices of a real series, and the type expected."""
    files = sorted(
        (shared_data / request.param).iterdir(),
        key=lambda path: float(dcmread(path, specific_tags=["ImagePositionPatient"]).ImagePositionPatient[2]),
    )
    folder = tmp_path / "series"
    folder.mkdir()
    for path in files[10 : 10 + SLICES]:
        shutil.copy(path, folder)
    return folder, REGULAR[request.param]


def read_by_itk(folder):
    """Array (k, j, i) and affine of the one series in a folder, by ITK's GDCM reader."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions[:, ::-1], image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), affine


def refusal(series, **options):
    """Refusal of a series, whose message is one line without the patient."""
    with pytest.raises(GeometryRefused) as caught:
        read_volume(series, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(word.lower() in message.lower() for word in PATIENT)
    return caught.value


def test_as_highdicom_reads(regular, series_of):
    """Array and affine of real series are those of highdicom's own reader, which stacks against the normal."""
    folder, dtype = regular
    image = read_volume(series_of(folder.iterdir()))
    expected = hd.get_volume_from_series(
        [dcmread(path) for path in folder.iterdir()], apply_real_world_transform=False, dtype=np.float64
    ).flip_spatial(0)
    assert image.volume.array.dtype == dtype
    np.testing.assert_allclose(image.volume.array, expected.array, rtol=1e-6)
    np.testing.assert_allclose(image.volume.affine, expected.affine, atol=1e-6)
    assert image.volume.frame_of_reference_uid == expected.frame_of_reference_uid
    assert image.volume.coordinate_system == expected.coordinate_system
    assert image.repairs == ()


def test_as_itk_reads(regular, series_of):
    """Array and affine of real series are those of ITK, which reads through another library."""
    folder, _ = regular
    volume = read_volume(series_of(folder.iterdir())).volume
    array, affine = read_by_itk(folder)
    np.testing.assert_allclose(volume.array, array, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)  # ITK's spacing is that of the first gap


def test_headers_follow_k(regular, series_of):
    """Headers lack pixel data and stand in the order of k: each lies where the volume says."""
    folder, _ = regular
    image = read_volume(series_of(folder.iterdir()))
    assert len(image.headers) == SLICES
    for k, header in enumerate(image.headers):
        corner = image.volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0]
        np.testing.assert_allclose(corner, np.array(header.ImagePositionPatient, float), atol=0.05)
        assert "PixelData" not in header


@pytest.mark.parametrize("syntax", ["_j2k", "_jpeg", "_jpegls", "_rle"])
def test_four_transfer_syntaxes(hard_data, series_of, syntax):
    """One real MR series as JPEG 2000, JPEG Lossless, JPEG-LS and RLE is each time what ITK reads."""
    array, _ = read_by_itk(hard_data / "generic" / "compressed" / "001")
    folder = hard_data / "generic" / f"compressed{syntax}" / "001"
    image = read_volume(series_of(folder.iterdir()), repair=True)  # it names no frame of reference
    np.testing.assert_array_equal(image.volume.array, array)
    assert image.volume.array.dtype == np.int16


def test_jpeg2000_ct_as_itk_reads(shared_data, tmp_path, series_of):
    """A real JPEG 2000 CT of 12 unsigned bits, given the UIDs that it lacks, has ITK's Hounsfield units."""
    for number, path in enumerate(sorted((shared_data / "totalsegmentator-example/example_ct_dicom").iterdir()), 1):
        dataset = dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.1", "1.2.3", "1.2.4"
        dataset.save_as(tmp_path / path.name)
    volume = read_volume(series_of(tmp_path.iterdir())).volume
    array, affine = read_by_itk(tmp_path)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)
    assert volume.array.dtype == np.int16


def test_every_plugin_syntax_is_read():
    """Every transfer syntax that an installed plug-in decodes is read, and none through GDCM."""
    readable = set()
    for syntax in AllTransferSyntaxes:
        try:
            plugins = get_decoder(syntax).available_plugins if UID(syntax).is_encapsulated else ()
        except NotImplementedError:
            continue
        if set(plugins) - {"gdcm", "pillow"}:
            readable.add(syntax)
    assert readable <= set(DECODING_PLUGINS)
    assert set(DECODING_PLUGINS.values()) == {"pylibjpeg", "pyjpegls", "pydicom", "libjpeg-turbo"}


@pytest.mark.parametrize("name", ["_big_endian", "_RLE", "_jpeg_2k_lossless", "_jpeg_ls_lossless"])
def test_multiframe_pixels(shared_data, name):
    """Ten real MR frames are the same in every transfer syntax as uncompressed."""
    folder = shared_data / "hard" / "pydicom-data"
    plain = dcmread(folder / "emri_small.dcm").pixel_array
    frames = list(decode_frames(open_image(folder / f"emri_small{name}.dcm", "1.2", "1.2.3")))
    np.testing.assert_array_equal(np.stack(frames), plain)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_code_stream_without_end(write_ct, series_of, syntax):
    """A code stream that lost its end inside a whole file is refused, where a decoder may fill in."""
    files = write_ct(np.random.default_rng(5).integers(0, 99, (4, 64, 64)).astype(np.int16), HEIGHTS[:4])
    for path in files:
        dataset = dcmread(path)
        plugin = "pyjpegls" if syntax == JPEGLSLossless else "pylibjpeg"
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        if path == files[1]:
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
            dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
        dcmwrite(path, dataset)
    error = refusal(series_of(files))
    assert error.code == Refusal.UNREADABLE
    assert "cut short: no end marker" in error.detail


def test_truncated_code_stream(shared_data):
    """A real JPEG 2000 stream whose last bytes are missing is refused, though its decoder would not notice."""
    path = shared_data / "hard" / "pydicom-data" / "emri_small_jpeg_2k_lossless_too_short.dcm"
    with pytest.raises(GeometryRefused, match="is cut short") as caught:
        list(decode_frames(open_image(path, "1.2", "1.2.3")))
    assert caught.value.code == Refusal.UNREADABLE


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("failing/gantrytilting/001", Refusal.GANTRY_TILT),
        ("failing/slicecount/001", Refusal.TOO_FEW_SLICES),
        ("failing/sliceincrement/001", Refusal.MISSING_SLICE),
        ("failing/sliceincrement/002", Refusal.GANTRY_TILT),  # and a missing slice
        ("failing/sliceorientation/001", Refusal.MIXED_ORIENTATION),
        ("generic/compressed/001", Refusal.MISSING_ATTRIBUTE),  # no frame of reference
    ],
)
def test_real_series_that_converters_fail_on(hard_data, series_of, folder, code):
    """Each has its reason."""
    assert refusal(series_of((hard_data / folder).iterdir())).code == code


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("chest-petct-acrin042/CT_SCOUT/*", Refusal.LOCALIZER),
        ("tiny-head-ct-slicer/CTHeadAxialDicom/*", Refusal.MISSING_ATTRIBUTE),  # no frame of reference
        ("totalsegmentator-example/example_ct_dicom/*", Refusal.INVALID_UID),
        ("sarcoma-rtstruct-sts002/dicom/CT/mask/*", Refusal.UNSUPPORTED_SOP_CLASS),
        ("dcmqi/segmentations/ct-3slice/*", Refusal.TOO_FEW_SLICES),
        ("dcmqi/segmentations/23x38x3/image/*", Refusal.TOO_FEW_SLICES),
        ("dcmqi/segmentations/23x38x3/multiframe/*", Refusal.TOO_FEW_SLICES),
        ("dcmqi/segmentations/23x38x3/seg/*", Refusal.UNSUPPORTED_SOP_CLASS),
        ("hard/pydicom-data/bad_sequence.dcm", Refusal.INVALID_UID),
        ("hard/pydicom-data/eCT_Supplemental.dcm", Refusal.TOO_FEW_SLICES),
        ("hard/pydicom-data/emri_small.dcm", Refusal.MISSING_ATTRIBUTE),  # no per-frame functional groups
        ("hard/pydicom-data/explicit_VR-UN.dcm", Refusal.TOO_FEW_SLICES),
        ("hard/pydicom-data/JLSL_16_15_1_1F.dcm", Refusal.INVALID_UID),
        ("hard/pydicom-data/693_J2KR.dcm", Refusal.TOO_FEW_SLICES),
        ("hard/pydicom-data/liver_j2k.dcm", Refusal.UNSUPPORTED_SOP_CLASS),
        ("hard/pydicom-data/parametric_map_float.dcm", Refusal.UNSUPPORTED_SOP_CLASS),
    ],
)
def test_real_objects_that_are_no_volume(shared_data, series_of, pattern, code):
    """Each has its reason."""
    files = sorted(path for path in shared_data.glob(pattern) if path.suffix != ".json")
    assert refusal(series_of(files)).code == code


def test_legacy_enhanced_ct_is_the_same_volume(shared_data, tmp_path, series_of):
    """A real CT converted by highdicom to one multi-frame instance reads as the single-frame series does."""
    files = sorted((shared_data / "tiny-chest-ct-cip" / "ct-64Dicom").iterdir())[:20]
    converted = hd.legacy.LegacyConvertedEnhancedCTImage(
        [_with_required(dcmread(path)) for path in files[::-1]], "1.2.3", 1, "1.2.3.4", 1
    )
    dcmwrite(tmp_path / "enhanced.dcm", converted, enforce_file_format=True)
    single = read_volume(series_of(files))
    image = read_volume(series_of([tmp_path / "enhanced.dcm"]))
    np.testing.assert_array_equal(image.volume.array, single.volume.array)
    np.testing.assert_allclose(image.volume.affine, single.volume.affine, atol=1e-9)
    assert len(image.headers) == 1
    assert sorted(image.frame_numbers) == list(range(1, 21))


def _with_required(dataset):
    """The data set with the Type 2 attributes that highdicom wants to copy."""
    for keyword in ("AccessionNumber", "PatientSex", "PatientBirthDate", "ReferringPhysicianName", "StudyID"):
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


def enhanced_mr(path, stored, heights_mm, slopes, syntax):
    """Enhanced MR with per-frame position and rescale, and one shared orientation."""
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = EnhancedMRImageStorage, "1.2.3.4"
    header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "1.2.1", "1.2.3", "1.2.9"
    header.Modality, header.ImageType = "MR", ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    header.NumberOfFrames, header.Rows, header.Columns = stored.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    measures.PixelSpacing = [1.5, 0.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    header.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for height, slope in zip(heights_mm, slopes, strict=True):
        position, rescale, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [height, -5, 40]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0, "US"
        group.PlanePositionSequence = Sequence([position])
        group.PixelValueTransformationSequence = Sequence([rescale])
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = Sequence(groups)
    header.PixelData = stored.tobytes()
    header["PixelData"].VR = "OW"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax.is_encapsulated:
        plugin = "pyjpegls" if syntax == JPEGLSLossless else "pylibjpeg"
        header.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    dcmwrite(path, header, enforce_file_format=True)
    return [path]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_enhanced_mr(tmp_path, series_of, syntax):
    """Frames of an enhanced MR, in any order and each with its slope, stand in order of the normal, rescaled."""
    stored = np.random.default_rng(4).integers(0, 4096, (5, 32, 40), dtype=np.uint16)
    # normal = row x column = (0,1,0) x (0,0,-1) = (-1,0,0): k ascends as x descends
    heights, slopes = [3.0, 9.0, 0.0, 6.0, 12.0], [1.5, 2.0, 0.25, 1.0, 3.0]
    files = enhanced_mr(tmp_path / "mr.dcm", stored, heights, slopes, syntax)
    image = read_volume(series_of(files))
    assert image.frame_numbers == (5, 2, 4, 1, 3)
    expected = np.stack([stored[n - 1] * slopes[n - 1] for n in image.frame_numbers])
    np.testing.assert_array_equal(image.volume.array, expected)
    assert image.volume.array.dtype == np.float32
    affine = [[-3, 0, 0, 12], [0, 0, 0.5, -5], [0, -1.5, 0, 40], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.volume.affine, affine, atol=1e-9)


def test_two_enhanced_instances(tmp_path, series_of):
    """Two multi-frame instances in one series are refused."""
    stored = np.zeros((4, 3, 3), np.uint16)
    files = [
        enhanced_mr(tmp_path / name, stored, [0.0, 1.0, 2.0, 3.0], [1.0] * 4, ExplicitVRLittleEndian)[0]
        for name in ("a.dcm", "b.dcm")
    ]
    assert refusal(series_of(files)).code == Refusal.SEVERAL_MULTIFRAME


@pytest.mark.parametrize(
    ("stored_type", "values", "rescale", "dtype"),
    [
        (np.int16, (-2000, 3000), (1, 0), np.int16),
        (np.uint16, (0, 4000), (1, -1024), np.int16),
        (np.uint16, (40000, 65535), (1, -32768), np.int16),  # 7232 and 32767
        (np.uint16, (0, 40000), (1, 0), np.float32),  # 40000 is no int16
        (np.int16, (-32768, 0), (1, -1024), np.float32),
        (np.int16, (-100, 100), (2, 5), np.int16),
        (np.int16, (-100, 100), (0.5, 0), np.float32),
        (np.uint8, (0, 255), (1, -1000), np.int16),
        (np.int32, (-70000, 70000), (1, 0), np.float32),
    ],
)
def test_rescaled_type(write_ct, series_of, stored_type, values, rescale, dtype):
    """Values that int16 holds are int16, exactly; all others float32."""
    stored = np.resize(np.array(values, stored_type), (4, 3, 4))
    files = write_ct(stored, HEIGHTS[:4], changes={"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]})
    array = read_volume(series_of(files)).volume.array
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, stored.astype(float) * rescale[0] + rescale[1])


def test_one_slice_too_large_for_int16(write_ct, series_of):
    """Values read before the one that int16 cannot hold are kept."""
    stored = np.arange(48, dtype=np.uint16).reshape(4, 3, 4)
    stored[2, 1, 1] = 50000
    array = read_volume(series_of(write_ct(stored, HEIGHTS[:4]))).volume.array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, stored)


def test_padding_is_left_as_it_is(write_ct, series_of):
    """Pixel Padding Value is a value like any other: nothing is masked or filled."""
    stored = np.full((4, 3, 3), -2000, np.int16)
    files = write_ct(stored, HEIGHTS[:4], changes={"PixelPaddingValue": -2000, "RescaleIntercept": -24})
    assert (read_volume(series_of(files)).volume.array == -2024).all()


def test_unused_bits(write_ct, series_of):
    """Bits above Bits Stored hold an overlay in old images: they are no part of the value."""
    values = np.random.default_rng(3).integers(-2048, 2048, (4, 3, 3)).astype(np.int16)
    stored = ((values.view(np.uint16) & 0x0FFF) | 0x5000).view(np.int16)
    files = write_ct(stored, HEIGHTS[:4], changes={"BitsStored": 12, "HighBit": 11})
    np.testing.assert_array_equal(read_volume(series_of(files)).volume.array, values)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(write_ct, series_of, syntax):
    """Implicit, big endian and deflated files have the values written."""
    stored = np.random.default_rng(2).integers(-1000, 1000, (4, 5, 6), dtype=np.int16)
    files = write_ct(stored, HEIGHTS[:4])
    for path in files:
        dataset = dcmread(path)
        pixels = dataset.pixel_array
        dataset.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            dataset.PixelData = pixels.astype(">i2").tobytes()
        written = Dataset(dataset)
        written.file_meta = dataset.file_meta
        dcmwrite(path, written, enforce_file_format=True)
    np.testing.assert_array_equal(read_volume(series_of(files)).volume.array, stored)


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, 1, 0),  # flipped: the normal points to the feet
        (0, 1, 0, 0, 0, -1),  # sagittal
        (1, 0, 0, 0, 0, -1),  # coronal
        (0.8, 0.6, 0.0, -0.36, 0.48, -0.8),  # oblique
    ],
)
def test_voxels_lie_where_headers_say(write_ct, series_of, orientation):
    """Voxel (k, j, i) is the pixel of the slice whose header puts it at its place, written in any order."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    positions = [np.array([7.0, -3.0, 20.0]) + 2.5 * n * np.cross(row, column) for n in (3, 0, 4, 1, 2)]
    stored = np.arange(5 * 3 * 4, dtype=np.int16).reshape(5, 3, 4)
    files = write_ct(stored, positions, orientation=orientation, spacing=(0.5, 0.75))
    volume = read_volume(series_of(files)).volume
    for n, position in enumerate(positions):
        for j in range(3):
            for i in range(4):
                place = position + 0.5 * j * column + 0.75 * i * row
                index = volume.map_reference_to_indices(place[None])[0]
                np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
                assert volume.array[tuple(np.rint(index).astype(int))] == stored[n, j, i]


def test_truncated_fragment(regular, series_of):
    """A compressed slice cut anywhere in its pixel data is refused as unreadable."""
    folder, _ = regular
    files = sorted(folder.iterdir())
    series = series_of(files)
    files[3].write_bytes(files[3].read_bytes()[: int(files[3].stat().st_size * 0.8)])
    assert refusal(series).code == Refusal.UNREADABLE


def test_series_without_instances(write_ct, series_of):
    """An empty series is refused."""
    series = series_of(write_ct(np.zeros((4, 3, 3), np.int16), HEIGHTS[:4]))
    assert refusal(dataclasses.replace(series, instances=())).code == Refusal.TOO_FEW_SLICES


def test_float_rescale_is_near_enough(write_ct, series_of):
    """A fractional slope costs no more than float32's rounding."""
    stored = np.arange(-24, 24, dtype=np.int16).reshape(4, 3, 4)
    files = write_ct(stored, HEIGHTS[:4], changes={"RescaleSlope": "0.123456", "RescaleIntercept": "-7.5"})
    array = read_volume(series_of(files)).volume.array
    np.testing.assert_allclose(array, stored * 0.123456 - 7.5, rtol=math.ulp(1.0) * 2**30)
