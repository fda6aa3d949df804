"""Photographs of a bunny that it makes itself become a mesh again: no network, nothing to prepare, under a minute.

It renders 24 photographs of a packed mesh in colors by formula, writes them as a data set like any other, and fits that as
`taichi-dr fit` does, with fewer steps and smaller pictures.
"""

from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, runtime
from ..arrays import read
from ..camera import Camera
from ..deferred import DeferredRenderer
from ..lights import AmbientLight, DirectionalLight
from ..mesh import Mesh
from ..photos import Photos
from ..reconstruct import Settings, holds_run
from . import fit, toml
from .console import Parser, add_arch, bar, say, shown, start

USAGE = "[-o OUT] [options]"
EXAMPLES = """\
  taichi-dr demo
  taichi-dr demo --mesh teapot -o out/teapot"""
VIEWS, SIZE = 24, 160
SETTINGS = {"steps": 200, "vertices": 4000, "views_per_step": 2}


def add_arguments(parser: Parser) -> None:
    parser.add_argument("-o", "--out", default="out/demo", metavar="OUT", help="folder for photographs and results (default: out/demo)")
    parser.add_argument("--mesh", choices=tuple(datasets.PACKED), default="bunny", help="what is photographed (default: bunny)")
    add_arch(parser)


def run(options: Any, parser: Parser) -> int:
    options.resume, options.overwrite = False, True
    out = Path(options.out).absolute()
    _check_room(out)
    say(options, f"making {VIEWS} photographs of the {options.mesh} in {shown(out / 'photos')}")
    start(options.arch)
    job = fit.Job(out / "photos", out, runtime.device().arch, fit.Data(size=0), Settings(**SETTINGS))
    fit.write_config(job)  # by which the folder is known as a demo's
    photograph(options.mesh, out / "photos", options)
    code = fit.carry_out(job, options)
    if code == 0:
        again = f"taichi-dr fit {shown(out / 'photos')} -o {shown(out.with_name('mine'))}"
        say(options, "", "what to try next:", f"  {again}    the same at leisure", f"  taichi-dr view {shown(out)}", "  taichi-dr fit --help")
    return code


def _check_room(out: Path) -> None:
    """An earlier demo may go; any other run stays, and so do photographs of others."""
    config = toml.read(out / fit.CONFIG) if (out / fit.CONFIG).is_file() else {}
    if config.get("dataset") == str(out / "photos"):
        return
    if config or holds_run(out):
        raise ValueError(f"{shown(out)} holds a run that is no demo; give another folder as -o OUT")
    if (out / "photos").exists():
        raise ValueError(f"{shown(out / 'photos')} is there, and of no demo; give another folder as -o OUT")


def photograph(name: str, folder: Path, options: Any) -> None:
    """A data set of a packed mesh, colored by formula, from all around, some from above and some from below."""
    mesh = Mesh.load(datasets.load(name)).normalized()
    x = read(mesh.vertices)[0]
    colors = 0.55 + 0.35 * np.stack([np.sin(3 * x[:, 0] + 1), np.sin(3 * x[:, 1] + 2), np.sin(4 * x[:, 2])], axis=-1)
    colored = Mesh(x, read(mesh.faces), colors)
    azimuths = np.arange(VIEWS) * 360 / VIEWS
    elevations = 45 * np.sin(np.radians(azimuths * 5))
    lights = [AmbientLight(0.6), DirectionalLight((0.4, 0.8, 0.4), 0.4)]
    renderer = DeferredRenderer(antialias=3)
    images = []
    for angles in bar(options, list(zip(elevations, azimuths, strict=True)), "photographs"):
        images.append(read(renderer(colored, Camera.orbit(4.0, *angles, fov=40, size=SIZE), lights))[0])
    Photos.save(folder, np.stack(images), Camera.orbit(4.0, elevations, azimuths, fov=40, size=SIZE))
