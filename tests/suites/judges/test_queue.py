from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Budget, BudgetSpent, Spent, prompt_tokens_at_most
from sae_sanity.suites.judges.judge import Answer, JudgeUnavailable
from sae_sanity.suites.judges.queue import AGAIN, ask_all, ask_until_usable


class Echo:
    """Says the question again, after what `before` does."""

    name, is_llm = "echo", True

    def __init__(self, before=lambda question: None):
        self.before, self.asked, self._lock = before, [], threading.Lock()

    def identity(self):
        return {"judge": "echo"}

    def ask(self, question):
        with self._lock:
            self.asked.append(question)
        given = self.before(question)
        return given or Answer(question.messages[-1][1], prompt_tokens=10, completion_tokens=1)

    def close(self):
        pass


@pytest.fixture
def store(tmp_path):
    store = AnswerStore(tmp_path / "answers.sqlite")
    yield store
    store.close()


@pytest.fixture
def settings():
    return lambda **more: {"store": None, "budget": None, "rng": np.random.default_rng(0)} | more


def _texts(answers):
    return [answer.text for answer in answers]


def test_answers_come_in_the_order_of_the_questions(questions, settings):
    judge = Echo(lambda q: time.sleep(hash(q.messages) % 5 / 1000))
    assert _texts(ask_all(judge, questions(100), **settings())) == [f"question {i}" for i in range(100)]


def test_no_questions_no_answers(settings):
    assert ask_all(Echo(), [], **settings()) == []


def test_the_order_of_asking_is_random_and_repeatable(questions, settings):
    orders = []
    for seed in (1, 1, 2):
        judge = Echo()
        ask_all(judge, questions(50), **settings(rng=np.random.default_rng(seed), workers=1))
        orders.append(judge.asked)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != questions(50)
    assert orders[0] == [questions(50)[i] for i in np.random.default_rng(1).permutation(50)]


def test_questions_of_arms_are_mixed(explanation, settings):
    judge = Echo()
    arms = [explanation(f"{arm} {i}") for arm in range(5) for i in range(200)]
    ask_all(judge, arms, **settings(workers=1))
    places = np.array([[int(q.messages[-1][1].split()[0]) for q in judge.asked]]).ravel()
    means = [np.flatnonzero(places == arm).mean() for arm in range(5)]
    # Each arm's mean place is 499.5 with a standard deviation of 18; arm by arm they would be 100, 300, ...
    assert np.ptp(means) < 110


def test_equal_questions_are_asked_once(questions, explanation, settings):
    judge = Echo()
    seen = []
    twice = [*questions(5), *questions(5), explanation("question 0", attempt=1)]
    answers = ask_all(judge, twice, **settings(on_answer=lambda done, total: seen.append((done, total))))
    assert len(judge.asked) == 6
    assert _texts(answers[:5]) == _texts(answers[5:10])
    assert seen[-1] == (11, 11)
    assert seen == sorted(seen)


def test_stored_answers_are_not_asked_again(questions, settings, store):
    ask_all(Echo(), questions(5), **settings(store=store))
    judge = Echo()
    answers = ask_all(judge, questions(8), **settings(store=store))
    assert len(judge.asked) == 3
    assert [answer.cached for answer in answers] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_no_more_than_the_workers_are_in_flight(questions, settings, workers):
    changed, flights = threading.Condition(), [0]

    def fly(_):
        with changed:
            flights.append(flights[-1] + 1)
            changed.notify_all()
            # nobody lands before all are there, however slow the machine is
            assert changed.wait_for(lambda: max(flights) >= workers, timeout=60)
        time.sleep(0.002)
        with changed:
            flights.append(flights[-1] - 1)

    ask_all(Echo(fly), questions(40), **settings(workers=workers))
    assert (max(flights), flights[-1]) == (workers, 0)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        ask_all(Echo(fly), questions(1), **settings(workers=0))


