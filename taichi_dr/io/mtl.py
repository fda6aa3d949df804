"""MTL files: the materials of an OBJ file, and the images that they name, within the folder of the OBJ file only."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np

from ..atlas import MAX_TEXELS
from .data import GREY, warn
from .lines import floats, malformed, rest, statements
from .textures import MAX_PIXELS, read_image

NO_MATERIAL = ("None", "(null)")  # exporters write these for faces without a material


class ColorMap(NamedTuple):
    """An image and where it lies: the color at uv is that of the image at uv * scale + offset."""

    image: np.ndarray  # (H, W, 3) in [0, 1]
    scale: np.ndarray  # (2,)
    offset: np.ndarray  # (2,)
    clamp: bool  # the border is extended, else the image is repeated


class Material(NamedTuple):
    """`Kd`, and `map_Kd` in its place where there is one that can be read."""

    color: np.ndarray  # (3,) in [0, 1]
    map: ColorMap | None


class _Definition(NamedTuple):
    """A material as an MTL file has it."""

    color: np.ndarray = np.full(3, GREY)
    map_arguments: str = ""
    folder: Path = Path()


def read_materials(path: Path, libraries: list[str], names: list[str]) -> dict[str, Material]:
    """Read materials and their images; what is missing or unreadable gives a warning and a plain color.

    Args:
        path: the OBJ file; only files within its folder are read.
        libraries: what stands behind each `mtllib`, one file name or several.
        names: of the materials to be read.

    Returns:
        The materials by name, without those that stand for no material at all.
    """
    definitions = _definitions(path, libraries, names) if names else {}
    maps: dict[tuple[str, Path], ColorMap | None] = {}
    images: dict[Path, np.ndarray] = {}
    for definition in definitions.values():
        source = definition.map_arguments, definition.folder
        if definition.map_arguments and source not in maps:
            maps[source] = _load_map(path.parent, *source, images)
    return {name: Material(d.color, maps.get((d.map_arguments, d.folder))) for name, d in definitions.items()}


def _definitions(path: Path, libraries: list[str], names: list[str]) -> dict[str, _Definition]:
    root = path.parent
    found: dict[str, _Definition] = {}
    quiet = set(names) <= set(NO_MATERIAL)
    for line in libraries:
        # One name with spaces or several names: the former, if there is such a file.
        names_listed = [line] if os.path.isfile(root / line) else re.split(r"(?<=\.mtl)\s+", line, flags=re.IGNORECASE)
        with warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            for name in names_listed:
                library = _inside(root, root, name)
                if library is not None:
                    found.update(_parse_library(library))
    for name in names:
        if name not in found and name not in NO_MATERIAL:
            warn(f"{path}: the material {name!r} is not defined in an MTL file that was found; it is grey")
            found[name] = _Definition()
    return {name: found[name] for name in names if name in found}


def _parse_library(library: Path) -> dict[str, _Definition]:
    definitions: dict[str, _Definition] = {}
    name = None
    try:
        for number, line in statements(library):
            words = line.split()
            keyword = words[0].lower()
            if keyword == "newmtl":
                name = rest(line)
                definitions[name] = _Definition(folder=library.parent)
            elif name is None:
                continue
            elif keyword == "kd" and words[1:2] not in (["xyz"], ["spectral"]):
                try:
                    values = floats(words, "'Kd r g b'", (1, 3))
                    definitions[name] = definitions[name]._replace(color=np.clip(np.broadcast_to(values, 3), 0, 1))
                except ValueError as problem:
                    warn(str(malformed(library, number, str(problem), line)))
            elif keyword == "map_kd":
                definitions[name] = definitions[name]._replace(map_arguments=rest(line))
    except (ValueError, OSError) as problem:
        warn(f"material file skipped from there on: {problem}")
    return definitions


def _load_map(root: Path, arguments: str, folder: Path, images: dict[Path, np.ndarray]) -> ColorMap | None:
    """The image of `map_Kd`, out of those read before or added to them; of its options, scale, offset and clamp are heeded."""
    transform = {"s": np.ones(2), "o": np.zeros(2)}
    clamp = False
    start = 0
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    option = re.compile(rf"-(?:(?P<vector>[ost])((?:\s+{number}(?=\s)){{1,3}})|mm((?:\s+{number}(?=\s)){{1,2}})|([a-zA-Z]+)\s+(\S+))\s+")
    while match := option.match(arguments, start):
        if match["vector"] in transform:
            values = [float(word) for word in match[2].split()][:2]
            transform[match["vector"]][: len(values)] = values
        elif (match[4] or "").lower() == "clamp":
            clamp = match[5].lower() == "on"
        start = match.end()
    image = _inside(root, folder, arguments[start:])
    if image is None:
        return None
    try:
        if image not in images:
            left = MAX_TEXELS - sum(known.shape[0] * known.shape[1] for known in images.values())
            images[image] = read_image(image, min(MAX_PIXELS, left))
        return ColorMap(images[image], transform["s"], transform["o"], clamp)
    except Exception as problem:  # image decoders raise about anything
        warn(f"the image {image} cannot be read ({problem}); its faces get a plain color")
        return None


def _inside(root: Path, folder: Path, name: str) -> Path | None:
    """The file `name` of `folder` if it is one within `root`, else None after a warning."""
    name = name.replace("\\", "/").strip('"')
    try:
        target = (folder / name).resolve()
        # Symbolic links are followed first: a downloaded mesh must not reach into other folders.
        if PureWindowsPath(name).drive or name.startswith("/") or not target.is_relative_to(root.resolve()):
            warn(f"{name!r} is outside of the folder {root} of the OBJ file, so it is not read; move it there")
            return None
        if os.path.isfile(target):
            return target
    except (OSError, ValueError, RuntimeError):  # a name that cannot be one, or a loop of links
        pass
    warn(f"there is no file {name!r} in {folder}; the faces that need it get a plain color")
    return None
