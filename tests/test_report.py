"""The report in a real browser: it draws, its slider moves pictures and mesh, its console is clean, it asks for nothing; and the live page."""

import http.client
import json
import pathlib
import socket
import struct
import threading
import urllib.error
import urllib.request

import browser
import numpy as np
import pytest
from test_recording import HOSTILE

import taichi_dr as dr
from taichi_dr import live, recording

DRAWN = "document.querySelector('#mesh').dataset.frame"


@pytest.fixture(scope="module")
def chromium():
    if browser.executable() is None:
        pytest.skip("no browser: install Chromium or Chrome, as `apt-get install chromium`")
    try:
        started = browser.Browser()
    except RuntimeError as error:  # such as Ubuntu's stand-in, which only says where to get one
        pytest.skip(str(error))
    yield started
    started.close()


@pytest.fixture
def run(f32, tmp_path):
    """A ball that grows to the right and turns from red to green, in 30 steps and two views."""
    ball = dr.shapes.icosphere(3)
    vertices, faces = dr.read(ball.vertices)[0], dr.read(ball.faces)
    recorded = dr.Recording(tmp_path / "run", title="A ball", config={"lr": 0.1, "adam": {"betas": (0.9, 0.99)}}, snapshots=40)

    def step(k, mesh=None):
        t = k / 29
        mesh = mesh or dr.Mesh(vertices * [1 + t, 1, 1], faces, np.tile([1 - t, t, 0.0], (len(vertices), 1)))
        pictures = {"front": (np.full((64, 96, 3), 1.0), np.full((64, 96, 3), t)), "back": (None, np.full((64, 96, 3), [0, t, 1]))}
        recorded.add(k, np.exp(-k / 5), {"silhouette": 0.5 * np.exp(-k / 5)}, pictures=pictures, mesh=mesh)
        return mesh

    recorded.step, recorded.ball = step, (vertices, faces)
    return recorded


def canvas(page, name):
    """The middle pixel of a picture's canvas, and its size."""
    take = "c => { const p = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true }); p.drawImage(c, -c.width / 2, -c.height / 2);"
    return page.js(f"({take} return [c.width, c.height, ...p.getImageData(0, 0, 1, 1).data]; }})(document.querySelector('#{name}'))")


def go(page, index):
    page.js(f"(t => {{ t.value = {index}; t.dispatchEvent(new Event('input')); }})(document.querySelector('#time'))")


def settled(page, step):
    """Until pictures and mesh of a step are there."""
    page.until(f"document.querySelector('#render').getAttribute('aria-label')?.endsWith('step {step}')")
    content = page.js("JSON.parse(document.querySelector('#data').textContent).frames")
    frame = next(frame["mesh"]["frame"] for frame in content if frame["step"] == step)
    page.until(f"{DRAWN} === '{frame}'")


def test_it_draws_and_the_slider_moves_it(chromium, run, tmp_path):
    for k in range(30):
        mesh = run.step(k)
    run.finish(mesh)
    chromium.open((tmp_path / "run" / "report.html").as_uri())
    settled(chromium, 29)
    ends = chromium.picture("#stage")
    assert canvas(chromium, "target") == [96, 64, 255, 255, 255, 255]
    assert min(canvas(chromium, "render")[2:]) > 250 and max(canvas(chromium, "difference")[2:5]) < 5
    assert chromium.js("document.querySelector('#step').textContent") == "step 29 / 29"

    go(chromium, 0)
    settled(chromium, 0)
    begins = chromium.picture("#stage")
    assert max(canvas(chromium, "render")[2:5]) < 5 and min(canvas(chromium, "difference")[2:5]) > 250
    assert chromium.js("document.querySelector('#time').getAttribute('aria-valuetext')") == "step 0 of 29"
    assert chromium.js("document.querySelector('.marker').dataset.step") == "0"

    # Red ball, then a green one, wider: not the background.
    def covered(picture, channel):
        other = np.delete(picture.astype(int), channel, axis=-1).max(axis=-1)
        return picture[..., channel].astype(int) - other > 60

    red, green = covered(begins, 0), covered(ends, 1)
    assert 0.05 < red.mean() < 0.9 and 0.05 < green.mean() < 0.9 and green.mean() > 1.2 * red.mean()
    assert not covered(begins, 1).any() and not covered(ends, 0).any()
    assert chromium.log == [] and len(chromium.requests) == 1


