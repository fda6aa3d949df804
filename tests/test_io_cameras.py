"""Cameras of other systems: pixels by their own formulas, pictures, round trips, files, and files that are not valid."""

import json
import struct

import numpy as np
import pytest
import reference_camera as reference
from test_lens import centroid, marker

from taichi_dr.arrays import array, read
from taichi_dr.camera import Camera, project
from taichi_dr.io.cameras import quaternion
from taichi_dr.io.colmap import MODELS, ColmapCamera, ColmapImage, read_colmap, write_colmap
from taichi_dr.lens import BrownConrady, Fisheye
from taichi_dr.pose import Pose
from taichi_dr.render import SoftRenderer

SIZE = (64, 96)
HALF = np.array([0.5, 0.5])  # from pixel centers at integers to the top left corner
K = np.array([[90.0, 0, 50.3], [0, 84.0, 29.1], [0, 0, 1]])
BROWN = (-0.2, 0.06, 0.01, -0.015, -0.01)
BENT = (0.05, -0.02, 0.01, -0.004)
CENTERS = np.array([[0.0, 0, 0], [1.0, 0.5, 0.3], [-0.9, -0.5, -0.4]])


def views(rng, count=3):
    """World to camera with the origin in front."""
    R = np.stack([reference.rotation(w) for w in rng.uniform(-0.4, 0.4, (count, 3))])
    return R, np.array([0.1, -0.1, 4.0]) + rng.uniform(-0.2, 0.2, (count, 3))


def assert_shows(camera, pixels, points, tolerance=1e-3):
    """The camera's own positions, and its pictures, agree with another system's pixels from the top left corner, (B, N, 2)."""
    np.testing.assert_allclose(camera.project(points), pixels, atol=tolerance)
    renderer = SoftRenderer(sigma=1e-6, near=0.1, antialias=4)
    for n in (0, 1):
        images = read(renderer(marker(points[n], 0.1), camera))
        for b in range(camera.batch):
            np.testing.assert_allclose(centroid(images[b]), pixels[b][n], atol=0.05)


@pytest.mark.parametrize("distortion, fisheye", [(None, False), (BROWN, False), (BROWN[:4], False), (BENT, True)])
def test_opencv(f32, rng, distortion, fisheye):
    R, t = views(rng)
    camera = Camera.from_opencv(K, R, t, size=SIZE, distortion=distortion, fisheye=fisheye)
    full = None if distortion is None else (*distortion, 0.0)[: 4 if fisheye else 5]
    assert_shows(camera, [reference.opencv(CENTERS, K, R[b], t[b], full, fisheye)[0] + HALF for b in range(3)], CENTERS)
    back = camera.to_opencv()
    np.testing.assert_allclose(back.K, np.broadcast_to(K, (3, 3, 3)), atol=1e-4)
    np.testing.assert_allclose(back.R, R, atol=1e-6)
    np.testing.assert_allclose(back.t, t, atol=1e-5)
    assert back.fisheye == fisheye and back.size == SIZE
    assert back.distortion is None if full is None else np.allclose(back.distortion, full, atol=1e-7)


