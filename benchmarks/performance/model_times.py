"""What a series takes of a weight-free model: ``python -m voxfleet.benchmarks.performance.model_times``.

The real chest CT that the project carries, resampled to 512 x 512 and more or fewer slices, goes
through the whole of ``voxfleet enrich``, from an archive into an archive. CPU seconds of all
stages are taken, since they do not depend on what else the machine does. Folders of other series
may be given, and are measured too. What is printed belongs on the models' cards.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import highdicom as hd
from scipy import ndimage

from ...cluster.budgets.governor import Governor
from ...cluster.enrichment import Plan, perform, register
from ...cluster.ledger import AttemptClass, Ledger
from ...cluster.ledgers.sqlite import SqliteLedger
from ...cluster.prices.price import LOCAL, price_of
from ...cluster.run_folder import RunFolder
from ...enrich.phantom import CtIdentity, write_ct_series
from ...models import catalogue
from ...runners.worklist import wish
from .harness import publish
from .weight_free_models import MODELS, large_chest_ct

SLICES = (40, 80, 120, 160, 240, 320)


def write_series(folder: Path) -> None:
    """The chest CT in each number of `SLICES`."""
    whole = large_chest_ct()
    for slices in SLICES:
        zoom = slices / whole.array.shape[0]
        affine = whole.affine.copy()
        affine[:3, 0] /= zoom
        array = ndimage.zoom(whole.array, (zoom, 1, 1), order=1)
        volume = hd.Volume(array, affine, "PATIENT", frame_of_reference_uid=whole.frame_of_reference_uid)
        write_ct_series(volume, folder / str(slices), identity=CtIdentity.named(f"times-{slices}"))


def measured(model: str, source: Path, folder: Path) -> list[tuple[int, float, int, int, int]]:
    """Slices, CPU seconds, no seconds of a GPU, bytes of source and bytes stored of each series."""
    run = RunFolder(str(folder / model))
    wishes = (wish(catalogue.card(model), {}, "BINARY", repair=False),)
    plan = Plan(f"dir:{source}", f"dir:{run.path / 'archive'}", wishes, run, price_of(LOCAL))
    with run.locked():
        ledger = SqliteLedger(run.ledger)
        register(plan, ledger, lambda _: None)
        perform(plan, ledger, Governor(ledger, plan.price, None, Event()), lambda: None)
        return sorted(_rows(ledger))


def _rows(ledger: Ledger) -> list[tuple[int, float, int, int, int]]:
    items = {item.workitem.key: item.workitem for item in ledger.items()}
    stored: dict[str, int] = {}
    for each in ledger.stored():
        stored[each.key] = stored.get(each.key, 0) + each.object.bytes
    return [
        (
            items[each.key].instances,
            round(sum(used.cpu_s for used in each.consumption), 2),
            0,
            items[each.key].bytes or 0,
            stored[each.key],
        )
        for each in ledger.attempts()
        if each.outcome is AttemptClass.COMPLETED
    ]


def main() -> int:
    """Measure, print what belongs on each card, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="More series to measure.")
    folders: Sequence[Path] = parser.parse_args().folders
    found: dict[str, list[tuple[int, float, int, int, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "ct"
        write_series(source)
        for number, folder in enumerate(folders):
            shutil.copytree(folder, source / f"more-{number}")
        for model in MODELS:
            found[model] = measured(model, source, Path(name))
            print(f"{model}\nmeasured:\n  date: {datetime.now(UTC).date()}\n  series:")
            print("\n".join(f"    - {list(each)}" for each in found[model]))
    publish("model_times", "CPU seconds of a series", [], {"slices, CPU s, GPU s, bytes in, bytes out": found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
