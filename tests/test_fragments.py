"""Fragments as a list: the same image and gradients as the fused rasterizer, attributes, and what is left out."""

import numpy as np
import pytest
import taichi as ti
from contract import assert_gradients, gradients

import taichi_dr as dr
from taichi_dr.raster.composite import composite, composite_over
from taichi_dr.raster.fragments import soft_fragments
from taichi_dr.raster.interpolate import interpolate

MODES = [("euclidean", "softmax", "prod"), ("barycentric", "hard", "sum"), ("hard", "softmax", "hard")]  # each mode once


def scene(rng, batch=2, vertices=14, faces=12):
    """Random triangles in front of the camera, some seen from behind."""
    screen = np.concatenate([rng.uniform(-1, 1, (batch, vertices, 2)), rng.uniform(1.5, 6, (batch, vertices, 1))], axis=-1)
    return dr.array(screen), dr.array(rng.permuted(np.tile(np.arange(vertices), (faces, 1)), axis=1)[:, :3], np.int32)


def colors_of(rng, batch=1, vertices=14):
    return dr.array(rng.uniform(0, 1, (batch, vertices, 3)))


def by_list(screen, faces, colors, background=(0.2, 0.3, 0.4), **settings):
    fragments = soft_fragments(screen, faces, **settings)
    return composite_over(interpolate(colors, faces, fragments), fragments, background)


def fused(screen, faces, colors, background=(0.2, 0.3, 0.4), **settings):
    return dr.soft_rasterize(screen, faces, colors, perspective_correct=True, background=background, **settings)


@pytest.mark.parametrize("distance, rgb, alpha", MODES)
def test_equals_the_fused_rasterizer(distance, rgb, alpha, f32, rng):
    (screen, faces), colors = scene(rng), colors_of(rng)
    settings = {"size": (21, 34), "sigma": 1e-3, "gamma": 1e-2, "distance": distance, "rgb": rgb, "alpha": alpha, "far": 5.0, "double_sided": False}
    image, expected = (dr.read(f(screen, faces, colors, **settings)) for f in (by_list, fused))
    assert np.abs(image - expected).max() < 2e-5
    assert image[..., :3].std() > 0.05
    cotangent = rng.standard_normal(image.shape)
    by_two = [gradients(lambda f=f: f(screen, faces, colors, **settings), [screen, colors], cotangent) for f in (by_list, fused)]
    for here, there in zip(*by_two, strict=True):
        assert np.linalg.norm(here - there) <= 1e-3 * np.linalg.norm(there)


@pytest.mark.parametrize("distance, rgb, alpha", MODES)
def test_gradients(distance, rgb, alpha, f64, rng):
    (screen, faces), colors, background = scene(rng, 2, 9, 6), colors_of(rng, 2, 9), dr.array([0.2, 0.5, 0.9])
    settings = {"size": (11, 14), "sigma": 1e-2, "gamma": 1e-2, "distance": distance, "rgb": rgb, "alpha": alpha, "far": 20.0}
    image, expected = (dr.read(f(screen, faces, colors, background, **settings)) for f in (by_list, fused))
    assert np.abs(image - expected).max() < 1e-13
    params = {"colors": colors, "background": background}
    if rgb == "softmax" and distance == "euclidean" and alpha == "prod":
        params["screen"] = screen
    assert_gradients(lambda: by_list(screen, faces, colors, background, **settings), params, rng, step=1e-7)
    cotangent = rng.standard_normal(image.shape)
    here, there = (gradients(lambda f=f: f(screen, faces, colors, background, **settings), [screen], cotangent)[0] for f in (by_list, fused))
    assert np.abs(here - there).max() <= 1e-10 * np.abs(there).max() and np.abs(there).max() > 0


@pytest.mark.parametrize("components", [1, 2, 3, 4])
def test_attributes_of_any_width(components, f64, rng):
    screen, faces = scene(rng, 2, 9, 6)
    shape = (1, 9) if components == 1 else (1, 9, components)
    values = dr.array(rng.standard_normal(shape), vectors=components > 1)
    settings = {"size": (9, 12), "sigma": 1e-2, "gamma": 1e-2}

    def image():
        fragments = soft_fragments(screen, faces, **settings)
        return composite(interpolate(values, faces, fragments), fragments)

    assert image().shape == (2, 9, 12)
    assert_gradients(image, {"values": values, "screen": screen}, rng, step=1e-7)


