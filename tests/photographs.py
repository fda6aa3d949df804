"""Photographs of meshes for tests of what is made of them: rendered, in memory or in a folder as a data set."""

import numpy as np

import taichi_dr as dr
from taichi_dr.hull import hull_bounds

GOLDEN = 180 * (3 - 5**0.5)  # degrees


def around(count=24, size=48, distance=3.0, fov=45.0, at=(0.0, 0.0, 0.0), **settings):
    """A camera with views from all around, spread evenly over the sphere."""
    k = np.arange(count)
    return dr.Camera.orbit(distance, np.degrees(np.arcsin(1 - (2 * k + 1) / count)), GOLDEN * k, at=at, fov=fov, size=size, **settings)


def colored(mesh, scale=1.0, center=(0.0, 0.0, 0.0)):
    """With smooth colors, scaled and moved."""
    points = dr.read(mesh.vertices)[0]
    return dr.Mesh(points * scale + center, dr.read(mesh.faces), 0.5 + 0.4 * np.sin(3 * points))


def rendered(mesh, camera, scale=1.0, background=(0.0, 0.0, 0.0)):
    """(B, H, W, 4)."""
    renderer = dr.DeferredRenderer(antialias=4, edges=None, near=0.01 * scale, far=100 * scale, background=background)
    return dr.read(renderer(mesh, camera))


def saved(folder, mesh, camera, scale=1.0, background=(0.0, 0.0, 0.0)):
    """Written as a data set and loaded."""
    dr.Photos.save(folder, rendered(mesh, camera, scale, background), camera, background=background)
    return dr.Photos.load(folder, background=background)


class Views:
    """As much of `Photos` as the visual hull asks for, of any cameras: one for each view."""

    def __init__(self, cameras, masks):
        self.cameras, self.masks = cameras, masks

    def __len__(self):
        return len(self.cameras)

    def camera(self, k):
        return self.cameras[k]

    def image(self, k):
        return np.repeat(self.masks[k][..., None].astype(np.float32), 4, axis=-1)

    def bounds(self):
        return hull_bounds(self.cameras, [mask > 0.5 for mask in self.masks])


def seen(mesh, cameras, scale=1.0):
    """The masks of a mesh."""
    return Views(cameras, [rendered(mesh, camera, scale)[0, ..., 3] for camera in cameras])


def one_by_one(count=24, size=48, distance=3.0, fov=45.0, at=(0.0, 0.0, 0.0), **settings):
    """The views of `around`, a camera for each."""
    k = np.arange(count)
    turns = zip(np.degrees(np.arcsin(1 - (2 * k + 1) / count)), GOLDEN * k, strict=True)
    return [dr.Camera.orbit(distance, a, b, at=at, fov=fov, size=size, **settings) for a, b in turns]
