/* Loops over the voxels of a label map, for all of its segments at once.

Compiled ahead of time to WebAssembly (kernel.wasm, by `make kernel`), which kernel.py runs. Freestanding: no library
and no allocation, the caller gives every array. Sums are of whole numbers, so that they do not depend on the order of
slabs, and floats round alike on every machine.

Voxels are (k, j, i) = (slice, row, column), unsigned of 1 or 2 bytes; number 0 is no segment. A mesh vertex lies
halfway between two neighbouring voxels that differ, so that vertices lie on lines of a grid of half voxels. */

#include <stdint.h>
#include <wasm_simd128.h>

/* The SHA-256 of this file, in a section of the compiled one: a test holds the two together. */
__asm__(".section .custom_section.source,\"\",@\n.ascii \"" SOURCE_SHA256 "\"\n");

#define EXPORT __attribute__((used, visibility("default")))
#define INLINE static inline __attribute__((always_inline))

enum { MOMENTS = 10, CORNERS = 8, PATTERNS = 256 };

typedef const uint8_t *Voxels;

/* Of one number: sums over its voxels of 1, k, j, i, kk, jj, ii, kj, ki, ji, and their bounding box. */
typedef struct {
    int64_t moments[MOMENTS];
    int32_t first[3];
    int32_t last[3];
} Region;

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

/* What the triangles of each corner pattern add to a volume when the cell moves one voxel along k, j, i. */
typedef int32_t Flux[3];

INLINE uint32_t voxel(Voxels row, int32_t i, int32_t bytes) {
    return bytes == 1 ? row[i] : ((const uint16_t *)row)[i];
}

/* ---- Runs: moments, bounding boxes, counts of values ---- */

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

/* ---- Cells of 2 x 2 x 2 voxels: corner patterns and mesh vertices ---- */

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

/* ---- Diameters ---- */

enum { IS_LOW = 1, IS_HIGH = 2, CORNER_LOW = 4, CORNER_HIGH = 8 };

/* A vertex in a plane: which line it ends, and where. */
typedef struct {
    int32_t line;
    int32_t end;
} Point;

/* A vertex in space, in mm, and its distance from some middle. */
typedef struct {
    double at[3];
    double radius;
} Corner;

INLINE double square(double x) { return x * x; }

/* Twice the signed area of a triangle: positive where it turns counter-clockwise. */
INLINE int64_t turn(Point a, Point b, Point c) {
    return (int64_t)(b.line - a.line) * (c.end - a.end) - (int64_t)(b.end - a.end) * (c.line - a.line);
}

INLINE int32_t alike(Point a, Point b) { return a.line == b.line && a.end == b.end; }

INLINE int32_t add_to_hull(Point *hull, int32_t size, int32_t least, Point p) {
    while (size > least && turn(hull[size - 2], hull[size - 1], p) <= 0) size--;
    hull[size++] = p;
    return size;
}

/* Corners of the convex hull of every stride-th line, counter-clockwise (Andrew's monotone chain; lines are sorted). */
INLINE int32_t hull_of(const Ends *ends, int32_t lines, int32_t stride, Point *hull) {
    int32_t size = 0;
    for (int32_t line = 0; line < lines; line++) {
        const Ends *each = &ends[line * stride];
        if (each->low >= 0) size = add_to_hull(hull, size, 1, (Point){line, each->low});
    }
    const int32_t lower = size;
    for (int32_t line = lines - 1; line >= 0; line--) {
        const Ends *each = &ends[line * stride];
        if (each->low < 0 || alike(hull[size - 1], (Point){line, each->high})) continue;
        size = add_to_hull(hull, size, lower, (Point){line, each->high});
    }
    return size > 1 && alike(hull[0], hull[size - 1]) ? size - 1 : size;
}

INLINE double distance2(Point a, Point b, double line_mm, double end_mm) {
    return square((a.line - b.line) * line_mm) + square((a.end - b.end) * end_mm);
}

/* Largest squared distance of two corners of a convex polygon, of its antipodal pairs only (rotating calipers). Which
pairs are antipodal does not depend on the spacing. */
INLINE double widest(const Point *hull, int32_t size, double line_mm, double end_mm) {
    double best = size == 2 ? distance2(hull[0], hull[1], line_mm, end_mm) : 0;
    for (int32_t a = 0, far = 1; size > 2 && a < size; a++) {
        const int32_t b = a + 1 == size ? 0 : a + 1;
        for (;;) {
            const double from_a = distance2(hull[a], hull[far], line_mm, end_mm);
            const double from_b = distance2(hull[b], hull[far], line_mm, end_mm);
            if (from_a > best) best = from_a;
            if (from_b > best) best = from_b;
            const int32_t next = far + 1 == size ? 0 : far + 1;
            if (turn(hull[a], hull[b], hull[next]) < turn(hull[a], hull[b], hull[far])) break;
            far = next;
        }
    }
    return best;
}

INLINE uint8_t side(Ends ends, int32_t at) { return (ends.low == at ? IS_LOW : 0) | (ends.high == at ? IS_HIGH : 0); }

/* Largest squared distance within a plane across a table of lines, and marks at the corners of the planes' hulls. */
INLINE double across(const Ends *table, int32_t planes, int32_t lines, double line_mm, double end_mm, Point *hull,
                     uint8_t *marks) {
    double best = 0;
    for (int32_t line = 0; line < lines; line++) {
        const int32_t size = hull_of(table + line, planes, lines, hull);
        const double found = widest(hull, size, line_mm, end_mm);
        if (found > best) best = found;
        for (int32_t p = 0; p < size; p++) {
            const int32_t at = hull[p].line * lines + line;
            marks[at] |= side(table[at], hull[p].end);
        }
    }
    return best;
}

