"""Optimizers: move arrays in place against their gradients."""

import math
from collections.abc import Sequence
from typing import Any

import taichi as ti

from .arrays import Array, Floats, Scalar, empty, is_finite
from .launch import kernel
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .sums import strips

__all__ = ["LBFGS", "SGD", "Adam", "AdamUniform"]

Anything = ti.types.ndarray(needs_grad=False)  # any number of axes, numbers or vectors


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

        v <- momentum v + g,   x <- x - lr v      for the gradient g of x

    Args:
        params: arrays with gradients, or groups of them: [{"params": [...], "lr": ..., "momentum": ...}, ...].
        lr: step length, units of the array squared per unit of the loss. Positive.
        momentum: in [0, 1).

    An element whose gradient is not finite keeps its value and its v in that step; of a vector, all components.

    Raises:
        ValueError: no arrays, one without a gradient, the same one twice, a setting out of range or of an unknown name.
    """

    moments = ("velocity",)

    def __init__(self, params: Sequence[Any], lr: float = 1e-2, momentum: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def _move(self, x: Array, kept: dict[str, Array], group: dict[str, Any]) -> None:
        _sgd_kernel(x, x.grad, kept["velocity"], group["lr"], group["momentum"], not x.element_shape)


class Adam(Optimizer):
    """Adam: steps of about lr in every component, whatever the scale of its gradient.

        m <- m + (1 - beta1) (g - m),   v <- v + (1 - beta2) (g^2 - v)
        x <- x - lr m' / (sqrt(v') + eps),   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)      in step t = 1, 2, ...

    Args:
        params: arrays with gradients, or groups of them: [{"params": [...], "lr": ..., "betas": ..., "eps": ...}, ...].
        lr: step length, units of the array. Positive.
        betas: (beta1, beta2), how much of m and v is kept in a step, each in [0, 1).
        eps: added to sqrt(v'), units of the gradient. Positive.

    An element whose gradient, squared, is not finite keeps its value, m and v in that step; of a vector, all
    components. t counts it all the same.

    Raises:
        ValueError: no arrays, one without a gradient, the same one twice, a setting out of range or of an unknown name.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, algorithm 1.
    """

    moments = ("mean", "square")

    def __init__(self, params: Sequence[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def _move(self, x: Array, kept: dict[str, Array], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        # 1 - beta in double precision: in single, 1 - 0.999 is off by 5e-5.
        length, square_scale = group["lr"] / (1 - beta1**self.steps), 1 / (1 - beta2**self.steps)
        _adam_kernel(
            x, x.grad, kept["mean"], kept["square"], length, square_scale, 1 - beta1, 1 - beta2, group["eps"], not x.element_shape
        )  # fmt: skip


class AdamUniform(Optimizer):
    """Adam with one step length for all components of an array, for the coordinates of `LargeSteps`.

        m <- m + (1 - beta1) (g - m),   v <- v + (1 - beta2) (g^2 - v)
        x <- x - lr m' / (sqrt(max v') + eps),   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)      in step t = 1, 2, ...

    Adam divides every component by its own v', which makes steps of one length wherever there is any gradient, and so undoes
    the smoothness of a gradient. Here the largest v' of the array divides all of them.

    Args:
        params: arrays with gradients, or groups of them: [{"params": [...], "lr": ..., "betas": ..., "eps": ...}, ...].
        lr: length of the longest step, units of the array. Positive.
        betas: (beta1, beta2), how much of m and v is kept in a step, each in [0, 1).
        eps: added to the root, units of the gradient. Positive.

    An element whose gradient, squared, is not finite keeps its value, m and v in that step; of a vector, all
    components. t counts it all the same.

    Raises:
        ValueError: no arrays, one without a gradient, the same one twice, a setting out of range or of an unknown name.

    Source: Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG (SIGGRAPH Asia) 2021, section 3.3.
    """

    moments = ("mean", "square")

    def __init__(self, params: Sequence[Any], lr: float = 1e-2, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    def _move(self, x: Array, kept: dict[str, Array], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        length, square_scale = group["lr"] / (1 - beta1**self.steps), 1 / (1 - beta2**self.steps)
        n = math.prod(x.shape)
        strip, count = strips(n)
        _adam_uniform_kernel(
            x, x.grad, kept["mean"], kept["square"], empty(float, count), empty(float, ()), n, strip,
            length, square_scale, 1 - beta1, 1 - beta2, group["eps"], not x.element_shape,
        )  # fmt: skip


# --- Kernels -----------------------------------------------------------------------------------------------------


@ti.func
def _all_finite(g, is_number: ti.template()):
    finite = False
    if ti.static(is_number):
        finite = is_finite(ti.Vector([g]))
    else:
        finite = is_finite(g)
    return finite


@kernel
def _sgd_kernel(x: Anything, x_grad: Anything, velocity: Anything, lr: float, momentum: float, is_number: ti.template()):
    for k in ti.grouped(x):
        g = x_grad[k]
        if _all_finite(g, is_number):
            v = momentum * velocity[k] + g
            velocity[k] = v
            x[k] = x[k] - lr * v


@kernel
def _adam_kernel(
    x: Anything, x_grad: Anything, mean: Anything, square: Anything,
    length: float, square_scale: float, rate1: float, rate2: float, eps: float, is_number: ti.template(),
):  # fmt: skip
    for k in ti.grouped(x):
        g = x_grad[k]
        if _all_finite(g * g, is_number):
            m = mean[k] + rate1 * (g - mean[k])
            v = square[k] + rate2 * (g * g - square[k])
            mean[k] = m
            square[k] = v
            x[k] = x[k] - length * m / (ti.sqrt(v * square_scale) + eps)


@ti.func
def _element(x: ti.template(), k: int):
    """Element k, counted through all axes."""
    if ti.static(len(x.shape) == 0):
        return x[None]
    else:
        index = ti.Vector.zero(int, ti.static(len(x.shape)))
        rest = k
        for axis in ti.static(range(len(x.shape) - 1, -1, -1)):
            index[axis] = rest % x.shape[axis]
            rest //= x.shape[axis]
        return x[index]


@ti.func
def _largest(v, is_number: ti.template()):
    if ti.static(is_number):
        return v
    else:
        return v.max()


@kernel
def _adam_uniform_kernel(
    x: Anything, x_grad: Anything, mean: Anything, square: Anything, peaks: Floats, peak: Scalar, n: int, strip: int,
    length: float, square_scale: float, rate1: float, rate2: float, eps: float, is_number: ti.template(),
):  # fmt: skip
    for k in ti.grouped(x):
        g = x_grad[k]
        if _all_finite(g * g, is_number):
            mean[k] = mean[k] + rate1 * (g - mean[k])
            square[k] = square[k] + rate2 * (g * g - square[k])
    for q in range(peaks.shape[0]):
        largest = 0.0
        for k in range(q * strip, ti.min((q + 1) * strip, n)):
            largest = ti.max(largest, _largest(_element(square, k), is_number))
        peaks[q] = largest
    ti.loop_config(serialize=True)
    for _ in range(1):
        largest = 0.0
        for q in range(peaks.shape[0]):
            largest = ti.max(largest, peaks[q])
        peak[None] = largest
    for k in ti.grouped(x):
        g = x_grad[k]
        if _all_finite(g * g, is_number):
            x[k] = x[k] - length * mean[k] / (ti.sqrt(peak[None] * square_scale) + eps)  # Adam has square[k] where the peak is
