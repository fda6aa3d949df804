"""A head by formula, with modes of shape, expression and color: what `MorphableModel.synthetic` is made of.

About 2 units high, y up, the face toward +z. A vertex is told by its direction d, a point of the unit sphere; every feature is a smooth bump
around a point (x, y) of the face, or around a pair of them, left and right alike.
"""

from typing import Any

import numpy as np

from .io.morphable import Modes, MorphableData
from .shapes import _lathe, _whole

SKIN, LIPS, BROWS, HAIR = np.array([0.80, 0.60, 0.49]), np.array([0.70, 0.36, 0.34]), np.array([0.30, 0.21, 0.15]), np.array([0.23, 0.16, 0.11])
SCLERA, IRIS, PUPIL = np.array([0.93, 0.92, 0.90]), np.array([0.33, 0.43, 0.40]), np.array([0.06, 0.05, 0.05])
EYE, BROW, MOUTH, NOSE = (0.27, 0.12), (0.28, 0.33), (0.0, -0.44), (0.0, -0.14)  # (x, y) of the direction
WAVES = 2.2  # of a mode that is no feature: waves across the head at first, slowly more in later modes
SEED = 7


def head(vertices: int, shape_modes: int, expression_modes: int, color_modes: int) -> MorphableData:
    """About so many vertices, and modes of standard deviation 1 each whose columns have length 1.

    Raises:
        ValueError: fewer than 200 vertices, or less than one mode.
    """
    _whole("vertices", vertices, 200)
    counts = [_whole(name, n, 1) for name, n in (("shape_modes", shape_modes), ("expression_modes", expression_modes), ("color_modes", color_modes))]
    directions, faces = _sphere(vertices)
    return MorphableData(
        _skull(directions).reshape(-1),
        faces,
        _modes(directions, _shape_features(directions), counts[0], 0.012, SEED),
        _modes(directions, _expression_features(directions), counts[1], 0.006, SEED + 1),
        _colors(directions).reshape(-1),
        _modes(directions, _color_features(directions), counts[2], 0.02, SEED + 2),
    )


