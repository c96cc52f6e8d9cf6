from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from sae_sanity.suites.autointerp.latent import Example, Latent
from sae_sanity.suites.autointerp.planted import planted
from sae_sanity.suites.judges.judge import Judge, Question
from sae_sanity.suites.judges.token_statistics import ASKED, Piece, TokenStatistics, pieces_by_log_odds, read_pieces

sae_bench = pytest.importorskip("sae_bench.evals.autointerp.main")

WORDS = [
    a + b + c
    for a in ("ka", "lo", "mi", "su", "te")
    for b in ("ra", "no", "ve", "du")
    for c in ["mor", "lin", "tas", "gan", "pel", "dux"]
]


def asker(n=14, correct=4):
    """SAEBench's own prompts and parsing, without a model."""
    made = sae_bench.AutoInterp.__new__(sae_bench.AutoInterp)
    made.cfg = sae_bench.AutoInterpEvalConfig(
        n_top_ex_for_scoring=correct, n_iw_sampled_ex_for_scoring=0, n_random_ex_for_scoring=n - correct
    )
    return made


class Reader:
    """SAEBench's `Example` asks a model for the strings of token ids."""

    def __init__(self, tokens):
        self.tokens = tokens

    def to_str_tokens(self, ids):
        return [self.tokens[i] for i in ids.tolist()]


def shown(windows):
    """SAEBench's `Examples` in our order, from (tokens, activations)."""
    examples = sae_bench.Examples([])
    examples.examples = [sae_bench.Example(list(range(len(t))), list(a), 0.01, Reader(t)) for t, a in windows]
    return examples


def question(messages, purpose):
    return Question(tuple((m["role"], m["content"]) for m in messages), 100, purpose)


def explanation_of(windows):
    messages = asker().get_generation_prompts(shown(windows))
    answer = TokenStatistics().ask(question(messages, "explanation"))
    assert answer.text.startswith(ASKED)
    return asker().parse_explanation(answer.text)


def predictions(explanation, windows):
    messages = asker(len(windows), min(4, len(windows))).get_scoring_prompts(explanation, shown(windows))
    answer = TokenStatistics().ask(question(messages, "detection"))
    return asker().parse_predictions(answer.text)


def window(text, *active):
    """Tokens of a text split before each space, those at the places of `active` on."""
    tokens = [f" {word}" for word in text.split(" ")]
    return tokens, [1.0 if i in active else 0.0 for i in range(len(tokens))]


def balanced_accuracy(said, truth):
    said, truth = np.array(said), np.array(truth)
    return (np.mean(said[truth]) + np.mean(~said[~truth])) / 2


# planted latents


def documents(n=400, seed=0):
    """Nonsense prose with years, prices, questions and quotations; digits are split as in SmolLM2."""
    rng = random.Random(seed)  # noqa: S311
    out = []
    for _ in range(n):
        tokens = ["<|endoftext|>"]
        for _ in range(90):
            kind = rng.random()
            if kind < 0.03:
                tokens += [" ", *str(rng.randint(10, 2030))]
            elif kind < 0.045:
                tokens += [rng.choice(["?", "?\n"])]
            elif kind < 0.06:
                tokens += [' "', *(f" {rng.choice(WORDS)}" for _ in range(4)), '"']
            elif kind < 0.075:
                tokens += [" people"]
            else:
                tokens += [f" {rng.choice(WORDS)}"]
        out.append(tokens)
    return out


def latent_of(tokens, activations, rng, n=50):
    """Firing and silent windows of a planted latent, as a `Latent` in the balanced layout."""
    firing, silent = [], []
    for document in rng.permutation(len(tokens)):
        acts = activations[document]
        at = [p for p in rng.permutation(np.arange(10, len(acts) - 10)) if acts[p] > 0]
        quiet = [p for p in rng.permutation(np.arange(10, len(acts) - 10)) if not acts[p - 10 : p + 11].any()]
        for found, places in ((firing, at), (silent, quiet)):
            found += [
                Example(
                    tuple(tokens[document][p - 10 : p + 11]),
                    tuple(acts[p - 10 : p + 11].tolist()),
                    0.01,
                    "activating" if found is firing else "random",
                    int(document),
                    int(p),
                )
                for p in places[:1]
            ]
    assert min(len(firing), len(silent)) >= n + 15
    mixed = [*firing[15 : 15 + n], *silent[:n]]
    balanced = tuple(mixed[i] for i in rng.permutation(len(mixed)))
    return Latent(0, 0.01, 0, tuple(firing[:15]), balanced[:14], balanced)


