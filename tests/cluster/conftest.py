"""Fixtures of the cluster's tests: an API server, and what it demands of a RayJob."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def kubernetes_double() -> ModuleType:
    """The module beside this file; loaded when first needed, as it parses 1.5 MB of schema."""
    path = Path(__file__).parent / "kubernetes_double.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rayjob_schema(kubernetes_double: ModuleType) -> Any:
    """Validator of KubeRay 1.7's RayJob, which lets nothing pass that it does not name."""
    server = kubernetes_double.jsonschema.Draft202012Validator(kubernetes_double.rayjob_schema())
    assert next(server.iter_errors({"spec": {"colour": 1}}), None) is not None
    return server


@pytest.fixture
def api_server(kubernetes_double: ModuleType, rayjob_schema: Any) -> Iterator[Any]:
    """An API server on this machine."""
    server = kubernetes_double.ApiServer(rayjob_schema)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
