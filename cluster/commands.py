"""Commands over a run: ``enrich`` and ``report``."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from ..enrich.archives.opening import READABLE, WRITABLE, open_archive
from ..enrich.atomic import write_text
from ..models import catalogue
from ..runners.cli import EXIT_DONE, EXIT_INCOMPLETE, EXIT_STOPPED
from ..runners.commands import (
    AcceptLicence,
    Features,
    features_of,
    parameters_of,
    progress_bar,
    segmentation_type_of,
)
from ..runners.devices import checked, devices_of
from ..runners.pipeline import LANES
from ..runners.worklist import Wish, check_licence, wish
from .budgets.alarm import alarms_to
from .budgets.governor import BudgetSpent, Governor
from .budgets.limits import FAILURE_SHARE, Limits
from .drivers.stop import Stop
from .duration import hours_of, named_seconds
from .enrichment import Plan, perform, register
from .kubernetes.fleet import fleet_of
from .kubernetes.group_prices import with_groups
from .ledger import Ledger
from .ledgers.opening import keep_in, open_ledger
from .ledgers.patience import Patience, patient
from .options import (
    AlarmWebhook,
    AsJson,
    CpuWorkers,
    Deadline,
    MaxCost,
    MaxFailures,
    MaxNodes,
    PriceFile,
    PriceOf,
    RunName,
    StageDeadline,
)
from .prices.group_price import group_prices
from .prices.price import Price
from .prices.run_price import begun_run, price_change, price_for, price_to_go_on
from .run_folder import RunFolder
from .sources import citations

OBSERVE_FACTOR, OBSERVE_S = 20.0, 1.0
"""The ledger is looked at again after so many times as long as the last look took, and after so long at the latest:
half of the time in which somebody has to see that the budget is spent, also where this process stood still meanwhile.
"""


def enrich(  # noqa: PLR0913, PLR0917 - the command line's options
    source: Annotated[str, typer.Argument(help=f"Folder of DICOM files, {READABLE}.")],
    model: Annotated[list[str], typer.Option("--model", "-m", help="May be repeated; see `voxfleet models`.")],
    to: Annotated[str, typer.Option("--to", help=f"Archive for the results: folder, {WRITABLE}.")],
    run: Annotated[str, typer.Option("--run", help="Name of the run, or path of its folder.")],
    ledger_url: Annotated[
        str,
        typer.Option(
            "--ledger", envvar="VOXFLEET_LEDGER", help="postgresql://USER@HOST/DATABASE, for drivers on many machines."
        ),
    ] = "",
    on: Annotated[
        str, typer.Option(help="local, ray (this machine or $RAY_ADDRESS), ray://HOST:10001, kuberay, or workers.")
    ] = "local",
    cells: Annotated[
        Path | None, typer.Option("--cells", help="For kuberay: the cells' image, secrets, ... in TOML.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Agents on Ray, in each cell; writers on this machine.")] = 1,
    cpu_workers: CpuWorkers = 0,
    device: Annotated[list[str] | None, typer.Option(help="cpu, cuda:N or cuda (all GPUs); may be repeated.")] = None,
    seg: Annotated[str, typer.Option(help="binary, binary-deflated or labelmap.")] = "binary",
    param: Annotated[list[str] | None, typer.Option(help="[MODEL:]NAME=VALUE; may be repeated.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Resample gantry tilt and uneven gaps.")] = False,
    features: Features = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Use only source series under it, e.g. CC-BY; may be repeated.")
    ] = None,
    nifti: Annotated[bool, typer.Option("--nifti", help="Write label maps as NIfTI too.")] = False,
    budget: Annotated[str | None, typer.Option(help="Most that the run may cost, in US$.")] = None,
    max_cost_per_series: MaxCost = None,
    deadline: Deadline = None,
    max_failures: MaxFailures = FAILURE_SHARE,
    max_nodes: MaxNodes = None,
    stage_deadline: StageDeadline = None,
    alarm_webhook: AlarmWebhook = "",
    machine: Annotated[str, typer.Option(help="What the nodes are, for their price; local unless said.")] = "",
    region: Annotated[str, typer.Option(help="Region of the price.")] = "",
    market: Annotated[str, typer.Option(help="on-demand or spot.")] = "",
    price_of: PriceOf = None,
    prices: PriceFile = None,
    planned: Annotated[
        Path | None, typer.Option("--plan", help="Of `voxfleet plan --json`: kept with the run, for `voxfleet cost`.")
    ] = None,
    accept_licence: AcceptLicence = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Give failed series another chance.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enrich a whole collection: every series segmented, measured, stored, read back and accounted for.

    The same command goes on where an earlier one stopped or died. Exit code 0: all done;
    3: done, with refusals or failures; 4: stopped by the budget, by a limit or by Ctrl-C; 1: error.
    """
    measuring = features_of(features)
    forecast = _read(planned) if planned else None
    for name in model:
        check_licence(catalogue.card(name), accepted=accept_licence)
    begun = begun_run(RunFolder(run), ledger_url)
    price = price_to_go_on(begun, machine, region, market, prices)
    plan = Plan(
        source=archive_uri(source),
        target=archive_uri(to),
        wishes=tuple(
            replace(each, features=measuring)
            for each in wishes_of(model, param or [], segmentation_type_of(seg), repair=repair)
        ),
        folder=RunFolder(run),
        price=price,
        prices=group_prices(begun, price, price_of or [], prices),
        region=region,
        market=market,
        budget_usd=dollars_of("--budget", budget),
        on=on,
        workers=workers,
        cpu_workers=cpu_workers,
        devices=(devices_of if on == "local" else checked)(device or ["cpu"]),
        nifti=nifti,
        deadlines_s=named_seconds(stage_deadline or [], LANES),
        licences=tuple(licence or ()),
    )
    limits = Limits(
        usd_per_series=dollars_of("--max-cost-per-series", max_cost_per_series),
        wall_s=hours_of(deadline) * 3600 if deadline else None,
        failure_share=max_failures,
        nodes=max_nodes,
        settle_s=plan.settle_s,
    )
    console = Console(stderr=True, quiet=as_json, highlight=False)
    shared = bool(ledger_url) or plan.folder.ledger_url.is_file()
    if on == "kuberay":
        fleet = fleet_of(plan, cells, limits, shared_ledger=shared)
        plan = replace(plan, fleet=fleet, prices=with_groups(plan.prices, fleet.groups, plan.price, prices))
    patience = Patience()
    with (
        plan.folder.locked(),
        until_stopped(console) as stop,
        stopped_unseen(console),
        alarms_to(alarm_webhook) as alarm,
    ):
        if on == "workers" and not shared:
            raise typer.BadParameter("--on workers needs --ledger: a ledger that they can reach")
        if on == "workers" and (limits.usd_per_series or limits.wall_s or limits.nodes or plan.deadlines_s):
            raise typer.BadParameter("limits do not reach workers from here: give them to `voxfleet worker`")
        if ledger_url:
            keep_in(plan.folder, ledger_url)
        if forecast:
            write_text(plan.folder.plan, json.dumps(forecast, indent=2))
        ledger = patient(open_ledger(plan.folder), patience)
        if change := price_change(begun, plan.price):
            console.print(change)
        with console.status("searching the source ...") as status:
            register(plan, ledger, lambda number: status.update(f"searching the source: {number} workitems"))
        for line in citations(plan.folder):
            console.print(line, soft_wrap=True)
        if retry_failed:
            ledger.retry_failed()
        governor = Governor(ledger, plan.price, plan.budget_usd, stop, limits, alarm)
        patience.minds = governor.check_unseen
        with progress_bar(console) as bar:
            task = bar.add_task(plan.folder.name, total=None, counts="")
            observe = observer(ledger, governor, lambda **shown: bar.update(task, **shown))
            with suppress(BudgetSpent):
                perform(plan, ledger, governor, observe)
        _conclude(ledger, plan.price, plan.folder, as_json=as_json)
        code = _exit_code(ledger, console, why=_why(governor, on), short=governor.out_of_budget)
    raise typer.Exit(code)


