/* Diameters of one segment, from the lines of its mesh vertices, without comparing them all. */

#include "kernel.h"

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
