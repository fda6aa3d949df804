"""Files of morphable models: every layout as its owners write it, round trips, the converter, and files that are damaged."""

import builtins
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taichi_dr.io import ict, morphable

V = 50


def numbers(rng, modes=4, expressions=3, colors=2):
    """A sphere-like cloud with outward faces, and modes, in float32."""
    directions = rng.standard_normal((V, 3))
    mean = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    faces = np.array([rng.permutation(V)[:3] for _ in range(30)], np.int32)
    inward = np.einsum("ij,ij->i", mean[faces[:, 0]], np.cross(mean[faces[:, 1]], mean[faces[:, 2]])) < 0
    faces[inward] = faces[inward, ::-1]
    modes, expressions, colors = (
        morphable.Modes(rng.standard_normal((3 * V, k)).astype(np.float32), rng.uniform(0.5, 2, k).astype(np.float32))
        for k in (modes, expressions, colors)
    )
    color_mean = rng.uniform(0.1, 0.9, 3 * V).astype(np.float32)
    return morphable.MorphableData(mean.reshape(-1).astype(np.float32), faces, modes, expressions, color_mean, colors)


def assert_same(came, want, tolerance=0.0):
    for name in ("mean", "faces", "color_mean"):
        a, b = getattr(came, name), getattr(want, name)
        assert (a is None) == (b is None), name
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)
    for name in ("shape", "expression", "color"):
        a, b = getattr(came, name), getattr(want, name)
        assert (a is None) == (b is None), name
        if b is not None:
            np.testing.assert_allclose(a.basis, b.basis, rtol=tolerance, err_msg=name)
            np.testing.assert_allclose(a.stddev, b.stddev, rtol=max(tolerance, 1e-7), err_msg=name)
    assert came.mean.dtype == came.shape.basis.dtype == came.shape.stddev.dtype == np.float32 and came.faces.dtype == np.int32


@pytest.fixture
def h5(tmp_path):
    """Write datasets by name to an HDF5 file."""
    h5py = pytest.importorskip("h5py")

    def save(datasets, name="model.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            for key, values in datasets.items():
                file[key] = values
        return tmp_path / name

    return save


def basel(d, cells="shape/representer/cells"):
    """As Basel's 2017 and 2019 files have it: float32, triangles (3, F); also what no reader here asks for."""
    out = {cells: d.faces.T, "version/majorVersion": 0, "shape/model/noiseVariance": 0.0, "shape/representer/points": d.mean.reshape(-1, 3).T}
    for kind, mean, modes in (("shape", d.mean, d.shape), ("expression", 0.1 * d.mean, d.expression), ("color", d.color_mean, d.color)):
        if modes is not None:
            out |= {f"{kind}/model/mean": mean, f"{kind}/model/pcaBasis": modes.basis, f"{kind}/model/pcaVariance": modes.stddev.astype(float) ** 2}
    return out


def basel_2009(d, transposed=False):
    """As MATLAB's file has it: double, indices from 1, colors from 0 to 255."""
    out = {
        "shapeMU": d.mean[:, None].astype(float),
        "shapePC": d.shape.basis,
        "shapeEV": d.shape.stddev[:, None],
        "texMU": 255.0 * d.color_mean[:, None],
        "texPC": d.color.basis,
        "texEV": 255.0 * d.color.stddev[:, None],
        "tl": d.faces.astype(float) + 1,
    }
    return {name: values.T for name, values in out.items()} if transposed else out


@pytest.mark.parametrize("cells", ["shape/representer/cells", "representer/cells"])
def test_basel_2017_and_2019(rng, h5, cells):
    d = numbers(rng)
    want = d._replace(mean=(d.mean + np.float32(0.1) * d.mean))
    assert_same(morphable.read(h5(basel(d, cells))), want, 1e-6)


def test_basel_2019_without_expressions_and_colors(rng, h5):
    d = numbers(rng)._replace(expression=None, color_mean=None, color=None)
    assert_same(morphable.read(h5(basel(d), "model.hdf5")), d)


@pytest.mark.parametrize("transposed", [False, True])
def test_basel_2009(rng, h5, transposed):
    d = numbers(rng)
    assert_same(morphable.read(h5(basel_2009(d, transposed))), d._replace(expression=None), 1e-6)


def test_basel_2009_where_no_face_has_the_first_vertex(rng, h5):
    d = numbers(rng)
    d.faces[(d.faces == 0).any(axis=1)] = d.faces[(d.faces > 0).all(axis=1)][0]
    np.testing.assert_array_equal(morphable.read(h5(basel_2009(d))).faces, d.faces)


def test_colors_in_bytes_are_divided(rng, h5):
    d = numbers(rng)
    bytes_of = d._replace(color_mean=255 * d.color_mean, color=d.color._replace(stddev=255 * d.color.stddev))
    came = morphable.read(h5(basel(bytes_of)))
    np.testing.assert_allclose(came.color_mean, d.color_mean, rtol=1e-6)
    np.testing.assert_allclose(came.color.stddev, d.color.stddev, rtol=1e-6)


def test_inward_faces_are_turned(rng, h5):
    d = numbers(rng)
    turned = d._replace(faces=np.ascontiguousarray(d.faces[:, ::-1]), expression=None)
    np.testing.assert_array_equal(morphable.read(h5(basel(turned))).faces, d.faces)


def test_the_first_modes_only(rng, h5, tmp_path):
    d = numbers(rng)
    for path in (h5(basel(d)), h5(basel_2009(d), "old.h5")):
        came = morphable.read(path, shape_modes=2, expression_modes=1, color_modes=99)
        np.testing.assert_array_equal(came.shape.basis, d.shape.basis[:, :2])
        assert len(came.shape.stddev) == 2 and came.color.basis.shape[1] == 2
        assert came.expression is None or came.expression.basis.shape[1] == 1
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match="expression_modes: expected a whole number of at least 1, or None for all"):
            morphable.read(path, expression_modes=bad)


