"""Wavefront OBJ: a reader that keeps vertex order, uv seams and vertex colors, and a writer of the same that bakes texels to an image."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..atlas import Surface, pack_surfaces, within_one_tile
from .data import GREY, MeshData, bounded, flipped, warn
from .lines import floats, malformed, rest, statements
from .mtl import Material, read_materials
from .texels import bake_atlas, bake_materials, texel_barycentrics
from .textures import eight_bit, write_png


class _Geometry(NamedTuple):
    positions: np.ndarray  # (V, 3)
    colors: np.ndarray | None  # (V, 3)
    uvs: np.ndarray  # (T, 2)
    faces: np.ndarray  # (F, 3) of positions
    face_uvs: np.ndarray  # (F, 3) of uvs, -1 for none
    face_materials: np.ndarray  # (F,) of materials, -1 for none
    face_objects: np.ndarray  # (F,) int32, counted in the order of their first faces
    materials: list[str]
    libraries: list[str]


def load_obj(path: Path, texture: str | None, texture_resolution: int) -> MeshData:
    """Read an OBJ file and, unless `texture` is None, the materials that its faces use.

    Images and MTL files are looked up within the folder of the OBJ file only. What is missing or unreadable there
    gives a warning and the color `Kd` of the material, or grey.

    Args:
        path: the file.
        texture: "surface" for texels, "vertex" for the mean color of the corners at each vertex, "uv" for an image with
            texture coordinates, None for none of them.
        texture_resolution: R, texels per side of each face.

    Raises:
        ValueError: the file is malformed; the message names the line.
    """
    geometry = _parse_geometry(path)
    materials = {}
    if texture is not None and geometry.libraries:
        used = np.unique(geometry.face_materials)
        indices = {geometry.materials[i]: int(i) for i in used[used >= 0]}
        materials = {indices[name]: material for name, material in read_materials(path, geometry.libraries, list(indices)).items()}
    faces = geometry.faces.astype(np.int32)
    data = MeshData(geometry.positions, faces, geometry.colors, objects=geometry.face_objects)
    if texture == "uv":
        return data._replace(**_texture(path, geometry, materials))
    if not materials:
        return data
    surface = path, materials, geometry.face_materials, geometry.uvs, geometry.face_uvs
    if texture == "surface":
        return data._replace(texels=bake_materials(*surface, texel_barycentrics(texture_resolution)))
    corners = bake_materials(*surface, np.eye(3)).reshape(-1, 3)
    uses = np.bincount(faces.reshape(-1), minlength=len(geometry.positions))
    sums = [np.bincount(faces.reshape(-1), channel, minlength=len(uses)) for channel in corners.T]
    colors = np.where(uses[:, None] > 0, np.stack(sums, axis=1) / np.maximum(uses, 1)[:, None], GREY)
    return data._replace(colors=colors)


def _texture(path: Path, geometry: _Geometry, materials: dict[int, Material]) -> dict[str, np.ndarray]:
    """uv, uv_faces and texture: those of the file if it has one image for all faces, else an atlas."""
    has_uv = (geometry.face_uvs >= 0).all(axis=1)
    if not materials:
        if has_uv.all():
            return {"uv": flipped(bounded(geometry.uvs)), "uv_faces": geometry.face_uvs.astype(np.int32)}
        if has_uv.any():
            warn(f"{path}: {np.sum(~has_uv)} of {len(has_uv)} faces have no 'vt' and no material, so texture coordinates are left out")
        return {}
    surfaces: list[Surface] = []
    known: dict[object, int] = {}  # materials that share an image share a surface
    face_surfaces = np.zeros(len(has_uv), np.int64)
    corners, corner_ids = np.full((len(has_uv), 3, 2), 0.5), geometry.face_uvs.copy()
    bare = 0
    for i in np.unique(geometry.face_materials):
        material = materials.get(int(i), Material(np.full(3, GREY), None))
        mapped = (geometry.face_materials == i) & has_uv & (material.map is not None)
        plain = (geometry.face_materials == i) & ~mapped
        bare += plain.sum() if material.map is not None else 0
        if material.map is not None and mapped.any():
            face_surfaces[mapped] = known.setdefault(id(material.map), len(surfaces))
            if len(known) > len(surfaces):
                surfaces.append(Surface(material.map.image, material.map.clamp))
            corners[mapped] = flipped(bounded(geometry.uvs[geometry.face_uvs[mapped]], material.map.scale, material.map.offset))
        if plain.any():
            corner_ids[plain] = -1
            face_surfaces[plain] = known.setdefault(tuple(material.color), len(surfaces))
            if len(known) > len(surfaces):
                surfaces.append(Surface(np.broadcast_to(material.color, (1, 1, 3))))
    if bare:
        warn(f"{path}: {bare} faces have a texture but no 'vt'; they get a plain color")
    sole = next(iter(materials.values())).map
    if len(surfaces) == 1 and has_uv.all():
        uv = flipped(bounded(geometry.uvs) if sole is None else bounded(geometry.uvs, sole.scale, sole.offset))
        if not surfaces[0].clamp or within_one_tile(uv[geometry.face_uvs]):
            return {"uv": uv, "uv_faces": geometry.face_uvs.astype(np.int32), "texture": surfaces[0].image}
    return pack_surfaces(surfaces, face_surfaces, corners, corner_ids, lambda text: warn(f"{path}: {text}"))._asdict()


def save_obj(path: Path, mesh: MeshData) -> None:
    """Write an OBJ file and, with texels or a texture, an MTL file and an image of the same stem.

    Args:
        path: the file.
        mesh: vertices (V, 3) in float32, which nine digits keep exact; colors, texels and texture in [0, 1]; texels and a
            texture not at once. Objects are named by their numbers.

    Raises:
        ValueError: the atlas of the texels would get too large.
    """
    columns = mesh.vertices if mesh.colors is None else np.concatenate([mesh.vertices, mesh.colors.astype(np.float32)], axis=1)
    form = "v" + " %.9g" * columns.shape[1]
    image = None if mesh.texture is None else eight_bit(mesh.texture)
    uv, uv_faces = None if mesh.uv is None else flipped(mesh.uv), mesh.uv_faces
    if mesh.texels is not None:
        image, corners = bake_atlas(mesh.texels)
        uv, uv_faces = corners.reshape(-1, 2), np.arange(mesh.faces.size).reshape(-1, 3)
    material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
    lines = [] if image is None else [f"mtllib {material.name}"]
    lines += [form % tuple(row) for row in columns.tolist()]
    lines += [] if uv is None else [f"vt {u:.12g} {v:.17g}" for u, v in uv.tolist()]
    lines += [] if image is None else ["usemtl surface"]
    if uv is None:
        rows = [f"f {i} {j} {k}" for i, j, k in (mesh.faces + 1).tolist()]
    else:
        rows = [f"f {i}/{a} {j}/{b} {k}/{c}" for i, a, j, b, k, c in (np.stack([mesh.faces, uv_faces], axis=-1) + 1).reshape(-1, 6).tolist()]
    if mesh.objects is not None and mesh.objects.any():
        for f in np.flatnonzero(np.diff(mesh.objects, prepend=-1)).tolist():
            rows[f] = f"o {mesh.objects[f]}\n{rows[f]}"
    lines += rows
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if image is not None:
        material.write_text(f"newmtl surface\nKd 1 1 1\nmap_Kd {picture.name}\n", encoding="utf-8")
        write_png(picture, image)


def _parse_geometry(path: Path) -> _Geometry:
    positions: list[tuple[float, ...]] = []
    colors: dict[int, tuple[float, ...]] = {}
    uvs: list[tuple[float, ...]] = []
    known: dict[str, tuple[int, int]] = {}  # a corner comes up about six times
    corners: list[tuple[int, ...]] = []  # of triangles: position, uv, position, uv, position, uv
    corner_lines: list[int] = []
    face_materials: list[int] = []
    face_objects: list[int] = []
    materials: dict[str, int] = {}
    objects: dict[str, int] = {}
    material, part = -1, ""
    libraries: list[str] = []
    for number, line in statements(path):
        words = line.split()
        keyword = words[0]
        if "#" in line and keyword in ("v", "vt", "f"):  # names of materials and files may have one
            words = line[: line.index("#")].split()
        try:
            if keyword == "v":
                values = floats(words, "'v x y z', 'v x y z w' or 'v x y z r g b'", (3, 4, 6, 7))
                if len(values) >= 6:
                    colors[len(positions)] = values[3:6]
                positions.append(values[:3])
            elif keyword == "vt":
                values = floats(words, "'vt u v'", (1, 2, 3))
                uvs.append(values[:2] if len(values) > 1 else (values[0], 0.0))
            elif keyword == "f":
                polygon = _polygon(words, len(positions), len(uvs), known)
                for second, third in zip(polygon[1:-1], polygon[2:], strict=True):
                    corners.append(polygon[0] + second + third)
                    corner_lines.append(number)
                    face_materials.append(material)
                    face_objects.append(objects.setdefault(part, len(objects)))
            elif keyword == "usemtl":
                material = materials.setdefault(rest(line), len(materials))
            elif keyword == "o":
                part = rest(line)
            elif keyword == "mtllib":
                libraries.append(rest(line))
        except ValueError as problem:
            raise malformed(path, number, str(problem), line) from None
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
        np.array(face_objects, dtype=np.int32),
        list(materials),
        libraries,
    )


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
        raise malformed(path, lines[face], problem, f"{one_based}")


def _line_colors(path: Path, colors: dict[int, tuple[float, ...]], count: int) -> np.ndarray | None:
    if not colors:
        return None
    dense = np.full((count, 3), GREY)
    dense[list(colors)] = list(colors.values())
    if len(colors) < count:
        warn(f"{path}: {count - len(colors)} of {count} vertices have no color; they are grey")
    if dense.min() < 0 or dense.max() > 1:
        warn(f"{path}: vertex colors outside of [0, 1] are clipped")
    return dense.clip(0, 1)
