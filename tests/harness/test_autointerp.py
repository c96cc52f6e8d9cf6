"""AutoInterp from end to end on a tiny model, with a real HTTP server as the judge."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from loopback_judge import KEY, LoopbackJudge, Reply
from tiny_site import TINY, WORDS, tiny_site, tiny_subject

from sae_sanity.harness import cli, subject
from sae_sanity.harness.record import latents_of, load_record, report_of
from sae_sanity.results.store import Store
from sae_sanity.suites.autointerp import suite as module
from sae_sanity.suites.autointerp.prompts import detection_question, explanation_question
from sae_sanity.suites.texts import TextSet

SPELLED = {f"w{i}": word for i, word in enumerate(["1999", "7", "?", "Paris", "London", "Rome"])}
"""What some words of the tiny vocabulary read like, so that there is something to plant."""
FLAGS = {"suites": "autointerp", "judge": "tiny", "latents": "6", "detection_examples": "8", "seeds": "3"}


def reading_subject(settings, cache, progress):
    """The tiny subject with texts long enough to hold windows, some of whose words mean something."""
    made = tiny_subject(settings, cache, progress)
    rng = np.random.default_rng(7)
    texts = TextSet("read", tuple(" ".join(rng.choice(WORDS[:60], 55)) for _ in range(120)))
    site = replace(tiny_site(cache / "long", settings.hook_name), context_size=60)
    return replace(made, site=site, interpretation=texts)


class Reader:
    """Decodes the tiny vocabulary as something that has digits, capitals and question marks."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, ids):
        words = self.tokenizer.convert_ids_to_tokens(list(ids))
        return tuple(f" {SPELLED.get(word, 'word' + word)}" for word in words)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Baselines that the first test trains and the others find."""
    return tmp_path_factory.mktemp("kept-baselines")


@pytest.fixture(autouse=True)
def _reading(monkeypatch, kept, _elsewhere):
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(kept))
    monkeypatch.setitem(subject.TARGETS, "tiny", reading_subject)
    monkeypatch.setattr(module, "Decoder", Reader)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server():
    judge = LoopbackJudge()
    yield judge
    judge.die()


@pytest.fixture
def knowing(server, monkeypatch):
    """The server learns, from the stored activations, what the right answer to every question is."""
    right: dict[str, str] = {}
    ask = module.interview

    def told(latents, judging, rng):
        for number, latent in enumerate(latents):
            truth = f"concept {number}"
            right[digest(explanation_question(latent).messages)] = f"This neuron activates on {truth}"
            for shown in filter(None, (latent.saebench, latent.balanced)):
                # In SAEBench's layout a random text counts as one without the latent; in ours it is what it is.
                wanted = [e.is_active and (shown is latent.balanced or e.kind != "random") for e in shown]
                numbers = [str(i) for i, yes in enumerate(wanted, 1) if yes]
                right[digest(detection_question(truth, shown).messages)] = ", ".join(numbers) or "None"
        return ask(latents, judging, rng)

    monkeypatch.setattr(module, "interview", told)
    server.reply = lambda body: Reply(server.chat(right[digest([(m["role"], m["content"]) for m in body["messages"]])]))
    return server


def digest(messages):
    return hashlib.sha256(json.dumps([list(pair) for pair in messages]).encode()).hexdigest()


def check(server, results, *more):
    flags = [part for name, value in (TINY | FLAGS).items() if name in FLAGS for part in (f"--{name}", value)]
    flags = [flag.replace("--detection_examples", "--set") for flag in flags]
    flags[flags.index("--set") + 1] = f"detection_examples={FLAGS['detection_examples']}"
    sizes = {k: v for k, v in TINY.items() if k not in ("target", "suites", "seeds")}
    for name, value in sizes.items():
        flags += ["--set", f"{name}={value}"]
    return cli.main(["check", "tiny", *flags, "--judge-url", server.url, "--results", str(results), *more])


def test_a_judge_that_knows_reaches_the_ceiling(knowing, tmp_path, capsys):
    code = check(knowing, tmp_path / "r")
    report = report_of(tmp_path / "r")
    (suite,) = report.suites
    scores = {arm.arm: arm for arm in suite.arms}
    assert scores["@planted"].score == 1.0
    measured = [arm for name, arm in scores.items() if not name.startswith("@")]
    assert {arm.arm for arm in measured} >= {"trained", "random", "frozen_encoder@iso", "permuted_decoder"}
    assert all(arm.score == pytest.approx(1.0) and arm.normalised == pytest.approx(1.0) for arm in measured)
    gate = {each.name: each for each in suite.gate}
    assert gate["judge"].passed, gate["judge"].detail
    assert gate["complete"].passed
    assert gate["controls"].passed
    assert abs(scores["@shuffled"].score - 0.5) < 0.15
    assert code == report.exit_code
    assert "accuracy 1.000" in gate["judge"].detail
    assert capsys.readouterr().out


def test_a_coin_is_no_judge(server, tmp_path):
    rng = np.random.default_rng(0)

    def toss(body):
        text = body["messages"][-1]["content"]
        if not text.startswith("Here is the explanation"):
            return Reply(server.chat("This neuron activates on something"))
        n = len(re.findall(r"^\d+\. ", text, re.MULTILINE))
        return Reply(server.chat(", ".join(str(i) for i in range(1, n + 1) if rng.random() < 0.5) or "None"))

    server.reply = toss
    assert check(server, tmp_path / "r") == 4
    (suite,) = report_of(tmp_path / "r").suites
    assert suite.verdict == "INVALID"
    (judge,) = [each for each in suite.gate if each.name == "judge"]
    assert not judge.passed
    assert "near chance" in judge.detail


def test_a_rerun_asks_nothing_and_says_the_same(knowing, tmp_path):
    check(knowing, tmp_path / "r")
    first, asked = report_of(tmp_path / "r"), len(knowing.sent)
    check(knowing, tmp_path / "r")
    assert len(knowing.sent) == asked
    for cell in (tmp_path / "r" / "cells").iterdir():
        cell.unlink()
    check(knowing, tmp_path / "r")  # measured anew, from the kept answers
    assert len(knowing.sent) == asked
    assert report_of(tmp_path / "r") == first


def test_the_budget_stops_the_run_and_it_goes_on(knowing, tmp_path):
    answer = knowing.reply
    usage = {"usage": {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 905}}
    knowing.reply = lambda body: Reply(answer(body).body | usage)
    assert check(knowing, tmp_path / "r", "--max-judge-tokens", "20000") == 4
    report = report_of(tmp_path / "r")
    assert report.verdict == "INVALID"
    assert any("budget of 20,000 tokens is spent" in skip.reason for skip in report.skipped)
    asked = len(knowing.sent)
    assert 0 < asked < 60
    check(knowing, tmp_path / "r")
    alone = tmp_path / "alone"
    before = len(knowing.sent)
    check(knowing, alone)
    assert len(knowing.sent) - before == before  # nothing was asked twice in two goes
    assert report_of(tmp_path / "r").suites == report_of(alone).suites


def test_a_dead_judge_is_said_in_the_report(server, tmp_path):
    server.die()
    assert check(server, tmp_path / "r") == 4
    report = report_of(tmp_path / "r")
    assert report.suites[0].verdict == "INVALID"
    assert [skip.what for skip in report.skipped if skip.what == "autointerp"]


def test_the_key_is_nowhere(knowing, tmp_path, capfd):
    check(knowing, tmp_path / "r", "--output", str(tmp_path / "report.json"))
    assert knowing.sent[0].headers["authorization"] == f"Bearer {KEY}"
    out, err = capfd.readouterr()
    assert KEY not in out + err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_nothing_tells_the_judge_whose_latent_it_is(knowing, tmp_path):
    check(knowing, tmp_path / "r")
    asked = json.dumps([sent.body for sent in knowing.sent])
    assert not [name for name in ("trained", "frozen", "permuted", "planted", "shuffled") if name in asked]
    # Explanations and planted ones are mixed: no arm has its questions in one run.
    record = load_record(tmp_path / "r")
    rows = Store(tmp_path / "r").read(record.cells[-1])
    assert set(rows["metric"]) >= {"detection", "detection_saebench", "sequence", "alive", "missing", "dead_share"}


def test_a_permuted_decoder_costs_nothing(knowing, tmp_path):
    check(knowing, tmp_path / "r")
    bodies = [json.dumps(sent.body, sort_keys=True) for sent in knowing.sent]
    assert len(bodies) == len(set(bodies))


def test_latents_can_be_looked_at(knowing, tmp_path, capsys):
    check(knowing, tmp_path / "r")
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path / "r"), "--latents"]) == 0
    out = capsys.readouterr().out
    assert "Drawn at random" in out
    assert "concept" in out
    seen = latents_of(tmp_path / "r")
    assert {one.arm for one in seen} >= {"trained", "random"}
    assert all(one.detection == 1.0 for one in seen if not one.missing)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--judge", ""], "judge is not set"),
        (["--judge-url", "ftp://x"], "must begin with http"),
        (["--judge-url", "http://user:secret@x/v1"], "a key belongs into OPENAI_API_KEY"),
        (["--judge-price", "cheap"], "IN,OUT"),
        (["--max-cost", "1"], "--judge-price"),
        (["--max-judge-tokens", "0"], "must be at least 1"),
        (["--set", "detection_examples=7"], "detection_examples"),
        (["--latents", "1"], "latents"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(flags, said, tmp_path, capsys):
    code = cli.main(
        ["check", "tiny", "--suites", "autointerp", "--judge", "tiny", "--results", str(tmp_path / "r"), *flags]
    )
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert "secret" not in line
    assert not (tmp_path / "r").exists()


def test_no_key_and_no_address(monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert cli.main(["check", "tiny", "--suites", "autointerp", "--judge", "gpt-4o-mini"]) == 2
    assert "neither OPENAI_API_KEY nor judge_url is set" in capsys.readouterr().err


def test_a_run_without_judged_latents_has_none_to_show(finished, capsys):
    _, folder = finished
    assert cli.main(["report", str(folder), "--latents"]) == 2
    assert "holds no latents to look at" in capsys.readouterr().err
