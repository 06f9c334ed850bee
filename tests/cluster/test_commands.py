"""``voxfleet enrich`` and the commands over a run, as a user calls them: real processes, small real collections."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
import typer
from pyarrow import parquet
from voxfleet.cluster.commands import dollars_of
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.enrich.digest import dataset_digest
from voxfleet.enrich.phantom import CtIdentity, Fault, chest_phantom, write_ct_series

pytestmark = pytest.mark.slow

PRICES = """
[[price]]
machine = "toy"
usd_per_hour = 990
source = "a toy: a quarter of a dollar a second"
dated = 2026-11-01
"""


def voxfleet(*words: object, **options) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    command = [sys.executable, "-m", "voxfleet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, **options)


def make_series(folder: Path, number: int, fault: Fault | None = None) -> Path:
    """A small phantom series in a folder of its own."""
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=number)
    name = f"commands-{number}"
    write_ct_series(phantom.volume, folder / name, identity=CtIdentity.named(name), fault=fault)
    return folder / name


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four series, the last one with gantry tilt."""
    folder = tmp_path_factory.mktemp("collection")
    for number in range(3):
        make_series(folder, number)
    make_series(folder, 3, Fault.GANTRY_TILT)
    (folder / "README.txt").write_text("no DICOM")
    return folder


