"""How good a mesh is: lengths, angles, faces that are turned over, whether it is closed; for the log of a fit."""

from typing import NamedTuple

import numpy as np

from .intersections import self_intersections
from .mesh import Mesh, one_mesh

OPPOSED = -0.5  # mean cosine to the normals around; a regular tetrahedron's is -1/3


class MeshQuality(NamedTuple):
    """What `mesh_quality` tells of a mesh. Lengths in world units, NaN where there is nothing to measure."""

    vertices: int
    faces: int
    shortest_edge: float
    mean_edge: float
    longest_edge: float
    smallest_angle: float  # of a face, degrees
    self_intersections: int  # pairs of faces that cross, see `self_intersections`
    flipped_faces: int  # see `flipped_faces`
    watertight: bool  # every edge has two faces, which go along it in opposite directions
    volume: float  # enclosed, positive where faces look outward; meaningful where watertight


def mesh_quality(mesh: Mesh) -> MeshQuality:
    """Measure a mesh: counts, edge lengths, the smallest angle, crossing and flipped faces, closedness, volume.

    Args:
        mesh: no batch.

    Raises:
        ValueError: a batch, or vertices that are not finite.
    """
    points, faces = one_mesh(mesh)
    corners = points[faces]
    ways = np.roll(corners, -1, axis=1) - corners  # of side k, from corner k to the next
    directed = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    lengths = np.linalg.norm(ways, axis=2)
    _, once = np.unique(np.sort(directed, axis=1), axis=0, return_index=True)
    edges = lengths.reshape(-1)[once]
    edges = edges[directed[once, 0] != directed[once, 1]] if (directed[once, 0] != directed[once, 1]).any() else np.array([np.nan])
    incoming = -np.roll(ways, 1, axis=1)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(ways, incoming), axis=2), (ways * incoming).sum(axis=2)))
    corners = corners - points.mean(axis=0)  # of a mesh far from the origin large terms would cancel
    volume = (corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    return MeshQuality(
        vertices=len(points),
        faces=len(faces),
        shortest_edge=float(edges.min()),
        mean_edge=float(edges.mean()),
        longest_edge=float(edges.max()),
        smallest_angle=float(angles.min()),
        self_intersections=len(self_intersections(mesh)),
        flipped_faces=len(flipped_faces(mesh)),
        watertight=_watertight(directed, len(points)),
        volume=float(volume),
    )


def flipped_faces(mesh: Mesh, reference: Mesh | None = None) -> np.ndarray:
    """Which faces are turned over against the faces around them.

    Face f is flipped if its unit normal n_f and those of the faces around it have

        mean over the vertices v of f and the other faces g of v of (n_f . n_g) < -1/2

    so that a face which shares an edge with f counts twice. This finds the faces of a vertex that was drawn over the opposite side of its
    neighborhood, as in a fit whose steps are too long. Edges of any sharpness are not reported, of a cube, a
    thin plate or a regular tetrahedron (mean -1/3): on this side of such an edge other faces look the same way. A side of a flat body
    that is one face only would be. In a fold of many faces it finds those near its rim. Faces without area, which have no normal, are not reported.

    With a reference it is simply whether n_f . n_f < 0 between the same face here and there: what a step turned over.

    Not differentiable: it counts.

    Args:
        mesh: no batch.
        reference: a mesh with the same faces, such as the one before a step.

    Returns:
        (N,) numbers of faces, ascending; `len` counts them.

    Raises:
        ValueError: a batch, vertices that are not finite, a reference with other faces.
    """
    points, faces = one_mesh(mesh)
    normals = _unit_normals(points, faces)
    if reference is not None:
        before, same = one_mesh(reference)
        if not np.array_equal(same, faces):
            raise ValueError(f"reference: expected the mesh's faces, got others, {len(same)} for {len(faces)}; leave reference out")
        return np.flatnonzero((normals * _unit_normals(before, faces)).sum(axis=1) < 0)
    owners = faces.reshape(-1)
    sums = np.stack([np.bincount(owners, weights=np.repeat(normals[:, k], 3), minlength=len(points)) for k in range(3)], axis=1)
    known = np.bincount(owners, weights=np.repeat(normals.any(axis=1), 3), minlength=len(points))
    own = normals.any(axis=1)
    count = known[faces].sum(axis=1) - 3 * own
    mean = ((sums[faces].sum(axis=1) - 3 * normals) * normals).sum(axis=1) / np.maximum(count, 1)
    return np.flatnonzero(own & (mean < OPPOSED))


def _unit_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3), zero for a face without area."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)


def _watertight(directed: np.ndarray, count: int) -> bool:
    there = np.sort(directed[:, 0] * count + directed[:, 1])
    back = np.sort(directed[:, 1] * count + directed[:, 0])
    return bool((there[1:] != there[:-1]).all() and np.array_equal(there, back) and (directed[:, 0] != directed[:, 1]).all())
