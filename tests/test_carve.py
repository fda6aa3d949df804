"""The visual hull: of known bodies from rendered masks, against distances of its own in NumPy, and what cannot be carved."""

import numpy as np
import pytest
from photographs import Views, around, colored, one_by_one, saved, seen
from scipy.spatial import cKDTree

import taichi_dr as dr
from taichi_dr.carve import visual_hull

BODIES = {
    "sphere": (lambda: dr.shapes.icosphere(4, 0.8), 2, 4 / 3 * np.pi * 0.8**3),
    "torus": (lambda: dr.shapes.torus(0.7, 0.25, (64, 32)), 0, 2 * np.pi**2 * 0.7 * 0.25**2),
    "cube": (lambda: dr.shapes.cube(1.0), 2, 1.0),
}
PIXEL = 2 * 3 * np.tan(np.radians(22.5)) / 64  # at the object, of 64 across


def euler(mesh):
    faces = dr.read(mesh.faces)
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    return len(np.unique(faces)) - len(np.unique(sides, axis=0)) + len(faces)


def assert_whole(mesh):
    quality = dr.mesh_quality(mesh)
    assert quality.watertight and quality.volume > 0 and quality.self_intersections == 0
    assert len(np.unique(dr.read(mesh.faces))) == quality.vertices  # none without faces
    return quality


@pytest.mark.parametrize("body", BODIES)
def test_known_bodies(f32, body):
    make, characteristic, volume = BODIES[body]
    hull = visual_hull(seen(make(), one_by_one(size=64)), cells=40, slack=0)
    quality = assert_whole(hull)
    assert euler(hull) == characteristic
    assert 0.9 * volume < quality.volume < 1.15 * volume
    points = dr.read(hull.vertices)[0]
    if body == "sphere":
        radii = np.linalg.norm(points, axis=1)
        # A cone of an outline touches the sphere; pixels are known to half of one.
        assert 0.8 - 0.75 * PIXEL < radii.min() and radii.max() < 0.8 + 1.5 * PIXEL
        normals = dr.read(dr.vertex_normals(hull.vertices, hull.faces))[0]
        assert ((normals * points).sum(axis=1) > 0).all()
    elif body == "torus":
        assert np.hypot(points[:, 0], points[:, 2]).min() > 0.3  # its hole is open
    else:
        assert (np.abs(points).max(axis=1) > 0.5 - PIXEL).all()


# --- Against NumPy ----------------------------------------------------------------------------------------------------


def distance_to_outline(camera_places, mask):
    """Signed pixels to the nearest pixel center of the other kind, half a pixel less; bilinear between pixel centers."""
    inside, outside = (np.argwhere(which) for which in (mask, ~mask))
    field = np.zeros(mask.shape)
    field[mask] = cKDTree(outside).query(inside)[0] - 0.5
    field[~mask] = 0.5 - cKDTree(inside).query(outside)[0]
    out = np.empty(len(camera_places))
    for n, (x, y) in enumerate(camera_places - 0.5):
        j, i = int(np.floor(x)), int(np.floor(y))
        s, t = x - j, y - i
        (a, b), (c, d) = field[i : i + 2, j : j + 2]
        out[n] = (a * (1 - s) + b * s) * (1 - t) + (c * (1 - s) + d * s) * t
    return out


@pytest.mark.parametrize("orthographic, slack", [(False, 0.0), (True, 0.0), (False, 0.5)])
def test_surface_is_where_the_least_distance_is_none(f32, rng, orthographic, slack):
    """min over the views of z / f (D(project(x)) + slack), with z, f and the projection written out here, is 0 on the hull."""
    views, fov, count = 12, 45.0, 64
    k = np.arange(views)
    elevation, azimuth = np.degrees(np.arcsin(1 - (2 * k + 1) / views)), 180 * (3 - 5**0.5) * k
    cameras = one_by_one(views, count, fov=fov, orthographic=orthographic)
    body = dr.shapes.torus(0.6, 0.25)
    photos = seen(body, cameras)
    cells = 40
    hull = visual_hull(photos, cells=cells, slack=slack)
    assert_whole(hull)
    points = dr.read(hull.vertices)[0]
    points = points[rng.choice(len(points), 60, replace=False)].astype(np.float64)
    least = np.full(len(points), np.inf)
    focal = count / 2 / np.tan(np.radians(fov / 2)) / (3.0 if orthographic else 1.0)
    for n in k:
        e, a = np.radians([elevation[n], azimuth[n]])
        eye = 3.0 * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
        forward = -eye / 3.0
        right = np.cross(forward, (0, 1, 0))
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        z = (points - eye) @ forward
        share = 1.0 if orthographic else z
        places = np.stack([count / 2 + focal * (points @ right) / share, count / 2 - focal * (points @ up) / share], axis=1)
        np.testing.assert_allclose(cameras[n].project(points)[0], places, atol=2e-3)
        least = np.minimum(least, (distance_to_outline(places, photos.masks[n] > 0.5) + slack) * share / focal)
    cell = 2 * 1.1 * photos.bounds().radius / cells
    # On the edges of the grid it is 0 but for the bend of the distance within a cell.
    assert np.abs(least).max() < 0.35 * cell and np.abs(least).mean() < 0.08 * cell


