"""Rigid motions: `Pose`, which an optimizer can move, `transform`, which applies it, and exp and log of rotations in NumPy.

A pose takes x to R x + t. Its rotation is given by three numbers, or by six that have no singularity (Zhou et al.):

    R = exp([w]) = cos|w| I + sin|w| / |w| [w] + (1 - cos|w|) / |w|^2 w w^T                  (axis times angle)
    R = [b1 b2 b1 x b2],   b1 = a1 / |a1|,   b2 = (a2 - (b1 . a2) b1) / |...|               (6D)

Sources: Rodrigues' formula; Gallego and Yezzi, "A Compact Formula for the Derivative of a 3-D Rotation in Exponential
Coordinates", 2015; Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019, section 4.2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Points, Vectors, add_item, batch_size, empty, expect, field, grad_of, is_finite, item, read, split, vec3, work_item
from .io.cameras import motions, quaternion
from .launch import kernel
from .sums import Strips, row_total, strips
from .tape import operator
from .vectors import unit, unit_adjoint

SHIFT = 3  # the columns of a pose, (B, 4) of vec3, are the rows of its rotation, then the translation
SERIES = 0.5  # squared angles below this have their series
PARALLEL = 1e-6  # sine of the angle between the two vectors of a 6D rotation under which the second says nothing


class Pose:
    """A rotation and a translation, x -> R x + t; of a camera, x in the world and R x + t in its axes right, down, forward.

    Args:
        rotation: axis times angle, radians: three numbers or (B, 3), or an array of vec3, () or (B,), which is kept. Or
            6D, the first two columns of a matrix of which Gram and Schmidt make a rotation: six numbers or (B, 6), or
            two such arrays.
        translation: three numbers or (B, 3), or an array of vec3, () or (B,), which is kept.

    Fields:
        rotation: an array with a gradient, or a tuple of the two of a 6D rotation.
        translation: an array with a gradient.

    Raises:
        ValueError: a wrong shape, numbers that are not finite, batches that do not agree, 6D vectors that are zero or
            parallel. Arrays are taken as they are: in them such vectors give some rotation, with no gradient.
    """

    def __init__(
        self, rotation: Sequence | np.ndarray | Array | tuple[Array, Array] = (0.0, 0.0, 0.0), translation: Sequence | np.ndarray | Array = (0.0,) * 3
    ) -> None:
        self.rotation = _rotation_field(rotation)
        self.translation = field("translation", translation, 3)
        _ = self.batch  # raises where the batches do not agree

    @property
    def batch(self) -> int:
        """Number of poses."""
        sizes = {f"rotation[{k}]": x.shape[0] for k, x in enumerate(self._vectors()) if x.shape}
        return batch_size(**sizes, translation=self.translation.shape[0] if self.translation.shape else 1)

    def _vectors(self) -> tuple[Array, ...]:
        return self.rotation if isinstance(self.rotation, tuple) else (self.rotation,)

    @classmethod
    def identity(cls, batch: int | None = None, *, six: bool = False) -> "Pose":
        """The pose that leaves everything where it is, one for all views or `batch` of them; `six` for a 6D rotation."""
        rows = () if batch is None else (batch,)
        rotation = np.broadcast_to([1.0, 0.0, 0.0, 0.0, 1.0, 0.0] if six else [0.0] * 3, (*rows, 6 if six else 3))
        return cls(rotation, np.zeros((*rows, 3)))

    @classmethod
    def from_matrix(cls, matrix: Sequence | np.ndarray, *, six: bool = False) -> "Pose":
        """The pose of a matrix (4, 4) or (3, 4), or of B of them; `six` for a 6D rotation.

        Raises:
            ValueError: another shape, numbers that are not finite, a last row other than (0, 0, 0, 1), or a matrix that
                is no rotation within 1e-3, such as a reflection.
        """
        rotation, translation = motions("matrix", matrix)
        if np.ndim(matrix) == 2:
            rotation, translation = rotation[0], translation[0]
        return cls(np.concatenate([rotation[..., 0], rotation[..., 1]], axis=-1) if six else so3_log(rotation), translation)

    def matrix(self) -> np.ndarray:
        """(4, 4), or (B, 4, 4) where a field has a batch axis, in NumPy."""
        vectors = [read(x).astype(np.float64) for x in self._vectors()]
        rotation = so3_exp(vectors[0]) if len(vectors) == 1 else rotation_from_6d(np.concatenate(np.broadcast_arrays(*vectors), axis=-1))
        return joined_matrix(rotation, read(self.translation).astype(np.float64))


def _rotation_field(given: Any) -> Array | tuple[Array, Array]:
    if isinstance(given, ti.Ndarray):
        return field("rotation", given, 3)
    pair = given if isinstance(given, tuple | list) and any(isinstance(x, ti.Ndarray) for x in given) else None
    if pair is not None:
        if len(pair) != 2 or not all(isinstance(x, ti.Ndarray) for x in pair):
            raise ValueError(f"rotation: expected one array of vec3, or two for a 6D rotation, got {len(pair)} things")
        return field("rotation[0]", pair[0], 3), field("rotation[1]", pair[1], 3)
    try:
        numbers = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rotation: expected three numbers (axis times angle) or six (6D), or (B, 3) or (B, 6), got {given!r}") from error
    if numbers.ndim not in (1, 2) or numbers.shape[-1] not in (3, 6):
        fix = "; make it with dr.Pose.from_matrix(...)" if numbers.shape[-2:] in ((3, 3), (4, 4), (3, 4)) else ""
        raise ValueError(f"rotation: expected three numbers (axis times angle) or six (6D), or (B, 3) or (B, 6), got shape {numbers.shape}{fix}")
    if numbers.shape[-1] == 3:
        return field("rotation", numbers, 3)
    rotation_from_6d(numbers)  # raises where it is none
    return field("rotation", numbers[..., :3], 3), field("rotation", numbers[..., 3:], 3)


# --- NumPy ------------------------------------------------------------------------------------------------------


def joined_matrix(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """(..., 4, 4) of (..., 3, 3) and (..., 3)."""
    rows = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    out = np.zeros((*rows, 4, 4))
    out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = rotation, translation, 1.0
    return out


def so3_exp(w: Sequence | np.ndarray) -> np.ndarray:
    """(..., 3, 3): the rotations about axes w by angles |w|, radians; (..., 3).

    R = cos|w| I + sin|w| / |w| [w] + (1 - cos|w|) / |w|^2 w w^T
    """
    w = _last_axis("w", w, 3)
    a, b, _ = _coefficients((w * w).sum(axis=-1))
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    return np.cos(angle) * np.eye(3) + a[..., None, None] * _cross_matrix(w) + b[..., None, None] * w[..., :, None] * w[..., None, :]


def so3_log(rotation: Sequence | np.ndarray) -> np.ndarray:
    """(..., 3): axis times angle in [0, pi] of rotations (..., 3, 3), by their quaternions; exact at 0 and near pi."""
    q = quaternion(np.asarray(rotation, np.float64))
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    return q[..., 1:] * np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > 1e-12)


def se3_exp(xi: Sequence | np.ndarray) -> np.ndarray:
    """(..., 4, 4): the motions of twists (v, w), (..., 6): translation [v] first, rotation last.

    T = [exp([w]), V v],   V = I + (1 - cos|w|) / |w|^2 [w] + (|w| - sin|w|) / |w|^3 [w]^2
    """
    xi = _last_axis("xi", xi, 6)
    v, w = xi[..., :3], xi[..., 3:]
    return joined_matrix(so3_exp(w), (_left_jacobian(w) @ v[..., None])[..., 0])


def se3_log(matrix: Sequence | np.ndarray) -> np.ndarray:
    """(..., 6): the twists (v, w) of motions (..., 4, 4), |w| in [0, pi]."""
    m = np.asarray(matrix, np.float64)
    w = so3_log(m[..., :3, :3])
    return np.concatenate([np.linalg.solve(_left_jacobian(w), m[..., :3, 3:])[..., 0], w], axis=-1)


def rotation_from_6d(x: Sequence | np.ndarray) -> np.ndarray:
    """(..., 3, 3): rotations from their first two columns, (..., 6), of any length and angle, by Gram and Schmidt.

    Raises:
        ValueError: a first vector of length zero, or a second one along it.

    Source: Zhou et al. 2019, section 4.2.
    """
    x = _last_axis("rotation", x, 6)
    first, second = x[..., :3], x[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    b1 = first / np.where(length > 0, length, 1.0)
    u = second - (b1 * second).sum(axis=-1, keepdims=True) * b1
    rest = np.linalg.norm(u, axis=-1, keepdims=True)
    if not ((length > 0) & (rest > PARALLEL * np.linalg.norm(second, axis=-1, keepdims=True))).all():
        raise ValueError(f"rotation: expected two vectors that are neither zero nor parallel, got {x.tolist()}")
    b2 = u / rest
    return np.stack([b1, b2, np.cross(b1, b2)], axis=-1)


def _last_axis(name: str, given: Any, n: int) -> np.ndarray:
    x = np.asarray(given, np.float64)
    if x.ndim == 0 or x.shape[-1] != n or not np.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers of shape (..., {n}), got shape {x.shape}: {given!r}")
    return x


def _cross_matrix(w: np.ndarray) -> np.ndarray:
    """[w]: w x p = [w] p."""
    out = np.zeros((*w.shape, 3))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[..., k, j], out[..., j, k] = w[..., i], -w[..., i]
    return out


def _coefficients(s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sin|w| / |w|, (1 - cos|w|) / |w|^2 and (|w| - sin|w|) / |w|^3, of s = |w|^2."""
    small = s < SERIES
    safe = np.where(small, 1.0, s)
    angle = np.sqrt(safe)
    a = np.where(small, 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110 * (1 - s / 156))))), np.sin(angle) / angle)
    b = np.where(small, 0.5 * (1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90 * (1 - s / 132 * (1 - s / 182)))))), (1 - np.cos(angle)) / safe)
    c = np.where(small, (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110 * (1 - s / 156 * (1 - s / 210)))))) / 6, (1 - a) / safe)
    return a, b, c


