"""The tasks of the installed TotalSegmentator package as records: networks, spacing, crop.

Read from the package's own tables (`map_tasks_config`, `map_to_binary`), so that a newer package
brings its newer tasks. What is decided in the body of its `python_api.totalsegmentator` and not in
a table is done here again, each with the place named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from totalsegmentator import map_to_binary
from totalsegmentator.map_tasks_config import DEFAULT_CONFIG, TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS

RELEASES = "https://github.com/wasserth/TotalSegmentator/releases/download"
"""Where the package's libs.download_pretrained_weights takes open weights from."""

NOT_RELEASED = frozenset({"test", "total_highres_test"})
"""Tasks of the package that its authors test with; their weights were never published."""

ROUGH_MARGIN_MM = (20.0, 20.0, 20.0)
"""Around structures of a total or body map (python_api: ``crop_addon = [20,20,20] if crop_model is None``)."""

PLANS = "nnUNetPlans"

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Network:
    """One trained nnU-Net of the package.

    Attributes
    ----------
    dataset : str
        Folder in the weights folder, e.g. ``Dataset297_TotalSegmentator_total_3mm_1559subj``.
    model : str
        Folder in it: trainer, plans and configuration, joined by ``__``.
    folds : tuple of int or None
        None: all that are there.
    url : str
        Archive of the weights.
    classes : mapping of int to int, or None
        Where several networks make one map: label of the network -> class id of the task.
    """

    dataset: str
    model: str
    folds: tuple[int, ...] | None
    url: str
    classes: Mapping[int, int] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One pass over an image, as the package's `nnUNet_predict_image` makes it.

    Attributes
    ----------
    class_map : str
        Which of the package's class maps its labels are of; it decides on postprocessing too.
    networks : tuple of Network
        In the order in which they are merged; a later one wins.
    spacing_mm : tuple of float or None
        Along x, y and z of the canonical image; None: as it is.
    """

    class_map: str
    networks: tuple[Network, ...]
    spacing_mm: Spacing | None

    @property
    def classes(self) -> dict[int, str]:
        """Class id -> the package's name of the class."""
        return dict(map_to_binary.class_map[self.class_map])


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of the image that the networks see: round some structures found before.

    Attributes
    ----------
    found_by : Prediction or Task
        What finds the structures.
    structures : tuple of int
        Their class ids.
    margin_mm : tuple of float
        Around them, along the image's axes.
    """

    found_by: Prediction | Task
    structures: tuple[int, ...]
    margin_mm: Spacing


@dataclass(frozen=True, slots=True)
class Task:
    """One task in one mode.

    Attributes
    ----------
    name : str
        The package's task, with ``_fast`` or ``_fastest`` for its modes of lower resolution.
    package_task : str
        The package's task.
    modality : str
        ``CT`` or ``MR``.
    prediction : Prediction
    crop : Crop or None
    bodies : Prediction or None
        Vertebral bodies that the vertebrae are cut to (``vertebrae_pp_refined``).
    """

    name: str
    package_task: str
    modality: str
    prediction: Prediction
    crop: Crop | None = None
    bodies: Prediction | None = None

    @property
    def classes(self) -> dict[int, str]:
        """Class id -> the package's name of the class."""
        return dict(map_to_binary.class_map[self.package_task])

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """Every pass that the task makes, in order."""
        found_by = self.crop.found_by if self.crop else None
        first = found_by.predictions if isinstance(found_by, Task) else (found_by,)
        return tuple(each for each in (*first, self.bodies, self.prediction) if each is not None)

    @property
    def networks(self) -> tuple[Network, ...]:
        """Every network that the task needs, each once."""
        return tuple(dict.fromkeys(network for each in self.predictions for network in each.networks))


@cache
def tasks() -> dict[str, Task]:
    """Open tasks by name: all that need no licence number and whose weights are published."""
    found = {}
    for package_task, config in TASK_CONFIGS.items():
        if config.get("commercial") or package_task in NOT_RELEASED or package_task not in map_to_binary.class_map:
            continue
        for mode in config.get("sub_modes", {"default": None}):
            task = _task(package_task, mode)
            found[task.name] = task
    return found


