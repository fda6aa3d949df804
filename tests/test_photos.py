"""Photographs with cameras: every layout against NumPy, resizing, what is refused, and files made to harm.

`FUZZ=2000 python -m pytest tests/test_photos.py -k fuzz` tries 2,000 hostile inputs of each kind; see fuzz.py.
"""

import io
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from fuzz import MEGABYTES, changed_bytes, contained, fuzz, opened_files, peak_megabytes, png_checked_anew
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

import taichi_dr as dr
from taichi_dr.io import photographs
from taichi_dr.io.colmap import ColmapCamera, ColmapImage, write_colmap

SIZE = (20, 30)
POINTS = np.array([[0.0, 0, 0], [0.3, 0.2, -0.1], [-0.2, 0.4, 0.3]])


def orbit(count=4, size=SIZE):
    return dr.Camera.orbit(3.0, 20.0 * np.sin(np.arange(count)), 360 / count * np.arange(count), fov=40, size=size)


def pictures(rng, count=4, size=SIZE):
    """Random RGBA bytes with a covered middle and an empty corner."""
    rgba = rng.integers(0, 256, (count, *size, 4), np.uint8)
    rgba[:, 5:15, 10:20, 3], rgba[:, :2, :2, 3] = 255, 0
    return rgba


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def composited(rgba, background=(0, 0, 0)):
    x = rgba / 255
    return np.concatenate([x[..., :3] * x[..., 3:] + (1 - x[..., 3:]) * np.array(background), x[..., 3:]], axis=-1)


def write_nerf(folder, camera, names, name="transforms.json", change=None, **entries):
    """A transforms.json by way of the camera's own writer, with entries changed or, where None, left out."""
    folder.mkdir(parents=True, exist_ok=True)
    camera.to_nerf(folder / name, names=names)
    content = {**json.loads((folder / name).read_text()), **entries}
    content = {key: value for key, value in content.items() if value is not None}
    if change is not None:
        change(content)
    (folder / name).write_text(json.dumps(content))


def write_model(folder, camera, names, binary=True):
    views, frames = camera._views(), range(camera.batch)
    from taichi_dr.io.cameras import quaternion

    f, c = views.focal[0], views.principal[0]
    cameras = {1: ColmapCamera("PINHOLE", camera.size, (*f, *c))}
    q = quaternion(views.rotation)
    write_colmap(folder, cameras, {k + 1: ColmapImage(q[k], views.translation[k], 1, names[k]) for k in frames}, binary=binary)


def assert_same_views(photos, camera, tolerance=1e-3):
    expected = camera.project(POINTS)
    np.testing.assert_allclose(photos.cameras.project(POINTS), expected, atol=tolerance)
    for k in range(len(photos)):
        np.testing.assert_allclose(photos.camera(k).project(POINTS)[0], expected[k], atol=tolerance)


# --- Layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transforms_train.json", "transforms.json"])
def test_nerf_synthetic_has_an_angle_and_names_without_suffix(f32, rng, tmp_path, name):
    camera, rgba = orbit(), pictures(rng)
    drop = dict.fromkeys(("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_model"))
    write_nerf(tmp_path, camera, [f"./train/r_{k}" for k in range(4)], name, **drop)
    shutil.copy(tmp_path / name, tmp_path / "transforms_val.json")
    for k in range(4):
        write_png(tmp_path / f"train/r_{k}.png", rgba[k])
    photos = dr.Photos.load(tmp_path)
    assert photos.names == tuple(f"r_{k}.png" for k in range(4)) and photos.sizes == (SIZE,) * 4 and len(photos) == 4
    assert_same_views(photos, camera)
    for k in range(4):
        np.testing.assert_allclose(photos.image(k), composited(rgba[k]), atol=1e-6)
        assert photos.image(k).dtype == np.float32
    assert ("transforms_val.json can be loaded by name" in photos.summary()) == (name != "transforms.json")
    assert dr.Photos.load(tmp_path / "transforms_val.json").names == photos.names


@pytest.mark.parametrize("soft", [True, False])
def test_nerfstudio_has_masks_by_name(f32, rng, tmp_path, soft):
    K = np.array([[40.0, 0, 14.2], [0, 41.0, 9.8], [0, 0, 1]])
    cv = orbit().to_opencv()
    camera = dr.Camera.from_opencv(K, cv.R, cv.t, size=SIZE, distortion=(-0.1, 0.02, 0.001, -0.002))
    rgba = pictures(rng)
    mask = rgba[..., 3] if soft else np.where(rgba[..., 3] > 127, 255, 0).astype(np.uint8)

    def name_masks(content):
        for k, frame in enumerate(content["frames"]):
            frame["mask_path"] = f"somewhere/m_{k}.png"
            if k == 2:
                del frame["mask_path"]

    write_nerf(
        tmp_path, camera, [f"images/frame_{k}.png" for k in range(4)], change=name_masks, applied_transform=np.eye(4).tolist(), ply_file_path="/x"
    )
    for k in range(4):
        write_png(tmp_path / f"images/frame_{k}.png", rgba[k, ..., :3])
        write_png(tmp_path / f"somewhere/m_{k}.png", mask[k])
    photos = dr.Photos.load(tmp_path)
    assert_same_views(photos, camera)
    for k in (0, 1, 3):
        expected = composited(np.concatenate([rgba[k, ..., :3], mask[k, ..., None]], axis=-1))
        np.testing.assert_allclose(photos.image(k), expected, atol=1e-6)
    assert (photos.image(2)[..., 3] == 1).all()
    summary = photos.summary()
    assert "1 of 4 have no mask, so alpha is 1: frame_2.png" in summary and "distorted" in summary
    unmasked = dr.Photos.load(tmp_path, masks=False)
    assert all((unmasked.image(k)[..., 3] == 1).all() for k in range(4))