@pytest.fixture(scope="module")
def finished(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run over the collection with both models: target, run folder, what it printed as JSON."""
    folder = tmp_path_factory.mktemp("finished")
    done = voxfleet(
        "enrich", collection, "-m", "ct-threshold", "-m", "covid-opacity-hu", "--to", f"dir:{folder}/out",
        "--run", folder / "run", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    return folder / "out", folder / "run", done.stdout


def test_every_good_series_is_enriched_and_the_bad_one_refused(finished):
    """Three series by two models: six SEG and six SR; the tilted one is refused twice with its reason."""
    target, _, text = finished
    summary = json.loads(text)
    assert {key: summary["progress"]["counts"][key] for key in ("completed", "refused", "failed")} == {
        "completed": 6,
        "refused": 2,
        "failed": 0,
    }
    assert {row["code"] for row in summary["series"] if row["result"] == "refused"} == {"GANTRY_TILT"}
    modalities = Counter(pydicom.dcmread(path, stop_before_pixels=True).Modality for path in target.rglob("*.dcm"))
    assert modalities == {"SEG": 6, "SR": 6}


def test_refusal_costs_next_to_nothing(finished):
    """The refused series used no stage beyond reading its headers."""
    ledger = SqliteLedger(finished[1] / "ledger.sqlite")
    stages = {used.stage for each in ledger.attempts() if each.failure for used in each.consumption}
    assert stages == {"retrieve", "read"}


def test_every_result_has_a_page_tables_and_provenance(finished):
    """Each workitem that completed has a folder with what people and tables read."""
    for folder in (finished[1] / "series").glob("*/*"):
        assert {path.name for path in folder.iterdir()} >= {
            "report.html",
            "provenance.json",
            "measurements.parquet",
            "measurements.csv",
        }
    assert len(list((finished[1] / "series").glob("*/*"))) == 6


def test_same_command_again_does_nothing_twice(finished, collection):
    """A finished run is finished: no attempt is added, and the archive keeps its files untouched."""
    target, run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.dcm")}
    attempts = len(SqliteLedger(run / "ledger.sqlite").attempts())
    again = voxfleet(
        "enrich", collection, "-m", "ct-threshold", "-m", "covid-opacity-hu", "--to", f"dir:{target}", "--run", run
    )
    assert again.returncode == 3
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*.dcm")} == before
    assert len(SqliteLedger(run / "ledger.sqlite").attempts()) == attempts


def test_another_run_of_the_same_work_gives_the_same_objects(finished, collection, tmp_path):
    """Deterministic UIDs and bytes: a second run into the same archive finds every object there already."""
    target, _, _ = finished
    before = {path: path.read_bytes() for path in target.rglob("*.dcm")}
    done = voxfleet("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{target}", "--run", tmp_path / "run")
    assert done.returncode == 3
    stored = SqliteLedger(tmp_path / "run" / "ledger.sqlite").stored()
    assert [each.object.already_there for each in stored] == [True] * 6
    assert {path: path.read_bytes() for path in target.rglob("*.dcm")} == before


def test_status_report_and_verify(finished):
    """A finished run can be asked, written anew, and held against the archive."""
    _, run, text = finished
    asked = json.loads(voxfleet("status", run, "--json").stdout)
    for part in ("useful", "wasted", "refused"):
        assert asked["money"][part] == json.loads(text)["money"][part]
    (run / "report.html").unlink()
    assert voxfleet("report", run).returncode == 0
    assert (run / "report.html").stat().st_size > 1000
    found = voxfleet("ledger", "verify", run, "--json")
    assert (found.returncode, json.loads(found.stdout)) == (
        0,
        {"equal": 12, "missing": [], "changed": [], "doubled": []},
    )


def test_verify_finds_what_was_taken_and_changed(collection, tmp_path):
    """One object removed from the archive and one changed: both are named, and the exit code says so."""
    target, run = tmp_path / "out", tmp_path / "run"
    voxfleet("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{target}", "--run", run)
    gone, changed = sorted(target.rglob("*.dcm"))[:2]
    gone_uid = pydicom.dcmread(gone, stop_before_pixels=True).SOPInstanceUID
    gone.unlink()
    dataset = pydicom.dcmread(changed)
    dataset.SeriesDescription = "something else"
    dataset.save_as(changed)
    found = voxfleet("ledger", "verify", run, "--json")
    assert found.returncode == 3
    assert json.loads(found.stdout) == {
        "equal": 4,
        "missing": [gone_uid],
        "changed": [dataset.SOPInstanceUID],
        "doubled": [],
    }


def test_lost_ledger_is_rebuilt_from_the_archive(collection, tmp_path):
    """What the archive holds whole is not computed again; what was damaged or taken is."""
    target, run = tmp_path / "out", tmp_path / "run"
    words = ("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{target}", "--run", run)
    assert voxfleet(*words).returncode == 3
    before = {path: path.read_bytes() for path in target.rglob("*.dcm")}
    sorted(before)[0].unlink()
    (run / "ledger.sqlite").unlink()
    assert voxfleet(*words, "--on", "nothing").returncode == 4
    found = voxfleet("ledger", "rebuild", run, "--json")
    assert json.loads(found.stdout) == {"found_done": 2, "left": 2}
    assert voxfleet(*words).returncode == 3
    attempts = SqliteLedger(run / "ledger.sqlite").attempts()
    assert Counter(str(attempt.outcome) for attempt in attempts) == {"completed": 1, "refused": 1}
    assert {path: path.read_bytes() for path in target.rglob("*.dcm")} == before
    assert voxfleet("ledger", "verify", run).returncode == 0


def test_publish_follows_a_run(collection, tmp_path):
    """Results go from the staging store to the archive while the run goes on, and a second time nothing is done."""
    run, staging, final = tmp_path / "run", tmp_path / "staging", tmp_path / "final"
    words = ("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{staging}", "--run", run)
    assert voxfleet(*words, "--on", "nothing").returncode == 4
    command = [sys.executable, "-m", "voxfleet", "publish", run, "--to", f"dir:{final}", "--follow", "--json"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as publisher:
        assert voxfleet(*words).returncode == 3
        text, _ = publisher.communicate(timeout=120)
    assert json.loads(text) == {"published": 6, "rejected": 0, "waiting": 0, "left": {}}
    digests = {path.name: dataset_digest(pydicom.dcmread(path)) for path in staging.rglob("*.dcm")}
    assert {path.name: dataset_digest(pydicom.dcmread(path)) for path in final.rglob("*.dcm")} == digests
    again = voxfleet("publish", run, "--to", f"dir:{final}", "--json")
    assert (again.returncode, json.loads(again.stdout)["published"]) == (0, 6)


def test_two_models_of_a_series_read_it_once(finished):
    """Three series that two models segmented were read three times; the one that is refused is judged for each."""
    attempts = SqliteLedger(finished[1] / "ledger.sqlite").attempts()
    stages = Counter(used.stage for attempt in attempts for used in attempt.consumption)
    assert (stages["segment"], stages["read"]) == (6, 3 + 2)


def test_ledger_as_tables(finished, tmp_path):
    """Every table is a parquet file whose rows and sums are the ledger's."""
    _, run, _text = finished
    assert voxfleet("ledger", "export", run, "-o", tmp_path / "tables").returncode == 0
    tables = {path.stem: parquet.read_table(path).to_pandas() for path in (tmp_path / "tables").glob("*.parquet")}
    assert len(tables.pop("nodes")) >= 1
    assert {name: len(table) for name, table in tables.items()} == {
        "items": 8, "attempts": 8, "consumption": 3 * 7 + 3 * 6 + 2 * 2, "stored": 12, "refusals": 1, "events": 0,
    }  # fmt: skip
    assert Counter(tables["items"].state) == {"COMPLETED": 6, "CANCELED": 2}
    assert Counter(tables["items"].failure_code.dropna()) == {"GANTRY_TILT": 2}
    used = SqliteLedger(run / "ledger.sqlite").usage()
    assert tables["consumption"].cpu_s.sum() == pytest.approx(sum(each.cpu_s for each in used))
    assert set(tables["consumption"].key) <= set(tables["items"].key)
    assert tables["attempts"].started.dt.tz is not None
    assert (tables["attempts"].host_bytes >= 2 * 2**30).all()


def test_another_work_under_the_same_run_is_refused(finished, collection):
    """A run's name stands for one piece of work: other models are an error that says so."""
    target, run, _ = finished
    other = voxfleet("enrich", collection, "-m", "ct-threshold", "--to", f"dir:{target}", "--run", run)
    assert other.returncode == 1
    assert "RUN_MISMATCH" in other.stderr
    assert len(other.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "25 EUR"])