def flame(d, path, shapes=300, expressions=100, **others):
    rng = np.random.default_rng(1)
    arrays = {"v_template": d.mean.reshape(-1, 3).astype(float), "shapedirs": rng.standard_normal((V, 3, shapes + expressions)), "f": d.faces}
    arrays |= {"weights": np.ones((V, 5)), **others}
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return arrays["shapedirs"]


def test_flame(rng, tmp_path):
    d = numbers(rng)
    basis = flame(d, tmp_path / "flame.npz", f=d.faces.astype(np.uint32)).reshape(3 * V, 400)
    came = morphable.read(tmp_path / "flame.npz")
    np.testing.assert_array_equal(came.mean, d.mean)
    np.testing.assert_array_equal(came.faces, d.faces)
    np.testing.assert_allclose(came.shape.basis, basis[:, :300], rtol=1e-6)
    np.testing.assert_allclose(came.expression.basis, basis[:, 300:], rtol=1e-6)
    assert (came.shape.stddev == 1).all() and (came.expression.stddev == 1).all() and came.color is None and came.color_mean is None
    few = morphable.read(tmp_path / "flame.npz", shape_modes=10, expression_modes=5)
    np.testing.assert_allclose(few.expression.basis, basis[:, 300:305], rtol=1e-6)


def test_flame_with_three_faces_and_no_expressions(rng, tmp_path):
    """A square list of faces is read by rows, unlike Basel's."""
    d = numbers(rng)
    flame(d, tmp_path / "flame.npz", shapes=7, expressions=0, f=d.faces[:3])
    came = morphable.read(tmp_path / "flame.npz")
    np.testing.assert_array_equal(came.faces, d.faces[:3])
    assert came.shape.basis.shape == (3 * V, 7) and came.expression is None


@pytest.mark.parametrize("left_out", [(), ("expression",), ("color",), ("color", "color_mean", "expression")])
def test_what_is_written_is_read(rng, tmp_path, left_out):
    pytest.importorskip("h5py")
    d = numbers(rng)._replace(**dict.fromkeys(left_out))
    morphable.write(tmp_path / "model.h5", d)
    assert_same(morphable.read(tmp_path / "model.h5"), d)


def test_the_face_of_the_shared_data(shared):
    pytest.importorskip("h5py")
    d = morphable.read(shared / "data/face/ict_face_3dmm.h5")
    assert d.mean.shape == (3 * 14388,) and d.faces.shape == (28552, 3)
    assert d.shape.basis.shape == (3 * 14388, 100) and d.color.basis.shape == (3 * 14388, 180) and d.expression is None
    assert 300 < np.ptp(d.mean.reshape(-1, 3)[:, 1]) < 400 and 0 < d.color_mean.min() < d.color_mean.max() < 1  # millimeters


