"""Losses: between images (mse, l1, silhouette_iou), of meshes (laplacian, flatten, edge_length, normal_consistency,
cotangent_laplacian), to points (chamfer, point_to_mesh), and of coefficients (mean_square).

Each adds weight times its value to a 0-D loss, so a sum of losses is one call after another inside a tape. Sums run in
a fixed order, so two runs agree bitwise. A target is data: none gets a gradient.
"""

from typing import Any

import numpy as np
import taichi as ti

from . import runtime
from .arrays import (
    ELEMENTS,
    Array,
    Floats,
    Image,
    Scalar,
    checked_loss,
    checked_number,
    empty,
    expect,
    is_finite,
    is_finite_number,
    split,
    vec2,
    work_item,
    zero,
)
from .chamfer import chamfer
from .cotangent import cotangent_laplacian
from .launch import kernel
from .normal_consistency import normal_consistency
from .point_to_mesh import point_to_mesh
from .regularizers import edge_length, flatten, laplacian
from .sums import Strips, add_terms, row_total, space, sum_strips
from .tape import operator

__all__ = [
    "chamfer", "cotangent_laplacian", "edge_length", "flatten", "l1", "laplacian", "mean_square", "mse", "normal_consistency",
    "point_to_mesh", "silhouette_iou",
]  # fmt: skip

Anything = ti.types.ndarray(needs_grad=False)  # any number of axes, numbers or vectors
Pairs = ti.types.ndarray(dtype=vec2, ndim=1, needs_grad=False)  # (N,): (intersection, union)

SQUARE, ABSOLUTE = 0, 1
EPS = 1e-6  # of SoftRas, so that an empty view has a quotient
CPU_CHUNK, GPU_CHUNK = 256, 4  # elements that one thread sums at most


def mse(image: Array, target: Array, loss: Array, weight: float = 1.0, *, mask: Array | None = None) -> None:
    """Add the mean squared difference of two arrays.

        loss += weight / N sum mask (image - target)^2      over all N components that are compared

    Args:
        image: (B, H, W) of vec4, or any float array of 1 to 4 axes, of numbers or vectors: (B, V) of vec3, (N,), ...
        target: the same; with two axes or more, a leading axis of 1 serves every view. Where its vectors lack the last component of
            the image's, that is not compared: a photograph has no alpha, a place on it no depth.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.
        mask: numbers, of the target's or the image's shape: how much each element counts; all of them 1 where left out.

    Differentiable in `image`; not in `target` and `mask`, which are data. A pixel that is not finite makes the loss so, and gets
    no gradient; where the mask is 0 nothing is looked at.

    Raises:
        ValueError: types or shapes that do not match, a NumPy array, a weight that is not finite.
    """
    _add_difference(image, target, loss, weight, mask, SQUARE)


def l1(image: Array, target: Array, loss: Array, weight: float = 1.0, *, mask: Array | None = None) -> None:
    """Add the mean absolute difference of two arrays; its gradient is zero where they agree.

        loss += weight / N sum mask |image - target|        over all N components that are compared

    Arguments, errors, and what it is differentiable in: as of `mse`.
    """
    _add_difference(image, target, loss, weight, mask, ABSOLUTE)


def mean_square(array: Array, loss: Array, weight: float = 1.0) -> None:
    """Add the mean of squares: the prior of coefficients that count standard deviations, as of `MorphableModel`.

        loss += weight / N sum array^2      over all N components

    With weight N / 2, for one face, it is minus the logarithm of their normal density, up to a constant.

    Args:
        array: any float array of 1 to 4 axes, of numbers or vectors: (K,), (B, K), (B, V) of vec3, ...
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `array`. A number that is not finite makes the loss so, and gets no gradient.

    Raises:
        ValueError: no Taichi array of floats, a weight that is not finite.
    """
    expect("array", array, (1, 2, 3, 4), (1, 2, 3, 4), "1 to 4 axes of numbers or vectors")
    zeros = empty(ELEMENTS[_components(array)], (1, *array.shape[1:]) if len(array.shape) > 1 else array.shape)
    zero(zeros)
    mse(array, zeros, loss, weight)