def report(run: RunName, prices: PriceFile = None, as_json: AsJson = False) -> None:
    """Write a run's page, tables and provenance anew, from the ledger; nothing is run again."""
    folder = RunFolder(run).must_exist()
    ledger = open_ledger(folder)
    _conclude(ledger, price_for(ledger.run(), override=prices), folder, as_json=as_json)


def archive_uri(text: str) -> str:
    """An archive's URI as the ledger keeps it: folders absolute, so that a run resumes from anywhere."""
    archive = open_archive(text)
    archive.close()
    return archive.uri


def wishes_of(names: list[str], params: list[str], segmentation_type: str, *, repair: bool) -> tuple[Wish, ...]:
    """A wish per model, each with the parameters that name it, or that name none."""
    wishes = []
    for name in dict.fromkeys(names):
        card = catalogue.card(name)
        mine = [text.removeprefix(f"{name}:") for text in params if _model_of(text) in ("", name)]
        wishes.append(wish(card, parameters_of(mine), segmentation_type, repair=repair))
    for text in params:
        if _model_of(text) and _model_of(text) not in names:
            raise typer.BadParameter(f"--param {text}: no such --model")
    return tuple(wishes)


def _read(planned: Path) -> Mapping[str, Any]:
    """A forecast; what reads it imports scipy.stats, half a second that a run without one does not have."""
    from .accounts.planned import read_plan

    return read_plan(planned)


