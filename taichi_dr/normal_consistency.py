"""Normal consistency: neighboring faces that look the same way."""

from typing import Any

import taichi as ti

from .arrays import Array, Floats, Points, Scalar, checked_loss, checked_number, empty, finite_or_zero, is_finite, vec3
from .launch import kernel
from .mesh import Hinges, checked_mesh, hinges
from .sums import Strips, add_scaled_slots, add_terms, space
from .tape import operator
from .vectors import unit, unit_adjoint

HingeCorners = ti.types.ndarray(dtype=ti.math.ivec4, ndim=1, needs_grad=False)  # (N,): edge v0, v1, opposite v2, v3


def normal_consistency(mesh: Any, loss: Array, weight: float = 1.0) -> None:
    """Add how far the normals of the two faces at every inner edge are apart.

        loss += weight / (B N) sum_b sum_(N edges) (1 - n1 . n2)

    with n1 and n2 the unit normals of the two faces, as if both went round in one direction. All edges between two faces count, of
    an edge between more the first two faces; a mesh without any adds zero. A face without area has no normal: its edges are left out.

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3, not to be changed in place.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `mesh.vertices`. Not in which faces share an edge, a discrete choice.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, a weight that is not finite.

    Source: PyTorch3D, loss.mesh_normal_consistency, which takes every pair of the faces at an edge.
    """
    vertices, faces = checked_mesh(mesh)
    joints = hinges(faces, vertices.shape[1])
    scale = checked_number("weight", weight) / (vertices.shape[0] * max(1, joints.count))
    corner_grads = empty(vec3, (vertices.shape[0], 4 * max(1, joints.count)))
    _normal_consistency(vertices, joints, corner_grads, scale, checked_loss(loss))


@ti.func
def _normals(v0, v1, v2, v3):
    """Unit normals of the faces v0 v1 v2 and v1 v0 v3, and twice their areas, 0 where there is no normal."""
    n1, area1 = unit((v1 - v0).cross(v2 - v0), 0.0)
    n2, area2 = unit((v3 - v0).cross(v1 - v0), 0.0)
    return n1, area1, n2, area2


@ti.func
def _turn(n1, n2):
    """1 - n1 . n2 = |n1 - n2|^2 / 2, which keeps its digits where the two are nearly the same."""
    return 0.5 * (n1 - n2).norm_sqr()


@ti.func
def _turn_adjoint(v0, v1, v2, v3):
    """Gradients of v1, v2 and v3; that of v0 is minus their sum."""
    e, p, q = v1 - v0, v2 - v0, v3 - v0
    n1, area1, n2, area2 = _normals(v0, v1, v2, v3)
    v1_grad, v2_grad, v3_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if area1 > 0.0 and area2 > 0.0:
        cross1_grad = unit_adjoint(n1, area1, n1 - n2)
        cross2_grad = unit_adjoint(n2, area2, n2 - n1)
        v1_grad = p.cross(cross1_grad) + cross2_grad.cross(q)
        v2_grad = cross1_grad.cross(e)
        v3_grad = e.cross(cross2_grad)
        if not (is_finite(v1_grad) and is_finite(v2_grad) and is_finite(v3_grad)):
            v1_grad, v2_grad, v3_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    return v1_grad, v2_grad, v3_grad


@kernel
def _normal_consistency_kernel(
    vertices: Points, corners: HingeCorners, corner_grads: Points, terms: Floats, partials: Strips, length: int, loss: Scalar,
    hinge_count: int, n: int, scale: float,
):  # fmt: skip
    """The value, and at little more cost than by itself the gradients of every hinge, which the adjoint gathers."""
    for k in range(n):
        b, h = k // hinge_count, k % hinge_count
        c = corners[h]
        v0, v1, v2, v3 = vertices[b, c.x], vertices[b, c.y], vertices[b, c.z], vertices[b, c.w]
        n1, area1, n2, area2 = _normals(v0, v1, v2, v3)
        terms[k] = ti.select(area1 > 0.0 and area2 > 0.0, finite_or_zero(_turn(n1, n2)), 0.0)
        v1_grad, v2_grad, v3_grad = _turn_adjoint(v0, v1, v2, v3)
        corner_grads[b, 4 * h], corner_grads[b, 4 * h + 1] = -(v1_grad + v2_grad + v3_grad), v1_grad
        corner_grads[b, 4 * h + 2], corner_grads[b, 4 * h + 3] = v2_grad, v3_grad
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _normal_consistency(vertices: Array, joints: Hinges, corner_grads: Array, scale: float, loss: Array) -> None:
    n = vertices.shape[0] * joints.count
    _normal_consistency_kernel(vertices, joints.corners, corner_grads, *space(float, 1, n), loss, joints.count, n, scale)


@_normal_consistency.adjoint
def _normal_consistency_adjoint(vertices: Array, joints: Hinges, corner_grads: Array, scale: float, loss: Array) -> None:
    if vertices.grad is not None:
        add_scaled_slots(joints.incidence.offsets, joints.incidence.slots, corner_grads, vertices.grad, loss.grad, scale)
