"""`check <release-id>` as a user types it, against a hub that answers, and against one that does not."""

from __future__ import annotations

import json

import pytest
from hub_contents import RES_JB, documents
from loopback_hub import Fault

from sae_sanity.harness.cli import main

WEIGHTS = "sae_weights.safetensors"
SAE_ID = "blocks.1.hook_resid_pre"


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A check of seconds, on a release of SAELens' registry in its format of before SAELens 6."""
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "cache"))
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(600)))
    sizes = {"held_out_documents": 60, "ce_documents": 4, "calibration_tokens": 6000, "batch_size": 256}
    flags = [f"--set={name}={value}" for name, value in (sizes | {"context_size": 32}).items()]
    flags += ["--suites=reconstruction", "--baselines=random", "--tokens=4096", "--seeds=1", "--random-seeds=3"]
    return ["check", RES_JB, "--sae-id", SAE_ID, "--texts", str(texts), "--results", "results", *flags]


def test_it_runs_from_end_to_end(hub, arguments, capsys):
    assert main([*arguments, "--json"]) in (0, 1, 3, 4)
    report = json.loads(capsys.readouterr().out)
    arms = {arm["arm"] for arm in report["suites"][0]["arms"]}
    assert {"trained", "retrained", "random", "permuted_decoder"} <= arms
    recipe = report["manifest"]["recipe"]
    assert recipe["tokens"].startswith("300000000 (cfg.json (before SAELens 6)); used here: 4096")
    assert recipe["model_name"] == "gpt2-small (cfg.json (before SAELens 6))"


@pytest.mark.parametrize("kind", ["missing", "gated", "forbidden", "error", "truncated", "corrupt", "dying"])
def test_a_hub_that_fails_is_one_line_and_nothing_is_written(kind, hub, arguments, tmp_path, capsys):
    hub.faults[f"*/{WEIGHTS}"] = Fault(kind)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("sae-sanity: ")]
    assert out == ""
    assert len(lines) == 1
    assert WEIGHTS in lines[0]
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()


def test_a_slow_hub_is_waited_for(hub, arguments):
    hub.faults["*/cfg.json"] = Fault("slow", seconds=0.3)
    assert main(["plan", *arguments[1:4]]) == 0
