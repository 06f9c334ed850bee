"""What happens to a series stored together where the archive fails or gives back something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from voxfleet.enrich.archives import together
from voxfleet.enrich.archives.archive import (
    AccessDenied,
    ArchiveError,
    NoSpace,
    SeriesEntry,
    StoreError,
    StoreRefused,
)
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.storing import Outgoing
from voxfleet.enrich.archives.together import SENDERS, given_back, side_by_side
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.series import Series


@pytest.fixture
def series(ct_slices: Callable[..., list[Dataset]], tmp_path: Path) -> Series:
    """Twenty instances in a folder."""
    for number, each in enumerate(ct_slices(20)):
        each.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    archive = open_archive(str(tmp_path))
    (entry,) = (each for each in archive.search() if isinstance(each, SeriesEntry))
    return archive.retrieve(entry, tmp_path)


@pytest.mark.parametrize(
    ("error", "most"), [(StoreError("there", "1.2", "gone"), SENDERS), (StoreRefused("there", "1.2", "no"), 20)]
)
def test_a_fault_that_may_pass_ends_it(series: Series, error: StoreError, most: int) -> None:
    """An archive that is gone is asked by each sender once at most; one that refuses is asked for each instance."""
    asked = []

    def send(outgoing: Outgoing) -> None:
        asked.append(outgoing)
        raise error

    assert side_by_side(series, "there", send) == []
    assert len(asked) <= most
    assert error.retryable or len(asked) == most


@pytest.mark.parametrize("error", [NoSpace("there", "1.2", "full"), AccessDenied("there", "1.2", "no")])
def test_a_full_archive_ends_it(series: Series, error: ArchiveError, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space and no access are raised, and no sender sends another, however late who waits for them looks."""

    class Unwatched(ThreadPoolExecutor):
        def map(self, *args: Any, **options: Any) -> Iterator[Any]:
            outcomes = super().map(*args, **options)
            self.shutdown()  # waits until all is done
            return outcomes

    asked = []

    def send(outgoing: Outgoing) -> None:
        asked.append(outgoing)
        raise error

    monkeypatch.setattr(together, "ThreadPoolExecutor", Unwatched)
    with pytest.raises(type(error)):
        side_by_side(series, "there", send)
    assert 1 <= len(asked) <= SENDERS


def test_only_what_is_equal_counts(series: Series, ct_slices: Callable[..., list[Dataset]], tmp_path: Path) -> None:
    """Same bytes and another encoding count; another value, another object and a cut file do not; all files go."""
    outgoing = side_by_side(series, "there", lambda _: None)
    assert {each.digest for each in outgoing} == {dataset_digest(dcmread(each.path)) for each in outgoing}
    back = tmp_path / "back"
    back.mkdir()
    same, encoded, changed, cut, *_ = series.instances
    (back / "same").write_bytes(same.path.read_bytes())
    dataset = dcmread(encoded.path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(back / "encoded", implicit_vr=True, little_endian=True)
    dataset = dcmread(changed.path)
    dataset.PatientComments = "changed"
    dataset.save_as(back / "changed")
    (back / "cut").write_bytes(cut.path.read_bytes()[:-100])
    ct_slices(1)[0].save_as(back / "stranger", enforce_file_format=True)
    found = [each.uids.sop_instance_uid for each in given_back(series, outgoing, sorted(back.iterdir()))]
    assert sorted(found) == sorted([same.sop_instance_uid, encoded.sop_instance_uid])
    assert list(back.iterdir()) == []
