"""Models at run time: no address is looked up, no connection made, and nothing is written into the user's home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nnunetv2")
pytest.importorskip("totalsegmentator")

from voxfleet.benchmarks.performance.totalsegmentator_weights import write_home
from voxfleet.models.totalsegmentator.tasks import tasks

TRAINED = f"nnunet:{Path(__file__).parent / 'trained'}"
PLANS = Path("weights") / "nnunet-skeleton-total-3mm-like" / "plans_tiny.json"
SEGMENT = """
import json, sys
asked = []
sys.addaudithook(lambda event, _: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from voxfleet.enrich.phantom import chest_phantom
from voxfleet.models import catalogue
volume = chest_phantom((20, 48, 48), (12.0, 8.0, 8.0), seed=3).volume
found = {name: int(catalogue.load(name).segment(volume, {}).labelmap.array.max()) for name in sys.argv[1:]}
print(json.dumps([asked, found]))
"""


@pytest.mark.timeout(900)
def test_models_work_without_a_network(shared_data, tmp_path):
    """Loading and segmenting by rules, by nnU-Net and by TotalSegmentator opens no socket and leaves no settings."""
    weights = write_home(tmp_path / "weights", (tasks()["total_fast"],), shared_data / PLANS)
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TOTALSEG_WEIGHTS_PATH": str(weights)}
    environment.pop("TOTALSEG_HOME_DIR", None)
    command = [sys.executable, "-c", SEGMENT, "ct-threshold", TRAINED, "totalsegmentator:total_fast"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    asked, found = json.loads(done.stdout.splitlines()[-1])
    assert asked == []
    assert len(found) == 3
    assert all(found.values())
    assert not (home / ".totalsegmentator").exists()
