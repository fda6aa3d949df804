"""A picture of where cameras stand: frusta with their up direction and number, the ball around the object, y up."""

from pathlib import Path

import numpy as np

from .frame import EYE, FORWARD, OFFSET, RIGHT, SCALE, UP

LABELS = 60  # of more cameras only some are numbered


def draw_rig(path: Path, frames: np.ndarray, sizes: list[tuple[int, int]], center: np.ndarray, radius: float | None, title: str) -> None:
    """Write the picture.

    Args:
        path: of a format that matplotlib writes.
        frames: (B, COLUMNS, 3), as `camera_frame` has them.
        sizes: (height, width) of each view.
        center: (3,), what the cameras look at.
        radius: of the object; None where it is not known.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    axes.view_init(elev=22, azim=-58, vertical_axis="y")
    axes.set_proj_type("persp", focal_length=0.6)
    distance = np.median(np.linalg.norm(frames[:, EYE] - center, axis=1))
    depth = 0.18 * distance
    colors = _colors(len(frames))
    corners = np.stack([_corners(frame, size, depth) for frame, size in zip(frames, sizes, strict=True)])
    eyes = frames[:, EYE]
    for k, (eye, four, color) in enumerate(zip(eyes, corners, colors, strict=True)):
        lines = [(eye, corner) for corner in four] + list(zip(four, np.roll(four, -1, axis=0), strict=True))
        axes.add_collection3d(Line3DCollection(lines, colors=[color], linewidths=1.0))
        axes.add_collection3d(Poly3DCollection([four], facecolors=[(*color[:3], 0.15)], edgecolors="none"))
        top = 0.5 * (four[0] + four[1])  # a roof on the upper edge says where up is
        roof = np.stack([top + 0.3 * (four[0] - top), top + 0.3 * (four[1] - top), top + 0.35 * (top - 0.5 * (four[2] + four[3]))])
        axes.add_collection3d(Poly3DCollection([roof], facecolors=[color], edgecolors="none"))
        if k % -(-len(frames) // LABELS) == 0:
            axes.text(*(eye - 0.06 * distance * frames[k, FORWARD]), str(k), color=color, fontsize=9, ha="center", va="center")
    if radius is not None:
        axes.plot_wireframe(*_sphere(center, radius), color="0.45", linewidth=0.5, rcount=9, ccount=13)
    else:
        axes.scatter(*center, marker="+", color="0.3", s=60)
    everything = np.concatenate([eyes, corners.reshape(-1, 3), center[None] + (radius or 0.0), center[None] - (radius or 0.0), np.zeros((1, 3))])
    for k, name in enumerate("xyz"):
        tip = np.zeros(3)
        tip[k] = 0.35 * distance
        color = ("tab:red", "tab:green", "tab:blue")[k]
        axes.plot(*zip(np.zeros(3), tip, strict=True), color=color, linewidth=2)
        axes.text(*(1.15 * tip), name, color=color, fontsize=11, fontweight="bold", ha="center", va="center")
    low, high = everything.min(axis=0), everything.max(axis=0)
    half = 0.5 * (high - low).max()
    middle = 0.5 * (low + high)
    axes.set(
        **{f"{name}lim": (middle[k] - half, middle[k] + half) for k, name in enumerate("xyz")}, xlabel="x", ylabel="y (up)", zlabel="z", title=title
    )
    axes.set_box_aspect((1, 1, 1))
    figure.savefig(path, dpi=110)


def _colors(count: int) -> np.ndarray:
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.85, count))


def _corners(frame: np.ndarray, size: tuple[int, int], depth: float) -> np.ndarray:
    """(4, 3): what is seen in the image's corners at a depth, from the top left one clockwise, without distortion."""
    height, width = size
    x, y = width / min(size), height / min(size)
    slopes = (np.array([(-x, y), (x, y), (x, -y), (-x, -y)]) - frame[OFFSET, :2]) / frame[SCALE, :2]
    return frame[EYE] + depth * (frame[FORWARD] + slopes[:, :1] * frame[RIGHT] + slopes[:, 1:] * frame[UP])


def _sphere(center: np.ndarray, radius: float) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
    unit = np.stack([np.cos(u) * np.sin(v), np.cos(v), np.sin(u) * np.sin(v)])
    return center[:, None, None] + radius * unit
