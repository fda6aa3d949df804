"""What a texture costs: a whole step, textured beside vertex colors, in the same run.

Run: python benchmarks/texture.py [--arch cpu|cuda|vulkan] [--mesh MESH] [--size PIXELS]. Medians after warm-up, in milliseconds.
"""

import argparse

import numpy as np
from soft import medians

import taichi_dr as dr


def step_times(mesh, camera, target, **settings):
    """Milliseconds of project, rasterize and loss, and of the tape's backward pass."""
    renderer, loss, held = dr.SoftRenderer(**settings), dr.scalar(), {}

    def forward():
        held["tape"] = dr.Tape(loss).__enter__()
        dr.losses.mse(renderer(mesh, camera), target, loss)

    return medians(forward, lambda: held["tape"].__exit__(None, None, None))


def main(arch=None, mesh=None, size=256):
    dr.init(arch)
    textured = dr.Mesh.load(mesh or dr.datasets.load("spot"), texture="uv").normalized()
    vertices = dr.read(textured.vertices)
    colored = dr.Mesh(vertices, dr.read(textured.faces), (vertices + 1) / 2)
    camera = dr.Camera.orbit(2.732, 30, 45, fov=60, size=size)
    target = dr.array(np.random.default_rng(0).uniform(0, 1, (1, size, size, 4)))
    print("| sigma | colors forward | backward | texture forward | backward | ratio |\n|---|---|---|---|---|---|")
    for sigma in (1e-5, 1e-4):
        plain, by_uv = (step_times(m, camera, target, sigma=sigma) for m in (colored, textured))
        cells = [f"{sigma:.0e}", *(f"{x:.2f}" for x in (*plain, *by_uv)), f"{sum(by_uv) / sum(plain):.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--mesh", help="textured mesh file instead of spot, which is downloaded")
    parser.add_argument("--size", type=int, default=256, help="pixels on a side")
    main(**vars(parser.parse_args()))
