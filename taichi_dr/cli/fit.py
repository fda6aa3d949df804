"""Photographs of an object to a mesh.

DATASET is a folder with a transforms.json (NeRF, instant-ngp, nerfstudio), a COLMAP model and its images, or SoftRas's source.npy and
camera.npy. The object must stand apart from its background: by alpha, or by masks in a folder `masks`. What is known of the fit is in OUT
at every moment: watch it by `taichi-dr view OUT`. Ctrl-C saves it, and --resume goes on.
"""

import dataclasses
import importlib.util
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..photos import Photos
from ..reconstruct import CHECKPOINT, RESULTS, Settings, holds_run, prepared
from . import settings as fields
from . import toml
from .console import Parser, add_arch, say, say_written, shown, start

USAGE = "DATASET -o OUT [options]"
EXAMPLES = """\
  taichi-dr fit photos -o out/mine
  taichi-dr fit photos -o out/mine --texture uv --size 512
  taichi-dr fit photos -o out/quick --steps 100 --vertices 2500
  taichi-dr fit -o out/mine --resume
  taichi-dr fit --config out/mine/config.toml -o out/again

A file for --config has the options as keys, such as steps = 400 and texture = "uv"; its folders are relative to itself. Options of the
command line beat it. OUT/config.toml is one: the whole of what was fitted and how."""
CONFIG = "config.toml"
RIG = "rig.png"


@dataclass(frozen=True)
class Data:
    """Which photographs are fitted.

    Attributes:
        size: pixels on the shorter side, to which larger photographs are shrunk; 0 takes them as they are.
        images: folder of the images, if another than the files of the data set say.
        masks: folder of the masks, white on the object; one called masks is found; "none" takes alpha alone.
        model: folder of the COLMAP model, if it is not found.
        encoding: "linear" takes colors as they are in the files, "srgb" decodes them.
        viewing_angle: half the field of view of SoftRas's cameras, degrees.
        hold_out: every so many photographs one is not fitted, but judges the fit; 0 fits all.
    """

    size: int = 256
    images: str | None = None
    masks: str | None = None
    model: str | None = None
    encoding: str = "linear"
    viewing_angle: float = 15.0
    hold_out: int = 8


@dataclass(frozen=True)
class Job:
    """A fit, whole: what its config.toml has, with folders that do not depend on where the command runs."""

    dataset: Path
    out: Path
    arch: str | None
    data: Data
    settings: Settings


def add_arguments(parser: Parser) -> None:
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="folder with photographs and cameras, or its transforms.json")
    parser.add_argument("-o", "--out", metavar="OUT", help="folder for the results")
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, such as OUT/config.toml of another run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in OUT, by its settings; begin one where there is none")
    parser.add_argument("--overwrite", action="store_true", help="begin anew though OUT holds a run, whose files are removed")
    add_arch(parser)
    fields.add_options(parser, "photographs", Data)
    fields.add_options(parser, "fit", Settings)


def run(options: Any, parser: Parser) -> int:
    if options.resume and options.overwrite:
        parser.error("--resume goes on and --overwrite begins anew; leave out one of the two")
    job = _job(options, parser)
    _check_room(job.out, options)
    return carry_out(job, options)


def _job(options: Any, parser: Parser) -> Job:
    """Defaults, below a file, below the command line."""
    values: dict[str, Any] = {}
    file = Path(options.config) if options.config else None
    if file is None and options.resume and options.out and (Path(options.out) / CONFIG).is_file():
        file = Path(options.out) / CONFIG
    if file is not None:
        if file.is_dir():
            raise ValueError(f"--config: expected a file, got the folder {shown(file)}; give its {CONFIG} if it is of a run")
        values = fields.checked(str(file), toml.read(file), Data, Settings, also=("dataset", "out", "arch"))
        for name in ("dataset", "out"):
            if name in values:
                values[name] = str(file.absolute().parent / values[name])
    values |= {name: value for name, value in vars(options).items() if value is not None}
    if "dataset" not in values:
        parser.error("expected a data set, the folder of photographs and cameras; or --config FILE that names one")
    if "out" not in values:
        parser.error("expected -o OUT, the folder for the results")
    dataset, out = (Path(os.path.normpath(Path(values[name]).absolute())) for name in ("dataset", "out"))
    return Job(dataset, out, values.get("arch"), fields.made(Data, values), fields.made(Settings, values))


