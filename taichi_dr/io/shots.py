"""Which photographs a folder holds, and the camera of each: transforms.json, COLMAP's models, SoftRas's pair of arrays."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from .cameras import nerf_lens, nerf_pose, read_nerf
from .colmap import lens_of, quaternion_rotations, read_colmap
from .folder import Folder
from .photographs import SUFFIXES, photograph_size
from .textures import MAX_PIXELS

NERF_FILES = ("transforms.json", "transforms_train.json")
COLMAP_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", ".")
COLMAP_FILES = tuple(f"{name}.{suffix}" for suffix in ("bin", "txt") for name in ("cameras", "images"))
SOFTRAS_FILES = ("source.npy", "camera.npy")


class Source(NamedTuple):
    """A file within a folder, by name: looked up anew whenever it is opened."""

    folder: Folder
    name: str

    @property
    def path(self) -> Path:
        return self.folder.place(self.name, str(self.folder))

    def __str__(self) -> str:
        return str(self.folder.path / self.name)


class Shot(NamedTuple):
    """A photograph and its camera: a point x of the world is at R x + t in axes right, down, forward."""

    name: str
    image: Source
    mask: Source | None
    size: tuple[int, int]  # (height, width) of the image
    lens_size: tuple[int, int]  # that the lens is for
    rotation: np.ndarray | None = None  # (3, 3)
    translation: np.ndarray | None = None  # (3,)
    focal: np.ndarray | None = None  # (2,), pixels
    principal: np.ndarray | None = None  # (2,), pixels from the top left corner
    coefficients: np.ndarray | None = None  # (5,), of a fisheye (4,)
    fisheye: bool = False
    softras: np.ndarray | None = None  # (3,): distance, elevation, azimuth, in place of all that
    row: int | None = None  # of an array of photographs


class Shots(NamedTuple):
    kind: str  # what it was read from
    folder: Folder
    shots: list[Shot]
    notes: list[str]


def find_shots(path: str | os.PathLike, images: Any, masks: Any, model: Any) -> Shots:
    """The photographs of a folder, or of a transforms.json or a source.npy.

    Args:
        path: folder or file.
        images: folder of the images where it is another than the files say; its images may be scaled.
        masks: folder of the masks; None finds them, False wants none.
        model: folder of a COLMAP model, relative to `path`.

    Raises:
        FileNotFoundError: nothing there, or a file that is named and not there.
        ValueError: what is there is not valid.
    """
    path = Path(path)
    is_file = os.path.isfile(path)
    folder = Folder(path.parent if is_file else path)
    given_masks = None if isinstance(masks, bool) else _given(folder, "masks", masks)
    finder = _Finder(folder, _given(folder, "images", images), given_masks, masks is not False)
    chosen = _given(folder, "model", model)
    if chosen is not None:
        return finder.colmap(chosen)
    if is_file:
        folder.place(path.name, "path")  # no link that leads out of its folder
        if path.suffix.lower() == ".json":
            return finder.nerf(path.name)
        if path.suffix.lower() == ".npy":
            return finder.softras(path.name)
        raise ValueError(f"{path}: expected a folder, a transforms.json or a source.npy, got another file")
    found = folder.find(NERF_FILES, str(folder))
    if found:
        return finder.nerf(found)
    if folder.find(SOFTRAS_FILES[:1], str(folder)):
        return finder.softras(SOFTRAS_FILES[0])
    for name in COLMAP_FOLDERS:
        if folder.has_folder(name, str(folder)) and folder.find([f"{name}/{file}" for file in COLMAP_FILES], str(folder)):
            return finder.colmap(Folder(folder.place(name, str(folder))))
    holds = ", ".join(sorted(os.listdir(folder.root))[:8]) or "nothing"
    expected = "expected transforms.json, sparse/0 with COLMAP's cameras and images, or source.npy and camera.npy"
    raise FileNotFoundError(f"no data set in {folder}: {expected}, got {holds}; give the folder that has them")


def _given(folder: Folder, name: str, given: Any) -> Folder | None:
    """A folder that the user names, wherever it is."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise ValueError(f"{name}: expected a folder, got {given!r}")
    return Folder(folder.path / given)


