"""Mesh files: OBJ with materials (own reader and writer), and PLY, OFF, STL and GLB through trimesh."""

from __future__ import annotations

import operator
import os
from pathlib import Path

import numpy as np

from .data import MeshData, flipped, warn
from .obj import load_obj, save_obj
from .texels import sample_image

__all__ = ["MeshData", "flipped", "read", "sample_image", "write"]

SUFFIXES = (".obj", ".ply", ".off", ".stl", ".glb")
COLOR_SUFFIXES = (".obj", ".ply", ".glb")
TEXTURE_SUFFIXES = (".obj", ".glb")


def read(path: str | os.PathLike, texture: str | None = "surface", texture_resolution: int = 5) -> MeshData:
    """Read a triangle mesh, with the vertex order of the file.

    Materials are read from OBJ and, with "uv", GLB files; the other formats give geometry and vertex colors, whatever `texture` says.
    An STL file repeats its vertices for each face: equal positions are welded, in order of first appearance. A GLB file splits
    its vertices at the seams of a texture: with "uv" those of equal position within an object are welded, in the same
    order, and texture coordinates are kept apart.

    With "uv" the texture coordinates of the file are kept, v turned down. Where all faces share one image, this is the
    texture as it is, and where they share one color, a texture of one texel. Several materials are packed into one texture
    by `atlas.pack_surfaces`, a face without texture coordinates showing the color of its material. Images lose their alpha.
    Of a GLB material the base color is read, as it is: its factor times its image, which repeats whatever the sampler says.

    Args:
        path: file with the suffix .obj, .ply, .off, .stl or .glb.
        texture: "surface" bakes OBJ materials to texels of each face, "vertex" to colors of the vertices; "uv" gives texture
            coordinates and a texture; None reads no material.
        texture_resolution: R, the number of texel rows and columns of each face.

    Returns:
        MeshData; objects of OBJ files are their `o` groups, of GLB files their meshes, numbered by their first faces.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix, the arguments or the contents of the file are not valid.
    """
    path = Path(path)
    suffix = _suffix(path)
    if texture not in ("surface", "vertex", "uv", None):
        raise ValueError(f"texture must be 'surface', 'vertex', 'uv' or None, got {texture!r}")
    try:
        texture_resolution = operator.index(texture_resolution)
    except TypeError:
        raise ValueError(f"texture_resolution must be a whole number, got {texture_resolution!r}") from None
    if texture_resolution < 1:
        raise ValueError(f"texture_resolution must be at least 1, got {texture_resolution}")
    if not path.is_file():
        raise FileNotFoundError(f"no such mesh file: {path}" + ("; it is a folder" if path.is_dir() else "; check the path"))
    if suffix == ".obj":
        return load_obj(path, texture, texture_resolution)
    from .formats import load  # only here, since trimesh takes half a second to import

    return load(path, suffix, texture == "uv")


