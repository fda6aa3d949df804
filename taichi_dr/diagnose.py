"""Why a gradient is zero, not finite, or far too large, in words; on the host, for a look every so often."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from .arrays import Array, batch_size, read, unrecorded
from .camera import Camera, project
from .frame import PARALLEL
from .lens import MIN_DEPTH
from .mesh import Mesh
from .optim import SGD
from .raster.tiles import MIN_AREA
from .render import SoftRenderer
from .tape import Tape

SOFT_PIXELS = 0.5  # sqrt(sigma) in pixels below which most edges pass between pixel centers
APART = 1e-3  # of the smaller silhouette, the overlap below which two are apart
SMALLEST = 1e-12  # of the loss, what an array as a whole can change it by and still count as having no gradient
LARGEST = 1e3  # likewise, what makes a gradient explode
OUTLIER = 1e2  # times most of the others, what one element does that explodes alone, if it also changes the loss by 1
# What a zero gradient of something that moves the object comes from.
EXPLAINS = {"hard-distance", "hard-rgb", "hard-alpha", "small-sigma", "no-overlap", "target-empty", "target-not-finite"}
CLOSE = 0.02  # of the median depth: vertices nearer than that are at the camera plane
FLAT = 1e-3  # height over longest side of a sliver


class Finding(NamedTuple):
    """One thing that is wrong."""

    code: str
    text: str


@dataclass
class Diagnosis:
    """What `diagnose` found: `messages`, most basic first, none where nothing is wrong."""

    messages: list[Finding] = field(default_factory=list)

    @property
    def codes(self) -> set[str]:
        """The codes of the findings."""
        return {finding.code for finding in self.messages}

    def __str__(self) -> str:
        return "\n".join(f"[{code}] {text}" for code, text in self.messages) or "nothing wrong found"


def diagnose(
    mesh: Mesh,
    camera: Camera,
    renderer: SoftRenderer,
    *,
    target: Array | np.ndarray | None = None,
    params: Mapping[str, Any] | Sequence[Any] | Any = None,
    tape: Tape | None = None,
) -> Diagnosis:
    """Say why gradients are zero, not finite, or far too large: `print(dr.diagnose(mesh, camera, renderer, ...))` after a tape.

    It draws the silhouettes once, outside of any tape, and computes the rest in NumPy: cheap enough for every 100th step.

        with dr.Tape(loss) as tape:
            dr.losses.mse(renderer(mesh, camera), target, loss)
        print(dr.diagnose(mesh, camera, renderer, target=target, params={"vertices": mesh.vertices}, tape=tape))

    Args:
        mesh, camera, renderer: what was drawn.
        target: image that the loss compares with, (B, H, W) of vec4 or of numbers, or (B, H, W, 4) or (B, H, W) in NumPy;
            its alpha, or the numbers, say where the object should be. A leading axis of 1 serves every view.
        params: arrays whose gradients are looked at: by name, in a list, or the optimizer that moves them, whose learning
            rate is looked at too. The mesh's vertices where left out.
        tape: of the last step; with it, arrays that took no part are known for sure, and the loss.

    Returns:
        A `Diagnosis`. Its codes:
        "vertices-not-finite", "values-not-finite": NaN or infinity in the mesh, the camera or another array.
        "camera-singular": an eye where `at` is, or an `up` along the view.
        "clipped": every face behind the camera, or beyond near or far. "outside-image": the whole object beside the image.
        "not-drawn": no face drawn for another reason.
        "target-not-finite", "target-empty", "no-overlap": the target, and silhouettes that are apart.
        "hard-distance", "hard-rgb", "hard-alpha": a mode that keeps gradients from where they are wanted.
        "small-sigma": edges narrower than half a pixel.
        "not-an-array": a number or a NumPy array where a gradient was wanted.
        "gradient-not-finite", "exploding", "learning-rate": which, where, and why.
        "unused", "zero-gradient": an array that took no part in the tape; a zero that nothing above explains.

    Raises:
        ValueError: something that is no mesh, camera, renderer or tape, batches or a target that do not match.
    """
    for name, x, kind in (("mesh", mesh, Mesh), ("camera", camera, Camera), ("renderer", renderer, SoftRenderer)):
        if not isinstance(x, kind):
            raise ValueError(f"{name}: expected a {kind.__name__}, got {type(x).__name__}; call dr.diagnose(mesh, camera, renderer, ...)")
    if tape is not None and not isinstance(tape, Tape):
        raise ValueError(f"tape: expected a dr.Tape, got {type(tape).__name__}; take it from: with dr.Tape(loss) as tape: ...")
    scene = _Scene(mesh, camera, renderer)
    given = _named(params, scene.arrays)
    arrays = {name: x for name, x in given.items() if _has_grad(x)}
    with np.errstate(all="ignore"):
        gradients = [_Gradient(name, x, scene) for name, x in arrays.items()]
        findings = [*_values(scene, arrays), *_camera(scene), *_unseen(scene), *_target(scene, target), *_not_arrays(given)]
        findings += [*_settings(scene, gradients), *(finding for g in gradients for finding in _size(scene, g)), *_learning_rates(scene, params)]
        findings += _zeros(scene, gradients, tape, {finding.code for finding in findings})
    return Diagnosis(findings)


# --- What is looked at --------------------------------------------------------------------------------------------


class _Scene:
    """The scene in NumPy, with its silhouettes."""

    def __init__(self, mesh: Mesh, camera: Camera, renderer: SoftRenderer) -> None:
        self.mesh, self.camera, self.renderer = mesh, camera, renderer
        self.views = batch_size(vertices=mesh.vertices.shape[0], camera=camera.batch)
        self.height, self.width = camera.size
        self.vertices, self.faces = read(mesh.vertices).astype(np.float64), read(mesh.faces)
        self.arrays = _scene_arrays(mesh, camera, renderer)
        with unrecorded():
            self.screen = read(project(mesh.vertices, camera)).astype(np.float64)
            self.alpha = read(renderer(mesh, camera))[..., 3].astype(np.float64)

    def corners(self, b: int) -> np.ndarray:
        """(F, 3, 3): the faces on the screen of view b."""
        return self.screen[b % len(self.screen)][self.faces]

    def middle(self, b: int) -> str:
        """The middle of the box around the finite vertices that view b sees."""
        points = self.vertices[b % len(self.vertices)]
        points = points[np.isfinite(points).all(axis=1)]
        return _point((points.min(axis=0) + points.max(axis=0)) / 2)

    @property
    def reach(self) -> float:
        """Distance from a face, on the screen, up to which it covers anything."""
        s = self.renderer.settings
        return 0.0 if s["distance"] == "hard" else math.sqrt(s["sigma"] * math.log(1 / s["dist_eps"] - 1))

    @property
    def pixel(self) -> float:
        """Between two samples, on the screen."""
        return 2 / (min(self.height, self.width) * self.renderer.antialias)


def _scene_arrays(mesh: Mesh, camera: Camera, renderer: SoftRenderer) -> dict[str, Array]:
    """The arrays with gradients that a picture of the scene depends on, by name."""
    named: dict[str, Any] = {f"mesh.{name}": getattr(mesh, name) for name in ("vertices", "colors", "texels", "uv", "texture")}
    named |= {f"camera.{name}": getattr(camera, name) for name in ("eye", "at", "up", "fov", "focal", "principal")}
    if camera.pose is not None:
        rotation = camera.pose.rotation
        named |= {"camera.pose.translation": camera.pose.translation}
        named |= (
            {f"camera.pose.rotation[{k}]": x for k, x in enumerate(rotation)} if isinstance(rotation, tuple) else {"camera.pose.rotation": rotation}
        )
    if camera.distortion is not None:
        named |= {f"camera.distortion.{name}": x for name, x in vars(camera.distortion).items()}
    named["renderer.background"] = renderer.background
    return {name: x for name, x in named.items() if isinstance(x, ti.Ndarray)}


def _named(params: Any, known: dict[str, Array]) -> dict[str, Any]:
    """Parameters by name; those without one get the name that they have in the scene, or their index."""
    if params is None:
        return {"mesh.vertices": known["mesh.vertices"]}
    if isinstance(params, Mapping):
        return {str(name): x for name, x in params.items()}
    if isinstance(params, ti.Ndarray):
        params = [params]
    if hasattr(params, "groups"):
        params = [x for group in params.groups for x in group["params"]]
    if isinstance(params, str) or not hasattr(params, "__iter__"):
        raise ValueError(f"params: expected arrays by name, a list of them, or an optimizer, got {type(params).__name__}")
    names = {id(x): name for name, x in known.items()}
    return {names.get(id(x), f"params[{k}]"): x for k, x in enumerate(params)}


def _has_grad(x: Any) -> bool:
    return isinstance(x, ti.Ndarray) and x.grad is not None


class _Gradient:
    """The gradient of an array, and what it means."""

    def __init__(self, name: str, x: Array, scene: _Scene) -> None:
        self.name, self.array = name, x
        self.values, self.grad = read(x).astype(np.float64), read(x.grad).astype(np.float64)
        self.place = next((place for place, y in scene.arrays.items() if y is x), None)
        self.is_finite = bool(np.isfinite(self.grad).all())
        self.lengths = np.linalg.norm(self.grad, axis=-1) if x.element_shape else np.abs(self.grad)
        self.scale = self._scale(scene)
        self.largest = float(self.lengths[np.isfinite(self.lengths)].max(initial=0.0))
        self.change = self.largest * self.scale  # of the loss, over the array's own size
        self.is_zero = self.is_finite and self.change <= SMALLEST

    @property
    def shapes(self) -> bool | None:
        """Whether it moves the object on the screen; None where nobody knows."""
        if self.place is None:
            return None
        return self.place == "mesh.vertices" or self.place.startswith("camera.")

    def _scale(self, scene: _Scene) -> float:
        """The size of what the array describes."""
        finite = np.where(np.isfinite(self.values), self.values, 0.0)
        offsets = self.place is None and finite.shape[1:] == scene.vertices.shape[1:]  # what vertices are made of, by the looks of it
        if self.place == "mesh.vertices" or offsets:
            points = scene.vertices[np.isfinite(scene.vertices).all(axis=-1)]
            size = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
        elif self.place in ("camera.eye", "camera.at", "camera.pose.translation"):
            depths = scene.screen[..., 2][np.isfinite(scene.screen[..., 2])]
            size = float(np.median(np.abs(depths))) if len(depths) else 0.0
        else:
            size = float(np.abs(finite).max())
        return size or 1.0


# --- Findings -----------------------------------------------------------------------------------------------------


def _views(which: np.ndarray) -> str:
    """In words, the views where a flag is set."""
    found = np.flatnonzero(which)
    if len(which) == 1:
        return "in the view"
    if len(found) == len(which):
        return f"in all {len(which)} views"
    listed = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    return f"in view{'s' * (len(found) > 1)} {listed} of {len(which)}"


def _point(x: np.ndarray) -> str:
    return "(" + ", ".join(f"{float(value):.3g}" for value in np.ravel(x)) + ")"


def _index(name: str, x: Array, index: tuple[int, ...], scene: _Scene) -> str:
    """An index of an array in words."""
    vertices, axes = scene.mesh.vertices.shape[1], len(index)
    place = next((place for place, y in scene.arrays.items() if y is x), name)
    words: tuple[str, ...]
    if axes == 0:
        return "its only entry"
    if place == "mesh.uv":
        words = ("view", "uv")
    elif place == "mesh.texture":
        words = ("view", "row", "column")
    elif place == "mesh.texels":
        words = ("face", "row", "column")
    elif axes in (2, 3) and x.shape[1] == vertices:
        words = ("view", "vertex", "channel")[:axes]
    elif axes == 1 and x.shape[0] in (1, scene.views):
        words = ("view",)
    else:
        return f"index {index[0] if axes == 1 else tuple(map(int, index))}"
    shared = words[0] == "view" and x.shape[0] == 1 and scene.views > 1
    return ", ".join(f"{word} {k}" for word, k in zip(words, index, strict=True)) + (" (one for all views)" if shared else "")


def _first_bad(values: np.ndarray, x: Array) -> tuple[tuple[int, ...], int] | None:
    """Index of the first element that is not finite, and how many there are."""
    good = np.isfinite(values)
    good = good.all(axis=-1) if x.element_shape else good
    if good.all():
        return None
    return tuple(np.argwhere(~good)[0].tolist()) if good.ndim else (), int((~good).sum())


def _values(scene: _Scene, arrays: dict[str, Array]) -> Iterator[Finding]:
    """NaN and infinity in what is given."""
    known = {id(x): name for name, x in scene.arrays.items()}
    everything = scene.arrays | {name: x for name, x in arrays.items() if id(x) not in known}
    for name, x in everything.items():
        values = read(x)
        bad = _first_bad(values, x)
        if bad is None:
            continue
        index, count = bad
        came = f"{name}: the first that is not finite is at {_index(name, x, index, scene)}, {_point(values[index])}; {count} of {math.prod(x.shape)}"
        if name == "mesh.vertices":
            fix = "look at what wrote it, poses or offsets, a file, or too large a step"
            yield Finding("vertices-not-finite", f"{came}; the faces there are left out and get no gradient: {fix}")
        else:
            yield Finding("values-not-finite", f"{came}; start it from finite numbers, and look at what wrote it")


def _camera(scene: _Scene) -> Iterator[Finding]:
    """Views that have no direction, or no up."""
    camera = scene.camera
    if camera.pose is not None:
        return
    eye, at, up = (np.atleast_2d(read(x).astype(np.float64)) for x in (camera.eye, camera.at, camera.up))
    forward = at - eye
    distance, length = np.linalg.norm(forward, axis=-1), np.linalg.norm(up, axis=-1)
    across = np.linalg.norm(np.cross(forward, up), axis=-1)
    shape = (camera.batch,)
    lost, rolled = np.broadcast_to(distance == 0, shape), np.broadcast_to(~(across > PARALLEL * distance * length), shape)
    finite = np.broadcast_to(np.isfinite(distance) & np.isfinite(across), shape)
    if lost.any():
        b = int(np.flatnonzero(lost)[0])
        yield Finding("camera-singular", f"the eye is where `at` is, {_point(eye[b % len(eye)])}, {_views(lost)}: it looks nowhere; move one of them")
    elif (rolled & finite).any():
        b = int(np.flatnonzero(rolled & finite)[0])
        came = f"up = {_point(up[b % len(up)])} is along the view {_point(forward[b % len(forward)])}, {_views(rolled & finite)}"
        yield Finding("camera-singular", f"{came}: the roll is arbitrary and has no gradient; give another up, or a camera with a Pose")


def _unseen(scene: _Scene) -> list[Finding]:
    """Views that show nothing, and why."""
    by_view = [_why_unseen(scene, b) for b in range(scene.views)]
    findings = []
    for code in ("clipped", "outside-image", "not-drawn"):
        which = np.array([reason is not None and reason[0] == code for reason in by_view])
        if which.any():
            text = by_view[int(np.flatnonzero(which)[0])][1]  # type: ignore[index]
            first = "" if which.sum() == 1 else f"; these are the numbers of view {np.flatnonzero(which)[0]}"
            findings.append(Finding(code, text.replace("{views}", _views(which)) + first))
    return findings


def _why_unseen(scene: _Scene, b: int) -> tuple[str, str] | None:
    """Code and text, where view b shows nothing of the mesh."""
    corners, settings = scene.corners(b), scene.renderer.settings
    near, far = settings["near"], settings["far"]
    corners = corners[np.isfinite(corners).all(axis=(1, 2))]
    if not len(corners):
        return None if not np.isfinite(scene.screen[b % len(scene.screen)]).all() else ("not-drawn", "no face {views}")
    nearest, farthest = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
    behind, short, beyond = farthest <= MIN_DEPTH, (farthest > MIN_DEPTH) & (farthest < near), nearest > far
    depths = f"depths {nearest.min():.3g} to {farthest.max():.3g}"
    middle = scene.middle(b)
    if (behind | short | beyond).all():
        if behind.all():
            return "clipped", f"every face is behind the camera {{views}}, at {depths}; turn it round, as with at={middle}, or move the eye"
        if not beyond.any():
            rest = f", {int(behind.sum())} of {len(corners)} behind the camera" if behind.any() else ""
            least = 0.5 * corners[..., 2][corners[..., 2] > MIN_DEPTH].min()
            return "clipped", f"every face is nearer than near = {near:g} {{views}}, at {depths}{rest}; use near={least:.2g}, or move the eye back"
        if beyond.all():
            fix = f"use far={2 * farthest.max():.2g}, or come nearer"
            return "clipped", f"every face is farther than far = {far:g} {{views}}, at {depths}, and so without color; {fix}"
        counts = f"{behind.sum()} behind the camera, {short.sum()} nearer than near = {near:g}, {beyond.sum()} farther than far = {far:g}"
        return "clipped", f"every face is clipped {{views}}, at {depths}: {counts}; move the eye, or set near and far around the depths"
    if scene.alpha[b].any():
        return None
    half = np.array([scene.width, scene.height]) / min(scene.width, scene.height)
    placed = corners[nearest > MIN_DEPTH]
    low, high = placed[..., :2].min(axis=1) - scene.reach, placed[..., :2].max(axis=1) + scene.reach
    if len(placed) and ((low > half) | (high < -half)).any(axis=1).all():
        span = placed[..., :2].reshape(-1, 2)
        (left, bottom), (right, top) = span.min(axis=0), span.max(axis=0)
        where = (
            f"x {left:.3g} to {right:.3g} and y {bottom:.3g} to {top:.3g} on the screen, where the image spans +-{half[0]:.3g} and +-{half[1]:.3g}"
        )
        return (
            "outside-image",
            f"the mesh is outside of the image {{views}}, at {where}; its middle is {middle}: look there with `at`, or widen the fov",
        )
    crossing = int((nearest <= MIN_DEPTH).sum())
    counts = f"of {len(corners)} faces {crossing} reach behind the camera, {int((_areas(placed)[0] <= MIN_AREA).sum())} have no area on the screen"
    hint = f', and cull = "{settings["cull"]}" leaves out one side' if settings["cull"] else ""
    return "not-drawn", f"no face is drawn {{views}}: {counts}{hint}; is the camera inside of the mesh, or the mesh too small for a pixel?"


def _areas(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twice the areas of faces on the screen, and the squares of their longest sides."""
    sides = (np.roll(corners, -1, axis=1) - corners)[..., :2]
    return np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]), (sides**2).sum(axis=-1).max(axis=1)


