"""Textures: sampled between texels and between mip levels, with gradients to every texel and to uv.

    uv (0, 0) is the texture's top-left corner, u to the right, v down; texel (row i, column j) has its center at
    u = (j + 1/2) / W, v = (i + 1/2) / H.

    C(u, v) = (1 - t) S_l(u, v) + t S_{l+1}(u, v),   l + t = log2(texels per pixel)         S_l: bilinear, in mip level l

Source: Williams, Pyramidal Parametrics, SIGGRAPH 1983.
"""

import numpy as np
import taichi as ti

from . import runtime
from .arrays import Array, Ints, Points, empty, expect, is_finite, read, split, unrecorded, vec2, vec3, work_item, write, zero
from .launch import kernel
from .mipmap import Pyramid, Textures, add_levels
from .raster.tiles import lists_by_key
from .tape import operator

WRAP, CLAMP, MIRROR = 0, 1, 2
WRAPS = {"wrap": WRAP, "clamp": CLAMP, "mirror": MIRROR}
BAND = 16  # rows of texels, of those that a CPU thread adds to
FARTHEST = 1e4  # |u| beyond which float32 does not tell texels apart

UVs = ti.types.ndarray(dtype=vec2, ndim=2, needs_grad=False)  # (1, N)
Levels = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (1, N)


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
    by_u, by_v = empty(vec3, uv.shape), empty(vec3, uv.shape)
    _sample(built.texture, built.mips, uv, levels, views, WRAPS[wrap], built, by_u, by_v, out)
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
def _four_texels(texture: ti.template(), mips: ti.template(), row: int, level: int, first: int, width: int, i0: int, i1: int, j0: int, j1: int):
    a, b, c, d = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0)
    if level == 0:
        a, b, c, d = texture[row, i0, j0], texture[row, i0, j1], texture[row, i1, j0], texture[row, i1, j1]
    else:
        top, bottom = first + i0 * width, first + i1 * width
        a, b, c, d = mips[row, top + j0], mips[row, top + j1], mips[row, bottom + j0], mips[row, bottom + j1]
    return a, b, c, d


@ti.func
def _bilinear(texture: ti.template(), mips: ti.template(), table: ti.template(), row: int, level: int, uv, wrap: ti.template()):
    """S_l with its derivatives in u and v."""
    height, width, first = table[3 * level], table[3 * level + 1], table[3 * level + 2]
    i0, i1, t = _footprint(uv.y, height, wrap)
    j0, j1, s = _footprint(uv.x, width, wrap)
    a, b, c, d = _four_texels(texture, mips, row, level, first, width, i0, i1, j0, j1)
    top, bottom = a + s * (b - a), c + s * (d - c)
    return top + t * (bottom - top), width * ((1 - t) * (b - a) + t * (d - c)), height * (bottom - top)


@kernel
def _sample_kernel(
    texture: Textures, mips: Points, table: Ints, uv: UVs, levels: Levels, views: Ints, by_u: Points, by_v: Points, out: Points,
    count: int, wrap: ti.template(),
):  # fmt: skip
    for n in range(uv.shape[1]):
        color, along_u, along_v = vec3(0.0), vec3(0.0), vec3(0.0)
        if is_finite(uv[0, n]):
            row = ti.min(views[n], texture.shape[0] - 1)  # rows are 1 or as many as views
            base, t = _level_at(levels[0, n], count)
            color, along_u, along_v = _bilinear(texture, mips, table, row, base, uv[0, n], wrap)
            if t > 0.0:
                coarser, more_u, more_v = _bilinear(texture, mips, table, row, base + 1, uv[0, n], wrap)
                color += t * (coarser - color)
                along_u += t * (more_u - along_u)
                along_v += t * (more_v - along_v)
        out[0, n], by_u[0, n], by_v[0, n] = color, along_u, along_v


@operator
def _sample(
    texture: Array, mips: Array, uv: Array, levels: Array, views: Array, wrap: int, built: Pyramid, by_u: Array, by_v: Array, out: Array
) -> None:  # fmt: skip
    """`by_u` and `by_v` are dC/du and dC/dv, for the adjoint."""
    _sample_kernel(texture, mips, built.table, uv, levels, views, by_u, by_v, out, len(built.sizes), wrap)


@kernel
def _uv_adjoint_kernel(by_u: Points, by_v: Points, uv_grad: UVs, out_grad: Points):
    for n in range(uv_grad.shape[1]):
        grad = out_grad[0, n]
        uv_grad[0, n] = uv_grad[0, n] + vec2(grad.dot(by_u[0, n]), grad.dot(by_v[0, n]))


@ti.func
def _add_row(texture_grad: ti.template(), mips_grad: ti.template(), row: int, level: int, first: int, width: int, i: int, j0: int, j1: int, s, grad):
    """Add to two texels of a row; no other thread may."""
    if level == 0:
        texture_grad[row, i, j0] = texture_grad[row, i, j0] + (1 - s) * grad
        texture_grad[row, i, j1] = texture_grad[row, i, j1] + s * grad
    else:
        mips_grad[row, first + i * width + j0] = mips_grad[row, first + i * width + j0] + (1 - s) * grad
        mips_grad[row, first + i * width + j1] = mips_grad[row, first + i * width + j1] + s * grad


@ti.func
def _owner(i: int, owners: int):
    """Who of 2^k owners has row i of a level: bands of rows in turn, so that the two rows of most samples have one owner."""
    return i // BAND & (owners - 1)


@kernel
def _rows_adjoint_kernel(
    table: Ints, uv: UVs, levels: Levels, views: Ints, texture_grad: Textures, mips_grad: Points, out_grad: Points,
    count: int, steps: int, pad: int, threads: int, owners: int, wrap: ti.template(),
):  # fmt: skip
    """For CPUs: each owner adds what falls on its rows of texels, in the order of the points."""
    for q in range(steps):
        owner = work_item(q, pad, threads, owners)
        if owner >= 0:
            for n in range(uv.shape[1]):
                grad = out_grad[0, n]
                if any(grad != 0.0) and is_finite(uv[0, n]):
                    row = ti.min(views[n], texture_grad.shape[0] - 1)
                    base, t = _level_at(levels[0, n], count)
                    for step in range(2):
                        level, share = base + step, ti.select(step == 0, 1 - t, t)
                        if share > 0.0:
                            height, width, first = table[3 * level], table[3 * level + 1], table[3 * level + 2]
                            i0, i1, down = _footprint(uv[0, n].y, height, wrap)
                            if _owner(i0, owners) == owner or _owner(i1, owners) == owner:
                                j0, j1, s = _footprint(uv[0, n].x, width, wrap)
                                if _owner(i0, owners) == owner:
                                    _add_row(texture_grad, mips_grad, row, level, first, width, i0, j0, j1, s, share * (1 - down) * grad)
                                if _owner(i1, owners) == owner:
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


@kernel
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


@kernel
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
def _sample_adjoint(
    texture: Array, mips: Array, uv: Array, levels: Array, views: Array, wrap: int, built: Pyramid, by_u: Array, by_v: Array, out: Array
) -> None:  # fmt: skip
    if uv.grad is not None:
        _uv_adjoint_kernel(by_u, by_v, uv.grad, out.grad)
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
        add_levels(built, by_mip, by_texel)
    return read(by_texel)[..., 0]