def score(latent):
    explanation = explanation_of([(e.tokens, e.activations) for e in latent.generation])
    found = predictions(explanation, [(e.tokens, e.activations) for e in latent.balanced])
    said = [i in found for i in range(1, len(latent.balanced) + 1)]
    return balanced_accuracy(said, [e.is_active for e in latent.balanced])


@pytest.fixture(scope="module")
def trial():
    tokens = documents()
    rng = np.random.default_rng(0)
    return tokens, planted(tokens, rng, lambda some: [""] * len(some))


@pytest.mark.parametrize("name", ["digits", "word: people", "question marks"])
def test_finds_what_single_tokens_tell(trial, name):
    tokens, planting = trial
    (one,) = [latent for latent in planting.latents if latent.name == name]
    assert score(latent_of(tokens, one.activations, np.random.default_rng(1))) > 0.9


def test_is_at_chance_where_there_is_nothing_to_find(trial):
    tokens, planting = trial
    nothing = next(latent for latent in planting.latents if not latent.known)
    scores = [score(latent_of(tokens, nothing.activations, np.random.default_rng(seed))) for seed in range(8)]
    assert np.mean(scores) == pytest.approx(0.5, abs=0.06)


def test_is_at_chance_on_shuffled_labels(trial):
    """The explanation of digits, beside texts and labels of patterns at random."""
    tokens, planting = trial
    latent = latent_of(tokens, planting.latents[0].activations, np.random.default_rng(1))
    others = [latent_of(tokens, each, np.random.default_rng(2)).balanced for each in planting.unrelated]
    scores = [score(replace(latent, balanced=balanced)) for balanced in others]
    assert len(scores) >= 4
    # standard deviation of one score .05 at most
    assert np.mean(scores) == pytest.approx(0.5, abs=4 * 0.05 / len(scores) ** 0.5)
    assert score(latent) > 0.9


# explanations


def test_marked_tokens_by_log_odds():
    found = pieces_by_log_odds(["a<< b>> b<< c>>", "<< c>> d"])
    assert [(piece.text, round(odds, 3)) for piece, odds in found] == [(" c", round(np.log(5), 3)), (" b", 0.0)]


def test_a_common_token_that_is_mostly_unmarked_is_left_out():
    windows = [window("the river the stone the market", 1, 2), window("the river the paper", 1)]
    assert [piece.text for piece in read_pieces(explanation_of(windows))] == [" river"]


def test_one_is_named_even_when_none_is_likely():
    windows = [window("the the the", 0)]
    assert [piece.text for piece in read_pieces(explanation_of(windows))] == [" the"]


@pytest.mark.parametrize(
    "token",
    [
        *(
            " the",
            "?",
            '"',
            "'",
            "\\",
            "\n",
            "\r",
            "\u2028",
            "\x00",
            "\x1b[2J",
            ">>",
            "<<",
            ">",
            "<",
            ".",
            " .",
            "~",
            '~"~',
        ),
        *(" activates on", ", ", "é", "日本", "😀", "3", "(", "^", "None", " and", "\u00a0"),
    ],
)
def test_every_token_survives_the_way_to_detection(token):
    """Through SAEBench's own parsing; it shows line feeds as an arrow."""
    windows = [([" left", token, " right"], [0.0, 1.0, 0.0]), ([" below", token, " above"], [0.0, 1.0, 0.0])]
    explanation = explanation_of(windows)
    assert explanation.isascii()
    assert explanation.isprintable()
    assert [piece.text for piece in read_pieces(explanation)] == [token.replace("\n", "↵")]
    silent = ([" neither", " nor"], [0.0, 0.0])
    assert predictions(explanation, [silent, windows[0], silent, windows[1]]) == [2, 4]


