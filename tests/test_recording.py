"""The recording of a fit: what is kept, what a kill or a resume leaves, what finish writes; and that nothing a user named breaks it."""

import csv
import itertools
import json
import math
import pathlib
import signal
import subprocess
import sys
import textwrap

import imageio.v3 as iio
import numpy as np
import pytest

import taichi_dr as dr
from taichi_dr import recording, report

HOSTILE = ["</script><script>alert(1)</script>", "../../up", "__proto__", 'a,b\n"c"', "=1+1", "\ud800", "<!--", "{{data}}", "", "日本"]


@pytest.fixture
def sphere(f32):
    mesh = dr.shapes.icosphere(2)
    return dr.Mesh(dr.read(mesh.vertices), dr.read(mesh.faces), np.random.default_rng(0).random((mesh.vertices.shape[1], 3)))


def picture(value, size=(12, 16)):
    return np.full((*size, 3), value, np.float64)


def steps_of(folder):
    return [snapshot["step"] for snapshot in recording.read(folder)["snapshots"]]


def data_of(path):
    """What is in a report, parsed as a browser does: to the first end of a script."""
    text = path.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script", start)])


# --- Snapshots ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [2, 7, 60])
@pytest.mark.parametrize("count", [1, 2, 59, 60, 61, 500])
def test_snapshots_are_few_and_even(f32, tmp_path, limit, count):
    run = dr.Recording(tmp_path, snapshots=limit)
    for step in range(count):
        run.add(step, 1.0, pictures=lambda: {"a": (None, picture(0.5))})
    run.finish()
    kept = steps_of(tmp_path)
    assert len(kept) <= limit + 1 and kept[0] == 0 and count - kept[-1] <= max(1, 2 * count // limit)
    if count <= limit:
        assert kept == list(range(count))
    gaps = np.diff(kept[:-1])
    assert len(set(gaps)) <= 1, kept
    assert len(list((tmp_path / "recording" / "snapshots").iterdir())) == len(kept)


def test_pictures_are_made_only_where_they_are_kept(f32, tmp_path):
    asked = []
    run = dr.Recording(tmp_path, steps=500)
    for step in range(500):
        due = run.due(step)
        run.add(step, 1.0, pictures=lambda step=step: asked.append(step) or {"a": (None, picture(0.5))})
        assert due == (asked[-1:] == [step])
    assert asked == list(range(0, 500, 9)) == steps_of(tmp_path)


def test_the_last_is_kept_until_another_comes(f32, tmp_path, sphere):
    run = dr.Recording(tmp_path, snapshots=4)
    for step in range(7):
        run.add(step, 1.0, mesh=sphere)
    run.finish(sphere)
    assert steps_of(tmp_path) == [0, 2, 4, 6]
    run = dr.Recording(tmp_path, snapshots=4, resume_at=7)
    run.keep(7, mesh=sphere)
    assert steps_of(tmp_path) == [0, 2, 4, 6, 7]
    run.add(8, 1.0, mesh=sphere)
    assert steps_of(tmp_path) == [0, 4, 8]


def test_blobs_of_snapshots_that_went_are_removed(tmp_path, sphere):
    run = dr.Recording(tmp_path, snapshots=4)
    for step in range(40):
        dr.write(sphere.vertices, dr.read(sphere.vertices) * [1.01, 1, 1])
        run.add(step, 1.0, pictures={"a": (picture(0.3), picture(step / 40))}, mesh=sphere)
    used = set().union(*map(report.blobs_of, recording.read(tmp_path)["snapshots"]))
    assert {path.name for path in (tmp_path / "recording" / "blobs").iterdir()} == used
    assert len(used) == 1 + 1 + 2 * len(steps_of(tmp_path))  # one target, one list of faces


def test_only_the_first_views_are_kept(f32, tmp_path):
    run = dr.Recording(tmp_path, views=2)
    run.add(0, 1.0, pictures={name: (None, picture(0.5)) for name in "abc"})
    run.add(1, 1.0, pictures={name: (None, picture(0.5)) for name in "cb"})
    assert [[name for name, *_ in s["pictures"]] for s in recording.read(tmp_path)["snapshots"]] == [["a", "b"], ["b"]]


def test_a_batch_is_as_many_views(f32, tmp_path):
    """As with each picture by itself; a Taichi array as NumPy's."""
    batch, targets = np.random.default_rng(0).random((2, 3, 12, 16, 4))
    run = dr.Recording(tmp_path, views=5)
    run.add(0, 1.0, pictures={"a": (targets, batch), "b": (None, dr.array(batch)), "c": (targets[:1], batch[:1])})
    run.add(1, 1.0, pictures={f"a {k}": (targets[k], batch[k]) for k in range(3)})
    first, second = [s["pictures"] for s in recording.read(tmp_path)["snapshots"]]
    assert [name for name, *_ in first] == ["a 0", "a 1", "a 2", "b 0", "b 1"] and first[:3] == second
    assert [blob for _, _, blob in first[3:]] == [blob for _, _, blob in first[:2]] and first[3][1] is None
    with pytest.raises(ValueError, match=r"pictures\['a'\]: expected as many targets as renders, got 2 and 3"):
        run.add(2, 1.0, pictures={"a": (targets[:2], batch)})
    with pytest.raises(ValueError, match=r"expected as many targets as renders, got 1 and 3"):
        run.add(3, 1.0, pictures={"a": (targets[0], batch)})


# --- Geometry -----------------------------------------------------------------------------------------------------------


def test_geometry_comes_back(tmp_path, sphere, rng):
    vertices = dr.read(sphere.vertices)[0] * [3, 0.01, 1] + [5, -2, 100]
    mesh = dr.Mesh(vertices, dr.read(sphere.faces), dr.read(sphere.colors)[0])
    dr.Recording(tmp_path).add(0, 1.0, mesh=mesh)
    kept = recording.read(tmp_path)["snapshots"][0]["mesh"]
    back, faces, colors = recording.geometry(tmp_path, kept)
    assert np.abs(back - vertices).max() <= 3 / 32767 / 2 * 1.001 + 1e-5  # half a step of 16 bits, and f32 at 100
    np.testing.assert_array_equal(faces, dr.read(sphere.faces))
    assert np.abs(colors - dr.read(sphere.colors)[0]).max() <= 0.5 / 255 + 1e-6


def test_a_remesh_in_the_middle(tmp_path):
    run = dr.Recording(tmp_path)
    meshes = [dr.shapes.icosphere(1), dr.shapes.icosphere(1), dr.shapes.cube(), dr.shapes.icosphere(3)]
    for step, mesh in enumerate(meshes):
        run.add(step, 1.0, mesh=mesh)
    kept = [s["mesh"] for s in recording.read(tmp_path)["snapshots"]]
    for mesh, info in zip(meshes, kept, strict=True):
        vertices, faces, _ = recording.geometry(tmp_path, info)
        np.testing.assert_array_equal(faces, dr.read(mesh.faces))
        np.testing.assert_allclose(vertices, dr.read(mesh.vertices)[0], atol=1e-4)
    assert kept[0]["topology"] == kept[1]["topology"] and len({info["topology"] for info in kept}) == 3


def test_a_textured_mesh(f32, tmp_path):
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [0.5, 1.0]])  # a seam: vertex 0 has two
    texture = np.zeros((700, 8, 3))
    texture[350:] = [1, 0, 0]  # the lower half red
    texture[:350] = [0, 0, 1]
    mesh = dr.Mesh(vertices, faces, uv=uv, uv_faces=np.array([[0, 1, 2], [4, 2, 3]]), texture=texture)
    run = dr.Recording(tmp_path)
    run.add(0, 1.0, mesh=mesh)
    written = run.finish(mesh)
    assert {path.name for path in written} == {"report.html", "loss.csv", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.glb"}
    info = recording.read(tmp_path)["snapshots"][0]["mesh"]
    assert info["corners"] == 5 and info["vertices"] == 4 and info["texture"]
    assert max(iio.imread(tmp_path / "recording" / "blobs" / info["texture"]).shape) == recording.TEXTURE_SIZE
    back, back_faces, colors = recording.geometry(tmp_path, info)
    np.testing.assert_allclose(back, vertices, atol=1e-4)
    np.testing.assert_array_equal(back_faces, faces)
    assert colors[1][0] > 0.9 > 0.1 > colors[1][2] or colors[1][2] > 0.4  # bottom row repeats into the top one
    again = dr.Mesh.load(tmp_path / "mesh.glb", texture="uv")
    assert again.texture.shape == (1, 700, 8)


def test_texels_and_grey(f32, tmp_path):
    ball = dr.shapes.icosphere(1)
    run = dr.Recording(tmp_path)
    run.add(0, 1.0, mesh=ball)
    texels = np.tile([1.0, 0.5, 0.0], (ball.faces.shape[0], 3, 3, 1))
    run.add(1, 1.0, mesh=dr.Mesh(dr.read(ball.vertices), dr.read(ball.faces), texels=texels))
    plain, textured = [recording.geometry(tmp_path, s["mesh"])[2] for s in recording.read(tmp_path)["snapshots"]]
    assert plain is None
    np.testing.assert_allclose(textured, np.tile([1, 0.5, 0], (len(textured), 1)), atol=0.003)


# --- Killed, resumed ------------------------------------------------------------------------------------------------------


def fill(folder, first, last, mesh, **options):
    run = dr.Recording(folder, resume_at=first or None, snapshots=8, **options)
    for step in range(first, last):
        pictures = {"a": (picture(0.25), picture(step / 100))}
        run.add(step, 1 / (1 + step), {"half": 0.5 / (1 + step)}, pictures=pictures, mesh=mesh)
    return run


def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path, sphere):
    fill(tmp_path / "whole", 0, 100, sphere).finish(sphere)
    fill(tmp_path / "parts", 0, 71, sphere)
    fill(tmp_path / "parts", 37, 90, sphere).finish(sphere)
    fill(tmp_path / "parts", 90, 100, sphere).finish(sphere)
    whole, parts = recording.read(tmp_path / "whole"), recording.read(tmp_path / "parts")
    assert whole["snapshots"] == parts["snapshots"]
    assert [[row[name] for name in ("step", "loss", "terms")] for row in whole["rows"]] == [
        [row[name] for name in ("step", "loss", "terms")] for row in parts["rows"]
    ]
    seconds = [row["seconds"] for row in parts["rows"]]
    assert seconds == sorted(seconds)


