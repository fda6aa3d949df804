"""The fragments that make an image, as a list: what is shaded or textured at each of them is then an operator over a flat array.

A fragment is a face that shows at a pixel. The rasterizer says how much of the pixel's color it is (its share) and where on
the face it lies (its weights); `interpolate` brings vertex attributes to the fragments, `composite` sums fragments to pixels:

    I = sum_j s_j C_j + s_b C_b,   s_j = D_j exp(z_j / gamma) / (sum_k D_k exp(z_k / gamma) + exp(eps / gamma))

Memory grows with the number of fragments whose share is not negligible; `soft_rasterize` keeps none.
Source: Liu et al., Soft Rasterizer, ICCV 2019, equations 1 to 4.
"""

import math
from typing import NamedTuple

import taichi as ti
from taichi.lang import impl

from .. import runtime
from ..arrays import Array, Faces, Floats, Ints, Points, batch_size, empty, expect, image_size, split, unrecorded, vec2, vec3, work_item
from ..launch import kernel
from ..tape import operator
from . import triangle
from .fragment import (
    BOTH,
    CLOCKWISE,
    COUNTERCLOCKWISE,
    SOFTMAX,
    background_share,
    cleared,
    cover,
    cover_adjoint,
    face_inverses,
    faces_us,
    logit,
    logit_adjoint,
    opacity,
    opacity_adjoint,
    share_adjoint,
    share_of,
    shows_color,
    surface,
    surface_adjoint,
    weigh,
)  # fmt: skip
from .gather import gather_corners
from .settings import Settings, checked_settings, interpolation_of, kept_turn
from .soft import CPU_TILE, GPU_TILE, LANES, SPAN_BASE, TILE_HEIGHT, TILE_MASK, TILE_WIDTH, Stats, _tile_array
from .tiles import Boxes, TileLists, corners, is_small, pixel_center, prefix_sum, sum_blocks, tile_lists

Pixels = ti.types.ndarray(dtype=float, ndim=3, needs_grad=False)  # (B, H, W)
Shares = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (1, N)
Contributions = ti.types.ndarray(dtype=vec3, ndim=2, needs_grad=False)  # (pairs, 3): a gradient per corner

POSITION_GRADS = 9  # of a face: three corners of three coordinates
LANE_MASK = LANES - 1  # so LLVM sees that a lane cannot leave its array


class Fragments(NamedTuple):
    """A list of fragments, in the order of pairs of face and tile, and of pixels within a pair.

    Its arrays are longer than the list: what is left over is padding with a share of 0, of face 0 and of no pixel, -1.
    """

    size: tuple[int, int, int]  # (B, H, W)
    count: int  # length of the list, up to where all is padding
    pixels: Array  # (N,): b H W + i W + j
    faces: Array  # (N,)
    views: Array  # (N,): b
    weights: Array  # (1, N) of vec3: the point is the sum of the weights times the corners; differentiable
    shares: Array  # (1, N): of the pixel's color; differentiable
    alpha: Array  # (B, H, W); differentiable
    background: Array  # (B, H, W): share of the background; differentiable
    offsets: Array  # pair n has the fragments offsets[n] ... offsets[n + 1] - 1
    tiles: TileLists
    face_count: int


