"""The plot of the suite `hard_probing`: what SAEs add to a quiver, against the number of training points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..hard_probing import DENSE
from .figure_style import label, new_figure, style_of, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..hard_probing import Gain

ALONE = {"@clean_probe": "_", "@shuffled_labels": "x"}
"""Marks of references where there is but one size."""


def size_figure(gains: Sequence[Gain]) -> Figure | None:
    """Gain against the number of training points, one line per arm with its 90 % interval over families.

    Args:
        gains: Of a suite's result; of them the levels of the regime `scarcity`.

    Returns:
        The figure; None where scarcity was not measured.
    """
    shown = [one for one in gains if one.regime == "scarcity" and one.level is not None]
    if not shown:
        return None
    arms = [arm for arm in dict.fromkeys(one.arm for one in shown) if arm != DENSE]
    saes = [arm for arm in arms if not arm.startswith("@")]
    with styled():
        figure = new_figure(6.4, 4.2)
        axis = figure.subplots()
        axis.axhline(0.0, color="#999999", linewidth=0.8, zorder=1)
        for arm in arms:
            _draw(axis, arm, [one for one in shown if one.arm == arm], saes)
        sizes = sorted({one.level for one in shown if one.level is not None})
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axis.minorticks_off()
        axis.set(xlabel="training points", ylabel="gain of the quiver in test AUC")
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        axis.set_axisbelow(True)
        families = max(one.n_families for one in shown)
        axis.set_title(f"Gain by an SAE's probes: {families} families of datasets, 90 % intervals", fontsize=10)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw(axis: Axes, arm: str, found: Sequence[Gain], saes: Sequence[str]) -> None:
    points = sorted(found, key=lambda one: one.level or 0.0)
    style = style_of(arm, saes)
    # Reference lines go through dashes of their own: style_of knows those of the synthetic suite alone.
    dashes = {"@clean_probe": (0, (5.0, 2.0)), "@shuffled_labels": (0, (1.0, 1.5))}.get(arm, style.dashes)
    sizes = np.array([one.level for one in points], dtype=np.float64)
    axis.plot(
        sizes,
        [one.gain for one in points],
        color=style.colour,
        # One size makes no line: a reference needs a mark then, and an interval stands upright.
        marker=style.marker or (ALONE.get(arm, "|") if len(points) == 1 else None),
        linestyle=dashes,
        linewidth=style.width,
        markersize=4.5 if style.marker else 9,
        label=label(arm),
    )
    if style.marker and all(one.lo is not None for one in points):
        ends = np.array([(one.lo, one.hi) for one in points], dtype=np.float64)
        axis.fill_between(sizes, ends[:, 0], ends[:, 1], color=style.colour, alpha=0.12, linewidth=0)
        if len(points) == 1:
            axis.vlines(sizes, ends[:, 0], ends[:, 1], color=style.colour, linewidth=style.width)
