"""The visible surface: at every pixel the nearest face that holds its center, and where on the face the center is.

Two faces that share an edge never both hold a pixel, nor both miss it: corners are rounded to a grid much finer than pixels,
so that on which side of an edge a pixel is comes out exactly in whole numbers, and a pixel on an edge belongs to the face that
has it as a left or a top edge,

    E(p) = (v_x - u_x) (p_y - u_y) - (v_y - u_y) (p_x - u_x) > 0,  or = 0 on a left or top edge u -> v,   y down

The choice of the face has no gradient; the place on it has. Source: Pineda, "A parallel algorithm for polygon rasterization",
SIGGRAPH 1988; the split into a discrete choice and a smooth rest as in DRTK and nvdiffrast's paper (Laine et al., 2020).
"""

from dataclasses import dataclass
from functools import cached_property

import taichi as ti

from .. import runtime
from ..arrays import (
    Array,
    Faces,
    Ints,
    Points,
    batch_size,
    empty,
    expect,
    fill,
    image_size,
    is_finite,
    split,
    unrecorded,
    vec2,
    vec3,
    work_item,
    zero,
)
from ..launch import kernel
from ..tape import operator
from . import triangle
from .composite import Names
from .fragment import PARALLEL
from .fragments import Contributions, Fragments, Pixels, Shares, count_offsets, room
from .gather import gather_corners
from .settings import interpolation_of, kept_turn
from .soft import GPU_TILE
from .tiles import Boxes, TileLists, corners, pair_pixels, pixel_center, tile_lists

Corners = ti.types.ndarray(dtype=ti.math.ivec2, ndim=2, needs_grad=False)  # (B, V): pixels times GRID, right and down
ivec2 = ti.math.ivec2

TILE_HEIGHT, TILE_WIDTH = CPU_TILE = 16, 32  # larger than the soft rasterizer's, since little is kept of a pixel
GRID = 1 << 14  # steps of a pixel that corners are rounded to; float32 does not tell finer ones apart in an image of 1024
FARTHEST = 1 << 29  # of a corner, in steps: then 64 bits hold E


@dataclass(frozen=True, eq=False)
class Visible:
    """What is seen at each pixel of a screen."""

    screen: Array
    faces: Array
    tiles: TileLists
    interpolation: int
    face_ids: Array  # (B, H, W) of i32, -1 where nothing is; no gradient: a choice
    depths: Array  # (B, H, W), as compared with each other; no gradient, `interpolate` the depths of vertices for one that has

    @cached_property
    def fragments(self) -> Fragments:
        """The pixels as a list, one fragment for each that shows a face, with a share of 1, made when it is first asked for.

        What is computed for fragments (`raster.interpolate`, textures, shading, `composite`) is so computed for the visible
        surface by the same operators.
        """
        return _fragments(self)


