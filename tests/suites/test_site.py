from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_site import tiny_model, tiny_tokenizer
from torch.nn import functional
from transformers import PreTrainedTokenizerBase
from zoo import ARCHITECTURES, random_model

from sae_sanity.suites.site import _describe_tokenizer

HOOKS = [
    "blocks.1.hook_resid_post",
    "blocks.1.hook_resid_pre",
    "blocks.1.hook_attn_out",  # the module returns a tuple
    "blocks.1.hook_mlp_out",
    "blocks.2.hook_resid_post",
]


def negated(acts):
    return -acts


def some(tokens):
    """A third of the cells, without position 0."""
    where = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    where[:, 0] = False
    return where


def losses_of(logits, tokens):
    per_token = functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )
    return per_token.view(len(tokens), -1)


def hooked_losses(site, tokens, edit, where):
    """The same edit by PyTorch's own hooks."""

    def replaced(value):
        hidden = (value[0] if isinstance(value, tuple) else value).clone()
        hidden.view(*where.shape, -1)[where] = edit(hidden.view(*where.shape, -1)[where].float()).to(hidden.dtype)
        return (hidden, *value[1:]) if isinstance(value, tuple) else hidden

    module = site.model.get_submodule(site.hook.module)
    if site.hook.side == "input":
        handle = module.register_forward_pre_hook(lambda _, args: replaced(args))
    else:
        handle = module.register_forward_hook(lambda _, args, output: replaced(output))
    try:
        with torch.no_grad():
            return losses_of(site.model(tokens).logits, tokens)
    finally:
        handle.remove()


# activations


def test_activations_are_float32_whatever_the_model_is(make_site, tokens):
    site = make_site(tiny_model().bfloat16())
    assert site.activations(tokens).dtype == torch.float32
    assert site.raw_activations(tokens).dtype == torch.bfloat16
    assert torch.equal(site.activations(tokens), site.raw_activations(tokens).float())


def test_the_model_runs_no_further_than_the_hook(make_site, tokens):
    site = make_site(hook_name="blocks.0.hook_resid_post")
    ran = []
    for name, module in site.model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    site.activations(tokens)
    assert "model.layers.0" in ran
    assert not [name for name in ran if name.startswith(("model.layers.1", "model.layers.2", "lm_head"))]


def test_no_gradients_are_kept(make_site, tokens):
    assert not make_site().activations(tokens).requires_grad
    assert not make_site().token_losses(tokens, negated, some(tokens)).requires_grad


def test_d_in_is_asked_of_the_model(make_site):
    assert make_site().d_in == 16
    assert make_site(hook_name="model.layers.1.mlp.up_proj").d_in == 32


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_padding_changes_nothing(make_site, dtype, tolerance):
    site = make_site(tiny_model().to(dtype))
    rows = [[0, 5, 6, 7], [0, 9, 3, 4, 8, 11, 12, 13, 14], [0, 3]]
    tokens, mask = site.pad(rows)
    acts = site.activations(tokens, mask)
    for row, act in zip(rows, acts, strict=True):
        alone = site.activations(torch.tensor([row]))[0]
        assert (act[: len(row)] - alone).norm() <= tolerance * alone.norm()


def test_what_is_in_the_padding_changes_nothing(any_model, make_site):
    site = make_site(any_model)
    tokens, mask = site.pad([[0, 5, 6, 7], [0, 9, 3, 4, 8, 11]])
    other = torch.where(mask, tokens, 77)
    torch.testing.assert_close(site.activations(tokens, mask)[mask], site.activations(other, mask)[mask])


# losses


def test_clean_losses_against_the_model(any_model, make_site, tokens):
    with torch.no_grad():
        expected = losses_of(any_model(tokens).logits, tokens)
    found = make_site(any_model).token_losses(tokens, None, some(tokens))
    assert found.shape == (3, 10)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("hook_name", HOOKS)
def test_an_identity_edit_is_a_clean_run(make_site, tokens, hook_name):
    site = make_site(tiny_model().bfloat16(), hook_name)
    where = torch.ones_like(tokens, dtype=torch.bool)
    clean = site.token_losses(tokens, None, where)
    assert torch.equal(site.token_losses(tokens, lambda acts: acts, where), clean)


@pytest.mark.parametrize("hook_name", HOOKS)
def test_an_edit_against_plain_forward_hooks(make_site, tokens, hook_name):
    site = make_site(hook_name=hook_name)
    where = some(tokens)
    found = site.token_losses(tokens, negated, where)
    assert torch.equal(found, hooked_losses(site, tokens, negated, where))
    assert not torch.allclose(found, site.token_losses(tokens, None, where))


def test_an_edit_in_any_model(any_model, make_site, tokens):
    for kind in ("resid_post", "mlp_out"):
        site = make_site(any_model, f"blocks.1.hook_{kind}")
        where = some(tokens)
        expected = hooked_losses(site, tokens, negated, where)
        torch.testing.assert_close(site.token_losses(tokens, negated, where), expected)


def test_the_edit_is_given_the_activations_at_where_in_order(make_site, tokens):
    site = make_site(tiny_model().bfloat16())
    where, given = some(tokens), []
    site.token_losses(tokens, lambda acts: given.append(acts) or acts, where)
    assert given[0].dtype == torch.float32
    assert torch.equal(given[0], site.activations(tokens)[where])


def test_an_edit_changes_no_loss_before_it(make_site, tokens):
    site = make_site()
    where = torch.zeros_like(tokens, dtype=torch.bool)
    where[:, 6] = True
    clean, edited = site.token_losses(tokens, None, where), site.token_losses(tokens, negated, where)
    assert torch.equal(clean[:, :6], edited[:, :6])
    assert not torch.allclose(clean[:, 6:], edited[:, 6:])


