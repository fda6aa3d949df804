"""Textures: sampled between texels and between mip levels, with gradients to every texel and to uv.

    uv (0, 0) is the texture's top-left corner, u to the right, v down; texel (row i, column j) has its center at
    u = (j + 1/2) / W, v = (i + 1/2) / H.

    C(u, v) = (1 - t) S_l(u, v) + t S_{l+1}(u, v),   l + t = log2(texels per pixel)         S_l: bilinear, in mip level l

Level l + 1 is level l averaged to half its sides, rounded down; a texel is the mean over the area it covers.
Source: Williams, Pyramidal Parametrics, SIGGRAPH 1983.
"""

from typing import NamedTuple

import numpy as np
import taichi as ti

from . import runtime
from .arrays import Array, Ints, Points, empty, expect, is_finite, read, split, unrecorded, vec2, vec3, work_item, write, zero
from .raster.tiles import lists_by_key
from .tape import operator

WRAP, CLAMP, MIRROR = 0, 1, 2
WRAPS = {"wrap": WRAP, "clamp": CLAMP, "mirror": MIRROR}
FARTHEST = 1e4  # |u| beyond which float32 does not tell texels apart

Textures = ti.types.ndarray(dtype=vec3, ndim=3, needs_grad=False)  # (R, H, W)
UVs = ti.types.ndarray(dtype=vec2, ndim=2, needs_grad=False)  # (1, N)
Levels = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (1, N)


class Pyramid(NamedTuple):
    """A texture and its mip levels."""

    texture: Array  # (R, H, W) of vec3: level 0
    mips: Array  # (R, M) of vec3: levels 1, 2, ... one after another, row by row
    table: Array  # (3 L,): height, width and first texel of each level; the first texel counts from the start of `mips`
    sizes: list[tuple[int, int, int]]  # the same


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


# --- Mip levels -------------------------------------------------------------------------------------------------


@ti.func
def _overlap(i: int, k: int, source: int, target: int):
    """Share that texel k of `source` texels on a line has in texel i of `target` texels on the same line."""
    return float(ti.min((i + 1) * source, (k + 1) * target) - ti.max(i * source, k * target)) / source


@ti.func
def _at(texels: ti.template(), row: int, first: int, width: int, i: int, j: int):
    """Texel (i, j) of a texture, or of a level in the row of all levels."""
    color = vec3(0.0)
    if ti.static(len(texels.shape) == 3):
        color = texels[row, i, j]
    else:
        color = texels[row, first + i * width + j]
    return color


