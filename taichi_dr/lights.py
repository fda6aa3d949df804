"""Normals, lights, and `shade`: how bright a mesh is, per vertex or per face.

A surface with normal n at x shows its color times the light that arrives there (Lambert, as SoftRas has it: no 1 / pi,
and no falloff with distance):

    E = sum of I                                ambient lights
      + sum of I max(0, n . l)                  directional lights, l towards the light; point lights, l = (p - x) / |p - x|

Vertices have the normals of their faces, weighted by area; faces with texels have their own, and x is their middle.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Faces, Ints, Points, Texels, Vectors, array, batch_size, empty, expect, is_finite, item, read, split, vec3, work_item
from .mesh import Incidence, corner_incidence
from .tape import operator

AMBIENT, DIRECTIONAL, POINT = 0, 1, 2

SHORTEST = 1e-30  # vectors whose largest component is not above this have no direction


class AmbientLight:
    """Light from everywhere: adds `intensity` on every surface.

    Args:
        intensity: a number, an RGB triple, or (B, 3) for one per view; or an array of vec3, () or (B,), which is kept.

    Fields: `intensity`, an array with a gradient.

    Raises:
        ValueError: a wrong shape, or numbers that are not finite.
    """

    def __init__(self, intensity: float | Sequence | np.ndarray | Array = 0.5) -> None:
        self.intensity = _color("intensity", intensity)


class DirectionalLight:
    """Light from far away: adds `intensity` times max(0, n . l).

    Args:
        direction: l, from the surface TO the light, of any length: three numbers, or (B, 3) for one per view; or an
            array of vec3, () or (B,), which is kept.
        intensity: as of `AmbientLight`.

    Fields: `direction`, `intensity`, arrays with gradients. A direction of length zero lights nothing.

    Raises:
        ValueError: a wrong shape, numbers that are not finite, or a direction of length zero.
    """

    def __init__(self, direction: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0), intensity: float | Sequence | np.ndarray | Array = 0.5) -> None:
        if not isinstance(direction, ti.Ndarray) and (np.linalg.norm(_numbers("direction", direction), axis=-1) == 0).any():
            raise ValueError(f"direction: expected a direction from the surface to the light, got length zero in {direction!r}")
        self.direction = _vector("direction", direction)
        self.intensity = _color("intensity", intensity)


class PointLight:
    """Light from a place: adds `intensity` times max(0, n . l) with l = (position - x) / |position - x|, at any distance.

    Args:
        position: in the world: three numbers, or (B, 3) for one per view; or an array of vec3, () or (B,), which is kept.
        intensity: as of `AmbientLight`.

    Fields: `position`, `intensity`, arrays with gradients. A point at the light's own position gets nothing.

    Raises:
        ValueError: a wrong shape, or numbers that are not finite.
    """

    def __init__(self, position: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0), intensity: float | Sequence | np.ndarray | Array = 0.5) -> None:
        self.position = _vector("position", position)
        self.intensity = _color("intensity", intensity)


Light = AmbientLight | DirectionalLight | PointLight


def _color(name: str, given: Any) -> Array:
    """As `_vector`; one number is all three channels."""
    if not isinstance(given, ti.Ndarray) and np.ndim(given) == 0:
        given = (given,) * 3
    return _vector(name, given)


def _vector(name: str, given: Any) -> Array:
    """An array of vec3 over () or (B,); one that came as an array is kept."""
    if isinstance(given, ti.Ndarray):
        expect(name, given, 3, (0, 1), "() or (B,) of vec3")
        return given
    return array(_numbers(name, given))


def _numbers(name: str, given: Any) -> np.ndarray:
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected three numbers, (B, 3) numbers, or an array made with dr.array(...), got {given!r}") from error
    if values.ndim not in (1, 2) or values.shape[-1] != 3 or values.size == 0:
        raise ValueError(f"{name}: expected three numbers or (B, 3) numbers, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers, got {given!r}")
    return values


# --- Shade ------------------------------------------------------------------------------------------------------


def shade(mesh: Any, lights: Light | Sequence[Light] | None) -> Array:
    """The mesh's colors under the lights.

        shaded = color * (sum of I over ambient lights + sum of I max(0, n . l) over the others)

    Args:
        mesh: vertices (B, V), faces (F,), and colors (B, V), or texels (F, R, R) or (B, F, R, R), which go before colors.
        lights: one light or several; the fields of each serve all views, or there is one per view. None or an empty
            sequence leave the colors as they are.

    Returns:
        Lit colors per vertex, (B, V) of vec3, or lit texels, (F, R, R) of vec3, with texels that differ between views
        (B, F, R, R).

    Differentiable in the mesh's `vertices` (through normals and positions), `colors` and `texels`, and in every field of
    the lights. Where a surface faces away from a light, n . l <= 0, that light does nothing and has no gradient. Where
    there is no normal, as on a face without an area or with a vertex that is not finite, only ambient light arrives.

    Raises:
        ValueError: wrong shapes or types, no colors to light, a face index out of range, batches that do not agree.

    Source: SoftRas, `ambient_lighting` and `directional_lighting`; the point light differs in its l only.
    """
    lights = [] if lights is None else [lights] if isinstance(lights, Light) else list(lights)
    for k, light in enumerate(lights):
        if not isinstance(light, Light):
            raise ValueError(f"lights: expected AmbientLight, DirectionalLight or PointLight, got {type(light).__name__} at index {k}")
    textured = mesh.texels is not None
    colors, name = (mesh.texels, "texels") if textured else (mesh.colors, "colors")
    if colors is None:
        raise ValueError("mesh: expected colors or texels to light, got neither; make it with dr.Mesh(vertices, faces, colors=...)")
    if not lights:
        return colors
    _expect_mesh(mesh.vertices, mesh.faces)
    expect(name, colors, 3, (3, 4) if textured else 2, "(F, R, R) or (B, F, R, R) of vec3" if textured else "(B, V) of vec3")
    count = mesh.faces.shape[0] if textured else mesh.vertices.shape[1]
    if colors.shape[-3 if textured else 1] != count:
        raise ValueError(f"{name}: expected one entry per {'face' if textured else 'vertex'}, {count}, got shape {tuple(colors.shape)}")

    sizes = {f"lights[{k}].{field}": x.shape[0] for k, light in enumerate(lights) for field, x in vars(light).items() if x.shape}
    if not all(isinstance(light, AmbientLight) for light in lights):
        sizes["vertices"] = mesh.vertices.shape[0]
    views = batch_size(**sizes) if sizes else 1
    batch = batch_size(**sizes, **{name: 1 if len(colors.shape) == 3 else colors.shape[0]})

    irradiance = empty(vec3, (views, count), needs_grad=True)
    normals = positions = irradiance  # stands for what a light does not ask for
    for k, light in enumerate(lights):
        if normals is irradiance and not isinstance(light, AmbientLight):
            normals = (face_normals if textured else vertex_normals)(mesh.vertices, mesh.faces)
        if positions is irradiance and isinstance(light, PointLight):
            positions = _face_centers(mesh.vertices, mesh.faces) if textured else mesh.vertices
        kind, source = _kind_and_source(light)
        _illuminate(kind, normals, positions if kind == POINT else normals, source, light.intensity, k == 0, irradiance)
    if textured:
        lit = empty(vec3, colors.shape[-3:] if batch == 1 else (batch, *colors.shape[-3:]), needs_grad=True)
        _light_texels(colors, irradiance, lit)
    else:
        lit = empty(vec3, (batch, count), needs_grad=True)
        _light_colors(colors, irradiance, lit)
    return lit


def _kind_and_source(light: Light) -> tuple[int, Array]:
    """What the kernels call it, and where its light comes from; an ambient light's intensity stands in for that."""
    if isinstance(light, DirectionalLight):
        return DIRECTIONAL, light.direction
    return (POINT, light.position) if isinstance(light, PointLight) else (AMBIENT, light.intensity)


