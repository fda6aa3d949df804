"""Texture coordinates and textures of meshes: what may be given, files and back as other software sees them, atlases, image kinds."""

import json
import struct
import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import reference_uv as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import taichi_dr as dr
from taichi_dr import atlas, io
from taichi_dr import mesh as topology

SPOT = Path(__file__).parents[2] / "shared/data/spot/spot_triangulated.obj"
FUZZ = settings(max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
UVS = "vt 0 0\nvt 1 0\nvt 0 1\n"
POINTS = np.array([[1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7], [1, 0, 0], [0, 0.5, 0.5]])


def values(x):
    return dr.read(x)


def seamed(rng, size=(6, 9), inside=True):
    """A tetrahedron whose vertices have several texture coordinates each, one of which nobody uses."""
    uv = rng.random((9, 2)) if inside else rng.uniform(-2, 3, (9, 2))
    texture = np.rint(rng.random((*size, 3)) * 255) / 255
    uv_faces = np.array([[0, 1, 2], [3, 1, 4], [5, 6, 7], [2, 7, 0]])
    return dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=uv, uv_faces=uv_faces, texture=texture, objects=[0, 0, 2, 2])


@pytest.fixture
def obj(tmp_path):
    """Write OBJ text (and other files of the folder) and return the path of the OBJ."""

    def write(text, **others):
        for name, content in others.items():
            target = tmp_path / name.replace("__", ".")
            if isinstance(content, str):
                target.write_text(content)
            elif isinstance(content, bytes):
                target.write_bytes(content)
            else:
                iio.imwrite(target, content)
        (tmp_path / "mesh.obj").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "mesh.obj"

    return write


def noise(rng, height=8, width=6):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- Construction -----------------------------------------------------------------------------------------------


def test_from_numbers(f32, rng):
    uv, texture = rng.random((5, 2)), rng.random((3, 2, 3))
    uv_faces = [[0, 1, 2], [2, 1, 4], [4, 3, 2], [0, 0, 0]]
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=uv, uv_faces=uv_faces, texture=texture, objects=[3, 0, 0, 1])
    assert tuple(mesh.uv.shape) == (1, 5) and tuple(mesh.texture.shape) == (1, 3, 2) and tuple(mesh.objects.shape) == (4,)
    assert mesh.uv.element_shape == (2,) and mesh.texture.element_shape == (3,) and not mesh.objects.element_shape
    assert np.allclose(values(mesh.uv)[0], uv) and np.allclose(values(mesh.texture)[0], texture)
    assert values(mesh.uv_faces).tolist() == uv_faces and values(mesh.objects).tolist() == [3, 0, 0, 1]
    assert mesh.uv.grad is not None and mesh.texture.grad is not None
    assert mesh.colors is None and mesh.texels is None and mesh.colored


def test_without_texture_coordinates(f32):
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES)
    assert mesh.uv is mesh.uv_faces is mesh.texture is None and values(mesh.objects).tolist() == [0] * 4 and not mesh.colored


def test_arrays_are_taken_as_they_are_and_batches(f32, rng):
    uv, uv_faces, texture = dr.array(rng.random((2, 4, 2))), dr.array(TETRAHEDRON_FACES), dr.array(rng.random((2, 5, 3, 3)))
    objects = dr.array([0, 1, 2, 3], vectors=False)
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=uv, uv_faces=uv_faces, texture=texture, objects=objects)
    assert mesh.uv is uv and mesh.uv_faces is uv_faces and mesh.texture is texture and mesh.objects is objects
    assert values(dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, objects=dr.array([0, 1, 2, 3])).objects).tolist() == [0, 1, 2, 3]  # one ivec4
    assert tuple(dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=rng.random((4, 2)), texture=rng.random((2, 5, 3, 3))).texture.shape) == (2, 5, 3)


def test_uv_faces_are_the_faces_where_left_out(f32, rng):
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, rng.random((4, 3)), uv=rng.random((4, 2)))
    assert mesh.uv_faces is mesh.faces and mesh.colors is not None


