"""A face from one picture: shape, colors, pose and light of a morphable model. Run: python examples/fit_face.py

Without arguments a synthetic head is hidden in a picture and found again. With a model and a portrait of your own:

    python examples/fit_face.py --model MODEL.h5 --target PORTRAIT.png --eye 0 -6 374 --at 0 -6 55 --fov 45

A face from the front is where a fit begins and where it likes to stay: the colors would rather paint a turned head on a straight
one. So it begins with many poses in a small picture, whose colors and lights are fitted; the best few of them go on with their
shape in a larger one, and the best of these in the whole. With --plain one face starts from the front, and all of it is fitted
to the whole picture from the first step, with two optimizers: coefficients and lights, and the camera.

It works with light, so pictures are taken to the power of 2.2, and back to be looked at.
"""

import argparse
import io
import pathlib
import re
import time
from collections import namedtuple
from itertools import product

import imageio.v3 as iio
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from PIL import Image
from tqdm import tqdm

import taichi_dr as dr

GAMMA = 2.2
YAWS, PITCHES, ROLLS = (-40, -20, 0, 20, 40), (-10, 10), (-10, 10)  # degrees, of the poses to begin with
Stage = namedtuple("Stage", "faces shrink antialias share rate turn shift")
STAGES = (  # faces that enter, picture's and supersampled size, share of the steps, rates of coefficients and of pose (radians, distances)
    Stage(faces=20, shrink=4, antialias=1, share=0.16, rate=0.1, turn=0.03, shift=0.003),
    Stage(faces=4, shrink=2, antialias=1, share=0.2, rate=0.1, turn=0.02, shift=0.003),
    Stage(faces=1, shrink=1, antialias=2, share=0.64, rate=0.05, turn=0.01, shift=0.003),
)
# The player's page asks for icons of another site; these signs take their place.
SIGNS = {
    "minus": "\u2212", "plus": "+", "fast-backward": "\u00ab", "fast-forward": "\u00bb", "step-backward": "\u2039", "step-forward": "\u203a",
    "play": "\u25b8", "pause": "\u2016", "flip-horizontal": "", "play.fa-flip-horizontal": "\u25c2",
}  # fmt: skip
Settings = namedtuple("Settings", "eye at fov shape_weight color_weight landmarks landmark_weight doubt edges reach")  # how far the eye is
DOUBT = 0.01  # how much of the priors is left in the end where the picture is of the model itself, without noise
Picture = namedtuple("Picture", "colors mask")  # (H, W, 3) of light, (H, W) or None


class Faces:
    """What is sought, of B faces at once: coefficients, poses, lights, and the camera; arrays with gradients."""

    def __init__(self, model, values):
        self.model = model
        self.shape, self.expression, self.color = (
            None if modes is None else dr.array(values[name], vectors=False)
            for name, modes in (("shape", model.shape), ("expression", model.expression), ("color", model.color))
        )
        self.pose = dr.Pose(values["rotation"], values["translation"])
        self.ambient = dr.AmbientLight(values["ambient"])
        self.sun = dr.DirectionalLight(values["direction"], values["sun"])
        self.eye, self.at = dr.array(values["eye"]), dr.array(values["at"])

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
        return {name: dr.read(x)[which] for name, x in arrays.items() if x is not None}

    def mesh(self):
        """As the eye sees them, turned and moved."""
        mesh = self.model.mesh(self.shape, self.expression, self.color)
        return mesh.with_vertices(dr.transform(mesh.vertices, self.pose))

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
            dr.write(light.intensity, dr.read(light.intensity).clip(0))


