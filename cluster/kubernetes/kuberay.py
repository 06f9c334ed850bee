"""Cells on Kubernetes: RayJobs created, watched, read and deleted. The only file that imports the Kubernetes client."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import Any

import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from ... import Error
from .cell import CellState, state_of
from .manifest import MANIFEST_SHA256

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"

TIMEOUT_S = (5.0, 60.0)
"""Until the connection stands; until the answer comes."""

WATCH_S = 240
"""One watch at the API server; then the next begins."""

TRIES = 6
"""Of one call, while the API server is busy or gone."""

LONGEST_PAUSE_S = 30.0

PAUSE_S = 1.0
"""After a watch, before the next."""

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""What Kubernetes tells a pod of where it is."""

CONFLICT, GONE, BUSY = 409, 410, (429, 500, 502, 503, 504)

_LOG = logging.getLogger(__name__)


class KubernetesError(Error):
    """The API server cannot be reached, or refuses; names what was asked for."""

    code = "KUBERNETES"

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class CellExists(KubernetesError):
    """Another cell has this name: of another image, command or size."""

    code = "CELL_EXISTS"


class KubernetesUnavailable(KubernetesError):
    """The API server does not answer, or is busy, for longer than one asks again: the same may succeed later."""

    code = "KUBERNETES_UNAVAILABLE"
    retryable = True


