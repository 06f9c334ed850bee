"""The console script: its commands come from the entry points of group ``voxfleet.commands``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_group

from .. import Error, __version__
from .discretion import be_discreet

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_INCOMPLETE = 3
"""The run is done, but some series were refused or failed."""
EXIT_STOPPED = 4
"""Stopped by the budget or by the user; the same command goes on."""
EXIT_TAKEN_AWAY = 143
"""A worker was told by SIGTERM to leave its machine, and more is left: its scheduler is to begin it again."""


_LOG = logging.getLogger(__name__)


class _Commands(Mapping[str, Any]):
    """Installed commands by name, each imported when it is asked for: together they take two seconds."""

    def __init__(self) -> None:
        found = entry_points(group="voxfleet.commands")
        self._points = {point.name: point for point in sorted(found, key=lambda each: each.name)}

    def __getitem__(self, name: str) -> Any:
        """A command; KeyError, as if it were not installed, where it cannot be imported."""
        point = self._points[name]
        try:
            command = point.load()
        except (ImportError, AttributeError) as exc:
            _LOG.warning("command %s of %s cannot be loaded: %s", name, point.value, exc)
            raise KeyError(name) from exc
        alone = typer.Typer()
        if isinstance(command, typer.Typer):
            alone.add_typer(command, name=name)
        else:
            alone.command(name)(command)
        return get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


class _Group(TyperGroup):
    """The command line, of which only the command that is called is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


def application() -> typer.Typer:
    """The command line with every installed command."""
    app = typer.Typer(
        name="voxfleet",
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
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
    be_discreet()
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Run the command that is called; an error of ours is one line and exit code 1."""
    try:
        application()()
    except Error as exc:
        sys.exit(told(exc))


def told(error: Error) -> int:
    """Write an error of ours to standard error, in one line; the exit code."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error[/red] {error.code}: ", end="")
    sys.stderr.write(f"{error}\n")
    return EXIT_ERROR
