from __future__ import annotations

import dataclasses
import itertools

import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPTSw3Tokenizer, PreTrainedTokenizerFast

from sae_sanity.suites.causal_editing.positions import find_prompt

TEXTS = [
    "Paris is a city in the country of France.",
    "People in New York and in Tokyo speak many languages, in Lima they speak Spanish.",
    "the country of the city is a country in the continent",
] * 4
TEMPLATES = [
    "%s is a city",
    "Paris is in France. %s is a city in the country of",
    "People in %s, they speak",
    "the city (%s) is",
    "the country of %s",
    "Paris: France. Paris and %s: ",
]
ENTITIES = ["Paris", "New York", "São Paulo", "東京", "🙂🗼", "Lima", "Łódź"]


def byte_level(**settings):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainer)
    return fast(tokenizer, **settings)


def byte_level_trimmed():
    """With GPT-2's post-processor, which takes the space off a token's span."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def metaspace_bpe():
    """Llama 2's: a space put in front by the normaliser, and bytes for what it does not know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    # Word by word: nothing splits a text here, so that it would learn tokens across words.
    words = " ".join(TEXTS).split()
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", *BYTES]))
    return fast(tokenizer, unk_token="<unk>")


def metaspace_unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    letters = sorted({*"".join(ENTITIES + TEMPLATES)} - {" "})
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", initial_alphabet=letters
    )
    tokenizer.train_from_iterator([*TEXTS, *ENTITIES], trainer)
    return fast(tokenizer, unk_token="<unk>")


def word_level():
    texts = [template % entity for template in TEMPLATES for entity in ENTITIES]
    words = sorted({word for text in texts for word, _ in WORDS.pre_tokenize_str(text)})
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0} | {w: i + 1 for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WORDS
    return fast(tokenizer, unk_token="<unk>")


def fast(tokenizer, **settings):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", **settings)


WORDS = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
KINDS = {
    "byte_level": byte_level,
    "byte_level_trimmed": byte_level_trimmed,
    "metaspace_bpe": metaspace_bpe,
    "metaspace_unigram": metaspace_unigram,
    "word_level": word_level,
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A tokenizer without offsets: SentencePiece's own library behind transformers' Python class."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "texts.txt").write_text("\n".join([*TEXTS, *ENTITIES]))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "sw3"), vocab_size=400, hard_vocab_limit=False,
        byte_fallback=True, model_type="bpe", character_coverage=0.98, minloglevel=2, pad_id=3,
    )  # fmt: skip
    tokenizer = GPTSw3Tokenizer(str(folder / "sw3.model"))
    assert not tokenizer.is_fast
    return tokenizer


@pytest.fixture(scope="module", params=[*KINDS, "slow"])
def tokenizer(request):
    return request.getfixturevalue("slow") if request.param == "slow" else KINDS[request.param]()


def with_tokenizer(make_site, tokenizer, **settings):
    return dataclasses.replace(make_site(), tokenizer=tokenizer, **({"context_size": 256} | settings))


def joined(text):
    """A text without its spaces: word tokenizers do not know where they were, others put one in front."""
    return "".join(text.split())


# against decoding


@pytest.mark.parametrize("bos", [None, 0])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("entity", ENTITIES)
def test_the_tokens_up_to_the_position_end_with_the_entity(make_site, tokenizer, bos, template, entity):
    site = with_tokenizer(make_site, tokenizer, bos_token_id=bos)
    prompt = find_prompt(site, template, entity, "Country", "France")
    assert [list(prompt.tokens)] == site.tokenise([template % entity])
    assert prompt.text == template % entity
    start = 0 if bos is None else 1
    through, before = (
        joined(tokenizer.decode(prompt.tokens[start:end])) for end in (prompt.position + 1, prompt.position)
    )
    wanted = joined(template.split("%s")[0] + entity)
    # A token may hold more than the entity's last character, never less.
    assert through.startswith(wanted)
    assert not before.startswith(wanted)


def test_they_end_with_nothing_behind_the_entity(make_site, tokenizer):
    site = with_tokenizer(make_site, tokenizer)
    # None of these tokenizers merges an entity's end with what follows it; one that does is below.
    for template, entity in itertools.product(TEMPLATES, ENTITIES):
        prompt = find_prompt(site, template, entity, "a", "b")
        assert joined(tokenizer.decode(prompt.tokens[1 : prompt.position + 1])).endswith(joined(entity))


def test_a_character_in_several_tokens_ends_with_the_last_of_them(make_site):
    tokenizer = byte_level()
    prompt = find_prompt(with_tokenizer(make_site, tokenizer, bos_token_id=None), "%s is", "東", "a", "b")
    assert len(tokenizer("東")["input_ids"]) == 3
    assert prompt.position == 2


def test_a_token_that_runs_on_behind_the_entity_is_the_entitys_last(make_site):
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("is, and")])
    prompt = find_prompt(with_tokenizer(make_site, tokenizer), "In %s, and", "Paris", "a", "b")
    assert tokenizer.decode(prompt.tokens[prompt.position]) == "is, and"


