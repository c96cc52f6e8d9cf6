from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import warnings
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, TopKSAE, TopKSAEConfig

from sae_sanity.results.scores import Row
from sae_sanity.suites.pooling import pool
from sae_sanity.suites.probe_data import Sampling, families, quietly_import
from sae_sanity.suites.sparse_probing import SparseProbing
from sae_sanity.suites.suite import Suite, SuiteContext

D_IN, D_SAE = 16, 64
NAMES = ("95_toxic_is", "41_truthqa_tf")
SMALL = Sampling(260, train_share=0.5)  # below 128 training rows sae-probes cross-validates six times


@dataclass
class FakeSet:
    """Activations in memory, with the methods of an ActivationSet that the suite uses."""

    documents: list[torch.Tensor]
    d_in: int = D_IN

    @property
    def n_documents(self):
        return len(self.documents)

    def chunks(self, max_tokens=16384):
        half = len(self.documents) // 2
        for start, part in ((0, self.documents[:half]), (half, self.documents[half:])):
            lengths = [len(d) for d in part]
            index = np.repeat(np.arange(start, start + len(part)), lengths)
            yield torch.cat(part), index, np.concatenate([np.arange(1, n + 1) for n in lengths])


@dataclass
class FakeSite:
    """Random activations for every document, the same ones for the same text; `signal` shifts those of class 1."""

    signal: dict[str, np.ndarray] = field(default_factory=dict)
    empty: tuple[int, ...] = ()
    fingerprint: str = "fake"
    calls: list[tuple[str, float | None]] = field(default_factory=list)

    def collect(self, texts, *, norm_cap=None, progress=None):
        self.calls.append((texts.name, norm_cap))
        generator = torch.Generator().manual_seed(int(texts.sha256[:8], 16))
        labels = self.signal.get(texts.name, np.zeros(len(texts.documents)))
        documents = []
        for number, label in enumerate(labels):
            length = 0 if number in self.empty else 1 + number % 4
            acts = torch.randn(length, D_IN, generator=generator)
            acts[:, :3] += 1.5 * float(label)
            documents.append(acts)
        return FakeSet(documents)


def informative(suite):
    return FakeSite({data.texts.name: data.labels for data in suite._data})


def topk(seed=0, k=8, **change):
    torch.manual_seed(seed)
    sae = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=k, apply_b_dec_to_input=False))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(D_IN, D_SAE))
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(D_SAE, D_IN), dim=1))
        for name, value in change.items():
            getattr(sae, name).copy_(value)
    return sae


def rng(seed=0):
    return np.random.default_rng(seed)


def by_metric(rows, metric):
    return {row.item: row.value for row in rows if row.metric == metric}


@pytest.fixture(scope="module")
def suite():
    return SparseProbing(NAMES, sampling=SMALL, norm_cap=99.0)


# against the libraries


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_exactly_what_sae_probes_gives(tmp_path, penalty):
    """Its `run_sae_evals` on the same activations, read from its own cache of last-token activations."""
    suite = SparseProbing(NAMES, pooling="last", penalty=penalty, sampling=Sampling(distinct=False))
    site, sae = informative(suite), topk()
    folder = tmp_path / "model_activations_fake"
    folder.mkdir()
    for data in suite._data:
        last = torch.stack([acts[-1] for acts in site.collect(data.texts).documents])
        torch.save(last, folder / f"{data.name}_hook.pt")
    library = quietly_import("sae_probes.run_sae_evals")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.run_sae_evals(
            sae, "fake", "hook", penalty, "normal", ks=[1, 5, 16], results_path=tmp_path / "out",
            model_cache_path=tmp_path, datasets=list(NAMES), device="cpu",
        )  # fmt: skip
    expected = {}
    for file in (tmp_path / "out").rglob("*.json"):
        for each in json.loads(file.read_text()):
            expected[f"auc_k{each['k']}", each["dataset"]] = each["test_auc"]
            expected[f"accuracy_k{each['k']}", each["dataset"]] = each["test_acc"]
    measured = {(row.metric, row.item): row.value for row in suite.measure(sae, site, rng())}
    assert len(expected) == 12
    assert measured == expected


