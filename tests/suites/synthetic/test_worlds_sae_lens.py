from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from sae_lens.synthetic import (
    ActivationGenerator,
    HierarchyNode,
    SyntheticModel,
    generate_random_low_rank_correlation_matrix,
    hierarchy_modifier,
)
from scipy import stats

from sae_sanity.suites.synthetic import SYNTHSAEBENCH, WorldSpec, make_world
from sae_sanity.suites.synthetic.copula_rates import rates_of
from sae_sanity.suites.synthetic.draws import isolated
from sae_sanity.suites.synthetic.sae_lens_worlds import synthsaebench_config
from sae_sanity.suites.synthetic.tree_rates import firing_rates, scale_to

CPU = torch.device("cpu")
CORRELATED = WorldSpec("correlated", 200, 16, 6.0, correlation=0.15)
HIERARCHICAL = WorldSpec("hierarchical", 256, 16, 6.0)
EXCLUSIVE = replace(HIERARCHICAL, exclusive=1.0)
SYNTH = WorldSpec("synthsaebench", 256, 16, 6.0, orthogonal_steps=3)
N = 60_000


def fired(sample, n, n_features):
    return torch.zeros(n, n_features, dtype=torch.bool).index_put_((sample.rows, sample.features), torch.tensor(True))


@pytest.mark.parametrize("spec", [CORRELATED, HIERARCHICAL, EXCLUSIVE, SYNTH], ids=["corr", "hier", "excl", "synth"])
def test_rates_are_those_of_what_sae_lens_draws(spec):
    world = make_world(spec, 2)
    sample = world.sample(N, seed=0)
    counts = torch.bincount(sample.features, minlength=spec.n_features).double()
    sd = (N * world.rates * (1 - world.rates)).sqrt()
    assert ((counts - N * world.rates).abs() <= 5 * sd + 5).all()
    z = ((counts - N * world.rates) / sd)[N * world.rates > 20]
    assert abs(float(z.std()) - 1) < 0.25
    assert float(world.rates.sum()) == pytest.approx(spec.l0, rel=0.02)
    assert len(sample.rows) / N == pytest.approx(spec.l0, rel=0.03)


@pytest.mark.parametrize("kind", ["correlated", "hierarchical"])
def test_rates_and_features_are_those_of_the_variable_world(kind):
    variable = make_world(replace(CORRELATED, kind="variable"), 4)
    other = make_world(replace(CORRELATED, kind=kind), 4)
    assert torch.equal(variable.features, other.features)
    assert torch.allclose(other.rates.sort().values, variable.rates.sort().values, rtol=0.03)


def test_pairs_of_the_correlated_world_fire_together_as_the_copula_says():
    world = make_world(CORRELATED, 2)
    factor, _ = world.generator.low_rank_correlation
    both = torch.corrcoef(factor) * 0 + (factor @ factor.T).fill_diagonal_(0)
    frequent = world.rates > 0.03
    both[~frequent] = both[:, ~frequent] = 0
    i, j = divmod(int(both.argmax()), 200)
    k, m = divmod(int(both.argmin()), 200)
    active = fired(world.sample(N, seed=1), N, 200)
    thresholds = world.generator.correlation_thresholds
    for a, b in ((i, j), (k, m)):
        rho = float(both[a, b])
        normal = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        expected = float(normal.cdf([-float(thresholds[a]), -float(thresholds[b])]))
        independent = float(world.rates[a] * world.rates[b])
        count = int((active[:, a] & active[:, b]).sum())
        assert stats.binomtest(count, N, expected).pvalue > 1e-4
        assert stats.binomtest(count, N, independent).pvalue < 1e-6


def test_children_fire_only_where_their_parent_does():
    world = make_world(HIERARCHICAL, 2)
    active = fired(world.sample(N, seed=1), N, 256)
    pairs = parents_and_children(world.roots)
    assert len(pairs) == 2 * (4 + 16 + 64)
    assert all(not (active[:, child] & ~active[:, parent]).any() for parent, child in pairs)


