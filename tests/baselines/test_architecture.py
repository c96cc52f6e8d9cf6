from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from sae_lens import SAE
from sae_lens.evals import ExplainedVarianceCalculator
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY, get_sae_training_class
from sae_lens.saes.batchtopk_sae import BatchTopK
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import (
    ARCHITECTURES,
    Schedule,
    Shape,
    measure_moments,
    new_learner,
    new_sae,
    parse_arm,
    random_directions,
    recipe_options,
    to_inference,
    train_together,
)
from sae_sanity.baselines.batch_topk import PartitionBatchTopK
from sae_sanity.baselines.matryoshka import checked_widths, default_widths


def _new(shape, moments):
    return new_sae(shape, random_directions(D_SAE, moments, "iso", torch.Generator().manual_seed(0)), moments)


def test_every_training_architecture_of_saelens_that_reconstructs_its_input():
    others = {name for name in SAE_TRAINING_CLASS_REGISTRY if "transcoder" not in name}
    assert set(ARCHITECTURES) == others - {"temporal"}


def test_a_recipe_sets_nothing_that_matching_l0_owns():
    """Against SAELens' own configs: every option is one of its fields, none is a size, k or a coefficient."""
    owned = {"d_in", "d_sae", "k", "dtype", "device", "metadata", "l1_coefficient", "l0_coefficient", "target_l0"}
    owned |= {"l0_warm_up_steps", "l1_warm_up_steps", "residual_threshold", "max_iterations", "decoder_init_norm"}
    for name in ARCHITECTURES:
        known = {f.name for f in fields(get_sae_training_class(name)[1])}
        assert recipe_options(name) <= known - owned
    left = {
        n: {f.name for f in fields(get_sae_training_class(n)[1])} - recipe_options(n) - owned for n in ARCHITECTURES
    }
    general = {"apply_b_dec_to_input", "normalize_activations", "reshape_activations"}
    assert set().union(*left.values()) - general == {"jumprelu_init_threshold", "use_sparse_activations"}


def test_tied_start_at_the_datas_centre(shape, moments):
    sae = _new(shape, moments)
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    torch.testing.assert_close(sae.b_dec, moments.mean * moments.scale)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))


def test_without_b_dec_in_the_input_the_start_is_the_same_function(shape, moments):
    if shape.architecture == "matching_pursuit":
        pytest.skip("it has no bias to hold the centre")
    x = moments.seen(sparse_world(128, 3))
    one, other = (_new(replace(shape, apply_b_dec_to_input=flag), moments) for flag in (True, False))
    assert (one.cfg.apply_b_dec_to_input, other.cfg.apply_b_dec_to_input) == (True, False)
    with torch.no_grad():
        torch.testing.assert_close(other(x), one(x), rtol=1e-4, atol=1e-4)


def test_batchtopk_kinds_use_the_fast_activation_and_get_what_saelens_gets(moments):
    x = moments.seen(sparse_world(64, 3))
    for name in ("batchtopk", "matryoshka_batchtopk"):
        sae = _new(Shape(name, D_IN, D_SAE, L0), moments)
        assert isinstance(sae.activation_fn, PartitionBatchTopK)
        with torch.no_grad():
            ours = sae.encode(x)
            sae.activation_fn = BatchTopK(L0)
            assert torch.equal(ours, sae.encode(x))


def test_options_reach_saelens_config(moments):
    options = (("jumprelu_sparsity_loss_mode", "tanh"), ("jumprelu_bandwidth", 0.5), ("jumprelu_tanh_scale", 4.0))
    shape = Shape("jumprelu", D_IN, D_SAE, L0, options=options)
    cfg = _new(shape, moments).cfg
    assert cfg.jumprelu_sparsity_loss_mode == "tanh"
    # A recipe without normalisation means raw units; arms learn on activations times moments.scale.
    assert cfg.jumprelu_bandwidth == pytest.approx(0.5 * moments.scale)
    assert cfg.jumprelu_tanh_scale == pytest.approx(4.0 / moments.scale)
    normalised = _new(replace(shape, normalize_activations="expected_average_only_in"), moments).cfg
    assert (normalised.jumprelu_bandwidth, normalised.jumprelu_tanh_scale) == (0.5, 4.0)