def test_dense_probe_is_exactly_the_logreg_baseline_of_sae_probes(tmp_path):
    suite = SparseProbing(NAMES[:1], pooling="last", sampling=Sampling(distinct=False))
    site = informative(suite)
    (tmp_path / "model_activations_fake").mkdir()
    last = torch.stack([acts[-1] for acts in site.collect(suite._data[0].texts).documents])
    torch.save(last, tmp_path / "model_activations_fake" / f"{NAMES[0]}_hook.pt")
    library = quietly_import("sae_probes.run_baselines")
    library.run_baseline_dataset_layer("hook", NAMES[0], "logreg", "fake", tmp_path, tmp_path / "out")
    file = next((tmp_path / "out").rglob("*logreg.json"))
    found = json.loads(file.read_text())
    expected = found[0] if isinstance(found, list) else found
    rows = suite.measure_reference("dense_probe", site, rng())
    assert {r.value for r in rows if r.metric.startswith("auc")} == {expected["test_auc"]}
    assert {r.value for r in rows if r.metric.startswith("accuracy")} == {expected["test_acc"]}


@pytest.mark.slow
def test_mean_pooling_against_saebench():
    """In a process of its own: SAEBench's signatures refuse a fake model unless jaxtyping is off before import."""
    subprocess.run([sys.executable, "-c", SAEBENCH], check=True, timeout=300)


SAEBENCH = f"""
import torch
from sae_bench.sae_bench_utils.activation_collection import create_meaned_model_activations, get_sae_meaned_activations
from sae_lens import TopKSAE, TopKSAEConfig
from sae_sanity.suites.pooling import pool
import numpy as np

torch.manual_seed(0)
sae = TopKSAE(TopKSAEConfig(d_in={D_IN}, d_sae={D_SAE}, k=8))
with torch.no_grad():
    sae.W_enc.copy_(torch.randn({D_IN}, {D_SAE}))
lengths = [5, 1, 9, 3, 7]
padded = torch.zeros(5, 10, {D_IN})
for row, n in enumerate(lengths):
    padded[row, 1 : n + 1] = torch.randn(n, {D_IN})  # position 0 is masked, that is zero

class Set:
    n_documents, d_in = 5, {D_IN}
    def chunks(self):
        rows = [padded[i, 1 : n + 1] for i, n in enumerate(lengths)]
        yield torch.cat(rows), np.repeat(np.arange(5), lengths), np.zeros(sum(lengths), dtype=int)

with torch.inference_mode():
    ours, raw = pool(Set(), sae.encode, "mean"), pool(Set(), lambda acts: acts, "mean")
theirs = get_sae_meaned_activations({{"c": padded}}, sae, 2)["c"]
dense = create_meaned_model_activations({{"c": padded}})["c"]
torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
torch.testing.assert_close(raw, dense, rtol=0, atol=1e-6)
assert torch.equal(ours != 0, theirs != 0)
"""


# what the rows are


def test_rows_have_every_metric_once_per_dataset_and_families_as_clusters(suite):
    rows = suite.measure(topk(), FakeSite(), rng())
    assert len(rows) == len({(r.metric, r.item) for r in rows}) == 12
    assert {r.metric for r in rows} == set(suite.metrics)
    assert {r.item: r.cluster for r in rows} == {name: families()[name].family for name in NAMES}
    assert all(isinstance(r, Row) and isinstance(r.value, float) and 0 <= r.value <= 1 for r in rows)


@pytest.mark.parametrize("name", ["dense_probe", "shuffled_labels"])
def test_references_have_the_same_rows_as_an_sae(suite, name):
    reference = suite.measure_reference(name, FakeSite(), rng())
    keys = [row[:3] for row in suite.measure(topk(), FakeSite(), rng())]
    assert sorted(row[:3] for row in reference) == sorted(keys)


def test_the_dense_probe_has_no_k(suite):
    rows = suite.measure_reference("dense_probe", informative(suite), rng())
    assert len({(r.item, r.value) for r in rows if r.metric.startswith("auc")}) == len(NAMES)


