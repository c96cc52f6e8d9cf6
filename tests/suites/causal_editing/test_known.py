"""What a model knows, and when it is asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version

import pytest
from knowing_model import ATTRIBUTES, knowing_site, ravel_data
from sae_bench.evals.ravel.validation import evaluate_completion

from sae_sanity.suites.causal_editing import known as module
from sae_sanity.suites.causal_editing.editor import Editor
from sae_sanity.suites.causal_editing.known import is_right, know

N = 8


@pytest.fixture
def site(tmp_path):
    return knowing_site(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """How many prompts each question was about."""
    counts = []

    class Counting(Editor):
        def __init__(self, site, prompts, **options):
            counts.append(len(prompts))
            super().__init__(site, prompts, **options)

    monkeypatch.setattr(module, "Editor", Counting)
    return counts


def ask(site, n_tokens=1):
    return know(site, ravel_data(), n_entities=N, n_tokens=n_tokens)


def kept(site):
    (path,) = (site.cache / "answers").iterdir()
    return path


def test_answers_are_the_models_own(site):
    """Against `generate` of transformers, one prompt at a time, and SAEBench's rule."""
    for each in ask(site, 2).asked:
        tokens = site.tokenizer(f"<bos> {each.prompt.text}", add_special_tokens=False, return_tensors="pt")
        out = site.model.generate(**tokens, max_new_tokens=2, do_sample=False)[0, tokens["input_ids"].shape[1] :]
        assert each.first == int(out[0])
        assert each.answer == site.tokenizer.decode(out)
        assert each.right == evaluate_completion(each.prompt.text, each.prompt.value, each.answer)


def test_every_entity_is_asked_by_the_templates_of_its_own_split(site):
    data, found = ravel_data(), ask(site)
    assert found.counts() == dict.fromkeys(ATTRIBUTES, (2 * N, 2 * N))
    for each in found.asked:
        assert each.split == data.entity_split[each.prompt.entity] == data.template_split[each.prompt.template]
        assert each.prompt.value == data.values[each.prompt.entity][each.prompt.attribute]


def test_progress_is_told(site, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 20)
    told = []
    know(site, ravel_data(), n_entities=N, n_tokens=1, told=lambda done, total: told.append((done, total)))
    assert told == [(20, 48), (40, 48), (48, 48)]


def test_the_same_is_not_asked_twice(site, asked):
    first = ask(site)
    assert ask(site) == first
    assert asked == [6 * N]


def test_another_version_of_sae_bench_is_asked_again(site, asked, monkeypatch):
    """Its rule decides what is right."""
    ask(site)
    monkeypatch.setattr(module, "version", lambda name: "99" if name == "sae-bench" else version(name))
    ask(site)
    assert len(asked) == 2
    assert len(list((site.cache / "answers").iterdir())) == 2


def test_another_length_or_model_is_asked_again(site, asked):
    ask(site)
    ask(site, 2)
    ask(replace(site, context_size=12))
    assert len(asked) == 3


def without_last(rows):
    return rows[:-1]


def doubled(rows):
    return rows + rows[-1:]


def turned(rows):
    return rows[::-1]


def of_another_value(rows):
    return [row | {"prompt": row["prompt"] | {"value": "elsewhere"}} for row in rows]


def of_another_split(rows):
    return [row | {"split": "test"} for row in rows]


@pytest.mark.parametrize("change", [without_last, doubled, turned, of_another_value, of_another_split])
def test_answers_to_other_prompts_are_asked_again(site, asked, change):
    first = ask(site)
    kept(site).write_text(json.dumps(change(json.loads(kept(site).read_text()))))
    assert ask(site) == first
    assert len(asked) == 2
    assert ask(site) == first  # and the file is whole again
    assert len(asked) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", "[{}]", "[[]]", '["x"]', "null", "3", '[{"prompt": 3}]', "\xff"])
def test_a_damaged_file_is_asked_again(site, asked, content):
    first = ask(site)
    kept(site).write_bytes(content.encode("latin-1"))
    assert ask(site) == first
    assert len(asked) == 2


def test_the_rule_is_saebenchs(site):
    prompt = ask(site).asked[0].prompt
    for answer in (prompt.value, f" {prompt.value} and", "nothing", "", '"'):
        assert is_right(prompt, answer) == evaluate_completion(prompt.text, prompt.value, answer)
    assert is_right(prompt, "Peru is", "Peru")
    assert not is_right(prompt, prompt.value, "Peru")