def _model_of(param: str) -> str:
    return param.partition("=")[0].rpartition(":")[0]


def dollars_of(option: str, text: str | None) -> Decimal | None:
    """An amount of US$ above nothing behind an option of the command line; None without one."""
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation as exc:
        raise typer.BadParameter(f"{option} {text}: not an amount; give US$, e.g. 25 or 0.50") from exc
    if not amount.is_finite() or amount <= 0:
        raise typer.BadParameter(f"{option} {text}: nothing can be done for that; give US$, e.g. 25 or 0.50")
    return amount


def _conclude(ledger: Ledger, price: Price, folder: RunFolder, *, as_json: bool) -> None:
    """Write all that people and machines read about a run, and show its figures."""
    # Pages, tables and provenance: a third of a second to import, which the first workitem need not wait for.
    from .status.outputs import show_summary, write_outputs
    from .status.summary import summarise

    summary = summarise(ledger, price)
    write_outputs(folder, summary)
    show_summary(summary, folder, as_json=as_json)


@contextmanager
def until_stopped(console: Console) -> Iterator[Stop]:
    """What Ctrl-C or SIGTERM sets; a second one ends the program at once, resumable all the same."""
    stop = Stop()

    def halt(number: int, _: FrameType | None) -> None:
        before_it = stop.is_set()
        if stop.told(number):
            raise SystemExit(128 + number)
        if not before_it:
            console.print("stopping: what is in flight is finished first (again to leave at once) ...")

    before = {number: signal.signal(number, halt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_unseen(console: Console) -> Iterator[None]:
    """End as a stop does where the budget is spent while the ledger is away: nothing more can be asked of it."""
    try:
        yield
    except BudgetSpent as exc:
        console.print(f"{exc}: what was in flight is given up; the same command with a larger --budget goes on")
        raise typer.Exit(EXIT_STOPPED) from exc


def observer(ledger: Ledger, governor: Governor, show: Callable[..., None]) -> Callable[[], None]:
    """What the driver calls while it works: the bar's figures, from the ledger.

    However often it is called, it takes a twentieth of the time at most, where a look takes no longer than 50 ms.
    """
    due = 0.0

    def observe() -> None:
        nonlocal due
        began = monotonic()
        if began < due:
            return
        governor.check()
        counts = ledger.counts()
        text = f"{counts.completed} done, {counts.failed} failed, {counts.refused} refused"
        show(
            completed=counts.total - counts.open,
            total=counts.total,
            counts=f"{text}, ${governor.spent_usd:.4f}",
        )
        now = monotonic()
        due = now + min(OBSERVE_FACTOR * (now - began), OBSERVE_S)

    observe()
    return observe


def _why(governor: Governor, on: str) -> str:
    """Why workitems are left, as far as that is known."""
    if on in ("workers", "nothing"):
        return "for `voxfleet worker` to do" if on == "workers" else "registered"
    return "what is left of the budget does not pay for another series" if governor.out_of_budget else governor.paused


def _exit_code(ledger: Ledger, console: Console, *, why: str, short: bool) -> int:
    """What the command ends with; a file that is no DICOM at all is recorded, and no reason to worry."""
    counts = ledger.counts()
    if counts.open:
        again = "the same command with a larger --budget" if short else "the same command"
        console.print(f"{why or 'stopped'}: {counts.open} workitems are left; {again} goes on with them")
        return EXIT_STOPPED
    broken = [each for each in ledger.refusals() if each.code != "NOT_DICOM"]
    return EXIT_INCOMPLETE if counts.failed or counts.refused or broken else EXIT_DONE
