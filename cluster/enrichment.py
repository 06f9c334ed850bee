"""One run of ``voxfleet enrich``: a collection into the ledger, through the pipeline, into the archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, islice

from .. import Error, __version__
from ..enrich.archives.archive import RefusedObject
from ..enrich.archives.licensed import LicensedArchive
from ..enrich.archives.opening import open_archive
from ..enrich.features.feature_parameters import content_sha256
from ..runners.environment import node_name
from ..runners.pipeline import PipelineSettings
from ..runners.request import StageSettings
from ..runners.workitem import Workitem
from ..runners.worklist import Wish, references, worklist
from .budgets.budget import DRAIN_S, LAG_S
from .budgets.governor import Governor
from .drivers.kinds import Kind, kinds_of
from .drivers.local_cell import LocalCell, run_locally
from .kubernetes.cell import BadCell, cell_label
from .kubernetes.keeping import Fleet, keep_up
from .ledger import Ledger, NoSuchRun, Run
from .prices.group_price import keep_group_prices
from .prices.price import Price
from .prices.run_price import keep_price
from .run_folder import RunFolder
from .sources import keep_sources

BATCH = 5000
"""Workitems that go into the ledger in one transaction."""


CELL_DRAIN_S = 600.0
"""How long a cell on Ray that is told to stop waits for what is in flight, unless told otherwise."""


class UnknownExecutor(Error):
    """``--on`` names nothing that can run workitems."""

    code = "UNKNOWN_EXECUTOR"

    def __init__(self, name: str, known: str = "local, ray, ray://HOST:10001, kuberay, workers or nothing") -> None:
        super().__init__(name, known)

    def __str__(self) -> str:
        return f"--on {self.args[0]}: use {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is to do, and how.

    Attributes
    ----------
    prices : mapping of str to Price
        Of groups of machines that are not the run's own, by their names.
    region, market : str
        As asked for; empty: those of the first price of the machine.
    on : str
        ``local``, ``ray``, the address of a Ray cluster, ``kuberay``, ``workers`` or ``nothing``.
    workers : int
        Agents on Ray; on this machine, children that measure, encode and store.
    cpu_workers : int
        Agents on Ray beside these, on machines without GPUs.
    deadlines_s : tuple of (lane, seconds)
        Of the pipeline's lanes, where they are not its own.
    fleet : Fleet or None
        Cells on Kubernetes, for ``kuberay``.

    Raises
    ------
    DoubledModel
        If two of its models have one name.
    BadCell
        If agents beside those with GPUs are no agents on Ray, or would have nothing to do.
    """

    source: str
    target: str
    wishes: tuple[Wish, ...]
    folder: RunFolder
    price: Price
    prices: Mapping[str, Price] = field(default_factory=dict)
    region: str = ""
    market: str = ""
    budget_usd: Decimal | None = None
    on: str = "local"
    workers: int = 1
    cpu_workers: int = 0
    devices: tuple[str, ...] = ("cpu",)
    nifti: bool = False
    deadlines_s: tuple[tuple[str, float], ...] = ()
    licences: tuple[str, ...] = ()
    fleet: Fleet | None = None

    def __post_init__(self) -> None:
        references(self.wishes)
        if self.cpu_workers and self.on in ("local", "workers", "nothing"):
            raise BadCell("--cpu-workers", "are agents on Ray: give --on ray or --on kuberay")
        if self.cpu_workers and self.on != "kuberay":
            self.kinds()

    def run(self) -> Run:
        """The run as the ledger holds it."""
        parameters = {
            f"{each.card.name}.{name}": value
            for each in self.wishes
            for name, value in (
                *each.parameters,
                ("segmentation_type", each.segmentation_type),
                ("repair", str(each.repair).lower()),
                *((("features_sha256", content_sha256(each.features)),) if each.features else ()),
            )
        }
        if self.licences:
            parameters["licences"] = ", ".join(self.licences)
        return Run(
            name=self.folder.name,
            source=self.source,
            target=self.target,
            models=tuple(f"{each.card.name} {each.card.version}" for each in self.wishes),
            parameters=parameters,
            platform_version=__version__,
            machine=self.price.machine,
            region=self.region,
            market=self.market,
            created=datetime.now(UTC),
            budget_usd=self.budget_usd,
            price=self.price,
            prices=self.prices,
        )

    @property
    def owner(self) -> str:
        """Name of this run's driver on this machine: the folder's lock sees to it that there is one."""
        return self.folder.driver(node_name())

    @property
    def settle_s(self) -> Decimal:
        """Seconds for which nodes cost after the last stage: this machine is done with it at once."""
        return Decimal(0) if self.on == "local" else DRAIN_S + LAG_S

    def pipeline(self) -> PipelineSettings:
        """How each node of the run works."""
        models = references(self.wishes)
        stages = StageSettings(self.folder.scratch, self.folder.results, node_name(), nifti=self.nifti, models=models)
        settings = PipelineSettings(stages, devices=self.devices, deliverers=self.workers if self.on == "local" else 1)
        return with_deadlines(settings, self.deadlines_s)

    def kinds(self) -> tuple[Kind, ...]:
        """Its agents on Ray."""
        return kinds_of(self.pipeline(), self.workers, self.cpu_workers, [each.card for each in self.wishes])


