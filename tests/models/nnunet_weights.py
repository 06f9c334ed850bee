"""Trained nnU-Net folders with fixed-seed weights of true architectures, in nnU-Net's own layout."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

CONFIGURATION = "3d_fullres"
SKELETON = Path("weights") / "nnunet-skeleton-total-3mm-like"
"""Under the shared data: plans of TotalSegmentator's fast architecture, and of a tiny one."""


def tiny_plans(shared_data: Path, **changes: Any) -> dict[str, Any]:
    """Plans of a network of 43,000 parameters, with changes to its one configuration."""
    plans = json.loads((shared_data / SKELETON / "plans_tiny.json").read_text())
    plans["configurations"][CONFIGURATION].update(copy.deepcopy(changes))
    return plans


def dataset_of(labels: dict[str, Any], regions_class_order: list[int] | None = None) -> dict[str, Any]:
    """Content of a dataset.json for one channel of CT."""
    dataset: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **labels},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    return dataset if regions_class_order is None else {**dataset, "regions_class_order": regions_class_order}


def write_folder(
    folder: Path,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    folds: tuple[str, ...] = ("0",),
    mirroring_axes: tuple[int, ...] | None = None,
    trainer: str = "nnUNetTrainer",
) -> Path:
    """A trained folder as nnU-Net leaves it; the weights of fold N come from seed N."""
    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            determine_num_input_channels(manager, configuration, dataset),
            manager.get_label_manager(dataset).num_segmentation_heads,
            deep_supervision=False,
        )
        for name, values in network.state_dict().items():
            if "seg_layers" in name:  # no output is the largest nearly everywhere
                values.sub_(values.mean(dim=1, keepdim=True) if values.ndim > 1 else values)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "epoch_end_timestamps": [1.0]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {"plans": plans, "configuration": CONFIGURATION, "fold": fold, "device": torch.device("cpu")},
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": mirroring_axes,
        }
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def write_card(folder: Path, segments: dict[str, tuple[int, ...]], **parameters: str) -> Path:
    """A card.yaml that pins the folder's checkpoints; segments by name, each with the numbers that it contains."""
    checkpoints = sorted(folder.glob("fold_*/*.pth"))
    card = {
        "name": "a-network",
        "version": "1.0",
        "description": "A network for tests.",
        "intended_use": "Tests.",
        "modality": ["CT"],
        "body_part": "CHEST",
        "algorithm_family": "AI",
        "memory_bytes": 1_000_000_000,
        "gpu_bytes": 0,
        "code_licence": "Apache-2.0",
        "weights_licence": "CC0-1.0",
        "weights": [
            {"url": str(path.relative_to(folder)), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in checkpoints
        ],
        "parameters": parameters,
        "citations": [],
        "segments": [
            {
                "number": number,
                "label": name,
                "name": name,
                "category": [123037004, "SCT", "Anatomical Structure"],
                "type": [39607008, "SCT", "Lung"],
                "color": [1, 2, 3],
                **({"contains": list(contains)} if contains else {}),
            }
            for number, (name, contains) in enumerate(segments.items(), start=1)
        ],
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return folder
