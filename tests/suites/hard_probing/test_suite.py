from __future__ import annotations

import copy
import json
import math
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from tiny_saes import tied_topk
from tiny_site import tiny_model, tiny_tokenizer

from sae_sanity.harness.config import resolve
from sae_sanity.results.design import SuiteDesign
from sae_sanity.results.gate import check_off_floor
from sae_sanity.results.hard_probing import gains
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import arm_scores
from sae_sanity.suites.hard_probing.arrows import ARROWS, Missed, shoot_all
from sae_sanity.suites.hard_probing.conditions import REGIMES, Condition, Profile, profile
from sae_sanity.suites.hard_probing.dense import clean_copies
from sae_sanity.suites.hard_probing.features import Features, as_is
from sae_sanity.suites.hard_probing.problems import labelled, problems
from sae_sanity.suites.hard_probing.quality import Search, against_cue, top_latent
from sae_sanity.suites.hard_probing.quiver import choose
from sae_sanity.suites.hard_probing.rows import item_of
from sae_sanity.suites.hard_probing.sae_arrow import CS, SaeAim
from sae_sanity.suites.hard_probing.shots import CODE_VERSION
from sae_sanity.suites.hard_probing.suite import HardProbing
from sae_sanity.suites.probe_data import Sampling, families
from sae_sanity.suites.site import Site
from sae_sanity.suites.suite import BUILT_IN, Noting, Suite, SuiteContext

D_IN, D_SAE = 16, 64
NAMES = ("5_hist_fig_ismale", "95_toxic_is")
CONDITIONS = (
    Condition("standard"),
    Condition("scarcity", 15),
    Condition("imbalance", 0.2),
    Condition("noise", 0.3),
)
SMALL = Profile(NAMES, CONDITIONS, seeds=(42,), arrows=("logreg", "knn"))
PART = replace(SMALL, datasets=NAMES[1:], conditions=(CONDITIONS[0], CONDITIONS[3]))
"""Enough where neither the dataset nor the condition matters: with 128 training rows or more sae-probes has one fold,
and takes a fifth of the time that folds take."""
SAMPLING = Sampling(260, train_share=0.5)
KS = (2, 8)


@dataclass
class FakeSet:
    """Activations in memory, with what the suite uses of an ActivationSet."""

    documents: list[torch.Tensor]
    folder: Path
    key: str
    d_in: int = D_IN

    @property
    def n_documents(self):
        return len(self.documents)

    @property
    def n_tokens(self):
        return sum(map(len, self.documents))

    def chunks(self, max_tokens=16384):
        lengths = [len(d) for d in self.documents]
        index = np.repeat(np.arange(len(lengths)), lengths)
        yield torch.cat(self.documents), index, np.concatenate([np.arange(1, n + 1) for n in lengths])


@dataclass
class FakeSite:
    """Random activations; `signal` of each table's labels is added to the first coordinates."""

    cache: Path
    signal: float = 0.0
    fingerprint: str = "fake"
    calls: Counter = field(default_factory=Counter)

    def collect(self, texts, *, norm_cap=None, progress=None):
        self.calls[texts.name] += 1
        generator = torch.Generator().manual_seed(int(texts.sha256[:8], 16))
        labels = labelled(texts.name.removeprefix("probe-"), SAMPLING).labels
        documents = []
        for number, label in enumerate(labels):
            acts = torch.randn(1 + number % 4, D_IN, generator=generator)
            acts[:, :3] += self.signal * float(label)
            documents.append(acts)
        return FakeSet(documents, self.cache / texts.sha256[:8], f"{texts.sha256}{self.signal}")


def topk(seed=0, k=8, d_sae=D_SAE):
    generator = torch.Generator().manual_seed(seed)
    sae = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=d_sae, k=k, apply_b_dec_to_input=False))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(D_IN, d_sae, generator=generator))
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(d_sae, D_IN, generator=generator), dim=1))
    return sae


def rng(seed=0):
    return np.random.default_rng(seed)