def test_keys_play_views_and_looks(chromium, run, tmp_path):
    for k in range(6):
        run.step(k)
    run.finish()
    chromium.open((tmp_path / "run" / "report.html").as_uri(), width=390, height=800, dark=True, mobile=True)
    settled(chromium, 5)
    chromium.press("ArrowLeft")
    settled(chromium, 4)
    chromium.press("Home")
    settled(chromium, 0)
    chromium.press(" ")
    assert chromium.js("document.querySelector('#play').getAttribute('aria-label')") == "Pause"
    settled(chromium, 5)
    chromium.until("document.querySelector('#play').getAttribute('aria-label') === 'Play'")

    chromium.click("#chart", 60, 50)  # its left end
    settled(chromium, 0)
    chromium.press("End")
    settled(chromium, 5)

    chromium.js("document.querySelectorAll('#views button')[1].click()")
    chromium.until("document.querySelector('#view-name').textContent === 'back'")
    assert chromium.js("document.querySelector('#target').closest('figure').hidden")  # this view has no target
    before = chromium.picture("#stage")
    chromium.js("[...document.querySelectorAll('#look button')].find((b) => b.textContent === 'Clay').click()")
    assert np.abs(chromium.picture("#stage").astype(int) - before).max() > 60
    chromium.js("document.querySelector('#mesh').focus()")
    chromium.press("ArrowLeft")  # turns the mesh, leaves the time
    assert chromium.js("document.querySelector('#time').value") == "5"
    assert chromium.js("document.documentElement.scrollWidth") == 390  # nothing sticks out
    assert chromium.log == []


def test_everything_has_a_name(chromium, run, tmp_path):
    run.step(0)
    run.step(1)
    run.finish()
    chromium.open((tmp_path / "run" / "report.html").as_uri())
    settled(chromium, 1)
    for node in chromium.call("Accessibility.getFullAXTree")["nodes"]:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        assert role not in ("button", "slider", "image", "img", "link") or name.strip(), node


