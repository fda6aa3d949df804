"""Fragments shaded one by one: textures, flat and Phong shading, materials, and outputs other than color, with all their gradients."""

import numpy as np
import pytest
from contract import assert_gradients, gradients
from test_render import AT, EYE, UP, lit_by, wedge

import taichi_dr as dr
from taichi_dr.materials import Material

SMOOTH = {"sigma": 1e-2, "gamma": 1e-2, "near": 0.5, "far": 10.0}


def textured_wedge(rng, size=(6, 9), texture=None):
    mesh = wedge(rng)
    uv = rng.uniform(0.1, 0.9, (18, 2))  # every face has corners of its own
    image = rng.uniform(0, 1, (*size, 3)) if texture is None else texture
    return dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces), uv=uv, uv_faces=np.arange(18).reshape(6, 3), texture=image)


def view(size=(6, 8), **options):
    return dr.Camera.look_at(EYE, AT, UP, fov=50.0, size=size, **options)


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mipmaps", [True, False])
@pytest.mark.parametrize("orthographic", [False, True])
def test_gradients_through_a_texture(orthographic, mipmaps, f64, rng):
    mesh, camera = textured_wedge(rng, (3, 4)), view(orthographic=orthographic)
    renderer = dr.SoftRenderer(mipmaps=False, **SMOOTH)
    params = {"texture": mesh.texture, "uv": mesh.uv, "vertices": mesh.vertices, "eye": camera.eye}
    assert_gradients(lambda: renderer(mesh, camera), params, rng, step=1e-7)
    if mipmaps:  # the choice of the level has no gradient: what stays fixed with it has
        renderer = dr.SoftRenderer(**SMOOTH)
        assert_gradients(lambda: renderer(mesh, camera), {"texture": mesh.texture}, rng)


@pytest.mark.parametrize("shading, model", [("phong", "phong"), ("phong", "blinn-phong"), ("flat", "blinn-phong")])
def test_gradients_of_light_and_material(shading, model, f64, rng):
    mesh, camera, lights = wedge(rng), view(), lit_by()
    material = Material(diffuse=(0.9, 0.8, 0.7), specular=(0.4, 0.5, 0.3), shininess=5.0, model=model)
    renderer = dr.SoftRenderer(shading=shading, **SMOOTH)
    params = {
        "vertices": mesh.vertices, "colors": mesh.colors, "direction": lights[1].direction, "position": lights[2].position,
        "intensity": lights[1].intensity, "specular": material.specular, "shininess": material.shininess, "diffuse": material.diffuse,
        "eye": camera.eye,
    }  # fmt: skip
    assert_gradients(lambda: renderer(mesh, camera, lights, material=material), params, rng, step=1e-7)


@pytest.mark.parametrize("name", ["depth", "normal", "position", "uv", "alpha", "object_mask"])
@pytest.mark.parametrize("antialias", [1, 2])
def test_gradients_of_outputs(name, antialias, f64, rng):
    mesh, camera = textured_wedge(rng), view()
    renderer = dr.SoftRenderer(antialias=antialias, shading="phong", **SMOOTH)

    def picture():
        out = renderer(mesh, camera, outputs=[name])[name]
        return out[0] if isinstance(out, list) else out

    params = {"vertices": mesh.vertices, "eye": camera.eye} | ({"uv": mesh.uv} if name == "uv" else {})
    assert_gradients(picture, params, rng, step=1e-7)


@pytest.mark.parametrize("channels", [1, 5, 32])
def test_gradients_of_attributes(channels, f64, rng):
    mesh, camera = wedge(rng), view()
    values = dr.array(rng.standard_normal((1, 5, channels)), vectors=False)
    renderer = dr.SoftRenderer(**SMOOTH)

    def picture():
        return renderer(mesh, camera, attributes={"heat": values})["heat"]

    assert picture().shape == (1, 6, 8, channels)
    assert_gradients(picture, {"heat": values, "vertices": mesh.vertices}, rng, step=1e-7)


# --- Values -----------------------------------------------------------------------------------------------------