def _left_jacobian(w: np.ndarray) -> np.ndarray:
    _, b, c = _coefficients((w * w).sum(axis=-1))
    cross = _cross_matrix(w)
    return np.eye(3) + b[..., None, None] * cross + c[..., None, None] * cross @ cross


# --- Rotation and translation to the rows of a pose ---------------------------------------------------------------


def pose_rows(pose: Pose) -> Array:
    """(B, 4) of vec3: the rows of R, then t. Differentiable in the pose's fields."""
    rows = empty(vec3, (pose.batch, 4), needs_grad=True)
    if isinstance(pose.rotation, tuple):
        _six(*pose.rotation, pose.translation, rows)
    else:
        _axis_angle(pose.rotation, pose.translation, rows)
    return rows


@ti.func
def _exp_coefficients(s):
    """sin|w| / |w| and (1 - cos|w|) / |w|^2, and their derivatives in s = |w|^2."""
    a = 1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * (1.0 - s / 110.0 * (1.0 - s / 156.0)))))
    b = 0.5 * (1.0 - s / 12.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0 * (1.0 - s / 90.0 * (1.0 - s / 132.0)))))
    a_slope = -1.0 / 6.0 + s * (1.0 / 60.0 + s * (-1.0 / 1680.0 + s * (1.0 / 90720.0 + s * (-1.0 / 7983360.0 + s / 1037836800.0))))
    b_slope = -1.0 / 24.0 + s * (1.0 / 360.0 + s * (-1.0 / 13440.0 + s * (1.0 / 907200.0 + s * (-1.0 / 95800320.0))))
    if s > SERIES:
        angle = ti.sqrt(s)
        cosine = ti.cos(angle)
        a, b = ti.sin(angle) / angle, (1.0 - cosine) / s
        a_slope, b_slope = 0.5 * (cosine - a) / s, 0.5 * (a - 2.0 * b) / s
    return a, b, a_slope, b_slope