def test_an_entity_named_before_its_place_is_not_it(make_site, tokenizer):
    site = with_tokenizer(make_site, tokenizer)
    prompt = find_prompt(site, "Paris and Lima and %s and Paris", "Lima", "a", "b")
    other = find_prompt(site, "Paris and %s and Lima and Paris", "Lima", "a", "b")
    assert prompt.tokens == other.tokens
    assert prompt.position > other.position


# against SAEBench


def of_saebench(tokenizer, template):
    """`final_entity_token_pos` of `sae_bench.evals.ravel.instance.RAVELInstance.create_prompts`."""
    return -len(tokenizer.encode(template.split("%s")[1]))


def test_saebench_with_a_bos_token(make_site):
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    site = with_tokenizer(make_site, tokenizer)
    for entity in ENTITIES:
        prompt = find_prompt(site, "Paris is in France. %s is a city in the", entity, "a", "b")
        assert list(prompt.tokens) == tokenizer.encode(prompt.text)
        assert prompt.position - len(prompt.tokens) == of_saebench(tokenizer, prompt.template)


def test_saebench_without_a_bos_token_is_one_past_the_entity(make_site):
    tokenizer = byte_level()
    site = with_tokenizer(make_site, tokenizer, bos_token_id=None)
    for entity in ENTITIES:
        prompt = find_prompt(site, "Paris is in France. %s is a city in the", entity, "a", "b")
        assert list(prompt.tokens) == tokenizer.encode(prompt.text)
        theirs = len(prompt.tokens) + of_saebench(tokenizer, prompt.template)
        assert theirs == prompt.position + 1
        assert tokenizer.decode(prompt.tokens[theirs]) == " is"


# bad input


@pytest.mark.parametrize("template", ["no place", "%s and %s"])
def test_a_template_has_one_place(make_site, template):
    with pytest.raises(ValueError, match="exactly one %s"):
        find_prompt(make_site(), template, "w1", "a", "b")


@pytest.mark.parametrize("entity", ["", "  "])
def test_an_entity_is_not_empty(make_site, entity):
    with pytest.raises(ValueError, match="must not be empty"):
        find_prompt(make_site(), "%s is", entity, "a", "b")


def test_space_behind_an_entity_is_not_its_end(make_site):
    assert find_prompt(make_site(), "%s w2", "w1 ", "a", "b").position == 1


def test_a_prompt_beyond_the_context_is_refused(make_site, tokenizer):
    site = with_tokenizer(make_site, tokenizer, context_size=4)
    with pytest.raises(ValueError, match=r"'Paris .*tokens, more than the context of 4") as error:
        find_prompt(site, "%s is a city in the country of", "Paris", "a", "b")
    assert "\n" not in str(error.value)


def test_a_prompt_of_just_the_context_is_not(make_site):
    assert find_prompt(make_site(context_size=4), "%s w2 w3", "w1", "a", "b").tokens == (0, 3, 4, 5)


def test_an_entity_that_the_tokenizer_drops_is_not_found(make_site):
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("Paris", "")
    with pytest.raises(ValueError, match="cannot find the last token of entity 'Paris'"):
        find_prompt(with_tokenizer(make_site, tokenizer), "%s is", "Paris", "a", "b")


def test_a_slow_tokenizer_that_rewrites_the_text_is_refused(make_site, slow):
    with pytest.raises(ValueError, match="cannot find the last token"):
        find_prompt(with_tokenizer(make_site, slow), "%s is", "ﬁ Ⅳ", "a", "b")
