"""What one stage may take of a node: its machine's memory, its container's where that is less, its GPU's."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from voxfleet.runners import node_memory
from voxfleet.runners.node_memory import NodeMemory, classes, gpu_bytes, stage_bytes

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of control groups of its own, and a machine of 64 GiB."""
    monkeypatch.setattr(node_memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(node_memory, "_OWN_GROUPS", tmp_path / "own")
    total = type("Memory", (), {"total": 64 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)
    return tmp_path


def limit(groups: Path, name: str, text: str) -> None:
    """Write the limit of a group."""
    (groups / name).parent.mkdir(parents=True, exist_ok=True)
    (groups / name).write_text(f"{text}\n")


def test_without_a_limit_it_is_six_tenths_of_the_machine(groups: Path) -> None:
    """Also where there are no control groups at all, or none sets a limit."""
    assert stage_bytes() == int(0.6 * 64 * GIB)
    (groups / "own").write_text("0::/user.slice\n")
    limit(groups, "user.slice/memory.max", "max")
    assert stage_bytes() == int(0.6 * 64 * GIB)


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("0::/", "memory.max"),
        ("0::/kubepods/pod1/container", "kubepods/pod1/memory.max"),
        ("4:memory:/docker/1f\n0::/", "memory/docker/1f/memory.limit_in_bytes"),
        ("4:cpu,memory:/not/seen/from/here\n", "memory/memory.limit_in_bytes"),
    ],
)
def test_a_containers_limit_rules(groups: Path, own: str, name: str) -> None:
    """A pod of 16 GiB on a machine of 64: by version 2 and 1 of control groups, its own or one above it."""
    (groups / "own").write_text(own)
    limit(groups, name, str(16 * GIB))
    assert stage_bytes() == int(0.6 * 16 * GIB)


def test_limits_above_the_machine_do_not_count(groups: Path) -> None:
    """Version 1 writes 2^63 less a page where there is none; another group's limit is not ours."""
    (groups / "own").write_text("4:memory:/a\n3:cpuset:/b\n")
    limit(groups, "memory/a/memory.limit_in_bytes", str(2**63 - 4096))
    limit(groups, "memory/b/memory.limit_in_bytes", str(GIB))
    assert stage_bytes() == int(0.6 * 64 * GIB)


def test_a_stage_may_always_take_two_gib(groups: Path) -> None:
    """On however small a machine."""
    (groups / "own").write_text("0::/")
    limit(groups, "memory.max", str(GIB))
    assert stage_bytes() == 2 * GIB


@pytest.mark.parametrize(
    ("devices", "says", "expected"),
    [
        (["cuda:0"], "echo 143771", 143771 * 2**20),
        (["cpu", "cuda:1"], "printf '24564\\n15360\\n'", 15360 * 2**20),
        (["cpu"], "echo 143771", 0),
        (["cuda:0"], "echo '[N/A]'", 0),
        (["cuda:0"], "exit 9", 0),
    ],
)
def test_a_gpus_memory_is_what_its_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: list[str], says: str, expected: int
) -> None:
    """In MiB, as nvidia-smi prints it; of several GPUs the smallest; 0 where it is not known or not used."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu_bytes(devices) == expected


def test_more_is_less_of_neither() -> None:
    """More of one and as much of the other is more; more of one and less of the other is not, nor is the same."""
    small, host, gpu = NodeMemory(8 * GIB), NodeMemory(64 * GIB), NodeMemory(8 * GIB, 24 * GIB)
    assert host.more_than(small)
    assert gpu.more_than(small)
    assert not small.more_than(small)
    assert not host.more_than(gpu)
    assert not gpu.more_than(host)
    assert not NodeMemory(small.host_bytes + 2**26, small.gpu_bytes).more_than(small), "another machine of its type"
    assert (str(small), str(gpu)) == ("8.0 GiB for a stage", "8.0 GiB for a stage and 24.0 GiB of GPU")


def test_a_class_is_what_differs_by_less_than_five_per_cent() -> None:
    """Two types of GPUs on hosts alike are two classes, however the hosts' sizes come; a class is its least node's."""
    nodes = [NodeMemory(1000 + n, gpu) for n in (0, 20, 49) for gpu in (16_000 - n, 24_000)]
    found = classes(nodes)
    assert {found[node] for node in nodes} == {NodeMemory(1000, 15_951), NodeMemory(1000, 24_000)}
    assert classes([NodeMemory(1000), NodeMemory(1049), NodeMemory(1060)]) == {
        NodeMemory(1000): NodeMemory(1000),
        NodeMemory(1049): NodeMemory(1000),
        NodeMemory(1060): NodeMemory(1060),
    }
    assert classes([]) == {}


@given(st.lists(st.builds(NodeMemory, st.integers(0, 300), st.sampled_from([0, 100, 103, 200])), max_size=12))
def test_a_class_fits_on_each_of_its_nodes(nodes: list[NodeMemory]) -> None:
    """None has less than its class, and none 5 % more."""
    for node, least in classes(nodes).items():
        assert least.host_bytes <= node.host_bytes
        assert least.gpu_bytes <= node.gpu_bytes
        assert not node.more_than(least)
