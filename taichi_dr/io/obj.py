"""Wavefront OBJ and MTL: a reader that keeps vertex order, uv seams and vertex colors, and a writer that bakes texels to an atlas."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np

GREY = 0.5
MAX_LINE = 1 << 20  # characters; anything longer is junk that would only take long to refuse
MAX_ATLAS = 16384  # pixels on a side, what graphics cards and image viewers take
NO_MATERIAL = ("None", "(null)")  # exporters write these for faces without a material


class MeshData(NamedTuple):
    """A mesh as read: vertices (V, 3) float64, faces (F, 3) int32, colors (V, 3) and texels (F, R, R, 3) in [0, 1], or None."""

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None
    texels: np.ndarray | None


class _Geometry(NamedTuple):
    positions: np.ndarray  # (V, 3)
    colors: np.ndarray | None  # (V, 3)
    uvs: np.ndarray  # (T, 2)
    faces: np.ndarray  # (F, 3) of positions
    face_uvs: np.ndarray  # (F, 3) of uvs, -1 for none
    face_materials: np.ndarray  # (F,) of materials, -1 for none
    materials: list[str]
    libraries: list[str]


class _Material(NamedTuple):
    color: np.ndarray = np.full(3, GREY)
    map_arguments: str = ""
    folder: Path = Path()


class _Map(NamedTuple):
    image: np.ndarray  # (H, W, 3)
    scale: np.ndarray  # (2,)
    offset: np.ndarray  # (2,)
    clamp: bool


def load_obj(path: Path, texture: str | None, texture_resolution: int) -> MeshData:
    """Read an OBJ file and, unless `texture` is None, the materials that its faces use.

    Images and MTL files are looked up within the folder of the OBJ file only. What is missing or unreadable there
    gives a warning and the color `Kd` of the material, or grey.

    Args:
        path: the file.
        texture: "surface" for texels, "vertex" for the mean color of the corners at each vertex, None for neither.
        texture_resolution: R, texels per side of each face.

    Raises:
        ValueError: the file is malformed; the message names the line.
    """
    geometry = _parse_geometry(path)
    faces = geometry.faces.astype(np.int32)
    used = np.unique(geometry.face_materials)
    materials = _parse_libraries(path, geometry, used[used >= 0]) if texture is not None and geometry.libraries else {}
    if not materials:
        return MeshData(geometry.positions, faces, geometry.colors, None)
    if texture == "surface":
        texels = _material_colors(path, geometry, materials, texel_barycentrics(texture_resolution))
        return MeshData(geometry.positions, faces, geometry.colors, texels)
    corners = _material_colors(path, geometry, materials, np.eye(3)).reshape(-1, 3)
    uses = np.bincount(faces.reshape(-1), minlength=len(geometry.positions))
    sums = [np.bincount(faces.reshape(-1), channel, minlength=len(uses)) for channel in corners.T]
    colors = np.where(uses[:, None] > 0, np.stack(sums, axis=1) / np.maximum(uses, 1)[:, None], GREY)
    return MeshData(geometry.positions, faces, colors, None)


def _statements(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines with their numbers; continued lines are joined under the number of the first."""
    data = path.read_bytes()
    nul = data.find(b"\0")
    if nul >= 0:
        number = len((data[:nul] + b".").splitlines())
        raise ValueError(f"{path}, line {number}: expected text, got a NUL byte; this is a binary file, check the path and suffix")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    pending: list[str] = []
    first = 0
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = line.strip()
        if line.startswith("#") and not pending:
            continue
        if line.endswith("\\"):
            first = first if pending else number
            pending.append(line[:-1])
            continue
        if pending:
            number, line = first, " ".join([*pending, line]).strip()
            pending = []
        if len(line) > MAX_LINE:
            raise _malformed(path, number, f"expected at most {MAX_LINE} characters", line)
        if line:
            yield number, line
    if pending:
        yield first, " ".join(pending).strip()


def _malformed(path: Path, number: int, expected: str, line: str) -> ValueError:
    got = line if len(line) <= 60 else line[:57] + "..."
    return ValueError(f"{path}, line {number}: {expected}, got {got!r}; correct this line or export the mesh again")


