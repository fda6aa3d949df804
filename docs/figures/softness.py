"""What sigma and gamma do, in pixels and in units of depth. Run: python docs/figures/softness.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import taichi_dr as dr

PIXELS = 96
NEAR, FAR = 1.0, 11.0  # so that gamma 1e-3 is 0.01 units of depth
WIDTHS = (0.5, 1.0, 2.0, 4.0)  # sqrt(sigma) in pixels
GAMMAS = (1e-4, 1e-3, 1e-2, 1e-1)


def sigma_of(pixels, size=PIXELS):
    return (pixels * 2 / size) ** 2


def two_balls():
    """A red ball in front of a blue one, a tenth of a unit nearer."""
    ball = dr.shapes.icosphere(3)
    x, faces = dr.read(ball.vertices)[0], dr.read(ball.faces)
    vertices = np.concatenate([0.62 * x + (-0.3, 0.1, 0.1), 0.62 * x + (0.3, -0.1, 0.0)])
    colors = np.concatenate([np.tile((0.95, 0.35, 0.2), (len(x), 1)), np.tile((0.25, 0.45, 0.95), (len(x), 1))])
    return dr.Mesh(vertices, np.concatenate([faces, faces + len(x)]), colors)


def grid(path):
    mesh, camera = two_balls(), dr.Camera.orbit(4.0, 0, 0, fov=36, size=PIXELS)
    lights = [dr.AmbientLight(0.6), dr.DirectionalLight((0.3, 0.8, 0.6), 0.5)]
    figure, axes = plt.subplots(len(GAMMAS) + 1, len(WIDTHS), figsize=(8.2, 10.2), layout="constrained")
    for row, gamma in zip(axes, GAMMAS, strict=False):
        for axis, width in zip(row, WIDTHS, strict=True):
            renderer = dr.SoftRenderer(sigma=sigma_of(width), gamma=gamma, near=NEAR, far=FAR, background=(1, 1, 1))
            axis.imshow(dr.read(renderer(mesh, camera, lights))[0, ..., :3].clip(0, 1), interpolation="nearest")
        row[0].set_ylabel(f"gamma = {gamma:g}\n{gamma * (FAR - NEAR):g} units of depth")
    for axis, width in zip(axes[-1], WIDTHS, strict=True):  # alpha does not depend on gamma
        axis.imshow(dr.read(dr.SoftRenderer(sigma=sigma_of(width))(mesh, camera))[0, ..., 3], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axis, width in zip(axes[0], WIDTHS, strict=True):
        axis.set_title(f"sqrt(sigma) = {width:g} px\nsigma = {sigma_of(width):.1e}", fontsize=10)
    axes[-1, 0].set_ylabel("alpha\n(of every gamma)")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=84)
    plt.close(figure)


def profile(path):
    """Alpha along a row of pixels across an edge of a large square, by the renderer; and the formula through it."""
    size = 64
    faces = dr.array([[0, 1, 2], [0, 2, 3]])
    white = dr.array(np.ones((1, 4, 3)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", sharey=True)
    x = (2 * np.arange(size) + 1 - size) / size
    for width, color in zip(WIDTHS, ("#1b6ca8", "#2a9d5c", "#d98e04", "#c8402f"), strict=True):
        edge = 0.0  # between two pixel centers
        screen = dr.array([[[-9.0, -9.0, 2.0], [edge, -9.0, 2.0], [edge, 9.0, 2.0], [-9.0, 9.0, 2.0]]])
        image = dr.read(dr.soft_rasterize(screen, faces, white, size=size, sigma=sigma_of(width, size)))[0, size // 2 + 11]
        pixels = (x - edge) * size / 2
        fine = np.linspace(-16, 16, 1001)
        left.plot(fine, 0.5 - 0.5 * np.tanh(np.sign(fine) * fine**2 / width**2 / 2), color=color, lw=1, label=f"{width:g} px")
        left.plot(pixels, image[:, 3], ".", color=color, ms=6)
        right.plot(pixels, image[:, 0], ".-", color=color, lw=1, ms=6)
    left.set(xlim=(-15, 15), xlabel="pixels from the edge (inside: left)", title="alpha", ylabel="value")
    left.axhline(0.5, color="0.8", lw=0.8, zorder=0)
    left.axvline(0, color="0.8", lw=0.8, zorder=0)
    right.axvline(0, color="0.8", lw=0.8, zorder=0)
    left.legend(title="sqrt(sigma)", frameon=False)
    right.set(xlim=(-15, 15), xlabel="pixels from the edge (inside: left)", title="color")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=84)
    plt.close(figure)


def main(folder="docs/images"):
    dr.init()
    grid(pathlib.Path(folder) / "softness.png")
    profile(pathlib.Path(folder) / "profile.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
