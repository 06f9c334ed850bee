"""Pixel data of one DICOM file, decoded frame by frame into stored values."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000TransferSyntaxes,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from . import lossless_jpeg
from .refusal import GeometryRefused, Refusal

# pydicom would choose python-gdcm first, which other packages bring in and which aborts the whole
# process on some frames. So each syntax has its plug-in by name; CharLS decodes JPEG-LS four times
# faster than libjpeg. On damaged RLE streams pylibjpeg-rle panics, past every `except Exception`, and
# imagecodecs crashes, so RLE goes through pydicom's own decoder (19 ms instead of 1 ms a slice).
# Threads gain nothing: all but libjpeg-turbo hold the GIL, and on two cores its gain was not measurable.
DECODING_PLUGINS: dict[UID, str] = {
    **dict.fromkeys(JPEGTransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), lossless_jpeg.PLUGIN),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    RLELossless: "pydicom",
}
"""pydicom decoding plug-in for each compressed transfer syntax that is read (PS3.5 A.4)."""

_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM = (0xFFFE, 0xE000)
_SEQUENCE_DELIMITATION_ITEM = (0xFFFE, 0xE0DD)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ELEMENT_HEADER = 8
"""Bytes of tag and length, or of tag, VR and two reserved (PS3.5 7.1)."""

_END_OF_CODE_STREAM = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS, EOC of JPEG 2000: the same two bytes."""
_TAIL = 64
"""Bytes at the end of a frame in which its end marker must lie: the rest may be padding."""

PARSING_FAULTS = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    NotImplementedError,
    BytesLengthException,
)
"""What pydicom raises on an element whose bytes do not make a value of its VR."""

_READING_FAULTS = (*PARSING_FAULTS, InvalidDicomError, OSError, EOFError, struct.error)
_DECODING_FAULTS = (*_READING_FAULTS, RuntimeError)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """A DICOM file whose header was read.

    Attributes
    ----------
    name : str
        How messages name it: its SOP Instance UID, or a digest where that is unknown;
        no file name, which may name a patient.
    header : Dataset
        All up to the pixel data, with file meta information.
    pixel_offset : int
        Where the Pixel Data element starts in the file (meaningless if deflated).
    has_pixels : bool
        Whether anything follows the header: false for objects that are no image and for files cut in the header.
    """

    series_instance_uid: str
    name: str
    path: Path
    header: Dataset
    pixel_offset: int
    has_pixels: bool

    @property
    def transfer_syntax(self) -> UID:
        """Transfer Syntax UID (0002,0010)."""
        return UID(self.header.file_meta.TransferSyntaxUID)

    def refused(self, code: Refusal, detail: str) -> GeometryRefused:
        """The refusal of its series because of this file."""
        return GeometryRefused(self.series_instance_uid, code, f"instance {self.name} {detail}")


def open_image(path: Path, series_instance_uid: str, name: str) -> ImageFile:
    """The header of a DICOM file.

    Raises
    ------
    GeometryRefused
        UNREADABLE, if it is no DICOM file or its header cannot be parsed.
    """
    try:
        with path.open("rb") as file:
            header = dcmread(file, stop_before_pixels=True)
            offset = file.tell()
            followed = bool(file.read(1))
        UID(header.file_meta.TransferSyntaxUID)
    except InvalidDicomError as exc:
        detail = f"instance {name} is not a DICOM file (PS3.10)"
        raise GeometryRefused(series_instance_uid, Refusal.UNREADABLE, detail) from exc
    except _READING_FAULTS as exc:
        # Only the kind of fault: what pydicom says may quote the patient's attributes.
        detail = f"instance {name} has a header that cannot be read ({type(exc).__name__})"
        raise GeometryRefused(series_instance_uid, Refusal.UNREADABLE, detail) from exc
    return ImageFile(series_instance_uid, name, path, header, offset, followed or _is_deflated(header))


