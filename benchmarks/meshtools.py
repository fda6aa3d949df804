"""Times of the mesh tools on an ellipsoid, the median of some runs: python benchmarks/meshtools.py [--levels 4 5 6] [--rounds 5]"""

import argparse
import statistics
import time

import taichi_dr as dr


def median(call, rounds):
    """Median seconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 5, 6], help="subdivisions of the icosahedron")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dr.init("cpu")
    print("vertices   remesh  to half  to double  crossings  quality  subdivide    loop  smooth   seconds")
    for level in options.levels:
        sphere = dr.shapes.icosphere(level)
        mesh = sphere.with_vertices(dr.array(dr.read(sphere.vertices) * [1.0, 0.6, 0.3]))
        length = dr.mesh_quality(mesh).mean_edge
        calls = [
            lambda mesh=mesh: dr.remesh(mesh),
            lambda mesh=mesh, length=length: dr.remesh(mesh, length / 2),
            lambda mesh=mesh, length=length: dr.remesh(mesh, length * 2),
            lambda mesh=mesh: dr.self_intersections(mesh),
            lambda mesh=mesh: dr.mesh_quality(mesh),
            lambda mesh=mesh: dr.subdivide(mesh),
            lambda mesh=mesh: dr.subdivide(mesh, scheme="loop"),
            lambda mesh=mesh: dr.smooth(mesh),
        ]
        times = [median(call, options.rounds) for call in calls]
        widths = (9, 9, 11, 11, 9, 11, 8, 8)
        print(f"{sphere.vertices.shape[1]:8d}" + "".join(f"{t:{width}.3f}" for t, width in zip(times, widths, strict=True)), flush=True)


if __name__ == "__main__":
    main()
