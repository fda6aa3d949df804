"""The frame of a view: where a camera stands, how it is turned, and what its lens is, as columns of an array.

`camera_frame` fills it; its gradient is what a picture says about the camera, and its adjoints hand that on to the
fields: eye, at and up, or a pose; fov, or focal lengths and principal point; the coefficients of a distortion.
"""

import math
from typing import Any

import taichi as ti

from .arrays import Array, Points, Vectors, add_item, constant, empty, grad_of, item, vec3
from .launch import kernel
from .pose import SHIFT, pose_rows
from .tape import operator
from .vectors import unit, unit_adjoint

# The columns of a frame, (B, COLUMNS) of vec3. SCALE, OFFSET: (x, y, 0) of the screen; RADIAL: (k1, k2, k3);
# TANGENTIAL: (-p1, p2, 0), or (k4, 0, 0) of a fisheye.
RIGHT, UP, FORWARD, EYE, SCALE, OFFSET, RADIAL, TANGENTIAL = range(8)
COLUMNS = 8

Angles = ti.types.ndarray(dtype=float, needs_grad=False)  # () or (B,): degrees
Values = ti.types.ndarray(needs_grad=False)  # () or (B,) of vec2, vec3 or vec4

RADIANS = math.pi / 180
PARALLEL = 1e-6  # sine of the angle between up and the view direction under which up says nothing
SHORTEST = 1e-18  # lengths whose squares float32 holds
NARROWEST, WIDEST = 1e-3, 180.0 - 1e-3  # degrees


def camera_frame(camera: Any) -> Array:
    """(views, COLUMNS) of vec3: axes, eye and lens of every view, in columns of those names.

    Args:
        camera: `Camera`.

    Differentiable in all fields of the camera.
    """
    frame = empty(vec3, (camera.batch, COLUMNS), needs_grad=True)
    fov = constant((60.0,)) if camera.fov is None else camera.fov
    if camera.pose is not None:
        _stand(pose_rows(camera.pose), fov, camera.mirrored, frame)
    else:
        _frame(camera.eye, camera.at, camera.up, fov, camera.orthographic and camera.focal is None, camera.mirrored, frame)
    height, width = camera.size
    half, none = 0.5 * min(camera.size), constant((0.0, 0.0, 0.0))
    if camera.focal is not None:
        set_column(camera.focal, 0, constant((1 / half, 1 / half, 0.0)), none, SCALE, frame)
    if camera.principal is not None:
        middle = constant((-0.5 * width / half, 0.5 * height / half, 0.0))
        set_column(camera.principal, 0, constant((1 / half, -1 / half, 0.0)), middle, OFFSET, frame)
    for values, first, factors, column in camera.distortion.columns() if camera.distortion is not None else ():
        set_column(values, first, constant(factors), none, column, frame)
    return frame


# --- Axes and field of view -------------------------------------------------------------------------------------


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


@kernel
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
        frame[b, SCALE] = vec3(scale, scale, 0.0)
        frame[b, OFFSET], frame[b, RADIAL], frame[b, TANGENTIAL] = vec3(0.0), vec3(0.0), vec3(0.0)


@operator
def _frame(eye: Array, at: Array, up: Array, fov: Array, orthographic: bool, mirrored: bool, frame: Array) -> None:
    _frame_kernel(eye, at, up, fov, int(orthographic), int(mirrored), frame)


@kernel
def _frame_adjoint_kernel(
    eye: Vectors, at: Vectors, up: Vectors, fov: Angles, orthographic: int, mirrored: int,
    frame_grad: Points, eye_grad: Vectors, at_grad: Vectors, up_grad: Vectors, fov_grad: Angles,
):  # fmt: skip
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(frame_grad.shape[0]):
        right_grad, top_grad, forward_grad, position_grad = frame_grad[b, RIGHT], frame_grad[b, UP], frame_grad[b, FORWARD], frame_grad[b, EYE]
        scale_grad = frame_grad[b, SCALE].x + frame_grad[b, SCALE].y
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


