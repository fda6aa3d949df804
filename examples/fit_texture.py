"""Images to texture: what a shape wears, from 20 pictures of it. Run: python examples/fit_texture.py [--mesh MESH] [--checker]"""

import argparse
import pathlib
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import trange

import taichi_dr as dr

TEXELS = 256  # on a side of the texture
SEEN = 0.1  # share of the mean coverage from which a texel counts as seen: coarse mip levels bring a little to those that are not


def waves():
    """A texture by formula, the same on both sides of its seams: rings that bend, of changing color."""
    v, u = np.meshgrid(*[(np.arange(TEXELS) + 0.5) * (2 * np.pi / TEXELS)] * 2, indexing="ij")
    rings = np.tanh(4 * np.sin(12 * u + 2 * np.sin(3 * v)))
    return np.stack([0.5 + 0.3 * rings, 0.5 + 0.2 * rings * np.sin(v) + 0.2 * np.cos(2 * u), 0.5 - 0.3 * np.cos(v + 3 * u)], axis=-1)


def checker():
    """A board that shows what is turned or mirrored: a red, green, blue and yellow corner, and words at the borders."""
    board = Image.new("RGB", (TEXELS, TEXELS))
    draw, cell = ImageDraw.Draw(board), TEXELS // 8
    for i, j in np.ndindex(8, 8):
        color = ("white", "lightgray")[(i + j) % 2]
        color = {(0, 0): "red", (0, 7): "green", (7, 0): "blue", (7, 7): "yellow"}.get((i, j), color)
        draw.rectangle((j * cell, i * cell, (j + 1) * cell - 1, (i + 1) * cell - 1), fill=color)
    font = ImageFont.load_default(TEXELS / 8)
    for word, place in {"TOP": (4, 1), "BOTTOM": (4, 7), "LEFT": (2, 4), "RIGHT": (6, 4)}.items():
        draw.text((place[0] * cell, place[1] * cell), word, "black", font, anchor="mm")
    return np.asarray(board) / 255


def shrunk(texture):
    """Any texture as one of TEXELS x TEXELS."""
    channels = [Image.fromarray(channel.astype(np.float32)).resize((TEXELS, TEXELS), Image.Resampling.BOX) for channel in np.moveaxis(texture, -1, 0)]
    return np.stack([np.asarray(channel, np.float64) for channel in channels], axis=-1)


def scene(path=None, with_checker=False):
    """A torus or the mesh of a file, and the texture to find."""
    mesh = dr.shapes.torus(tube=0.5) if path is None else dr.Mesh.load(path, texture="uv")
    if mesh.uv is None:
        raise SystemExit(f"{path} has no texture coordinates")
    texture = checker() if with_checker else shrunk(dr.read(mesh.texture)[0]) if mesh.texture is not None else waves()
    return mesh.normalized(), texture


def textured(mesh, texture):
    return dr.Mesh(mesh.vertices, mesh.faces, uv=mesh.uv, uv_faces=mesh.uv_faces, texture=texture)


def cameras(count, turn=0.0):
    """Elevations and azimuths of views all around, evenly on a sphere, in a spiral from below to above."""
    k = np.arange(count) + 0.5
    return np.degrees(np.arcsin(2 * k / count - 1)), k * 137.5 + turn


def psnr(images, targets):
    """Of the colors at the pixels whose larger part is covered."""
    inside = targets[..., 3] > 0.5
    return float(-10 * np.log10(((images - targets)[inside][:, :3] ** 2).mean()))


def main(mesh=None, checker=False, steps=150, views=20, size=192, out="out/fit_texture", seed=0):
    started = time.perf_counter()
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    def camera(elevation, azimuth):
        return dr.Camera.orbit(3.6, elevation, azimuth, fov=40, size=size)

    shape, texture = scene(mesh, checker)
    truth, fitted = textured(shape, texture), textured(shape, np.full((TEXELS, TEXELS, 3), 0.5))
    renderer = dr.SoftRenderer(sigma=1e-6, gamma=1e-5)
    elevations, azimuths = cameras(views)
    rig = [camera(*angles) for angles in zip(elevations, azimuths, strict=True)]
    targets = [renderer(truth, view) for view in rig]

    adam = dr.optim.Adam([fitted.texture], lr=0.05, betas=(0.9, 0.99))
    random, order = np.random.default_rng(seed), []
    loss, frames = dr.scalar(), []
    progress = trange(steps, desc="fit")
    for step in progress:
        adam.groups[0]["lr"] = 0.05 * 0.05 ** (step / steps)
        order = order or random.permutation(views).tolist()  # each view as often as the others
        k = order.pop()
        with dr.Tape(loss):
            dr.losses.mse(renderer(fitted, rig[k]), targets[k], loss)
        adam.step()
        progress.set_postfix(loss=f"{loss[None]:.2e}")
        if step % max(1, steps // 40) == 0 or step == steps - 1:
            view = camera(35, 9 * len(frames))
            goal, render = (dr.read(renderer(which, view))[0, ..., :3] for which in (truth, fitted))
            frames.append(np.concatenate([goal, render, np.abs(goal - render)], axis=1))

    coverage = sum(renderer.texel_coverage(fitted, view) for view in rig)
    coverage /= coverage.mean()
    found = dr.fill_unseen(fitted.texture, coverage > SEEN).clip(0, 1)[0]
    dr.write(fitted.texture, found[None])
    dr.pictures.save_gif(folder / "fit.gif", frames, frames_per_second=10)
    dr.pictures.save(folder / "fit.png", np.concatenate([frames[k] for k in (0, len(frames) // 4, -1)]))
    dr.pictures.save(folder / "texture.png", np.concatenate([texture, found, np.repeat(coverage.clip(0, 1)[..., None], 3, axis=-1)], axis=1))
    fitted.save(folder / "fitted.obj")
    fitted.save(folder / "fitted.glb")

    new_views = [camera(*angles) for angles in zip(*cameras(views // 2, turn=40), strict=True)]
    images, goals = (np.stack([dr.read(renderer(which, view))[0] for view in new_views]) for which in (fitted, truth))
    result = psnr(images, goals)
    share = 100 * (coverage > SEEN).mean()
    print(f"{len(new_views)} views never fitted, inside the silhouette: PSNR {result:.1f} dB; {share:.0f}% of the texels seen")
    print(f"{time.perf_counter() - started:.0f} s; see {folder}/fit.gif, fit.png, texture.png, fitted.obj and fitted.glb")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", help="OBJ or GLB file with texture coordinates, whose texture is to be found; a torus where left out")
    parser.add_argument("--checker", action="store_true", help="find a board with words on it instead: it shows what is turned or mirrored")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--views", type=int, default=20, help="pictures to fit")
    parser.add_argument("--size", type=int, default=192, help="pixels on a side")
    parser.add_argument("--out", default="out/fit_texture", help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the views")
    main(**vars(parser.parse_args()))
