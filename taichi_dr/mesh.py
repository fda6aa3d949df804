"""Triangle meshes: vertices, faces, colors; which faces, edges and vertices touch each other."""

import os
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from . import io, runtime
from .arrays import Array, array, batch_size, empty, expect, read, write

GREY = 0.5  # color of a mesh that has none


class Mesh:
    """A triangle mesh with colors; a batch of meshes if `vertices` has several, all with the same faces.

    Args:
        vertices: positions in world space, (V, 3) or (B, V, 3) numbers, or a Taichi array (B, V) of vec3.
        faces: vertex indices, counter-clockwise seen from outside, (F, 3) numbers or (F,) of ivec3.
        colors: RGB per vertex, (V, 3) or (B, V, 3) numbers, or (B, V) of vec3; grey where left out.
        texels: RGB per texel, (F, R, R, 3) numbers or (F, R, R) of vec3, instead of `colors`; texel layout as in SoftRas.

    Taichi arrays are taken as they are, so that a mesh can share its arrays with an optimizer. `vertices`, `colors`
    and `texels` carry gradients and may be changed in place or replaced; `faces` may not be changed in place.

    Raises:
        ValueError: wrong shapes or types, no vertices or faces, a face index out of range, colors and texels at once.
    """

    def __init__(self, vertices: Any, faces: Any, colors: Any = None, texels: Any = None) -> None:
        runtime.ensure_started()
        if colors is not None and texels is not None:
            raise ValueError("colors and texels: expected one of the two, got both; leave one out")
        self.vertices = _batched("vertices", vertices)
        self.faces = _face_array(faces, self.vertices.shape[1])
        self.colored = colors is not None or texels is not None
        self.texels: Array | None = None if texels is None else _texel_array(texels, self.faces.shape[0])
        self.colors: Array | None = None
        if texels is None:
            grey = np.full((1, self.vertices.shape[1], 3), GREY)
            self.colors = _batched("colors", grey if colors is None else colors)
            if self.colors.shape[1] != self.vertices.shape[1]:
                raise ValueError(f"colors: expected one per vertex, {self.vertices.shape[1]}, got {self.colors.shape[1]}")
            batch_size(vertices=self.vertices.shape[0], colors=self.colors.shape[0])

    @staticmethod
    def load(path: str | os.PathLike, texture: str | None = "surface", texture_resolution: int = 5) -> "Mesh":
        """Read a mesh from an OBJ, PLY, OFF, STL or GLB file; vertices keep their order.

        Args:
            path: the file.
            texture: what becomes of an OBJ's materials: "surface" bakes them to R x R texels per face, "vertex" to
                colors per vertex, None leaves them out.
            texture_resolution: R.

        Raises:
            FileNotFoundError, ValueError: no such file; a malformed one, with the line.
        """
        data = io.read(path, texture, texture_resolution)
        return Mesh(data.vertices, data.faces, data.colors if data.texels is None else None, data.texels)

    def save(self, path: str | os.PathLike) -> None:
        """Write the mesh to an OBJ, PLY, OFF, STL or GLB file.

        An OBJ keeps vertex colors, or gets its texels as a PNG and an MTL beside it. PLY and GLB keep vertex colors, texels
        averaged to them. OFF and STL have no colors.

        Raises:
            ValueError: a batch of several meshes, or values that are not finite.
            OSError: the file cannot be written.
        """
        if self.vertices.shape[0] != 1:
            raise ValueError(f"mesh: expected one mesh, got a batch of {self.vertices.shape[0]}; save them one by one")
        vertices, faces, suffix = read(self.vertices)[0], read(self.faces), Path(path).suffix.lower()
        texels = None if self.texels is None else read(self.texels)
        colors = read(self.colors)[0] if self.colors is not None and self.colored else None
        if suffix in (".off", ".stl"):
            colors = texels = None
        elif suffix != ".obj" and texels is not None:
            colors, texels = _vertex_means(texels, faces, len(vertices)), None
        io.write(path, vertices, faces, colors, texels)

    def normalized(self) -> "Mesh":
        """The mesh moved and scaled so that its bounding box has its center at the origin and its longest side is 2."""
        vertices = read(self.vertices)
        low, high = vertices.min(axis=(0, 1)), vertices.max(axis=(0, 1))
        vertices = (vertices - (low + high) / 2) * (2 / max((high - low).max(), 1e-30))
        copy = Mesh.__new__(Mesh)
        copy.__dict__.update(self.__dict__, vertices=array(vertices))
        return copy


