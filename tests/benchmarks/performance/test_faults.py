"""What faults cost, worked out on paper; a report of pytest; a page and its figures."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime

from voxfleet.benchmarks.performance.fault_table import Case, FaultFigures, faults_of, figures_of, soak_of, with_figures
from voxfleet.benchmarks.performance.faults import cases_of
from voxfleet.benchmarks.performance.toll import Harm, Toll, freed_s, toll_of, went_on_s
from voxfleet.cluster.ledger import Attempt, AttemptClass
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.workitem import Outcome, State, Workitem

LOST, COMPLETED = AttemptClass.LOST, AttemptClass.COMPLETED


def attempt(outcome: AttemptClass, ended: float, owner: str = "a", node: str = "n", begun: float = 0.0) -> Attempt:
    """An attempt that began and ended so many seconds after 1970."""
    from_to = [datetime.fromtimestamp(at, UTC) for at in (begun, ended)]
    return Attempt("key", 1, owner, node, *from_to, outcome)


def test_recovery_by_hand() -> None:
    """What is lost is the last harm's to its owner or node while it was under way; the last that a harm lost counts."""
    attempts = [
        attempt(LOST, 12.0),  # of the kill of a at 10: 2 s
        attempt(LOST, 13.5),  # likewise: 3.5 s
        attempt(LOST, 21.0, "b", "m"),  # of the kill of m at 20: 1 s
        attempt(LOST, 5.0),  # before any harm
        attempt(LOST, 19.0, begun=12.5),  # after the kill of a
        attempt(LOST, 30.0, "c", "o"),  # nobody harmed c
    ]
    assert freed_s(attempts, [Harm(10.0, "a"), Harm(20.0, "m")]) == (3.5, 1.0)
    assert freed_s(attempts, [Harm(11.0), Harm(13.0)]) == (1.0, 17.0)  # 12 - 11 and 30 - 13
    assert freed_s([attempt(LOST, 19.0, begun=12.5)], [Harm(12.0)]) == ()
    assert freed_s(attempts, []) == ()


def test_going_on_by_hand() -> None:
    """The first completed after the last harm: at 10 and 20, it is the one at 22."""
    attempts = [attempt(COMPLETED, at) for at in (9.0, 11.0, 22.0, 23.0)]
    assert went_on_s(attempts, [Harm(10.0), Harm(20.0)]) == (2.0,)
    assert went_on_s(attempts, [Harm(24.0)]) == ()
    assert went_on_s(attempts, []) == ()


