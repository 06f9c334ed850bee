"""Triangles that marching cubes lays into a cell, as pyradiomics lays them.

A cell is a cube of 2 x 2 x 2 voxel centres. Which of its eight corners lie in a segment
decides its triangles, whose vertices lie halfway along the cube's edges. Area and
volume are sums over triangles, so that a count of the 256 corner patterns and these
tables stand for the whole mesh (Lorensen and Cline, SIGGRAPH 1987, doi 10.1145/37401.37422).

The table holds facts about pyradiomics' mesh (3.1.4, BSD 3-clause), taken from the triangle
table in its compiled ``radiomics.cShape``: for each pattern the determinant and the normals
of its triangles. A test compares each pattern's area and volume with the library's. The
mesh is not closed everywhere, so its volume depends on the origin, which is one voxel below
the bounding box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CORNERS = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
"""Corners (k, j, i) of a cell, in the order of their bits in a pattern."""
_BIT_IN_TABLE = (0, 1, 3, 2, 4, 5, 7, 6)
"""Bit of each of these corners in the patterns of the table below, which go round each face."""
PATTERNS = 256
LARGEST_TRIANGLE_COUNT = 5

_TRIANGLES = """
0 1fff -1ffd 4ggegge -3fdd -2ffffdd -4gecgec 7ffdggciee -1fdf 4geggeg -2ffdfdf 13fffgggiee -4gcegce 7fdfgcgiee
1fddgcciee 8ieeiee -1dff 4eggegg -2ffddff 13fffgggeie -4fdddff 1eggeggfdd -5gecgecdff 12gechhhegcfff -2dfffdf
13fffgggeei -3ffddfffdf 18fffggggggfff -5gcegcedff 12gcehhhecgfff 0dfffddgcciee 13fffgggiee -3dfd -2dfdfff
-4egcegc 7ffdggceie -6fdddfd -5ffffdddfd -1ffdggceea 6ffdggcggcffd -4dfdfdf 1geggegdfd -5egcegcfdf
12egghhbgegffd -7gcegcedfd 4dfdfdfgcgiee 0egchbbggefdd 7ffdggciee -4cgecge 7dffcggeie 1dfdcgceie 8eieeie
-7cgecgefdd 4fdddffcggeie 0cechhbcgeffd 7ffdggceie -5cgecgefdf 12cgehhhcegfff 0fdfdfdcgceie 13fffgggeie
-8cgecgegcegce 5ciedffffhfdfice -5icefddffbdfdcie 12ggegge -5ddd -4fffddd -6ffdddd -1ggeggeddd -12eccecc
-11ecceccfff -7fddgcceea 0gcehhbeccffd -6fdfddd -1geggegddd -7ffdfdfddd 8fffgggieeddd -7fddgcceae 0geghbbecgfdd
-6fddgccgccfdd 1fddgcciee -6dffddd -1eggeggddd -7ffddffddd 8fffgggeieddd -13dffeccecc -8eggeggeccecc
-8dfffddgcceea -1eigfffhfdfddeca -7fdfdffddd 8fffgggeeiddd -8ffdfdfdffddd 13fffggggggfffddd -8dfffddgcceae
-1eacfddhdffffegi -7dfffddgccgccfdd 6fddgccfffggg -12ceccec -11ceccecfff -7dfdcgceea 0ggebhbgecdfd -13dddccceea
-12dddccceeafff -8eeaeea -1ffdggceea -13fdfceccec -8geggegceccec -8fdfdfdcgceea -1ceadfdfhdfffieg
-12cechbbccefdd -11iegfdffbddddcea -7fddgcceea 4gecgec -7dfdcgcaee 0dfdbhbcegegg -6dfdcgccgcdfd 1dfdcgceie
-12eccbhbccedfd -11ecadddbfddffeig -7dfdcgceea 4egcegc -8fdfdfdcgcaee -1geifffdhfdfdaec -7dfdcgccgcdfdfdf
6fffgggdfdcgc -17agedfdddbfddgae 4ddfffd -6dfdcgcfddgcc 3ffd
"""
"""Patterns 0 to 127, the others being their complements turned inside out. Of each: the
sum over its triangles of the determinant of the vertices in half voxels, then three letters
for each triangle's normal (k, j, i) in quarter voxels squared, ``e`` standing for 0."""


@dataclass(frozen=True, slots=True, eq=False)
class MeshTable:
    """Facts about each corner pattern.

    Attributes
    ----------
    determinants : ndarray of int64, shape (256,)
        Six times the signed volume under the pattern's triangles seen from the cell's first
        corner, in eighths of a voxel.
    flux : ndarray of int64, shape (256, 3)
        Sum of the triangles' normals (k, j, i), in quarters: what the volume grows by
        when the cell moves one voxel along the axis.
    normals : ndarray of int64, shape (256, 5, 3)
        Of each triangle, in quarters; 0 where there is none.
    """

    determinants: NDArray[np.int64]
    flux: NDArray[np.int64]
    normals: NDArray[np.int64]

    def areas_mm2(self, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        """Area of each pattern's triangles, shape (256,), for a spacing (k, j, i)."""
        k, j, i = spacing_mm
        stretched = self.normals / 4 * np.array([j * i, k * i, k * j])
        areas: NDArray[np.float64] = np.linalg.norm(stretched, axis=2).sum(axis=1) / 2
        return areas


@cache
def mesh_table() -> MeshTable:
    """The table above, decoded, with complements."""
    determinants = np.zeros(PATTERNS, np.int64)
    normals = np.zeros((PATTERNS, LARGEST_TRIANGLE_COUNT, 3), np.int64)
    for pattern, word in enumerate(_TRIANGLES.split()):
        digits = word.rstrip("abcdefghi")
        letters = [ord(letter) - ord("e") for letter in word[len(digits) :]]
        triangles = np.array(letters, np.int64).reshape(-1, 3)
        determinants[pattern] = int(digits)
        normals[pattern, : len(triangles)] = triangles
    determinants[PATTERNS // 2 :] = -determinants[: PATTERNS // 2][::-1]
    normals[PATTERNS // 2 :] = -normals[: PATTERNS // 2][::-1]
    order = [sum((pattern >> bit & 1) << to for bit, to in enumerate(_BIT_IN_TABLE)) for pattern in range(PATTERNS)]
    return MeshTable(determinants[order], normals.sum(axis=1)[order], normals[order])
