"""From a recipe to the shape of its baselines."""

from __future__ import annotations

import json

import pytest
import torch
from sae_lens.registry import get_sae_training_class
from tiny_saes import D_IN, D_SAE, TRAINING, make_training_sae, save

from sae_sanity.baselines import ARCHITECTURES, recipe_options
from sae_sanity.baselines.wrap import Recipe, read_recipe, shape_of

BASE = {"architecture": "topk", "d_in": D_IN, "d_sae": D_SAE}


def shape(l0: float = 4.0, **values):
    return shape_of(Recipe().with_values("test", **{**BASE, **values}), l0=l0)


@pytest.mark.parametrize("architecture", TRAINING)
def test_every_saved_sae_has_a_shape(architecture, tmp_path):
    assert architecture in ARCHITECTURES
    recipe = read_recipe(save(make_training_sae(architecture, normalize_activations="layer_norm"), tmp_path))
    made = shape_of(recipe, l0=4.1)
    assert (made.architecture, made.d_in, made.d_sae) == (architecture, D_IN, D_SAE)
    assert (made.hook_name, made.model_name) == ("blocks.1.hook_resid_post", "tiny")
    assert (made.normalize_activations, made.apply_b_dec_to_input) == ("layer_norm", True)


def test_options_are_those_that_a_recipe_may_set(tmp_path):
    recipe = read_recipe(save(make_training_sae("matryoshka_batchtopk"), tmp_path))
    options = dict(shape_of(recipe, l0=4.0).options)
    assert options["matryoshka_widths"] == [5, 10, 20]
    assert "decoder_init_norm" not in options
    assert "topk_threshold_lr" in options


@pytest.mark.parametrize("architecture", ["topk", "abstopk", "matching_pursuit"])
@pytest.mark.parametrize(
    ("k", "l0", "target"), [(4, 3.9, 4.0), (4, 3.3, 3.0), (40, 3.7, 4.0), (None, 3.2, 3.0), (None, 0.2, 1.0)]
)
def test_k_is_that_of_the_recipe_where_it_fits(architecture, k, l0, target):
    assert shape(l0, architecture=architecture, k=k).l0 == target


def test_k_within_five_per_cent_of_a_large_l0():
    assert shape(101.0, k=100, d_sae=500).l0 == 100.0
    assert shape(96.0, k=100, d_sae=500).l0 == 100.0
    assert shape(94.0, k=100, d_sae=500).l0 == 94.0


def test_other_architectures_aim_at_what_was_measured():
    assert shape(4.37, architecture="batchtopk", k=4).l0 == 4.37


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"architecture": None}, "--architecture"),
        ({"architecture": "frozen_decoder_topk"}, "frozen_decoder_topk"),
        ({"d_in": None}, "d_in"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"l0": 0.0}, "L0"),
        ({"l0": 21.0}, "at most d_sae 20"),
    ],
)
def test_where_no_baseline_can_be_made(values, word):
    l0 = values.pop("l0", 4.0)
    recipe = Recipe().with_values("test", **{n: v for n, v in {**BASE, **values}.items() if v is not None})
    with pytest.raises(ValueError, match=word) as error:
        shape_of(recipe, l0=l0)
    assert "\n" not in str(error.value)


def test_the_shape_makes_an_sae(tmp_path):
    from sae_sanity.baselines import measure_moments, new_sae, random_directions

    recipe = read_recipe(save(make_training_sae("matryoshka_batchtopk"), tmp_path))
    moments = measure_moments([torch.randn(256, D_IN)])
    directions = random_directions(D_SAE, moments, "iso", torch.Generator().manual_seed(0))
    sae = new_sae(shape_of(recipe, l0=4.0), directions, moments)
    assert sae.cfg.matryoshka_widths == [5, 10, 20]


UNITS = {"jumprelu_bandwidth": 0.5, "jumprelu_tanh_scale": 2.0, "pre_act_loss_coefficient": 0.1}


