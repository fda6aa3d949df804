"""Exponential and logarithm spelled out, in kernels: on CPUs a call into the C library keeps LLVM from vectorizing a loop."""

import taichi as ti
from taichi.lang import impl


def _spelled_out() -> bool:
    """Only in float32, and not on GPUs, which have instructions for both."""
    return impl.current_cfg().arch in (ti.x64, ti.arm64) and impl.get_runtime().default_fp == ti.f32


@ti.func
def exp(x):
    """e^x for x up to 88, within 1e-7 relative; at least 1e-38."""
    value = 0.0
    if ti.static(_spelled_out()):
        # e^x = 2^k e^r with |r| <= ln 2 / 2; ln 2 in two parts, the first exact times k; e^r by its minimax polynomial.
        y = ti.select(x > -87.0, x, -87.0)
        biased = int(y * 1.44269504 + 127.5)  # k + 127, as the exponent of a float has it; positive, so that the cast rounds down
        k = float(biased - 127)
        r = y - k * 0.693359375 + k * 2.12194440e-4
        tail = 0.16666420814 + r * (0.04166835816 + r * (0.00837477304 + r * 0.00138294184))
        value = (1.0000000005921 + r * (1.00000003612983 + r * (0.4999999149 + r * tail))) * ti.bit_cast(biased << 23, ti.f32)
    else:
        value = ti.exp(x)
    return value


@ti.func
def log(x):
    """Natural logarithm of x from 1e-37 to 1e38, within 1e-7."""
    value = 0.0
    if ti.static(_spelled_out()):
        # x = 2^k m with m in [1 / sqrt(2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), by its series.
        bits = ti.bit_cast(x, ti.i32) - 0x3F3504F3
        k = bits >> 23
        m = ti.bit_cast((bits & 0x7FFFFF) + 0x3F3504F3, ti.f32)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = 2.0 + z * (0.666666667 + z * (0.4 + z * (0.285714286 + z * 0.222222222)))
        value = float(k) * 0.693359375 + (s * series - float(k) * 2.12194440e-4)
    else:
        value = ti.log(x)
    return value
