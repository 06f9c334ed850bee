"""The card of a container image: a card file with a ``container`` block.

The schema is that of every card, with ``weights: []`` and ``parameters: {}``: what is in an image is pinned by
the image's digest, and that stands on the card as its weights. The block::

    container:
      image: docker.io/mhubai/totalsegmentator@sha256:...
      command: [--workflow, default]
      input: dicom
      output_kind: seg
      output: "**/*.seg.dcm"
      labels: {Spleen: spleen, Right kidney: kidney_right}

``image``
    By digest. A name that ends in ``.sif`` is a file for Apptainer, in the card's folder or by an absolute path.
``command``
    Arguments after the image; default none. They take the place of the image's CMD, its ENTRYPOINT stays.
``input``
    ``dicom``: the files of the series, named 00001.dcm, ...; ``nifti``: the volume as one file.
``input_file``
    Name of that file; default ``image.nii.gz``.
``input_folder``, ``output_folder``
    Where the image looks for its input, and writes; default those of MHub, ``/app/data/input_data`` and
    ``/app/data/output_data`` (some MHub images write to ``/app/data/output``).
``output``
    Pattern, below the output folder, of the one file that holds the result (as `pathlib.Path.glob`).
``output_kind``
    ``seg`` for a DICOM SEG, which needs DICOM as input; ``nifti`` for a label map.
``labels``
    Each value of the label map, or each Segment Label (0062,0005) of the SEG, with the name of the card's segment
    that it stands for. A value or label that is not listed is an error, unless it is in ``ignored``.
``ignored``
    A list of values or Segment Labels that are left out.
``engine``
    ``docker``, ``podman``, ``apptainer`` or ``buildah``; default the first of these that works.
``user``
    ``image`` for an image that must run as its own user, as those that write beside their programs must;
    default the user that runs Voxfleet, and nobody where that is root.
``time_limit_s``
    Default 1500.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..card_file import InvalidCard, checked, read_card_and
from ..model import ModelCard, Weights

FAMILY = "container"
CARD = "card.yaml"
BLOCK = "container"
DICOM, NIFTI, SEG = "dicom", "nifti", "seg"
ENGINES = ("docker", "podman", "apptainer", "buildah")
OWN_USER = "image"
SIF_ENDING = ".sif"
TIME_LIMIT_S = 1500
"""Below the deadline of the stage that segments, so that the image is named and not the worker killed."""

_NEEDED: dict[str, type] = {"image": str, "input": str, "output": str, "output_kind": str, "labels": dict}
_OPTIONAL: dict[str, type] = {
    "command": list,
    "engine": str,
    "ignored": list,
    "input_file": str,
    "input_folder": str,
    "output_folder": str,
    "time_limit_s": int,
    "user": str,
}
_DIGEST = re.compile(r"[^\s@-][^\s@]*@sha256:[0-9a-f]{64}")
"""A name that began with a dash would be an option of the engine."""
_FOLDER = re.compile(r"/[\w.+/-]*\w[\w.+/-]*")
"""Commas and colons would end it in an engine's option for mounts, and begin what else is mounted."""
_FOLDER_NEEDED = "an absolute path of letters, digits and ._+- in the image is needed"

Label = int | str
"""A value of a label map, or a Segment Label."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and how it takes and gives; the attributes are the keys of the block, see above.

    Attributes
    ----------
    numbers : mapping of int or str to int
        Value or Segment Label to the number of the card's segment; 0 for what is ignored.
    memory_bytes : int
        Of the card: what the image may use.
    """

    image: str
    command: tuple[str, ...]
    input: str
    input_file: str
    input_folder: str
    output: str
    output_kind: str
    output_folder: str
    numbers: Mapping[Label, int]
    engine: str
    user: str
    time_limit_s: int
    memory_bytes: int
    folder: Path

    @property
    def sha256(self) -> str:
        """Of the image: its digest, or that of its file."""
        return self.image.rpartition(":")[2]

    @property
    def sif(self) -> Path | None:
        """Apptainer's file, where the image is one."""
        name = self.image.partition("@")[0]
        return self.folder / name if name.endswith(SIF_ENDING) else None


def card(path: Path) -> ModelCard:
    """The card in a file, or in a folder's ``card.yaml``, under the name ``container:<name on it>``.

    Raises
    ------
    InvalidCard
        If there is none, or its ``container`` block is not as described above.
    """
    place = path.resolve()
    found, image = read(place)
    weights = (Weights(f"docker://{image.image}" if image.sif is None else str(image.sif.name), image.sha256),)
    return replace(found, name=f"{FAMILY}:{found.name}", weights=weights, place=str(place))


