"""Closest points on a surface of triangles, and where in its triangle each of them is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

BLOCK = 1024  # points at once, so that what is computed of them stays in the cache
FIRST, MOST = 4, 256  # samples looked at per point: at first, and at most


class Closest(NamedTuple):
    faces: np.ndarray  # (N,)
    barycentrics: np.ndarray  # (N, 3), at least 0, of sum 1
    distances: np.ndarray  # (N,)


class Surface:
    """Triangles, ready to be asked for closest points. A segment is a triangle with two equal corners.

    A tree holds samples of the triangles, several of a large one, so that each point of a triangle is within `radius` of one.

    Args:
        vertices: (V, 3).
        faces: (F, 3), at least one.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self.corners = vertices[faces]
        corners, owners = self.corners, np.arange(len(faces))
        done, most, coarse = [], 8 * len(faces) + 64, np.median(_longest(corners))
        while True:
            large = _longest(corners) > coarse
            done.append((corners[~large], owners[~large]))
            corners, owners = corners[large], owners[large]
            if len(owners) == 0 or sum(len(x[1]) for x in done) + 4 * len(owners) > most:
                break
            a, b, c = np.moveaxis(corners, 1, 0)
            ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
            corners = np.concatenate([np.stack(x, axis=1) for x in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
            owners = np.tile(owners, 4)
        corners = np.concatenate([*(x[0] for x in done), corners])
        self.owners = np.concatenate([*(x[1] for x in done), owners])
        middles = corners.mean(axis=1)
        self.radius = np.sqrt(((corners - middles[:, None]) ** 2).sum(axis=2).max())
        self.tree = cKDTree(middles)

    def closest(self, points: np.ndarray, accept: Callable[[np.ndarray, np.ndarray], Any] | None = None) -> Closest:
        """The closest point to each point.

        It is exact as long as no more than 256 samples are about as near; else that of the nearest samples.

        Args:
            points: (N, 3).
            accept: of indices of points and faces whether that face may be chosen for that point; where none among the
                nearest samples may, any is taken.
        """
        out = Closest(np.zeros(len(points), int), np.zeros((len(points), 3)), np.full(len(points), np.inf))
        for block in np.split(np.arange(len(points)), np.arange(BLOCK, len(points), BLOCK)):
            self._block(out, points, block, accept)
        return out

    def _block(self, out: Closest, points: np.ndarray, todo: np.ndarray, accept: Any) -> None:
        count = min(FIRST, len(self.owners))
        while len(todo):
            reach, samples = self.tree.query(points[todo], k=np.arange(1, count + 1))
            last = count == min(MOST, len(self.owners))
            self._nearest(out, points, todo, self.owners[samples], accept)
            if last and accept is not None:
                lost = np.isinf(out.distances[todo])
                self._nearest(out, points, todo[lost], self.owners[samples[lost]], None)
            todo = todo[:0] if last else todo[reach[:, -1] < out.distances[todo] + self.radius]
            count = min(4 * count, MOST, len(self.owners))

    def _nearest(self, out: Closest, points: np.ndarray, todo: np.ndarray, faces: np.ndarray, accept: Any) -> None:
        """Of (N, K) candidate faces take the nearest for each of the points `todo`."""
        if len(todo) == 0:
            return
        owners = np.repeat(todo, faces.shape[1])
        barycentrics, squares = on_triangles(points[owners], self.corners[faces.reshape(-1)])
        if accept is not None:
            squares = np.where(accept(owners, faces.reshape(-1)), squares, np.inf)
        best = squares.reshape(faces.shape).argmin(axis=1)
        rows = np.arange(len(todo))
        out.faces[todo] = faces[rows, best]
        out.barycentrics[todo] = barycentrics.reshape(*faces.shape, 3)[rows, best]
        out.distances[todo] = np.sqrt(squares.reshape(faces.shape)[rows, best])


def on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The closest point of each of N triangles to a point of its own: (N, 3) barycentrics and (N,) squared distances.

    It is the foot of the perpendicular if that is inside, else the nearest of the closest points of the three sides.

    Args:
        points: (N, 3).
        corners: (N, 3, 3).
    """
    a = corners[:, 0]
    ab, ac, ap = corners[:, 1] - a, corners[:, 2] - a, points - a
    bb, bc, cc, bp, cp = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac), _dot(ab, ap), _dot(ac, ap)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Weights of b and c at the foot; NaN, which is not inside, for a triangle without area.
        area = bb * cc - bc * bc
        foot = np.stack([cc * bp - bc * cp, bb * cp - bc * bp]) / np.where(area > 1e-20 * bb * cc, area, np.nan)
        inside = (foot >= 0).all(axis=0) & (foot.sum(axis=0) <= 1)
        t_ab, t_ac, t_bc = (np.nan_to_num(t.clip(0, 1)) for t in (bp / bb, cp / cc, (cp - bp - bc + bb) / (bb + cc - 2 * bc)))
    sides = np.stack([np.stack([t_ab, np.zeros_like(t_ab)]), np.stack([np.zeros_like(t_ac), t_ac]), np.stack([1 - t_bc, t_bc])])
    x, y = sides[:, 0], sides[:, 1]
    squares = x * x * bb + 2 * x * y * bc + y * y * cc - 2 * x * bp - 2 * y * cp  # but for |ap|^2
    nearest = np.take_along_axis(sides, squares.argmin(axis=0)[None, None], axis=0)[0]
    u, v = np.where(inside, foot, nearest)
    rest = ap - u[:, None] * ab - v[:, None] * ac
    return np.stack([np.maximum(1 - u - v, 0), u, v], axis=1), _dot(rest, rest)


def _longest(corners: np.ndarray) -> np.ndarray:
    return np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2)).max(axis=1)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)