UV, TEXTURE = np.zeros((4, 2)), np.zeros((2, 2, 3))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"texture": TEXTURE}, "texture: expected uv with it, got none"), ({"uv_faces": TETRAHEDRON_FACES}, "uv_faces: expected uv with it"),
        ({"uv": np.zeros((5, 2))}, "uv: expected one per vertex, 4, where there are no uv_faces, got 5; give uv_faces"),
        ({"uv": np.zeros((4, 3))}, r"uv: expected numbers of shape \(T, 2\) or \(B, T, 2\)"), ({"uv": np.zeros((0, 2))}, "uv: expected"),
        ({"uv": UV, "uv_faces": [[0, 1, 4]] * 4}, r"uv_faces: expected indices from 0 to 3, got \[0, 1, 4\] in face 0"),
        ({"uv": UV, "uv_faces": [[0, -1, 2]] * 4}, "uv_faces: expected indices from 0"),
        ({"uv": UV, "uv_faces": [[0, 1, 2]] * 3}, "uv_faces: expected one per face, 4, got 3"),
        ({"uv": UV, "uv_faces": np.zeros((4, 3))}, "uv_faces: expected whole numbers"),
        ({"uv": UV, "texture": np.zeros((2, 2))}, r"texture: expected numbers of shape \(H, W, 3\) or \(B, H, W, 3\)"),
        ({"uv": UV, "texture": np.zeros((2, 2, 4))}, "texture: expected numbers"), ({"uv": UV, "texture": np.zeros((0, 2, 3))}, "texture"),
        ({"uv": UV, "texture": np.zeros((2, 2, 3), np.uint8)}, "texture: expected floats from 0 to 1, got uint8; divide an 8-bit image by 255"),
        ({"uv": UV, "texture": TEXTURE, "colors": TETRAHEDRON}, "colors and texture: expected one of the two, got both"),
        ({"uv": UV, "texture": TEXTURE, "colors": TETRAHEDRON, "texels": np.zeros((4, 1, 1, 3))}, "colors and texels and texture: .*three, got all"),
        ({"uv": np.zeros((2, 4, 2)), "texture": np.zeros((3, 2, 2, 3))}, "expected a batch of 1 or 3, got 2"),
        ({"objects": [0, 1]}, r"objects: expected a whole number from 0 for each of 4 faces, got shape \(2,\)"),
        ({"objects": [0, 1, 2, -1]}, "objects"), ({"objects": np.zeros(4)}, "objects.*float64"), ({"objects": [0, 0, 0, 2**31]}, "objects"),
    ],
)  # fmt: skip
def test_bad_numbers(given, message, f32):
    with pytest.raises(ValueError, match=message):
        dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, **given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"uv": np.zeros((4, 2))}, r"uv: expected \(B, T\) of vec2, got shape \(4,\) of vec2"),
        ({"uv": np.zeros((1, 4, 3))}, "uv: expected"),
        ({"uv": np.zeros((1, 4, 2)), "texture": np.zeros((2, 2, 3))}, r"texture: expected \(B, H, W\) of vec3"),
        ({"uv": np.zeros((1, 4, 2)), "uv_faces": TETRAHEDRON_FACES + 1}, "uv_faces: expected indices from 0 to 3"),
    ],
)
def test_bad_arrays(given, message, f32):
    with pytest.raises(ValueError, match=message):
        dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, **{name: dr.array(x) for name, x in given.items()})


def test_normalized_keeps_everything(f32, rng):
    mesh = seamed(rng)
    copy = mesh.normalized()
    assert all(getattr(copy, name) is getattr(mesh, name) for name in ("faces", "uv", "uv_faces", "texture", "objects"))


def test_incidence_of_uv_faces(f32, rng):
    mesh = seamed(rng)
    count = mesh.uv.shape[1]
    incidence = topology.corner_incidence(mesh.uv_faces, count)
    assert topology.corner_incidence(mesh.uv_faces, count) is incidence
    offsets, slots, corners = values(incidence.offsets), values(incidence.slots), values(mesh.uv_faces).reshape(-1)
    assert [slots[offsets[t] : offsets[t + 1]].tolist() for t in range(count)] == [np.flatnonzero(corners == t).tolist() for t in range(count)]
    with pytest.raises(ValueError, match="faces: expected indices from 0 to 2, got"):
        topology.corner_incidence(mesh.uv_faces, 3)


# --- OBJ files --------------------------------------------------------------------------------------------------


def test_one_material_is_kept_as_it_is(obj, rng):
    """The file's v is up, the mesh's down; an entry that no face uses stays."""
    image = noise(rng)
    text = "mtllib m.mtl\n" + TRIANGLE + "vt 0 0\nvt 0.25 0.75\nvt 9 9\nvt 1.5 -2\nusemtl a\nf 1/1 2/2 3/4\nf 2/1 1/4 3/2\n"
    mesh = io.read(obj(text, m__mtl="newmtl a\nmap_Kd t.png", t__png=image), "uv")
    np.testing.assert_array_equal(mesh.uv, [[0, 1], [0.25, 0.25], [9, -8], [1.5, 3]])
    np.testing.assert_array_equal(mesh.uv_faces, [[0, 1, 3], [0, 3, 1]])
    np.testing.assert_array_equal(mesh.texture, image / 255)
    assert mesh.texels is mesh.colors is None and mesh.uv_faces.dtype == np.int32


def test_scale_and_offset_of_one_material(obj):
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3"
    mesh = io.read(obj(text, m__mtl="newmtl a\nmap_Kd -s 0.5 0.25 -o 0.25 0.5 t.png", t__png=np.zeros((1, 1, 3), np.uint8)), "uv")
    np.testing.assert_allclose(mesh.uv, [[0.25, 0.5], [0.75, 0.5], [0.25, 0.25]])


def test_one_color_is_one_texel(obj):
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3"
    mesh = io.read(obj(text, m__mtl="newmtl a\nKd 1 0.5 0"), "uv")
    np.testing.assert_array_equal(mesh.texture, [[[1, 0.5, 0]]])
    np.testing.assert_array_equal(mesh.uv, [[0, 1], [1, 1], [0, 0]])


