"""A first shape from masks alone: the visual hull, everything that lies within the outlines of all views, as a mesh."""

import math

import numpy as np
from scipy import ndimage, sparse

from .frame import EYE, FORWARD, SCALE
from .hull import Bounds, frames_of
from .mesh import Mesh
from .photos import Photos

ROOM = 1.1  # of the grid around the ball of the object
INSIDE = 0.5  # of alpha
SPECK = 0.02  # share of the largest piece's faces under which a piece is dropped
CHUNK = 1 << 18  # grid points at a time, which bounds memory


def visual_hull(photos: Photos, cells: int = 80, bounds: Bounds | None = None) -> Mesh:
    """The surface of the visual hull of masked photographs.

        hull = { x : d(x) >= 0 },   d(x) = min over the views of z_b(x) / f_b D_b(project_b(x))

    with D the signed distance on the image to the mask's outline, in pixels and positive inside, z the depth and f the focal
    length: the distance to the nearest cone of an outline. Contoured where d is 0, it is smooth between grid points.

    Args:
        photos: with masks, from all around.
        cells: along a side of the grid.
        bounds: of the object; `photos.bounds()` where left out.

    Returns:
        A grey mesh. Hollows that no outline shows are filled.

    Raises:
        ValueError: masks that leave nothing, or too few cells for what they leave.

    Source: Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994; Lorensen and Cline, "Marching Cubes",
    SIGGRAPH 1987.
    """
    from skimage.measure import marching_cubes  # takes 0.3 s to import

    if isinstance(cells, bool) or not isinstance(cells, int) or not 8 <= cells <= 512:
        raise ValueError(f"cells: expected a whole number from 8 to 512, got {cells!r}")
    center, radius = photos.bounds() if bounds is None else bounds
    axis = np.linspace(-ROOM * radius, ROOM * radius, cells + 1)
    distance = np.full((cells + 1) ** 3, np.inf)
    for k in range(len(photos)):
        camera, mask = photos.camera(k), photos.image(k)[..., 3] > INSIDE
        inside = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        inside -= 0.5 * np.sign(inside)  # to the outline rather than to the next pixel's center
        frame = frames_of(camera)[0]
        focal = 0.5 * min(camera.size) * float(frame[SCALE, :2].min())
        is_cut = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        outside = np.inf if is_cut else -math.hypot(*camera.size)  # what is beyond the image is unknown where the object goes on there
        for begin in range(0, len(distance), CHUNK):
            points = center + np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)[begin : begin + CHUNK]
            place = camera.project(points)[0]
            seen = np.isfinite(place).all(axis=1)
            rows, columns = np.where(seen, place[:, 1], -1e6) - 0.5, np.where(seen, place[:, 0], -1e6) - 0.5
            pixels = ndimage.map_coordinates(inside, [rows, columns], order=1, mode="constant", cval=outside)
            depth = np.maximum((points - frame[EYE]) @ frame[FORWARD], 0.0)
            scale = 1 / focal if camera.orthographic else depth / focal
            distance[begin : begin + CHUNK] = np.minimum(distance[begin : begin + CHUNK], np.where(seen, pixels * scale, np.inf))
    volume = np.nan_to_num(distance, posinf=radius).reshape((cells + 1,) * 3)
    # What reaches the border of the grid is closed there.
    volume[[0, -1]] = volume[:, [0, -1]] = volume[:, :, [0, -1]] = -2 * radius / cells
    if not (volume > 0).any():
        raise ValueError(
            f"photos: expected masks with a place in common, got none on a grid of {cells} cells; take more cells, or check cameras and masks"
        )
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(2 * ROOM * radius / cells,) * 3, gradient_direction="ascent")
    faces = _large_pieces(faces, len(vertices))
    used, faces = np.unique(faces, return_inverse=True)
    return Mesh(vertices[used] - ROOM * radius + center, faces.reshape(-1, 3).astype(np.int32))


def _large_pieces(faces: np.ndarray, count: int) -> np.ndarray:
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    _, piece = sparse.csgraph.connected_components(sparse.coo_array((np.ones(len(ends)), tuple(ends.T)), (count, count)), directed=False)
    sizes = np.bincount(piece[faces[:, 0]])
    return faces[sizes[piece[faces[:, 0]]] >= SPECK * sizes.max()]
