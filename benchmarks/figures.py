"""How a benchmark says its figures so that `bench.py` can read them: one line of JSON on stdout, last of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MARK = "figures "
"""What the line begins with."""
MEASURED = (0, 1, 3)
"""Exit codes of a check that was measured whole: PASS, FAIL, INCONCLUSIVE; with 4 an SAE or a suite may be missing."""


def emit(name: str, figures: Mapping[str, float | Sequence[float]]) -> None:
    """Print the figures of one run.

    Args:
        name: of the benchmark, which is that of its file.
        figures: a number each, or the numbers of several rounds of one run.

    Raises:
        ValueError: A figure is not a finite number, or has no round.
    """
    found = {what: list(value) if isinstance(value, Sequence) else [value] for what, value in figures.items()}
    for what, values in found.items():
        if not values:
            raise ValueError(f"{name}: {what} has no value")
    line = {"benchmark": name, "figures": {what: [float(value) for value in values] for what, values in found.items()}}
    print(MARK + json.dumps(line, allow_nan=False), flush=True)


def read(output: str, name: str) -> dict[str, list[float]]:
    """Return the figures of a run by what it printed; the last line that holds any counts.

    Raises:
        ValueError: There is none, or they are another benchmark's.
    """
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError(f"{name} said no figures")
    found = json.loads(lines[-1].removeprefix(MARK))
    if found["benchmark"] != name:
        raise ValueError(f"{name} said the figures of {found['benchmark']}")
    return found["figures"]
