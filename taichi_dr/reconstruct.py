"""From photographs to a mesh: the fit that `taichi-dr fit` runs, with settings that suit most objects."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import losses, schedules, shapes
from .arrays import Array, array, read, unrecorded
from .carve import visual_hull
from .deferred import DeferredRenderer
from .fit_run import Parameter, Step
from .fitting import Result, fit
from .frame import EYE
from .hull import Bounds, frames_of
from .large_steps import LargeSteps
from .mesh import Mesh
from .photos import Photos
from .quality import MeshQuality, mesh_quality
from .recording import Recording
from .remesh import remesh
from .render import SoftRenderer
from .smooth import smooth

SHOWN = 4  # photographs in the report
SPHERE = 0.6  # of the radius of the ball around the object, for a start from a sphere


@dataclass(frozen=True)
class Settings:
    """How photographs are fitted; the defaults suit most objects.

    Attributes:
        steps: of the fit.
        views_per_step: photographs that a step looks at.
        vertices: of the mesh, about.
        start: "hull", the visual hull of the masks, which has the holes of the object; or "sphere".
        large_steps: move the mesh by `LargeSteps`; False moves vertices one by one.
        smoothness: lambda of the large steps.
        lr, color_lr: of the shape, as a share of the object's radius, and of colors.
        blur: pixels by which edges are blurred at the first and the last step.
        silhouette, normals: weights of the overlap of outlines and of the normals' consistency, beside 10 of the squared difference.
        texture: "vertex" for colors of vertices; "uv" for a texture, which is fitted when the shape is.
        texture_size: texels on a side.
        seed: of the order of photographs.
    """

    steps: int = 400
    views_per_step: int = 4
    vertices: int = 10_000
    start: str = "hull"
    large_steps: bool = True
    smoothness: float = 19.0
    lr: float = 3e-3
    color_lr: float = 2e-2
    blur: tuple[float, float] = (1.5, 0.5)
    silhouette: float = 1.0
    normals: float = 0.02
    texture: str = "vertex"
    texture_size: int = 512
    seed: int = 0


@dataclass
class Reconstruction:
    """What photographs came to.

    Attributes:
        mesh: in the world of the cameras.
        result: of the fit.
        start, end: how good the mesh was and is.
        scores: by name of the photographs, "fitted" and "held_out": mean overlap of the outlines and PSNR in dB.
    """

    mesh: Mesh
    result: Result
    start: MeshQuality
    end: MeshQuality
    scores: dict[str, tuple[float, float]]


def reconstruct(
    photos: Photos,
    settings: Settings = Settings(),
    *,
    out: str | os.PathLike | None = None,
    held_out: Photos | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Reconstruction:
    """Fit a mesh to photographs of an object from all around, with masks.

    It starts at the visual hull of the masks, remeshed to triangles of equal sides; moves it by large steps with AdamUniform,
    while colors of vertices move by Adam; and ends, if asked, with a texture. A step compares a few photographs with images drawn
    softly, edges blurred less and less:

        loss = 10 mse(image, photograph) + silhouette (1 - IoU) + normals (1 - n . n')

    Args:
        photos: over a black background, as `Photos.load` gives them.
        settings: how.
        out: folder to record to: `Recording`, and checkpoint.npz.
        held_out: photographs that the fit is judged by.
        resume: go on from the checkpoint in `out`.
        progress: show a bar.

    Raises:
        ValueError: settings out of range, photographs that cannot be fitted.
        OSError: the folder cannot be written.
    """
    if resume and out is None:
        raise ValueError("resume: expected the folder of the run with it, got none; give out")
    folder = None if out is None else Path(out)
    bounds = photos.bounds()
    mesh = _first_mesh(photos, settings, bounds)
    start = mesh_quality(mesh)
    scene = _Scene(photos, settings, bounds, mesh)
    result = scene.fit(folder, resume, progress)
    mesh = scene.shown()
    if settings.texture == "uv":
        mesh = _textured(mesh, photos, settings, scene, folder, resume, progress)
    if scene.recording is not None:
        scene.recording.finish(mesh, pictures=lambda: scene.pictures(mesh))
    judged = {"fitted": photos} | ({} if held_out is None else {"held_out": held_out})
    scores = {name: scene.score(mesh, some) for name, some in judged.items()}
    return Reconstruction(mesh, result, start, mesh_quality(mesh), scores)


def _first_mesh(photos: Photos, settings: Settings, bounds: Bounds) -> Mesh:
    """The hull or a sphere, in triangles of equal sides, grey."""
    if settings.start == "hull":
        rough = visual_hull(photos, bounds=bounds)
    else:
        sphere = shapes.icosphere(5)
        rough = sphere.with_vertices(array(read(sphere.vertices) * (SPHERE * bounds.radius) + bounds.center))
    return remesh(smooth(rough), _edge_length(rough, settings.vertices)).mesh


def _edge_length(mesh: Mesh, vertices: int) -> float:
    """With about so many vertices: twice as many faces, A = sqrt(3) / 2 V l^2."""
    corners = read(mesh.vertices)[0][read(mesh.faces)]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    return math.sqrt(2 * float(area) / (math.sqrt(3) * vertices))


class _Scene:
    """What moves: a mesh, its colors, and the renderers that look at it."""

    def __init__(self, photos: Photos, settings: Settings, bounds: Bounds, mesh: Mesh) -> None:
        self.photos, self.settings, self.bounds = photos, settings, bounds
        distances = [float(np.linalg.norm(frame[EYE] - bounds.center)) for k in range(len(photos)) for frame in frames_of(photos.camera(k))]
        self.depths = {"near": max(min(distances) - 2 * bounds.radius, 1e-3 * bounds.radius), "far": max(distances) + 2 * bounds.radius}
        self.sharp = DeferredRenderer(antialias=2, edges=None, **self.depths)
        self.hard = DeferredRenderer(antialias=1, **self.depths)
        self.soft = 0.0 if settings.start == "hull" else 0.5
        self.shown_views = [round(k) for k in np.linspace(0, len(photos) - 1, min(SHOWN, len(photos)))]
        self.recording: Recording | None = None
        self._begin(mesh)

    def _begin(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.large = LargeSteps(mesh, self.settings.smoothness) if self.settings.large_steps else None

    def parameters(self) -> dict[str, Array]:
        return {"shape": self.mesh.vertices if self.large is None else self.large.coordinates, "colors": self.mesh.colors}

    def now(self) -> Mesh:
        """The mesh of this moment, differentiable in the parameters."""
        return self.mesh if self.large is None else self.mesh.with_vertices(self.large.vertices())

    def shown(self) -> Mesh:
        """The mesh of this moment, on its own, colors as they can be shown."""
        with unrecorded():
            return Mesh(read(self.now().vertices), read(self.mesh.faces), read(self.mesh.colors).clip(0, 1))

    def fit(self, folder: Path | None, resume: bool, progress: bool) -> Result:
        s = self.settings
        shape, colors = self.parameters().values()
        moved = {
            "shape": Parameter(shape, s.lr * self.bounds.radius, optimizer="adam_uniform" if s.large_steps else "adam"),
            "colors": Parameter(colors, s.color_lr),
        }
        return fit(
            moved, self._objective, s.steps, schedule=schedules.exponential(0.1), blur=s.blur, views=len(self.photos),
            views_per_step=min(s.views_per_step, len(self.photos)), seed=s.seed, on_step=self._after, progress=progress,
            checkpoint=None if folder is None else folder / "checkpoint.npz", resume=resume,
        )  # fmt: skip

    def _objective(self, step: Step) -> None:
        camera, target = self.photos.batch(step.views)
        mesh = self.now()
        image = (self.hard if step.done >= self.soft else SoftRenderer(sigma=step.sigma(camera), **self.depths))(mesh, camera)
        losses.mse(image, target, step.term("image"), 10.0)
        losses.silhouette_iou(image, target, step.term("silhouette"), self.settings.silhouette)
        losses.normal_consistency(mesh, step.term("normals"), self.settings.normals)

    def _after(self, step: Step) -> None:
        pass

    def pictures(self, mesh: Mesh) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Some photographs, and the mesh from there."""
        with unrecorded():
            return {self.photos.names[k]: (self.photos.image(k), read(self.sharp(mesh, self.photos.camera(k)))[0]) for k in self.shown_views}

    def score(self, mesh: Mesh, photos: Photos) -> tuple[float, float]:
        """Mean overlap of the outlines, and PSNR of colors, over all photographs."""
        overlaps, errors = [], []
        with unrecorded():
            for k in range(len(photos)):
                image, photo = read(self.sharp(mesh, photos.camera(k)))[0], photos.image(k)
                a, b = image[..., 3], photo[..., 3]
                overlaps.append((a * b).sum() / max((a + b - a * b).sum(), 1e-9))
                errors.append(((image - photo)[..., :3] ** 2).mean())
        return float(np.mean(overlaps)), float(-10 * np.log10(max(np.mean(errors), 1e-12)))
