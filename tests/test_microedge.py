"""Micro-edges: gradients for an image that stays as it is, against NumPy and against images of many samples per pixel."""

import numpy as np
import pytest
import reference_microedge
import reference_visible
from contract import gradients
from edges import (
    agreement,
    assert_a_moved_square_changes_the_image,
    assert_agreement_with_samples,
    by_operator,
    by_samples,
    scene,
    smooth_cotangent,
    square,
)

import taichi_dr as dr


def crossing(rng):
    """Two large triangles of one color each, tilted against each other so that they cross near the middle."""
    vertices, colors, tilt = [], [], rng.uniform(0, 2 * np.pi)
    for sign in (-1, 1):
        angles = rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2]) + rng.uniform(-0.3, 0.3, 3)
        corners = rng.uniform(-0.15, 0.15, 2) + rng.uniform(0.5, 0.8, (3, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        vertices.append(np.c_[corners, 3 + sign * corners @ [np.cos(tilt), np.sin(tilt)] + rng.uniform(-0.2, 0.2, 3)])
        colors.append(np.repeat(rng.uniform(0, 1, (1, 3)), 3, axis=0))
    return np.concatenate(vertices)[None], np.arange(6).reshape(2, 3), np.concatenate(colors)[None]


def tutorial():
    """DRTK's scene of intersecting triangles, "Optimizing Intersecting Geometry", in our frame: its 512 pixels are 64 here."""
    place = [[12.08, 31.02, 100], [455.8, 71.94, 100], [168.9, 540.1, 100], [260, 110, 80], [478, 110, 80], [260, 235, 80], [478, 235, 80],
             [75.85, 386, 95], [215.1, 226.1, 95], [378.8, 481.1, 280]]  # fmt: skip
    x, y, z = np.array(place).T
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 4, 5], [7, 8, 9]])
    colors = np.repeat([[0.8, 0.8, 0.8], [0.8, 0.2, 0.1], [0.2, 0.2, 0.8]], [3, 4, 3], axis=0)
    return np.stack([(x + 0.5) / 256 - 1, 1 - (y + 0.5) / 256, z / 50], axis=-1)[None], faces, colors[None]


def mixed(rng):
    """A ball of small faces in a ball, both through a triangle, and a square behind: ends, crossings, surfaces that go on."""
    small, large = dr.shapes.icosphere(2), dr.shapes.icosphere(1)
    balls = [dr.read(small.vertices)[0] * 0.4 + (-0.3, 0.1, 2.1), dr.read(large.vertices)[0] * 0.5 + (0.25, 0.05, 2.3)]
    triangle, behind = crossing(rng)[0][0, :3] * (1, 1, 0.4) + (0, 0, 1.1), square(-0.8, 0.85, -0.75, 0.7, 2.9)
    faces, vertices = [], []
    for corners, index in (
        (balls[0], dr.read(small.faces)),
        (balls[1], dr.read(large.faces)),
        (triangle, np.array([[0, 1, 2]])),
        (behind[0][0], behind[1]),
    ):
        faces.append(index + sum(map(len, vertices)))
        vertices.append(corners)
    return np.concatenate(vertices)[None], np.concatenate(faces)


def moved(screen, faces, cotangent, image, orthographic=False):
    """The gradients of <cotangent, microedges(image)> in screen and image."""
    place, index = dr.array(screen), dr.array(faces)
    shown = dr.rasterize(place, index, cotangent.shape[1:3], orthographic=orthographic)
    return gradients(lambda: dr.microedges(image, place, index, shown, orthographic=orthographic), [place, image], cotangent)