def _target(scene: _Scene, target: Any) -> Iterator[Finding]:
    """The target, and where the silhouettes are."""
    if target is None:
        return
    values = read(target) if isinstance(target, ti.Ndarray) else np.asarray(target)
    size = (scene.height, scene.width)
    if values.ndim not in (3, 4) or values.shape[1:3] != size or len(values) not in (1, scene.views):
        expected = f"({scene.views}, {size[0]}, {size[1]}) of vec4 or numbers"
        raise ValueError(f"target: expected {expected}, got shape {values.shape}; give the image that the loss compares with")
    good = np.isfinite(values) if values.ndim == 3 else np.isfinite(values).all(axis=-1)
    if not good.all():
        b, i, j = np.argwhere(~good)[0].tolist()
        came = f"the first pixel that is not finite is at view {b}, row {i}, column {j}; {int((~good).sum())} in all"
        yield Finding("target-not-finite", f"target: {came}; they make the loss so, and get no gradient: set them to the background")
    if values.ndim == 4 and values.shape[-1] != 4:
        return  # colors alone do not say where the object is
    goal = np.where(good, values[..., 3] if values.ndim == 4 else values, 0.0).astype(np.float64)
    wanted, drawn = goal.sum(axis=(1, 2)), scene.alpha.sum(axis=(1, 2))
    if not wanted.any():
        yield Finding("target-empty", "target: its alpha is 0 everywhere: nothing tells where the object should be; is the alpha the last component?")
        return
    common = np.minimum(goal, scene.alpha).sum(axis=(1, 2))
    apart = (wanted > 0) & (drawn > 0) & (common < APART * np.minimum(wanted, drawn))
    if apart.any():
        b = int(np.flatnonzero(apart)[0])
        ours, theirs = _centroid(scene.alpha[b]), _centroid(goal[b % len(goal)])
        distance = math.dist(ours, theirs)
        came = "the object, around row {:.0f}, column {:.0f}, does not overlap the target, around row {:.0f}, column {:.0f}".format(*ours, *theirs)
        sigma = (0.5 * distance * 2 / min(size)) ** 2
        what = "mse then only makes it vanish where it is, and silhouette_iou has no gradient"
        fix = f"start nearer, or from coarse to fine: sigma={sigma:.1g} first, then less, or silhouette_iou against a target drawn or blurred as wide"
        yield Finding("no-overlap", f"{came}, {_views(apart)} (numbers of view {b}): {what}; {fix}")


