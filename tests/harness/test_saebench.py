"""SAEBench on the arms of a finished check: resumed by content, one line for what cannot run, nothing lost."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import shutil
import sys
from pathlib import Path

import jaxtyping
import jsonschema
import pytest
import torch
from saebench_world import results as numbers
from tiny_site import TINY, tiny_model, tiny_site, tiny_tokenizer

from sae_sanity.harness import check, library
from sae_sanity.harness.arm_store import ArmStore
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.library import check_language_model, load_arms
from sae_sanity.harness.plan import ArmSeed
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record, report_of
from sae_sanity.harness.saebench import run_saebench, write_saebench
from sae_sanity.results.saebench_format import EvalOutput, SaebenchSummary, schema_text
from sae_sanity.suites import language_model
from sae_sanity.suites.saebench import EVALS, Found, LanguageModel, Unavailable
from sae_sanity.suites.saebench.job import read_result

PAGE = Path(__file__).parents[2] / "docs/saebench.md"
PROBES = "sparse_probing_sae_probes"
SMALL = {PROBES: {"dataset_names": ["118_us_state_CA"], "ks": [1]}}


@pytest.fixture(autouse=True)
def _no_names_of_sizes(monkeypatch):
    """Names of sizes leak out of jaxtyping's frames into SAEBench's own checks (once in some twenty runs)."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def _small(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setenv("SAE_SANITY_BASELINES", "none")
        settings = resolve(TINY | {"baselines": ["random"], "seeds": 1, "held_out_documents": 40}, environ={})
        check.run_check(settings, folder, Silent())
    return folder


@pytest.fixture
def folder(_small, tmp_path, monkeypatch):
    """A finished check of one trained SAE, three random ones and three controls."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Path(shutil.copytree(_small, tmp_path / "results"))


@pytest.fixture
def bench(folder):
    """Run SAEBench on the check, on its tiny language model."""
    language = LanguageModel("tiny-llama", tiny_model(), tiny_tokenizer(), bos_token_id=0)

    def go(*evals, arms=("trained", "random"), options=SMALL, **more):
        named = {name: value for name, value in options.items() if name in evals}
        more = {"language_model": language} | more
        return run_saebench(folder, evals, Silent(), arms=arms, options=named, **more)

    return go


@pytest.fixture
def quick(monkeypatch):
    """An eval that takes no time: its score is a sum of the SAE's weights and of its seed."""

    def run(job):
        score = float(job.sae.W_dec.sum()) + job.config.random_seed
        job.result.write_text(json.dumps({"eval_result_metrics": {"sae": {"sae_top_1_test_auc": score}}}))
        return Found(job.result, read_result(job.result))

    replace_eval(monkeypatch, PROBES, run=run)


def replace_eval(monkeypatch, name, **changes):
    monkeypatch.setitem(EVALS, name, dataclasses.replace(EVALS[name], **changes))


def fail(*_):
    raise AssertionError("it was run again")


def test_all_arms_are_measured_and_nothing_twice(bench, folder, monkeypatch):
    first = bench(PROBES, arms=("trained", "random"))
    assert [(c.arm, c.seed) for c in first.cells] == [("trained", 0), ("random", 0), ("random", 1), ("random", 2)]
    assert first.skipped == ()
    out = folder / "saebench"
    assert SaebenchSummary.model_validate_json((out / "summary.json").read_text()) == first
    files = [out / cell.file for cell in first.cells]
    assert files[0].name == "trained-seed-0_custom_sae_eval_results.json"
    assert len({numbers(file)["eval_result_metrics"]["sae"]["sae_top_1_test_auc"] for file in files}) == 4
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.json") if p.name != "summary.json"}
    replace_eval(monkeypatch, PROBES, run=fail)
    monkeypatch.setattr(library, "_site", fail)
    assert bench(PROBES) == first
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.usefixtures("quick")
def test_what_has_changed_is_run_again_and_that_alone(bench, folder, monkeypatch):
    first = bench(PROBES)
    ran, run = [], EVALS[PROBES].run
    replace_eval(monkeypatch, PROBES, run=lambda job: (ran.append(job.name), run(job))[1])
    victim = folder / "saebench" / first.cells[1].file
    victim.write_text(victim.read_text() + " ")
    again = bench(PROBES)
    assert ran == ["random-seed-0"]
    assert again == first
    bench(PROBES, arms=["trained"], options={PROBES: SMALL[PROBES] | {"random_seed": 7}})
    assert ran == ["random-seed-0", "trained-seed-0"]
    artefacts = [p for p in (folder / "saebench/artefacts").iterdir() if p.name.startswith(PROBES)]
    assert len(artefacts) == 2


