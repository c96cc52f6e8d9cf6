"""Numbers as the report prints them: pure functions from a value to a short string."""

from __future__ import annotations

from math import ceil, isfinite, log10

MISSING = "\N{EN DASH}"
"""What stands where a number is unknown or not finite."""

MINUS = "\N{MINUS SIGN}"
"""As wide as a plus, so that numbers stand under each other."""

TIMES = "\N{MULTIPLICATION SIGN}"

SMALLEST_P = 0.001
"""p values below are printed as `<0.001`: three decimals are all that a reader uses."""


def known(*values: float | None) -> bool:
    """Whether every value is a finite number."""
    return all(value is not None and isfinite(value) for value in values)


def decimals_for(margin: float | None) -> int:
    """Decimals that show a tenth of the margin, three at least.

    Args:
        margin: Equivalence margin in score units, or None where there is none.

    Returns:
        Number of digits after the point: 3 for a margin of 0.02, 4 for 0.001.
    """
    if margin is None or not isfinite(margin) or margin <= 0:
        return 3
    return max(3, ceil(-log10(margin)) + 1)


def number(value: float | None, decimals: int = 3) -> str:
    """A value with a fixed number of decimals and a true minus sign."""
    if value is None or not isfinite(value):
        return MISSING
    return f"{value:.{decimals}f}".replace("-", MINUS)


def signed(value: float | None, decimals: int = 3) -> str:
    """A value that always shows its sign, also when it rounds to zero; only an exact zero has none."""
    if value is None or not isfinite(value):
        return MISSING
    sign = MINUS if value < 0 else "+" if value > 0 else ""
    return f"{sign}{abs(value):.{decimals}f}"


def interval(lo: float | None, hi: float | None, decimals: int = 3) -> str:
    """`[+0.020, +0.042]`, or `[no interval]` where an end is unknown."""
    return f"[{signed(lo, decimals)}, {signed(hi, decimals)}]" if known(lo, hi) else "[no interval]"


def p_value(value: float | None) -> str:
    """A p value with three decimals, `<0.001` below that and `>0.999` above."""
    if value is None or not isfinite(value):
        return MISSING
    if value < SMALLEST_P:
        return f"<{SMALLEST_P}"
    return f">{1 - SMALLEST_P}" if value > 1 - SMALLEST_P else f"{value:.3f}"


def percent(share: float | None, decimals: int = 0) -> str:
    """A share as a percentage: `98 %`."""
    if share is None or not isfinite(share):
        return MISSING
    return f"{100 * share:.{decimals}f} %"


def mean_and_sd(mean: float | None, sd: float | None, decimals: int = 3) -> str:
    """`0.712 ± 0.003`, or the mean alone where the deviation is unknown (one seed)."""
    return f"{number(mean, decimals)} ± {number(sd, decimals)}" if known(sd) else number(mean, decimals)


def short_hash(digest: str, length: int = 16) -> str:
    """The beginning of a hash, marked as cut; the JSON report has all of it."""
    return digest if len(digest) <= length else f"{digest[:length]}…"
