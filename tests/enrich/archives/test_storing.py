"""The sequence by which every archive stores: look, send if absent, read back, compare."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from voxfleet.enrich.archives.archive import ArchiveError, ReadBackDiffers, StoreConflict, StoreError, StoreRefused
from voxfleet.enrich.archives.storing import prepared, store_if_absent, unencodable
from voxfleet.enrich.archives.uids import ObjectUids
from voxfleet.enrich.digest import dataset_digest

UIDS = ObjectUids("1.2.1", "1.2.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.2")


@pytest.mark.parametrize(
    ("before", "sent", "after", "expected"),
    [
        (None, True, "ours", False),
        ("ours", None, None, True),
        (None, False, "ours", True),  # another writer was first, with the same object
        ("other", None, None, StoreConflict),
        (None, False, "other", StoreConflict),
        (None, True, "other", ReadBackDiffers),
        (None, True, None, StoreError),
        (None, False, None, StoreError),
        ("", None, None, StoreConflict),  # there is something, and it is no object
    ],
)
def test_what_comes_back_decides(
    before: str | None, sent: bool | None, after: str | None, expected: bool | type[ArchiveError]
) -> None:
    """Whatever the archive says about a store, only what it holds before and after it counts."""
    found, sends = [before, after], []

    def send() -> bool:
        sends.append(sent)
        return bool(sent)

    def store() -> bool:
        return store_if_absent("x:", UIDS, "ours", lambda: found.pop(0), send)

    if isinstance(expected, bool):
        assert store() is expected
    else:
        with pytest.raises(expected, match=UIDS.sop_instance_uid) as caught:
            store()
        assert type(caught.value) is expected
    assert len(sends) == (sent is not None)


def test_an_object_is_prepared_and_removed(ct_slices: Callable[..., list[Dataset]]) -> None:
    """Prepared, an object lies in a file with the size and the digest that are told; then the file is gone."""
    (dataset,) = ct_slices(1)
    with prepared(dataset, "x:") as outgoing:
        assert outgoing.bytes == outgoing.path.stat().st_size
        assert outgoing.digest == dataset_digest(dataset) == dataset_digest(pydicom.dcmread(outgoing.path))
    assert not outgoing.path.exists()


def test_an_object_that_cannot_be_encoded(ct_slices: Callable[..., list[Dataset]]) -> None:
    """An object that pydicom cannot write is refused, with what it says."""
    (dataset,) = ct_slices(1)
    dataset.add_new(0x00020016, "AE", "no place for it")
    with pytest.raises(StoreRefused, match="cannot be encoded: File Meta"), prepared(dataset, "x:"):
        pass


def test_a_value_that_cannot_be_encoded(ct_slices: Callable[..., list[Dataset]]) -> None:
    """Where a value is at fault its element is named (0010,1010 is Patient's Age) and the value is not."""
    (dataset,) = ct_slices(1)
    dataset["PatientAge"]._value = {"M4rk": "M4rk"}
    with pytest.raises(TypeError) as caught:
        pydicom.dcmwrite(BytesIO(), dataset)
    assert unencodable(caught.value) == "cannot be encoded: TypeError at (0010,1010)"
    assert unencodable(ValueError("with (0028,0010) US:\n'M4rk'")) == "cannot be encoded: ValueError at (0028,0010)"


def test_no_room_here(ct_slices: Callable[..., list[Dataset]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine has no room for the encoded object, that is said, and may pass."""
    (dataset,) = ct_slices(1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom, "dcmwrite", full)
    refused = pytest.raises(StoreError, match="cannot be written here: No space left on device")
    with refused as caught, prepared(dataset, "x:"):
        pass
    assert caught.value.retryable


def test_no_scratch_folder(
    ct_slices: Callable[..., list[Dataset]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no scratch folder can be made the object is not stored, which may pass; it is an error of ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    (dataset,) = ct_slices(1)
    with pytest.raises(StoreError, match="cannot be written here") as caught, prepared(dataset, "x:"):
        pass
    assert caught.value.retryable
