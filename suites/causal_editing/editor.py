"""Puts given vectors at the entity's last token of prompts, and says what the model then makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int

from ..site import Site
from .clean_states import CleanStates
from .greedy import greedy
from .passes import Passes
from .prefix import Prefixes
from .prompt import Prompt

_TRIAL = 8
# Of the logits' spread, worst prompt. In bfloat16 SmolLM2's plain logits are .03 (median) to .1 away from float32's.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.float16: 0.05, torch.bfloat16: 0.25}


class Editor:
    """A fixed set of prompts whose activation at the entity's last token can be replaced, at any hook of a site.

    The fast way runs what an edit can change: the layers from the hook on, and the tokens behind the prefix that the
    prompts of a template share. It needs the clean states of the suffixes, which are computed once and kept
    (prompts x suffix x d_model in the model's dtype), and each template's keys and values. Where it does not give
    the numbers of the plain way on a few of these very prompts, the plain way is taken; `why_plain` says why.

    A prompt's last digits depend on the batch that it runs in, as everywhere in torch.

    Args:
        site: Model and hook. On a centred site vectors are meant centred, as `Site.activations` gives them.
        prompts: The prompts; everything else names them by their index here.
        batch_size: Prompts per forward pass, which bounds memory. A graph for gradients covers all of a call's prompts.

    Raises:
        ValueError: There are no prompts, a position lies outside its prompt, or `batch_size` is not positive.
    """

    def __init__(self, site: Site, prompts: Sequence[Prompt], *, batch_size: int = 64) -> None:
        if not prompts or batch_size < 1:
            raise ValueError(f"{len(prompts)} prompts and batch_size {batch_size}: both must be at least 1")
        for prompt in prompts:
            if not 0 <= prompt.position < len(prompt.tokens):
                raise ValueError(f"position {prompt.position} is outside the tokens of {prompt.text!r}")
        self._site = site
        self._prompts = tuple(prompts)
        self._batch_size = batch_size
        self._passes = Passes(site)
        self._prefixes = Prefixes(site.model, self._prompts)

    @property
    def fast(self) -> bool:
        """Whether prefixes and lower layers are left out, found out on first use."""
        return not self.why_plain

    @cached_property
    def why_plain(self) -> str:
        """Why every token goes through every layer; empty where that is not necessary."""
        try:
            return self._trial()
        except Exception as error:  # any failure, of any model: there is another way to the same numbers
            return f"{type(error).__name__}: {error}".splitlines()[0]

    def clean(self) -> Float[torch.Tensor, "n d_in"]:
        """Clean activations of all prompts at the entity's last token, as `Site.activations` gives them; cached."""
        return self._states.rows(range(len(self._prompts)))

    def clean_next(self) -> Int[torch.Tensor, " n"]:
        """The token that the model puts first behind every prompt, without an edit; cached."""
        return self._clean_next

    def clean_logits(self, which: Sequence[int], tokens: Int[torch.Tensor, "m k"]) -> Float[torch.Tensor, "m k"]:
        """Clean logits of some tokens at each prompt's last token, float32; whole vocabularies are never kept.

        Raises:
            ValueError: There are not as many rows of `tokens` as prompts, or no such prompts.
        """
        self._check(which, tokens)
        return self._in_batches(
            which, lambda part: self._logits(_pick(which, part), None).gather(1, tokens.to(self._device)[part])
        )

    def logits(
        self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"] | None
    ) -> Float[torch.Tensor, "m vocab"]:
        """Logits at the last token of some prompts, with vectors put in at their entity's last token.

        Args:
            which: Indices of prompts, in any order, repeats allowed.
            rows: What is put in, one per prompt, cast to the model's dtype; None for a clean run.

        Returns:
            Float32, differentiable in `rows`; the weights get no gradient.

        Raises:
            ValueError: There are not as many rows of width `d_in` as prompts, or no such prompts, or none.
        """
        self._check_rows(which, rows)
        return self._in_batches(which, lambda part: self._logits(_pick(which, part), _pick_rows(rows, part)))

    def generate(
        self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"] | None, n_tokens: int
    ) -> Int[torch.Tensor, "m n_tokens"]:
        """Greedy continuations of some prompts, with vectors put in at their entity's last token.

        Args:
            which: Indices of prompts, in any order, repeats allowed.
            rows: What is put in, one per prompt; None for no edit.
            n_tokens: Length of a continuation.

        Returns:
            Token ids. Behind an end-of-text token of the model comes padding, as in `model.generate`.

        Raises:
            ValueError: `n_tokens` is not positive, or see `logits`.
        """
        self._check_rows(which, rows)
        if n_tokens < 1:
            raise ValueError(f"n_tokens {n_tokens} must be at least 1")
        way = self._generate_fast if self.fast else self._generate_plain
        with torch.no_grad():
            return self._in_batches(which, lambda part: way(_pick(which, part), _pick_rows(rows, part), n_tokens))

    @cached_property
    def _states(self) -> CleanStates:
        states = self._new_states()
        states.compute(range(len(self._prompts)), self._batch_size, upstream=self.fast)
        return states

    @cached_property
    def _clean_next(self) -> torch.Tensor:
        everything = range(len(self._prompts))
        return self._in_batches(everything, lambda part: self._logits(part, None).argmax(dim=-1))

    @property
    def _device(self) -> torch.device:
        return self._site.model.device

    def _new_states(self) -> CleanStates:
        return CleanStates(self._site, self._prompts, self._passes, self._prefixes)

    def _in_batches(self, which: Sequence[int], run: Callable[[list[int]], torch.Tensor]) -> torch.Tensor:
        """What `run` gives for the places of `which`, batch by batch, in the order of `which`."""
        # Alike beside alike: a row is as wide as the widest of its batch.
        order = sorted(range(len(which)), key=lambda place: self._shape(which[place]))
        size = self._batch_size
        # Nothing holds the parts behind this line: of whole vocabularies they are as large as what they make up.
        together = torch.cat([run(order[start : start + size]) for start in range(0, len(order), size)])
        return together[torch.tensor(order).argsort().to(together.device)]

    def _shape(self, index: int) -> tuple[int, int]:
        length = len(self._prompts[index].tokens)
        return (self._prefixes.suffix_length(index), length) if self.fast else (length, 0)

    def _logits(self, which: Sequence[int], rows: torch.Tensor | None) -> torch.Tensor:
        return self._logits_fast(which, rows, self._states) if self.fast else self._logits_plain(which, rows)

    def _logits_fast(self, which: Sequence[int], rows: torch.Tensor | None, states: CleanStates) -> torch.Tensor:
        batch = self._prefixes.batch(which)
        return self._passes.suffix(batch, rows, states.upstream(which, batch.tokens.shape[1]))

    def _logits_plain(
        self, which: Sequence[int], rows: torch.Tensor | None, following: torch.Tensor | None = None
    ) -> torch.Tensor:
        prompts = [self._prompts[index] for index in which]
        more = [[]] * len(prompts) if following is None else following.tolist()
        tokens, mask = self._site.pad([(*p.tokens, *added) for p, added in zip(prompts, more, strict=True)])
        where = torch.tensor([prompt.position for prompt in prompts])
        return self._passes.whole(tokens, mask, where, rows)

    def _generate_fast(self, which: Sequence[int], rows: torch.Tensor | None, n_tokens: int) -> torch.Tensor:
        batch = self._prefixes.batch(which)
        # Every layer runs here, since each step reads the keys and values of all of them.
        first = self._passes.suffix(batch, rows, None)
        return greedy(self._site.model, first, lambda tokens: self._passes.step(batch, tokens), n_tokens)

    def _generate_plain(self, which: Sequence[int], rows: torch.Tensor | None, n_tokens: int) -> torch.Tensor:
        first = self._logits_plain(which, rows)
        return greedy(self._site.model, first, lambda tokens: self._logits_plain(which, rows, tokens), n_tokens)

    def _trial(self) -> str:
        """Edit a few prompts, the shortest to the longest, in both ways; empty if the numbers agree."""
        order = sorted(range(len(self._prompts)), key=self._prefixes.suffix_length)
        which = [order[int(place)] for place in torch.linspace(0, len(order) - 1, min(_TRIAL, len(order)))]
        states = self._new_states()
        states.compute(which, len(which), upstream=True)
        rows = states.rows(which).roll(1, dims=0)
        with torch.no_grad():
            plain = self._logits_plain(which, rows)
            short = self._logits_fast(which, rows, states)
            no_layer_skipped = self._passes.suffix(self._prefixes.batch(which), rows, None)
        error = max(_relative_error(found, plain) for found in (short, no_layer_skipped))
        allowed = _TOLERANCE.get(self._site.model.dtype, 0.0)
        # Not a number is no agreement either.
        return "" if error <= allowed else f"logits differ by {error:.2g} of their spread, more than {allowed:.2g}"

    def _check(self, which: Sequence[int], rows: torch.Tensor | None) -> None:
        if not which or not all(0 <= index < len(self._prompts) for index in which):
            raise ValueError(f"prompts must be some of 0 to {len(self._prompts) - 1}")
        if rows is not None and len(rows) != len(which):
            raise ValueError(f"{len(rows)} rows for {len(which)} prompts")

    def _check_rows(self, which: Sequence[int], rows: torch.Tensor | None) -> None:
        self._check(which, rows)
        if rows is not None and rows.shape[1] != self._site.d_in:
            raise ValueError(f"vectors of {rows.shape[1]} numbers, but the hook has {self._site.d_in}")


def _pick(which: Sequence[int], part: Sequence[int]) -> list[int]:
    return [which[place] for place in part]


def _pick_rows(rows: torch.Tensor | None, part: Sequence[int]) -> torch.Tensor | None:
    return None if rows is None else rows[list(part)]


def _relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest error of a row of logits, as a share of how far its logits are spread."""
    spread = (expected - expected.mean(dim=-1, keepdim=True)).norm(dim=-1)
    worst = ((found - expected).norm(dim=-1) / spread).max()
    return float(worst) if worst.isfinite() else float("inf")
