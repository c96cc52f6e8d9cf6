"""AutoInterp from end to end on a tiny model, with a real HTTP server as the judge."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from loopback_judge import KEY, LoopbackJudge, Reply
from scipy.stats import spearmanr
from tiny_site import TINY, WORDS, tiny_site, tiny_subject, tiny_texts

from sae_sanity.harness import cli, subject
from sae_sanity.harness.measures import make_suites
from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import latents_of, load_record, report_of
from sae_sanity.results.report.json_format import to_json
from sae_sanity.results.store import Store
from sae_sanity.suites.autointerp import suite as module
from sae_sanity.suites.autointerp.prompts import detection_question, explanation_question
from sae_sanity.suites.corpora import Texts
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Spent
from sae_sanity.suites.judges.openai_judge import OpenAIJudge
from sae_sanity.suites.suite import Judging
from sae_sanity.suites.texts import TextSet

SPELLED = {f"w{i}": word for i, word in enumerate(["1999", "7", "?", "Paris", "London", "Rome"])}
"""What some words of the tiny vocabulary read like, so that there is something to plant."""
FEW = ("--baselines", "random", "--seeds", "1")
"""A check of few SAEs, where what is asked about is the judge."""
FLAGS = {"suites": "autointerp", "judge": "tiny", "latents": "6", "detection_examples": "8", "seeds": "3"}


def reading_subject(settings, cache, progress):
    """The tiny subject with texts long enough to hold windows, some of whose words mean something."""
    made = tiny_subject(settings, cache, progress)
    rng = np.random.default_rng(7)
    texts = TextSet("read", tuple(" ".join(rng.choice(WORDS[:60], 55)) for _ in range(120)))
    site = replace(tiny_site(cache / "long", settings.hook_name), context_size=60)
    return replace(made, site=site, interpretation=(texts,))


class Reader:
    """Decodes the tiny vocabulary as something that has digits, capitals and question marks."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, ids):
        words = self.tokenizer.convert_ids_to_tokens(list(ids))
        return tuple(f" {SPELLED.get(word, 'word' + word)}" for word in words)


