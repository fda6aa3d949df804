"""Data sets: packed meshes are sound, and a download is checked, cached, and clear about what to do when it fails."""

import hashlib
import pathlib

import numpy as np
import pytest
import requests

from taichi_dr import datasets

SIZES = {"bunny": (1839, 3674), "teapot": (529, 992)}
OPEN_EDGES = {"bunny": 0, "teapot": 64}  # the teapot's six rims: see assets/README.md


def parse_obj(path):
    """Vertices (V, 3) and zero-based faces (F, 3) of a triangle OBJ."""
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([[float(x) for x in line[1:]] for line in lines if line[0] == "v"])
    faces = np.array([[int(x) - 1 for x in line[1:]] for line in lines if line[0] == "f"])
    return vertices, faces


def parts(faces):
    """Faces grouped into the connected parts of a mesh."""
    label = np.arange(faces.max() + 1)
    while True:
        lowest = label.copy()
        np.minimum.at(lowest, faces.ravel(), np.repeat(label[faces].min(axis=1), 3))
        if np.array_equal(lowest, label):
            return [faces[label[faces[:, 0]] == part] for part in np.unique(label[faces[:, 0]])]
        label = lowest


def signed_volume(vertices, faces):
    """Volume inside the faces, seen from their mean; positive when they face outward."""
    a, b, c = np.moveaxis(vertices[faces] - vertices[faces].mean(axis=(0, 1)), 1, 0)
    return np.einsum("fi,fi->", a, np.cross(b, c)) / 6


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TAICHI_DR_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to download fails as it does without a network."""

    def fail(url, **options):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "get", fail)


@pytest.mark.parametrize("name", datasets.PACKED)
def test_packed_mesh_has_the_documented_size_and_no_waste(name, no_network):
    vertices, faces = parse_obj(datasets.load(name))
    assert (len(vertices), len(faces)) == SIZES[name]
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert len(np.unique(np.sort(faces, axis=1), axis=0)) == len(faces)
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-6


@pytest.mark.parametrize("name", datasets.PACKED)
def test_packed_mesh_is_closed_but_for_documented_rims_and_faces_outward(name):
    vertices, faces = parse_obj(datasets.load(name))
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)  # two faces never run along an edge in the same direction
    uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)[1]
    assert uses.max() == 2
    assert np.count_nonzero(uses == 1) == OPEN_EDGES[name]
    assert all(signed_volume(vertices, part) > 0 for part in parts(faces))


def test_packed_assets_folder_of_a_wheel_comes_first(tmp_path, monkeypatch):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "bunny.obj").write_text("v 0 0 0\n")
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "datasets.py"))
    assert datasets.load("bunny") == tmp_path.resolve() / "assets" / "bunny.obj"
    with pytest.raises(RuntimeError, match="reinstall"):
        datasets.load("teapot")


def test_every_packed_mesh_file_has_a_name():
    folder = datasets.load("bunny").parent
    assert {path.name for path in folder.glob("*.obj")} == set(datasets.PACKED.values())


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="'cow'.*bunny, teapot, spot, sphere_642, sphere_1352, plane_views"):
        datasets.load("cow")


def test_without_network_the_error_says_which_file_from_where_to_where(cache, no_network):
    with pytest.raises(RuntimeError) as error:
        datasets.load("sphere_642")
    message = str(error.value)
    assert "sphere_642.obj could not be downloaded" in message
    assert f"{datasets.SOURCE}/obj/sphere/sphere_642.obj" in message
    assert str(cache / "sphere_642") in message


def test_file_in_the_cache_needs_no_network(cache, no_network, monkeypatch):
    files = {"obj/cube/cube.obj": b"v 0 0 0\n", "obj/cube/cube.mtl": b"newmtl gray\n"}
    monkeypatch.setitem(datasets.REMOTE, "cube", {path: hashlib.sha256(content).hexdigest() for path, content in files.items()})
    (cache / "cube").mkdir()
    for path, content in files.items():
        (cache / "cube" / pathlib.Path(path).name).write_bytes(content)
    main = datasets.load("cube")
    assert main.name == "cube.obj"
    assert main.read_bytes() == b"v 0 0 0\n"
    assert main.with_name("cube.mtl").is_file()


def test_changed_file_in_the_cache_is_not_used(cache, no_network):
    (cache / "sphere_642").mkdir()
    (cache / "sphere_642" / "sphere_642.obj").write_bytes(b"v 0 0 0\n")
    with pytest.raises(RuntimeError, match="could not be downloaded"):
        datasets.load("sphere_642")


def test_download_is_kept_only_with_the_right_content(cache, monkeypatch):
    class Response:
        def __init__(self, url, **options):
            self.content = b"v 0 0 0\n" if url.endswith("cube.obj") else b"a login page"
            self.headers = {"content-length": len(self.content)}

        def raise_for_status(self):
            pass

        def iter_content(self, chunk_size):
            yield self.content

        def close(self):
            pass

    monkeypatch.setattr(requests, "get", Response)
    monkeypatch.setitem(datasets.REMOTE, "cube", {"obj/cube/cube.obj": hashlib.sha256(b"v 0 0 0\n").hexdigest()})
    assert datasets.load("cube").read_bytes() == b"v 0 0 0\n"
    with pytest.raises(RuntimeError, match="could not be downloaded"):
        datasets.load("sphere_642")
    assert not (cache / "sphere_642" / "sphere_642.obj").exists()
