"""What people and machines read about a run: terminal, JSON, parquet, page, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console

from ...enrich.atomic import write_text
from ...enrich.prov_json import member_of, run_prov
from ...enrich.provenance import CostStatement, RunActivity
from ...runners.environment import git_commit, software
from ...runners.page import Link
from ...runners.request import file_name
from ...runners.results import PAGE, PROVENANCE
from ...runners.run_report import RunPage, SeriesLine, Spending, Totals, run_report
from ..accounts.result_cost import add_costs
from ..accounts.spent import told_by
from ..prices.rates import Price
from ..run_folder import RunFolder
from .figures import RunSummary, SeriesRow
from .summary import to_json, to_parquet
from .wording import attempted, counted, heading, paid_at, priced, troubled

TABLE = "series.parquet"


def show_summary(summary: RunSummary, folder: RunFolder, *, as_json: bool, series: bool = False) -> None:
    """Print a run's figures: for people, with a row a series if wanted; or as one JSON document."""
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(to_json(summary))
        return
    for text in _lines(summary):
        console.print(text)
    for row in summary.failures:
        console.print(troubled(row.count, row.result, row.code, row.stage, row.message))
    if series:
        for line in _series(summary):
            console.print(line)
    for warning in summary.warnings:
        console.print(f"[yellow]warning[/yellow] {warning}")
    if folder.report.is_file():
        console.print(f"page: {folder.report}")


def _lines(summary: RunSummary) -> tuple[str, ...]:
    money = summary.money
    each = f", {money.per_completed * 100:.4f} cents a result" if money.per_completed is not None else ""
    return (
        heading(summary.run),
        counted(summary.progress),
        attempted(summary.attempts, summary.lost),
        f"${money.total:.6f}: useful ${money.useful:.6f}, wasted ${money.wasted:.6f}, "
        f"refused ${money.refused:.6f}, start-up and idle ${money.overhead:.6f}{each}",
        *paid_at(summary.nodes, summary.price),
    )


def _series(summary: RunSummary) -> Iterator[str]:
    """A line a series, its UID last and whole, so that it can be copied on any terminal."""
    for row in summary.series:
        result = f"{row.result} {row.code}".strip()
        yield f"{result:24} {row.wall_s:8.1f} s {row.usd * 100:10.5f} cents  {row.model:18} {row.series_instance_uid}"


def write_outputs(folder: RunFolder, summary: RunSummary) -> None:
    """Write a run's page, its table of series, and its provenance, each whole or not at all."""
    pages = {row.key: _page_of(folder, row) for row in summary.series}
    to_parquet(summary, folder.path / TABLE)
    # Before the run's own document, which holds the digests of these.
    add_costs(folder, summary)
    write_text(folder.path / PROVENANCE, run_prov(_activity(folder, summary)))
    write_text(folder.report, run_report(_run_page(summary, pages)))


def _page_of(folder: RunFolder, row: SeriesRow) -> str:
    """Path of a workitem's page, relative to the run's; empty if it has none."""
    path = folder.results / row.series_instance_uid / file_name(row.model.partition(" ")[0]) / PAGE
    return path.relative_to(folder.path).as_posix() if path.is_file() else ""


def _activity(folder: RunFolder, summary: RunSummary) -> RunActivity:
    counts, run = summary.counts, summary.run
    files = sorted(folder.results.glob(f"*/*/{PROVENANCE}"))
    source, dated = told_by(_prices(summary))
    return RunActivity(
        name=run.name,
        source=run.source,
        target=run.target,
        models=run.models,
        parameters=run.parameters,
        software=software(),
        git_commit=git_commit(),
        started=run.created,
        ended=summary.at,
        totals={"completed": counts.completed, "refused": counts.refused, "failed": counts.failed, "open": counts.open},
        members=tuple(member_of(file, folder.path, file.parts[-3], file.parts[-2]) for file in files),
        cost=CostStatement(summary.money.total, source, dated.isoformat()),
    )


def _run_page(summary: RunSummary, pages: Mapping[str, str]) -> RunPage:
    counts, run = summary.counts, summary.run
    return RunPage(
        name=run.name,
        source=run.source,
        target=run.target,
        models=run.models,
        created=run.created,
        at=summary.at,
        totals=Totals(
            completed=counts.completed,
            refused=counts.refused,
            failed=counts.failed,
            in_flight=counts.in_progress,
            waiting=counts.scheduled,
            unusable=counts.never_workitems,
        ),
        attempts=summary.attempts,
        lost=summary.lost,
        per_s=summary.progress.per_s,
        eta_s=summary.progress.eta_s,
        spending=_spending(summary),
        stages=summary.stages,
        reasons=summary.failures,
        series=tuple(_series_line(row, pages[row.key]) for row in summary.series),
        warnings=summary.warnings,
        files=(Link("series (Parquet)", TABLE), Link("provenance (PROV-JSON)", PROVENANCE)),
    )


def _spending(summary: RunSummary) -> Spending:
    money, prices = summary.money, _prices(summary)
    source, dated = told_by(prices)
    return Spending(
        total=money.total,
        useful=money.useful,
        wasted=money.wasted,
        refused=money.refused,
        in_flight=money.in_flight,
        overhead=money.overhead,
        per_completed=money.per_completed,
        budget=summary.run.budget_usd,
        price="; ".join(map(priced, prices)),
        price_source=source,
        price_dated=dated,
    )


def _prices(summary: RunSummary) -> tuple[Price, ...]:
    """Those of its nodes; the run's before any came up."""
    return tuple(each.price for each in summary.nodes) or (summary.price,)


def _series_line(row: SeriesRow, page: str) -> SeriesLine:
    return SeriesLine(
        series_instance_uid=row.series_instance_uid,
        modality=row.modality,
        model=row.model,
        instances=row.instances,
        result=row.result,
        stage=row.stage,
        code=row.code,
        message=row.reason,
        attempts=row.attempts,
        wall_s=row.wall_s,
        usd=row.usd,
        page=page,
    )