def make(probed=SMALL, **options):
    options = {"sampling": SAMPLING, "ks": KS, "quality_tables": NAMES[:1], "norm_cap": 99.0} | options
    return HardProbing(probed, **options)


def part_of(rows):
    """Those that a suite of PART finds, in its order."""
    wanted = [f"{PART.datasets[0]} {c.regime} " for c in PART.conditions]
    return [row for row in rows if row.item.startswith(tuple(wanted))]


def processes():
    """Those of joblib that this one has started."""
    return [p for p in psutil.Process().children() if "loky.backend.popen_loky" in " ".join(p.cmdline())]


def off_floor(rows, chance):
    """What the assay gate makes of an SAE."""
    arms = {"trained": rows, "@dense_quiver": chance}
    table = pd.DataFrame(
        [("quiver_gain", r.item, r.cluster, arm, 0, r.value) for arm, each in arms.items() for r in each
         if r.metric == "quiver_gain"], columns=["metric", "item", "cluster", "arm", "seed", "value"],
    )  # fmt: skip
    scores = {arm: arm_scores(group, arm) for arm, group in table.groupby("arm")}
    design = SuiteDesign("hard_probing", "quiver_gain", 0.01, "", (), chance="dense_quiver")
    return check_off_floor(scores, design, trained="trained", alpha=0.05)


def by(rows, metric):
    return {row.item: row.value for row in rows if row.metric == metric}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def suite():
    return make()


@pytest.fixture(scope="module")
def site(cache):
    return FakeSite(cache, signal=0.6)


@pytest.fixture(scope="module")
def rows(suite, site):
    return suite.measure(topk(), site, rng())


@pytest.fixture(scope="module")
def references(suite, site):
    return {name: suite.measure_reference(name, site, rng()) for name in suite.references()}


# what the rows are


def test_it_is_a_suite_that_a_check_finds(suite):
    assert isinstance(suite, Suite)
    assert isinstance(suite, Noting)
    assert {point.name: point for point in BUILT_IN}["hard_probing"].load() is HardProbing


def test_one_row_for_each_problem_in_metrics_that_are_named(suite, rows):
    assert len(by(rows, "quiver_gain")) == 2 * len(CONDITIONS)
    assert len(by(rows, "chosen")) == len(by(rows, "sae_auc")) == 2 * len(CONDITIONS) + 1
    assert len(by(rows, "gain_shift")) == 1  # the figures of history have a shifted test set in the wheel
    assert {row.metric for row in rows} == set(suite.metrics) - {"spurious_at_n"}  # no such table here
    assert all(math.isfinite(row.value) for row in rows)
    assert {row.cluster for row in rows} == {families()[name].family for name in NAMES}


def test_an_item_says_dataset_condition_level_and_seed(rows):
    assert "95_toxic_is noise 0.3 seed 42" in by(rows, "quiver_gain")
    assert set(by(rows, "precision_at_n")) == {"5_hist_fig_ismale errors 0.1 seed 42"}


def test_each_regime_has_its_own_gains_and_together_they_are_the_primary_metric_but_for_shift(rows):
    """An item of shift reads two families, so that clusters would not be independent."""
    assert by(rows, "gain_shift")
    parts = [by(rows, f"gain_{regime}") for regime in REGIMES if regime != "shift"]
    assert all(parts)
    assert {item: value for part in parts for item, value in part.items()} == by(rows, "quiver_gain")
    assert sum(map(len, parts)) == len(by(rows, "quiver_gain"))


def test_gains_are_what_the_kept_shots_say(suite, site, rows):
    """From the files of the baselines and the SAE's AUC: chosen adds the difference, not chosen nothing."""
    gains = by(rows, "quiver_gain") | by(rows, "gain_shift")
    chosen, own = by(rows, "chosen"), by(rows, "sae_auc")
    for problem, shots in suite._quivers(site):
        item = item_of(problem)
        base = shots[choose(shots)].test_auc
        assert gains[item] == (own[item] - base if chosen[item] else 0.0)
    assert 0 < sum(chosen.values()) < len(chosen)


