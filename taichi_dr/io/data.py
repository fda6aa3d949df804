"""What the readers of all formats share: the mesh as read, the color of what has none, and warnings."""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np

from ..atlas import FARTHEST

GREY = 0.5


class MeshData(NamedTuple):
    """A mesh as read, all but the first two None where there is none; colors, texels and texture in [0, 1]."""

    vertices: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int32
    colors: np.ndarray | None = None  # (V, 3)
    texels: np.ndarray | None = None  # (F, R, R, 3)
    uv: np.ndarray | None = None  # (T, 2), v down from the top
    uv_faces: np.ndarray | None = None  # (F, 3) int32
    texture: np.ndarray | None = None  # (H, W, 3)
    objects: np.ndarray | None = None  # (F,) int32


def flipped(uv: np.ndarray) -> np.ndarray:
    """Texture coordinates with v counted from the other end: OBJ counts it from the bottom, a mesh from the top."""
    return np.stack([uv[..., 0], 1 - uv[..., 1].astype(np.float64)], axis=-1)


def bounded(uv: np.ndarray, scale: np.ndarray | float = 1.0, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """uv * scale + offset, finite whatever they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num(uv * scale + offset).clip(-FARTHEST, FARTHEST)


def warn(message: str) -> None:
    """Warn at the line outside of this package that asked for the file."""
    package, level, frame = __name__.partition(".")[0], 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
