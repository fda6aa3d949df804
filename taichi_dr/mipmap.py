"""Mip maps: a texture at half the size, at a quarter, and so on, for pixels that cover many texels.

Level l + 1 is level l averaged to half its sides, rounded down; a texel is the mean over the area it covers.

    M[i, j] = sum_{k, m} o(i, k) o(j, m) T[k, m],   o(i, k): share of texel i that texel k is, along one side

Source: Williams, Pyramidal Parametrics, SIGGRAPH 1983.
"""

from typing import NamedTuple

import taichi as ti

from . import runtime
from .arrays import Array, Ints, Points, empty, expect, split, vec3, work_item, write
from .launch import kernel
from .tape import operator

MOST_HALVINGS = 5  # that a CPU thread does to its rows of the texture while they are in its cache
SMALL = 4096  # texels of a level under which one thread is done before others would have started

Textures = ti.types.ndarray(dtype=vec3, ndim=3, needs_grad=False)  # (R, H, W)


class Pyramid(NamedTuple):
    """A texture and its mip levels."""

    texture: Array  # (R, H, W) of vec3: level 0
    mips: Array  # (R, M) of vec3: levels 1, 2, ... one after another, row by row
    table: Array  # (3 L,): height, width and first texel of each level; the first texel counts from the start of `mips`
    sizes: list[tuple[int, int, int]]  # the same

    @property
    def halvings(self) -> int:
        """How many levels in a row have half the sides of the one before, exactly."""
        even = [fine[:2] == (2 * coarse[0], 2 * coarse[1]) for fine, coarse in zip(self.sizes, self.sizes[1:], strict=False)]
        return (even + [False]).index(False)


