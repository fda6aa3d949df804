"""The command line, command by command: what each writes can be read, what each says is so, and what each refuses is one sentence."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import cli, live, runtime
from taichi_dr.cli import demo, doctor, fit, machine, selftest, toml
from taichi_dr.cli import settings as fields
from taichi_dr.io.colmap import read_colmap

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(f32, monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder; gives back (exit code, stdout, stderr)."""
    monkeypatch.setattr(runtime, "init", lambda *_, **__: runtime.device())
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def photos(f32, tmp_path):
    """A data set of 8 views of 32 x 32 pixels: a sphere, red on one side."""
    folder = tmp_path / "photos"
    sphere = dr.shapes.icosphere(2)
    x = dr.read(sphere.vertices)[0]
    mesh = dr.Mesh(x * (1.0, 0.7, 0.8), dr.read(sphere.faces), np.where(x[:, :1] > 0, (0.9, 0.2, 0.2), (0.2, 0.3, 0.9)))
    angles = {"elevation": [20, -20] * 4, "azimuth": np.arange(8) * 45}
    renderer = dr.DeferredRenderer(antialias=2)
    images = [dr.read(renderer(mesh, dr.Camera.orbit(4.0, e, a, fov=40, size=32)))[0] for e, a in zip(*angles.values(), strict=True)]
    dr.Photos.save(folder, np.stack(images), dr.Camera.orbit(4.0, **angles, fov=40, size=32))
    return folder


QUICK = ("--steps", 4, "--vertices", 300, "--views-per-step", 2)


def program(tmp_path, *words, **environment):
    """Run the command in a process of its own."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "taichi_dr", *map(str, words)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": paths} | environment)


# --- As a whole --------------------------------------------------------------------------------------------------------


def test_the_library_does_not_import_the_command_line():
    code = "import taichi_dr, sys; assert 'taichi_dr.cli' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)


def test_as_a_module(f32, tmp_path):
    done = program(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"taichi_dr {dr.__version__}\n")
    dr.shapes.icosphere(1).save(tmp_path / "a.obj")
    done = program(tmp_path, "convert", "a.obj", "b.ply")  # Taichi does not say that it starts
    assert done.returncode == 0 and done.stdout.startswith("42 vertices") and done.stderr == ""
    done = program(tmp_path, "render", "teapot", "-o", "t.png", "--size", 16, "--arch", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote t.png") and len(done.stdout.splitlines()) == 1 and "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_each_has_examples_that_it_understands(command, run, monkeypatch):
    code, out, _ = run(command, "--help")
    assert code == 0 and "examples:" in out and "--debug" in out and "--quiet" in out
    assert max(map(len, out.splitlines())) <= 150
    examples = [line.strip() for line in out.partition("examples:")[2].splitlines() if line.startswith("  taichi-dr")]
    assert examples
    understood(examples, run, monkeypatch)


def understood(lines, run, monkeypatch):
    """Commands as they are typed, with a remark after # or three spaces: their options are read, nothing else is done."""
    seen = []
    for command in cli.COMMANDS:
        monkeypatch.setattr(f"taichi_dr.cli.{command.replace('-', '_')}.run", lambda options, parser: seen.append(options))
    for line in lines:
        assert run(*re.split(" #|   ", line)[0].split()[1:])[0] == 0, line
    assert len(seen) == len(lines)


def test_what_the_documentation_says_to_type_is_understood(run, monkeypatch):
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    lines = [line for page in pages for line in re.findall(r"^taichi-dr \w.*", page.read_text(encoding="utf-8"), re.MULTILINE)]
    assert lines
    understood(lines, run, monkeypatch)


def test_without_words_it_is_the_help(run):
    code, out, _ = run()
    assert code == 0 and "start here" in out


