"""One image to light: the surroundings and the sun that a known, glossy shape stands in. Run: python examples/fit_light.py

With --environment FILE the light is that of an environment map, .hdr or .exr, without a sun beside it.

What one image tells: nine coefficients have nine different pictures, since normals vary, though of half of the sphere only. A
sun adds one that no coefficients make; but on a dull surface the sun and its opposite differ by max(0, x) - max(0, -x) = x, a
harmonic of order 1, and cannot be told apart. The highlight of a glossy surface can: it is where the sun is.
"""

import argparse
import pathlib
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from tqdm import trange

import taichi_dr as dr

GREY = 0.75
GLOSS = 0.5


def sky_and_sun():
    """A blue sky over brown ground, bright on one side, and a warm sun."""
    coefficients = [
        [1.5, 1.55, 1.7],
        [0.35, 0.45, 0.7], [0.2, 0.1, -0.05], [-0.4, -0.25, 0.1],
        [-0.1, -0.05, 0.15], [0.1, 0.05, 0.0], [0.12, 0.05, -0.1], [-0.15, 0.05, 0.1], [0.2, 0.1, -0.05],
    ]  # fmt: skip
    return [dr.SphericalHarmonicsLight(coefficients), dr.DirectionalLight((0.7, 0.5, 0.6), (0.5, 0.45, 0.35))]


def surroundings(path):
    """The light of an environment map, scaled so that its mean is half of white."""
    coefficients = dr.read(dr.SphericalHarmonicsLight.from_environment(path).coefficients)
    return [dr.SphericalHarmonicsLight(coefficients * (0.5 * np.sqrt(4 * np.pi) / coefficients[0].mean()))]


def grey(mesh):
    return dr.Mesh(mesh.vertices, mesh.faces, np.full((mesh.vertices.shape[1], 3), GREY))


def columns(draw, light, count):
    """(pixels, count): one picture for each of the lights in a batch."""
    return dr.read(draw([light], views=count))[..., 0].reshape(count, -1).T


def likeliest_sun(harmonics, directions, suns, target):
    """The direction of which a sun explains most of what harmonics cannot."""
    basis, _ = np.linalg.qr(harmonics)
    suns, rest = (x - basis @ (basis.T @ x) for x in (suns, target))
    explained = ((suns.T @ rest).clip(0) ** 2).sum(axis=1) / np.maximum((suns**2).sum(axis=0), 1e-9)  # no sun takes light away
    return int(explained.argmax())


def even_coordinates(pictures):
    """W such that a step q, taken as W q in the light, changes the image as much in whichever direction: W = (A^T A)^(-1/2)."""
    values, vectors = np.linalg.eigh(pictures.T @ pictures / len(pictures))
    return vectors / np.sqrt(values) @ vectors.T


def errors(found, true):
    """Of the coefficients, relative; of the sun's direction, in degrees; of its intensity, relative."""
    pairs = [(found[0].coefficients, true[0].coefficients), *((a.intensity, b.intensity) for a, b in zip(found[1:], true[1:], strict=True))]
    relative = [float(np.linalg.norm(dr.read(a) - dr.read(b)) / np.linalg.norm(dr.read(b))) for a, b in pairs]
    directions = [dr.read(light.direction).astype(float) for light in (*found[1:], *true[1:])]
    cosine = [float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(directions[:1], directions[1:], strict=True)]
    return [relative[0], *np.degrees(np.arccos(np.clip(cosine, -1, 1))).tolist(), *relative[1:]]


def main(mesh="bunny", environment=None, steps=400, size=96, out="out/fit_light"):
    started = time.perf_counter()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    path = pathlib.Path(mesh) if pathlib.Path(mesh).suffix else dr.datasets.load(mesh)
    known, ball = grey(dr.Mesh.load(path, texture=None).normalized()), grey(dr.shapes.icosphere(5))
    renderer, material = dr.SoftRenderer(shading="phong", sigma=1e-6), dr.Material(1.0, GLOSS, 10.0)

    def draw(lights, shape=known, views=1, pixels=size):
        return renderer(shape, dr.Camera.orbit(3.6, [20] * views, [20] * views, fov=40, size=pixels), lights, material=material)

    true = surroundings(environment) if environment else sky_and_sun()
    target = draw(true)

    # Light is linear: pictures of each harmonic and of suns all around tell where the sun may be, and how to scale the steps.
    pictures = columns(draw, dr.SphericalHarmonicsLight(np.repeat(np.eye(9)[..., None], 3, axis=-1)), 9)
    found = [dr.SphericalHarmonicsLight(np.concatenate([np.full((1, 3), 0.5), np.zeros((8, 3))]))]
    if not environment:
        around = dr.read(dr.shapes.icosphere(2).vertices)[0]
        suns = columns(draw, dr.DirectionalLight(around, np.ones_like(around)), len(around))
        k = likeliest_sun(pictures, around, suns, dr.read(target)[..., :3].reshape(-1, 3))
        pictures = np.concatenate([pictures, suns[:, k : k + 1]], axis=1)
        found.append(dr.DirectionalLight(around[k], 0.2))
    linear = [found[0].coefficients, *(sun.intensity for sun in found[1:])]
    to_light = even_coordinates(pictures)
    even = dr.array(np.linalg.solve(to_light, np.concatenate([dr.read(x).reshape(-1, 3) for x in linear])))

    adam = dr.optim.Adam([{"params": [even]}, *({"params": [sun.direction]} for sun in found[1:])], lr=0.03, betas=(0.9, 0.99))
    loss, losses, frames = dr.scalar(), [], []
    for step in trange(steps, desc="fit"):
        done = step / steps
        for group in adam.groups:
            group["lr"] = 0.03 * 0.1**done
        if done < 0.25:  # a sun of the wrong brightness would be led astray
            for group in adam.groups[1:]:
                group["lr"] = 0.0
        with dr.Tape(loss):
            image = draw(found)
            dr.losses.mse(image, target, loss)
        dr.write(even.grad, to_light.T @ np.concatenate([dr.read(x.grad).reshape(-1, 3) for x in linear]))
        adam.step()
        values = to_light @ dr.read(even)
        for x, rows in zip(linear, (values[:9], values[9:]), strict=False):
            dr.write(x, rows.reshape(dr.read(x).shape))
        losses.append(float(loss[None]))
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            goal, render = (dr.read(x)[0, ..., :3] for x in (target, image))
            frames.append(np.concatenate([goal, render, np.abs(goal - render)], axis=1))

    dr.pictures.save_gif(folder / "fit.gif", frames, frames_per_second=10)
    balls = [dr.read(draw(lights, ball, pixels=2 * size))[0, ..., :3] for lights in (true, found)]
    dr.pictures.save(folder / "light.png", np.concatenate(balls, axis=1))
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.semilogy(losses)
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(folder / "loss.png", dpi=120)
    plt.close(figure)

    off = errors(found, true)
    sun = f"; sun {off[1]:.2f} degrees off, its intensity {100 * off[2]:.2f}%" if found[1:] else ""
    print(f"coefficients {100 * off[0]:.2f}% off{sun}")
    print(f"{time.perf_counter() - started:.0f} s; see {folder}/fit.gif, light.png and loss.png")
    return off


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", default="bunny", help="known shape: an asset, bunny or teapot, or a mesh file")
    parser.add_argument("--environment", help="environment map whose light is to be found, .hdr or .exr; a sky and a sun where left out")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=96, help="pixels on a side")
    parser.add_argument("--out", default="out/fit_light", help="folder for the results")
    main(**vars(parser.parse_args()))