def _parse_geometry(path: Path) -> _Geometry:
    positions: list[tuple[float, ...]] = []
    colors: dict[int, tuple[float, ...]] = {}
    uvs: list[tuple[float, ...]] = []
    known: dict[str, tuple[int, int]] = {}  # a corner comes up about six times
    corners: list[tuple[int, ...]] = []  # of triangles: position, uv, position, uv, position, uv
    corner_lines: list[int] = []
    face_materials: list[int] = []
    materials: dict[str, int] = {}
    material = -1
    libraries: list[str] = []
    for number, line in _statements(path):
        words = line.split()
        keyword = words[0]
        if "#" in line and keyword in ("v", "vt", "f"):  # names of materials and files may have one
            words = line[: line.index("#")].split()
        try:
            if keyword == "v":
                values = _floats(words, "'v x y z', 'v x y z w' or 'v x y z r g b'", (3, 4, 6, 7))
                if len(values) >= 6:
                    colors[len(positions)] = values[3:6]
                positions.append(values[:3])
            elif keyword == "vt":
                values = _floats(words, "'vt u v'", (1, 2, 3))
                uvs.append(values[:2] if len(values) > 1 else (values[0], 0.0))
            elif keyword == "f":
                polygon = _polygon(words, len(positions), len(uvs), known)
                for second, third in zip(polygon[1:-1], polygon[2:], strict=True):
                    corners.append(polygon[0] + second + third)
                    corner_lines.append(number)
                    face_materials.append(material)
            elif keyword == "usemtl":
                material = materials.setdefault(_rest(line), len(materials))
            elif keyword == "mtllib":
                libraries.append(_rest(line))
        except ValueError as problem:
            raise _malformed(path, number, str(problem), line) from None
    if not positions:
        raise ValueError(f"{path} has no vertices ('v' lines); check that it is an OBJ file of a mesh")
    if not corners:
        raise ValueError(f"{path} has no faces ('f' lines); export the mesh again with its faces")
    pairs = np.array(corners, dtype=np.int64).reshape(-1, 3, 2)
    _require_in_range(path, pairs[..., 0], corner_lines, len(positions), "vertex ('v')")
    _require_in_range(path, pairs[..., 1], corner_lines, len(uvs), "texture coordinate ('vt')")
    return _Geometry(
        np.array(positions, dtype=np.float64),
        _line_colors(path, colors, len(positions)),
        np.array(uvs, dtype=np.float64).reshape(-1, 2),
        pairs[..., 0],
        pairs[..., 1],
        np.array(face_materials),
        list(materials),
        libraries,
    )


def _rest(line: str) -> str:
    return line.split(None, 1)[1] if len(line.split(None, 1)) > 1 else ""


