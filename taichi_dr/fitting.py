"""A fit: the loop around a loss, its optimizers and schedules, which saves itself and goes on where it stopped."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import schedules
from .arrays import Array
from .fit_carry import full_shape
from .fit_parameter import Parameter
from .fit_run import Run, Step, noted
from .fit_state import Saving
from .history import History


@dataclass
class Result:
    """What a fit has come to.

    Attributes:
        parameters: the arrays by name; the same that went in, unless they were replaced.
        history: numbers of every step.
        ended: "steps" where all were made, "plateau", "asked" by `step.stop()`, or "interrupted".
    """

    parameters: dict[str, Array]
    history: History
    ended: str

    def __repr__(self) -> str:
        losses = self.history.last("loss", 1)
        made = f"{len(self.history)} step{'' if len(self.history) == 1 else 's'}, ended {self.ended!r}" + (
            f", loss {losses[0]:.4g}" if losses else ""
        )
        return f"Result({made}; {', '.join(f'{name} {full_shape(x)}' for name, x in self.parameters.items())})"

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that ended it; with a checkpoint it goes on with resume=True."""
        return self.ended == "interrupted"


def fit(
    parameters: Mapping[str, Parameter | Array],
    objective: Callable[[Step], Any],
    steps: int,
    *,
    lr: float | None = None,
    optimizer: str = "adam",
    schedule: Callable[[float], float] | None = None,
    blur: tuple[float, float] | float | Callable[[float], float] | None = None,
    views: int | None = None,
    views_per_step: int | None = None,
    seed: int = 0,
    clip: float | None = None,
    patience: int | None = None,
    most_skips: int = 10,
    on_step: Callable[[Step], Any] | None = None,
    progress: bool | str = True,
    checkpoint: str | os.PathLike | None = None,
    every: int | None = 50,
    seconds: float | None = 30.0,
    resume: bool = False,
    state: Callable[[], Mapping[str, Any]] | None = None,
    load_state: Callable[[dict[str, np.ndarray]], Mapping[str, Array] | None] | None = None,
) -> Result:
    """Move parameters until a loss is small.

        def objective(step):
            camera, target = photos.batch(step.views)
            image = dr.SoftRenderer(sigma=step.sigma(camera))(mesh, camera, lights)
            dr.losses.mse(image, target, step.loss, 10.0)
            dr.losses.laplacian(mesh, step.term("smooth"), 0.05)

        result = dr.fit({"vertices": mesh.vertices, "colors": dr.Parameter(mesh.colors, lr=0.02, bounds=(0, 1))}, objective, 600,
                        schedule=dr.schedules.exponential(0.1), blur=(4.0, 0.5), views=24, views_per_step=4,
                        checkpoint="out/checkpoint.npz", resume=True)

    A step whose loss or gradient is not finite moves nothing, warns once and is counted. Ctrl-C lets the step end, saves and
    returns; a second one stops at once. An exception of the objective or of `on_step` saves what the steps before have come to; a
    resumed fit begins with what it ended, the step, or the call of `on_step`, whose `step.output` is drawn anew with the arrays as they
    are then. Random numbers depend on the seed and the step alone, sums have a fixed order: a fit that was stopped at any moment and
    resumed ends bitwise as one that was not, on one device.

    Args:
        parameters: arrays with gradients, or `Parameter`s, by name.
        objective: adds to `step.loss` or to terms of it; called within a tape, once a step, by "lbfgs" a few times.
        steps: how many.
        lr, optimizer, schedule: of parameters that have none of their own; lr is 0.01 where left out, and 1, Newton's step, for "lbfgs".
            That one is for a loss that is the same in every step: one blur and all views, few parameters.
        blur: pixels by which edges are blurred, for `step.sigma`: (first, last), every step by the same factor; a number; or a
            function of how much is done.
        views, views_per_step: how many there are, and how many `step.views` has: every epoch takes all in another order, but
            what is left over at its end; all in their order where views_per_step is left out.
        seed: of the order of views, and of `step.random`.
        clip: largest norm of all gradients together; longer ones are shortened.
        patience: end where the mean loss of this many steps is not at least 0.1% below that of as many before.
        most_skips: how many steps in a row may be skipped.
        on_step: called after every step, to record it, replace an array or end the fit.
        progress: show a bar; a text is the name before it, "fit" where there is none.
        checkpoint: file to save to, `every` so many steps or `seconds` (None: not by that), at the end and at Ctrl-C.
        resume: go on from the checkpoint if it is there; it must come from a fit of the same settings.
        state: gives arrays of your own that a checkpoint should have, by name, such as faces that remeshing made. Where an exception ends the
            fit, and their shapes or integers are not as at the last checkpoint or replacement, `on_step` was amid a change: then that
            checkpoint stays.
        load_state: takes them back before the parameters are read; returns arrays by name for parameters that were replaced.

    Returns:
        A `Result`.

    Raises:
        ValueError: settings out of range; a checkpoint that is damaged or of another fit.
        FloatingPointError: too many steps in a row without a finite loss and gradient.
        OSError: a checkpoint that the disk does not take; the one before it is whole.
    """
    run = Run(parameters, steps, lr, optimizer, schedule or schedules.constant(), blur, views, views_per_step, seed, clip, patience)
    saving = Saving(run, checkpoint, every, seconds, state, load_state)
    if resume:
        saving.load()
    saving.note_state()
    with _CtrlC() as ctrl_c, _Bar(run, progress) as bar:
        if run.pending and on_step is None:
            run.pending = False
        if run.pending:
            _call(on_step, run.again(objective), run, saving, ctrl_c)
        while run.made < run.steps and not run.ended and not ctrl_c.pressed:
            step = Step(run, run.made)
            try:  # up to its end nothing has moved
                run.measure(step, objective)
                if step.skipped:
                    run.skip(step, most_skips)
            except KeyboardInterrupt:
                ctrl_c.pressed = True
                break
            except BaseException as error:
                saving.save_after(error)
                raise
            if not step.skipped:
                run.move(step, objective)
            run.count(step)
            if on_step is not None:
                _call(on_step, step, run, saving, ctrl_c)
            if not run.pending:
                saving.save_when_due()
            bar.show(step)
    if not run.pending:
        saving.save()
    return Result(run.arrays(), run.history, run.ended or ("steps" if run.made == run.steps else "interrupted"))


