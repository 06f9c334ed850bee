"""Kinds of agents: which models each takes, and for which nodes they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.cluster.drivers.kinds import CPU_RESOURCE, Choice, Kind, kinds_of, wants_of
from voxfleet.cluster.kubernetes.cell import BadCell
from voxfleet.models import catalogue
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import StageSettings

NET, RULE, OTHER = (catalogue.card(name) for name in ("totalsegmentator:total", "ct-threshold", "covid-opacity-hu"))
ON_GPU = PipelineSettings(StageSettings(Path("s"), Path("r"), "n"), devices=("cuda:0",))


def test_one_kind_takes_all() -> None:
    """Without agents beside them; a GPU is reserved for each of its devices."""
    (kind,) = kinds_of(ON_GPU, 3, 0, [NET, RULE])
    assert (kind.number, kind.depth, kind.settings, kind.gpus) == (3, ON_GPU.depth, ON_GPU, 1)
    assert kind.choices == (Choice(),)


def test_networks_are_for_gpus_and_rules_for_both() -> None:
    """By the cards; agents without GPUs have no device of that kind, and a place on a machine of theirs."""
    gpu, cpu = kinds_of(ON_GPU, 3, 2, [RULE, NET, OTHER])
    others = Choice(("ct-threshold", "covid-opacity-hu"), gpu=False)
    assert (gpu.number, gpu.gpus, gpu.choices) == (3, 1, (Choice(("totalsegmentator:total",)), others))
    assert (cpu.number, cpu.gpus, cpu.choices) == (2, 0, (others,))
    assert dict(cpu.resources) == {CPU_RESOURCE: 1}
    assert isinstance(cpu.settings, PipelineSettings)
    assert cpu.settings.devices == ("cpu",)
    assert gpu.settings == ON_GPU


@pytest.mark.parametrize(
    ("devices", "cards", "reason"),
    [
        (("cuda:0",), [RULE, OTHER], "no model of the run needs a GPU.*give --workers alone"),
        (("cuda:0",), [NET], "every model of the run needs a GPU: leave --cpu-workers out"),
        (("cpu",), [NET, RULE], "need --device cuda:0"),
    ],
)
def test_machines_with_nothing_to_do_are_refused(devices: tuple[str, ...], cards: list, reason: str) -> None:
    """No model for one of the kinds, or no GPU at all."""
    with pytest.raises(BadCell, match=reason):
        kinds_of(PipelineSettings(ON_GPU.stages, devices=devices), 1, 1, cards)


def test_where_no_gpu_matters_nodes_are_alike() -> None:
    """Two GPUs are two classes for networks; for the rest their hosts and one without are one, at the least of them."""
    rules = Choice(("rule",), gpu=False)
    gpu, cpu = Kind(2, choices=(Choice(("net",)), rules)), Kind(1, choices=(rules,))
    wants = wants_of([(gpu, NodeMemory(1000, 16)), (gpu, NodeMemory(1010, 24)), (cpu, NodeMemory(1005))])
    rest = (NodeMemory(1000), ("rule",))
    assert wants == [
        ((NodeMemory(1000, 16), ("net",)), rest),
        ((NodeMemory(1010, 24), ("net",)), rest),
        (rest,),
    ]