def test_a_texture_of_one_color_is_that_color(f32, rng):
    mesh = textured_wedge(rng, texture=np.full((4, 8, 3), (0.2, 0.5, 0.9)))
    plain = dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces), np.full((5, 3), (0.2, 0.5, 0.9)))
    renderer, camera = dr.SoftRenderer(shading="phong"), view((20, 30))
    assert np.abs(dr.read(renderer(mesh, camera, lit_by())) - dr.read(renderer(plain, camera, lit_by()))).max() < 1e-5


def test_flat_and_phong_agree_with_gouraud_where_they_must(f32):
    """On a face whose corners have its normal all three are Lambert; on an ambient light all three are the color."""
    mesh = dr.Mesh([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]], np.full((4, 3), 0.8))
    camera, lights = dr.Camera.look_at((0.3, 0.2, 3), size=16), [dr.AmbientLight(0.2), dr.DirectionalLight((0.5, 0.2, 1), 0.7)]
    images = [dr.read(dr.SoftRenderer(shading=shading)(mesh, camera, lights)) for shading in ("gouraud", "flat", "phong")]
    assert np.abs(images[0] - images[1]).max() < 1e-5 and np.abs(images[0] - images[2]).max() < 1e-5


def checker(top_left=(1.0, 0.0, 0.0)):
    """A texture that shows flips: four quarters of four colors, the top left one red."""
    texture = np.zeros((64, 64, 3))
    texture[:32, :32], texture[:32, 32:], texture[32:, :32], texture[32:, 32:] = top_left, (0, 1, 0), (0, 0, 1), (1, 1, 0)
    return texture


@pytest.mark.parametrize("mipmaps", [True, False])
def test_a_texture_is_upright(mipmaps, f32):
    corners = [[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]]  # top left, top right, bottom right, bottom left, seen from +z
    mesh = dr.Mesh(corners, [[0, 3, 2], [0, 2, 1]], uv=[[0, 0], [1, 0], [1, 1], [0, 1]], texture=checker())
    camera = dr.Camera.look_at((0, 0, 3), fov=60, size=32)
    image = dr.read(dr.SoftRenderer(mipmaps=mipmaps)(mesh, camera))[0, ..., :3]
    for (i, j), color in {(10, 10): (1, 0, 0), (10, 21): (0, 1, 0), (21, 10): (0, 0, 1), (21, 21): (1, 1, 0)}.items():
        assert np.abs(image[i, j] - color).max() < 1e-5


def test_mip_maps_average_what_pixels_cannot_tell_apart(f32):
    """Stripes of one texel: without mip maps they alias, with them the plane is grey."""
    stripes = np.broadcast_to((np.arange(512) % 2)[None, :, None], (512, 512, 3)).astype(float)
    corners = [[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]]
    mesh = dr.Mesh(corners, [[0, 3, 2], [0, 2, 1]], uv=[[0, 0], [1, 0], [1, 1], [0, 1]], texture=stripes)
    camera = dr.Camera.look_at((0, 0, 2.2), fov=60, size=50)
    by_mip, by_texel = (dr.read(dr.SoftRenderer(mipmaps=m)(mesh, camera))[0, 15:35, 15:35, 0] for m in (True, False))
    assert np.abs(by_mip - 0.5).max() < 0.02 < 0.2 < np.abs(by_texel - 0.5).max()


def test_outputs_of_a_sphere(f32):
    mesh = dr.shapes.icosphere(4)
    camera = dr.Camera.look_at((0, 0, 3), fov=50, size=(40, 60))
    out = dr.SoftRenderer(shading="phong")(mesh, camera, outputs=["depth", "normal", "position", "alpha", "face_id", "object_id", "image"])
    out = {name: dr.read(picture)[0] for name, picture in out.items()}
    inside = out["alpha"] > 0.99
    position, normal = out["position"][inside], out["normal"][inside]
    assert np.abs(np.linalg.norm(position, axis=-1) - 1).max() < 5e-3 and np.abs(position - normal).max() < 0.05
    assert np.abs(out["depth"][inside] - (3 - position[:, 2])).max() < 1e-4
    assert (out["face_id"] >= 0).sum() > 300 and (out["face_id"][inside] >= 0).all() and (out["face_id"][0] == -1).all()
    centers = dr.read(mesh.vertices)[0][dr.read(mesh.faces)].mean(axis=1)
    assert np.linalg.norm(centers[out["face_id"][inside]] - position, axis=-1).max() < 0.1
    assert set(np.unique(out["object_id"])) == {-1, 0}
    pixels = camera.project(position[:5])[0]
    rows, columns = np.nonzero(inside)
    assert np.abs(pixels - np.stack([columns[:5] + 0.5, rows[:5] + 0.5], axis=1)).max() < 0.05


