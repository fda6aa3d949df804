"""Morphable models: vertices, colors and their gradients against NumPy and differences, the prior, and the head by formula."""

import numpy as np
import pytest
from contract import assert_gradients, gradients

import taichi_dr as dr
from taichi_dr import losses
from taichi_dr.morphable import CHUNK, STRIP

SIZES = [3, STRIP, STRIP + 1, CHUNK * STRIP, CHUNK * STRIP + 5]  # vertices: less than a strip, whole strips and not, whole chunks and not
# Views of the mean, of shape and of expression; 0 for coefficients without that axis.
BATCHES = {"single": (1, 0, 0), "batched": (1, 3, 3), "more than a thread takes": (1, 6, 6), "one face": (1, 1, 5), "one expression": (1, 5, 0)}
BATCHES |= {"several means": (4, 1, 0), "all of one view": (1, 1, 1)}


def arrays(rng, count=77, modes=5, expressions=4, colors=3):
    """A model's numbers, of values that float32 holds."""
    single = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    return {
        "mean": single(count, 3),
        "faces": np.arange(count // 3 * 3).reshape(-1, 3),
        "shape_basis": single(count, 3, modes),
        "shape_stddev": rng.uniform(0.5, 2, modes).astype(np.float32),
        "expression_basis": single(3 * count, expressions),
        "expression_stddev": rng.uniform(0.5, 2, expressions).astype(np.float32),
        "color_mean": rng.uniform(0, 1, 3 * count).astype(np.float32),
        "color_basis": single(count, 3, colors),
        "color_stddev": rng.uniform(0.5, 2, colors).astype(np.float32),
    }


def coefficients(rng, batch, count):
    return dr.array(rng.standard_normal((batch, count) if batch else count), vectors=False)


def products(basis, stddev, values):
    """(B, V, 3) offsets, by the formula."""
    return np.einsum("vck,bk->bvc", basis.reshape(-1, 3, len(stddev)).astype(float), np.atleast_2d(values) * stddev)


def make(rng, batches=(1, 0, 0), **sizes):
    """A model, the numbers that it is made of, and coefficients of shape and expression."""
    numbers = arrays(rng, **sizes)
    model = dr.MorphableModel(**numbers)
    means, shapes, expressions = batches
    if means > 1:
        model.mean = dr.array(rng.standard_normal((means, len(numbers["mean"]), 3)))
    return model, numbers, coefficients(rng, shapes, model.shape.count), coefficients(rng, expressions, model.expression.count)


# --- Values and gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("count", SIZES)
def test_vertices_match_numpy(f32, rng, count, batches):
    model, numbers, shape, expression = make(rng, batches, count=count)
    want = dr.read(model.mean) + products(numbers["shape_basis"], numbers["shape_stddev"], dr.read(shape))
    came = dr.read(model.vertices(shape))
    assert came.shape == want.shape
    np.testing.assert_allclose(came, want, atol=2e-5)
    want = want + products(numbers["expression_basis"], numbers["expression_stddev"], dr.read(expression))
    np.testing.assert_allclose(dr.read(model.vertices(shape, expression)), want, atol=2e-5)
    only = dr.read(model.mean) + products(numbers["expression_basis"], numbers["expression_stddev"], dr.read(expression))
    np.testing.assert_allclose(dr.read(model.vertices(expression=expression)), only, atol=2e-5)


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("count", SIZES)
def test_gradients_match_numpy(f32, rng, count, batches):
    """In float32, on every device: the adjoint is linear, so its values are known."""
    model, numbers, shape, expression = make(rng, batches, count=count)
    weights = rng.standard_normal(dr.read(model.vertices(shape, expression)).shape)
    by_mean, by_shape, by_expression = gradients(lambda: model.vertices(shape, expression), (model.mean, shape, expression), weights)
    means = len(by_mean)
    np.testing.assert_allclose(by_mean, weights.reshape(-1, means, count, 3).sum(axis=0), rtol=1e-5, atol=1e-5)
    for came, name in ((by_shape, "shape"), (by_expression, "expression")):
        basis, stddev = numbers[f"{name}_basis"].reshape(-1, 3, came.shape[-1]), numbers[f"{name}_stddev"]
        want = np.einsum("bvc,vck->bk", weights, basis.astype(float)) * stddev
        want = want if came.ndim == 2 and len(came) == len(want) else want.sum(axis=0).reshape(came.shape)
        np.testing.assert_allclose(came, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_gradients_match_differences(f64, rng, batches):
    model, _, shape, expression = make(rng, batches)
    params = {"mean": model.mean, "shape": shape, "expression": expression}
    assert_gradients(lambda: model.vertices(shape, expression), params, rng)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_colors(f64, rng, batch):
    model, numbers, _, _ = make(rng)
    color = coefficients(rng, batch, model.color.count)
    want = numbers["color_mean"].reshape(1, -1, 3) + products(numbers["color_basis"], numbers["color_stddev"], dr.read(color))
    np.testing.assert_allclose(dr.read(model.colors(color)), want, atol=1e-12)
    assert_gradients(lambda: model.colors(color), {"mean": model.color_mean, "color": color}, rng)


@pytest.mark.parametrize("modes", [1, 2, 3, 4, 199])
def test_any_number_of_modes(f32, rng, modes):
    """Also those that dr.array would take for vectors."""
    model, numbers, shape, _ = make(rng, modes=modes)
    want = numbers["mean"] + products(numbers["shape_basis"], numbers["shape_stddev"], dr.read(shape))
    np.testing.assert_allclose(dr.read(model.vertices(shape)), want, atol=1e-4)
    assert [x.shape for x in model.coefficients()] == [(modes,), (4,), (3,)]
    assert [x.shape for x in model.coefficients(2)] == [(2, modes), (2, 4), (2, 3)]
    np.testing.assert_array_equal(dr.read(model.vertices(*model.coefficients(2)[:2])), np.repeat(dr.read(model.mean), 2, axis=0))


def test_results_are_repeatable(f32, rng):
    model, _, shape, expression = make(rng, (1, 3, 1), count=1000, modes=30)
    runs = []
    for _ in range(3):
        loss = dr.scalar()
        with dr.Tape(loss):
            losses.mean_square(model.vertices(shape, expression), loss)
        runs.append([dr.read(x).tobytes() for x in (loss, model.mean.grad, shape.grad, expression.grad)])
    assert runs[0] == runs[1] == runs[2]


def test_nan_stays_in_its_view(f32, rng):
    model, _, shape, _ = make(rng, (1, 3, 0))
    values = dr.read(shape)
    clean = dr.read(model.vertices(shape))
    values[1, 2] = np.nan
    dr.write(shape, values)
    came = dr.read(model.vertices(shape))
    assert np.isnan(came[1]).all()
    np.testing.assert_array_equal(came[[0, 2]], clean[[0, 2]])


def test_nan_stays_in_its_step(f32, rng):
    """Arrays are used again: rows that fill the last strip up must not keep what was in them."""
    model, _, shape, _ = make(rng, count=STRIP + 1)
    weights = rng.standard_normal((1, STRIP + 1, 3))
    run = lambda weights: gradients(lambda: model.vertices(shape), (shape, model.mean), weights)  # noqa: E731
    first = run(weights)
    dr.write(shape, np.full(5, np.nan))
    assert np.isnan(run(np.full_like(weights, np.nan))[0]).all()
    dr.write(shape, np.ones(5))
    for before, after in zip(first, run(weights), strict=True):
        np.testing.assert_array_equal(after, before)


def test_coefficients_without_a_gradient(f32, rng):
    model, _, shape, expression = make(rng)
    shape.grad = None
    assert abs(gradients(lambda: model.vertices(shape, expression), (expression,), np.ones((1, 77, 3)))[0]).max() > 0


def test_bases_are_read_back(f32, rng):
    model, numbers, _, _ = make(rng)
    for name in ("shape", "expression", "color"):
        modes = getattr(model, name)
        np.testing.assert_array_equal(modes.basis(), numbers[f"{name}_basis"].reshape(77, 3, -1))
        np.testing.assert_array_equal(dr.read(modes.stddev), numbers[f"{name}_stddev"])


def test_defaults(f32, rng):
    model = dr.MorphableModel(**{name: values for name, values in arrays(rng).items() if name in ("mean", "faces", "shape_basis")})
    assert (dr.read(model.shape.stddev) == 1).all() and model.expression is model.color is model.color_mean is None
    assert model.coefficients()[1:] == (None, None) and model.vertices() is model.mean
    assert not model.mesh().colored and (dr.read(model.mesh().colors) == 0.5).all()


# --- Meshes and pictures -----------------------------------------------------------------------------------------


def test_meshes_share_arrays(f32, rng):
    model, _, shape, expression = make(rng)
    color = coefficients(rng, 2, 3)
    mesh = model.mesh(shape, expression, color)
    np.testing.assert_array_equal(dr.read(mesh.vertices), dr.read(model.vertices(shape, expression)))
    np.testing.assert_array_equal(dr.read(mesh.colors), dr.read(model.colors(color)))
    assert mesh.faces is model.faces and mesh.colored
    assert model.mesh().vertices is model.mean and model.mesh().colors is model.color_mean
    with pytest.raises(ValueError, match="expected a batch of 1 or 3, got 2"):
        model.mesh(coefficients(rng, 3, 5), None, color)


def test_pictures_reach_the_coefficients(f64, rng):
    model = dr.MorphableModel.synthetic(300, 6, 4, 4)
    shape, expression, color = (dr.array(0.5 * rng.standard_normal(x.shape), vectors=False) for x in model.coefficients())
    camera = dr.Camera.orbit(4.0, 10, 20, fov=35, size=16)
    renderer = dr.SoftRenderer(sigma=1e-2, gamma=1e-1)
    params = {"shape": shape, "expression": expression, "color": color}
    assert_gradients(lambda: renderer(model.mesh(shape, expression, color), camera), params, rng)


def test_coefficients_are_found_again(f32, rng):
    """From vertices, by Adam, with the prior."""
    model = dr.MorphableModel.synthetic(500, 8, 5, 3)
    truth = rng.standard_normal(8)
    target = dr.array(dr.read(model.vertices(dr.array(truth, vectors=False))))
    shape, loss = model.coefficients().shape, dr.scalar()
    adam = dr.optim.Adam([shape], lr=0.1)
    for _ in range(150):
        with dr.Tape(loss):
            losses.mse(model.vertices(shape), target, loss, 1e4)
            losses.mean_square(shape, loss, 1e-4)
        adam.step()
    np.testing.assert_allclose(dr.read(shape), truth, atol=0.02)


@pytest.mark.parametrize("shape", [(5,), (3,), (4, 7), (1, 3), (2, 9, 3), (2, 4, 5, 4)])
def test_the_prior(f64, rng, shape):
    values = rng.standard_normal(shape)
    x, loss = dr.array(values, vectors=len(shape) > 2), dr.scalar(0.25)
    losses.mean_square(x, loss, 3.0)
    np.testing.assert_allclose(dr.read(loss), 0.25 + 3 * np.mean(values**2), rtol=1e-12)
    with dr.Tape(loss):
        losses.mean_square(x, loss, 3.0)
    np.testing.assert_allclose(dr.read(x.grad), 6 * values / values.size, rtol=1e-12)
    with pytest.raises(ValueError, match="array: expected a Taichi array"):
        losses.mean_square(values, loss)
    with pytest.raises(ValueError, match="weight: expected a finite number"):
        losses.mean_square(x, loss, np.nan)


# --- The head by formula -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic():
    """Numbers of the default model, without a device."""
    from taichi_dr.head import head
    from taichi_dr.io.morphable import checked

    return checked(head(5000, 20, 10, 10))


def directed_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


@pytest.mark.parametrize("size", [(200, 1, 1, 1), (1000, 3, 20, 12), (5000, 20, 10, 10), (20001, 40, 1, 1)])
def test_the_head_is_closed_and_outward(size):
    from taichi_dr.head import head

    data = head(*size)
    vertices, faces = data.mean.reshape(-1, 3), data.faces
    assert abs(len(vertices) / size[0] - 1) < 0.05 and len(faces) == 2 * len(vertices) - 4
    edges = directed_edges(faces)
    assert len(np.unique(edges, axis=0)) == len(edges), "an edge is walked twice in one direction"
    np.testing.assert_array_equal(np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0), "an edge has one face")
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    assert np.einsum("fi,fi->", a, normals) > 0 and (np.linalg.norm(normals, axis=1) > 0).all()
    outward = np.einsum("fi,fi->f", normals, (a + b + c) / 3) > 0
    assert outward.mean() > 0.97  # but under the nose and behind the ears
    for values, modes, count in ((data.mean, data.shape, size[1]), (data.mean, data.expression, size[2]), (data.color_mean, data.color, size[3])):
        assert modes.basis.shape == (3 * len(vertices), count) and np.isfinite(values).all()
        assert np.isfinite(modes.basis).all() and (modes.stddev > 0).all()
        np.testing.assert_allclose(np.linalg.norm(modes.basis, axis=0), 1, rtol=1e-12)
    assert 0 <= data.color_mean.min() and data.color_mean.max() <= 1


def test_the_head_is_the_same_every_time(f32):
    one, two = dr.MorphableModel.synthetic(), dr.MorphableModel.synthetic()
    assert dr.read(one.mean).tobytes() == dr.read(two.mean).tobytes() and (dr.read(one.faces) == dr.read(two.faces)).all()
    for name in ("shape", "expression", "color"):
        assert getattr(one, name).basis().tobytes() == getattr(two, name).basis().tobytes()


def test_the_head_is_symmetric(synthetic):
    """The mean, and modes of features but for the jaw that goes to a side."""
    points = synthetic.mean.reshape(-1, 3)
    mirrored = points * [-1, 1, 1]
    order = np.lexsort(np.round(points, 3).T)
    other = np.lexsort(np.round(mirrored, 3).T)
    np.testing.assert_allclose(np.sort(points[order], axis=0), np.sort(mirrored[other], axis=0), atol=1e-5)


def test_modes_matter(synthetic):
    """Two standard deviations of any one are at least 1.5% of the head's height somewhere, or 4% of the range of colors."""
    for modes, least in ((synthetic.shape, 0.03), (synthetic.expression, 0.03), (synthetic.color, 0.04)):
        furthest = np.linalg.norm((2 * modes.basis * modes.stddev).reshape(-1, 3, len(modes.stddev)), axis=1).max(axis=0)
        assert (furthest > least).all(), furthest
    independent = np.linalg.svd(synthetic.shape.basis, compute_uv=False)
    assert independent.min() > 0.05


@pytest.mark.parametrize("draw", range(5))
def test_faces_of_a_population(synthetic, draw):
    """Random coefficients, with expressions: no face of the mesh loses its area, colors stay near [0, 1]."""
    rng = np.random.default_rng(draw)
    moved = synthetic.mean.astype(float)
    for modes in (synthetic.shape, synthetic.expression):
        moved = moved + modes.basis @ (modes.stddev * rng.standard_normal(len(modes.stddev)))
    a, b, c = (moved.reshape(-1, 3)[synthetic.faces[:, k]] for k in range(3))
    assert (np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-9).all()
    assert 1.5 < np.ptp(moved.reshape(-1, 3)[:, 1]) < 3
    colors = synthetic.color_mean + synthetic.color.basis @ (synthetic.color.stddev * rng.standard_normal(len(synthetic.color.stddev)))
    assert -0.6 < colors.min() and colors.max() < 1.6


def test_the_head_looks_like_one(f32):
    """From the front: hair over skin, two eyes with dark middles and white sides, brows, red lips, left and right alike."""
    model = dr.MorphableModel.synthetic()
    camera = dr.Camera.orbit(5.0, 0, 0, fov=30, size=256)
    image = dr.read(dr.SoftRenderer()(model.mesh(), camera))[0]
    from taichi_dr.head import BROW, EYE, MOUTH, _skull

    def at(x, y):
        """The color seen in the direction (x, y) from the middle of the head."""
        point = _skull(np.array([[x, y, np.sqrt(1 - x * x - y * y)]]))
        column, row = camera.project(point)[0, 0]
        return image[int(row), int(column), :3]

    cheek, hair = at(0.45, -0.1), at(0.0, 0.85)
    assert cheek.sum() > 2 * hair.sum()
    for side in (-1, 1):
        assert at(side * EYE[0], EYE[1]).sum() < 0.5, "the pupil is dark"
        white = at(side * (EYE[0] + 0.12), EYE[1])
        assert white.min() > cheek.min() and np.ptp(white) < np.ptp(cheek), "the eye is white beside it"
        assert at(side * BROW[0], BROW[1]).sum() < 0.7 * cheek.sum(), "the brow is dark"
    lips = at(MOUTH[0], MOUTH[1] - 0.05)
    assert lips[0] > 1.5 * lips[1] > 0 and lips[1] < 0.8 * cheek[1], "lips are red"
    alpha = image[..., 3]
    assert alpha[0].max() < 0.01 and alpha[128, 128] > 0.9
    assert abs(image - image[:, ::-1]).mean() < 0.003


# --- Files and bad input -----------------------------------------------------------------------------------------


def test_models_are_saved_and_loaded(f32, rng, tmp_path):
    pytest.importorskip("h5py")
    model, _, shape, expression = make(rng)
    color = coefficients(rng, 0, 3)
    model.save(tmp_path / "model.h5")
    again = dr.MorphableModel.load(tmp_path / "model.h5")
    np.testing.assert_array_equal(dr.read(again.faces), dr.read(model.faces))
    np.testing.assert_allclose(dr.read(again.vertices(shape, expression)), dr.read(model.vertices(shape, expression)), atol=1e-5)
    np.testing.assert_allclose(dr.read(again.colors(color)), dr.read(model.colors(color)), atol=1e-5)
    few = dr.MorphableModel.load(tmp_path / "model.h5", shape_modes=2, expression_modes=1, color_modes=1)
    assert [x.shape for x in few.coefficients()] == [(2,), (1,), (1,)]
    dr.MorphableModel.synthetic(200, 1, 1, 1).save(tmp_path / "head.h5")
    assert dr.MorphableModel.load(tmp_path / "head.h5").color.count == 1


def test_the_face_of_the_shared_data(f32, rng, shared):
    pytest.importorskip("h5py")
    model = dr.MorphableModel.load(shared / "data/face/ict_face_3dmm.h5", shape_modes=20, color_modes=10)
    shape, _, color = (x and dr.array(rng.standard_normal(x.shape), vectors=False) for x in model.coefficients())
    image = dr.read(dr.SoftRenderer(far=2000)(model.mesh(shape, None, color), dr.Camera.orbit(900, 0, 0, fov=30, size=64)))
    assert np.isfinite(image).all() and 0.2 < image[..., 3].mean() < 0.8


def given(rng, **replaced):
    return lambda: dr.MorphableModel(**(arrays(rng) | replaced))


RNG = np.random.default_rng(0)
ONES = np.ones((77, 3, 2))
BAD_MODELS = [
    (
        given(RNG, mean=np.ones((76, 3)), color_mean=None, color_basis=None, color_stddev=None),
        r"shape basis: expected shape \(228, K\) or \(76, 3, K\), as the mean has 228 rows, got \(77, 3, 5\)",
    ),
    (given(RNG, mean=np.ones((77, 2))), "mean: expected three numbers per vertex, got shape"),
    (given(RNG, mean=np.full((77, 3), np.inf)), r"mean: expected finite float32 numbers, got inf at \[0\]"),
    (given(RNG, mean=np.full((77, 3), 1e200)), "mean: expected finite float32 numbers, got inf"),
    (given(RNG, faces=np.ones((2, 3))), r"faces: expected whole numbers of shape \(F, 3\), at least one, got float64"),
    (given(RNG, faces=np.ones((2, 4), int)), r"faces: expected whole numbers of shape \(F, 3\), at least one, got int64 of shape \(2, 4\)"),
    (given(RNG, faces=[[0, 1, 77]]), "faces: expected indices from 0 to 76, got 0 to 77"),
    (given(RNG, shape_basis=None), "shape_stddev: expected a basis with it, got none"),
    (given(RNG, shape_basis=None, shape_stddev=None), r"shape_basis: expected \(V, 3, K\) or \(3 V, K\) numbers, got None"),
    (given(RNG, shape_stddev=np.ones(3)), "shape stddev: expected one per mode, 5, got 3"),
    (given(RNG, shape_stddev=-np.ones(5)), "shape stddev: expected numbers of at least 0, got -1 in mode 0"),
    (given(RNG, expression_basis=ONES * np.nan, expression_stddev=None), r"expression basis: expected finite float32 numbers, got nan at \[0, 0\]"),
    (given(RNG, color_mean=None), "color basis: expected a color mean with it, got none"),
    (given(RNG, color_mean=np.ones(3)), "color mean: expected 231 numbers, got shape"),
    (lambda: dr.MorphableModel.synthetic(199), "vertices: expected a whole number of at least 200, got 199"),
    (lambda: dr.MorphableModel.synthetic(200, 0), "shape_modes: expected a whole number of at least 1, got 0"),
    (lambda: dr.MorphableModel.synthetic(200, 1, 1.5), "expression_modes: expected a whole number of at least 1, got 1.5"),
]


@pytest.mark.parametrize("make_it, message", BAD_MODELS)
def test_bad_models_are_refused(f32, make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def bare(model):
    """The model as FLAME's: no colors; and no expressions."""
    model.expression = model.color = model.color_mean = None
    return model


BAD_COEFFICIENTS = [
    (lambda m, x: m.vertices(np.zeros(5)), r"shape: expected a Taichi array, \(K,\) or \(B, K\) of numbers"),
    (lambda m, x: m.vertices(dr.array([1.0, 2.0, 3.0])), r"shape: expected \(K,\) or \(B, K\) of numbers.* vectors=False\), got shape \(\) of vec3"),
    (lambda m, x: m.vertices(x(0, 4)), r"shape: expected 5 coefficients, one per mode, got 4; .*load\(path, shape_modes=4\)"),
    (lambda m, x: m.vertices(x(2, 5), x(3, 4)), r"vertices: expected a batch of 1 or 3, got 2 \(vertices 2, expression 3\)"),
    (lambda m, x: m.vertices(dr.array(np.zeros(5, int), vectors=False)), "shape: expected f32 elements, got i32"),
    (lambda m, x: m.colors(x(0, 4)), "color: expected 3 coefficients, one per mode, got 4"),
    (lambda m, x: bare(m).vertices(None, x(0, 4)), "expression: expected None, since the model has no expression modes"),
    (lambda m, x: bare(m).colors(), "color: expected a model with colors, got one without"),
    (lambda m, x: bare(m).mesh(None, None, x(0, 3)), "color: expected a model with colors, got one without"),
    (lambda m, x: m.coefficients(0), "batch: expected a whole number of at least 1, or None for one face, got 0"),
    (lambda m, x: m.coefficients(True), "batch: expected a whole number"),
]


@pytest.mark.parametrize("call, message", BAD_COEFFICIENTS)
def test_bad_coefficients_are_refused(f32, rng, call, message):
    model = make(rng)[0]
    with pytest.raises(ValueError, match=message):
        call(model, lambda batch, count: coefficients(rng, batch, count))


def test_a_basis_beyond_32_bits(f32, rng, monkeypatch):
    monkeypatch.setattr("taichi_dr.morphable.INDEX_LIMIT", 1000)
    with pytest.raises(ValueError, match=r"shape basis: expected less than 2\^31 numbers, got shape \(231, 5\); keep fewer modes"):
        make(rng)
