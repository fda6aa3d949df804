"""Meshes by formula: the middle at the origin, y up, faces counter-clockwise from outside, closed but for the plane.

Each shape is a function that returns a `Mesh`; below it the formula in NumPy, (vertices (V, 3), faces (F, 3)).

Shapes that unroll come with texture coordinates: uv_sphere, cylinder, torus and plane. Their texture is upright and not
mirrored seen from outside; it wraps around the y axis from +z over +x, with a seam, or two on the torus, that splits uv alone.
"""

import math
import operator
from typing import Any

import numpy as np

from .mesh import Mesh, cut_in_four

Data = tuple[np.ndarray, np.ndarray]


def icosphere(subdivisions: int = 3, radius: float = 1.0) -> Mesh:
    """A sphere of almost equal triangles: an icosahedron, each face cut in four `subdivisions` times.

        V = 10 * 4^n + 2,   F = 20 * 4^n

    Args:
        subdivisions: n, 0 or more; 3 gives 1,280 faces.
        radius: positive.

    Raises:
        ValueError: an argument out of range.
    """
    return Mesh(*_icosphere(subdivisions, radius))


def _icosphere(subdivisions: int, radius: float) -> Data:
    _whole("subdivisions", subdivisions, 0)
    _positive("radius", radius)
    golden = (1 + math.sqrt(5)) / 2
    # The corners of three golden rectangles, each in a plane of two axes.
    flat = np.array([[a, b * golden] for b in (-1, 1) for a in (-1, 1)])
    zero = np.zeros((4, 1))
    vertices = np.concatenate([np.hstack([flat, zero]), np.hstack([zero, flat]), np.hstack([flat[:, 1:], zero, flat[:, :1]])])
    faces = _hull_of_equal_edges(vertices)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    for _ in range(subdivisions):
        ends, faces = cut_in_four(faces, len(vertices))
        vertices = np.concatenate([vertices, vertices[ends].mean(axis=1)])
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    return radius * vertices, faces.astype(np.int32)