def read(path: Path) -> tuple[ModelCard, Image]:
    """What a card file holds: the card as it is written, and the image.

    Raises
    ------
    InvalidCard
        Naming the key.
    """
    file = path / CARD if path.is_dir() else path
    found, block = read_card_and(file, BLOCK)
    for key, value in (("weights", found.weights), ("parameters", found.parameters)):
        if value:
            raise InvalidCard(file.name, key, "an image has none: leave it empty")
    return found, _image(file, found, checked(file.name, BLOCK, block, _NEEDED, _OPTIONAL))


def _image(file: Path, found: ModelCard, block: Mapping[str, Any]) -> Image:
    image = Image(
        image=block["image"],
        command=tuple(str(word) for word in block.get("command", ())),
        input=block["input"],
        input_file=block.get("input_file", "image.nii.gz"),
        input_folder=block.get("input_folder", "/app/data/input_data"),
        output=block["output"],
        output_kind=block["output_kind"],
        output_folder=block.get("output_folder", "/app/data/output_data"),
        numbers=_numbers(file.name, found, block),
        engine=block.get("engine", ""),
        user=block.get("user", ""),
        time_limit_s=block.get("time_limit_s", TIME_LIMIT_S),
        memory_bytes=found.memory_bytes,
        folder=file.parent,
    )
    for key, reason in _faults(image):
        raise InvalidCard(file.name, f"{BLOCK}.{key}", reason)
    return image


def _faults(image: Image) -> list[tuple[str, str]]:
    """What is wrong with the values of a block: key and reason."""
    paths = [PurePosixPath(place) for place in (image.input_folder, image.output_folder)]
    rules = (
        ("image", _DIGEST.fullmatch(image.image), f"{image.image!r} is not NAME@sha256:DIGEST, 64 hex digits"),
        ("input", image.input in (DICOM, NIFTI), f"{image.input!r} is neither {DICOM} nor {NIFTI}"),
        ("output_kind", image.output_kind in (SEG, NIFTI), f"{image.output_kind!r} is neither {SEG} nor {NIFTI}"),
        ("output_kind", image.output_kind == NIFTI or image.input == DICOM, "a SEG is made from DICOM, not from NIfTI"),
        ("input_file", image.input_file.endswith((".nii", ".nii.gz")), "the name of a NIfTI file is needed"),
        ("input_file", "/" not in image.input_file, "a name is needed, not a path"),
        ("input_folder", _is_folder(image.input_folder), f"{_FOLDER_NEEDED}, not {image.input_folder!r}"),
        ("output_folder", _is_folder(image.output_folder), f"{_FOLDER_NEEDED}, not {image.output_folder!r}"),
        ("output_folder", not paths[1].is_relative_to(paths[0]), "lies in the input folder, which is read-only"),
        ("output", _below(image.output), f"{image.output!r} is no pattern below the output folder"),
        ("engine", image.engine in ("", *ENGINES), f"{image.engine!r} is none of {', '.join(ENGINES)}"),
        ("user", image.user in ("", OWN_USER), f"{image.user!r} is not {OWN_USER!r}"),
        ("time_limit_s", image.time_limit_s > 0, "a number of seconds above 0 is needed"),
    )
    return [(key, reason) for key, holds, reason in rules if not holds]


def _is_folder(path: str) -> bool:
    return _FOLDER.fullmatch(path) is not None and ".." not in PurePosixPath(path).parts


def _below(pattern: str) -> bool:
    parts = PurePosixPath(pattern)
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts


def _numbers(file: str, found: ModelCard, block: Mapping[str, Any]) -> dict[Label, int]:
    """Labels and what they stand for; every segment of the card has one, at least."""
    kind: type = str if block["output_kind"] == SEG else int
    by_name = {segment.name: segment.number for segment in found.segments}
    numbers: dict[Label, int] = dict.fromkeys(block.get("ignored", ()), 0)
    for label, name in block["labels"].items():
        if name not in by_name:
            raise InvalidCard(file, f"{BLOCK}.labels.{label}", f"{name!r} is no segment of the card")
        numbers[label] = by_name[name]
    for label in numbers:
        if not isinstance(label, kind) or isinstance(label, bool) or label == 0:
            wanted = "a Segment Label" if kind is str else "a value above 0"
            raise InvalidCard(file, f"{BLOCK}.labels.{label}", f"{wanted} is needed")
    for name, number in by_name.items():
        if number not in numbers.values():
            raise InvalidCard(file, f"{BLOCK}.labels", f"nothing stands for the segment {name!r}")
    return numbers
