"""How fast this machine renders: forward, and forward with all gradients, in a table to copy.

It is small, to compare machines and versions. The benchmarks of single parts, and of peers measured beside them, are in the repository's
folder benchmarks.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from .. import losses, runtime, shapes
from ..arrays import read, scalar
from ..camera import Camera
from ..deferred import DeferredRenderer
from ..lights import AmbientLight, DirectionalLight
from ..mesh import Mesh
from ..render import SoftRenderer
from ..tape import Tape
from . import machine
from .console import Parser, add_arch, bar, start

USAGE = "[options]"
EXAMPLES = """\
  taichi-dr benchmark
  taichi-dr benchmark --quick
  taichi-dr benchmark --arch vulkan"""
CASES = ((4, 128), (4, 256), (5, 256), (5, 512))  # subdivisions of the sphere, pixels on a side
BLUR = 1.0  # pixels, of the soft renderer
SECONDS = 1.0  # of measuring for each number


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="two lines, in seconds")
    add_arch(parser)


def run(options: Any, parser: Parser) -> None:
    device = start(options.arch)
    cases = CASES[:1] if options.quick else CASES
    seconds = 0.2 if options.quick else SECONDS
    jobs = [(name, subdivisions, size) for subdivisions, size in cases for name in ("soft", "deferred")]
    rows = [_row(*job, seconds) for job in bar(options, jobs, "benchmark")]
    threads = f", {device.threads} threads" if device.arch == "cpu" else ""
    print(f"{machine.device_name(device.arch)}: {device.arch}, {device.precision}{threads}")
    print(machine.versions())
    print()
    print("| renderer | faces | picture | forward | with gradients |")
    print("|---|---|---|---|---|")
    print("\n".join(rows), flush=True)


def _row(name: str, subdivisions: int, size: int, seconds: float) -> str:
    sphere = shapes.icosphere(subdivisions)
    vertices = read(sphere.vertices)[0]
    mesh = Mesh(vertices, read(sphere.faces), 0.5 + 0.4 * vertices)
    camera = Camera.orbit(4.0, 20.0, 30.0, fov=40, size=size)
    lights = [AmbientLight(0.5), DirectionalLight((0.5, 0.8, 0.3), 0.5)]
    renderer = SoftRenderer(sigma=(BLUR * 2 / size) ** 2) if name == "soft" else DeferredRenderer(antialias=1)
    target, loss = renderer(mesh, Camera.orbit(4.1, 20.0, 30.0, fov=40, size=size), lights), scalar()

    def forward() -> None:
        renderer(mesh, camera, lights)

    def with_gradients() -> None:
        with Tape(loss):
            losses.mse(renderer(mesh, camera, lights), target, loss)

    times = [f"{1e3 * _median(work, seconds):.1f} ms" for work in (forward, with_gradients)]
    return f"| {name} | {mesh.faces.shape[0]:,} | {size} x {size} | {times[0]} | {times[1]} |"


def _median(work: Callable[[], None], seconds: float) -> float:
    """Of runs after two that compile and allocate."""
    times: list[float] = []
    for _ in range(2):
        work()
    runtime.ti.sync()
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        runtime.ti.sync()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
