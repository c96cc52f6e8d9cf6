"""Recipes from every place that SAELens keeps them."""

from __future__ import annotations

import json

import pytest
from sae_lens.config import LanguageModelSAERunnerConfig, LoggingConfig
from sae_lens.loading.pretrained_sae_loaders import handle_pre_6_0_config
from sae_lens.registry import get_sae_training_class
from tiny_saes import D_IN, D_SAE, TRAINING, edit, make_sae, make_training_sae, save

from sae_sanity.baselines.wrap import RECIPE_FIELDS, BadSAE, Recipe, load_folder, read_recipe, unsupported

OLD = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "context_size": 128,
    "d_in": D_IN,
    "d_sae": D_SAE,
    "l1_coefficient": 8e-05,
    "lr": 0.0004,
    "train_batch_size": 4096,
    "total_training_tokens": 300000000,
    "dtype": "torch.float32",
    "device": "cuda",
    "activation_fn_str": "relu",
}
"""What SAELens before 6 wrote, with the names of its first versions."""


def write(folder, name: str = "cfg.json", **values):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder


def test_every_field_has_a_line():
    assert all(line and "\n" not in line for line in RECIPE_FIELDS.values())


@pytest.mark.parametrize("architecture", TRAINING)
def test_a_new_configuration(architecture, tmp_path):
    sae = make_training_sae(architecture)
    recipe = read_recipe(save(sae, tmp_path))
    saved_as = "jumprelu" if "batchtopk" in architecture else architecture
    assert (recipe.get("architecture"), recipe.get("saved_as")) == (architecture, saved_as)
    assert recipe.source("architecture") == recipe.source("hook_name") == recipe.source("d_sae") == "cfg.json"
    assert (recipe.get("model_name"), recipe.get("hook_name")) == ("tiny", "blocks.1.hook_resid_post")
    assert (recipe.get("context_size"), recipe.get("prepend_bos")) == (32, True)
    assert (recipe.get("dataset_path"), recipe.get("l0")) == ("some/texts", 4.2)
    assert (recipe.get("d_in"), recipe.get("d_sae")) == (D_IN, D_SAE)
    assert recipe.get("k") == getattr(sae.cfg, "k", getattr(sae.cfg, "max_iterations", None))
    for name in ("lr", "tokens", "batch_size", "norm_scaling_factor", "hook_head_index"):
        assert recipe.source(name) == "unknown"
        assert recipe.get(name) is None
    # Each option is a field of SAELens' own training configuration, with the value that it had.
    options = recipe.get("options", {})
    assert all(getattr(sae.cfg, name) == value for name, value in options.items())
    assert "metadata" not in options
    assert "k" not in options


def test_the_options_and_the_coefficient_of_training(tmp_path):
    recipe = read_recipe(save(make_training_sae("matryoshka_batchtopk"), tmp_path))
    assert recipe.get("options")["matryoshka_widths"] == [5, 10, 20]
    assert recipe.get("options")["rescale_acts_by_decoder_norm"] is True
    recipe = read_recipe(save(make_training_sae("jumprelu"), tmp_path))
    assert recipe.get("options")["jumprelu_bandwidth"] == 0.1
    assert recipe.get("sparsity_coefficient") == 0.7
    recipe = read_recipe(save(make_training_sae("topk", rescale_acts_by_decoder_norm=False), tmp_path))
    assert recipe.get("options")["rescale_acts_by_decoder_norm"] is False
    recipe = read_recipe(save(make_training_sae("standard"), tmp_path))
    assert (recipe.get("sparsity_coefficient"), recipe.get("options")["lp_norm"]) == (3.0, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("aux_loss_coefficient", "big"),
        ("aux_loss_coefficient", None),
        ("matryoshka_widths", [1.5]),
        ("use_matryoshka_aux_loss", 1),
        ("matryoshka_widths", 3),
    ],
)
def test_an_option_of_the_wrong_type(tmp_path, name, value):
    save(make_training_sae("matryoshka_batchtopk"), tmp_path)
    metadata = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    metadata["training_architecture_details"][name] = value
    with pytest.raises(BadSAE, match=f"option {name} is"):
        read_recipe(edit(tmp_path, metadata=metadata))


