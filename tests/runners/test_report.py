"""Pages say what happened, to people, and nothing else to anybody."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from voxfleet.enrich.measurement import Measured
from voxfleet.runners.page import Link, bar, number, seconds, size, usd
from voxfleet.runners.report import SeriesPage, series_report
from voxfleet.runners.run_report import MOST_ROWS, Reason, RunPage, SeriesLine, Spending, StageTotal, Totals, run_report

NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
VOID = {"meta", "img", "input", "br", "rect"}


class Page(HTMLParser):
    """The text, links and pictures of a page; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a browser would follow or fetch."""
        given = dict(attrs)
        assert tag not in {"script", "iframe", "link", "object"}
        assert not any(name.startswith("on") for name in given)
        if tag == "img":
            self.images.append(given["src"] or "")
        if tag == "a":
            self.links.append(given["href"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Every end belongs to the last start, but for `rect`."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep text that is read."""
        if self.open and self.open[-1] != "style":
            self.text.append(" ".join(data.split()))

    @property
    def words(self) -> str:
        """All text, spaces single."""
        return " ".join(text for text in self.text if text)


def test_series_page_holds_what_people_ask_for(series_page: SeriesPage) -> None:
    """Series, model, intended use, segments, objects, digests, machine, cost, repairs: all are there to be read."""
    html = series_report(series_page)
    words = Page(html).words
    activity = series_page.activity
    for expected in (
        "1.2.4",
        "covid-opacity-hu 1.0",
        "not a diagnosis",
        "Right Lung",
        "Segmentation (SEG)",
        "Comprehensive 3D SR",
        "2.25.3",
        "was there",
        "gantry tilt of 12.5 degrees resampled",
        "segment 3 shape_Sphericity: <one> voxel",
        "AMD EPYC, 2 cores",
        "NVIDIA L4",
        "$0.00029",
        "64 × 64, 40 slices",
        "1.2 MB",
        "lung window",
        *(citation.split(".")[0] for citation in activity.card.citations),
    ):
        assert expected in words, expected
    assert "d" * 64 in html


def test_volumes_are_those_of_the_voxels(series_page: SeriesPage) -> None:
    """Left lung, with all that it contains, in ml: voxels times 0.216 ml each."""
    voxels = int(series_page.segmentation.mask(2).sum())
    # 6 mm x 6 mm x 6 mm = 0.216 ml
    assert f"Left Lung {voxels * 0.216:.1f}" in Page(series_report(series_page)).words


def test_series_page_fetches_nothing(series_page: SeriesPage) -> None:
    """Pictures are inside; links are relative files, whatever they were called; no address of another host."""
    html = series_report(series_page)
    page = Page(html)
    assert len(page.images) == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    assert page.links == ["measurements.csv", "javascript%3Aalert%281%29"]
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)
    assert "default-src 'none'" in html
    assert len(html.encode()) < 2_000_000


def test_no_patient_and_no_secret(series_page: SeriesPage) -> None:
    """Neither the folder of the files nor the password of the archive is on the page."""
    html = series_report(series_page)
    for word in ("Doe_Jane", "SECRET"):
        assert word not in html


def test_hostile_text_is_text(series_page: SeriesPage) -> None:
    """A UID that is markup is shown, not run."""
    hostile = "<img src=x onerror=alert(1)>"
    activity = replace(series_page.activity, series_instance_uid=hostile, repairs=(hostile,))
    html = series_report(replace(series_page, activity=activity))
    assert hostile not in html
    assert hostile in Page(html).words


def test_a_page_of_nothing(series_page: SeriesPage) -> None:
    """Nothing found, nothing measured, no pictures, no cost: a page all the same."""
    labelmap = series_page.segmentation.labelmap
    empty = replace(series_page.segmentation, labelmap=labelmap.with_array(labelmap.array * 0))
    activity = replace(series_page.activity, cost=None, repairs=(), failed_features=(), stages=())
    words = Page(series_report(SeriesPage(activity, series_page.volume, empty, Measured(())))).words
    assert words.count("not found") == 6
    assert "0 of 6 segments found" in words


