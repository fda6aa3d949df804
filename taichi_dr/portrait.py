"""A face from one picture: shape, colors, pose and light of a morphable model.

A face from the front is where a fit begins and where it likes to stay: the colors would rather paint a turned head on a straight
one. So it begins with many poses in a small picture, whose colors and lights are fitted; the best few of them go on with their
shape in a larger one, and the best of these in the whole. With `plain` one face starts from the front, and all of it is fitted
to the whole picture from the first step, with two optimizers: coefficients and lights, and the camera.

It works with light, so pictures are taken to the power of 2.2, and back to be looked at.
"""

import os
import pathlib
import time
from collections import namedtuple
from collections.abc import Sequence
from itertools import product
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image

from . import losses, optim, pictures
from .arrays import array, read, scalar, write
from .camera import Camera, project
from .deferred import DeferredRenderer
from .lights import AmbientLight, DirectionalLight
from .morphable import MorphableModel
from .portrait_diary import GAMMA, Diary
from .pose import Pose, so3_exp, so3_log, transform
from .tape import Tape

YAWS, PITCHES, ROLLS = (-40, -20, 0, 20, 40), (-10, 10), (-10, 10)  # degrees, of the poses to begin with
Stage = namedtuple("Stage", "faces shrink antialias share rate turn shift")
STAGES = (  # faces that enter, picture's and supersampled size, share of the steps, rates of coefficients and of pose (radians, distances)
    Stage(faces=20, shrink=4, antialias=1, share=0.16, rate=0.1, turn=0.03, shift=0.003),
    Stage(faces=4, shrink=2, antialias=1, share=0.2, rate=0.1, turn=0.02, shift=0.003),
    Stage(faces=1, shrink=1, antialias=2, share=0.64, rate=0.05, turn=0.01, shift=0.003),
)
Settings = namedtuple("Settings", "eye at fov shape_weight color_weight landmarks landmark_weight doubt edges reach")  # how far the eye is
DOUBT = 0.01  # how much of the priors is left in the end where the picture is of the model itself, without noise
Picture = namedtuple("Picture", "colors mask")  # (H, W, 3) of light, (H, W) or None


class Faces:
    """What is sought, of B faces at once: coefficients, poses, lights, and the camera; arrays with gradients."""

    def __init__(self, model, values):
        self.model = model
        self.shape, self.expression, self.color = (
            None if modes is None else array(values[name], vectors=False)
            for name, modes in (("shape", model.shape), ("expression", model.expression), ("color", model.color))
        )
        self.pose = Pose(values["rotation"], values["translation"])
        self.ambient = AmbientLight(values["ambient"])
        self.sun = DirectionalLight(values["direction"], values["sun"])
        self.eye, self.at = array(values["eye"]), array(values["at"])

    @staticmethod
    def at_rest(model, rotations, settings):
        """Mean faces, turned, in a soft light from the upper left."""
        count = len(rotations)
        values = {
            name: np.zeros((count, modes.count))
            for name, modes in (("shape", model.shape), ("expression", model.expression), ("color", model.color))
            if modes is not None
        }
        rows = {
            "translation": (0, 0, 0), "ambient": (0.3,) * 3, "direction": (-0.4, 0.4, 1.0), "sun": (1.5,) * 3,
            "eye": settings.eye, "at": settings.at,
        }  # fmt: skip
        return Faces(model, values | {name: np.tile(np.float64(x), (count, 1)) for name, x in rows.items()} | {"rotation": rotations})

    def values(self, which=slice(None)):
        """As NumPy, of some of the faces."""
        arrays = {
            "shape": self.shape, "expression": self.expression, "color": self.color, "rotation": self.pose.rotation,
            "translation": self.pose.translation, "ambient": self.ambient.intensity, "direction": self.sun.direction, "sun": self.sun.intensity,
            "eye": self.eye, "at": self.at,
        }  # fmt: skip
        return {name: read(x)[which] for name, x in arrays.items() if x is not None}

    def mesh(self):
        """As the eye sees them, turned and moved."""
        mesh = self.model.mesh(self.shape, self.expression, self.color)
        return mesh.with_vertices(transform(mesh.vertices, self.pose))

    @property
    def form(self):
        return [x for x in (self.shape, self.expression) if x is not None]

    @property
    def coefficients(self):
        return [*self.form, *([] if self.color is None else [self.color])]

    @property
    def lights(self):
        return [self.ambient, self.sun]

    def keep_light_positive(self):
        for light in self.lights:
            write(light.intensity, read(light.intensity).clip(0))