@pytest.mark.parametrize("kind", ["nothing", "rows", "one", "pictures", "mesh", "remesh", "texture", "broken", "hostile"])
def test_whatever_was_recorded(chromium, run, tmp_path, kind):
    vertices, faces = run.ball
    if kind == "rows":
        for k, loss in enumerate([-1.0, float("nan"), 0.0, 2.0]):
            run.add(k, loss)
    elif kind == "one":
        run.step(7)
    elif kind == "pictures":
        run.add(0, 1.0, pictures={"a": (None, np.full((8, 8), 0.5))})
        run.add(1, 1.0, pictures={"a": (np.zeros((16, 16, 3)), np.full((8, 8, 4), 0.5))})
    elif kind == "mesh":
        run.add(0, 1.0, mesh=dr.Mesh(vertices, faces))
    elif kind == "remesh":
        for k in range(3):
            run.step(k, mesh=[None, dr.shapes.cube(), dr.shapes.icosphere(4)][k])
    elif kind == "texture":
        uv = 0.5 + 0.5 * vertices[:, :2]
        run.step(0, mesh=dr.Mesh(vertices, faces, uv=uv, texture=np.full((4, 4, 3), [0.0, 1.0, 0.0])))
    elif kind == "broken":
        run.step(0, mesh=dr.Mesh(np.where(vertices > 0.9, np.nan, vertices), faces))
    elif kind == "hostile":
        pictures = {name: (np.zeros((8, 8, 3)), np.ones((8, 8, 3))) for name in HOSTILE}
        run = dr.Recording(tmp_path / "run", title=" ".join(HOSTILE), config={name: name for name in HOSTILE}, views=99)
        for k in range(2):
            run.add(k, 1.0, {name: 1.0 for name in HOSTILE}, pictures=pictures, mesh=dr.shapes.cube())
    run.finish()
    chromium.open((tmp_path / "run" / "report.html").as_uri())
    frames = chromium.js("JSON.parse(document.querySelector('#data').textContent).frames.length")
    if kind not in ("nothing", "rows", "pictures"):
        chromium.until(DRAWN)
        assert len(np.unique(chromium.picture("#stage").reshape(-1, 3), axis=0)) > 100
    for index in range(frames):
        go(chromium, index)
    hidden = {
        name: chromium.js(f"document.querySelector('#{name}').hidden") for name in ("empty", "curves-card", "pictures-card", "mesh-card", "transport")
    }
    assert hidden["empty"] == (kind != "nothing") and hidden["curves-card"] == (kind == "nothing")
    assert hidden["mesh-card"] == (kind in ("nothing", "rows", "pictures")) and hidden["pictures-card"] == (kind in ("nothing", "rows", "mesh"))
    assert hidden["transport"] == (frames < 2)
    if kind == "texture":
        assert chromium.js("document.querySelector('#counts').textContent") == "642 vertices · 1,280 faces"
        middle = chromium.picture("#stage").astype(int)
        assert (middle[..., 1] - middle[..., [0, 2]].max(axis=-1) > 60).mean() > 0.05
    if kind == "broken":
        assert "not finite" in chromium.js("document.querySelector('#counts').textContent")
    if kind == "rows":
        assert "1 step was not" in chromium.js("document.querySelector('#broken').textContent")
    if kind == "hostile":
        assert chromium.js("document.querySelectorAll('#views button').length") == len(HOSTILE)
        assert chromium.js("[...document.querySelectorAll('#config th')].map((e) => e.textContent)") == HOSTILE
    chromium.picture()
    assert chromium.log == [] and len(chromium.requests) == 1


def test_without_webgl_the_rest_works(run, tmp_path, chromium):
    for k in range(3):
        run.step(k)
    run.finish()
    plain = browser.Browser("--disable-gpu", "--disable-software-rasterizer", "--disable-3d-apis")
    try:
        plain.open((tmp_path / "run" / "report.html").as_uri())
        plain.until("!document.querySelector('#no-webgl').hidden")
        go(plain, 0)
        plain.until("document.querySelector('#render').getAttribute('aria-label').endsWith('step 0')")
        assert plain.log == []
    finally:
        plain.close()


# --- Live -------------------------------------------------------------------------------------------------------------------


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.status, answer.read(), dict(answer.headers)


@pytest.mark.parametrize("moment", ["before the request", "before the answer"])
def test_a_browser_that_hangs_up_is_no_news(moment, run, tmp_path, monkeypatch, capfd):
    """Reset, so that the server meets an error where it reads or writes."""
    run.step(0)
    asked, hung_up, done = threading.Event(), threading.Event(), threading.Event()
    answer, shutdown = live._Handler._answer, live._Http.shutdown_request

    def late(self, *args, **kwargs):
        asked.set()
        hung_up.wait(10)
        for _ in range(50):  # until the reset is there
            answer(self, *args, **kwargs)

    monkeypatch.setattr(live._Handler, "_answer", late)
    monkeypatch.setattr(live._Http, "shutdown_request", lambda self, request: (shutdown(self, request), done.set()))
    with live.Server(tmp_path / "run") as server:
        browser = socket.create_connection(("127.0.0.1", int(server.url.split(":")[-1].strip("/"))))
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if moment == "before the answer":
            browser.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n")
            assert asked.wait(10)
        browser.close()
        hung_up.set()
        assert done.wait(10)
    assert capfd.readouterr().err == ""


