"""Mesh files: what OBJ allows and what it does not, materials, the texel atlas, and the formats read through trimesh."""

import os
import time
import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from fuzz import MEGABYTES, changed_bytes, contained, fuzz, peak_megabytes, png_checked_anew
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

from taichi_dr import io
from taichi_dr.io import textures
from taichi_dr.io.texels import bake_atlas, sample_image, texel_barycentrics

SPOT = Path(__file__).parents[2] / "shared/data/spot/spot_triangulated.obj"
QUAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
UVS = "vt 0 0\nvt 1 0\nvt 0 1\n"
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


@pytest.fixture
def obj(tmp_path):
    """Write OBJ text (and other files of the folder) and return the path of the OBJ."""

    def write(text, **others):
        for name, content in others.items():
            target = tmp_path / name.replace("__", ".")
            if isinstance(content, str):
                target.write_text(content)
            else:
                iio.imwrite(target, content)
        path = tmp_path / "mesh.obj"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def checkered(height=8, width=6, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype=dtype, endpoint=True)


# Geometry


@pytest.mark.parametrize("corner", ["{0}", "{0}/{0}", "{0}//{0}", "{0}/{0}/{0}", "{0}/"])
def test_corner_forms(obj, corner):
    face = "f " + " ".join(corner.format(i) for i in (1, 2, 3))
    mesh = io.read(obj(TRIANGLE + UVS + "vn 0 0 1\n" * 3 + face))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.colors, mesh.texels) == (np.float64, np.int32, None, None)


@pytest.mark.parametrize("count", [3, 4, 7])
def test_polygons_become_fans(obj, count):
    text = "".join(f"v {i} {i * i} 0\n" for i in range(count)) + "f " + " ".join(str(i + 1) for i in range(count))
    expected = [[0, i, i + 1] for i in range(1, count - 1)]
    np.testing.assert_array_equal(io.read(obj(text)).faces, expected)


def test_negative_indices_count_back_from_the_line(obj):
    mesh = io.read(obj(TRIANGLE + "f -3 -2 -1\n" + TRIANGLE + "f -3 -2 -1\nf 1 -1 2\n"))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 4, 5], [0, 5, 1]])


def test_faces_may_precede_vertices(obj):
    np.testing.assert_array_equal(io.read(obj("f 1 2 3\n" + TRIANGLE)).faces, [[0, 1, 2]])


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_comments_and_unknown_keywords(obj, ending):
    lines = ["# header \\", "o thing", "g a b", "s off", "", "v 0 0 0 # origin", "\tv 1 0 0", "v\t0 1  0", "vp 1 2", "l 1 2", "p 1"]
    mesh = io.read(obj(ending.join([*lines, "curv2 x", "f 1 2 3 # face"])))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_continuation(obj, ending):
    mesh = io.read(obj((QUAD + "f 1 2 \\\n  3 \\\n  4\nf 1 \\\n 2 3").replace("\n", ending)))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])


def test_a_file_that_ends_in_a_continued_line(obj):
    for text in (TRIANGLE + "f 1 2 3\n\\", TRIANGLE + "f 1 2 \\\n3 \\", TRIANGLE + "f 1 2 3 \\"):
        np.testing.assert_array_equal(io.read(obj(text)).faces, [[0, 1, 2]])


def test_latin1_comment_and_byte_order_mark(obj):
    assert len(io.read(obj(b"# caf\xe9\n" + TRIANGLE.encode() + b"f 1 2 3")).faces) == 1
    assert len(io.read(obj(b"\xef\xbb\xbf" + TRIANGLE.encode() + b"f 1 2 3")).vertices) == 3


def test_vertex_colors(obj):
    mesh = io.read(obj("v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0.25 1\nf 1 2 3"))
    np.testing.assert_array_equal(mesh.colors, [[1, 0, 0], [0, 1, 0], [0, 0.25, 1]])


def test_w_is_no_color(obj):
    mesh = io.read(obj("v 0 0 0 1\nv 1 0 0 1\nv 0 1 0 1\nf 1 2 3"))
    assert mesh.colors is None
    assert mesh.vertices.shape == (3, 3)


def test_missing_vertex_colors_are_grey(obj):
    with pytest.warns(UserWarning, match="2 of 3 vertices have no color"):
        mesh = io.read(obj("v 0 0 0 1 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3"))
    np.testing.assert_array_equal(mesh.colors, [[1, 0, 0], [0.5] * 3, [0.5] * 3])


def test_vertex_colors_are_clipped(obj):
    with pytest.warns(UserWarning, match="clipped"):
        mesh = io.read(obj("v 0 0 0 2 0 0\nv 1 0 0 0 -1 0\nv 0 1 0 0 0 0\nf 1 2 3"))
    np.testing.assert_array_equal(mesh.colors, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_seam_keeps_vertices_and_their_order(obj):
    text = QUAD + "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvt 0.3 0.3\n" + "f 1/1 2/2 3/3\nf 1/5 3/1 4/4\n"
    for texture in ("surface", "vertex", None):
        mesh = io.read(obj("mtllib m.mtl\nusemtl a\n" + text, m__mtl="newmtl a\nmap_Kd t.png", t__png=checkered()), texture)
        np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])


# Malformed text

