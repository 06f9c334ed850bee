"""Commands over cells on Kubernetes: ``cluster manifest``, ``submit``, ``status``, ``logs``, ``delete``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ...models import catalogue
from ...runners.cli import EXIT_DONE, EXIT_INCOMPLETE
from ..commands import enrich
from ..duration import hours_of
from ..options import CpuWorkers
from ..prices.group_price import group_prices, told_price
from ..prices.run_price import price_for
from .cell import PLATFORMS, BadCell, CellState
from .group_prices import with_groups
from .manifest import KIND, MANIFEST_SHA256, groups_of
from .options import CellOptions, manifests, needs_gpu

if TYPE_CHECKING:
    from .kuberay import Cells

cluster = typer.Typer(help="Cells of a run on Kubernetes, each a RayJob of KubeRay.")

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")]
Namespace = Annotated[str, typer.Option(help="Empty: that of the context.")]
CellsFile = Annotated[Path, typer.Argument(help="What `voxfleet cluster manifest` printed; - for standard input.")]
Context = Annotated[str, typer.Option(help="Of your kubeconfig; empty: the current one.")]


@cluster.command("manifest")
def write_manifest(  # noqa: PLR0913, PLR0917 - the command line's options
    source: Annotated[str, typer.Argument(help="Archive that every machine of the cluster reaches.")],
    model: Annotated[list[str], typer.Option("--model", "-m", help="May be repeated; see `voxfleet models`.")],
    to: Annotated[str, typer.Option("--to", help="Archive for the results.")],
    run: Annotated[str, typer.Option("--run", help="Name of the run: small letters, digits, -.")],
    image: Annotated[str, typer.Option(help="Container image with this package, by digest: NAME@sha256:...")],
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- OPTIONS OF enrich]")] = None,
    cells: Annotated[int, typer.Option(min=1, help="More than one need --ledger-secret.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Workers of each cell.")] = 1,
    on_demand: Annotated[bool, typer.Option("--on-demand", help="No spot machines.")] = False,
    fallback: Annotated[int | None, typer.Option(min=0, help="On demand at most where spot is out; all.")] = None,
    deadline: Annotated[str, typer.Option(help="Begin nothing that would end later; cells end an hour after.")] = "24h",
    platform: Annotated[str, typer.Option(help=f"How machines are labelled: {', '.join(PLATFORMS)}.")] = "any",
    accelerator: Annotated[str, typer.Option(help="GPU as the platform labels it, e.g. nvidia-l4.")] = "",
    cpus: Annotated[int, typer.Option(min=1, help="Of each worker.")] = 4,
    memory_gib: Annotated[int, typer.Option(min=0, help="Of each worker; 0: what the models' cards tell.")] = 0,
    cpu_workers: CpuWorkers = 0,
    cpu_worker_cpus: Annotated[int, typer.Option(min=1, help="Of each of --cpu-workers.")] = 4,
    cpu_worker_memory_gib: Annotated[int, typer.Option(min=0, help="Of each of these; 0: what cards tell.")] = 0,
    cpu_fallback: Annotated[
        int | None, typer.Option(min=0, help="Of these on demand at most where spot is out; all, or as --fallback 0.")
    ] = None,
    secret: Annotated[list[str] | None, typer.Option(help="Secret for the environment; may be repeated.")] = None,
    ledger_secret: Annotated[str, typer.Option(help="Secret with the ledger's `url`, and `password`.")] = "",
    claim: Annotated[str, typer.Option(help="PersistentVolumeClaim for a run of one cell.")] = "",
    service_account: Annotated[str, typer.Option(help="Empty: the namespace's own.")] = "",
    queue: Annotated[str, typer.Option(help="LocalQueue of Kueue.")] = "",
    namespace: Annotated[str, typer.Option(help="In which the cells are.")] = "default",
    ray_version: Annotated[str, typer.Option(help="Of the image; empty: the one here.")] = "",
) -> None:
    """Print the cells of a run as YAML: for `voxfleet cluster submit`, kubectl, or a repository.

    What follows `--` goes to `voxfleet enrich` as it is, e.g. `-- --budget 100 --machine g2-standard-4`.
    """
    options = CellOptions(
        image=image,
        cells=cells,
        on_demand=on_demand,
        fallback=fallback,
        platform=platform,
        accelerator=accelerator,
        cpus=cpus,
        memory_gib=memory_gib,
        cpu_workers=cpu_workers,
        cpu_worker_cpus=cpu_worker_cpus,
        cpu_worker_memory_gib=cpu_worker_memory_gib,
        cpu_fallback=cpu_fallback,
        secrets=tuple(secret or ()),
        ledger_secret=ledger_secret,
        claim=claim,
        service_account=service_account,
        queue=queue,
        namespace=namespace,
        ray_version=ray_version,
    )
    cards = [catalogue.card(name) for name in model]
    seconds = hours_of(deadline) * 3600
    words = [source, *(word for name in model for word in ("--model", name)), "--to", to, "--run", run]
    words += ["--on", "ray", "--workers", str(workers), "--device", "cuda:0" if needs_gpu(cards) else "cpu"]
    words += ["--cpu-workers", str(cpu_workers)] if cpu_workers else []
    words += ["--deadline", f"{seconds:.0f}s", *(more or [])]
    given = _must_parse(words)
    documents = manifests(options, run, ("voxfleet", "enrich", *words), cards, workers, seconds)
    if prices := _group_prices(given, groups_of(documents)):
        documents = manifests(options, run, ("voxfleet", "enrich", *words, *prices), cards, workers, seconds)
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


@cluster.command()
def submit(
    file: CellsFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the API server check them; create nothing.")] = False,
    context: Context = "",
) -> None:
    """Create the cells of a file; those that are there already stay as they are."""
    console = Console(soft_wrap=True, highlight=False)
    for job in _jobs(file):
        made = _cells(job["metadata"]["namespace"], context).submit(job, dry_run=dry_run)
        done = "would be created" if dry_run else "created"
        console.print(f"{job['metadata']['name']}: {done if made else 'is there already'}")


@cluster.command()
def status(
    run: RunName,
    follow: Annotated[bool, typer.Option("--watch", help="Stay until every cell has ended.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Show where the cells of a run stand. Exit code 3: one of them failed, or there is none."""
    there = _cells(namespace, context)
    console = Console(soft_wrap=True, highlight=False)
    states: tuple[CellState, ...] = ()
    if follow and not as_json:
        with Live(console=console, auto_refresh=False) as live:
            for states in there.follow(run):
                live.update(_table(states), refresh=True)
    else:
        # With --watch and --json: the last word only.
        states = deque(there.follow(run), maxlen=1)[-1] if follow else there.states(run)
        if as_json:
            console.print_json(data=[asdict(state) for state in states])
        else:
            console.print(_table(states))
    failed = not states or any(state.deployment == "Failed" for state in states)
    raise typer.Exit(EXIT_INCOMPLETE if failed else EXIT_DONE)


