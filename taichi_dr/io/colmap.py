"""COLMAP models, text and binary: their cameras and images, read and written, and as `Views`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .cameras import MAX_NUMBER, Views, broadcast, quaternion

MODELS = {  # COLMAP's cameras: (number in binary files, number of parameters)
    "SIMPLE_PINHOLE": (0, 3),
    "PINHOLE": (1, 4),
    "SIMPLE_RADIAL": (2, 4),
    "RADIAL": (3, 5),
    "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8),
    "FULL_OPENCV": (6, 12),
}


class ColmapCamera(NamedTuple):
    model: str
    size: tuple[int, int]  # (height, width)
    params: tuple[float, ...]  # in COLMAP's order for the model


class ColmapImage(NamedTuple):
    quaternion: np.ndarray  # (4,): w, x, y, z
    translation: np.ndarray  # (3,)
    camera: int
    name: str


def read_colmap(folder: str | Path) -> tuple[dict[int, ColmapCamera], dict[int, ColmapImage]]:
    """Cameras and images of a COLMAP model by their numbers, from cameras.bin and images.bin, or else the .txt files.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a file that ends early, a line that does not parse, an unknown camera model; with file and line, or
            with file and offset.
    """
    folder = Path(folder)
    for suffix, cameras, images in ((".bin", _cameras_bin, _images_bin), (".txt", _cameras_txt, _images_txt)):
        paths = [folder / f"{name}{suffix}" for name in ("cameras", "images")]
        if all(path.is_file() for path in paths):
            found = cameras(paths[0]), images(paths[1])
            for number, image in found[1].items():
                if image.camera not in found[0]:
                    raise ValueError(f"{paths[1]}: image {number}, {image.name}, expected one of the cameras {list(found[0])}, got {image.camera}")
            return found
    raise FileNotFoundError(f"no COLMAP model in {folder}: expected cameras.bin and images.bin, or cameras.txt and images.txt; check the folder")


def _checked_camera(where: str, model: str, width: int, height: int, params: Sequence[float]) -> ColmapCamera:
    if model not in MODELS:
        raise ValueError(f"{where}: expected a camera model out of {', '.join(MODELS)}, got {model!r}; undistort the images with COLMAP first")
    if len(params) != MODELS[model][1]:
        raise ValueError(f"{where}: expected {MODELS[model][1]} parameters of {model}, got {len(params)}")
    if width < 1 or height < 1:
        raise ValueError(f"{where}: expected a positive width and height, got {width} and {height}")
    if not all(abs(p) < MAX_NUMBER for p in params):
        raise ValueError(f"{where}: expected finite parameters, got {list(params)}")
    if not all(f > 0 for f in params[: 1 if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL") else 2]):
        raise ValueError(f"{where}: expected a positive focal length, got {list(params)}")
    return ColmapCamera(model, (height, width), tuple(params))


def _checked_image(where: str, pose: Sequence[float], camera: int, name: str) -> ColmapImage:
    q, t = np.array(pose[:4]), np.array(pose[4:7])
    if not (np.abs(q).max() < MAX_NUMBER and np.abs(t).max() < MAX_NUMBER) or np.linalg.norm(q) < 1e-6:
        raise ValueError(f"{where}: expected a finite translation and a quaternion that is not zero, got {list(pose)}")
    return ColmapImage(q / np.linalg.norm(q), t, camera, name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, offset {error.start}: expected UTF-8 text, got other bytes; is it a binary model with the wrong suffix?"
        ) from error


def _cameras_txt(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number}"
        try:
            key, model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            params = [float(word) for word in words[4:]]
        except (ValueError, IndexError):
            raise ValueError(f"{where}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS..., got {line[:60]!r}") from None
        _once(where, "CAMERA_ID", key, cameras)
        cameras[key] = _checked_camera(where, model, width, height, params)
    return cameras


def _once(where: str, what: str, key: int, known: dict) -> None:
    if key in known:
        raise ValueError(f"{where}: expected each {what} once, got {key} again; remove one of the two")


def _images_txt(path: Path) -> dict[int, ColmapImage]:
    images: dict[int, ColmapImage] = {}
    lines = enumerate(_lines(path), 1)
    for number, line in lines:
        words = line.split(None, 9)
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number}"
        try:
            key, pose, camera, name = int(words[0]), [float(word) for word in words[1:8]], int(words[8]), words[9].strip()
        except (ValueError, IndexError):
            raise ValueError(f"{where}: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, got {line[:60]!r}") from None
        _once(where, "IMAGE_ID", key, images)
        images[key] = _checked_image(where, pose, camera, name)
        next(lines, None)  # the points that the image sees, perhaps none
    return images


class _Bytes:
    """A binary file from its beginning on, which says where it ends early."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.offset = path, path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        size = struct.calcsize("<" + form)
        if self.offset + size > len(self.data):
            raise ValueError(f"{self.path}, offset {self.offset}: expected {size} more bytes, but the file ends at {len(self.data)}; copy it again")
        values = struct.unpack_from("<" + form, self.data, self.offset)
        self.offset += size
        return values

    def skip(self, size: int) -> None:
        if self.offset + size > len(self.data):
            raise ValueError(f"{self.path}, offset {self.offset}: expected {size} more bytes, but the file ends at {len(self.data)}; copy it again")
        self.offset += size

    def text(self) -> str:
        end = self.data.find(b"\0", self.offset)
        if end < 0:
            raise ValueError(f"{self.path}, offset {self.offset}: expected a name that ends with a zero, but the file ends at {len(self.data)}")
        raw, self.offset = self.data[self.offset : end], end + 1
        return raw.decode("utf-8", "replace")

    def end(self) -> None:
        if self.offset != len(self.data):
            raise ValueError(f"{self.path}, offset {self.offset}: expected the end of the file, got {len(self.data) - self.offset} more bytes")

    @property
    def where(self) -> str:
        return f"{self.path}, offset {self.offset}"


