"""Trials of edits on a model that is one table: what is answered is known, and so is what may be held of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from knowing_model import knowing_site, ravel_data

from sae_sanity.suites.causal_editing import trial as module
from sae_sanity.suites.causal_editing.editor import Editor
from sae_sanity.suites.causal_editing.known import Answered, Known, know
from sae_sanity.suites.causal_editing.pairs import Item, Pair
from sae_sanity.suites.causal_editing.prompt import Prompt
from sae_sanity.suites.causal_editing.trial import Trial, Tried, first_token_rows, rows_of_items

N_PROMPTS, VOCABULARY, D_IN = 12, 50, 6


@dataclass
class Table:
    """Logits are a row of a table for the prompt plus a linear map of what is put in; says what of them is alive."""

    base: torch.Tensor = field(default_factory=lambda: _noise(N_PROMPTS, VOCABULARY, seed=0))
    reader: torch.Tensor = field(default_factory=lambda: _noise(D_IN, VOCABULARY, seed=1))
    asked: list[int] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    _given: list[weakref.ref] = field(default_factory=list)

    def logits(self, which, rows):
        self.asked.append(len(which))
        self.alive.append(sum(each() is not None for each in self._given))
        found = self.base[list(which)] + rows @ self.reader
        self._given.append(weakref.ref(found))
        return found

    def generate(self, which, rows, n_tokens):
        return (self.base[list(which)] + rows @ self.reader).argmax(1, keepdim=True).expand(-1, n_tokens)


class Words:
    """Every token is a word."""

    def batch_decode(self, tokens):
        return [" ".join(f"word{int(token)}." for token in row) for row in tokens]


def _noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_known():
    """Prompts of three templates, out of order and of many lengths."""
    prompts = [
        Prompt(f"p{i}", f"t{i % 3}", "Country", f"e{i}", f"word{i}.", tuple(range(1 + (7 * i) % 5)), 0)
        for i in range(N_PROMPTS)
    ]
    return Known(tuple(Answered(prompt, "test", 0, "", right=True) for prompt in prompts))


def make_pairs(n):
    rng = np.random.default_rng(n)
    return [
        Pair(int(base), 0, f"word{token}.", int(token), int(other))
        for base, token, other in zip(
            *(rng.integers(0, m, n) for m in (N_PROMPTS, VOCABULARY, VOCABULARY)), strict=True
        )
    ]


@pytest.mark.parametrize("n", [1, 63, 64, 65, 323])
def test_first_tokens_are_those_of_all_pairs_at_once(n):
    table, pairs, rows = Table(), make_pairs(n), _noise(n, D_IN, seed=2)
    right, margin = Trial(table, Words(), make_known(), 2).first_tokens(pairs, rows)
    whole = table.base[[pair.base for pair in pairs]] + rows @ table.reader
    assert right.tolist() == [int(row.argmax()) == pair.token for row, pair in zip(whole, pairs, strict=True)]
    expected = [float(row[pair.token] - row[pair.other]) for row, pair in zip(whole, pairs, strict=True)]
    assert margin == pytest.approx(expected, abs=1e-5)
    assert (right.dtype, margin.dtype, right.shape, margin.shape) == (np.bool_, np.float32, (n,), (n,))


def test_some_first_tokens_are_right():
    """Of random tokens hardly any is: here every second one is what the table says."""
    table, rows = Table(), _noise(100, D_IN, seed=3)
    pairs = make_pairs(100)
    likeliest = (table.base[[pair.base for pair in pairs]] + rows @ table.reader).argmax(1).tolist()
    pairs = [
        Pair(pair.base, 0, "", token if i % 2 else (token + 1) % VOCABULARY, 0)
        for i, (pair, token) in enumerate(zip(pairs, likeliest, strict=True))
    ]
    right, _ = Trial(table, Words(), make_known(), 1).first_tokens(pairs, rows)
    assert right.tolist() == [bool(i % 2) for i in range(100)]


@pytest.mark.parametrize("n", [64, 2560])
def test_whole_vocabularies_are_held_for_one_batch_at_a_time(n):
    table = Table()
    Trial(table, Words(), make_known(), 1).first_tokens(make_pairs(n), torch.zeros(n, D_IN))
    assert sum(table.asked) == n
    assert max(table.asked) <= 64
    assert max(table.alive) == 0
    assert all(each() is None for each in table._given)


def test_prompts_of_a_template_run_together(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 4)
    seen, known = [], make_known()

    class Watching(Table):
        def logits(self, which, rows):
            seen.extend(known.right[index].prompt for index in which)
            return super().logits(which, rows)

    pairs = [Pair(index, 0, "", 0, 1) for index in range(N_PROMPTS)]
    Trial(Watching(), Words(), known, 1).first_tokens(pairs, torch.zeros(N_PROMPTS, D_IN))
    shapes = [(prompt.template, len(prompt.tokens)) for prompt in seen]
    assert shapes == sorted(shapes)
    assert len(set(seen)) == N_PROMPTS


def test_nothing_is_recorded_for_gradients():
    rows = torch.zeros(3, D_IN, requires_grad=True)
    right, margin = Trial(Table(), Words(), make_known(), 1).first_tokens(make_pairs(3), rows)
    assert isinstance(right, np.ndarray)
    assert isinstance(margin, np.ndarray)


def test_answers_are_judged_by_the_value_that_is_wanted():
    table, rows, pairs = Table(), _noise(70, D_IN, seed=4), make_pairs(70)
    said = table.generate([pair.base for pair in pairs], rows, 1)[:, 0].tolist()
    pairs = [
        Pair(pair.base, 0, f"word{token}." if i % 3 else "word99.", token, pair.other)
        for i, (pair, token) in enumerate(zip(pairs, said, strict=True))
    ]
    tried = Trial(table, Words(), make_known(), 2).answers(pairs, rows)
    assert tried.right.tolist() == [bool(i % 3) for i in range(70)]
    assert tried.first.all()
    assert (tried.margin >= 0).all()


def test_first_tokens_of_a_language_model(tmp_path, monkeypatch):
    """In parts, against the logits of all pairs together."""
    site = knowing_site(tmp_path)
    known = know(site, ravel_data(), n_entities=12, n_tokens=1)
    editor = Editor(site, [each.prompt for each in known.right])
    n = len(known.right)
    pairs = [Pair(i, (5 * i + 1) % n, "", known.right[(5 * i + 1) % n].first, known.right[i].first) for i in range(n)]
    rows = editor.clean()[[pair.source for pair in pairs]]
    monkeypatch.setattr(module, "BATCH", 7)
    right, margin = Trial(editor, site.tokenizer, known, 1).first_tokens(pairs, rows)
    with torch.no_grad():
        whole = editor.logits(range(n), rows)
    assert right.tolist() == [int(row.argmax()) == pair.token for row, pair in zip(whole, pairs, strict=True)]
    expected = [float(row[pair.token] - row[pair.other]) for row, pair in zip(whole, pairs, strict=True)]
    assert margin == pytest.approx(expected, abs=1e-3)
    assert right.any()
    assert not right.all()


def test_rows_of_items_by_hand():
    pairs = make_pairs(5)
    items = [
        Item("Country", "a", "b", pairs[0], {"Language": pairs[1], "Continent": pairs[2]}),
        Item("Country", "c", "d", pairs[3], {"Language": pairs[4]}),
    ]
    right, first = np.array([True, True, False, False, True]), np.array([True, False, False, True, True])
    tried = Tried(right, first, np.arange(5.0))
    rows = list(rows_of_items(items, tried, "#0"))
    found = {(row.metric, row.item): row.value for row in rows}
    assert len(found) == len(rows) == 2 * 5 + 2 + 2
    assert found["cause", "Country|a<-b#0"] == 1
    assert found["isolation", "Country|a<-b|Language#0"] == 1
    assert found["isolation", "Country|a<-b|Continent#0"] == 0
    assert found["isolation_logit_difference", "Country|c<-d|Language#0"] == 4
    assert found["disentangle", "Country|a<-b#0"] == 0.75
    assert found["disentangle", "Country|c<-d#0"] == 0.5
    assert found["first_token", "Country|a<-b#0"] == 0.5
    assert {row.cluster for row in rows} == {"a", "c"}
    assert [row.value for row in first_token_rows("x", items, first, "")] == [0.5, 1]
