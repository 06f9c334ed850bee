"""A real Kubernetes API server with its etcd, on this machine: begun for some tests, by the binary's path.

Nothing else of Kubernetes runs: no operator, no kubelet. What KubeRay's operator does, tests do themselves.
"""

from __future__ import annotations

import gzip
import shutil
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from voxfleet.benchmarks.performance.ports import free_port

CRD = Path(__file__).parents[1] / "data" / "kuberay" / "rayjobs.yaml.gz"
TOKEN = "t0ken-of-the-test"
MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a server's command: it ends with us, even if we are killed."""
MOST_S = 120.0


class RealApiServer:
    """etcd and kube-apiserver, both on 127.0.0.1 and in a folder that goes with them.

    Parameters
    ----------
    binary : Path
        kube-apiserver.
    etcd : str
        Path of etcd.
    """

    def __init__(self, binary: Path, etcd: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._begin_both(binary, etcd)
        except BaseException:
            self.close()
            raise

    def _begin_both(self, binary: Path, etcd: str) -> None:
        store, peers, folder = free_port(), free_port(), self.folder
        self._begin(
            etcd,
            *("--data-dir", folder / "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", f"http://127.0.0.1:{store}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{store}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{peers}"),
        )
        (folder / "tokens.csv").write_text(f'{TOKEN},me,me,"system:masters"\n')
        (folder / "accounts.key").write_bytes(_private_key())
        begun = time.monotonic()
        self._begin(
            binary,
            *("--etcd-servers", f"http://127.0.0.1:{store}", "--cert-dir", folder / "certificates"),
            *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", self.port),
            *("--token-auth-file", folder / "tokens.csv", "--authorization-mode", "RBAC"),
            *("--service-account-issuer", "https://test", "--service-account-key-file", folder / "accounts.key"),
            *("--service-account-signing-key-file", folder / "accounts.key"),
            *("--service-cluster-ip-range", "10.0.0.0/24", "--disable-admission-plugins", "ServiceAccount"),
        )
        self._until_ready()
        self.start_s = time.monotonic() - begun

    def kubeconfig(self) -> Path:
        """A file that leads here, into the namespace ``ct``."""
        path = self.folder / "kubeconfig"
        server = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [{"name": "real", "cluster": server}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "me", "namespace": "ct"}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def close(self) -> None:
        """End both."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _begin(self, *words: object) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [*MORTAL, *map(str, words)]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _until_ready(self) -> None:
        deadline, insecure = time.monotonic() + MOST_S, ssl._create_unverified_context()
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5, context=insecure) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
                time.sleep(0.1)


def rayjob_crd() -> dict[str, Any]:
    """KubeRay 1.7's RayJob for servers that take the default of an empty string for none, as Kubernetes 1.20 does.

    Such defaults are left out, and lists that are maps by such a key are lists. Nothing else is changed.
    """
    crd = yaml.load(gzip.decompress(CRD.read_bytes()), yaml.CSafeLoader)
    crd.pop("status", None)
    plain: dict[str, Any] = _without_empty_defaults(crd)
    return plain


def etcd_here(binary: Path) -> str | None:
    """Path of etcd: beside the API server, or on the path."""
    beside = binary.parent / "etcd"
    return str(beside) if beside.is_file() else shutil.which("etcd")


def _without_empty_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_empty_defaults(each) for each in node]
    if not isinstance(node, dict):
        return node
    keys = node.get("x-kubernetes-list-map-keys", [])
    properties = node.get("items", {}).get("properties", {}) if isinstance(node.get("items"), dict) else {}
    if any(properties.get(key, {}).get("default") == "" for key in keys):
        node = {key: value for key, value in node.items() if key != "x-kubernetes-list-map-keys"}
        node["x-kubernetes-list-type"] = "atomic"
    return {
        key: _without_empty_defaults(value) for key, value in node.items() if not (key == "default" and value == "")
    }


def _private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
