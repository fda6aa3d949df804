"""Start-up time and memory: python benchmarks/resources.py [--mesh MESH]. Each figure is taken in a process of its own."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

FIRST_IMAGE = """
import taichi_dr as dr
dr.init("cpu")
mesh = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
lights = [dr.AmbientLight(0.5), dr.DirectionalLight((0, 1, 0), 0.5)]
dr.read(dr.SoftRenderer()(mesh, dr.Camera.orbit(3.0, 30, 0), lights))
"""


def start_up():
    """Seconds from the start of Python to the first image: compiler cache empty, then full."""
    with tempfile.TemporaryDirectory() as cache:
        script = os.path.join(cache, "first_image.py")
        with open(script, "w") as file:
            file.write(FIRST_IMAGE)
        environment = {**os.environ, "TI_OFFLINE_CACHE_FILE_PATH": os.path.join(cache, "kernels")}
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, script], env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
    return seconds[0], min(seconds[1:])


def memory(mesh, size, steps):
    """Peak of the process after one step, and its growth over `steps` more after 20 of warm-up, in MB."""
    import numpy as np

    import taichi_dr as dr

    dr.init("cpu")
    shape = dr.Mesh.load(mesh or dr.datasets.load("spot"), texture=None).normalized()
    camera, renderer, loss = dr.Camera.orbit(2.732, 30, 45, size=size), dr.SoftRenderer(), dr.scalar()
    target = dr.array(np.zeros((1, size, size, 4)))
    adam = dr.optim.Adam([shape.vertices], lr=1e-5)

    def step():
        with dr.Tape(loss):
            dr.losses.mse(renderer(shape, camera), target, loss)
        adam.step()

    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for _ in range(20 if steps else 0):
        step()
    before = _resident()
    for _ in range(steps):
        step()
    return peak, _resident() - before


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main(mesh=None, task=None):
    if task:
        size, steps = map(int, task.split(","))
        peak, growth = memory(mesh, size, steps)
        print(f"{peak:.0f} {growth:.1f}")
        return
    cold, warm = start_up()
    print(f"first image: {cold:.1f} s with an empty compiler cache, {warm:.1f} s with a full one")
    options = ["--mesh", mesh] if mesh else []
    for size, steps in ((1024, 0), (64, 2000)):
        command = [sys.executable, __file__, *options, "--task", f"{size},{steps}"]
        peak, growth = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[-2].split()
        print(f"{size} pixels: peak {peak} MB after one step" + (f"; {steps} steps more grow it by {growth} MB" if steps else ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", help="mesh file instead of spot, which is downloaded")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    main(**vars(parser.parse_args()))
