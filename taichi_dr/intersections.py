"""Where a mesh goes through itself."""

from collections.abc import Iterator

import numpy as np

from .mesh import Mesh, one_mesh

MOST = 1 << 16  # pairs looked at together, which bounds the memory
ROUNDING = 1e-14  # of a determinant, in proportion to the product of the lengths of its vectors


def self_intersections(mesh: Mesh) -> np.ndarray:
    """Which pairs of faces cross.

    Two faces cross where a side of one goes through the inside of the other, from its front to its back. Faces that
    share an edge never do. Of faces that share a vertex the side opposite to it counts, so that they cross if they have more in
    common than that vertex. To touch is not to cross: with a corner or a side on the other face, or in the same plane, up to rounding.
    Faces without area cross nothing. Two vertices at the same place are two: weld them, or a crossing at just that place is missed.

    Not differentiable: it counts. In NumPy, whatever the device; memory does not grow with the number of pairs that are near.

    Args:
        mesh: no batch.

    Returns:
        (N, 2) numbers of faces, the smaller first, ascending; `len` counts them.

    Raises:
        ValueError: a batch, or vertices that are not finite.

    Source: signs of determinants as in Guigue and Devillers, Fast and Robust Triangle-Triangle Overlap Test Using Orientation
    Predicates (2003); pairs from a tree of boxes over faces in Morton order, as in Lauterbach et al., Fast BVH Construction on GPUs (2009).
    """
    vertices, faces = one_mesh(mesh)
    # A size of about 1, by a power of two, which rounds nothing: products neither overflow nor vanish.
    corners = vertices[faces] * 2.0 ** -np.ceil(np.log2(max(np.abs(vertices).max(), 1e-300)))
    found = [pairs[_cross(corners, faces, pairs)] for pairs in _near(corners)]
    pairs = np.sort(np.concatenate([np.zeros((0, 2), int), *found]), axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


# --- Which boxes overlap ----------------------------------------------------------------------------------------


def _near(corners: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs (N, 2) of faces whose bounding boxes touch, each pair once, at most about 4 MOST at a time."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    order = np.argsort(_morton((low + high) / 2), kind="stable")
    levels = [(low[order], high[order])]
    while len(levels[-1][0]) > 1:
        levels.append(_parents(*levels[-1]))
    todo = [(len(levels) - 1, np.zeros((1, 2), int))]
    while todo:
        level, pairs = todo.pop()
        if level == 0:
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
            if len(pairs):
                yield order[pairs]
            continue
        low, high = levels[level - 1]
        # Of a box with itself: itself with either half, and the two halves.
        i, j = (2 * pairs[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).reshape(-1, 2).T
        kept = (i <= j) & (i < len(low)) & (j < len(low))
        i, j = i[kept], j[kept]
        kept = (low[i] <= high[j]).all(axis=1) & (low[j] <= high[i]).all(axis=1)
        below = np.stack([i[kept], j[kept]], axis=1)
        todo += [(level - 1, below[k : k + MOST]) for k in range(0, len(below), MOST)]


def _parents(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boxes around two neighbors each; a last one without neighbor stays as it is."""
    if len(low) % 2:
        low, high = np.concatenate([low, low[-1:]]), np.concatenate([high, high[-1:]])
    return np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])


def _morton(points: np.ndarray) -> np.ndarray:
    """Numbers whose order keeps near points together: the bits of x, y and z by turns."""
    low = points.min(axis=0)
    cells = ((points - low) / max((points.max(axis=0) - low).max(), 1e-300) * (2**21 - 1)).astype(np.uint64)
    for shift, mask in ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249)):
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    return cells[:, 0] | (cells[:, 1] << np.uint64(1)) | (cells[:, 2] << np.uint64(2))


# --- Which triangles cross --------------------------------------------------------------------------------------


def _cross(corners: np.ndarray, faces: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(N,) whether a side of one of a pair goes through the other."""
    shared = (faces[pairs[:, 0]][:, :, None] == faces[pairs[:, 1]][:, None, :]).sum(axis=(1, 2))
    rows = np.flatnonzero(shared <= 1)
    p, q = corners[pairs[rows, 0]], corners[pairs[rows, 1]]
    # Each must reach to both sides of the plane of the other.
    p_over = _over(p, q)
    rows, p, q, p_over = (x[_both_signs(p_over)] for x in (rows, p, q, p_over))
    q_over = _over(q, p)
    rows, p, q, p_over, q_over = (x[_both_signs(q_over)] for x in (rows, p, q, p_over, q_over))
    # How side i of p passes side j of q: all three in the same way where it goes through.
    start, way = p[:, :, None], (np.roll(p, -1, axis=1) - p)[:, :, None]
    passes = _sign(way, q[:, None] - start, np.roll(q, -1, axis=1)[:, None] - start)
    p_through = (np.abs(passes.sum(axis=2)) == 3) & (p_over * np.roll(p_over, -1, axis=1) < 0)
    q_through = (np.abs(passes.sum(axis=1)) == 3) & (q_over * np.roll(q_over, -1, axis=1) < 0)
    out = np.zeros(len(pairs), bool)
    out[rows] = p_through.any(axis=1) | q_through.any(axis=1)
    return out


def _over(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(N, 3) on which side of the plane of q each corner of p is: 1 in front, -1 behind, 0 on it."""
    start = q[:, :1]
    return _sign(p - start, q[:, 1:2] - start, q[:, 2:] - start)


def _both_signs(over: np.ndarray) -> np.ndarray:
    return (over.min(axis=1) < 0) & (over.max(axis=1) > 0)


def _sign(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The sign of det(u, v, w), 0 where that is of rounding."""
    (ux, uy, uz), (vx, vy, vz), (wx, wy, wz) = (np.moveaxis(x, -1, 0) for x in (u, v, w))
    determinant = ux * (vy * wz - vz * wy) + uy * (vz * wx - vx * wz) + uz * (vx * wy - vy * wx)
    squares = [(x * x).sum(axis=-1) for x in (u, v, w)]
    return np.sign(determinant) * (np.abs(determinant) > ROUNDING * np.sqrt(squares[0] * squares[1] * squares[2]))