# --- ICT-FaceKit -------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, rng):
    """A folder as ICT-FaceKit's, of 8 vertices and quads: (neutral, identities, expressions)."""
    folder = tmp_path / "ICT-FaceKit/FaceXModel"
    folder.mkdir(parents=True)
    cube = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], float)
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    text = "".join(f"f {' '.join(f'{v + 1}/1' for v in quad)}\n" for quad in quads)
    meshes = {"generic_neutral_mesh": cube}
    meshes |= {name: cube + 0.1 * rng.standard_normal(cube.shape) for name in ("identity001", "identity000", "jawOpen", "browDown_L")}
    for name, vertices in meshes.items():
        (folder / f"{name}.obj").write_text("".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices) + "vt 0 0\n" + text)
    (folder / "vertex_indices.json").write_text("{}")
    return folder, meshes


def test_ict_becomes_basel(checkout, tmp_path, capsys):
    pytest.importorskip("h5py")
    folder, meshes = checkout
    ict.main([str(folder.parent), str(tmp_path / "ict.h5"), "--scale", "10"])
    assert "8 vertices, 2 shape and 2 expression modes" in capsys.readouterr().out
    d = morphable.read(tmp_path / "ict.h5")
    np.testing.assert_allclose(d.mean.reshape(-1, 3), 10 * meshes["generic_neutral_mesh"], rtol=1e-6)
    assert d.faces.shape == (12, 3)
    for modes, names in ((d.shape, ("identity000", "identity001")), (d.expression, ("browDown_L", "jawOpen"))):
        moved = d.mean[:, None] + modes.basis * modes.stddev
        np.testing.assert_allclose(moved.T.reshape(-1, 8, 3), [10 * meshes[name] for name in names], atol=1e-4)


def test_the_first_vertices_of_ict(checkout):
    folder, _ = checkout
    d = ict.read_ict(folder, vertices=4)
    assert d.mean.shape == (12,) and d.faces.shape == (2, 3) and d.faces.max() < 4 and d.shape.basis.shape == (12, 2)
    assert ict.read_ict(folder, vertices=999).mean.shape == (24,)