def test_marks_inside_words_and_beside_each_other():
    runs = (["run", "ning", " fast"], [0.0, 1.0, 0.0])
    walks = (["walk", "ning", " 1", "9"], [0.0, 1.0, 1.0, 1.0])
    explanation = explanation_of([runs, walks])
    assert read_pieces(explanation) == (Piece("ning", after_letter=True), Piece(" 1"), Piece("9"))
    assert predictions(explanation, [(["morning"], [0.0]), (["walked"], [0.0]), (["x 17"], [0.0])]) == [1, 3]


def test_a_whole_word_is_not_found_inside_others():
    explanation = explanation_of([window("see the cat", 2), window("cat food", 0)])
    texts = [window(text) for text in ("a category", "the cat sat", "tom cat", "bobcat")]
    assert predictions(explanation, texts) == [2, 3]


def test_code_with_its_own_arrows():
    shift = (["cout", " <<", " x", " <<", " end", "l", ";"], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    assert [piece.text for piece in read_pieces(explanation_of([shift]))] == [" end"]


# layout


def test_more_than_nine_examples():
    windows = [window("river stone people paper" if i in (0, 9, 10, 99) else "river stone") for i in range(100)]
    assert predictions("the word 'people'", windows) == [1, 10, 11, 100]


def test_nothing_found_is_none():
    messages = asker().get_scoring_prompts('"zebra"', shown([window("river stone")] * 14))
    assert TokenStatistics().ask(question(messages, "detection")).text == "None"


def test_texts_that_look_like_the_prompt():
    hostile = [
        (["3. river\r4. people\u2028", "5. people"], [0.0, 0.0]),
        (["\n\nHere are the examples:\n\n1. ", "people"], [0.0, 0.0]),
        (["this neuron fires on ", '"river"'], [0.0, 0.0]),
        ([""], [0.0]),
    ]
    assert predictions('"people"', hostile) == [1, 2]
    assert predictions('x\n\nHere are the examples:\n\n1. this neuron fires on "people"', hostile) == [1, 2]


def test_a_line_break_in_a_text_is_no_new_example():
    windows = [(["one\n2. two", " people", "\n\n3."], [0.0, 1.0, 0.0])] * 2
    assert [piece.text for piece in read_pieces(explanation_of(windows))] == [" people"]


@pytest.mark.parametrize("text", ["", "Hello", "1. a\n3. b", "Here is the explanation: x"])
@pytest.mark.parametrize("purpose", ["explanation", "detection"])
def test_another_layout_is_a_failure_and_no_crash(text, purpose):
    answer = TokenStatistics().ask(Question((("user", text),), 10, purpose))
    assert (answer.text, bool(answer.failure)) == (None, True)


def test_no_messages_at_all():
    assert TokenStatistics().ask(Question((), 10, "detection")).text is None


@pytest.mark.parametrize("explanation", ["", "nothing", '"', '"\\x"', "~~~", '"" ""', "a b c", "(((", "\\"])
def test_any_explanation_can_be_read(explanation):
    assert predictions(explanation, [window("river stone")] * 14) == []


def test_explanations_in_words():
    assert [piece.text for piece in read_pieces("the word 'people'")] == ["people"]
    assert [piece.text for piece in read_pieces("question marks")] == ["question", "marks"]


# a judge among judges


def test_it_is_a_judge_and_no_language_model():
    judge = TokenStatistics()
    assert isinstance(judge, Judge)
    assert not judge.is_llm
    assert json.loads(json.dumps(judge.identity()))["judge"] == judge.name == "token_statistics"
    judge.close()


def test_only_the_messages_count():
    messages = asker().get_generation_prompts(shown([window("river people", 1)]))
    one = question(messages, "explanation")
    other = Question(one.messages, 1, "explanation", n_examples=7, attempt=3)
    assert TokenStatistics().ask(one) == TokenStatistics().ask(other)
