"""Texture coordinates for a mesh that has none, and a texture that shows its colors."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .arrays import array, read, unrecorded
from .mesh import Mesh, one_mesh
from .raster.attributes import interpolate
from .raster.visible import rasterize

GUTTER = 2  # texels between charts
MARGIN = 1  # texels around all of them, so that no view mixes in what is at the other side of the texture
EXTENT = 100.0  # of the mesh as xatlas gets it, which takes what is small, in its unit, for nothing


class _Charts(NamedTuple):
    uv: np.ndarray  # (T, 2), v down
    faces: np.ndarray  # (F, 3)


def unwrap(mesh: Mesh, size: int = 512) -> Mesh:
    """The mesh cut into charts that lie flat in a square texture, which shows the colors of its vertices.

    Charts are made and packed by xatlas. Texels within them are bilinear between the vertices, those outside have the color of the
    nearest one within, so that no border shows. Vertices and faces stay as they are; a face without area gets none on the texture.

    Not differentiable: for between two fits, of the shape and of its texture.

    Args:
        mesh: one, with colors.
        size: texels on a side.

    Raises:
        ValueError: a batch, texels or a texture, vertices that are not finite, no face with area, a size out of range.
        ImportError: xatlas is not installed.

    Source: Young, xatlas; Levy et al., "Least Squares Conformal Maps for Automatic Texture Atlas Generation", SIGGRAPH 2002.
    """
    if isinstance(size, bool) or not isinstance(size, Integral) or not 16 <= size <= 8192:
        raise ValueError(f"size: expected a whole number of texels from 16 to 8192, got {size!r}; 512 is usual")
    if mesh.colors is None or mesh.colors.shape[0] != 1:
        raise ValueError('mesh: expected one with a color per vertex, got texels or a texture, or a batch; load it with texture="vertex"')
    points, faces = one_mesh(mesh)
    charts = _charts(points, faces, int(size))
    with unrecorded():
        flat = array(np.concatenate([charts.uv * (2, -2) + (-1, 1), np.ones((len(charts.uv), 1))], axis=1)[None])
        uv_faces = array(charts.faces, np.int32)
        seen = rasterize(flat, uv_faces, int(size), orthographic=True)
        corners = array(read(mesh.colors)[:, faces.reshape(-1)])  # a color for each corner of each face, whatever its place in the charts
        texture = read(interpolate(corners, array(np.arange(3 * len(faces)).reshape(-1, 3), np.int32), seen))[0]
        texture = _continued(texture, read(seen.face_ids)[0] >= 0, read(corners)[0].mean(axis=0))
    return Mesh(mesh.vertices, mesh.faces, uv=charts.uv, uv_faces=uv_faces, texture=texture, objects=read(mesh.objects))


def _charts(points: np.ndarray, faces: np.ndarray, size: int) -> _Charts:
    try:
        import xatlas
    except ImportError as error:
        raise ImportError('unwrap: xatlas is not installed, which makes texture coordinates; pip install "taichi_dr[uv]"') from error
    used = points[faces]
    low, high = used.min(axis=(0, 1)), used.max(axis=(0, 1))
    scale = EXTENT / max(float((high - low).max()), 1e-300)
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding = size, GUTTER
    atlas = xatlas.Atlas()
    atlas.add_mesh(((points - 0.5 * (low + high)) * scale).clip(-EXTENT, EXTENT).astype(np.float32), faces.astype(np.uint32))
    atlas.generate(pack_options=pack)
    origins, corners, uv = atlas[0]
    if atlas.chart_count == 0:
        raise ValueError("mesh: expected a face with area, got none; there is no surface to flatten")
    if not np.array_equal(origins[corners], faces) or not np.isfinite(uv).all():
        raise ValueError("mesh: expected faces that xatlas can flatten, got some that it left out; remesh it first: dr.remesh(mesh).mesh")
    inner = 1 - 2 * MARGIN / size
    return _Charts(uv.astype(np.float64) * inner + MARGIN / size, corners.astype(np.int32))


def _continued(texture: np.ndarray, inside: np.ndarray, default: np.ndarray) -> np.ndarray:
    """Outside, what the nearest texel inside has: a mean over both charts at a gutter would show at their borders."""
    if not inside.any():
        return np.broadcast_to(default, texture.shape).copy()
    rows, columns = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return texture[rows, columns]