def silhouette_iou(image: Array, target: Array, loss: Array, weight: float = 1.0) -> None:
    """Add how little two silhouettes overlap: 0 where they are the same, 1 where they are apart.

        loss += weight / B sum_b (1 - I_b / (U_b + 1e-6)),   I_b = sum a t,   U_b = sum (a + t - a t)

    with a and t the alpha of `image` and `target`, summed over the pixels of view b.

    Args:
        image: (B, H, W) of vec4; alpha is the last component, in [0, 1].
        target: the same; a leading axis of 1 serves every view.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in the alpha of `image`; not in `target`, which is data. A pixel whose alpha is not finite is left out
    of both sums.

    Raises:
        ValueError: types or shapes that do not match, a NumPy array, a weight that is not finite.

    Source: Liu et al., Soft Rasterizer, ICCV 2019, section 4.1.
    """
    _checked(image, target, (4,), (3,), "(B, H, W) of vec4")
    sums = empty(vec2, image.shape[0])
    _silhouette_iou(image, _data(target), sums, checked_number("weight", weight) / image.shape[0], checked_loss(loss))


def _add_difference(image: Any, target: Any, loss: Any, weight: Any, mask: Any, kind: int) -> None:
    _checked(image, target)
    count = int(np.prod(image.shape, dtype=np.int64)) * _components(target)
    if mask is not None:
        expect("mask", mask, 1, len(image.shape), f"{tuple(image.shape)} or {(1, *image.shape[1:])} of numbers")
        if tuple(mask.shape) not in (tuple(image.shape), (1, *image.shape[1:])):
            raise ValueError(f"mask: expected shape {tuple(image.shape)}, or {(1, *image.shape[1:])} to serve every view, got {tuple(mask.shape)}")
    data = (target,) if mask is None else (target, mask)
    _difference(image, data, kind, checked_number("weight", weight) / count, checked_loss(loss))


def _data(target: Array) -> tuple[Array]:
    """In a tuple the Tape does not see the target, and spends no time on clearing a gradient that nobody asked for."""
    return (target,)


def _checked(
    image: Any, target: Any, elements: tuple[int, ...] = (1, 2, 3, 4), ndims: tuple[int, ...] = (1, 2, 3, 4), meaning: str = "1 to 4 axes"
) -> None:
    """Raise a ValueError unless both are float arrays of one element type and shape, up to a leading axis of 1 in the target."""
    for name, x in (("image", image), ("target", target)):
        if not isinstance(x, ti.Ndarray):
            raise ValueError(
                f"{name}: expected a Taichi array, got {type(x).__name__}; convert it once, outside of the loop: {name} = dr.array({name})"
            )
    expect("image", image, elements, ndims, meaning)
    came, needed = tuple(target.shape), tuple(image.shape)
    lacks_one = len(elements) > 1 and target.element_shape in ((2,), (3,)) and image.element_shape == (target.element_shape[0] + 1,)
    if target.element_shape != image.element_shape and not lacks_one:
        raise ValueError(f"target: expected elements like the image's, {_element(image)}, got {_element(target)}")
    if came == needed[1:]:
        raise ValueError(
            f"target: expected shape {needed}, or {(1, *came)} to serve every view, got {came}; add the batch axis: target = dr.array(values[None])"
        )
    if came != needed and (len(needed) == 1 or came != (1, *needed[1:])):
        one = f", or {(1, *needed[1:])} to serve every view" if len(needed) > 1 else ""
        raise ValueError(f"target: expected shape {needed}{one}, got {came}; give both arrays the same shape")
    expect("target", target, elements, ndims, meaning)


def _element(x: Array) -> str:
    return "vec" + "x".join(map(str, x.element_shape)) if x.element_shape else "numbers"


def _components(x: Array) -> int:
    return int(np.prod(x.element_shape, dtype=int))


# --- Walking two arrays in rows ----------------------------------------------------------------------------------
#
# Arrays of any number of axes are taken as rows: all axes but the last. A thread takes a chunk of a row.