@pytest.mark.parametrize(
    "words, said",
    [
        (["rendr"], "no command is called 'rendr'; did you mean 'render'"),
        (["--verbose"], "unknown option --verbose"),
        (["render", "bunny", "-o", "x.png", "--sise", "3"], "unknown option --sise; did you mean '--size'"),
        (["render", "bunny", "more", "-o", "x.png"], "one word too many: 'more'"),
        (["render", "bunny"], "-o"),
        (["render", "bunny", "-o", "x.jpeg2"], "expected a name that ends in .gif, .mp4, .png"),
        (["render", "bunny", "-o", "x.png", "--size", "0"], "expected pixels such as 256 or 320x240"),
        (["render", "bunny", "-o", "x.png", "--size", "100000"], "at most 8192, got '100000'"),
        (["render", "bunny", "-o", "x.png", "--size", "1024x4096", "--antialias", "3"], "--antialias: expected at most 2 of pictures of this size"),
        (["render", "bunny", "-o", "x.png", "--elevation", "90"], "between -90 and 90"),
        (["render", "bunny", "-o", "x.png", "--light", "0,0,0"], "studio, sun, none"),
        (["render", "bunny", "-o", "x.png", "--background", "vlack"], "a color such as white"),
        (["render", "bunny", "-o", "x.gif", "--background", "transparent"], "transparent is for png"),
        (["render", "bunny", "-o", "x.gif", "--frames", "0"], "expected at least 1"),
        (["fit"], "expected a data set"),
        (["fit", "photos"], "expected -o OUT"),
        (["fit", "photos", "-o", "x", "--steps", "many"], "--steps"),
        (["fit", "photos", "-o", "x", "--texture", "uvw"], "invalid choice: 'uvw'"),
        (["fit", "photos", "-o", "x", "--encoding", "rgb"], "invalid choice: 'rgb'"),
        (["fit", "photos", "-o", "x", "--resume", "--overwrite"], "leave out one of the two"),
        (["view", "x", "--port", "70000"], "from 0 to 65535"),
        (["doctor", "--arch", "tpu"], "invalid choice"),
    ],
)
def test_a_wrong_option_is_2_and_says_which(words, said, run):
    code, out, err = run(*words)
    assert code == 2 and out == "" and said in err and "Traceback" not in err and err.startswith("usage: taichi-dr")
    assert len(err.splitlines()) == 2, err


@pytest.mark.parametrize(
    "words, said",
    [
        (["render", "nowhere.obj", "-o", "x.png"], "no such mesh file: nowhere.obj"),
        (["render", "bunnny", "-o", "x.png"], "no such mesh: bunnny; did you mean 'bunny'?"),
        (["render", ".", "-o", "x.png"], ".: expected a mesh file, got a folder"),
        (["fit", "nowhere", "-o", "x"], "no such folder"),
        (["fit", "--config", "."], "--config: expected a file, got the folder ."),
        (["fit", ".", "-o", "x"], "no data set in"),
        (["fit", "--config", "nowhere.toml"], "no such file: nowhere.toml"),
        (["view", "nowhere"], "no such run or mesh: nowhere"),
        (["view", "."], "expected the folder of a run"),
        (["convert", "nowhere.obj", "x.ply"], "no such file or folder: nowhere.obj"),
        (["fit-face", "nowhere.png"], "no such file: nowhere.png"),
    ],
)
def test_an_error_is_1_and_one_sentence(words, said, run):
    code, out, err = run(*words)
    assert code == 1 and err.startswith("taichi-dr: error: ") and said in err and len(err.splitlines()) == 1
    code, _, err = run(*words, "--debug")
    assert code == 1 and "Traceback" in err and err.splitlines()[-1].startswith("taichi-dr: error: ")


def test_what_nobody_foresaw_asks_for_a_report(run, monkeypatch):
    monkeypatch.setattr("taichi_dr.cli.benchmark.run", lambda *_: {}["key"])
    code, _, err = run("benchmark")
    assert code == 1 and "KeyError: 'key'; this should not happen" in err


