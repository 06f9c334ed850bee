"""The command that needs one machine and no ledger: ``run``."""

from __future__ import annotations

import json
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from ..enrich.archives.archive import RefusedObject
from ..enrich.archives.opening import READABLE, open_archive
from ..enrich.encoding.seg_kinds import SEG_KINDS
from ..enrich.features.feature_parameters import read_feature_parameters
from ..models import catalogue
from .cli import EXIT_INCOMPLETE
from .devices import devices_of
from .environment import node_name
from .pipeline import NodePipeline, PipelineSettings
from .request import StageSettings
from .workitem import Failure, Outcome, State, Workitem
from .worklist import check_licence, references, wish, worklist

AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="Accept weights whose licence forbids commercial use.")
]
Features = Annotated[
    Path | None,
    typer.Option("--features", help="Parameter file of pyradiomics (YAML): classes, filters, settings."),
]


def features_of(file: Path | None) -> str:
    """Content of the parameter file behind ``--features``, judged; empty without one."""
    return "" if file is None else read_feature_parameters(file).content


def parameters_of(texts: list[str]) -> dict[str, str]:
    """``name=value`` texts as a mapping.

    Raises
    ------
    typer.BadParameter
        If a text has no ``=``.
    """
    pairs = [text.partition("=") for text in texts]
    for name, sign, _ in pairs:
        if not sign:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def segmentation_type_of(text: str) -> str:
    """How the SEG is written, for what stands behind ``--seg``; one of SEG_KINDS."""
    name = text.upper().replace("-", "_")
    if name not in SEG_KINDS:
        raise typer.BadParameter(f"{text!r} is none of binary, binary-deflated and labelmap")
    return name


def progress_bar(console: Console) -> Progress:
    """The bar that long work shows: done of all, times, and a field of counts."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    )


def run(  # noqa: PLR0913, PLR0917 - the command line's options
    model: Annotated[str, typer.Argument(help="Name of the model; see `voxfleet models`.")],
    source: Annotated[str, typer.Argument(help=f"Folder of DICOM files, {READABLE}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if absent.")],
    seg: Annotated[str, typer.Option(help="binary, binary-deflated or labelmap.")] = "binary",
    nifti: Annotated[bool, typer.Option("--nifti", help="Write the label map as NIfTI too.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Resample gantry tilt and uneven gaps.")] = False,
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the model; may be repeated.")] = None,
    features: Features = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu, cuda:N or cuda (all GPUs); may be repeated.")] = None,
    accept_licence: AcceptLicence = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """Run one model on every series of one folder or archive, and write the results to a folder."""
    devices = devices_of(device or ["cpu"])
    card = catalogue.card(model)
    check_licence(card, accepted=accept_licence)
    asked = wish(
        card,
        parameters_of(param or []),
        segmentation_type_of(seg),
        repair=repair,
        features=features_of(features),
    )
    archive = open_archive(source)
    found = list(worklist(archive, (asked,), target=""))
    archive.close()
    refused = [each for each in found if isinstance(each, RefusedObject)]
    items = [each for each in found if isinstance(each, Workitem)]
    stages = StageSettings(out / ".voxfleet" / "scratch", out, node_name(), nifti=nifti, models=references((asked,)))
    outcomes = _perform(PipelineSettings(stages, devices=devices), items, quiet=as_json)
    _show(items, outcomes, refused, as_json=as_json)
    broken = [each for each in refused if each.code != "NOT_DICOM"]
    if broken or any(outcome.state is not State.COMPLETED for outcome in outcomes.values()):
        raise typer.Exit(EXIT_INCOMPLETE)


def _perform(settings: PipelineSettings, items: list[Workitem], *, quiet: bool) -> dict[str, Outcome]:
    """Outcome of every workitem by key; a worker that was killed from outside is given a second one."""
    outcomes: dict[str, Outcome] = {}
    waiting = items[::-1]
    flying: dict[Future[Outcome], Workitem] = {}
    pipeline = NodePipeline(settings)
    with progress_bar(Console(stderr=True, quiet=quiet)) as bar:
        task = bar.add_task("series", total=len(items), counts="")
        while waiting or flying:
            while waiting and len(flying) < pipeline.depth:
                item = waiting.pop()
                flying[pipeline.submit(item)] = item
            for future in wait(flying, timeout=1, return_when=FIRST_COMPLETED).done:
                item, outcome = flying.pop(future), future.result()
                if outcome.failure is not None and outcome.failure.lost and item.key not in outcomes:
                    waiting.append(item)
                outcomes[item.key] = outcome
            bar.update(task, completed=len(items) - len(waiting) - len(flying))
    pipeline.close()
    return outcomes


def _show(items: list[Workitem], outcomes: dict[str, Outcome], refused: list[RefusedObject], *, as_json: bool) -> None:
    console = Console(soft_wrap=True)
    if as_json:
        document = {
            "series": [_record(item, outcomes[item.key]) for item in items],
            "refused": [{"object": each.identifier, "code": each.code, "reason": each.reason} for each in refused],
        }
        console.print_json(json.dumps(document))
        return
    table = Table(Column("series", overflow="fold"), "state", "stage", Column("reason", overflow="fold"), "seconds")
    for item in items:
        outcome = outcomes[item.key]
        failure = outcome.failure or Failure("", "", "")
        reason = f"{failure.code}: {failure.message}" if failure.code else ""
        seconds = sum(used.wall_s for used in outcome.consumption)
        table.add_row(item.series_instance_uid, _state(outcome), failure.stage, reason, f"{seconds:.1f}")
    console.print(table)
    for each in refused:
        console.print(f"refused {each.identifier}: {each.code}: {each.reason}", highlight=False)


def _state(outcome: Outcome) -> str:
    if outcome.failure is None:
        return "completed"
    return "refused" if outcome.failure.refused else "failed"


def _record(item: Workitem, outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    return {
        "series_instance_uid": item.series_instance_uid,
        "state": _state(outcome),
        "failure": failure and {"stage": failure.stage, "code": failure.code, "message": failure.message},
        "stored": [
            {"sop_instance_uid": each.sop_instance_uid, "uri": each.uri, "sha256": each.sha256, "bytes": each.bytes}
            for each in outcome.stored
        ],
        "wall_s": {used.stage: round(used.wall_s, 3) for used in outcome.consumption},
        "repairs": outcome.repairs,
        "failed_features": outcome.failed_features,
    }
