"""A head by formula, with modes of shape, expression and color: what `MorphableModel.synthetic` is made of.

About 2 units high, y up, the face toward +z. A vertex is told by its direction d, a point of the unit sphere; every feature is a smooth bump
around a point (x, y) of the face, or around a pair of them, left and right alike.
"""

from typing import Any

import numpy as np

from .io.morphable import Modes, MorphableData
from .shapes import _lathe, _whole

SKIN, BLUSH, LIPS = np.array([0.86, 0.65, 0.53]), np.array([0.87, 0.50, 0.43]), np.array([0.74, 0.37, 0.35])
BROWS, LASHES, HAIR = np.array([0.30, 0.20, 0.13]), np.array([0.20, 0.13, 0.10]), np.array([0.30, 0.19, 0.11])
SCLERA, IRIS, PUPIL = np.array([0.95, 0.94, 0.92]), np.array([0.28, 0.42, 0.46]), np.array([0.05, 0.04, 0.04])
EYE, BROW, MOUTH, NOSE, CHIN, CHEEK = (0.35, 0.05), (0.36, 0.26), (0.0, -0.53), (0.0, -0.22), (0.0, -0.84), (0.46, -0.24)  # (x, y) of the direction
WAVES = 2.2  # of a mode that is no feature: waves across the head at first, slowly more in later modes
SEED = 7


def head(vertices: int, shape_modes: int, expression_modes: int, color_modes: int) -> MorphableData:
    """About so many vertices, and modes whose columns have length 1.

    Raises:
        ValueError: fewer than 200 vertices, or less than one mode.
    """
    _whole("vertices", vertices, 200)
    counts = [_whole(name, n, 1) for name, n in (("shape_modes", shape_modes), ("expression_modes", expression_modes), ("color_modes", color_modes))]
    directions, faces = _sphere(vertices)
    return MorphableData(
        _skull(directions).reshape(-1),
        faces,
        _modes(directions, _shape_features(directions), counts[0], 0.02, SEED),
        _modes(directions, _expression_features(directions), counts[1], 0.02, SEED + 1),
        _colors(directions).reshape(-1),
        _modes(directions, _color_features(directions), counts[2], 0.03, SEED + 2),
    )


