"""From photographs to a mesh: quick fits, what they leave, and that those which were stopped end bitwise as others.

KILLS=20 SEED=1 python -m pytest -s tests/test_reconstruct.py -k "kill and random"      kills a run at 20 random moments, one after another
"""

import csv
import dataclasses
import importlib
import inspect
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import resumable_reconstruct
from photographs import around, colored, rendered, saved
from PIL import Image

import taichi_dr as dr
from taichi_dr import checkpoint

module = importlib.import_module("taichi_dr.reconstruct")
VIEWS = 12
CELLS = 32  # of the hulls, for speed
QUICK = {"steps": 15, "vertices": 300, "texture_size": 32, "views_per_step": 3}
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def torus():
    return colored(dr.shapes.torus(0.7, 0.3, (32, 16)))


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """A data set on the disk."""
    dr.init(request.config.getoption("--arch"), strict=True)
    path = tmp_path_factory.mktemp("torus")
    saved(path, torus(), around(VIEWS))
    return path


@pytest.fixture(autouse=True, scope="module")
def coarse_hulls():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CELLS", (CELLS, CELLS))
        yield


@pytest.fixture
def photos(f32, folder):
    return dr.Photos.load(folder)


def quick(photos, out=None, resume=False, held_out=None, overwrite=False, **settings):
    how = {"out": out, "resume": resume, "overwrite": overwrite, "held_out": held_out, "progress": False}
    return dr.reconstruct(photos, dr.Settings(**QUICK | settings), **how)


def arrays_of(mesh):
    return {name: dr.read(x) for name, x in vars(mesh).items() if hasattr(x, "element_shape")}


def assert_finite(found):
    for name, values in arrays_of(found.mesh).items():
        assert np.isfinite(values).all(), name
    assert np.isfinite(found.result.history["loss"]).all() and not found.result.history["skipped"].any()
    assert np.isfinite(list(found.scores.values())).all()


def assert_same(one, other):
    a, b = arrays_of(one.mesh), arrays_of(other.mesh)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
    assert one.result.history.names == other.result.history.names and one.result.ended == other.result.ended
    for name in one.result.history.names:
        if name != "seconds":
            assert one.result.history[name].tobytes() == other.result.history[name].tobytes(), name
    assert (one.start, one.end, one.scores) == (other.start, other.end, other.scores)


def logged(out):
    with open(out / "loss.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


# --- Fits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large_steps", [True, False])
def test_a_quick_fit_from_the_hull(photos, tmp_path, large_steps):
    fitted, held_out = photos.split(8)
    found = quick(fitted, tmp_path / "new" / "run", held_out=held_out, large_steps=large_steps)
    assert_finite(found)
    history = found.result.history
    assert history["loss"][-3:].mean() < 0.8 * history["loss"][:3].mean()
    assert found.scores["held_out"][0] > 0.93 and found.scores["held_out"][1] > 17
    assert found.end.watertight and found.end.volume > 0 and found.end.flipped_faces == 0 and found.end.self_intersections == 0
    assert 200 < found.end.vertices < 400 and found.mesh.vertices.shape[1] == found.end.vertices
    colors = dr.read(found.mesh.colors)
    assert colors.min() >= 0 and colors.max() <= 1 and colors.std() > 0.05
    out = tmp_path / "new" / "run"
    assert {"report.html", "loss.csv", "fit.gif", "mesh.obj", "mesh.glb", "checkpoint.npz"} < {path.name for path in out.iterdir()}
    loaded = dr.Mesh.load(out / "mesh.obj", texture="vertex")
    np.testing.assert_allclose(dr.read(loaded.vertices), dr.read(found.mesh.vertices), atol=1e-5)
    rows = logged(out)
    assert [int(row["step"]) for row in rows] == list(range(15))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], history["loss"], rtol=1e-6)
    for name in ("image", "silhouette", "normals"):
        assert float(rows[0][name]) > 0
    measured = [row for row in rows if row["self_intersections"]]
    assert measured[0] is rows[0] and measured[-1] is rows[-1] and 4 < len(measured) < 8
    assert {row["self_intersections"] for row in measured} == {row["flipped_faces"] for row in measured} == {"0.0"}


