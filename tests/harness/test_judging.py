"""Judges of a check: which key goes where, what is refused, what a plan counts, one budget."""

from __future__ import annotations

import pytest
from loopback_judge import KEY, LoopbackJudge
from tiny_site import TINY

from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.estimate import judge_cost
from sae_sanity.harness.judging import Limits, check_judge, judging
from sae_sanity.harness.plan import make_plan
from sae_sanity.harness.progress import Silent
from sae_sanity.suites.judges.judge import Question

SECOND = "sk-second-SECRET-9876543210"
QUESTION = Question((("user", "which?"),), 9, "explanation")


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    both = LoopbackJudge(), LoopbackJudge()
    yield both
    for server in both:
        server.die()


def settings(*, file=None, environ=None, **flags):
    """Settings of a check that asks; `file` goes through a real one."""
    path = None
    if file:
        from pathlib import Path

        path = Path("given.toml")
        path.write_text("".join(f'{name} = "{value}"\n' for name, value in file.items()))
    given = TINY | {"suites": ["autointerp"]} | flags
    return resolve(given, config=path, environ=environ or {})


def keys_sent(servers, asked, tmp_path):
    """What each server was sent as a key."""
    check_judge(asked)
    with judging(asked, tmp_path / "r", Limits().spent(), Silent()) as made:
        assert made
        made.judge.ask(QUESTION)
        if made.second:
            made.second.ask(QUESTION)
    return [{sent.headers["authorization"].removeprefix("Bearer ") for sent in server.sent} for server in servers]


def test_the_key_goes_to_an_address_that_the_user_gave(servers, tmp_path):
    url = servers[0].url
    assert keys_sent(servers, settings(judge="tiny", judge_url=url), tmp_path)[0] == {KEY}
    servers[0].sent.clear()
    environ = {"SAE_SANITY_JUDGE_URL": url}
    assert keys_sent(servers, settings(judge="tiny", environ=environ), tmp_path)[0] == {KEY}


def test_an_address_out_of_a_file_gets_no_key(servers, tmp_path):
    """Whoever has written the file must not have the key sent to where he likes."""
    url = servers[0].url
    asked = settings(file={"judge": "tiny", "judge_url": url})
    assert asked.from_file == {"judge", "judge_url"}
    assert keys_sent(servers, asked, tmp_path)[0] == {"no-key"}
    servers[0].sent.clear()
    # the user has said it too
    assert keys_sent(servers, settings(file={"judge_url": url}, judge="tiny", judge_url=url), tmp_path)[0] == {KEY}


def test_where_a_value_is_from_is_kept_by_copies():
    asked = settings(file={"judge_url": "http://127.0.0.1:1/v1"}, judge="tiny")
    assert asked.model_copy(update={"sae_id": ("x",)}).from_file == {"judge_url"}


def test_openais_own_address_in_a_file_is_no_reason_to_keep_the_key():
    check_judge(settings(file={"judge_url": "https://api.openai.com/v1"}, judge="tiny"))


def test_the_second_judge_has_a_key_of_its_own(servers, tmp_path, monkeypatch):
    urls = {"judge_url": servers[0].url, "second_judge_url": servers[1].url}
    asked = settings(judge="tiny", second_judge="tiny", **urls)
    assert keys_sent(servers, asked, tmp_path) == [{KEY}, {"no-key"}]  # it was never trusted with the first one's
    monkeypatch.setenv("SECOND_JUDGE_API_KEY", SECOND)
    for server in servers:
        server.sent.clear()
    assert keys_sent(servers, asked, tmp_path) == [{KEY}, {SECOND}]


def test_two_models_of_one_server_share_its_key(servers, tmp_path):
    url = servers[0].url
    asked = settings(judge="tiny", judge_url=url, second_judge="tiny-2", second_judge_url=url)
    assert keys_sent(servers, asked, tmp_path)[0] == {KEY}
    assert len(servers[0].sent) == 2


def test_a_second_judge_from_a_file_gets_no_key(servers, tmp_path, monkeypatch):
    monkeypatch.setenv("SECOND_JUDGE_API_KEY", SECOND)
    file = {"second_judge": "tiny", "second_judge_url": servers[1].url}
    asked = settings(file=file, judge="tiny", judge_url=servers[0].url)
    assert keys_sent(servers, asked, tmp_path) == [{KEY}, {"no-key"}]


@pytest.mark.parametrize("name", ["judge", "second_judge"])
def test_plain_http_is_refused_only_where_there_is_a_key_to_show(name, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    flags = {"judge": "tiny", "judge_url": "http://127.0.0.1:1/v1", "second_judge": "tiny"}
    flags[f"{name}_url"] = "http://10.0.0.5/v1"
    flags.setdefault("second_judge_url", "http://127.0.0.1:2/v1")
    check_judge(settings(**flags))
    monkeypatch.setenv("OPENAI_API_KEY" if name == "judge" else "SECOND_JUDGE_API_KEY", SECOND)
    with pytest.raises(UsageError, match=rf"^{name}_url is plain http, and \w+ would go there in clear text") as caught:
        check_judge(settings(**flags))
    assert SECOND not in str(caught.value)
    given = {k: v for k, v in flags.items() if k != f"{name}_url"}
    check_judge(settings(file={f"{name}_url": flags[f"{name}_url"]}, **given))  # no key goes there


def test_a_second_judge_at_openai_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(
        UsageError, match="second_judge is 'gpt-4o', but neither SECOND_JUDGE_API_KEY nor second_judge_url"
    ):
        check_judge(settings(judge="token_statistics", second_judge="gpt-4o"))
    check_judge(settings(judge="token_statistics", second_judge="tiny", second_judge_url="http://127.0.0.1:1/v1"))
    check_judge(settings(judge="token_statistics"))


def test_a_plan_counts_the_questions_of_the_second_judge():
    def cost(**flags):
        asked = settings(judge="tiny", judge_url="http://127.0.0.1:1/v1", **flags)
        return judge_cost(make_plan(asked))

    alone, tenth, all_ = cost(), cost(second_judge="local"), cost(second_judge="local", second_share=1)
    assert cost(second_share=0.5) == alone
    assert alone.questions < tenth.questions < all_.questions
    # Of 3.1 questions a latent it is asked one, or one in ten.
    assert all_.questions / alone.questions == pytest.approx(4.1 / 3.1, rel=0.01)
    assert tenth.questions / alone.questions == pytest.approx(3.2 / 3.1, rel=0.01)
    assert alone.tokens < tenth.tokens < all_.tokens
    # A longer list of texts has a longer answer: 50 of 100 in JSON took 199 tokens.
    few, many = cost(detection_examples=8), cost(detection_examples=100)
    assert (many.completion_tokens - few.completion_tokens) / (many.questions / 3.1) == pytest.approx(199, rel=0.1)