def _batched(name: str, values: Any) -> Array:
    """(B, V) of vec3 from (V, 3) or (B, V, 3) numbers, or from such an array."""
    if not isinstance(values, ti.Ndarray):
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.ndim not in (2, 3) or numbers.shape[-1] != 3 or 0 in numbers.shape:
            raise ValueError(f"{name}: expected numbers of shape (V, 3) or (B, V, 3), at least one, got shape {numbers.shape}")
        values = array(numbers if numbers.ndim == 3 else numbers[None])
    expect(name, values, 3, 2, "(B, V) of vec3")
    return values


def _face_array(values: Any, vertex_count: int) -> Array:
    numbers = read(values) if isinstance(values, ti.Ndarray) else np.asarray(values)
    if numbers.ndim != 2 or numbers.shape[1] != 3 or len(numbers) == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"faces: expected whole numbers of shape (F, 3), at least one face, got shape {numbers.shape} of {numbers.dtype}")
    bad = np.flatnonzero((numbers < 0).any(axis=1) | (numbers >= vertex_count).any(axis=1))
    if bad.size:
        raise ValueError(
            f"faces: expected indices from 0 to {vertex_count - 1}, got {numbers[bad[0]].tolist()} in face {bad[0]}; fix or drop that face"
        )
    return values if isinstance(values, ti.Ndarray) else array(numbers, np.int32)


def _texel_array(values: Any, face_count: int) -> Array:
    if not isinstance(values, ti.Ndarray):
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.ndim != 4 or numbers.shape[-1] != 3:
            raise ValueError(f"texels: expected numbers of shape (F, R, R, 3), got {numbers.shape}")
        values = array(numbers)
    expect("texels", values, 3, 3, "(F, R, R) of vec3")
    if values.shape[0] != face_count or values.shape[1] != values.shape[2]:
        raise ValueError(f"texels: expected {face_count} faces of R x R texels, got shape {tuple(values.shape)}")
    return values


