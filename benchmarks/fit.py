"""What `dr.fit` adds to a step beyond its objective and optimizers. Run: python benchmarks/fit.py"""

import argparse
import statistics
import time

import numpy as np

import taichi_dr as dr


def problem(vertices, parameters):
    """Arrays to move, and the loss of each."""
    random = np.random.default_rng(0)
    goal = dr.array(random.normal(size=(1, vertices, 3)))
    arrays = {f"x{k}": dr.array(np.zeros((1, vertices, 3))) for k in range(parameters)}
    return arrays, goal


def by_hand(arrays, goal, steps):
    """Seconds of each step of the shortest loop that does the same."""
    loss, optimizers, times = dr.scalar(), [dr.optim.Adam([x]) for x in arrays.values()], []
    for _ in range(steps):
        started = time.perf_counter()
        with dr.Tape(loss):
            for x in arrays.values():
                dr.losses.mse(x, goal, loss)
        for optimizer in optimizers:
            optimizer.step()
        dr.read(loss)
        times.append(time.perf_counter() - started)
    return times


def by_fit(arrays, goal, steps):
    def objective(step):
        for x in arrays.values():
            dr.losses.mse(x, goal, step.loss)

    history = dr.fit(arrays, objective, steps, views=24, views_per_step=4, blur=(4.0, 0.5), clip=1e6, progress=False).history
    return np.diff(history["seconds"]).tolist()


def main(steps=300, rounds=5):
    dr.init("cpu")
    print("vertices  parameters  by hand  dr.fit   more (ms per step, least median)")
    for vertices in (642, 10_242, 40_962):
        for parameters in (1, 2):
            hand, fit = [], []
            for _ in range(rounds):
                arrays, goal = problem(vertices, parameters)
                hand.append(statistics.median(by_hand(arrays, goal, steps)))
                fit.append(statistics.median(by_fit(arrays, goal, steps)))
            a, b = 1e3 * min(hand), 1e3 * min(fit)
            print(f"{vertices:8d}  {parameters:10d}  {a:7.3f}  {b:6.3f}  {b - a:5.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    main(**vars(parser.parse_args()))