def rasterize(
    screen: Array,
    faces: Array,
    size: int | tuple[int, int],
    *,
    orthographic: bool = False,
    clockwise_front: bool = False,
    cull: str | None = None,
    behind: Visible | None = None,
) -> Visible:
    """The nearest face at every pixel.

    Args:
        screen: projected vertices, (B, V) of vec3, as of `project`. Faces with a corner at or behind the camera are left out.
        faces: vertex indices, (F,) of ivec3. Not to be changed in place: make a new array instead.
        size: pixels, (height, width), or one number for a square.
        orthographic: of a parallel projection, where depth is linear on the screen.
        clockwise_front: faces seen from the front are clockwise on the screen, as in SoftRas's mirrored frame.
        cull: leave out "back" or "front" faces.
        behind: of the same screen: the nearest face behind that one, layer by layer (depth peeling). Of faces at one depth,
            that with the lower number comes first.

    Returns:
        Face numbers and depths, and on request the list of fragments with their weights in space.

    Differentiable in `screen`, through what is interpolated. Not in which face is seen: see `antialias` and
    `microedges` for what the edges do.

    Raises:
        ValueError: wrong shapes or types, a face index out of range, an unknown cull, a `behind` of another size.

    Source: Pineda, SIGGRAPH 1988; Everitt, "Interactive order-independent transparency", 2001 (layers).
    """
    expect("screen", screen, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)
    height, width = image_size(size)
    shape = (batch_size(screen=screen.shape[0]), height, width)
    if behind is not None and tuple(behind.face_ids.shape) != shape:
        raise ValueError(f"behind: expected pictures of shape {shape}, got {tuple(behind.face_ids.shape)}; give what `rasterize` made of this screen")
    on_cpu = runtime.device().arch == "cpu"
    reach = 8.0 / (GRID * min(height, width))  # a few steps, since rounding moves corners
    tile, keep = CPU_TILE if on_cpu else (GPU_TILE, GPU_TILE), kept_turn(cull, clockwise_front)
    tiles = tile_lists(screen, faces, shape[0], height, width, reach, tile, keep, ordered=False)
    seen = Visible(screen, faces, tiles, interpolation_of(True, orthographic), empty(int, shape), empty(float, shape))
    snapped, before = empty(ivec2, screen.shape), seen if behind is None else behind
    arrays = (screen, snapped, faces, tiles.boxes, tiles.pair_faces, tiles.tile_offsets, tiles.members)
    pictures = (before.face_ids, before.depths, seen.face_ids, seen.depths)
    cells, modes = shape[0] * tiles.rows * tiles.columns, (tiles.rows, tiles.columns, behind is not None, seen.interpolation)
    with unrecorded():
        _snap_kernel(screen, snapped, height, width)
        if on_cpu:
            fill(seen.face_ids, -1)
            zero(seen.depths)
            _tile_kernel(*arrays, *pictures, *split(cells), *modes)
        else:
            _pixel_kernel(*arrays, *pictures, cells * GPU_TILE**2, *modes)
    return seen


# --- Which face ---------------------------------------------------------------------------------------------------


@kernel
def _snap_kernel(screen: Points, snapped: Corners, height: int, width: int):
    for b, v in ti.ndrange(screen.shape[0], screen.shape[1]):
        p = ivec2(0)
        if is_finite(screen[b, v]):
            half, center = 0.5 * ti.min(height, width), 0.5 * vec2(width - 1, height - 1)
            place = (center + half * vec2(screen[b, v].x, -screen[b, v].y)) * GRID
            p = ivec2(ti.cast(ti.round(ti.math.clamp(place, -float(FARTHEST), float(FARTHEST))), int))
        snapped[b, v] = p


@ti.func
def _edge(u, v, turn, x, y):
    """E at (x, y), its steps to the right and down by a pixel, and the least E that counts as inside."""
    dx, dy = ti.cast(v.x - u.x, ti.i64) * turn, ti.cast(v.y - u.y, ti.i64) * turn
    inside = dx * (y - u.y) - dy * (x - u.x)
    is_left_or_top = dy < 0 or (dy == 0 and dx > 0)
    return inside, -dy * GRID, dx * GRID, ti.select(is_left_or_top, 0, 1)


@ti.func
def _doubled_area(a, b, c):
    return ti.cast(b.x - a.x, ti.i64) * (c.y - a.y) - ti.cast(b.y - a.y, ti.i64) * (c.x - a.x)


@ti.func
def _corner_shares(z, area, interpolation: ti.template()):
    """By which E of the edge opposite a corner is multiplied, for a sum that is the depth, or one over it in perspective."""
    shares = z
    if ti.static(interpolation != PARALLEL):
        shares = 1.0 / z
    return shares / ti.abs(float(area))


@ti.func
def _depth(total, interpolation: ti.template()):
    depth = total
    if ti.static(interpolation != PARALLEL):
        depth = 1.0 / total
    return depth


@ti.func
def _comes_after(depth, f: int, depth_before, f_before: int):
    """Whether a face is behind the layer before; behind nothing is nothing."""
    return f_before >= 0 and (depth > depth_before or (depth == depth_before and f > f_before))


