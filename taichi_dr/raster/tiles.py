"""Which faces touch which tile of the image: count, offset, fill. Integers only; nothing here has a gradient.

The lists are sized by counting first, so they cannot overflow, and both orders are ascending, so that whatever is
summed along a list is summed in the same order in every run.
"""

from typing import NamedTuple

import taichi as ti

from .. import runtime
from ..arrays import Array, Faces, Floats, Ints, Points, capacity, empty, is_finite, ivec4, split, unrecorded, vec2
from ..launch import kernel
from .triangle import doubled_area

MIN_DEPTH = 1e-6  # a face with a corner at or behind the camera has no place on the screen
MIN_AREA = 1e-10  # twice the screen area under which a face is a line
Boxes = ti.types.ndarray(dtype=ivec4, ndim=1, needs_grad=False)  # (B F,): pixels row0, row1, column0, column1, half-open
MOST_PAIRS = 2e9  # that 32 bits count
SMALL = 1 << 14  # simple things that take a CPU's thread about 10 us
RUN = 64  # length of the runs that one pass of ranks sorts
TOGETHER = 32  # pairs in a row that a thread takes, mostly of one tile, so that its pixels stay near


class TileLists(NamedTuple):
    """Pairs of a face and a tile it touches, in two orders.

    By face: face f of view b has the pairs face_offsets[k] ... face_offsets[k + 1] - 1 with k = b F + f; pair n is
    of face pair_faces[n] = b F + f and tile pair_tiles[n] = b rows columns + t. By tile: tile t of view b has the
    pairs members[tile_offsets[k]] ... members[tile_offsets[k + 1] - 1] with k = b rows columns + t.
    """

    boxes: Array  # (B F,) pixels that each face may touch
    face_offsets: Array
    pair_faces: Array
    pair_tiles: Array
    pairs: int
    tile_offsets: Array
    members: Array
    tile: tuple[int, int]  # its rows and columns of pixels
    rows: int  # of tiles
    columns: int