def _hull_of_equal_edges(vertices: np.ndarray) -> np.ndarray:
    """The triangles between neighbors at distance 2, turned outward: the faces of the icosahedron with edge 2."""
    distances = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
    near = np.abs(distances - 2) < 1e-9
    triples = np.array([(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]])
    a, b, c = (vertices[triples[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", a, np.cross(b, c)) < 0
    return np.where(inward[:, None], triples[:, ::-1], triples).astype(np.int32)


def uv_sphere(radius: float = 1.0, segments: tuple[int, int] = (48, 24)) -> Mesh:
    """A sphere of meridians and parallels, with one vertex at each pole.

        p = radius (sin t sin a, cos t, sin t cos a),   u = a / 2 pi,   v = t / pi

    Args:
        radius: positive.
        segments: around the axis, at least 3, and from pole to pole, at least 2.

    Raises:
        ValueError: an argument out of range.
    """
    vertices, faces = _uv_sphere(radius, segments)
    return Mesh(vertices, faces, **_unrolled_lathe(vertices, segments[0]))


def _uv_sphere(radius: float, segments: tuple[int, int]) -> Data:
    _positive("radius", radius)
    around, down = _segments(segments, 3, 2)
    t = np.pi * np.arange(1, down) / down
    return _lathe(np.stack([radius * np.sin(t), radius * np.cos(t)], axis=1), radius, -radius, around)


def cylinder(radius: float = 1.0, height: float = 2.0, segments: tuple[int, int] = (48, 1)) -> Mesh:
    """A cylinder around the y axis, closed by two disks with a vertex in the middle.

        p = (radius sin a, y, radius cos a),   |y| <= height / 2,   u = a / 2 pi

    v is the way from the middle of the upper disk over the side to the middle of the lower one, as a share of all of it.

    Args:
        radius, height: positive.
        segments: around the axis, at least 3, and along it, at least 1.

    Raises:
        ValueError: an argument out of range.
    """
    vertices, faces = _cylinder(radius, height, segments)
    return Mesh(vertices, faces, **_unrolled_lathe(vertices, segments[0]))


def _cylinder(radius: float, height: float, segments: tuple[int, int]) -> Data:
    _positive("radius", radius)
    _positive("height", height)
    around, along = _segments(segments, 3, 1)
    y = np.linspace(height / 2, -height / 2, along + 1)
    return _lathe(np.stack([np.full_like(y, radius), y], axis=1), height / 2, -height / 2, around)


def _lathe(profile: np.ndarray, top: float, bottom: float, around: int) -> Data:
    """A profile of (radius, y), from above to below, turned around the y axis and closed at heights `top` and `bottom`."""
    a = 2 * np.pi * np.arange(around) / around
    rings = np.stack([np.outer(profile[:, 0], np.sin(a)), np.tile(profile[:, 1:], around), np.outer(profile[:, 0], np.cos(a))], axis=2)
    vertices = np.concatenate([rings.reshape(-1, 3), [(0.0, top, 0.0), (0.0, bottom, 0.0)]])
    here, pole = np.arange(around), len(vertices) - 2
    right, last = (here + 1) % around, pole - around
    caps = np.concatenate([np.stack([here, right, np.full(around, pole)], 1), last + np.stack([right, here, np.full(around, around + 1)], 1)])
    return vertices, np.concatenate([_grid_faces(len(profile), around, False, True), caps]).astype(np.int32)


def _unrolled_lathe(vertices: np.ndarray, around: int) -> dict[str, np.ndarray]:
    """uv and uv_faces of a lathe's vertices and faces: u around the axis, v along the profile; each face at a pole has its own there."""
    profile = np.concatenate([vertices[-2:-1], vertices[:-2:around], vertices[-1:]])
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    u, middles = np.arange(around + 1) / around, (np.arange(around) + 0.5) / around
    uv = [np.stack(np.broadcast_arrays(u, v), axis=-1) for v in (way / way[-1])[1:-1]]
    uv += [np.stack([middles, np.full(around, v)], axis=-1) for v in (0.0, 1.0)]
    here, last = np.arange(around), (len(profile) - 3) * (around + 1)
    upper, lower = last + around + 1 + here, last + 2 * around + 1 + here
    caps = [np.stack([here, here + 1, upper], axis=1), np.stack([last + here + 1, last + here, lower], axis=1)]
    return {"uv": np.concatenate(uv), "uv_faces": np.concatenate([_grid_faces(len(profile) - 2, around + 1, False, False), *caps])}


def torus(radius: float = 1.0, tube: float = 0.4, segments: tuple[int, int] = (48, 24)) -> Mesh:
    """A ring around the y axis.

        p = ((radius + tube cos t) sin a, tube sin t, (radius + tube cos t) cos a),   u = a / 2 pi,   v = 1/2 - t / 2 pi

    Args:
        radius: from the middle of the ring to the middle of the tube, more than `tube`.
        tube: radius of the tube, positive.
        segments: around the axis, and around the tube, each at least 3.

    Raises:
        ValueError: an argument out of range.
    """
    vertices, faces = _torus(radius, tube, segments)
    around, about = segments
    return Mesh(vertices, faces, uv=_grid_uv(about, around), uv_faces=_grid_faces(about + 1, around + 1, False, False))


def _torus(radius: float, tube: float, segments: tuple[int, int]) -> Data:
    _positive("radius", radius)
    _positive("tube", tube)
    if tube >= radius:
        raise ValueError(f"tube: expected less than radius = {radius!r}, so that the ring does not meet itself, got {tube!r}")
    around, about = _segments(segments, 3, 3)
    a, t = 2 * np.pi * np.arange(around) / around, np.pi - 2 * np.pi * np.arange(about) / about  # from inside, where the seam is, upward
    reach = radius + tube * np.cos(t)
    rings = np.stack([np.outer(reach, np.sin(a)), np.repeat(tube * np.sin(t)[:, None], around, axis=1), np.outer(reach, np.cos(a))], axis=2)
    return rings.reshape(-1, 3), _grid_faces(about, around, True, True)


def cube(size: float = 1.0, subdivisions: int = 1) -> Mesh:
    """A cube whose sides share their vertices.

        V = 6 n^2 + 2,   F = 12 n^2

    Args:
        size: length of an edge, positive.
        subdivisions: n, cells along an edge, at least 1.

    Raises:
        ValueError: an argument out of range.
    """
    return Mesh(*_cube(size, subdivisions))


def _cube(size: float, subdivisions: int) -> Data:
    _positive("size", size)
    n = _whole("subdivisions", subdivisions, 1)
    i, j = (x.reshape(-1) for x in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    ends = (np.full_like(i, n), np.zeros_like(i))
    # On the side at +axis, j goes along the next axis and i against the one after it; on the other side i does not.
    sides = [np.roll(np.stack([end, j, n - i if end[0] else i], axis=1), axis, axis=1) for axis in range(3) for end in ends]
    keys, vertex_of = np.unique(np.concatenate(sides) @ np.array([(n + 1) ** 2, n + 1, 1]), return_inverse=True)
    corners = np.stack([keys // (n + 1) ** 2, keys // (n + 1) % (n + 1), keys % (n + 1)], axis=1)
    faces = np.concatenate([_grid_faces(n + 1, n + 1, False, False) + k * (n + 1) ** 2 for k in range(6)])
    return size * (corners / n - 0.5), vertex_of.reshape(-1)[faces].astype(np.int32)


def plane(size: float = 2.0, subdivisions: int = 1) -> Mesh:
    """A square at y = 0 that faces up.

        V = (n + 1)^2,   F = 2 n^2,   u = x / size + 1/2,   v = z / size + 1/2

    Args:
        size: length of an edge, positive.
        subdivisions: n, cells along an edge, at least 1.

    Raises:
        ValueError: an argument out of range.
    """
    return Mesh(*_plane(size, subdivisions), uv=_grid_uv(subdivisions, subdivisions))


def _plane(size: float, subdivisions: int) -> Data:
    _positive("size", size)
    n = _whole("subdivisions", subdivisions, 1)
    z, x = (size * (k.reshape(-1) / n - 0.5) for k in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    return np.stack([x, np.zeros_like(x), z], axis=1), _grid_faces(n + 1, n + 1, False, False)


def _grid_faces(rows: int, columns: int, rows_close: bool, columns_close: bool) -> np.ndarray:
    """Two triangles per cell of a grid of vertices, counter-clockwise where rows go down and columns to the right."""
    i, j = np.meshgrid(np.arange(rows if rows_close else rows - 1), np.arange(columns if columns_close else columns - 1), indexing="ij")
    below, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = i * columns + j, below * columns + j, below * columns + right, i * columns + right
    return np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3).astype(np.int32)


def _grid_uv(rows: int, columns: int) -> np.ndarray:
    """Texture coordinates at the corners of a grid of cells: v down, u to the right."""
    v, u = np.meshgrid(np.arange(rows + 1) / rows, np.arange(columns + 1) / columns, indexing="ij")
    return np.stack([u, v], axis=-1).reshape(-1, 2)


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return number


def _positive(name: str, value: Any) -> None:
    if not (isinstance(value, (int, float, np.number)) and 0 < value < math.inf):
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


def _segments(segments: Any, *least: int) -> list[int]:
    if not isinstance(segments, (tuple, list)) or len(segments) != 2:
        raise ValueError(f"segments: expected two whole numbers, got {segments!r}")
    return [_whole(f"segments[{k}]", n, least[k]) for k, n in enumerate(segments)]