# --- The formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("size", [(24, 24), (21, 30), (30, 21)])
def test_against_numpy(size, orthographic, f64, rng):
    for screen, faces in (scene(rng)[:2], crossing(rng)[:2], mixed(rng)):
        hits = reference_visible.layers(screen[0], faces, size, orthographic)
        face_ids = np.array([[pixel[0][1] if pixel else -1 for pixel in row] for row in hits])
        values, cotangent = rng.uniform(0, 1, (*size, 3)), rng.normal(size=(*size, 3))
        expected = reference_microedge.gradient(values, cotangent, face_ids, screen[0], faces, orthographic)
        grad, image_grad = moved(screen, faces, cotangent[None], dr.array(values[None]), orthographic)
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(grad[0], expected, atol=1e-9 * np.abs(expected).max())
        assert np.array_equal(image_grad[0], cotangent)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_channels_and_views(channels, f64, rng):
    """Two views of shared faces, each as if it were alone; the image is what it was."""
    (first, faces), (second, _) = mixed(rng), mixed(rng)
    screen = np.concatenate([first, second * (1, 1, 1.3) + (0.1, 0, 0)])
    values, cotangent = rng.uniform(0, 1, (2, 17, 23, channels)), rng.normal(size=(2, 17, 23, channels))
    if channels == 1:
        values, cotangent = values[..., 0], cotangent[..., 0]

    def picture(k):
        return dr.array(values[k], vectors=channels in (2, 3, 4))

    both, image_grad = moved(screen, faces, cotangent, picture(slice(0, 2)))
    assert both[0].any() and both[1].any() and np.array_equal(image_grad, cotangent)
    for k in range(2):
        (alone, _) = moved(screen[k : k + 1], faces, cotangent[k : k + 1], picture(slice(k, k + 1)))
        assert np.array_equal(alone[0], both[k])
    shown = dr.rasterize(dr.array(screen), dr.array(faces), (17, 23))
    assert np.array_equal(dr.read(dr.microedges(picture(slice(0, 2)), dr.array(screen), dr.array(faces), shown)), values)
    assert channels != 6 or np.allclose(
        both, sum(moved(screen, faces, cotangent[..., c], dr.array(values[..., c], vectors=False))[0] for c in range(6)), atol=1e-9
    )


def test_two_runs(f32, rng):
    screen, faces = mixed(rng)
    image, cotangent = dr.array(rng.uniform(0, 1, (1, 40, 40, 3))), rng.normal(size=(1, 40, 40, 3))
    one, other = (moved(screen, faces, cotangent, image)[0] for _ in range(2))
    assert one.any() and np.array_equal(one, other)


# --- What images of many samples do -------------------------------------------------------------------------------


def test_a_moved_square(f64):
    assert_a_moved_square_changes_the_image(dr.microedges)


def test_gradients_agree_with_many_samples_per_pixel(f32, rng):
    assert_agreement_with_samples(dr.microedges, rng)


@pytest.mark.parametrize("orthographic", [False, True])
def test_depth_moves_where_triangles_cross(orthographic, f32, rng):
    """The line where two triangles cross moves with the depths of their corners, by as much as samples say, and not twice as far."""
    for given in (crossing(rng), crossing(rng), tutorial()):
        screen, faces, colors = given
        cotangent = smooth_cotangent(rng, 64)
        expected = by_samples(screen, faces, colors, cotangent, 16, 0.02, axes=3, orthographic=orthographic)
        found = by_operator(dr.microedges, screen, faces, colors, cotangent, axes=3, orthographic=orthographic)
        cosine, ratio, _ = agreement(found, expected)
        assert cosine > 0.98 and 0.9 < ratio < 1.1
        cosine, ratio, signs = agreement(found[:, 2], expected[:, 2])
        print("depth", cosine, ratio, signs, np.abs(expected[:, 2]).max())
        assert cosine > 0.98 and 0.85 < ratio < 1.15 and signs == 1  # few pixels are on the line


@pytest.mark.parametrize("fineness", [2, 4])
@pytest.mark.parametrize("radius, center", [(0.3, (0.2, 0.1, 1.0)), (0.6, (0.25, 0.1, 0.5))], ids=["before", "through"])
def test_balls(radius, center, fineness, f32):
    """A ball before or through another, of faces larger or smaller than pixels, pushed in x, y and depth and grown: what 16 x 16 pixels get."""
    ball, camera = dr.shapes.icosphere(fineness), dr.Camera.look_at((0, 0, 3), (0, 0, 0), fov=50, size=80)
    unit, index = dr.read(ball.vertices)[0], dr.read(ball.faces)
    vertices = np.concatenate([0.8 * unit, radius * unit + center])
    mesh = dr.Mesh(vertices, np.concatenate([index, index + len(unit)]), np.repeat([[0.2, 0.5, 0.9], [0.9, 0.3, 0.1]], len(unit), axis=0))
    pushes = [np.ones_like(unit) * axis for axis in np.eye(3)] + [unit]
    moves = np.stack([np.concatenate([0 * unit, push]) for push in pushes])
    fine, renderer = dr.DeferredRenderer(antialias=8, edges=None), dr.DeferredRenderer(antialias=1, edges="microedge")

    def blocks(move):
        images = [dr.read(fine(mesh.with_vertices(dr.array((vertices + h * move)[None])), camera))[0, ..., 0].astype(float) for h in (0.02, -0.02)]
        return ((images[0] - images[1]) / 0.04).reshape(5, 16, 5, 16).sum(axis=(1, 3))

    def found(i, j):
        cotangent = np.zeros((1, 80, 80, 4))
        cotangent[0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16, 0] = 1
        return (gradients(lambda: renderer(mesh, camera), [mesh.vertices], cotangent)[0][0] * moves).sum(axis=(1, 2))

    expected = np.stack([blocks(move) for move in moves], axis=-1)
    grad = np.stack([[found(i, j) for j in range(5)] for i in range(5)])
    for part in (slice(0, 4), slice(2, 3)) if radius > 0.5 else (slice(0, 4),):
        cosine, ratio, signs = agreement(grad[..., part], expected[..., part])
        print(cosine, ratio, signs)
        assert cosine > 0.98 and 0.9 < ratio < 1.1


