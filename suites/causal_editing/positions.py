"""Where a prompt's entity ends among the tokens of the prompt."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from ..site import Site
from .prompt import Prompt


def find_prompt(site: Site, template: str, entity: str, attribute: str, value: str) -> Prompt:
    """Put an entity into a template and find the entity's last token.

    The tokens are those of `Site.tokenise`. The entity's last token is the last one that holds any of the entity's
    last character: the last of several where a byte-level tokenizer splits a character, and the whole token where
    a tokenizer merges the entity's end with what follows it.

    SAEBench counts the remainder's tokens from the end instead, BOS included. Without a BOS that is one token past
    the entity, and it is wrong where the remainder alone is tokenised otherwise than behind the entity.

    Args:
        site: Whose tokenizer, BOS token and context size are meant.
        template: The prompt with exactly one `%s`, where the entity goes.
        entity: What the prompt is about.
        attribute: What is asked for.
        value: The right answer.

    Raises:
        ValueError: The template has not exactly one `%s`, the entity is empty, the prompt is longer than the
            site's context, or no token holds the entity's end.
    """
    text, end = _filled(template, entity)
    ids, last = _located(site.tokenizer, text, end)
    bos = [] if site.bos_token_id is None else [site.bos_token_id]
    if len(bos) + len(ids) > site.context_size:
        msg = f"prompt {text!r} has {len(bos) + len(ids)} tokens, more than the context of {site.context_size}"
        raise ValueError(msg)
    if last is None:
        raise ValueError(f"cannot find the last token of entity {entity!r} in {text!r}")
    return Prompt(text, template, attribute, entity, value, (*bos, *ids), len(bos) + last)


def _filled(template: str, entity: str) -> tuple[str, int]:
    """The prompt, and where in it the entity ends."""
    before, *rest = template.split("%s")
    if len(rest) != 1 or not entity.strip():
        raise ValueError(f"template {template!r} must have exactly one %s, and entity {entity!r} must not be empty")
    # The template's place, not a search: few-shot examples may name the same entity.
    return before + entity + rest[0], len(before + entity.rstrip())


def _located(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> tuple[list[int], int | None]:
    """Token ids without special ones, and the index of the token that ends `text[:end]`."""
    fast = bool(tokenizer.is_fast)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast)
    ids: list[int] = list(encoding["input_ids"])  # pyright: ignore[reportArgumentType]
    if not fast:
        return ids, _by_decoding(tokenizer, ids, text[:end])
    spans: list[tuple[int, int]] = encoding["offset_mapping"]  # pyright: ignore[reportAssignmentType]
    return ids, max((index for index, (start, stop) in enumerate(spans) if start < end <= stop), default=None)


def _by_decoding(tokenizer: PreTrainedTokenizerBase, ids: list[int], wanted: str) -> int | None:
    """Index of the first token with which the decoded tokens begin as the text does up to the entity's end."""
    # A character cut in its bytes decodes to U+FFFD, so its earlier tokens do not count.
    for index in range(len(ids)):
        decoded = tokenizer.decode(ids[: index + 1], clean_up_tokenization_spaces=False)
        # SentencePiece puts a space before the text, or takes the first one away.
        if str(decoded).lstrip().startswith(wanted.lstrip()):
            return index
    return None
