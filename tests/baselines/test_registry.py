from __future__ import annotations

import pytest
from sparse_world import D_IN, D_SAE, L0

from sae_sanity.baselines import ARCHITECTURES, CONTROLS, Shape, baseline_classes, parse_arm
from sae_sanity.baselines.wrap.layout import LAYOUTS


@pytest.mark.parametrize(
    "text",
    [
        "trained",
        "frozen_decoder@iso",
        "frozen_decoder@cov",
        "frozen_encoder@iso",
        "soft_frozen@0.9",
        "random",
        "retrained",
    ],
)
def test_names_round_trip(text):
    assert parse_arm(text).arm == text


def test_default_variants():
    assert parse_arm("frozen_decoder").arm == "frozen_decoder@iso"
    assert parse_arm("soft_frozen").arm == "soft_frozen@0.8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frozen_decodr", "did you mean frozen_decoder"),
        ("frozen_decoder@gauss", "no such init: 'gauss'"),
        ("soft_frozen@2", "must lie in"),
        ("soft_frozen@much", "could not convert"),
        ("random@iso", "it has no variants"),
    ],
)
def test_wrong_names_say_what_would_be_right(text, message):
    with pytest.raises(ValueError, match=message):
        parse_arm(text)


def test_nulls_follow_method_section_2():
    claims = {name: set(cls.null_for) for name, cls in baseline_classes().items()}
    assert claims == {
        "trained": set(),
        "retrained": set(),
        "frozen_decoder": {"decoder"},
        "soft_frozen": set(),
        "frozen_encoder": {"encoder"},
        "random": {"encoder", "decoder"},
    }
    assert set(CONTROLS) == {"permuted_decoder", "permuted_encoder", "random_latents"}


def test_what_does_not_exist_for_an_architecture_says_why():
    arms = ("trained", "retrained", "frozen_decoder", "soft_frozen", "frozen_encoder@cov", "random")
    left_out = {(a, arm) for a in ARCHITECTURES for arm in arms if parse_arm(arm).applies_to(a)}
    assert left_out == {("matching_pursuit", "frozen_encoder@cov")}
    assert "no encoder" in parse_arm("frozen_encoder").applies_to("matching_pursuit")
    broken = {(a, c) for a in (*ARCHITECTURES, "foreign") for c in CONTROLS if CONTROLS[c].applies_to(a)}
    assert broken == {("matching_pursuit", "permuted_encoder"), ("foreign", "permuted_encoder")}
    assert all("\n" not in CONTROLS[c].applies_to(a) for a, c in broken)


def test_controls_by_what_the_sae_is_saved_as():
    saved = ("standard", "topk", "abstopk", "jumprelu", "gated", "matching_pursuit", "foreign")
    assert set(saved) == {*LAYOUTS, "foreign"}
    exist = {kind: {name for name, control in CONTROLS.items() if not control.applies_to(kind)} for kind in saved}
    less = set(CONTROLS) - {"permuted_encoder"}
    assert exist == {kind: less if kind in ("matching_pursuit", "foreign") else set(CONTROLS) for kind in saved}


def test_an_arm_that_does_not_exist_is_refused_in_one_line(moments):
    shape = Shape("matching_pursuit", D_IN, D_SAE, L0)
    with pytest.raises(ValueError, match=r"^frozen_encoder@iso does not exist for matching_pursuit: .* no encoder"):
        parse_arm("frozen_encoder").start(shape, moments, 0)
