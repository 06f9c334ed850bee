"""Which features are measured: a parameter file in pyradiomics' own YAML, judged by its own schema.

The content travels, not the path: as JSON with sorted keys, so that comments and order change
no workitem's key. Needs ``pip install 'voxfleet[radiomics]'``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ... import Error

BIN_WIDTH = 25
"""Width of the bins of Entropy and Uniformity, in units of the image (pyradiomics' default)."""
EXTRA = "pip install 'voxfleet[radiomics]'"
DOCUMENTATION = "https://pyradiomics.readthedocs.io/en/latest/customization.html"
MAPPINGS = ("setting", "voxelSetting", "imageType", "featureClass")
"""What a parameter file consists of, all optional."""


class RadiomicsMissing(Error):
    """A parameter file was given, and pyradiomics, which computes such features, is not installed."""

    code = "RADIOMICS_MISSING"

    def __init__(self, package: str, remedy: str) -> None:
        super().__init__(package, remedy)

    def __str__(self) -> str:
        return f"--features needs {self.args[0]}, which is not installed here: {self.args[1]}"


class InvalidFeatureParameters(Error):
    """A parameter file that pyradiomics does not take, or that asks for what it cannot give here."""

    code = "INVALID_FEATURES"

    def __init__(self, file: str, rule: str) -> None:
        super().__init__(file, rule)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; what may stand there: {DOCUMENTATION}"


class OtherPyradiomics(Error):
    """A node with another version of pyradiomics than the one that the run was asked for with."""

    code = "OTHER_PYRADIOMICS"

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(wanted, found)

    def __str__(self) -> str:
        wanted, found = self.args
        return f"the run asks for features of pyradiomics {wanted}, and this node has {found}: {EXTRA}"


def content_sha256(content: str) -> str:
    """SHA-256 in hex of the content of a parameter file."""
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class FeatureParameters:
    """What pyradiomics is asked for.

    Attributes
    ----------
    content : str
        JSON with sorted keys: ``pyradiomics`` (its version) and the parameter file's mappings.
    """

    content: str

    @cached_property
    def mappings(self) -> dict[str, dict[str, Any]]:
        """The parameter file's mappings, those that it leaves out empty."""
        found = json.loads(self.content)
        return {name: found.get(name) or {} for name in MAPPINGS}

    @property
    def pyradiomics(self) -> str:
        """Version of pyradiomics that the content was made for."""
        return str(json.loads(self.content)["pyradiomics"])


def read_feature_parameters(file: Path) -> FeatureParameters:
    """Parameters of a file, judged before anything is computed.

    Raises
    ------
    RadiomicsMissing
        If pyradiomics, or a package that a filter needs, is not installed.
    InvalidFeatureParameters
        If the file cannot be read, or breaks a rule of pyradiomics' schema; names file and rule.
    """
    check_installed()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as exc:
        raise InvalidFeatureParameters(str(file), " ".join(str(exc).split())) from exc
    if not isinstance(found, dict):
        raise InvalidFeatureParameters(str(file), f"is no mapping of {', '.join(MAPPINGS)}")
    _check_schema(file, found)
    _check_possible(file, found)
    content = {"pyradiomics": version("pyradiomics-bhklab"), **{key: value for key, value in found.items() if value}}
    return FeatureParameters(json.dumps(content, sort_keys=True))


def check_installed() -> None:
    """Refuse unless pyradiomics is installed.

    Raises
    ------
    RadiomicsMissing
        Naming the pip command.
    """
    if find_spec("radiomics") is None:
        raise RadiomicsMissing("pyradiomics", EXTRA)


def check_version(parameters: FeatureParameters) -> None:
    """Refuse unless this node has the pyradiomics that the parameters were made for.

    Raises
    ------
    RadiomicsMissing, OtherPyradiomics
        Naming the pip command.
    """
    check_installed()
    if (found := version("pyradiomics-bhklab")) != parameters.pyradiomics:
        raise OtherPyradiomics(parameters.pyradiomics, found)


def _check_schema(file: Path, found: Mapping[str, Any]) -> None:
    """Refuse what pyradiomics' own schema refuses, in its words."""
    from pykwalify.errors import PyKwalifyException
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    for library in ("pykwalify", "radiomics"):  # They log what they raise, and what they are about to do.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        RadiomicsFeatureExtractor(dict(found))
    except PyKwalifyException as exc:
        raise InvalidFeatureParameters(str(file), " ".join(str(exc.msg).split())) from exc
    except (TypeError, ValueError, AttributeError) as exc:
        raise InvalidFeatureParameters(str(file), " ".join(str(exc).split())) from exc


def _check_possible(file: Path, found: Mapping[str, Any]) -> None:
    """Refuse what the schema lets through and pyradiomics then leaves out with a warning, or cannot do."""
    settings = found.get("setting") or {}
    filters = found.get("imageType") or {}
    if "LoG" in filters and not (filters["LoG"] or {}).get("sigma", settings.get("sigma")):
        raise InvalidFeatureParameters(str(file), "imageType LoG needs sigma, a list of millimetres")
    if "LBP3D" in filters:
        raise InvalidFeatureParameters(
            str(file), "imageType LBP3D is not possible: pyradiomics calls functions that SciPy no longer has"
        )
    if "LBP2D" in filters and find_spec("skimage") is None:
        raise RadiomicsMissing("scikit-image (for imageType LBP2D)", EXTRA)
    if "shape2D" in (found.get("featureClass") or {}) and not settings.get("force2D"):
        raise InvalidFeatureParameters(str(file), "featureClass shape2D needs setting force2D: true")
    for name in ("label", "label_channel"):
        if name in settings:
            raise InvalidFeatureParameters(str(file), f"setting {name} chooses one segment; all of them are measured")
