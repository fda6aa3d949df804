"""Shadows by casting a ray to the light, and moments and visibility by their formulas, in NumPy; imports nothing of ours."""

import numpy as np


def lit(points, triangles, *, direction=None, position=None):
    """(N,): whether the light is seen from points (N, 3) past triangles (T, 3, 3), those that touch the point left out."""
    rays = np.broadcast_to(direction, points.shape) if direction is not None else position - points
    reach = np.inf if direction is not None else 1.0
    seen = np.ones(len(points), bool)
    for a, b, c in np.asarray(triangles, np.float64):
        across = np.cross(rays, c - a)
        determinant = across @ (b - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            from_a = points - a
            u = (from_a * across).sum(axis=1) / determinant
            other = np.cross(from_a, b - a)
            v = (rays * other).sum(axis=1) / determinant
            t = other @ (c - a) / determinant
            seen &= ~((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6) & (t < reach))
    return seen


def gaussian(width):
    """Weights of the pixels at -k ... k."""
    k = int(np.floor(2.5 * width))
    g = np.exp(-0.5 * (np.arange(-k, k + 1) / width) ** 2)
    return g / g.sum()


def blurred(picture, width):
    """(H, W, C) filtered along both axes, zero beyond the borders."""
    g = gaussian(width)
    for axis in (0, 1):
        picture = np.apply_along_axis(lambda line: np.convolve(line, g)[len(g) // 2 : len(g) // 2 + len(line)], axis, picture)
    return picture


def visibility(moments, d, far, texel, bias, least, cut):
    """(N,) of moments (N, 3) and depths (N,)."""
    m1 = moments[:, 0] + (1 - moments[:, 2]) * far
    m2 = moments[:, 1] + (1 - moments[:, 2]) * far**2
    t = texel[0] + texel[1] * d
    e, variance = d - bias * t - m1, np.maximum(m2 - m1**2, (least * t) ** 2)
    p = np.where(e > 0, variance / (variance + e**2), 1.0)
    return np.maximum(p - cut, 0) / (1 - cut)
