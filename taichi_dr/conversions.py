"""Cameras from other systems and back: the methods of `Camera` that speak OpenCV, OpenGL, PyTorch3D, SoftRas, COLMAP and NeRF.

`io/cameras.py` and `io/colmap.py` have their conventions and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .arrays import batch_size, image_size, read, unrecorded
from .frame import EYE, FORWARD, OFFSET, RIGHT, SCALE, UP, camera_frame
from .io import cameras as systems
from .io import colmap
from .lens import BrownConrady, Fisheye, SoftRasDistortion
from .pose import Pose, so3_log

if TYPE_CHECKING:
    from .camera import Camera


class Conversions:
    """Of a `Camera`: made from other systems' numbers and files, and written to them."""

    @classmethod
    def _from_views(cls, views: systems.Views) -> Camera:
        distortion = None
        if views.coefficients is not None:
            distortion = (Fisheye if views.fisheye else BrownConrady)(*views.coefficients.T)
        pose = Pose(so3_log(views.rotation), views.translation)
        camera = cls.from_pose(pose, focal=views.focal, principal=views.principal, distortion=distortion, size=views.size)
        camera.names = views.names
        return camera

    def _views(self) -> systems.Views:
        """The cameras in NumPy; one entry for all of them where the fields of the lens have one."""
        kind = "an orthographic" if self.orthographic else "a mirrored" if self.mirrored else ""
        if kind:
            raise ValueError(f"camera: expected a perspective camera with right = forward x up, got {kind} one; other systems have no such")
        with unrecorded():
            frame = read(camera_frame(self)).astype(np.float64)
        height, width = self.size
        half = 0.5 * min(self.size)
        rotation = np.stack([frame[:, RIGHT], -frame[:, UP], frame[:, FORWARD]], axis=1)
        lenses = frame[: batch_size(**{name: x.shape[0] if x.shape else 1 for name, x in self._lens_arrays().items()})]
        coefficients = None
        if isinstance(self.distortion, Fisheye):
            coefficients = np.atleast_2d(read(self.distortion.coefficients))
        elif self.distortion is not None:
            radial, tangential = (np.atleast_2d(read(x)) for x in (self.distortion.radial, self.distortion.tangential))
            parts = np.broadcast_arrays(radial[:, :1], radial[:, 1:2], tangential[:, :1], tangential[:, 1:], radial[:, 2:])
            coefficients = np.concatenate(parts, axis=1)
        return systems.Views(
            rotation,
            -(rotation @ frame[:, EYE, :, None])[..., 0],
            lenses[:, SCALE, :2] * half,
            np.stack([0.5 * width + half * lenses[:, OFFSET, 0], 0.5 * height - half * lenses[:, OFFSET, 1]], axis=-1),
            self.size,
            None if coefficients is None else coefficients.astype(np.float64),
            isinstance(self.distortion, Fisheye),
            self.names,
        )

    @classmethod
    def from_opencv(
        cls,
        K: Sequence | np.ndarray,
        R: Sequence | np.ndarray,
        t: Sequence | np.ndarray,
        *,
        size: int | tuple[int, int],
        distortion: Sequence | np.ndarray | None = None,
        fisheye: bool = False,
    ) -> Camera:
        """OpenCV's cameras, x_cam = R x + t in axes right, down, forward.

        Args:
            K: (3, 3) or (B, 3, 3), in pixels whose centers are at integers: `principal` is (K[0, 2], K[1, 2]) + 1/2.
            R: rotations, (3, 3) or (B, 3, 3); `cv2.Rodrigues` makes them of vectors.
            t: (3,), (3, 1), or B of them.
            size: pixels, (height, width), or one number for a square.
            distortion: k1, k2, p1, p2 and perhaps k3, or B rows of them; of a fisheye k1 to k4.
            fisheye: the model of `cv2.fisheye`.

        Raises:
            ValueError: wrong shapes, numbers that are not finite, a skew, a focal length that is not positive, an R that
                is a reflection or no rotation, batches that do not agree.
        """
        return cls._from_views(systems.from_opencv(K, R, t, image_size(size), distortion, fisheye))

    def to_opencv(self) -> systems.OpenCV:
        """K (pixel centers at integers), R, t and distortion with a leading axis B, as `from_opencv` takes them.

        Raises:
            ValueError: an orthographic or mirrored camera.
        """
        return systems.to_opencv(self._views())

    @classmethod
    def from_opengl(cls, camera_to_world: Sequence | np.ndarray, fov_x: float | Sequence[float], *, size: int | tuple[int, int]) -> Camera:
        """Cameras of OpenGL and Blender, which look along -z with y up.

        Args:
            camera_to_world: (4, 4) or (B, 4, 4), the inverse of OpenGL's view matrix.
            fov_x: full field of view of the image's WIDTH, degrees, a number or B of them.
            size: pixels, (height, width), or one number for a square.

        Raises:
            ValueError: wrong shapes, numbers that are not finite, an angle out of range, a reflection or no rotation.
        """
        return cls._from_views(systems.from_opengl(camera_to_world, fov_x, image_size(size)))

    def to_opengl(self) -> systems.OpenGL:
        """camera_to_world, fov_x and fov_y (degrees) with a leading axis B.

        Raises:
            ValueError: an orthographic or mirrored camera, a distortion, or a principal point off the middle.
        """
        return systems.to_opengl(self._views())

    @classmethod
    def from_pytorch3d(
        cls,
        R: Sequence | np.ndarray,
        T: Sequence | np.ndarray,
        focal: float | Sequence | np.ndarray,
        principal_point: Sequence | np.ndarray | None = None,
        *,
        size: int | tuple[int, int],
        in_ndc: bool = True,
    ) -> Camera:
        """PyTorch3D's PerspectiveCameras, x_cam = x R + T of row vectors, axes left, up, forward.

        Args:
            R: rotations, (3, 3) or (B, 3, 3).
            T: (3,) or (B, 3).
            focal: a number, (B,) of them, or (f_x, f_y) or (B, 2): a single pair is f_x and f_y.
            principal_point: (p_x, p_y) or (B, 2); the middle by default.
            size: pixels, (height, width), or one number for a square.
            in_ndc: focal and principal point are in NDC, x left, y up, the shorter side spans [-1, 1]; else in pixels
                from the top left corner.

        Raises:
            ValueError: wrong shapes, numbers that are not finite, a focal length that is not positive, a reflection.
        """
        return cls._from_views(systems.from_pytorch3d(R, T, focal, principal_point, image_size(size), in_ndc))

    def to_pytorch3d(self) -> systems.PyTorch3D:
        """R, T, focal_length and principal_point in NDC, with a leading axis B.

        Raises:
            ValueError: an orthographic or mirrored camera, or a distortion.
        """
        return systems.to_pytorch3d(self._views())

    @classmethod
    def from_softras_projection(
        cls, P: Sequence | np.ndarray, distortion: Sequence | np.ndarray | None = None, orig_size: float = 512, *, size: int | tuple[int, int] = 256
    ) -> Camera:
        """Cameras of SoftRas's mode "projection"; in its images y points up, so the picture of an OpenCV camera is upside down.

            (u, v) = D(P x / (P x)_3),   screen = (2 u / orig_size - 1, 2 v / orig_size - 1)

        D is applied to pixels, as SoftRas does it, not to normalized coordinates. P is scaled so that depth is a
        distance; SoftRas's 1e-5 added to it is left out.

        Args:
            P: K [R | t], (3, 4) or (B, 3, 4), to pixels of an image of side orig_size.
            distortion: k1, k2, p1, p2, k3, or B rows of them.
            orig_size: pixels along a side of the image that P is for.
            size: pixels of the images to render, square.

        Raises:
            ValueError: wrong shapes, numbers that are not finite, a P that is no K [R | t] without skew.

        Source: SoftRas, `projection`.
        """
        views = systems.from_softras(P, orig_size, image_size(size))
        lens = None
        if distortion is not None:
            lens = SoftRasDistortion(*systems.numbers("distortion", distortion, (5,)).T, orig_size=orig_size)
        pose = Pose(so3_log(views.rotation), views.translation)
        return cls.from_pose(pose, focal=views.focal, principal=views.principal, distortion=lens, size=views.size, mirrored=True)

    @classmethod
    def from_colmap(cls, folder: str | Path, *, names: Sequence[str] | None = None) -> Camera:
        """One view per image of a COLMAP model, cameras and images .bin or .txt, in the order of their numbers.

        `camera.names` has the images' file names. Models SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV,
        OPENCV_FISHEYE, and FULL_OPENCV without k4, k5 and k6. Images of one camera share one lens.

        Args:
            folder: with cameras and images.
            names: only these images, in this order.

        Raises:
            FileNotFoundError: there is no model in the folder.
            ValueError: a file that is not valid (with line or offset), another camera model, images of several sizes.
        """
        return cls._from_views(colmap.from_colmap(folder, names))

    def to_colmap(self, folder: str | Path, *, names: Sequence[str] | None = None, binary: bool = False) -> None:
        """Write the views as a COLMAP model without points, to a folder, which is made where it is missing.

        Args:
            folder: gets cameras, images and points3D, .txt or .bin.
            names: of the images, one per view; `camera.names` by default, or else 0000.png and so on.
            binary: .bin files.

        Raises:
            ValueError: an orthographic or mirrored camera, or names that are not one per view.
        """
        views = self._views()
        colmap.to_colmap(views._replace(names=views.names if names is None else tuple(names)), folder, binary=binary)

    @classmethod
    def from_nerf(cls, path: str | Path, *, size: int | tuple[int, int] | None = None) -> Camera:
        """One view per frame of a transforms.json, as NeRF, instant-ngp and nerfstudio have it.

        Args:
            path: the file.
            size: pixels, (height, width), or one number for a square; the lens is scaled to it. Needed where the file
                has no w and h.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a file that is not valid.
        """
        return cls._from_views(systems.from_nerf(path, None if size is None else image_size(size)))

    def to_nerf(self, path: str | Path, *, names: Sequence[str] | None = None) -> None:
        """Write the views as a transforms.json; `names` as in `to_colmap`.

        Raises:
            ValueError: an orthographic or mirrored camera, or names that are not one per view.
        """
        views = self._views()
        systems.to_nerf(views._replace(names=views.names if names is None else tuple(names)), path)
