"""What people and machines read about a run: terminal, JSON, parquet, page, provenance."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from .ledger import Ledger
from .run_folder import RunFolder
from .summary import RunSummary, to_json, to_parquet


def show_summary(summary: RunSummary, folder: RunFolder, *, as_json: bool) -> None:
    """Print a run's figures: for people, or as one JSON document."""
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(to_json(summary))
        return
    for text in _lines(summary):
        console.print(text)
    if summary.failures:
        console.print(_failures(summary))
    for warning in summary.warnings:
        console.print(f"[yellow]warning[/yellow] {warning}")
    if folder.report.is_file():
        console.print(f"page: {folder.report}")


def _lines(summary: RunSummary) -> tuple[str, ...]:
    counts, money, price = summary.progress.counts, summary.money, summary.price
    each = f", {money.per_completed * 100:.4f} cents a result" if money.per_completed is not None else ""
    priced = f"as {price.equivalent_of}, " if price.equivalent_of else ""
    eta = f", about {summary.progress.eta_s:.0f} s to go" if summary.progress.eta_s else ""
    return (
        f"[bold]{summary.run.name}[/bold]  {summary.run.source} -> {summary.run.target}",
        f"{counts.completed} completed, {counts.refused} refused, {counts.failed} failed, {counts.open} open{eta}; "
        f"{counts.never_workitems} objects are no usable DICOM instance",
        f"{summary.attempts} attempts, {summary.lost} of them lost to killed workers or machines",
        f"${money.total:.6f}: useful ${money.useful:.6f}, wasted ${money.wasted:.6f}, "
        f"refused ${money.refused:.6f}, start-up and idle ${money.overhead:.6f}{each}",
        f"at ${price.usd_per_hour}/h ({priced}{price.provider} {price.region} {price.market}, {price.dated}, "
        f"{price.source})",
    )


def _failures(summary: RunSummary) -> Table:
    table = Table("what", "stage", "reason", "number", Column("for example", overflow="fold"))
    for row in summary.failures:
        table.add_row(row.result, row.stage, row.code, str(row.count), row.reason)
    return table


def write_outputs(folder: RunFolder, ledger: Ledger, summary: RunSummary) -> None:
    """Placeholder."""
    to_parquet(summary, folder.path / "series.parquet")
