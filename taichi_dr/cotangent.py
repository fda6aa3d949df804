"""Cotangent Laplacian: vertices that lie amid their neighbors, weighed by the shape of the faces."""

from typing import Any

import taichi as ti

from .arrays import Array, Faces, Floats, Ints, Points, Scalar, checked_loss, checked_number, empty, is_finite, vec3, vec4
from .launch import kernel
from .mesh import Incidence, checked_mesh, corner_incidence
from .sums import Strips, add_scaled_slots, add_terms, space
from .tape import operator

Quads = ti.types.ndarray(dtype=vec4, ndim=2, needs_grad=False)  # (B, V): y and W

FLATTEST = 1e-4  # twice the area of a face, as a share of its squared sides, under which its cotangents grow no more


def cotangent_laplacian(mesh: Any, loss: Array, weight: float = 1.0) -> None:
    """Add how far every vertex is from the mean of its neighbors, weighed by cotangents.

        loss += weight / (B V) sum_b sum_i |y_bi|,   y_i = sum_j w_ij (x_j - x_i) / W_i,   W_i = sum_j w_ij

    with w_ij the sum of the cotangents of the angles across the edge. Unlike the mean of `laplacian` it does not pull vertices along
    the surface to even out the faces: on a flat part it is zero whatever the faces. A vertex without faces has y = 0. The
    cotangents of very thin faces are held: twice the area that divides them counts as 1e-4 of the squared sides at least.

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3, not to be changed in place.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `mesh.vertices`, through the cotangents too; where y = 0, which has no direction, with zero.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, a weight that is not finite.

    Source: PyTorch3D, loss.mesh_laplacian_smoothing(method="cot"), which takes the cotangents as constants in its gradient.
    """
    vertices, faces = checked_mesh(mesh)
    corners = corner_incidence(faces, vertices.shape[1])
    offsets = empty(vec4, vertices.shape)  # y and W
    scale = checked_number("weight", weight) / (vertices.shape[0] * vertices.shape[1])
    _cotangent_laplacian(vertices, (faces,), corners, offsets, scale, checked_loss(loss))


@ti.func
def _cotangents(x0, x1, x2):
    """Those of the three corners, and the twice the area that divides them; zeros where they are not finite."""
    e0, e1, e2 = x2 - x1, x0 - x2, x1 - x0
    area = ti.max((e2.cross(-e1)).norm(), FLATTEST * (e0.norm_sqr() + e1.norm_sqr() + e2.norm_sqr()))
    cotangents = vec3(-e1.dot(e2), -e2.dot(e0), -e0.dot(e1)) / area
    if not (area > 0.0 and is_finite(cotangents)):
        cotangents, area = vec3(0.0), 0.0
    return cotangents, area


@ti.func
def _cotangents_adjoint(x0, x1, x2, cotangents, area, cotangents_grad):
    """Gradients of x1 and x2; that of x0 is minus their sum."""
    e0, e1, e2 = x2 - x1, x0 - x2, x1 - x0
    dots_grad = cotangents_grad / area
    area_grad = -cotangents.dot(dots_grad)
    e0_grad = -dots_grad.y * e2 - dots_grad.z * e1
    e1_grad = -dots_grad.x * e2 - dots_grad.z * e0
    e2_grad = -dots_grad.x * e1 - dots_grad.y * e0
    normal = e2.cross(-e1)
    double_area = normal.norm()
    if double_area >= area:
        normal_grad = area_grad / double_area * normal
        e1_grad -= normal_grad.cross(e2)
        e2_grad -= e1.cross(normal_grad)
    else:
        e0_grad += 2.0 * FLATTEST * area_grad * e0
        e1_grad += 2.0 * FLATTEST * area_grad * e1
        e2_grad += 2.0 * FLATTEST * area_grad * e2
    return e2_grad - e0_grad, e0_grad - e1_grad


