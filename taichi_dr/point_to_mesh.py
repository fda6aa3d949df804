"""Points that lie on the surface of a mesh: squared distances to the nearest face, found in a tree of boxes."""

from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Faces, Points, checked_loss, checked_number, empty, read, unrecorded, vec3, write
from .distances import add_distances, pairs, target_points
from .launch import kernel
from .mesh import checked_mesh, corner_incidence
from .sampling import between

Indices = ti.types.ndarray(dtype=ti.i32, ndim=2, needs_grad=False)  # (B, N)

LEAF = 4  # faces in a box that is not parted again
FAR = 1e15  # beyond it a vertex counts as not finite, and lie the boxes without faces; its square is within float32


def point_to_mesh(mesh: Any, points: Any, loss: Array, weight: float = 1.0) -> None:
    """Add how far points are from the surface of a mesh: the mean squared distance to the nearest face.

        loss += weight / (B P) sum_b sum_p min_(x on a face of b) |p - x|^2

    Every point pulls the surface to it; parts of the surface where no points are go free, unlike with `chamfer`.

    Args:
        mesh: with `vertices`, (B, V) of vec3, world units, and `faces`, (F,) of ivec3.
        points: (P, 3) numbers, or (B, P, 3), one set for each of the batch, world units. Data, such as a scan.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.

    Differentiable in `mesh.vertices`, exactly, since the nearest place on a face moves no distance by moving along the face. Not in
    which face is nearest, a discrete choice, nor in `points`. Faces with a vertex that is not finite are left out.

    Raises:
        ValueError: wrong types or shapes, a face index out of range, points that are not finite, a weight that is not finite.

    Source: Ericson, Real-Time Collision Detection, 2005, section 5.1.5. PyTorch3D's point_mesh_face_distance adds to this the
    distance of every face to its nearest point.
    """
    vertices, faces = checked_mesh(mesh)
    scale = checked_number("weight", weight) / vertices.shape[0]
    checked_loss(loss)
    corner_incidence(faces, vertices.shape[1])  # checks the indices
    targets = target_points("points", points, vertices.shape[0])
    found, weights = nearest_faces(vertices, faces, targets)
    batch, count = found.shape
    corners = read(faces)[np.maximum(found, 0)]
    owners, rows = np.arange(batch * count), np.arange(batch) % targets.shape[0]
    partners = (rows[:, None] * count + np.arange(count)).ravel()
    shares = np.where(found.ravel() >= 0, 1.0 / count, 0.0)
    add_distances(between(vertices, corners, weights), targets, pairs(owners, partners, shares, batch * count), scale, loss)