@cluster.command()
def logs(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="As `voxfleet cluster status` names it.")],
    lines: Annotated[int, typer.Option(min=1, help="The last so many.")] = 200,
    namespace: Namespace = "",
    context: Context = "",
) -> None:
    """Print what a cell's command said."""
    typer.echo(_cells(namespace, context).logs(cell, lines), nl=False)


@cluster.command()
def delete(run: RunName, namespace: Namespace = "", context: Context = "") -> None:
    """Delete the cells of a run, with all their machines; its ledger and its results stay."""
    there = _cells(namespace, context)
    console = Console(soft_wrap=True, highlight=False)
    for state in there.states(run):
        there.delete(state.name)
        console.print(f"{state.name}: deleted")


def _cells(namespace: str, context: str) -> Cells:
    # The Kubernetes client takes a second to import.
    from .kuberay import Cells

    return Cells(namespace, context)


def _must_parse(words: list[str]) -> Mapping[str, Any]:
    """What `voxfleet enrich` takes from these words; a usage error, and not on a rented machine, if it would not."""
    app = typer.Typer()
    app.command()(enrich)
    return typer.main.get_command(app).make_context("voxfleet enrich", list(words)).params


def _group_prices(given: Mapping[str, Any], groups: frozenset[str]) -> list[str]:
    """What `voxfleet enrich` is to be told of the prices of groups of machines, and was not."""
    told = group_prices(None, None, given["price_of"] or (), given["prices"])
    price = price_for(None, given["machine"], given["region"], given["market"], given["prices"])
    found = with_groups(told, groups, price, given["prices"])
    return [word for group in found.keys() - told.keys() for word in ("--price-of", told_price(group, found[group]))]


def _jobs(file: Path) -> list[dict[str, Any]]:
    """The RayJobs of a file, each of this program's making."""
    name, text = str(file), sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        documents = [each for each in yaml.safe_load_all(text) if each]
    except yaml.YAMLError as exc:
        raise BadCell(name, f"not YAML: {exc}") from exc
    for each in documents:
        metadata = each.get("metadata", {}) if isinstance(each, dict) else {}
        if not metadata.get("annotations", {}).get(MANIFEST_SHA256) or each.get("kind") != KIND:
            raise BadCell(name, f"holds what `voxfleet cluster manifest` did not print: {metadata.get('name', each)}")
    if not documents:
        raise BadCell(name, "holds no cell")
    return documents


def _table(states: Iterable[CellState]) -> Table:
    table = Table("cell", "state", "command", "workers", "started", "ended", "")
    for state in states:
        why = " ".join(part for part in (state.reason, state.message) if part)
        table.add_row(
            state.name, state.deployment or "new", state.job, state.workers, state.started, state.ended, why[:120]
        )
    return table