def test_the_auc_of_the_quiver_alone_is_its_own_reference(references):
    rows = references["dense_quiver"]
    assert set(by(rows, "quiver_gain").values()) == {0.0}
    assert by(rows, "sae_auc")["95_toxic_is standard 0 seed 42"] > 0.75


# references and direction


def test_a_planted_latent_gains_and_shuffled_labels_do_not(tmp_path):
    """The label is where no linear probe on few rows sees it: an SAE that reads it alone is worth a lot."""
    suite, site = make(PART), FakeSite(tmp_path, signal=0.25)
    planted = topk(k=4)

    class Knowing:
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, acts):
            latents = planted.encode(acts)
            latents[:, :2] = acts[:, :3].sum(-1, keepdim=True)  # what carries the label, without the noise of the rest
            return latents

    knowing = by(suite.measure(Knowing(), site, rng()), "quiver_gain")
    shuffled = by(suite.measure_reference("shuffled_labels", site, rng()), "quiver_gain")
    assert np.mean(list(knowing.values())) > 0.02
    assert np.mean(list(knowing.values())) > np.mean(list(shuffled.values()))


def test_the_ceiling_is_above_the_quiver_where_labels_are_few_or_wrong(references):
    gains = by(references["clean_probe"], "quiver_gain")
    for regime in ("scarcity", "noise"):
        assert np.mean([value for item, value in gains.items() if regime in item]) > 0.05, regime


def test_the_ceiling_is_never_trained_on_a_row_that_is_tested_nor_on_a_wrong_label(suite):
    seen = set()
    for problem in suite._problems:
        table = labelled(problem.test_table, SAMPLING)
        copies = clean_copies(problem, table)
        assert sorted(np.concatenate([clean.test for clean in copies])) == sorted(problem.test)
        for clean in copies:
            assert clean.table == clean.test_table == problem.test_table
            assert not set(clean.train) & set(clean.test)
            assert np.array_equal(clean.y_train, table.labels[clean.train])
            assert np.array_equal(clean.y_test, table.labels[clean.test])
            assert clean.y_train.mean() == 0.5
            assert len(clean.train) > 0.2 * len(table.labels)
        seen.add((problem.condition.regime, len(copies)))
    assert seen == {("standard", 1), ("scarcity", 2), ("imbalance", 1), ("noise", 1), ("shift", 2)}


def test_a_shift_that_asks_the_opposite_is_answered_so_by_the_ceiling():
    (problem,) = problems(["36_sciq_tf"], [Condition("shift", 1)], [0], SAMPLING)
    table = labelled(problem.test_table, SAMPLING)
    assert np.array_equal(problem.y_test, 1 - table.labels[problem.test])  # a right answer is class 0 there
    for clean in clean_copies(problem, table):
        assert np.array_equal(clean.y_train, 1 - table.labels[clean.train])
        assert np.array_equal(clean.y_test, 1 - table.labels[clean.test])


def test_a_prompt_that_stands_twice_does_not_train_the_half_that_it_tests():
    (problem,) = problems(["66_living-room"], [Condition("shift", 1)], [0], SAMPLING)
    table = labelled(problem.test_table, SAMPLING)
    documents = np.array(table.texts.documents)
    assert len(set(documents)) < len(documents)
    for clean in clean_copies(problem, table):
        assert not set(documents[clean.train]) & set(documents[clean.test])


def test_references_have_the_items_of_an_sae(references, rows):
    for name in ("shuffled_labels", "clean_probe"):
        for metric in ("quiver_gain", "sae_auc", "precision_at_n"):
            assert set(by(references[name], metric)) == set(by(rows, metric)), (name, metric)


def test_without_information_errors_are_found_at_their_rate(references):
    found = by(references["shuffled_labels"], "precision_at_n")
    assert list(found.values()) == pytest.approx([0.1])


def test_an_unknown_reference_is_named(suite, site):
    with pytest.raises(ValueError, match="no reference 'best': hard_probing has dense_quiver, clean_probe, shuff"):
        suite.measure_reference("best", site, rng())


