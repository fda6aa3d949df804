"""Times of the soft rasterizer, forward and backward apart, beside DEODR in the same run.

Run: python benchmarks/soft.py [--arch cpu|cuda|vulkan] [--mesh MESH] [--quick]. Medians after warm-up, in milliseconds. Compare
ratios rather than times: machines differ and are shared. DEODR is hard, draws front faces only, and softens edges of one pixel.
"""

import argparse
import platform
import time

import numpy as np
import taichi as ti
from peer_deodr import deodr_times

import taichi_dr as dr


def medians(forward, backward, prepare=lambda: None, seconds=1.5, least=7):
    """Median milliseconds of the two in turn, over `seconds` or at least `least` rounds, after as many of warm-up."""
    times = []
    started = time.perf_counter()
    while len(times) < 2 * least or time.perf_counter() - started < 2 * seconds:
        t0 = time.perf_counter()
        forward()
        ti.sync()
        t1 = time.perf_counter()
        prepare()
        t2 = time.perf_counter()
        backward()
        ti.sync()
        times.append((t1 - t0, time.perf_counter() - t2))
    return np.median(times[len(times) // 2 :], axis=0) * 1e3


def operator_times(draw, channels, camera):
    """Milliseconds of `draw()`, an image of the camera's size, and of the adjoints of its operators, gradients cleared."""
    cotangent = np.random.default_rng(0).standard_normal((camera.batch, *camera.size, channels))
    loss, held = dr.scalar(), {}

    def forward():
        held.clear()
        with dr.Tape(loss) as tape:
            tape.grad = lambda: None  # there is no loss: the adjoints are run below, with a random gradient of the image
            held["image"] = draw()
        held["calls"] = tape.calls

    def seed():
        dr.write(held["image"].grad, cotangent)
        arrays = (x for _, arguments in held["calls"] for x in arguments if isinstance(x, ti.Ndarray) and x.grad is not None)
        held["cleared"] = {id(x): x for x in arrays if x is not held["image"]}.values()

    def backward():
        for x in held["cleared"]:
            dr.arrays.zero(x.grad)
        for operator, arguments in reversed(held["calls"]):
            operator.grad(*arguments)

    return medians(forward, backward, seed)


def soft_times(mesh, camera, sigma):
    """Milliseconds of soft_rasterize and of its adjoint on the projected mesh."""
    screen = dr.array(dr.read(dr.project(mesh.vertices, camera)))
    return operator_times(lambda: dr.soft_rasterize(screen, mesh.faces, mesh.colors, size=camera.size, sigma=sigma), 4, camera)


def pipeline_times(mesh, camera, sigma):
    """Milliseconds of a whole step: project, shade, rasterize and a loss, then the tape's backward pass."""
    renderer, loss = dr.SoftRenderer(sigma=sigma), dr.scalar()
    lights = [dr.AmbientLight(0.5), dr.DirectionalLight((0.0, 1.0, 0.0), 0.5)]
    target = renderer(mesh, camera, lights)
    held = {}

    def forward():
        held.clear()
        held["tape"] = dr.Tape(loss).__enter__()
        dr.losses.mse(renderer(mesh, camera, lights), target, loss)

    return medians(forward, lambda: held["tape"].__exit__(None, None, None))


def colored(path):
    """The mesh of a file, spot where left out, its places as colors."""
    mesh = dr.Mesh.load(path or dr.datasets.load("spot"), texture=None).normalized()
    return dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces), (dr.read(mesh.vertices)[0] + 1) / 2)


def peer_times(mesh, camera):
    """Milliseconds of DEODR on the same projected mesh."""
    size, screen = camera.size[0], dr.read(dr.project(mesh.vertices, camera))[0].astype(float)
    pixels = np.stack([(screen[:, 0] * size + size - 1) / 2, (size - 1 - screen[:, 1] * size) / 2], axis=1)
    return deodr_times(pixels, screen[:, 2], dr.read(mesh.faces), dr.read(mesh.colors)[0], size, size, repeats=60)[:2]


def main(arch=None, mesh=None, quick=False):
    device = dr.init(arch)
    spot = colored(mesh)
    print(f"{platform.machine()}, {device.arch}, {device.threads} threads, {device.precision}; mesh of {spot.faces.shape[0]:,} faces\n")

    print("| mesh | pixels | views | sigma | forward | backward | DEODR forward | DEODR backward | ratio | step forward | step backward |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    cases = [(size, views, sigma) for size in (64, 256, 512, 1024) for views in (1, 24) for sigma in (1e-5, 1e-4) if size * views <= 512 * 24]
    for size, views, sigma in [(256, 1, 1e-5)] if quick else cases:
        row(spot, "mesh", size, views, sigma, peer=views == 1)
    if not quick:
        ball = dr.shapes.icosphere(7)
        ball = dr.Mesh(dr.read(ball.vertices), dr.read(ball.faces), (dr.read(ball.vertices)[0] + 1) / 2)
        row(ball, f"icosphere, {ball.faces.shape[0]:,} faces", 512, 1, 1e-5, peer=True)


def row(mesh, name, size, views, sigma, peer):
    camera = dr.Camera.orbit(2.732, 30, np.arange(views) * 360 / views + 45, fov=60, size=size)
    forward, backward = soft_times(mesh, camera, sigma)
    whole = pipeline_times(mesh, camera, sigma)
    theirs, ratio = ("", ""), ""
    if peer:
        ms = peer_times(mesh, camera)
        theirs, ratio = [f"{x:.2f}" for x in ms], f"{(forward + backward) / sum(ms):.1f}"
    cells = [name, size, views, f"{sigma:.0e}", f"{forward:.2f}", f"{backward:.2f}", *theirs, ratio, *(f"{x:.2f}" for x in whole)]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--mesh", help="mesh file instead of spot, which is downloaded")
    parser.add_argument("--quick", action="store_true", help="one row: 256 pixels, one view")
    main(**vars(parser.parse_args()))
