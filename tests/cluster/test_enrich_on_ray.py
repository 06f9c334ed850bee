"""``voxfleet enrich --on ray``: the same code and ledger as on one machine, and the same objects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.phantom import CtIdentity, Fault, chest_phantom, write_ct_series

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def enrich(source: Path, folder: Path, *words: str) -> dict:
    """What `voxfleet enrich` printed as JSON for one bad series and several good ones."""
    command = [sys.executable, "-m", "voxfleet", "enrich", str(source), "-m", "ct-threshold"]
    command += ["--to", f"dir:{folder}/out", "--run", f"{folder}/run", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 3, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_ray_and_this_machine_give_the_same_archive(tmp_path):
    """Two agents on a Ray cluster here: every series done once, the bad one refused, bytes as from --on local."""
    for seed in range(5):
        phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=seed)
        fault = Fault.MISSING_SLICE if seed == 4 else None
        write_ct_series(phantom.volume, tmp_path / "in" / str(seed), identity=CtIdentity.named(f"r{seed}"), fault=fault)
    here = enrich(tmp_path / "in", tmp_path / "local")
    there = enrich(tmp_path / "in", tmp_path / "ray", "--on", "ray", "--workers", "2")
    assert here["progress"]["counts"] == there["progress"]["counts"]
    assert there["progress"]["counts"]["completed"] == 4
    objects = {
        where: {path.name: path.read_bytes() for path in (tmp_path / where / "out").rglob("*.dcm")}
        for where in ("local", "ray")
    }
    assert len(objects["ray"]) == 8
    assert objects["ray"] == objects["local"]
    nodes = {attempt.node for attempt in SqliteLedger(tmp_path / "ray" / "run" / "ledger.sqlite").attempts()}
    assert nodes
    assert "local" not in nodes
