"""What a fit leaves on disk: losses, pictures and the mesh over time while it runs, and a report at its end."""

import csv
import hashlib
import io
import json
import math
import operator
import os
import platform
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import taichi as ti
from PIL import Image

from . import pictures as images
from . import report, runtime
from .arrays import read as values_of
from .io import flipped, sample_image
from .mesh import GREY, Mesh, vertex_means

FORMAT = 1
BLOB = re.compile(r"[0-9a-f]{24}\.(webp|bin)")
QUALITY = 85  # of WebP, where 100 is best
TEXTURE_SIZE = 512  # pixels of the longer side of a recorded texture; the final mesh keeps all
GIF_WIDTH = 640  # pixels, of target, render and difference side by side

Pictures = Mapping[str, Any]


class Recording:
    """A folder that shows how a fit went: readable while it runs, whole after `kill -9`, and a report at the end.

        recording = dr.Recording("out/run", steps=500, config={"lr": 0.01})
        for step in range(500):
            ...
            recording.add(step, loss, {"silhouette": s}, pictures=lambda: {"view": (target, renderer(mesh, camera))}, mesh=mesh)
        recording.finish(mesh)

    Every step leaves one row of numbers. Pictures and mesh are kept at no more than `snapshots` + 1 steps: with interval n, of the steps
    0 to n - 1, n to 2n - 1 and so on the first that is added, and the last of all; when there are too many, n doubles. So a run of unknown
    length is covered evenly, and a run that was resumed ends with the snapshots of one that never stopped. Files are replaced as a whole.

    Under `folder/recording` stand `about.json`, `rows.jsonl`, one file of JSON in `snapshots` for each, and in `blobs`, named by
    their contents, pictures as WebP and geometry in 16 bits per coordinate and 8 per color.

    Args:
        folder: of the run; made where it is not there.
        title: of the report; the name of the folder where left out.
        config: settings of the run to show, a mapping, which may hold others.
        steps: how many there will be, if known: snapshots are spread over them from the first on. Each is rendered for, so this saves time.
        resume_at: the first step that will be added, to go on in a recording whose later steps are discarded. None begins anew,
            and discards what an earlier run recorded here.
        snapshots: how many to keep, at least 2.
        views: how many views to keep, the first that come; pictures of others are left out.
        picture_size: pixels of the longer side that pictures are scaled down to.

    Raises:
        ValueError: a number out of range, or a recording in another format.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        title: str | None = None,
        config: Mapping[str, Any] | None = None,
        steps: int | None = None,
        resume_at: int | None = None,
        snapshots: int = 60,
        views: int = 4,
        picture_size: int = 384,
    ) -> None:
        for name, count, least in (("snapshots", snapshots, 2), ("views", views, 0), ("picture_size", picture_size, 1)):
            if operator.index(count) < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {count}")
        self.folder = Path(folder)
        self._limit, self._view_limit, self._picture_size = snapshots, views, picture_size
        self._root = self.folder / "recording"
        for part in ("snapshots", "blobs"):
            (self._root / part).mkdir(parents=True, exist_ok=True)

        before = read(self.folder)
        rows = [row for row in before["rows"] if resume_at is not None and row["step"] < resume_at]
        self._snapshots = {s["step"]: s for s in before["snapshots"] if resume_at is not None and s["step"] < resume_at}
        self._views = list(dict.fromkeys(name for s in self._snapshots.values() for name, *_ in s["pictures"]))
        self._last_step = rows[-1]["step"] if rows else None
        self._started = time.perf_counter() - (rows[-1]["seconds"] if rows else 0.0)
        self._about = {
            "format": FORMAT,
            "title": str(title if title is not None else self.folder.resolve().name),
            "config": report.flat(config or {}),
            "versions": _versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "steps": None if steps is None else int(steps),
            "interval": 1 if steps is None else max(1, math.ceil(steps / snapshots)),
            "finished": False,
        }
        if rows or self._snapshots:
            self._about["started"] = before["about"].get("started", self._about["started"])
            self._about["interval"] = max(self._about["interval"], before["about"].get("interval", 1))
        _replace(self._root / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._thin()
        self._write_about()

    def due(self, step: int) -> bool:
        """Whether `add` will keep pictures and mesh of this step, so that they need not be made where it will not."""
        last, interval = max(self._snapshots, default=None), self._about["interval"]
        return last is None or step // interval > last // interval

    def add(
        self,
        step: int,
        loss: Any,
        terms: Mapping[str, Any] | None = None,
        *,
        pictures: Pictures | Callable[[], Pictures] | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        """Record one step.

        Args:
            step: its number, larger than the last one's.
            loss: a number or a 0-D array; NaN and infinity are recorded as such.
            terms: parts of the loss, or anything else worth a curve, by name.
            pictures: by name of the view, pairs (target, render) of what `pictures.to_uint8` takes or of (H, W) numbers in [0, 1]; the target
                may be None. Of batches (B, H, W, channels), as a renderer gives them, each is a view: "NAME 0", "NAME 1", ... Or a
                function without arguments that gives them, called only if `due(step)`.
            mesh: as it is at this step, one mesh.

        Raises:
            ValueError: a step out of order, a picture that is none, a batch of meshes.
            OSError: the folder cannot be written.
        """
        step = operator.index(step)
        if step < 0 or (self._last_step is not None and step <= self._last_step):
            after = "0" if self._last_step is None else str(self._last_step + 1)
            raise ValueError(f"step: expected at least {after}, got {step}; to go back, make a Recording with resume_at={max(step, 0)}")
        row = {"step": step, "seconds": round(time.perf_counter() - self._started, 3), "loss": _json_number(loss)}
        row["terms"] = {str(name): _json_number(value) for name, value in (terms or {}).items()}
        with open(self._root / "rows.jsonl", "a", encoding="ascii") as file:
            file.write(json.dumps(row) + "\n")
        self._last_step = step
        if (pictures is not None or mesh is not None) and self.due(step):
            self.keep(step, pictures=pictures, mesh=mesh)

    def keep(self, step: int, *, pictures: Pictures | Callable[[], Pictures] | None = None, mesh: Mesh | None = None) -> None:
        """Keep pictures and mesh of a step, whether they are due or not; what was kept of that step before is replaced. Args as of `add`."""
        shown = pictures() if callable(pictures) else pictures
        snapshot = {"pictures": [], "mesh": None, **self._snapshots.get(step, {}), "step": step}
        if shown:
            views = [view for name, pair in shown.items() for view in _views(str(name), pair)]
            snapshot["pictures"] = [self._view(name, pair) for name, pair in views if self._admitted(name)]
        if mesh is not None:
            snapshot["mesh"] = self._geometry(mesh)
        _replace(self._snapshot_path(step), json.dumps(snapshot).encode())
        self._snapshots[step] = snapshot
        self._thin()

    def finish(self, mesh: Mesh | None = None, *, pictures: Pictures | Callable[[], Pictures] | None = None) -> list[Path]:
        """Write report.html, loss.csv, fit.gif, and mesh.obj and mesh.glb, as far as there is something to write; give back their paths.

        Args:
            mesh: the final one, also shown at the last step.
            pictures: the final ones, as in `add`.

        Raises:
            ValueError: a mesh that cannot be saved, such as one with NaN; all but the mesh files are written then.
            OSError: the folder cannot be written.
        """
        last = max(self._last_step or 0, max(self._snapshots, default=0))
        if mesh is not None or pictures is not None:
            self.keep(last, pictures=pictures, mesh=mesh)
        self._about["finished"] = True
        self._write_about()
        kept = read(self.folder)
        written = [self.folder / "loss.csv"]
        _replace(written[0], _csv(kept["rows"]))
        frames = _gif_frames(kept, self._root / "blobs")
        if frames:
            written.append(self.folder / "fit.gif")
            _replace(written[-1], _gif(frames))
        try:
            if mesh is not None:
                textured = mesh.texture is not None or mesh.texels is not None
                for suffixes in ([".obj", ".mtl", ".png"] if textured else [".obj"]), [".glb"]:
                    mesh.save(self.folder / f"mesh{suffixes[0]}")
                    written += [self.folder / f"mesh{suffix}" for suffix in suffixes]
        finally:
            written.insert(0, write_report(self.folder, files=[path.name for path in written]))
        return written

    def _admitted(self, view: str) -> bool:
        if view not in self._views and len(self._views) < self._view_limit:
            self._views.append(view)
        return view in self._views

    def _view(self, name: str, pair: Any) -> list[str | None]:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[1] is None:
            raise ValueError(f"pictures[{name!r}]: expected a pair (target, render), the target may be None, got {type(pair).__name__}")
        return [name, *(None if picture is None else self._picture(f"pictures[{name!r}]", picture, self._picture_size) for picture in pair)]

    def _picture(self, name: str, picture: Any, size: int) -> str:
        pixels = images.to_uint8(picture)
        if pixels.ndim == 3 and len(pixels) == 1 and pixels.shape[-1] not in (1, 3, 4):
            pixels = pixels[0]  # a batch of one grey picture
        if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 1):
            pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=-1)
        if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4) or 0 in pixels.shape:
            raise ValueError(f"{name}: expected one picture, (H, W), (H, W, 3) or (H, W, 4), got shape {pixels.shape}; take one of a batch")

        def encoded() -> bytes:
            image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
            image.thumbnail((size, size), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            image.save(out, "WEBP", quality=QUALITY)
            return out.getvalue()

        # By its pixels, so that a target is compressed once.
        return self._blob(repr((size, pixels.shape)).encode() + pixels.tobytes(), ".webp", encoded)

    def _geometry(self, mesh: Mesh) -> dict[str, Any]:
        """The mesh as the page draws it: corners that differ in position or uv, which point to positions in 16 bits."""
        batch = max(x.shape[0] for x in (mesh.vertices, mesh.colors, mesh.uv, mesh.texture) if x is not None)
        if batch != 1:
            raise ValueError(f"mesh: expected one mesh, got a batch of {batch}; record one of them")
        vertices, faces = values_of(mesh.vertices)[0].astype(np.float64), values_of(mesh.faces)
        broken = ~np.isfinite(vertices).all(axis=1)
        low, high = (vertices[~broken].min(axis=0), vertices[~broken].max(axis=0)) if not broken.all() else (np.zeros(3), np.zeros(3))
        center, scale = (low + high) / 2, max(float((high - low).max()) / 2, 1e-30) / 32767
        vertices[broken] = center
        frame = [np.rint((vertices - center) / scale).astype("<i2").tobytes()]
        drawn, topology, texture, colors = faces, [], None, None
        if mesh.texture is not None:
            uv, uv_faces = values_of(mesh.uv)[0], values_of(mesh.uv_faces)
            pairs, corner = np.unique(faces.reshape(-1).astype(np.int64) * len(uv) + uv_faces.reshape(-1), return_inverse=True)
            drawn, source = corner.reshape(-1, 3), pairs // len(uv)
            topology = [source.astype("<u4"), np.nan_to_num(uv[pairs % len(uv)]).astype("<f4")]
            texture = self._picture("mesh.texture", values_of(mesh.texture)[0], TEXTURE_SIZE)
        elif mesh.texels is not None:
            last, texels = mesh.texels.shape[1] - 1, values_of(mesh.texels)
            colors = vertex_means(np.stack([texels[:, 0, last], texels[:, last, 0], texels[:, 0, 0]], axis=1), faces, len(vertices))
        elif mesh.colored or (values_of(mesh.colors) != GREY).any():
            colors = values_of(mesh.colors)[0]
        if colors is not None:
            frame.append(images.to_uint8(colors).tobytes())
        topology = b"".join(x.tobytes() for x in (*topology, drawn.astype("<u4")))
        return {
            "topology": self._blob(topology, ".bin"),
            "frame": self._blob(b"".join(frame), ".bin"),
            "texture": texture,
            "colored": colors is not None,
            "vertices": len(vertices),
            "corners": int(drawn.max()) + 1 if texture else len(vertices),
            "faces": len(faces),
            "center": center.tolist(),
            "scale": scale,
            "radius": float(np.linalg.norm(vertices - center, axis=1).max()),
            "broken": int(broken.sum()),
        }

    def _blob(self, content: bytes, suffix: str, encoded: Callable[[], bytes] | None = None) -> str:
        name = hashlib.sha256(content).hexdigest()[:24] + suffix
        path = self._root / "blobs" / name
        if not path.exists():
            _replace(path, content if encoded is None else encoded())
        return name

    def _thin(self) -> None:
        """Double the interval until the snapshots are few enough, and remove the files of those that go."""
        interval, kept = self._about["interval"], self._first_of_each(self._about["interval"])
        while len(kept) > self._limit:
            interval *= 2
            kept = self._first_of_each(interval)
        if interval != self._about["interval"]:
            self._about["interval"] = interval
            self._write_about()
        # The last stays, though another may be the first of its interval, until a later one comes.
        kept.update(sorted(self._snapshots)[-1:])
        self._snapshots = {step: self._snapshots[step] for step in sorted(kept)}
        paths, blobs = {self._snapshot_path(step) for step in kept}, set().union(*map(report.blobs_of, self._snapshots.values()))
        for path in (self._root / "snapshots").glob("*.json"):
            if path not in paths:
                path.unlink(missing_ok=True)
        for path in (self._root / "blobs").iterdir():
            if BLOB.fullmatch(path.name.removesuffix(".part")) and path.name not in blobs:
                path.unlink(missing_ok=True)

    def _first_of_each(self, interval: int) -> set[int]:
        return set({step // interval: step for step in sorted(self._snapshots, reverse=True)}.values())

    def _snapshot_path(self, step: int) -> Path:
        return self._root / "snapshots" / f"{step:09d}.json"

    def _write_about(self) -> None:
        _replace(self._root / "about.json", json.dumps(self._about).encode())


def _views(name: str, pair: Any) -> list[tuple[str, Any]]:
    """The pairs of a batch, each with a name of its own; any other pair as it is."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return [(name, pair)]
    both = [values_of(x) if isinstance(x, ti.Ndarray) else x if x is None else np.asarray(x) for x in pair]
    counts = [1 if x is None or x.ndim < 4 else len(x) for x in both]
    if max(counts) <= 1:
        return [(name, both)]
    if min(count for count, x in zip(counts, both, strict=True) if x is not None) != max(counts):
        raise ValueError(f"pictures[{name!r}]: expected as many targets as renders, got {counts[0]} and {counts[1]}; take those that belong together")
    return [(f"{name} {k}", [None if x is None else x[k] for x in both]) for k in range(max(counts))]


