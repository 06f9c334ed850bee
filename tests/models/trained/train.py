"""Trains the tiny nnU-Net of this folder with nnU-Net's own trainer, on generated chests; minutes on one core.

    python tests/models/trained/train.py SCRATCH

Writes plans.json, dataset.json and fold_0/checkpoint_final.pth (without the optimizer's state, which prediction
does not need) beside itself, and their hashes into card.yaml.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

HERE = Path(__file__).parent
DATASET = "Dataset901_phantom"
CHECKPOINT = "fold_0/checkpoint_final.pth"
SHAPE, SPACING_MM = (40, 96, 96), (6.0, 4.0, 4.0)
SEEDS = range(8)
"""Of the phantoms that are learnt from; the tests use others."""
PATCH, EPOCHS, ITERATIONS = [24, 48, 48], 10, 75
LUT = np.array([0, 1, 2, 2, 1, 3, 2, 2, 2, 2], dtype=np.uint8)
"""Phantom's segments to labels: body with airways, lung with its opacities, bone."""


def main(scratch: Path) -> None:
    """Write the phantoms, train, and copy what prediction needs."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(scratch / name)
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - so it is spelt
    dataset = write_phantoms(scratch / "raw" / DATASET)
    plans = plans_of()
    preprocessed = scratch / "preprocessed" / DATASET
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "dataset.json").write_text(json.dumps(dataset))
    cases = [f"case_{seed:03d}" for seed in SEEDS]
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": cases[:-1], "val": cases[-1:]}]))
    train(plans, dataset)
    keep(next((scratch / "results" / DATASET).glob("*")))


def write_phantoms(folder: Path) -> dict[str, object]:
    """Images and labels in nnU-Net's raw layout; gives the dataset.json."""
    from voxfleet.enrich.phantom import chest_phantom

    dataset: dict[str, object] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "body": 1, "lung": 2, "bone": 3},
        "numTraining": len(SEEDS),
        "file_ending": ".nii.gz",
    }
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    (folder / "labelsTr").mkdir(exist_ok=True)
    for seed in SEEDS:
        phantom = chest_phantom(SHAPE, SPACING_MM, seed=seed)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ phantom.volume.affine[:, [2, 1, 0, 3]]
        image = nib.Nifti1Image(phantom.volume.array.transpose(2, 1, 0), affine)
        nib.save(image, folder / "imagesTr" / f"case_{seed:03d}_0000.nii.gz")
        labels = nib.Nifti1Image(LUT[phantom.truth.labelmap.array].transpose(2, 1, 0), affine)
        nib.save(labels, folder / "labelsTr" / f"case_{seed:03d}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return dataset


def plans_of() -> dict[str, object]:
    """Plans of a network of 43,000 parameters for the phantoms' spacing."""
    three = [[3, 3, 3]] * 3
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(SPACING_MM),
        "original_median_shape_after_transp": list(SHAPE),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {
                "mean": -200.0,
                "std": 450.0,
                "min": -1024.0,
                "max": 1500.0,
                "median": 0.0,
                "percentile_00_5": -1020.0,
                "percentile_99_5": 900.0,
            }
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": PATCH,
                "median_image_size_in_voxels": list(map(float, SHAPE)),
                "spacing": list(SPACING_MM),
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {**resampling, "order": 3},
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
                "resampling_fn_probabilities_kwargs": resampling,
                "batch_dice": False,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": 3,
                        "features_per_stage": [8, 16, 32],
                        "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": three,
                        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
                        "n_conv_per_stage": [1, 1, 1],
                        "n_conv_per_stage_decoder": [1, 1],
                        "conv_bias": True,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }


def train(plans: dict[str, object], dataset: dict[str, object]) -> None:
    """Preprocess and train by nnU-Net."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA

    extract_fingerprints([901], num_processes=1)
    DefaultPreprocessor(verbose=False).run(901, "3d_fullres", "nnUNetPlans", 1)
    torch.manual_seed(0)
    np.random.seed(0)
    # continue_training is what nnUNetv2_train adds to the plans.
    trainer = nnUNetTrainerNoDA(
        {**plans, "continue_training": False}, "3d_fullres", 0, dataset, device=torch.device("cpu")
    )
    trainer.num_epochs = EPOCHS
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = ITERATIONS, 2
    trainer.run_training()


def keep(trained: Path) -> None:
    """Copy what prediction needs of a trained folder, and pin it in the card."""
    import torch

    (HERE / "fold_0").mkdir(exist_ok=True)
    for file in ("plans.json", "dataset.json"):
        shutil.copyfile(trained / file, HERE / file)
    checkpoint = torch.load(trained / CHECKPOINT, map_location="cpu", weights_only=False)
    torch.save({**checkpoint, "optimizer_state": {}}, HERE / CHECKPOINT)
    card = (HERE / "card.yaml").read_text()
    for weights in yaml.safe_load(card)["weights"]:
        card = card.replace(weights["sha256"], hashlib.sha256((HERE / weights["url"]).read_bytes()).hexdigest())
    (HERE / "card.yaml").write_text(card)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