# --- Views of many kinds ----------------------------------------------------------------------------------------------


def test_cameras_of_softras(f32):
    cameras = [dr.Camera.from_softras(2.732, e, a, viewing_angle=20.0, size=64) for e in (-50.0, 0.0, 40.0) for a in range(0, 360, 45)]
    hull = visual_hull(seen(dr.shapes.icosphere(4, 0.6), cameras), cells=40)
    assert_whole(hull)
    radii = np.linalg.norm(dr.read(hull.vertices)[0], axis=1)
    assert 0.57 < radii.min() and radii.max() < 0.68


def test_objects_of_any_size_and_place(f32):
    hull = visual_hull(seen(dr.shapes.torus(0.7, 0.25), one_by_one()), cells=24)
    plain, volume = dr.read(hull.vertices)[0], dr.mesh_quality(hull).volume
    for scale, center in ((1000.0, np.zeros(3)), (1e-3, np.array([0.1, -0.05, 0.02]))):
        cameras = one_by_one(distance=3 * scale, at=tuple(center))
        hull = visual_hull(seen(colored(dr.shapes.torus(0.7, 0.25), scale, center), cameras, scale), cells=24)
        quality = assert_whole(hull)
        assert euler(hull) == 0
        points = (dr.read(hull.vertices)[0] - center) / scale
        assert cKDTree(plain).query(points)[0].max() < 0.05
        assert quality.volume / scale**3 == pytest.approx(volume, rel=0.03)


def test_specks_are_dropped(f32):
    """A small ball beside a large one."""
    large, small = dr.shapes.icosphere(3, 0.6), dr.shapes.icosphere(3, 0.06)
    points = np.concatenate([dr.read(large.vertices)[0], dr.read(small.vertices)[0] + (0.9, 0, 0)])
    both = dr.Mesh(points, np.concatenate([dr.read(large.faces), dr.read(small.faces) + large.vertices.shape[1]]))
    hull = visual_hull(seen(both, one_by_one()), cells=40)
    assert_whole(hull)
    assert euler(hull) == 2 and dr.read(hull.vertices)[0][:, 0].max() < 0.7


def test_objects_beyond_the_image(f32):
    """Some views are close-ups: what they do not show they do not carve."""
    cameras = one_by_one(16, 64) + [dr.Camera.orbit(3.0, 10.0, a, fov=27.0, size=64) for a in (20.0, 140.0)]
    body = dr.shapes.icosphere(4, 0.8)
    photos = seen(body, cameras)
    assert all(mask[:, 0].max() > 0.5 and mask.min() < 0.5 for mask in photos.masks[16:])  # cut, with some background
    whole, some = visual_hull(seen(body, cameras[:16]), cells=32), visual_hull(photos, cells=32)
    assert_whole(some)
    assert dr.mesh_quality(some).volume == pytest.approx(dr.mesh_quality(whole).volume, rel=0.03)


def test_views_without_an_outline_say_nothing(f32):
    cameras = one_by_one(12)
    photos = seen(dr.shapes.icosphere(3, 0.8), cameras)
    expected = visual_hull(photos, cells=24, bounds=photos.bounds())
    more = Views([*cameras, cameras[0]], [*photos.masks, np.ones((48, 48))])
    hull = visual_hull(more, cells=24, bounds=photos.bounds())
    assert dr.read(hull.vertices).tobytes() == dr.read(expected.vertices).tobytes()
    with pytest.raises(ValueError, match="photos: expected masks, got none with an outline, alpha is 1 everywhere; give masks"):
        visual_hull(Views(cameras, [np.ones((48, 48))] * 12), cells=24, bounds=photos.bounds())


def test_masks_with_nothing_in_common(f32):
    cameras = one_by_one(4)
    masks = [np.zeros((48, 48)) for _ in cameras]
    for k, mask in enumerate(masks):
        mask[40 * (k % 2) : 40 * (k % 2) + 6, 2:8] = 1
    with pytest.raises(ValueError, match="photos: expected masks with a place in common, got none on a grid of 24 cells; take more cells, or check"):
        visual_hull(Views(cameras, masks), cells=24, bounds=(np.zeros(3), 1.0))
    with pytest.raises(ValueError, match="photos: expected outlines with a place in common"):
        visual_hull(Views(cameras, masks), cells=24)


@pytest.mark.parametrize("cells", [7, 513, 24.0, True, "24", None, -1])
def test_bad_cells(f32, cells):
    with pytest.raises(ValueError, match="cells: expected a whole number from 8 to 512, got"):
        visual_hull(seen(dr.shapes.icosphere(2), one_by_one(3, 16)), cells=cells)


def test_bitwise_repeatable_and_of_photographs(f32, tmp_path):
    body = dr.shapes.torus(0.7, 0.25)
    photos = saved(tmp_path, body, around(12))
    one, two = visual_hull(photos, cells=np.int64(24)), visual_hull(photos, cells=24)
    assert dr.read(one.vertices).tobytes() == dr.read(two.vertices).tobytes()
    assert dr.read(one.faces).tobytes() == dr.read(two.faces).tobytes()
    assert_whole(one)
    assert euler(one) == 0
