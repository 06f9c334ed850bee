"""Test and retest: pairs of scans, and ``voxfleet benchmark --retest`` as a user calls it."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from voxfleet.benchmarks.case import CaseResult, Involvement, Volumes
from voxfleet.benchmarks.retest import InvalidRetest, ScanPair, read_pairs, retests_of, usable_pairs
from voxfleet.enrich.phantom import CtIdentity, Phantom, chest_phantom, write_ct_series

SHAPE, SPACING_MM = (24, 64, 64), (12.0, 5.6, 5.6)
CUT_SLICES = (1, 2, 3)
"""From the base of each patient's lung in the model's second mask."""


def case_of(series: str, patient: str, ml: float, percent: float, *, failed: bool = False) -> CaseResult:
    """One series by the model, with what the reader says less 1 mL."""
    volumes = () if failed else (Volumes("net", "ann", "liver", ml - 1, ml),)
    share = (Involvement("net", "ann", percent, 0.0 if failed else percent, "model", failed),)
    return CaseResult(series, patient, readers=("ann",), volumes=volumes, involvement=share)


def test_by_hand() -> None:
    """Bland and Altman's formula on three patients; a failure is counted and is no share of 0 %."""
    pairs = [ScanPair(f"{n}.1", f"{n}.2") for n in range(4)]
    values = [((10, 12), (20, 20)), ((20, 18), (30, 32)), ((30, 34), (40, 40))]
    cases = [
        case_of(f"{n}.{scan + 1}", str(n), ml[scan], percent[scan])
        for n, (ml, percent) in enumerate(values)
        for scan in range(2)
    ]
    cases += [case_of("3.1", "3", 50, 50), case_of("3.2", "3", 0, 50, failed=True)]
    found = {(each.whose, each.measure): each for each in retests_of(cases, pairs)}
    assert found.keys() == {(w, m) for w in ("model", "reader") for m in ("volume", "lung involvement")}
    volume, share = found["model", "volume"], found["model", "lung involvement"]
    assert volume.pairs == ((10, 12), (20, 18), (30, 34))
    assert (volume.missing, share.missing, found["reader", "lung involvement"].missing) == (1, 1, 0)
    # Differences 2, -2, 4: the SD within is the root of (4 + 4 + 16) / 2 / 3.
    assert volume.repeatability.within_subject_sd == pytest.approx(2.0)
    assert volume.repeatability.coefficient == pytest.approx(1.96 * math.sqrt(2) * 2)
    assert volume.limits.bias == pytest.approx(4 / 3)
    assert {"ICC(1,1)", "ICC(2,1)", "ICC(3,1)"} <= volume.row.keys()


def test_pairs_that_are_none() -> None:
    """Two patients, one patient twice and a series without scores are each told of."""
    cases = [case_of(name, name[0], 1, 1) for name in ("a1", "a2", "a3", "a4", "b1")]
    usable, problems = usable_pairs(
        cases, [ScanPair("a1", "a2"), ScanPair("a3", "a4"), ScanPair("a3", "b1"), ScanPair("b1", "b2")]
    )
    assert usable == (ScanPair("a1", "a2"),)
    assert [each.code for each in problems] == ["REPEATED_PATIENT", "OTHER_PATIENT", "NO_RETEST"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("one,two\n1,2\n", "columns first and second"),
        ("first,second\n1,2\n", "two patients or more"),
        ("first,second\n1,2\n2,3\n", "series 2 is there 2 times"),
        ("first,second\n1,2\n3,\n", "lacks one of its two"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, told: str) -> None:
    """A table that cannot be meant is refused with its reason."""
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(InvalidRetest, match=told):
        read_pairs(path)


def save_mask(folder: Path, identity: CtIdentity, phantom: Phantom, mask: NDArray[np.bool_]) -> None:
    """A right lung on the phantom's grid, as NIfTI in a folder of its series."""
    turned = phantom.volume.with_array(mask.astype(np.uint8)).permute_spatial_axes((2, 1, 0))
    path = folder / identity.series_instance_uid / "right_lung.nii.gz"
    path.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned.array), turned.get_affine("RAS")), path)


@pytest.mark.slow
def test_two_scans_of_three_patients(tmp_path: Path) -> None:
    """The reader's second lung is shifted and as large as the first; the model's lacks the volume of some slices."""
    pairs, lost_ml = [], []
    for number, slices in enumerate(CUT_SLICES):
        phantom = chest_phantom(SHAPE, SPACING_MM, seed=number, opacities=())
        lung = phantom.truth.mask(next(each.number for each in phantom.truth.segments if each.name == "right_lung"))
        less = lung.copy()
        less[np.flatnonzero(lung.any(axis=(1, 2)))[:slices]] = False
        lost_ml.append(np.count_nonzero(lung & ~less) * math.prod(SPACING_MM) / 1000)
        scans = [CtIdentity.named(f"retest-{number}-{scan}", study=f"retest-{number}") for scan in range(2)]
        pairs.append([each.series_instance_uid for each in scans])
        by_reader = (lung, np.roll(lung, 1, axis=2))
        for scan, marked, found in zip(scans, by_reader, (lung, less), strict=True):
            write_ct_series(phantom.volume, tmp_path / "ct" / scan.series_instance_uid, identity=scan)
            save_mask(tmp_path / "ref", scan, phantom, marked)
            save_mask(tmp_path / "net", scan, phantom, found)
    (tmp_path / "pairs.csv").write_text("".join(f"{a},{b}\n" for a, b in [("first", "second"), *pairs]))
    segment = next(each for each in phantom.truth.segments if each.name == "right_lung")
    codes = {"type": segment.type, "laterality": segment.laterality}
    codes = {key: [code.value, code.scheme_designator, code.meaning] for key, code in codes.items() if code}
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"labels": 1, "codes": {"right_lung": codes}}))
    command = [
        *(sys.executable, "-m", "voxfleet", "benchmark", tmp_path / "ct", "-r", tmp_path / "ref"),
        *("-p", f"{tmp_path / 'net'}=net", "--labels", tmp_path / "labels.yaml", "-o", tmp_path / "out"),
        *("--retest", tmp_path / "pairs.csv", "--json"),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    with (tmp_path / "out" / "retest.csv").open(newline="") as file:
        rows = {row["whose"]: row for row in csv.DictReader(file)}
    assert float(rows["reader"]["repeatability_coefficient"]) == pytest.approx(0.0, abs=1e-9)
    within = math.sqrt(sum(each**2 for each in lost_ml) / 2 / 3)
    assert float(rows["model"]["within_subject_sd"]) == pytest.approx(within)
    assert float(rows["model"]["bias"]) == pytest.approx(-sum(lost_ml) / 3)
    assert [row["whose"] for row in json.loads(done.stdout)["retest"]] == ["model", "reader"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Test and retest" in page
    assert "second less first, mL" in page
