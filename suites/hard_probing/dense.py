"""Shots of dense probes: made once for all SAEs, by several processes, and kept beside the activations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .arrows import Aim, Kept, Missed, Shot, shoot_all
from .attention import AttentionAim, Tokens
from .features import Features, as_is
from .problems import Problem, Table
from .shots import ShotStore, key_of

if TYPE_CHECKING:
    from ..site import Site

T = TypeVar("T")
MAX_CLEAN = 1024
"""Rows that train the clean-data reference at most: as many as sae-probes gives to a probe."""
MOST_SENT = 2**27
"""Bytes of a table's tokens above which attention probes are fitted one after another: a process would hold them three
times over."""
ATTENTION = "attention"
"""Name of the probe on all tokens in the store."""


def hits(shots: Mapping[str, Shot | Missed]) -> dict[str, Shot]:
    """Those that could be shot, in their order."""
    return {name: shot for name, shot in shots.items() if isinstance(shot, Shot)}


def shoot_many(aims: Iterable[Any], n: int, workers: int) -> Iterator[Any]:
    """Shoot n aims in their order, in several processes where that pays: one takes seconds to start.

    Args:
        aims: What has a method `shoot`.
        n: How many.
        workers: Processes.
    """
    return shoot_all(iter(aims), workers if n > 8 * workers else 1)


def _from_elsewhere(lacking: list[T]) -> list[T]:
    """Other processes may be at the same problems: each begins elsewhere, and takes over what others have kept."""
    begin = os.getpid() * 7919 % max(1, len(lacking))
    return [*lacking[begin:], *lacking[:begin]]


def problem_sha256(problem: Problem) -> str:
    """Hash of rows and labels, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in (problem.train, problem.y_train, problem.test, problem.y_test):
        digest.update(part.astype("<i8").tobytes() + b";")
    return digest.hexdigest()


def libraries() -> dict[str, str]:
    """Versions of what fits the probes."""
    return {name: version(name) for name in ("sae-probes", "scikit-learn", "scipy", "xgboost", "numpy", "torch")}


class DenseShots:
    """Shots of dense probes at problems, from disk where they are there."""

    def __init__(self, features: Features, workers: int) -> None:
        """Shoot on these features, in at most so many processes."""
        self.features, self.workers = features, workers

    def shots(self, site: Site, wanted: Sequence[Problem], arrows: Sequence[str]) -> list[dict[str, Shot | Missed]]:
        """Shots of some problems by arrow: those on disk, and the others shot and kept there.

        Args:
            site: Where the activations come from.
            wanted: Problems.
            arrows: Names in `arrows.ARROWS`.
        """
        places = [self._place(site, problem) for problem in wanted]
        kept = [store.read(key) for store, key in places]
        lacking = _from_elsewhere([(n, name) for n, found in enumerate(kept) for name in arrows if name not in found])
        posed = self.features.of(site, as_is, [(wanted[n], "mean") for n, _ in lacking])

        def aims() -> Iterator[Aim | Kept]:
            for one, (n, name) in zip(posed, lacking, strict=True):
                store, key = places[n]
                problem, known = one.problem, store.read(key).get(name)
                parts = (one.x_train, problem.y_train, one.x_test, problem.y_test)
                yield Kept(known) if known else Aim(name, *parts, problem.seed)

        for (n, name), shot in zip(lacking, shoot_many(aims(), len(lacking), self.workers), strict=True):
            store, key = places[n]
            store.add(key, name, shot)
            kept[n][name] = shot
        return [{name: found[name] for name in arrows} for found in kept]

    def attention(self, site: Site, wanted: Sequence[Problem]) -> list[Shot | Missed]:
        """Shots of the attention-pooled probe on all tokens of the documents, kept like the others.

        Args:
            site: Where the activations come from.
            wanted: Problems.
        """
        places = [self._place(site, problem) for problem in wanted]
        kept = [store.read(key).get(ATTENTION) for store, key in places]
        lacking = _from_elsewhere([n for n, found in enumerate(kept) if found is None])

        def aims() -> Iterator[AttentionAim | Kept]:
            for n in lacking:
                store, key = places[n]
                known = store.read(key).get(ATTENTION)
                yield Kept(known) if known else self._attention_aim(site, wanted[n])

        sets = [self.features.activations(site, wanted[n].table) for n in lacking]
        heavy = max((4 * each.n_tokens * each.d_in for each in sets), default=0) > MOST_SENT
        # Where there are few problems too: one fit takes about as long as a process to start.
        workers = self.workers if len(lacking) > 1 and not heavy else 1
        for n, shot in zip(lacking, shoot_all(aims(), workers), strict=True):
            store, key = places[n]
            store.add(key, ATTENTION, shot)
            kept[n] = shot
        return [shot for shot in kept if shot is not None]

    def _attention_aim(self, site: Site, problem: Problem) -> AttentionAim:
        tables = dict.fromkeys((problem.table, problem.test_table))
        tokens = {table: Tokens.of(self.features.activations(site, table)) for table in tables}
        train, test = tokens[problem.table].take(problem.train), tokens[problem.test_table].take(problem.test)
        return AttentionAim(train, problem.y_train, test, problem.y_test, problem.seed)

    def _place(self, site: Site, problem: Problem) -> tuple[ShotStore, str]:
        acts = [self.features.activations(site, table) for table in (problem.table, problem.test_table)]
        ingredients = {
            "activations": [each.key for each in acts],
            "rows": problem_sha256(problem),
            "seed": problem.seed,
            "libraries": libraries(),
        }
        return ShotStore(acts[0].folder / "shots"), key_of(ingredients)


def clean_copies(problem: Problem, tested: Table) -> tuple[Problem, ...]:
    """The problem with all clean, balanced training rows of the tested table that are not tested on, in random order.

    Where more than half of the table is tested on (sae-probes tests scarcity on every row that does not train, and a
    shift on a whole table) few rows or none are left. There the test rows are halved within the classes, and each half
    is tested by what trains on all others: two problems, whose mean says what clean data in number would reach.

    Args:
        problem: Whose test rows are tested on.
        tested: The table that it tests on, as it is in the wheel.
    """
    rng, labels = np.random.default_rng(problem.seed), tested.labels
    labels = 1 - labels if (labels[problem.test] != problem.y_test).all() else labels  # a shift may ask the opposite
    parts = _halves(problem.y_test, rng) if 2 * len(problem.test) > len(labels) else (np.arange(len(problem.test)),)
    documents = np.asarray(tested.texts.documents, dtype=object)
    # A prompt that stands twice, as some in shifted tables do, must not train the half that it tests.
    seen = [np.isin(documents, documents[problem.test[part]]) for part in parts]
    return tuple(_clean(problem, labels, part, ~known, rng) for part, known in zip(parts, seen, strict=True))


def _halves(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    of_class = [rng.permutation(np.flatnonzero(y == label)) for label in (0, 1)]
    first, second = ([rows[half::2] for rows in of_class] for half in (0, 1))
    return np.concatenate(first), np.concatenate(second)


def _clean(
    problem: Problem, labels: np.ndarray, part: np.ndarray, free: np.ndarray, rng: np.random.Generator
) -> Problem:
    classes = [np.flatnonzero(free & (labels == label)) for label in (0, 1)]
    each = min(MAX_CLEAN // 2, *map(len, classes))
    # Shuffled, because sae-probes validates on the last rows.
    train = rng.permutation(np.concatenate([rng.choice(rows, each, replace=False) for rows in classes]))
    trained = replace(problem, table=problem.test_table, train=train, y_train=labels[train])
    return replace(trained, test=problem.test[part], y_test=problem.y_test[part])
