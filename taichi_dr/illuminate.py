"""All lights on all points, from the table of the lights, in one pass: each point is read once, whatever the number of lights.

    lit = color * diffuse * E + specular * S

where each light counts for as much of it as is visible, if that is given. A thread takes strips of points. On CPUs it copies
them in groups to local arrays, so that LLVM computes several at once; a group is seen by one view, so that the table's columns
are the same for all of it. On GPUs a group is one point. Gradients of the table are summed in a fixed order, a strip of points
after the other.
"""

import taichi as ti

from . import runtime
from .arrays import Array, Ints, Points, empty, grad_of, is_finite, split, vec3, work_item, zero
from .launch import kernel
from .light_table import DIFFUSE, ENVIRONMENT, EYE, LIGHTS, SHININESS, SOURCES, SPECULAR, TOTAL, WIDTHS
from .lights import DIRECTIONAL, HARMONICS, POINT, SPOT
from .materials import NO_HIGHLIGHT
from .reflection import add_column, column, direction, direction_adjoint, environment, environment_adjoint, reflected, reflected_adjoint
from .sums import Strips, bounded_strips, row_total
from .tape import operator

NO_PAINT, WHITE, PAINTED = 0, 1, 2  # what the scattered light is multiplied by: it is left out, 1, the points' colors
GROUP = 16  # points that a CPU computes together
STRIP = 128  # points that a CPU thread takes at a time, forward

# The local arrays of a group, three numbers per vector. The adjoint goes on behind those of the forward pass.
COLOR, N, X, VIEW, E, S, SEES, SHOWN = 0, 3, 6, 9, 12, 15, 18, 19
FORWARD_ROWS = 20
GRAD, E_GRAD, S_GRAD, N_GRAD, X_GRAD, VIEW_GRAD, SIDE = 20, 23, 26, 29, 32, 35, 38
ADJOINT_ROWS = 39

Visibilities = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (L, N): a row for each light


def is_placed(kinds: tuple[int, ...], model: int, two_sided: int) -> bool:
    """Whether it counts where the points are."""
    return bool(model != NO_HIGHLIGHT or two_sided or POINT in kinds or SPOT in kinds)


@ti.func
def _lanes(rows: ti.template(), group: ti.template()):
    return ti.Vector([0.0] * (rows * group))


@ti.func
def _get(lanes: ti.template(), row: ti.template(), group: ti.template(), t: int):
    return vec3(lanes[row * group + t], lanes[(row + 1) * group + t], lanes[(row + 2) * group + t])


@ti.func
def _put(lanes: ti.template(), row: ti.template(), group: ti.template(), t: int, value):
    for c in ti.static(range(3)):
        lanes[(row + c) * group + t] = value[c]


@ti.func
def _add(lanes: ti.template(), row: ti.template(), group: ti.template(), t: int, value):
    for c in ti.static(range(3)):
        lanes[(row + c) * group + t] += value[c]


@ti.func
def _columns(table: ti.template(), row: int, first: int, width: ti.template()):
    """Columns of the table, one below the other."""
    columns = ti.Matrix.zero(float, width, 3)
    for c in ti.static(range(width)):
        add_column(columns, c, table[row, first + c])
    return columns


@ti.func
def _run(by_point: ti.template(), table: ti.template(), views: ti.template(), b: int, start: int, end: int):
    """The row of the table that point `start` asks for, and how many points from there on do so too; a view out of range counts as the nearest."""
    row, count = ti.min(b, table.shape[0] - 1), end - start
    if ti.static(by_point):
        row, count = ti.math.clamp(views[start], 0, table.shape[0] - 1), 1
        while start + count < end and ti.math.clamp(views[ti.min(start + count, end - 1)], 0, table.shape[0] - 1) == row:
            count += 1
    return row, count


@ti.func
def _load(
    kinds: ti.template(), paint: ti.template(), model: ti.template(), two_sided: ti.template(),
    albedo: ti.template(), normals: ti.template(), positions: ti.template(), b: int, start: int, count: int, group: ti.template(),
    lanes: ti.template(),
):  # fmt: skip
    """Colors, normals and positions of a group, those that count; the others may not be there."""
    for t in range(count):
        if ti.static(paint == PAINTED):
            _put(lanes, COLOR, group, t, albedo[ti.min(b, albedo.shape[0] - 1), start + t])
        if ti.static(len(kinds) > 0):
            _put(lanes, N, group, t, normals[ti.min(b, normals.shape[0] - 1), start + t])
        if ti.static(is_placed(kinds, model, two_sided)):
            _put(lanes, X, group, t, positions[ti.min(b, positions.shape[0] - 1), start + t])


