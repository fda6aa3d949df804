"""What lights and materials should show, in NumPy from the formulas, importing nothing of the package."""

import numpy as np

# Real spherical harmonics up to order 2 and the Lambert-convolved constants, as printed in Ramamoorthi and Hanrahan 2001.
Y = {
    "00": np.sqrt(1 / np.pi) / 2,
    "1": np.sqrt(3 / np.pi) / 2,
    "2": np.sqrt(15 / np.pi) / 2,
    "20": np.sqrt(5 / np.pi) / 4,
    "22": np.sqrt(15 / np.pi) / 4,
}
A = np.array([np.pi] + 3 * [2 * np.pi / 3] + 5 * [np.pi / 4])


def unit(v):
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.divide(v, length, out=np.zeros_like(v), where=length > 0)


def dot(a, b):
    return (a * b).sum(axis=-1, keepdims=True)


def harmonics(d):
    """(..., 9) basis of unit directions."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.stack(
        [
            Y["00"] + 0 * x, Y["1"] * y, Y["1"] * z, Y["1"] * x, Y["2"] * x * y, Y["2"] * y * z,
            Y["20"] * (2 * z**2 - x**2 - y**2), Y["2"] * x * z, Y["22"] * (x**2 - y**2),
        ],
        axis=-1,
    )  # fmt: skip


def shade(albedo, normals, positions, lights, material=None, eye=None, two_sided=False, physical=False):
    """(N, 3) lit colors of one view; `physical` divides what a light from somewhere lends to the surface's color by pi.

    lights: dicts with "kind" and fields of one view; material: (diffuse, specular, shininess, model); eye: (3,).
    """
    diffuse, specular, shininess, model = material or (1.0, 0.0, 1.0, "phong")
    view = unit(eye - positions) if eye is not None else np.zeros_like(normals)
    n = np.where(two_sided & (dot(normals, view) < 0), -normals, normals)
    lit = np.zeros_like(albedo)
    for light in lights:
        kind = light["kind"]
        if kind == "ambient":
            lit = lit + albedo * diffuse * light["intensity"]
            continue
        if kind == "harmonics":
            lit = lit + albedo * diffuse * (harmonics(n) * A / np.pi @ light["coefficients"])
            continue
        arriving = light["intensity"] + np.zeros_like(albedo)
        if kind == "directional":
            toward = unit(light["direction"] + np.zeros_like(albedo))
        else:
            offset = light["position"] - positions
            toward = unit(offset)
            if light["attenuation"]:
                arriving = arriving / dot(offset, offset)
        if kind == "spot":
            cosine = dot(-toward, unit(light["direction"] + np.zeros(3)))
            inner, outer = np.cos(np.radians(light["inner"])), np.cos(np.radians(light["outer"]))
            t = np.clip((cosine - outer) / (inner - outer), 0, 1)
            arriving = arriving * (3 * t**2 - 2 * t**3) * np.maximum(cosine, 0) ** light["exponent"]
        facing = dot(n, toward)
        lit = lit + albedo * diffuse * arriving * np.maximum(facing, 0) / (np.pi if physical else 1)
        if eye is not None and material is not None:
            mirrored = 2 * facing * n - toward
            base = dot(mirrored, view) if model == "phong" else dot(n, unit(toward + view))
            lit = lit + specular * arriving * np.where((facing > 0) & (base > 0), np.maximum(base, 1e-300) ** shininess, 0)
    return lit


# --- Environments -------------------------------------------------------------------------------------------------


def map_directions(height, width):
    """(H, W, 3): row 0 is up, the middle -z, right of it +x."""
    out = np.empty((height, width, 3))
    for i in range(height):
        latitude = np.pi / 2 - np.pi * (i + 0.5) / height
        for j in range(width):
            longitude = 2 * np.pi * (j + 0.5) / width - np.pi
            out[i, j] = np.cos(latitude) * np.sin(longitude), np.sin(latitude), -np.cos(latitude) * np.cos(longitude)
    return out


def map_irradiance(radiance, normals):
    """(N, 3): irradiance / pi by summing over the pixels, each as large as its part of the sphere."""
    height, width, _ = radiance.shape
    edges = np.sin(np.pi / 2 - np.pi * np.arange(height + 1) / height)
    area = (edges[:-1] - edges[1:]) * 2 * np.pi / width
    facing = np.maximum(0, np.einsum("nk,hwk->nhw", normals, map_directions(height, width)))
    return np.einsum("nhw,hwc,h->nc", facing, radiance, area) / np.pi


# --- Normal maps --------------------------------------------------------------------------------------------------


def face_tangents(vertices, faces, uv, uv_faces):
    """(F, 3) directions of growing u, and of shrinking v, on each face: the rows of the Jacobian of the point by uv."""
    tangents, bitangents = np.zeros((len(faces), 3)), np.zeros((len(faces), 3))
    for f in range(len(faces)):
        a, b, c = vertices[faces[f]]
        p, q, r = uv[uv_faces[f]]
        jacobian = np.stack([b - a, c - a], axis=1) @ np.linalg.inv(np.stack([q - p, r - p], axis=1))
        tangents[f], bitangents[f] = unit(jacobian[:, 0]), -unit(jacobian[:, 1])
    return tangents, bitangents


def perturb(normals, tangents, bitangents, mapped):
    return unit(mapped[..., :1] * tangents + mapped[..., 1:2] * bitangents + mapped[..., 2:] * normals)
