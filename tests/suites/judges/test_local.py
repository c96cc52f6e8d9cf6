from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sae_sanity.suites import smollm2
from sae_sanity.suites.judges import local
from sae_sanity.suites.judges.judge import Judge, JudgeUnavailable, Question
from sae_sanity.suites.judges.local import CONTEXT, LocalJudge

FRANCE = Question((("user", "What is the capital of France? Answer in one word."),), 8, "explanation")


@pytest.fixture(scope="module")
def judge():
    pytest.importorskip("xllamacpp")
    made = LocalJudge(threads=2)
    yield made
    made.close()


def child_of(judge):
    return judge._server._process.pid


def runs(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid, within=10.0):
    deadline = time.monotonic() + within
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not runs(pid)


# the real server


@pytest.mark.slow
def test_it_knows_the_capital_of_france(judge):
    answer = judge.ask(FRANCE)
    assert "Paris" in answer.text
    assert not answer.failure
    assert answer.prompt_tokens > 10
    assert 0 < answer.completion_tokens <= 8
    assert "/" not in answer.model


@pytest.mark.slow
def test_the_plain_client_reads_the_same(judge):
    """Against the `openai` client without anything of ours between."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=judge.url, api_key="none") as client:
        reply = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": FRANCE.messages[0][1]}],
            max_tokens=8,
            temperature=0,
            seed=0,
        )
    assert reply.choices[0].message.content.strip() == judge.ask(FRANCE).text


@pytest.mark.slow
def test_an_answer_does_not_depend_on_what_was_asked_before(judge):
    other = Question(
        (("user", "What is the capital of Italy? Answer in one word, and say why it is."),), 20, "explanation"
    )
    first = judge.ask(FRANCE).text
    with ThreadPoolExecutor(4) as pool:
        texts = [answer.text for answer in pool.map(judge.ask, [other, FRANCE, other, FRANCE])]
    assert texts[1::2] == [first, first]
    assert texts[0] == texts[2] == judge.ask(other).text


@pytest.mark.slow
def test_detection_answers_can_be_read(judge):
    text = "In which examples is there a digit? Answer with their numbers.\n\n1. a dog\n2. 1987\n3. a cat"
    answer = judge.ask(Question((("user", text),), 30, "detection", 3))
    assert answer.text


@pytest.mark.slow
def test_a_prompt_of_3000_tokens_fits(judge):
    answer = judge.ask(Question((("user", "river " * 3000),), 2, "explanation"))
    assert answer.prompt_tokens > 3000
    assert answer.prompt_tokens + 300 < CONTEXT
    assert not answer.failure


@pytest.mark.slow
def test_a_prompt_beyond_the_context_is_one_failed_answer(judge):
    answer = judge.ask(Question((("user", "river " * (CONTEXT + 1000)),), 2, "explanation"))
    assert (answer.text, answer.failure) == (None, "bad request")
    assert judge.ask(FRANCE).text


@pytest.mark.slow
def test_identity_is_the_files_and_has_no_port(judge):
    identity = judge.identity()
    assert isinstance(judge, Judge)
    assert judge.is_llm
    assert (
        identity["gguf_sha256"] == hashlib.sha256(smollm2.find_gguf().read_bytes()).hexdigest() == smollm2.GGUF_SHA256
    )
    assert identity["xllamacpp"]
    assert "127.0.0.1" not in str(identity)
    assert judge.url.startswith("http://127.0.0.1:")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_server_makes_the_judge_unavailable_and_nothing_else():
    pytest.importorskip("xllamacpp")
    judge = LocalJudge(threads=2)
    pid = child_of(judge)
    long = Question((("user", "Tell me a long story. " * 100),), 2000, "explanation")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(judge.ask, long)
        time.sleep(1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(JudgeUnavailable, match="signal 9"):
            asked.result(60)
    with pytest.raises(JudgeUnavailable, match="signal 9"):
        judge.ask(FRANCE)
    judge.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closing_ends_the_server():
    pytest.importorskip("xllamacpp")
    judge = LocalJudge(threads=2)
    pid = child_of(judge)
    assert runs(pid)
    judge.close()
    assert not runs(pid)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_ends_with_a_killed_parent():
    pytest.importorskip("xllamacpp")
    code = (
        "from sae_sanity.suites.judges.local import LocalJudge; import os, signal;"
        "judge = LocalJudge(threads=2); print(judge._server._process.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert ends(int(done.stdout))


# what goes wrong before there is a server


def test_without_the_server_it_says_what_to_install(monkeypatch, tmp_path):
    def missing(name):
        raise local.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(local.importlib.metadata, "version", missing)
    with pytest.raises(JudgeUnavailable, match=r"pip install 'sae-sanity\[judge\]'") as caught:
        LocalJudge(gguf=tmp_path / "model.gguf")
    assert "\n" not in str(caught.value)


def test_without_the_model_it_says_what_to_install(monkeypatch):
    def missing():
        raise smollm2.DemoModelMissingError("the demo model is not installed: pip install ...")

    monkeypatch.setattr(smollm2, "find_gguf", missing)
    with pytest.raises(JudgeUnavailable, match="pip install"):
        LocalJudge()


def test_a_file_that_is_not_there(tmp_path):
    pytest.importorskip("xllamacpp")
    with pytest.raises(JudgeUnavailable, match="No such file"):
        LocalJudge(gguf=tmp_path / "none.gguf")


def test_a_file_that_is_no_model(tmp_path):
    pytest.importorskip("xllamacpp")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model at all")
    with pytest.raises(JudgeUnavailable, match="did not start: ") as caught:
        LocalJudge(gguf=bad)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_up_in_time_is_ended(monkeypatch, tmp_path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"")
    pids = []
    start = subprocess.Popen

    def sleeper(_, **options):
        pids.append(start([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return pids[-1]

    monkeypatch.setattr(local, "_version", lambda: "1")
    monkeypatch.setattr(local.subprocess, "Popen", sleeper)
    with pytest.raises(JudgeUnavailable, match=r"not up after 0\.5 seconds"):
        LocalJudge(gguf=model, start_s=0.5)
    assert pids[0].poll() is not None


def test_importing_it_loads_neither_the_server_nor_torch():
    code = (
        "import sys, sae_sanity.suites.judges.local; print(sorted({'xllamacpp', 'openai', 'torch'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.slow
def test_modules_of_the_working_directory_are_not_run(tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp")
    for name in ("json", "xllamacpp"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w'); raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    LocalJudge(threads=1).close()
    assert not (tmp_path / "ran").exists()
