"""The suite `autointerp`: every SAE's latents in one queue, with planted ones among them that try the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..suite import Judging, SuiteContext, Together
from .examples import Layout, Missing, gather
from .interview import interview
from .latent import Latent
from .planted import planted
from .prompts import Decode, Decoder
from .rows import rows_of_sae, rows_of_trial
from .seen import as_seen
from .strata import Choice, choose
from .survey import Corpus, Firings, Survey, collect_firings, survey

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from ..activations import ActivationSet
    from ..judges.judge import Answer
    from ..site import Site
    from ..texts import TextSet

_RANDOM_WINDOWS = 4000
"""Random windows that all latents share."""


class AutoInterp:
    """Detection accuracy of a judge that has explained a latent, by SAEBench's prompts.

    A judge is shown texts in which a latent fires, says what it fires on, and looks for it in other texts. The primary
    metric is the balanced accuracy on as many texts with the latent as without (the paper's layout, chance .5);
    SAEBench's own score in its own layout stands beside it. Latents are drawn from strata of log firing rate over the
    overlap of all SAEs, and no latent of one SAE is matched with one of another.

    Only `encode` is read, so a permuted decoder gives the same questions, and hence the same rows.
    """

    name = "autointerp"
    metric = "detection"
    reads: Literal["encoder", "both"] = "encoder"
    unit = "item = latent, drawn from each SAE anew; replicate = SAE seed"
    margin = 0.02
    note = (
        "detection by a judge in balanced texts, chance .5; latents are drawn from strata of firing rate and weighted "
        "to the mix of the SAE under test; reads only the encoder, so a frozen decoder says nothing here"
    )
    floor, chance, ceiling = "@none", "none", "planted"
    exploratory: tuple[str, ...] = ("detection_saebench",)
    metrics: tuple[str, ...] = (metric, *exploratory)
    sampled = True
    version = 1

    def __init__(
        self,
        site: Site,
        texts: TextSet,
        judging: Judging,
        *,
        n_latents: int,
        layout: Layout,
        seed: int,
        norm_cap: float | None,
    ) -> None:
        """Fix what is asked.

        Args:
            site: where activations come from.
            texts: documents that no arm was trained on.
            judging: who answers.
            n_latents: latents of each SAE.
            layout: which texts are shown.
            seed: decides what is drawn.
            norm_cap: norm above which a token is left out, the one that the training activations had.
        """
        self.site, self.texts, self.judging, self.layout = site, texts, judging, layout
        self.n_latents, self.seed, self.norm_cap = n_latents, seed, norm_cap

    @classmethod
    def build(cls, context: SuiteContext) -> AutoInterp:
        """Make the suite of a check.

        Raises:
            ValueError: the check has no judge, or no texts to read latents in.
        """
        if context.judge is None or context.interpretation is None:
            raise ValueError("autointerp needs a judge and texts")
        options = context.options
        layout = Layout(n_balanced=options["detection_examples"], hard=options["hard_negatives"])
        return cls(
            context.site,
            context.interpretation,
            context.judge,
            n_latents=options["latents"],
            layout=layout,
            seed=options["seed"],
            norm_cap=context.norm_cap,
        )

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return the number of latents of each SAE."""
        return options["latents"]

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        return {
            "texts": self.texts.sha256,
            "activations": self._activations.key,
            "judge": self.judging.judge.identity(),
            "n_latents": self.n_latents,
            "layout": asdict(self.layout),
            "seed": self.seed,
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of what the trial of the judge gives."""
        return ("planted", "shuffled", "nothing", "none")

    def measure_together(self, saes: Sequence[Callable[[], SAE[Any]]], rng: np.random.Generator) -> Together:
        """Measure SAEs that are known by their position alone.

        Raises:
            JudgeUnavailable: when the judge cannot be asked.
            BudgetSpent: when the next question would not fit.
        """
        loaded = [load() for load in saes]
        surveys = survey(self._activations, loaded)
        sampling = choose(surveys, self.n_latents, seed=self.seed)
        choices = sampling.choices
        firings = collect_firings(self._activations, loaded, [choice.latents for choice in choices], self._corpus)
        found = [self._gather(*parts) for parts in zip(firings, choices, surveys, strict=True)]
        trial, names, left_out = self._planted()
        groups = [*found, trial]
        everyone, answers = interview([latent for group in groups for latent in group], self.judging, rng)
        borders = pairwise([0, *accumulate(map(len, groups))])
        parts = [everyone[start:stop] for start, stop in borders]
        tried = [(*names[each.latent.number], each) for each in parts[-1]]
        measured = zip(parts[:-1], choices, loaded, strict=True)
        return Together(
            rows=tuple(rows_of_sae(own, choice, sae.cfg.d_sae) for own, choice, sae in measured),
            references=rows_of_trial(tried, everyone, rng),
            seen=tuple(tuple(map(as_seen, own)) for own in parts[:-1]),
            notes=(*self._notes(answers), *left_out),
        )

    @cached_property
    def _activations(self) -> ActivationSet:
        return self.site.collect(self.texts, norm_cap=self.norm_cap)

    @cached_property
    def _corpus(self) -> Corpus:
        return Corpus.of(self._activations)

    @cached_property
    def _pool(self) -> torch.Tensor:
        return self._corpus.random_windows(_RANDOM_WINDOWS, self.layout.buffer, self.seed)

    @cached_property
    def _decode(self) -> Decode:
        return Decoder(self.site.tokenizer)

    def _gather(self, firings: Firings, choice: Choice, found: Survey) -> list[Latent]:
        """The latents that can be asked about, with their texts."""
        parts = gather(
            firings, self._corpus, choice, found, self._pool, layout=self.layout, decode=self._decode, seed=self.seed
        )
        return [each for each in parts if not isinstance(each, Missing)]

    def _planted(self) -> tuple[list[Latent], list[tuple[str, bool]], list[str]]:
        """Planted latents, their names and whether they have an answer, and why others could not be planted."""
        corpus = self._corpus
        ids = [row[:n].tolist() for row, n in zip(corpus.tokens, corpus.lengths.tolist(), strict=True)]
        needed = self.layout.n_top + self.layout.n_weighted + self.layout.n_balanced // 2
        texts, rng = [self._decode(row) for row in ids], np.random.default_rng(self.seed)
        planting = planted(texts, rng, n_windows=needed, buffer=self.layout.buffer)
        left_out = [f"not planted to try the judge: {each.name}, {each.reason}" for each in planting.left_out]
        if not planting.latents:
            return [], [], left_out
        dense = torch.from_numpy(planting.dense(corpus.tokens.shape[1]))
        firings = Firings(
            (dense.shape[0], dense.shape[1]),
            tuple(dense[..., i].flatten().nonzero().squeeze(1) for i in range(dense.shape[2])),
            tuple((flat := dense[..., i].flatten())[flat > 0] for i in range(dense.shape[2])),
        )
        counts = (dense > 0).sum((0, 1)).numpy()
        n = len(planting.latents)
        found = Survey(int(corpus.lengths.sum()), counts, dense.amax((0, 1)).numpy())
        choice = Choice(tuple(range(n)), (0,) * n, (n,), 0, 0)
        names = [(each.name, each.known) for each in planting.latents]
        return self._gather(firings, choice, found), names, left_out

    def _notes(self, answers: Sequence[Answer]) -> tuple[str, ...]:
        """Who has answered, what it took, and what went wrong, for the manifest."""
        judge = self.judging.judge
        who = Counter(f"{a.model} {a.fingerprint}".strip() for a in answers if a.text is not None)
        failures = Counter(a.failure for a in answers if a.failure)
        kind = "a language model" if judge.is_llm else "no language model: its scores are not those of an LLM judge"
        lines = [
            f"judge: {judge.name}, {kind}; answered as {', '.join(who) or 'nobody'}",
            f"judge: {len(answers)} questions, {sum(a.prompt_tokens for a in answers):,} tokens asked and "
            f"{sum(a.completion_tokens for a in answers):,} answered",
        ]
        if failures:
            lines.append(f"judge: without a usable answer {', '.join(f'{n} ({why})' for why, n in failures.items())}")
        return tuple(lines)
