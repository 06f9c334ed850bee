"""The image that GPU nodes run: linted, pinned, without root, and built for real where the machine can."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile.gpu"
BASE = "VOXFLEET_TEST_BASE"
"""Variable with the name of a Debian or Ubuntu image that buildah has, without a GPU: for the build test."""


def stages() -> dict[str, list[str]]:
    """Instructions of each stage, by the stage's name; what stands before the first is in the stage ''."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text()).splitlines():
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        if line and not line.startswith("#"):
            found[name].append(line)
    return found


def test_hadolint_has_nothing_to_say() -> None:
    """hadolint, the field's linter, finds nothing."""
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_runs_is_pinned_and_has_neither_root_nor_source() -> None:
    """The base has a digest; the last stage copies no source, installs no compiler, and ends as another user."""
    base = next(line for line in stages()[""] if line.startswith("ARG BASE="))
    assert re.search(r"@sha256:[0-9a-f]{64}$", base)
    last = stages()["image"]
    assert [line.split()[1].startswith("--from=") for line in last if line.startswith("COPY")] == [True, True]
    assert next(line for line in last if line.startswith("USER")) == "USER 10001"
    assert not any("gcc" in line for line in [*last, *stages()["python"]])
    assert any("--constraint" in line for line in stages()["environment"])


def test_nodes_have_every_kind_of_model_and_archive() -> None:
    """The image's extras are all of pyproject.toml's, but for those of people at their desks and of developers."""
    extras = next(line for line in stages()["environment"] if line.startswith("ARG EXTRAS=")).partition("=")[2]
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert set(extras.split(",")) == known - {"all", "benchmark", "dev", "keyring", "submission"}


@pytest.mark.long
@pytest.mark.skipif(not os.environ.get(BASE), reason=f"no ${BASE}: an image such as debootstrap makes")
def test_built_for_real() -> None:
    """Buildah builds every stage, without the GPU's packages; the image runs the demo, and lists what is in it."""
    buildah = shutil.which("buildah") or pytest.skip("no buildah")
    image = "localhost/voxfleet-test"
    options = ["--isolation", "chroot", "--network", "host"]
    arguments = {"BASE": os.environ[BASE], "EXTRAS": "postgres", "COMMIT": "0" * 40}
    mounts = [f"{path}:{path}:ro" for path in ("/etc/pip.conf", "/opt/pypi", "/opt/wheels") if Path(path).exists()]
    if certificates := os.environ.get("PIP_CERT"):
        mounts.append(f"{certificates}:/certificates.pem:ro")
        options += ["--env", "PIP_CERT=/certificates.pem"]
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    words += [word for mount in mounts for word in ("--volume", mount)]
    subprocess.run([buildah, "build", *options, *words, "-t", image, "-f", DOCKERFILE, ROOT], check=True)
    container = subprocess.run([buildah, "from", image], check=True, capture_output=True, text=True).stdout.strip()
    script = (
        "voxfleet demo /tmp/demo >&2 && id -u && cat /opt/voxfleet/lib/python3*/site-packages/voxfleet/COMMIT"
        " && cat /opt/voxfleet/sbom.cdx.json"
    )
    try:
        run = [buildah, "run", "--isolation", "chroot", container, "--", "sh", "-c", script]
        text = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run([buildah, "rm", container], check=True, capture_output=True)
    user, rest = text.split("\n", 1)
    assert user == "10001"
    assert rest.startswith("0" * 40)
    parts = {each["name"] for each in json.loads(rest[40:])["components"]}
    assert {"voxfleet", "pydicom", "highdicom", "psycopg"} <= parts
