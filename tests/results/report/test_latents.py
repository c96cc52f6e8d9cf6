from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from sae_sanity.results.latents_seen import LatentSeen, SeenAnswer, SeenText, SideBySide
from sae_sanity.results.report.latents import latents_parts, rate, text_line
from sae_sanity.results.report.look import Look

HOSTILE = "[red]x[/red]\x1b]8;;http://evil\x07 \x1b[2J\x9b31m \u202e \r gone"


def answer(text, label, prediction, active=()):
    return SeenAnswer(text=text, label=label, prediction=prediction, active=active)


def latent(arm="trained", **changes):
    fields = {
        "arm": arm,
        "seed": 3,
        "latent": 1234,
        "firing_rate": 0.00123,
        "stratum": 2,
        "explanation": f"words that {arm} likes",
        "detection": 0.93,
        "saebench": 0.857,
        "top": (SeenText.of(["The", " quick", " brown", " fox"], [False, True, True, False]),),
        "detected": (answer("a b", True, True, ((0, 1),)), answer("c d", False, True), answer("e f", True, None)),
    }
    return LatentSeen(**(fields | changes))


def row(*arms, why="random", **changes):
    return SideBySide(why=why, stratum=2, latents=tuple(latent(arm, **changes) for arm in arms))


def text_of(rows, console_of, width=80, *, ascii=False, **options):
    console, text = console_of(width, **options)
    for part in latents_parts(rows, Look(width, ascii=ascii)):
        console.print(part, markup=False, highlight=False, emoji=False)
    return text()


@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize("ascii", [False, True])
def test_fits_and_has_everything_of_every_arm(console_of, width, ascii):
    arms = ("trained", "random", "frozen_encoder")
    text = text_of(
        [row(*arms, why=w) for w in ("random", "best", "worst", "different")], console_of, width, ascii=ascii
    )
    lines = text.splitlines()
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    assert text.isascii() is ascii
    for arm in arms:
        assert text.count(f"words that {arm} likes") == 4
    assert text.count("latent 1,234 of seed 3") == 12
    assert text.count("detection 0.93, SAEBench 0.86") == 12
    assert "0.12 %" in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(("width", "beside"), [(36, 1), (80, 2), (120, 3), (160, 4)])
def test_as_many_arms_beside_each_other_as_fit(console_of, width, beside):
    names = [f"arm{i}" for i in range(5)]
    lines = text_of([row(*names)], console_of, width).splitlines()
    heads = [re.findall(r"\barm\d\b", line) for line in lines if line.startswith("arm")]
    assert heads == [names[i : i + beside] for i in range(0, 5, beside)]


def test_active_tokens_are_marked_without_colour_and_with_it(console_of):
    assert "The« quick brown» fox" in text_of([row("trained")], console_of)
    assert "The<< quick brown>> fox" in text_of([row("trained")], console_of, ascii=True)
    coloured = text_of([row("trained")], console_of, force_terminal=True, color_system="standard")
    assert re.search(r"\x1b\[1;7m quick brown\x1b\[0m", coloured)


def test_label_and_prediction_stand_before_the_text():
    look = Look(80)
    lines = [text_line(one, look).plain for one in latent().detected]
    assert lines == ["++ «a» b", "-+ c d", "+? e f"]


@pytest.mark.parametrize("colour", [{}, {"force_terminal": True, "color_system": "truecolor"}])
def test_hostile_texts_are_shown_and_do_nothing(console_of, colour):
    hostile = row(
        "trained",
        explanation=HOSTILE,
        missing=HOSTILE,
        top=(SeenText(text=HOSTILE, active=((0, 5), (12, 40))),),
        detected=(answer(HOSTILE, True, True),),
    ).model_copy()
    odd = hostile.model_copy(update={"latents": (latent(HOSTILE), *hostile.latents)})
    text = text_of([odd], console_of, 120, **colour)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours of our own are all that may be left
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain)
    assert "\\x1b[2J" in plain.replace("\n", "")
    assert "[red]" in plain
    if not colour:
        assert text == plain


def test_markup_has_no_effect_as_an_arm(console_of):
    assert "[bold]x[/bold]" in text_of([row("[bold]x[/bold]")], console_of)


def test_long_texts_are_cut(console_of):
    long = row("trained", explanation="word " * 10_000, top=(SeenText(text="x" * 10_000, active=((0, 10_000),)),))
    text = text_of([long], console_of)
    assert len(text.splitlines()) < 80
    assert "…" in text


def test_line_breaks_are_signs():
    assert text_line(SeenText(text="a\nb\r\nc\td"), Look(80)).plain == "a↵b↵c d"


def test_missing_is_said(console_of):
    text = text_of([row("trained", explanation=None, detection=None, saebench=None, missing="refusal")], console_of)
    assert "no explanation" in text
    assert "detection –, SAEBench –" in text
    assert "missing: refusal" in text


def test_nothing_is_said(console_of):
    assert "No latent" in text_of([], console_of)


@pytest.mark.parametrize("width", [1, 10, 30])
def test_tiny_consoles_do_not_crash(console_of, width):
    assert text_of([row("trained", "random")], console_of, width)


@pytest.mark.parametrize(
    ("value", "text"), [(0.00123, "0.12 %"), (0.5, "50 %"), (0.0, "0 %"), (3e-7, "3e-05 %"), (float("nan"), "–")]
)
def test_rate(value, text):
    assert rate(value) == text
