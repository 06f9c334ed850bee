"""Tokens for DICOMweb archives from OpenID Connect providers and from Google, against a server that gives them."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pydicom
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydicom import Dataset
from voxfleet.enrich.archives.address import MissingExtra
from voxfleet.enrich.archives.archive import AccessDenied, SearchUnanswered, SeriesEntry
from voxfleet.enrich.archives.credentials import BadCredentials
from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.digest import dataset_digest

PATIENCE = Patience(connect_s=20.0, read_s=60.0, retries=1, backoff_s=0.01)
PREFIX = "VOXFLEET_DICOMWEB_"
MakeSlices = Callable[..., list[Dataset]]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Its records look for it there.
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def doubles() -> ModuleType:
    """The module of the server that gives tokens."""
    return _module("token_double")


@pytest.fixture
def provider(doubles: ModuleType) -> Iterator[Any]:
    """A server that gives tokens."""
    with doubles.running_tokens() as server:
        yield server


@pytest.fixture
def service(provider: Any, tmp_path: Path) -> Iterator[Any]:
    """A DICOMweb service that lets in who has a token of the provider's."""
    folder = tmp_path / "service"
    folder.mkdir()
    with _module("dicomweb_double").running_dicomweb(folder) as server:
        server.lets_in = provider.lets_in
        yield server


