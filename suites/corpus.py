"""The demo's texts: English prose from the prompts of `sae-probes` that a run does not probe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from .documents import Pool, Wanted, probed_prints, prompts, split
from .probe_data import related_files
from .texts import TextSet

SOURCES = (
    "94_ai_gen",  # school essays, by pupils and by language models
    "100_news_fake",  # news articles, true and made up
    "45_context_ans",  # news, fiction, forum posts and blogs, as contexts of questions
    "111_yelp_data",  # shop reviews
    "157_amazon_5star",  # shop reviews
    "101_disease_class",  # abstracts of medical papers
    "98_cancer_cat",  # papers on cancer
    "48_cm_correct",  # stories of everyday conflicts
    "57_wikidatais_alive",  # passages of web pages and books that name a person
    "56_wikidatasex_or_gender",
    "58_wikidatapolitical_party",
    "62_wikidata_occupation_ispolitician",
    "59_wikidata_occupation_isjournalist",
    "60_wikidata_occupation_isathlete",
    "63_wikidata_occupation_issinger",
    "61_wikidata_occupation_isactor",
    "64_wikidata_occupation_isresearcher",
    "86_social_iqa",  # small stories with a question
    "90_glue_qnli",  # a question and a sentence of an encyclopedia
    "97_news_class",  # news in brief
)
"""Tables with long natural prose: no code, no lists of names, no formulas, no tweets. In this order a text that occurs
in several of them is taken from the first one. Tables of a probed family are left out of a run."""


@dataclass(frozen=True)
class DemoTexts:
    """Three sets of texts. No document, and no run of 80 letters, is in two of them or in a probed prompt."""

    train: TextSet
    """What SAEs are trained on: passages, up to six of a document."""
    calibration: TextSet
    """What thresholds are set on, one passage of each document."""
    held_out: TextSet
    """What is measured, one passage of each document: the documents are the units of the statistics."""
    counts: dict[str, int]
    """Texts read, too short, duplicate or near-duplicate, shared with a probed dataset, kept; and training tokens."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, with counts, in one line for the report."""
        return (
            "texts: {read} prompts of sae-probes tables that are not probed; left out {short} of under "
            "240 characters, {duplicate} that share 80 letters in a row with another one, {probed} that do so "
            "with a probed prompt; {kept} documents kept".format(**self.counts),
        )


def demo_texts(
    *,
    n_train_tokens: int,
    n_calibration_tokens: int,
    n_held_out_docs: int,
    exclude_datasets: Collection[str],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    context_size: int = 128,
) -> DemoTexts:
    """Choose the texts of a run on the demo model.

    The documents are split first: held-out ones, then calibration, then training. Training takes the first passage of
    every document before the second of any, so that a small budget still meets many documents.

    Args:
        n_train_tokens: Training tokens wanted; passages are added until there are as many, BOS not counted.
        n_calibration_tokens: Calibration tokens wanted.
        n_held_out_docs: Held-out documents.
        exclude_datasets: Probing datasets of the run. Their families are not read, and a text that shares 80 letters
            in a row with one of their prompts is left out.
        tokenizer: Counts the tokens.
        seed: Decides the order.
        context_size: Tokens per passage, BOS included.

    Raises:
        ValueError: A dataset is unknown, or there are not enough texts; the message says how many there are.
    """
    documents, counts = _documents(exclude_datasets)
    wanted = Wanted(n_train_tokens, n_calibration_tokens, n_held_out_docs, context_size, seed)
    found = split(documents, wanted, tokenizer)
    if short := found.shortage(wanted, "the demo's texts have"):
        raise ValueError(short)
    return DemoTexts(
        train=found.train,
        calibration=found.calibration,
        held_out=found.held_out,
        counts=counts | {"train_tokens": found.n_train, "calibration_tokens": found.n_calibration},
    )


def _documents(exclude_datasets: Collection[str]) -> tuple[list[str], dict[str, int]]:
    """All documents that may be used, each once, and how many were left out for which reason."""
    related = related_files(exclude_datasets)
    pool = Pool(probed_prints(exclude_datasets))
    for name in SOURCES:
        if name not in related:
            for text in prompts(name):
                pool.offer(text)
    return list(pool.documents), pool.counts
