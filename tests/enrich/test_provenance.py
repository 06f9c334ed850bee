"""Activities, and the PROV-JSON that says all they say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDocument
from voxfleet import __version__
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series
from voxfleet.enrich.prov_json import member_of, published, run_prov, to_prov, without_secrets
from voxfleet.enrich.provenance import Activity, CostStatement, InvalidActivity, Machine, RunActivity
from voxfleet.enrich.series import Instance
from voxfleet.models import catalogue
from voxfleet.models.model import Weights

STARTED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
OUT = "dir:/data/out/1.2.3"
PATIENT_ID = "PHANTOM-Doe Jane 19610204"


@dataclass(frozen=True)
class Use:
    """A stage's consumption, as another folder would define it."""

    stage: str = "segment"
    started: float = STARTED.timestamp() + 1.5
    wall_s: float = 12.345678901234
    cpu_s: float = 20.1
    gpu_s: float = 0.0
    peak_bytes: int = 2_345_678_901
    bytes_in: int = 7
    bytes_out: int = 8


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    """Files of a small series whose patient, and whose folder, has a name."""
    folder = tmp_path_factory.mktemp("data") / "Doe_Jane"
    volume = chest_phantom((3, 16, 16), (60.0, 24.0, 24.0), seed=1).volume
    paths = write_ct_series(volume, folder, identity=replace(CtIdentity.named("x"), patient_id=PATIENT_ID))
    assert PATIENT_ID.encode() in paths[0].read_bytes()
    return tuple(
        Instance("1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{k}", hashlib.sha256(path.read_bytes()).hexdigest(), 99, path)
        for k, path in enumerate(paths)
    )


@pytest.fixture
def activity(instances: tuple[Instance, ...]) -> Activity:
    """An activity with something in every field."""
    weights = (Weights("https://zenodo.org/records/1/files/w.zip?token=SECRET", "a" * 64), Weights("file:w2", "b" * 64))
    return Activity(
        key="c" * 64,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.4",
        modality="CT",
        source="https://user:SECRET@pacs.example:8042/dicom-web?access_token=SECRET",
        used=instances,
        card=replace(catalogue.card("covid-opacity-hu"), weights=weights),
        parameters={"ground_glass_hu": "-700", "smallest_ml": "0.3"},
        settings={"segmentation_type": "BINARY", "repair": "true"},
        software={"voxfleet": "0.1.0", "numpy": "2.4.6"},
        git_commit="61f4d81428261370b70e82620a60a391f737a1bf-dirty",
        machine=Machine(
            "node-3", "Linux 6.1", "AMD EPYC 7R13", 2, 2**34, ("NVIDIA L4, 23034 MiB", "NVIDIA L4, 23034 MiB")
        ),
        started=STARTED,
        ended=STARTED + timedelta(seconds=60, microseconds=1),
        stages=(Use("read"), Use("segment"), Use("segment")),
        generated=(
            StoredObject(
                "1.2.840.10008.5.1.4.1.1.66.4", "2.25.1", "2.25.2", f"{OUT}/2.25.2/2.25.1.dcm", "d" * 64, 1000
            ),
            StoredObject(
                "1.2.840.10008.5.1.4.1.1.88.34", "2.25.3", "2.25.4", f"{OUT}/2.25.4/2.25.3.dcm", "e" * 64, 2, True
            ),
        ),
        repairs=("gantry tilt of 12.5 degrees resampled",),
        failed_features=("segment 3 shape_Sphericity: one voxel",),
        cost=CostStatement(Decimal("0.0012345"), "AWS price list", "2026-02-09"),
    )


def values(node: Any) -> set[str]:
    """All keys and scalar values of a JSON document, as text."""
    if isinstance(node, dict):
        return set(node) | {text for value in node.values() for text in values(value)}
    if isinstance(node, list):
        return {text for value in node for text in values(value)}
    return {str(node)}


