"""Where is it, and how is it turned? The pose of a teapot from one picture. Run: python examples/fit_pose.py

With --camera it is the camera that is lost, far away, as in the example of the Neural 3D Mesh Renderer.
"""

import argparse
import pathlib
from collections import namedtuple

import numpy as np
from tqdm import trange

import taichi_dr as dr

DISTANCE = 4.0
Stage = namedtuple("Stage", "poses shrink antialias share edge rates silhouette")
STAGES = (  # from a small picture to all of it; edges never wider than a pixel or so: wide ones look larger, and push the object away
    # poses that enter, picture's and supersampled size, share of the steps, width of edges, rates of rotation and translation, weight
    Stage(poses=55, shrink=4, antialias=1, share=0.05, edge=1.0, rates=(0.0, 0.1), silhouette=1.0),
    Stage(poses=55, shrink=4, antialias=1, share=0.15, edge=1.0, rates=(0.04, 0.04), silhouette=1.0),
    Stage(poses=12, shrink=2, antialias=1, share=0.35, edge=0.6, rates=(0.03, 0.02), silhouette=0.0),
    Stage(poses=3, shrink=1, antialias=2, share=0.45, edge=0.5, rates=(0.02, 0.01), silhouette=0.0),
)


def random_pose(random, degrees):
    """A rotation by up to `degrees` around any axis, and a shift by up to a tenth of the distance."""
    axis = random.standard_normal(3)
    rotation = axis / np.linalg.norm(axis) * np.radians(random.uniform(0.5, 1) * degrees)
    return rotation, random.uniform(-0.1, 0.1, 3) * DISTANCE


def error(pose, rotation, translation):
    """Degrees between the rotations, and the distance between the places relative to the camera's."""
    relative = dr.Pose(rotation, translation).matrix()[:3, :3].T @ pose.matrix()[:3, :3]
    cosine = np.clip((np.trace(relative) - 1) / 2, -1, 1)
    return float(np.degrees(np.arccos(cosine))), float(np.linalg.norm(pose.matrix()[:3, 3] - translation) / DISTANCE)


def hypotheses():
    """Rotations to begin with: none, by 30 degrees around 12 axes, and by 55 around 42."""
    few, many = (dr.read(dr.shapes.icosphere(k).vertices)[0] for k in (0, 1))
    return np.concatenate([np.zeros((1, 3)), np.radians(30) * few, np.radians(55) * many])


def refine(mesh, camera, lights, target, poses, stage, steps, watch=lambda image: None):
    """Adam on a batch of rotations and translations, edges narrowing to a third; and how far each stays off."""
    pose, loss = dr.Pose(*poses), dr.scalar()
    adam = dr.optim.Adam([{"params": [pose.rotation]}, {"params": [pose.translation]}], lr=0.1, betas=(0.8, 0.99))
    goals = dr.array(np.repeat(target, len(poses[0]), axis=0))
    for step in trange(steps, desc=f"{len(poses[0])} poses", leave=False):
        done = step / steps
        for group, rate in zip(adam.groups, stage.rates, strict=True):
            group["lr"] = rate * 0.05**done
        edge = stage.edge * 0.3**done
        renderer = dr.SoftRenderer(sigma=(edge / min(camera.size)) ** 2, gamma=1e-4, antialias=stage.antialias)
        with dr.Tape(loss):
            image = renderer(mesh.with_vertices(dr.transform(mesh.vertices, pose)), camera, lights)
            dr.losses.mse(image, goals, loss, 10.0)
            dr.losses.silhouette_iou(image, goals, loss, stage.silhouette)
        adam.step()
        images = dr.read(image)
        off = ((images - target) ** 2).mean(axis=(1, 2, 3))
        watch(images[np.argmin(off)].repeat(stage.shrink, axis=0).repeat(stage.shrink, axis=1))
    return (dr.read(pose.rotation), dr.read(pose.translation)), off


def fit(mesh, view, lights, target, steps, watch=lambda image: None):
    """The pose whose picture is the target: many hypotheses in a small picture, the best few in a larger one, the best one.

    `watch` gets the picture of the best hypothesis of each step, as large as the target.
    """
    rotations = hypotheses()
    poses = rotations, np.zeros_like(rotations)
    for k, stage in enumerate(STAGES):
        small = dr.read(dr.downsample(dr.array(target), stage.shrink)) if stage.shrink > 1 else target
        poses, off = refine(mesh, view(small.shape[1]), lights, small, poses, stage, max(1, round(stage.share * steps)), watch)
        keep = STAGES[k + 1].poses if k + 1 < len(STAGES) else 1
        best = np.argsort(off)[:keep]
        poses = tuple(x[best] for x in poses)
    return dr.Pose(*(x[0] for x in poses))