def _check_room(out: Path, options: Any) -> None:
    """Refuse to write over a run unasked."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder, got the file {out}")
    if not (options.resume or options.overwrite) and (holds_run(out) or (out / CONFIG).exists()):
        raise ValueError(f"{shown(out)} holds a run already; give --resume to go on with it, --overwrite to begin anew, or another -o OUT")


def carry_out(job: Job, options: Any) -> int:
    """Load, fit and tell; gives back the exit code."""
    if job.settings.texture == "uv" and importlib.util.find_spec("xatlas") is None:  # known before the fit, not after
        raise ImportError('texture: "uv" needs xatlas, which makes texture coordinates; pip install "taichi_dr[uv]"')
    job = dataclasses.replace(job, arch=start(job.arch).arch)
    photos = _loaded(job)
    say(options, photos.summary(), "")
    fitted, held_out = (photos, None) if job.data.hold_out == 0 else photos.split(job.data.hold_out)
    job.out.mkdir(parents=True, exist_ok=True)
    is_new = not holds_run(job.out)
    how = {"resume": options.resume, "overwrite": options.overwrite, "progress": not options.quiet}
    try:
        scene = prepared(fitted, job.settings, out=job.out, held_out=held_out, **how)
    except ValueError:
        if is_new:
            photos.save_rig(job.out / RIG)  # tells what may be wrong
        raise
    write_config(job)  # not before: what is refused leaves the settings of the run that is there
    try:
        found = scene.run()
    except KeyboardInterrupt:
        _tell_stopped(job.out)
        return 130
    photos.save_rig(job.out / RIG)
    say(options, *_told(found))
    say_written(options, [path for name in (*RESULTS, RIG, CONFIG) if (path := job.out / name).exists()])
    if found.result.interrupted:
        _tell_stopped(job.out)
        return 130
    say(options, f"open {shown(job.out / 'report.html')} in a browser, and {shown(job.out / 'mesh.glb')} in Blender")
    return 0


def _loaded(job: Job) -> Photos:
    """The photographs, the larger ones shrunk."""
    data = job.data
    named = {"images": data.images, "model": data.model, "masks": False if data.masks == "none" else data.masks}
    settings: dict[str, Any] = {"encoding": data.encoding, "viewing_angle": data.viewing_angle, **named}
    photos = Photos.load(job.dataset, **settings)
    if data.size < 0:
        raise ValueError(f"size: expected pixels, or 0 for photographs as they are, got {data.size}")
    if 0 < data.size < max(min(size) for size in photos.sizes):
        return Photos.load(job.dataset, size=data.size, **settings)
    return photos


def write_config(job: Job) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / CONFIG
    part = path.with_name(path.name + ".part")
    part.write_text(config_text(job), encoding="utf-8")
    part.replace(path)


def config_text(job: Job) -> str:
    """The file that repeats the job: the data set by its whole path, the results beside the file."""
    values = {"dataset": str(job.dataset), "out": ".", "arch": job.arch, **dataclasses.asdict(job.data), **dataclasses.asdict(job.settings)}
    remark = f"A fit by taichi_dr {__version__}. To repeat it: taichi-dr fit --config {CONFIG} -o ELSEWHERE, or with --overwrite in place of -o"
    return toml.text(values, remark)


def _told(found: Any) -> list[str]:
    """Scores and mesh, as lines."""
    names = {"fitted": "fitted", "held_out": "held out"}
    rows = [f"{names.get(name, name):<10}{iou:>14.4f}{psnr:>11.1f} dB" for name, (iou, psnr) in found.scores.items()]
    mesh = f"{found.mesh.vertices.shape[1]:,} vertices, {found.mesh.faces.shape[0]:,} faces"
    return [f"{'views':<10}{'outlines (IoU)':>14}{'colors (PSNR)':>14}", *rows, mesh]


def _tell_stopped(out: Path) -> None:
    again = f"taichi-dr fit -o {shlex.quote(shown(out))} --resume"
    saved = f"what was fitted is kept; go on with: {again}" if (out / CHECKPOINT).exists() else "nothing was fitted yet"
    print(f"taichi-dr: stopped; {saved}", file=sys.stderr)
