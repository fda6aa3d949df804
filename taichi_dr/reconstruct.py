"""From photographs to a mesh: the fit that `taichi-dr fit` runs, with settings that suit most objects."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from . import losses, schedules, shapes
from .arrays import Array, array, read, unrecorded, write
from .carve import visual_hull
from .checkpoint import Checkpoint
from .deferred import DeferredRenderer
from .fit_parameter import Parameter
from .fit_run import Step
from .fitting import Result, fit
from .frame import EYE
from .hull import Bounds, frames_of
from .inpaint import fill_unseen
from .intersections import self_intersections
from .large_steps import LargeSteps
from .mesh import Mesh
from .photos import Photos
from .quality import MeshQuality, flipped_faces, mesh_quality
from .recording import Recording
from .remesh import remesh
from .render import SoftRenderer
from .smooth import smooth
from .unwrap import unwrap

CHECKPOINT = "checkpoint.npz"
TEXTURE_CHECKPOINT = "texture.npz"
MARKS = (CHECKPOINT, TEXTURE_CHECKPOINT, "recording", "report.html")  # of a folder that holds a run
RESULTS = ("report.html", "mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "loss.csv", "fit.gif")
EVERY = 50  # steps between checkpoints
MEASURED = 5  # times that the mesh is measured for the log, besides at its end: 0.2 s at 20,000 faces
CELLS = (56, 80)  # of the hull's grid along a side, for coarse meshes and for fine ones
START_ITERATIONS = 3  # of the remeshing of the hull
SHOWN = 4  # photographs in the report
EPSILON = 1e-8  # of the gradient of an object of radius 1
SEEN = 0.1  # share of the mean coverage from which a texel counts as seen
REFERENCE = 10_000  # vertices that the smoothness is given for
SPHERE = 0.6  # of the radius of the ball around the object, for a start from a sphere
STRIDE = 5.0  # of steps from a sphere, which has farther to go, in proportion to those from the hull


@dataclass(frozen=True)
class Settings:
    """How photographs are fitted; the defaults suit most objects.

    Attributes:
        steps: of the fit of the shape; a texture takes a quarter as many more.
        views_per_step: photographs that a step looks at.
        vertices: of the mesh, about.
        start: "hull", the visual hull of the masks, which has the holes of the object; or "sphere".
        large_steps: move the mesh as a whole, by `LargeSteps`, rather than each vertex by itself.
        smoothness: lambda of the large steps of a mesh of 10,000 vertices, and in proportion to them of others; higher is rounder.
        lr: step length of the shape, as a share of the object's radius; from a sphere 5 times that.
        color_lr: step length of colors, whose values are from 0 to 1.
        blur: pixels by which edges are blurred at the first and the last step.
        silhouette: weight of the overlap of outlines, beside 10 of the squared difference of colors.
        normals: weight of the angles between neighboring faces; higher is rounder.
        texture: "vertex" for colors of vertices; "uv" for a texture, which is fitted when the shape is.
        texture_size: texels on a side of the texture.
        seed: of the order in which photographs are looked at.
    """

    steps: int = 400
    views_per_step: int = 4
    vertices: int = 10_000
    start: str = "hull"
    large_steps: bool = True
    smoothness: float = 19.0
    lr: float = 1e-2
    color_lr: float = 2e-2
    blur: tuple[float, float] = (1.5, 0.5)
    silhouette: float = 1.0
    normals: float = 0.02
    texture: str = "vertex"
    texture_size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most, usual in (
            ("steps", 1, None, 400), ("views_per_step", 1, None, 4), ("vertices", 50, 2_000_000, 10_000), ("texture_size", 16, 8192, 512),
            ("seed", 0, None, 0),
        ):  # fmt: skip
            self._take(name, _whole(name, getattr(self, name), least, most, usual))
        for name, choices in (("start", ("hull", "sphere")), ("texture", ("vertex", "uv"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}; {choices[0]!r} is usual")
        if not isinstance(self.large_steps, bool | np.bool_):
            raise ValueError(f"large_steps: expected True or False, got {self.large_steps!r}; True is usual")
        self._take("large_steps", bool(self.large_steps))
        for name, is_positive, most in (
            ("smoothness", False, None), ("lr", True, 1.0), ("color_lr", True, None), ("silhouette", False, None), ("normals", False, None),
        ):  # fmt: skip
            self._take(name, _real(name, getattr(self, name), is_positive, most, getattr(Settings, name)))
        if isinstance(self.blur, str) or not isinstance(self.blur, Sequence) or len(self.blur) != 2:
            raise ValueError(f"blur: expected pixels at the first and the last step, two numbers, got {self.blur!r}; {Settings.blur} is usual")
        self._take("blur", tuple(_real("blur", pixels, True, None, Settings.blur) for pixels in self.blur))

    def _take(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _whole(name: str, value: Any, least: int, most: int | None, usual: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: expected a whole number {span}, got {value!r}; {usual} is usual")
    return int(value)


def _real(name: str, value: Any, is_positive: bool, most: float | None, usual: Any) -> float:
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (is_positive and value == 0) or (most is not None and value > most):
        span = ("above 0" if is_positive else "of at least 0") + ("" if most is None else f", at most {most:g}")
        raise ValueError(f"{name}: expected a finite number {span}, got {value!r}; {usual} is usual")
    return float(value)


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
    overwrite: bool = False,
    progress: bool = True,
) -> Reconstruction:
    """Fit a mesh to photographs of an object from all around, with masks.

    It starts at the visual hull of the masks, remeshed to triangles of equal sides; moves it by large steps with AdamUniform,
    while colors of vertices move by Adam; and ends, if asked, with a texture. A step compares a few photographs with images drawn
    softly, edges blurred less and less:

        loss = 10 mse(image, photograph) + silhouette (1 - IoU) + normals (1 - n . n')

    Args:
        photos: of one size, with masks, over any background.
        settings: how.
        out: folder to record to: `Recording`, and checkpoint.npz; one that holds a run is refused, but for the next two. With a few
            of the losses loss.csv has how many pairs of faces cross, and how many faces are flipped.
        held_out: photographs that the fit is judged by, over the same background.
        resume: go on from the checkpoint in `out`, with the settings and photographs of then; without one, begin.
        overwrite: begin anew though `out` holds a run, whose files are removed, and no others.
        progress: show a bar.

    Ctrl-C ends the fit with what it has come to: `result.interrupted`, and resume goes on.

    Raises:
        ValueError: photographs that cannot be fitted, a folder that holds a run, or a checkpoint that is damaged or of another fit.
        OSError: the folder cannot be written.
    """
    return prepared(photos, settings, out=out, held_out=held_out, resume=resume, overwrite=overwrite, progress=progress).run()


def prepared(
    photos: Photos,
    settings: Settings,
    *,
    out: str | os.PathLike | None = None,
    held_out: Photos | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> "_Scene":
    """The first half of `reconstruct`: all that may be refused is, the mesh to start from is made, and another run is removed. `run` fits."""
    if resume and out is None:
        raise ValueError("resume: expected the folder of the run with it, got none; give out")
    if resume and overwrite:
        raise ValueError("overwrite: expected False with resume, which goes on, got True, which begins anew; give one of the two")
    _check_photos(photos, held_out)
    folder = None if out is None else Path(out)
    if folder is not None:
        if not (resume or overwrite) and holds_run(folder):
            raise ValueError(
                f"out: expected a folder without a run, got {folder}, which holds one; "
                "give resume=True to go on with it, overwrite=True to begin anew, or another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            for name in (CHECKPOINT, TEXTURE_CHECKPOINT):
                _check_same(folder / name, _what(photos, settings))
    bounds = photos.bounds()
    scene = _Scene(photos, held_out, settings, bounds, _first_mesh(photos, settings, bounds), folder, resume, progress)
    if folder is not None and not resume:
        remove_run(folder)  # now that there is another to take its place
        scene.record(0)
    return scene


def holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in MARKS)


def remove_run(folder: Path) -> None:
    """What a run left there, and nothing else. Its recording goes when another begins: that knows which files are its own."""
    for name in (CHECKPOINT, TEXTURE_CHECKPOINT, *RESULTS):
        (folder / name).unlink(missing_ok=True)


def _check_photos(photos: Photos, held_out: Photos | None) -> None:
    photos.cameras  # noqa: B018  raises where they cannot be looked at together
    unmasked = photos.unmasked()
    if unmasked:
        some = ", ".join(unmasked[:3]) + (" ..." if len(unmasked) > 3 else "")
        raise ValueError(
            f"photos: expected masks, got {len(unmasked)} of {len(photos)} with alpha 1 everywhere: {some}; "
            "give masks or images with alpha, or leave these photographs out"
        )
    if photos.background is None or (held_out is not None and held_out.background != photos.background):
        came = "None" if photos.background is None else f"{photos.background}, and {held_out.background} of held_out"
        raise ValueError(f"photos: expected images over one background, got {came}; load them with background=(0, 0, 0)")


def _first_mesh(photos: Photos, settings: Settings, bounds: Bounds) -> Mesh:
    """The hull or a sphere, in triangles of equal sides, grey."""
    if settings.start == "sphere":
        levels = max(1, round(math.log(max(settings.vertices, 12) / 10, 4)))  # of 10 * 4^levels + 2 vertices
        sphere = shapes.icosphere(levels, SPHERE * bounds.radius)
        return sphere.with_vertices(array(read(sphere.vertices) + bounds.center))
    rough = smooth(visual_hull(photos, _cells(settings.vertices), bounds))
    return remesh(rough, _edge_length(rough, settings.vertices), START_ITERATIONS).mesh


def _cells(vertices: int) -> int:
    """Fewer for a coarser mesh, whose start is the sooner remeshed; thin parts, which the grid must meet, forbid that they go by its edges."""
    least, most = CELLS
    return min(most, max(least, round(most * (vertices / REFERENCE) ** 0.25)))


def _edge_length(mesh: Mesh, vertices: int) -> float:
    """With about so many vertices: twice as many faces, A = sqrt(3) / 2 V l^2."""
    corners = read(mesh.vertices)[0][read(mesh.faces)]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    return math.sqrt(2 * float(area) / (math.sqrt(3) * vertices))


class _Scene:
    """What moves: a mesh, its colors, and the renderers that look at it."""

    def __init__(
        self, photos: Photos, held_out: Photos | None, settings: Settings, bounds: Bounds, mesh: Mesh, folder: Path | None, resume: bool,
        progress: bool,
    ) -> None:  # fmt: skip
        self.photos, self.held_out, self.settings, self.bounds = photos, held_out, settings, bounds
        self.what = np.array(json.dumps(_what(photos, settings)))
        self.folder, self.resume, self.progress = folder, resume, progress
        cameras = [some.camera(k) for some in (photos, held_out) if some is not None for k in range(len(some))]
        distances = [float(np.linalg.norm(frame[EYE] - bounds.center)) for camera in cameras for frame in frames_of(camera)]
        depths = {"near": max(min(distances) - 2 * bounds.radius, 1e-3 * bounds.radius), "far": max(distances) + 2 * bounds.radius}
        self.view: dict[str, Any] = {**depths, "background": photos.background}
        self.sharp = DeferredRenderer(antialias=2, edges=None, **self.view)
        self.hard = DeferredRenderer(antialias=1, **self.view)
        self.soft = 0.0 if settings.start == "hull" else 0.5
        self.shown_views = [round(k) for k in np.linspace(0, len(photos) - 1, min(SHOWN, len(photos)))]
        self.recording: Recording | None = None
        self._begin(mesh)

    def _begin(self, mesh: Mesh) -> None:
        self.mesh, self.anchor = mesh, read(mesh.vertices)
        # The reach of a step is as the root of lambda, in edges: so it is the same on the object whatever they are.
        smoothness = self.settings.smoothness * mesh.vertices.shape[1] / REFERENCE
        self.large = LargeSteps(mesh, smoothness) if self.settings.large_steps else None

    def parameters(self) -> dict[str, Array]:
        return {"shape": self.mesh.vertices if self.large is None else self.large.coordinates, "colors": self.mesh.colors}

    def now(self) -> Mesh:
        """The mesh of this moment, differentiable in the parameters."""
        return self.mesh if self.large is None else self.mesh.with_vertices(self.large.vertices())

    def shown(self) -> Mesh:
        """The mesh of this moment, on its own, colors as they can be shown."""
        with unrecorded():
            return Mesh(read(self.now().vertices), read(self.mesh.faces), read(self.mesh.colors).clip(0, 1))

    def run(self) -> Reconstruction:
        start = Mesh(read(self.mesh.vertices), read(self.mesh.faces))
        result = self.fit()
        mesh, made = self.shown(), len(result.history)
        if self.settings.texture == "uv" and not result.interrupted:
            mesh, painted = _textured(mesh, self)
            made += len(painted.history)
            if painted.interrupted:
                result = dataclasses.replace(result, ended=painted.ended)
        recording = self.record(made)
        if recording is not None:
            recording.finish(mesh, pictures=lambda: self.pictures(mesh))
        judged = {"fitted": self.photos} | ({} if self.held_out is None else {"held_out": self.held_out})
        scores = {name: self.score(mesh, some) for name, some in judged.items()}
        return Reconstruction(mesh, result, mesh_quality(start), mesh_quality(mesh), scores)

    def fit(self) -> Result:
        s, radius = self.settings, self.bounds.radius
        lr = s.lr * radius * (STRIDE if s.start == "sphere" else 1)
        shape, colors = self.parameters().values()
        moved = {
            # Gradients are in 1 / radius, and so is what keeps their roots from 0: objects of any size are fitted alike.
            "shape": Parameter(shape, lr, optimizer="adam_uniform" if s.large_steps else "adam", eps=EPSILON / radius),
            "colors": Parameter(colors, s.color_lr),
        }
        return fit(
            moved, self._objective, s.steps, schedule=schedules.exponential(0.1), blur=s.blur, on_step=self._after,
            state=self._state, load_state=self._load_state, **self.common(CHECKPOINT, "fit"),
        )  # fmt: skip

    def common(self, checkpoint: str, bar: str) -> dict[str, Any]:
        """Settings of the fits of shape and texture."""
        s, count = self.settings, len(self.photos)
        return {
            "views": count, "views_per_step": min(s.views_per_step, count), "seed": s.seed, "progress": self.progress and bar, "every": EVERY,
            "checkpoint": None if self.folder is None else self.folder / checkpoint, "resume": self.resume,
        }  # fmt: skip

    def record(self, step: int) -> Recording | None:
        """The recording; a run that goes on discards what was recorded from its first step on."""
        if self.recording is None and self.folder is not None:
            steps = self.settings.steps + (self.texture_steps if self.settings.texture == "uv" else 0)
            resume_at = step if self.resume else None
            self.recording = Recording(self.folder, steps=steps, config=dataclasses.asdict(self.settings), resume_at=resume_at)
        return self.recording

    @property
    def texture_steps(self) -> int:
        """Steps of the texture, which are counted after those of the shape."""
        return max(1, self.settings.steps // 4)

    def _objective(self, step: Step) -> None:
        camera, target = self.photos.batch(step.views)
        mesh = self.now()
        image = (self.hard if step.done >= self.soft else SoftRenderer(sigma=step.sigma(camera), **self.view))(mesh, camera)
        losses.mse(image, target, step.term("image"), 10.0)
        losses.silhouette_iou(image, target, step.term("silhouette"), self.settings.silhouette)
        losses.normal_consistency(mesh, step.term("normals"), self.settings.normals)

    def _after(self, step: Step) -> None:
        recording = self.record(step.index)
        if recording is not None:
            is_due, is_measured = recording.due(step.index), step.index % -(-step.steps // MEASURED) == 0 or step.index == step.steps - 1
            mesh = self.shown() if is_due or is_measured else None
            terms = step.terms
            if is_measured:
                terms |= {"self_intersections": len(self_intersections(mesh)), "flipped_faces": len(flipped_faces(mesh))}
            recording.add(step.index, step.values["loss"], terms, pictures=lambda: self.pictures(mesh), mesh=mesh)
        if step.index + 1 == round(self.soft * step.steps):
            self._remesh(step)

    def _remesh(self, step: Step) -> None:
        """Triangles of equal sides again, after a sphere was drawn out to the shape; colors and their moments are carried."""
        now = Mesh(read(self.now().vertices), read(self.mesh.faces), read(self.mesh.colors))
        mesh, weights = remesh(smooth(now, 3), _edge_length(now, self.settings.vertices))
        self._begin(mesh)
        shape, colors = self.parameters().values()
        step.replace("shape", shape)
        step.replace("colors", colors, weights)

    def _state(self) -> dict[str, np.ndarray]:
        return {"faces": read(self.mesh.faces), "vertices": self.anchor, "settings": self.what}

    def _load_state(self, state: dict[str, np.ndarray]) -> dict[str, Array]:
        assert self.folder is not None
        try:
            mesh = Mesh(state["vertices"], state["faces"].astype(np.int32))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{self.folder / CHECKPOINT}: expected a mesh in it, got another ({error}); begin anew without it") from error
        self._begin(mesh)
        return self.parameters()

    def pictures(self, mesh: Mesh) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Some photographs, and the mesh from there."""
        with unrecorded():
            return {self.photos.names[k]: (self.photos.image(k), read(self.sharp(mesh, self.photos.camera(k)))[0]) for k in self.shown_views}

    def score(self, mesh: Mesh, photos: Photos) -> tuple[float, float]:
        """Mean overlap of the outlines, and PSNR of colors, over all photographs.

            IoU = sum min(a, b) / sum max(a, b)

        of the two alphas, which is that of sets where they are 0 and 1, and 1 for equal ones; with products instead, edges of
        partial coverage overlap badly with themselves.
        """
        overlaps, errors = [], []
        with unrecorded():
            for k in range(len(photos)):
                image, photo = read(self.sharp(mesh, photos.camera(k)))[0], photos.image(k)
                a, b = image[..., 3], photo[..., 3]
                overlaps.append(np.minimum(a, b).sum() / max(np.maximum(a, b).sum(), 1e-9))
                errors.append(((image - photo)[..., :3] ** 2).mean())
        return float(np.mean(overlaps)), float(-10 * np.log10(max(np.mean(errors), 1e-12)))


def _what(photos: Photos, settings: Settings) -> dict[str, Any]:
    """What a checkpoint must agree in, as JSON has it."""
    sizes = sorted({f"{width} x {height}" for height, width in photos.sizes})
    text = f"{len(photos)} of {', '.join(sizes)} pixels, {photos.names[0]} to {photos.names[-1]}, over {photos.background}"
    return json.loads(json.dumps(dataclasses.asdict(settings) | {"photos": text}))


def _check_same(path: Path, here: dict[str, Any]) -> None:
    """Refuse the checkpoint of other settings or photographs, before anything is made."""
    if not path.exists():
        return
    with Checkpoint(path) as saved:
        try:
            there = dict(json.loads(str(saved.read("state.settings"))))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: expected the settings of its fit in it, got none; begin anew without it") from error
    for name in [*here, *(there.keys() - here.keys())]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{path}: expected a checkpoint of this fit, got one of another: {name} is {there.get(name)} there and {here.get(name)} here; "
                "run it with the settings of then, or begin anew in another folder"
            )


