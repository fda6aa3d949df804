"""Shading: how bright points of a surface are; `shade_points` serves vertices, faces, fragments and pixels alike.

Each light adds to what is there, from a table (`lights.tabulate`) of the lights, the material and the eye, a row per view:

    lit += color * diffuse * E + specular * S,   E = A max(0, n . l),   S = A p^shininess where n . l > 0

with A the light that arrives across its direction l. Gradients of the table are summed in a fixed order, a strip of points
after the other, and taken from there to the fields of lights, materials and cameras.
"""

from collections.abc import Sequence
from typing import Any

import taichi as ti

from . import runtime
from .arrays import (
    Array,
    Ints,
    Points,
    Texels,
    batch_size,
    constant,
    empty,
    expect,
    grad_of,
    is_finite,
    is_finite_number,
    read,
    split,
    vec3,
    work_item,
    zero,
)
from .elementary import exp, log
from .frame import EYE as FRAME_EYE
from .frame import camera_frame
from .harmonics import smoothed_basis, smoothed_basis_adjoint
from .lights import (
    AMBIENT,
    AXIS,
    CONE,
    DIFFUSE,
    DIRECTIONAL,
    EYE,
    HARMONICS,
    INTENSITY,
    SHININESS,
    SOURCE,
    SPECULAR,
    SPOT,
    SURFACE,
    WIDTHS,
    AmbientLight,
    Light,
    light_list,
    tabulate,
    view_counts,
)
from .materials import MODELS, PHONG, Material
from .normals import expect_mesh, face_centers, face_normals, vertex_normals
from .sums import Strips, row_total, strips
from .tape import operator
from .vectors import unit_adjoint

NO_PAINT, WHITE, PAINTED = 0, 1, 2  # what the scattered light is multiplied by: it is left out, 1, the points' colors
NO_HIGHLIGHT = 0  # otherwise the material's model
LEAST_COSINE = 1e-6  # cosines up to here raised to a power are 0, so that slopes stay finite at any exponent
LEAST_DISTANCE = 1e-6  # where lights are attenuated
SHORTEST, LONGEST = 1e-18, 1e18  # lengths whose squares float32 holds
LEAST_EDGE = 1e-6  # of a cone, in the cosine
MOST_PARTIALS = 1 << 22
GROUP = 16  # points that a CPU computes together
STRIP = 128  # points that a CPU thread takes at a time


def shade_points(
    albedo: Array,
    normals: Array | None,
    positions: Array | None,
    lights: Light | Sequence[Light] | None,
    *,
    material: Material | None = None,
    frame: Array | None = None,
    views: Array | None = None,
    two_sided: bool = False,
) -> Array:
    """The colors of points of surfaces under the lights.

        lit = albedo * diffuse * sum of E + specular * sum of A p^shininess

    with E of each light as in `lights`, A = E / max(0, n . l), and p and the sum's lights as in `Material`.

    Args:
        albedo: colors, (1, N) or (B, N) of vec3.
        normals: of length 1, (1, N) or (B, N) of vec3, used as they are; None where all lights are ambient.
        positions: in the world, (1, N) or (B, N) of vec3; None where no light has a position and there is no `frame`.
        lights: one light or several; the fields of each serve all views, or there is one per view. None or an empty
            sequence leave the colors as they are.
        material: its fields serve all views likewise; None scatters all light and mirrors none.
        frame: the frames of the cameras, (1, K) or (B, K) of vec3, the eye in column 3. With a material it is needed for
            highlights; a material with `specular` 0 has none without it, and no gradient there.
        views: (N,) integers, the view that each point belongs to, where the other arrays have one row for all views. An index
            out of range counts as the nearest. None takes row b for view b.
        two_sided: turn normals towards the eye, which needs `frame` too.

    Returns:
        (B, N) of vec3, with `views` (1, N).

    Differentiable in `albedo`, `normals`, `positions`, the fields of lights and of the material, and the eyes in `frame`; not
    in `views`, which are whole numbers. Where n . l <= 0 a light does nothing and has no gradient; where n . l rises
    above 0 a highlight appears at once, and that jump has none either. Cosines up to 1e-6 count as 0 in powers, so
    slopes are finite at any shininess; at shininess 0 a highlight is 1 all over. Points with normal zero get ambient
    light only, of harmonics their mean. A point that is not finite may get any color; what is wrong with it stays there,
    and points whose color nobody asks about add exactly nothing to any gradient.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree, something missing that the lights ask for.

    Source: Phong 1975; Blinn 1977; Ramamoorthi and Hanrahan 2001.
    """
    lights = light_list(lights)
    expect("albedo", albedo, 3, 2, "(B, N) of vec3")
    if not lights:
        return albedo
    lit = _lit(lights, albedo.shape[1], PAINTED, albedo, normals, positions, material, frame, views, two_sided)
    assert lit is not None
    return lit


