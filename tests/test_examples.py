"""The examples, with few steps: what each says it left behind is there and can be read."""

import importlib.util
import pathlib
import re

import imageio.v3 as iio
import numpy as np
import pytest

import taichi_dr as dr
from taichi_dr import runtime

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"
CORNERS = [(slice(4, 28), slice(4, 28)), (slice(4, 28), slice(-28, -4)), (slice(-28, -4), slice(4, 28))]  # red, green, blue


@pytest.fixture
def run(f32, tmp_path, monkeypatch, capsys):
    """Run an example's `main` on the device under test, check the files that its last line names, and give back its result."""
    monkeypatch.setattr(dr, "init", runtime.device)

    def call(name, *promised, **arguments):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        result = module.main(out=tmp_path / name, **arguments)
        text = capsys.readouterr().out
        named = set(re.findall(r"[\w.]+\.(?:png|gif|obj|ply|glb|html|npz)\b", text.rpartition("see ")[2]))
        assert named >= set(promised), text
        for file in named:
            check_file(tmp_path / name / file)
        return result

    return call


def check_file(path):
    assert path.exists(), path
    if path.suffix in (".png", ".gif"):
        frames = iio.imread(path, index=...)
        assert frames.dtype == np.uint8 and frames.shape[-1] in (3, 4) and np.ptp(frames[..., :3]) > 50, path
    elif path.suffix == ".html":
        text = path.read_text(encoding="utf-8")
        assert "<script" in text and not re.search(r"(src|href)=.?(http|//)|import\s.*from\s.(http|\./)", text), path  # needs no other file
        assert "data:image/png;base64," in text or text.count("UklGR") > 6, path  # PNG, or WebP in base64
    elif path.suffix == ".npz":
        with np.load(path) as state:
            assert all(np.isfinite(state[name]).all() for name in state.files) and "shape" in state.files, path
    else:
        vertices = dr.read(dr.Mesh.load(path).vertices)
        assert np.isfinite(vertices).all() and vertices.shape[1] > 100


def test_triangle(run, tmp_path):
    first = run("triangle", "triangle.gif", steps=1)
    assert (iio.imread(tmp_path / "triangle" / "target.png") > 128).any()
    assert run("triangle", "triangle.gif", steps=25) < 0.8 * first
    assert len(iio.imread(tmp_path / "triangle" / "triangle.gif", index=...)) == 25


def test_render(run, tmp_path):
    run("render", "rotation.gif", "blurring.gif", "mesh.obj", views=3, size=32)
    assert iio.imread(tmp_path / "render" / "rotation.gif", index=...).shape == (3, 32, 32, 3)


def test_render_of_a_given_mesh(run, tmp_path):
    path = tmp_path / "torus.ply"
    dr.shapes.torus(segments=(20, 10)).save(path)
    run("render", "rotation.gif", mesh=str(path), views=2, size=16)


def test_deform(run):
    assert 0 < run("deform", "deform.gif", "mesh.obj", steps=3) <= 1


@pytest.mark.parametrize("softras", [False, True])
def test_deform_to_given_silhouettes(softras, run, tmp_path):
    """The files of SoftRas's demo: uint8 images with alpha in channel 3; distance, elevation and azimuth of each view."""
    i, j = np.mgrid[:24, :24] - 11.5
    disk = ((i**2 + j**2 < 64) * 255).astype(np.uint8)
    np.save(tmp_path / "source.npy", np.broadcast_to(disk, (4, 4, 24, 24)))
    np.save(tmp_path / "camera.npy", [(2.732, 30, azimuth) for azimuth in range(0, 360, 90)])
    files = {"silhouettes": tmp_path / "source.npy", "cameras": tmp_path / "camera.npy"}
    assert run("deform", "deform.gif", "mesh.obj", steps=3, softras=softras, **files) > 0.5


def test_fit(run):
    iou, psnr = run("fit", "fit.gif", "loss.png", "fitted.obj", "fitted.glb", steps=3, views=3, size=24)
    assert 0 < iou <= 1 and psnr > 0


def test_fit_pose(run):
    """Too few steps to find it; the pictures are there, and the pose is one."""
    ((angle, place),) = run("fit_pose", "fit_pose.gif", "fit_pose.png", steps=20, size=48)
    assert 0 <= angle <= 180 and 0 <= place < 1


def test_find_a_camera(run):
    assert run("fit_pose", "camera.gif", camera=True, steps=6, size=48) == 6


def test_fit_texture(run, tmp_path):
    """A few steps find some of it; the files show the same mesh, upright."""
    assert run("fit_texture", "fit.gif", "texture.png", "fitted.obj", "fitted.glb", checker=True, steps=24, views=6, size=40) > 12
    found = iio.imread(tmp_path / "fit_texture" / "texture.png")[:, 256:512].astype(int)
    red, green, blue = (found[rows, columns].mean(axis=(0, 1)).argmax() for rows, columns in CORNERS)
    assert (red, green, blue) == (0, 1, 2)
    for file in ("fitted.obj", "fitted.glb"):
        texture = dr.read(dr.Mesh.load(tmp_path / "fit_texture" / file, texture="uv").texture)[0]
        np.testing.assert_allclose(texture * 255, found, atol=1)


def test_fit_the_texture_of_a_given_mesh(run, tmp_path, rng):
    sphere = dr.shapes.uv_sphere(segments=(16, 8))
    mesh = dr.Mesh(sphere.vertices, sphere.faces, uv=sphere.uv, uv_faces=sphere.uv_faces, texture=rng.random((7, 9, 3)))
    mesh.save(tmp_path / "sphere.obj")
    assert run("fit_texture", "fit.gif", "texture.png", mesh=tmp_path / "sphere.obj", steps=2, views=2, size=24) > 5