def test_an_edit_leaves_the_model_as_it_was(make_site, tokens):
    site = make_site()
    before = site.token_losses(tokens, None, some(tokens))
    site.token_losses(tokens, negated, some(tokens))
    assert torch.equal(site.token_losses(tokens, None, some(tokens)), before)


def test_an_error_in_an_edit_reaches_the_caller(make_site, tokens):
    def broken(acts):
        raise ZeroDivisionError("in the edit")

    site = make_site()
    with pytest.raises(ZeroDivisionError, match="in the edit"):
        site.token_losses(tokens, broken, some(tokens))
    assert torch.isfinite(site.token_losses(tokens, None, some(tokens))).all()


@pytest.mark.parametrize("hook_name", HOOKS)
@pytest.mark.parametrize("edit", [None, negated])
def test_upstream_gives_the_same_numbers(make_site, tokens, hook_name, edit):
    site = make_site(tiny_model().bfloat16(), hook_name)
    upstream = site.raw_activations(tokens)
    expected = site.token_losses(tokens, edit, some(tokens))
    assert torch.equal(site.token_losses(tokens, edit, some(tokens), upstream=upstream), expected)


def test_upstream_gives_the_same_numbers_in_any_model(any_model, make_site, tokens):
    site = make_site(any_model)
    upstream = site.raw_activations(tokens)
    expected = site.token_losses(tokens, negated, some(tokens))
    assert torch.equal(site.token_losses(tokens, negated, some(tokens), upstream=upstream), expected)


def test_upstream_runs_no_layer_up_to_the_hook(make_site, tokens):
    site = make_site()
    upstream = site.raw_activations(tokens)
    site.token_losses(tokens, None, some(tokens), upstream=upstream)  # looks once at what a layer returns
    ran = []
    for name, module in site.model.named_modules():
        if name.endswith("mlp.up_proj"):
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    site.token_losses(tokens, negated, some(tokens), upstream=upstream)
    assert ran == ["model.layers.2.mlp.up_proj"]


# tokens


def test_tokenise_puts_bos_first_and_cuts(make_site):
    site = make_site(context_size=4)
    assert site.tokenise(["w0 w1", "w0 w1 w2 w3 w4", ""]) == [[0, 2, 3], [0, 2, 3, 4], [0]]
    assert site.tokenise([]) == []


def test_tokenise_without_bos(make_site):
    assert make_site(bos_token_id=None, context_size=3).tokenise(["w0 w1 w2 w3"]) == [[2, 3, 4]]


def test_pad_is_on_the_right(make_site):
    tokens, mask = make_site().pad([[0, 5], [0, 6, 7]])
    assert tokens.tolist() == [[0, 5, 0], [0, 6, 7]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]


def test_pad_of_nothing(make_site):
    tokens, mask = make_site().pad([])
    assert tokens.shape == mask.shape == (0, 0)


# bad input


def test_an_unknown_hook_is_refused_at_once(make_site):
    with pytest.raises(ValueError, match=r"no such hook 'blocks\.9\.hook_resid_post'"):
        make_site(hook_name="blocks.9.hook_resid_post")


@pytest.mark.parametrize("settings", [{"context_size": 1}, {"batch_size": 0}])
def test_sizes_are_checked(make_site, settings):
    with pytest.raises(ValueError, match="must be at least"):
        make_site(**settings)


# fingerprint


def test_the_fingerprint_is_that_of_the_contents(make_site, tmp_path):
    one, other = make_site(), make_site(cache=tmp_path / "elsewhere")
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"hook_name": "blocks.0.hook_resid_post"},
        {"hook_name": "blocks.1.hook_resid_pre"},
        {"context_size": 31},
        {"bos_token_id": None},
        {"bos_token_id": 1},
        {"batch_size": 5},
        {"model": tiny_model(seed=1)},
        {"model": tiny_model().bfloat16()},
    ],
    ids=str,
)
def test_everything_that_decides_an_activation_is_in_the_fingerprint(make_site, change):
    assert make_site(**change).fingerprint != make_site().fingerprint


def test_one_weight_changes_the_fingerprint(make_site):
    model = tiny_model()
    model.model.layers[2].mlp.up_proj.weight.data[3, 4] += 1e-6
    assert make_site(model).fingerprint != make_site().fingerprint


def test_configuration_and_tokenizer_change_the_fingerprint(make_site):
    model = tiny_model()
    model.config.rms_norm_eps = 1e-3
    assert make_site(model).fingerprint != make_site().fingerprint
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["unheard"])
    assert dataclasses.replace(make_site(), tokenizer=tokenizer).fingerprint != make_site().fingerprint


def test_using_a_site_does_not_change_its_fingerprint(make_site, tokens):
    site = make_site()
    site.tokenise(["w0 " * 50, "w1"])
    site.token_losses(tokens, negated, some(tokens))
    assert site.fingerprint == make_site().fingerprint


def test_a_tokenizer_without_a_fast_backend_is_known_by_its_vocabulary():
    class Slow(PreTrainedTokenizerBase):
        def __init__(self):
            pass

        def __getattr__(self, name):
            raise AttributeError(name)

        def get_vocab(self):
            return {"w0": 0}

    assert _describe_tokenizer(Slow()) == {"w0": 0}


def test_where_a_model_was_loaded_from_does_not_change_the_fingerprint(make_site):
    model = random_model(ARCHITECTURES["llama"]())
    before = make_site(model).fingerprint
    model.config._name_or_path = "/somewhere/else"
    assert make_site(model).fingerprint == before
