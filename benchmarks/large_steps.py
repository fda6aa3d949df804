"""What large steps add to a step of a fit: the solve forward and the one back; and what the factors cost, once.

Run: python benchmarks/large_steps.py [--arch cpu|cuda|vulkan] [--subdivisions N]. Beside it SciPy's splu of the same matrix, with
the copies from and to Taichi arrays that it would need. Medians of the rounds, and the fastest of them, in milliseconds.
"""

import argparse
import time

import numpy as np
import taichi as ti
from scipy import sparse
from scipy.sparse import linalg

import taichi_dr as dr
from taichi_dr.tape import operator


@operator
def with_gradient(x, cotangent):
    """Nothing forward."""


@with_gradient.adjoint
def _with_gradient_adjoint(x, cotangent):
    dr.arrays.copy(cotangent, x.grad)


def timed(call, rounds):
    times = []
    for _ in range(rounds):
        ti.sync()
        started = time.perf_counter()
        call()
        ti.sync()
        times.append(1e3 * (time.perf_counter() - started))
    return f"{np.median(times):8.2f} {min(times):8.2f}"


def splu_step(mesh, smoothness):
    """A step's two solves by splu, and the seconds that its factors took."""
    edges = dr.mesh.edges(mesh.faces, mesh.vertices.shape[1])
    ends, count = dr.read(edges.ends), mesh.vertices.shape[1]
    links = sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    links = sparse.csr_array(links + links.T)
    matrix = sparse.csc_array(sparse.diags_array(1 + smoothness * links.sum(axis=1)) - smoothness * links)
    started = time.perf_counter()
    factors = linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    seconds = time.perf_counter() - started
    u, x = dr.array(dr.read(mesh.vertices)), dr.array(dr.read(mesh.vertices))

    def step():
        dr.write(x, factors.solve(dr.read(u)[0].astype(np.float64))[None])
        dr.write(u.grad, factors.solve(dr.read(x.grad)[0].astype(np.float64))[None])

    return seconds, step


def main(arch=None, subdivisions=6, rounds=100):
    device = dr.init(arch)
    mesh = dr.shapes.icosphere(subdivisions)
    print(f"{device.arch}, {device.threads} threads, {device.precision}; {mesh.vertices.shape[1]:,} vertices\n")
    loss, cotangent = dr.scalar(), dr.array(np.random.default_rng(0).standard_normal(dr.read(mesh.vertices).shape))
    print(f"{'':36}   median  fastest")
    for laplacian in ("combinatorial", "cotangent"):
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            steps = dr.LargeSteps(mesh, laplacian=laplacian)
            seconds.append(time.perf_counter() - started)

        def step(steps=steps):
            with dr.Tape(loss):
                with_gradient(steps.vertices(), cotangent)

        step()
        print(f"{laplacian + ', a step in its tape':36} {timed(step, rounds)}   built in {min(seconds):.2f} s")
    seconds, step = splu_step(mesh, 19.0)
    print(f"{'splu, two solves with their copies':36} {timed(step, rounds)}   factored in {seconds:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=["cpu", "cuda", "vulkan", "metal"])
    parser.add_argument("--subdivisions", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=100)
    main(**vars(parser.parse_args()))
