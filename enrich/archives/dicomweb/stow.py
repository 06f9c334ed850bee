"""STOW-RS (PS3.18 10.5): one object sent from its file, and what the archive says about it."""

from __future__ import annotations

from typing import Any, Final
from xml.etree import ElementTree as ET

import requests

from ..archive import NoSpace, StoreRefused
from ..http_session import Patience
from ..storing import Outgoing
from .multipart import StowBody

_FAILED_SOP_SEQUENCE, _FAILURE_REASON = "00081198", "00081197"
_NO_REASON: Final[dict[str, Any]] = {"Value": [0]}
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


def send(session: requests.Session, url: str, outgoing: Outgoing, uri: str, patience: Patience) -> None:
    """Send one object to the studies at `url`, and raise if the archive says that it failed.

    What the archive says is not believed further than that: the caller reads the object back.

    Raises
    ------
    StoreRefused, NoSpace
        If the archive names the object in its Failed SOP Sequence (0008,1198), whatever the status code.
    requests.RequestException
        If it does not answer, or with an HTTP error.
    """
    with outgoing.path.open("rb") as file:
        body = StowBody(file)
        response = session.post(
            url,
            data=body,
            headers={"Content-Type": body.content_type},
            timeout=(patience.connect_s, patience.read_s),
        )
    response.raise_for_status()
    reason = _reason(response)
    if reason is None:
        return  # Stored, or an answer that cannot be read: the read-back tells.
    error = NoSpace if reason in _OUT_OF_RESOURCES else StoreRefused
    raise error(uri, outgoing.uids.sop_instance_uid, f"not stored: the archive says {_meaning(reason)}")


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
            failed = response.json()[_FAILED_SOP_SEQUENCE]["Value"]
            return int(failed[0].get(_FAILURE_REASON, _NO_REASON)["Value"][0])
        tree = ET.fromstring(response.content)  # noqa: S314 - expat expands no entity bombs
        for item in tree.iterfind(f"{{*}}DicomAttribute[@tag='{_FAILED_SOP_SEQUENCE}']/{{*}}Item"):
            return int(item.findtext(f"{{*}}DicomAttribute[@tag='{_FAILURE_REASON}']/{{*}}Value", "0"))
    except (AttributeError, ValueError, LookupError, TypeError, ET.ParseError):
        return None
    return None
