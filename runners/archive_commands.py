"""Commands over archives: ``archive ls``, ``archive check``, ``archive copy``."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from rich.console import Console
from rich.table import Column, Table

from .. import Error
from ..enrich.archives.archive import Archive, RefusedObject, SeriesEntry, StoredObject
from ..enrich.archives.opening import READABLE, WRITABLE, open_archive
from ..enrich.identity import derived_uid
from .archive_copy import CopiedSeries, copy_series
from .cli import EXIT_DONE, EXIT_ERROR, EXIT_INCOMPLETE, EXIT_STOPPED
from .commands import progress_bar

archive = typer.Typer(
    help="What an archive holds, whether it can be read and written, and copies from one to another.",
    no_args_is_help=True,
)

Uri = Annotated[str, typer.Argument(metavar="URI", help=f"Folder, {READABLE}.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
_HARMLESS: Final = frozenset({"NOT_DICOM", "DICOMDIR"})
"""Found in most folders, and nothing that anybody misses."""
_SHOWN = 20
"""Refusals shown; all of them are in --json and --record."""


@archive.command()
def ls(uri: Uri, as_json: AsJson = False) -> None:
    """List the series of an archive. Exit code 3 if it holds DICOM that cannot be used."""
    with _opened(uri) as found:
        entries, refused = _searched(found)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(
            json.dumps({"series": [asdict(each) for each in entries], "refused": [asdict(each) for each in refused]})
        )
    else:
        table = Table(
            Column("study", overflow="fold"), Column("series", overflow="fold"), "modality", "instances", "MB"
        )
        for each in entries:
            size = "" if each.bytes is None else f"{each.bytes / 1e6:.1f}"
            table.add_row(each.study_instance_uid, each.series_instance_uid, each.modality, str(each.instances), size)
        console.print(table)
        _show_refused(Console(stderr=True, soft_wrap=True, highlight=False), refused)
    raise typer.Exit(EXIT_INCOMPLETE if _missed(refused) else EXIT_DONE)


@archive.command()
def check(
    uri: Uri,
    write: Annotated[
        bool, typer.Option("--write", help="Store one image of 8 x 8 pixels too, and read it back; it stays there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check whether an archive can be read and written. Exit code 0: both; 3: one of them; 1: neither."""
    with _opened(uri) as found:
        results = {
            "read": _tried(lambda: _searched(found)),
            "write": _tried(lambda: found.store(_tiny_object()) if write else found.probe()),
        }
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(results))
    else:
        said = {"read": "can be searched", "write": "took an object and gave it back" if write else "can be written to"}
        for verb, result in results.items():
            failed = f"error {result['code']}: {result['reason']}"
            console.print(f"{verb}: " + (f"{said[verb]} ({result['s']} s)" if result["code"] == "" else failed))
    good = sum(result["code"] == "" for result in results.values())
    raise typer.Exit((EXIT_ERROR, EXIT_INCOMPLETE, EXIT_DONE)[good])


