"""What a morphable model costs, beside a kernel that does nothing but read its basis, in the same run.

Run: python benchmarks/morphable.py [--arch cpu|cuda|vulkan] [--vertices N] [--modes K]. Medians of the three in turn, after warm-up. The basis
is that of a Basel Face Model in size, 53,490 vertices x 199 modes, 128 MB; GB/s are of reading it once.
"""

import argparse
import time

import numpy as np
import taichi as ti

import taichi_dr as dr
from taichi_dr.arrays import Floats

PIECE = 9600  # numbers that one thread sums at a time


@ti.kernel
def read_kernel(x: Floats, sums: Floats):
    for q in range(sums.shape[0]):
        total = 0.0
        for k in range(PIECE):
            total += x[q * PIECE + k]
        sums[q] = total


def passes(call, coefficients, batch, rng):
    """`call` of the coefficients, and its adjoint with a random gradient of the result."""
    dr.write(coefficients, rng.standard_normal(coefficients.shape))
    loss, held = dr.scalar(), {}
    with dr.Tape(loss) as tape:
        tape.grad = lambda: None  # there is no loss: the adjoint is run below
        held["out"] = call(coefficients)
    dr.write(held["out"].grad, rng.standard_normal((batch, held["out"].shape[1], 3)))
    ((operator, arguments),) = tape.calls
    return lambda: held.update(again=call(coefficients)), lambda: operator.grad(*arguments)


def medians(calls, rounds=60, warm_up=10):
    """Median milliseconds of calls, taken in turn."""
    times = []
    for _ in range(rounds):
        times.append([])
        for call in calls:
            started = time.perf_counter()
            call()
            ti.sync()
            times[-1].append(time.perf_counter() - started)
    return 1e3 * np.median(times[warm_up:], axis=0)


def main(arch=None, vertices=53490, modes=199):
    dr.init(arch)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3 * vertices, modes), dtype=np.float32)
    model = dr.MorphableModel(rng.standard_normal(3 * vertices), np.arange(vertices // 3 * 3).reshape(-1, 3), matrix)
    numbers = dr.array(matrix.reshape(-1))
    sums = dr.array(np.zeros(numbers.shape[0] // PIECE), vectors=False)
    print("| views | reading ms | GB/s | forward ms | GB/s | backward ms | GB/s |\n|---|---|---|---|---|---|---|")
    for batch in (1, 4, 16):
        times = medians([lambda: read_kernel(numbers, sums), *passes(model.vertices, model.coefficients(batch).shape, batch, rng)])
        print(f"| {batch} | " + " | ".join(f"{t:.2f} | {matrix.nbytes / t / 1e6:.1f}" for t in times) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--vertices", type=int, default=53490)
    parser.add_argument("--modes", type=int, default=199)
    main(**vars(parser.parse_args()))
