"""JPEG Lossless decoded by libjpeg-turbo, held against dcmtk's encoder and other decoders."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLossless, JPEGLosslessSV1
from voxfleet.enrich.reading.pixels import decode_frames, open_image

from ..conftest import WriteCt

HEIGHTS = [(0.0, 0.0, 2.0 * k) for k in range(4)]


@pytest.fixture
def dcmcjpeg() -> str:
    """Give dcmtk's JPEG encoder."""
    program = shutil.which("dcmcjpeg")
    if program is None:
        pytest.skip("dcmcjpeg is not there: apt-get install dcmtk")
    return program


@pytest.mark.parametrize("stored", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("options", [["+e1"], ["+el", "+sv", "1"], ["+el", "+sv", "4"], ["+el", "+sv", "7"]])
def test_dcmtk_streams(dcmcjpeg: str, write_ct: WriteCt, stored: int, signed: bool, options: list[str]) -> None:
    """Every stored value that dcmtk compressed comes back, whatever predictor, depth and sign."""
    low, high = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    kind = np.int16 if signed else np.uint16
    values = np.random.default_rng(stored).integers(low, high, (4, 33, 21)).astype(kind)
    for plane, path in zip(
        values, write_ct(values, HEIGHTS, changes={"BitsStored": stored, "HighBit": stored - 1}), strict=True
    ):
        compressed = path.with_suffix(".jpg.dcm")
        subprocess.run([dcmcjpeg, *options, path, compressed], check=True, timeout=60)
        assert dcmread(compressed).file_meta.TransferSyntaxUID in (JPEGLossless, JPEGLosslessSV1)
        (decoded,) = decode_frames(open_image(compressed, "1.2", "1.2.3"))
        assert decoded.dtype == plane.dtype
        np.testing.assert_array_equal(decoded, plane)
