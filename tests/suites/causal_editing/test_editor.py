from __future__ import annotations

import dataclasses
import itertools
import weakref

import pytest
import torch
import transformers as tf
from tiny_site import tiny_model
from zoo import ARCHITECTURES, HEADS, SIZES, random_model

from sae_sanity.suites.causal_editing.editor import Editor
from sae_sanity.suites.causal_editing.positions import find_prompt

TEMPLATES = [
    "w1 w2 w3 w4 w5 w1 w2 w3 %s w6 w7",
    "w8 w9 w1 %s w2 w3 w4 w5",
    "%s w12",
    "w1 w2 w3 w4 w5 %s",
]
ENTITIES = ["w20", "w21 w22", "w23 w24 w25", "w26"]
WHICH = [3, 3, 0, 15, 11, 7, 5, 1, 2, 14, 10, 9, 8, 4, 6, 13, 12]
"""All prompts, one of them twice, in no order."""
SHAPES = ["gpt2", "neox_parallel", "llama", "gemma2", "opt", "gptj"]
HOOKS = ["hook_resid_post", "hook_resid_pre", "hook_mlp_out", "hook_attn_out", "attn.hook_z"]
CONFIGS = ARCHITECTURES | {
    "gemma2_sliding": lambda: tf.Gemma2Config(**SIZES, **HEADS, sliding_window=4),
    "falcon_alibi": lambda: tf.FalconConfig(
        vocab_size=152, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, alibi=True
    ),
}
MAMBA = {"vocab_size": 152, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "use_mambapy": False}


@pytest.fixture
def make_editor(make_site):
    """Make an editor of all templates and entities, and say which way it is to go."""

    def make(model=None, hook_name="blocks.1.hook_resid_post", *, plain=False, batch_size=5, templates=None, **site):
        site = make_site(model, hook_name, **site)
        pairs = itertools.product(templates or TEMPLATES, ENTITIES)
        prompts = [find_prompt(site, template, entity, "Country", "w3") for template, entity in pairs]
        editor = Editor(site, prompts, batch_size=batch_size)
        if plain:
            editor.__dict__["why_plain"] = "asked for"
        return editor

    return make


@pytest.fixture(scope="module", params=SHAPES)
def shaped(request):
    return random_model(ARCHITECTURES[request.param]())


def some_rows(editor, n=None):
    n = len(WHICH) if n is None else n
    return torch.randn(n, editor.clean().shape[1], generator=torch.Generator().manual_seed(3))


def assert_same(found, expected):
    """Every row of logits to 1e-5 of its norm, in float32."""
    assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()


class Replaced:
    """A plain forward hook of torch that puts one vector at one position of every row."""

    def __init__(self, site, where, rows):
        self.where, self.rows = where, rows
        module = site.model.get_submodule(site.hook.module)
        if site.hook.side == "input":
            self.handle = module.register_forward_pre_hook(lambda _, args: self.put(args))
        else:
            self.handle = module.register_forward_hook(lambda _, args, output: self.put(output))

    def put(self, value):
        hidden = (value[0] if isinstance(value, tuple) else value).clone()
        cells = hidden.view(len(self.where), -1, hidden.shape[-1])
        # In a pass with a cache the edited token has gone by.
        if cells.shape[1] > max(self.where):
            for row, (position, vector) in enumerate(zip(self.where, self.rows, strict=True)):
                cells[row, position] = vector.to(hidden.dtype)
        return (hidden, *value[1:]) if isinstance(value, tuple) else hidden

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def hooked_logits(editor, which, rows):
    """One batch of whole prompts through the model itself."""
    site, prompts = editor._site, [editor._prompts[index] for index in which]
    tokens, mask = site.pad([prompt.tokens for prompt in prompts])
    with Replaced(site, [prompt.position for prompt in prompts], rows), torch.no_grad():
        logits = site.model(tokens, **({} if mask.all() else {"attention_mask": mask.long()}), use_cache=False).logits
    return torch.stack([row[len(prompt.tokens) - 1] for row, prompt in zip(logits, prompts, strict=True)]).float()


# the plain way


