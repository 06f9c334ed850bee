"""The compiled loops are those of the source, and their memory is theirs alone."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from voxfleet.enrich.features.kernel import COMPILED, Kernel

SOURCES = sorted(each for each in COMPILED.parent.iterdir() if each.suffix in {".c", ".h"})
SHA256 = hashlib.sha256(b"".join(each.read_bytes() for each in SOURCES)).hexdigest()
MAKEFILE = COMPILED.parents[2] / "Makefile"


def test_compiled_file_is_of_these_sources():
    """The compiled file names the SHA-256 of the sources beside it: `make kernel` was run after the last change."""
    assert SHA256.encode() in COMPILED.read_bytes()


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang, a C compiler from PyPI")
def test_compiled_file_can_be_made_again(tmp_path):
    """The same compiler makes the same bytes from the sources."""
    made = tmp_path / "kernel.wasm"
    flags = MAKEFILE.read_text().partition("ziglang cc ")[2].partition("-DSOURCE_SHA256")[0].replace("\\", " ").split()
    command = [sys.executable, "-m", "ziglang", "cc", *flags, f'-DSOURCE_SHA256="{SHA256}"', "-o", made]
    subprocess.run([*command, *(each for each in SOURCES if each.suffix == ".c")], check=True)
    assert made.read_bytes() == COMPILED.read_bytes()


def test_arrays_lie_side_by_side():
    """Arrays are aligned, filled, do not overlap, keep their content when memory grows, and can be given back."""
    kernel = Kernel()
    small = kernel.reserve("<i4", 3, 5, fill=0xFF)
    large = kernel.reserve(np.float64, 1000, 1000)
    assert small.address % 16 == large.address % 16 == 0
    assert large.address >= small.address + 60
    assert np.array_equal(kernel.view(small), np.full((3, 5), -1))
    assert not kernel.view(large).any()
    kernel.release(large)
    again = kernel.reserve(np.uint8, 7, fill=3)
    assert again.address == large.address
    assert kernel.view(again).tolist() == [3] * 7


def test_two_kernels_share_nothing():
    """What one writes the other does not see."""
    one, other = Kernel(), Kernel()
    block, same = one.reserve("<i4", 4), other.reserve("<i4", 4)
    one.view(block)[...] = 7
    assert block == same
    assert not other.view(same).any()


UNDER_A_LIMIT = """
import resource
import numpy as np
from voxfleet.enrich.features.kernel import Kernel
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
kernel = Kernel()
block = kernel.reserve(np.uint8, 300_000_000, fill=5)
assert kernel.view(block)[-1] == 5
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_limit_of_address_space_is_no_obstacle():
    """Where `ulimit -v` leaves less than WebAssembly's 4 GiB, memory is taken as it is needed."""
    subprocess.run([sys.executable, "-c", UNDER_A_LIMIT], check=True)