def test_uv_without_material(obj):
    mesh = io.read(obj(TRIANGLE + UVS + "f 1/1 2/2 3/3"), "uv")
    assert mesh.texture is None and len(mesh.uv) == 3
    assert io.read(obj(TRIANGLE + "f 1 2 3"), "uv").uv is None
    with pytest.warns(UserWarning, match="1 of 2 faces have no 'vt' and no material, so texture coordinates are left out"):
        assert io.read(obj(TRIANGLE + UVS + "f 1/1 2/2 3/3\nf 1 2 3"), "uv").uv is None
    for texture in ("surface", "vertex", None):
        assert io.read(obj(TRIANGLE + UVS + "f 1/1 2/2 3/3"), texture).uv is None


def test_objects(obj):
    text = TRIANGLE + "f 1 2 3\no b\ng x\nf 1 2 3\nf 1 2 3\no empty\no a c\nf 1 2 3\no b\nusemtl m\nf 1 2 3\n"
    for texture in ("uv", "surface", None):
        np.testing.assert_array_equal(io.read(obj(text), texture).objects, [0, 1, 1, 2, 1])
    np.testing.assert_array_equal(io.read(obj("o only\n" + TRIANGLE + "f 1 2 3"), "uv").objects, [0])


@pytest.mark.parametrize("objects, read_back", [([0, 0, 0, 0], [0, 0, 0, 0]), ([0, 1, 0, 2], [0, 1, 0, 2]), ([5, 5, 0, 5], [0, 0, 1, 0])])
def test_objects_come_back_by_their_first_faces(tmp_path, objects, read_back):
    io.write(tmp_path / "mesh.obj", TETRAHEDRON, TETRAHEDRON_FACES, objects=np.array(objects, np.uint8))
    mesh = io.read(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(mesh.objects, read_back)
    np.testing.assert_array_equal(mesh.faces, TETRAHEDRON_FACES)


def several_materials(rng):
    images = {name: noise(rng, *size) for name, size in {"a": (8, 6), "b": (3, 17), "c": (1, 1)}.items()}
    text = "mtllib m.mtl\n" + TRIANGLE + "".join(f"vt {u} {v}\n" for u, v in rng.random((6, 2)).round(4)) + UVS
    faces = {"a": ["1/1 2/2 3/3", "1/2 2/3 3/4"], "b": ["1/1 2/2 3/3", "2/5 3/6 1/7"], "c": ["1/7 2/8 3/9"], "d": ["1/1 2/2 3/3", "1 2 3"]}
    for name, lines in faces.items():
        text += f"usemtl {name}\n" + "".join(f"f {line}\n" for line in lines)
    library = "".join(f"newmtl {name}\nmap_Kd {name}.png\n" for name in images) + "newmtl d\nKd 0.1 0.2 0.3\n"
    return text, {"m__mtl": library, **{f"{name}__png": image for name, image in images.items()}}, images


def test_several_materials_show_the_same_from_one_atlas(obj, rng):
    text, others, images = several_materials(rng)
    path = obj("f 1/1 2/2 3/3\n" + text, **others)
    mesh, plain = io.read(path, "uv"), io.read(path, None)
    np.testing.assert_array_equal(mesh.vertices, plain.vertices)
    np.testing.assert_array_equal(mesh.faces, plain.faces)
    numbers = np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("vt")], float) * [1, -1] + [0, 1]
    got = reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces, POINTS)
    corners = [[0, 1, 2], [0, 1, 2], [1, 2, 3], [0, 1, 2], [4, 5, 6], [6, 7, 8]]
    for f, name in enumerate([None, "a", "a", "b", "b", "c"]):
        expected = reference.colors_at(images[name] / 255, numbers, np.array([corners[f]]), POINTS)[0] if name else np.full((5, 3), 0.5)
        np.testing.assert_allclose(got[f], expected, atol=1e-6)
    np.testing.assert_allclose(got[6:], np.broadcast_to([0.1, 0.2, 0.3], (2, 5, 3)), atol=1e-6)
    # Corners that were joined on one material stay so, between materials they come apart.
    assert mesh.uv_faces[1, 1] == mesh.uv_faces[2, 0] and mesh.uv_faces[1, 0] != mesh.uv_faces[3, 0]
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1


def test_materials_that_share_an_image_share_a_texture(obj, rng):
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 2/2 3/3\n"
    image = noise(rng)
    mesh = io.read(obj(text, m__mtl="newmtl a\nmap_Kd t.png\nnewmtl b\nmap_Kd t.png", t__png=image), "uv")
    np.testing.assert_array_equal(mesh.texture, image / 255)


def test_a_face_without_uv_gets_a_block(obj, rng):
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3\nf 1 2 3\n"
    path = obj(text, m__mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png", t__png=noise(rng))
    with pytest.warns(UserWarning, match="1 faces have a texture but no 'vt'"):
        mesh = io.read(path, "uv")
    np.testing.assert_allclose(reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces[1:], POINTS)[0], np.tile([1, 0, 0], (5, 1)), atol=1e-6)


