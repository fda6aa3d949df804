"""Deferred rendering: the visible surface first, then its shading pixel by pixel, then its edges."""

from collections.abc import Sequence
from typing import Any

from .arrays import Array
from .mesh import Mesh
from .raster.antialias import antialias as blend_edges
from .raster.fragments import Fragments
from .raster.microedge import microedges
from .raster.visible import Visible, rasterize
from .render import SoftRenderer, Surface, View
from .shadows import ShadowMaps, visibility

EDGES = ("antialias", "microedge", None)
EDGE_OPERATORS = {"antialias": blend_edges, "microedge": microedges}


class DeferredRenderer(SoftRenderer):
    """A renderer of what is visible: `image = renderer(mesh, camera, lights)`, one face per sample, no softness to choose.

    It takes what `SoftRenderer` takes and gives the same outputs: colors, textures, normal maps, lights, materials, clipping,
    warnings. Shading is evaluated at every sample of the visible surface, and is differentiable there; silhouettes and
    occlusions move through `edges`.

    Args:
        antialias: n renders n x n samples per pixel and averages.
        edges: how "image", "alpha" and "object_mask" move with silhouettes. "antialias" blends them over the samples that they
            pass between. "microedge" leaves the picture as it is and gives it gradients only, also in depth, where surfaces pass
            through each other. None leaves edges to be choices, without gradients.
        shading: "phong" or "flat"; normals of the vertices are interpolated and lit at every sample, "gouraud" is as "phong".
        shadows: True, or `ShadowMaps(...)`: directional, point and spot lights cast shadows of the mesh on itself, which move
            with its vertices and with the lights.
        lambert: "physical" scatters light as redner and physics do, I max(0, n . l) color / pi; "softras" without the 1 / pi.
        wrap, mipmaps, two_sided, near, far, background, cull: as of `SoftRenderer`.

    Raises:
        ValueError: unknown `edges`, `shadows` of another kind; as `SoftRenderer`. At a call: a mesh with texels, which are for the soft
            rasterizer.

    Source: Laine et al., ACM Transactions on Graphics, 2020; Li, redner's deferred rendering; Pidhorskyi et al., ECCV 2024; of shadows
    Worchel and Alexa, CVPR 2023.
    """

    def __init__(
        self,
        *,
        antialias: int = 2,
        edges: str | None = "antialias",
        shading: str = "phong",
        shadows: bool | ShadowMaps = False,
        wrap: str = "wrap",
        mipmaps: bool = True,
        two_sided: bool = False,
        lambert: str = "softras",
        near: float = 1.0,
        far: float = 100.0,
        background: Sequence[float] | Array = (0.0, 0.0, 0.0),
        cull: str | None = None,
    ) -> None:
        if edges not in EDGES:
            raise ValueError(f"edges: expected one of {', '.join(map(repr, EDGES))}, got {edges!r}")
        super().__init__(
            antialias=antialias, shading=shading, wrap=wrap, mipmaps=mipmaps, two_sided=two_sided, lambert=lambert, near=near, far=far,
            background=background, cull=cull, distance="hard", rgb="hard", alpha="hard",
        )  # fmt: skip
        if not isinstance(shadows, bool | ShadowMaps):
            raise ValueError(f"shadows: expected True, False or dr.ShadowMaps(...), got {shadows!r}")
        self.edges, self.shadows = edges, ShadowMaps() if shadows is True else shadows or None

    def _is_fused(self, mesh: Mesh) -> bool:
        if mesh.texels is not None:
            raise ValueError('mesh: expected colors or a texture, got texels per face; load it with texture="uv" or "vertex", or use SoftRenderer')
        return False

    def _visible(self, view: View) -> Visible:
        camera = view.camera
        return rasterize(
            view.screen, view.faces, self._size(camera), orthographic=camera.orthographic, clockwise_front=camera.mirrored, cull=self.settings["cull"]
        )

    def _fragments(self, view: View, *, batch: int = 1, perspective: bool = True) -> Fragments:
        return self._visible(view).fragments

    def _surface(self, view: View) -> Surface:
        return _VisibleSurface(self, view, self._visible(view))

    def _visibility(self, surface: Surface, lights: Any) -> Array | None:
        if self.shadows is None:
            return None
        return visibility(surface.mesh, lights, surface.position(), surface.fragments.views, self.shadows)

    def _finished(self, picture: Array, surface: Surface) -> Array:
        assert isinstance(surface, _VisibleSurface)
        if self.edges is not None:
            move = EDGE_OPERATORS[self.edges]
            picture = move(picture, surface.view.screen, surface.view.faces, surface.visible, orthographic=surface.camera.orthographic)
        return self._averaged(picture)


class _VisibleSurface(Surface):
    """What a mesh has where it is visible."""

    def __init__(self, renderer: SoftRenderer, view: View, visible: Visible) -> None:
        super().__init__(renderer, view, visible.fragments)
        self.visible = visible

    def face_ids(self) -> Array:
        return self.visible.face_ids
