"""The renderer end to end: gradients in everything it takes, sides, batches, bad meshes, memory."""

import pathlib

import numpy as np
import pytest
from contract import assert_gradients

import taichi_dr as dr

EYE, AT, UP = (1.1, 1.4, 2.3), (0.1, -0.1, 0.05), (0.2, 1.0, 0.1)


def wedge(rng, textured=False, batch=1):
    """Five vertices and six faces around the origin, with random colors or texels."""
    vertices = np.array([[0.9, -0.4, 0.0], [-0.5, -0.5, 0.7], [-0.4, -0.3, -0.8], [0.1, 0.9, 0.1], [0.0, -1.0, 0.0]])
    faces = np.array([[0, 3, 1], [1, 3, 2], [2, 3, 0], [0, 1, 4], [1, 2, 4], [2, 0, 4]])
    vertices = vertices + rng.uniform(-0.05, 0.05, (batch, 5, 3))
    if textured:
        return dr.Mesh(vertices, faces, texels=rng.uniform(0, 1, (6, 3, 3, 3)))
    return dr.Mesh(vertices, faces, rng.uniform(0, 1, (batch, 5, 3)))


def lit_by():
    return [dr.AmbientLight((0.2, 0.3, 0.1)), dr.DirectionalLight((0.3, 0.8, 0.9), (0.7, 0.5, 0.6)), dr.PointLight((1.0, 2.0, 1.5), 0.4)]


def half_and_half(subdivisions=2, inside_out=False):
    """A sphere, red where z > 0 and blue where z < 0."""
    mesh = dr.shapes.icosphere(subdivisions)
    vertices, faces = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    colors = np.where(vertices[:, 2:] > 0, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    return dr.Mesh(vertices, faces[:, ::-1].copy() if inside_out else faces, colors)


def render(mesh, camera, lights=None, **settings):
    return dr.read(dr.SoftRenderer(**settings)(mesh, camera, lights))


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("textured", [False, True], ids=["colors", "texels"])
@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
@pytest.mark.parametrize("antialias", [1, 2])
def test_gradients_of_a_fit(antialias, orthographic, textured, f64, rng):
    mesh, lights = wedge(rng, textured), lit_by()
    camera = dr.Camera.look_at(EYE, AT, UP, fov=50.0, size=(6, 8), orthographic=orthographic)
    renderer = dr.SoftRenderer(sigma=1e-2, gamma=1e-2, near=0.5, far=10.0, antialias=antialias)
    target = dr.array(rng.uniform(0, 1, (1, 6, 8, 4)))

    def f(loss):
        dr.losses.mse(renderer(mesh, camera, lights), target, loss)

    params = {
        "vertices": mesh.vertices, "colors": mesh.texels if textured else mesh.colors,
        "ambient": lights[0].intensity, "direction": lights[1].direction, "intensity": lights[1].intensity,
        "position": lights[2].position, "eye": camera.eye, "at": camera.at, "up": camera.up, "fov": camera.fov,
    }  # fmt: skip
    for name, check in zip(params, dr.gradcheck(f, list(params.values()), step=1e-6), strict=True):
        assert np.abs(check.by_tape).max() > 1e-9 or (name == "fov" and check.error == 0), name
        assert check.error < 1e-6, (name, check)


def test_gradients_of_a_batch(f64, rng):
    """Three meshes, three views, a light and a background for each."""
    mesh = wedge(rng, batch=3)
    camera = dr.Camera.look_at(np.add(EYE, rng.uniform(-0.2, 0.2, (3, 3))), AT, size=(6, 5))
    light = dr.DirectionalLight(rng.uniform(0.2, 1, (3, 3)), rng.uniform(0.2, 1, (3, 3)))
    background = dr.array(rng.uniform(0, 1, (3, 3)))
    renderer = dr.SoftRenderer(sigma=1e-2, gamma=1e-2, near=0.5, far=10.0, background=background, antialias=2)
    params = {"vertices": mesh.vertices, "colors": mesh.colors, "eye": camera.eye, "direction": light.direction, "background": background}
    assert_gradients(lambda: renderer(mesh, camera, light), params, rng, step=1e-6)


def test_gradient_of_downsample(f64, rng):
    image = dr.array(rng.random((2, 4, 6, 4)))
    assert_gradients(lambda: dr.downsample(image, 2), {"image": image}, rng)


def test_a_fit_lowers_its_loss(f32, rng):
    mesh, camera = wedge(rng), dr.Camera.look_at(EYE, size=24)
    renderer, loss, losses = dr.SoftRenderer(sigma=1e-3), dr.scalar(), []
    target = renderer(wedge(np.random.default_rng(5)), camera)
    adam = dr.optim.Adam([mesh.vertices, mesh.colors], lr=0.02)
    for _ in range(25):
        with dr.Tape(loss):
            dr.losses.mse(renderer(mesh, camera), target, loss)
        adam.step()
        losses.append(loss[None])
    assert losses[-1] < 0.3 * losses[0]


# --- Antialiasing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_downsample(n, f32, rng):
    image = rng.random((2, 4 * n, 5 * n, 4))
    expected = image.reshape(2, 4, n, 5, n, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(dr.read(dr.downsample(dr.array(image), n)), expected, atol=1e-6)


def test_downsample_needs_a_divisor(f32):
    image = dr.array(np.zeros((1, 4, 6, 4)))
    for n in (0, -1, 3, 4, 8):
        with pytest.raises(ValueError, match=f"n: expected a whole number that divides 4 and 6, got {n}"):
            dr.downsample(image, n)
    with pytest.raises(ValueError, match="image: expected"):
        dr.downsample(dr.array(np.zeros((4, 6, 4))), 2)


@pytest.mark.parametrize("n", [2, 3])
def test_antialias_is_the_mean_of_a_larger_render(n, f32, rng):
    mesh, lights = wedge(rng), lit_by()
    fine = render(mesh, dr.Camera.look_at(EYE, size=(8 * n, 9 * n)), lights)
    ours = render(mesh, dr.Camera.look_at(EYE, size=(8, 9)), lights, antialias=n)
    np.testing.assert_allclose(ours, fine.reshape(1, 8, n, 9, n, 4).mean(axis=(2, 4)), atol=1e-6)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None])
