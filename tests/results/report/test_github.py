from __future__ import annotations

import re

import pytest
from gate_reports import kinds, report, since, suite

from sae_sanity.results.decision import Decision
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.report.github import annotation, to_github

REPORTS = kinds()


def runner(text):
    """What GitHub's runner makes of lines: (command, properties, message), as its documentation describes them."""

    def value(escaped, codes):
        for code, sign in (*codes, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            escaped = escaped.replace(code, sign)
        return escaped

    found = []
    for line in text.split("\n")[:-1]:
        command, properties, message = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line).groups()
        pairs = dict(one.split("=", 1) for one in properties.split(","))
        more = (("%3A", ":"), ("%2C", ","))
        found.append((command, {name: value(v, more) for name, v in pairs.items()}, value(message, ())))
    return found


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("pass", ["notice", "notice"]),
        ("fail", ["error", "notice", "error"]),
        ("inconclusive", ["error", "notice", "error"]),
        ("inconclusive, warn", ["warning", "notice", "warning"]),
        ("invalid, warn", ["warning", "notice", "warning"]),
        ("worse", ["error", "notice", "error"]),
        ("departed", ["error", "notice"]),
        ("no vote", ["warning", "notice", "notice"]),
        ("nothing", ["error"]),
    ],
)
def test_the_verdict_comes_first_and_the_level_is_the_decision(kind, levels):
    found = runner(to_github(REPORTS[kind]))
    assert [command for command, _, _ in found] == levels
    assert found[0][1] == {"title": f"sae-sanity: {REPORTS[kind].verdict}"}
    assert found[0][2].splitlines()[0] == REPORTS[kind].headline
    assert found[0][2].endswith(f"Exit code {REPORTS[kind].exit_code}.")


def test_a_suite_that_could_not_tell_says_so_before_its_figures():
    lines = runner(to_github(REPORTS["invalid"]))[2][2].splitlines()
    assert lines[0].startswith("gate: range failed: ")
    assert lines[1].startswith("random: INVALID: ")
    assert lines[-1].startswith("frozen_encoder@iso: INVALID: ")


@pytest.mark.parametrize("name", ["a\n::error::b", "100%", "a::b", "x,title=y", "\r\n::add-mask::z", "%0A::c", "\x85 "])
def test_no_name_can_start_a_command_or_end_a_property(name):
    one = suite("good").model_copy(update={"subject": name})
    found = runner(to_github(report(one).model_copy(update={"headline": name})))
    assert [command for command, _, _ in found] == ["notice", "notice"]
    assert set(found[1][1]) == {"title"}
    for sign in ("\n", "\r"):
        assert sign not in found[1][1]["title"]
    assert "%0A" not in name or name in found[0][2]


def test_against_the_documented_example():
    assert annotation("error", "Missing: a, b", ["one", "two 5%"]) == (
        "::error title=Missing%3A a%2C b::one%0Atwo 5%25"
    )


@pytest.mark.parametrize(("verdict", "level"), [("INVALID", "error"), ("WORSE", "error"), ("BEATS", "notice")])
def test_what_was_not_shown_against_an_earlier_run_has_the_level_of_the_decision(verdict, level):
    found = since(suite("good"))
    (pair,) = found.comparisons
    one = pair.comparison.model_copy(update={"verdict": Verdict(verdict)})
    pairs = (pair.model_copy(update={"comparison": one}),)
    whole = report(suite("good"), since=found.model_copy(update={"comparisons": pairs}))
    stopped = whole.model_copy(update={"decision": Decision(action="fail")})
    (line,) = [each for each in to_github(stopped).splitlines() if "minus the last release" in each]
    assert line.startswith(f"::{level} ")
