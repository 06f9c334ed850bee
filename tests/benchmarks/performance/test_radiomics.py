"""How the rounds of the radiomics benchmark are run and summed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("radiomics")
from voxfleet.benchmarks.performance import radiomics
from voxfleet.benchmarks.performance.harness import Took, ValuesDiffer
from voxfleet.benchmarks.performance.radiomics import Timed, check_equal, middling, run_rounds, with_files
from voxfleet.enrich.features.feature_codes import RADIOMICS
from voxfleet.enrich.measurement import Measured, Measurement


def timed(*cpu_s):
    """Runs that took these seconds."""
    return Timed(dict, [Took(seconds, seconds) for seconds in cpu_s])


def test_long_calls_run_once(monkeypatch):
    """What takes over the limit in the first round is left out of the others."""
    seconds = {"short": 1.0, "long": 9.0}
    monkeypatch.setattr(radiomics, "took", lambda call: Took(0, seconds[called(call)]))
    names = []

    def called(call):
        call()
        return names[-1]

    calls = [Timed(lambda name=name: names.append(name)) for name in seconds]
    run_rounds(calls, rounds=3, long_s=5)
    assert names == ["short", "long", "short", "short"]
    assert [len(each.runs) for each in calls] == [3, 1]


def test_files_of_some_stand_for_all():
    """What one structure takes more from files, 2 - 1 s, is added for both: 1 + 3 + 2 * 1 = 6 s."""
    boxes = {1: timed(1.0), 2: timed(3.0)}
    read, how = with_files(boxes, {1: timed(1.5, 2.0, 2.5)})
    assert read.cpu_s == 6.0
    assert "times 2/1" in how


def test_files_of_all_need_no_estimate():
    """Where every structure was read from files, their own sum counts."""
    boxes = {1: timed(1.0), 2: timed(3.0)}
    assert with_files(boxes, {1: timed(2.0), 2: timed(5.0)}) == (Took(7.0, 7.0), "every structure")


def test_middling_structures():
    """Structures are taken from the middle of the sizes, absent ones never."""
    counts = np.array([999, 0, 50, 10, 40, 20, 30])  # by size: 3, 5, 6, 4, 2
    assert middling(counts, 2) == [5, 6]  # places 0.2 * 4 = 0.8 and 0.6 * 4 = 2.4


def test_unequal_values_end_the_run():
    """A value off by more than 1e-6 is refused, and so is one that is missing."""
    first, second = (Measurement(1, each.name, 5.0, each.concept, each.unit) for each in RADIOMICS[:2])
    off = Measurement(1, first.name, 5.0001, first.concept, first.unit)
    check_equal(Measured((first, second)), Measured((first, second)))
    for other in (Measured((off, second)), Measured((second,))):
        with pytest.raises(ValuesDiffer):
            check_equal(other, Measured((first, second)))
