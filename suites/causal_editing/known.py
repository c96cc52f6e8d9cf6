"""What the model under test knows: only what it answers correctly can be changed, or left alone, by an edit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ...results.files import write_atomically
from .editor import Editor
from .positions import find_prompt
from .prompt import Prompt

if TYPE_CHECKING:
    from ..site import Site
    from .ravel import RavelData

Progress = Callable[[int, int], None]
_Asked = tuple[Prompt, str]  # with its split

BATCH = 256
"""Prompts between two reports of progress."""
_VERSION = 1  # part of the file's name: raise it when a change alters what counts as known


@dataclass(frozen=True)
class Answered:
    """A prompt and how the model went on."""

    prompt: Prompt
    """The prompt."""
    split: str
    """`train` or `test`: that of its entity and its template."""
    first: int
    """First token of the model's answer."""
    answer: str
    """The answer, of a few tokens."""
    right: bool
    """Whether RAVEL's rule calls it right."""


@dataclass(frozen=True)
class Known:
    """All prompts that the model was asked, and what it knew."""

    asked: tuple[Answered, ...]
    """Every prompt, right or wrong, in the order of the data."""

    @cached_property
    def right(self) -> tuple[Answered, ...]:
        """Those that it answered correctly: the prompts that can be edited, by whose index in here pairs name them."""
        return tuple(each for each in self.asked if each.right)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Prompts answered correctly and asked, by attribute."""
        asked = Counter(each.prompt.attribute for each in self.asked)
        right = Counter(each.prompt.attribute for each in self.right)
        return {attribute: (right[attribute], n) for attribute, n in asked.items()}


def know(
    site: Site, data: RavelData, *, n_entities: int, n_tokens: int, told: Progress = lambda done, total: None
) -> Known:
    """Ask a model about entities, each by the templates of its own split, and judge its greedy answers.

    The answers are kept under the site's cache: the same model is not asked the same twice, while SAEBench, whose rule
    judges them, stays the same.

    Args:
        site: the model.
        data: entities, attributes and templates.
        n_entities: how many of the entities, from the first.
        n_tokens: tokens of an answer.
        told: called with the prompts asked so far, and all of them.

    Raises:
        ValueError: for a prompt whose entity has no last token of its own, or that does not fit the context.
    """
    prompts = list(_prompts(site, data, n_entities))
    path = _kept(site, prompts, n_tokens)
    if (kept := _read(path, prompts)) is not None:
        return kept
    editor = Editor(site, [prompt for prompt, _ in prompts])
    asked: list[Answered] = []
    for start in range(0, len(prompts), BATCH):
        part = range(start, min(start + BATCH, len(prompts)))
        tokens = editor.generate(part, None, n_tokens)
        answers = site.tokenizer.batch_decode(tokens)
        asked += [
            Answered(*prompts[i], int(row[0]), text, is_right(prompts[i][0], text))
            for i, row, text in zip(part, tokens, answers, strict=True)
        ]
        told(len(asked), len(prompts))
    found = Known(tuple(asked))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps([asdict(each) for each in found.asked]).encode())
    return found


def is_right(prompt: Prompt, answer: str, value: str | None = None) -> bool:
    """Whether an answer is right by the rule of RAVEL as SAEBench has it.

    Args:
        prompt: what was asked.
        answer: the model's words.
        value: the value that is wanted; by default that of the prompt's entity.
    """
    from sae_bench.evals.ravel.validation import evaluate_completion

    return bool(evaluate_completion(prompt.text, prompt.value if value is None else value, answer))


def _prompts(site: Site, data: RavelData, n_entities: int) -> Iterator[_Asked]:
    for entity in list(data.values)[:n_entities]:
        split = _part(data.entity_split[entity])
        for attribute, templates in data.templates.items():
            value = data.values[entity].get(attribute)
            for template in templates if value else ():
                if _part(data.template_split[template]) == split:
                    yield find_prompt(site, template, entity, attribute, value or ""), split


def _part(split: str) -> str:
    """RAVEL has a third part for choosing hyper-parameters; nothing is chosen here, so it tests too."""
    return "train" if split == "train" else "test"


def _kept(site: Site, prompts: Sequence[_Asked], n_tokens: int) -> Path:
    asked = [[asdict(prompt), split] for prompt, split in prompts]
    what = json.dumps([_VERSION, version("sae-bench"), site.fingerprint, n_tokens, asked])
    return site.cache / "answers" / f"{sha256(what.encode()).hexdigest()}.json"


def _read(path: Path, prompts: Sequence[_Asked]) -> Known | None:
    """The answers that are kept to these very prompts; None where there are none, or none that can be read."""
    try:
        known = Known(tuple(_answered(row) for row in json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if [(each.prompt, each.split) for each in known.asked] == list(prompts) else None


def _answered(row: dict) -> Answered:  # pyright: ignore[reportMissingTypeArgument]
    prompt = Prompt(**row["prompt"] | {"tokens": tuple(row["prompt"]["tokens"])})
    return Answered(prompt, row["split"], row["first"], row["answer"], row["right"])
