"""PLY, OFF, STL and GLB files through trimesh, without any merging or reordering of vertices."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import trimesh

from .data import GREY, MeshData, warn

# What keeps trimesh from re-indexing vertices at uv seams and from decoding images nobody asked for.
LOAD_OPTIONS = {".ply": {"fix_texture": False, "skip_materials": True}, ".glb": {"skip_materials": True}}


def load(path: Path, suffix: str) -> MeshData:
    """Read a PLY, OFF, STL or GLB file; several geometries are concatenated with their transforms applied.

    Args:
        path: the file.
        suffix: ".ply", ".off", ".stl" or ".glb".

    Raises:
        ValueError: the file is malformed or has no faces.
    """
    data = path.read_bytes()
    kind = suffix[1:].upper()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # NumPy cuts text that is not a number short and merely warns.
            warnings.filterwarnings("error", message="string or file could not be read")
            options = LOAD_OPTIONS.get(suffix, {})
            # Read from memory, so that a file cannot name others to be read.
            scene = trimesh.load_scene(io.BytesIO(data), file_type=suffix[1:], process=False, **options)
            parts = [_part(scene, node) for node in scene.graph.nodes_geometry]
    except Exception as problem:  # trimesh raises about anything on malformed input
        raise ValueError(f"{path} is not a valid {kind} file ({type(problem).__name__}: {problem}); export it again") from problem
    parts = [part for part in parts if part is not None and len(part[1])]
    if not parts:
        raise ValueError(f"{path} has no faces; a triangle mesh is needed, export it again with faces")
    for vertices, faces, _ in parts:
        if faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError(f"{path} has a face with a vertex index outside of [0, {len(vertices)}); export it again")
    vertices, faces, colors = _concatenated(parts, path)
    if not np.isfinite(vertices).all():
        raise ValueError(f"{path} has a NaN or infinite coordinate; export it again")
    if suffix == ".stl":
        vertices, faces = weld(vertices, faces)
    return MeshData(vertices, faces.astype(np.int32), colors, None)


def save(path: Path, suffix: str, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None) -> None:
    """Write a PLY, OFF, STL or GLB file.

    Args:
        path: the file.
        suffix: ".ply", ".off", ".stl" or ".glb".
        vertices: (V, 3) finite coordinates.
        faces: (F, 3) vertex indices.
        colors: (V, 3) in [0, 1] or None.
    """
    rgb = None if colors is None else np.rint(colors * 255).astype(np.uint8)
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=rgb, process=False)
    # The OFF writer counts digits after the point; 17 keep float32 exact down to 1e-10.
    content = mesh.export(file_type=suffix[1:], **({"digits": 17} if suffix == ".off" else {}))
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices of exactly equal position, numbered in order of first appearance.

    Args:
        vertices: (V, 3) coordinates.
        faces: (F, 3) vertex indices.

    Returns:
        (W, 3) distinct vertices and the (F, 3) faces over them.
    """
    _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return vertices[first[order]], rank[inverse.reshape(-1)][faces]


def _part(scene: trimesh.Scene, node: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """Vertices in scene coordinates, faces and colors of one node, or None for points and lines."""
    matrix, name = scene.graph[node]
    mesh = scene.geometry[name]
    if not isinstance(mesh, trimesh.Trimesh):
        return None
    vertices = np.asarray(mesh.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(mesh.faces, np.int64)
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirror turns the winding over
    if mesh.visual.kind == "vertex":
        colors = mesh.visual.vertex_colors
    else:
        colors = mesh.vertex_attributes.get("color")  # where trimesh puts them when there are texture coordinates too
    if colors is None:
        return vertices, faces, None
    rgb = trimesh.visual.color.to_rgba(np.asarray(colors))[:, :3] / 255.0
    return vertices, faces, rgb


def _concatenated(parts: list, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    starts = np.cumsum([0] + [len(vertices) for vertices, _, _ in parts])
    vertices = np.concatenate([vertices for vertices, _, _ in parts])
    faces = np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts, strict=False)])
    missing = [colors is None for _, _, colors in parts]
    if all(missing):
        return vertices, faces, None
    if any(missing):
        warn(f"{path}: {sum(missing)} of {len(parts)} geometries have no vertex colors; they are grey")
    colors = [np.full((len(vertices), 3), GREY) if colors is None else colors for vertices, _, colors in parts]
    return vertices, faces, np.concatenate(colors)