/* Squared diameters in mm2 of a segment, in slices, in planes of one row, and in planes of one column.

Marks the vertices that can be corners of the hull in space, because they are in all three planes, and returns how
many they are. marks has a byte for each line of along_i and column_marks of along_j, all 0; hull has room for twice
the lines of a plane. */
EXPORT int32_t diameters_in_planes(const Surface *surface, const double half_mm[3], Point *hull, uint8_t *marks,
                                   uint8_t *column_marks, double squared_mm2[3]) {
    const int32_t planes = surface->planes, rows = surface->rows, columns = surface->columns;
    squared_mm2[0] = 0;
    squared_mm2[1] = across(surface->along_i, planes, rows, half_mm[0], half_mm[2], hull, marks);
    squared_mm2[2] = across(surface->along_j, planes, columns, half_mm[0], half_mm[1], hull, column_marks);
    int32_t corners = 0;
    for (int32_t k = 0; k < planes; k++) {
        const Ends *lines = surface->along_i + (int64_t)k * rows;
        const int32_t size = hull_of(lines, rows, 1, hull);
        const double found = widest(hull, size, half_mm[1], half_mm[2]);
        if (found > squared_mm2[0]) squared_mm2[0] = found;
        for (int32_t p = 0; p < size; p++) {
            const int32_t j = hull[p].line, i = hull[p].end;
            const int32_t row = k * rows + j, column = k * columns + i;
            const uint8_t in_row = marks[row] & side(lines[j], i);
            if (!in_row || !(column_marks[column] & side(surface->along_j[column], j))) continue;
            marks[row] |= in_row & IS_LOW ? CORNER_LOW : CORNER_HIGH;
            corners++;
        }
    }
    return corners;
}

INLINE int32_t collect(const Surface *surface, const double half_mm[3], const uint8_t *marks, Corner *corners) {
    int32_t size = 0;
    for (int32_t k = 0; k < surface->planes; k++)
        for (int32_t j = 0; j < surface->rows; j++) {
            const int32_t at = k * surface->rows + j;
            const Ends ends = surface->along_i[at];
            const double k_mm = k * half_mm[0], j_mm = j * half_mm[1];
            if (marks[at] & CORNER_LOW) corners[size++] = (Corner){{k_mm, j_mm, ends.low * half_mm[2]}, 0};
            if (marks[at] & CORNER_HIGH) corners[size++] = (Corner){{k_mm, j_mm, ends.high * half_mm[2]}, 0};
        }
    return size;
}

INLINE double apart2(const Corner *a, const Corner *b) {
    return square(a->at[0] - b->at[0]) + square(a->at[1] - b->at[1]) + square(a->at[2] - b->at[2]);
}

INLINE int32_t farthest_from(const Corner *corners, int32_t size, int32_t from) {
    int32_t far = from;
    for (int32_t p = 0; p < size; p++)
        if (apart2(&corners[p], &corners[from]) > apart2(&corners[far], &corners[from])) far = p;
    return far;
}

/* Largest radius first (Shell's sort, gaps of Knuth). */
static void sort_by_radius(Corner *corners, int32_t size) {
    int32_t gap = 1;
    while (gap < size / 3) gap = 3 * gap + 1;
    for (; gap; gap /= 3)
        for (int32_t p = gap; p < size; p++) {
            const Corner moved = corners[p];
            int32_t to = p;
            for (; to >= gap && corners[to - gap].radius < moved.radius; to -= gap) corners[to] = corners[to - gap];
            corners[to] = moved;
        }
}

/* Two corners that are far apart: each is the farthest from the other. Returns the first, puts the other into b. */
INLINE int32_t far_pair(const Corner *corners, int32_t size, int32_t *b) {
    int32_t a = 0;
    *b = farthest_from(corners, size, a);
    for (;;) {
        const int32_t next = farthest_from(corners, size, *b);
        if (apart2(&corners[next], &corners[*b]) <= apart2(&corners[a], &corners[*b])) return a;
        a = *b;
        *b = next;
    }
}

/* Squared diameter in mm2 in space, at least that in a plane, from what diameters_in_planes marked.

Two corners are no farther apart than their distances from the middle of a pair that is far apart, together, which
leaves few to be compared. */
EXPORT double diameter_in_space(const Surface *surface, const double half_mm[3], const uint8_t *marks, Corner *corners,
                                double at_least_mm2) {
    const double slack = 1 - 1e-12;
    const int32_t size = collect(surface, half_mm, marks, corners);
    if (size < 2) return at_least_mm2;
    int32_t b, a = far_pair(corners, size, &b);
    const double first = apart2(&corners[a], &corners[b]);
    double best = first > at_least_mm2 ? first : at_least_mm2;
    Corner middle;
    for (int32_t axis = 0; axis < 3; axis++) middle.at[axis] = (corners[a].at[axis] + corners[b].at[axis]) / 2;
    for (int32_t p = 0; p < size; p++) corners[p].radius = __builtin_sqrt(apart2(&corners[p], &middle));
    sort_by_radius(corners, size);
    double bound = __builtin_sqrt(best) * slack;
    for (int32_t p = 1; p < size && corners[p].radius + corners[0].radius >= bound; p++)
        for (int32_t q = 0; q < p && corners[p].radius + corners[q].radius >= bound; q++) {
            const double found = apart2(&corners[p], &corners[q]);
            if (found <= best) continue;
            best = found;
            bound = __builtin_sqrt(best) * slack;
        }
    return best;
}
