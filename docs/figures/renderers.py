"""The same scene by the soft and by the deferred renderer, and the pixels around an edge. Run: python docs/figures/renderers.py docs/images"""

import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import taichi_dr as dr

SIZE, CROP = 128, (slice(4, 36), slice(48, 80))


def main(folder="docs/images"):
    dr.init()
    mesh = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
    camera = dr.Camera.orbit(3.4, 10, 30, fov=40, size=SIZE)
    lights = [dr.AmbientLight(0.4), dr.DirectionalLight((0.6, 0.8, 0.5), 0.7)]
    one_pixel = (2 / SIZE) ** 2
    renderers = {
        "SoftRenderer()\nsigma=1e-5, 0.2 pixels": dr.SoftRenderer(),
        "SoftRenderer(sigma=2.4e-4)\none pixel": dr.SoftRenderer(sigma=one_pixel),
        "SoftRenderer(sigma=3.9e-3)\nfour pixels": dr.SoftRenderer(sigma=16 * one_pixel),
        "DeferredRenderer(\nantialias=1, edges=None)": dr.DeferredRenderer(antialias=1, edges=None),
        "DeferredRenderer(\nantialias=1)": dr.DeferredRenderer(antialias=1),
        "DeferredRenderer()\n": dr.DeferredRenderer(),
    }
    figure, axes = plt.subplots(3, 6, figsize=(11.4, 6.2), layout="constrained")
    for column, (name, renderer) in zip(axes.T, renderers.items(), strict=True):
        image = dr.read(renderer(mesh, camera, lights))[0].clip(0, 1)
        for axis, picture in zip(column, (image[..., :3], image[CROP][..., :3], image[CROP][..., 3]), strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        rows, columns = CROP
        column[0].plot(*zip(*((c, r) for c, r in ((columns.start, rows.start), (columns.stop, rows.start), (columns.stop, rows.stop),
                       (columns.start, rows.stop), (columns.start, rows.start))), strict=True), color="#f4a300", lw=1)  # fmt: skip
        column[0].set_title(name, fontsize=8)
    for axis, name in zip(axes[:, 0], ("image", "image, crop", "alpha, crop"), strict=True):
        axis.set_ylabel(name)
    figure.savefig(pathlib.Path(folder) / "renderers.png", dpi=84)
    plt.close(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