def test_bad_checkouts_are_refused(checkout, tmp_path, capsys):
    folder, _ = checkout
    with pytest.raises(ValueError, match="vertices: expected a whole number of at least 1"):
        ict.read_ict(folder, vertices=0)
    (folder / "identity000.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match="identity000.obj: expected 8 vertices, as generic_neutral_mesh.obj has, got 3"):
        ict.read_ict(folder)
    for path in folder.glob("identity*"):
        path.unlink()
    with pytest.raises(ValueError, match="expected identity000.obj and so on"):
        ict.read_ict(folder)
    with pytest.raises(SystemExit):
        ict.main([str(tmp_path), str(tmp_path / "out.h5")])
    assert "expected generic_neutral_mesh.obj of ICT-FaceKit, found none" in capsys.readouterr().err
    assert not (tmp_path / "out.h5").exists()


def test_the_command(tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-m", "taichi_dr.io.ict", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "checkout of ICT-FaceKit" in done.stdout, done.stderr


# --- Bad input ---------------------------------------------------------------------------------------------------


def changed(**replaced):
    """A Basel file with datasets replaced, or left out where None; double underscores are slashes."""

    def change(d):
        datasets = basel(d) | {name.replace("__", "/"): values for name, values in replaced.items()}
        return {name: values for name, values in datasets.items() if values is not None}

    return change


MODEL = "shape__model__"
NAN = np.full(3 * V, np.nan)
BAD_HDF5 = {
    "nothing in it": (lambda d: {"x": 1.0}, r"expected a dataset shape/model/mean, found x; it takes the layout of the Basel Face Model"),
    "no basis": (changed(**{MODEL + "pcaBasis": None}), "expected a dataset shape/model/pcaBasis, found .*shape/model/mean"),
    "no faces": (changed(shape__representer__cells=None), "expected a dataset shape/representer/cells, found"),
    "a group for a dataset": (changed(**{MODEL + "pcaBasis": None, MODEL + "pcaBasis__x": 1.0}), "expected a dataset shape/model/pcaBasis"),
    "basis of another mesh": (changed(**{MODEL + "pcaBasis": np.ones((3 * V - 3, 4))}), r"shape basis: expected shape \(150, K\) .* \(147, 4\)"),
    "flat basis": (changed(**{MODEL + "pcaBasis": np.ones(3 * V)}), r"shape basis: expected shape \(150, K\)"),
    "no modes": (changed(**{MODEL + "pcaBasis": np.ones((3 * V, 0)), MODEL + "pcaVariance": np.ones(0)}), "pcaBasis: expected at least one mode"),
    "deviations of other modes": (changed(**{MODEL + "pcaVariance": np.ones(5)}), "shape stddev: expected one per mode, 4, got 5"),
    "negative variance": (changed(**{MODEL + "pcaVariance": -np.ones(4)}), "shape/model/pcaVariance: expected finite numbers of at least 0"),
    "infinite variance": (changed(**{MODEL + "pcaVariance": np.full(4, np.inf)}), "shape/model/pcaVariance: expected finite numbers"),
    "NaN": (changed(**{MODEL + "mean": NAN}), r"mean: expected finite float32 numbers, got nan at \[0\]"),
    "half a vertex": (changed(**{MODEL + "mean": np.ones(3 * V + 1)}), "mean: expected three numbers per vertex, got shape"),
    "expression of another mesh": (changed(expression__model__mean=np.ones(3)), "expression/model/mean: expected 150 numbers, got shape"),
    "colors of another mesh": (changed(color__model__mean=np.ones(3)), "color mean: expected 150 numbers, got shape"),
    "text": (changed(**{MODEL + "mean": ["a"] * 6}), "shape/model/mean: expected numbers, got object"),
    "quads": (
        changed(shape__representer__cells=np.ones((4, 9), int)),
        r"cells: expected the three vertices of every face, \(3, F\), got shape \(4, 9\)",
    ),
    "index too large": (changed(shape__representer__cells=np.full((3, 2), V)), "faces: expected indices from 0 to 49, got 50 to 50"),
    "index below 0": (changed(shape__representer__cells=np.full((3, 2), -1)), "faces: expected indices from 0 to 49, got -1 to -1"),
    "broken index": (changed(shape__representer__cells=np.full((3, 2), 0.5)), "cells: expected whole numbers, got float64 that are not"),
    "index that is not finite": (changed(shape__representer__cells=np.full((3, 2), np.nan)), "cells: expected whole numbers"),
    "2009 without deviations": (lambda d: {k: v for k, v in basel_2009(d).items() if k != "shapeEV"}, "expected a dataset shapeEV, found"),
    "2009 without faces": (lambda d: basel_2009(d) | {"tl": np.ones((0, 3))}, r"faces: expected whole numbers of shape \(F, 3\), at least one"),
    "2009 from two models": (lambda d: basel_2009(d) | {"shapeMU": np.ones((30, 1))}, r"expected shape \(30, K\)|expected indices|expected 30"),
}


@pytest.mark.parametrize("change, message", BAD_HDF5.values(), ids=BAD_HDF5)
def test_bad_hdf5_files_are_refused(rng, h5, change, message):
    with pytest.raises(ValueError, match=f"model.h5: .*{message}"):
        morphable.read(h5(change(numbers(rng))))


OBJECTS = np.array([np.ones(3), None], object)
BAD_NPZ = {
    "no template": ({"v_template": None}, "expected an array v_template, found shapedirs, f, weights"),
    "objects": (
        {"shapedirs": OBJECTS},
        r"shapedirs: expected numbers, got Python objects, which run code .*np.load\(\"flame.npz\", allow_pickle=True",
    ),
    "text": ({"v_template": np.array(["a"])}, "v_template: expected numbers, got <U1"),
    "flat template": ({"v_template": np.ones(3 * V)}, r"v_template: expected shape \(V, 3\), got \(150,\)"),
    "basis of another mesh": ({"shapedirs": np.ones((V - 1, 3, 4))}, r"shapedirs: expected shape \(50, 3, K\), as v_template has 50 vertices"),
    "no modes": ({"shapedirs": np.ones((V, 3, 0))}, "shape basis: expected shape"),
    "infinity": ({"shapedirs": np.full((V, 3, 2), 1e39)}, "shape basis: expected finite float32 numbers, got inf"),
    "quads": ({"f": np.ones((5, 4), int)}, "f: expected the three vertices of every face"),
    "faces of another mesh": ({"f": np.full((5, 3), V)}, "faces: expected indices from 0 to 49"),
}


@pytest.mark.parametrize("arrays, message", BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz_files_are_refused(rng, tmp_path, arrays, message):
    flame(numbers(rng), tmp_path / "flame.npz", 3, 0, **arrays)
    with pytest.raises(ValueError, match=f"flame.npz: .*{message}"):
        morphable.read(tmp_path / "flame.npz")


def test_nothing_is_unpickled(tmp_path):
    """Not even where a pickle comes under the name of another format."""
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return open, (str(ran), "w")

    evil = np.array([Evil()], object)
    np.savez(tmp_path / "objects.npz", v_template=evil, shapedirs=evil, f=evil)
    np.save(tmp_path / "objects.npy", evil, allow_pickle=True)
    evil.dump(tmp_path / "model.pkl")
    (tmp_path / "array.npz").write_bytes((tmp_path / "objects.npy").read_bytes())
    (tmp_path / "pickle.npz").write_bytes((tmp_path / "model.pkl").read_bytes())
    for name, message in (("objects", "got Python objects"), ("array", "expected a complete .npz"), ("pickle", "expected a complete .npz")):
        with pytest.raises(ValueError, match=f"{name}.npz: .*{message}"):
            morphable.read(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match="model.pkl: expected a morphable model, .h5, .hdf5, .npz, got '.pkl'"):
        morphable.read(tmp_path / "model.pkl")
    assert not ran.exists()


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such morphable model: .*missing.h5"):
        morphable.read(tmp_path / "missing.h5")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match="folder.npz"):
        morphable.read(tmp_path / "folder.npz")


def test_truncated_hdf5_files_are_refused(rng, h5, tmp_path):
    whole = h5(basel(numbers(rng))).read_bytes()
    for end in (0, 1, 8, len(whole) - 1, *rng.integers(0, len(whole), 40)):
        (tmp_path / "cut.h5").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut.h5: expected a complete HDF5 file, got one that cannot be read"):
            morphable.read(tmp_path / "cut.h5")


def test_damaged_datasets_are_refused(rng, tmp_path):
    """Bytes within a packed dataset, which HDF5 notices when it unpacks them."""
    pytest.importorskip("h5py")
    morphable.write(tmp_path / "model.h5", numbers(rng))
    whole = bytearray((tmp_path / "model.h5").read_bytes())
    start = whole.index(b"\x78\x5e" if b"\x78\x5e" in whole else b"\x78\x9c")
    whole[start + 20 : start + 60] = bytes(40)
    (tmp_path / "model.h5").write_bytes(whole)
    with pytest.raises(ValueError, match="model.h5: expected a complete HDF5 file, got one that cannot be read"):
        morphable.read(tmp_path / "model.h5")


@pytest.fixture(scope="module")
def whole_npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "flame.npz"
    flame(numbers(np.random.default_rng(0)), path, 3, 0)
    return path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_npz_files_never_crash(tmp_path_factory, whole_npz, data):
    """Cut off anywhere, or with changed bytes, whose check sums then differ unless they are of no consequence."""
    cut = data.draw(st.booleans())
    damaged = bytearray(whole_npz[: data.draw(st.integers(0, len(whole_npz) - 1))] if cut else whole_npz)
    for _ in range(0 if cut else data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(bytes(damaged))
    try:
        d = morphable.read(path)
    except ValueError as error:
        assert "damaged.npz: " in str(error) and "allow_pickle" not in str(error)
    else:
        assert not cut and np.isfinite(d.mean).all() and np.isfinite(d.shape.basis).all()


def test_without_h5py(rng, h5, tmp_path, monkeypatch):
    path, real = h5(basel(numbers(rng))), builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError("No module named 'h5py'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"model.h5: HDF5 files take the package h5py: pip install taichi_dr\[face\]"):
        morphable.read(path)
    with pytest.raises(ImportError, match=r"pip install taichi_dr\[face\]"):
        morphable.write(tmp_path / "out.h5", numbers(rng))


def test_what_is_wrong_is_not_written(rng, tmp_path):
    pytest.importorskip("h5py")
    d = numbers(rng)
    with pytest.raises(ValueError, match="mean: expected finite float32 numbers"):
        morphable.write(tmp_path / "model.h5", d._replace(mean=NAN))
    assert not (tmp_path / "model.h5").exists()
