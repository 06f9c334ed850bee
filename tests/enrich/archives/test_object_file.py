"""Objects in files: digested and encoded without their pixels in memory, as if they were."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian
from voxfleet.enrich.archives import object_file, storing
from voxfleet.enrich.archives.header import DAMAGE
from voxfleet.enrich.archives.object_file import CutObject, object_digest, opened
from voxfleet.enrich.digest import dataset_digest

OBJECTS = [
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "JPEG2000.dcm",
    "SC_rgb_small_odd.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
]


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixel data from 64 bytes on stay in their file."""
    for module in (object_file, storing):
        monkeypatch.setattr(module, "LARGE_BYTES", 64)


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_in_a_file_is_that_in_memory(name: str) -> None:
    """Native, compressed, big-endian, implicit and deflated objects have the digest that they have in memory."""
    path = Path(get_testdata_file(name))
    assert object_digest(path) == dataset_digest(pydicom.dcmread(path))


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_encoded_from_its_file(name: str, tmp_path: Path) -> None:
    """Encoded from the file, or from memory piece by piece, it is the file that pydicom writes."""
    path, by_pydicom = Path(get_testdata_file(name)), tmp_path / "pydicom"
    pydicom.dcmwrite(by_pydicom, pydicom.dcmread(path), enforce_file_format=True)
    with opened(path) as dataset, (tmp_path / "file").open("wb") as file:
        storing.encode(dataset, file)
        storing.encode(dataset, file)
        assert file.tell() == 2 * by_pydicom.stat().st_size
    with (tmp_path / "memory").open("wb") as file:
        storing.encode(pydicom.dcmread(path), file)
    assert (tmp_path / "file").read_bytes() == 2 * by_pydicom.read_bytes()
    assert (tmp_path / "memory").read_bytes() == by_pydicom.read_bytes()


def test_pixel_data_stay_in_the_file() -> None:
    """The pixels of an open object are a buffer, whose bytes are the pixels; other elements are as ever."""
    path = Path(get_testdata_file("CT_small.dcm"))
    whole = pydicom.dcmread(path)
    with opened(path) as dataset:
        pixels = dataset["PixelData"].value
        assert not isinstance(pixels, bytes)
        assert pixels.read() == whole.PixelData
        assert dataset.PatientID == whole.PatientID


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "test-SR.dcm", "image_dfl.dcm"])
@pytest.mark.parametrize("missing", [10, 100, 400])
@pytest.mark.parametrize("large_bytes", [64, 1 << 30])
@pytest.mark.filterwarnings("ignore")
def test_a_cut_object(
    name: str, missing: int, large_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that ends within its last element is never taken for whole, wherever its pixels are."""
    monkeypatch.setattr(object_file, "LARGE_BYTES", large_bytes)
    dataset = pydicom.dcmread(get_testdata_file(name))
    dataset.pop(0xFFFCFFFC, None)
    pydicom.dcmwrite(tmp_path / name, dataset)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) - missing])
    with pytest.raises(DAMAGE):
        object_digest(tmp_path / name)


def test_a_cut_within_the_pixels_is_named(tmp_path: Path) -> None:
    """The error names the element in which the object ends."""
    path, dataset = tmp_path / "cut.dcm", pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.pop(0xFFFCFFFC)
    pydicom.dcmwrite(path, dataset)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CutObject, match=r"cut within \(7FE0,0010\)"):
        object_digest(path)


def test_fragments_of_undefined_length(tmp_path: Path) -> None:
    """Pixel data that are not made of items as the standard has it are read as pydicom reads them."""
    dataset = pydicom.dcmread(get_testdata_file("JPEG2000.dcm"))
    dataset.PixelData = encapsulate([b"\xff" * 200])
    path = tmp_path / "odd.dcm"
    pydicom.dcmwrite(path, dataset)
    content = path.read_bytes()
    at = content.rindex(b"\xfe\xff\x00\xe0")
    path.write_bytes(content[:at] + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content[at + 8 :])
    assert object_digest(path) == dataset_digest(pydicom.dcmread(path))


def test_a_deflated_object_is_read_whole(tmp_path: Path) -> None:
    """What has to be inflated is in memory: its pixels are bytes."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "deflated.dcm", dataset)
    with opened(tmp_path / "deflated.dcm") as found:
        assert found.PixelData == dataset.PixelData