class Problem:
    """What the faces are compared with: the picture in one size, and how they are drawn and judged there."""

    def __init__(self, faces, picture, settings, shrink=1, antialias=2):
        self.settings, self.picture, self.count = settings, shrunk(picture, shrink), faces.pose.batch
        self.camera = Camera.look_at(faces.eye, faces.at, fov=settings.fov, size=self.picture.colors.shape[:2])
        self.draw = renderer(settings, antialias)
        self.target = array(self.picture.colors[None])
        self.mask = None if self.picture.mask is None else array(self.picture.mask[None], vectors=False)
        self.marks = landmark_targets(settings.landmarks, faces.model.mean.shape[1], picture.colors.shape[:2])
        self.loss = scalar()

    def gradients(self, faces):
        """Of the sum over the faces of mse, priors and landmarks; returns the pictures."""
        settings, loss, count = self.settings, self.loss, float(self.count)
        with Tape(loss):
            mesh = faces.mesh()
            image = self.draw(mesh, self.camera, faces.lights)
            losses.mse(image, self.target, loss, count, mask=self.mask)
            for x in faces.form:
                losses.mean_square(x, loss, settings.shape_weight * count)
            if faces.color is not None:
                losses.mean_square(faces.color, loss, settings.color_weight * count)
            if self.marks is not None:
                places, mask = self.marks
                losses.mse(project(mesh.vertices, self.camera), places, loss, settings.landmark_weight * count, mask=mask)
        return read(image)[..., :3]

    def prior(self, faces):
        """Of each face."""
        weighed = [(x, self.settings.shape_weight) for x in faces.form]
        weighed += [] if faces.color is None else [(faces.color, self.settings.color_weight)]
        return sum(weight * (read(x) ** 2).mean(axis=1) for x, weight in weighed)


def renderer(settings, antialias=2):
    return DeferredRenderer(
        antialias=antialias, edges=settings.edges, lambert="physical", near=0.01 * settings.reach, far=10 * settings.reach
    ).quiet()  # fmt: skip


def draw(faces, settings, size, eye=None):
    """The picture of one face, from where the fit looks at it or from another eye."""
    values = faces.values()
    camera = Camera.look_at(values["eye"] if eye is None else eye, values["at"], fov=settings.fov, size=size)
    return read(renderer(settings)(faces.mesh(), camera, faces.lights))[0, ..., :3]


def start_poses():
    """Rotation vectors of heads that turn, nod and tilt."""

    def rotations(axis, angles):
        return [so3_exp(np.radians(angle) * np.eye(3)[axis]) for angle in angles]

    return np.stack([so3_log(tilt @ turn @ nod) for turn, nod, tilt in product(rotations(1, YAWS), rotations(0, PITCHES), rotations(2, ROLLS))])