def _cameras_bin(path: Path) -> dict[int, ColmapCamera]:
    data, cameras = _Bytes(path), {}
    names = {number: name for name, (number, _) in MODELS.items()}
    for _ in range(data.take("Q")[0]):
        where = data.where
        key, model, width, height = data.take("iiQQ")
        if model not in names:
            raise ValueError(
                f"{where}: expected a camera model out of {', '.join(MODELS)}, got number {model}; undistort the images with COLMAP first"
            )
        _once(where, "CAMERA_ID", key, cameras)
        cameras[key] = _checked_camera(where, names[model], width, height, data.take(f"{MODELS[names[model]][1]}d"))
    data.end()
    return cameras


def _images_bin(path: Path) -> dict[int, ColmapImage]:
    data, images = _Bytes(path), {}
    for _ in range(data.take("Q")[0]):
        where = data.where
        key, *pose, camera = data.take("i7di")
        _once(where, "IMAGE_ID", key, images)
        images[key] = _checked_image(where, pose, camera, data.text())
        data.skip(24 * data.take("Q")[0])  # the points that the image sees
    data.end()
    return images


def lens_of(camera: ColmapCamera) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, bool]:
    """Focal lengths, principal point, coefficients, fisheye."""
    p = camera.params
    if camera.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        k1, k2 = (*p[3:], 0.0, 0.0)[:2]
        coefficients = None if camera.model == "SIMPLE_PINHOLE" else np.array([k1, k2, 0.0, 0.0, 0.0])
        return np.array([p[0], p[0]]), np.array(p[1:3]), coefficients, False
    focal, principal = np.array(p[:2]), np.array(p[2:4])
    if camera.model == "PINHOLE":
        return focal, principal, None, False
    if camera.model == "OPENCV_FISHEYE":
        return focal, principal, np.array(p[4:]), True
    if any(p[9:]):
        raise ValueError(f"camera: expected FULL_OPENCV with k4 = k5 = k6 = 0, got {p[9:]}; undistort the images with COLMAP first")
    return focal, principal, np.array((*p[4:], 0.0)[:5]), False


def from_colmap(folder: str | Path, names: Sequence[str] | None = None) -> Views:
    """The images of a model as views, in the order of their numbers, or those of the given names in that order."""
    cameras, images = read_colmap(folder)
    chosen = [images[key] for key in sorted(images)]
    if names is not None:
        by_name = {image.name: image for image in chosen}
        for name in names:
            if name not in by_name:
                raise ValueError(f"names: expected images of {folder}, such as {list(by_name)[:3]}, got {name!r}")
        chosen = [by_name[name] for name in names]
    if not chosen:
        raise ValueError(f"{folder}: expected at least one image with a pose, got none")
    sizes = {cameras[image.camera].size for image in chosen}
    if len(sizes) > 1:
        raise ValueError(f"{folder}: expected images of one size, got (height, width) {sorted(sizes)}; choose some by names=[...]")
    used = {image.camera for image in chosen}
    lenses = [lens_of(cameras[image.camera]) for image in (chosen[:1] if len(used) == 1 else chosen)]
    if len({fisheye for *_, fisheye in lenses}) > 1:
        raise ValueError(f"{folder}: expected cameras with or without a fisheye lens, got both; choose some by names=[...]")
    coefficients = None
    if any(c is not None for _, _, c, _ in lenses):
        coefficients = np.array([np.zeros(5) if c is None else c for _, _, c, _ in lenses])
    rotation = quaternion_rotations(np.array([image.quaternion for image in chosen]))
    translation = np.array([image.translation for image in chosen])
    focal, principal = (np.array([lens[k] for lens in lenses]) for k in range(2))
    return Views(rotation, translation, focal, principal, sizes.pop(), coefficients, lenses[0][3], tuple(image.name for image in chosen))


