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


def shade(mesh: Any, lights: Light | Sequence[Light] | None) -> Array:
    """The mesh's colors under the lights.

        shaded = color * sum of I max(0, n . l), and of I for ambient lights

    Args:
        mesh: vertices (B, V), faces (F,), and colors (B, V), or texels (F, R, R) or (B, F, R, R), which go before colors.
        lights: one light or several; the fields of each are shared by all views, or there is one per view. None or an
            empty sequence leave the colors as they are.

    Returns:
        Lit colors per vertex, (B, V) of vec3, or lit texels, (F, R, R) of vec3 where nothing differs between views and
        (B, F, R, R) where something does.

    Differentiable in the mesh's `vertices` (through normals and positions), `colors` and `texels`, and in every field
    of the lights. Where a surface faces away from a light, n . l <= 0, the light does nothing and has no gradient. A face
    without an area, or with a vertex that is not finite, has no normal: only ambient light reaches it.

    Raises:
        ValueError: wrong shapes or types, no colors to light, a face index out of range, batches that do not agree.

    Source: SoftRas, `ambient_lighting` and `directional_lighting`; the point light is the same with its own l.
    """
    lights = [] if lights is None else [lights] if isinstance(lights, Light) else list(lights)
    for k, light in enumerate(lights):
        if not isinstance(light, Light):
            raise ValueError(f"lights: expected AmbientLight, DirectionalLight or PointLight, got {type(light).__name__} at index {k}")
    colors = mesh.colors if mesh.texels is None else mesh.texels
    if colors is None:
        raise ValueError("mesh: expected colors or texels to light, got neither; make it with dr.Mesh(vertices, faces, colors=...)")
    if not lights:
        return colors
    _expect_mesh(mesh.vertices, mesh.faces)
    textured = mesh.texels is not None
    if textured:
        expect("mesh.texels", colors, 3, (3, 4), "(F, R, R) or (B, F, R, R) of vec3")
    else:
        expect("mesh.colors", colors, 3, 2, "(B, V) of vec3")
    count = mesh.faces.shape[0] if textured else mesh.vertices.shape[1]
    came = colors.shape[-3] if textured else colors.shape[1]
    if came != count:
        name, entry = ("texels", "face") if textured else ("colors", "vertex")
        raise ValueError(f"mesh.{name}: expected one entry per {entry}, {count}, got {came} in shape {tuple(colors.shape)}")
    return _lit(colors, _irradiance(mesh, textured, count, lights))


def _irradiance(mesh: Any, textured: bool, count: int, lights: list[Light]) -> Array:
    """(B, N) of vec3: what arrives at each vertex or face, from all lights together."""
    parts = [_parts(light) for light in lights]
    fields = {f"lights[{k}]": x for k, part in enumerate(parts) for x in part[1:] if x.shape}
    needs_normals = any(kind != AMBIENT for kind, *_ in parts)
    vertices = {"mesh.vertices": mesh.vertices.shape[0]} if needs_normals else {}
    batch = batch_size(**vertices, **{f"{name} ({'intensity' if x is _intensity(lights, name) else 'source'})": x.shape[0] for name, x in fields.items()})
    return batch


def _expect_mesh(vertices: Array, faces: Array) -> None:
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3")