def nearest_faces(vertices: Array, faces: Array, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, P) and (B, P, 3): the face nearest to each point, -1 where there is none, and the weights of its corners in the nearest place."""
    x, indices = read(vertices).astype(np.float64), read(faces)
    trees = [_tree(one[indices]) for one in x]
    lows, highs, order = (np.stack(part) for part in zip(*trees, strict=True))
    batch, count = len(x), points.shape[1]
    goals, boxes = empty(vec3, points.shape[:2]), [empty(vec3, lows.shape[:2]) for _ in range(2)]
    places, found, weights = empty(int, order.shape), empty(int, (batch, count)), empty(vec3, (batch, count))
    for out, values in ((goals, points), (boxes[0], lows), (boxes[1], highs), (places, order)):
        write(out, values)
    with unrecorded():
        _nearest_kernel(vertices, faces, goals, *boxes, places, found, weights, lows.shape[1] // 2)
    return read(found), read(weights).astype(np.float64)


def _tree(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A whole binary tree of boxes over triangles (F, 3, 3), and the faces in its order.

    Lower and upper corners (2 L, 3), root 1, children 2 k and 2 k + 1, leaves from L on; LEAF faces to a leaf, -1 for none.
    """
    sound = np.flatnonzero((np.abs(triangles) < FAR).all(axis=(1, 2)))
    leaves = 1 << max(0, (-(-len(triangles) // LEAF) - 1).bit_length())
    low, high = np.full((2 * leaves, 3), FAR), np.full((2 * leaves, 3), -FAR)
    order = np.full(leaves * LEAF, -1)
    if sound.size:
        order[: sound.size] = sound[np.argsort(_curve(triangles[sound].mean(axis=1)), kind="stable")]
        corners = triangles[order[: sound.size]]
        lows, highs = np.full((leaves * LEAF, 3), FAR), np.full((leaves * LEAF, 3), -FAR)
        lows[: sound.size], highs[: sound.size] = corners.min(axis=1), corners.max(axis=1)
        low[leaves:], high[leaves:] = lows.reshape(leaves, LEAF, 3).min(axis=1), highs.reshape(leaves, LEAF, 3).max(axis=1)
        n = leaves
        while n > 1:
            n //= 2
            low[n : 2 * n] = low[2 * n : 4 * n].reshape(n, 2, 3).min(axis=1)
            high[n : 2 * n] = high[2 * n : 4 * n].reshape(n, 2, 3).max(axis=1)
    return low, high, order


def _curve(places: np.ndarray) -> np.ndarray:
    """Where places lie on a Morton curve, along which neighbors are near each other: the bits of x, y and z in turn."""
    extent = np.ptp(places, axis=0).max()
    cells = ((places - places.min(axis=0)) / max(extent, 1e-30) * 1023).astype(np.int64)
    code = np.zeros(len(places), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


@ti.func
def _box_distance(p, low, high):
    """Squared, 0 inside."""
    away = ti.max(low - p, p - high, vec3(0.0))
    return away.norm_sqr()


@ti.func
def _along(p, a, b):
    """How far from a to b the place nearest to p is, in [0, 1]."""
    side = b - a
    square = side.norm_sqr()
    t = 0.0
    if square > 0.0:
        t = ti.min(1.0, ti.max(0.0, (p - a).dot(side) / square))
    return t


@ti.func
def _nearest_place(p, a, b, c):
    """The weights of a, b and c in the place of the triangle nearest to p, and its squared distance."""
    t = _along(p, a, b)
    weights = vec3(1.0 - t, t, 0.0)
    least = (p - a - t * (b - a)).norm_sqr()
    t = _along(p, b, c)
    distance = (p - b - t * (c - b)).norm_sqr()
    if distance < least:
        least, weights = distance, vec3(0.0, 1.0 - t, t)
    t = _along(p, c, a)
    distance = (p - c - t * (a - c)).norm_sqr()
    if distance < least:
        least, weights = distance, vec3(t, 0.0, 1.0 - t)
    normal = (b - a).cross(c - a)
    square = normal.norm_sqr()
    if square > 0.0:
        v, w = normal.dot((p - a).cross(c - a)) / square, normal.dot((b - a).cross(p - a)) / square
        if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
            inside = (p - a - v * (b - a) - w * (c - a)).norm_sqr()
            if inside < least:
                least, weights = inside, vec3(1.0 - v - w, v, w)
    return weights, least


@kernel
def _nearest_kernel(
    vertices: Points, faces: Faces, points: Points, lows: Points, highs: Points, order: Indices, found: Indices, weights: Points, leaves: int
):  # fmt: skip
    for k in range(found.shape[0] * found.shape[1]):
        b, n = k // found.shape[1], k % found.shape[1]
        p = points[b % points.shape[0], n]
        best, face, share = 4.0 * FAR * FAR, -1, vec3(0.0)
        start = 1  # down to a leaf that is near, which rules out most of the tree
        while start < leaves:
            start *= 2
            if _box_distance(p, lows[b, start + 1], highs[b, start + 1]) < _box_distance(p, lows[b, start], highs[b, start]):
                start += 1
        for turn in range(2):
            node = ti.select(turn == 0, start, 1)
            while node > 0:
                is_near = _box_distance(p, lows[b, node], highs[b, node]) < best
                if is_near and node < leaves:
                    node *= 2
                else:
                    if is_near:
                        for place in range((node - leaves) * LEAF, (node - leaves + 1) * LEAF):
                            f = order[b, place]
                            if f >= 0:
                                c = faces[f]
                                w, distance = _nearest_place(p, vertices[b, c.x], vertices[b, c.y], vertices[b, c.z])
                                if distance < best:
                                    best, face, share = distance, f, w
                    if turn == 0:
                        node = 0
                    else:
                        while node % 2 == 1:  # a second child: up to where a second child is still to come
                            node //= 2
                        if node > 0:
                            node += 1
        found[b, n], weights[b, n] = face, share
