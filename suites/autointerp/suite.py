"""The suite `autointerp`: every SAE's latents in one queue, with planted ones among them that try the judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..joined import JoinedSets
from ..suite import Judging, SuiteContext, Together
from .blocks import BLOCK, Decided, ask_in_blocks, notes_of_steps, rows_of_steps
from .examples import Layout, gather
from .interview import interview
from .latent import Latent
from .notes import notes_on
from .prompts import Decode, Decoder
from .rows import rows_of_sae, rows_of_trial
from .second import second_opinion
from .seen import as_seen
from .strata import Choice, choose, in_steps
from .survey import Corpus, Firings, Survey, collect_firings, survey
from .trial import make_trial

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from ...results.scores import Row
    from ..site import Site
    from ..texts import TextSet
    from .blocks import Asked
    from .interview import Interview

_RANDOM_WINDOWS = 4000
"""Random windows that all latents share."""


class AutoInterp:
    """Detection accuracy of a judge that has explained a latent, by SAEBench's prompts.

    A judge is shown texts in which a latent fires, says what it fires on, and looks for it in other texts. The primary
    metric is the balanced accuracy on as many texts with the latent as without (the paper's layout, chance .5);
    SAEBench's own score in its own layout stands beside it. Latents are drawn among those of which the texts have
    enough windows to show, from strata of log firing rate over the overlap of all SAEs, and no latent of one SAE is
    matched with one of another.

    Only `encode` is read, so a permuted decoder gives the same questions, and hence the same rows.
    """

    name = "autointerp"
    metric = "detection"
    reads: Literal["encoder", "both"] = "encoder"
    unit = "item = latent, drawn from each SAE anew; replicate = SAE seed"
    margin = 0.02
    note = (
        "detection by a judge in balanced texts, chance .5; only about latents that the texts have enough windows of, "
        "at firing rates that all arms have: drawn from strata of firing rate, weighted to the mix of these latents in "
        "the SAE under test; reads only the encoder, so a frozen decoder says nothing here"
    )
    floor, chance, ceiling = "@none", "none", "planted"
    exploratory: tuple[str, ...] = ("detection_saebench",)
    metrics: tuple[str, ...] = (metric, *exploratory)
    sampled = True
    version = 4

    def __init__(
        self,
        site: Site,
        texts: Sequence[TextSet],
        judging: Judging,
        *,
        n_latents: int,
        layout: Layout,
        seed: int,
        norm_cap: float | None,
        early_stop: bool = False,
    ) -> None:
        """Fix what is asked.

        Args:
            site: where activations come from.
            texts: sets of documents that no arm was trained on; those that the site has read are not read again.
            judging: who answers.
            n_latents: latents of each SAE.
            layout: which texts are shown.
            seed: decides what is drawn.
            norm_cap: norm above which a token is left out, the one that the training activations had; None takes
                that of the first set's first texts for all.
            early_stop: whether latents are asked about step by step, until somebody says that it is enough.

        Raises:
            ValueError: there is no set of texts.
        """
        if not texts:
            raise ValueError("autointerp needs texts to read latents in")
        self.site, self.texts, self.judging, self.layout = site, tuple(texts), judging, layout
        self.n_latents, self.seed, self.norm_cap, self.early_stop = n_latents, seed, norm_cap, early_stop

    @classmethod
    def build(cls, context: SuiteContext) -> AutoInterp:
        """Make the suite of a check.

        Raises:
            ValueError: the check has no judge, or no texts to read latents in.
        """
        if context.judge is None or not context.interpretation:
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
            early_stop=options.get("early_stop", False),
        )

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return the number of latents of each SAE."""
        return options["latents"]

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        second = self.judging.second
        also: dict[str, Any] = (
            {"second_judge": second.identity(), "second_share": self.judging.second_share} if second else {}
        )
        also |= {"early_stop": BLOCK} if self.early_stop else {}
        return also | {
            "texts": [each.sha256 for each in self.texts],
            "activations": list(self._activations.keys),
            "judge": self.judging.judge.identity(),
            "n_latents": self.n_latents,
            "layout": asdict(self.layout),
            "seed": self.seed,
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of what the trial of the judge gives."""
        return ("planted", "shuffled", "nothing", "none")

    def measure_together(
        self, saes: Sequence[Callable[[], SAE[Any]]], rng: np.random.Generator, decided: Decided | None = None
    ) -> Together:
        """Measure SAEs that are known by their position alone.

        Args:
            saes: loads each.
            rng: decides the order of the questions.
            decided: with `early_stop`, asked after every block of steps whether that is enough; None to ask all.

        Raises:
            JudgeUnavailable: when the judge cannot be asked.
            BudgetSpent: when the next question would not fit.
        """
        loaded = [load() for load in saes]
        surveys = survey(self._activations, loaded, self._corpus, self._pool, self.layout)
        draw = in_steps if self.early_stop else choose
        choices = draw(surveys, self.n_latents, seed=self.seed).choices
        firings = collect_firings(self._activations, loaded, [choice.latents for choice in choices], self._corpus)
        found = [self._gather(*parts) for parts in zip(firings, choices, surveys, strict=True)]
        trial = make_trial(self._corpus, self._pool, layout=self.layout, decode=self._decode, seed=self.seed)
        asked = ask_in_blocks(
            found,
            choices,
            trial.latents,
            lambda latents: interview(latents, self.judging, rng),
            size=BLOCK if self.early_stop else None,
            decided=decided,
        )
        everyone = [each for own in asked.found for each in own]
        tried = list(zip(trial.names, trial.kinds, asked.tried, strict=True))
        known = [each for _, kind, each in tried if kind == "planted"]
        second = second_opinion(everyone, known, self.judging, rng)
        measured = zip(asked.found, asked.choices, loaded, strict=True)
        return Together(
            rows=tuple(self._rows(own, choice, sae.cfg.d_sae) for own, choice, sae in measured),
            references=rows_of_trial(tried, [*everyone, *asked.tried]),
            seen=tuple(tuple(map(as_seen, own)) for own in asked.found),
            notes=(
                *notes_on(self.judging.judge, asked.heard),
                *self._stopped(asked, choices),
                *second,
                *trial.left_out,
            ),
        )

    def _rows(self, found: list[Interview], choice: Choice, d_sae: int) -> list[Row]:
        return rows_of_sae(found, choice, d_sae) + (rows_of_steps(choice) if self.early_stop else [])

    def _stopped(self, asked: Asked, choices: Sequence[Choice]) -> tuple[str, ...]:
        planned = max((len(choice.latents) for choice in choices), default=0)
        return notes_of_steps(asked, planned, self.n_latents) if self.early_stop else ()

    @cached_property
    def _activations(self) -> JoinedSets:
        first = self.site.collect(self.texts[0], norm_cap=self.norm_cap)
        others = (self.site.collect(each, norm_cap=first.norm_cap) for each in self.texts[1:])
        return JoinedSets((first, *others))

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
        """The latents that can be asked about, with their texts; without the primary question there is none."""
        parts = gather(
            firings, self._corpus, choice, found, self._pool, layout=self.layout, decode=self._decode, seed=self.seed
        )
        return [each for each in parts if isinstance(each, Latent) and each.balanced]
