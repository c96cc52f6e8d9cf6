"""Questions to a judge, in SAEBench's words: its own methods write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..judges.judge import Question
from ..randomness import own_randomness
from .latent import Example, Latent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Decode = Callable[[Sequence[int]], tuple[str, ...]]
"""Token ids as the strings that are shown."""
TOKENS_PER_NUMBER, TOKENS_AROUND = 6, 32
"""Tokens of an answer in the balanced layout: a number with its comma takes 2 to 4 with the tokenizers in use, JSON
some more around it. An answer that is cut off is lost, so there is room for one that names every example."""
_CORRECT = ("top", "weighted", "activating")
"""Kinds of examples that SAEBench's configuration counts as those on which the latent fires."""


def library() -> Any:  # noqa: ANN401
    """SAEBench's module of AutoInterp.

    Raises:
        NotInstalledError: it is not there; one line that says how to install it.
    """
    from ..saebench.evaluation import INSTALL, NotInstalledError

    try:
        from sae_bench.evals.autointerp import main
    except ImportError as error:
        raise NotInstalledError(f"AutoInterp asks by SAEBench's code, which is missing ({error}): {INSTALL}") from None
    return main


def explanation_question(latent: Latent, *, attempt: int = 0) -> Question:
    """Ask what a latent fires on, by its `generation` examples with the active tokens marked.

    Raises:
        NotInstalledError: SAEBench is not there.
    """
    main = library()
    asker = saebench_asker()
    messages = asker.get_generation_prompts(main.Examples([saebench_example(each) for each in latent.generation]))
    return Question(_pairs(messages), asker.cfg.max_tokens_in_explanation, "explanation", attempt=attempt)


def detection_question(explanation: str, examples: Sequence[Example], *, attempt: int = 0) -> Question:
    """Ask in which examples a latent with this explanation fires.

    SAEBench tells the judge how many examples there are, and shows an answer with as many numbers as there are
    examples of a firing latent; both are those of `examples`. The numbers in that answer are random: they follow from
    the content, so that the same question is the same text.

    In its own layout an answer may be as long as SAEBench allows (2 tokens an example and 5); in the balanced one,
    where half of the examples are to be named, as long as an answer that names them all.

    Args:
        explanation: what the latent fires on.
        examples: in the order shown.
        attempt: see `Question`.

    Raises:
        NotInstalledError: SAEBench is not there.
    """
    asker = saebench_asker(examples)
    with own_randomness(content_seed(explanation, examples)):
        messages = asker.get_scoring_prompts(explanation, in_order(examples))
    return Question(_pairs(messages), _longest(asker, examples), "detection", len(examples), attempt)


def _longest(asker: Any, examples: Sequence[Example]) -> int:  # noqa: ANN401
    if any(each.kind == "activating" for each in examples):
        return TOKENS_PER_NUMBER * len(examples) + TOKENS_AROUND
    return asker.cfg.max_tokens_in_prediction


def content_seed(explanation: str, examples: Sequence[Example]) -> int:
    """Seed of what SAEBench draws at random for a question, from what is asked alone."""
    content = json.dumps([explanation, [each.tokens for each in examples]]).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "little")


def saebench_asker(examples: Sequence[Example] = ()) -> Any:  # noqa: ANN401
    """SAEBench's `AutoInterp` without a model and an SAE, with the numbers of these examples in its configuration."""
    main = library()
    asker = main.AutoInterp.__new__(main.AutoInterp)
    counts = {}
    if examples:
        correct = sum(each.kind in _CORRECT for each in examples)
        weighted = sum(each.kind == "weighted" for each in examples)
        counts = {
            "n_top_ex_for_scoring": correct - weighted,
            "n_iw_sampled_ex_for_scoring": weighted,
            "n_random_ex_for_scoring": len(examples) - correct,
        }
    asker.cfg = main.AutoInterpEvalConfig(**counts)
    return asker


def saebench_example(example: Example, *, silent: bool = False) -> Any:  # noqa: ANN401
    """One of our examples as SAEBench's.

    Args:
        example: ours.
        silent: whether its activations are written as 0, which SAEBench does with random windows.
    """
    acts = [0.0] * len(example.tokens) if silent else list(example.activations)
    return library().Example(list(range(len(acts))), acts, example.threshold, _Reader(example.tokens))


def in_order(examples: Sequence[Example], *, silent: Sequence[bool] | None = None) -> Any:  # noqa: ANN401
    """SAEBench's `Examples`, which would sort or shuffle, in the order given."""
    made = library().Examples([])
    hushed = silent or [False] * len(examples)
    made.examples = [saebench_example(each, silent=s) for each, s in zip(examples, hushed, strict=True)]
    return made


class Decoder:
    """Token ids as strings, one by one, as HookedTransformer's `to_str_tokens` gives them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer of the language model."""
        self.tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The strings of these tokens."""
        new = [i for i in ids if i not in self._known]
        if new:
            strings = self.tokenizer.batch_decode([[i] for i in new], clean_up_tokenization_spaces=False)
            self._known.update(zip(new, strings, strict=True))
        return tuple(self._known[i] for i in ids)


class _Reader:
    """Stands in for the model, of which an `Example` only wants its tokens as strings."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self.tokens = tokens

    def to_str_tokens(self, places: Any) -> list[str]:  # noqa: ANN401
        """The tokens at these places."""
        return [self.tokens[place] for place in places.tolist()]


def _pairs(messages: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)
