"""`report` judges by the policy of the command or its folder, not by what the results folder says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_site import TINY

from sae_sanity.harness.cli import main
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.policies import Ruling, ruling
from sae_sanity.harness.preregister import status_in, write_lock
from sae_sanity.harness.record import Several, load_record, report_of, save_record, save_several
from sae_sanity.harness.show_plan import register
from sae_sanity.results.outcome import Skip
from sae_sanity.results.policy import UNMET, Policy
from sae_sanity.results.report import from_json


def stored(folder, policy=None, **of_suite):
    """A run that was made with a policy of its own, or whose record somebody has made to look so."""
    record = load_record(folder)
    (suite,) = record.design.suites
    design = replace(record.design, suites=(replace(suite, **of_suite),), policy=policy or Policy())
    save_record(folder, replace(record, design=design))


def reported(capsys, folder, *words):
    code = main(["report", str(folder), "--json", *words])
    out, err = capsys.readouterr()
    return code, from_json(out) if out else None, err


def test_what_follows_from_a_verdict_is_not_for_the_results_folder_to_say(finished, capsys):
    report, folder = finished
    lax = Policy(on_inconclusive="warn", on_invalid="warn")
    stored(folder, lax, controls=(), ceiling="nothing")
    code, before, _ = reported(capsys, folder)
    assert (code, before.decision.action) == (4, "warn")
    Path("sae-sanity.toml").write_text("[policy]\nseeds = 2\n")
    code, after, _ = reported(capsys, folder)
    assert (code, after.decision.action) == (4, "fail")
    note = "judged by the policy of sae-sanity.toml, which is not the one that the run was made with"
    assert after.manifest.notes == (*report.manifest.notes, note)
    assert load_record(folder).design.policy == lax  # reading writes nothing


def test_which_suites_vote_is_not_either(finished, capsys):
    report, folder = finished
    stored(folder, Policy(suites=("sparse_probing",)), votes=False)
    _, before, _ = reported(capsys, folder)
    assert not before.suites[0].votes
    Path("sae-sanity.toml").write_text('[policy]\nsuites = ["reconstruction"]\n')
    code, after, _ = reported(capsys, folder)
    assert (code, after.verdict, after.suites[0].votes) == (report.exit_code, report.verdict, True)


def test_a_policy_that_is_the_run_s_own_changes_nothing(finished, capsys):
    report, folder = finished
    Path("sae-sanity.toml").write_text('[policy]\non_invalid = "fail"\n')
    assert reported(capsys, folder)[1] == report
    Path("sae-sanity.toml").write_text("seeds = 2\n")
    assert reported(capsys, folder)[1] == report


def test_a_named_file_rules_with_or_without_a_policy(finished, capsys):
    report, folder = finished
    stored(folder, Policy(on_inconclusive="warn", on_invalid="warn"), ceiling="nothing")
    for content in ("", '[policy]\non_inconclusive = "warn"\n'):
        Path("gate.toml").write_text(content)
        assert reported(capsys, folder, "--config", "gate.toml")[1].decision.action == "fail"
    Path("sae-sanity.toml").write_text("[policy]\n")
    changed = reported(
        capsys, folder, "--config", "gate.toml", "--set", "policy.on-invalid=warn", "--set", "policy.seeds=2"
    )[1]
    assert changed.decision.action == "warn"
    assert "judged by the policy of gate.toml and --set" in changed.manifest.notes[-1]
    assert changed.verdict != report.verdict


def test_one_field_of_the_run_s_own_policy_is_changed_where_no_file_rules(finished, capsys):
    _, folder = finished
    stored(folder, Policy(on_invalid="warn", lock="/nowhere/plan.json"), ceiling="nothing")
    rules = ruling(folder, None, {"policy.require_lock": "true"})
    assert rules.policy == Policy(on_invalid="warn", require_lock=True)
    code, found, _ = reported(capsys, folder, "--set", "policy.require_lock=true")
    assert (code, found.decision.action) == (4, "fail")
    assert "no plan was registered before the run" in found.decision.reasons


def test_the_environment_has_no_say(finished, monkeypatch, capsys):
    report, folder = finished
    monkeypatch.setenv("SAE_SANITY_POLICY.ON_INVALID", "warn")
    assert reported(capsys, folder)[1] == report


def test_margins_are_those_of_the_policy_that_rules(finished, capsys):
    report, folder = finished
    stored(folder, Policy(margins={"reconstruction": 0.3}), margin=0.3)
    assert reported(capsys, folder)[1].suites[0].comparisons[0].margin == 0.3
    Path("sae-sanity.toml").write_text("[policy]\n")
    after = reported(capsys, folder)[1]
    assert after.suites == report.suites  # the suite's own margin again
    Path("sae-sanity.toml").write_text("[policy.margins]\nreconstruction = 0.07\n")
    assert reported(capsys, folder)[1].suites[0].comparisons[0].margin == 0.07


def test_an_arm_that_was_only_shown_has_to_be_beaten_where_the_policy_says_so(finished, capsys):
    _, folder = finished
    stored(folder, required=("random",), shown=("frozen_decoder@iso",))
    Path("sae-sanity.toml").write_text('[policy]\nbaselines = ["frozen_decoder"]\n')
    found = reported(capsys, folder)[1]
    required = [c.baseline for c in found.suites[0].comparisons if c.required]
    assert required == ["random", "frozen_decoder@iso"]


def test_an_arm_that_one_of_the_suites_did_not_measure_is_not_taken_as_beaten_there(finished):
    _, folder = finished
    record = load_record(folder)
    (suite,) = record.design.suites
    spared = replace(suite, suite="other", required=("random",), shown=())
    save_record(folder, replace(record, design=replace(record.design, suites=(suite, spared))))
    asked = Policy(baselines=("frozen_decoder",))
    with pytest.raises(UsageError, match=r"requires 'frozen_decoder@iso', which other did not measure in this run"):
        Ruling(asked, "x").over(load_record(folder))
    votes = asked.model_copy(update={"suites": (suite.suite,)})
    assert Ruling(votes, "x").over(load_record(folder)).design.suites[0].required


def test_a_baseline_that_does_not_exist_for_the_architecture_is_said(finished):
    _, folder = finished
    record = load_record(folder)
    save_record(folder, replace(record, skipped=(Skip(what="frozen_decoder@cov", reason="no decoder"),)))
    found = report_of(folder, rules=Ruling(Policy(baselines=("frozen_decoder@cov",)), "x"))
    assert f"frozen_decoder@cov: {UNMET}" in found.decision.reasons
    assert Skip(what="frozen_decoder@cov", reason=UNMET) in found.skipped


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('suites = ["sparse_probing"]', "policy.suites requires 'sparse_probing', which is not among the suites of th"),
        (
            'baselines = ["frozen_decoder@cov"]',
            "policy.baselines requires 'frozen_decoder@cov', which is not among the arms",
        ),
        ('baselines = ["nonsense"]', "policy.baselines: "),
        ("seeds = 7", "seeds of this run is 2, but policy.seeds asks for at least 7"),
        ("random_seeds = 7", "random_seeds of this run is 3, but policy.random_seeds asks for at least 7"),
        ('lock = "none.json"', "registered plan none.json cannot be read"),
        ("nothing = 1", "no such setting: 'policy.nothing'"),
    ],
)
def test_a_policy_that_the_run_cannot_meet_is_one_line(finished, capsys, content, message):
    _, folder = finished
    Path("sae-sanity.toml").write_text(f"[policy]\n{content}\n")
    code, found, err = reported(capsys, folder)
    assert (code, found) == (2, None)
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("word", ["seeds=3", "policy=x", "nonsense", "policy.nothing=1"])
def test_only_the_policy_of_a_finished_run_can_be_changed(finished, capsys, word):
    _, folder = finished
    code, _, err = reported(capsys, folder, "--set", word)
    assert code == 2
    assert len(err.splitlines()) == 1


def test_the_plan_that_the_policy_names_is_held_against_what_is_judged(finished, capsys):
    _, folder = finished
    write_lock(Path("plan.json"), register(resolve(TINY | {"seeds": 3}, environ={})))
    Path("sae-sanity.toml").write_text('[policy]\nlock = "plan.json"\nrequire_lock = true\n')
    _, found, _ = reported(capsys, folder)
    assert found.decision.action == "fail"
    assert "seeds: registered 3, run with 2" in found.lock.departures
    write_lock(Path("good.json"), register(resolve(TINY, environ={})))
    words = ("--lock", "good.json", "--set", "policy.margins.reconstruction=0.5")
    assert reported(capsys, folder, *words)[1].lock.departures == (
        "reconstruction: margin registered 0.02, judged with 0.5",
    )


def test_a_plan_that_the_run_was_held_against_says_what_another_policy_changes(finished, tmp_path):
    report, folder = finished
    plan = register(resolve(TINY, environ={})).model_copy(update={"sha256": "x"})
    record = replace(load_record(folder), lock=status_in(plan, folder))
    save_record(folder, record)
    rules = Ruling(Policy(margins={"reconstruction": 0.5}), "x")
    line = "reconstruction: margin was 0.02 in the run, judged with 0.5"
    assert report_of(folder, rules=rules).lock.departures == (line,)
    several = Several("tiny", {"a": "results"}, (), report.manifest, lock=record.lock)
    save_several(tmp_path, several)
    found = report_of(tmp_path, rules=rules)
    assert found.lock.departures == (f"a: {line}",)
    assert found.suites[0].comparisons[0].margin == 0.5
    assert "judged by the policy of x" in found.manifest.notes[-1]
    assert ruling(tmp_path, None, {"policy.seeds": "2"}).policy == Policy(seeds=2)
    both = plan.model_copy(update={"saes": {"a": plan.saes[""]}})
    save_several(tmp_path, replace(several, asked=plan.identity))
    assert status_in(both, tmp_path, rules).departures == (
        "a: reconstruction: margin registered 0.02, judged with 0.5",
    )


def test_what_lies_in_no_results_folder_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="holds no finished run"):
        ruling(tmp_path, None, {"policy.seeds": "2"})


def test_old_records_without_settings_are_judged(finished):
    _, folder = finished
    data = json.loads((folder / "run.json").read_text())
    data["manifest"]["settings"] = {}
    (folder / "run.json").write_text(json.dumps(data))
    assert report_of(folder, rules=Ruling(Policy(on_invalid="warn"), "x")).suites
    with pytest.raises(UsageError, match=r"seeds of this run is 1, but policy.seeds asks"):
        report_of(folder, rules=Ruling(Policy(seeds=2), "x"))