MALFORMED = [
    ("v 1 2\n", 1, "v x y z"),
    ("v 1 2 3 4 5\n", 1, "3 or 4 or 6 or 7 numbers"),
    ("v 0 0 0\nv 1 x 2\n", 2, "numbers"),
    ("v 0 0 1_0\n", 1, "numbers"),
    ("v 0 nan 0\n", 1, "finite"),
    ("v 0 0 inf\n", 1, "finite"),
    ("v 0 0 1e999\n", 1, "finite"),
    ("v 0 0 0 1 0 nan\n", 1, "finite"),
    (TRIANGLE + "vt\n", 4, "vt u v"),
    (TRIANGLE + "vt 0 q\n", 4, "vt u v"),
    (TRIANGLE + "\n# c\nf 1 2\n", 6, "at least 3 corners"),
    (TRIANGLE + "f\n", 4, "at least 3 corners"),
    (TRIANGLE + "f 1 2 # 3\n", 4, "at least 3 corners"),
    (TRIANGLE + "f 0 1 2\n", 4, "count from 1"),
    (TRIANGLE + "f 1 2 3\nf 1 2 4\n", 5, "at most 3"),
    (TRIANGLE + "f 1 2 \\\n -4\n", 4, "3 such lines so far"),
    (TRIANGLE + "f 1 2 99999999999999999999\n", 4, "whole-number"),
    (TRIANGLE + UVS + "f 1/1 2/2 3/4\n", 7, "texture coordinate"),
    (TRIANGLE + UVS + "f 1/1 2/2 3/0\n", 7, "count from 1"),
    (TRIANGLE + UVS + "f 1/1 2/2 3/-4\n", 7, "3 such lines so far"),
    (TRIANGLE + "f 1 2 1.5\n", 4, "whole-number"),
    (TRIANGLE + "f 1 2 b\n", 4, "'b'"),
    (TRIANGLE + "f 1 2 3/1/1/1\n", 4, "v/vt/vn"),
    (TRIANGLE + "f 1//x 2//1 3//1\n", 4, "whole-number"),
    (b"v 0 0 0\nv \x00\x01\xff\n", 2, "binary"),
    ("v 0 0 0\r\nv 1\r\n", 2, "v x y z"),
]


@pytest.mark.parametrize(("text", "line", "expected"), MALFORMED)
def test_malformed_text_names_file_and_line(obj, text, line, expected):
    path = obj(text)
    with pytest.raises(ValueError) as caught:
        io.read(path)
    message = str(caught.value)
    assert f"{path}, line {line}:" in message
    assert expected in message
    assert "got" in message
    assert "export" in message or "check" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no vertices"), ("f 1 2 3\n", "no vertices"), (TRIANGLE, "no faces"), (b"\xff\xfe\x80\x81" * 50, "no vertices")],
)
def test_empty_meshes_are_refused(obj, text, message):
    with pytest.raises(ValueError, match=message):
        io.read(obj(text))


@pytest.mark.parametrize("text", ["v " + "1 " * 5_000_000, TRIANGLE + "f " + "1 " * 5_000_000, "9" * 10_000_000])
def test_ten_megabytes_on_a_line_are_refused_quickly(obj, text):
    path = obj(text)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="expected at most"):
        io.read(path)
    assert time.perf_counter() - start < 2


def test_long_comment_is_fine(obj):
    assert len(io.read(obj("#" + "x" * 10_000_000 + "\n" + TRIANGLE + "f 1 2 3")).faces) == 1


def test_arguments_are_checked(obj, tmp_path):
    path = obj(TRIANGLE + "f 1 2 3")
    with pytest.raises(ValueError, match="texture must be"):
        io.read(path, texture="face")
    for resolution in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match="texture_resolution"):
            io.read(path, texture_resolution=resolution)
    with pytest.raises(ValueError, match=r"\.obj, \.ply, \.off, \.stl, \.glb"):
        io.read(tmp_path / "mesh.fbx")
    with pytest.raises(ValueError, match=r"\.obj, \.ply, \.off, \.stl, \.glb"):
        io.write(tmp_path / "mesh", TETRAHEDRON, TETRAHEDRON_FACES)
    with pytest.raises(FileNotFoundError, match="no such mesh file"):
        io.read(tmp_path / "none.obj")
    with pytest.raises(FileNotFoundError, match="folder"):
        (tmp_path / "folder.obj").mkdir()
        io.read(tmp_path / "folder.obj")


FUZZ = fuzz(150)


def read_or_refuse(path, textures=("surface", "vertex", None)):
    memory = peak_megabytes()
    with warnings.catch_warnings(), contained(path.parent):
        warnings.simplefilter("ignore", UserWarning)
        for texture in textures:
            try:
                mesh = io.read(path, texture, 2)
            except ValueError:
                event("refused")
                continue
            event("read")
            assert isinstance(mesh, io.MeshData)
            assert np.isfinite(mesh.vertices).all()
            assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
            for colors in (mesh.colors, mesh.texels, mesh.texture):
                assert colors is None or (colors.min() >= 0 and colors.max() <= 1)
    assert peak_megabytes() - memory < MEGABYTES