def _centroid(weights: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(weights.shape)
    total = weights.sum()
    return float((rows * weights).sum() / total), float((columns * weights).sum() / total)


def _not_arrays(given: dict[str, Any]) -> Iterator[Finding]:
    for name, x in given.items():
        if _has_grad(x):
            continue
        came = f"an array of {x.dtype} without a gradient" if isinstance(x, ti.Ndarray) else f"{type(x).__name__}"
        fix = "give the array that the light, camera or mesh made of it, such as light.intensity, or make one with dr.array and give it to both"
        if hasattr(x, "__dict__") and any(_has_grad(y) for y in vars(x).values()):
            fix = "give its fields, " + ", ".join(f"{name}.{field}" for field, y in vars(x).items() if _has_grad(y))
        yield Finding("not-an-array", f"{name}: expected a Taichi array with a gradient, got {came}, which has none; {fix}")


def _settings(scene: _Scene, gradients: list[_Gradient]) -> Iterator[Finding]:
    """Settings that keep gradients from geometry."""
    settings, shaping = scene.renderer.settings, [g for g in gradients if g.shapes]
    zeros = [g for g in gradients if g.is_zero and g.shapes is not False and scene.alpha.any()]
    if settings["distance"] == "hard" and (shaping or zeros):
        what = (
            "coverage is a step, so edges have no gradient, neither in alpha nor in color; what is left comes through interpolated colors and depth"
        )
        yield Finding("hard-distance", f'distance="hard": {what}; use distance="euclidean"')
    if settings["rgb"] == "hard" and zeros:
        what = "a pixel shows the nearest face alone, so colors have no gradient through edges and depth, only through interpolation within a face"
        yield Finding("hard-rgb", f'rgb="hard": {what}; use rgb="softmax"')
    if settings["alpha"] == "hard" and zeros:
        what = "alpha is a step, so a loss of silhouettes, such as silhouette_iou, has no gradient at all"
        yield Finding("hard-alpha", f'alpha="hard": {what}; use alpha="prod"')
    width = math.sqrt(settings["sigma"])
    if width < SOFT_PIXELS * scene.pixel and settings["distance"] == "euclidean" and (shaping or zeros):
        antialias = scene.renderer.antialias
        of = f"of {min(scene.height, scene.width)} along the shorter side" + (f", with antialias={antialias}" if antialias > 1 else "")
        came = f"sqrt(sigma) = {width:.2g} on the screen is {width / scene.pixel:.2g} pixels ({scene.pixel:.2g} {of})"
        yield Finding("small-sigma", f"{came}: most edges pass between pixel centers and have no gradient; use sigma={scene.pixel**2:.1e}, one pixel")


def _size(scene: _Scene, g: _Gradient) -> Iterator[Finding]:
    """Gradients that are not finite or far too large."""
    bad = _first_bad(g.grad, g.array)
    if bad is not None:
        index, count = bad
        came = (
            f"{g.name}: the first gradient that is not finite is at {_index(g.name, g.array, index, scene)}, {_point(g.grad[index])}; {count} in all"
        )
        cause = "dr.optim leaves those elements where they are"
        yield Finding("gradient-not-finite", f"{came}; {cause}. Look for NaN in colors, attributes and weights, or a loss beyond float32")
        return
    others = g.lengths[g.lengths > 0]
    most = float(np.quantile(others, 0.9)) if others.size > 8 else math.inf
    is_outlier = g.largest > OUTLIER * most and g.change > 1.0
    if g.change <= LARGEST and not is_outlier:
        return
    index = tuple(np.argwhere(g.lengths == g.largest)[0].tolist()) if g.lengths.ndim else ()
    where = f"{g.name}: its largest gradient, {g.largest:.2g} at {_index(g.name, g.array, index, scene)},"
    size = f"is {g.largest / most:.1g} times most of the others" if is_outlier else f"is large for an array of size {g.scale:.2g}"
    cause = _local_cause(scene, g, index)
    if cause is None and is_outlier:
        cause = "use dr.optim.Adam, whose steps do not grow with the gradient, or a larger sigma"
    elif cause is None:
        cause = f"divide the weights of the losses by {g.change:.0g}, or the learning rate, or use dr.optim.Adam, whose steps do not grow with them"
    yield Finding("exploding", f"{where} {size}: 1% of the array's size there changes the loss by {0.01 * g.change:.2g}; {cause}")


def _local_cause(scene: _Scene, g: _Gradient, index: tuple[int, ...]) -> str | None:
    """What is wrong around the vertex with the largest gradient."""
    if len(index) != 2 or g.array.shape[1] != scene.vertices.shape[1]:
        return None
    around = np.flatnonzero((scene.faces == index[1]).any(axis=1))
    for b in range(scene.views):
        corners, depths = scene.corners(b)[around], scene.screen[b % len(scene.screen)][:, 2]
        kept = np.isfinite(corners).all(axis=(1, 2)) & (corners[..., 2] > MIN_DEPTH).all(axis=1)
        corners, names = corners[kept], around[kept]
        if not len(corners):
            continue
        if corners[..., 2].min() < CLOSE * np.median(depths[depths > MIN_DEPTH]):
            depth = f"depth {corners[..., 2].min():.2g} in view {b}"
            return f"it is next to the camera plane, {depth}, where the screen moves as 1 / depth: move the eye back, or raise near"
        area, square = _areas(corners)
        if (area < FLAT * square).any():
            face = f"face {names[(area / square).argmin()]} there is a sliver in view {b}"
            return f"{face}, and a loss such as flatten grows as 1 / its height: lower its weight, even out with edge_length, or remesh"
    return None


def _learning_rates(scene: _Scene, optimizer: Any) -> Iterator[Finding]:
    """Steps that turn faces over."""
    for group in getattr(optimizer, "groups", ()):
        for x in group["params"]:
            if x is not scene.mesh.vertices:
                continue
            ends = scene.vertices[0][np.concatenate([scene.faces[:, [0, 1]], scene.faces[:, [1, 2]], scene.faces[:, [2, 0]]])]
            lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1)
            edge = float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else math.inf
            largest = float(np.nanmax(np.abs(np.nan_to_num(read(x.grad), posinf=0, neginf=0)), initial=0.0))
            step = group["lr"] * (largest if isinstance(optimizer, SGD) else 1.0)
            if step > edge:
                came = f"lr = {group['lr']:g} moves vertices by up to {step:.2g} in a step, and edges are {edge:.2g} long: faces turn over"
                yield Finding("learning-rate", f"{came}; use lr={0.1 * edge * group['lr'] / step:.1g}")


