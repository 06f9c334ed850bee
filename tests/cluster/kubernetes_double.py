"""A stand-in for a Kubernetes API server: a real HTTP server that holds RayJobs and enforces their real schema."""

from __future__ import annotations

import gzip
import json
import threading
import time
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

CRD = Path(__file__).parents[1] / "data" / "kuberay" / "rayjobs.yaml.gz"
JOBS = "/apis/ray.io/v1/namespaces/ct/rayjobs"
PODS = "/api/v1/namespaces/ct/pods"


def rayjob_schema() -> dict[str, Any]:
    """The schema of ray.io/v1 RayJob; what it does not name is refused, as with strict field validation."""
    crd = yaml.load(gzip.decompress(CRD.read_bytes()), yaml.CSafeLoader)
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == "v1")
    return _strict(version["schema"]["openAPIV3Schema"])


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


class ApiServer(ThreadingHTTPServer):
    """Holds RayJobs, pods and logs of the namespace ``ct``.

    Attributes
    ----------
    faults : list of (status, headers)
        Answered first, one after the other, before anything is done.
    expired : bool
        The next watch ends at once: its resource version is too old.
    """

    daemon_threads = True

    def __init__(self, schema: jsonschema.Draft202012Validator) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schema = schema
        self.changed = threading.Condition()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.logs: dict[str, str] = {}
        self.faults: list[tuple[int, dict[str, str]]] = []
        self.requests: list[str] = []
        self.expired = False
        self.version = 0

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here."""
        url = f"http://127.0.0.1:{self.server_address[1]}"
        path = folder / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [{"name": "double", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "s3cret"}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "me", "namespace": "ct"}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def put(self, kind: str, job: dict[str, Any]) -> None:
        """Note a change of a job, and tell whoever watches."""
        with self.changed:
            self.version += 1
            job["metadata"]["resourceVersion"] = str(self.version)
            if kind == "DELETED":
                self.jobs.pop(job["metadata"]["name"], None)
            else:
                self.jobs[job["metadata"]["name"]] = job
            self.events.append({"type": kind, "object": deepcopy(job), "version": self.version})
            self.changed.notify_all()

    def set_status(self, name: str, **status: object) -> None:
        """What the operator does: change a job's status, which the schema has to allow."""
        job = deepcopy(self.jobs[name])
        job["status"] = job.get("status", {}) | status
        self.schema.validate(job)
        self.put("MODIFIED", job)


class Handler(BaseHTTPRequestHandler):
    """Answers as an API server does."""

    server: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List, watch, read one, list pods, read a log."""
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if self._fails("GET"):
            return
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        if parts.path == JOBS and query.get("watch") == "true":
            self._watch(wanted, query)
        elif parts.path == JOBS:
            with self.server.changed:
                items = [job for job in self.server.jobs.values() if self._fits(job, wanted)]
                self._answer(200, {"items": items, "metadata": {"resourceVersion": str(self.server.version)}})
        elif parts.path == PODS:
            names = [name for name in self.server.logs if name.startswith(wanted["job-name"])]
            items = [{"metadata": {"name": n, "creationTimestamp": "2026-11-21T08:00:00Z"}} for n in sorted(names)]
            self._answer(200, {"apiVersion": "v1", "kind": "PodList", "items": items, "metadata": {}})
        elif parts.path.startswith(PODS) and parts.path.endswith("/log"):
            lines = self.server.logs[parts.path.split("/")[-2]].splitlines(keepends=True)
            self._send(200, "".join(lines[-int(query["tailLines"]) :]).encode(), "text/plain")
        elif (name := parts.path.removeprefix(f"{JOBS}/")) in self.server.jobs:
            self._answer(200, self.server.jobs[name])
        else:
            self._refuse(404, "NotFound", f"{parts.path} not found")

    def do_POST(self) -> None:
        """Create a job: 409 where its name is taken, 422 where the schema forbids it."""
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._fails("POST"):
            return
        name = job["metadata"]["name"]
        wrong = next(iter(self.server.schema.iter_errors(job)), None)
        if wrong is not None:
            where = ".".join(map(str, wrong.absolute_path))
            self._refuse(422, "Invalid", f'RayJob.ray.io "{name}" is invalid: {where}: {wrong.message}')
        elif name in self.server.jobs:
            self._refuse(409, "AlreadyExists", f'rayjobs.ray.io "{name}" already exists')
        else:
            if "dryRun=All" not in urlsplit(self.path).query:
                self.server.put("ADDED", job)
            self._answer(201, job)

    def do_DELETE(self) -> None:
        """Delete a job."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._fails("DELETE"):
            return
        job = self.server.jobs.get(urlsplit(self.path).path.removeprefix(f"{JOBS}/"))
        if job is None:
            self._refuse(404, "NotFound", "not found")
        else:
            self.server.put("DELETED", job)
            self._answer(200, {"kind": "Status", "status": "Success"})

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _fails(self, method: str) -> bool:
        self.server.requests.append(f"{method} {urlsplit(self.path).path}")
        if not self.server.faults:
            return False
        status, headers = self.server.faults.pop(0)
        self._refuse(status, "Fault", "the double was told to fail", headers)
        return True

    def _watch(self, wanted: dict[str, str], query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        if self.server.expired:
            self.server.expired = False
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            self._line({"type": "ERROR", "object": gone})
            self.wfile.write(b"0\r\n\r\n")
            return
        seen, end = int(query["resourceVersion"]), time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < end:
            with self.server.changed:
                self.server.changed.wait(0.05)
                new = [each for each in self.server.events if each["version"] > seen]
            for each in new:
                seen = each["version"]
                if self._fits(each["object"], wanted):
                    try:
                        self._line({"type": each["type"], "object": each["object"]})
                    except OSError:
                        return
        self.wfile.write(b"0\r\n\r\n")

    def _line(self, event: dict[str, Any]) -> None:
        body = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()

    @staticmethod
    def _fits(job: dict[str, Any], wanted: dict[str, str]) -> bool:
        labels = job["metadata"].get("labels", {})
        return all(labels.get(key) == value for key, value in wanted.items())

    def _refuse(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
        self._answer(status, body, headers)

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