def soft_fragments(
    screen: Array,
    faces: Array,
    *,
    size: int | tuple[int, int],
    sigma: float = 1e-5,
    gamma: float = 1e-4,
    distance: str = "euclidean",
    rgb: str = "softmax",
    alpha: str = "prod",
    near: float = 1.0,
    far: float = 100.0,
    eps: float = 1e-3,
    dist_eps: float = 1e-4,
    double_sided: bool = True,
    clockwise_front: bool = False,
    perspective: bool = True,
    orthographic: bool = False,
    cull: str | None = None,
) -> Fragments:
    """The fragments of a mesh, to be shaded one by one.

        s_j = D_j exp(z_j / gamma) / (sum_k D_k exp(z_k / gamma) + exp(eps / gamma)),   A = 1 - prod_j (1 - D_j)

    Args:
        screen: projected vertices, (B, V) of vec3, as of `project`.
        faces: vertex indices, (F,) of ivec3. Not to be changed in place: make a new array instead.
        perspective: weights on the triangle in space, as a perspective camera sees it; False: on the screen.
        size, sigma, gamma, distance, rgb, alpha, near, far, eps, dist_eps, double_sided, orthographic, clockwise_front, cull: as
            of `soft_rasterize`.

    Returns:
        The list, without fragments whose share rounding would swallow.

    Differentiable in `screen`, through weights, shares, alpha and the share of the background. Not in which faces count.

    Raises:
        ValueError: wrong shapes or types, a face index out of range, a setting out of range, an unknown mode.

    Source: Liu et al., Soft Rasterizer, ICCV 2019, equations 1 to 4.
    """
    expect("screen", screen, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)
    height, width = image_size(size)
    batch = batch_size(screen=screen.shape[0])
    sides = BOTH if double_sided else CLOCKWISE if clockwise_front else COUNTERCLOCKWISE
    settings = checked_settings(
        (height, width), sigma, gamma, near, far, eps, dist_eps, distance, rgb, alpha, False, interpolation_of(perspective, orthographic), sides
    )  # fmt: skip
    on_cpu = runtime.device().arch == "cpu"
    tile = CPU_TILE if on_cpu else (GPU_TILE, GPU_TILE)
    tiles = tile_lists(screen, faces, batch, height, width, settings.radius, tile, kept_turn(cull, clockwise_front))
    stats, pairs = empty(vec2, (batch, height, width)), tiles.pairs
    opacities, backgrounds = (empty(float, (batch, height, width), needs_grad=True) for _ in range(2))
    spans = empty(int, room(pairs) * TILE_HEIGHT if on_cpu else 1)
    offsets = empty(int, room(pairs + 1))
    lists = (screen, faces, tiles.boxes, tiles.pair_faces)
    cells = batch * tiles.rows * tiles.columns
    with unrecorded():
        if on_cpu:
            _cover_tile_kernel(
                *lists, tiles.tile_offsets, tiles.members, spans, stats, opacities, backgrounds, offsets,
                *split(cells), tiles.rows, tiles.columns, _negligible(), *settings.numbers, *settings.modes,
            )  # fmt: skip
        else:
            _cover_pixel_kernel(
                *lists, tiles.tile_offsets, tiles.members, stats, opacities, backgrounds,
                cells * GPU_TILE**2, tiles.rows, tiles.columns, *settings.numbers, *settings.modes,
            )  # fmt: skip
            _count_kernel(
                *lists,
                tiles.pair_tiles,
                stats,
                offsets,
                pairs,
                *tiles.tile,
                tiles.rows,
                tiles.columns,
                _negligible(),
                *settings.numbers,
                *settings.modes,
            )
    count = count_offsets(offsets, pairs)
    length = room(count)
    pixels, face_of, views = (empty(int, length) for _ in range(3))
    weights, shares = empty(vec3, (1, length), needs_grad=True), empty(float, (1, length), needs_grad=True)
    fragments = Fragments(
        (batch, height, width), count, pixels, face_of, views, weights, shares, opacities, backgrounds, offsets, tiles, faces.shape[0]
    )  # fmt: skip
    _soft_fragments(screen, faces, settings, spans, stats, fragments, weights, shares, opacities, backgrounds)
    return fragments


def count_offsets(counts: Array, pairs: int) -> int:
    """Turn how many fragments each pair has into where those of each begin, in place; returns how many there are.

    Raises:
        ValueError: more than 32 bits count.
    """
    sums, total = empty(int, max(1, sum_blocks(pairs)[1])), empty(float, 1)
    with unrecorded():
        _offsets_kernel(counts, sums, total, pairs, *sum_blocks(pairs), is_small(pairs))
        if total[0] > 2e9:
            raise ValueError(f"screen: {total[0]:.3g} fragments in one call, at most 2e9 fit; render fewer views at a time")
        return counts[pairs]


def _negligible() -> float:
    """The share under which a fragment is left out."""
    return 1e-9 if impl.get_runtime().default_fp == ti.f32 else 1e-18


