from __future__ import annotations

import pytest

from sae_sanity.baselines import CONTROLS, baseline_classes, parse_arm


@pytest.mark.parametrize(
    "text",
    [
        "trained",
        "frozen_decoder@iso",
        "frozen_decoder@cov",
        "frozen_encoder@iso",
        "soft_frozen@0.9",
        "random",
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
        "frozen_decoder": {"decoder"},
        "soft_frozen": set(),
        "frozen_encoder": {"encoder"},
        "random": {"encoder", "decoder"},
    }
    assert set(CONTROLS) == {"permuted_decoder", "permuted_encoder", "random_latents"}