@FUZZ
@given(data=st.binary(max_size=300))
@pytest.mark.parametrize("prefix", [b"", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"])
def test_random_bytes(tmp_path, prefix, data):
    path = tmp_path / "mesh.obj"
    path.write_bytes(prefix + data)
    read_or_refuse(path)


@FUZZ
@given(data=st.data())
def test_mutated_text(tmp_path, data):
    geometry = "mtllib m.mtl\n" + QUAD + "v 1 1 1 1 0 0\n" + UVS + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf -1/1/1 2/2/1 3/3/1 4/1/1\n"
    library = "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\nmap_Kd -s 1 1 1 -clamp on m.png\n"
    iio.imwrite(tmp_path / "m.png", checkered(2, 2))
    for name, text in (("mesh.obj", geometry), ("m.mtl", library)):
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(text)))
            piece = data.draw(st.one_of(st.text(max_size=3), st.sampled_from(["/", "\\\n", "-", " ", "0", "\n", "nan", "#", "1e400", ".."])))
            text = text[:at] + piece + text[at + data.draw(st.integers(0, 5)) :]
        (tmp_path / name).write_bytes(text.encode("utf-8", "replace"))
    read_or_refuse(tmp_path / "mesh.obj")


@fuzz(60)
@given(data=st.data())
@pytest.mark.parametrize("changed", ["mesh.obj", "m.mtl", "m.png"])
def test_mutated_bytes(tmp_path, data, changed):
    """One of the three files changed, beside links out of the folder that it may come to name."""
    outside = tmp_path.with_name(tmp_path.name + "_outside")
    outside.mkdir(exist_ok=True)
    iio.imwrite(outside / "m.png", checkered(2, 2))
    for link in ("away", "x"):
        if not (tmp_path / link).is_symlink():
            (tmp_path / link).symlink_to(outside if link == "away" else outside / "m.png")
    map_name = data.draw(st.sampled_from(["m.png", "m.png", "away/m.png", "x", f"../{outside.name}/m.png", str(outside / "m.png")]))
    iio.imwrite(tmp_path / "m.png", np.random.default_rng(0).integers(0, 256, (7, 5, data.draw(st.sampled_from([3, 4]))), np.uint8))
    geometry = "mtllib m.mtl\n" + QUAD + "v 1 1 1 1 0 0\n" + UVS + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf -1/1/1 2/2/1 3/3/1 4/1/1\n"
    (tmp_path / "mesh.obj").write_text(geometry)
    (tmp_path / "m.mtl").write_text(f"newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\nmap_Kd -s 1 1 1 -clamp on {map_name}\n")
    whole = data.draw(changed_bytes((tmp_path / changed).read_bytes()))
    (tmp_path / changed).write_bytes(png_checked_anew(whole) if changed == "m.png" and data.draw(st.booleans()) else whole)
    read_or_refuse(tmp_path / "mesh.obj", ("surface", "uv"))