# --- Edges that are none ------------------------------------------------------------------------------------------


def test_within_a_surface_nothing_moves(f32, rng):
    """A grid that fills the image, its corners on pixel centers and its depths random; and a square's own diagonal."""
    size = 16
    at = (2 * np.arange(-1, size + 1) + 1 - size) / size
    x, y = np.meshgrid(at, at)
    grid = np.stack([x, y, 2 + 0.01 * rng.uniform(size=x.shape)], axis=-1).reshape(1, -1, 3)
    k = np.arange(len(at) ** 2).reshape(len(at), -1)
    a, b, c, d = k[:-1, :-1].ravel(), k[:-1, 1:].ravel(), k[1:, 1:].ravel(), k[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    for screen, index in ((grid, faces), square(-1.5, 1.5, -1.5, 1.5)):
        grad, _ = moved(screen, index, rng.normal(size=(1, size, size, 3)), dr.array(rng.uniform(0, 1, (1, size, size, 3))))
        assert not grad.any()


def test_faces_that_are_bad_harm_nobody(f32, rng):
    """Beside NaN, behind the camera, without area, in one plane: what is seen has finite gradients."""
    screen, faces = square(-0.4, 0.5)
    more = np.array([[[np.nan, 0, 2], [0.2, 0.8, -1], [0.5, 0.9, 2], [0.2, 0.1, 2.0], [0.7, 0.8, 2], [0.6, -0.2, 2]]])
    screen = np.concatenate([screen, more], axis=1)
    faces = np.concatenate([faces, [[1, 2, 4], [2, 3, 5], [2, 3, 3], [7, 8, 9]]])
    grad, _ = moved(screen, faces, rng.normal(size=(1, 20, 20, 3)), dr.array(rng.uniform(0, 1, (1, 20, 20, 3))))
    assert np.isfinite(grad).all() and grad[0, :4, :2].all()


def test_bad_input(f32, rng):
    screen, faces, _ = scene(rng)
    place, index = dr.array(screen), dr.array(faces)
    shown = dr.rasterize(place, index, 8)
    for image in (
        np.zeros((1, 8, 8, 3)),
        dr.array(np.zeros((1, 9, 8, 3))),
        dr.array(np.zeros((8, 8)), vectors=False),
        dr.array(np.zeros((1, 8, 8, 2, 3))),
    ):
        with pytest.raises(ValueError, match="image: expected"):
            dr.microedges(image, place, index, shown)


@pytest.mark.parametrize("edges", [dr.microedges, dr.antialias])
def test_rounding_decides_no_edge(edges, f64, rng):
    """Balls have faces that are seen exactly from the side: moved by a rounding, the gradient is the same."""
    screen, faces = mixed(rng)
    image, cotangent = dr.array(rng.uniform(0, 1, (1, 30, 21, 3))), rng.normal(size=(1, 30, 21, 3))

    def moved(screen):
        place, index = dr.array(screen), dr.array(faces)
        shown = dr.rasterize(place, index, (30, 21))
        return gradients(lambda: edges(image, place, index, shown), [place], cotangent)[0]

    grad = moved(screen)
    for _ in range(5):
        np.testing.assert_allclose(moved(screen * (1 + 4e-16 * rng.normal(size=screen.shape))), grad, atol=1e-9 * np.abs(grad).max())
