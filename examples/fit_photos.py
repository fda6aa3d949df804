"""Photographs to a textured mesh: a sphere becomes the painted bunny of 24 pictures. Run: python examples/fit_photos.py [--mesh MESH]

It needs `pip install "taichi_dr[uv]"`, which cuts the mesh into charts of a texture. From the command line the same fit is
`taichi-dr fit out/fit_photos/photos -o out/mine --start sphere --texture uv`.
"""

import argparse
import pathlib
import time

import numpy as np

import taichi_dr as dr

HELD_OUT, SHOWN = 6, 4  # photographs that only judge, and which of them the picture shows
POINTS = 20_000  # on each surface, from which distances are measured


def painted(mesh, texels):
    """The mesh with stripes by formula: a texture of where each texel lies on it, and the colors there."""
    x = dr.read(mesh.vertices)[0]
    charts = dr.unwrap(dr.Mesh(x, dr.read(mesh.faces), 0.5 + 0.5 * x), texels)
    x, y, z = np.moveaxis(2 * dr.read(charts.texture)[0] - 1, -1, 0)
    stripes = 0.5 + 0.5 * np.tanh(5 * np.sin(16 * y + 3 * np.sin(5 * x) + 2 * np.cos(4 * z)))
    colors = stripes[..., None] * (0.95, 0.62, 0.25) + (1 - stripes[..., None]) * (0.2, 0.42, 0.7)
    return dr.Mesh(charts.vertices, charts.faces, uv=charts.uv, uv_faces=charts.uv_faces, texture=colors)


def asset(name, texels):
    """What is photographed: a packed mesh, painted, or the mesh of a file in its own texture."""
    if name in ("bunny", "teapot"):
        return painted(dr.Mesh.load(dr.datasets.load(name)).normalized(), texels)
    return dr.Mesh.load(name, texture="uv").normalized()


def cameras(count, size, turn=0.0):
    """All around, evenly on a sphere, in a spiral from below to above."""
    k = np.arange(count) + 0.5
    return dr.Camera.orbit(3.6, np.degrees(np.arcsin(2 * k / count - 1)), k * 137.5 + turn, fov=45, size=size)


def distance(mesh, truth):
    """Root mean square distance between two surfaces, from points on each to the other."""
    total = dr.scalar()
    for one, other in ((mesh, truth), (truth, mesh)):
        dr.losses.point_to_mesh(one, dr.read(dr.sample_surface(other, POINTS))[0], total, 0.5)
    return float(np.sqrt(total[None]))


def progress_picture(folder, camera, photo):
    """A view that was not fitted, at the start, on the way and at the end: photograph, mesh, difference."""
    renderer = dr.DeferredRenderer(antialias=4, edges=None)
    meshes = []
    snapshots = [kept for kept in dr.recording.read(folder)["snapshots"] if kept["mesh"]]
    for kept in (snapshots[0], snapshots[len(snapshots) // 8]):
        meshes.append(dr.Mesh(*dr.recording.geometry(folder, kept["mesh"])))
    meshes.append(dr.Mesh.load(folder / "mesh.obj", texture="uv"))
    images = [dr.read(renderer(mesh, camera))[0] for mesh in meshes]
    return np.concatenate([np.concatenate([photo[..., :3], image[..., :3], np.abs(photo - image)[..., :3]], axis=1) for image in images])


def main(mesh="bunny", steps=400, views=24, size=256, vertices=10_000, texels=512, out="out/fit_photos", seed=0):
    started = time.perf_counter()
    folder = pathlib.Path(out)
    dr.init()

    truth = asset(mesh, texels)
    lights = [dr.AmbientLight(0.6), dr.DirectionalLight((0.4, 0.8, 0.4), 0.4)]  # which end up in the texture
    renderer = dr.DeferredRenderer(antialias=4, edges=None)
    for name, count, turn in (("photos", views, 0.0), ("held_out", HELD_OUT, 60.0)):
        rig = cameras(count, size, turn)
        dr.Photos.save(folder / name, renderer(truth, rig, lights), rig)  # images and transforms.json

    photos, held_out = dr.Photos.load(folder / "photos"), dr.Photos.load(folder / "held_out")
    settings = dr.Settings(steps=steps, vertices=vertices, start="sphere", texture="uv", texture_size=texels, seed=seed)
    found = dr.reconstruct(photos, settings, out=folder, held_out=held_out, overwrite=True)

    dr.pictures.save(folder / "fit_photos.png", progress_picture(folder, held_out.camera(SHOWN), held_out.image(SHOWN)))
    (iou, psnr), off = found.scores["held_out"], distance(found.mesh, truth)
    print(f"views never fitted: IoU {iou:.4f}, PSNR {psnr:.1f} dB; {off:.4f} from the true surface, where the object is 2 long")
    print(f"{time.perf_counter() - started:.0f} s; see {folder}/report.html, fit_photos.png, fit.gif, mesh.obj and mesh.glb")
    return iou, psnr, off


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mesh", default="bunny", help="what is photographed: bunny or teapot, painted by formula, or a file with a texture")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--views", type=int, default=24, help="photographs to fit")
    parser.add_argument("--size", type=int, default=256, help="pixels on a side")
    parser.add_argument("--vertices", type=int, default=10_000, help="of the fitted mesh, about")
    parser.add_argument("--texels", type=int, default=512, help="on a side of the texture")
    parser.add_argument("--out", default="out/fit_photos", help="folder for photographs and results")
    parser.add_argument("--seed", type=int, default=0, help="of the views that each step sees")
    main(**vars(parser.parse_args()))