@ti.func
def _exp_rows(w):
    """The rows of exp([w])."""
    s = w.dot(w)
    a, b, _, _ = _exp_coefficients(s)
    c = 1.0 - b * s  # the cosine
    x = vec3(c, -a * w.z, a * w.y) + (b * w.x) * w
    y = vec3(a * w.z, c, -a * w.x) + (b * w.y) * w
    z = vec3(-a * w.y, a * w.x, c) + (b * w.z) * w
    return x, y, z


@ti.func
def _exp_rows_adjoint(w, x_grad, y_grad, z_grad):
    """Gradient of w, exact at 0 and everywhere else: d cos / d s = -a / 2."""
    a, b, a_slope, b_slope = _exp_coefficients(w.dot(w))
    twist = vec3(z_grad.y - y_grad.z, x_grad.z - z_grad.x, y_grad.x - x_grad.y)
    trace = x_grad.x + y_grad.y + z_grad.z
    by_columns = vec3(x_grad.dot(w), y_grad.dot(w), z_grad.dot(w))  # G w
    by_rows = w.x * x_grad + w.y * y_grad + w.z * z_grad  # G^T w
    by_square = -0.5 * a * trace + a_slope * twist.dot(w) + b_slope * by_rows.dot(w)
    return 2.0 * by_square * w + a * twist + b * (by_columns + by_rows)


