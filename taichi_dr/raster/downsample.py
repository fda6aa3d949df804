"""Supersampling's last step: the mean of each n x n block of pixels."""

import taichi as ti

from ..arrays import Array, Image, empty, expect, vec4
from ..tape import operator


def downsample(image: Array, n: int) -> Array:
    """Average n x n blocks of pixels into one (box filter).

        out[i, j] = 1 / n^2 sum_{k, l < n} image[n i + k, n j + l]

    Args:
        image: (B, n H, n W) of vec4.
        n: pixels on a side of a block, at least 1.

    Returns:
        (B, H, W) of vec4.

    Differentiable in `image`.

    Raises:
        ValueError: sides that n does not divide.
    """
    expect("image", image, 4, 3, "(B, H, W) of vec4")
    batch, height, width = image.shape
    if n < 1 or height % n or width % n:
        raise ValueError(f"n: expected a whole number that divides {height} and {width}, got {n!r}")
    out = empty(vec4, (batch, height // n, width // n), needs_grad=True)
    _downsample(image, n, out)
    return out


@ti.kernel
def _downsample_kernel(image: Image, n: int, out: Image):
    for b, i, j in ti.ndrange(out.shape[0], out.shape[1], out.shape[2]):
        total = vec4(0.0)
        for k in range(n):
            for m in range(n):
                total += image[b, n * i + k, n * j + m]
        out[b, i, j] = total / (n * n)


@operator
def _downsample(image: Array, n: int, out: Array) -> None:
    _downsample_kernel(image, n, out)


@ti.kernel
def _downsample_adjoint_kernel(image_grad: Image, n: int, out_grad: Image):
    for b, i, j in ti.ndrange(image_grad.shape[0], image_grad.shape[1], image_grad.shape[2]):
        image_grad[b, i, j] += out_grad[b, i // n, j // n] / (n * n)


@_downsample.adjoint
def _downsample_adjoint(image: Array, n: int, out: Array) -> None:
    if image.grad is not None:
        _downsample_adjoint_kernel(image.grad, n, out.grad)
