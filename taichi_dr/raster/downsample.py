"""Supersampling's last step: the mean of each n x n block of pixels."""

import taichi as ti

from ..arrays import ELEMENTS, Array, Picture, empty, expect
from ..launch import kernel
from ..tape import operator


def downsample(image: Array, n: int) -> Array:
    """Average n x n blocks of pixels into one (box filter).

        out[i, j] = 1 / n^2 sum_{k, l < n} image[n i + k, n j + l]

    Args:
        image: (B, n H, n W) of numbers or vectors.
        n: pixels on a side of a block, at least 1.

    Returns:
        (B, H, W), elements as of `image`.

    Differentiable in `image`.

    Raises:
        ValueError: sides that n does not divide.
    """
    expect("image", image, (1, 2, 3, 4), 3, "(B, H, W) of numbers or vectors")
    batch, height, width = image.shape
    if n < 1 or height % n or width % n:
        raise ValueError(f"n: expected a whole number that divides {height} and {width}, got {n!r}")
    out = empty(ELEMENTS[image.element_shape[0] if image.element_shape else 1], (batch, height // n, width // n), needs_grad=True)
    _downsample(image, n, out)
    return out


@kernel
def _downsample_kernel(image: Picture, n: int, out: Picture):
    for b, i, j in ti.ndrange(out.shape[0], out.shape[1], out.shape[2]):
        total = ti.zero(out[b, i, j])
        for k in range(n):
            for m in range(n):
                total += image[b, n * i + k, n * j + m]
        out[b, i, j] = total / (n * n)


@operator
def _downsample(image: Array, n: int, out: Array) -> None:
    _downsample_kernel(image, n, out)


@kernel
def _downsample_adjoint_kernel(image_grad: Picture, n: int, out_grad: Picture):
    for b, i, j in ti.ndrange(image_grad.shape[0], image_grad.shape[1], image_grad.shape[2]):
        image_grad[b, i, j] += out_grad[b, i // n, j // n] / (n * n)


@_downsample.adjoint
def _downsample_adjoint(image: Array, n: int, out: Array) -> None:
    if image.grad is not None:
        _downsample_adjoint_kernel(image.grad, n, out.grad)
