from __future__ import annotations

import re

import pytest
from gate_reports import kinds

from sae_sanity.results.outcome import GateCheck, Verdict
from sae_sanity.results.report import panels
from sae_sanity.results.report.look import Look


def text_of(renderable, console_of, width=100):
    console, text = console_of(width)
    console.print(renderable)
    return "".join(line.rstrip() + "\n" for line in text().splitlines())


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        ((True, True, True, True), "assay could tell (4 of 4 checks passed)"),
        ((True, False, True), "assay could NOT tell (2 of 3 checks passed)"),
        ((), "assay not checked"),
    ],
)
def test_gate_words(make, passed, words):
    checks = tuple(GateCheck(name="range", passed=one, detail="") for one in passed)
    assert panels.gate_words(make.probing().model_copy(update={"gate": checks})) == words


def suite_of(make, verdict, *comparisons):
    return make.probing().model_copy(update={"verdict": Verdict(verdict), "comparisons": comparisons})


def test_deciding_is_the_lowest_interval_of_those_that_share_the_verdict(make):
    wide = make.comparison("wide", "BEATS", make.estimate(0.05, 0.04))
    low = make.comparison("low", "BEATS", make.estimate(0.03, 0.01))
    lost = make.comparison("lost", "WORSE", make.estimate(-0.1, 0.01), required=False)
    unsure = make.comparison("unsure", "INCONCLUSIVE", make.estimate(0.5, 0.6))
    assert panels.deciding(suite_of(make, "BEATS", low, wide, lost)) is wide
    assert panels.deciding(suite_of(make, "INCONCLUSIVE", low, wide, unsure)) is unsure
    assert panels.deciding(suite_of(make, "INVALID", low, wide)) is None
    assert panels.deciding(suite_of(make, "BEATS", lost)) is None
    assert panels.deciding(suite_of(make, "INVALID", make.comparison("b", "INVALID", None))) is None


def test_no_comparison_decides_an_invalid_suite(console_of):
    one = kinds()["invalid"]
    assert [suite.verdict for suite in one.suites] == ["BEATS", "INVALID"]
    text = text_of(panels.verdict_panel(one, Look(140)), console_of, 140)
    assert text.count("decided by") == 1
    assert text.index("decided by") < text.rindex("blind")


def test_deciding_without_an_interval(make):
    seed = make.comparison("seed", "INCONCLUSIVE", make.estimate(-0.01))
    other = make.comparison("other", "INCONCLUSIVE", make.estimate(0.01, 0.015))
    assert panels.deciding(suite_of(make, "INCONCLUSIVE", other, seed)) is seed


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 1), ("INCONCLUSIVE", 3), ("INVALID", 4)])
@pytest.mark.parametrize("claim", ["artefact", "recipe"])
def test_panel_says_verdict_claim_and_code(make, console_of, verdict, code, claim):
    report = make.report(verdict=verdict, exit_code=code, claim=claim, headline="One sentence.")
    text = text_of(panels.verdict_panel(report, Look(140)), console_of, 140)
    assert text.startswith(f"╭─ sae-sanity: {verdict} ─")
    assert f"{verdict}  One sentence." in text
    assert panels.CLAIMS[claim] in text
    assert f"exit code {code}" in text
    assert report.advice[0] in text


def test_panel_without_suites_or_advice(make, console_of):
    text = text_of(panels.verdict_panel(make.report(suites=(), advice=()), Look(100)), console_of)
    assert "No suite was measured." in text
    assert "to change it" not in text


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("pass", ""),
        ("fail", ""),
        ("inconclusive", ""),
        ("invalid", ""),
        ("inconclusive, warn", "warn: the check is INCONCLUSIVE (policy: on_inconclusive = warn)"),
        ("worse", "fail: worse than the last release in good"),
        ("departed", "fail: departed from the registered plan: seeds: registered 5, run with 3"),
        ("no vote", "warn: departed from the registered plan: seeds: registered 5, run with 3"),
    ],
)
def test_a_decision_is_shown_where_it_is_not_simply_the_verdict(console_of, kind, line):
    text = text_of(panels.verdict_panel(kinds()[kind], Look(140)), console_of, 140)
    assert re.findall(r"decision +(.*?) +│", text) == ([line] if line else [])


def test_gate_table_exact(make, console_of):
    checks = (
        GateCheck(name="range", passed=True, detail="31 times the reseed sd"),
        GateCheck(name="[bold]new", passed=False, detail="[red]why"),
    )
    suite = make.probing().model_copy(update={"gate": checks})
    assert text_of(panels.gate_table(suite, Look(100)), console_of) == (
        "sparse_probing: assay could NOT tell (1 of 2 checks passed)\n"
        "pass  range      is the ceiling far enough above the floor? 31 times the reseed sd\n"
        "FAIL  [bold]new  [red]why\n"
    )


def test_bullets_hang(console_of):
    assert text_of(panels.bullets(["[b]one two", "three"], Look(10)), console_of, 10) == "- [b]one\n  two\n- three\n"


def test_manifest_exact(make, console_of):
    assert text_of(panels.manifest_grid(make.report().manifest, Look(100)), console_of) == (
        f"config hash  {'4f' * 32}\n"
        "settings     profile=demo   seeds=3   tau=0.8   architecture=batchtopk   judge=none\n"
        "versions     python 3.11.7   torch 2.6.0   sae-lens 6.54.12   sae-sanity 0.1.0\n"
        "sha256       model abababababababab…   texts cdcdcdcdcdcdcdcd…\n"
        "notes        - position 0 excluded everywhere: 400 tokens\n"
        "             - norm above 10 times the median: 12 tokens dropped\n"
    )


def test_empty_manifest(make, console_of):
    empty = make.report().manifest.model_copy(update={"settings": {}, "versions": {}, "hashes": {}, "notes": ()})
    text = text_of(panels.manifest_grid(empty, Look(100)), console_of)
    assert text.count("none") == 3
    assert "notes" not in text
