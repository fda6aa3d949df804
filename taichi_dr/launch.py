"""Kernels, launched in a quarter of the time.

At every launch Taichi compares each argument with its annotation: 40 to 80 us for our kernels, longer than most of them run on an image
of 256 pixels. Here a launch with arrays of the types of an earlier one goes straight to what was compiled then.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import taichi as ti
from taichi.lang import impl
from taichi.types import primitive_types
from taichi.types.annotations import template
from taichi.types.ndarray_type import NdarrayType

from . import runtime


class _Slots(NamedTuple):
    """Which arguments are of which kind: (where in the kernel's argument buffer, where among the arguments)."""

    arrays: list[tuple[tuple[int], int]]
    integers: list[tuple[tuple[int], int]]
    floats: list[tuple[tuple[int], int]]
    templates: list[int]


class Kernel:
    """`ti.kernel` of a function over arrays without gradients, numbers, and templates that are numbers.

    On a tape that is open, and with arguments that are no Taichi arrays, it is Taichi's own launch.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)
        self._launch = ti.kernel(function)
        self._slots = _slots_of(self._launch._primal.arguments)
        self._arity = len(self._launch._primal.arguments)
        self._session: Any = None  # of Taichi's; its program itself would outlive the session, held here
        self._compiled: dict[tuple, Any] = {}

    def __call__(self, *args: Any) -> None:
        session = impl.get_runtime()
        program, slots = session.prog, self._slots
        if self._session is not session:
            self._session, self._compiled = session, {}
        key = self._kinds(args)
        compiled = self._compiled.get(key)
        if compiled is None or len(args) != self._arity or session.fwd_mode_manager or (session.target_tape and not session.grad_replaced):
            runtime.ensure_started()
            for _, k in slots.arrays:
                getattr(args[k] if k < len(args) else None, "arr", None)  # one from before an init says so
            self._launch(*args)
            if key is not None and session is impl.get_runtime():
                taichi_kernel = self._launch._primal
                self._compiled[key] = taichi_kernel.compiled_kernels[taichi_kernel.ensure_compiled(*args)]
            return
        context = compiled.make_launch_context()
        for place, k in slots.arrays:
            context.set_arg_ndarray(place, args[k].arr)
        for place, k in slots.integers:
            context.set_arg_int(place, args[k])
        for place, k in slots.floats:
            context.set_arg_float(place, args[k])
        program.launch_kernel(program.compile_kernel(program.config(), program.get_device_caps(), compiled), context)

    def _kinds(self, args: tuple) -> tuple | None:
        """What a kernel is compiled for: the types of the arrays and the values of the templates; None where an array is not Taichi's."""
        slots = self._slots
        try:
            return (*[args[k].kind_of_array for _, k in slots.arrays], *[args[k] for k in slots.templates])
        except AttributeError:  # an array's first launch
            arrays = [args[k] for _, k in slots.arrays]
            if not all(isinstance(x, ti.Ndarray) for x in arrays):
                return None
            for x in arrays:
                x.kind_of_array = _kinds.setdefault((x.dtype.to_string(), x.element_shape, len(x.shape)), len(_kinds))
            return self._kinds(args)
        except IndexError:  # Taichi says which argument is missing
            return None


_kinds: dict[tuple, int] = {}  # types of arrays, numbered


kernel = Kernel


def _slots_of(arguments: list) -> _Slots:
    slots, place = _Slots([], [], [], []), 0
    for k, argument in enumerate(arguments):
        annotation = argument.annotation
        if isinstance(annotation, template):
            slots.templates.append(k)
            continue
        if isinstance(annotation, NdarrayType):
            assert annotation.needs_grad is False, f"{argument.name}: an array with a gradient is two arguments"
            slots.arrays.append(((place,), k))
        elif id(annotation) in primitive_types.integer_type_ids:
            slots.integers.append(((place,), k))
        else:
            assert id(annotation) in primitive_types.real_type_ids, f"{argument.name}: arrays, numbers and templates, not {annotation}"
            slots.floats.append(((place,), k))
        place += 1
    return slots
