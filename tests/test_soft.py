"""The soft rasterizer: SoftRas's golden images, a NumPy reference, exact gradients, bad input."""

import itertools

import numpy as np
import pytest
import reference_soft
import taichi as ti
from contract import assert_gradients, gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import runtime

DISTANCES, RGBS, ALPHAS = ("euclidean", "barycentric", "hard"), ("softmax", "hard"), ("prod", "sum", "hard")
GOLD = ("sphere_euclidean_prod_softmax", "sphere_blurred", "sphere_hard_rgb", "sphere_surface_texels")


def scene(rng, vertices=12, faces=8, batch=1):
    """Random triangles of a fair size in front of the camera: screen (B, V, 3), faces (F, 3), colors (V, 3), texels (F, 3, 3, 3)."""
    screen = np.concatenate([rng.uniform(-1, 1, (batch, vertices, 2)), rng.uniform(2, 4, (batch, vertices, 1))], axis=-1)
    triples = np.array(list(itertools.combinations(range(vertices), 3)))  # no two faces alike: they would tie in depth
    index = rng.permuted(rng.permutation(triples)[:faces], axis=1)
    return screen, index, rng.uniform(0, 1, (vertices, 3)), rng.uniform(0, 1, (faces, 3, 3, 3))


# --- Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_matches_softras(name, precision, request, shared):
    request.getfixturevalue(precision)
    gold = np.load(shared / "gold" / "softras" / f"{name}.npz")
    textured = "texels" in gold.files
    screen, faces = dr.array(gold["screen"][None]), dr.array(gold["faces"])
    colors = dr.array(gold["texels"] if textured else gold["colors"][None])
    options = {
        "size": int(gold["size"]), "sigma": float(gold["sigma"]), "gamma": float(gold["gamma"]), "eps": float(gold["eps"]),
        "near": float(gold["near"]), "far": float(gold["far"]), "distance": str(gold["dist"]), "rgb": str(gold["rgb"]),
        "alpha": str(gold["alpha"]), "background": tuple(gold["background"]), "double_sided": bool(gold["double_sided"]),
    }  # fmt: skip

    def op():
        return dr.soft_rasterize(screen, faces, colors, **options)

    error = np.abs(dr.read(op())[0] - gold["image"]).max(axis=-1)
    close = error < (2e-5 if precision == "f32" else 1e-6)
    if textured:
        close |= touches_a_texel_edge(gold)
    assert (~close).mean() <= (1e-3 if "hard" in (options["rgb"], options["distance"]) else 0), np.sort(error.ravel())[-5:]

    tolerance = 1e-3 if precision == "f32" else 1e-6
    alpha_only, color_only = gold["cotangent"] * [0, 0, 0, 1], gold["cotangent"] * [1, 1, 1, 0]
    (screen_grad,) = gradients(op, [screen], alpha_only[None])
    assert relative(screen_grad[0], gold["grad_screen_alpha"]) < tolerance
    if not textured:
        (colors_grad,) = gradients(op, [colors], color_only[None])
        assert relative(colors_grad[0], gold["grad_colors"]) < tolerance


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def touches_a_texel_edge(gold):
    """Pixels that SoftRas reads out of bounds or by rounding: a face counts whose clipped barycentrics lie on an edge of its texels."""
    size, reach = int(gold["size"]), np.sqrt(np.log(1e4 - 1) * gold["sigma"])
    j, i = np.meshgrid(np.arange(size), np.arange(size))
    px, py = (2 * j + 1 - size) / size, (size - 1 - 2 * i) / size
    touched = np.zeros((size, size), bool)
    for a, b, c in gold["screen"][gold["faces"]]:
        doubled = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        w0 = ((b[0] - px) * (c[1] - py) - (c[0] - px) * (b[1] - py)) / doubled
        w1 = ((c[0] - px) * (a[1] - py) - (a[0] - px) * (c[1] - py)) / doubled
        d = np.min([reference_soft._segment(px, py, p[:2], q[:2]) for p, q in ((a, b), (b, c), (c, a))], axis=0)
        outside = np.min([w0, w1, 1 - w0 - w1], axis=0) <= 0
        touched |= outside & (d < reach**2) & ((w0 + w1 >= 1) | (w0 >= 1) | (w1 >= 1))
    return touched


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("rgb", RGBS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_matches_the_reference_in_every_mode(distance, rgb, alpha, f32, rng):
    screen, faces, colors, texels = scene(rng)
    options = {"sigma": 3e-3, "gamma": 1e-2, "distance": distance, "rgb": rgb, "alpha": alpha, "background": (0.2, 0.4, 0.6)}
    for surface in (colors, texels):
        given_colors = dr.array(surface[None] if surface is colors else surface)
        image = dr.read(dr.soft_rasterize(dr.array(screen), dr.array(faces), given_colors, size=(30, 45), **options))[0]
        expected = reference_soft.soft_rasterize(screen[0].astype(np.float32), faces, surface, (30, 45), **options)
        differs = np.abs(image - expected).max(axis=-1) > 2e-5
        assert differs.mean() <= 3e-3, np.abs(image - expected).max()  # ties of discrete choices


@pytest.mark.parametrize("options", [{"double_sided": False}, {"double_sided": False, "clockwise_front": True}, {"perspective_correct": True},
                                     {"orthographic": True}, {"near": 2.5, "far": 3.5}, {"eps": 0.5, "gamma": 0.3}, {"dist_eps": 1e-8}])  # fmt: skip
def test_matches_the_reference_in_every_setting(options, f32, rng):
    screen, faces, colors, _ = scene(rng)
    options = {"sigma": 3e-3, "gamma": 1e-2, **options}
    image = dr.read(dr.soft_rasterize(dr.array(screen), dr.array(faces), dr.array(colors[None]), size=(40, 25), **options))[0]
    expected = reference_soft.soft_rasterize(screen[0].astype(np.float32), faces, colors, (40, 25), **options)
    assert (np.abs(image - expected).max(axis=-1) > 2e-5).mean() <= 3e-3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**16), faces=st.integers(1, 40))
