from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sae_bench.evals.autointerp.main import AutoInterp
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from sae_sanity.suites.autointerp.latent import Example
from sae_sanity.suites.autointerp.scoring import LONGEST, mark, parse_explanation, parse_predictions, saebench_score

THEIRS = AutoInterp.__new__(AutoInterp)
EXAMPLES = st.lists(
    st.tuples(st.sampled_from(["top", "weighted", "random"]), st.sampled_from([0.0, 0.05, 3.0])),
    min_size=1,
    max_size=20,
)


def examples(*parts):
    return [Example(("a", "b"), (0.0, act), 0.1, kind, 0, 0) for kind, act in parts]


# answers


@pytest.mark.parametrize(
    "text", ["1, 3", "1,3", "1 and 3", "1, 3.", " 3, 1 ", "None", "None.", "2", "1, 2, and 3", "and 1, 1"]
)
def test_what_saebench_reads_is_read_as_saebench_does(text):
    assert parse_predictions(text, 14) == tuple(sorted(set(THEIRS.parse_predictions(text))))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[1, 3]", (1, 3)),
        ("[]", ()),
        ('["1", "3"]', (1, 3)),
        ('{"examples": [3, 1]}', (1, 3)),
        ('{"reason": "x", "active": []}', ()),
        ("```json\n[1, 3]\n```", (1, 3)),
        ("Examples 1, 3", (1, 3)),
        ("Example 1 and example 3.", (1, 3)),
        ("Answer: 1, 3", (1, 3)),
        ("The answer is: **1, 3**", (1, 3)),
        ("The neuron should activate on examples 1, 2, and 13.", (1, 2, 13)),
        ("1\n3\n", (1, 3)),
        ("1. \n3.", (1, 3)),
        ("1; 3", (1, 3)),
        ("1 3", (1, 3)),
        ('"1, 3"', (1, 3)),
        ("none", ()),
        ("NONE.", ()),
        ("Answer: None", ()),
        ("None of the examples.", ()),
        ("No examples", ()),
    ],
)
def test_what_saebench_drops_is_read(text, numbers):
    assert THEIRS.parse_predictions(text) is None or text == "NONE."
    assert parse_predictions(text, 14) == numbers


@pytest.mark.parametrize(
    "text",
    [
        None,
        "the first and the last",
        "I cannot help with that.",
        "There are 3 examples",
        "not 1, 3",
        "1.5",
        "1-3",
        "-1",
        "[1, 2.5]",
        "[true]",
        '{"a": [1], "b": [2]}',
        "²",
        "9" * 5000,
        "[" * 5000,
        "1, " * LONGEST,
        "Examples 1, 3 because they mention cats",
        "1, 3 are active",
        '{"examples": [1, 3, 57, 6',
        '{"examples": [1, 3]',
        '{"examples":\n [\n1,\n 3,',
        "[1, 3",
        "(1, 3",
        "```json\n[1, 3",
    ],
)
def test_what_cannot_be_read(text):
    assert parse_predictions(text, 14) is None


@pytest.mark.parametrize(("text", "theirs"), [("1, 15", [1, 15]), ("0", [0]), ("", []), (" ... ", []), ("and", [])])
def test_where_we_differ_from_saebench_on_purpose(text, theirs):
    assert THEIRS.parse_predictions(text) == theirs
    assert parse_predictions(text, 14) is None


@given(st.text(alphabet=st.sampled_from("0123456789,. and[]{}\"'None:exmplsEX\n²٣-"), max_size=40))
def test_no_answer_breaks_it(text):
    found = parse_predictions(text, 14)
    assert found is None or (list(found) == sorted(set(found)) and set(found) <= set(range(1, 15)))
    try:
        theirs = THEIRS.parse_predictions(text)
    except ValueError:
        return
    if found is not None and theirs is not None:
        assert set(found) == set(theirs)


def test_a_hostile_answer_is_read_in_no_time():
    for piece in ("the ", "1 and ", "example ", "1. ", "[ ", "none of the "):
        parse_predictions(piece * (LONGEST // len(piece)) + "x", 14)


@pytest.mark.parametrize("text", ["This neuron activates on cats.", "cats", "activates on x activates on  dogs. "])
def test_explanations_are_cut_as_saebench_does(text):
    assert parse_explanation(text) == THEIRS.parse_explanation(text)


@pytest.mark.parametrize("text", [None, "", "This neuron activates on.", " . "])
def test_no_explanation(text):
    assert parse_explanation(text) is None


# scores


@given(EXAMPLES, st.data())
def test_scores_against_saebench_and_sklearn(parts, data):
    shown = examples(*parts)
    numbers = data.draw(st.sets(st.integers(1, len(shown))))
    found = mark(shown, sorted(numbers))
    assert found.score == saebench_score(shown, sorted(numbers))
    assert found.bounds == (found.score, found.score)
    assert not found.failed
    fires, said = [each.is_active for each in shown], [i + 1 in numbers for i in range(len(shown))]
    assert found.predicted == tuple(said)
    assert found.correct == tuple(a == b for a, b in zip(found.active, said, strict=True))
    assert math.isclose(found.true_score, accuracy_score(fires, said))
    assert found.yes_rate == len(numbers) / len(shown)
    if len(set(fires)) == 2:
        assert math.isclose(found.balanced_accuracy, balanced_accuracy_score(fires, said))
    else:
        assert math.isnan(found.balanced_accuracy)


def test_a_missing_answer_is_scored_at_the_floor():
    shown = examples(*[("top", 3.0)] * 2, *[("weighted", 3.0)] * 2, *[("random", 0.0)] * 9, ("random", 3.0))
    failed, none = mark(shown, None), mark(shown, ())
    assert failed.failed
    assert failed.correct is None
    assert failed.score == failed.floor == none.score == saebench_score(shown, ()) == 10 / 14
    assert failed.true_score == none.true_score == 9 / 14
    assert failed.bounds == (0.0, 1.0)
    assert failed.balanced_accuracy == none.balanced_accuracy == 0.5
    assert math.isnan(failed.yes_rate)


def test_nothing_was_shown():
    found = mark((), None)
    assert found.bounds == (0.0, 1.0)
    assert math.isnan(found.score)
    assert math.isnan(found.balanced_accuracy)


def test_a_perfect_judge():
    shown = examples(("activating", 3.0), ("random", 0.0), ("activating", 3.0), ("hard", 0.0))
    found = mark(shown, [1, 3])
    assert found.score == found.true_score == found.balanced_accuracy == 1
    assert found.yes_rate == found.floor == 0.5
