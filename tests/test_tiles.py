"""Tile lists against brute force: the right pairs of face and tile, in ascending order, by face and by tile."""

import numpy as np
import pytest
import taichi as ti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr.arrays import Ints, empty
from taichi_dr.raster.tiles import prefix_sum, sum_blocks, tile_lists

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MARGIN = 1e-5  # a pixel center this close to the edge of a box may count or not, by rounding


def scene(rng, batch=1, vertices=30, faces=40, spread=1.5, reach=0.5):
    """Faces of many sizes, some of them off the screen."""
    screen = np.concatenate([rng.uniform(-spread, spread, (batch, vertices, 2)), rng.uniform(1, 4, (batch, vertices, 1))], axis=-1)
    index = rng.integers(0, vertices, (faces, 3))
    screen[:, 3:6] = screen[:, :1] + rng.uniform(-reach, reach, (batch, 3, 3)) * [0.1, 0.1, 0]
    index[0], index[1] = (3, 4, 5), (5, 4, 3)
    return screen.astype(np.float32), index.astype(np.int32)


def expected_pairs(screen, faces, batch, height, width, radius, tile, margin):
    """Set of (view, face, tile row, tile column): the tiles of all pixel centers in the face's box grown by radius + margin."""
    side = min(height, width)
    x = (2 * np.arange(width) + 1 - width) / side
    y = (height - 1 - 2 * np.arange(height)) / side
    pairs = set()
    for b in range(batch):
        for f, corners in enumerate(faces):
            v = screen[b % len(screen), corners].astype(np.float64)
            (ax, ay), (bx, by), (cx, cy) = v[:, :2]
            if not np.isfinite(v).all() or v[:, 2].min() <= 1e-6 or abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) <= 1e-10:
                continue
            low, high = v[:, :2].min(axis=0) - radius - margin, v[:, :2].max(axis=0) + radius + margin
            rows = np.flatnonzero((low[1] <= y) & (y <= high[1])) // tile[0]
            columns = np.flatnonzero((low[0] <= x) & (x <= high[0])) // tile[1]
            pairs |= {(b, f, int(i), int(j)) for i in np.unique(rows) for j in np.unique(columns)}
    return pairs


def expected_box(screen, face, height, width, radius):
    """(row0, row1, column0, column1), half-open: the pixels with centers in the face's box grown by radius."""
    side = min(height, width)
    low, high = screen[0, face, :2].min(axis=0) - radius, screen[0, face, :2].max(axis=0) + radius
    rows = [i for i in range(height) if low[1] <= (height - 1 - 2 * i) / side <= high[1]]
    columns = [j for j in range(width) if low[0] <= (2 * j + 1 - width) / side <= high[0]]
    return [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1] if rows and columns else [0, 0, 0, 0]


