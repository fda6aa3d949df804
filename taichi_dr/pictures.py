"""Images on disk: what a render looks like, as PNG and GIF."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import taichi as ti

from .arrays import read


def to_uint8(image: Any) -> np.ndarray:
    """8-bit RGB or RGBA picture(s) of linear values in [0, 1], which are clipped; no gamma is applied.

    Args:
        image: a rendered image (B, H, W) of vec4, or numbers (..., H, W, channels); uint8 is taken as it is.

    Returns:
        uint8 array; a batch of one loses its batch axis.
    """
    values = read(image) if isinstance(image, ti.Ndarray) else np.asarray(image)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    return values if values.dtype == np.uint8 else (np.nan_to_num(values).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def save(path: str | os.PathLike, image: Any) -> None:
    """Write one image as PNG (or what the suffix names).

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    iio.imwrite(_writable(path), to_uint8(image))


def save_gif(path: str | os.PathLike, frames: Sequence[Any], *, frames_per_second: float = 20) -> None:
    """Write images as an endless animation.

    Raises:
        ValueError: no frames.
        OSError: the folder does not exist or cannot be written.
    """
    if len(frames) == 0:
        raise ValueError("frames: expected at least one image, got none")
    pictures = np.stack([to_uint8(frame)[..., :3] for frame in frames])
    iio.imwrite(_writable(path), pictures, duration=1000 / frames_per_second, loop=0)


def _writable(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path
