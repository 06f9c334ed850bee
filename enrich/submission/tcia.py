"""What The Cancer Imaging Archive takes: a proposal, investigators, metadata tables, a description.

Columns are those of TCIA's proposal form for analysis results and of the NCI Imaging Submission Model 0.0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from ..atomic import write_text
from .about import CONTACTS, About
from .methods import Methods, doi_of
from .separated import write_separated
from .submitted import Submitted

DATA = "data"
"""Folder of the objects."""

QUESTIONS = {
    "published_elsewhere": "Published elsewhere",
    "time_constraints": "Time constraints",
    "manuscripts": "Manuscripts",
    "code": "Related code",
    "funding": "Funding",
    "acknowledgements": "Acknowledgements",
    "why_tcia": "Why TCIA",
    "adult_or_childhood": "Adult or childhood study",
}
"""Answers of `About.answers` with their column in the proposal."""

NODES: Mapping[str, tuple[str, ...]] = {
    "Dataset": (
        "dataset_id",
        "dataset_long_name",
        "dataset_short_name",
        "dataset_description",
        "dataset_abstract",
        "adult_or_childhood_study",
        "acknowledgements",
    ),
    "Investigator": (
        "investigator_id",
        "dataset.dataset_id",
        "first_name",
        "last_name",
        "person_orcid",
        "email",
        "organization_name",
    ),
    "Related_Work": (
        "related_work_id",
        "dataset.dataset_id",
        "DOI",
        "relationship_type",
        "publication_type",
        "title",
    ),
    "Subject": (
        "subject_id",
        "dataset.dataset_id",
        "ethnicity",
        "race",
        "sex_at_birth",
        "vital_status",
        "NCBI Taxonomy ID",
    ),
    "Procedure": ("procedure_id", "subject.subject_id", "procedure_date", "image_modality"),
    "Radiology": (
        "Radiology_id",
        "is_phantom",
        "Modality",
        "BodyPartExamined",
        "StudyDesc",
        "SeriesDescription",
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
    ),
    "File": (
        "data_has_been_de-identified",
        "subject.subject_id",
        "dataset.dataset_id",
        "procedure.procedure_id",
        "file_name",
        "file_type",
        "file_description",
        "file_size",
        "md5sum",
        "license",
        "radiology.radiology_id",
    ),
}
"""Columns of each node's table. What DICOM does not hold stays empty (`Subject`: ethnicity, race, vital_status and
the species' number, which stand in the source collection's own tables; `Radiology`: is_phantom)."""

_SEX = {"M": "Male", "F": "Female"}


def write_tcia(
    folder: Path, files: tuple[Submitted, ...], about: About, description: str, methods: Methods, day: date
) -> tuple[Path, ...]:
    """Write proposal, investigators, tables and description beside the objects; their paths.

    Parameters
    ----------
    description : str
        Of `cicadas.cicadas`.
    day : date
        That stands in the proposal's name.
    """
    name, dated = about.nickname or "results", day.isoformat()
    proposal = _proposal(files, about, methods)
    people = tuple(_investigators(about))
    columns = ("first_name", "last_name", "person_orcid", "organization_name", "email")
    text = folder / f"{name}_description.md"
    write_text(text, description)
    tables = {
        "Dataset": (_dataset(about, description),),
        "Investigator": people,
        "Related_Work": tuple(_related(about, methods)),
        "Subject": tuple(_subjects(files, about.nickname)),
        "Procedure": tuple(_procedures(files)),
        "Radiology": tuple(_radiology(files)),
        "File": (_file(each, about) for each in files),
    }
    return (
        write_separated(folder / f"{name}_proposal_summary_{dated}.tsv", tuple(proposal), (proposal,)),
        write_separated(
            folder / f"{name}_investigators_{dated}.tsv",
            columns,
            ({key: row[key] for key in columns} for row in people),
        ),
        text,
        *(write_separated(folder / "metadata" / f"{node}.tsv", NODES[node], rows) for node, rows in tables.items()),
    )


def _proposal(files: tuple[Submitted, ...], about: About, methods: Methods) -> dict[str, object]:
    contacts = {each.role: each for each in about.contacts}
    points = {
        f"{role.capitalize()} POC {what}": getattr(contacts[role], what) if role in contacts else ""
        for role in CONTACTS
        for what in ("name", "email")
    }
    authors = (f"{each.last_name}, {each.first_name} {each.orcid}".strip(" ,") for each in about.authors)
    kinds = {each.modality for each in files}
    derived = {"SEG": "Segmentation", "SR": "Quantitative Feature"}
    return {
        "Proposal type": "Analysis Results Proposal",
        **points,
        "Title": about.title,
        "Nickname": about.nickname,
        "Authors": "; ".join(authors),
        "Abstract": about.abstract,
        "TCIA collection(s) analyzed": about.source.collection,
        "Types of derived data": ", ".join(derived.get(kind, "Other") for kind in sorted(kinds)),
        "File formats": ", ".join(f"DICOM {kind}" for kind in sorted(kinds)),
        "Records of the images analyzed": "Yes: every object refers to its source instances",
        "Disk space": f"{sum(each.bytes for each in files)} bytes in {len(files)} files",
        "Number of subjects": len({each.patient_id for each in files}),
        **{column: about.answers.get(name, "") for name, column in QUESTIONS.items()},
        "Software": methods.platform,
    }


def _dataset(about: About, description: str) -> dict[str, object]:
    return {
        "dataset_id": about.nickname,
        "dataset_long_name": about.title,
        "dataset_short_name": about.nickname,
        "dataset_description": description,
        "dataset_abstract": about.abstract,
        "adult_or_childhood_study": about.answers.get("adult_or_childhood", ""),
        "acknowledgements": about.answers.get("acknowledgements", ""),
    }


def _investigators(about: About) -> Iterator[dict[str, object]]:
    for number, each in enumerate(about.authors, start=1):
        yield {
            "investigator_id": number,
            "dataset.dataset_id": about.nickname,
            "first_name": each.first_name,
            "last_name": each.last_name,
            "person_orcid": each.orcid,
            "email": each.email,
            "organization_name": each.organization,
        }


def _related(about: About, methods: Methods) -> Iterator[dict[str, object]]:
    """The collection that the results derive from, and the papers of the models, in DataCite's words."""
    works = [(about.source.doi, "IsDerivedFrom", "Dataset", about.source.collection)]
    works += [(doi_of(text), "References", "JournalArticle", text) for text in methods.citations]
    for number, (doi, relation, kind, title) in enumerate((each for each in works if each[0]), start=1):
        yield {
            "related_work_id": number,
            "dataset.dataset_id": about.nickname,
            "DOI": doi,
            "relationship_type": relation,
            "publication_type": kind,
            "title": title,
        }


