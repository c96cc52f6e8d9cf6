"""Planted latents: firing patterns made from the texts, with a known answer, to put a judge on trial."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .latent import Example, Latent

Documents = Sequence[Sequence[str]]
"""Decoded tokens of each document, in order."""
Firing = list[np.ndarray]
"""For each document, whether each token fires: booleans of shape [n_tokens]."""

WEAKEST = 0.5
"""Strengths are uniform from here to 1, in no relation to the text: ties would leave nothing below the top examples."""
N_WINDOWS = 60
"""Firing windows that both layouts need: 15 for the explanation, 4 and most of 50 for detection."""
BUFFER = 10
"""Tokens on either side of a window's centre, as in SAEBench."""
NOTHING = "nothing in particular"
"""Name of the latent that fires at random."""
SHUFFLED = "shuffled: "
"""What the names of copies with permuted labels begin with."""

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
    activations: list[np.ndarray]
    """Of each document, strengths in float32 of shape [n_tokens]; 0 where it does not fire."""
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
    """Those that fire often enough and not everywhere; the one that fires at random comes last."""
    left_out: tuple[LeftOut, ...]
    """The others."""

    def dense(self, seq_len: int) -> Float[np.ndarray, "docs seq_len latents"]:
        """All activations as one array aligned with padded texts; 0 behind the end of a document.

        Raises:
            ValueError: When there are no latents, or a document is longer than `seq_len`.
        """
        if not self.latents:
            raise ValueError("nothing is planted")
        out = np.zeros((len(self.latents[0].activations), seq_len, len(self.latents)), np.float32)
        for i, latent in enumerate(self.latents):
            for document, activations in enumerate(latent.activations):
                out[document, : len(activations), i] = activations
        return out


def planted(
    tokens: Documents, rng: np.random.Generator, *, n_windows: int = N_WINDOWS, buffer: int = BUFFER
) -> Planting:
    """Plant latents in texts.

    Digits, the most common word that means something, a second language (or else code, quotations or capitals:
    the first one that the texts have), question marks, and one that fires at random at the median rate of the others.

    Args:
        tokens: Decoded tokens of each document; special tokens (`<|endoftext|>`) never fire.
        rng: Decides the strengths and the random firings.
        n_windows: Windows that must fire, and as many that must not: fewer and a pattern is left out.
        buffer: Tokens on either side of a window's centre; centres of counted windows lie further apart than that,
            and as far from the ends, as in SAEBench's selection.
    """
    found: list[tuple[str, str, Firing]] = []
    left_out: list[LeftOut] = []

    def possible(candidate: tuple[str, str, Firing]) -> bool:
        if reason := _shortage(candidate[2], n_windows, buffer):
            left_out.append(LeftOut(candidate[0], reason))
            return False
        found.append(candidate)
        return True

    possible(("digits", "digits, as in numbers and years", _where(tokens, lambda t: any(c.isdigit() for c in t))))
    any(map(possible, _words(tokens, n_windows)))
    any(map(possible, _languages(tokens)))
    possible(("question marks", "question marks", _where(tokens, lambda t: "?" in t)))
    latents = [Planted(name, truth, _strengths(firing, rng), known=True) for name, truth, firing in found]
    if found:
        rate = float(np.median([np.concatenate(firing).mean() for _, _, firing in found]))
        firing = _at_random(tokens, rate, rng)
        if reason := _shortage(firing, n_windows, buffer):
            left_out.append(LeftOut(NOTHING, reason))
        else:
            latents.append(Planted(NOTHING, NOTHING, _strengths(firing, rng), known=False))
    return Planting(tuple(latents), tuple(left_out))


def with_shuffled_labels(latent: Latent, rng: np.random.Generator) -> Latent:
    """A copy whose detection labels are permuted among the texts: whatever the judge answers, it must score at chance.

    Each text gets the activations of another one of the same layout; the examples for the explanation stay. Half of
    the balanced layout's labels stay right on average, so that chance is an accuracy of .5.
    """
    return replace(latent, saebench=_permuted(latent.saebench, rng), balanced=_permuted(latent.balanced, rng))


def _permuted(examples: tuple[Example, ...], rng: np.random.Generator) -> tuple[Example, ...]:
    givers = [examples[i] for i in rng.permutation(len(examples))]
    return tuple(
        replace(taker, activations=giver.activations, threshold=giver.threshold, kind=giver.kind)
        for taker, giver in zip(examples, givers, strict=True)
    )


def firing_windows(firing: Firing, buffer: int = BUFFER) -> int:
    """Windows around a firing token that overlap no other one's centre, counted as SAEBench would choose them."""
    return sum(_apart(np.flatnonzero(one[buffer : len(one) - buffer]), buffer) for one in firing)


def silent_windows(firing: Firing, buffer: int = BUFFER) -> int:
    """Disjoint windows in which nothing fires."""
    gaps = (np.diff([-1, *np.flatnonzero(one), len(one)]) - 1 for one in firing)
    return int(sum((gap // (2 * buffer + 1)).sum() for gap in gaps))


def _apart(positions: np.ndarray, buffer: int) -> int:
    count, last = 0, -buffer - 1
    for position in positions:
        if position - last > buffer:
            count, last = count + 1, position
    return count


def _shortage(firing: Firing, n_windows: int, buffer: int) -> str:
    fires, silent = firing_windows(firing, buffer), silent_windows(firing, buffer)
    if fires < n_windows:
        return f"the texts have {fires} windows in which it fires, {n_windows} are needed"
    if silent < n_windows:
        return f"the texts have {silent} windows in which it does not fire, {n_windows} are needed"
    return ""


def _strengths(firing: Firing, rng: np.random.Generator) -> list[np.ndarray]:
    return [(one * rng.uniform(WEAKEST, 1, len(one))).astype(np.float32) for one in firing]


def _where(tokens: Documents, fires: Callable[[str], bool]) -> Firing:
    return [np.array([not _SPECIAL.fullmatch(t) and fires(t) for t in document], bool) for document in tokens]


def _at_random(tokens: Documents, rate: float, rng: np.random.Generator) -> Firing:
    return [one & (rng.random(len(one)) < rate) for one in _where(tokens, lambda _: True)]


def _words(tokens: Documents, n_windows: int, tries: int = 5) -> Iterator[tuple[str, str, Firing]]:
    """Common words that mean something, the most common first; each fires on the token that is the whole word."""
    # Imported here: scikit-learn takes a second, and only for its list of words.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    spelled = [_whole_words(document) for document in tokens]
    counts = Counter(word for document in spelled for word in document if len(word) >= 4)
    common = sorted(counts.keys() - ENGLISH_STOP_WORDS, key=lambda word: (-counts[word], word))
    enough = [word for word in common[:tries] if counts[word] >= n_windows] or common[:1]
    for word in enough:
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
