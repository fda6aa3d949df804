"""Points on the surface of a mesh, which move with its vertices."""

from numbers import Integral
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Ints, Points, empty, is_finite, ivec3, read, vec3, write
from .launch import kernel
from .mesh import Incidence, checked_mesh, corner_incidence, incidence
from .tape import operator

Corners = ti.types.ndarray(dtype=ti.math.ivec3, ndim=2, needs_grad=False)  # (B, N): vertices that a point lies between


def sample_surface(mesh: Any, count: int, *, seed: int = 0) -> Array:
    """Points spread evenly over the surface of a mesh, by area.

        p_n = w0 x_0 + w1 x_1 + w2 x_2,   w = (1 - r, r (1 - s), r s),   r^2 and s uniform in [0, 1)

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3.
        count: N, points of each mesh of the batch, at least 1.
        seed: of the random numbers; the same seed, the same places. Take another in each step to see all of the surface in time.

    Returns:
        (B, N) of vec3, world units.

    Differentiable in `mesh.vertices`, with the weights w as they are. Not in which face a point is on, a discrete choice.
    Faces with a vertex that is not finite get no points; where no face has an area, any may.

    Raises:
        ValueError: no mesh, a count that is no whole number of at least 1, a face index out of range.
    """
    vertices, faces = checked_mesh(mesh)
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(f"count: expected a whole number of at least 1, got {count!r}")
    corner_incidence(faces, vertices.shape[1])  # checks the indices
    x, indices = read(vertices).astype(np.float64), read(faces)
    random = np.random.default_rng(seed).random((3, count))
    corners = np.stack([indices[_by_area(one, indices, random[0])] for one in x])
    r, s = np.sqrt(random[1]), random[2]
    weights = np.broadcast_to(np.stack([1 - r, r * (1 - s), r * s], axis=-1), corners.shape)
    return between(vertices, corners, weights)


def _by_area(x: np.ndarray, faces: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The faces at places in [0, 1) of their areas added up."""
    with np.errstate(invalid="ignore", over="ignore"):
        areas = np.linalg.norm(np.cross(x[faces[:, 1]] - x[faces[:, 0]], x[faces[:, 2]] - x[faces[:, 0]]), axis=-1)
    areas[~np.isfinite(areas)] = 0.0
    if not areas.any():
        areas[:] = 1.0
    ends = np.cumsum(areas / areas.max())
    return np.minimum(np.searchsorted(ends, chosen * ends[-1], side="right"), np.flatnonzero(areas)[-1])


def between(vertices: Array, corners: np.ndarray, weights: np.ndarray) -> Array:
    """(B, N) of vec3: sum_k weights_k vertices[corners_k], for corners and weights (B, N, 3). Differentiable in the vertices."""
    batch, count = corners.shape[:2]
    points = empty(vec3, (batch, count), needs_grad=True)
    rows = corners + vertices.shape[1] * np.arange(batch)[:, None, None]  # the vertices of the batch as one list
    ends, shares = empty(ivec3, (batch, count)), empty(vec3, (batch, count))
    write(ends, corners)
    write(shares, weights)
    _between(vertices, ends, (shares,), incidence(rows.reshape(-1, 3), batch * vertices.shape[1]), points)
    return points


@kernel
def _between_kernel(vertices: Points, corners: Corners, weights: Points, points: Points):
    for k in range(points.shape[0] * points.shape[1]):
        b, n = k // points.shape[1], k % points.shape[1]
        c, w = corners[b, n], weights[b, n]
        points[b, n] = w.x * vertices[b, c.x] + w.y * vertices[b, c.y] + w.z * vertices[b, c.z]


@operator
def _between(vertices: Array, corners: Array, weights: tuple[Array], slots: Incidence, points: Array) -> None:
    _between_kernel(vertices, corners, weights[0], points)


@kernel
def _between_adjoint_kernel(weights: Points, offsets: Ints, slots: Ints, points_grad: Points, vertices_grad: Points):
    for k in range(vertices_grad.shape[0] * vertices_grad.shape[1]):
        b, v = k // vertices_grad.shape[1], k % vertices_grad.shape[1]
        total = vec3(0.0)
        for s in range(offsets[k], offsets[k + 1]):
            n = slots[s] // 3 % points_grad.shape[1]
            gradient = points_grad[b, n]
            if is_finite(gradient):
                total += weights[b, n][slots[s] % 3] * gradient
        vertices_grad[b, v] = vertices_grad[b, v] + total


@_between.adjoint
def _between_adjoint(vertices: Array, corners: Array, weights: tuple[Array], slots: Incidence, points: Array) -> None:
    if vertices.grad is not None:
        _between_adjoint_kernel(weights[0], slots.offsets, slots.slots, points.grad, vertices.grad)
