"""Every kind of archive under every fault: one suite, against real servers; `enrich/ARCHIVES.md` has its table."""

from __future__ import annotations

import pickle
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pydicom
import pytest
from pydicom import Dataset
from voxfleet import Error
from voxfleet.enrich.archives.archive import Archive, RefusedObject, SeriesEntry
from voxfleet.enrich.digest import dataset_digest

MakeSlices = Callable[..., list[Dataset]]
Verbs = dict[str, str]
"""Verb -> code of the error or refusal; empty where the verb succeeds all the same."""
FAULTS: Final = {
    "credentials": "wrong credentials",
    "expired": "expired token",
    "certificate": "certificate not trusted",
    "429": "429 once",
    "500": "500, then success",
    "cut": "cut in the middle of an object",
    "truncated": "half a body with status 200",
    "changed": "changed after it was listed",
    "no space": "no space",
    "read-only": "read-only",
    "clock skew": "clock skew",
    "path traversal": "path in a UID or name",
    "zip bomb": "zip bomb",
    "entity bomb": "XML entity bomb",
}
NO_SERVER: Final = "there is no server"
NO_TOKENS: Final = "there are no tokens"
UNSIGNED: Final = "public buckets are read unsigned"
NO_XML: Final = "no XML is read"
UNPACKED: Final = "no zip comes, and an object in Deflated is inflated whatever its size"


def _all(search: str, retrieve: str, store: str) -> Verbs:
    return {"search": search, "retrieve": retrieve, "store": store}


def _read(search: str, retrieve: str) -> Verbs:
    return {"search": search, "retrieve": retrieve}


