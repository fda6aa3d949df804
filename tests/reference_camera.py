"""Cameras and motions of several systems in NumPy, written from their own formulas, importing nothing of the package.

Pixels are (column, row); where a system's pixel centers are at integers, half a pixel more is from the top left corner.
"""

import numpy as np


def cross_matrix(w):
    x, y, z = w
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0.0]])


def exponential(matrix, terms=60):
    """exp by its series, after halving the matrix until it is small."""
    halvings = max(0, int(np.ceil(np.log2(max(1e-300, np.abs(matrix).max())))) + 3)
    small, total, power = matrix / 2.0**halvings, np.eye(len(matrix)), np.eye(len(matrix))
    for k in range(1, terms):
        power = power @ small / k
        total = total + power
    for _ in range(halvings):
        total = total @ total
    return total


def rotation(w):
    return exponential(cross_matrix(np.asarray(w, np.float64)))


def twist_motion(xi):
    """exp of a twist (v, w) as a 4x4 matrix."""
    m = np.zeros((4, 4))
    m[:3, :3], m[:3, 3] = cross_matrix(xi[3:]), xi[:3]
    return exponential(m)


def gram_schmidt(first, second):
    """The rotation with columns b1, b2, b1 x b2."""
    b1 = first / np.linalg.norm(first)
    b2 = second - (b1 @ second) * b1
    b2 = b2 / np.linalg.norm(b2)
    return np.stack([b1, b2, np.cross(b1, b2)], axis=1)


def brown_conrady(x, y, coefficients):
    k1, k2, p1, p2, k3 = coefficients
    r2 = x**2 + y**2
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * factor + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y


def equidistant(x, y, coefficients):
    r = np.hypot(x, y)
    theta = np.arctan(r)
    bent = theta * (1 + sum(k * theta ** (2 * n + 2) for n, k in enumerate(coefficients)))
    ratio = np.where(r > 1e-8, bent / np.maximum(r, 1e-300), 1.0)
    return x * ratio, y * ratio


def opencv(points, K, R, t, distortion=None, fisheye=False):
    """(N, 2) pixels with centers at integers, and (N,) depths."""
    x, y, z = (points @ R.T + t).T
    x, y = x / z, y / z
    if distortion is not None:
        x, y = (equidistant if fisheye else brown_conrady)(x, y, distortion)
    return np.stack([K[0, 0] * x + K[0, 2], K[1, 1] * y + K[1, 2]], axis=1), z


def opengl(points, camera_to_world, fov_x, size):
    """(N, 2) pixels from the top left corner, by the projection matrix and the viewport of OpenGL."""
    height, width = size
    near, far = 0.1, 100.0
    f = 1 / np.tan(np.radians(fov_x) / 2)
    depth = np.array([-(far + near), -2 * far * near]) / (far - near)
    projection = np.array([[f, 0, 0, 0], [0, f * width / height, 0, 0], [0, 0, *depth], [0, 0, -1, 0]])
    clip = np.c_[points, np.ones(len(points))] @ (projection @ np.linalg.inv(camera_to_world)).T
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([(ndc[:, 0] + 1) / 2 * width, (1 - ndc[:, 1]) / 2 * height], axis=1)


def pytorch3d(points, R, T, focal, principal, size):
    """(N, 2) pixels from the top left corner, of NDC whose x points left."""
    height, width = size
    x, y, z = (points @ R + T).T
    ndc_x, ndc_y = focal[0] * x / z + principal[0], focal[1] * y / z + principal[1]
    half = min(size) / 2
    return np.stack([width / 2 - half * ndc_x, height / 2 - half * ndc_y], axis=1)


def softras(points, P, distortion, orig_size):
    """(N, 3): x, y and depth on the screen, y up, without the 1e-5 that SoftRas adds to the depth."""
    x, y, z = (np.c_[points, np.ones(len(points))] @ P.T).T
    x, y = brown_conrady(x / z, y / z, distortion)
    return np.stack([2 * x / orig_size - 1, 2 * y / orig_size - 1, z], axis=1)


def quaternion_rotation(q):
    """Of (w, x, y, z), by q p q*."""
    w, v = q[0], np.asarray(q[1:])
    return (w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross_matrix(v)


def colmap(points, model, params, q, t):
    """(N, 2) pixels with centers at half-integers."""
    x, y, z = (points @ quaternion_rotation(q).T + t).T
    x, y = x / z, y / z
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        f, cx, cy, *k = params
        r2 = x**2 + y**2
        factor = 1 + sum(c * r2 ** (n + 1) for n, c in enumerate(k))
        return np.stack([f * x * factor + cx, f * y * factor + cy], axis=1)
    fx, fy, cx, cy, *k = params
    if model == "OPENCV":
        x, y = brown_conrady(x, y, (*k, 0.0))
    elif model == "FULL_OPENCV":
        x, y = brown_conrady(x, y, k[:5])
    elif model == "OPENCV_FISHEYE":
        x, y = equidistant(x, y, k)
    return np.stack([fx * x + cx, fy * y + cy], axis=1)
