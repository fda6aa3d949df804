"""A face from one picture: shape, colors, pose and light of a morphable model. Run: python examples/fit_face.py

Without options a synthetic head is hidden in a picture and found again. With a model and a portrait of your own:

    python examples/fit_face.py --model MODEL.h5 --target PORTRAIT.png --eye 0 -6 374 --at 0 -6 55 --fov 45

It is `taichi-dr fit-face`, which has the same options; the method is in taichi_dr/portrait.py, to read and to change.
"""

import sys

import taichi_dr as dr
from taichi_dr.portrait import fit_portrait


def main(out="out/fit_face", **settings):
    dr.init()
    return fit_portrait(out=out, **settings)


if __name__ == "__main__":
    from taichi_dr.cli import main as command

    sys.exit(command(["fit-face", *sys.argv[1:]]))