def test_latents_are_looked_at_in_what_the_check_has_read(settings, tmp_path, monkeypatch):
    site = tiny_site(tmp_path / "cache", settings.hook_name)
    texts = Texts(*(tiny_texts(name, 20, n) for n, name in enumerate(("train", "calibration", "held_out"))), ())
    made = subject._subject("tiny", "tiny", site, texts, Silent())
    monkeypatch.setattr(site.model, "forward", lambda *_, **__: pytest.fail("the language model reads again"))
    judging = Judging(OpenAIJudge("any", "http://127.0.0.1:1/v1"), AnswerStore(tmp_path / "answers.sqlite"), Spent())
    (suite,) = make_suites(settings.model_copy(update={"suites": ("autointerp",)}), made, judging)
    assert suite.settings()["activations"] == [made.held_out_activations.key, made.calibration.key]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Baselines that the first test trains and the others find."""
    return tmp_path_factory.mktemp("kept-baselines")


@pytest.fixture(scope="module", autouse=True)
def _reading(cache, kept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_SANITY_CACHE", str(cache))
        patch.setitem(subject.TARGETS, "tiny", reading_subject)
        patch.setattr(module, "Decoder", Reader)
        patch.setenv("OPENAI_API_KEY", KEY)
        yield


@pytest.fixture(autouse=True)
def _kept(monkeypatch, kept, _elsewhere):
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(kept))


@pytest.fixture
def server():
    judge = LoopbackJudge()
    yield judge
    judge.die()


@pytest.fixture
def other():
    """Another server, of a second judge."""
    judge = LoopbackJudge()
    yield judge
    judge.die()


@pytest.fixture
def right():
    """The right answer to each question, by its digest, in the order of the latents."""
    return {}


@pytest.fixture
def knowing(server, right, monkeypatch):
    return teach(server, right, monkeypatch)


@dataclass
class Known:
    """A finished check by a judge that knows, which is still there."""

    server: LoopbackJudge
    right: dict[str, str]
    folder: Path
    code: int
    sent: list
    """What it was sent in that check."""
    said: str
    """What the check has printed."""


def finish(folder, kept, *flags, blind_to=()):
    """Make it."""
    server, right, said = LoopbackJudge(), {}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.setenv("SAE_SANITY_BASELINES", str(kept))
        teach(server, right, patch).blind_to = blind_to
        code = check(server, folder / "r", "--output", str(folder / "report.json"), *flags)
    return Known(server, right, folder / "r", code, list(server.sent), said.getvalue())


@pytest.fixture(scope="module")
def known(tmp_path_factory, kept):
    """A check with nothing special, which its tests only look at."""
    made = finish(tmp_path_factory.mktemp("known"), kept)
    yield made
    made.server.die()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, kept):
    """A check that stopped early, for only the SAE under test can be read."""
    made = finish(tmp_path_factory.mktemp("stopped"), kept, *STOPPING, blind_to=EVERYONE_ELSE)
    yield made
    made.server.die()


@pytest.fixture
def going_on(known, tmp_path):
    """The same judge, and a copy of the folder as `tmp_path / "r"`."""
    shutil.copytree(known.folder, tmp_path / "r")
    return known.server


def bodies(sent):
    return [json.dumps(one.body, sort_keys=True) for one in sent]


def teach(server, right, monkeypatch):
    """The server learns, from the stored activations, what the right answer to every question is.

    Where nothing can be found it has half of the texts right, unless `server.leaks`: then it is told the labels. So it
    has of the SAEs at the positions `server.blind_to`; a permuted decoder's questions are those of its SAE.
    """
    ask, make, trials = module.interview, module.make_trial, []
    server.leaks, server.blind_to = False, ()
    gather, gathered, first = module.AutoInterp._gather, [], {}

    def made(*args, **options):
        trials.append(make(*args, **options))
        gathered.clear()  # every SAE of this check has had its turn
        return trials[-1]

    def gathering(self, *parts):
        gathered.append(gather(self, *parts))
        for latent in gathered[-1]:
            first.setdefault(digest(explanation_question(latent).messages), len(gathered) - 1)
        return gathered[-1]

    def told(latents, judging, rng):
        tried = dict(zip(map(id, trials[-1].latents), trials[-1].kinds, strict=True))
        for number, latent in enumerate(latents):
            # The same latent of a permuted decoder, and a copy with shuffled labels, are explained as before.
            words = right.setdefault(
                digest(explanation_question(latent).messages), f"This neuron activates on concept {number}"
            )
            truth = words.removeprefix("This neuron activates on ")
            kind = tried.get(id(latent), "sae")
            for shown in filter(None, (latent.saebench, latent.balanced)):
                # In SAEBench's layout a random text counts as one without the latent; in ours it is what it is.
                wanted = [e.is_active and (shown is latent.balanced or e.kind != "random") for e in shown]
                blind = kind == "sae" and first[digest(explanation_question(latent).messages)] in server.blind_to
                if blind or (kind in ("shuffled", "nothing") and not server.leaks):
                    wanted = half_right(wanted)
                numbers = [str(i) for i, yes in enumerate(wanted, 1) if yes]
                right[digest(detection_question(truth, shown).messages)] = ", ".join(numbers) or "None"
        return ask(latents, judging, rng)

    monkeypatch.setattr(module.AutoInterp, "_gather", gathering)
    monkeypatch.setattr(module, "make_trial", made)
    monkeypatch.setattr(module, "interview", told)
    server.reply = lambda body: Reply(server.chat(right[asked(body)]))
    return server


def half_right(labels):
    """Yes to every second text with the latent and to every second one without."""
    return [labels[:i].count(label) % 2 == 0 for i, label in enumerate(labels)]


def asked(body):
    return digest([(m["role"], m["content"]) for m in body["messages"]])


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


def test_a_judge_that_knows_reaches_the_ceiling(known):
    report = report_of(known.folder)
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
    assert known.code == report.exit_code
    assert "accuracy 1.000" in gate["judge"].detail
    assert known.said


def test_a_judge_that_is_told_the_labels_is_caught(knowing, tmp_path):
    """All that it says is right, of the arms and of what is planted; only where nothing can be found does it show."""
    knowing.leaks = True
    assert check(knowing, tmp_path / "r", *FEW) == 4
    report = report_of(tmp_path / "r")
    (suite,) = report.suites
    assert suite.verdict == "INVALID"
    (judge,) = [each for each in suite.gate if not each.passed]
    assert "off chance on shuffled labels: something tells the judge the answer" in judge.detail
    assert "off chance on nothing to find" in judge.detail
    assert not [line for line in report.advice if "more data" in line or " vs " in line]


def coin(server):
    """Answers that have nothing to do with the texts."""
    rng = np.random.default_rng(0)

    def toss(body):
        text = body["messages"][-1]["content"]
        if not text.startswith("Here is the explanation"):
            return Reply(server.chat("This neuron activates on something"))
        n = len(re.findall(r"^\d+\. ", text, re.MULTILINE))
        return Reply(server.chat(", ".join(str(i) for i in range(1, n + 1) if rng.random() < 0.5) or "None"))

    return toss


def constant(server):
    """The same answer to everything."""
    return lambda body: Reply(server.chat("None"))


@pytest.mark.parametrize("judge", [coin, constant])
def test_a_coin_and_a_constant_are_no_judges(judge, server, tmp_path):
    server.reply = judge(server)
    assert check(server, tmp_path / "r", *FEW) == 4
    (suite,) = report_of(tmp_path / "r").suites
    assert suite.verdict == "INVALID"
    (judge,) = [each for each in suite.gate if each.name == "judge"]
    assert not judge.passed
    assert "near chance" in judge.detail


def test_a_rerun_asks_nothing_and_says_the_same(known, going_on, tmp_path):
    first, asked, n = report_of(tmp_path / "r"), len(known.sent), len(going_on.sent)
    check(going_on, tmp_path / "r")
    assert len(going_on.sent) == n
    for cell in (tmp_path / "r" / "cells").iterdir():
        cell.unlink()
    check(going_on, tmp_path / "r")  # measured anew, from the kept answers
    assert len(going_on.sent) == n
    again = report_of(tmp_path / "r")
    assert again.suites == first.suites
    # All that differs is what it took, and the kept answers are as many as questions were sent.
    took = [re.findall(r"\d[\d,]*", line(report, "judge: ", "questions sent")) for report in (first, again)]
    sent, prompt, completion, kept = (int(number.replace(",", "")) for number in took[0])
    assert (sent, prompt, completion, kept) == (asked, 11 * asked, 3 * asked, 0)
    assert took[1] == ["0", "0", "0", str(asked)]


def line(report, start, part=""):
    """The only line of the manifest that begins so and has that in it."""
    (found,) = [note for note in report.manifest.notes if note.startswith(start) and part in note]
    return found


def test_the_budget_stops_the_run_and_it_goes_on(knowing, known, tmp_path):
    answer = knowing.reply
    usage = {"usage": {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 905}}
    knowing.reply = lambda body: Reply(answer(body).body | usage)
    assert check(knowing, tmp_path / "r", "--max-judge-tokens", "60000") == 4
    report = report_of(tmp_path / "r")
    assert report.verdict == "INVALID"
    assert any("budget of 60,000 tokens is spent" in skip.reason for skip in report.skipped)
    asked = len(knowing.sent)
    assert 0 < asked < 60_000 / 905
    check(knowing, tmp_path / "r")
    # nothing was asked twice in two goes
    assert sorted(bodies(knowing.sent)) == sorted(bodies(known.sent))
    assert report_of(tmp_path / "r").suites == report_of(known.folder).suites


def test_a_dead_judge_is_said_in_the_report(server, tmp_path):
    server.die()
    assert check(server, tmp_path / "r") == 4
    report = report_of(tmp_path / "r")
    assert report.suites[0].verdict == "INVALID"
    assert [skip.what for skip in report.skipped if skip.what == "autointerp"]


def test_the_key_is_nowhere(known):
    assert known.sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in known.said
    files = [path for path in known.folder.parent.rglob("*") if path.is_file()]
    assert known.folder.with_name("report.json") in files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_nothing_tells_the_judge_whose_latent_it_is(known):
    everything = json.dumps([sent.body for sent in known.sent])
    assert not [name for name in ("trained", "frozen", "permuted", "planted", "shuffled") if name in everything]
    # Nothing is sent along: all requests are alike but for the texts and how long an answer may be.
    alike = [{k: v for k, v in sent.headers.items() if k != "content-length"} for sent in known.sent]
    assert alike == alike[:1] * len(alike)
    assert len({(sent.path, *sorted(set(sent.body) - {"response_format"})) for sent in known.sent}) == 1
    # The fixture meets latents arm by arm, and then the planted ones; the server in an order without any trend.
    place = {question: i for i, question in enumerate(known.right)}
    for stage in stages(known.sent):
        places = [place[asked(sent.body)] for sent in stage]
        # The rank correlation of n places in a random order has a standard deviation of 1/sqrt(n - 1).
        assert abs(spearmanr(range(len(stage)), places).statistic) < 4 / np.sqrt(len(stage) - 1)
    record = load_record(known.folder)
    rows = Store(known.folder).read(record.cells[-1])
    assert set(rows["metric"]) >= {"detection", "detection_saebench", "sequence", "alive", "missing", "dead_share"}


def stages(sent):
    """Requests of one kind each, as they came: explanations, SAEBench's layout, the balanced one; those with many."""
    found: dict[tuple[int, int], list] = {}
    for one in sent:
        examples = re.findall(r"^\d+\. ", one.body["messages"][-1]["content"], re.MULTILINE)
        kind = len(examples) if "response_format" in one.body else 0
        found.setdefault((kind, one.body["seed"]), []).append(one)
    many = [stage for stage in found.values() if len(stage) > 30]
    assert len(many) == 3
    return many


