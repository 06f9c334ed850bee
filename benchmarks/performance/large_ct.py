"""Memory of models on large CTs: ``python -m voxfleet.benchmarks.performance.large_ct``.

512 x 512 x 500 and 512 x 512 x 1200 voxels (the real chest CT that the project carries, mirrored up and down)
through whole models, each in a process of its own whose highest resident memory is taken. The network of the
``nnunet`` cases has 117 classes at 1.5 mm, as TotalSegmentator's ``total`` has in all; its weights are made and its
layers few, so that it takes little time: its logits are as many as those of any other network. What is held is 12 GB
for 117 classes on 500 slices; there nnU-Net's own export needs 31 GB for the resampled logits alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from ...models import catalogue
from .harness import RESULTS, machine
from .totalsegmentator_weights import CONFIGURATION, SKELETON, made_weights
from .weight_free_models import large_chest_ct

CLASSES = 117
GRID_MM = 1.5
SPACING_MM = (1.0, 0.75, 0.75)
PATCH = (128, 128, 128)
STEP_SIZE = "0.8"
"""TotalSegmentator's for ``total``."""
LIMIT_BYTES = 12_000_000_000
HARD_LIMIT_BYTES = 14_000_000_000
"""A process that asks for more than this gets an error instead: the machine is not to suffer."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and a number of slices; what is held of its memory, if anything."""

    model: str
    slices: int
    limit_bytes: int | None = None


CASES = (
    Case("nnunet", 500, LIMIT_BYTES),
    Case("nnunet", 1200, HARD_LIMIT_BYTES),
    Case("ct-threshold", 1200, HARD_LIMIT_BYTES),
    Case("covid-opacity-hu", 1200, HARD_LIMIT_BYTES),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one case took."""

    name: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    before_bytes: int
    labels_found: int
    limit_bytes: int | None
    met: bool | None


def write_network(folder: Path) -> str:
    """A trained folder of nnU-Net with `CLASSES` classes at `GRID_MM`, of few layers; gives the model's name."""
    plans = json.loads((SKELETON / "plans_tiny.json").read_text())
    configuration = plans["configurations"][CONFIGURATION]
    configuration.update(patch_size=list(PATCH), spacing=[GRID_MM] * 3)
    arch = configuration["architecture"]["arch_kwargs"]
    kept = {"n_stages": 2, "features_per_stage": [4, 4]}
    for key in ("kernel_sizes", "strides", "n_conv_per_stage", "n_conv_per_stage_decoder"):
        kept[key] = arch[key][: 1 if key.endswith("decoder") else 2]
    arch.update(kept)
    names = [f"class_{number}" for number in range(1, CLASSES + 1)]
    labels = {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    checkpoint = {
        "network_weights": made_weights(configuration["architecture"], CLASSES + 1, "large"),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
    }
    (folder / "fold_0").mkdir(parents=True)
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "card.yaml").write_text(yaml.safe_dump(_card(folder, names)))
    return f"nnunet:{folder}"


def _card(folder: Path, names: list[str]) -> dict[str, object]:
    digest = hashlib.sha256((folder / "fold_0" / "checkpoint_final.pth").read_bytes()).hexdigest()
    anatomy = {"category": [123037004, "SCT", "Anatomical Structure"], "type": [38266002, "SCT", "Entire body"]}
    return {
        "name": "large",
        "version": "1.0",
        "description": "A made network of many classes.",
        "intended_use": "Measurements of memory.",
        "modality": ["CT"],
        "body_part": "CHEST",
        "algorithm_family": "AI",
        "memory_bytes": LIMIT_BYTES,
        "gpu_bytes": 0,
        "code_licence": "Apache-2.0",
        "weights_licence": "Apache-2.0",
        "weights": [{"url": "fold_0/checkpoint_final.pth", "sha256": digest}],
        "parameters": {"step_size": STEP_SIZE},
        "citations": [],
        "segments": [
            {"number": number, "label": name, "name": name, "color": [1, 2, 3], **anatomy}
            for number, name in enumerate(names, start=1)
        ],
    }


def made_volume(slices: int) -> hd.Volume:
    """The chest CT in `slices` slices of `SPACING_MM`, mirrored up and down where it ends."""
    chest = large_chest_ct()
    there_and_back = np.arange(slices) % (2 * len(chest.array))
    array = chest.array[np.minimum(there_and_back, 2 * len(chest.array) - 1 - there_and_back)]
    affine = np.diag([*SPACING_MM[::-1], 1.0])[:, [2, 1, 0, 3]]
    return hd.Volume(array, affine, "PATIENT")


def measure(case: Case) -> Run:
    """One case in this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (HARD_LIMIT_BYTES, HARD_LIMIT_BYTES))
    volume = made_volume(case.slices)
    with tempfile.TemporaryDirectory() as folder:
        name = write_network(Path(folder)) if case.model == "nnunet" else case.model
        model = catalogue.load(name)
        before = _peak_bytes()
        wall, cpu = time.perf_counter(), time.process_time()
        labels = model.segment(volume, model.card.parameters).labelmap.array
        took = time.perf_counter() - wall, time.process_time() - cpu
    peak = _peak_bytes()
    what = f"{case.model}, {len(model.card.segments)} classes, 512 x 512 x {case.slices}"
    met = None if case.limit_bytes is None else peak <= case.limit_bytes
    return Run(what, *took, peak, before, len(np.unique(labels)) - 1, case.limit_bytes, met)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Measure every case in a process of its own; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--case", nargs=2, metavar=("MODEL", "SLICES"), help="this one alone, as JSON, in this process")
    parser.add_argument("--slices", type=int, help="cases of so many slices alone")
    parser.add_argument("--output", type=Path, default=RESULTS / "large_ct.json")
    asked = parser.parse_args()
    if asked.case:
        (case,) = (each for each in CASES if [each.model, str(each.slices)] == asked.case)
        print(json.dumps(asdict(measure(case))))
        return 0
    table = Table(title="Memory on large CTs")
    for heading in ("what", "peak GB", "limit GB", "wall s", "CPU s", "classes found"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    runs = []
    for case in CASES:
        if asked.slices in (None, case.slices):
            command = [sys.executable, "-m", __spec__.name, "--case", case.model, str(case.slices)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            run = Run(**json.loads(done.stdout.splitlines()[-1]))
            limit = "-" if run.limit_bytes is None else f"{run.limit_bytes / 1e9:g}"
            figures = (f"{run.peak_bytes / 1e9:.2f}", limit, f"{run.wall_s:.1f}", f"{run.cpu_s:.1f}")
            table.add_row(run.name, *figures, str(run.labels_found))
            runs.append(run)
    Console().print(table)
    document = {"machine": machine(), "cases": [asdict(run) for run in runs]}
    asked.output.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
