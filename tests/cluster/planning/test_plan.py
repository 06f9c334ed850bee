"""Plans: intervals that hold what happens, choices worked out on paper, and what cannot be planned."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner
from voxfleet.cluster.duration import hours_of
from voxfleet.cluster.planning.fleet import Fleet, draw_seconds
from voxfleet.cluster.planning.plan import DEADLINE_S, HANG_SHARE, Wanted, fleet_sizes, forecast, node_kind
from voxfleet.cluster.planning.plan_command import options_table, plan
from voxfleet.cluster.planning.plan_page import plan_page
from voxfleet.cluster.planning.series_sizes import NoSizes, SeriesSizes, _of_entries, _sizes, sizes_of
from voxfleet.cluster.planning.simulate import simulate_pull
from voxfleet.cluster.planning.timing import NotMeasured, bytes_per_slice, fit, timing_of_card, told
from voxfleet.cluster.prices.price import BadPrice, Charge, NoPrice, Price
from voxfleet.enrich.archives.archive import SeriesEntry
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.models import catalogue
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import StageSettings
from voxfleet.runners.worklist import LicenceNotAccepted

SPOT = Price("t4", "gcp", "r", "spot", Decimal("0.134"), 4, "T4", 1, "paper", date(2026, 11, 1))


def sizes(slices: Sequence[float]) -> SeriesSizes:
    """A collection of series of so many slices, half a megabyte each."""
    ordered = np.sort(np.asarray(slices, dtype=float))[::-1]
    return SeriesSizes("dir:/x", ordered, ordered * 524_288, 0, "paper")


@pytest.mark.slow
def test_nine_in_ten_intervals_hold_what_happens() -> None:
    """Of 500 simulated runs after as many pilots, 90 % end within their interval, in dollars and in hours."""
    rng = np.random.default_rng(11)
    held_usd = held_h = runs = 0
    for number, pilot, nodes, sigma in (
        (400, 30, 10, 0.25),
        (1000, 100, 20, 0.25),
        (1000, 100, 50, 0.5),
        (300, 20, 1, 0.3),
    ):
        for seed in range(125):
            collection = sizes(rng.gamma(6, 28, number) + 40)
            truth = 60 + 0.7 * collection.slices
            chosen = rng.choice(number, pilot, replace=False)
            timing = fit(collection.slices[chosen], draw_seconds(truth[chosen], sigma, 0.0, rng), "pilot")
            fleet = Fleet(node_kind(SPOT, timing), nodes)
            real = simulate_pull(draw_seconds(truth, sigma, HANG_SHARE, rng), fleet, DEADLINE_S, rng)
            wanted = Wanted((SPOT,), most_nodes=nodes, seed=seed)
            option = next(each for each in forecast("m", collection, timing, wanted).options if each.nodes == nodes)
            held_usd += option.usd.low <= float(real.usd(SPOT)) <= option.usd.high
            held_h += option.hours.low <= real.hours <= option.hours.high
            runs += 1
    assert runs == 500
    assert held_usd / runs >= 0.9
    assert held_h / runs >= 0.9


def test_one_node_at_hand_by_hand() -> None:
    """A hundred series of 36 s on one owned node of a dollar an hour: one hour, one dollar."""
    owned = replace(SPOT, market="owned", usd_per_hour=Decimal(1))
    found = forecast("m", sizes([100] * 100), told(36, np.array([100.0]), 0.0), Wanted((owned,), most_nodes=1))
    (option,) = found.options
    assert option.hours.middle == pytest.approx(1, rel=0.1)
    assert option.usd.middle == pytest.approx(option.hours.middle, rel=1e-6)
    assert option.usd.low < 1 < option.usd.high


def test_heads_of_cells_by_hand() -> None:
    """Cells of 20 nodes, heads at two dollars an hour: 50 nodes have three, paid as long as the run lasts."""
    head = replace(SPOT, machine="desk", usd_per_hour=Decimal(2))
    timing, cells = told(36, np.array([100.0]), 0.0), Wanted((SPOT,), head=head, cell_nodes=20)
    plain = forecast("m", sizes([100] * 400), timing, Wanted((SPOT,))).options
    beside = forecast("m", sizes([100] * 400), timing, cells)
    with_heads = {each.nodes: each for each in beside.options}
    assert {nodes: each.heads for nodes, each in with_heads.items()}.items() >= {20: 1, 50: 3, 100: 5}.items()
    for each in plain:
        option = with_heads[each.nodes]
        assert option.hours == each.hours
        least, most = (2 * option.heads * hours for hours in (each.hours.low, each.hours.high))
        assert each.usd.low + least <= option.usd.low <= option.usd.high <= each.usd.high + most + 1e-9
    assert any("cells of 20 nodes; the dollars hold their heads, desk" in line for line in beside.assumptions)
    local = replace(SPOT, machine="local")
    (here,) = forecast("m", sizes([100] * 4), timing, replace(cells, prices=(local,))).options
    assert (here.heads, here.head) == (0, None)


def test_the_shares_are_those_of_the_middle_dollars() -> None:
    """One series in 2000 hangs: of a hundred on a node on demand seldom one, so the middle run wastes nothing."""
    price, timing = replace(SPOT, market="on-demand"), told(3, np.full(1, 50.0), 0.0)
    for seed in range(40):
        (option,) = forecast("m", sizes([50] * 100), timing, Wanted((price,), most_nodes=1, seed=seed)).options
        assert option.wasted_share == 0
        assert 0 < option.start_up_share < 1


def test_the_cheapest_meets_the_deadline_and_the_fastest_the_budget() -> None:
    """Both are picked by the bad end of their interval, and are the best of those that keep to it."""
    wanted = Wanted((SPOT, replace(SPOT, machine="l4", gpu="L4", usd_per_hour=Decimal("0.28"))))
    timing = told(300, np.full(1, 150.0), 1.0)
    free = forecast("m", sizes([150] * 2000), timing, wanted)
    limits = replace(wanted, deadline_h=8.0, budget_usd=Decimal(50))
    found = forecast("m", sizes([150] * 2000), timing, limits)
    in_time = [each for each in free.options if each.hours.high <= 8]
    paid = [each for each in free.options if each.usd.high <= 50]
    assert found.cheapest is not None
    assert found.fastest is not None
    assert found.cheapest.usd.middle == min(each.usd.middle for each in in_time)
    alike = [each for each in paid if each.hours.middle <= 1.05 * min(each.hours.middle for each in paid)]
    assert found.fastest.usd.middle == min(each.usd.middle for each in alike)


def test_a_hang_too_seldom_for_the_interval_is_not_in_it() -> None:
    """One series in 2000 hangs: of six in 0.3 % of runs, outside 95 %; of sixty in 3 %, and some last an hour."""
    owned, timing = replace(SPOT, market="owned", usd_per_hour=Decimal(1)), told(3, np.full(1, 50.0), 0.0)

    def most_h(number: int, seed: int) -> float:
        return (
            forecast("m", sizes([50] * number), timing, Wanted((owned,), most_nodes=1, seed=seed)).options[0].hours.high
        )

    assert max(most_h(6, seed) for seed in range(30)) < 0.02
    assert max(most_h(60, seed) for seed in range(30)) > 0.9


def test_no_option_keeps_both_though_one_keeps_each() -> None:
    """A deadline that only many nodes meet and a budget that only few keep: each has its option, and none has both."""
    timing, collection = told(300, np.full(1, 150.0), 0.0), sizes([150] * 2000)
    options = forecast("m", collection, timing, Wanted((SPOT,))).options
    fast, cheap = min(options, key=lambda each: each.hours.high), min(options, key=lambda each: each.usd.high)
    assert fast.usd.high > cheap.usd.high
    wanted = Wanted((SPOT,), deadline_h=fast.hours.high, budget_usd=Decimal(cheap.usd.high))
    found = forecast("m", collection, timing, wanted)
    assert None not in (found.cheapest, found.fastest)
    assert not found.keeps_both
    assert forecast("m", collection, timing, replace(wanted, budget_usd=None)).keeps_both


def test_machines_at_hand_are_not_told_to_boot() -> None:
    """What is assumed of cloud machines stands in a plan of such machines alone."""
    timing = told(60, np.full(1, 100.0), 0.0)
    for market, boots in (("owned", False), ("spot", True)):
        found = forecast("m", sizes([100] * 10), timing, Wanted((replace(SPOT, market=market),)))
        assert any("boots" in text for text in found.assumptions) is boots


def test_a_machine_that_is_free_has_a_page() -> None:
    """Nothing has no logarithm; its dot stands at the foot of the picture."""
    free = replace(SPOT, market="owned", usd_per_hour=Decimal(0))
    page = plan_page(forecast("m", sizes([100] * 10), told(60, np.full(1, 100.0), 0.0), Wanted((free, SPOT))))
    assert page.count("<circle") > 1


def test_egress_and_storage_by_hand() -> None:
    """Two series of 100 slices leave 10 MiB a slice: 2,000 MiB at 9 cents a GiB to leave, and at 2 a month to stay."""
    timing = replace(told(60, np.full(1, 100.0), 0.0), output_per_slice=10 * 2.0**20)
    charges = (
        Charge("egress", "gcp", "", Decimal("0.09"), "paper", date(2026, 11, 1)),
        Charge("storage", "gcp", "r", Decimal("0.02"), "paper", date(2026, 11, 1)),
        Charge("storage", "gcp", "elsewhere", Decimal("0.05"), "paper", date(2026, 11, 1)),
    )
    prices = (SPOT, replace(SPOT, provider="aws"))
    options = forecast("m", sizes([100, 100]), timing, Wanted(prices, charges)).options
    gcp = next(each for each in options if each.price.provider == "gcp")
    aws = next(each for each in options if each.price.provider == "aws")
    assert gcp.egress_usd is not None
    assert gcp.storage_usd is not None
    assert gcp.egress_usd.middle == pytest.approx(2000 / 1024 * 0.09)
    assert gcp.storage_usd.middle == pytest.approx(2000 / 1024 * 0.02)
    assert (aws.egress_usd, aws.storage_usd) == (None, None)
    page = plan_page(forecast("m", sizes([100, 100]), timing, Wanted((SPOT,), charges)))
    assert "$0.176" in page
    assert "$0.0391" in page


def test_nine_in_ten_intervals_hold_what_is_stored() -> None:
    """Of 500 collections, each with a pilot of its own, 90 % store as many bytes as their interval says."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(500):
        slices = rng.gamma(6, 28, 400) + 40
        stored = slices * 150_000 * np.exp(0.3 * rng.standard_normal(400))
        pilot = slice(0, 20)
        per_slice, scatter = bytes_per_slice(slices[pilot], stored[pilot])
        timing = replace(told(60, slices, 0.0), series=20, freedom=19, output_per_slice=per_slice)
        ends = replace(timing, output_scatter=scatter).output_bytes(slices, (0.025, 0.975))
        held += ends[0] <= stored.sum() <= ends[1]
    assert held / 500 >= 0.9


