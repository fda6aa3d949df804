"""A first shape from masks alone: the visual hull, everything that lies within the outlines of all views, as a mesh."""

import math
from numbers import Integral

import numpy as np
from scipy import ndimage, sparse

from .arrays import capacity, checked_number
from .camera import Camera
from .frame import EYE, FORWARD, SCALE
from .hull import Bounds, frames_of
from .mesh import Mesh
from .photos import Photos

ROOM = 1.1  # of the grid around the ball of the object
INSIDE = 0.5  # of alpha
SPECK = 0.02  # share of the largest piece's faces under which a piece is dropped
SNAP = 0.1  # of a cell: no vertex comes nearer to a grid point, where faces would have no area
CHUNK = 1 << 18  # grid points at a time, which bounds memory


def visual_hull(photos: Photos, cells: int = 80, bounds: Bounds | None = None, *, slack: float = 0.5) -> Mesh:
    """The surface of the visual hull of masked photographs.

        hull = { x : d(x) >= 0 },   d(x) = min over the views of z_b(x) / f_b (D_b(project_b(x)) + slack)

    with D the signed distance on the image to the mask's outline, in pixels and positive inside, z the depth and f the focal
    length: the distance to the nearest cone of an outline. Contoured where d is 0, it is smooth between grid points.

    Args:
        photos: with masks, from all around.
        cells: along a side of the grid.
        bounds: of the object; `photos.bounds()` where left out.
        slack: pixels that an outline may be off: where many views cut a little too much, thin parts are gone.

    Returns:
        A grey mesh. Hollows that no outline shows are filled.

    Raises:
        ValueError: masks that leave nothing, or too few cells for what they leave.

    Source: Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994; Lorensen and Cline, "Marching Cubes",
    SIGGRAPH 1987.
    """
    from skimage.measure import marching_cubes  # takes 0.3 s to import

    if isinstance(cells, bool) or not isinstance(cells, Integral) or not 8 <= cells <= 512:
        raise ValueError(f"cells: expected a whole number from 8 to 512, got {cells!r}; 80 is usual")
    slack = checked_number("slack", slack, 0.0)
    center, radius = photos.bounds() if bounds is None else bounds
    axis, cell = np.linspace(-ROOM * radius, ROOM * radius, cells + 1), 2 * ROOM * radius / cells
    grid = (cells + 1,) * 3
    distance = np.full(math.prod(grid), np.inf)
    near = np.arange(len(distance))  # not yet so far outside that it makes no difference to the surface
    for k in range(len(photos)):
        mask = photos.image(k)[..., 3] > INSIDE
        if mask.all():
            continue  # no outline
        view = _Outline(photos.camera(k), mask, slack)
        for some in np.array_split(near, -(-len(near) // CHUNK)) if len(near) else []:
            points = center + np.stack([axis[index] for index in np.unravel_index(some, grid)], axis=1)
            distance[some] = np.minimum(distance[some], view.distance(points))
        near = near[distance[near] > -2 * cell]
    if np.isposinf(distance).all():
        raise ValueError("photos: expected masks, got none with an outline, alpha is 1 everywhere; give masks, or images with alpha")
    volume = np.nan_to_num(distance, posinf=radius).reshape(grid)
    # What reaches the border of the grid is closed there.
    volume[[0, -1]] = volume[:, [0, -1]] = volume[:, :, [0, -1]] = -cell
    if not (volume > 0).any():
        raise ValueError(
            f"photos: expected masks with a place in common, got none on a grid of {cells} cells; take more cells, or check cameras and masks"
        )
    volume = np.where(np.abs(volume) < SNAP * cell, np.where(volume < 0, -SNAP * cell, SNAP * cell), volume)
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(cell,) * 3, gradient_direction="ascent")
    faces = _large_pieces(faces, len(vertices))
    used, faces = np.unique(faces, return_inverse=True)
    return Mesh(vertices[used] - ROOM * radius + center, faces.reshape(-1, 3).astype(np.int32))


class _Outline:
    """Signed distances to the cone of a mask."""

    def __init__(self, camera: Camera, mask: np.ndarray, slack: float) -> None:
        inside = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        self.camera, self.inside = camera, inside - 0.5 * np.sign(inside) + slack  # to the outline rather than to the next center
        self.frame = frames_of(camera)[0]
        self.focal = 0.5 * min(camera.size) * float(self.frame[SCALE, :2].min())
        is_cut = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        self.beyond = np.inf if is_cut else -math.hypot(*camera.size)  # where the object goes on beyond the image it is not known

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Of (N, 3), in world units, positive inside, infinite where this view says nothing."""
        padded = np.concatenate([points, np.repeat(points[:1], capacity(len(points)) - len(points), axis=0)])  # arrays of few sizes
        place = self.camera.project(padded)[0, : len(points)]
        seen = np.isfinite(place).all(axis=1)
        rows, columns = (np.where(seen, place[:, axis], -1e6) - 0.5 for axis in (1, 0))
        pixels = ndimage.map_coordinates(self.inside, [rows, columns], order=1, mode="constant", cval=self.beyond)
        depth = 1.0 if self.camera.orthographic else np.maximum((points - self.frame[EYE]) @ self.frame[FORWARD], 1e-9)
        return np.where(seen, pixels * depth / self.focal, np.inf)


def _large_pieces(faces: np.ndarray, count: int) -> np.ndarray:
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    _, piece = sparse.csgraph.connected_components(sparse.coo_array((np.ones(len(ends)), tuple(ends.T)), (count, count)), directed=False)
    sizes = np.bincount(piece[faces[:, 0]])
    return faces[sizes[piece[faces[:, 0]]] >= SPECK * sizes.max()]
