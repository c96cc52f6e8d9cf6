"""The plots of the synthetic suite for a page or a paper: PNG and SVG, without a window and without global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..files import write_output
from .figure_style import REFERENCE, REFERENCE_LINES, Style, draw_point, label, new_figure, style_of, styled
from .gain_figure import size_figure
from .look import visible
from .synthetic import share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    from ..outcome import SuiteResult
    from ..synthetic_detail import Curve, Histogram, SyntheticDetail, WorldScore


def save_figures(detail: SyntheticDetail, stem: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure that a detail has data for.

    Args:
        detail: What `results.synthetic.summarise` made.
        stem: Folder and beginning of the file names; the folder is made.
        formats: File types that matplotlib writes.

    Returns:
        The files, `{stem}-recovery.png` and so on. Each is whole or not there; the same detail gives the same bytes
        with the same matplotlib.

    Raises:
        ValueError: A format that matplotlib does not know.
        OSError: The folder cannot be written.
    """
    return _save({name: make(detail) for name, make in FIGURES.items()}, stem, formats)


def save_suite_figures(suite: SuiteResult, stem: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write every figure of one suite: those of `save_figures`, and the gain against the size of the training set.

    Args:
        suite: What the suite says; most suites have no figure.
        stem: As for `save_figures`; the folder is made where there is a figure.
        formats: As for `save_figures`.

    Returns:
        The files; of `hard_probing` `{stem}-gain-by-size.png` and so on.

    Raises:
        ValueError: A format that matplotlib does not know.
        OSError: The folder cannot be written.
    """
    of_worlds = save_figures(suite.detail, stem, formats) if suite.detail else []
    return of_worlds + _save({GAIN_BY_SIZE: size_figure(suite.gains)}, stem, formats)


def recovery_figure(detail: SyntheticDetail) -> Figure | None:
    """Share recovered against firing rate, for all arms; with any latent on the left, with an own one on the right.

    Intervals are 90 % over worlds. Below: how many features of a world each point stands for. Where all features fire
    equally often there is nothing on the first axis, and the shares stand beside each other instead.

    Returns:
        The figure; None without curves.
    """
    panels = [(t, c) for t, c in zip(PANELS, (detail.curves, detail.matched_curves), strict=True) if c]
    if not panels:
        return None
    if len(panels[0][1][0].bins) == 1:
        return _one_rate_figure(detail, panels)
    with styled():
        figure = new_figure(3.9 * len(panels) + 0.4, 4.4)
        axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(5, 1))
        for (title, curves), upper, lower in zip(panels, axes[0], axes[1], strict=True):
            for curve in curves:
                _draw_curve(upper, curve, style_of(curve.arm, [one.arm for one in curves]))
            upper.set(title=title, xscale="log", ylim=(-0.03, 1.03))
            _draw_sizes(lower, curves[0])
        axes[0, 0].set_ylabel("true features recovered")
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes[1, 0].set_ylabel("features\nper world")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(_title(detail), fontsize=10)
    return figure


def cosine_figure(detail: SyntheticDetail) -> Figure | None:
    """How close every arm comes to each true feature: one row per arm, a random dictionary in grey behind each.

    Returns:
        The figure; None without histograms.
    """
    if not detail.histograms:
        return None
    names = [one.arm for one in detail.histograms]
    chance = next((one for one in detail.histograms if one.arm == "@chance"), None)
    recovered = {score.arm: score.recovered_08 for score in detail.scores}
    with styled():
        figure = new_figure(7.2, 0.72 * len(names) + 1.3)
        axes = figure.subplots(len(names), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axis, one in zip(axes, detail.histograms, strict=True):
            _draw_histogram(axis, one, chance, style_of(one.arm, names).colour)
            _mark_cosines(axis, detail.chance_mean_cosine)
            axis.annotate(label(one.arm), (0.012, 0.62), xycoords="axes fraction", fontsize=9)
            axis.annotate(
                share(recovered.get(one.arm)), (1.06, 0.35), xycoords="axes fraction", fontsize=9, ha="center"
            )
        axes[0].annotate(
            "above .8",
            (1.06, 1.0),
            (0, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=REFERENCE,
            ha="center",
            va="bottom",
        )
        _label_cosines(axes[0], detail.chance_mean_cosine)
        axes[-1].set_xlabel("largest cosine of a true feature with any latent")
        figure.supylabel("share of true features (square-root scale)", fontsize=9)
        figure.suptitle(f"{_title(detail)}; grey: a random dictionary", fontsize=10)
    return figure


def explained_variance_figure(detail: SyntheticDetail) -> Figure | None:
    """Explained variance of every arm from 0 to 1, with 90 % intervals over worlds.

    Shaded: from a random to the true dictionary in the same encoder class. Open markers: the same two dictionaries
    coded with least squares or matching pursuit, which is how far a random one goes in reconstruction alone.

    Returns:
        The figure; None where nothing was measured.
    """
    shown = [score for score in detail.scores if score.explained_variance is not None]
    if not shown:
        return None
    names = [score.arm for score in shown]
    with styled():
        figure = new_figure(7.2, 0.3 * len(shown) + 1.7)
        axis = figure.subplots()
        for row, score in enumerate(reversed(shown)):
            _draw_explained(axis, row, score, style_of(score.arm, names))
        _draw_range(axis, {score.arm: score.explained_variance for score in shown})
        axis.set_yticks(range(len(shown)), [label(name) for name in reversed(names)])
        axis.set(xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4), xlabel="explained variance")
        axis.grid(axis="x", color="#e5e5e5", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.annotate(
            "EV (norm.)",
            (1.01, 1.0),
            (0, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
            color=REFERENCE,
            va="bottom",
        )
        if any(s.explained_variance_ls is not None or s.explained_variance_omp is not None for s in shown):
            _code_legend(figure)
        axis.set_title(_title(detail), fontsize=10, pad=22)
    return figure


FIGURES: dict[str, Callable[[SyntheticDetail], Figure | None]] = {
    "recovery": recovery_figure,
    "cosines": cosine_figure,
    "explained-variance": explained_variance_figure,
}
"""Name in the file name, and what makes the figure."""

GAIN_BY_SIZE = "gain-by-size"
"""Name of the figure of `hard_probing` in its file name."""

PANELS = ("any latent at a cosine > .8", "own latent (one-to-one) at a cosine > .8")
"""Titles of the panels of recovery."""


def _save(figures: Mapping[str, Figure | None], stem: Path, formats: Sequence[str]) -> list[Path]:
    if unknown := sorted(set(formats) - set(FigureCanvasAgg.get_supported_filetypes())):
        msg = f"no such image format: {', '.join(unknown)}; png, svg and pdf are some"
        raise ValueError(msg)
    written = []
    with styled():
        for name, figure in figures.items():
            for kind in formats if figure else ():
                path = stem.with_name(f"{stem.name}-{name}.{kind}")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_output(path, _bytes_of(figure, kind))  # pyright: ignore[reportArgumentType]
                written.append(path)
    return written


def _bytes_of(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    # A date in the file would make the same figure differ from itself.
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(file, format=kind, metadata=undated)
    return file.getvalue()


def _title(detail: SyntheticDetail) -> str:
    worlds = f"{detail.n_worlds} {visible(detail.world)} world{'s' if detail.n_worlds != 1 else ''}"
    return f"{worlds}: {detail.n_features:,} features in {detail.d_in} dimensions, L0 {detail.true_l0:.3g}"


def _draw_curve(axis: Axes, curve: Curve, style: Style) -> None:
    middles = [(one.low * one.high) ** 0.5 for one in curve.bins]
    values = np.array([one.value for one in curve.bins])
    axis.plot(
        middles,
        values,
        color=style.colour,
        marker=style.marker or None,
        linestyle=style.dashes,
        linewidth=style.width,
        markersize=4,
        label=label(curve.arm),
        zorder=style.width + 2 if style.marker else 2,
        clip_on=False,
    )
    if style.marker and all(one.lo is not None and one.hi is not None for one in curve.bins):
        ends = np.clip(np.array([(one.lo, one.hi) for one in curve.bins], dtype=np.float64), 0.0, 1.0)
        axis.fill_between(middles, ends[:, 0], ends[:, 1], color=style.colour, alpha=0.18, linewidth=0)


def _draw_sizes(axis: Axes, curve: Curve) -> None:
    for one in curve.bins:
        axis.fill_between([one.low, one.high], one.n_features, color="#bbbbbb", edgecolor="white", linewidth=0.5)
    axis.set(xlabel="firing rate of the true feature (share of samples)", ylim=(0, None))


def _one_rate_figure(detail: SyntheticDetail, panels: Sequence[tuple[str, tuple[Curve, ...]]]) -> Figure:
    with styled():
        names = [curve.arm for curve in panels[0][1]]
        figure = new_figure(3.6 * len(panels) + 0.8, 0.3 * len(names) + 1.4)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, curves) in zip(axes, panels, strict=True):
            for row, curve in enumerate(reversed(curves)):
                one, style = curve.bins[0], style_of(curve.arm, names)
                draw_point(axis, row, (one.value, one.lo, one.hi), style)
                # Out of the way of the point, on the side that has room.
                right = one.value < 0.7
                ends = [end for end in (one.lo, one.value, one.hi) if end is not None]
                beside = max(ends) if right else min(ends)
                axis.annotate(
                    share(one.value),
                    (beside, row),
                    (6 if right else -6, 0),
                    textcoords="offset points",
                    ha="left" if right else "right",
                    va="center",
                    fontsize=8,
                )
            axis.set(title=title, xlim=(-0.02, 1.02), ylim=(-0.6, len(names) - 0.4), xlabel="true features recovered")
            axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
            axis.grid(axis="x", color="#e5e5e5", linewidth=0.6)
            axis.set_axisbelow(True)
        axes[0].set_yticks(range(len(names)), [label(name) for name in reversed(names)])
        figure.suptitle(_title(detail), fontsize=10)
    return figure


def _draw_histogram(axis: Axes, one: Histogram, chance: Histogram | None, colour: str) -> None:
    if chance is not None and chance is not one:
        axis.stairs(chance.shares, chance.edges, fill=True, color="#c8c8c8", linewidth=0)
    axis.stairs(one.shares, one.edges, fill=True, color=colour, alpha=0.35, linewidth=0)
    axis.stairs(one.shares, one.edges, color=colour, linewidth=1.1)
    axis.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axis.set(ylim=(0, 1.0), xlim=(min(one.edges[0], 0.0), 1.0))
    axis.set_yticks([0.0, 0.1, 0.5, 1.0])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    axis.tick_params(axis="y", labelsize=6, length=2)


def _mark_cosines(axis: Axes, chance: float | None) -> None:
    for x, dashes in ((chance, (0, (4, 2))), (0.8, (0, (1, 2))), (0.9, (0, (1, 2)))):
        if x is not None:
            axis.axvline(x, color=REFERENCE, linewidth=0.8, linestyle=dashes)


def _label_cosines(axis: Axes, chance: float | None) -> None:
    labels = [(0.8, ".8"), (0.9, ".9")] + ([(chance, f"random: {chance:.3f}")] if chance is not None else [])
    for x, text in labels:
        axis.annotate(
            text,
            (x, 1.0),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=REFERENCE,
        )


def _draw_explained(axis: Axes, row: int, score: WorldScore, style: Style) -> None:
    value = score.explained_variance
    if value is None:
        return
    if 0 <= value <= 1:
        draw_point(axis, row, (value, score.lo, score.hi), style)
    else:
        edge, arrow = (0.0, "<") if value < 0 else (1.0, ">")
        axis.plot([edge], [row], color=style.colour, marker=arrow, markersize=7, clip_on=False, zorder=4)
    for coded, marker in ((score.explained_variance_ls, "s"), (score.explained_variance_omp, "o")):
        if coded is not None:
            axis.plot([coded], [row], marker=marker, markersize=5, color=REFERENCE, markerfacecolor="white", zorder=4)
    norm = "" if score.normalised is None else f" ({score.normalised:.2f})"
    axis.annotate(f"{value:.3f}{norm}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def _draw_range(axis: Axes, explained: dict[str, float | None]) -> None:
    ends = [(name, explained.get(f"@{name}")) for name in ("chance", "oracle")]
    known = [(name, x) for name, x in ends if x is not None]
    if len(known) == 2:
        axis.axvspan(*sorted(x for _, x in known), color="#0072B2", alpha=0.07, linewidth=0)
    for (name, x), side in zip(known, ("right", "left"), strict=False):
        axis.axvline(x, color=REFERENCE, linewidth=0.8, linestyle=REFERENCE_LINES[f"@{name}"], zorder=1)
        axis.annotate(
            "random dictionary" if name == "chance" else "true dictionary",
            (x, 1.0),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            va="bottom",
            fontsize=8,
            color=REFERENCE,
        )


def _code_legend(figure: Figure) -> None:
    texts = {"s": "the dictionary with least-squares magnitudes", "o": "the dictionary with matching pursuit"}
    options = {"color": REFERENCE, "markerfacecolor": "white", "linestyle": "", "markersize": 5}
    handles = [Line2D([], [], marker=marker, label=text, **options) for marker, text in texts.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
