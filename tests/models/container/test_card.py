"""The card of an image: every key of its block is checked before anything is run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import voxfleet
from voxfleet.models import catalogue
from voxfleet.models.card_file import InvalidCard


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


images = _module(Path(__file__).parents[1] / "container_images.py")
DIGEST = "ab" * 32
IMAGE = f"docker.io/mhubai/totalsegmentator@sha256:{DIGEST}"


def test_an_image_is_known_by_its_digest(tmp_path):
    """The digest stands on the card as its weights; where the card lies is no part of its name."""
    images.write_card(tmp_path, images.card_of(IMAGE))
    for place in (tmp_path, tmp_path / "card.yaml"):
        card = catalogue.card(f"container:{place}")
        assert (card.name, card.reference) == ("container:an-image", f"container:{place}")
        assert [(each.url, each.sha256) for each in card.weights] == [(f"docker://{IMAGE}", DIGEST)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "mhubai/totalsegmentator:latest"}, "container.image: .* is not NAME@sha256:DIGEST"),
        ({"input": "nrrd"}, "container.input: 'nrrd' is neither dicom nor nifti"),
        ({"output_kind": "seg", "labels": {"a": "liver", "b": "spleen"}}, "made from DICOM"),
        ({"input_file": "../image.nii"}, "container.input_file: a name is needed"),
        ({"input_file": "image.mha"}, "container.input_file: the name of a NIfTI file"),
        ({"output": "../*.nii"}, "no pattern below the output folder"),
        ({"output_folder": "out"}, "container.output_folder: an absolute path"),
        ({"image": f"--mount=type=bind,source=/,target=/host@sha256:{DIGEST}"}, "is not NAME@sha256:DIGEST"),
        ({"output_folder": "/out,source=/home"}, "container.output_folder: an absolute path of letters"),
        ({"output_folder": "/out,/home:/home:rw"}, "container.output_folder: an absolute path of letters"),
        ({"input_folder": "/data/in:rw"}, "container.input_folder: an absolute path of letters"),
        ({"output_folder": "/data/in/../in/out"}, "container.output_folder: an absolute path of letters"),
        ({"output_folder": "/"}, "container.output_folder: an absolute path of letters"),
        ({"output_folder": "/data/in/out"}, "lies in the input folder"),
        ({"labels": {1: "liver", 2: "lung"}}, "container.labels.2: 'lung' is no segment of the card"),
        ({"labels": {1: "liver"}}, "nothing stands for the segment 'spleen'"),
        ({"labels": {0: "liver", 1: "spleen"}}, "container.labels.0: a value above 0"),
        ({"labels": {"1": "liver", 2: "spleen"}}, "container.labels.1: a value above 0"),
        ({"engine": "rkt"}, "'rkt' is none of docker, podman, apptainer, buildah"),
        ({"user": "root"}, "container.user: 'root' is not 'image'"),
        ({"time_limit_s": 0}, "container.time_limit_s"),
        ({"time_limit": 5}, "container.time_limit: unknown key"),
    ],
)
def test_a_block_that_is_wrong(tmp_path, change, message):
    """The key is named."""
    name = images.write_card(tmp_path, images.card_of(**{"image": IMAGE, **change}))
    with pytest.raises(InvalidCard, match=message):
        catalogue.card(name)


@pytest.mark.parametrize("key", ["weights", "parameters"])
def test_what_an_image_does_not_have(tmp_path, key):
    """Weights and parameters of an image are in it."""
    content = {"weights": [{"url": "a", "sha256": "b"}], "parameters": {"a": "1"}}
    name = images.write_card(tmp_path, {**images.card_of(IMAGE), key: content[key]})
    with pytest.raises(InvalidCard, match=f"{key}: an image has none"):
        catalogue.card(name)


def test_a_card_without_a_block(tmp_path):
    """A card of another family is told as such."""
    card = images.card_of(IMAGE)
    del card["container"]
    with pytest.raises(InvalidCard, match="container: missing key"):
        catalogue.card(images.write_card(tmp_path, card))


def test_the_card_of_the_documentation(tmp_path):
    """The example of models/MODELS.md is a card."""
    text = (Path(voxfleet.__file__).parent / "models" / "MODELS.md").read_text()
    (tmp_path / "card.yaml").write_text(text.split("```yaml")[1].split("```")[0])
    assert catalogue.card(f"container:{tmp_path}").name == "container:mhub-totalsegmentator"
