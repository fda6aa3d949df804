"""A small stand-in of `taichi_dr.reconstruct.reconstruct`, of the same signature: a sphere that is fitted with what is there."""

from pathlib import Path

import numpy as np

import taichi_dr as dr
from taichi_dr.quality import mesh_quality
from taichi_dr.reconstruct import Reconstruction, Settings


def reconstruct(photos, settings=Settings(), *, out=None, held_out=None, resume=False, progress=True):  # noqa: B008
    center, radius = photos.bounds()
    sphere = dr.shapes.icosphere(3)
    mesh = dr.Mesh(dr.read(sphere.vertices)[0] * (0.6 * radius) + center, dr.read(sphere.faces), np.full((sphere.vertices.shape[1], 3), 0.5))
    sharp, start = dr.DeferredRenderer(antialias=1, near=0.1), mesh_quality(mesh)
    checkpoint = None if out is None else Path(out) / "checkpoint.npz"
    recording = []

    def objective(step):
        camera, target = photos.batch(step.views)
        image = dr.SoftRenderer(sigma=step.sigma(camera), near=0.1)(mesh, camera)
        dr.losses.mse(image, target, step.loss, 10.0)
        dr.losses.silhouette_iou(image, target, step.loss, settings.silhouette)
        dr.losses.laplacian(mesh, step.term("smooth"), 0.05)

    def pictures():
        return {photos.names[k]: (photos.image(k), dr.read(sharp(mesh, photos.camera(k)))[0]) for k in range(min(2, len(photos)))}

    def record(step):
        if out is None:
            return
        if not recording:
            config = {key: str(value) for key, value in vars(settings).items()}
            recording.append(dr.Recording(out, steps=settings.steps, config=config, resume_at=step.index if resume else None))
        recording[0].add(step.index, step.values["loss"], pictures=pictures, mesh=mesh)

    parameters = {"shape": dr.Parameter(mesh.vertices, 0.01 * radius), "colors": dr.Parameter(mesh.colors, 0.02, bounds=(0, 1))}
    views = min(settings.views_per_step, len(photos))
    result = dr.fit(
        parameters, objective, settings.steps, blur=settings.blur, views=len(photos), views_per_step=views, seed=settings.seed, on_step=record,
        progress=progress, checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    if recording:
        recording[0].finish(mesh, pictures=pictures)

    def score(some):
        overlaps, errors = [], []
        for k in range(len(some)):
            image, photo = dr.read(sharp(mesh, some.camera(k)))[0], some.image(k)
            a, b = image[..., 3], photo[..., 3]
            overlaps.append((a * b).sum() / (a + b - a * b).sum())
            errors.append(((image - photo)[..., :3] ** 2).mean())
        return float(np.mean(overlaps)), float(-10 * np.log10(np.mean(errors)))

    scores = {"fitted": score(photos)} | ({} if held_out is None else {"held_out": score(held_out)})
    return Reconstruction(mesh, result, start, mesh_quality(mesh), scores)
