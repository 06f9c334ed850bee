"""Archives of every kind with a fault between us and what they hold: real servers behind proxies that spoil."""

from __future__ import annotations

import copy
import io
import ipaddress
import json
import os
import resource
import secrets
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import obstore
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from voxfleet.enrich.archives.archive import Archive, SeriesEntry
from voxfleet.enrich.archives.bucket.archive import S3Archive
from voxfleet.enrich.archives.bucket.store import BucketAddress, BucketPatience, open_store
from voxfleet.enrich.archives.dicomweb.archive import DicomwebArchive
from voxfleet.enrich.archives.dimse.archive import DimseArchive
from voxfleet.enrich.archives.http_session import Patience
from voxfleet.enrich.archives.idc.archive import ENDPOINT, IdcArchive
from voxfleet.enrich.archives.idc.index import selection_of
from voxfleet.enrich.archives.nbia.archive import NbiaArchive
from voxfleet.enrich.archives.nbia.session import parse_address as nbia_address
from voxfleet.enrich.archives.opening import open_archive
from voxfleet.enrich.archives.packed import pack
from voxfleet.enrich.archives.xnat.address import parse_address as xnat_address
from voxfleet.enrich.archives.xnat.archive import XnatArchive

PATIENCE = Patience(connect_s=60.0, read_s=60.0, retries=1, backoff_s=0.0)
HASTE = BucketPatience(connect_s=60, request_s=60, retries=1, retries_s=60, first_pause_s=0.01)
ROOM_BYTES = 4096
"""As much as a file may hold on a disk that is full; a CT slice here has 39 kB."""
OUTSIDE = "../../escape"
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "ha">%s]><a>&a9;</a>' % b"".join(
    b'<!ENTITY a%d "%s">' % (number, b"&a%d;" % (number - 1) * 10) for number in range(1, 10)
)
"""Two letters that become two thousand million: CWE-776."""
BUCKET = "test-bucket"
MakeSlices = Callable[..., list[Dataset]]