def _chunks(x: Array) -> tuple[int, int]:
    """Length of a chunk and chunks in a row, whose last one may be shorter."""
    longest = CPU_CHUNK if runtime.device().arch == "cpu" else GPU_CHUNK
    per_row = -(-x.shape[-1] // longest)
    return -(-x.shape[-1] // per_row), per_row


def _rows(x: Array) -> int:
    return int(np.prod(x.shape[:-1], dtype=np.int64))


@ti.func
def _row(x: ti.template(), row: int):
    """The index of the first element of a row."""
    index = ti.Vector.zero(int, ti.static(len(x.shape)))
    rest = row
    for k in ti.static(range(len(x.shape) - 2, -1, -1)):
        index[k] = rest % x.shape[k]
        rest //= x.shape[k]
    return index


@ti.func
def _at(first, column: int):
    """The index of an element of the row that begins at `first`."""
    index = first
    index[ti.static(first.n - 1)] = column
    return index


# --- Squared and absolute difference -----------------------------------------------------------------------------


@ti.func
def _distance(d, kind: ti.template(), components: ti.template()):
    """d^2 or |d|, summed over the components."""
    sizes = ti.abs(d)
    if ti.static(kind == SQUARE):
        sizes = d * d
    total = 0.0
    if ti.static(components == 1):
        total = sizes
    else:
        total = sizes.sum()
    return total


@ti.func
def _distance_adjoint(d, kind: ti.template(), components: ti.template(), distance_grad):
    """Gradient of d, zero where the distance is not finite."""
    d_grad = distance_grad * ti.math.sign(d)
    if ti.static(kind == SQUARE):
        d_grad = 2.0 * distance_grad * d
    return ti.select(is_finite_number(_distance(d, kind, components)), d_grad, ti.zero(d))


@ti.func
def _minus(x, target, lacks_one: ti.template()):
    """x - target, where the target lacks the last component of x without that."""
    d = ti.zero(target)
    if ti.static(lacks_one):
        for c in ti.static(range(target.n)):
            d[c] = x[c] - target[c]
    else:
        d = x - target
    return d


@ti.func
def _plus(x, d, lacks_one: ti.template()):
    """x + d, likewise."""
    total = x
    if ti.static(lacks_one):
        for c in ti.static(range(d.n)):
            total[c] += d[c]
    else:
        total = x + d
    return total


@kernel
def _difference_kernel(
    image: Anything, target: Anything, mask: Anything, terms: Floats, partials: Strips, length: int, loss: Scalar,
    steps: int, pad: int, threads: int, n: int, target_rows: int, mask_rows: int, columns: int, chunk: int, per_row: int,
    scale: float, kind: ti.template(), components: ti.template(), lacks_one: ti.template(), masked: ti.template(),
):  # fmt: skip
    for q in range(steps):
        k = work_item(q, pad, threads, n)
        if k >= 0:
            row, begin = k // per_row, k % per_row * chunk
            i, j, m = _row(image, row), _row(target, row % target_rows), _row(mask, row % mask_rows)
            total = 0.0
            for column in range(begin, ti.min(begin + chunk, columns)):
                distance = _distance(_minus(image[_at(i, column)], target[_at(j, column)], lacks_one), kind, components)
                if ti.static(masked):
                    share = mask[_at(m, column)]
                    distance = ti.select(share == 0.0, 0.0, share * distance)
                total += distance
            terms[k] = total
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _difference(image: Array, data: tuple[Array, ...], kind: int, scale: float, loss: Array) -> None:
    target, mask = data[0], data[-1]
    chunk, per_row = _chunks(image)
    n = _rows(image) * per_row
    how = kind, _components(target), int(target.element_shape != image.element_shape), len(data) - 1
    _difference_kernel(
        image, target, mask, *space(float, 1, n), loss,
        *split(n), n, _rows(target), _rows(mask), image.shape[-1], chunk, per_row, scale, *how,
    )  # fmt: skip


@kernel
def _difference_adjoint_kernel(
    image: Anything, target: Anything, mask: Anything, image_grad: Anything, loss_grad: Scalar,
    steps: int, pad: int, threads: int, n: int, target_rows: int, mask_rows: int, columns: int, chunk: int, per_row: int,
    scale: float, kind: ti.template(), components: ti.template(), lacks_one: ti.template(), masked: ti.template(),
):  # fmt: skip
    for q in range(steps):
        k = work_item(q, pad, threads, n)
        if k >= 0:
            row, begin = k // per_row, k % per_row * chunk
            i, j, m = _row(image, row), _row(target, row % target_rows), _row(mask, row % mask_rows)
            for column in range(begin, ti.min(begin + chunk, columns)):
                here, distance_grad = _at(i, column), scale * loss_grad[None]
                if ti.static(masked):
                    distance_grad *= mask[_at(m, column)]
                if distance_grad != 0.0:
                    d_grad = _distance_adjoint(_minus(image[here], target[_at(j, column)], lacks_one), kind, components, distance_grad)
                    image_grad[here] = _plus(image_grad[here], d_grad, lacks_one)


@_difference.adjoint
def _difference_adjoint(image: Array, data: tuple[Array, ...], kind: int, scale: float, loss: Array) -> None:
    if image.grad is None:
        return
    target, mask = data[0], data[-1]
    chunk, per_row = _chunks(image)
    n = _rows(image) * per_row
    how = kind, _components(target), int(target.element_shape != image.element_shape), len(data) - 1
    _difference_adjoint_kernel(
        image, target, mask, image.grad, loss.grad,
        *split(n), n, _rows(target), _rows(mask), image.shape[-1], chunk, per_row, scale, *how,
    )  # fmt: skip


# --- Silhouettes -------------------------------------------------------------------------------------------------


@ti.func
def _overlap(a, t):
    """(intersection, union) of a pixel, zero where that is not finite."""
    both = vec2(a * t, a + t - a * t)
    if not is_finite(both):
        both = vec2(0.0)
    return both


@ti.func
def _overlap_adjoint(a, t, both_grad):
    """Gradient of a."""
    a_grad = 0.0
    if is_finite(vec2(a * t, a + t - a * t)):
        a_grad = both_grad.x * t + both_grad.y * (1.0 - t)
    return a_grad


@ti.func
def _one_minus_iou(sums):
    return 1.0 - sums.x / (sums.y + EPS)


@ti.func
def _one_minus_iou_adjoint(sums, value_grad):
    """Gradient of (intersection, union)."""
    return value_grad * vec2(-1.0, sums.x / (sums.y + EPS)) / (sums.y + EPS)


@kernel
def _silhouette_iou_kernel(
    image: Image, target: Image, terms: Pairs, partials: Strips, length: int, sums: Pairs, loss: Scalar,
    steps: int, pad: int, threads: int, n: int, columns: int, chunk: int, per_row: int, scale: float,
):  # fmt: skip
    for q in range(steps):
        k = work_item(q, pad, threads, n)
        if k >= 0:
            row, begin = k // per_row, k % per_row * chunk
            b, i = row // image.shape[1], row % image.shape[1]
            c, total = b % target.shape[0], vec2(0.0)
            for j in range(begin, ti.min(begin + chunk, columns)):
                total += _overlap(image[b, i, j].w, target[c, i, j].w)
            terms[k] = total
    sum_strips(terms, n // image.shape[0], partials, length)
    for b in range(sums.shape[0]):
        sums[b] = row_total(partials, b)
    ti.loop_config(serialize=True)
    for b in range(sums.shape[0]):
        loss[None] = loss[None] + scale * _one_minus_iou(sums[b])


@operator
def _silhouette_iou(image: Array, data: tuple[Array], sums: Array, scale: float, loss: Array) -> None:
    (target,) = data
    chunk, per_row = _chunks(image)
    views, height, columns = image.shape
    n = views * height * per_row
    _silhouette_iou_kernel(
        image, target, *space(vec2, views, n // views), sums, loss, *split(n), n, columns, chunk, per_row, scale
    )  # fmt: skip


@kernel
def _silhouette_iou_adjoint_kernel(
    image: Image, target: Image, sums: Pairs, image_grad: Image, loss_grad: Scalar,
    steps: int, pad: int, threads: int, n: int, columns: int, chunk: int, per_row: int, scale: float,
):  # fmt: skip
    for q in range(steps):
        k = work_item(q, pad, threads, n)
        if k >= 0:
            row, begin = k // per_row, k % per_row * chunk
            b, i = row // image.shape[1], row % image.shape[1]
            c, sums_grad = b % target.shape[0], _one_minus_iou_adjoint(sums[b], scale * loss_grad[None])
            for j in range(begin, ti.min(begin + chunk, columns)):
                a_grad = _overlap_adjoint(image[b, i, j].w, target[c, i, j].w, sums_grad)
                image_grad[b, i, j].w = image_grad[b, i, j].w + a_grad


@_silhouette_iou.adjoint
def _silhouette_iou_adjoint(image: Array, data: tuple[Array], sums: Array, scale: float, loss: Array) -> None:
    if image.grad is None:
        return
    (target,) = data
    chunk, per_row = _chunks(image)
    n = _rows(image) * per_row
    _silhouette_iou_adjoint_kernel(image, target, sums, image.grad, loss.grad, *split(n), n, image.shape[-1], chunk, per_row, scale)
