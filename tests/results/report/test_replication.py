"""A replication in the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sae_sanity.results.replication import (
    ArmLine,
    CurvePoint,
    Replication,
    VerdictLine,
    compare_with,
    published_numbers,
)
from sae_sanity.results.report.replication import render

KNOWN = {
    "explained_variance": 0.7,
    "recovered": 0.25,
    "recovered_sd": 0.01,
    "matched_cosine": 0.5,
    "weighted_recovery": 0.75,
    "l0": 20.04,
    "dead_share": 0.125,
    "firing_f1": 0.4,
    "explained_variance_ls": 0.8,
    "explained_variance_omp": 0.9,
}


def arm(world, architecture, name, **changes):
    return ArmLine(world=world, architecture=architecture, arm=name, n_worlds=3, **(KNOWN | changes))


def point(world, architecture, samples, recovered, name="trained"):
    fields = {"world": world, "architecture": architecture, "arm": name, "samples": samples}
    return CurvePoint(**fields, recovered=recovered, by_world=(recovered, recovered))


def verdict(world, architecture, baseline, **changes):
    fields = {"required": False, "difference": 0.125, "lo": 0.1, "hi": 0.15, "verdict": "BEATS", "suite": "BEATS"}
    return VerdictLine(world=world, architecture=architecture, baseline=baseline, **(fields | changes))


def replication(preset="paper", same_size=True, **changes):
    numbers = published_numbers()
    ours = [[0.67, 0.68], [0.5, 0.52], [], *([[n.value, n.value + 1e-3] for n in numbers[3:]])]
    lines = [compare_with(n, v, n_features=3200, same_size=same_size) for n, v in zip(numbers, ours, strict=True)]
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
    verdicts = (
        verdict("constant", "matryoshka_batchtopk", "frozen_encoder", required=True),
        verdict("constant", "matryoshka_batchtopk", "random", lo=None, hi=None, verdict="INCONCLUSIVE"),
        verdict("variable", "topk", "random", difference=None, lo=None, hi=None, verdict="INVALID"),
    )
    fields = {"paper": "some-paper", "preset": preset, "published_size": same_size, "lines": tuple(lines)}
    return Replication(**(fields | {"arms": arms, "verdicts": verdicts, "curves": curves, "manifests": {}} | changes))


def text_of(found, width=120):
    stream = io.StringIO()
    render(found, Console(file=stream, width=width))
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def row(text, *cells):
    """The one line that holds these cells one after another."""
    pattern = r"(?<!\w)" + r"\s{2,}".join(re.escape(cell) for cell in cells)
    (line,) = [line for line in text.splitlines() if re.search(pattern, line)]
    return line


def in_world(text, world):
    """The rows of the first table that are about one kind of world."""
    return text.split(f"{world} worlds\n")[1].split("\n\n")[0]


def test_every_published_number_is_a_row_with_its_verdict():
    found = replication()
    text = text_of(found)
    met = sum(line.verdict == "PASS" for line in found.lines)
    assert f"some-paper (preset paper): {met} of 11 published numbers met" in text
    assert "neither met nor missed" not in text
    first = row(in_world(text, "constant"), "batchtopk", "EV", "about .67")
    assert re.search(r"0\.6750\s+\.6700 to \.6800\s+\.6500 to \.6900\s+PASS$", first)
    assert row(in_world(text, "constant"), "jumprelu", "EV").endswith("DIFFERS")
    assert re.search(r"3 of 3200\s+–\s+–\s+–\s+NOT RUN$", row(in_world(text, "constant"), "batchtopk", "cos > .8"))
    for line in found.lines:
        number = line.published
        metric = {"explained_variance": "EV", "recovered_0.8": "cos > .8"}[number.metric]
        assert row(in_world(text, number.world), number.architecture, metric, number.reported).endswith(line.verdict)


def test_a_smaller_world_says_so():
    text = text_of(replication("small", same_size=False))
    assert "some-paper (preset small): not of the paper's size" in text
    assert "can be neither met nor missed here" in text
    assert row(in_world(text, "constant"), "batchtopk", "EV", "about .67").endswith("OTHER SIZE")
    assert "PASS" not in text
    assert "DIFFERS" not in text


def test_every_comparison_is_a_row_with_its_interval():
    text = text_of(replication())
    assert text.count("constant · matryoshka_batchtopk") == 1
    assert row(text, "* frozen_encoder", "+0.125 [+0.100, +0.150]", "BEATS")
    assert row(text, "random", "+0.125", "INCONCLUSIVE")
    assert row(text, "random", "–", "INVALID")


def test_every_arm_is_a_row_and_what_is_not_known_a_dash():
    text = text_of(replication())
    table = text.split("every arm, mean over")[1]
    table = table.split("constant · topk")[1].split("variable · topk")[0]
    assert row(table, "trained", "0.7000", "0.2500", "0.0100", "0.7500", "0.5000", "20.0", "12.5%")
    assert row(table, "random", "0.7000", "0.2500", "–", "0.7500", "0.5000", "–", "–")


def test_the_curve_is_that_of_the_trained_arm():
    text = text_of(replication())
    constant, variable = re.split(r"by\s+trained\s+in\s+variable", re.split(r"by\s+trained\s+in\s+constant", text)[1])
    assert row(constant, "1,000", "0.0100")
    assert row(constant, "200,000", "0.5000")
    assert row(variable, "1,000", "0.0200")
    assert "0.9900" not in text
    assert "recovered" not in text_of(replication(curves=()))


@pytest.mark.parametrize("width", [100, 200])
def test_it_fits_the_terminal_and_cuts_nothing(width):
    text = text_of(replication(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert row(in_world(text, "constant"), "jumprelu", "EV").endswith("DIFFERS")
    assert row(in_world(text, "constant"), "batchtopk", "cos > .8").endswith("NOT RUN")


def test_json_and_back():
    found = replication()
    assert Replication.model_validate_json(found.model_dump_json()) == found