def _lit(
    lights: list[Light],
    count: int,
    paint: int,
    albedo: Array | None,
    normals: Array | None,
    positions: Array | None,
    material: Material | None,
    frame: Array | None,
    views: Array | None = None,
    two_sided: bool = False,
    highlights: bool = True,
) -> Array | None:
    """As `shade_points`, or the scattered light alone (paint WHITE), or the highlights alone (NO_PAINT), None where there are none."""
    model = _model(material, frame) if highlights else NO_HIGHLIGHT
    if two_sided and frame is None:
        raise ValueError("two_sided: expected a frame, which says where the eyes are; give frame=camera_frame(camera)")
    if paint == NO_PAINT:
        lights = [light for light in lights if light.kind not in (AMBIENT, HARMONICS)]
    turned = any(light.kind != AMBIENT for light in lights)
    with_eye = turned and (model != NO_HIGHLIGHT or two_sided)
    placed = with_eye or any("position" in vars(light) for light in lights)
    if not lights or (paint == NO_PAINT and model == NO_HIGHLIGHT):
        return None

    rows = {}
    for name, x, asked in (("albedo", albedo, paint == PAINTED), ("normals", normals, turned), ("positions", positions, placed)):
        if asked:
            expect(name, x, 3, 2, "(B, N) of vec3")
            if x.shape[1] != count:
                raise ValueError(f"{name}: expected one entry per point, {count}, got shape {tuple(x.shape)}")
            rows[name] = x.shape[0]
    table_rows = {f"lights[{k}].{name}": n for k, light in enumerate(lights) for name, n in view_counts(light).items()}
    if material is not None:
        table_rows |= {f"material.{name}": x.shape[0] for name, x in vars(material).items() if name != "model" and x.shape}
    if with_eye:
        expect("frame", frame, 3, 2, "(B, K) of vec3")
        if frame.shape[1] <= FRAME_EYE:
            raise ValueError(f"frame: expected the eye in column {FRAME_EYE}, got shape {tuple(frame.shape)}; give frame=camera_frame(camera)")
        table_rows["frame"] = frame.shape[0]
    batch = batch_size(**rows, **table_rows) if rows or table_rows else 1
    groups = batch_size(**table_rows) if table_rows else 1
    if views is not None:
        expect("views", views, 1, 1, "(N,) integers", integers=True)
        if views.shape[0] != count:
            raise ValueError(f"views: expected one entry per point, {count}, got shape {tuple(views.shape)}")
        for name, n in rows.items():
            if n != 1:
                raise ValueError(f"{name}: expected (1, N) beside views, got a batch of {n}; leave out views, or put all points in one row")
        batch = 1
        if groups == 1:
            views = None  # they say nothing that the one row of the table does not

    lit = empty(vec3, (batch, count), needs_grad=True)
    stands = lit  # for what is not asked for
    if material is None:
        surface = constant((1.0, 1.0, 1.0)), constant((0.0, 0.0, 0.0)), constant((1.0,))
    else:
        surface = material.diffuse, material.specular, material.shininess
    table, offsets = tabulate(lights, surface, frame if with_eye else None, groups)
    for k, light in enumerate(lights):
        mirrors = model if light.kind not in (AMBIENT, HARMONICS) else NO_HIGHLIGHT
        sees = light.kind != AMBIENT and (mirrors != NO_HIGHLIGHT or two_sided)
        from_place = "position" in vars(light) or sees
        _illuminate(
            light.kind,
            paint,
            mirrors,
            int(from_place),
            albedo if paint == PAINTED else stands,
            normals if light.kind != AMBIENT else stands,
            positions if from_place else stands,
            table,
            offsets[k],
            views,
            getattr(light, "attenuation", False),
            two_sided,
            k == 0,
            lit,
        )
    return lit


def _model(material: Material | None, frame: Array | None) -> int:
    """How highlights are made, if at all."""
    if material is None:
        return NO_HIGHLIGHT
    if not isinstance(material, Material):
        raise ValueError(f"material: expected a Material, got {type(material).__name__}; make it with dr.Material(...)")
    if frame is None:
        if read(material.specular).any():
            raise ValueError("frame: expected the camera that sees the highlights of the material, got none; give camera=... or frame=...")
        return NO_HIGHLIGHT
    return MODELS[material.model]


# --- One light on one point ---------------------------------------------------------------------------------------


@ti.func
def _power(x, exponent):
    """x^exponent, 0 for x up to LEAST_COSINE."""
    return ti.select(x > LEAST_COSINE, exp(ti.min(exponent * log(ti.max(x, LEAST_COSINE)), 80.0)), 0.0)


