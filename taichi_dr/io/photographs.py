"""Photographs from untrusted files: bounded before anything is decoded, shrunk by areas, without fringes where alpha ends."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .textures import MAX_PIXELS, refuse_absurd

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".PNG", ".JPG", ".JPEG")
ENCODINGS = ("linear", "srgb")
CHUNK = 1 << 21  # pixels that are floats at once while a photograph is shrunk


def photograph_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file by its header.

    Raises:
        ValueError: it is no such image, or an absurdly large one.
        OSError: it cannot be opened.
    """
    with _opened(path) as image:
        return image.height, image.width


def read_photograph(path: Path) -> np.ndarray:
    """(H, W, 4) uint8, as the file has them; alpha is 255 where it has none, of deeper images the upper 8 bits.

    Raises:
        ValueError, OSError: as `photograph_size`; damaged or cut off.
    """
    with _opened(path) as image:
        if image.mode[:1] in ("I", "F"):
            grey = _eight_bit_grey(image)
            return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
        return np.asarray(image.convert("RGBA"))


def read_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 of a mask: its alpha where it has one that says anything, else its brightness.

    Raises:
        ValueError, OSError: as `read_photograph`.
    """
    with _opened(path) as image:
        if image.mode[:1] in ("I", "F"):
            mask = _eight_bit_grey(image)
        else:
            mask = None
            if "A" in image.getbands() or "transparency" in image.info:
                mask = np.asarray(image.convert("RGBA"))[..., 3]
            if mask is None or mask.min() == 255:
                mask = np.asarray(image.convert("L"))
    return mask


def _eight_bit_grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return np.rint(np.nan_to_num(values).clip(0, 1) * 255).astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A Pillow image whose size was checked; whatever goes wrong with it is an error that names the file."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on sizes that are refused below, and on metadata that nobody reads
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path}: expected at most {MAX_PIXELS} pixels, got more; resize the image first") from error
        except Exception as error:  # image decoders raise about anything
            raise ValueError(f"{path}: expected an image, {', '.join(FORMATS)}, got something else ({error}); convert or copy it again") from error
        refuse_absurd(str(path), image, path.stat().st_size)
        try:
            yield image
        except Exception as error:
            raise ValueError(f"{path}: expected a whole image, got a damaged one ({error}); copy it again") from error


# --- Colors and sizes -------------------------------------------------------------------------------------------


def decoded(encoding: str) -> np.ndarray:
    """(256,) float32: the linear value of each byte."""
    x = np.arange(256) / 255
    if encoding == "srgb":
        x = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return x.astype(np.float32)


def encoded(x: np.ndarray, encoding: str) -> np.ndarray:
    """Bytes of linear values, clipped to [0, 1]."""
    x = np.clip(x, 0, 1)
    if encoding == "srgb":
        x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.rint(x * 255).astype(np.uint8)


def developed(rgba: np.ndarray, mask: np.ndarray | None, size: tuple[int, int], table: np.ndarray) -> np.ndarray:
    """(h, w, 4) float32: linear colors times alpha, and alpha, each the mean over the area of its pixel.

        out = 1/|A| integral over A of (alpha c, alpha)

    Args:
        rgba: (H, W, 4) uint8, colors not yet times alpha.
        mask: (H, W) uint8, by which alpha is multiplied.
        size: (h, w).
        table: the linear value of each byte.
    """
    height, width = rgba.shape[:2]
    out = np.empty((*size, 4), np.float32)
    rows, row_weights = _overlaps(height, size[0])
    columns, column_weights = _overlaps(width, size[1])
    step = max(1, CHUNK // width)
    for start in range(0, size[0], step):
        part = slice(start, min(start + step, size[0]))
        strip = np.zeros((part.stop - part.start, width, 4), np.float32)
        for tap, weight in zip(rows[part].T, row_weights[part].T, strict=True):
            strip += weight[:, None, None] * _premultiplied(rgba[tap], None if mask is None else mask[tap], table)
        if size[1] == width:
            out[part] = strip
            continue
        out[part] = 0
        for tap, weight in zip(columns.T, column_weights.T, strict=True):
            out[part] += weight[:, None] * strip[:, tap]
    if mask is None and rgba[..., 3].min() == 255:
        out[..., 3] = 1  # not the sum of weights
    return out


def _premultiplied(rgba: np.ndarray, mask: np.ndarray | None, table: np.ndarray) -> np.ndarray:
    out = table[rgba]
    out[..., 3] = rgba[..., 3] / np.float32(255)
    if mask is not None:
        out[..., 3] *= mask / np.float32(255)
    out[..., :3] *= out[..., 3:]
    return out


def _overlaps(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `length` pixels each of `count` covers, (count, taps), and which share of it each is."""
    if length == count:
        return np.arange(count)[:, None], np.ones((count, 1), np.float32)
    i = np.arange(count)[:, None]
    index = i * length // count + np.arange(-(-length // count) + 1)
    # In units of 1 / count of a pixel, so that the edges are whole.
    overlap = np.minimum((index + 1) * count, (i + 1) * length) - np.maximum(index * count, i * length)
    return np.minimum(index, length - 1), (np.maximum(overlap, 0) / length).astype(np.float32)