def test_antialias_is_a_whole_number(n):
    with pytest.raises(ValueError, match="antialias: expected a whole number of at least 1, got"):
        dr.SoftRenderer(antialias=n)


def test_other_settings_are_checked_at_the_call(f32, rng):
    with pytest.raises(ValueError, match="sigma: expected a positive number"):
        render(wedge(rng), dr.Camera.look_at(EYE, size=4), sigma=0.0)
    with pytest.raises(TypeError, match="smoothness"):
        dr.SoftRenderer(smoothness=3)
    with pytest.raises(ValueError, match="batch of 1 or 3, got 2"):
        render(wedge(rng, batch=2), dr.Camera.look_at(np.array([EYE] * 3), size=4))


# --- Frames -----------------------------------------------------------------------------------------------------


def test_row_0_is_the_top_and_the_right_is_the_right(f32):
    """Seen from +z, +y is above and +x is on the right; in SoftRas's mirrored frame too, seen from -z."""
    corner = np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0, 0.3, 0]])
    for camera, name in ((dr.Camera.look_at((0, 0, 3), size=20), "ours"), (dr.Camera.from_softras(3, 0, 0, viewing_angle=30, size=20), "SoftRas's")):
        above = render(dr.Mesh(corner + [0, 0.8, 0], [[0, 1, 2]]), camera)[0, ..., 3]
        assert above[:10].sum() > 1 > 1e-3 > above[10:].sum(), name
        right = render(dr.Mesh(corner + [0.8, 0, 0], [[0, 1, 2]]), camera)[0, ..., 3]
        assert right[:, 10:].sum() > 1 > 1e-3 > right[:, :10].sum(), name