def checked_pairs(screen, faces, batch, height, width, radius, tile):
    """The pairs of `tile_lists`, after a check that its two orders are ascending and tell the same."""
    lists = tile_lists(dr.array(screen), dr.array(faces), batch, height, width, radius, tile)
    rows, columns, n = -(-height // tile[0]), -(-width // tile[1]), lists.pairs
    assert (lists.tile, lists.rows, lists.columns) == (tile, rows, columns)
    face_offsets, tile_offsets = dr.read(lists.face_offsets), dr.read(lists.tile_offsets)
    boxes = dr.read(lists.boxes)
    spans = np.where(boxes[:, 1::2] > boxes[:, ::2], -(-boxes[:, 1::2] // np.array(tile)) - boxes[:, ::2] // np.array(tile), 0)
    assert np.array_equal(spans.prod(axis=1), np.diff(face_offsets))
    assert (boxes >= 0).all() and (boxes <= [height, height, width, width]).all()
    of_face, of_tile, members = (dr.read(x)[:n] for x in (lists.pair_faces, lists.pair_tiles, lists.members))
    for offsets, count in ((face_offsets, batch * len(faces)), (tile_offsets, batch * rows * columns)):
        assert offsets.shape == (count + 1,) and offsets[0] == 0 and offsets[-1] == n and (np.diff(offsets) >= 0).all()
    assert np.array_equal(of_face, np.repeat(np.arange(batch * len(faces)), np.diff(face_offsets)))
    assert np.array_equal(of_tile[members], np.repeat(np.arange(batch * rows * columns), np.diff(tile_offsets)))
    assert np.array_equal(np.sort(members), np.arange(n))
    for order, keys in ((np.arange(n), of_face), (members, of_tile[members])):
        assert (np.diff(of_tile)[np.diff(of_face) == 0] > 0).all()
        assert (np.diff(order)[np.diff(keys) == 0] > 0).all()
    assert np.array_equal(of_face // len(faces), of_tile // (rows * columns))  # both name the same view
    tiles = of_tile % (rows * columns)
    return set(
        zip((of_face // len(faces)).tolist(), (of_face % len(faces)).tolist(), (tiles // columns).tolist(), (tiles % columns).tolist(), strict=True)
    )


def check(screen, faces, batch, height, width, radius, tile):
    pairs = checked_pairs(screen, faces, batch, height, width, radius, tile)
    options = (screen, faces, batch, height, width, radius, tile)
    assert expected_pairs(*options, margin=-MARGIN) <= pairs <= expected_pairs(*options, margin=MARGIN)
    return pairs


# --- Pairs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [(1, 1), (7, 7), (8, 8), (8, 32), (32, 8), (16, 3), (100, 100)])
@pytest.mark.parametrize("size", [(33, 33), (20, 47), (64, 9)])
@pytest.mark.parametrize("radius", [0.0, 0.03, 5.0])
def test_the_pairs_are_those_of_brute_force(tile, size, radius, f32, rng):
    screen, faces = scene(rng, faces=12)
    assert check(screen, faces, 1, *size, radius, tile)


def test_batches_and_one_screen_for_all_views(f32, rng):
    screen, faces = scene(rng, batch=3)
    assert {b for b, *_ in check(screen, faces, 3, 30, 40, 0.05, (12, 5))} == {0, 1, 2}
    shared = check(screen[:1], faces, 3, 30, 40, 0.05, (12, 5))
    assert all({p[1:] for p in shared if p[0] == b} == {p[1:] for p in shared if p[0] == 0} for b in range(3))


@ANY_INPUT
@given(
    height=st.integers(1, 60), width=st.integers(1, 60), tile=st.tuples(st.integers(1, 20), st.integers(1, 40)), batch=st.integers(1, 3),
    faces=st.integers(2, 30),
    radius=st.sampled_from([0.0, 1e-3, 0.1, 3.0]), spread=st.sampled_from([0.01, 0.3, 1.0, 5.0]), seed=st.integers(0, 2**16),
)  # fmt: skip
def test_any_scene(f32, height, width, tile, batch, faces, radius, spread, seed):
    screen, index = scene(np.random.default_rng(seed), batch, faces=faces, spread=spread)
    check(screen, index, batch, height, width, radius, tile)


def test_a_box_between_pixel_centers_has_no_pairs(f32):
    corner = np.array([[0.02, 0.02, 2], [0.05, 0.02, 2], [0.02, 0.05, 2]], np.float32)  # centers are at +-1/8, +-3/8 ...
    faces = np.array([[0, 1, 2]])
    assert check(corner[None], faces, 1, 8, 8, 0.0, (4, 4)) == set()
    assert check(corner[None] + np.float32([0.1, 0.1, 0]), faces, 1, 8, 8, 0.0, (4, 4)) == {(0, 0, 0, 1)}
    assert len(check(corner[None], faces, 1, 8, 8, 0.2, (4, 4))) == 4


@pytest.mark.parametrize("size", [(31, 17), (12, 40), (1, 1)])
def test_boxes_hold_the_pixel_centers(size, f32, rng):
    screen, faces = scene(rng, faces=30)
    faces = faces[[len(set(face)) == 3 for face in faces]]
    lists = tile_lists(dr.array(screen), dr.array(faces), 1, *size, 0.02, (8, 8))
    assert np.array_equal(dr.read(lists.boxes), [expected_box(screen.astype(float), face, *size, 0.02) for face in faces])


BAD = [(np.nan, 0, 2), (0, np.nan, 2), (0, 0, np.nan), (np.inf, 0, 2), (0, -np.inf, 2), (0, 0, np.inf), (0, 0, 0), (0, 0, -1), (0, 0, 1e-7)]


@pytest.mark.parametrize("bad", BAD)
def test_faces_that_are_nowhere_have_no_pairs(bad, f32):
    screen = np.array([[[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, 2], bad]], np.float32)
    faces = np.array([[0, 1, 3], [0, 1, 2], [3, 2, 1], [3, 3, 3]])
    assert {f for _, f, *_ in check(screen, faces, 1, 16, 16, 0.1, (8, 8))} == {1}
    assert check(screen, faces[[0]], 1, 16, 16, 0.1, (8, 8)) == set()


def test_faces_that_repeat_a_vertex_have_no_pairs(f32, rng):
    """Whatever the rounding of their area, also where products and sums are fused."""
    screen = np.concatenate([rng.uniform(-2, 2, (1, 500, 2)), rng.uniform(1, 4, (1, 500, 1))], axis=-1).astype(np.float32)
    faces = rng.integers(0, 500, (3000, 3))
    faces[::3, 1], faces[1::3, 2], faces[2::3, 0] = faces[::3, 0], faces[1::3, 1], faces[2::3, 2]
    assert checked_pairs(screen, faces, 1, 16, 16, 0.1, (8, 8)) == set()


def test_faces_without_area_have_no_pairs(f32):
    screen = np.array([[[-0.5, -0.5, 2], [0.5, 0.5, 2], [0, 0, 2], [0.5, -0.5, 2]]], np.float32)
    faces = np.array([[0, 1, 2], [0, 0, 3], [1, 1, 1], [0, 3, 1]])
    assert {f for _, f, *_ in check(screen, faces, 1, 16, 16, 0.1, (8, 8))} == {3}


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30, 3e38])
def test_faces_far_larger_than_the_screen(far, f32):
    screen = np.array([[[-far, -far, 2], [far, -far, 2], [0, far, 2]]], np.float32)
    pairs = checked_pairs(screen, np.array([[0, 1, 2]]), 1, 20, 30, 0.1, (8, 8))
    assert pairs in ({(0, 0, i, j) for i in range(3) for j in range(4)}, set() if far > 1e18 else None)  # its area is no float32


# --- Order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [63, 64, 65, 129, 2000, 4097])
def test_a_long_list_is_sorted(count, f32, rng):
    """Many faces in one tile; on a GPU that takes passes of merging."""
    middles = rng.uniform(-0.2, 0.2, (count, 1, 2))
    corners = middles + rng.uniform(-0.3, 0.3, (count, 3, 2))
    screen = np.concatenate([corners, np.full((count, 3, 1), 2.0)], axis=-1).reshape(1, -1, 3).astype(np.float32)
    faces = np.arange(3 * count).reshape(-1, 3)
    assert len(checked_pairs(screen, faces, 1, 8, 8, 0.5, (8, 8))) == count
    checked_pairs(np.concatenate([screen, screen * np.float32([2, 2, 1])]), faces, 2, 40, 24, 0.1, (8, 8))


# --- Limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 30, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_named(bad, f32, rng):
    screen, faces = scene(rng)
    faces[7, 1] = faces[20, 0] = bad
    with pytest.raises(ValueError, match=f"faces: expected indices from 0 to 29, got .*{bad}.* in face 7; fix or drop that face"):
        tile_lists(dr.array(screen), dr.array(faces), 1, 20, 20, 0.1, (8, 8))


@pytest.mark.parametrize("count", [2500, 4295, 9000])
def test_more_pairs_than_32_bits_count(count, f32):
    screen = np.array([[[-9, -9, 2], [9, -9, 2], [0, 9, 2]]], np.float32)
    faces = np.tile(np.array([[0, 1, 2]]), (count, 1))
    with pytest.raises(ValueError, match=r"screen: .* pairs of face and tile in one call, at most 2e9 fit; render fewer views"):
        tile_lists(dr.array(screen), dr.array(faces), 1, 1000, 1000, 0.1, (1, 1))
    assert len(checked_pairs(screen, faces[:3], 1, 16, 16, 0.0, (8, 8))) == 12


# --- Running sums -----------------------------------------------------------------------------------------------


@ti.kernel
def prefix_kernel(offsets: Ints, sums: Ints, size: ti.types.ndarray(dtype=float, ndim=1), n: int, block: int, blocks: int):
    prefix_sum(offsets, n, block, blocks, False, sums, size)


def check_running_sums(counts, block, blocks):
    n = len(counts)
    offsets, sums, size = empty(int, n + 1), empty(int, blocks), empty(float, 1)
    dr.write(offsets, np.append(counts, -1))
    prefix_kernel(offsets, sums, size, n, block, blocks)
    assert np.array_equal(dr.read(offsets), np.concatenate([[0], np.cumsum(counts)]))
    assert np.isclose(size[0], counts.sum(), rtol=1e-6)


def test_running_sums_of_every_length(f32, rng):
    for n in (*range(1, 301), 10**5):
        block, blocks = sum_blocks(n)
        assert block * (blocks - 1) < n <= block * blocks
        check_running_sums(rng.integers(0, 50, n), block, blocks)


@ANY_INPUT
@given(counts=st.lists(st.integers(0, 1000), min_size=1, max_size=200), block=st.integers(1, 200))
def test_running_sums_by_blocks_of_any_length(f32, counts, block):
    check_running_sums(np.array(counts), block, -(-len(counts) // block))
