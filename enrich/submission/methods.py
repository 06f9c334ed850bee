"""How the results were made, as the provenance of the results tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import Error

_DOI = re.compile(r"doi:\s*(10\.\S+?)[.,;]?(?=\s|$)", re.IGNORECASE)


class BadProvenance(Error):
    """A provenance file is not there or not one of ours."""

    code = "BAD_PROVENANCE"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}; `voxfleet enrich` writes it for each result"


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A model as it was used.

    Attributes
    ----------
    weights : tuple of str
        ``URL (SHA-256 ...)`` of each file; empty for a model without.
    parameters, settings : mapping of str to str
        The model's, and the platform's.
    """

    name: str
    version: str
    family: str
    intended_use: str
    code_licence: str
    weights_licence: str
    weights: tuple[str, ...]
    citations: tuple[str, ...]
    parameters: Mapping[str, str]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Methods:
    """What made the results: the platform, the packages it ran with, the models."""

    platform: str
    git_commit: str
    packages: Mapping[str, str]
    models: tuple[ModelUsed, ...]

    @property
    def citations(self) -> tuple[str, ...]:
        """Every paper once, in the models' order."""
        return tuple(dict.fromkeys(text for model in self.models for text in model.citations))


def doi_of(citation: str) -> str:
    """The DOI in a citation; empty if it names none."""
    found = _DOI.search(citation)
    return found[1] if found else ""


def read_methods(paths: Iterable[Path]) -> Methods:
    """What provenance files tell, one of each model being enough; the platform's facts are the first one's.

    Raises
    ------
    BadProvenance
        If a file cannot be read, is none of ours, or none is given.
    """
    platform: Mapping[str, Any] = {}
    models: dict[tuple[str, str], ModelUsed] = {}
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            agents = document["agent"]
            platform = platform or next(facts for name, facts in agents.items() if name.startswith("vf:"))
            model = _model(document, next(facts for name, facts in agents.items() if name.startswith("model:")))
        except (OSError, ValueError, KeyError, StopIteration) as exc:
            raise BadProvenance(str(path), f"no provenance of a result ({type(exc).__name__})") from exc
        models.setdefault((model.name, model.version), model)
    if not models:
        raise BadProvenance("provenance.json", "there is none in the run's folder")
    named = dict(_named(platform, "package"))
    return Methods(str(platform["prov:label"]), str(platform.get("vf:git_commit", "")), named, tuple(models.values()))


def _model(document: Mapping[str, Any], facts: Mapping[str, Any]) -> ModelUsed:
    plan = next(each for each in document["entity"].values() if _is_a(each, "prov:Plan"))
    weights = [each for each in document["entity"].values() if _is_a(each, "vf:Weights")]
    return ModelUsed(
        name=facts["vf:name"],
        version=facts["vf:version"],
        family=facts["vf:algorithm_family"],
        intended_use=facts["vf:intended_use"],
        code_licence=facts["vf:code_licence"],
        weights_licence=facts["vf:weights_licence"],
        weights=tuple(f"{each['vf:url']} (SHA-256 {each['vf:sha256']})" for each in weights),
        citations=_many(facts.get("vf:citation", [])),
        parameters=dict(_named(plan, "parameter")),
        settings=dict(_named(plan, "setting")),
    )


def _is_a(entity: Any, kind: str) -> bool:
    return isinstance(entity, dict) and entity.get("prov:type", {}).get("$") == kind


def _named(facts: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    prefix = f"vf:{kind}."
    return ((name.removeprefix(prefix), str(value)) for name, value in facts.items() if name.startswith(prefix))


def _many(value: Any) -> tuple[str, ...]:
    """PROV-JSON writes one value as itself and many as a list."""
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