@pytest.mark.parametrize("hook", HOOKS)
def test_the_plain_way_is_a_forward_hook_bit_for_bit(shaped, make_editor, hook):
    editor = make_editor(shaped, f"blocks.1.{hook}", plain=True, batch_size=100)
    order = sorted(WHICH, key=lambda index: len(editor._prompts[index].tokens))
    rows = some_rows(editor)
    assert torch.equal(editor.logits(order, rows), hooked_logits(editor, order, rows))


def test_the_plain_way_in_any_model(any_model, make_editor):
    editor = make_editor(any_model, plain=True, batch_size=100)
    order = sorted(WHICH, key=lambda index: len(editor._prompts[index].tokens))
    rows = some_rows(editor)
    assert torch.equal(editor.logits(order, rows), hooked_logits(editor, order, rows))


# the fast way


@pytest.mark.parametrize("hook", HOOKS)
def test_the_fast_way_gives_the_same_numbers(shaped, make_editor, hook):
    fast, plain = (make_editor(shaped, f"blocks.1.{hook}", plain=plain) for plain in (False, True))
    assert fast.why_plain == ""
    rows = some_rows(fast)
    assert_same(fast.logits(WHICH, rows), plain.logits(WHICH, rows))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
@pytest.mark.parametrize("attention", ["as_it_is", "eager"])
def test_the_fast_way_in_any_model(architecture, attention, make_editor):
    config = CONFIGS[architecture]()
    if attention == "eager":
        config._attn_implementation = "eager"
    model = random_model(config)
    editor = make_editor(model, hook_name="blocks.0.hook_mlp_out")
    assert editor.fast
    rows = some_rows(editor)
    assert_same(editor.logits(WHICH, rows), hooked_logits(editor, WHICH, rows))


@pytest.mark.parametrize("hook_name", ["blocks.0.hook_resid_pre", "blocks.2.hook_resid_post", "model.norm"])
def test_the_fast_way_at_the_ends_of_the_model(make_editor, hook_name):
    editor = make_editor(hook_name=hook_name)
    assert editor.fast
    rows = some_rows(editor)
    assert_same(editor.logits(WHICH, rows), hooked_logits(editor, WHICH, rows))


def test_sliding_windows_are_shorter_than_the_prompts():
    assert min(len(template.split()) for template in TEMPLATES[:2]) > 4


def test_soft_caps_bind(make_editor):
    config = CONFIGS["gemma2"]()
    config.final_logit_softcapping, config.attn_logit_softcapping = 0.5, 0.5
    model = random_model(config)
    editor = make_editor(model)
    rows = 5 * some_rows(editor)
    logits = editor.logits(WHICH, rows)
    assert logits.abs().max() > 0.4
    assert logits.abs().max() <= 0.5
    assert_same(logits, hooked_logits(editor, WHICH, rows))


def test_without_a_bos_token(make_editor):
    editor = make_editor(bos_token_id=None)
    assert editor.fast
    assert [editor._prefixes.prefix(index) for index in (8, 9)] == [(), ()]
    rows = some_rows(editor)
    assert_same(editor.logits(WHICH, rows), hooked_logits(editor, WHICH, rows))


def test_no_prefix_at_all(make_editor):
    editor = make_editor(bos_token_id=None, templates=["%s w12", "%s w1 w2 w3"])
    assert editor.fast
    rows = some_rows(editor, 8)
    expected = hooked_logits(editor, range(8), rows)
    assert_same(editor.logits(range(8), rows), expected)


def test_a_single_prompt(make_site):
    site = make_site()
    editor = Editor(site, [find_prompt(site, "w1 %s w2", "w5 w6", "a", "b")])
    assert editor.fast
    rows = torch.ones(1, 16)
    assert_same(editor.logits([0], rows), hooked_logits(editor, [0], rows))


def test_the_fast_way_runs_only_what_an_edit_can_change(make_editor):
    editor = make_editor(batch_size=100)
    rows = some_rows(editor, 4)
    seen = []
    for name, module in editor._site.model.named_modules():
        if name.endswith("mlp.up_proj"):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, tuple(args[0].shape))))
    editor.logits([0, 1, 2, 3], rows)
    seen.clear()
    editor.logits([0, 1, 2, 3], rows)
    # Nine tokens of prefix, then one to three of the entity and two behind it.
    assert seen == [("model.layers.2.mlp.up_proj", (4, 5, 16))]


