/* Cells of 2 x 2 x 2 voxels: corner patterns and mesh vertices of all segments at once. */

#include "kernel.h"

#include <wasm_simd128.h>

enum { CORNERS = 8 };

/* What the triangles of each corner pattern add to a volume when the cell moves one voxel along k, j, i. */
typedef int32_t Flux[3];

INLINE void add_end(Ends *ends, int32_t at) {
    if (ends->low < 0) ends->low = at;
    ends->high = at;
}

/* Vertices of a line come in ascending order. */
INLINE void add_vertex(Surface *surface, int32_t k, int32_t j, int32_t i) {
    k -= surface->origin[0];
    j -= surface->origin[1];
    i -= surface->origin[2];
    add_end(&surface->along_i[k * surface->rows + j], i);
    add_end(&surface->along_j[k * surface->columns + i], j);
}

/* The vertex at (k, j, i) in half voxels, between voxels of numbers a and b. */
INLINE void add_edge(Surface *surfaces, uint32_t a, uint32_t b, int32_t k, int32_t j, int32_t i) {
    if (a == b) return;
    if (a) add_vertex(&surfaces[a], k, j, i);
    if (b) add_vertex(&surfaces[b], k, j, i);
}

/* One cell: the vertices on the three edges at its first corner (k, j, i), and the pattern of each of its numbers. */
INLINE void add_cell(Surface *surfaces, const Flux *flux, v128_t numbers, int32_t k, int32_t j, int32_t i) {
    uint16_t corner[CORNERS];
    wasm_v128_store(corner, numbers);
    add_edge(surfaces, corner[0], corner[1], 2 * k, 2 * j, 2 * i + 1);
    add_edge(surfaces, corner[0], corner[2], 2 * k, 2 * j + 1, 2 * i);
    add_edge(surfaces, corner[0], corner[4], 2 * k + 1, 2 * j, 2 * i);
    for (uint32_t done = 0; done != PATTERNS - 1;) {
        const uint16_t number = corner[__builtin_ctz(~done)];
        const uint32_t pattern = wasm_i16x8_bitmask(wasm_i16x8_eq(numbers, wasm_i16x8_splat((int16_t)number)));
        done |= pattern;
        Surface *surface = &surfaces[number]; /* that of 0 is there, and nobody reads it */
        surface->patterns[pattern]++;
        surface->flux += (int64_t)k * flux[pattern][0] + (int64_t)j * flux[pattern][1] + (int64_t)i * flux[pattern][2];
    }
}

/* Numbers at the corners of a cell in the order of (k, j, i), from the pairs that begin at a, b, c, d. */
INLINE v128_t corners_at(Voxels a, Voxels b, Voxels c, Voxels d, int32_t bytes) {
    v128_t pairs;
    if (bytes == 1) {
        pairs = wasm_v128_load16_lane(a, wasm_i64x2_const(0, 0), 0);
        pairs = wasm_v128_load16_lane(b, pairs, 1);
        pairs = wasm_v128_load16_lane(c, pairs, 2);
        return wasm_u16x8_extend_low_u8x16(wasm_v128_load16_lane(d, pairs, 3));
    }
    pairs = wasm_v128_load32_zero(a);
    pairs = wasm_v128_load32_lane(b, pairs, 1);
    pairs = wasm_v128_load32_lane(c, pairs, 2);
    return wasm_v128_load32_lane(d, pairs, 3);
}

/* Which of the next 16 bytes of cells hold different numbers, one bit a cell. */
INLINE uint32_t mixed_cells(Voxels a, Voxels b, Voxels c, Voxels d, int32_t bytes) {
    const v128_t one = wasm_v128_load(a);
    v128_t differs = wasm_v128_xor(one, wasm_v128_load(a + bytes));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(b)));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(b + bytes)));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(c)));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(c + bytes)));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(d)));
    differs = wasm_v128_or(differs, wasm_v128_xor(one, wasm_v128_load(d + bytes)));
    if (!wasm_v128_any_true(differs)) return 0;
    const v128_t zero = wasm_i64x2_const(0, 0);
    return bytes == 1 ? wasm_i8x16_bitmask(wasm_i8x16_ne(differs, zero))
                      : wasm_i16x8_bitmask(wasm_i16x8_ne(differs, zero));
}

INLINE void cells(Voxels labels, int32_t first_slice, int32_t depth, int32_t rows, int32_t columns, Surface *surfaces,
                  const Flux *flux, int32_t bytes) {
    const int64_t pitch = (int64_t)columns * bytes, plane = rows * pitch;
    const int32_t lanes = 16 / bytes;
    for (int32_t k = 0; k < depth; k++)
        for (int32_t j = 0; j < rows - 1; j++) {
            Voxels a = labels + k * plane + j * pitch, b = a + pitch, c = a + plane, d = c + pitch;
            for (int32_t start = 0; start < columns - 1; start += lanes) {
                const int32_t left = columns - 1 - start, skip = start * bytes;
                uint32_t mixed = mixed_cells(a + skip, b + skip, c + skip, d + skip, bytes);
                if (left < lanes) mixed &= (1u << left) - 1;
                for (; mixed; mixed &= mixed - 1) {
                    const int32_t i = start + __builtin_ctz(mixed), at = i * bytes;
                    const v128_t numbers = corners_at(a + at, b + at, c + at, d + at, bytes);
                    add_cell(surfaces, flux, numbers, first_slice + k, j, i);
                }
            }
        }
}

/* Add the cells of some slices and the one after them to the surfaces. The label map is padded with 0 all round, and
32 bytes after its end can be read. */
EXPORT void add_cells(Voxels labels, int32_t bytes, int32_t first_slice, int32_t depth, int32_t rows, int32_t columns,
                      Surface *surfaces, const Flux *flux) {
    if (bytes == 1) cells(labels, first_slice, depth, rows, columns, surfaces, flux, 1);
    else cells(labels, first_slice, depth, rows, columns, surfaces, flux, 2);
}