def find_camera(mesh, size=256, steps=1000, close=70.0, start=(6.0, 10.0, -14.0), folder=None):
    """From a far place to the camera of a picture; how many steps it took until the squared error was below `close`, and the frames."""
    lights = [dr.AmbientLight(0.5), dr.DirectionalLight((0, 1, 0), 0.5)]
    sharp = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", near=0.1, antialias=2)
    target = sharp(mesh, dr.Camera.from_softras(2.732, 30, -15, size=size), lights)
    camera, loss, frames = dr.Camera.look_at(start, size=size, mirrored=True), dr.scalar(), []
    adam, goal = dr.optim.Adam([camera.eye], lr=0.1), dr.read(target)[0, ..., :3]
    for step in trange(steps, desc="camera", leave=False):
        render = dr.read(sharp(mesh, camera, lights))[0, ..., :3]
        if step % 5 == 0:
            frames.append(np.concatenate([goal, render, np.abs(goal - render)], axis=1))
        if ((render - goal) ** 2).sum() < close:
            return step, frames
        renderer = dr.SoftRenderer(sigma=max(1e-5, 1e-2 * 0.97**step), near=0.1)  # wide edges first: the two need not overlap
        with dr.Tape(loss):
            image = renderer(mesh, camera, lights)
            dr.losses.mse(image, target, loss)
            dr.losses.silhouette_iou(image, target, loss)
        adam.step()
    return steps, frames


def main(mesh="teapot", starts=1, degrees=60.0, steps=300, size=128, out="out/fit_pose", seed=0, camera=False):
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dr.init()
    path = pathlib.Path(mesh) if pathlib.Path(mesh).suffix else dr.datasets.load(mesh)
    mesh = dr.Mesh.load(path, texture=None).normalized()
    if camera:
        mesh = dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces), np.ones((mesh.vertices.shape[1], 3)))
        taken, frames = find_camera(mesh, size, steps)
        dr.pictures.save_gif(folder / "camera.gif", frames, frames_per_second=10)
        print(f"squared error below 70 after {taken} steps; see {folder}/camera.gif")
        return taken
    lights = [dr.AmbientLight(0.2), dr.DirectionalLight((1, 0.6, 0.4), (0.9, 0.2, 0.1)), dr.DirectionalLight((-0.6, 1.0, 0.5), (0.1, 0.7, 0.9))]
    sharp, random, frames, errors = dr.SoftRenderer(sigma=1e-6, gamma=1e-5, antialias=2), np.random.default_rng(seed), [], []

    def view(pixels):
        return dr.Camera.orbit(DISTANCE, 25, 20, fov=40, size=pixels)

    for _ in range(starts):
        rotation, translation = random_pose(random, degrees)
        there = mesh.with_vertices(dr.transform(mesh.vertices, dr.Pose(rotation, translation)))
        target = dr.read(sharp(there, view(size), lights))
        watched = []
        found = fit(mesh, view, lights, target, steps, lambda image, images=watched: images.append(image[..., :3]))
        errors.append(error(found, rotation, translation))
        print(f"{np.degrees(np.linalg.norm(rotation)):.0f} degrees away: {errors[-1][0]:.2f} degrees and {100 * errors[-1][1]:.2f}% left")
        goal = target[0, ..., :3]
        frames = [np.concatenate([goal, image, np.abs(goal - image)], axis=1) for image in watched]
    good = sum(angle < 1 and place < 0.01 for angle, place in errors)
    dr.pictures.save_gif(folder / "fit_pose.gif", frames, frames_per_second=10)
    dr.pictures.save(folder / "fit_pose.png", np.concatenate([frames[k] for k in (0, len(frames) // 8, -1)]))
    print(f"{good} of {starts} within 1 degree and 1% of the distance; see {folder}/fit_pose.gif and fit_pose.png")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", default="teapot", help="asset whose pose is sought: teapot or bunny; or a mesh file")
    parser.add_argument("--starts", type=int, default=1, help="how many random poses to find")
    parser.add_argument("--degrees", type=float, default=60.0, help="how far the rotation may be from the start")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="pixels on a side")
    parser.add_argument("--out", default="out/fit_pose", help="folder for the results")
    parser.add_argument("--seed", type=int, default=0, help="of the poses")
    parser.add_argument("--camera", action="store_true", help="find the camera instead, with --size 256 --steps 1000 as its peer does")
    main(**vars(parser.parse_args()))
