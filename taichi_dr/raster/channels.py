"""Single components of vectors, and attributes of many channels, (B, V, C), four at a time: what the other operators then see."""

import taichi as ti

from ..arrays import Array, Points, empty, vec4
from ..launch import kernel
from ..tape import operator

Numbers = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (B, V)
Channels = ti.types.ndarray(dtype=float, ndim=3, needs_grad=False)  # (B, V, C)
ChannelPicture = ti.types.ndarray(dtype=float, ndim=4, needs_grad=False)  # (B, H, W, C)
Fours = ti.types.ndarray(dtype=vec4, ndim=2, needs_grad=False)  # (B, V)
FourPicture = ti.types.ndarray(dtype=vec4, ndim=3, needs_grad=False)  # (B, H, W)


def component(values: Array, axis: int) -> Array:
    """Component `axis` of (B, V) of vec3, as (B, V) of numbers. Differentiable in `values`."""
    out = empty(float, values.shape, needs_grad=True)
    _component(values, axis, out)
    return out


@kernel
def _component_kernel(values: Points, axis: ti.template(), out: Numbers):
    for b, v in ti.ndrange(out.shape[0], out.shape[1]):
        out[b, v] = values[b, v][axis]


@operator
def _component(values: Array, axis: int, out: Array) -> None:
    _component_kernel(values, axis, out)


@kernel
def _component_adjoint_kernel(values_grad: Points, axis: ti.template(), out_grad: Numbers):
    for b, v in ti.ndrange(out_grad.shape[0], out_grad.shape[1]):
        values_grad[b, v][axis] += out_grad[b, v]


@_component.adjoint
def _component_adjoint(values: Array, axis: int, out: Array) -> None:
    if values.grad is not None:
        _component_adjoint_kernel(values.grad, axis, out.grad)


def take_four(values: Array, first: int) -> Array:
    """Channels first ... first + 3 of (B, V, C), as (B, V) of vec4; zero beyond the last. Differentiable in `values`."""
    out = empty(vec4, values.shape[:2], needs_grad=True)
    _take_four(values, first, out)
    return out


@kernel
def _take_four_kernel(values: Channels, first: int, out: Fours):
    for b, v in ti.ndrange(out.shape[0], out.shape[1]):
        for c in ti.static(range(4)):
            out[b, v][c] = ti.select(first + c < values.shape[2], values[b, v, ti.min(first + c, values.shape[2] - 1)], 0.0)


@operator
def _take_four(values: Array, first: int, out: Array) -> None:
    _take_four_kernel(values, first, out)


@kernel
def _take_four_adjoint_kernel(values_grad: Channels, first: int, out_grad: Fours):
    for b, v in ti.ndrange(out_grad.shape[0], out_grad.shape[1]):
        for c in range(ti.min(4, values_grad.shape[2] - first)):
            values_grad[b, v, first + c] = values_grad[b, v, first + c] + out_grad[b, v][c]


@_take_four.adjoint
def _take_four_adjoint(values: Array, first: int, out: Array) -> None:
    if values.grad is not None:
        _take_four_adjoint_kernel(values.grad, first, out.grad)


def split_fours(picture: Array) -> list[Array]:
    """Pictures (B, H, W) of vec4 that `join_fours` makes (B, H, W, C) of; zero beyond the last channel. Differentiable in `picture`."""
    parts = []
    for first in range(0, picture.shape[3], 4):
        parts.append(empty(vec4, picture.shape[:3], needs_grad=True))
        _split_four(picture, first, parts[-1])
    return parts


@kernel
def _split_four_kernel(picture: ChannelPicture, first: int, out: FourPicture):
    for b, i, j in ti.ndrange(out.shape[0], out.shape[1], out.shape[2]):
        for c in ti.static(range(4)):
            out[b, i, j][c] = ti.select(first + c < picture.shape[3], picture[b, i, j, ti.min(first + c, picture.shape[3] - 1)], 0.0)


@operator
def _split_four(picture: Array, first: int, out: Array) -> None:
    _split_four_kernel(picture, first, out)


@kernel
def _split_four_adjoint_kernel(picture_grad: ChannelPicture, first: int, out_grad: FourPicture):
    for b, i, j in ti.ndrange(out_grad.shape[0], out_grad.shape[1], out_grad.shape[2]):
        for c in range(ti.min(4, picture_grad.shape[3] - first)):
            picture_grad[b, i, j, first + c] = picture_grad[b, i, j, first + c] + out_grad[b, i, j][c]


@_split_four.adjoint
def _split_four_adjoint(picture: Array, first: int, out: Array) -> None:
    if picture.grad is not None:
        _split_four_adjoint_kernel(picture.grad, first, out.grad)


def join_fours(pictures: list[Array], channels: int) -> Array:
    """Pictures (B, H, W) of vec4 side by side, as (B, H, W, C). Differentiable in all of them."""
    out = empty(float, (*pictures[0].shape, channels), needs_grad=True)
    for k, picture in enumerate(pictures):
        _put_four(picture, 4 * k, out)
    return out


@kernel
def _put_four_kernel(picture: FourPicture, first: int, out: ChannelPicture):
    for b, i, j in ti.ndrange(picture.shape[0], picture.shape[1], picture.shape[2]):
        for c in range(ti.min(4, out.shape[3] - first)):
            out[b, i, j, first + c] = picture[b, i, j][c]


@operator
def _put_four(picture: Array, first: int, out: Array) -> None:
    _put_four_kernel(picture, first, out)


@kernel
def _put_four_adjoint_kernel(picture_grad: FourPicture, first: int, out_grad: ChannelPicture):
    for b, i, j in ti.ndrange(picture_grad.shape[0], picture_grad.shape[1], picture_grad.shape[2]):
        for c in ti.static(range(4)):
            if first + c < out_grad.shape[3]:
                picture_grad[b, i, j][c] += out_grad[b, i, j, ti.min(first + c, out_grad.shape[3] - 1)]


@_put_four.adjoint
def _put_four_adjoint(picture: Array, first: int, out: Array) -> None:
    _put_four_adjoint_kernel(picture.grad, first, out.grad)