def room(n: int) -> int:
    """n, rounded up by at most an eighth: lists whose length changes a little from step to step then share one array."""
    step = 1 << max(6, n.bit_length() - 3)
    return max(1, -(-n // step)) * step


# --- Forward ----------------------------------------------------------------------------------------------------


@kernel
def _cover_tile_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    spans: Ints, stats: Stats, opacities: Pixels, backgrounds: Pixels, counts: Ints,
    steps: int, pad: int, threads: int, rows: int, columns: int, negligible: float,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For CPUs: a pixel's sums, four pixels at once, how many fragments of each pair may have a share, and the spans that they are in."""
    for q in range(steps):
        k = work_item(q, pad, threads, stats.shape[0] * rows * columns)
        if k >= 0:
            height, width = stats.shape[1], stats.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * TILE_HEIGHT, k % columns * TILE_WIDTH
            keeps, totals, fronts = _tile_array(), _tile_array(), _tile_array()
            for t in range(TILE_HEIGHT * TILE_WIDTH):
                keeps[t], totals[t], fronts[t] = cleared(last, rgb, alpha)
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                box, f = boxes[pair_faces[members[n]]], pair_faces[members[n]] % faces.shape[0]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                facing = faces_us(v0.xy, v1.xy, v2.xy, sides)
                first, last_column = ti.max(box[2], left), ti.min(box[3], left + TILE_WIDTH)
                candidates = 0
                for i in range(ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)):
                    span_begin, span_end = left + TILE_WIDTH, left
                    for group in range((last_column - first + LANES - 1) // LANES):
                        begin = first + group * LANES
                        start = ti.min(begin, left + TILE_WIDTH - LANES)  # the last group overlaps the one before
                        base = ((i - top) * TILE_WIDTH + start - left) & TILE_MASK  # so LLVM sees that t cannot wrap
                        for lane in range(LANES):
                            j, t = start + lane, base + lane
                            p = pixel_center(i, j, height, width, half)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                            counts_here = (x > least_logit) & (j >= begin) & (j < last_column)
                            depth, _weights = surface(w, depths, interpolation)
                            keeps[t] = cover(keeps[t], x, counts_here, alpha)
                            _old, new, totals[t], fronts[t] = weigh(
                                totals[t], fronts[t], f, x, shows_color(counts_here, facing, depth, near, far), w, depth, per_softness, rgb
                            )
                            candidates += ti.select(new > 0.5 * negligible * ti.abs(totals[t]), 1, 0)  # later faces only lower the share
                            span_begin = ti.min(span_begin, ti.select(counts_here, j, left + TILE_WIDTH))
                            span_end = ti.max(span_end, ti.select(counts_here, j + 1, left))
                    spans[members[n] * TILE_HEIGHT + i - top] = (span_begin - left) * SPAN_BASE + span_end - left
                counts[members[n]] = candidates
            for i in range(top, ti.min(top + TILE_HEIGHT, height)):
                for j in range(left, ti.min(left + TILE_WIDTH, width)):
                    t = (i - top) * TILE_WIDTH + j - left
                    stats[b, i, j] = vec2(totals[t], fronts[t])
                    opacities[b, i, j] = opacity(keeps[t], faces.shape[0], alpha)
                    backgrounds[b, i, j] = background_share(totals[t], fronts[t], last, per_softness, rgb)


@kernel
def _cover_pixel_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    stats: Stats, opacities: Pixels, backgrounds: Pixels, steps: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For GPUs: a pixel's sums; a thread takes a pixel, a block a tile, and all walk the tile's faces together."""
    ti.loop_config(block_dim=GPU_TILE * GPU_TILE)
    for q in range(steps):
        k, local = q // (GPU_TILE * GPU_TILE), q % (GPU_TILE * GPU_TILE)
        b = k // (rows * columns)
        i, j = k // columns % rows * GPU_TILE + local // GPU_TILE, k % columns * GPU_TILE + local % GPU_TILE
        if i < stats.shape[1] and j < stats.shape[2]:
            p = pixel_center(i, j, stats.shape[1], stats.shape[2], half)
            keep, total, front = cleared(last, rgb, alpha)
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                box = boxes[pair_faces[members[n]]]
                if box[0] <= i and i < box[1] and box[2] <= j and j < box[3]:
                    f = pair_faces[members[n]] % faces.shape[0]
                    v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                    inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                    w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                    x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                    if x > least_logit:
                        depth, _weights = surface(w, depths, interpolation)
                        shows = shows_color(x > least_logit, faces_us(v0.xy, v1.xy, v2.xy, sides), depth, near, far)
                        keep = cover(keep, x, x > least_logit, alpha)
                        _old, _new, total, front = weigh(total, front, f, x, shows, w, depth, per_softness, rgb)
            stats[b, i, j] = vec2(total, front)
            opacities[b, i, j] = opacity(keep, faces.shape[0], alpha)
            backgrounds[b, i, j] = background_share(total, front, last, per_softness, rgb)


@ti.func
def _share(
    p, v0, v1, v2, inverses, depths, facing, f: int, total_front, per_sigma, per_softness, near, far, least_logit,
    distance: ti.template(), rgb: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    """Share of the fragment of a face at p, with its barycentrics."""
    w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
    x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
    share = 0.0
    if x > least_logit:
        depth, _weights = surface(w, depths, interpolation)
        share = share_of(total_front.x, total_front.y, f, x, shows_color(x > least_logit, facing, depth, near, far), depth, per_softness, rgb)
    return share, w


@kernel
def _count_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, stats: Stats, counts: Ints,
    pairs: int, tile_height: int, tile_width: int, rows: int, columns: int, negligible: float,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For GPUs: how many fragments of each pair have a share."""
    for n in range(pairs):
        b, f = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0]
        top, left = pair_tiles[n] // columns % rows * tile_height, pair_tiles[n] % columns * tile_width
        v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
        inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
        facing, box, found = faces_us(v0.xy, v1.xy, v2.xy, sides), boxes[pair_faces[n]], 0
        for i in range(ti.max(box[0], top), ti.min(box[1], top + tile_height)):
            for j in range(ti.max(box[2], left), ti.min(box[3], left + tile_width)):
                p = pixel_center(i, j, stats.shape[1], stats.shape[2], half)
                share, _w = _share(
                    p, v0, v1, v2, inverses, depths, facing, f, stats[b, i, j],
                    per_sigma, per_softness, near, far, least_logit, distance, rgb, interpolation,
                )  # fmt: skip
                found += int(share > 0.5 * negligible)  # half: rounding may differ from one kernel to the next
        counts[n] = found


@kernel
def _offsets_kernel(offsets: Ints, sums: Ints, total: Floats, pairs: int, block: int, blocks: int, serial: ti.template()):
    prefix_sum(offsets, pairs, block, blocks, serial, sums, total)


@kernel
def _list_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, stats: Stats, offsets: Ints,
    pixels: Ints, face_of: Ints, views: Ints, weights: Points, shares: Shares,
    steps: int, pad: int, threads: int, pairs: int, count: int, rest: int,
    tile_height: int, tile_width: int, rows: int, columns: int, negligible: float,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            b, f, m = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], offsets[n]
            if offsets[n + 1] > m:
                top, left = pair_tiles[n] // columns % rows * tile_height, pair_tiles[n] % columns * tile_width
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                facing, box = faces_us(v0.xy, v1.xy, v2.xy, sides), boxes[pair_faces[n]]
                for i in range(ti.max(box[0], top), ti.min(box[1], top + tile_height)):
                    for j in range(ti.max(box[2], left), ti.min(box[3], left + tile_width)):
                        p = pixel_center(i, j, stats.shape[1], stats.shape[2], half)
                        share, w = _share(
                            p, v0, v1, v2, inverses, depths, facing, f, stats[b, i, j],
                            per_sigma, per_softness, near, far, least_logit, distance, rgb, interpolation,
                        )  # fmt: skip
                        if share > negligible and m < offsets[n + 1]:
                            _depth, at = surface(w, depths, interpolation)
                            pixels[m], face_of[m], views[m] = (b * stats.shape[1] + i) * stats.shape[2] + j, f, b
                            weights[0, m], shares[0, m] = at, share
                            m += 1
            for k in range(m, offsets[n + 1]):
                pixels[k], face_of[k], views[k], weights[0, k], shares[0, k] = -1, f, b, vec3(1.0, 0.0, 0.0), 0.0
    for q in range(rest):
        k = count + q
        pixels[k], face_of[k], views[k], weights[0, k], shares[0, k] = -1, 0, 0, vec3(1.0, 0.0, 0.0), 0.0


