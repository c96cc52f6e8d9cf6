"""The labelled prompts of `sae-probes`: which datasets there are, which share a source, and how one is split."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import LabelEncoder
from threadpoolctl import threadpool_limits

from .texts import TextSet

if TYPE_CHECKING:
    from types import ModuleType

SMOKE = ("5_hist_fig_ismale", "68_credit-card", "92_glue_sst2", "134_context_type_Belief_states")
"""Four families of short prompts: enough to see that everything runs."""

DEMO = (
    "5_hist_fig_ismale",
    "24_headline_isiran",
    "50_deon_isvalid",
    "68_credit-card",
    "91_glue_qqp",
    "92_glue_sst2",
    "95_toxic_is",
    "107_hate_offensive",
    "110_aimade_humangpt3",
    "118_us_state_CA",
    "123_world_country_United_Kingdom",
    "127_art_type_song",
    "134_context_type_Belief_states",
    "140_news_class_Technology",
    "149_twt_emotion_happiness",
    "152_it_tick_Hardware",
)
"""Sixteen families, one dataset each, 4 to 58 tokens a prompt; docs/probe-families.md says why these.

They leave the long prose of the package (essays, fake news, moral stories, Wikidata passages, papers, store reviews)
to the texts that SAEs are trained on, since a probed family may not be trained on."""

WITH_BAD_EXAMPLES = ("87_glue_cola", "110_aimade_humangpt3")
"""Datasets in which Kantamneni, Engels et al. 2025 found wrong labels (CoLA) and a cue beside the question."""


@dataclass(frozen=True)
class Membership:
    """One row of `data/probe_families.csv`."""

    dataset: str
    """Name as in `sae_probes.DATASETS`."""
    family: str
    """Datasets of one family share the source of their prompts."""
    use: str
    """`yes`, or why the dataset is not to be used."""
    reason: str
    """Why it is in this family, and what is odd about it."""


@dataclass(frozen=True)
class Sampling:
    """Which rows of a dataset are used, and how many of them train the probe."""

    max_prompts: int | None = None
    """At most this many prompts, half of each class; None for all."""
    distinct: bool = True
    """Use each prompt once. The published files were balanced by drawing rows with replacement, so that up to 66 % of
    their rows repeat another one and test prompts are seen in training; False keeps that, as published."""
    train_share: float | None = None
    """Share of the prompts that trains the probe; None is the rule of `sae-probes`: all but 100. At most 1,024."""
    seed: int = 42
    """Seed of the draw and of the split."""

    def num_train(self, size: int) -> int:
        """Training prompts among `size` prompts; the others are test prompts."""
        return min(size - 100 if self.train_share is None else int(size * self.train_share), 1024)


@dataclass(frozen=True)
class ProbeSet:
    """One binary dataset with its split. The split depends on the labels and the seed alone, never on an SAE."""

    name: str
    """Name as in `sae_probes.DATASETS`."""
    family: str
    """The cluster in the statistics."""
    texts: TextSet
    """The prompts."""
    labels: Int[np.ndarray, " docs"]
    """0 or 1 for each prompt."""
    train: Int[np.ndarray, " train"]
    """Rows that select latents and train the probe."""
    test: Int[np.ndarray, " test"]
    """Rows that are scored."""

    @cached_property
    def sha256(self) -> str:
        """Hash of prompts, labels and split, as 64 hexadecimal digits."""
        digest = hashlib.sha256(self.texts.sha256.encode())
        for part in (self.labels, self.train, self.test):
            digest.update(part.astype("<i8").tobytes() + b";")
        return digest.hexdigest()


@cache
def families() -> dict[str, Membership]:
    """The family of each binary dataset, in the order of `sae_probes.DATASETS`."""
    return {row["dataset"]: Membership(**row) for row in _rows("probe_families.csv")}


@cache
def file_families() -> dict[str, str]:
    """Family of every table of prompts in the wheel, the ones without binary labels included."""
    others = {row["file"]: row["family"] for row in _rows("probe_other_files.csv")}
    return {name: member.family for name, member in families().items()} | others


def related_files(datasets: Iterable[str]) -> frozenset[str]:
    """Files that share a source with one of these datasets, themselves included: not to be trained on.

    Raises:
        ValueError: A name is not a dataset.
    """
    probed = {membership(name).family for name in datasets}
    return frozenset(name for name, family in file_families().items() if family in probed)


def membership(dataset: str) -> Membership:
    """The family of one dataset.

    Raises:
        ValueError: There is no such dataset.
    """
    if dataset not in families():
        msg = f"no probing dataset {dataset!r}: the names are those of sae_probes.DATASETS, such as {SMOKE[0]!r}"
        raise ValueError(msg)
    return families()[dataset]


def profile_datasets(profile: str) -> tuple[str, ...]:
    """Datasets of a profile: `smoke`, `demo`, or `release` (every usable one).

    Raises:
        ValueError: There is no such profile.
    """
    usable = tuple(name for name, member in families().items() if member.use == "yes")
    profiles = {"smoke": SMOKE, "demo": DEMO, "release": usable}
    if profile not in profiles:
        msg = f"no probing profile {profile!r}: choose one of {', '.join(profiles)}"
        raise ValueError(msg)
    return profiles[profile]


def read_table(name: str) -> pd.DataFrame:
    """Rows of one table inside the `sae-probes` wheel, with columns `prompt` and `target`.

    Read straight from the file: importing `sae_probes` takes seconds and parses all of its tables.

    Raises:
        FileNotFoundError: The wheel has no such table.
    """
    return pd.read_csv(_data_folder() / f"{name}.csv.zst", compression="zstd")


def load(dataset: str, sampling: Sampling) -> ProbeSet:
    """One dataset, sampled and split by `sae_probes.utils_data.get_train_test_indices`.

    Raises:
        ValueError: There is no such dataset, or too few prompts are left for training or for testing.
    """
    member = membership(dataset)
    table = read_table(dataset)
    labels = np.asarray(LabelEncoder().fit_transform(table["target"].to_numpy()), dtype=np.int64)
    prompts = table["prompt"].astype(str).to_numpy()
    rows = _sample(prompts, labels, sampling)
    train, test = _split(dataset, labels[rows], sampling)
    texts = TextSet(f"probe-{dataset}", tuple(prompts[rows]))
    return ProbeSet(dataset, member.family, texts, labels[rows], train, test)


def quietly_import(module: str) -> ModuleType:
    """Import a module of `sae_probes`, which sets warning filters at import, and put the caller's filters back."""
    from importlib import import_module

    with warnings.catch_warnings():
        return import_module(module)


