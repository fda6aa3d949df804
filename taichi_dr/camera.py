"""The camera: where it stands and what it sees, and `project`, which takes a mesh from the world to its screen.

A camera at `eye` looks at the point `at`, with `up` pointing up on the screen:

    forward = (at - eye) / |at - eye|,   right = forward x up / |forward x up|,   up' = right x forward
    q = (p - eye) . (right, up', forward)
    screen = (s q_x / q_z, s q_y / q_z, q_z),  s = 1 / tan(fov / 2)                                (perspective)
    screen = (s q_x, s q_y, q_z),              s = 1 / (tan(fov / 2) |at - eye|)                   (orthographic)

The orthographic camera shows the plane through `at` as large as the perspective camera of the same fov does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import taichi as ti

from .arrays import (
    Array,
    Points,
    Vectors,
    add_item,
    batch_size,
    empty,
    expect,
    field,
    grad_of,
    image_size,
    is_finite,
    item,
    split,
    vec3,
    view_numbers,
    work_item,
)
from .sums import Strips, row_total, strips
from .tape import operator
from .vectors import unit, unit_adjoint

Angles = ti.types.ndarray(dtype=float, needs_grad=False)  # () or (B,): degrees

RIGHT, UP, FORWARD, EYE, SCALE = 0, 1, 2, 3, 4  # the columns of a frame, (B, 5) of vec3; SCALE holds (s, 0, 0)
RADIANS = math.pi / 180
MIN_DEPTH = 1e-6  # a point at or behind the camera has no place on a perspective screen
PARALLEL = 1e-6  # sine of the angle between up and the view direction under which up says nothing
SHORTEST, LONGEST = 1e-18, 1e18  # lengths whose squares float32 holds
NARROWEST, WIDEST = 1e-3, 180.0 - 1e-3  # degrees


@dataclass(eq=False)
class Camera:
    """Cameras for a batch of views; make them with `look_at`, `orbit` or `from_softras`.

    Fields:
        eye, at, up: world positions and a direction, () or (B,) of vec3.
        fov: full field of view of the image's shorter side, degrees, () or (B,).
        size: pixels, (height, width).
        orthographic: parallel projection.
        mirrored: right = up x forward, SoftRas's own frame.

    The first four are arrays, so an optimizer can move the camera; one of length 1 serves every view.
    """

    eye: Array
    at: Array
    up: Array
    fov: Array
    size: tuple[int, int]
    orthographic: bool = False
    mirrored: bool = False

    @property
    def batch(self) -> int:
        """Number of views."""
        arrays = {"eye": self.eye, "at": self.at, "up": self.up, "fov": self.fov}
        return batch_size(**{name: x.shape[0] if x.shape else 1 for name, x in arrays.items()})

    @classmethod
    def look_at(
        cls,
        eye: Sequence | np.ndarray | Array,
        at: Sequence | np.ndarray | Array = (0.0, 0.0, 0.0),
        up: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0),
        *,
        fov: float | Sequence[float] | Array = 60.0,
        size: int | tuple[int, int] = 256,
        orthographic: bool = False,
        mirrored: bool = False,
    ) -> "Camera":
        """Cameras that stand at `eye` and look at `at`.

        Args:
            eye: position in the world, three numbers or (B, 3); or an array of vec3, () or (B,), which is kept.
            at: the point in the middle of the image, likewise.
            up: the direction that is up on the screen, of any length, likewise.
            fov: full field of view of the image's shorter side, degrees in (0, 180): a number, B of them, or an array
                of numbers, () or (B,), as `dr.array([30.0, 40.0, 50.0], vectors=False)` makes it.
            size: pixels, (height, width), or one number for a square.
            orthographic: parallel projection, at the size that the perspective camera gives the plane through `at`.
            mirrored: right = up x forward: left and right are swapped, as in SoftRas.

        Raises:
            ValueError: numbers of a wrong shape or not finite, batches that do not agree, an eye where `at` is, an `up`
                along the view direction, a fov or size out of range. Arrays are taken as they are: in them such a
                view gives some finite camera, with no gradient where it has none.
        """
        given = {"eye": eye, "at": at, "up": up, "fov": fov}
        numbers = {name: _numbers(name, x) for name, x in given.items() if not isinstance(x, ti.Ndarray)}
        if {"eye", "at", "up"} <= numbers.keys():
            _check_views(numbers["eye"], numbers["at"], numbers["up"])
        fields = {name: field(name, numbers.get(name, x), _components(name)) for name, x in given.items()}
        camera = cls(**fields, size=image_size(size), orthographic=bool(orthographic), mirrored=bool(mirrored))
        _ = camera.batch  # raises where the batches do not agree
        return camera

    @classmethod
    def orbit(
        cls,
        distance: float | Sequence[float] | np.ndarray,
        elevation: float | Sequence[float] | np.ndarray,
        azimuth: float | Sequence[float] | np.ndarray,
        *,
        at: Sequence | np.ndarray = (0.0, 0.0, 0.0),
        fov: float | Sequence[float] | Array = 60.0,
        size: int | tuple[int, int] = 256,
        orthographic: bool = False,
    ) -> "Camera":
        """Cameras on a sphere around `at`; azimuth 0 and elevation 0 look from +z towards -z, with +y up.

            eye = at + d (cos e sin a, sin e, cos e cos a)

        Args:
            distance: from `at`, a number or B of them.
            elevation: degrees above the horizon, likewise. Not +-90, where +y is no up.
            azimuth: degrees around y, likewise.
            at: the point in the middle of the image, three numbers or (B, 3).
            fov, size, orthographic: as in `look_at`.

        Raises:
            ValueError: as `look_at`; a distance that is not positive.
        """
        offset = _orbit_offset(distance, elevation, azimuth)
        if isinstance(at, ti.Ndarray):
            raise ValueError("at: expected numbers, since the eye is computed from them, got a Taichi array; use Camera.look_at(eye, at)")
        target = _numbers("at", at)
        batch_size(angles=len(np.atleast_2d(offset)), at=len(target))
        return cls.look_at(target + offset, target, fov=fov, size=size, orthographic=orthographic)

    @classmethod
    def from_softras(
        cls,
        distance: float | Sequence[float] | np.ndarray,
        elevation: float | Sequence[float] | np.ndarray,
        azimuth: float | Sequence[float] | np.ndarray,
        *,
        viewing_angle: float | Sequence[float] = 30.0,
        size: int | tuple[int, int] = 256,
    ) -> "Camera":
        """Cameras as SoftRas places them: looking at the origin from azimuth 0 at -z, in a mirrored frame.

            eye = d (cos e sin a, sin e, -cos e cos a),   right = up x forward,   fov = 2 viewing_angle

        Args:
            distance, elevation, azimuth: as in `orbit`.
            viewing_angle: HALF the field of view, degrees, a number or B of them.
            size: as in `look_at`.

        Raises:
            ValueError: as `orbit`.

        Source: SoftRas, `get_points_from_angles` and `look_at`.
        """
        eye = _orbit_offset(distance, elevation, azimuth) * (1.0, 1.0, -1.0)
        return cls.look_at(eye, fov=2.0 * np.asarray(viewing_angle, np.float64), size=size, mirrored=True)


def _orbit_offset(distance: Any, elevation: Any, azimuth: Any) -> np.ndarray:
    """(3,) or (B, 3): where angles in degrees lead from the middle of the orbit."""
    given = {"distance": distance, "elevation": elevation, "azimuth": azimuth}
    values = {}
    for name, x in given.items():
        values[name] = np.asarray(x, np.float64)
        if values[name].ndim > 1 or values[name].size == 0 or not np.isfinite(values[name]).all():
            raise ValueError(f"{name}: expected a finite number, or one per view, got {x!r}")
    if not (values["distance"] > 0).all():
        raise ValueError(f"distance: expected positive numbers, got {distance!r}")
    batch_size(**{name: x.size for name, x in values.items()})
    d, e, a = values["distance"], np.radians(values["elevation"]), np.radians(values["azimuth"])
    return np.stack(np.broadcast_arrays(d * np.cos(e) * np.sin(a), d * np.sin(e), d * np.cos(e) * np.cos(a)), axis=-1)


def _numbers(name: str, given: Any) -> np.ndarray:
    """(B,) numbers for the fov and (B, 3) for the vectors, B = 1 for one view."""
    values = view_numbers(name, given, _components(name))
    if name == "fov" and not ((values >= NARROWEST) & (values <= WIDEST)).all():
        raise ValueError(f"fov: expected degrees between 0 and 180, the full angle of the shorter side, got {given!r}")
    return np.atleast_1d(values) if name == "fov" else np.atleast_2d(values)


def _components(name: str) -> int:
    return 1 if name == "fov" else 3


def _check_views(eye: np.ndarray, at: np.ndarray, up: np.ndarray) -> None:
    """Raise for the first view that has no direction, or no up."""
    eye, at, up = (x.astype(np.float64) for x in (eye, at, up))
    batch_size(eye=len(eye), at=len(at), up=len(up))
    forward = at - eye
    distance = np.linalg.norm(forward, axis=-1)
    across = np.linalg.norm(np.cross(forward / np.maximum(distance, SHORTEST)[:, None], up), axis=-1)
    lost = np.broadcast_to(~((distance > SHORTEST) & (distance < LONGEST)), np.broadcast_shapes(distance.shape, across.shape))
    for b in np.flatnonzero(lost)[:1]:
        came = f"got {eye[b % len(eye)].tolist()} in view {b}"
        raise ValueError(f"eye: expected a place away from at = {at[b % len(at)].tolist()}, {came}; move the eye or at")
    for b in np.flatnonzero(~(across > PARALLEL * np.linalg.norm(up, axis=-1)))[:1]:
        came = f"got {up[b % len(up)].tolist()} in view {b}"
        fix = "give another up, or an elevation off +-90 degrees"
        raise ValueError(f"up: expected a direction across the view direction {forward[b % len(forward)].tolist()}, {came}; {fix}")


# --- Project ----------------------------------------------------------------------------------------------------


def project(vertices: Array, camera: Camera) -> Array:
    """Vertices as the camera sees them.

        screen = (s q_x / q_z, s q_y / q_z, q_z),   q = (p - eye) . (right, up', forward),   s = 1 / tan(fov / 2)

    and without the division by q_z for an orthographic camera, where s = 1 / (tan(fov / 2) |at - eye|).

    Args:
        vertices: world positions, (B, V) of vec3.
        camera: `Camera` of one view, or of as many as there are batches of vertices.

    Returns:
        Screen positions, (B, V) of vec3: x right, y up, the image's shorter side spans [-1, 1], z depth along forward.

    Differentiable in `vertices` and in the camera's `eye`, `at`, `up` and `fov`. Not where a perspective camera has
    the vertex at or behind it (depth 1e-6 or less): it has no place on the screen then, x and y are merely finite,
    and its faces are not drawn.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree.
    """
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    if not isinstance(camera, Camera):
        raise ValueError(f"camera: expected a Camera, got {type(camera).__name__}; make it with dr.Camera.look_at(...)")
    views = camera.batch
    batch = batch_size(vertices=vertices.shape[0], camera=views)
    frame = empty(vec3, (views, 5), needs_grad=True)
    screen = empty(vec3, (batch, vertices.shape[1]), needs_grad=True)
    _frame(camera.eye, camera.at, camera.up, camera.fov, camera.orthographic, camera.mirrored, frame)
    _project(vertices, frame, camera.orthographic, screen)
    return screen


# --- The frame of a view ----------------------------------------------------------------------------------------


@ti.func
def _axes(eye, at, up):
    """forward, |at - eye|, right, |forward x up|; a length is 0 where its axis is a stand-in."""
    forward, distance = unit(at - eye, SHORTEST)
    if distance == 0.0:
        forward = vec3(0.0, 0.0, -1.0)
    right, length = unit(forward.cross(up), ti.max(SHORTEST, PARALLEL * up.norm()))
    if length == 0.0:
        a = ti.abs(forward)
        least = ti.min(a.x, a.y, a.z)
        axis = ti.select(a.x == least, vec3(1.0, 0.0, 0.0), ti.select(a.y == least, vec3(0.0, 1.0, 0.0), vec3(0.0, 0.0, 1.0)))
        right = forward.cross(axis).normalized()
    return forward, distance, right, length


@ti.func
def _cotangent(degrees):
    """1 / tan(degrees / 2)."""
    return 1.0 / ti.tan(0.5 * RADIANS * ti.math.clamp(degrees, NARROWEST, WIDEST))


@ti.func
def _cotangent_adjoint(degrees, cotangent, cotangent_grad):
    """Gradient of the angle in degrees: d cot(x) / dx = -(1 + cot^2 x)."""
    degrees_grad = 0.0
    if NARROWEST <= degrees and degrees <= WIDEST:
        degrees_grad = -0.5 * RADIANS * (1.0 + cotangent * cotangent) * cotangent_grad
    return degrees_grad


@ti.kernel
def _frame_kernel(eye: Vectors, at: Vectors, up: Vectors, fov: Angles, orthographic: int, mirrored: int, frame: Points):
    for b in range(frame.shape[0]):
        position = item(eye, b)
        forward, distance, right, length = _axes(position, item(at, b), item(up, b))
        scale = _cotangent(item(fov, b))
        if orthographic != 0:
            scale = ti.select(distance > 0.0, scale / ti.max(distance, SHORTEST), 0.0)
        frame[b, RIGHT] = ti.select(mirrored != 0, -right, right)
        frame[b, UP] = right.cross(forward)
        frame[b, FORWARD] = forward
        frame[b, EYE] = position
        frame[b, SCALE] = vec3(scale, 0.0, 0.0)


@operator
def _frame(eye: Array, at: Array, up: Array, fov: Array, orthographic: bool, mirrored: bool, frame: Array) -> None:
    _frame_kernel(eye, at, up, fov, int(orthographic), int(mirrored), frame)


@ti.kernel
def _frame_adjoint_kernel(
    eye: Vectors, at: Vectors, up: Vectors, fov: Angles, orthographic: int, mirrored: int,
    frame_grad: Points, eye_grad: Vectors, at_grad: Vectors, up_grad: Vectors, fov_grad: Angles,
):  # fmt: skip
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(frame_grad.shape[0]):
        right_grad, top_grad, forward_grad, position_grad = frame_grad[b, RIGHT], frame_grad[b, UP], frame_grad[b, FORWARD], frame_grad[b, EYE]
        scale_grad = frame_grad[b, SCALE].x
        if any(right_grad != 0.0) or any(top_grad != 0.0) or any(forward_grad != 0.0) or any(position_grad != 0.0) or scale_grad != 0.0:
            sky = item(up, b)
            forward, distance, right, length = _axes(item(eye, b), item(at, b), sky)
            if mirrored != 0:
                right_grad = -right_grad
            right_grad += forward.cross(top_grad)  # up' = right x forward
            forward_grad += top_grad.cross(right)
            side_grad = unit_adjoint(right, length, right_grad)  # right = forward x up, normalized
            forward_grad += sky.cross(side_grad)
            view_grad = unit_adjoint(forward, distance, forward_grad)  # forward = at - eye, normalized
            degrees = item(fov, b)
            cotangent = _cotangent(degrees)
            if orthographic != 0:
                inverse = ti.select(distance > 0.0, 1.0 / ti.max(distance, SHORTEST), 0.0)
                view_grad -= forward * (scale_grad * cotangent * inverse * inverse)
                scale_grad *= inverse
            add_item(eye_grad, b, position_grad - view_grad)
            add_item(at_grad, b, view_grad)
            if length > 0.0:
                add_item(up_grad, b, side_grad.cross(forward))
            add_item(fov_grad, b, _cotangent_adjoint(degrees, cotangent, scale_grad))


@_frame.adjoint
def _frame_adjoint(eye: Array, at: Array, up: Array, fov: Array, orthographic: bool, mirrored: bool, frame: Array) -> None:
    if eye.grad is None and at.grad is None and up.grad is None and fov.grad is None:
        return
    grads = [grad_of(x) for x in (eye, at, up, fov)]
    _frame_adjoint_kernel(eye, at, up, fov, int(orthographic), int(mirrored), frame.grad, *grads)


# --- World to screen --------------------------------------------------------------------------------------------


@ti.func
def _seen(p, frame: ti.template(), view: int):
    """A point in the axes of a view: right, up, forward."""
    q = p - frame[view, EYE]
    return vec3(q.dot(frame[view, RIGHT]), q.dot(frame[view, UP]), q.dot(frame[view, FORWARD]))


@ti.func
def _screen_point(seen, scale, orthographic: int):
    w = ti.select(orthographic != 0, scale, scale / ti.max(seen.z, MIN_DEPTH))
    return vec3(seen.x * w, seen.y * w, seen.z)


@ti.func
def _screen_point_adjoint(seen, scale, orthographic: int, point_grad):
    """Gradients of the point in the axes of the view, and of the scale; zero where the point has no place on the screen.

    A point that no pixel asked about, or that is not finite, adds exactly nothing: the camera is everybody's.
    """
    seen_grad, scale_grad = vec3(0.0), 0.0
    if any(point_grad != 0.0) and is_finite(seen) and (orthographic != 0 or seen.z > MIN_DEPTH):
        inverse = ti.select(orthographic != 0, 1.0, 1.0 / seen.z)
        scale_grad = point_grad.xy.dot(seen.xy) * inverse
        seen_grad = vec3(point_grad.x * scale * inverse, point_grad.y * scale * inverse, point_grad.z)
        if orthographic == 0:
            seen_grad.z -= scale * scale_grad * inverse
    return seen_grad, scale_grad


@ti.kernel
def _project_kernel(vertices: Points, frame: Points, orthographic: int, screen: Points):
    for k in range(screen.shape[0] * screen.shape[1]):
        b, v = k // screen.shape[1], k % screen.shape[1]
        view = b % frame.shape[0]
        seen = _seen(vertices[b % vertices.shape[0], v], frame, view)
        screen[b, v] = _screen_point(seen, frame[view, SCALE].x, orthographic)


@operator
def _project(vertices: Array, frame: Array, orthographic: bool, screen: Array) -> None:
    _project_kernel(vertices, frame, int(orthographic), screen)


@ti.kernel
def _project_adjoint_kernel(vertices: Points, frame: Points, orthographic: int, screen_grad: Points, vertices_grad: Points):
    """Per vertex, over the views that share it."""
    for k in range(vertices.shape[0] * vertices.shape[1]):
        row, v = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for turn in range(screen_grad.shape[0] // vertices.shape[0]):
            b = row + turn * vertices.shape[0]
            view = b % frame.shape[0]
            seen = _seen(vertices[row, v], frame, view)
            seen_grad, _ = _screen_point_adjoint(seen, frame[view, SCALE].x, orthographic, screen_grad[b, v])
            total += seen_grad.x * frame[view, RIGHT] + seen_grad.y * frame[view, UP] + seen_grad.z * frame[view, FORWARD]
        vertices_grad[row, v] = vertices_grad[row, v] + total


@ti.kernel
def _strips_kernel(
    vertices: Points, frame: Points, orthographic: int, screen_grad: Points, partials: Strips,
    steps: int, pad: int, threads: int, length: int, total: int,
):  # fmt: skip
    """The frame's gradient, summed over one strip of the vertices of all views of a camera."""
    for q in range(steps):
        k = work_item(q, pad, threads, frame.shape[0] * partials.shape[1])
        if k >= 0:
            view, strip = k // partials.shape[1], k % partials.shape[1]
            by_right, by_up, by_forward, by_eye, by_scale = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0), 0.0
            for t in range(strip * length, ti.min((strip + 1) * length, total)):
                b, v = view + t // vertices.shape[1] * frame.shape[0], t % vertices.shape[1]
                p = vertices[b % vertices.shape[0], v]
                seen_grad, scale_grad = _screen_point_adjoint(_seen(p, frame, view), frame[view, SCALE].x, orthographic, screen_grad[b, v])
                if any(seen_grad != 0.0):
                    offset = p - frame[view, EYE]
                    by_right += seen_grad.x * offset
                    by_up += seen_grad.y * offset
                    by_forward += seen_grad.z * offset
                    by_eye -= seen_grad.x * frame[view, RIGHT] + seen_grad.y * frame[view, UP] + seen_grad.z * frame[view, FORWARD]
                    by_scale += scale_grad
            first = view * frame.shape[1]
            partials[first + RIGHT, strip], partials[first + UP, strip], partials[first + FORWARD, strip] = by_right, by_up, by_forward
            partials[first + EYE, strip], partials[first + SCALE, strip] = by_eye, vec3(by_scale, 0.0, 0.0)


@ti.kernel
def _add_strips_kernel(partials: Strips, frame_grad: Points):
    for n in range(partials.shape[0]):
        view, column = n // frame_grad.shape[1], n % frame_grad.shape[1]
        frame_grad[view, column] = frame_grad[view, column] + row_total(partials, n)


@_project.adjoint
def _project_adjoint(vertices: Array, frame: Array, orthographic: bool, screen: Array) -> None:
    if vertices.grad is not None:
        _project_adjoint_kernel(vertices, frame, int(orthographic), screen.grad, vertices.grad)
    total = screen.shape[0] // frame.shape[0] * screen.shape[1]
    length, count = strips(total)
    partials = empty(vec3, (frame.shape[0] * frame.shape[1], count))
    _strips_kernel(vertices, frame, int(orthographic), screen.grad, partials, *split(frame.shape[0] * count), length, total)
    _add_strips_kernel(partials, frame.grad)