@kernel
def _tile_kernel(
    screen: Points, snapped: Corners, faces: Faces, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    ids_before: Names, depths_before: Pixels, face_ids: Names, depths: Pixels,
    steps: int, pad: int, threads: int, rows: int, columns: int, peeled: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    """For CPUs: a thread takes a tile."""
    for q in range(steps):
        k = work_item(q, pad, threads, face_ids.shape[0] * rows * columns)
        if k >= 0:
            b, top, left = k // (rows * columns), k // columns % rows * TILE_HEIGHT, k % columns * TILE_WIDTH
            for m in range(tile_offsets[k], tile_offsets[k + 1]):
                n = members[m]
                f, box, row = pair_faces[n] % faces.shape[0], boxes[pair_faces[n]], b % screen.shape[0]
                face = faces[f]
                p0, p1, p2 = snapped[row, face.x], snapped[row, face.y], snapped[row, face.z]
                area = _doubled_area(p0, p1, p2)
                if area != 0:
                    turn = ti.select(area > 0, ti.cast(1, ti.i64), ti.cast(-1, ti.i64))
                    i0, i1 = ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)
                    j0, j1 = ti.max(box[2], left), ti.min(box[3], left + TILE_WIDTH)
                    x, y = ti.cast(j0 * GRID, ti.i64), ti.cast(i0 * GRID, ti.i64)
                    e0, right0, down0, least0 = _edge(p1, p2, turn, x, y)
                    e1, right1, down1, least1 = _edge(p2, p0, turn, x, y)
                    e2, right2, down2, least2 = _edge(p0, p1, turn, x, y)
                    z = _corner_shares(vec3(screen[row, face.x].z, screen[row, face.y].z, screen[row, face.z].z), area, interpolation)
                    for i in range(i0, i1):
                        a, c, d = e0 - least0, e1 - least1, e2 - least2
                        for j in range(j0, j1):
                            if (a | c | d) >= 0:  # no sign is set
                                depth = _depth(float(a + least0) * z.x + float(c + least1) * z.y + float(d + least2) * z.z, interpolation)
                                shown = face_ids[b, i, j] < 0 or depth < depths[b, i, j]
                                if ti.static(peeled):
                                    shown = shown and _comes_after(depth, f, depths_before[b, i, j], ids_before[b, i, j])
                                if shown:
                                    face_ids[b, i, j], depths[b, i, j] = f, depth
                            a, c, d = a + right0, c + right1, d + right2
                        e0, e1, e2 = e0 + down0, e1 + down1, e2 + down2