@ti.func
def _power_adjoint(x, exponent, value, value_grad):
    """Gradients of x and of the exponent."""
    x_grad, exponent_grad = 0.0, 0.0
    if x > LEAST_COSINE:
        x_grad, exponent_grad = value_grad * value * exponent / x, value_grad * value * log(x)
    return x_grad, exponent_grad


@ti.func
def _cone(cosine, outer, inner, exponent):
    """How much of a spot light there is at an angle to its axis."""
    t = ti.math.clamp((cosine - outer) / ti.max(inner - outer, LEAST_EDGE), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t) * _power(cosine, exponent)


@ti.func
def _cone_adjoint(cosine, outer, inner, exponent, share_grad):
    """Gradients of the cosine, and of (outer, inner, exponent)."""
    edge = ti.max(inner - outer, LEAST_EDGE)
    t = ti.math.clamp((cosine - outer) / edge, 0.0, 1.0)
    power = _power(cosine, exponent)
    cosine_grad, exponent_grad = _power_adjoint(cosine, exponent, power, share_grad * t * t * (3.0 - 2.0 * t))
    t_grad = share_grad * power * 6.0 * t * (1.0 - t) / edge  # smooth: 0 at both ends of the clamp
    inner_grad = ti.select(inner - outer > LEAST_EDGE, -t_grad * t, 0.0)
    return cosine_grad + t_grad, vec3(-t_grad - inner_grad, inner_grad, exponent_grad)


@ti.func
def _direction(v):
    """(v / |v|, |v|), (0, 0) for lengths outside of 1e-18 .. 1e18, without a branch, so that LLVM computes eight at once."""
    square = v.dot(v)
    has_one = is_finite_number(square) & (square > SHORTEST * SHORTEST) & (square < LONGEST * LONGEST)
    inverse = 1.0 / ti.sqrt(ti.select(has_one, square, 1.0))
    length = ti.select(has_one, square * inverse, 0.0)
    return ti.select(has_one, v * inverse, vec3(0.0)), length


@ti.func
def _arrival(kind: ti.template(), x, table, attenuated: int):
    """l, the distance it was normalized by, and the share of the intensity that arrives."""
    toward, distance, share = vec3(0.0), 1.0, 1.0
    if ti.static(kind == DIRECTIONAL):
        toward = _column(table, SOURCE)  # has its length already
    else:
        toward, distance = _direction(_column(table, SOURCE) - x)
        d = ti.max(distance, LEAST_DISTANCE)
        share = ti.select(attenuated != 0, 1.0 / (d * d), 1.0)
        if ti.static(kind == SPOT):
            cone = _column(table, CONE)
            share *= _cone(-toward.dot(_column(table, AXIS)), cone.x, cone.y, cone.z)
    return toward, distance, share


@ti.func
def _highlight_cosine(model: ti.template(), n, toward, view):
    """p before it is clamped, of the directions to the light and to the eye."""
    cosine = 0.0
    if ti.static(model == PHONG):
        cosine = 2.0 * n.dot(toward) * n.dot(view) - toward.dot(view)
    else:
        half, _ = _direction(toward + view)
        cosine = n.dot(half)
    return cosine


@ti.func
def _highlight_cosine_adjoint(model: ti.template(), n, toward, view, cosine_grad):
    """Gradients of n, l and v."""
    n_grad, toward_grad, view_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if ti.static(model == PHONG):
        by_light, by_view = 2.0 * n.dot(toward), 2.0 * n.dot(view)
        n_grad = cosine_grad * (by_view * toward + by_light * view)
        toward_grad = cosine_grad * (by_view * n - view)
        view_grad = cosine_grad * (by_light * n - toward)
    else:
        half, length = _direction(toward + view)
        n_grad = cosine_grad * half
        toward_grad = unit_adjoint(half, length, cosine_grad * n)
        view_grad = toward_grad
    return n_grad, toward_grad, view_grad


@ti.func
def _side(n, x, table, two_sided: int):
    """-1 where the normal is to be turned around."""
    return ti.select(two_sided != 0 and n.dot(_column(table, EYE) - x) < 0.0, -1.0, 1.0)


@ti.func
def _light_of(kind: ti.template(), model: ti.template(), n, x, table, attenuated: int):
    """What a light adds: E, and S of the highlight."""
    scattered, mirrored = vec3(0.0), vec3(0.0)
    if ti.static(kind == AMBIENT):
        scattered = _column(table, INTENSITY)
    elif ti.static(kind == HARMONICS):
        first, second, third = smoothed_basis(n)
        for j in ti.static(range(3)):
            scattered += first[j] * _column(table, INTENSITY + j)
            scattered += second[j] * _column(table, INTENSITY + 3 + j)
            scattered += third[j] * _column(table, INTENSITY + 6 + j)
    else:
        toward, _, share = _arrival(kind, x, table, attenuated)
        cosine = n.dot(toward)
        arriving = _column(table, INTENSITY) * ti.select(cosine > 0.0, share, 0.0)
        scattered = arriving * ti.max(cosine, 0.0)
        if ti.static(model != NO_HIGHLIGHT):
            view, near = _direction(_column(table, EYE) - x)
            power = _power(_highlight_cosine(model, n, toward, view), _column(table, SHININESS).x)
            mirrored = arriving * ti.select(near > 0.0, power, 0.0)
    return scattered, mirrored


