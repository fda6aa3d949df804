"""The same fit vertex by vertex, with a regularizer, and by large steps, also with a new mesh halfway.

Run: python docs/figures/large_steps.py docs/images
"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from PIL import Image

import taichi_dr as dr

VIEWS, SIZE, STEPS, VERTICES = 16, 128, 300, 2562
LAPLACIAN, SMOOTHNESS = 0.01, 10
# Step lengths: of 0.01, 0.02, 0.04, and by large steps of 0.05, 0.1, 0.2, those with the best overlap.
WAYS = {"target": None, "vertex by vertex": 0.02, "with a Laplacian loss": 0.04, "large steps": 0.2, "large steps, remeshed": 0.2}
LIGHTS = ((0.6, 0.7, 0.4), (-0.7, 0.2, -0.5), (0.1, -0.8, 0.6))


def lights():
    return [dr.AmbientLight(0.2), *(dr.DirectionalLight(d, 0.5) for d in LIGHTS)]


def rig():
    azimuths = np.arange(VIEWS) * 360 / VIEWS
    return azimuths, 40 * np.sin(np.radians(5 * azimuths))


def fitted(way, images):
    """A sphere that was fitted to images, views one by one in random order."""
    azimuths, elevations = rig()
    renderer, lamps = dr.DeferredRenderer(antialias=1), lights()
    sphere = dr.shapes.icosphere(4)
    shape = Shape(dr.Mesh(0.8 * dr.read(sphere.vertices)[0], dr.read(sphere.faces)), way.startswith("large"))

    def objective(step):
        k = step.views
        camera = dr.Camera.orbit(4.0, elevations[k], azimuths[k], fov=36, size=SIZE)
        moved = shape.now()
        dr.losses.mse(renderer(moved, camera, lamps), dr.array(images[k]), step.term("image"))
        if way == "with a Laplacian loss":
            dr.losses.laplacian(moved, step.term("laplacian"), LAPLACIAN)

    def on_step(step):
        if "remeshed" in way and step.index == step.steps // 2:
            smooth = dr.smooth(shape.fixed(), 3)
            shape.__init__(dr.remesh(smooth, edge_length(smooth)).mesh, True)
            step.replace("shape", shape.moved)

    dr.fit(
        {"shape": shape.moved}, objective, STEPS, lr=WAYS[way], optimizer="adam_uniform" if shape.large else "adam",
        schedule=dr.schedules.exponential(0.1), views=VIEWS, views_per_step=4, on_step=on_step, progress=False,
    )  # fmt: skip
    return shape.fixed()


class Shape:
    """A mesh by its vertices or by the coordinates of large steps."""

    def __init__(self, mesh, by_large_steps):
        self.mesh, self.large = mesh, dr.LargeSteps(mesh, SMOOTHNESS) if by_large_steps else None
        self.moved = self.large.coordinates if by_large_steps else mesh.vertices

    def now(self):
        return self.mesh.with_vertices(self.large.vertices()) if self.large else self.mesh

    def fixed(self):
        return dr.Mesh(dr.read(self.now().vertices), dr.read(self.mesh.faces))


def edge_length(mesh):
    """Of an even mesh with as many vertices as the sphere had."""
    corners = dr.read(mesh.vertices)[0][dr.read(mesh.faces)]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    return np.sqrt(2 * area / (np.sqrt(3) * VERTICES))


def drawn(axis, mesh, box, camera):
    """The front faces with their edges, far ones first; within a box of (column, row) pixels."""
    faces, points = dr.read(mesh.faces), dr.read(mesh.vertices)[0]
    screen, depth = camera.project(points)[0], np.linalg.norm(points - dr.read(camera.eye)[0], axis=1)
    corners = screen[faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    front = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0  # rows go down
    normals = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    shade = 0.62 + 0.36 * (normals @ np.array((0.3, 0.8, 0.5)) / np.linalg.norm((0.3, 0.8, 0.5)))
    order = np.argsort(-depth[faces].mean(axis=1))
    colors = np.where(front[:, None], shade[:, None] * (0.96, 0.94, 0.9), (0.78, 0.25, 0.18)).clip(0, 1)  # red: seen from inside
    axis.add_collection(PolyCollection(corners[order], facecolors=colors[order], edgecolors="0.15", linewidths=0.2))
    left, right, top, bottom = box
    axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def overlap(mesh, target):
    """Of outlines, from places that were not fitted."""
    camera, renderer = dr.Camera.orbit(4.0, [20, -20, 60], [10, 130, 250], fov=36, size=256), dr.DeferredRenderer(antialias=2, edges=None)
    a, b = (dr.read(renderer(x, camera))[..., 3] for x in (mesh, target))
    return (a * b).sum() / (a + b - a * b).sum()


def main(folder="docs/images"):
    dr.init()
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    shown = dr.Camera.orbit(4.0, 12, 25, fov=36, size=600)
    bunny = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
    bunny = dr.Mesh(bunny.vertices, bunny.faces)
    azimuths, elevations = rig()
    images = dr.read(dr.DeferredRenderer(antialias=1)(bunny, dr.Camera.orbit(4.0, elevations, azimuths, fov=36, size=SIZE), lights()))
    figure, axes = plt.subplots(2, 5, figsize=(11, 5.2), layout="constrained", height_ratios=(1.25, 1))
    for k, way in enumerate(WAYS):
        mesh = bunny if way == "target" else fitted(way, images)
        drawn(axes[0, k], mesh, (20, 580, 40, 600), shown)
        drawn(axes[1, k], mesh, (90, 350, 60, 270), shown)
        axes[0, k].set_title(way, fontsize=12)
        if way != "target":
            quality = dr.mesh_quality(mesh)
            counts = f"{quality.self_intersections:,} crossing pairs of faces\n{quality.flipped_faces:,} flipped faces"
            text = f"overlap {overlap(mesh, bunny):.3f}\n{counts}"
            axes[1, k].set_xlabel(text, fontsize=9.5)
            print(way, text.replace("\n", ", "))
    path = pathlib.Path(folder) / "large-steps.png"
    figure.savefig(path, dpi=96)
    plt.close(figure)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=48).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
