"""The camera: where it stands and what it sees, and `project`, which takes a mesh from the world to its screen.

A camera at `eye` looks at the point `at`, with `up` pointing up on the screen:

    forward = (at - eye) / |at - eye|,   right = forward x up / |forward x up|,   up' = right x forward

or it has a `pose`, x_cam = R x + t in axes right, down, forward: the rows of R are right, -up' and forward, and eye =
-R^T t. What it sees is on the screen at

    q = (p - eye) . (right, up', forward)
    screen = (s_x d_x + o_x, s_y d_y + o_y, q_z),  d = D(q_x / q_z, q_y / q_z)    (perspective; lens.py has D)
    screen = (s_x q_x + o_x, s_y q_y + o_y, q_z)                                (orthographic)

    s = 1 / tan(fov / 2),  or 1 / (tan(fov / 2) |at - eye|) orthographic;  o = 0
    s = 2 (f_x, f_y) / m,  o = (2 c_x - W, H - 2 c_y) / m,  m = min(H, W)         (focal and principal, in pixels)

An orthographic camera with a fov shows the plane through `at` as large as the perspective camera of the same fov does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, array, batch_size, empty, expect, field, image_size, read, unrecorded, vec3, view_numbers
from .conversions import Conversions
from .frame import COLUMNS, NARROWEST, PARALLEL, SHORTEST, WIDEST, camera_frame
from .io import cameras as systems
from .lens import MIN_DEPTH, PINHOLE, PROJECT, SEE, TO_SCREEN, Distortion, project_points
from .pose import Pose

LONGEST = 1e18  # lengths whose squares float32 holds


@dataclass(eq=False)
class Camera(Conversions):
    """Cameras for a batch of views; make them with `look_at`, `orbit`, `from_pose`, or from another system's.

    Fields:
        eye, at, up: world positions and a direction, () or (B,) of vec3; None with a pose.
        fov: full field of view of the image's shorter side, degrees, () or (B,); None with focal lengths.
        size: pixels, (height, width).
        orthographic: parallel projection.
        mirrored: right = up x forward, SoftRas's own frame.
        pose: world to camera, axes right, down, forward; None with eye, at and up.
        focal: (f_x, f_y) in pixels, () or (B,) of vec2; of an orthographic camera, pixels per unit of length.
        principal: (c_x, c_y), pixels from the image's top left corner, () or (B,) of vec2; None is the middle.
        distortion: `BrownConrady`, `Fisheye` or None.
        names: of the images, where the camera comes from a file that has them.

    All but the size, the flags and the names are or hold arrays, so an optimizer can move each of them; one of length 1
    serves every view. In a mirrored camera, principal point and distortion are those of the mirrored image.
    """

    eye: Array | None
    at: Array | None
    up: Array | None
    fov: Array | None
    size: tuple[int, int]
    orthographic: bool = False
    mirrored: bool = False
    pose: Pose | None = None
    focal: Array | None = None
    principal: Array | None = None
    distortion: Distortion | None = None
    names: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        """Number of views."""
        sizes = {"pose": self.pose.batch} if self.pose is not None else {}
        arrays = {"eye": self.eye, "at": self.at, "up": self.up, **self._lens_arrays()}
        for name, x in arrays.items():
            if x is not None and not isinstance(x, ti.Ndarray):
                came = f"camera.{name}: expected an array, which can have a gradient, got {type(x).__name__}"
                raise ValueError(f"{came}; change it in place with dr.write, or make a new camera")
        return batch_size(**sizes, **{name: x.shape[0] if x.shape else 1 for name, x in arrays.items() if x is not None})

    def _lens_arrays(self) -> dict[str, Array]:
        coefficients = {} if self.distortion is None else {name: x for name, x in vars(self.distortion).items() if isinstance(x, ti.Ndarray)}
        given = {"fov": self.fov, "focal": self.focal, "principal": self.principal, **coefficients}
        return {name: x for name, x in given.items() if x is not None}

    @property
    def model(self) -> int:
        """The distortion as the kernels know it."""
        return PINHOLE if self.distortion is None else self.distortion.model

    @classmethod
    def look_at(
        cls,
        eye: Sequence | np.ndarray | Array,
        at: Sequence | np.ndarray | Array = (0.0, 0.0, 0.0),
        up: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0),
        *,
        fov: float | Sequence[float] | Array | None = None,
        size: int | tuple[int, int] = 256,
        orthographic: bool = False,
        mirrored: bool = False,
        focal: float | Sequence | np.ndarray | Array | None = None,
        principal: Sequence | np.ndarray | Array | None = None,
        distortion: Distortion | None = None,
    ) -> "Camera":
        """Cameras that stand at `eye` and look at `at`.

        Args:
            eye: position in the world, three numbers or (B, 3); or an array of vec3, () or (B,), which is kept.
            at: the point in the middle of the image, likewise.
            up: the direction that is up on the screen, of any length, likewise.
            fov: full field of view of the image's shorter side, degrees in (0, 180): a number, B of them, or an array
                of numbers, () or (B,), as `dr.array([30.0, 40.0, 50.0], vectors=False)` makes it. 60 where neither it
                nor `focal` is given.
            size: pixels, (height, width), or one number for a square.
            orthographic: parallel projection, at the size that the perspective camera gives the plane through `at`.
            mirrored: right = up x forward: left and right are swapped, as in SoftRas.
            focal: instead of `fov`, (f_x, f_y) in pixels, or (B, 2), or one number for both; or an array of vec2, () or
                (B,), which is kept. Of an orthographic camera, pixels per unit of length.
            principal: where the axis meets the image, (c_x, c_y) in pixels from the top left corner, so that pixel
                centers are at half-integers; likewise. The middle by default.
            distortion: `BrownConrady` or `Fisheye`.

        Raises:
            ValueError: numbers of a wrong shape or not finite, batches that do not agree, an eye where `at` is, an `up`
                along the view direction, a fov, focal or size out of range, fov and focal both, a distortion of an
                orthographic camera. Arrays are taken as they are: in them such a view gives some finite camera, with no
                gradient where it has none.
        """
        given = {"eye": eye, "at": at, "up": up}
        numbers = {name: _numbers(name, x) for name, x in given.items() if not isinstance(x, ti.Ndarray)}
        if len(numbers) == 3:
            _check_views(numbers["eye"], numbers["at"], numbers["up"])
        fields: dict[str, Any] = {name: field(name, numbers.get(name, x), 3) for name, x in given.items()}
        fields |= _lens(60.0 if fov is None and focal is None else fov, focal, principal, distortion, size, orthographic)
        camera = cls(**fields, mirrored=bool(mirrored))
        _ = camera.batch  # raises where the batches do not agree
        return camera

    @classmethod
    def from_pose(
        cls,
        pose: Pose,
        *,
        fov: float | Sequence[float] | Array | None = None,
        focal: float | Sequence | np.ndarray | Array | None = None,
        principal: Sequence | np.ndarray | Array | None = None,
        distortion: Distortion | None = None,
        size: int | tuple[int, int] = 256,
        orthographic: bool = False,
        mirrored: bool = False,
    ) -> "Camera":
        """Cameras with a pose, x_cam = R x + t in axes right, down, forward.

        Args:
            pose: of the world in the camera's axes.
            fov, focal, principal, distortion, size, orthographic, mirrored: as in `look_at`. An orthographic camera
                needs `focal`, pixels per unit of length.

        Raises:
            ValueError: as `look_at`.
        """
        if not isinstance(pose, Pose):
            raise ValueError(f"pose: expected a Pose, got {type(pose).__name__}; make it with dr.Pose(rotation, translation)")
        if orthographic and focal is None:
            raise ValueError("focal: expected pixels per unit of length, since an orthographic camera with a pose looks at no point, got None")
        lens = _lens(60.0 if fov is None and focal is None else fov, focal, principal, distortion, size, orthographic)
        camera = cls(None, None, None, pose=pose, mirrored=bool(mirrored), **lens)
        _ = camera.batch
        return camera

    @classmethod
    def orbit(
        cls,
        distance: float | Sequence[float] | np.ndarray,
        elevation: float | Sequence[float] | np.ndarray,
        azimuth: float | Sequence[float] | np.ndarray,
        *,
        at: Sequence | np.ndarray = (0.0, 0.0, 0.0),
        fov: float | Sequence[float] | Array = 60.0,
        size: int | tuple[int, int] = 256,
        orthographic: bool = False,
    ) -> "Camera":
        """Cameras on a sphere around `at`; azimuth 0 and elevation 0 look from +z towards -z, with +y up.

            eye = at + d (cos e sin a, sin e, cos e cos a)

        Args:
            distance: from `at`, a number or B of them.
            elevation: degrees above the horizon, likewise. Not +-90, where +y is no up.
            azimuth: degrees around y, likewise.
            at: the point in the middle of the image, three numbers or (B, 3).
            fov, size, orthographic: as in `look_at`.

        Raises:
            ValueError: as `look_at`; a distance that is not positive.
        """
        offset = _orbit_offset(distance, elevation, azimuth)
        if isinstance(at, ti.Ndarray):
            raise ValueError("at: expected numbers, since the eye is computed from them, got a Taichi array; use Camera.look_at(eye, at)")
        target = _numbers("at", at)
        batch_size(angles=len(np.atleast_2d(offset)), at=len(target))
        return cls.look_at(target + offset, target, fov=fov, size=size, orthographic=orthographic)

    @classmethod
    def from_softras(
        cls,
        distance: float | Sequence[float] | np.ndarray,
        elevation: float | Sequence[float] | np.ndarray,
        azimuth: float | Sequence[float] | np.ndarray,
        *,
        viewing_angle: float | Sequence[float] = 30.0,
        size: int | tuple[int, int] = 256,
    ) -> "Camera":
        """Cameras as SoftRas places them: looking at the origin from azimuth 0 at -z, in a mirrored frame.

            eye = d (cos e sin a, sin e, -cos e cos a),   right = up x forward,   fov = 2 viewing_angle

        Args:
            distance, elevation, azimuth: as in `orbit`.
            viewing_angle: HALF the field of view, degrees, a number or B of them.
            size: as in `look_at`.

        Raises:
            ValueError: as `orbit`.

        Source: SoftRas, `get_points_from_angles` and `look_at`.
        """
        eye = _orbit_offset(distance, elevation, azimuth) * (1.0, 1.0, -1.0)
        return cls.look_at(eye, fov=2.0 * np.asarray(viewing_angle, np.float64), size=size, mirrored=True)

    def project(self, points: Sequence | np.ndarray) -> np.ndarray:
        """Pixel positions of points of the world, in NumPy; not differentiable, that is `dr.project`.

        Args:
            points: (N, 3).

        Returns:
            (B, N, 2): (column, row) from the image's top left corner, pixel centers at half-integers. NaN for points at
            or behind a perspective camera.

        Raises:
            ValueError: a wrong shape.
        """
        given = np.asarray(points, np.float64)
        if given.ndim != 2 or given.shape[1] != 3 or not len(given):
            raise ValueError(f"points: expected shape (N, 3), got {given.shape}")
        with unrecorded():
            screen = read(project(array(given[None]), self)).astype(np.float64)
        height, width = self.size
        half = 0.5 * min(self.size)
        pixels = np.stack([0.5 * width + half * screen[..., 0], 0.5 * height - half * screen[..., 1]], axis=-1)
        if not self.orthographic:
            pixels[~(screen[..., 2] > MIN_DEPTH)] = np.nan
        return pixels


def _lens(fov: Any, focal: Any, principal: Any, distortion: Any, size: Any, orthographic: bool) -> dict[str, Any]:
    """The fields of the lens."""
    if fov is not None and focal is not None:
        raise ValueError("focal: expected a fov or focal lengths, got both; leave one out")
    if distortion is not None and not isinstance(distortion, Distortion):
        raise ValueError(f"distortion: expected dr.BrownConrady(...) or dr.Fisheye(...), got {type(distortion).__name__}")
    if distortion is not None and orthographic:
        raise ValueError("distortion: expected None, since an orthographic camera has no lens to distort")
    if fov is not None and not isinstance(fov, ti.Ndarray):
        fov = _numbers("fov", fov)
    return {
        "fov": None if fov is None else field("fov", fov, 1),
        "focal": None if focal is None else _pixels("focal", focal),
        "principal": None if principal is None else _pixels("principal", principal),
        "distortion": distortion,
        "size": image_size(size),
        "orthographic": bool(orthographic),
    }


def _pixels(name: str, given: Any) -> Array:
    """An array of vec2."""
    if not isinstance(given, ti.Ndarray):
        if name == "focal" and np.ndim(given) == 0:
            given = (given, given)
        given = systems.numbers(name, given, (2,))
        if name == "focal" and not (given > 0).all():
            raise ValueError(f"focal: expected positive numbers of pixels, got {given.tolist()}")
    return field(name, given, 2)


def _orbit_offset(distance: Any, elevation: Any, azimuth: Any) -> np.ndarray:
    """(3,) or (B, 3): where angles in degrees lead from the middle of the orbit."""
    given = {"distance": distance, "elevation": elevation, "azimuth": azimuth}
    values = {}
    for name, x in given.items():
        values[name] = np.asarray(x, np.float64)
        if values[name].ndim > 1 or values[name].size == 0 or not np.isfinite(values[name]).all():
            raise ValueError(f"{name}: expected a finite number, or one per view, got {x!r}")
    if not (values["distance"] > 0).all():
        raise ValueError(f"distance: expected positive numbers, got {distance!r}")
    batch_size(**{name: x.size for name, x in values.items()})
    d, e, a = values["distance"], np.radians(values["elevation"]), np.radians(values["azimuth"])
    return np.stack(np.broadcast_arrays(d * np.cos(e) * np.sin(a), d * np.sin(e), d * np.cos(e) * np.cos(a)), axis=-1)


def _numbers(name: str, given: Any) -> np.ndarray:
    """(B,) numbers for the fov and (B, 3) for the vectors, B = 1 for one view."""
    values = view_numbers(name, given, _components(name))
    if name == "fov" and not ((values >= NARROWEST) & (values <= WIDEST)).all():
        raise ValueError(f"fov: expected degrees between 0 and 180, the full angle of the shorter side, got {given!r}")
    return np.atleast_1d(values) if name == "fov" else np.atleast_2d(values)


def _components(name: str) -> int:
    return 1 if name == "fov" else 3


def _check_views(eye: np.ndarray, at: np.ndarray, up: np.ndarray) -> None:
    """Raise for the first view that has no direction, or no up."""
    eye, at, up = (x.astype(np.float64) for x in (eye, at, up))
    batch_size(eye=len(eye), at=len(at), up=len(up))
    forward = at - eye
    distance = np.linalg.norm(forward, axis=-1)
    across = np.linalg.norm(np.cross(forward / np.maximum(distance, SHORTEST)[:, None], up), axis=-1)
    lost = np.broadcast_to(~((distance > SHORTEST) & (distance < LONGEST)), np.broadcast_shapes(distance.shape, across.shape))
    for b in np.flatnonzero(lost)[:1]:
        came = f"got {eye[b % len(eye)].tolist()} in view {b}"
        raise ValueError(f"eye: expected a place away from at = {at[b % len(at)].tolist()}, {came}; move the eye or at")
    for b in np.flatnonzero(~(across > PARALLEL * np.linalg.norm(up, axis=-1)))[:1]:
        came = f"got {up[b % len(up)].tolist()} in view {b}"
        fix = "give another up, or an elevation off +-90 degrees"
        raise ValueError(f"up: expected a direction across the view direction {forward[b % len(forward)].tolist()}, {came}; {fix}")


# --- Project ----------------------------------------------------------------------------------------------------


def project(vertices: Array, camera: Camera) -> Array:
    """Vertices as the camera sees them.

        screen = (s_x d_x + o_x, s_y d_y + o_y, q_z),   d = D(q_x / q_z, q_y / q_z),   q = (p - eye) . (right, up', forward)

    and without the division by q_z for an orthographic camera; D is the lens's distortion, the identity without one.

    Args:
        vertices: world positions, (B, V) of vec3.
        camera: `Camera` of one view, or of as many as there are batches of vertices.

    Returns:
        Screen positions, (B, V) of vec3: x right, y up, the image's shorter side spans [-1, 1], z depth along forward.

    Differentiable in `vertices` and in every field of the camera, its pose and its distortion. Not where a perspective camera has
    the vertex at or behind it (depth 1e-6 or less): it has no place on the screen then, x and y are merely finite,
    and its faces are not drawn.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree.
    """
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    if not isinstance(camera, Camera):
        raise ValueError(f"camera: expected a Camera, got {type(camera).__name__}; make it with dr.Camera.look_at(...)")
    batch = batch_size(vertices=vertices.shape[0], camera=camera.batch)
    screen = empty(vec3, (batch, vertices.shape[1]), needs_grad=True)
    project_points(vertices, camera_frame(camera), camera.orthographic, camera.model, PROJECT, screen)
    return screen


def see(vertices: Array, frame: Array) -> Array:
    """Vertices in the axes of a view: the first half of `project`.

        q = (p - eye) . (right, up', forward)

    Args:
        vertices: world positions, (B, V) of vec3.
        frame: of one view, or of as many as there are batches of vertices, as `camera_frame` gives it.

    Returns:
        (B, V) of vec3: right, up, and depth along forward.

    Differentiable in `vertices` and in `frame`.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree.
    """
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    points = empty(vec3, (_joint_batch("vertices", vertices, frame), vertices.shape[1]), needs_grad=True)
    project_points(vertices, frame, False, PINHOLE, SEE, points)
    return points


def to_screen(points: Array, frame: Array, camera: Camera) -> Array:
    """Points in the axes of a view as its screen shows them: the second half of `project`.

        screen = (s_x d_x + o_x, s_y d_y + o_y, q_z),   d = D(q_x / q_z, q_y / q_z)

    Args:
        points: (B, N) of vec3: right, up, and depth along forward.
        frame: of `camera`, as `camera_frame` gives it.
        camera: says whether it is orthographic, and its model of distortion.

    Returns:
        Screen positions, (B, N) of vec3, as `project` gives them.

    Differentiable in `points` and in `frame`; not where a perspective camera has the point at or behind it.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree.
    """
    expect("points", points, 3, 2, "(B, N) of vec3")
    screen = empty(vec3, (_joint_batch("points", points, frame), points.shape[1]), needs_grad=True)
    project_points(points, frame, camera.orthographic, camera.model, TO_SCREEN, screen)
    return screen


def _joint_batch(name: str, points: Array, frame: Array) -> int:
    expect("frame", frame, 3, 2, "(B, COLUMNS) of vec3, as camera_frame gives it")
    if frame.shape[1] != COLUMNS:
        raise ValueError(f"frame: expected {COLUMNS} columns, as camera_frame gives them, got {frame.shape[1]}")
    return batch_size(**{name: points.shape[0], "frame": frame.shape[0]})
