"""Whatever a stage raises is a recorded failure, with the code that it should have."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from voxfleet.enrich.archives.archive import NoSpace, RetrieveError
from voxfleet.models.memory import OutOfMemory
from voxfleet.runners import run
from voxfleet.runners.request import Request, StageSettings
from voxfleet.runners.workitem import Workitem

ITEM = Workitem("1", "1.2", "CT", 1, "dir:none", "dir:none", "none", "1", "none")


def failure_of(error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str = "segment"):
    """What is recorded where a stage raises an error."""

    def segment(workitem, settings, meter):
        with meter.measure(stage):
            raise error

    monkeypatch.setitem(run.LANES, "segment", segment)
    answer = run.perform(Request("segment", ITEM, StageSettings(tmp_path, tmp_path, "node")))
    assert [used.stage for used in answer.consumption] == [stage]
    return answer.failure


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 45.9 MiB"),
        OutOfMemory("a-network", "too many classes"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["numpy", "ladder", "torch-cpu", "cublas", "torch-cuda"],
)
def test_memory_that_ran_out(error, monkeypatch, tmp_path):
    """Lack of memory has one code, whoever says it: it is not tried again here, a bigger machine may."""
    failure = failure_of(error, monkeypatch, tmp_path)
    assert (failure.stage, failure.code, failure.retryable, failure.refused) == (
        "segment",
        "OUT_OF_MEMORY",
        False,
        False,
    )
    assert failure.message


def test_other_errors_keep_their_names(monkeypatch, tmp_path):
    """An error of a library that is no lack of memory is recorded by its own name; an exit is one too."""
    assert failure_of(RuntimeError("illegal address"), monkeypatch, tmp_path).code == "RuntimeError"
    assert failure_of(SystemExit(2), monkeypatch, tmp_path).code == "SystemExit"


def full_disk() -> OSError:
    """What a write to a full disk raises."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_of_the_machine_is_not_the_series_fault(monkeypatch, tmp_path):
    """Also where an archive's error tells of it: lost, and nothing for this machine to go on with."""
    retrieving = RetrieveError("dicomweb+https://host", "1.2", "cannot be written")
    retrieving.__cause__ = full_disk()
    for error in (full_disk(), retrieving):
        failure = failure_of(error, monkeypatch, tmp_path)
        assert (failure.code, failure.lost, failure.outage, failure.of_the_machine) == ("NO_SPACE", True, False, True)


def test_a_full_disk_of_the_archive_is_told_by_the_archive(monkeypatch, tmp_path):
    """While results are stored it is the archive that has no space: this machine is well."""
    error = NoSpace("dir:/archive", "1.2", "No space left on device")
    error.__cause__ = full_disk()
    failure = failure_of(error, monkeypatch, tmp_path, stage="store")
    assert (failure.code, failure.lost, failure.of_the_machine) == ("NO_SPACE", False, False)


def test_what_is_gone_from_the_local_cache_is_lost(monkeypatch, tmp_path):
    """Somebody tidied up: the series is tried again. A file that is missing elsewhere fails by its own name."""
    for name, lost in ((tmp_path / "node-1" / "image.pickle", True), (Path("/models/weights.pt"), False)):
        failure = failure_of(FileNotFoundError(errno.ENOENT, "gone", str(name)), monkeypatch, tmp_path)
        assert (failure.code, failure.lost, failure.of_the_machine) == ("ENOENT", lost, False)
