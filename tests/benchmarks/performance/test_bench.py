"""``make bench`` runs every script, whatever becomes of one; targets stand in the results, and results in the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from voxfleet.benchmarks.performance import harness, summary
from voxfleet.benchmarks.performance.figures import Figure, publish_figures

ROOT = Path(harness.__file__).parents[2]
SCRIPTS = {each.stem for each in Path(harness.__file__).parent.glob("[a-z]*.py")}
STAND_IN = '#!/bin/sh\nshift; echo "$@" >> calls\ncase "$1" in *gpu_throughput) exit 1;; esac\n'
TARGETS = {
    # File of results: what each row is held against, in order; rows without a target are left out.
    "radiomics": (250, 600),
    "seg_write": (3, 2),
    "seg_read": (4,),
    "sr_write": (5, 1),
    "volume_read": (2, 1 / 1.5) * 3,
    "whole_series": (30,),
}
LIMITS = {"seg_write": [(3, "%")], "whole_series": [(1500, "MB"), (4000, "MB")], "metrics": [(60, "s"), (60, "s")]}


def results_of(name: str) -> dict:
    """A committed file of results."""
    return json.loads((harness.RESULTS / f"{name}.json").read_text())


def bench(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """`make bench` where every script succeeds but one; and what was run, each with its arguments."""
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN.replace("calls", str(folder / "calls")))
    python.chmod(0o755)
    (folder / "venv" / ".installed").touch()
    command = ["make", "-C", ROOT, "bench", f"VENV={folder / 'venv'}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    runs = [line.rpartition("performance.")[2].split() for line in (folder / "calls").read_text().splitlines()]
    return done, runs


def test_one_that_cannot_run_stops_no_other(tmp_path: Path) -> None:
    """Each file of the folder is run; the one that fails, as without a GPU, is named at the end, and make fails."""
    done, runs = bench(tmp_path)
    assert {script for script, *_ in runs} == SCRIPTS
    assert "not measured: gpu_throughput\n" in done.stdout
    assert done.returncode != 0


def test_what_was_measured_is_shown_together(tmp_path: Path) -> None:
    """Several names are run in one command, and those that succeeded shown in one table at its end."""
    done, runs = bench(tmp_path, "NAME=seg_write gpu_throughput sr_write")
    assert runs == [["seg_write"], ["gpu_throughput"], ["sr_write"], ["summary", "seg_write", "sr_write"]]
    assert done.returncode != 0


def test_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and figures of the named files, those that are not asked for or do not exist left out."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    slow, fast = (harness.row(name, ("peer", "1.2"), ours, 6.0, 3.0) for name, ours in (("slow", 4.0), ("fast", 1.0)))
    harness.write_results("one", {"rows": [asdict(slow) | {"more": 1}, asdict(fast)]})
    publish_figures("two", "Two", [Figure("memory", 1234.5, "MB", 2000)])
    harness.write_results("three", {"rows": [asdict(harness.row("other", ("peer", "1"), 1, 1, 1))]})
    capsys.readouterr()
    summary.main(["one", "two", "claims"])
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if "│" in line]
    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines] == [
        ["slow", "peer 1.2", "4.000", "6.000", "1.50", "3", "no"],
        ["fast", "peer 1.2", "1.000", "6.000", "6.00", "3", "yes"],
        ["memory", "1,234", "MB", "<= 2000", "yes", ""],
    ]
    assert "2 of 3 targets met" in shown
    summary.main([])
    assert "3 of 4 targets met" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["totalsegmentator_peer", "whole_series_ours"])
def test_programs_of_other_scripts_do_nothing_alone(name: str) -> None:
    """A program that another script calls ends without a word when `make bench` runs its file."""
    pytest.importorskip("highdicom")
    command = [sys.executable, "-m", f"voxfleet.benchmarks.performance.{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout == ""


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_row(name: str) -> None:
    """Each speed that is aimed at is a row with its target, and `met` says what the ratio says."""
    rows = [row for row in results_of(name)["rows"] if row["target"] is not None]
    assert [row["target"] for row in rows] == pytest.approx(TARGETS[name])
    assert all(row["met"] == (row["peer_s"] / row["ours_s"] >= row["target"]) for row in rows)


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_has_a_figure(name: str) -> None:
    """Each size, memory and time that is not to be exceeded is a figure with its limit."""
    figures = results_of(name)["figures"]
    assert [(each["target"], each["unit"]) for each in figures] == LIMITS[name]
    assert all(each["met"] == (each["value"] <= each["target"]) for each in figures)


def test_sizes_of_the_page_are_those_measured() -> None:
    """SEG.md gives the sizes of the last run, in MB and in per cent of the plain file."""
    sizes = results_of("seg_write")["file_bytes"]
    binary, deflated, labelmap = (sizes[f"ours {kind}"] for kind in ("binary", "deflated", "labelmap"))
    page = (ROOT / "enrich" / "SEG.md").read_text()
    assert f"| {binary / 1e6:.0f} MB |" in page
    assert f"| {deflated / 1e6:.1f} MB ({100 * deflated / binary:.2f} %) |" in page
    assert f"| {labelmap / 1e6:.1f} MB ({100 * labelmap / binary:.1f} %) |" in page


def test_ratios_of_the_page_are_those_measured() -> None:
    """RADIOMICS.md gives the seconds and ratios of the last run, to a fifth: runs differ by a tenth."""
    page = (ROOT / "enrich" / "RADIOMICS.md").read_text()
    table = re.findall(r"^\| (?:on boxes|from files).*?\| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    told = [[float(cell.replace(",", "")) for cell in row] for row in table]
    measured = [[row["peer_s"], row["ours_s"], row["ratio"]] for row in results_of("radiomics")["rows"]]
    assert told == [pytest.approx(row, rel=0.2) for row in measured]
