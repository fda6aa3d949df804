"""Triangle meshes: vertices, faces, colors; which faces, edges and vertices touch each other."""

import weakref
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, array, empty, read, write


class Incidence(NamedTuple):
    """Which slots of an index list name vertex v: `slots[offsets[v]:offsets[v + 1]]`, ascending.

    Slot s of an (N, K) index list is entry s % K of row s // K. Sums over a vertex's slots run in this order, so
    they are the same in every run.
    """

    offsets: Array  # (V + 1,)
    slots: Array  # (N * K,)


def incidence(indices: np.ndarray, vertex_count: int) -> Incidence:
    """The incidence of an (N, K) list of vertex indices."""
    flat = indices.reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=vertex_count))])
    return Incidence(array(offsets, np.int32), array(np.argsort(flat, kind="stable"), np.int32))


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
    return Edges(_rows(ends), len(ends), Incidence(*_grouped(ends.reshape(-1), np.arange(ends.size), vertex_count)))


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
    return Hinges(_rows(corners), len(corners), Incidence(*_grouped(corners.reshape(-1), np.arange(corners.size), vertex_count)))


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
