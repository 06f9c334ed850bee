"""Records of a case cross a disk unchanged, and a case's result has another name when what decides it changes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from pydicom.sr.coding import Code
from voxfleet.benchmarks.case import (
    Candidate,
    CaseRequest,
    CaseResult,
    ClaimedFile,
    Involvement,
    Problem,
    Rules,
    Volumes,
    from_plain,
    to_plain,
)
from voxfleet.benchmarks.references.reference import CodedName, Reading, Structure
from voxfleet.benchmarks.score import Case, Score
from voxfleet.benchmarks.study import digest_of
from voxfleet.benchmarks.subgroups import SeriesAttributes
from voxfleet.enrich.archives.archive import SeriesEntry

LIVER = Structure(1, "liver", type=Code("10200004", "SCT", "Liver"))
CASE = Case("a1b2", "1.2.3", "model")
ENTRY = SeriesEntry("1.2", "1.2.3", "CT", 10, 1000)
RULES = Rules(("ref",), Reading(0.5, {"liver": CodedName(LIVER.type)}, {1: "liver"}), (1.0, 2.0))  # type: ignore[arg-type]
REQUEST = CaseRequest("dir:/ct", ENTRY, (Candidate("model", place="p", vocabulary=(LIVER,)),), RULES, "/scratch", "/sr")


def test_result_through_json() -> None:
    """Codes, optional values, NaN and nested records come back as they went."""
    result = CaseResult(
        "1.2.3",
        "a1b2",
        "CT",
        SeriesAttributes("MAKER", 2.5, None, None),
        ("reference",),
        (Score(CASE, "Liver", "dice", 1, "1"), Score(CASE, "Liver", "dice", 0.0, "1", "NO_PREDICTION: none")),
        volumes=(Volumes("model", "reference", "Liver", 1500.0, 1490.5),),
        involvement=(Involvement("model", "reference", 12.5, 0.0, "model", True),),
        problems=(Problem("NO_PREDICTION", "none", "model"),),
        claimed=(ClaimedFile("ref/liver.nii.gz", by_grid=True),),
        found=(("model", (LIVER,)),),
        reports=("/sr/1.2.3/model.reference.dcm",),
    )
    assert from_plain(CaseResult, json.loads(json.dumps(to_plain(result)))) == result


def test_undefined_score_through_json() -> None:
    """A metric without a value stays without one."""
    plain = json.loads(json.dumps(to_plain(CaseResult("1", scores=(Score(CASE, "Liver", "dice", math.nan, "1"),)))))
    assert not from_plain(CaseResult, plain).scores[0].defined


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, entry=replace(ENTRY, instances=11)),
        replace(REQUEST, candidates=(replace(REQUEST.candidates[0], failure="GANTRY_TILT: 15 degrees"),)),
        replace(REQUEST, rules=replace(RULES, tolerances_mm=(3.0,))),
        replace(REQUEST, rules=replace(RULES, reading=Reading(0.7))),
    ],
)
def test_another_request_is_another_result(changed: CaseRequest) -> None:
    """Image, prediction, metrics and reading decide the name; where copies lie does not."""
    assert digest_of(changed, "") != digest_of(REQUEST, "")
    assert digest_of(REQUEST, "files changed") != digest_of(REQUEST, "")
    assert digest_of(replace(REQUEST, scratch="/elsewhere"), "") == digest_of(REQUEST, "")
