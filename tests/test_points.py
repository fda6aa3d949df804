"""Points and surfaces: samples of a mesh, chamfer and point_to_mesh, against brute force in NumPy."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import reference_losses as reference
from contract import assert_gradients

import taichi_dr as dr
from taichi_dr import losses
from taichi_dr.arrays import array, read, scalar, write
from taichi_dr.distances import target_points
from taichi_dr.gradcheck import gradcheck
from taichi_dr.point_to_mesh import nearest_faces
from taichi_dr.tape import Tape

TOLERANCE = {"f32": 1e-5, "f64": 1e-10}


@pytest.fixture(params=["f32", "f64"])
def tolerance(request):
    request.getfixturevalue(request.param)
    return TOLERANCE[request.param]


def make(name, batch=1, rng=None):
    vertices, faces = reference.MESHES[name]
    x = np.repeat(vertices[None], batch, axis=0)
    if rng is not None:
        x = x + 0.1 * rng.standard_normal(x.shape)
    return SimpleNamespace(vertices=array(x), faces=array(faces)), x, faces


def run(call):
    loss = scalar()
    with Tape(loss):
        call(loss)
    return float(read(loss))


# --- Samples -----------------------------------------------------------------------------------------------------


def test_samples_are_on_the_surface_and_even(f32):
    """Of a cube, as many on each face as fall there by chance; the same ones for the same seed."""
    cube = dr.shapes.cube()
    points = read(dr.sample_surface(cube, 12000, seed=3))[0]
    np.testing.assert_allclose(np.abs(points).max(axis=1), np.abs(read(cube.vertices)).max(), rtol=1e-5)
    side = np.argmax(np.abs(points), axis=1) * 2 + (np.take_along_axis(points, np.argmax(np.abs(points), axis=1)[:, None], 1)[:, 0] > 0)
    assert np.abs(np.bincount(side, minlength=6) - 2000).max() < 200  # 5 standard deviations
    assert np.abs(points.mean(axis=0)).max() < 0.03
    np.testing.assert_array_equal(points, read(dr.sample_surface(cube, 12000, seed=3))[0])
    assert (points != read(dr.sample_surface(cube, 12000, seed=4))[0]).any()


def test_gradients_of_samples(f64, rng, monkeypatch):
    mesh, _, _ = make("icosphere", 3, rng)
    # The faces' areas decide which points are where: the choice is held, as the tape does.
    chosen = itertools.cycle([np.arange(50), np.arange(7, 57), np.arange(30, 80)])
    monkeypatch.setattr(dr.sampling, "_by_area", lambda *_: next(chosen))
    assert_gradients(lambda: dr.sample_surface(mesh, 50), {"vertices": mesh.vertices}, rng)


def test_samples_of_degenerate_meshes(f32):
    mesh, x, faces = make("book")
    assert np.isfinite(read(dr.sample_surface(mesh, 100))).all()
    write(mesh.vertices, np.zeros(x.shape))
    assert not read(dr.sample_surface(mesh, 100)).any()
    x[0, 3] = np.nan
    write(mesh.vertices, x)
    assert np.isfinite(read(dr.sample_surface(mesh, 100))).all()


def test_bad_samples(f32):
    mesh, _, _ = make("icosphere")
    for count in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match="count: expected a whole number of at least 1"):
            dr.sample_surface(mesh, count)
    with pytest.raises(ValueError, match="mesh: expected a mesh with vertices and faces"):
        dr.sample_surface(mesh.vertices, 5)


# --- Chamfer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 3])
def test_chamfer_matches_brute_force(targets, tolerance, rng):
    p, q = rng.standard_normal((3, 70, 3)), rng.standard_normal((targets, 50, 3))
    points = array(p)
    goal = q if targets > 1 else q[0]
    assert run(lambda loss: losses.chamfer(points, goal, loss, 0.7)) == pytest.approx(0.7 * reference.chamfer(p, q), rel=tolerance)
    directions = rng.standard_normal((4, *p.shape))
    expected = [reference.slope(lambda y: 0.7 * reference.chamfer(y, q), p, d) for d in directions]
    came = [(read(points.grad).astype(np.float64) * d).sum() for d in directions]
    np.testing.assert_allclose(came, expected, rtol=0, atol=max(10 * tolerance, 1e-7) * np.abs(expected).max())


def test_chamfer_of_a_mesh(f64, rng):
    mesh, x, _ = make("icosphere", 2, rng)
    goal = rng.standard_normal((40, 3))
    value = run(lambda loss: losses.chamfer(mesh, goal, loss, samples=200, seed=5))
    assert value == pytest.approx(reference.chamfer(read(dr.sample_surface(mesh, 200, seed=5)), goal[None]), rel=1e-10)
    assert read(mesh.vertices.grad).any()
    single = dr.Mesh(read(mesh.vertices)[0], read(mesh.faces))
    assert run(lambda loss: losses.chamfer(single, goal, loss, samples=20)) > 0


def test_chamfer_fits_a_sphere_to_points(f32, rng):
    goal = rng.standard_normal((400, 3))
    goal *= [1.2, 0.7, 0.9] / np.linalg.norm(goal, axis=1, keepdims=True)
    sphere = dr.shapes.icosphere(2)
    steps = dr.LargeSteps(sphere)
    optimizer, loss = dr.optim.AdamUniform([steps.coordinates], lr=0.1), scalar()
    before = run(lambda loss: losses.point_to_mesh(sphere, goal, loss))
    for seed in range(60):
        with Tape(loss):
            losses.chamfer(sphere.with_vertices(steps.vertices()), goal, loss, samples=500, seed=seed)
        optimizer.step()
    assert run(lambda loss: losses.point_to_mesh(sphere.with_vertices(steps.vertices()), goal, loss)) < 0.05 * before


def test_a_bad_point_stays_alone(f32, rng):
    p, q = rng.standard_normal((2, 60, 3)), rng.standard_normal((50, 3))
    clean = array(np.delete(p, 7, axis=1)[:1])
    points = array(p)
    p[0, 7, 1] = np.nan
    write(points, p)
    value = run(lambda loss: losses.chamfer(points, q, loss))
    assert np.isfinite(value) and np.isfinite(read(points.grad)).all() and not read(points.grad)[0, 7].any()
    run(lambda loss: losses.chamfer(clean, q, loss))
    assert read(points.grad)[0].any()
    write(points, np.full(p.shape, np.nan))
    assert run(lambda loss: losses.chamfer(points, q, loss)) == 0
    assert not read(points.grad).any()


# --- Points to a mesh --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.MESHES)
@pytest.mark.parametrize("targets", [1, 3])
def test_point_to_mesh_matches_brute_force(name, targets, tolerance, rng):
    mesh, x, faces = make(name, 3, rng)
    points = 1.5 * rng.standard_normal((targets, 9, 3))
    goal = points if targets > 1 else points[0]

    def value(y):
        return 0.7 * reference.point_to_mesh(y, faces, points)

    assert run(lambda loss: losses.point_to_mesh(mesh, goal, loss, 0.7)) == pytest.approx(value(x), rel=tolerance)
    direction = rng.standard_normal(x.shape)
    expected = reference.slope(value, x, direction)
    assert (read(mesh.vertices.grad).astype(np.float64) * direction).sum() == pytest.approx(expected, rel=max(100 * tolerance, 1e-6))


def test_the_tree_finds_the_nearest_of_many_faces(f32, rng):
    """Near, far, inside and on the surface, beside a mesh of very uneven faces."""
    sphere = dr.shapes.icosphere(4)
    x, faces = read(sphere.vertices)[0], read(sphere.faces)
    x = np.concatenate([x, [[-9, -9, -3], [9, -9, -3], [0, 12, -3]]])
    faces = np.concatenate([faces, [[2562, 2563, 2564]]])
    points = np.concatenate([rng.standard_normal((200, 3)), 100 * rng.standard_normal((50, 3)), x[:50], 0.01 * rng.standard_normal((50, 3))])
    found, weights = nearest_faces(array(x[None]), array(faces), points[None].astype(np.float32))
    places = (x[faces[found[0]]] * weights[0][..., None]).sum(axis=1)
    came = ((points - places) ** 2).sum(axis=1)
    x = x.astype(np.float64)
    for k in range(0, len(points), 5):
        least = min(distances_to_lines(points[k], x[faces[:, i]], x[faces[:, i - 1]]).min() for i in range(3))
        u, v, d = x[faces[:, 1]] - x[faces[:, 0]], x[faces[:, 2]] - x[faces[:, 0]], points[k] - x[faces[:, 0]]
        gram = np.stack([(u * u).sum(1), (u * v).sum(1), (u * v).sum(1), (v * v).sum(1)], axis=-1).reshape(-1, 2, 2)
        w = np.linalg.solve(gram, np.stack([(u * d).sum(1), (v * d).sum(1)], axis=-1)[..., None])[..., 0]
        inside = (w >= 0).all(axis=1) & (w.sum(axis=1) <= 1)
        flat = ((d - w[:, :1] * u - w[:, 1:] * v) ** 2).sum(axis=1)
        least = min(least, flat[inside].min(initial=np.inf))
        assert came[k] == pytest.approx(least, rel=1e-4, abs=1e-9)


def distances_to_lines(p, a, b):
    """Squared, to segments from a to b."""
    t = np.clip(((p - a) * (b - a)).sum(axis=1) / ((b - a) ** 2).sum(axis=1), 0, 1)[:, None]
    return ((p - a - t * (b - a)) ** 2).sum(axis=1)


def test_gradients_of_point_to_mesh_match_differences(f64, rng):
    mesh, _, _ = make("icosphere", 2, rng)
    points = 1.3 * rng.standard_normal((60, 3))
    (check,) = gradcheck(lambda loss: losses.point_to_mesh(mesh, points, loss), [mesh.vertices])
    assert check.error < 1e-6 and np.abs(check.by_tape).max() > 1e-9


def test_gradients_of_chamfer_match_differences(f64, rng):
    points, goal = array(rng.standard_normal((2, 40, 3))), rng.standard_normal((30, 3))
    (check,) = gradcheck(lambda loss: losses.chamfer(points, goal, loss), [points])
    assert check.error < 1e-6 and np.abs(check.by_tape).max() > 1e-9


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_faces_of_a_bad_vertex_are_left_out(bad, f32, rng):
    mesh, x, faces = make("icosphere", 2, rng)
    points = 1.3 * rng.standard_normal((30, 3))
    x[0, 7, 1] = bad
    write(mesh.vertices, x)
    value = run(lambda loss: losses.point_to_mesh(mesh, points, loss))
    rest = faces[(faces != 7).all(axis=1)]
    expected = (reference.point_to_mesh(x[:1], rest, points[None]) + reference.point_to_mesh(x[1:], faces, points[None])) / 2
    assert value == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(read(mesh.vertices.grad)).all() and not read(mesh.vertices.grad)[0, 7].any()
    write(mesh.vertices, np.full(x.shape, bad))
    assert run(lambda loss: losses.point_to_mesh(mesh, points, loss)) == 0
    assert not read(mesh.vertices.grad).any()


def test_faces_without_area(f32):
    """Lines and points are faces too: the nearest place on them."""
    x = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], float)
    for corners, expected in (([0, 1, 2], 1.0), ([0, 0, 1], 1.25), ([0, 0, 0], 3.25)):
        mesh = SimpleNamespace(vertices=array(x[None]), faces=array(np.array([corners])))
        assert run(lambda loss, mesh=mesh: losses.point_to_mesh(mesh, [[1.5, 1.0, 0.0]], loss)) == pytest.approx(expected)
        assert np.isfinite(read(mesh.vertices.grad)).all() and read(mesh.vertices.grad).any()


@pytest.mark.parametrize("name", ["chamfer", "point_to_mesh"])
def test_repeats_bitwise(name, f32, rng):
    mesh, _, _ = make("icosphere", 5, rng)
    goal, results = rng.standard_normal((200, 3)), []
    for _ in range(2):
        value = run(lambda loss: getattr(losses, name)(mesh, goal, loss))
        results.append((value, read(mesh.vertices.grad).tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["chamfer", "point_to_mesh"])
def test_bad_arguments(name, f32, rng):
    mesh, x, faces = make("icosphere", 2)
    f, goal = getattr(losses, name), rng.standard_normal((5, 3))
    holed = goal.copy()
    holed[2, 1] = np.nan
    argument = "target" if name == "chamfer" else "points"
    wild = SimpleNamespace(vertices=mesh.vertices, faces=array(faces + 1))
    cases = [
        (lambda: f(mesh, holed, scalar()), f"{argument}: expected finite numbers, got NaN or infinity"),
        *[(lambda g=g: f(mesh, g, scalar()), rf"{argument}: expected numbers of shape \(M, 3\) or \(2, M, 3\)")
          for g in (goal[:, :2], goal[0], np.zeros((0, 3)), np.zeros((3, 5, 3)), "points", None)],
        (lambda: f(3.0, goal, scalar()), "expected .* mesh"),
        (lambda: f(wild, goal, scalar()), "faces: expected indices from 0 to 41"),
        (lambda: f(mesh, goal, 0.0), "loss: expected"),
        (lambda: f(mesh, goal, scalar(), np.nan), "weight: expected a finite number"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_target_points_may_be_an_array(f32, rng):
    goal = rng.standard_normal((5, 3))
    np.testing.assert_allclose(target_points("target", array(goal), 1), goal[None], rtol=1e-6)