class Cells:
    """The cells of one namespace.

    Parameters
    ----------
    namespace : str
        Empty: that of the context.
    context : str
        Of the user's kubeconfig; empty: the current one, or that of the pod which this runs in.

    Raises
    ------
    KubernetesError
        If there is neither.
    """

    def __init__(self, namespace: str = "", context: str = "") -> None:
        settings, own = _configuration(context)
        # Our own pauses see to it, which honour Retry-After.
        settings.retries = False
        api = client.ApiClient(settings)
        self.namespace = namespace or own
        self._jobs, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)

    def submit(self, job: Mapping[str, Any], *, dry_run: bool = False) -> bool:
        """Create a RayJob; False where the same one is there.

        Parameters
        ----------
        dry_run : bool
            The API server checks it, and creates nothing.

        Raises
        ------
        CellExists
            If one of this name is there that is not the same.
        KubernetesError
            If the API server refuses it.
        """
        name = job["metadata"]["name"]
        # Strict: a field that the server does not know is refused, and not dropped (Kubernetes 1.25 or later).
        options = {"field_validation": "Strict"} | ({"dry_run": "All"} if dry_run else {})
        try:
            self._ask(name, self._jobs.create_namespaced_custom_object, *self._place(), dict(job), **options)
        except KubernetesError as exc:
            if not isinstance(exc.__cause__, ApiException) or exc.__cause__.status != CONFLICT:
                raise
            there = self._ask(name, self._jobs.get_namespaced_custom_object, *self._place(), name)
            if "deletionTimestamp" in there["metadata"]:
                raise CellExists(
                    name, "is being deleted; submit it again once `cluster status` lists it no more"
                ) from exc
            annotations = there["metadata"].get("annotations", {})
            if annotations.get(MANIFEST_SHA256) != job["metadata"]["annotations"][MANIFEST_SHA256]:
                reason = "a cell of this name is there, with another image, command or size; delete it first"
                raise CellExists(name, reason) from exc
            return False
        return True

    def states(self, run: str) -> tuple[CellState, ...]:
        """Where the cells of a run stand, by name."""
        found = self._list(run)
        return tuple(sorted((state_of(item) for item in found["items"]), key=lambda state: state.name))

    def follow(self, run: str) -> Iterator[tuple[CellState, ...]]:
        """Where the cells of a run stand, each time that one of them changes, until all have ended."""
        last: tuple[CellState, ...] | None = None
        for states in self._readings(run):
            if states != last:
                yield states
            last = states
            if all(state.over for state in states):
                return

    def logs(self, name: str, lines: int) -> str:
        """The last lines of what a cell's command said; empty before it runs.

        Raises
        ------
        KubernetesError
            If there is no such cell.
        """
        self._ask(name, self._jobs.get_namespaced_custom_object, *self._place(), name)
        # The submitter is a Job of the RayJob's name, and prints what the command prints.
        found = self._ask(name, self._core.list_namespaced_pod, self.namespace, label_selector=f"job-name={name}")
        pods = sorted(found.items, key=lambda pod: pod.metadata.creation_timestamp)
        if not pods:
            return ""
        pod = pods[-1].metadata.name
        return str(self._ask(name, self._core.read_namespaced_pod_log, pod, self.namespace, tail_lines=lines))

    def delete(self, name: str) -> None:
        """Delete a cell with all its machines; one that is gone already is gone."""
        try:
            self._ask(
                name,
                self._jobs.delete_namespaced_custom_object,
                *self._place(),
                name,
                propagation_policy="Foreground",
            )
        except KubernetesError as exc:
            if not isinstance(exc.__cause__, ApiException) or exc.__cause__.status != 404:  # noqa: PLR2004
                raise

    def _place(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _list(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(
            run, self._jobs.list_namespaced_custom_object, *self._place(), label_selector=f"run={run}"
        )
        return found

    def _readings(self, run: str) -> Iterator[tuple[CellState, ...]]:
        """Where the cells stand, after each event of a watch; and again and again."""
        while True:
            found = self._list(run)
            states = {item["metadata"]["name"]: state_of(item) for item in found["items"]}
            yield _ordered(states)
            for change in self._changes(run, found["metadata"]["resourceVersion"]):
                state = state_of(change["object"])
                states[state.name] = state
                if change["type"] == "DELETED":
                    del states[state.name]
                yield _ordered(states)
            sleep(PAUSE_S)

    def _changes(self, run: str, version: str) -> Iterator[Mapping[str, Any]]:
        """Events since a version of the list, until the watch ends: then one lists anew."""
        try:
            yield from watch.Watch().stream(
                self._jobs.list_namespaced_custom_object,
                *self._place(),
                label_selector=f"run={run}",
                resource_version=version,
                timeout_seconds=WATCH_S,
                _request_timeout=(TIMEOUT_S[0], WATCH_S + TIMEOUT_S[1]),
            )
        except ApiException as exc:
            if exc.status not in (GONE, *BUSY):
                raise KubernetesError(run, _told(exc)) from exc
        except urllib3.exceptions.HTTPError as exc:
            _LOG.warning("the watch of run %s broke off: %s", run, type(exc).__name__)

    def _ask(self, subject: str, call: Callable[..., Any], *words: object, **options: object) -> Any:
        """One call, tried again while the API server is busy or gone."""
        retry = Retrying(retry=retry_if_exception(_may_pass), stop=stop_after_attempt(TRIES), wait=_pause, reraise=True)
        try:
            return retry(call, *words, _request_timeout=TIMEOUT_S, **options)
        except ApiException as exc:
            raise (KubernetesUnavailable if exc.status in BUSY else KubernetesError)(subject, _told(exc)) from exc
        except urllib3.exceptions.HTTPError as exc:
            reason = f"the API server does not answer ({type(exc).__name__})"
            raise KubernetesUnavailable(subject, reason) from exc


def _configuration(context: str) -> tuple[client.Configuration, str]:
    """How the API server is reached, and the namespace one is in."""
    settings = client.Configuration()
    try:
        if not context:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                pass
            else:
                return settings, OWN_NAMESPACE.read_text(encoding="ascii").strip()
        config.load_kube_config(context=context or None, client_configuration=settings)
        contexts, active = config.list_kube_config_contexts()
    except (config.ConfigException, OSError) as exc:
        raise KubernetesError("kubeconfig", f"no Kubernetes cluster is configured: {exc}") from exc
    chosen = next((each for each in contexts if each["name"] == context), active)
    return settings, chosen["context"].get("namespace", "default")


def _ordered(states: Mapping[str, CellState]) -> tuple[CellState, ...]:
    return tuple(states[name] for name in sorted(states))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, ApiException):
        return error.status in BUSY
    return isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.SSLError)


def _pause(state: RetryCallState) -> float:
    """What the API server asks for, or else longer each time."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.headers.get("Retry-After", "") if isinstance(error, ApiException) and error.headers else ""
    if asked.isdigit():
        return min(float(asked), LONGEST_PAUSE_S)
    return wait_exponential_jitter(multiplier=0.2, max=LONGEST_PAUSE_S)(state)


def _told(error: ApiException) -> str:
    """One line on what the API server said."""
    try:
        said = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        said = error.body
    text = " ".join(str(said or "").split())[:500]
    return f"{error.status} {error.reason}{f': {text}' if text else ''}"