def test_opencv_in_double_precision_comes_back_exactly(f64, rng):
    R, t = views(rng)
    many = K * (1 + 0.01 * np.arange(3)[:, None, None] * [[1, 0, 1], [0, 1, 1], [0, 0, 0]])
    coefficients = rng.uniform(-0.01, 0.01, (3, 5))
    back = Camera.from_opencv(many, R, t[..., None], size=SIZE, distortion=coefficients).to_opencv()
    for ours, theirs in zip(back[:4], (many, R, t, coefficients), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def camera_to_world(R, t):
    """OpenGL's axes: right, up, backward."""
    m = np.tile(np.eye(4), (len(R), 1, 1))
    for b in range(len(R)):
        m[b, :3, :3], m[b, :3, 3] = R[b].T @ np.diag([1, -1, -1]), -R[b].T @ t[b]
    return m


def test_opengl(f32, rng):
    poses = camera_to_world(*views(rng))
    camera = Camera.from_opengl(poses, [50, 55, 60], size=SIZE)
    assert_shows(camera, [reference.opengl(CENTERS, poses[b], (50, 55, 60)[b], SIZE) for b in range(3)], CENTERS)
    back = camera.to_opengl()
    np.testing.assert_allclose(back.camera_to_world, poses, atol=1e-5)
    np.testing.assert_allclose(back.fov_x, [50, 55, 60], atol=1e-4)
    np.testing.assert_allclose(np.tan(np.radians(back.fov_y) / 2) * 1.5, np.tan(np.radians(back.fov_x) / 2), atol=1e-5)


def test_opengl_looks_along_minus_z(f32):
    camera = Camera.from_opengl(np.eye(4), 90, size=(10, 20))
    np.testing.assert_allclose(camera.project([[0, 0, -1], [1, 0, -1], [0, 0.5, -1]]), [[[10, 5], [20, 5], [10, 0]]], atol=1e-5)
    assert np.isnan(camera.project([[0, 0, 1]])).all()


def test_pytorch3d(f32, rng):
    R, t = views(rng)
    flip = np.diag([-1.0, -1.0, 1.0])
    rows, T = (flip @ R).swapaxes(1, 2), t @ flip
    focal, principal = np.array([2.4, 2.6]), np.array([0.1, -0.15])
    camera = Camera.from_pytorch3d(rows, T, focal[None], principal, size=SIZE)
    pixels = [reference.pytorch3d(CENTERS, rows[b], T[b], focal, principal, SIZE) for b in range(3)]
    assert_shows(camera, pixels, CENTERS)
    back = camera.to_pytorch3d()
    for ours, theirs in zip(back[:2], (rows, T), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(back.focal_length, np.tile(focal, (3, 1)), atol=1e-6)
    np.testing.assert_allclose(back.principal_point, np.tile(principal, (3, 1)), atol=1e-6)
    screen = Camera.from_pytorch3d(rows, T, focal * 32, (48 - 3.2, 32 + 4.8), size=SIZE, in_ndc=False)
    np.testing.assert_allclose(screen.project(CENTERS), pixels, atol=1e-3)
    one = Camera.from_pytorch3d(rows, T, [2.4, 2.5, 2.6], size=SIZE)
    np.testing.assert_allclose(one.to_pytorch3d().focal_length[:, 1], [2.4, 2.5, 2.6], atol=1e-6)


@pytest.mark.parametrize("distortion", [None, (2e-7, -1e-13, 3e-5, -2e-5, 1e-19)])
def test_softras_projection(f32, rng, distortion):
    R, t = views(rng)
    intrinsics = np.array([[700.0, 0, 250], [0, 720.0, 262], [0, 0, 1]])
    P = intrinsics @ np.concatenate([R, t[..., None]], axis=2)
    camera = Camera.from_softras_projection(P, distortion, size=64)
    expected = np.array([reference.softras(CENTERS, P[b], distortion or (0,) * 5, 512) for b in range(3)])
    np.testing.assert_allclose(read(project(array(CENTERS[None]), camera)), expected, atol=2e-5)
    pixels = np.stack([32 + 32 * expected[..., 0], 32 - 32 * expected[..., 1]], axis=-1)
    assert_shows(camera, pixels, CENTERS)
    scaled = Camera.from_softras_projection(3.7 * P, size=64)
    np.testing.assert_allclose(scaled.project(CENTERS), Camera.from_softras_projection(P, size=64).project(CENTERS), atol=1e-3)


COLMAP = {
    "SIMPLE_PINHOLE": (90.0, 50.8, 29.6),
    "PINHOLE": (90.0, 84.0, 50.8, 29.6),
    "SIMPLE_RADIAL": (90.0, 50.8, 29.6, -0.2),
    "RADIAL": (90.0, 50.8, 29.6, -0.2, 0.05),
    "OPENCV": (90.0, 84.0, 50.8, 29.6, *BROWN[:4]),
    "OPENCV_FISHEYE": (90.0, 84.0, 50.8, 29.6, *BENT),
    "FULL_OPENCV": (90.0, 84.0, 50.8, 29.6, *BROWN, 0.0, 0.0, 0.0),
}


def model_of(rng, model, count=3):
    """Cameras and images as `write_colmap` takes them; quaternions of both signs."""
    R, t = views(rng, count)
    q = quaternion(R) * np.array([[1], [-1], [1]])[:count]
    return {7: ColmapCamera(model, SIZE, COLMAP[model])}, {2 + b: ColmapImage(q[b], t[b], 7, f"a b/{b}.png") for b in range(count)}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("model", COLMAP)
def test_colmap(f32, rng, tmp_path, model, binary):
    cameras, images = model_of(rng, model)
    write_colmap(tmp_path / "in", cameras, images, binary=binary)
    camera = Camera.from_colmap(tmp_path / "in")
    assert camera.names == ("a b/0.png", "a b/1.png", "a b/2.png") and camera.size == SIZE and camera.focal.shape == (1,)
    pixels = [reference.colmap(CENTERS, model, COLMAP[model], images[2 + b].quaternion, images[2 + b].translation) for b in range(3)]
    if binary or model == "OPENCV":
        np.testing.assert_allclose(camera.project(CENTERS), pixels, atol=1e-3)
    else:
        assert_shows(camera, pixels, CENTERS)
    camera.to_colmap(tmp_path / "out", binary=binary)
    again = Camera.from_colmap(tmp_path / "out")
    np.testing.assert_allclose(again.project(CENTERS), pixels, atol=1e-3)
    assert again.names == camera.names and again.focal.shape == (1,)
    assert len(read_colmap(tmp_path / "out")[0]) == 1


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_files_come_back_as_they_were(rng, tmp_path, binary):
    cameras = {k: ColmapCamera(model, SIZE, params) for k, (model, params) in enumerate(COLMAP.items())}
    _, images = model_of(rng, "PINHOLE")
    images = {key: image._replace(camera=k) for k, (key, image) in enumerate(images.items())}
    write_colmap(tmp_path, cameras, images, binary=binary)
    found, seen = read_colmap(tmp_path)
    assert found == cameras and list(seen) == list(images)
    for key, image in images.items():
        np.testing.assert_allclose(np.r_[seen[key].quaternion, seen[key].translation], np.r_[image.quaternion, image.translation], atol=1e-15)
        assert seen[key][2:] == image[2:]


def test_colmap_text_as_colmap_writes_it(f32, tmp_path):
    """Comments, and a line of points after each image, which may be empty."""
    (tmp_path / "cameras.txt").write_text("# Camera list\n# Number of cameras: 1\n1 SIMPLE_PINHOLE 20 10 10 10 5\n")
    lines = ["# Image list", "1 1 0 0 0 0 0 2 1 one.png", "3.5 4.5 -1 7.5 8.5 12", "5 0.70710678 0 0 0.70710678 0 0 4 1 two.png", ""]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    camera = Camera.from_colmap(tmp_path)
    np.testing.assert_allclose(camera.project([[0.2, 0, 0]]), [[[11, 5]], [[10, 5.5]]], atol=1e-5)
    assert Camera.from_colmap(tmp_path, names=["two.png"]).names == ("two.png",)


def test_colmap_binary_as_colmap_writes_it(f32, tmp_path):
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ3d", 1, 1, 0, 20, 10, 10.0, 10.0, 5.0))
    points = struct.pack("<Qddqddq", 2, 3.5, 4.5, -1, 7.5, 8.5, 12)
    one = struct.pack("<i7di", 1, 1, 0, 0, 0, 0, 0, 2, 1) + b"one.png\0" + points
    two = struct.pack("<i7di", 5, 0.5**0.5, 0, 0, 0.5**0.5, 0, 0, 4, 1) + b"two.png\0" + struct.pack("<Q", 0)
    (tmp_path / "images.bin").write_bytes(struct.pack("<Q", 2) + one + two)
    camera = Camera.from_colmap(tmp_path)
    np.testing.assert_allclose(camera.project([[0.2, 0, 0]]), [[[11, 5]], [[10, 5.5]]], atol=1e-5)
    for name in ("cameras.bin", "images.bin"):
        whole = (tmp_path / name).read_bytes()
        for end in range(0, len(whole), 7):
            (tmp_path / name).write_bytes(whole[:end])
            with pytest.raises(ValueError, match=rf"{name}, offset \d+: expected .* the file ends at {end}"):
                read_colmap(tmp_path)
        (tmp_path / name).write_bytes(whole + b"\0")
        with pytest.raises(ValueError, match=rf"{name}, offset {len(whole)}: expected the end of the file, got 1 more bytes"):
            read_colmap(tmp_path)
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "cameras.bin").write_bytes(struct.pack("<QiiQQ3d", 1, 1, 9, 20, 10, 10.0, 10.0, 5.0))
    with pytest.raises(ValueError, match="cameras.bin, offset 8: expected a camera model out of .* got number 9"):
        read_colmap(tmp_path)


def test_colmap_cameras_of_several_lenses(f32, rng, tmp_path):
    cameras, images = model_of(rng, "PINHOLE")
    cameras[8] = ColmapCamera("SIMPLE_RADIAL", SIZE, COLMAP["SIMPLE_RADIAL"])
    images[3] = images[3]._replace(camera=8)
    write_colmap(tmp_path / "in", cameras, images)
    camera = Camera.from_colmap(tmp_path / "in")
    models = ["PINHOLE", "SIMPLE_RADIAL", "PINHOLE"]
    pixels = [reference.colmap(CENTERS, m, COLMAP[m], images[2 + b].quaternion, images[2 + b].translation) for b, m in enumerate(models)]
    np.testing.assert_allclose(camera.project(CENTERS), pixels, atol=1e-3)
    camera.to_colmap(tmp_path / "out", names=["x.png", "y.png", "z.png"])
    again = Camera.from_colmap(tmp_path / "out", names=["z.png", "x.png"])
    np.testing.assert_allclose(again.project(CENTERS), [pixels[2], pixels[0]], atol=1e-3)


BAD_TEXT = [
    ("1 OPENCV 20 10 1 2 3\n", None, "cameras.txt, line 1: expected 8 parameters of OPENCV, got 3"),
    ("\n1 THIN_PRISM 20 10 1\n", None, "cameras.txt, line 2: expected a camera model out of SIMPLE_PINHOLE, .* got 'THIN_PRISM'"),
    ("1 PINHOLE twenty 10 1 1 1 1\n", None, "cameras.txt, line 1: expected CAMERA_ID MODEL WIDTH"),
    ("1 PINHOLE\n", None, "cameras.txt, line 1: expected CAMERA_ID"),
    ("1 PINHOLE 20 0 1 1 1 1\n", None, "cameras.txt, line 1: expected a positive width and height"),
    ("1 PINHOLE 20 10 0 1 1 1\n", None, "cameras.txt, line 1: expected a positive focal length"),
    ("1 PINHOLE 20 10 nan 1 1 1\n", None, "cameras.txt, line 1: expected finite parameters"),
    (None, "1 1 0 0 0 0 0\n", "images.txt, line 1: expected IMAGE_ID QW"),
    (None, "1 0 0 0 0 0 0 2 1 a.png\n", "images.txt, line 1: expected a finite translation and a quaternion that is not zero"),
    (None, "1 1 0 0 0 0 inf 2 1 a.png\n", "images.txt, line 1: expected a finite translation"),
    (None, "1 1 0 0 0 0 0 2 3 a.png\n", r"image 1, a.png, expected one of the cameras \[1\], got 3"),
    (None, "# none\n", "expected at least one image with a pose"),
    (None, "1 1 0 0 0 0 0 2 1 a.png\n\n2 1 0 0 0 0 0 2 2 b.png\n", r"image 2, b.png"),
]


@pytest.mark.parametrize("cameras, images, message", BAD_TEXT)
def test_bad_colmap_text_names_the_line(f32, tmp_path, cameras, images, message):
    (tmp_path / "cameras.txt").write_text(cameras or "1 PINHOLE 20 10 10 10 10 5\n")
    (tmp_path / "images.txt").write_text(images or "1 1 0 0 0 0 0 2 1 a.png\n\n")
    with pytest.raises(ValueError, match=message):
        Camera.from_colmap(tmp_path)


def test_colmap_models_that_one_camera_cannot_hold(f32, rng, tmp_path):
    with pytest.raises(FileNotFoundError, match="no COLMAP model in"):
        Camera.from_colmap(tmp_path)
    cameras, images = model_of(rng, "PINHOLE")
    cameras[8] = cameras[7]._replace(size=(10, 10))
    cameras[9] = ColmapCamera("OPENCV_FISHEYE", SIZE, COLMAP["OPENCV_FISHEYE"])
    cameras[10] = ColmapCamera("FULL_OPENCV", SIZE, (*COLMAP["FULL_OPENCV"][:-1], 0.1))
    for other, message in ((8, "expected images of one size"), (9, "with or without a fisheye lens, got both"), (10, "k4 = k5 = k6 = 0")):
        write_colmap(tmp_path, cameras, {**images, 3: images[3]._replace(camera=other)})
        with pytest.raises(ValueError, match=message):
            Camera.from_colmap(tmp_path)
    with pytest.raises(ValueError, match="names: expected images of .* got 'd.png'"):
        Camera.from_colmap(tmp_path, names=["d.png"])
    with pytest.raises(ValueError, match="image 2: expected a file name without line breaks"):
        write_colmap(tmp_path, cameras, {2: images[2]._replace(name="a\nb")})
    assert set(MODELS) == set(COLMAP)


@pytest.mark.parametrize("distortion", [None, BrownConrady, Fisheye])
def test_nerf(f32, rng, tmp_path, distortion):
    R, t = views(rng)
    coefficients = {None: None, BrownConrady: BROWN, Fisheye: BENT}[distortion]
    camera = Camera.from_opencv(K, R, t, size=SIZE, distortion=coefficients, fisheye=distortion is Fisheye)
    camera.to_nerf(tmp_path / "transforms.json", names=["a.png", "b.png", "c.png"])
    again = Camera.from_nerf(tmp_path / "transforms.json")
    pixels = [reference.opencv(CENTERS, K, R[b], t[b], coefficients, distortion is Fisheye)[0] + HALF for b in range(3)]
    np.testing.assert_allclose(again.project(CENTERS), pixels, atol=1e-3)
    assert again.names == ("a.png", "b.png", "c.png") and again.focal.shape == (1,)
    half = Camera.from_nerf(tmp_path / "transforms.json", size=(32, 48))
    np.testing.assert_allclose(half.project(CENTERS), np.array(pixels) / 2, atol=1e-3)


def test_nerf_of_an_angle_and_nothing_else(f32, rng, tmp_path):
    """As Blender's synthetic scenes have it."""
    poses = camera_to_world(*views(rng))
    frames = [{"file_path": f"./r_{b}", "transform_matrix": m.tolist()} for b, m in enumerate(poses)]
    path = tmp_path / "transforms_train.json"
    path.write_text(json.dumps({"camera_angle_x": 0.9, "frames": frames}))
    camera = Camera.from_nerf(path, size=SIZE)
    assert_shows(camera, [reference.opengl(CENTERS, m, np.degrees(0.9), SIZE) for m in poses], CENTERS)
    with pytest.raises(ValueError, match=r"frame 0: expected the image's size under 'w' and 'h', .* size=\(height, width\)"):
        Camera.from_nerf(path)


def test_nerf_of_a_lens_per_frame(f32, rng, tmp_path):
    R, t = views(rng)
    many = np.stack([K, K * [[1.1, 0, 1], [0, 1.2, 1], [0, 0, 1]], K])
    camera = Camera.from_opencv(many, R, t, size=SIZE)
    camera.to_nerf(tmp_path / "transforms.json")
    again = Camera.from_nerf(tmp_path / "transforms.json")
    assert again.focal.shape == (3,)
    np.testing.assert_allclose(again.project(CENTERS), camera.project(CENTERS), atol=1e-3)


BAD_NERF = [
    ('{\n"frames": [,]}', "line 2: expected JSON"),
    ("[]", "expected an object with a list of at least one frame"),
    ('{"frames": []}', "expected an object with a list of at least one frame"),
    ('{"frames": [{}]}', "frame 0: expected a transform_matrix"),
    ('{"w": 4, "h": 4, "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected a focal length under 'fl_x'"),
    ('{"w": 4, "h": 4, "fl_x": -1, "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected positive focal lengths"),
    ('{"w": 4, "h": 4, "fl_x": "a", "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected a finite number under 'fl_x', got 'a'"),
    ('{"w": 4, "h": 4.5, "fl_x": 1, "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected whole pixels"),
    ('{"w": 4, "h": 4, "camera_angle_x": 4, "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected a camera_angle_x between 0 and pi"),
    ('{"w": 4, "h": 4, "fl_x": 1, "camera_model": "PANO", "frames": [{"transform_matrix": MATRIX}]}', "frame 0: expected the camera_model"),
    ('{"w": 4, "h": 4, "fl_x": 1, "frames": [{"transform_matrix": [[1, 2]]}]}', r"frame 0, transform_matrix: expected numbers of shape \(4, 4\)"),
    ('{"w": 4, "h": 4, "fl_x": 1, "frames": [{"transform_matrix": MIRROR}]}', "frame 0, transform_matrix: expected a rotation, got a reflection"),
]


@pytest.mark.parametrize("text, message", BAD_NERF)
def test_bad_nerf_files_are_refused(f32, tmp_path, text, message):
    path = tmp_path / "transforms.json"
    path.write_text(text.replace("MATRIX", str(np.eye(4).tolist())).replace("MIRROR", str(np.diag([1.0, 1, -1, 1]).tolist())))
    with pytest.raises(ValueError, match=f"transforms.json, {message}" if "object" not in message else message):
        Camera.from_nerf(path)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        Camera.from_nerf(tmp_path / "transforms.json")


EYE3, MIRROR = np.eye(3), np.diag([1.0, 1.0, -1.0])
P0 = K @ np.c_[EYE3, (0, 0, 4)]
BAD = [
    (lambda: Camera.from_opencv(K, MIRROR, (0, 0, 4), size=8), r"R: expected a rotation, got a reflection \(determinant -1\) in view 0"),
    (lambda: Camera.from_opencv(K, 2 * EYE3, (0, 0, 4), size=8), "R: expected a rotation, columns of length 1 at right angles"),
    (lambda: Camera.from_opencv(K, np.zeros((3, 3)), (0, 0, 4), size=8), "R: expected a rotation"),
    (lambda: Camera.from_opencv(K * [[0], [1], [1]], EYE3, (0, 0, 4), size=8), "K: expected positive focal lengths|K: expected no skew"),
    (lambda: Camera.from_opencv(np.diag([-9.0, 9, 1]), EYE3, (0, 0, 4), size=8), "K: expected positive focal lengths, got fx -9 and fy 9 in view 0"),
    (lambda: Camera.from_opencv(np.zeros((3, 3)), EYE3, (0, 0, 4), size=8), r"K: expected the last row \(0, 0, 1\)"),
    (lambda: Camera.from_opencv(K + [[0, 5, 0], [0, 0, 0], [0, 0, 0]], EYE3, (0, 0, 4), size=8), "K: expected no skew"),
    (lambda: Camera.from_opencv(K[:2], EYE3, (0, 0, 4), size=8), r"K: expected numbers of shape \(3, 3\) or \(B, 3, 3\), got shape \(2, 3\)"),
    (lambda: Camera.from_opencv(K, EYE3, (0, np.nan, 4), size=8), "t: expected finite numbers"),
    (lambda: Camera.from_opencv(K, np.stack([EYE3] * 2), np.zeros((3, 3)), size=8), "expected a batch of 1 or 3, got 2"),
    (lambda: Camera.from_opencv(np.stack([K] * 2), np.stack([EYE3] * 3), np.zeros(3), size=8), "expected a batch of 1 or 3, got 2"),
    (lambda: Camera.from_opencv(K, EYE3, (0, 0, 4), size=8, distortion=[1, 2, 3]), r"distortion: expected numbers of shape \(4,\)"),
    (lambda: Camera.from_opencv(K, EYE3, (0, 0, 4), size=8, distortion=np.zeros(5), fisheye=True), "distortion: expected numbers of shape"),
    (lambda: Camera.from_opencv("K", EYE3, (0, 0, 4), size=8), "K: expected numbers"),
    (lambda: Camera.from_opengl(np.eye(3), 60, size=8), r"camera_to_world: expected numbers of shape \(4, 4\)"),
    (lambda: Camera.from_opengl(np.diag([1.0, 1, -1, 1]), 60, size=8), "camera_to_world: expected a rotation, got a reflection"),
    (lambda: Camera.from_opengl(np.eye(4), 180, size=8), "fov_x: expected degrees between 0 and 180"),
    (lambda: Camera.from_pytorch3d(MIRROR, (0, 0, 1), 1, size=8), "R: expected a rotation, got a reflection"),
    (lambda: Camera.from_pytorch3d(EYE3, (0, 0, 1), -1, size=8), "focal: expected positive numbers"),
    (lambda: Camera.from_softras_projection(P0 * 0), r"P: expected K \[R \| t\] with a K that has an inverse"),
    (lambda: Camera.from_softras_projection(P0 @ np.diag([1, 1, -1, 1])), "P: expected K .* got a reflection or a negative focal length"),
    (lambda: Camera.from_softras_projection(P0, orig_size=0), "orig_size: expected a positive number"),
    (lambda: Camera.from_softras_projection(P0, size=(4, 5)), "size: expected a square"),
    (lambda: Camera.from_softras_projection(P0, [1, 2]), r"distortion: expected numbers of shape \(5,\)"),
    (lambda: Camera.look_at((0, 0, 2), mirrored=True).to_opencv(), "camera: expected a perspective camera .* got a mirrored one"),
    (lambda: Camera.look_at((0, 0, 2), orthographic=True).to_opengl(), "camera: expected a perspective camera .* got an orthographic one"),
    (lambda: Camera.from_opencv(K, EYE3, (0, 0, 4), size=SIZE).to_opengl(), "camera: expected a principal point in the middle"),
    (lambda: Camera.from_pose(Pose(), distortion=Fisheye()).to_opengl(), "camera: expected no distortion"),
    (lambda: Camera.from_pose(Pose(), distortion=BrownConrady(0.1)).to_pytorch3d(), "camera: expected no distortion"),
    (lambda: Camera.look_at((0, 0, 2)).to_colmap("unused", names=["a", "b"]), "names: expected one per view, 1, got 2"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_bad_cameras_are_refused(f32, make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_look_at_cameras_go_to_other_systems(f32, rng):
    camera = Camera.look_at([(1, 2, 3), (-2, 1, 2)], fov=45, size=SIZE)
    points = rng.uniform(-0.5, 0.5, (6, 3))
    shown = camera.project(points)
    cv, gl, p3d = camera.to_opencv(), camera.to_opengl(), camera.to_pytorch3d()
    for b in range(2):
        np.testing.assert_allclose(reference.opencv(points, cv.K[b], cv.R[b], cv.t[b])[0] + HALF, shown[b], atol=1e-3)
        np.testing.assert_allclose(reference.opengl(points, gl.camera_to_world[b], gl.fov_x[b], SIZE), shown[b], atol=1e-3)
        ndc = (p3d.focal_length[b], p3d.principal_point[b])
        np.testing.assert_allclose(reference.pytorch3d(points, p3d.R[b], p3d.T[b], *ndc, SIZE), shown[b], atol=1e-3)
