"""Latents side by side for people to look at: `sae-sanity report --latents`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..latents_seen import SeenAnswer
from .numbers import MISSING, known, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from ..latents_seen import LatentSeen, SeenText, SideBySide
    from .look import Look

NARROWEST = 36
"""Columns of the console that a latent takes at least; as many arms stand beside each other as fit."""
GAP = 3
"""Columns between two latents."""
LONGEST = 600
"""Characters of an explanation or a text that are shown; the rest becomes three dots."""
ACTIVE = "bold reverse"
"""Style of active tokens; the marks around them say the same without colour."""

TITLES = {
    "random": "Drawn at random",
    "best": "The best of each arm where the best score is (an extreme: no evidence)",
    "worst": "The worst of each arm where the worst score is (an extreme: no evidence)",
    "different": "Typical latents where the arms differ most (an extreme: no evidence)",
}
"""What is said above a row."""

LEGEND = (
    "{open}marked{close} tokens are active. Before a text of the detection: whether the latent fires in it, then what "
    "the judge said (+ yes, - no, ? no answer). Arms stand beside each other by firing rate; a latent has no "
    "counterpart in another SAE."
)


def latents_parts(rows: Sequence[SideBySide], look: Look) -> Iterator[RenderableType]:
    """Rows of latents, those of one row beside each other.

    Texts and explanations come from files and judges: they are shown literally, control characters as escapes.

    Args:
        rows: What `results.latents_seen.choose` chose.
        look: Width and characters of the console.
    """
    if not rows:
        yield look.text("No latent was looked at.")
        return
    for row in rows:
        yield look.text(TITLES[row.why], "bold")
        yield look.text(f"Stratum {row.stratum} of firing rate", "dim")
        beside = max((look.width + GAP) // (NARROWEST + GAP), 1)
        for start in range(0, len(row.latents), beside):
            yield ""
            yield _beside(row.latents[start : start + beside], look)
        yield ""
    opening, closing = _marks(look)
    yield look.text(LEGEND.format(open=opening, close=closing), "dim")


def latent_lines(one: LatentSeen, look: Look) -> Iterator[Text]:
    """One latent from top to bottom: whose it is, its rate, its scores, the explanation, the texts."""
    yield look.text(one.arm, "bold")
    yield look.text(f"latent {one.latent:,} of seed {one.seed}, fires on {rate(one.firing_rate)} of tokens")
    yield look.text(f"detection {number(one.detection, 2)}, SAEBench {number(one.saebench, 2)}")
    if one.missing:
        yield look.text(f"missing: {_cut(one.missing)}", "italic")
    yield Text()
    explanation = "no explanation" if one.explanation is None else _cut(one.explanation)
    yield look.text(explanation, "italic" if one.explanation is None else "cyan")
    for title, texts in (("Explained from", one.top), ("Detection", one.detected)):
        if texts:
            yield Text()
            yield look.text(title, "dim")
            yield from (text_line(text, look) for text in texts)


def text_line(seen: SeenText | SeenAnswer, look: Look) -> Text:
    """A text on one line with its active tokens marked; of the detection, behind the label and the prediction."""
    line = Text(_signs(seen), overflow="fold")
    opening, closing = _marks(look)
    at, shown = 0, seen.text[:LONGEST]
    for start, end in _joined(seen.active):
        if start >= len(shown):
            break
        line.append(look.say(_broken(shown[at:start])))
        line.append(opening).append(look.say(_broken(shown[start:end])), ACTIVE).append(closing)
        at = end
    line.append(look.say(_broken(shown[at:]) + ("…" if len(seen.text) > LONGEST else "")))
    return line


def rate(value: float) -> str:
    """A firing rate as a percentage with two significant digits."""
    return f"{100 * value:.2g} %" if known(value) else MISSING


def _beside(latents: Sequence[LatentSeen], look: Look) -> Table:
    # The same widths in every row of the report, however many latents this one has.
    beside = max((look.width + GAP) // (NARROWEST + GAP), 1)
    width = max((look.width - GAP * (beside - 1)) // beside, 1)
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for _ in latents:
        grid.add_column(width=width, overflow="fold")
    grid.add_row(*(Text("\n", overflow="fold").join(latent_lines(one, look)) for one in latents))
    return grid


def _signs(seen: SeenText | SeenAnswer) -> str:
    return f"{_sign(seen.label)}{_sign(seen.prediction)} " if isinstance(seen, SeenAnswer) else ""


def _sign(value: bool | None) -> str:
    return "?" if value is None else "+" if value else "-"


def _marks(look: Look) -> tuple[str, str]:
    return ("<<", ">>") if look.ascii else ("«", "»")


def _joined(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans with those that touch made one."""
    start, end = 0, 0
    for a, b in spans:
        if a > end or start == end:
            if end > start:
                yield start, end
            start = a
        end = b
    if end > start:
        yield start, end


def _broken(text: str) -> str:
    """Line breaks as signs, as SAEBench shows them."""
    return text.replace("\r\n", "↵").replace("\n", "↵")


def _cut(text: str) -> str:
    return text[:LONGEST] + "…" if len(text) > LONGEST else text