def _sphere(vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Meridians and parallels, three times as close on the face as behind it."""
    rings = max(9, round(np.sqrt((vertices - 2) / 1.6)))
    around = max(12, round((vertices - 2) / rings))
    middle = np.pi * (np.arange(rings) + 1) / (rings + 1)
    polar = middle + 0.22 * np.sin(2 * middle)  # closer around the equator
    points, faces = _lathe(np.stack([np.sin(polar), np.cos(polar)], axis=1), 1.0, -1.0, around)
    azimuth = np.arctan2(points[:, 0], points[:, 2])
    azimuth = azimuth - 0.5 * np.sin(azimuth)
    ring = np.hypot(points[:, 0], points[:, 2])
    return np.stack([ring * np.sin(azimuth), points[:, 1], ring * np.cos(azimuth)], axis=1), faces


# --- Places ------------------------------------------------------------------------------------------------------


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _front(d: np.ndarray) -> np.ndarray:
    """1 on the face, 0 behind the ears."""
    return _step(0.05, 0.45, d[:, 2])


def _bump(d: np.ndarray, at: tuple[float, float], width: float, height: float) -> np.ndarray:
    """1 at a point of the face, falling off over a width and a height."""
    return np.exp(-(((d[:, 0] - at[0]) / width) ** 2) - ((d[:, 1] - at[1]) / height) ** 2) * _front(d)


def _pair(d: np.ndarray, at: tuple[float, float], width: float, height: float) -> np.ndarray:
    return _bump(d, at, width, height) + _bump(d, (-at[0], at[1]), width, height)


def _spot(d: np.ndarray, at: tuple[float, float], width: float, height: float, edge: float = 0.25) -> np.ndarray:
    """1 within an ellipse, 0 outside, for colors."""
    radius = np.hypot((np.abs(d[:, 0]) - at[0]) / width, (d[:, 1] - at[1]) / height)
    return (1 - _step(1 - edge, 1 + edge, radius)) * _front(d)


def _along(values: np.ndarray, *axis: float) -> np.ndarray:
    return values[:, None] * np.array(axis)


# --- Mean shape --------------------------------------------------------------------------------------------------


def _skull(d: np.ndarray) -> np.ndarray:
    x, y, z = d.T
    jaw = 1 - 0.10 * _step(0.1, -0.5, y) + 0.14 * _step(-0.35, -0.95, y)  # cheeks narrow, the chin broad
    p = np.stack([0.74 * x * jaw, y, 0.86 * z * np.where(z > 0, 1 - 0.10 * (1 - x * x), 1.0)], axis=1)
    ridge = np.exp(-((x / (0.065 + 0.05 * _step(0.1, -0.2, y))) ** 2)) * _step(0.34, -0.16, y) * (1 - _step(-0.19, -0.29, y)) * _front(d)
    mouth_line = np.exp(-(((y - MOUTH[1]) / 0.018) ** 2)) * np.exp(-((x / 0.24) ** 2)) * _front(d)
    out = (
        0.18 * ridge
        + 0.05 * _pair(d, (0.075, -0.21), 0.05, 0.045)  # nostrils
        - 0.11 * _pair(d, EYE, 0.15, 0.11)
        + 0.055 * _pair(d, EYE, 0.095, 0.055)  # eyeballs
        + 0.05 * _pair(d, (0.26, 0.30), 0.22, 0.08)  # brow ridge
        + 0.05 * _pair(d, (0.36, -0.14), 0.16, 0.16)  # cheek bones
        - 0.03 * _pair(d, (0.34, -0.42), 0.13, 0.18)
        + 0.05 * _bump(d, (0, -0.395), 0.22, 0.045)
        + 0.06 * _bump(d, (0, -0.49), 0.20, 0.05)
        - 0.035 * mouth_line
        - 0.03 * _bump(d, (0, -0.60), 0.2, 0.05)
        + 0.09 * _bump(d, (0, -0.76), 0.2, 0.13)  # chin
    )
    ears = np.exp(-(((np.abs(x) - 0.97) / 0.10) ** 2) - ((y - 0.02) / 0.17) ** 2 - ((z + 0.05) / 0.10) ** 2)
    return p + _along(out, 0, 0, 1) + _along(0.10 * ears * np.sign(x), 1, 0, -0.3)


# --- Mean colors -------------------------------------------------------------------------------------------------


def _mouth(d: np.ndarray) -> np.ndarray:
    return np.maximum(_spot(d, (0.0, -0.42), 0.26, 0.05), _spot(d, (0.0, -0.46), 0.23, 0.07))


def _brows(d: np.ndarray) -> np.ndarray:
    arch = d[:, 1] - BROW[1] - 0.05 * np.cos((np.abs(d[:, 0]) - 0.30) * 6) + 0.04
    radius = np.hypot((np.abs(d[:, 0]) - BROW[0]) / 0.17, arch / 0.038)
    return (1 - _step(0.6, 1.2, radius)) * _front(d)


def _hair(d: np.ndarray) -> np.ndarray:
    line = 0.66 - 1.1 * _step(0.0, -0.6, d[:, 2]) - 0.42 * _step(0.5, 0.85, np.abs(d[:, 0]))
    return _step(line - 0.03, line + 0.05, d[:, 1])


def _colors(d: np.ndarray) -> np.ndarray:
    colors = np.tile(SKIN, (len(d), 1))

    def paint(color: np.ndarray, share: np.ndarray) -> None:
        colors[:] = colors + share[:, None] * (color - colors)

    paint(np.array([0.83, 0.48, 0.42]), 0.35 * _pair(d, (0.38, -0.20), 0.15, 0.12) + 0.3 * _bump(d, (0, -0.20), 0.10, 0.08))
    paint(np.array([0.55, 0.38, 0.30]), 0.45 * _spot(d, EYE, 0.15, 0.10, 0.6))
    paint(SCLERA, _spot(d, EYE, 0.115, 0.058))
    paint(IRIS, _spot(d, EYE, 0.048, 0.05))
    paint(PUPIL, _spot(d, EYE, 0.022, 0.024))
    paint(LIPS, _mouth(d))
    paint(0.45 * LIPS, np.exp(-(((d[:, 1] - MOUTH[1]) / 0.014) ** 2)) * _spot(d, MOUTH, 0.24, 0.1))
    paint(BROWS, 0.9 * _brows(d))
    paint(0.5 * SKIN, 0.7 * _spot(d, (0.06, -0.245), 0.03, 0.016, 0.5))
    paint(HAIR, _hair(d))
    return colors


# --- Modes -------------------------------------------------------------------------------------------------------


def _shape_features(d: np.ndarray) -> list[np.ndarray]:
    x, y, z = d.T
    below, side = _step(0.0, -0.7, y), np.sign(x) * _step(0, 0.3, np.abs(x))
    return [
        _along(0.05 * x, 1, 0, 0),
        _along(0.05 * y, 0, 1, 0),
        _along(0.06 * below * x, 1, 0, 0),
        _along(0.06 * below * below * _front(d), 0, -1, 0.2),
        _along(0.07 * _bump(d, (0, -0.17), 0.10, 0.12), 0, -0.2, 1),
        _along(0.05 * _pair(d, (0.08, -0.20), 0.07, 0.08) * np.sign(x), 1, 0, 0),
        _along(0.05 * _bump(d, NOSE, 0.12, 0.22), 0, -1, 0),
        _along(0.035 * _pair(d, EYE, 0.16, 0.16) * side, 1, 0, 0),
        _along(0.035 * _pair(d, EYE, 0.18, 0.12), 0, 0, 1),
        _along(0.04 * _pair(d, (0.40, -0.16), 0.2, 0.2), 0.0, 0, 1),
        _along(0.03 * (_bump(d, (0, -0.385), 0.18, 0.05) + _bump(d, (0, -0.50), 0.16, 0.06)), 0, 0, 1),
        _along(0.05 * _bump(d, (0, -0.78), 0.22, 0.15), 0, 0, 1),
        _along(0.05 * _step(0.2, 0.9, y) * _front(d), 0, 0.3, 1),
        _along(0.06 * np.where(z < 0, z, 0), 0, 0, 1),
    ]


def _expression_features(d: np.ndarray) -> list[np.ndarray]:
    x, side = d[:, 0], np.sign(d[:, 0])
    corners, lower = _pair(d, (0.25, MOUTH[1]), 0.09, 0.09), _bump(d, (0, -0.56), 0.26, 0.14)
    open_jaw = lower * _step(MOUTH[1] + 0.02, MOUTH[1] - 0.05, d[:, 1]) + 0.8 * _bump(d, (0, -0.78), 0.4, 0.2)
    lids = _pair(d, (EYE[0], EYE[1] + 0.05), 0.11, 0.05)
    return [
        _along(0.09 * open_jaw, 0, -1, -0.25),
        _along(0.05 * corners, 0, 1, -0.3) + _along(0.05 * corners * side, 1, 0, 0) + _along(0.02 * _pair(d, (0.34, -0.2), 0.13, 0.12), 0, 1, 1),
        _along(0.04 * corners, 0, -1, 0),
        _along(0.04 * _bump(d, MOUTH, 0.2, 0.12), 0, 0, 1) - _along(0.025 * _bump(d, MOUTH, 0.3, 0.14) * np.tanh(d[:, 0] / 0.15), 1, 0, 0),
        _along(0.05 * _pair(d, BROW, 0.2, 0.1), 0, 1, 0),
        _along(0.025 * _pair(d, (0.12, 0.31), 0.09, 0.08), 0, -1, 0.4),
        _along(0.045 * lids, 0, -1, 0.3),
        _along(0.06 * _pair(d, (0.33, -0.36), 0.14, 0.16), 0, 0, 1),
        _along(0.05 * _bump(d, (0, -0.48), 0.26, 0.16), 1, 0, 0),
        _along(0.03 * _bump(d, (0, -0.15), 0.16, 0.12), 0, 1, 0.2)
        + _along(0.02 * np.exp(-((x / 0.3) ** 2)) * _bump(d, (0, -0.38), 0.2, 0.06), 0, 1, 0),
    ]


def _color_features(d: np.ndarray) -> list[np.ndarray]:
    hair, mouth, brows, eyes = _hair(d), _mouth(d), _brows(d), _spot(d, EYE, 0.048, 0.05)
    skin = (1 - hair) * (1 - mouth) * (1 - brows) * (1 - _spot(d, EYE, 0.115, 0.058))
    return [
        _along(0.09 * skin, 1.0, 1.05, 1.0),
        _along(0.04 * skin, 1.0, -0.2, -0.6),
        _along(0.10 * mouth, 0.7, -0.8, -0.5),
        _along(0.10 * brows, 1.0, 0.9, 0.7),
        _along(0.14 * hair, 1.0, 0.75, 0.4),
        _along(0.10 * eyes, -0.5, 0.1, 1.0),
        _along(0.06 * _pair(d, (0.38, -0.22), 0.16, 0.14), 0.6, -0.6, -0.5),
        _along(0.05 * _spot(d, (0.0, -0.62), 0.45, 0.30, 0.6) * skin, -1, -1, -0.9),
    ]


def _modes(d: np.ndarray, features: list[np.ndarray], count: int, spread: float, seed: int) -> Modes:
    """Features first, then waves sin(w . d + phase), the longer the earlier, left and right alike every other time."""
    random = np.random.default_rng(seed)
    basis = np.empty((3 * len(d), count), np.float32)
    folded = np.abs(d[:, 0])
    for k in range(count):
        if k < len(features):
            column: Any = features[k]
        else:
            n = k - len(features)
            wave, phase, axis = random.standard_normal(3) * WAVES * (1 + 0.04 * n), random.uniform(0, 2 * np.pi), random.standard_normal(3)
            across = folded if n % 2 == 0 else d[:, 0]
            column = _along(spread / (1 + 0.05 * n) * np.sin(across * wave[0] + d[:, 1] * wave[1] + d[:, 2] * wave[2] + phase), *axis)
        basis[:, k] = column.reshape(-1)
    lengths = np.linalg.norm(basis, axis=0)
    return Modes(basis / lengths, lengths)