def _subjects(files: tuple[Submitted, ...], dataset: str) -> Iterator[dict[str, object]]:
    for each in {each.patient_id: each for each in files}.values():
        sex = _SEX.get(each.patient_sex, "")
        yield {"subject_id": each.patient_id, "dataset.dataset_id": dataset, "sex_at_birth": sex}


def _procedures(files: tuple[Submitted, ...]) -> Iterator[dict[str, object]]:
    for each in {(each.study_instance_uid, each.modality): each for each in files}.values():
        yield {
            "procedure_id": _procedure_id(each),
            "subject.subject_id": each.patient_id,
            "procedure_date": each.study_date,
            "image_modality": each.modality,
        }


def _procedure_id(each: Submitted) -> str:
    """Key of the one row that stands for a study's objects of a modality."""
    return f"{each.study_instance_uid}_{each.modality}"


def _radiology(files: tuple[Submitted, ...]) -> Iterator[dict[str, object]]:
    for each in {each.series_instance_uid: each for each in files}.values():
        yield {
            "Radiology_id": each.series_instance_uid,
            "Modality": each.modality,
            "BodyPartExamined": each.body_part,
            "StudyDesc": each.study_description,
            "SeriesDescription": each.series_description,
            "Manufacturer": each.manufacturer,
            "ManufacturerModelName": each.model_name,
            "SoftwareVersions": each.software_versions,
        }


def _file(each: Submitted, about: About) -> dict[str, object]:
    return {
        "data_has_been_de-identified": "Yes" if each.deidentified else "No",
        "subject.subject_id": each.patient_id,
        "dataset.dataset_id": about.nickname,
        "procedure.procedure_id": _procedure_id(each),
        "file_name": each.path,
        "file_type": "DICOM",
        "file_description": each.series_description,
        "file_size": each.bytes,
        "md5sum": each.md5,
        "license": about.licence,
        "radiology.radiology_id": each.series_instance_uid,
    }
