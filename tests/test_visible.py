"""The visible surface: watertight, nearest first, layer by layer; attributes in space with exact gradients; other renderers' pictures."""

import imageio.v3 as iio
import numpy as np
import pytest
import reference_visible as reference
from contract import assert_gradients

import taichi_dr as dr


def soup(rng, vertices=12, faces=9, batch=1):
    """Random triangles all over the screen, some of them beyond it."""
    screen = np.concatenate([rng.uniform(-1.4, 1.4, (batch, vertices, 2)), rng.uniform(1.5, 4.0, (batch, vertices, 1))], axis=-1)
    return screen, np.stack([rng.permutation(vertices)[:3] for _ in range(faces)])


def away_from_edges(hits, layer):
    """The hits of a layer as pictures of face and depth."""
    ids = np.array([[pixel[layer][1] if len(pixel) > layer else -1 for pixel in row] for row in hits])
    return ids, np.array([[pixel[layer][0] if len(pixel) > layer else 0.0 for pixel in row] for row in hits])


# --- Which face ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orthographic", [False, True])
def test_layers_are_those_of_the_reference(orthographic, f32, rng):
    screen, faces = soup(rng)
    hits = reference.layers(screen[0], faces, (20, 27), orthographic)
    seen = None
    for layer in range(4):
        seen = dr.rasterize(dr.array(screen), dr.array(faces), (20, 27), orthographic=orthographic, behind=seen)
        ids, depths = away_from_edges(hits, layer)
        same = dr.read(seen.face_ids)[0] == ids
        assert same.mean() > 0.99 and (ids >= 0).any()  # rounding may say otherwise on an edge
        assert np.abs(dr.read(seen.depths)[0] - depths)[same & (ids >= 0)].max() < 1e-4


def test_layers_end(f32):
    screen, faces = dr.array([[[-1.0, -1, 2], [3, -1, 2], [-1, 3, 2]]]), dr.array([[0, 1, 2]])
    first = dr.rasterize(screen, faces, 8)
    second = dr.rasterize(screen, faces, 8, behind=first)
    assert (dr.read(first.face_ids) == 0).all() and (dr.read(second.face_ids) == -1).all()
    assert (dr.read(dr.rasterize(screen, faces, 8, behind=second).face_ids) == -1).all()


def test_of_faces_at_one_depth_the_first_is_seen(f32):
    """Two copies of a square: layer by layer each once."""
    screen = dr.array([[[-0.9, -0.9, 2.0], [0.9, -0.9, 2], [0.9, 0.9, 2], [-0.9, 0.9, 2]]])
    faces = dr.array([[0, 1, 2], [0, 2, 3], [0, 1, 2], [0, 2, 3]])
    first = dr.rasterize(screen, faces, 10)
    second = dr.rasterize(screen, faces, 10, behind=first)
    covered = dr.read(first.face_ids) >= 0
    assert set(np.unique(dr.read(first.face_ids))) == {-1, 0, 1} and covered.any()
    assert np.array_equal(dr.read(second.face_ids)[covered], dr.read(first.face_ids)[covered] + 2)


def patchwork(rng, size, cells=6):
    """A grid of triangles that covers the whole image and more: corners off the grid, on pixels' centers or between, diagonals either way."""
    places = np.stack(np.meshgrid(np.linspace(-0.2, 1.2, cells + 1), np.linspace(-0.2, 1.2, cells + 1)), axis=-1) * size
    places[1:-1, 1:-1] += rng.uniform(-0.04, 0.04, (cells - 1, cells - 1, 2)) * size
    snap = rng.integers(0, 4, (cells + 1, cells + 1, 1))
    places = np.where(snap == 0, np.round(places), np.where(snap == 1, np.round(2 * places) / 2, places))  # in pixels, centers at whole numbers
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    flip = rng.integers(0, 2, len(a))[:, None].astype(bool)
    faces = np.concatenate(
        [np.where(flip, np.stack([a, b, c], 1), np.stack([a, b, d], 1)), np.where(flip, np.stack([a, c, d], 1), np.stack([b, c, d], 1))]
    )
    screen = (2 * places.reshape(-1, 2) + 1 - size) / size * (1, -1)
    return np.c_[screen, rng.uniform(1, 3, len(screen))], faces


def test_meshes_that_share_edges_cover_every_pixel_once(f32, rng):
    """A thousand of them, every face drawn alone."""
    size, alone = 24, []
    for _ in range(1000):
        screen, faces = patchwork(rng, size, 3)
        alone.append(screen[faces])
    faces_each = len(alone[0])
    seen = dr.rasterize(dr.array(np.concatenate(alone)), dr.array([[0, 1, 2]]), size)
    counts = (dr.read(seen.face_ids) == 0).reshape(1000, faces_each, size, size).sum(axis=1)
    assert (counts == 1).all()


def test_turned_faces_cover_the_same_pixels(f32, rng):
    screen, faces = patchwork(rng, 40)
    one, other = (dr.read(dr.rasterize(dr.array(screen[None]), dr.array(f), 40).face_ids) for f in (faces, faces[:, [0, 2, 1]]))
    assert np.array_equal(one, other) and (one >= 0).all()


