"""Planted latents: firing patterns made from the texts, with a known answer, to put a judge on trial."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

Documents = Sequence[Sequence[str]]
"""Decoded tokens of each document, in order."""
Firing = list[np.ndarray]
"""For each document, whether each token fires: booleans of shape [n_tokens]."""

Activations = list[np.ndarray]
"""For each document, strengths in float32 of shape [n_tokens]; 0 where nothing fires."""
Shortages = Callable[[Sequence[Activations]], Sequence[str]]
"""Says of each of some latents why it cannot be asked about; empty where it can."""

WEAKEST = 0.5
"""Strengths are uniform from here to 1, in no relation to the text: ties would leave nothing below the top examples."""
N_WORDS = 3
"""Words that are planted, where the texts have so many often enough."""
TRIED_WORDS = 12
"""Most common words among which they are looked for."""
N_NOTHING = 3
"""Latents that fire at random."""
N_SHUFFLED = 4
"""Further patterns at random, whose texts and labels stand behind the explanation of something else."""
NOTHING = "nothing in particular"
"""What the names of latents that fire at random begin with."""

_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:bos|eos|pad|unk)>")
_MARKUP = re.compile(r"</\w|\w\(\)|[{};]\s*$|^\s*(?:#include|import |def |return\b|<\w+)|[=!]=|\w\[\w+\]")
_OPENS, _CLOSES = "“", "”"


@dataclass(frozen=True)
class Planted:
    """One planted latent."""

    name: str
    """What it is: `digits`, `word: people`, `question marks`, `nothing in particular`, ..."""
    explanation: str
    """The true explanation, as it stands behind `this neuron fires on`."""
    activations: Activations
    """Where it fires."""
    known: bool
    """Whether there is something to find. Where not, a judge that scores off chance tells of a leak."""


class LeftOut(NamedTuple):
    """A pattern that these texts cannot show."""

    name: str
    """What it would have been."""
    reason: str
    """Why it cannot be asked about, with the counts."""


class Planting(NamedTuple):
    """What could be planted in some texts, and what could not."""

    latents: tuple[Planted, ...]
    """Those with something to find first, behind them those that fire at random."""
    unrelated: tuple[Activations, ...]
    """Further patterns at random, for texts and labels that have nothing to do with an explanation."""
    left_out: tuple[LeftOut, ...]
    """What could not be planted."""


class _Pattern(NamedTuple):
    """Something that could be planted."""

    name: str
    explanation: str
    activations: Activations


def planted(tokens: Documents, rng: np.random.Generator, shortages: Shortages, *, least_windows: int = 0) -> Planting:
    """Plant latents in texts.

    Digits, common words that mean something, a second language (or else code, quotations or capitals: the first one
    that the texts have), question marks; and latents that fire at random, at the median rate of the others.

    Args:
        tokens: Decoded tokens of each document; special tokens (`<|endoftext|>`) never fire.
        rng: Decides the strengths and the random firings.
        shortages: Counts the windows that the texts have of each, by the rule of every other latent.
        least_windows: Firings at random are at least three times as many, so that they do not lack windows by chance.
    """
    # What only a part is taken of, with how many.
    wanted = (
        ([("digits", "digits, as in numbers and years", _where(tokens, lambda t: any(c.isdigit() for c in t)))], 1),
        (list(_words(tokens)), N_WORDS),
        (list(_languages(tokens)), 1),
        ([("question marks", "question marks", _where(tokens, lambda t: "?" in t))], 1),
    )
    groups = [[_Pattern(n, truth, _strengths(firing, rng)) for n, truth, firing in group] for group, _ in wanted]
    reasons = iter(shortages([pattern.activations for group in groups for pattern in group]))
    found: list[_Pattern] = []
    left_out: list[LeftOut] = []
    for group, (_, n) in zip(groups, wanted, strict=True):
        lacks = [next(reasons) for _ in group]
        able = [pattern for pattern, reason in zip(group, lacks, strict=True) if not reason][:n]
        found += able
        if not able:
            left_out += [LeftOut(pattern.name, why) for pattern, why in zip(group, lacks, strict=True)]
    known = [Planted(*pattern, known=True) for pattern in found]
    if not known:
        return Planting((), (), tuple(left_out))
    return _with_nothing(known, left_out, tokens, rng, shortages, least_windows)


def _with_nothing(
    known: list[Planted],
    left_out: list[LeftOut],
    tokens: Documents,
    rng: np.random.Generator,
    shortages: Shortages,
    least_windows: int,
) -> Planting:
    median = float(np.median([np.mean(np.concatenate(latent.activations) > 0) for latent in known]))
    rate = max(median, 3 * least_windows / sum(map(len, tokens)))
    random = [_strengths(_at_random(tokens, rate, rng), rng) for _ in range(N_NOTHING + N_SHUFFLED)]
    lacks = list(shortages(random))
    names = [f"{NOTHING} {i}" for i in range(1, N_NOTHING + 1)]
    names += [f"shuffled labels {i}" for i in range(1, N_SHUFFLED + 1)]
    left_out += [LeftOut(name, why) for name, why in zip(names, lacks, strict=True) if why]
    blank = [
        Planted(name, NOTHING, acts, known=False)
        for name, acts, why in zip(names, random, lacks, strict=True)
        if not why
    ]
    nothing = [each for each in blank if each.name.startswith(NOTHING)]
    unrelated = tuple(each.activations for each in blank if not each.name.startswith(NOTHING))
    return Planting((*known, *nothing), unrelated, tuple(left_out))


def _strengths(firing: Firing, rng: np.random.Generator) -> Activations:
    return [(one * rng.uniform(WEAKEST, 1, len(one))).astype(np.float32) for one in firing]


def _where(tokens: Documents, fires: Callable[[str], bool]) -> Firing:
    return [np.array([not _SPECIAL.fullmatch(t) and fires(t) for t in document], bool) for document in tokens]


def _at_random(tokens: Documents, rate: float, rng: np.random.Generator) -> Firing:
    return [one & (rng.random(len(one)) < rate) for one in _where(tokens, lambda _: True)]


def _words(tokens: Documents) -> Iterator[tuple[str, str, Firing]]:
    """Common words that mean something, the most common first; each fires on the token that is the whole word."""
    # Imported here: scikit-learn takes a second, and only for its list of words.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    spelled = [_whole_words(document) for document in tokens]
    counts = Counter(word for document in spelled for word in document if len(word) >= 4)
    common = sorted(counts.keys() - ENGLISH_STOP_WORDS, key=lambda word: (-counts[word], word))
    for word in common[:TRIED_WORDS]:
        yield f"word: {word}", f"the word '{word}'", [np.array([w == word for w in d], bool) for d in spelled]


def _whole_words(document: Sequence[str]) -> list[str]:
    """Each token in lower case where it is a whole word, else nothing."""
    following = [*document[1:], ""]
    begins = [True, *(not _ends_in_letter(before) or after[:1].isspace() for before, after in pairwise(document))]
    return [
        word.casefold() if first and (word := token.strip()).isalpha() and not _goes_on(token, after) else ""
        for token, after, first in zip(document, following, begins, strict=False)
    ]


def _ends_in_letter(token: str) -> bool:
    return token[-1:].isalpha()


def _goes_on(token: str, after: str) -> bool:
    """Whether the next token belongs to the same word."""
    return token[-1:].isalpha() and (after[:1].isalpha() or after[:1] in ("'", "’"))


def _languages(tokens: Documents) -> Iterator[tuple[str, str, Firing]]:
    """Another language if the texts have one, or else what comes closest to it."""
    foreign = _where(tokens, lambda t: any(c.isalpha() and not c.isascii() for c in t))
    yield "language: not English", "words with letters that English does not have, such as accents", foreign
    yield "language: code or markup", "program code or markup", [_in_code(document) for document in tokens]
    yield "quotations", "words inside quotation marks", [_in_quotes(document) for document in tokens]
    yield "capitals", "words that begin with a capital letter", _where(tokens, lambda t: t.strip()[:1].isupper())


def _in_code(document: Sequence[str]) -> np.ndarray:
    """Tokens of lines that look like code."""
    line = np.cumsum([0, *("\n" in token for token in document)])[: len(document)]
    lines = (
        "".join(t for t, at in zip(document, line, strict=True) if at == i)
        for i in range(int(line.max(initial=-1)) + 1)
    )
    looks = np.array([bool(_MARKUP.search(text)) for text in lines], bool)
    return looks[line] & _where([document], lambda t: bool(t.strip()))[0] if len(document) else np.zeros(0, bool)


def _in_quotes(document: Sequence[str]) -> np.ndarray:
    """Tokens between quotation marks. A straight mark behind a space opens, any other closes: texts begin anywhere."""
    fires, opened, before = np.zeros(len(document), bool), -1, " "
    for i, token in enumerate(document):
        for character in token:
            if character == _OPENS or (character == '"' and before.isspace()):
                opened = i
            elif opened >= 0 and character in ('"', _CLOSES):
                fires[opened + 1 : i] = True
                opened = -1
            before = character
    return fires & _where([document], lambda t: any(c.isalnum() for c in t))[0]
