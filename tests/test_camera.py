"""Cameras: known views, SoftRas's own screen, the formula in NumPy, and gradients in everything that moves."""

import numpy as np
import pytest
import reference
from contract import assert_gradients, gradients

from taichi_dr.arrays import array, read
from taichi_dr.camera import Camera, project

# Azimuths from +z over +x, the eye at distance 2: (elevation, azimuth), eye.
ORBITS = [((0, 0), (0, 0, 2)), ((0, 90), (2, 0, 0)), ((0, 180), (0, 0, -2)), ((30, 0), (0, 1, 3**0.5)), ((-30, 90), (3**0.5, -1, 0))]
MODES = {"perspective": {}, "orthographic": {"orthographic": True}, "mirrored": {"mirrored": True}, "non-square": {"size": (32, 48)}}


def scene(rng, views, vertex_batch=None):
    """Vertices around the origin, and eye, at, up, fov (by name) of cameras that see them all."""
    vertices = rng.uniform(-1, 1, (vertex_batch or views, 7, 3))
    eye = reference.unit(rng.standard_normal((views, 3))) * rng.uniform(3, 5, (views, 1))
    at = rng.uniform(-0.3, 0.3, (views, 3))
    up = reference.unit(np.cross(rng.standard_normal((views, 3)), at - eye)) * 1.7 + 0.3 * (at - eye)
    return vertices, {"eye": eye, "at": at, "up": up, "fov": rng.uniform(30, 90, views)}