@kernel
def _axis_angle_kernel(rotation: Vectors, translation: Vectors, rows: Points):
    for b in range(rows.shape[0]):
        rows[b, 0], rows[b, 1], rows[b, 2] = _exp_rows(item(rotation, b))
        rows[b, SHIFT] = item(translation, b)


@operator
def _axis_angle(rotation: Array, translation: Array, rows: Array) -> None:
    _axis_angle_kernel(rotation, translation, rows)


@ti.func
def _is_any(rows: ti.template(), b: int):
    """Whether a row of the view is not zero."""
    return any(rows[b, 0] != 0.0) or any(rows[b, 1] != 0.0) or any(rows[b, 2] != 0.0) or any(rows[b, SHIFT] != 0.0)


@kernel
def _axis_angle_adjoint_kernel(rotation: Vectors, rows_grad: Points, rotation_grad: Vectors, translation_grad: Vectors):
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(rows_grad.shape[0]):
        if _is_any(rows_grad, b):
            add_item(rotation_grad, b, _exp_rows_adjoint(item(rotation, b), rows_grad[b, 0], rows_grad[b, 1], rows_grad[b, 2]))
            add_item(translation_grad, b, rows_grad[b, SHIFT])


@_axis_angle.adjoint
def _axis_angle_adjoint(rotation: Array, translation: Array, rows: Array) -> None:
    if rotation.grad is not None or translation.grad is not None:
        _axis_angle_adjoint_kernel(rotation, rows.grad, grad_of(rotation), grad_of(translation))


@ti.func
def _gram_schmidt(first, second):
    """b1, |first|, b2, and the length of what is left of the second; a length is 0 where its vector is a stand-in."""
    b1, length = unit(first, 0.0)
    if length == 0.0:
        b1 = vec3(1.0, 0.0, 0.0)
    b2, rest = unit(second - b1.dot(second) * b1, PARALLEL * second.norm())
    if rest == 0.0:
        a = ti.abs(b1)
        least = ti.min(a.x, a.y, a.z)
        axis = ti.select(a.x == least, vec3(1.0, 0.0, 0.0), ti.select(a.y == least, vec3(0.0, 1.0, 0.0), vec3(0.0, 0.0, 1.0)))
        b2 = b1.cross(axis).normalized()
    return b1, length, b2, rest


@ti.func
def _gram_schmidt_adjoint(first, second, b1_grad, b2_grad):
    b1, length, b2, rest = _gram_schmidt(first, second)
    u_grad = unit_adjoint(b2, rest, b2_grad)
    second_grad = u_grad - b1 * b1.dot(u_grad)
    by_b1 = b1_grad - b1.dot(second) * u_grad - b1.dot(u_grad) * second
    return unit_adjoint(b1, length, by_b1), second_grad


@kernel
def _six_kernel(first: Vectors, second: Vectors, translation: Vectors, rows: Points):
    for b in range(rows.shape[0]):
        b1, _, b2, _ = _gram_schmidt(item(first, b), item(second, b))
        b3 = b1.cross(b2)
        for i in ti.static(range(3)):
            rows[b, i] = vec3(b1[i], b2[i], b3[i])
        rows[b, SHIFT] = item(translation, b)


@operator
def _six(first: Array, second: Array, translation: Array, rows: Array) -> None:
    _six_kernel(first, second, translation, rows)


@kernel
def _six_adjoint_kernel(first: Vectors, second: Vectors, rows_grad: Points, first_grad: Vectors, second_grad: Vectors, translation_grad: Vectors):
    ti.loop_config(serialize=True)  # views share arrays of length 1
    for b in range(rows_grad.shape[0]):
        if _is_any(rows_grad, b):
            x, y, z = rows_grad[b, 0], rows_grad[b, 1], rows_grad[b, 2]
            b1, _, b2, _ = _gram_schmidt(item(first, b), item(second, b))
            b3_grad = vec3(x.z, y.z, z.z)
            b1_grad = vec3(x.x, y.x, z.x) + b2.cross(b3_grad)  # b3 = b1 x b2
            b2_grad = vec3(x.y, y.y, z.y) + b3_grad.cross(b1)
            by_first, by_second = _gram_schmidt_adjoint(item(first, b), item(second, b), b1_grad, b2_grad)
            add_item(first_grad, b, by_first)
            add_item(second_grad, b, by_second)
            add_item(translation_grad, b, rows_grad[b, SHIFT])