def test_a_new_run_discards_the_old(tmp_path, sphere):
    (tmp_path / "recording").mkdir()
    (tmp_path / "recording" / "notes.txt").write_text("mine")
    fill(tmp_path, 0, 30, sphere).finish(sphere)
    dr.Recording(tmp_path)
    kept = recording.read(tmp_path)
    assert not kept["rows"] and not kept["snapshots"] and not list((tmp_path / "recording" / "blobs").iterdir())
    assert (tmp_path / "recording" / "notes.txt").read_text() == "mine"


def test_kill_in_the_middle(f32, tmp_path, sphere):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys
        import numpy as np
        import taichi_dr as dr
        dr.init("cpu")
        mesh = dr.shapes.icosphere(3)
        run = dr.Recording(sys.argv[1], snapshots=8)
        random = np.random.default_rng(0)
        for step in range(10**6):
            run.add(step, 1.0, {"term": 2.0}, pictures={"a": (None, random.random((64, 64, 3)))}, mesh=mesh)
            if step % 100 == 0:
                print(step, flush=True)
        """)
    )
    for told in (1, 3):
        folder = tmp_path / f"run{told}"
        with subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE, text=True) as process:
            steps = [int(line) for line in itertools.islice(filter(str.isdigit, map(str.strip, process.stdout)), told)]
            process.send_signal(signal.SIGKILL)
        kept = recording.read(folder)
        rows = [row["step"] for row in kept["rows"]]
        assert rows == list(range(len(rows))) and len(rows) > steps[-1]
        for snapshot in kept["snapshots"]:
            assert all((folder / "recording" / "blobs" / name).exists() for name in report.blobs_of(snapshot))
            recording.geometry(folder, snapshot["mesh"])
        assert data_of(recording.write_report(folder))["finished"] is False
        run = dr.Recording(folder, resume_at=len(rows), snapshots=8)
        run.add(len(rows), 0.5, mesh=sphere)
        run.finish(sphere)
        assert len(recording.read(folder)["rows"]) == len(rows) + 1
        assert not list((folder / "recording").rglob("*.part"))


def test_a_row_cut_by_a_kill_is_left_out(tmp_path, sphere):
    fill(tmp_path, 0, 5, sphere)
    with open(tmp_path / "recording" / "rows.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    assert len(recording.read(tmp_path)["rows"]) == 5
    fill(tmp_path, 5, 6, sphere)
    assert [row["step"] for row in recording.read(tmp_path)["rows"]] == list(range(6))


def test_a_file_that_cannot_be_written_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "file"
    recording._replace(path, b"old")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match="space"):
        recording._replace(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


# --- What finish writes ---------------------------------------------------------------------------------------------------


def test_finish(tmp_path, sphere):
    run = fill(tmp_path, 0, 20, sphere, title="A run", config={"lr": 0.1, "adam": {"betas": (0.9, 0.99)}})
    written = run.finish(sphere)
    assert [path.name for path in written] == ["report.html", "loss.csv", "fit.gif", "mesh.obj", "mesh.glb"]
    assert all(path.stat().st_size > 0 for path in written)
    frames = iio.imread(tmp_path / "fit.gif", index=...)
    assert len(frames) == sum(bool(s["pictures"]) for s in recording.read(tmp_path)["snapshots"]) and frames.shape[2] == 3 * (
        recording.GIF_WIDTH // 3
    )
    left, middle, right = (frames[0][5, k * frames.shape[2] // 3 + 20].astype(int) for k in range(3))
    assert abs(left - 64).max() < 6 and middle.max() < 6 and abs(right - 64).max() < 6  # |target - render|
    with open(tmp_path / "loss.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["step", "seconds", "loss", "half"] and len(table) == 21
    assert [float(x) for x in table[3][2:]] == [1 / 3, 0.5 / 3]
    shown = data_of(tmp_path / "report.html")
    assert shown["title"] == "A run" and shown["finished"] and shown["count"] == 20 and not shown["live"]
    assert shown["config"] == [["lr", "0.1"], ["adam.betas", "(0.9, 0.99)"]]
    assert {name for name, _ in shown["versions"]} == {"taichi_dr", "Taichi", "NumPy", "Python", "device", "system"}
    np.testing.assert_allclose(dr.read(dr.Mesh.load(tmp_path / "mesh.glb").vertices), dr.read(sphere.vertices), atol=1e-6)


def test_nothing_recorded(f32, tmp_path):
    assert [path.name for path in dr.Recording(tmp_path).finish()] == ["report.html", "loss.csv"]
    shown = data_of(tmp_path / "report.html")
    assert shown["frames"] == [] and shown["count"] == 0
    with pytest.raises(FileNotFoundError, match="expected the folder of a run"):
        recording.write_report(tmp_path / "recording")


def test_one_step(tmp_path, sphere):
    run = dr.Recording(tmp_path)
    run.add(0, dr.scalar(0.5), pictures={"a": (None, dr.array(np.full((1, 8, 8, 4), 0.5)))}, mesh=sphere)
    run.finish(sphere)
    shown = data_of(tmp_path / "report.html")
    assert shown["curves"] == [["loss", [0.5]]] and len(shown["frames"]) == 1 and shown["frames"][0]["pictures"][0][0] is None


def test_not_a_number(tmp_path, sphere):
    run = dr.Recording(tmp_path)
    for step, loss in enumerate([1.0, math.nan, math.inf, -math.inf, 0.5]):
        run.add(step, loss, {"part": np.float32("nan")}, mesh=sphere)
    vertices = dr.read(sphere.vertices)
    vertices[0, :3] = np.nan, np.inf, 0
    dr.write(sphere.vertices, vertices)
    with pytest.raises(ValueError, match="finite"):
        run.finish(sphere)
    shown = data_of(tmp_path / "report.html")  # there all the same
    assert shown["curves"] == [["loss", [1.0, None, None, None, 0.5]], ["part", [None] * 5]] and shown["broken"] == 3
    assert shown["frames"][-1]["mesh"]["broken"] == 3
    assert [line.split(",")[2] for line in (tmp_path / "loss.csv").read_text().split()[1:]] == ["1.0", "nan", "inf", "-inf", "0.5"]


def test_names_that_are_hostile(tmp_path, sphere):
    everything = " ".join(HOSTILE)
    run = dr.Recording(tmp_path / "run", title=everything, config={name: name for name in HOSTILE}, views=len(HOSTILE))
    for step in range(2):
        run.add(step, 1.0, {name: 1.0 for name in HOSTILE}, pictures={name: (picture(0.1), picture(0.2)) for name in HOSTILE}, mesh=sphere)
    run.finish(sphere)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    shown = data_of(tmp_path / "run" / "report.html")
    assert shown["views"] == HOSTILE and shown["title"] == everything and [name for name, _ in shown["curves"][1:]] == HOSTILE
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text and text.count("<script") == 3 and text.count("</script>") == 3
    with open(tmp_path / "run" / "loss.csv", newline="", encoding="utf-8") as file:
        assert len(next(csv.reader(file))) == 3 + len(HOSTILE)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda run, mesh: run.add(-1, 1.0), "step: expected at least 0, got -1"),
        (lambda run, mesh: [run.add(3, 1.0), run.add(3, 1.0)], "step: expected at least 4, got 3; .* resume_at=3"),
        (lambda run, mesh: run.add(0, 1.0, pictures={"a": picture(1)}), r"pictures\['a'\]: expected a pair"),
        (lambda run, mesh: run.add(0, 1.0, pictures={"a": (None, np.zeros((8, 8, 5)))}), r"pictures\['a'\]: expected one picture"),
        (lambda run, mesh: run.add(0, 1.0, mesh=mesh.with_vertices(dr.array(np.zeros((2, 162, 3))))), "mesh: expected one mesh, got a batch of 2"),
        (lambda run, mesh: dr.Recording(run.folder, snapshots=1), "snapshots: expected a whole number of at least 2, got 1"),
    ],
)
def test_errors(tmp_path, sphere, call, message):
    with pytest.raises(ValueError, match=message):
        call(dr.Recording(tmp_path), sphere)


def test_a_recording_of_another_format(f32, tmp_path):
    dr.Recording(tmp_path)
    (tmp_path / "recording" / "about.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="expected a recording of format 1, got 99"):
        dr.Recording(tmp_path)


# --- Size -------------------------------------------------------------------------------------------------------------------


def test_the_report_is_small(f32, tmp_path, rng):
    """500 steps, 24 views at 256 x 256 of noise over shades, 10,242 vertices: more than a fit's pictures can hold."""
    ball = dr.shapes.icosphere(5)
    vertices, colors = dr.read(ball.vertices), rng.random((ball.vertices.shape[1], 3))
    mesh = dr.Mesh(vertices, dr.read(ball.faces), colors)
    targets = rng.random((24, 256, 256, 3))
    run = dr.Recording(tmp_path, steps=500)
    for step in range(500):
        if run.due(step):
            dr.write(mesh.vertices, vertices + 0.1 * rng.standard_normal(vertices.shape))
            dr.write(mesh.colors, rng.random((1, *colors.shape)))
        renders = lambda step=step: {f"view {k}": (x, 0.9 * x + 0.1 * step / 500) for k, x in enumerate(targets)}  # noqa: E731
        run.add(step, math.exp(-step / 100), {f"term {k}": k / (step + 1) for k in range(8)}, pictures=renders, mesh=mesh)
    run.finish(mesh)
    assert (tmp_path / "report.html").stat().st_size < 20e6
    shown = data_of(tmp_path / "report.html")
    assert len(shown["views"]) == 4
    assert sum(frame["mesh"] is not None for frame in shown["frames"]) > 50
    assert shown["frames"][0]["step"] == 0 and shown["frames"][-1]["step"] == 499 and shown["frames"][-1]["mesh"]


