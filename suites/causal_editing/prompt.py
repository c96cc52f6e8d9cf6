"""A prompt about an entity, as the model reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One template with one entity put in: the model should go on with the value of the attribute."""

    text: str
    """The whole text, as in `Paris is a city in the country of`."""
    template: str
    """The text with `%s` in the place of the entity."""
    attribute: str
    """What is asked for, as in `Country`."""
    entity: str
    """Whom it is asked of."""
    value: str
    """The right answer."""
    tokens: tuple[int, ...]
    """Token ids, BOS first if the site has one."""
    position: int
    """Index in `tokens` of the entity's last token, where edits happen."""