def test_culling(f32, rng):
    screen, faces = soup(rng)
    a, b = (screen[0, faces[:, k], :2] - screen[0, faces[:, 0], :2] for k in (1, 2))
    turns = np.sign(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    for cull, turn in (("back", 1), ("front", -1)):
        for clockwise in (False, True):
            ids = dr.read(dr.rasterize(dr.array(screen), dr.array(faces), 30, cull=cull, clockwise_front=clockwise).face_ids)
            assert set(turns[np.unique(ids[ids >= 0])]) == {-turn if clockwise else turn}


def test_the_teapot_of_blender(f32, shared):
    """Its silhouette in every pixel, its depths."""
    mesh = dr.Mesh.load(shared / "data" / "teapot" / "teapot.obj", texture=None).normalized()
    camera = dr.Camera.look_at((0, 0, -2.732), fov=60, size=256, mirrored=True)
    seen = dr.rasterize(dr.project(mesh.vertices, camera), mesh.faces, 256, clockwise_front=True)
    covered, depths = dr.read(seen.face_ids)[0] >= 0, dr.read(seen.depths)[0]
    assert np.array_equal(covered, iio.imread(shared / "data" / "teapot" / "teapot_blender.png").min(axis=-1) != 255)
    low, high = depths[covered].min(), depths[covered].max()
    expected = iio.imread(shared / "data" / "teapot" / "test_depth.png") / 255
    assert np.abs(np.where(covered, (depths - low) / (high - low), 0) - expected).max() < 1e-2


def test_faces_that_cannot_be_drawn_are_left_out(f32):
    screen = np.array(
        [[[-0.9, -0.9, 2], [0.9, -0.9, 2], [0.0, 0.9, 2], [np.nan, 0, 2], [0.1, 0.1, -1], [0.5, 0.0, 2.0], [3e8, 0, 90], [1e30, 1, 90]]]
    )
    faces = [[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 5, 5], [0, 1, 6], [0, 2, 7]]
    ids = dr.read(dr.rasterize(dr.array(screen), dr.array(faces), (9, 11)).face_ids)
    assert {0} <= set(np.unique(ids)) <= {-1, 0, 4, 5}


# --- Where on the face --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("orthographic", [False, True])
def test_attributes_are_those_of_the_reference(orthographic, channels, f32, rng):
    screen, faces = soup(rng)
    values = rng.uniform(0, 1, (1, 12, channels))
    seen = dr.rasterize(dr.array(screen), dr.array(faces), (20, 27), orthographic=orthographic)
    given = dr.array(values[..., 0] if channels == 1 else values, vectors=channels in (3,))
    picture = dr.read(dr.interpolate(given, dr.array(faces), seen))[0].reshape(20, 27, channels)
    for i, row in enumerate(reference.layers(screen[0], faces, (20, 27), orthographic)):
        for j, pixel in enumerate(row):
            if pixel and dr.read(seen.face_ids)[0, i, j] == pixel[0][1] and pixel[0][2].min() > 1e-3:
                np.testing.assert_allclose(picture[i, j], pixel[0][2] @ values[0, faces[pixel[0][1]]], atol=1e-4)
    assert (picture[dr.read(seen.face_ids)[0] < 0] == 0).all() and np.abs(picture).max() > 0.1


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients(orthographic, batch, f64, rng):
    screen, faces = soup(rng, batch=batch)
    screen, faces, values, many = dr.array(screen), dr.array(faces), dr.array(rng.uniform(0, 1, (1, 12, 3))), dr.array(rng.uniform(0, 1, (1, 12, 5)))

    def picture(of):
        return lambda: dr.interpolate(of, faces, dr.rasterize(screen, faces, (9, 13), orthographic=orthographic))

    assert_gradients(picture(values), {"screen": screen, "values": values}, rng, step=1e-7)
    assert_gradients(picture(many), {"values": many}, rng)


def test_a_moved_square_of_one_color_has_no_gradient(f32):
    """Where no edge gradients are asked for: which face is seen is a choice."""
    screen, faces = dr.array([[[-0.5, -0.5, 2.0], [0.5, -0.5, 2], [0.5, 0.5, 2], [-0.5, 0.5, 2]]]), dr.array([[0, 1, 2], [0, 2, 3]])
    target, loss = dr.array(np.zeros((1, 16, 16, 3))), dr.scalar()
    colors = dr.array(np.full((1, 4, 3), 0.7))
    with dr.Tape(loss):
        dr.losses.mse(dr.interpolate(colors, faces, dr.rasterize(screen, faces, 16)), target, loss)
    grad = dr.read(screen.grad)[0, :, :2]
    assert np.abs(grad.sum(axis=0)).max() < 1e-6 and dr.read(colors.grad).any()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"faces": [[0, 1, 12]]}, r"faces: expected indices from 0 to 11, got \[0, 1, 12\] in face 0"),
        ({"size": 0}, "size: expected a positive whole number"),
        ({"cull": "both"}, 'cull: expected "back", "front" or None'),
        ({"screen": np.zeros((12, 3))}, r"screen: expected \(B, V\) of vec3"),
    ],
)
def test_bad_input(change, message, f32, rng):
    screen, faces = soup(rng)
    given = {"screen": screen, "faces": faces, "size": 8} | change
    with pytest.raises(ValueError, match=message):
        dr.rasterize(dr.array(given.pop("screen")), dr.array(given.pop("faces")), **given)


def test_bad_layers_and_values(f32, rng):
    screen, faces = (dr.array(x) for x in soup(rng))
    seen = dr.rasterize(screen, faces, 8)
    with pytest.raises(ValueError, match="behind: expected pictures of shape"):
        dr.rasterize(screen, faces, 9, behind=seen)
    with pytest.raises(ValueError, match="values: expected a Taichi array"):
        dr.interpolate(np.zeros((1, 12)), faces, seen)
    with pytest.raises(ValueError, match="faces: expected one per face"):
        dr.interpolate(dr.array(np.zeros((1, 12, 3))), dr.array([[0, 1, 2]]), seen)
