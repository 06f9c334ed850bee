"""A ledger made again from an archive takes what is whole there, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.results.rebuild import rebuild
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.identity import derived_uid
from voxfleet.runners.workitem import Workitem


def cut(content: bytes) -> bytes:
    """Without its last pixels."""
    return content[:-7]


def overwritten(content: bytes) -> bytes:
    """Nothing of the data set is left."""
    return content[:400] + b"\xff" * (len(content) - 400)


@pytest.mark.parametrize("spoil", [None, cut, overwritten])
def test_only_whole_results_are_taken(
    ct_slices: Callable[[int], list[Dataset]], tmp_path: Path, spoil: Callable[[bytes], bytes] | None
) -> None:
    """Two objects under the UIDs of a workitem are its results, with their digests; with one damaged it is to do."""
    archive = open_archive(f"dir:{tmp_path / 'out'}")
    work = Workitem("1.2", "1.2.3", "CT", 1, "dir:/in", archive.uri, "toy", "1.0", "none")
    results = [dataset for _ in range(2) for dataset in ct_slices(1)]
    for dataset, kind in zip(results, ("seg", "sr"), strict=True):
        dataset.SeriesInstanceUID = derived_uid(work.key, f"{kind}.series")
        dataset.SOPInstanceUID = derived_uid(work.key, f"{kind}.instance")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = Path(archive.store(dataset).uri.partition(":")[2])
    if spoil is not None:
        path.write_bytes(spoil(path.read_bytes()))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.create_run(Run("r", "dir:/in", archive.uri, ("toy 1.0",), {}, "0", "local", datetime.now(UTC)))
    ledger.add([work])
    whole = spoil is None
    assert rebuild(ledger, archive, lambda _: None) == int(whole)
    assert (ledger.counts().completed, ledger.counts().open) == ((1, 0) if whole else (0, 1))
    held = [each.object.sha256 for each in ledger.stored()]
    assert held == ([dataset_digest(each) for each in results] if whole else [])
    ledger.close()
