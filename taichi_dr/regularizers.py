"""Mesh regularizers: smooth surfaces (laplacian, flatten) and even edges (edge_length).

Each adds weight times its value to a 0-D loss. Sums run in a fixed order and gradients are gathered per vertex, so two
runs agree bitwise. A term that a vertex makes infinite or NaN is left out, and with it its gradient: what is wrong with
one vertex stays with that vertex.
"""

from typing import Any

import taichi as ti

from .arrays import Array, Floats, Ints, Points, Scalar, checked_loss, checked_number, empty, finite_or_zero, is_finite, is_finite_number, vec3
from .launch import kernel
from .mesh import Hinges, Neighbors, checked_mesh, hinges, neighbors
from .sums import Strips, add_scaled_slots, add_terms, space
from .tape import operator

HingeCorners = ti.types.ndarray(dtype=ti.math.ivec4, ndim=1, needs_grad=False)  # (N,): edge v0, v1, opposite v2, v3

EPS = 1e-6  # inside every root and quotient of `flatten`, as in SoftRas


def laplacian(mesh: Any, loss: Array, weight: float = 1.0) -> None:
    """Add how far every vertex is from the mean of its neighbors (uniform Laplacian).

        loss += weight / B sum_b sum_i |y_bi|^2,   y_i = x_i - 1 / deg(i) sum_(j in N(i)) x_j,   y_i = 0 without neighbors

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3, not to be changed in place.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `mesh.vertices`. Not in which vertices are neighbors, a discrete choice.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, a weight that is not finite.

    Source: Liu et al., Soft Rasterizer, ICCV 2019, section 4.1, and its code, losses.LaplacianLoss.
    """
    vertices, faces = checked_mesh(mesh)
    adjacent = neighbors(faces, vertices.shape[1])
    offsets = empty(vec3, vertices.shape)  # y
    _laplacian(vertices, adjacent, offsets, checked_number("weight", weight) / vertices.shape[0], checked_loss(loss))


def edge_length(mesh: Any, loss: Array, weight: float = 1.0, target: float = 0.0) -> None:
    """Add how far the edges are from a target length.

        loss += weight / (B E) sum_b sum_(edges i j) (|x_bi - x_bj| - target)^2

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3, not to be changed in place.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.
        target: length, world units, at least 0.

    Differentiable in `mesh.vertices`; an edge of length zero, which has no direction, has no gradient. Not in which
    vertices share an edge, a discrete choice.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, a weight or target that is not finite.

    Source: PyTorch3D, loss.mesh_edge_loss.
    """
    vertices, faces = checked_mesh(mesh)
    adjacent = neighbors(faces, vertices.shape[1])
    scale = checked_number("weight", weight) / (vertices.shape[0] * max(1, adjacent.edges))
    _edge_length(vertices, adjacent, checked_number("target", target, 0.0), scale, checked_loss(loss))


def flatten(mesh: Any, loss: Array, weight: float = 1.0) -> None:
    """Add how far the faces at every inner edge are from lying in one plane.

        loss += weight / B sum_b sum_(edges) (cos(c1, c2) + 1)^2

    with c1 and c2 the parts perpendicular to the edge of the vectors from its first vertex to the vertices opposite.
    In a plane they point in opposite directions. All edges between two faces count; a mesh without any adds zero.

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3, not to be changed in place.
            SoftRas adds 1e-6 to squared lengths, so the mesh should measure about 1.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `mesh.vertices`. Not in which faces share an edge, a discrete choice.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, a weight that is not finite.

    Source: Liu et al., Soft Rasterizer, ICCV 2019, section 4.1, and its code, losses.FlattenLoss, which leaves out the
    inner edges that are only in the third column of the faces of an open mesh.
    """
    vertices, faces = checked_mesh(mesh)
    scale = checked_number("weight", weight) / vertices.shape[0]
    joints = hinges(faces, vertices.shape[1])
    corner_grads = empty(vec3, (vertices.shape[0], 4 * max(1, joints.count)))
    _flatten(vertices, joints, corner_grads, scale, checked_loss(loss))


# --- Laplacian ---------------------------------------------------------------------------------------------------


