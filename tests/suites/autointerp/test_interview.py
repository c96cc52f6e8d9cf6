"""Interviews with judges of a few lines: what is asked, in which order, and what becomes of answers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sae_sanity.suites.autointerp.asking import Asker, Heard, said
from sae_sanity.suites.autointerp.interview import interview
from sae_sanity.suites.autointerp.latent import Example, Latent
from sae_sanity.suites.autointerp.notes import notes_on
from sae_sanity.suites.autointerp.prompts import detection_question, explanation_question
from sae_sanity.suites.autointerp.scoring import parse_predictions
from sae_sanity.suites.autointerp.second import second_opinion
from sae_sanity.suites.judges.answers import AnswerStore, answer_key
from sae_sanity.suites.judges.budget import Budget, Price, Spent
from sae_sanity.suites.judges.judge import Answer
from sae_sanity.suites.suite import Judging


def window(word, act, kind, place):
    return Example((" the", f" {word}", f" {place}"), (0.0, act, 0.0), 0.5, kind, place, 1)


def latent(number, word, n=8):
    """A latent that fires on one word; every other text has another one."""
    half = range(n // 2)
    yes = tuple(window(word, 2.0, "activating", i) for i in half)
    no = tuple(window("other", 0.0, "random", n + i) for i in half)
    mixed = tuple(each for pair in zip(yes, no, strict=True) for each in pair)
    top = tuple(replace(each, kind="top") for each in yes[:2])
    return Latent(number, 0.01, 0, top, (*top, *no[:3]), mixed)


class Reading:
    """Names the word that is marked, and looks for it; `spoil` may answer otherwise."""

    is_llm = True

    def __init__(self, name="reader", spoil=lambda question, answer: answer):
        self.name, self.spoil, self.asked = name, spoil, []

    def identity(self):
        return {"judge": self.name}

    def ask(self, question):
        self.asked.append(question)
        text = question.messages[-1][1]
        if question.purpose == "explanation":
            told = f"This neuron activates on {re.search(r'<< ?(.+?)>>', text)[1].strip()}"
        else:
            word = re.search(r"fires on (\w+)", text)[1]
            lines = re.findall(r"^(\d+)\.(.*)$", text, re.MULTILINE)
            told = ", ".join(i for i, line in lines if f" {word}" in line) or "None"
        return self.spoil(question, Answer(told, prompt_tokens=100, completion_tokens=10, model=self.name))

    def close(self):
        pass


@pytest.fixture
def judging(tmp_path):
    store = AnswerStore(tmp_path / "answers.sqlite")
    yield lambda judge, **more: Judging(judge, store, **{"spent": Spent()} | more)
    store.close()


@pytest.fixture
def many():
    return [latent(i, f"word{chr(97 + i)}") for i in range(20)]


def test_a_judge_that_reads_finds_all(judging, many):
    found, heard = interview(many, judging(Reading()), np.random.default_rng(0))
    assert [each.explanation for each in found] == [f"word{chr(97 + i)}" for i in range(20)]
    assert [each.balanced.balanced_accuracy for each in found] == [1.0] * 20
    again = [each.agrees for each in found if each.agrees is not None]
    assert set(again) == {1.0}
    assert heard.questions == len(heard.answers) == 60 + len(again)


@pytest.mark.parametrize("failure", ["too long", "cut off", "refusal", "wrong model: x"])
def test_words_of_an_answer_that_failed_are_not_used(judging, many, failure):
    def spoil(question, answer):
        return replace(answer, failure=failure) if question.purpose == "detection" else answer

    judge = Reading(spoil=spoil)
    found, heard = interview(many, judging(judge), np.random.default_rng(0))
    assert parse_predictions(judge.ask(judge.asked[-1]).text, 8) is not None
    assert all(each.balanced.failed and each.saebench.failed and each.agrees is None for each in found)
    assert {answer.failure for answer in heard.answers[20:]} == {failure}


def test_an_explanation_that_failed_is_none(judging, many):
    judge = Reading(spoil=lambda question, answer: replace(answer, failure="too long"))
    found, _ = interview(many, judging(judge), np.random.default_rng(0))
    assert {each.explanation for each in found} == {None}
    assert {question.purpose for question in judge.asked} == {"explanation"}


def test_said_is_nothing_where_it_failed():
    assert said(Answer("1, 3")) == "1, 3"
    assert said(Answer("1, 3", failure="too long")) is None


def test_lost_answers_change_nothing_that_is_drawn_later(judging, many):
    """The order of all later questions, who is asked twice, and what the caller draws afterwards."""
    drawn = []
    for bad in (0, 3):
        left = [bad]

        def spoil(question, answer, left=left):
            if question.purpose == "explanation" and left[0]:
                left[0] -= 1
                return Answer(None, failure="timeout")
            return answer

        judge, rng = Reading(f"reader {bad}", spoil), np.random.default_rng(3)
        found, _ = interview(many, judging(judge), rng)
        detections = sorted((q.attempt, q.messages) for q in judge.asked if q.purpose == "detection")
        drawn.append(([each.agrees is not None for each in found], detections, rng.random(), rng.spawn(1)[0].random()))
    assert drawn[0] == drawn[1]


def test_a_question_says_nothing_about_whose_it_is(many):
    """The same texts of a latent of another number, of another SAE, that fires at another rate."""
    (one, *_), judge = many, Reading()
    other = replace(one, number=99, firing_rate=0.3, stratum=4)
    moved = replace(
        other, balanced=tuple(replace(e, document=e.document + 50, position=e.position + 3) for e in one.balanced)
    )
    pairs = [
        (explanation_question(one), explanation_question(other)),
        (detection_question("cats", one.balanced), detection_question("cats", moved.balanced)),
    ]
    for ours, theirs in pairs:
        assert ours == theirs
        assert answer_key(judge, ours) == answer_key(judge, theirs)


# notes


def test_the_notes_count_what_was_sent_and_not_what_was_kept(judging, many):
    price = Budget(price=Price(1.0, 10.0))
    tries = iter([Answer("what?", prompt_tokens=100, completion_tokens=10, model="reader")])
    judge = Reading(spoil=lambda question, answer: next(tries, answer) if question.purpose == "detection" else answer)
    spent = Spent(price)
    spent.questions = spent.prompt_tokens = 7  # of another SAE of the same command
    _, first = interview([*many, many[0]], judging(judge, spent=spent), np.random.default_rng(0))
    n = len(judge.asked)
    assert (first.questions, first.prompt_tokens, first.completion_tokens) == (n, 100 * n, 10 * n)
    assert len(first.answers) == n - 1  # one was asked twice; the latent that is there twice was asked about once
    who, taken = notes_on(judge, first)
    assert who == "judge: reader, a language model; answered as reader"
    assert taken == (
        f"judge: {n} questions sent, {100 * n:,} tokens asked and {10 * n:,} answered, for {200 * n / 1e6:.4g}; "
        "0 answers from the cache"
    )
    _, again = interview(many, judging(judge), np.random.default_rng(0))
    assert again.questions == 0
    assert notes_on(judge, again)[1].startswith("judge: 0 questions sent, 0 tokens asked and 0 answered; 6")


def test_the_notes_say_what_went_wrong():
    answers = (Answer("x", without="seed temperature", model="m"), Answer("y", failure="unusable", without="seed"))
    notes = notes_on(Reading(), Heard(answers, 2, 1, 1, None))
    assert notes[2:] == (
        "judge: asked without seed, temperature, which its server refuses",
        "judge: without a usable answer 1 (unusable)",
    )
    scorer = Reading()
    scorer.is_llm = False
    assert notes_on(scorer, Heard((Answer("x", cached=True), Answer("y")), 0, 0, 0, None))[1] == (
        "judge: 1 questions and no tokens; 1 answers from the cache"
    )


# the second judge


def opinion(many, judging, second, share=0.3, first=None, seed=0, planted=4):
    rng = np.random.default_rng(seed)
    both = judging(first or Reading(), second=second, second_share=share)
    found, _ = interview(many, both, rng)
    return second_opinion(found[planted:], found[:planted], both, rng)


def test_without_a_second_judge_nothing_is_asked_or_drawn(judging, many):
    rng = np.random.default_rng(0)
    assert second_opinion([], [], judging(Reading()), rng) == ()
    assert rng.spawn(1)[0].random() == np.random.default_rng(0).spawn(1)[0].random()


def test_it_is_asked_the_same_and_of_a_share(judging, many):
    first, second = Reading("one"), Reading("two")
    line, who, taken = opinion(many, judging, second, first=first)
    assert line == (
        "second judge: two (a language model) beside one (a language model): kappa 1.000 (standard error over latents "
        "0.000), the same on 1.000 of 48 texts of 6 latents; accuracy on 1 planted latents 1.000, of the first judge "
        "1.000; 0 of 6 latents without an answer of the second"
    )
    assert who == "second judge: two, a language model; answered as two"
    assert taken.startswith(
        "second judge: 6 questions sent, 600 tokens asked and 60 answered; 0 answers from the cache"
    )
    balanced = {detection_question(f"word{chr(97 + i)}", each.balanced) for i, each in enumerate(many)}
    assert set(second.asked) <= balanced & set(first.asked)


def test_who_is_drawn_follows_from_the_seed_alone(judging, many):
    asked = []
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        second = Reading(name)
        opinion(many, judging, second, seed=seed, first=Reading(f"first of {name}"))
        asked.append(sorted(question.messages for question in second.asked))
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize(("share", "n"), [(0.01, 4), (0.5, 10), (1.0, 20)])
def test_a_share_has_at_least_one_planted_and_a_few_others(judging, many, share, n):
    second = Reading("two")
    opinion(many, judging, second, share)
    assert len(second.asked) == n


def test_latents_that_lead_to_the_same_question_count_once(judging, many):
    """Those of a permuted decoder."""
    line, *_ = opinion([*many, *many[4:]], judging, Reading("two"), 1.0)
    assert "160 texts of 20 latents" in line


def test_what_it_leaves_unanswered_is_counted(judging, many):
    second = Reading(
        "two",
        lambda question, answer: replace(answer, failure="cut off") if "worde" in question.messages[-1][1] else answer,
    )
    line, *_, failed = opinion(many, judging, second, 1.0)
    assert "152 texts of 19 latents" in line
    assert line.endswith("1 of 20 latents without an answer of the second")
    assert failed == "second judge: without a usable answer 1 (cut off)"


def test_what_the_first_left_unanswered_is_not_asked(judging, many):
    def spoil(question, answer):
        return replace(answer, failure="refusal") if question.purpose == "detection" else answer

    second = Reading("two")
    line, *_ = opinion(many, judging, second, 1.0, first=Reading("one", spoil))
    assert second.asked == []
    assert "on none of 0 texts of 0 latents; accuracy on no planted latent" in line


def test_one_that_always_says_none_agrees_by_chance_alone(judging, many):
    second = Reading("two", lambda question, answer: replace(answer, text="None"))
    line, *_ = opinion(many, judging, second, 1.0)
    assert "kappa 0.000 (standard error over latents 0.000), the same on 0.500" in line
    assert "planted latents 0.500, of the first judge 1.000" in line


def test_a_scorer_beside_a_language_model_is_called_one(judging, many):
    second = Reading("two")
    second.is_llm = False
    line, *_ = opinion(many, judging, second)
    assert "two (no language model: its scores are not those of an LLM judge) beside one" not in line
    assert "two (no language model" in line
    assert "beside reader (a language model)" in line


def test_both_judges_share_one_budget(judging, many):
    spent = Spent(Budget(max_tokens=10**7))
    first, second = Reading("one"), Reading("two")
    rng = np.random.default_rng(0)
    both = judging(first, second=second, spent=spent)
    found, heard = interview(many, both, rng)
    second_opinion(found, [], both, rng)
    assert heard.questions == len(first.asked)
    assert spent.questions == len(first.asked) + len(second.asked)


def test_an_asker_counts_from_where_it_was_made(judging):
    spent = Spent()
    spent.questions = 5
    assert Asker(judging(Reading(), spent=spent)).heard().questions == 0