def test_absurd_images_are_not_decoded(obj):
    """Bombs, and PostScript, which Pillow would have another program run: a warning, and a plain color."""
    for size in ((9000, 9000), (20_000, 20_000)):
        path = obj(TEXTURED, m__mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png\n")
        Image.new("1", size).save(path.parent / "t.png")
        memory = peak_megabytes()
        with pytest.warns(UserWarning, match="t.png cannot be read .*(expected at most 67108864 pixels|decompression bomb)"):
            mesh = io.read(path)
        assert peak_megabytes() - memory < 50 and (mesh.texels[..., 0] == 1).all()
    (path.parent / "t.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.warns(UserWarning, match="expected an image, got PostScript"):
        io.read(path)


def test_images_are_read_once_and_bounded_together(obj, monkeypatch):
    """A small image and many materials that each repeat it must not fill the memory."""
    lines = [f"newmtl m{k}\nmap_Kd -o {k} 0 0 t.png\n" for k in range(9)]
    faces = "".join(f"usemtl m{k}\nf 1/1 2/2 3/3\n" for k in range(9))
    path = obj("mtllib m.mtl\n" + TRIANGLE + "vt 0 0\nvt 3 0\nvt 0 3\n" + faces, m__mtl="".join(lines), t__png=checkered(16, 16))
    reads = []
    monkeypatch.setattr("taichi_dr.io.mtl.read_image", lambda image, most: reads.append(image) or textures.read_image(image, most))
    assert io.read(path, "uv").texture is not None and len(reads) == 1
    monkeypatch.setattr("taichi_dr.atlas.MAX_TEXELS", 9 * 48 * 48 - 1)
    with pytest.raises(ValueError, match="the images of 9 materials need more than 20735 texels; make them smaller"):
        io.read(path, "uv")
    monkeypatch.setattr("taichi_dr.io.mtl.MAX_TEXELS", 200)
    with pytest.warns(UserWarning, match="t.png cannot be read .*expected at most 200 pixels, got 16 x 16"):
        io.read(path)


# Materials

TEXTURED = "mtllib m.mtl\n" + TRIANGLE + UVS + "usemtl a\nf 1/1 2/2 3/3\n"


def reference_texels(image, uv, resolution):
    """The texels of one face with corner coordinates uv, one sample at a time."""
    height, width = image.shape[:2]
    texels = np.zeros((resolution, resolution, 3))
    for iy in range(resolution):
        for ix in range(resolution):
            if ix + iy < resolution:
                w0, w1 = (ix + 1 / 3) / resolution, (iy + 1 / 3) / resolution
            else:
                w0, w1 = ((resolution - 1 - ix) + 2 / 3) / resolution, ((resolution - 1 - iy) + 2 / 3) / resolution
            u, v = w0 * uv[0] + w1 * uv[1] + (1 - w0 - w1) * uv[2]
            x, y = min(max(u * width - 0.5, 0), width - 1), min(max((1 - v) * height - 0.5, 0), height - 1)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            texels[iy, ix] = top * (1 - (y - y0)) + bottom * (y - y0)
    return texels / 255


@pytest.mark.parametrize("resolution", [1, 2, 5])
def test_surface_texels(obj, resolution):
    image = checkered()
    mesh = io.read(obj(TEXTURED, m__mtl="newmtl a\nmap_Kd t.png", t__png=image), texture_resolution=resolution)
    expected = reference_texels(image.astype(float), np.array([[0, 0], [1, 0], [0, 1]], float), resolution)
    np.testing.assert_allclose(mesh.texels, expected[None], atol=1e-12)


def test_sampling_orientation_wrap_and_far_edge():
    image = np.zeros((2, 2, 3))
    image[0, 0], image[0, 1], image[1, 0], image[1, 1] = 0.1, 0.2, 0.3, 0.4
    at = {(0, 0): 0.3, (1, 0): 0.4, (0, 1): 0.1, (1, 1): 0.2, (0.5, 0.5): 0.25, (1.25, 0.25): 0.3, (-0.25, 2.75): 0.2, (1 + 1e-15, 1): 0.2}
    for uv, value in at.items():
        np.testing.assert_allclose(sample_image(image, np.array(uv)), value, atol=1e-12)
    np.testing.assert_allclose(sample_image(image, np.array([1.25, 0.25]), clamp=True), 0.4)


@pytest.mark.parametrize("arguments", ["-s 1e400 1 t.png", "-s 1e308 1e308 -clamp on t.png", "-s 1e308 1 -o 0 1e999 t.png"])
def test_wild_texture_coordinates_give_some_color(obj, arguments):
    text = TRIANGLE + "vt 0 0\nvt 1e308 0\nvt 0 -1e308\nmtllib m.mtl\nusemtl a\nf 1/1 2/2 3/3"
    texels = io.read(obj(text, m__mtl=f"newmtl a\nmap_Kd {arguments}", t__png=checkered())).texels
    assert np.isfinite(texels).all()


@pytest.mark.parametrize(
    "arguments", ["t.png", "-s 1 1 1 t.png", "-clamp on t.png", "-blendu off -mm 0 1 -o 0 0 -texres 64 t.png", '"t.png"', ".\\t.png"]
)
def test_map_options(obj, arguments):
    image = checkered()
    mesh = io.read(obj(TEXTURED, m__mtl=f"newmtl a\nmap_Kd {arguments}\n", t__png=image), texture_resolution=2)
    plain = io.read(obj(TEXTURED, m__mtl="newmtl a\nmap_Kd t.png\n"), texture_resolution=2)
    np.testing.assert_array_equal(mesh.texels, plain.texels)


def test_map_scale_offset_and_clamp(obj):
    image = checkered()
    path = obj(TEXTURED, m__mtl="newmtl a\nmap_Kd -s 0.5 0.25 1 -o 0.25 0.5 t.png\n", t__png=image)
    uv = np.array([[0, 0], [1, 0], [0, 1]]) * [0.5, 0.25] + [0.25, 0.5]
    np.testing.assert_allclose(io.read(path).texels[0], reference_texels(image.astype(float), uv, 5), atol=1e-12)
    path = obj(TEXTURED, m__mtl="newmtl a\nmap_Kd -clamp on -o 2 2 t.png\n")
    np.testing.assert_allclose(io.read(path).texels[0], np.broadcast_to(image[0, -1] / 255, (5, 5, 3)))


def test_several_materials_libraries_and_names_with_spaces(obj):
    text = "mtllib my colors.mtl\nmtllib a.mtl b.mtl\n" + TRIANGLE + UVS + "f 1 2 3\n"
    text += "".join(f"usemtl {name}\nf 1/1 2/2 3/3\n" for name in ("bright red", "a", "b", "c", "a"))
    others = {
        "my colors__mtl": "newmtl bright red\nKd 1 0 0\n",
        "a__mtl": "newmtl a\nKd 0 1 0\nKs 1 1 1\n# c\n",
        "b__mtl": "newmtl b\nKd 0.25\nnewmtl c\nmap_Kd my image.png\n",
        "my image__png": np.full((2, 2, 3), 51, np.uint8),
    }
    mesh = io.read(obj(text, **others), texture_resolution=1)
    expected = [[0.5] * 3, [1, 0, 0], [0, 1, 0], [0.25] * 3, [0.2] * 3, [0, 1, 0]]
    np.testing.assert_allclose(mesh.texels.reshape(-1, 3), expected)


def test_vertex_mode_averages_the_corners(obj):
    text = "mtllib m.mtl\n" + QUAD + "v 9 9 9\n" + UVS + "usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1 3 4\n"
    image = checkered()
    mesh = io.read(obj(text, m__mtl="newmtl a\nmap_Kd t.png\nnewmtl b\nKd 0 0 1", t__png=image), texture="vertex")
    low_left, low_right, top_left = image[-1, 0] / 255, image[-1, -1] / 255, image[0, 0] / 255
    blue = np.array([0, 0, 1])
    np.testing.assert_allclose(mesh.colors, [(low_left + blue) / 2, low_right, (top_left + blue) / 2, blue, [0.5] * 3], atol=1e-12)
    assert mesh.texels is None


def test_texture_none_reads_no_material(obj):
    text = TEXTURED.replace("v 0 0 0\n", "v 0 0 0 1 1 0\n").replace("v 1 0 0\n", "v 1 0 0 1 1 0\n").replace("v 0 1 0\n", "v 0 1 0 1 1 0\n")
    mesh = io.read(obj(text), texture=None)  # m.mtl is missing, yet nothing warns
    np.testing.assert_array_equal(mesh.colors, [[1, 1, 0]] * 3)
    assert mesh.texels is None


@pytest.mark.parametrize("texture", ["surface", "vertex"])
@pytest.mark.parametrize("header", ["", "mtllib none.mtl\n", "usemtl a\n", "mtllib none.mtl\nusemtl None\n", "mtllib none.mtl\nusemtl (null)\n"])
def test_no_material_in_use(obj, header, texture):
    mesh = io.read(obj(header + "v 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 0 1 0 1 0 0\nf 1 2 3"), texture)
    assert mesh.texels is None
    np.testing.assert_array_equal(mesh.colors, [[1, 0, 0]] * 3)


GREY = [0.5] * 3
RED = [1, 0, 0]


@pytest.mark.parametrize(
    ("library", "expected", "message"),
    [
        (None, GREY, "no file 'm.mtl'"),
        ("newmtl other\nKd 1 0 0", GREY, "'a' is not defined"),
        ("newmtl a\nKd 1 0 0\nmap_Kd none.png", RED, "no file 'none.png'"),
        ("newmtl a\nmap_Kd none.png", GREY, "no file 'none.png'"),
        ("newmtl a\nKd 1 0 0\nmap_Kd junk.png", RED, "cannot be read"),
        ("newmtl a\nKd 1 0 0\nmap_Kd ../t.png", RED, "outside"),
        ("newmtl a\nKd 1 0 0\nmap_Kd ..\\..\\t.png", RED, "outside"),
        ("newmtl a\nKd 1 0 0\nmap_Kd /t.png", RED, "outside"),
        ("newmtl a\nKd 1 0 0\nmap_Kd C:\\t.png", RED, "outside"),
        ("newmtl a\nKd 1 0 0\nmap_Kd " + "x" * 5000, RED, "no file"),
        ("newmtl a\nKd 1 0 x", GREY, "line 2: expected numbers"),
        ("newmtl a\nKd 1 0 0\nKd \0", RED, "material file skipped"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*m.mtl:UserWarning")
def test_bad_materials_warn(obj, library, expected, message):
    if expected is RED and "\0" in library:
        expected = GREY  # nothing of a binary file is believed
    path = obj(TEXTURED, junk__png="not an image", **({} if library is None else {"m__mtl": library}))
    iio.imwrite(path.parent.parent / "t.png", checkered())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mesh = io.read(path)
    assert any(message in str(warning.message) for warning in caught)
    assert {warning.filename for warning in caught} == {__file__}  # the line that asked for the file
    np.testing.assert_array_equal(mesh.texels, np.broadcast_to(expected, (1, 5, 5, 3)))


@pytest.mark.parametrize("name", ["../m.mtl", "/m.mtl", "..\\m.mtl"])
def test_library_outside_of_the_folder(obj, name):
    path = obj(TEXTURED.replace("m.mtl", name))
    (path.parent.parent / "m.mtl").write_text("newmtl a\nKd 1 0 0")
    with pytest.warns(UserWarning) as caught:
        mesh = io.read(path)
    assert any("outside" in str(warning.message) for warning in caught)
    np.testing.assert_array_equal(mesh.texels, 0.5)


def test_link_out_of_the_folder(obj, tmp_path_factory):
    path = obj(TEXTURED, m__mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png")
    target = tmp_path_factory.mktemp("elsewhere") / "t.png"
    iio.imwrite(target, checkered())
    try:
        os.symlink(target, path.parent / "t.png")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    with pytest.warns(UserWarning, match="outside"):
        np.testing.assert_array_equal(io.read(path).texels, np.broadcast_to(RED, (1, 5, 5, 3)))


def test_library_in_a_subfolder(obj, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/m.mtl").write_text("newmtl a\nmap_Kd ../t.png\nnewmtl b\nmap_Kd t.png")
    iio.imwrite(tmp_path / "sub/t.png", np.full((1, 1, 3), 255, np.uint8))
    path = obj(TEXTURED.replace("m.mtl", "sub\\m.mtl") + "usemtl b\nf 1/1 2/2 3/3\n", t__png=np.zeros((1, 1, 3), np.uint8))
    np.testing.assert_array_equal(io.read(path, texture_resolution=1).texels.reshape(2, 3), [[0] * 3, [1] * 3])


def test_face_without_uv_gets_the_plain_color(obj):
    path = obj(TEXTURED + "f 1 2 3/3\n", m__mtl="newmtl a\nKd 1 0 0\nmap_Kd t.png", t__png=np.zeros((1, 1, 3), np.uint8))
    with pytest.warns(UserWarning, match="1 faces have a texture but no 'vt'"):
        np.testing.assert_array_equal(io.read(path, texture_resolution=1).texels.reshape(2, 3), [[0] * 3, RED])


@pytest.mark.parametrize("kind", ["rgb", "grey", "grey16", "palette", "palette_alpha", "alpha", "grey_alpha", "bilevel", "jpeg_cmyk"])
def test_image_kinds(obj, tmp_path, kind):
    from PIL import Image

    grey, color = np.full((2, 2), 102, np.uint8), np.full((2, 2, 3), [51, 102, 153], np.uint8)
    alpha = np.zeros((2, 2), np.uint8)
    name = "t.jpg" if kind == "jpeg_cmyk" else "t.png"
    image, expected, options = {
        "rgb": (Image.fromarray(color), [0.2, 0.4, 0.6], {}),
        "grey": (Image.fromarray(grey), [0.4] * 3, {}),
        "grey16": (Image.fromarray(np.full((2, 2), 13107, np.uint16)), [0.2] * 3, {}),
        "palette": (Image.fromarray(color).quantize(4), [0.2, 0.4, 0.6], {}),
        "palette_alpha": (Image.fromarray(color).quantize(4), [0.2, 0.4, 0.6], {"transparency": 0}),
        "alpha": (Image.fromarray(np.dstack([color, alpha])), [0.2, 0.4, 0.6], {}),
        "grey_alpha": (Image.fromarray(np.dstack([grey, alpha])), [0.4] * 3, {}),
        "bilevel": (Image.fromarray(grey > 0), [1] * 3, {}),
        "jpeg_cmyk": (Image.fromarray(color).convert("CMYK"), [0.2, 0.4, 0.6], {}),
    }[kind]
    path = obj(TEXTURED, m__mtl=f"newmtl a\nmap_Kd {name}")
    image.save(tmp_path / name, **options)
    texels = io.read(path).texels
    np.testing.assert_allclose(texels, np.broadcast_to(expected, texels.shape), atol=0.02 if kind == "jpeg_cmyk" else 1e-12)


# Writing


@pytest.mark.parametrize("with_colors", [False, True])
@pytest.mark.parametrize("suffix", [".obj", ".OBJ", ".ply", ".glb", ".off"])
def test_round_trip_keeps_order(tmp_path, suffix, with_colors):
    generator = np.random.default_rng(1)
    vertices = (generator.normal(size=(40, 3)) * 10.0 ** generator.integers(-4, 4, (40, 3))).astype(np.float32)
    vertices[7] = vertices[3]  # equal positions stay apart
    faces = generator.integers(0, 39, (30, 3))  # vertex 39 is in no face
    colors = generator.random((40, 3)).astype(np.float32) if with_colors and suffix != ".off" else None
    io.write(tmp_path / f"mesh{suffix}", vertices, faces, colors)
    mesh = io.read(tmp_path / f"mesh{suffix}")
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), vertices)
    np.testing.assert_array_equal(mesh.faces, faces)
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.texels) == (np.float64, np.int32, None)
    if colors is None:
        assert mesh.colors is None
    else:
        tolerance = 1e-7 if suffix.lower() == ".obj" else 0.5 / 255 + 1e-6
        np.testing.assert_allclose(mesh.colors, colors, atol=tolerance)


@pytest.mark.parametrize("resolution", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_atlas_round_trip(tmp_path, resolution, count):
    generator = np.random.default_rng(2)
    faces = generator.permuted(np.tile(np.arange(4), (count, 1)), axis=1)[:, :3]
    texels = generator.random((count, resolution, resolution, 3))
    colors = generator.random((4, 3)).astype(np.float32)
    io.write(tmp_path / "my mesh.v2.obj", TETRAHEDRON, faces, colors, texels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my mesh.v2.mtl", "my mesh.v2.obj", "my mesh.v2.png"]
    mesh = io.read(tmp_path / "my mesh.v2.obj", texture_resolution=resolution)
    np.testing.assert_allclose(mesh.texels, texels, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON)
    np.testing.assert_array_equal(mesh.faces, faces)
    np.testing.assert_allclose(mesh.colors, colors, atol=1e-7)


def renderer_lookup(texels, w0, w1):
    resolution = len(texels)
    column, row = min(int(w0 * resolution), resolution - 1), min(int(w1 * resolution), resolution - 1)
    if (w0 + w1) * resolution - column - row <= 1:
        return texels[row, column]
    return texels[resolution - 1 - row, resolution - 1 - column]


@pytest.mark.parametrize("resolution", [1, 2, 3, 5])
def test_atlas_agrees_with_the_renderer_inside_of_texels(resolution):
    generator = np.random.default_rng(3)
    texels = np.rint(generator.random((3, resolution, resolution, 3)) * 255) / 255
    image, uvs = bake_atlas(texels)
    sample_points = texel_barycentrics(resolution).reshape(-1, 3)
    for face in range(3):
        for weights in sample_points + generator.uniform(-1, 1, sample_points.shape) * 1e-9:
            looked_up = renderer_lookup(texels[face], *weights[:2])
            np.testing.assert_allclose(sample_image(image / 255, weights @ uvs[face]), looked_up, atol=1e-5)


@pytest.mark.parametrize("resolution", [1, 2, 5])
def test_atlas_does_not_bleed(resolution):
    """A bilinear look-up anywhere on a face sees texels of this face only."""
    texels = np.zeros((9, resolution, resolution, 3))
    texels[4] = 1
    image, uvs = bake_atlas(texels)
    weights = np.random.default_rng(4).dirichlet([0.3, 0.3, 0.3], 500)
    for face in range(9):
        np.testing.assert_allclose(sample_image(image / 255, np.concatenate([weights, np.eye(3)]) @ uvs[face]), face == 4, atol=1e-9)


def test_values_are_clipped_on_writing(tmp_path):
    texels = np.full((4, 1, 1, 3), 1.5)
    io.write(tmp_path / "mesh.obj", TETRAHEDRON, TETRAHEDRON_FACES, np.full((4, 3), -1.0), texels)
    mesh = io.read(tmp_path / "mesh.obj", texture_resolution=1)
    assert (mesh.colors == 0).all() and (mesh.texels == 1).all()


NAN = np.full((4, 3), np.nan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TETRAHEDRON[:, :2], TETRAHEDRON_FACES), "vertices must be numbers of shape"),
        ((NAN, TETRAHEDRON_FACES), "vertices must be finite.* vertex 0"),
        ((TETRAHEDRON * 1e200, TETRAHEDRON_FACES), "vertices must be finite"),
        ((TETRAHEDRON[:0], TETRAHEDRON_FACES), "V >= 1"),
        ((TETRAHEDRON, TETRAHEDRON_FACES[:0]), "F >= 1"),
        ((TETRAHEDRON, TETRAHEDRON_FACES * 1.0), "faces must be integers"),
        ((TETRAHEDRON, TETRAHEDRON_FACES[:, :2]), "faces must be integers of shape"),
        ((TETRAHEDRON, TETRAHEDRON_FACES + 1), r"faces must be in \[0, 4\)"),
        ((TETRAHEDRON, TETRAHEDRON_FACES - 1), r"faces must be in \[0, 4\)"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, np.zeros((3, 3))), "colors must be numbers of shape"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, NAN), "colors must be finite"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, None, np.zeros((4, 2, 3, 3))), "texels must be numbers of shape"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, None, np.zeros((3, 2, 2, 3))), "texels must be numbers of shape"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, None, np.zeros((4, 0, 0, 3))), "texels must be numbers of shape"),
        ((TETRAHEDRON, TETRAHEDRON_FACES, None, np.zeros(4)), "texels must be numbers of shape"),
    ],
)
@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_invalid_arrays_write_nothing(tmp_path, suffix, arguments, message):
    with pytest.raises(ValueError, match=message):
        io.write(tmp_path / f"mesh{suffix}", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "resolution", "remedy"), [(400, 273, "lower the texel resolution to 272 or less"), (8_000_000, 1, "split the mesh")]
)
def test_atlas_size_is_limited(count, resolution, remedy):
    with pytest.raises(ValueError, match=remedy):
        bake_atlas(np.broadcast_to(0.0, (count, resolution, resolution, 3)))


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl"])
def test_unwritable_output(tmp_path, suffix):
    path = tmp_path / "no folder" / f"mesh{suffix}"
    with pytest.raises(OSError, match="cannot write .*check that the folder exists") as caught:
        io.write(path, TETRAHEDRON, TETRAHEDRON_FACES, texels=np.zeros((4, 1, 1, 3)) if suffix == ".obj" else None)
    assert str(path) in str(caught.value)