def test_other_errors_of_the_server_are_told(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(live._Handler, "_data", lambda self: 1 / 0)
    with live.Server(tmp_path / "run") as server, pytest.raises((urllib.error.URLError, http.client.HTTPException, ConnectionError)):
        get(server.url)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_server_gives_the_run_and_nothing_else(run, tmp_path):
    (tmp_path / "run" / "secret.txt").write_text("secret")
    mesh = run.step(0)
    with live.Server(tmp_path / "run") as server:
        assert server.url.startswith("http://127.0.0.1:")
        content = json.loads(get(server.url + "data.json")[1])
        assert content["live"] and not content["finished"] and content["files"] == [] and len(content["frames"]) == 1
        blob = content["frames"][0]["mesh"]["frame"]
        assert get(server.url + "blobs/" + blob)[1] == (tmp_path / "run" / "recording" / "blobs" / blob).read_bytes()
        tag = get(server.url + "data.json")[2]["ETag"]
        with pytest.raises(urllib.error.HTTPError, match="304"):
            get(server.url + "data.json", **{"If-None-Match": tag})
        run.finish(mesh)
        assert get(server.url + "data.json", **{"If-None-Match": tag})[0] == 200
        assert get(server.url + "mesh.glb")[1] == (tmp_path / "run" / "mesh.glb").read_bytes()
        for path in (
            "secret.txt",
            "blobs/../../secret.txt",
            "blobs/..%2f..%2fsecret.txt",
            "recording/rows.jsonl",
            "blobs/" + "0" * 24 + ".bin",
            "//etc/passwd",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(server.url + path)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(server.url, Host="somebody.example:80")


def test_the_live_page_follows(chromium, run, tmp_path):
    with live.Server(tmp_path / "run") as server:
        chromium.open(server.url)
        chromium.until("document.querySelector('#summary').textContent === 'waiting for the first step'")
        for k in range(3):
            mesh = run.step(k)
        chromium.until("document.querySelector('#step').textContent === 'step 2 / 2'")
        chromium.until(f"document.querySelector('#summary').textContent.includes('running') && {DRAWN}")
        chromium.press("ArrowLeft")  # whoever looks back is not called away
        for k in range(3, 6):
            mesh = run.step(k)
        chromium.until("document.querySelector('#time').max === '5'")
        assert chromium.js("document.querySelector('#step').textContent") == "step 1 / 5"
        run.finish(mesh)
        chromium.until("document.querySelector('#summary').textContent.includes('finished')")
        chromium.until("document.querySelectorAll('#files a').length === 5")
        assert chromium.log == [] and all(address.startswith((server.url, "data:", "blob:")) for address in chromium.requests)


def test_a_mesh_is_shown(chromium, f32, tmp_path):
    path = tmp_path / "cube.obj"
    dr.shapes.cube().save(path)
    for target in (path, str(path), dr.shapes.icosphere(1)):
        with live.Server(target) as server:
            chromium.open(server.url)
            chromium.until(DRAWN)
            assert len(np.unique(chromium.picture("#stage").reshape(-1, 3), axis=0)) > 50 and chromium.log == []
            folder = server.folder
        assert not folder.exists()  # the temporary one
    with pytest.raises(FileNotFoundError):
        live.Server(tmp_path / "none.obj")
    with pytest.raises(ValueError, match="viewer: expected 'page' or 'viser', got 'x'"):
        live.serve(path, viewer="x")


def test_viser_follows(run, tmp_path):
    pytest.importorskip("viser")
    run.step(0)
    server = live.ViserServer(tmp_path / "run")
    try:
        assert b"<html" in get(server.url)[1].lower() and server._label.content.startswith("step 0: 642 vertices")
        run.step(1)
        run.step(2)
        server._look()
        assert server._label.content.startswith("step 2") and server._slider.max == 2
        server._follow.value = False
        server._slider.value = 1
        server._show(1)
        run.step(3)
        server._look()
        assert server._label.content.startswith("step 1") and server._slider.max == 3
    finally:
        server.close()


def test_the_page_needs_no_file_of_ours(run, tmp_path):
    run.step(0)
    text = run.finish()[0].read_text(encoding="utf-8")
    three = pathlib.Path(recording.report.HERE) / "three"
    assert (three / "LICENSE").read_text(encoding="utf-8") in text and "{{" not in text.replace("{{data}}", "")
    assert "default-src 'none'" in text and "connect-src 'none'" in text
