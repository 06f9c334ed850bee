"""Processes that compute features end with whoever started them, and their death is told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest
from voxfleet.enrich.features.feature_pool import FeatureWorkerDied, Job, compute_all
from voxfleet.enrich.features.feature_worker import Task

pytest.importorskip("radiomics")


def task() -> Task:
    """A cube to measure."""
    image = np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)
    return Task(image, np.ones_like(image, np.uint8), (1.0, 1.0, 1.0), {"featureClass": {"firstorder": ["Mean"]}})


def workers() -> list[psutil.Process]:
    """Processes of the pool."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # another's child, which has ended
            if any("feature_worker" in word for word in each.cmdline()):
                found.append(each)
    return found


def test_answers_come_in_the_order_of_the_jobs() -> None:
    """Values and refusals stand where their jobs stand, and no process is left behind."""
    empty = Task(task().image, np.pad([[[1]]], ((0, 7),) * 3).astype(np.uint8), (1.0, 1.0, 1.0), task().parameters)
    jobs = [Job("cube", task, 1), Job("voxel", lambda: empty, 1), Job("cube", task, 1)]
    first, refused, last = compute_all(jobs, 2, 10)
    assert first == last == {"original_firstorder_Mean": 255.5}
    assert "1 segmented voxel" in refused
    assert workers() == []


def test_what_a_process_raises_is_raised_here() -> None:
    """An error that is no refusal ends the work."""
    broken = Task(task().image, np.ones((2, 2, 2), np.uint8), (1.0, 1.0, 1.0), {"featureClass": {"none": []}})
    with pytest.raises(ValueError, match="none is not recognized"):
        compute_all([Job("broken", lambda: broken, 1)], 1, 10)
    assert workers() == []


def test_a_process_that_dies_is_told() -> None:
    """The segment is named, and how the process ended."""

    def deadly() -> Task:
        for each in workers():
            each.kill()
        return task()

    with pytest.raises(FeatureWorkerDied, match=r"left lung: .* ended with -9"):
        compute_all([Job("left lung", deadly, 1)], 1, 10)


def test_room_is_kept() -> None:
    """Tasks that together are too large for the room are computed one after the other."""
    inside, most, lock = 0, 0, threading.Lock()

    def cut() -> Task:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return task()

    compute_all([Job("large", cut, 6)] * 4, 2, 10)
    assert most == 1


def test_processes_end_with_a_killed_parent() -> None:
    """SIGKILL of the parent leaves no process of the pool behind."""
    script = (
        "import sys, time\n"
        "from voxfleet.enrich.features.feature_pool import Job, compute_all\n"
        "def cut():\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
        "compute_all([Job('x', cut, 1)], 1, 10)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