def test_a_quick_fit_from_a_sphere(f32, tmp_path):
    """Of a cube, without the hull; it is remeshed half-way."""
    fitted, held_out = saved(tmp_path / "photos", colored(dr.shapes.cube(1.1, 6)), around(VIEWS)).split(8)
    found = quick(fitted, tmp_path / "run", held_out=held_out, start="sphere", steps=90)
    assert_finite(found)
    losses = found.result.history["loss"]  # of blurred edges up to step 45, then of sharp ones
    assert losses[42:45].mean() < 0.7 * losses[:3].mean() and losses[-3:].mean() < losses[45:48].mean()
    assert found.start.vertices == 162 and 200 < found.end.vertices < 400
    assert found.scores["held_out"][0] > 0.85
    assert found.end.watertight and found.end.volume > 0 and found.end.flipped_faces == 0
    assert len(logged(tmp_path / "run")) == 90


def test_a_texture(photos, tmp_path):
    plain, found = quick(photos), quick(photos, tmp_path, texture="uv", steps=24)
    assert_finite(found)
    assert found.mesh.texture.shape == (1, 32, 32) and (tmp_path / "mesh.png").exists() and (tmp_path / "mesh.mtl").exists()
    assert dr.read(found.mesh.texture).min() >= 0 and dr.read(found.mesh.texture).max() <= 1
    assert found.scores["fitted"][1] > plain.scores["fitted"][1]
    assert found.end.vertices == plain.end.vertices and found.end.watertight
    loaded = dr.Mesh.load(tmp_path / "mesh.obj", texture="uv")
    assert loaded.texture.shape == (1, 32, 32)
    rows, kept = logged(tmp_path), dr.recording.read(tmp_path)
    assert [int(row["step"]) for row in rows] == list(range(30)) and kept["about"]["steps"] == 30  # the texture's after the shape's
    losses = [float(row["texture"]) for row in rows[24:]]
    assert losses == [float(row["loss"]) for row in rows[24:]] and losses[-1] < losses[0]
    assert not any(row["texture"] for row in rows[:24]) and not any(row["image"] or row["silhouette"] for row in rows[24:])
    assert [bool(snapshot["mesh"]["texture"]) for snapshot in kept["snapshots"]] == [False] * 24 + [True] * 6


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_objects_of_any_size(photos, tmp_path, scale):
    """The same up to scale: all lengths are in proportion to the object."""
    expected = quick(photos)
    found = quick(saved(tmp_path, colored(torus(), scale), around(VIEWS, distance=3 * scale), scale))
    assert_finite(found)
    assert found.end.volume / scale**3 == pytest.approx(expected.end.volume, rel=0.01)
    assert found.scores["fitted"][0] == pytest.approx(expected.scores["fitted"][0], abs=0.003)
    # The colors of the scaled one go by its own places.
    np.testing.assert_allclose(found.result.history["lr.shape"] / scale, expected.result.history["lr.shape"], rtol=1e-4)


def test_objects_far_from_the_origin(photos, tmp_path):
    center = np.array([300.0, -200.0, 100.0])
    found = quick(saved(tmp_path, colored(torus(), 1.0, center), around(VIEWS, at=tuple(center))))
    assert_finite(found)
    expected = quick(photos)
    assert found.end.volume == pytest.approx(expected.end.volume, rel=0.01)
    assert found.scores["fitted"][0] == pytest.approx(expected.scores["fitted"][0], abs=0.003)
    middle = 0.5 * (dr.read(found.mesh.vertices)[0].min(axis=0) + dr.read(found.mesh.vertices)[0].max(axis=0))
    np.testing.assert_allclose(middle, center, atol=0.03)


@pytest.mark.parametrize("texture", ["vertex", "uv"])
def test_other_backgrounds(photos, tmp_path, texture):
    white = (1.0, 1.0, 1.0)
    some = saved(tmp_path, torus(), around(VIEWS), background=white)
    assert some.background == white and photos.background == (0.0, 0.0, 0.0)
    found, expected = quick(some, texture=texture), quick(photos, texture=texture)
    assert found.scores["fitted"][0] == pytest.approx(expected.scores["fitted"][0], abs=0.01)
    # Were it drawn over black, the error outside would be 1.
    assert found.scores["fitted"][1] > 16
    with pytest.raises(ValueError, match=r"photos: expected images over one background, got \(1.0, .*load them with background=\(0, 0, 0\)"):
        quick(some, held_out=photos)
    with pytest.raises(ValueError, match="photos: expected images over one background, got None"):
        quick(dr.Photos.load(tmp_path, background=None))


