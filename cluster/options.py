"""Options that several commands over a run share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, or path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
PriceFile = Annotated[Path | None, typer.Option("--prices", help="TOML file of prices; comes before the bundled ones.")]
PriceOf = Annotated[
    list[str] | None,
    typer.Option(
        "--price-of",
        metavar="GROUP=MACHINE:REGION:MARKET",
        help="What machines with this $VOXFLEET_GROUP are, e.g. fallback, cpu, head; may be repeated.",
    ),
]

CpuWorkers = Annotated[
    int,
    typer.Option("--cpu-workers", min=0, help="Beside --workers, on machines without GPUs, for models that need none."),
]
MaxCost = Annotated[str | None, typer.Option("--max-cost-per-series", help="Pause above this mean, in US$.")]
Deadline = Annotated[str | None, typer.Option("--deadline", help="Begin nothing that would end later, e.g. 8h, 90m.")]
MaxFailures = Annotated[
    float, typer.Option("--max-failures", min=0.0, max=1.0, help="Pause above this share of the last 200.")
]
MaxNodes = Annotated[int | None, typer.Option("--max-nodes", min=1, help="Begin nothing while more nodes are up.")]
StageDeadline = Annotated[
    list[str] | None,
    typer.Option("--stage-deadline", help="prepare, segment or deliver=DURATION; stopped if it takes longer."),
]
AlarmWebhook = Annotated[
    str,
    typer.Option(
        "--alarm-webhook", envvar="VOXFLEET_ALARM_WEBHOOK", help="Gets a POST at 50, 80 and 95 % of the budget."
    ),
]