@pytest.fixture
def run_page() -> RunPage:
    """A run under way, with everything that can go wrong."""
    line = SeriesLine(
        "1.2.1", "CT", "m 1.0", 3, "completed", "", "", "", 1, 10.4, Decimal("0.00031"), "series/1.2.1/report.html"
    )
    refused = replace(
        line,
        series_instance_uid="1.2.2",
        result="refused",
        stage="read",
        code="GANTRY_TILT",
        message="tilted by 12°",
        page="",
    )
    failed = replace(
        refused,
        series_instance_uid="1.2.3",
        result="failed",
        stage="segment",
        code="OUT_OF_MEMORY",
        message="<cap> passed",
    )
    waiting = replace(refused, series_instance_uid="1.2.4", result="waiting", stage="", code="", message="", attempts=0)
    return RunPage(
        name="demo",
        source="dir:/data",
        target="https://me:SECRET@pacs.example/dicom-web",
        models=("m 1.0",),
        created=NOW - timedelta(hours=1),
        at=NOW,
        totals=Totals(completed=1, refused=1, failed=1, waiting=1, unusable=7),
        attempts=5,
        lost=2,
        per_s=0.05,
        eta_s=40.4,
        spending=Spending(
            total=Decimal("12.3456"),
            useful=Decimal("9.1"),
            wasted=Decimal("0.25"),
            refused=Decimal("0.0000001"),
            in_flight=Decimal(0),
            overhead=Decimal("2.9"),
            per_completed=Decimal("12.3456"),
            budget=Decimal(50),
            price="$0.096/h as m6i.large",
            price_source="AWS price list",
            price_dated=date(2026, 2, 9),
        ),
        stages=(
            StageTotal("segment", 5, 75.0, 100.0, 0.0, Decimal("0.002")),
            StageTotal("odd", 1, 25.0, 1.0, 25.0, Decimal(0)),
        ),
        reasons=(Reason("refused", "read", "GANTRY_TILT", 1, "1.2.2", "tilted by 12°"),),
        series=(line, waiting, refused, failed),
        warnings=("price of local is 120 days old",),
        files=(Link("series.parquet", "series.parquet"),),
    )


def test_run_page_tells_how_it_stands(run_page: RunPage) -> None:
    """Counts, ETA, lost attempts, dollars with the price's source and date, shares of stages."""
    words = Page(run_report(run_page)).words
    for expected in (
        "3 of 4 settled · about 40 s to go",
        "Unusable objects 7",
        "5 attempts, 2 lost with their worker",
        "$12.35 spent, of $50.00 allowed",
        "$0.25 wasted",
        "<$0.000001",
        "Source: AWS price list, 2026-02-09",
        "price of local is 120 days old",
        "segment 75.0 %",
        "odd 25.0 %",
        "<cap> passed",
        "lately 180 series an hour",
    ):
        assert expected in words, expected
    assert "SECRET" not in words


def test_trouble_comes_first(run_page: RunPage) -> None:
    """Failed, refused, waiting, completed; a completed series links to its page."""
    page = Page(run_report(run_page))
    listed = page.words[page.words.index("Series Instances") :]
    assert re.findall(r"1\.2\.\d", listed) == ["1.2.3", "1.2.2", "1.2.4", "1.2.1"]
    assert page.links == ["series/1.2.1/report.html", "series.parquet"]


def test_a_run_of_very_many_stays_readable(run_page: RunPage) -> None:
    """Of more series than a page lists, those in trouble are listed, and the rest counted."""
    done = tuple(replace(run_page.series[0], series_instance_uid=f"9.{n}") for n in range(MOST_ROWS + 500))
    html = run_report(replace(run_page, series=(*done, run_page.series[3])))
    assert "1.2.3" in html
    assert f"{MOST_ROWS} of {MOST_ROWS + 501} are listed" in Page(html).words
    assert len(html.encode()) < 2_000_000


def test_a_run_that_has_not_begun(run_page: RunPage) -> None:
    """No series, no attempt, no rate: a page all the same."""
    spending = replace(run_page.spending, per_completed=None, budget=None)
    empty = replace(
        run_page, totals=Totals(), series=(), stages=(), reasons=(), spending=spending, per_s=0, eta_s=None, warnings=()
    )
    assert "0 of 0 settled" in Page(run_report(empty)).words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (seconds(0.04), "0.04 s"),
        (seconds(12.34), "12.3 s"),
        (seconds(40), "40 s"),
        (seconds(245), "4 min 05 s"),
        (seconds(12_000), "3 h 20 min"),
        (seconds(187_200), "2 d 4 h"),
        (size(999), "999 B"),
        (size(1_234_567), "1.2 MB"),
        (usd(Decimal(0)), "$0.00"),
        (usd(Decimal("1234.567")), "$1,234.57"),
        (usd(Decimal("0.0123")), "$0.012"),
        (usd(Decimal("0.000290")), "$0.00029"),
        (usd(Decimal("0.0000003")), "<$0.000001"),
        (number(7.0), "7"),
        (number(-812.934), "-812.93"),
        (number(123456.7), "123,457"),
        (number(0.000123456), "0.00012346"),
    ],
)
def test_numbers_as_people_read_them(written: str, expected: str) -> None:
    """Durations, sizes, dollars and values, by hand."""
    assert written == expected


def test_bar_fills_its_width() -> None:
    """Shares of 75 and 25 lie side by side over 1000 units; what took no time is left out."""
    parts = bar([("segment", 3.0), ("none", 0.0), ("store", 1.0)])
    assert [(part.label, part.x, part.width) for part in parts] == [("segment", 0.0, 750.0), ("store", 750.0, 250.0)]
    assert bar([("segment", 0.0)]) == ()