def test_ceiling_signal_and_chance_come_in_this_order():
    suite = SparseProbing(NAMES, sampling=Sampling(400, train_share=0.5))
    site = informative(suite)
    mean = {
        "sae": suite.measure(topk(), site, rng()),
        "dense": suite.measure_reference("dense_probe", site, rng()),
        "chance": suite.measure_reference("shuffled_labels", site, rng()),
    }
    auc = {name: np.mean(list(by_metric(rows, "auc_k5").values())) for name, rows in mean.items()}
    assert auc["dense"] > 0.95
    assert auc["dense"] > auc["sae"] > 0.75
    assert abs(auc["chance"] - 0.5) < 0.15


def test_without_any_signal_everything_is_at_chance():
    suite = SparseProbing(NAMES, sampling=Sampling(400, train_share=0.5))
    values = by_metric(suite.measure(topk(), FakeSite(), rng()), "auc_k5").values()
    assert abs(np.mean(list(values)) - 0.5) < 0.1


def test_shuffled_labels_shuffle_only_training(suite):
    site = informative(suite)
    before = [data.sha256 for data in suite._data]
    one, again, other = (suite.measure_reference("shuffled_labels", site, rng(s)) for s in (1, 1, 2))
    assert one == again
    assert one != other
    assert [data.sha256 for data in suite._data] == before


# what it must not see


def test_a_permuted_decoder_gives_the_same_rows_bit_for_bit(suite):
    sae = topk()
    permuted = copy.deepcopy(sae)
    with torch.no_grad():
        permuted.W_dec.copy_(sae.W_dec.flip(0))
    site = informative(suite)
    assert suite.measure(permuted, site, rng()) == suite.measure(sae, site, rng())


def test_only_encode_is_read(suite):
    class OnlyEncode:
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, acts):
            return topk().encode(acts)

    site = FakeSite()
    assert suite.measure(OnlyEncode(), site, rng()) == suite.measure(topk(), site, rng())


def test_two_runs_are_equal_and_the_generator_is_not_used(suite):
    site = informative(suite)
    assert suite.measure(topk(), site, rng(1)) == suite.measure(topk(), site, rng(2))


def test_the_order_of_measuring_does_not_matter(suite):
    site = informative(suite)
    first = suite.measure(topk(1), site, rng())
    suite.measure(topk(2), site, rng())
    assert suite.measure(topk(1), site, rng()) == first


def test_a_global_seed_does_not_matter(suite):
    site = FakeSite()
    sae = topk()
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        rows.append(suite.measure(sae, site, rng()))
    assert rows[0] == rows[1]


# degenerate SAEs and texts


def test_dead_latents_alone_are_exactly_chance(suite):
    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_IN, d_sae=D_SAE))
    with torch.no_grad():
        sae.threshold.fill_(1e9)
    rows = suite.measure(sae, informative(suite), rng())
    assert {r.value for r in rows if r.metric.startswith("auc")} == {0.5}


def test_a_few_dead_latents_do_not_matter(suite):
    """Selection passes over them, so that the rows are those of the SAE without them."""
    sae = topk(k=D_SAE)
    dead = copy.deepcopy(sae)
    with torch.no_grad():
        dead.W_enc[:, 50:] = 0
        dead.b_enc[50:] = -1.0
    rows = suite.measure(dead, informative(suite), rng())
    assert all(math.isfinite(r.value) for r in rows)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_documents_without_a_kept_token_are_zeros(pooling):
    suite = SparseProbing(NAMES[:1], pooling=pooling, sampling=SMALL)
    rows = suite.measure(topk(), FakeSite(empty=(0, 5, 259)), rng())
    assert len(rows) == 6
    assert all(math.isfinite(r.value) for r in rows)


def test_more_ks_than_latents(suite):
    wide = SparseProbing(NAMES[:1], ks=(5, 1000), sampling=SMALL)
    rows = wide.measure(topk(), FakeSite(), rng())
    assert {r.metric for r in rows} == {"auc_k5", "auc_k1000", "accuracy_k5", "accuracy_k1000"}


def test_a_half_precision_sae_is_measured(suite):
    rows = suite.measure(topk().to(torch.bfloat16), FakeSite(), rng())
    assert all(math.isfinite(r.value) for r in rows)