@ti.func
def _load_visibility(
    shadowed: ti.template(), visibility: ti.template(), light: int, start: int, count: int, group: ti.template(), lanes: ti.template()
):
    if ti.static(shadowed):
        for t in range(count):
            lanes[SHOWN * group + t] = visibility[light, start + t]


@ti.func
def _shown(shadowed: ti.template(), lanes: ti.template(), group: ti.template(), t: int):
    """How much of a light is visible."""
    share = 1.0
    if ti.static(shadowed):
        share = lanes[SHOWN * group + t]
    return share


@ti.func
def _add_lights(
    kind: ti.template(), kinds: ti.template(), model: ti.template(), table: ti.template(), row: int, first: int, number: int, shininess,
    shadowed: ti.template(), visibility: ti.template(), before: int, start: int, count: int, group: ti.template(), lanes: ti.template(),
):  # fmt: skip
    """E and S of a group with the lights of a kind, whose columns begin at `first`; returns where those of the next kind do."""
    if ti.static(kind in kinds):
        for k in range(number):
            light = _columns(table, row, first + k * ti.static(WIDTHS[kind]), ti.static(WIDTHS[kind]))
            _load_visibility(shadowed, visibility, before + k, start, count, group, lanes)
            for t in range(group):
                n, x, view = _get(lanes, N, group, t), _get(lanes, X, group, t), _get(lanes, VIEW, group, t)
                scattered, mirrored = reflected(kind, model, n, x, view, light, shininess)
                share = _shown(shadowed, lanes, group, t)
                _add(lanes, E, group, t, share * scattered)
                if ti.static(model != NO_HIGHLIGHT):
                    _add(lanes, S, group, t, share * mirrored)
    return first + number * ti.static(WIDTHS[kind])


@ti.func
def _side(two_sided: ti.template(), n, toward_eye):
    """-1 where the normal is to be turned around."""
    side = 1.0
    if ti.static(two_sided):
        side = ti.select(n.dot(toward_eye) < 0.0, -1.0, 1.0)
    return side


@kernel
def _illuminate_kernel(
    kinds: ti.template(), paint: ti.template(), model: ti.template(), two_sided: ti.template(), by_point: ti.template(), shadowed: ti.template(),
    group: ti.template(), albedo: Points, normals: Points, positions: Points, table: Points, directional: int, points: int, spots: int,
    views: Ints, visibility: Visibilities, lit: Points,
    steps: int, pad: int, threads: int, strip_count: int, length: int,
):  # fmt: skip
    for q in range(steps):
        strip = work_item(q, pad, threads, lit.shape[0] * strip_count)
        if strip >= 0:
            b, start = strip // strip_count, strip % strip_count * length
            end = ti.min(start + length, lit.shape[1])
            lanes = _lanes(FORWARD_ROWS, group)
            while start < end:
                row, count = _run(by_point, table, views, b, start, ti.min(start + group, end))
                _load(kinds, paint, model, two_sided, albedo, normals, positions, b, start, count, group, lanes)
                surface = _columns(table, row, 0, ENVIRONMENT)
                coefficients = _columns(table, row, ENVIRONMENT, ti.static(LIGHTS - ENVIRONMENT))
                for t in range(group):
                    n, arriving = _get(lanes, N, group, t), column(surface, TOTAL)
                    if ti.static(model != NO_HIGHLIGHT or two_sided):
                        toward_eye = column(surface, EYE) - _get(lanes, X, group, t)
                        view, inverse = direction(toward_eye)
                        n *= _side(two_sided, n, toward_eye)
                        _put(lanes, VIEW, group, t, view)
                        _put(lanes, N, group, t, n)
                        lanes[SEES * group + t] = ti.select(inverse > 0.0, 1.0, 0.0)
                    if ti.static(HARMONICS in kinds):
                        arriving += environment(n, coefficients)
                    _put(lanes, E, group, t, arriving)
                    _put(lanes, S, group, t, vec3(0.0))
                first, shininess = LIGHTS, surface[SHININESS, 0]
                for turn in ti.static(range(3)):
                    number, before = (directional, points, spots)[turn], (0, directional, directional + points)[turn]
                    first = _add_lights(
                        ti.static(SOURCES[turn]), kinds, model, table, row, first, number, shininess,
                        shadowed, visibility, before, start, count, group, lanes,
                    )  # fmt: skip
                for t in range(group):
                    total = vec3(0.0)
                    if ti.static(paint != NO_PAINT):
                        total = column(surface, DIFFUSE) * _get(lanes, E, group, t)
                    if ti.static(paint == PAINTED):
                        total *= _get(lanes, COLOR, group, t)
                    if ti.static(model != NO_HIGHLIGHT):
                        total += column(surface, SPECULAR) * (lanes[SEES * group + t] * _get(lanes, S, group, t))
                    _put(lanes, E, group, t, total)
                for t in range(count):
                    lit[b, start + t] = _get(lanes, E, group, t)
                start += count