def records(text: str) -> dict[str, Any]:
    """A PROV-JSON document without the numbers of its relations, which every writing gives anew."""
    document = json.loads(text)
    return {
        kind: content
        if any(not name.startswith("_:") for name in content)
        else sorted(json.dumps(value, sort_keys=True) for value in content.values())
        for kind, content in document.items()
    }


def read_back(text: str) -> str:
    """What the prov library writes of a document that it has read."""
    written: str = ProvDocument.deserialize(content=text, format="json").serialize(format="json")
    return written


def test_prov_reads_back_equal(activity: Activity) -> None:
    """The prov library reads the document, and writes the same records again."""
    text = to_prov(activity)
    assert records(read_back(text)) == records(text)
    assert ProvDocument.deserialize(content=read_back(text), format="json") == ProvDocument.deserialize(
        content=text, format="json"
    )


def test_every_fact_is_in_the_document(activity: Activity) -> None:
    """Source digests, model, weights, parameters, versions, machine, times, consumption, cost: nothing is lost."""
    said = values(json.loads(to_prov(activity)))
    card, machine = activity.card, activity.machine
    expected = {instance.sha256 for instance in activity.used}
    expected |= {f"uid:{instance.sop_instance_uid}" for instance in activity.used}
    expected |= {f"uid:{stored.sop_instance_uid}" for stored in activity.generated}
    expected |= {stored.sha256 for stored in activity.generated} | {
        "dir:1.2.3/2.25.2/2.25.1.dcm",
        "dir:1.2.3/2.25.4/2.25.3.dcm",
    }
    expected |= {weights.sha256 for weights in card.weights} | {card.weights_sha256, card.name, card.version}
    expected |= {*card.citations, card.intended_use, card.code_licence, card.weights_licence}
    expected |= {*activity.parameters.values(), *activity.settings.values(), *activity.software.values()}
    expected |= {"vf:parameter.ground_glass_hu", "vf:package.numpy", "vf:setting.repair"}
    expected |= {machine.os, machine.cpu_model, str(machine.memory_bytes), *machine.gpus, "node:node-3"}
    expected |= {*activity.repairs, *activity.failed_features, str(activity.git_commit), activity.modality}
    expected |= {"0.0012345", "AWS price list", "2026-02-09", "12.345678901234", "2345678901"}
    expected |= {"2026-03-01T12:00:00.250000+00:00", "2026-03-01T12:01:00.250001+00:00"}
    expected |= {"https://pacs.example:8042/dicom-web", "https://zenodo.org/records/1/files/w.zip"}
    assert expected - said == set()