def expected(vertices, view, **options):
    views = max(len(vertices), len(view["eye"]))
    row = {name: np.broadcast_to(x, (views, *x.shape[1:])) for name, x in view.items()}
    points = np.broadcast_to(vertices, (views, *vertices.shape[1:]))
    return np.stack([reference.project(points[b], *(row[name][b] for name in ("eye", "at", "up", "fov")), **options) for b in range(views)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("views, vertex_batch", [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_project_matches_the_formula(f32, rng, mode, views, vertex_batch):
    vertices, view = scene(rng, views, vertex_batch)
    screen = read(project(array(vertices), Camera.look_at(**view, **MODES[mode])))
    options = {name: x for name, x in MODES[mode].items() if name != "size"}
    np.testing.assert_allclose(screen, expected(vertices, view, **options), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_project_matches_the_formula_in_double_precision(f64, rng, mode):
    vertices, view = scene(rng, 2)
    screen = read(project(array(vertices), Camera.look_at(**view, **MODES[mode])))
    options = {name: x for name, x in MODES[mode].items() if name != "size"}
    np.testing.assert_allclose(screen, expected(vertices, view, **options), atol=1e-12)


def test_the_shorter_side_spans_the_field_of_view(f32):
    camera = Camera.look_at((0, 0, 2), fov=90, size=(32, 64))
    screen = read(project(array([[[0, 2.0, 0], [4.0, 0, 0], [0, 0, 1.0]]]), camera))
    np.testing.assert_allclose(screen[0], [[0, 1, 2], [2, 0, 2], [0, 0, 1]], atol=1e-6)
    assert camera.size == (32, 64) and camera.batch == 1


def test_orthographic_and_perspective_agree_in_the_plane_through_at(f32, rng):
    eye, at = np.array([1.0, 2.0, 4.0]), np.array([0.2, -0.1, 0.3])
    plane = at + np.cross(rng.standard_normal((5, 3)), at - eye)
    views = [Camera.look_at(eye, at, fov=50, orthographic=flag) for flag in (False, True)]
    screens = [read(project(array(plane[None]), camera)) for camera in views]
    np.testing.assert_allclose(*screens, atol=1e-5)


@pytest.mark.parametrize("angles, eye", ORBITS)
def test_orbit_goes_round_the_target(f32, angles, eye):
    camera = Camera.orbit(2, *angles, at=(1, 2, 3), fov=40, size=8)
    np.testing.assert_allclose(read(camera.eye), [np.add(eye, (1, 2, 3))], atol=1e-6)
    screen = read(project(array([[[1.0, 2.0, 3.0], [1.0, 2.1, 3.0]]]), camera))[0]
    np.testing.assert_allclose(screen[0], [0, 0, 2], atol=1e-6)
    assert screen[1, 1] > 0.01 and abs(screen[1, 0]) < 1e-6


def test_orbit_makes_one_view_per_angle(f32):
    camera = Camera.orbit(2, 10, [0, 90, 180], fov=[40, 50, 60])
    assert camera.batch == 3 and camera.fov.shape == (3,)
    np.testing.assert_allclose(read(camera.eye), [np.array(read(Camera.orbit(2, 10, a).eye))[0] for a in (0, 90, 180)], atol=1e-6)
    assert Camera.orbit(2, 10, 0, at=np.zeros((4, 3))).batch == 4


# NMR's test of look_at: where the point (1, 0, 0) is, seen from these eyes in the mirrored frame.
@pytest.mark.parametrize("eye, seen", [((1, 0, 1), (-(0.5**0.5), 0, 0.5**0.5)), ((0, 0, -10), (1, 0, 10)), ((-1, 1, 0), (0, 0.5**0.5, 1.5 * 2**0.5))])
def test_the_mirrored_frame_is_that_of_the_peers(f32, eye, seen):
    screen = read(project(array([[[1.0, 0.0, 0.0]]]), Camera.look_at(eye, fov=90, mirrored=True)))[0, 0]
    np.testing.assert_allclose(screen * (screen[2], screen[2], 1), seen, atol=1e-5)


def test_softras_screen_positions_are_reproduced(f64, shared):
    for path in sorted((shared / "gold" / "softras").glob("*.npz")):
        gold = np.load(path)
        camera = Camera.look_at(gold["eye"], fov=2 * gold["half_fov_degrees"], size=int(gold["size"]), mirrored=True)
        np.testing.assert_allclose(read(project(array(gold["vertices"][None]), camera))[0], gold["screen"], atol=1e-6)


def test_from_softras_stands_where_softras_does(f32):
    camera = Camera.from_softras(2.732, 20, 140, viewing_angle=25, size=64)
    e, a = np.radians(20), np.radians(140)
    np.testing.assert_allclose(read(camera.eye)[0], 2.732 * np.array([np.cos(e) * np.sin(a), np.sin(e), -np.cos(e) * np.cos(a)]), atol=1e-6)
    assert camera.mirrored and camera.size == (64, 64)
    np.testing.assert_allclose(read(camera.fov), [50])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("views, vertex_batch", [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_gradients(f64, rng, mode, views, vertex_batch):
    vertices, view = scene(rng, views, vertex_batch)
    camera, vertices = Camera.look_at(**view, **MODES[mode]), array(vertices)
    params = {"vertices": vertices, "eye": camera.eye, "at": camera.at, "up": camera.up, "fov": camera.fov}
    assert_gradients(lambda: project(vertices, camera), params, rng, directions=3)


def test_gradients_in_arrays_that_views_share(f64, rng):
    """An eye of shape () and a fov of shape (1,) beside three `at`: their gradients sum over the views."""
    vertices, view = scene(rng, 3)
    vertices, eye, at = array(vertices), array(view["eye"][0]), array(view["at"])
    camera = Camera.look_at(eye, at, fov=50)
    assert camera.eye is eye and camera.at is at and camera.batch == 3
    params = {"eye": eye, "at": at, "up": camera.up, "fov": camera.fov}
    assert_gradients(lambda: project(vertices, camera), params, rng)


def test_gradients_in_single_precision(f32, rng):
    """Every device against differences of the reference: a kernel that loses gradients on one of them shows here."""
    vertices, view = scene(rng, 3, 1)
    vertices = np.repeat(vertices, 20, axis=1) + rng.uniform(-0.1, 0.1, (1, 140, 3))
    cotangent = rng.standard_normal((3, 140, 3))
    camera, given = Camera.look_at(**view), array(vertices)
    grads = gradients(lambda: project(given, camera), [given, camera.eye, camera.at, camera.up, camera.fov], cotangent)
    values = {"vertices": vertices, **view}
    for (name, value), grad in zip(values.items(), grads, strict=True):
        d = rng.standard_normal(value.shape)
        ends = [expected(moved.pop("vertices"), moved) for moved in ({**values, name: value + h * d} for h in (1e-5, -1e-5))]
        slope = (cotangent * (ends[0] - ends[1])).sum() / 2e-5
        assert abs((grad * d).sum() - slope) < 1e-3 * max(1.0, abs(slope)), name


def test_gradients_repeat_bitwise(f32, rng):
    vertices, view = scene(rng, 1)
    vertices = array(rng.uniform(-1, 1, (1, 3000, 3)))
    camera, cotangent = Camera.look_at(**view), rng.standard_normal((1, 3000, 3))
    runs = [gradients(lambda: project(vertices, camera), [vertices, camera.eye], cotangent) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_vertex_spoils_nothing_else(f32, rng, bad, orthographic):
    vertices, view = scene(rng, 1)
    spoiled = np.insert(vertices, 2, [[bad, 0, bad]], axis=1)
    camera, cotangent = Camera.look_at(**view, orthographic=orthographic), rng.standard_normal((1, 8, 3))
    clean, given = array(vertices), array(spoiled)
    others = np.delete(np.arange(8), 2)
    np.testing.assert_array_equal(read(project(given, camera))[:, others], read(project(clean, camera)))
    params = [camera.eye, camera.at, camera.up, camera.fov]
    by_clean = gradients(lambda: project(clean, camera), [clean, *params], cotangent[:, others])
    by_spoiled = gradients(lambda: project(given, camera), [given, *params], cotangent)
    np.testing.assert_allclose(by_spoiled[0][:, others], by_clean[0])
    for a, b in zip(by_spoiled[1:], by_clean[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_behind_the_camera_is_finite_and_still(f32, rng):
    camera = Camera.look_at((0, 0, 2))
    vertices = array([[[0.5, 0.5, 3.0], [0.5, 0.5, 2.0], [0.5, 0.5, 0.0]]])
    screen = read(project(vertices, camera))
    assert np.isfinite(screen).all()
    np.testing.assert_allclose(screen[0, :, 2], [-1, 0, 2])
    (grad,) = gradients(lambda: project(vertices, camera), [vertices], np.ones((1, 3, 3)))
    assert (grad[0, :2] == 0).all() and (grad[0, 2] != 0).all()


SINGULAR = {
    "eye at the target": dict(eye=(0, 0, 0)),
    "up along the view": dict(eye=(0, 3, 0)),
    "no up": dict(up=(0, 0, 0)),
    "no angle": dict(fov=0),
    "wide angle": dict(fov=200),
}


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("case", SINGULAR)
def test_a_singular_camera_in_arrays_stays_finite(f32, case, orthographic):
    view = {"eye": (0, 0, 3), "up": (0, 1, 0), "fov": 60, **SINGULAR[case]}
    eye, up, fov = array(np.array([view["eye"], (0, 0, 4)], float)), array(np.array(view["up"], float)), array(np.float64(view["fov"]))
    camera, vertices = Camera.look_at(eye, up=up, fov=fov, orthographic=orthographic), array([[[0.1, 0.2, -0.3], [0.3, -0.1, -0.2]]])
    assert np.isfinite(read(project(vertices, camera))).all()
    grads = gradients(lambda: project(vertices, camera), [vertices, eye, camera.at, up, fov], np.ones((2, 2, 3)))
    assert all(np.isfinite(g).all() for g in grads)


BAD_VIEWS = [
    (dict(eye=(0, 0, 0)), r"eye: expected a place away from at .* in view 0"),
    (dict(eye=[(0, 0, 2), (0, 2, 0)]), r"up: expected a direction across .* in view 1; give another up"),
    (dict(eye=(0, 0, 2), up=(0, 0, 0)), r"up: .* in view 0"),
    (dict(eye=(0, 0, float("nan"))), r"eye: expected finite numbers"),
    (dict(eye=(0, 2)), r"eye: expected three numbers or \(B, 3\) numbers, got shape \(2,\)"),
    (dict(eye="there"), r"eye: expected three numbers"),
    (dict(eye=(0, 0, 2), fov=180), r"fov: expected degrees between 0 and 180"),
    (dict(eye=(0, 0, 2), fov=[[60]]), r"fov: expected a number or \(B,\) numbers"),
    (dict(eye=np.ones((2, 3)), at=np.zeros((3, 3))), r"eye: expected a batch of 1 or 3, got 2"),
    (dict(eye=(0, 0, 2), fov=[50, 60, 70], at=np.zeros((2, 3))), r"at: expected a batch of 1 or 3"),
    (dict(eye=(0, 0, 2), size=0), r"size: expected a positive whole number"),
]


@pytest.mark.parametrize("given, message", BAD_VIEWS)
def test_bad_cameras_are_refused(f32, given, message):
    with pytest.raises(ValueError, match=message):
        Camera.look_at(**given)


def test_bad_arguments_are_refused(f32):
    camera, vertices = Camera.look_at(np.eye(3) + 2), array(np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="vertices: expected a batch of 1 or 3, got 2"):
        project(vertices, camera)
    with pytest.raises(ValueError, match="vertices: expected a Taichi array"):
        project(np.ones((1, 4, 3)), camera)
    with pytest.raises(ValueError, match="camera: expected a Camera, got str"):
        project(vertices, "front")
    with pytest.raises(ValueError, match=r"eye: expected \(\) or \(B,\) of vec3"):
        Camera.look_at(vertices)
    with pytest.raises(ValueError, match=r"fov: expected \(\) or \(B,\) of numbers, as of dr.array\(.*, vectors=False\), got shape \(\) of vec3"):
        Camera.look_at((0, 0, 2), fov=array([30.0, 40.0, 50.0]))
    with pytest.raises(ValueError, match="distance: expected positive numbers"):
        Camera.orbit(-1, 0, 0)
    with pytest.raises(ValueError, match="azimuth: expected a finite number"):
        Camera.orbit(1, 0, [[0]])
    with pytest.raises(ValueError, match="elevation off"):
        Camera.orbit(1, 90, 0)
    with pytest.raises(ValueError, match="at: expected numbers"):
        Camera.orbit(1, 0, 0, at=array([0.0, 0.0, 0.0]))