@pytest.mark.usefixtures("quick")
def test_other_weights_are_another_cell(bench, folder, monkeypatch):
    first = bench(PROBES, arms=["trained"])
    record = folder / "arms/trained/seed-0/arm.json"
    held = json.loads(record.read_text())
    other = folder / "arms/random/seed-0"
    shutil.copy(other / "sae_weights.safetensors", record.parent)
    shutil.copy(other / "cfg.json", record.parent)
    held["files"] = json.loads((other / "arm.json").read_text())["files"]
    record.write_text(json.dumps(held))
    assert bench(PROBES, arms=["trained"]).cells[0].metrics != first.cells[0].metrics


@pytest.mark.usefixtures("quick")
def test_a_dataset_that_cannot_be_had_ends_that_eval_alone(bench, monkeypatch):
    from sae_bench.sae_bench_utils import general_utils

    monkeypatch.setattr(general_utils.time, "sleep", lambda _: None)
    done = bench("core", "tpp", PROBES, arms=["trained"], options=SMALL | {"core": {"dataset": "no/no-such"}})
    assert [cell.eval for cell in done.cells] == [PROBES]
    assert [skip.what for skip in done.skipped] == ["core", "tpp"]
    assert all("its data cannot be had" in skip.reason for skip in done.skipped)
    assert all("\n" not in skip.reason for skip in done.skipped)


@pytest.mark.usefixtures("quick")
def test_a_failure_costs_one_cell(bench, monkeypatch):
    run = EVALS[PROBES].run

    def sometimes(job):
        if job.name == "random-seed-1":
            raise KeyError("first line\nsecond")
        return run(job)

    replace_eval(monkeypatch, PROBES, run=sometimes)
    done = bench(PROBES)
    assert len(done.cells) == 3
    (skip,) = done.skipped
    assert skip.what == f"{PROBES} random seed 1"
    assert "SAEBench raised KeyError" in skip.reason
    assert "saebench.log" in skip.reason
    replace_eval(monkeypatch, PROBES, run=run)
    assert len(bench(PROBES).cells) == 4


@pytest.mark.usefixtures("quick")
def test_what_cannot_run_keeps_what_was_finished(bench, monkeypatch):
    bench(PROBES, arms=["trained"])

    def refuse(job):
        raise Unavailable("no")

    replace_eval(monkeypatch, PROBES, run=refuse)
    done = bench(PROBES)
    assert [cell.arm for cell in done.cells] == ["trained"]
    assert [(s.what, s.reason) for s in done.skipped] == [(PROBES, "no")]


@pytest.mark.usefixtures("quick")
def test_an_unfinished_cache_is_made_again(bench, folder, monkeypatch):
    calls = []

    def prepare(job):
        calls.append(sorted(p.name for p in job.artefacts.iterdir()))
        (job.artefacts / "half a file").touch()
        if len(calls) == 1:
            raise KeyboardInterrupt

    replace_eval(monkeypatch, PROBES, prepare=prepare)
    with pytest.raises(KeyboardInterrupt):
        bench(PROBES)
    bench(PROBES)
    assert calls == [[], []]


def test_a_full_disk_is_no_missing_dataset(bench, monkeypatch):
    def full(job):
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    replace_eval(monkeypatch, PROBES, run=full)
    with pytest.raises(OSError, match="No space left"):
        bench(PROBES)


