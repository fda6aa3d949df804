"""From photographs to a mesh, stage by stage: photograph, mask, visual hull, fitted shape and colors.

Run: python docs/figures/photos.py docs/images
"""

import pathlib
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import taichi_dr as dr

VIEWS, SIZE = 24, 160
SETTINGS = dr.Settings(steps=200, vertices=5000, views_per_step=3)


def photographs():
    """A colored bunny from all around, some from above and some from below, and their cameras."""
    mesh = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
    x = dr.read(mesh.vertices)[0]
    stripes = 0.5 + 0.5 * np.tanh(6 * np.sin(14 * x[:, 1:2] + 3 * np.sin(4 * x[:, :1])))
    painted = dr.Mesh(x, dr.read(mesh.faces), stripes * (0.95, 0.62, 0.25) + (1 - stripes) * (0.25, 0.45, 0.7))
    azimuths = 20 + np.arange(VIEWS) * 360 / VIEWS
    camera = dr.Camera.orbit(4.0, 35 * np.sin(np.radians(5 * azimuths - 70)), azimuths, fov=36, size=SIZE)
    lights = [dr.AmbientLight(0.6), dr.DirectionalLight((0.4, 0.8, 0.4), 0.4)]
    return dr.DeferredRenderer(antialias=3)(painted, camera, lights), camera


def over_white(image):
    return image[..., :3] + 1 - image[..., 3:]


def drawn(mesh, camera, shaded):
    """A mesh from the view of a photograph: grey and lit, or in its colors."""
    renderer = dr.DeferredRenderer(antialias=3, edges=None)
    if not shaded:
        return over_white(dr.read(renderer(mesh, camera))[0])
    bare = dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces))
    return over_white(dr.read(renderer(bare, camera, [dr.AmbientLight(0.35), dr.DirectionalLight((-0.5, 0.7, 0.6), 0.65)]))[0])


def main(folder="docs/images"):
    dr.init()
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        dr.Photos.save(data, *photographs())
        photos = dr.Photos.load(data)
        fitted, held_out = photos.split(8)
        hull = dr.visual_hull(fitted)
        found = dr.reconstruct(fitted, SETTINGS, held_out=held_out, progress=False)
        camera, photo = held_out.camera(0), held_out.image(0)
    print(found.scores, found.start, found.end, sep="\n")
    overlap, psnr = found.scores["held_out"]
    shown = {
        "photograph, held out": over_white(photo),
        "its mask": np.repeat(photo[..., 3:], 3, axis=-1),
        "visual hull of 21 masks": drawn(hull, camera, True),
        "fitted": drawn(found.mesh, camera, True),
        f"overlap {overlap:.3f}, {psnr:.1f} dB": drawn(found.mesh, camera, False),
    }
    figure, axes = plt.subplots(1, len(shown), figsize=(10.5, 2.4), layout="constrained")
    for axis, (title, picture) in zip(axes, shown.items(), strict=True):
        axis.imshow(picture.clip(0, 1))
        axis.set_title(title, fontsize=10.5)
        axis.axis("off")
    figure.savefig(pathlib.Path(folder) / "photos.png", dpi=96)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