def quaternion_rotations(q: np.ndarray) -> np.ndarray:
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def write_colmap(folder: str | Path, cameras: dict[int, ColmapCamera], images: dict[int, ColmapImage], *, binary: bool = False) -> None:
    """Write a COLMAP model without points to a folder, which is made where it is missing.

    Args:
        folder: gets cameras, images and points3D, .bin or .txt.
        cameras, images: by number, as `read_colmap` gives them.
        binary: .bin files.

    Raises:
        ValueError: a camera whose model, size or parameters are not valid, or a name with a line break; nothing is written.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    for key, camera in cameras.items():
        _checked_camera(f"camera {key}", camera.model, camera.size[1], camera.size[0], camera.params)
    for key, image in images.items():
        if not image.name or any(c in image.name for c in "\n\r\0"):
            raise ValueError(f"image {key}: expected a file name without line breaks, got {image.name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    if binary:
        data = struct.pack("<Q", len(cameras))
        for key, camera in cameras.items():
            number, count = MODELS[camera.model]
            data += struct.pack(f"<iiQQ{count}d", key, number, camera.size[1], camera.size[0], *camera.params)
        (folder / "cameras.bin").write_bytes(data)
        data = struct.pack("<Q", len(images))
        for key, image in images.items():
            pose = (*image.quaternion, *image.translation)
            data += struct.pack("<i7di", key, *pose, image.camera) + image.name.encode() + b"\0" + struct.pack("<Q", 0)
        (folder / "images.bin").write_bytes(data)
        (folder / "points3D.bin").write_bytes(struct.pack("<Q", 0))
        return
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for key, camera in cameras.items():
        lines.append(f"{key} {camera.model} {camera.size[1]} {camera.size[0]} {_words(camera.params)}")
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for key, image in images.items():
        lines += [f"{key} {_words((*image.quaternion, *image.translation))} {image.camera} {image.name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "points3D.txt").write_text("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]\n", encoding="utf-8")


def _words(values: Sequence[float]) -> str:
    return " ".join(repr(float(x)) for x in values)


def to_colmap(views: Views, folder: str | Path, *, binary: bool = False) -> None:
    """Write views as a COLMAP model: one camera where all share a lens, else one per view."""
    shared = all(x is None or len(x) == 1 for x in (views.focal, views.principal, views.coefficients))
    v = broadcast(views)
    cameras = {b + 1: _colmap_camera(v, b) for b in range(1 if shared else len(v.focal))}
    names = v.names or tuple(f"{b:04d}.png" for b in range(len(v.focal)))
    if len(names) != len(v.focal):
        raise ValueError(f"names: expected one per view, {len(v.focal)}, got {len(names)}")
    quaternions = quaternion(v.rotation)
    images = {b + 1: ColmapImage(quaternions[b], v.translation[b], 1 if shared else b + 1, name) for b, name in enumerate(names)}
    write_colmap(folder, cameras, images, binary=binary)


def _colmap_camera(v: Views, b: int) -> ColmapCamera:
    pinhole = (*v.focal[b], *v.principal[b])
    if v.fisheye:
        return ColmapCamera("OPENCV_FISHEYE", v.size, (*pinhole, *v.coefficients[b]))
    if v.coefficients is None:
        return ColmapCamera("PINHOLE", v.size, pinhole)
    if v.coefficients[b, 4] == 0:
        return ColmapCamera("OPENCV", v.size, (*pinhole, *v.coefficients[b, :4]))
    return ColmapCamera("FULL_OPENCV", v.size, (*pinhole, *v.coefficients[b], 0.0, 0.0, 0.0))
