"""Commands over models: ``models``, ``models show``, ``models fetch``, ``models check``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from ..models import archive_fetching, catalogue, fetching
from ..models.model import ModelCard
from ..models.segmentation import Segmentation
from .cli import EXIT_DONE, EXIT_ERROR
from .commands import parameters_of
from .fidelity import LEAST_DICE, Fidelity, check_fidelity, sample_volume, speed_changes
from .segmenting import segment_made_up
from .worklist import check_licence, wish

models = typer.Typer(help="What models there are, and what each declares about itself.", invoke_without_command=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model, or FAMILY:FOLDER.")]
WIDE = 120
"""Columns of a terminal from which on the list of models has room for their descriptions."""
T = TypeVar("T")


@models.callback()
def _default(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models."""
    cards = [catalogue.card(name) for name in catalogue.names()]
    console = Console(soft_wrap=True)
    if as_json:
        console.print_json(json.dumps([_card_record(card) for card in cards]))
        return
    wide = console.width >= WIDE
    table = Table(Column("model", no_wrap=True), "takes", "finds", "licence of weights")
    if wide:
        table.add_column("description", ratio=1)
    for card in cards:
        takes = f"{' or '.join(card.modality)} {card.body_part}"
        row = (card.name, takes, str(len(card.segments)), _licence(card), card.description)
        table.add_row(*row[: len(table.columns)])
    console.print(table)


@models.command()
def show(name: ModelName, as_json: AsJson = False) -> None:
    """Show a model's card: what it finds, what it needs, licences, papers."""
    card = catalogue.card(name)
    console = Console(soft_wrap=True)
    if as_json:
        console.print_json(json.dumps(_card_record(card)))
        return
    for key, value in _facts(card).items():
        console.print(f"[bold]{key}[/bold]: {value}", highlight=False)
    table = Table("number", "label", "category", "type", "laterality", "region")
    for segment in card.segments:
        codes = (segment.category, segment.type, segment.laterality, segment.anatomic_region)
        table.add_row(str(segment.number), segment.label, *(code.meaning if code else "" for code in codes))
    console.print(table)


@models.command()
def fetch(
    name: ModelName,
    origin: Annotated[
        str | None,
        typer.Option("--from", help="Mirror: a URL or file; for several files a URL ending in / or a folder."),
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept weights whose licence forbids commercial use.")
    ] = False,
) -> None:
    """Fetch a model's weights into this machine's store; what broke off is resumed, what came is checked."""
    card = catalogue.card(name)
    check_licence(card, accepted=accept_licence)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if not card.weights:
        console.print(f"{name} has no weights: there is nothing to fetch")
    folder = catalogue.archives_folder(name)
    if folder is not None:
        _fetch_archives(card, origin, folder, console)
        return
    for weights in card.weights:
        with _bar(console, weights.file) as progress:
            path = fetching.fetch(name, weights, fetching.source_of(card, weights, origin), progress)
        console.print(f"{path}: SHA-256 as the card says, licence {card.weights_licence}")


def _fetch_archives(card: ModelCard, origin: str | None, folder: Path, console: Console) -> None:
    """Bring what a package keeps unpacked in a folder of its own."""
    for archive in archive_fetching.archives_of(card):
        with _bar(console, archive.file) as progress:
            source = archive_fetching.archive_source(card, archive, origin)
            digest = archive_fetching.fetch_archive(card.name, archive, source, folder, progress)
        came = "was there" if digest is None else f"unpacked from {archive.file}, SHA-256 {digest}"
        console.print(f"{folder / archive.top}: {came}, licence {card.weights_licence}")


