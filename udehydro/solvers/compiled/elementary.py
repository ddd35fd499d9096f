"""Elementary functions without branches or calls, which LLVM runs on several numbers side by side.

This file is a template as :mod:`udehydro.solvers.compiled.kernels` is: the text below the mark goes into every module.
The C library's are called for one number at a time, for which they are the faster ones, and have the names without
``vector_``. Errors are a few units in the last place, of powers x^y as many more as |y log x|. exp is 0 below -708 and
infinite above 709.

Everything follows from exp(k ln 2 + r) = 2^k exp(r), with a Taylor polynomial for |r| <= ln(2) / 2, and from
log(2^k m) = k ln 2 + 2 artanh((m - 1) / (m + 1)), with one for m between sqrt(1/2) and sqrt(2).
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def as_bits(typing, value):
    """The bits of a double as a whole number."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int64))

    return types.int64(types.float64), generate


@intrinsic
def as_double(typing, value):
    """The double that has the bits of a whole number."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.int64), generate


# --- template ---

LOG2_E, SQRT_2 = 1.4426950408889634, 1.4142135623730951
LN2_HIGH, LN2_LOW = 0.6931471805582987, 1.6465949582897082e-12
"""ln 2 in two parts, the first so short that its products with exponents are exact."""
ROUND = 6755399441055744.0
"""1.5 * 2^52: numbers of moderate size are rounded to whole ones where it is added, and stand in its last bits."""
ONE, FRACTION = 0x3FF0000000000000, 0xFFFFFFFFFFFFF
"""Bits of 1.0, and of all fractions."""


@njit(error_model="numpy", forceinline=True)
def parts_of_exp(x):
    """2^k and exp(r) - 1 for x = k ln 2 + r between -708 and 709."""
    shifted = x * LOG2_E + ROUND
    k = shifted - ROUND
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    return as_double((as_bits(shifted) << 52) + ONE), p * (r * r) + r


@njit(error_model="numpy", forceinline=True)
def vector_exp(x):
    power, rest = parts_of_exp(min(max(x, -708.0), 709.0))
    value = power * rest + power
    value = value if x >= -708.0 else 0.0
    value = value if x <= 709.0 else np.inf
    return value if x == x else x


@njit(error_model="numpy", forceinline=True)
def vector_expm1(x):
    power, rest = parts_of_exp(min(max(x, -708.0), 709.0))
    value = power * rest + (power - 1.0)
    value = value if x <= 709.0 else np.inf
    return value if x == x else x


@njit(error_model="numpy", forceinline=True)
def vector_tanh(x):
    size = abs(x)
    power, rest = parts_of_exp(2.0 * min(size, 22.0))
    value = power * rest + (power - 1.0)
    value = value / (value + 2.0)
    value = -value if x < 0.0 else value
    return value if x == x else x


@njit(error_model="numpy", forceinline=True)
def vector_log(x):
    # the fraction is brought between sqrt(1/2) and sqrt(2), where the series is short and log(1) exact
    small = x < 2.2250738585072014e-308
    bits = as_bits(x * 18014398509481984.0 if small else x)
    m = as_double((bits & FRACTION) | ONE)
    k = as_double(as_bits(ROUND) + ((bits >> 52) - 1023)) - ROUND
    k = k - 54.0 if small else k
    k = k + 1.0 if m > SQRT_2 else k
    m = 0.5 * m if m > SQRT_2 else m
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 0.047619047619047616
    p = p * z + 0.05263157894736842
    p = p * z + 0.058823529411764705
    p = p * z + 0.06666666666666667
    p = p * z + 0.07692307692307693
    p = p * z + 0.09090909090909091
    p = p * z + 0.1111111111111111
    p = p * z + 0.14285714285714285
    p = p * z + 0.2
    p = p * z + 0.3333333333333333
    value = k * LN2_HIGH + ((2.0 * s) * (z * p) + (2.0 * s + k * LN2_LOW))
    value = value if x < np.inf else x
    value = value if x > 0.0 else (-np.inf if x == 0.0 else np.nan)
    return value


@njit(error_model="numpy", forceinline=True)
def vector_log1p(x):
    u = 1.0 + x
    value = vector_log(u) - ((u - 1.0) - x) / u
    return value if 0.0 < u and u < np.inf else vector_log(u)


@njit(error_model="numpy", forceinline=True)
def vector_power(x, y):
    value = vector_exp(y * vector_log(abs(x)))
    value = 1.0 if abs(x) == 1.0 else value
    whole = np.floor(y) == y
    odd = np.floor(0.5 * y) != 0.5 * y
    negative = (-value if odd else value) if whole or x == -np.inf else np.nan
    value = negative if x < 0.0 else value
    return 1.0 if y == 0.0 or x == 1.0 else value
