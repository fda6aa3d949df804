"""Directions and lengths of vectors, in kernels; each with its adjoint below it."""

import taichi as ti

from .arrays import is_finite, vec3

SHORTEST = 1e-30  # vectors whose largest component is not above this have no direction


@ti.func
def unit(v, least):
    """(v / |v|, |v|); (0, 0) where v is not finite or not longer than `least`.

    Scaled first: the normal of a tiny face is its edges multiplied, and its square would be zero.
    """
    direction, length = vec3(0.0), 0.0
    largest = ti.max(ti.abs(v.x), ti.abs(v.y), ti.abs(v.z))
    if is_finite(v) and largest > SHORTEST:
        scaled = v / largest
        norm = scaled.norm()
        if norm * largest > least:
            direction, length = scaled / norm, norm * largest
    return direction, length


@ti.func
def unit_adjoint(direction, length, direction_grad):
    """Gradient of v, zero where it has no direction."""
    v_grad = vec3(0.0)
    if length > 0.0:
        v_grad = (direction_grad - direction * direction.dot(direction_grad)) / length
    return v_grad
