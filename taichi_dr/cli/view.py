"""A run while it goes on or afterwards, or a mesh, in this machine's browser. Ctrl-C ends it.

The page is the report of the run, live: pictures, curves, and the mesh in 3D, with a slider over the steps. It is served to this
machine only.
"""

import errno
from pathlib import Path
from typing import Any

from .. import live
from ..io import SUFFIXES
from .console import Parser, shown, start

USAGE = "RUN_OR_MESH [options]"
EXAMPLES = """\
  taichi-dr view out/mine                    while `taichi-dr fit ... -o out/mine` runs, or later
  taichi-dr view out/mine/mesh.glb
  taichi-dr view out/mine --no-browser       on another machine: ssh -L 8321:127.0.0.1:8321 HOST, and open the address here
  taichi-dr view out/mine --viewer viser     needs pip install "taichi_dr[viewer]\""""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("target", metavar="RUN_OR_MESH", help=f"folder of a run, or a mesh: {', '.join(SUFFIXES)}")
    parser.add_argument("--port", type=int, default=8321, help="on this machine; 0 takes a free one (default: 8321)")
    parser.add_argument("--viewer", choices=("page", "viser"), default="page", help="the report's page, or viser's viewer (default: page)")
    parser.add_argument("--no-browser", action="store_true", help="say the address, and open nothing")


def run(options: Any, parser: Parser) -> None:
    if not 0 <= options.port <= 65535:
        parser.error(f"--port: expected a number from 0 to 65535, got {options.port}")
    target = Path(options.target)
    if not target.exists():
        raise FileNotFoundError(f"no such run or mesh: {shown(target)}; a fit makes the folder when it begins")
    if target.is_dir() and not (target / "recording").is_dir():
        raise ValueError(f"{shown(target)}: expected the folder of a run, with a folder 'recording' in it, got another; it is the OUT of a fit")
    if target.is_file():
        start("cpu")  # for arrays alone
    try:
        live.serve(target, port=options.port, viewer=options.viewer, open_browser=not options.no_browser)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise OSError(f"port {options.port} is taken or not allowed; give another, or --port 0 for a free one") from error
        raise