def test_masks_of_objects_add_up_to_the_silhouette(f32, rng):
    ball = dr.shapes.icosphere(2)
    vertices, faces = dr.read(ball.vertices)[0], dr.read(ball.faces)
    both = np.concatenate([vertices, 0.6 * vertices + (0.7, 0, 0.8)])
    mesh = dr.Mesh(both, np.concatenate([faces, faces + len(vertices)]), objects=np.repeat([0, 1], len(faces)))
    out = dr.SoftRenderer()(mesh, dr.Camera.look_at((0, 0, 4), size=40), outputs=["object_mask", "alpha", "object_id"])
    masks, ids = [dr.read(mask)[0] for mask in out["object_mask"]], dr.read(out["object_id"])[0]
    assert np.abs(sum(masks) - dr.read(out["alpha"])[0]).max() < 1e-4
    assert (masks[1][ids == 1] > 0.4).all() and (masks[0][ids == 1] < 0.1).all() and (ids == 1).sum() > 50


def test_texels_that_a_view_sees(f32):
    corners = [[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]]
    mesh = dr.Mesh(corners, [[0, 3, 2], [0, 2, 1]], uv=[[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]], texture=checker())
    coverage = dr.SoftRenderer(wrap="clamp").texel_coverage(mesh, dr.Camera.look_at((0, 0, 2.2), size=100))
    assert coverage.shape == (64, 64) and (coverage[:32, :32] > 0).all() and (coverage[34:] == 0).all() and (coverage[:, 34:] == 0).all()


def test_culling(f32):
    mesh, camera = dr.shapes.icosphere(2), dr.Camera.look_at((0, 0, 3), size=24)
    whole, front, back = (dr.read(dr.SoftRenderer(cull=cull)(mesh, camera))[0] for cull in (None, "back", "front"))
    assert np.abs(whole[..., :3] - front[..., :3]).max() < 1e-5 and (front[..., 3] <= whole[..., 3] + 1e-6).all() and back[12, 12, 3] > 0.9
    triangle = dr.Mesh([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], [[0, 1, 2]])
    for mirrored in (False, True):
        away = dr.Camera.look_at((0, 0, -3), size=8, mirrored=mirrored)
        facing = dr.Camera.look_at((0, 0, 3), size=8, mirrored=mirrored)
        seen = [dr.read(dr.SoftRenderer(cull="back")(triangle, camera))[..., 3].max() for camera in (facing, away)]
        assert seen[0] > 0.9 and seen[1] == 0


def test_two_runs_agree_bitwise(f32, rng):
    mesh, camera, renderer = textured_wedge(rng, (16, 16)), view((20, 20)), dr.SoftRenderer(shading="phong", sigma=1e-3)
    cotangent = rng.standard_normal((1, 20, 20, 4))
    runs = [gradients(lambda: renderer(mesh, camera, lit_by()), [mesh.texture, mesh.uv, mesh.vertices], cotangent) for _ in range(2)]
    assert all(np.array_equal(a, b) and np.abs(a).max() > 0 for a, b in zip(*runs, strict=True))


def test_bad_input(f32, rng):
    mesh, camera = wedge(rng), view()
    with pytest.raises(ValueError, match="shading: expected one of gouraud, flat, phong"):
        dr.SoftRenderer(shading="toon")
    with pytest.raises(ValueError, match="wrap: expected one of"):
        dr.SoftRenderer(wrap="tile")(textured_wedge(rng), camera)
    with pytest.raises(ValueError, match='cull: expected "back", "front" or None'):
        dr.SoftRenderer(cull="both")(mesh, camera)
    with pytest.raises(ValueError, match="outputs: expected some of .* got 'albedo'"):
        dr.SoftRenderer()(mesh, camera, outputs=["albedo"])
    with pytest.raises(ValueError, match="outputs: expected a mesh with uv"):
        dr.SoftRenderer()(mesh, camera, outputs=["uv"])
    with pytest.raises(ValueError, match=r"attributes: expected \(B, V\) or \(B, V, C\) with V = 5"):
        dr.SoftRenderer()(mesh, camera, attributes={"heat": dr.array(np.zeros((1, 4)), vectors=False)})
    with pytest.raises(ValueError, match="at most 32 channels"):
        dr.SoftRenderer()(mesh, camera, attributes={"heat": dr.array(np.zeros((1, 5, 33)))})
    with pytest.raises(ValueError, match="texels are lit per face"):
        dr.SoftRenderer(shading="phong")(wedge(rng, textured=True), camera)
    with pytest.raises(ValueError, match="mesh: expected one with a texture"):
        dr.SoftRenderer().texel_coverage(mesh, camera)