def test_ctrl_c_is_130(run, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("taichi_dr.cli.benchmark.run", stopped)
    code, _, err = run("benchmark")
    assert code == 130 and "stopped" in err and "Traceback" not in err


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    command = f"{sys.executable} -m taichi_dr --help | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.startswith("usage") and done.stderr == ""


def test_warnings_are_one_line(run, monkeypatch):
    import warnings

    def warns(*_):
        warnings.simplefilter("always")
        warnings.warn("look here", stacklevel=1)

    monkeypatch.setattr("taichi_dr.cli.benchmark.run", warns)
    assert run("benchmark")[2] == "taichi-dr: warning: look here\n"


def test_an_arch_that_is_not_there_is_an_error(tmp_path):
    missing = next(name for name in runtime.ARCHS if not runtime._available(name))
    done = program(tmp_path, "benchmark", "--quick", "--arch", missing)
    assert done.returncode == 1 and f"--arch: {missing!r} has no device" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "taichi-dr doctor" in done.stderr and "strict" not in done.stderr


# --- render ------------------------------------------------------------------------------------------------------------


def test_a_turntable(run, tmp_path):
    code, out, _ = run("render", "bunny", "-o", "new/turn.gif", "--size", "40x32", "--frames", 3, "--fps", 10)
    assert code == 0 and out.startswith(f"wrote {Path('new/turn.gif')}")
    frames = iio.imread(tmp_path / "new/turn.gif", index=None)
    assert frames.shape == (3, 32, 40, 3) and frames[0, 0, 0].min() > 250 and np.ptp(frames.astype(int), axis=0).max() > 60
    covered = (frames.min(axis=-1) < 240).mean(axis=(1, 2))
    assert (covered > 0.1).all() and not (frames[:, [0, -1]].min(axis=-1) < 240).any()  # it is there, and within the picture


@pytest.mark.parametrize("renderer", ["soft", "deferred"])
def test_one_picture_on_nothing(renderer, run, tmp_path):
    assert run("render", "teapot", "-o", "t.png", "--size", 32, "--background", "transparent", "--renderer", renderer, "--light", "1,1,1")[0] == 0
    picture = iio.imread(tmp_path / "t.png")
    assert picture.shape == (32, 32, 4) and picture[0, 0, 3] == 0 and picture[16, 16, 3] == 255 and picture[16, 16, :3].min() > 20


def test_lights_and_backgrounds(run, tmp_path):
    dr.shapes.icosphere(3).save(tmp_path / "ball.ply")
    for light in ("studio", "sun", "none"):
        assert run("render", "ball.ply", "-o", f"{light}.png", "--size", 24, "--light", light, "--background", "#ff0000", "--quiet")[1] == ""
    flat, sun, studio = (iio.imread(tmp_path / f"{light}.png").astype(int) for light in ("none", "sun", "studio"))
    assert tuple(flat[0, 0]) == (255, 0, 0) and np.ptp(flat[8:16, 8:16]) <= 1 < 10 < np.ptp(sun[8:16, 8:16, 0])
    assert studio[8, 8, 0] > studio[16, 16, 0]  # from the upper left of the picture


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of imageio-ffmpeg's reader
def test_a_film(run, tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    assert run("render", "teapot", "-o", "t.mp4", "--size", "33x25", "--frames", 4)[0] == 0
    assert iio.imread(tmp_path / "t.mp4", plugin="FFMPEG").shape == (4, 26, 34, 3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run("render", "teapot", "-o", "t.mp4")
    assert code == 1 and 'pip install "taichi_dr[video]"' in err


# --- fit ---------------------------------------------------------------------------------------------------------------


def test_a_fit_leaves_all_that_it_says(run, photos, tmp_path):
    code, out, _ = run("fit", photos, "-o", "run", *QUICK)
    assert code == 0, out
    for text in ("views     8: 0000.png", "fitted", "held out", " dB", "vertices", "open run/report.html"):
        assert text in out
    for name in ("report.html", "mesh.glb", "mesh.obj", "loss.csv", "rig.png", "config.toml"):
        assert f"wrote run/{name}" in out and (tmp_path / "run" / name).stat().st_size > 100
    assert iio.imread(tmp_path / "run/rig.png").std() > 10
    assert len((tmp_path / "run/loss.csv").read_text().splitlines()) >= 5


def test_a_run_is_not_written_over_unasked(run, photos, tmp_path):
    assert run("fit", photos, "-o", "run", *QUICK, "--quiet")[0] == 0
    (tmp_path / "run/mine.txt").write_text("keep")
    before = (tmp_path / "run/config.toml").stat().st_mtime_ns
    code, _, err = run("fit", photos, "-o", "run", *QUICK)
    assert code == 1 and "--resume" in err and "--overwrite" in err and (tmp_path / "run/config.toml").stat().st_mtime_ns == before
    code, out, err = run("fit", photos, "-o", "run", *QUICK, "--overwrite", "--quiet")
    assert (code, out) == (0, "") and (tmp_path / "run/mine.txt").exists()
    (tmp_path / "file").write_text("")
    assert "expected a folder, got the file" in run("fit", photos, "-o", "file")[2]


def test_what_is_refused_leaves_the_run_as_it_is(run, photos, tmp_path):
    """Its results, and its settings, with which it goes on."""
    assert run("fit", photos, "-o", "run", *QUICK, "--quiet")[0] == 0

    def content():
        return {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}

    before = content()
    assert run("fit", "nowhere", "-o", "run", "--overwrite")[0] == 1
    code, _, err = run("fit", "-o", "run", "--resume", "--steps", 9)
    assert code == 1 and "steps is 4 there and 9 here" in err
    assert content() == before
    assert run("fit", "-o", "run", "--resume")[0] == 0


def test_a_fit_that_was_refused_may_be_tried_again(run, photos, tmp_path):
    images = sorted((photos / "images").iterdir())
    masked = [iio.imread(path) for path in images]
    for path, image in zip(images, masked, strict=True):
        iio.imwrite(path, image[..., :3])
    code, _, err = run("fit", photos, "-o", "run", *QUICK)
    assert code == 1 and "expected masks" in err and "photos.subset" not in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["rig.png"]
    for path, image in zip(images, masked, strict=True):
        iio.imwrite(path, image)
    assert run("fit", photos, "-o", "run", *QUICK)[0] == 0


def test_its_config_repeats_it(run, photos, tmp_path):
    assert run("fit", photos, "-o", "run", *QUICK, "--seed", 3, "--blur", 2.0, 0.7, "--no-large-steps", "--hold-out", 0)[0] == 0
    config = toml.read(tmp_path / "run/config.toml")
    assert config["steps"] == 4 and config["seed"] == 3 and config["blur"] == [2.0, 0.7] and config["large_steps"] is False
    assert config["dataset"] == str(photos) and config["out"] == "."
    assert run("fit", "--config", "run/config.toml")[0] == 1  # it would be written over
    assert run("fit", "--config", "run/config.toml", "-o", "again")[0] == 0
    assert toml.read(tmp_path / "again/config.toml") == config
    meshes = [(tmp_path / name / "mesh.obj").read_bytes() for name in ("run", "again")]
    assert meshes[0] == meshes[1]
    assert run("fit", "--config", "run/config.toml", "--overwrite", "--steps", 2)[0] == 0  # the command line beats the file
    assert toml.read(tmp_path / "run/config.toml") == config | {"steps": 2}


def test_folders_of_a_config_are_relative_to_it(run, photos, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/mine.toml").write_text('dataset = "../photos"\nout = "run"\nsteps = 2\nviews-per-step = 2\nvertices = 300\nlr = 1\n')
    assert run("fit", "--config", "deep/mine.toml")[0] == 0
    assert toml.read(tmp_path / "deep/run/config.toml")["lr"] == 1.0


@pytest.mark.parametrize(
    "line, said",
    [
        ("stepz = 3", "no setting is called 'stepz'; did you mean 'steps'"),
        ("steps = 3.5", "steps: expected a whole number, got 3.5"),
        ("steps = true", "steps: expected a whole number, got True"),
        ("steps = [", "expected TOML"),
        ("texture = 3", "texture: expected text, got 3"),
        ('start = "cube"', "start: expected one of hull, sphere, got 'cube'"),
        ("blur = 3.0", "blur: expected a list of 2, got 3.0"),
        ("blur = [1.0]", "blur: expected a list of 2"),
        ('blur = ["a", "b"]', "blur: expected a number"),
        ("large_steps = 1", "large_steps: expected true or false"),
        ("[fit]\nsteps = 3", "no setting is called 'fit'"),
        ('texture = "\\ud800"', "expected TOML"),
    ],
)
def test_a_bad_config_is_refused(line, said, run, photos, tmp_path):
    (tmp_path / "bad.toml").write_text(line)
    code, _, err = run("fit", photos, "-o", "run", "--config", "bad.toml")
    assert code == 1 and said in err and "bad.toml" in err and not (tmp_path / "run").exists()


def test_a_texture(run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run("fit", photos, "-o", "run", *QUICK, "--texture", "uv")
    assert code == 1 and 'pip install "taichi_dr[uv]"' in err and not (tmp_path / "run").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("xatlas")
    monkeypatch.setattr(runtime, "init", lambda *_, **__: runtime.device())
    code, out, _ = run("fit", photos, "-o", "run", *QUICK, "--texture", "uv", "--texture-size", 64)
    assert code == 0 and all(f"wrote run/mesh.{suffix}" in out for suffix in ("glb", "obj", "mtl", "png"))
    assert dr.Mesh.load(tmp_path / "run/mesh.glb", texture="uv").texture is not None
    assert run("fit", photos, "-o", "run", *QUICK, "--overwrite")[0] == 0
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert "mesh.obj" in left and not left & {"texture.npz", "mesh.mtl", "mesh.png"}  # of the run before


def test_photographs_are_shrunk_and_held_out_as_asked(run, photos, tmp_path):
    code, out, _ = run("fit", photos, "-o", "run", *QUICK, "--size", 20, "--hold-out", 4)
    assert code == 0 and "20 x 20 pixels, resized from 32 x 32" in out
    code, out, _ = run("fit", photos, "-o", "whole", *QUICK, "--hold-out", 0)
    assert code == 0 and "resized" not in out and "held out" not in out
    assert "every" in run("fit", photos, "-o", "other", "--hold-out", 1)[2]
    assert "size: expected" in run("fit", photos, "-o", "other", "--size", -1)[2]


def test_ctrl_c_saves_and_says_how_to_go_on(photos, tmp_path, run):
    """A real signal to a process of its own."""
    words = [sys.executable, "-m", "taichi_dr", "fit", str(photos), "-o", "run", "--steps", "100000", "--vertices", "300", "--arch", "cpu"]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows, end = tmp_path / "run/recording/rows.jsonl", time.monotonic() + 120
    while time.monotonic() < end and not (rows.exists() and len(rows.read_text().splitlines()) > 3):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "go on with: taichi-dr fit -o run --resume" in err and "Traceback" not in err and "wrote run/mesh.obj" in out
    assert (tmp_path / "run/checkpoint.npz").stat().st_size > 1000 and (tmp_path / "run/report.html").exists()
    assert toml.read(tmp_path / "run/config.toml")["steps"] == 100000


def test_resume_takes_the_settings_of_the_run(run, photos, tmp_path):
    assert run("fit", photos, "-o", "run", *QUICK, "--seed", 5)[0] == 0
    config = (tmp_path / "run/config.toml").read_text()
    code, out, err = run("fit", "-o", "run", "--resume")
    assert code == 0, err
    assert (tmp_path / "run/config.toml").read_text() == config
    code, _, err = run("fit", "-o", "nothing", "--resume")
    assert code == 2 and "expected a data set" in err


def test_every_field_of_the_settings_is_an_option(run):
    out = run("fit", "--help")[1]
    for kind in (fit.Settings, fit.Data):
        meanings = fields.described(kind)
        for name in kind.__dataclass_fields__:
            assert "--" + name.replace("_", "-") in out and meanings[name], name
            assert not re.search("True|False|None", meanings[name]), name  # nobody types that in a shell
        assert len(set(meanings.values())) == len(meanings)
        assert fields.described(type("Undented", (), {"__doc__": inspect.cleandoc(kind.__doc__)})) == meanings  # Python 3.13


def test_the_documentation_has_every_option_and_its_default():
    """A row of the table for each: `--lr X` | 0.01 | ..."""
    rows = {}
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8").partition("\n## fit\n")[2].partition("\n## ")[0]
    for names, default in re.findall(r"^\| (`--.*?) \| (.*?) \|", page, re.MULTILINE):
        names = re.findall(r"--([\w-]+)", names)
        rows |= dict.fromkeys(names, default)
    for kind in (fit.Settings, fit.Data):
        for field in fit.dataclasses.fields(kind):
            name = field.name.replace("_", "-")
            if isinstance(field.default, bool):
                assert f"no-{name}" in rows, name
            elif isinstance(field.default, str) or field.default is None:
                assert name in rows and (field.default is None or rows[name] == field.default), name
            else:
                expected = field.default if isinstance(field.default, tuple) else (field.default,)
                assert tuple(float(part) for part in rows[name].split()) == expected, name


NUMBERS = st.floats(allow_nan=False, allow_subnormal=False)  # subnormal ones are 0 in a process in which Taichi runs
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
KEYS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), NUMBERS, WORDS),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=6,
)  # fmt: skip


@given(KEYS, st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=10))
@settings(max_examples=300, deadline=None)
def test_toml_reads_back_the_same(values, remark):
    assert toml.tomllib.loads(toml.text(values, remark)) == values


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_settings_read_back_the_same(data):
    """What config.toml has of a job is the job."""
    strategies = {  # what all settings take
        int: st.integers(50, 8192),
        float: st.floats(1e-9, 1, allow_subnormal=False),
        str: st.text(st.characters(codec="utf-8"), max_size=9),
        bool: st.booleans(),
    }

    def made(kind):
        draws = {}
        for name, hint in fields.get_type_hints(kind).items():
            hint = fields._without_none(hint)
            if choices := fields.choices_of(kind, name):
                draws[name] = data.draw(st.sampled_from(choices))
                continue
            one = strategies[hint if hint in strategies else hint.__args__[0]]
            draws[name] = data.draw(one if hint in strategies else st.tuples(*[one] * len(hint.__args__)))
        return kind(**draws)

    job = fit.Job(Path('/data/é "x"\''), Path("/out"), "cpu", made(fit.Data), made(fit.Settings))
    known = fields.checked("config", toml.tomllib.loads(fit.config_text(job)), fit.Data, fit.Settings, also=("dataset", "out", "arch"))
    assert fields.made(fit.Data, known) == job.data and fields.made(fit.Settings, known) == job.settings
    assert known["dataset"] == str(job.dataset) and known["arch"] == "cpu"


def test_toml_says_what_it_cannot_hold():
    with pytest.raises(ValueError, match="dataset: expected text of Unicode"):
        toml.text({"dataset": "\udc80"})
    with pytest.raises(ValueError, match="x: expected text, a truth value"):
        toml.text({"x": object()})
    assert toml.text({"x": None}) == "\n"


# --- demo --------------------------------------------------------------------------------------------------------------


def test_demo(run, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZE", 48)
    monkeypatch.setattr(demo, "SETTINGS", {"steps": 4, "vertices": 400, "views_per_step": 2})
    code, out, _ = run("demo", "--mesh", "teapot")
    assert code == 0 and "open out/demo/report.html" in out and "taichi-dr fit out/demo/photos -o out/mine" in out
    assert len(dr.Photos.load(tmp_path / "out/demo/photos")) == 24
    code, out, _ = run("demo", "--quiet")  # again, over the one before
    assert (code, out) == (0, "")
    assert run("fit", "out/demo/photos", "-o", "out/mine", *QUICK)[0] == 0  # what it says to try next
    code, _, err = run("demo", "-o", "out/mine")
    assert code == 1 and "a run that is no demo" in err
    (tmp_path / "other/photos").mkdir(parents=True)
    code, _, err = run("demo", "-o", "other")
    assert code == 1 and "other/photos is there, and of no demo" in err and not any((tmp_path / "other/photos").iterdir())


# --- fit-face, view, benchmark -----------------------------------------------------------------------------------------


def test_fit_face(run, tmp_path):
    code, out, _ = run("fit-face", "-o", "face", "--steps", 8, "--size", 32)
    assert code == 0 and "see face/fit.html" in out
    assert iio.imread(tmp_path / "face/fit_face.png").shape == (32, 64, 3)
    code, out, _ = run("fit-face", tmp_path / "face/fit_face.png", "-o", "other", "--steps", 4, "--size", 24, "--plain", "--quiet")
    assert (code, out) == (0, "") and (tmp_path / "other/face.ply").exists()


def test_fit_face_says_which_file_it_cannot_read(run, tmp_path):
    dr.shapes.icosphere(1).save(tmp_path / "ball.obj")
    iio.imwrite(tmp_path / "face.png", np.zeros((16, 16, 3), np.uint8))
    for words, said in ((["ball.obj"], "ball.obj: expected a picture"), (["face.png", "--landmarks", "ball.obj"], "ball.obj: expected lines of")):
        code, _, err = run("fit-face", *words, "--size", 16, "--steps", 1, "-o", "face")
        assert code == 1 and said in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize("what", ["run", "ball.obj"])
def test_view_serves_a_page(what, run, tmp_path, monkeypatch):
    sphere = dr.shapes.icosphere(1)
    sphere.save(tmp_path / "ball.obj")
    dr.Recording(tmp_path / "run").add(0, 1.0, mesh=sphere)
    pages, sleep = [], time.sleep

    def look(seconds):
        if threading.current_thread() is not threading.main_thread():
            return sleep(seconds)
        with urllib.request.urlopen(servers[0].url, timeout=30) as page:
            pages.append(page.read())
        raise KeyboardInterrupt

    servers, make = [], live.Server.__init__
    monkeypatch.setattr(live.Server, "__init__", lambda self, *a, **k: (servers.append(self), make(self, *a, **k))[1])
    monkeypatch.setattr(live.time, "sleep", look)
    code, out, _ = run("view", what, "--port", 0, "--no-browser")
    assert code == 0 and "http://127.0.0.1:" in out and b"<html" in pages[0]


def test_a_port_that_is_taken(run, tmp_path):
    dr.Recording(tmp_path / "run").add(0, 1.0)
    with live.Server(tmp_path / "run") as server:
        code, _, err = run("view", "run", "--no-browser", "--port", server.url.rpartition(":")[2].strip("/"))
    assert code == 1 and "is taken or not allowed; give another" in err


def test_benchmark(run, monkeypatch):
    monkeypatch.setattr("taichi_dr.cli.benchmark.CASES", ((1, 16),))
    code, out, _ = run("benchmark", "--quick")
    lines = out.splitlines()
    assert code == 0 and dr.device().arch in lines[0] and f"taichi_dr {dr.__version__}" in lines[1]
    assert [line.count("|") for line in lines[3:]] == [6] * 4 and lines[5].startswith("| soft | 80 | 16 x 16 | ")


# --- convert -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["obj", "ply", "off", "stl", "glb"])
@pytest.mark.filterwarnings("always")
def test_meshes(suffix, run, tmp_path, rng):
    sphere = dr.shapes.icosphere(1)
    dr.Mesh(sphere.vertices, sphere.faces, rng.random((42, 3))).save(tmp_path / "ball.ply")
    code, out, _ = run("convert", "ball.ply", f"new/ball.{suffix}")
    assert code == 0 and "42 vertices, 80 faces" in out and f"wrote new/ball.{suffix}" in out
    mesh = dr.Mesh.load(tmp_path / f"new/ball.{suffix}", texture="uv")
    assert mesh.vertices.shape[1] == 42 and mesh.faces.shape[0] == 80
    if suffix in ("obj", "ply", "glb"):
        np.testing.assert_allclose(dr.read(mesh.colors), dr.read(dr.Mesh.load(tmp_path / "ball.ply").colors), atol=0.003)


def test_a_texture_goes_from_obj_to_glb_and_back(run, tmp_path, rng):
    sphere = dr.shapes.uv_sphere(segments=(8, 4))
    dr.Mesh(sphere.vertices, sphere.faces, uv=sphere.uv, uv_faces=sphere.uv_faces, texture=rng.random((5, 7, 3))).save(tmp_path / "a.obj")
    assert run("convert", "a.obj", "b.glb")[0] == 0
    code, out, _ = run("convert", "b.glb", "c.obj")
    assert code == 0 and all(f"wrote c.{suffix}" in out for suffix in ("obj", "mtl", "png"))
    textures = [dr.read(dr.Mesh.load(tmp_path / name, texture="uv").texture) for name in ("a.obj", "b.glb", "c.obj")]
    np.testing.assert_array_equal(textures[0], textures[1])
    np.testing.assert_array_equal(textures[0], textures[2])


@pytest.mark.parametrize("binary", [False, True])
def test_cameras_to_colmap_and_back(binary, run, photos, tmp_path):
    before = dr.Photos.load(photos)
    code, out, _ = run("convert", photos / "transforms.json", photos / "sparse/0", *(["--binary"] if binary else []))
    assert code == 0 and "8 views" in out
    assert sorted(image.name for image in read_colmap(photos / "sparse/0")[1].values()) == list(before.names)
    code, out, _ = run("convert", photos / "sparse/0", photos / "new.json")
    assert code == 0 and "are not in" not in out
    (photos / "transforms.json").unlink()
    for path in (photos, photos / "new.json"):  # as COLMAP's, as NeRF's
        after = dr.Photos.load(path)
        assert after.names == before.names
        for k in range(8):
            np.testing.assert_allclose(after.camera(k).project(np.eye(3)), before.camera(k).project(np.eye(3)), atol=1e-3)
    assert "8 of its images are not in" in run("convert", photos / "sparse/0", tmp_path / "away/cameras.json")[1]


def test_the_views_of_softras_become_photographs(run, photos, tmp_path):
    """Of a mesh without symmetry: what its own frame sees mirrored, the photographs see as it is."""
    mesh = dr.Mesh.load(dr.datasets.load("bunny")).normalized()
    rows = np.array([(4.0, 20.0, a) for a in (0.0, 100.0, 200.0, 290.0)])
    camera = dr.Camera.from_softras(*rows.T, viewing_angle=15, size=32)
    images = dr.read(dr.DeferredRenderer(antialias=2)(mesh, camera))
    (tmp_path / "softras").mkdir()
    np.save(tmp_path / "softras/source.npy", np.moveaxis(dr.pictures.to_uint8(images), -1, 1))
    np.save(tmp_path / "softras/camera.npy", rows)
    code, out, _ = run("convert", "softras", "new")
    assert code == 0 and "4 views of 32 x 32 pixels" in out
    found = dr.Photos.load(tmp_path / "new")
    again = [dr.read(dr.DeferredRenderer(antialias=2)(mesh, found.camera(k)))[0, ..., 3] for k in range(4)]
    np.testing.assert_allclose(np.stack(again), [found.image(k)[..., 3] for k in range(4)], atol=0.02)


def test_a_face_model(run, tmp_path):
    pytest.importorskip("h5py")
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    sphere = dr.shapes.icosphere(1)
    for k, name in enumerate(("generic_neutral_mesh", "identity000", "identity001", "smile")):
        sphere.with_vertices(dr.array(dr.read(sphere.vertices) * (1 + 0.1 * k))).save(folder / f"{name}.obj")
    code, out, _ = run("convert", folder, "face.h5", "--scale", 2)
    assert code == 0 and "42 vertices, 2 shape and 1 expression modes" in out
    assert dr.MorphableModel.load(tmp_path / "face.h5").shape.count == 2


@pytest.mark.parametrize("names", [("a.png", "b.obj"), ("a.obj", "b.json"), ("a.obj", "b"), (".", "b.obj"), (".", "b")])
def test_what_cannot_be_converted(names, run, tmp_path):
    (tmp_path / "a.png").write_text("")
    (tmp_path / "a.obj").write_text("")
    code, _, err = run("convert", *names)
    assert code == 2 and "do not know how to make" in err


def test_damaged_files_are_one_sentence(run, tmp_path):
    for name, target in (("a.obj", "b.ply"), ("a.glb", "b.obj"), ("a.json", "b"), ("source.npy", "b")):
        (tmp_path / name).write_bytes(b"f 1 2 3\n\xff\xfe")
        code, _, err = run("convert", name, target)
        assert code == 1 and len(err.splitlines()) == 1 and name in err and "this should not happen" not in err


# --- doctor ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def backends(monkeypatch):
    """Programs in place of the self-tests of backends, by name; of the others there is no device."""
    programs = {"cpu": "import json; print(json.dumps(dict(picture=0, gradient=0, seconds=1, seconds_warm=0.01, threads=2, cache='.')))"}
    absent = "import json; print('[Taichi] hello'); print(json.dumps(dict(missing='none here')))"
    monkeypatch.setattr(doctor, "command", lambda arch: [sys.executable, "-c", programs.get(arch, absent)])
    return programs


def test_all_is_well(run, backends):
    code, out, _ = run("doctor")
    assert code == 0 and "all is well" in out and "[ ok ] cpu" in out and "[ no ] cuda" in out and "taichi " in out
    assert run("doctor", "--quiet")[1] == ""


@pytest.mark.parametrize(
    "program, said",
    [
        ("import os; os.kill(os.getpid(), 11)", "crashed with SIGSEGV"),
        ("import time; time.sleep(100)", "did not end within 2 seconds"),
        ("raise SystemExit('libvulkan.so: no')", "ended with code 1: libvulkan.so: no"),
        ("print('no JSON')", "ended with code 0: it said nothing"),
        ("import json; print(json.dumps(dict(picture=0.5, gradient=0, seconds=1, seconds_warm=1)))", "picture off by 50.0%"),
        ("import json; print(json.dumps(dict(picture=0, gradient=float('nan'), seconds=1, seconds_warm=1)))", "gradient off by nan%"),
    ],
)
def test_a_broken_backend_is_a_finding(program, said, run, backends):
    backends["vulkan"] = program
    code, out, err = run("doctor", "--timeout", 2)
    assert code == 1 and f"[bad ] vulkan     {said}" in out and "[ ok ] cpu" in out and "1 of these do not work" in out and "->" in out
    assert "Traceback" not in err


def test_a_backend_that_is_asked_for_must_be_there(run, backends):
    code, out, _ = run("doctor", "--arch", "cuda")
    assert code == 1 and "[bad ] cuda       no device or driver here" in out and "[ no ]  vulkan" not in out


def test_a_cache_that_cannot_be_written(run, backends, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    backends["cpu"] = backends["cpu"].replace("'.'", repr(str(tmp_path / "cache" / "below")))

    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refused)
    code, out, _ = run("doctor")
    assert code == 1 and "cannot be written: Permission denied" in out and "TI_OFFLINE_CACHE_FILE_PATH" in out


def test_missing_packages_and_extras(run, backends, monkeypatch):
    known = machine.version_of
    monkeypatch.setattr(machine, "version_of", lambda name: None if name == "scipy" else known(name))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, _ = run("doctor")
    assert code == 1 and "missing: scipy" in out and "pip install scipy" in out and 'pip install "taichi_dr[video]"' in out


def test_every_extra_is_listed(run, backends, monkeypatch):
    """Whether it is there or not, and what for; it is there if each of its own packages is."""
    extras = toml.read(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    assert doctor.EXTRAS.keys() == extras.keys()
    modules = {"pytest-xdist": "xdist", "imageio-ffmpeg": "imageio_ffmpeg", "myst-parser": "myst_parser"}
    for extra, (_, needed) in doctor.EXTRAS.items():
        packages = [re.match(r"[\w-]+", text)[0] for text in extras[extra]]
        of_users = {re.match(r"[\w-]+", text)[0] for other in ("exr", "face", "uv", "video", "viewer") for text in extras[other]}
        own = [name for name in packages if extra != "test" or name not in of_users]  # tests need those of users too
        assert sorted(needed) == sorted(modules.get(name, name) for name in own), extra
    for mark, found in (("[ ok ]", True), ("[ no ]", None)):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        out = run("doctor")[1]
        for extra, (use, _) in doctor.EXTRAS.items():
            assert f"{mark} extra      {extra}: {use}" in out and (found or f'pip install "taichi_dr[{extra}]"' in out)


def test_help_of_fit_face_says_how_to_come_by_a_model(run):
    out = run("fit-face", "--help")[1]
    assert "README" not in out and "taichi-dr convert ICT-FaceKit face.h5" in out and 'pip install "taichi_dr[face]"' in out and ".npz" in out


def test_the_self_test_itself(arch, tmp_path):
    done = subprocess.run(doctor.command(arch), capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(found["missing"])
    assert found["picture"] < 0.01 and found["gradient"] < 1e-4 and Path(found["cache"]).name == "ticache"


def test_the_known_gradient_of_the_self_test(f64):
    """By central differences."""
    sphere = dr.shapes.icosphere(3)
    unit = dr.read(sphere.vertices)[0]
    camera = dr.Camera.orbit(selftest.DISTANCE, 20.0, 30.0, fov=selftest.FOV, size=selftest.SIZE)

    def mean_square(scale):
        mesh = dr.Mesh(scale * unit, dr.read(sphere.faces), np.full(unit.shape, 0.7))
        return float((dr.read(dr.SoftRenderer(sigma=3e-3)(mesh, camera)) ** 2).mean())

    step = 1e-6
    assert (mean_square(1 + step) - mean_square(1 - step)) / (2 * step) == pytest.approx(selftest.SLOPE, rel=1e-6)
