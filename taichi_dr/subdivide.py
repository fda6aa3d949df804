"""Subdivision: every triangle cut in four, as it is or toward a smooth surface."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .arrays import Array, array, read
from .mesh import Mesh, cut_in_four

MOST_FACES = 50_000_000


class Subdivided(NamedTuple):
    """A finer mesh, and a sparse (V new, V old) matrix: `weights @ x` carries what old vertices have to the new ones."""

    mesh: Mesh
    weights: sparse.csr_array


def subdivide(mesh: Mesh, levels: int = 1, scheme: str = "midpoint") -> Subdivided:
    """Cut every face in four, `levels` times, with a new vertex on every edge.

        V' = V + E,   F' = 4 F

    "midpoint" changes no shape: new vertices are in the middle of their edges. "loop" tends to a smooth surface: with edge
    (a, b), tips c and d of its faces, and n neighbors x_k of an old vertex x,

        new  = 3/8 (a + b) + 1/8 (c + d),      old' = (1 - n beta) x + beta sum_k x_k,      beta = (5/8 - (3/8 + 1/4 cos(2 pi / n))^2) / n

    and on a boundary (a + b) / 2 and 3/4 x + 1/8 (x_1 + x_2), whatever is inside. A boundary is every edge that has not two faces;
    where other than two of them meet, the vertex stays.

    Old vertices keep their numbers; the new ones follow, by the ascending ends of their edges. The faces of face f are 4 f to 4 f + 3.
    Colors go as positions go. Texture coordinates are cut in the middle in both schemes, so that seams stay where they are.

    Not differentiable: for between the steps of a fit. The gradient to old vertices would be `weights.T @ gradient`.

    Args:
        mesh: with colors or a texture; batches too.
        levels: 0 or more.
        scheme: "midpoint" or "loop".

    Raises:
        ValueError: texels, an argument out of range, more than fifty million faces.

    Source: Loop, Smooth Subdivision Surfaces Based on Triangles (1987), section 3; boundaries as in Hoppe et al., Piecewise Smooth
    Surface Reconstruction (1994), table 1.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh: expected a dr.Mesh, got {type(mesh).__name__}; make one by dr.Mesh(vertices, faces)")
    if mesh.texels is not None:
        raise ValueError("mesh: expected vertex colors or a texture, got texels, which are whole faces; load it with texture='vertex' or 'uv'")
    if not isinstance(levels, (int, np.integer)) or levels < 0:
        raise ValueError(f"levels: expected a whole number of at least 0, got {levels!r}")
    if scheme not in ("midpoint", "loop"):
        raise ValueError(f"scheme: expected 'midpoint' or 'loop', got {scheme!r}")
    if levels > 16 or mesh.faces.shape[0] * 4**levels > MOST_FACES:
        raise ValueError(f"levels: expected at most {MOST_FACES} faces, got {mesh.faces.shape[0]} * 4^{levels}; take fewer levels")
    weights, faces = _refined(read(mesh.faces).astype(np.int64), mesh.vertices.shape[1], levels, scheme)
    arrays: dict[str, Any] = {"colors": _carried(weights, mesh.colors)} if mesh.colored and mesh.colors is not None else {}
    if mesh.uv is not None and mesh.uv_faces is not None:
        uv_weights, uv_faces = _refined(read(mesh.uv_faces).astype(np.int64), mesh.uv.shape[1], levels, "midpoint")
        arrays |= {"uv": _carried(uv_weights, mesh.uv), "uv_faces": uv_faces}
    arrays |= {name: image for name, image in (("texture", mesh.texture), ("normal_map", mesh.normal_map)) if image is not None}
    objects = np.repeat(read(mesh.objects), 4**levels)
    return Subdivided(Mesh(_carried(weights, mesh.vertices), faces, objects=objects, **arrays), weights)


def _carried(weights: sparse.csr_array, values: Array) -> Array:
    return array(np.stack([weights @ x.astype(np.float64) for x in read(values)]))


def _refined(faces: np.ndarray, count: int, levels: int, scheme: str) -> tuple[sparse.csr_array, np.ndarray]:
    """The weights of all levels, (V', V), and the faces of the last."""
    weights = sparse.eye_array(count, format="csr")
    for _ in range(levels):
        ends, cut = cut_in_four(faces, weights.shape[0])
        one = _midpoint(ends, weights.shape[0]) if scheme == "midpoint" else _loop(ends, faces, weights.shape[0])
        weights, faces = one @ weights, cut
    return weights, faces


def _midpoint(ends: np.ndarray, count: int) -> sparse.csr_array:
    return _stacked(sparse.eye_array(count), _matrix(np.arange(len(ends)), ends, [0.5, 0.5], len(ends), count))


def _loop(ends: np.ndarray, faces: np.ndarray, count: int) -> sparse.csr_array:
    tails, heads = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    edge_of = np.searchsorted(ends[:, 0] * count + ends[:, 1], np.minimum(tails, heads) * count + np.maximum(tails, heads))
    boundary = np.bincount(edge_of, minlength=len(ends)) != 2
    inner = np.flatnonzero(~boundary)
    tip = np.flatnonzero(~boundary[edge_of])
    middles = _matrix(np.flatnonzero(boundary), ends[boundary], [0.5, 0.5], len(ends), count)
    middles += _matrix(inner, ends[inner], [3 / 8, 3 / 8], len(ends), count)
    middles += _matrix(edge_of[tip], faces[:, [2, 0, 1]].reshape(-1)[tip, None], [1 / 8], len(ends), count)
    edges = ends[ends[:, 0] != ends[:, 1]]
    n = np.bincount(edges.reshape(-1), minlength=count)
    curve = ends[boundary & (ends[:, 0] != ends[:, 1])]
    on_boundary = np.bincount(curve.reshape(-1), minlength=count)
    beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / np.maximum(n, 1)) / 4) ** 2) / np.maximum(n, 1)
    beta[on_boundary > 0] = 0
    turn = np.where(on_boundary == 2, 1 / 8, 0)
    own = 1 - n * beta - 2 * turn
    olds = sparse.diags_array(own) + sparse.diags_array(beta) @ _adjacency(edges, count) + sparse.diags_array(turn) @ _adjacency(curve, count)
    return _stacked(olds, middles)


def _adjacency(edges: np.ndarray, count: int) -> sparse.csr_array:
    both = np.concatenate([edges, edges[:, ::-1]])
    return sparse.csr_array((np.ones(len(both)), both.T), shape=(count, count))


def _matrix(rows: np.ndarray, columns: np.ndarray, weights: list[float], height: int, width: int) -> sparse.csr_array:
    """A matrix with `weights` at the (N, K) `columns` of each of N rows; what meets is added."""
    values = np.broadcast_to(weights, columns.shape).reshape(-1)
    return sparse.csr_array((values, (np.repeat(rows, columns.shape[1]), columns.reshape(-1))), shape=(height, width))


def _stacked(above: Any, below: Any) -> sparse.csr_array:
    matrix = sparse.vstack([above, below], format="csr")
    matrix.eliminate_zeros()
    return matrix
