"""What a morphable model costs, beside NumPy's matrix products and a copy of the basis, in the same run.

Run: python benchmarks/morphable.py [--arch cpu|cuda|vulkan] [--vertices N] [--modes K]. Medians and minima after warm-up. The basis is that of
a Basel Face Model in size, 53,490 vertices x 199 modes, 128 MB; GB/s are of reading it once. NumPy's matrix is rows x modes, in float32.
"""

import argparse
import time

import numpy as np
import taichi as ti

import taichi_dr as dr


def milliseconds(f, seconds=1.5, least=9):
    """Median and least milliseconds of f, after warm-up."""
    times, started = [], time.perf_counter()
    while len(times) < 2 * least or time.perf_counter() - started < 2 * seconds:
        before = time.perf_counter()
        f()
        ti.sync()
        times.append(time.perf_counter() - before)
    times = times[len(times) // 2 :]
    return np.median(times) * 1e3, min(times) * 1e3


def passes(call, coefficients, batch, rng):
    """`call` of the coefficients, and its adjoint with a random gradient of the result."""
    dr.write(coefficients, rng.standard_normal(coefficients.shape))
    loss, held = dr.scalar(), {}
    with dr.Tape(loss) as tape:
        tape.grad = lambda: None
        out = call(coefficients)
    dr.write(out.grad, rng.standard_normal((batch, out.shape[1], 3)))
    held["out"], (operator, arguments) = out, tape.calls[0]
    return lambda: held.update(again=call(coefficients)), lambda: operator.grad(*arguments)


def main(arch=None, vertices=53490, modes=199):
    dr.init(arch)
    rng = np.random.default_rng(0)
    faces = np.arange(vertices // 3 * 3).reshape(-1, 3)
    matrix = rng.standard_normal((3 * vertices, modes), dtype=np.float32)
    model = dr.MorphableModel(rng.standard_normal(3 * vertices), faces, matrix)
    print("| what | views | forward ms | least | GB/s | backward ms | least | GB/s |\n|---|---|---|---|---|---|---|---|")

    def row(name, views, forward, backward):
        cells = []
        for median, least in (milliseconds(forward), milliseconds(backward)):
            cells += [f"{median:.2f}", f"{least:.2f}", f"{matrix.nbytes / median / 1e6:.1f}"]
        print("| " + " | ".join([name, str(views), *cells]) + " |", flush=True)

    for batch in (1, 4, 16):
        out, row_grads = np.zeros((3 * vertices, batch), np.float32), rng.standard_normal((batch, 3 * vertices), dtype=np.float32)
        columns = rng.standard_normal((modes, batch), dtype=np.float32)
        forward, backward = passes(model.vertices, model.coefficients(batch).shape, batch, rng)
        row("taichi_dr", batch, forward, backward)
        row("NumPy", batch, lambda: np.matmul(matrix, columns, out=out), lambda: row_grads @ matrix)  # noqa: B023
    copy = np.empty_like(matrix)
    row("copy of the basis", 1, lambda: np.copyto(copy, matrix), lambda: np.copyto(copy, matrix))
    started = time.perf_counter()
    dr.MorphableModel.synthetic()
    print(f"\nMorphableModel.synthetic(): {1e3 * (time.perf_counter() - started):.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="cpu, cuda, vulkan or metal")
    parser.add_argument("--vertices", type=int, default=53490)
    parser.add_argument("--modes", type=int, default=199)
    main(**vars(parser.parse_args()))