@kernel
def _laplacian_kernel(
    vertices: Points, offsets: Ints, adjacent: Ints, y: Points, terms: Floats, partials: Strips, length: int, loss: Scalar, n: int, scale: float
):
    for k in range(n):
        b, i = k // vertices.shape[1], k % vertices.shape[1]
        mean = vec3(0.0)
        for s in range(offsets[i], offsets[i + 1]):
            mean += vertices[b, adjacent[s]]
        degree = offsets[i + 1] - offsets[i]
        away = vec3(0.0)
        if degree > 0:
            away = vertices[b, i] - mean / degree
        term = away.norm_sqr()
        if not is_finite_number(term):
            away, term = vec3(0.0), 0.0
        y[b, i] = away
        terms[k] = term
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _laplacian(vertices: Array, adjacent: Neighbors, y: Array, scale: float, loss: Array) -> None:
    n = y.shape[0] * y.shape[1]
    _laplacian_kernel(vertices, adjacent.offsets, adjacent.vertices, y, *space(float, 1, n), loss, n, scale)


@kernel
def _laplacian_adjoint_kernel(offsets: Ints, adjacent: Ints, y: Points, vertices_grad: Points, loss_grad: Scalar, n: int, scale: float):
    for k in range(n):
        b, i = k // y.shape[1], k % y.shape[1]
        total = y[b, i]
        for s in range(offsets[i], offsets[i + 1]):
            j = adjacent[s]
            total -= y[b, j] / (offsets[j + 1] - offsets[j])
        vertices_grad[b, i] = vertices_grad[b, i] + 2.0 * scale * loss_grad[None] * total


@_laplacian.adjoint
def _laplacian_adjoint(vertices: Array, adjacent: Neighbors, y: Array, scale: float, loss: Array) -> None:
    if vertices.grad is not None:
        _laplacian_adjoint_kernel(adjacent.offsets, adjacent.vertices, y, vertices.grad, loss.grad, y.shape[0] * y.shape[1], scale)


# --- Edge length -------------------------------------------------------------------------------------------------


@ti.func
def _edge(u, v, target):
    """(|u - v| - target)^2, zero where that is not finite."""
    return finite_or_zero(((u - v).norm() - target) ** 2)


@ti.func
def _edge_adjoint(u, v, target, term_grad):
    """Gradient of u; that of v is its negative."""
    length = (u - v).norm()
    u_grad = vec3(0.0)
    if length > 0.0:
        u_grad = term_grad * 2.0 * (length - target) * ((u - v) / length)
    if not is_finite_number((length - target) ** 2):
        u_grad = vec3(0.0)
    return u_grad


@kernel
def _edge_length_kernel(
    vertices: Points, offsets: Ints, adjacent: Ints, terms: Floats, partials: Strips, length: int, loss: Scalar, n: int, target: float, scale: float
):
    for k in range(n):
        b, i = k // vertices.shape[1], k % vertices.shape[1]
        term = 0.0
        for s in range(offsets[i], offsets[i + 1]):
            if adjacent[s] > i:  # every edge once
                term += _edge(vertices[b, i], vertices[b, adjacent[s]], target)
        terms[k] = term
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _edge_length(vertices: Array, adjacent: Neighbors, target: float, scale: float, loss: Array) -> None:
    n = vertices.shape[0] * vertices.shape[1]
    _edge_length_kernel(vertices, adjacent.offsets, adjacent.vertices, *space(float, 1, n), loss, n, target, scale)


@kernel
def _edge_length_adjoint_kernel(
    vertices: Points, offsets: Ints, adjacent: Ints, vertices_grad: Points, loss_grad: Scalar, n: int, target: float, scale: float
):
    for k in range(n):
        b, i = k // vertices.shape[1], k % vertices.shape[1]
        total = vec3(0.0)
        for s in range(offsets[i], offsets[i + 1]):
            total += _edge_adjoint(vertices[b, i], vertices[b, adjacent[s]], target, scale * loss_grad[None])
        vertices_grad[b, i] = vertices_grad[b, i] + total


@_edge_length.adjoint
def _edge_length_adjoint(vertices: Array, adjacent: Neighbors, target: float, scale: float, loss: Array) -> None:
    if vertices.grad is not None:
        n = vertices.shape[0] * vertices.shape[1]
        _edge_length_adjoint_kernel(vertices, adjacent.offsets, adjacent.vertices, vertices.grad, loss.grad, n, target, scale)


# --- Flatten -----------------------------------------------------------------------------------------------------


@ti.func
def _lengths(a, b):
    """|a|, |b| and the cosine between them, each with SoftRas's EPS."""
    a_length, b_length = ti.sqrt(a.norm_sqr() + EPS), ti.sqrt(b.norm_sqr() + EPS)
    return a_length, b_length, a.dot(b) / (a_length * b_length + EPS)


