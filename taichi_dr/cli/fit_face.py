"""A face from one picture: shape, colors, pose and light of a morphable model.

Without TARGET a head of the synthetic model, which is nobody's, is hidden in a picture and found again. Ctrl-C ends it, and what is found
so far is kept. A portrait needs a model of real faces, from one of these; .h5 files need pip install "taichi_dr[face]":

  ICT-FaceKit    free, MIT    git clone https://github.com/USC-ICT/ICT-FaceKit, then taichi-dr convert ICT-FaceKit face.h5 --vertices 9409
  Basel          research     .h5, after registering at https://faces.dmi.unibas.ch
  FLAME          research     .npz, after registering at https://flame.is.tue.mpg.de
"""

import argparse
from pathlib import Path
from typing import Any

from ..portrait import fit_portrait
from .console import Parser, add_arch, at_least, start

USAGE = "[TARGET] [-o OUT] [--model MODEL] [options]"
EXAMPLES = """\
  taichi-dr fit-face
  taichi-dr fit-face portrait.png --model model2019.h5 --eye 0 -6 374 --at 0 -6 55 --fov 45 -o out/me"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("portrait", nargs="?", metavar="TARGET", help="a picture or .npy; a random face of the model where left out")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", default="out/fit_face", metavar="OUT", help="folder for the results (default: out/fit_face)")
    parser.add_argument(
        "--model", metavar="FILE", help="morphable model: Basel's or the like, .h5, or FLAME's, .npz; a synthetic head where left out"
    )
    parser.add_argument("--mask", metavar="FILE", help="picture that is white where the target counts")
    parser.add_argument("--landmarks", metavar="FILE", help="lines vertex,x,y: where vertices are in the target, in its pixels")
    parser.add_argument("--steps", type=at_least(1), default=500, metavar="N", help="of the fit (default: 500)")
    parser.add_argument("--size", type=at_least(8), default=256, metavar="N", help="pixels on the shorter side (default: 256)")
    parser.add_argument(
        "--eye", type=float, nargs=3, metavar="X", help="place of the camera, in units of the model; before its middle where left out"
    )
    parser.add_argument("--at", type=float, nargs=3, metavar="X", help="what the camera looks at")
    parser.add_argument("--fov", type=float, default=45.0, metavar="X", help="field of view, degrees (default: 45)")
    parser.add_argument("--shape-weight", type=float, default=1e-4, metavar="X", help="of the mean squared shape coefficient (default: 1e-4)")
    parser.add_argument("--color-weight", type=float, default=1e-3, metavar="X", help="of the mean squared color coefficient (default: 1e-3)")
    parser.add_argument("--landmark-weight", type=float, default=0.1, metavar="X", help="of the mean squared distance of landmarks (default: 0.1)")
    parser.add_argument("--edges", choices=("antialias", "microedge"), help="how silhouettes move; left out: microedge, with a target antialias")
    parser.add_argument("--plain", action="store_true", help="one face from the front, the camera moves, everything at once")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random face (default: 0)")
    add_arch(parser)


def run(options: Any, parser: Parser) -> int:
    target = options.portrait or options.target
    for path in filter(None, (target, options.model, options.mask, options.landmarks)):
        if not Path(path).is_file():
            raise FileNotFoundError(f"no such file: {path}; check the path")
    start(options.arch)
    own = ("portrait", "target", "arch", "quiet", "debug")
    settings = {name: value for name, value in vars(options).items() if name not in own}
    return 130 if fit_portrait(target=target, progress=not options.quiet, **settings)["stopped"] else 0