def read(folder: str | os.PathLike) -> dict[str, Any]:
    """What is recorded in a run's folder, finished or not: {"about", "rows", "snapshots"}, steps ascending; empty where there is nothing.

    Rows are {"step", "seconds", "loss", "terms"}, where NaN and infinity are the strings "nan", "inf" and "-inf".

    Raises:
        ValueError: a recording in another format.
    """
    root = Path(folder) / "recording"
    about = _json(root / "about.json") or {}
    if about.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{root}: expected a recording of format {FORMAT}, got {about['format']}; use the taichi_dr that made it")
    rows = []
    try:
        lines = (root / "rows.jsonl").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last of a run that was killed while it wrote
        if not rows or row["step"] > rows[-1]["step"]:
            rows.append(row)
    snapshots = [snapshot for path in sorted((root / "snapshots").glob("*.json")) if (snapshot := _json(path))]
    return {"about": about, "rows": rows, "snapshots": sorted(snapshots, key=lambda snapshot: snapshot["step"])}


def geometry(folder: str | os.PathLike, mesh: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vertices (V, 3), faces (F, 3) and colors (V, 3) in [0, 1], or None, of the "mesh" of a snapshot.

    Those of a texture are sampled at the corners and averaged.
    """
    blobs, count, corners = Path(folder) / "recording" / "blobs", mesh["vertices"], mesh["corners"]
    frame, topology = (blobs / mesh["frame"]).read_bytes(), (blobs / mesh["topology"]).read_bytes()
    vertices = np.frombuffer(frame, "<i2", 3 * count).reshape(-1, 3) * mesh["scale"] + mesh["center"]
    faces = np.frombuffer(topology, "<u4", 3 * mesh["faces"], len(topology) - 12 * mesh["faces"]).reshape(-1, 3).astype(np.int64)
    if mesh["texture"]:
        source, uv = np.frombuffer(topology, "<u4", corners), np.frombuffer(topology, "<f4", 2 * corners, 4 * corners).reshape(-1, 2)
        with Image.open(blobs / mesh["texture"]) as image:
            at_corners = sample_image(np.asarray(image.convert("RGB")) / 255, flipped(uv))
        positions = source[faces].astype(np.int64)
        return vertices, positions, vertex_means(at_corners[faces], positions, count)
    return vertices, faces, np.frombuffer(frame, np.uint8, 3 * count, 6 * count).reshape(-1, 3) / 255 if mesh["colored"] else None


def write_report(folder: str | os.PathLike, *, files: list[str] | None = None) -> Path:
    """Write `report.html` of a run's folder from what is recorded there, finished or not.

    Args:
        folder: of the run.
        files: names of files beside the report that it names; those of `Recording.finish` that are there, where left out.

    Raises:
        FileNotFoundError: nothing is recorded there.
    """
    folder = Path(folder)
    kept = read(folder)
    if not kept["about"]:
        raise FileNotFoundError(f"{folder}: expected the folder of a run, with a folder 'recording' in it; record one by dr.Recording")
    if files is None:
        files = [name for name in ("loss.csv", "fit.gif", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.glb") if (folder / name).exists()]
    path = folder / "report.html"
    _replace(path, report.page(kept, folder / "recording" / "blobs", files))
    return path


def _json(path: Path) -> Any:
    """The contents of a file that may have been removed meanwhile."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that at every moment it is the old one or the new one."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _json_number(value: Any) -> float | str:
    number = float(values_of(value) if isinstance(value, ti.Ndarray) else value)
    return number if math.isfinite(number) else str(number)


def _csv(rows: list[dict[str, Any]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row["terms"]))
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["step", "seconds", "loss", *names])
    for row in rows:
        table.writerow([row["step"], row["seconds"], row["loss"], *(row["terms"].get(name, "") for name in names)])
    return text.getvalue().encode(errors="backslashreplace")