def test_formats_without_colors_or_texels_warn(tmp_path):
    with pytest.warns(UserWarning, match="no vertex colors"):
        io.write(tmp_path / "mesh.stl", TETRAHEDRON, TETRAHEDRON_FACES, np.zeros((4, 3)))
    with pytest.warns(UserWarning, match="without texels"):
        io.write(tmp_path / "mesh.ply", TETRAHEDRON, TETRAHEDRON_FACES, None, np.zeros((4, 1, 1, 3)))
    assert io.read(tmp_path / "mesh.stl").colors is None


# Formats through trimesh


def test_stl_welds_in_order_of_appearance(tmp_path):
    vertices = np.array([[5, 5, 5], [1, 0, 0], [-0.0, 1, 0], [0, 0, 1], [0, 1, 0]])  # the last equals the third
    io.write(tmp_path / "mesh.stl", vertices, np.array([[3, 1, 2], [4, 0, 3]]))
    mesh = io.read(tmp_path / "mesh.stl")
    np.testing.assert_array_equal(mesh.vertices, vertices[[3, 1, 2, 0]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [2, 3, 0]])


def test_ascii_stl_with_two_solids(tmp_path):
    facet = "facet normal 0 0 1\nouter loop\nvertex 0 0 {0}\nvertex 1 0 {0}\nvertex 0 1 {0}\nendloop\nendfacet\n"
    (tmp_path / "mesh.stl").write_text("".join(f"solid s{z}\n{facet.format(z)}endsolid s{z}\n" for z in (2, 1)))
    mesh = io.read(tmp_path / "mesh.stl")
    np.testing.assert_array_equal(mesh.vertices[:, 2], [2, 2, 2, 1, 1, 1])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 4, 5]])