# --- Colors times light -----------------------------------------------------------------------------------------


@ti.kernel
def _light_colors_kernel(colors: Points, irradiance: Points, lit: Points):
    for k in range(lit.shape[0] * lit.shape[1]):
        b, v = k // lit.shape[1], k % lit.shape[1]
        lit[b, v] = colors[b % colors.shape[0], v] * irradiance[b % irradiance.shape[0], v]


@operator
def _light_colors(colors: Array, irradiance: Array, lit: Array) -> None:
    _light_colors_kernel(colors, irradiance, lit)


@ti.kernel
def _light_colors_adjoint_kernel(colors: Points, irradiance: Points, lit_grad: Points, colors_grad: Points, irradiance_grad: Points):
    """A thread takes a vertex in all views, so nobody else adds to its entries."""
    for v in range(lit_grad.shape[1]):
        for b in range(lit_grad.shape[0]):
            i, j, grad = b % colors.shape[0], b % irradiance.shape[0], lit_grad[b, v]
            if any(grad != 0.0):
                colors_grad[i, v] = colors_grad[i, v] + grad * irradiance[j, v]
                irradiance_grad[j, v] = irradiance_grad[j, v] + grad * colors[i, v]


@_light_colors.adjoint
def _light_colors_adjoint(colors: Array, irradiance: Array, lit: Array) -> None:
    _light_colors_adjoint_kernel(colors, irradiance, lit.grad, _grad(colors), irradiance.grad)


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
def _light_texels_kernel(texels: Texels, irradiance: Points, lit: Texels, views: int, resolution: int):
    for k in range(views * irradiance.shape[1]):
        b, f = k // irradiance.shape[1], k % irradiance.shape[1]
        light = irradiance[b % irradiance.shape[0], f]
        for i in range(resolution):
            for j in range(resolution):
                _set_texel(lit, b, f, i, j, _texel(texels, b, f, i, j) * light)


