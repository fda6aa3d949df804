"""Lights, materials, shading and shadows, one picture each. Run: python docs/figures/lights.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import taichi_dr as dr

SIZE = 150


def teapot():
    mesh = dr.Mesh.load(dr.datasets.load("teapot")).normalized()
    return dr.Mesh(mesh.vertices, mesh.faces, np.full((mesh.vertices.shape[1], 3), 0.85))


def on_a_floor(mesh):
    """The mesh and a fine square under it."""
    x, faces = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    floor = dr.shapes.plane(7.0, subdivisions=60)
    ground = dr.read(floor.vertices)[0] + (0, x[:, 1].min(), 0)
    return dr.Mesh(
        np.concatenate([x, ground]),
        np.concatenate([faces, dr.read(floor.faces) + len(x)]),
        np.concatenate([np.full_like(x, 0.85), np.tile((0.62, 0.66, 0.72), (len(ground), 1))]),
    )


def blue_sky():
    """Nine numbers per channel for a sky that is blue above and warm below."""
    v = (np.arange(32) + 0.5) / 32
    sky = np.where(v[:, None] < 0.5, (0.45, 0.7, 1.3), (0.8, 0.55, 0.35))
    return dr.SphericalHarmonicsLight.from_environment(np.repeat(sky[:, None], 64, axis=1))


def main(folder="docs/images"):
    dr.init()
    alone, sphere = teapot(), dr.shapes.icosphere(1)
    ball = dr.Mesh(sphere.vertices, sphere.faces, np.full((sphere.vertices.shape[1], 3), (0.9, 0.5, 0.25)))
    floor = on_a_floor(alone)
    sky, sun = dr.AmbientLight(0.25), dr.DirectionalLight((0.8, 0.9, 0.5), 0.7)
    lamp = dr.PointLight((0.9, 1.1, 1.2), 1.2, attenuation=True)
    spot = dr.SpotLight((0.6, 3.0, 0.8), (-0.2, -1.0, -0.25), 0.9, inner=12, outer=20)
    gloss = dr.Material(0.8, 0.6, 60.0)

    def picture(mesh, lights, distance=3.6, fov=40, **settings):
        material = settings.pop("material", None)
        renderer = dr.DeferredRenderer(background=(1, 1, 1), **settings)
        return dr.read(renderer(mesh, dr.Camera.orbit(distance, 28, 25, fov=fov, size=SIZE), lights, material=material))[0, ..., :3].clip(0, 1)

    def soft(shading):
        renderer = dr.SoftRenderer(background=(1, 1, 1), sigma=1e-6, shading=shading, antialias=2)
        return dr.read(renderer(ball, dr.Camera.orbit(3.6, 28, 25, fov=40, size=SIZE), [sky, sun], material=gloss))[0, ..., :3].clip(0, 1)

    pictures = {
        "AmbientLight": picture(alone, dr.AmbientLight(0.7)),
        "DirectionalLight": picture(alone, [sky, sun]),
        "PointLight": picture(floor, [sky, lamp]),
        "SpotLight": picture(floor, [sky, spot]),
        "SphericalHarmonicsLight": picture(alone, blue_sky()),
        "a Material with highlights": picture(alone, [sky, sun], material=gloss),
        "DeferredRenderer(shadows=True)": picture(floor, [sky, sun], shadows=True),
        'shading="flat"': soft("flat"),
        'shading="gouraud"': soft("gouraud"),
        'shading="phong"': soft("phong"),
    }
    figure, axes = plt.subplots(2, 5, figsize=(10.8, 4.8), layout="constrained")
    for axis, (name, image) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(image)
        axis.set_title(name, fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.savefig(pathlib.Path(folder) / "lights.png", dpi=84)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