def with_deadlines(settings: PipelineSettings, deadlines_s: tuple[tuple[str, float], ...]) -> PipelineSettings:
    """The same node with other deadlines (lane, seconds) of some of its lanes."""
    return replace(settings, deadlines_s=tuple({**dict(settings.deadlines_s), **dict(deadlines_s)}.items()))


def register(plan: Plan, ledger: Ledger, found: Callable[[int], None]) -> None:
    """Search the source and take what it holds into the ledger; what is there already stays as it is.

    Parameters
    ----------
    found : callable
        Told the number of workitems found so far.

    Raises
    ------
    RunMismatch
        If the ledger holds a run of other work.
    SearchError, AccessDenied
        If the source cannot be listed, or nothing can be stored in the target.
    UnknownExecutor
        If `plan.on` names nothing that can run workitems.
    """
    check_executor(plan.on)
    with suppress(NoSuchRun):
        ledger.run()
        ledger.create_run(plan.run())
    target = open_archive(plan.target)
    target.probe()
    target.close()
    archive = LicensedArchive(open_archive(plan.source), plan.licences)
    found_there = worklist(archive, plan.wishes, plan.target)
    # A source that cannot be listed must leave no run behind: its name would be taken by work that cannot be done.
    first = list(islice(found_there, 1))
    run = ledger.create_run(plan.run())
    keep_price(ledger, run, plan.price)
    keep_group_prices(ledger, run, plan.prices)
    ledger.set_budget(plan.budget_usd)
    batch: list[Workitem] = []
    number = 0
    for each in chain(first, found_there):
        if isinstance(each, RefusedObject):
            ledger.refuse(each.identifier, each.code, each.reason)
            continue
        batch.append(each)
        number += 1
        if len(batch) == BATCH:
            ledger.add(batch)
            found(number)
            batch.clear()
    ledger.add(batch)
    found(number)
    keep_sources(plan.folder, archive.uri, archive.told, plan.licences)
    archive.close()


def perform(plan: Plan, ledger: Ledger, governor: Governor, observe: Callable[[], None]) -> None:
    """Work until nothing is left or the governor says no; or leave it all, where told to."""
    if plan.on == "local":
        cell = LocalCell(plan.pipeline(), plan.price.machine, plan.owner, label=cell_label())
        run_locally(ledger, cell, may_lease=governor.may_lease, observe=observe, stop=governor.stop)
    elif plan.on == "kuberay" and plan.fleet is not None:
        # The Kubernetes client takes a second to import.
        from .kubernetes.kuberay import Cells

        keep_up(Cells(plan.fleet.namespace, plan.fleet.context), plan.fleet, ledger, governor, observe)
    elif plan.on not in ("workers", "nothing"):
        drive_on_ray(plan.kinds(), plan.on, ledger, governor, observe)


def check_executor(name: str) -> None:
    """Raise UnknownExecutor unless `name` can be given to `--on`."""
    if name not in ("local", "ray", "kuberay", "workers", "nothing") and not name.startswith("ray://"):
        raise UnknownExecutor(name)


def drive_on_ray(  # noqa: PLR0913, PLR0917 - a cell, who drives it, and who watches
    kinds: tuple[Kind, ...],
    on: str,
    ledger: Ledger,
    governor: Governor,
    observe: Callable[[], None],
    drain_s: float = CELL_DRAIN_S,
    idle_s: float | None = None,
) -> None:
    """Drive a cell on Ray, on this machine or where `on` or ``RAY_ADDRESS`` says, until nothing is left.

    Parameters
    ----------
    kinds : tuple of Kind
        Its agents.
    on : str
        ``ray``, or the address of a Ray cluster.
    drain_s : float
        How long a stop waits for what is in flight.
    idle_s : float or None
        See `CellSettings`.
    """
    # Ray takes half a second to import, and --on local must do without it.
    from .drivers.ray_cell import CellSettings, run_on_ray

    run = ledger.run()
    cell = CellSettings(
        kinds,
        address=os.environ.get("RAY_ADDRESS") if on == "ray" else on,
        machine=run.machine,
        drain_s=drain_s,
        idle_s=idle_s,
        label=cell_label(),
        prices=run.prices,
    )
    run_on_ray(ledger, cell, may_lease=governor.may_lease, on_event=lambda _: observe(), stop=governor.stop)
