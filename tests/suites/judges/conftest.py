from __future__ import annotations

import pytest
from loopback_judge import KEY, LoopbackJudge

from sae_sanity.suites.judges.judge import Question


@pytest.fixture
def server():
    judge = LoopbackJudge()
    yield judge
    judge.die()


@pytest.fixture
def make_judge(server, monkeypatch):
    """Make a judge at the server, with the key in the environment."""
    from sae_sanity.suites.judges.openai_judge import OpenAIJudge

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = []

    def make(model="tiny", url=None, **settings):
        made.append(OpenAIJudge(model, url or server.url, **{"timeout_s": 5.0, "retries": 2} | settings))
        return made[-1]

    yield make
    for judge in made:
        judge.close()


@pytest.fixture
def key():
    """The key that the server is asked with, and that must be found nowhere else."""
    return KEY


@pytest.fixture
def detection():
    """Make a detection question."""

    def make(text="which ones?", **more):
        usual = {"messages": (("system", "You judge."), ("user", text)), "max_tokens": 20, "purpose": "detection"}
        return Question(**usual | more)

    return make


@pytest.fixture
def explanation(detection):
    """Make an explanation question."""
    return lambda text="what is it?", **more: detection(text, purpose="explanation", **more)


@pytest.fixture
def questions(explanation):
    """Make n different questions."""
    return lambda n: [explanation(f"question {i}") for i in range(n)]
