"""Texture coordinates for a mesh that has none, and a texture that shows its colors."""

from typing import NamedTuple

import numpy as np

from .arrays import array, read, unrecorded
from .inpaint import fill_unseen
from .mesh import Mesh, one_mesh
from .raster.attributes import interpolate
from .raster.visible import rasterize

GUTTER = 2  # texels between charts


class _Charts(NamedTuple):
    uv: np.ndarray  # (T, 2), v down
    faces: np.ndarray  # (F, 3)


def unwrap(mesh: Mesh, size: int = 512) -> Mesh:
    """The mesh cut into charts that lie flat in a square texture, which shows the colors of its vertices.

    Charts are made and packed by xatlas; within them texels are bilinear between the vertices, and beyond them continued,
    so that no border shows. Vertices and faces stay as they are.

    Not differentiable: for between two fits, of the shape and of its texture.

    Args:
        mesh: one, with colors.
        size: texels on a side.

    Raises:
        ValueError: a batch, texels or a texture, vertices that are not finite, a size out of range.
        ImportError: xatlas is not installed.

    Source: Young, xatlas; Levy et al., "Least Squares Conformal Maps for Automatic Texture Atlas Generation", SIGGRAPH 2002.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 8192:
        raise ValueError(f"size: expected a whole number of texels from 16 to 8192, got {size!r}")
    if mesh.colors is None or mesh.colors.shape[0] != 1:
        raise ValueError('mesh: expected one with a color per vertex, got texels or a texture, or a batch; load it with texture="vertex"')
    points, faces = one_mesh(mesh)
    charts = _charts(points, faces, size)
    with unrecorded():
        flat = array(np.concatenate([charts.uv * (2, -2) + (-1, 1), np.ones((len(charts.uv), 1))], axis=1)[None])
        uv_faces = array(charts.faces, np.int32)
        seen = rasterize(flat, uv_faces, size, orthographic=True)
        corners = array(read(mesh.colors)[:, faces.reshape(-1)])  # a color for each corner of each face, whatever its place in the charts
        texture = read(interpolate(corners, array(np.arange(3 * len(faces)).reshape(-1, 3), np.int32), seen))[0]
        texture = fill_unseen(texture, read(seen.face_ids)[0] >= 0)
    return Mesh(mesh.vertices, mesh.faces, uv=charts.uv, uv_faces=uv_faces, texture=texture, objects=read(mesh.objects))


def _charts(points: np.ndarray, faces: np.ndarray, size: int) -> _Charts:
    try:
        import xatlas
    except ImportError as error:
        raise ImportError('unwrap: xatlas is not installed, which makes texture coordinates; pip install "taichi_dr[uv]"') from error
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding = size, GUTTER
    atlas = xatlas.Atlas()
    atlas.add_mesh(points.astype(np.float32), faces.astype(np.uint32))
    atlas.generate(pack_options=pack)
    origins, corners, uv = atlas[0]
    if not np.array_equal(origins[corners], faces):
        raise ValueError("mesh: xatlas left out or turned faces, such as without area; remesh it first: dr.remesh(mesh).mesh")
    return _Charts(uv.astype(np.float64), corners.astype(np.int32))