def encoded(dataset: Dataset) -> bytes:
    """The object as a file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def led_outside(dataset: Dataset) -> Dataset:
    """The object with a path in the place of its SOP Instance UID."""
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = OUTSIDE
    return other


def once(fault: Any, wanted: Callable[[str, str], bool] = lambda _method, _path: True) -> Callable[[str, str], Any]:
    """Spoil the first request that is wanted."""
    left = [fault]
    return lambda method, path: left.pop() if left and wanted(method, path) else None


def always(fault: Any, wanted: Callable[[str, str], bool]) -> Callable[[str, str], Any]:
    """Spoil every request that is wanted."""
    return lambda method, path: fault if wanted(method, path) else None


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond `ROOM_BYTES` (EFBIG)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def another_user() -> Iterator[None]:
    """We are a user to whom modes of files apply."""
    ours = os.geteuid()
    if ours == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(ours)


@dataclass
class Rig:
    """An archive with a series of two instances, and the faults that it can have.

    Attributes
    ----------
    open : callable
        Opens it anew, through what spoils.
    clean : callable
        Opens it past what spoils.
    faults : mapping
        Fault -> from verb to what brings it about while it is entered.
    entry : SeriesEntry
        The series, as a search tells of it.
    place : Path
        A folder that every user may write to: that of pytest is ours alone.
    """

    open: Callable[[], Archive]
    clean: Callable[[], Archive]
    faults: dict[str, Callable[[str], AbstractContextManager[Any]]]
    entry: SeriesEntry
    slices: list[Dataset] = field(default_factory=list)
    place: Path = Path()


@dataclass
class Web:
    """What the kinds that are spoken to by HTTP have in common: a server, and a proxy before it."""

    proxy: Any
    rig: Rig
    is_object: Callable[[str, str], bool]
    is_listing: Callable[[str, str], bool] = lambda method, _path: method == "GET"
    is_write: Callable[[str, str], bool] = lambda method, _path: method in {"PUT", "POST"}

    @contextmanager
    def spoilt(self, fault: Callable[[str, str], Any]) -> Iterator[None]:
        """While entered, requests are spoilt."""
        self.proxy.fault = fault
        try:
            yield
        finally:
            self.proxy.fault = lambda _method, _path: None

    def of_verb(self, verb: str) -> Callable[[str, str], bool]:
        """Which requests carry what a verb is about."""
        return {"search": self.is_listing, "retrieve": self.is_object, "store": self.is_write}[verb]

    def usual(self) -> dict[str, Callable[[str], AbstractContextManager[Any]]]:
        """The faults of every such kind."""
        return {
            "429": lambda verb: self.spoilt(once(429)),
            "500": lambda verb: self.spoilt(once(500, self.of_verb(verb))),
            "cut": lambda verb: self.spoilt(once("drop" if verb == "store" else "cut", self.of_verb(verb))),
            "truncated": lambda verb: self.spoilt(
                always("short", self.is_listing if verb == "search" else self.is_object)
            ),
            "no space": lambda verb: full_disk() if verb == "retrieve" else self.spoilt(always(507, self.is_write)),
            "read-only": lambda verb: self.spoilt(always(403, self.is_write)),
            "path traversal": lambda verb: self.spoilt(always(self._outward, self.is_object)),
        }

    def _outward(self, content: bytes) -> bytes:
        """A path of the same length in the place of a SOP Instance UID."""
        uid = str(self.rig.slices[0].SOPInstanceUID).encode()
        return content.replace(uid, OUTSIDE.encode().rjust(len(uid), b"/"))

    @contextmanager
    def changed(self, change: Callable[[], Any], mend: Callable[[], Any], name: str = "") -> Iterator[None]:
        """What is asked for by that name is changed at this moment, after it was listed."""

        def fault(method: str, path: str) -> None:
            if self.is_object(method, path) and name in path and pending:
                pending.pop()()

        pending = [change]
        with self.spoilt(fault):
            yield
        mend()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of key and certificate for 127.0.0.1: ``own``, which nobody vouches for, and ``early``, valid from 2099."""
    x509 = pytest.importorskip("cryptography.x509")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    coding = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    folder = tmp_path_factory.mktemp("certificates")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for kind, year in (("own", 2020), ("early", 2099)):
        key = ec.generate_private_key(ec.SECP256R1())
        made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        made = made.not_valid_before(datetime(year, 1, 1)).not_valid_after(datetime(2120, 1, 1))
        made = made.add_extension(here, critical=False)
        certificate = made.sign(key, hashes.SHA256()).public_bytes(coding.Encoding.PEM)
        plain = coding.PrivateFormat.TraditionalOpenSSL
        secret = key.private_bytes(coding.Encoding.PEM, plain, coding.NoEncryption())
        (folder / kind).write_bytes(secret + certificate)
    return {kind: folder / kind for kind in ("own", "early")}