@pytest.fixture
def as_client(provider: Any, doubles: ModuleType, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """We are a client that the provider knows."""
    for name, value in {
        "TOKEN_URL": provider.url,
        "CLIENT_ID": doubles.CLIENT,
        "CLIENT_SECRET": doubles.SECRET,
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    return monkeypatch


@pytest.mark.usefixtures("as_client")
def test_one_token_serves_many_requests(service: Any, provider: Any, ct_slices: MakeSlices, tmp_path: Path) -> None:
    """A store, a search and a retrieve of an archive that wants tokens go through with one token."""
    (dataset,) = ct_slices(1)
    archive = DicomwebArchive(service.url, PATIENCE)
    assert archive.store(dataset).sha256 == dataset_digest(dataset)
    (entry,) = archive.search()
    assert isinstance(entry, SeriesEntry)
    (instance,) = archive.retrieve(entry, tmp_path / "into").instances
    assert dataset_digest(pydicom.dcmread(instance.path)) == dataset_digest(dataset)
    assert {each for _, _, each in service.seen} == {"Bearer t0ken-0"}


@pytest.mark.usefixtures("as_client")
def test_tokens_that_expire_in_seconds(
    service: Any, provider: Any, doubles: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that are good for a second each: of the searches of two seconds none is refused, and three are fetched."""
    now = [0.0]  # of both sides: else a machine that stands still in the midst of a request decides
    monkeypatch.setattr(doubles, "time", SimpleNamespace(monotonic=lambda: now[0]))
    provider.life_s = 1.0
    archive = DicomwebArchive(service.url, PATIENCE)
    monkeypatch.setattr(archive._session.auth, "_clock", lambda: now[0])
    for number in range(17):
        now[0] = number / 8
        assert list(archive.search()) == []
    assert [each for _, _, each in service.seen] == [
        f"Bearer t0ken-{fetched}" for fetched, searches in enumerate((7, 7, 3)) for _ in range(searches)
    ]


@pytest.mark.usefixtures("as_client")
def test_a_token_that_is_revoked(service: Any, provider: Any, ct_slices: MakeSlices) -> None:
    """A token that the archive no longer takes is replaced once, and the same request sent again, an object too."""
    (dataset,) = ct_slices(1)
    dataset.PixelData = bytes(4_000_000)
    archive = DicomwebArchive(service.url, PATIENCE)
    list(archive.search())
    provider.revoke()
    assert list(archive.search()) == []
    lets_in, stores = provider.lets_in, []

    def revoked_at_first_store(authorization: str) -> bool:
        if service.seen[-1][0] == "POST":
            stores.append(authorization)
            if len(stores) == 1:
                provider.revoke()
        return bool(lets_in(authorization))

    service.lets_in = revoked_at_first_store
    assert archive.store(dataset).sha256 == dataset_digest(dataset)
    assert stores == ["Bearer t0ken-1", "Bearer t0ken-2"]


@pytest.mark.usefixtures("as_client")
def test_an_archive_that_takes_no_token(service: Any, provider: Any) -> None:
    """Where a new token is refused too, access is denied, and nobody asks for a third."""
    service.lets_in = lambda _: False
    with pytest.raises(AccessDenied, match="401"):
        list(DicomwebArchive(service.url, PATIENCE).search())
    assert len(provider.good_until) == len(service.seen) == 2


def test_a_wrong_secret(
    service: Any, as_client: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ct_slices: MakeSlices
) -> None:
    """The provider's refusal denies access and names client and provider; no secret, though the provider quotes it."""
    caplog.set_level(logging.DEBUG)
    as_client.setenv(f"{PREFIX}CLIENT_SECRET", "wr0ng")
    archive = DicomwebArchive(service.url, PATIENCE)
    for attempt in (lambda: list(archive.search()), lambda: archive.store(ct_slices(1)[0])):
        with pytest.raises(AccessDenied, match=r"client voxfleet at http.*/token: invalid_client") as caught:
            attempt()
        assert "wr0ng" not in str(caught.value) + caplog.text
    assert service.seen == []


@pytest.mark.usefixtures("as_client")
@pytest.mark.parametrize("status", [429, 503])
def test_a_provider_that_is_busy(service: Any, provider: Any, status: int) -> None:
    """A provider that is busy is asked again; one that stays so is an error that may pass."""
    archive = DicomwebArchive(service.url, PATIENCE)
    provider.answers[:] = [(status, b"")]
    assert list(archive.search()) == []
    provider.revoke()
    provider.answers[:] = [(status, b"")] * 4
    with pytest.raises(SearchUnanswered, match=f"no token .* answered {status}"):
        list(archive.search())


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"token_type": "Bearer"}'])
@pytest.mark.usefixtures("as_client")
def test_an_answer_that_is_no_token(service: Any, provider: Any, body: bytes) -> None:
    """What is no token is not sent to the archive."""
    provider.answers[:] = [(200, body)]
    with pytest.raises(AccessDenied, match="no token"):
        list(DicomwebArchive(service.url, PATIENCE).search())
    assert service.seen == []


def test_a_provider_that_is_not_there(service: Any, as_client: pytest.MonkeyPatch) -> None:
    """A provider that nobody reaches is an error that may pass."""
    as_client.setenv(f"{PREFIX}TOKEN_URL", "http://127.0.0.1:9/token")
    with pytest.raises(SearchUnanswered, match=r"no token .* no connection"):
        list(DicomwebArchive(service.url, PATIENCE).search())


def test_a_secret_in_a_file_and_a_scope(
    service: Any, provider: Any, as_client: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The secret may lie in a file, as Kubernetes mounts it; a scope is asked for if one is named."""
    (tmp_path / "secret").write_text(os.environ[f"{PREFIX}CLIENT_SECRET"] + "\n")
    as_client.delenv(f"{PREFIX}CLIENT_SECRET")
    as_client.setenv(f"{PREFIX}CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    as_client.setenv(f"{PREFIX}SCOPE", "openid")
    assert list(DicomwebArchive(service.url, PATIENCE).search()) == []
    assert provider.scopes == {"openid"}


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"CLIENT_SECRET": ""}, "CLIENT_SECRET"),
        ({"CLIENT_ID": ""}, "CLIENT_ID"),
        ({"CLIENT_SECRET_FILE": "/etc/hostname"}, "one of"),
        ({"CLIENT_SECRET": "", "CLIENT_SECRET_FILE": "/does/not/exist"}, "cannot be read"),
        ({"TOKEN": "t"}, "set one of VOXFLEET_DICOMWEB_TOKEN and VOXFLEET_DICOMWEB_TOKEN_URL"),
        ({"GOOGLE": "true"}, "set one of"),
        ({"TOKEN_URL": "http://keycloak.example.org/token"}, "https"),
        ({"TOKEN_URL": "https://user:s3cret@keycloak.example.org/token"}, "without user and password"),
    ],
)
def test_variables_that_do_not_fit(as_client: pytest.MonkeyPatch, variables: dict[str, str], match: str) -> None:
    """Half a client, two kinds of credentials, or a secret over plain HTTP are refused before anything is sent."""
    for name, value in variables.items():
        as_client.setenv(PREFIX + name, value)
    with pytest.raises(BadCredentials, match=match) as caught:
        DicomwebArchive("http://127.0.0.1:9/dicom-web")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("library", "kind"), [("oauthlib.oauth2", ""), ("google.auth", "GOOGLE")])
def test_a_library_that_is_not_installed(as_client: pytest.MonkeyPatch, library: str, kind: str) -> None:
    """Without the library that fetches tokens, the error says which extra brings it."""
    as_client.setitem(sys.modules, library, None)
    if kind:
        as_client.delenv(f"{PREFIX}TOKEN_URL")
        as_client.setenv(f"{PREFIX}{kind}", "true")
    with pytest.raises(MissingExtra, match=r"pip install 'voxfleet\[tokens\]'"):
        DicomwebArchive("http://127.0.0.1:9/dicom-web")


@pytest.mark.usefixtures("as_client")
def test_another_archive_gets_no_token(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HOST, tokens are for that archive only."""
    monkeypatch.setenv(f"{PREFIX}HOST", "pacs.example.org")
    with pytest.raises(AccessDenied, match="401"):
        list(DicomwebArchive(service.url, PATIENCE).search())
    assert [each for _, _, each in service.seen] == [""]


@pytest.fixture
def service_account(provider: Any, tmp_path: Path) -> Path:
    """File of a service account whose tokens come from the provider, as Google's console writes it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    provider.public_key = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    account = {
        "type": "service_account",
        "client_email": "fleet@example.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "token_uri": provider.url,
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    return path


def test_google_by_a_service_account(
    service: Any,
    provider: Any,
    service_account: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A signed assertion gets a token for Google's Healthcare API; a revoked one is replaced; none is ever shown."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(f"{PREFIX}GOOGLE", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account))
    archive = DicomwebArchive(service.url, PATIENCE)
    for _ in range(2):
        assert list(archive.search()) == []
        provider.revoke()
    assert [each for _, _, each in service.seen] == ["Bearer t0ken-0", "Bearer t0ken-0", "Bearer t0ken-1"]
    assert provider.scopes == {"https://www.googleapis.com/auth/cloud-healthcare"}
    assert not any(each in caplog.text for each in ("t0ken", "PRIVATE KEY"))


def test_google_refuses_the_account(
    service: Any, provider: Any, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's refusal denies access and says why."""
    monkeypatch.setenv(f"{PREFIX}GOOGLE", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account))
    refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    provider.answers[:] = [(400, json.dumps(refusal).encode())]
    with pytest.raises(AccessDenied, match=r"no token from Google: invalid_grant: Invalid JWT Signature"):
        list(DicomwebArchive(service.url, PATIENCE).search())


@pytest.mark.parametrize("content", ["", "not JSON", '{"type": "service_account", "private_key": "s3cret"}'])
def test_google_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    """A file that holds no credentials is an error with the next step, for Google's own host without any variable."""
    (tmp_path / "account.json").write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    with pytest.raises(BadCredentials, match="gcloud auth application-default login") as caught:
        DicomwebArchive("https://healthcare.googleapis.com/v1/projects/p/dicomStores/s/dicomWeb")
    assert "s3cret" not in str(caught.value)


def test_google_by_the_machine(service: Any, provider: Any, tmp_path: Path) -> None:
    """On a machine of Google's its metadata server gives the token (google-auth looks for it when imported)."""
    server = provider.url.removesuffix("/token").removeprefix("http://")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    environment |= {
        "GCE_METADATA_HOST": server,
        "GCE_METADATA_IP": server,
        "GCE_METADATA_TIMEOUT": "60",
        f"{PREFIX}GOOGLE": "true",
        "CLOUDSDK_CONFIG": str(tmp_path),
        "HOME": str(tmp_path),
    }
    code = (
        "import sys; from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive; "
        "print(list(DicomwebArchive(sys.argv[1]).search()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, service.url], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert {each for _, _, each in service.seen} == {"Bearer t0ken-0"}
