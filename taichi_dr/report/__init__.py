"""The page that shows how a fit went: one HTML file that holds all it needs, and opens by a double-click."""

import base64
import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = 2000  # points of a curve; a longer run keeps the extremes of equal parts
PICTURE_BYTES, MESH_BYTES = 5_000_000, 9_000_000  # before base64, which adds a third: with them a page is below 20 MB
TEXT = 400  # characters of a setting's value


def page(kept: Mapping[str, Any], blobs: Path, files: list[str]) -> bytes:
    """The page of a recording.

    Args:
        kept: what `recording.read` gives.
        blobs: folder of its pictures and geometry. Snapshots are left out evenly until they fit the limits; the last stays.
        files: names of files beside the page that it links to.
    """
    sizes = {path.name: path.stat().st_size for path in blobs.glob("*.*")}
    snapshots = [_present(snapshot, sizes) for snapshot in kept["snapshots"]]
    _thin(snapshots, "pictures", [], sizes, PICTURE_BYTES)
    _thin(snapshots, "mesh", None, sizes, MESH_BYTES)
    content = data({**kept, "snapshots": snapshots}, files)
    names = sorted(set().union(*map(blobs_of, snapshots)))
    content["blobs"] = {name: base64.b64encode((blobs / name).read_bytes()).decode() for name in names}
    return fill(content)


def fill(content: Mapping[str, Any]) -> bytes:
    """The page's template with its style, its scripts and the data that it shows."""
    text = {
        path: (HERE / path).read_text(encoding="utf-8")
        for path in ("page.html", "style.css", "page.js", "three/three.bundle.min.js", "three/LICENSE")
    }
    parts = {
        "title": html.escape(content["title"]),
        "connect": "'self'" if content["live"] else "'none'",
        "style": text["style.css"],
        "license": text["three/LICENSE"],
        "three": text["three/three.bundle.min.js"].replace("</script", "<\\/script"),
        "script": text["page.js"],
        # In a script element no character is escaped but "<" can end it; JSON has escapes of its own.
        "data": json.dumps(content, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    }
    # In one pass, so that what is put in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text["page.html"]).encode(errors="replace")


def data(kept: Mapping[str, Any], files: list[str], *, live: bool = False) -> dict[str, Any]:
    """What the page shows, as JSON without NaN; pictures and geometry by the names of their blobs."""
    about, rows, snapshots = kept["about"], kept["rows"], kept["snapshots"]
    views = list(dict.fromkeys(name for snapshot in snapshots for name, *_ in snapshot["pictures"]))
    shown = [rows[i] for i in _extremes([_number(row["loss"]) for row in rows])]
    terms = list(dict.fromkeys(name for row in shown for name in row["terms"]))
    curves = [[name, [_number(row["terms"].get(name)) for row in shown]] for name in terms]
    frames = []
    for snapshot in snapshots:
        pairs = {name: pair for name, *pair in snapshot["pictures"]}
        if pairs or snapshot["mesh"]:
            frames.append({"step": snapshot["step"], "pictures": [pairs.get(view) for view in views], "mesh": snapshot["mesh"]})
    return {
        "title": about.get("title", ""),
        "live": live,
        "finished": about.get("finished", False),
        "planned": about.get("steps"),
        "started": about.get("started"),
        "config": about.get("config", []),
        "versions": about.get("versions", []),
        "count": len(rows),
        "seconds": rows[-1]["seconds"] if rows else 0,
        "broken": sum(_number(row["loss"]) is None for row in rows),
        "steps": [row["step"] for row in shown],
        "curves": [["loss", [_number(row["loss"]) for row in shown]], *curves],
        "views": views,
        "frames": frames,
        "files": files,
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Settings by name, those of a mapping inside as `outer.inner`, values as text."""
    out = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            out += flat(value, f"{prefix}{name}.")
        else:
            text = str(value)
            out.append([f"{prefix}{name}", text if len(text) <= TEXT else text[: TEXT - 1] + "…"])
    return out


def blobs_of(snapshot: Mapping[str, Any]) -> set[str]:
    """Names of the blobs that a snapshot shows."""
    return {name for _, *pair in snapshot["pictures"] for name in pair if name} | _blobs_of_mesh(snapshot["mesh"])


def _blobs_of_mesh(mesh: Mapping[str, Any] | None) -> set[str]:
    return set() if mesh is None else {mesh[part] for part in ("topology", "frame", "texture") if mesh[part]}


def _present(snapshot: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The snapshot without what has been removed meanwhile, by a run that goes on."""
    pictures = [pair for pair in snapshot["pictures"] if all(name in sizes for name in pair[1:] if name)]
    mesh = snapshot["mesh"] if all(name in sizes for name in _blobs_of_mesh(snapshot["mesh"])) else None
    return {**snapshot, "pictures": pictures, "mesh": mesh}


def _thin(snapshots: list[dict[str, Any]], part: str, nothing: Any, sizes: Mapping[str, int], limit: int) -> None:
    """Leave a part out of every second snapshot that has it, until all are within the limit of bytes; first and last go last."""

    def size(kept: list[dict[str, Any]]) -> int:
        names = set().union(*(blobs_of({"pictures": [], "mesh": None, part: snapshot[part]}) for snapshot in kept))
        return sum(sizes[name] for name in names)

    kept = [snapshot for snapshot in snapshots if snapshot[part]]
    while len(kept) > 1 and size(kept) > limit:
        fewer = kept[:1] * (len(kept) > 2) + kept[:0:-2][::-1]
        for snapshot in kept:
            if not any(snapshot is other for other in fewer):
                snapshot[part] = nothing
        kept = fewer


def _number(value: float | str | None) -> float | None:
    """A row's number; None for NaN and infinity, which JSON does not have."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def _extremes(values: list[float | None]) -> list[int]:
    """Indices that draw the curve: all, or of equal parts the first and those of least and largest value, and the last of all."""
    if len(values) <= ROWS:
        return list(range(len(values)))
    parts = ROWS // 3
    kept = {len(values) - 1}
    for k in range(parts):
        part = range(k * len(values) // parts, (k + 1) * len(values) // parts)
        finite = [(value, i) for i in part if (value := values[i]) is not None]
        kept.update([part[0]] + ([min(finite)[1], max(finite)[1]] if finite else []))
    return sorted(kept)