@pytest.mark.parametrize("mask_name", ["a/0001.png", "a/0001.jpg.png", "0001.png", "0001.jpg.png"])
def test_masks_of_the_same_stem(f32, rng, tmp_path, mask_name):
    """The layouts of instant-ngp with masks, and of COLMAP, which appends a suffix."""
    rgba = pictures(rng, 2)
    write_nerf(tmp_path, orbit(2), ["./images/a/0001.jpg", "./images/a/0002.jpg"], is_fisheye=False, aabb_scale=4)
    for k in range(2):
        (tmp_path / "images/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba[k, ..., :3]).save(tmp_path / f"images/a/000{k + 1}.jpg", quality=95)
    write_png(tmp_path / "masks" / mask_name, (rgba[0, ..., 3] > 127).astype(np.uint8))  # of 0 and 1
    photos = dr.Photos.load(tmp_path)
    stored = np.asarray(Image.open(tmp_path / "images/a/0001.jpg"))
    alpha = np.where(rgba[0, ..., 3] > 127, 255, 0)[..., None]
    np.testing.assert_allclose(photos.image(0), composited(np.concatenate([stored, alpha], axis=-1)), atol=1e-6)
    assert (photos.image(1)[..., 3] == 1).all()
    summary = photos.summary()
    assert "1 of 2 have masks of 0 and 1, which count as 0 and 255: 0001.jpg" in summary
    assert "1 of 2 have no file in" in summary and photos.names == ("0001.jpg", "0002.jpg")
    shutil.move(tmp_path / "masks", tmp_path.with_name(tmp_path.name + "_masks"))
    elsewhere = dr.Photos.load(tmp_path, masks=f"../{tmp_path.name}_masks")
    np.testing.assert_array_equal(elsewhere.image(0), photos.image(0))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["sparse/0", "sparse", "colmap/sparse/0", "", "other/model"])
def test_colmap(f32, rng, tmp_path, model, binary):
    camera, rgba, names = orbit(3), pictures(rng, 3), ["b.png", "c d.png", "a.png"]
    write_model(tmp_path / model, camera, names, binary)
    for name, image in zip(names, rgba, strict=True):
        write_png(tmp_path / "images" / name, image[..., :3])
        write_png(tmp_path / "masks" / name, image[..., 3])
    photos = dr.Photos.load(tmp_path, model=model if model.startswith("other") else None)
    assert photos.names == ("a.png", "b.png", "c d.png") and photos.kind == "COLMAP"
    order = [2, 0, 1]
    np.testing.assert_allclose(photos.cameras.project(POINTS), camera.project(POINTS)[order], atol=1e-3)
    for k, n in enumerate(order):
        np.testing.assert_allclose(photos.image(k), composited(rgba[n]), atol=1e-6)


def test_another_folder_of_images_may_be_scaled_evenly(f32, rng, tmp_path):
    camera = orbit(2, (40, 60))
    write_model(tmp_path / "sparse/0", camera, ["a.png", "b.png"])
    for name, image in zip(("a.png", "b.png"), pictures(rng, 2), strict=True):
        write_png(tmp_path / "images_2" / name, image)
    with pytest.raises(FileNotFoundError, match="no folder 'images' in"):
        dr.Photos.load(tmp_path)
    photos = dr.Photos.load(tmp_path, images="images_2")
    np.testing.assert_allclose(photos.cameras.project(POINTS), camera.project(POINTS) / 2, atol=1e-3)
    assert "2 of 2 images are scaled, and their cameras with them" in photos.summary()
    shutil.copytree(tmp_path / "images_2", tmp_path / "images")
    with pytest.raises(ValueError, match=r"a\.png: expected 60 x 40 pixels, as its camera has, got 30 x 20; restore it, or name a folder"):
        dr.Photos.load(tmp_path)
    write_png(tmp_path / "images_2/b.png", pictures(rng, 1, (30, 30))[0])
    with pytest.raises(ValueError, match=r"b\.png: expected 60 x 40 pixels"):
        dr.Photos.load(tmp_path, images="images_2")
    write_png(tmp_path / "images_2/b.png", pictures(rng, 1)[0])
    write_nerf(tmp_path, camera, ["./images/a", "./images/b"])
    by_name = dr.Photos.load(tmp_path, images="images_2")
    assert by_name.names == ("a.png", "b.png")
    np.testing.assert_allclose(by_name.cameras.project(POINTS), camera.project(POINTS) / 2, atol=1e-3)


def write_softras(folder, rng, count=3, side=16):
    pixels = rng.integers(0, 256, (count, 4, side, side), np.uint8)
    rows = np.array([[2.7, 10.0 * k, 40.0 * k] for k in range(count)], np.float32)
    np.save(folder / "source.npy", pixels)
    np.save(folder / "camera.npy", rows)
    return pixels, rows


def test_softras_pair(f32, rng, tmp_path):
    pixels, rows = write_softras(tmp_path, rng)
    for photos in (dr.Photos.load(tmp_path), dr.Photos.load(tmp_path / "source.npy")):
        camera = dr.Camera.from_softras(*rows.T, viewing_angle=15, size=16)
        assert photos.cameras.mirrored and photos.names == ("0", "1", "2") and photos.kind == "SoftRas"
        np.testing.assert_array_equal(photos.cameras.project(POINTS), camera.project(POINTS))
        for k in range(3):
            np.testing.assert_allclose(photos.image(k), composited(np.moveaxis(pixels[k], 0, -1)), atol=1e-6)
    wide = dr.Photos.load(tmp_path, viewing_angle=30, size=8)
    expected = dr.Camera.from_softras(*rows.T, viewing_angle=30, size=8).project(POINTS)
    np.testing.assert_array_equal(wide.cameras.project(POINTS), expected)