def test_no_option_for_a_budget_smaller_than_one_series() -> None:
    """A cent for two thousand series: there is no fastest option, and none is made up."""
    wanted = Wanted((SPOT,), budget_usd=Decimal("0.01"))
    assert forecast("m", sizes([150] * 2000), told(300, np.full(1, 150.0), 1.0), wanted).fastest is None


def test_the_frontier_has_nothing_cheaper_and_faster() -> None:
    """No option beats one on the frontier in both, and every option off it is beaten."""
    prices = (SPOT, replace(SPOT, machine="dear", usd_per_hour=Decimal(2)))
    options = forecast("m", sizes([150] * 500), told(100, np.full(1, 150.0), 1.0), Wanted(prices)).options
    for each in options:
        beaten = any(
            (other.usd.middle <= each.usd.middle and other.hours.middle < each.hours.middle)
            or (other.usd.middle < each.usd.middle and other.hours.middle <= each.hours.middle)
            for other in options
        )
        assert each.frontier is not beaten


def test_spot_nodes_only_are_taken_away() -> None:
    """A node on demand has no preemptions; one at hand does not boot either."""
    timing = told(100, np.full(1, 100.0), 0.0)
    assert node_kind(SPOT, timing).preemptions_per_h > 0
    assert node_kind(replace(SPOT, market="on-demand"), timing).preemptions_per_h == 0
    assert node_kind(replace(SPOT, market="owned"), timing).boot_s == 0


