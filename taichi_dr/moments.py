"""Moments of depth, which can be filtered where depth cannot, and what they say of how much light arrives behind them.

Of the depths z in the neighborhood of a place the mean and the variance bound the share that is not nearer than d (Chebyshev):

    m = E[z],  s^2 = E[z^2] - m^2,   visibility <= s^2 / (s^2 + (d - m)^2)   where d > m, else 1

which is exact for a flat occluder in front of a flat receiver.

Source: Donnelly and Lauritzen, "Variance Shadow Maps", I3D 2006; differentiable: Worchel and Alexa, "Differentiable Shadow Mapping for
Efficient Inverse Graphics", CVPR 2023.
"""

from typing import NamedTuple

import taichi as ti

from .arrays import Array, Points, empty, expect, grad_of, vec3
from .launch import kernel
from .light_places import Depths
from .tape import operator


class Receiver(NamedTuple):
    """How depth is compared. Depths are as of `depth_moments`."""

    far: float  # of what a picture shows where it shows nothing
    texel: tuple[float, float]  # of the pictures, at depth d: texel[0] + texel[1] d
    bias: float  # texels that a point is taken nearer to the light
    least: float  # texels of the least standard deviation
    cut: float  # visibilities up to here are 0, the rest is stretched


def depth_moments(depths: Array, middle: float, radius: float) -> Array:
    """Moments of depths.

        (z, z^2, 1),   z = (depth - middle) / radius

    Args:
        depths: (1, N).
        middle, radius: numbers.

    Returns:
        (1, N) of vec3.

    Differentiable in `depths`.
    """
    expect("depths", depths, 1, 2, "(1, N) of numbers")
    out = empty(vec3, depths.shape, needs_grad=True)
    _moments(depths, float(middle), float(radius), out)
    return out


@kernel
def _moments_kernel(depths: Depths, middle: float, radius: float, out: Points):
    for n in range(out.shape[1]):
        z = (depths[0, n] - middle) / radius
        out[0, n] = vec3(z, z * z, 1.0)


@operator
def _moments(depths: Array, middle: float, radius: float, out: Array) -> None:
    _moments_kernel(depths, middle, radius, out)


@kernel
def _moments_adjoint_kernel(depths: Depths, middle: float, radius: float, depths_grad: Depths, out_grad: Points):
    for n in range(out_grad.shape[1]):
        grad = out_grad[0, n]
        if grad.x != 0.0 or grad.y != 0.0:  # padding may have a depth that is not finite
            z = (depths[0, n] - middle) / radius
            depths_grad[0, n] += (grad.x + 2.0 * z * grad.y) / radius


@_moments.adjoint
def _moments_adjoint(depths: Array, middle: float, radius: float, out: Array) -> None:
    if depths.grad is not None:
        _moments_adjoint_kernel(depths, middle, radius, depths.grad, out.grad)


# --- Visibility -----------------------------------------------------------------------------------------------------


def set_visibility(moments: Array, depths: Array, receiver: Receiver, visibility: Array, row: int) -> None:
    """How much of a light arrives at points behind moments of depth, into a row of `visibility`.

        m_1 = E[z] + (1 - c) far,  m_2 = E[z^2] + (1 - c) far^2,   e = d - bias t - m_1,   s^2 = max(m_2 - m_1^2, (least t)^2)
        v = (max(p, cut) - cut) / (1 - cut),   p = s^2 / (s^2 + e^2) where e > 0, else 1

    with c the share of the neighborhood that shows anything, and t = texel[0] + texel[1] d.

    Args:
        moments: (1, N) of vec3: E[z], E[z^2] and c.
        depths: d of each point, (1, N).
        receiver: far, texel, bias, least and cut.
        visibility: (L, N), which is written to.
        row: of it.

    Differentiable in `moments` and `depths`. Where a point is lit in full, or not at all for the cut, there is no gradient.
    """
    expect("moments", moments, 3, 2, "(1, N) of vec3")
    expect("depths", depths, 1, 2, "(1, N) of numbers")
    _visibility(moments, depths, receiver, row, visibility)


@ti.func
def _compared(s, d, far: float, t0: float, t1: float, bias: float, least: float):
    """e, m_1, s^2 as it is and as it is at least, and the least standard deviation."""
    mean, square = s.x + (1.0 - s.z) * far, s.y + (1.0 - s.z) * far * far
    t = t0 + t1 * d
    return d - bias * t - mean, mean, square - mean * mean, ti.max(square - mean * mean, least * least * t * t), least * t


@kernel
def _visibility_kernel(
    moments: Points, depths: Depths, far: float, t0: float, t1: float, bias: float, least: float, cut: float, row: int, visibility: Depths
):  # fmt: skip
    for n in range(depths.shape[1]):
        e, _mean, _found, variance, _least = _compared(moments[0, n], depths[0, n], far, t0, t1, bias, least)
        visible = 1.0
        if e > 0.0:
            visible = ti.max(variance / (variance + e * e) - cut, 0.0) / (1.0 - cut)
        visibility[row, n] = visible


@operator
def _visibility(moments: Array, depths: Array, receiver: Receiver, row: int, visibility: Array) -> None:
    r = receiver
    _visibility_kernel(moments, depths, r.far, *r.texel, r.bias, r.least, r.cut, row, visibility)


@kernel
def _visibility_adjoint_kernel(
    moments: Points, depths: Depths, far: float, t0: float, t1: float, bias: float, least: float, cut: float, row: int,
    moments_grad: Points, depths_grad: Depths, visibility_grad: Depths,
):  # fmt: skip
    for n in range(depths.shape[1]):
        grad = visibility_grad[row, n]
        if grad != 0.0:
            e, mean, found, variance, least_deviation = _compared(moments[0, n], depths[0, n], far, t0, t1, bias, least)
            inverse = 1.0 / (variance + e * e)
            if e > 0.0 and variance * inverse > cut:
                p_grad = grad / (1.0 - cut) * inverse * inverse
                e_grad, variance_grad = -2.0 * p_grad * e * variance, p_grad * e * e
                mean_grad, square_grad, d_grad = -e_grad, 0.0, e_grad * (1.0 - bias * t1)
                if found >= variance:
                    square_grad = variance_grad
                    mean_grad -= 2.0 * mean * variance_grad
                else:
                    d_grad += 2.0 * variance_grad * least_deviation * least * t1
                moments_grad[0, n] += vec3(mean_grad, square_grad, -far * (mean_grad + far * square_grad))
                depths_grad[0, n] += d_grad


@_visibility.adjoint
def _visibility_adjoint(moments: Array, depths: Array, receiver: Receiver, row: int, visibility: Array) -> None:
    r = receiver
    grads = grad_of(moments), grad_of(depths)
    _visibility_adjoint_kernel(moments, depths, r.far, *r.texel, r.bias, r.least, r.cut, row, *grads, visibility.grad)


@kernel
def _light_row_kernel(row: int, visibility: Depths):
    for n in range(visibility.shape[1]):
        visibility[row, n] = 1.0


@operator
def light_row(row: int, visibility: Array) -> None:
    """Visible from everywhere: of a light that casts no shadow."""
    _light_row_kernel(row, visibility)


@light_row.adjoint
def _light_row_adjoint(row: int, visibility: Array) -> None:
    pass
