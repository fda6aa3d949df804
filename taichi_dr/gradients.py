"""What a fit does to whole arrays: add terms of a loss up, measure gradients, shorten them, keep values within bounds."""

import math

import taichi as ti

from .arrays import Array, Floats, Scalar, empty, unrecorded
from .launch import kernel
from .tape import operator

Anything = ti.types.ndarray(needs_grad=False)  # any number of axes, numbers or vectors

CHUNK = 256  # elements that are summed in a row


@kernel
def _add_term_kernel(term: Scalar, loss: Scalar, record: Floats, place: int):
    for _ in range(1):
        loss[None] = loss[None] + term[None]
        record[place] = term[None]


@operator
def add_term(term: Array, loss: Array, record: Array, place: int) -> None:
    """loss += term, and write the term down."""
    _add_term_kernel(term, loss, record, place)


@kernel
def _add_term_adjoint_kernel(term_grad: Scalar, loss_grad: Scalar):
    for _ in range(1):
        term_grad[None] = term_grad[None] + loss_grad[None]


@add_term.adjoint
def _add_term_adjoint(term: Array, loss: Array, record: Array, place: int) -> None:
    _add_term_adjoint_kernel(term.grad, loss.grad)


@ti.func
def _element(x: ti.template(), row: int, column: int):
    """The element of a row, all axes but the last counted through."""
    if ti.static(len(x.shape) == 0):
        return x[None]
    else:
        index, rest = ti.Vector.zero(int, ti.static(len(x.shape))), row
        for k in ti.static(range(len(x.shape) - 2, -1, -1)):
            index[k] = rest % x.shape[k]
            rest //= x.shape[k]
        index[ti.static(len(x.shape) - 1)] = column
        return x[index]


@kernel
def _square_sum_kernel(
    x: Anything, partials: Floats, columns: int, chunk: int, per_row: int, is_number: ti.template(),
    loss: Scalar, record: Floats, place: int, loss_place: int,
):  # fmt: skip
    for k in range(partials.shape[0]):
        row, begin, total = k // per_row, k % per_row * chunk, 0.0
        for column in range(begin, ti.min(begin + chunk, columns)):
            g = _element(x, row, column)
            if ti.static(is_number):
                total += g * g
            else:
                total += g.dot(g)
        partials[k] = total
    ti.loop_config(serialize=True)
    for _ in range(1):
        total = 0.0
        for k in range(partials.shape[0]):
            total += partials[k]
        record[place] = total
        record[loss_place] = loss[None]


def square_sum(x: Array, loss: Array, record: Array, place: int, loss_place: int) -> None:
    """Write down the sum of squares of x, which is finite where x is, and the loss."""
    columns, rows = (x.shape[-1], math.prod(x.shape[:-1])) if x.shape else (1, 1)
    per_row = -(-columns // CHUNK)
    chunk = -(-columns // per_row)
    with unrecorded():
        _square_sum_kernel(x, empty(float, rows * per_row), columns, chunk, per_row, not x.element_shape, loss, record, place, loss_place)


@kernel
def _scale_kernel(x: Anything, factor: float):
    for k in ti.grouped(x):
        x[k] = factor * x[k]


def scale(x: Array, factor: float) -> None:
    """x <- factor x"""
    with unrecorded():
        _scale_kernel(x, factor)


@ti.func
def _kept(s, least: float, most: float):
    return ti.select(s < least, least, ti.select(s > most, most, s))


@kernel
def _keep_kernel(x: Anything, least: float, most: float, is_number: ti.template()):
    for k in ti.grouped(x):
        if ti.static(is_number):
            x[k] = _kept(x[k], least, most)
        else:
            v = x[k]
            for c in ti.static(range(v.n)):
                v[c] = _kept(v[c], least, most)
            x[k] = v


def keep_within(x: Array, least: float, most: float) -> None:
    """Move every number of x that is not in [least, most] to the nearer end; NaN stays."""
    with unrecorded():
        _keep_kernel(x, least, most, not x.element_shape)