# the same twice, and what does not matter


def test_two_runs_are_equal_and_the_generator_is_not_used(site, rows):
    first, second = (make(PART, quality_tables=()).measure(topk(), site, rng(seed)) for seed in (5, 6))
    assert first == second == part_of(rows)


def test_another_process_reads_the_shots_and_finds_the_same(site, rows, monkeypatch):
    for name in ARROWS:
        monkeypatch.setitem(ARROWS, name, lambda *parts: pytest.fail("shot again"))
    assert make(PART, quality_tables=()).measure(topk(), site, rng()) == part_of(rows)


def test_shots_are_made_once_for_all_saes_and_texts_read_once(tmp_path, monkeypatch):
    asked = Counter()
    for name, arrow in list(ARROWS.items()):
        monkeypatch.setitem(ARROWS, name, lambda *parts, n=name, a=arrow: asked.update([n]) or a(*parts))
    suite, site = make(PART), FakeSite(tmp_path, signal=0.6)
    for seed in range(2):
        suite.measure(topk(seed), site, rng())
    assert asked == {"logreg": len(PART.conditions), "knn": len(PART.conditions)}
    assert set(site.calls.values()) == {1}


def test_of_pooled_features_the_latest_are_kept_and_none_beyond_an_sae(site, monkeypatch):
    features = Features(SAMPLING, None)
    asked = [(name, how) for name in NAMES for how in ("mean", "max")]
    fresh = [Features(SAMPLING, None).pooled(site, name, as_is, how) for name, how in asked]
    monkeypatch.setattr("sae_sanity.suites.hard_probing.features.KEPT_BYTES", 0)
    monkeypatch.setattr("sae_sanity.suites.hard_probing.features.FEWEST_KEPT", 3)
    for _ in range(2):
        for (name, how), expected in zip(asked, fresh, strict=True):
            assert np.array_equal(features.pooled(site, name, as_is, how), expected)
        assert [key[1:] for key in features._pooled] == asked[1:]
    doubled = features.pooled(site, NAMES[0], lambda acts: 2 * acts)
    assert np.allclose(doubled, 2 * fresh[0])
    assert len(features._pooled) == 1
    suite = make(PART)
    suite.measure(topk(), site, rng())
    assert not suite._features._pooled
    assert suite._features._encode is None


def test_other_activations_have_other_shots(tmp_path):
    suite = make(PART)
    weak, strong = (
        by(suite.measure_reference("dense_quiver", FakeSite(tmp_path, s, str(s)), rng()), "sae_auc") for s in (0.1, 2.0)
    )
    assert len(strong) == len(PART.conditions)
    assert all(strong[item] > weak[item] for item in strong)