def test_the_head_sees_one_token_per_prompt_in_one_piece(make_editor):
    editor = make_editor(batch_size=100)
    rows = some_rows(editor).requires_grad_()
    seen = []
    editor._site.model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    editor.logits(WHICH, rows)
    # Of a slice the backward pass takes ten times as long, with a copy of the head per prompt.
    assert seen[-1].shape == (len(WHICH), 1, 16)
    assert seen[-1].is_contiguous()


def test_prefixes_never_reach_the_edited_token(make_editor):
    # Entities of one template that begin alike, one of them the beginning of the other.
    editor = make_editor(templates=["w1 w2 %s w3"])
    site = editor._site
    prompts = [find_prompt(site, "w1 w2 %s w3", entity, "a", "b") for entity in ("w5 w6", "w5 w6 w7", "w5 w6 w8")]
    shared = Editor(site, prompts)
    assert [shared._prefixes.prefix(index) for index in range(3)] == [(0, 3, 4, 7)] * 3
    rows = some_rows(shared, 3)
    torch.testing.assert_close(shared.logits([0, 1, 2], rows), hooked_logits(shared, [0, 1, 2], rows))


def test_calls_do_not_change_one_another(make_editor):
    editor = make_editor()
    rows = some_rows(editor)
    first = editor.logits(WHICH, rows)
    editor.generate(WHICH, rows, 5)
    editor.logits(WHICH, -rows)
    assert torch.equal(editor.logits(WHICH, rows), first)


def test_a_model_without_keys_and_values_goes_the_plain_way(make_editor):
    editor = make_editor(random_model(tf.MambaConfig(**MAMBA)), batch_size=100)
    assert not editor.fast
    assert editor.why_plain
    assert "\n" not in editor.why_plain
    order = sorted(WHICH, key=lambda index: len(editor._prompts[index].tokens))
    rows = some_rows(editor)
    assert torch.equal(editor.logits(order, rows), hooked_logits(editor, order, rows))


def test_a_model_that_looks_beyond_its_cache_goes_the_plain_way(make_editor):
    model = tiny_model()
    # Depends on how many tokens are in the pass: no prefix can be left out.
    model.model.norm.register_forward_pre_hook(
        lambda _, args: (args[0] + torch.arange(args[0].shape[1])[:, None] ** 2,)
    )
    editor = make_editor(model)
    assert "logits differ by" in editor.why_plain


# identity


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("plain", [False, True])
def test_an_identity_edit_gives_the_clean_logits(make_editor, hook, plain):
    editor = make_editor(hook_name=f"blocks.1.{hook}", plain=plain)
    everything = range(len(editor._prompts))
    found, expected = editor.logits(everything, editor.clean()), editor.logits(everything, None)
    assert_same(found, expected)
    # What the fast way runs has other shapes than the pass that gave the activations.
    assert not plain or torch.equal(found, expected)


def test_an_identity_edit_of_a_centred_stream(make_editor):
    editor = make_editor(random_model(ARCHITECTURES["gpt2"]()), centre=True)
    everything = range(len(editor._prompts))
    assert editor.clean().mean(dim=1).abs().max() < 1e-6
    clean = editor.logits(everything, None)
    torch.testing.assert_close(editor.logits(everything, editor.clean()), clean, atol=1e-4, rtol=1e-4)


def test_clean_activations_against_the_site(shaped, make_editor):
    editor = make_editor(shaped)
    site = editor._site
    for prompt, found in zip(editor._prompts, editor.clean(), strict=True):
        alone = site.activations(torch.tensor([prompt.tokens]))[0, prompt.position]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
    assert editor.clean().dtype == torch.float32


def test_clean_logits_against_the_model(shaped, make_editor):
    editor = make_editor(shaped)
    with torch.no_grad():
        rows = [editor._site.model(torch.tensor([prompt.tokens])).logits[0, -1] for prompt in editor._prompts]
    expected = torch.stack(rows)
    assert torch.equal(editor.clean_next(), expected.argmax(dim=1))
    tokens = torch.randint(152, (len(WHICH), 3), generator=torch.Generator().manual_seed(5))
    found = editor.clean_logits(WHICH, tokens)
    torch.testing.assert_close(found, expected[WHICH].gather(1, tokens), atol=1e-5, rtol=1e-5)


