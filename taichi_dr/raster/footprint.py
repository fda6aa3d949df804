"""How many texels a pixel covers at a fragment, and so which mip level it samples. Nothing here has a gradient: a choice of filter."""

import math

import taichi as ti

from ..arrays import Array, Faces, Ints, Points, empty, is_finite_number, split, unrecorded, vec2, vec3, work_item
from ..elementary import log
from ..launch import kernel
from .fragments import Fragments
from .triangle import doubled_area

UVs = ti.types.ndarray(dtype=vec2, ndim=2, needs_grad=False)  # (B, T)
LN2 = math.log(2)
Levels = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (1, N)


def mip_levels(
    screen: Array, faces: Array, uv: Array, uv_faces: Array, fragments: Fragments, texture_size: tuple[int, int], perspective: bool = True
) -> Array:
    """The mip level at which a texel is as large as a pixel, per fragment.

        level = log2 max(|d(W u, H v) / dx|, |d(W u, H v) / dy|),   x and y in pixels

    Args:
        screen, faces, fragments, perspective: as of `soft_fragments`.
        uv, uv_faces: texture coordinates, (B, T) of vec2, and their indices, (F,) of ivec3.
        texture_size: (H, W).

    Returns:
        (1, N), below 0 where a pixel is smaller than a texel.

    Source: Williams, Pyramidal Parametrics, SIGGRAPH 1983; Heckbert, Survey of Texture Mapping, 1986.
    """
    levels = empty(float, fragments.weights.shape)
    with unrecorded():
        _mip_levels_kernel(
            screen, faces, uv, uv_faces, fragments.faces, fragments.views, fragments.offsets, fragments.weights, levels,
            *map(float, texture_size), 2.0 / min(fragments.size[1:]), int(perspective), *split(fragments.tiles.pairs), fragments.tiles.pairs,
        )  # fmt: skip
    return levels


@ti.func
def _slopes(a, b, c):
    """Derivatives of the barycentrics by screen x and y: two vectors."""
    inverse = 1.0 / doubled_area(a, b, c)
    return vec3(b.y - c.y, c.y - a.y, a.y - b.y) * inverse, vec3(c.x - b.x, a.x - c.x, b.x - a.x) * inverse


@ti.func
def _level(along_x, along_y):
    """log2 of the longer of two vectors, 0 where there is none."""
    square = ti.max(along_x.dot(along_x), along_y.dot(along_y))
    is_level = is_finite_number(square) and square > 1e-30
    return ti.select(is_level, (0.5 / LN2) * log(ti.select(is_level, square, 1.0)), 0.0)


@kernel
def _mip_levels_kernel(
    screen: Points, faces: Faces, uv: UVs, uv_faces: Faces, face_of: Ints, views: Ints, offsets: Ints, weights: Points, levels: Levels,
    height: float, width: float, pixel: float, perspective: int, steps: int, pad: int, threads: int, pairs: int,
):  # fmt: skip
    """A thread takes a pair of face and tile: with P_k the texels of the corners, b_k the slopes of the barycentrics by x, y alike,

        d(sum_k w_k P_k) / dx = z (sum_k b_k P_k / z_k - sum_k (b_k / z_k) sum_k w_k P_k),   z = sum_k w_k z_k

    in perspective, where w_k = z c_k / z_k and 1 / z = sum_k c_k / z_k of the screen's barycentrics c; else sum_k b_k P_k.
    """
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            begin, end = offsets[n], offsets[n + 1]
            if begin < end:
                face, uv_face = faces[face_of[begin]], uv_faces[face_of[begin]]
                b, t = ti.min(views[begin], screen.shape[0] - 1), ti.min(views[begin], uv.shape[0] - 1)
                v0, v1, v2 = screen[b, face.x], screen[b, face.y], screen[b, face.z]
                texels = vec2(width, height)
                p0, p1, p2 = uv[t, uv_face.x] * texels, uv[t, uv_face.y] * texels, uv[t, uv_face.z] * texels
                by_x, by_y = _slopes(v0.xy, v1.xy, v2.xy)
                z = vec3(1.0)
                if perspective != 0:
                    z = vec3(v0.z, v1.z, v2.z)
                by_x, by_y = by_x / z * pixel, by_y / z * pixel
                all_x, all_y = by_x.x * p0 + by_x.y * p1 + by_x.z * p2, by_y.x * p0 + by_y.y * p1 + by_y.z * p2
                sum_x, sum_y = by_x.sum() * perspective, by_y.sum() * perspective
                for m in range(begin, end):
                    w = weights[0, m]
                    here, depth = w.x * p0 + w.y * p1 + w.z * p2, w.dot(z)
                    levels[0, m] = _level(depth * (all_x - sum_x * here), depth * (all_y - sum_y * here))
    for m in range(levels.shape[1] - offsets[pairs]):
        levels[0, offsets[pairs] + m] = 0.0
