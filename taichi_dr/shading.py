"""Shading: how bright points of a surface are; `shade_points` serves vertices, faces, fragments and pixels alike.

    lit = color * diffuse * sum of E + specular * sum of S,   E = A max(0, n . l),   S = A p^shininess where n . l > 0

with A the light that arrives across its direction l. In physical units, `lambert="physical"`, a white surface scatters light
that comes from one direction over a hemisphere: E is divided by pi, of lights that come from somewhere. A table (`light_table`)
holds the lights, the material and the eye, a row per view; `illuminate` lights points from it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, Points, Texels, batch_size, constant, empty, expect, grad_of, read, vec3
from .frame import EYE as FRAME_EYE
from .frame import camera_frame
from .illuminate import NO_PAINT, PAINTED, WHITE, illuminate
from .launch import kernel
from .light_table import tabulate
from .lights import AMBIENT, HARMONICS, AmbientLight, Light, expect_arrays, light_list, view_counts
from .materials import MODELS, NO_HIGHLIGHT, Material
from .normals import expect_mesh, face_centers, face_normals, vertex_normals
from .tape import operator

LAMBERT = {"softras": 1.0, "physical": 1 / np.pi}


def shade_points(
    albedo: Array,
    normals: Array | None,
    positions: Array | None,
    lights: Light | Sequence[Light] | None,
    *,
    material: Material | None = None,
    frame: Array | None = None,
    views: Array | None = None,
    two_sided: bool = False,
    lambert: str = "softras",
    visibility: Array | None = None,
) -> Array:
    """The colors of points of surfaces under the lights.

        lit = albedo * diffuse * sum of E + specular * sum of A p^shininess

    with E of each light as in `lights`, A = E / max(0, n . l), and p and the sum's lights as in `Material`.

    Args:
        albedo: colors, (1, N) or (B, N) of vec3.
        normals: of length 1, (1, N) or (B, N) of vec3, used as they are; None where all lights are ambient.
        positions: in the world, (1, N) or (B, N) of vec3; None where no light has a position and there is no `frame`.
        lights: one light or several; the fields of each serve all views, or there is one per view. None or an empty
            sequence leave the colors as they are.
        material: its fields serve all views likewise; None scatters all light and mirrors none.
        frame: the frames of the cameras, (1, K) or (B, K) of vec3, the eye in column 3. With a material it is needed for
            highlights; a material with `specular` 0 has none without it, and no gradient there.
        views: (N,) integers, the view that each point belongs to, where the other arrays have one row for all views. An index
            out of range counts as the nearest. None takes row b for view b.
        two_sided: turn normals towards the eye, which needs `frame` too.
        lambert: "softras" as above; "physical" divides E by pi for directional, point and spot lights, as redner and physics do.
        visibility: what E and A of each light that comes from somewhere are multiplied by, (L, N): a row for each directional
            light, then for each point light, then for each spot light, in their order; it serves all views. None is 1.

    Returns:
        (B, N) of vec3, with `views` (1, N).

    Differentiable in `albedo`, `normals`, `positions`, `visibility`, the fields of lights and of the material, and the eyes in `frame`;
    not in `views`, which are whole numbers. Where n . l <= 0 a light does nothing and has no gradient; where n . l rises
    above 0 a highlight appears at once, and that jump has none either. Cosines up to 1e-6 count as 0 in powers, so
    slopes are finite at any shininess; at shininess 0 a highlight is 1 all over. Points with normal zero get ambient
    light only, of harmonics their mean. A point that is not finite may get any color; what is wrong with it stays there,
    and points whose color nobody asks about add exactly nothing to any gradient.

    Raises:
        ValueError: wrong shapes or types, batches that do not agree, something missing that the lights ask for.

    Source: Phong 1975; Blinn 1977; Ramamoorthi and Hanrahan 2001.
    """
    lights = light_list(lights)
    expect("albedo", albedo, 3, 2, "(B, N) of vec3")
    if not lights:
        return albedo
    points = albedo, normals, positions
    lit = _lit(lights, albedo.shape[1], PAINTED, *points, material, frame, views, two_sided, lambert=lambert, visibility=visibility)
    assert lit is not None
    return lit


def _lit(
    lights: list[Light],
    count: int,
    paint: int,
    albedo: Array | None,
    normals: Array | None,
    positions: Array | None,
    material: Material | None,
    frame: Array | None,
    views: Array | None = None,
    two_sided: bool = False,
    highlights: bool = True,
    lambert: str = "softras",
    visibility: Array | None = None,
) -> Array | None:
    """As `shade_points`, or the scattered light alone (paint WHITE), or the highlights alone (NO_PAINT), None where there are none."""
    model, share = _model(material, frame) if highlights else NO_HIGHLIGHT, scattered_share(lambert)
    if two_sided and frame is None:
        raise ValueError("two_sided: expected a frame, which says where the eyes are; give frame=camera_frame(camera)")
    if paint == NO_PAINT:
        lights = [light for light in lights if light.kind not in (AMBIENT, HARMONICS)]
    turned = any(light.kind != AMBIENT for light in lights)
    with_eye = turned and (model != NO_HIGHLIGHT or two_sided)
    placed = with_eye or any("position" in vars(light) for light in lights)
    if not lights or (paint == NO_PAINT and model == NO_HIGHLIGHT):
        return None

    rows = {}
    for name, x, asked in (("albedo", albedo, paint == PAINTED), ("normals", normals, turned), ("positions", positions, placed)):
        if asked:
            expect(name, x, 3, 2, "(B, N) of vec3")
            if x.shape[1] != count:
                raise ValueError(f"{name}: expected one entry per point, {count}, got shape {tuple(x.shape)}")
            rows[name] = x.shape[0]
    table_rows = {f"lights[{k}].{name}": n for k, light in enumerate(lights) for name, n in view_counts(light).items()}
    if material is not None:
        table_rows |= {f"material.{name}": x.shape[0] for name, x in vars(material).items() if name != "model" and x.shape}
    if with_eye:
        expect("frame", frame, 3, 2, "(B, K) of vec3")
        if frame.shape[1] <= FRAME_EYE:
            raise ValueError(f"frame: expected the eye in column {FRAME_EYE}, got shape {tuple(frame.shape)}; give frame=camera_frame(camera)")
        table_rows["frame"] = frame.shape[0]
    batch = batch_size(**rows, **table_rows) if rows or table_rows else 1
    groups = batch_size(**table_rows) if table_rows else 1
    if views is not None:
        expect("views", views, 1, 1, "(N,) integers", integers=True)
        if views.shape[0] != count:
            raise ValueError(f"views: expected one entry per point, {count}, got shape {tuple(views.shape)}")
        for name, n in rows.items():
            if n != 1:
                raise ValueError(f"{name}: expected (1, N) beside views, got a batch of {n}; leave out views, or put all points in one row")
        batch = 1
        if groups == 1:
            views = None  # they say nothing that the one row of the table does not

    lit = empty(vec3, (batch, count), needs_grad=True)
    if material is None:
        surface = constant((1.0, 1.0, 1.0)), constant((0.0, 0.0, 0.0)), constant((1.0,))
    else:
        surface = material.diffuse, material.specular, material.shininess
    table, counts = tabulate(lights, surface, frame if with_eye else None, groups, share)
    if visibility is not None:
        expect("visibility", visibility, 1, 2, "(L, N) of numbers")
        if tuple(visibility.shape) != (sum(counts), count):
            raise ValueError(f"visibility: expected a row per light with a place or direction, {(sum(counts), count)}, got {tuple(visibility.shape)}")
    kinds = tuple(sorted({light.kind for light in lights} - {AMBIENT}))
    given = (albedo if paint == PAINTED else lit, normals if turned else lit, positions if placed else lit)  # lit stands for what is not asked for
    illuminate(kinds, counts, paint, model if any(counts) else NO_HIGHLIGHT, two_sided and turned, *given, table, views, visibility, lit)
    return lit


def scattered_share(lambert: str) -> float:
    """What a white surface scatters towards the eye of a unit of light from one direction."""
    if lambert not in LAMBERT:
        raise ValueError(f"lambert: expected one of {', '.join(map(repr, LAMBERT))}, got {lambert!r}")
    return LAMBERT[lambert]


def _model(material: Material | None, frame: Array | None) -> int:
    """How highlights are made, if at all."""
    if material is None:
        return NO_HIGHLIGHT
    if not isinstance(material, Material):
        raise ValueError(f"material: expected a Material, got {type(material).__name__}; make it with dr.Material(...)")
    expect_arrays("material", material)
    if frame is None:
        if read(material.specular).any():
            raise ValueError("frame: expected the camera that sees the highlights of the material, got none; give camera=... or frame=...")
        return NO_HIGHLIGHT
    return MODELS[material.model]


# --- Meshes -------------------------------------------------------------------------------------------------------


def shade(
    mesh: Any,
    lights: Light | Sequence[Light] | None,
    material: Material | None = None,
    camera: Any = None,
    frame: Array | None = None,
    *,
    lambert: str = "softras",
) -> Array:
    """The mesh's colors under the lights: `shade_points` at its vertices (Gouraud), or at the middles of its faces.

        shaded = color * diffuse * sum of E + specular * sum of A p^shininess

    Vertices have the normals of their faces, weighted by area; faces with texels have their own.

    Args:
        mesh: vertices (B, V), faces (F,), and colors (B, V), or texels (F, R, R) or (B, F, R, R), which go before colors.
        lights: one light or several; the fields of each serve all views, or there is one per view. None or an empty
            sequence leave the colors as they are.
        material, frame: as of `shade_points`.
        camera: the `Camera` whose eyes see the highlights; in place of `frame`.
        lambert: as of `shade_points`.

    Returns:
        Lit colors per vertex, (B, V) of vec3, or lit texels, (F, R, R) of vec3, with texels that differ between views
        (B, F, R, R).

    Differentiable in the mesh's `vertices` (through normals and positions), `colors` and `texels`, in every field of the
    lights and the material, and in the camera. Where a surface faces away from a light, n . l <= 0, that light does nothing
    and has no gradient. Where there is no normal, as on a face without an area or with a vertex that is not finite, only
    ambient light arrives.

    Raises:
        ValueError: wrong shapes or types, no colors to light, a face index out of range, batches that do not agree,
            a material with highlights and no camera.

    Source: SoftRas, `ambient_lighting` and `directional_lighting`; Gouraud, "Continuous shading of curved surfaces", 1971.
    """
    lights = light_list(lights)
    textured = mesh.texels is not None
    colors, name = (mesh.texels, "texels") if textured else (mesh.colors, "colors")
    if colors is None:
        raise ValueError("mesh: expected colors or texels to light, got neither; make it with dr.Mesh(vertices, faces, colors=...)")
    if not lights:
        return colors
    expect_mesh(mesh.vertices, mesh.faces)
    expect(name, colors, 3, (3, 4) if textured else 2, "(F, R, R) or (B, F, R, R) of vec3" if textured else "(B, V) of vec3")
    count = mesh.faces.shape[0] if textured else mesh.vertices.shape[1]
    if colors.shape[-3 if textured else 1] != count:
        raise ValueError(f"{name}: expected one entry per {'face' if textured else 'vertex'}, {count}, got shape {tuple(colors.shape)}")
    if frame is None and camera is not None and material is not None:
        frame = camera_frame(camera)
    # Checked here too, since an error names what the mesh has, and comes before any work.
    sizes = {f"lights[{k}].{field}": n for k, light in enumerate(lights) for field, n in view_counts(light).items()}
    if not all(isinstance(light, AmbientLight) for light in lights):
        sizes["vertices"] = mesh.vertices.shape[0]
    batch_size(**sizes, **{name: 1 if len(colors.shape) == 3 else colors.shape[0]})

    normals = positions = None
    if not all(isinstance(light, AmbientLight) for light in lights):
        normals = (face_normals if textured else vertex_normals)(mesh.vertices, mesh.faces)
    if (material is not None and frame is not None) or any("position" in vars(light) for light in lights):
        positions = face_centers(mesh.vertices, mesh.faces) if textured else mesh.vertices
    if not textured:
        return shade_points(colors, normals, positions, lights, material=material, frame=frame, lambert=lambert)
    scattered = _lit(lights, count, WHITE, None, normals, positions, material, frame, highlights=False, lambert=lambert)
    mirrored = _lit(lights, count, NO_PAINT, None, normals, positions, material, frame)
    assert scattered is not None
    batch = max(1 if len(colors.shape) == 3 else colors.shape[0], scattered.shape[0], 1 if mirrored is None else mirrored.shape[0])
    lit = empty(vec3, colors.shape[-3:] if batch == 1 else (batch, *colors.shape[-3:]), needs_grad=True)
    _light_texels(colors, scattered, scattered if mirrored is None else mirrored, mirrored is not None, lit)
    return lit


@ti.func
def _texel(texels: ti.template(), b: int, f: int, i: int, j: int):
    value = vec3(0.0)
    if ti.static(len(texels.shape) == 4):
        value = texels[b % texels.shape[0], f, i, j]
    else:
        value = texels[f, i, j]
    return value


@ti.func
def _set_texel(texels: ti.template(), b: int, f: int, i: int, j: int, value):
    if ti.static(len(texels.shape) == 4):
        texels[b % texels.shape[0], f, i, j] = value
    else:
        texels[f, i, j] = value


@kernel
def _light_texels_kernel(
    texels: Texels, scattered: Points, mirrored: Points, with_mirrored: ti.template(), lit: Texels, views: int, resolution: int
):  # fmt: skip
    for k in range(views * scattered.shape[1]):
        b, f = k // scattered.shape[1], k % scattered.shape[1]
        light, shine = scattered[b % scattered.shape[0], f], vec3(0.0)
        if ti.static(with_mirrored):
            shine = mirrored[b % mirrored.shape[0], f]
        for i in range(resolution):
            for j in range(resolution):
                _set_texel(lit, b, f, i, j, _texel(texels, b, f, i, j) * light + shine)


@operator
def _light_texels(texels: Array, scattered: Array, mirrored: Array, with_mirrored: bool, lit: Array) -> None:
    """Texels times scattered light, plus the highlight of their face."""
    views = 1 if len(lit.shape) == 3 else lit.shape[0]
    _light_texels_kernel(texels, scattered, mirrored, int(with_mirrored), lit, views, lit.shape[-1])


@kernel
def _light_texels_adjoint_kernel(
    texels: Texels, scattered: Points, mirrored: Points, with_mirrored: ti.template(), lit_grad: Texels,
    texels_grad: Texels, scattered_grad: Points, mirrored_grad: Points, views: int, resolution: int,
):  # fmt: skip
    """A thread takes a face in all views, so nobody else adds to its entries."""
    for f in range(scattered.shape[1]):
        for b in range(views):
            row = b % scattered.shape[0]
            light, total, shine = scattered[row, f], vec3(0.0), vec3(0.0)
            for i in range(resolution):
                for j in range(resolution):
                    grad = _texel(lit_grad, b, f, i, j)
                    if any(grad != 0.0):
                        _set_texel(texels_grad, b, f, i, j, _texel(texels_grad, b, f, i, j) + grad * light)
                        total += grad * _texel(texels, b, f, i, j)
                        shine += grad
            scattered_grad[row, f] = scattered_grad[row, f] + total
            if ti.static(with_mirrored):
                mirrored_grad[b % mirrored.shape[0], f] = mirrored_grad[b % mirrored.shape[0], f] + shine


@_light_texels.adjoint
def _light_texels_adjoint(texels: Array, scattered: Array, mirrored: Array, with_mirrored: bool, lit: Array) -> None:
    views = 1 if len(lit.shape) == 3 else lit.shape[0]
    grads = grad_of(texels), scattered.grad, mirrored.grad
    _light_texels_adjoint_kernel(texels, scattered, mirrored, int(with_mirrored), lit.grad, *grads, views, lit.shape[-1])
