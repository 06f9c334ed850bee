"""What ``voxfleet enrich --on kuberay`` is given, made into a fleet of cells; refused where pods could not do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ... import Error
from ..budgets.limits import Limits
from ..enrichment import Plan
from .keeping import Fleet
from .manifest import RUNS
from .options import manifests, needs_gpu, read_options

DEADLINE_S = 24 * 3600.0
"""Of the cells, where the run has none."""

IDLE = "5m"
"""A cell with nothing to lease goes after so long, about what it takes one to come, and comes again when there is."""

_HERE = ("localhost", "127.0.0.1", "::1")


class NoFleet(Error):
    """Something that cells on Kubernetes need is missing, or cannot be reached by them; names it."""

    code = "NO_FLEET"

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)

    def __str__(self) -> str:
        return f"--on kuberay: {self.args[0]} {self.args[1]}"


def must_be_reachable(archives: Sequence[str], *, shared_ledger: bool) -> None:
    """Refuse what pods on other machines cannot reach.

    Parameters
    ----------
    archives : sequence of str
        URIs of source and target.
    shared_ledger : bool
        Whether the run's ledger is in PostgreSQL.

    Raises
    ------
    NoFleet
        If the ledger is a file of this machine, or an archive is a folder or a server of this machine.
    """
    if not shared_ledger:
        raise NoFleet("the ledger", "would be a file of this machine: give --ledger postgresql://USER@HOST/DATABASE")
    for uri in archives:
        if uri.startswith("dir:"):
            reason = "is a folder of this machine, which pods do not reach: use DICOMweb, s3://, gs:// or idc:"
            raise NoFleet(uri, reason)
        if urlsplit(uri).hostname in _HERE:
            raise NoFleet(uri, "is a server of this machine, which pods do not reach by that name")


def fleet_of(plan: Plan, file: Path | None, limits: Limits, *, shared_ledger: bool) -> Fleet:
    """The cells of a run that goes into the ledger: each drives `voxfleet worker` on a Ray cluster of its own.

    Parameters
    ----------
    file : Path or None
        Options of the cells, in TOML.
    limits : Limits
        Its deadline is the cells', and all their workers together are no more than its nodes.
    shared_ledger : bool
        Whether the run's ledger is in PostgreSQL.

    Raises
    ------
    BadCell
        If the file or a cell is none.
    NoFleet
        If something is missing, cannot be reached by pods, or would be dropped; or the limits leave no room for a cell.
    """
    must_be_reachable((plan.source, plan.target), shared_ledger=shared_ledger)
    if file is None:
        raise NoFleet("it", "needs --cells FILE, with the image and the secrets of the cells in TOML")
    if plan.nifti or plan.deadlines_s:
        raise NoFleet("--nifti and --stage-deadline", "are for drivers on this machine, and do not reach the cells")
    options, seconds = read_options(file), limits.wall_s or DEADLINE_S
    if not options.ledger_secret:
        raise NoFleet(str(file), "lacks ledger-secret: the Secret with the ledger's address as `url`, for the cells")
    options = replace(options, cpu_workers=plan.cpu_workers or options.cpu_workers)
    workers = plan.workers + options.cpu_workers
    if limits.nodes is not None and workers > limits.nodes:
        raise NoFleet(f"--max-nodes {limits.nodes}", f"leaves no room for one cell of {workers} workers")
    run, cards = plan.folder.name, [each.card for each in plan.wishes]
    words = ["voxfleet", "worker", run, "--on", "ray", "--workers", str(plan.workers), "--folder", RUNS]
    words += ["--cpu-workers", str(options.cpu_workers)] if options.cpu_workers else []
    words += [word for card in cards for word in ("--model", card.reference)]
    words += ["--device", "cuda:0" if needs_gpu(cards) else "cpu", "--deadline", f"{seconds:.0f}s", "--idle", IDLE]
    # Cells that are at work go on by themselves: what stops the run must stop them.
    words += ["--max-failures", str(limits.failure_share)]
    words += [] if limits.usd_per_series is None else ["--max-cost-per-series", str(limits.usd_per_series)]
    return Fleet(manifests(options, run, words, cards, plan.workers, seconds), options.context, limits.nodes)
