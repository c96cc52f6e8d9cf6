from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sae_lens import SAE
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import (
    Schedule,
    Shape,
    measure_moments,
    new_learner,
    parse_arm,
    random_directions,
    sparse_learner,
    to_inference,
    train_together,
)
from sae_sanity.baselines.learner import has_half_units
from sae_sanity.baselines.training import load_checkpoint, save_checkpoint

STEPS = Schedule(steps=30, batch_size=256, lr=3e-3)

_LINEAR = {"W_enc", "W_dec", "b_enc", "b_dec"}
PARAMETERS = {
    "standard": _LINEAR,
    "gated": {"W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"},
    "topk": _LINEAR,
    "abstopk": _LINEAR,
    "jumprelu": _LINEAR | {"threshold"},
    "batchtopk": _LINEAR | {"topk_threshold"},
    "matryoshka_batchtopk": _LINEAR | {"topk_threshold"},
    "matching_pursuit": {"W_dec", "b_dec"},
}


def _train(arm, shape, moments, stream, *, seed=0, schedule=STEPS, **options):
    learner = new_learner(parse_arm(arm), shape, moments, seed, sparse_world(512, 9) * moments.scale)
    before = {k: v.clone() for k, v in learner.sae.state_dict().items()}
    train_together([learner], stream, moments, schedule, **options)
    return learner, before


@pytest.mark.parametrize(
    ("arm", "fixed"),
    [
        ("trained", set()),
        ("frozen_decoder@iso", {"W_dec"}),
        ("frozen_decoder@cov", {"W_dec"}),
        ("frozen_encoder@iso", {"W_enc"}),
        ("frozen_encoder@cov", {"W_enc"}),
        ("soft_frozen@0.8", set()),
    ],
)
def test_frozen_never_moves_and_the_rest_learns(arm, fixed, shape, moments, stream, exists):
    exists(arm)
    learner, before = _train(arm, shape, moments, stream)
    after = learner.sae.state_dict()
    assert PARAMETERS[shape.architecture] == set(after)
    assert {name for name in after if torch.equal(before[name], after[name])} == fixed


@pytest.mark.parametrize("variant", ["iso", "cov"])
def test_a_frozen_decoder_is_what_was_drawn_after_all_folding(variant, shape, moments, stream):
    """Folding scales rows; their directions are those of the draw to float precision."""
    learner, _ = _train(f"frozen_decoder@{variant}", shape, moments, stream)
    rows = to_inference(learner.sae, moments).W_dec.detach().double()
    drawn = random_directions(D_SAE, moments, variant, torch.Generator().manual_seed(0)).double()
    assert torch.equal(learner.start, drawn.float())
    torch.testing.assert_close(rows / rows.norm(dim=1, keepdim=True), drawn, rtol=0, atol=2e-7)


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_a_frozen_decoder_that_is_not_folded_keeps_every_bit(kind, stream):
    moments = measure_moments([sparse_world(2048, 100)], normalize_activations=kind)
    shape = Shape("standard", D_IN, D_SAE, L0, normalize_activations=kind)
    learner = new_learner(parse_arm("frozen_decoder"), shape, moments, 0, moments.seen(sparse_world(512, 9)))
    train_together([learner], stream, moments, STEPS)
    assert torch.equal(to_inference(learner.sae, moments).W_dec, learner.start)


def test_a_soft_frozen_decoder_is_in_its_caps_after_all_folding(shape, moments, stream):
    learner, _ = _train("soft_frozen@0.98", shape, moments, stream)
    rows = to_inference(learner.sae, moments).W_dec.detach().double()
    assert float(torch.nn.functional.cosine_similarity(rows, learner.start.double()).min()) >= 0.98 - 1e-6


def test_matching_pursuit_with_nothing_to_learn_still_trains(moments, stream):
    """With W_dec frozen and b_dec unused no parameter has a gradient."""
    shape = Shape("matching_pursuit", D_IN, D_SAE, L0, apply_b_dec_to_input=False)
    learner, before = _train("frozen_decoder", shape, moments, stream, schedule=Schedule(steps=2, batch_size=256))
    assert all(torch.equal(v, learner.sae.state_dict()[k]) for k, v in before.items())


def test_soft_frozen_rows_stay_in_their_caps_while_training(shape, moments, stream):
    learner, _ = _train("soft_frozen@0.98", shape, moments, stream)
    cosine = torch.nn.functional.cosine_similarity(learner.sae.W_dec.double(), learner.start.double())
    assert 0.98 - 1e-6 <= float(cosine.min()) < 0.981  # some row did reach the edge, so the cap was at work
    free, _ = _train("trained", shape, moments, stream)
    assert float(torch.nn.functional.cosine_similarity(free.sae.W_dec, free.start).min()) < 0.98


def test_arms_of_a_seed_start_alike(shape, moments):
    first = sparse_world(512, 9) * moments.scale
    starts = [
        new_learner(parse_arm(a), shape, moments, 3, first).start for a in ("trained", "frozen_decoder", "random")
    ]
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], new_learner(parse_arm("trained"), shape, moments, 4, first).start)


