"""A fit as it goes: its steps, and the run, which is where it is and what moves it a step on."""

import json
import math
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from . import runtime, schedules
from .arrays import Array, checked_number, empty, image_size, read, scalar, zero
from .fit_carry import carrier, full_shape
from .fit_parameter import JOINT, Parameter, checked_clip, is_joint, note, optimizer_of, owner_of
from .gradients import add_term, keep_within, scale, square_sum
from .history import History
from .tape import Tape

NAME = re.compile(r"[\w.\- ]{1,100}")


class Step:
    """A step of a fit: what the objective works with, and what `on_step` sees of it afterwards.

    Attributes:
        index: number of the step, from 0. steps: how many there will be. done: from 0 in the first to 1 in the last.
        loss: 0-D, what the objective adds to.
        views: numbers of the views of this step, (views_per_step,); None where the fit has no views.
        blur: pixels, None where the fit has none.
        parameters: the arrays by name.
        output: what the objective returned.
        values: afterwards: the numbers of this step by name, as in `History`. skipped: whether nothing moved.
        terms: of these the terms of the loss, by their own names.
        history: of all steps, this one included afterwards.
    """

    def __init__(self, run: "Run", index: int) -> None:
        self._run = run
        self.index, self.steps, self.done = index, run.steps, index / max(1, run.steps - 1)
        self.loss, self.parameters, self.history = run.loss, run.arrays(), run.history
        self.views = run.views(index)
        self.blur = None if run.blur_at is None else run.blur_at(self.done)
        self.output: Any = None
        self.values: dict[str, float] = {}
        self.skipped = False
        self._terms: dict[str, Array] = {}
        self._random: np.random.Generator | None = None

    def __repr__(self) -> str:
        numbers = "".join(f", {name} {value:.4g}" for name, value in self.values.items() if name == "loss" or name.startswith("term."))
        return f"Step({self.index} of {self.steps}{numbers}{', skipped' if self.skipped else ''})"

    @property
    def random(self) -> np.random.Generator:
        """Random numbers of this step: they depend on the fit's seed and the step alone, so a resumed fit draws the same."""
        if self._random is None:
            self._random = np.random.default_rng([self._run.seed, 1, self.index])
        return self._random

    def sigma(self, size: Any) -> float:
        """The blur as sigma of a renderer for pictures of this size.

            sqrt(sigma) = blur * 2 / min(H, W)

        Args:
            size: a camera, (H, W), or one number.
        """
        if self.blur is None:
            raise ValueError("blur: expected one, got None; give it to the fit in pixels, from coarse to fine: blur=(4.0, 0.5)")
        return (self.blur * 2 / min(image_size(getattr(size, "size", size)))) ** 2

    def term(self, name: str) -> Array:
        """A 0-D loss of its own, added to the total with weight 1, whose value the history has as "term.NAME"."""
        if name not in self._terms:
            self._terms[name] = self._run.term(name)
        return self._terms[name]

    @property
    def terms(self) -> dict[str, float]:
        """Afterwards: the value of every term by its name, as `Recording.add` takes them."""
        return {name.removeprefix("term."): value for name, value in self.values.items() if name.startswith("term.")}

    def replace(self, name: str, array: Array, carry: Any = None) -> None:
        """Give a parameter another array, of another shape if need be, as after remeshing; for `on_step`.

            mesh, weights = dr.remesh(old)
            step.replace("colors", mesh.colors, weights)

        Args:
            name: of the parameter.
            array: with a gradient. The objective must work with it from now on.
            carry: what makes that which the optimizer remembers of the old elements, its moments, into that of the new ones: the
                `weights` of `dr.remesh` and `dr.subdivide`, or any (V new, V old) matrix without negative numbers, for new = weights @ old; or a
                function of an array of the old full shape, which returns one of the new. The optimizer starts anew where left out.

        Raises:
            ValueError: another name, an array without a gradient or that is a parameter already, a carry that does not fit; then
                nothing has changed.
        """
        if not self.values:
            raise ValueError(
                "replace: expected to be called in on_step, after the step, got a call within the objective; give it to the fit by on_step="
            )
        self._run.replace(name, array, carry)
        self.parameters = self._run.arrays()

    def stop(self) -> None:
        """End the fit after this step."""
        self._run.ended = "asked"


