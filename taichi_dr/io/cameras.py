"""Cameras of other systems, in NumPy: their conventions, and the files of NeRF; colmap.py has those of COLMAP.

All of them meet in `Views`: a point x of the world is at R x + t in axes right, down, forward; a pixel's place is
(column, row) from the image's top left corner, so that pixel centers are at half-integers.

    OpenCV      x_cam = R x + t, axes right, down, forward; pixel centers at integers, so cx and cy are smaller by 1/2
    OpenGL      camera to world, axes right, up, backward (Blender and NeRF too)
    PyTorch3D   row vectors, x_cam = x R + T, axes left, up, forward; NDC x left, y up, the shorter side spans [-1, 1]
    SoftRas     P = K [R | t] to pixels of a square image of side orig_size, y UP: the picture upside down
    COLMAP      world to camera as a quaternion (w, x, y, z) and t, axes right, down, forward; pixel centers at half-integers
"""

from __future__ import annotations

import json
import math
import reprlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_JSON = 64 << 20  # bytes of a transforms.json: some hundred thousand frames
MAX_NUMBER = 1e30  # of a transforms.json: float32 holds it

# What a transforms.json may have at its top for all frames.
_LENS = ("camera_model", "is_fisheye", "w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y")
_LENS += ("k1", "k2", "k3", "k4", "p1", "p2")

_FLIP_YZ = np.diag([1.0, -1.0, -1.0])  # right, up, backward to right, down, forward, and back
_FLIP_XY = np.diag([-1.0, -1.0, 1.0])  # left, up, forward to right, down, forward, and back


class Views(NamedTuple):
    """Cameras of one image size; every array has a leading axis of 1, for all views, or of B."""

    rotation: np.ndarray  # (B, 3, 3), world to camera
    translation: np.ndarray  # (B, 3)
    focal: np.ndarray  # (B, 2), pixels
    principal: np.ndarray  # (B, 2), pixels from the top left corner
    size: tuple[int, int]  # (height, width)
    coefficients: np.ndarray | None = None  # (B, 5): k1, k2, p1, p2, k3; of a fisheye (B, 4): k1 to k4
    fisheye: bool = False
    names: tuple[str, ...] = ()  # of the images, if there are files


class OpenCV(NamedTuple):
    """What `cv2.projectPoints` takes; each with a leading axis B."""

    K: np.ndarray  # (B, 3, 3), pixel centers at integers
    R: np.ndarray  # (B, 3, 3)
    t: np.ndarray  # (B, 3)
    distortion: np.ndarray | None  # (B, 5): k1, k2, p1, p2, k3; of a fisheye (B, 4)
    fisheye: bool
    size: tuple[int, int]  # (height, width)


class OpenGL(NamedTuple):
    camera_to_world: np.ndarray  # (B, 4, 4), axes right, up, backward
    fov_x: np.ndarray  # (B,), degrees, of the image's width
    fov_y: np.ndarray  # (B,), degrees, of its height
    size: tuple[int, int]  # (height, width)


class PyTorch3D(NamedTuple):
    """What `PerspectiveCameras` takes, in_ndc=True."""

    R: np.ndarray  # (B, 3, 3), for row vectors
    T: np.ndarray  # (B, 3)
    focal_length: np.ndarray  # (B, 2)
    principal_point: np.ndarray  # (B, 2)
    image_size: tuple[int, int]  # (height, width)


# --- Checks -----------------------------------------------------------------------------------------------------


