"""What single cells were not measured on: every row in the store, in the report as few lines as say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ..results.outcome import Skip


def skipped_items(manifests: Iterable[Mapping[str, Any]]) -> list[Skip]:
    """Skips of a report from the manifests of its cells.

    What no cell of its suite could be measured on is counted by reason, with the first item, numbers in a reason
    apart; the rest for each cell by itself: an SAE with few live latents may lack hundreds.

    Args:
        manifests: As the store has them, with `suite`, `arm`, `seed`, and `skipped` where the cell has such rows.
    """
    found: list[Skip] = []
    by_suite = sorted(manifests, key=lambda each: str(each["suite"]))
    for suite, group in groupby(by_suite, key=lambda each: str(each["suite"])):
        cells = list(group)
        rows = [[Skip.model_validate(row) for row in each.get("skipped", ())] for each in cells]
        shared = set(rows[0]).intersection(*rows[1:])
        found += _counted(suite, [skip for skip in dict.fromkeys(rows[0]) if skip in shared])
        for cell, own in zip(cells, rows, strict=True):
            name = f"{suite}: {cell['arm']}" + ("" if str(cell["arm"]).startswith("@") else f" seed {cell['seed']}")
            found += _counted(name, [skip for skip in own if skip not in shared])
    return found


def _counted(name: str, skips: Sequence[Skip]) -> list[Skip]:
    alike: dict[str, list[Skip]] = {}
    for skip in skips:
        alike.setdefault(re.sub(r"\d+", "#", skip.reason), []).append(skip)
    return [_first_of(name, same) for same in alike.values()]


def _first_of(name: str, same: Sequence[Skip]) -> Skip:
    more = f" and {len(same) - 1} more" if len(same) > 1 else ""
    return Skip(what=f"{name}: {same[0].what}{more}", reason=same[0].reason)
