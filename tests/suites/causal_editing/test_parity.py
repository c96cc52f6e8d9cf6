"""SAEBench's RAVEL itself, on a tiny GPT-NeoX: same pairs, mask and positions, same logits, masks and scores.

Ours runs through `PlainRuns`, forward hooks and left padding written here; SAEBench's runs its own code, with layers
that return tuples as in transformers 4 (`suites.saebench.ravel`). The last tests hold what SAEBench does and we do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from sae_bench.evals.ravel import intervention, main, mdbm
from sae_bench.evals.ravel.eval_config import RAVELEvalConfig
from sae_bench.evals.ravel.generation import custom_left_padding
from sae_bench.evals.ravel.instance import RAVELInstance
from sae_bench.evals.ravel.validation import evaluate_completion
from sae_bench.sae_bench_utils import activation_collection
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata
from tiny_saes import randomise
from tiny_site import tiny_tokenizer
from zoo import ARCHITECTURES, random_model

from sae_sanity.suites.causal_editing.coded import code
from sae_sanity.suites.causal_editing.editor import Editor
from sae_sanity.suites.causal_editing.mdbm import Wanted, edited, mask_values, temperatures
from sae_sanity.suites.causal_editing.prompt import Prompt
from sae_sanity.suites.saebench.ravel import layer_with_tuples

LAYER, PAD, N_TOKENS = 1, 1, 3
BATCH, D_IN, D_SAE = 6, 16, 40


@pytest.fixture(autouse=True)
def _as_in_transformers_4(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(activation_collection, "get_module", layer_with_tuples)


@pytest.fixture(scope="module")
def model():
    model = random_model(ARCHITECTURES["neox_parallel"]()).requires_grad_(False)
    model.generation_config.eos_token_id = None  # nothing ends early, see test_answers_that_end_early
    model.generation_config.pad_token_id = PAD
    return model


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def make_sae(architecture, normalisation="none"):
    sae_class, cfg_class = get_sae_class(architecture)
    options = {"k": 8} if architecture == "topk" else {}
    metadata = SAEMetadata(hook_name=f"blocks.{LAYER}.hook_resid_post", model_name="tiny", prepend_bos=True)
    sae = sae_class(
        cfg_class(d_in=D_IN, d_sae=D_SAE, metadata=metadata, normalize_activations=normalisation, **options)
    )
    sae.cfg.hook_layer = LAYER  # where SAEBench looks
    return randomise(sae, 4)


@pytest.fixture(scope="module", params=[("topk",), ("jumprelu",), ("topk", "layer_norm")], ids="-".join)
def sae(request):
    return make_sae(*request.param)


@dataclass(frozen=True)
class PlainRuns:
    """Forward hooks on left-padded prompts, whole and without a cache."""

    model: torch.nn.Module
    prompts: list[list[int]]
    positions: list[int]
    """From the end, as SAEBench counts."""

    def logits(self, which, rows):
        return self._run(self._padded(which), which, rows)

    def clean(self, which):
        seen = []
        layer = self.model.gpt_neox.layers[LAYER]
        handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
        with torch.no_grad():
            self._run(self._padded(which), which, None)
        handle.remove()
        return seen[0][range(len(which)), [self.positions[i] for i in which]]

    def generate(self, which, rows, n_tokens):
        tokens, said = self._padded(which), []
        for number in range(n_tokens):
            with torch.no_grad():
                said.append(self._run(tokens, which, rows, after=number).argmax(1))
            tokens = torch.cat([tokens, said[-1][:, None]], dim=1)
        return torch.stack(said, dim=1)

    def _padded(self, which):
        width = max(map(len, self.prompts))
        return torch.tensor([[PAD] * (width - len(self.prompts[i])) + self.prompts[i] for i in which])

    def _run(self, tokens, which, rows, after=0):
        def put(_module, _inputs, output):
            changed = output.clone()
            changed[range(len(which)), [self.positions[i] - after for i in which]] = rows
            return changed

        handles = [] if rows is None else [self.model.gpt_neox.layers[LAYER].register_forward_hook(put)]
        logits = self.model(tokens, attention_mask=(tokens != PAD).long()).logits[:, -1]
        for handle in handles:
            handle.remove()
        return logits


@pytest.fixture(scope="module")
def runs(model):
    """Prompts of unequal length; the longest is in every test's base and source prompts."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(4, 10, (16,), generator=generator)
    lengths[0] = 10
    prompts = [torch.randint(2, 152, (int(n),), generator=generator).tolist() for n in lengths]
    positions = [-int(torch.randint(1, 4, (1,), generator=generator)) for _ in prompts]
    return PlainRuns(model, prompts, positions)