@kernel
def _list_tile_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, spans: Ints, stats: Stats, offsets: Ints,
    pixels: Ints, face_of: Ints, views: Ints, weights: Points, shares: Shares,
    steps: int, pad: int, threads: int, pairs: int, count: int, rest: int, rows: int, columns: int, negligible: float,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """`_list_kernel` for CPUs: the shares of four pixels at once, then what of them is listed."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            b, f, m = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], offsets[n]
            if offsets[n + 1] > m:
                height, width = stats.shape[1], stats.shape[2]
                top, left = pair_tiles[n] // columns % rows * TILE_HEIGHT, pair_tiles[n] % columns * TILE_WIDTH
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                facing, box = faces_us(v0.xy, v1.xy, v2.xy, sides), boxes[pair_faces[n]]
                lane_shares, w0, w1, w2 = _lane_array(), _lane_array(), _lane_array(), _lane_array()
                totals, fronts = _lane_array(), _lane_array()
                for i in range(ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)):
                    span = spans[n * TILE_HEIGHT + i - top]
                    first, last_column = left + span // SPAN_BASE, left + span % SPAN_BASE
                    for group in range((last_column - first + LANES - 1) // LANES):
                        begin = first + group * LANES
                        for lane in range(LANES):
                            here = stats[b, i, ti.min(begin + lane, width - 1)]
                            totals[lane], fronts[lane] = here.x, here.y
                        for lane in range(LANES):
                            j = begin + lane
                            p = pixel_center(i, j, height, width, half)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                            depth, at = surface(w, depths, interpolation)
                            shows = shows_color((x > least_logit) & (j < last_column), facing, depth, near, far)
                            lane_shares[lane] = share_of(totals[lane], fronts[lane], f, x, shows, depth, per_softness, rgb)
                            w0[lane], w1[lane], w2[lane] = at.x, at.y, at.z
                        for lane in range(LANES):
                            if lane_shares[lane] > negligible and m < offsets[n + 1]:
                                pixels[m], face_of[m], views[m] = (b * height + i) * width + begin + lane, f, b
                                weights[0, m], shares[0, m] = vec3(w0[lane], w1[lane], w2[lane]), lane_shares[lane]
                                m += 1
            for k in range(m, offsets[n + 1]):
                pixels[k], face_of[k], views[k], weights[0, k], shares[0, k] = -1, f, b, vec3(1.0, 0.0, 0.0), 0.0
    for q in range(rest):
        k = count + q
        pixels[k], face_of[k], views[k], weights[0, k], shares[0, k] = -1, 0, 0, vec3(1.0, 0.0, 0.0), 0.0


@ti.func
def _lane_array():
    """A local array with a number per lane."""
    return ti.Vector([0.0] * LANES)


@kernel
def _normalize_kernel(
    tile_offsets: Ints, members: Ints, offsets: Ints, pixels: Ints, shares: Shares, backgrounds: Pixels, totals: Floats,
    steps: int, pad: int, threads: int, rows: int, columns: int, tile_height: int, tile_width: int,
):  # fmt: skip
    """Make the shares of each pixel add up to 1: the last digit of a depth, over gamma, is more than the last digit of a share."""
    for q in range(steps):
        k = work_item(q, pad, threads, backgrounds.shape[0] * rows * columns)
        if k >= 0:
            height, width = backgrounds.shape[1], backgrounds.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    totals[(b * height + i) * width + j] = backgrounds[b, i, j]
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        totals[pixels[m]] = totals[pixels[m]] + shares[0, m]
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        shares[0, m] = shares[0, m] / totals[pixels[m]]
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    backgrounds[b, i, j] = backgrounds[b, i, j] / totals[(b * height + i) * width + j]


@operator
def _soft_fragments(
    screen: Array,
    faces: Array,
    settings: Settings,
    spans: Array,
    stats: Array,
    fragments: Fragments,
    weights: Array,
    shares: Array,
    alpha: Array,
    background: Array,
) -> None:
    t, o, on_cpu = fragments.tiles, fragments, runtime.device().arch == "cpu"
    (_list_tile_kernel if on_cpu else _list_kernel)(
        screen, faces, t.boxes, t.pair_faces, t.pair_tiles, *((spans,) if on_cpu else ()), stats, o.offsets,
        o.pixels, o.faces, o.views, weights, shares,
        *split(t.pairs), t.pairs, o.count, o.pixels.shape[0] - o.count, *(() if on_cpu else t.tile), t.rows, t.columns, _negligible(),
        *settings.numbers, *settings.modes,
    )  # fmt: skip
    if settings.rgb == SOFTMAX:
        _normalize_kernel(
            t.tile_offsets, t.members, o.offsets, o.pixels, shares, background, empty(float, math.prod(o.size)),
            *split(o.size[0] * t.rows * t.columns), t.rows, t.columns, *t.tile,
        )  # fmt: skip


# --- Adjoint ----------------------------------------------------------------------------------------------------


@kernel
def _pulls_kernel(
    tile_offsets: Ints, members: Ints, offsets: Ints, pixels: Ints, shares: Shares, backgrounds: Pixels,
    shares_grad: Shares, backgrounds_grad: Pixels, pulls: Floats,
    steps: int, pad: int, threads: int, rows: int, columns: int, tile_height: int, tile_width: int,
):  # fmt: skip
    """Per pixel, the sum of the shares times their gradients; a thread takes a tile, so nobody else adds to its pixels."""
    for q in range(steps):
        k = work_item(q, pad, threads, backgrounds.shape[0] * rows * columns)
        if k >= 0:
            height, width = backgrounds.shape[1], backgrounds.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    pulls[(b * height + i) * width + j] = backgrounds[b, i, j] * backgrounds_grad[b, i, j]
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        pulls[pixels[m]] = pulls[pixels[m]] + shares[0, m] * shares_grad[0, m]


@kernel
def _fragments_adjoint_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, stats: Stats, offsets: Ints, pixels: Ints,
    shares: Shares, opacities: Pixels, pulls: Floats, weights_grad: Points, shares_grad: Shares, opacities_grad: Pixels, corner_grads: Contributions,
    steps: int, pad: int, threads: int, pairs: int, tile_height: int, tile_width: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """A thread takes a pair, walks its pixels, and its listed fragments beside them."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            b, f, m = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], offsets[n]
            top, left = pair_tiles[n] // columns % rows * tile_height, pair_tiles[n] % columns * tile_width
            v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
            inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
            box = boxes[pair_faces[n]]
            a_sum, b_sum, c_sum, z_sum = vec2(0.0), vec2(0.0), vec2(0.0), vec3(0.0)
            for i in range(ti.max(box[0], top), ti.min(box[1], top + tile_height)):
                for j in range(ti.max(box[2], left), ti.min(box[3], left + tile_width)):
                    p = pixel_center(i, j, stats.shape[1], stats.shape[2], half)
                    w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                    x, offset, nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                    if x > least_logit:
                        x_grad = cover_adjoint(x, opacity_adjoint(opacities[b, i, j], opacities_grad[b, i, j], faces.shape[0], alpha), alpha)
                        if m < offsets[n + 1] and pixels[m] == (b * stats.shape[1] + i) * stats.shape[2] + j:
                            more, depth_grad = share_adjoint(x, shares[0, m] * (shares_grad[0, m] - pulls[pixels[m]]), per_softness, rgb)
                            x_grad += more
                            w_grad, z_grad = surface_adjoint(w, depths, interpolation, depth_grad, weights_grad[0, m])
                            a_grad, b_grad, c_grad = triangle.barycentrics_adjoint(v0.xy, v1.xy, v2.xy, w, w_grad)
                            a_sum += a_grad
                            b_sum += b_grad
                            c_sum += c_grad
                            z_sum += z_grad
                            m += 1
                        a_grad, b_grad, c_grad = logit_adjoint(v0.xy, v1.xy, v2.xy, w, offset, nearest, per_sigma, distance, x_grad)
                        a_sum += a_grad
                        b_sum += b_grad
                        c_sum += c_grad
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = vec3(a_sum, z_sum.x), vec3(b_sum, z_sum.y), vec3(c_sum, z_sum.z)


