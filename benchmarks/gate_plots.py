"""Plots of gate_calibration.py: error rates by shape, and power against the true difference."""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sae_sanity.results.report.figure_style import COLOURS, MARKERS, REFERENCE, new_figure, styled

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL, BOUND = 0.05, 0.06
DASHES = {"beats": "-", "equivalent": "--", "negligible": ":"}


def error_rates(rows: list[dict[str, Any]], path: Path) -> None:
    """False BEATS and false equivalence of every shape, with two Monte-Carlo errors to either side."""
    with styled():
        figure = new_figure(7.5, 0.9 + 0.21 * len(rows))
        axes = figure.subplots(1, 2, sharey=True)
        for panel, name, title in (
            (axes[0], "false_beats", "BEATS where nothing differs"),
            (axes[1], "false_below_margin", "below the margin, truth at the margin"),
        ):
            _rates(panel, rows, name)
            panel.set_title(title, loc="left")
            panel.set_xlabel("share of simulated checks")
        axes[0].set_yticks(range(len(rows)), [shape_name(row) for row in rows])
        axes[0].invert_yaxis()
        _save(figure, path)


def _rates(axes: Axes, rows: list[dict[str, Any]], name: str) -> None:
    axes.axvline(LEVEL, color=REFERENCE, linewidth=0.8)
    axes.axvline(BOUND, color=REFERENCE, linewidth=0.8, linestyle="--")
    for place, row in enumerate(rows):
        _rate(axes, place, row[name], row["replicates"], MARKERS[0], COLOURS[0])
        if name == "false_beats" and "again" in row:
            _rate(axes, place + 0.3, row["again"][name], row["again"]["replicates"], MARKERS[1], COLOURS[1])
    axes.set_xlim(0, 0.1)


def _rate(axes: Axes, place: float, rate: float, replicates: int, marker: str, colour: str) -> None:
    error = 2 * (rate * (1 - rate) / replicates) ** 0.5
    axes.errorbar(rate, place, xerr=error, fmt=marker, color=colour, markersize=4, linewidth=1)


def power_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Share of verdicts against the true difference, a panel for each size and a colour for each number of seeds."""
    measured = [row for row in rows if row["seed_sd"] < 0]
    sizes = list(dict.fromkeys((row["families"], row["latents"]) for row in measured))
    seeds = list(dict.fromkeys((row["trained"], row["baseline"]) for row in measured))
    with styled():
        figure = new_figure(8.5, 5.5)
        panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
        for axes, size in zip(panels, sizes, strict=False):
            for row in measured:
                if (row["families"], row["latents"]) == size:
                    _curves(axes, row, seeds.index((row["trained"], row["baseline"])))
            axes.set_title(f"{size[0]} families, paired" if size[0] else f"{size[1]:,} latents of each SAE", loc="left")
            axes.axvline(1, color=REFERENCE, linewidth=0.8)
        for axes in panels[2:]:
            axes.set_xlabel("true difference, in margins (.02)")
        for axes in panels[::2]:
            axes.set_ylabel("share of simulated checks")
        _legends(figure, panels[0], seeds)
        _save(figure, path)


def _curves(axes: Axes, row: dict[str, Any], place: int) -> None:
    at = [point["margins"] for point in row["power"]]
    for name, dashes in DASHES.items():
        values = [point[name] for point in row["power"]]
        axes.plot(at, values, color=COLOURS[place], linestyle=dashes, linewidth=1.3 if name == "beats" else 0.9)


def _legends(figure: Figure, axes: Axes, seeds: list[tuple[int, int]]) -> None:
    lines = [axes.plot([], [], color=COLOURS[i])[0] for i in range(len(seeds))]
    words = [f"{trained} {'SAE' if trained == 1 else 'seeds'} v {baseline} seeds" for trained, baseline in seeds]
    kinds = [axes.plot([], [], color=REFERENCE, linestyle=dashes)[0] for dashes in DASHES.values()]
    figure.legend([*lines, *kinds], [*words, *(name.upper() for name in DASHES)], loc="outside right upper")


def shape_name(row: dict[str, Any]) -> str:
    """A shape in words, short."""
    size = f"{row['families']} families" if row["families"] else f"{row['latents']:,} latents"
    luck = f", seed SD {row['seed_sd']:g}" if row["seed_sd"] >= 0 else ""
    return f"{size}, {row['trained']} v {row['baseline']}{luck}"


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