def test_softras_plane(f32, shared):
    photos = dr.Photos.load(shared / "data/plane")
    assert len(photos) == 120 and set(photos.sizes) == {(64, 64)}
    bounds = photos.bounds()
    plane = dr.read(dr.Mesh.load(shared / "data/plane/plane.obj", texture=None).vertices)[0]
    assert np.abs(bounds.center - (plane.min(axis=0) + plane.max(axis=0)) / 2).max() < 0.1
    assert np.abs(np.linalg.norm(plane - bounds.center, axis=1).max() - bounds.radius) < 0.05
    renderer = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", antialias=2)
    camera, target = photos.batch([0, 30, 70])
    mesh = dr.Mesh.load(shared / "data/plane/plane.obj", texture=None)
    a, b = dr.read(renderer(mesh, camera))[..., 3], dr.read(target)[..., 3]
    overlap = ((a * b).sum(axis=(1, 2)) / (a + b - a * b).sum(axis=(1, 2))).mean()
    assert overlap > 0.6, overlap  # 0.7 over all views; a mirrored or turned frame has 0.3


# --- Colors and sizes -------------------------------------------------------------------------------------------


def reference_resized(rgba, size, curve=lambda x: x):
    """Means over the areas of pixels, one at a time, colors weighted by alpha."""
    height, width = rgba.shape[:2]
    x = rgba / 255
    x = np.concatenate([curve(x[..., :3]) * x[..., 3:], x[..., 3:]], axis=-1)
    out = np.zeros((*size, 4))
    for i, j in np.ndindex(*size):
        top, bottom = i * height / size[0], (i + 1) * height / size[0]
        left, right = j * width / size[1], (j + 1) * width / size[1]
        for r in range(int(top), min(height, int(np.ceil(bottom)))):
            for c in range(int(left), min(width, int(np.ceil(right)))):
                share = (min(r + 1, bottom) - max(r, top)) * (min(c + 1, right) - max(c, left))
                out[i, j] += max(share, 0) * x[r, c]
        out[i, j] /= (bottom - top) * (right - left)
    return out


def test_srgb_is_decoded_on_request(f32, rng, tmp_path):
    rgba = pictures(rng, 1)
    write_nerf(tmp_path, orbit(1), ["a.png"])
    write_png(tmp_path / "a.png", rgba[0])
    curve = lambda x: np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)  # noqa: E731
    for size in (SIZE, (7, 11)):
        photos = dr.Photos.load(tmp_path, encoding="srgb", size=size)
        np.testing.assert_allclose(photos.image(0), reference_resized(rgba[0], size, curve), atol=2e-6)


@pytest.mark.parametrize(
    "size, expected", [(10, (10, 15)), ((7, 11), (7, 11)), (20, SIZE), ((33, 47), (33, 47)), ((1, 1), (1, 1)), ((5, 30), (5, 30))]
)
def test_resized_images_are_means_over_areas_and_cameras_follow(f32, rng, tmp_path, monkeypatch, size, expected):
    monkeypatch.setattr(photographs, "CHUNK", 100)  # strips of three rows
    K = np.array([[40.0, 0, 14.2], [0, 41.0, 9.8], [0, 0, 1]])
    cv = orbit(2).to_opencv()
    camera = dr.Camera.from_opencv(K, cv.R, cv.t, size=SIZE, distortion=(-0.1, 0.02, 0.001, -0.002))
    rgba = pictures(rng, 2)
    write_nerf(tmp_path, camera, ["a.png", "b.png"])
    for name, image in zip("ab", rgba, strict=True):
        write_png(tmp_path / f"{name}.png", image)
    photos = dr.Photos.load(tmp_path, size=size)
    assert photos.sizes == (expected,) * 2 and photos.cameras.size == expected
    for k in range(2):
        np.testing.assert_allclose(photos.image(k), reference_resized(rgba[k], expected), atol=1e-6)
    places = photos.cameras.project(POINTS) / expected[::-1]
    np.testing.assert_allclose(places, camera.project(POINTS) / SIZE[::-1], atol=1e-5)