def test_together_equals_alone(shape, moments, stream):
    """Arms share the stream and nothing else."""
    first = sparse_world(512, 9) * moments.scale
    both = [new_learner(parse_arm(a), shape, moments, 0, first) for a in ("trained", "frozen_decoder")]
    train_together(both, stream, moments, STEPS)
    alone, _ = _train("trained", shape, moments, stream)
    assert all(torch.equal(v, alone.sae.state_dict()[k]) for k, v in both[0].sae.state_dict().items())


def _saelens_trainer(sae, moments, stream, *, autocast=False):
    """SAELens' own trainer for 20 steps at a constant rate."""
    return SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=20 * 256,
            train_batch_size_samples=256,
            lr=1e-3,
            lr_end=1e-3,
            device="cpu",
            autocast=autocast,
            logger=LoggingConfig(log_to_wandb=False),
            dead_feature_window=100,
            n_batches_for_norm_estimate=1,
        ),
        sae=sae,
        data_provider=(b * moments.scale for b in stream(0)),
    )


@pytest.mark.parametrize("architecture", ["topk", "abstopk", "batchtopk", "matryoshka_batchtopk", "matching_pursuit"])
def test_against_saelens_own_trainer(architecture, moments, stream):
    """Same start, same batches, constant rate: SAELens' SAETrainer ends at the same weights."""
    shape = Shape(architecture, D_IN, D_SAE, L0)
    flat = Schedule(steps=20, batch_size=256, lr=1e-3, warm_up=0.0, decay=0.0)
    ours, _ = _train("trained", shape, moments, stream, schedule=flat)
    theirs = new_learner(parse_arm("trained"), shape, moments, 0, sparse_world(512, 9) * moments.scale).sae
    _saelens_trainer(theirs, moments, stream).fit()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.sae.state_dict()[name], value, rtol=2e-3, atol=2e-4)


@torch.no_grad()
def _explained(sae, x):
    return 1 - float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


def _mixed(arm, shape, moments, stream, mixed, schedule):
    learner = new_learner(parse_arm(arm), shape, moments, 0, sparse_world(512, 9) * moments.scale)
    learner.mixed = mixed
    train_together([learner], stream, moments, schedule)
    return learner


@pytest.mark.parametrize("arm", ["trained", "soft_frozen@0.8"])
def test_mixed_precision_explains_as_much(arm, shape, moments, stream):
    """bfloat16 products, as on a GPU: final explained variance within .002, all that is kept in float32."""
    held_out, explained = sparse_world(4096, 77) * moments.scale, []
    for mixed in (False, True):
        learner = _mixed(arm, shape, moments, stream, mixed, Schedule(steps=150, batch_size=256, lr=3e-3))
        explained.append(_explained(learner.sae, held_out))
    assert explained[1] != explained[0]
    assert explained[1] == pytest.approx(explained[0], abs=0.002)
    assert torch.bfloat16 not in {tensor.dtype for tensor in learner.state().values()}


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka_batchtopk", "matching_pursuit"])
def test_mixed_precision_is_saelens_own_autocast(architecture, moments, stream):
    shape = Shape(architecture, D_IN, D_SAE, L0)
    flat = Schedule(steps=20, batch_size=256, lr=1e-3, warm_up=0.0, decay=0.0)
    ours, plain = (_mixed("trained", shape, moments, stream, mixed, flat).sae for mixed in (True, False))
    theirs = new_learner(parse_arm("trained"), shape, moments, 0, sparse_world(512, 9) * moments.scale).sae
    _saelens_trainer(theirs, moments, stream, autocast=True).fit()
    off = [
        sum(float((one.state_dict()[name] - value).abs().sum()) for name, value in theirs.state_dict().items())
        for one in (ours, plain)
    ]
    assert off[0] < 0.1 * off[1]


@pytest.mark.parametrize(
    ("device", "capability", "mixed"), [("cpu", (9, 0), False), ("cuda", (7, 5), False), ("cuda:1", (8, 0), True)]
)
def test_gpus_with_units_for_it_train_in_mixed_precision(monkeypatch, device, capability, mixed):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: asked.append(str(where)) or capability)
    assert has_half_units(device) is mixed
    assert asked == ([] if device == "cpu" else [device])