def _is_deflated(header: Dataset) -> bool:
    return bool(header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian)


def check_pixel_format(file: ImageFile) -> None:
    """Refuse pixels that are not one grey sample of 8, 16 or 32 bits (PS3.3 C.7.6.3)."""
    header, fault = file.header, None
    try:
        bits, stored = int(header.BitsAllocated), int(header.BitsStored)
        if int(header.get("SamplesPerPixel", 1)) != 1:
            fault = f"has {header.SamplesPerPixel} samples per pixel"
        elif header.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
            fault = "has a Photometric Interpretation that is not MONOCHROME1 or MONOCHROME2"
        elif bits not in (8, 16, 32) or not 1 <= stored <= bits or int(header.PixelRepresentation) not in (0, 1):
            fault = f"has {stored} bits stored in {bits}"
        elif int(header.get("HighBit", stored - 1)) != stored - 1:
            fault = f"has High Bit {header.HighBit} for {stored} bits stored"
        elif "ModalityLUTSequence" in header:
            fault = "has a Modality LUT instead of a linear rescale"
    except _READING_FAULTS as exc:
        detail = f"lacks a usable Image Pixel module ({type(exc).__name__})"
        raise file.refused(Refusal.MISSING_ATTRIBUTE, detail) from exc
    if fault:
        raise file.refused(Refusal.UNSUPPORTED_PIXELS, fault)


def decode_frames(file: ImageFile) -> Iterator[NDArray[np.generic]]:
    """Each frame's stored values (j, i), in the order of the file, in the machine's byte order.

    Raises
    ------
    GeometryRefused
        UNREADABLE, if the pixel data are absent, cut short, or cannot be decoded.
    """
    try:
        if _is_deflated(file.header):
            yield from _native(file, dcmread(file.path).PixelData)
        elif file.transfer_syntax.is_encapsulated:
            yield from _decompressed(file)
        else:
            yield from _native(file, None)
    except GeometryRefused:
        raise
    except _DECODING_FAULTS as exc:
        reason = f"{type(exc).__name__}: {' '.join(str(exc).split())[:160]}"
        raise file.refused(Refusal.UNREADABLE, f"has pixel data that cannot be decoded ({reason})") from exc


