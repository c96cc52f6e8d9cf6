"""What is known of one latent before a judge is asked: where it fires, and the texts that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["top", "weighted", "random", "activating", "hard"]


@dataclass(frozen=True)
class Example:
    """A window of tokens around one token of a text, and what the latent does on it."""

    tokens: tuple[str, ...]
    """The decoded tokens, in order."""
    activations: tuple[float, ...]
    """The latent's activation on each of them."""
    threshold: float
    """A token is active above it: a fraction of the latent's largest activation, as in SAEBench."""
    kind: Kind
    """How the window was chosen: by a top activation, in proportion to activations, at random, among windows of any
    strength in which the latent fires, or as a neighbour that does not fire."""
    document: int
    """Index of the document in the text set."""
    position: int
    """Position of the centre of the window in the document."""

    @property
    def is_active(self) -> bool:
        """Whether the latent fires anywhere in the window: the answer that detection asks for."""
        return max(self.activations, default=0.0) > self.threshold


@dataclass(frozen=True)
class Latent:
    """A latent that a judge is asked about."""

    number: int
    """Index in the SAE."""
    firing_rate: float
    """Share of the tokens of the texts on which it fires."""
    stratum: int
    """Stratum of log firing rate that it was drawn from, from 0."""
    generation: tuple[Example, ...]
    """Shown with marks for the explanation, strongest first."""
    saebench: tuple[Example, ...]
    """Detection in SAEBench's layout (2 top, 2 weighted, 10 random), in the order shown."""
    balanced: tuple[Example, ...]
    """Detection in the paper's layout (as many activating as not), in the order shown."""
