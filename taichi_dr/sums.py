"""Sums in a fixed order, so that two runs agree bitwise, and with few roundings: n terms in about sqrt(n) strips.

The strips of one sum are a row of an array `partials`, (sums, strips): first each strip is summed by a thread of its
own, then the row. Sums over the slots of a vertex (`mesh.Incidence`) are short and run in the order of the slots.
"""

import math
from typing import Any

import taichi as ti

from .arrays import Array, Ints, Points, Scalar, empty
from .launch import kernel

MOST_PARTIALS = 1 << 22

Strips = ti.types.ndarray(ndim=2, needs_grad=False)  # (sums, strips), numbers or vectors


def strips(n: int) -> tuple[int, int]:
    """Length and number of the strips of n terms, both about sqrt(n)."""
    length = math.isqrt(max(1, n) - 1) + 1
    return length, max(1, -(-n // length))


def bounded_strips(n: int, sums: int) -> tuple[int, int]:
    """As `strips`, for many sums of n terms each: fewer strips where the sums are very many."""
    length, count = strips(n)
    if sums * count > MOST_PARTIALS:
        length = -(-n // max(1, MOST_PARTIALS // sums))
        count = max(1, -(-n // length))
    return length, count


def space(element: Any, sums: int, n: int) -> tuple[Array, Array, int]:
    """For `sum_strips` and `add_terms`: where to put n terms for each of several sums, the partials, and the strips' length."""
    length, count = strips(n)
    return empty(element, max(1, sums * n)), empty(element, (sums, count)), length


@ti.func
def sum_strips(terms: ti.template(), n: int, partials: ti.template(), length: int):
    """Fill the partials of sums over n terms each, which follow one another in `terms`."""
    for q in range(partials.shape[0] * partials.shape[1]):
        row, strip = q // partials.shape[1], q % partials.shape[1]
        total = ti.zero(partials[0, 0])
        for k in range(strip * length, ti.min((strip + 1) * length, n)):
            total += terms[row * n + k]
        partials[row, strip] = total


@ti.func
def row_total(partials: ti.template(), row: int):
    """The sum of a row of partials."""
    total = ti.zero(partials[0, 0])
    for strip in range(partials.shape[1]):
        total += partials[row, strip]
    return total


@ti.func
def add_terms(terms: ti.template(), n: int, partials: ti.template(), length: int, scale, loss: ti.template()):
    """loss += scale times the sum of n terms."""
    sum_strips(terms, n, partials, length)
    ti.loop_config(serialize=True)
    for _ in range(1):
        loss[None] = loss[None] + scale * row_total(partials, 0)


@ti.func
def slot_total(values: ti.template(), offsets: ti.template(), slots: ti.template(), b: int, v: int, share: ti.template()):
    """The sum of `values`, (B, slots / share), over the slots of vertex v; `share` slots in turn have a value in common."""
    total = ti.zero(values[0, 0])
    for s in range(offsets[v], offsets[v + 1]):
        total += values[b, slots[s] // share]
    return total


@kernel
def _gather_kernel(values: Points, offsets: Ints, slots: Ints, share: ti.template(), scale: float, out: Points):
    for k in range(out.shape[0] * out.shape[1]):
        b, v = k // out.shape[1], k % out.shape[1]
        out[b, v] = out[b, v] + scale * slot_total(values, offsets, slots, b, v, share)


def gather(values: Array, offsets: Array, slots: Array, out: Array, *, share: int = 1, scale: float = 1.0) -> None:
    """out += scale times the `slot_total` of every vertex."""
    _gather_kernel(values, offsets, slots, share, scale, out)


@kernel
def _scaled_slots_kernel(offsets: Ints, slots: Ints, values: Points, vertices_grad: Points, loss_grad: Scalar, scale: float):
    for k in range(vertices_grad.shape[0] * vertices_grad.shape[1]):
        b, v = k // vertices_grad.shape[1], k % vertices_grad.shape[1]
        total = slot_total(values, offsets, slots, b, v, 1)
        vertices_grad[b, v] = vertices_grad[b, v] + scale * loss_grad[None] * total


def add_scaled_slots(offsets: Array, slots: Array, values: Array, vertices_grad: Array, loss_grad: Array, scale: float) -> None:
    """vertices_grad += scale times loss_grad times the sum over every vertex's slots of the gradients of each, (B, slots)."""
    _scaled_slots_kernel(offsets, slots, values, vertices_grad, loss_grad, scale)
