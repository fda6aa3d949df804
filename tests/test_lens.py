"""Lenses and poses of cameras: the formulas in NumPy, pictures, and gradients in everything that moves."""

import numpy as np
import pytest
import reference_camera
import taichi as ti
from contract import assert_gradients, gradients
from test_camera import scene

from taichi_dr.arrays import array, read, scalar
from taichi_dr.camera import Camera, camera_frame, project, see, to_screen
from taichi_dr.frame import COLUMNS
from taichi_dr.lens import BrownConrady, Fisheye
from taichi_dr.mesh import Mesh
from taichi_dr.pose import Pose
from taichi_dr.render import SoftRenderer
from taichi_dr.tape import Tape

BROWN = (-0.2, 0.06, 0.01, -0.015, -0.01)
BENT = (0.05, -0.02, 0.01, -0.004)
LENSES = {
    "fov": {},
    "focal": {"focal": (40.0, 44.0)},
    "focal and principal point": {"focal": (40.0, 44.0), "principal": (26.0, 14.5)},
    "fov and principal point": {"principal": (26.0, 14.5)},
    "Brown-Conrady": {"focal": (40.0, 44.0), "principal": (26.0, 14.5), "distortion": BROWN},
    "fisheye": {"focal": (40.0, 44.0), "principal": (26.0, 14.5), "distortion": BENT},
    "fov and fisheye": {"distortion": BENT},
    "orthographic": {"focal": (11.0, 12.0), "principal": (26.0, 14.5), "orthographic": True},
    "mirrored": {"focal": (40.0, 44.0), "principal": (26.0, 14.5), "mirrored": True},
}
SIZE = (32, 48)


def lens_of(name, views=None, rng=None):
    """The options of a camera; with `views`, each number differs a little between them."""
    options = dict(LENSES[name], size=SIZE)

    def spread(x):
        x = np.asarray(x, float)
        return x if views is None else x * (1 + 0.05 * rng.standard_normal((views, *x.shape)))

    for key in {"focal", "principal"} & options.keys():
        options[key] = spread(options[key])
    if "distortion" in options:
        options["distortion"] = (BrownConrady if len(options["distortion"]) == 5 else Fisheye)(*np.moveaxis(spread(options["distortion"]), -1, 0))
    return options


def poses(rng, views, kind):
    """World to camera with the vertices of `scene` in front, and its matrices R and t."""
    w, t = rng.uniform(-0.5, 0.5, (views, 3)), np.array([0.1, -0.2, 4.0]) + rng.uniform(-0.2, 0.2, (views, 3))
    R = np.stack([reference_camera.rotation(x) for x in w])
    rotation = array(w) if kind == "axis-angle" else (array(R[:, :, 0] * 1.5), array(R[:, :, 1] - 0.3 * R[:, :, 0]))
    return Pose(rotation, array(t)), R, t


def fields_of(camera):
    """All arrays of a camera by name."""
    named = {name: getattr(camera, name) for name in ("eye", "at", "up", "fov", "focal", "principal")}
    if camera.pose is not None:
        vectors = camera.pose.rotation if isinstance(camera.pose.rotation, tuple) else (camera.pose.rotation,)
        named |= {f"rotation[{k}]": x for k, x in enumerate(vectors)} | {"translation": camera.pose.translation}
    if camera.distortion is not None:
        named |= {name: x for name, x in vars(camera.distortion).items() if isinstance(x, ti.Ndarray)}
    return {name: x for name, x in named.items() if x is not None}


def expected_pixels(points, R, t, lens):
    """(column, row) from the top left corner and depth by OpenCV's formula."""
    height, width = SIZE
    focal = LENSES[lens].get("focal", (0.5 * min(SIZE) / np.tan(np.radians(30)),) * 2)
    cx, cy = LENSES[lens].get("principal", (width / 2, height / 2))
    K = np.array([[focal[0], 0, cx], [0, focal[1], cy], [0, 0, 1.0]])
    coefficients = LENSES[lens].get("distortion")
    if lens == "mirrored":
        R, t = np.diag([-1, 1, 1]) @ R, np.diag([-1, 1, 1]) @ t
    if lens == "orthographic":
        seen = points @ R.T + t
        return seen[:, :2] * focal + (cx, cy), seen[:, 2]
    return reference_camera.opencv(points, K, R, t, coefficients, coefficients is not None and len(coefficients) == 4)


