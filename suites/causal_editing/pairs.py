"""Which edits are made: a mask learns on some pairs of entities, and is tried on pairs that share none with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .known import Known
from .prompt import Prompt

ENOUGH = 8
"""Entities of a split below which an attribute is not tried: the same few would be in every pair."""


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in their entity alone; what the source has at the entity is put into the base."""

    base: int
    """Index of the prompt that is edited."""
    source: int
    """Index of the prompt that it is edited with."""
    value: str
    """What the edited prompt should be answered with: the source's value to show cause, the base's for isolation."""
    token: int
    """First token of that answer."""
    other: int
    """First token of the other prompt's answer."""


@dataclass(frozen=True)
class Item:
    """What one edit is asked: does the attribute change to the source's, and do the others stay?"""

    attribute: str
    """The attribute that the edit should change."""
    base: str
    """Entity of the prompts that are edited: the cluster."""
    source: str
    """Entity of the prompts that they are edited with."""
    cause: Pair
    """Prompts about the attribute."""
    isolation: Mapping[str, Pair]
    """Prompts about each of the others that the model knows of both."""

    @property
    def name(self) -> str:
        """The same for every SAE."""
        return f"{self.attribute}|{self.base}<-{self.source}"


@dataclass(frozen=True)
class Task:
    """One attribute: what its mask learns from, and what it is tried on."""

    attribute: str
    """Name of the attribute."""
    train: tuple[Pair, ...]
    """Half cause, half isolation, in random order."""
    test: tuple[Item, ...]
    """Items of entities that are in no pair of `train`, by templates that are in none."""


def draw_tasks(known: Known, *, n_train: int, n_sources: int, seed: int) -> tuple[Task, ...]:
    """Draw pairs for every attribute; the same for every SAE.

    The source has another value than the base in every attribute that is asked for: an edit cannot be seen to change,
    or to leave alone, what both have.

    Args:
        known: what the model answered.
        n_train: pairs that a mask learns from, half of them cause and half isolation.
        n_sources: sources for each base entity in the test, as far as there are any.
        seed: decides the draw.

    Raises:
        ValueError: fewer than two attributes, or too few entities that the model knows; with the counts.
    """
    world = _World(known)
    if len(world.attributes) < 2:
        raise ValueError(f"attributes are {world.attributes or 'none'}; it takes two: one changes, the other stays")
    tasks = []
    for number, attribute in enumerate(world.attributes):
        rng = np.random.default_rng([seed, number])
        test = tuple(world.items(attribute, n_sources, rng))
        entities = {item.base for item in test}
        learnt = {world.prompt(pair.base).entity for pair in world.cause("train", attribute)}
        for what, found in (("train", learnt), ("test", entities)):
            if len(found) < ENOUGH:
                raise ValueError(
                    f"the model knows {attribute} of {len(found)} entities for {what} that can be paired, and it takes "
                    f"{ENOUGH}; it answered {_told(known)}"
                )
        tasks.append(Task(attribute, tuple(world.lesson(attribute, n_train, rng)), test))
    return tuple(tasks)


def _told(known: Known) -> str:
    counts = (f"{right} of {n} prompts about {name}" for name, (right, n) in known.counts().items())
    return ", ".join(counts) + " correctly"


