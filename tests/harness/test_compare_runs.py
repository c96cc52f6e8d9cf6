"""Two results folders compared: real tiny runs, and records in which one thing differs."""

from __future__ import annotations

import json
import shutil

import pytest
import typer
from tiny_site import TINY
from typer.testing import CliRunner

from sae_sanity.harness import check
from sae_sanity.harness.cli_release import register
from sae_sanity.harness.compare_runs import check_comparable, compare_folders, since
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.progress import Silent
from sae_sanity.results.decision import RunComparison
from sae_sanity.results.outcome import Verdict


@pytest.fixture
def call():
    app = typer.Typer()
    register(app)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def edit(folder, part, **changes):
    """Change one place of a record's manifest; `__` stands for a slash."""
    record = json.loads((folder / "run.json").read_text())
    record["manifest"][part] |= {name.replace("__", "/"): value for name, value in changes.items()}
    (folder / "run.json").write_text(json.dumps(record))


@pytest.fixture
def altered(finished, tmp_path):
    """A copy of the finished run whose record differs in one place of its manifest; both name their data."""
    edit(finished[1], "hashes", site="1" * 64, texts__held_out="2" * 64)

    def make(part, **changes):
        copy = tmp_path / "other"
        shutil.copytree(finished[1], copy)
        edit(copy, part, **changes)
        return copy

    return make


def refused(ours, theirs, **options):
    with pytest.raises(UsageError) as caught:
        compare_folders(ours, theirs, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_against_its_copy_is_the_same(finished, altered):
    found = compare_folders(finished[1], altered("settings"))
    assert [each.suite for each in found.comparisons] == [suite.suite for suite in finished[0].suites]
    assert all(each.comparison.estimate.difference == 0 for each in found.comparisons)
    assert found.notes == found.skipped == ()


def test_an_sae_that_was_made_otherwise_is_compared_item_by_item(finished, run, tmp_path):
    """Fewer tokens: other weights, the same held-out documents."""
    settings = resolve(TINY | {"tokens": 4096, "lr": 1e-5}, environ={})
    _, other = run(settings, "short")
    found = since(other, finished[1])
    one = found.comparisons[0].comparison
    assert one.estimate.difference < 0
    assert len(one.clusters) == one.estimate.n_clusters
    scores = {}
    for folder, report in ((other, None), (finished[1], finished[0])):
        from sae_sanity.harness.record import report_of

        suite = (report or report_of(folder)).suites[0]
        scores[folder] = next(arm.score for arm in suite.arms if arm.role == "trained")
    assert one.estimate.difference == pytest.approx(scores[other] - scores[finished[1]])
    assert any(note.startswith("lr is ") for note in found.notes)


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("settings", {"seed": 7}, ("seed is 0 in", "and 7 in")),
        ("settings", {"held_out_documents": 999}, ("held_out_documents is", "999")),
        ("settings", {"hook_name": "blocks.2.hook_resid_post"}, ("hook_name is", "blocks.2.hook_resid_post")),
        ("hashes", {"texts__held_out": "0" * 64}, ("sha256 of texts/held_out", "'000000000000…'")),
        ("hashes", {"site": "0" * 64}, ("language model, its arithmetic, tokenizer and hook", "'000000000000…'")),
    ],
)
def test_other_data_are_refused_by_name_with_both_values(finished, altered, part, change, named):
    line = refused(finished[1], altered(part, **change))
    for word in (*named, str(finished[1]), "other"):
        assert word in line


def test_another_language_model_is_named(finished, altered):
    copy = altered("hashes", site="0" * 64)
    edit(copy, "settings", model="gpt2")
    assert "model is '' in" in refused(finished[1], copy)


def test_other_versions_are_noted_and_do_not_hide_behind_a_hash(finished, altered):
    copy = altered("versions", torch="9.9")
    edit(copy, "hashes", site="0" * 64)
    found = compare_folders(finished[1], copy)
    assert any(note.startswith("version of torch is") and "'9.9'" in note for note in found.notes)


@pytest.mark.parametrize("setting", ["architecture", "d_sae", "l0", "tokens", "lr"])
def test_how_an_sae_was_made_may_differ_and_is_told(finished, altered, setting):
    found = compare_folders(finished[1], altered("settings", **{setting: "another"}))
    assert any(note.startswith(f"{setting} is ") and "'another'" in note for note in found.notes)
    assert found.comparisons


def test_seeds_and_baselines_may_differ(finished, altered):
    assert (
        compare_folders(finished[1], altered("settings", seeds=9, random_seeds=9, baselines=[], tau=[0.5])).notes == ()
    )