def test_an_old_configuration(tmp_path):
    recipe = read_recipe(write(tmp_path, **OLD))
    theirs = handle_pre_6_0_config(OLD)
    source = "cfg.json (before SAELens 6)"
    for name in ("model_name", "hook_name", "context_size", "dataset_path"):
        assert (recipe.get(name), recipe.source(name)) == (theirs["metadata"][name], source)
    # SAELens itself drops these.
    assert (recipe.get("lr"), recipe.get("sparsity_coefficient")) == (0.0004, 8e-05)
    assert (recipe.get("tokens"), recipe.get("batch_size"), recipe.source("tokens")) == (300_000_000, 4096, source)
    # What SAELens fills in.
    for name in ("prepend_bos", "architecture", "apply_b_dec_to_input", "normalize_activations", "reshape_activations"):
        assert recipe.source(name) == "default"
    assert (recipe.get("prepend_bos"), recipe.get("architecture")) == (True, "standard")
    assert recipe.source("sae_lens_version") == recipe.source("k") == "unknown"


def test_an_old_topk_configuration_and_old_normalisation(tmp_path):
    old = {**OLD, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 7}, "normalize_activations": True}
    recipe = read_recipe(write(tmp_path, **old, prepend_bos=False))
    assert (recipe.get("architecture"), recipe.get("k"), recipe.get("prepend_bos")) == ("topk", 7, False)
    assert recipe.get("normalize_activations") == "expected_average_only_in"
    assert recipe.source("prepend_bos") == recipe.source("normalize_activations") == "cfg.json (before SAELens 6)"
    with pytest.raises(BadSAE, match="has no k"):
        read_recipe(write(tmp_path, **{**old, "activation_fn_kwargs": {}}))


def test_old_hook_z_is_reshaped_as_sae_lens_does(tmp_path):
    recipe = read_recipe(write(tmp_path, **{**OLD, "hook_point": "blocks.3.attn.hook_z"}))
    assert (recipe.get("reshape_activations"), recipe.source("reshape_activations")) == ("hook_z", "default")


@pytest.mark.parametrize("hook_name", [None, 3, "a\nb", ""])
def test_an_old_configuration_without_a_hook(tmp_path, hook_name):
    with pytest.raises(BadSAE, match="hook_name"):
        read_recipe(write(tmp_path, **{**OLD, "hook_point": hook_name}))


def runner(architecture: str) -> dict:
    own = {"k": 4.5} if architecture == "batchtopk" else {}
    sae = get_sae_training_class(architecture)[1](d_in=D_IN, d_sae=D_SAE, **own)
    cfg = LanguageModelSAERunnerConfig(
        sae=sae,
        model_name="tiny-of-the-runner",
        hook_name="blocks.2.hook_resid_post",
        dataset_path="x/y",
        lr=2e-4,
        training_tokens=123_456,
        train_batch_size_tokens=512,
        logger=LoggingConfig(log_to_wandb=False),
        verbose=False,
    )
    return cfg.to_dict()


def test_the_runner_fills_in_what_cfg_json_does_not_say(tmp_path):
    save(make_training_sae("batchtopk"), tmp_path)
    recipe = read_recipe(write(tmp_path, "runner_cfg.json", **runner("batchtopk")))
    assert (recipe.get("lr"), recipe.get("tokens"), recipe.get("batch_size")) == (2e-4, 123_456, 512)
    assert recipe.source("lr") == recipe.source("tokens") == "runner_cfg.json"
    assert (recipe.get("model_name"), recipe.source("model_name")) == ("tiny", "cfg.json")


