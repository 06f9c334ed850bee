"""Bad files: each refused with its code, in one line that names the instance and no patient."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, RLELossless
from voxfleet.enrich.geometry import GeometryRefused, Refusal
from voxfleet.enrich.series import read_volume

PATIENT = ("Roe", "Jane", "MRN-4711", "19700203", "20200102")
HEIGHTS = [(0.0, 0.0, 2.0 * k) for k in range(6)]


def refusal(series, **options):
    """Refusal of a series, whose message is one line without the patient."""
    with pytest.raises(GeometryRefused) as caught:
        read_volume(series, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(word.lower() in message.lower() for word in PATIENT)
    return caught.value


def changed(keyword, value):
    """Change of one attribute of a file."""

    def change(path):
        dataset = dcmread(path)
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
        dcmwrite(path, dataset)

    return change


def cut(path, share=0.9):
    """Cut off the end of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def raw_position(path):
    """Write a position whose second value is NaN, as some converters do."""
    data = path.read_bytes()
    assert data.count(b"0.0\\0.0\\4.0 ") == 1
    path.write_bytes(data.replace(b"0.0\\0.0\\4.0 ", b"0.0\\nan\\4.0 "))


def compressed_nonsense(path):
    """Claim JPEG 2000 for a stream that is none, though it ends as one should."""
    dataset = dcmread(path)
    stream = b"nonsense " * 40 + b"\xff\xd9"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = (
        struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        + struct.pack("<HHL", 0xFFFE, 0xE000, len(stream))
        + stream
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )
    dataset["PixelData"].is_undefined_length = True
    dcmwrite(path, dataset)


def unknown_vr(path):
    """Damage the value representation of Image Type."""
    data = path.read_bytes()
    assert data.count(b"\x08\x00\x08\x00CS") == 1
    path.write_bytes(data.replace(b"\x08\x00\x08\x00CS", b"\x08\x00\x08\x00C\xd0"))


def damaged_rle(path):
    """Compress by RLE, then break the table of segments: one decoder panics on it."""
    dataset = dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    frame[4:8] = struct.pack("<L", 2**31)
    dataset.PixelData = encapsulate([bytes(frame)])
    dcmwrite(path, dataset)


def unknown_syntax(path):
    """Name a transfer syntax that holds video."""
    compressed_nonsense(path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.99"))


GUID = "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}"

BAD_FILES = {
    "not DICOM": (lambda path: path.write_text("Roe^Jane, MRN-4711\n" * 50), Refusal.UNREADABLE),
    "empty file": (lambda path: path.write_bytes(b""), Refusal.UNREADABLE),
    "gone": (lambda path: path.unlink(), Refusal.UNREADABLE),
    "header cut": (lambda path: cut(path, 0.3), Refusal.UNREADABLE),
    "pixels cut": (cut, Refusal.UNREADABLE),
    "too few pixels": (changed("PixelData", b"\0\0"), Refusal.UNREADABLE),
    "no pixel data": (changed("PixelData", None), Refusal.UNREADABLE),
    "no such code stream": (compressed_nonsense, Refusal.UNREADABLE),
    "damaged RLE": (damaged_rle, Refusal.UNREADABLE),
    "unknown value representation": (unknown_vr, Refusal.UNREADABLE),
    "unknown transfer syntax": (unknown_syntax, Refusal.UNREADABLE),
    "empty SOP Instance UID": (changed("SOPInstanceUID", ""), Refusal.INVALID_UID),
    "empty Study UID": (changed("StudyInstanceUID", ""), Refusal.INVALID_UID),
    "GUID": (changed("SOPInstanceUID", GUID), Refusal.INVALID_UID),
    "long UID": (changed("SOPInstanceUID", "1." + "2" * 63), Refusal.INVALID_UID),
    "empty component": (changed("SOPInstanceUID", "1..2"), Refusal.INVALID_UID),
    "duplicate UID": (changed("SOPInstanceUID", "1.2.826.0.1.3680043.8.498.2.1"), Refusal.DUPLICATE_INSTANCE),
    "secondary capture": (changed("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), Refusal.UNSUPPORTED_SOP_CLASS),
    "localizer": (changed("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), Refusal.LOCALIZER),
    "no position": (changed("ImagePositionPatient", None), Refusal.MISSING_ATTRIBUTE),
    "empty position": (changed("ImagePositionPatient", []), Refusal.MISSING_ATTRIBUTE),
    "two coordinates": (changed("ImagePositionPatient", [0, 0]), Refusal.INVALID_ATTRIBUTE),
    "NaN position": (raw_position, Refusal.INVALID_ATTRIBUTE),
    "no spacing": (changed("PixelSpacing", None), Refusal.MISSING_ATTRIBUTE),
    "spacing of zero": (changed("PixelSpacing", [0, 1]), Refusal.INVALID_ATTRIBUTE),
    "slope of zero": (changed("RescaleSlope", 0), Refusal.INVALID_ATTRIBUTE),
    "no bits": (changed("BitsAllocated", None), Refusal.MISSING_ATTRIBUTE),
    "colour": (changed("SamplesPerPixel", 3), Refusal.UNSUPPORTED_PIXELS),
    "palette": (changed("PhotometricInterpretation", "PALETTE COLOR"), Refusal.UNSUPPORTED_PIXELS),
    "other matrix": (changed("Rows", 19), Refusal.MIXED_MATRIX),
    "other series": (changed("SeriesInstanceUID", "1.2.3"), Refusal.MIXED_SERIES),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_one_bad_file(write_ct, series_of, fault):
    """One bad file among six refuses the series: its code, one line, the instance named, no patient told."""
    files = write_ct(np.zeros((6, 20, 20), np.int16), HEIGHTS)
    series = series_of(files)
    change, code = BAD_FILES[fault]
    change(files[2])
    error = refusal(series)
    assert error.code == code
    assert "1.2.826.0.1.3680043.8.498.2." in error.detail or GUID in error.detail


def test_file_names_are_not_told(write_ct, series_of):
    """An instance without UID is named by its digest: file names often hold the patient's."""
    files = write_ct(np.zeros((4, 3, 3), np.int16), HEIGHTS[:4])
    changed("SOPInstanceUID", "")(files[0])
    files[0] = files[0].rename(files[0].with_name("Roe_Jane_MRN-4711.dcm"))
    series = series_of(files)
    error = refusal(series)
    assert error.code == Refusal.INVALID_UID
    assert series.instances[0].sha256[:16] in error.detail


def test_the_gate_comes_before_the_pixels(write_ct, series_of):
    """A series with a missing slice is refused for it, although its pixels could not be decoded either."""
    files = write_ct(np.zeros((5, 20, 20), np.int16), [(0.0, 0.0, z) for z in (0, 2, 4, 8, 10)])
    series = series_of(files)
    for path in files:
        cut(path)
    assert refusal(series).code == Refusal.MISSING_SLICE
