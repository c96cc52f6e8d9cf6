"""Sparse probing: how well a few latents of the SAE tell two classes of documents apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from ..results.scores import Row
from .pooling import Encode, Pooling, encoder_of, pool
from .probe_data import ProbeSet, Sampling, calm_fits, load, membership, profile_datasets, quietly_import
from .suite import SuiteContext

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from .activations import ActivationSet
    from .site import Site

Penalty = Literal["l1", "l2"]


class _Pooled(NamedTuple):
    """One dataset with one vector per document."""

    data: ProbeSet
    features: Float[torch.Tensor, "docs width"]

    def part(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features[torch.from_numpy(rows)], torch.from_numpy(self.data.labels[rows])


class SparseProbing:
    """Test AUC and accuracy of a probe on the top-k latents, per dataset of `sae-probes`.

    Each document becomes one vector of latents (the mean over its kept tokens, as in SAEBench, or the last kept
    token, as in sae-probes). Latents are ranked by the class difference of their normalised means on the training
    documents, and a logistic regression with cross-validated C reads the best k: both are sae-probes' own functions
    (`get_sorted_indices` with `mean_act_normalization`, `find_best_reg`), called as its `run_sae_evals` calls them.
    Only `encode` is read, so a permuted decoder gives the same rows bit for bit.

    The primary metric is the AUC at k = 5. AUC rather than accuracy: `find_best_reg` chooses C by AUC alone, so that
    the intercept, and with it accuracy at the fixed threshold of one half, can be poor where the ranking is good;
    AUC also has no steps of 1 / n_test. k = 5 rather than 1 or 16: at 1 one lucky latent of thousands decides, and
    towards 16 any dictionary becomes a random projection that approaches the dense probe.

    References: `dense_probe` (ceiling) is sae-probes' `logreg` baseline, `find_best_reg` with its default L2
    penalty, on the pooled raw activations; it has no k, so each k repeats its value. `shuffled_labels` (chance)
    selects and reads raw coordinates exactly as latents are, with the training labels permuted.
    """

    name = "sparse_probing"
    metric = "auc_k5"
    reads: Literal["encoder", "both"] = "encoder"
    unit = "item = binary dataset, cluster = family of datasets that share a source"
    margin = 0.02
    note = (
        "a document is the mean over its tokens, without position 0 (BOS) and tokens of outlier norm; reads only the "
        "encoder, so a frozen decoder says nothing here"
    )
    floor, chance, ceiling = "random", "shuffled_labels", "dense_probe"
    exploratory: tuple[str, ...] = ("auc_k1", "auc_k16", "accuracy_k1", "accuracy_k5", "accuracy_k16")
    metrics: tuple[str, ...] = (metric, *exploratory)
    version = 1

    def __init__(
        self,
        datasets: Sequence[str],
        *,
        ks: tuple[int, ...] = (1, 5, 16),
        primary_k: int = 5,
        pooling: Pooling = "mean",
        penalty: Penalty = "l1",
        sampling: Sampling | None = None,
        norm_cap: float | None = None,
    ) -> None:
        """Fix what is measured.

        Args:
            datasets: Names as in `sae_probes.DATASETS`.
            ks: Numbers of latents that a probe may read.
            primary_k: The one of `ks` that carries the verdict.
            pooling: How a document's tokens become one vector.
            penalty: Of the probe's weights, as sae-probes' `reg_type`.
            sampling: Which prompts are used; its seed is the seed of the probes too.
            norm_cap: Norm above which a token is left out, the one that the training activations had.

        Raises:
            ValueError: No dataset, an unknown one or one twice, a k below 1 or twice, or `primary_k` is not among `ks`.
        """
        self.datasets, self.ks = _unique("datasets", datasets), _unique("ks", ks)
        if min(self.ks) < 1 or primary_k not in self.ks:
            msg = f"ks {self.ks} must be positive and hold primary_k {primary_k}"
            raise ValueError(msg)
        for name in self.datasets:
            membership(name)  # an unknown name is bad input: it shows here, not after an hour of training
        self.pooling: Pooling = pooling
        self.penalty: Penalty = penalty
        self.norm_cap = norm_cap
        self.sampling = sampling or Sampling()
        self.metric = f"auc_k{primary_k}"
        named = [f"{score}_k{k}" for score in ("auc", "accuracy") for k in self.ks]
        self.exploratory = tuple(name for name in named if name != self.metric)
        self.metrics = (self.metric, *self.exploratory)
        self._collected: dict[tuple[str, str], ActivationSet] = {}

    @classmethod
    def build(cls, context: SuiteContext) -> SparseProbing:
        """Make the suite of a check from its options `probe_datasets`, `probe_prompts` and `seed`."""
        options = context.options
        # Half of the prompts test: with a few hundred of them, the 100 that sae-probes tests on give a standard
        # error of .04 per dataset, and the difference between arms would drown in it.
        sampling = Sampling(options["probe_prompts"], train_share=0.5, seed=options["seed"])
        return cls(profile_datasets(options["probe_datasets"]), sampling=sampling, norm_cap=context.norm_cap)

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return the number of families that a check with these options probes."""
        return len({membership(name).family for name in profile_datasets(options["probe_datasets"])})

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        return {
            "datasets": {data.name: [data.family, data.sha256] for data in self._data},
            "ks": list(self.ks),
            "pooling": self.pooling,
            "penalty": self.penalty,
            "seed": self.sampling.seed,
            "norm_cap": self.norm_cap,
            "libraries": {name: version(name) for name in ("sae-probes", "scikit-learn")},
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of the references that can be measured."""
        return (self.chance, self.ceiling)

    def measure(self, sae: SAE[Any], site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure one SAE through its `encode` alone; one row per metric and dataset."""
        return [row for each in self._pooled(site, encoder_of(sae)) for row in self._sparse(each)]

    def measure_reference(self, name: str, site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure `dense_probe` or `shuffled_labels`.

        Raises:
            ValueError: There is no such reference.
        """
        if name not in self.references():
            msg = f"no reference {name!r}: sparse_probing has {', '.join(self.references())}"
            raise ValueError(msg)
        pooled = self._pooled(site, lambda acts: acts)
        if name == self.ceiling:
            return [row for each in pooled for row in self._dense(each)]
        return [row for each in pooled for row in self._sparse(_shuffled(each, rng))]

    @cached_property
    def _data(self) -> tuple[ProbeSet, ...]:
        return tuple(load(name, self.sampling) for name in self.datasets)

    def _pooled(self, site: Site, encode: Encode) -> Iterator[_Pooled]:
        for data in self._data:
            with torch.inference_mode():
                features = pool(self._activations(data, site), encode, self.pooling)
            yield _Pooled(data, features)

    def _activations(self, data: ProbeSet, site: Site) -> ActivationSet:
        key = (site.fingerprint, data.name)
        if key not in self._collected:
            self._collected[key] = site.collect(data.texts, norm_cap=self.norm_cap)
        return self._collected[key]

    @calm_fits()
    def _sparse(self, pooled: _Pooled) -> list[Row]:
        """Select latents on the training documents and probe the best k, for each k."""
        library: Any = quietly_import("sae_probes.run_sae_evals")
        train, train_labels = pooled.part(pooled.data.train)
        test, test_labels = pooled.part(pooled.data.test)
        order = library.get_sorted_indices(train, train_labels, library.mean_act_normalization)
        rows: list[Row] = []
        for k in self.ks:
            best = order[:k]
            # No joblib: cells run side by side already, and a fit takes some 30 ms.
            fit = library.find_best_reg(
                X_train=train[:, best],
                y_train=train_labels,
                X_test=test[:, best],
                y_test=test_labels,
                parallel=False,
                penalty=self.penalty,
                seed=self.sampling.seed,
            )
            rows += _rows(pooled.data, k, fit.metrics)
        return rows

    @calm_fits()
    def _dense(self, pooled: _Pooled) -> list[Row]:
        library: Any = quietly_import("sae_probes.utils_training")
        parts = (*pooled.part(pooled.data.train), *pooled.part(pooled.data.test))
        metrics = library.find_best_reg(*parts, seed=self.sampling.seed).metrics
        return [row for k in self.ks for row in _rows(pooled.data, k, metrics)]


def _rows(data: ProbeSet, k: int, metrics: Any) -> list[Row]:  # noqa: ANN401  # sae_probes.utils_training.Metrics
    values = {"auc": metrics.test_auc, "accuracy": metrics.test_acc}
    return [Row(f"{score}_k{k}", data.name, data.family, value) for score, value in values.items()]


def _shuffled(pooled: _Pooled, rng: np.random.Generator) -> _Pooled:
    """The same dataset with its training labels permuted, its test labels not."""
    labels = pooled.data.labels.copy()
    labels[pooled.data.train] = rng.permutation(labels[pooled.data.train])
    data = pooled.data
    return pooled._replace(data=ProbeSet(data.name, data.family, data.texts, labels, data.train, data.test))


def _unique(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        msg = f"{name} must not be empty nor hold a value twice, and are {tuple(values)}"
        raise ValueError(msg)
    return tuple(values)
