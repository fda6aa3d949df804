"""Squared distances between points and the target points that each is drawn to; which those are, others choose."""

from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from .arrays import Array, Floats, Ints, Points, Scalar, empty, finite_or_zero, is_finite_number, read, vec3, write
from .launch import kernel
from .mesh import numbered
from .sums import Strips, add_terms, space
from .tape import operator


class Pairs(NamedTuple):
    """Point k, counted through the batch, is drawn to `partners[offsets[k]:offsets[k + 1]]`, target points counted likewise."""

    offsets: Array
    partners: Array
    shares: Array  # of each squared distance in the sum


def pairs(owners: np.ndarray, partners: np.ndarray, shares: np.ndarray, count: int) -> Pairs:
    """The pairs of lists: which of `count` points, which target point, and the share."""
    order = np.argsort(owners, kind="stable")
    weights = empty(float, max(1, len(shares)))
    write(weights, shares[order] if len(shares) else np.zeros(1))
    return Pairs(numbered(np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))])), numbered(partners[order]), weights)


def target_points(name: str, values: Any, batch: int) -> np.ndarray:
    """(1, M, 3) or (B, M, 3) finite numbers, from (M, 3) or (B, M, 3) of them, or from a Taichi array of vec3.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    try:
        points = np.asarray(read(values) if isinstance(values, ti.Ndarray) else values, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(())
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[2] != 3 or 0 in points.shape or points.shape[0] not in (1, batch):
        raise ValueError(f"{name}: expected numbers of shape (M, 3) or ({batch}, M, 3), at least one point, got shape {np.shape(values)}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity; drop those points")
    return points


def add_distances(points: Array, targets: np.ndarray, drawn: Pairs, scale: float, loss: Array) -> None:
    """loss += scale sum_pairs share |p - q|^2, for points (B, N) of vec3 and targets (B, M, 3). Differentiable in `points`."""
    goals = empty(vec3, targets.shape[:2])
    write(goals, targets)
    _distances(points, (goals,), drawn, scale, loss)


@ti.func
def _target(targets: ti.template(), q: int):
    return targets[q // targets.shape[1], q % targets.shape[1]]


@kernel
def _distances_kernel(
    points: Points, targets: Points, offsets: Ints, partners: Ints, shares: Floats, terms: Floats, partials: Strips, length: int, loss: Scalar,
    n: int, scale: float,
):  # fmt: skip
    for k in range(n):
        p, total = points[k // points.shape[1], k % points.shape[1]], 0.0
        for s in range(offsets[k], offsets[k + 1]):
            total += finite_or_zero(shares[s] * (p - _target(targets, partners[s])).norm_sqr())
        terms[k] = total
    add_terms(terms, n, partials, length, scale, loss)


@operator
def _distances(points: Array, data: tuple[Array], drawn: Pairs, scale: float, loss: Array) -> None:
    n = points.shape[0] * points.shape[1]
    _distances_kernel(points, data[0], *drawn, *space(float, 1, n), loss, n, scale)


@kernel
def _distances_adjoint_kernel(
    points: Points, targets: Points, offsets: Ints, partners: Ints, shares: Floats, points_grad: Points, loss_grad: Scalar, scale: float
):  # fmt: skip
    for k in range(points.shape[0] * points.shape[1]):
        b, n = k // points.shape[1], k % points.shape[1]
        p, total = points[b, n], vec3(0.0)
        for s in range(offsets[k], offsets[k + 1]):
            away = p - _target(targets, partners[s])
            if is_finite_number(shares[s] * away.norm_sqr()):
                total += 2.0 * shares[s] * away
        points_grad[b, n] = points_grad[b, n] + scale * loss_grad[None] * total


@_distances.adjoint
def _distances_adjoint(points: Array, data: tuple[Array], drawn: Pairs, scale: float, loss: Array) -> None:
    if points.grad is not None:
        _distances_adjoint_kernel(points, data[0], *drawn, points.grad, loss.grad, scale)
