"""See a fit while it runs, or a mesh: the report's page, served to this machine's browser, or viser's viewer where that is installed."""

import json
import os
import sys
import tempfile
import threading
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from . import report
from .mesh import GREY, Mesh
from .recording import BLOB, Recording, geometry, read

HOST = "127.0.0.1"  # this machine only
POLL = 2.0  # seconds between looks at a run
TYPES = {".webp": "image/webp", ".bin": "application/octet-stream"}
FILES = ("report.html", "loss.csv", "fit.gif", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.glb")


class Server:
    """Serves the page of a run's folder, or of a mesh, in the background, until `close`.

    Args:
        target: the folder of a run, which may not have begun; a mesh, or the path of a mesh file.
        port: to listen on, on this machine only; 0 takes a free one.

    Raises:
        FileNotFoundError, ValueError: no such file; one that is no mesh.
        OSError: the port is taken.

    `url` is the address of the page. It follows the run every two seconds.
    """

    def __init__(self, target: str | os.PathLike | Mesh, *, port: int = 0) -> None:
        self._temporary, self.folder = _folder(target)
        self._http = _Http((HOST, port), type("Handler", (_Handler,), {"folder": self.folder}))
        self.url = f"http://{HOST}:{self._http.server_port}/"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def serve(target: str | os.PathLike | Mesh, *, port: int = 8321, viewer: str = "page", open_browser: bool = True) -> None:
    """Show a run or a mesh until Ctrl-C.

    Args:
        target, port: as of `Server`.
        viewer: "page" is the report, live; "viser" is viser's viewer of the mesh (`pip install "taichi_dr[viewer]"`).
        open_browser: open the page in the machine's browser.
    """
    if viewer not in ("page", "viser"):
        raise ValueError(f"viewer: expected 'page' or 'viser', got {viewer!r}")
    with (Server if viewer == "page" else ViserServer)(target, port=port) as server:
        print(f"{server.url}  (Ctrl-C ends)", flush=True)
        if open_browser:
            webbrowser.open(server.url)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass


def _folder(target: Any) -> tuple[tempfile.TemporaryDirectory | None, Path]:
    """A folder of a recording; a temporary one for a mesh."""
    if not isinstance(target, Mesh):
        path = Path(target)
        if path.is_dir():
            return None, path
        target, title = Mesh.load(path, texture="uv"), path.name
    else:
        title = "Mesh"
    temporary = tempfile.TemporaryDirectory(prefix="taichi_dr-")
    Recording(temporary.name, title=title).keep(0, mesh=target)
    return temporary, Path(temporary.name)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up, as on a reload, is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host, path = self.headers.get("Host", ""), self.path.partition("?")[0]
        if host.rpartition(":")[0] not in (HOST, "localhost"):  # a page of another site that points its name here
            return self._answer(403, b"this server answers to its own machine only", "text/plain")
        kind, _, name = path.removeprefix("/").partition("/")
        if path == "/":
            return self._answer(200, report.fill(self._data()), "text/html; charset=utf-8")
        if path == "/data.json":
            content = json.dumps(self._data(), allow_nan=False).encode()
            tag = f'"{hash(content):x}"'
            if self.headers.get("If-None-Match") == tag:
                return self._answer(304, b"", "application/json", ETag=tag)
            return self._answer(200, content, "application/json", ETag=tag)
        if kind == "blobs" and BLOB.fullmatch(name):
            return self._file(self.folder / "recording" / "blobs" / name, TYPES[name[name.rindex(".") :]], "public, max-age=31536000, immutable")
        if kind in FILES and not name:
            return self._file(self.folder / kind, {"html": "text/html; charset=utf-8", "gif": "image/gif"}.get(kind[-4:].lstrip("."), "text/plain"))
        self._answer(404, b"not found", "text/plain")

    def _data(self) -> dict[str, Any]:
        return report.data(read(self.folder), [name for name in FILES if (self.folder / name).exists()], live=True)

    def _file(self, path: Path, kind: str, cache: str = "no-store") -> None:
        try:
            self._answer(200, path.read_bytes(), kind, cache)
        except OSError:
            self._answer(404, b"not found", "text/plain")

    def _answer(self, status: int, content: bytes, kind: str, cache: str = "no-store", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Cache-Control": cache, "X-Content-Type-Options": "nosniff", **headers}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class ViserServer:
    """The mesh of a run in viser's viewer; it follows the run, and a slider goes back in time.

    Args: as of `Server`.

    Raises: as `Server`, and ImportError where viser is not installed.
    """

    def __init__(self, target: str | os.PathLike | Mesh, *, port: int = 0) -> None:
        try:
            import viser
        except ImportError:
            raise ImportError('viser is not installed; `pip install "taichi_dr[viewer]"`, or show the page instead, which needs nothing') from None
        self._temporary, self.folder = _folder(target)
        self._viser = viser.ViserServer(host=HOST, port=port, verbose=False)
        self.url = f"http://{HOST}:{self._viser.get_port()}/"
        self._viser.scene.set_up_direction("+y")
        self._follow = self._viser.gui.add_checkbox("Follow the run", True)
        self._label = self._viser.gui.add_markdown("Nothing has been recorded yet.")
        self._slider: Any = None
        self._snapshots: list[dict[str, Any]] = []
        self._closed = threading.Event()
        self._look()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._closed.wait(POLL):
            self._look()

    def _look(self) -> None:
        """Take in what has been recorded since."""
        snapshots = [snapshot for snapshot in read(self.folder)["snapshots"] if snapshot["mesh"]]
        if snapshots == self._snapshots:
            return
        at = len(snapshots) - 1
        if self._slider is not None:
            if not self._follow.value:
                step = self._snapshots[self._slider.value]["step"]
                at = next((k for k, snapshot in enumerate(snapshots) if snapshot["step"] >= step), at)
            self._slider.remove()  # viser's sliders keep their range
            self._slider = None
        self._snapshots = snapshots
        if len(snapshots) > 1:
            self._slider = self._viser.gui.add_slider("Snapshot", 0, len(snapshots) - 1, 1, at)
            self._slider.on_update(lambda event: self._show(event.target.value))
        if snapshots:
            self._show(at)

    def _show(self, index: int) -> None:
        import trimesh  # only here, since it takes half a second

        snapshot = self._snapshots[min(index, len(self._snapshots) - 1)]
        try:
            vertices, faces, colors = geometry(self.folder, snapshot["mesh"])
        except FileNotFoundError:
            return  # the run has dropped it; a look at it soon tells
        colors = np.full_like(vertices, GREY) if colors is None else colors
        self._viser.scene.add_mesh_trimesh("/mesh", trimesh.Trimesh(vertices, faces, vertex_colors=(colors * 255).astype(np.uint8), process=False))
        self._label.content = f"step {snapshot['step']:,}: {len(vertices):,} vertices, {len(faces):,} faces"

    def close(self) -> None:
        self._closed.set()
        self._watcher.join()
        self._viser.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> "ViserServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
