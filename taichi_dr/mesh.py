"""Triangle meshes: vertices, faces, colors or texture; which faces, edges and vertices touch each other."""

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

    Texture coordinates, stated here once: uv (0, 0) is the top left corner of the texture, u goes right and v DOWN, as in glTF.
    Of an H x W texture, texel (row i, column j) has its center at

        u = (j + 1/2) / W,   v = (i + 1/2) / H.

    Faces and uv faces are apart, so that a seam splits texture coordinates and never vertices.

    Args:
        vertices: positions in world space, (V, 3) or (B, V, 3) numbers, or a Taichi array (B, V) of vec3.
        faces: vertex indices, counter-clockwise seen from outside, (F, 3) numbers or (F,) of ivec3.
        colors: RGB per vertex, (V, 3) or (B, V, 3) numbers, or (B, V) of vec3; grey where left out.
        texels: RGB per texel, (F, R, R, 3) numbers or (F, R, R) of vec3, instead of `colors`; texel layout as in SoftRas.
        uv: texture coordinates, (T, 2) or (B, T, 2) numbers, or (B, T) of vec2.
        uv_faces: indices of `uv` at the corners of each face, (F, 3) numbers or (F,) of ivec3; `faces` where left out, if T = V.
        texture: RGB image that `uv` looks up, (H, W, 3) or (B, H, W, 3) numbers, or (B, H, W) of vec3, instead of `colors`.
        normal_map: normals that `uv` looks up, as RGB in [0, 1], (H, W, 3) or (B, H, W, 3) numbers, or (B, H, W) of vec3, for
            `SoftRenderer(shading="phong")`: red right, green up in the image (OpenGL), blue out of the surface.
        objects: which object each face belongs to, (F,) whole numbers from 0; 0 where left out.

    Taichi arrays are taken as they are, so that a mesh can share its arrays with an optimizer. `vertices`, `colors`,
    `texels`, `uv`, `texture` and `normal_map` carry gradients and may be changed in place or replaced; `faces` and `uv_faces` may not
    be changed in place.

    Raises:
        ValueError: wrong shapes or types, no vertices or faces, an index out of range, two of colors, texels and texture
            at once, a texture or a normal map without uv.
    """

    def __init__(
        self,
        vertices: Any,
        faces: Any,
        colors: Any = None,
        texels: Any = None,
        *,
        uv: Any = None,
        uv_faces: Any = None,
        texture: Any = None,
        normal_map: Any = None,
        objects: Any = None,
    ) -> None:
        runtime.ensure_started()
        given = [name for name, x in (("colors", colors), ("texels", texels), ("texture", texture)) if x is not None]
        if len(given) > 1:
            counted, all_of, rest = ("two", "both", "one") if len(given) == 2 else ("three", "all", "two")
            raise ValueError(f"{' and '.join(given)}: expected one of the {counted}, got {all_of}; leave {rest} out")
        self.vertices = _batched("vertices", vertices)
        self.faces = _face_array("faces", faces, self.vertices.shape[1])
        self.colored = bool(given)
        self.texels: Array | None = None if texels is None else _texel_array(texels, self.faces.shape[0])
        self.uv, self.uv_faces = self._coordinates(uv, uv_faces)
        self.texture: Array | None = None if texture is None else _texture_array("texture", texture)
        self.normal_map: Array | None = None if normal_map is None else _texture_array("normal_map", normal_map)
        for name, image in (("texture", self.texture), ("normal_map", self.normal_map)):
            if image is not None and self.uv is None:
                raise ValueError(f"{name}: expected uv with it, got none; give uv, (T, 2), and uv_faces, (F, 3)")
        self.colors: Array | None = None
        if texels is None and texture is None:
            grey = np.full((1, self.vertices.shape[1], 3), GREY)
            self.colors = _batched("colors", grey if colors is None else colors)
            if self.colors.shape[1] != self.vertices.shape[1]:
                raise ValueError(f"colors: expected one per vertex, {self.vertices.shape[1]}, got {self.colors.shape[1]}")
        batched = {"vertices": self.vertices, "colors": self.colors, "uv": self.uv, "texture": self.texture, "normal_map": self.normal_map}
        batch_size(**{name: x.shape[0] for name, x in batched.items() if x is not None})
        self.objects = _object_array(objects, self.faces.shape[0])

    def _coordinates(self, uv: Any, uv_faces: Any) -> tuple[Array | None, Array | None]:
        if uv is None:
            if uv_faces is not None:
                raise ValueError("uv_faces: expected uv with it, got none; give uv, (T, 2), or leave uv_faces out")
            return None, None
        uv = _batched("uv", uv, 2, "T")
        if uv_faces is None:
            if uv.shape[1] != self.vertices.shape[1]:
                raise ValueError(
                    f"uv: expected one per vertex, {self.vertices.shape[1]}, where there are no uv_faces, got {uv.shape[1]}; give uv_faces, (F, 3)"
                )
            return uv, self.faces
        uv_faces = _face_array("uv_faces", uv_faces, uv.shape[1])
        if uv_faces.shape[0] != self.faces.shape[0]:
            raise ValueError(f"uv_faces: expected one per face, {self.faces.shape[0]}, got {uv_faces.shape[0]}")
        return uv, uv_faces

    @staticmethod
    def load(path: str | os.PathLike, texture: str | None = "surface", texture_resolution: int = 5) -> "Mesh":
        """Read a mesh from an OBJ, PLY, OFF, STL or GLB file; vertices keep their order.

        Args:
            path: the file.
            texture: what becomes of an OBJ's materials: "surface" bakes them to R x R texels per face, "vertex" to
                colors per vertex, None leaves them out. "uv" keeps texture coordinates and image, of GLB files too; several
                materials are packed into one image (`io.read` tells how).
            texture_resolution: R.

        Raises:
            FileNotFoundError, ValueError: no such file; a malformed one, with the line.
        """
        data = io.read(path, texture, texture_resolution)
        colors = data.colors if data.texels is None and data.texture is None else None
        return Mesh(data.vertices, data.faces, colors, data.texels, uv=data.uv, uv_faces=data.uv_faces, texture=data.texture, objects=data.objects)

    def save(self, path: str | os.PathLike) -> None:
        """Write the mesh to an OBJ, PLY, OFF, STL or GLB file.

        An OBJ keeps vertex colors, uv and objects, or gets its texture or texels as a PNG and an MTL beside it. A GLB keeps
        the texture and its uv, vertices split at the seams; texels become vertex colors. PLY keeps vertex colors, with
        texels or a texture averaged to them. OFF and STL have no colors. Textures are written in 8 bits, clipped to
        [0, 1], without gamma change.

        Raises:
            ValueError: a batch of several meshes, or values that are not finite.
            OSError: the file cannot be written.
        """
        batches = [x.shape[0] for x in (self.vertices, self.colors, self.uv, self.texture) if x is not None]
        if max(batches) != 1:
            raise ValueError(f"mesh: expected one mesh, got a batch of {max(batches)}; save them one by one")
        vertices, faces, suffix = read(self.vertices)[0], read(self.faces), Path(path).suffix.lower()
        colors = read(self.colors)[0] if self.colors is not None and self.colored else None
        texels = None if self.texels is None else read(self.texels)
        uv = None if self.uv is None else read(self.uv)[0]
        uv_faces = None if self.uv_faces is None else read(self.uv_faces)
        texture = None if self.texture is None else read(self.texture)[0]
        objects = read(self.objects)
        if uv is not None and not np.isfinite(uv).all():
            raise ValueError("uv: expected finite numbers, got NaN or infinity; the mesh cannot be saved with them")
        if suffix in (".off", ".stl"):
            colors = texels = texture = None
        elif suffix != ".obj" and texels is not None:
            last = texels.shape[1] - 1  # the texels nearest to the corners
            colors, texels = vertex_means(np.stack([texels[:, 0, last], texels[:, last, 0], texels[:, 0, 0]], axis=1), faces, len(vertices)), None
        elif suffix == ".ply" and texture is not None:
            colors, texture = vertex_means(io.sample_image(texture, io.flipped(uv))[uv_faces], faces, len(vertices)), None
        if suffix not in (".obj", ".glb"):
            uv = uv_faces = None
        if suffix != ".obj":
            objects = None
        io.write(path, vertices, faces, colors, texels, uv, uv_faces, texture, objects)

    def normalized(self) -> "Mesh":
        """The mesh moved and scaled so that its bounding box has its center at the origin and its longest side is 2."""
        vertices = read(self.vertices)
        low, high = vertices.min(axis=(0, 1)), vertices.max(axis=(0, 1))
        vertices = (vertices - (low + high) / 2) * (2 / max((high - low).max(), 1e-30))
        return self.with_vertices(array(vertices))

    def with_vertices(self, vertices: Array) -> "Mesh":
        """The mesh at other vertex positions, (B, V) of vec3, such as of `transform`; all else is shared."""
        expect("vertices", vertices, 3, 2, "(B, V) of vec3")
        if vertices.shape[1] != self.vertices.shape[1]:
            raise ValueError(f"vertices: expected {self.vertices.shape[1]}, as the mesh has, got {vertices.shape[1]}; make a new Mesh")
        copy = Mesh.__new__(Mesh)
        copy.__dict__.update(self.__dict__, vertices=vertices)
        return copy


def checked_mesh(mesh: Any) -> tuple[Array, Array]:
    """The vertices, (B, V) of vec3, and faces, (F,) of ivec3, of a mesh, or of anything that has both."""
    if not (hasattr(mesh, "vertices") and hasattr(mesh, "faces")):
        raise ValueError(f"mesh: expected a mesh with vertices and faces, got {type(mesh).__name__}; make it with dr.Mesh(vertices, faces)")
    expect("mesh.vertices", mesh.vertices, 3, 2, "(B, V) of vec3")
    expect("mesh.faces", mesh.faces, 3, 1, "(F,) of ivec3", integers=True)
    return mesh.vertices, mesh.faces


def _batched(name: str, values: Any, components: int = 3, count: str = "V") -> Array:
    """(B, V) of vec3 from (V, 3) or (B, V, 3) numbers, or from such an array; or of other components and another letter."""
    if not isinstance(values, ti.Ndarray):
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.ndim not in (2, 3) or numbers.shape[-1] != components or 0 in numbers.shape:
            shapes = f"({count}, {components}) or (B, {count}, {components})"
            raise ValueError(f"{name}: expected numbers of shape {shapes}, at least one, got shape {numbers.shape}")
        values = array(numbers if numbers.ndim == 3 else numbers[None])
    expect(name, values, components, 2, f"(B, {count}) of vec{components}")
    return values


def _face_array(name: str, values: Any, count: int) -> Array:
    numbers = read(values) if isinstance(values, ti.Ndarray) else np.asarray(values)
    if numbers.ndim != 2 or numbers.shape[1] != 3 or len(numbers) == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected whole numbers of shape (F, 3), at least one face, got shape {numbers.shape} of {numbers.dtype}")
    _check_indices(name, numbers, count)
    return values if isinstance(values, ti.Ndarray) else array(numbers, np.int32)


def _check_indices(name: str, indices: np.ndarray, count: int) -> None:
    bad = np.flatnonzero((indices < 0).any(axis=1) | (indices >= count).any(axis=1))
    if bad.size:
        raise ValueError(f"{name}: expected indices from 0 to {count - 1}, got {indices[bad[0]].tolist()} in face {bad[0]}; fix or drop that face")


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


def _texture_array(name: str, values: Any) -> Array:
    """(B, H, W) of vec3 from (H, W, 3) or (B, H, W, 3) numbers, or from such an array."""
    if not isinstance(values, ti.Ndarray):
        numbers = np.asarray(values)
        if numbers.dtype.kind != "f":  # 8-bit values as an image reader gives them would come out as 255 times white
            raise ValueError(f"{name}: expected floats from 0 to 1, got {numbers.dtype}; divide an 8-bit image by 255")
        if numbers.ndim not in (3, 4) or numbers.shape[-1] != 3 or 0 in numbers.shape:
            raise ValueError(f"{name}: expected numbers of shape (H, W, 3) or (B, H, W, 3), at least one texel, got shape {numbers.shape}")
        values = array(numbers if numbers.ndim == 4 else numbers[None])
    expect(name, values, 3, 3, "(B, H, W) of vec3")
    return values


def _object_array(values: Any, face_count: int) -> Array:
    if values is None:
        return numbered(np.zeros(face_count, np.int32))
    numbers = read(values) if isinstance(values, ti.Ndarray) else np.asarray(values)
    if numbers.shape != (face_count,) or numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= 2**31:
        raise ValueError(f"objects: expected a whole number from 0 for each of {face_count} faces, got shape {numbers.shape} of {numbers.dtype}")
    # A short list that went through dr.array is one vector; kernels want numbers.
    return values if isinstance(values, ti.Ndarray) and not values.element_shape else numbered(numbers)


def vertex_means(at_corners: np.ndarray, faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """Per vertex, the mean of (F, 3, 3) colors over its corners."""
    sums, counts = np.zeros((vertex_count, 3)), np.zeros((vertex_count, 1))
    np.add.at(sums, faces, at_corners)
    np.add.at(counts, faces, 1)
    return sums / np.maximum(counts, 1)


def one_mesh(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) in float64 and faces (F, 3) in int64 of a mesh that is no batch, for tools that look at its shape.

    Raises:
        ValueError: no mesh, several meshes, or a vertex that is not finite.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh: expected a dr.Mesh, got {type(mesh).__name__}; make one by dr.Mesh(vertices, faces)")
    if mesh.vertices.shape[0] != 1:
        raise ValueError(f"mesh: expected one mesh, got a batch of {mesh.vertices.shape[0]}; take them one by one")
    vertices, faces = read(mesh.vertices)[0].astype(np.float64), read(mesh.faces).astype(np.int64)
    bad = np.flatnonzero(~np.isfinite(vertices).all(axis=1))
    if bad.size:
        raise ValueError(
            f"mesh: expected finite vertices, got {vertices[bad[0]].tolist()} as vertex {bad[0]}; the fit may have diverged, lower its lr"
        )
    _check_indices("faces", faces, len(vertices))
    return vertices, faces


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
    """The incidence of a face or uv face array, computed once per array. Raises a ValueError for an index out of range."""
    known = _corners.setdefault(faces, {})
    if vertex_count not in known:
        indices = read(faces)
        _check_indices("faces", indices, vertex_count)
        known[vertex_count] = incidence(indices, vertex_count)
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


class Across(NamedTuple):
    """What is on the other side of each side of a face, from corner k to the next, where one other face is there."""

    faces: Array  # (F,) of ivec3: the other face, -1 where there is none, or more than one
    tips: Array  # (F,) of ivec3: its vertex opposite the side, a vertex of the face itself where there is none


def across(faces: Array, vertex_count: int) -> Across:
    """What is across the sides of a face array, computed once per array. Raises a ValueError for an index out of range."""
    return _topology(_build_across, faces, vertex_count)


_topologies: "weakref.WeakKeyDictionary[Array, dict[tuple[Any, int], Any]]" = weakref.WeakKeyDictionary()


def _topology(build: Any, faces: Array, vertex_count: int) -> Any:
    known = _topologies.setdefault(faces, {})
    if (build, vertex_count) not in known:
        indices = read(faces)
        _check_indices("faces", indices, vertex_count)
        known[build, vertex_count] = build(indices, vertex_count)
    return known[build, vertex_count]


def _sides(faces: np.ndarray) -> np.ndarray:
    """(3 F, 3) of edge vertices v0 <= v1 and opposite vertex, by face."""
    a, b, c = faces.T
    sides = np.stack([np.stack(side, axis=1) for side in ((a, b, c), (b, c, a), (c, a, b))], axis=1).reshape(-1, 3)
    return np.concatenate([np.sort(sides[:, :2], axis=1), sides[:, 2:]], axis=1)


def cut_in_four(faces: np.ndarray, vertex_count: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of faces as (E, 2) vertices v0 <= v1, ascending, and each face as four, with vertex V + e in the middle of edge e."""
    low, high = np.minimum(faces, faces[:, [1, 2, 0]]), np.maximum(faces, faces[:, [1, 2, 0]])
    keys, edge_of = np.unique(low.astype(np.int64) * vertex_count + high, return_inverse=True)
    ab, bc, ca = vertex_count + edge_of.reshape(-1, 3).T
    a, b, c = faces.T
    cut = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    return np.stack([keys // vertex_count, keys % vertex_count], axis=1), cut


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


def _build_across(faces: np.ndarray, vertex_count: int) -> Across:
    sides = _sides(faces)
    order = np.lexsort((sides[:, 1], sides[:, 0]))
    ends = sides[order, :2]
    starts = np.flatnonzero(np.concatenate([[True], (ends[1:] != ends[:-1]).any(axis=1)]))
    pairs = starts[np.diff(np.concatenate([starts, [len(ends)]])) == 2]
    one, other = order[pairs], order[pairs + 1]
    found, tips = np.full(len(sides), -1), np.repeat(faces[:, 0], 3)
    found[one], found[other], tips[one], tips[other] = other // 3, one // 3, sides[other, 2], sides[one, 2]
    return Across(array(found.reshape(-1, 3), np.int32), array(tips.reshape(-1, 3), np.int32))


def _grouped(owners: np.ndarray, values: np.ndarray, vertex_count: int) -> tuple[Array, Array]:
    """Offsets (V + 1,), and the values of owner 0, then those of owner 1, ...; values of one owner keep their order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=vertex_count))])
    return numbered(offsets), numbered(values[np.argsort(owners, kind="stable")])


def numbered(values: np.ndarray) -> Array:
    """A list of integers, which stays one where `array` would make a vector of it; one zero where it is empty."""
    out = empty(int, max(1, len(values)))
    write(out, values if len(values) else np.zeros(1))
    return out


def _rows(values: np.ndarray) -> Array:
    """An (N, K) array as N vectors; one of zeros where it is empty, since Taichi has no empty arrays."""
    return array(values if len(values) else np.zeros((1, values.shape[1])), np.int32)
