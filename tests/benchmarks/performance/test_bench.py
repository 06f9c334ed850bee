"""``make bench`` runs every script, whatever becomes of one; targets stand in the results, and results in the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from voxfleet.benchmarks.performance import harness

ROOT = Path(harness.__file__).parents[2]
SCRIPTS = {each.stem for each in Path(harness.__file__).parent.glob("[a-z]*.py")}
STAND_IN = '#!/bin/sh\necho "$2" >> calls\ncase "$2" in *gpu_throughput) exit 1;; esac\n'
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


def test_one_that_cannot_run_stops_no_other(tmp_path: Path) -> None:
    """Each file of the folder is run; the one that fails, as without a GPU, is named at the end, and make fails."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN.replace("calls", str(tmp_path / "calls")))
    python.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    command = ["make", "-C", ROOT, "bench", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    asked = {line.rpartition(".")[2] for line in (tmp_path / "calls").read_text().splitlines()}
    assert asked == SCRIPTS
    assert "not measured: gpu_throughput\n" in done.stdout
    assert done.returncode != 0


@pytest.mark.parametrize("name", ["totalsegmentator_peer", "whole_series_ours"])
def test_programs_of_other_scripts_do_nothing_alone(name: str) -> None:
    """A program that another script calls ends without a word when `make bench` runs its file."""
    pytest.importorskip("highdicom")
    command = [sys.executable, "-m", f"voxfleet.benchmarks.performance.{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
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