def test_ascii_ply_with_quads_colors_and_uv_seam(tmp_path):
    properties = "".join(f"property float {name}\n" for name in "xyzst") + "".join(f"property uchar {c}\n" for c in ("red", "green", "blue"))
    header = f"ply\nformat ascii 1.0\nelement vertex 4\n{properties}element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    corners = "0 0 0 0 0 255 0 0\n1 0 0 1 0 0 255 0\n1 1 0 0 0 0 0 255\n0 1 0 0 1 51 51 51\n"
    (tmp_path / "mesh.ply").write_text(header + corners + "4 0 1 2 3\n")
    mesh = io.read(tmp_path / "mesh.ply")
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert sorted(map(sorted, mesh.faces.tolist())) == [[0, 1, 2], [0, 2, 3]]
    np.testing.assert_allclose(mesh.colors, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2] * 3])


def test_glb_scene_is_concatenated_with_transforms(tmp_path):
    import trimesh

    first = trimesh.Trimesh(TETRAHEDRON, TETRAHEDRON_FACES, process=False)
    second = trimesh.Trimesh(TETRAHEDRON, TETRAHEDRON_FACES, vertex_colors=np.full((4, 3), 255, np.uint8), process=False)
    scene = trimesh.Scene()
    shift, mirror = np.eye(4), np.diag([-1.0, 2, 1, 1])
    shift[:3, 3] = 5, 0, 0
    scene.add_geometry(first, geom_name="a", node_name="a", transform=shift)
    scene.add_geometry(second, geom_name="b", node_name="b", transform=mirror)
    scene.add_geometry(trimesh.PointCloud(np.ones((3, 3))), geom_name="c")
    scene.export(str(tmp_path / "mesh.glb"))
    with pytest.warns(UserWarning, match="1 of 2 geometries"):
        mesh = io.read(tmp_path / "mesh.glb")
    parts = {float(mesh.colors[i * 4, 0]): i for i in range(2)}
    assert sorted(parts) == [0.5, 1]
    for grey, matrix, winding in ((0.5, shift, 1), (1, mirror, -1)):
        part = parts[grey]
        np.testing.assert_allclose(mesh.vertices[part * 4 : part * 4 + 4], TETRAHEDRON @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces[part * 4 : part * 4 + 4] - part * 4, TETRAHEDRON_FACES[:, ::winding])


