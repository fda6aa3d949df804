"""A program to be killed: `python resumable.py CHECKPOINT [ARCH] [EVERY]` fits a small mesh, going on where it was stopped."""

import sys
import time

import numpy as np

import taichi_dr as dr


def main(checkpoint, arch="cpu", every="3"):
    dr.init(arch)
    sphere = dr.shapes.icosphere(1)
    mesh = dr.Mesh(0.5 * dr.read(sphere.vertices)[0], dr.read(sphere.faces), np.full((42, 3), 0.5))
    cameras = [dr.Camera.orbit(3, 20, 60 * k, fov=45, size=24) for k in range(6)]
    goal = dr.Mesh(0.8 * dr.read(sphere.vertices)[0], dr.read(sphere.faces), np.full((42, 3), (0.9, 0.3, 0.2)))
    targets = [dr.SoftRenderer(sigma=1e-6)(goal, camera) for camera in cameras]

    def objective(step):
        for k in step.views:
            image = dr.SoftRenderer(sigma=step.sigma(cameras[k]), background=step.random.random(3))(mesh, cameras[k])
            dr.losses.mse(image, targets[k], step.loss, 10.0)
        dr.losses.laplacian(mesh, step.term("smooth"), 0.01)

    begun = []

    def on_step(step):
        if not begun:
            print("from", step.index, flush=True)
            begun.append(step)
        time.sleep(0.003)

    result = dr.fit(
        {"vertices": mesh.vertices, "colors": dr.Parameter(mesh.colors, 0.05, bounds=(0, 1))},
        objective, 200, lr=0.02, schedule=dr.schedules.cosine(), blur=(2.0, 0.5), views=6, views_per_step=2,
        checkpoint=checkpoint, every=int(every), resume=True, on_step=on_step, progress=False,
    )  # fmt: skip
    if not begun:
        print("from", len(result.history))
    print("ended", result.ended)


if __name__ == "__main__":
    main(*sys.argv[1:])