@kernel
def _fragments_tile_adjoint_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, spans: Ints, stats: Stats, offsets: Ints,
    pixels: Ints,
    shares: Shares, opacities: Pixels, pulls: Floats, weights_grad: Points, shares_grad: Shares, opacities_grad: Pixels, corner_grads: Contributions,
    steps: int, pad: int, threads: int, pairs: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """`_fragments_adjoint_kernel` for CPUs: what the list says is laid out over four pixels, then they are computed at once."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            height, width = stats.shape[1], stats.shape[2]
            b, f, m = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], offsets[n]
            top, left = pair_tiles[n] // columns % rows * TILE_HEIGHT, pair_tiles[n] % columns * TILE_WIDTH
            v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
            inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
            box = boxes[pair_faces[n]]
            sums = ti.Vector([0.0] * (POSITION_GRADS * LANES))
            for s in range(POSITION_GRADS * LANES):
                sums[s] = 0.0
            steps_here, lane_pulls, g0, g1, g2 = _lane_array(), _lane_array(), _lane_array(), _lane_array(), _lane_array()
            for i in range(ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)):
                span = spans[n * TILE_HEIGHT + i - top]
                first, last_column = left + span // SPAN_BASE, left + span % SPAN_BASE
                for group in range((last_column - first + LANES - 1) // LANES):
                    begin = first + group * LANES
                    start = (b * height + i) * width + begin
                    for lane in range(LANES):
                        j = ti.min(begin + lane, width - 1)
                        steps_here[lane] = opacity_adjoint(opacities[b, i, j], opacities_grad[b, i, j], faces.shape[0], alpha)
                        lane_pulls[lane], g0[lane], g1[lane], g2[lane] = 0.0, 0.0, 0.0, 0.0
                    listed = 1
                    while listed == 1:
                        listed = 0
                        if m < offsets[n + 1]:
                            lane = pixels[m] - start
                            if pixels[m] >= 0 and lane < ti.min(LANES, last_column - begin):
                                lane_pulls[lane & LANE_MASK] = shares[0, m] * (shares_grad[0, m] - pulls[pixels[m]])
                                grad = weights_grad[0, m]
                                g0[lane & LANE_MASK], g1[lane & LANE_MASK], g2[lane & LANE_MASK] = grad.x, grad.y, grad.z
                                m += 1
                                listed = 1
                    for lane in range(LANES):
                        j = begin + lane
                        p = pixel_center(i, j, height, width, half)
                        w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                        x, offset, nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                        more, depth_grad = share_adjoint(x, lane_pulls[lane], per_softness, rgb)
                        x_grad = ti.select((x > least_logit) & (j < last_column), cover_adjoint(x, steps_here[lane], alpha) + more, 0.0)
                        w_grad, z_grad = surface_adjoint(w, depths, interpolation, depth_grad, vec3(g0[lane], g1[lane], g2[lane]))
                        a_grad, b_grad, c_grad = logit_adjoint(v0.xy, v1.xy, v2.xy, w, offset, nearest, per_sigma, distance, x_grad)
                        a_more, b_more, c_more = triangle.barycentrics_adjoint(v0.xy, v1.xy, v2.xy, w, w_grad)
                        for c in ti.static(range(3)):
                            position_grad = (a_grad + a_more, b_grad + b_more, c_grad + c_more)[c]
                            sums[(3 * c + 0) * LANES + lane] += position_grad.x
                            sums[(3 * c + 1) * LANES + lane] += position_grad.y
                            sums[(3 * c + 2) * LANES + lane] += z_grad[c]
            for c in ti.static(range(3)):
                position_grad = vec3(0.0)
                for lane in range(LANES):
                    for axis in ti.static(range(3)):
                        position_grad[axis] += sums[(3 * c + axis) * LANES + lane]
                corner_grads[n, c] = position_grad


@_soft_fragments.adjoint
def _soft_fragments_adjoint(
    screen: Array,
    faces: Array,
    settings: Settings,
    spans: Array,
    stats: Array,
    fragments: Fragments,
    weights: Array,
    shares: Array,
    alpha: Array,
    background: Array,
) -> None:
    if screen.grad is None:
        return
    t, o = fragments.tiles, fragments
    pulls, corner_grads = empty(float, math.prod(o.size)), empty(vec3, (room(t.pairs), 3))
    _pulls_kernel(
        t.tile_offsets, t.members, o.offsets, o.pixels, shares, background, shares.grad, background.grad, pulls,
        *split(o.size[0] * t.rows * t.columns), t.rows, t.columns, *t.tile,
    )  # fmt: skip
    on_cpu = runtime.device().arch == "cpu"
    (_fragments_tile_adjoint_kernel if on_cpu else _fragments_adjoint_kernel)(
        screen, faces, t.boxes, t.pair_faces, t.pair_tiles, *((spans,) if on_cpu else ()), stats, o.offsets, o.pixels,
        shares, alpha, pulls, weights.grad, shares.grad, alpha.grad, corner_grads,
        *split(t.pairs), t.pairs, *(() if on_cpu else t.tile), t.rows, t.columns, *settings.numbers, *settings.modes,
    )  # fmt: skip
    gather_corners(t.face_offsets, faces, o.size[0], (corner_grads, screen.grad))
