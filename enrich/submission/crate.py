"""Results as one RO-Crate 1.1 with checksums, packed for Zenodo."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

from ..atomic import replacing, write_text
from .about import About, Author
from .methods import Methods
from .submitted import Submitted

CRATE = "crate"
"""Folder of the crate."""
DATA = "data"
"""Folder of the objects in it."""
CHECKSUMS = "checksums.sha256"
"""In the crate, as ``sha256sum -c`` reads it."""
METADATA = "ro-crate-metadata.json"
PACK = "crate.zip"
"""What is uploaded: Zenodo keeps files and no folders."""
ZENODO = {"name": "Zenodo", "url": "https://zenodo.org/"}
"""Who publishes it."""
DEPOSIT = "zenodo.json"
"""Metadata of the deposition, for Zenodo's REST interface."""


def write_crate(
    folder: Path, files: tuple[Submitted, ...], about: About, methods: Methods, day: date
) -> tuple[Path, ...]:
    """Describe the objects in the crate's folder, pack it, write the deposition beside it; their paths.

    Parameters
    ----------
    files : tuple of Submitted
        Paths from the crate's folder on.
    day : date
        Of publication, as far as is known.
    """
    root = folder / CRATE
    write_text(root / CHECKSUMS, "".join(f"{each.sha256}  {each.path}\n" for each in files))
    _crate(root, files, about, methods, day).write(root)
    packed = folder / PACK
    with replacing(packed) as temporary:
        _pack(root, (METADATA, CHECKSUMS, *(each.path for each in files)), temporary)
    deposit = folder / DEPOSIT
    write_text(deposit, json.dumps({"metadata": _deposit(about, methods, day)}, indent=2) + "\n")
    return packed, deposit


def _crate(root: Path, files: tuple[Submitted, ...], about: About, methods: Methods, day: date) -> ROCrate:
    crate = ROCrate(version="1.1")
    crate.name = about.title or "Results of imaging models"
    crate.description = about.abstract or crate.name
    crate.datePublished = day
    if about.licence:
        link = {"@type": "CreativeWork", "name": about.licence, "identifier": about.licence}
        crate.license = crate.add(ContextEntity(crate, f"https://spdx.org/licenses/{about.licence}", properties=link))
    people = [crate.add(_person(crate, each)) for each in about.authors]
    if people:
        crate.root_dataset["author"] = people[0] if len(people) == 1 else people
    crate.publisher = crate.add(
        ContextEntity(crate, "https://zenodo.org/", properties={**ZENODO, "@type": "Organization"})
    )
    if about.source.doi:
        facts = {"@type": "CreativeWork", "name": about.source.collection, "license": about.source.licence}
        crate.root_dataset["isBasedOn"] = crate.add(
            ContextEntity(crate, f"https://doi.org/{about.source.doi}", properties=facts)
        )
    listed = {"encodingFormat": "text/plain", "name": "SHA-256 of every object"}
    crate.add_file(root / CHECKSUMS, CHECKSUMS, properties=listed)
    made = [
        crate.add_file(
            root / each.path,
            each.path,
            properties={
                "name": each.series_description or each.sop_instance_uid,
                "encodingFormat": "application/dicom",
                "contentSize": str(each.bytes),
                "sha256": each.sha256,
                "identifier": f"urn:oid:{each.sop_instance_uid}",
            },
        )
        for each in files
    ]
    tools = [crate.add(each) for each in _software(crate, methods)]
    facts = {"@type": "CreateAction", "name": "Segmentation and measurement"}
    action = crate.add(ContextEntity(crate, "#enrichment", properties=facts))
    action["instrument"], action["result"] = tools, made
    return crate


def _person(crate: ROCrate, author: Author) -> Person:
    name = f"{author.first_name} {author.last_name}".strip()
    identifier = f"https://orcid.org/{author.orcid}" if author.orcid else f"#{name.replace(' ', '-')}"
    person = Person(crate, identifier, properties={"name": name})
    if author.organization:
        facts = {"@type": "Organization", "name": author.organization}
        place = ContextEntity(crate, f"#{author.organization.replace(' ', '-')}", properties=facts)
        person["affiliation"] = crate.add(place)
    return person


def _software(crate: ROCrate, methods: Methods) -> Iterator[ContextEntity]:
    """The platform and the models, as RO-Crate's software."""
    facts = {"@type": "SoftwareApplication", "name": methods.platform, "version": methods.packages.get("voxfleet", "")}
    yield ContextEntity(crate, "#platform", properties=facts)
    for model in methods.models:
        facts = {"@type": "SoftwareApplication", "name": model.name, "version": model.version}
        cited: dict[str, Any] = {"citation": list(model.citations)} if model.citations else {}
        yield ContextEntity(crate, f"#{model.name}-{model.version}", properties={**facts, **cited})


def _pack(root: Path, paths: Iterable[str], packed: Path) -> None:
    """Pack files of a folder without compressing them; times depend on nothing."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as pack:
        for path in paths:
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o644 << 16
            with (root / path).open("rb") as source, pack.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


def _deposit(about: About, methods: Methods, day: date) -> dict[str, Any]:
    creators = [
        {
            "name": f"{each.last_name}, {each.first_name}".strip(", "),
            **({"affiliation": each.organization} if each.organization else {}),
            **({"orcid": each.orcid} if each.orcid else {}),
        }
        for each in about.authors
    ]
    related = [{"identifier": about.source.doi, "relation": "isDerivedFrom", "resource_type": "dataset"}]
    return {
        "upload_type": "dataset",
        "title": about.title,
        "description": about.abstract,
        "creators": creators,
        "publication_date": day.isoformat(),
        "access_right": "open",
        "license": about.licence,
        "related_identifiers": related if about.source.doi else [],
        "references": list(methods.citations),
        "keywords": ["DICOM", "segmentation", "radiomics", *(model.name for model in methods.models)],
    }
