"""The suite `causal_editing`: swap the latents of one attribute between two entities, and see what the model says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from ...results.scores import TRIAL, Row
from ..suite import NotMeasurable, SuiteContext
from .coded import Coded, code
from .controls import equal_norm_edit, random_mask_like
from .das import default_rank, swapped, train_subspace
from .editor import Editor
from .known import Known, know
from .mdbm import Wanted, edited, train_mask
from .pairs import Pair, Task, draw_tasks, pairs_of
from .ravel import RavelData, load_ravel
from .trial import BATCH, Trial, first_token_rows, rows_of_items

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from ..site import Site

Rows = Float[torch.Tensor, "pairs d_in"]
ErrorTerm = Literal["dropped", "kept"]

_SUBSPACE_LR, _SUBSPACE_BATCH, _SUBSPACE_STEPS = 0.01, 16, 64
"""How a subspace learns, whatever masks are given: it starts at random and has to turn, where a mask only has to take a
side. A ceiling that is not learned out is none."""
_SMALL_RANK, _VALIDATION = 8, 0.25
_OF_SAEBENCH = {
    "city": ("Country", "Continent", "Language"),
    "nobel_prize_winner": ("Country of Birth", "Field", "Gender"),
}
"""What SAEBench asks of RAVEL's entities; its files have more."""


@dataclass(frozen=True)
class Lesson:
    """How masks are learned and tried."""

    n_train: int = 512
    """Pairs for each attribute, half cause and half isolation."""
    n_sources: int = 2
    """Sources for each base entity in the test."""
    masks: int = 1
    """Masks for each SAE and attribute, each with an order of pairs of its own."""
    epochs: int = 2
    """Passes through the pairs, as in SAEBench."""
    lr: float = 0.001
    """Step size of Adam, as in SAEBench."""
    batch_size: int = 32
    """Pairs per step."""
    n_tokens: int = 4
    """Tokens of an answer."""
    error: ErrorTerm = "dropped"
    """What happens to what the SAE leaves of the base's activation; SAEBench drops it."""


