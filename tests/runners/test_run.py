"""Whatever a stage raises is a recorded failure, with the code that it should have."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.models.memory import OutOfMemory
from voxfleet.runners import run
from voxfleet.runners.request import Request, StageSettings
from voxfleet.runners.workitem import Workitem

ITEM = Workitem("1", "1.2", "CT", 1, "dir:none", "dir:none", "none", "1", "none")


def failure_of(error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What is recorded where the model raises an error."""

    def segment(workitem, settings, meter):
        with meter.measure("segment"):
            raise error

    monkeypatch.setitem(run.LANES, "segment", segment)
    answer = run.perform(Request("segment", ITEM, StageSettings(tmp_path, tmp_path, "node")))
    assert [used.stage for used in answer.consumption] == ["segment"]
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
