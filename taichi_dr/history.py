"""What a fit has met, step by step."""

import csv
import math
import os
from collections.abc import Mapping

import numpy as np


class History:
    """Numbers of every step by name: `history["loss"]` is an array with one entry per step.

    Names that `dr.fit` writes: "loss"; "term.NAME" of every term; "lr.NAME" of every parameter; "blur", pixels; "gradient", the
    gradient's norm before it is clipped; "seconds" since the fit began, breaks left out; "skipped", 1 where nothing moved. NaN
    where a step has no such number.
    """

    def __init__(self, columns: Mapping[str, np.ndarray] | None = None) -> None:
        self._columns: dict[str, list[float]] = {name: np.asarray(x, dtype=float).tolist() for name, x in (columns or {}).items()}
        self._length = max(map(len, self._columns.values()), default=0)

    def __repr__(self) -> str:
        if not self._length:
            return "History(no steps)"
        losses = [f"{x:.4g}" for x in self._columns.get("loss", [])]
        loss = f", loss {losses[0]} to {losses[-1]}" if losses else ""
        return f"History({self._length} step{'s' if self._length > 1 else ''}{loss}; {', '.join(self._columns)})"

    def append(self, values: Mapping[str, float]) -> None:
        """Add a step."""
        for name in values:
            if name not in self._columns:
                self._columns[name] = [math.nan] * self._length
        for name, column in self._columns.items():
            column.append(values.get(name, math.nan))
        self._length += 1

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise ValueError(f"name: expected one of {', '.join(self._columns)}, got {name!r}")
        return np.array(self._columns[name])

    def last(self, name: str, count: int) -> list[float]:
        """The last `count` numbers of a name."""
        return self._columns.get(name, [])[-count:]

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __len__(self) -> int:
        return self._length

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._columns)

    @property
    def loss(self) -> np.ndarray:
        """The loss of every step."""
        return self["loss"]

    @property
    def terms(self) -> dict[str, np.ndarray]:
        """Every term of the loss by name."""
        return {name.removeprefix("term."): self[name] for name in self._columns if name.startswith("term.")}

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write a table: a row per step, its number in the first column."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["step", *self._columns])
            for k, row in enumerate(zip(*self._columns.values(), strict=True)):
                table.writerow([k, *(f"{x:.9g}" for x in row)])