@ti.func
def _light_of_adjoint(
    kind: ti.template(), model: ti.template(), n, x, table, attenuated: int, scattered_grad, mirrored_grad,
):  # fmt: skip
    """Gradients of n and x, of the columns of the table as a matrix of WIDTHS[kind] rows, and E and S once more."""
    n_grad, x_grad, scattered, mirrored = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0)
    columns = ti.Matrix.zero(float, ti.static(WIDTHS[kind]), 3)
    if ti.static(kind == AMBIENT):
        scattered = _column(table, INTENSITY)
        _put(columns, INTENSITY, scattered_grad)
    elif ti.static(kind == HARMONICS):
        first, second, third = smoothed_basis(n)
        first_grad, second_grad, third_grad = vec3(0.0), vec3(0.0), vec3(0.0)
        for j in ti.static(range(3)):
            a, b, c = _column(table, INTENSITY + j), _column(table, INTENSITY + 3 + j), _column(table, INTENSITY + 6 + j)
            scattered += first[j] * a + second[j] * b + third[j] * c
            first_grad[j], second_grad[j], third_grad[j] = scattered_grad.dot(a), scattered_grad.dot(b), scattered_grad.dot(c)
            _put(columns, INTENSITY + j, scattered_grad * first[j])
            _put(columns, INTENSITY + 3 + j, scattered_grad * second[j])
            _put(columns, INTENSITY + 6 + j, scattered_grad * third[j])
        n_grad = smoothed_basis_adjoint(n, first_grad, second_grad, third_grad)
    else:
        toward, distance, share = _arrival(kind, x, table, attenuated)
        cosine = n.dot(toward)
        if cosine > 0.0:
            intensity = _column(table, INTENSITY)
            arriving = intensity * share
            scattered = arriving * cosine
            cosine_grad = scattered_grad.dot(arriving)
            arriving_grad = scattered_grad * cosine
            n_grad, toward_grad = cosine_grad * toward, cosine_grad * n
            if ti.static(model != NO_HIGHLIGHT):
                view, near = _direction(_column(table, EYE) - x)
                exponent = _column(table, SHININESS).x
                p = _highlight_cosine(model, n, toward, view)
                if near > 0.0 and p > LEAST_COSINE:
                    power = _power(p, exponent)
                    mirrored = arriving * power
                    arriving_grad += mirrored_grad * power
                    p_grad, exponent_grad = _power_adjoint(p, exponent, power, mirrored_grad.dot(arriving))
                    by_n, by_toward, by_view = _highlight_cosine_adjoint(model, n, toward, view, p_grad)
                    n_grad += by_n
                    toward_grad += by_toward
                    eye_grad = unit_adjoint(view, near, by_view)
                    x_grad -= eye_grad
                    _put(columns, SHININESS, vec3(exponent_grad, 0.0, 0.0))
                    _put(columns, EYE, eye_grad)
            _put(columns, INTENSITY, arriving_grad * share)
            if ti.static(kind == DIRECTIONAL):
                _put(columns, SOURCE, toward_grad)
            else:
                share_grad, distance_grad = arriving_grad.dot(intensity), 0.0
                falloff = 1.0
                if attenuated != 0:
                    d = ti.max(distance, LEAST_DISTANCE)
                    falloff = 1.0 / (d * d)
                    if distance > LEAST_DISTANCE:
                        distance_grad = -2.0 * share_grad * share / d
                if ti.static(kind == SPOT):
                    axis, cone = _column(table, AXIS), _column(table, CONE)
                    angle_grad, cone_grad = _cone_adjoint(-toward.dot(axis), cone.x, cone.y, cone.z, share_grad * falloff)
                    toward_grad -= angle_grad * axis
                    _put(columns, AXIS, -angle_grad * toward)
                    _put(columns, CONE, cone_grad)
                source_grad = unit_adjoint(toward, distance, toward_grad) + distance_grad * toward
                x_grad -= source_grad
                _put(columns, SOURCE, source_grad)
    return n_grad, x_grad, columns, scattered, mirrored


@ti.func
def _column(table, row: ti.template()):
    return vec3(table[row, 0], table[row, 1], table[row, 2])


@ti.func
def _put(columns: ti.template(), row: ti.template(), value):
    for c in ti.static(range(3)):
        columns[row, c] = value[c]


# --- One light on all points --------------------------------------------------------------------------------------


