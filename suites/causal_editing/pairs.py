"""Which edits are made: a mask learns on some pairs of entities, and is tried on pairs that share none with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .known import Known, is_right
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

    The source has another value than the base in every attribute that is asked for, and neither's answer passes for the
    other's (`Nigeria` would for `Niger`): else an edit cannot be seen to change a thing, or to leave it alone. An
    attribute that the model knows of too few entities is left out.

    Args:
        known: what the model answered.
        n_train: pairs that a mask learns from, half of them cause and half isolation.
        n_sources: sources for each base entity in the test, as far as there are any.
        seed: decides the draw.

    Raises:
        ValueError: fewer than two attributes of which the model knows enough; with the counts.
    """
    every = _World(known)
    kept = tuple(name for name in every.attributes if min(map(len, every.bases(name))) >= ENOUGH)
    world = replace(every, attributes=kept)
    tasks = []
    for number, attribute in enumerate(kept):
        rng = np.random.default_rng([seed, number])
        test = tuple(world.items(attribute, n_sources, rng))
        if len({item.base for item in test}) >= ENOUGH:
            tasks.append(Task(attribute, tuple(world.lesson(attribute, n_train, rng)), test))
    if len(tasks) < 2:
        counts = ", ".join("{} of {} and {}".format(n, *map(len, every.bases(n))) for n in every.attributes)
        raise ValueError(
            f"the model knows too little: two attributes must have {ENOUGH} entities to learn from and {ENOUGH} to try "
            f"that can be paired, and there are {counts or 'none'}; it answered {_told(known)}"
        )
    return tuple(tasks)


def _told(known: Known) -> str:
    counts = (f"{right} of {n} prompts about {name}" for name, (right, n) in known.counts().items())
    return ", ".join(counts) + " correctly"


@dataclass(frozen=True)
class _World:
    """What is known, by split, attribute, template and entity."""

    known: Known
    attributes: tuple[str, ...] = ()
    """Those that are asked for, in the order of the data; by default all."""
    _index: dict[tuple[str, str], dict[str, dict[str, int]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        every = tuple(dict.fromkeys(each.prompt.attribute for each in self.known.asked))
        object.__setattr__(self, "attributes", self.attributes or every)
        for i, each in enumerate(self.known.right):
            templates = self._index.setdefault((each.split, each.prompt.attribute), {})
            templates.setdefault(each.prompt.template, {})[each.prompt.entity] = i

    @cached_property
    def values(self) -> dict[tuple[str, str], str]:
        """Value by entity and attribute."""
        prompts = (each.prompt for each in self.known.asked)
        return {(prompt.entity, prompt.attribute): prompt.value for prompt in prompts}

    def prompt(self, index: int) -> Prompt:
        return self.known.right[index].prompt

    def bases(self, attribute: str) -> tuple[set[str], set[str]]:
        """Entities to learn from and to try whose prompt some entity of another value can be put into."""
        found = ({i for i in self._all(s, attribute) if self._sources(s, attribute, i)} for s in ("train", "test"))
        learnt, tried = ({self.prompt(i).entity for i in some} for some in found)
        return learnt, tried

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
        templates = self._index.get((split, attribute), {}).values()
        both = [f for f in templates if {base, source} <= f.keys() and self._distinct(f[base], f[source])]
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

    def _sources(self, split: str, attribute: str, base: int) -> list[int]:
        prompt = self.prompt(base)
        found = self._index[split, attribute][prompt.template]
        return [i for i in found.values() if self._distinct(base, i)]

    def _distinct(self, base: int, source: int) -> bool:
        """Whether neither of two answers passes for the other, nor begins like it."""
        ours, theirs = self.known.right[base], self.known.right[source]
        if ours.first == theirs.first:
            return False
        return not (
            is_right(ours.prompt, ours.answer, theirs.prompt.value)
            or is_right(theirs.prompt, theirs.answer, ours.prompt.value)
        )

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