@archive.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=f"Folder, {READABLE}.")],
    target: Annotated[str, typer.Argument(metavar="TO", help=f"Folder, {WRITABLE}.")],
    series: Annotated[list[str] | None, typer.Option(help="Series Instance UID; may be repeated.")] = None,
    record: Annotated[Path | None, typer.Option(help="File to which a line of JSON is added for each object.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a cohort from one archive to another; each object is read back there and compared by digest.

    The same command goes on where an earlier one stopped: what the target holds already is not sent again.
    Exit code 0: all is there; 3: some objects were refused; 4: stopped; 1: error.
    """
    console = Console(stderr=True, soft_wrap=True, quiet=as_json, highlight=False)
    with _opened(source) as old, _opened(target) as new, _appended(record) as lines:
        new.probe()
        entries, refused = _searched(old)
        wanted = [each for each in entries if not series or each.series_instance_uid in series]
        if missing := sorted(set(series or ()) - {each.series_instance_uid for each in wanted}):
            raise typer.BadParameter(f"{old.uri} has no series {missing[0]}", param_hint="--series")
        if not series:
            _write(lines, (), tuple(refused))
        done, stopped = _copy(old, new, wanted, lines, console)
    stored = [each for one in done for each in one.stored]
    left = [*([] if series else refused), *(each for one in done for each in one.refused)]
    counts = {
        "series": len(done),
        "objects": len(stored),
        "already_there": sum(each.already_there for each in stored),
        "bytes": sum(each.bytes for each in stored),
        "refused": len(_missed(left)),
    }
    if as_json:
        document = {**counts, "refused_objects": [asdict(each) for each in _missed(left)], "stopped": stopped}
        Console(soft_wrap=True).print_json(json.dumps(document))
    else:
        console.print(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items()))
        _show_refused(console, left)
    raise typer.Exit(EXIT_STOPPED if stopped else EXIT_INCOMPLETE if _missed(left) else EXIT_DONE)


def _copy(
    old: Archive, new: Archive, entries: list[SeriesEntry], lines: TextIO | None, console: Console
) -> tuple[list[CopiedSeries], bool]:
    """Series copied, and whether the user broke it off."""
    done: list[CopiedSeries] = []
    with progress_bar(console) as bar:
        task = bar.add_task("objects", total=sum(each.instances for each in entries), counts="")

        try:
            for entry in entries:
                copied = copy_series(old, new, entry)
                done.append(copied)
                _write(lines, copied.stored, copied.refused)
                refused = sum(len(each.refused) for each in done)
                bar.update(task, advance=entry.instances, counts=f"{refused} refused")
        except KeyboardInterrupt:
            return done, True
    return done, False


@contextmanager
def _opened(uri: str) -> Iterator[Archive]:
    with contextlib.closing(open_archive(uri)) as found:
        yield found


@contextmanager
def _appended(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as exc:
        raise typer.BadParameter(f"{path}: {exc.strerror}", param_hint="--record") from exc
    with file:
        yield file


def _write(lines: TextIO | None, stored: tuple[StoredObject, ...], refused: tuple[RefusedObject, ...]) -> None:
    if lines is not None:
        written: list[StoredObject | RefusedObject] = [*stored, *refused]
        for each in written:
            lines.write(json.dumps(asdict(each)) + "\n")
        lines.flush()


def _searched(found: Archive) -> tuple[list[SeriesEntry], list[RefusedObject]]:
    everything = list(found.search())
    entries = [each for each in everything if isinstance(each, SeriesEntry)]
    return entries, [each for each in everything if isinstance(each, RefusedObject)]


def _missed(refused: list[RefusedObject]) -> list[RefusedObject]:
    return [each for each in refused if each.code not in _HARMLESS]


def _show_refused(console: Console, refused: list[RefusedObject]) -> None:
    missed = _missed(refused)
    for each in missed[:_SHOWN]:
        console.print(f"refused {each.code}: {each.identifier}: {each.reason}", markup=False)
    if len(missed) > _SHOWN:
        console.print(f"and {len(missed) - _SHOWN} more: --json shows all")


def _tried(attempt: Callable[[], object]) -> dict[str, str]:
    """Seconds that an attempt took, and code and reason if it failed."""
    started = time.perf_counter()
    try:
        attempt()
    except Error as exc:
        return {"code": exc.code, "reason": str(exc), "s": ""}
    return {"code": "", "reason": "", "s": f"{time.perf_counter() - started:.2f}"}


def _tiny_object() -> Dataset:
    """A Secondary Capture image (PS3.3 A.8.1) of 8 x 8 pixels and of no patient, always with the same UIDs."""
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        derived_uid("archive check", kind) for kind in ("study", "series", "instance")
    )
    dataset.PatientID, dataset.PatientName = "VOXFLEET-CHECK", "VOXFLEET^CHECK"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.ReferringPhysicianName = dataset.AccessionNumber = ""
    dataset.Laterality = dataset.PatientOrientation = ""
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "CHECK", 1, 1
    dataset.Modality, dataset.ConversionType = "OT", "SYN"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(range(64))
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