def _native(file: ImageFile, inflated: bytes | None) -> Iterator[NDArray[np.generic]]:
    """Frames of uncompressed pixel data, from the file or from `inflated` bytes."""
    header = file.header
    dtype = _stored_type(file)
    frame_bytes = int(header.Rows) * int(header.Columns) * dtype.itemsize
    frames = int(header.get("NumberOfFrames", None) or 1)
    with file.path.open("rb") as stream:
        length = len(inflated) if inflated is not None else _seek_pixel_value(file, stream)
        if length < frames * frame_bytes:
            detail = f"holds {length} bytes of pixel data, {frames * frame_bytes} expected"
            raise file.refused(Refusal.UNREADABLE, detail)
        for number in range(frames):
            if inflated is None:
                values = np.fromfile(stream, dtype, frame_bytes // dtype.itemsize)
            else:
                values = np.frombuffer(inflated, dtype, frame_bytes // dtype.itemsize, number * frame_bytes)
            yield _without_unused_bits(header, values.reshape(header.Rows, header.Columns))


def _decompressed(file: ImageFile) -> Iterator[NDArray[np.generic]]:
    """Frames of encapsulated pixel data (PS3.5 A.4)."""
    header, syntax = file.header, file.transfer_syntax
    if syntax not in DECODING_PLUGINS:
        raise file.refused(Refusal.UNREADABLE, f"has transfer syntax {syntax}, which no decoder here reads")
    with file.path.open("rb") as stream:
        if _seek_pixel_value(file, stream) != _UNDEFINED_LENGTH:
            raise file.refused(Refusal.UNREADABLE, "has compressed pixel data that are not encapsulated")
        value = stream.read()
    value = value[: _encapsulated_length(file, value)]
    frames = int(header.get("NumberOfFrames", None) or 1)
    lossless_jpeg.register()
    decoder, options = get_decoder(syntax), _decoding_options(header)
    found = 0
    for frame in generate_frames(value, number_of_frames=frames, extended_offsets=_extended_offsets(header)):
        if found == frames:
            break
        found += 1
        if syntax != RLELossless and _END_OF_CODE_STREAM not in frame[-_TAIL:]:
            raise file.refused(Refusal.UNREADABLE, f"frame {found} is a code stream cut short: no end marker")
        one = encapsulate([frame])
        values, _ = decoder.as_array(one, index=0, raw=True, decoding_plugin=DECODING_PLUGINS[syntax], **options)
        yield values
    if found < frames:
        raise file.refused(Refusal.UNREADABLE, f"holds {found} frames of pixel data, {frames} expected")


def _seek_pixel_value(file: ImageFile, stream: BinaryIO) -> int:
    """Length of the Pixel Data element, with the stream at the start of its value (PS3.5 7.1)."""
    order = ">" if file.transfer_syntax == ExplicitVRBigEndian else "<"
    stream.seek(file.pixel_offset)
    element = stream.read(_ELEMENT_HEADER)
    if len(element) < _ELEMENT_HEADER or struct.unpack(f"{order}HH", element[:4]) != _PIXEL_DATA:
        raise file.refused(Refusal.UNREADABLE, "has no Pixel Data (7FE0,0010)")
    length_field = element[4:] if file.transfer_syntax.is_implicit_VR else stream.read(4)
    length = int(struct.unpack(f"{order}L", length_field)[0])
    if length == _UNDEFINED_LENGTH:
        return length
    there = os.fstat(stream.fileno()).st_size - stream.tell()
    if there < length:
        raise file.refused(Refusal.UNREADABLE, f"is cut short: {there} of {length} bytes of pixel data are there")
    return length


def _encapsulated_length(file: ImageFile, value: bytes) -> int:
    """Bytes up to and with the Sequence Delimitation Item, every item before it whole."""
    position = 0
    while position + _ELEMENT_HEADER <= len(value):
        group, element, length = struct.unpack_from("<HHL", value, position)
        position += _ELEMENT_HEADER
        if (group, element) == _SEQUENCE_DELIMITATION_ITEM:
            return position
        if (group, element) != _ITEM:
            break
        position += length
    raise file.refused(Refusal.UNREADABLE, "is cut short: its encapsulated pixel data have no end")


def _stored_type(file: ImageFile) -> np.dtype[Any]:
    order = ">" if file.transfer_syntax == ExplicitVRBigEndian else "<"
    itemsize = int(file.header.BitsAllocated) // 8
    if order == ">" and itemsize == 1:
        raise file.refused(Refusal.UNSUPPORTED_PIXELS, "has 8-bit pixels in big endian words")
    return np.dtype(f"{order}{'ui'[int(file.header.PixelRepresentation)]}{itemsize}")


def _without_unused_bits(header: Dataset, values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values with the bits above Bits Stored set by the sign (PS3.5 8.1.1: they may hold anything)."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    unused = int(header.BitsAllocated) - int(header.BitsStored)
    if not unused:
        return native
    shifted = np.left_shift(native, unused)
    return np.right_shift(shifted, unused, out=shifted)


def _decoding_options(header: Dataset) -> dict[str, Any]:
    return {
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "samples_per_pixel": 1,
        "photometric_interpretation": str(header.PhotometricInterpretation),
        "bits_allocated": int(header.BitsAllocated),
        "bits_stored": int(header.BitsStored),
        "pixel_representation": int(header.PixelRepresentation),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }


def _extended_offsets(header: Dataset) -> tuple[bytes, bytes] | None:
    if "ExtendedOffsetTable" not in header:
        return None
    return header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths
