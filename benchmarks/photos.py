"""The whole of `taichi-dr fit`, seen from outside: time to its first step, steps per second, memory. Run: python benchmarks/photos.py

24 photographs of 256 x 256 pixels, four to a step, of a mesh of 10,000 vertices: from the visual hull, and from a sphere of 10,242.
The first run fills the compiler's cache where it is empty; the least of the others counts.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from shapes import VIEWS, photographs, shape

import taichi_dr as dr

POLL = 0.005  # seconds


def fit(photos, out, start, steps):
    """Seconds until the first step was made, steps per second after it, and MB at the peak."""
    command = [sys.executable, "-m", "taichi_dr", "fit", str(photos), "-o", str(out), "--start", start, "--steps", str(steps), "--quiet"]
    rows, began = out / "recording" / "rows.jsonl", time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    first = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if first is None and rows.exists() and rows.stat().st_size:
            first = time.perf_counter() - began
        if pid:
            break
        time.sleep(POLL)
    if status or first is None:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    seconds = [json.loads(line)["seconds"] for line in rows.read_text().splitlines()]
    return first, (len(seconds) - 1) / (seconds[-1] - seconds[0]), usage.ru_maxrss / 1024


def photograph(spot, folder):
    dr.init("cpu")
    photographs(shape("spot", spot), folder, VIEWS, 0.0)


def main(steps=400, rounds=3, spot=None):
    print("start   first step s  steps per s  peak MB")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # In a process of its own: Linux counts the memory of the one that starts another as that one's, until it runs its own program.
        maker = multiprocessing.get_context("spawn").Process(target=photograph, args=(spot, folder / "photos"))
        maker.start()
        maker.join()
        for start in ("hull", "sphere"):
            runs = [fit(folder / "photos", folder / f"{start}{k}", start, steps) for k in range(rounds + 1)][1:]
            first, rate, memory = min(run[0] for run in runs), max(run[1] for run in runs), max(run[2] for run in runs)
            print(f"{start:6s}  {first:12.2f}  {rate:11.1f}  {memory:7.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spot", help="file of the mesh, if it is here already (default: it is downloaded)")
    main(**vars(parser.parse_args()))
