"""Solving A x = b again and again for one sparse, symmetric, positive definite A: nested dissection, then sums of rows.

A set S of vertices that parts a mesh in two makes the two parts independent once S is known; each part is parted again, which
gives a tree. Eliminating its nodes from the leaves up, with B the ancestors that touch node S after what is below has gone,

    D = A_SS^-1,   W = A_BS D,   A_BB <- A_BB - W A_SB          (once, in double precision)
    b_B <- b_B - W b_S   from the leaves up,   x_S = D b_S - W^T x_B   from the root down        (each time)

Each line of a solve is a sum of the row of a sparse matrix, and rows of one depth do not need each other: one loop per depth,
on any device, in an order that is always the same. Exact up to rounding, as all direct solvers.

Sources: George, "Nested Dissection of a Regular Finite Element Mesh", SIAM J. Numer. Anal. 10, 1973; Duff and Reid, "The
Multifrontal Solution of Indefinite Sparse Symmetric Linear Equations", ACM TOMS 9, 1983; Koenig's theorem for the separators.
"""

from typing import NamedTuple

import numpy as np
import taichi as ti
from scipy import sparse
from scipy.sparse import csgraph

from .arrays import Array, Floats, Ints, Points, empty, is_finite, vec3, vec4, write
from .launch import kernel

Work = ti.types.ndarray(dtype=vec4, ndim=1, needs_grad=False)  # (N,); of four components, which CPUs add at once, the last is unused

LEAF = 32  # vertices of a part that is not parted again
LANDMARKS = 6


class Passes(NamedTuple):
    """The sums of rows that solve A x = b, in order, over a work space of 2 V vectors: b_S, then x_S, both in the order of the tree.

    Row r of the matrix, `values[offsets[r]:offsets[r + 1]]`, is summed to work[r]; `ranges` are the rows of each pass.
    """

    order: Array  # (V,) the vertex at each place of the tree's order
    offsets: Array
    columns: Array
    values: Array
    ranges: list[tuple[int, int]]


# --- Parting the graph ------------------------------------------------------------------------------------------


def dissect(matrix: sparse.csr_array) -> np.ndarray:
    """(V,): the node of each vertex in a binary tree, root 1, children 2 k and 2 k + 1; no edge joins two subtrees."""
    count = matrix.shape[0]
    above = sparse.coo_array(sparse.triu(matrix, 1))
    ends = np.stack([above.row, above.col], axis=1).astype(np.int32)  # older SciPy's graphs take no others
    places = _distances(_links(ends, count))
    node, settled = np.ones(count, np.int64), np.zeros(count, bool)
    while True:
        live = np.flatnonzero(~settled)
        _, part, sizes = np.unique(node[live], return_inverse=True, return_counts=True)
        settled[live[sizes[part] <= LEAF]] = True
        live = live[sizes[part] > LEAF]
        if not live.size:
            return node
        within = ~settled[ends].any(axis=1) & (node[ends[:, 0]] == node[ends[:, 1]])
        ends = ends[within]
        second = np.zeros(count, bool)
        second[live] = _second_halves(node[live], places[live], csgraph.connected_components(_links(ends, count), directed=False)[1][live])
        cut = ends[second[ends[:, 0]] != second[ends[:, 1]]]
        separator = _cover(np.where(second[cut[:, :1]], cut[:, ::-1], cut))
        settled[separator] = True
        rest = live[~settled[live]]
        node[rest] = 2 * node[rest] + second[rest]


def _links(ends: np.ndarray, count: int) -> sparse.csr_array:
    return sparse.csr_array(sparse.coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (count, count)))


def _distances(links: sparse.csr_array) -> np.ndarray:
    """(V, LANDMARKS): coordinates of the vertices, edges away from landmarks far from each other, some in each piece of the graph.

    Unlike positions they do not depend on how the mesh lies in space, and folds and coincident vertices do them no harm.
    """
    piece = csgraph.connected_components(links, directed=False)[1]
    found: list[np.ndarray] = []
    near = np.zeros(len(piece))
    for k in range(LANDMARKS + 1):
        by_distance = np.lexsort((-near, piece))
        sources = by_distance[np.unique(piece[by_distance], return_index=True)[1]]
        distance = csgraph.dijkstra(links, directed=False, indices=sources, unweighted=True, min_only=True)
        near = distance if k < 2 else np.minimum(near, distance)
        found.append(distance)
    return np.stack(found[1:], axis=1)  # the first landmark was any vertex