def test_fleets_fit_the_collection() -> None:
    """Ten series do not get a hundred nodes; this machine is one node."""
    assert fleet_sizes(SPOT, 10, None) == (1, 2)
    assert fleet_sizes(SPOT, 1, None) == (1,)
    assert fleet_sizes(replace(SPOT, machine="local"), 10_000, None) == (1,)
    assert max(fleet_sizes(SPOT, 100_000, 500)) == 500


def test_the_most_nodes_that_are_allowed_are_planned() -> None:
    """Whoever has eight nodes sees what eight do, of however many series; four series have no use for eight."""
    assert fleet_sizes(SPOT, 200_000, 8) == (8,)
    assert fleet_sizes(SPOT, 100, 8) == (1, 2, 5, 8)
    assert fleet_sizes(SPOT, 4, 8) == (1,)


def test_the_deadline_is_the_pipelines_own() -> None:
    """What hangs in a plan is stopped when the pipeline would stop it."""
    assert dict(PipelineSettings(StageSettings(Path("s"), Path("r"), "n")).deadlines_s)["segment"] == DEADLINE_S


def test_unknown_sizes_count_as_the_mean() -> None:
    """A series without a number and one without bytes stand for the mean of the others, and are told of."""
    entries = [
        SeriesEntry("1", str(i), "CT", n, b)
        for i, (n, b) in enumerate([(100, 1000), (200, 2000), (0, None), (50, None)])
    ]
    found = _sizes("x", *_of_entries(entries), 1, "paper")
    # Mean of 100, 200 and 50 instances; ten bytes an instance.
    assert found.slices.tolist() == pytest.approx([200, 350 / 3, 100, 50])
    assert found.bytes.tolist() == pytest.approx([2000, 3500 / 3, 1000, 500])
    assert found.unknown == 2
    assert "2 of 4" in forecast("m", found, told(1, found.slices, 0.0), Wanted((SPOT,))).warnings[0]