def shrunk(picture, factor):
    """The mean over squares of factor x factor pixels; the border that does not fill one is left out."""
    height, width = (n // factor * factor for n in picture.colors.shape[:2])

    def mean(x):
        return x[:height, :width].reshape(height // factor, factor, width // factor, factor, -1).mean(axis=(1, 3))

    return Picture(mean(picture.colors), None if picture.mask is None else mean(picture.mask)[..., 0])


def landmark_targets(rows, vertices, whole):
    """Places of the vertices on the screen, and a mask that is 1 at those that have one, over their mean."""
    if rows is None:
        return None
    places, mask = np.zeros((1, vertices, 2)), np.zeros((1, vertices))
    height, width = whole
    for vertex, x, y in rows:
        places[0, int(vertex)] = (2 * x - width) / min(whole), (height - 2 * y) / min(whole)
        mask[0, int(vertex)] = vertices / len(rows)
    return array(places), array(mask)


def refine(faces, picture, stage, settings, steps, watch):
    """Adam on all faces at once, rates falling to a tenth; and how far each stays off, with its priors."""
    problem = Problem(faces, picture, settings, stage.shrink, stage.antialias)
    groups = [
        (faces.coefficients, stage.rate), ([x.intensity for x in faces.lights] + [faces.sun.direction], 0.05),
        ([faces.pose.rotation], stage.turn), ([faces.pose.translation], stage.shift * settings.reach),
    ]  # fmt: skip
    adam, off = optim.Adam([{"params": params, "lr": rate} for params, rate in groups]), np.zeros(problem.count)
    for step in range(steps):
        for group, (_, rate) in zip(adam.groups, groups, strict=True):
            group["lr"] = rate * 0.1 ** (step / steps) * min(1, (step + 1) / 10)  # what Adam does at first it does blindly
        images = problem.gradients(faces)
        adam.step()
        faces.keep_light_positive()
        off = errors(images, problem.picture)
        best = int(off.argmin())
        watch(faces, best, off[best], images[best], stage.shrink)
    return off + problem.prior(faces)


def errors(images, picture):
    """Mean squared difference of each picture, where the mask counts."""
    off = (images - picture.colors) ** 2
    return (off if picture.mask is None else off * picture.mask[..., None]).mean(axis=(1, 2, 3))


def fit(model, picture, settings, steps, watch):
    """From many poses in a small picture to one face in the whole; `watch` is told of every step."""
    faces, off = Faces.at_rest(model, start_poses(), settings), np.zeros(STAGES[0].faces)
    for stage in STAGES:
        faces = Faces(model, faces.values(np.argsort(off)[: stage.faces]))
        if stage is STAGES[-1]:
            settings = settings._replace(shape_weight=settings.doubt * settings.shape_weight, color_weight=settings.doubt * settings.color_weight)
        off = refine(faces, picture, stage, settings, max(1, round(stage.share * steps)), watch)
    return faces


def fit_plainly(model, picture, settings, steps, watch):
    """One face from the front, everything at once: coefficients and lights with one Adam, the camera with another."""
    faces = Faces.at_rest(model, np.zeros((1, 3)), settings)
    problem = Problem(faces, picture, settings)
    inner = optim.Adam([*faces.coefficients, *(x.intensity for x in faces.lights), faces.sun.direction], lr=0.1)
    outer = optim.Adam([faces.eye, faces.at], lr=0.5 * settings.reach / 319)  # half a millimeter of a face in millimeters
    for _ in range(steps):
        (image,) = problem.gradients(faces)
        inner.step()
        outer.step()
        faces.keep_light_positive()
        watch(faces, 0, errors(image[None], picture)[0], image, 1)
    return faces


# --- What goes in -------------------------------------------------------------------------------------------------


def read_picture(path, size, masked=False, told=True):
    """Pixels in [0, 1] of a picture file, or of an array in .npy, its shorter side `size` pixels long."""
    try:
        values = np.load(path, allow_pickle=False) if str(path).endswith(".npy") else iio.imread(path, plugin="pillow")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError) as error:  # of readers of all kinds of files
        raise ValueError(f"{path}: expected a picture, or an array in .npy, got a file that cannot be read as one; give a PNG or JPEG") from error
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise ValueError(f"{path}: expected one picture, (H, W), (H, W, 3) or (H, W, 4), got shape {values.shape}")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0][:2]
            raise ValueError(f"{path}: expected finite numbers, got {values[row, column]} in row {row}, column {column}; mend these pixels")
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(values if values.dtype == np.uint8 else (values // 257).astype(np.uint8)).convert("L" if masked else "RGBA")
    scale = size / min(picture.size)
    wanted = tuple(round(scale * n) for n in picture.size)
    if wanted != picture.size:
        if told:
            print(f"{path}: {picture.size[0]} x {picture.size[1]} pixels, resampled to {wanted[0]} x {wanted[1]}")
        picture = picture.resize(wanted, Image.Resampling.LANCZOS)
    return np.asarray(picture) / 255.0


def read_target(path, mask, size, told=True):
    rgba = read_picture(path, size, told=told)
    share = read_picture(mask, size, masked=True, told=told) if mask else None
    if (rgba[..., 3] < 1).any():
        share = rgba[..., 3] * (1.0 if share is None else share)
    if share is not None and share.shape != rgba.shape[:2]:
        raise ValueError(f"mask: expected the proportions of the target, {rgba.shape[1]} x {rgba.shape[0]}, got {share.shape[1]} x {share.shape[0]}")
    return Picture(rgba[..., :3] ** GAMMA, share)


def read_landmarks(path, vertices):
    """Rows of (vertex, x, y), pixels of the target from its upper left corner."""
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: expected lines of vertex,x,y, three numbers, got another file ({error})") from error
    if rows.shape[1] != 3 or not np.isfinite(rows).all() or (rows[:, 0] != np.rint(rows[:, 0])).any():
        raise ValueError(f"{path}: expected lines of vertex,x,y, got shape {rows.shape}; number the model's vertices from 0")
    if not ((rows[:, 0] >= 0) & (rows[:, 0] < vertices)).all():
        raise ValueError(f"{path}: expected vertices from 0 to {vertices - 1}, got {rows[:, 0].min():.0f} to {rows[:, 0].max():.0f}")
    return rows


def hidden_face(model, settings, size, seed):
    """Coefficients, turn and light by chance, and their picture."""
    random = np.random.default_rng(seed)
    faces = Faces.at_rest(model, np.radians(random.uniform((-8, -20, -8), (8, 20, 8)))[None], settings)
    for x, deviation in ((faces.shape, 1.0), (faces.expression, 0.5), (faces.color, 0.5)):
        if x is not None:
            write(x, deviation * random.normal(0, 1, x.shape).clip(-2, 2))
    write(faces.sun.direction, [[random.choice((-0.6, 0.6)), 0.4, 1.0]])
    write(faces.sun.intensity, [[1.8, 1.6, 1.4]])
    return faces, Picture(draw(faces, settings, size).astype(np.float64), None)


# --- What comes out -----------------------------------------------------------------------------------------------


def turned(faces, settings, size):
    """The face from three sides, upright."""
    values = faces.values()
    eye, at = values["eye"][0].astype(float), values["at"][0].astype(float)
    spins = so3_exp(np.radians([[0, -40, 0], [0, 0, 0], [0, 40, 0]]))
    return np.concatenate([draw(faces, settings, size, at + spin @ (eye - at)) for spin in spins], axis=1)


def fit_portrait(
    model: str | os.PathLike | None = None,
    target: str | os.PathLike | None = None,
    mask: str | os.PathLike | None = None,
    landmarks: str | os.PathLike | None = None,
    *,
    steps: int = 500,
    size: int = 256,
    eye: Sequence[float] | None = None,
    at: Sequence[float] | None = None,
    fov: float = 45.0,
    shape_weight: float = 1e-4,
    color_weight: float = 1e-3,
    landmark_weight: float = 0.1,
    edges: str | None = None,
    plain: bool = False,
    seed: int = 0,
    out: str | os.PathLike = "out/fit_face",
    progress: bool = True,
) -> dict[str, Any]:
    """Fit a face to a picture, and leave files: fit.html, fit.gif, fit_face.png, turned.png, face.ply and state.npz.

    Ctrl-C ends it, and what is found so far is kept.

    Args:
        model: file of `MorphableModel.load`; a synthetic head where left out.
        target: picture, or (H, W), (H, W, 3) or (H, W, 4) numbers in .npy; a random face of the model where left out.
        mask: picture that is white where the target counts.
        landmarks: text file of lines vertex,x,y: where vertices are in the target, in its pixels.
        steps: how many.
        size: pixels of the shorter side.
        eye, at: place of the camera and what it looks at, in units of the model; before its middle where left out.
        fov: degrees.
        shape_weight, color_weight: of the mean squared coefficients.
        landmark_weight: of the mean squared distance of landmarks.
        edges: "antialias" or "microedge", how silhouettes move; left out: microedge, with a target antialias.
        plain: one face from the front, the camera moves, everything at once.
        seed: of the random face.
        out: folder for the files; made where it is missing.
        progress: show a bar, and say what is read and found.

    Returns:
        Numbers by name: "mse", "seconds" of a step, and of a random face how far what was found is off: "distance", "degrees"; "stopped".

    Raises:
        ValueError: files that do not fit each other, or are no pictures.
        OSError: a file that is not there; a folder that cannot be written.
    """
    started = time.perf_counter()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)

    model = MorphableModel.load(model) if model else MorphableModel.synthetic()
    mean = read(model.mean)[0]
    middle, height = (mean.min(axis=0) + mean.max(axis=0)) / 2, np.ptp(mean[:, 1])
    write(model.mean, mean[None] - middle)  # heads turn around their middle
    at = np.subtract(middle if at is None else at, middle)
    eye = at + (0, 0, 1.7 * height) if eye is None else np.subtract(eye, middle)
    rows = read_landmarks(landmarks, len(mean)) if landmarks else None
    # Micro-edges also move what passes through a surface, as eyes do through lids; but where the model's eyes are white and those of a
    # portrait dark, that closes them.
    doubt, known_edges = (1.0, "antialias") if target else (DOUBT, "microedge")
    reach = np.linalg.norm(eye - at)
    settings = Settings(eye, at, fov, shape_weight, color_weight, rows, landmark_weight, doubt, edges or known_edges, reach)
    true, picture = (None, read_target(target, mask, size, progress)) if target else hidden_face(model, settings, size, seed)

    diary = Diary(folder, picture, steps, progress=progress)
    begun, stopped = time.perf_counter(), False
    try:
        faces = (fit_plainly if plain else fit)(model, picture, settings, steps, diary)
    except KeyboardInterrupt:
        if diary.faces is None:
            raise
        stopped, faces = True, Faces(model, diary.faces.values(slice(diary.best, diary.best + 1)))
    seconds = (time.perf_counter() - begun) / len(diary.losses)

    image = draw(faces, settings, picture.colors.shape[:2])
    diary.faces, diary.best = faces, 0
    diary.save_state()
    face = model.mesh(faces.shape, faces.expression, faces.color)
    face.with_vertices(array(read(face.vertices) + middle)).save(folder / "face.ply")
    diary.show(image, 1)
    diary.finish()
    beside = np.concatenate([picture.colors, image], axis=1)
    pictures.save(folder / "fit_face.png", beside.clip(0, 1) ** (1 / GAMMA))
    pictures.save(folder / "turned.png", turned(faces, settings, len(image)).clip(0, 1) ** (1 / GAMMA))
    mse = float(errors(image[None], picture)[0])
    result = {"mse": mse, "seconds": seconds}
    text = f"mse {mse:.6f}, {1e3 * seconds:.0f} ms per step"
    if true is not None:
        found, wanted = (read(model.vertices(x.shape, x.expression))[0] for x in (faces, true))
        result["distance"] = float(np.linalg.norm(found - wanted, axis=1).mean())
        turns = [x.pose.matrix()[0, :3, :3] for x in (faces, true)]
        result["degrees"] = float(np.degrees(np.linalg.norm(so3_log(turns[0].T @ turns[1]))))
        text += f"; vertices {result['distance']:.3g} off on average ({100 * result['distance'] / height:.2f}% of the height)"
        text += f", turned {result['degrees']:.1f} degrees off"
    result["stopped"] = stopped
    if stopped:
        text = f"stopped after {len(diary.losses)} steps; what is found so far is kept: {text}"
    if progress:
        print(f"{text}; {time.perf_counter() - started:.0f} s; see {folder}/fit.html, fit.gif, fit_face.png, turned.png, face.ply and state.npz")
    return result
