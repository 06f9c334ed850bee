"""Plan, run, bill: real series at a toy price, on this machine and on Ray, as a user does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

pytestmark = [pytest.mark.slow]

SERIES = 5
TOY = """
[[price]]
machine = "toy"
market = "owned"
usd_per_hour = "3.60"
cpu_cores = 2
source = "a toy: a tenth of a cent a second"
dated = 2026-11-21
"""


def voxfleet(folder: Path, *words: str) -> str:
    """What a command printed; it ends well."""
    done = subprocess.run(
        [sys.executable, "-m", "voxfleet", *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small CTs, a toy price and the plan of the run, made from a pilot."""
    folder = tmp_path_factory.mktemp("cost")
    for seed in range(SERIES):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=seed)
        write_ct_series(phantom.volume, folder / "in" / str(seed), identity=CtIdentity.named(f"cost-{seed}"))
    (folder / "toy.toml").write_text(TOY)
    words = ("--pilot", "3", "--machine", "toy", "--prices", "toy.toml", "--max-nodes", "1", "--json")
    (folder / "plan.json").write_text(voxfleet(folder, "plan", "in", "--model", "ct-threshold", *words))
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("on", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_planned_run_is_accounted_for_to_the_last_digit(planned: Path, on: str) -> None:
    """Every dollar in one line to 1e-6; the plan kept with the run beside it; the page says both."""
    words = ("--machine", "toy", "--prices", "toy.toml", "--plan", "plan.json", "--on", on)
    voxfleet(planned, "enrich", "in", "-m", "ct-threshold", "--to", f"dir:{on}-out", "--run", on, *words)
    found = json.loads(voxfleet(planned, "cost", on, "--prices", "toy.toml", "--json", "--html", f"{on}.html"))
    assert found["completed"] == SERIES
    assert float(found["identity_error"]) < 1e-6
    total = float(found["usd"])
    assert total == pytest.approx(found["hours"] * 3.60, rel=1e-6), "one node, at one price, for all its time"
    for name in ("purpose", "charge", "model", "stage", "node", "region", "day"):
        assert sum(float(row["usd"]) for row in found[f"by_{name}"]) == pytest.approx(total)
    assert sum(float(row["loaded"]) for row in found["by_series"]) == pytest.approx(total)
    assert found["plan"]["series"] == SERIES
    figures = {row["what"]: row for row in found["plan"]["figures"]}
    assert figures["US$ of machines"]["actual"] == pytest.approx(total)
    assert found["warnings"] == []
    assert "Plan and actual" in (planned / f"{on}.html").read_text()