class _Finder:
    """Finds images and masks of a data set, each within its folder."""

    def __init__(self, folder: Folder, images: Folder | None, masks: Folder | None, masked: bool) -> None:
        self.folder, self.images, self.masks, self.masked = folder, images, masks, masked
        self.notes: list[str] = []
        if masked and masks is None and folder.has_folder("masks", str(folder)):
            self.masks = Folder(folder.path / "masks")

    def nerf(self, name: str) -> Shots:
        path = self.folder.path / name
        self.folder.place(name, str(path))
        shots = []
        for k, frame in enumerate(read_nerf(path)):
            where = f"{path}, frame {k}"
            file = frame.get("file_path")
            if not isinstance(file, str) or not file:
                raise ValueError(f"{where}: expected the name of an image under 'file_path', got {type(file).__name__}")
            image = self._image(file, where)
            size = _size(image)
            sized = frame if "w" in frame and "h" in frame else {**frame, "h": size[0], "w": size[1]}
            focal, principal, lens_size, _, coefficients, fisheye = nerf_lens(where, sized, None)
            bent = np.array(coefficients) if any(coefficients) or fisheye else None
            mask = self._mask(file, frame.get("mask_path"), where)
            lens = np.array(focal), np.array(principal), bent, fisheye
            shots.append(Shot(image.name, image, mask, size, lens_size, *nerf_pose(where, frame), *lens))
        others = [other for other in ("transforms_train.json", "transforms_val.json", "transforms_test.json") if other != name]
        others = [other for other in others if name != "transforms.json" and self.folder.find([other], str(self.folder))]
        if others:
            self.notes.append(f"{name} was read; {', '.join(others)} can be loaded by name")
        return self._checked(f"NeRF, {name}", shots)

    def colmap(self, model: Folder) -> Shots:
        for file in COLMAP_FILES:
            model.place(file, str(model))
        try:
            cameras, images = read_colmap(model.path)
            lenses = {key: lens_of(camera) for key, camera in cameras.items()}
        except ValueError as error:
            raise error if str(model) in str(error) else ValueError(f"{model}: {error}") from error
        if not images:
            raise ValueError(f"{model}: expected at least one image with a pose, got none")
        if self.images is None:
            if not self.folder.has_folder("images", str(self.folder)):
                raise FileNotFoundError(f"no folder 'images' in {self.folder}, beside COLMAP's model; give the folder as images=...")
            folder = Folder(self.folder.place("images", str(self.folder)))
        else:
            folder = self.images
        shots = []
        for image in sorted(images.values(), key=lambda image: image.name):
            where = f"{model}, image {image.name!r}"
            source = _found(folder, [image.name], where)
            size, lens = cameras[image.camera].size, lenses[image.camera]
            rotation = quaternion_rotations(image.quaternion)
            mask = self._mask(f"images/{image.name}", None, where)
            shots.append(Shot(image.name, source, mask, _size(source), size, rotation, image.translation, *lens))
        return self._checked("COLMAP", shots)

    def softras(self, name: str) -> Shots:
        source = Source(self.folder, name)
        pictures = open_array(source)
        cameras = open_array(_found(self.folder, [str(PurePosixPath(name).with_name(SOFTRAS_FILES[1]))], f"{source}, whose cameras it has"))
        path = self.folder.path / SOFTRAS_FILES[1]
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] != 4 or pictures.shape[2] != pictures.shape[3] or not pictures.size:
            raise ValueError(f"{source}: expected uint8 of shape (N, 4, S, S), got {pictures.dtype} of shape {pictures.shape}")
        if pictures.shape[2] ** 2 > MAX_PIXELS:
            raise ValueError(f"{source}: expected at most {MAX_PIXELS} pixels per image, got shape {pictures.shape}")
        if cameras.dtype.kind not in "fiu" or cameras.shape != (len(pictures), 3):
            expected = f"numbers of shape ({len(pictures)}, 3), distance, elevation and azimuth of each image of {name}"
            raise ValueError(f"{path}: expected {expected}, got {cameras.dtype} of shape {cameras.shape}")
        rows = np.array(cameras, np.float64)
        for k in np.flatnonzero(~(np.abs(rows) < 1e9).all(axis=1))[:1]:
            raise ValueError(f"{path}: expected finite distance, elevation and azimuth, got {rows[k].tolist()} in view {k}")
        size = pictures.shape[2:]
        digits = len(str(len(rows) - 1))
        return self._checked("SoftRas", [Shot(f"{k:0{digits}d}", source, None, size, size, softras=x, row=k) for k, x in enumerate(rows)])

    def _image(self, name: str, where: str) -> Source:
        """An image named as in a transforms.json, with or without its suffix."""
        if self.images is not None:
            path = PurePosixPath(name.replace("\\", "/"))
            name = "/".join(path.parts[1:]) if len(path.parts) > 1 and not path.is_absolute() else str(path)
        return _found(self.images or self.folder, [name, *(name + suffix for suffix in SUFFIXES)], where)

    def _mask(self, name: str, mask_path: Any, where: str) -> Source | None:
        if not self.masked:
            return None
        if mask_path is not None and not isinstance(mask_path, str):
            raise ValueError(f"{where}: expected the name of a mask under 'mask_path', got {type(mask_path).__name__}")
        if mask_path:
            return _found(self.folder, [mask_path], f"{where}, mask_path")
        if self.masks is None:
            return None
        path = PurePosixPath(name.replace("\\", "/"))
        inner = PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else path
        stems = dict.fromkeys(str(p) for p in (inner.with_suffix(""), inner, PurePosixPath(path.stem), PurePosixPath(path.name)))
        found = self.masks.find([stem + suffix for stem in stems for suffix in SUFFIXES], where)
        return Source(self.masks, found) if found else None

    def _checked(self, kind: str, shots: list[Shot]) -> Shots:
        for name, count in Counter(str(PurePosixPath(shot.name)) for shot in shots).items():
            if count > 1:
                raise ValueError(f"{self.folder}: expected each image once, got {name!r} {count} times; remove all but one")
        shots = _plainly_named(shots)
        bare = [shot.name for shot in shots if shot.mask is None and shot.row is None] if self.masks is not None else []
        if bare:
            self.notes.append(f"{len(bare)} of {len(shots)} have no file in {self.masks}: {_some(bare)}")
        scaled = [shot.name for shot in shots if shot.size != shot.lens_size]
        for shot in shots:
            (h, w), (H, W) = shot.size, shot.lens_size
            if shot.size == shot.lens_size or self.images is not None and abs(w * H - h * W) <= max(H, W):
                continue
            came = f"expected {W} x {H} pixels, as its camera has, got {w} x {h}"
            fix = "turn it back" if (h, w) == (W, H) else "restore it, or name a folder of images scaled evenly as images=..."
            raise ValueError(f"{shot.image}: {came}; {fix}")
        if scaled:
            self.notes.append(f"{len(scaled)} of {len(shots)} images are scaled, and their cameras with them")
        return Shots(kind, self.folder, shots, self.notes)


def open_array(source: Source) -> np.ndarray:
    """An array of an .npy file, on disk; never one of Python objects.

    Raises:
        ValueError: the file is no such.
    """
    try:
        return np.lib.format.open_memmap(source.path, mode="r")
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {source}; check the folder") from None
    except Exception as error:  # a header is text that NumPy evaluates
        raise ValueError(f"{source}: expected an .npy file of numbers, got something else ({str(error)[:100]}); save it with numpy.save") from error


def _found(folder: Folder, names: list[str], where: str) -> Source:
    name = folder.find(names, where)
    if name is None:
        raise FileNotFoundError(f"{where}: no file {names[0][:200]!r} in {folder}; put it there")
    return Source(folder, name)


def _size(source: Source) -> tuple[int, int]:
    return photograph_size(source.path)


def _plainly_named(shots: list[Shot]) -> list[Shot]:
    """Names without the folders that all of them share."""
    paths = [PurePosixPath(shot.name.replace("\\", "/")) for shot in shots]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [shot._replace(name=str(path.relative_to(shared))) for shot, path in zip(shots, paths, strict=True)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
