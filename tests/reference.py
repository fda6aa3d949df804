"""What the operators should compute: NumPy, written from the formulas, importing nothing of the package."""

import numpy as np


def unit(v):
    """v / |v| along the last axis, 0 where v is 0."""
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.divide(v, length, out=np.zeros_like(v), where=length > 0)


# --- Camera -----------------------------------------------------------------------------------------------------


def look_at(eye, at, up, mirrored=False):
    """Rows right, up, forward of a camera at `eye`."""
    forward = unit(np.subtract(at, eye, dtype=np.float64))
    right = unit(np.cross(forward, np.asarray(up, np.float64)))
    above = np.cross(right, forward)
    return np.stack([-right if mirrored else right, above, forward])


def project(vertices, eye, at, up, fov, orthographic=False, mirrored=False):
    """(V, 3) screen positions of one view; fov in degrees."""
    seen = (vertices - np.asarray(eye)) @ look_at(eye, at, up, mirrored).T
    scale = 1 / np.tan(np.radians(fov) / 2)
    if orthographic:
        scale = scale / np.linalg.norm(np.subtract(at, eye))
        return np.concatenate([seen[:, :2] * scale, seen[:, 2:]], axis=1)
    return np.concatenate([seen[:, :2] * scale / np.maximum(seen[:, 2:], 1e-6), seen[:, 2:]], axis=1)


# --- Lights -----------------------------------------------------------------------------------------------------


def face_crosses(vertices, faces):
    """(F, 3): normals whose length is twice the area, 0 for faces that are not finite."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    with np.errstate(invalid="ignore", over="ignore"):
        crosses = np.cross(b - a, c - a)
    return np.where(np.isfinite(crosses).all(axis=1, keepdims=True), crosses, 0.0)


def face_normals(vertices, faces):
    return unit(face_crosses(vertices, faces))


def vertex_normals(vertices, faces):
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], face_crosses(vertices, faces))
    return unit(total)


def irradiance(points, normals, lights):
    """(N, 3): what arrives at points with normals from lights ("ambient", I), ("directional", d, I), ("point", p, I)."""
    total = np.zeros_like(points)
    for kind, *fields in lights:
        *source, intensity = (np.broadcast_to(np.asarray(x, np.float64), 3) for x in fields)
        if kind == "ambient":
            total = total + intensity
        else:
            toward = unit(source[0] if kind == "directional" else source[0] - points)
            total = total + np.maximum(0.0, (normals * toward).sum(axis=1, keepdims=True)) * intensity
    return total


def shade_vertices(vertices, faces, colors, lights):
    return colors * irradiance(vertices, vertex_normals(vertices, faces), lights)


def shade_texels(vertices, faces, texels, lights):
    return texels * irradiance(vertices[faces].mean(axis=1), face_normals(vertices, faces), lights)[:, None, None]