def _zeros(scene: _Scene, gradients: list[_Gradient], tape: Tape | None, known: set[str]) -> Iterator[Finding]:
    """Gradients that are zero for no reason found so far."""
    if _loss(tape) == 0.0:
        return  # nothing is left to do
    used = None if tape is None else {id(x) for x in tape._arrays()}
    seen = scene.alpha.any()
    for g in gradients:
        if not g.is_zero:
            continue
        if used is not None and id(g.array) not in used:
            yield Finding("unused", f"{g.name}: it took no part in the tape, so its gradient is zero; {_twin(scene, g)}")
        elif used is None and g.place is None and any(not other.is_zero for other in gradients):
            yield Finding(
                "unused", f"{g.name}: its gradient is zero and others are not: it took no part in the tape, or is not seen; {_twin(scene, g)}"
            )
        elif used is None and g.place == "mesh.uv" and scene.mesh.texture is None:
            yield Finding("unused", f"{g.name}: the mesh has no texture, so its uv are not used; give dr.Mesh(..., texture=...)")
        elif seen and not (known & EXPLAINS and g.shapes is not False):
            cause = "was the loss computed inside of the tape, with these mesh and camera, and not 0 already, and does it depend on this array?"
            yield Finding("zero-gradient", f"{g.name}: its gradient is zero everywhere, though the object is in view; {cause}")


def _twin(scene: _Scene, g: _Gradient) -> str:
    """What to do about an array that nobody read."""
    for name, x in scene.arrays.items():
        if x.shape == g.array.shape and x.element_shape == g.array.element_shape:
            return f"{name} is another array of that shape: give the array itself to dr.Mesh or the camera, which copy NumPy arrays"
    return "compute what depends on it inside of the tape; NumPy and dr.read cut the way back"


def _loss(tape: Tape | None) -> float | None:
    return None if tape is None or not isinstance(tape.loss, ti.Ndarray) else float(read(tape.loss).reshape(-1)[0])
