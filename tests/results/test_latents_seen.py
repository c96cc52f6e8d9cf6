from __future__ import annotations

import json
import random

import pytest

from sae_sanity.results.latents_seen import (
    DamagedLatents,
    LatentSeen,
    SeenAnswer,
    SeenText,
    choose,
    latents_path,
    read_latents,
    write_latents,
)

ODD = "\x1b[2J [red] \u2028 \x85 ↵\n\r\x00 “é” 日本 😀"


def latent(arm="trained", number=0, stratum=0, detection=0.5, **changes):
    fields = {
        "arm": arm,
        "seed": 0,
        "latent": number,
        "firing_rate": 0.01,
        "stratum": stratum,
        "explanation": "words",
        "detection": detection,
        "saebench": 0.7,
    }
    return LatentSeen(**(fields | changes))


def crowd(arms=("trained", "random"), strata=3, each=4):
    """Scores rise with the latent's number, and those of `trained` with the stratum."""
    return [
        latent(arm, 10 * s + i, s, 0.5 + 0.01 * i + (0.1 * s if arm == "trained" else 0))
        for arm in arms
        for s in range(strata)
        for i in range(each)
    ]


def by_why(rows):
    return {row.why: row for row in rows}


# files


def test_what_is_written_is_read(tmp_path):
    text = SeenText.of([" a", ODD, " b"], [False, True, False])
    one = latent(
        arm=ODD,
        explanation=ODD,
        top=(text,),
        detected=(
            SeenAnswer(text=ODD, label=True, prediction=None),
            SeenAnswer(text="x", label=False, prediction=True),
        ),
    )
    other = latent(detection=None, saebench=None, explanation=None, missing="refusal")
    path = latents_path(tmp_path, "0a")
    write_latents(path, [one, other])
    assert read_latents(path) == (one, other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["0a.latents.jsonl"]


def test_each_line_is_json(tmp_path):
    path = tmp_path / "x"
    write_latents(path, [latent(explanation=ODD), latent()])
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["explanation"] for line in lines] == [ODD, "words"]


def test_only_so_many_texts_are_kept(tmp_path):
    many = tuple(SeenText(text=str(i)) for i in range(50))
    answers = tuple(SeenAnswer(text=str(i), label=True, prediction=True) for i in range(50))
    write_latents(tmp_path / "x", [latent(top=many, detected=answers)])
    (one,) = read_latents(tmp_path / "x")
    assert (one.top, one.detected) == (many[:5], answers[:10])


def test_an_empty_cell(tmp_path):
    write_latents(tmp_path / "x", [])
    assert read_latents(tmp_path / "x") == ()


@pytest.mark.parametrize("damage", [b"{}\n", b"no json\n", b"[1]\n", b"\xff\n", b"\n"])
def test_damage_is_named_by_file_and_line(tmp_path, damage):
    path = tmp_path / "x"
    write_latents(path, [latent()])
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(DamagedLatents, match="x, line 2: ") as caught:
        read_latents(path)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_damaged(tmp_path):
    path = tmp_path / "x"
    write_latents(path, [latent(), latent()])
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedLatents, match="line 2"):
        read_latents(path)


# texts


def test_spans_of_tokens():
    seen = SeenText.of([" a", "é", "", " b"], [True, True, True, False])
    assert (seen.text, seen.active) == (" aé b", ((0, 2), (2, 3)))


@pytest.mark.parametrize("active", [((0, 9),), ((-1, 2),), ((2, 1),), ((2, 4), (0, 1)), ((0, 3), (2, 4))])
def test_spans_outside_the_text_are_refused(active):
    with pytest.raises(ValueError, match="active tokens"):
        SeenText(text="abcde", active=active)


# choosing


def test_every_row_is_one_stratum_and_one_latent_of_each_arm():
    rows = choose(crowd(("trained", "random", "frozen_encoder")), n_random=3)
    assert [row.why for row in rows] == ["random"] * 3 + ["best", "worst", "different"]
    for row in rows:
        assert [one.arm for one in row.latents] == ["trained", "random", "frozen_encoder"]
        assert {one.stratum for one in row.latents} == {row.stratum}


def test_best_and_worst():
    rows = by_why(choose(crowd()))
    assert [one.latent for one in rows["best"].latents] == [23, 23]
    assert [one.latent for one in rows["worst"].latents] == [0, 0]


def test_different_is_where_the_arms_differ_most_and_shows_typical_latents():
    seen = crowd()
    # one extreme latent is not what makes an arm differ
    seen[-1] = seen[-1].model_copy(update={"detection": 0.6})
    row = by_why(choose(seen))["different"]
    assert row.stratum == 2
    assert [one.latent % 10 for one in row.latents] == [1, 2]


def test_random_rows_follow_the_seed_and_not_the_order():
    seen = crowd(each=30)
    mixed = [
        *seen[:1],
        *random.Random(0).sample(  # noqa: S311
            seen[1:], len(seen) - 1
        ),
    ]
    assert choose(seen, seed=1) == choose(mixed, seed=1)
    assert len({choose(seen, seed=s)[0].latents[0].latent for s in range(20)}) > 5


def test_random_rows_show_what_is_typical():
    """Strata are drawn in proportion to their latents."""
    seen = [*crowd(strata=1, each=9), *(one for one in crowd(strata=2, each=1) if one.stratum == 1)]
    rows = choose(seen, n_random=2000)[:2000]
    assert sum(row.stratum for row in rows) / 2000 == pytest.approx(0.1, abs=0.03)


def test_only_strata_that_every_arm_has():
    seen = [*crowd(strata=1), latent("trained", 99, stratum=7, detection=1.0)]
    assert {row.stratum for row in choose(seen, n_random=20)} == {0}


def test_without_a_common_stratum_what_is_there_is_shown():
    rows = choose([latent("trained", 1, 0), latent("random", 2, 1)])
    assert [(row.why, len(row.latents)) for row in rows] == [("random", 1), ("best", 1), ("worst", 1)]


def test_a_missing_score_is_never_saebenchs():
    """One scale begins at .5 and the other at .714: a latent without the first is best, worst or different in none."""
    assert latent(detection=None).score is None
    high = [latent(detection=None, saebench=0.99), latent(number=1, detection=None, saebench=0.01)]
    seen = [*high, latent(number=2, detection=0.6), latent("random", 3, detection=0.55)]
    for row in choose(seen, n_random=0):
        assert not {one.latent for one in row.latents} & {0, 1}
    assert any(one.detection is None for row in choose(seen, n_random=40) for one in row.latents)


def test_a_missing_score_is_only_shown_at_random():
    silent = latent(number=5, detection=None, saebench=None)
    assert [row.why for row in choose([silent])] == ["random"]
    rows = by_why(choose([silent, latent(number=6), latent("random", 7)]))
    assert [one.latent for one in rows["best"].latents] == [6, 7]


def test_nothing_to_choose_from():
    assert choose([]) == ()
    assert [row.why for row in choose([latent()], n_random=0)] == ["best", "worst"]