# --- Normal maps ------------------------------------------------------------------------------------------------


def mapped_wedge(rng, normal_map, **surface):
    mesh = textured_wedge(rng)
    return dr.Mesh(
        dr.read(mesh.vertices), dr.read(mesh.faces), uv=dr.read(mesh.uv)[0], uv_faces=dr.read(mesh.uv_faces), normal_map=normal_map, **surface
    )


@pytest.mark.parametrize("surface", ["colors", "texture"])
def test_a_flat_normal_map_changes_nothing(surface, f32, rng):
    paint = {"colors": rng.uniform(0, 1, (5, 3)), "texture": rng.uniform(0, 1, (5, 5, 3))}[surface]
    state = rng.bit_generator.state
    images = []
    for normal_map in (None, np.full((4, 4, 3), (0.5, 0.5, 1.0))):
        rng.bit_generator.state = state
        mesh = mapped_wedge(rng, normal_map, **{surface: paint})
        images.append(dr.read(dr.SoftRenderer(shading="phong", **SMOOTH)(mesh, view((20, 24)), lit_by())))
    np.testing.assert_allclose(images[1], images[0], atol=1e-6)


def test_a_normal_map_tilts_normals_as_it_says(f32):
    """A square that looks at the camera, its texture upright: red is right, green is up, blue is towards the eye."""
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0.0]])
    normal_map = np.full((8, 8, 3), (0.5, 0.5, 1.0))
    normal_map[:4, :4], normal_map[:4, 4:], normal_map[4:, :4] = (1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.8, 0.5, 0.9)
    mesh = dr.Mesh(square, [[0, 1, 2], [0, 2, 3]], uv=uv, uv_faces=[[0, 1, 2], [0, 2, 3]], normal_map=normal_map)
    camera, renderer = dr.Camera.look_at((0, 0, 3), fov=2 * np.degrees(np.arctan(1 / 3)), size=32), dr.SoftRenderer(shading="phong", mipmaps=False)
    normals = dr.read(renderer(mesh, camera, outputs=["normal"])["normal"])[0]
    for place, expected in (((8, 8), (1, 0, 0)), ((8, 24), (0, 1, 0)), ((24, 8), (0.6, 0, 0.8)), ((24, 24), (0, 0, 1))):
        np.testing.assert_allclose(normals[place], expected, atol=1e-5)


def test_gradients_through_a_normal_map(f64, rng):
    mesh, camera, lights = mapped_wedge(rng, rng.uniform(0.2, 0.9, (3, 4, 3))), view(), lit_by()
    params = {"normal_map": mesh.normal_map, "colors": mesh.colors, "direction": lights[1].direction}  # not uv: see face_tangents
    renderer = dr.SoftRenderer(shading="phong", mipmaps=False, **SMOOTH)
    assert_gradients(lambda: renderer(mesh, camera, lights), params, rng)
    assert_gradients(lambda: renderer(mesh, camera, lights), {"vertices": mesh.vertices}, rng, step=1e-7)


def test_a_normal_map_needs_uv_and_phong_shading(f32, rng):
    flat = np.full((4, 4, 3), (0.5, 0.5, 1.0))
    with pytest.raises(ValueError, match="normal_map: expected uv"):
        dr.Mesh(dr.read(wedge(rng).vertices), dr.read(wedge(rng).faces), normal_map=flat)
    with pytest.raises(ValueError, match="normal_map: expected floats"):
        mapped_wedge(rng, (flat * 255).astype(np.uint8))
    with pytest.raises(ValueError, match='shading: expected "phong"'):
        dr.SoftRenderer()(mapped_wedge(rng, flat), view())
