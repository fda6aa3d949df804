"""What keeps a mesh out of a picture, in plain words: for the warnings of the renderer and for `diagnose`. On the host."""

import numpy as np

from .lens import MIN_DEPTH

INSIDE = 0.75  # winding number above which a point is inside of a mesh; on an endless plane it is 0.5


def why_unseen(corners: np.ndarray, near: float, far: float, size: tuple[int, int], reach: float, middle: str) -> tuple[str, str] | None:
    """A code, "clipped" or "outside-image", and a sentence, where no face of a view can be in its picture.

    Args:
        corners: of the faces on the screen, (F, 3, 3), finite, at least one.
        near, far: of the renderer.
        size: pixels, (height, width).
        reach: how far from a face it still shows, on the screen.
        middle: the mesh's middle in the world, in words.

    Returns:
        Where it says which views, the sentence has "{views}".
    """
    nearest, farthest = corners[..., 2].min(axis=1), corners[..., 2].max(axis=1)
    behind, short, beyond = farthest <= MIN_DEPTH, (farthest > MIN_DEPTH) & (farthest < near), nearest > far
    depths = f"depths {nearest.min():.3g} to {farthest.max():.3g}"
    if (behind | short | beyond).all():
        if behind.all():
            return "clipped", f"every face is behind the camera {{views}}, at {depths}; turn it round, as with at={middle}, or move the eye"
        if not beyond.any():
            rest = f", {int(behind.sum())} of {len(corners)} behind the camera" if behind.any() else ""
            least = 0.5 * corners[..., 2][corners[..., 2] > MIN_DEPTH].min()
            return "clipped", f"every face is nearer than near = {near:g} {{views}}, at {depths}{rest}; use near={least:.2g}, or move the eye back"
        if beyond.all():
            fix = f"use far={2 * farthest.max():.2g}, or come nearer"
            return "clipped", f"every face is farther than far = {far:g} {{views}}, at {depths}; {fix}"
        counts = f"{behind.sum()} behind the camera, {short.sum()} nearer than near = {near:g}, {beyond.sum()} farther than far = {far:g}"
        return "clipped", f"every face is clipped {{views}}, at {depths}: {counts}; move the eye, or set near and far around the depths"
    height, width = size
    half = np.array([width, height]) / min(size)
    placed = corners[nearest > MIN_DEPTH]
    if len(placed) < len(corners) - behind.sum():
        return None  # a face that reaches behind the camera may be anywhere on the screen
    low, high = placed[..., :2].min(axis=1) - reach, placed[..., :2].max(axis=1) + reach
    if not ((low > half) | (high < -half)).any(axis=1).all():
        return None
    (left, bottom), (right, top) = placed[..., :2].reshape(-1, 2).min(axis=0), placed[..., :2].reshape(-1, 2).max(axis=0)
    where = f"x {left:.3g} to {right:.3g} and y {bottom:.3g} to {top:.3g} on the screen, where the image spans +-{half[0]:.3g} and +-{half[1]:.3g}"
    return "outside-image", f"the mesh is outside of the image {{views}}, at {where}; its middle is {middle}: look there with `at`, or widen the fov"


def views_text(which: np.ndarray) -> str:
    """The views where a flag is set."""
    found = np.flatnonzero(which)
    if len(which) == 1:
        return "in the view"
    if len(found) == len(which):
        return f"in all {len(which)} views"
    listed = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    return f"in view{'s' * (len(found) > 1)} {listed} of {len(which)}"


def point_text(x: np.ndarray) -> str:
    return "(" + ", ".join(f"{float(value):.3g}" for value in np.ravel(x)) + ")"


def middle_text(vertices: np.ndarray) -> str:
    """The middle of the box around the vertices, (V, 3), that are finite."""
    points = vertices[np.isfinite(vertices).all(axis=-1)]
    return point_text(0.5 * (points.min(axis=0) + points.max(axis=0))) if len(points) else "nowhere"


def winding_number(vertices: np.ndarray, faces: np.ndarray, point: np.ndarray) -> float:
    """How often a mesh is wrapped around a point: 1 inside of a closed one whose faces look outwards, 0 outside of it.

        w = 1 / (4 pi) sum_f Omega_f,   tan(Omega / 2) = a . (b x c) / (|a||b||c| + (a . b)|c| + (b . c)|a| + (c . a)|b|)

    Source: van Oosterom and Strackee, "The solid angle of a plane triangle", 1983; Jacobson et al., SIGGRAPH 2013.
    """
    a, b, c = (vertices[faces[:, k]].astype(np.float64) - point for k in range(3))
    finite = np.isfinite(a + b + c).all(axis=1)
    a, b, c = a[finite], b[finite], c[finite]
    lengths = [np.linalg.norm(x, axis=1) for x in (a, b, c)]
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    inner = [np.einsum("ij,ij->i", x, y) for x, y in ((a, b), (b, c), (c, a))]
    below = lengths[0] * lengths[1] * lengths[2] + inner[0] * lengths[2] + inner[1] * lengths[0] + inner[2] * lengths[1]
    return float(np.arctan2(volume, below).sum() / (2 * np.pi))
