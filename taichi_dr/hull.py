"""Where an object is, from its masks: the ball around what lies within the outlines of all views (the visual hull).

    hull = { x : m_b(project_b(x)) for all views b }

Source: Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .arrays import capacity, read, unrecorded
from .camera import Camera
from .frame import EYE, FORWARD, OFFSET, RIGHT, SCALE, UP, camera_frame

CELLS = 32  # along a side of the grid
ROUNDS = 12
AGREEMENT = (0.95, 0.9)  # share of the views that must see a point within the outline where none is in all
PARALLEL = 1e-4  # square of the sine of the angle between views under which they give no depth


class Bounds(NamedTuple):
    """A ball around an object."""

    center: np.ndarray  # (3,)
    radius: float


def frames_of(camera: Camera) -> np.ndarray:
    """(B, COLUMNS, 3): `camera_frame` in NumPy."""
    with unrecorded():
        return read(camera_frame(camera)).astype(np.float64)


def hull_bounds(cameras: Sequence[Camera], masks: Sequence[np.ndarray]) -> Bounds:
    """A ball around the visual hull.

    Args:
        cameras: of one view each.
        masks: of each, (h, w) of any resolution: where the object is.

    Raises:
        ValueError: views from one direction only, or outlines with nothing in common.
    """
    frames = np.concatenate([frames_of(camera) for camera in cameras])
    rays, spans = zip(*(_cone(*view) for view in zip(frames, cameras, masks, strict=True)), strict=True)
    center = _nearest_point(frames[:, EYE], np.array(rays))
    depths = ((center - frames[:, EYE]) * frames[:, FORWARD]).sum(axis=1)
    if not (depths > 0).any():
        raise ValueError("photos: expected cameras that look at one place, got none with it in front; check the axes of the cameras")
    farthest = float(np.linalg.norm(center - frames[:, EYE], axis=1).max())
    half = np.full(3, max(span * depth for span, depth in zip(spans, depths, strict=True) if depth > 0) * 1.2)
    tables = [np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for mask in masks]
    is_whole = False  # whether all of the hull is within the grid
    for _ in range(ROUNDS):
        cell = 2 * half / CELLS
        points = center - half + (np.indices((CELLS,) * 3).reshape(3, -1).T + 0.5) * cell
        # A cell is kept if any of it may be within the hull, so that a finer grid may be as large as the cells that are.
        reach = 0.5 * float(np.linalg.norm(cell))
        kept = _common(points, reach, list(zip(frames, cameras, masks, tables, strict=True)))
        if len(kept) == 0:
            raise ValueError("photos: expected outlines with a place in common, got none; check the cameras, and that masks are white on the object")
        low, high = kept.min(axis=0) - 0.5 * cell, kept.max(axis=0) + 0.5 * cell
        goes_on = (low < center - half + 0.5 * cell) | (high > center + half - 0.5 * cell)
        before = half
        if not is_whole and goes_on.any() and (half < farthest).all():
            half = np.where(goes_on, 2 * half, half)
            continue
        is_whole = True
        center, half = 0.5 * (low + high), 0.5 * (high - low)
        if (half > 0.9 * before).all():
            break
    return Bounds(center, float(np.linalg.norm(kept - center, axis=1).max() + reach))


def _common(points: np.ndarray, radius: float, views: list[tuple]) -> np.ndarray:
    """Those of the points that are within the outlines of all views, or else of most."""
    left = points
    for view in views:
        left = left[_sees(*view, left, radius)]
        if len(left) == 0:
            break
    if len(left):
        return left
    votes = sum(_sees(*view, points, radius) for view in views)
    return next((points[votes >= share * len(views)] for share in AGREEMENT if (votes >= share * len(views)).any()), left)


def _cone(frame: np.ndarray, camera: Camera, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The direction of the middle of a mask, and how far it reaches from there at depth 1."""
    (h, w), half = mask.shape, 0.5 * min(camera.size)
    rows, columns = np.nonzero(mask)
    x = ((columns + 0.5) / w - 0.5) * camera.size[1] / half
    y = (0.5 - (rows + 0.5) / h) * camera.size[0] / half
    slopes = (np.stack([x, y], axis=1) - frame[OFFSET, :2]) / frame[SCALE, :2]
    middle = 0.5 * (slopes.min(axis=0) + slopes.max(axis=0))
    direction = frame[FORWARD] + middle[0] * frame[RIGHT] + middle[1] * frame[UP]
    return direction / np.linalg.norm(direction), float(np.linalg.norm(slopes - middle, axis=1).max() + 1e-3)


def _nearest_point(eyes: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The point with the least sum of squared distances from lines."""
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    total = across.sum(axis=0)
    if np.linalg.eigvalsh(total)[0] < PARALLEL * len(rays):
        raise ValueError(f"photos: expected views from at least two directions, which give depth, got {len(rays)} from one")
    return np.linalg.solve(total, (across @ eyes[..., None]).sum(axis=0)[:, 0])


def _sees(frame: np.ndarray, camera: Camera, mask: np.ndarray, table: np.ndarray, points: np.ndarray, radius: float) -> np.ndarray:
    """Whether any of the mask is within a box around each point's place, as large as a ball of the radius looks there."""
    h, w = mask.shape
    padded = np.concatenate([points, np.repeat(points[:1], capacity(len(points)) - len(points), axis=0)])
    place = camera.project(padded)[0, : len(points)]
    depth = np.maximum(((points - frame[EYE]) * frame[FORWARD]).sum(axis=1), 1e-9)
    reach = radius / depth[:, None] * frame[SCALE, :2] * 0.5 * min(camera.size)
    scale = np.array([w / camera.size[1], h / camera.size[0]])
    visible = np.isfinite(place).all(axis=1)
    low, high = (np.where(visible[:, None], (place + sign * reach) * scale, -2.0) for sign in (-1, 1))
    outside = (high < 0).any(axis=1) | (low > (w, h)).any(axis=1)
    x0, y0 = np.floor(low.clip(0, (w, h))).astype(int).T
    x1, y1 = np.ceil(high.clip(0, (w, h))).astype(int).T
    within = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0] > 0
    border = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    if border and not mask.all():  # the object goes on where the image ends
        within |= outside & visible
    return within & visible
