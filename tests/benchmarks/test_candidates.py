"""``voxfleet benchmark --candidates`` as a user calls it, and tables that are none."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from voxfleet.benchmarks.candidates import InvalidCandidates, read_candidates
from voxfleet.enrich.phantom import CtIdentity, Phantom, chest_phantom, write_ct_series

SHAPE, SPACING_MM = (24, 64, 64), (12.0, 5.6, 5.6)
HEADER = "seriesuid,coordX,coordY,coordZ,probability"


@pytest.mark.parametrize(("text", "told"), [("a,b\n1,2\n", "lacks the columns seriesuid"), ("\xff", "is no CSV table")])
def test_bad_tables(tmp_path: Path, text: str, told: str) -> None:
    """A table without LUNA16's columns is refused with what it needs."""
    path = tmp_path / "found.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidCandidates, match=told):
        read_candidates("net", path)


def test_bad_rows(tmp_path: Path) -> None:
    """Rows without four numbers are told of and left out."""
    path = tmp_path / "found.csv"
    path.write_text(f"{HEADER}\n1.2,1,2,3,0.5\n1.2,1,2,3,high\n1.2,1,2,3,nan\n1.2,1,2\n")
    table = read_candidates("net", path)
    assert [each.probability for each in table.of("1.2").points] == [0.5]
    assert [each.code for each in table.problems] == ["BAD_CANDIDATE"]
    assert "3 rows" in table.problems[0].reason
    assert table.of("1.3").points == ()


def save_mask(folder: Path, identity: CtIdentity, phantom: Phantom, mask: NDArray[np.bool_]) -> None:
    """Lesions on the phantom's grid, as NIfTI in a folder of its series."""
    turned = phantom.volume.with_array(mask.astype(np.uint8)).permute_spatial_axes((2, 1, 0))
    path = folder / identity.series_instance_uid / "lesion.nii.gz"
    path.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), turned.get_affine("RAS")), path)


@pytest.mark.slow
def test_two_scans(tmp_path: Path) -> None:
    """Three lesions in two scans by the curve on paper, with every kind of bad row told of."""
    phantom = chest_phantom(SHAPE, SPACING_MM, seed=1, opacities=())
    lesions = (((5, 20, 20), (12, 40, 40)), ((8, 30, 30),))
    scans = [CtIdentity.named(f"froc-{number}") for number in range(2)]
    for scan, centres in zip(scans, lesions, strict=True):
        mask = np.zeros(SHAPE, bool)
        for k, j, i in centres:
            mask[k - 1 : k + 2, j - 2 : j + 3, i - 2 : i + 3] = True
        write_ct_series(phantom.volume, tmp_path / "ct" / scan.series_instance_uid, identity=scan)
        save_mask(tmp_path / "ref", scan, phantom, mask)
    first, second = (scan.series_instance_uid for scan in scans)
    affine = phantom.volume.affine

    def row(uid: str, index: tuple[int, int, int], probability: object) -> str:
        x, y, z = (affine @ [*index, 1])[:3]
        return f"{uid},{x},{y},{z},{probability}"

    rows = [
        row(first, (5, 20, 20), 0.9),
        row(first, (5, 21, 21), 0.7),  # the same lesion again
        row(first, (20, 5, 5), 0.8),
        row(second, (8, 30, 31), 0.6),
        row(second, (20, 5, 5), 0.95),
        row(second, (21, 5, 5), 0.3),
    ]
    bad = [row("1.2.3", (5, 20, 20), 0.9), row(first, (-5, 20, 20), 0.9), row(first, (5, 20, 20), "sure")]
    found = tmp_path / "found.csv"
    for name, lines in (("clean", rows), ("bad", rows + bad)):
        found.write_text("\n".join([HEADER, *lines]) + "\n")
        command = [sys.executable, "-m", "voxfleet", "benchmark", tmp_path / "ct", "-r", tmp_path / "ref"]
        command += ["--candidates", f"{found}=net", "-o", tmp_path / name, "--json"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == (3 if name == "bad" else 0), done.stderr + done.stdout
        document = json.loads(done.stdout)
        (curve,) = document["froc"]
        assert (curve["model"], curve["series"], curve["lesions"], curve["candidates"]) == ("net", 2, 3, 6)
        # At 1/8 and 1/4 nothing is found, at 1/2 one of three, from 1 on two of three.
        at = [curve[f"sensitivity_at_{rate:g}"] for rate in (0.125, 0.25, 0.5, 1, 8)]
        assert at == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3])
        assert curve["cpm"] == pytest.approx((1 / 3 + 4 * 2 / 3) / 7)
        assert 0 <= curve["cpm_low"] <= curve["cpm"] <= curve["cpm_high"] <= 1
    codes = {each["code"] for each in (*document["unread"], *document["problems"])}
    assert codes == {"BAD_CANDIDATE", "CANDIDATE_WITHOUT_SERIES", "CANDIDATE_OUTSIDE"}
    with (tmp_path / "bad" / "froc.csv").open(newline="") as file:
        assert [float(each["cpm"]) for each in csv.DictReader(file)] == pytest.approx([curve["cpm"]])
    assert (tmp_path / "bad" / "froc-curves.csv").exists()
    page = (tmp_path / "bad" / "report.html").read_text()
    assert "Lesions found: FROC" in page
    assert "<polyline" in page