@ti.func
def _mean(
    texels: ti.template(), row: int, first: int, from_height: int, from_width: int, height: int, width: int, i: int, j: int, even: ti.template()
):
    """Texel (i, j) of the next level; `even`: sides are halved exactly."""
    total = vec3(0.0)
    if ti.static(even):
        for di, dj in ti.static(ti.ndrange(2, 2)):
            total += 0.25 * _at(texels, row, first, from_width, 2 * i + di, 2 * j + dj)
    else:
        for k in range(i * from_height // height, ((i + 1) * from_height - 1) // height + 1):
            for m in range(j * from_width // width, ((j + 1) * from_width - 1) // width + 1):
                share = _overlap(i, k, from_height, height) * _overlap(j, m, from_width, width)
                total += share * _at(texels, row, first, from_width, k, m)
    return total


@ti.func
def _mean_adjoint(
    mips_grad: ti.template(), row: int, target: int, from_height: int, from_width: int, height: int, width: int, k: int, m: int
):  # fmt: skip
    """Gradient of texel (k, m), from the texels of the next level that it is part of."""
    total = vec3(0.0)
    for i in range(k * height // from_height, ((k + 1) * height - 1) // from_height + 1):
        for j in range(m * width // from_width, ((m + 1) * width - 1) // from_width + 1):
            share = _overlap(i, k, from_height, height) * _overlap(j, m, from_width, width)
            total += share * mips_grad[row, target + i * width + j]
    return total


@ti.kernel
def _first_level_kernel(texture: Textures, mips: Points, height: int, width: int, even: ti.template()):
    for row, i, j in ti.ndrange(mips.shape[0], height, width):
        mips[row, i * width + j] = _mean(texture, row, 0, texture.shape[1], texture.shape[2], height, width, i, j, even)


@ti.kernel
def _next_level_kernel(mips: Points, from_height: int, from_width: int, source: int, height: int, width: int, target: int, even: ti.template()):
    for row, i, j in ti.ndrange(mips.shape[0], height, width):
        mips[row, target + i * width + j] = _mean(mips, row, source, from_height, from_width, height, width, i, j, even)


def _is_even(finer: tuple[int, int, int], coarser: tuple[int, int, int]) -> bool:
    return finer[0] == 2 * coarser[0] and finer[1] == 2 * coarser[1]


@operator
def _pyramid(texture: Array, mips: Array, built: Pyramid) -> None:
    for finer, coarser in zip(built.sizes, built.sizes[1:], strict=False):
        if finer is built.sizes[0]:
            _first_level_kernel(texture, mips, *coarser[:2], _is_even(finer, coarser))
        else:
            _next_level_kernel(mips, *finer, *coarser, _is_even(finer, coarser))


@ti.kernel
def _first_level_adjoint_kernel(texture_grad: Textures, mips_grad: Points, height: int, width: int, even: ti.template()):
    if ti.static(even):  # every texel is part of one only
        for row, i, j in ti.ndrange(mips_grad.shape[0], height, width):
            grad = 0.25 * mips_grad[row, i * width + j]
            for di, dj in ti.static(ti.ndrange(2, 2)):
                texture_grad[row, 2 * i + di, 2 * j + dj] = texture_grad[row, 2 * i + di, 2 * j + dj] + grad
    else:
        for row, k, m in ti.ndrange(texture_grad.shape[0], texture_grad.shape[1], texture_grad.shape[2]):
            texture_grad[row, k, m] = texture_grad[row, k, m] + _mean_adjoint(
                mips_grad, row, 0, texture_grad.shape[1], texture_grad.shape[2], height, width, k, m
            )


@ti.kernel
def _next_level_adjoint_kernel(
    mips_grad: Points, from_height: int, from_width: int, source: int, height: int, width: int, target: int, even: ti.template()
):  # fmt: skip
    if ti.static(even):
        for row, i, j in ti.ndrange(mips_grad.shape[0], height, width):
            grad = 0.25 * mips_grad[row, target + i * width + j]
            for di, dj in ti.static(ti.ndrange(2, 2)):
                texel = source + (2 * i + di) * from_width + 2 * j + dj
                mips_grad[row, texel] = mips_grad[row, texel] + grad
    else:
        for row, k, m in ti.ndrange(mips_grad.shape[0], from_height, from_width):
            texel = source + k * from_width + m
            mips_grad[row, texel] = mips_grad[row, texel] + _mean_adjoint(mips_grad, row, target, from_height, from_width, height, width, k, m)


@_pyramid.adjoint
def _pyramid_adjoint(texture: Array, mips: Array, built: Pyramid) -> None:
    if texture.grad is not None:
        _add_levels(built, mips.grad, texture.grad)


def _add_levels(built: Pyramid, mips_grad: Array, texture_grad: Array) -> None:
    """From the coarsest level down, what each gives to the next finer one."""
    levels = list(zip(built.sizes, built.sizes[1:], strict=False))
    for finer, coarser in reversed(levels[1:]):
        _next_level_adjoint_kernel(mips_grad, *finer, *coarser, _is_even(finer, coarser))
    for finer, coarser in levels[:1]:
        _first_level_adjoint_kernel(texture_grad, mips_grad, *coarser[:2], _is_even(finer, coarser))


# --- Samples ----------------------------------------------------------------------------------------------------


def sample_texture(built: Pyramid, uv: Array, levels: Array, views: Array, wrap: str = "wrap") -> Array:
    """The texture's colors at a list of points.

        C = (1 - t) S_l(u, v) + t S_{l+1}(u, v),   l + t = level

    Args:
        built: of `pyramid`.
        uv: (1, N) of vec2.
        levels: mip level of each point, (1, N); 0 is the texture itself. Beyond the levels that there are, the nearest.
        views: view of each point, (N,) of i32: point n samples texture views[n], or the only one.
        wrap: what is beyond the border: "wrap" repeats the texture, "clamp" extends its border, "mirror" repeats it mirrored.

    Returns:
        (1, N) of vec3. Black where uv is not finite.

    Differentiable in the texture, through all its levels, and in `uv`. Not in `levels`: a choice of filter.

    Raises:
        ValueError: wrong shapes, an unknown wrap.

    Source: Williams, Pyramidal Parametrics, SIGGRAPH 1983.
    """
    expect("uv", uv, 2, 2, "(1, N) of vec2")
    if wrap not in WRAPS:
        raise ValueError(f"wrap: expected one of {', '.join(WRAPS)}, got {wrap!r}")
    if tuple(levels.shape) != tuple(uv.shape) or views.shape[0] != uv.shape[1]:
        raise ValueError(f"levels and views: expected one per point of uv {tuple(uv.shape)}, got {tuple(levels.shape)} and {tuple(views.shape)}")
    out = empty(vec3, uv.shape, needs_grad=True)
    _sample(built.texture, built.mips, uv, levels, views, WRAPS[wrap], built, out)
    return out


@ti.func
def _index(k: int, n: int, wrap: ti.template()):
    """Which of n texels on a line is at place k."""
    index = k
    if k < 0 or k >= n:  # seldom, and a remainder takes as long as all the rest
        if ti.static(wrap == WRAP):
            index = k % n
        elif ti.static(wrap == CLAMP):
            index = ti.math.clamp(k, 0, n - 1)
        else:
            turn = k % (2 * n)
            index = ti.select(turn < n, turn, 2 * n - 1 - turn)
    return index


@ti.func
def _footprint(u, n: int, wrap: ti.template()):
    """The two texels on a line between whose centers u is, and how far from the first to the second."""
    x = ti.math.clamp(u, -FARTHEST, FARTHEST) * n - 0.5
    base = ti.floor(x)
    return _index(int(base), n, wrap), _index(int(base) + 1, n, wrap), x - base


@ti.func
def _level_at(level, count: int):
    """The finer of two mip levels, and how far towards the coarser."""
    clamped = ti.math.clamp(level, 0.0, float(count - 1))
    base = ti.min(int(clamped), ti.max(count - 2, 0))
    return base, clamped - base


@ti.func
def _texel(texture: ti.template(), mips: ti.template(), row: int, level: int, first: int, width: int, i: int, j: int):
    color = vec3(0.0)
    if level == 0:
        color = texture[row, i, j]
    else:
        color = mips[row, first + i * width + j]
    return color


@ti.func
def _bilinear(texture: ti.template(), mips: ti.template(), table: ti.template(), row: int, level: int, uv, wrap: ti.template()):
    """S_l with its derivatives in u and v."""
    height, width, first = table[3 * level], table[3 * level + 1], table[3 * level + 2]
    i0, i1, t = _footprint(uv.y, height, wrap)
    j0, j1, s = _footprint(uv.x, width, wrap)
    a, b = _texel(texture, mips, row, level, first, width, i0, j0), _texel(texture, mips, row, level, first, width, i0, j1)
    c, d = _texel(texture, mips, row, level, first, width, i1, j0), _texel(texture, mips, row, level, first, width, i1, j1)
    top, bottom = a + s * (b - a), c + s * (d - c)
    return top + t * (bottom - top), width * ((1 - t) * (b - a) + t * (d - c)), height * (bottom - top)


@ti.kernel
def _sample_kernel(
    texture: Textures, mips: Points, table: Ints, uv: UVs, levels: Levels, views: Ints, out: Points, count: int, wrap: ti.template()
):  # fmt: skip
    for n in range(uv.shape[1]):
        color = vec3(0.0)
        if is_finite(uv[0, n]):
            row = views[n] % texture.shape[0]
            base, t = _level_at(levels[0, n], count)
            color, _u, _v = _bilinear(texture, mips, table, row, base, uv[0, n], wrap)
            if t > 0.0:
                coarser, _u, _v = _bilinear(texture, mips, table, row, base + 1, uv[0, n], wrap)
                color += t * (coarser - color)
        out[0, n] = color


@operator
def _sample(texture: Array, mips: Array, uv: Array, levels: Array, views: Array, wrap: int, built: Pyramid, out: Array) -> None:
    _sample_kernel(texture, mips, built.table, uv, levels, views, out, len(built.sizes), wrap)


@ti.kernel
def _uv_adjoint_kernel(
    texture: Textures, mips: Points, table: Ints, uv: UVs, levels: Levels, views: Ints, uv_grad: UVs, out_grad: Points,
    count: int, wrap: ti.template(),
):  # fmt: skip
    for n in range(uv.shape[1]):
        grad = out_grad[0, n]
        if is_finite(uv[0, n]) and any(grad != 0.0):
            row = views[n] % texture.shape[0]
            base, t = _level_at(levels[0, n], count)
            _color, by_u, by_v = _bilinear(texture, mips, table, row, base, uv[0, n], wrap)
            if t > 0.0:
                _coarser, more_u, more_v = _bilinear(texture, mips, table, row, base + 1, uv[0, n], wrap)
                by_u += t * (more_u - by_u)
                by_v += t * (more_v - by_v)
            uv_grad[0, n] += vec2(grad.dot(by_u), grad.dot(by_v))


@ti.func
def _add_row(texture_grad: ti.template(), mips_grad: ti.template(), row: int, level: int, first: int, width: int, i: int, j0: int, j1: int, s, grad):
    """Add to two texels of a row; no other thread may."""
    if level == 0:
        texture_grad[row, i, j0] = texture_grad[row, i, j0] + (1 - s) * grad
        texture_grad[row, i, j1] = texture_grad[row, i, j1] + s * grad
    else:
        mips_grad[row, first + i * width + j0] = mips_grad[row, first + i * width + j0] + (1 - s) * grad
        mips_grad[row, first + i * width + j1] = mips_grad[row, first + i * width + j1] + s * grad


@ti.kernel
def _rows_adjoint_kernel(
    table: Ints, uv: UVs, levels: Levels, views: Ints, texture_grad: Textures, mips_grad: Points, out_grad: Points,
    count: int, steps: int, pad: int, threads: int, owners: int, wrap: ti.template(),
):  # fmt: skip
    """For CPUs: each of 2^k owners has every 2^k-th row of texels, and adds what falls on them, in the order of the points."""
    for q in range(steps):
        owner = work_item(q, pad, threads, owners)
        if owner >= 0:
            for n in range(uv.shape[1]):
                grad = out_grad[0, n]
                if any(grad != 0.0) and is_finite(uv[0, n]):
                    row = views[n] % texture_grad.shape[0]
                    base, t = _level_at(levels[0, n], count)
                    for step in range(2):
                        level, share = base + step, ti.select(step == 0, 1 - t, t)
                        if share > 0.0:
                            height, width, first = table[3 * level], table[3 * level + 1], table[3 * level + 2]
                            i0, i1, down = _footprint(uv[0, n].y, height, wrap)
                            if (i0 & (owners - 1)) == owner or (i1 & (owners - 1)) == owner:
                                j0, j1, s = _footprint(uv[0, n].x, width, wrap)
                                if (i0 & (owners - 1)) == owner:
                                    _add_row(texture_grad, mips_grad, row, level, first, width, i0, j0, j1, s, share * (1 - down) * grad)
                                if (i1 & (owners - 1)) == owner:
                                    _add_row(texture_grad, mips_grad, row, level, first, width, i1, j0, j1, s, share * down * grad)


@ti.func
def _corner(table: ti.template(), uv, level, entry: int, count: int, wrap: ti.template()):
    """Of the eight texels that a sample meets, one: its level, row, column and share."""
    base, t = _level_at(level, count)
    here, share = base + entry // 4, t
    if entry // 4 == 0:
        share = 1 - t
    at = ti.min(here, count - 1)
    i0, i1, down = _footprint(uv.y, table[3 * at], wrap)
    j0, j1, s = _footprint(uv.x, table[3 * at + 1], wrap)
    i, j = ti.select(entry % 4 < 2, i0, i1), ti.select(entry % 2 == 0, j0, j1)
    return at, i, j, share * ti.select(entry % 4 < 2, 1 - down, down) * ti.select(entry % 2 == 0, 1 - s, s)


@ti.kernel
def _keys_kernel(
    table: Ints, uv: UVs, levels: Levels, views: Ints, out_grad: Points, keys: Ints,
    rows: int, first_texels: int, texels: int, entries: int, count: int, wrap: ti.template(),
):  # fmt: skip
    """Which texel each corner of each sample is, numbered through all levels; one number beyond all for those that get nothing."""
    for e in range(entries):
        n, key = e // 8, rows * texels
        if any(out_grad[0, n] != 0.0) and is_finite(uv[0, n]):
            level, i, j, share = _corner(table, uv[0, n], levels[0, n], e % 8, count, wrap)
            if share > 0.0:
                key = views[n] % rows * texels + i * table[3 * level + 1] + j
                if level > 0:
                    key += first_texels + table[3 * level + 2]
        keys[e] = key


@ti.kernel
def _lists_adjoint_kernel(
    table: Ints, uv: UVs, levels: Levels, offsets: Ints, members: Ints, texture_grad: Textures, mips_grad: Points, out_grad: Points,
    rows: int, first_texels: int, texels: int, count: int, wrap: ti.template(),
):  # fmt: skip
    """For GPUs: a thread takes a texel, and adds what its list brings, in the order of the points."""
    for k in range(rows * texels):
        total = vec3(0.0)
        for m in range(offsets[k], offsets[k + 1]):
            n = members[m] // 8
            _level, _i, _j, share = _corner(table, uv[0, n], levels[0, n], members[m] % 8, count, wrap)
            total += share * out_grad[0, n]
        row, texel = k // texels, k % texels
        if texel < first_texels:
            texture_grad[row, texel // texture_grad.shape[2], texel % texture_grad.shape[2]] += total
        else:
            mips_grad[row, texel - first_texels] += total


@_sample.adjoint
def _sample_adjoint(texture: Array, mips: Array, uv: Array, levels: Array, views: Array, wrap: int, built: Pyramid, out: Array) -> None:
    if uv.grad is not None:
        _uv_adjoint_kernel(texture, mips, built.table, uv, levels, views, uv.grad, out.grad, len(built.sizes), wrap)
    if texture.grad is not None:
        add_to_texels(built, uv, levels, views, wrap, out.grad, texture.grad, mips.grad)


def add_to_texels(
    built: Pyramid, uv: Array, levels: Array, views: Array, wrap: int, out_grad: Array, texture_grad: Array, mips_grad: Array
) -> None:  # fmt: skip
    """Spread the gradients of samples, (1, N) of vec3, over the texels of all levels, always in the same order."""
    count, table, rows = len(built.sizes), built.table, built.texture.shape[0]
    if runtime.device().arch == "cpu":
        owners = 1 << (runtime.device().threads - 1).bit_length()
        _rows_adjoint_kernel(table, uv, levels, views, texture_grad, mips_grad, out_grad, count, *split(owners), owners, wrap)
        return
    first_texels = built.texture.shape[1] * built.texture.shape[2]
    texels, entries = first_texels + built.mips.shape[1], 8 * uv.shape[1]
    keys = empty(int, entries)
    _keys_kernel(table, uv, levels, views, out_grad, keys, rows, first_texels, texels, entries, count, wrap)
    offsets, members = lists_by_key(keys, rows * texels)
    _lists_adjoint_kernel(
        table, uv, levels, offsets, members, texture_grad, mips_grad, out_grad, rows, first_texels, texels, count, wrap
    )  # fmt: skip


def texel_shares(built: Pyramid, uv: Array, levels: Array, views: Array, shares: Array, wrap: str = "wrap") -> np.ndarray:
    """How much every texel adds to a picture: the sum over the samples of their share in it times the texel's share in them.

    Args:
        built, uv, levels, views, wrap: as of `sample_texture`.
        shares: of each point in its pixel, (1, N).

    Returns:
        (R, H, W); 0 where no sample meets the texel.
    """
    weights, by_texel, by_mip = empty(vec3, uv.shape), empty(vec3, built.texture.shape), empty(vec3, built.mips.shape)
    write(weights, np.repeat(read(shares)[..., None], 3, axis=-1))
    zero(by_texel)
    zero(by_mip)
    with unrecorded():
        add_to_texels(built, uv, levels, views, WRAPS[wrap], weights, by_texel, by_mip)
        _add_levels(built, by_mip, by_texel)
    return read(by_texel)[..., 0]