def _versions() -> list[list[str]]:
    from . import __version__  # only here: the package imports this file

    device = runtime.device()
    return [
        ["taichi_dr", __version__],
        ["Taichi", ".".join(map(str, ti.__version__))],
        ["NumPy", np.__version__],
        ["Python", platform.python_version()],
        ["device", f"{device.arch}, {device.precision}" + (f", {device.threads} threads" if device.arch == "cpu" else "")],
        ["system", f"{platform.system()} {platform.machine()}"],
    ]


def _gif(frames: list[np.ndarray]) -> bytes:
    """An endless animation in one palette for all frames, which is found and written in a tenth of the time of one for each."""
    sample = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]]))
    palette = sample.quantize(256, Image.Quantize.MEDIANCUT)
    first, *rest = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=100, loop=0)
    return out.getvalue()


def _gif_frames(kept: dict[str, Any], blobs: Path) -> list[np.ndarray]:
    """Target, render and difference side by side, of up to two views below each other."""
    latest: dict[str, list[str | None]] = {}
    frames = []
    for snapshot in kept["snapshots"]:
        if not snapshot["pictures"]:
            continue
        latest.update({name: pair for name, *pair in snapshot["pictures"]})
        frames.append([list(pair) for pair in list(latest.values())[:2]])
    if not frames:
        return []
    rows = len(frames[-1])
    with Image.open(blobs / frames[-1][0][1]) as last:
        ratio = last.height / last.width
    width = GIF_WIDTH // 3
    height = max(1, min(round(width * ratio), 4 * width))

    def cell(name: str | None) -> np.ndarray:
        if name is None:
            return np.zeros((height, width, 3), np.uint8)
        with Image.open(blobs / name) as image:
            how = Image.Resampling.BOX if image.width > width else Image.Resampling.BILINEAR
            return np.asarray(image.convert("RGB").resize((width, height), how))

    out = []
    for views in frames:
        lines = []
        for target, render in views + [[None, None]] * (rows - len(views)):
            a, b = cell(target), cell(render)
            difference = np.zeros_like(a) if target is None else np.abs(a.astype(np.int16) - b).astype(np.uint8)
            lines.append(np.concatenate([a, b, difference], axis=1))
        out.append(np.concatenate(lines))
    return out