def test_what_is_no_amount_is_refused_with_its_option(text: str) -> None:
    """Nothing, less than it, what is no number, and other currencies: the command line is wrong."""
    with pytest.raises(typer.BadParameter, match=f"--max-cost-per-series {text}.*give US"):
        dollars_of("--max-cost-per-series", text)
    assert dollars_of("--budget", "$25") == 25


def test_limits_that_cannot_be_meant_are_an_error_of_the_command_line(tmp_path):
    """Exit code 2, and no folder of a run is there afterwards."""
    words = ["enrich", tmp_path, "-m", "ct-threshold", "--to", f"dir:{tmp_path}/out", "--run", tmp_path / "run"]
    for wrong in (["--budget", "-1"], ["--max-failures", "2"]):
        refused = voxfleet(*words, *wrong)
        assert (refused.returncode, wrong[0] in refused.stderr) == (2, True), refused.stderr
    assert not (tmp_path / "run").exists()


def test_budget_stops_the_run_and_a_larger_one_resumes_it(tmp_path):
    """At 27.5 cents a second: 3 US$ pay for nothing and are refused, 3.80 are not passed (exit code 4), 4000 do."""
    source, prices = tmp_path / "in", tmp_path / "prices.toml"
    prices.write_text(PRICES)
    for number in range(30):
        make_series(source, number)
    words = ["enrich", source, "-m", "ct-threshold", "--to", f"dir:{tmp_path}/out", "--run", tmp_path / "run"]
    words += ["--machine", "toy", "--prices", prices, "--json"]
    refused = voxfleet(*words, "--budget", "3")
    assert (refused.returncode, "more than 3.3" in refused.stderr) == (1, True), refused.stderr
    stopped = voxfleet(*words, "--budget", "3.8")
    assert stopped.returncode == 4, stopped.stderr
    summary = json.loads(stopped.stdout)
    assert 0 < float(summary["money"]["total"]) <= 3.8
    assert summary["progress"]["counts"]["completed"] < 30
    resumed = voxfleet(*words, "--budget", "4000")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["progress"]["counts"]["completed"] == 30


GATED = """
import sys, time
from pathlib import Path
from voxfleet.cluster.drivers.stop import Stop
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.runners.cli import main

folder = Path(sys.argv.pop(1))
finish, told = SqliteLedger.finish, Stop.told

def finish_when_let_go(ledger, *words):
    while ledger.counts().completed and not (folder / "go").exists():
        time.sleep(0.02)
    return finish(ledger, *words)

def told_and_seen(stop, number):
    again = told(stop, number)
    (folder / "told").touch()
    return again

SqliteLedger.finish, Stop.told = finish_when_let_go, told_and_seen
main()
"""
"""The console script; it tells by a file ``told`` that a signal was heeded, and ends no second series before ``go``."""