def _sphere(vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Meridians and parallels, three times as close on the face as behind it."""
    rings = max(9, round(np.sqrt((vertices - 2) / 1.4)))
    around = max(12, round((vertices - 2) / rings))
    middle = np.pi * (np.arange(rings) + 1) / (rings + 1)
    polar = middle + 0.30 * np.sin(2 * middle)  # closer around the equator
    points, faces = _lathe(np.stack([np.sin(polar), np.cos(polar)], axis=1), 1.0, -1.0, around)
    azimuth = np.arctan2(points[:, 0], points[:, 2])
    azimuth = azimuth - 0.6 * np.sin(azimuth)
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
    lower = _step(0.0, -0.8, y)
    depth = np.where(z > 0, 0.84 - 0.08 * (1 - x * x) + 0.46 * lower, 0.84 - 0.10 * lower)  # the face stands upright, the nape recedes
    p = np.stack([0.74 * x * (1 - 0.12 * lower), y, z * depth], axis=1)
    bridge = np.exp(-((x / (0.07 + 0.05 * _step(0.1, -0.2, y))) ** 2)) * _step(0.28, -0.24, y) * (1 - _step(-0.26, -0.36, y)) * _front(d)
    out = (
        0.15 * bridge
        + 0.055 * _pair(d, (0.085, -0.28), 0.055, 0.045)  # nostrils
        - 0.09 * _pair(d, (EYE[0], EYE[1] + 0.01), 0.20, 0.13)
        + 0.055 * _pair(d, EYE, 0.14, 0.085)  # eyeballs
        + 0.045 * _pair(d, (0.32, 0.23), 0.26, 0.08)  # brow ridge
        + 0.05 * _pair(d, CHEEK, 0.17, 0.16)
        - 0.03 * _pair(d, (0.36, -0.50), 0.13, 0.16)
        + 0.04 * _bump(d, (0, -0.485), 0.25, 0.045)  # upper lip
        + 0.045 * _bump(d, (0, -0.585), 0.21, 0.05)  # lower lip
        - 0.02 * _mouth_line(d)
        - 0.035 * _bump(d, (0, -0.66), 0.20, 0.045)
        + 0.13 * _bump(d, CHIN, 0.24, 0.13)
    )
    ears = _step(1.25, 0.75, np.hypot((y + 0.06) / 0.20, (z + 0.08) / 0.13))
    return p * (1 + 0.05 * _hair(d))[:, None] + _along(out, 0, 0, 1) + _along(0.11 * ears * np.sign(x), 1, 0, 0) - _along(0.05 * ears, 0, 0, 1)


# --- Mean colors -------------------------------------------------------------------------------------------------


def _smile(d: np.ndarray) -> np.ndarray:
    """Height over the line between the lips, whose corners are raised."""
    return d[:, 1] - MOUTH[1] - 0.6 * d[:, 0] ** 2


def _mouth_line(d: np.ndarray) -> np.ndarray:
    return np.exp(-((_smile(d) / 0.015) ** 2)) * (1 - _step(0.25, 0.37, np.abs(d[:, 0]))) * _front(d)


def _mouth(d: np.ndarray) -> np.ndarray:
    """The lips: two arcs over and under the line, the upper with a dip in the middle."""
    x, above = np.abs(d[:, 0]), _smile(d)
    fall = np.sqrt(np.clip(1 - (x / 0.33) ** 2, 0, 1))
    top, bottom = (0.062 - 0.012 * np.exp(-((x / 0.06) ** 2))) * fall, 0.09 * fall
    return (1 - _step(0.8, 1.2, above / np.maximum(top, 1e-3))) * (1 - _step(0.8, 1.2, -above / np.maximum(bottom, 1e-3))) * (x < 0.33) * _front(d)


def _eye(d: np.ndarray) -> np.ndarray:
    return _spot(d, EYE, 0.175, 0.088)


def _iris(d: np.ndarray) -> np.ndarray:
    return _spot(d, EYE, 0.082, 0.082)


def _pupil(d: np.ndarray) -> np.ndarray:
    return _spot(d, EYE, 0.038, 0.038)


def _brows(d: np.ndarray) -> np.ndarray:
    x = np.abs(d[:, 0]) - BROW[0]
    radius = np.hypot(x / 0.20, (d[:, 1] - BROW[1] + 1.2 * (x - 0.02) ** 2) / 0.042)
    return (1 - _step(0.6, 1.3, radius)) * _front(d)


def _hair(d: np.ndarray) -> np.ndarray:
    """Above a line that falls from the forehead over the temples to the nape."""
    line = 0.60 - 0.34 * _step(0.62, 0.10, d[:, 2]) - 0.85 * _step(0.05, -0.55, d[:, 2])
    return _step(line - 0.04, line + 0.05, d[:, 1])


def _colors(d: np.ndarray) -> np.ndarray:
    colors = np.tile(SKIN, (len(d), 1))

    def paint(color: np.ndarray, share: np.ndarray) -> None:
        colors[:] = colors + share[:, None] * (color - colors)

    paint(BLUSH, 0.4 * _pair(d, CHEEK, 0.16, 0.13) + 0.35 * _bump(d, (0, -0.27), 0.10, 0.08))
    paint(0.7 * SKIN, 0.5 * _pair(d, (EYE[0], EYE[1] + 0.06), 0.17, 0.08))
    paint(LASHES, 0.8 * _spot(d, (EYE[0], EYE[1] + 0.02), 0.195, 0.095))
    paint(SCLERA, _eye(d))
    paint(IRIS, _iris(d))
    paint(PUPIL, _pupil(d))
    paint(LIPS, _mouth(d))
    paint(0.4 * LIPS, 0.8 * _mouth_line(d))
    paint(BROWS, 0.95 * _brows(d))
    paint(0.5 * SKIN, 0.7 * _spot(d, (0.06, -0.325), 0.035, 0.016, 0.5))  # nostrils
    paint(HAIR, _hair(d))
    return colors


# --- Modes -------------------------------------------------------------------------------------------------------


def _shape_features(d: np.ndarray) -> list[np.ndarray]:
    """Width, height, jaw, chin, nose (length, width, height), eyes (distance, size, depth), cheeks, lips, forehead, back of the head, ears."""
    x, y, z = d.T
    below, side = _step(0.0, -0.7, y), np.tanh(x / 0.05)
    return [
        _along(0.05 * x, 1, 0, 0),
        _along(0.06 * y, 0, 1, 0),
        _along(0.08 * below * x, 1, 0, 0),
        _along(0.08 * below * below * _front(d), 0, -1, 0.3),
        _along(0.05 * _bump(d, (0, -0.25), 0.12, 0.14), 0, -0.3, 1),
        _along(0.03 * _pair(d, (0.085, -0.27), 0.08, 0.10) * side, 1, 0, 0),
        _along(0.05 * _bump(d, NOSE, 0.14, 0.20), 0, -1, 0),
        _along(0.03 * _pair(d, (EYE[0], 0.1), 0.22, 0.22) * side, 1, 0, 0),
        _along(0.03 * _pair(d, EYE, 0.20, 0.12) * np.tanh((y - EYE[1]) / 0.06), 0, 1, 0),
        _along(0.035 * _pair(d, EYE, 0.20, 0.14), 0, 0, 1),
        _along(0.05 * _pair(d, CHEEK, 0.20, 0.20), 0.0, 0, 1) + _along(0.03 * _pair(d, CHEEK, 0.25, 0.25) * side, 1, 0, 0),
        _along(0.03 * _bump(d, MOUTH, 0.32, 0.10), 0, 0, 1) + _along(0.025 * _bump(d, MOUTH, 0.32, 0.12) * np.tanh(_smile(d) / 0.06), 0, 1, 0),
        _along(0.06 * _bump(d, CHIN, 0.26, 0.18), 0, -0.4, 1),
        _along(0.06 * _step(0.2, 0.7, y) * _front(d), 0, 0.3, 1),
        _along(0.07 * np.minimum(z, 0), 0, 0, 1),
        _along(0.05 * np.exp(-(((y + 0.06) / 0.25) ** 2) - ((z + 0.08) / 0.16) ** 2) * side, 1, 0, 0),
    ]


def _expression_features(d: np.ndarray) -> list[np.ndarray]:
    """Open mouth, smile, frown, pursed lips, raised brows, knit brows, closed eyes, puffed cheeks, jaw to a side, wrinkled nose."""
    x, side = d[:, 0], np.tanh(d[:, 0] / 0.05)
    corners, below_lips = _pair(d, (0.29, MOUTH[1] + 0.05), 0.11, 0.10), _step(0.012, -0.03, _smile(d))
    jaw = below_lips * np.maximum(_bump(d, (0, -0.62), 0.34, 0.16), _bump(d, CHIN, 0.45, 0.22))
    lids = _pair(d, (EYE[0], EYE[1] + 0.06), 0.16, 0.06)
    return [
        _along(0.09 * jaw, 0, -1, -0.2),
        _along(0.04 * corners, 0, 1, -0.3) + _along(0.04 * corners * side, 1, 0, 0) + _along(0.025 * _pair(d, CHEEK, 0.15, 0.13), 0, 1, 1),
        _along(0.04 * corners, 0, -1, 0),
        _along(0.03 * _bump(d, MOUTH, 0.22, 0.12), 0, 0, 1) - _along(0.04 * _bump(d, MOUTH, 0.36, 0.14) * np.tanh(x / 0.15), 1, 0, 0),
        _along(0.05 * _pair(d, BROW, 0.24, 0.11), 0, 1, 0),
        _along(0.04 * _pair(d, (0.18, BROW[1]), 0.13, 0.09), 0, -1, 0.3) - _along(0.025 * _pair(d, (0.18, BROW[1]), 0.13, 0.09) * side, 1, 0, 0),
        _along(0.04 * lids, 0, -1, 0.2) + _along(0.02 * _pair(d, (EYE[0], EYE[1] - 0.06), 0.16, 0.05), 0, 1, 0),
        _along(0.05 * _pair(d, (0.40, -0.46), 0.16, 0.18), 0, 0, 1) + _along(0.03 * _pair(d, (0.45, -0.46), 0.2, 0.2) * side, 1, 0, 0),
        _along(0.05 * np.maximum(_bump(d, (0, -0.58), 0.34, 0.20), _bump(d, CHIN, 0.4, 0.2)), 1, 0, 0),
        _along(0.03 * _bump(d, (0, -0.26), 0.18, 0.12), 0, 1, 0.2) + _along(0.02 * _bump(d, (0, -0.46), 0.2, 0.06), 0, 1, 0),
    ]


def _color_features(d: np.ndarray) -> list[np.ndarray]:
    """Light and dark skin, its tint, lips, brows, hair (light, red), eyes, blush, beard."""
    hair, mouth, brows, iris = _hair(d), _mouth(d), _brows(d), _iris(d) - _pupil(d)
    skin = (1 - hair) * (1 - mouth) * (1 - brows) * (1 - _eye(d))
    return [
        _along(0.13 * skin, -0.9, -1.0, -1.0) - _along(0.05 * mouth, 1, 1, 1),
        _along(0.03 * skin, 1.0, -0.1, -0.8),
        _along(0.07 * mouth, 0.7, -0.7, -0.5),
        _along(0.10 * brows, 1.0, 0.8, 0.5),
        _along(0.13 * hair, 1.0, 0.85, 0.5),
        _along(0.07 * hair, 1.0, 0.1, -0.2),
        _along(0.13 * iris, 0.8, -0.2, -1.0),
        _along(0.06 * _pair(d, CHEEK, 0.18, 0.15) * skin, 0.4, -1.0, -0.9),
        _along(0.10 * skin * _step(-0.30, -0.62, d[:, 1]) * _step(0.0, 0.3, d[:, 2]), -1, -1, -0.9),
    ]


def _modes(d: np.ndarray, features: list[np.ndarray], count: int, spread: float, seed: int) -> Modes:
    """Features first, then waves sin(w . d + phase), the longer the earlier, left and right alike every other time."""
    random = np.random.default_rng(seed)
    basis = np.empty((3 * len(d), count))
    folded = np.abs(d[:, 0])
    for k in range(count):
        if k < len(features):
            column: Any = features[k]
        else:
            n = k - len(features)
            wave, phase, axis = random.standard_normal(3) * WAVES * (1 + 0.04 * n), random.uniform(0, 2 * np.pi), random.standard_normal(3)
            across = folded if n % 2 == 0 else d[:, 0]
            column = _along(
                spread / (1 + 0.05 * n) / np.linalg.norm(axis) * np.sin(across * wave[0] + d[:, 1] * wave[1] + d[:, 2] * wave[2] + phase), *axis
            )
        basis[:, k] = column.reshape(-1)
    lengths = np.linalg.norm(basis, axis=0)
    return Modes(basis / lengths, lengths)
