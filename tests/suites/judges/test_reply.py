"""What is read out of a reply; the same through a real server and client is in `test_hostile.py`."""

from __future__ import annotations

import json

import pytest
from sae_bench.evals.autointerp.main import AutoInterp

from sae_sanity.suites.judges.reply import clean, plain_numbers, read_reply, same_model


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ('{"examples": [1, 3]}', [1, 3]),
        ('{"examples":[]}', []),
        ('{"examples": [2], "why": "x"}', [2]),
        ("1, 3", [1, 3]),
        ("None", []),
        ('{"examples": [1.5]}', None),
        ('{"examples": [true]}', None),
        ('{"examples": [1', None),
        ("[1, 2]", None),
    ],
)
def test_saebench_reads_the_same_numbers(text, numbers):
    assert AutoInterp.parse_predictions(None, plain_numbers(text)) == numbers  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("tiny", "tiny"),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4", "gpt-4-0613"),
        ("mistral-small-latest", "mistral-small-2409"),
        ("llama3.2", "llama3.2:latest"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("SmolLM2-135M-Instruct.Q4_1", "/models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("smollm2", r"C:\models\SmolLM2.gguf"),
        ("anything", ""),
    ],
)
def test_the_same_model(asked, answered):
    assert same_model(asked, answered)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4", "gpt-4-32k"),
        ("gpt-4", "gpt-4.1"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("llama-3-8b", "llama-3-70b"),
        ("tiny", "other"),
    ],
)
def test_another_model(asked, answered):
    assert not same_model(asked, answered)


@pytest.mark.parametrize(
    ("dirty", "text"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGk=\x07", ""),
        ("\x1bPdevice\x1b\\x", "x"),
        ("\x1bcreset", "reset"),
        ("a\x1b", "a"),
        ("1\r2\r\n3", "1\n2\n3"),
        ("a\u2028b", "a\nb"),
        ("\u202egnp.exe\u202c \u2066x\u2069", "gnp.exe x"),
        ("a\ud800b\x00\x08\x7f", "ab"),
        ("in\u200bvisi\ufeffble\U000e0041", "invisible"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("نمی\u200cخواهم 👩\u200d🔬 é 中", "نمی\u200cخواهم 👩\u200d🔬 é 中"),
    ],
)
def test_clean(dirty, text):
    assert clean(dirty) == text


def reply(content, **choice):
    return json.dumps({"model": "m", "choices": [{"message": {"content": content}} | choice]}).encode()


@pytest.mark.parametrize("text", ['{"examples": [1, 3, 57, 6', "1, 3, 57, 6", '{"examples": [1, 3]}'])
def test_a_list_that_was_cut_off_is_no_answer_though_it_can_be_read(detection, text):
    found = read_reply(reply(text, finish_reason="length"), detection(), "m")
    assert (found.text, found.failure) == (text, "cut off")
    assert read_reply(reply(text, finish_reason="stop"), detection(), "m").failure == ""


def test_an_explanation_that_was_cut_off_is_one(explanation):
    found = read_reply(reply("This neuron activates on the names of", finish_reason="length"), explanation(), "m")
    assert (found.text, found.failure) == ("This neuron activates on the names of", "")


def test_nothing_at_all_that_was_cut_off(detection):
    """A model that has used all its tokens to think."""
    found = read_reply(reply(None, finish_reason="length"), detection(), "m")
    assert (found.text, found.failure) == (None, "cut off")