DENIED: Final = _all("ACCESS_DENIED", "ACCESS_DENIED", "ACCESS_DENIED")
MISTRUSTED: Final = _all("SEARCH_FAILED", "RETRIEVE_FAILED", "STORE_REFUSED")
WAITED_OUT: Final = _all("", "", "")
BROKEN: Final = _all("ARCHIVE_UNAVAILABLE", "RETRIEVE_FAILED", "STORE_FAILED")
CHANGED: Final = {"retrieve": "RETRIEVE_FAILED"}
FULL: Final = {"retrieve": "RETRIEVE_FAILED", "store": "NO_SPACE"}
NEVER_WRITTEN: Final = {"store": "READ_ONLY"}
LED_OUT: Final = {"retrieve": "RETRIEVE_FAILED", "store": "STORE_REFUSED"}
BUCKET: Final[dict[str, Verbs | str]] = {
    "credentials": DENIED,
    "expired": DENIED,
    "certificate": MISTRUSTED,
    "429": WAITED_OUT,
    "500": WAITED_OUT,
    "cut": _all("ARCHIVE_UNAVAILABLE", "", ""),
    "truncated": BROKEN,
    "changed": CHANGED,
    "no space": FULL,
    "read-only": {"store": "ACCESS_DENIED"},
    "clock skew": DENIED,
    "path traversal": {"search": "INVALID_UID", **LED_OUT},
    "zip bomb": UNPACKED,
    "entity bomb": _read("ARCHIVE_UNAVAILABLE", "RETRIEVE_FAILED"),
}
PACKED: Final[dict[str, Verbs | str]] = {
    "credentials": _read("ACCESS_DENIED", "ACCESS_DENIED"),
    **dict.fromkeys(("expired", "certificate", "429", "500", "cut"), NO_SERVER),
    "truncated": _read("SEARCH_FAILED", "RETRIEVE_FAILED"),
    "changed": CHANGED,
    "no space": {"retrieve": "RETRIEVE_FAILED"},
    "read-only": NEVER_WRITTEN,
    "clock skew": _read("", ""),
    "path traversal": {"search": "UNSAFE_NAME"},
    "zip bomb": _read("SEARCH_FAILED", "RETRIEVE_FAILED"),
    "entity bomb": NO_XML,
}
CASES: Final[dict[str, dict[str, Verbs | str]]] = {
    "dicomweb": {
        "credentials": DENIED,
        "expired": DENIED,
        "certificate": MISTRUSTED,
        "429": WAITED_OUT,
        "500": BROKEN,
        "cut": _all("ARCHIVE_UNAVAILABLE", "RETRIEVE_FAILED", ""),
        "truncated": _all("SEARCH_FAILED", "RETRIEVE_FAILED", "STORE_FAILED"),
        "changed": CHANGED,
        "no space": FULL,
        "read-only": {"store": "ACCESS_DENIED"},
        "clock skew": MISTRUSTED,
        "path traversal": LED_OUT,
        "zip bomb": UNPACKED,
        "entity bomb": {"store": "STORE_REFUSED"},
    },
    "dimse": {
        "credentials": DENIED,
        "expired": NO_TOKENS,
        "certificate": "connections are not encrypted",
        "429": WAITED_OUT,
        "500": WAITED_OUT,
        "cut": BROKEN,
        "truncated": "each fragment tells its length (PS3.8 9.3.5): a cut object is a cut connection",
        "changed": CHANGED,
        "no space": FULL,
        "read-only": {"store": "STORE_REFUSED"},
        "clock skew": "no times are compared",
        "path traversal": LED_OUT,
        "zip bomb": UNPACKED,
        "entity bomb": NO_XML,
    },
    "s3": BUCKET,
    "gs": {**BUCKET, "clock skew": "requests are not signed with a time"},
    "idc": {
        **{fault: {"retrieve": verbs["retrieve"]} for fault, verbs in BUCKET.items() if "retrieve" in verbs},
        **dict.fromkeys(("credentials", "expired", "clock skew"), UNSIGNED),
        "read-only": NEVER_WRITTEN,
        "zip bomb": UNPACKED,
    },
    "xnat": {
        "credentials": DENIED,
        "expired": WAITED_OUT,
        "certificate": MISTRUSTED,
        "429": WAITED_OUT,
        "500": WAITED_OUT,
        "cut": BROKEN,
        "truncated": _all("SEARCH_FAILED", "RETRIEVE_FAILED", "STORE_FAILED"),
        "changed": CHANGED,
        "no space": FULL,
        "read-only": {"store": "ACCESS_DENIED"},
        "clock skew": MISTRUSTED,
        "path traversal": LED_OUT,
        "zip bomb": {"retrieve": "UNSAFE_ANSWER"},
        "entity bomb": _all("SEARCH_FAILED", "RETRIEVE_FAILED", "STORE_FAILED"),
    },
    "nbia": {
        "credentials": _read("ACCESS_DENIED", "ACCESS_DENIED"),
        "expired": _read("", ""),
        "certificate": _read("SEARCH_FAILED", "RETRIEVE_FAILED"),
        "429": _read("", ""),
        "500": _read("ARCHIVE_UNAVAILABLE", "RETRIEVE_FAILED"),
        "cut": _read("ARCHIVE_UNAVAILABLE", "RETRIEVE_FAILED"),
        "truncated": _read("SEARCH_FAILED", "RETRIEVE_FAILED"),
        "changed": CHANGED,
        "no space": {"retrieve": "RETRIEVE_FAILED"},
        "read-only": NEVER_WRITTEN,
        "clock skew": _read("SEARCH_FAILED", "RETRIEVE_FAILED"),
        "path traversal": {"retrieve": "RETRIEVE_FAILED"},
        "zip bomb": {"retrieve": "RETRIEVE_FAILED"},
        "entity bomb": {"search": "SEARCH_FAILED"},
    },
    "folder": {
        "credentials": DENIED,
        **dict.fromkeys(("expired", "certificate", "429", "500", "cut"), NO_SERVER),
        "truncated": {"search": "UNREADABLE"},
        "changed": CHANGED,
        "no space": {"store": "NO_SPACE"},
        "read-only": {"store": "ACCESS_DENIED"},
        "clock skew": WAITED_OUT,
        "path traversal": {"search": "INVALID_UID", "store": "STORE_REFUSED"},
        "zip bomb": {"search": ""},
        "entity bomb": NO_XML,
    },
    "zip": PACKED,
    "tar": PACKED,
}
"""What is tested, or in a few words why it cannot happen there."""
REAL_SERVERS: Final = ("dicomweb", "dimse")
"""Kinds whose servers listen everywhere, and so get a network of their own."""
LASTING: Final = ("READ_ONLY", "STORE_REFUSED")
"""Codes of what lies in the archive's nature or in the object."""
NEXT_STEP: Final = re.compile(
    r"; (try again|search again|check the address|make room there|leave the object out|name another|log in anew"
    r"|tell the node|set this machine's clock|ask its owner for access|credentials come from|take nothing"
    r"|REQUESTS_CA_BUNDLE names|SSL_CERT_FILE names)"
)
SEARCH_BYTES: Final = 32 << 20
"""More than a search takes in memory, whatever lies there."""


def _cases() -> Iterator[Any]:
    for kind, faults in CASES.items():
        marks = [pytest.mark.orthanc] if kind in REAL_SERVERS else []
        for fault, verbs in faults.items():
            if not isinstance(verbs, str):
                yield from (
                    pytest.param(kind, fault, verb, code, marks=marks, id=f"{kind}-{fault}-{verb}")
                    for verb, code in verbs.items()
                )


def _outcome(rig: Any, archive: Archive, verb: str, dataset: Dataset, into: Path) -> str | RefusedObject | Error:
    """What became of a verb: nothing special, something that was refused, or an error."""
    try:
        if verb == "search":
            found = list(archive.search())
            refused = [each for each in found if isinstance(each, RefusedObject)]
            held = [each.series_instance_uid for each in found if isinstance(each, SeriesEntry)]
            return refused[0] if refused else "" if rig.entry.series_instance_uid in held else "MISSED"
        if verb == "retrieve":
            got = archive.retrieve(rig.entry, into).instances
            back = {dataset_digest(pydicom.dcmread(each.path)) for each in got}
            return "" if back == {dataset_digest(each) for each in rig.slices} else "DIFFERENT"
        return "" if archive.store(dataset).sha256 == dataset_digest(dataset) else "DIFFERENT"
    except Error as exc:
        return exc


