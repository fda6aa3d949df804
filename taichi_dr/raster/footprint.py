"""How many texels a pixel covers at a fragment, and so which mip level it samples. Nothing here has a gradient: a choice of filter."""

import taichi as ti

from ..arrays import Array, Faces, Ints, Points, empty, is_finite_number, unrecorded, vec2, vec3
from .fragments import Fragments
from .triangle import doubled_area

UVs = ti.types.ndarray(dtype=vec2, ndim=2, needs_grad=False)  # (B, T)
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
    pixel = 2.0 / min(fragments.size[1:])
    with unrecorded():
        _mip_levels_kernel(
            screen,
            faces,
            uv,
            uv_faces,
            fragments.faces,
            fragments.views,
            fragments.weights,
            levels,
            *map(float, texture_size),
            pixel,
            int(perspective),
        )
    return levels


@ti.func
def _slopes(a, b, c, weights, perspective: int):
    """Derivatives of the weights by screen x and y: two vectors."""
    inverse = 1.0 / doubled_area(a.xy, b.xy, c.xy)
    by_x, by_y = vec3(b.y - c.y, c.y - a.y, a.y - b.y) * inverse, vec3(c.x - b.x, a.x - c.x, b.x - a.x) * inverse
    if perspective != 0:  # w_k = depth c_k / z_k, 1 / depth = sum c_k / z_k
        inverse_z = 1.0 / vec3(a.z, b.z, c.z)
        depth = weights.dot(vec3(a.z, b.z, c.z))
        by_x = depth * (by_x * inverse_z - weights * by_x.dot(inverse_z))
        by_y = depth * (by_y * inverse_z - weights * by_y.dot(inverse_z))
    return by_x, by_y


@ti.kernel
def _mip_levels_kernel(
    screen: Points, faces: Faces, uv: UVs, uv_faces: Faces, face_of: Ints, views: Ints, weights: Points, levels: Levels,
    height: float, width: float, pixel: float, perspective: int,
):  # fmt: skip
    for n in range(levels.shape[1]):
        face, uv_face = faces[face_of[n]], uv_faces[face_of[n]]
        b, t = views[n] % screen.shape[0], views[n] % uv.shape[0]
        by_x, by_y = _slopes(screen[b, face.x], screen[b, face.y], screen[b, face.z], weights[0, n], perspective)
        texels = vec2(width, height) * pixel
        p, q, r = uv[t, uv_face.x] * texels, uv[t, uv_face.y] * texels, uv[t, uv_face.z] * texels
        along_x, along_y = by_x.x * p + by_x.y * q + by_x.z * r, by_y.x * p + by_y.y * q + by_y.z * r
        square = ti.max(along_x.dot(along_x), along_y.dot(along_y))
        level = 0.0
        if is_finite_number(square) and square > 1e-30:
            level = 0.5 * ti.log(square) / ti.log(2.0)
        levels[0, n] = level