@pytest.mark.parametrize("count, size", [(3, 4_000_000), (61, 500_000), (61, 1000), (1, 10_000_000)])
def test_what_is_too_large_is_left_out_evenly(tmp_path, count, size):
    """Meshes that change their faces at every snapshot, as a page has room for some of them."""
    for k in range(count):
        (tmp_path / f"{k:024x}.bin").write_bytes(bytes(size))
    meshes = [{"topology": f"{k:024x}.bin", "frame": f"{k:024x}.bin", "texture": None} for k in range(count)]
    kept = {"about": {}, "rows": [], "snapshots": [{"step": k, "pictures": [], "mesh": mesh} for k, mesh in enumerate(meshes)]}
    path = tmp_path / "report.html"
    path.write_bytes(report.page(kept, tmp_path, []))
    steps = [frame["step"] for frame in data_of(path)["frames"]]
    assert steps[-1] == count - 1 and (count < 3 or steps[0] == 0) and path.stat().st_size < 20e6
    assert len(steps) == count if count * size <= report.MESH_BYTES else len(steps) * size <= max(size, report.MESH_BYTES) < 3 * len(steps) * size
    assert np.ptp(np.diff(steps)[1:]) <= 0 if len(steps) > 2 else True


def test_long_curves_keep_their_extremes():
    rows = [{"step": k, "seconds": 0.0, "loss": math.sin(k / 1000) + (5 if k == 12345 else 0), "terms": {}} for k in range(50_000)]
    rows[777]["loss"] = "nan"
    shown = report.data({"about": {}, "rows": rows, "snapshots": []}, [])
    assert len(shown["steps"]) <= report.ROWS + 1 and shown["steps"][0] == 0 and shown["steps"][-1] == 49_999 and 12345 in shown["steps"]
    assert shown["count"] == 50_000 and shown["broken"] == 1