def repeated(obj, rng, corners, option="", size=(8, 6)):
    """A mesh of one plain face and faces with the texture coordinates `corners` (F, 3, 2), v down, and the image."""
    image = noise(rng, *size)
    text = (
        "mtllib m.mtl\n" + TRIANGLE + "usemtl b\nf 1 2 3\nusemtl a\n" + "".join(f"vt {u!r} {1 - v!r}\n" for u, v in corners.reshape(-1, 2).tolist())
    )
    text += "".join(f"f 1/{3 * f + 1} 2/{3 * f + 2} 3/{3 * f + 3}\n" for f in range(len(corners)))
    return obj(text, m__mtl=f"newmtl a\nmap_Kd {option} t.png\nnewmtl b\nKd 0 1 0", t__png=image), image / 255


@pytest.mark.parametrize("low, high, wrap", [(-1.7, 1.9, "repeat"), (2.1, 2.9, "repeat"), (-0.9, 2.5, "clamp"), (1.2, 1.8, "clamp")])
def test_repeating_images(obj, rng, low, high, wrap):
    corners = rng.uniform(low, high, (7, 3, 2))
    path, image = repeated(obj, rng, corners, "-clamp on" if wrap == "clamp" else "")
    mesh = io.read(path, "uv")
    at = np.einsum("nk,fkc->fnc", POINTS, corners)
    # At the outermost border of the atlas image the border texel goes on where a repeating image would start again.
    inner = slice(None) if wrap == "clamp" else (np.abs(at - at.round()) > 0.1).all(axis=-1)
    expected = np.array([[reference.sample(image, u, v, wrap) for u, v in face] for face in at])
    np.testing.assert_allclose(reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces[1:], POINTS)[inner], expected[inner], atol=1e-5)


def test_a_coordinate_of_one_is_the_far_edge(obj, rng):
    for far in (1.0, 1.00001):
        path, image = repeated(obj, rng, np.full((2, 3, 2), [far, 0.0]))
        mesh = io.read(path, "uv")
        got = reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces[1:], POINTS)
        np.testing.assert_allclose(got, np.broadcast_to(image[0, -1], got.shape), atol=1e-5)


def test_faces_far_apart_are_moved_by_whole_tiles(obj, rng):
    corners = rng.uniform(0.1, 0.9, (5, 3, 2)) + rng.integers(-50, 50, (5, 1, 2))
    corners[0] += [0.5, 0]  # across a border
    path, image = repeated(obj, rng, corners)
    mesh = io.read(path, "uv")
    centers = np.full((1, 3), 1 / 3)
    expected = np.array([reference.sample(image, u, v) for u, v in corners.mean(axis=1)])
    np.testing.assert_allclose(reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces[1:], centers)[:, 0], expected, atol=1e-5)
    assert mesh.texture.shape[1] < 60


def test_a_face_over_too_many_tiles_warns(obj, rng):
    path, _ = repeated(obj, rng, np.array([[[0, 0], [9.0, 0], [0, 1]], [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]]))
    with pytest.warns(UserWarning, match="1 faces repeat an image over more tiles than an atlas can hold; they show 4 x 1 at most"):
        mesh = io.read(path, "uv")
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    path, image = repeated(obj, rng, np.array([[[0, 0], [9.0, 0], [0, 1]]]), "-clamp on")
    with pytest.warns(UserWarning, match="they are clipped"):
        io.read(path, "uv")
    path, image = repeated(obj, rng, np.array([[[0, 0], [1.5, 0], [0, 1]]]), size=(4, 3000))  # 2 x 3000 texels would be too many
    with pytest.warns(UserWarning, match="1 x 1 at most"):
        assert io.read(path, "uv").texture.shape[1] < 3100


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_an_atlas_does_not_bleed_up_to_mip_level_3(rng, level):
    colors = rng.random((12, 3))
    sides = rng.integers(1, 40, (12, 2))
    texture, starts = atlas.pack_images([np.broadcast_to(color, (*side, 3)) for color, side in zip(colors, sides, strict=True)])
    size = np.array(texture.shape[1::-1])
    assert (starts % 8 == 0).all() and (size % 8 == 0).all()
    for _ in range(level):
        texture = reference.mip(texture)
    for color, start, side in zip(colors, starts, sides[:, ::-1], strict=True):
        for corner in np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.4, 0.6]]):
            np.testing.assert_allclose(reference.sample(texture, *((start + corner * side) / size), "clamp"), color, atol=1e-6)


