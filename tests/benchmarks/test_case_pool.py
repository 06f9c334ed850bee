"""Children that score cases: what becomes of a series when one ends by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.benchmarks import case_pool
from voxfleet.benchmarks.case import Candidate, CaseRequest, PictureRequest, Rules
from voxfleet.benchmarks.case_pool import CasePool
from voxfleet.benchmarks.references.reference import Reading
from voxfleet.enrich.archives.archive import SeriesEntry


def request_of(series: str, tmp_path: Path) -> CaseRequest:
    """A series that is not there."""
    rules = Rules(("ref",), Reading(), (1.0,))
    entry = SeriesEntry("1.2", series, "CT", 1)
    scratch, reports = str(tmp_path / "scratch"), str(tmp_path / "sr")
    return CaseRequest(f"dir:{tmp_path}/ct", entry, (Candidate("model", place="p"),), rules, scratch, reports)


def test_crash_is_a_problem_of_its_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every series is answered for, though each child crashes; nothing is kept, so that the command tries again."""
    monkeypatch.setattr(case_pool, "PERFORM", "os:abort")
    pool = CasePool(tmp_path / "cases", "", workers=1)
    found = list(pool.score([request_of("1", tmp_path), request_of("2", tmp_path)], lambda: False))
    assert sorted(each.series_instance_uid for each in found) == ["1", "2"]
    assert all("CRASHED" in {problem.code for problem in each.problems} for each in found)
    assert pool.draw([PictureRequest(request_of("1", tmp_path), "model", "reference", "Liver")]) == [()]
    pool.close()
    assert not list((tmp_path / "cases").iterdir())


def test_image_that_cannot_be_had(tmp_path: Path) -> None:
    """An archive without the series is told of with its code."""
    (tmp_path / "ct").mkdir()
    pool = CasePool(tmp_path / "cases", "", workers=1)
    (case,) = pool.score([request_of("1", tmp_path)], lambda: False)
    pool.close()
    assert [problem.code for problem in case.problems] == ["NOT_THERE"]


def test_stop_begins_nothing(tmp_path: Path) -> None:
    """Once stopped, no series is begun."""
    pool = CasePool(tmp_path / "cases", "", workers=1)
    assert list(pool.score([request_of("1", tmp_path)], lambda: True)) == []
    pool.close()