def test_toll_of_a_run(tmp_path) -> None:
    """Of three workitems one is lost and open, two are done; an object that no workitem left is one too many."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.add(Workitem("1", f"1.{n}", "CT", 1, "dir:/in", "dir:/out", "m", "1", "none") for n in range(3))
    *done, last = ledger.lease("o", 3)
    for lease in done:
        series = lease.workitem.series_instance_uid
        stored = (StoredObject("1.2", f"{series}.1", series, "dir:/out", "0" * 64, 1),)
        ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED, stored=stored))
    harm, begun = Harm(time.time()), {"1.0": 1, "1.1": 3, "1.2": 1}
    time.sleep(0.05)
    ledger.lose([last], "gone")
    toll = toll_of(ledger, [harm], begun, held=3)
    assert (toll.times, toll.lost, toll.begun_again, toll.doubled, toll.left_open) == (1, 1, 2, 0, 1)
    assert len(toll.recovery_s) == 1
    assert 0.04 < toll.recovery_s[0] < 20
    (lease,) = ledger.lease("o", 3)
    ledger.finish(lease, Outcome(lease.workitem.key, State.COMPLETED))
    assert toll_of(ledger, [harm], held=3).doubled == 1
    assert toll_of(ledger, [], held=2).doubled == 0
    ledger.close()


REPORT = """<testsuites><testsuite>
<testcase classname="tests.a.test_b" name="test_c[1]"><properties>
<property name="times" value="7"/></properties></testcase>
<testcase classname="tests.a.test_b" name="test_c[2]"><failure message="no"/></testcase>
<testcase classname="tests.a.test_b.TestD" name="test_e"><error message="no"/></testcase>
<testcase classname="tests.a.test_b" name="test_c[3]"><skipped message="no"/></testcase>
<testcase classname="tests.a.test_b" name="test_other"/>
</testsuite></testsuites>"""


def test_a_report_of_pytest() -> None:
    """What passed, failed, or broke in its fixtures; what was skipped, or not asked for, is none."""
    tests = ["tests/a/test_b.py::test_c", "tests/a/test_b.py::TestD::test_e"]
    assert cases_of(REPORT, tests) == [
        Case(tests[0], True, {"times": "7"}),
        Case(tests[0], False),
        Case(tests[1], False),
    ]


def toll(lost: int, again: int, recovery_s: str) -> dict[str, str]:
    """Property of a test that harmed a run twice."""
    text = f'"times": 2, "lost": {lost}, "begun_again": {again}, "doubled": 0, "left_open": 0'
    return {"toll": f'{{{text}, "recovery_s": [{recovery_s}]}}'}


def test_figures_by_hand() -> None:
    """Times are harms, or cases where there was no run; least, median, most; median and longest recovery."""
    cases = [
        Case("t::a", True, toll(1, 0, "2.0")),
        Case("t::a", True, toll(3, 0, "4.0, 9.0")),
        Case("t::a", False, toll(2, 0, "")),
        Case("t::b", True),
        Case("t::c", True, {"times": "500"}),
    ]
    figures = figures_of("fault", ["t::a", "t::b"], cases)
    assert figures == FaultFigures("fault", 7, 3, 4, (1, 2, 3), (0, 0, 0), 0, (4.0, 9.0))
    assert figures.cells == ("7", "3 of 4", "1–2–3", "0", "0", "4.0, 9.0")
    assert figures_of("fault", ["t::d"], [Case("t::d", True, toll(1, 0, "0.018, 0.96"))]).cells[-1] == "0.49, 0.96"
    assert figures_of("fault", ["t::c"], cases).cells == ("500", "1 of 1", "-", "-", "-", "-")


PAGE = """# Faults

| fault | what must happen | times | passed | lost | begun again | doubled | recovery s | shown by |
|---|---|---|---|---|---|---|---|---|
| a kill | it goes on | - | - | - | - | - | - | `tests/a.py::test_b`, `tests/a.py::TestC::test_d` |
| a cut | it waits | 9 | 9 of 9 | 0 | 0 | 0 | 1.0, 1.0 | `tests/a.py::test_e` |

## The soak

| workitems |
|---|
| 1 |
"""


def test_a_page_gets_the_figures_of_a_run() -> None:
    """Each fault its own; one that was not run has none; the longest soak has its own table."""
    tests = ("tests/a.py::test_b", "tests/a.py::TestC::test_d")
    assert faults_of(PAGE) == {"a kill": tests, "a cut": ("tests/a.py::test_e",)}
    soaks = [
        Case("s", True, toll(5, 4, "") | {"soak": f'{{"items": {items}, "child killed": 2, "found": 6}}'})
        for items in (1000, 20)
    ]
    figures = figures_of("a kill", tests, [Case(tests[1], True, toll(1, 0, "2"))])
    page = with_figures(PAGE, {"faults": [asdict(figures)], "soak": soak_of(soaks)})
    assert "| a kill | it goes on | 2 | 1 of 1 | 1 | 0 | 0 | 2.0, 2.0 | `tests/a.py::test_b`, " in page
    assert "| a cut | it waits | - | - | - | - | - | - | `tests/a.py::test_e` |" in page
    assert page.endswith("| 1,000 | 0 | 2 | 0 | 0 | 0 | 0 | 5 | 4 | 0 | 6 | 0 | 0 |\n")
    assert soak_of([]) == {}


def test_a_toll_says_how_often_a_run_was_harmed() -> None:
    """A test that harms nothing itself, as where an item kills its machine, did its fault once."""
    assert Case("t", True, toll(0, 0, "")).times == 2
    assert Case("t", True, {"toll": toll(0, 0, "")["toll"].replace('"times": 2', '"times": 0')}).times == 1
    assert Case("t", True, toll(0, 0, "") | {"times": "500"}).times == 500
    assert Case("t", True).toll is None
    assert Case("t", True, toll(5, 0, "1.5")).toll == Toll(2, 5, 0, 0, 0, [1.5])