@operator
def illuminate(
    kinds: tuple[int, ...], counts: tuple[int, int, int], paint: int, model: int, two_sided: bool,
    albedo: Array, normals: Array, positions: Array, table: Array, views: Array | None, visibility: Array | None, lit: Array,
) -> None:  # fmt: skip
    """Light the points. `kinds` are those of the lights other than ambient ones, each once, `counts` how many of SOURCES there are.

    `visibility` has a row for each of SOURCES, which serves all rows of points.
    """
    group = GROUP if runtime.device().arch == "cpu" else 1
    length = STRIP if group > 1 else 1
    count = -(-lit.shape[1] // length)
    how = kinds, paint, model, int(two_sided), int(views is not None), int(visibility is not None), group
    given = albedo, normals, positions, table, *counts, *_or_nothing(views, visibility)
    _illuminate_kernel(*how, *given, lit, *split(lit.shape[0] * count), count, length)


def _or_nothing(views: Array | None, visibility: Array | None) -> tuple[Array, Array]:
    return empty(int, (1,)) if views is None else views, empty(float, (1, 1)) if visibility is None else visibility


@ti.func
def _prepare_adjoint(
    kinds: ti.template(), paint: ti.template(), model: ti.template(), two_sided: ti.template(), surface, coefficients, count: int,
    group: ti.template(), lanes: ti.template(), surface_grad: ti.template(), coefficients_grad: ti.template(),
):  # fmt: skip
    """What the lights ask for, from the gradients, points and colors of a group: zero where nobody asks, and where a point is not finite."""
    for t in range(group):
        color, n, x, grad = vec3(1.0), vec3(0.0), vec3(0.0), _get(lanes, GRAD, group, t)
        asked = (t < count) & ((grad.x != 0.0) | (grad.y != 0.0) | (grad.z != 0.0))
        if ti.static(paint == PAINTED):
            color = _get(lanes, COLOR, group, t)
        if ti.static(len(kinds) > 0):
            n = _get(lanes, N, group, t)
        if ti.static(is_placed(kinds, model, two_sided)):
            x = _get(lanes, X, group, t)
        asked = asked & is_finite(color + n + x)
        color, n, x = ti.select(asked, color, vec3(0.0)), ti.select(asked, n, vec3(0.0)), ti.select(asked, x, vec3(0.0))
        grad = ti.select(asked, grad, vec3(0.0))
        e_grad, s_grad = vec3(0.0), vec3(0.0)
        if ti.static(paint != NO_PAINT):
            e_grad = grad * color * column(surface, DIFFUSE)
        if ti.static(model != NO_HIGHLIGHT or two_sided):
            toward_eye = column(surface, EYE) - x
            view, inverse = direction(toward_eye)
            side = _side(two_sided, n, toward_eye)
            n *= side
            s_grad = ti.select(inverse > 0.0, grad * column(surface, SPECULAR), vec3(0.0))
            _put(lanes, VIEW, group, t, view)
            lanes[SEES * group + t] = inverse
            lanes[SIDE * group + t] = side
        n_grad, arriving = vec3(0.0), column(surface, TOTAL)
        if ti.static(HARMONICS in kinds):
            n_grad, more = environment_adjoint(n, coefficients, e_grad, coefficients_grad)
            arriving += more
        add_column(surface_grad, TOTAL, e_grad)
        _put(lanes, COLOR, group, t, color)
        _put(lanes, N, group, t, n)
        _put(lanes, X, group, t, x)
        _put(lanes, GRAD, group, t, grad)
        _put(lanes, E_GRAD, group, t, e_grad)
        _put(lanes, S_GRAD, group, t, s_grad)
        _put(lanes, N_GRAD, group, t, n_grad)
        _put(lanes, X_GRAD, group, t, vec3(0.0))
        _put(lanes, VIEW_GRAD, group, t, vec3(0.0))
        _put(lanes, E, group, t, arriving)
        _put(lanes, S, group, t, vec3(0.0))


@ti.func
def _add_lights_adjoint(
    kind: ti.template(), kinds: ti.template(), model: ti.template(), table: ti.template(), row: int, first: int, number: int, shininess,
    shadowed: ti.template(), visibility: ti.template(), visibility_grad: ti.template(), before: int, start: int, count: int,
    group: ti.template(), lanes: ti.template(), surface_grad: ti.template(), partials: ti.template(), strip: int,
):  # fmt: skip
    """Adds to the gradients of n, x and the direction to the eye, and E and S once more; each light's own go into the partials."""
    width = ti.static(WIDTHS[kind])
    if ti.static(kind in kinds):
        for k in range(number):
            light, light_grad, shininess_grad = _columns(table, row, first + k * width, width), ti.Matrix.zero(float, width, 3), 0.0
            _load_visibility(shadowed, visibility, before + k, start, count, group, lanes)
            for t in range(group):
                n, x, view = _get(lanes, N, group, t), _get(lanes, X, group, t), _get(lanes, VIEW, group, t)
                share, e_grad, s_grad = _shown(shadowed, lanes, group, t), _get(lanes, E_GRAD, group, t), _get(lanes, S_GRAD, group, t)
                n_grad, x_grad, view_grad, by_shininess, scattered, mirrored = reflected_adjoint(
                    kind, model, n, x, view, light, shininess, share * e_grad, share * s_grad, light_grad
                )
                _add(lanes, N_GRAD, group, t, n_grad)
                _add(lanes, E, group, t, share * scattered)
                if ti.static(kind != DIRECTIONAL):
                    _add(lanes, X_GRAD, group, t, x_grad)
                if ti.static(model != NO_HIGHLIGHT):
                    _add(lanes, VIEW_GRAD, group, t, view_grad)
                    _add(lanes, S, group, t, share * mirrored)
                    shininess_grad += by_shininess
                if ti.static(shadowed):
                    lanes[SHOWN * group + t] = e_grad.dot(scattered) + s_grad.dot(mirrored)
            if ti.static(shadowed):
                for t in range(count):
                    visibility_grad[before + k, start + t] = visibility_grad[before + k, start + t] + lanes[SHOWN * group + t]
            surface_grad[SHININESS, 0] += shininess_grad
            _put_away(light_grad, table, partials, row, first + k * width, width, strip)
    return first + number * width


@ti.func
def _finish_adjoint(
    paint: ti.template(), model: ti.template(), surface, group: ti.template(), lanes: ti.template(), surface_grad: ti.template()
):  # fmt: skip
    """Gradients of colors, normals and positions, in their places."""
    for t in range(group):
        grad, x_grad = _get(lanes, GRAD, group, t), _get(lanes, X_GRAD, group, t)
        if ti.static(paint != NO_PAINT):
            by_e = grad * _get(lanes, E, group, t)
            add_column(surface_grad, DIFFUSE, by_e * _get(lanes, COLOR, group, t))
            _put(lanes, COLOR, group, t, by_e * column(surface, DIFFUSE))
        if ti.static(model != NO_HIGHLIGHT):
            inverse = lanes[SEES * group + t]
            add_column(surface_grad, SPECULAR, ti.select(inverse > 0.0, grad * _get(lanes, S, group, t), vec3(0.0)))
            eye_grad = direction_adjoint(_get(lanes, VIEW, group, t), inverse, _get(lanes, VIEW_GRAD, group, t))
            add_column(surface_grad, EYE, eye_grad)
            x_grad -= eye_grad
        _put(lanes, X, group, t, x_grad)


@kernel
def _illuminate_adjoint_kernel(
    kinds: ti.template(), paint: ti.template(), model: ti.template(), two_sided: ti.template(), by_point: ti.template(), shadowed: ti.template(),
    group: ti.template(), albedo: Points, normals: Points, positions: Points, table: Points, directional: int, points: int, spots: int,
    views: Ints, visibility: Visibilities, lit_grad: Points, albedo_grad: Points, normals_grad: Points, positions_grad: Points,
    visibility_grad: Visibilities, partials: Strips,
    steps: int, pad: int, threads: int, strip_count: int, length: int,
):  # fmt: skip
    """A thread takes a strip of points in all views, so nobody else adds to their entries; it sums up the table's gradient."""
    for q in range(steps):
        strip = work_item(q, pad, threads, strip_count)
        if strip >= 0:
            lanes = _lanes(ADJOINT_ROWS, group)
            surface, surface_grad = ti.Matrix.zero(float, ENVIRONMENT, 3), ti.Matrix.zero(float, ENVIRONMENT, 3)
            width = ti.static(LIGHTS - ENVIRONMENT)
            coefficients, coefficients_grad = ti.Matrix.zero(float, width, 3), ti.Matrix.zero(float, width, 3)
            for b in range(lit_grad.shape[0]):
                start, end, seen = strip * length, ti.min((strip + 1) * length, lit_grad.shape[1]), -1
                while start < end:
                    row, count = _run(by_point, table, views, b, start, ti.min(start + group, end))
                    wanted = 0
                    for t in range(count):
                        grad = lit_grad[b, start + t]
                        wanted |= int(any(grad != 0.0))
                        _put(lanes, GRAD, group, t, grad)
                    if wanted != 0:
                        if row != seen:
                            _put_surface_away(surface_grad, coefficients_grad, kinds, table, partials, seen, strip)
                            seen, surface_grad, coefficients_grad = row, 0.0 * surface_grad, 0.0 * coefficients_grad
                            surface, coefficients = _columns(table, row, 0, ENVIRONMENT), _columns(table, row, ENVIRONMENT, width)
                        _load(kinds, paint, model, two_sided, albedo, normals, positions, b, start, count, group, lanes)
                        _prepare_adjoint(kinds, paint, model, two_sided, surface, coefficients, count, group, lanes, surface_grad, coefficients_grad)
                        first, shininess = LIGHTS, surface[SHININESS, 0]
                        for turn in ti.static(range(3)):
                            number, before = (directional, points, spots)[turn], (0, directional, directional + points)[turn]
                            first = _add_lights_adjoint(
                                ti.static(SOURCES[turn]), kinds, model, table, row, first, number, shininess,
                                shadowed, visibility, visibility_grad, before, start, count, group, lanes, surface_grad, partials, strip,
                            )  # fmt: skip
                        _finish_adjoint(paint, model, surface, group, lanes, surface_grad)
                        for t in range(count):
                            i = start + t
                            if ti.static(paint == PAINTED):
                                place = ti.min(b, albedo.shape[0] - 1)
                                albedo_grad[place, i] = albedo_grad[place, i] + _get(lanes, COLOR, group, t)
                            if ti.static(len(kinds) > 0):
                                place = ti.min(b, normals.shape[0] - 1)
                                side = lanes[SIDE * group + t] if ti.static(two_sided) else 1.0
                                normals_grad[place, i] = normals_grad[place, i] + side * _get(lanes, N_GRAD, group, t)
                            if ti.static(is_placed(kinds, model, two_sided)):
                                place = ti.min(b, positions.shape[0] - 1)
                                positions_grad[place, i] = positions_grad[place, i] + _get(lanes, X, group, t)
                    start += count
                _put_surface_away(surface_grad, coefficients_grad, kinds, table, partials, seen, strip)
                surface_grad, coefficients_grad = 0.0 * surface_grad, 0.0 * coefficients_grad


@ti.func
def _put_away(columns_grad, table: ti.template(), partials: ti.template(), row: int, first: int, width: ti.template(), strip: int):
    """Add to the strip's sums of some columns; sums of a row of the table follow one another."""
    for c in ti.static(range(width)):
        place = row * table.shape[1] + first + c
        partials[place, strip] = partials[place, strip] + column(columns_grad, c)


@ti.func
def _put_surface_away(surface_grad, coefficients_grad, kinds: ti.template(), table: ti.template(), partials: ti.template(), row: int, strip: int):
    if row >= 0:
        _put_away(surface_grad, table, partials, row, 0, ENVIRONMENT, strip)
        if ti.static(HARMONICS in kinds):
            _put_away(coefficients_grad, table, partials, row, ENVIRONMENT, ti.static(LIGHTS - ENVIRONMENT), strip)


@kernel
def _add_strips_kernel(partials: Strips, table_grad: Points):
    for k in range(partials.shape[0]):
        row, place = k // table_grad.shape[1], k % table_grad.shape[1]
        table_grad[row, place] = table_grad[row, place] + row_total(partials, k)


@illuminate.adjoint
def _illuminate_adjoint(
    kinds: tuple[int, ...], counts: tuple[int, int, int], paint: int, model: int, two_sided: bool,
    albedo: Array, normals: Array, positions: Array, table: Array, views: Array | None, visibility: Array | None, lit: Array,
) -> None:  # fmt: skip
    points = albedo, normals, positions
    group = GROUP if runtime.device().arch == "cpu" else 1
    length, count = bounded_strips(lit.shape[1], table.shape[0] * table.shape[1])
    partials = empty(vec3, (table.shape[0] * table.shape[1], count))
    zero(partials)
    how = kinds, paint, model, int(two_sided), int(views is not None), int(visibility is not None), group
    views_and_visibility = _or_nothing(views, visibility)
    grads = *map(grad_of, points), grad_of(views_and_visibility[1])
    _illuminate_adjoint_kernel(*how, *points, table, *counts, *views_and_visibility, lit.grad, *grads, partials, *split(count), count, length)
    _add_strips_kernel(partials, table.grad)
