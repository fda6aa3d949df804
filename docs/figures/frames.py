"""The frames: world and camera axes, screen axes and image rows, pixel centers. Run: python docs/figures/frames.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import taichi_dr as dr

RED, GREEN, BLUE, GREY = "#c8402f", "#2a9d5c", "#1b6ca8", "0.45"
EYE, FOV, SIZE = np.array([2.2, 1.5, 3.2]), 32, (120, 160)


def scene():
    """A teapot, whose spout points along +x, and the camera that looks at it."""
    mesh = dr.Mesh.load(dr.datasets.load("teapot")).normalized()
    return mesh, dr.Camera.look_at(EYE, fov=FOV, size=SIZE)


def camera_axes(camera):
    """right, up, forward in the world."""
    rotation = camera.to_opengl().camera_to_world[0, :3, :3]
    return rotation[:, 0], rotation[:, 1], -rotation[:, 2]


def seen_from(points, azimuth=-28.0, elevation=22.0):
    """(x, y) of world points on paper: parallel projection, y up, x to the right, z towards us."""
    a, e = np.radians(azimuth), np.radians(elevation)
    right = np.array([np.cos(a), 0, -np.sin(a)])
    toward = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    return np.asarray(points) @ np.stack([right, np.cross(toward, right)], axis=1)


def arrow(axis, begin, end, color, text, shift=(0.0, 0.0), **options):
    begin, end = np.asarray(begin, float), np.asarray(end, float)
    arrow = {"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, begin, arrowprops=arrow, annotation_clip=False)
    axis.text(*(end + np.asarray(shift)), text, color=color, ha="center", va="center", fontsize=11, **options)


def world(axis, mesh, camera):
    """World and camera from outside."""
    x, faces = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    flat = seen_from(x)
    axis.triplot(flat[:, 0], flat[:, 1], faces, color="0.75", lw=0.3)
    origin = seen_from([[0, 0, 0]])[0]
    for direction, color, text, shift in (
        ((1.45, 0, 0), RED, "x", (0.14, 0.0)), ((0, 1.4, 0), GREEN, "y, up", (0.0, 0.14)), ((0, 0, 2.1), BLUE, "z", (-0.02, -0.18)),
    ):  # fmt: skip
        arrow(axis, origin, seen_from([direction])[0], color, text, shift)
    right, up, forward = camera_axes(camera)
    eye = seen_from([EYE])[0]
    half = np.tan(np.radians(FOV / 2))
    corners = [EYE + 1.3 * (forward + half * (sx * right * SIZE[1] / SIZE[0] + sy * up)) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    flat = seen_from(corners)
    for corner in flat:
        axis.plot(*np.stack([eye, corner], axis=1), color=GREY, lw=0.8)
    axis.fill(flat[:, 0], flat[:, 1], facecolor="#f4c95d", edgecolor=GREY, lw=0.8, alpha=0.45)
    for direction, text, shift in ((0.9 * right, "right", (0.3, 0.0)), (0.9 * up, "up", (0.0, 0.16)), (1.9 * forward, "forward", (0.1, 0.22))):
        arrow(axis, eye, seen_from([EYE + direction])[0], "k", text, shift)
    axis.plot(*eye, "ko", ms=5)
    axis.text(*(eye + (0.1, -0.22)), "eye", ha="center", va="center", fontsize=11)
    axis.set_title("world: right-handed, y up.   camera: right, up, forward; depth along forward", fontsize=10)
    axis.set_aspect("equal")
    axis.set(xlim=(-1.4, 4.6), ylim=(-1.1, 2.1))
    axis.axis("off")


def picture(axis, mesh, camera):
    """The image that this camera takes, with the axes of the screen."""
    lights = [dr.AmbientLight(0.5), dr.DirectionalLight((1, 2, 1), 0.5)]
    image = dr.read(dr.DeferredRenderer(background=(0.93, 0.93, 0.93))(mesh, camera, lights))[0, ..., :3]
    height, width = camera.size
    ratio = width / height
    axis.imshow(image.clip(0, 1), extent=(-ratio, ratio, -1, 1), interpolation="nearest")
    arrow(axis, (0, 0), (0.62, 0), RED, "x", (0.08, -0.09))
    arrow(axis, (0, 0), (0, 0.62), GREEN, "y", (0.1, 0.02))
    axis.plot(0, 0, "o", color=BLUE, ms=8, mfc="none", mew=2)
    axis.plot(0, 0, "x", color=BLUE, ms=5, mew=2)
    axis.text(-0.2, -0.22, "z: depth,\ninto the\npicture", color="w", ha="center", va="center", fontsize=9)
    axis.set_xticks([-ratio, 0, ratio], [f"x = -{ratio:.2f}", "0", f"{ratio:.2f}"], fontsize=9)
    axis.set_yticks([-1, 0, 1], ["y = -1", "0", "1"], fontsize=9)
    axis.text(-ratio, 1.06, "row 0, column 0", fontsize=9, ha="left")
    axis.text(ratio, 1.06, f"column {width - 1}", fontsize=9, ha="right")
    axis.text(-ratio + 0.03, -0.97, f"row {height - 1}", fontsize=9, ha="left")
    axis.set_title("screen: x right, y up, the shorter side spans [-1, 1]\n", fontsize=10)


def pixels(axis):
    """The pixels of a 4 x 5 image: rows, columns, centers."""
    height, width = 4, 5
    for i in range(height + 1):
        axis.plot((0, width), (i, i), color="0.75", lw=0.8)
    for j in range(width + 1):
        axis.plot((j, j), (0, height), color="0.75", lw=0.8)
    rows, columns = np.mgrid[:height, :width] + 0.5
    axis.plot(columns.ravel(), rows.ravel(), ".", color="0.55", ms=4)
    axis.plot(3.5, 1.5, ".", color=RED, ms=10)
    x, y = (2 * 3 + 1 - width) / min(height, width), (height - 1 - 2 * 1) / min(height, width)
    axis.text(
        3.5, 1.85, f"image[0, 1, 3]\nx = {x:g}, y = {y:g}", ha="center", va="top", color=RED, fontsize=9, bbox={"fc": "w", "ec": "none", "pad": 1}
    )
    for j in range(width):
        axis.text(j + 0.5, -0.2, str(j), ha="center", fontsize=9)
    for i in range(height):
        axis.text(-0.2, i + 0.5, str(i), ha="right", va="center", fontsize=9)
    axis.text(width / 2, -0.62, "column j", ha="center", fontsize=10)
    axis.text(-0.55, height / 2, "row i", ha="right", va="center", rotation=90, fontsize=10)
    axis.set(xlim=(-1.0, width + 0.1), ylim=(height + 0.1, -1.0), aspect="equal")
    axis.set_title("image: (B, H, W), row 0 on top", fontsize=10)
    axis.axis("off")


def main(folder="docs/images"):
    dr.init()
    mesh, camera = scene()
    figure, places = plt.subplot_mosaic("WW;SP", figsize=(9.0, 7.8), layout="constrained", width_ratios=(1.3, 1.0), height_ratios=(1.15, 1.0))
    world(places["W"], mesh, camera)
    picture(places["S"], mesh, camera)
    pixels(places["P"])
    figure.savefig(pathlib.Path(folder) / "frames.png", dpi=84)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
