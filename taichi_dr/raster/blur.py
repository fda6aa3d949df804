"""Pictures filtered by a small Gaussian, along rows and then along columns."""

import math
from typing import Any

import numpy as np
import taichi as ti
from taichi.lang import impl

from ..arrays import ELEMENTS, Array, Floats, Picture, array, empty, expect, split, work_item
from ..launch import kernel
from ..tape import operator

REACH = 2.5  # standard deviations from the middle up to which pixels count


def blur(picture: Array, width: float) -> Array:
    """The picture filtered by a Gaussian; beyond its borders there is zero.

        out[i, j] = sum_{k, m} g(k) g(m) picture[i + k, j + m],   g(k) ~ exp(-k^2 / (2 width^2)), sum g = 1, |k| <= 2.5 width

    Args:
        picture: (B, H, W) of numbers or vectors.
        width: standard deviation, in pixels; 0 gives the picture as it came.

    Returns:
        (B, H, W), elements as of `picture`.

    Differentiable in `picture`.

    Raises:
        ValueError: elements that are no floats or vectors of them.
    """
    expect("picture", picture, (1, 2, 3, 4), 3, "(B, H, W) of numbers or vectors")
    reach = blur_reach(width)
    if reach == 0:
        return picture
    out = empty(ELEMENTS[picture.element_shape[0] if picture.element_shape else 1], picture.shape, needs_grad=True)
    _blur(picture, _weights(width), reach, out)
    return out


def blur_reach(width: float) -> int:
    """How many pixels away from its own a pixel has a say."""
    return math.floor(REACH * width)


_known: dict[float, tuple[Any, Array]] = {}


def _weights(width: float) -> Array:
    """g(0), g(1), ...; made once for each width."""
    owner, weights = _known.get(width, (None, None))
    if owner is not impl.get_runtime() or weights is None:
        values = np.exp(-0.5 * (np.arange(blur_reach(width) + 1) / width) ** 2)
        weights = array(values / (2 * values.sum() - values[0]), vectors=False)
        weights.grad = None
        _known[width] = impl.get_runtime(), weights
    return weights


@kernel
def _lines_kernel(
    picture: Picture, weights: Floats, reach: int, down: ti.template(), added: ti.template(), out: Picture, steps: int, pad: int, threads: int
):
    """Along rows, or down columns; into `out`, or added to it."""
    for q in range(steps):
        k = work_item(q, pad, threads, out.shape[0] * out.shape[1])
        if k >= 0:
            b, i = k // out.shape[1], k % out.shape[1]
            for j in range(out.shape[2]):
                total = weights[0] * picture[b, i, j]
                for m in range(1, reach + 1):
                    i_step, j_step = m * ti.static(down), m * ti.static(1 - down)
                    if i >= i_step and j >= j_step:
                        total += weights[m] * picture[b, i - i_step, j - j_step]
                    if i + i_step < out.shape[1] and j + j_step < out.shape[2]:
                        total += weights[m] * picture[b, i + i_step, j + j_step]
                if ti.static(added):
                    total += out[b, i, j]
                out[b, i, j] = total


def _passes(picture: Array, weights: Array, reach: int, added: bool, out: Array) -> None:
    between, rows = empty(ELEMENTS[picture.element_shape[0] if picture.element_shape else 1], picture.shape), split(out.shape[0] * out.shape[1])
    _lines_kernel(picture, weights, reach, 0, False, between, *rows)
    _lines_kernel(between, weights, reach, 1, added, out, *rows)


@operator
def _blur(picture: Array, weights: Array, reach: int, out: Array) -> None:
    _passes(picture, weights, reach, False, out)


@_blur.adjoint
def _blur_adjoint(picture: Array, weights: Array, reach: int, out: Array) -> None:
    """The filter is its own adjoint."""
    if picture.grad is not None:
        _passes(out.grad, weights, reach, True, picture.grad)
