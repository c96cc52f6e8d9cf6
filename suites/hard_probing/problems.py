"""Which rows train and which test, for each dataset, condition and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from sklearn.preprocessing import LabelEncoder

from ..probe_data import Sampling, load, membership, quietly_import, read_table
from ..texts import TextSet
from .conditions import Condition, shift_of

MIN_TEST = 100
"""Rows that sae-probes keeps for the test, at least."""
SHIFT_POOL, MAX_SHIFT = 1500, 1024
"""Rows from the top of a dataset that sae-probes draws the training rows of a shifted test from, and how many."""


@dataclass(frozen=True)
class Problem:
    """One split of one dataset. Rows index into `prompts(table, sampling)`."""

    dataset: str
    """Name as in `sae_probes.DATASETS`."""
    family: str
    """The cluster in the statistics."""
    condition: Condition
    """What is hard about it."""
    seed: int
    """Seed of the split, and of the probes."""
    table: str
    """Table whose prompts train: the dataset."""
    train: Int[np.ndarray, " train"]
    """Rows of `table`."""
    y_train: Int[np.ndarray, " train"]
    """0 or 1, flips of label noise included."""
    test_table: str
    """Table whose prompts test: another one than `table` where the regime is shift."""
    test: Int[np.ndarray, " test"]
    """Rows of `test_table`."""
    y_test: Int[np.ndarray, " test"]
    """0 or 1."""


@dataclass(frozen=True)
class Skipped:
    """A problem that cannot be posed, or an arrow that could not be shot at one."""

    dataset: str
    """Name as in `sae_probes.DATASETS`."""
    condition: Condition
    """What was asked of it."""
    seed: int
    """Of the split."""
    reason: str
    """One line."""


class Split(NamedTuple):
    """Rows of one dataset."""

    train: Int[np.ndarray, " train"]
    """Rows that train."""
    y_train: Int[np.ndarray, " train"]
    """Their labels, flips of label noise included."""
    test: Int[np.ndarray, " test"]
    """Rows that test; none where the regime is shift."""


@dataclass(frozen=True)
class Table:
    """The prompts of a dataset, or of a shifted test set."""

    texts: TextSet
    """The prompts, in the order that rows of problems count."""
    labels: Int[np.ndarray, " docs"]
    """0 or 1 for each."""


def problems(
    datasets: Sequence[str],
    conditions: Sequence[Condition] | Callable[[str], Iterable[Condition]],
    seeds: Sequence[int],
    sampling: Sampling,
) -> tuple[Problem | Skipped, ...]:
    """Every dataset in every condition with every seed, in this order.

    Args:
        datasets: Names as in `sae_probes.DATASETS`.
        conditions: Of every dataset, or a function that gives those of one (`Profile.conditions_of`).
        seeds: Of the splits.
        sampling: Which prompts of a dataset there are; `Sampling(distinct=False)` is sae-probes' own choice.

    Raises:
        ValueError: There is no such dataset.
    """
    of = conditions if callable(conditions) else lambda dataset: conditions
    asked = [(name, condition, seed) for name in datasets for condition in of(name) for seed in seeds]
    return tuple(_pose(name, condition, seed, sampling) for name, condition, seed in asked)


def prompts(table: str, sampling: Sampling) -> TextSet:
    """The prompts of one table, in the order that rows of problems count: a dataset, or `NAME_OOD`.

    Raises:
        ValueError: There is no such dataset, or too few of its prompts are left.
    """
    return labelled(table, sampling).texts


@cache
def labelled(table: str, sampling: Sampling) -> Table:
    """The prompts of one table with their labels; a shifted table is never sampled: none has more than 300 prompts.

    Raises:
        ValueError: There is no such dataset, or too few of its prompts are left.
    """
    if table.endswith("_OOD"):
        # Not by sae-probes' get_xy_OOD: that looks for a plain .csv, and the wheel has it compressed.
        rows = read_table(f"../OOD data/{table}")
        labels = np.asarray(LabelEncoder().fit_transform(rows["target"].to_numpy()), dtype=np.int64)
        return Table(TextSet(f"probe-{table}", tuple(rows["prompt"].astype(str))), labels)
    data = load(table, sampling)
    return Table(data.texts, data.labels)


def split(labels: Int[np.ndarray, " docs"], condition: Condition, seed: int, sampling: Sampling) -> Split | str:
    """Split the rows of a dataset by `sae_probes.utils_data.get_train_test_indices`, as sae-probes splits them.

    Args:
        labels: 0 or 1 for each prompt.
        condition: What is hard; of a shift only the training rows are drawn.
        seed: Of the draw and of the flips.
        sampling: How many prompts train where the condition does not say it.

    Returns:
        The split, or why there is none, in one line.
    """
    library: Any = quietly_import("sae_probes.utils_data")
    pool = labels[:SHIFT_POOL] if condition.regime == "shift" else labels
    share = condition.level if condition.regime == "imbalance" else 0.5
    num_train, num_test = _sizes(pool, condition, sampling)
    if condition.regime == "scarcity" and num_train > len(pool) - MIN_TEST:
        return (
            f"fewer points than asked: {num_train} of {len(pool)} prompts would leave fewer than {MIN_TEST} to test on"
        )
    if num_train < 2 or (num_test < 2 and condition.regime != "shift"):
        return f"{len(pool)} prompts are too few to train on {num_train} and test on {num_test}"
    try:
        train, test = library.get_train_test_indices(pool, num_train, num_test, pos_ratio=share, seed=seed)
    except ValueError:  # a class has fewer rows than are to be drawn from it
        rows = f"{num_train} + {num_test} rows with {share:g} of class 1"
        return f"fewer points than asked: {rows} cannot be drawn from {len(pool)}, {int(pool.sum())} of them of class 1"
    y_train = pool[train]
    if condition.regime == "noise":
        y_train = library.corrupt_ytrain(y_train, condition.level, seed=seed)
    return Split(train, y_train, test)


def imbalance_sizes(labels: Int[np.ndarray, " docs"]) -> tuple[int, int]:
    """Training and test rows that every positive share from .05 to .95 can be drawn with.

    What `sae_probes.utils_data.get_classimabalance_num_train` gives for a whole dataset; that function takes a name
    and not labels, so it cannot be asked about a sample.
    """
    positive = int(labels.sum())
    total = int(min((len(labels) - positive) / (1 - 0.05), positive / 0.95))
    num_train = min(total - MIN_TEST, 1024)
    return num_train, max(MIN_TEST, total - num_train - 1)


def _sizes(labels: np.ndarray, condition: Condition, sampling: Sampling) -> tuple[int, int]:
    if condition.regime == "imbalance":
        return imbalance_sizes(labels)
    if condition.regime == "shift":
        return min(MAX_SHIFT, 2 * int(np.bincount(labels, minlength=2).min())), 0  # nothing of this table is tested on
    num_train = int(condition.level) if condition.regime == "scarcity" else sampling.num_train(len(labels))
    return num_train, len(labels) - num_train - 1  # sae-probes leaves one row out


def _pose(dataset: str, condition: Condition, seed: int, sampling: Sampling) -> Problem | Skipped:
    family = membership(dataset).family
    try:
        return _posed(dataset, family, condition, seed, sampling)
    except _Impossible as reason:
        return Skipped(dataset, condition, seed, str(reason))


class _Impossible(Exception):  # noqa: N818  (it never leaves this module)
    pass


def _posed(dataset: str, family: str, condition: Condition, seed: int, sampling: Sampling) -> Problem:
    found = split(_labelled(dataset, sampling).labels, condition, seed, sampling)
    if isinstance(found, str):
        raise _Impossible(found)
    table, test, y_test = dataset, found.test, _labelled(dataset, sampling).labels[found.test]
    if condition.regime == "shift":
        table, y_test = _shifted(dataset, condition, sampling)
        test = np.arange(len(y_test))
    for part, y in (("training", found.y_train), ("test", y_test)):
        if len(np.unique(y)) < 2:
            msg = f"one class left in the {part} rows"
            raise _Impossible(msg)
    return Problem(dataset, family, condition, seed, dataset, found.train, found.y_train, table, test, y_test)


def _shifted(dataset: str, condition: Condition, sampling: Sampling) -> tuple[str, np.ndarray]:
    shift = shift_of(dataset, condition)
    if shift is None or shift.unusable:
        raise _Impossible(shift.unusable if shift else f"no shifted test set {condition.level:g}")
    labels = _labelled(shift.table, sampling).labels
    return shift.table, 1 - labels if shift.flipped else labels


def _labelled(table: str, sampling: Sampling) -> Table:
    try:
        return labelled(table, sampling)
    except ValueError as error:  # the name is known by now: too few prompts are left
        raise _Impossible(str(error)) from error