@ti.func
def _perpendicular(a, b):
    """The part of b perpendicular to a, and its length computed from the angle (SoftRas)."""
    _, b_length, cosine = _lengths(a, b)
    return b - a * (a.dot(b) / (a.norm_sqr() + EPS)), b_length * ti.sqrt(1.0 - cosine**2 + EPS)


@ti.func
def _perpendicular_adjoint(a, b, part_grad, length_grad):
    """Gradients of a and b."""
    a_length, b_length, cosine = _lengths(a, b)
    square, along = a.norm_sqr() + EPS, a.dot(b) / (a.norm_sqr() + EPS)
    sine = ti.sqrt(1.0 - cosine**2 + EPS)
    cosine_grad = -length_grad * b_length * cosine / sine
    along_grad = -a.dot(part_grad)
    product_grad = -cosine_grad * cosine / (a_length * b_length + EPS)
    dot_grad = along_grad / square + cosine_grad / (a_length * b_length + EPS)
    a_square_grad = -along_grad * along / square + 0.5 * product_grad * b_length / a_length
    b_square_grad = 0.5 * (length_grad * sine + product_grad * a_length) / b_length
    return dot_grad * b + 2.0 * a_square_grad * a - along * part_grad, dot_grad * a + 2.0 * b_square_grad * b + part_grad


@ti.func
def _hinge(v0, v1, v2, v3):
    """(cos + 1)^2, zero where that is not finite."""
    part1, length1 = _perpendicular(v1 - v0, v2 - v0)
    part2, length2 = _perpendicular(v1 - v0, v3 - v0)
    return finite_or_zero((part1.dot(part2) / (length1 * length2 + EPS) + 1.0) ** 2)


@ti.func
def _hinge_adjoint(v0, v1, v2, v3, term_grad):
    """Gradients of v1, v2 and v3; that of v0 is minus their sum."""
    a = v1 - v0
    part1, length1 = _perpendicular(a, v2 - v0)
    part2, length2 = _perpendicular(a, v3 - v0)
    product = length1 * length2 + EPS
    cosine = part1.dot(part2) / product
    cosine_grad = term_grad * 2.0 * (cosine + 1.0)
    dot_grad, product_grad = cosine_grad / product, -cosine_grad * cosine / product
    a_grad1, v2_grad = _perpendicular_adjoint(a, v2 - v0, dot_grad * part2, product_grad * length2)
    a_grad2, v3_grad = _perpendicular_adjoint(a, v3 - v0, dot_grad * part1, product_grad * length1)
    v1_grad = a_grad1 + a_grad2
    if not (is_finite(v1_grad) and is_finite(v2_grad) and is_finite(v3_grad)):
        v1_grad, v2_grad, v3_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    return v1_grad, v2_grad, v3_grad


@ti.func
def _corners(vertices: ti.template(), corners: ti.template(), b: int, h: int):
    c = corners[h]
    return vertices[b, c.x], vertices[b, c.y], vertices[b, c.z], vertices[b, c.w]


@kernel
def _flatten_kernel(
    vertices: Points, corners: HingeCorners, corner_grads: Points, terms: Floats, partials: Strips, length: int, loss: Scalar,
    hinge_count: int, n: int, scale: float,
):  # fmt: skip
    """The value, and at little more cost than by itself the gradients of every hinge, which the adjoint gathers."""
    for k in range(n):
        b, h = k // hinge_count, k % hinge_count
        v0, v1, v2, v3 = _corners(vertices, corners, b, h)
        terms[k] = _hinge(v0, v1, v2, v3)
        v1_grad, v2_grad, v3_grad = _hinge_adjoint(v0, v1, v2, v3, 1.0)
        corner_grads[b, 4 * h], corner_grads[b, 4 * h + 1] = -(v1_grad + v2_grad + v3_grad), v1_grad
        corner_grads[b, 4 * h + 2], corner_grads[b, 4 * h + 3] = v2_grad, v3_grad
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _flatten(vertices: Array, joints: Hinges, corner_grads: Array, scale: float, loss: Array) -> None:
    n = vertices.shape[0] * joints.count
    _flatten_kernel(vertices, joints.corners, corner_grads, *space(float, 1, n), loss, joints.count, n, scale)


@_flatten.adjoint
def _flatten_adjoint(vertices: Array, joints: Hinges, corner_grads: Array, scale: float, loss: Array) -> None:
    if vertices.grad is not None:
        add_scaled_slots(joints.incidence.offsets, joints.incidence.slots, corner_grads, vertices.grad, loss.grad, scale)
