"""From photographs to a mesh: the fit that `taichi-dr fit` runs, with settings that suit most objects."""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import losses, schedules, shapes
from .arrays import Array, array, read, unrecorded, write
from .carve import visual_hull
from .deferred import DeferredRenderer
from .fit_run import Parameter, Step
from .fitting import Result, fit
from .frame import EYE
from .hull import Bounds, frames_of
from .inpaint import fill_unseen
from .large_steps import LargeSteps
from .mesh import Mesh
from .photos import Photos
from .quality import MeshQuality, mesh_quality
from .recording import Recording
from .remesh import remesh
from .render import SoftRenderer
from .smooth import smooth
from .unwrap import unwrap

CHECKPOINT = "checkpoint.npz"
START_ITERATIONS = 3  # of the remeshing of the hull
SHOWN = 4  # photographs in the report
SEEN = 0.1  # share of the mean coverage from which a texel counts as seen
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
    if settings.texture == "uv" and not result.interrupted:
        mesh = _textured(mesh, photos, settings, scene, folder, resume, progress)
    if scene.recording is not None:
        scene.recording.finish(mesh, pictures=lambda: scene.pictures(mesh))
    judged = {"fitted": photos} | ({} if held_out is None else {"held_out": held_out})
    scores = {name: scene.score(mesh, some) for name, some in judged.items()}
    return Reconstruction(mesh, result, start, mesh_quality(mesh), scores)


def _first_mesh(photos: Photos, settings: Settings, bounds: Bounds) -> Mesh:
    """The hull or a sphere, in triangles of equal sides, grey."""
    if settings.start == "sphere":
        levels = max(1, round(math.log(max(settings.vertices, 12) / 10, 4)))  # of 10 * 4^levels + 2 vertices
        sphere = shapes.icosphere(levels, SPHERE * bounds.radius)
        return sphere.with_vertices(array(read(sphere.vertices) + bounds.center))
    rough = smooth(visual_hull(photos, bounds=bounds))
    return remesh(rough, _edge_length(rough, settings.vertices), START_ITERATIONS).mesh


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
        self.mesh, self.anchor = mesh, read(mesh.vertices)
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
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        shape, colors = self.parameters().values()
        moved = {
            "shape": Parameter(shape, s.lr * self.bounds.radius, optimizer="adam_uniform" if s.large_steps else "adam"),
            "colors": Parameter(colors, s.color_lr),
        }
        result = fit(
            moved, self._objective, s.steps, schedule=schedules.exponential(0.1), blur=s.blur, views=len(self.photos),
            views_per_step=min(s.views_per_step, len(self.photos)), seed=s.seed, progress=progress,
            on_step=lambda step: self._after(step, folder, resume), checkpoint=None if folder is None else folder / CHECKPOINT, resume=resume,
            state=self._state, load_state=self._load_state,
        )  # fmt: skip
        if folder is not None and self.recording is None:  # no step was left to make
            self._record(folder, s.steps)
        return result

    def _record(self, folder: Path, resume_at: int | None) -> None:
        self.recording = Recording(folder, steps=self.settings.steps, config=dataclasses.asdict(self.settings), resume_at=resume_at)

    def _objective(self, step: Step) -> None:
        camera, target = self.photos.batch(step.views)
        mesh = self.now()
        image = (self.hard if step.done >= self.soft else SoftRenderer(sigma=step.sigma(camera), **self.depths))(mesh, camera)
        losses.mse(image, target, step.term("image"), 10.0)
        losses.silhouette_iou(image, target, step.term("silhouette"), self.settings.silhouette)
        losses.normal_consistency(mesh, step.term("normals"), self.settings.normals)

    def _after(self, step: Step, folder: Path | None, resume: bool) -> None:
        if folder is not None and self.recording is None:
            self._record(folder, step.index if resume else None)
        if self.recording is not None:
            is_due = self.recording.due(step.index)
            mesh = self.shown() if is_due else None
            terms = {name.removeprefix("term."): value for name, value in step.values.items() if name.startswith("term.")}
            self.recording.add(step.index, step.values["loss"], terms, pictures=lambda: self.pictures(mesh), mesh=mesh)
        if step.index + 1 == round(self.soft * step.steps):
            self._remesh(step)

    def _remesh(self, step: Step) -> None:
        """Triangles of equal sides again, after a sphere was drawn out to the shape; colors and their moments are carried."""
        now = Mesh(read(self.now().vertices), read(self.mesh.faces), read(self.mesh.colors))
        mesh, weights = remesh(smooth(now, 3), _edge_length(now, self.settings.vertices))
        self._begin(mesh)
        shape, colors = self.parameters().values()
        step.replace("shape", shape)
        step.replace("colors", colors, lambda moments: (weights @ moments[0])[None])

    def _state(self) -> dict[str, np.ndarray]:
        return {"faces": read(self.mesh.faces), "vertices": self.anchor}

    def _load_state(self, state: dict[str, np.ndarray]) -> dict[str, Array]:
        self._begin(Mesh(state["vertices"], state["faces"].astype(np.int32)))
        return self.parameters()

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


# --- Texture -------------------------------------------------------------------------------------------------------------


def _textured(mesh: Mesh, photos: Photos, settings: Settings, scene: _Scene, folder: Path | None, resume: bool, progress: bool) -> Mesh:
    """The mesh with a texture, which begins as the colors of the vertices and is fitted while the shape stays."""
    textured = unwrap(mesh, settings.texture_size)
    renderer = DeferredRenderer(antialias=1, edges=None, **scene.depths)

    def objective(step: Step) -> None:
        camera, target = photos.batch(step.views)
        losses.mse(renderer(textured, camera), target, step.loss, 10.0)

    fit(
        {"texture": Parameter(textured.texture, settings.color_lr, bounds=(0, 1))}, objective, max(1, settings.steps // 4),
        schedule=schedules.exponential(0.1), views=len(photos), views_per_step=min(settings.views_per_step, len(photos)), seed=settings.seed,
        progress=progress, checkpoint=None if folder is None else folder / "texture.npz", resume=resume,
    )  # fmt: skip
    coverage = sum(renderer.texel_coverage(textured, photos.camera(k)) for k in range(len(photos)))
    write(textured.texture, fill_unseen(textured.texture, coverage > SEEN * coverage.mean()))
    return textured
