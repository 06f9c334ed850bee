"""Options that several commands over a run share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
PriceFile = Annotated[Path | None, typer.Option("--prices", help="TOML file of prices; comes before the bundled ones.")]
