"""Directions and lengths of vectors, in kernels; each with its adjoint below it. And arithmetic over arrays of vectors."""

import taichi as ti

from .arrays import Array, Points, empty, grad_of, is_finite, vec3
from .launch import kernel
from .tape import operator

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


# --- Over arrays ------------------------------------------------------------------------------------------------


def normalize(vectors: Array) -> Array:
    """Every vector of (B, N) of vec3 scaled to length 1; zero stays zero, and what is not finite becomes zero.

    Differentiable in `vectors`, where they are not zero.
    """
    out = empty(vec3, vectors.shape, needs_grad=True)
    _normalize(vectors, out)
    return out


@kernel
def _normalize_kernel(vectors: Points, out: Points):
    for b, n in ti.ndrange(out.shape[0], out.shape[1]):
        out[b, n], _ = unit(vectors[b, n], 0.0)


@operator
def _normalize(vectors: Array, out: Array) -> None:
    _normalize_kernel(vectors, out)


@kernel
def _normalize_adjoint_kernel(vectors: Points, vectors_grad: Points, out_grad: Points):
    for b, n in ti.ndrange(out_grad.shape[0], out_grad.shape[1]):
        if any(out_grad[b, n] != 0.0):
            direction, length = unit(vectors[b, n], 0.0)
            vectors_grad[b, n] += unit_adjoint(direction, length, out_grad[b, n])


@_normalize.adjoint
def _normalize_adjoint(vectors: Array, out: Array) -> None:
    if vectors.grad is not None:
        _normalize_adjoint_kernel(vectors, vectors.grad, out.grad)


def multiply_add(a: Array, b: Array, c: Array | None = None) -> Array:
    """a b + c, number by number, of arrays (1, N) of vec3; c None is zero. Differentiable in all three."""
    out = empty(vec3, a.shape, needs_grad=True)
    _multiply_add(a, b, a if c is None else c, c is not None, out)
    return out


@kernel
def _multiply_add_kernel(a: Points, b: Points, c: Points, with_c: int, out: Points):
    for n in range(out.shape[1]):
        out[0, n] = a[0, n] * b[0, n]
        if with_c != 0:
            out[0, n] += c[0, n]


@operator
def _multiply_add(a: Array, b: Array, c: Array, with_c: bool, out: Array) -> None:
    _multiply_add_kernel(a, b, c, int(with_c), out)


@kernel
def _multiply_add_adjoint_kernel(a: Points, b: Points, with_c: int, a_grad: Points, b_grad: Points, c_grad: Points, out_grad: Points):
    for n in range(out_grad.shape[1]):
        grad = out_grad[0, n]
        if any(grad != 0.0):
            a_grad[0, n] += grad * b[0, n]
            b_grad[0, n] += grad * a[0, n]
            if with_c != 0:
                c_grad[0, n] += grad


@_multiply_add.adjoint
def _multiply_add_adjoint(a: Array, b: Array, c: Array, with_c: bool, out: Array) -> None:
    _multiply_add_adjoint_kernel(a, b, int(with_c), grad_of(a), grad_of(b), grad_of(c), out.grad)
