from __future__ import annotations

import torch
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import Schedule, Shape, new_learner, parse_arm, train_together


def test_retrained_is_the_recipe_itself(moments, stream):
    """The same start, the same steps and so the same weights as `trained` has where the target is a recipe."""
    shape, first = Shape("gated", D_IN, D_SAE, L0), sparse_world(512, 9) * moments.scale
    arms = [new_learner(parse_arm(a), shape, moments, 2, first) for a in ("trained", "retrained")]
    train_together(arms, stream, moments, Schedule(steps=5, batch_size=256))
    trained, retrained = (arm.sae.state_dict() for arm in arms)
    assert all(torch.equal(v, retrained[k]) for k, v in trained.items())
    assert all(p.requires_grad for p in arms[1].sae.parameters())