class Making:
    """What the makers of rigs share."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.request, self.folder, self.patch = request, folder, patch
        self.proxies: ModuleType = request.getfixturevalue("faulty_proxy")
        self.slices: list[Dataset] = request.getfixturevalue("ct_slices")(2)
        first = self.slices[0]
        self.entry = SeriesEntry(str(first.StudyInstanceUID), str(first.SeriesInstanceUID), "CT", len(self.slices))
        self.stack = ExitStack()

    def web(
        self, target: str, opened: Callable[[str], Archive], is_object: Callable[[str, str], bool], **kinds: Any
    ) -> Web:
        """A server behind a proxy; `opened` makes an archive of an address."""
        proxy = self.stack.enter_context(self.proxies.spoiling(target))
        url = [proxy.url]
        rig = Rig(lambda: opened(url[0]), lambda: opened(target), {}, self.entry, self.slices)
        web = Web(proxy, rig, is_object, **kinds)
        rig.faults |= web.usual()
        for fault, kind in (("certificate", "own"), ("clock skew", "early")):
            rig.faults[fault] = partial(self._certified, target, url, kind)
        return web

    @contextmanager
    def _certified(self, target: str, url: list[str], kind: str, _verb: str) -> Iterator[None]:
        """TLS with a certificate of ours; afterwards one that is valid and that the environment vouches for."""
        files = self.request.getfixturevalue("certificates")
        vouched = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
        for name in vouched:
            self.patch.setenv(name, str(files["early"]))
        url[0] = self.stack.enter_context(self.proxies.spoiling(target, files[kind])).url
        yield
        url[0] = self.stack.enter_context(self.proxies.spoiling(target, files["own"])).url
        for name in vouched:
            self.patch.setenv(name, str(files["own"]))

    def store_all(self, archive: Archive) -> None:
        """Put the series there, past what spoils."""
        for dataset in self.slices:
            archive.store(dataset)
        archive.close()

    def dicomweb_rig(self) -> Rig:
        """Orthanc; with a password for the fault that is about it."""
        orthanc = self.request.getfixturevalue("lasting_orthanc")
        server, path = orthanc.url.removesuffix("/dicom-web"), "/dicom-web"
        self.stack.callback(_empty_orthanc, server)
        self.store_all(DicomwebArchive(orthanc.url))
        web = self.web(
            server,
            lambda url: DicomwebArchive(f"{where[0] or url}{path}", PATIENCE),
            lambda method, asked: method == "GET" and "/studies/" in asked and "/instances?" not in asked,
        )
        where, file = [""], self.folder / "token"
        web.proxy.token = "0ld-t0ken"
        file.write_text(web.proxy.token)
        self.patch.setenv("VOXFLEET_DICOMWEB_TOKEN_FILE", str(file))

        @contextmanager
        def wrong_password(_verb: str) -> Iterator[None]:
            self.patch.delenv("VOXFLEET_DICOMWEB_TOKEN_FILE")
            own = self.request.getfixturevalue("start_orthanc")("radiologist", "s3cret")
            self.patch.setenv("VOXFLEET_DICOMWEB_USER", "radiologist")
            self.patch.setenv("VOXFLEET_DICOMWEB_PASSWORD", "s3cret")
            self.store_all(DicomwebArchive(own.url))
            self.patch.setenv("VOXFLEET_DICOMWEB_PASSWORD", "wr0ng")
            where[0] = own.url.removesuffix(path)
            yield
            self.patch.setenv("VOXFLEET_DICOMWEB_PASSWORD", "s3cret")

        @contextmanager
        def old_token(_verb: str) -> Iterator[None]:
            web.proxy.token = "n3w-t0ken"
            yield
            file.write_text("n3w-t0ken")

        body = (409, "application/dicom+xml", BOMB)
        web.rig.faults |= {
            "credentials": wrong_password,
            "expired": old_token,
            "changed": lambda _verb: web.changed(
                lambda: _lose(server, self.slices[0]), lambda: _post(server, self.slices[0])
            ),
            "entity bomb": lambda _verb: web.spoilt(always(body, web.is_write)),
        }
        return web.rig

    def dimse_rig(self) -> Rig:
        """Orthanc behind a wire that breaks; dcmqrscp where it can say what Orthanc cannot."""
        orthanc = self.request.getfixturevalue("lasting_orthanc")
        server = orthanc.url.removesuffix("/dicom-web")
        self.stack.callback(_empty_orthanc, server)
        self.store_all(DimseArchive(orthanc.dimse_uri))
        wire = self.stack.enter_context(self.proxies.wiring(orthanc.dimse_port))
        uri = [f"dimse://ORTHANC@127.0.0.1:{wire.port}"]
        usual = uri[0]
        rig = Rig(
            lambda: DimseArchive(uri[0], PATIENCE),
            lambda: DimseArchive(orthanc.dimse_uri),
            {},
            self.entry,
            self.slices,
        )

        @contextmanager
        def wired(
            first: Callable[[int], bytes | None] = lambda _number: None,
            cut_after: Callable[[int], int | None] = lambda _number: None,
        ) -> Iterator[None]:
            wire.connections, wire.first, wire.cut_after = 0, first, cut_after
            yield
            wire.first = wire.cut_after = lambda _number: None

        @contextmanager
        def dcmtk(title: str = "NODE", **rules: str) -> Iterator[None]:
            node = self.request.getfixturevalue("start_dcmqrscp")(**rules)
            uri[0] = f"dimse://{title}@127.0.0.1:{node.port}"
            yield
            uri[0] = usual

        def lost(number: int) -> None:
            if number == 1:
                _lose(server, self.slices[0])

        @contextmanager
        def changed(_verb: str) -> Iterator[None]:
            with wired(first=lost):
                yield
            _post(server, self.slices[0])

        @contextmanager
        def outside(_verb: str) -> Iterator[None]:
            _lose(server, self.slices[0])
            _post(server, led_outside(self.slices[0]))
            yield
            _empty_orthanc(server)
            self.store_all(DimseArchive(orthanc.dimse_uri))

        rejected = b"\x03\0\0\0\0\4\0\2\3\2"  # A-ASSOCIATE-RJ, transient, local limit exceeded (PS3.8 9.3.4)
        aborted = b"\x07\0\0\0\0\4\0\0\2\0"  # A-ABORT by the service provider (PS3.8 9.3.8)
        rig.faults |= {
            "credentials": lambda _verb: dcmtk(title="NOBODY"),
            "429": lambda _verb: wired(first=lambda number: None if number else rejected),
            "500": lambda _verb: wired(first=lambda number: None if number else aborted),
            "cut": lambda verb: wired(
                cut_after=lambda number: (1000 if verb == "search" else 20000) if number == (verb != "search") else None
            ),
            "changed": changed,
            "no space": lambda verb: full_disk() if verb == "retrieve" else dcmtk(quota="(1, 8kb)"),
            "read-only": lambda _verb: dcmtk(access="R"),
            "path traversal": outside,
        }
        return rig

    def s3_rig(self) -> Rig:
        """Moto; rclone, which checks signatures, for wrong credentials."""
        self.request.getfixturevalue("make_prefix")("moto")
        web = self._bucket("s3", self.request.getfixturevalue("moto").url)
        prefix = f"faults/{secrets.token_hex(8)}"

        @contextmanager
        def wrong_secret(_verb: str) -> Iterator[None]:
            rclone = self.request.getfixturevalue("rclone")
            rclone.log_in(self.patch)
            address = BucketAddress("s3", BUCKET, prefix, rclone.url)
            self.store_all(S3Archive(address))
            web.rig.open = lambda: S3Archive(address, HASTE)
            self.patch.setenv("AWS_SECRET_ACCESS_KEY", "WR0NGSECRET")
            yield
            rclone.log_in(self.patch)

        def said(status: int, code: str) -> AbstractContextManager[None]:
            body = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>".encode()
            return web.spoilt(lambda _method, _path: (status, "application/xml", body))

        web.rig.faults |= {
            "credentials": wrong_secret,
            "expired": lambda _verb: said(400, "ExpiredToken"),
            "clock skew": lambda _verb: said(403, "RequestTimeTooSkewed"),
        }
        return web.rig

    def gs_rig(self) -> Rig:
        """fake-gcs-server behind its front; it asks for no credentials, so the proxy does."""
        web = self._bucket("gs", self.request.getfixturevalue("gcs"))
        web.rig.faults |= {
            "credentials": lambda _verb: web.spoilt(lambda _method, _path: 403),
            "expired": lambda _verb: web.spoilt(lambda _method, _path: 401),
        }
        return web.rig

    def _bucket(self, scheme: str, target: str) -> Web:
        prefix = f"faults/{secrets.token_hex(8)}"
        clean = BucketAddress(scheme, BUCKET, prefix, target)
        self.store_all(S3Archive(clean))
        web = self.web(
            target,
            lambda url: S3Archive(BucketAddress(scheme, BUCKET, prefix, url), HASTE),
            lambda method, path: method == "GET" and path.partition("?")[0].endswith(".dcm"),
            is_listing=lambda method, path: method == "GET" and not path.partition("?")[0].endswith(".dcm"),
        )
        uids = [str(self.slices[0].get(name)) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        key = f"{prefix}/{'/'.join(uids)}.dcm"
        held = open_store(BucketAddress(scheme, BUCKET, "", target), HASTE)
        web.rig.faults |= self._bucket_faults(web, lambda content: obstore.put(held, key, content), key)
        return web

    def _bucket_faults(self, web: Web, put: Callable[[bytes], Any], name: str) -> dict[str, Callable[[str], Any]]:
        """Faults that need the first object to be another one; `put` writes it past what spoils."""
        other = copy.deepcopy(self.slices[0])
        other.PatientComments = "changed meanwhile"
        usual, changed, outside = map(encoded, (self.slices[0], other, led_outside(self.slices[0])))

        @contextmanager
        def led_out(_verb: str) -> Iterator[None]:
            put(outside)
            yield
            put(usual)

        return {
            "changed": lambda _verb: web.changed(lambda: put(changed), lambda: put(usual), name),
            "path traversal": led_out,
            "entity bomb": lambda _verb: web.spoilt(always((200, "application/xml", BOMB), web.is_listing)),
        }

    def idc_rig(self) -> Rig:
        """A folder of IDC's layout, served by rclone to everybody."""
        data = pytest.importorskip("idc_index_data")
        duckdb = pytest.importorskip("duckdb")
        study, series, bucket, folder = duckdb.sql(
            "SELECT StudyInstanceUID, SeriesInstanceUID, aws_bucket, crdc_series_uuid "
            f"FROM '{data.IDC_INDEX_PARQUET_FILEPATH}' WHERE Modality = 'CT' AND instanceCount = 2 ORDER BY 2 LIMIT 1"
        ).fetchone()
        for dataset in self.slices:
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        self.entry = SeriesEntry(study, series, "CT", 2)
        place = self.folder / "public" / bucket / folder
        place.mkdir(parents=True)
        paths = [place / f"{number}.dcm" for number in range(2)]
        for path, dataset in zip(paths, self.slices, strict=True):
            path.write_bytes(encoded(dataset))
        target = self.request.getfixturevalue("serve_public")(self.folder / "public").url
        selection = selection_of(f"idc:?SELECT SeriesInstanceUID FROM index WHERE SeriesInstanceUID = '{series}'")

        def opened(url: str) -> IdcArchive:
            self.patch.setenv(ENDPOINT, url)
            return IdcArchive(selection, HASTE)

        web = self.web(target, opened, lambda method, path: method == "GET" and path.partition("?")[0].endswith(".dcm"))
        web.is_listing = lambda method, path: method == "GET" and not path.partition("?")[0].endswith(".dcm")
        web.rig.faults |= self._bucket_faults(web, paths[0].write_bytes, paths[0].name)
        web.rig.faults["read-only"] = lambda _verb: nullcontext()
        return web.rig

    def xnat_rig(self) -> Rig:
        """The double of an XNAT."""
        xnat = self.request.getfixturevalue("xnat")
        double = self.request.getfixturevalue("xnat_double")
        target = f"http://127.0.0.1:{xnat.server_address[1]}"
        self.store_all(open_archive(xnat.uri))
        web = self.web(
            target,
            lambda url: XnatArchive(xnat_address(f"xnat+{url}/{double.PROJECT}"), PATIENCE),
            lambda method, path: method == "GET" and ("format=zip" in path or "/files/" in path),
            is_listing=lambda method, path: method == "GET" and "/experiments" in path,
            is_write=lambda method, path: method == "PUT" and "/files/" in path,
        )

        @contextmanager
        def wrong_password(_verb: str) -> Iterator[None]:
            self.patch.setenv("VOXFLEET_XNAT_PASSWORD", "wr0ng")
            yield
            self.patch.setenv("VOXFLEET_XNAT_PASSWORD", double.PASSWORD)

        @contextmanager
        def forgotten(_verb: str) -> Iterator[None]:
            xnat.sessions.clear()
            yield

        (scan,) = next(iter(xnat.experiments.values())).below.values()
        files = scan.resources["DICOM"]
        name = f"{self.slices[0].SOPInstanceUID}.dcm"
        whole = files[name]

        @contextmanager
        def outside(_verb: str) -> Iterator[None]:
            files[name] = encoded(led_outside(self.slices[0]))
            yield
            files[name] = whole

        zeros = double.zipped({"session/scans/1/resources/DICOM/files/1.dcm": bytes(1 << 23)})
        web.rig.faults |= {
            "credentials": wrong_password,
            "expired": forgotten,
            "changed": lambda _verb: web.changed(lambda: files.pop(name), lambda: files.update({name: whole})),
            "path traversal": outside,
            "zip bomb": lambda _verb: web.spoilt(once(lambda _content: zeros, web.is_object)),
            "entity bomb": lambda _verb: web.spoilt(always((200, "text/xml", BOMB), web.is_listing)),
        }
        return web.rig

    def nbia_rig(self) -> Rig:
        """The double of an NBIA."""
        nbia = self.request.getfixturevalue("nbia")
        double = self.request.getfixturevalue("nbia_double")
        uid = str(self.slices[0].SeriesInstanceUID)
        nbia.series[uid] = list(self.slices)
        web = self.web(
            nbia.url,
            lambda url: NbiaArchive(nbia_address(f"nbia+{url}/LIDC-IDRI"), PATIENCE),
            lambda method, path: method == "GET" and "getImage" in path,
        )

        nbia.login = True
        self.patch.setenv("VOXFLEET_NBIA_USER", double.USER)
        self.patch.setenv("VOXFLEET_NBIA_PASSWORD", double.PASSWORD)

        @contextmanager
        def logged_in(password: str) -> Iterator[None]:
            self.patch.setenv("VOXFLEET_NBIA_PASSWORD", password)
            yield
            self.patch.setenv("VOXFLEET_NBIA_PASSWORD", double.PASSWORD)

        @contextmanager
        def forgotten(_verb: str) -> Iterator[None]:
            nbia.tokens.append("another")
            yield

        @contextmanager
        def outside(_verb: str) -> Iterator[None]:
            nbia.series[uid][0] = led_outside(self.slices[0])
            yield
            nbia.series[uid][0] = self.slices[0]

        self.patch.setattr(pack, "HARMLESS_BYTES", 1 << 20)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("1.dcm", bytes(1 << 23))
        web.rig.faults |= {
            "credentials": lambda _verb: logged_in("wr0ng"),
            "expired": forgotten,
            "changed": lambda _verb: web.changed(
                nbia.series[uid].pop, lambda: nbia.series.update({uid: list(self.slices)})
            ),
            "read-only": lambda _verb: nullcontext(),
            "path traversal": outside,
            "zip bomb": lambda _verb: web.spoilt(once(lambda _content: buffer.getvalue(), web.is_object)),
            "entity bomb": lambda _verb: web.spoilt(always((200, "text/xml", BOMB), web.is_listing)),
        }
        return web.rig

    def folder_rig(self) -> Rig:
        """Files in a folder that other users may enter."""
        root = self.place()
        paths = [root / f"{number}.dcm" for number in range(2)]
        for path, dataset in zip(paths, self.slices, strict=True):
            path.write_bytes(encoded(dataset))

        @contextmanager
        def closed(mode: int) -> Iterator[None]:
            root.chmod(mode)
            with another_user():
                yield
            root.chmod(0o755)

        @contextmanager
        def written(content: bytes) -> Iterator[None]:
            paths[0].write_bytes(content)
            yield
            paths[0].write_bytes(encoded(self.slices[0]))

        rig = Rig(lambda: open_archive(str(root)), lambda: open_archive(str(root)), {}, self.entry, self.slices)
        rig.faults |= {
            "credentials": lambda verb: closed(0o555 if verb == "store" else 0),
            "truncated": lambda _verb: written(encoded(self.slices[0])[:300]),
            "changed": lambda _verb: _changed(rig, paths[0], paths[0].unlink),
            "no space": lambda _verb: full_disk(),
            "read-only": lambda _verb: closed(0o555),
            "clock skew": lambda _verb: _dated(root, *paths),
            "path traversal": lambda _verb: written(encoded(led_outside(self.slices[0]))),
            "zip bomb": lambda _verb: written(inflating(self.slices[0])),
        }
        return rig

    def zip_rig(self) -> Rig:
        """A zip file."""
        return self._packed("zip")

    def tar_rig(self) -> Rig:
        """A tar file, compressed."""
        return self._packed("tar.gz")

    def _packed(self, suffix: str) -> Rig:
        path = self.place() / f"cohort.{suffix}"
        members = {f"{number}.dcm": encoded(each) for number, each in enumerate(self.slices)}
        packed(path, members)
        self.patch.setattr(pack, "HARMLESS_BYTES", 1 << 20)

        @contextmanager
        def closed(_verb: str) -> Iterator[None]:
            path.chmod(0)
            with another_user():
                yield
            path.chmod(0o644)

        @contextmanager
        def written(*content: bytes, **names: bytes) -> Iterator[None]:
            before = path.read_bytes()
            if names:
                packed(path, names)
            else:
                path.write_bytes(content[0])
            yield
            path.write_bytes(before)

        rig = Rig(lambda: open_archive(str(path)), lambda: open_archive(str(path)), {}, self.entry, self.slices)
        rig.faults |= {
            "credentials": closed,
            "truncated": lambda _verb: written(path.read_bytes()[: path.stat().st_size // 2]),
            "changed": lambda _verb: _changed(rig, path, lambda: packed(path, {"1.dcm": members["1.dcm"]})),
            "no space": lambda _verb: full_disk(),
            "read-only": lambda _verb: nullcontext(),
            "clock skew": lambda _verb: _dated(path),
            "path traversal": lambda _verb: written(**members, **{f"{OUTSIDE}.dcm": members["0.dcm"]}),
            "zip bomb": lambda _verb: written(bomb=bytes(1 << 23)),
        }
        return rig

    def place(self) -> Path:
        """A folder that every user may enter: that of pytest is ours alone."""
        place = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="voxfleet-test-")))
        place.chmod(0o755)
        return place


