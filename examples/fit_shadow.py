"""Where does the light stand? A lamp found from the shadow that it casts. Run: python examples/fit_shadow.py

A teapot stands on a floor; one picture of it is given, and the lamp begins on the other side. Shadows of a deferred renderer have
gradients: their borders move with the lamp, as silhouettes do with the mesh.
"""

import argparse
import pathlib

import numpy as np
from tqdm import trange

import taichi_dr as dr

GROUND, TEAPOT = (0.75, 0.72, 0.66), (0.55, 0.62, 0.75)


def scene(path):
    """The mesh of a file on a square floor."""
    mesh = dr.Mesh.load(path, texture=None).normalized()
    vertices, faces = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    side, floor = np.linspace(-3.5, 3.5, 9), vertices[:, 1].min()
    x, z = np.meshgrid(side, side)
    k = np.arange(81).reshape(9, 9)
    a, b, c, d = (q.ravel() for q in (k[:-1, :-1], k[1:, :-1], k[1:, 1:], k[:-1, 1:]))
    square = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    colors = np.concatenate([np.tile(TEAPOT, (len(vertices), 1)), np.tile(GROUND, (81, 1))])
    ground = np.stack([x.ravel(), np.full(81, floor), z.ravel()], axis=1)
    return dr.Mesh(np.concatenate([vertices, ground]), np.concatenate([faces, square + len(vertices)]), colors)


def main(mesh="teapot", steps=150, size=128, out="out/fit_shadow"):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    path = pathlib.Path(mesh) if pathlib.Path(mesh).suffix else dr.datasets.load(mesh)
    mesh, camera = scene(path), dr.Camera.orbit(4.6, 35, 15, fov=40, size=size)
    true = dr.PointLight((-1.6, 2.6, 1.4), 0.9)
    lamp = dr.PointLight((1.5, 3.2, 0.2), 0.9)
    sky = dr.AmbientLight(0.2)
    target = dr.DeferredRenderer(shadows=True)(mesh, camera, [sky, true])

    adam, loss, frames = dr.optim.Adam([lamp.position], lr=0.15, betas=(0.8, 0.99)), dr.scalar(), []
    for step in trange(steps, desc="fit"):
        done = step / steps
        adam.groups[0]["lr"] = 0.15 * 0.05**done
        blur = max(1.0, 20 * (1 - 1.6 * done))  # wide borders first: shadows that do not overlap see each other
        renderer = dr.DeferredRenderer(shadows=dr.ShadowMaps(blur=blur))
        with dr.Tape(loss):
            image = renderer(mesh, camera, [sky, lamp])
            dr.losses.mse(image, target, loss)
        adam.step()
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            goal, render = (dr.read(x)[0, ..., :3] for x in (target, image))
            frames.append(np.concatenate([goal, render, np.abs(goal - render)], axis=1))

    off = float(np.linalg.norm(dr.read(lamp.position) - dr.read(true.position)))
    dr.pictures.save_gif(folder / "fit_shadow.gif", frames, frames_per_second=10)
    dr.pictures.save(folder / "fit_shadow.png", np.concatenate([frames[0], frames[-1]]))
    print(f"the lamp is {off:.3f} off, of {np.linalg.norm(dr.read(true.position)):.1f}; see {folder}/fit_shadow.gif and fit_shadow.png")
    return off


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", default="teapot", help="what casts the shadow: an asset, bunny or teapot, or a mesh file")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--size", type=int, default=128, help="pixels on a side")
    parser.add_argument("--out", default="out/fit_shadow", help="folder for the results")
    main(**vars(parser.parse_args()))