@pytest.fixture(scope="module")
def wanted():
    """Half cause pairs, half isolation pairs, in the order of no loader yet; 12 are two full batches."""
    generator = torch.Generator().manual_seed(3)
    base, source = torch.randint(0, 16, (2, 12), generator=generator)
    base[0], source[1] = 0, 0
    return Wanted(tuple(base.tolist()), tuple(source.tolist()), tuple(range(20, 32)))


def pairs_for_saebench(runs, wanted, isolation, labels):
    """The tuples that `create_dataloaders` makes; where the base's token is the wanted one, it is an isolation pair."""
    base_tokens = [t if keep else t + 50 for t, keep in zip(wanted.token, isolation, strict=True)]
    ids = ([runs.prompts[i] for i in which] for which in (wanted.base, wanted.source))
    positions = ([runs.positions[i] for i in which] for which in (wanted.base, wanted.source))
    none, texts = [None] * len(wanted), [f"pair {number}" for number in range(len(wanted))]
    return list(zip(*ids, none, none, *positions, base_tokens, wanted.token, texts, labels, strict=True))


@pytest.fixture
def loader(runs, model, tokenizer, config, monkeypatch):
    monkeypatch.setattr(main, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda _: tokenizer))

    def make(wanted, isolation=None, labels=None):
        isolation = isolation or [number % 2 == 0 for number in range(len(wanted))]
        pairs = pairs_for_saebench(runs, wanted, isolation, labels or ["w3"] * len(wanted))
        # All loaders as wide as the longest prompt, which not every batch holds.
        longest = (runs.prompts[0], runs.prompts[0], *pairs[0][2:])
        batches = main.create_dataloader_from_pairs([*pairs, longest], model, config)
        return batches[: len(pairs) // BATCH]

    return make


@pytest.fixture(scope="module")
def config():
    return RAVELEvalConfig(model_name="tiny", llm_batch_size=BATCH, num_epochs=3, learning_rate=0.05)


@pytest.fixture
def theirs(model, tokenizer, config, sae):
    """SAEBench's MDBM with about half of the latents in its mask."""
    return half_masked(mdbm.MDBM(model, tokenizer, config, sae))


def half_masked(module):
    with torch.no_grad():
        module.binary_mask.copy_(torch.randn(D_SAE, generator=torch.Generator().manual_seed(5)))
    return module


@pytest.mark.parametrize("training", [False, True])
def test_logits_of_an_edit_are_those_of_mdbm(runs, wanted, loader, theirs, sae, training):
    first = wanted.at(range(BATCH))
    theirs.temperature = 0.7
    expected, _ = theirs(*loader(first)[0][:4], training_mode=training)
    mask = torch.sigmoid(theirs.binary_mask / 0.7) if training else theirs.binary_mask > 0
    base, source = code(sae, runs.clean(first.base)), code(sae, runs.clean(first.source))
    rows = base.activations(range(BATCH), edited(base.codes, source.codes, mask, base.decode))
    # A normalisation is undone here with numbers that went through one rounding more.
    tolerance = 0 if sae.cfg.normalize_activations == "none" else 1e-4
    torch.testing.assert_close(runs.logits(first.base, rows), expected, rtol=tolerance, atol=tolerance)
    nothing = base.activations(range(BATCH), base.decode(base.codes))
    assert (runs.logits(first.base, nothing) - expected).abs().max() > 0.01


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_the_error_kept_is_mdbms_option(runs, wanted, loader, model, tokenizer, config, architecture):
    sae = make_sae(architecture)
    theirs = half_masked(mdbm.MDBM(model, tokenizer, config, sae))
    first = wanted.at(range(BATCH))
    encoding, _, positions = loader(first)[0][:3]
    clean = runs.clean(first.base)
    with torch.no_grad():
        base, source = sae.encode(clean), sae.encode(runs.clean(first.source))
        hook = theirs.create_intervention_hook(runs.clean(first.source), positions, add_error=True)
        handle = layer_with_tuples(model, LAYER).register_forward_hook(hook)
        expected = model(encoding["input_ids"], attention_mask=encoding["attention_mask"]).logits[:, -1]
        handle.remove()
        rows = edited(base, source, theirs.binary_mask > 0, sae.decode, clean - sae.decode(base))
    assert torch.equal(runs.logits(first.base, rows), expected)


def test_training_gives_mdbms_mask(runs, wanted, loader, model, tokenizer, config, sae):
    """Six steps on the same batches, the temperature among them."""
    order = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(7)).tolist()
    expected = mdbm.train_mdbm(model, tokenizer, config, sae, loader(wanted.at(order)), None).binary_mask.detach()
    coded = code(sae, runs.clean(range(16)))
    found = mask_values(
        coded.runs(runs),
        wanted,
        coded.codes,
        coded.decode,
        epochs=config.num_epochs,
        lr=config.learning_rate,
        batch_size=BATCH,
        generator=torch.Generator().manual_seed(7),
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert expected.abs().max() > config.learning_rate
    assert 0 < (expected > 0).sum() < D_SAE


def test_temperatures_are_saebenchs(config):
    steps = config.num_epochs * 7
    expected = torch.logspace(torch.log10(torch.tensor(1)), torch.log10(torch.tensor(1e-4)), steps)
    assert temperatures(steps) == pytest.approx(expected.tolist(), rel=1e-6)


def test_cause_and_isolation_are_saebenchs(runs, wanted, loader, theirs, model, tokenizer, sae):
    coded = code(sae, runs.clean(range(16)))
    base, source = list(wanted.base), list(wanted.source)
    rows = edited(coded.codes[base], coded.codes[source], theirs.binary_mask > 0, coded.decode)
    said = tokenizer.batch_decode(coded.runs(runs).generate(base, rows, N_TOKENS))
    # Labels that are right for three of six cause pairs and for two of six isolation pairs.
    right = [True, True, True, True, False, True, False, False, False, False, False, False]
    labels = [text.split()[0] if ok else "nowhere" for text, ok in zip(said, right, strict=True)]
    isolation = [number % 2 == 0 for number in range(12)]
    batches = loader(wanted, isolation, labels)
    expected = intervention.generate_batched_interventions(model, theirs, tokenizer, batches, N_TOKENS)
    correct = [evaluate_completion("", label, text) for label, text in zip(labels, said, strict=True)]
    scores = [sum(c for c, i in zip(correct, isolation, strict=True) if i == kind) / 6 for kind in (True, False)]
    assert expected == tuple(scores) == (2 / 6, 3 / 6)
    clean = tokenizer.batch_decode(runs.generate(wanted.base, None, N_TOKENS))
    assert sum(a != b for a, b in zip(said, clean, strict=True)) >= 6  # the edit says something else


@pytest.fixture
def editor(runs, model, make_site):
    """The same prompts and positions in the editor that the suite uses."""
    site = make_site(model, f"blocks.{LAYER}.hook_resid_post")
    prompts = [
        Prompt(str(tokens), "%s", "Country", "w1", "w2", tuple(tokens), len(tokens) + position)
        for tokens, position in zip(runs.prompts, runs.positions, strict=True)
    ]
    return Editor(site, prompts, batch_size=5)


def test_the_editor_edits_as_saebench_does(editor, runs, wanted, loader, theirs, sae, tokenizer, model):
    """Logits, cause and isolation of the suite's own way: layers and prefixes left out, no padding before a prompt."""
    assert editor.fast
    coded = code(sae, editor.clean())
    base, source = list(wanted.base), list(wanted.source)
    rows = edited(coded.codes[base], coded.codes[source], theirs.binary_mask > 0, coded.decode)
    batches = loader(wanted)
    expected = torch.cat([theirs(*batch[:4])[0] for batch in batches])
    torch.testing.assert_close(coded.runs(editor).logits(base, rows), expected, atol=2e-4, rtol=1e-4)
    said = tokenizer.batch_decode(coded.runs(editor).generate(base, rows, N_TOKENS))
    plain = code(sae, runs.clean(range(16)))
    assert said == tokenizer.batch_decode(plain.runs(runs).generate(base, rows, N_TOKENS))
    labels, isolation = [text.split()[0] for text in said], [number % 2 == 0 for number in range(12)]
    labels[:5] = ["nowhere"] * 5
    found = intervention.generate_batched_interventions(
        model, theirs, tokenizer, loader(wanted, isolation, labels), N_TOKENS
    )
    assert found == (3 / 6, 4 / 6)


# What SAEBench does that we do not, each as a fact about SAEBench.


def test_its_loader_drops_the_last_batch_and_a_small_set_altogether(runs, wanted, model, config, loader):
    pairs = pairs_for_saebench(runs, wanted, [True] * 12, ["w3"] * 12)
    sizes = [len(main.create_dataloader_from_pairs(pairs[:n], model, config)) for n in (12, 11, 6, 5)]
    assert sizes == [2, 1, 1, 0]


def test_a_cause_pair_whose_answers_begin_alike_counts_as_isolation(runs, wanted, loader, theirs, model, tokenizer):
    """As `United States` and `United Kingdom` do: no pair of this loader is an isolation pair, and cause is empty."""
    batches = loader(wanted, [True] * 12, ["nowhere"] * 12)
    with pytest.warns(RuntimeWarning, match="empty slice"):
        isolation, cause = intervention.generate_batched_interventions(model, theirs, tokenizer, batches, N_TOKENS)
    assert isolation == 0
    assert cause != cause


def test_it_computes_gradients_of_the_decoder_and_never_clears_them(wanted, loader, model, tokenizer, config):
    sae = make_sae("topk")
    mdbm.train_mdbm(model, tokenizer, config, sae, loader(wanted), None)
    assert sae.W_dec.grad.abs().max() > 0


def test_without_bos_its_position_is_one_past_the_entity(tokenizer):
    instance = RAVELInstance()
    instance.entityLBL_attrTYP_attrLBL = {"w5 w6": {"Country": "w9"}}
    instance.attribute_type_to_templates = {"Country": ["w40 %s w41 w42", "w40 %s"]}
    instance.template_splits = dict.fromkeys(instance.attribute_type_to_templates["Country"], "train")
    instance.entity_splits = {"w5 w6": "train"}
    inside, at_the_end = instance.build_and_tokenize_prompts(tokenizer)
    assert tokenizer.decode([inside.input_ids[inside.final_entity_token_pos]]) == "w41"
    assert at_the_end.final_entity_token_pos == 0  # the first token of the batch, padding or not


def test_answers_that_end_early(runs, model, tokenizer, loader, theirs, wanted):
    """If every prompt of a batch ends before the last token, the slice from the end holds words of the prompt."""
    first = wanted.at(range(BATCH))
    encoding = loader(first)[0][0]
    everything = list(range(model.config.vocab_size))
    ended = model.generate(
        input_ids=encoding["input_ids"],
        attention_mask=encoding["attention_mask"],
        max_new_tokens=N_TOKENS,
        do_sample=False,
        eos_token_id=everything,
    )
    assert ended.shape[1] == encoding["input_ids"].shape[1] + 1
    assert torch.equal(ended[:, -N_TOKENS:-1], encoding["input_ids"][:, 1 - N_TOKENS :])


def test_padding_hides_true_tokens_that_look_like_it(tokenizer):
    _, mask = custom_left_padding(tokenizer, [[5, PAD, 6], [7]])
    assert mask.tolist() == [[1, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("text", "label", "completion", "found"),
    [
        ("city", "United Kingdom", " united kingdom", False),  # case counts for these two countries only
        ("city", "France", " france", True),
        ("city", "United States", " England", True),  # right for the United Kingdom alone
        ("city", "France", " F", True),  # any beginning of the label
        ("city", "Mandarin Chinese", " n", True),  # any part of the label
        ("language", "Dutch,French", " French", True),
        ("language", "Dutch, French", " French", False),  # the second language keeps its space
        ("latitude", "-33", " 33", True),  # north or south
    ],
)
def test_its_judge_of_completions(text, label, completion, found):
    assert evaluate_completion(text, label, completion) is found


def test_its_qr_turns_the_rotation_of_mdas_around_after_one_step(runs, wanted, loader, model, tokenizer, sae):
    """Adam's memory does not turn with it; `das.orthonormal` keeps the columns on their side."""
    model.config.hidden_size = D_IN
    one = RAVELEvalConfig(model_name="tiny", llm_batch_size=BATCH, num_epochs=1, learning_rate=1e-3)
    module = mdbm.train_mdbm(model, tokenizer, one, sae, loader(wanted.at(range(BATCH))), None, train_mdas=True)
    assert (module.transform_matrix.diagonal() < -0.9).sum() >= D_IN // 2
