from __future__ import annotations

import pytest
from tiny_site import TINY

from sae_sanity.baselines.wrap import Recipe
from sae_sanity.harness.adopt import adopt, explain
from sae_sanity.harness.config import resolve
from sae_sanity.harness.errors import UsageError

RECIPE = Recipe().with_values(
    "cfg.json",
    model_name="gpt2-small",
    hook_name="blocks.8.hook_resid_pre",
    context_size=64,
    prepend_bos=False,
    dataset_path="some/texts",
    architecture="topk",
    d_in=768,
    d_sae=24576,
    l0=31.0,
)


def given(**flags):
    return resolve({"target": "x", **flags}, environ={})


def test_what_the_sae_says_fills_what_the_user_left_open():
    adopted = adopt(given(), RECIPE)
    assert (adopted.model, adopted.hook_name, adopted.texts) == ("gpt2-small", "blocks.8.hook_resid_pre", "some/texts")
    assert (adopted.architecture, adopted.d_sae, adopted.prepend_bos) == ("topk", 24576, False)
    assert adopted.context_size == 64


def test_l0_is_left_to_be_measured_though_it_is_recorded():
    assert adopt(given(), RECIPE).l0 is None
    assert adopt(given(l0=20), RECIPE).l0 == 20


@pytest.mark.parametrize(
    ("flag", "value"),
    [("model", "a/b"), ("texts", "packaged"), ("hook_name", "blocks.1.hook_mlp_out"), ("architecture", "jumprelu")],
)
def test_flags_win(flag, value):
    assert getattr(adopt(given(**{flag: value}), RECIPE), flag) == value


def test_settings_of_a_file_or_the_environment_win_too():
    settings = resolve({"target": "x"}, environ={"SAE_SANITY_MODEL": "a/b"})
    assert adopt(settings, RECIPE).model == "a/b"


def test_the_profile_s_defaults_do_not_win():
    smoke = resolve({"target": "x", "profile": "smoke"}, environ={})
    assert adopt(smoke, RECIPE).d_sae == 24576


def test_a_long_context_is_cut_to_the_profile_s_and_a_flag_is_obeyed():
    long = RECIPE.with_values("cfg.json", context_size=1024)
    assert adopt(given(), long).context_size == 128
    assert adopt(given(context_size=256), long).context_size == 256


def test_baselines_of_another_width_are_refused():
    with pytest.raises(UsageError, match=r"d_sae is 512, but the SAE has 24576"):
        adopt(given(d_sae=512), RECIPE)
    assert adopt(given(d_sae=24576), RECIPE).d_sae == 24576


def test_an_unknown_language_model_has_to_be_named():
    unnamed = Recipe().with_values("cfg.json", d_sae=8)
    with pytest.raises(UsageError, match="--model"):
        adopt(given(), unnamed)
    adopted = adopt(given(model="a/b"), unnamed)
    assert (adopted.texts, adopted.prepend_bos, adopted.architecture) == ("packaged", True, "batchtopk")


@pytest.mark.parametrize("place", ["/etc", "../x", "~/model", "./model", "a/b/c", "C:\\model"])
def test_a_recipe_cannot_make_us_read_a_folder(place):
    there = RECIPE.with_values("cfg.json", model_name=place, dataset_path=place)
    with pytest.raises(UsageError, match="which is no hub id; name it with --model"):
        adopt(given(), there)
    assert adopt(given(model=place), there).texts == "packaged"


def test_every_value_has_its_source_and_what_is_used_instead():
    lines = explain(RECIPE, adopt(given(hook_name="blocks.1.hook_mlp_out"), RECIPE))
    assert lines["model_name"] == "gpt2-small (cfg.json)"
    assert lines["hook_name"] == "blocks.8.hook_resid_pre (cfg.json); used here: blocks.1.hook_mlp_out (given)"
    assert lines["l0"] == "31 (cfg.json); used here: measured on held-out texts"
    assert lines["lr"] == "unknown; used here: 0.003 (default of profile demo)"
    assert lines["tokens"].startswith("unknown; used here: 245760")
    assert "norm_scaling_factor" not in lines  # unknown, and nothing here needs it


def test_settings_of_a_recipe_target_are_untouched():
    settings = resolve(TINY, environ={})
    assert "d_sae" in settings.given
    assert "seeds" in settings.given
    assert "profile" not in settings.given
