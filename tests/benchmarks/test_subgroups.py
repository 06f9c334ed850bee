"""Subgroups are read from headers, and nothing is dropped."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from pydicom import Dataset
from voxfleet.benchmarks.bootstrap import Bootstrap
from voxfleet.benchmarks.score import Case, Score
from voxfleet.benchmarks.subgroups import SeriesAttributes, attributes_of, summarise_subgroups


def header(**values: object) -> Dataset:
    """A header of these attributes."""
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def test_attributes_are_those_of_the_header():
    """Spelling of the manufacturer aside, values are as written."""
    found = attributes_of(header(Manufacturer="Siemens ", SliceThickness="2.5", PatientSex="F", PatientAge="061Y"))
    assert found == SeriesAttributes("SIEMENS", 2.5, "F", 61.0)
    assert attributes_of(header(Manufacturer="", SliceThickness=None, PatientSex="")) == SeriesAttributes()


@pytest.mark.parametrize(
    ("values", "years"),
    [
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "026W"}, 182 / 365.25),
        ({"PatientBirthDate": "19800615", "StudyDate": "20200615"}, 40.0),
        ({"PatientBirthDate": "20200615", "StudyDate": "19800615"}, None),
        ({"PatientBirthDate": "19801", "StudyDate": "20200615"}, None),
        ({"StudyDate": "20200615"}, None),
    ],
)
def test_age(values, years):
    """Age is the attribute's, else from the dates; what is no date gives none."""
    dataset = Dataset()
    for name, value in values.items():
        with pytest.warns() if value == "19801" else nullcontext():
            setattr(dataset, name, value)
    expected = years if years is None else pytest.approx(years, abs=0.01)
    assert attributes_of(dataset).age_years == expected


def test_groups():
    """Every attribute splits all series; limits belong to the lower group of thickness and the upper group of age."""
    attributes = {
        "1": SeriesAttributes("GE", 1.0, "F", 17.9),
        "2": SeriesAttributes("GE", 2.5, "M", 18.0),
        "3": SeriesAttributes("SIEMENS", 5.0, "M", 80.0),
        "4": SeriesAttributes("SIEMENS", 7.0, None, 59.9),
    }
    scores = [Score(Case(f"P{uid}", uid, "A"), "liver", "dice", 0.5, "1") for uid in "12345"]
    found = summarise_subgroups(scores, attributes, Bootstrap(replicates=20))
    groups: dict[str, list[tuple[str, int]]] = {}
    for each in found:
        groups.setdefault(each.attribute, []).append((each.group, each.summary.series))
    assert groups == {
        "manufacturer": [("GE", 2), ("SIEMENS", 2), ("unknown", 1)],
        "slice thickness": [
            ("up to 1 mm", 1),
            ("over 1 to 2.5 mm", 1),
            ("over 2.5 to 5 mm", 1),
            ("over 5 mm", 1),
            ("unknown", 1),
        ],
        "sex": [("F", 1), ("M", 2), ("unknown", 2)],
        "age group": [
            ("<18 years", 1),
            ("18-39 years", 1),
            ("40-59 years", 1),
            ("80 years and over", 1),
            ("unknown", 1),
        ],
    }