@pytest.mark.parametrize("lens, kind", [*((lens, "axis-angle") for lens in LENSES), ("fisheye", "6d")])
def test_poses_and_lenses_match_the_formulas(f32, rng, lens, kind):
    pose, R, t = poses(rng, 2, kind)
    if lens == "orthographic" or "focal" in LENSES[lens]:
        camera = Camera.from_pose(pose, **lens_of(lens))
    else:
        camera = Camera.from_pose(pose, fov=60, **lens_of(lens))
    points = rng.uniform(-1, 1, (9, 3))
    screen = read(project(array(points[None]), camera))
    for b in range(2):
        pixels, depth = expected_pixels(points, R[b], t[b], lens)
        shown = np.stack([(2 * pixels[:, 0] - SIZE[1]) / 32, (SIZE[0] - 2 * pixels[:, 1]) / 32, depth], axis=1)
        np.testing.assert_allclose(screen[b], shown, atol=2e-5)
        np.testing.assert_allclose(camera.project(points)[b], pixels, atol=3e-4)


def test_a_look_at_camera_takes_focal_lengths(f64, rng):
    vertices, view = scene(rng, 1)
    del view["fov"]
    a = Camera.look_at(**view, fov=50, size=(30, 40))
    b = Camera.look_at(**view, focal=15 / np.tan(np.radians(25)), principal=(20, 15), size=(30, 40), distortion=BrownConrady())
    np.testing.assert_allclose(*(read(project(array(vertices), camera)) for camera in (a, b)), atol=1e-12)


@pytest.mark.parametrize("lens, kind", [*((lens, kind) for lens in LENSES for kind in ("look_at", "axis-angle")), ("Brown-Conrady", "6d")])
def test_gradients_of_poses_and_lenses(f64, rng, lens, kind):
    vertices, view = scene(rng, 2, 1)
    options = lens_of(lens, 2, rng)
    if kind == "look_at":
        if "focal" in options:
            del view["fov"]
        camera = Camera.look_at(**view, **options)
    else:
        camera = Camera.from_pose(poses(rng, 2, kind)[0], **options)
    vertices = array(vertices)
    params = {"vertices": vertices, **fields_of(camera)}
    if options.get("orthographic"):
        del params["translation" if "translation" in params else "at"]  # moved along the axis it changes the depth alone
    assert_gradients(lambda: project(vertices, camera), params, rng, directions=3)


@pytest.mark.parametrize("lens", ["Brown-Conrady", "fisheye"])
def test_gradients_of_a_lens_that_views_share(f64, rng, lens):
    """() and (1,) arrays beside three poses, one vertex on the axis and one far off it."""
    pose, R, t = poses(rng, 3, "axis-angle")
    camera = Camera.from_pose(pose, **lens_of(lens))
    on_axis = R[0].T @ (np.array([0, 0, 3.0]) - t[0])
    far = R[0].T @ (np.array([40.0, -30.0, 1.0]) - t[0])
    vertices = array(np.concatenate([rng.uniform(-1, 1, (5, 3)), [on_axis]])[None])
    assert camera.batch == 3
    assert_gradients(lambda: project(vertices, camera), {"vertices": vertices, **fields_of(camera)}, rng)
    beyond = array(far[None, None])
    assert_gradients(lambda: project(beyond, camera), {"vertices": beyond}, rng, tolerance=1e-5)


@pytest.mark.parametrize("lens", ["Brown-Conrady", "fisheye", "fov"])
def test_gradients_of_lenses_in_single_precision(f32, rng, lens):
    """Every device against differences of the formula."""
    pose, R, t = poses(rng, 1, "axis-angle")
    camera = Camera.from_pose(pose, **lens_of(lens))
    vertices, cotangent = rng.uniform(-1, 1, (1, 40, 3)), rng.standard_normal((1, 40, 3))
    given = array(vertices)
    params = [given, camera.pose.rotation, camera.pose.translation]
    grads = gradients(lambda: project(given, camera), params, cotangent)
    start = (vertices[0], read(camera.pose.rotation)[0].astype(float), t[0])

    def value(points, w, t):
        pixels, depth = expected_pixels(points, reference_camera.rotation(w), t, lens)
        return (cotangent[0] * np.stack([2 * pixels[:, 0] / 32, -2 * pixels[:, 1] / 32, depth], axis=1)).sum()

    for k, grad in enumerate(grads):
        d = rng.standard_normal(start[k].shape)
        slope = np.subtract(*(value(*(x + h * d if n == k else x for n, x in enumerate(start))) for h in (1e-5, -1e-5))) / 2e-5
        assert abs((grad[0] * d).sum() - slope) < 2e-3 * max(1.0, abs(slope))
    fields = [x for name, x in fields_of(camera).items() if name not in ("rotation[0]", "translation")]
    assert all(np.any(g) and np.isfinite(g).all() for g in gradients(lambda: project(given, camera), fields, cotangent))


