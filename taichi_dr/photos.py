"""Photographs with cameras, from a folder: what a fit looks at.

A photograph is RGBA as a renderer gives it: linear colors c over a background, and alpha a, the mask,

    rgb = a c + (1 - a) background

so that it can be compared with an image rendered over the same background, pixel by pixel.
"""

import math
import operator
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import taichi as ti
from PIL import Image

from .arrays import Array, empty, expect, image_size, read, vec4, write
from .camera import Camera
from .frame import EYE, SCALE
from .hull import Bounds, frames_of, hull_bounds
from .io.cameras import Views
from .io.data import warn
from .io.photographs import ENCODINGS, decoded, developed, encoded, read_mask, read_photograph
from .io.shots import Shot, Shots, find_shots, open_array
from .io.textures import MAX_PIXELS
from .rig import draw_rig

_POSE_AND_LENS = ("rotation", "translation", "focal", "principal")
COARSE = 96  # pixels along the longer side of the masks that are kept of each photograph, for `bounds`


class _Store:
    """What all parts of one data set share: settings, photographs read lately, and what is known of those read before."""

    def __init__(self, found: Shots, table: np.ndarray, background: np.ndarray | None, cache_bytes: int) -> None:
        self.found, self.table, self.background, self.cache_bytes = found, table, background, cache_bytes
        self.images: OrderedDict[int, np.ndarray] = OrderedDict()
        self.bytes = 0
        self.coverage: dict[int, float] = {}
        self.doubtful: set[int] = set()  # whose masks have 0 and 1 for 0 and 255
        self.masks: dict[int, np.ndarray] = {}  # coarse, True where there is some of the object

    def keep(self, k: int, image: np.ndarray) -> None:
        if image.nbytes > self.cache_bytes:
            return
        while self.bytes + image.nbytes > self.cache_bytes:
            self.bytes -= self.images.popitem(last=False)[1].nbytes
        self.images[k] = image
        self.bytes += image.nbytes