@pytest.mark.parametrize("spec", [EXCLUSIVE, SYNTH], ids=["hier", "synth"])
def test_siblings_exclude_one_another(spec):
    world = make_world(spec, 2)
    active = fired(world.sample(N, seed=1), N, 256)
    siblings: dict[int, list[int]] = {}
    for parent, child in parents_and_children(world.roots):
        siblings.setdefault(parent, []).append(child)
    assert all(active[:, group].sum(1).max() <= 1 for group in siblings.values())


def parents_and_children(roots):
    nodes, pairs = list(roots), []
    while nodes:
        node = nodes.pop()
        pairs += [(node.feature_index, child.feature_index) for child in node.children]
        nodes.extend(node.children)
    return pairs


def test_synthsaebench_is_the_model_that_sae_lens_makes():
    spec = SYNTH
    world = make_world(spec, 1)
    model = SyntheticModel(synthsaebench_config(spec, 1))
    assert torch.allclose(world.features, model.feature_dict.feature_vectors, atol=1e-6)
    assert torch.equal(world.bias, model.feature_dict.bias)
    assert float(world.bias.detach().norm()) == pytest.approx(0.5)
    sample = world.sample(500, seed=9)
    with isolated("sample/1/9", CPU):
        hidden, codes = model.sample_with_features(500)
    assert torch.allclose(sample.activations, hidden, atol=1e-4)
    assert torch.equal(codes.nonzero(as_tuple=True)[1], sample.features)
    assert torch.equal(codes[codes > 0], sample.magnitudes)


def test_recipe_at_its_own_size_is_the_published_one():
    config = synthsaebench_config(SYNTHSAEBENCH, 0).to_dict()
    # SAELens docs/synth_sae_bench.md, "Creating Custom Benchmark Models".
    assert config["num_features"] == 16_384
    assert config["hidden_dim"] == 768
    assert config["seed"] == 42
    assert config["bias"] == 0.5
    zipf = {"exponent": 0.5, "max_prob": 0.4, "min_prob": 5e-4, "generator_name": "zipfian"}
    assert config["firing_probability"] == zipf
    assert config["hierarchy"] == {
        "total_root_nodes": 128,
        "branching_factor": 4,
        "max_depth": 3,
        "mutually_exclusive_portion": 1.0,
        "mutually_exclusive_min_depth": 0,
        "mutually_exclusive_max_depth": None,
        "compensate_probabilities": True,
        "scale_children_by_parent": True,
    }
    assert (config["orthogonalization"]["num_steps"], config["orthogonalization"]["lr"]) == (100, 3e-4)
    assert (config["correlation"]["rank"], config["correlation"]["correlation_scale"]) == (25, 0.1)
    magnitudes = config["mean_firing_magnitudes"]
    assert (magnitudes["generator_name"], magnitudes["start"], magnitudes["end"]) == ("linear", 5.0, 4.0)
    spread = config["std_firing_magnitudes"]
    assert (spread["generator_name"], spread["mean"], spread["std"]) == ("folded_normal", 0.5, 0.5)


@pytest.mark.parametrize(("n_features", "l0"), [(512, 3.0), (512, 11.0), (2048, 20.0)])
def test_recipe_at_other_sizes_meets_l0(n_features, l0):
    world = make_world(WorldSpec("synthsaebench", n_features, 8, l0, orthogonal_steps=0), 0)
    assert float(rates_of(world.generator, world.roots, n_latents=1024).sum()) == pytest.approx(l0, rel=0.05)


def test_more_than_a_hierarchy_lets_fire_is_refused():
    with pytest.raises(ValueError, match=r"^l0 is 100.0; it must be at most [\d.]+, more this hierarchy"):
        make_world(replace(SYNTH, l0=100.0), 0)


def test_large_samples_are_drawn_in_blocks(monkeypatch):
    from sae_sanity.suites.synthetic import memory

    monkeypatch.setattr(memory, "BLOCK", 256 * 100)
    world = make_world(SYNTH, 2)
    sample = world.sample(1050, seed=3)
    assert sample.activations.shape == (1050, 16)
    counts = torch.bincount(sample.rows, minlength=1050)
    assert counts[1000:].sum() > 0
    assert (sample.rows.diff() >= 0).all()


# rates of a hierarchy