@pytest.mark.parametrize("antialias", [1, 2])
def test_outside_of_a_closed_mesh_is_its_front(antialias, f32):
    """In a plain camera and in SoftRas's mirrored one, which look from the two ends of z."""
    options = {"near": 0.5, "far": 6.0, "antialias": antialias}
    middle = np.s_[0, 12:20, 12:20, :3]
    for camera, outside, inside in (
        (dr.Camera.look_at((0, 0, 3), size=32), [1, 0, 0], [0, 0, 1]),
        (dr.Camera.from_softras(3, 0, 0, viewing_angle=30, size=32), [0, 0, 1], [1, 0, 0]),
    ):
        both, front = (render(half_and_half(), camera, double_sided=x, **options) for x in (True, False))
        assert np.abs(both[middle] - outside).max() < 1e-4 and np.abs(front[middle] - outside).max() < 1e-4
        assert np.abs(both - front).mean() < 2e-3 and np.array_equal(both[..., 3], front[..., 3])
        hollow = render(half_and_half(inside_out=True), camera, double_sided=False, **options)
        assert np.abs(hollow[middle] - inside).max() < 1e-4


def test_a_batch_of_views_is_its_single_views(f32, rng):
    mesh, lights = wedge(rng), lit_by()
    azimuths = [0.0, 70.0, 200.0]
    together = render(mesh, dr.Camera.orbit(3.0, 20.0, azimuths, size=(12, 16)), lights, antialias=2)
    for k, azimuth in enumerate(azimuths):
        alone = render(mesh, dr.Camera.orbit(3.0, 20.0, azimuth, size=(12, 16)), lights, antialias=2)
        np.testing.assert_allclose(together[k], alone[0], atol=1e-6)
    meshes = wedge(rng, batch=3)
    together = render(meshes, dr.Camera.look_at(EYE, size=16), lights)
    for k in range(3):
        one = dr.Mesh(dr.read(meshes.vertices)[k], dr.read(meshes.faces), dr.read(meshes.colors)[k])
        np.testing.assert_allclose(together[k], render(one, dr.Camera.look_at(EYE, size=16), lights)[0], atol=1e-6)


def test_colors_are_shown_as_they_are_without_lights(f32):
    image = render(half_and_half(), dr.Camera.look_at((0, 0, 3), size=9))
    assert np.allclose(image[0, 4, 4], [1, 0, 0, 1], atol=1e-3)
    lit = render(half_and_half(), dr.Camera.look_at((0, 0, 3), size=9), dr.AmbientLight(0.25))
    assert np.allclose(lit[0, 4, 4], [0.25, 0, 0, 1], atol=1e-3)


# --- Bad input --------------------------------------------------------------------------------------------------


def fit_gradients(mesh, camera, lights, **settings):
    """Image, and gradients of its mean square by name."""
    loss = dr.scalar()
    with dr.Tape(loss):
        image = dr.SoftRenderer(sigma=1e-3, **settings)(mesh, camera, lights)
        dr.losses.mse(image, dr.array(np.full((*image.shape, 4), 0.25)), loss)
    arrays = {"vertices": mesh.vertices, "colors": mesh.colors or mesh.texels, "eye": camera.eye, "at": camera.at, "up": camera.up, "fov": camera.fov}
    for k, light in enumerate(lights or []):
        arrays |= {f"lights[{k}].{name}": x for name, x in vars(light).items() if getattr(x, "grad", None) is not None}
    return dr.read(image), {name: dr.read(x.grad) for name, x in arrays.items()}