def test_the_runner_knows_the_training_architecture_of_older_versions(tmp_path):
    save(make_training_sae("batchtopk"), tmp_path)
    edit(tmp_path, metadata={"sae_lens_version": "6.10.0", "hook_name": "blocks.1.hook_resid_post"})
    assert read_recipe(tmp_path).get("architecture") == "jumprelu"
    recipe = read_recipe(write(tmp_path, "runner_cfg.json", **runner("batchtopk")))
    assert (recipe.get("architecture"), recipe.source("architecture")) == ("batchtopk", "runner_cfg.json")
    assert (recipe.get("saved_as"), recipe.get("k")) == ("jumprelu", 4.5)
    assert recipe.get("options")["topk_threshold_lr"] == 0.01
    assert (recipe.get("model_name"), recipe.source("model_name")) == ("tiny-of-the-runner", "runner_cfg.json")
    assert load_folder(tmp_path, name="x").recipe.source("architecture") == "runner_cfg.json"


def test_an_odd_runner_says_nothing_and_a_broken_one_is_refused(tmp_path):
    save(make_sae("standard"), tmp_path)
    odd = {"lr": "fast", "training_tokens": [1], "sae": 3, "train_batch_size_tokens": 1.5, "architecture": [3]}
    recipe = read_recipe(write(tmp_path, "runner_cfg.json", **odd))
    assert all(recipe.source(name) == "unknown" for name in ("lr", "tokens", "batch_size"))
    for value in (["none"], "batch_norm", None, True):
        recipe = read_recipe(write(tmp_path, "runner_cfg.json", normalize_activations=value))
        assert recipe.source("normalize_activations_in_training") == "unknown"
    (tmp_path / "runner_cfg.json").write_text("{")
    with pytest.raises(BadSAE, match=r"runner_cfg\.json: not JSON"):
        read_recipe(tmp_path)


def test_the_registry(tmp_path):
    save(make_sae("standard"), tmp_path)
    extra = {"l0": 71.0, "norm_scaling_factor": 0.25, "normalize_activations": "layer_norm", "neuronpedia": "a/b"}
    recipe = read_recipe(tmp_path, extra=extra)
    assert all(recipe.source(n) == "registry" for n in ("l0", "norm_scaling_factor", "normalize_activations"))
    # 0 is how the registry says that it does not know.
    assert read_recipe(tmp_path, extra={"l0": 0.0}).source("l0") == "unknown"


def test_code_from_a_hub_is_honoured_from_nobody(tmp_path):
    kwargs = {"trust_remote_code": True, "center_writing_weights": False}
    recipe = read_recipe(save(make_sae("standard", metadata={"model_from_pretrained_kwargs": kwargs}), tmp_path))
    assert recipe.get("model_from_pretrained_kwargs") == {"center_writing_weights": False}


def test_later_knowledge_wins_and_none_is_none():
    recipe = Recipe().with_values("a", lr=1.0, k=3).with_values("flag", lr=2.0, k=None)
    assert (recipe.get("lr"), recipe.source("lr"), recipe.source("k")) == (2.0, "flag", "a")
    assert recipe.filled("default", lr=9.0, tokens=5).values.keys() == {"lr", "k", "tokens"}
    assert recipe.filled("default", lr=9.0).get("lr") == 2.0
    with pytest.raises(ValueError, match="no such field"):
        Recipe().with_values("a", learning_rate=1.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architecture": "transcoder", "d_out": 4}, "one site and write another"),
        ({"architecture": "jumprelu_skip_transcoder"}, "one site and write another"),
        ({"architecture": "temporal"}, "tokens before it"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_head_index": 0}}, "hook_head_index 0"),
    ],
)
def test_what_is_skipped_and_why(tmp_path, changes, word):
    folder = save(make_sae("standard"), tmp_path)
    assert unsupported(read_recipe(folder)) == ""
    reason = unsupported(read_recipe(edit(folder, **changes)))
    assert word in reason
    assert "\n" not in reason


def test_cfg_json_is_believed_before_the_runner(tmp_path):
    recipe = read_recipe(write(write(tmp_path, **OLD), "runner_cfg.json", **runner("standard")))
    assert (recipe.get("lr"), recipe.get("tokens"), recipe.get("batch_size")) == (0.0004, 300_000_000, 4096)
    assert recipe.source("lr") == "cfg.json (before SAELens 6)"