# order, repeats, dtype


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_rows_come_back_in_the_order_of_which(make_editor, plain, batch_size):
    editor = make_editor(plain=plain, batch_size=batch_size)
    rows = some_rows(editor)
    together = editor.logits(WHICH, rows)
    one_by_one = torch.cat([editor.logits([index], row[None]) for index, row in zip(WHICH, rows, strict=True)])
    assert_same(together, one_by_one)
    continued = editor.generate(WHICH, rows, 3)
    for index, row, tokens in zip(WHICH, rows, continued, strict=True):
        assert torch.equal(editor.generate([index], row[None], 3)[0], tokens)


def test_no_batch_is_held_once_they_are_put_together(make_editor, monkeypatch):
    """Whole vocabularies: the parts, all of them in a row, and that in order would be held three times."""
    editor, parts, alive = make_editor(batch_size=3), [], []
    run, index = editor._logits, torch.Tensor.__getitem__

    def remembered(which, rows):
        found = run(which, rows)
        parts.append(weakref.ref(found))
        return found

    def watched(tensor, key):
        if tuple(tensor.shape) == (len(WHICH), 152):
            alive.append(sum(each() is not None for each in parts))
        return index(tensor, key)

    rows = some_rows(editor)
    expected = editor.logits(WHICH, rows)
    monkeypatch.setattr(editor, "_logits", remembered)
    monkeypatch.setattr(torch.Tensor, "__getitem__", watched)
    found = editor.logits(WHICH, rows)
    monkeypatch.undo()
    assert torch.equal(found, expected)
    assert len(parts) == 6
    assert alive == [0]


@pytest.mark.parametrize("plain", [False, True])
def test_bfloat16(shaped, make_editor, plain):
    exact = make_editor(shaped)
    model = type(shaped)(shaped.config).eval()
    model.load_state_dict(shaped.state_dict())
    editor = make_editor(model.bfloat16(), plain=plain)
    assert plain or editor.fast
    rows = some_rows(exact)
    found, expected = editor.logits(WHICH, rows), exact.logits(WHICH, rows)
    assert found.dtype == torch.float32
    assert editor.clean().dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_bfloat16_is_a_forward_hook_bit_for_bit(make_editor):
    editor = make_editor(tiny_model().bfloat16(), plain=True, batch_size=100)
    order = sorted(WHICH, key=lambda index: len(editor._prompts[index].tokens))
    rows = some_rows(editor)
    assert torch.equal(editor.logits(order, rows), hooked_logits(editor, order, rows))


# gradients


@pytest.mark.parametrize("hook", ["hook_resid_post", "hook_attn_out"])
@pytest.mark.parametrize("plain", [False, True])
def test_gradients_against_finite_differences(make_editor, hook, plain):
    editor = make_editor(tiny_model().double(), f"blocks.1.{hook}", plain=plain)
    which = [3, 3, 8, 5]
    rows = some_rows(editor, len(which)).double().requires_grad_()
    # Logits come back as float32, so steps are as large as they are.
    torch.autograd.gradcheck(
        lambda rows: editor.logits(which, rows)[:, :7].double(), rows, eps=1e-2, atol=2e-2, rtol=2e-2
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_gradients_of_both_ways(shaped, make_editor, hook):
    gradients = []
    for plain in (False, True):
        editor = make_editor(shaped, f"blocks.1.{hook}", plain=plain)
        rows = some_rows(editor).requires_grad_()
        editor.logits(WHICH, rows).square().sum().backward()
        gradients.append(rows.grad)
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)
    assert gradients[0].norm(dim=1).min() > 0


@pytest.mark.parametrize("plain", [False, True])
def test_weights_get_no_gradient_and_stay_as_they_were(make_editor, plain):
    model = tiny_model()
    model.lm_head.weight.requires_grad_(False)
    editor = make_editor(model, plain=plain)
    before = {name: (weight.requires_grad, weight.clone()) for name, weight in model.named_parameters()}
    rows = some_rows(editor).requires_grad_()
    editor.logits(WHICH, rows).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is None
        assert weight.requires_grad == before[name][0]
        assert torch.equal(weight, before[name][1])