def _floats(words: list[str], form: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    try:
        values = tuple(map(float, words[1:]))
    except ValueError:
        raise ValueError(f"expected numbers as in {form}") from None
    if len(values) not in counts:
        raise ValueError(f"expected {form}, that is {' or '.join(map(str, counts))} numbers")
    if not all(map(math.isfinite, values)) or "_" in "".join(words):  # Python alone reads 1_0 as 10
        raise ValueError(f"expected finite numbers as in {form}")
    return values


def _polygon(words: list[str], positions: int, uvs: int, known: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
    """Zero-based (position, uv) pairs of a face line, uv -1 where there is none; absolute ones are added to `known`."""
    polygon = []
    for word in words[1:]:
        pair = known.get(word)
        if pair is None:
            fields = word.split("/")
            if len(fields) > 3:
                raise ValueError("expected corners as v, v/vt, v//vn or v/vt/vn")
            if len(fields) == 3 and fields[2]:
                _index(fields[2], None)
            pair = _index(fields[0], positions), _index(fields[1], uvs) if len(fields) > 1 and fields[1] else -1
            if "-" not in word:
                known[word] = pair
        polygon.append(pair)
    if len(polygon) < 3:
        raise ValueError("expected a face with at least 3 corners")
    return polygon


def _index(word: str, count: int | None) -> int:
    """Zero-based index of a one-based or, where negative, relative one among `count` lines so far (None: any)."""
    try:
        index = int(word) if len(word) < 18 and "_" not in word else None
    except ValueError:
        index = None
    if index is None:
        raise ValueError(f"expected corners with whole-number indices, but {word[:20]!r} is not one")
    if index == 0:
        raise ValueError("expected indices that count from 1 (or from -1 backwards), but there is a 0")
    if index > 0 or count is None:
        return index - 1
    if count + index < 0:
        raise ValueError(f"expected an index back into the {count} such lines so far, but there is {index}")
    return count + index


def _require_in_range(path: Path, indices: np.ndarray, lines: list[int], count: int, what: str) -> None:
    bad = np.argwhere(indices >= count)
    if len(bad):
        face, corner = bad[0]
        one_based = indices[face, corner] + 1
        problem = f"expected a {what} index of at most {count}, the number of such lines"
        raise _malformed(path, lines[face], problem, f"{one_based}")


def _line_colors(path: Path, colors: dict[int, tuple[float, ...]], count: int) -> np.ndarray | None:
    if not colors:
        return None
    dense = np.full((count, 3), GREY)
    dense[list(colors)] = list(colors.values())
    if len(colors) < count:
        warnings.warn(f"{path}: {count - len(colors)} of {count} vertices have no color; they are grey", stacklevel=5)
    if dense.min() < 0 or dense.max() > 1:
        warnings.warn(f"{path}: vertex colors outside of [0, 1] are clipped", stacklevel=5)
    return dense.clip(0, 1)


def _inside(root: Path, folder: Path, name: str) -> Path | None:
    """The file `name` of `folder` if it is one within `root`, else None after a warning."""
    name = name.replace("\\", "/").strip('"')
    try:
        target = (folder / name).resolve()
        # Symbolic links are followed first: a downloaded mesh must not reach into other folders.
        if PureWindowsPath(name).drive or name.startswith("/") or not target.is_relative_to(root.resolve()):
            warnings.warn(f"{name!r} is outside of the folder {root} of the OBJ file, so it is not read; move it there", stacklevel=6)
            return None
        if os.path.isfile(target):
            return target
    except (OSError, ValueError, RuntimeError):  # a name that cannot be one, or a loop of links
        pass
    warnings.warn(f"there is no file {name!r} in {folder}; the faces that need it get a plain color", stacklevel=6)
    return None


def _parse_libraries(path: Path, geometry: _Geometry, used: np.ndarray) -> dict[int, _Material]:
    """Materials by their index, without those that stand for no material at all."""
    names = {geometry.materials[i]: int(i) for i in used}
    root = path.parent
    defined: dict[str, _Material] = {}
    if not names:
        return {}
    quiet = set(names) <= set(NO_MATERIAL)
    for line in geometry.libraries:
        # One name with spaces or several names: the former, if there is such a file.
        names_listed = [line] if os.path.isfile(root / line) else re.split(r"(?<=\.mtl)\s+", line, flags=re.IGNORECASE)
        with warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            for name in names_listed:
                library = _inside(root, root, name)
                if library is not None:
                    defined.update(_parse_library(library))
    materials = {}
    for name, i in names.items():
        if name in defined:
            materials[i] = defined[name]
        elif name not in NO_MATERIAL:
            warnings.warn(f"{path}: the material {name!r} is not defined in an MTL file that was found; it is grey", stacklevel=4)
            materials[i] = _Material()
    return materials


def _parse_library(library: Path) -> dict[str, _Material]:
    materials: dict[str, _Material] = {}
    name = None
    try:
        for number, line in _statements(library):
            words = line.split()
            keyword = words[0].lower()
            if keyword == "newmtl":
                name = _rest(line)
                materials[name] = _Material(folder=library.parent)
            elif name is None:
                continue
            elif keyword == "kd" and words[1:2] not in (["xyz"], ["spectral"]):
                try:
                    values = _floats(words, "'Kd r g b'", (1, 3))
                    materials[name] = materials[name]._replace(color=np.clip(np.broadcast_to(values, 3), 0, 1))
                except ValueError as problem:
                    warnings.warn(str(_malformed(library, number, str(problem), line)), stacklevel=6)
            elif keyword == "map_kd":
                materials[name] = materials[name]._replace(map_arguments=_rest(line))
    except (ValueError, OSError) as problem:
        warnings.warn(f"material file skipped from there on: {problem}", stacklevel=6)
    return materials


def _load_map(root: Path, material: _Material) -> _Map | None:
    """The image of `map_Kd`; of its options, scale, offset and clamp are heeded."""
    transform = {"s": np.ones(2), "o": np.zeros(2)}
    clamp = False
    text, start = material.map_arguments, 0
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    option = re.compile(rf"-(?:(?P<vector>[ost])((?:\s+{number}(?=\s)){{1,3}})|mm((?:\s+{number}(?=\s)){{1,2}})|([a-zA-Z]+)\s+(\S+))\s+")
    while match := option.match(text, start):
        if match["vector"] in transform:
            values = [float(word) for word in match[2].split()][:2]
            transform[match["vector"]][: len(values)] = values
        elif (match[4] or "").lower() == "clamp":
            clamp = match[5].lower() == "on"
        start = match.end()
    image = _inside(root, material.folder, text[start:])
    if image is None:
        return None
    try:
        return _Map(_read_image(image), transform["s"], transform["o"], clamp)
    except Exception as problem:  # image decoders raise about anything
        warnings.warn(f"the image {image} cannot be read ({problem}); its faces get a plain color", stacklevel=5)
        return None


def _read_image(path: Path) -> np.ndarray:
    """(H, W, 3) image in [0, 1], without gamma change and without alpha."""
    with iio.imopen(path, "r", plugin="pillow") as file:
        deep = file.metadata(index=0).get("mode", "")[:1] in ("I", "F")  # 16-bit grey or float, which RGB would cut off
        pixels = file.read(index=0) if deep else file.read(index=0, mode="RGB")
    if pixels.dtype.kind != "f":
        pixels = pixels / (255.0 if pixels.dtype == np.uint8 else 65535.0)
    return np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels[..., :3]


def _material_colors(path: Path, geometry: _Geometry, materials: dict[int, _Material], weights: np.ndarray) -> np.ndarray:
    """Colors (F, *S, 3) at the points of each face with corner weights (*S, 3)."""
    colors = np.full((len(geometry.faces), *weights.shape[:-1], 3), GREY)
    maps: dict[tuple[str, Path], _Map | None] = {}
    for i, material in materials.items():
        selected = np.flatnonzero(geometry.face_materials == i)
        colors[selected] = material.color
        if not material.map_arguments:
            continue
        key = (material.map_arguments, material.folder)
        if key not in maps:
            maps[key] = _load_map(path.parent, material)
        color_map = maps[key]
        if color_map is None:
            continue
        mapped = selected[(geometry.face_uvs[selected] >= 0).all(axis=1)]
        if len(mapped) < len(selected):
            warnings.warn(f"{path}: {len(selected) - len(mapped)} faces have a texture but no 'vt'; they get a plain color", stacklevel=4)
        for part in np.array_split(mapped, weights.size * len(mapped) // (1 << 22) + 1):  # to bound the memory
            uv = np.tensordot(geometry.uvs[geometry.face_uvs[part]], weights, axes=(1, -1))  # (F, 2, *S)
            uv = np.moveaxis(uv, 1, -1) * color_map.scale + color_map.offset
            colors[part] = sample_image(color_map.image, uv, color_map.clamp)
    return colors.clip(0, 1)


def sample_image(image: np.ndarray, uv: np.ndarray, clamp: bool = False) -> np.ndarray:
    """Sample an image bilinearly, repeating it outside of the unit square.

    Args:
        image: (H, W, 3), first row on top.
        uv: (..., 2) texture coordinates, v = 0 at the bottom.
        clamp: extend the border instead of repeating.

    Returns:
        (..., 3) colors.
    """
    # A coordinate of 1 is the far edge, also if interpolation made it 1 + epsilon.
    repeated = uv if clamp else np.where(np.abs(uv - 0.5) <= 0.5 + 1e-9, uv, uv - np.floor(uv))
    height, width = image.shape[:2]
    x = np.clip(repeated[..., 0] * width - 0.5, 0, width - 1)
    y = np.clip((1 - repeated[..., 1]) * height - 0.5, 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    s, t = (x - left)[..., None], (y - top)[..., None]
    return (1 - t) * ((1 - s) * image[top, left] + s * image[top, right]) + t * ((1 - s) * image[bottom, left] + s * image[bottom, right])


def texel_barycentrics(resolution: int) -> np.ndarray:
    """Sample points of the texels of a face.

    Args:
        resolution: R, texels per side.

    Returns:
        (R, R, 3) barycentric coordinates; those with row + column >= R lie in the upper halves of the subdivision.
    """
    row, column = np.mgrid[:resolution, :resolution]
    lower = row + column < resolution
    w0 = np.where(lower, column + 1 / 3, resolution - 1 - column + 2 / 3) / resolution
    w1 = np.where(lower, row + 1 / 3, resolution - 1 - row + 2 / 3) / resolution
    return np.stack([w0, w1, 1 - w0 - w1], axis=-1)


def save_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None, texels: np.ndarray | None) -> None:
    """Write an OBJ file and, with texels, an MTL file and an atlas image of the same stem.

    Args:
        path: the file.
        vertices: (V, 3) float32 coordinates; nine digits keep them exact.
        faces: (F, 3) vertex indices.
        colors: (V, 3) in [0, 1] or None.
        texels: (F, R, R, 3) in [0, 1] or None.

    Raises:
        ValueError: the atlas would get too large.
    """
    columns = vertices if colors is None else np.concatenate([vertices, colors.astype(np.float32)], axis=1)
    form = "v" + " %.9g" * columns.shape[1]
    lines = [form % tuple(row) for row in columns.tolist()]
    if texels is None:
        lines += [f"f {i} {j} {k}" for i, j, k in (faces + 1).tolist()]
    else:
        image, uvs = bake_atlas(texels)
        material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
        lines = [f"mtllib {material.name}", *lines, *(f"vt {u:.12g} {v:.12g}" for u, v in uvs.reshape(-1, 2).tolist())]
        lines += ["usemtl atlas"]
        lines += [f"f {i}/{3 * f + 1} {j}/{3 * f + 2} {k}/{3 * f + 3}" for f, (i, j, k) in enumerate((faces + 1).tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if texels is not None:
        material.write_text(f"newmtl atlas\nKd 1 1 1\nmap_Kd {picture.name}\n", encoding="utf-8")
        iio.imwrite(picture, image, plugin="pillow", extension=".png")


def bake_atlas(texels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the texels out in an image where each face has a cell of its own.

    The triangle of a face spans 3 R pixels between pixel centers, so that the sample points of the texels are pixel centers.

    Args:
        texels: (F, R, R, 3) in [0, 1].

    Returns:
        (H, W, 3) uint8 image and (F, 3, 2) texture coordinates of the corners.

    Raises:
        ValueError: the image would have more than 16384 pixels on a side.
    """
    count, resolution = texels.shape[:2]
    cell = 3 * resolution + 3  # both end points and one pixel of padding around
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    if columns * cell > MAX_ATLAS:
        fitting = (MAX_ATLAS // columns - 3) // 3
        remedy = f"lower the texel resolution to {fitting} or less" if fitting > 0 else "split the mesh"
        raise ValueError(f"the atlas of {count} faces at texel resolution {resolution} exceeds {MAX_ATLAS} pixels on a side; {remedy}")
    cells = np.zeros((rows * columns, cell, cell, 3), dtype=np.uint8)
    cells[:count] = np.rint(texels * 255).astype(np.uint8).reshape(count, -1, 3)[:, _cell_texels(resolution)]
    image = cells.reshape(rows, columns, cell, cell, 3).swapaxes(1, 2).reshape(rows * cell, columns * cell, 3)
    origin = np.stack(np.divmod(np.arange(count), columns)[::-1], axis=1)[:, None] * cell + 1.5
    pixels = origin + 3 * resolution * np.array([[1, 0], [0, 1], [0, 0]])  # (F, 3, 2) of the corners w0, w1, w2
    return image, np.stack([pixels[..., 0] / image.shape[1], 1 - pixels[..., 1] / image.shape[0]], axis=-1)


def _cell_texels(resolution: int) -> np.ndarray:
    """Flat texel index (C, C) at each pixel of a cell: the texel a renderer looks up at the nearest point of the triangle."""
    span = 3 * resolution
    b, a = np.mgrid[-1 : span + 2, -1 : span + 2].clip(0, span)  # w1 and w0, in pixels
    excess = np.maximum(a + b - span, 0)
    a, b = a - (excess + 1) // 2, b - excess // 2
    a, b = a.clip(0, span + np.minimum(b, 0)), b.clip(0, span + np.minimum(a, 0))
    column, row = a // 3, b // 3
    upper = a % 3 + b % 3 > 3
    # On the hypotenuse between two texels, and at its ends, the quotients are one too large.
    beyond = (column + row >= resolution) & ~upper
    column, row = column - (beyond & (column > 0)), row - (beyond & (column == 0))
    column, row = np.where(upper, resolution - 1 - column, column), np.where(upper, resolution - 1 - row, row)
    return row * resolution + column
