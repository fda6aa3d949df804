"""Silhouettes between pixels: what they cover, and how the image changes with them, against images of many samples per pixel."""

import numpy as np
import pytest
from contract import assert_gradients, gradients
from edges import assert_a_moved_square_changes_the_image, assert_agreement_with_samples, scene, smooth_cotangent, square

import taichi_dr as dr
from taichi_dr.mesh import across


def blended(screen, faces, colors, size, background=0.0):
    screen, faces = dr.array(screen), dr.array(faces)
    shown = dr.rasterize(screen, faces, size)
    return dr.antialias(dr.interpolate(dr.array(colors), faces, shown), screen, faces, shown)


# --- Values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_an_upright_edge_covers_its_share_of_a_pixel(turned, f32, rng):
    """A square of white: each pixel of an edge is as white as it is covered."""
    for edges in rng.uniform(-0.8, 0.8, (10, 4)):
        left, right, bottom, top = *sorted(edges[:2]), *sorted(edges[2:])
        if min(right - left, top - bottom) < 0.3:
            continue
        screen, faces = square(left, right, bottom, top)
        image = dr.read(blended(screen, faces[:, ::-1] if turned else faces, np.ones((1, 4, 3)), (20, 28)))[0, ..., 0]
        j, i = np.meshgrid(np.arange(28), np.arange(20))
        sides = [(x * 20 + 28) / 2 for x in (left, right)], [(20 - y * 20) / 2 for y in (top, bottom)]  # pixels from the top left corner
        covered = [np.clip(np.minimum(k + 1, end) - np.maximum(k, begin), 0, 1) for k, (begin, end) in ((j, sides[0]), (i, sides[1]))]
        inside = (covered[0] == 1) | (covered[1] == 1)  # away from the corners
        np.testing.assert_allclose(image[inside], (covered[0] * covered[1])[inside], atol=1e-4)


def test_edges_within_a_surface_change_nothing(f32):
    """A sphere of one color, before a background of it."""
    sphere, camera = dr.shapes.icosphere(2), dr.Camera.orbit(3.0, 20, 30, size=40)
    screen = dr.project(sphere.vertices, camera)
    shown = dr.rasterize(screen, sphere.faces, 40)
    colors = dr.array(np.full((1, 40, 40, 3), 0.7))
    assert np.array_equal(dr.read(dr.antialias(colors, screen, sphere.faces, shown)), dr.read(colors))
    image = dr.interpolate(dr.array(np.ones((1, sphere.vertices.shape[1], 3))), sphere.faces, shown)
    changed = (dr.read(dr.antialias(image, screen, sphere.faces, shown)) != dr.read(image)).any(axis=-1)[0]
    ids = dr.read(shown.face_ids)[0] >= 0
    border = np.zeros_like(ids)
    for axis in (0, 1):
        border |= (ids != np.roll(ids, 1, axis)) | (ids != np.roll(ids, -1, axis))
    assert changed.any() and not (changed & ~border).any()


def test_the_nearer_face_has_the_edge(f32):
    """A square over a larger one: the pixels between are blends of the two."""
    near, far = square(-0.33, 0.41), square(-0.9, 0.9, -0.9, 0.9, 3.0)
    screen, faces = np.concatenate([near[0], far[0]], axis=1), np.concatenate([near[1], far[1] + 4])
    colors = np.repeat([[[1.0, 0, 0], [0, 1, 0]]], 4, axis=1)
    image = dr.read(blended(screen, faces, colors, 32))[0, 16]
    np.testing.assert_allclose(image[4:28].sum(axis=-1), 1, atol=1e-6)
    place = (0.41 * 32 + 32) / 2
    np.testing.assert_allclose(image[int(place), 0], place % 1, atol=1e-5)


def test_what_is_across_a_side(f32):
    sides = across(dr.array([[0, 1, 2], [2, 1, 3], [1, 2, 4], [5, 6, 7], [7, 6, 8]]), 9)
    assert dr.read(sides.faces).tolist() == [[-1, -1, -1], [-1, -1, -1], [-1, -1, -1], [-1, 4, -1], [3, -1, -1]]
    assert dr.read(sides.tips)[3, 1] == 8 and dr.read(sides.tips)[4, 0] == 5


def test_channels(f32, rng):
    screen, faces, colors = scene(rng)
    place, index = dr.array(screen), dr.array(faces)
    shown = dr.rasterize(place, index, 20)
    many = rng.uniform(0, 1, (1, 9, 6))
    six = dr.read(dr.antialias(dr.interpolate(dr.array(many), index, shown), place, index, shown))
    three = dr.read(dr.antialias(dr.interpolate(dr.array(many[..., :3]), index, shown), place, index, shown))
    one = dr.read(dr.antialias(dr.interpolate(dr.array(many[..., 0]), index, shown), place, index, shown))
    assert six.shape == (1, 20, 20, 6) and np.array_equal(six[..., :3], three) and np.allclose(six[..., 0], one, atol=1e-6)


# --- Gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_gradients_of_the_formula(channels, f64, rng):
    """Which face is seen and which edge crosses stays; 2 views."""
    first, faces, _ = scene(rng)
    screen, index = dr.array(np.concatenate([first, scene(rng)[0]])), dr.array(faces)
    shown = dr.rasterize(screen, index, (15, 19))
    values = rng.uniform(0, 1, (2, 15, 19, channels))
    image = dr.array(values[..., 0] if channels == 1 else values, vectors=channels == 3)
    assert_gradients(lambda: dr.antialias(image, screen, index, shown), {"image": image, "screen": screen}, rng, step=1e-8)


def test_a_moved_square_changes_the_image_at_its_edges(f64):
    assert_a_moved_square_changes_the_image(dr.antialias)


def test_gradients_agree_with_many_samples_per_pixel(f32, rng):
    assert_agreement_with_samples(dr.antialias, rng)


def test_gradients_of_a_fine_mesh_agree_with_many_samples(f32, rng):
    """A sphere of faces about as large as pixels, pushed and grown as a whole."""
    sphere, camera = dr.shapes.icosphere(3), dr.Camera.orbit(3.0, 20, 30, fov=50, size=40)
    vertices, cotangent = dr.read(sphere.vertices), smooth_cotangent(rng, 40)
    renderer, fine = dr.DeferredRenderer(antialias=1), dr.DeferredRenderer(antialias=16, edges=None)
    mesh = dr.Mesh(vertices, dr.read(sphere.faces), np.ones((vertices.shape[1], 3)))
    (grad,) = gradients(lambda: renderer(mesh, camera), [mesh.vertices], np.dstack([cotangent, 0 * cotangent[..., :1]])[None])
    for move in (vertices, np.ones_like(vertices) * (1, 0, 0), np.ones_like(vertices) * (0, 1, 0)):
        images = [dr.read(fine(mesh.with_vertices(dr.array(vertices + h * move)), camera))[0, ..., :3] for h in (0.02, -0.02)]
        expected = ((images[0] - images[1]) * cotangent).sum() / 0.04
        assert abs((grad * move).sum() / expected - 1) < 0.1, (move[0, 0], (grad * move).sum(), expected)


def test_bad_input(f32, rng):
    screen, faces, _ = scene(rng)
    place, index = dr.array(screen), dr.array(faces)
    shown = dr.rasterize(place, index, 8)
    for image in (np.zeros((1, 8, 8, 3)), dr.array(np.zeros((1, 9, 8, 3))), dr.array(np.zeros((8, 8)), vectors=False)):
        with pytest.raises(ValueError, match="image: expected"):
            dr.antialias(image, place, index, shown)