def test_memory_does_not_grow_with_a_slow_reader(questions, settings):
    many = questions(4_000)
    tracemalloc.start()
    ask_all(Echo(), many, **settings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # An answer and its entries take some 300 bytes; a future alone takes more.
    assert peak / len(many) < 1000


class TestBudget:
    def test_at_its_end_all_in_flight_are_answered_and_stored(self, questions, settings, store):
        spent = Spent(Budget(max_tokens=2000))
        judge = Echo(lambda q: time.sleep(0.002))
        with pytest.raises(BudgetSpent, match="the judge's budget of 2,000 tokens is spent"):
            ask_all(judge, questions(1000), **settings(store=store, budget=spent))
        used = spent.prompt_tokens + spent.completion_tokens
        assert len(store) == len(judge.asked) == spent.questions == used // 11
        worst = prompt_tokens_at_most(questions(1000)[-1]) + 20
        assert 2000 - worst - 11 < used <= 2000

    def test_the_same_call_goes_on_from_there(self, questions, settings, store):
        asked = []
        for _ in range(20):
            judge = Echo()
            try:
                ask_all(judge, questions(100), **settings(store=store, budget=Spent(Budget(max_tokens=500))))
            except BudgetSpent:
                asked += judge.asked
            else:
                break
        asked += judge.asked
        assert len(asked) > len(judge.asked) > 0
        assert sorted(q.messages for q in asked) == sorted(q.messages for q in questions(100))

    def test_the_cache_is_free(self, questions, settings, store):
        ask_all(Echo(), questions(5), **settings(store=store))
        spent = Spent(Budget(max_tokens=1))
        assert len(ask_all(Echo(), questions(5), **settings(store=store, budget=spent))) == 5
        assert spent.questions == 0

    def test_a_judge_without_tokens_has_no_budget(self, questions, settings):
        judge = Echo()
        judge.is_llm = False
        assert len(ask_all(judge, questions(5), **settings(budget=Spent(Budget(max_tokens=1))))) == 5


class TestTheEnd:
    def test_an_unavailable_judge_stops_the_queue(self, questions, settings, store):
        def before(question):
            if len(judge.asked) > 20:
                raise JudgeUnavailable("gone")

        judge = Echo(before)
        with pytest.raises(JudgeUnavailable, match=r"^gone$"):
            ask_all(judge, questions(1000), **settings(store=store, budget=Spent(Budget(max_tokens=10**6))))
        assert len(judge.asked) <= 20 + 8
        assert len(store) == 20

    def test_a_server_that_dies_in_the_middle(self, make_judge, server, questions, settings, store):
        def on_answer(done, total):
            if done == 20:
                server.die()

        with pytest.raises(JudgeUnavailable, match="no judge listens"):
            ask_all(make_judge(retries=0), questions(5000), **settings(store=store, on_answer=on_answer))
        assert 20 <= len(store) < 5000

    def test_patience_ends(self, questions, settings):
        judge = Echo(lambda q: Answer(None, failure="timeout"))
        with pytest.raises(JudgeUnavailable, match=r"^echo left 10 questions in a row without an answer, .*: timeout;"):
            ask_all(judge, questions(1000), **settings(patience=10, workers=4))
        assert 10 <= len(judge.asked) <= 14

    @pytest.mark.parametrize("failure", ["refusal", "too long"])
    def test_a_judge_that_speaks_is_no_dead_one(self, questions, settings, failure):
        said = Answer(None if failure == "refusal" else "x", failure=failure)
        assert len(ask_all(Echo(lambda q: said), questions(50), **settings(patience=10))) == 50

    def test_a_mistake_of_a_judge_is_not_swallowed(self, questions, settings):
        with pytest.raises(ZeroDivisionError):
            ask_all(Echo(lambda q: 1 / 0), questions(5), **settings(budget=Spent()))

    def test_an_error_in_the_progress_ends_the_queue(self, questions, settings):
        judge, ended = Echo(), threading.Event()
        # However slow the machine: all but a few questions are asked only once the queue has ended.
        judge.before = lambda question: ended.wait(60 if len(judge.asked) > 20 else 0) and None
        with pytest.raises(ZeroDivisionError):
            ask_all(judge, questions(10_000), **settings(on_answer=lambda done, total: 1 / 0))
        ended.set()
        time.sleep(0.05)
        assert len(judge.asked) <= 20 + 8


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
import numpy as np
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Spent
from sae_sanity.suites.judges.judge import Answer, Question
from sae_sanity.suites.judges.queue import ask_all

class Judge:
    name, is_llm, identity = "slow", True, staticmethod(dict)
    def ask(self, question):
        number = int(question.messages[0][1])
        if number % 50 == 0:
            time.sleep(300)
        time.sleep(0.01)
        return Answer("x")

# A shell that starts tests in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
store = AnswerStore(Path(sys.argv[1]))
many = [Question((("user", str(i)),), 9, "explanation") for i in range(100_000)]
try:
    ask_all(Judge(), many, store=store, budget=Spent(), rng=np.random.default_rng(0),
            on_answer=lambda done, total: print(done, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    store.close()
    sys.exit(130)
"""


def test_ctrl_c_leaves_soon_and_cleanly_though_a_worker_sleeps(tmp_path):
    path = tmp_path / "answers.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)  # the worker sleeps 300 s
    assert (process.returncode, out.split()[-1], err) == (130, "interrupted", "")
    store = AnswerStore(path)
    assert 20 <= len(store) < 1000
    store.close()


class TestUntilUsable:
    @staticmethod
    def _usable(question, answer):
        return answer.text != "rubbish"

    def test_what_is_usable_is_asked_once(self, questions, settings):
        judge = Echo()
        answers = ask_until_usable(judge, questions(10), self._usable, **settings())
        assert _texts(answers) == [f"question {i}" for i in range(10)]
        assert len(judge.asked) == 10

    def test_rubbish_is_asked_again_as_another_attempt(self, questions, settings):
        judge = Echo(lambda q: Answer("rubbish") if q.attempt < 2 * AGAIN else None)
        seen = []
        many = [replace(q, attempt=3) for q in questions(4)]
        answers = ask_until_usable(
            judge, many, self._usable, **settings(on_answer=lambda done, total: seen.append((done, total)))
        )
        assert _texts(answers) == [f"question {i}" for i in range(4)]
        assert sorted({q.attempt for q in judge.asked}) == [3, AGAIN + 3, 2 * AGAIN + 3]
        assert [answer.tries for answer in answers] == [3] * 4
        assert (seen[3], seen[-1]) == ((4, 4), (12, 12))

    def test_rubbish_to_the_end_is_a_failure_with_its_text(self, questions, settings, store):
        judge = Echo(lambda q: Answer("rubbish") if q.messages[-1][1] == "question 1" else None)
        answers = ask_until_usable(judge, questions(3), self._usable, again=4, **settings(store=store))
        assert [(a.text, a.failure, a.tries) for a in answers] == [
            ("question 0", "", 1),
            ("rubbish", "unusable", 5),
            ("question 2", "", 1),
        ]
        rerun = Echo()
        same = ask_until_usable(rerun, questions(3), self._usable, again=4, **settings(store=store))
        assert rerun.asked == []
        assert [(a.text, a.failure) for a in same] == [(a.text, a.failure) for a in answers]

    def test_what_was_lost_is_asked_as_it_was_and_a_refusal_as_another(self, questions, settings):
        given = iter([Answer(None, failure="timeout"), Answer(None, failure="refusal")])
        judge = Echo(lambda q: next(given, None))
        (answer,) = ask_until_usable(judge, questions(1), self._usable, **settings())
        assert [q.attempt for q in judge.asked] == [0, 0, AGAIN]
        assert (answer.text, answer.failure) == ("question 0", "")

    def test_a_failure_keeps_its_name_and_is_never_shown_to_the_predicate(self, questions, settings):
        judge = Echo(lambda q: Answer(None, failure="timeout"))
        (answer,) = ask_until_usable(judge, questions(1), lambda q, a: bool(a.text.strip()), **settings())
        assert (answer.failure, answer.tries) == ("timeout", 3)

    def test_what_was_lost_in_earlier_rounds_stays_counted(self, questions, settings):
        given = iter([Answer("rubbish", tries=3, lost=2), Answer("fine", tries=2, lost=1)])
        (answer,) = ask_until_usable(Echo(lambda q: next(given)), questions(1), self._usable, **settings())
        assert (answer.text, answer.tries, answer.lost) == ("fine", 5, 3)

    def test_lost_answers_change_nothing_that_is_drawn_later(self, questions, settings):
        drawn = []
        for bad in (0, 1, 30):
            rng = np.random.default_rng(5)
            lost = iter([Answer(None, failure="timeout")] * bad)
            judge = Echo(lambda q, lost=lost: next(lost, None))
            ask_until_usable(judge, questions(40), self._usable, **settings(rng=rng, workers=1))
            (child,) = rng.spawn(1)
            drawn.append((judge.asked[:40], rng.random(), child.random()))
        assert drawn[0] == drawn[1] == drawn[2]

    def test_never_again(self, questions, settings):
        judge = Echo(lambda q: Answer("rubbish"))
        assert len(ask_until_usable(judge, questions(3), self._usable, again=0, **settings())) == 3
        assert len(judge.asked) == 3

    def test_the_seed_changes_on_the_wire(self, make_judge, server, questions, settings):
        server.push(server.chat("rubbish"))
        ask_until_usable(make_judge(seed=7), questions(1), self._usable, **settings())
        assert [sent.body["seed"] for sent in server.sent] == [7, 7 + AGAIN]
