"""Encoded sequences and RLE of ours, held against pydicom's own."""

from __future__ import annotations

import copy
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.pixels.decoders import RLELosslessDecoder
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.encoding.encoded import NotPlain, Span, code_sequence, elements_of, items_of
from voxfleet.enrich.encoding.functional_groups import frame_count, frame_places
from voxfleet.enrich.encoding.rle import decode_rle, encode_rle
from voxfleet.enrich.radiomics import measure
from voxfleet.enrich.seg import encode_seg
from voxfleet.enrich.sr import encode_sr

FRAMES = Tag("PerFrameFunctionalGroupsSequence")
CONTENT = Tag("ContentSequence")


@pytest.fixture
def products(phantom_source, case_of) -> tuple[Dataset, Dataset]:
    """SEG and SR of a phantom, two segments overlapping."""
    case = case_of(phantom_source, overlapping=True)
    seg = encode_seg(case.source, case.segmentation, case.producer)
    measured = measure(case.source.volume, case.segmentation)
    return seg, encode_sr(case.source, seg, case.segmentation, measured, case.producer)


def written(dataset: Dataset) -> bytes:
    """The file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decoded(dataset: Dataset) -> Dataset:
    """A copy of which pydicom has read every element, and so encodes every one itself."""
    result = dcmread(BytesIO(written(dataset)))
    for _ in result.iterall():
        pass
    result.set_original_encoding(None, None, None)
    return result


@pytest.mark.parametrize("which", [0, 1])
def test_as_pydicom_writes_it(products, which: int) -> None:
    """SEG and SR are byte by byte what pydicom writes when it encodes every element itself."""
    assert written(products[which]) == written(decoded(products[which]))


@pytest.mark.parametrize("which", [0, 1])
def test_digest_does_not_depend_on_who_reads(products, which: int) -> None:
    """The digest is the same whether sequences are still encoded or were read by pydicom."""
    dataset = dcmread(BytesIO(written(products[which])))
    assert isinstance(dataset.get_item(FRAMES if which == 0 else CONTENT), RawDataElement)
    assert dataset_digest(dataset) == dataset_digest(decoded(dataset))


def test_places_do_not_depend_on_who_reads(products) -> None:
    """Segment and position of every frame are the same from encoded groups and from pydicom's."""
    plain, read = dcmread(BytesIO(written(products[0]))), decoded(products[0])
    assert frame_count(plain) == frame_count(read) == read.NumberOfFrames
    for one, other in zip(frame_places(plain), frame_places(read), strict=True):
        assert one.number == other.number
        assert one.position.tolist() == other.position.tolist()


def test_shared_segment_is_found(products) -> None:
    """A SEG that names its only segment in the shared groups is read so."""
    dataset = decoded(products[0])
    identification = dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence
    dataset.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence = copy.deepcopy(identification)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.SegmentIdentificationSequence
    number = identification[0].ReferencedSegmentNumber
    for each in (dataset, dcmread(BytesIO(written(dataset)))):
        assert {place.number for place in frame_places(each)} == {number}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_cut_short_is_not_plain(products, cut: int) -> None:
    """A sequence that ends too early is not walked to a wrong end."""
    value = products[0].get_item(FRAMES).value[:-cut]
    with pytest.raises(NotPlain):
        list(items_of(value))
    first = next(items_of(value))
    with pytest.raises(NotPlain):
        list(elements_of(value, Span(first.tag, first.vr, first.start, first.end - cut)))


def test_codes_with_one_value_keep_their_meanings() -> None:
    """Codes that pydicom holds for equal are encoded each with its own meaning."""
    one, other = (code_sequence(0x0040A168, Code("1", "99X", meaning)) for meaning in ("One", "Other"))
    assert b"One " in one
    assert b"Other " in other


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 6), st.integers(1, 300)),
        elements=st.integers(0, 255) | st.just(7),
        fill=st.just(7),
    )
)
def test_rle_is_decoded_by_pydicom(plane: np.ndarray) -> None:
    """Every frame comes back from pydicom's decoder, in rows shorter and longer than a packet."""
    bits = 8 * plane.dtype.itemsize
    frame = encode_rle(plane)
    assert len(frame) % 2 == 0
    options = {"rows": plane.shape[0], "columns": plane.shape[1], "bits_allocated": bits, "bits_stored": bits}
    grey = {"samples_per_pixel": 1, "number_of_frames": 1, "pixel_representation": 0, "pixel_keyword": "PixelData"}
    data = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + len(frame).to_bytes(4, "little") + frame
    values, _ = RLELosslessDecoder.as_array(
        data, index=0, photometric_interpretation="MONOCHROME2", decoding_plugin="pydicom", **options, **grey
    )
    np.testing.assert_array_equal(values.reshape(plane.shape), plane)
    np.testing.assert_array_equal(decode_rle(frame, plane.shape, bits), plane)
