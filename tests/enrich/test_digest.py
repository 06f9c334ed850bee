"""The digest of a data set: one for all encodings, another for any change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from voxfleet.enrich.digest import dataset_digest, file_sha256, plain_file_digest
from voxfleet.enrich.encoding.encoded import NotPlain

CANONICAL = [
    "--write-dataset",
    "--write-xfer-implicit",
    "--group-length-remove",
    "--length-undefined",
    "--padding-off",
]
ENCODINGS = {
    "explicit": ["--write-xfer-little"],
    "implicit": ["--write-xfer-implicit"],
    "deflated": ["--write-xfer-deflated"],
    "undefined lengths": ["--length-undefined"],
    "defined lengths": ["--length-explicit"],
    "group lengths": ["--group-length-create"],
    "trailing padding": ["--padding-create", "512", "16"],
}
OBJECTS = [
    "highdicom-test-files/ct_image.dcm",
    "highdicom-test-files/seg_image_ct_binary_overlap.dcm",
    "highdicom-test-files/sr_document_with_multiple_groups.dcm",
]


def _dcmconv(source: Path, target: Path, options: list[str]) -> Path:
    if shutil.which("dcmconv") is None:
        pytest.skip("dcmconv is not there: apt-get install dcmtk")
    subprocess.run(["dcmconv", *options, source, target], check=True)
    return target


def _small() -> Dataset:
    dataset = Dataset()
    dataset.PatientID = "AB1"
    dataset.ReferencedSeriesSequence = [Dataset()]
    dataset.ReferencedSeriesSequence[0].InstanceNumber = 7
    dataset.Rows = 258
    return dataset


def _through_bytes(dataset: Dataset, transfer_syntax: str) -> Dataset:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
    file = BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    file.seek(0)
    return pydicom.dcmread(file)


def test_digest_by_hand() -> None:
    """The digest of a small data set is SHA-256 of its bytes in implicit VR written out by hand (PS3.5 7.1)."""
    canonical = bytes.fromhex(
        "10002000 04000000 41423120"  # (0010,0020) 4 bytes: AB1 and a space
        "08001511 ffffffff"  # (0008,1115) undefined length
        "feff00e0 ffffffff"  # item
        "20001300 02000000 3720"  # (0020,0013) 2 bytes: 7 and a space
        "feff0de0 00000000 feffdde0 00000000"  # end of item, end of sequence
        "28001000 02000000 0201"  # (0028,0010) 258
    )
    # Data elements stand in order of their tags: (0008,1115) is before (0010,0020).
    patient, sequence, rows = canonical[:12], canonical[12:-10], canonical[-10:]
    expected = hashlib.sha256(sequence + patient + rows).hexdigest()
    assert dataset_digest(_small()) == expected


@pytest.mark.parametrize("name", OBJECTS)
def test_digest_is_that_of_dcmtk(shared_data: Path, tmp_path: Path, name: str) -> None:
    """DCMTK writes the canonical encoding: the SHA-256 of its file is our digest."""
    written = _dcmconv(shared_data / name, tmp_path / "canonical", CANONICAL)
    assert dataset_digest(pydicom.dcmread(shared_data / name)) == hashlib.sha256(written.read_bytes()).hexdigest()


@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("name", OBJECTS)
def test_one_digest_for_all_encodings(shared_data: Path, tmp_path: Path, name: str, options: list[str]) -> None:
    """What DCMTK re-encodes without loss keeps its digest."""
    other = _dcmconv(shared_data / name, tmp_path / "other.dcm", options)
    assert dataset_digest(pydicom.dcmread(other)) == dataset_digest(pydicom.dcmread(shared_data / name))


@pytest.mark.parametrize("name", OBJECTS)
def test_reading_elements_changes_nothing(shared_data: Path, name: str) -> None:
    """A data set has the same digest before and after all its elements were decoded."""
    dataset = pydicom.dcmread(shared_data / name)
    before = dataset_digest(dataset)
    for element in dataset.iterall():
        assert element.tag >= 0
    assert dataset_digest(dataset) == before


def test_text_padded_with_nul(shared_data: Path) -> None:
    """Text that ITK padded with NUL instead of a space has the digest of the same text padded by rule."""
    path = next((shared_data / "tiny-chest-ct-cip" / "ct-64Dicom").glob("*.dcm"))
    read, decoded = pydicom.dcmread(path), pydicom.dcmread(path)
    assert read.get_item("AccessionNumber").value.endswith(b"\0")
    assert all(element.tag >= 0 for element in decoded.iterall())
    assert dataset_digest(_through_bytes(decoded, ExplicitVRLittleEndian)) == dataset_digest(read)


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_memory_and_file_agree(transfer_syntax: str) -> None:
    """A data set made in memory has the digest of the same data set read from bytes."""
    assert dataset_digest(_through_bytes(_small(), transfer_syntax)) == dataset_digest(_small())


def test_file_meta_information_does_not_count() -> None:
    """Another writer's name in the file meta information leaves the digest."""
    one, other = _through_bytes(_small(), ExplicitVRLittleEndian), _through_bytes(_small(), ExplicitVRLittleEndian)
    other.file_meta.ImplementationVersionName = "OTHER"
    assert dataset_digest(one) == dataset_digest(other)