@ti.func
def _corner(vertices: ti.template(), faces: ti.template(), b: int, slot: int):
    """A face's corners, beginning with that of the slot."""
    f, k = faces[slot // 3], slot % 3
    return vertices[b, f[k]], vertices[b, f[(k + 1) % 3]], vertices[b, f[(k + 2) % 3]]


@ti.func
def _is_face(c):
    """Whether its corners are three vertices."""
    return c.x != c.y and c.y != c.z and c.z != c.x


@kernel
def _cotangent_laplacian_kernel(
    vertices: Points, faces: Faces, offsets: Ints, slots: Ints, y: Quads, terms: Floats, partials: Strips, length: int, loss: Scalar,
    n: int, scale: float,
):  # fmt: skip
    for k in range(n):
        b, i = k // vertices.shape[1], k % vertices.shape[1]
        pull, total = vec3(0.0), 0.0
        for s in range(offsets[i], offsets[i + 1]):
            x0, x1, x2 = _corner(vertices, faces, b, slots[s])
            cotangents, area = _cotangents(x0, x1, x2)
            if area > 0.0 and _is_face(faces[slots[s] // 3]):
                pull += cotangents.z * (x1 - x0) + cotangents.y * (x2 - x0)
                total += cotangents.y + cotangents.z
        mean = vec3(0.0)
        if total > 0.0:
            mean = pull / total
        if not is_finite(mean):
            mean, total = vec3(0.0), 0.0
        y[b, i] = vec4(mean, total)
        terms[k] = mean.norm()
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _cotangent_laplacian(vertices: Array, faces: tuple[Array], corners: Incidence, y: Array, scale: float, loss: Array) -> None:
    n = y.shape[0] * y.shape[1]
    _cotangent_laplacian_kernel(vertices, faces[0], corners.offsets, corners.slots, y, *space(float, 1, n), loss, n, scale)


@ti.func
def _pull_adjoint(y):
    """Gradients of a vertex's sum of w_ij (x_j - x_i), and of its W, from its y and W."""
    pull_grad, total_grad = vec3(0.0), 0.0
    distance = y.xyz.norm()
    if distance > 0.0 and y.w > 0.0:
        pull_grad, total_grad = y.xyz / (distance * y.w), -distance / y.w
    return pull_grad, total_grad


@kernel
def _cotangent_laplacian_adjoint_kernel(vertices: Points, faces: Faces, y: Quads, corner_grads: Points):
    """The gradients of every face's corners, for loss_grad and scale of 1."""
    for k in range(vertices.shape[0] * faces.shape[0]):
        b, f = k // faces.shape[0], k % faces.shape[0]
        c = faces[f]
        x0, x1, x2 = vertices[b, c.x], vertices[b, c.y], vertices[b, c.z]
        cotangents, area = _cotangents(x0, x1, x2)
        x0_grad, x1_grad, x2_grad = vec3(0.0), vec3(0.0), vec3(0.0)
        if area > 0.0 and _is_face(c):
            n0, m0 = _pull_adjoint(y[b, c.x])
            n1, m1 = _pull_adjoint(y[b, c.y])
            n2, m2 = _pull_adjoint(y[b, c.z])
            # Across the corner 0 are x1 and x2: cot_0 (n1 - n2) . (x2 - x1), and cot_0 (m1 + m2) of their W.
            d0, d1, d2 = n1 - n2, n2 - n0, n0 - n1
            cotangents_grad = vec3(d0.dot(x2 - x1) + m1 + m2, d1.dot(x0 - x2) + m2 + m0, d2.dot(x1 - x0) + m0 + m1)
            x1_grad, x2_grad = _cotangents_adjoint(x0, x1, x2, cotangents, area, cotangents_grad)
            x0_grad = cotangents.y * d1 - cotangents.z * d2 - (x1_grad + x2_grad)
            x1_grad += cotangents.z * d2 - cotangents.x * d0
            x2_grad += cotangents.x * d0 - cotangents.y * d1
            if not (is_finite(x0_grad) and is_finite(x1_grad) and is_finite(x2_grad)):
                x0_grad, x1_grad, x2_grad = vec3(0.0), vec3(0.0), vec3(0.0)
        corner_grads[b, 3 * f], corner_grads[b, 3 * f + 1], corner_grads[b, 3 * f + 2] = x0_grad, x1_grad, x2_grad


@_cotangent_laplacian.adjoint
def _cotangent_laplacian_adjoint(vertices: Array, faces: tuple[Array], corners: Incidence, y: Array, scale: float, loss: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces[0].shape[0]))
        _cotangent_laplacian_adjoint_kernel(vertices, faces[0], y, corner_grads)
        add_scaled_slots(corners.offsets, corners.slots, corner_grads, vertices.grad, loss.grad, scale)
