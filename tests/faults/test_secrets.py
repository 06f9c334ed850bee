"""Secrets of archives: from wherever they come, no command writes or says them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from pyarrow import parquet
from pydicom import Dataset
from voxfleet.enrich.archives.credentials import BadCredentials, password_for
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

pytestmark = pytest.mark.slow
MakeSlices = Callable[..., list[Dataset]]
USER, MARK = "curator", "M4rk-of-a/s3cret"
KEYRING = """
import json, os
from keyring.backend import KeyringBackend
class FileKeyring(KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        return json.load(open(os.environ["TEST_KEYRING"])).get(f"{username}@{service}")
    def set_password(self, service, username, password):
        raise NotImplementedError
"""
"""A keyring in a file, as a backend of the real library."""
WAYS = [
    *[("dicomweb", way) for way in ("environment", "token", "token file", "netrc", "keyring")],
    *[("s3", way) for way in ("keys", "profile")],
    ("gs", "account"),
    *[("xnat", way) for way in ("environment", "netrc", "keyring")],
    *[("nbia", way) for way in ("environment", "token", "keyring")],
]
"""Kind of archive, and whence its secret comes."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home with a keyring, for the secrets; commands are run beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file_keyring.py").write_text(KEYRING)
    (tmp_path / "home" / "keyring.json").write_text(json.dumps({f"{USER}@127.0.0.1": MARK}))
    (tmp_path / "work").mkdir()
    return tmp_path


def secret(kind: str, way: str, home: Path) -> dict[str, str]:
    """Variables that give the secret in that way, and the files behind them."""
    prefix = f"VOXFLEET_{kind.upper()}_"
    given: dict[str, dict[str, str]] = {
        "environment": {f"{prefix}USER": USER, f"{prefix}PASSWORD": MARK},
        "token": {f"{prefix}TOKEN": MARK},
        "token file": {f"{prefix}TOKEN_FILE": str(home / "token")},
        "keyring": {f"{prefix}USER": USER},
        "netrc": {},
        "keys": {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": MARK},
        "profile": {"AWS_PROFILE": "x", "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials")},
        "account": {"GOOGLE_APPLICATION_CREDENTIALS": str(home / "account.json")},
    }
    if way == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {MARK}\n")
        (home / ".netrc").chmod(0o600)
    (home / "token").write_text(MARK)
    (home / "credentials").write_text(f"[x]\naws_access_key_id={USER}\naws_secret_access_key={MARK}\n")
    (home / "account.json").write_text(json.dumps({"type": "service_account", "private_key": MARK}))
    return given[way]


def voxfleet(place: Path, environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own, with -v, in a home that holds the secrets."""
    home = place / "home"
    own = {
        "HOME": str(home),
        "VOXFLEET_CACHE": str(place / "work" / "cache"),
        "PYTHONPATH": str(home),
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "TEST_KEYRING": str(home / "keyring.json"),
    }
    command = [sys.executable, "-m", "voxfleet", "-v", *map(str, words)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=place / "work",
        env={**os.environ, **own, **environment},
    )


def betrayed(text: str, user: str = USER, mark: str = MARK) -> bool:
    """Whether a text holds the secret, as it is, in a URL, or as HTTP Basic encodes it."""
    coded = base64.b64encode(f"{user}:{mark}".encode()).decode()
    return any(each in text for each in (mark, quote(mark, safe=""), coded, json.dumps(mark)[1:-1]))


def betrayals(place: Path, *said: subprocess.CompletedProcess[str], user: str = USER, mark: str = MARK) -> list[str]:
    """Files that commands wrote, and commands, that hold the secret."""
    found = [each.args[3] for each in said if betrayed(each.stdout + each.stderr, user, mark)]
    for path in sorted(each for each in (place / "work").rglob("*") if each.is_file()):
        text = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            text = str(parquet.read_table(path).to_pylist())
        found += [str(path)] if betrayed(text, user, mark) else []
    return found


@pytest.fixture
def refusing(faulty_proxy: ModuleType) -> Iterator[Any]:
    """A server that lets nobody in."""
    with faulty_proxy.spoiling("http://127.0.0.1:1") as proxy:
        proxy.fault = lambda _method, _path: 401
        yield proxy


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_a_refused_secret_is_told_by_nobody(
    kind: str, way: str, place: Path, refusing: Any, ct_slices: MakeSlices
) -> None:
    """Whatever lets us not in, and however we got the secret: logs, records and messages have none of it."""
    (dataset,) = ct_slices(1)
    (place / "work" / "ct").mkdir()
    dataset.save_as(place / "work" / "ct" / "1.dcm")
    uri = {
        "dicomweb": f"dicomweb+{refusing.url}/dicom-web",
        "s3": "s3://a-bucket/prefix",
        "gs": "gs://a-bucket/prefix",
        "xnat": f"xnat+{refusing.url}/PROJECT",
        "nbia": f"nbia+{refusing.url}/COLLECTION",
    }[kind]
    environment = {"AWS_ENDPOINT_URL": refusing.url, **secret(kind, way, place / "home")}
    checked = voxfleet(place, environment, "archive", "check", uri, "--write", "--json")
    copied = voxfleet(place, environment, "archive", "copy", "ct", uri, "--record", "record.jsonl")
    done = [checked, copied]
    if way == "environment":
        done.append(voxfleet(place, environment, "enrich", "ct", "-m", "ct-threshold", "--to", uri, "--run", "run"))
    assert "ACCESS_DENIED" in checked.stdout or "BAD_CREDENTIALS" in checked.stderr
    assert {each.returncode for each in done} == {1}
    assert betrayals(place, *done) == []
    assert bool(refusing.seen) == (kind != "gs")


def _collection(place: Path) -> None:
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    write_ct_series(phantom.volume, place / "work" / "ct", identity=CtIdentity.named("secrets"))


def _dumped(url: str) -> str:
    """Every row of every table of a database, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        rows = [
            connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(*table))).fetchall()
            for table in tables
        ]
    assert sum(map(len, rows)) > 0
    return str(rows)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ledger", ["sqlite", "postgres"])
