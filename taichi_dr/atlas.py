"""A texture atlas: the images of several materials packed into one, and texture coordinates that follow them there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

GUTTER = 8  # texels of border around each image, and the grid that images start on: mip levels 0 to 3 do not mix them
MAX_SIDE = 16384  # texels, what graphics cards and image viewers take
MAX_TEXELS = 1 << 27  # of all images together, repeated as they are: as floats 3 GB; eight images of 4096 x 4096 fit
MAX_TILES = 4  # of a repeating image, to each side
MAX_TILED_SIDE = 4096  # texels; an image is not repeated beyond
SLACK = 1e-4  # how far a rounded texture coordinate may leave its tile
FARTHEST = 1e15  # texture coordinates beyond have no fraction


class Surface(NamedTuple):
    """What a material shows: an image, which beyond [0, 1] is repeated or has its border extended."""

    image: np.ndarray  # (H, W, 3), row 0 on top
    clamp: bool = False


class Atlas(NamedTuple):
    """One texture with the texture coordinates of a mesh in it."""

    texture: np.ndarray  # (H, W, 3)
    uv: np.ndarray  # (T, 2), v down from the top
    uv_faces: np.ndarray  # (F, 3)


def pack_surfaces(
    surfaces: Sequence[Surface], face_surfaces: np.ndarray, corners: np.ndarray, corner_ids: np.ndarray, warn: Callable[[str], None]
) -> Atlas:
    """Pack the images of several surfaces into one texture and move the texture coordinates there.

    Where the texture coordinates of a surface leave [0, 1], the image is repeated in the atlas, up to 4 x 4 times and 4096
    texels. Where they range farther, each face is moved by whole tiles, which shows the same; a face that by
    itself spans more tiles than that shows fewer of them, and of a surface that extends its border the coordinates
    are clipped, both with a warning.

    Args:
        surfaces: at least one.
        face_surfaces: (F,) index of the surface of each face.
        corners: (F, 3, 2) texture coordinates in the image of that surface, v down from the top.
        corner_ids: (F, 3) integers; corners with the same one on the same surface stay joined.
        warn: takes the text of a warning.

    Returns:
        The texture in float32, uv in the order of surfaces and then of corner ids.

    Raises:
        ValueError: the texture would have more than 16384 texels on a side, or the images more than 2^27 together.
    """
    texels = 0
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.nan_to_num(corners).clip(-FARTHEST, FARTHEST)
    local, images, cut = np.empty_like(corners), [], np.zeros((*corner_ids.shape, 2), np.int64)
    for i, surface in enumerate(surfaces):
        selected = np.flatnonzero(face_surfaces == i)
        image, local[selected], tile, squeezed = _unrolled(surface, corners[selected], warn)
        images.append(image)
        texels += image.shape[0] * image.shape[1]
        if texels > MAX_TEXELS:
            raise ValueError(f"the images of {len(surfaces)} materials need more than {MAX_TEXELS} texels; make them smaller, or repeat them less")
        # Faces moved from different tiles come apart, and each face that is squeezed from all others.
        if len(selected):
            cut[selected, :, 0] = np.unique(tile, axis=0, return_inverse=True)[1].reshape(-1, 1)
        cut[selected, :, 1] = np.where(squeezed, selected + 1, 0)[:, None]
    texture, starts = pack_images(images)
    sizes = np.array([surface.image.shape[1::-1] for surface in surfaces])
    placed = (starts[face_surfaces][:, None] + local * sizes[face_surfaces][:, None]) / texture.shape[1::-1]
    keys = np.concatenate([np.broadcast_to(face_surfaces[:, None, None], (*corner_ids.shape, 1)), corner_ids[..., None], cut], axis=-1)
    _, first, inverse = np.unique(keys.reshape(-1, keys.shape[-1]), axis=0, return_index=True, return_inverse=True)
    return Atlas(texture, placed.reshape(-1, 2)[first], inverse.reshape(corner_ids.shape).astype(np.int32))


def pack_images(images: Sequence[np.ndarray], gutter: int = GUTTER) -> tuple[np.ndarray, np.ndarray]:
    """Put images side by side on shelves, the tallest first, each within a border of its own outermost texels.

    Args:
        images: (H, W, 3) each.
        gutter: least width of the border in texels, and the grid that images start on.

    Returns:
        (H, W, 3) float32 texture, black where there is no image, and (N, 2) column and row of the first texel of each image.

    Raises:
        ValueError: the texture would have more than 16384 texels on a side.
    """
    cells = np.array([[gutter + -(-(side + gutter) // gutter) * gutter for side in image.shape[1::-1]] for image in images])
    width = max(int(cells[:, 0].max()), math.isqrt(int(cells.prod(axis=1).sum())))
    corners, x, y, shelf = np.zeros((len(images), 2), np.int64), 0, 0, 0
    for k in np.lexsort((np.arange(len(images)), -cells[:, 1])):
        if x + cells[k, 0] > width:
            x, y, shelf = 0, y + shelf, 0
        corners[k], x, shelf = (x, y), x + cells[k, 0], max(shelf, cells[k, 1])
    columns, rows = (int(side) for side in (corners + cells).max(axis=0))
    if max(columns, rows) > MAX_SIDE:
        raise ValueError(f"the images of {len(images)} materials need a texture of {columns} x {rows} texels, above {MAX_SIDE}; make them smaller")
    texture = np.zeros((rows, columns, 3), np.float32)
    for image, (left, top), (wide, high) in zip(images, corners, cells, strict=True):
        height, span = image.shape[:2]
        border = (gutter, high - gutter - height), (gutter, wide - gutter - span), (0, 0)
        texture[top : top + high, left : left + wide] = np.pad(image, border, mode="edge")
    return texture, corners + gutter


def within_one_tile(uv: np.ndarray) -> bool:
    """Whether texture coordinates stay within [0, 1], up to rounding."""
    return bool((uv > -SLACK).all() and (uv < 1 + SLACK).all())


def _unrolled(surface: Surface, corners: np.ndarray, warn: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The image, repeated as needed; (N, 3, 2) of `corners` in it, in units of one tile; (N, 2) tile that each face starts in if
    faces were moved apart; (N,) whether a face was squeezed."""
    still, whole = np.zeros((len(corners), 2)), np.zeros(len(corners), bool)
    if len(corners) == 0:
        return surface.image, corners, still, whole
    low = _first_tile(corners.min(axis=(0, 1)), corners.max(axis=(0, 1)))
    high = np.maximum(np.ceil(corners.max(axis=(0, 1)) - SLACK), low + 1)
    if surface.clamp:
        low, high = np.minimum(low, 0), np.maximum(high, 1)
    most = _most_tiles(surface.image)
    if (high - low <= most).all():
        (left, top), (columns, rows) = low.astype(int), (high - low).astype(int)
        height, width = surface.image.shape[:2]
        if surface.clamp:
            border = (-top * height, (rows + top - 1) * height), (-left * width, (columns + left - 1) * width), (0, 0)
            return np.pad(surface.image, border, mode="edge"), corners - low, still, whole
        return np.tile(surface.image, (rows, columns, 1)), corners - low, still, whole
    if surface.clamp:
        warn("texture coordinates range too far beyond an image that is not to be repeated; they are clipped")
        return surface.image, corners.clip(0, 1), still, whole
    tile = _first_tile(corners.min(axis=1), corners.max(axis=1))
    local = corners - tile[:, None]
    spans = np.maximum(np.ceil(local.max(axis=1) - SLACK), 1)
    count = np.minimum(spans.max(axis=0), most)
    squeezed = (spans > count).any(axis=1)
    if squeezed.any():
        warn(f"{squeezed.sum()} faces repeat an image over more tiles than an atlas can hold; they show {count[0]:g} x {count[1]:g} at most")
        local = local * np.minimum(count / spans, 1)[:, None]
    return np.tile(surface.image, (int(count[1]), int(count[0]), 1)), local, tile, squeezed


def _first_tile(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The tile that a range starts in; of one within [0, 1] the first, even if it is only the far edge."""
    return np.where((low > -SLACK) & (high < 1 + SLACK), 0, np.floor(low + SLACK))


def _most_tiles(image: np.ndarray) -> np.ndarray:
    """How often an image may be repeated to the right and down."""
    return np.clip(MAX_TILED_SIDE // np.array(image.shape[1::-1]), 1, MAX_TILES)