def pyramid(texture: Array) -> Pyramid:
    """The mip levels of a texture, down to one texel.

    Args:
        texture: (R, H, W) of vec3; one for all views, or one per view.

    Differentiable in `texture`.

    Raises:
        ValueError: a wrong shape.
    """
    expect("texture", texture, 3, 3, "(R, H, W) of vec3")
    height, width = texture.shape[1:]
    sizes, first = [(height, width, 0)], 0
    while (height, width) != (1, 1):
        height, width = max(1, height // 2), max(1, width // 2)
        sizes.append((height, width, first))
        first += height * width
    mips = empty(vec3, (texture.shape[0], max(1, first)), needs_grad=True)
    table = empty(int, 3 * len(sizes))
    write(table, [n for size in sizes for n in size])
    built = Pyramid(texture, mips, table, sizes)
    _pyramid(texture, mips, built)
    return built


def single_level(texture: Array) -> Pyramid:
    """A texture, (R, H, W) of vec3, as its own and only level: sampled between its texels, without mip maps."""
    expect("texture", texture, 3, 3, "(R, H, W) of vec3")
    size = (*texture.shape[1:], 0)
    table = empty(int, 3)
    write(table, size)
    return Pyramid(texture, empty(vec3, (texture.shape[0], 1), needs_grad=True), table, [size])


# --- Levels from finer levels -----------------------------------------------------------------------------------


@ti.func
def _overlap(i: int, k: int, source: int, target: int):
    """Share that texel k of `source` texels on a line has in texel i of `target` texels on the same line."""
    return float(ti.min((i + 1) * source, (k + 1) * target) - ti.max(i * source, k * target)) / source


@ti.func
def _texel(texels: ti.template(), row: int, first: int, width: int, i: int, j: int):
    """Texel (i, j) of a texture, or of a level in the row of all levels."""
    color = vec3(0.0)
    if ti.static(len(texels.shape) == 3):
        color = texels[row, i, j]
    else:
        color = texels[row, first + i * width + j]
    return color


@ti.func
def _add_texel(texels: ti.template(), row: int, first: int, width: int, i: int, j: int, value):
    if ti.static(len(texels.shape) == 3):
        texels[row, i, j] = texels[row, i, j] + value
    else:
        texels[row, first + i * width + j] = texels[row, first + i * width + j] + value


@ti.func
def _mean(texels: ti.template(), row: int, first: int, from_height: int, from_width: int, height: int, width: int, i: int, j: int):
    """Texel (i, j) of the next level."""
    total = vec3(0.0)
    for k in range(i * from_height // height, ((i + 1) * from_height - 1) // height + 1):
        for m in range(j * from_width // width, ((j + 1) * from_width - 1) // width + 1):
            share = _overlap(i, k, from_height, height) * _overlap(j, m, from_width, width)
            total += share * _texel(texels, row, first, from_width, k, m)
    return total


@ti.func
def _mean_adjoint(mips_grad: ti.template(), row: int, target: int, from_height: int, from_width: int, height: int, width: int, k: int, m: int):
    """Gradient of texel (k, m), from the texels of the next level that it is part of."""
    total = vec3(0.0)
    for i in range(k * height // from_height, ((k + 1) * height - 1) // from_height + 1):
        for j in range(m * width // from_width, ((m + 1) * width - 1) // from_width + 1):
            share = _overlap(i, k, from_height, height) * _overlap(j, m, from_width, width)
            total += share * mips_grad[row, target + i * width + j]
    return total


@ti.func
def _halve(texels: ti.template(), row: int, first: int, mips: ti.template(), target: int, width: int, begin: int, end: int):
    """Rows begin ... end - 1 of a level, of exactly half the sides."""
    for i in range(begin, end):
        for j in range(width):
            top = _texel(texels, row, first, 2 * width, 2 * i, 2 * j) + _texel(texels, row, first, 2 * width, 2 * i, 2 * j + 1)
            bottom = _texel(texels, row, first, 2 * width, 2 * i + 1, 2 * j) + _texel(texels, row, first, 2 * width, 2 * i + 1, 2 * j + 1)
            mips[row, target + i * width + j] = 0.25 * (top + bottom)


@ti.func
def _halve_adjoint(texels_grad: ti.template(), row: int, first: int, mips_grad: ti.template(), target: int, width: int, begin: int, end: int):
    for i in range(begin, end):
        for j in range(width):
            grad = 0.25 * mips_grad[row, target + i * width + j]
            if any(grad != 0.0):  # few texels are seen
                for di, dj in ti.static(ti.ndrange(2, 2)):
                    _add_texel(texels_grad, row, first, 2 * width, 2 * i + di, 2 * j + dj, grad)


@kernel
def _halvings_kernel(texture: Textures, mips: Points, table: Ints, depth: int, steps: int, pad: int, threads: int):
    """For CPUs: a thread takes 2^depth rows of the texture through the first levels, which are halved exactly."""
    blocks = texture.shape[1] >> depth
    for q in range(steps):
        k = work_item(q, pad, threads, texture.shape[0] * blocks)
        if k >= 0:
            row, block, count = k // blocks, k % blocks, 1 << (depth - 1)
            _halve(texture, row, 0, mips, 0, table[4], block * count, (block + 1) * count)
            for level in range(2, depth + 1):
                count = 1 << (depth - level)
                _halve(mips, row, table[3 * level - 1], mips, table[3 * level + 2], table[3 * level + 1], block * count, (block + 1) * count)


@kernel
def _first_level_kernel(texture: Textures, mips: Points, height: int, width: int):
    for row, i, j in ti.ndrange(mips.shape[0], height, width):
        mips[row, i * width + j] = _mean(texture, row, 0, texture.shape[1], texture.shape[2], height, width, i, j)


@kernel
def _next_level_kernel(mips: Points, from_height: int, from_width: int, source: int, height: int, width: int, target: int):
    for row, i, j in ti.ndrange(mips.shape[0], height, width):
        mips[row, target + i * width + j] = _mean(mips, row, source, from_height, from_width, height, width, i, j)


@kernel
def _small_levels_kernel(mips: Points, table: Ints, begin: int, count: int):
    """The levels from `begin` on, a thread for each texture."""
    for row in range(mips.shape[0]):
        for level in range(begin, count):
            height, width, target = table[3 * level], table[3 * level + 1], table[3 * level + 2]
            for i in range(height):
                for j in range(width):
                    mean = _mean(mips, row, table[3 * level - 1], table[3 * level - 3], table[3 * level - 2], height, width, i, j)
                    mips[row, target + i * width + j] = mean


@operator
def _pyramid(texture: Array, mips: Array, built: Pyramid) -> None:
    halved, small = _plan(built)
    if halved:
        _halvings_kernel(texture, mips, built.table, halved, *split(texture.shape[0] * (texture.shape[1] >> halved)))
    for level in range(halved + 1, small):
        if level == 1:
            _first_level_kernel(texture, mips, *built.sizes[1][:2])
        else:
            _next_level_kernel(mips, *built.sizes[level - 1], *built.sizes[level])
    if small < len(built.sizes):
        _small_levels_kernel(mips, built.table, small, len(built.sizes))


def _plan(built: Pyramid) -> tuple[int, int]:
    """How many levels are halved at once, and from which on the small ones are made at once; those between one by one, as all on GPUs."""
    if runtime.device().arch != "cpu":
        return 0, len(built.sizes)
    halved = min(built.halvings, MOST_HALVINGS)
    sizes = [height * width for height, width, _ in built.sizes]
    return halved, next((k for k in range(max(2, halved + 1), len(sizes)) if sizes[k] <= SMALL), len(sizes))


# --- Adjoint: from the coarsest level down, what each gives to the next finer one ---------------------------------


@kernel
def _small_levels_adjoint_kernel(mips_grad: Points, table: Ints, begin: int, count: int):
    for row in range(mips_grad.shape[0]):
        for back in range(count - begin):
            level = count - 1 - back
            height, width, target = table[3 * level], table[3 * level + 1], table[3 * level + 2]
            from_height, from_width = table[3 * level - 3], table[3 * level - 2]
            for k in range(from_height):
                for m in range(from_width):
                    texel = table[3 * level - 1] + k * from_width + m
                    grad = _mean_adjoint(mips_grad, row, target, from_height, from_width, height, width, k, m)
                    mips_grad[row, texel] = mips_grad[row, texel] + grad


@kernel
def _next_level_adjoint_kernel(mips_grad: Points, from_height: int, from_width: int, source: int, height: int, width: int, target: int):
    for row, k, m in ti.ndrange(mips_grad.shape[0], from_height, from_width):
        texel = source + k * from_width + m
        mips_grad[row, texel] = mips_grad[row, texel] + _mean_adjoint(mips_grad, row, target, from_height, from_width, height, width, k, m)


@kernel
def _first_level_adjoint_kernel(texture_grad: Textures, mips_grad: Points, height: int, width: int):
    for row, k, m in ti.ndrange(texture_grad.shape[0], texture_grad.shape[1], texture_grad.shape[2]):
        grad = _mean_adjoint(mips_grad, row, 0, texture_grad.shape[1], texture_grad.shape[2], height, width, k, m)
        texture_grad[row, k, m] = texture_grad[row, k, m] + grad


@kernel
def _halvings_adjoint_kernel(texture_grad: Textures, mips_grad: Points, table: Ints, depth: int, steps: int, pad: int, threads: int):
    blocks = texture_grad.shape[1] >> depth
    for q in range(steps):
        k = work_item(q, pad, threads, texture_grad.shape[0] * blocks)
        if k >= 0:
            row, block = k // blocks, k % blocks
            for back in range(depth - 1):
                level = depth - back
                count, source, target = 1 << back, table[3 * level - 1], table[3 * level + 2]
                _halve_adjoint(mips_grad, row, source, mips_grad, target, table[3 * level + 1], block * count, (block + 1) * count)
            count = 1 << (depth - 1)
            _halve_adjoint(texture_grad, row, 0, mips_grad, 0, table[4], block * count, (block + 1) * count)


@_pyramid.adjoint
def _pyramid_adjoint(texture: Array, mips: Array, built: Pyramid) -> None:
    if texture.grad is not None:
        add_levels(built, mips.grad, texture.grad)


def add_levels(built: Pyramid, mips_grad: Array, texture_grad: Array) -> None:
    """Add what the levels got to the texture."""
    halved, small = _plan(built)
    if small < len(built.sizes):
        _small_levels_adjoint_kernel(mips_grad, built.table, small, len(built.sizes))
    for level in reversed(range(halved + 1, small)):
        if level == 1:
            _first_level_adjoint_kernel(texture_grad, mips_grad, *built.sizes[1][:2])
        else:
            _next_level_adjoint_kernel(mips_grad, *built.sizes[level - 1], *built.sizes[level])
    if halved:
        _halvings_adjoint_kernel(texture_grad, mips_grad, built.table, halved, *split(texture_grad.shape[0] * (texture_grad.shape[1] >> halved)))