@operator
def _light_texels(texels: Array, irradiance: Array, lit: Array) -> None:
    _light_texels_kernel(texels, irradiance, lit, 1 if len(lit.shape) == 3 else lit.shape[0], lit.shape[-1])


@ti.kernel
def _light_texels_adjoint_kernel(
    texels: Texels, irradiance: Points, lit_grad: Texels, texels_grad: Texels, irradiance_grad: Points, views: int, resolution: int
):  # fmt: skip
    """A thread takes a face in all views, so nobody else adds to its entries."""
    for f in range(irradiance.shape[1]):
        for b in range(views):
            row = b % irradiance.shape[0]
            light, total = irradiance[row, f], vec3(0.0)
            for i in range(resolution):
                for j in range(resolution):
                    grad = _texel(lit_grad, b, f, i, j)
                    if any(grad != 0.0):
                        _set_texel(texels_grad, b, f, i, j, _texel(texels_grad, b, f, i, j) + grad * light)
                        total += grad * _texel(texels, b, f, i, j)
            irradiance_grad[row, f] = irradiance_grad[row, f] + total


@_light_texels.adjoint
def _light_texels_adjoint(texels: Array, irradiance: Array, lit: Array) -> None:
    views = 1 if len(lit.shape) == 3 else lit.shape[0]
    _light_texels_adjoint_kernel(texels, irradiance, lit.grad, _grad(texels), irradiance.grad, views, lit.shape[-1])


def _grad(x: Array) -> Array:
    """The gradient of x, or something to write to in its place, which nobody reads."""
    return empty(vec3, x.shape) if x.grad is None else x.grad


# --- One light --------------------------------------------------------------------------------------------------


