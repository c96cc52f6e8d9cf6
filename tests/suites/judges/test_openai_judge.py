from __future__ import annotations

import json

import pytest

from sae_sanity.suites.judges.judge import Judge, JudgeUnavailable
from sae_sanity.suites.judges.openai_judge import OpenAIJudge


def test_it_is_a_judge(make_judge):
    assert isinstance(make_judge(), Judge)


def test_an_answer_has_what_the_server_says(make_judge, explanation):
    answer = make_judge().ask(explanation())
    assert (answer.text, answer.failure, answer.model, answer.fingerprint) == ("1, 3", "", "tiny", "fp_1")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.tries, answer.cached) == (11, 3, 1, False)


def test_what_is_sent(make_judge, server, explanation, key):
    make_judge(seed=5).ask(explanation(attempt=2))
    (sent,) = server.sent
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {key}"
    assert sent.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "You judge."}, {"role": "user", "content": "what is it?"}],
        "temperature": 0,
        "max_tokens": 20,
        "seed": 7,
    }


def test_a_text_with_half_a_surrogate_pair_is_sent(make_judge, server, explanation):
    assert make_judge().ask(explanation("a\ud800b")).text == "1, 3"
    assert server.sent[0].body["messages"][1]["content"] == "a?b"


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OTHER_KEY"])
def test_the_key_comes_from_the_variable_only(make_judge, server, explanation, monkeypatch, variable):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv(variable, "sk-this-one\n")
    make_judge(key_variable=variable).ask(explanation())
    assert server.sent[0].headers["authorization"] == "Bearer sk-this-one"


def test_a_server_of_ones_own_needs_no_key(make_judge, server, explanation, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert make_judge().ask(explanation()).text == "1, 3"
    assert server.sent[0].headers["authorization"] == "Bearer no-key"


def test_a_proxy_is_not_asked_for_this_machine(make_judge, server, explanation, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert make_judge().ask(explanation()).failure == ""


def test_openai_needs_one(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(JudgeUnavailable, match=r"^OPENAI_API_KEY is not set; put the key there, or name a server"):
        OpenAIJudge("gpt-4o-mini")


@pytest.mark.parametrize("key", ["sk-line\nbreak-0123456789", "sk-päßwort-0123456789"])
def test_a_key_that_httpx_would_quote_in_its_error_is_refused(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(JudgeUnavailable, match=r"^OPENAI_API_KEY holds characters that no key has") as caught:
        OpenAIJudge("gpt-4o-mini")
    assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://user:hunter2@host/v1", "127.0.0.1:8080/v1"])
def test_an_address_is_looked_at_first(url):
    with pytest.raises(ValueError, match=r"^the judge's url ") as caught:
        OpenAIJudge("m", url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://10.0.0.5:8000/v1", "http://host/v1"])
def test_no_key_goes_over_the_network_in_clear_text(make_judge, monkeypatch, url):
    with pytest.raises(ValueError, match=r"is plain http, and OPENAI_API_KEY would go there in clear text; use https"):
        make_judge(url=url)
    make_judge(url=url, key_variable=None)
    monkeypatch.delenv("OPENAI_API_KEY")
    make_judge(url=url)


def test_without_a_variable_no_key_is_sent(make_judge, server, explanation):
    judge = make_judge(key_variable=None)
    judge.ask(explanation())
    assert server.sent[0].headers["authorization"] == "Bearer no-key"
    server.always(server.error("who are you?"), status=401)
    with pytest.raises(JudgeUnavailable, match="wants a key, and none is sent to an address out of a file"):
        judge.ask(explanation())


def test_identity_is_what_decides_the_answers(make_judge, server):
    judge = make_judge(seed=3)
    assert judge.identity() == {
        "judge": "openai",
        "model": "tiny",
        "server": server.url.removeprefix("http://"),
        "temperature": 0,
        "seed": 3,
        "structured": "auto",
        "protocol": 2,
    }
    assert make_judge(timeout_s=1.0, retries=9, seed=3).identity() == judge.identity()
    json.dumps(judge.identity())


class TestStructured:
    def test_a_detection_question_asks_for_a_list_of_integers(self, make_judge, server, detection):
        server.always(server.chat('{"examples": [1, 3]}'))
        assert make_judge().ask(detection()).text == "1, 3"
        wanted = server.sent[0].body["response_format"]
        assert wanted["type"] == "json_schema"
        assert wanted["json_schema"]["schema"]["properties"] == {
            "examples": {"type": "array", "items": {"type": "integer"}}
        }

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "response_format is not supported", "param": None}},
            {"error": {"message": "Unsupported value", "param": "response_format"}},
            {"detail": [{"loc": ["body", "response_format"], "msg": "extra"}]},
        ],
    )
    def test_a_server_that_refuses_it_is_not_asked_for_it_again(self, make_judge, server, detection, body):
        judge = make_judge()
        server.push(body, status=400)
        first, second = judge.ask(detection("a")), judge.ask(detection("b"))
        assert [(a.text, a.tries) for a in (first, second)] == [("1, 3", 2), ("1, 3", 1)]
        assert ["response_format" in s.body for s in server.sent] == [True, False, False]
        assert judge.identity()["structured"] == "auto"

    def test_another_400_is_a_failure_of_that_question(self, make_judge, server, detection):
        server.push(server.error("the context is too long for the word seeds"), status=400)
        judge = make_judge()
        assert judge.ask(detection("a")).failure == "bad request"
        assert "response_format" in (judge.ask(detection("b")) and server.sent[-1].body)

    def test_never_is_never(self, make_judge, server, detection):
        server.always(server.chat('{"examples": [1]}'))
        assert make_judge(structured="never").ask(detection()).text == '{"examples": [1]}'
        assert "response_format" not in server.sent[0].body

    def test_explanations_are_plain(self, make_judge, server, explanation):
        server.always(server.chat('{"examples": [1]}'))
        assert make_judge().ask(explanation()).text == '{"examples": [1]}'

    def test_other_names_for_max_tokens_and_no_seed(self, make_judge, server, explanation):
        server.push(server.error("Use 'max_completion_tokens'", param="max_tokens"), status=400)
        server.push(server.error("Extra inputs", param="seed"), status=422)
        assert make_judge().ask(explanation()).tries == 3
        assert "seed" not in server.sent[-1].body
        assert server.sent[-1].body["max_completion_tokens"] == 20
        assert "max_tokens" not in server.sent[-1].body


def test_a_model_that_takes_no_temperature_is_asked_without_and_answers_say_so(make_judge, server, explanation):
    said = "Unsupported value: 'temperature' does not support 0 with this model."
    server.push(server.error(said, param="temperature", code="unsupported_value"), status=400)
    judge = make_judge()
    first, second = judge.ask(explanation("a")), judge.ask(explanation("b"))
    assert [(a.text, a.tries, a.without) for a in (first, second)] == [
        ("1, 3", 2, "temperature"),
        ("1, 3", 1, "temperature"),
    ]
    assert ["temperature" in sent.body for sent in server.sent] == [True, False, False]


def test_what_a_detection_question_is_asked_without(make_judge, server, detection, explanation):
    for name in ("response_format", "seed", "max_tokens"):
        server.push(server.error("no", param=name), status=400)
    judge = make_judge()
    # `max_tokens` has another name then, and is there.
    assert judge.ask(detection()).without == "response_format seed"
    assert judge.ask(explanation()).without == "response_format seed"
    assert make_judge(structured="never").ask(detection("b")).without == ""


def test_close_closes(make_judge, explanation):
    judge = make_judge()
    judge.close()
    with pytest.raises(RuntimeError, match="closed"):
        judge.ask(explanation())
