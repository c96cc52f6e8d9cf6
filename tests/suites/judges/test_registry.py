from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from sae_sanity.suites.judges import registry as module
from sae_sanity.suites.judges.judge import GROUP, JudgeUnavailable
from sae_sanity.suites.judges.openai_judge import OpenAIJudge
from sae_sanity.suites.judges.registry import BUILT_IN, judge_points, make_judge


def _entry_points(*points):
    return lambda *, group: [p for p in points if p.group == group]


class Other:
    """A judge of another package."""

    name, is_llm, identity, ask, close = "other", False, dict, print, print

    def __init__(self, seed=0):
        self.seed = seed


@pytest.fixture
def plug_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "another_package", SimpleNamespace(Other=Other))
    monkeypatch.setattr(module, "entry_points", _entry_points(EntryPoint("other", "another_package:Other", GROUP)))


def test_built_in_judges_come_first(plug_in):
    assert list(judge_points()) == ["local", "token_statistics", "other"]


def test_an_entry_point_adds_a_judge_and_gets_the_options(plug_in):
    assert make_judge("other", seed=3).seed == 3  # type: ignore[attr-defined]


def test_two_judges_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(module, "entry_points", _entry_points(EntryPoint("local", "elsewhere:Judge", GROUP)))
    with pytest.raises(ValueError, match=r"judge 'local' is given by both .*LocalJudge' and 'elsewhere:Judge'; rename"):
        judge_points()


def test_the_same_entry_point_twice_is_one_judge(monkeypatch):
    monkeypatch.setattr(module, "entry_points", _entry_points(BUILT_IN[1]))
    assert list(judge_points()) == ["local", "token_statistics"]


def test_another_name_is_a_model_at_the_url(server, monkeypatch, explanation):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judge = make_judge("tiny", server.url, seed=4)
    assert isinstance(judge, OpenAIJudge)
    assert (judge.name, judge.identity()["seed"], judge.ask(explanation()).text) == ("tiny", 4, "1, 3")
    judge.close()


def test_another_name_without_a_url_is_at_openai(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeUnavailable, match="OPENAI_API_KEY is not set"):
        make_judge("gpt-4o-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    judge = make_judge("gpt-4o-mini")
    assert judge.identity()["server"] == "api.openai.com/v1"
    judge.close()


def test_a_named_judge_takes_no_url():
    with pytest.raises(ValueError, match="judge 'local' takes no url"):
        make_judge("local", "http://127.0.0.1:1/v1")


def test_a_misspelled_judge_is_not_asked_for_at_openai():
    with pytest.raises(ValueError, match="no such judge: 'locla'; did you mean local"):
        make_judge("locla")


def test_naming_the_judges_loads_neither_torch_nor_openai():
    code = (
        "import sys, sae_sanity.suites.judges.registry as r; r.judge_points(); "
        "assert not {'torch', 'openai', 'httpx2', 'sae_lens', 'llama_cpp', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