@_six.adjoint
def _six_adjoint(first: Array, second: Array, translation: Array, rows: Array) -> None:
    if any(x.grad is not None for x in (first, second, translation)):
        _six_adjoint_kernel(first, second, rows.grad, grad_of(first), grad_of(second), grad_of(translation))


# --- Transform --------------------------------------------------------------------------------------------------


def transform(vertices: Array, pose: Pose) -> Array:
    """Vertices moved by a pose.

        y = R x + t

    Args:
        vertices: positions, (B, V) of vec3.
        pose: one for all of the batch, or as many as there are batches of vertices, or B of them for one batch.

    Returns:
        (B, V) of vec3.

    Differentiable in `vertices` and in the pose's `rotation` and `translation`. A vertex that is not finite moves no pose.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree.

    A mesh that moves as a whole, whose vertices stay as they are: `dr.Mesh(dr.transform(mesh.vertices, pose), ...)`.
    """
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    if not isinstance(pose, Pose):
        raise ValueError(f"pose: expected a Pose, got {type(pose).__name__}; make it with dr.Pose(rotation, translation)")
    batch = batch_size(vertices=vertices.shape[0], pose=pose.batch)
    moved = empty(vec3, (batch, vertices.shape[1]), needs_grad=True)
    _transform(vertices, pose_rows(pose), moved)
    return moved


@kernel
def _transform_kernel(vertices: Points, rows: Points, moved: Points):
    for k in range(moved.shape[0] * moved.shape[1]):
        b, v = k // moved.shape[1], k % moved.shape[1]
        r, p = b % rows.shape[0], vertices[b % vertices.shape[0], v]
        moved[b, v] = vec3(rows[r, 0].dot(p), rows[r, 1].dot(p), rows[r, 2].dot(p)) + rows[r, SHIFT]


@operator
def _transform(vertices: Array, rows: Array, moved: Array) -> None:
    _transform_kernel(vertices, rows, moved)


@kernel
def _transform_adjoint_kernel(rows: Points, moved_grad: Points, vertices_grad: Points):
    """Per vertex, over the poses that share it."""
    for k in range(vertices_grad.shape[0] * vertices_grad.shape[1]):
        row, v = k // vertices_grad.shape[1], k % vertices_grad.shape[1]
        total = vec3(0.0)
        for turn in range(moved_grad.shape[0] // vertices_grad.shape[0]):
            b = row + turn * vertices_grad.shape[0]
            r, grad = b % rows.shape[0], moved_grad[b, v]
            if any(grad != 0.0):
                total += grad.x * rows[r, 0] + grad.y * rows[r, 1] + grad.z * rows[r, 2]
        vertices_grad[row, v] = vertices_grad[row, v] + total


@kernel
def _strips_kernel(
    vertices: Points, rows: Points, moved_grad: Points, partials: Strips, steps: int, pad: int, threads: int, length: int, total: int
):  # fmt: skip
    """The gradients of the rows, summed over one strip of the vertices that a pose moves."""
    for q in range(steps):
        k = work_item(q, pad, threads, rows.shape[0] * partials.shape[1])
        if k >= 0:
            r, strip = k // partials.shape[1], k % partials.shape[1]
            by_x, by_y, by_z, by_shift = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0)
            for t in range(strip * length, ti.min((strip + 1) * length, total)):
                b, v = r + t // vertices.shape[1] * rows.shape[0], t % vertices.shape[1]
                p, grad = vertices[b % vertices.shape[0], v], moved_grad[b, v]
                if any(grad != 0.0) and is_finite(p):
                    by_x += grad.x * p
                    by_y += grad.y * p
                    by_z += grad.z * p
                    by_shift += grad
            partials[4 * r, strip], partials[4 * r + 1, strip], partials[4 * r + 2, strip] = by_x, by_y, by_z
            partials[4 * r + SHIFT, strip] = by_shift


@kernel
def _add_strips_kernel(partials: Strips, rows_grad: Points):
    for n in range(partials.shape[0]):
        rows_grad[n // 4, n % 4] = rows_grad[n // 4, n % 4] + row_total(partials, n)


@_transform.adjoint
def _transform_adjoint(vertices: Array, rows: Array, moved: Array) -> None:
    if vertices.grad is not None:
        _transform_adjoint_kernel(rows, moved.grad, vertices.grad)
    total = moved.shape[0] // rows.shape[0] * moved.shape[1]
    length, count = strips(total)
    partials = empty(vec3, (4 * rows.shape[0], count))
    _strips_kernel(vertices, rows, moved.grad, partials, *split(rows.shape[0] * count), length, total)
    _add_strips_kernel(partials, rows.grad)