class CausalEditing:
    """RAVEL: change one attribute of an entity without changing the others, by swapping latents at its last token.

    For each attribute a mask over latents learns on some entities (multi-task differential binary masking) and is
    tried on others, by other templates. `cause` is 1 where the edited model answers with the source's value of the
    attribute, `isolation` where it still answers with the base's value of another one; `disentangle`, the primary
    metric, is the mean of the two for each (attribute, base entity, source entity).

    References: `identity` edits nothing (cause 0, isolation 1: the floor, about .5); `patch` puts the source's whole
    activation in (the ceiling of cause); `subspace` swaps a subspace that was learned with the same pairs (distributed
    alignment search; its rank, which may be 0, is chosen on entities held out of them: the ceiling of both).
    `first_token_random_latents` and `first_token_random_direction` are the same SAE's edits by a random mask of the
    same size, and of the same length in a random direction, beside `first_token`.
    """

    name = "causal_editing"
    metric = "disentangle"
    reads: Literal["encoder", "both"] = "both"
    unit = "item = (attribute, base entity, source entity), cluster = base entity, stratum = attribute, trial = mask"
    margin = 0.02
    note = (
        "masks learn on other entities and templates than they are tried on; only what the model answers correctly is "
        "edited; a source differs from its base in every attribute"
    )
    floor, chance, ceiling = "@identity", "identity", "subspace"
    exploratory: tuple[str, ...] = (
        *("cause", "isolation", "first_token", "first_token_random_latents", "first_token_random_direction"),
    )
    metrics: tuple[str, ...] = (metric, *exploratory, "cause_logit_difference", "isolation_logit_difference")
    trials = True
    strata = True
    costly = True
    version = 1

    def __init__(
        self, site: Site, data: RavelData, *, n_entities: int, lesson: Lesson | None = None, seed: int = 0
    ) -> None:
        """Fix what is edited.

        Args:
            site: the model and the place of the edit.
            data: entities, attributes and templates.
            n_entities: how many of the entities the model is asked about, from the first.
            lesson: how masks are learned and tried.
            seed: decides which pairs are drawn, and the masks' luck.
        """
        self.site, self.data, self.n_entities = site, data, n_entities
        self.lesson, self.seed = lesson or Lesson(), seed

    @classmethod
    def build(cls, context: SuiteContext) -> CausalEditing:
        """Make the suite of a check.

        Raises:
            ValueError: for data that cannot be had or are not RAVEL's.
        """
        options = context.options
        lesson = Lesson(
            n_train=options["editing_pairs"],
            n_sources=options["editing_sources"],
            masks=options["masks"],
            error=options["error_term"],
        )
        n = options["editing_entities"]
        return cls(context.site, _data(options), n_entities=n, lesson=lesson, seed=options["seed"])

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is loaded.

        Raises:
            ValueError: a package is missing, or the data cannot be had or are not RAVEL's.
        """
        try:
            import sae_bench.evals.ravel.validation  # noqa: F401
        except ImportError as error:
            needed = "causal_editing judges answers by SAEBench's rule; pip install 'sae-sanity[saebench]'"
            raise ValueError(f"{needed} ({error})") from None
        _data(options)

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return about how many entities are tried: the demo's model knows two cities of three, half to learn from."""
        return max(2, options["editing_entities"] // 3)

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        return {
            "data": self.data.sha256,
            "n_entities": self.n_entities,
            "lesson": asdict(self.lesson),
            "seed": self.seed,
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of the edits that need no SAE."""
        return ("identity", "patch", "subspace")

    def measure(self, sae: SAE[Any], site: Site, rng: np.random.Generator) -> list[Row]:
        """Learn and try masks for one SAE.

        Raises:
            NotMeasurable: when the model knows too little.
        """
        tasks = self._tasks  # first: where the model knows nothing there is nothing to encode
        coded = code(sae, self._editor.clean())
        return [
            row
            for number, task in enumerate(tasks)
            for mask in range(self.lesson.masks)
            for row in self._try(coded, task, self._generator(number, mask), f"{TRIAL}{mask}")
        ]

    def measure_reference(self, name: str, site: Site, rng: np.random.Generator) -> list[Row]:
        """Try an edit that needs no SAE; its rows are of as many trials as those of a mask.

        Raises:
            NotMeasurable: when the model knows too little.
        """
        rows: list[Row] = []
        for number, task in enumerate(self._tasks):
            pairs, tried = pairs_of(task.test), None
            for trial in range(self.lesson.masks):
                # Only what is learned has luck of its own.
                if tried is None or name == self.ceiling:
                    edit = self._reference(name, task, pairs, self._generator(number, trial))
                    tried = self._trial().answers(pairs, edit)
                rows += rows_of_items(task.test, tried, f"{TRIAL}{trial}")
        return rows

    def notes(self) -> tuple[str, ...]:
        """What the model knew, and what is left to be edited."""
        counts = ", ".join(f"{name} {right} of {n}" for name, (right, n) in self._known.counts().items())
        tried = {item.base for task in self._tasks for item in task.test}
        learnt = {self._known.right[pair.base].prompt.entity for task in self._tasks for pair in task.train}
        items = ", ".join(f"{task.attribute} {len(task.test)}" for task in self._tasks)
        way = self._editor.why_plain
        dropped = [name for name in self._known.counts() if name not in {task.attribute for task in self._tasks}]
        return (
            f"causal_editing: prompts answered correctly: {counts}",
            f"causal_editing: masks learn on {len(learnt)} entities and are tried on {len(tried)} others",
            f"causal_editing: items: {items}",
            f"causal_editing: the SAE's error term is {self.lesson.error}",
            *([f"causal_editing: left out, for the model knows too few: {', '.join(dropped)}"] if dropped else []),
            *([f"causal_editing: every layer and token is run, because {way}"] if way else []),
        )

    def _try(self, coded: Coded, task: Task, generator: torch.Generator, suffix: str) -> Iterator[Row]:
        """Learn one mask and try it, beside two edits that should do worse."""
        lesson, error = self.lesson, coded.error if self.lesson.error == "kept" else None
        mask = train_mask(
            coded.runs(self._editor),
            _wanted(task.train),
            coded.codes,
            coded.decode,
            epochs=lesson.epochs,
            lr=lesson.lr,
            batch_size=lesson.batch_size,
            generator=generator,
            error=error,
        )
        trial, pairs = self._trial(), pairs_of(task.test)
        rows = _swap(coded, pairs, mask, error)
        yield from rows_of_items(task.test, trial.answers(pairs, rows), suffix)
        drawn = random_mask_like(mask & coded.live, coded.live, generator)
        controls = {
            "random_latents": _swap(coded, pairs, drawn, error),
            "random_direction": equal_norm_edit(self._clean(pairs)[0], rows, generator),
        }
        for name, control in controls.items():
            first, _ = trial.first_tokens(pairs, control)
            yield from first_token_rows(f"first_token_{name}", task.test, first, suffix)

    def _reference(self, name: str, task: Task, pairs: Sequence[Pair], generator: torch.Generator) -> Rows:
        base, source = self._clean(pairs)
        if name == "identity":
            return base
        if name == "patch":
            return source
        return swapped(base, source, self._subspace(task, generator))

    def _clean(self, pairs: Sequence[Pair]) -> tuple[Rows, Rows]:
        """Clean activations of base and source."""
        clean = self._editor.clean()
        return clean[[pair.base for pair in pairs]], clean[[pair.source for pair in pairs]]

    def _subspace(self, task: Task, generator: torch.Generator) -> Float[torch.Tensor, "d_in rank"]:
        """The best of two ranks and of nothing at all, by entities that it has not learned from.

        Of rank 0 it edits nothing: the best edit that is known is never worse than none.
        """
        clean = self._editor.clean()
        entities = sorted({self._entities(pair)[0] for pair in task.train})
        order = torch.randperm(len(entities), generator=generator).tolist()
        held = {entities[i] for i in order[: max(1, round(_VALIDATION * len(entities)))]}
        tried = [pair for pair in task.train if self._entities(pair)[0] in held]
        learnt = [pair for pair in task.train if not {*self._entities(pair)} & held]
        steps_in_pairs = _SUBSPACE_STEPS * _SUBSPACE_BATCH
        found = [clean.new_zeros(clean.shape[1], 0)]
        for rank in sorted({min(_SMALL_RANK, clean.shape[1]), default_rank(clean.shape[1])}) if learnt else ():
            found.append(
                train_subspace(
                    self._editor,
                    _wanted(learnt),
                    clean,
                    rank=rank,
                    epochs=max(self.lesson.epochs, -(-steps_in_pairs // len(learnt))),
                    lr=_SUBSPACE_LR,
                    batch_size=_SUBSPACE_BATCH,
                    generator=generator,
                )
            )
        return max(found, key=lambda subspace: self._validated(task, tried, subspace))

    def _validated(self, task: Task, pairs: Sequence[Pair], subspace: torch.Tensor) -> float:
        """Sum of cause and isolation by the first token."""
        right, _ = self._trial().first_tokens(pairs, swapped(*self._clean(pairs), subspace))
        about = np.array([self._known.right[pair.base].prompt.attribute == task.attribute for pair in pairs])
        return float(sum(right[part].mean() for part in (about, ~about) if part.any()))

    def _entities(self, pair: Pair) -> tuple[str, str]:
        base, source = (self._known.right[i].prompt.entity for i in (pair.base, pair.source))
        return base, source

    def _trial(self) -> Trial:
        return Trial(self._editor, self.site.tokenizer, self._known, self.lesson.n_tokens)

    def _generator(self, task: int, mask: int) -> torch.Generator:
        """Luck of one mask: the same for every SAE."""
        state = np.random.SeedSequence([self.seed, task, mask]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    @cached_property
    def _known(self) -> Known:
        try:
            return know(self.site, self.data, n_entities=self.n_entities, n_tokens=self.lesson.n_tokens)
        except ValueError as error:
            raise NotMeasurable(str(error)) from None

    @cached_property
    def _tasks(self) -> tuple[Task, ...]:
        lesson = self.lesson
        try:
            return draw_tasks(self._known, n_train=lesson.n_train, n_sources=lesson.n_sources, seed=self.seed)
        except ValueError as error:
            raise NotMeasurable(str(error)) from None

    @cached_property
    def _editor(self) -> Editor:
        editor = Editor(self.site, [each.prompt for each in self._known.right])
        try:
            editor.logits([0], editor.clean()[:1])
        except (MemoryError, torch.OutOfMemoryError):
            raise  # says nothing about the hook
        except Exception as error:  # of any kind: a hook may be any module of any model
            why = " ".join(str(error).split())[:200]
            raise NotMeasurable(f"the model cannot be edited at {self.site.hook_name!r}: {why}") from None
        return editor


def _swap(
    coded: Coded,
    pairs: Sequence[Pair],
    mask: Bool[torch.Tensor, " d_sae"],
    error: Float[torch.Tensor, "n d_in"] | None,
) -> Rows:
    """What the SAE makes of each base, with the mask's latents from the source."""

    def part(pairs: Sequence[Pair]) -> Rows:
        base, source = [pair.base for pair in pairs], [pair.source for pair in pairs]
        own_error = None if error is None else error[base]
        rows = edited(coded.codes[base], coded.codes[source], mask, coded.decode, own_error)
        return coded.activations(base, rows)

    # A part at a time: all pairs' codes at once would be pairs x d_sae, several times over.
    with torch.no_grad():
        return torch.cat([part(pairs[i : i + BATCH]) for i in range(0, len(pairs), BATCH)])


def _wanted(pairs: Sequence[Pair]) -> Wanted:
    return Wanted(
        tuple(pair.base for pair in pairs), tuple(pair.source for pair in pairs), tuple(pair.token for pair in pairs)
    )


def _data(options: Mapping[str, Any]) -> RavelData:
    kind, named = options["ravel_entity"], tuple(options["ravel_attributes"])
    if where := options["ravel"]:
        return load_ravel(where, kind, named or _OF_SAEBENCH.get(kind, ()))
    return _facts(kind, named, options["editing_entities"])


@lru_cache(maxsize=1)
def _facts(kind: str, attributes: tuple[str, ...], n_cities: int) -> RavelData:
    """Packaged facts; a check asks for them when it looks at its settings, and again when it makes the suite."""
    from .facts import CITY, CITY_ATTRIBUTES, COUNTRY, COUNTRY_ATTRIBUTES, city_facts, country_facts

    if kind not in (CITY, COUNTRY):
        raise ValueError(f"ravel_entity is {kind!r}; there are packaged facts of {CITY} and {COUNTRY} alone")
    if kind == CITY:
        return city_facts(n_cities, attributes or CITY_ATTRIBUTES)
    return country_facts(attributes or COUNTRY_ATTRIBUTES)
