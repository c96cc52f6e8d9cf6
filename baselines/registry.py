"""The baselines and controls by name, with plug-ins from the entry-point group `sae_sanity.baselines`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from .baseline import Baseline, Control
from .frozen_decoder import FrozenDecoder
from .frozen_encoder import FrozenEncoder
from .permuted_decoder import PermutedDecoder
from .permuted_encoder import PermutedEncoder
from .random import Random
from .random_latents import RandomLatents
from .retrained import Retrained
from .soft_frozen import SoftFrozen
from .trained import Trained

GROUP = "sae_sanity.baselines"

CONTROLS: Mapping[str, Control] = {c.name: c for c in (PermutedDecoder(), PermutedEncoder(), RandomLatents())}
"""The controls of the assay gate."""


@cache
def baseline_classes() -> Mapping[str, type[Baseline]]:
    """Return every baseline class by name, built in or installed by a plug-in."""
    built_in = {c.name: c for c in (Trained, Retrained, FrozenDecoder, SoftFrozen, FrozenEncoder, Random)}
    plug_ins: dict[str, type[Baseline]] = {p.name: p.load() for p in entry_points(group=GROUP)}
    return plug_ins | built_in


def parse_arm(text: str) -> Baseline:
    """Make a baseline from its arm name, `name` or `name@variant` (`frozen_decoder@cov`, `soft_frozen@0.9`).

    Raises:
        ValueError: for an unknown name or variant, with what would be right.
    """
    name, _, variant = text.partition("@")
    known = baseline_classes()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"no such baseline: {name!r}{hint} (known: {', '.join(sorted(known))})")
    if not variant:
        return known[name]()
    try:
        baseline = known[name].from_variant(variant)
    except ValueError as error:
        raise ValueError(f"baseline {text!r}: {error}") from None
    # The name becomes a folder: a plug-in's variant must not lead out of the results folder.
    if not re.fullmatch(r"[\w.+-]+(@[\w.+-]+)?", baseline.arm):
        raise ValueError(f"baseline {text!r}: letters, digits and . _ + - only after the @")
    return baseline
