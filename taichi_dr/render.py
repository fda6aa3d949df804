"""The whole pipeline on one screen: project, shade, rasterize; or, where every fragment is shaded, project, list, shade, composite."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, array, empty, read, unrecorded, zero
from .camera import Camera, camera_frame, project
from .materials import Material
from .mesh import Mesh
from .mipmap import pyramid
from .normals import face_normals, vertex_normals
from .raster.channels import component, join_fours, take_four
from .raster.composite import composite, composite_over, face_ids, visible_part
from .raster.downsample import downsample
from .raster.footprint import mip_levels
from .raster.fragments import Fragments, soft_fragments
from .raster.interpolate import interpolate, per_face
from .raster.soft import soft_rasterize
from .shading import shade, shade_points
from .texture import sample_texture, texel_shares
from .vectors import normalize

SHADINGS = ("gouraud", "flat", "phong")
OUTPUTS = ("image", "alpha", "depth", "normal", "position", "uv", "face_id", "object_id", "object_mask")
MOST_CHANNELS = 32


class SoftRenderer:
    """A soft rasterizer with its settings: `image = renderer(mesh, camera, lights)`.

    Args:
        antialias: n renders at n times the height and width and averages; the settings keep their meaning.
        shading: where lights are evaluated: "gouraud" at the vertices (texels: at the faces), "flat" once per face, "phong"
            at every fragment with its interpolated normal. Textures are lit at every fragment, "gouraud" as "phong".
        wrap: what a texture is beyond its border: "wrap", "clamp" or "mirror".
        mipmaps: sample textures in the level whose texels are as large as pixels, between levels and texels; False
            between the texels of the texture itself.
        two_sided: light surfaces from the side that the camera sees, whatever their normals say.
        cull: leave out "back" or "front" faces altogether, silhouette included; None draws both sides.
        sigma, gamma, distance, rgb, alpha, near, far, eps, dist_eps, background, double_sided, perspective_correct:
            as for `soft_rasterize`. Fragments that are shaded one by one are always interpolated in space.

    Raises:
        ValueError: `antialias` below 1, an unknown shading; the other settings are checked at the first call.
    """

    def __init__(
        self,
        *,
        antialias: int = 1,
        shading: str = "gouraud",
        wrap: str = "wrap",
        mipmaps: bool = True,
        two_sided: bool = False,
        sigma: float = 1e-5,
        gamma: float = 1e-4,
        distance: str = "euclidean",
        rgb: str = "softmax",
        alpha: str = "prod",
        near: float = 1.0,
        far: float = 100.0,
        eps: float = 1e-3,
        dist_eps: float = 1e-4,
        background: Sequence[float] | Array = (0.0, 0.0, 0.0),
        double_sided: bool = True,
        perspective_correct: bool = False,
        cull: str | None = None,
    ) -> None:
        if not isinstance(antialias, Integral) or antialias < 1:
            raise ValueError(f"antialias: expected a whole number of at least 1, got {antialias!r}")
        if shading not in SHADINGS:
            raise ValueError(f"shading: expected one of {', '.join(SHADINGS)}, got {shading!r}")
        self.antialias = int(antialias)
        self.shading, self.wrap, self.mipmaps, self.two_sided = shading, wrap, bool(mipmaps), bool(two_sided)
        self.background, self.perspective_correct = background, perspective_correct
        self.settings: dict[str, Any] = {
            "sigma": sigma, "gamma": gamma, "distance": distance, "rgb": rgb, "alpha": alpha, "near": near, "far": far, "eps": eps,
            "dist_eps": dist_eps, "double_sided": double_sided, "cull": cull,
        }  # fmt: skip

    def __call__(
        self,
        mesh: Mesh,
        camera: Camera,
        lights: Any = None,
        *,
        material: Material | None = None,
        outputs: Sequence[str] | None = None,
        attributes: Mapping[str, Array] | None = None,
    ) -> Any:
        """Draw `mesh` as each view of `camera` sees it.

        Args:
            mesh: one mesh for all views, or a batch with one per view.
            camera: B views.
            lights: one light or a sequence of them; None shows the colors as they are.
            material: how the surface scatters and mirrors light; None scatters it, as a Material() does.
            outputs: None returns the image. Names return a dictionary: "image" RGBA; "alpha"; "depth" along the view axis;
                "normal" in the world; "position", in the world; "uv"; "face_id" and "object_id", -1 where nothing
                is; "object_mask", the visible silhouette of every object, (K, B, H, W) as a list.
            attributes: more outputs, by name: values per vertex, (B, V) of numbers or vectors, or (B, V, C) with C up to 32.

        Returns:
            RGBA image, (B, H, W) of vec4, or a dictionary of pictures (B, H, W), 0 where nothing is seen. Inside a `dr.Tape`
            all but the ids are differentiable in the mesh's vertices, colors, texels, texture and uv, in the attributes, the
            camera, the lights, the material and the background.

        Raises:
            ValueError: batches that do not match, settings out of range, an unknown output, or one that the mesh lacks.
        """
        screen = project(mesh.vertices, camera)
        if outputs is None and attributes is None and self._is_fused(mesh):
            return self._averaged(self._fused(mesh, camera, screen, lights, material))
        wanted, attributes = ["image"] if outputs is None and attributes is None else list(outputs or ()), attributes or {}
        _check_outputs(wanted, attributes, mesh)
        surface = _Surface(mesh, camera, screen, self._fragments(mesh, camera, screen))
        pictures = {name: self._picture(name, surface, lights, material) for name in wanted}
        pictures |= {name: surface.picture(values, self._averaged) for name, values in attributes.items()}
        return pictures["image"] if outputs is None and not attributes else pictures

    def texel_coverage(self, mesh: Mesh, camera: Camera) -> np.ndarray:
        """How much each texel of the mesh's texture is seen, summed over the views in pixels: 0 where no view ever sees it.

        Args:
            mesh: with a texture and uv.
            camera: B views.

        Returns:
            (H, W) numbers, or (B, H, W) where each view has a texture of its own. With mip maps a coarse level reaches a
            little into texels that no pixel shows: take for seen what is above a tenth of the mean, as in
            `dr.fill_unseen(texture, coverage > 0.1 * coverage.mean())`, which continues it into the others.

        Raises:
            ValueError: a mesh without a texture.
        """
        if mesh.texture is None:
            raise ValueError('mesh: expected one with a texture, got none; load it with texture="uv", or give texture, uv and uv_faces')
        with unrecorded():
            screen = project(mesh.vertices, camera)
            surface = _Surface(mesh, camera, screen, self._fragments(mesh, camera, screen))
            at = pyramid(mesh.texture), surface.uv(), surface.levels(self.mipmaps), surface.fragments.views
            shares = texel_shares(*at, surface.fragments.shares, self.wrap)
        return shares[0] if len(shares) == 1 else shares

    def _fragments(self, mesh: Mesh, camera: Camera, screen: Array) -> Fragments:
        return soft_fragments(
            screen, mesh.faces, size=self._size(camera), clockwise_front=camera.mirrored, perspective=not camera.orthographic, **self.settings
        )

    def _is_fused(self, mesh: Mesh) -> bool:
        """Whether colors are known before fragments are: then nothing is kept of the fragments."""
        return mesh.texels is not None or (mesh.texture is None and self.shading == "gouraud")

    def _fused(self, mesh: Mesh, camera: Camera, screen: Array, lights: Any, material: Material | None) -> Array:
        if mesh.texels is not None and self.shading == "phong":
            raise ValueError('shading: texels are lit per face; use "flat", or a mesh with a texture: dr.Mesh.load(path, texture="uv")')
        return soft_rasterize(
            screen, mesh.faces, shade(mesh, lights, material=material, camera=camera), size=self._size(camera), background=self.background,
            clockwise_front=camera.mirrored, perspective_correct=self.perspective_correct, **self.settings,
        )  # fmt: skip

    def _size(self, camera: Camera) -> tuple[int, int]:
        return camera.size[0] * self.antialias, camera.size[1] * self.antialias

    def _picture(self, name: str, surface: "_Surface", lights: Any, material: Material | None) -> Any:
        mesh, fragments = surface.mesh, surface.fragments
        if name == "image" and self._is_fused(mesh):
            return self._averaged(self._fused(mesh, surface.camera, surface.screen, lights, material))
        if name == "image":
            return self._averaged(composite_over(self._shaded(surface, lights, material), fragments, self.background))
        if name == "alpha":
            return self._averaged(fragments.alpha)
        if name == "object_mask":
            return [self._averaged(mask) for mask in surface.object_masks()]
        if name in ("face_id", "object_id"):
            ids = read(face_ids(fragments))[:, self.antialias // 2 :: self.antialias, self.antialias // 2 :: self.antialias]
            return array(ids if name == "face_id" else np.where(ids >= 0, read(mesh.objects)[ids], -1), np.int32, vectors=False)
        values = surface.normals(self.shading) if name == "normal" else getattr(surface, name)()
        return self._averaged(composite(values, fragments))

    def _averaged(self, picture: Array) -> Array:
        return downsample(picture, self.antialias) if self.antialias > 1 else picture

    def _shaded(self, surface: "_Surface", lights: Any, material: Material | None) -> Array:
        """Colors of the fragments under the lights."""
        albedo = surface.albedo(self)
        if lights is None:
            return albedo
        frame = camera_frame(surface.camera) if material is not None or self.two_sided else None
        return shade_points(
            albedo, surface.normals(self.shading), surface.position(), lights,
            material=material, frame=frame, views=surface.fragments.views, two_sided=self.two_sided,
        )  # fmt: skip


def _check_outputs(wanted: Sequence[str], attributes: Mapping[str, Array], mesh: Mesh) -> None:
    for name in wanted:
        if name not in OUTPUTS:
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {name!r}; other values per vertex go into attributes")
        if name == "uv" and mesh.uv is None:
            raise ValueError('outputs: expected a mesh with uv for "uv", got one without; load it with texture="uv"')
    for name, values in attributes.items():
        shape = tuple(values.shape) if isinstance(values, ti.Ndarray) else None
        components = None if shape is None else len(values.element_shape)
        if shape is None or shape[1:2] != (mesh.vertices.shape[1],) or (len(shape), components) not in ((2, 0), (2, 1), (3, 0)):
            came = type(values).__name__ if shape is None else f"shape {shape}"
            raise ValueError(f"attributes: expected (B, V) or (B, V, C) with V = {mesh.vertices.shape[1]} for {name!r}, got {came}; use dr.array")
        if len(shape) == 3 and shape[2] > MOST_CHANNELS:
            raise ValueError(f"attributes: expected at most {MOST_CHANNELS} channels for {name!r}, got {shape[2]}; split them")


class _Surface:
    """What a mesh has at the fragments, each computed when it is first asked for."""

    def __init__(self, mesh: Mesh, camera: Camera, screen: Array, fragments: Fragments) -> None:
        self.mesh, self.camera, self.screen, self.fragments = mesh, camera, screen, fragments
        self._known: dict[Any, Array] = {}

    def _at(self, key: Any, make: Any) -> Array:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def picture(self, values: Array, averaged: Callable[[Array], Array]) -> Array:
        """A picture of values per vertex."""
        if len(values.shape) == 2:
            return averaged(composite(interpolate(values, self.mesh.faces, self.fragments), self.fragments))
        return join_fours([self.picture(take_four(values, first), averaged) for first in range(0, values.shape[2], 4)], values.shape[2])

    def object_masks(self) -> list[Array]:
        """The visible silhouette of every object."""
        objects, masks = read(self.mesh.objects), []
        for k in range(objects.max() + 1):
            belongs = array((objects == k).astype(np.float64)[None], vectors=False)
            masks.append(visible_part(composite(per_face(belongs, self.fragments), self.fragments), self.fragments))
        return masks

    def position(self) -> Array:
        return self._at("position", lambda: interpolate(self.mesh.vertices, self.mesh.faces, self.fragments))

    def depth(self) -> Array:
        return self._at("depth", lambda: interpolate(component(self.screen, 2), self.mesh.faces, self.fragments))

    def uv(self) -> Array:
        return self._at("uv", lambda: interpolate(self.mesh.uv, self.mesh.uv_faces, self.fragments))

    def normals(self, shading: str) -> Array:
        flat = shading == "flat"
        return self._at(("normals", flat), lambda: self._normals(flat))

    def _normals(self, flat: bool) -> Array:
        vertices, faces = self.mesh.vertices, self.mesh.faces
        if flat:
            return per_face(face_normals(vertices, faces), self.fragments)
        return normalize(interpolate(vertex_normals(vertices, faces), faces, self.fragments))

    def albedo(self, renderer: SoftRenderer) -> Array:
        mesh, fragments = self.mesh, self.fragments
        if mesh.texture is None:
            return interpolate(mesh.colors, mesh.faces, fragments)
        levels = self.levels(renderer.mipmaps)
        return sample_texture(pyramid(mesh.texture), self.uv(), levels, fragments.views, renderer.wrap)

    def levels(self, mipmaps: bool) -> Array:
        """The mip level of each fragment, 0 without mip maps."""
        mesh, fragments = self.mesh, self.fragments
        if mipmaps:
            perspective = not self.camera.orthographic
            return mip_levels(self.screen, mesh.faces, mesh.uv, mesh.uv_faces, fragments, mesh.texture.shape[1:], perspective)
        levels = empty(float, fragments.shares.shape)
        zero(levels)
        return levels
