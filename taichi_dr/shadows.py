"""Shadows: how much of each light arrives at points, by pictures of the mesh from the lights.

A light's picture holds moments of depth, blended at the silhouettes as they pass between texels (`antialias`) and filtered
(`blur`), so that it changes smoothly with all that casts shadows; a point looks itself up there, and compares its depth.

Source: Worchel and Alexa, "Differentiable Shadow Mapping for Efficient Inverse Graphics", CVPR 2023.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from .arrays import Array, batch_size, checked_number, empty, zero
from .camera import camera_frame, project
from .clip import Clipped, repeated, sight
from .light_camera import LightCamera, bounding_sphere, light_camera
from .light_places import light_places
from .light_table import SOURCES
from .lights import light_list
from .mesh import Mesh
from .mipmap import single_level
from .moments import Receiver, depth_moments, light_row, set_visibility
from .raster.antialias import antialias
from .raster.blur import blur, blur_reach
from .raster.channels import component
from .raster.composite import composite
from .raster.interpolate import interpolate
from .raster.visible import rasterize
from .texture import sample_texture

LEAST_RESOLUTION = 16
LEAST_DEVIATION = 0.5  # of the bias


@dataclass(frozen=True)
class ShadowMaps:
    """How shadows are made: `DeferredRenderer(shadows=ShadowMaps(resolution=1024))`.

    Args:
        resolution: texels on a side of a light's picture, at least 16. Of a light far away or well outside of the mesh, one
            picture shows the sphere around the whole mesh, so that a ground much larger than the rest takes them all; of one among
            it, six of half the resolution show all around.
        blur: standard deviation of the filter, in texels: shadows have edges as wide, and gradients a reach as far.
        bias: texels that a surface is taken nearer to the light, against shadows on itself. Contacts leak light as far.
        bleeding: visibilities up to here are 0, against light that leaks where shadows overlap; 0 up to less than 1.

    Raises:
        ValueError: an argument out of range.
    """

    resolution: int = 512
    blur: float = 1.0
    bias: float = 1.0
    bleeding: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.resolution, Integral) or self.resolution < LEAST_RESOLUTION:
            raise ValueError(f"resolution: expected a whole number of at least {LEAST_RESOLUTION}, got {self.resolution!r}")
        for name in ("blur", "bias", "bleeding"):
            checked_number(name, getattr(self, name), 0.0)
        if self.bleeding >= 1:
            raise ValueError(f"bleeding: expected a number from 0 to less than 1, got {self.bleeding!r}")
        most = self.resolution // 8 - 2
        if blur_reach(self.blur) > most:
            raise ValueError(f"blur: expected a reach, 2.5 times it, of at most {most} texels, got blur {self.blur!r}; raise the resolution")

    @property
    def border(self) -> int:
        """Texels around what a picture is asked about."""
        return blur_reach(self.blur) + 2


def visibility(mesh: Mesh, lights: Any, positions: Array, views: Array, maps: ShadowMaps) -> Array | None:
    """How much of each light arrives at points past the mesh.

    Args:
        mesh: what casts shadows.
        lights: one light or several. Those from everywhere cast no shadows, nor do those with `shadow=False`.
        positions: in the world, (1, N) of vec3.
        views: the view that each belongs to, (N,).
        maps: how.

    Returns:
        (L, N), from 0 to 1, a row for each light from somewhere, in the order of `light_table`; None where no light casts a shadow.

    Differentiable in the mesh's vertices, `positions`, and the direction or position of the lights.
    """
    sources = [light for kind in SOURCES for light in light_list(lights) if light.kind == kind]
    if not any(light.shadow for light in sources):
        return None
    sphere = bounding_sphere(mesh.vertices)
    out = empty(float, (len(sources), positions.shape[1]), needs_grad=True)
    for row, light in enumerate(sources):
        if light.shadow:
            place = light.direction if light.kind == SOURCES[0] else light.position
            rows = batch_size(mesh=mesh.vertices.shape[0], light=place.shape[0] if place.shape else 1)
            seen_by = light_camera(light, sphere, rows, maps.resolution, maps.border)
            _cast(mesh, seen_by, positions, views, maps, row, out)
        else:
            light_row(row, out)
    return out


def moment_picture(mesh: Mesh, seen_by: LightCamera, maps: ShadowMaps) -> Array:
    """The light's pictures, (S R, H, W) of vec3: filtered moments, and the share of the texel that shows anything."""
    camera = seen_by.camera
    vertices, faces = repeated(mesh.vertices, camera.batch), mesh.faces
    screen = project(vertices, camera)
    if sight(screen, camera.size, seen_by.near, seen_by.far).outside.any():
        clipped = Clipped(vertices, faces, camera, seen_by.near, seen_by.far)
        screen, faces = clipped.screen, clipped.faces
    visible = rasterize(screen, faces, camera.size, orthographic=camera.orthographic)
    depths = interpolate(component(screen, 2), faces, visible.fragments)
    moments = composite(depth_moments(depths, seen_by.middle, seen_by.radius), visible.fragments)
    return blur(antialias(moments, screen, faces, visible, orthographic=camera.orthographic), maps.blur)


def _cast(mesh: Mesh, seen_by: LightCamera, positions: Array, views: Array, maps: ShadowMaps, row: int, out: Array) -> None:
    picture = moment_picture(mesh, seen_by, maps)
    uv, depths, layers = light_places(
        positions, views, camera_frame(seen_by.camera), seen_by.sides,
        orthographic=seen_by.camera.orthographic, middle=seen_by.middle, radius=seen_by.radius,
    )  # fmt: skip
    levels = empty(float, uv.shape)
    zero(levels)
    found = sample_texture(single_level(picture), uv, levels, layers, "clamp")
    far = (seen_by.far - seen_by.middle) / seen_by.radius
    receiver = Receiver(far, seen_by.texel, maps.bias, LEAST_DEVIATION * maps.bias, maps.bleeding)
    set_visibility(found, depths, receiver, out, row)