def test_every_changed_element_changes_the_digest() -> None:
    """No element of a CT, also within sequences, can be taken away without another digest; all are distinct."""
    path = get_testdata_file("CT_small.dcm")
    digests = {dataset_digest(pydicom.dcmread(path))}
    tags = [tag for tag in pydicom.dcmread(path).keys() if tag.element != 0 and tag != 0xFFFCFFFC]  # noqa: SIM118
    for tag in tags:
        dataset = pydicom.dcmread(path)
        del dataset[tag]
        digests.add(dataset_digest(dataset))
    nested = pydicom.dcmread(path)
    nested.OtherPatientIDsSequence[0].PatientID += "x"
    digests.add(dataset_digest(nested))
    assert len(digests) == len(tags) + 2


@pytest.mark.parametrize("where", [0, 1000, -1])
def test_one_changed_pixel_changes_the_digest(where: int) -> None:
    """One flipped bit in native or compressed pixel data gives another digest."""
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        path = get_testdata_file(name)
        dataset, changed = pydicom.dcmread(path), pydicom.dcmread(path)
        pixels = bytearray(changed.PixelData)
        pixels[where] ^= 1
        changed.PixelData = bytes(pixels)
        assert dataset_digest(changed) != dataset_digest(dataset)


def test_moving_an_item_changes_the_digest() -> None:
    """The same values in other items of a sequence are another data set."""
    one, other = _small(), _small()
    one.ReferencedSeriesSequence.append(Dataset())
    other.ReferencedSeriesSequence.insert(0, Dataset())
    assert dataset_digest(one) != dataset_digest(other)


def test_compressed_pixels_in_memory_and_in_a_file() -> None:
    """Pixel data compressed in memory have the digest of the file written from them."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    file = BytesIO()
    pydicom.dcmwrite(file, dataset)
    file.seek(0)
    assert dataset_digest(pydicom.dcmread(file)) == dataset_digest(dataset)


def test_pixels_in_an_open_file(tmp_path: Path) -> None:
    """Pixel data given as an open file count as the same bytes, and the file stands where it stood."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    expected = dataset_digest(dataset)
    (tmp_path / "pixels").write_bytes(dataset.PixelData)
    with (tmp_path / "pixels").open("rb") as file:
        dataset.PixelData = file
        assert [dataset_digest(dataset), dataset_digest(dataset)] == [expected, expected]


def test_file_sha256(tmp_path: Path) -> None:
    """The digest of a file with ``abc`` is that of FIPS 180-2, B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == expected


def test_a_plain_file_is_digested_from_its_bytes(shared_data: Path, tmp_path: Path) -> None:
    """Digest and texts are those of the data set, for CT, SEG and SR of several makers."""
    made = [get_testdata_file("CT_small.dcm"), *(next(shared_data.glob(f"**/{Path(name).name}")) for name in OBJECTS)]
    for source in made:
        plain = _dcmconv(Path(source), tmp_path / "plain.dcm", ENCODINGS["explicit"])
        dataset = pydicom.dcmread(plain)
        digest, texts = plain_file_digest(plain.read_bytes(), (0x0020000D, 0x00080018))
        assert digest == dataset_digest(dataset)
        assert texts == {0x0020000D: dataset.StudyInstanceUID, 0x00080018: dataset.SOPInstanceUID}


@pytest.mark.parametrize("encoding", ["implicit", "deflated"])
def test_a_file_that_takes_more_than_copying(encoding: str, tmp_path: Path) -> None:
    """Implicit and deflated files, a cut one and one that is no DICOM are left to pydicom."""
    source = Path(get_testdata_file("CT_small.dcm"))
    other = _dcmconv(source, tmp_path / "other.dcm", ENCODINGS[encoding]).read_bytes()
    plain = _dcmconv(source, tmp_path / "plain.dcm", ENCODINGS["explicit"]).read_bytes()
    for data in (other, plain[:-200], plain[:150], b"", b"\0" * 200):
        with pytest.raises(NotPlain):
            plain_file_digest(data, ())
