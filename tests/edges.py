"""Scenes for edge gradients: what moving a corner does to an image with many samples per pixel, against what an operator says."""

import numpy as np
from contract import gradients

import taichi_dr as dr


def scene(rng, triangles=3):
    """Large triangles at random places, one behind the other, each of one color: (1, V, 3), (F, 3), (1, V, 3)."""
    vertices, colors = [], []
    for k in range(triangles):
        angles = rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2]) + rng.uniform(-0.3, 0.3, 3)
        corners = rng.uniform(-0.5, 0.5, 2) + rng.uniform(0.35, 0.6, (3, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        vertices.append(np.c_[corners, np.full(3, 2 + 0.5 * k)])
        colors.append(np.repeat(rng.uniform(0, 1, (1, 3)), 3, axis=0))
    return np.concatenate(vertices)[None], np.arange(3 * triangles).reshape(-1, 3), np.concatenate(colors)[None]


def smooth_cotangent(rng, size):
    """(H, W, 3) of low frequencies."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [[(a * x + b * y, rng.uniform(0, 1), rng.normal()) for a in range(3) for b in range(3)] for _ in range(3)]
    return np.stack([sum(height * np.cos(2 * np.pi * (place + phase)) for place, phase, height in wave) for wave in waves], axis=-1)


def by_samples(screen, faces, colors, cotangent, samples, step, *, axes=2, orthographic=False):
    """(V, axes): central differences of <cotangent, image> in every corner, the image averaged over samples x samples."""
    height, width = cotangent.shape[:2]
    index, paint = dr.array(faces), dr.array(colors)
    out = np.zeros((screen.shape[1], axes))
    fine = np.repeat(np.repeat(cotangent, samples, axis=0), samples, axis=1) / samples**2

    def value(moved):
        shown = dr.rasterize(dr.array(moved), index, (height * samples, width * samples), orthographic=orthographic)
        return float((dr.read(dr.interpolate(paint, index, shown))[0].astype(np.float64) * fine).sum())

    for v, axis in np.ndindex(*out.shape):
        moved = np.repeat(screen[None], 2, axis=0)
        moved[0, 0, v, axis] += step
        moved[1, 0, v, axis] -= step
        out[v, axis] = (value(moved[0]) - value(moved[1])) / (2 * step)
    return out


def by_operator(operator, screen, faces, colors, cotangent, *, axes=2, orthographic=False):
    """(V, axes): the gradient that an edge operator gives, operator(image, screen, faces, visible)."""
    place, index, paint = dr.array(screen), dr.array(faces), dr.array(colors)

    def image():
        shown = dr.rasterize(place, index, cotangent.shape[:2], orthographic=orthographic)
        return operator(dr.interpolate(paint, index, shown), place, index, shown, orthographic=orthographic)

    return gradients(image, [place], cotangent[None])[0][0, :, :axes].astype(np.float64)


def agreement(found, expected):
    """Cosine, ratio of lengths, and share of right signs among the entries that are not tiny."""
    large = np.abs(expected) > 0.02 * np.abs(expected).max()
    cosine = (found * expected).sum() / (np.linalg.norm(found) * np.linalg.norm(expected))
    return cosine, np.linalg.norm(found) / np.linalg.norm(expected), (np.sign(found) == np.sign(expected))[large].mean()