# --- Texture -------------------------------------------------------------------------------------------------------------


def _textured(mesh: Mesh, scene: _Scene) -> tuple[Mesh, Result]:
    """The mesh with a texture, which begins as the colors of the vertices and is fitted while the shape stays; and how that went."""
    photos, settings = scene.photos, scene.settings
    textured = unwrap(mesh, settings.texture_size)
    renderer = DeferredRenderer(antialias=1, edges=None, **scene.view)

    def objective(step: Step) -> None:
        camera, target = photos.batch(step.views)
        losses.mse(renderer(textured, camera), target, step.loss, 10.0)

    def after(step: Step) -> None:
        index = settings.steps + step.index
        recording, loss = scene.record(index), step.values["loss"]
        if recording is not None:  # not as the image's term, which is of pictures without hard edges
            recording.add(index, loss, {"texture": loss}, pictures=lambda: scene.pictures(textured), mesh=textured)

    result = fit(
        {"texture": Parameter(textured.texture, settings.color_lr, bounds=(0, 1))}, objective, scene.texture_steps,
        schedule=schedules.exponential(0.1), on_step=after, state=lambda: {"settings": scene.what}, load_state=lambda state: None,
        **scene.common(TEXTURE_CHECKPOINT, "texture"),
    )  # fmt: skip
    coverage = sum(renderer.texel_coverage(textured, photos.camera(k)) for k in range(len(photos)))
    write(textured.texture, fill_unseen(textured.texture, coverage > SEEN * coverage.mean()))
    return textured, result
