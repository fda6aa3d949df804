"""Chamfer distance: points, or the surface of a mesh, that lie where other points are."""

from typing import Any

import numpy as np
import taichi as ti
from scipy.spatial import cKDTree

from .arrays import Array, checked_loss, checked_number, expect, read
from .distances import Pairs, add_distances, pairs, target_points
from .sampling import sample_surface


def chamfer(points: Any, target: Any, loss: Array, weight: float = 1.0, *, samples: int = 10_000, seed: int = 0) -> None:
    """Add how far points are from target points, and these from the points: the mean squared distances to the nearest.

        loss += weight / B sum_b (1 / N sum_n min_m |p_bn - q_m|^2 + 1 / M sum_m min_n |p_bn - q_m|^2)

    Args:
        points: (B, N) of vec3, world units; or a mesh, on whose surface N points are taken (`dr.sample_surface`).
        target: (M, 3) numbers, or (B, M, 3), one set for each of the batch, world units. Data, such as a scan.
        loss: 0-D, added to; make it with `dr.scalar()`.
        weight: a factor.
        samples: N, for a mesh.
        seed: of the places on a mesh; the same seed, the same places. Take another in each step to see all of the surface in time.

    Differentiable in `points`, or in `mesh.vertices`. Not in which point is nearest, a discrete choice, nor in `target`. A point that
    is not finite is left out.

    Raises:
        ValueError: wrong types or shapes, target points that are not finite, a weight that is not finite.

    Source: PyTorch3D, loss.chamfer_distance.
    """
    scale = checked_number("weight", weight)
    checked_loss(loss)
    if not isinstance(points, ti.Ndarray):
        if not hasattr(points, "faces"):
            raise ValueError(f"points: expected a Taichi array, (B, N) of vec3, or a mesh, got {type(points).__name__}; make it with dr.array(...)")
        points = sample_surface(points, samples, seed=seed)
    expect("points", points, 3, 2, "(B, N) of vec3")
    targets = target_points("target", target, points.shape[0])
    add_distances(points, targets, _nearest(read(points).astype(np.float64), targets), scale / points.shape[0], loss)


def _nearest(points: np.ndarray, targets: np.ndarray) -> Pairs:
    """Every point with the target nearest to it, and every target with the point nearest to it."""
    none = np.zeros(0, np.int64)  # where no point is finite
    owners, partners, shares = [none], [none], [np.zeros(0)]
    for b, here in enumerate(points):
        there = targets[b % len(targets)]
        sound = np.flatnonzero(np.isfinite(here).all(axis=-1))
        if sound.size:
            first = b % len(targets) * len(there)
            owners += [b * len(here) + sound, b * len(here) + sound[cKDTree(here[sound]).query(there)[1]]]
            partners += [first + cKDTree(there).query(here[sound])[1], first + np.arange(len(there))]
            shares += [np.full(sound.size, 1 / len(here)), np.full(len(there), 1 / len(there))]
    return pairs(np.concatenate(owners), np.concatenate(partners), np.concatenate(shares), points.shape[0] * points.shape[1])