def test_a_mesh_without_texture_coordinates_has_no_texture_to_fit(run, tmp_path):
    dr.shapes.cube().save(tmp_path / "cube.obj")
    with pytest.raises(SystemExit, match="no texture coordinates"):
        run("fit_texture", mesh=tmp_path / "cube.obj")


def test_fit_light(run):
    coefficients, direction, intensity = run("fit_light", "fit.gif", "light.png", "loss.png", steps=100, size=24)
    assert coefficients < 0.5 and direction < 15 and intensity < 0.5


def test_fit_the_light_of_an_environment(run, shared):
    """Where no sun is sought, few steps find it."""
    (coefficients,) = run("fit_light", "fit.gif", "light.png", steps=120, size=24, environment=shared / "data/envmap/sunsky.exr")
    assert coefficients < 0.02


def test_fit_shadow(run):
    assert run("fit_shadow", "fit_shadow.gif", "fit_shadow.png", steps=30, size=40) < 2.0  # of 3.4 at first


# --- Faces --------------------------------------------------------------------------------------------------------

FACE_FILES = "fit.html", "fit.gif", "fit_face.png", "turned.png", "face.ply", "state.npz"


def test_fit_face(run):
    result = run("fit_face", *FACE_FILES, steps=40, size=64)
    assert result["mse"] < 0.01 and result["degrees"] < 90


def test_fit_face_plainly(run):
    assert run("fit_face", *FACE_FILES, steps=12, size=48, plain=True)["mse"] < 0.02


@pytest.fixture
def portrait(tmp_path, rng):
    """A bright oval on black, higher than wide, smooth."""
    y, x = np.mgrid[-1:1:80j, -0.8:0.8:64j]
    picture = np.clip(1.5 - 1.5 * np.hypot(x / 0.6, y / 0.8), 0, 1)[..., None] * (220, 180, 140)
    iio.imwrite(tmp_path / "portrait.png", picture.astype(np.uint8))
    return tmp_path / "portrait.png"


def test_a_portrait_of_another_size_is_resampled_and_it_is_said(run, portrait, tmp_path, monkeypatch):
    """With a mask and landmarks, of a model file."""
    pytest.importorskip("h5py")
    dr.MorphableModel.synthetic(300, 4, 2, 3).save(tmp_path / "model.h5")
    iio.imwrite(tmp_path / "mask.png", np.full((80, 64), 255, np.uint8))
    (tmp_path / "marks.txt").write_text("10,32,40\n20,30,20\n")
    files = {"model": tmp_path / "model.h5", "target": portrait, "mask": tmp_path / "mask.png", "landmarks": tmp_path / "marks.txt"}
    said, show = [], print
    monkeypatch.setattr("builtins.print", lambda *text, **options: (said.append(str(text[0])), show(*text, **options)))
    run("fit_face", *FACE_FILES, steps=6, size=32, **files)
    assert any("portrait.png: 64 x 80 pixels, resampled to 32 x 40" in text for text in said)


def test_a_stopped_fit_keeps_what_it_has_found(run, monkeypatch, tmp_path):
    """Ctrl-C in the middle of the second stage."""
    from tqdm import tqdm

    left, update = [12], tqdm.update

    def stop_later(bar, *args):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return update(bar, *args)

    monkeypatch.setattr(tqdm, "update", stop_later)
    run("fit_face", *FACE_FILES, steps=40, size=48)
    with np.load(tmp_path / "fit_face" / "state.npz") as state:
        assert state["shape"].shape[0] == 1 and state["color"].any()


def test_bad_portraits(run, portrait, tmp_path):
    picture = iio.imread(portrait) / 255
    cases = {
        "nan.npy": (picture.copy(), "expected finite numbers, got .* in row 3, column 5"),
        "many.npy": (picture[None, None], "expected one picture"),
    }
    cases["nan.npy"][0][3, 5, 1] = np.nan
    for name, (values, message) in cases.items():
        np.save(tmp_path / name, values)
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            run("fit_face", target=tmp_path / name, steps=2, size=32)
    iio.imwrite(tmp_path / "square.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match="mask: expected the proportions of the target, 32 x 40, got 32 x 32"):
        run("fit_face", target=portrait, mask=tmp_path / "square.png", steps=2, size=32)
    (tmp_path / "marks.txt").write_text("99999,1,2\n")
    with pytest.raises(ValueError, match="marks.txt: expected vertices from 0 to"):
        run("fit_face", target=portrait, landmarks=tmp_path / "marks.txt", steps=2, size=32)


def test_fit_photos(run, tmp_path):
    small = {"views": 6, "size": 48, "vertices": 300, "texels": 32}
    promised = "report.html", "fit_photos.png", "fit.gif", "mesh.obj", "mesh.glb"
    first, _, _ = run("fit_photos", *promised, steps=2, **small)
    overlap, psnr, away = run("fit_photos", *promised, steps=40, **small)
    assert overlap > max(0.8, first) and psnr > 15 and away < 0.15
    assert dr.Photos.load(tmp_path / "fit_photos" / "photos").sizes == ((48, 48),) * 6
    assert dr.Mesh.load(tmp_path / "fit_photos" / "mesh.obj", texture="uv").texture.shape == (1, 32, 32)
