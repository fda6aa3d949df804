"""The checkpoint of a fit: when it is written, what is in it, and what it takes to believe one."""

import math
import pathlib
import time
from typing import Any, NoReturn

import numpy as np
import taichi as ti

from .arrays import read, write
from .checkpoint import Checkpoint, remove_parts, save
from .fit_parameter import note
from .fit_run import Run, checked_count
from .history import History

FORMAT = 2  # of what is in it
REPLACED = (
    ". If step.replace gave it that shape, as after dr.remesh: let state= save what makes the mesh again, its faces and vertices, and load_state= "
    "take it back and return the new arrays by name"
)


class Saving:
    """The fit's checkpoint: when it is written, what is in it, and what it takes to believe one."""

    def __init__(self, run: Run, path: Any, every: int | None, seconds: float | None, state: Any, load_state: Any) -> None:
        self.run, self.path = run, None if path is None else pathlib.Path(path)
        self.every, self.seconds = None if every is None else checked_count("every", every), seconds
        self.state, self.load_state = state, load_state
        self._settings = {} if path is None else run.settings()
        self._saved = -1, False  # steps made when it was saved last, and whether on_step was still to be called
        self._when = time.monotonic()
        self._known: dict[str, np.ndarray] | None = None  # the user's own arrays when they went with the parameters
        if self.path is not None:
            if self.path.is_dir():
                raise ValueError(f"checkpoint: expected the path of a file, got the folder {self.path}; write {self.path / 'checkpoint.npz'}")
            remove_parts(self.path)

    def save_when_due(self) -> None:
        by_steps = self.every is not None and self.run.made % self.every == 0
        by_time = self.seconds is not None and time.monotonic() - self._when >= self.seconds
        if by_steps or by_time:
            self.save()

    def save(self) -> None:
        if self.path is not None and self._saved != (self.run.made, self.run.pending):
            self._save(self._own())

    def _save(self, own: dict[str, np.ndarray]) -> None:
        run = self.run
        arrays = {f"parameters.{name}": read(x) for name, x in run.arrays().items()}
        for owner, (_, optimizer) in run.optimizers.items():
            arrays |= {f"optimizers.{owner}.{key}": np.asarray(value) for key, value in optimizer.state_dict().items()}
        arrays |= {f"history.{name}": run.history[name] for name in run.history.names}
        arrays |= {f"state.{name}": x for name, x in own.items()}
        meta = {
            "kind": "taichi_dr fit", "format": FORMAT, "made": run.made, "ended": run.ended, "pending": run.pending, "seconds": run.seconds,
            "settings": self._settings,
        }  # fmt: skip
        save(self.path, arrays, meta)
        self._saved, self._known, self._when = (run.made, run.pending), own, time.monotonic()

    def note_state(self) -> None:
        """The user's own arrays go with the parameters now."""
        if self.path is not None and self.state is not None:
            self._known = self._own()

    def save_after(self, error: BaseException) -> None:
        """Save what the steps have come to that were made before an exception, which gets a note where that cannot be."""
        if self.path is None or not self.run.made or self._saved == (self.run.made, self.run.pending):
            return
        try:
            own = self._own()
            if self.state is not None and not _alike(own, self._known or {}):
                note(error, f"nothing was saved after it, for what state gives has changed since; {self.path} is as before")
            else:
                self._save(own)
        except Exception as second:
            note(error, f"nothing was saved after it either, for {type(second).__name__}: {second}")

    def _own(self) -> dict[str, np.ndarray]:
        return {name: np.array(_plain(x)) for name, x in (self.state() if self.state else {}).items()}

    def load(self) -> None:
        """Go on from the checkpoint; nothing has changed where it is refused."""
        if self.path is None:
            raise ValueError("resume: expected a checkpoint to resume from, got None; give checkpoint=PATH")
        if not self.path.exists():
            return
        with Checkpoint(self.path) as saved:
            meta = self._checked_meta(saved)
            state = self._own_state(saved)
            run = self.run
            if self.load_state is not None:
                for name, array in (self.load_state(state) or {}).items():
                    run.replace(name, array, None)
            arrays = {name: self._read(saved, f"parameters.{name}", read(x)) for name, x in run.arrays().items()}
            optimizers = {owner: self._optimizer_state(saved, owner, each) for owner, (_, each) in run.optimizers.items()}
            history = {name: self._read(saved, f"history.{name}", np.empty(meta["made"])) for name in _below("history.", saved)}
            for owner, (_, optimizer) in run.optimizers.items():
                try:
                    optimizer.load_state_dict(optimizers[owner])
                except (ValueError, TypeError, KeyError, ArithmeticError) as error:
                    raise ValueError(f"{self.path}: expected the state of the optimizers, got another ({error}); begin anew without it") from error
        for name, x in run.arrays().items():
            write(x, arrays[name])
        run.made, run.ended, run.seconds, run.history = meta["made"], meta["ended"], float(meta["seconds"]), History(history)
        run.pending = meta["pending"]
        self._saved = run.made, run.pending

    def _checked_meta(self, saved: Checkpoint) -> dict[str, Any]:
        meta, own = saved.meta, self._settings
        if meta.get("kind") != "taichi_dr fit" or meta.get("format") != FORMAT or not isinstance(meta.get("settings"), dict):
            raise ValueError(f"{self.path}: expected a checkpoint of a fit of this version, got another file; begin anew without it")
        for key, here in own.items():
            there = meta["settings"].get(key, "not given")
            if _compared(there) != _compared(here):
                self._refuse("{} is {} there and {} here".format(key, *_told(there, here)))
        for key in meta["settings"].keys() - own.keys():
            self._refuse(f"it has {key}")
        made, ended = meta.get("made"), meta.get("ended")
        is_pending = meta.get("pending")
        known = (
            type(is_pending) is bool
            and not (is_pending and made == 0)
            and type(made) is int
            and 0 <= made <= self.run.steps
            and ended in ("", "plateau", "asked")
        )
        if not known or not isinstance(meta.get("seconds"), (int, float)) or not 0 <= meta["seconds"] < math.inf:
            raise ValueError(f"{self.path}: expected a checkpoint of a fit, got one that is changed; take a copy of it, or begin anew without it")
        return meta

    def _own_state(self, saved: Checkpoint) -> dict[str, np.ndarray]:
        names = _below("state.", saved)
        if names and self.load_state is None:
            self._refuse(f"it has the state {', '.join(names[:4])}, which load_state would take back")
        return {name: saved.read(f"state.{name}").copy() for name in names}

    def _optimizer_state(self, saved: Checkpoint, owner: str, optimizer: Any) -> dict[str, np.ndarray]:
        own = {name: np.asarray(value) for name, value in optimizer.state_dict().items()}
        state = {name: self._read(saved, f"optimizers.{owner}.{name}", value) for name, value in own.items()}
        for name, value in state.items():
            if value.dtype.kind == "i" and value.ndim == 0 and not 0 <= value <= max(saved.meta["made"], own[name]):  # a count of steps
                raise ValueError(f"{self.path}: expected {name} of optimizers from 0 to {saved.meta['made']}, got {value}; begin anew without it")
        return state

    def _read(self, saved: Checkpoint, name: str, like: np.ndarray) -> np.ndarray:
        """An array of the shape and type of one that is here."""
        entry = saved.entries.get(name)
        if entry is None:
            self._refuse(f"it has no {name}")
        if entry.shape != like.shape or entry.dtype != like.dtype:
            self._refuse(
                f"{name} is {entry.dtype} {entry.shape} there and {like.dtype} {like.shape} here", REPLACED if entry.shape != like.shape else ""
            )
        return saved.read(name)

    def _refuse(self, difference: str, remedy: str = "") -> NoReturn:
        raise ValueError(
            f"{self.path}: expected a checkpoint of this fit, got one of another: {difference}; run it with the settings of then, "
            f"or begin anew with another path or resume=False{remedy}"
        )


def _below(prefix: str, saved: Checkpoint) -> list[str]:
    return [name.removeprefix(prefix) for name in saved.entries if name.startswith(prefix)]


def _alike(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Of the same shapes, and integers the same; floats may be what moves."""
    return some.keys() == others.keys() and all(
        x.shape == others[name].shape and x.dtype == others[name].dtype and (x.dtype.kind == "f" or (x == others[name]).all())
        for name, x in some.items()
    )


def _compared(setting: Any) -> Any:
    """What two settings must agree in: of schedules the values, whatever they are called."""
    return setting.get("values") if isinstance(setting, dict) and "text" in setting else setting


def _told(*settings: Any) -> list[str]:
    """Two settings that differ, as a message shows them."""
    schedules = [isinstance(x, dict) and "text" in x for x in settings]
    texts = [str(x["text"]) if is_one else str(x) for x, is_one in zip(settings, schedules, strict=True)]
    if all(schedules) and texts[0] == texts[1]:
        return [f"{x['text']} from {x.get('first')} to {x.get('last')}" for x in settings]
    return texts


def _plain(x: Any) -> np.ndarray:
    return read(x) if isinstance(x, ti.Ndarray) else np.asarray(x)
