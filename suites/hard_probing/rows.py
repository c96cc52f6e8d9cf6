"""What the shots at one problem say, as score rows."""

from __future__ import annotations

from collections.abc import Mapping

from ...results.outcome import Skip
from ...results.scores import Row
from .arrows import Missed, Shot
from .dense import hits
from .problems import Problem, Skipped
from .quiver import choose, of_one, worth

Shots = Mapping[str, Shot]
METRIC = "quiver_gain"
"""The primary metric: of every regime but shift, whose items read two families and belong to no one cluster."""
MULTI_TOKEN = "gain_multi_token"  # noqa: S105  (no password)
"""The same in a quiver that holds the attention-pooled probe too, by mean- and max-pooled latents."""


def item_of(problem: Problem | Skipped) -> str:
    """Dataset, condition and seed: what is paired between SAEs."""
    condition = problem.condition
    return f"{problem.dataset} {condition.regime} {condition.level:g} seed {problem.seed}"


def sae_rows(problem: Problem, quiver: Shots, added: Mapping[str, Shot | Missed]) -> list[Row]:
    """What the arrows of one SAE add to a quiver; those that missed are not in it, and with all missed AUC is .5.

    Args:
        problem: Where.
        quiver: Dense shots.
        added: The SAE's.
    """
    shot = hits(added)
    found = worth(quiver, shot)
    rows = [*_gains(problem, found.gain), _row("chosen", problem, float(found.taken))]
    rows.append(_row("missed", problem, 1 - len(shot) / len(added)))
    return [*rows, _row("sae_auc", problem, shot[choose(shot)].test_auc if shot else 0.5)]


def multi_token_rows(problem: Problem, quiver: Shots, added: Mapping[str, Shot | Missed]) -> list[Row]:
    """The same gain where arrows may read all tokens, on both sides."""
    return [_row(MULTI_TOKEN, problem, worth(quiver, hits(added)).gain)]


def bound_rows(problem: Problem, quiver: Shots, shot: Shot) -> list[Row]:
    """What an arrow adds that is taken whatever validation says."""
    return [*_gains(problem, of_one(quiver, shot)), _row("sae_auc", problem, shot.test_auc)]


def quiver_rows(problem: Problem, quiver: Shots) -> list[Row]:
    """The quiver by itself: no gain, and the AUC on which an SAE would have to gain."""
    return bound_rows(problem, quiver, quiver[choose(quiver)])


def missed_skips(problem: Problem, added: Mapping[str, Shot | Missed]) -> list[Skip]:
    """Arrows that are not in the quiver of a problem."""
    missed = {name: shot for name, shot in added.items() if isinstance(shot, Missed)}
    return [Skip(what=f"{name} at {item_of(problem)}", reason=shot.reason) for name, shot in missed.items()]


def _gains(problem: Problem, gain: float) -> list[Row]:
    regime = problem.condition.regime
    return [_row(name, problem, gain) for name in (*(() if regime == "shift" else (METRIC,)), f"gain_{regime}")]


def _row(metric: str, problem: Problem, value: float) -> Row:
    return Row(metric, item_of(problem), problem.family, value)