def test_nothing_is_recorded_where_nothing_needs_it(make_editor):
    editor = make_editor()
    rows = some_rows(editor)
    assert not editor.logits(WHICH, rows).requires_grad
    with torch.no_grad():
        assert not editor.logits(WHICH, rows.requires_grad_()).requires_grad


# generation


@pytest.mark.parametrize("plain", [False, True])
def test_generation_against_transformers(shaped, make_editor, plain):
    editor = make_editor(shaped, plain=plain)
    found = editor.generate(WHICH, None, 6)
    for index, tokens in zip(WHICH, found, strict=True):
        prompt = torch.tensor([editor._prompts[index].tokens])
        expected = editor._site.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False
        )[0, prompt.shape[1] :]
        # It stops where it has come to an end; here there is padding from there on.
        assert torch.equal(tokens[: len(expected)], expected)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_generation_with_an_edit_against_a_forward_hook(shaped, make_editor, plain, hook):
    editor = make_editor(shaped, f"blocks.1.{hook}", plain=plain)
    rows = some_rows(editor)
    found, clean = editor.generate(WHICH, rows, 6), editor.generate(WHICH, None, 6)
    assert not torch.equal(found, clean)
    for index, row, tokens in zip(WHICH, rows, found, strict=True):
        prompt = torch.tensor([editor._prompts[index].tokens])
        with Replaced(editor._site, [editor._prompts[index].position], row[None]):
            expected = editor._site.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False
            )[0, prompt.shape[1] :]
        assert torch.equal(tokens[: len(expected)], expected)


@pytest.mark.parametrize("plain", [False, True])
def test_generation_ends_as_that_of_transformers_does(make_editor, plain):
    model = tiny_model()
    editor = make_editor(model, plain=plain)
    free = editor.generate(WHICH, None, 8)
    model.generation_config.eos_token_id = [int(free[0, 2]), int(free[5, 4])]
    model.generation_config.pad_token_id = 77
    found = editor.generate(WHICH, None, 8)
    assert (found == 77).any()
    for index, tokens in zip(WHICH, found, strict=True):
        prompt = torch.tensor([editor._prompts[index].tokens])
        expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
        length = expected.shape[1] - prompt.shape[1]
        assert torch.equal(tokens[:length], expected[0, prompt.shape[1] :])
        assert (tokens[length:] == 77).all()


def test_generation_of_a_model_without_an_end(make_editor):
    model = tiny_model()
    model.generation_config.eos_token_id = None
    editor = make_editor(model)
    assert editor.generate(WHICH, None, 1)[:, 0].tolist() == editor.clean_next()[WHICH].tolist()
    assert editor.generate([0], None, 4).shape == (1, 4)


# bad input


def test_bad_input_is_named(make_editor):
    editor = make_editor()
    rows = some_rows(editor, 2)
    with pytest.raises(ValueError, match="2 rows for 3 prompts"):
        editor.logits([0, 1, 2], rows)
    with pytest.raises(ValueError, match="some of 0 to 15"):
        editor.logits([0, 16], rows)
    with pytest.raises(ValueError, match="some of 0 to 15"):
        editor.generate([], None, 2)
    with pytest.raises(ValueError, match="n_tokens 0 must be at least 1"):
        editor.generate([0, 1], rows, 0)
    with pytest.raises(ValueError, match="vectors of 8 numbers, but the hook has 16"):
        editor.logits([0, 1], rows[:, :8])


def test_prompts_are_checked(make_site):
    site = make_site()
    prompt = find_prompt(site, "w1 %s", "w2", "a", "b")
    with pytest.raises(ValueError, match="must be at least 1"):
        Editor(site, [])
    with pytest.raises(ValueError, match="must be at least 1"):
        Editor(site, [prompt], batch_size=0)
    with pytest.raises(ValueError, match="position 3 is outside the tokens of 'w1 w2'"):
        Editor(site, [dataclasses.replace(prompt, position=3)])
