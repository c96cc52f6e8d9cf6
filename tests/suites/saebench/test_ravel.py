"""RAVEL on transformers 5: SAEBench's hooks see tuples, and do what they do in transformers 4."""

from __future__ import annotations

import json

import pytest
import torch
from saebench_world import results
from tiny_site import WORDS, tiny_model, tiny_tokenizer

from sae_sanity.suites.saebench import LanguageModel, Unavailable
from sae_sanity.suites.saebench.ravel import _tokenizer, layer_with_tuples, mended

SMALL = {
    "entity_attribute_selection": {"city": ["Country", "Continent"]},
    "num_pairs_per_attribute": 12,
    "llm_batch_size": 4,
    "n_generated_tokens": 2,
    "top_n_entities": 12,
    "num_epochs": 1,
    "train_test_split": 0.5,
    "learning_rate": 0.1,
}
TEMPLATES = {"Country": "w42 %s", "Continent": "w46 w47 %s"}


@pytest.fixture
def files(tmp_path, language):
    """RAVEL's four files for cities whose facts are what the tiny model says anyway."""
    folder = tmp_path / "files"
    (folder / "base").mkdir(parents=True)
    cities = WORDS[:12]
    facts = {city: {a: said(language, t % city) for a, t in TEMPLATES.items()} for city in cities}
    named = {
        "entity_attributes": facts,
        "attribute_to_prompts": {a: [t] for a, t in TEMPLATES.items()},
        "prompt_to_split": dict.fromkeys(TEMPLATES.values(), "train"),
        "entity_to_split": dict.fromkeys(cities, "train"),
    }
    for name, value in named.items():
        (folder / f"base/ravel_city_{name}.json").write_text(json.dumps(value))
    return folder


def said(language, text: str) -> str:
    ids = torch.tensor([_tokenizer(language).encode(text)])
    with torch.no_grad():
        return language.tokenizer.decode(language.model(ids).logits[0, -1].argmax())


def test_runs_and_repeats(run, files, tmp_path):
    one = run("ravel", (0, 1), tmp_path / "a", artifact_dir=str(files), **SMALL)
    two = run("ravel", (1, 0), tmp_path / "b", artifact_dir=str(files), **SMALL)
    assert all(0 <= value <= 1 for value in one[0].metrics.values())
    assert set(one[0].metrics) == {f"ravel.{n}" for n in ("cause_score", "isolation_score", "disentanglement_score")}
    numbers = [results(found.file) for found in (*one, *reversed(two))]
    assert numbers[0] == numbers[2]
    assert numbers[1] == numbers[3]
    assert len(list(files.iterdir())) == 1  # what is derived from them goes to our own folder


def test_a_model_that_knows_nothing_is_said(run, files):
    path = files / "base/ravel_city_entity_attributes.json"
    wrong = {city: dict.fromkeys(facts, "nowhere") for city, facts in json.loads(path.read_text()).items()}
    path.write_text(json.dumps(wrong))
    with pytest.raises(Unavailable, match="the language model knows too few of the facts"):
        run("ravel", artifact_dir=str(files), **SMALL)


def test_a_hook_sees_a_tuple_and_changes_the_output():
    model = tiny_model()
    tokens = torch.tensor([[0, 5, 6]])
    seen, shift = [], 3.0

    def hook(_module, _inputs, output):
        seen.append(output)
        return (output[0] + shift, *output[1:])

    handle = layer_with_tuples(model, 1).register_forward_hook(hook)
    with torch.no_grad():
        changed = model(tokens, output_hidden_states=True).hidden_states
        handle.remove()
        before = model(tokens, output_hidden_states=True).hidden_states
    assert isinstance(seen[0], tuple)
    assert torch.equal(seen[0][0], before[2])
    assert torch.equal(changed[2], before[2] + shift)


def test_positions_are_those_of_the_entity(language):
    """SAEBench counts the tokens of the rest of a prompt; with a BOS token of its own the count hits the entity."""
    tokenizer = _tokenizer(language)
    ids, rest = tokenizer.encode("w42 w7 w40 w41"), tokenizer.encode(" w40 w41")
    assert tokenizer.decode([ids[-len(rest)]]) == "w7"
    assert tokenizer.pad_token_id != tokenizer.bos_token_id
    without = _tokenizer(LanguageModel("x", language.model, tiny_tokenizer()))
    assert without.encode("w1") == [3]


def test_a_name_can_be_used_twice_and_nothing_stays(language):
    from sae_bench.evals.ravel import instance, main
    from sae_bench.sae_bench_utils import activation_collection

    before = (main.LLM_NAME_MAP, main.AutoTokenizer, instance.snapshot_download, activation_collection.get_module)
    with mended(language, "cpu"):
        assert main.LLM_NAME_MAP[main.LLM_NAME_MAP["tiny-llama"]] == "tiny-llama"
        assert main.AutoModelForCausalLM.from_pretrained("x", torch_dtype=torch.float64).dtype == torch.float64
    after = (main.LLM_NAME_MAP, main.AutoTokenizer, instance.snapshot_download, activation_collection.get_module)
    assert after == before


def test_the_download_is_not_given_what_hub_1_removed(monkeypatch, language):
    from sae_bench.evals.ravel import instance

    asked = {}
    monkeypatch.setattr(instance, "snapshot_download", lambda **kwargs: asked.update(kwargs))
    with mended(language, "cpu"):
        instance.snapshot_download(repo_id="a/b", local_dir_use_symlinks=False)
    assert asked == {"repo_id": "a/b"}
