"""Where points of the world are in the pictures of a light, as texture coordinates and depth."""

import taichi as ti

from .arrays import Array, Ints, Points, empty, expect, grad_of, is_finite, split, vec2, vec3, work_item, zero
from .frame import EYE, FORWARD, RIGHT, SCALE, UP
from .launch import kernel
from .lens import MIN_DEPTH
from .sums import Strips, bounded_strips, row_total
from .tape import operator
from .texture import UVs

Depths = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (1, N)

COLUMNS = 5  # of a frame, that count here: RIGHT, UP, FORWARD, EYE, SCALE
NOWHERE = -1e6  # depth of points that are in no picture: nearer to the light than all that casts a shadow


def light_places(
    positions: Array, views: Array, frame: Array, sides: int, *, orthographic: bool, middle: float, radius: float
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The place of each point in the pictures of a light, of which there are one or more around it: in the one that faces it most.

        q = (p - eye) . (right, up, forward),   uv = 1/2 + 1/2 (s_x n_x, -s_y n_y),   n = (q_x, q_y) / q_z,   depth = (q_z - middle) / radius

    and without the division by q_z for parallel pictures.

    Args:
        positions: in the world, (1, N) of vec3.
        views: the view that each belongs to, (N,); its pictures are rows s R + view of the frame, or + 0 where R is 1.
        frame: of square pictures, (S R, 8) of vec3, as of `camera_frame`.
        sides: S.
        orthographic: pictures are parallel.
        middle, radius: of depth.

    Returns:
        uv (1, N) of vec2, depth (1, N), and the row of the frame (N,). A point that is not finite, or at or behind all cameras, is
        in the middle at the depth -1e6.

    Differentiable in `positions` and `frame`, not in which picture it is.

    Raises:
        ValueError: wrong shapes or types.
    """
    expect("positions", positions, 3, 2, "(1, N) of vec3")
    expect("views", views, 1, 1, "(N,) integers", integers=True)
    if positions.shape[0] != 1 or views.shape[0] != positions.shape[1]:
        raise ValueError(f"views: expected one per point of positions, (1, N), got {tuple(views.shape)} and {tuple(positions.shape)}")
    count = positions.shape[1]
    uv, depths, layers = empty(vec2, (1, count), needs_grad=True), empty(float, (1, count), needs_grad=True), empty(int, count)
    _places(positions, views, frame, sides, bool(orthographic), float(middle), float(radius), layers, uv, depths)
    return uv, depths, layers


@ti.func
def _seen(p, frame: ti.template(), row: int):
    q = p - frame[row, EYE]
    return vec3(q.dot(frame[row, RIGHT]), q.dot(frame[row, UP]), q.dot(frame[row, FORWARD]))


@ti.func
def _is_shown(q, orthographic: int):
    return is_finite(q) and (orthographic != 0 or q.z > MIN_DEPTH)


@ti.func
def _inverse_depth(q, orthographic: int):
    return ti.select(orthographic != 0, 1.0, 1.0 / ti.max(q.z, MIN_DEPTH))


@kernel
def _places_kernel(
    positions: Points, views: Ints, frame: Points, sides: int, orthographic: int, middle: float, radius: float,
    layers: Ints, uv: UVs, depths: Depths,
):  # fmt: skip
    for n in range(uv.shape[1]):
        rows = frame.shape[0] // sides
        p, row = positions[0, n], ti.math.clamp(views[n], 0, rows - 1)
        q = _seen(p, frame, row)
        for side in range(1, sides):
            other = side * rows + row % rows
            forward = (p - frame[other, EYE]).dot(frame[other, FORWARD])
            if forward > q.z:
                row = other
                q = _seen(p, frame, row)
        layers[n], uv[0, n], depths[0, n] = row, vec2(0.5), NOWHERE
        if _is_shown(q, orthographic):
            flat = 0.5 * _inverse_depth(q, orthographic) * frame[row, SCALE].xy * q.xy
            uv[0, n], depths[0, n] = vec2(0.5 + flat.x, 0.5 - flat.y), (q.z - middle) / radius


@operator
def _places(
    positions: Array, views: Array, frame: Array, sides: int, orthographic: bool, middle: float, radius: float,
    layers: Array, uv: Array, depths: Array,
) -> None:  # fmt: skip
    _places_kernel(positions, views, frame, sides, int(orthographic), middle, radius, layers, uv, depths)


@kernel
def _places_adjoint_kernel(
    positions: Points, layers: Ints, frame: Points, orthographic: int, radius: float, uv_grad: UVs, depths_grad: Depths,
    positions_grad: Points, partials: Strips, steps: int, pad: int, threads: int, strip_count: int, length: int,
):  # fmt: skip
    """A thread takes a strip of points, and sums up the frame's gradient."""
    for k in range(steps):
        strip = work_item(k, pad, threads, strip_count)
        if strip >= 0:
            for n in range(strip * length, ti.min((strip + 1) * length, uv_grad.shape[1])):
                place_grad, depth_grad = uv_grad[0, n], depths_grad[0, n]
                if place_grad.x != 0.0 or place_grad.y != 0.0 or depth_grad != 0.0:
                    p, row = positions[0, n], layers[n]
                    q = _seen(p, frame, row)
                    if _is_shown(q, orthographic):
                        inverse, scale = _inverse_depth(q, orthographic), frame[row, SCALE].xy
                        flat_grad = 0.5 * vec2(place_grad.x, -place_grad.y)
                        near = q.xy * inverse
                        near_grad = flat_grad * scale
                        q_grad = vec3(near_grad.x * inverse, near_grad.y * inverse, depth_grad / radius)
                        if orthographic == 0:
                            q_grad.z -= near_grad.dot(near) * inverse
                        p_grad = q_grad.x * frame[row, RIGHT] + q_grad.y * frame[row, UP] + q_grad.z * frame[row, FORWARD]
                        positions_grad[0, n] = positions_grad[0, n] + p_grad
                        offset, first = p - frame[row, EYE], row * COLUMNS
                        partials[first + RIGHT, strip] = partials[first + RIGHT, strip] + q_grad.x * offset
                        partials[first + UP, strip] = partials[first + UP, strip] + q_grad.y * offset
                        partials[first + FORWARD, strip] = partials[first + FORWARD, strip] + q_grad.z * offset
                        partials[first + EYE, strip] = partials[first + EYE, strip] - p_grad
                        scale_grad = flat_grad * near
                        partials[first + SCALE, strip] = partials[first + SCALE, strip] + vec3(scale_grad.x, scale_grad.y, 0.0)


@kernel
def _add_strips_kernel(partials: Strips, frame_grad: Points):
    for k in range(partials.shape[0]):
        row, column = k // COLUMNS, k % COLUMNS
        frame_grad[row, column] = frame_grad[row, column] + row_total(partials, k)


@_places.adjoint
def _places_adjoint(
    positions: Array, views: Array, frame: Array, sides: int, orthographic: bool, middle: float, radius: float,
    layers: Array, uv: Array, depths: Array,
) -> None:  # fmt: skip
    length, count = bounded_strips(uv.shape[1], frame.shape[0] * COLUMNS)
    partials = empty(vec3, (frame.shape[0] * COLUMNS, count))
    zero(partials)
    _places_adjoint_kernel(
        positions, layers, frame, int(orthographic), radius, uv.grad, depths.grad, grad_of(positions), partials, *split(count), count, length
    )  # fmt: skip
    _add_strips_kernel(partials, frame.grad)