def by_enumeration(root, q):
    """P(active), summing over all proposals and all picks."""
    n = len(q)
    total = [0.0] * n
    for proposed in itertools.product((False, True), repeat=n):
        weight = 1.0
        for p, yes in zip(q, proposed, strict=True):
            weight *= p if yes else 1 - p
        for chance, active in outcomes(root, proposed, True):
            for feature in active:
                total[feature] += weight * chance
    return total


def outcomes(node, proposed, alive):
    """(probability, set of active features) of a subtree, of which `node` may fire if `alive`."""
    on = alive and (node.feature_index is None or proposed[node.feature_index])
    here = {node.feature_index} if on and node.feature_index is not None else set()
    if not on:
        return [(1.0, set())]
    rivals = [c for c in node.children if c.feature_index is not None and proposed[c.feature_index]]
    picks = rivals if node.mutually_exclusive_children and len(rivals) > 1 else [None]
    found = []
    for pick in picks:
        combined = [(1 / len(picks), here)]
        for child in node.children:
            lost = pick is not None and child in rivals and child is not pick
            below = outcomes(child, proposed, not lost)
            combined = [(a * b, s | t) for a, s in combined for b, t in below]
        found += combined
    return found


def tree():
    def leaf(i):
        return HierarchyNode(i)

    left = HierarchyNode(1, [leaf(3), leaf(4), leaf(5)], mutually_exclusive_children=True)
    right = HierarchyNode(2, [leaf(6), leaf(7)])
    third = HierarchyNode(8, [])
    return HierarchyNode(0, [left, right, third], mutually_exclusive_children=True)


PROPOSALS = [0.7, 0.6, 0.3, 0.5, 0.9, 0.2, 0.4, 1.0, 0.8]


def test_rates_of_a_tree_by_enumeration():
    found = firing_rates([tree()], torch.tensor(PROPOSALS, dtype=torch.float64))
    assert found.tolist() == pytest.approx(by_enumeration(tree(), PROPOSALS), abs=1e-12)


def test_rates_of_a_tree_with_a_node_that_is_no_feature():
    group = HierarchyNode(None, [HierarchyNode(1), HierarchyNode(2)], mutually_exclusive_children=True)
    root = HierarchyNode(0, [group, HierarchyNode(3)])
    q = [0.5, 0.6, 0.7, 0.2]
    found = firing_rates([root], torch.tensor(q, dtype=torch.float64))
    assert found.tolist() == pytest.approx(by_enumeration(root, q), abs=1e-12)


def test_rates_of_a_tree_against_sae_lens_modifier():
    q = torch.tensor([*PROPOSALS, 0.35], dtype=torch.float64)  # the last one is in no tree
    drawn = torch.bernoulli(q.expand(N, -1), generator=torch.Generator().manual_seed(0))
    with isolated("modifier", CPU):
        counts = (hierarchy_modifier([tree()])(drawn) > 0).sum(0)
    for count, rate in zip(counts.tolist(), firing_rates([tree()], q).tolist(), strict=True):
        assert stats.binomtest(count, N, rate).pvalue > 1e-4


def test_rates_of_a_batch_of_proposals():
    q = torch.rand(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = torch.stack([firing_rates([tree()], row) for row in q])
    assert torch.allclose(firing_rates([tree()], q), each)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("in_a_tree", [False, True])
def test_firings_of_no_magnitude_do_not_count(correlated, in_a_tree):
    q = torch.tensor([*PROPOSALS[:7], 0.9, 0.8])
    generator = ActivationGenerator(
        9,
        q,
        std_firing_magnitudes=1.0,
        mean_firing_magnitudes=0.5,
        modify_activations=hierarchy_modifier([tree()]) if in_a_tree else None,
        correlation_matrix=generate_random_low_rank_correlation_matrix(9, 3, 0.3, seed=0) if correlated else None,
    )
    with isolated("magnitudes", CPU):
        counts = (generator.sample(N) > 0).sum(0).tolist()
    for count, rate in zip(counts, rates_of(generator, [tree()] if in_a_tree else []).tolist(), strict=True):
        assert stats.binomtest(count, N, rate).pvalue > 1e-4


def test_scale():
    assert scale_to(lambda s: s**2, 4.0, 10.0) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="at most 100"):
        scale_to(lambda s: s**2, 101.0, 10.0)
