"""Times of the visible-surface rasterizer with edge gradients, forward and backward apart, beside DEODR in the same run.

Run: python benchmarks/visible.py [--arch cpu|cuda|vulkan] [--mesh MESH]. Medians after warm-up, in milliseconds. Both draw vertex colors of
front faces and have gradients at silhouettes: rasterize, interpolate and antialias (or microedges) here, Scene2D of DEODR there.
"""

import argparse
import platform

import numpy as np
import taichi as ti
from peer_deodr import deodr_times
from soft import medians

import taichi_dr as dr


def visible_times(mesh, camera, edges):
    """Milliseconds of rasterize, interpolate and `edges`, and of their adjoints, gradients cleared, on the projected mesh."""
    screen = dr.array(dr.read(dr.project(mesh.vertices, camera)))
    cotangent = np.random.default_rng(0).standard_normal((camera.batch, *camera.size, 3))
    loss, held = dr.scalar(), {}

    def forward():
        held.clear()
        with dr.Tape(loss) as tape:
            tape.grad = lambda: None  # there is no loss: the adjoint is run below, with a random gradient of the image
            visible = dr.rasterize(screen, mesh.faces, camera.size, cull="back")
            held["image"] = edges(dr.interpolate(mesh.colors, mesh.faces, visible), screen, mesh.faces, visible)
        held["tape"] = tape

    def seed():
        dr.write(held["image"].grad, cotangent)
        arrays = (x for _, arguments in held["tape"].calls for x in arguments if isinstance(x, ti.Ndarray) and x.grad is not None)
        held["cleared"] = {id(x): x for x in arrays if x is not held["image"]}.values()

    def backward():
        for x in held["cleared"]:
            dr.arrays.zero(x.grad)
        for operator, arguments in reversed(held["tape"].calls):
            operator.grad(*arguments)

    return medians(forward, backward, seed)


def main(arch=None, mesh=None):
    device = dr.init(arch)
    print(f"{device}; Python {platform.python_version()}, {platform.machine()}\n")
    if mesh is None:
        path = dr.datasets.load("spot")
    else:
        path = mesh
    spot = dr.Mesh.load(path, texture=None).normalized()
    spot = dr.Mesh(dr.read(spot.vertices), dr.read(spot.faces), (dr.read(spot.vertices)[0] + 1) / 2)
    print("| pixels | edges | forward | backward | DEODR forward | DEODR backward | ratio |\n|---|---|---|---|---|---|---|")
    for size in (256, 512):
        camera = dr.Camera.orbit(2.732, 30, 45, fov=60, size=size)
        screen = dr.read(dr.project(spot.vertices, camera))[0].astype(float)
        pixels = np.stack([(screen[:, 0] * size + size - 1) / 2, (size - 1 - screen[:, 1] * size) / 2], axis=1)
        for edges in (dr.antialias, dr.microedges):
            forward, backward = visible_times(spot, camera, edges)
            theirs = deodr_times(pixels, screen[:, 2], dr.read(spot.faces), dr.read(spot.colors)[0], size, size, repeats=60)[:2]
            times = [f"{x:.2f}" for x in (forward, backward, *theirs)]
            print(f"| {size} | {edges.__name__} | " + " | ".join(times) + f" | {(forward + backward) / sum(theirs):.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--mesh", help="mesh file instead of spot, which is downloaded")
    main(**vars(parser.parse_args()))