def tile_lists(
    screen: Array, faces: Array, batch: int, height: int, width: int, radius: float, tile: tuple[int, int], keep: int = 0, ordered: bool = True
) -> TileLists:  # fmt: skip
    """Pair, in every view, each face with the tiles that its bounding box grown by `radius` touches.

    Faces with a corner that is not finite, at or behind the camera, and faces without area have no pairs; with `keep` 1
    nor have those that are clockwise on the screen, with -1 those that are counter-clockwise. Where nothing is summed along the
    lists of tiles they need not be `ordered`, which spares a GPU the sorting.

    Raises:
        ValueError: a face index outside of the vertices, or more pairs than 32 bits count.
    """
    rows, columns = -(-height // tile[0]), -(-width // tile[1])
    views_faces, views_tiles = batch * faces.shape[0], batch * rows * columns
    face_offsets, tile_offsets = empty(int, views_faces + 1), empty(int, views_tiles + 1)
    boxes = empty(ivec4, views_faces)
    sums, size, first_bad = empty(int, max(sum_blocks(views_faces)[1], sum_blocks(views_tiles)[1])), empty(float, 1), empty(int, 1)
    with unrecorded():
        arguments = (screen, faces, boxes, face_offsets, sums, size, first_bad, height, width, radius, *tile, keep)
        _count_pairs_kernel(*arguments, *sum_blocks(views_faces), is_small(views_faces))
        pairs = face_offsets[views_faces]
        if pairs < 0 and first_bad[0] < faces.shape[0]:
            bad = first_bad[0]
            raise ValueError(f"faces: expected indices from 0 to {screen.shape[1] - 1}, got {list(faces[bad])} in face {bad}; fix or drop that face")
        if pairs < 0:
            raise ValueError(f"screen: {size[0]:.3g} pairs of face and tile in one call, at most 2e9 fit; render fewer views at a time")
        pair_faces, pair_tiles, members = (empty(int, capacity(pairs)) for _ in range(3))
        cursors = empty(int, views_tiles)
        arguments = (boxes, face_offsets, pair_faces, pair_tiles, tile_offsets, cursors, sums, size, members)
        on_cpu = runtime.device().arch == "cpu"
        _fill_kernel(*arguments, pairs, faces.shape[0], *tile, rows, columns, *sum_blocks(views_tiles), is_small(pairs + views_tiles), on_cpu)
        if ordered and not on_cpu:
            members = _sorted_lists(tile_offsets, members, views_tiles, pairs)
    return TileLists(boxes, face_offsets, pair_faces, pair_tiles, pairs, tile_offsets, members, tile, rows, columns)


def sum_blocks(n: int) -> tuple[int, int]:
    """Length and number of the blocks of a running sum over n counts, both about sqrt(n)."""
    block = max(1, int(n**0.5))
    return block, -(-n // block)


def split_pairs(pairs: int) -> tuple[int, int, int]:
    """(steps, pad, threads) of a loop over pairs tile by tile: `for q in range(steps): n = pair_at(q, pad, threads, pairs, members)`."""
    runs = TOGETHER * runtime.device().threads
    return split(-(-pairs // runs) * runs)


def is_small(n: int) -> bool:
    """Whether a CPU does n simple things in less time than it takes to wake a second thread."""
    return runtime.device().arch == "cpu" and n <= SMALL


# --- In kernels -------------------------------------------------------------------------------------------------


@ti.func
def pixel_center(row: int, column: int, height: int, width: int, half: float):
    """Screen position of a pixel's center; half = 1 / min(height, width) is half a pixel."""
    return vec2((2 * column + 1 - width) * half, (height - 1 - 2 * row) * half)


@ti.func
def floor(x):
    """The largest whole number that is not more than x, as an integer. On CPUs without SSE 4.1 `ti.floor` is a call."""
    whole = int(x)  # towards 0
    return whole - ti.cast(whole > x, int)


@ti.func
def ceiling(x):
    """The smallest whole number that is not less than x, as an integer."""
    whole = int(x)
    return whole + ti.cast(whole < x, int)


@ti.func
def pixel_box(a, b, c, radius, height: int, width: int):
    """The pixels (row0, row1, column0, column1), half-open, with centers in the bounding box of (a, b, c) grown by `radius`."""
    side = float(ti.min(height, width))
    low, high = ti.min(a, b, c) - radius, ti.max(a, b, c) + radius
    column0 = ceiling(ti.math.clamp(0.5 * (low.x * side + width - 1), 0.0, float(width)))
    column1 = floor(ti.math.clamp(0.5 * (high.x * side + width - 1), -1.0, width - 1.0)) + 1
    row0 = ceiling(ti.math.clamp(0.5 * (height - 1 - high.y * side), 0.0, float(height)))
    row1 = floor(ti.math.clamp(0.5 * (height - 1 - low.y * side), -1.0, height - 1.0)) + 1
    return ivec4(row0, row1, column0, column1)


@ti.func
def corners(screen: ti.template(), faces: ti.template(), b: int, f: int):
    """The three screen vertices of face f in view b."""
    return screen[b, faces[f].x], screen[b, faces[f].y], screen[b, faces[f].z]


@ti.func
def face_box(screen: ti.template(), faces: ti.template(), b: int, f: int, radius, height: int, width: int, keep: int):
    """`pixel_box` of face f, empty for a face that cannot be drawn."""
    v0, v1, v2 = corners(screen, faces, b, f)
    box = ivec4(0)
    # Fused multiply-adds may give a face that names a vertex twice a small area.
    distinct = faces[f].x != faces[f].y and faces[f].y != faces[f].z and faces[f].z != faces[f].x
    area = doubled_area(v0.xy, v1.xy, v2.xy)
    if distinct and is_finite(v0 + v1 + v2) and ti.min(v0.z, v1.z, v2.z) > MIN_DEPTH and ti.abs(area) > MIN_AREA and area * keep >= 0.0:
        box = pixel_box(v0.xy, v1.xy, v2.xy, radius, height, width)
    if box[0] >= box[1] or box[2] >= box[3]:
        box = ivec4(0)
    return box


@ti.func
def pair_at(q: int, pad: int, threads: int, pairs: int, members: ti.template()):
    """The pair of step q of a loop laid out by `split_pairs`, -1 for none."""
    per_thread, n = (pairs + TOGETHER * threads - 1) // (TOGETHER * threads) * TOGETHER, -1
    step, thread = q // pad % per_thread, q // pad // per_thread
    k = (step // TOGETHER * threads + thread) * TOGETHER + step % TOGETHER
    if q % pad == 0 and k < pairs:
        n = members[k]
    return n


@ti.func
def pair_pixels(
    boxes: ti.template(), pair_faces: ti.template(), pair_tiles: ti.template(), n: int, tile_height: int, tile_width: int, rows: int, columns: int
):  # fmt: skip
    """The pixels (row0, row1, column0, column1), half-open, of the box of pair n's face that its tile holds."""
    box, top, left = boxes[pair_faces[n]], pair_tiles[n] // columns % rows * tile_height, pair_tiles[n] % columns * tile_width
    return ti.max(box[0], top), ti.min(box[1], top + tile_height), ti.max(box[2], left), ti.min(box[3], left + tile_width)


@ti.func
def tile_range(box, tile_height: int, tile_width: int):
    """Half-open ranges (row0, row1, column0, column1) of the tiles that hold the pixels of a box."""
    row1, column1 = (box[1] + tile_height - 1) // tile_height, (box[3] + tile_width - 1) // tile_width
    return box[0] // tile_height, row1, box[2] // tile_width, column1


@ti.func
def prefix_sum(offsets: ti.template(), n: int, block: int, blocks: int, serial: ti.template(), sums: ti.template(), size: ti.template()):
    """Turn the counts in offsets[0 ... n - 1] into their running sums, offsets[0] = 0 to offsets[n], block by block.

    `size` gets the total as a float: it shows an overflow that the integers wrap over.
    """
    ti.loop_config(serialize=serial)
    for q in range(blocks):
        s = 0
        for k in range(q * block, ti.min((q + 1) * block, n)):
            s += offsets[k]
        sums[q] = s
    ti.loop_config(serialize=True)
    for _ in range(1):
        s = 0
        size[0] = 0.0
        for q in range(blocks):
            here = sums[q]
            sums[q] = s
            s += here
            size[0] += float(here)
        offsets[n] = s
    ti.loop_config(serialize=serial)
    for q in range(blocks):
        s = sums[q]
        for k in range(q * block, ti.min((q + 1) * block, n)):
            here = offsets[k]
            offsets[k] = s
            s += here


@kernel
def _count_pairs_kernel(
    screen: Points, faces: Faces, boxes: Boxes, face_offsets: Ints, sums: Ints, size: Floats, first_bad: Ints,
    height: int, width: int, radius: float, tile_height: int, tile_width: int, keep: int, block: int, blocks: int, serial: ti.template(),
):  # fmt: skip
    ti.loop_config(serialize=True)
    for _ in range(1):
        first_bad[0] = faces.shape[0]
    ti.loop_config(serialize=serial)
    for f in range(faces.shape[0]):
        if ti.min(faces[f].x, faces[f].y, faces[f].z) < 0 or ti.max(faces[f].x, faces[f].y, faces[f].z) >= screen.shape[1]:
            ti.atomic_min(first_bad[0], f)
    for k in range(face_offsets.shape[0] - 1):
        face_offsets[k] = 0
        if first_bad[0] == faces.shape[0]:
            b, f = k // faces.shape[0], k % faces.shape[0]
            boxes[k] = face_box(screen, faces, b % screen.shape[0], f, radius, height, width, keep)
            ty0, ty1, tx0, tx1 = tile_range(boxes[k], tile_height, tile_width)
            face_offsets[k] = (ty1 - ty0) * (tx1 - tx0)
    prefix_sum(face_offsets, face_offsets.shape[0] - 1, block, blocks, serial, sums, size)
    ti.loop_config(serialize=True)
    for _ in range(1):
        if first_bad[0] < faces.shape[0] or size[0] > MOST_PAIRS:
            face_offsets[face_offsets.shape[0] - 1] = -1  # the host reads one number, since a GPU stops for each


@kernel
def _fill_kernel(
    boxes: Boxes, face_offsets: Ints, pair_faces: Ints, pair_tiles: Ints, tile_offsets: Ints, cursors: Ints,
    sums: Ints, size: Floats, members: Ints,
    pairs: int, face_count: int, tile_height: int, tile_width: int, rows: int, columns: int, block: int, blocks: int,
    serial: ti.template(), in_order: ti.template(),
):  # fmt: skip
    for k in range(face_offsets.shape[0] - 1):
        b, n = k // face_count, face_offsets[k]
        ty0, ty1, tx0, tx1 = tile_range(boxes[k], tile_height, tile_width)
        for ty in range(ty0, ty1):
            for tx in range(tx0, tx1):
                pair_faces[n] = k
                pair_tiles[n] = (b * rows + ty) * columns + tx
                n += 1
    ti.loop_config(serialize=serial)
    for k in range(cursors.shape[0]):
        tile_offsets[k] = 0
    ti.loop_config(serialize=serial)
    for n in range(pairs):
        ti.atomic_add(tile_offsets[pair_tiles[n]], 1)
    prefix_sum(tile_offsets, cursors.shape[0], block, blocks, serial, sums, size)
    ti.loop_config(serialize=serial)
    for k in range(cursors.shape[0]):
        cursors[k] = tile_offsets[k]
    # Pairs are in the order of faces: a CPU thread that walks them writes every tile's list in that order.
    ti.loop_config(serialize=in_order)
    for n in range(pairs):
        members[ti.atomic_add(cursors[pair_tiles[n]], 1)] = n


def lists_by_key(keys: Array, groups: int) -> tuple[Array, Array]:
    """The indices of `keys`, (N,), sorted by key: those with key k are members[offsets[k]:offsets[k + 1]], ascending.

    Keys run from 0 to `groups`; the last, `groups` itself, is for what belongs nowhere.
    """
    count = keys.shape[0]
    offsets, cursors, members = empty(int, groups + 2), empty(int, groups + 1), empty(int, capacity(count))
    block, blocks = sum_blocks(groups + 1)
    with unrecorded():
        _group_kernel(keys, offsets, cursors, members, empty(int, blocks), empty(float, 1), groups + 1, block, blocks)
        return offsets, _sorted_lists(offsets, members, groups, offsets[groups])


@kernel
def _group_kernel(
    keys: Ints, offsets: Ints, cursors: Ints, members: Ints, sums: Ints, size: Floats,
    groups: int, block: int, blocks: int,
):  # fmt: skip
    for k in range(groups):
        offsets[k] = 0
    for n in range(keys.shape[0]):
        ti.atomic_add(offsets[keys[n]], 1)
    prefix_sum(offsets, groups, block, blocks, False, sums, size)
    for k in range(groups):
        cursors[k] = offsets[k]
    for n in range(keys.shape[0]):
        members[ti.atomic_add(cursors[keys[n]], 1)] = n


def _sorted_lists(offsets: Array, members: Array, lists: int, total: int) -> Array:
    """Each list in ascending order: a merge sort in which every element finds its own rank, in runs of 64, 128, 256 ..."""
    owners, longest = empty(int, capacity(total)), empty(int, 1)
    _owners_kernel(offsets, owners, longest, lists)
    length, out = longest[0], empty(int, members.shape[0])
    _sort_runs_kernel(offsets, owners, members, out, total)
    run = RUN
    while run < length:
        members, out = out, members
        _merge_runs_kernel(offsets, owners, members, out, total, run)
        run *= 2
    return out


@kernel
def _owners_kernel(offsets: Ints, owners: Ints, longest: Ints, lists: int):
    for _ in range(1):
        longest[0] = 0
    for k in range(lists):
        ti.atomic_max(longest[0], offsets[k + 1] - offsets[k])
        for i in range(offsets[k], offsets[k + 1]):
            owners[i] = k


@kernel
def _sort_runs_kernel(offsets: Ints, owners: Ints, members: Ints, out: Ints, total: int):
    for i in range(total):
        begin, end = offsets[owners[i]], offsets[owners[i] + 1]
        first = begin + (i - begin) // RUN * RUN
        rank = first
        for j in range(first, ti.min(first + RUN, end)):
            rank += int(members[j] < members[i])
        out[rank] = members[i]


@kernel
def _merge_runs_kernel(offsets: Ints, owners: Ints, members: Ints, out: Ints, total: int, run: int):
    for i in range(total):
        begin, end = offsets[owners[i]], offsets[owners[i] + 1]
        mine = (i - begin) // run
        other = begin + (mine ^ 1) * run  # the run this one is merged with
        low, high = ti.min(other, end), ti.min(other + run, end)
        while low < high:  # how many of the other run come before this element
            middle = (low + high) // 2
            if members[middle] < members[i]:
                low = middle + 1
            else:
                high = middle
        first = begin + mine // 2 * (2 * run)
        out[first + (i - begin) % run + (low - ti.min(other, end))] = members[i]