def test_atlas_packing_keeps_every_texel_and_its_area(rng):
    images = [rng.random((*side, 3)) for side in rng.integers(1, 60, (40, 2))]
    texture, starts = atlas.pack_images(images)
    for image, (x, y) in zip(images, starts, strict=True):
        np.testing.assert_array_equal(texture[y : y + image.shape[0], x : x + image.shape[1]], image.astype(np.float32))
    padded = sum((image.shape[0] + 23) * (image.shape[1] + 23) for image in images)
    assert texture.shape[0] * texture.shape[1] < 1.5 * padded
    with pytest.raises(ValueError, match="need a texture of .* above 16384; make them smaller"):
        atlas.pack_images([np.broadcast_to(0.0, (1, 17000, 3))])


# --- Written and read again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
def test_an_obj_comes_back(f32, rng, tmp_path, inside):
    mesh = seamed(rng, inside=inside)
    mesh.save(tmp_path / "a mesh.obj")
    back = dr.Mesh.load(tmp_path / "a mesh.obj", texture="uv")
    for name in ("vertices", "faces", "uv", "uv_faces", "texture"):
        np.testing.assert_array_equal(values(getattr(back, name)), values(getattr(mesh, name)), err_msg=name)
    assert values(back.objects).tolist() == [0, 0, 1, 1]  # numbered by their first faces
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a mesh.mtl", "a mesh.obj", "a mesh.png"]


def test_uv_without_texture_come_back(f32, rng, tmp_path):
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, rng.random((4, 3)), uv=rng.random((4, 2)))
    mesh.save(tmp_path / "mesh.obj")
    back = dr.Mesh.load(tmp_path / "mesh.obj", texture="uv")
    np.testing.assert_array_equal(values(back.uv), values(mesh.uv))
    np.testing.assert_allclose(values(back.colors), values(mesh.colors), atol=1e-7)
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.obj"]


def test_textures_are_written_clipped_in_8_bits_without_gamma(f32, rng, tmp_path):
    texture = rng.uniform(-0.3, 1.3, (5, 4, 3))
    dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=rng.random((4, 2)), texture=texture).save(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(iio.imread(tmp_path / "mesh.png"), np.floor(texture.astype(np.float32).clip(0, 1) * 255 + 0.5))
    assert np.abs(values(dr.Mesh.load(tmp_path / "mesh.obj", texture="uv").texture)[0] - texture.clip(0, 1)).max() <= 0.5001 / 255


def test_a_glb_comes_back(f32, rng, tmp_path):
    """glTF splits vertices at seams; welded again they are in their order."""
    mesh = seamed(rng)
    mesh.save(tmp_path / "mesh.glb")
    back = dr.Mesh.load(tmp_path / "mesh.glb", texture="uv")
    np.testing.assert_array_equal(values(back.vertices), values(mesh.vertices))
    np.testing.assert_array_equal(values(back.faces), values(mesh.faces))
    np.testing.assert_array_equal(values(back.texture), values(mesh.texture))
    corners, expected = (values(x.uv)[0][values(x.uv_faces)] for x in (back, mesh))
    np.testing.assert_allclose(corners, expected, atol=1.2e-7)
    pairs = np.stack([values(mesh.faces), values(mesh.uv_faces)], axis=-1).reshape(-1, 2)
    assert back.uv.shape[1] == len(np.unique(pairs, axis=0)) < pairs.size // 2  # no more than glTF needs
    assert dr.Mesh.load(tmp_path / "mesh.glb").vertices.shape[1] > 4  # without the texture as the file has them
    dr.Mesh.load(tmp_path / "mesh.glb").save(tmp_path / "plain.glb")


def test_vertices_of_no_face_stay_in_a_glb(f32, rng, tmp_path):
    vertices = rng.random((6, 3))
    dr.Mesh(vertices, [[1, 4, 2]], uv=rng.random((3, 2)), uv_faces=[[2, 0, 1]], texture=rng.random((2, 2, 3))).save(tmp_path / "mesh.glb")
    back = dr.Mesh.load(tmp_path / "mesh.glb", texture="uv")
    np.testing.assert_array_equal(values(back.vertices)[0], vertices.astype(np.float32))
    np.testing.assert_array_equal(values(back.faces), [[1, 4, 2]])


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_other_software_sees_the_same_colors(suffix, f32, rng, tmp_path):
    """trimesh has v up, as an OBJ."""
    import trimesh

    mesh = seamed(rng)
    mesh.save(tmp_path / f"mesh{suffix}")
    seen = trimesh.load_mesh(tmp_path / f"mesh{suffix}", process=False)
    material = seen.visual.material
    image = np.asarray((material.image if suffix == ".obj" else material.baseColorTexture).convert("RGB")) / 255
    uv = np.asarray(seen.visual.uv)
    centers = np.full((1, 3), 1 / 3)
    theirs = reference.colors_at(image, uv * [1, -1] + [0, 1], np.asarray(seen.faces), centers)[:, 0]
    ours = reference.colors_at(values(mesh.texture)[0], values(mesh.uv)[0], values(mesh.uv_faces), centers)[:, 0]
    # Faces are told by their centers, whatever their order.
    by_place = [np.lexsort(np.asarray(x).round(5).T) for x in (seen.triangles_center, TETRAHEDRON[TETRAHEDRON_FACES].mean(axis=1))]
    np.testing.assert_allclose(theirs[by_place[0]], ours[by_place[1]], atol=1e-5)
    assert ours.std(axis=0).min() > 0.01
    if suffix == ".glb":
        assert material.metallicFactor == 0


def test_a_ply_gets_the_means_of_the_corners(f32, rng, tmp_path):
    mesh = seamed(rng)
    mesh.save(tmp_path / "mesh.ply")
    at_corners = reference.colors_at(values(mesh.texture)[0], values(mesh.uv)[0], values(mesh.uv_faces), np.eye(3))
    expected = np.array([at_corners[TETRAHEDRON_FACES == v].mean(axis=0) for v in range(4)])
    np.testing.assert_allclose(values(dr.Mesh.load(tmp_path / "mesh.ply").colors)[0], expected, atol=0.501 / 255)
    for suffix in (".off", ".stl"):
        mesh.save(tmp_path / f"mesh{suffix}")
        assert not dr.Mesh.load(tmp_path / f"mesh{suffix}", texture="uv").colored


def test_a_batch_of_textures_cannot_be_saved(f32, rng, tmp_path):
    mesh = dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=rng.random((4, 2)), texture=rng.random((2, 3, 3, 3)))
    with pytest.raises(ValueError, match="got a batch of 2"):
        mesh.save(tmp_path / "mesh.obj")
    for suffix in (".obj", ".ply"):
        with pytest.raises(ValueError, match="uv: expected finite numbers"):
            dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=np.full((4, 2), np.nan), texture=np.zeros((2, 2, 3))).save(tmp_path / f"mesh{suffix}")
    with pytest.raises(ValueError, match="texture must be finite"):
        dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, uv=rng.random((4, 2)), texture=np.full((2, 2, 3), np.nan)).save(tmp_path / "mesh.glb")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given, message",
    [
        ({"uv": UV}, "uv and uv_faces must come together"),
        ({"texture": TEXTURE}, "must come together, and with a texture"),
        ({"uv": UV, "uv_faces": TETRAHEDRON_FACES[:3]}, "uv_faces must be one per face, 4, got 3"),
        ({"uv": UV[:3], "uv_faces": TETRAHEDRON_FACES}, r"uv_faces must be in \[0, 3\)"),
        ({"uv": UV, "uv_faces": TETRAHEDRON_FACES, "texture": np.zeros((2, 3))}, "texture must be numbers of shape"),
        ({"uv": UV, "uv_faces": TETRAHEDRON_FACES, "texture": TEXTURE, "texels": np.zeros((4, 1, 1, 3))}, "must not come together"),
        ({"objects": [0.5] * 4}, "objects must be integers"),
    ],
)
def test_bad_arrays_write_nothing(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        io.write(tmp_path / "mesh.obj", TETRAHEDRON, TETRAHEDRON_FACES, **given)
    assert not list(tmp_path.iterdir())


# --- GLB files of others ----------------------------------------------------------------------------------------


def textured_part(rng, color, shift=0.0, image=True):
    import trimesh

    texture = Image.fromarray(noise(rng)) if image else None
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture, baseColorFactor=color)
    visual = trimesh.visual.TextureVisuals(uv=rng.random((4, 2)), material=material)
    return trimesh.Trimesh(TETRAHEDRON + shift, TETRAHEDRON_FACES, visual=visual, process=False)


