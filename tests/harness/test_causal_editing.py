"""Causal editing from end to end, on a tiny model that has learned its facts by heart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from knowing_model import WORDS, knowing_site, ravel_data
from tiny_site import TINY, tiny_subject

from sae_sanity.harness import cli, subject
from sae_sanity.suites.causal_editing.ravel import save_ravel
from sae_sanity.suites.texts import TextSet

FLAGS = {
    "suites": ["causal_editing"],
    "hook_name": "blocks.0.hook_resid_pre",
    "seeds": 3,
    "ravel_entity": "thing",
    "editing_entities": 48,
    "editing_pairs": 512,
    "masks": 1,
}


def knowing_subject(settings, cache, progress):
    """The tiny subject on the model that knows, with texts in its own words."""
    rng = np.random.default_rng(0)
    made = tiny_subject(settings, cache, progress)
    site = replace(knowing_site(cache / "knowing", settings.hook_name))
    sets = {
        n: TextSet(n, tuple(" ".join(rng.choice(WORDS, 12)) for _ in range(k)))
        for n, k in (("train", 400), ("calibration", 600), ("held_out", 100))
    }
    found = {name: subject.collect(site, texts, None, progress) for name, texts in sets.items()}
    return replace(
        made,
        site=site,
        train=found["train"],
        calibration=found["calibration"],
        held_out=sets["held_out"],
        held_out_activations=found["held_out"],
        interpretation=(sets["calibration"],),
    )


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts") / "ravel"
    save_ravel(ravel_data(), folder)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Baselines that the first test trains and the others find."""
    return tmp_path_factory.mktemp("kept-baselines")


@pytest.fixture(autouse=True)
def _knowing(monkeypatch, kept, _elsewhere):
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(kept))
    monkeypatch.setitem(subject.TARGETS, "tiny", knowing_subject)


@pytest.fixture
def check(capsys, facts, tmp_path):
    """Run the command line in a folder with a configuration; returns exit code, stdout and stderr."""

    def go(*changes, command="check"):
        settings = {name: value for name, value in (TINY | FLAGS).items() if name != "target"} | {"ravel": str(facts)}
        (tmp_path / "sae-sanity.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))
        more = ["--json", "--results", "r"] if command == "check" else []
        code = cli.main([command, "tiny", *more, *(part for change in changes for part in ("--set", change))])
        return code, *capsys.readouterr()

    return go


def suite_of(out):
    (suite,) = json.loads(out)["suites"]
    return suite


def test_a_check_ends_in_a_verdict_with_floor_ceiling_and_counts(check, tmp_path):
    code, out, err = check()
    assert code in (0, 1, 3), err  # 4 would be an assay that could not tell
    suite = suite_of(out)
    arms = {arm["arm"]: arm["score"] for arm in suite["arms"]}
    assert arms["@identity"] == 0.5
    assert arms["@subspace"] > max(0.75, arms["trained"])
    against = {c["baseline"].partition("@")[0] for c in suite["comparisons"] if c["required"]}
    assert against == {"random", "frozen_decoder"}
    gate = {check["name"]: check["passed"] for check in suite["gate"]}
    assert gate == dict.fromkeys(("range", "controls", "seeds", "off_floor"), True)
    text = " ".join(json.loads(out)["manifest"]["notes"])
    assert "Country 96 of 96" in text
    before = {path.name: path.read_bytes() for path in (tmp_path / "r" / "cells").glob("*.parquet")}
    again, out_again, _ = check()
    assert (again, suite_of(out_again)) == (code, suite)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "r" / "cells").glob("*.parquet")}


def test_too_few_facts_are_a_skip_and_the_check_is_invalid(check, tmp_path):
    data = ravel_data()
    split = {entity: "test" if number < 6 else "train" for number, entity in enumerate(data.values)}
    save_ravel(replace(data, entity_split=split), tmp_path / "few")
    code, out, _ = check(f"ravel={tmp_path / 'few'}")
    assert code == 4
    (skip,) = [skip for skip in json.loads(out)["skipped"] if skip["what"] == "causal_editing"]
    assert "Country of 42 and 6" in skip["reason"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("ravel=/no/such/folder", "/no/such/folder"),
        ("ravel_entity=planet", "planet"),
        ("editing_pairs=3", "editing_pairs"),
        ("error_term=lost", "error_term"),
        ("masks=0", "masks"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(check, setting, said, tmp_path):
    code, out, err = check(setting)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_packaged_facts_are_of_two_kinds(check):
    code, _, err = check("ravel=", "ravel_entity=planet")
    assert code == 2
    assert "city and country" in err


def test_plan_counts_the_cells(check):
    code, out, err = check(command="plan")
    assert code == 0, err
    assert "causal_editing" in out