def test_processes_find_what_this_process_finds(site, rows, tmp_path, monkeypatch):
    """The one test that starts processes, for every kind of aim: each takes eight seconds to import its libraries."""
    fresh = FakeSite(tmp_path, signal=0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's own, on machines with one core
        labels = labelled(NAMES[0], SAMPLING).labels
        features = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
        aims = [Search(features, labels, seed, top_latent) for seed in (1, 2)]
        assert list(shoot_all(iter(aims), workers=2)) == [aim.shoot() for aim in aims]
        assert len(processes()) == 2
        # so that few problems are enough for processes
        monkeypatch.setattr("sae_sanity.suites.hard_probing.suite.shoot_many", lambda aims, n, w: shoot_all(aims, w))
        assert make(workers=2).measure(topk(), fresh, rng()) == rows
        assert len(processes()) == 2  # the same ones


def test_a_permuted_decoder_gives_the_same_rows(site, rows):
    permuted = copy.deepcopy(topk())
    with torch.no_grad():
        permuted.W_dec.copy_(permuted.W_dec.flip(0))
    assert make(PART, quality_tables=()).measure(permuted, site, rng()) == part_of(rows)


def test_what_has_the_same_latents_is_shot_once(site, rows, monkeypatch):
    suite, shot, shoot = make(PART, quality_tables=()), [], SaeAim.shoot
    monkeypatch.setattr(SaeAim, "shoot", lambda aim: shot.append(aim) or shoot(aim))
    assert suite.measure(topk(), site, rng()) == suite.measure(topk(), site, rng()) == part_of(rows)
    assert len(shot) == len(PART.conditions) + 1  # the standard one with both poolings
    suite.measure(topk(1), site, rng())
    assert len(shot) == 2 * len(PART.conditions) + 2


@pytest.mark.parametrize("part", ["x_train", "y_train", "x_test", "y_test", "seed", "ks", "columns", "width"])
def test_the_key_of_an_aim_changes_with_every_part(part):
    x = np.eye(4, dtype=np.float32)
    aim = SaeAim.of(x, np.arange(4) % 2, x, np.arange(4) % 2, 0, (1,))
    numbers = {"seed": 1, "ks": (2,), "width": 5}
    other = numbers[part] if part in numbers else getattr(aim, part)[::-1]
    assert replace(aim, **{part: other}).sha256 != aim.sha256


def test_on_a_tiny_language_model_the_bytes_are_the_same_twice(tmp_path):
    words = Counter(w for text in labelled(NAMES[1], SAMPLING).texts.documents for w in text.split())
    found = []
    for run in ("one", "two"):
        site = Site(
            model=tiny_model(),
            tokenizer=tiny_tokenizer([word for word, _ in words.most_common(150)]),
            hook_name="blocks.1.hook_resid_post",
            context_size=32,
            bos_token_id=0,
            cache=tmp_path / run,
            batch_size=64,
        )
        suite = make(replace(PART, conditions=CONDITIONS[:1], arrows=("pca",)), norm_cap=None, quality_tables=NAMES[1:])
        rows = suite.measure(tied_topk(), site, rng())
        for name in suite.references():
            rows += suite.measure_reference(name, site, rng())
        files = {p.name: p.read_bytes() for p in sorted((tmp_path / run).rglob("shots/*.json"))}
        found.append((rows, files, json.dumps(suite.settings())))
    assert found[0] == found[1]
    assert len(found[0][1]) == 2  # the problem and its clean copy


# what cannot be shot or posed


def test_an_sae_without_live_latents_gains_exactly_nothing_and_is_not_above_chance(site, references):
    suite = make(quality_tables=())

    class Dead:
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, acts):
            return torch.zeros(len(acts), D_SAE)

    rows = suite.measure(Dead(), site, rng())
    assert set(by(rows, "quiver_gain").values()) == {0.0}
    assert set(by(rows, "missed").values()) == {1.0}
    assert by(rows, "sae_auc") == dict.fromkeys(by(rows, "missed"), 0.5)
    skipped = {skip.what: skip.reason for skip in suite.skipped()}
    of_mean = [what for what in skipped if "_mean at " in what]
    assert len(of_mean) == len(KS) * len(by(rows, "missed"))  # a row for each arrow and problem
    assert len([what for what in skipped if "_max at " in what]) == len(KS) * len(by(rows, "gain_multi_token"))
    assert skipped["sae_k8_mean at 95_toxic_is scarcity 15 seed 42"] == (
        "k = 8 is above the 0 latents that fire on the training documents"
    )
    assert not off_floor(rows, references[suite.chance]).passed


def test_nan_latents_are_missed_and_no_crash(site, references):
    suite = make()

    class Broken:
        device, dtype = torch.device("cpu"), torch.float32

        def encode(self, acts):
            return torch.full((len(acts), D_SAE), math.nan)

    rows = suite.measure(Broken(), site, rng())
    assert set(by(rows, "quiver_gain").values()) == {0.0}
    assert not off_floor(rows, references[suite.chance]).passed
    assert by(rows, "precision_at_n") == {"5_hist_fig_ismale errors 0.1 seed 42": pytest.approx(0.1)}
    assert {skip.reason for skip in suite.skipped()} == {"NaN or infinite activations in the training rows"}
    suite.measure(topk(), site, rng())
    assert suite.skipped() == ()  # they were the other SAE's