def test_a_glb_of_several_materials(rng, tmp_path):
    import trimesh

    parts = {
        "a": textured_part(rng, [255] * 4),
        "b": textured_part(rng, [51, 102, 255, 255], 2.0),
        "c": textured_part(rng, [0, 255, 0, 255], 4.0, image=False),
        "d": trimesh.Trimesh(TETRAHEDRON, TETRAHEDRON_FACES, process=False),
    }
    scene = trimesh.Scene()
    for name, part in parts.items():
        scene.add_geometry(part, node_name=name, geom_name=name)
    scene.export(str(tmp_path / "mesh.glb"))
    mesh = io.read(tmp_path / "mesh.glb", "uv")
    assert mesh.vertices.shape == (16, 3) and len(set(mesh.objects.tolist())) == 4  # equal positions of two objects stay apart
    got = reference.colors_at(mesh.texture, mesh.uv, mesh.uv_faces, POINTS)
    seen = set()
    for k in range(4):
        faces = np.flatnonzero(mesh.objects == k)
        shift = mesh.vertices[mesh.faces[faces]].min()
        name = {2.0: "b", 4.0: "c"}.get(float(shift)) or ("d" if np.allclose(got[faces], got[faces][0, 0]) else "a")
        seen.add(name)
        visual = parts[name].visual
        if name in "ab":
            image = np.asarray(visual.material.baseColorTexture) / 255 * (visual.material.baseColorFactor[:3] / 255)
            expected = reference.colors_at(image, np.asarray(visual.uv) * [1, -1] + [0, 1], TETRAHEDRON_FACES, POINTS)
            np.testing.assert_allclose(got[faces], expected, atol=1e-5)
        elif name == "c":
            np.testing.assert_allclose(got[faces], np.broadcast_to([0, 1, 0], got[faces].shape), atol=1e-6)
    assert seen == set("abcd")