def _code(outcome: str | RefusedObject | Error) -> str:
    return outcome if isinstance(outcome, str) else outcome.code


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(("kind", "fault", "verb", "code"), list(_cases()))
def test_a_fault(  # noqa: PLR0917 - a case has four names
    kind: str,
    fault: str,
    verb: str,
    code: str,
    make_rig: Callable[[str], Any],
    ct_slices: MakeSlices,
    tmp_path: Path,
) -> None:
    """One line says what went wrong and what to do; nothing half is left; what may pass passes with the fault."""
    rig, (dataset,) = make_rig(kind), ct_slices(1)
    if fault == "path traversal" and verb == "store":
        dataset.SOPInstanceUID = "../../escape"
    into = rig.place / "far" / "below" / "into"
    archive = rig.open()
    if fault == "expired":
        list(archive.search())
    with rig.faults[fault](verb):
        archive = archive if fault == "expired" else rig.open()
        outcome = _outcome(rig, archive, verb, dataset, into)
    assert (_code(outcome), str(outcome)) == (code, str(outcome))
    if isinstance(outcome, Error):
        said = str(outcome)
        assert archive.uri in said
        assert NEXT_STEP.search(said), said
        assert "\n" not in said
        assert str(pickle.loads(pickle.dumps(outcome))) == said
        assert not into.exists() or list(into.iterdir()) == []
    elif isinstance(outcome, RefusedObject):
        assert outcome.identifier
        assert outcome.reason
    assert not [each for place in (tmp_path, rig.place) for each in place.rglob("*") if "escape" in each.name]
    if code not in LASTING:
        again = _outcome(rig, archive if fault == "expired" else rig.open(), verb, dataset, tmp_path / "again")
        assert (_code(again), str(again)) == ("", str(again))
    if verb == "store":
        held = [each for each in rig.clean().search() if isinstance(each, SeriesEntry)]
        assert {(each.series_instance_uid, each.instances) for each in held} >= {(rig.entry.series_instance_uid, 2)}
        assert len(held) <= 2
        assert {each.instances for each in held if each.series_instance_uid == str(dataset.SeriesInstanceUID)} <= {1}


def test_an_object_that_inflates(make_rig: Callable[[str], Any]) -> None:
    """A search of an object of 64 kB whose pixels inflate to 64 MiB takes no more memory than of any other."""
    rig = make_rig("folder")
    with rig.faults["zip bomb"]("search"):
        tracemalloc.start()
        found = [each for each in rig.open().search() if isinstance(each, SeriesEntry)]
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [each.instances for each in found] == [2]
    assert peak_bytes < SEARCH_BYTES


def test_every_cell_is_a_case_or_a_reason() -> None:
    """Each kind of archive has an entry for each fault, and each kind that can be opened has a row."""
    folder = Path(__file__).parents[2] / "enrich" / "archives"
    rooms = {each.parent.name for each in folder.glob("*/archive.py")}
    assert {"zip": "packed", "tar": "packed", "s3": "bucket", "gs": "bucket"}.keys() <= CASES.keys()
    assert rooms == {
        {"zip": "packed", "tar": "packed", "s3": "bucket", "gs": "bucket"}.get(kind, kind) for kind in CASES
    }
    assert {kind: set(faults) for kind, faults in CASES.items()} == {kind: set(FAULTS) for kind in CASES}


def table() -> str:
    """The table of `enrich/ARCHIVES.md`: verbs for what is tested, a number for why something cannot happen."""
    reasons: list[str] = []
    lines = [f"| | {' | '.join(CASES)} | told as |", "|---|" + "---|" * (len(CASES) + 1)]
    for fault, name in FAULTS.items():
        cells, codes = [], set[str]()
        for faults in CASES.values():
            verbs = faults[fault]
            if isinstance(verbs, str):
                if verbs not in reasons:
                    reasons.append(verbs)
                cells.append(f"({reasons.index(verbs) + 1})")
            else:
                cells.append(" ".join({"search": "s", "retrieve": "r", "store": "w"}[verb] for verb in verbs))
                codes |= {f"`{code}`" if code else "passes" for code in verbs.values()}
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(sorted(codes))} |")
    count = len(list(_cases()))
    numbered = "; ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
    said = f"{count} cases of archive, fault and verb (s search, r retrieve, w store). {numbered}."
    return "\n".join([*lines, "", said])


def test_the_table_is_in_the_documentation() -> None:
    """The table that people read is that of the cases above, to the letter."""
    text = (Path(__file__).parents[2] / "enrich" / "ARCHIVES.md").read_text(encoding="utf-8")
    assert table() in text, table()
