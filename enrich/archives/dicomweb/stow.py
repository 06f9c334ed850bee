"""STOW-RS (PS3.18 10.5): one object sent, and what the archive says about it."""

from __future__ import annotations

from io import BytesIO
from typing import Final
from xml.etree import ElementTree as ET

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset

from ..archive import NoSpace, StoreRefused
from ..header import DAMAGE
from ..uids import ObjectUids

_FAILED_SOP_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_OUT_OF_RESOURCES: Final = range(0xA700, 0xA800)
"""PS3.4 B.2.3 and PS3.18 table I.2-2."""
_MEANINGS: Final = {
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0117: "invalid SOP Instance UID",
    0x0118: "no such SOP class",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xC122: "transfer syntax not supported",
}


def encode(dataset: Dataset, uri: str, uids: ObjectUids) -> BytesIO:
    """Encode the object as a DICOM file (PS3.10).

    Raises
    ------
    StoreRefused
        If it cannot be encoded.
    """
    encoded = BytesIO()
    try:
        pydicom.dcmwrite(encoded, dataset, enforce_file_format=True)
    except DAMAGE as exc:
        reason = f"cannot be encoded: {' '.join(str(exc).split())[:200]}"
        raise StoreRefused(uri, uids.sop_instance_uid, reason) from exc
    encoded.seek(0)
    return encoded


def send(client: DICOMwebClient, encoded: BytesIO, uri: str, uids: ObjectUids) -> None:
    """Send one encoded object, and raise if the archive says that it failed.

    What the archive says is not believed further than that: the caller reads the object back.

    Raises
    ------
    StoreRefused, NoSpace
        If the archive names the object in its Failed SOP Sequence (0008,1198).
    requests.RequestException
        If it does not answer, or with an HTTP error.
    """
    dataset = pydicom.dcmread(encoded)
    try:
        answer = client.store_instances([dataset])
    except DAMAGE:
        return  # Stored or not, the answer cannot be read; the read-back tells.
    reasons = [int(item.get("FailureReason") or 0) for item in answer.get("FailedSOPSequence") or ()]
    if not reasons:
        return
    error = NoSpace if reasons[0] in _OUT_OF_RESOURCES else StoreRefused
    raise error(uri, uids.sop_instance_uid, f"not stored: the archive says {_meaning(reasons[0])}")


def failure_in(response: requests.Response | None) -> str:
    """First Failure Reason (0008,1197) in an answer, in words; empty if there is none."""
    reason = _reason(response)
    return "" if reason is None else _meaning(reason)


def is_out_of_resources(response: requests.Response | None) -> bool:
    """Whether an answer says that the archive has no room."""
    reason = _reason(response)
    return reason is not None and reason in _OUT_OF_RESOURCES


def _meaning(reason: int) -> str:
    known = "out of resources" if reason in _OUT_OF_RESOURCES else _MEANINGS.get(reason, "failure")
    return f"{known} ({reason:04X}H)"


def _reason(response: requests.Response | None) -> int | None:
    """Failure Reason in a response of DICOM JSON or DICOM XML; None for any other body."""
    if response is None or not response.content:
        return None
    try:
        if "json" in response.headers.get("Content-Type", ""):
            return int(response.json()[_FAILED_SOP_SEQUENCE]["Value"][0][_FAILURE_REASON]["Value"][0])
        for element in ET.fromstring(response.content).iter():  # noqa: S314 - expat expands no entity bombs
            if element.get("tag") == _FAILURE_REASON:
                return int("".join(element.itertext()))
    except (ValueError, LookupError, TypeError, ET.ParseError):
        return None
    return None
