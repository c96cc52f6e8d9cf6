"""Hard probing: what an SAE adds to strong dense probes where labels are few, out of balance, wrong or shifted."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...results.outcome import Skip
from ...results.scores import Row
from ..pooling import encoder_of
from ..probe_data import WITH_BAD_EXAMPLES, Sampling, membership, profile_datasets
from . import quality
from .arrows import ARROWS, Kept, Missed, Shot
from .conditions import REGIMES, Profile, profile
from .dense import ATTENTION, DenseShots, clean_copies, hits, libraries, problem_sha256, shoot_many
from .features import Features, How, as_is
from .problems import Problem, Skipped, labelled, problems, prompts
from .quiver import mean
from .rows import METRIC, MULTI_TOKEN, bound_rows, item_of, missed_skips, multi_token_rows, quiver_rows, sae_rows
from .sae_arrow import CS, KS, PENALTY, VALIDATION, SaeAim
from .shots import CODE_VERSION

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from ..pooling import Encode
    from ..site import Site
    from ..suite import SuiteContext

CLEAN_ARROW = "logreg"
"""What is trained on clean data: in `precision_at_n`, and in sparse_probing, it is the logistic regression too."""
MAX_WORKERS = 4
"""Processes that shoot at most: each holds its libraries and the features of a few problems, some 800 MB."""


class HardProbing:
    """The gain in test AUC that an SAE's probes bring to somebody who chooses among probes by validation AUC.

    On every problem (a dataset under a condition: few training points, classes out of balance, flipped training labels,
    a shifted test set, or none of it) a quiver of dense probes on raw activations is fitted by sae-probes' functions,
    and the one with the best validation AUC is taken. Then the SAE's probes on its k = 16 and 128 best latents come
    into the quiver, and the choice is made again. `quiver_gain` is the difference in test AUC of what is chosen, 0
    where the choice stays; a shifted test set counts in `gain_shift` alone. The same dense shots stand beside every
    SAE, so that trained minus random is the difference of differences, paired by problem. An arrow that cannot be shot
    (k above the live latents, NaN) is not in the quiver.

    References: `dense_quiver` (chance) is the quiver alone, whose gain is 0, so that an SAE which adds nothing is not
    off the floor; `clean_probe` (ceiling) is sae-probes' logistic regression on raw activations, trained on all clean,
    balanced data of the tested table that are not tested on, in two halves where few are left (`clean_copies`);
    `shuffled_labels` (shown) is the SAE's arrows on raw coordinates with the training labels permuted, whose gain is
    below 0 where validation takes one.

    Beside it, without a verdict: the gain where the quiver holds an attention-pooled probe on all tokens and the SAE
    its max-pooled latents too (`gain_multi_token`, standard regime), and how well the top latent finds planted label
    errors (`precision_at_n`) and the examples that a spurious cue speaks against (`spurious_at_n`; `quality`).
    """

    name = "hard_probing"
    metric = METRIC
    reads: Literal["encoder", "both"] = "encoder"
    unit = "item = dataset x condition x seed, cluster = family of datasets that share a source"
    margin = 0.01
    note = (
        "the gain in test AUC of a quiver of dense probes by an SAE's probes, all chosen by validation AUC; reads only "
        "the encoder, so a frozen decoder says nothing here"
    )
    floor, chance, ceiling = "random", "dense_quiver", "clean_probe"
    shown = "shuffled_labels"
    """A further reference, no part of the gate."""
    costly = True
    """Controls that the gate ignores are not measured."""
    exploratory: tuple[str, ...] = (
        *(f"gain_{regime}" for regime in REGIMES),
        *(MULTI_TOKEN, "sae_auc", "chosen", "precision_at_n", "spurious_at_n"),
    )
    metrics: tuple[str, ...] = (metric, *exploratory, "missed")
    version = 4

    def __init__(
        self,
        probed: Profile,
        *,
        sampling: Sampling | None = None,
        ks: Sequence[int] = KS,
        quality_tables: Sequence[str] = WITH_BAD_EXAMPLES,
        norm_cap: float | None = None,
        workers: int = 1,
    ) -> None:
        """Fix what is measured.

        Args:
            probed: Datasets, conditions, seeds, and which dense arrows are in the quiver.
            sampling: Which prompts of a dataset are used.
            ks: Numbers of latents that the SAE's probes may read.
            quality_tables: Datasets in which label errors are planted.
            norm_cap: Norm above which a token is left out, the one that the training activations had.
            workers: Processes that shoot; the numbers do not depend on it.

        Raises:
            ValueError: An unknown dataset or arrow, no arrow at all, or a k below 1.
        """
        if not probed.arrows or not set(probed.arrows) <= set(ARROWS) or not ks or min(ks) < 1:
            msg = f"arrows {probed.arrows} must be some of {tuple(ARROWS)}, and ks {tuple(ks)} positive"
            raise ValueError(msg)
        for dataset in (*probed.datasets, *quality_tables):
            membership(dataset)  # an unknown name is bad input: it shows here, not after an hour of training
        self.probed, self.ks = probed, tuple(ks)
        self.sampling = sampling or Sampling()
        self.quality_tables = tuple(dict.fromkeys(quality_tables))
        self.norm_cap, self.workers = norm_cap, workers
        self._features = Features(self.sampling, norm_cap)
        self._dense = DenseShots(self._features, workers)
        self._missed: list[Skip] = []
        self._shots: dict[str, tuple[Shot | Missed, ...]] = {}

    @classmethod
    def build(cls, context: SuiteContext) -> HardProbing:
        """Make the suite of a check from its options `probe_datasets`, `probe_conditions`, `probe_prompts`, `seed`."""
        options = context.options
        probed = _probed(options)
        cores = 1 if _in_ray() else len(os.sched_getaffinity(0))  # Ray runs as many cells as there are cores
        return cls(
            probed,
            sampling=Sampling(options["probe_prompts"], train_share=0.5, seed=options["seed"]),
            quality_tables=(*WITH_BAD_EXAMPLES, *probed.datasets),
            norm_cap=context.norm_cap,
            workers=min(MAX_WORKERS, cores),
        )

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return the number of families that a check with these options probes."""
        return len({membership(name).family for name in profile_datasets(options["probe_datasets"])})

    @classmethod
    def only_nulls(cls, options: Mapping[str, Any]) -> bool:
        """Return whether baselines that are no nulls for what only encodes are left out: quick answers ask for none."""
        return options["probe_conditions"] != "release"

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        return {
            "problems": [[item_of(p), p.family, problem_sha256(p)] for p in self._problems],
            "texts": {table: prompts(table, self.sampling).sha256 for table in self._tables},
            "arrows": list(self.probed.arrows),
            "ks": list(self.ks),
            "sae_arrow": [PENALTY, VALIDATION, CS.tolist()],
            "shots": CODE_VERSION,
            "quality": [quality.RATE, quality.FOLDS, list(self.quality_tables), list(self.probed.seeds)],
            "norm_cap": self.norm_cap,
            "libraries": libraries(),
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of the references that can be measured."""
        return (self.chance, self.ceiling, self.shown)

    def measure(self, sae: SAE[Any], site: Site, rng: np.random.Generator) -> list[Row]:
        """Put the arrows of one SAE into the quiver of every problem, and its top latent to finding wrong labels."""
        encode = encoder_of(sae)
        try:
            rows = self._with_arrows(site, encode, lambda problem: problem.y_train)
            return rows + self._found(site, encode, quality.top_latent)
        finally:
            self._features.forget()

    def measure_reference(self, name: str, site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure `dense_quiver`, `clean_probe` or `shuffled_labels`.

        Raises:
            ValueError: There is no such reference.
        """
        if name not in self.references():
            msg = f"no reference {name!r}: {self.name} has {', '.join(self.references())}"
            raise ValueError(msg)
        if name == self.chance:
            return [row for problem, quiver in self._quivers(site) for row in quiver_rows(problem, quiver)]
        if name == self.ceiling:
            return self._with_clean_probe(site) + self._found(site, as_is, quality.dense_probe)
        rows = self._with_arrows(site, as_is, lambda problem: rng.permutation(problem.y_train))
        return rows + self._found(site, as_is, _no_idea)

    def notes(self) -> tuple[str, ...]:
        """Return how much was posed."""
        return (f"{self.name}: {len(self._problems)} problems in {len(self.probed.datasets)} datasets",)

    def skipped(self) -> tuple[Skip, ...]:
        """Return problems that could not be posed, and those that arrows of the last SAE could not be shot at."""
        not_posed = [each for each in self._posed if isinstance(each, Skipped)]
        return (*(Skip(what=item_of(each), reason=each.reason) for each in not_posed), *self._missed)

    @cached_property
    def _posed(self) -> tuple[Problem | Skipped, ...]:
        return problems(self.probed.datasets, self.probed.conditions_of, self.probed.seeds, self.sampling)

    @property
    def _problems(self) -> tuple[Problem, ...]:
        return tuple(each for each in self._posed if isinstance(each, Problem))

    @property
    def _tables(self) -> tuple[str, ...]:
        named = [table for p in self._problems for table in (p.table, p.test_table)]
        return tuple(dict.fromkeys([*named, *self.quality_tables]))

    def _quivers(self, site: Site) -> list[tuple[Problem, dict[str, Shot]]]:
        """The dense shots of every problem that has some."""
        shots = self._dense.shots(site, self._problems, self.probed.arrows)
        found = list(zip(self._problems, shots, strict=True))
        self._missed = [skip for problem, each in found for skip in missed_skips(problem, each)]
        return [(problem, hits(each)) for problem, each in found if hits(each)]

    def _with_arrows(self, site: Site, encode: Encode, labels: Callable[[Problem], np.ndarray]) -> list[Row]:
        """Rows of every problem with k-sparse arrows on some features, trained on some labels."""
        quivers = self._quivers(site)
        wanted: list[tuple[Problem, How]] = [(problem, how) for problem, _ in quivers for how in _poolings(problem)]
        y_train = [labels(problem) for problem, _ in quivers for _ in _poolings(problem)]
        posed = zip(self._features.of(site, encode, wanted), y_train, strict=True)
        shots = self._shot(
            (SaeAim.of(one.x_train, y, one.x_test, one.problem.y_test, one.problem.seed, self.ks) for one, y in posed),
            len(wanted),
        )
        on_tokens = iter(
            self._dense.attention(site, [problem for problem, _ in quivers if "max" in _poolings(problem)])
        )
        rows: list[Row] = []
        for problem, quiver in quivers:
            names = {how: [f"sae_k{k}_{how}" for k in self.ks] for how in _poolings(problem)}
            added = {how: dict(zip(arrows, next(shots), strict=True)) for how, arrows in names.items()}
            self._missed += missed_skips(problem, added["mean"])
            rows += sae_rows(problem, quiver, added["mean"])
            if "max" in added:
                attention = {ATTENTION: next(on_tokens)}
                self._missed += missed_skips(problem, {**attention, **added["max"]})
                rows += multi_token_rows(problem, {**quiver, **hits(attention)}, added["mean"] | added["max"])
        return rows

    def _shot(self, aims: Iterable[SaeAim], n: int) -> Iterator[tuple[Shot | Missed, ...]]:
        """Shoot n aims in their order; SAEs with the same encoder (a permuted decoder) are shot once."""
        keys: deque[str] = deque()

        def lacking() -> Iterator[SaeAim | Kept[tuple[Shot | Missed, ...]]]:
            for aim in aims:
                keys.append(aim.sha256)
                known = self._shots.get(keys[-1])
                yield aim if known is None else Kept(known)

        for shots in shoot_many(lacking(), n, self.workers):
            self._shots[keys.popleft()] = shots
            yield shots

    def _with_clean_probe(self, site: Site) -> list[Row]:
        quivers = self._quivers(site)
        copies = [clean_copies(problem, labelled(problem.test_table, self.sampling)) for problem, _ in quivers]
        shots = iter(self._dense.shots(site, [copy for each in copies for copy in each], [CLEAN_ARROW]))
        rows: list[Row] = []
        for (problem, quiver), each in zip(quivers, copies, strict=True):
            tried = [next(shots) for _ in each]
            named = ({f"clean {name}": shot for name, shot in arrows.items()} for arrows in tried)
            self._missed += [skip for arrows in named for skip in missed_skips(problem, arrows)]
            hit = [shot for arrows in tried for shot in hits(arrows).values()]
            if len(hit) == len(each):
                rows += bound_rows(problem, quiver, mean(hit))
        return rows

    def _found(self, site: Site, encode: Encode, fit: quality.Fit) -> list[Row]:
        """Precision at finding planted label errors, and what a spurious cue speaks against, by table and seed."""
        errors, cue = ("precision_at_n", f"errors {quality.RATE:g}"), ("spurious_at_n", "last character")
        wanted = [
            (table, seed, what)
            for table in self.quality_tables
            for what in ((errors, cue) if table == quality.CUED else (errors,))
            for seed in self.probed.seeds
        ]

        def aims() -> Iterator[quality.Search]:
            held, features = "", np.zeros((0, 0))
            for table, seed, what in wanted:
                of = labelled(table, self.sampling)
                if table != held:
                    held, pooled = table, self._features.pooled(site, table, encode)
                    # A latent that never fires tells nothing, and a wide SAE has many; one has to stay.
                    features = pooled[:, (pooled != 0).any(axis=0) | (np.arange(pooled.shape[1]) == 0)]
                against = quality.against_cue(of.texts.documents, of.labels) if what == cue else None
                yield quality.Search(features, of.labels, seed, fit, against)

        found = shoot_many(aims(), len(wanted), self.workers)
        return [
            Row(metric, f"{table} {how} seed {seed}", membership(table).family, precision)
            for (table, seed, (metric, how)), precision in zip(wanted, found, strict=True)
        ]


def _probed(options: Mapping[str, Any]) -> Profile:
    """Conditions, seeds and arrows of one profile on the datasets whose texts the run keeps out of training."""
    conditions = profile(options["probe_conditions"], options["seed"])
    return replace(conditions, datasets=profile_datasets(options["probe_datasets"]))


def _in_ray() -> bool:
    """Whether this process is a worker of Ray, which has its cores counted out."""
    return "RAY_RAYLET_PID" in os.environ


def _poolings(problem: Problem) -> tuple[How, ...]:
    """How latents are pooled: the maximum is for the quivers that may read all tokens, in the standard regime."""
    return ("mean", "max") if problem.condition.regime == "standard" else ("mean",)


def _no_idea(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, y_new: np.ndarray, seed: int) -> np.ndarray:
    return np.zeros(len(x_new))
