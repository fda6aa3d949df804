"""Checkpoints: resumed fits end bitwise as others, whatever stopped them; full disks and hostile files do no harm.

KILLS=20 python -m pytest -s tests/test_checkpoint.py -k kill       kills a fit at 20 random moments, one after another
FUZZ=2000 python -m pytest tests/test_checkpoint.py -k hostile      feeds so many damaged files to each of the fuzz tests
"""

import errno
import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import checkpoint, optim
from taichi_dr.checkpoint import Checkpoint
from taichi_dr.fit_parameter import OPTIMIZERS

KINDS = [name for name, kind in OPTIMIZERS.items() if hasattr(optim, kind)]
FUZZ = settings(max_examples=int(os.environ.get("FUZZ", 60)), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RESUMABLE = pathlib.Path(__file__).with_name("resumable.py")
MEMORY = pathlib.Path("/dev/shm")  # a file system in memory, if there is one
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture
def tmp_path():
    """A folder in memory: that something is on the disk, a busy one may take a second to say, and here it is asked hundreds of times."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield pathlib.Path(folder)


# --- Files --------------------------------------------------------------------------------------------------------


def arrays_of_all_kinds(rng):
    return {
        "floats": rng.normal(size=(3, 4)).astype(np.float32), "double": rng.normal(size=5), "number": np.array(3.5), "none": np.zeros((0, 3)),
        "faces": rng.integers(0, 9, (4, 3)).astype(np.int32), "text": np.array("Adam"), "yes": np.array([True, False]),
        "a.b c-d": np.asfortranarray(rng.normal(size=(2, 3))), "nan": np.array([np.nan, np.inf, -0.0]),
    }  # fmt: skip


def test_what_is_written_is_read(rng, tmp_path):
    arrays, meta = arrays_of_all_kinds(rng), {"made": 3, "text": "ä", "float": 0.1}
    path = tmp_path / "new folder" / "a.npz"
    checkpoint.save(path, arrays, meta)
    with Checkpoint(path) as saved:
        assert saved.meta == meta and set(saved.entries) == {"meta", *arrays}
        for name, values in arrays.items():
            read = saved.read(name)
            assert (read.dtype, read.shape, read.tobytes()) == (values.dtype, values.shape, values.tobytes())
    with np.load(path, allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["faces"], arrays["faces"])
    assert os.listdir(path.parent) == ["a.npz"]


def test_what_cannot_be_written(tmp_path):
    for name, values in (("x", np.array([{}])), ("meta", np.zeros(3)), ("z", np.zeros(2, "c16"))):
        with pytest.raises(ValueError, match="arrays: expected arrays of numbers or text"):
            checkpoint.save(tmp_path / "a.npz", {name: values}, {})
    assert not os.listdir(tmp_path)


def test_parts_of_the_killed_are_removed(f32, tmp_path):
    others = ["a.npz", ".b.npz.01234567.part", "b.npz.part", ".a.npz.part", "notes.txt"]
    for name in [*others, ".a.npz.01234567.part", ".a.npz.89abcdef.part"]:
        (tmp_path / name).write_bytes(b"half")
    checkpoint.remove_parts(tmp_path / "a.npz")
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    checkpoint.remove_parts(tmp_path / "nowhere" / "a.npz")
    for name in ("a[1].npz", "a*.npz"):
        (tmp_path / f".{name}.01234567.part").write_bytes(b"half")
        checkpoint.remove_parts(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullAtTheEnd(io.FileIO):
    """A disk that says at the very last that it is full, as those over a network do."""

    def close(self):
        is_written = not self.closed and self.writable()
        super().close()
        if is_written:
            full()


@pytest.mark.parametrize("where", ["write", "fsync", "replace", "close", "limit"])
def test_a_full_disk_leaves_the_last_one(where, rng, tmp_path, monkeypatch):
    path, before, after = tmp_path / "a.npz", rng.normal(size=50_000), rng.normal(size=80_000)
    checkpoint.save(path, {"x": before}, {})
    limits = None
    if where == "write":
        monkeypatch.setattr(np.lib.format, "write_array", full)
    elif where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif where == "replace":
        monkeypatch.setattr(os, "replace", full)
    elif where == "close":
        monkeypatch.setattr(checkpoint, "open", lambda path, mode: io.BufferedWriter(FullAtTheEnd(path, "x")), raising=False)
    else:
        resource = pytest.importorskip("resource")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (450_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the checkpoint could not be written \(.*\); the one before it, if any, is whole") as caught:
            checkpoint.save(path, {"x": after}, {})
    finally:
        monkeypatch.undo()
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == (errno.EFBIG if where == "limit" else errno.ENOSPC) and caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["a.npz"]
    with Checkpoint(path) as saved:
        np.testing.assert_array_equal(saved.read("x"), before)


def test_an_interrupted_writer_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path / "a.npz", {"x": np.zeros(3)}, {})
    assert not os.listdir(tmp_path)


# --- Fits that go on ----------------------------------------------------------------------------------------------


class Scene:
    """Two arrays on their way to a goal, with noise, minibatches, terms, and a step in between that is skipped."""

    def __init__(self, seed=5):
        rng = np.random.default_rng(seed)
        self.x, self.y = dr.array(rng.normal(size=(1, 6, 3))), dr.array(rng.normal(size=8))
        self.goals = [dr.array(rng.normal(size=(1, 6, 3))) for _ in range(5)]
        self.noise, self.nothing = dr.array(np.zeros(8)), dr.array(np.full(8, np.nan))

    def objective(self, step):
        dr.write(self.noise, step.random.normal(size=8))
        for k in step.views:
            dr.losses.mse(step.parameters["x"], self.goals[k], step.loss)
        dr.losses.mse(self.y, self.noise, step.term("noise"), 0.5 if step.index % 3 else 0.25)
        if step.index == 4:
            dr.losses.mse(self.y, self.nothing, step.term("odd"))

    def fit(self, kind="adam", steps=15, objective=None, **changes):
        options = {
            "lr": 0.05, "schedule": dr.schedules.cosine(), "views": 5, "views_per_step": 2, "seed": 7, "blur": (4.0, 0.5), "clip": 3.0,
            "patience": 500, "optimizer": kind, "progress": False, "seconds": None,
        } | changes  # fmt: skip
        parameters = {"x": self.x, "y": dr.Parameter(self.y, 0.02, bounds=(-1, 1), clip=2.0)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of the skipped step
            return dr.fit(parameters, objective or self.objective, steps, **options)

    def stopped_at(self, k, kind="adam", **options):
        def objective(step):
            self.objective(step)
            if step.index == k:
                raise KeyboardInterrupt

        result = self.fit(kind, objective=objective, **options)
        assert result.interrupted and len(result.history) == k
        return result


def assert_same(one, other):
    for name, x in one.parameters.items():
        assert dr.read(x).tobytes() == dr.read(other.parameters[name]).tobytes(), name
    assert one.history.names == other.history.names and one.ended == other.ended
    for name in one.history.names:
        if name != "seconds":
            assert one.history[name].tobytes() == other.history[name].tobytes(), name
    assert (np.diff(other.history["seconds"]) > 0).all()


@pytest.mark.parametrize("at", [0, 1, 4, 5, 9, 14])
@pytest.mark.parametrize("kind", KINDS)
def test_resumed_ends_as_uninterrupted(kind, at, f32, tmp_path):
    whole = Scene().fit(kind)
    Scene().stopped_at(at, kind, checkpoint=tmp_path / "a.npz")
    assert_same(whole, resumed(tmp_path / "a.npz", kind))


def resumed(path, kind="adam", **options):
    """The fit of the scene, resumed by a program that began with other values."""
    scene = Scene()
    for x in (scene.x, scene.y):
        dr.write(x, np.full_like(dr.read(x), 0.5))
    return scene.fit(kind, checkpoint=path, resume=True, **options)


def test_double_precision_is_resumed(f64, tmp_path):
    whole = Scene().fit()
    Scene().stopped_at(7, checkpoint=tmp_path / "a.npz")
    assert_same(whole, resumed(tmp_path / "a.npz"))


@pytest.mark.parametrize("error", [MemoryError, LookupError, SystemExit])
@pytest.mark.parametrize("where", ["objective", "on_step"])
@pytest.mark.parametrize("at", [0, 1, 6, 11, 14])
def test_an_exception_loses_nothing(where, at, error, f32, tmp_path):
    """The steps before it are saved, and what it ended is done again: so a step of on_step that changes the fit is not left out."""
    path = tmp_path / "a.npz"

    def run(fails=False, **options):
        scene, called = Scene(), []

        def objective(step):
            if fails and where == "objective" and step.index == at:
                raise error("no such picture")
            scene.objective(step)

        def on_step(step):
            called.append((step.index, dict(step.terms), step.values["loss"], step.skipped))
            if step.index == at:
                step.replace("x", dr.array(dr.read(step.parameters["x"]) + 1), lambda moments: 2 * moments)
            if fails and where == "on_step" and step.index == at:
                raise error("no such picture")

        return scene.fit(objective=objective, on_step=on_step, every=None, checkpoint=path, resume=True, **options), called

    with pytest.raises(error):
        run(fails=True)
    saved_steps = at if where == "objective" else at + 1
    if saved_steps:
        with Checkpoint(path) as saved:
            assert saved.meta["made"] == saved_steps and saved.meta["pending"] == (where == "on_step")
    result, called = run()
    path.unlink()
    whole, all_calls = run()
    assert_same(whole, result)
    assert str(called) == str(all_calls[at:])  # NaN too
    with Checkpoint(path) as saved:
        assert not saved.meta["pending"]
    again, called = run()
    assert_same(whole, again)
    assert not called


def test_a_kill_after_an_exception_goes_back_to_what_it_saved(f32, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(LookupError):
        Scene().fit(checkpoint=path, on_step=lambda step: {}["x"] if step.index == 6 else None)
    for _ in range(2):
        with pytest.raises(LookupError):  # as long as it fails it is called again
            resumed(path, on_step=lambda step: {}["x"] if step.index == 6 else None)
    assert_same(Scene().fit(), resumed(path))


def test_a_first_step_that_fails_leaves_the_checkpoint_of_before(f32, tmp_path):
    path = tmp_path / "a.npz"
    Scene().stopped_at(7, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(LookupError):
        Scene().fit(objective=lambda step: {}["x"], checkpoint=path)
    assert path.read_bytes() == before


def test_the_output_of_a_step_is_there_again(f32, tmp_path):
    path, seen = tmp_path / "a.npz", []

    def run(fails):
        scene = Scene()

        def on_step(step):
            seen.append(step.output)
            if fails and step.index == 6:
                raise LookupError

        return scene.fit(objective=lambda step: (scene.objective(step), f"picture {step.index}")[1], on_step=on_step, checkpoint=path, resume=True)

    with pytest.raises(LookupError):
        run(True)
    run(False)
    assert seen == [f"picture {k}" for k in [*range(7), *range(6, 15)]]


def test_arrays_of_ones_own_that_do_not_go_with_the_others_are_not_saved(f32, tmp_path):
    """As where remeshing has changed the faces, and fails before the fit has the new arrays."""
    path, held = tmp_path / "a.npz", {"faces": np.arange(3), "moves": np.zeros(2)}

    def on_step(step):
        held["moves"] = np.full(2, step.values["loss"])
        if step.index == 5:
            held["faces"] = np.arange(6)
            step.replace("x", dr.array(dr.read(step.parameters["x"])))
        if step.index == 9:
            held["faces"] = np.arange(9)
        if step.index in (7, 9):
            raise LookupError("remeshing failed")

    options = {"on_step": on_step, "checkpoint": path, "every": 4, "state": lambda: held, "load_state": held.update, "resume": True}
    with pytest.raises(LookupError):
        Scene().fit(**options)
    with Checkpoint(path) as saved:
        assert saved.meta["made"] == 8 and len(saved.read("state.faces")) == 6  # they changed since 4, but with a replacement
    with pytest.raises(LookupError):
        Scene().fit(**options | {"on_step": lambda step: on_step(step) if step.index == 9 else None})
    with Checkpoint(path) as saved:
        assert saved.meta["made"] == 8 and len(saved.read("state.faces")) == 6


def test_an_exception_is_not_hidden_by_a_full_disk(f32, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LookupError, match="x") as caught:
        Scene().fit(checkpoint=tmp_path / "a.npz", on_step=lambda step: {}["x"] if step.index == 6 else None)
    assert "nothing was saved after it either, for OSError" in "".join(getattr(caught.value, "__notes__", [str(caught.value)]))


def test_ctrl_c_twice_in_on_step(f32, tmp_path):
    path, scene = tmp_path / "a.npz", Scene()

    def on_step(step):
        if step.index == 6:
            step.replace("x", dr.array(np.zeros((1, 6, 3))))
            raise KeyboardInterrupt

    result = scene.fit(on_step=on_step, checkpoint=path)
    assert result.interrupted and len(result.history) == 7 and result.parameters["x"] is scene.x
    assert_same(Scene().fit(), resumed(path))


def test_when_it_is_saved(f32, tmp_path, monkeypatch):
    path, seen = tmp_path / "a.npz", []
    save = checkpoint.save
    monkeypatch.setattr("taichi_dr.fit_state.save", lambda *args: (seen.append(args[2]["made"]), save(*args)))
    for every, seconds, expected in ((4, None, [4, 8, 12, 15]), (None, None, [15]), (5, None, [5, 10, 15]), (None, 0, [*range(1, 16)])):
        seen.clear()
        Scene().fit(checkpoint=path, every=every, seconds=seconds)
        assert seen == expected
    seen.clear()
    result = resumed(path)
    assert seen == [] and len(result.history) == 15  # all done


def test_without_resume_it_begins_anew(f32, tmp_path):
    Scene().stopped_at(7, checkpoint=tmp_path / "a.npz")
    assert_same(Scene().fit(checkpoint=tmp_path / "a.npz"), resumed(tmp_path / "a.npz"))
    assert_same(Scene().fit(), Scene().fit(checkpoint=tmp_path / "none yet.npz", resume=True))


def test_what_ended_stays_so(f32, tmp_path):
    scene, path = Scene(), tmp_path / "a.npz"
    ended = scene.fit(checkpoint=path, on_step=lambda step: step.stop() if step.index == 6 else None)
    assert ended.ended == "asked"
    assert_same(ended, resumed(path))


def test_a_remeshed_fit_is_resumed(f32, tmp_path):
    """Arrays of another shape than the program began with, and faces beside them."""

    def run(path, stop_at=None):
        scene = Scene()
        held = {"faces": np.arange(3), "x": scene.x}

        def double(step):
            if step.index == 5:
                held["faces"] = np.arange(6)
                held["x"] = dr.array(np.repeat(dr.read(held["x"]), 2, axis=1))
                scene.goals = [dr.array(np.repeat(dr.read(g), 2, axis=1)) for g in scene.goals]
                step.replace("x", held["x"], lambda values: np.repeat(values, 2, axis=1))

        def objective(step):
            scene.objective(step)
            if step.index == stop_at:
                raise KeyboardInterrupt

        def load_state(state):
            if len(state["faces"]) == 6:
                held["faces"] = state["faces"]
                scene.goals = [dr.array(np.repeat(dr.read(g), 2, axis=1)) for g in scene.goals]
                return {"x": dr.array(np.zeros((1, 12, 3)))}
            return None

        options = {"state": lambda: {"faces": held["faces"]}, "load_state": load_state, "checkpoint": path, "resume": True}
        return scene.fit(objective=objective, on_step=double, **options), held

    whole, _ = run(tmp_path / "whole.npz")
    for k in (3, 5, 6, 10):
        path = tmp_path / f"{k}.npz"
        run(path, stop_at=k)
        result, held = run(path)
        assert_same(whole, result)
        np.testing.assert_array_equal(held["faces"], np.arange(6))
    with pytest.raises(ValueError, match="it has the state faces, which load_state would take back"):
        resumed(tmp_path / "whole.npz")
    with pytest.raises(ValueError, match=r"parameters.x is float32 \(1, 12, 3\) there and float32 \(1, 6, 3\) here"):
        resumed(tmp_path / "whole.npz", load_state=lambda state: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 20}, "steps is 15 there and 20 here"),
        ({"lr": 0.1}, r"parameters.x.lr is 0.05 there and 0.1 here"),
        ({"kind": "sgd"}, r"parameters.x.optimizer is adam there and sgd here"),
        ({"schedule": dr.schedules.constant()}, r"parameters.x.schedule is cosine\(0\) there and constant\(1\) here"),
        ({"seed": 8}, "seed is 7 there and 8 here"),
        ({"views": 4}, "views is 5 there and 4 here"),
        ({"views_per_step": 3}, "views_per_step is 2 there and 3 here"),
        ({"blur": 2.0}, "blur is 4 to 0.5 pixels there and 2 to 2 pixels here"),
        ({"clip": None}, "clip is 3.0 there and None here"),
    ],
)
def test_a_checkpoint_of_another_fit(changes, message, f32, tmp_path):
    Scene().stopped_at(7, checkpoint=tmp_path / "a.npz")
    with pytest.raises(ValueError, match=rf"a\.npz: expected a checkpoint of this fit, got one of another: {message}; run it with"):
        resumed(tmp_path / "a.npz", **changes)


def curve(end):
    return lambda done: end**done


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        (
            {"schedule": curve(0.1)},
            {"schedule": curve(0.2)},
            r"parameters.x.schedule is curve.<locals>.<lambda> from 1.0 to 0.1 there and curve.* to 0.2 here",
        ),
        (
            {"blur": curve(0.1)},
            {"blur": curve(0.2)},
            r"blur is curve.<locals>.<lambda> from 1.0 to 0.1 there and curve.<locals>.<lambda> from 1.0 to 0.2",
        ),
        ({"schedule": lambda done: 1.0}, {"schedule": lambda done: 1.0 + (0.4 < done < 0.6)}, r"schedule is .*<lambda> from 1.0 to 1.0 there and"),
        (
            {"schedule": dr.schedules.warmup(0.1, curve(0.1))},
            {"schedule": dr.schedules.warmup(0.1, curve(0.2))},
            r"schedule is warmup\(0.1, .*to 0.2 here",
        ),
        ({"schedule": dr.schedules.exponential(0.1)}, {"schedule": dr.schedules.exponential(0.1000001)}, "schedule is exponential.*1000001 here"),
        ({"schedule": dr.schedules.exponential(0.1)}, {"schedule": curve(0.1)}, None),
        ({"schedule": curve(0.1)}, {"schedule": curve(0.1)}, None),
        ({"schedule": curve(0.1)}, {"schedule": curve(0.1 * (1 + 1e-15))}, None),
        ({"blur": 2.0}, {"blur": lambda done: 2}, None),
    ],
)
def test_schedules_are_known_by_their_values(there, here, message, f32, tmp_path):
    Scene().stopped_at(7, checkpoint=tmp_path / "a.npz", **there)
    if message is None:
        assert len(resumed(tmp_path / "a.npz", **here).history) == 15
    else:
        with pytest.raises(ValueError, match=message):
            resumed(tmp_path / "a.npz", **here)


def test_schedules_of_many_steps(f32):
    at = lambda k: lambda done: float(round(done * 9999) == k)  # noqa: E731
    values = {
        dr.schedules.described(schedule, 10_000)["values"] for schedule in (at(0), at(9999), dr.schedules.constant(), dr.schedules.constant(1e-12))
    }
    assert len(values) == 4
    assert dr.schedules.described(dr.schedules.cosine(), 1)["last"] == 1.0
    for value in (None, "x", [1, 2]):
        with pytest.raises(ValueError, match="schedule: expected a function that gives a number for 0, which is how much is done, got"):
            dr.schedules.described(lambda done, value=value: value, 3)


def test_a_remeshed_fit_without_its_mesh(f32, tmp_path):
    """Refused for its shapes, with what to do."""
    scene = Scene()

    def double(step):
        if step.index == 5:
            scene.goals = [dr.array(np.repeat(dr.read(g), 2, axis=1)) for g in scene.goals]
            step.replace("x", dr.array(np.repeat(dr.read(scene.x), 2, axis=1)))

    scene.stopped_at(8, checkpoint=tmp_path / "a.npz", on_step=double)
    with pytest.raises(
        ValueError, match=r"parameters.x is .* \(1, 12, 3\) there and .* \(1, 6, 3\) here; .*If step.replace .*: let state= save .*load_state="
    ):
        resumed(tmp_path / "a.npz")


def test_a_checkpoint_of_other_parameters(f32, tmp_path):
    path, scene = tmp_path / "a.npz", Scene()
    scene.stopped_at(7, checkpoint=path)
    objective = scene.objective
    options = {"checkpoint": path, "resume": True, "progress": False}
    same = {
        "lr": 0.05,
        "schedule": dr.schedules.cosine(),
        "views": 5,
        "views_per_step": 2,
        "seed": 7,
        "blur": (4.0, 0.5),
        "clip": 3.0,
        "patience": 500,
    }
    y = dr.Parameter(scene.y, 0.02, bounds=(-1, 1), clip=2.0)
    for parameters, message in (
        ({"x": scene.x, "z": y}, r"parameters.z.lr is not given there and 0.02 here"),
        ({"x": scene.x}, r"it has parameters.y.\w+"),
        ({"x": dr.array(np.zeros((1, 9, 3))), "y": y}, r"parameters.x is float32 \(1, 6, 3\) there and float32 \(1, 9, 3\) here"),
        ({"x": scene.x, "y": dr.Parameter(scene.y, 0.02, bounds=(-1, 1), clip=2.0, betas=(0.5, 0.9))}, r"parameters.y.settings is \{\} there"),
    ):
        with pytest.raises(ValueError, match=message):
            dr.fit(parameters, objective, 15, **same, **options)


# --- Killed -------------------------------------------------------------------------------------------------------


def child(path, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(RESUMABLE.parent.parent), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, RESUMABLE, path, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def run(path, *arguments):
    """Run it to its end; what it said."""
    with child(path, *arguments) as process:
        out = process.stdout.read()
    assert process.returncode == 0
    return out


def begun(process):
    """Wait for its first step."""
    for line in process.stdout:
        if line.startswith("from"):
            return int(line.split()[1])
    raise AssertionError("it ended before its first step")


def end_of(path):
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name].tobytes() for name in saved.files if name not in ("meta", "history.seconds")}


@pytest.fixture(scope="module")
def whole(request):
    """The end of the program that nobody stopped, and how many seconds it had steps."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        path = pathlib.Path(folder) / "whole.npz"
        with child(path, request.config.getoption("--arch")) as process:
            begun(process)
            started = time.monotonic()
            process.stdout.read()
        assert process.returncode == 0
        return end_of(path), time.monotonic() - started


@posix
def test_kill_at_any_moment(arch, tmp_path, whole):
    seed = int(os.environ.get("SEED", time.time_ns() % 2**32))
    print("seed", seed)
    random, kills = np.random.default_rng(seed), int(os.environ.get("KILLS", 2))
    path, starts, (end, length) = tmp_path / "a.npz", [], whole
    for _ in range(kills):
        with child(path, arch) as process:
            starts.append(begun(process))
            time.sleep(random.uniform(0, 1.5 * length / kills))
            process.kill()
        print("from step", starts[-1], "killed" if process.returncode else "ended before it was killed", sorted(os.listdir(tmp_path)))
    assert "ended steps" in run(path, arch)
    assert starts == sorted(starts)
    assert end_of(path) == end
    assert os.listdir(tmp_path) == ["a.npz"]


@posix
def test_ctrl_c_of_a_program(arch, tmp_path, whole):
    with child(tmp_path / "a.npz", arch, "1000") as process:
        begun(process)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert "ended interrupted" in process.stdout.read()
    assert process.returncode == 0
    with Checkpoint(tmp_path / "a.npz") as saved:
        assert 0 < saved.meta["made"] < 200
    assert "ended steps" in run(tmp_path / "a.npz", arch, "1000")
    assert end_of(tmp_path / "a.npz") == whole[0]


# --- Hostile files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    dr.init("cpu")
    path = tmp_path_factory.mktemp("saved") / "a.npz"
    Scene().stopped_at(12, checkpoint=path)
    return path.read_bytes()


def refused_or_ends(path):
    """A damaged file is a ValueError that says what to do, or what was changed in it is of no importance."""
    try:
        result = resumed(path)
    except ValueError as error:
        assert str(path) in str(error) and ("begin anew" in str(error) or "with the settings of then" in str(error))
    else:
        assert len(result.history) <= 15 and result.ended in ("steps", "plateau", "asked")


def test_hostile_cut_anywhere(saved_bytes, f32, tmp_path):
    path = tmp_path / "a.npz"
    for length in np.unique(np.linspace(0, len(saved_bytes) - 1, 60).astype(int)):
        path.write_bytes(saved_bytes[:length])
        with pytest.raises(ValueError, match=r"a\.npz: expected a whole checkpoint, got one that is cut or changed \(.+\); take a copy of it"):
            resumed(path)


@FUZZ
@given(data=st.data())
def test_hostile_bytes(data, saved_bytes, f32, tmp_path):
    changed = bytearray(saved_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, len(changed) - 1), st.integers(max(0, len(changed) - 3000), len(changed) - 1)))
        what = data.draw(st.sampled_from(["byte", "cut", "insert", "repeat", "number"]))
        if what == "byte":
            changed[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del changed[at : at + data.draw(st.integers(1, 2000))]
        elif what == "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=50))
        elif what == "repeat":
            changed[at:at] = changed[at : at + data.draw(st.integers(1, 500))]
        else:
            changed[at : at + 4] = struct.pack("<I", data.draw(st.sampled_from([0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])))
        if not changed:
            changed = bytearray(b"PK")
    path = tmp_path / "a.npz"
    path.write_bytes(changed)
    refused_or_ends(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=5,
)
DTYPES = st.sampled_from(["<f4", "<f8", ">f4", "<i8", "<i4", "|u1", "|b1", "<U4", "<c8", "|S3", "<M8[s]", "|V4"])


@FUZZ
@given(data=st.data())
def test_hostile_entries(data, saved_bytes, f32, tmp_path):
    """A whole archive, all sums right, with something else in it."""
    with np.load(io.BytesIO(saved_bytes)) as saved:
        arrays = {name: saved[name] for name in saved.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            which = data.draw(st.sampled_from([meta, meta["settings"]] if isinstance(meta.get("settings"), dict) and meta["settings"] else [meta]))
            which[data.draw(st.sampled_from(sorted(which)))] = data.draw(st.one_of(JSON, st.integers(0, 15)))
        elif arrays:
            name = data.draw(st.sampled_from(sorted(arrays)))
            change = data.draw(st.sampled_from(["drop", "shape", "dtype", "values", "rename"]))
            if change == "drop":
                del arrays[name]
            elif change == "rename":
                arrays[data.draw(st.sampled_from(["state.x", "history.new", "../../x", "/etc/x", "parameters.x", "ä", ""]))] = arrays.pop(name)
            elif change == "shape":
                arrays[name] = np.resize(arrays[name], data.draw(st.sampled_from([(), (0,), (1,), (2, 3), (3, 0, 2), (15,), (13,)])))
            elif change == "dtype":
                values, dtype = arrays[name], np.dtype(data.draw(DTYPES))
                arrays[name] = np.resize(np.frombuffer(values.tobytes() + bytes(64), np.uint8)[: dtype.itemsize * 3].view(dtype), values.shape)
            elif arrays[name].dtype.kind in "fi":
                odd = [np.nan, np.inf, -1, 0, 3e38] if arrays[name].dtype.kind == "f" else [-1, 0, 2**62]
                arrays[name] = np.full_like(arrays[name], data.draw(st.sampled_from(odd)))
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, values)
    refused_or_ends(path)


@pytest.mark.parametrize("steps", [-1, 13, 2**62])
def test_hostile_count_of_steps(steps, saved_bytes, f32, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(saved_bytes)
    with Checkpoint(path) as saved:
        arrays, meta = {name: saved.read(name) for name in saved.entries if name != "meta"}, saved.meta
    checkpoint.save(path, arrays | {"optimizers.one.x.steps": np.array(steps)}, meta)
    with pytest.raises(ValueError, match=f"expected steps of optimizers from 0 to 12, got {steps}; begin anew"):
        resumed(path)


def archive(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as out:
        for name, data in entries:
            out.writestr(name, data)


def npy(header, data=b""):
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(descr="<f4", shape="(3,)", fortran="False"):
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


META = ("meta.npy", npy(header("|u1", "(2,)"), b"{}"))


@pytest.mark.parametrize(
    ("entries", "options", "why"),
    [
        ([("x.npy", npy(header(shape="(250000000,)"), bytes(10**8)))], {"compression": zipfile.ZIP_DEFLATED}, "is packed"),
        ([META, ("x.npy", npy(header(shape="(2500000000000,)"), bytes(12)))], {}, "has not the length of its shape"),
        ([META, ("x.npy", npy(header(shape="(-1, -3)"), bytes(12)))], {}, "has elements of"),
        ([META, ("x.npy", npy(header("|O"), b"cos\nsystem\n(S'true'\ntR."))], {}, "has elements of object"),
        ([META, ("x.npy", npy(header(fortran="True"), bytes(12)))], {}, "has elements of"),
        ([META, ("x.npy", npy(header([("a", "<f4")]), bytes(12)))], {}, "has elements of"),
        ([META, ("x.npy", npy("(" * 400, bytes(12)))], {}, "cut or changed"),
        ([META, ("x.npy", npy("-" * 60000 + "1", bytes(12)))], {}, "cut or changed"),
        ([META, ("x.npy", b"\x93NUMPY\x02\x00" + bytes(40))], {}, "is of another format"),
        ([META, ("x.txt", b"")], {}, "is no array"),
        ([("meta.npy", npy(header("|u1", "(4,)"), b"[[[["))], {}, "cut or changed"),
        ([("meta.npy", npy(header("|u1", "(90000,)"), b"[" * 90000))], {}, "cut or changed"),
        ([("meta.npy", npy(header("|u1", "(2,)"), b"[]"))], {}, "no description"),
        ([("meta.npy", npy(header("|u1", "(2000000,)"), bytes(2000000)))], {}, "no description"),
        ([("x.npy", npy(header(), bytes(12)))], {}, "no description"),
        ([(f"{k}.npy", b"") for k in range(10_001)], {}, "10001 entries"),
    ],
)
def test_hostile_archives(entries, options, why, tmp_path):
    path = tmp_path / "a.npz"
    archive(path, entries, **options)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=why):
            Checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_hostile_entries_over_one_another(tmp_path):
    """Many entries over the same bytes: a bomb without compression."""
    path, data = tmp_path / "a.npz", io.BytesIO()
    with zipfile.ZipFile(data, "w") as out:
        out.writestr("x.npy", npy(header(shape="(25000,)"), bytes(100_000)))
        first = out.infolist()[0]
        for k in range(50):
            info = zipfile.ZipInfo(f"x{k}.npy")
            info.file_size = info.compress_size = first.file_size
            info.CRC, info.header_offset = first.CRC, 0
            out.filelist.append(info)
            out.NameToInfo[info.filename] = info
        out._didModify = True
    path.write_bytes(data.getvalue())
    with pytest.raises(ValueError, match="entries that are larger than the file|overlap|differ"):
        Checkpoint(path)


def test_hostile_list_of_entries(tmp_path):
    """A file with a hole that claims to be a list of entries of a gigabyte."""
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 30)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 1 << 30, 0, 0))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a list of entries of 1073741824 bytes"):
            Checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_hostile_twice_the_same_name(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(path, [META, META])
    with pytest.raises(ValueError, match="two entries of one name"):
        Checkpoint(path)


def test_no_file_is_an_error_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        Checkpoint(tmp_path / "a.npz")