@pytest.mark.parametrize("entries", [[], [SeriesEntry("1", "2", "CT", 0, None)]])
def test_a_collection_without_any_size_is_refused(entries: list[SeriesEntry]) -> None:
    """No series at all, or none whose size is told."""
    with pytest.raises(NoSizes):
        _sizes("x", *_of_entries(entries), 1, "paper")


def test_nlst_is_sized_without_a_network() -> None:
    """IDC's index in the package holds 203,111 CT series of NLST, 125,119 of them of 64 slices and more."""
    pytest.importorskip("idc_index_data")
    assert sizes_of("idc:nlst", ("CT",)).number == 203_111
    found = sizes_of("idc:nlst", ("CT",), 64)
    assert found.number == 125_119
    assert found.bytes.sum() / 1e12 == pytest.approx(10.8, abs=0.1)


@pytest.mark.orthanc
def test_an_archive_is_sized_by_its_search(orthanc, tmp_path: Path) -> None:
    """Orthanc's QIDO-RS tells the instances of two series; the card's seconds plan them."""
    archive = open_archive(orthanc.uri)
    for number, slices in enumerate((24, 30)):
        phantom = chest_phantom(shape=(slices, 64, 64), spacing_mm=(280 / slices, 5.6, 5.6), seed=number)
        write_ct_series(phantom.volume, tmp_path / str(number), identity=CtIdentity.named(f"qido-{number}"))
        for path in (tmp_path / str(number)).iterdir():
            archive.store(pydicom.dcmread(path))
    archive.close()
    found = sizes_of(orthanc.uri, ("CT",))
    assert found.slices.tolist() == [30, 24]
    timing = timing_of_card(catalogue.card("ct-threshold"))
    assert forecast("m", found, timing, Wanted((SPOT,))).cheapest is not None


def test_a_collection_that_the_index_does_not_know_is_refused() -> None:
    """A name that IDC does not have is no plan for nothing."""
    pytest.importorskip("idc_index_data")
    with pytest.raises(NoSizes):
        sizes_of("idc:no-such-collection", ("CT",))