def test_rescaling_by_decoder_norm_can_be_switched_off(moments):
    shape = Shape("topk", D_IN, D_SAE, L0, options=(("rescale_acts_by_decoder_norm", False),))
    sae = _new(shape, moments)
    assert sae.cfg.rescale_acts_by_decoder_norm is False
    assert to_inference(sae, moments).cfg.rescale_acts_by_decoder_norm is False


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape("vanilla", D_IN, D_SAE, L0), "no such architecture: 'vanilla'; known: standard, "),
        (Shape("topk", D_IN, D_SAE, 0.0), "l0 is 0; it must be above 0 and at most d_sae = 96"),
        (Shape("batchtopk", D_IN, D_SAE, 97.0), "l0 is 97; it must be above 0 and at most d_sae = 96"),
        (Shape("gated", D_IN, D_SAE, L0, options=(("l1_coefficient", 5.0),)), "gated has no recipe option 'l1_coeff"),
        (Shape("topk", D_IN, D_SAE, L0, options=(("k", 5),)), "'k'; known: aux_loss_coefficient, rescale_acts"),
        (Shape("topk", D_IN, D_SAE, L0, normalize_activations="covariance_whitening"), "'covariance_whitening'; known"),
        (Shape("topk", D_IN, D_SAE, L0, normalize_activations="layer_norm"), "moments were measured in the space 'no"),
        (Shape("matryoshka_batchtopk", D_IN, D_SAE, L0, options=(("matryoshka_widths", [8, 4]),)), r"\[8, 4\]; they"),
    ],
)
def test_shapes_that_contradict_themselves(shape, message, moments):
    with pytest.raises(ValueError, match=message) as error:
        _new(shape, moments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("d_sae", "widths"), [(96, [6, 12, 24, 48, 96]), (5, [1, 2, 5]), (1, [1])])
def test_default_widths(d_sae, widths):
    assert default_widths(d_sae) == widths


def test_widths_are_completed_as_saelens_does(moments):
    shape = Shape("matryoshka_batchtopk", D_IN, D_SAE, L0, options=(("matryoshka_widths", [10, 50]),))
    assert _new(shape, moments).cfg.matryoshka_widths == [10, 50, D_SAE]
    assert shape.options == (("matryoshka_widths", [10, 50]),)


@pytest.mark.parametrize("widths", [[], [0, 96], [10, 10, 96], [97], [4, 200], [2.5, 96]])
def test_widths_that_do_not_fit(widths):
    with pytest.raises(ValueError, match="they must rise strictly from at least 1 to d_sae = 96"):
        checked_widths(widths, 96)


@pytest.mark.parametrize("kind", ["none", "layer_norm", "constant_norm_rescale"])
def test_explained_variance_on_raw_activations_by_saelens_own_count(kind, shape, stream, tmp_path, settle):
    """The saved arm, loaded by SAELens, explains on raw activations what training reached behind the normalisation."""
    moments = measure_moments([sparse_world(4096, 100)], normalize_activations=kind)
    shape = replace(shape, normalize_activations=kind)
    first = moments.seen(sparse_world(512, 9))
    trained, untrained = (new_learner(parse_arm(a), shape, moments, 0, first) for a in ("trained", "random"))
    train_together([trained], stream, moments, Schedule(steps=60, batch_size=256))
    raw = sparse_world(2048, 77)
    settle(trained.sae, moments.seen(raw))
    with torch.no_grad():
        seen = trained.sae(moments.seen(raw))
    if kind == "none":
        expected = seen / moments.scale
    elif kind == "layer_norm":
        expected = seen * raw.std(dim=1, keepdim=True) + raw.mean(dim=1, keepdim=True)
    else:
        expected = seen * raw.norm(dim=1, keepdim=True) / D_IN**0.5
    to_inference(trained.sae, moments).save_model(tmp_path)
    loaded = SAE.load_from_disk(tmp_path)
    assert loaded.cfg.normalize_activations == kind
    with torch.no_grad():
        torch.testing.assert_close(loaded(raw), expected, rtol=1e-3, atol=1e-3)
        found, floor = _explained(loaded, raw), _explained(to_inference(untrained.sae, moments), raw)
    by_hand = 1 - (expected - raw).pow(2).sum() / (raw - raw.mean(0)).pow(2).sum()
    assert found == pytest.approx(float(by_hand), abs=1e-4)
    assert found > max(0.45, floor + 0.05)


def _explained(sae, raw):
    calculator = ExplainedVarianceCalculator()
    with torch.no_grad():
        calculator.add_batch(sae.decode(sae.encode(raw)), raw)
    return float(calculator.compute())
