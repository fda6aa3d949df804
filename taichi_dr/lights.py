"""Lights, and `shade`: how bright a mesh is, per vertex or per face.

A surface with normal n at x shows its color times the light that arrives there (Lambert, as SoftRas has it: no 1 / pi,
and no falloff with distance):

    E = sum of I                                ambient lights
      + sum of I max(0, n . l)                  directional lights, l towards the light; point lights, l = (p - x) / |p - x|

Vertices have the normals of their faces, weighted by area; faces with texels have their own, and x is their middle.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Points, Texels, Vectors, add_item, batch_size, empty, expect, field, grad_of, item, split, vec3, view_numbers, work_item
from .normals import expect_mesh, face_centers, face_normals, vertex_normals
from .sums import Strips, row_total, strips
from .tape import operator
from .vectors import unit, unit_adjoint

AMBIENT, DIRECTIONAL, POINT = 0, 1, 2


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
        if not isinstance(direction, ti.Ndarray) and (view_numbers("direction", direction, 3) == 0).all(axis=-1).any():
            raise ValueError(f"direction: expected a direction from the surface to the light, got length zero in {direction!r}")
        self.direction = field("direction", direction, 3)
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
        self.position = field("position", position, 3)
        self.intensity = _color("intensity", intensity)


Light = AmbientLight | DirectionalLight | PointLight


def _color(name: str, given: Any) -> Array:
    """One number is all three channels."""
    return field(name, (given,) * 3 if not isinstance(given, ti.Ndarray) and np.ndim(given) == 0 else given, 3)


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
    expect_mesh(mesh.vertices, mesh.faces)
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
            positions = face_centers(mesh.vertices, mesh.faces) if textured else mesh.vertices
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
    _light_colors_adjoint_kernel(colors, irradiance, lit.grad, grad_of(colors), irradiance.grad)


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
    _light_texels_adjoint_kernel(texels, irradiance, lit.grad, grad_of(texels), irradiance.grad, views, lit.shape[-1])


# --- One light --------------------------------------------------------------------------------------------------


@ti.func
def _to_light(kind: ti.template(), x, source):
    """l and the distance that it was normalized by."""
    v = source
    if ti.static(kind == POINT):
        v = source - x
    return unit(v, 0.0)


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
                    v_grad = unit_adjoint(toward, distance, v_grad)
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
def _strips_kernel(
    kind: ti.template(), normals: Points, positions: Points, source: Vectors, intensity: Vectors, irradiance_grad: Points, partials: Strips,
    steps: int, pad: int, threads: int, rows: int, length: int, total: int,
):  # fmt: skip
    """Gradients of a light's two fields, summed over one strip of all surfaces that the entry `row` of them lights."""
    for q in range(steps):
        k = work_item(q, pad, threads, rows * partials.shape[1])
        if k >= 0:
            row, strip = k // partials.shape[1], k % partials.shape[1]
            by_source, by_intensity = vec3(0.0), vec3(0.0)
            for t in range(strip * length, ti.min((strip + 1) * length, total)):
                b, i = row + t // irradiance_grad.shape[1] * rows, t % irradiance_grad.shape[1]
                n, x = normals[b % normals.shape[0], i], positions[b % positions.shape[0], i]
                _, v_grad, intensity_grad = _light_adjoint(kind, n, x, item(source, b), item(intensity, b), irradiance_grad[b, i])
                by_source += v_grad
                by_intensity += intensity_grad
            partials[2 * row, strip], partials[2 * row + 1, strip] = by_source, by_intensity


@ti.kernel
def _add_strips_kernel(kind: ti.template(), source: Vectors, partials: Strips, source_grad: Vectors, intensity_grad: Vectors):
    for n in range(partials.shape[0]):
        partials[n, 0] = row_total(partials, n)
    ti.loop_config(serialize=True)  # rows of one field may share an entry of the other
    for row in range(partials.shape[0] // 2):
        if ti.static(kind == DIRECTIONAL):
            toward, length = unit(item(source, row), 0.0)
            add_item(source_grad, row, unit_adjoint(toward, length, partials[2 * row, 0]))
        elif ti.static(kind == POINT):
            add_item(source_grad, row, partials[2 * row, 0])
        add_item(intensity_grad, row, partials[2 * row + 1, 0])


@_illuminate.adjoint
def _illuminate_adjoint(kind: int, normals: Array, positions: Array, source: Array, intensity: Array, first: bool, irradiance: Array) -> None:
    if kind != AMBIENT:
        _surface_adjoint_kernel(kind, normals, positions, source, intensity, irradiance.grad, normals.grad, grad_of(positions))
    if source.grad is None and intensity.grad is None:
        return
    rows = max(x.shape[0] if x.shape else 1 for x in (source, intensity))
    total = irradiance.shape[0] // rows * irradiance.shape[1]
    length, count = strips(total)
    partials = empty(vec3, (2 * rows, count))
    _strips_kernel(kind, normals, positions, source, intensity, irradiance.grad, partials, *split(rows * count), rows, length, total)
    _add_strips_kernel(kind, source, partials, grad_of(source), grad_of(intensity))