class Problem:
    """What the faces are compared with: the picture in one size, and how they are drawn and judged there."""

    def __init__(self, faces, picture, settings, shrink=1, antialias=2):
        self.settings, self.picture, self.count = settings, shrunk(picture, shrink), faces.pose.batch
        self.camera = dr.Camera.look_at(faces.eye, faces.at, fov=settings.fov, size=self.picture.colors.shape[:2])
        self.draw = renderer(settings, antialias)
        self.target = dr.array(self.picture.colors[None])
        self.mask = None if self.picture.mask is None else dr.array(self.picture.mask[None], vectors=False)
        self.marks = landmark_targets(settings.landmarks, faces.model.mean.shape[1], picture.colors.shape[:2])
        self.loss = dr.scalar()

    def gradients(self, faces):
        """Of the sum over the faces of mse, priors and landmarks; returns the pictures."""
        settings, loss, count = self.settings, self.loss, float(self.count)
        with dr.Tape(loss):
            mesh = faces.mesh()
            image = self.draw(mesh, self.camera, faces.lights)
            dr.losses.mse(image, self.target, loss, count, mask=self.mask)
            for x in faces.form:
                dr.losses.mean_square(x, loss, settings.shape_weight * count)
            if faces.color is not None:
                dr.losses.mean_square(faces.color, loss, settings.color_weight * count)
            if self.marks is not None:
                places, mask = self.marks
                dr.losses.mse(dr.project(mesh.vertices, self.camera), places, loss, settings.landmark_weight * count, mask=mask)
        return dr.read(image)[..., :3]

    def prior(self, faces):
        """Of each face."""
        weighed = [(x, self.settings.shape_weight) for x in faces.form]
        weighed += [] if faces.color is None else [(faces.color, self.settings.color_weight)]
        return sum(weight * (dr.read(x) ** 2).mean(axis=1) for x, weight in weighed)


def renderer(settings, antialias=2):
    return dr.DeferredRenderer(
        antialias=antialias, edges=settings.edges, lambert="physical", near=0.01 * settings.reach, far=10 * settings.reach
    ).quiet()  # fmt: skip


def draw(faces, settings, size, eye=None):
    """The picture of one face, from where the fit looks at it or from another eye."""
    values = faces.values()
    camera = dr.Camera.look_at(values["eye"] if eye is None else eye, values["at"], fov=settings.fov, size=size)
    return dr.read(renderer(settings)(faces.mesh(), camera, faces.lights))[0, ..., :3]


def start_poses():
    """Rotation vectors of heads that turn, nod and tilt."""

    def rotations(axis, angles):
        return [dr.so3_exp(np.radians(angle) * np.eye(3)[axis]) for angle in angles]

    return np.stack([dr.so3_log(tilt @ turn @ nod) for turn, nod, tilt in product(rotations(1, YAWS), rotations(0, PITCHES), rotations(2, ROLLS))])


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
    return dr.array(places), dr.array(mask)


def refine(faces, picture, stage, settings, steps, watch):
    """Adam on all faces at once, rates falling to a tenth; and how far each stays off, with its priors."""
    problem = Problem(faces, picture, settings, stage.shrink, stage.antialias)
    groups = [
        (faces.coefficients, stage.rate), ([x.intensity for x in faces.lights] + [faces.sun.direction], 0.05),
        ([faces.pose.rotation], stage.turn), ([faces.pose.translation], stage.shift * settings.reach),
    ]  # fmt: skip
    adam, off = dr.optim.Adam([{"params": params, "lr": rate} for params, rate in groups]), np.zeros(problem.count)
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
    inner = dr.optim.Adam([*faces.coefficients, *(x.intensity for x in faces.lights), faces.sun.direction], lr=0.1)
    outer = dr.optim.Adam([faces.eye, faces.at], lr=0.5 * settings.reach / 319)  # half a millimeter of a face in millimeters
    for _ in range(steps):
        (image,) = problem.gradients(faces)
        inner.step()
        outer.step()
        faces.keep_light_positive()
        watch(faces, 0, errors(image[None], picture)[0], image, 1)
    return faces


# --- What goes in -------------------------------------------------------------------------------------------------


def read_picture(path, size, masked=None):
    """Pixels in [0, 1] of a picture file, or of an array in .npy, its shorter side `size` pixels long."""
    values = np.load(path, allow_pickle=False) if str(path).endswith(".npy") else iio.imread(path)
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
        print(f"{path}: {picture.size[0]} x {picture.size[1]} pixels, resampled to {wanted[0]} x {wanted[1]}")
        picture = picture.resize(wanted, Image.Resampling.LANCZOS)
    return np.asarray(picture) / 255.0


def read_target(path, mask, size):
    rgba = read_picture(path, size)
    share = read_picture(mask, size, masked=True) if mask else None
    if (rgba[..., 3] < 1).any():
        share = rgba[..., 3] * (1.0 if share is None else share)
    if share is not None and share.shape != rgba.shape[:2]:
        raise ValueError(f"mask: expected the proportions of the target, {rgba.shape[1]} x {rgba.shape[0]}, got {share.shape[1]} x {share.shape[0]}")
    return Picture(rgba[..., :3] ** GAMMA, share)


