"""The lens: from the axes of a view to its screen, with distortion; and the kernels that take points there.

A point p of the world is at q in the axes of a view, at n on a plane in front of it, and d says where the lens shows it:

    q = (p - eye) . (right, up, forward)
    n = (q_x / q_z, q_y / q_z)                        (perspective; (q_x, q_y) for an orthographic camera)
    d = D(n)                                          (D is the identity without distortion)
    screen = (s_x d_x + o_x, s_y d_y + o_y, q_z)

Coefficients are those of OpenCV, whose y points down; the frame of a view holds them for y up, p1 negated.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Points, batch_size, empty, field, is_finite, split, vec2, vec3, view_numbers, work_item
from .frame import EYE, FORWARD, OFFSET, RADIAL, RIGHT, SCALE, TANGENTIAL, UP
from .launch import kernel
from .sums import Strips, row_total, strips
from .tape import operator

PINHOLE, BROWN_CONRADY, FISHEYE, SOFTRAS = range(4)  # models of distortion, known when a kernel is compiled
PROJECT, SEE, TO_SCREEN = range(3)  # from the world to the screen, to the axes of a view, from those to the screen

MIN_DEPTH = 1e-6  # a point at or behind the camera has no place on a perspective screen
FARTHEST = 1e6  # of n: squares and polynomials of it stay finite
STEEPEST = 100.0  # of |n|^2, 84 degrees off the axis: from there on the radial factor stays what it is
SMALL = 0.01  # of |n|^2, where series do better than differences


# --- Distortion -------------------------------------------------------------------------------------------------


class BrownConrady:
    """Radial and tangential distortion, the model of OpenCV.

        d_x = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)
        d_y = y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y,     r^2 = x^2 + y^2,  y down

    The polynomial holds where it was fitted, inside the image. Far outside it may fold back (with k1 < 0 alone from
    r^2 = -1 / (3 k1) on), and points from beyond the edge show up inside: keep such meshes out of the scene. From 84
    degrees off the axis on, the radial factor stays what it is there, so that everything is finite.

    Args:
        k1, k2, p1, p2, k3: in OpenCV's order; a number, or B of them.
        radial: instead of k1, k2 and k3, an array of vec3, () or (B,), which is kept.
        tangential: instead of p1 and p2, an array of vec2, () or (B,), which is kept.

    Fields: `radial` (k1, k2, k3) and `tangential` (p1, p2), arrays with gradients.

    Raises:
        ValueError: a wrong shape, numbers that are not finite.

    Source: Brown, "Decentering Distortion of Lenses", 1966, in the form of OpenCV's `projectPoints`.
    """

    model = BROWN_CONRADY

    def __init__(
        self,
        k1: float | Sequence[float] = 0.0,
        k2: float | Sequence[float] = 0.0,
        p1: float | Sequence[float] = 0.0,
        p2: float | Sequence[float] = 0.0,
        k3: float | Sequence[float] = 0.0,
        *,
        radial: Array | None = None,
        tangential: Array | None = None,
    ) -> None:
        self.radial = field("radial", _stacked(k1=k1, k2=k2, k3=k3) if radial is None else radial, 3)
        self.tangential = field("tangential", _stacked(p1=p1, p2=p2) if tangential is None else tangential, 2)

    def columns(self) -> list[tuple[Array, int, tuple[float, float, float], int]]:
        """What fills the frame: (field, its first component, factors, column)."""
        return [(self.radial, 0, (1.0, 1.0, 1.0), RADIAL), (self.tangential, 0, (-1.0, 1.0, 0.0), TANGENTIAL)]


class Fisheye:
    """OpenCV's fisheye, an odd polynomial of the angle off the axis.

        d = (theta_d / r) (x, y),   theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8),
        theta = atan r,   r^2 = x^2 + y^2

    All four 0 is the equidistant projection. Points at or behind the camera, 90 degrees and more off the axis, have no
    place on the screen.

    Args:
        k1, k2, k3, k4: a number, or B of them.
        coefficients: instead, an array of vec4, () or (B,), which is kept.

    Fields: `coefficients` (k1, k2, k3, k4), an array with a gradient.

    Raises:
        ValueError: a wrong shape, numbers that are not finite.

    Source: Kannala and Brandt, "A Generic Camera Model and Calibration Method for Conventional, Wide-Angle, and
    Fish-Eye Lenses", 2006, eq. 6, with OpenCV's normalization.
    """

    model = FISHEYE

    def __init__(
        self,
        k1: float | Sequence[float] = 0.0,
        k2: float | Sequence[float] = 0.0,
        k3: float | Sequence[float] = 0.0,
        k4: float | Sequence[float] = 0.0,
        *,
        coefficients: Array | None = None,
    ) -> None:
        self.coefficients = field("coefficients", _stacked(k1=k1, k2=k2, k3=k3, k4=k4) if coefficients is None else coefficients, 4)

    def columns(self) -> list[tuple[Array, int, tuple[float, float, float], int]]:
        """As of `BrownConrady`."""
        return [(self.coefficients, 0, (1.0, 1.0, 1.0), RADIAL), (self.coefficients, 3, (1.0, 0.0, 0.0), TANGENTIAL)]


class SoftRasDistortion(BrownConrady):
    """The polynomial of `BrownConrady` in pixels, as SoftRas has it: r is the distance from the image's lower left corner.

    Args:
        k1, k2, p1, p2, k3, radial, tangential: as of `BrownConrady`, for x and y in pixels, y up.
        orig_size: pixels along the side of the square image that the coefficients are for.

    Fields: `radial`, `tangential`, arrays with gradients; `orig_size`.

    Source: SoftRas, `projection`.
    """

    model = SOFTRAS

    def __init__(self, *coefficients: float | Sequence[float], orig_size: float = 512, **fields: Any) -> None:
        super().__init__(*coefficients, **fields)
        self.orig_size = float(orig_size)

    def columns(self) -> list[tuple[Array, int, tuple[float, float, float], int]]:
        """As of `BrownConrady`, for an image of side 1."""
        s = self.orig_size
        return [(self.radial, 0, (s**2, s**4, s**6), RADIAL), (self.tangential, 0, (s, s, 0.0), TANGENTIAL)]


Distortion = BrownConrady | Fisheye


def _stacked(**coefficients: Any) -> np.ndarray:
    """(N,) or (B, N) of N coefficients by name."""
    values = {name: view_numbers(name, x, 1) for name, x in coefficients.items()}
    batch_size(**{name: x.size for name, x in values.items()})
    return np.stack(np.broadcast_arrays(*values.values()), axis=-1)


@ti.func
def _radial_factor(r2, k):
    return 1.0 + r2 * (k.x + r2 * (k.y + r2 * k.z))


@ti.func
def _brown_conrady(n, k, p):
    r2 = n.dot(n)
    xy = 2.0 * n.x * n.y
    tangential = vec2(p.x * xy + p.y * (r2 + 2.0 * n.x * n.x), p.x * (r2 + 2.0 * n.y * n.y) + p.y * xy)
    return n * _radial_factor(ti.min(r2, STEEPEST), k) + tangential


@ti.func
def _brown_conrady_adjoint(n, k, p, d_grad):
    """Gradients of n, of k and of (p1, p2, 0)."""
    r2 = n.dot(n)
    s = ti.min(r2, STEEPEST)
    slope = ti.select(r2 < STEEPEST, k.x + s * (2.0 * k.y + s * 3.0 * k.z), 0.0)  # of the radial factor in r^2
    along = d_grad.dot(n)
    xy, yx = 2.0 * n.x * n.y, p.x * n.x + p.y * n.y
    n_grad = d_grad * _radial_factor(s, k) + n * (2.0 * slope * along)
    n_grad.x += d_grad.x * (2.0 * p.x * n.y + 6.0 * p.y * n.x) + d_grad.y * 2.0 * yx
    n_grad.y += d_grad.x * 2.0 * yx + d_grad.y * (6.0 * p.x * n.y + 2.0 * p.y * n.x)
    k_grad = along * vec3(s, s * s, s * s * s)
    p1_grad = d_grad.x * xy + d_grad.y * (r2 + 2.0 * n.y * n.y)
    p2_grad = d_grad.x * (r2 + 2.0 * n.x * n.x) + d_grad.y * xy
    return n_grad, k_grad, vec3(p1_grad, p2_grad, 0.0)


@ti.func
def _arc(r2):
    """(atan r / r, its derivative in r^2)."""
    ratio = 1.0 + r2 * (-1.0 / 3.0 + r2 * (1.0 / 5.0 + r2 * (-1.0 / 7.0 + r2 * (1.0 / 9.0 + r2 * (-1.0 / 11.0 + r2 / 13.0)))))
    slope = -1.0 / 3.0 + r2 * (2.0 / 5.0 + r2 * (-3.0 / 7.0 + r2 * (4.0 / 9.0 + r2 * (-5.0 / 11.0 + r2 * 6.0 / 13.0))))
    if r2 > SMALL:
        r = ti.sqrt(r2)
        ratio = ti.atan2(r, 1.0) / r
        slope = 0.5 * (1.0 / (1.0 + r2) - ratio) / r2
    return ratio, slope


@ti.func
def _fisheye(n, k, k4):
    r2 = n.dot(n)
    ratio, _ = _arc(r2)
    t2 = ratio * ratio * r2  # theta^2
    return n * (ratio * (1.0 + t2 * (k.x + t2 * (k.y + t2 * (k.z + t2 * k4)))))


@ti.func
def _fisheye_adjoint(n, k, k4, d_grad):
    """Gradients of n, of k and of (k4, 0, 0)."""
    r2 = n.dot(n)
    ratio, slope = _arc(r2)
    t2 = ratio * ratio * r2
    bend = 1.0 + t2 * (k.x + t2 * (k.y + t2 * (k.z + t2 * k4)))
    bend_slope = (k.x + t2 * (2.0 * k.y + t2 * (3.0 * k.z + t2 * 4.0 * k4))) * ratio / (1.0 + r2)  # in r^2
    along = d_grad.dot(n)
    n_grad = d_grad * (ratio * bend) + n * (2.0 * along * (slope * bend + ratio * bend_slope))
    by_k1 = along * ratio * t2
    return n_grad, by_k1 * vec3(1.0, t2, t2 * t2), vec3(by_k1 * t2 * t2 * t2, 0.0, 0.0)


# --- World to screen --------------------------------------------------------------------------------------------


@ti.func
def _seen(p, frame: ti.template(), view: int, stage: ti.template()):
    """A point in the axes of a view: right, up, forward."""
    seen = p
    if ti.static(stage != TO_SCREEN):
        q = p - frame[view, EYE]
        seen = vec3(q.dot(frame[view, RIGHT]), q.dot(frame[view, UP]), q.dot(frame[view, FORWARD]))
    return seen


@ti.func
def _distorted(n, k, p, model: ti.template()):
    near = ti.math.clamp(n, -FARTHEST, FARTHEST)
    d = near
    if ti.static(model == FISHEYE):
        d = _fisheye(near, k, p.x)
    else:
        d = _brown_conrady(near, k, p)
    return d


@ti.func
def _distorted_adjoint(n, k, p, model: ti.template(), d_grad):
    """Gradients of n, k and p."""
    near = ti.math.clamp(n, -FARTHEST, FARTHEST)
    n_grad, k_grad, p_grad = vec2(0.0), vec3(0.0), vec3(0.0)
    if ti.static(model == FISHEYE):
        n_grad, k_grad, p_grad = _fisheye_adjoint(near, k, p.x, d_grad)
    else:
        n_grad, k_grad, p_grad = _brown_conrady_adjoint(near, k, p, d_grad)
    return ti.select(near == n, n_grad, vec2(0.0)), k_grad, p_grad


@ti.func
def _inverse_depth(seen, orthographic: int):
    return ti.select(orthographic != 0, 1.0, 1.0 / ti.max(seen.z, MIN_DEPTH))


@ti.func
def _screen_point(seen, frame: ti.template(), view: int, orthographic: int, model: ti.template()):
    n = seen.xy * _inverse_depth(seen, orthographic)
    scale, offset = frame[view, SCALE].xy, frame[view, OFFSET].xy
    point = vec2(0.0)
    if ti.static(model == PINHOLE):
        point = scale * n + offset
    elif ti.static(model == SOFTRAS):  # distorts the image, whose corners are (0, 0) and (1, 1)
        point = 2.0 * _distorted(0.5 * (scale * n + offset + 1.0), frame[view, RADIAL], frame[view, TANGENTIAL], model) - 1.0
    else:
        point = scale * _distorted(n, frame[view, RADIAL], frame[view, TANGENTIAL], model) + offset
    return vec3(point.x, point.y, seen.z)


@ti.func
def _screen_point_adjoint(seen, frame: ti.template(), view: int, orthographic: int, model: ti.template(), point_grad):
    """Gradients of the point in the axes of the view, of scale and offset, and of the two columns of coefficients."""
    inverse = _inverse_depth(seen, orthographic)
    n = seen.xy * inverse
    scale, offset = frame[view, SCALE].xy, frame[view, OFFSET].xy
    offset_grad = point_grad.xy
    scale_grad, n_grad, k_grad, p_grad = offset_grad * n, offset_grad * scale, vec3(0.0), vec3(0.0)
    if ti.static(model == SOFTRAS):
        k, p = frame[view, RADIAL], frame[view, TANGENTIAL]
        image_grad, k_grad, p_grad = _distorted_adjoint(0.5 * (scale * n + offset + 1.0), k, p, model, 2.0 * offset_grad)
        offset_grad = 0.5 * image_grad
        scale_grad, n_grad = offset_grad * n, offset_grad * scale
    elif ti.static(model != PINHOLE):
        k, p = frame[view, RADIAL], frame[view, TANGENTIAL]
        scale_grad = offset_grad * _distorted(n, k, p, model)
        n_grad, k_grad, p_grad = _distorted_adjoint(n, k, p, model, scale * offset_grad)
    seen_grad = vec3(n_grad.x * inverse, n_grad.y * inverse, point_grad.z)
    if orthographic == 0:
        seen_grad.z -= n_grad.dot(n) * inverse
    return seen_grad, scale_grad, offset_grad, k_grad, p_grad


@ti.func
def _is_asked(seen, orthographic: int, stage: ti.template(), point_grad):
    """Whether a point has a gradient to pass on.

    One that no pixel asked about, that is not finite or has no place on the screen adds exactly nothing: the camera is
    everybody's.
    """
    asked = any(point_grad != 0.0) and is_finite(seen)
    if ti.static(stage != SEE):
        asked = asked and (orthographic != 0 or seen.z > MIN_DEPTH)
    return asked


@kernel
def _project_kernel(vertices: Points, frame: Points, orthographic: int, model: ti.template(), stage: ti.template(), screen: Points):
    for k in range(screen.shape[0] * screen.shape[1]):
        b, v = k // screen.shape[1], k % screen.shape[1]
        view = b % frame.shape[0]
        point = _seen(vertices[b % vertices.shape[0], v], frame, view, stage)
        if ti.static(stage != SEE):
            point = _screen_point(point, frame, view, orthographic, model)
        screen[b, v] = point


@operator
def project_points(vertices: Array, frame: Array, orthographic: bool, model: int, stage: int, screen: Array) -> None:
    """The stages of the projection, each a fused pass over the points: PROJECT = SEE, then TO_SCREEN."""
    _project_kernel(vertices, frame, int(orthographic), model, stage, screen)


@kernel
def _project_adjoint_kernel(
    vertices: Points, frame: Points, orthographic: int, model: ti.template(), stage: ti.template(), screen_grad: Points, vertices_grad: Points
):  # fmt: skip
    """Per vertex, over the views that share it."""
    for k in range(vertices.shape[0] * vertices.shape[1]):
        row, v = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for turn in range(screen_grad.shape[0] // vertices.shape[0]):
            b = row + turn * vertices.shape[0]
            view = b % frame.shape[0]
            seen, grad = _seen(vertices[row, v], frame, view, stage), screen_grad[b, v]
            if _is_asked(seen, orthographic, stage, grad):
                if ti.static(stage != SEE):
                    grad, _scale, _offset, _radial, _tangential = _screen_point_adjoint(seen, frame, view, orthographic, model, grad)
                if ti.static(stage != TO_SCREEN):
                    grad = grad.x * frame[view, RIGHT] + grad.y * frame[view, UP] + grad.z * frame[view, FORWARD]
                total += ti.select(is_finite(grad), grad, vec3(0.0))  # a lens of one view that is not finite spoils no other
        vertices_grad[row, v] = vertices_grad[row, v] + total


@kernel
def _strips_kernel(
    vertices: Points, frame: Points, orthographic: int, model: ti.template(), stage: ti.template(), screen_grad: Points, partials: Strips,
    steps: int, pad: int, threads: int, length: int, total: int,
):  # fmt: skip
    """The frame's gradient, summed over one strip of the vertices of all views of a camera."""
    for q in range(steps):
        strip_index = work_item(q, pad, threads, frame.shape[0] * partials.shape[1])
        if strip_index >= 0:
            view, strip = strip_index // partials.shape[1], strip_index % partials.shape[1]
            by_right, by_up, by_forward, by_eye = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0)
            by_scale, by_offset, by_radial, by_tangential = vec2(0.0), vec2(0.0), vec3(0.0), vec3(0.0)
            for t in range(strip * length, ti.min((strip + 1) * length, total)):
                b, v = view + t // vertices.shape[1] * frame.shape[0], t % vertices.shape[1]
                p = vertices[b % vertices.shape[0], v]
                seen, grad = _seen(p, frame, view, stage), screen_grad[b, v]
                if _is_asked(seen, orthographic, stage, grad):
                    scale_grad, offset_grad, k_grad, p_grad = vec2(0.0), vec2(0.0), vec3(0.0), vec3(0.0)
                    if ti.static(stage != SEE):
                        grad, scale_grad, offset_grad, k_grad, p_grad = _screen_point_adjoint(seen, frame, view, orthographic, model, grad)
                    if is_finite(grad):
                        if ti.static(stage != SEE):
                            by_scale += scale_grad
                            by_offset += offset_grad
                        if ti.static(stage != SEE and model != PINHOLE):
                            by_radial += k_grad
                            by_tangential += p_grad
                        if ti.static(stage != TO_SCREEN):
                            offset = p - frame[view, EYE]
                            by_right += grad.x * offset
                            by_up += grad.y * offset
                            by_forward += grad.z * offset
                            by_eye -= grad.x * frame[view, RIGHT] + grad.y * frame[view, UP] + grad.z * frame[view, FORWARD]
            first = view * frame.shape[1]
            partials[first + RIGHT, strip], partials[first + UP, strip], partials[first + FORWARD, strip] = by_right, by_up, by_forward
            partials[first + EYE, strip] = by_eye
            partials[first + SCALE, strip] = vec3(by_scale.x, by_scale.y, 0.0)
            partials[first + OFFSET, strip] = vec3(by_offset.x, by_offset.y, 0.0)
            partials[first + RADIAL, strip], partials[first + TANGENTIAL, strip] = by_radial, by_tangential


@kernel
def _add_strips_kernel(partials: Strips, frame_grad: Points):
    for n in range(partials.shape[0]):
        view, column = n // frame_grad.shape[1], n % frame_grad.shape[1]
        frame_grad[view, column] = frame_grad[view, column] + row_total(partials, n)


@project_points.adjoint
def _project_points_adjoint(vertices: Array, frame: Array, orthographic: bool, model: int, stage: int, screen: Array) -> None:
    if vertices.grad is not None:
        _project_adjoint_kernel(vertices, frame, int(orthographic), model, stage, screen.grad, vertices.grad)
    total = screen.shape[0] // frame.shape[0] * screen.shape[1]
    length, count = strips(total)
    partials = empty(vec3, (frame.shape[0] * frame.shape[1], count))
    _strips_kernel(vertices, frame, int(orthographic), model, stage, screen.grad, partials, *split(frame.shape[0] * count), length, total)
    _add_strips_kernel(partials, frame.grad)