def _task(package_task: str, mode: str) -> Task:
    config = _config(package_task, mode)
    return Task(
        name=package_task if mode == "default" else f"{package_task}_{mode}",
        package_task=package_task,
        # registry._MR_TASKS_WITHOUT_SUFFIX
        modality="MR" if package_task.endswith("_mr") or package_task == "brain_aneurysm" else "CT",
        # python_api: ``prediction_task = "vertebrae_pp" if task == "vertebrae_pp_refined" else task``
        prediction=_prediction("vertebrae_pp" if package_task == "vertebrae_pp_refined" else package_task, config),
        crop=_crop(package_task, config),
        bodies=_prediction("vertebrae_body", _config("vertebrae_body", "default"))
        if package_task == "vertebrae_pp_refined"
        else None,
    )


def _config(package_task: str, mode: str) -> dict[str, Any]:
    """python_api.get_task_config, without its printing, its licence question and its switches."""
    raw = TASK_CONFIGS[package_task]
    own = raw["sub_modes"][mode] if "sub_modes" in raw else raw
    return {**DEFAULT_CONFIG, **own, "plans": own.get("plans") or PLANS}


def _prediction(class_map: str, config: Mapping[str, Any]) -> Prediction:
    ids = config["task_id"]
    if isinstance(ids, list):
        networks = tuple(_network(number, config, _merged_labels(class_map, number)) for number in ids)
    else:
        networks = (_network(ids, config, None),)
    spacing = config["resample"]
    if isinstance(spacing, float):
        spacing = (spacing,) * 3
    return Prediction(class_map, networks, tuple(spacing) if spacing else None)


def _network(number: int, config: Mapping[str, Any], classes: Mapping[int, int] | None) -> Network:
    weights = TASK_ID_WEIGHTS_CONFIGS[number]
    folds = config["folds"]
    return Network(
        dataset=weights["foldername"],
        model=f"{config['trainer']}__{config['plans']}__{config['model']}",
        folds=tuple(folds) if folds else None,
        url=f"{RELEASES}/{weights['version']}/{weights['foldername']}.zip",
        classes=classes,
    )


def _merged_labels(class_map: str, number: int) -> dict[int, int]:
    """Label of a part's network -> class id of the task (nnunet.nnUNet_predict_image, its ``lut``)."""
    parts, part_of = {
        "total": (map_to_binary.class_map_5_parts, map_to_binary.map_taskid_to_partname_ct),
        "total_v3": (map_to_binary.class_map_5_parts_total_v3, map_to_binary.map_taskid_to_partname_ct_v3),
        "total_mr": (map_to_binary.class_map_parts_mr, map_to_binary.map_taskid_to_partname_mr),
        "headneck_muscles": (
            map_to_binary.class_map_parts_headneck_muscles,
            map_to_binary.map_taskid_to_partname_headneck_muscles,
        ),
    }[class_map]
    class_of = {name: number for number, name in map_to_binary.class_map[class_map].items()}
    return {label: class_of[name] for label, name in parts[part_of[number]].items()}


def _crop(package_task: str, config: Mapping[str, Any]) -> Crop | None:
    names = config["crop"]
    if names is None:
        return None
    found_by: Prediction | Task
    if config["crop_model"] is not None:
        found_by, margin_mm = _task(config["crop_model"], "default"), tuple(config["crop_addon"])
    else:
        found_by, margin_mm = _rough(package_task, config), ROUGH_MARGIN_MM
    class_of = {name: number for number, name in found_by.classes.items()}
    return Crop(found_by, tuple(class_of[name] for name in names), margin_mm)


def _rough(package_task: str, config: Mapping[str, Any]) -> Prediction:
    """Which total or body map a task is cropped by (python_api, under ``if crop_model is None``)."""
    if "body_trunc" in config["crop"] or "body_extremities" in config["crop"]:
        return _prediction("body", _config("body", "fast"))
    if package_task.endswith("_mr"):
        return _prediction("total_mr", _config("total_mr", "fast"))
    return _prediction("total", _config("total", "fast" if config["robust_crop"] else "fastest"))
