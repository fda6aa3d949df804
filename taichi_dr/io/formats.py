"""PLY, OFF, STL and GLB files through trimesh, which is kept from any merging or reordering of vertices."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from PIL import Image

from ..atlas import Surface, pack_surfaces
from .data import GREY, MeshData, bounded, flipped, warn
from .textures import eight_bit, image_values, read_image

# What keeps trimesh from re-indexing vertices at uv seams and from decoding images nobody asked for.
LOAD_OPTIONS = {".ply": {"fix_texture": False, "skip_materials": True}, ".glb": {"skip_materials": True}}


class _Part(NamedTuple):
    """One geometry of a file."""

    vertices: np.ndarray  # (V, 3) in scene coordinates
    faces: np.ndarray  # (F, 3)
    colors: np.ndarray | None  # (V, 3)
    name: str  # of the object that it is part of
    uv: np.ndarray | None = None  # (V, 2), v up
    image: Any = None  # of Pillow
    color: np.ndarray | None = None  # (3,) of the material; a factor of its image


def load(path: Path, suffix: str, textured: bool = False) -> MeshData:
    """Read a PLY, OFF, STL or GLB file; several geometries are concatenated with their transforms applied.

    Args:
        path: the file.
        suffix: ".ply", ".off", ".stl" or ".glb".
        textured: with the texture and objects of a GLB file, equal positions of an object welded if there is a texture.

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
            textured = textured and suffix == ".glb"
            options = {} if textured else LOAD_OPTIONS.get(suffix, {})
            # Read from memory, so that a file cannot name others to be read.
            scene = trimesh.load_scene(io.BytesIO(data), file_type=suffix[1:], process=False, **options)
            parts = [_part(scene, node) for node in scene.graph.nodes_geometry]
    except Exception as problem:  # trimesh raises about anything on malformed input
        raise ValueError(f"{path} is not a valid {kind} file ({type(problem).__name__}: {problem}); export it again") from problem
    parts = [part for part in parts if part is not None and len(part.faces)]
    if not parts:
        raise ValueError(f"{path} has no faces; a triangle mesh is needed, export it again with faces")
    for part in parts:
        if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
            raise ValueError(f"{path} has a face with a vertex index outside of [0, {len(part.vertices)}); export it again")
    vertices, faces = _joined(parts)
    if not np.isfinite(vertices).all():
        raise ValueError(f"{path} has a NaN or infinite coordinate; export it again")
    if suffix == ".stl":
        vertices, faces = weld(vertices, faces)
    mesh = MeshData(vertices, faces.astype(np.int32))
    if not textured:
        return mesh._replace(colors=_colors(parts, path))
    names = list(dict.fromkeys(part.name for part in parts))
    numbers = np.array([names.index(part.name) for part in parts])
    mesh = mesh._replace(objects=np.repeat(numbers, [len(part.faces) for part in parts]).astype(np.int32))
    surfaces = [_surface(part, path) for part in parts]
    if all(surface is None for surface in surfaces):
        return mesh._replace(colors=_colors(parts, path))
    if all(part.image is None for part in parts) and any(part.colors is not None for part in parts):
        return mesh._replace(colors=_colors(parts, path))
    owners = np.repeat(numbers, [len(part.vertices) for part in parts])
    welded, faces = weld(np.column_stack([owners, vertices]), faces)
    return mesh._replace(vertices=welded[:, 1:], faces=faces.astype(np.int32), **_texture(parts, surfaces, path))


def save(path: Path, suffix: str, mesh: MeshData) -> None:
    """Write a PLY, OFF, STL or GLB file.

    Args:
        path: the file.
        suffix: ".ply", ".off", ".stl" or ".glb".
        mesh: vertices, faces and what the format holds of colors and a texture, all in [0, 1].
    """
    if suffix == ".glb" and mesh.texture is not None and mesh.uv is not None and mesh.uv_faces is not None:
        exported = _split_at_seams(mesh.vertices, mesh.faces, mesh.uv, mesh.uv_faces, mesh.texture)
    else:
        rgb = None if mesh.colors is None or suffix in (".off", ".stl") else eight_bit(mesh.colors)
        exported = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=rgb, process=False)
    # The OFF writer counts digits after the point; 17 keep float32 exact down to 1e-10.
    content = exported.export(file_type=suffix[1:], **({"digits": 17} if suffix == ".off" else {}))
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _split_at_seams(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray, texture: np.ndarray) -> trimesh.Trimesh:
    """A vertex for each pair of position and texture coordinates, in the order of positions; those of no face stay too."""
    unused = np.setdiff1d(np.arange(len(vertices)), faces)
    pairs = np.concatenate([np.stack([faces, uv_faces], axis=-1).reshape(-1, 2), np.stack([unused, np.zeros_like(unused)], axis=-1)])
    pairs, inverse = np.unique(pairs, axis=0, return_inverse=True)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(eight_bit(texture)), baseColorFactor=[255] * 4, metallicFactor=0.0, roughnessFactor=1.0
    )
    visual = trimesh.visual.TextureVisuals(uv=flipped(uv)[pairs[:, 1]], material=material)
    return trimesh.Trimesh(vertices[pairs[:, 0]], inverse.reshape(-1)[: faces.size].reshape(faces.shape), visual=visual, process=False)


def weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices of exactly equal position, numbered in order of first appearance.

    Args:
        vertices: (V, N) coordinates.
        faces: (F, 3) vertex indices.

    Returns:
        (W, N) distinct vertices and the (F, 3) faces over them.
    """
    _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return vertices[first[order]], rank[inverse.reshape(-1)][faces]


def _part(scene: trimesh.Scene, node: str) -> _Part | None:
    """One node in scene coordinates, or None for points and lines."""
    matrix, name = scene.graph[node]
    mesh = scene.geometry[name]
    if not isinstance(mesh, trimesh.Trimesh):
        return None
    vertices = np.asarray(mesh.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(mesh.faces, np.int64)
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirror turns the winding over
    # trimesh makes a node of each material of a glTF mesh, under one node for the mesh.
    owner = str(scene.graph.transforms.parents.get(node)) if mesh.metadata.get("from_gltf_primitive") else str(node)
    part = _Part(vertices, faces, None, owner)
    if mesh.visual.kind == "vertex":
        colors = mesh.visual.vertex_colors
    else:
        colors = mesh.vertex_attributes.get("color")  # where trimesh puts them when there are texture coordinates too
    if colors is not None:
        part = part._replace(colors=trimesh.visual.color.to_rgba(np.asarray(colors))[:, :3] / 255.0)
    if mesh.visual.kind != "texture":
        return part
    factor = getattr(mesh.visual.material, "baseColorFactor", None)
    color = None if factor is None else trimesh.visual.color.to_rgba(factor)[:3] / 255.0
    uv = None if mesh.visual.uv is None else np.asarray(mesh.visual.uv, np.float64)
    if uv is None or uv.shape != (len(vertices), 2):
        return part._replace(color=color)
    return part._replace(uv=uv, image=getattr(mesh.visual.material, "baseColorTexture", None), color=color)


def _joined(parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    return np.concatenate([part.vertices for part in parts]), np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)])


def _colors(parts: list[_Part], path: Path) -> np.ndarray | None:
    missing = [part.colors is None for part in parts]
    if all(missing):
        return None
    if any(missing):
        warn(f"{path}: {sum(missing)} of {len(parts)} geometries have no vertex colors; they are grey")
    return np.concatenate([np.full((len(part.vertices), 3), GREY) if part.colors is None else part.colors for part in parts])


def _surface(part: _Part, path: Path) -> tuple[tuple, Surface] | None:
    """What a part shows, with a key that parts of the same material share; None where it has no material."""
    factor = np.ones(3) if part.color is None else part.color
    if part.image is not None:
        try:
            stream = getattr(part.image, "fp", None)  # what has not been decoded yet
            image = read_image(stream.getvalue()) if isinstance(stream, io.BytesIO) else image_values(part.image)
            return (id(part.image), *factor), Surface(image * factor)
        except Exception as problem:  # image decoders raise about anything
            warn(f"{path}: an image cannot be read ({problem}); its faces get a plain color")
    if part.image is None and part.color is None:
        return None
    return (None, *factor), Surface(np.broadcast_to(factor, (1, 1, 3)))


def _texture(parts: list[_Part], surfaces: list[tuple[tuple, Surface] | None], path: Path) -> dict[str, np.ndarray]:
    """uv, uv_faces and texture: those of the file if it has one material, else an atlas."""
    known: dict[tuple, tuple[int, Surface]] = {}
    faces = np.split(_joined(parts)[1], np.cumsum([len(part.faces) for part in parts])[:-1])
    face_surfaces, corners, corner_ids = [], [], []
    for part, indices, surface in zip(parts, faces, surfaces, strict=True):
        if surface is None:
            if part.colors is not None:
                warn(f"{path}: a part has vertex colors where others have a texture; it gets their mean")
            color = np.full(3, GREY) if part.colors is None else part.colors.mean(axis=0)
            surface = (None, *color), Surface(np.broadcast_to(color, (1, 1, 3)))
        number, _ = known.setdefault(surface[0], (len(known), surface[1]))
        face_surfaces.append(np.full(len(part.faces), number))
        mapped = part.uv is not None and surface[0][0] is not None
        corners.append(flipped(bounded(part.uv))[part.faces] if mapped else np.full((*part.faces.shape, 2), 0.5))
        corner_ids.append(indices if mapped else np.full_like(indices, -1))
    if len(known) == 1 and all(part.uv is not None for part in parts):
        uv = np.concatenate([flipped(bounded(part.uv)) for part in parts])
        ((_, surface),) = known.values()
        return {"uv": uv, "uv_faces": np.concatenate(faces).astype(np.int32), "texture": surface.image}
    gathered = np.concatenate(face_surfaces), np.concatenate(corners), np.concatenate(corner_ids)
    return pack_surfaces([surface for _, surface in known.values()], *gathered, lambda text: warn(f"{path}: {text}"))._asdict()