@contextmanager
def calm_fits(*messages: str) -> Iterator[None]:
    """Fit probes on one thread and without the warnings that sae-probes' way of calling sklearn causes.

    The matrices are a few hundred rows by at most some columns: threads only wait for each other there, and on
    shared cores made a fit ten times slower. Non-convergence is ignored by sae-probes too.

    Args:
        *messages: Beginnings of further warnings that say nothing here.
    """
    with warnings.catch_warnings(), threadpool_limits(1):
        for category in (ConvergenceWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        for message in ("Inconsistent values: penalty", *messages):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


def _split(dataset: str, labels: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    size, num_train = len(labels), sampling.num_train(len(labels))
    num_test = size - num_train - 1  # the library leaves one row out; kept, so that splits are its own
    if num_train < 2 or num_test < 2:
        msg = f"probing dataset {dataset!r}: {size} prompts are too few to train on {num_train} and test on {num_test}"
        raise ValueError(msg)
    library: Any = quietly_import("sae_probes.utils_data")
    train, test = library.get_train_test_indices(labels, num_train, num_test, seed=sampling.seed)
    return train, test


def _sample(prompts: np.ndarray, labels: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Rows in file order: all of them as published, or distinct and balanced ones."""
    if sampling.max_prompts is None and not sampling.distinct:
        return np.arange(len(labels))
    pool = _distinct(prompts, labels) if sampling.distinct else np.arange(len(labels))
    classes = [pool[labels[pool] == label] for label in (0, 1)]
    limit = len(pool) if sampling.max_prompts is None else sampling.max_prompts // 2
    each = min(limit, *(len(rows) for rows in classes))
    rng = np.random.default_rng(sampling.seed)
    return np.sort(np.concatenate([rng.choice(rows, each, replace=False) for rows in classes]))


def _distinct(prompts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """First row of each prompt; a prompt that occurs with both labels is left out."""
    table = pd.DataFrame({"prompt": prompts, "label": labels})
    first = ~table.duplicated("prompt")
    clear = table.groupby("prompt")["label"].transform("nunique") == 1
    return np.flatnonzero(first & clear)


def _data_folder() -> Path:
    spec = find_spec("sae_probes")
    if spec is None or not spec.submodule_search_locations:
        msg = "sae-probes is not installed: pip install sae-probes"
        raise ModuleNotFoundError(msg)
    return Path(spec.submodule_search_locations[0]) / "data" / "cleaned_data"


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__name__.rpartition(".")[0]).joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