def numbers(name: str, given: Any, *shapes: tuple[int, ...]) -> np.ndarray:
    """Finite numbers of one of the shapes, with a leading batch axis.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    expected = " or ".join(f"{shape} or (B, {', '.join(map(str, shape))})" if shape else "() or (B,)" for shape in shapes)
    try:
        x = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name}: expected numbers of shape {expected}, got {reprlib.repr(given)}") from error
    for shape in shapes:
        if x.ndim - len(shape) in (0, 1) and x.shape[x.ndim - len(shape) :] == shape and x.size:
            break
    else:
        raise ValueError(f"{name}: expected numbers of shape {expected}, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers, got {x.tolist()}")
    return x.reshape(-1, *shape)


def rotations(name: str, given: Any) -> np.ndarray:
    """(B, 3, 3): the rotations next to the given matrices.

    Raises:
        ValueError: as `numbers`; a matrix that is no rotation within 1e-3, such as a reflection.
    """
    r = numbers(name, given, (3, 3))
    for b, one in enumerate(r):
        if np.abs(one).max() > 2 or np.abs(one.T @ one - np.eye(3)).max() > 1e-3:
            raise ValueError(f"{name}: expected a rotation, columns of length 1 at right angles, got {one.tolist()} in view {b}")
        if np.linalg.det(one) < 0:
            raise ValueError(f"{name}: expected a rotation, got a reflection (determinant -1) in view {b}: {one.tolist()}; swap the sign of one axis")
    u, _, v = np.linalg.svd(r)
    return u @ v


def motions(name: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (B, 3, 3) and translations (B, 3) of matrices (4, 4) or (3, 4).

    Raises:
        ValueError: as `rotations`; a last row other than (0, 0, 0, 1).
    """
    m = numbers(name, given, (4, 4), (3, 4))
    if m.shape[1] == 4 and np.abs(m[:, 3] - (0, 0, 0, 1)).max() > 1e-6:
        raise ValueError(f"{name}: expected the last row (0, 0, 0, 1), got {m[0, 3].tolist()}; transpose a matrix for row vectors")
    return rotations(name, m[:, :3, :3]), m[:, :3, 3]


def _positive(name: str, given: np.ndarray) -> np.ndarray:
    if not (given > 0).all():
        raise ValueError(f"{name}: expected positive numbers, got {given.tolist()}")
    return given


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., None])[..., 0]


def broadcast(views: Views) -> Views:
    """All arrays with the leading axis B."""
    arrays = {name: x for name, x in views._asdict().items() if isinstance(x, np.ndarray)}
    batch = max(len(x) for x in arrays.values())
    return views._replace(**{name: np.broadcast_to(x, (batch, *x.shape[1:])) for name, x in arrays.items()})


def _center(size: tuple[int, int]) -> np.ndarray:
    return np.array([[size[1] / 2, size[0] / 2]])


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(..., 4): unit quaternions (w, x, y, z) of rotations (..., 3, 3), by their largest component (Shepperd 1978)."""
    r = rotation
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    # Row k is 4 q_k times the quaternion.
    rows = np.empty((*r.shape[:-2], 4, 4))
    rows[..., 0, 0] = 1 + diagonal.sum(axis=-1)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        rows[..., 1 + i, 1 + i] = 1 + 2 * diagonal[..., i] - diagonal.sum(axis=-1)
        rows[..., 0, 1 + i] = rows[..., 1 + i, 0] = r[..., k, j] - r[..., j, k]
        rows[..., 1 + i, 1 + j] = rows[..., 1 + j, 1 + i] = r[..., i, j] + r[..., j, i]
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


# --- Conventions ------------------------------------------------------------------------------------------------


def from_opencv(K: Any, R: Any, t: Any, size: tuple[int, int], distortion: Any = None, fisheye: bool = False) -> Views:
    matrix = numbers("K", K, (3, 3))
    focal, principal = _intrinsics("K", matrix)
    rotation = rotations("R", R)
    if np.ndim(t) >= 2 and np.shape(t)[-1] == 1:  # OpenCV's columns
        t = np.asarray(t)[..., 0]
    coefficients = None
    if fisheye:
        coefficients = numbers("distortion", np.zeros(4) if distortion is None else distortion, (4,))
    elif distortion is not None:
        given = numbers("distortion", distortion, (4,), (5,))
        coefficients = np.pad(given, ((0, 0), (0, 5 - given.shape[1])))
    return Views(rotation, numbers("t", t, (3,)), focal, principal + 0.5, size, coefficients, fisheye)


def _intrinsics(name: str, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Focal lengths and principal points of (B, 3, 3)."""
    for b, one in enumerate(matrix):
        if np.abs(one[2] - (0, 0, 1)).max() > 1e-9:
            raise ValueError(f"{name}: expected the last row (0, 0, 1), got {one[2].tolist()} in view {b}")
        if abs(one[1, 0]) > 1e-6 * abs(one[0, 0]) or abs(one[0, 1]) > 1e-6 * abs(one[0, 0]):
            raise ValueError(f"{name}: expected no skew, K[0, 1] = K[1, 0] = 0, got {one.tolist()} in view {b}; warp the images first")
        if not (one[0, 0] > 0 and one[1, 1] > 0):
            raise ValueError(f"{name}: expected positive focal lengths, got fx {one[0, 0]:g} and fy {one[1, 1]:g} in view {b}")
    return np.stack([matrix[:, 0, 0], matrix[:, 1, 1]], axis=-1), matrix[:, :2, 2]