def test_held_out_views_from_nearer(photos, tmp_path):
    """What is near to them only is not cut away."""
    near = saved(tmp_path, torus(), around(4, distance=1.6, fov=75))
    assert quick(photos, held_out=near, steps=1).scores["held_out"][0] > 0.9


def test_coarse_meshes_begin_at_coarse_hulls(photos, monkeypatch):
    """At the default's vertices and above it is the hull's own default."""
    monkeypatch.setattr(module, "CELLS", (56, 80))
    cells = []

    def carved(photos, count, bounds):
        cells.append(count)
        raise InterruptedError

    monkeypatch.setattr(module, "visual_hull", carved)
    for vertices in (50, 500, 5000, dr.Settings.vertices, 2_000_000):
        with pytest.raises(InterruptedError):
            dr.reconstruct(photos, dr.Settings(vertices=vertices), progress=False)
    assert cells == [56, 56, 67, 80, 80] and inspect.signature(dr.visual_hull).parameters["cells"].default == 80


# --- Photographs that cannot be fitted -----------------------------------------------------------------------------------


def test_photographs_without_masks(f32, tmp_path):
    images = rendered(torus(), around(6), background=(0.2, 0.4, 0.6))
    images[..., 3] = 1
    dr.Photos.save(tmp_path, images, around(6))
    photos = dr.Photos.load(tmp_path)
    assert len(photos.unmasked()) == 6
    message = "photos: expected masks, got 6 of 6 with alpha 1 everywhere: 0000.png, 0001.png, 0002.png ...; give masks or images with alpha"
    with pytest.raises(ValueError, match=message):
        quick(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_photograph_of_nothing(f32, tmp_path):
    images = rendered(torus(), around(6))
    images[3] = 0
    dr.Photos.save(tmp_path, images, around(6))
    with pytest.raises(ValueError, match="expected a mask that shows the object, got '0003.png' with none of it; remove this view"):
        quick(dr.Photos.load(tmp_path))
    assert_finite(quick(dr.Photos.load(tmp_path).subset([0, 1, 2, 4, 5])))


def test_photographs_of_several_sizes(f32, tmp_path):
    for name, size in (("a", 32), ("b", 48)):
        saved(tmp_path / name, torus(), around(6, size))
    text = (tmp_path / "a" / "transforms.json").read_text()
    (tmp_path / "a" / "transforms.json").write_text(text.replace('"w": 32', '"w": 48').replace('"h": 32', '"h": 48'))
    Image.open(tmp_path / "b/images/0000.png").save(tmp_path / "a/images/0000.png")
    (tmp_path / "a" / "transforms.json").write_text(text)
    meta = text.replace('"frames": [\n    {', '"frames": [\n    {\n      "w": 48, "h": 48, "fl_x": 60, "fl_y": 60, "cx": 24, "cy": 24,', 1)
    (tmp_path / "a" / "transforms.json").write_text(meta)
    photos = dr.Photos.load(tmp_path / "a")
    assert len(set(photos.sizes)) == 2
    with pytest.raises(ValueError, match=r"photos: expected photographs of one size, got .*; load them with size=\(height, width\)"):
        quick(photos)
    assert_finite(quick(dr.Photos.load(tmp_path / "a", size=(32, 32)), steps=3))


def test_one_photograph_has_no_depth(photos):
    with pytest.raises(ValueError, match="photos: expected views from at least two directions"):
        quick(photos.subset([0]))


def test_few_photographs_and_large_steps_of_views(photos):
    found = quick(photos.subset([0, 5, 11]), views_per_step=100, steps=3)
    assert_finite(found)


# --- Settings ---------------------------------------------------------------------------------------------------------


BAD = {
    **{name: [0, -1, 1.5, True, None, "4", np.nan] for name in ("steps", "views_per_step", "vertices", "texture_size")},
    "vertices": [0, 49, 2_000_001, 1e4, True],
    "texture_size": [15, 8193, 512.0, False],
    "seed": [-1, 0.5, True, None],
    "start": ["ball", None, 1, "", "Hull"],
    "texture": ["vertices", None, True],
    "large_steps": [1, "yes", None],
    "lr": [0, -1e-3, np.nan, np.inf, True, "0.1", None, 1.5],
    "color_lr": [0, -1, np.nan, np.inf, True],
    **{name: [-1, np.nan, np.inf, -np.inf, True, None, "1"] for name in ("smoothness", "silhouette", "normals")},
    "blur": [1.0, (1.0,), (1, 2, 3), (0, 1), (1, -1), (np.nan, 1), (True, 1), "ab", None],
}


def test_every_setting_is_checked():
    assert BAD.keys() == {field.name for field in dataclasses.fields(dr.Settings)}
    for name, values in BAD.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{name}: expected .+, got .+; .+ is usual$"):
                dr.Settings(**{name: value})


def test_settings_are_plain_values():
    some = dr.Settings(steps=np.int64(5), lr=np.float32(0.5), blur=[2, np.float64(1)], large_steps=np.bool_(False), smoothness=0, normals=0)
    assert some == dr.Settings(steps=5, lr=0.5, blur=(2.0, 1.0), large_steps=False, smoothness=0.0, normals=0.0)
    assert [type(value) for value in dataclasses.astuple(some)] == [type(value) for value in dataclasses.astuple(dr.Settings())]


# --- Stopped and resumed ------------------------------------------------------------------------------------------------


@pytest.fixture
def stop_at(monkeypatch):
    """A run that meets an error in a step of a stage."""
    monkeypatch.setattr(module, "EVERY", 4)
    fit = module.fit

    def stop(stage, index, error):
        if stage is None:
            monkeypatch.setattr(module, "fit", fit)
            return
        stages = iter(("shape", "texture"))

        def stopping(parameters, objective, steps, **settings):
            name = next(stages)

            def measured(step):
                if (name, step.index) == (stage, index):
                    raise error
                objective(step)

            return fit(parameters, measured, steps, **settings)

        monkeypatch.setattr(module, "fit", stopping)

    yield stop


FULL = {"start": "sphere", "texture": "uv", "steps": 16}


@pytest.fixture(scope="module")
def whole(folder):
    """Runs that nobody stopped."""
    runs = {}

    def run(**settings):
        key = tuple(settings.items())
        if key not in runs:
            runs[key] = quick(dr.Photos.load(folder), **settings)
        return runs[key]

    return run


@pytest.mark.parametrize(("stage", "index"), [("shape", 6), ("shape", 13), ("texture", 2)])
def test_resumed_ends_as_uninterrupted(photos, whole, tmp_path, stop_at, stage, index):
    """Also across the remeshing half-way and in the stage of the texture; after an error, and after Ctrl-C."""
    expected = whole(**FULL)
    stop_at(stage, index, MemoryError())
    with pytest.raises(MemoryError):
        quick(photos, tmp_path, **FULL)
    stop_at(None, None, None)
    assert_same(expected, quick(photos, tmp_path, True, **FULL))
    assert len(logged(tmp_path)) == 20
    if stage == "texture":  # of what is finished
        assert_same(expected, quick(photos, tmp_path, True, **FULL))


def test_a_run_from_the_hull_is_resumed(photos, whole, tmp_path, stop_at):
    stop_at("shape", 9, MemoryError())
    with pytest.raises(MemoryError):
        quick(photos, tmp_path)
    stop_at(None, None, None)
    expected = whole()
    assert_same(expected, quick(photos, tmp_path, True))
    assert_same(expected, quick(photos, tmp_path / "new", True))  # nothing there yet: it begins


@pytest.mark.parametrize(("stage", "index"), [("shape", 0), ("texture", 2)])
def test_ctrl_c(photos, whole, tmp_path, stop_at, stage, index):
    """The result so far is given back and on the disk."""
    quick(photos, tmp_path, steps=3)  # of which nothing may be left
    stop_at(stage, index, KeyboardInterrupt())
    found = quick(photos, tmp_path, overwrite=True, **FULL)
    assert found.result.interrupted and len(found.result.history) == (index if stage == "shape" else 16)
    for values in arrays_of(found.mesh).values():
        assert np.isfinite(values).all()
    assert {"report.html", "loss.csv", "mesh.obj", "mesh.glb", "checkpoint.npz"} <= {path.name for path in tmp_path.iterdir()}
    assert len(logged(tmp_path)) == len(found.result.history) + (0 if stage == "shape" else index)
    loaded = dr.Mesh.load(tmp_path / "mesh.obj", texture="vertex")
    np.testing.assert_allclose(dr.read(loaded.vertices), dr.read(found.mesh.vertices), atol=1e-5)
    stop_at(None, None, None)
    assert_same(whole(**FULL), quick(photos, tmp_path, True, **FULL))


def test_begun_anew_nothing_of_another_run_is_taken(photos, whole, tmp_path, stop_at):
    """The texture of another run with the same settings is not this one's."""
    quick(photos.subset(range(1, VIEWS)), tmp_path, **FULL)
    stop_at("shape", 1, MemoryError())
    with pytest.raises(MemoryError):
        quick(photos, tmp_path, overwrite=True, **FULL)
    assert {path.name for path in tmp_path.iterdir()} == {"recording", "checkpoint.npz"}  # of this one, no result and no texture of the other
    assert dr.recording.read(tmp_path)["about"]["finished"] is False
    stop_at(None, None, None)
    assert_same(whole(**FULL), quick(photos, tmp_path, True, **FULL))


def test_a_folder_that_holds_a_run(photos, finished, tmp_path):
    """It is not written over unasked, nor by what cannot begin."""

    def content():
        return {path: path.read_bytes() for path in sorted(finished.rglob("*")) if path.is_file()}

    before = content()
    with pytest.raises(ValueError, match="out: expected a folder without a run, got .*; give resume=True .*, overwrite=True .*, or another folder"):
        quick(photos, finished)
    with pytest.raises(ValueError, match="photos: expected views from at least two directions"):
        quick(photos.subset([0]), finished, overwrite=True)
    with pytest.raises(ValueError, match="overwrite: expected False with resume"):
        quick(photos, finished, True, overwrite=True)
    assert content() == before
    (tmp_path / "mine.txt").write_text("of the user")
    quick(photos, tmp_path, steps=1)  # a folder that is there, without a run
    quick(photos, tmp_path, steps=1, overwrite=True)
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 20}, "steps is 15 there and 20 here"),
        ({"vertices": 200}, "vertices is 300 there and 200 here"),
        ({"smoothness": 5.0}, "smoothness is 19.0 there and 5.0 here"),
        ({"start": "sphere"}, "start is hull there and sphere here"),
        ({"large_steps": False}, "large_steps is True there and False here"),
        ({"normals": 0.5}, "normals is 0.02 there and 0.5 here"),
        ({"silhouette": 0.5}, "silhouette is 1.0 there and 0.5 here"),
        ({"blur": (2.0, 1.0)}, r"blur is \[1.5, 0.5\] there and \[2.0, 1.0\] here"),
        ({"texture": "uv"}, "texture is vertex there and uv here"),
        ({"seed": 3}, "seed is 0 there and 3 here"),
        ({"color_lr": 0.5}, "color_lr is 0.02 there and 0.5 here"),
    ],
)
def test_other_settings_are_refused(photos, finished, changes, message):
    path, content = finished / "checkpoint.npz", (finished / "checkpoint.npz").read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint\.npz: expected a checkpoint of this fit, got one of another: {message}; run it with"):
        quick(photos, finished, True, **changes)
    assert path.read_bytes() == content


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    quick(dr.Photos.load(folder), out)
    return out