def write(
    path: str | os.PathLike,
    vertices: np.ndarray,
    faces: np.ndarray,
    colors: np.ndarray | None = None,
    texels: np.ndarray | None = None,
    uv: np.ndarray | None = None,
    uv_faces: np.ndarray | None = None,
    texture: np.ndarray | None = None,
    objects: np.ndarray | None = None,
) -> None:
    """Write a triangle mesh in the format that the suffix names, replacing any file of that name.

    Coordinates are written as float32. An OBJ file holds all there is; texels go to an atlas image `<stem>.png` with uv of
    its own, or the texture to that, and a `<stem>.mtl` next to it. A GLB file holds colors or a texture, and splits vertices at its seams.
    PLY files hold colors. What a format cannot hold is left out with a warning, objects without. Colors but in OBJ files,
    and textures, are written in 8 bits without gamma change.

    Args:
        path: file with the suffix .obj, .ply, .off, .stl or .glb; its folder must exist.
        vertices: (V, 3) finite coordinates.
        faces: (F, 3) integer vertex indices.
        colors: (V, 3) vertex colors, clipped to [0, 1].
        texels: (F, R, R, 3) texels of each face, clipped to [0, 1].
        uv: (T, 2) finite texture coordinates, v down from the top.
        uv_faces: (F, 3) integer indices of uv.
        texture: (H, W, 3) image in place of the texels, clipped to [0, 1].
        objects: (F,) integer number of the object of each face.

    Raises:
        ValueError: the suffix is not supported, or an array has a wrong shape, type or value; nothing is written.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    mesh = _checked(MeshData(vertices, faces, colors, texels, uv, uv_faces, texture, objects))
    if mesh.colors is not None and suffix not in COLOR_SUFFIXES:
        warn(f"{suffix} files hold no vertex colors, so {path} is written without; use .obj, .ply or .glb")
    if mesh.texels is not None and suffix != ".obj":
        warn(f"{suffix} files are written without texels, so {path} has none; use .obj")
    if mesh.texture is not None and suffix not in TEXTURE_SUFFIXES:
        warn(f"{suffix} files are written without a texture, so {path} has none; use .obj or .glb")
    try:
        if suffix == ".obj":
            save_obj(path, mesh)
        else:
            from .formats import save

            save(path, suffix, mesh)
    except OSError as problem:
        reason = problem.strerror or problem
        raise OSError(f"cannot write {path}: {reason}; check that the folder exists and that you may write there") from problem


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} has the unsupported suffix {path.suffix!r}; the supported suffixes are {', '.join(SUFFIXES)}")
    return suffix


def _checked(mesh: MeshData) -> MeshData:
    vertices = _float32("vertices", "vertex", mesh.vertices, "(V, 3)", 3)
    faces = _indices("faces", mesh.faces, len(vertices))
    if (mesh.uv is None) != (mesh.uv_faces is None) or (mesh.texture is not None and mesh.uv is None):
        raise ValueError("uv and uv_faces must come together, and with a texture")
    if mesh.texture is not None and mesh.texels is not None:
        raise ValueError("texels and texture must not come together; leave one out")
    uv, uv_faces = mesh.uv, mesh.uv_faces
    if uv is not None and uv_faces is not None:
        uv = _float32("uv", "entry", uv, "(T, 2)", 2)
        uv_faces = _indices("uv_faces", uv_faces, len(uv))
        if len(uv_faces) != len(faces):
            raise ValueError(f"uv_faces must be one per face, {len(faces)}, got {len(uv_faces)}")
    colors, texels, texture, objects = mesh.colors, mesh.texels, mesh.texture, mesh.objects
    if colors is not None:
        colors = _unit_interval(colors, "colors", "(V, 3)", (len(vertices), 3))
    if texels is not None:
        resolution = max(np.shape(texels)[1:2], default=1)
        texels = _unit_interval(texels, "texels", "(F, R, R, 3)", (len(faces), max(resolution, 1), max(resolution, 1), 3))
    if texture is not None:
        height, width = (max(side, 1) for side in (*np.shape(texture), 1, 1)[:2])
        texture = _unit_interval(texture, "texture", "(H, W, 3)", (height, width, 3))
    if objects is not None:
        objects = np.asarray(objects)
        if objects.shape != (len(faces),) or objects.dtype.kind not in "iu":
            raise ValueError(f"objects must be integers of shape (F,) = ({len(faces)},), got {objects.dtype} of shape {objects.shape}")
        objects = objects.astype(np.int64)
    return MeshData(vertices, faces, colors, texels, uv, uv_faces, texture, objects)


def _float32(name: str, row: str, values, layout: str, columns: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != columns or len(values) == 0 or values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers of shape {layout} with {layout[1]} >= 1, got {values.dtype} of shape {values.shape}")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"{name} must be finite float32 numbers, {row} {bad} is {values[bad].tolist()}")
    return values


def _indices(name: str, values, count: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != 3 or len(values) == 0 or values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape (F, 3) with F >= 1, got {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= count:
        raise ValueError(f"{name} must be in [0, {count}), got indices from {values.min()} to {values.max()}")
    return values.astype(np.int32)


def _unit_interval(values, name: str, layout: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers of shape {layout} = {shape}, got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, but hold NaN or infinite values")
    return np.clip(values.astype(np.float64), 0, 1)