@ti.func
def _unit(v):
    """(v / |v|, |v|); (0, 0) where v has no direction. Scaled first: the normal of a tiny face is its edges multiplied."""
    direction, length = vec3(0.0), 0.0
    largest = ti.max(ti.abs(v.x), ti.abs(v.y), ti.abs(v.z))
    if is_finite(v) and largest > SHORTEST:
        scaled = v / largest
        norm = scaled.norm()
        direction, length = scaled / norm, norm * largest
    return direction, length


@ti.func
def _unit_adjoint(direction, length, direction_grad):
    """Gradient of v, zero where it has no direction."""
    v_grad = vec3(0.0)
    if length > 0.0:
        v_grad = (direction_grad - direction * direction.dot(direction_grad)) / length
    return v_grad


@ti.func
def _to_light(kind: ti.template(), x, source):
    """l and the distance that it was normalized by."""
    v = source
    if ti.static(kind == POINT):
        v = source - x
    return _unit(v)


@ti.kernel
def _illuminate_kernel(kind: ti.template(), normals: Points, positions: Points, source: Vectors, intensity: Vectors, first: int, irradiance: Points):
    for k in range(irradiance.shape[0] * irradiance.shape[1]):
        b, i = k // irradiance.shape[1], k % irradiance.shape[1]
        light = item(intensity, b)
        if ti.static(kind != AMBIENT):
            toward, _ = _to_light(kind, positions[b % positions.shape[0], i], item(source, b))
            light *= ti.max(0.0, normals[b % normals.shape[0], i].dot(toward))
        if first == 0:
            light += irradiance[b, i]
        irradiance[b, i] = light


@operator
def _illuminate(kind: int, normals: Array, positions: Array, source: Array, intensity: Array, first: bool, irradiance: Array) -> None:
    """Add one light to the irradiance; the first light overwrites what was there."""
    _illuminate_kernel(kind, normals, positions, source, intensity, int(first), irradiance)


@ti.func
def _light_adjoint(kind: ti.template(), n, x, source, intensity, grad):
    """Gradients of the normal, of the vector that l is the direction of, and of the intensity.

    A light's direction is normalized once for all its surfaces, so its gradient comes here as that of l itself.
    """
    n_grad, v_grad, intensity_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if any(grad != 0.0):  # what nobody sees adds exactly nothing
        if ti.static(kind == AMBIENT):
            intensity_grad = grad
        else:
            toward, distance = _to_light(kind, x, source)
            cosine = n.dot(toward)
            if cosine > 0.0:
                intensity_grad = grad * cosine
                n_grad, v_grad = grad.dot(intensity) * toward, grad.dot(intensity) * n
                if ti.static(kind == POINT):
                    v_grad = _unit_adjoint(toward, distance, v_grad)
    return n_grad, v_grad, intensity_grad


@ti.kernel
def _surface_adjoint_kernel(
    kind: ti.template(), normals: Points, positions: Points, source: Vectors, intensity: Vectors,
    irradiance_grad: Points, normals_grad: Points, positions_grad: Points,
):  # fmt: skip
    """A thread takes a vertex or face in all views, so nobody else adds to its entries."""
    for i in range(irradiance_grad.shape[1]):
        for b in range(irradiance_grad.shape[0]):
            row, place = b % normals.shape[0], b % positions.shape[0]
            n_grad, v_grad, _ = _light_adjoint(kind, normals[row, i], positions[place, i], item(source, b), item(intensity, b), irradiance_grad[b, i])
            normals_grad[row, i] = normals_grad[row, i] + n_grad
            if ti.static(kind == POINT):
                positions_grad[place, i] = positions_grad[place, i] - v_grad