def test_a_permuted_decoder_costs_nothing(known):
    asked = bodies(known.sent)
    assert len(asked) == len(set(asked))


def test_latents_can_be_looked_at(known, capsys):
    assert cli.main(["report", str(known.folder), "--latents"]) == 0
    out = capsys.readouterr().out
    assert "Drawn at random" in out
    assert "concept" in out
    seen = latents_of(known.folder)
    assert {one.arm for one in seen} >= {"trained", "random"}
    assert all(one.detection == 1.0 for one in seen if not one.missing)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--judge", ""], "judge is not set"),
        (["--judge-url", "ftp://x"], "must begin with http"),
        (["--judge-url", "http://user:secret@x/v1"], "a key belongs into OPENAI_API_KEY"),
        (["--judge-url", "user:secret@x/v1"], "a key belongs into OPENAI_API_KEY"),
        (["--judge-url", "http://x/v1#secret"], "a key belongs into OPENAI_API_KEY"),
        (["--judge-url", "http://[secret"], "must begin with http"),
        (["--judge-url", "http://x/v1#secret", "--suites", "reconstruction"], "a key belongs into OPENAI_API_KEY"),
        (["--judge-url", "http://10.0.0.5/v1"], "OPENAI_API_KEY would go there in clear text"),
        (["--judge", "local", "--judge-url", "http://127.0.0.1:1/v1"], "which has no address"),
        (["--second-judge", "m", "--second-judge-url", "http://x/v1#secret"], "second_judge_url holds a user"),
        (
            ["--judge-url", "http://127.0.0.1:1", "--second-judge", "tiny", "--second-judge-url", "http://127.0.0.1:1"],
            "it would agree by itself",
        ),
        (["--second-judge", "m", "--set", "second_share=0"], "second_share"),
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


