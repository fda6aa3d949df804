"""The whole pipeline on one screen: project, shade, rasterize."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from .arrays import Array
from .camera import Camera, project
from .lights import shade
from .mesh import Mesh
from .raster.downsample import downsample
from .raster.soft import soft_rasterize


class SoftRenderer:
    """A soft rasterizer with its settings: `image = renderer(mesh, camera, lights)`.

    Args:
        antialias: n renders at n times the height and width and averages; the settings keep their meaning.
        sigma, gamma, distance, rgb, alpha, near, far, eps, dist_eps, background, double_sided, perspective_correct:
            as for `soft_rasterize`.

    Raises:
        ValueError: `antialias` below 1; the other settings are checked at the first call.
    """

    def __init__(
        self,
        *,
        antialias: int = 1,
        sigma: float = 1e-5,
        gamma: float = 1e-4,
        distance: str = "euclidean",
        rgb: str = "softmax",
        alpha: str = "prod",
        near: float = 1.0,
        far: float = 100.0,
        eps: float = 1e-3,
        dist_eps: float = 1e-4,
        background: Sequence[float] | Array = (0.0, 0.0, 0.0),
        double_sided: bool = True,
        perspective_correct: bool = False,
    ) -> None:
        if not isinstance(antialias, Integral) or antialias < 1:
            raise ValueError(f"antialias: expected a whole number of at least 1, got {antialias!r}")
        self.antialias = int(antialias)
        self.settings: dict[str, Any] = {
            "sigma": sigma, "gamma": gamma, "distance": distance, "rgb": rgb, "alpha": alpha, "near": near, "far": far, "eps": eps,
            "dist_eps": dist_eps, "background": background, "double_sided": double_sided, "perspective_correct": perspective_correct,
        }  # fmt: skip

    def __call__(self, mesh: Mesh, camera: Camera, lights: Any = None) -> Array:
        """Draw `mesh` as each view of `camera` sees it.

        Args:
            mesh: one mesh for all views, or a batch with one per view.
            camera: B views.
            lights: one light or a sequence of them; None shows the colors as they are.

        Returns:
            RGBA image, (B, H, W) of vec4. Inside a `dr.Tape` it is differentiable in the mesh's vertices, colors and
            texels, in the camera, the lights and the background.

        Raises:
            ValueError: batches that do not match, or settings out of range.
        """
        height, width = camera.size
        screen = project(mesh.vertices, camera)
        image = soft_rasterize(
            screen,
            mesh.faces,
            shade(mesh, lights),
            size=(height * self.antialias, width * self.antialias),
            clockwise_front=camera.mirrored,
            **self.settings,
        )
        return downsample(image, self.antialias) if self.antialias > 1 else image
