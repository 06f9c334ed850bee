"""A data set's description after CICADAS, TCIA's Cancer Imaging Checklist for Data Sharing.

What provenance and objects tell is filled in; what only people know stands as ``[To write: ...]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .about import About
from .methods import Methods, ModelUsed
from .submitted import Submitted


def cicadas(files: tuple[Submitted, ...], about: About, methods: Methods, repairs: int) -> str:
    """The description as Markdown, a heading for each item of the checklist.

    Parameters
    ----------
    repairs : int
        Series whose geometry was resampled before they were segmented.
    """
    parts = (
        ("#", about.title or _todo("a title of at most 110 characters"), ""),
        ("##", "Abstract", about.abstract or f"{_todo('at most 1,000 characters')} {_extent(files)}"),
        ("##", "Introduction", _todo("background, purpose, what is new")),
        ("##", "Methods", ""),
        ("###", "Subject Inclusion and Exclusion Criteria", _subjects(files, about)),
        ("###", "Data Acquisition", _acquisition(about)),
        ("###", "Data Analysis", ""),
        ("####", "File Format Conversions", "None: images were read as DICOM, results were written as DICOM."),
        ("####", "Image Preprocessing", _preprocessing(repairs)),
        ("####", "Annotation and Segmentation Protocols", "\n\n".join(map(_model, methods.models))),
        ("####", "Quality Control", _QUALITY),
        ("####", "Automated Analyses", _analyses(methods)),
        ("####", "Scripts, Code, and Software", _software(methods)),
        ("##", "Usage Notes", _usage(files)),
        ("##", "External Resources", _list(_resources(about, methods))),
    )
    return "\n\n".join(text for level, title, body in parts for text in (f"{level} {title}", body) if text) + "\n"


_QUALITY = (
    "Every object was stored, read back and compared by the SHA-256 of its data set; the number of objects is that of "
    "the run's ledger. [To write: who looked at the results, and at how many]"
)


def _extent(files: tuple[Submitted, ...]) -> str:
    kinds = Counter(each.modality for each in files)
    counted = " and ".join(f"{number} DICOM {kind} objects" for kind, number in sorted(kinds.items()))
    return f"{counted} of {_subjects_in(files)} subjects."


def _subjects(files: tuple[Submitted, ...], about: About) -> str:
    studies = len({each.study_instance_uid for each in files})
    of = f" of {about.source.collection}" if about.source.collection else ""
    return f"{_subjects_in(files)} subjects, {studies} studies{of}. " + _todo(
        "how series were chosen, which were refused and why, possible bias"
    )


def _subjects_in(files: tuple[Submitted, ...]) -> int:
    return len({each.patient_id for each in files})


def _acquisition(about: About) -> str:
    doi = f", https://doi.org/{about.source.doi}" if about.source.doi else ""
    return f"See the collection that was analysed: {about.source.collection or _todo('its name')}{doi}."


def _preprocessing(repairs: int) -> str:
    if not repairs:
        return "None: no image was resampled before it was given to a model by the platform."
    return f"{repairs} results are of series whose slices were resampled to a regular grid (gantry tilt, uneven gaps)."


def _model(model: ModelUsed) -> str:
    facts = [
        f"kind of algorithm: {model.family}; intended use: {model.intended_use}",
        f"licence of the code: {model.code_licence}; of the weights: {model.weights_licence}",
        *(f"weights: {each}" for each in model.weights),
        *(
            f"{name}: {' '.join(value.split())}"
            for name, value in sorted({**model.settings, **model.parameters}.items())
        ),
    ]
    return f"**{model.name} {model.version}**\n\n{_list(facts)}"


def _analyses(methods: Methods) -> str:
    radiomics = next((f"{name} {methods.packages[name]}" for name in methods.packages if "pyradiomics" in name), "")
    by = f" by {radiomics}" if radiomics else ""
    asked = any("features" in model.settings for model in methods.models)
    what = "The features that the parameter file above asks for" if asked else "Shape and first-order features"
    return f"{what}, of every segment{by}, as DICOM SR after TID 1500 with codes of IBSI and SNOMED CT."


def _software(methods: Methods) -> str:
    commit = f" (commit {methods.git_commit})" if methods.git_commit else ""
    return f"{methods.platform}{commit}, with:\n\n" + _list(
        f"{name} {version}" for name, version in sorted(methods.packages.items())
    )


def _usage(files: tuple[Submitted, ...]) -> str:
    return (
        f"{_extent(files)} One file an object, `<SeriesInstanceUID>/<SOPInstanceUID>.dcm`; each SEG and SR is in the "
        "study of the images that it was made from and refers to them. 3D Slicer, OHIF and highdicom read them. "
        + _todo("known sources of error")
    )


def _resources(about: About, methods: Methods) -> Iterator[str]:
    if about.source.doi:
        licence = f", licence {about.source.licence}" if about.source.licence else ""
        yield f"analysed collection: {about.source.collection} https://doi.org/{about.source.doi}{licence}"
    if about.doi:
        yield f"these results: https://doi.org/{about.doi}"
    yield from methods.citations


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _todo(what: str) -> str:
    return f"[To write: {what}]"