@dataclass(frozen=True)
class _World:
    """What is known, by split, attribute, template and entity."""

    known: Known
    _index: dict[tuple[str, str], dict[str, dict[str, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, each in enumerate(self.known.right):
            templates = self._index.setdefault((each.split, each.prompt.attribute), {})
            templates.setdefault(each.prompt.template, {})[each.prompt.entity] = i

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """In the order of the data."""
        return tuple(dict.fromkeys(each.prompt.attribute for each in self.known.asked))

    @cached_property
    def values(self) -> dict[tuple[str, str], str]:
        """Value by entity and attribute."""
        prompts = (each.prompt for each in self.known.asked)
        return {(prompt.entity, prompt.attribute): prompt.value for prompt in prompts}

    def prompt(self, index: int) -> Prompt:
        return self.known.right[index].prompt

    def cause(self, split: str, attribute: str) -> list[Pair]:
        """One pair for each known prompt whose template some entity of another value knows too."""
        return [pair for pair in (self._first(split, attribute, i) for i in self._all(split, attribute)) if pair]

    def lesson(self, attribute: str, n: int, rng: np.random.Generator) -> Iterator[Pair]:
        """Training pairs: every second one about the attribute, the others about the others in turn."""
        others = [name for name in self.attributes if name != attribute]
        pairs = []
        for number in range(n):
            about = attribute if number % 2 == 0 else others[(number // 2) % len(others)]
            if pair := self._draw("train", about, rng, keep=about != attribute):
                pairs.append(pair)
        yield from (pairs[i] for i in rng.permutation(len(pairs)))

    def items(self, attribute: str, n_sources: int, rng: np.random.Generator) -> Iterator[Item]:
        """Test items: every base entity with the same number of sources, as far as there are any."""
        known = self._index.get(("test", attribute), {})
        for base in dict.fromkeys(entity for found in known.values() for entity in found):
            templates = [t for t, found in known.items() if base in found]
            sources = sorted({s for t in templates for s in known[t] if self._differ(base, s)})
            for i in rng.permutation(len(sources))[:n_sources]:
                yield from self._item(attribute, base, sources[i], rng)

    def _item(self, attribute: str, base: str, source: str, rng: np.random.Generator) -> Iterator[Item]:
        pairs = {name: self._about("test", name, base, source, rng) for name in self.attributes}
        isolation = {name: pair for name, pair in pairs.items() if pair and name != attribute}
        cause = pairs[attribute]
        if cause and isolation:
            kept = {name: self._pair(pair.base, pair.source, keep=True) for name, pair in isolation.items()}
            yield Item(attribute, base, source, cause, kept)

    def _about(self, split: str, attribute: str, base: str, source: str, rng: np.random.Generator) -> Pair | None:
        """A pair of two given entities by one of the templates that both know."""
        both = [found for found in self._index.get((split, attribute), {}).values() if {base, source} <= found.keys()]
        if not both:
            return None
        found = both[rng.integers(len(both))]
        return self._pair(found[base], found[source])

    def _draw(self, split: str, attribute: str, rng: np.random.Generator, *, keep: bool) -> Pair | None:
        known = self._all(split, attribute)
        for _ in range(32):
            base = known[rng.integers(len(known))] if known else 0
            if sources := self._sources(split, attribute, base) if known else []:
                return self._pair(base, sources[rng.integers(len(sources))], keep=keep)
        return None

    def _all(self, split: str, attribute: str) -> list[int]:
        return [i for found in self._index.get((split, attribute), {}).values() for i in found.values()]

    def _first(self, split: str, attribute: str, base: int) -> Pair | None:
        sources = self._sources(split, attribute, base)
        return self._pair(base, sources[0]) if sources else None

    def _sources(self, split: str, attribute: str, base: int) -> list[int]:
        prompt = self.prompt(base)
        found = self._index[split, attribute][prompt.template]
        return [i for entity, i in found.items() if self.values[entity, attribute] != prompt.value]

    def _differ(self, base: str, source: str) -> bool:
        names = [name for name in self.attributes if (base, name) in self.values and (source, name) in self.values]
        return all(self.values[base, name] != self.values[source, name] for name in names)

    def _pair(self, base: int, source: int, *, keep: bool = False) -> Pair:
        ours, theirs = self.known.right[base], self.known.right[source]
        wanted, other = (ours, theirs) if keep else (theirs, ours)
        return Pair(base, source, wanted.prompt.value, wanted.first, other.first)


def pairs_of(items: Sequence[Item]) -> list[Pair]:
    """All pairs of some items, in their order: cause first."""
    return [pair for item in items for pair in (item.cause, *item.isolation.values())]
