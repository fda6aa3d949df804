"""A turntable of a mesh, what sigma and gamma do to it, and the mesh saved again. Run: python examples/render.py [MESH]"""

import argparse
import pathlib

import numpy as np
from tqdm import tqdm

import taichi_dr as dr


def main(mesh=None, out="out/render", views=90, size=256):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()

    mesh = dr.Mesh.load(mesh or dr.datasets.load("teapot")).normalized()
    lights = [dr.AmbientLight(0.5), dr.DirectionalLight((0, 1, 0), 0.5)]
    white = (1.0, 1.0, 1.0)

    renderer = dr.SoftRenderer(background=white)
    rotation = []
    for azimuth in tqdm(np.arange(views) * 360 / views, desc="rotation"):
        camera = dr.Camera.from_softras(2.732, 30, azimuth, size=size)
        rotation.append(dr.pictures.to_uint8(renderer(mesh, camera, lights)))
    dr.pictures.save_gif(folder / "rotation.gif", rotation)

    camera = dr.Camera.from_softras(2.732, 30, 0, size=size)
    blurring = []
    for exponent in tqdm(np.arange(-4.0, -2.1, 0.2), desc="blurring"):
        gamma = 10.0**exponent
        renderer = dr.SoftRenderer(gamma=gamma, sigma=gamma / 10, background=white)
        blurring.append(dr.pictures.to_uint8(renderer(mesh, camera, lights)))
    dr.pictures.save_gif(folder / "blurring.gif", blurring + blurring[::-1], frames_per_second=8)

    strips = [np.concatenate([pictures[k] for k in np.linspace(0, len(pictures) - 1, 5).astype(int)], axis=1) for pictures in (rotation, blurring)]
    dr.pictures.save(folder / "render.png", np.concatenate(strips))

    mesh.save(folder / "mesh.obj")
    print(f"see {folder}/rotation.gif, blurring.gif, render.png and mesh.obj")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mesh", nargs="?", help="OBJ, PLY, OFF, STL or GLB file; the teapot where left out")
    parser.add_argument("--out", default="out/render", help="folder for the pictures")
    parser.add_argument("--views", type=int, default=90, help="frames of the turntable")
    parser.add_argument("--size", type=int, default=256, help="pixels on a side")
    main(**vars(parser.parse_args()))
