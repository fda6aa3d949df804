"""The cameras of a light: what it sees is lit. They move with the light, and their pictures' gradients move it.

    directional   one parallel picture of the sphere that bounds the mesh, from eye = center + 2 radius l
    point, spot   from the light: one picture of the sphere where the light is well outside of it, or of the cone of a spot light
                  where that is smaller; otherwise six, of the sides of a cube around the light, of half as many texels on a side

The sphere, the angles and what is up in the pictures are choices without gradients, in steps, so that small motions leave them as
they are: they decide how large a texel is, and not where a shadow falls.
"""

import math
from typing import NamedTuple

import numpy as np
import taichi as ti

from .arrays import Array, Vectors, add_item, batch_size, empty, grad_of, is_finite, item, read, vec3, write
from .camera import Camera
from .launch import kernel
from .lights import DIRECTIONAL, DirectionalLight, PointLight, SpotLight
from .raster.visible import FARTHEST, GRID
from .tape import operator
from .vectors import unit, unit_adjoint

DISTANCE = 2.0  # of the camera of a directional light from the middle of the sphere, in radii
STEPS = 8  # that radii and angles are rounded up to, per factor of two
ROUNDED = 32  # steps of a radius that the middle is rounded to
WIDEST = 2.0  # tangent of half the angle of a picture, beyond which the sides of a cube are sharper
NARROWEST = 0.25  # tangent, likewise: a narrower picture would begin farther from the light

# The sides of the cube, and what is up in their pictures.
SIDES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float64)
SIDE_UPS = np.roll(np.abs(SIDES), 1, axis=1)


class Sphere(NamedTuple):
    """What bounds the vertices."""

    center: np.ndarray
    radius: float


class LightCamera(NamedTuple):
    """The pictures of a light: `sides` times as many as the light has rows, side by side s R + r."""

    camera: Camera
    sides: int
    near: float  # what is nearer to the light, about a sixtieth of the distance to the farthest vertex, casts no shadow
    far: float
    middle: float  # depths are (z - middle) / radius in the moments
    radius: float
    texel: tuple[float, float]  # its width in such depths, at depth d: texel[0] + texel[1] d


def bounding_sphere(vertices: Array) -> Sphere:
    """A sphere around all vertices that are finite, of all rows, a little larger than need be."""
    points = read(vertices).reshape(-1, 3).astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return Sphere(np.zeros(3), 1.0)
    center = 0.5 * (points.min(axis=0) + points.max(axis=0))
    radius = _rounded_up(max(float(np.linalg.norm(points - center, axis=1).max()), 1e-12 * float(np.abs(center).max()), 1e-12))
    return Sphere(np.round(center / radius * ROUNDED) * radius / ROUNDED, radius * (1 + math.sqrt(3) / 2 / ROUNDED))


def _rounded_up(x: float) -> float:
    return 2.0 ** (math.ceil(math.log2(x) * STEPS) / STEPS)


def light_camera(light: DirectionalLight | PointLight | SpotLight, sphere: Sphere, rows: int, resolution: int, border: int) -> LightCamera:
    """The cameras of a light.

    Args:
        light: of one row, or of `rows`.
        sphere: around the mesh.
        rows: of the light or of the meshes.
        resolution: texels on a side of a picture.
        border: texels beyond what the light sees that each picture has on each side, less than a quarter of the resolution.

    Differentiable in `direction` of a directional light, in `position` of the others.

    Raises:
        ValueError: batches that do not agree.
    """
    source = light.direction if light.kind == DIRECTIONAL else light.position
    batch_size(rows=rows, light=source.shape[0] if source.shape else 1)
    given = np.broadcast_to(read(source).astype(np.float64), (rows, 3))
    given = np.where(np.isfinite(given).all(axis=1, keepdims=True), given, 0.0)
    if light.kind == DIRECTIONAL:
        wider = resolution / (resolution - 2 * border)
        tangent = wider / DISTANCE
        eye, at = empty(vec3, rows, needs_grad=True), empty(vec3, rows, needs_grad=True)
        write(at, np.broadcast_to(sphere.center, (rows, 3)))
        _stand_far(source, _centers(sphere, rows), DISTANCE * sphere.radius, eye)
        camera = _camera(eye, at, _ups(given), tangent, resolution, True)
        near, far = (DISTANCE - 1.5) * sphere.radius, (DISTANCE + 1.5) * sphere.radius
        return LightCamera(camera, 1, near, far, DISTANCE * sphere.radius, sphere.radius, (2 * wider / resolution, 0.0))
    follows, offsets, ups, tangent = _aims(light, given, sphere, rows)
    sides = len(offsets) // rows
    resolution = resolution if sides == 1 else resolution // 2
    wider = resolution / (resolution - 2 * border)
    eye, at = empty(vec3, len(offsets), needs_grad=True), empty(vec3, len(offsets), needs_grad=True)
    aims = empty(vec3, len(offsets))
    write(aims, offsets)
    _stand(source, aims, follows, eye, at)
    camera = _camera(eye, at, ups, tangent * wider, resolution, False)
    far = _rounded_up(float(np.linalg.norm(given - sphere.center, axis=1).max()) + 1.01 * sphere.radius)
    near = 0.55 * far * resolution / tangent * GRID / FARTHEST  # corners that are cut there are still in reach of `rasterize`
    return LightCamera(camera, sides, near, far, 0.0, sphere.radius, (0.0, 2 * tangent * wider / resolution))