def to_opencv(views: Views) -> OpenCV:
    v = broadcast(views)
    K = np.zeros((len(v.focal), 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = v.focal[:, 0], v.focal[:, 1], 1.0
    K[:, :2, 2] = v.principal - 0.5
    return OpenCV(K, v.rotation, v.translation, v.coefficients, v.fisheye, v.size)


def from_opengl(camera_to_world: Any, fov_x: Any, size: tuple[int, int]) -> Views:
    axes, eye = motions("camera_to_world", camera_to_world)
    angle = numbers("fov_x", fov_x, ())
    if not ((angle > 0) & (angle < 180)).all():
        raise ValueError(f"fov_x: expected degrees between 0 and 180, of the image's width, got {angle.tolist()}")
    focal = 0.5 * size[1] / np.tan(np.radians(angle) / 2)
    rotation = _FLIP_YZ @ axes.swapaxes(1, 2)
    return Views(rotation, -_times(rotation, eye), np.stack([focal, focal], axis=-1), _center(size), size)


def camera_to_world(views: Views) -> np.ndarray:
    """(B, 4, 4), axes right, up, backward."""
    out = np.zeros((max(len(views.rotation), len(views.translation)), 4, 4))
    inverse = views.rotation.swapaxes(1, 2)
    out[:, :3, :3], out[:, :3, 3], out[:, 3, 3] = inverse @ _FLIP_YZ, -_times(inverse, views.translation), 1.0
    return out


def to_opengl(views: Views) -> OpenGL:
    v = broadcast(views)
    if v.coefficients is not None and np.any(v.coefficients) or v.fisheye:
        raise ValueError("camera: expected no distortion, which a field of view cannot hold; use to_opencv or to_nerf")
    if np.abs(v.principal - _center(v.size)).max() > 1e-3:
        raise ValueError(f"camera: expected a principal point in the middle, got {v.principal.tolist()}; use to_opencv or to_nerf")
    fov = 2 * np.degrees(np.arctan(0.5 * np.array([v.size[1], v.size[0]]) / v.focal))
    return OpenGL(camera_to_world(v), fov[:, 0], fov[:, 1], v.size)


def from_pytorch3d(R: Any, T: Any, focal: Any, principal_point: Any, size: tuple[int, int], in_ndc: bool) -> Views:
    rotation = _FLIP_XY @ rotations("R", R).swapaxes(1, 2)
    translation = numbers("T", T, (3,)) @ _FLIP_XY
    lengths = numbers("focal", focal, (2,)) if np.ndim(focal) and np.shape(focal)[-1] == 2 else numbers("focal", focal, ())[:, None] * np.ones(2)
    _positive("focal", lengths)
    if principal_point is None:
        principal_point = (0.0, 0.0) if in_ndc else _center(size)
    principal = numbers("principal_point", principal_point, (2,))
    if in_ndc:
        half = 0.5 * min(size)
        lengths, principal = lengths * half, _center(size) - principal * half
    return Views(rotation, translation, lengths, principal, size)


def to_pytorch3d(views: Views) -> PyTorch3D:
    v = broadcast(views)
    if v.coefficients is not None and np.any(v.coefficients) or v.fisheye:
        raise ValueError("camera: expected no distortion, which PerspectiveCameras cannot hold; use to_opencv")
    half = 0.5 * min(v.size)
    principal = (_center(v.size) - v.principal) / half
    return PyTorch3D((_FLIP_XY @ v.rotation).swapaxes(1, 2), v.translation @ _FLIP_XY, v.focal / half, principal, v.size)


def from_softras(P: Any, orig_size: float, size: tuple[int, int]) -> Views:
    """The camera whose picture, turned by half a turn and mirrored, is SoftRas's: its axes are left, up, forward."""
    matrix = numbers("P", P, (3, 4))
    if not (orig_size > 0 and math.isfinite(orig_size)):
        raise ValueError(f"orig_size: expected a positive number of pixels, got {orig_size!r}")
    if size[0] != size[1]:
        raise ValueError(f"size: expected a square, since SoftRas's images are square, got {size}")
    kept = []
    for b, p in enumerate(matrix):
        m = p[:, :3] / max(np.linalg.norm(p[2, :3]), 1e-300)
        if np.linalg.matrix_rank(m) < 3:
            raise ValueError(f"P: expected K [R | t] with a K that has an inverse, got {p.tolist()} in view {b}")
        if np.linalg.det(m) < 0:
            raise ValueError(f"P: expected K [R | t] with a rotation, got a reflection or a negative focal length in view {b}: {p.tolist()}")
        # m = K R with K upper triangular, row by row from the last (Gram and Schmidt).
        r3 = m[2]
        cy = m[1] @ r3
        fy = np.linalg.norm(m[1] - cy * r3)
        r2 = (m[1] - cy * r3) / fy
        cx, skew = m[0] @ r3, m[0] @ r2
        r1 = m[0] - cx * r3 - skew * r2
        fx = np.linalg.norm(r1)
        if abs(skew) > 1e-4 * fx:
            raise ValueError(f"P: expected no skew, got {skew:g} pixels beside a focal length of {fx:g} in view {b}; warp the images first")
        K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        kept.append((np.stack([r1 / fx, r2, r3]), np.linalg.solve(K, p[:, 3] / np.linalg.norm(p[2, :3])), (fx, fy), (cx, cy)))
    rotation, translation, focal, center = (np.array(x) for x in zip(*kept, strict=True))
    ratio = size[0] / orig_size
    u = center * ratio
    principal = np.stack([u[:, 0], size[0] - u[:, 1]], axis=-1)
    return Views(_FLIP_XY @ rotation, translation @ _FLIP_XY, focal * ratio, principal, size)


# --- NeRF -------------------------------------------------------------------------------------------------------


def from_nerf(path: str | Path, size: tuple[int, int] | None = None) -> Views:
    """The frames of a transforms.json as views, the lens scaled to `size` where that is given.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is no JSON (with the line), lacks what is needed or holds what is not valid.
    """
    lenses, poses, names = [], [], []
    for k, frame in enumerate(read_nerf(path)):
        where = f"{path}, frame {k}"
        poses.append(nerf_pose(where, frame))
        lenses.append(nerf_lens(where, frame, size))
        names.append(str(frame.get("file_path", "")))
    if any(lens[2:4] != lenses[0][2:4] or lens[5] != lenses[0][5] for lens in lenses):
        raise ValueError(f"{path}: expected frames of one size and one camera model, got several; split the file")
    if not any(any(lens[4]) for lens in lenses) and not lenses[0][5]:
        coefficients = None
    else:
        coefficients = np.array([lens[4] for lens in lenses])
    focal, principal = (np.array([lens[k] for lens in lenses]) for k in range(2))
    if all(lens == lenses[0] for lens in lenses):
        focal, principal, coefficients = focal[:1], principal[:1], None if coefficients is None else coefficients[:1]
    rotation, translation = (np.array(x) for x in zip(*poses, strict=True))
    return Views(rotation, translation, focal, principal, lenses[0][2], coefficients, lenses[0][5], tuple(names))


def read_nerf(path: str | Path) -> list[dict[str, Any]]:
    """The frames of a transforms.json, each with the file's entries on the lens where it has none of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is no JSON (with the line), or that has no frames.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; check the path")
    if path.stat().st_size > MAX_JSON:
        raise ValueError(f"{path}: expected at most {MAX_JSON} bytes, got {path.stat().st_size}; split the file")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON, got an error at column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, offset {error.start}: expected UTF-8 text, got other bytes") from error
    except (RecursionError, ValueError) as error:  # thousands of brackets, or a number of thousands of digits
        raise ValueError(f"{path}: expected JSON of a few levels and numbers of a few digits, got {reprlib.repr(str(error))}") from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{path}: expected an object with a list of at least one frame under 'frames'")
    shared = {key: content[key] for key in _LENS if key in content}
    return [{**shared, **frame} for frame in frames]


def nerf_pose(where: str, frame: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) and (3,): world to camera of a frame, axes right, down, forward."""
    if "transform_matrix" not in frame:
        raise ValueError(f"{where}: expected a transform_matrix, got {reprlib.repr(sorted(frame))}")
    axes, eye = motions(f"{where}, transform_matrix", frame["transform_matrix"])
    if len(axes) != 1:
        raise ValueError(f"{where}, transform_matrix: expected one matrix, got {len(axes)}")
    if not np.abs(eye).max() < MAX_NUMBER:
        raise ValueError(f"{where}, transform_matrix: expected a place below {MAX_NUMBER:g}, got {eye[0].tolist()}")
    rotation = _FLIP_YZ @ axes[0].T
    return rotation, -(rotation @ eye[0])


def _focal_of_angle(where: str, key: str, angle: float, side: float) -> float:
    if not 0 < angle < math.pi:
        raise ValueError(f"{where}: expected a {key} between 0 and pi radians, got {angle:g}")
    return 0.5 * side / math.tan(angle / 2)


def nerf_lens(where: str, x: dict[str, Any], size: tuple[int, int] | None) -> tuple:
    """(focal, principal, size, model, coefficients, fisheye) of a frame with the file's entries under its own."""

    def number(key: str, default: float | None = None) -> float:
        value = x.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_NUMBER:
            raise ValueError(f"{where}: expected a finite number under {key!r}, got {reprlib.repr(value)}")
        return float(value)

    model = x.get("camera_model", "OPENCV_FISHEYE" if x.get("is_fisheye") is True else "OPENCV")  # the latter is instant-ngp's
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV_FISHEYE"):
        raise ValueError(f"{where}: expected the camera_model OPENCV, PINHOLE, SIMPLE_PINHOLE or OPENCV_FISHEYE, got {reprlib.repr(model)}")
    if "w" in x and "h" in x:
        width, height = number("w"), number("h")
    elif size is not None:
        height, width = (float(n) for n in size)
    else:
        raise ValueError(f"{where}: expected the image's size under 'w' and 'h', got neither; give it as size=(height, width)")
    if width < 1 or height < 1 or width != int(width) or height != int(height):
        raise ValueError(f"{where}: expected whole pixels under 'w' and 'h', got {width:g} and {height:g}")
    if "fl_x" in x:
        focal = (number("fl_x"), number("fl_y") if "fl_y" in x else number("fl_x"))
    elif "camera_angle_x" in x:
        fl = _focal_of_angle(where, "camera_angle_x", number("camera_angle_x"), width)
        focal = (fl, _focal_of_angle(where, "camera_angle_y", number("camera_angle_y"), height) if "camera_angle_y" in x else fl)
    else:
        raise ValueError(f"{where}: expected a focal length under 'fl_x', or an angle under 'camera_angle_x', got {reprlib.repr(sorted(x))}")
    if not (0 < focal[0] < MAX_NUMBER and 0 < focal[1] < MAX_NUMBER):
        raise ValueError(f"{where}: expected positive focal lengths, got {focal}")
    fisheye = model == "OPENCV_FISHEYE"
    coefficients = tuple(number(key, 0.0) for key in (("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")))
    principal = (number("cx", width / 2), number("cy", height / 2))
    if not fisheye and number("k4", 0.0) != 0:
        raise ValueError(f"{where}: expected k4 = 0 beside p1 and p2, got {x['k4']}; undistort the images first")
    if size is not None:
        sx, sy = size[1] / width, size[0] / height
        focal, principal = (focal[0] * sx, focal[1] * sy), (principal[0] * sx, principal[1] * sy)
        width, height = size[1], size[0]
    return focal, principal, (int(height), int(width)), "fisheye" if fisheye else "perspective", coefficients, fisheye


def to_nerf(views: Views, path: str | Path) -> None:
    """Write views as a transforms.json; the lens stands at the top where all share it, else in each frame."""
    shared = all(x is None or len(x) == 1 for x in (views.focal, views.principal, views.coefficients))
    v = broadcast(views)
    names = v.names or tuple(f"{b:04d}.png" for b in range(len(v.focal)))
    if len(names) != len(v.focal):
        raise ValueError(f"names: expected one per view, {len(v.focal)}, got {len(names)}")

    def lens(b: int) -> dict[str, float]:
        keys = ("k1", "k2", "k3", "k4") if v.fisheye else ("k1", "k2", "p1", "p2", "k3")
        values = {} if v.coefficients is None else dict(zip(keys, map(float, v.coefficients[b]), strict=True))
        (fx, fy), (cx, cy) = v.focal[b].tolist(), v.principal[b].tolist()
        return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, **values}

    frames = [{"file_path": name, "transform_matrix": m.tolist()} for name, m in zip(names, camera_to_world(v), strict=True)]
    content: dict[str, Any] = {"camera_model": "OPENCV_FISHEYE" if v.fisheye else "OPENCV", "w": v.size[1], "h": v.size[0]}
    if shared:
        content.update(lens(0))
        content["camera_angle_x"] = 2 * math.atan(0.5 * v.size[1] / float(v.focal[0, 0]))
    else:
        frames = [{**frame, **lens(b)} for b, frame in enumerate(frames)]
    Path(path).write_text(json.dumps({**content, "frames": frames}, indent=2) + "\n", encoding="utf-8")