@pytest.mark.parametrize("mixed", [False, True])
def test_an_arm_learns_as_its_device_can(monkeypatch, moments, mixed):
    monkeypatch.setattr("sae_sanity.baselines.learner.has_half_units", lambda device: mixed)
    shape = Shape("standard", D_IN, D_SAE, L0)
    learner = new_learner(parse_arm("trained"), shape, moments, 0, sparse_world(512, 9) * moments.scale)
    assert (learner.mixed, sparse_learner(learner).mixed) == (mixed, mixed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_arms_learn_the_same_on_a_gpu(shape, moments, stream):
    held_out, explained = sparse_world(4096, 77) * moments.scale, []
    for device in ("cpu", "cuda"):
        first = (sparse_world(512, 9) * moments.scale).to(device)
        learner = new_learner(parse_arm("trained"), shape, moments, 0, first)
        there = lambda start, device=device: (batch.to(device) for batch in stream(start))  # noqa: E731
        train_together([learner], there, moments, Schedule(steps=150, batch_size=256, lr=3e-3))
        explained.append(_explained(learner.sae.cpu(), held_out))
    assert explained[1] == pytest.approx(explained[0], abs=0.002)


def test_training_learns_more_than_frozen_and_random(moments, stream):
    """On sparse data with a known dictionary the order of METHOD's ladder shows."""
    shape = Shape("topk", D_IN, D_SAE, L0)
    held_out = sparse_world(4096, 77) * moments.scale
    long = Schedule(steps=300, batch_size=256, lr=3e-3)

    def error(arm: str, schedule: Schedule) -> float:
        sae = _train(arm, shape, moments, stream, schedule=schedule)[0].sae
        with torch.no_grad():
            return float((sae(held_out) - held_out).pow(2).sum(-1).mean())

    errors = {arm: error(arm, long) for arm in ("trained", "soft_frozen@0.8", "frozen_decoder")}
    errors["random"] = error("random", Schedule(steps=0))
    assert errors["trained"] < errors["soft_frozen@0.8"] < errors["frozen_decoder"] < errors["random"]


def test_killed_training_resumes_to_the_same_bytes(shape, moments, stream, tmp_path):
    whole, _ = _train("soft_frozen@0.9", shape, moments, stream)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 17:
            raise KilledError

    ticks = iter(range(0, 10**6, 40))  # every second step is more than a minute after the last checkpoint
    options = {"checkpoint": tmp_path / "state", "key": "k"}
    with pytest.raises(KilledError):
        _train(
            "soft_frozen@0.9",
            shape,
            moments,
            stream,
            on_step=kill,
            clock=lambda: float(next(ticks)),
            **options,
        )
    assert (tmp_path / "state").exists()
    steps: list[int] = []
    resumed, _ = _train("soft_frozen@0.9", shape, moments, stream, on_step=steps.append, **options)
    assert 1 < steps[0] <= 17
    assert all(torch.equal(v, whole.sae.state_dict()[k]) for k, v in resumed.sae.state_dict().items())
    assert resumed.coefficient == whole.coefficient


def test_checkpoint_of_another_training_is_ignored(moments, tmp_path):
    shape = Shape("topk", D_IN, D_SAE, L0)
    learner = new_learner(parse_arm("trained"), shape, moments, 0, sparse_world(512, 9))
    save_checkpoint(tmp_path / "c", [learner], 5, "one")
    assert load_checkpoint(tmp_path / "c", [learner], "other") == 0
    assert load_checkpoint(tmp_path / "c", [learner], "one") == 5
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:1000])
    assert load_checkpoint(tmp_path / "c", [learner], "one") == 0


def test_a_finished_training_is_kept_for_the_arms_that_were_not_written(moments, stream, tmp_path):
    shape = Shape("topk", D_IN, D_SAE, L0)
    first = sparse_world(512, 9) * moments.scale

    def make(*arms):
        return [new_learner(parse_arm(a), shape, moments, 0, first) for a in arms]

    both, steps = make("trained", "frozen_encoder"), []
    train_together(both, stream, moments, STEPS, checkpoint=tmp_path / "c", key="k")
    one = make("frozen_encoder")
    train_together(one, stream, moments, STEPS, checkpoint=tmp_path / "c", key="k", on_step=steps.append)
    assert steps == []
    assert all(torch.equal(v, both[1].sae.state_dict()[k]) for k, v in one[0].sae.state_dict().items())
    assert load_checkpoint(tmp_path / "c", make("frozen_decoder"), "k") == 0


def test_saved_and_loaded_by_saelens_bit_for_bit(shape, moments, stream, tmp_path):
    learner, _ = _train("frozen_decoder@cov", shape, moments, stream)
    sae = to_inference(learner.sae, moments)
    sae.save_model(tmp_path / "a")
    loaded = SAE.load_from_disk(tmp_path / "a")
    loaded.save_model(tmp_path / "b")
    assert type(loaded) is type(sae)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in sae.state_dict().items())
    assert (tmp_path / "a/sae_weights.safetensors").read_bytes() == (
        tmp_path / "b/sae_weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("centred", [True, False])
def test_finished_sae_reads_raw_activations(centred, shape, moments, stream, settle):
    learner, _ = _train("trained", replace(shape, apply_b_dec_to_input=centred), moments, stream)
    raw, sae = sparse_world(256, 5), learner.sae
    settle(sae, raw * moments.scale)
    with torch.no_grad():
        scaled = sae(raw * moments.scale) / moments.scale
        torch.testing.assert_close(to_inference(sae, moments)(raw), scaled, rtol=1e-4, atol=1e-4)


def test_schedule_rises_stays_and_falls():
    schedule = Schedule(steps=100, lr=1.0, warm_up=0.1, decay=0.2)
    rates = [schedule.rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[-1] == pytest.approx(0.05)
    assert rates == sorted(rates[:10]) + [1.0] * 70 + sorted(rates[80:], reverse=True)