def test_a_narrow_sae_misses_its_larger_k_alone(site):
    rows = make(PART, ks=(2, 50)).measure(topk(d_sae=20, k=4), site, rng())
    assert set(by(rows, "missed").values()) == {0.5}
    assert len(by(rows, "sae_auc")) == len(by(rows, "quiver_gain"))


def test_problems_that_cannot_be_posed_are_counted_with_their_reason(site):
    suite = make(replace(SMALL, conditions=(*CONDITIONS[:1], Condition("scarcity", 1024))))
    rows = suite.measure(topk(), site, rng())
    assert not [row for row in rows if "1024" in row.item]
    skipped = suite.skipped()
    assert [skip.what for skip in skipped] == [f"{name} scarcity 1024 seed 42" for name in NAMES]
    assert all(skip.reason.startswith("fewer points than asked: 1024 of 260 prompts") for skip in skipped)


def test_a_problem_that_no_dense_arrow_can_shoot_is_left_out_of_every_arm(tmp_path, monkeypatch):
    logreg = ARROWS["logreg"]
    monkeypatch.setitem(
        ARROWS, "logreg", lambda *p: Missed("one class") if len(p[1]) == 15 else logreg(*p)
    )  # fmt: skip
    suite = make(replace(PART, conditions=CONDITIONS[:2], arrows=("logreg",)))
    site = FakeSite(tmp_path, signal=0.6)
    for measure in (lambda: suite.measure(topk(), site, rng()),
                    lambda: suite.measure_reference("shuffled_labels", site, rng())):  # fmt: skip
        assert not [row for row in measure() if "scarcity" in row.item]
        (skip,) = suite.skipped()
        assert (skip.what, skip.reason) == ("logreg at 95_toxic_is scarcity 15 seed 42", "one class")


def test_shots_that_another_process_keeps_meanwhile_are_taken_over(tmp_path, monkeypatch):
    """Ray's workers and shards begin with an empty store all at once."""
    calls, logreg, probed = [], ARROWS["logreg"], replace(SMALL, arrows=("logreg",))

    def while_another_shoots_all(*parts):
        calls.append(parts)
        if len(calls) == 1:
            make(probed)._quivers(site)
        return logreg(*parts)

    site = FakeSite(tmp_path)
    monkeypatch.setitem(ARROWS, "logreg", while_another_shoots_all)
    found = make(probed)._quivers(site)
    assert len(calls) == len(found) + 1
    assert [quiver for _, quiver in found] == [quiver for _, quiver in make(probed)._quivers(site)]


def test_rows_of_every_metric_can_be_summarised(rows, site):
    cue = make(PART, quality_tables=("110_aimade_humangpt3",)).measure(topk(), site, rng())
    table = pd.DataFrame(
        [("hard_probing", *r[:3], "trained", 0, r.value) for r in (*rows, *cue)], columns=list(COLUMNS)
    )
    assert "spurious_at_n" in set(table["metric"])
    assert {one.regime for one in gains(table)} == set(REGIMES)


def test_the_table_with_a_cue_is_searched_for_what_the_cue_speaks_against(site):
    rows = make(PART, quality_tables=("110_aimade_humangpt3",)).measure_reference("shuffled_labels", site, rng())
    table = labelled("110_aimade_humangpt3", SAMPLING)
    against = against_cue(table.texts.documents, table.labels)
    each = np.array([against[table.labels == label].sum() for label in (0, 1)])
    luck = (each * each / np.bincount(table.labels)).sum() / against.sum()
    assert by(rows, "spurious_at_n") == {"110_aimade_humangpt3 last character seed 42": pytest.approx(luck)}
    assert by(rows, "precision_at_n") == {"110_aimade_humangpt3 errors 0.1 seed 42": pytest.approx(0.1)}


# settings and bad input


