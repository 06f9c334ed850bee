"""The console script: its commands come from the entry points of group ``voxfleet.commands``."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console

from .. import Error, __version__

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_INCOMPLETE = 3
"""The run is done, but some series were refused or failed."""
EXIT_STOPPED = 4
"""Stopped by the budget or by the user; the same command goes on."""


_LOG = logging.getLogger(__name__)


def application() -> typer.Typer:
    """The command line with every installed command."""
    app = typer.Typer(
        name="voxfleet",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for point in sorted(entry_points(group="voxfleet.commands"), key=lambda found: found.name):
        try:
            command = point.load()
        except ImportError as exc:
            _LOG.warning("command %s of %s cannot be loaded: %s", point.name, point.value, exc)
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        else:
            app.command(point.name)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voxfleet {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[  # noqa: ARG001 - acted on by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done to standard error.")] = False,
) -> None:
    """Run imaging-AI models over DICOM collections and give the results back to the archive."""
    # Its warnings may quote values of headers, and no patient's name belongs in a log.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Entry point of the console script; an error of ours is one line and exit code 1."""
    try:
        application()()
    except Error as exc:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error[/red] {exc.code}: ", end="")
        sys.stderr.write(f"{exc}\n")
        sys.exit(EXIT_ERROR)