@pytest.mark.parametrize(
    ("values", "options", "normalization"),
    [
        # Nobody says behind what it was trained: SAELens folds the scale in and writes "none".
        ({}, {}, "none"),
        ({"normalize_activations": "none"}, {}, "none"),
        ({"normalize_activations_in_training": "covariance_whitening"}, {}, "none"),
        ({"normalize_activations_in_training": "none"}, UNITS, "none"),
        ({"normalize_activations_in_training": "expected_average_only_in"}, UNITS, "expected_average_only_in"),
        ({"normalize_activations": "expected_average_only_in"}, UNITS, "expected_average_only_in"),
        ({"normalize_activations": "layer_norm", "normalize_activations_in_training": "none"}, UNITS, "layer_norm"),
    ],
)
def test_options_with_units_are_used_where_the_unit_is_known(values, options, normalization):
    options = {"jumprelu_sparsity_loss_mode": "tanh", **options}
    given = {"jumprelu_sparsity_loss_mode": "tanh", **UNITS}
    made = shape(architecture="jumprelu", options=given, **values)
    assert (dict(made.options), made.normalize_activations) == (options, normalization)


def test_a_folded_sae_is_not_converted_twice(tmp_path):
    """As SAELens' runner leaves it: trained behind expected_average_only_in, folded, its runner_cfg.json beside it."""
    from sae_sanity.baselines import measure_moments, new_sae, random_directions

    sae = make_training_sae("jumprelu", normalize_activations="expected_average_only_in", jumprelu_bandwidth=0.2)
    trained = sae.cfg.to_dict()
    sae.fold_activation_norm_scaling_factor(0.01)
    folder = save(sae, tmp_path)
    moments = measure_moments([100 * torch.randn(256, D_IN)])
    directions = random_directions(D_SAE, moments, "iso", torch.Generator().manual_seed(0))

    def bandwidth():
        recipe = read_recipe(folder)
        assert recipe.get("normalize_activations") == "none"
        return new_sae(shape_of(recipe, l0=4.0), directions, moments).cfg.jumprelu_bandwidth

    assert bandwidth() == 0.05  # SAELens' default: nobody knows the unit
    for said, expected in (("expected_average_only_in", 0.2), ("none", 0.2 * moments.scale)):
        runner = {"sae": {**trained, "normalize_activations": said}}
        (folder / "runner_cfg.json").write_text(json.dumps(runner))
        assert bandwidth() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("architecture", "name", "value"),
    [
        ("matryoshka_batchtopk", "matryoshka_widths", [10, 5, 20]),
        ("matryoshka_batchtopk", "matryoshka_widths", [5, 21]),
        ("matryoshka_batchtopk", "matryoshka_widths", [0, 20]),
        ("matryoshka_batchtopk", "matryoshka_widths", list(range(900, 0, -1))),
        ("jumprelu", "jumprelu_bandwidth", 0),
        ("jumprelu", "jumprelu_bandwidth", -1.0),
        ("jumprelu", "jumprelu_bandwidth", 1e-30),
        ("jumprelu", "jumprelu_tanh_scale", 1e38),
        ("jumprelu", "jumprelu_tanh_scale", 0.0),
        ("jumprelu", "pre_act_loss_coefficient", -0.1),
        ("topk", "aux_loss_coefficient", 1e30),
        ("batchtopk", "topk_threshold_lr", 1.5),
        ("standard", "lp_norm", 0.01),
        ("standard", "lp_norm", -1.0),
    ],
)
def test_options_that_would_break_training(architecture, name, value):
    options = {"options": {name: value}, "normalize_activations_in_training": "none"}
    with pytest.raises(ValueError, match=name) as error:
        shape(architecture=architecture, **options)
    assert "--architecture" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    # What another architecture does not have does not matter to it.
    assert shape(architecture="gated", **options).options == ()


def test_the_defaults_of_sae_lens_are_in_range():
    for architecture in ARCHITECTURES:
        cfg = get_sae_training_class(architecture)[1](d_in=D_IN, d_sae=D_SAE)
        options = {n: getattr(cfg, n) for n in recipe_options(architecture) if getattr(cfg, n) not in (None, [])}
        known = {"options": options, "normalize_activations_in_training": "none"}
        assert dict(shape(architecture=architecture, **known).options) == options
