"""How well `dr.reconstruct` finds shapes from photographs by its defaults, and what large steps buy. Run: python benchmarks/shapes.py

Six shapes, each from 24 photographs of 256 x 256 pixels with masks, and SoftRas's plane from 105 of its 120 silhouettes of 64 x 64.
Everything is measured on photographs that were not fitted: 12 of each shape, 15 of the plane.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

import taichi_dr as dr

VIEWS, HELD_OUT, SIZE = 24, 12, 256
SHAPES = ("spot", "bunny", "teapot", "torus", "cube", "plate", "plane")
WAYS = {
    "large steps": {},
    "vertex by vertex": {"large_steps": False},
    "vertex by vertex, a tenth of the step": {"large_steps": False, "lr": dr.Settings.lr / 10},
}


def colored(mesh):
    """In colors by formula."""
    x = dr.read(mesh.normalized().vertices)[0]
    return dr.Mesh(x, dr.read(mesh.faces), 0.5 + 0.4 * np.sin(3 * x + (0, 1, 2)))


def shape(name, spot=None):
    if name == "spot":
        return dr.Mesh.load(spot or dr.datasets.load("spot"), texture="uv").normalized()
    if name in ("bunny", "teapot"):
        return colored(dr.Mesh.load(dr.datasets.load(name), texture=None))
    if name == "torus":
        return colored(dr.shapes.torus())
    cube = dr.shapes.cube(subdivisions=24)
    return colored(cube.with_vertices(dr.array(dr.read(cube.vertices) * (1, 0.06, 0.7))) if name == "plate" else cube)


def photographs(mesh, folder, count, turn):
    """A data set: cameras evenly on a sphere, in a spiral from below to above, each picture of 16 samples a pixel."""
    k = np.arange(count) + 0.5
    camera = dr.Camera.orbit(3.6, np.degrees(np.arcsin(2 * k / count - 1)), k * 137.5 + turn, fov=50, size=SIZE)
    dr.Photos.save(folder, dr.DeferredRenderer(antialias=4, edges=None)(mesh, camera, [dr.AmbientLight(1.0)]), camera)
    return dr.Photos.load(folder)


def data(name, folder, spot, plane):
    """Photographs to fit, and to judge by."""
    if name == "plane":
        return dr.Photos.load(plane or dr.datasets.load("plane_views").parent).split(8)
    mesh = shape(name, spot)
    return photographs(mesh, folder / "fitted", VIEWS, 0.0), photographs(mesh, folder / "held_out", HELD_OUT, 60.0)


def main(names, start="hull", spot=None, plane=None, arch="cpu"):
    dr.init(arch)
    print("| shape | moved by | held-out IoU | PSNR | crossing pairs, start and end | flipped faces, start and end | faces | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            photos, held_out = data(name, pathlib.Path(folder), spot, plane)
            for way, settings in WAYS.items():
                began = time.perf_counter()
                found = dr.reconstruct(photos, dr.Settings(start=start, **settings), held_out=held_out, progress=False)
                (iou, psnr), first, last = found.scores["held_out"], found.start, found.end
                quality = f"{first.self_intersections} to {last.self_intersections} | {first.flipped_faces} to {last.flipped_faces} | {last.faces}"
                print(f"| {name} | {way} | {iou:.3f} | {psnr:.1f} | {quality} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=SHAPES, metavar="SHAPE", help=f"of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--start", choices=("hull", "sphere"), default="hull", help="what the fit starts from (default: hull, as by default)")
    parser.add_argument("--spot", help="file of the mesh, if it is here already (default: it is downloaded)")
    parser.add_argument("--plane", help="folder of SoftRas's source.npy and camera.npy, if it is here already (default: it is downloaded)")
    parser.add_argument("--arch", default="cpu", choices=("cpu", "cuda", "vulkan", "metal"))
    main(**vars(parser.parse_args()))