def _call(on_step: Callable[[Step], Any], step: Step, run: Run, saving: Saving, ctrl_c: "_CtrlC") -> None:
    """Call it; where it does not come to its end, what it did to the fit is undone, and a resumed fit calls it for this step again."""
    before = run.changeable()
    run.pending = True
    try:
        noted(on_step, step)
    except BaseException as error:
        run.change_back(before)
        saving.save_after(error)
        if not isinstance(error, KeyboardInterrupt):
            raise
        ctrl_c.pressed = True
    else:
        run.pending = False
        if run.changeable() != before:
            saving.note_state()


# --- Around the steps -------------------------------------------------------------------------------------------------


class _CtrlC:
    """The first Ctrl-C lets the step end, so that what is saved is of one step; the second is a KeyboardInterrupt."""

    def __enter__(self) -> "_CtrlC":
        self.pressed, self._before = False, None
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, *_: Any) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


class _Bar:
    """Loss, steps per second and time left."""

    def __init__(self, run: Run, shown: bool | str) -> None:
        self._bar = None
        if shown:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=run.steps, initial=run.made, desc=shown if isinstance(shown, str) else "fit")
        self._when = 0.0

    def __enter__(self) -> "_Bar":
        return self

    def show(self, step: Step) -> None:
        if self._bar is None:
            return
        if time.monotonic() - self._when > 0.1 or step.index == step.steps - 1:
            self._when = time.monotonic()
            self._bar.set_postfix(loss=f"{step.values['loss']:.4g}", refresh=False)
        self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
