"""Asking in blocks, with a judge that is a function of the latent's number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sae_sanity.suites.autointerp.asking import Heard
from sae_sanity.suites.autointerp.blocks import Asked, ask_in_blocks, notes_of_steps, rows_of_steps, together
from sae_sanity.suites.autointerp.interview import Interview
from sae_sanity.suites.autointerp.latent import Example, Latent
from sae_sanity.suites.autointerp.scoring import mark
from sae_sanity.suites.autointerp.strata import Choice


def latent(number):
    """One that fires in every second of four texts."""
    texts = (Example((" a",), (float(i % 2),), 0.5, "activating" if i % 2 else "random", i, 0) for i in range(4))
    return Latent(number, 0.01, 0, (), (), tuple(texts))


TRIAL = [latent(900), latent(901)]


def choice_of(numbers):
    return Choice(tuple(numbers), tuple(n % 3 for n in numbers), (9, 9, 9), 0, 0, 0)


class Judge:
    """Has all texts of even latents right; says nothing of multiples of 5."""

    def __init__(self):
        self.queues = []

    def __call__(self, latents):
        self.queues.append([each.number for each in latents])
        return [self.about(each) for each in latents], Heard((), len(latents), 10, 1, 0.5)

    def about(self, one):
        right = [i for i, text in enumerate(one.balanced, 1) if text.is_active]
        said = None if one.number % 5 == 0 else right if one.number % 2 == 0 else []
        return Interview(one, "word", mark((), None), mark(one.balanced, said))


@pytest.fixture
def judge():
    return Judge()


@pytest.fixture
def saes():
    """Two SAEs of 7 steps; of the second one latent cannot be asked about."""
    choices = [choice_of(range(1, 8)), choice_of(range(11, 18))]
    latents = [[latent(n) for n in choice.latents if n != 13] for choice in choices]
    return latents, choices


def numbers(interviews):
    return [each.latent.number for each in interviews]


def test_all_at_once_is_one_queue_with_the_trial_at_its_end(judge, saes):
    found = ask_in_blocks(*saes, TRIAL, judge, decided=lambda scores: pytest.fail("nothing is left to ask"))
    assert judge.queues == [[*range(1, 8), 11, 12, 14, 15, 16, 17, 900, 901]]
    assert [numbers(own) for own in (*found.found, found.tried)] == [
        [*range(1, 8)],
        [11, 12, 14, 15, 16, 17],
        [900, 901],
    ]
    assert (found.choices, found.steps, found.saved) == (tuple(saes[1]), 7, 0)


def test_blocks_are_asked_until_it_is_decided(judge, saes):
    told = []

    def decided(scores):
        told.append([list(each) for each in scores])
        return len(told) == 2

    found = ask_in_blocks(*saes, TRIAL, judge, size=3, decided=decided)
    assert judge.queues == [[1, 2, 3, 11, 12, 900, 901], [4, 5, 6, 14, 15, 16]]
    # what cannot be asked about, and what gets no answer, is at chance at its step; odd ones are at chance too
    first = [0.5, 1.0, 0.5], [0.5, 1.0, 0.5]
    assert told == [list(first), [first[0] + [1.0, 0.5, 1.0], first[1] + [1.0, 0.5, 1.0]]]
    assert [numbers(own) for own in found.found] == [[1, 2, 3, 4, 5, 6], [11, 12, 14, 15, 16]]
    assert found.choices == tuple(replace(c, latents=c.latents[:6], strata=c.strata[:6]) for c in saes[1])
    assert (found.steps, found.saved) == (6, pytest.approx(2 / 15))
    assert found.heard == Heard((), 13, 20, 2, 1.0)


def test_the_last_block_is_never_the_subject_of_a_question(judge, saes):
    told = []
    found = ask_in_blocks(*saes, TRIAL, judge, size=3, decided=lambda scores: told.append(1))
    assert (len(judge.queues), len(told), found.steps) == (3, 2, 7)


def test_without_anyone_to_decide_all_are_asked(judge, saes):
    assert ask_in_blocks(*saes, TRIAL, judge, size=3).steps == 7
    assert len(judge.queues) == 3


def test_an_sae_without_steps_is_told_as_one(judge, saes):
    latents, choices = [*saes[0], []], [*saes[1], choice_of([])]
    told = []
    ask_in_blocks(latents, choices, [], judge, size=4, decided=lambda scores: told.append(list(map(len, scores))))
    assert told == [[4, 4, 0]]


def test_the_trial_is_asked_even_where_there_is_nothing_else(judge):
    found = ask_in_blocks([[]], [choice_of([])], TRIAL, judge, size=3)
    assert judge.queues == [[900, 901]]
    assert (numbers(found.tried), found.steps) == ([900, 901], 0)
    assert ask_in_blocks([], [], [], judge).saved == 0


def test_a_price_that_is_not_known_stays_unknown():
    assert together([Heard((), 1, 2, 3, 0.5), Heard((), 1, 2, 3, None)]) == Heard((), 2, 4, 6, None)


def test_rows_say_the_step():
    rows = rows_of_steps(choice_of([7, 3, 5]))
    assert [(r.metric, r.item, r.cluster, r.value) for r in rows] == [
        ("step", "latent 7", "f1", 1.0),
        ("step", "latent 3", "f0", 2.0),
        ("step", "latent 5", "f2", 3.0),
    ]


def test_notes_say_what_was_saved_and_what_was_not_there():
    asked = Asked((), (), [], Heard((), 0, 0, 0, None), 40, 0.6)
    (line,) = notes_of_steps(asked, 100, 100)
    assert line == (
        "early stop: 40 of 100 steps asked, a latent of every SAE each; 60% of the latents were not asked about"
    )
    *_, short = notes_of_steps(asked, 100, 200)
    assert short.startswith("early stop: 100 steps instead of 200: a stratum")