def test_other_photographs_are_refused(photos, finished, tmp_path):
    with pytest.raises(ValueError, match="photos is 12 of 48 x 48 pixels.* there and 12 of 48 x 48 pixels, .* over .1.0, .* here"):
        quick(saved(tmp_path, torus(), around(VIEWS), background=(1.0, 1.0, 1.0)), finished, True)
    with pytest.raises(ValueError, match="photos is 12 of .* 0000.png to 0011.png, .* there and 11 of .* 0000.png to 0010.png, .* here"):
        quick(photos.subset(range(11)), finished, True)
    with pytest.raises(ValueError, match="resume: expected the folder of the run with it, got none; give out"):
        quick(photos, None, True)


@pytest.mark.parametrize(
    ("name", "values"),
    [("faces", np.full((4, 3), 10**6)), ("faces", np.zeros((0, 3), int)), ("vertices", np.full((1, 2, 3), np.nan)), ("settings", np.array("{"))]
    + [("settings", np.array("[3]")), ("settings", np.zeros(3)), ("vertices", np.array("x")), ("faces", None), ("settings", None)],
)
def test_hostile_checkpoints(photos, finished, tmp_path, name, values):
    with checkpoint.Checkpoint(finished / "checkpoint.npz") as kept:
        arrays, meta = {key: kept.read(key) for key in kept.entries if key != "meta"}, kept.meta
    arrays |= {f"state.{name}": values}
    checkpoint.save(tmp_path / "checkpoint.npz", {key: x for key, x in arrays.items() if x is not None}, meta)
    with pytest.raises(ValueError, match=r"checkpoint\.npz: expected"):
        quick(photos, tmp_path, True)