def test_color_under_zero_alpha_leaves_no_fringe(f32, tmp_path):
    """A white square on pixels that are red and transparent stays white."""
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[..., 0] = 255
    rgba[5:14, 7:18] = 255
    write_nerf(tmp_path, orbit(1), ["a.png"])
    write_png(tmp_path / "a.png", rgba)
    image = dr.Photos.load(tmp_path, size=(8, 9), background=None).image(0)
    covered = image[..., 3] > 0
    assert 10 < covered.sum() < 60
    np.testing.assert_allclose(image[covered][:, :3], 1, atol=1e-6)
    green = dr.Photos.load(tmp_path, size=(8, 9), background=(0, 1, 0)).image(0)
    a = green[..., 3:]
    np.testing.assert_allclose(green[..., :3], a + (1 - a) * np.array([0, 1, 0]), atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_images(f32, rng, tmp_path, mode):
    write_nerf(tmp_path, orbit(1), ["a.png"])
    grey = rng.integers(1, 256, SIZE, np.uint8)
    if mode == "I;16":
        image = Image.fromarray((grey.astype(np.uint16) << 8) + 3)
        expected = np.stack([grey] * 3, axis=-1) / 255
    else:
        image = Image.fromarray(pictures(rng, 1)[0]).convert("RGB" if mode == "P" else "RGBA").convert(mode)
        expected = composited(np.asarray(image.convert("RGBA")))[..., :3]
    image.save(tmp_path / "a.png")
    loaded = dr.Photos.load(tmp_path).image(0)
    np.testing.assert_allclose(loaded[..., :3], expected, atol=1e-6)
    assert (loaded[..., 3] == 1).all() == (mode not in ("LA", "RGBA"))


# --- What is there ----------------------------------------------------------------------------------------------


@pytest.fixture
def data(rng, tmp_path):
    """A folder of four photographs, without a Taichi kernel run."""
    rgba = pictures(rng)
    frames = []
    for k in range(4):
        c, s = np.cos(k * np.pi / 2), np.sin(k * np.pi / 2)
        matrix = [[c, 0, s, 3 * s], [0, 1, 0, 0.1 * k], [-s, 0, c, 3 * c], [0, 0, 0, 1]]
        frames.append({"file_path": f"images/{k}.png", "transform_matrix": matrix})
        write_png(tmp_path / f"images/{k}.png", rgba[k])
    content = {"w": SIZE[1], "h": SIZE[0], "fl_x": 30.0, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    return tmp_path


def test_images_are_read_when_asked_for_and_kept_up_to_a_bound(f32, data):
    whole = 20 * 30 * 16
    with opened_files() as opened:
        photos = dr.Photos.load(data, cache_bytes=2 * whole + 1)
    assert sum(path.endswith(".png") for path in opened) == 4  # headers
    reads = []
    for k in (0, 1, 0, 1, 2, 1, 2, 0, 0):
        with opened_files() as opened:
            image = photos.image(k)
        reads.append(len(opened))
        assert photos._store.bytes == sum(x.nbytes for x in photos._store.images.values()) <= 2 * whole
    assert reads == [1, 1, 0, 0, 1, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 0
    none = dr.Photos.load(data, cache_bytes=0)
    none.image(0)
    assert not none._store.images


def test_batches(f32, data):
    photos = dr.Photos.load(data)
    camera, target = photos.batch([3, 1, 3])
    assert camera.batch == 3 and camera.names == ("3.png", "1.png", "3.png") and tuple(target.shape) == (3, *SIZE) and target.grad is None
    np.testing.assert_array_equal(dr.read(target), np.stack([photos.image(k) for k in (3, 1, 3)]))
    np.testing.assert_allclose(camera.project(POINTS), photos.cameras.project(POINTS)[[3, 1, 3]], atol=1e-4)
    loss = dr.scalar()
    mesh = dr.shapes.cube()
    with dr.Tape(loss):
        dr.losses.mse(dr.SoftRenderer()(mesh, camera), target, loss)
    assert np.abs(dr.read(mesh.vertices.grad)).max() > 0


def test_splits_and_subsets(f32, data):
    photos = dr.Photos.load(data)
    rest, held_out = photos.split(every=3)
    assert rest.names == ("1.png", "2.png") and held_out.names == ("0.png", "3.png")
    np.testing.assert_array_equal(held_out.image(1), photos.image(3))
    assert held_out.image(1) is photos.image(3)
    assert len(photos.split()[0]) == 3
    again = rest.subset([-1])
    assert again.names == ("2.png",) and "2 of " not in repr(again) and "1 of" in repr(again)
    for every in (1, 0, 2.0, True):
        with pytest.raises(ValueError, match="every: expected a whole number of at least 2"):
            photos.split(every)


def scene(size, count=12):
    """A ball off the origin and cameras around it."""
    center = np.array([0.4, -0.3, 0.2])
    ball = dr.shapes.icosphere(3)
    mesh = dr.Mesh(center + 0.6 * dr.read(ball.vertices)[0], dr.read(ball.faces))
    azimuths = 360 / count * np.arange(count)
    camera = dr.Camera.orbit(4.0, 40 * np.sin(np.radians(azimuths) * 2), azimuths, at=(0.2, 0, 0), fov=45, size=size)
    hard = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", antialias=4)
    return mesh, camera, dr.read(hard(mesh, camera)), center


def test_bounds_are_those_of_the_object(f32, tmp_path):
    _, camera, images, center = scene((64, 80))
    dr.Photos.save(tmp_path, images, camera)
    bounds = dr.Photos.load(tmp_path).bounds()
    assert np.abs(bounds.center - center).max() < 0.05 and 0.6 <= bounds.radius < 0.75
    few = dr.Photos.load(tmp_path, size=32).subset([0, 3]).bounds()  # two views at a right angle
    assert np.abs(few.center - center).max() < 0.15 and 0.6 <= few.radius < 1.2
    with pytest.raises(ValueError, match="views from at least two directions"):
        dr.Photos.load(tmp_path).subset([0, 0]).bounds()


def test_bounds_of_photographs_without_masks_are_what_all_show(f32, rng, data):
    for k in range(4):
        write_png(data / f"images/{k}.png", pictures(rng, 1)[0, ..., :3])
    photos = dr.Photos.load(data)
    bounds = photos.bounds()
    # In the middle, 3 from each camera, they show 1.5 to either side and 1 up and down.
    assert np.abs(bounds.center - [0, 0.15, 0]).max() < 0.2 and 1.0 < bounds.radius < 2.5
    assert "4 of 4 have no mask, so alpha is 1: 0.png, 1.png, 2.png ..." in photos.summary()


def test_masks_with_nothing_in_common(f32, data):
    for k in range(4):
        rgba = np.zeros((*SIZE, 4), np.uint8)
        rgba[2:4, 4:6] = 255  # to the left in all views, all around
        write_png(data / f"images/{k}.png", rgba)
    photos = dr.Photos.load(data)
    with pytest.raises(ValueError, match="expected outlines with a place in common"):
        photos.bounds()
    summary = photos.summary()
    assert "not known" in summary and "where the object is cannot be told: expected outlines" in summary
    photos.save_rig(data / "rig.png")


def test_summary_and_rig(f32, tmp_path):
    _, camera, images, _ = scene((64, 80))
    dr.Photos.save(tmp_path, images, camera)
    photos = dr.Photos.load(tmp_path, size=32)
    summary = photos.summary()
    for text in ("NeRF, transforms.json", "12: 0000.png, 0001.png", "40 x 32 pixels, resized from 80 x 64 pixels", "field of view 45 degrees"):
        assert text in summary, summary
    coverage = np.array([photos.image(k)[..., 3].mean() for k in range(12)])
    assert f"covers {coverage.min():.1%}" in summary and f"mean {coverage.mean():.1%}, to {coverage.max():.1%}" in summary
    assert "notes     none" in summary and "from the object" in summary
    photos.save_rig(tmp_path / "rig.png")
    with Image.open(tmp_path / "rig.png") as picture:
        assert picture.width > 800 and np.asarray(picture.convert("L")).std() > 5


# --- Writing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["linear", "srgb"])
@pytest.mark.parametrize("background", [(0, 0, 0), (0.2, 0.5, 1.0)])
def test_what_is_saved_comes_back(f32, rng, tmp_path, encoding, background):
    camera = orbit(3)
    alpha = rng.uniform(0, 1, (3, *SIZE, 1)) * (rng.random((3, *SIZE, 1)) > 0.3)
    colors = rng.random((3, *SIZE, 3))
    images = np.concatenate([alpha * colors + (1 - alpha) * background, alpha], axis=-1)
    dr.Photos.save(tmp_path / "new", dr.array(images), camera, ["c.png", "a.png", "b.png"], encoding=encoding, background=background)
    photos = dr.Photos.load(tmp_path / "new", encoding=encoding, background=background)
    assert photos.names == ("c.png", "a.png", "b.png")
    assert_same_views(photos, camera)
    loaded = np.stack([photos.image(k) for k in range(3)])
    if encoding == "linear" and background == (0, 0, 0):
        assert np.abs(loaded - images).max() <= 0.5 / 255 + 1e-6
    else:
        assert np.abs(loaded - images).max() < 2.5 / 255
    again = dr.Photos.load(tmp_path / "new", encoding=encoding, background=background)
    dr.Photos.save(tmp_path / "new", loaded, again.cameras, encoding=encoding, background=background)
    twice = dr.Photos.load(tmp_path / "new", encoding=encoding, background=background)
    np.testing.assert_allclose(np.stack([twice.image(k) for k in range(3)]), loaded, atol=1e-6)


def test_rendered_photographs_come_back_to_eight_bits(f32, tmp_path):
    mesh, camera, images, _ = scene((48, 48), 4)
    dr.Photos.save(tmp_path, images, camera)
    photos = dr.Photos.load(tmp_path)
    assert max(np.abs(photos.image(k) - images[k]).max() for k in range(4)) <= 0.5 / 255 + 1e-6
    hard = dr.SoftRenderer(distance="hard", rgb="hard", alpha="hard", antialias=4)
    assert np.abs(dr.read(hard(mesh, photos.cameras)) - images).mean() < 1e-3


def test_colors_brighter_than_their_alpha_are_said(f32, tmp_path):
    images = np.zeros((1, 4, 4, 4))
    images[0, 1, 1] = (0.9, 0.1, 0.1, 0.5)
    with pytest.warns(UserWarning, match="1 pixels are brighter than their alpha allows"):
        dr.Photos.save(tmp_path, images, dr.Camera.look_at((0, 0, 3), size=4))


IMAGES = np.ones((2, 4, 4, 4))
BAD_SAVES = [
    ((IMAGES[:1],), {}, r"images: expected shape \(2, 4, 4, 4\), as the camera has views and pixels, got \(1, 4, 4, 4\)"),
    ((IMAGES[..., :3],), {}, "images: expected shape"),
    ((IMAGES * np.nan,), {}, "images: expected finite values"),
    ((IMAGES, ["a.png"]), {}, "names: expected one per view, 2, each once, got 1"),
    ((IMAGES, ["a.png", "A.png"]), {}, "names: expected one per view, 2, each once"),
    ((IMAGES, ["a.png", "../b.png"]), {}, "names: expected names of PNG files without a folder, .* got '../b.png'"),
    ((IMAGES, ["a.png", "b.jpg"]), {}, "names: expected names of PNG files"),
    ((IMAGES, ["a.png", 3]), {}, "names: expected names of PNG files"),
    ((IMAGES,), {"encoding": "gamma"}, "encoding, background: expected one of linear, srgb"),
]


@pytest.mark.parametrize("arguments, options, message", BAD_SAVES)
def test_bad_saves_write_nothing(f32, tmp_path, arguments, options, message):
    camera = dr.Camera.orbit(3.0, 0.0, [0.0, 90.0], size=4)
    with pytest.raises(ValueError, match=message):
        dr.Photos.save(tmp_path / "new", arguments[0], camera, *arguments[1:], **options)
    with pytest.raises(ValueError, match="mirrored"):
        dr.Photos.save(tmp_path / "new", IMAGES, dr.Camera.from_softras(3.0, 0.0, [0.0, 90.0], size=4))
    assert not (tmp_path / "new").exists()


# --- Refusals ---------------------------------------------------------------------------------------------------


def edit(folder, change):
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_frame(**entries):
    return lambda folder: edit(folder, lambda content: content["frames"][1].update(entries))


def scaled_rotation(folder):
    def change(content):
        content["frames"][1]["transform_matrix"][0][0] = 2.0

    edit(folder, change)


def truncated(folder):
    whole = (folder / "images/1.png").read_bytes()
    (folder / "images/1.png").write_bytes(whole[: len(whole) // 2])


def huge_png(path, width, height, content=b""):
    """A PNG that says it is that large."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))


def empty_mask(folder):
    write_png(folder / "masks/1.png", np.zeros(SIZE, np.uint8))


def odd_mask(folder):
    write_png(folder / "masks/1.png", np.full((5, 5), 255, np.uint8))


def transparent(folder):
    write_png(folder / "images/1.png", np.zeros((*SIZE, 4), np.uint8))


def linked(name, folder=False):
    def link(data):
        outside = data.with_name(data.name + "_outside")
        shutil.copytree(data / "images", outside)
        if folder:
            shutil.rmtree(data / "images")
            (data / "images").symlink_to(outside)
        else:
            (data / name).unlink()
            (data / name).symlink_to(outside / "1.png")

    return link


def looped(folder):
    (folder / "images/1.png").unlink()
    (folder / "images/1.png").symlink_to(folder / "images/1.png")


NAN = float("nan")
REFUSED = [
    (lambda folder: (folder / "images/1.png").unlink(), FileNotFoundError, r"frame 1: no file 'images/1.png' in .*; put it there"),
    (set_frame(mask_path="masks/none.png"), FileNotFoundError, r"frame 1, mask_path: no file 'masks/none.png'"),
    (set_frame(w=31, h=20), ValueError, r"images/1.png: expected 31 x 20 pixels, as its camera has, got 30 x 20"),
    (set_frame(w=20, h=30), ValueError, r"images/1.png: expected 20 x 30 pixels, .*; turn it back"),
    (scaled_rotation, ValueError, "frame 1, transform_matrix: expected a rotation, columns of length 1"),
    (set_frame(transform_matrix=[[NAN] * 4] * 4), ValueError, "frame 1, transform_matrix: expected finite numbers"),
    (set_frame(transform_matrix=[np.eye(4).tolist()] * 2), ValueError, "frame 1, transform_matrix: expected one matrix, got 2"),
    (set_frame(fl_x=NAN), ValueError, "frame 1: expected a finite number under 'fl_x', got nan"),
    (set_frame(fl_x=10**400), ValueError, "frame 1: expected a finite number under 'fl_x'"),
    (set_frame(file_path="images/0.png"), ValueError, r"expected each image once, got 'images/0.png' 2 times"),
    (set_frame(file_path="./images/0"), ValueError, r"expected each image once"),
    (set_frame(file_path=3), ValueError, "frame 1: expected the name of an image under 'file_path', got int"),
    (set_frame(mask_path=3), ValueError, "frame 1: expected the name of a mask under 'mask_path', got int"),
    (set_frame(file_path="a" * 5000), FileNotFoundError, "frame 1: no file"),
    (set_frame(file_path="a\0b"), ValueError, "frame 1: expected a file name|frame 1: no file"),
    (set_frame(file_path="/etc/hostname"), ValueError, "frame 1: expected a file within the folder, got '/etc/hostname'; only files of"),
    (set_frame(file_path="images/../../x.png"), ValueError, "frame 1: expected a file within the folder"),
    (set_frame(file_path="C:\\x.png"), ValueError, "frame 1: expected a file within the folder"),
    (set_frame(file_path="..\\x.png"), ValueError, "frame 1: expected a file within the folder"),
    (set_frame(mask_path="/etc/hostname"), ValueError, "frame 1, mask_path: expected a file within the folder"),
    (linked("images/1.png"), ValueError, "frame 1: expected a file within the folder, got 'images/1.png', a link that leads out of it"),
    (linked("images", folder=True), ValueError, "a link that leads out of it"),
    (linked("transforms.json"), ValueError, "a link that leads out of it"),
    (looped, (ValueError, FileNotFoundError), "frame 1"),
    (lambda folder: (folder / "transforms.json").write_text("[]"), ValueError, "transforms.json: expected an object with a list"),
    (lambda folder: (folder / "transforms.json").write_text("{"), ValueError, "transforms.json, line 1: expected JSON"),
    (lambda folder: (folder / "transforms.json").write_text("[" * 100_000), ValueError, "transforms.json: expected JSON of a few levels"),
    (lambda folder: (folder / "transforms.json").write_text("9" * 5000), ValueError, "transforms.json: expected JSON of a few levels"),
    (lambda folder: (folder / "transforms.json").unlink(), FileNotFoundError, "no data set in .*: expected transforms.json, .* got images"),
    (lambda folder: (folder / "images/1.png").write_bytes(b"no"), ValueError, "images/1.png: expected an image, PNG, JPEG, WEBP, BMP, got"),
    (lambda folder: huge_png(folder / "images/1.png", 100_000, 100_000), ValueError, "images/1.png: expected at most 67108864 pixels"),
    (lambda folder: huge_png(folder / "images/1.png", 9000, 9000), ValueError, "images/1.png: expected at most 67108864 pixels, got 9000 x 9000"),
    (lambda folder: huge_png(folder / "images/1.png", 8000, 8000), ValueError, "images/1.png: expected an image that its file can hold"),
    (truncated, ValueError, "images/1.png: expected a whole image, got a damaged one .*; copy it again"),
    (empty_mask, ValueError, "masks/1.png: expected a mask that shows the object, got '1.png' with none of it"),
    (odd_mask, ValueError, "masks/1.png: expected 30 x 20 pixels, as 1.png had, got 5 x 5"),
    (transparent, ValueError, "images/1.png: expected a mask that shows the object, got '1.png' with none"),
]


@pytest.mark.parametrize("spoil, error, message", REFUSED)
def test_what_is_wrong_is_refused_by_name(f32, data, spoil, error, message):
    spoil(data)
    before = peak_megabytes()
    with pytest.raises(error, match=message), contained(data):
        dr.Photos.load(data).summary()
    assert peak_megabytes() - before < MEGABYTES


def test_a_file_that_changes_after_loading(f32, rng, data):
    photos = dr.Photos.load(data)
    linked("images/1.png")(data)
    with pytest.raises(ValueError, match="a link that leads out of it"):
        photos.image(1)
    (data / "images/2.png").unlink()
    with pytest.raises(FileNotFoundError, match="images/2.png, which was there before"):
        photos.image(2)
    write_png(data / "images/3.png", pictures(rng, 1, (4, 4))[0])
    with pytest.raises(ValueError, match="images/3.png: expected 30 x 20 pixels, as 3.png had, got 4 x 4"):
        photos.image(3)


def test_folders_that_the_user_names_may_be_links(f32, data):
    expected = dr.Photos.load(data).image(1)
    linked("images", folder=True)(data)
    photos = dr.Photos.load(data, images="images")
    np.testing.assert_array_equal(photos.image(1), expected)


def test_photographs_of_several_sizes(f32, rng, data):
    set_frame(w=15, h=10, fl_x=15)(data)
    write_png(data / "images/1.png", pictures(rng, 1, (10, 15))[0] | np.uint8(128))
    photos = dr.Photos.load(data)
    for call in (lambda: photos.cameras, lambda: photos.batch([0, 1])):
        with pytest.raises(
            ValueError, match=r"expected photographs of one size, got \(height, width\) \[\(10, 15\), \(20, 30\)\]; load them with size="
        ):
            call()
    assert "15 x 10, 30 x 20 pixels (2 sizes)" in photos.summary()
    assert photos.batch([0, 2])[0].batch == 2
    same = dr.Photos.load(data, size=10)
    np.testing.assert_allclose(same.cameras.project(POINTS)[:2, 0, 0], [7.5, 7.5], atol=1e-3)


BAD_ARGUMENTS = [
    ({"encoding": "gamma"}, "encoding: expected one of linear, srgb, got 'gamma'"),
    ({"background": (1, 2)}, "background: expected three finite numbers or None"),
    ({"background": (NAN, 0, 0)}, "background: expected three finite numbers or None"),
    ({"cache_bytes": -1}, "cache_bytes: expected a whole number"),
    ({"size": 0}, "size: expected a positive whole number"),
    ({"size": (3, 4.5)}, "size: expected a positive whole number"),
    ({"size": 100_000}, "size: expected at most 67108864 pixels"),
    ({"viewing_angle": 90}, "viewing_angle: expected half a field of view"),
    ({"images": 3}, "images: expected a folder, got 3"),
    ({"masks": 3}, "masks: expected a folder, got 3"),
]


@pytest.mark.parametrize("arguments, message", BAD_ARGUMENTS)
def test_bad_arguments(f32, data, arguments, message):
    with pytest.raises(ValueError, match=message):
        dr.Photos.load(data, **arguments)


def test_no_such_folder_and_no_such_photograph(f32, data):
    for path in (data / "none", data / "none.json"):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            dr.Photos.load(path)
    for name in ("images", "masks", "model"):
        with pytest.raises(FileNotFoundError, match="no such folder: .*nowhere"):
            dr.Photos.load(data, **{name: "nowhere"})
    with pytest.raises(ValueError, match="expected a folder, a transforms.json or a source.npy, got another file"):
        dr.Photos.load(data / "images/1.png")
    photos = dr.Photos.load(data)
    for k in (4, -5, 1.5, "a"):
        with pytest.raises(ValueError, match="k: expected "):
            photos.image(k)
    with pytest.raises(ValueError, match="indices: expected at least one photograph"):
        photos.batch([])


def pickled(folder):
    np.save(folder / "source.npy", np.array([{}], object), allow_pickle=True)


BAD_PAIRS = [
    (pickled, "source.npy: expected an .npy file of numbers, got something else"),
    (lambda folder: (folder / "source.npy").write_bytes(b""), "source.npy: expected an .npy file"),
    (lambda folder: (folder / "source.npy").write_bytes((folder / "source.npy").read_bytes()[:300]), "source.npy: expected an .npy file"),
    (lambda folder: np.save(folder / "source.npy", np.zeros((3, 4, 8, 9), np.uint8)), r"source.npy: expected uint8 of shape \(N, 4, S, S\)"),
    (lambda folder: np.save(folder / "source.npy", np.zeros((3, 4, 8, 8))), "source.npy: expected uint8"),
    (lambda folder: np.save(folder / "camera.npy", np.zeros((2, 3))), r"camera.npy: expected numbers of shape \(3, 3\)"),
    (lambda folder: np.save(folder / "camera.npy", np.full((3, 3), NAN)), "camera.npy: expected finite distance"),
    (lambda folder: np.save(folder / "camera.npy", np.zeros((3, 3))), "0: distance: expected positive numbers"),
    (lambda folder: np.save(folder / "camera.npy", np.array([[2.0, 90, 0]] * 3)), "0: up: expected a direction across"),
]


@pytest.mark.parametrize("spoil, message", BAD_PAIRS)
def test_bad_pairs_are_refused(f32, rng, tmp_path, spoil, message):
    write_softras(tmp_path, rng)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message), contained(tmp_path):
        dr.Photos.load(tmp_path)
    (tmp_path / "camera.npy").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="camera.npy|source.npy"):
        dr.Photos.load(tmp_path)


def test_bad_models_are_refused(f32, rng, tmp_path):
    camera = orbit(2)
    names = ["a.png", "../b.png"]
    write_model(tmp_path / "sparse/0", camera, names)
    for name, image in zip("ab", pictures(rng, 2), strict=True):
        write_png(tmp_path / f"images/{name}.png", image)
    with pytest.raises(ValueError, match=r"image '../b.png': expected a file within the folder"):
        dr.Photos.load(tmp_path)
    write_model(tmp_path / "sparse/0", camera, ["a.png", "a.png"])
    with pytest.raises(ValueError, match="expected each image once, got 'a.png' 2 times"):
        dr.Photos.load(tmp_path)
    data = (tmp_path / "sparse/0/cameras.bin").read_bytes()
    (tmp_path / "sparse/0/cameras.bin").write_bytes(struct.pack("<Q", 2) + data[8:] * 2)
    with pytest.raises(ValueError, match="cameras.bin, offset 64: expected each CAMERA_ID once, got 1 again"):
        dr.Photos.load(tmp_path)
    (tmp_path / "sparse/0/cameras.bin").unlink()
    (tmp_path / "sparse/0/cameras.bin").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="a link that leads out of it"), contained(tmp_path):
        dr.Photos.load(tmp_path)


# --- Hostile files ----------------------------------------------------------------------------------------------


@pytest.fixture
def bait(data):
    """The data beside files that nobody may open, and links to them."""
    outside = data.with_name(data.name + "_outside")
    shutil.copytree(data, outside)
    (data / "images/link.png").symlink_to(outside / "images/0.png")
    (data / "away").symlink_to(outside)
    dr.Photos.load(data).summary()  # what Taichi compiles it does here
    return data


def read_or_refuse(folder, memory):
    """Everything that a fit does with a data set ends well or in one of the errors that are documented."""
    with contained(folder):
        try:
            photos = dr.Photos.load(folder, size=8)
            images = [photos.image(k) for k in range(min(len(photos), 4))]
        except (ValueError, FileNotFoundError, OSError) as error:
            assert len(str(error)) < 5000
            event(f"refused: {type(error).__name__}")
            return
    event("read")
    assert all(np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1 + 1e-6 for image in images)
    assert peak_megabytes() - memory < MEGABYTES


ODD_NUMBERS = [0, -1, 10**400, 1e308, -1e308, 1e-320, NAN, float("inf"), True, 2**63]
ODD_NAMES = [
    "",
    ".",
    "/",
    "images",
    "../x",
    "images/link.png",
    "away/images/0.png",
    "/etc/hostname",
    "~/x",
    "\ud800",
    "a\0b",
    "x" * 300,
    "//x/y",
    "con",
]
ODD = st.one_of(
    st.sampled_from([*ODD_NUMBERS, *ODD_NAMES, None, [], {}, [[]], "OPENCV_FISHEYE", "PINHOLE"]),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.lists(st.sampled_from([0, 1, -1, NAN, 1e200, "1"]), min_size=3, max_size=4), min_size=3, max_size=4),
    st.recursive(
        st.none() | st.floats() | st.text(max_size=3), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3)
    ),
)
KEYS = ["file_path", "mask_path", "transform_matrix", "w", "h", "fl_x", "fl_y", "cx", "cy", "k1", "k4", "p1", "camera_angle_x", "camera_angle_y"]
KEYS += ["camera_model", "is_fisheye", "frames"]


@fuzz(60)
@given(draw=st.data())
def test_fuzz_transforms_by_value(f32, bait, draw):
    memory = peak_megabytes()
    path = bait / "transforms.json"
    whole = path.read_text()
    content = json.loads(whole)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.sampled_from([content, content["frames"][0], content["frames"][-1]] if isinstance(content["frames"], list) else [content]))
        key, value = draw.draw(st.sampled_from(KEYS)), draw.draw(ODD)
        if key == "transform_matrix" and draw.draw(st.booleans()) and isinstance(at.get(key), list) and at[key]:
            row = at[key][draw.draw(st.integers(0, len(at[key]) - 1))]
            if isinstance(row, list) and row:
                row[draw.draw(st.integers(0, len(row) - 1))] = value
        elif key == "frames" and at is content:
            content = {**content, "frames": value}
            break
        else:
            at[key] = value
    try:
        path.write_text(json.dumps(content))
        read_or_refuse(bait, memory)
    finally:
        path.write_text(whole)


@fuzz(60)
@given(draw=st.data())
def test_fuzz_transforms_by_byte(f32, bait, draw):
    memory = peak_megabytes()
    path = bait / "transforms.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(draw.draw(changed_bytes(whole)))
        read_or_refuse(bait, memory)
    finally:
        path.write_bytes(whole)


@fuzz(60)
@given(draw=st.data())
@pytest.mark.parametrize("suffix", ["bin", "txt"])
def test_fuzz_colmap(f32, bait, draw, suffix):
    memory = peak_megabytes()
    model = bait / "sparse/0"
    (bait / "transforms.json").unlink(missing_ok=True)
    if not (model / f"cameras.{suffix}").exists():
        camera = dr.Camera.from_opencv(np.diag([30.0, 30.0, 1.0]), np.eye(3), np.array([[0, 0, 3.0]] * 3), size=SIZE)
        write_model(model, camera, ["0.png", "1.png", "2.png"], suffix == "bin")
    wholes = {path: path.read_bytes() for path in (model / f"cameras.{suffix}", model / f"images.{suffix}")}
    try:
        for path in draw.draw(st.sampled_from([list(wholes), list(wholes)[:1], list(wholes)[1:]])):
            path.write_bytes(draw.draw(changed_bytes(wholes[path])))
        read_or_refuse(bait, memory)
    finally:
        for path, whole in wholes.items():
            path.write_bytes(whole)


def png(mode):
    rgba = pictures(np.random.default_rng(1), 1)[0]
    out = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(rgba[..., 0].astype(np.uint16) << 8).save(out, "PNG")
    elif mode == "P":
        Image.fromarray(rgba).convert("RGB").quantize(7).save(out, "PNG", transparency=bytes([0, 255, 7]))
    else:
        Image.fromarray(rgba).convert(mode).save(out, "PNG", **({"transparency": (1, 2, 3)} if mode == "RGB" else {}))
    return out.getvalue()


PNGS = {mode: png(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}


@fuzz(60)
@given(draw=st.data())
def test_fuzz_png(f32, bait, draw):
    memory = peak_megabytes()
    content = {**json.loads((bait / "transforms.json").read_text()), "camera_angle_x": 0.7}
    for key in ("w", "h"):
        content.pop(key, None)  # so that a changed size is one
    (bait / "transforms.json").write_text(json.dumps(content))
    data = draw.draw(changed_bytes(PNGS[draw.draw(st.sampled_from(list(PNGS)))]))
    data = png_checked_anew(data) if draw.draw(st.booleans()) else data
    write_png(bait / "masks/0.png", np.full(SIZE, 255, np.uint8))
    (bait / "images/0.png").write_bytes(PNGS["RGBA"])
    (bait / draw.draw(st.sampled_from(["images/0.png", "masks/0.png"]))).write_bytes(data)
    read_or_refuse(bait, memory)


@fuzz(30)
@given(draw=st.data())
def test_fuzz_softras_pair(f32, bait, draw):
    memory = peak_megabytes()
    (bait / "transforms.json").unlink(missing_ok=True)
    pixels, rows = write_softras(bait, np.random.default_rng(0), 2, 4)
    path = bait / draw.draw(st.sampled_from(["source.npy", "camera.npy"]))
    path.write_bytes(draw.draw(changed_bytes(path.read_bytes())))
    read_or_refuse(bait, memory)


def test_links_out_of_the_folder_are_never_opened(f32, bait):
    for name in ("images/link.png", "away/images/0.png", "away/transforms.json"):
        with contained(bait), pytest.raises(ValueError, match="a link that leads out of it"):
            set_frame(file_path=name)(bait)
            dr.Photos.load(bait)
    assert os.path.exists(bait / "away/images/0.png")
