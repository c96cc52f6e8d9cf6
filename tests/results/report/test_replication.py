"""A replication in the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sae_sanity.results.replication import ArmLine, CurvePoint, Replication, compare_with, published_numbers
from sae_sanity.results.report.replication import render

KNOWN = {
    "explained_variance": 0.7,
    "recovered": 0.25,
    "recovered_sd": 0.01,
    "matched_cosine": 0.5,
    "weighted_recovery": 0.75,
    "l0": 20.04,
    "dead_share": 0.125,
}


def arm(world, architecture, name, **changes):
    return ArmLine(world=world, architecture=architecture, arm=name, n_worlds=3, **(KNOWN | changes))


def point(world, architecture, samples, recovered, name="trained"):
    fields = {"world": world, "architecture": architecture, "arm": name, "samples": samples}
    return CurvePoint(**fields, recovered=recovered, by_world=(recovered, recovered))


def replication(preset="paper", **changes):
    numbers = published_numbers()
    ours = [[0.67, 0.68], [0.5, 0.52], [], *([[n.value, n.value + 1e-3] for n in numbers[3:]])]
    lines = [compare_with(n, v, n_features=3200) for n, v in zip(numbers, ours, strict=True)]
    arms = (
        arm("constant", "topk", "trained"),
        arm("constant", "topk", "random", recovered_sd=None, l0=None, dead_share=None),
        arm("variable", "topk", "trained"),
    )
    curves = (
        point("constant", "topk", 1000, 0.01),
        point("constant", "topk", 200_000, 0.5),
        point("variable", "topk", 1000, 0.02),
        point("variable", "topk", 1000, 0.99, "soft_frozen@0.8"),
    )
    fields = {"paper": "some-paper", "preset": preset, "lines": tuple(lines), "arms": arms, "curves": curves}
    return Replication(**(fields | {"versions": {}, "settings": {}} | changes))


def text_of(found, width=120):
    stream = io.StringIO()
    render(found, Console(file=stream, width=width))
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def row(text, *cells):
    """The one line that holds these cells one after another."""
    pattern = r"\s{2,}".join(re.escape(cell) for cell in cells)
    (line,) = [line for line in text.splitlines() if re.search(pattern, line)]
    return line


def test_every_published_number_is_a_row_with_its_verdict():
    found = replication()
    text = text_of(found)
    met = sum(line.verdict == "PASS" for line in found.lines)
    assert f"some-paper (preset paper): {met} of 11 published numbers met" in text
    assert "smaller world" not in text
    first = row(text, "constant", "batchtopk", "EV", "about .67")
    assert re.search(r"0\.6750\s+\.6700 to \.6800\s+\.6500 to \.6900\s+PASS$", first)
    assert row(text, "constant", "jumprelu", "EV").endswith("DIFFERS")
    assert re.search(r"3 of 3200\s+–\s+–\s+–\s+NOT RUN$", row(text, "constant", "batchtopk", "cos > .8"))
    for line in found.lines:
        number = line.published
        metric = {"explained_variance": "EV", "recovered_0.8": "cos > .8"}[number.metric]
        assert row(text, number.world, number.architecture, metric, number.reported).endswith(line.verdict)


def test_a_smaller_world_says_so():
    assert "This preset is a smaller world than the paper's" in text_of(replication("small"))


def test_every_arm_is_a_row_and_what_is_not_known_a_dash():
    text = text_of(replication())
    assert row(text, "constant", "topk", "trained", "0.7000", "0.2500", "0.0100", "0.7500", "0.5000", "20.0", "12.5%")
    dashed = row(text, "random", "0.7000", "0.2500", "–", "0.7500", "0.5000", "–", "–")
    assert "topk" not in dashed  # the place is said once
    assert row(text, "variable", "topk", "trained", "0.7000")


def test_the_curve_is_that_of_the_trained_arm():
    text = text_of(replication())
    assert "recovered (cos > .8) by trained, after samples" in " ".join(text.split())
    assert row(text, "1,000", "0.0100", "0.0200")
    assert row(text, "200,000", "0.5000", "–")
    assert "0.9900" not in text
    assert "after samples" not in text_of(replication(curves=()))


@pytest.mark.parametrize("width", [100, 200])
def test_it_fits_the_terminal_and_cuts_nothing(width):
    text = text_of(replication(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert row(text, "constant", "jumprelu", "EV").endswith("DIFFERS")
    assert row(text, "constant", "batchtopk", "cos > .8").endswith("NOT RUN")


def test_json_and_back():
    found = replication()
    assert Replication.model_validate_json(found.model_dump_json()) == found
