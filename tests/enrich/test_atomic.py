"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from voxfleet.enrich.atomic import replacing, write_text


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A writer that dies half way leaves the old file and no temporary one."""
    path = tmp_path / "a.json"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_ends_well_replaces(tmp_path: Path) -> None:
    """The new file stands alone under its name, in a folder made for it."""
    path = tmp_path / "folder" / "a.nii.gz"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.name.endswith(".nii.gz")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
