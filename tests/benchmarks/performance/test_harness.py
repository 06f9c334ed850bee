"""Ratios, medians and rounds by hand, and what a file of results holds."""

from __future__ import annotations

import json

import pytest
from voxfleet.benchmarks.performance import harness
from voxfleet.benchmarks.performance.harness import Took, cpu_row, median_of, paired, publish

FIELDS = {"name", "peer", "peer_version", "ours_s", "peer_s", "ratio", "target", "met"}


@pytest.mark.parametrize(
    ("ours", "theirs", "target", "ratio", "met"),
    [(2.0, 7.0, 3.0, 3.5, True), (2.0, 5.0, 3.0, 2.5, False), (4.0, 2.0, None, 0.5, None)],
)
def test_a_ratio_is_peer_over_ours(ours, theirs, target, ratio, met):
    """CPU seconds are compared, wall seconds stand beside them; a row without target is neither met nor missed."""
    row = cpu_row("work", ("peer", "1.0"), Took(9.0, ours), Took(8.0, theirs), target)
    assert (row.ratio, row.met, row.ours_s, row.peer_s) == (ratio, met, ours, theirs)
    assert (row.ours_wall_s, row.peer_wall_s) == (9.0, 8.0)


def test_medians():
    """Wall and CPU seconds have medians of their own."""
    assert median_of([Took(1, 30), Took(2, 10), Took(9, 20)]) == Took(2, 20)


def test_pairs_run_turn_about():
    """Each call runs once in each round, and the first round counts for nothing."""
    calls = []
    runs = paired([lambda: calls.append("ours"), lambda: calls.append("theirs")], rounds=2)
    assert calls == ["ours", "theirs"] * 3
    assert len(runs) == 2


def test_results_name_rows_and_machine(tmp_path, monkeypatch, capsys):
    """The file of results holds each row with its peer's version and target, and the machine; the table is printed."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    row = cpu_row("work", ("peer", "1.0"), Took(1, 1), Took(4, 4), 3.0)
    publish("work", "Work", [row], {"rounds": 3})
    document = json.loads((tmp_path / "results" / "work.json").read_text())
    assert document["rows"][0].keys() >= FIELDS
    assert (document["rows"][0]["ratio"], document["rows"][0]["met"], document["rounds"]) == (4, True, 3)
    assert {"system", "processor", "python", "cpus"} <= document["machine"].keys()
    assert "peer 1.0" in capsys.readouterr().out


def test_committed_results_have_every_field():
    """Every row of a comparison in benchmarks/results can be held against its target, on a named machine."""
    documents = {path.name: json.loads(path.read_text()) for path in sorted(harness.RESULTS.glob("*.json"))}
    compared = {name: document for name, document in documents.items() if "rows" in document}
    assert compared
    for name, document in compared.items():
        assert "machine" in document, name
        assert all(row.keys() >= FIELDS for row in document["rows"]), name
