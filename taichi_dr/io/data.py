"""What the readers of all formats share: the mesh as read, the color of what has none, and warnings."""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np

GREY = 0.5


class MeshData(NamedTuple):
    """A mesh as read: vertices (V, 3) float64, faces (F, 3) int32, colors (V, 3) and texels (F, R, R, 3) in [0, 1], or None."""

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None
    texels: np.ndarray | None


def warn(message: str) -> None:
    """Warn at the line outside of this package that asked for the file."""
    package, level, frame = __name__.partition(".")[0], 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