def packed(path: Path, members: dict[str, bytes]) -> None:
    """A zip or tar file of members, by its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def inflating(dataset: Dataset) -> bytes:
    """The object, deflated, with pixel data of 64 MiB that take 64 kB."""
    other = copy.deepcopy(dataset)
    other.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    other.PixelData = bytes(64 << 20)
    return encoded(other)


@contextmanager
def _changed(rig: Rig, path: Path, change: Callable[[], object]) -> Iterator[None]:
    """A file is changed after it was listed."""
    before = path.read_bytes()
    assert any(isinstance(each, SeriesEntry) for each in rig.clean().search())
    change()
    yield
    path.write_bytes(before)


@contextmanager
def _dated(*paths: Path) -> Iterator[None]:
    """Files were written by a machine whose clock is a year ahead of ours."""
    for path in paths:
        ahead = path.stat().st_mtime + 365 * 86400
        os.utime(path, (ahead, ahead))
    yield


def _post(server: str, dataset: Dataset) -> None:
    """Give an object to Orthanc by its own interface."""
    urllib.request.urlopen(urllib.request.Request(f"{server}/instances", encoded(dataset), method="POST")).close()


def _lose(server: str, dataset: Dataset) -> None:
    """Remove an object from Orthanc by its own interface."""
    wanted = urllib.request.Request(f"{server}/tools/lookup", str(dataset.SOPInstanceUID).encode(), method="POST")
    for found in json.load(urllib.request.urlopen(wanted)):
        urllib.request.urlopen(urllib.request.Request(server + found["Path"], method="DELETE")).close()


def _empty_orthanc(server: str) -> None:
    for patient in json.load(urllib.request.urlopen(f"{server}/patients")):
        urllib.request.urlopen(urllib.request.Request(f"{server}/patients/{patient}", method="DELETE")).close()


@pytest.fixture
def make_rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Rig]]:
    """Make the rig of a kind of archive."""
    making = Making(request, tmp_path, monkeypatch)

    def make(kind: str) -> Rig:
        rig: Rig = getattr(making, f"{kind}_rig")()
        rig.place = making.place()
        rig.place.chmod(0o777)
        return rig

    with making.stack:
        yield make
