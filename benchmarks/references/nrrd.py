"""NRRD: label maps with their space in the header; 3D Slicer's ``.seg.nrrd`` with names, codes and layers."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from ...enrich.series import SourceImage
from .coding import SIDES, current
from .errors import GeometryUnknown, UnreadableReference
from .label_map import LabelMapFile, annotation_of_labels, path_names
from .merging import merged
from .reference import Annotation, Reading, Structure, Subject

NAME = "NRRD"
ENDINGS = (".nrrd", ".nhdr")
_TO_LPS = {
    "left-posterior-superior": (1.0, 1.0),
    "lps": (1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0),
    "ras": (-1.0, -1.0),
    "left-anterior-superior": (1.0, -1.0),
    "las": (1.0, -1.0),
}
"""Signs that turn the first two coordinates of each space of patients to LPS."""
_TERMINOLOGY = "TerminologyEntry:"
_LAYERS = 4


def recognises(path: Path) -> bool:
    """Whether a file's name ends as NRRD files do."""
    return path.name.endswith(ENDINGS)


def subject(path: Path) -> Subject:
    """Grid and path of a label map: NRRD holds no identifier."""
    header = _header(path)
    shape = tuple(int(n) for n in np.array(header["sizes"])[-3:])
    return Subject(names=path_names(path), grid=hd.VolumeGeometry(_affine(path, header), shape, "PATIENT"))


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """The structures of one file, those of all layers of a ``.seg.nrrd``.

    Raises
    ------
    GeometryUnknown, OutsideImage, NoLabelMap, UnreadableReference
        If the header tells no place, voxels lie beyond the image, or the values are no labels.
    """
    header = _header(path)
    affine = _affine(path, header)
    array = _array(path)
    layers = [array] if array.ndim < _LAYERS else list(array)
    segments = _segments(header)
    found = []
    for number, layer in enumerate(layers):
        described = {value: each for (at, value), each in segments.items() if at == number}
        if described or not segments:
            labels = LabelMapFile(layer, affine, described or None)
            found.append(annotation_of_labels(path, NAME, labels, Subject(), image, reading))
    return (merged(found, found[0].origin),)


def _header(path: Path) -> Mapping[str, Any]:
    try:
        header: Mapping[str, Any] = _pynrrd(path).read_header(str(path))
    except (OSError, LookupError, ValueError, _pynrrd(path).NRRDError) as exc:
        raise UnreadableReference(str(path), f"is no NRRD file that can be read ({type(exc).__name__})") from exc
    return header


def _array(path: Path) -> NDArray[np.generic]:
    """Voxels, the first axis running fastest as in the file's header."""
    try:
        array: NDArray[np.generic] = _pynrrd(path).read(str(path))[0]
    except (OSError, LookupError, ValueError, _pynrrd(path).NRRDError) as exc:
        raise UnreadableReference(str(path), f"its voxels cannot be read ({type(exc).__name__})") from exc
    return array


def _pynrrd(path: Path) -> Any:
    """Import pynrrd.

    Raises
    ------
    UnreadableReference
        If it is not installed.
    """
    try:
        return importlib.import_module("nrrd")
    except ImportError as exc:
        raise UnreadableReference(str(path), "reading NRRD needs pynrrd: pip install voxfleet[benchmark]") from exc


def _affine(path: Path, header: Mapping[str, Any]) -> NDArray[np.float64]:
    """From indices to LPS mm.

    Raises
    ------
    GeometryUnknown
        If the header does not name a space of patients, its directions and origin.
    """
    space = str(header.get("space", "")).lower()
    if space not in _TO_LPS or "space directions" not in header or "space origin" not in header:
        raise GeometryUnknown(str(path), f"its space is {space or 'not told'}: where it lies would be a guess")
    affine = np.eye(4)
    affine[:3, :3] = np.array(header["space directions"], float)[-3:].T
    affine[:3, 3] = header["space origin"]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) == 0:
        raise GeometryUnknown(str(path), "its space directions span no volume")
    return np.diag([*_TO_LPS[space], 1.0, 1.0]) @ affine


def _segments(header: Mapping[str, Any]) -> dict[tuple[int, int], Structure]:
    """Structures of a ``.seg.nrrd`` by layer and value; none for other files."""
    found: dict[tuple[int, int], Structure] = {}
    for number in itertools.count():
        prefix = f"Segment{number}_"
        if f"{prefix}ID" not in header:
            return found
        name = str(header.get(f"{prefix}Name", header[f"{prefix}ID"]))
        place = (int(header.get(f"{prefix}Layer", 0)), int(header.get(f"{prefix}LabelValue", 1)))
        found[place] = _coded(name, str(header.get(f"{prefix}Tags", "")))
    return found


def _coded(name: str, tags: str) -> Structure:
    """Structure of a segment's tags: ``list~category~type~modifier~list~region~modifier``, codes as ``SCT^1^x``."""
    entry = next((tag for tag in tags.split("|") if tag.startswith(_TERMINOLOGY)), "")
    parts = [_code(part) for part in entry.removeprefix(_TERMINOLOGY).split("~")]
    _, category, kind, modifier, _, region, region_modifier = (*parts, *[None] * 7)[:7]
    sides = [code for code in (modifier, region_modifier) if code is not None and current(code) in SIDES]
    return Structure(1, name, category, kind, sides[0] if sides else None, region)


def _code(part: str) -> Code | None:
    scheme, _, rest = part.partition("^")
    value, _, meaning = rest.partition("^")
    return Code(value, scheme, meaning) if scheme and value else None