def glb_parts(data):
    """The header and the binary chunk of a GLB."""
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length]), data[20 + length :]


def glb_bytes(header, binary):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(body)) + body


@pytest.mark.parametrize("content", ["deep", "corrupt"])
def test_images_in_a_glb(rng, tmp_path, content):
    """16 bits keep their precision; what cannot be decoded gives the color of the material."""
    io.write(tmp_path / "mesh.glb", TETRAHEDRON, TETRAHEDRON_FACES, uv=rng.random((4, 2)), uv_faces=TETRAHEDRON_FACES, texture=np.zeros((2, 2, 3)))
    header, binary = glb_parts((tmp_path / "mesh.glb").read_bytes())
    deep = rng.integers(0, 65536, (20, 25, 3), dtype=np.uint16)
    image = reference.png(deep)
    if content == "corrupt":
        image = image[:100] + bytes(200) + image[300:]
    image += b"\0" * (-len(image) % 4)
    start = len(binary) - 8
    header["bufferViews"][header["images"][0]["bufferView"]] = {"buffer": 0, "byteOffset": start, "byteLength": len(image)}
    header["buffers"][0]["byteLength"] = start + len(image)
    binary = struct.pack("<I", start + len(image)) + binary[4:] + image
    (tmp_path / "mesh.glb").write_bytes(glb_bytes(header, binary))
    if content == "deep":
        np.testing.assert_allclose(io.read(tmp_path / "mesh.glb", "uv").texture, deep / 65535, atol=1e-12)
    else:
        with pytest.warns(UserWarning, match="an image cannot be read"):
            np.testing.assert_array_equal(io.read(tmp_path / "mesh.glb", "uv").texture, [[[1, 1, 1]]])


def test_a_glb_without_a_texture_is_read_as_ever(rng, tmp_path):
    io.write(tmp_path / "mesh.glb", TETRAHEDRON[[0, 1, 2, 3, 0]], TETRAHEDRON_FACES, rng.random((5, 3)))
    mesh, plain = io.read(tmp_path / "mesh.glb", "uv"), io.read(tmp_path / "mesh.glb")
    np.testing.assert_array_equal(mesh.vertices, plain.vertices)  # not welded
    np.testing.assert_array_equal(mesh.colors, plain.colors)
    assert mesh.uv is None and mesh.texture is None


def test_the_primitives_of_a_glb_mesh_are_one_object(rng, tmp_path):
    """Two materials on one mesh: its vertices are welded across them."""
    import trimesh

    scene = trimesh.Scene({"a": textured_part(rng, [255] * 4), "b": textured_part(rng, [255] * 4)})
    header, binary = glb_parts(scene.export(file_type="glb"))
    first, second = header["meshes"]
    header["meshes"] = [{"name": "both", "primitives": first["primitives"] + second["primitives"]}]
    nodes = [node for node in header["nodes"] if node.get("mesh") != 1]
    header["nodes"] = [{k: v for k, v in node.items() if k != "children"} for node in nodes if "mesh" in node]
    header["scenes"] = [{"nodes": [0]}]
    (tmp_path / "mesh.glb").write_bytes(glb_bytes(header, binary))
    mesh = io.read(tmp_path / "mesh.glb", "uv")
    assert mesh.vertices.shape == (4, 3) and mesh.objects.tolist() == [0] * 8


# --- Images -----------------------------------------------------------------------------------------------------


def load_texture(obj, **image):
    ((name, content),) = image.items()
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3"
    return io.read(obj(text, m__mtl=f"newmtl a\nKd 1 0 0\nmap_Kd {name.replace('__', '.')}", **image), "uv").texture


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_keep_their_precision(obj, rng, channels):
    deep = rng.integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    texture = load_texture(obj, t__png=reference.png(deep))
    np.testing.assert_allclose(texture, np.broadcast_to(deep[..., :3] if channels > 2 else deep[..., :1], (7, 5, 3)) / 65535, atol=1e-12)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "1", "RGBA", "RGB"])
def test_kinds_of_images(obj, rng, tmp_path, mode):
    """Alpha is dropped: what is transparent keeps its color."""
    image = noise(rng)
    if mode == "1":
        pixels = image[..., 0] > 127
        picture, expected = Image.fromarray(pixels), np.repeat(pixels[..., None], 3, axis=2).astype(float)
    elif mode in ("L", "LA"):
        picture = Image.fromarray(image[..., 0] if mode == "L" else image[..., :2])
        expected = np.repeat(image[..., :1], 3, axis=2) / 255
    elif mode in ("P", "PA"):
        picture = Image.fromarray(image).quantize(16)
        expected = np.asarray(picture.convert("RGB")) / 255
    else:
        picture = Image.fromarray(np.dstack([image, rng.integers(0, 256, image.shape[:2], np.uint8)]) if mode == "RGBA" else image)
        expected = image / 255
    picture.save(tmp_path / "p.png", **({"transparency": 3} if mode == "PA" else {}))
    np.testing.assert_array_equal(load_texture(obj, t__png=(tmp_path / "p.png").read_bytes()), expected)


