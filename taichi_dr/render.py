"""The whole pipeline on one screen: project, shade, rasterize; or, where every fragment is shaded, project, list, shade, composite."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from .arrays import Array, array, batch_size, empty, read, unrecorded, zero
from .camera import Camera, camera_frame, project
from .clip import Clipped, repeated, rounded_planes, sight
from .frame import EYE
from .materials import Material
from .mesh import Mesh
from .mipmap import pyramid
from .normals import decode_normals, face_normals, face_tangents, perturb_normals, vertex_normals
from .raster.channels import component, join_fours, take_four
from .raster.composite import composite, composite_over, face_ids, visible_part
from .raster.downsample import downsample
from .raster.footprint import mip_levels
from .raster.fragments import Fragments, soft_fragments
from .raster.interpolate import interpolate, own_indices, per_face
from .raster.soft import soft_rasterize
from .shading import scattered_share, shade, shade_points
from .texture import sample_texture, texel_shares
from .vectors import normalize
from .visibility import INSIDE, middle_text, point_text, views_text, why_unseen, winding_number

SHADINGS = ("gouraud", "flat", "phong")
OUTPUTS = ("image", "alpha", "depth", "normal", "position", "uv", "face_id", "object_id", "object_mask")
MOST_CHANNELS = 32


class SoftRenderer:
    """A soft rasterizer with its settings: `image = renderer(mesh, camera, lights)`.

    Args:
        antialias: n renders at n times the height and width and averages; the settings keep their meaning.
        shading: where lights are evaluated: "gouraud" at the vertices (texels: at the faces), "flat" once per face, "phong"
            at every fragment with its interpolated normal, or that of the mesh's normal map. Textures are lit at every fragment too,
            "gouraud" as "phong".
        wrap: what a texture is beyond its border: "wrap", "clamp" or "mirror".
        mipmaps: sample textures in the level whose texels are as large as pixels, between levels and texels; False
            between the texels of the texture itself.
        two_sided: light surfaces from the side that the camera sees, whatever their normals say.
        lambert: "softras" or "physical", as of `shade_points`.
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
        lambert: str = "softras",
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
        scattered_share(lambert)  # refuses an unknown one
        self.antialias, self.lambert = int(antialias), lambert
        self.shading, self.wrap, self.mipmaps, self.two_sided = shading, wrap, bool(mipmaps), bool(two_sided)
        self.background, self.perspective_correct = background, perspective_correct
        self._said: set[str] = set()  # the warnings given, once each
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
        if mesh.normal_map is not None and self.shading != "phong":
            raise ValueError(f'shading: expected "phong" for a mesh with a normal map, which has a normal for every fragment, got {self.shading!r}')
        view = self._view(mesh, camera)
        if outputs is None and attributes is None and self._is_fused(mesh):
            return self._averaged(self._fused(view, lights, material))
        wanted, attributes = ["image"] if outputs is None and attributes is None else list(outputs or ()), attributes or {}
        _check_outputs(wanted, attributes, mesh)
        surface = self._surface(view)
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
            view = self._view(mesh, camera)
            surface = self._surface(view)
            at = pyramid(mesh.texture), surface.uv(), surface.levels(mesh.texture.shape[1:]), surface.fragments.views
            shares = texel_shares(*at, surface.fragments.shares, self.wrap)
        return shares[0] if len(shares) == 1 else shares

    @property
    def reach(self) -> float:
        """Distance from a face, on the screen, up to which it covers anything."""
        s = self.settings
        return 0.0 if s["distance"] == "hard" else math.sqrt(s["sigma"] * math.log(1 / s["dist_eps"] - 1))

    def quiet(self) -> "SoftRenderer":
        """The same renderer, without warnings."""
        renderer = copy.copy(self)
        renderer._said = {"clipped", "outside-image", "inside"}
        return renderer

    def _view(self, mesh: Mesh, camera: Camera) -> "View":
        """The mesh as the camera sees it, clipped where anything of it is outside of near and far."""
        screen, near, far = project(mesh.vertices, camera), self.settings["near"], self.settings["far"]
        found = sight(screen, camera.size, near, far)
        if not found.shown.all() and not {"clipped", "outside-image"} <= self._said:
            self._warn_of_nothing(mesh, camera, screen, found.shown == 0)
        if not found.outside.any():
            return View(mesh, camera, screen, mesh.faces, None, self.settings)
        clipped = Clipped(mesh.vertices, mesh.faces, camera, near, far)
        if clipped.census.cut.any() and "inside" not in self._said:
            self._warn_of_inside(mesh, camera, clipped.census.cut > 0)
        settings = self.settings
        if clipped.count:
            settings = settings | dict(zip(("near", "far"), rounded_planes(near, far), strict=True))
        return View(mesh, camera, clipped.screen, clipped.faces, clipped, settings)

    def _warn_of_nothing(self, mesh: Mesh, camera: Camera, screen: Array, suspected: np.ndarray) -> None:
        """Of views without a vertex on the picture: the faces may still cover it."""
        vertices, faces, screen_points = read(mesh.vertices), read(mesh.faces), read(screen)
        reasons: list[tuple[str, str] | None] = [None] * len(suspected)
        for b in np.flatnonzero(suspected):
            corners = screen_points[b][faces]
            corners = corners[np.isfinite(corners).all(axis=(1, 2))]
            if len(corners):
                middle = middle_text(vertices[b % len(vertices)])
                reasons[b] = why_unseen(corners, self.settings["near"], self.settings["far"], camera.size, self.reach, middle)
        for code in ("clipped", "outside-image"):
            which = np.array([reason is not None and reason[0] == code for reason in reasons])
            if which.any():
                first = int(np.flatnonzero(which)[0])
                self._warn(code, reasons[first][1].replace("{views}", views_text(which)))  # type: ignore[index]

    def _warn_of_inside(self, mesh: Mesh, camera: Camera, suspected: np.ndarray) -> None:
        """Of views that cut faces: the eye may be inside of what it should see from outside."""
        with unrecorded():
            eyes = read(camera_frame(camera))[:, EYE]
        vertices, faces = read(mesh.vertices), read(mesh.faces)
        within = np.array(
            [cut and winding_number(vertices[b % len(vertices)], faces, eyes[b % len(eyes)]) > INSIDE for b, cut in enumerate(suspected)]
        )
        if within.any():
            eye = point_text(eyes[np.flatnonzero(within)[0] % len(eyes)])
            self._warn("inside", f"the camera is inside of the mesh {views_text(within)}, at {eye}: it sees it from behind; move the eye back")

    def _warn(self, code: str, text: str) -> None:
        if code not in self._said:
            self._said.add(code)
            warnings.warn(text, RuntimeWarning, stacklevel=5)

    def _fragments(self, view: "View", *, batch: int = 1, perspective: bool = True) -> Fragments:
        """Weights in space unless `perspective` says otherwise; `batch` pictures, where views are fewer."""
        camera, screen = view.camera, repeated(view.screen, max(batch, view.screen.shape[0]))
        fragments = soft_fragments(
            screen, view.faces, size=self._size(camera), clockwise_front=camera.mirrored,
            perspective=perspective, orthographic=camera.orthographic, **view.settings,
        )  # fmt: skip
        if view.clipped is not None and self.settings["alpha"] == "sum":
            fragments = fragments._replace(alpha=view.clipped.of_the_mesh(fragments.alpha))
        return fragments

    def _surface(self, view: "View") -> "Surface":
        """What is shaded."""
        return Surface(self, view, self._fragments(view))

    def _is_fused(self, mesh: Mesh) -> bool:
        """Whether colors are known before fragments are: then nothing is kept of the fragments."""
        return mesh.texels is not None or (mesh.texture is None and self.shading == "gouraud")

    def _fused(self, view: "View", lights: Any, material: Material | None) -> Array:
        mesh, camera, clipped = view.mesh, view.camera, view.clipped
        if mesh.texels is not None and self.shading == "phong":
            raise ValueError('shading: texels are lit per face; use "flat", or a mesh with a texture: dr.Mesh.load(path, texture="uv")')
        colors = shade(mesh, lights, material=material, camera=camera, lambert=self.lambert)
        if clipped is not None and clipped.count and mesh.texels is not None:  # pieces of faces have none of their own
            fragments = self._fragments(view, batch=self._pictures(colors), perspective=self.perspective_correct)
            return composite_over(clipped.texels(colors, fragments), fragments, self.background)
        image = soft_rasterize(
            view.screen, view.faces, colors if mesh.texels is not None else view.extended(colors, mesh.faces)[0], size=self._size(camera),
            background=self.background, clockwise_front=camera.mirrored, perspective_correct=self.perspective_correct,
            orthographic=camera.orthographic, **view.settings,
        )  # fmt: skip
        return clipped.of_the_mesh(image) if clipped is not None and self.settings["alpha"] == "sum" else image

    def _pictures(self, texels: Array) -> int:
        """How many pictures texels and background make of one view."""
        background = self.background.shape[0] if isinstance(self.background, ti.Ndarray) and self.background.shape else 1
        return batch_size(colors=texels.shape[0] if len(texels.shape) == 4 else 1, background=background)

    def _size(self, camera: Camera) -> tuple[int, int]:
        return camera.size[0] * self.antialias, camera.size[1] * self.antialias

    def _picture(self, name: str, surface: "Surface", lights: Any, material: Material | None) -> Any:
        mesh, fragments = surface.mesh, surface.fragments
        if name == "image" and self._is_fused(mesh):
            return self._averaged(self._fused(surface.view, lights, material))
        if name == "image":
            return self._finished(composite_over(self._shaded(surface, lights, material), fragments, self.background), surface)
        if name == "alpha":
            return self._finished(fragments.alpha, surface)
        if name == "object_mask":
            return [self._finished(mask, surface) for mask in surface.object_masks()]
        if name in ("face_id", "object_id"):
            ids = read(surface.face_ids())[:, self.antialias // 2 :: self.antialias, self.antialias // 2 :: self.antialias]
            ids = ids if surface.view.clipped is None else surface.view.clipped.mesh_faces(ids)
            return array(ids if name == "face_id" else np.where(ids >= 0, read(mesh.objects)[ids], -1), np.int32, vectors=False)
        return self._averaged(composite(getattr(surface, name)(), fragments))

    def _finished(self, picture: Array, surface: "Surface") -> Array:
        """A picture of what is seen, of all samples."""
        return self._averaged(picture)

    def _averaged(self, picture: Array) -> Array:
        return downsample(picture, self.antialias) if self.antialias > 1 else picture

    def _shaded(self, surface: "Surface", lights: Any, material: Material | None) -> Array:
        """Colors of the fragments under the lights."""
        albedo = surface.albedo()
        if lights is None:
            return albedo
        frame = camera_frame(surface.camera) if material is not None or self.two_sided else None
        return shade_points(
            albedo, surface.normal(), surface.position(), lights,
            material=material, frame=frame, views=surface.fragments.views, two_sided=self.two_sided, lambert=self.lambert,
            visibility=self._visibility(surface, lights),
        )  # fmt: skip

    def _visibility(self, surface: "Surface", lights: Any) -> Array | None:
        """How much of each light arrives at the fragments past the mesh; None: all."""
        return None


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


class View(NamedTuple):
    """A mesh as the views of a camera see it, and the settings to draw it with."""

    mesh: Mesh
    camera: Camera
    screen: Array
    faces: Array  # over `screen`; those of the mesh where nothing is clipped
    clipped: Clipped | None
    settings: dict[str, Any]

    def extended(self, values: Array, faces: Array) -> tuple[Array, Array]:
        """Values of the vertices, and the faces that name them, for `faces` of the mesh."""
        return (values, faces) if self.clipped is None else self.clipped.extended(values, faces)


class Surface:
    """What a mesh has at the fragments, each computed when it is first asked for."""

    def __init__(self, renderer: SoftRenderer, view: View, fragments: Fragments) -> None:
        self.renderer, self.view, self.mesh, self.camera, self.fragments = renderer, view, view.mesh, view.camera, fragments
        self._known: dict[Any, Any] = {}

    def _at(self, key: Any, make: Any) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _spread(self, values: Array, faces: Array) -> Array:
        return interpolate(*self.view.extended(values, faces), self.fragments)

    def _per_face(self, values: Array) -> Array:
        if self.view.clipped is None:
            return per_face(values, self.fragments)
        return self._spread(values, own_indices(self.mesh.faces.shape[0]))

    def picture(self, values: Array, averaged: Callable[[Array], Array]) -> Array:
        """A picture of values per vertex."""
        if len(values.shape) == 2:
            return averaged(composite(self._spread(values, self.mesh.faces), self.fragments))
        return join_fours([self.picture(take_four(values, first), averaged) for first in range(0, values.shape[2], 4)], values.shape[2])

    def object_masks(self) -> list[Array]:
        """The visible silhouette of every object."""
        objects, masks = read(self.mesh.objects), []
        for k in range(objects.max() + 1):
            belongs = array((objects == k).astype(np.float64)[None], vectors=False)
            masks.append(visible_part(composite(self._per_face(belongs), self.fragments), self.fragments))
        return masks

    def face_ids(self) -> Array:
        return face_ids(self.fragments)

    def position(self) -> Array:
        return self._at("position", lambda: self._spread(self.mesh.vertices, self.mesh.faces))

    def depth(self) -> Array:
        return self._at("depth", lambda: interpolate(component(self.view.screen, 2), self.view.faces, self.fragments))

    def uv(self) -> Array:
        return self._at("uv", lambda: interpolate(*self._coordinates(), self.fragments))

    def _coordinates(self) -> tuple[Array, Array]:
        return self._at("coordinates", lambda: self.view.extended(self.mesh.uv, self.mesh.uv_faces))

    def normal(self) -> Array:
        return self._at("normal", self._normal)

    def _normal(self) -> Array:
        mesh = self.mesh
        if self.renderer.shading == "flat":
            return self._per_face(face_normals(mesh.vertices, mesh.faces))
        normals = normalize(self._spread(vertex_normals(mesh.vertices, mesh.faces), mesh.faces))
        if mesh.normal_map is None:
            return normals
        tangents, bitangents = (self._per_face(x) for x in face_tangents(mesh.vertices, mesh.faces, mesh.uv, mesh.uv_faces))
        return perturb_normals(normals, tangents, bitangents, decode_normals(self._sample(mesh.normal_map)))

    def albedo(self) -> Array:
        if self.mesh.texture is None:
            return self._spread(self.mesh.colors, self.mesh.faces)
        return self._sample(self.mesh.texture)

    def _sample(self, texture: Array) -> Array:
        return sample_texture(pyramid(texture), self.uv(), self.levels(texture.shape[1:]), self.fragments.views, self.renderer.wrap)

    def levels(self, size: tuple[int, int]) -> Array:
        """The mip level of each fragment in a texture of (height, width), 0 without mip maps."""
        return self._at(("levels", size), lambda: self._levels(size))

    def _levels(self, size: tuple[int, int]) -> Array:
        if self.renderer.mipmaps:
            return mip_levels(self.view.screen, self.view.faces, *self._coordinates(), self.fragments, size, not self.camera.orthographic)
        levels = empty(float, self.fragments.shares.shape)
        zero(levels)
        return levels