@pytest.mark.parametrize(
    ("evals", "more", "message"),
    [
        (["sparse_probng"], {}, "no such SAEBench eval: 'sparse_probng'; did you mean 'sparse_probing'"),
        ([], {}, "no SAEBench eval is named"),
        (["core"], {"arms": ["trianed"]}, "no such arm of this check: 'trianed'; did you mean 'trained'"),
        (["core"], {"options": {"core": {"context_sise": 1}}}, "did you mean 'context_size'"),
        (["core"], {"options": {"ravel": {}}}, "no such eval in this run"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, evals, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_saebench(folder, evals, Silent(), **more)
    assert "\n" not in str(caught.value)
    assert not (folder / "saebench").exists()


def test_a_folder_without_a_finished_check(tmp_path):
    with pytest.raises(UsageError, match="holds no finished run"):
        run_saebench(tmp_path, ["core"], Silent())


def test_a_check_of_several_saes_is_told_to_name_one(tmp_path):
    (tmp_path / "saes.json").write_text(json.dumps({"members": {"a": "one", "b": "two"}}))
    with pytest.raises(UsageError, match=r"holds a check of 2 SAEs; name the folder of one, such as .*one"):
        run_saebench(tmp_path, ["core"], Silent())


@pytest.mark.usefixtures("quick")
def test_without_saebench_it_is_said(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_bench.evals.core.eval_config", None)
    done = bench("core", PROBES, arms=["trained"])
    assert [cell.eval for cell in done.cells] == [PROBES]
    assert "pip install 'sae-sanity[saebench]'" in done.skipped[0].reason


def test_an_sae_that_is_not_on_disk_is_left_out(bench, folder):
    record = folder / "arms/trained/seed-0/arm.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"files": {}}))
    done = bench(PROBES, arms=["trained"])
    assert done.cells == ()
    assert done.skipped[0].what == "trained seed 0"
    assert "trained-0" not in load_arms(folder)


def test_a_language_model_that_cannot_be_had(bench, monkeypatch):
    def missing(name, **_):
        raise ValueError(f"model {name!r} cannot be loaded: it is not there")

    monkeypatch.setattr(language_model, "load_site", missing)
    done = bench(PROBES, language_model=None)
    assert done.cells == ()
    (skip,) = done.skipped
    assert (skip.what, skip.reason) == (PROBES, "model 'SmolLM2-135M-Instruct' cannot be loaded: it is not there")


def test_the_language_model_is_that_of_the_check(folder, monkeypatch, tmp_path):
    site = tiny_site(tmp_path)
    monkeypatch.setattr(language_model, "load_site", lambda *_, **__: site)
    record = load_record(folder)
    with_hash = lambda value: dataclasses.replace(  # noqa: E731
        record, manifest=record.manifest.model_copy(update={"hashes": {"site": value}})
    )
    found = check_language_model(with_hash(site.fingerprint), "cpu")
    assert (found.name, found.model, found.bos_token_id, found.centre) == (
        "SmolLM2-135M-Instruct",
        site.model,
        0,
        False,
    )
    centred = dataclasses.replace(site, centre=True)
    assert check_language_model(with_hash(centred.fingerprint), "cpu").centre
    with pytest.raises(ValueError, match="is not the one of the check"):
        check_language_model(with_hash("0" * 64), "cpu")


def test_load_arms(folder):
    arms = load_arms(str(folder))
    assert list(arms)[:4] == ["trained-0", "random-0", "random-1", "random-2"]
    assert len(arms) == 7
    stored = ArmStore(folder / "arms").load(ArmSeed("random", 2))
    assert torch.equal(arms["random-2"].W_dec, stored.W_dec)
    (folder / "arms/random/seed-1/sae_weights.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match="is damaged"):
        load_arms(folder)


@pytest.mark.slow
def test_the_page_s_snippet_runs_and_equals_the_command(bench, folder, tmp_path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 5
    monkeypatch.setattr(library, "_site", lambda *_: tiny_site(tmp_path / "cache"))
    exec(compile(snippet, str(PAGE), "exec"), {})  # noqa: S102
    hand = {p.name.split("_custom")[0]: numbers(p) for p in (tmp_path / "out").glob("*.json")}
    assert set(hand) == set(load_arms(folder))
    ours = bench(PROBES, arms=(), options={PROBES: {"dataset_names": ["118_us_state_CA"]}})
    assert len(ours.cells) == len(hand)
    for cell in ours.cells:
        assert numbers(folder / "saebench" / cell.file) == hand[f"{cell.arm}-{cell.seed}"]


def test_our_results_in_saebenchs_format(finished, tmp_path):
    report, folder = finished
    files = write_saebench(folder, tmp_path / "out")
    facts = load_record(folder).design.facts
    assert len(files) == len(set(files)) == len(facts) * len(report.suites)
    assert files[0].parent == tmp_path / "out/sae_sanity_reconstruction"
    schema = json.loads(schema_text(EvalOutput))
    for file in files:
        jsonschema.validate(json.loads(file.read_text()), schema)
    one = json.loads((tmp_path / "out/sae_sanity_reconstruction/tiny_trained_seed-1_eval_results.json").read_text())
    assert one["sae_cfg_dict"]["architecture"] == "jumprelu"
    again = {file: file.read_bytes() for file in files}
    assert {file: file.read_bytes() for file in write_saebench(folder, tmp_path / "out")} == again
    assert report_of(folder) == report


def test_several_saes_in_saebenchs_format(finished, tmp_path):
    _, folder = finished
    both = tmp_path / "both"
    for place in ("one", "two"):
        shutil.copytree(folder, both / place)
    (both / "saes.json").write_text(json.dumps({"members": {"layer_1/a": "one", "layer_1/b": "two"}}))
    files = write_saebench(both, tmp_path / "out")
    assert len(set(files)) == len(files) == 2 * len(load_record(folder).design.facts)
    assert any(file.name == "tiny_layer_1_b_trained_seed-0_eval_results.json" for file in files)


def test_a_place_that_cannot_be_written_is_one_line(finished, tmp_path):
    _, folder = finished
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write_saebench(folder, tmp_path / "file")
