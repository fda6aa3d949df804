"""Real spherical harmonics up to order 2: the basis, its fit to an environment, and how a Lambert surface smooths it.

Nine functions of a unit direction (x, y, z), in the world's axes, in the order of (l, m):

    (0, 0)                                  0.282095
    (1, -1), (1, 0), (1, 1)                 0.488603 (y, z, x)
    (2, -2), (2, -1), (2, 1)                1.092548 (x y, y z, x z)
    (2, 0)                                  0.315392 (3 z^2 - 1)
    (2, 2)                                  0.546274 (x^2 - y^2)

Source: Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001, equations 3 to 10.
"""

import math

import numpy as np
import taichi as ti

from .arrays import vec3

COUNT = 9
Y0 = 0.5 / math.sqrt(math.pi)
Y1 = 0.5 * math.sqrt(3 / math.pi)
Y2 = 0.5 * math.sqrt(15 / math.pi)
Y20 = 0.25 * math.sqrt(5 / math.pi)
Y22 = 0.25 * math.sqrt(15 / math.pi)

# Shares of order l that the cosine of a Lambert surface leaves of an environment: A_l / pi.
SMOOTHED = (1.0, 2 / 3, 1 / 4)

# Basis times share: what a coefficient gives to irradiance / pi.
C0, C1, C2, C20, C22 = Y0 * SMOOTHED[0], Y1 * SMOOTHED[1], Y2 * SMOOTHED[2], Y20 * SMOOTHED[2], Y22 * SMOOTHED[2]


def basis(directions: np.ndarray) -> np.ndarray:
    """(..., 9): Y_lm of unit directions (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(directions, np.float64), -1, 0)
    columns = (
        np.full_like(x, Y0), Y1 * y, Y1 * z, Y1 * x, Y2 * x * y, Y2 * y * z, Y20 * (3 * z * z - 1), Y2 * x * z, Y22 * (x * x - y * y),
    )  # fmt: skip
    return np.stack(columns, axis=-1)


def directions(height: int, width: int) -> np.ndarray:
    """(H, W, 3): where the pixels of an environment map look; row 0 is up, +y, the middle of the image -z, right of it +x."""
    polar = (np.arange(height) + 0.5) * (np.pi / height)
    azimuth = (np.arange(width) + 0.5) * (2 * np.pi / width) - np.pi
    y, ring = np.cos(polar)[:, None], np.sin(polar)[:, None]
    return np.stack(np.broadcast_arrays(ring * np.sin(azimuth), y, -ring * np.cos(azimuth)), axis=-1)


def solid_angles(height: int, width: int) -> np.ndarray:
    """(H,): the solid angle that a pixel of each row counts for, 4 pi in all.

        w_i = 2 pi / W * 2 / H (1 - 2 sum over k = 1 .. H / 2 of cos(2 k t_i) / (4 k^2 - 1)),   t_i = (i + 1/2) pi / H

    Fejer's first rule: about sin(t) dt, and exact where radiance times basis is a polynomial of degree less than H.
    """
    k = np.arange(1, height // 2 + 1)
    polar = (np.arange(height) + 0.5) * (np.pi / height)
    series = (np.cos(2 * polar[:, None] * k) / (4 * k * k - 1)).sum(axis=1)
    return (2 * np.pi / width) * (2 / height) * (1 - 2 * series)


def project(radiance: np.ndarray) -> np.ndarray:
    """(9, 3): L_lm = integral of L Y_lm of an environment map, (H, W, 3)."""
    height, width, _ = radiance.shape
    weighted = radiance.astype(np.float64) * solid_angles(height, width)[:, None, None]
    return np.einsum("hwc,hwk->kc", weighted, basis(directions(height, width)))


def irradiance(coefficients: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(..., 3): irradiance / pi of unit normals (..., 3) under coefficients (9, 3)."""
    shares = np.repeat(SMOOTHED, (1, 3, 5))
    return basis(normals) * shares @ np.asarray(coefficients, np.float64)


# --- In kernels ---------------------------------------------------------------------------------------------------


@ti.func
def smoothed_basis(n):
    """A_l / pi Y_lm(n), as three vec3; where n is zero, only the first is not."""
    squares = n * n
    first = vec3(C0, C1 * n.y, C1 * n.z)
    second = vec3(C1 * n.x, C2 * n.x * n.y, C2 * n.y * n.z)
    third = vec3(C20 * (2.0 * squares.z - squares.x - squares.y), C2 * n.x * n.z, C22 * (squares.x - squares.y))
    return first, second, third


@ti.func
def smoothed_basis_adjoint(n, first_grad, second_grad, third_grad):
    """Gradient of n."""
    by_y, by_z, by_x, by_xy, by_yz = C1 * first_grad.y, C1 * first_grad.z, C1 * second_grad.x, C2 * second_grad.y, C2 * second_grad.z
    by_zz, by_xz, by_xxyy = 2.0 * C20 * third_grad.x, C2 * third_grad.y, 2.0 * C22 * third_grad.z
    return vec3(
        by_x + by_xy * n.y + by_xz * n.z + (by_xxyy - by_zz) * n.x,
        by_y + by_xy * n.x + by_yz * n.z - (by_xxyy + by_zz) * n.y,
        by_z + by_yz * n.y + by_xz * n.x + 2.0 * by_zz * n.z,
    )
