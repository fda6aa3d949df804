"""Images to mesh, vertex colors and light: a sphere becomes a bunny. Run: python examples/fit.py"""

import argparse
import pathlib
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from tqdm import trange

import taichi_dr as dr

AMBIENT = 0.4  # known; a light's scale and the colors' scale cannot be told apart otherwise


def target_scene(name):
    """An asset mesh in colors that vary over it, and the light to find."""
    mesh = dr.Mesh.load(dr.datasets.load(name)).normalized()
    x = dr.read(mesh.vertices)[0]
    colors = 0.55 + 0.35 * np.stack([np.sin(3 * x[:, 0] + 1), np.sin(3 * x[:, 1] + 2), np.sin(4 * x[:, 2])], axis=-1)
    lights = [dr.AmbientLight(AMBIENT), dr.DirectionalLight((0.6, 0.7, 0.4), 0.6)]
    return dr.Mesh(x, dr.read(mesh.faces), colors), lights


def cameras(count, size, turn=0.0):
    """Views all around, some from above and some from below."""
    azimuths = np.arange(count) * 360 / count + turn
    elevations = 50 * np.sin(azimuths * 3)
    return [dr.Camera.orbit(4.0, *angles, fov=40, size=size) for angles in zip(elevations, azimuths, strict=True)]


def scores(fitted, targets):
    """Mean IoU of the silhouettes, and PSNR of the colors over the black background."""
    a, b = fitted[..., 3], targets[..., 3]
    iou = ((a * b).sum(axis=(1, 2)) / (a + b - a * b).sum(axis=(1, 2))).mean()
    return float(iou), float(-10 * np.log10(((fitted[..., :3] - targets[..., :3]) ** 2).mean()))


def main(mesh="bunny", steps=600, views=16, size=96, out="out/fit", seed=0):
    started = time.perf_counter()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    truth, true_lights = target_scene(mesh)
    rig, held_out = cameras(views, size), cameras(views, size, turn=180 / views)
    sharp = dr.SoftRenderer(sigma=1e-6, gamma=1e-5, antialias=2)
    targets = [sharp(truth, camera, true_lights) for camera in rig]

    sphere = dr.shapes.icosphere(4)
    fitted = dr.Mesh(dr.read(sphere.vertices)[0] * 0.7, dr.read(sphere.faces), np.full((sphere.vertices.shape[1], 3), 0.5))
    sun = dr.DirectionalLight((0.0, 0.0, 1.0), 0.5)
    lights = [dr.AmbientLight(AMBIENT), sun]
    adam = dr.optim.Adam(
        [
            {"params": [fitted.vertices], "lr": 0.01},
            {"params": [fitted.colors], "lr": 0.01},
            {"params": [sun.direction, sun.intensity], "lr": 0.02},
        ],
        betas=(0.9, 0.99),
    )
    rates = [group["lr"] for group in adam.groups]

    random = np.random.default_rng(seed)
    loss, losses, frames = dr.scalar(), [], []
    progress = trange(steps, desc="fit")
    for step in progress:
        done = step / steps
        for group, rate in zip(adam.groups, rates, strict=True):
            group["lr"] = rate * 0.1**done
        renderer = dr.SoftRenderer(sigma=10 ** (-3.5 - 1.5 * done), gamma=1e-4)  # from coarse to fine
        with dr.Tape(loss):
            for k in random.choice(views, 2, replace=False):
                image = renderer(fitted, rig[k], lights)
                dr.losses.mse(image, targets[k], loss, 10.0)
                dr.losses.silhouette_iou(image, targets[k], loss)
            dr.losses.laplacian(fitted, loss, 0.05 * 0.05**done)
            dr.losses.flatten(fitted, loss, 0.0005 * 0.05**done)
        adam.step()
        losses.append(float(loss[None]))
        progress.set_postfix(loss=f"{losses[-1]:.4f}")
        if step % max(1, steps // 50) == 0 or step == steps - 1:
            render, goal = dr.read(renderer(fitted, rig[0], lights))[0], dr.read(targets[0])[0]
            frames.append(np.concatenate([goal[..., :3], render[..., :3], np.abs(goal - render)[..., :3]], axis=1))

    dr.pictures.save_gif(folder / "fit.gif", frames, frames_per_second=10)
    dr.pictures.save(folder / "fit.png", np.concatenate([frames[k] for k in (0, len(frames) // 8, -1)]))
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.semilogy(losses)
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(folder / "loss.png", dpi=120)
    plt.close(figure)
    fitted.save(folder / "fitted.obj")
    fitted.save(folder / "fitted.glb")

    new_views = [dr.read(sharp(scene, camera, light))[0] for scene, light in ((fitted, lights), (truth, true_lights)) for camera in held_out]
    iou, psnr = scores(np.stack(new_views[:views]), np.stack(new_views[views:]))
    directions = [np.ravel(dr.read(light.direction)) for light in (sun, true_lights[1])]
    cosine = float(np.dot(*(d / np.linalg.norm(d) for d in directions)))
    print(f"views never fitted: IoU {iou:.4f}, PSNR {psnr:.1f} dB; light {np.degrees(np.arccos(np.clip(cosine, -1, 1))):.1f} degrees off")
    print(f"{time.perf_counter() - started:.0f} s; see {folder}/fit.gif, fit.png, loss.png, fitted.obj and fitted.glb")
    return iou, psnr


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", default="bunny", help="asset to fit: bunny or teapot")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--views", type=int, default=16, help="pictures to fit, at least 8 for a good shape")
    parser.add_argument("--size", type=int, default=96, help="pixels on a side")
    parser.add_argument("--out", default="out/fit", help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of the views that each step sees")
    main(**vars(parser.parse_args()))