def read_landmarks(path, vertices):
    """Rows of (vertex, x, y), pixels of the target from its upper left corner."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
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
            dr.write(x, deviation * random.normal(0, 1, x.shape).clip(-2, 2))
    dr.write(faces.sun.direction, [[random.choice((-0.6, 0.6)), 0.4, 1.0]])
    dr.write(faces.sun.intensity, [[1.8, 1.6, 1.4]])
    return faces, Picture(draw(faces, settings, size).astype(np.float64), None)


# --- What comes out -----------------------------------------------------------------------------------------------


class Diary:
    """The state of the fit on disk and its pictures: loss curve | squared difference | render, every tenth step."""

    def __init__(self, folder, picture, steps, every=10):
        self.folder, self.picture, self.every = folder, picture, every
        self.losses, self.shown, self.faces, self.best = [], [], None, 0
        self.bar = tqdm(total=steps, desc="fit", leave=False)
        self.figure, (self.curve, *axes) = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
        (self.line,) = self.curve.semilogy([], [])
        self.curve.set(xlabel="step", xlim=(0, steps), title="mean squared error")
        nothing = np.zeros_like(picture.colors)
        self.panels = [axes[0].imshow(nothing[..., 0], vmin=0, vmax=0.03, cmap="magma"), axes[1].imshow(nothing)]
        for a, title in zip(axes, ("squared difference", "render"), strict=True):
            a.set(title=title, xticks=[], yticks=[])

    def __call__(self, faces, best, loss, image, shrink):
        self.faces, self.best = faces, best
        self.losses.append(float(loss))
        self.bar.set_postfix(mse=f"{loss:.5f}", refresh=False)
        self.bar.update()
        if (len(self.losses) - 1) % self.every == 0:
            self.show(image, shrink)
            self.save_state()
            self.figure.savefig(self.folder / "progress.png", dpi=80)

    def show(self, image, shrink):
        rows, columns = (np.minimum(np.arange(n) // shrink, m - 1) for n, m in zip(self.picture.colors.shape, image.shape[:2], strict=False))
        self.shown.append((len(self.losses), image[rows[:, None], columns]))
        self.draw(len(self.shown) - 1)

    def draw(self, k):
        count, image = self.shown[k]
        self.line.set_data(range(count), self.losses[:count])
        self.curve.set_ylim(0.8 * min(self.losses[:count]), 1.2 * max(self.losses[:count]))
        self.panels[0].set_data(((image - self.picture.colors) ** 2).mean(axis=-1))
        self.panels[1].set_data(image.clip(0, 1) ** (1 / GAMMA))
        return [self.line, *self.panels]

    def save_state(self):
        values = self.faces.values(slice(self.best, self.best + 1))
        part = self.folder / "state.part.npz"
        np.savez(part, **values)
        part.replace(self.folder / "state.npz")  # a whole file, whenever the fit is stopped

    def finish(self):
        """GIF and a page that holds its pictures and needs no other file."""
        self.bar.close()
        frames = []
        for k in range(len(self.shown)):
            self.draw(k)
            stream = io.BytesIO()
            self.figure.savefig(stream, format="png", dpi=80)
            frames.append(iio.imread(stream.getvalue())[..., :3])
        dr.pictures.save_gif(self.folder / "fit.gif", frames, frames_per_second=8)
        animation = FuncAnimation(self.figure, self.draw, frames=len(self.shown), interval=120, blit=False)
        with matplotlib.rc_context({"savefig.dpi": 80, "animation.embed_limit": 100}):
            player = re.sub(r"<link[^>]*>", "", animation.to_jshtml())
        signs = "".join(f'.fa-{name}::before {{ content: "{sign}"; font-style: normal }}' for name, sign in SIGNS.items())
        page = f'<!doctype html><meta charset="utf-8"><title>A face from one picture</title><style>{signs}</style>{player}'
        (self.folder / "fit.html").write_text(page, encoding="utf-8")
        plt.close(self.figure)


def turned(faces, settings, size):
    """The face from three sides, upright."""
    values = faces.values()
    eye, at = values["eye"][0].astype(float), values["at"][0].astype(float)
    spins = dr.so3_exp(np.radians([[0, -40, 0], [0, 0, 0], [0, 40, 0]]))
    return np.concatenate([draw(faces, settings, size, at + spin @ (eye - at)) for spin in spins], axis=1)


def main(
    model=None, target=None, mask=None, landmarks=None, steps=500, size=256, eye=None, at=None, fov=45.0, shape_weight=1e-4, color_weight=1e-3,
    landmark_weight=0.1, edges=None, plain=False, seed=0, out="out/fit_face",
):  # fmt: skip
    started = time.perf_counter()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    model = dr.MorphableModel.load(model) if model else dr.MorphableModel.synthetic()
    mean = dr.read(model.mean)[0]
    middle, height = (mean.min(axis=0) + mean.max(axis=0)) / 2, np.ptp(mean[:, 1])
    dr.write(model.mean, mean[None] - middle)  # heads turn around their middle
    at = np.subtract(middle if at is None else at, middle)
    eye = at + (0, 0, 1.7 * height) if eye is None else np.subtract(eye, middle)
    rows = read_landmarks(landmarks, len(mean)) if landmarks else None
    # Micro-edges also move what passes through a surface, as eyes do through lids; but where the model's eyes are white and those of a
    # portrait dark, that closes them.
    doubt, known_edges = (1.0, "antialias") if target else (DOUBT, "microedge")
    reach = np.linalg.norm(eye - at)
    settings = Settings(eye, at, fov, shape_weight, color_weight, rows, landmark_weight, doubt, edges or known_edges, reach)
    true, picture = (None, read_target(target, mask, size)) if target else hidden_face(model, settings, size, seed)

    diary = Diary(folder, picture, steps)
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
    face.with_vertices(dr.array(dr.read(face.vertices) + middle)).save(folder / "face.ply")
    diary.show(image, 1)
    diary.finish()
    beside = np.concatenate([picture.colors, image], axis=1)
    dr.pictures.save(folder / "fit_face.png", beside.clip(0, 1) ** (1 / GAMMA))
    dr.pictures.save(folder / "turned.png", turned(faces, settings, len(image)).clip(0, 1) ** (1 / GAMMA))
    mse = float(errors(image[None], picture)[0])
    result = {"mse": mse, "seconds": seconds}
    text = f"mse {mse:.6f}, {1e3 * seconds:.0f} ms per step"
    if true is not None:
        found, wanted = (dr.read(model.vertices(x.shape, x.expression))[0] for x in (faces, true))
        result["distance"] = float(np.linalg.norm(found - wanted, axis=1).mean())
        turns = [x.pose.matrix()[0, :3, :3] for x in (faces, true)]
        result["degrees"] = float(np.degrees(np.linalg.norm(dr.so3_log(turns[0].T @ turns[1]))))
        text += f"; vertices {result['distance']:.3g} off on average ({100 * result['distance'] / height:.2f}% of the height)"
        text += f", turned {result['degrees']:.1f} degrees off"
    if stopped:
        text = f"stopped after {len(diary.losses)} steps; what is found so far is kept: {text}"
    print(f"{text}; {time.perf_counter() - started:.0f} s; see {folder}/fit.html, fit.gif, fit_face.png, turned.png, face.ply and state.npz")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="morphable model: Basel's or the like, .h5, or FLAME's, .npz; a synthetic head where left out")
    parser.add_argument("--target", help="portrait, a picture or .npy; a random face of the model where left out")
    parser.add_argument("--mask", help="picture that is white where the target counts")
    parser.add_argument("--landmarks", help="text file of lines vertex,x,y: where vertices are in the target, in its pixels")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=256, help="pixels on the shorter side")
    parser.add_argument("--eye", type=float, nargs=3, help="place of the camera, in units of the model; before its middle where left out")
    parser.add_argument("--at", type=float, nargs=3, help="what the camera looks at")
    parser.add_argument("--fov", type=float, default=45.0, help="degrees")
    parser.add_argument("--shape-weight", type=float, default=1e-4, help="of the mean squared shape coefficient")
    parser.add_argument("--color-weight", type=float, default=1e-3, help="of the mean squared color coefficient")
    parser.add_argument("--landmark-weight", type=float, default=0.1, help="of the mean squared distance of landmarks")
    parser.add_argument("--edges", choices=("antialias", "microedge"), help="how silhouettes move; left out: microedge, with a target antialias")
    parser.add_argument("--plain", action="store_true", help="one face from the front, the camera moves, everything at once")
    parser.add_argument("--seed", type=int, default=0, help="of the random face")
    parser.add_argument("--out", default="out/fit_face", help="folder for the results")
    main(**vars(parser.parse_args()))
