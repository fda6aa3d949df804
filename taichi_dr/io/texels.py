"""Texels: R x R colors of each face, baked from images and material colors, and laid out in an atlas image to be written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..atlas import FARTHEST, MAX_SIDE
from .data import GREY, warn
from .mtl import Material
from .textures import eight_bit


def bake_materials(
    path: Path, materials: dict[int, Material], face_materials: np.ndarray, uvs: np.ndarray, face_uvs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The colors of points on the faces.

    Args:
        path: the mesh's file, for a warning.
        materials: those there are, by index.
        face_materials: (F,) indices of materials; a face whose material there is not is grey.
        uvs: (T, 2) texture coordinates.
        face_uvs: (F, 3) indices of uvs; a face with a -1 gets the plain color of its material.
        weights: (*S, 3) of the corners, the same points for each face.

    Returns:
        (F, *S, 3) colors in [0, 1].
    """
    colors = np.full((len(face_materials), *weights.shape[:-1], 3), GREY)
    for i, material in materials.items():
        selected = np.flatnonzero(face_materials == i)
        colors[selected] = material.color
        if material.map is None:
            continue
        mapped = selected[(face_uvs[selected] >= 0).all(axis=1)]
        if len(mapped) < len(selected):
            warn(f"{path}: {len(selected) - len(mapped)} faces have a texture but no 'vt'; they get a plain color")
        for part in np.array_split(mapped, weights.size * len(mapped) // (1 << 22) + 1):  # to bound the memory
            uv = np.tensordot(uvs[face_uvs[part]], weights, axes=(1, -1))  # (F, 2, *S)
            with np.errstate(over="ignore", invalid="ignore"):
                uv = np.nan_to_num(np.moveaxis(uv, 1, -1) * material.map.scale + material.map.offset).clip(-FARTHEST, FARTHEST)
            colors[part] = sample_image(material.map.image, uv, material.map.clamp)
    return colors.clip(0, 1)


def sample_image(image: np.ndarray, uv: np.ndarray, clamp: bool = False) -> np.ndarray:
    """Sample an image bilinearly, repeating it outside of the unit square.

    Args:
        image: (H, W, 3), first row on top.
        uv: (..., 2) texture coordinates, v = 0 at the bottom.
        clamp: extend the border instead of repeating.

    Returns:
        (..., 3) colors.
    """
    # A coordinate of 1 is the far edge, also if interpolation made it 1 + epsilon.
    repeated = uv if clamp else np.where(np.abs(uv - 0.5) <= 0.5 + 1e-9, uv, uv - np.floor(uv))
    height, width = image.shape[:2]
    x = np.clip(repeated[..., 0] * width - 0.5, 0, width - 1)
    y = np.clip((1 - repeated[..., 1]) * height - 0.5, 0, height - 1)
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    s, t = (x - left)[..., None], (y - top)[..., None]
    return (1 - t) * ((1 - s) * image[top, left] + s * image[top, right]) + t * ((1 - s) * image[bottom, left] + s * image[bottom, right])


def texel_barycentrics(resolution: int) -> np.ndarray:
    """Sample points of the texels of a face.

    Args:
        resolution: R, texels per side.

    Returns:
        (R, R, 3) barycentric coordinates; those with row + column >= R lie in the upper halves of the subdivision.
    """
    row, column = np.mgrid[:resolution, :resolution]
    lower = row + column < resolution
    w0 = np.where(lower, column + 1 / 3, resolution - 1 - column + 2 / 3) / resolution
    w1 = np.where(lower, row + 1 / 3, resolution - 1 - row + 2 / 3) / resolution
    return np.stack([w0, w1, 1 - w0 - w1], axis=-1)


def bake_atlas(texels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay the texels out in an image where each face has a cell of its own.

    The triangle of a face spans 3 R pixels between pixel centers, so that the sample points of the texels are pixel centers.

    Args:
        texels: (F, R, R, 3) in [0, 1].

    Returns:
        (H, W, 3) uint8 image and (F, 3, 2) texture coordinates of the corners.

    Raises:
        ValueError: the image would have more than 16384 pixels on a side.
    """
    count, resolution = texels.shape[:2]
    cell = 3 * resolution + 3  # both end points and one pixel of padding around
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    if columns * cell > MAX_SIDE:
        fitting = (MAX_SIDE // columns - 3) // 3
        remedy = f"lower the texel resolution to {fitting} or less" if fitting > 0 else "split the mesh"
        raise ValueError(f"the atlas of {count} faces at texel resolution {resolution} exceeds {MAX_SIDE} pixels on a side; {remedy}")
    cells = np.zeros((rows * columns, cell, cell, 3), dtype=np.uint8)
    cells[:count] = eight_bit(texels).reshape(count, -1, 3)[:, _cell_texels(resolution)]
    image = cells.reshape(rows, columns, cell, cell, 3).swapaxes(1, 2).reshape(rows * cell, columns * cell, 3)
    origin = np.stack(np.divmod(np.arange(count), columns)[::-1], axis=1)[:, None] * cell + 1.5
    pixels = origin + 3 * resolution * np.array([[1, 0], [0, 1], [0, 0]])  # (F, 3, 2) of the corners w0, w1, w2
    return image, np.stack([pixels[..., 0] / image.shape[1], 1 - pixels[..., 1] / image.shape[0]], axis=-1)


def _cell_texels(resolution: int) -> np.ndarray:
    """Flat texel index (C, C) at each pixel of a cell: the texel a renderer looks up at the nearest point of the triangle."""
    span = 3 * resolution
    b, a = np.mgrid[-1 : span + 2, -1 : span + 2].clip(0, span)  # w1 and w0, in pixels
    excess = np.maximum(a + b - span, 0)
    a, b = a - (excess + 1) // 2, b - excess // 2
    a, b = a.clip(0, span + np.minimum(b, 0)), b.clip(0, span + np.minimum(a, 0))
    column, row = a // 3, b // 3
    upper = a % 3 + b % 3 > 3
    # On the hypotenuse between two texels, and at its ends, the quotients are one too large.
    beyond = (column + row >= resolution) & ~upper
    column, row = column - (beyond & (column > 0)), row - (beyond & (column == 0))
    column, row = np.where(upper, resolution - 1 - column, column), np.where(upper, resolution - 1 - row, row)
    return row * resolution + column
