"""Clipping in NumPy: polygons cut by two planes one after the other, and rays that meet faces between them; imports nothing of ours."""

import numpy as np


def clip_polygon(corners, least, most):
    """Corners (N, C), depth in column 2, of the part of a polygon with least <= depth <= most; what the columns hold goes along."""
    for sign, plane in ((1, least), (-1, most)):
        kept = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            above_a, above_b = sign * (a[2] - plane), sign * (b[2] - plane)
            if above_a >= 0:
                kept.append(a)
            if above_a * above_b < 0:
                kept.append(a + (b - a) * (plane - a[2]) / (b[2] - a[2]))
        corners = np.array(kept).reshape(-1, corners.shape[1])
        if not len(corners):
            break
    return corners


def clip_mesh(seen, faces, attributes, least, most):
    """(V', 3), (F', 3), (V', C) and the face that each of F' is a part of; seen (V, 3) in the axes of a view."""
    points, triangles, owners = [], [], []
    for f, face in enumerate(faces):
        polygon = np.c_[seen, attributes][face]
        if not np.isfinite(polygon[:, :3]).all():
            continue
        polygon = clip_polygon(polygon, least, most)
        for k in range(1, len(polygon) - 1):
            triangles.append([len(points), len(points) + k, len(points) + k + 1])
            owners.append(f)
        points.extend(polygon)
    table = np.array(points).reshape(-1, 3 + attributes.shape[1])
    return table[:, :3], np.array(triangles, int).reshape(-1, 3), table[:, 3:], np.array(owners, int)


def axes(eye, at, up):
    """Rows right, up and forward."""
    forward = np.subtract(at, eye) / np.linalg.norm(np.subtract(at, eye))
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, forward), forward])


def cast(seen, faces, size, fov, least, most, half_width=None):
    """The nearest face on the ray of each pixel with least <= depth <= most: (H, W) face or -1, (H, W) depth, (H, W, 3) weights in space.

    half_width: of what a parallel projection shows; None for a perspective one.
    """
    height, width = size
    j, i = np.meshgrid(np.arange(width), np.arange(height))
    x, y = (2 * j + 1 - width) / min(size), (height - 1 - 2 * i) / min(size)
    if half_width is None:
        slope = np.tan(np.radians(fov) / 2)
        start, way = np.zeros((height, width, 3)), np.stack([slope * x, slope * y, np.ones_like(x)], axis=-1)
    else:
        start = np.stack([half_width * x, half_width * y, np.zeros_like(x)], axis=-1)
        way = np.broadcast_to([0.0, 0.0, 1.0], start.shape)
    names, depths, weights = np.full(size, -1), np.full(size, np.inf), np.zeros((height, width, 3))
    for f, face in enumerate(faces):
        a, b, c = seen[face]
        normal = np.cross(b - a, c - a)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = ((a - start) @ normal) / (way @ normal)  # the third component of every way is 1
            p = start + depth[..., None] * way
            parts = [np.cross(q - p, r - p) @ normal / (normal @ normal) for q, r in ((b, c), (c, a), (a, b))]
            w = np.stack(parts, axis=-1)
            hit = (w > 0).all(axis=-1) & (least <= depth) & (depth <= most) & (depth < depths)
        names[hit], depths[hit], weights[hit] = f, depth[hit], w[hit]
    return names, depths, weights