def test_a_full_disk_is_one_line_and_the_users_to_mend(knowing, tmp_path, capsys, monkeypatch):
    put = AnswerStore.put

    def full(self, *parts):
        self._database.execute("PRAGMA max_page_count = 1")  # SQLite's own way to be full
        put(self, *parts[:-1], replace(parts[-1], text="x" * 100_000))

    monkeypatch.setattr(AnswerStore, "put", full)
    assert check(knowing, tmp_path / "r", *FEW) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"sae-sanity: cannot write {tmp_path / 'r' / 'answers.sqlite'}: database or disk is full")


# stopping early

STOPPING = ("--latents", "80", "--set", "early_stop=true")
EVERYONE_ELSE = range(3, 99)
"""Positions of all SAEs but the three under test, which come first."""


def steps(folder):
    """Rows of every cell that say at which step a latent was asked about, as (arm, seed, steps)."""
    frames = [Store(folder).read(key) for key in load_record(folder).cells]
    found = pd.concat([frame[frame["metric"] == "step"] for frame in frames])
    return [(*key, sorted(own["value"])) for key, own in found.groupby(["arm", "seed"])]


def test_a_clear_difference_stops_early_with_the_same_verdict(stopped, knowing, tmp_path):
    knowing.blind_to = EVERYONE_ELSE
    check(knowing, tmp_path / "all", "--latents", "36")
    everything, n = report_of(tmp_path / "all"), len(knowing.sent)
    early, m = report_of(stopped.folder), len(stopped.sent)
    assert m < 0.8 * n
    (full,), (short,) = everything.suites, early.suites
    required = [c for c in short.comparisons if c.required]
    assert [c.verdict for c in required] == [c.verdict for c in full.comparisons if c.required]
    assert {c.verdict for c in required} == {"BEATS"}
    assert (short.verdict, short.p is not None) == (full.verdict, True)
    assert all(c.anytime and c.estimate.n_clusters == 20 for c in required)
    assert {c.anytime for c in full.comparisons} == {False}
    # every SAE was asked about the same steps, from 1 on
    found = steps(stopped.folder)
    assert len(found) > 6
    assert all(own == list(range(1, 21)) for *_, own in found)
    note = line(early, "early stop: 20 of")
    assert re.fullmatch(r"early stop: 20 of \d+ steps asked, .* \d\d% of the latents were not asked about", note)
    assert {gate.name: gate.passed for gate in short.gate}["controls"]