@models.command()
def check(
    name: ModelName,
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the model; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a model's weights are the card's, that it loads, and that it segments a made-up volume.

    With --param precision=bfloat16 or compile=yes, what that changes: exit code 1 if it is too much.
    """
    card = catalogue.card(name)
    parameters = dict(wish(card, parameters_of(param or []), "BINARY", repair=False).parameters)
    loaded, load_s = _timed(lambda: catalogue.load(name, device))
    volume = sample_volume(card)
    segmentation, segment_s = _timed(lambda: segment_made_up(loaded, volume, parameters))
    fidelity = check_fidelity(loaded, parameters) if speed_changes(card, parameters) else None
    record: dict[str, object] = {
        "model": name,
        "weights_sha256": card.weights_sha256,
        "load_s": round(load_s, 3),
        "segment_s": round(segment_s, 3),
        "shape": list(volume.spatial_shape),
        "voxels": _voxels(segmentation),
    }
    if fidelity is not None:
        record |= {"dice": dict(fidelity.dice), "faithful": fidelity.passed}
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(record))
        raise typer.Exit(EXIT_ERROR if fidelity is not None and not fidelity.passed else EXIT_DONE)
    for weights in card.weights:
        console.print(f"weights: {weights.file} has SHA-256 {weights.sha256}, as the card says")
    console.print(f"loads: {load_s:.1f} s on {device}")
    shape = " x ".join(str(size) for size in volume.spatial_shape)
    console.print(
        f"segments: {segment_s:.1f} s for a made-up volume of {shape}, {_voxels(segmentation)} voxels labelled"
    )
    if fidelity is not None:
        _show_fidelity(console, card, fidelity)


def _show_fidelity(console: Console, card: ModelCard, fidelity: Fidelity) -> None:
    """Dice of every structure, the least first; raises NotFaithful if it is too low."""
    for structure, value in sorted(fidelity.dice.items(), key=lambda item: item[1]):
        console.print(f"Dice against the usual way: {value:.5f} {structure}")
    fidelity.judge(card.name)
    console.print(f"faithful: every structure found has Dice {LEAST_DICE} or more")


def _voxels(segmentation: Segmentation) -> int:
    return int(np.count_nonzero(segmentation.labelmap.array))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _on_gpu(card: ModelCard) -> str:
    """What a network needs on a GPU; rules run on the host."""
    if not card.weights:
        return ""
    return f"; on a GPU {card.gpu_bytes / 1e9:g} GB there" if card.gpu_bytes else "; on a GPU not measured"


@contextmanager
def _bar(console: Console, label: str) -> Iterator[fetching.Progress]:
    """A bar of bytes for one file, and what moves it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _facts(card: ModelCard) -> dict[str, str]:
    """What a card says of the model as a whole, for people."""
    return {
        "name": f"{card.name} {card.version}",
        "description": card.description,
        "intended use": card.intended_use,
        "takes": f"{' or '.join(card.modality)} {card.body_part}",
        "kind": "trained network" if card.algorithm_family == "AI" else "rules",
        "parameters": " ".join(f"{name}={value}" for name, value in card.parameters.items()) or "none",
        "needs": f"{card.memory_bytes / 1e9:g} GB of memory{_on_gpu(card)}",
        "reproducibility": card.reproducibility or "not stated",
        "licence of code": card.code_licence,
        "licence of weights": _licence(card),
        "weights": "\n  ".join(("", *(f"{each.url}\n  SHA-256 {each.sha256}" for each in card.weights))) or "none",
        "papers": "\n  ".join(("", *card.citations)),
    }


def _licence(card: ModelCard) -> str:
    return f"{card.weights_licence} (no commercial use)" if card.forbids_commercial_use else card.weights_licence


def _card_record(card: ModelCard) -> dict[str, object]:
    """A card as JSON: codes as ``value, scheme, meaning``."""
    record: dict[str, object] = {
        name: getattr(card, name)
        for name in card.__dataclass_fields__
        if name not in ("segments", "weights", "parameters", "commercial_use", "measured")
    }
    record["commercial_use"] = not card.forbids_commercial_use
    record["parameters"] = dict(card.parameters)
    if card.measured is not None:
        record["measured"] = {**asdict(card.measured), "date": card.measured.date.isoformat()}
    record["weights"] = [{"url": each.url, "sha256": each.sha256} for each in card.weights]
    record["segments"] = [
        {
            "number": segment.number,
            "label": segment.label,
            "name": segment.name,
            "contains": segment.contains,
            **{
                kind: code and {"value": code.value, "scheme": code.scheme_designator, "meaning": code.meaning}
                for kind in ("category", "type", "laterality", "anatomic_region")
                if (code := getattr(segment, kind)) or kind in ("category", "type")
            },
        }
        for segment in card.segments
    ]
    return record
