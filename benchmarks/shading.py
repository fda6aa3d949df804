"""Times of shading, forward and backward apart: a directional light with highlights and spherical harmonics, on points of a surface.

Run: python benchmarks/shading.py [--arch cpu|cuda|vulkan] [--points N] [--quick]. Medians after warm-up, in milliseconds.
"""

import argparse
import platform
import time

import numpy as np
import taichi as ti

import taichi_dr as dr
from taichi_dr.lights import SphericalHarmonicsLight
from taichi_dr.materials import Material
from taichi_dr.shading import shade_points


def surface(count):
    """Albedo, normals and positions, (1, N, 3), on the unit sphere."""
    random = np.random.default_rng(0)
    points = random.standard_normal((1, count, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return random.uniform(0, 1, points.shape), points, points


def shading_times(arrays, lights, seconds, **options):
    """Median milliseconds of shade_points and of its adjoint, gradients cleared."""
    loss, times = dr.scalar(), []
    cotangent = np.random.default_rng(0).standard_normal((1, arrays[0].shape[1], 3))
    started = time.perf_counter()
    while len(times) < 10 or time.perf_counter() - started < seconds:
        t0 = time.perf_counter()
        with dr.Tape(loss) as tape:
            tape.grad = lambda: None  # there is no loss: the adjoint is run below, with a random gradient
            lit = shade_points(*arrays, lights, **options)
        ti.sync()
        t1 = time.perf_counter()
        dr.write(lit.grad, cotangent)
        t2 = time.perf_counter()
        for x in {id(a): a for _, args in tape.calls for a in args if isinstance(a, ti.Ndarray) and a.grad is not None and a is not lit}.values():
            dr.arrays.zero(x.grad)
        for operator, arguments in reversed(tape.calls):
            operator.grad(*arguments)
        ti.sync()
        times.append((t1 - t0, time.perf_counter() - t2))
        del tape, lit, x  # for the pool to hand out again
    return np.median(times[len(times) // 2 :], axis=0) * 1e3


def main(arch=None, points=100_000, quick=False):
    device = dr.init(arch)
    print(f"{platform.machine()}, {device.arch}, {device.threads} threads, {device.precision}; {points:,} points\n")
    arrays = [dr.array(x) for x in surface(points)]
    frame = dr.array(np.full((1, 5, 3), 3.0))
    sun, sky = dr.DirectionalLight((1.0, 2.0, 3.0), 0.5), SphericalHarmonicsLight(np.linspace(1, 0.1, 9))
    cases = {
        "ambient and directional": ([dr.AmbientLight(), sun], {}),
        "directional with Phong, harmonics": ([sun, sky], {"material": Material(1.0, 0.5, 20.0, "phong"), "frame": frame}),
        "directional with Blinn-Phong, harmonics": ([sun, sky], {"material": Material(1.0, 0.5, 20.0), "frame": frame}),
    }
    print(f"{'':40}  forward  backward")
    for name, (lights, options) in cases.items():
        forward, backward = shading_times(arrays, lights, 0.1 if quick else 2.0, **options)
        print(f"{name:40}  {forward:7.2f}  {backward:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=["cpu", "cuda", "vulkan", "metal"])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    main(**vars(parser.parse_args()))