def test_a_run_holds_no_secret(
    ledger: str, place: Path, xnat: Any, xnat_double: ModuleType, request: pytest.FixtureRequest
) -> None:
    """Out of an XNAT and into it, by way of a folder too, and with a wrong password at the end: it stands nowhere."""
    _collection(place)
    environment = {"VOXFLEET_XNAT_USER": xnat_double.USER, "VOXFLEET_XNAT_PASSWORD": xnat_double.PASSWORD}
    url = request.getfixturevalue("postgres").url if ledger == "postgres" else ""
    target = "dir:staging" if url else xnat.uri
    words = ["-m", "ct-threshold", "--run", "run", "--to", target, *(["--ledger", url] if url else ["--nifti"])]
    done = [voxfleet(place, environment, "archive", "copy", "ct", xnat.uri)]
    done.append(voxfleet(place, environment, "enrich", xnat.uri, *words))
    done.append(
        voxfleet(place, environment, *(["publish", "run", "--to", xnat.uri] if url else ["ledger", "verify", "run"]))
    )
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr[-600:] for each in done]
    done.append(voxfleet(place, {**environment, "VOXFLEET_XNAT_PASSWORD": MARK}, "archive", "ls", xnat.uri))
    assert "ACCESS_DENIED" in done[-1].stderr
    for mark in (xnat_double.PASSWORD, MARK):
        assert betrayals(place, *done, user=xnat_double.USER, mark=mark) == []
        assert not url or not betrayed(_dumped(url), xnat_double.USER, mark)
    assert [each for each in (place / "work").rglob("*") if "prov" in each.name]


@pytest.mark.parametrize(
    "uri",
    [
        f"dicomweb+https://{USER}:{quote(MARK, safe='')}@host/dicom-web",
        f"dimse://NODE:{quote(MARK, safe='')}@host:104",
        f"s3://{USER}:{quote(MARK, safe='')}@bucket/prefix",
        f"gs://{USER}:{quote(MARK, safe='')}@bucket/prefix",
        f"xnat+https://{USER}:{quote(MARK, safe='')}@host/PROJECT",
        f"nbia+https://{USER}:{quote(MARK, safe='')}@host/COLLECTION",
        f"https://host/dicom-web?token={quote(MARK, safe='')}",
    ],
)
def test_a_secret_on_the_command_line_is_refused(uri: str, place: Path) -> None:
    """A URI with a password is one line of error, which says where it belongs and does not repeat it."""
    done = voxfleet(place, {}, "archive", "check", uri)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error BAD_ARCHIVE_URI" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert betrayals(place, done) == []


def test_a_keyring_that_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without password anywhere is told both ways to give it; a locked keyring is told without its words."""
    keyring = pytest.importorskip("keyring")
    monkeypatch.setattr(keyring, "get_password", lambda _host, _user: None)
    with pytest.raises(BadCredentials, match="keyring set pacs ward7"):
        password_for("ward7", "", "pacs", "A and B")
    assert password_for("ward7", MARK, "pacs", "A and B") == MARK
    assert password_for("", "", "pacs", "A and B") == ""

    def locked(_host: str, _user: str) -> str:
        raise keyring.errors.KeyringLocked(MARK)

    monkeypatch.setattr(keyring, "get_password", locked)
    with pytest.raises(BadCredentials, match="KeyringLocked") as caught:
        password_for("ward7", "", "pacs", "A and B")
    assert MARK not in repr(caught.value)