def _second_halves(node: np.ndarray, places: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Which vertices are behind the middle of their part, along its widest coordinate; pieces of a part stay together but for one."""
    _, part, sizes = np.unique(node, return_inverse=True, return_counts=True)
    by_part = np.argsort(part, kind="stable")
    starts = np.cumsum(sizes) - sizes
    extents = np.maximum.reduceat(places[by_part], starts) - np.minimum.reduceat(places[by_part], starts)
    along = places[np.arange(len(part)), np.argmax(extents, axis=1)[part]]
    order = np.lexsort((along, piece, part))
    rank = np.empty(len(part), np.int64)
    rank[order] = np.arange(len(part)) - np.repeat(starts, sizes)
    return rank >= sizes[part] // 2


def _cover(cut: np.ndarray) -> np.ndarray:
    """The fewest vertices that touch all edges (first half, second half): Koenig's, from a largest matching."""
    if not len(cut):
        return np.zeros(0, np.int64)
    first, row = np.unique(cut[:, 0], return_inverse=True)
    second, column = np.unique(cut[:, 1], return_inverse=True)
    pairs = row.astype(np.int32), column.astype(np.int32)
    graph = sparse.csr_array(sparse.coo_array((np.ones(len(cut), np.int8), pairs), (len(first), len(second))))
    match = csgraph.maximum_bipartite_matching(graph, perm_type="column")
    partner = np.full(len(second), -1)
    partner[match[match >= 0]] = np.flatnonzero(match >= 0)
    reached_rows, reached_columns = match < 0, np.zeros(len(second), bool)  # by paths from the rows without a partner
    while True:
        before = reached_columns.sum()
        reached_columns[column[reached_rows[row]]] = True
        if reached_columns.sum() == before:
            return np.concatenate([first[~reached_rows], second[reached_columns]])
        reached_rows[partner[reached_columns]] = True


# --- Elimination ------------------------------------------------------------------------------------------------


def factor(matrix: sparse.csr_array) -> Passes:
    """The passes that solve with a symmetric, positive definite matrix (V, V)."""
    node = dissect(matrix)
    depth = np.frexp(node.astype(np.float64))[1]
    order = np.lexsort((node, -depth))  # the deepest first, so every node after its descendants, each node's vertices together
    node, depth = node[order], depth[order]
    starts = np.flatnonzero(np.concatenate([[True], node[1:] != node[:-1]]))
    up, down = _eliminate(sparse.csr_array(matrix[order][:, order]), starts)
    count = len(order)
    bounds = [int(k) for k in np.flatnonzero(np.concatenate([[True], depth[1:] != depth[:-1], [True]]))]
    levels = list(zip(bounds[:-1], bounds[1:], strict=True))
    rows = sparse.vstack([up, down], format="csr")
    # Nothing comes up to the deepest level.
    ranges = levels[1:] + [(count + a, count + b) for a, b in reversed(levels)]
    return Passes(
        _listed(order, int), _listed(rows.indptr, int), _listed(rows.indices, int), _listed(rows.data, float), ranges
    )  # fmt: skip


def _eliminate(matrix: sparse.csr_array, starts: np.ndarray) -> tuple[sparse.csr_array, sparse.csr_array]:
    """(V, 2 V) each: the rows that bring b up, and those that bring x down."""
    count = matrix.shape[0]
    ends = [*starts[1:].tolist(), count]
    owner = np.repeat(np.arange(len(starts)), np.diff([*starts, count]))
    below: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in starts]  # what the children leave: their B, and how A_BB changes
    place = np.empty(count, np.int64)
    columns_down, values_down, lengths = [], [], np.empty(count, np.int64)
    for s, (a, b) in enumerate(zip(starts.tolist(), ends, strict=True)):
        begin, end = matrix.indptr[a], matrix.indptr[b]
        columns, values = matrix.indices[begin:end], matrix.data[begin:end]
        rows = np.repeat(np.arange(b - a), np.diff(matrix.indptr[a : b + 1]))
        kept = columns >= a  # what is before has gone
        columns, values, rows = columns[kept], values[kept], rows[kept]
        outer = np.unique(np.concatenate([columns, *(theirs for theirs, _ in below[s])]))
        outer = outer[outer >= b].astype(np.int32)
        n = b - a
        place[a:b] = np.arange(n)
        place[outer] = n + np.arange(len(outer))
        front = np.zeros((n + len(outer),) * 2)
        front[rows, place[columns]] = values
        for theirs, change in below[s]:
            at = place[theirs]
            front[at[:, None], at] += change
        below[s] = []
        inverse = np.linalg.inv(front[:n, :n])
        inverse = (inverse + inverse.T) / 2
        weights = front[:n, n:].T @ inverse  # W; the front is filled above its diagonal
        if len(outer):
            below[owner[outer[0]]].append((outer, front[n:, n:] - weights @ front[:n, n:]))
        # The rows of a node are one block: D, then -W^T.
        columns_down.append(np.tile(np.concatenate([np.arange(a, b, dtype=np.int32), outer + np.int32(count)]), n))
        values_down.append(np.concatenate([inverse, -weights.T], axis=1).ravel())
        lengths[a:b] = n + len(outer)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    down = sparse.csr_array((np.concatenate(values_down), np.concatenate(columns_down), offsets), (count, 2 * count))
    up = sparse.csr_array(sparse.csr_array(down[:, count:].T) + sparse.diags_array(np.ones(count)))
    up.resize(count, 2 * count)
    return up, down


