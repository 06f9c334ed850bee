"""Patient and study of the source, copied unchanged into what is made from it."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword

logger = logging.getLogger(__name__)

REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
"""Type 2 attributes of the Patient and General Study modules: empty where the source has none."""
PATIENT_AND_STUDY = (
    # Patient (PS3.3 C.7.1.1)
    "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence", "GroupOfPatientsIdentificationSequence", "ReferencedPatientSequence",
    "PatientBirthTime", "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar", "QualityControlSubject", "OtherPatientNames", "OtherPatientIDsSequence",
    "EthnicGroupCodeSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "StrainDescription", "StrainNomenclature",
    "StrainStockSequence", "StrainAdditionalInformation", "StrainCodeSequence", "GeneticModificationsSequence",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "PatientComments",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    # General Study (C.7.2.1)
    "StudyInstanceUID", "IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence", "StudyDescription",
    "ProcedureCodeSequence", "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence", "RequestingService",
    "RequestingServiceCodeSequence", "ReferencedStudySequence", "ReasonForPerformedProcedureCodeSequence",
    # Patient Study (C.7.2.2)
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize",
    "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension",
    "PatientWeight", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory",
    "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence", "PatientState",
    # Clinical Trial Study (C.7.2.3)
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "ClinicalTrialTimePointTypeCodeSequence",
    "IssuerOfClinicalTrialTimePointID", "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
    # SOP Common (C.12.1): what dates and text of the above mean
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "LongitudinalTemporalInformationModified",
)  # fmt: skip
GENERAL_SERIES = ("BodyPartExamined",)
"""C.7.3.1, which an SR has not: only if the source says so."""
SHORT_STRING = 16
"""Longest SH (PS3.5 table 6.2-1), in characters."""
CLINICAL_TRIAL_SUBJECT = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID", "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
)  # fmt: skip
"""C.7.1.3, an optional module: copied where its first two attributes, Type 1, have values."""
DATES_OF_CONTENT = (
    ("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)  # fmt: skip
NO_DATE = "19000101"
"""Content Date, Type 1, of what is made from a source without any date."""
MIDNIGHT = "000000"
DATE = re.compile(r"(?:1[89]|2\d)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
TIME = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?:\.\d{1,6})?")


def copy_patient_and_study(header: Dataset, into: Dataset) -> None:
    """Copy Patient, Study and Clinical Trial modules, text and dates unchanged even where their VR forbids them.

    An archive files an object by these values, so a wrong birth date stays wrong. Only what
    cannot be read at all (a weight of ``70kg``) is left out, or empty where it is Type 2. Study ID,
    by which nothing is filed, is cut to its 16 characters. Private attributes are not copied.
    """
    with config.disable_value_validation():
        for keyword in REQUIRED:
            into.add(_element(header, keyword) or DataElement(_tag(keyword), dictionary_VR(_tag(keyword)), None))
        if len(study_id := text(into, "StudyID")) > SHORT_STRING:
            into.StudyID = study_id[:SHORT_STRING].rstrip()
        _copy(header, into, PATIENT_AND_STUDY)
        if all(text(header, keyword) for keyword in CLINICAL_TRIAL_SUBJECT[:2]):
            _copy(header, into, CLINICAL_TRIAL_SUBJECT)


def copy_series(header: Dataset, into: Dataset) -> None:
    """Copy what the General Series module of an image takes from its source."""
    with config.disable_value_validation():
        _copy(header, into, GENERAL_SERIES)


def content_date_time(header: Dataset) -> tuple[str, str]:
    """Content Date and Time for what is made from this source: its own, since the same work gives the same object."""
    for date_keyword, time_keyword in DATES_OF_CONTENT:
        date, time = text(header, date_keyword), text(header, time_keyword)
        if DATE.fullmatch(date):
            return date, time if TIME.fullmatch(time) else MIDNIGHT
    return NO_DATE, MIDNIGHT


def text(header: Dataset, keyword: str) -> str:
    """Value of an attribute as text; empty where it is absent, empty or not to be read."""
    element = _element(header, keyword)
    return "" if element is None or element.is_empty else str(element.value).strip()


def integer(header: Dataset, keyword: str) -> int | None:
    """Value of an attribute as a whole number; None where it is absent or not a number."""
    value = text(header, keyword)
    return int(value) if re.fullmatch(r"[+-]?\d+", value) else None


def _copy(header: Dataset, into: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        element = _element(header, keyword)
        if element is not None:
            into.add(element)


def _element(header: Dataset, keyword: str) -> DataElement | None:
    """A copy of the element, or None where it is absent or cannot be read."""
    tag = _tag(keyword)
    if tag not in header:
        return None
    try:
        with config.disable_value_validation():
            element = copy.deepcopy(header[tag])
            if element.VR in ("DS", "IS") and not element.is_empty:
                for value in element.value if element.VM > 1 else [element.value]:
                    float(value)
            return element
    except (ValueError, TypeError, OverflowError, NotImplementedError) as exc:
        uid = header.get("SOPInstanceUID", "unknown instance")
        logger.warning("%s: %s left out, it cannot be read (%s)", uid, keyword, type(exc).__name__)
        return None


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