class Run:
    """Where a fit is: all that a checkpoint keeps, and what moves it a step on."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter | Array],
        steps: int,
        lr: float | None,
        optimizer: str,
        schedule: Callable[[float], float],
        blur: Any,
        views: int | None,
        views_per_step: int | None,
        seed: int,
        clip: float | None,
        patience: int | None,
    ) -> None:
        runtime.ensure_started()
        if not isinstance(parameters, Mapping) or not parameters:
            raise ValueError(f'parameters: expected arrays by name, got {type(parameters).__name__}; write {{"vertices": mesh.vertices}}')
        for name in parameters:
            _check_name("parameters", name)
        given = {name: x if isinstance(x, Parameter) else Parameter(x) for name, x in parameters.items()}
        self.parameters = {name: p.completed(name, lr, optimizer, schedule) for name, p in given.items()}
        owners: dict[int, str] = {}
        for name, p in self.parameters.items():
            if owners.setdefault(id(p.array), name) != name:
                raise ValueError(f"parameters: {name!r} is the same array as {owners[id(p.array)]!r}; give every array once")
        self.steps, self.seed = checked_count("steps", steps), checked_count("seed", seed, 0)
        self.view_count = None if views is None else checked_count("views", views)
        self.views_per_step = self.view_count if views_per_step is None else checked_count("views_per_step", views_per_step)
        if views_per_step is not None and views_per_step > (views or 0):
            raise ValueError(f"views_per_step: expected at most views, {views}, got {views_per_step}")
        self.shuffled = views_per_step is not None
        self.clip, self.patience = checked_clip(clip), None if patience is None else checked_count("patience", patience)
        self.blur_at = _blur(blur)
        self.made, self.ended, self.seconds = 0, "", 0.0
        self.pending = False  # whether on_step has still to be called for the last step
        self.history, self.loss = History(), scalar()
        self.optimizers = self._new_optimizers(self.parameters)
        self._terms: dict[str, Array] = {}
        self._order: tuple[int, np.ndarray] | None = None
        self._clock: float | None = None
        self._warned = False
        self._replaced: set[str] = set()
        self._unseen = set(self.parameters)  # those that nobody knows of yet whether the loss depends on them
        self._idle: set[str] = set()  # those it does not depend on, which has been said

    def arrays(self) -> dict[str, Array]:
        return {name: p.array for name, p in self.parameters.items()}

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must agree in, as JSON has it."""
        blur = None if self.blur_at is None else schedules.described(self.blur_at, self.steps, "blur")
        settings: dict[str, Any] = {
            "steps": self.steps, "seed": self.seed, "views": self.view_count, "views_per_step": self.views_per_step, "shuffled": self.shuffled,
            "blur": blur, "clip": self.clip, "patience": self.patience, "precision": runtime.device().precision,
        }  # fmt: skip
        for name, p in self.parameters.items():
            schedule = schedules.described(p.schedule, self.steps, f"schedule of {name!r}")
            own = {"lr": p.lr, "optimizer": p.optimizer, "schedule": schedule, "bounds": p.bounds, "clip": p.clip, "settings": p.settings}
            settings |= {f"parameters.{name}.{key}": value for key, value in own.items()}
        return _through_json(settings)

    def views(self, index: int) -> np.ndarray | None:
        """Views of a step: those of an epoch in an order by chance, which depends on the seed and the epoch alone."""
        if self.view_count is None:
            return None
        if not self.shuffled:
            return np.arange(self.view_count)
        epoch, batch = divmod(index, self.view_count // self.views_per_step)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.view_count)
        return self._order[1][batch * self.views_per_step : (batch + 1) * self.views_per_step]

    def term(self, name: str) -> Array:
        if name not in self._terms:
            _check_name("term", name)
            self._terms[name] = scalar()
        zero(self._terms[name])
        return self._terms[name]

    def measure(self, step: Step, objective: Callable[[Step], Any]) -> None:
        """Loss, terms and gradients, and how large they are, in one look."""
        if self._clock is None:
            self._clock = time.perf_counter() - self.seconds
        arrays = self.arrays()
        tape, record, step.output = self._evaluate(step, objective)
        if self._unseen:
            self._warn_of_idle(step, tape)
        for k, x in enumerate(arrays.values()):
            square_sum(x.grad, self.loss, record, k, len(arrays))
        numbers = read(record).tolist()
        squares, loss, terms = numbers[: len(arrays)], numbers[len(arrays)], numbers[len(arrays) + 1 :]
        self._norms = {name: math.sqrt(s) if s >= 0 else math.nan for name, s in zip(arrays, squares, strict=True)}
        step.values = {"loss": loss} | {f"term.{name}": value for name, value in zip(step._terms, terms, strict=True)}
        step.values["gradient"] = math.sqrt(sum(n * n for n in self._norms.values()))
        step.skipped = not math.isfinite(loss) or not math.isfinite(step.values["gradient"])

    def again(self, objective: Callable[[Step], Any]) -> Step:
        """The last step once more, for `on_step`: with the numbers that it had, drawn with the arrays as they are since."""
        step = Step(self, self.made - 1)
        values = {name: self.history.last(name, 1)[0] for name in self.history.names}
        step.values = {name: value for name, value in values.items() if not math.isnan(value) or name in ("loss", "gradient")}
        step.skipped = bool(values.get("skipped"))
        _, _, step.output = self._evaluate(step, objective)
        return step

    def changeable(self) -> tuple[Any, ...]:
        """What `on_step` can change; equal where it has not."""
        return dict(self.parameters), {owner: optimizer for owner, (_, optimizer) in self.optimizers.items()}, self.ended

    def change_back(self, before: tuple[Any, ...]) -> None:
        """As it was when it was asked for; arrays that were replaced are as they were left."""
        self.parameters, optimizers, self.ended = before
        self.optimizers = {owner: (names, optimizers[owner]) for owner, (names, _) in self.optimizers.items()}

    def _evaluate(self, step: Step, objective: Callable[[Step], Any]) -> tuple[Tape, Array, Any]:
        """Fill the loss and the gradients; the tape, the terms after room for other numbers, and what the objective returned."""
        for x in self.parameters.values():
            zero(x.array.grad)  # the tape clears those only that take part
        with Tape(self.loss) as tape:
            output = noted(objective, step)
            room = len(self.parameters) + 1
            record = empty(float, room + len(step._terms))
            for k, term in enumerate(step._terms.values()):
                add_term(term, self.loss, record, room + k)
        return tape, record, output

    def _warn_of_idle(self, step: Step, tape: Tape) -> None:
        """Name the parameters that the loss does not depend on, in the first step and in the first after a replacement."""
        known = {id(x) for x in tape._arrays()}
        idle = [name for name, x in self.arrays().items() if name in self._unseen and id(x) not in known]
        self._unseen, self._idle = set(), self._idle.union(idle)
        if not idle:
            return
        text = f"parameters: {', '.join(map(repr, idle))} took no part in the loss of "
        if self._replaced.intersection(idle):
            text += f"step {step.index}, after it was replaced, and will not move by it; the objective draws other arrays, such as those of the "
            text += "mesh before: keep the mesh in one place, an object or a dict, that on_step changes and the objective reads"
        else:
            text += f"{'the first step' if step.index == 0 else f'step {step.index}'} and will not move by it; "
            text += "draw with the arrays themselves, not with copies: dr.diagnose says more"
        warnings.warn(text, RuntimeWarning, stacklevel=4)

    def move(self, step: Step, objective: Callable[[Step], Any]) -> None:
        """Clip, step, and keep within bounds."""
        self._shorten(step.values["gradient"])
        for owner in sorted(self.optimizers, key=is_joint):  # those that evaluate the loss again come last
            names, optimizer = self.optimizers[owner]
            for name, group in zip(names, optimizer.groups, strict=True):
                p = self.parameters[name]
                group["lr"] = step.values[f"lr.{name}"] = p.lr * p.schedule(step.done)
            if is_joint(owner):
                optimizer.step(self._losses(step, objective))
            else:
                optimizer.step()
        for p in self.parameters.values():
            if p.bounds is not None:
                keep_within(p.array, *p.bounds)

    def _losses(self, step: Step, objective: Callable[[Step], Any]) -> Callable[[], float]:
        """The loss from the arrays as they are, again and again, of the same views and random numbers."""
        known = [step.values["loss"]] if len(self.optimizers) == 1 else []  # nothing has moved yet

        def loss() -> float:
            if known:
                return known.pop()
            step._terms, step._random = {}, None
            self._evaluate(step, objective)
            return float(read(self.loss))

        return loss

    def _shorten(self, norm: float) -> None:
        together = self.clip / norm if self.clip is not None and norm > self.clip else 1.0
        for name, p in self.parameters.items():
            if p.optimizer in JOINT:
                continue  # it must see the gradients as they are, and is bounded by its search
            own = together * self._norms[name]
            factor = together * (p.clip / own if p.clip is not None and own > p.clip else 1.0)
            if factor < 1:
                scale(p.array.grad, factor)

    def skip(self, step: Step, most: int) -> None:
        parts = {"the loss": step.values["loss"]} | {f"the gradient of {name!r}": norm for name, norm in self._norms.items()}
        what = ", ".join(name for name, value in parts.items() if not math.isfinite(value)) or "the gradients together"
        text = f"step {step.index} is skipped, for {what} is not finite or too large to be squared"
        if self.history.last("skipped", most) == [1.0] * most:
            raise FloatingPointError(
                f"{text}, as the {most} steps before: nothing moves any more. Where it comes from is said by "
                "print(dr.diagnose(mesh, camera, renderer, target=target, params=parameters))"
            )
        if not self._warned:
            self._warned = True
            text += '; this is said once, history["skipped"] counts, dr.diagnose says where it comes from'
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def count(self, step: Step) -> None:
        """Write the step down; is it the last?"""
        self.made += 1
        self.seconds = time.perf_counter() - self._clock
        if step.blur is not None:
            step.values["blur"] = step.blur
        step.values |= {"seconds": self.seconds, "skipped": float(step.skipped)}
        self.history.append(step.values)
        if self.patience is not None and self.made >= 2 * self.patience and self.made % self.patience == 0:
            losses = self.history.last("loss", 2 * self.patience)
            before, now = (_mean(x) for x in (losses[: self.patience], losses[self.patience :]))
            if now > before - 1e-3 * abs(before):
                self.ended = "plateau"

    def replace(self, name: str, array: Array, carry: Any) -> None:
        if name not in self.parameters:
            raise ValueError(f"name: expected one of {', '.join(self.parameters)}, got {name!r}")
        p = self.parameters[name]
        if carry is not None and p.optimizer in JOINT:
            raise ValueError(
                f"carry: expected None for {p.optimizer}, which remembers how the loss bends over all parameters together, "
                f"got {type(carry).__name__}; leave it out, and it starts anew"
            )
        new = p.on(name, array)
        for other, q in self.parameters.items():
            if other != name and q.array is array:
                raise ValueError(f"array: expected one of its own for {name!r}, got that of {other!r}; give every array once")
        owner = owner_of(name, p)
        before = self.optimizers[owner][1].state_dict()
        names, optimizer = self._new_optimizers({**self.parameters, name: new}, only=owner)[owner]
        if carry is not None:
            old_shape, carried = full_shape(p.array), carrier(carry, name, p.array, array)
            per_element = {key for key, value in before.items() if ".params." in key and np.shape(value) == old_shape}
            optimizer.load_state_dict({key: carried(value) if key in per_element else value for key, value in before.items()})
        self.parameters[name], self.optimizers[owner] = new, (names, optimizer)
        self._replaced.add(name)
        self._idle.discard(name)
        self._unseen = self.parameters.keys() - self._idle

    def _new_optimizers(self, parameters: Mapping[str, Parameter], only: str | None = None) -> dict[str, tuple[list[str], Any]]:
        """Names of parameters and their optimizer, by the name of what owns it."""
        owned: dict[str, dict[str, Parameter]] = {}
        for name, p in parameters.items():
            owned.setdefault(owner_of(name, p), {})[name] = p
        return {owner: (list(each), optimizer_of(each)) for owner, each in owned.items() if only in (None, owner)}


def _mean(losses: list[float]) -> float:
    finite = [x for x in losses if math.isfinite(x)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def noted(function: Callable[[Step], Any], step: Step) -> Any:
    """Call it; an exception says in which step."""
    try:
        return function(step)
    except Exception as error:
        note(error, f"in step {step.index} of the fit")
        raise


# --- Checks -----------------------------------------------------------------------------------------------------------


def _check_name(argument: str, name: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{argument}: expected names of letters, digits, space, dot, hyphen and underscore, got {name!r}")


def checked_count(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def _blur(blur: Any) -> Callable[[float], float] | None:
    """Pixels as a function of how much is done."""
    if blur is None or callable(blur):
        return blur
    ends = tuple(checked_number("blur", x) for x in (blur if isinstance(blur, Sequence) else (blur, blur)))
    if len(ends) != 2 or min(ends) <= 0:
        raise ValueError(f"blur: expected pixels, (first, last) or one number, positive, got {blur!r}")
    return schedules.Schedule(f"{ends[0]:g} to {ends[1]:g} pixels", lambda done: ends[0] * (ends[1] / ends[0]) ** done)


def _through_json(values: Any) -> Any:
    return json.loads(json.dumps(values, default=float))