# how it asks the site


def test_texts_are_collected_once_for_all_arms_and_under_one_cap():
    suite = SparseProbing(NAMES, sampling=SMALL, norm_cap=99.0)
    site = FakeSite()
    for seed in range(3):
        suite.measure(topk(seed), site, rng())
    suite.measure_reference("dense_probe", site, rng())
    assert site.calls == [("probe-95_toxic_is", 99.0), ("probe-41_truthqa_tf", 99.0)]


def test_another_site_is_collected_anew():
    suite = SparseProbing(NAMES[:1], sampling=SMALL)
    one, other = FakeSite(), FakeSite(fingerprint="other")
    suite.measure(topk(), one, rng())
    suite.measure(topk(), other, rng())
    assert len(one.calls) == len(other.calls) == 1


def test_the_pooling_is_the_one_that_was_asked_for():
    site = FakeSite()
    mean, last = (SparseProbing(NAMES[:1], pooling=how, sampling=SMALL) for how in ("mean", "last"))
    assert mean.measure(topk(), site, rng()) != last.measure(topk(), site, rng())
    vectors = [pool(site.collect(mean._data[0].texts), topk().encode, how).detach() for how in ("mean", "last")]
    assert not torch.equal(*vectors)


# settings and bad input


def test_settings_are_json_and_change_with_everything_that_decides_the_numbers(suite):
    assert json.loads(json.dumps(suite.settings())) == suite.settings()
    base = {"sampling": SMALL, "norm_cap": 99.0}
    changes = [
        {"ks": (1, 5)},
        {"pooling": "last"},
        {"penalty": "l2"},
        {"norm_cap": 1.0},
        {"sampling": Sampling(250, train_share=0.5)},
        {"sampling": Sampling(260, train_share=0.4)},
        {"sampling": Sampling(260, train_share=0.5, seed=1)},
    ]
    found = {json.dumps(SparseProbing(NAMES, **base | change).settings(), sort_keys=True) for change in changes}
    found.add(json.dumps(SparseProbing(NAMES[:1], **base).settings(), sort_keys=True))
    assert json.dumps(suite.settings(), sort_keys=True) not in found
    assert len(found) == len(changes) + 1


def test_the_primary_metric_is_first_and_has_no_second_verdict():
    suite = SparseProbing(NAMES, ks=(1, 2), primary_k=2)
    assert suite.metric == suite.metrics[0] == "auc_k2"
    assert suite.metric not in suite.exploratory
    assert set(suite.metrics) == {"auc_k1", "auc_k2", "accuracy_k1", "accuracy_k2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"datasets": ()}, "datasets must not be empty"),
        ({"datasets": ("87_glue_cola", "87_glue_cola")}, "nor hold a value twice"),
        ({"datasets": NAMES, "ks": (5, 5)}, "ks must not be empty nor hold a value twice"),
        ({"datasets": NAMES, "ks": (0, 5)}, "must be positive"),
        ({"datasets": NAMES, "ks": (1, 16)}, "hold primary_k 5"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseProbing(**arguments)


def test_an_unknown_dataset_is_refused_by_name():
    with pytest.raises(ValueError, match="no probing dataset '0_nothing'"):
        SparseProbing(["0_nothing"])


def test_an_unknown_reference_is_named(suite):
    with pytest.raises(ValueError, match="no reference 'best': sparse_probing has shuffled_labels, dense_probe"):
        suite.measure_reference("best", FakeSite(), rng())


def test_a_check_builds_it_from_its_options():
    options = {"probe_datasets": "smoke", "probe_prompts": 200, "seed": 3}
    suite = SparseProbing.build(SuiteContext(FakeSite(), None, 7.0, options))
    assert isinstance(suite, Suite)
    assert (suite.norm_cap, len(suite.datasets), suite.pooling) == (7.0, 4, "mean")
    assert [len(d.train) for d in suite._data] == [100] * 4
    assert suite.sampling.seed == 3


def test_measuring_warns_of_nothing_and_prints_nothing(suite, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        suite.measure(topk(), FakeSite(), rng())
        assert warnings.filters == before
    assert capsys.readouterr() == ("", "")