@pytest.mark.parametrize("textured", [False, True], ids=["colors", "texels"])
@pytest.mark.parametrize("bad", [(np.nan, 0, 0), (0, np.inf, 0), (-np.inf, np.nan, 0)], ids=str)
def test_a_bad_vertex_harms_only_its_faces(bad, textured, f32, rng):
    """The image and all gradients are those of the mesh without its faces."""
    sphere = dr.shapes.icosphere(1)
    vertices, faces = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    touched = (faces == 7).any(axis=1)
    colors, texels = rng.random((len(vertices), 3)), rng.random((len(faces), 2, 2, 3))
    camera = dr.Camera.look_at(vertices[7] * 3, up=UP, size=24)
    kept = faces[~touched]
    whole = dr.Mesh(vertices, kept, texels=texels[~touched]) if textured else dr.Mesh(vertices, kept, colors)
    expected_image, expected = fit_gradients(whole, camera, lit_by(), near=0.1)
    vertices[7] = bad
    broken = dr.Mesh(vertices, faces, texels=texels) if textured else dr.Mesh(vertices, faces, colors)
    image, found = fit_gradients(broken, camera, lit_by(), near=0.1)
    np.testing.assert_allclose(image, expected_image, atol=1e-5)
    for name, grad in found.items():
        assert np.isfinite(grad).all(), name
        others = ~touched if textured else slice(None)
        grad = grad[others] if name == "colors" else grad
        np.testing.assert_allclose(grad, expected[name], atol=1e-5 * np.abs(expected[name]).max(), err_msg=name)
        assert np.abs(grad).max() > 0, name


@pytest.mark.parametrize(
    "where, words",
    [
        ((0, 0, 10), "behind the camera"),
        ((0, 0, 3), "nearer than near"),
        ((50, 0, 0), "outside of the image"),
        ((0, -1e6, 0), "outside of the image"),
    ],
    ids=["behind", "around the eye", "beside", "far below"],
)
def test_a_mesh_that_is_not_seen_leaves_the_background(where, words, f32):
    sphere = dr.shapes.icosphere(1)
    mesh = dr.Mesh(dr.read(sphere.vertices)[0] * (0.1 if where == (0, 0, 3) else 1) + where, dr.read(sphere.faces))
    camera = dr.Camera.look_at((0, 0, 3), size=(8, 10))
    with pytest.warns(RuntimeWarning, match=words):
        image, grads = fit_gradients(mesh, camera, lit_by(), background=(0.1, 0.2, 0.3))
    assert np.isfinite(image).all() and all(np.isfinite(grad).all() for grad in grads.values())
    if where != (0, 0, 3):
        assert np.allclose(image, np.float32([0.1, 0.2, 0.3, 0])) and not any(grad.any() for grad in grads.values())


def test_a_nan_in_the_camera_hides_the_mesh(f32, rng):
    camera = dr.Camera.look_at(EYE, size=8)
    dr.write(camera.eye, np.full((1, 3), np.nan))
    image, grads = fit_gradients(wedge(rng), camera, lit_by())
    assert np.isfinite(image).all() and all(np.isfinite(grad).all() for grad in grads.values())


def test_an_image_of_one_pixel(f32, rng):
    image, grads = fit_gradients(wedge(rng), dr.Camera.look_at(EYE, fov=20, size=1), lit_by(), antialias=2)
    assert image.shape == (1, 1, 1, 4) and 0 < image[0, 0, 0, 3] <= 1
    assert all(np.isfinite(grad).all() for grad in grads.values()) and np.abs(grads["vertices"]).max() > 0


# --- Memory -----------------------------------------------------------------------------------------------------


def resident_bytes():
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("reads the size of the process from /proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096


def test_a_long_fit_does_not_grow(arch, f32):
    resident_bytes()
    mesh, lights, loss = dr.shapes.icosphere(2), lit_by(), dr.scalar()
    start, renderer = dr.read(mesh.vertices), dr.SoftRenderer(sigma=1e-3)
    target = dr.array(np.zeros((1, 64, 64, 4)))
    sizes = []
    for step in range(320 if arch == "cpu" else 60):
        dr.write(mesh.vertices, start * (1 + 0.1 * np.sin(step)))
        camera = dr.Camera.orbit(3.0, 20.0, 7.0 * step, size=64)  # a new one in each step
        with dr.Tape(loss):
            dr.losses.mse(renderer(mesh, camera, lights), target, loss)
        sizes.append(resident_bytes())
    assert sizes[-1] - sizes[20] < 10e6, np.diff(sizes[20:])
