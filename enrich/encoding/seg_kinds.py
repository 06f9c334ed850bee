"""The kinds of SEG that are written, by the names under which a workitem asks for them."""

from __future__ import annotations

BINARY, LABELMAP = "BINARY", "LABELMAP"
BINARY_DEFLATED = "BINARY_DEFLATED"
"""Segmentation Type BINARY in the transfer syntax Deflated Explicit VR Little Endian: a hundredth of the size."""
SEG_KINDS = (BINARY, BINARY_DEFLATED, LABELMAP)