PLY_START = b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
PLY_FACE = b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".ply", b"", "not a valid PLY"),
        (".ply", b"ply\nformat ascii 1.0\n", "not a valid PLY"),
        (".ply", PLY_START + PLY_FACE + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "index outside"),
        (".ply", PLY_START + PLY_FACE + b"0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n", "NaN or infinite"),
        (".ply", PLY_START + PLY_FACE + b"0 0 x\n1 0 0\n0 1 0\n3 0 1 2\n", "not a valid PLY"),
        (".ply", PLY_START + b"end_header\n0 0 0\n1 0 0\n0 1 0\n", "no faces"),
        (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "not a valid OFF"),
        (".off", b"junk", "not a valid OFF"),
        (".stl", b"", "not a valid STL|no faces"),
        (".stl", b"solid x\nendsolid x\n", "not a valid STL|no faces"),
        (".glb", b"", "not a valid GLB"),
        (".glb", b"glTF\2\0\0\0\xff\xff\0\0", "not a valid GLB"),
    ],
)
def test_malformed_files_of_other_formats(tmp_path, suffix, content, message):
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        io.read(path)
    assert str(path) in str(caught.value)


@fuzz(40)
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".ply", ".off", ".stl", ".glb"])
def test_mutated_files_of_other_formats(tmp_path, suffix, data):
    path = tmp_path / f"mesh{suffix}"
    io.write(path, TETRAHEDRON, TETRAHEDRON_FACES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    read_or_refuse(path)


# Real data


@pytest.mark.skipif(not SPOT.is_file(), reason="the spot mesh is not in ../shared/data")
def test_spot(tmp_path):
    mesh = io.read(SPOT)
    assert (mesh.vertices.shape, mesh.faces.shape, mesh.texels.shape) == ((2930, 3), (5856, 3), (5856, 5, 5, 3))
    first = next(line for line in SPOT.read_text().splitlines() if line.startswith("v "))
    np.testing.assert_array_equal(mesh.vertices[0], np.array(first.split()[1:4], float))
    np.testing.assert_array_equal(np.unique(mesh.faces), np.arange(2930))
    assert mesh.colors is None and mesh.texels.std() > 0.05
    colors = io.read(SPOT, texture="vertex").colors
    assert np.abs(colors[mesh.faces].mean(1) - mesh.texels.mean((1, 2))).mean() < 0.02
    io.write(tmp_path / "spot.obj", *mesh)
    again = io.read(tmp_path / "spot.obj")
    np.testing.assert_array_equal(again.vertices.astype(np.float32), mesh.vertices.astype(np.float32))
    np.testing.assert_array_equal(again.faces, mesh.faces)
    np.testing.assert_allclose(again.texels, mesh.texels, atol=0.5 / 255 + 1e-6)