def _listed(values: np.ndarray, element: type) -> Array:
    out = empty(element, len(values))
    write(out, values)
    return out


# --- Solving ----------------------------------------------------------------------------------------------------


@kernel
def _load_kernel(b: Points, order: Ints, work: Work, only_finite: ti.template()):
    for k in range(b.shape[0] * b.shape[1]):
        i, v = k // b.shape[1], k % b.shape[1]
        value = b[i, order[v]]
        if ti.static(only_finite):
            if not is_finite(value):
                value = vec3(0.0)
        work[2 * b.shape[1] * i + v] = vec4(value, 0.0)


@kernel
def _rows_kernel(offsets: Ints, columns: Ints, values: Floats, work: Work, first: int, count: int, batch: int, stride: int):
    for k in range(batch * count):
        base, row = k // count * stride, first + k % count
        total = vec4(0.0)
        for s in range(offsets[row], offsets[row + 1]):
            total += values[s] * work[base + columns[s]]
        work[base + row] = total


@kernel
def _store_kernel(work: Work, order: Ints, x: Points, adds: ti.template()):
    for k in range(x.shape[0] * x.shape[1]):
        i, v = k // x.shape[1], k % x.shape[1]
        value = work[(2 * i + 1) * x.shape[1] + v].xyz
        if ti.static(adds):
            value += x[i, order[v]]
        x[i, order[v]] = value


def solve(passes: Passes, b: Array, x: Array) -> None:
    """x <- A^-1 b for (B, V) of vec3 each."""
    _solve(passes, b, x, False)


def add_solved(passes: Passes, b: Array, x: Array) -> None:
    """x <- x + A^-1 b, with zero in place of what is not finite in b."""
    _solve(passes, b, x, True)


def _solve(passes: Passes, b: Array, x: Array, adds: bool) -> None:
    batch, vertices = b.shape
    work = empty(vec4, batch * 2 * vertices)
    _load_kernel(b, passes.order, work, adds)
    for first, last in passes.ranges:
        _rows_kernel(passes.offsets, passes.columns, passes.values, work, first, last - first, batch, 2 * vertices)
    _store_kernel(work, passes.order, x, adds)