@ti.func
def _column_in_table(column: ti.template(), offset: int):
    """Where the table has a column that a light sees: its own begin at `offset`."""
    place = column
    if ti.static(column >= SURFACE):
        place = offset + column - SURFACE
    return place


@ti.func
def _table_of(kind: ti.template(), table: ti.template(), offset: int, view: int):
    """The row of a view as a matrix, its columns one below the other; a view out of range counts as the nearest."""
    columns = ti.Matrix.zero(float, ti.static(WIDTHS[kind]), 3)
    row = ti.math.clamp(view, 0, table.shape[0] - 1)
    for c in ti.static(range(WIDTHS[kind])):
        _put(columns, c, table[row, _column_in_table(c, offset)])
    return columns


@ti.func
def _point(
    kind: ti.template(), paint: ti.template(), placed: ti.template(), albedo: ti.template(), normals: ti.template(), positions: ti.template(),
    b: int, i: int,
):  # fmt: skip
    """Color, n and x of a point, 0 for what the light does not ask for, which may not be there.

    Rows are 1 or as many as views; min is much quicker than the remainder.
    """
    color, n, x = vec3(1.0), vec3(0.0), vec3(0.0)
    if ti.static(paint == PAINTED):
        color = albedo[ti.min(b, albedo.shape[0] - 1), i]
    if ti.static(kind != AMBIENT):
        n = normals[ti.min(b, normals.shape[0] - 1), i]
    if ti.static(placed):
        x = positions[ti.min(b, positions.shape[0] - 1), i]
    return color, n, x


@ti.func
def _shown(kind: ti.template(), paint: ti.template(), model: ti.template(), color, n, x, columns, attenuated: int, two_sided: int):
    """What a light adds to a point."""
    scattered, mirrored = _light_of(kind, model, _side(n, x, columns, two_sided) * n, x, columns, attenuated)
    total = vec3(0.0)
    if ti.static(paint != NO_PAINT):
        total = color * _column(columns, DIFFUSE) * scattered
    if ti.static(model != NO_HIGHLIGHT):
        total += _column(columns, SPECULAR) * mirrored
    return total