def test_depth_is_the_depth_of_the_surface(f64):
    """A tilted plane, seen in perspective: at a pixel the interpolated depth is where its ray meets the plane."""
    camera = dr.Camera.look_at((0, 0, 3), fov=60, size=(20, 30))
    corners = np.array([[-9.0, -9, -4], [9, -9, -2], [9, 9, 1], [-9, 9, -1]])
    vertices, faces = dr.array(corners[None]), dr.array(np.array([[0, 1, 2], [0, 2, 3]]))
    screen = dr.project(vertices, camera)
    fragments = soft_fragments(screen, faces, size=camera.size, rgb="hard")
    depths = dr.array(dr.read(screen)[..., 2], vectors=False)
    depth = dr.read(composite(interpolate(depths, faces, fragments), fragments))[0]
    rows, columns = np.mgrid[:20, :30]
    x, y = (2 * columns + 1 - 30) / 20 * np.tan(np.pi / 6), (19 - 2 * rows) / 20 * np.tan(np.pi / 6)
    for a, b, c in ((0, 1, 2), (0, 2, 3)):
        normal = np.cross(corners[b] - corners[a], corners[c] - corners[a])
        along = normal @ (corners[a] - [0, 0, 3]) / (normal[0] * x + normal[1] * y - normal[2])
        point = np.stack([along * x, along * y, 3 - along], axis=-1)
        side = np.cross(corners[2] - corners[0], point - corners[0])[..., 2] * (1 if b == 2 else -1)
        assert np.abs(depth - along)[side > 0.1].max() < 1e-9


def test_padding_and_bad_vertices_disturb_nobody(f32, rng):
    screen, faces = scene(rng, 1)
    numbers = dr.read(screen)
    numbers[0, 0] = np.nan
    colors = rng.uniform(0, 1, (1, 14, 3))
    colors[0, 0] = np.nan
    screen, colors = dr.array(numbers), dr.array(colors)
    whole = np.flatnonzero((dr.read(faces) != 0).all(axis=1))
    some = dr.array(dr.read(faces)[whole])
    settings = {"size": 16, "sigma": 1e-3}
    image, expected = dr.read(by_list(screen, faces, colors, **settings)), dr.read(by_list(screen, some, colors, **settings))
    assert np.isfinite(image).all() and np.array_equal(image, expected)
    grads = gradients(lambda: by_list(screen, faces, colors, **settings), [screen, colors], rng.standard_normal(image.shape))
    assert all(np.isfinite(grad).all() and np.abs(grad).max() > 0 for grad in grads)


def test_nothing_on_the_screen(f32, rng):
    screen, faces = scene(rng, 1)
    away = dr.array(dr.read(screen) + [10, 0, 0])
    image = dr.read(by_list(away, faces, colors_of(rng), size=8))
    assert np.allclose(image, [0.2, 0.3, 0.4, 0.0])


def test_two_runs_agree_bitwise(f32, rng):
    (screen, faces), colors = scene(rng, 2, 40, 60), colors_of(rng, 1, 40)
    runs = []
    for _ in range(2):
        cotangent = np.random.default_rng(1).standard_normal((2, 24, 24, 4))
        runs.append(gradients(lambda: by_list(screen, faces, colors, size=24, sigma=1e-3), [screen, colors], cotangent))
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


def test_the_list_names_pixels_views_and_faces(f32, rng):
    screen, faces = scene(rng)
    fragments = soft_fragments(screen, faces, size=(10, 13), sigma=1e-3, gamma=1e-2)
    pixels, views, face_of = (dr.read(x) for x in (fragments.pixels, fragments.views, fragments.faces))
    shares = dr.read(fragments.shares)[0]
    real = pixels >= 0
    assert real.sum() > 100 and (views[real] == pixels[real] // 130).all() and (shares[~real] == 0).all()
    assert len(set(zip(pixels[real], face_of[real], strict=True))) == real.sum()
    sums = np.bincount(pixels[real], shares[real], minlength=260).reshape(2, 10, 13)
    assert np.abs(sums + dr.read(fragments.background) - 1).max() < 1e-5
    weights = dr.read(fragments.weights)[0]
    assert np.abs(weights.sum(axis=1) - 1).max() < 1e-5 and (weights > -1e-6).all()


def test_bad_input(f32, rng):
    screen, faces = scene(rng)
    fragments = soft_fragments(screen, faces, size=8)
    with pytest.raises(ValueError, match="sigma"):
        soft_fragments(screen, faces, size=8, sigma=0)
    with pytest.raises(ValueError, match="faces: expected one per face that was rasterized, 12, got 3"):
        interpolate(colors_of(rng), dr.array(dr.read(faces)[:3]), fragments)
    with pytest.raises(ValueError, match="values: expected 1 or 2 rows"):
        interpolate(colors_of(rng, 3), faces, fragments)
    with pytest.raises(ValueError, match="values: expected"):
        composite(ti.ndarray(ti.math.vec3, (1, 5)), fragments)
