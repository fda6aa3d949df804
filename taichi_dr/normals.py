"""Normals of vertices and faces, and the middles of faces.

The cross product of two edges of a face is its normal, as long as twice its area. Gradients are stored per corner of a
face and gathered per vertex in a fixed order. What is wrong with one vertex stays with its faces.
"""

import numpy as np
import taichi as ti

from .arrays import Array, Faces, Ints, Points, empty, expect, is_finite, read, vec3
from .mesh import Incidence, corner_incidence
from .sums import gather, slot_total
from .tape import operator
from .vectors import unit, unit_adjoint


def expect_mesh(vertices: Array, faces: Array) -> None:
    """Raise a ValueError unless these are vertices and faces."""
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)


def _corner_incidence(vertices: Array, faces: Array) -> Incidence:
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


# --- Cross products ---------------------------------------------------------------------------------------------


@ti.func
def _corners(x: ti.template(), faces: ti.template(), b: int, f: int):
    """What `x`, (B, V), holds for the three vertices of a face."""
    face = faces[f]
    return x[b, face.x], x[b, face.y], x[b, face.z]


@ti.func
def _cross(vertices: ti.template(), faces: ti.template(), b: int, f: int):
    """The face's normal, as long as twice its area; zero unless it is finite."""
    x, y, z = _corners(vertices, faces, b, f)
    cross = (y - x).cross(z - x)
    return ti.select(is_finite(cross), cross, vec3(0.0))


@ti.func
def _cross_adjoint(vertices: ti.template(), faces: ti.template(), b: int, f: int, cross_grad, corner_grads: ti.template()):
    """Gradients of the three corners: the edge opposite turns about each."""
    x, y, z = _corners(vertices, faces, b, f)
    x_grad, y_grad, z_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if any(cross_grad != 0.0) and is_finite((y - x).cross(z - x)):
        x_grad, y_grad, z_grad = (y - z).cross(cross_grad), (z - x).cross(cross_grad), (x - y).cross(cross_grad)
    corner_grads[b, 3 * f], corner_grads[b, 3 * f + 1], corner_grads[b, 3 * f + 2] = x_grad, y_grad, z_grad


# --- Of vertices ------------------------------------------------------------------------------------------------


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
    expect_mesh(vertices, faces)
    sums = empty(vec3, vertices.shape)
    normals = empty(vec3, vertices.shape, needs_grad=True)
    _vertex_normals(vertices, faces, _corner_incidence(vertices, faces), sums, normals)
    return normals


@ti.kernel
def _vertex_normals_kernel(vertices: Points, faces: Faces, offsets: Ints, slots: Ints, crosses: Points, sums: Points, normals: Points):
    for k in range(crosses.shape[0] * crosses.shape[1]):
        b, f = k // crosses.shape[1], k % crosses.shape[1]
        crosses[b, f] = _cross(vertices, faces, b, f)
    for k in range(sums.shape[0] * sums.shape[1]):
        b, v = k // sums.shape[1], k % sums.shape[1]
        total = slot_total(crosses, offsets, slots, b, v, 3)
        n, _ = unit(total, 0.0)
        sums[b, v], normals[b, v] = total, n


@operator
def _vertex_normals(vertices: Array, faces: Array, corners: Incidence, sums: Array, normals: Array) -> None:
    crosses = empty(vec3, (vertices.shape[0], faces.shape[0]))
    _vertex_normals_kernel(vertices, faces, corners.offsets, corners.slots, crosses, sums, normals)


@ti.kernel
def _vertex_normals_adjoint_kernel(vertices: Points, faces: Faces, sums: Points, normals_grad: Points, sums_grad: Points, corner_grads: Points):
    for k in range(sums.shape[0] * sums.shape[1]):
        b, v = k // sums.shape[1], k % sums.shape[1]
        n, length = unit(sums[b, v], 0.0)
        sums_grad[b, v] = unit_adjoint(n, length, normals_grad[b, v])
    for k in range(sums.shape[0] * faces.shape[0]):
        b, f = k // faces.shape[0], k % faces.shape[0]
        x_grad, y_grad, z_grad = _corners(sums_grad, faces, b, f)
        _cross_adjoint(vertices, faces, b, f, x_grad + y_grad + z_grad, corner_grads)


@_vertex_normals.adjoint
def _vertex_normals_adjoint(vertices: Array, faces: Array, corners: Incidence, sums: Array, normals: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces.shape[0]))
        _vertex_normals_adjoint_kernel(vertices, faces, sums, normals.grad, empty(vec3, vertices.shape), corner_grads)
        gather(corner_grads, corners.offsets, corners.slots, vertices.grad)


# --- Of faces ---------------------------------------------------------------------------------------------------


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
    expect_mesh(vertices, faces)
    normals = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _face_normals(vertices, faces, _corner_incidence(vertices, faces), normals)
    return normals


@ti.kernel
def _face_normals_kernel(vertices: Points, faces: Faces, normals: Points):
    for k in range(normals.shape[0] * normals.shape[1]):
        b, f = k // normals.shape[1], k % normals.shape[1]
        normals[b, f], _ = unit(_cross(vertices, faces, b, f), 0.0)


@operator
def _face_normals(vertices: Array, faces: Array, corners: Incidence, normals: Array) -> None:
    _face_normals_kernel(vertices, faces, normals)


@ti.kernel
def _face_normals_adjoint_kernel(vertices: Points, faces: Faces, normals_grad: Points, corner_grads: Points):
    for k in range(normals_grad.shape[0] * normals_grad.shape[1]):
        b, f = k // normals_grad.shape[1], k % normals_grad.shape[1]
        n, length = unit(_cross(vertices, faces, b, f), 0.0)
        _cross_adjoint(vertices, faces, b, f, unit_adjoint(n, length, normals_grad[b, f]), corner_grads)


@_face_normals.adjoint
def _face_normals_adjoint(vertices: Array, faces: Array, corners: Incidence, normals: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces.shape[0]))
        _face_normals_adjoint_kernel(vertices, faces, normals.grad, corner_grads)
        gather(corner_grads, corners.offsets, corners.slots, vertices.grad)


# --- Middles of faces -------------------------------------------------------------------------------------------


def face_centers(vertices: Array, faces: Array) -> Array:
    """(B, F) of vec3: the means of the corners. Differentiable in `vertices`."""
    expect_mesh(vertices, faces)
    centers = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _face_centers(vertices, faces, _corner_incidence(vertices, faces), centers)
    return centers


@ti.kernel
def _face_centers_kernel(vertices: Points, faces: Faces, centers: Points):
    for k in range(centers.shape[0] * centers.shape[1]):
        b, f = k // centers.shape[1], k % centers.shape[1]
        x, y, z = _corners(vertices, faces, b, f)
        centers[b, f] = (x + y + z) / 3.0


@operator
def _face_centers(vertices: Array, faces: Array, corners: Incidence, centers: Array) -> None:
    _face_centers_kernel(vertices, faces, centers)


@_face_centers.adjoint
def _face_centers_adjoint(vertices: Array, faces: Array, corners: Incidence, centers: Array) -> None:
    if vertices.grad is not None:
        gather(centers.grad, corners.offsets, corners.slots, vertices.grad, share=3, scale=1 / 3)