@ti.kernel
def _stretch_kernel(
    kind: ti.template(), normals: Points, positions: Points, source: Vectors, intensity: Vectors, irradiance_grad: Points, partials: Points,
    steps: int, pad: int, threads: int, rows: int, length: int, count: int, total: int,
):  # fmt: skip
    """Gradients of a light's two fields, summed over one stretch of all surfaces that the entry `row` of them lights."""
    for q in range(steps):
        k = work_item(q, pad, threads, rows * count)
        if k >= 0:
            row, first = k // count, k % count * length
            by_source, by_intensity = vec3(0.0), vec3(0.0)
            for t in range(first, ti.min(first + length, total)):
                b, i = row + t // irradiance_grad.shape[1] * rows, t % irradiance_grad.shape[1]
                n, x = normals[b % normals.shape[0], i], positions[b % positions.shape[0], i]
                _, v_grad, intensity_grad = _light_adjoint(kind, n, x, item(source, b), item(intensity, b), irradiance_grad[b, i])
                by_source += v_grad
                by_intensity += intensity_grad
            partials[k, 0], partials[k, 1] = by_source, by_intensity


@ti.func
def _add(out: ti.template(), b: int, value):
    """Add to the entry that serves view b; only one thread may do so."""
    if ti.static(len(out.shape) == 0):
        out[None] = out[None] + value
    else:
        k = b % out.shape[0]
        out[k] = out[k] + value


