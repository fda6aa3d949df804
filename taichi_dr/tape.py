"""Recording: how an operator and its adjoint are declared, and the Tape that runs the adjoints in reverse."""

import functools
from collections.abc import Callable
from typing import Any

import taichi as ti
from taichi.lang import impl
from taichi.lang.enums import AutodiffMode

from .arrays import Array, unrecorded, zero


class Operator:
    """A step of the computation: a function over preallocated arrays, with an adjoint written by hand.

    Called, it runs its function and records itself on the tape that is open, ours or a plain `ti.ad.Tape`; kernels
    launched inside are not recorded. The adjoint takes the same arguments and adds to the `.grad` of the inputs.

        @operator
        def _scale(x, factor, out): _scale_kernel(x, factor, out)

        @_scale.adjoint
        def _scale_adjoint(x, factor, out): _scale_adjoint_kernel(x.grad, factor, out.grad)
    """

    autodiff_mode = AutodiffMode.NONE  # ti.ad.Tape.insert asks every call for it

    def __init__(self, forward: Callable[..., None]) -> None:
        functools.update_wrapper(self, forward)
        self._forward = forward
        self._adjoint: Callable[..., None] | None = None

    def __call__(self, *args: Any) -> None:
        with unrecorded():
            self._forward(*args)
        runtime = impl.get_runtime()
        if runtime.target_tape is not None and not runtime.grad_replaced:
            runtime.target_tape.insert(self, args)

    def adjoint(self, function: Callable[..., None]) -> Callable[..., None]:
        """Declare the adjoint: same arguments, adds to the inputs' gradients."""
        self._adjoint = function
        return function

    def grad(self, *args: Any) -> None:
        """Run the adjoint; the name is what tapes call."""
        assert self._adjoint is not None, f"{self.__name__} has no adjoint"
        with unrecorded():
            self._adjoint(*args)


operator = Operator


class Tape(ti.ad.Tape):
    """Record the operators and Taichi kernels of a `with` block; on a clean exit, run their adjoints in reverse.

    On entry the loss is set to zero. On exit the gradients of every ndarray that took part are set to zero, then
    filled with d loss / d array. After an exception nothing runs backward. Gradients of Taichi fields follow
    `ti.ad.Tape`.

    Args:
        loss: `dr.scalar()`, or a 0-D field, that the block adds to.
        clear: False adds to the gradients instead, to accumulate over several tapes.

    Raises:
        ValueError: a loss that is no Taichi scalar with a gradient.
        RuntimeError: a tape inside another tape, or a tape used twice.
    """

    def __init__(self, loss: Any, *, clear: bool = True) -> None:
        is_scalar = isinstance(loss, (ti.Ndarray, ti.Field)) and all(n == 1 for n in loss.shape)
        if not is_scalar or (isinstance(loss, ti.Ndarray) and (loss.grad is None or loss.element_shape)):
            raise ValueError(f"loss: expected a Taichi scalar with a gradient, got {type(loss).__name__}; make it with dr.scalar()")
        super().__init__(loss)
        self._clear = clear

    def __enter__(self) -> "Tape":
        if self.runtime.target_tape is not None:
            raise RuntimeError("a tape is open already; close it before opening another, or add both losses up in one")
        if self.entered:
            raise RuntimeError("this tape has been used; make a new one: with dr.Tape(loss): ...")
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self.runtime.target_tape = None
            return
        super().__exit__(kind, error, traceback)

    def grad(self) -> None:
        """Clear the gradients, then run the recorded adjoints in reverse."""
        if self._clear:
            for x in self._arrays():
                zero(x.grad)
        super().grad()

    def _arrays(self) -> list[Array]:
        """Every ndarray with a gradient among the recorded arguments, once each."""
        seen = {id(a): a for _, args in self.calls for a in args if isinstance(a, ti.Ndarray) and a.grad is not None}
        return list(seen.values())
