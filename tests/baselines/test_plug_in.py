"""A newcomer's baseline: one class, found through an entry point, trained and measured like the built-in ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import Baseline, Schedule, Shape, baseline_classes, new_learner, parse_arm, train_together


@dataclass(frozen=True)
class TiedDecoder(Baseline):
    """The decoder is the transpose of the encoder after every step (the example of docs/add-a-baseline.md)."""

    name: ClassVar[str] = "tied_decoder"
    summary: ClassVar[str] = "W_dec tied to W_enc"

    @torch.no_grad()
    def after_step(self, sae, start):
        sae.W_dec.copy_(sae.W_enc.T)


class Point:
    """What `importlib.metadata.entry_points` returns."""

    def __init__(self, name, cls):
        self.name, self.cls = name, cls

    def load(self):
        return self.cls


@pytest.fixture
def plug_ins(monkeypatch):
    def install(*points):
        monkeypatch.setattr("sae_sanity.baselines.registry.entry_points", lambda group: points)
        baseline_classes.cache_clear()

    yield install
    baseline_classes.cache_clear()


def test_found_by_name_and_trained(plug_ins, moments, stream):
    plug_ins(Point("tied_decoder", TiedDecoder))
    shape = Shape("topk", D_IN, D_SAE, L0)
    learner = new_learner(parse_arm("tied_decoder"), shape, moments, 0, sparse_world(512, 9) * moments.scale)
    before = learner.sae.W_dec.detach().clone()
    train_together([learner], stream, moments, Schedule(steps=5, batch_size=256))
    assert torch.equal(learner.sae.W_dec, learner.sae.W_enc.T)
    assert not torch.equal(learner.sae.W_dec, before)


def test_a_plug_in_cannot_replace_a_built_in_baseline(plug_ins):
    plug_ins(Point("random", TiedDecoder))
    assert parse_arm("random").arm == "random"


def test_asked_for_a_variant_it_does_not_have(plug_ins):
    plug_ins(Point("tied_decoder", TiedDecoder))
    with pytest.raises(ValueError, match="it has no variants, 'x' was asked for"):
        parse_arm("tied_decoder@x")
