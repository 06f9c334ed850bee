/* Runs of equal numbers along the rows: voxel sums, bounding boxes and counts of values, of all numbers at once. */

#include "kernel.h"

/* The SHA-256 of all sources, in a section of the compiled file: a test holds the two together. */
__asm__(".section .custom_section.source,\"\",@\n.ascii \"" SOURCE_SHA256 "\"\n");

enum { MOMENTS = 10 };

/* Of one number: sums over its voxels of 1, k, j, i, kk, jj, ii, kj, ki, ji, and their bounding box. */
typedef struct {
    int64_t moments[MOMENTS];
    int32_t first[3];
    int32_t last[3];
} Region;

INLINE uint32_t voxel(Voxels row, int32_t i, int32_t bytes) {
    return bytes == 1 ? row[i] : ((const uint16_t *)row)[i];
}

INLINE int32_t run_end(Voxels row, int32_t i, int32_t columns, uint32_t number, int32_t bytes) {
    const int32_t lanes = 8 / bytes;
    const uint64_t same = number * (bytes == 1 ? 0x0101010101010101ull : 0x0001000100010001ull);
    for (; i + lanes <= columns; i += lanes) {
        uint64_t word;
        __builtin_memcpy(&word, row + (int64_t)i * bytes, sizeof word);
        if (word != same) return i + __builtin_ctzll(word ^ same) / (8 * bytes);
    }
    while (i < columns && voxel(row, i, bytes) == number) i++;
    return i;
}

INLINE void widen(Region *region, int32_t k, int32_t j, int32_t i, int32_t last) {
    if (j < region->first[1]) region->first[1] = j;
    if (i < region->first[2]) region->first[2] = i;
    region->last[0] = k;
    if (j > region->last[1]) region->last[1] = j;
    if (last > region->last[2]) region->last[2] = last;
}

/* Add the voxels [i, end) of row (k, j). */
INLINE void add_run(Region *region, int64_t k, int64_t j, int64_t i, int64_t end) {
    const int64_t n = end - i, last = end - 1;
    const int64_t sum = (i + last) * n / 2;
    const int64_t squares = (last * end * (2 * last + 1) - (i - 1) * i * (2 * i - 1)) / 6;
    const int64_t terms[MOMENTS] = {n,         k * n,   j * n,     sum,     k * k * n,
                                    j * j * n, squares, k * j * n, k * sum, j * sum};
    if (!region->moments[0]) {
        region->first[0] = (int32_t)k;
        region->first[1] = (int32_t)j;
        region->first[2] = (int32_t)i;
    }
    for (int32_t m = 0; m < MOMENTS; m++) region->moments[m] += terms[m];
    widen(region, (int32_t)k, (int32_t)j, (int32_t)i, (int32_t)last);
}

INLINE void runs(Voxels labels, int32_t first_slice, int32_t depth, int32_t rows, int32_t columns, Region *regions,
                 const uint16_t *values, uint32_t *counts, int32_t width, int32_t bytes) {
    for (int32_t line = 0; line < depth * rows; line++) {
        Voxels row = labels + (int64_t)line * columns * bytes;
        const uint16_t *value = values + (int64_t)line * columns;
        for (int32_t i = 0, end; i < columns; i = end) {
            const uint32_t number = voxel(row, i, bytes);
            end = run_end(row, i, columns, number, bytes);
            if (!number) continue;
            add_run(&regions[number], first_slice + line / rows, line % rows, i, end);
            uint32_t *histogram = counts + (int64_t)number * width;
            for (int32_t at = i; width && at < end; at++) histogram[value[at]]++;
        }
    }
}

/* Add the runs of some slices to the regions, and their values to counts[number][width] unless width is 0. */
EXPORT void add_runs(Voxels labels, int32_t bytes, int32_t first_slice, int32_t depth, int32_t rows, int32_t columns,
                     Region *regions, const uint16_t *values, uint32_t *counts, int32_t width) {
    if (bytes == 1) runs(labels, first_slice, depth, rows, columns, regions, values, counts, width, 1);
    else runs(labels, first_slice, depth, rows, columns, regions, values, counts, width, 2);
}
