"""The same fit in three ways: vertices one by one, with a regularizer, and by large steps. Run: python docs/figures/large_steps.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

import taichi_dr as dr

VIEWS, SIZE, STEPS, LR = 16, 128, 300, 6e-3
LIGHTS = ((0.6, 0.7, 0.4), (-0.7, 0.2, -0.5), (0.1, -0.8, 0.6))
WAYS = ("target", "vertex by vertex", "with a Laplacian loss", "large steps")


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
    mesh = dr.Mesh(0.8 * dr.read(sphere.vertices)[0], dr.read(sphere.faces))
    large = dr.LargeSteps(mesh) if way == "large steps" else None

    def now():
        return mesh if large is None else mesh.with_vertices(large.vertices())

    def objective(step):
        k = step.views
        camera = dr.Camera.orbit(4.0, elevations[k], azimuths[k], fov=36, size=SIZE)
        moved = now()
        dr.losses.mse(renderer(moved, camera, lamps), dr.array(images[k]), step.term("image"))
        if way == "with a Laplacian loss":
            dr.losses.laplacian(moved, step.term("laplacian"), 0.01)

    shape = dr.Parameter(mesh.vertices, LR) if large is None else dr.Parameter(large.coordinates, LR, optimizer="adam_uniform")
    dr.fit({"shape": shape}, objective, STEPS, schedule=dr.schedules.exponential(0.1), views=VIEWS, views_per_step=4, progress=False)
    return dr.Mesh(dr.read(now().vertices), dr.read(mesh.faces))


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
    axis.add_collection(PolyCollection(corners[order], facecolors=colors[order], edgecolors="0.15", linewidths=0.25))
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
    shown = dr.Camera.orbit(4.0, 12, 25, fov=36, size=600)
    bunny = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
    bunny = dr.Mesh(bunny.vertices, bunny.faces)
    azimuths, elevations = rig()
    images = dr.read(dr.DeferredRenderer(antialias=1)(bunny, dr.Camera.orbit(4.0, elevations, azimuths, fov=36, size=SIZE), lights()))
    figure, axes = plt.subplots(2, 4, figsize=(11, 6.3), layout="constrained", height_ratios=(1.25, 1))
    for k, way in enumerate(WAYS):
        mesh = bunny if way == "target" else fitted(way, images)
        drawn(axes[0, k], mesh, (60, 540, 40, 560), shown)
        drawn(axes[1, k], mesh, (150, 340, 60, 220), shown)
        axes[0, k].set_title(way, fontsize=12)
        if way != "target":
            quality = dr.mesh_quality(mesh)
            text = f"overlap {overlap(mesh, bunny):.3f}\n{quality.self_intersections:,} crossing pairs, {quality.flipped_faces:,} flipped faces"
            axes[1, k].set_xlabel(text, fontsize=9.5)
            print(way, text.replace("\n", ", "))
    figure.savefig(pathlib.Path(folder) / "large-steps.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
