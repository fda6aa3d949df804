"""One backend: a picture compared with geometry and a gradient with a known one. `doctor` runs this in a process of its own, which may crash.

python -m taichi_dr.cli.selftest ARCH        prints a line of JSON
"""

import json
import sys
import time

import numpy as np

from .. import losses, runtime, shapes
from ..arrays import array, read, scalar
from ..camera import Camera
from ..mesh import Mesh
from ..render import SoftRenderer
from ..tape import Tape

SIZE, DISTANCE, FOV = 48, 4.0, 40.0
SLOPE = 0.2243744  # of the mean square of the picture by the sphere's radius: central differences of 1e-6 in float64 on the CPU


def examine(arch: str) -> dict:
    """What is found: {"missing"} where there is no device, or how far picture and gradient are off, as shares."""
    begun = time.perf_counter()
    try:
        device = runtime.init(arch, strict=True)
    except RuntimeError as error:
        return {"missing": str(error)}
    sphere = shapes.icosphere(3)
    unit = read(sphere.vertices)[0].astype(np.float64)
    mesh = Mesh(unit, read(sphere.faces), np.full(unit.shape, 0.7))
    camera = Camera.orbit(DISTANCE, 20.0, 30.0, fov=FOV, size=SIZE)
    loss = scalar()

    def slope() -> float:
        with Tape(loss):
            losses.mse(SoftRenderer(sigma=3e-3)(mesh, camera), black, loss)
        return float((read(mesh.vertices.grad)[0] * unit).sum())

    black = array(np.zeros((1, SIZE, SIZE, 4)))
    gradient = slope()
    begun_again = time.perf_counter()
    slope()
    warm = time.perf_counter() - begun_again
    picture = read(SoftRenderer(sigma=1e-7, antialias=2)(mesh, camera))[0]
    tangent = np.tan(np.arcsin(1 / DISTANCE)) / np.tan(np.radians(FOV / 2))  # radius of the outline on the screen
    area = np.pi * tangent**2 / 4
    return {
        "arch": device.arch,
        "threads": device.threads,
        "picture": abs(float(picture[..., 3].mean()) / area - 1),
        "gradient": abs(gradient / SLOPE - 1),
        "seconds": round(time.perf_counter() - begun, 2),
        "seconds_warm": round(warm, 4),
        "cache": runtime.cache_folder(),
    }


if __name__ == "__main__":
    print(json.dumps(examine(sys.argv[1])), flush=True)