@ti.kernel
def _add_stretches_kernel(
    kind: ti.template(), source: Vectors, partials: Points, source_grad: Vectors, intensity_grad: Vectors, rows: int, count: int
):  # fmt: skip
    for n in range(rows * 2):
        total = vec3(0.0)
        for k in range(n // 2 * count, (n // 2 + 1) * count):
            total += partials[k, n % 2]
        partials[n // 2 * count, n % 2] = total
    ti.loop_config(serialize=True)  # rows of one field may share an entry of the other
    for row in range(rows):
        if ti.static(kind == DIRECTIONAL):
            toward, length = _unit(item(source, row))
            _add(source_grad, row, _unit_adjoint(toward, length, partials[row * count, 0]))
        elif ti.static(kind == POINT):
            _add(source_grad, row, partials[row * count, 0])
        _add(intensity_grad, row, partials[row * count, 1])


@_illuminate.adjoint
def _illuminate_adjoint(kind: int, normals: Array, positions: Array, source: Array, intensity: Array, first: bool, irradiance: Array) -> None:
    if kind != AMBIENT:
        _surface_adjoint_kernel(kind, normals, positions, source, intensity, irradiance.grad, normals.grad, _grad(positions))
    if source.grad is None and intensity.grad is None:
        return
    rows = max(x.shape[0] if x.shape else 1 for x in (source, intensity))
    total = irradiance.shape[0] // rows * irradiance.shape[1]
    length = math.isqrt(total - 1) + 1
    count = -(-total // length)
    partials = empty(vec3, (rows * count, 2))
    _stretch_kernel(kind, normals, positions, source, intensity, irradiance.grad, partials, *split(rows * count), rows, length, count, total)
    _add_stretches_kernel(kind, source, partials, _grad(source), _grad(intensity), rows, count)


# --- Normals ----------------------------------------------------------------------------------------------------


def _expect_mesh(vertices: Array, faces: Array) -> None:
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)


def _corners(vertices: Array, faces: Array) -> Incidence:
    """Which corners of which faces each vertex is; a face index out of range is found here, before any kernel sees it."""
    count = vertices.shape[1]
    try:
        corners = corner_incidence(faces, count)
    except ValueError:  # a negative index
        corners = None
    if corners is None or corners.offsets.shape[0] != count + 1:
        indices = read(faces)
        bad = int(np.flatnonzero(((indices < 0) | (indices >= count)).any(axis=1))[0])
        raise ValueError(f"faces: expected indices from 0 to {count - 1}, got {indices[bad].tolist()} in face {bad}; fix or drop that face")
    return corners


def vertex_normals(vertices: Array, faces: Array) -> Array:
    """Unit normals of vertices, those of the faces around weighted by area.

        n_v = N / |N|,   N = sum of (b - a) x (c - a) over the faces (a, b, c) at v

    Args:
        vertices: positions, (B, V) of vec3.
        faces: vertex indices, (F,) of ivec3, counter-clockwise from outside. Not to be changed in place.

    Returns:
        (B, V) of vec3, zero where a vertex has no face with an area.

    Differentiable in `vertices`. Faces with a vertex that is not finite are left out; where N is zero, so is the gradient.

    Raises:
        ValueError: wrong shapes or types, a face index out of range.
    """
    _expect_mesh(vertices, faces)
    corners = _corners(vertices, faces)
    sums = empty(vec3, vertices.shape)
    normals = empty(vec3, vertices.shape, needs_grad=True)
    _vertex_normals(vertices, faces, corners.offsets, corners.slots, sums, normals)
    return normals


@ti.func
def _face_cross(vertices: ti.template(), faces: ti.template(), b: int, f: int):
    """The face's normal, as long as twice its area; zero unless it is finite."""
    a, b1, c = vertices[b, faces[f].x], vertices[b, faces[f].y], vertices[b, faces[f].z]
    cross = (b1 - a).cross(c - a)
    return ti.select(is_finite(cross), cross, vec3(0.0))


@ti.func
def _face_cross_adjoint(vertices: ti.template(), faces: ti.template(), b: int, slot: int, cross_grad):
    """Gradient of one corner, the one at `slot`: the edge opposite turns about it."""
    corner_grad = vec3(0.0)
    a, b1, c = vertices[b, faces[slot // 3].x], vertices[b, faces[slot // 3].y], vertices[b, faces[slot // 3].z]
    if any(cross_grad != 0.0) and is_finite((b1 - a).cross(c - a)):
        k = slot % 3
        corner_grad = ti.select(k == 0, b1 - c, ti.select(k == 1, c - a, a - b1)).cross(cross_grad)
    return corner_grad


@ti.kernel
def _vertex_normals_kernel(vertices: Points, faces: Faces, offsets: Ints, slots: Ints, sums: Points, normals: Points):
    for k in range(vertices.shape[0] * vertices.shape[1]):
        b, v = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for s in range(offsets[v], offsets[v + 1]):
            total += _face_cross(vertices, faces, b, slots[s] // 3)
        n, _ = _unit(total)
        sums[b, v], normals[b, v] = total, n


@operator
def _vertex_normals(vertices: Array, faces: Array, offsets: Array, slots: Array, sums: Array, normals: Array) -> None:
    _vertex_normals_kernel(vertices, faces, offsets, slots, sums, normals)


@ti.kernel
def _vertex_normals_adjoint_kernel(
    vertices: Points, faces: Faces, offsets: Ints, slots: Ints, sums: Points, normals_grad: Points, sums_grad: Points, vertices_grad: Points
):  # fmt: skip
    for k in range(vertices.shape[0] * vertices.shape[1]):
        b, v = k // vertices.shape[1], k % vertices.shape[1]
        n, length = _unit(sums[b, v])
        sums_grad[b, v] = _unit_adjoint(n, length, normals_grad[b, v])
    for k in range(vertices.shape[0] * vertices.shape[1]):
        b, v = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for s in range(offsets[v], offsets[v + 1]):
            f = slots[s] // 3
            cross_grad = sums_grad[b, faces[f].x] + sums_grad[b, faces[f].y] + sums_grad[b, faces[f].z]
            total += _face_cross_adjoint(vertices, faces, b, slots[s], cross_grad)
        vertices_grad[b, v] = vertices_grad[b, v] + total


@_vertex_normals.adjoint
def _vertex_normals_adjoint(vertices: Array, faces: Array, offsets: Array, slots: Array, sums: Array, normals: Array) -> None:
    if vertices.grad is not None:
        _vertex_normals_adjoint_kernel(vertices, faces, offsets, slots, sums, normals.grad, empty(vec3, vertices.shape), vertices.grad)


def face_normals(vertices: Array, faces: Array) -> Array:
    """Unit normals of faces.

        n_f = N / |N|,   N = (b - a) x (c - a)

    Args:
        vertices: positions, (B, V) of vec3.
        faces: vertex indices, (F,) of ivec3, counter-clockwise from outside. Not to be changed in place.

    Returns:
        (B, F) of vec3, zero where a face has no area or a vertex that is not finite.

    Differentiable in `vertices`; not where the normal is zero.

    Raises:
        ValueError: wrong shapes or types, a face index out of range.
    """
    _expect_mesh(vertices, faces)
    corners = _corners(vertices, faces)
    normals = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _face_normals(vertices, faces, corners.offsets, corners.slots, normals)
    return normals


@ti.kernel
def _face_normals_kernel(vertices: Points, faces: Faces, normals: Points):
    for k in range(normals.shape[0] * normals.shape[1]):
        b, f = k // normals.shape[1], k % normals.shape[1]
        normals[b, f], _ = _unit(_face_cross(vertices, faces, b, f))


@operator
def _face_normals(vertices: Array, faces: Array, offsets: Array, slots: Array, normals: Array) -> None:
    _face_normals_kernel(vertices, faces, normals)


@ti.kernel
def _face_normals_adjoint_kernel(vertices: Points, faces: Faces, offsets: Ints, slots: Ints, normals_grad: Points, vertices_grad: Points):
    for k in range(vertices.shape[0] * vertices.shape[1]):
        b, v = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for s in range(offsets[v], offsets[v + 1]):
            f = slots[s] // 3
            n, length = _unit(_face_cross(vertices, faces, b, f))
            total += _face_cross_adjoint(vertices, faces, b, slots[s], _unit_adjoint(n, length, normals_grad[b, f]))
        vertices_grad[b, v] = vertices_grad[b, v] + total


@_face_normals.adjoint
def _face_normals_adjoint(vertices: Array, faces: Array, offsets: Array, slots: Array, normals: Array) -> None:
    if vertices.grad is not None:
        _face_normals_adjoint_kernel(vertices, faces, offsets, slots, normals.grad, vertices.grad)


# --- Middles of faces -------------------------------------------------------------------------------------------


def _face_centers(vertices: Array, faces: Array) -> Array:
    """(B, F) of vec3: the means of the corners."""
    corners = _corners(vertices, faces)
    centers = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _centers(vertices, faces, corners.offsets, corners.slots, centers)
    return centers


@ti.kernel
def _centers_kernel(vertices: Points, faces: Faces, centers: Points):
    for k in range(centers.shape[0] * centers.shape[1]):
        b, f = k // centers.shape[1], k % centers.shape[1]
        centers[b, f] = (vertices[b, faces[f].x] + vertices[b, faces[f].y] + vertices[b, faces[f].z]) / 3.0


@operator
def _centers(vertices: Array, faces: Array, offsets: Array, slots: Array, centers: Array) -> None:
    _centers_kernel(vertices, faces, centers)


@ti.kernel
def _centers_adjoint_kernel(offsets: Ints, slots: Ints, centers_grad: Points, vertices_grad: Points):
    for k in range(vertices_grad.shape[0] * vertices_grad.shape[1]):
        b, v = k // vertices_grad.shape[1], k % vertices_grad.shape[1]
        total = vec3(0.0)
        for s in range(offsets[v], offsets[v + 1]):
            total += centers_grad[b, slots[s] // 3] / 3.0
        vertices_grad[b, v] = vertices_grad[b, v] + total


@_centers.adjoint
def _centers_adjoint(vertices: Array, faces: Array, offsets: Array, slots: Array, centers: Array) -> None:
    if vertices.grad is not None:
        _centers_adjoint_kernel(offsets, slots, centers.grad, vertices.grad)
