"""Scenes for edge gradients: what moving a corner does to an image with many samples per pixel, against what an operator says.

The figures of 20 scenes, in some minutes: python tests/edges.py
"""

import argparse

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


def square(left, right, bottom=-0.5, top=0.5, depth=2.0):
    return np.array([[[left, bottom, depth], [right, bottom, depth], [right, top, depth], [left, top, depth]]]), np.array([[0, 1, 2], [0, 2, 3]])


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


def agreement(found, expected, tiny=0.02):
    """Cosine, ratio of lengths, and share of right signs among the entries that are not tiny, of the largest."""
    large = np.abs(expected) > tiny * np.abs(expected).max()
    cosine = (found * expected).sum() / (np.linalg.norm(found) * np.linalg.norm(expected))
    return cosine, np.linalg.norm(found) / np.linalg.norm(expected), (np.sign(found) == np.sign(expected))[large].mean()


def right_ways(found, expected, tiny=0.02):
    """The share of the vertices whose gradient is not tiny that a step along it moves the right way."""
    lengths = np.linalg.norm(expected, axis=-1)
    return ((found * expected).sum(axis=-1) > 0)[lengths > tiny * lengths.max()].mean()


def assert_agreement_with_samples(operator, rng):
    """Random scenes under a smooth cotangent."""
    signs = []
    for _ in range(3):
        screen, faces, colors = scene(rng)
        cotangent = smooth_cotangent(rng, 64)
        expected = by_samples(screen, faces, colors, cotangent, 16, 0.02)
        cosine, ratio, right = agreement(by_operator(operator, screen, faces, colors, cotangent), expected)
        assert cosine > 0.98 and 0.9 < ratio < 1.1
        signs.append(right)
    assert np.mean(signs) > 0.95


def assert_a_moved_square_changes_the_image(operator):
    """White on black, pushed right under a ramp: the right edge covers more, the left less, by their heights; without edges nothing."""
    size, (screen, faces) = 64, square(-0.41, 0.53, -0.52, 0.47)
    ramp = np.repeat(np.linspace(0, 1, size)[None, :, None], size, axis=0).repeat(3, axis=2)
    grad = by_operator(operator, screen, faces, np.ones((1, 4, 3)), ramp)
    height, columns = 0.99 * size / 2, [(x * size + size) / 2 - 0.5 for x in (-0.41, 0.53)]
    expected = 3 * height * (size / 2) * (columns[1] - columns[0]) / (size - 1)  # channels, rows, pixels per unit, how the ramp rises
    assert abs(grad[:, 0].sum() / expected - 1) < 0.03
    assert abs(grad[:, 1].sum()) < 0.03 * expected  # the ramp is the same at top and bottom
    assert (grad[:, 0] * (-1, 1, 1, -1) > 0).all()  # white reaches farther right at the right, and less far at the left
    assert abs(by_operator(lambda image, *_, **__: image, screen, faces, np.ones((1, 4, 3)), ramp)).max() < 1e-9 * expected


def main(scenes=20, samples=32, step=0.02, size=64):
    """Print how far each edge operator agrees with the samples."""
    dr.init()
    found = {operator: [] for operator in (dr.antialias, dr.microedges)}
    for seed in range(scenes):
        rng = np.random.default_rng(seed)
        shapes, cotangent = scene(rng), smooth_cotangent(rng, size)
        expected = by_samples(*shapes, cotangent, samples, step)
        for operator, rows in found.items():
            by_tape = by_operator(operator, *shapes, cotangent)
            rows.append([*agreement(by_tape, expected), agreement(by_tape, expected, 0.05)[2], right_ways(by_tape, expected)])
    for operator, rows in found.items():
        cosine, ratio, signs, large_signs, ways = np.array(rows).T
        print(
            f"{operator.__name__}: cosine {cosine.mean():.4f}, least {cosine.min():.4f}, {(cosine >= 0.98).sum()} of {scenes} at least 0.98; "
            f"length {ratio.min():.3f} to {ratio.max():.3f}; right signs {100 * signs.mean():.1f}% above 2%, "
            f"{100 * large_signs.mean():.1f}% above 5%; vertices that go the right way {100 * ways.mean():.1f}%"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--samples", type=int, default=32, help="of a pixel, on a side")
    parser.add_argument("--step", type=float, default=0.02, help="of the differences; the screen is 2 wide")
    main(**vars(parser.parse_args()))
