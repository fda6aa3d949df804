"""Mesh files: OBJ with materials (own reader and writer), and PLY, OFF, STL and GLB through trimesh."""

from __future__ import annotations

import operator
import os
from pathlib import Path

import numpy as np

from .data import MeshData, warn
from .obj import load_obj, save_obj

__all__ = ["MeshData", "read", "write"]

SUFFIXES = (".obj", ".ply", ".off", ".stl", ".glb")
COLOR_SUFFIXES = (".obj", ".ply", ".glb")


def read(path: str | os.PathLike, texture: str | None = "surface", texture_resolution: int = 5) -> MeshData:
    """Read a triangle mesh, with the vertex order of the file.

    Materials are read from OBJ files only; the other formats give geometry and vertex colors, whatever `texture` says.
    An STL file repeats its vertices for each face: equal positions are welded, in order of first appearance.

    Args:
        path: file with the suffix .obj, .ply, .off, .stl or .glb.
        texture: "surface" bakes OBJ materials to texels of each face, "vertex" to colors of the vertices; None reads no material.
        texture_resolution: R, the number of texel rows and columns of each face.

    Returns:
        MeshData with vertices (V, 3), faces (F, 3), colors (V, 3) or None, texels (F, R, R, 3) or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix, the arguments or the contents of the file are not valid.
    """
    path = Path(path)
    suffix = _suffix(path)
    if texture not in ("surface", "vertex", None):
        raise ValueError(f"texture must be 'surface', 'vertex' or None, got {texture!r}")
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

    return load(path, suffix)


def write(
    path: str | os.PathLike,
    vertices: np.ndarray,
    faces: np.ndarray,
    colors: np.ndarray | None = None,
    texels: np.ndarray | None = None,
) -> None:
    """Write a triangle mesh in the format that the suffix names, replacing any file of that name.

    Coordinates are written as float32. An OBJ file holds colors and texels; the texels go to an atlas image `<stem>.png`
    and a `<stem>.mtl` next to it. PLY and GLB files hold colors (8 bits); what a format cannot hold is left out with a warning.

    Args:
        path: file with the suffix .obj, .ply, .off, .stl or .glb; its folder must exist.
        vertices: (V, 3) finite coordinates.
        faces: (F, 3) integer vertex indices.
        colors: (V, 3) vertex colors, clipped to [0, 1].
        texels: (F, R, R, 3) texels of each face, clipped to [0, 1].

    Raises:
        ValueError: the suffix is not supported, or an array has a wrong shape, type or value; nothing is written.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    vertices, faces, colors, texels = _checked(vertices, faces, colors, texels)
    if colors is not None and suffix not in COLOR_SUFFIXES:
        warn(f"{suffix} files hold no vertex colors, so {path} is written without; use .obj, .ply or .glb")
    if texels is not None and suffix != ".obj":
        warn(f"{suffix} files are written without texels, so {path} has none; use .obj")
    try:
        if suffix == ".obj":
            save_obj(path, vertices, faces, colors, texels)
        else:
            from .formats import save

            save(path, suffix, vertices, faces, colors if suffix in COLOR_SUFFIXES else None)
    except OSError as problem:
        reason = problem.strerror or problem
        raise OSError(f"cannot write {path}: {reason}; check that the folder exists and that you may write there") from problem


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} has the unsupported suffix {path.suffix!r}; the supported suffixes are {', '.join(SUFFIXES)}")
    return suffix


def _checked(vertices, faces, colors, texels) -> tuple:
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0 or vertices.dtype.kind not in "fiu":
        raise ValueError(f"vertices must be numbers of shape (V, 3) with V >= 1, got {vertices.dtype} of shape {vertices.shape}")
    with np.errstate(over="ignore"):
        vertices = vertices.astype(np.float32)
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0])
        raise ValueError(f"vertices must be finite float32 numbers, vertex {bad} is {vertices[bad].tolist()}")
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0 or faces.dtype.kind not in "iu":
        raise ValueError(f"faces must be integers of shape (F, 3) with F >= 1, got {faces.dtype} of shape {faces.shape}")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"faces must be in [0, {len(vertices)}), got indices from {faces.min()} to {faces.max()}")
    if colors is not None:
        colors = _unit_interval(colors, "colors", "(V, 3)", (len(vertices), 3))
    if texels is not None:
        resolution = max(np.shape(texels)[1:2], default=1)
        texels = _unit_interval(texels, "texels", "(F, R, R, 3)", (len(faces), max(resolution, 1), max(resolution, 1), 3))
    return vertices, faces.astype(np.int32), colors, texels


def _unit_interval(values, name: str, layout: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers of shape {layout} = {shape}, got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, but hold NaN or infinite values")
    return np.clip(values.astype(np.float64), 0, 1)