def test_nothing_to_find_is_asked_to_the_end(knowing, tmp_path):
    """All arms are at the ceiling: no interval decides before the steps are used up."""
    check(knowing, tmp_path / "r", *FEW[:2], "--latents", "4", "--set", "early_stop=true")
    report = report_of(tmp_path / "r")
    asked, planned = map(int, re.findall(r"\d+", line(report, "early stop: ", "steps asked"))[:2])
    assert asked == planned
    assert "0% of the latents" in line(report, "early stop: ", "steps asked")


def test_off_by_default_and_no_key_changes(going_on, tmp_path):
    n, cells = len(going_on.sent), load_record(tmp_path / "r").cells
    check(going_on, tmp_path / "r", "--set", "early_stop=false")
    assert (len(going_on.sent), load_record(tmp_path / "r").cells) == (n, cells)
    assert not steps(tmp_path / "r")
    assert not [note for note in report_of(tmp_path / "r").manifest.notes if "early" in note]


def test_a_stopped_run_that_was_killed_asks_nothing_twice(knowing, stopped, tmp_path, capsys):
    knowing.blind_to = EVERYONE_ELSE
    answer = knowing.reply
    usage = {"usage": {"prompt_tokens": 900, "completion_tokens": 5, "total_tokens": 905}}
    knowing.reply = lambda body: Reply(answer(body).body | usage)
    assert check(knowing, tmp_path / "r", *STOPPING, "--max-judge-tokens", "150000") == 4
    assert 0 < len(knowing.sent) < 150_000 / 905
    check(knowing, tmp_path / "r", *STOPPING)
    asked = bodies(knowing.sent)
    assert len(asked) == len(set(asked))
    assert sorted(asked) == sorted(bodies(stopped.sent))
    assert report_of(tmp_path / "r").suites == report_of(stopped.folder).suites
    # and from the stored rows alone
    before, n = report_of(stopped.folder), len(stopped.server.sent)
    capsys.readouterr()
    code = cli.main(["report", str(stopped.folder), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert code == before.exit_code
    assert len(stopped.server.sent) == n
    assert again["suites"] == json.loads(to_json(before))["suites"]
    assert "anytime-valid" in again["suites"][0]["reason"] or again["suites"][0]["verdict"] == "INVALID"


# the second judge

SECOND_KEY = "sk-second-SECRET-9876543210"
KAPPA = re.compile(r"kappa (-?[\d.]+) \(standard error over latents ([\d.]+)\), the same on ([\d.]+) of (\d+) texts")


def with_second(server, other, results, *more):
    return check(
        server, results, "--second-judge", "tiny", "--second-judge-url", other.url, "--set", "second_share=1", *more
    )


def test_two_judges_that_know_agree(knowing, other, right, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SECOND_JUDGE_API_KEY", SECOND_KEY)
    other.reply = lambda body: Reply(other.chat(right[asked(body)], system_fingerprint="fp_other"))
    with_second(knowing, other, tmp_path / "r", *FEW[:2], "--output", str(tmp_path / "report.json"))
    report = report_of(tmp_path / "r")
    kappa, error, same, texts = map(float, KAPPA.search(line(report, "second judge: ", "kappa")).groups())
    assert (kappa, error, same) == (1, 0, 1)
    assert texts == 8 * len(other.sent) > 200
    assert "planted latents 1.000, of the first judge 1.000; 0 of" in line(report, "second judge: ", "kappa")
    # who it was, and what it took
    assert line(report, "second judge: ", "answered as").endswith("tiny, a language model; answered as tiny fp_other")
    assert f"{len(other.sent)} questions sent" in line(report, "second judge: ", "questions sent")
    assert f"{len(knowing.sent)} questions sent" in line(report, "judge: ", "questions sent")
    assert report.manifest.settings["second_judge_url"] == other.url
    # the same questions, byte for byte, and nothing else
    bodies = [json.dumps(sent.body, sort_keys=True) for sent in knowing.sent]
    assert {json.dumps(sent.body, sort_keys=True) for sent in other.sent} < set(bodies)
    # each server gets its own key, and neither is anywhere
    assert {sent.headers["authorization"] for sent in other.sent} == {f"Bearer {SECOND_KEY}"}
    assert {sent.headers["authorization"] for sent in knowing.sent} == {f"Bearer {KEY}"}
    out, err = capfd.readouterr()
    seen = [(out + err).encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
    assert len(seen) > 10
    assert not [text for text in seen if SECOND_KEY.encode() in text or KEY.encode() in text]


def test_a_second_judge_changes_no_score_and_costs_only_itself(going_on, other, tmp_path):
    """A check that was finished without one goes on with the answers that it has.

    Half of the texts are with the latent, so kappa of a coin has mean 0 and a standard deviation of 1/sqrt(n).
    """
    other.reply = coin(other)
    without, n = report_of(tmp_path / "r"), len(going_on.sent)
    keys = load_record(tmp_path / "r").cells
    with_second(going_on, other, tmp_path / "r")
    beside = report_of(tmp_path / "r")
    assert beside.suites == without.suites
    assert len(going_on.sent) == n
    assert other.sent
    assert not set(load_record(tmp_path / "r").cells) & set(keys)
    kappa, error, same, texts = map(float, KAPPA.search(line(beside, "second", "kappa")).groups())
    assert abs(kappa) < 4 / np.sqrt(texts)
    assert abs(same - 0.5) < 2 / np.sqrt(texts)
    assert 0.7 < error * np.sqrt(texts) < 1.4
    m = len(other.sent)
    check(going_on, tmp_path / "r")
    assert load_record(tmp_path / "r").cells == keys
    assert (len(going_on.sent), len(other.sent)) == (n, m)


def test_a_second_judge_that_is_dead_stops_the_suite_and_it_goes_on(knowing, other, right, tmp_path):
    address = other.url
    other.die()
    assert with_second(knowing, other, tmp_path / "r", *FEW) == 4
    (reason,) = [skip.reason for skip in report_of(tmp_path / "r").skipped if skip.what == "autointerp"]
    assert f"no judge listens at {address.removeprefix('http://')}" in reason
    n = len(knowing.sent)
    check(knowing, tmp_path / "r", *FEW)
    assert len(knowing.sent) == n
    assert report_of(tmp_path / "r").suites[0].arms


def test_no_key_and_no_address(monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert cli.main(["check", "tiny", "--suites", "autointerp", "--judge", "gpt-4o-mini"]) == 2
    assert "neither OPENAI_API_KEY nor judge_url is set" in capsys.readouterr().err


def test_a_run_without_judged_latents_has_none_to_show(finished, capsys):
    _, folder = finished
    assert cli.main(["report", str(folder), "--latents"]) == 2
    assert "holds no latents to look at" in capsys.readouterr().err
