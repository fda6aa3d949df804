"""Why rasterization has no gradient at edges, and what each way of drawing does about it. Run: python docs/figures/edges.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import taichi_dr as dr

SIZE = 32
COLORS = {"hard": "0.35", "soft": "#c8402f", "antialias": "#1b6ca8", "microedges": "#2a9d5c"}


def half_plane(shift):
    """A triangle that covers all left of an edge, a little slanted, `shift` pixels right of the middle; on the screen."""
    x = shift * 2 / SIZE
    return dr.array([[[x - 0.1, -40.0, 2.0], [x + 0.1, 40.0, 2.0], [-90.0, 0.0, 2.0]]])


def draw(way, screen, faces):
    """RGBA, black, by one of the ways: the shape is in alpha."""
    if way == "soft":
        return dr.soft_rasterize(screen, faces, dr.array(np.zeros((1, 3, 3))), size=SIZE, sigma=(2 / SIZE) ** 2)
    visible = dr.rasterize(screen, faces, SIZE)
    image = dr.interpolate(dr.array([[[0.0, 0.0, 0.0, 1.0]] * 3]), faces, visible)
    if way == "hard":
        return image
    return (dr.antialias if way == "antialias" else dr.microedges)(image, screen, faces, visible)


def loss_and_slope(way, shift):
    """Squared distance to a half plane whose edge is in the middle, per row; what the tape says about moving the edge; alpha of a row."""
    faces, loss, screen = dr.array([[0, 1, 2]]), dr.scalar(), half_plane(shift)
    goal = dr.array(
        (np.arange(SIZE) < SIZE // 2)[None, None, :, None] * np.array([0.0, 0.0, 0.0, 1.0]).repeat(SIZE).reshape(4, SIZE).T[None, :, None]
    )
    with dr.Tape(loss):
        image = draw(way, screen, faces)
        dr.losses.mse(image, goal, loss, 4 * SIZE)
    slope = dr.read(screen.grad)[0, :2, 0].sum() * 2 / SIZE  # per pixel
    return float(loss[None]), float(slope), dr.read(image)[0, SIZE // 2, :, 3]


def pictures(axes):
    for axis, way in zip(axes, COLORS, strict=True):
        _, _, row = loss_and_slope(way, 3.3)
        axis.imshow(np.repeat(row[None, SIZE // 2 - 6 : SIZE // 2 + 10], 3, axis=0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.axvline(3.3 + 5.5, color="#f4a300", lw=2)
        axis.set_title(way, fontsize=11, color=COLORS[way])
        axis.set(xticks=[], yticks=[])


def main(folder="docs/images"):
    dr.init()
    figure, places = plt.subplot_mosaic("ABCD;LLSS", figsize=(9.6, 4.6), layout="constrained", height_ratios=(1, 3.2))
    pictures([places[k] for k in "ABCD"])
    shifts = np.linspace(-4.5, 4.5, 181)
    for way, color in COLORS.items():
        losses, slopes, _ = zip(*(loss_and_slope(way, shift) for shift in shifts), strict=True)
        style = {"color": color, "lw": 1.6, "label": way, "ls": "--" if way == "microedges" else "-"}
        places["L"].plot(shifts, losses, **style)
        places["S"].plot(shifts, slopes, **style)
    places["L"].set(xlabel="edge, pixels right of where it should be", title="loss, squared pixels per row")
    places["S"].set(xlabel="edge, pixels right of where it should be", title="its gradient by the tape")
    places["L"].legend(frameon=False)
    for name in "LS":
        places[name].spines[["top", "right"]].set_visible(False)
        places[name].axhline(0, color="0.8", lw=0.8, zorder=0)
    figure.savefig(pathlib.Path(folder) / "edges.png", dpi=84)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
