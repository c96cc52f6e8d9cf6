from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sae_sanity.suites.judges.budget import (
    Budget,
    BudgetSpent,
    Price,
    Spent,
    prompt_tokens_at_most,
    prompt_tokens_expected,
)
from sae_sanity.suites.judges.judge import Answer, Question
from sae_sanity.suites.judges.queue import ask_all

PRICE = Price(2.0, 8.0)


def test_price_is_per_million():
    assert PRICE.cost(1_000_000, 500_000) == 6.0
    assert Price.parse(" 0.15, 0.60 ") == Price(0.15, 0.6)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2", "nan,1", "1,inf"])
def test_what_is_no_price_is_one_line(text):
    with pytest.raises(ValueError, match=r"^--judge-price must be IN,OUT per million tokens, such as 0\.15,0\.6, not"):
        Price.parse(text)


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"max_cost": 1.0}, "--max-cost needs --judge-price IN,OUT"),
        ({"max_cost": 0.0, "price": PRICE}, "--max-cost must be above 0, not 0.0"),
        ({"max_cost": float("nan"), "price": PRICE}, "--max-cost must be above 0, not nan"),
        ({"max_tokens": 0}, "--max-judge-tokens must be at least 1, not 0"),
    ],
)
def test_a_budget_that_is_none(limits, line):
    with pytest.raises(ValueError, match=line):
        Budget(**limits)


@pytest.fixture(scope="module")
def byte_bpe():
    """A real byte-level tokenizer, trained on nothing: it makes a token of every byte, the worst that there is."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[attr-defined]
    return tokenizer


@given(text=st.text(max_size=200))
@example(text="👩" * 200)
@example(text="\ud800" * 200)
def test_no_text_has_more_tokens_than_the_worst_case(byte_bpe, text):
    tokens = len(byte_bpe.encode(text.encode("utf-8", "replace").decode()).ids)
    question = Question((("user", text),), 9, "explanation")
    assert tokens < prompt_tokens_at_most(question)
    assert prompt_tokens_expected(question) <= prompt_tokens_at_most(question)


def test_what_was_set_aside_makes_way_for_what_was_used(explanation):
    spent = Spent(Budget(price=PRICE))
    spent.reserve(explanation())
    spent.settle(explanation(), Answer("x", prompt_tokens=100, completion_tokens=10))
    assert spent.summary() == {"questions": 1, "prompt_tokens": 100, "completion_tokens": 10, "cost": 0.00028}
    assert Spent().summary()["cost"] is None


@pytest.mark.parametrize("failure", ["rate limit", "server error", "bad request"])
def test_what_a_server_did_not_do_is_free(explanation, failure):
    spent = Spent()
    spent.reserve(explanation())
    spent.settle(explanation(), Answer(None, failure=failure))
    assert (spent.questions, spent.prompt_tokens + spent.completion_tokens) == (1, 0)


@pytest.mark.parametrize("answer", [Answer("x"), Answer(None, failure="timeout"), Answer(None, failure="not JSON")])
def test_what_a_server_does_not_count_costs_the_worst_case(explanation, answer):
    spent = Spent()
    spent.reserve(explanation())
    spent.settle(explanation(), answer)
    assert (spent.prompt_tokens, spent.completion_tokens) == (prompt_tokens_at_most(explanation()), 20)


@pytest.mark.parametrize(
    ("answer", "times", "more"),
    [
        (Answer("x", prompt_tokens=7, completion_tokens=2, tries=4, lost=3), 3, (7, 2)),
        (Answer(None, failure="timeout", tries=5, lost=4), 5, (0, 0)),
        (Answer(None, failure="rate limit", tries=5, lost=2), 2, (0, 0)),
        (Answer(None, failure="cut off", prompt_tokens=7, completion_tokens=20), 0, (7, 20)),
    ],
)
def test_what_got_lost_on_the_way_costs_the_worst_case_each_time(explanation, answer, times, more):
    spent = Spent()
    spent.reserve(explanation(), 5)
    spent.settle(explanation(), answer, 5)
    worst = prompt_tokens_at_most(explanation())
    assert (spent.prompt_tokens, spent.completion_tokens) == (times * worst + more[0], times * 20 + more[1])


def test_as_much_is_set_aside_as_a_judge_may_ask(explanation):
    worst = prompt_tokens_at_most(explanation()) + 20
    spent = Spent(Budget(max_tokens=5 * worst))
    spent.reserve(explanation(), 5)
    spent.settle(explanation(), None, 5)
    with pytest.raises(BudgetSpent, match=rf"need {6 * worst} more"):
        spent.reserve(explanation(), 6)
    spent.reserve(explanation(), 5)


def test_a_server_that_answers_too_late_is_paid_for_and_the_limit_holds(make_judge, server, questions):
    """It generates, bills, and finds that the client has hung up: five times for each question."""
    server.always(server.chat("late"), wait_s=0.5)
    many = questions(3)
    worst = prompt_tokens_at_most(many[0]) + 20
    spent = Spent(Budget(max_tokens=12 * worst))
    with pytest.raises(BudgetSpent):
        ask_all(
            make_judge(timeout_s=0.1, retries=4),
            many,
            store=None,
            budget=spent,
            rng=np.random.default_rng(0),
            workers=3,
        )
    assert len(server.sent) == 10
    assert spent.prompt_tokens + spent.completion_tokens == 10 * worst


def test_the_exact_limit_fits_and_one_less_does_not(explanation):
    worst = prompt_tokens_at_most(explanation()) + 20
    Spent(Budget(max_tokens=worst)).reserve(explanation())
    with pytest.raises(
        BudgetSpent, match=rf"budget of {worst - 1} tokens is spent: 0 tokens used, .* need {worst} more"
    ):
        Spent(Budget(max_tokens=worst - 1)).reserve(explanation())


def test_money_is_a_limit_too(explanation):
    worst = PRICE.cost(prompt_tokens_at_most(explanation()), 20)
    spent = Spent(Budget(max_cost=worst, price=PRICE))
    spent.reserve(explanation())
    spent.settle(explanation(), Answer("x", prompt_tokens=1))
    with pytest.raises(BudgetSpent, match=r"budget of a cost of .* is spent: 1 tokens used for 2e-06"):
        spent.reserve(explanation())


def test_a_question_waits_for_what_others_may_give_back(explanation):
    spent = Spent(Budget(max_tokens=prompt_tokens_at_most(explanation()) + 25))
    spent.reserve(explanation())
    second = threading.Thread(target=spent.reserve, args=(explanation(),))
    second.start()
    time.sleep(0.05)
    assert second.is_alive()
    spent.settle(explanation(), Answer("x", prompt_tokens=4, completion_tokens=1))
    second.join(5)
    assert not second.is_alive()


def test_eight_threads_never_pass_the_limit(explanation):
    limit, used = 3000, []
    spent = Spent(Budget(max_tokens=limit))

    def ask(i):
        question = explanation(str(i))
        try:
            spent.reserve(question)
        except BudgetSpent:
            return
        time.sleep(0.001)
        tokens = prompt_tokens_at_most(question) - i % 7
        used.append(tokens + 20)
        spent.settle(question, Answer("x", prompt_tokens=tokens, completion_tokens=20))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(100)))
    assert sum(used) == spent.prompt_tokens + spent.completion_tokens
    assert limit - prompt_tokens_at_most(explanation("99")) - 20 < sum(used) <= limit
