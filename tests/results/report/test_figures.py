from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_rows import ARMS, rows

from sae_sanity.results.report.figure_style import COLOURS, style_of
from sae_sanity.results.report.figures import (
    cosine_figure,
    explained_variance_figure,
    recovery_figure,
    save_figures,
)
from sae_sanity.results.synthetic import summarise

NAMES = ["recovery", "cosines", "explained-variance"]


def detail_of(frame, world="variable"):
    return summarise(frame, world=world, n_features=300, d_in=100, true_l0=20.0, chance_mean_cosine=0.348)


@pytest.fixture(scope="module")
def detail():
    return detail_of(rows(n_features=300))


@pytest.fixture(scope="module")
def constant():
    return detail_of(rows(n_features=100, constant=True), "constant")


def texts(figure):
    return {text.get_text() for text in figure.findobj(mpl.text.Text)}


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_files_are_pictures_of_the_formats_asked_for(detail, tmp_path):
    written = save_figures(detail, tmp_path / "new" / "variable")
    assert [p.name for p in written] == [f"variable-{name}.{kind}" for name in NAMES for kind in ("png", "svg")]
    for path in written:
        if path.suffix == ".png":
            image = Image.open(path)
            assert min(image.size) > 500
            assert len(image.convert("RGB").getcolors(10**7)) > 20
        else:
            assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in written)


def test_same_detail_same_bytes(constant, tmp_path):
    first, second = (save_figures(constant, tmp_path / name / "w") for name in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_an_unknown_format_writes_nothing(detail, tmp_path):
    with pytest.raises(ValueError, match="no such image format: gif2"):
        save_figures(detail, tmp_path / "deep" / "w", formats=("png", "gif2"))
    assert not (tmp_path / "deep").exists()


def test_recovery_draws_every_curve_with_its_interval(detail):
    figure = recovery_figure(detail)
    upper = figure.axes[:2]
    for axis, curves in zip(upper, (detail.curves, detail.matched_curves), strict=True):
        assert axis.get_xscale() == "log"
        drawn = lines(axis)
        assert list(drawn) == [curve.arm for curve in curves]
        for curve in curves:
            assert drawn[curve.arm].get_ydata() == pytest.approx([one.value for one in curve.bins])
            assert all(b.low < x < b.high for b, x in zip(curve.bins, drawn[curve.arm].get_xdata(), strict=True))
    bands = upper[0].collections
    assert len(bands) == len([curve for curve in detail.curves if not curve.arm.startswith("@")])
    trained = bands[0].get_paths()[0].vertices
    assert trained[:, 1].max() == pytest.approx(min(max(b.hi for b in detail.curves[0].bins), 1.0))
    assert {"true features recovered", "firing rate of the true feature (share of samples)"} <= texts(figure)


def test_recovery_in_a_constant_world_writes_the_shares(constant):
    figure = recovery_figure(constant)
    assert figure.axes[0].get_xscale() == "linear"
    assert {"100 %", *(curve.arm for curve in constant.curves)} <= texts(figure)


def test_cosines_show_the_histogram_of_each_arm_and_chance_behind(detail):
    figure = cosine_figure(detail)
    assert len(figure.axes) == len(detail.histograms)
    steps = figure.axes[0].findobj(mpl.patches.StepPatch)
    values = [step.get_data().values for step in steps]
    chance = next(one for one in detail.histograms if one.arm == "@chance")
    assert values[0] == pytest.approx(chance.shares)
    assert values[-1] == pytest.approx(detail.histograms[0].shares)
    assert "random: 0.348" in texts(figure)


def test_explained_variance_is_on_its_real_scale(detail):
    figure = explained_variance_figure(detail)
    (axis,) = figure.axes
    assert axis.get_xlim() == (0, 1)
    assert [label.get_text() for label in axis.get_yticklabels()] == [s.arm for s in reversed(detail.scores)]
    drawn = [tuple(line.get_xdata()) for line in axis.get_lines()]
    trained = next(score for score in detail.scores if score.arm == "trained")
    assert (trained.explained_variance,) in drawn
    assert (trained.lo, trained.hi) in drawn
    assert f"{trained.explained_variance:.3f} ({trained.normalised:.2f})" in texts(figure)
    oracle = next(score for score in detail.scores if score.arm == "@oracle")
    assert (oracle.explained_variance_omp,) in drawn


def test_what_is_not_there_is_not_drawn(detail, tmp_path):
    bare = detail.model_copy(update={"curves": (), "matched_curves": (), "histograms": ()})
    assert [p.name for p in save_figures(bare, tmp_path / "w", formats=("svg",))] == ["w-explained-variance.svg"]
    assert save_figures(bare.model_copy(update={"scores": ()}), tmp_path / "w") == []


@pytest.mark.parametrize("worlds", [1, 2])
def test_few_worlds_and_few_arms(worlds, tmp_path):
    two = {name: ARMS[name] for name in ("trained", "random")}
    assert len(save_figures(detail_of(rows(n_features=120, worlds=worlds, arms=two)), tmp_path / "w")) == 6


def test_names_are_literal(detail):
    odd = detail.model_copy(
        update={"scores": tuple(s.model_copy(update={"arm": "a$x^{$\x1b"}) for s in detail.scores[:1])}
    )
    figure = explained_variance_figure(odd)
    figure.savefig(io.BytesIO(), format="png")
    assert r"a\$x^{\$\x1b" in texts(figure)


def test_every_arm_can_be_told_from_every_other():
    many = [f"arm{i}" for i in range(2 * len(COLOURS))] + ["@oracle", "@chance"]
    styles = [style_of(arm, many) for arm in many]
    assert len(set(styles)) == len(many)


def test_colours_are_apart_for_the_colour_blind():
    """Red-green blindness by the matrices of Viénot, Brettel and Mollon (1999), distances in CIE Lab."""
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS[:6]])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    for seen in (linear, linear @ protan.T, linear @ deutan.T):
        lab = lab_of(np.clip(seen, 0, 1))
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
        assert gaps.min() > 10


def lab_of(linear):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def test_no_global_state_and_no_window(tmp_path, constant):
    before = dict(mpl.rcParams)
    save_figures(constant, tmp_path / "w", formats=("png",))
    assert dict(mpl.rcParams) == before
    code = "import sys, sae_sanity.results.report.figures as f; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_report_on_a_terminal_does_not_load_matplotlib():
    code = "import sys, sae_sanity.results.report; assert 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