class Photos:
    """Photographs with cameras; made by `Photos.load`.

    An image is read when it is asked for, and the last ones are kept, up to a number of bytes. So the errors of a file
    come when it is read: `summary` reads each once.

    Fields:
        names: of the images, without the folders that all of them share.
        sizes: (height, width) of each, as given out.
        kind: what they were read from.
        folder: where they are.
    """

    def __init__(self, store: _Store, indices: Sequence[int], sizes: Sequence[tuple[int, int]], viewing_angle: float) -> None:
        self._store, self._indices, self._viewing_angle = store, tuple(indices), viewing_angle
        self._all_sizes = tuple(sizes)
        self._bounds: Bounds | None = None
        shots = store.found.shots
        self.names = tuple(shots[k].name for k in self._indices)
        self.sizes = tuple(sizes[k] for k in self._indices)
        self.kind, self.folder = store.found.kind, store.found.folder.path

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        size: int | tuple[int, int] | None = None,
        images: str | os.PathLike | None = None,
        masks: str | os.PathLike | bool | None = None,
        model: str | os.PathLike | None = None,
        encoding: str = "linear",
        background: Sequence[float] | None = (0.0, 0.0, 0.0),
        viewing_angle: float = 15.0,
        cache_bytes: int = 256 << 20,
    ) -> "Photos":
        """Photographs of a folder, in the order of its files:

            transforms.json, or transforms_train.json    of NeRF, instant-ngp, nerfstudio; or such a file itself
            source.npy and camera.npy                    of SoftRas: (N, 4, S, S) uint8; distance, elevation, azimuth
            sparse/0, or another model, and images       of COLMAP, text or binary

        Images are PNG, JPEG, WebP or BMP, as they are stored: EXIF turns none. Alpha is that of the image times that of
        its mask: the `mask_path` of nerfstudio, or the file of the same stem in the folder `masks`, white on the object.
        Where there is neither, alpha is 1, and a mask of 0 and 1 counts as one of 0 and 255; the summary says so.

        Nothing outside of the folder is opened: names that are absolute, have `..` or are links that lead out of it are
        refused. The folders that are given as arguments may be anywhere.

        Args:
            path: the folder, or a file of it as above.
            size: pixels to resize to, (height, width), or one number for the shorter side; None leaves them. Colors are
                means over the area of each pixel, weighted by alpha. The cameras go with them.
            images: folder of the images, relative to `path`, where it is another than the files say, such as
                "images_4"; its images may be scaled evenly, and the cameras go with them.
            masks: folder of the masks, likewise; False reads no mask files.
            model: folder of a COLMAP model, likewise.
            encoding: "linear" takes bytes as linear values, as this package does for textures and the pictures it
                writes: so a fit in the colors of the file has a texture that looks like the photographs in any viewer,
                and rendered photographs come back as they were. "srgb" decodes them by the sRGB curve: for light that is
                physically right; the pictures that are written of the fit then look dark elsewhere.
            background: color where alpha is 0, three linear values, the one that the renderer has; None for colors
                without one, not times alpha.
            viewing_angle: of SoftRas's cameras, HALF the field of view, degrees; 15 as in its example of source.npy.
            cache_bytes: of images that are kept.

        Raises:
            FileNotFoundError: no data set there, or an image or mask that is named and missing.
            ValueError: a file that is not valid; a pose that is no rigid motion; an image of another size than its
                camera, or of more than 8192 x 8192 pixels; the same image twice; a name that leads out of the folder.
        """
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}")
        if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < 0:
            raise ValueError(f"cache_bytes: expected a whole number of at least 0, got {cache_bytes!r}")
        if not 0 < viewing_angle < 90:
            raise ValueError(f"viewing_angle: expected half a field of view, between 0 and 90 degrees, got {viewing_angle!r}")
        color = None if background is None else np.asarray(background, np.float32)
        if color is not None and (color.shape != (3,) or not np.isfinite(color).all()):
            raise ValueError(f"background: expected three finite numbers or None, got {background!r}")
        wanted = size if size is None or isinstance(size, Integral) else image_size(size)
        found = find_shots(path, images, masks, model)
        sizes = [_target_size(shot, wanted) for shot in found.shots]
        photos = cls(_Store(found, decoded(encoding), color, cache_bytes), range(len(sizes)), sizes, viewing_angle)
        for k in range(len(photos)):
            photos.camera(k)  # raises where the numbers make no camera
        return photos

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Photos({len(self)} of {self.folder}, {self.kind})"

    # --- Images and cameras ---

    def image(self, k: int) -> np.ndarray:
        """(H, W, 4) float32 of photograph k: linear RGB over the background, and alpha. Not to be written to.

        Raises:
            FileNotFoundError: its file is not there any more.
            ValueError: a file that is damaged or was changed, or a mask of another size, or with nothing in it.
        """
        index = self._index(k)
        store = self._store
        if index in store.images:
            store.images.move_to_end(index)
            return store.images[index]
        shot = store.found.shots[index]
        rgba, mask = _read(shot)
        if mask is not None and mask.max() == 1:
            store.doubtful.add(index)
            mask = mask * np.uint8(255)
        image = developed(rgba, mask, self._all_sizes[index], store.table)
        alpha = image[..., 3:]
        if not alpha.max() > 0:
            raise ValueError(f"{shot.mask or shot.image}: expected a mask that shows the object, got {shot.name!r} with none of it; remove this view")
        if store.background is None:
            image[..., :3] /= np.where(alpha > 0, alpha, 1)
        elif store.background.any():
            image[..., :3] += (1 - alpha) * store.background
        image.flags.writeable = False
        store.keep(index, image)
        if index not in store.coverage:
            store.coverage[index] = float(alpha.mean(dtype=np.float64))
            store.masks[index] = _coarse(alpha[..., 0] > 0.5 * alpha.max())
        return image

    def camera(self, k: int) -> Camera:
        """The camera of photograph k, of one view."""
        return self._camera([self._index(k)])

    @property
    def cameras(self) -> Camera:
        """One camera with all views.

        Raises:
            ValueError: photographs of several sizes, or with and without a fisheye lens.
        """
        return self._camera(self._indices)

    def batch(self, indices: Iterable[int]) -> tuple[Camera, Array]:
        """The camera of some views, and their photographs, for a step of a fit.

        Args:
            indices: of the photographs, at least one.

        Returns:
            `Camera` of B views, and (B, H, W) of vec4 without a gradient.

        Raises:
            ValueError: as `image` and `cameras`; no such photograph.
        """
        chosen = list(indices)
        camera = self._camera([self._index(k) for k in chosen])
        target = empty(vec4, (len(chosen), *camera.size))
        write(target, np.stack([self.image(k) for k in chosen]))
        return camera, target

    def subset(self, indices: Iterable[int]) -> "Photos":
        """Some of the photographs, in this order; what is kept of images is shared."""
        return Photos(self._store, [self._index(k) for k in indices], self._all_sizes, self._viewing_angle)

    def split(self, every: int = 8) -> tuple["Photos", "Photos"]:
        """The photographs to fit to, and each `every`-th, from the first on, held out to judge the fit by.

        Raises:
            ValueError: `every` below 2, or photographs of which none would be left.
        """
        if isinstance(every, bool) or not isinstance(every, int) or every < 2 or len(self) < 2:
            raise ValueError(f"every: expected a whole number of at least 2, and two photographs, got {every!r} of {len(self)}")
        return self.subset(k for k in range(len(self)) if k % every), self.subset(range(0, len(self), every))

    def _index(self, k: Any) -> int:
        try:
            number = operator.index(k)
        except TypeError:
            raise ValueError(f"k: expected the number of a photograph, got {k!r}") from None
        if not -len(self) <= number < len(self):
            raise ValueError(f"k: expected a number from 0 to {len(self) - 1}, got {number}; there are {len(self)} photographs")
        return self._indices[number]

    def _camera(self, indices: Sequence[int]) -> Camera:
        if not indices:
            raise ValueError("indices: expected at least one photograph, got none")
        shots, sizes = [self._store.found.shots[k] for k in indices], {self._all_sizes[k] for k in indices}
        if len(sizes) > 1:
            came = f"got (height, width) {sorted(sizes)[:4]}"
            raise ValueError(f"photos: expected photographs of one size, {came}; load them with size=(height, width)")
        (size,) = sizes
        try:
            if shots[0].softras is not None:
                rows = np.stack([shot.softras for shot in shots])
                camera = Camera.from_softras(*rows.T, viewing_angle=self._viewing_angle, size=size)
            else:
                camera = Camera._from_views(_views(shots, size))
        except ValueError as error:
            raise ValueError(f"{self.folder}, {', '.join(shot.name for shot in shots[:3])}: {error}") from error
        camera.names = tuple(shot.name for shot in shots)
        return camera

    # --- What is there ---

    @property
    def background(self) -> tuple[float, float, float] | None:
        """Color that the images have where alpha is 0; None for colors that are not times alpha."""
        color = self._store.background
        return None if color is None else tuple(color.tolist())

    def unmasked(self) -> tuple[str, ...]:
        """Names of the photographs whose alpha is 1 everywhere; reads every photograph once.

        Raises:
            FileNotFoundError, ValueError: as `image`.
        """
        self._read_all()
        return tuple(name for name, index in zip(self.names, self._indices, strict=True) if self._store.coverage[index] == 1)

    def bounds(self) -> Bounds:
        """A ball around the object, by the common part of the cones of its masks (the visual hull); reads every photograph once.

        Where photographs have no mask, it is around what all of them show.

        Returns:
            (center, radius): (3,) and a number, in the unit of the cameras.

        Raises:
            ValueError: as `image`; views from one direction only, or masks whose cones have nothing in common.
        """
        if self._bounds is None:
            self._read_all()
            self._bounds = hull_bounds([self.camera(k) for k in range(len(self))], [self._store.masks[k] for k in self._indices])
            self._bounds.center.setflags(write=False)  # it is given out again
        return self._bounds

    def summary(self) -> str:
        """What was loaded, in a table of text; reads every photograph once, and so finds those that are damaged.

        Raises:
            FileNotFoundError, ValueError: as `image`.
        """
        self._read_all()
        shots = [self._store.found.shots[k] for k in self._indices]
        frames = np.concatenate([frames_of(self.camera(k)) for k in range(len(self))])
        notes = list(self._store.found.notes)
        try:
            bounds = self.bounds()
            center, where = bounds.center, f"center {_numbers(bounds.center)}, radius {bounds.radius:.3g}"
        except ValueError as error:
            center, where = np.zeros(3), "not known"
            notes.append(f"where the object is cannot be told: {str(error).removeprefix('photos: ')}")
        halves = 0.5 * np.array([min(size) for size in self.sizes])
        focals = frames[:, SCALE, :2] * halves[:, None]
        fov = 2 * np.degrees(np.arctan(1 / frames[:, SCALE, :2].max(axis=1)))
        distances = np.linalg.norm(frames[:, EYE] - center, axis=1)
        coverage = np.array([self._store.coverage[k] for k in self._indices])
        files = [shot.size for shot in shots]
        unmasked = [name for name, shot, share in zip(self.names, shots, coverage, strict=True) if shot.mask is None and share == 1]
        if unmasked:
            notes.append(f"{len(unmasked)} of {len(self)} have no mask, so alpha is 1: {_some(unmasked)}")
        doubtful = [self.names[k] for k, index in enumerate(self._indices) if index in self._store.doubtful]
        if doubtful:
            notes.append(f"{len(doubtful)} of {len(self)} have masks of 0 and 1, which count as 0 and 255: {_some(doubtful)}")
        distorted = sum(shot.coefficients is not None for shot in shots)
        rows = {
            "source": f"{self.kind}, {self.folder}",
            "views": f"{len(self)}: {_some(self.names)}",
            "size": _sizes(self.sizes) + ("" if list(self.sizes) == files else f", resized from {_sizes(files)}"),
            "focal": f"{_range(focals, 'px')}, field of view {_range(fov, 'degrees')} on the shorter side" + (", distorted" if distorted else ""),
            "object": where,
            "distance": f"{_range(distances)} from {'the object' if where != 'not known' else 'the origin'}",
            "mask": f"covers {coverage.min():.1%} ({self.names[coverage.argmin()]}), mean {coverage.mean():.1%}, "
            f"to {coverage.max():.1%} ({self.names[coverage.argmax()]})",
            "notes": notes[0] if notes else "none",
        }
        return "\n".join([f"{name:<10}{text}" for name, text in rows.items()] + [f"{'':<10}{note}" for note in notes[1:]])

    def save_rig(self, path: str | os.PathLike) -> None:
        """Draw where the cameras stand, y up, and the ball around the object, as PNG (or what the suffix names).

        Each camera is its frustum, numbered, with a roof on the edge that is up in the photograph.

        Raises:
            OSError: the file cannot be written.
            ValueError: as `image`.
        """
        frames = np.concatenate([frames_of(self.camera(k)) for k in range(len(self))])
        self._read_all()
        try:
            center, radius = self.bounds()
        except ValueError:
            center, radius = frames[:, EYE].mean(axis=0), None
        title = f"{len(self)} views of {Path(self.folder).resolve().name}" + ("" if radius is None else f", object radius {radius:.3g}")
        draw_rig(Path(path), frames, list(self.sizes), center, radius, title)

    def _read_all(self) -> None:
        for k, index in enumerate(self._indices):
            if index not in self._store.coverage:
                self.image(k)

    # --- Writing ---

    @staticmethod
    def save(
        folder: str | os.PathLike,
        images: Array | np.ndarray | Sequence[np.ndarray],
        camera: Camera,
        names: Sequence[str] | None = None,
        *,
        encoding: str = "linear",
        background: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Write images as a data set: PNG files with alpha in `images`, and a transforms.json as nerfstudio has it.

        `Photos.load` with the same encoding and background gives the images back to 8 bits, within 1/510 of each value,
        where no color is brighter than its alpha allows, a + (1 - a) background: no photograph has such, nor an image
        rendered hard or with `DeferredRenderer`; the soft edges of `SoftRenderer` do, and are clipped with a warning.

        Args:
            folder: is made where it is missing; files of the same names are replaced.
            images: (B, H, W) of vec4, or numbers (B, H, W, 4): linear RGB over the background, and alpha.
            camera: of B views, and of the images' size.
            names: of the files, one per view; 0000.png and so on by default.
            encoding: of the colors in the files, "linear" or "srgb", as in `load`.
            background: that the images have.

        Raises:
            ValueError: shapes that do not agree, values that are not finite, names that are no names of PNG files or come
                twice, a camera that is orthographic or mirrored; nothing is written.
            OSError: the folder cannot be written.
        """
        values, color = _checked_images(images, camera), np.asarray(background, np.float64)
        if encoding not in ENCODINGS or color.shape != (3,):
            raise ValueError(f"encoding, background: expected one of {', '.join(ENCODINGS)} and three numbers, got {encoding!r} and {background!r}")
        count = len(values)
        files = tuple(f"{k:04d}.png" for k in range(count)) if names is None else tuple(names)
        for name in files:
            if not isinstance(name, str) or not name.lower().endswith(".png") or any(c in name for c in '/\\:*?"<>|') or not name.isprintable():
                raise ValueError(f"names: expected names of PNG files without a folder, such as 'a.png', got {name!r}")
        if len(files) != count or len({name.lower() for name in files}) != count:
            raise ValueError(f"names: expected one per view, {count}, each once, got {len(files)}: {_some(files)}")
        views = camera._views()  # raises where the format cannot hold the camera
        if len(views.rotation) == 1 < count:
            raise ValueError(f"camera: expected {count} views, one per image, got 1")
        folder = Path(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        clipped = 0
        for name, image in zip(files, values, strict=True):
            rgba, lost = _straight(image, color, encoding)
            clipped += lost
            Image.fromarray(rgba).save(folder / "images" / name, format="PNG")
        camera.to_nerf(folder / "transforms.json", names=[f"images/{name}" for name in files])
        if clipped:
            fix = "render photographs with distance='hard', rgb='hard', alpha='hard' and antialias=4, or by DeferredRenderer"
            warn(f"{folder}: {clipped} pixels are brighter than their alpha allows, which an image file cannot hold; they are clipped; {fix}")


def _target_size(shot: Shot, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """What a photograph is resized to."""
    out = shot.size if size is None else size
    if isinstance(out, Integral):
        image_size(out)
        out = tuple(max(1, round(side * out / min(shot.size))) for side in shot.size)
    if math.prod(out) > MAX_PIXELS:
        raise ValueError(f"size: expected at most {MAX_PIXELS} pixels, got {out[1]} x {out[0]} for {shot.name}; give a smaller one")
    if shot.softras is not None and out[0] != out[1]:
        raise ValueError(f"size: expected a square, since SoftRas's images are square, got {out}")
    return out


def _views(shots: Sequence[Shot], size: tuple[int, int]) -> Views:
    """The cameras of photographs that are resized to a size."""
    if len({shot.fisheye for shot in shots}) > 1:
        raise ValueError("expected lenses with or without a fisheye, got both; take them apart with subset")
    coefficients = None
    if any(shot.coefficients is not None for shot in shots):
        none = np.zeros(4 if shots[0].fisheye else 5)
        coefficients = np.stack([none if shot.coefficients is None else shot.coefficients for shot in shots])
    rotation, translation, focal, principal = (np.stack([getattr(shot, name) for shot in shots]) for name in _POSE_AND_LENS)
    scale = np.array([(size[1] / shot.lens_size[1], size[0] / shot.lens_size[0]) for shot in shots])
    return Views(rotation, translation, focal * scale, principal * scale, size, coefficients, shots[0].fisheye)


def _read(shot: Shot) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 4) and (H, W) uint8, of the size that the file had when it was found."""
    if shot.row is not None:
        stored = open_array(shot.image)
        if stored.dtype != np.uint8 or stored.ndim != 4 or shot.row >= len(stored) or stored.shape[1:] != (4, *shot.size):
            raise ValueError(f"{shot.image}: expected the array that was there, got {stored.dtype} of shape {stored.shape}; load it again")
        return np.ascontiguousarray(np.moveaxis(stored[shot.row], 0, -1)), None
    rgba = read_photograph(_there(shot.image))
    mask = None if shot.mask is None else read_mask(_there(shot.mask))
    for source, x in ((shot.image, rgba), (shot.mask, mask)):
        if x is not None and x.shape[:2] != shot.size:
            expected = f"expected {shot.size[1]} x {shot.size[0]} pixels, as {shot.name} had"
            raise ValueError(f"{source}: {expected}, got {x.shape[1]} x {x.shape[0]}; give image and mask one size")
    return rgba, mask


def _there(source: Any) -> Path:
    path = source.path
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {source}, which was there before; restore it")
    return path


def _coarse(mask: np.ndarray) -> np.ndarray:
    """A smaller mask, True where any of it is."""
    step = -(-max(mask.shape) // COARSE)
    h, w = (-(-side // step) for side in mask.shape)
    rows = np.logical_or.reduceat(mask, np.arange(h) * step, axis=0)
    return np.logical_or.reduceat(rows, np.arange(w) * step, axis=1)


def _checked_images(images: Any, camera: Camera) -> np.ndarray:
    if isinstance(images, ti.Ndarray):
        expect("images", images, 4, 3, "(B, H, W) of vec4")
        images = read(images)
    values = np.asarray(images, np.float64)
    if not isinstance(camera, Camera):
        raise ValueError(f"camera: expected a Camera, got {type(camera).__name__}; make it with dr.Camera.look_at(...)")
    if values.ndim != 4 or values.shape[0] != camera.batch or values.shape[1:] != (*camera.size, 4):
        raise ValueError(f"images: expected shape {(camera.batch, *camera.size, 4)}, as the camera has views and pixels, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("images: expected finite values, got NaN or infinity")
    return values


def _straight(image: np.ndarray, background: np.ndarray, encoding: str) -> tuple[np.ndarray, int]:
    """(H, W, 4) uint8 with colors not times alpha, and how many pixels lost brightness to it."""
    alpha = np.rint(image[..., 3:].clip(0, 1) * 255)
    share = alpha / 255
    colors = (image[..., :3] - (1 - share) * background) / np.where(share > 0, share, 1)
    lost = ((colors.clip(0, 1) - colors) * share).max(axis=-1) > 1 / 255, (colors - colors.clip(0, 1)).max(axis=-1) * share[..., 0] > 1 / 255
    bytes_ = encoded(np.where(share > 0, colors, 0), encoding)
    return np.concatenate([bytes_, alpha.astype(np.uint8)], axis=-1), int((lost[0] | lost[1]).sum())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def _range(values: np.ndarray, unit: str = "") -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return (low if low == high else f"{low} to {high}") + (f" {unit}" if unit else "")


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    distinct = sorted(set(sizes))
    shown = ", ".join(f"{w} x {h}" for h, w in distinct[:4]) + (" ..." if len(distinct) > 4 else "")
    return shown + (" pixels" if len(distinct) == 1 else f" pixels ({len(distinct)} sizes)")