def _aims(light: PointLight | SpotLight, positions: np.ndarray, sphere: Sphere, rows: int) -> tuple[bool, np.ndarray, np.ndarray, float]:
    """Where the cameras of a light with a place look: at offsets from the light or at points; what is up; the tangent of half the angle."""
    toward = sphere.center - positions
    squares = (toward**2).sum(axis=1) - sphere.radius**2
    tangent = sphere.radius / math.sqrt(squares.min()) if squares.min() > 0 else math.inf
    tangent = _rounded_up(tangent) if tangent <= WIDEST else math.inf
    if isinstance(light, SpotLight):
        outer = read(light.outer).astype(np.float64)
        cone = math.tan(math.radians(float(np.clip(np.where(np.isfinite(outer), outer, 0.0), 1.0, 89.0).max())))
        if cone < min(tangent, WIDEST):
            axes = np.broadcast_to(read(light.direction).astype(np.float64), (rows, 3))
            axes = np.where(np.isfinite(axes).all(axis=1, keepdims=True), axes, 0.0)
            axes = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-30) * sphere.radius
            return True, axes, _ups(axes), _rounded_up(max(cone, NARROWEST))
    if tangent < math.inf:
        return False, np.broadcast_to(sphere.center, (rows, 3)), _ups(toward), tangent
    return True, sphere.radius * np.repeat(SIDES, rows, axis=0), np.repeat(SIDE_UPS, rows, axis=0), 1.0


def _ups(forward: np.ndarray) -> np.ndarray:
    """The axis that is most across each direction."""
    return np.eye(3)[np.abs(forward).argmin(axis=1)]


def _centers(sphere: Sphere, rows: int) -> Array:
    centers = empty(vec3, rows)
    write(centers, np.broadcast_to(sphere.center, (rows, 3)))
    return centers


def _camera(eye: Array, at: Array, ups: np.ndarray, tangent: float, resolution: int, orthographic: bool) -> Camera:
    up, fov = empty(vec3, eye.shape), empty(float, ())
    write(up, ups)
    write(fov, np.array(2 * math.degrees(math.atan(tangent))))
    return Camera(eye, at, up, fov, (resolution, resolution), orthographic)


@kernel
def _stand_far_kernel(direction: Vectors, center: Vectors, distance: float, eye: Vectors):
    for k in range(eye.shape[0]):
        toward, _ = unit(item(direction, k), 0.0)
        eye[k] = center[k] + distance * toward


@operator
def _stand_far(direction: Array, center: Array, distance: float, eye: Array) -> None:
    """eye = center + distance l / |l|; at the center itself where there is no direction, and then nothing is seen."""
    _stand_far_kernel(direction, center, distance, eye)


@kernel
def _stand_far_adjoint_kernel(direction: Vectors, distance: float, direction_grad: Vectors, eye_grad: Vectors):
    ti.loop_config(serialize=True)  # rows share arrays of length 1
    for k in range(eye_grad.shape[0]):
        toward, length = unit(item(direction, k), 0.0)
        add_item(direction_grad, k, unit_adjoint(toward, length, distance * eye_grad[k]))


@_stand_far.adjoint
def _stand_far_adjoint(direction: Array, center: Array, distance: float, eye: Array) -> None:
    _stand_far_adjoint_kernel(direction, distance, grad_of(direction), eye.grad)


@ti.func
def _position(positions: ti.template(), k: int):
    p = item(positions, k)
    return ti.select(is_finite(p), p, vec3(0.0))


@kernel
def _stand_kernel(position: Vectors, aims: Vectors, follows: int, eye: Vectors, at: Vectors):
    for k in range(eye.shape[0]):
        eye[k] = _position(position, k)
        at[k] = aims[k] + ti.select(follows != 0, eye[k], vec3(0.0))


@operator
def _stand(position: Array, aims: Array, follows: bool, eye: Array, at: Array) -> None:
    """At the light, looking at points, or at offsets from it."""
    _stand_kernel(position, aims, int(follows), eye, at)


@kernel
def _stand_adjoint_kernel(position: Vectors, follows: int, position_grad: Vectors, eye_grad: Vectors, at_grad: Vectors):
    ti.loop_config(serialize=True)  # rows share arrays of length 1
    for k in range(eye_grad.shape[0]):
        if is_finite(item(position, k)):
            add_item(position_grad, k, eye_grad[k] + ti.select(follows != 0, at_grad[k], vec3(0.0)))


@_stand.adjoint
def _stand_adjoint(position: Array, aims: Array, follows: bool, eye: Array, at: Array) -> None:
    _stand_adjoint_kernel(position, int(follows), grad_of(position), eye.grad, at.grad)
