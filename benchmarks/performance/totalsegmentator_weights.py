"""Made weights in the layout of TotalSegmentator's weights folder: true layout and architecture, fixed seed.

The label maps that such networks give are noise, but the same noise for whoever runs them, which is
all that a comparison of two programs needs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from totalsegmentator.map_to_binary import class_map

from ...models.totalsegmentator.tasks import Network, Prediction, Task

SKELETON = Path(__file__).parents[3] / "shared" / "data" / "weights" / "nnunet-skeleton-total-3mm-like"
"""Plans of the fast 3 mm architecture (``plans.json``, 30.7 million parameters) and of a tiny one."""

CONFIGURATION = "3d_fullres"
LOGIT_SCALE = 20.0
"""Spreads the outputs, so that many classes win somewhere."""
BACKGROUND_SPREADS = 3.0
"""Lifts the background by so many standard deviations of the outputs, so that classes make pieces apart."""
NOISE = (64, 64, 64)
"""Voxels of the noise that the outputs' standard deviation is taken on."""


def write_home(home: Path, tasks: tuple[Task, ...], plans: Path) -> Path:
    """A ``TOTALSEG_HOME_DIR`` with weights for some tasks, and with its usage statistics off.

    Parameters
    ----------
    home : Path
        Made if absent; networks that are there already are kept.
    tasks : tuple of Task
    plans : Path
        ``plans.json`` whose architecture all networks get, each at the spacing that its task feeds it with.

    Returns
    -------
    Path
        The weights folder in it.
    """
    results = home / "nnunet" / "results"
    results.mkdir(parents=True, exist_ok=True)
    config = {"totalseg_id": "made", "send_usage_stats": False, "prediction_counter": 0}
    (home / "config.json").write_text(json.dumps({**config, "statistics_disclaimer_shown": True}))
    content = json.loads(plans.read_text())
    for task in tasks:
        for prediction in task.predictions:
            for network in prediction.networks:
                if not (results / network.dataset).is_dir():
                    _write_network(results / network.dataset / network.model, prediction, network, content)
    return results


def _write_network(folder: Path, prediction: Prediction, network: Network, plans: Mapping[str, Any]) -> None:
    """``plans.json``, ``dataset.json`` and a checkpoint for each fold; two folds where all are taken."""
    name = network.model.rpartition("__")[2]
    configuration = copy.deepcopy(plans["configurations"][CONFIGURATION])
    if prediction.spacing_mm is not None:
        configuration["spacing"] = [float(mm) for mm in reversed(prediction.spacing_mm)]
    # Some networks find structures that their task then takes away (postprocessing.remove_auxiliary_labels).
    auxiliary = class_map.get(f"{prediction.class_map}_auxiliary", {})
    numbers = sorted(set(network.classes or prediction.classes) | set(auxiliary))
    labels = {"background": 0, **{f"class_{number}": number for number in numbers}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    own = {**plans, "dataset_name": network.dataset, "configurations": {name: configuration}}
    for fold in network.folds or (0, 1):
        checkpoint = {
            "network_weights": made_weights(configuration["architecture"], len(labels), f"{network.dataset}{fold}"),
            "trainer_name": network.model.partition("__")[0],
            "init_args": {"configuration": name},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(own))
    (folder / "dataset.json").write_text(json.dumps(dataset))


def made_weights(architecture: Mapping[str, Any], outputs: int, seed: str) -> dict[str, torch.Tensor]:
    """Fixed-seed weights of the architecture that plans name, by which pieces of classes lie in background."""
    torch.manual_seed(sum(seed.encode()))
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        outputs,
        deep_supervision=False,
    )
    last = max(key for key in network.state_dict() if "seg_layers" in key and key.endswith(".weight"))
    layer = network.get_submodule(last.removesuffix(".weight"))
    with torch.inference_mode():
        layer.weight *= LOGIT_SCALE
        spread = network.eval()(torch.randn(1, 1, *NOISE))[0].std()
        layer.bias[0] += BACKGROUND_SPREADS * spread
    return {key: value.clone() for key, value in network.state_dict().items()}