def until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for it while a process lives."""
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[object], Path]]:
    """A run over ten series that has completed its first, and is at the next: the process, its words, its ledger."""
    for number in range(10):
        make_series(tmp_path / "in", number)
    words = ["enrich", tmp_path / "in", "-m", "ct-threshold", "--to", f"dir:{tmp_path}/out", "--run", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", GATED, *map(str, [tmp_path, *words])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = tmp_path / "run" / "ledger.sqlite"
    try:
        until(lambda: file.exists() and SqliteLedger(file).counts().completed == 1, process)
        yield process, words, file
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_drains_and_the_run_resumes(started, tmp_path):
    """SIGINT: what is in flight completes, exit code 4, nothing lost; the same command goes on."""
    process, words, file = started
    process.send_signal(signal.SIGINT)
    until((tmp_path / "told").exists, process)
    (tmp_path / "go").touch()
    assert process.wait(timeout=120) == 4
    ledger = SqliteLedger(file)
    counts = ledger.counts()
    assert counts.in_progress == 0
    assert 1 < counts.completed < 10
    assert Counter(str(attempt.outcome) for attempt in ledger.attempts()) == {"completed": counts.completed}
    assert voxfleet(*words).returncode == 0
    assert SqliteLedger(file).counts().completed == 10


def test_ctrl_c_twice_leaves_at_once_and_the_run_resumes(started, tmp_path):
    """A second SIGINT kills what is in flight, which would not end, and leaves; nothing is lost all the same."""
    process, words, file = started
    process.send_signal(signal.SIGINT)
    until((tmp_path / "told").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert SqliteLedger(file).counts().completed == 1
    assert voxfleet(*words).returncode == 0
    assert SqliteLedger(file).counts().completed == 10


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--to", "dir:{tmp}/out", "--run", "{tmp}/run", "-m", "no-such-model", "{collection}"], "MODEL"),
        (["--to", "dir:{tmp}/out", "--run", "{tmp}/run", "-m", "ct-threshold", "{tmp}/nowhere"], "nowhere"),
        (["--to", "dir:/proc/none", "--run", "{tmp}/run", "-m", "ct-threshold", "{collection}"], "/proc/none"),
        (["--to", "ftp://host/x", "--run", "{tmp}/run", "-m", "ct-threshold", "{collection}"], "ftp"),
        (["--to", "dir:{tmp}/out", "--run", "{tmp}/run", "-m", "ct-threshold", "{collection}", "--on", "mars"], "mars"),
        (
            ["--to", "dir:{tmp}/out", "--run", "{tmp}/run", "-m", "ct-threshold", "{collection}", "--machine", "x9"],
            "x9",
        ),
        (
            [
                "--to",
                "dir:{tmp}/o",
                "--run",
                "{tmp}/run",
                "-m",
                "covid-opacity-hu",
                "{collection}",
                "--seg",
                "labelmap",
            ],
            "OVERLAPPING_SEGMENTS",
        ),
    ],
)
def test_wrong_words_are_one_clear_line_and_exit_code_1(words, code, collection, tmp_path):
    """Model, source, target, executor, price and segmentation type: each error names what is wrong."""
    filled = [word.format(tmp=tmp_path, collection=collection) for word in words]
    done = voxfleet("enrich", *filled, cwd=tmp_path)
    assert done.returncode == 1
    assert code in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("scratch"))


def test_the_driver_imports_neither_ray_nor_torch(collection, tmp_path):
    """--on local does without both, in the driver and by what it imports."""
    code = (
        "import sys\nsys.argv = ['voxfleet', *sys.argv[1:]]\n"
        "from voxfleet.runners.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'ray', 'torch', 'kubernetes'} & set(sys.modules)))\n"
    )
    words = ["enrich", collection, "-m", "ct-threshold", "--to", f"dir:{tmp_path}/out", "--run", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
