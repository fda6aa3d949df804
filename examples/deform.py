"""Silhouettes to shape: a sphere becomes what the views show.

Run: python examples/deform.py
SoftRas's own demo: python examples/deform.py --silhouettes source.npy --cameras camera.npy --template sphere_1352.obj
"""

import argparse
import pathlib

import numpy as np
from tqdm import trange

import taichi_dr as dr

VIEWING_ANGLE = 15  # half the field of view, as SoftRas counts


def asset_views(name="bunny", size=64):
    """Silhouettes (N, H, W) of an asset mesh and their cameras (N, 3): distance, elevation, azimuth."""
    cameras = np.array([(2.732, elevation, azimuth) for elevation in (-30, 0, 30) for azimuth in range(0, 360, 45)], float)
    mesh = dr.Mesh.load(dr.datasets.load(name)).normalized()
    mesh = dr.Mesh(dr.read(mesh.vertices) * 0.5, dr.read(mesh.faces))
    renderer = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", antialias=4)
    return dr.read(renderer(mesh, softras_camera(cameras, size)))[..., 3], cameras


def softras_camera(rows, size):
    return dr.Camera.from_softras(*rows.T, viewing_angle=VIEWING_ANGLE, size=size)


def rgba(silhouettes):
    """Target images whose alpha is the silhouette."""
    return dr.array(np.concatenate([np.zeros((*silhouettes.shape, 3)), silhouettes[..., None]], axis=-1))


class Octants:
    """SoftRas's parametrization: a vertex stays in its octant of a box, whose center moves too.

    u = sigmoid(logit |v0| + displacement),  c = tanh(center),  v = c + sign(v0) u (1 - sign(v0) c)
    """

    def __init__(self, vertices):
        self.sign = np.sign(vertices)
        self.base = np.log(np.abs(vertices).clip(1e-6) / (1 - np.abs(vertices)))
        self.displacement, self.center = dr.array(np.zeros_like(vertices)), dr.array(np.zeros((1, 1, 3)))

    def to(self, vertices):
        """Write the vertices."""
        u, c = 1 / (1 + np.exp(-self.base - dr.read(self.displacement))), np.tanh(dr.read(self.center))
        dr.write(vertices, c + self.sign * u * (1 - self.sign * c))

    def pull_back(self, vertices):
        """The gradient of the vertices becomes that of the parameters."""
        u, c = 1 / (1 + np.exp(-self.base - dr.read(self.displacement))), np.tanh(dr.read(self.center))
        grad = dr.read(vertices.grad)
        dr.write(self.displacement.grad, grad * self.sign * (1 - self.sign * c) * u * (1 - u))
        dr.write(self.center.grad, (grad * (1 - u)).sum(axis=1, keepdims=True) * (1 - c**2))


def mean_iou(mesh, silhouettes, cameras):
    """Mean over the views of the overlap with the mesh rendered hard, at 4 x 4 supersampling."""
    renderer = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", antialias=4)
    overlaps = []
    for chunk in np.array_split(np.arange(len(cameras)), -(-len(cameras) // 24)):
        a = dr.read(renderer(mesh, softras_camera(cameras[chunk], silhouettes.shape[1])))[..., 3]
        b = silhouettes[chunk]
        overlaps.extend((a * b).sum(axis=(1, 2)) / (a + b - a * b).sum(axis=(1, 2)))
    return float(np.mean(overlaps))


def main(silhouettes=None, cameras=None, template=None, steps=None, out="out/deform", softras=False, seed=0):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    if silhouettes is None:
        targets, views = asset_views()
    else:
        targets, views = np.load(silhouettes)[:, 3] / 255.0, np.load(cameras).astype(float)
    sphere = dr.shapes.icosphere(4) if template is None else dr.Mesh.load(template, texture=None).normalized()
    mesh = dr.Mesh(dr.read(sphere.vertices) * 0.5, dr.read(sphere.faces))
    size = targets.shape[1]
    random = np.random.default_rng(seed)

    if softras:  # SoftRas's settings: all views in every step, one softness
        steps = steps or 2000
        octants = Octants(dr.read(mesh.vertices))
        adam = dr.optim.Adam([octants.displacement, octants.center], lr=0.01, betas=(0.5, 0.99))
    else:
        steps = steps or 1600
        adam = dr.optim.Adam([mesh.vertices], lr=0.02, betas=(0.9, 0.99))

    loss, frames, losses = dr.scalar(), [], []
    progress = trange(steps)
    for step in progress:
        done = step / steps
        if softras:
            octants.to(mesh.vertices)
            picked = np.arange(len(views))
            renderer = dr.SoftRenderer(sigma=1e-4, rgb="hard")
            laplacian, flatten = 0.03, 0.0003
        else:  # a few views a step; from soft to sharp, from smooth to free, in ever smaller steps
            picked = random.choice(len(views), min(8, len(views)), replace=False)
            renderer = dr.SoftRenderer(sigma=10 ** (-3.5 - 2 * done), rgb="hard", antialias=2 if done < 0.75 else 4)
            laplacian, flatten = 0.02 * 0.005**done, 0.0001 * 0.01**done
            adam.groups[0]["lr"] = 0.02 * 0.02**done
        camera = softras_camera(views[picked], size)
        target = rgba(targets[picked])
        with dr.Tape(loss):
            image = renderer(mesh, camera)
            dr.losses.silhouette_iou(image, target, loss)
            dr.losses.laplacian(mesh, loss, laplacian)
            dr.losses.flatten(mesh, loss, flatten)
        if softras:
            octants.pull_back(mesh.vertices)
        adam.step()
        losses.append(float(loss[None]))
        progress.set_postfix(loss=f"{losses[-1]:.4f}")
        if step % max(1, steps // 60) == 0:
            a, b = dr.read(image)[0, ..., 3], targets[picked[0]]
            frames.append(np.repeat(np.concatenate([b, a, abs(a - b)], axis=1)[..., None], 3, axis=-1))
    if softras:
        octants.to(mesh.vertices)
    mesh.save(folder / "mesh.obj")
    dr.pictures.save_gif(folder / "deform.gif", frames, frames_per_second=10)
    iou = mean_iou(mesh, targets, views)
    print(f"mean silhouette IoU over {len(views)} views, rendered hard: {iou:.4f}; see {folder}/deform.gif and {folder}/mesh.obj")
    return iou


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silhouettes", help="npy of (N, 4, H, W) uint8, alpha in channel 3; views of an asset mesh where left out")
    parser.add_argument("--cameras", help="npy of (N, 3): distance, elevation, azimuth")
    parser.add_argument("--template", help="mesh to start from; an icosphere where left out")
    parser.add_argument("--steps", type=int, help="1600, or 2000 with --softras, where left out")
    parser.add_argument("--out", default="out/deform", help="folder for the results")
    parser.add_argument("--softras", action="store_true", help="SoftRas's own settings instead of the default recipe")
    parser.add_argument("--seed", type=int, default=0, help="of the views that each step sees")
    main(**vars(parser.parse_args()))
