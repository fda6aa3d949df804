"""Times of the visible-surface rasterizer with edge gradients, forward and backward apart, beside DEODR in the same run.

Run: python benchmarks/visible.py [--arch cpu|cuda|vulkan] [--mesh MESH]. Medians after warm-up, in milliseconds. Both draw vertex colors of
front faces and have gradients at silhouettes: rasterize, interpolate and antialias (or microedges) here, Scene2D of DEODR there.
"""

import argparse

from soft import colored, operator_times, peer_times

import taichi_dr as dr


def visible_times(mesh, camera, edges):
    """Milliseconds of rasterize, interpolate and `edges`, and of their adjoints, on the projected mesh."""
    screen = dr.array(dr.read(dr.project(mesh.vertices, camera)))

    def draw():
        visible = dr.rasterize(screen, mesh.faces, camera.size, cull="back")
        return edges(dr.interpolate(mesh.colors, mesh.faces, visible), screen, mesh.faces, visible)

    return operator_times(draw, 3, camera)


def main(arch=None, mesh=None):
    print(f"{dr.init(arch)}\n")
    mesh = colored(mesh)
    print("| pixels | edges | forward | backward | DEODR forward | DEODR backward | ratio |\n|---|---|---|---|---|---|---|")
    for size in (256, 512):
        camera = dr.Camera.orbit(2.732, 30, 45, fov=60, size=size)
        for edges in (dr.antialias, dr.microedges):
            forward, backward = visible_times(mesh, camera, edges)
            theirs = peer_times(mesh, camera)
            times = [f"{x:.2f}" for x in (forward, backward, *theirs)]
            print(f"| {size} | {edges.__name__} | " + " | ".join(times) + f" | {(forward + backward) / sum(theirs):.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--mesh", help="mesh file instead of spot, which is downloaded")
    main(**vars(parser.parse_args()))