def test_suites_that_are_left_out_need_not_agree(finished, altered):
    copy = altered("settings", probe_prompts=1)
    known = [suite.suite for suite in finished[0].suites]
    assert compare_folders(finished[1], copy, suites=(known[0],)).comparisons
    assert "no such suite of these runs: 'reconstructoin'" in refused(finished[1], copy, suites=("reconstructoin",))


def test_a_folder_without_a_run_is_refused(finished, tmp_path):
    assert "holds no finished run" in refused(finished[1], tmp_path / "nowhere")


def several(folder, source, *names):
    folder.mkdir()
    for name in names:
        shutil.copytree(source, folder / name)
    manifest = json.loads((source / "run.json").read_text())["manifest"]
    listed = {"target": "two", "members": {name: name for name in names}, "skipped": [], "manifest": manifest}
    (folder / "saes.json").write_text(json.dumps(listed))
    return folder


def test_saes_are_paired_by_name(finished, tmp_path):
    ours, theirs = (several(tmp_path / n, finished[1], *saes) for n, saes in (("a", "xy"), ("b", "yz")))
    found = compare_folders(ours, theirs)
    assert {each.suite.partition(":")[0] for each in found.comparisons} == {"y"}
    assert found.skipped == (f"x: only in {ours}", f"z: only in {theirs}")


def test_one_sae_against_several_needs_a_name(finished, tmp_path):
    ours = several(tmp_path / "a", finished[1], "x", "y")
    assert f"name one of them, such as {ours / 'x'}" in refused(ours, finished[1])
    assert f"name one of them, such as {ours / 'x'}" in refused(finished[1], ours)
    assert compare_folders(ours / "x", finished[1]).comparisons


def test_a_baseline_run_is_refused_before_anything_is_computed(finished, settings):
    check_comparable(settings, finished[1])
    with pytest.raises(UsageError, match=r"seed is 3 here and 0 in .*results"):
        check_comparable(settings.model_copy(update={"seed": 3}), finished[1])
    check_comparable(settings.model_copy(update={"tokens": 4096, "l0": 3.0}), finished[1])


def test_a_run_is_not_compared_with_itself(finished, call, tmp_path):
    """Another release of the same target, checked alike, has the folder of the one before."""
    again = tmp_path / "again"
    again.symlink_to(finished[1])
    for other in (finished[1], finished[1] / ".." / finished[1].name, again):
        assert "is the run's own results folder" in refused(finished[1], other)
    assert isinstance(call("compare", finished[1], again).exception, UsageError)
    with pytest.raises(UsageError, match="a folder of its own with --results"):
        since(finished[1], again)


@pytest.mark.parametrize("named", [True, False])
def test_a_check_whose_earlier_run_is_its_own_is_refused_before_it_overwrites_it(
    finished, settings, named, monkeypatch
):
    before = (finished[1] / "run.json").stat().st_mtime_ns
    monkeypatch.setattr(check, "results_folder", lambda _: finished[1])
    with pytest.raises(UsageError, match="is the run's own results folder"):
        check.run_check(settings, finished[1] if named else None, Silent(), earlier=finished[1])
    assert (finished[1] / "run.json").stat().st_mtime_ns == before


def test_what_an_sae_says_of_itself_is_asked_afterwards(finished):
    """A given SAE names its own hook, which settings do not know yet."""
    unsaid = {name: value for name, value in TINY.items() if name not in ("hook_name", "context_size")}
    check_comparable(resolve(unsaid | {"target": "org/repo"}, environ={}), finished[1])
    said = resolve(unsaid | {"target": "org/repo", "hook_name": "somewhere.else"}, environ={})
    with pytest.raises(UsageError, match=r"hook_name is 'somewhere\.else' here"):
        check_comparable(said, finished[1])


# The commands.


def test_compare_prints_a_table_and_json(call, finished, altered):
    copy = altered("settings", lr=9.0)
    table = call("compare", finished[1], copy)
    assert "reconstruction" in table.stdout
    assert "differs, and may: lr is" in " ".join(table.stdout.split())
    found = RunComparison.model_validate_json(call("compare", finished[1], copy, "--json").stdout)
    assert found.comparisons[0].comparison.verdict in Verdict
    assert table.exit_code in (0, 4)


def test_compare_raises_a_usage_error_for_other_data(call, finished, altered):
    result = call("compare", finished[1], altered("settings", seed=7))
    assert isinstance(result.exception, UsageError)
    assert result.stdout == ""