def test_settings_are_json_and_change_with_everything_that_decides_the_numbers(suite):
    base = suite.settings()
    assert json.loads(json.dumps(base)) == base
    changes = [
        {"ks": (2,)},
        {"norm_cap": 1.0},
        {"sampling": Sampling(260, train_share=0.4)},
        {"quality_tables": ()},
        {"probed": replace(SMALL, arrows=("logreg",))},
        {"probed": replace(SMALL, seeds=(1,))},
        {"probed": replace(SMALL, conditions=CONDITIONS[:2])},
        {"probed": replace(SMALL, datasets=NAMES[:1])},
    ]
    found = {json.dumps(make(**change).settings(), sort_keys=True) for change in changes}
    assert len(found | {json.dumps(base, sort_keys=True)}) == len(changes) + 1
    assert make(workers=2).settings() == base


def test_settings_have_what_the_arrows_are_and_every_library_that_computes(suite, monkeypatch):
    found = suite.settings()
    assert found["sae_arrow"] == ["l2", "reselected", CS.tolist()]
    assert found["libraries"]["scipy"] == metadata.version("scipy")
    monkeypatch.setattr("sae_sanity.suites.hard_probing.suite.CODE_VERSION", CODE_VERSION + 1)
    assert suite.settings() != found


def test_the_seed_of_a_check_reaches_split_flips_and_probes(cache):
    one, other = (
        HardProbing.build(
            SuiteContext(FakeSite(cache), None, None, resolve({"profile": "smoke", "seed": seed}).model_dump())
        )
        for seed in (0, 1)
    )
    for mine, theirs in zip(one._problems, other._problems, strict=True):
        assert (mine.seed, theirs.seed) == (0, 1)  # what arrows are shot with
        assert not np.array_equal(mine.train, theirs.train)
        assert set(mine.train) != set(theirs.train) or mine.condition.regime == "shift"  # all rows of a source train
        if mine.condition.regime == "noise":
            flips = [
                p.y_train != labelled(p.table, s.sampling).labels[p.train] for p, s in ((mine, one), (theirs, other))
            ]
            assert not np.array_equal(*flips)


def test_a_worker_of_ray_starts_no_processes_of_its_own(cache, monkeypatch):
    context = SuiteContext(FakeSite(cache), None, None, resolve({"profile": "smoke"}, environ={}).model_dump())
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(3))
    assert HardProbing.build(context).workers == 3
    monkeypatch.setenv("RAY_RAYLET_PID", "1")
    assert HardProbing.build(context).workers == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probed": replace(SMALL, arrows=())}, "arrows"),
        ({"probed": replace(SMALL, arrows=("svm",))}, "'svm'"),
        ({"ks": ()}, "positive"),
        ({"ks": (0,)}, "positive"),
        ({"probed": replace(SMALL, datasets=("0_nothing",))}, "no probing dataset '0_nothing'"),
        ({"quality_tables": ("0_nothing",)}, "no probing dataset '0_nothing'"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("name", ["smoke", "demo", "release"])
def test_a_check_builds_it_from_its_options(name, cache):
    options = resolve({"profile": name, "seed": 3}, environ={}).model_dump()
    assert options["probe_conditions"] == name
    suite = HardProbing.build(SuiteContext(FakeSite(cache), None, 7.0, options))
    assert (suite.probed, suite.norm_cap, suite.sampling.seed) == (profile(name, 3), 7.0, 3)
    assert HardProbing.clusters(options) == len({families()[d].family for d in suite.probed.datasets})
    assert {"87_glue_cola", "110_aimade_humangpt3"} <= set(suite.quality_tables)


def test_conditions_may_come_from_another_profile_than_datasets():
    settings = resolve({"profile": "smoke", "probe_conditions": "demo"}, environ={})
    suite = HardProbing.build(SuiteContext(None, None, None, settings.model_dump()))
    assert suite.probed.datasets == profile("smoke").datasets
    assert suite.probed.conditions == profile("demo").conditions


def test_measuring_warns_of_nothing_and_prints_nothing(tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        make(replace(SMALL, datasets=NAMES[1:]), ks=(2,)).measure(topk(), FakeSite(tmp_path, 0.5), rng())
        assert warnings.filters == before
    assert capsys.readouterr() == ("", "")
