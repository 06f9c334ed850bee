/* What the loops over label maps share.

They are compiled ahead of time to WebAssembly (kernel.wasm, by `make kernel`), which kernel.py runs. Freestanding: no
library and no allocation, the caller gives every array. Sums are of whole numbers, so that they do not depend on the
order of slabs, and floats round alike on every machine.

Voxels are (k, j, i) = (slice, row, column), unsigned of 1 or 2 bytes; number 0 is no segment. A mesh vertex lies
halfway between two neighbouring voxels that differ, so that vertices lie on lines of a grid of half voxels. */

#pragma once

#include <stdint.h>

#define EXPORT __attribute__((used, visibility("default")))
#define INLINE static inline __attribute__((always_inline))

enum { PATTERNS = 256 };

typedef const uint8_t *Voxels;

/* First and last vertex of a line, in half voxels from the bounding box; low is -1 where there is none. */
typedef struct {
    int32_t low;
    int32_t high;
} Ends;

/* Mesh of one segment: cells of each corner pattern, their flux, and the lines of its vertices over its box, whose
first half voxel is the origin. Only the ends of a line can be far from each other. */
typedef struct {
    int64_t flux;
    int32_t origin[3];
    int32_t planes;
    int32_t rows;
    int32_t columns;
    Ends *along_i; /* planes x rows */
    Ends *along_j; /* planes x columns */
    int32_t patterns[PATTERNS];
} Surface;