@kernel
def _pixel_kernel(
    screen: Points, snapped: Corners, faces: Faces, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    ids_before: Names, depths_before: Pixels, face_ids: Names, depths: Pixels,
    steps: int, rows: int, columns: int, peeled: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    """For GPUs: a thread takes a pixel, a block a tile, and all walk the tile's faces together."""
    ti.loop_config(block_dim=GPU_TILE * GPU_TILE)
    for q in range(steps):
        k, local = q // (GPU_TILE * GPU_TILE), q % (GPU_TILE * GPU_TILE)
        b = k // (rows * columns)
        i, j = k // columns % rows * GPU_TILE + local // GPU_TILE, k % columns * GPU_TILE + local % GPU_TILE
        if i < face_ids.shape[1] and j < face_ids.shape[2]:
            nearest, owner, id_before, depth_before = 0.0, -1, -1, 0.0
            if ti.static(peeled):
                id_before, depth_before = ids_before[b, i, j], depths_before[b, i, j]
            for m in range(tile_offsets[k], tile_offsets[k + 1]):
                n = members[m]
                f, box, row = pair_faces[n] % faces.shape[0], boxes[pair_faces[n]], b % screen.shape[0]
                if box[0] <= i and i < box[1] and box[2] <= j and j < box[3]:
                    face = faces[f]
                    p0, p1, p2 = snapped[row, face.x], snapped[row, face.y], snapped[row, face.z]
                    area = _doubled_area(p0, p1, p2)
                    turn = ti.select(area > 0, ti.cast(1, ti.i64), ti.cast(-1, ti.i64))
                    x, y = ti.cast(j * GRID, ti.i64), ti.cast(i * GRID, ti.i64)
                    e0, _r0, _d0, least0 = _edge(p1, p2, turn, x, y)
                    e1, _r1, _d1, least1 = _edge(p2, p0, turn, x, y)
                    e2, _r2, _d2, least2 = _edge(p0, p1, turn, x, y)
                    if area != 0 and e0 >= least0 and e1 >= least1 and e2 >= least2:
                        z = _corner_shares(vec3(screen[row, face.x].z, screen[row, face.y].z, screen[row, face.z].z), area, interpolation)
                        depth = _depth(float(e0) * z.x + float(e1) * z.y + float(e2) * z.z, interpolation)
                        shown = owner < 0 or depth < nearest or (depth == nearest and f < owner)  # members are in no order
                        if ti.static(peeled):
                            shown = shown and _comes_after(depth, f, depth_before, id_before)
                        if shown:
                            nearest, owner = depth, f
            face_ids[b, i, j], depths[b, i, j] = owner, nearest


# --- Where on the face --------------------------------------------------------------------------------------------


@ti.func
def corner_nearness(v0, v1, v2, zero: float, interpolation: ti.template()):
    """By which weights on the screen are multiplied for weights in space: 1 / z of the corners, or 1 in a parallel projection.

    `zero` is 0. LLVM cannot know, and so leaves products with an inverse instead of making them divisions for each pixel.
    """
    nearness = vec3(1.0)
    if ti.static(interpolation != PARALLEL):
        nearness = 1.0 / vec3(v0.z, v1.z, v2.z) + zero
    return nearness


@ti.func
def place(w, nearness):
    """Weights in space at screen barycentrics w, which rounding may have put outside: w_k n_k / sum_j w_j n_j, none below 0."""
    inside = ti.max(w, 0.0) * nearness
    return inside * (1.0 / inside.sum())


@ti.func
def place_adjoint(w, nearness, value, value_grad, interpolation: ti.template()):
    """Gradients of w and of the corner depths z; `value` is place(w, nearness)."""
    change, w_grad, z_grad = value_grad - value.dot(value_grad), vec3(0.0), vec3(0.0)
    per_total = 1.0 / (ti.max(w, 0.0) * nearness).sum()
    for k in ti.static(range(3)):
        w_grad[k] = ti.select(w[k] > 0.0, change[k] * nearness[k] * per_total, 0.0)
    if ti.static(interpolation != PARALLEL):
        z_grad = -change * value * nearness
    return w_grad, z_grad


# --- Its pixels as a list -----------------------------------------------------------------------------------------


def _fragments(seen: Visible) -> Fragments:
    tiles, shape = seen.tiles, tuple(seen.face_ids.shape)
    counts, alpha, background = empty(int, room(tiles.pairs + 1)), empty(float, shape, needs_grad=True), empty(float, shape, needs_grad=True)
    with unrecorded():
        _count_kernel(
            tiles.boxes, tiles.pair_faces, tiles.pair_tiles, seen.face_ids, counts, alpha, background,
            *split(tiles.pairs), tiles.pairs, seen.faces.shape[0], *tiles.tile, tiles.rows, tiles.columns,
            runtime.device().arch == "cpu",
        )  # fmt: skip
    count = count_offsets(counts, tiles.pairs)
    length = room(count)
    pixels, face_of, views = (empty(int, length) for _ in range(3))
    weights, shares = empty(vec3, (1, length), needs_grad=True), empty(float, (1, length), needs_grad=True)
    fragments = Fragments(shape, count, pixels, face_of, views, weights, shares, alpha, background, counts, tiles, seen.faces.shape[0])
    _visible(seen.screen, seen, fragments, weights)
    return fragments


@kernel
def _count_kernel(
    boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, face_ids: Names, counts: Ints, alpha: Pixels, background: Pixels,
    steps: int, pad: int, threads: int, pairs: int, face_count: int, tile_height: int, tile_width: int, rows: int, columns: int,
    by_row: ti.template(),
):  # fmt: skip
    """How many pixels each pair shows, and where any does."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            b, f, found = pair_faces[n] // face_count, pair_faces[n] % face_count, 0
            i0, i1, j0, j1 = pair_pixels(boxes, pair_faces, pair_tiles, n, tile_height, tile_width, rows, columns)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    found += int(face_ids[b, i, j] == f)
            counts[n] = found
    if ti.static(by_row):  # on CPUs, where LLVM then computes several pixels at once
        for k in range(face_ids.shape[0] * face_ids.shape[1]):
            b, i = k // face_ids.shape[1], k % face_ids.shape[1]
            for j in range(face_ids.shape[2]):
                alpha[b, i, j] = ti.select(face_ids[b, i, j] >= 0, 1.0, 0.0)
                background[b, i, j] = ti.select(face_ids[b, i, j] >= 0, 0.0, 1.0)
    else:
        for b, i, j in face_ids:
            alpha[b, i, j] = ti.select(face_ids[b, i, j] >= 0, 1.0, 0.0)
            background[b, i, j] = ti.select(face_ids[b, i, j] >= 0, 0.0, 1.0)


@kernel
def _list_kernel(
    screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, face_ids: Names, offsets: Ints,
    pixels: Ints, face_of: Ints, views: Ints, weights: Points, shares: Shares,
    steps: int, pad: int, threads: int, pairs: int, rest: int, tile_height: int, tile_width: int, rows: int, columns: int,
    half: float, zero: float, interpolation: ti.template(),
):  # fmt: skip
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0 and offsets[n + 1] > offsets[n]:
            height, width = face_ids.shape[1], face_ids.shape[2]
            b, f, m = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], offsets[n]
            v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
            nearness = corner_nearness(v0, v1, v2, zero, interpolation)
            i0, i1, j0, j1 = pair_pixels(boxes, pair_faces, pair_tiles, n, tile_height, tile_width, rows, columns)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    if face_ids[b, i, j] == f:
                        w = triangle.barycentrics(pixel_center(i, j, height, width, half), v0.xy, v1.xy, v2.xy)
                        pixels[m], face_of[m], views[m] = (b * height + i) * width + j, f, b
                        weights[0, m], shares[0, m] = place(w, nearness), 1.0
                        m += 1
    for q in range(rest):
        k = offsets[pairs] + q
        pixels[k], face_of[k], views[k], weights[0, k], shares[0, k] = -1, 0, 0, vec3(1.0, 0.0, 0.0), 0.0


@operator
def _visible(screen: Array, seen: Visible, fragments: Fragments, weights: Array) -> None:
    t, o = seen.tiles, fragments
    _list_kernel(
        screen, seen.faces, t.boxes, t.pair_faces, t.pair_tiles, seen.face_ids, o.offsets, o.pixels, o.faces, o.views, weights, o.shares,
        *split(t.pairs), t.pairs, o.pixels.shape[0] - o.count, *t.tile, t.rows, t.columns, 1 / min(o.size[1:]), 0.0, seen.interpolation,
    )  # fmt: skip


@kernel
def _visible_adjoint_kernel(
    screen: Points, faces: Faces, pair_faces: Ints, offsets: Ints, pixels: Ints, weights: Points, weights_grad: Points,
    corner_grads: Contributions, height: int, width: int, half: float, zero: float,
    steps: int, pad: int, threads: int, pairs: int, interpolation: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, and sums over its pixels."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            a_sum, b_sum, c_sum, z_sum = vec2(0.0), vec2(0.0), vec2(0.0), vec3(0.0)
            if offsets[n + 1] > offsets[n]:
                f, row = pair_faces[n] % faces.shape[0], pair_faces[n] // faces.shape[0] % screen.shape[0]
                v0, v1, v2 = screen[row, faces[f].x], screen[row, faces[f].y], screen[row, faces[f].z]
                nearness = corner_nearness(v0, v1, v2, zero, interpolation)
                for m in range(offsets[n], offsets[n + 1]):
                    i, j = pixels[m] // width % height, pixels[m] % width
                    w = triangle.barycentrics(pixel_center(i, j, height, width, half), v0.xy, v1.xy, v2.xy)
                    w_grad, z_grad = place_adjoint(w, nearness, weights[0, m], weights_grad[0, m], interpolation)
                    a_grad, b_grad, c_grad = triangle.barycentrics_adjoint(v0.xy, v1.xy, v2.xy, w, w_grad)
                    a_sum += a_grad
                    b_sum += b_grad
                    c_sum += c_grad
                    z_sum += z_grad
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = vec3(a_sum, z_sum.x), vec3(b_sum, z_sum.y), vec3(c_sum, z_sum.z)


@_visible.adjoint
def _visible_adjoint(screen: Array, seen: Visible, fragments: Fragments, weights: Array) -> None:
    if screen.grad is None:
        return
    t, o = seen.tiles, fragments
    corner_grads = empty(vec3, (room(t.pairs), 3))
    _visible_adjoint_kernel(
        screen, seen.faces, t.pair_faces, o.offsets, o.pixels, weights, weights.grad, corner_grads,
        *o.size[1:], 1 / min(o.size[1:]), 0.0, *split(t.pairs), t.pairs, seen.interpolation,
    )  # fmt: skip
    gather_corners(t.face_offsets, seen.faces, o.size[0], (corner_grads, screen.grad))