@pytest.mark.parametrize(("text", "hours"), [("8h", 8), ("90m", 1.5), ("2d", 48), ("1.5h", 1.5), ("3600s", 1)])
def test_durations(text: str, hours: float) -> None:
    """What people write for a deadline."""
    assert hours_of(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["8", "h", "-8h", "0h", "8 weeks"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """No unit, no number, a negative one, none at all."""
    with pytest.raises(typer.BadParameter):
        hours_of(text)


def test_the_page_has_every_option_and_fetches_nothing() -> None:
    """A dot for each option, and no address of another host."""
    found = forecast("m <1>", sizes([150] * 500), told(100, np.full(1, 150.0), 1.0), Wanted((SPOT,), deadline_h=2.0))
    page = plan_page(found)
    assert page.count("<circle") == len(found.options)
    assert "m &lt;1&gt;" in page
    assert "The results" not in page
    assert not re.search(r"(src|href)=.https?:", page)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_every_machine(width: int) -> None:
    """Name, number of nodes and what marks an option stand on 80 columns too, however many dollars it takes."""
    price = replace(SPOT, machine="n1-standard-4+t4", region="northamerica-east1", usd_per_hour=Decimal(300))
    found = forecast("m", sizes([150] * 2000), told(900, np.full(1, 150.0), 1.0), Wanted((price,), most_nodes=100))
    shown = StringIO()
    console = Console(width=width, file=shown)
    console.print(options_table(found))
    words = shown.getvalue().split()
    assert words.count("n1-standard-4+t4") == len(found.options)
    assert {"100", "fastest"} <= set(words)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command ``plan`` in a folder of its own, with three small series in ``ct``."""
    monkeypatch.chdir(tmp_path)
    for number, slices in enumerate((24, 30, 36)):
        phantom = chest_phantom(shape=(slices, 64, 64), spacing_mm=(280 / slices, 5.6, 5.6), seed=number)
        write_ct_series(phantom.volume, tmp_path / "ct" / str(number), identity=CtIdentity.named(f"plan-{number}"))
    app = typer.Typer()
    app.command()(plan)

    def call(*words: str):
        return CliRunner().invoke(app, ["ct", "-m", "ct-threshold", *words])

    return call


def test_a_told_figure_plans_a_folder(invoke) -> None:
    """Three series of 90 slices in all; dollars are those of the machine's price."""
    done = invoke("--seconds-per-series", "60", "--machine", "g4dn.xlarge", "--json", "--html", "plan.html")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["series"], document["slices"]) == (3, 90)
    assert document["options"][0]["usd_per_hour"] == "0.526"
    words = ("--seconds-per-series", "60", "--machine", "g4dn.xlarge")
    cells = json.loads(invoke(*words, "--price-of", "head=m6i.xlarge:us-east-1:on-demand", "--json").stdout)
    before, after = document["options"][0], cells["options"][0]
    assert (before["heads"], after["heads"]) == (0, 1)
    # 0.192 beside 0.526 US$ an hour, each for about as long as the other.
    assert after["usd"]["middle"] / before["usd"]["middle"] == pytest.approx(1 + 0.192 / 0.526, rel=0.25)
    assert invoke(*words, "--price-of", "cpu=m6i.xlarge").exit_code == 2
    assert Path("plan.html").read_text().count("<circle") == len(document["options"])


def test_only_options_on_the_frontier_have_arms(invoke) -> None:
    """Of all machines every option is a dot, and those that nothing beats alone have arms, to be seen."""
    done = invoke("--seconds-per-series", "60", "--all", "--json", "--html", "plan.html")
    options = json.loads(done.stdout)["options"]
    page = Path("plan.html").read_text()
    assert page.count("<circle") == len(options)
    assert page.count('class="arms"') == sum(option["frontier"] for option in options) < len(options)


def test_small_collections_are_told_in_their_own_unit(invoke) -> None:
    """Less than a gigabyte is not 0.0 GB."""
    told = invoke("--seconds-per-series", "60", "--machine", "g4dn.xlarge").stdout
    assert "0.0 GB" not in told
    assert re.search(r"slices, [\d.]+ (kB|MB), for", told)


@pytest.mark.parametrize(
    "words",
    [
        ("--pilot", "2", "--from-run", "r"),
        ("--pilot", "2", "--seconds-per-series", "5"),
        ("--all", "--machine", "g4dn.xlarge"),
    ],
)
def test_options_of_which_one_would_be_dropped_are_a_usage_error(invoke, words: tuple[str, ...]) -> None:
    """Two sources of times, or a machine beside all of them: exit code 2, both named."""
    done = invoke(*words)
    assert done.exit_code == 2
    assert all(word in done.stderr for word in words if word.startswith("--"))


def test_a_models_card_alone_plans_a_folder(invoke) -> None:
    """The card's seconds and bytes stand where nothing else is given; each figure has its interval."""
    done = invoke("--machine", "g4dn.xlarge", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["series_measured"] == 7
    for figure in (document["output_bytes"], *(document["cheapest"][name] for name in ("hours", "usd", "egress_usd"))):
        assert 0 < figure["low"] < figure["middle"] < figure["high"]
    assert any("from the card" in text for text in document["assumptions"])


def test_without_a_measurement_nothing_is_made_up(invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pilot, no run, no figure, and none on the card: the error names the three ways."""
    bare = replace(catalogue.card("ct-threshold"), measured=None)
    monkeypatch.setattr(catalogue, "card", lambda name: bare)
    done = invoke("--machine", "g4dn.xlarge")
    assert isinstance(done.exception, NotMeasured)
    assert "--pilot" in str(done.exception)


def test_a_machine_without_a_price_is_refused_with_the_file_to_add_it_to(invoke) -> None:
    """The plan does not begin, and says where the price belongs."""
    done = invoke("--seconds-per-series", "60", "--machine", "abacus")
    assert isinstance(done.exception, NoPrice)
    assert "prices.toml" in str(done.exception)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("usd_per_hour = -1", "no price"),
        ("usd_per_hour = 99999", "decimal point"),
        ("eur_per_hour = 1\nusd_per_hour = 1", "not known"),
    ],
)
def test_prices_that_cannot_be_meant_are_refused(invoke, row: str, reason: str) -> None:
    """Negative, absurd, and in another currency."""
    Path("my.toml").write_text(f'[[price]]\nmachine = "m"\nsource = "s"\ndated = 2026-11-01\n{row}\n')
    done = invoke("--seconds-per-series", "60", "--machine", "m", "--prices", "my.toml")
    assert isinstance(done.exception, BadPrice)
    assert reason in str(done.exception)


def test_a_stale_price_is_used_and_told_of(invoke) -> None:
    """A price of the year 2020 warns, in the table and in JSON."""
    Path("my.toml").write_text('[[price]]\nmachine = "m"\nusd_per_hour = 1\nsource = "s"\ndated = 2020-01-01\n')
    done = invoke("--seconds-per-series", "60", "--machine", "m", "--prices", "my.toml", "--json")
    assert any("days old" in text for text in json.loads(done.stdout)["warnings"])


def test_exit_code_3_where_nothing_keeps_the_limits(invoke) -> None:
    """A budget smaller than one series."""
    assert invoke("--seconds-per-series", "60", "--machine", "g4dn.xlarge", "--budget", "0.0001").exit_code == 3


def test_what_cannot_be_kept_is_told_with_the_least_that_can(invoke) -> None:
    """No option: the sentence names the option of the command line, and from which amount on there is one."""
    told = invoke("--seconds-per-series", "60", "--machine", "g4dn.xlarge", "--budget", "0.0001").stdout
    least = re.search(r"--budget is below \$([\d.]+)", told)
    assert least
    enough = str(float(least[1]) * 1.06)
    assert invoke("--seconds-per-series", "60", "--machine", "g4dn.xlarge", "--budget", enough).exit_code == 0


@pytest.mark.slow
def test_a_pilot_runs_and_a_plan_follows_from_it(invoke) -> None:
    """Two of three series go through the real pipeline; the same times serve again with --from-run."""
    done = invoke("--pilot", "2", "--machine", "g4dn.xlarge", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["series_measured"] == 2
    assert document["seconds_per_series"] > 0
    assert document["output_bytes"]["middle"] > 0
    (run,) = (path.name for path in Path("voxfleet-runs").iterdir())
    assert run in " ".join(document["assumptions"]), "where the pilot is kept"
    again = json.loads(invoke("--from-run", run, "--machine", "g4dn.xlarge", "--json").stdout)
    assert again["seconds_per_series"] == pytest.approx(document["seconds_per_series"])


def test_a_pilot_runs_no_weights_whose_licence_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot runs the model, and so asks for what a run asks for; without one, nothing of the weights is used."""
    card = replace(catalogue.card("ct-threshold"), weights_licence="CC-BY-NC-4.0")
    monkeypatch.setattr(catalogue, "card", lambda _: card)
    app = typer.Typer()
    app.command()(plan)
    words = [str(tmp_path), "-m", "ct-threshold"]
    refused = CliRunner().invoke(app, [*words, "--pilot", "2"])
    assert isinstance(refused.exception, LicenceNotAccepted)
    for further in (["--pilot", "2", "--accept-licence"], []):
        assert isinstance(CliRunner().invoke(app, [*words, *further]).exception, NoSizes)
