"""Patient and study carried over."""

from __future__ import annotations

import logging

import pytest
from pydicom import Dataset, config
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from voxfleet.enrich.encoding.patient_study import REQUIRED, content_date_time, copy_patient_and_study, integer


def copied(header: Dataset) -> Dataset:
    """What an object made from `header` says of patient and study."""
    into = Dataset()
    copy_patient_and_study(header, into)
    return into


def test_absent_type_2_is_empty() -> None:
    """What the source lacks of Type 2 stands in the object without a value (PS3.5 7.4.3)."""
    result = copied(Dataset())
    assert sorted(REQUIRED) == sorted(element.keyword for element in result)
    assert all(element.is_empty for element in result)


def test_values_are_unchanged_even_if_invalid() -> None:
    """A wrong date, sex or too long ID is the source's, and an archive files the object by it."""
    header = Dataset()
    with config.disable_value_validation():
        header.PatientID = "x" * 80
        header.PatientBirthDate = "1970.02.30"
        header.PatientSex = "UNKNOWN SEX OF PATIENT"
        header.StudyDate = "yesterday"
        header.PatientName = "Yamada^Tarou=山田^太郎"
    header.SpecificCharacterSet = "ISO_IR 192"
    result = copied(header)
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "PatientName", "SpecificCharacterSet"):
        assert str(header[keyword].value) == str(result[keyword].value)


@pytest.mark.parametrize("study_id", ["0123456789abcdef", "0123456789abcde  too long", "12", ""])
def test_study_id_fits_its_value_representation(study_id: str) -> None:
    """A Study ID over 16 characters is cut (nothing is filed by it); any other is the source's."""
    header = Dataset()
    with config.disable_value_validation():
        header.StudyID = study_id
    assert copied(header).StudyID == (study_id if len(study_id) <= 16 else "0123456789abcde")


def test_unreadable_optional_value_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A weight that is no number is left out, the log names attribute and instance, not the value."""
    header = Dataset()
    header.SOPInstanceUID = "1.2.3"
    header[0x00101030] = RawDataElement(Tag(0x00101030), "DS", 6, b"seven ", 0, False, True)
    with caplog.at_level(logging.WARNING):
        result = copied(header)
    assert "PatientWeight" not in result
    assert "1.2.3: PatientWeight left out" in caplog.text
    assert "seven" not in caplog.text


def test_private_and_image_attributes_are_not_copied() -> None:
    """Nothing but the modules of patient, study and trial comes over."""
    header = Dataset()
    header.private_block(0x0011, "ACME", create=True).add_new(0x01, "LO", "Jane's secret")
    header.InstitutionName = "Hospital"
    header.KVP = "120"
    assert {e.keyword for e in copied(header)} == set(REQUIRED)


def test_incomplete_trial_module_is_left_out() -> None:
    """Clinical Trial Subject, optional as a whole, is not copied where its Type 1 attributes are empty (C.7.1.3)."""
    header = Dataset()
    header.ClinicalTrialSponsorName = ""
    header.ClinicalTrialProtocolID = "6668"
    header.ClinicalTrialTimePointID = "15"
    result = copied(header)
    assert "ClinicalTrialProtocolID" not in result
    assert result.ClinicalTrialTimePointID == "15"
    header.ClinicalTrialSponsorName = "ACRIN"
    assert copied(header).ClinicalTrialProtocolID == "6668"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "101112.5"}, ("20200102", "101112.5")),
        ({"AcquisitionDate": "2020.01.02", "StudyDate": "20200101", "StudyTime": "0900"}, ("20200101", "000000")),
        ({"StudyDate": "20201301"}, ("19000101", "000000")),
        ({}, ("19000101", "000000")),
    ],
)
def test_content_date_is_the_source_s(attributes: dict[str, str], expected: tuple[str, str]) -> None:
    """Content Date and Time are the first valid ones of the source, never those of the run."""
    header = Dataset()
    with config.disable_value_validation():
        header.update(attributes)
    assert content_date_time(header) == expected


@pytest.mark.parametrize(("value", "expected"), [("7", 7), ("", None), ("3.5", None), ("a", None)])
def test_integer_of_an_is(value: str, expected: int | None) -> None:
    """A Series Number that is no whole number counts as absent."""
    header = Dataset()
    raw = value.encode()
    header[0x00200011] = RawDataElement(Tag(0x00200011), "IS", len(raw), raw, 0, False, True)
    assert integer(header, "SeriesNumber") == expected
