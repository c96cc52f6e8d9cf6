"""Pairs of prompts: nothing of a test is ever learned from, and every pair can show what it is for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from sae_sanity.suites.causal_editing.known import Answered, Known
from sae_sanity.suites.causal_editing.pairs import draw_tasks, pairs_of
from sae_sanity.suites.causal_editing.prompt import Prompt

ATTRIBUTES = ("Country", "Continent", "Language")
COUNTRIES = [("Peru", "South America", "Spanish"), ("Japan", "Asia", "Japanese"), ("Chad", "Africa", "French")]
COUNTRIES += [("Mexico", "North America", "Spanish"), ("Iran", "Asia", "Persian")]


def answered(entity: int, attribute: str, number: int, *, right: bool = True) -> Answered:
    split = "test" if entity % 2 else "train"
    template = f"{split} {number}: %s, {attribute}"
    value = COUNTRIES[entity % len(COUNTRIES)][ATTRIBUTES.index(attribute)]
    prompt = Prompt(template % f"E{entity}", template, attribute, f"E{entity}", value, (1, 2, 3), 1)
    return Answered(prompt, split, sum(map(ord, value)), value, right)


def known(n: int = 60, templates: int = 2, wrong: tuple[tuple[int, str], ...] = ()) -> Known:
    asked = product(range(n), ATTRIBUTES, range(templates))
    return Known(tuple(answered(e, a, t, right=(e, a) not in wrong) for e, a, t in asked))


@pytest.fixture(scope="module")
def tasks():
    return draw_tasks(known(), n_train=200, n_sources=2, seed=0)


def test_entities_and_templates_of_train_and_test_are_disjoint(tasks):
    right = known().right
    for task in tasks:
        learnt = {right[i].prompt for pair in task.train for i in (pair.base, pair.source)}
        tried = {right[i].prompt for pair in pairs_of(task.test) for i in (pair.base, pair.source)}
        assert not {p.entity for p in learnt} & {p.entity for p in tried}
        assert not {p.template for p in learnt} & {p.template for p in tried}


def test_every_pair_can_show_what_it_is_for(tasks):
    """Base and source share the template and nothing else; what is wanted and what is not are told apart."""
    right = known().right
    for task in tasks:
        for pair in (*task.train, *pairs_of(task.test)):
            base, source = right[pair.base], right[pair.source]
            assert base.prompt.template == source.prompt.template
            assert base.prompt.value != source.prompt.value
            wanted = source if base.prompt.attribute == task.attribute else base
            assert (pair.value, pair.token) == (wanted.prompt.value, wanted.first)
            assert pair.other == (base if wanted is source else source).first


def test_half_of_a_lesson_is_about_the_attribute_and_the_rest_about_each_other(tasks):
    right = known().right
    for task in tasks:
        about = Counter(right[pair.base].prompt.attribute for pair in task.train)
        assert about == {name: 100 if name == task.attribute else 50 for name in ATTRIBUTES}


def test_items_ask_about_every_other_attribute_of_the_same_two_entities(tasks):
    right = known().right
    for task in tasks:
        assert Counter(Counter(item.base for item in task.test).values()) == {2: 30}
        for item in task.test:
            assert set(item.isolation) == set(ATTRIBUTES) - {task.attribute}
            for pair in (item.cause, *item.isolation.values()):
                assert right[pair.base].prompt.entity == item.base
                assert right[pair.source].prompt.entity == item.source
    assert len({item.name for task in tasks for item in task.test}) == sum(len(task.test) for task in tasks)


def test_the_same_seed_draws_the_same_and_another_does_not(tasks):
    assert draw_tasks(known(), n_train=200, n_sources=2, seed=0) == tasks
    assert draw_tasks(known(), n_train=200, n_sources=2, seed=1) != tasks


def test_what_the_model_does_not_know_is_not_edited():
    wrong = tuple((e, "Continent") for e in range(0, 60, 3))
    some = known(wrong=wrong)
    tasks = draw_tasks(some, n_train=50, n_sources=1, seed=0)
    used = {
        (some.right[i].prompt.entity, some.right[i].prompt.attribute)
        for t in tasks
        for p in (*t.train, *pairs_of(t.test))
        for i in (p.base, p.source)
    }
    assert not used & {(f"E{e}", a) for e, a in wrong}
    assert some.counts() == {"Country": (120, 120), "Continent": (80, 120), "Language": (120, 120)}


def test_too_few_known_entities_are_refused_with_counts():
    said = r"Country of [0-7] and [0-7], Continent of .* it answered 20 of 20 prompts about Country"
    with pytest.raises(ValueError, match=said):
        draw_tasks(known(10), n_train=50, n_sources=1, seed=0)


def test_an_attribute_that_the_model_does_not_know_is_left_out():
    wrong = tuple((e, "Language") for e in range(60))
    tasks = draw_tasks(known(wrong=wrong), n_train=50, n_sources=1, seed=0)
    assert [task.attribute for task in tasks] == ["Country", "Continent"]
    assert {tuple(item.isolation) for task in tasks for item in task.test} == {("Continent",), ("Country",)}


def test_one_attribute_cannot_be_isolated():
    alone = Known(tuple(each for each in known().asked if each.prompt.attribute == "Country"))
    with pytest.raises(ValueError, match="two attributes must have"):
        draw_tasks(alone, n_train=50, n_sources=1, seed=0)


def test_answers_that_pass_for_each_other_are_never_a_pair():
    """An edit from Niger to Nigeria would be called right whether or not it did a thing."""
    like = {"Peru": "Niger", "Chad": "Nigeria"}
    asked = tuple(
        replace(each, answer=value, prompt=replace(each.prompt, value=value))
        for each in known().asked
        for value in [like.get(each.answer, each.answer)]
    )
    some = Known(asked)
    pairs = [
        p for task in draw_tasks(some, n_train=200, n_sources=2, seed=0) for p in (*task.train, *pairs_of(task.test))
    ]
    named = {frozenset((some.right[p.base].answer, some.right[p.source].answer)) for p in pairs}
    assert named
    assert frozenset(("Niger", "Nigeria")) not in named


def test_answers_that_begin_alike_are_never_a_pair():
    some = Known(tuple(replace(e, first=1) if e.answer in ("Peru", "Chad") else e for e in known().asked))
    pairs = [
        p for task in draw_tasks(some, n_train=200, n_sources=2, seed=0) for p in (*task.train, *pairs_of(task.test))
    ]
    assert all(pair.token != pair.other for pair in pairs)
