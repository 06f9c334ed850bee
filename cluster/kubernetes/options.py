"""What the cells of a run are made of, as options of a command or a file in TOML say it; and their manifests."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...models.model import ModelCard
from ...runners.node_memory import STAGE_SHARE
from ..drivers.kinds import split, wants_gpu
from .cell import PLATFORMS, Access, BadCell, Cell, Workers
from .manifest import GIB, manifest

OTHER_LANES_BYTES = 4 * GIB
"""Asked for beside what a model's card tells: reading ahead, encoding, Ray itself."""


@dataclass(frozen=True, slots=True)
class CellOptions:
    """What the cells of a run are made of, whatever they do.

    Attributes
    ----------
    image : str
        By digest: ``NAME@sha256:...``.
    cells : int
        More than one share a ledger.
    on_demand : bool
        No spot machines.
    fallback : int or None
        Workers on demand at most where spot is out; None: all of them.
    platform : str
        A key of `cell.PLATFORMS`.
    cpus : int
        Of each worker.
    memory_gib : int
        Of each worker; 0: what the models' cards tell.
    cpu_workers : int
        Of each cell, without GPUs, beside those with them: for the models that need none.
    cpu_worker_cpus, cpu_worker_memory_gib : int
        Of each of these; 0 GiB: what the cards of these models tell.
    cpu_fallback : int or None
        How many of these may be on demand where spot is out; None: all of them, or none where `fallback` is 0.
    secrets : tuple of str
        Whose entries become environment variables.
    context : str
        Of the user's kubeconfig; empty: the current one.

    Raises
    ------
    BadCell
        If there is no such platform, or cells that share no ledger.
    """

    image: str
    cells: int = 1
    on_demand: bool = False
    fallback: int | None = None
    platform: str = "any"
    accelerator: str = ""
    cpus: int = 4
    memory_gib: int = 0
    cpu_workers: int = 0
    cpu_worker_cpus: int = 4
    cpu_worker_memory_gib: int = 0
    cpu_fallback: int | None = None
    secrets: tuple[str, ...] = ()
    ledger_secret: str = ""
    claim: str = ""
    service_account: str = ""
    queue: str = ""
    namespace: str = "default"
    ray_version: str = ""
    context: str = ""

    def __post_init__(self) -> None:
        if self.cells > 1 and not self.ledger_secret:
            raise BadCell(self.image, "cells share a ledger: give --ledger-secret")
        if self.platform not in PLATFORMS:
            raise BadCell(self.image, f"platform {self.platform}: there are {', '.join(PLATFORMS)}")


def read_options(path: Path) -> CellOptions:
    """The options of a file: its keys are those of `voxfleet cluster manifest`, with ``secrets`` as a list.

    Raises
    ------
    BadCell
        If it is no TOML, lacks the image, or holds a key or a value that is none.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BadCell(str(path), f"cannot be read: {exc}") from exc
    known = {each.name.replace("_", "-"): each.name for each in fields(CellOptions)}
    if strange := sorted(set(found) - set(known)):
        raise BadCell(str(path), f"no such key: {', '.join(strange)}; there are {', '.join(known)}")
    named: dict[str, Any] = {
        known[key]: tuple(value) if isinstance(value, list) else value for key, value in found.items()
    }
    if "image" not in named:
        raise BadCell(str(path), "lacks image, NAME@sha256:...")
    likes = {**{each.name: each.default for each in fields(CellOptions)}, "image": "", "fallback": 0, "cpu_fallback": 0}
    for name, value in named.items():
        if type(value) is not type(likes[name]):
            raise BadCell(str(path), f"{name.replace('_', '-')} is {value!r}, and must be {type(likes[name]).__name__}")
    return CellOptions(**named)


def needs_gpu(cards: Sequence[ModelCard]) -> bool:
    """Whether one of the models wants a GPU."""
    return any(wants_gpu(card) for card in cards)


def manifests(
    options: CellOptions, run: str, words: Sequence[str], cards: Sequence[ModelCard], workers: int, deadline_s: float
) -> list[dict[str, Any]]:
    """The RayJobs of a run, each of which does the same command.

    Parameters
    ----------
    words : sequence of str
        The command.
    cards : sequence of ModelCard
        Of the models that it uses: they tell what a worker needs.
    workers : int
        Of each cell.

    Raises
    ------
    BadCell
        See `Cell`; or if workers without GPUs, or those with them, would have nothing to do.
    """
    machines = Workers(
        number=workers,
        fallback=workers if options.fallback is None else options.fallback,
        spot=not options.on_demand,
        cpus=options.cpus,
        memory_bytes=options.memory_gib * GIB or _memory_bytes(cards),
        gpu=needs_gpu(cards),
        accelerator=options.accelerator,
    )
    beside = _beside(options, run, cards) if options.cpu_workers else None
    return [
        manifest(
            Cell(
                run=run,
                name=f"c{number}",
                namespace=options.namespace,
                image=options.image,
                words=tuple(words),
                deadline_s=deadline_s,
                workers=machines,
                access=Access(options.secrets, options.ledger_secret, options.claim, options.service_account),
                platform=PLATFORMS[options.platform],
                ray_version=options.ray_version or version("ray"),
                queue=options.queue,
                beside=beside,
            )
        )
        for number in range(options.cells)
    ]


def _beside(options: CellOptions, run: str, cards: Sequence[ModelCard]) -> Workers:
    """The machines of a cell that have no GPU."""
    _, others = split(run, cards)
    all_of_them = 0 if options.fallback == 0 else options.cpu_workers
    return Workers(
        number=options.cpu_workers,
        fallback=all_of_them if options.cpu_fallback is None else options.cpu_fallback,
        spot=not options.on_demand,
        cpus=options.cpu_worker_cpus,
        memory_bytes=options.cpu_worker_memory_gib * GIB or _memory_bytes(others),
        gpu=False,
    )


def _memory_bytes(cards: Sequence[ModelCard]) -> int:
    """Memory of a worker in which the stage that segments may take what the largest model needs."""
    need = max(card.memory_bytes for card in cards)
    return max(need + OTHER_LANES_BYTES, int(need / STAGE_SHARE))