@pytest.mark.parametrize("lens", LENSES)
def test_the_two_halves_are_the_whole(f32, rng, lens):
    vertices, view = scene(rng, 3, 1)
    if "focal" in LENSES[lens]:
        del view["fov"]
    camera, given = Camera.look_at(**view, **lens_of(lens)), array(vertices)
    params, cotangent = [given, *fields_of(camera).values()], rng.standard_normal((3, 7, 3))

    def halves():
        frame = camera_frame(camera)
        assert frame.shape == (3, COLUMNS)
        return to_screen(see(given, frame), frame, camera)

    np.testing.assert_allclose(read(halves()), read(project(given, camera)), atol=1e-5)
    for a, b in zip(gradients(halves, params, cotangent), gradients(lambda: project(given, camera), params, cotangent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_gradients_of_the_halves(f64, rng):
    camera, points = Camera.from_pose(poses(rng, 2, "axis-angle")[0], **lens_of("Brown-Conrady")), array(rng.uniform(1, 2, (2, 5, 3)))
    frame = camera_frame(camera)
    frame = array(read(frame))
    assert_gradients(lambda: see(points, frame), {"points": points, "frame": frame}, rng)
    assert_gradients(lambda: to_screen(points, frame, camera), {"points": points, "frame": frame}, rng)


def test_whoever_reads_the_eye_from_the_frame_moves_the_camera(f64, rng):
    for camera in (Camera.look_at(rng.uniform(2, 3, (2, 3))), Camera.from_pose(poses(rng, 2, "axis-angle")[0])):
        params = {name: x for name, x in fields_of(camera).items() if name in ("eye", "rotation[0]", "translation")}
        assert_gradients(lambda camera=camera: camera_frame(camera), params, rng)


def test_wild_points_stay_finite_in_every_lens(f32):
    wild = [[1e3, -1e3, 1e-7], [1e18, 1e18, 1e-5], [1e25, 0, 1], [0, 0, 0], [0, 0, -5], [np.nan, 0, 1], [1, 1, 1], [0, 0, 1]]
    points, cotangent = array(np.array([wild])), np.ones((1, len(wild), 3))
    for lens in LENSES:
        camera = Camera.from_pose(Pose(), **lens_of(lens))
        screen = read(project(points, camera))[0]
        assert np.isfinite(screen[[0, 3, 4, 6, 7]]).all(), lens
        (by_point,) = gradients(lambda camera=camera: project(points, camera), [points], cotangent)
        assert np.isfinite(by_point[0, [0, 3, 4, 5, 6, 7]]).all(), lens
        if not camera.orthographic:
            assert not by_point[0, [0, 3, 4, 5]].any()


def test_nothing_asked_gives_exactly_nothing(f32, rng):
    camera, points = Camera.from_pose(poses(rng, 1, "axis-angle")[0], **lens_of("Brown-Conrady")), array(rng.uniform(-1, 1, (1, 9, 3)))
    grads = gradients(lambda: project(points, camera), [points, *fields_of(camera).values()], np.zeros((1, 9, 3)))
    assert not any(np.any(g) for g in grads)


@pytest.mark.parametrize("field", ["focal", "radial", "translation"])
def test_a_bad_view_spoils_no_other(f32, rng, field):
    """One view's number is NaN: what the views share has the gradient of the others."""
    values = {"focal": np.tile([40.0, 44.0], (2, 1)), "radial": np.tile([-0.2, 0.06, 0.0], (2, 1)), "translation": np.tile([0.1, -0.2, 4.0], (2, 1))}
    values[field][1] = np.nan
    points, rotation, cotangent = array(rng.uniform(-1, 1, (1, 6, 3))), array(np.array([0.1, 0.2, 0.3])), rng.standard_normal((2, 6, 3))

    def camera(rows):
        lens = BrownConrady(radial=array(values["radial"][rows]))
        return Camera.from_pose(Pose(rotation, array(values["translation"][rows])), focal=array(values["focal"][rows]), distortion=lens, size=SIZE)

    both, first = camera(slice(0, 2)), camera(slice(0, 1))
    by_both = gradients(lambda: project(points, both), [points, rotation, both.focal], cotangent)
    by_first = gradients(lambda: project(points, first), [points, rotation, first.focal], cotangent[:1])
    for a, b in zip(by_both, by_first, strict=True):
        np.testing.assert_allclose(a[: len(b)], b, rtol=1e-5, atol=1e-6)
    assert not by_both[2][1].any()


def marker(center, radius):
    """A small bright octahedron."""
    corners = np.concatenate([np.eye(3), -np.eye(3)]) * radius + center
    faces = [(a, b, c) if (a + b + c) % 2 else (a, c, b) for a in (0, 3) for b in (1, 4) for c in (2, 5)]
    return Mesh(corners, np.array(faces), np.ones((6, 3)))


def centroid(image):
    """(column, row) of the light in an (H, W, 4) image."""
    light = image[..., 3].astype(float)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()


@pytest.mark.parametrize("lens", LENSES)
def test_the_picture_shows_a_point_where_project_says(f32, rng, lens):
    options = dict(lens_of(lens), size=(64, 96))
    for key in {"focal", "principal"} & options.keys():
        options[key] = 2 * options[key]
    camera = Camera.from_pose(Pose([0.1, -0.2, 0.05], [0.1, -0.2, 4.0]), **options)
    renderer = SoftRenderer(sigma=1e-6, near=0.1, antialias=4)
    for center in np.array([[0.0, 0, 0], [1.2, 0.5, 0.3], [-1.0, -0.6, -0.4]]):
        image = read(renderer(marker(center, 0.12), camera))[0]
        np.testing.assert_allclose(centroid(image), camera.project(center[None])[0, 0], atol=0.05)


def test_project_in_numpy_is_no_step_of_the_computation(f32, rng):
    camera, points, loss = Camera.from_pose(Pose([0.1, 0.2, 0.3], [0, 0, 4])), rng.uniform(-1, 1, (5, 3)), scalar()
    with Tape(loss) as tape:
        camera.project(points)
        assert not tape.calls


BAD_LENSES = [
    (dict(fov=60, focal=(40, 40)), "focal: expected a fov or focal lengths, got both"),
    (dict(focal=(40, -1)), "focal: expected positive numbers of pixels"),
    (dict(focal=0), "focal: expected positive numbers of pixels"),
    (dict(focal=(1, 2, 3)), r"focal: expected numbers of shape \(2,\) or \(B, 2\), got shape \(3,\)"),
    (dict(focal=(40, np.nan)), "focal: expected finite numbers"),
    (dict(principal=5), r"principal: expected numbers of shape \(2,\)"),
    (dict(principal=np.zeros((2, 2))), "expected a batch of 1 or 3, got 2"),
    (dict(distortion=(0.1, 0.2)), r"distortion: expected dr.BrownConrady\(...\) or dr.Fisheye\(...\), got tuple"),
    (dict(distortion=BrownConrady, focal=(3, 4)), "distortion: expected"),
    (dict(orthographic=True), "focal: expected pixels per unit of length"),
    (dict(size=(0, 4)), "size: expected a positive whole number"),
]


@pytest.mark.parametrize("given, message", BAD_LENSES)
def test_bad_lenses_are_refused(f32, given, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_pose(Pose(np.zeros((3, 3))), **given)


def test_bad_arguments_of_poses_and_distortions_are_refused(f32):
    with pytest.raises(ValueError, match="pose: expected a Pose, got ndarray"):
        Camera.from_pose(np.eye(4))
    with pytest.raises(ValueError, match="k2: expected finite numbers"):
        BrownConrady(0, np.nan)
    with pytest.raises(ValueError, match="k2: expected a batch of 1 or 3, got 2"):
        BrownConrady([0, 0, 0], [1, 2])
    with pytest.raises(ValueError, match=r"radial: expected \(\) or \(B,\) of vec3"):
        BrownConrady(radial=array(np.zeros(4)))
    with pytest.raises(ValueError, match="distortion: expected None, since an orthographic camera"):
        Camera.look_at((0, 0, 2), orthographic=True, distortion=Fisheye())
    frame, points = camera_frame(Camera.look_at((0, 0, 2))), array(np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="frame: expected 8 columns"):
        see(points, points)
    with pytest.raises(ValueError, match="points: expected a Taichi array"):
        to_screen(np.ones((1, 4, 3)), frame, Camera.look_at((0, 0, 2)))
    with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\)"):
        Camera.look_at((0, 0, 2)).project(np.ones(3))