@pytest.mark.parametrize("content", [b"", b"junk", "half", "flipped"])
def test_a_corrupt_image_gives_the_plain_color(obj, rng, content):
    whole = reference.png(rng.integers(0, 65536, (20, 20, 3), dtype=np.uint16))
    content = {"half": whole[: len(whole) // 2], "flipped": whole[:60] + bytes(64) + whole[124:]}.get(content, content)
    with pytest.warns(UserWarning, match="cannot be read"):
        np.testing.assert_array_equal(load_texture(obj, t__png=content), [[[1, 0, 0]]])


def test_a_missing_image_gives_the_plain_color(obj):
    with pytest.warns(UserWarning, match="no file 'none.png'"):
        text = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3"
        np.testing.assert_array_equal(io.read(obj(text, m__mtl="newmtl a\nKd 1 0 0\nmap_Kd none.png"), "uv").texture, [[[1, 0, 0]]])


# --- Malformed files --------------------------------------------------------------------------------------------


def read_or_refuse(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            mesh = io.read(path, "uv")
        except ValueError:
            return
    assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices) and len(mesh.objects) == len(mesh.faces)
    if mesh.uv is not None:
        assert np.isfinite(mesh.uv).all() and mesh.uv_faces.min() >= 0 and mesh.uv_faces.max() < len(mesh.uv)
        assert mesh.uv_faces.shape == mesh.faces.shape
    if mesh.texture is not None:
        assert mesh.texture.min() >= 0 and mesh.texture.max() <= 1


NUMBERS = st.sampled_from(["0", "1", "-1", "0.5", "nan", "inf", "-inf", "1e38", "-1e308", "1e999", "9" * 30, "1_0", "", "4.0000001", "x"])
INDICES = st.sampled_from(["", "1", "2", "3", "4", "0", "-1", "-3", "-9", "99999999999999999999", "1.5", "nan", "/", "1/1"])


@FUZZ
@given(
    uvs=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4),
    corners=st.lists(INDICES, min_size=6, max_size=6),
    wild=st.booleans(),
    option=st.sampled_from(["", "-clamp on", "-s 1e30 2", "-o 1e308 0"]),
)
def test_malformed_texture_coordinates(tmp_path, uvs, corners, wild, option):
    iio.imwrite(tmp_path / "m.png", np.zeros((2, 3, 3), np.uint8))
    (tmp_path / "m.mtl").write_text(f"newmtl a\nmap_Kd {option} m.png\nnewmtl b\nKd 0 1 0\n")
    text = "mtllib m.mtl\n" + TRIANGLE + UVS + "vt 1e5 -3\n" + "".join(f"vt {u} {v}\n" for u, v in uvs) + "usemtl a\nf 1/1 2/2 3/4\n"
    if wild:
        text += f"f 1/{corners[0]} 2/{corners[1]} 3/{corners[2]}\nusemtl b\nf 1/{corners[3]} 2/{corners[4]} 3/{corners[5]}\n"
    (tmp_path / "mesh.obj").write_text(text)
    read_or_refuse(tmp_path / "mesh.obj")


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".obj", ".glb", ".png", ".mtl"])
def test_truncated_and_mutated_files(tmp_path, suffix, data):
    name = {".glb": "mesh.glb"}.get(suffix, "mesh.obj")
    generator = np.random.default_rng(0)
    uv, texture = generator.random((5, 2)), generator.random((4, 4, 3))
    io.write(tmp_path / name, TETRAHEDRON, TETRAHEDRON_FACES, uv=uv, uv_faces=TETRAHEDRON_FACES + 1, texture=texture)
    target = tmp_path / f"mesh{suffix}"
    content = bytearray(target.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    target.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    read_or_refuse(tmp_path / name)


# --- Real data --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SPOT.is_file(), reason="the spot mesh is not in ../shared/data")
def test_spot(f32, tmp_path):
    mesh = dr.Mesh.load(SPOT, texture="uv")
    assert mesh.vertices.shape == (1, 2930) and mesh.uv.shape == (1, 3225) and mesh.texture.shape == (1, 1024, 1024)
    surface = io.read(SPOT, texture_resolution=1).texels[:, 0, 0]
    centers = reference.colors_at(values(mesh.texture)[0], values(mesh.uv)[0], values(mesh.uv_faces)[::50], np.full((1, 3), 1 / 3))[:, 0]
    np.testing.assert_allclose(centers, surface[::50], atol=1e-4)
    mesh.save(tmp_path / "spot.glb")
    back = dr.Mesh.load(tmp_path / "spot.glb", texture="uv")
    np.testing.assert_array_equal(values(back.faces), values(mesh.faces))
    np.testing.assert_array_equal(values(back.texture), values(mesh.texture))