@ti.kernel
def _illuminate_strip_kernel(
    kind: ti.template(), paint: ti.template(), model: ti.template(), placed: ti.template(), albedo: Points, normals: Points, positions: Points,
    table: Points, offset: int, attenuated: int, two_sided: int, first: int, lit: Points, steps: int, pad: int, threads: int, strip_count: int,
):  # fmt: skip
    """For CPUs: a thread takes a strip, and copies its points in groups to local arrays, so that LLVM computes eight at once."""
    for q in range(steps):
        k = work_item(q, pad, threads, lit.shape[0] * strip_count)
        if k >= 0:
            b, begin = k // strip_count, k % strip_count * STRIP
            end = ti.min(begin + STRIP, lit.shape[1])
            columns = _table_of(kind, table, offset, b)
            red, green, blue = _group_array(GROUP), _group_array(GROUP), _group_array(GROUP)
            n_size, x_size = ti.static(GROUP if kind != AMBIENT else 1, GROUP if placed else 1)
            n_x, n_y, n_z = _group_array(n_size), _group_array(n_size), _group_array(n_size)
            x_x, x_y, x_z = _group_array(x_size), _group_array(x_size), _group_array(x_size)
            for group in range((end - begin + GROUP - 1) // GROUP):
                start = begin + group * GROUP
                count = ti.min(GROUP, end - start)
                for t in range(count):
                    color, n, x = _point(kind, paint, placed, albedo, normals, positions, b, start + t)
                    red[t], green[t], blue[t] = color.x, color.y, color.z
                    if ti.static(kind != AMBIENT):
                        n_x[t], n_y[t], n_z[t] = n.x, n.y, n.z
                    if ti.static(placed):
                        x_x[t], x_y[t], x_z[t] = x.x, x.y, x.z
                for t in range(GROUP):
                    n, x = vec3(0.0), vec3(0.0)
                    if ti.static(kind != AMBIENT):
                        n = vec3(n_x[t], n_y[t], n_z[t])
                    if ti.static(placed):
                        x = vec3(x_x[t], x_y[t], x_z[t])
                    total = _shown(kind, paint, model, vec3(red[t], green[t], blue[t]), n, x, columns, attenuated, two_sided)
                    red[t], green[t], blue[t] = total.x, total.y, total.z
                for t in range(count):
                    total = vec3(red[t], green[t], blue[t])
                    if first == 0:
                        total += lit[b, start + t]
                    lit[b, start + t] = total


@ti.func
def _group_array(size: ti.template()):
    return ti.Vector([0.0] * size)


@ti.kernel
def _illuminate_kernel(
    kind: ti.template(), paint: ti.template(), model: ti.template(), placed: ti.template(), albedo: Points, normals: Points, positions: Points,
    table: Points, offset: int, views: Ints, by_point: int, attenuated: int, two_sided: int, first: int, lit: Points,
):  # fmt: skip
    """For GPUs, for points of several views, and in double precision: a thread takes a point."""
    for k in range(lit.shape[0] * lit.shape[1]):
        b, i = k // lit.shape[1], k % lit.shape[1]
        columns = _table_of(kind, table, offset, ti.select(by_point != 0, views[ti.min(i, views.shape[0] - 1)], b))
        color, n, x = _point(kind, paint, placed, albedo, normals, positions, b, i)
        total = _shown(kind, paint, model, color, n, x, columns, attenuated, two_sided)
        if first == 0:
            total += lit[b, i]
        lit[b, i] = total


@operator
def _illuminate(
    kind: int, paint: int, model: int, placed: int, albedo: Array, normals: Array, positions: Array, table: Array, offset: int,
    views: Array | None, attenuated: bool, two_sided: bool, first: bool, lit: Array,
) -> None:  # fmt: skip
    """Add one light to the points; the first light overwrites what was there."""
    arguments, flags = (kind, paint, model, placed, albedo, normals, positions, table, offset), (int(attenuated), int(two_sided), int(first))
    if runtime.device()[:2] == ("cpu", "f32") and views is None:
        count = -(-lit.shape[1] // STRIP)
        _illuminate_strip_kernel(*arguments, *flags, lit, *split(lit.shape[0] * count), count)
    else:
        _illuminate_kernel(*arguments, empty(int, (1,)) if views is None else views, int(views is not None), *flags, lit)


@ti.func
def _point_adjoint(
    kind: ti.template(), paint: ti.template(), model: ti.template(), color, n, x, table, attenuated: int, two_sided: int, grad,
):  # fmt: skip
    """Gradients of the point's color, n and x, and of the table's columns."""
    side = 1.0
    if ti.static(kind != AMBIENT):
        side = _side(n, x, table, two_sided)
    diffuse, specular = _column(table, DIFFUSE), _column(table, SPECULAR)
    scattered_grad, mirrored_grad, color_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if ti.static(paint != NO_PAINT):
        scattered_grad = grad * color * diffuse
    if ti.static(model != NO_HIGHLIGHT):
        mirrored_grad = grad * specular
    n_grad, x_grad, columns, scattered, mirrored = _light_of_adjoint(kind, model, side * n, x, table, attenuated, scattered_grad, mirrored_grad)
    if ti.static(paint != NO_PAINT):
        color_grad = grad * diffuse * scattered
        _put(columns, DIFFUSE, grad * color * scattered)
    if ti.static(model != NO_HIGHLIGHT):
        _put(columns, SPECULAR, grad * mirrored)
    return color_grad, side * n_grad, x_grad, columns


@ti.kernel
def _illuminate_adjoint_kernel(
    kind: ti.template(), paint: ti.template(), model: ti.template(), placed: ti.template(), albedo: Points, normals: Points, positions: Points,
    table: Points, offset: int, views: Ints, by_point: ti.template(), attenuated: int, two_sided: int,
    lit_grad: Points, albedo_grad: Points, normals_grad: Points, positions_grad: Points, partials: Strips,
    steps: int, pad: int, threads: int, strip_count: int, length: int,
):  # fmt: skip
    """A thread takes a strip of points in all views, so nobody else adds to their entries; it sums up the table's gradient.

    With a view for each point the row of the table changes along the strip, and the sums are put away each time.
    """
    for q in range(steps):
        strip = work_item(q, pad, threads, strip_count)
        if strip >= 0:
            for b in range(lit_grad.shape[0]):
                row = ti.min(b, table.shape[0] - 1)
                columns = _table_of(kind, table, offset, row)
                sums = ti.Matrix.zero(float, ti.static(WIDTHS[kind]), 3)
                for i in range(strip * length, ti.min((strip + 1) * length, lit_grad.shape[1])):
                    grad = lit_grad[b, i]
                    if any(grad != 0.0):  # what nobody sees adds exactly nothing
                        if ti.static(by_point):
                            here = ti.math.clamp(views[i], 0, table.shape[0] - 1)
                            if here != row:
                                _put_away(kind, sums, partials, row, strip)
                                sums *= 0.0
                                row = here
                                columns = _table_of(kind, table, offset, row)
                        color, n, x = _point(kind, paint, placed, albedo, normals, positions, b, i)
                        color_grad, n_grad, x_grad, columns_grad = _point_adjoint(
                            kind, paint, model, color, n, x, columns, attenuated, two_sided, grad
                        )
                        if is_finite(color + n + x):
                            sums += columns_grad
                        if ti.static(paint == PAINTED):
                            place = ti.min(b, albedo.shape[0] - 1)
                            albedo_grad[place, i] = albedo_grad[place, i] + color_grad
                        if ti.static(kind != AMBIENT):
                            place = ti.min(b, normals.shape[0] - 1)
                            normals_grad[place, i] = normals_grad[place, i] + n_grad
                        if ti.static(placed):
                            place = ti.min(b, positions.shape[0] - 1)
                            positions_grad[place, i] = positions_grad[place, i] + x_grad
                _put_away(kind, sums, partials, row, strip)


@ti.func
def _put_away(kind: ti.template(), sums, partials: ti.template(), row: int, strip: int):
    for c in ti.static(range(WIDTHS[kind])):
        place = row * ti.static(WIDTHS[kind]) + c
        partials[place, strip] = partials[place, strip] + _column(sums, c)


@ti.kernel
def _add_strips_kernel(partials: Strips, table_grad: Points, offset: int, width: int):
    for k in range(partials.shape[0]):
        row, column = k // width, k % width
        place = ti.select(column < SURFACE, column, offset + column - SURFACE)
        table_grad[row, place] = table_grad[row, place] + row_total(partials, k)


@_illuminate.adjoint
def _illuminate_adjoint(
    kind: int, paint: int, model: int, placed: int, albedo: Array, normals: Array, positions: Array, table: Array, offset: int,
    views: Array | None, attenuated: bool, two_sided: bool, first: bool, lit: Array,
) -> None:  # fmt: skip
    points = (albedo, normals, positions)
    flags = (empty(int, (1,)) if views is None else views), int(views is not None), int(attenuated), int(two_sided)
    sums = table.shape[0] * WIDTHS[kind]
    length, count = _bounded_strips(lit.shape[1], sums)
    partials = empty(vec3, (sums, count))
    zero(partials)
    sizes = *split(count), count, length
    _illuminate_adjoint_kernel(kind, paint, model, placed, *points, table, offset, *flags, lit.grad, *map(grad_of, points), partials, *sizes)
    _add_strips_kernel(partials, table.grad, offset, WIDTHS[kind])


def _bounded_strips(n: int, sums: int) -> tuple[int, int]:
    """Length and number of strips, of which there are fewer where a table has very many rows."""
    length, count = strips(n)
    if sums * count > MOST_PARTIALS:
        length = -(-n // max(1, MOST_PARTIALS // sums))
        count = max(1, -(-n // length))
    return length, count


# --- Meshes -------------------------------------------------------------------------------------------------------


def shade(
    mesh: Any,
    lights: Light | Sequence[Light] | None,
    material: Material | None = None,
    camera: Any = None,
    frame: Array | None = None,
) -> Array:
    """The mesh's colors under the lights: `shade_points` at its vertices (Gouraud), or at the middles of its faces.

        shaded = color * diffuse * sum of E + specular * sum of A p^shininess

    Vertices have the normals of their faces, weighted by area; faces with texels have their own.

    Args:
        mesh: vertices (B, V), faces (F,), and colors (B, V), or texels (F, R, R) or (B, F, R, R), which go before colors.
        lights: one light or several; the fields of each serve all views, or there is one per view. None or an empty
            sequence leave the colors as they are.
        material, frame: as of `shade_points`.
        camera: the `Camera` whose eyes see the highlights; in place of `frame`.

    Returns:
        Lit colors per vertex, (B, V) of vec3, or lit texels, (F, R, R) of vec3, with texels that differ between views
        (B, F, R, R).

    Differentiable in the mesh's `vertices` (through normals and positions), `colors` and `texels`, in every field of the
    lights and the material, and in the camera. Where a surface faces away from a light, n . l <= 0, that light does nothing
    and has no gradient. Where there is no normal, as on a face without an area or with a vertex that is not finite, only
    ambient light arrives.

    Raises:
        ValueError: wrong shapes or types, no colors to light, a face index out of range, batches that do not agree,
            a material with highlights and no camera.

    Source: SoftRas, `ambient_lighting` and `directional_lighting`; Gouraud, "Continuous shading of curved surfaces", 1971.
    """
    lights = light_list(lights)
    textured = mesh.texels is not None
    colors, name = (mesh.texels, "texels") if textured else (mesh.colors, "colors")
    if colors is None:
        raise ValueError("mesh: expected colors or texels to light, got neither; make it with dr.Mesh(vertices, faces, colors=...)")
    if not lights:
        return colors
    expect_mesh(mesh.vertices, mesh.faces)
    expect(name, colors, 3, (3, 4) if textured else 2, "(F, R, R) or (B, F, R, R) of vec3" if textured else "(B, V) of vec3")
    count = mesh.faces.shape[0] if textured else mesh.vertices.shape[1]
    if colors.shape[-3 if textured else 1] != count:
        raise ValueError(f"{name}: expected one entry per {'face' if textured else 'vertex'}, {count}, got shape {tuple(colors.shape)}")
    if frame is None and camera is not None and material is not None:
        frame = camera_frame(camera)
    # Checked here too, since an error names what the mesh has, and comes before any work.
    sizes = {f"lights[{k}].{field}": n for k, light in enumerate(lights) for field, n in view_counts(light).items()}
    if not all(isinstance(light, AmbientLight) for light in lights):
        sizes["vertices"] = mesh.vertices.shape[0]
    batch_size(**sizes, **{name: 1 if len(colors.shape) == 3 else colors.shape[0]})

    normals = positions = None
    if not all(isinstance(light, AmbientLight) for light in lights):
        normals = (face_normals if textured else vertex_normals)(mesh.vertices, mesh.faces)
    if (material is not None and frame is not None) or any("position" in vars(light) for light in lights):
        positions = face_centers(mesh.vertices, mesh.faces) if textured else mesh.vertices
    if not textured:
        return shade_points(colors, normals, positions, lights, material=material, frame=frame)
    scattered = _lit(lights, count, WHITE, None, normals, positions, material, frame, highlights=False)
    mirrored = _lit(lights, count, NO_PAINT, None, normals, positions, material, frame)
    assert scattered is not None
    batch = max(1 if len(colors.shape) == 3 else colors.shape[0], scattered.shape[0], 1 if mirrored is None else mirrored.shape[0])
    lit = empty(vec3, colors.shape[-3:] if batch == 1 else (batch, *colors.shape[-3:]), needs_grad=True)
    _light_texels(colors, scattered, scattered if mirrored is None else mirrored, mirrored is not None, lit)
    return lit


@ti.func
def _texel(texels: ti.template(), b: int, f: int, i: int, j: int):
    value = vec3(0.0)
    if ti.static(len(texels.shape) == 4):
        value = texels[b % texels.shape[0], f, i, j]
    else:
        value = texels[f, i, j]
    return value


@ti.func
def _set_texel(texels: ti.template(), b: int, f: int, i: int, j: int, value):
    if ti.static(len(texels.shape) == 4):
        texels[b % texels.shape[0], f, i, j] = value
    else:
        texels[f, i, j] = value


@ti.kernel
def _light_texels_kernel(
    texels: Texels, scattered: Points, mirrored: Points, with_mirrored: ti.template(), lit: Texels, views: int, resolution: int
):  # fmt: skip
    for k in range(views * scattered.shape[1]):
        b, f = k // scattered.shape[1], k % scattered.shape[1]
        light, shine = scattered[b % scattered.shape[0], f], vec3(0.0)
        if ti.static(with_mirrored):
            shine = mirrored[b % mirrored.shape[0], f]
        for i in range(resolution):
            for j in range(resolution):
                _set_texel(lit, b, f, i, j, _texel(texels, b, f, i, j) * light + shine)


@operator
def _light_texels(texels: Array, scattered: Array, mirrored: Array, with_mirrored: bool, lit: Array) -> None:
    """Texels times scattered light, plus the highlight of their face."""
    views = 1 if len(lit.shape) == 3 else lit.shape[0]
    _light_texels_kernel(texels, scattered, mirrored, int(with_mirrored), lit, views, lit.shape[-1])


@ti.kernel
def _light_texels_adjoint_kernel(
    texels: Texels, scattered: Points, mirrored: Points, with_mirrored: ti.template(), lit_grad: Texels,
    texels_grad: Texels, scattered_grad: Points, mirrored_grad: Points, views: int, resolution: int,
):  # fmt: skip
    """A thread takes a face in all views, so nobody else adds to its entries."""
    for f in range(scattered.shape[1]):
        for b in range(views):
            row = b % scattered.shape[0]
            light, total, shine = scattered[row, f], vec3(0.0), vec3(0.0)
            for i in range(resolution):
                for j in range(resolution):
                    grad = _texel(lit_grad, b, f, i, j)
                    if any(grad != 0.0):
                        _set_texel(texels_grad, b, f, i, j, _texel(texels_grad, b, f, i, j) + grad * light)
                        total += grad * _texel(texels, b, f, i, j)
                        shine += grad
            scattered_grad[row, f] = scattered_grad[row, f] + total
            if ti.static(with_mirrored):
                mirrored_grad[b % mirrored.shape[0], f] = mirrored_grad[b % mirrored.shape[0], f] + shine


@_light_texels.adjoint
def _light_texels_adjoint(texels: Array, scattered: Array, mirrored: Array, with_mirrored: bool, lit: Array) -> None:
    views = 1 if len(lit.shape) == 3 else lit.shape[0]
    grads = grad_of(texels), scattered.grad, mirrored.grad
    _light_texels_adjoint_kernel(texels, scattered, mirrored, int(with_mirrored), lit.grad, *grads, views, lit.shape[-1])