# --- Killed -------------------------------------------------------------------------------------------------------------


def child(*arguments):
    program = pathlib.Path(resumable_reconstruct.__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(program.parent.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment)


def end_of(out):
    """What a run leaves, without its times."""
    ends = {"mesh.obj": (out / "mesh.obj").read_bytes(), "mesh.glb": (out / "mesh.glb").read_bytes(), "rows": logged(out)}
    for path in sorted(out.glob("*.npz")):
        with np.load(path, allow_pickle=False) as kept:
            ends |= {f"{path.name}.{name}": kept[name].tobytes() for name in kept.files if name not in ("meta", "history.seconds")}
    return ends


def unstopped(folder, out, *arguments):
    with child(folder, out, *arguments) as process:
        said = process.stdout.read()
    assert process.returncode == 0 and "ended steps" in said
    return end_of(out)


def first_step(process):
    """Wait until it is made, kernels compiled; stage and number."""
    for line in process.stdout:
        if line.startswith("made"):
            return line.removeprefix("made ").strip()
    return "texture, all made"


@posix
def test_kill_in_every_stage(arch, f32, folder, tmp_path):
    """One run, killed after it is remeshed, before that is saved, and in a step of the texture."""
    kind, steps, out = ("sphere", "uv", arch), 16, tmp_path / "killed"
    started = []
    for where in ("remesh 1", "texture 2"):
        with child(folder, out, *kind, steps, where) as process:
            started += [line.split()[1:] for line in process.stdout if line.startswith("from")]
        assert process.returncode == -signal.SIGKILL
    assert started == [["shape", "0"], ["shape", "6"], ["texture", "0"]]
    assert here(folder, out, *kind[:2], steps, True) == here(folder, tmp_path / "whole", *kind[:2], steps, False)


def here(folder, out, start, texture, steps, resume):
    """As the program does, in this process."""
    dr.reconstruct(dr.Photos.load(folder), resumable_reconstruct.settings(start, texture, steps), out=out, resume=resume, progress=False)
    return end_of(out)


@posix
@pytest.mark.skipif("KILLS" not in os.environ, reason="takes minutes: KILLS=20")
@pytest.mark.parametrize(("start", "texture"), [("sphere", "uv"), ("hull", "vertex")])
def test_kill_at_random_moments(arch, f32, folder, tmp_path, start, texture):
    seed, kills, steps = int(os.environ.get("SEED", time.time_ns() % 2**32)), int(os.environ["KILLS"]), 200
    print("seed", seed)
    random, kind, out = np.random.default_rng(seed), (start, texture, arch, steps), tmp_path / "killed"
    with child(folder, tmp_path / "whole", *kind) as process:
        first_step(process)
        begun = time.monotonic()
        process.stdout.read()
        length = time.monotonic() - begun
    expected, places = end_of(tmp_path / "whole"), []
    for _ in range(kills):
        with child(folder, out, *kind) as process:
            early = random.random() < 0.2  # while it starts
            if early:
                time.sleep(random.uniform(0, 3))
            else:
                places.append(first_step(process))
                time.sleep(random.uniform(0, 3.5 * length / kills))
            process.kill()
            print("early" if early else places[-1], "killed" if process.wait() else "ended before it was killed")
    assert unstopped(folder, out, *kind) == expected
    stages = [place.split()[0] for place in places]
    assert stages == sorted(stages) and (len(set(places)) > 1 or kills < 5)  # it came on in between
