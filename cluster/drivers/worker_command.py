"""``voxfleet worker``: one more machine for a run whose ledger is shared, under any scheduler of arrays."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ...models import catalogue
from ...models.model import ModelCard
from ...runners.commands import progress_bar
from ...runners.devices import checked, devices_of
from ...runners.environment import node_name
from ...runners.pipeline import LANES, PipelineSettings
from ...runners.request import StageSettings
from ...runners.worklist import references, wish
from ..budgets.alarm import alarms_to
from ..budgets.governor import BudgetSpent, Governor
from ..budgets.limits import FAILURE_SHARE, Limits
from ..commands import dollars_of, observer, stopped_unseen, until_stopped
from ..duration import hours_of, named_seconds
from ..enrichment import UnknownExecutor, drive_on_ray, with_deadlines
from ..kubernetes.cell import BadCell, cell_label, machine_group
from ..ledger import Run
from ..ledgers.opening import open_shared_ledger
from ..ledgers.patience import Patience, patient
from ..options import AlarmWebhook, CpuWorkers, Deadline, MaxCost, MaxFailures, MaxNodes, StageDeadline
from ..prices.run_price import keep_price, price_change, price_to_go_on
from ..run_folder import RunFolder
from .kinds import kinds_of
from .local_cell import LocalCell, run_locally
from .worker_ending import ending_of, told_at_end

DRAIN_S = 20.0
"""Google gives a spot VM 30 s from its notice to its end, Amazon 120 s, Slurm 30 s."""


def worker(  # noqa: PLR0913, PLR0917 - the command line's options
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, as `voxfleet enrich --run` was given.")],
    ledger_url: Annotated[
        str, typer.Option("--ledger", envvar="VOXFLEET_LEDGER", help="postgresql://USER@HOST/DATABASE")
    ],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Network of yours on this machine; may be repeated.")
    ] = None,
    on: Annotated[str, typer.Option(help="local, ray (this machine or $RAY_ADDRESS) or ray://HOST:10001.")] = "local",
    device: Annotated[list[str] | None, typer.Option(help="cpu, cuda:N or cuda (all GPUs); may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Agents on Ray; writers on this machine.")] = 1,
    cpu_workers: CpuWorkers = 0,
    memory_gib: Annotated[
        float, typer.Option(min=0, help="What one stage may take; 0: six tenths of the machine's, or container's.")
    ] = 0,
    cache_gib: Annotated[
        float,
        typer.Option(min=0, help="What series in flight may take of --folder; 0: half of what is free each time."),
    ] = 0,
    deadline: Deadline = None,
    max_cost_per_series: MaxCost = None,
    max_failures: MaxFailures = FAILURE_SHARE,
    max_nodes: MaxNodes = None,
    stage_deadline: StageDeadline = None,
    alarm_webhook: AlarmWebhook = "",
    node: Annotated[
        str,
        typer.Option(
            envvar=["VOXFLEET_NODE", "AWS_BATCH_JOB_ID"],
            help="Name of this node; another for each worker that shares its folder.",
        ),
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where series in flight and pages are kept.")] = Path("voxfleet-worker"),
    drain: Annotated[float, typer.Option(min=0, help="Seconds for what is in flight after SIGTERM.")] = DRAIN_S,
    idle: Annotated[
        str | None,
        typer.Option(help="Leave after so long with nothing to lease, e.g. 5m: for those who are begun again in time."),
    ] = None,
    prices: Annotated[Path | None, typer.Option("--prices", help="TOML file of prices.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document at the end, instead of text.")] = False,
) -> None:
    """Work on a run that `voxfleet enrich --ledger` began, until nothing is left of it.

    With --on ray it drives a cell of agents instead of working itself.

    The budget is the run's; the limits are this worker's own, of what the run has done since it began.
    Exit code 0: nothing is left; 143: told by SIGTERM to leave, and more is left: to be begun again; 4: stopped by
    the budget, by a limit, by Ctrl-C, or with nothing to lease; 1: error; 2: the command line is wrong.
    """
    with told_at_end(run, as_json=as_json) as report:
        if on not in ("local", "ray") and not on.startswith("ray://"):
            raise UnknownExecutor(on, "local, ray or ray://HOST:10001")
        if cpu_workers and on == "local":
            raise BadCell("--cpu-workers", "are agents on Ray: give --on ray")
        devices = (devices_of if on == "local" else checked)(device or ["cpu"])
        report.node = name = node or node_name()
        place = RunFolder(f"{folder}/{name}")
        console = Console(stderr=True, quiet=as_json, highlight=False)
        patience = Patience()
        with place.locked(), until_stopped(console) as stop, stopped_unseen(console), alarms_to(alarm_webhook) as alarm:
            ledger = report.counts(patient(open_shared_ledger(ledger_url, run), patience))
            asked = ledger.run()
            report.price = price = price_to_go_on(asked, override=prices)
            keep_price(ledger, asked, price)
            if change := price_change(asked, price):
                console.print(change)
            limits = Limits(
                usd_per_series=dollars_of("--max-cost-per-series", max_cost_per_series),
                wall_s=hours_of(deadline) * 3600 if deadline else None,
                failure_share=max_failures,
                nodes=max_nodes,
            )
            governor = Governor(ledger, price, asked.budget_usd, stop, limits, alarm)
            patience.minds = governor.check_unseen
            stages = StageSettings(place.scratch, place.results, name, models=_brought(model or []))
            pipeline = PipelineSettings(
                stages,
                devices=devices,
                memory_bytes=int(memory_gib * 2**30),
                deliverers=workers if on == "local" else 1,
                cache_bytes=int(cache_gib * 2**30),
            )
            pipeline = with_deadlines(pipeline, named_seconds(stage_deadline or [], LANES))
            idle_s = hours_of(idle) * 3600 if idle else None
            with progress_bar(console) as bar:
                task = bar.add_task(asked.name, total=None, counts="")
                observe = observer(ledger, governor, lambda **shown: bar.update(task, **shown))
                with suppress(BudgetSpent):
                    if on == "local":
                        own = asked.prices.get(machine_group())
                        cell = LocalCell(
                            pipeline,
                            (own or price).machine,
                            place.driver(name),
                            drain,
                            label=cell_label(),
                            idle_s=idle_s,
                            price=own,
                        )
                        run_locally(ledger, cell, may_lease=governor.may_lease, observe=observe, stop=stop)
                    else:
                        kinds = kinds_of(
                            pipeline, workers, cpu_workers, _cards(asked, model or []) if cpu_workers else ()
                        )
                        drive_on_ray(kinds, on, ledger, governor, observe, drain, idle_s)
            report.ending = ending_of(ledger.counts().open, governor)
            if report.ending.left:
                console.print(f"{report.ending.reason}: {report.ending.left} workitems of {_told(asked)} are left")
    raise typer.Exit(report.ending.exit_code)


def _brought(models: list[str]) -> tuple[tuple[str, str], ...]:
    """Where this machine has the networks that the catalogue does not know by their names."""
    return references(tuple(wish(catalogue.card(name), {}, "BINARY", repair=False) for name in models))


def _cards(run: Run, brought: list[str]) -> list[ModelCard]:
    """Of all models of the run, also those that this machine has of its own."""
    given = {card.name: card for card in map(catalogue.card, brought)}
    names = [model.rpartition(" ")[0] for model in run.models]
    return [given[name] if name in given else catalogue.card(name) for name in names]


def _told(run: Run) -> str:
    return f"{run.name} ({', '.join(run.models)})"
