"""What is wrong with RAVEL data of strangers, in one line that names file and value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ...baselines.wrap.errors import did_you_mean, one_line, short
from .ravel import HELD_OUT, TRAIN, RavelData, Source, file_names

SPLITS = (TRAIN, *HELD_OUT)
"""The names that a split may have."""


def checked(
    entity_type: str,
    contents: Mapping[str, Mapping[str, Any]],
    sources: tuple[Source, ...],
    place: str,
    attributes: tuple[str, ...] = (),
) -> RavelData:
    """Data out of the contents of RAVEL's four files, whatever those are.

    Args:
        entity_type: As in `city`.
        contents: JSON objects by file name.
        sources: Where they are from.
        place: Folder or repo, for messages.
        attributes: The attributes to keep; empty for all of which something is known.

    Raises:
        ValueError: See `load_ravel`.
    """
    prompts_file, prompt_splits, facts_file, entity_splits = file_names(entity_type)
    try:
        templates = _templates(contents[prompts_file], prompts_file)
        values = _values(contents[facts_file], facts_file)
        kept = _kept(templates, values, attributes, prompts_file, facts_file)
        templates = {name: templates[name] for name in kept}
        values = {e: {a: known[a] for a in kept if a in known} for e, known in values.items()}
        asked = [template for each in templates.values() for template in each]
        data = RavelData(
            entity_type=entity_type,
            values=values,
            templates=templates,
            entity_split=_splits(values, contents[entity_splits], "entity", entity_splits),
            template_split=_splits(asked, contents[prompt_splits], "template", prompt_splits),
            sources=sources,
        )
        for name in kept:
            _check_attribute(data, name)
    except ValueError as error:
        raise ValueError(one_line(f"{place}: {error}")) from None
    return data


def _templates(found: Mapping[str, Any], file: str) -> dict[str, tuple[str, ...]]:
    _not_empty(found, file, "attributes")
    templates = {}
    for attribute, each in found.items():
        _check_name(attribute, "attribute", file)
        if not isinstance(each, list | tuple) or not each:
            raise ValueError(f"{file}: {short(attribute)} has {short(each)}; a list of templates is needed")
        for template in each:
            _check_template(template, attribute, file)
        if twice := [template for template, n in Counter(each).items() if n > 1]:
            raise ValueError(f"{file}: {short(attribute)} has the template {short(twice[0])} twice; name it once")
        templates[attribute] = tuple(each)
    return templates


def _check_template(template: object, attribute: str, file: str) -> None:
    what = f"{file}: the template {short(template)} of {short(attribute)}"
    if not isinstance(template, str):
        raise ValueError(f"{what} is no text; a text with one %s is needed")
    if (n := template.count("%s")) != 1:
        raise ValueError(f"{what} has {n} %s; exactly one is needed")


def _values(found: Mapping[str, Any], file: str) -> dict[str, dict[str, str]]:
    _not_empty(found, file, "entities")
    values = {}
    for entity, known in found.items():
        _check_name(entity, "entity", file)
        if not isinstance(known, Mapping):
            raise ValueError(
                f"{file}: {short(entity)} has {short(known)}; an object of attributes and values is needed"
            )
        for attribute, value in known.items():
            if not isinstance(value, str) or not value.isprintable():
                what = f"{short(attribute)} of {short(entity)}"
                raise ValueError(f"{file}: {what} is {short(value)}; a line of text is needed")
        # Empty: not known.
        values[entity] = {attribute: value for attribute, value in known.items() if value.strip()}
    return values


def _kept(
    templates: Mapping[str, Any],
    values: Mapping[str, Mapping[str, str]],
    wanted: tuple[str, ...],
    prompts_file: str,
    facts_file: str,
) -> tuple[str, ...]:
    known = {attribute for each in values.values() for attribute in each}
    for attribute in wanted:
        for have, file in ((templates, prompts_file), (known, facts_file)):
            if attribute not in have:
                there = f"{did_you_mean(attribute, have)} (there are {', '.join(sorted(have)[:20])})"
                raise ValueError(f"{file} has no attribute {attribute!r}{there}")
    kept = wanted or tuple(attribute for attribute in templates if attribute in known)
    if not kept:
        raise ValueError(f"no attribute of {prompts_file} is one of {facts_file}; they must have the same names")
    return kept


def _splits(names: Iterable[str], found: Mapping[str, Any], kind: str, file: str) -> dict[str, str]:
    splits = {}
    for name in names:
        if name not in found:
            raise ValueError(f"{file} has no split for the {kind} {short(name)}; it needs one of {', '.join(SPLITS)}")
        if found[name] not in SPLITS:
            right = f"it must be one of {', '.join(SPLITS)}"
            raise ValueError(f"{file}: the split of the {kind} {short(name)} is {short(found[name])}; {right}")
        splits[name] = found[name]
    return splits


def _check_attribute(data: RavelData, name: str) -> None:
    """Whether it has two values at least, and something to learn from and to be judged on."""
    facts_file = file_names(data.entity_type)[2]
    known = {entity: value for entity, each in data.values.items() if (value := each.get(name)) is not None}
    if len(distinct := set(known.values())) < 2:
        only = "".join(distinct)
        raise ValueError(f"{facts_file}: {name!r} has one value only, {short(only)}; an edit needs two at least")
    _check_sides(f"entity with a value of {name!r}", (data.entity_split[entity] for entity in known))
    _check_sides(f"template of {name!r}", (data.template_split[template] for template in data.templates[name]))


def _check_sides(what: str, splits: Iterable[str]) -> None:
    there = set(splits)
    if TRAIN not in there:
        raise ValueError(f"no {what} is in the split train; nothing can be learned")
    if not there & set(HELD_OUT):
        raise ValueError(f"no {what} is in the split val or test; nothing can be judged")


def _not_empty(found: Mapping[str, Any], file: str, what: str) -> None:
    if not found:
        raise ValueError(f"{file} has no {what}; it is empty")


def _check_name(name: str, kind: str, file: str) -> None:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{file}: {short(name)} is no name of an {kind}; a line of text is needed")