def test_any_size_of_image_and_mesh(f32, height, width, seed, faces):
    screen, index, colors, _ = scene(np.random.default_rng(seed), faces=faces)
    options = {"sigma": 1e-2, "gamma": 1e-2}
    image = dr.read(dr.soft_rasterize(dr.array(screen), dr.array(index), dr.array(colors[None]), size=(height, width), **options))[0]
    expected = reference_soft.soft_rasterize(screen[0].astype(np.float32), index, colors, (height, width), **options)
    assert np.abs(image - expected).max() < 1e-4


def test_batches_and_sharing(f32, rng):
    screen, faces, colors, _ = scene(rng, batch=3)
    many = np.stack([colors, 1 - colors, colors[:, ::-1]])
    options = {"size": 24, "sigma": 1e-3}
    index = dr.array(faces)
    both = dr.read(dr.soft_rasterize(dr.array(screen), index, dr.array(many), **options))
    shared_colors = dr.read(dr.soft_rasterize(dr.array(screen), index, dr.array(colors[None]), **options))
    shared_screen = dr.read(dr.soft_rasterize(dr.array(screen[:1]), index, dr.array(many), **options))
    for b in range(3):
        one = dr.read(dr.soft_rasterize(dr.array(screen[b : b + 1]), index, dr.array(many[b : b + 1]), **options))
        assert np.array_equal(one[0], both[b])
    assert np.array_equal(shared_colors[0], both[0]) and np.array_equal(shared_screen[0], both[0])
    assert shared_colors.shape == shared_screen.shape == (3, 24, 24, 4)


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("rgb", RGBS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_in_every_mode(distance, rgb, alpha, f64, rng):
    screen, faces, colors, texels = (dr.array(x) for x in scene(rng, vertices=9, faces=4))
    colors, background = dr.array(dr.read(colors)[None]), dr.array([0.1, 0.2, 0.3])
    options = {"size": (9, 13), "sigma": 1e-2, "gamma": 1e-2, "distance": distance, "rgb": rgb, "alpha": alpha, "background": background}
    params = {"screen": screen, "colors": colors, "background": background}
    assert_gradients(lambda: dr.soft_rasterize(screen, faces, colors, **options), params, rng, step=1e-6)
    params = {"texels": texels, "background": background}
    if distance != "hard" and (rgb, alpha) != ("hard", "hard"):  # otherwise there is nothing smooth for the vertices to change
        params["screen"] = screen
    assert_gradients(lambda: dr.soft_rasterize(screen, faces, texels, **options), params, rng, step=1e-6)


@pytest.mark.parametrize("kind", ["perspective_correct", "orthographic"])
def test_gradients_with_other_interpolations(kind, f64, rng):
    screen, faces, colors, _ = (dr.array(x) for x in scene(rng, vertices=9, faces=4))
    colors = dr.array(dr.read(colors)[None])
    options = {"size": (9, 13), "sigma": 1e-2, "gamma": 1e-2, kind: True}
    assert_gradients(lambda: dr.soft_rasterize(screen, faces, colors, **options), {"screen": screen, "colors": colors}, rng, step=1e-6)


def test_gradients_of_shared_and_batched_arrays(f64, rng):
    screen, faces, colors, texels = scene(rng, vertices=9, faces=4, batch=3)
    index, options = dr.array(faces), {"size": 11, "sigma": 1e-2, "gamma": 1e-2}
    many = dr.array(rng.uniform(0, 1, (3, 9, 3)))
    s, c, one, t = dr.array(screen), dr.array(colors[None]), dr.array(screen[:1]), dr.array(texels)
    tt, backgrounds = dr.array(np.stack([texels, 1 - texels, texels[::-1]])), dr.array(rng.uniform(0, 1, (3, 3)))
    assert_gradients(lambda: dr.soft_rasterize(s, index, c, **options), {"screen": s, "shared colors": c}, rng, step=1e-6)
    assert_gradients(lambda: dr.soft_rasterize(one, index, many, **options), {"shared screen": one, "colors": many}, rng, step=1e-6)
    assert_gradients(lambda: dr.soft_rasterize(s, index, t, **options), {"screen": s, "shared texels": t}, rng, step=1e-6)
    assert_gradients(lambda: dr.soft_rasterize(one, index, tt, **options), {"shared screen": one, "texels": tt}, rng, step=1e-6)
    options["background"] = backgrounds
    assert_gradients(lambda: dr.soft_rasterize(s, index, c, **options), {"backgrounds": backgrounds}, rng, step=1e-6)


def test_gpu_gradients_equal_cpu_gradients(arch, f32, rng):
    """In float32, so that devices without float64 are held to the CPU's gradients."""
    if arch == "cpu":
        pytest.skip("compares another device with the CPU")
    screen, faces, colors, texels = scene(rng, vertices=30, faces=40, batch=2)
    cotangent = rng.standard_normal((2, 31, 40, 4))
    results = []
    for device in (arch, "cpu"):
        runtime.init(device)
        s, c, t, index = dr.array(screen), dr.array(colors[None]), dr.array(texels), dr.array(faces)
        options = {"size": (31, 40), "sigma": 1e-3, "gamma": 1e-3}
        results.append(
            gradients(lambda s=s, c=c, index=index, options=options: dr.soft_rasterize(s, index, c, **options), [s, c], cotangent)
            + gradients(lambda s=s, t=t, index=index, options=options: dr.soft_rasterize(s, index, t, **options), [s, t], cotangent)
        )
    runtime.init(arch)
    for ours, theirs in zip(*results, strict=True):
        assert relative(ours, theirs) < 1e-3


def test_repeated_gradients_are_bitwise_equal(f32, rng):
    screen, faces, colors, texels = scene(rng, vertices=60, faces=150)
    s, c, t, index = dr.array(screen), dr.array(colors[None]), dr.array(texels), dr.array(faces)
    cotangent = rng.standard_normal((1, 64, 64, 4))
    for surface in (c, t):
        first, second = (gradients(lambda x=surface: dr.soft_rasterize(s, index, x, size=64, sigma=1e-3), [s, surface], cotangent) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_records_on_a_plain_taichi_tape(f32, rng):
    screen, faces, colors, _ = scene(rng)
    s, c, index = dr.array(screen), dr.array(colors[None]), dr.array(faces)
    target, loss = dr.array(rng.uniform(0, 1, (1, 16, 16, 4))), dr.scalar()

    def body():
        dr.losses.mse(dr.soft_rasterize(s, index, c, size=16, sigma=1e-2), target, loss)

    with dr.Tape(loss):
        body()
    expected = dr.read(s.grad)
    dr.write(s.grad, np.zeros_like(expected))
    with ti.ad.Tape(loss):
        body()
    assert np.array_equal(dr.read(s.grad), expected) and np.abs(expected).max() > 0


# --- Bad input --------------------------------------------------------------------------------------------------


def triangle_scene():
    screen = np.array([[[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, 2], [0.7, 0.7, 2], [0.9, 0.6, 2], [0.8, 0.9, 2]]], float)
    return screen, np.array([[0, 1, 2], [3, 4, 5]]), np.full((1, 6, 3), 0.5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sigma": 0.0}, "sigma: expected a positive number"),
        ({"sigma": float("nan")}, "sigma"),
        ({"gamma": -1.0}, "gamma: expected a positive number"),
        ({"near": 0.0}, "near"),
        ({"far": 0.5}, "far: expected a number above near"),
        ({"dist_eps": 0.7}, "dist_eps"),
        ({"eps": float("inf")}, "eps"),
        ({"size": 0}, "size"),
        ({"size": (3, 4, 5)}, "size"),
        ({"size": 2.5}, "size"),
        ({"distance": "manhattan"}, "distance: expected one of hard, barycentric, euclidean"),
        ({"rgb": "soft"}, "rgb: expected one of"),
        ({"alpha": "max"}, "alpha: expected one of"),
        ({"background": (1.0, 2.0)}, "background"),
    ],
)
def test_bad_settings(change, message, f32):
    screen, faces, colors = (dr.array(x) for x in triangle_scene())
    with pytest.raises(ValueError, match=message):
        dr.soft_rasterize(screen, faces, colors, **{"size": 8, **change})


def test_bad_arrays(f32):
    screen, faces, colors = triangle_scene()
    s, f, c = dr.array(screen), dr.array(faces), dr.array(colors)
    with pytest.raises(ValueError, match="screen: expected a Taichi array"):
        dr.soft_rasterize(screen, f, c, size=8)
    with pytest.raises(ValueError, match="screen: expected"):
        dr.soft_rasterize(dr.array(screen[0]), f, c, size=8)
    with pytest.raises(ValueError, match="faces: expected"):
        dr.soft_rasterize(s, dr.array(faces.astype(float)), c, size=8)
    with pytest.raises(ValueError, match="colors: expected one entry per vertex, 6, got 5"):
        dr.soft_rasterize(s, f, dr.array(colors[:, :5]), size=8)
    with pytest.raises(ValueError, match="colors: expected one entry per face, 2, got 3"):
        dr.soft_rasterize(s, f, dr.array(np.zeros((3, 2, 2, 3))), size=8)
    with pytest.raises(ValueError, match="colors: expected square texels"):
        dr.soft_rasterize(s, f, dr.array(np.zeros((2, 2, 5, 3))), size=8)
    with pytest.raises(ValueError, match="batch of 1 or 3"):
        dr.soft_rasterize(dr.array(np.repeat(screen, 2, 0)), f, dr.array(np.repeat(colors, 3, 0)), size=8)


@pytest.mark.parametrize("bad", [-1, 6, 2**31 - 1])
def test_face_index_out_of_range(bad, f32):
    screen, faces, colors = triangle_scene()
    faces[1, 2] = bad
    with pytest.raises(ValueError, match=f"faces: expected indices from 0 to 5, got .*{bad}.* in face 1"):
        dr.soft_rasterize(dr.array(screen), dr.array(faces), dr.array(colors), size=8)


@pytest.mark.parametrize("bad", [(np.nan, 0, 2), (0, np.inf, 2), (0, 0, -np.inf), (0, 0, 0), (0, 0, -3), (1e30, 1e30, 2), (0.9, 0.6, 2)])
def test_a_bad_vertex_harms_only_its_faces(bad, f32, rng):
    """NaN, infinite, behind the camera, or leaving a face without area: the image is the one without that face."""
    screen, faces, colors = triangle_scene()
    screen[0, 3] = bad
    s, c = dr.array(screen), dr.array(colors)
    cotangent = rng.standard_normal((1, 20, 20, 4))
    with_bad = dr.read(dr.soft_rasterize(s, dr.array(faces), c, size=20, sigma=1e-2))
    if abs(bad[0]) < 1e29:
        assert np.array_equal(with_bad, dr.read(dr.soft_rasterize(s, dr.array(faces[:1]), c, size=20, sigma=1e-2)))
    screen_grad, colors_grad = gradients(lambda: dr.soft_rasterize(s, dr.array(faces), c, size=20, sigma=1e-2), [s, c], cotangent)
    assert np.isfinite(with_bad).all() and np.isfinite(screen_grad).all() and np.isfinite(colors_grad).all()
    assert np.abs(screen_grad[0, :3]).max() > 0


def test_a_face_across_the_near_plane_is_finite(f32, rng):
    screen, faces, colors = triangle_scene()
    screen[0, 0, 2], screen[0, 1, 2] = 0.3, 5.0
    s, c = dr.array(screen), dr.array(colors)
    for grad in gradients(lambda: dr.soft_rasterize(s, dr.array(faces), c, size=20), [s, c], rng.standard_normal((1, 20, 20, 4))):
        assert np.isfinite(grad).all()


def test_extreme_softness_is_finite(f32, rng):
    screen, faces, colors, _ = scene(rng)
    s, c, index = dr.array(screen), dr.array(colors[None]), dr.array(faces)
    cotangent = rng.standard_normal((1, 16, 16, 4))
    for sigma, gamma in ((1e-12, 1e-7), (1e3, 1e3), (1e-7, 10.0), (10.0, 1e-6), (1e-45, 1e-45)):
        image = dr.read(dr.soft_rasterize(s, index, c, size=16, sigma=sigma, gamma=gamma))
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1 + 1e-5
        for grad in gradients(lambda x=sigma, y=gamma: dr.soft_rasterize(s, index, c, size=16, sigma=x, gamma=y), [s, c], cotangent):
            assert np.isfinite(grad).all()


def test_one_pixel_and_nothing_on_screen(f32):
    screen, faces, colors = triangle_scene()
    assert dr.read(dr.soft_rasterize(dr.array(screen), dr.array(faces), dr.array(colors), size=1)).shape == (1, 1, 1, 4)
    away = dr.array(screen + [10, 0, 0])
    image = dr.read(dr.soft_rasterize(away, dr.array(faces), dr.array(colors), size=9, background=(1, 0, 0)))
    assert np.array_equal(image, np.broadcast_to([1, 0, 0, 0], (1, 9, 9, 4)))
