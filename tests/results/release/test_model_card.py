"""The block of a model card, read back by huggingface_hub's own parser."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from huggingface_hub import ModelCard, ModelCardData, metadata_load

from sae_sanity.results.decision import Decision, RunComparison
from sae_sanity.results.outcome import Skip
from sae_sanity.results.release.model_card import BEGIN, CLAIMS, END, STOPPED, TASK, block, eval_results, with_block

CARD = """\
---
license: mit
tags:
- sae
model-index:
- name: mine
  results:
  - task:
      type: text-generation
    dataset:
      name: other
      type: other
    metrics:
    - type: accuracy
      value: 0.5
---
# My SAE

Text with  odd   spaces, `code`, <b>html</b> and a table:

| a | b |
|---|---|
| 1 | 2 |
"""


def body(card):
    return card.split("---\n", 2)[2]


def test_a_new_card_is_read_back_by_the_hubs_parser(make, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(with_block("", make.report()))
    card = ModelCard.load(path)
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_type, result.metric_value) == (TASK, "sae-sanity/reconstruction", 0.75)
    assert "BEATS" in result.metric_name
    assert metadata_load(path)["model-index"][0]["name"] == card.data.model_name == "my-sae"
    assert card.text.strip().startswith(BEGIN)
    assert card.text.strip().endswith(END)


def test_an_existing_card_keeps_its_text_and_metadata(make):
    made = with_block(CARD, make.report())
    assert body(made).startswith(body(CARD))
    data = ModelCard(made).data
    assert (data.license, data.tags, data.model_name) == ("mit", ["sae"], "mine")
    assert [one.task_type for one in data.eval_results] == ["text-generation", TASK]


def test_a_second_time_replaces_the_first(make):
    once = with_block(CARD, make.report())
    assert with_block(once, make.report()) == once
    after = once + "\nMore text below.\n"
    again = with_block(after, make.report("FAIL", make.suite(verdict="EQUIVALENT", score=0.4)))
    assert again.count(BEGIN) == again.count(END) == 1
    assert again.endswith(f"{END}\n\nMore text below.\n")
    assert CLAIMS["FAIL"] in again
    assert CLAIMS["PASS"] not in again
    assert [one.metric_value for one in ModelCard(again).data.eval_results if one.task_type == TASK] == [0.4]


@pytest.mark.parametrize("verdict", CLAIMS)
def test_the_claim_is_that_of_the_verdict_and_of_no_other(make, verdict):
    made = block(make.report(verdict))
    assert f"**{verdict}.**" in made
    assert [claim for claim in CLAIMS.values() if claim in made] == [CLAIMS[verdict]]


def test_a_suite_without_a_working_assay_shows_no_figure(make):
    found = make.report("INVALID", make.suite(verdict="INVALID", score=0.987), make.suite("sparse_probing"))
    assert [one.dataset_type for one in eval_results(found)] == ["sae-sanity/sparse_probing"]
    assert "0.987" not in block(found)
    assert "| reconstruction | INVALID | explained\\_variance | – | – | – |" in block(found)


def test_results_of_an_earlier_verdict_go_where_nothing_is_left_to_say(make):
    before = with_block(CARD, make.report())
    after = with_block(before, make.report("INVALID", make.suite(verdict="INVALID")))
    assert [one.task_type for one in ModelCard(after).data.eval_results] == ["text-generation"]
    alone = with_block(with_block("", make.report()), make.report("INVALID", make.suite(verdict="INVALID")))
    assert TASK not in alone.split(BEGIN)[0].replace("name: my-sae", "")


def test_a_card_without_metadata_gets_none_for_an_invalid_check(make):
    made = with_block("# Mine\n", make.report("INVALID", make.suite(verdict="INVALID")))
    assert made.startswith("# Mine\n\n" + BEGIN)


def test_a_pass_that_the_policy_stops_says_so_beside_the_word(make):
    reasons = ("worse than v1 in reconstruction",)
    made = block(make.report(decision=Decision(action="fail", reasons=reasons), exit_code=1))
    assert "**PASS.**" not in made
    assert f"**PASS, but stopped by the policy.** {CLAIMS['PASS']} {STOPPED}\n" in made
    assert "- policy: worse than v1 in reconstruction\n" in made
    warned = block(make.report(decision=Decision(action="warn", reasons=reasons)))
    assert f"**PASS.** {CLAIMS['PASS']}\n" in warned


def test_the_deciding_comparison_is_the_one_of_the_report(make):
    """Not the smallest difference: that one can have the verdict of no concern, or the narrower interval."""
    beaten = make.comparison("random", 0.03)
    wide = make.comparison("frozen_encoder@iso", 0.05)
    wide = wide.model_copy(update={"estimate": wide.estimate.model_copy(update={"lo": 0.001, "hi": 0.099})})
    assert "| frozen\\_encoder@iso | +0.050 \\[+0.001, +0.099\\] |" in block(
        make.report("PASS", make.suite(comparisons=(beaten, wide)))
    )
    unsure = make.comparison("frozen_decoder@iso", 0.06, "INCONCLUSIVE")
    found = make.suite(verdict="INCONCLUSIVE", comparisons=(beaten, unsure))
    assert "| frozen\\_decoder@iso | +0.060 " in block(make.report("INCONCLUSIVE", found))


def test_the_baseline_that_decides_is_shown(make):
    parts = (
        make.comparison("random", 0.6),
        make.comparison("frozen_encoder@iso", 0.03),
        make.comparison("soft_frozen@0.8", -0.2, "WORSE", required=False),
    )
    made = block(make.report("PASS", make.suite(comparisons=parts)))
    assert "| frozen\\_encoder@iso | +0.030 \\[+0.020, +0.040\\] |" in made


def test_several_saes_have_an_entry_each(make):
    suites = [make.suite(subject=name) for name in ("layer_0", "layer_1")]
    data = ModelCard(with_block("", make.report("PASS", *suites))).data
    assert [one.dataset_config for one in data.eval_results] == ["layer_0", "layer_1"]


def test_what_was_skipped_is_said_and_no_folder_of_this_machine(make):
    found = make.report(skipped=(Skip(what="autointerp", reason="no judge was given"),))
    made = block(found)
    assert "- not measured: autointerp: no judge was given" in made
    assert "/home/me" not in made
    assert "    sae-sanity check demo --profile demo\n" in made


@pytest.mark.parametrize(
    "name", [BEGIN, END, "<img src=x onerror=alert(1)>", "a | b", "[x](javascript:alert(1))", "a\nb\x1b[0m"]
)
def test_hostile_names_stay_text(make, name):
    found = make.report().model_copy(update={"target": name, "headline": f"{name} beats random."})
    made = with_block(CARD, found)
    assert with_block(made, found) == made
    text = body(made).split(BEGIN)[1]
    assert text.count(END) == 1
    assert not re.search(r"(?<!\\)\]\(java", text)
    for raw in ("<img", "a | b beats", "\x1b"):
        assert raw not in text


@pytest.mark.parametrize("name", [END, BEGIN, f"'{END}' and `b", "<!-- <!--"])
def test_a_hostile_command_cannot_end_the_block_and_still_is_that_command(make, name):
    words = ["sae-sanity", "check", name, "--profile", "demo"]
    manifest = make.report().manifest.model_copy(update={"command": shlex.join([*words, "--results", "/r"])})
    found = make.report().model_copy(update={"target": name, "manifest": manifest})
    once = with_block(CARD, found)
    assert with_block(with_block(once, found), found) == once
    assert once.count(END) == once.count(BEGIN) == 1
    (line,) = [line for line in block(found).splitlines() if line.startswith("    sae-sanity")]
    # A shell reads it as it was.
    assert subprocess.check_output(["/bin/sh", "-c", f"printf '%s\\n' {line}"], text=True).splitlines() == words


def test_no_path_of_this_machine_is_published(make):
    place = "/home/me/saes/layer-3"
    command = f"sae-sanity check {place} --model /home/me/llm --set texts=/data/a,/data/b --results /home/me/r"
    found = make.report(
        target=place,
        headline=f"{place} beats every required random baseline.",
        skipped=(Skip(what="autointerp", reason=f"{place}/cfg.json names no model"),),
        manifest=make.report().manifest.model_copy(update={"command": command}),
        since=RunComparison(ours="/home/me/r", theirs="/home/me/old/v1", comparisons=()),
        decision=Decision(action="fail", reasons=("worse than /home/me/old/v1 in reconstruction",)),
    )
    made = with_block("", found)
    assert not re.search("/home|/data", made)
    assert ModelCard(made).data.model_name == "layer-3"
    assert "\nlayer-3 beats every required random baseline.\n" in made
    assert "layer-3/cfg.json names no model" in made
    assert "- policy: worse than v1 in reconstruction\n" in made
    assert "    sae-sanity check layer-3 --model llm --set texts=a,b\n" in made


def test_windows_line_ends_stay(make):
    made = with_block(CARD.replace("\n", "\r\n"), make.report())
    assert "\n" not in made.replace("\r\n", "")
    assert with_block(made, make.report()) == made


@pytest.mark.parametrize(
    ("card", "what"),
    [
        (f"text {BEGIN} text", "once each"),
        (f"{END} text {BEGIN}", "stands before"),
        ("---\nmodel-index:\n- name: a\n- name: b\n---\n", "2 models"),
        ("---\na: [\n---\n", "cannot be read"),
        ("---\n- a\n---\n", "cannot be read"),
    ],
)
def test_a_card_that_cannot_be_read_is_refused(make, card, what):
    with pytest.raises(ValueError, match=what):
        with_block(card, make.report())


def test_what_we_write_is_what_the_hub_would_write(make):
    """The metadata is that of huggingface_hub's own classes, built without us."""
    expected = ModelCardData(model_name="my-sae", eval_results=eval_results(make.report()))
    assert ModelCard(with_block("", make.report())).data.to_dict() == expected.to_dict()
