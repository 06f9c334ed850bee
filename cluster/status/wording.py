"""What a run's figures are in words."""

from __future__ import annotations

from collections.abc import Sequence

from ..accounts.spent import PricedNodes
from ..ledgers.run_record import Run
from ..prices.price import Price
from .progress import Progress


def heading(run: Run) -> str:
    """Name, source and target."""
    return f"[bold]{run.name}[/bold]  {run.source} -> {run.target}"


def counted(progress: Progress) -> str:
    """How many stand where, and how long the rest will take."""
    counts = progress.counts
    eta = f", about {progress.eta_s:.0f} s to go" if progress.eta_s else ""
    return (
        f"{counts.completed} completed, {counts.refused} refused, {counts.failed} failed, {counts.open} open{eta}; "
        f"{counts.never_workitems} objects could not be used"
    )


def attempted(attempts: int, lost: int) -> str:
    """How many attempts there were."""
    return f"{attempts} attempts, {lost} of them lost to killed workers or machines"


def troubled(count: int, result: str, code: str, stage: str, example: str) -> str:
    """One reason for which series were refused or failed."""
    return f"{count:6} {result} {code} ({stage}), for example: {example}"


def priced(price: Price) -> str:
    """A price."""
    alike = f", priced as {price.equivalent_of}" if price.equivalent_of else ""
    where = " ".join(part for part in (price.provider, price.region, price.market) if part)
    return f"{price.usd_per_hour} US$ an hour for {price.machine}{alike} ({where})"


def priced_when(price: Price) -> str:
    """A price, when and by whom it was told."""
    return f"at {priced(price)}, {price.dated}, {price.source}"


def paid_at(nodes: Sequence[PricedNodes], price: Price) -> tuple[str, ...]:
    """What nodes were paid for: a line with the run's price, or one for each price where there are others."""
    if all(each.price == price for each in nodes):
        return (priced_when(price),)
    return tuple(
        f"${each.usd:.6f} for {each.hours:.4f} h of nodes ({each.lives}) {priced_when(each.price)}" for each in nodes
    )
