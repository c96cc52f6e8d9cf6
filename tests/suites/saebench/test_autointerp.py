"""SAEBench's AutoInterp with a judge on loopback."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sae_sanity.suites.saebench import EVALS, Unavailable, contained, lent
from sae_sanity.suites.saebench.autointerp import judge_key

SMALL = {
    "n_latents": 3,
    "total_tokens": 4000,
    "llm_context_size": 32,
    "dead_latent_threshold": 1,
    "buffer": 3,
    "llm_batch_size": 64,
    "n_top_ex_for_generation": 3,
    "n_iw_sampled_ex_for_generation": 2,
}


class Judge(BaseHTTPRequestHandler):
    """Explains, then predicts; its second prediction cannot be read."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append((body["model"], self.headers["Authorization"]))
            scoring = "comma-separated list" in body["messages"][0]["content"]
            server.scored += scoring
            text = "this neuron activates on words." if not scoring else "1, 2" if server.scored != 2 else "the first"
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [message]}
        data = json.dumps(answer).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def judge(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    server.asked, server.scored, server.status, server.lock = [], 0, 200, threading.Lock()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    yield server
    server.shutdown()
    server.server_close()


def test_lost_latents_are_counted(hub, run, judge):
    (found,) = run("autointerp", dataset_name=str(hub / "texts"), **SMALL)
    assert 0 <= found.metrics["autointerp.autointerp_score"] <= 1
    assert found.notes == (
        "2 latents scored; 1 dropped because the judge's answer could not be read, 0 because too few texts activate "
        "them",
    )
    assert set(judge.asked) == {("gpt-4o-mini", "Bearer sk-secret")}
    assert len(judge.asked) == 6
    assert "sk-secret" not in found.file.read_text()


def test_another_model_can_be_asked(hub, make_job, language, judge, tmp_path):
    import dataclasses

    job = dataclasses.replace(make_job("autointerp", dataset_name=str(hub / "texts"), **SMALL), judge_model="mine")
    with lent(language), contained(tmp_path / "log", 0):
        EVALS["autointerp"].run(job)
    assert {model for model, _ in judge.asked} == {"mine"}


def test_a_failing_judge_is_one_line(hub, run, judge, monkeypatch):
    import openai

    monkeypatch.setattr(openai._constants, "INITIAL_RETRY_DELAY", 0.01)
    judge.status = 401
    with pytest.raises(Unavailable, match="the judge fails: ") as caught:
        run("autointerp", dataset_name=str(hub / "texts"), **SMALL)
    assert "\n" not in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(Unavailable, match="set OPENAI_API_KEY"):
        judge_key()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert judge_key() == "not needed"