def _vertex_means(texels: np.ndarray, faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """Per vertex, the mean over its faces of the texel nearest to it."""
    last = texels.shape[1] - 1
    at_corners = np.stack([texels[:, 0, last], texels[:, last, 0], texels[:, 0, 0]], axis=1)
    sums, counts = np.zeros((vertex_count, 3)), np.zeros((vertex_count, 1))
    np.add.at(sums, faces, at_corners)
    np.add.at(counts, faces, 1)
    return sums / np.maximum(counts, 1)


# --- Topology ---------------------------------------------------------------------------------------------------


class Incidence(NamedTuple):
    """Which slots of an index list name vertex v: `slots[offsets[v]:offsets[v + 1]]`, ascending.

    Slot s of an (N, K) index list is entry s % K of row s // K. Sums over a vertex's slots run in this order, so
    they are the same in every run.
    """

    offsets: Array  # (V + 1,)
    slots: Array  # (N * K,)


def incidence(indices: np.ndarray, vertex_count: int) -> Incidence:
    """The incidence of an (N, K) list of vertex indices."""
    return Incidence(*_grouped(indices.reshape(-1), np.arange(indices.size), vertex_count))


_corners: "weakref.WeakKeyDictionary[Array, dict[int, Incidence]]" = weakref.WeakKeyDictionary()


def corner_incidence(faces: Array, vertex_count: int) -> Incidence:
    """The incidence of a face array, computed once per array."""
    known = _corners.setdefault(faces, {})
    if vertex_count not in known:
        known[vertex_count] = incidence(read(faces), vertex_count)
    return known[vertex_count]


class Edges(NamedTuple):
    """Every edge of a mesh once, as its vertices v0 < v1, in ascending order; one row of zeros where there is none."""

    ends: Array  # (E,) of ivec2
    count: int
    incidence: Incidence  # of `ends`


class Neighbors(NamedTuple):
    """The vertices that share an edge with vertex v: `vertices[offsets[v]:offsets[v + 1]]`, ascending."""

    offsets: Array  # (V + 1,)
    vertices: Array  # (2 E,)
    edges: int  # E


class Hinges(NamedTuple):
    """Every edge between two faces as (v0, v1, v2, v3): the edge, v0 < v1, then the opposite vertex of either face.

    Of an edge with more faces only the first two count. One row of zeros where there is no such edge.
    """

    corners: Array  # (N,) of ivec4
    count: int
    incidence: Incidence  # of `corners`


def edges(faces: Array, vertex_count: int) -> Edges:
    """The edges of a face array, computed once per array. Raises a ValueError for an index out of range."""
    return _topology(_build_edges, faces, vertex_count)


def neighbors(faces: Array, vertex_count: int) -> Neighbors:
    """The neighbors by the edges of a face array, computed once per array. Raises a ValueError for an index out of range."""
    return _topology(_build_neighbors, faces, vertex_count)


def hinges(faces: Array, vertex_count: int) -> Hinges:
    """The edges between two faces of a face array, computed once per array. Raises a ValueError for an index out of range."""
    return _topology(_build_hinges, faces, vertex_count)


_topologies: "weakref.WeakKeyDictionary[Array, dict[tuple[Any, int], Any]]" = weakref.WeakKeyDictionary()


def _topology(build: Any, faces: Array, vertex_count: int) -> Any:
    known = _topologies.setdefault(faces, {})
    if (build, vertex_count) not in known:
        indices = read(faces)
        bad = np.flatnonzero((indices < 0).any(axis=1) | (indices >= vertex_count).any(axis=1))
        if bad.size:
            first = bad[0]
            raise ValueError(
                f"faces: expected indices from 0 to {vertex_count - 1}, got {indices[first].tolist()} in face {first}; fix or drop that face"
            )
        known[build, vertex_count] = build(indices, vertex_count)
    return known[build, vertex_count]


def _sides(faces: np.ndarray) -> np.ndarray:
    """(3 F, 3) of edge vertices v0 <= v1 and opposite vertex, by face."""
    a, b, c = faces.T
    sides = np.stack([np.stack(side, axis=1) for side in ((a, b, c), (b, c, a), (c, a, b))], axis=1).reshape(-1, 3)
    return np.concatenate([np.sort(sides[:, :2], axis=1), sides[:, 2:]], axis=1)


def _edge_list(faces: np.ndarray) -> np.ndarray:
    """(E, 2) of v0 < v1, ascending; the side of a face from a vertex to itself is no edge."""
    sides = _sides(faces)[:, :2]
    return np.unique(sides[sides[:, 0] < sides[:, 1]], axis=0)


def _build_edges(faces: np.ndarray, vertex_count: int) -> Edges:
    ends = _edge_list(faces)
    return Edges(_rows(ends), len(ends), incidence(ends, vertex_count))


def _build_neighbors(faces: np.ndarray, vertex_count: int) -> Neighbors:
    ends = _edge_list(faces)
    both = np.concatenate([ends, ends[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return Neighbors(*_grouped(both[:, 0], both[:, 1], vertex_count), len(ends))


def _build_hinges(faces: np.ndarray, vertex_count: int) -> Hinges:
    a, b, c = faces.T
    sides = _sides(faces[(a != b) & (b != c) & (c != a)])
    sides = sides[np.lexsort((sides[:, 1], sides[:, 0]))]  # stable: the faces of an edge stay in their order
    same = (sides[1:, :2] == sides[:-1, :2]).all(axis=1)  # side k + 1 is on the edge of side k
    first = np.flatnonzero(same & ~np.concatenate([[False], same[:-1]])) if same.size else np.zeros(0, int)
    corners = np.concatenate([sides[first], sides[first + 1, 2:]], axis=1)
    return Hinges(_rows(corners), len(corners), incidence(corners, vertex_count))


def _grouped(owners: np.ndarray, values: np.ndarray, vertex_count: int) -> tuple[Array, Array]:
    """Offsets (V + 1,), and the values of owner 0, then those of owner 1, ...; values of one owner keep their order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=vertex_count))])
    return _numbers(offsets), _numbers(values[np.argsort(owners, kind="stable")])


def _numbers(values: np.ndarray) -> Array:
    """A list of integers, which stays one where `array` would make a vector of it; one zero where it is empty."""
    out = empty(int, max(1, len(values)))
    write(out, values if len(values) else np.zeros(1))
    return out


def _rows(values: np.ndarray) -> Array:
    """An (N, K) array as N vectors; one of zeros where it is empty, since Taichi has no empty arrays."""
    return array(values if len(values) else np.zeros((1, values.shape[1])), np.int32)