@kernel
def _stand_kernel(rows: Points, fov: Angles, mirrored: int, frame: Points):
    for b in range(frame.shape[0]):
        r = b % rows.shape[0]
        right, down, forward, shift = rows[r, 0], rows[r, 1], rows[r, 2], rows[r, SHIFT]
        scale = _cotangent(item(fov, b))
        frame[b, RIGHT] = ti.select(mirrored != 0, -right, right)
        frame[b, UP] = -down
        frame[b, FORWARD] = forward
        frame[b, EYE] = -(shift.x * right + shift.y * down + shift.z * forward)
        frame[b, SCALE] = vec3(scale, scale, 0.0)
        frame[b, OFFSET], frame[b, RADIAL], frame[b, TANGENTIAL] = vec3(0.0), vec3(0.0), vec3(0.0)


@operator
def _stand(rows: Array, fov: Array, mirrored: bool, frame: Array) -> None:
    _stand_kernel(rows, fov, int(mirrored), frame)


@kernel
def _stand_adjoint_kernel(rows: Points, fov: Angles, mirrored: int, frame_grad: Points, rows_grad: Points, fov_grad: Angles):
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(frame_grad.shape[0]):
        right_grad, top_grad, forward_grad, position_grad = frame_grad[b, RIGHT], frame_grad[b, UP], frame_grad[b, FORWARD], frame_grad[b, EYE]
        scale_grad = frame_grad[b, SCALE].x + frame_grad[b, SCALE].y
        if any(right_grad != 0.0) or any(top_grad != 0.0) or any(forward_grad != 0.0) or any(position_grad != 0.0) or scale_grad != 0.0:
            r = b % rows.shape[0]
            if mirrored != 0:
                right_grad = -right_grad
            shift = rows[r, SHIFT]
            rows_grad[r, 0] = rows_grad[r, 0] + right_grad - shift.x * position_grad
            rows_grad[r, 1] = rows_grad[r, 1] - top_grad - shift.y * position_grad
            rows_grad[r, 2] = rows_grad[r, 2] + forward_grad - shift.z * position_grad
            by_shift = vec3(rows[r, 0].dot(position_grad), rows[r, 1].dot(position_grad), rows[r, 2].dot(position_grad))
            rows_grad[r, SHIFT] = rows_grad[r, SHIFT] - by_shift
            degrees = item(fov, b)
            add_item(fov_grad, b, _cotangent_adjoint(degrees, _cotangent(degrees), scale_grad))


@_stand.adjoint
def _stand_adjoint(rows: Array, fov: Array, mirrored: bool, frame: Array) -> None:
    _stand_adjoint_kernel(rows, fov, int(mirrored), frame.grad, rows.grad, grad_of(fov))


# --- Fields of the lens to columns of the frame -------------------------------------------------------------------


@kernel
def _column_kernel(values: Values, first: ti.template(), factors: Vectors, shift: Vectors, column: int, frame: Points):
    for b in range(frame.shape[0]):
        v, entry = item(values, b), shift[None]
        for i in ti.static(range(min(3, v.n - first))):
            entry[i] += factors[None][i] * v[first + i]
        frame[b, column] = entry


@operator
def set_column(values: Array, first: int, factors: Array, shift: Array, column: int, frame: Array) -> None:
    """frame[b, column] = factors * values[b] + shift, over the components of the values from `first` on."""
    _column_kernel(values, first, factors, shift, column, frame)


@kernel
def _column_adjoint_kernel(values_grad: Values, first: ti.template(), factors: Vectors, column: int, frame_grad: Points):
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(frame_grad.shape[0]):
        entry_grad = factors[None] * frame_grad[b, column]
        if any(entry_grad != 0.0):
            v_grad = ti.zero(item(values_grad, b))
            for i in ti.static(range(min(3, v_grad.n - first))):
                v_grad[first + i] = entry_grad[i]
            add_item(values_grad, b, v_grad)


@set_column.adjoint
def _set_column_adjoint(values: Array, first: int, factors: Array, shift: Array, column: int, frame: Array) -> None:
    if values.grad is not None:
        _column_adjoint_kernel(values.grad, first, factors, column, frame.grad)