def test_relations_are_those_of_prov(activity: Activity) -> None:
    """Series used, SEG from the series, SR from the SEG, model with the workitem as its plan, three stages started."""
    document = json.loads(to_prov(activity))
    done = next(name for name, facts in document["activity"].items() if "prov:location" in facts)
    derived = {(d["prov:generatedEntity"], d["prov:usedEntity"]) for d in document["wasDerivedFrom"].values()}
    assert derived == {("uid:2.25.1", "uid:1.2.4"), ("uid:2.25.3", "uid:2.25.1")}
    used = {use["prov:entity"] for use in document["used"].values()}
    assert used == {"uid:1.2.4", f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"}
    plans = {a["prov:agent"]: a.get("prov:plan") for a in document["wasAssociatedWith"].values()}
    assert plans == {"model:covid-opacity-hu-1.0": f"work:{'c' * 64}", f"vf:voxfleet-{__version__}": None}
    assert {member["prov:entity"] for member in document["hadMember"].values()} == {f"uid:1.2.3.{k}" for k in range(3)}
    assert {generation["prov:activity"] for generation in document["wasGeneratedBy"].values()} == {done}
    assert [start["prov:starter"] for start in document["wasStartedBy"].values()] == [done] * 3


def test_no_patient_and_no_secret(activity: Activity, instances: tuple[Instance, ...]) -> None:
    """Nothing of the patient, of the files' folder, of a password or a signed URL is in the document."""
    text = to_prov(activity)
    assert "Doe_Jane" in str(instances[0].path)
    for word in ("Doe", "Jane", "19610204", "SECRET", "user:"):
        assert word not in text


def test_hostile_identifiers_survive(activity: Activity) -> None:
    """A GUID, spaces or an empty string as UID give a document that still reads back equal."""
    first = replace(activity.used[0], sop_instance_uid="{A1B2-C3 D4}:é")
    hostile = replace(activity, used=(first, replace(first, sop_instance_uid="")))
    text = to_prov(hostile)
    assert records(read_back(text)) == records(text)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("dir:/data/ct", "dir:/data/ct"),
        ("https://me:pw@host:1/a/b?x=1#f", "https://host:1/a/b"),
        ("s3://bucket/key?X-Amz-Signature=1", "s3://bucket/key"),
        ("dicomweb+https://t@host/wado", "dicomweb+https://host/wado"),
        ("dimse://NODE@pacs:104?aet=WARD7", "dimse://NODE@pacs:104?aet=WARD7"),
    ],
)
def test_uris_are_told_without_secrets(uri: str, told: str) -> None:
    """User, password, query and fragment are left out; the rest stays, and of a DICOM node its title and ours."""
    assert without_secrets(uri) == told


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("dir:/home/jane.doe/trial 7/ct", "dir:ct"),
        ("dir:/home/jane.doe/trial 7/ct.zip", "dir:ct.zip"),
        ("s3://bucket/home/jane", "s3://bucket/home/jane"),
        ("idc:nlst@25.0.5", "idc:nlst@25.0.5"),
    ],
)
def test_no_document_tells_where_a_folder_lies(activity: Activity, uri: str, told: str) -> None:
    """Of a folder or packed file as archive only the name is told, and of its objects where they lie below it."""
    assert published(uri) == told
    text = to_prov(replace(activity, source=uri))
    assert told in values(json.loads(text))
    assert "jane.doe" not in text
    assert "/data/out" not in text


def test_times_must_be_aware_and_in_order(activity: Activity) -> None:
    """An activity without a time zone, or that ends before it starts, cannot be made."""
    with pytest.raises(InvalidActivity, match="time zone"):
        replace(activity, started=STARTED.replace(tzinfo=None))
    with pytest.raises(InvalidActivity, match="before it started"):
        replace(activity, ended=STARTED - timedelta(seconds=1))


def test_times_of_other_zones_name_the_same_activity(activity: Activity) -> None:
    """The activity is named by its start in UTC, whatever zone it was told in."""
    east = timezone(timedelta(hours=2))
    names = [
        set(json.loads(to_prov(each))["activity"])
        for each in (activity, replace(activity, started=STARTED.astimezone(east)))
    ]
    assert names[0] == names[1]


def test_run_names_every_result_with_its_digest(tmp_path: Path, activity: Activity) -> None:
    """The run's document lists the provenance file of each series with the digest that sha256sum gives."""
    file = tmp_path / "series" / "1.2.4" / "provenance.json"
    file.parent.mkdir(parents=True)
    file.write_text(to_prov(activity))
    run = RunActivity(
        name="lung run",
        source="dir:/data/in",
        target="dir:/data/out",
        models=("covid-opacity-hu 1.0",),
        parameters={"covid-opacity-hu.smallest_ml": "0.3"},
        software={"numpy": "2.4.6"},
        git_commit=None,
        started=STARTED,
        ended=STARTED + timedelta(hours=1),
        totals={"completed": 1, "refused": 2},
        members=(member_of(file, tmp_path, "1.2.4", "covid-opacity-hu 1.0"),),
    )
    text = run_prov(run)
    document = json.loads(text)
    result = document["entity"]["file:series/1.2.4/provenance.json"]
    assert result["vf:sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert document["activity"]["run:lung%20run"]["vf:series_refused"]["$"] == "2"
    plan = document["entity"]["run:lung%20run-plan"]
    assert (plan["vf:source"], plan["vf:target"]) == ("dir:in", "dir:out")
    assert records(read_back(text)) == records(text)
