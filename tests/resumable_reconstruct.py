"""A program to be killed: `python resumable_reconstruct.py PHOTOS OUT START TEXTURE [ARCH] [STEPS] [WHERE]`, going on where it was stopped.

It kills itself at WHERE: "shape 5", in the sixth step; "remesh 0", before it; "remesh 1", after it; "unwrap 0"; "texture 2"; "finish 0".
"""

import importlib
import os
import signal
import sys
import time

import taichi_dr as dr

reconstruct = importlib.import_module("taichi_dr.reconstruct")


def settings(start, texture, steps):
    return dr.Settings(steps=steps, vertices=300, start=start, texture=texture, texture_size=32, views_per_step=2)


def main(photos, out, start, texture, arch="cpu", steps="16", where=""):
    dr.init(arch)
    reconstruct.EVERY = 2
    reconstruct.CELLS = (32, 32)
    fits = iter(("shape", "texture"))

    def here(name, number):
        if f"{name} {number}" == where:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(name, function):
        def wrapped(*arguments, **settings):
            here(name, 0)
            result = function(*arguments, **settings)
            here(name, 1)
            return result

        return wrapped

    fit = reconstruct.fit

    def noisy_fit(parameters, objective, steps, **settings):
        name, begun = next(fits), []

        def noisy(step):
            here(name, step.index)
            if not begun:
                begun.append(step)
                print("from", name, step.index, flush=True)
            elif len(begun) == 1:
                begun.append(step)
                print("made", name, begun[0].index, flush=True)
            time.sleep(0.02 if step.steps > 16 else 0)  # for moments to be killed at
            objective(step)

        return fit(parameters, noisy, steps, **settings)

    reconstruct.fit = noisy_fit
    reconstruct._Scene._remesh = around("remesh", reconstruct._Scene._remesh)
    reconstruct.unwrap = around("unwrap", reconstruct.unwrap)
    reconstruct.Recording.finish = around("finish", reconstruct.Recording.finish)
    found = dr.reconstruct(dr.Photos.load(photos), settings(start, texture, int(steps)), out=out, resume=True, progress=False)
    print("ended", found.result.ended, found.scores["fitted"])


if __name__ == "__main__":
    main(*sys.argv[1:])
