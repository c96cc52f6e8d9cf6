"""A block of a model card on the Hugging Face hub: text between two markers, and results in the card's metadata.

The metadata is read, merged and written by `huggingface_hub`'s own classes. Suites whose assay is INVALID have no entry
there: a number without a working assay would be read as a result.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from ..outcome import Verdict
from ..report.panels import deciding
from .public import public

if TYPE_CHECKING:
    from collections.abc import Sequence

    from huggingface_hub import EvalResult

    from ..outcome import CheckReport, Comparison, SuiteResult

BEGIN, END = "<!-- sae-sanity: begin -->", "<!-- sae-sanity: end -->"
"""What stands around the block."""

PAPER = "https://arxiv.org/abs/2602.14111"

TASK = "sae-sanity"
"""Task type of our entries in the metadata, by which an older one is found and replaced."""

CLAIMS = {
    "PASS": "It beats every required random baseline in every required suite.",
    "FAIL": "It does **not** beat every required random baseline.",
    "INCONCLUSIVE": "Whether it beats random baselines is **not known**: the data do not decide. This is no pass.",
    "INVALID": "**No verdict**: an assay could not tell, or the check is incomplete. This says nothing for the SAE.",
}
"""What the block claims for each verdict."""

STOPPED = "The policy asks for more, and stops it all the same; its reasons are below."
"""What follows the claim of a PASS that the policy does not let through."""

_MARKDOWN = re.compile(r"([\\`*_\[\]#|~])")


def with_block(card: str, report: CheckReport) -> str:
    """A model card with the block of a report, put in or replaced; the rest of its text stays byte for byte.

    Args:
        card: Text of the card; empty for a new one.
        report: What a check concluded.

    Returns:
        The card. Its metadata has an entry for every suite that has a verdict; other entries stay.

    Raises:
        ValueError: If the card's metadata cannot be read, or only one of the two markers is there.

    A folder of this machine is named by the last part of its path (`release.public`).
    """
    from huggingface_hub import ModelCard, ModelCardData

    report = public(report)
    text = _placed(card, block(report))
    results = eval_results(report)
    metadata = _metadata(card)
    if not results and TASK not in metadata:
        return text
    _one_model(metadata)
    # huggingface_hub warns of a card without metadata, which is no fault of the user's here.
    found = ModelCard(text if _metadata(text) else f"---\n{{}}\n---\n{text}")
    data = cast("ModelCardData", found.data)
    others = [one for one in data.eval_results or [] if one.task_type != TASK]
    data.eval_results = [*others, *results] or None
    if data.eval_results and not data.model_name:
        data.model_name = _named(report.target)
    return str(found) if data.to_dict() else text


def _metadata(card: str) -> str:
    """The YAML at the head of a card as text; empty where it has none."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    found = REGEX_YAML_BLOCK.search(card)
    return found[2] if found else ""


def _one_model(metadata: str) -> None:
    """Refuse results of several models in one card: huggingface_hub reads all of them as those of the last."""
    import yaml

    try:
        index = (yaml.safe_load(metadata) or {}).get("model-index") or []
    except (yaml.YAMLError, AttributeError) as error:
        msg = f"the card's metadata cannot be read: {error}"
        raise ValueError(msg) from None
    if len(index) > 1:
        msg = f"the card's model-index has {len(index)} models; it must have one"
        raise ValueError(msg)


def block(report: CheckReport) -> str:
    """The block in Markdown, markers included."""
    report = public(report)
    suites = [line for suite in report.suites for line in _suite_row(suite)]
    manifest = report.manifest
    found = [f"{name} {manifest.versions[name]}" for name in ("sae-sanity", "torch") if name in manifest.versions]
    lines = [
        BEGIN,
        "## Does it beat random?",
        "",
        _claim(report),
        "",
        _escaped(report.headline),
        "",
        *_table(suites),
        *(f"- {_escaped(suite.label)}: {_escaped(suite.reason)}" for suite in report.suites),
        *(f"- not measured: {_escaped(skip.what)}: {_escaped(skip.reason)}" for skip in report.skipped),
        *(f"- policy: {_escaped(reason)}" for reason in report.decision.reasons),
        "",
        f"The verdict is about {_about(report)}. The question is that of [Korznikov et al. 2026]({PAPER}). "
        f"Configuration `{manifest.config_hash[:16]}`, {_escaped(', '.join(found))}; to measure it again:",
        "",
        f"    {_command(manifest.command)}",
        END,
    ]
    return "\n".join(lines) + "\n"


def _claim(report: CheckReport) -> str:
    """The verdict and what it claims; a PASS that the policy stops is not said without that."""
    if report.verdict == "PASS" and report.decision.action == "fail":
        return f"**PASS, but stopped by the policy.** {CLAIMS['PASS']} {STOPPED}"
    return f"**{report.verdict}.** {CLAIMS[report.verdict]}"


def eval_results(report: CheckReport) -> list[EvalResult]:
    """An entry of the card's metadata for every suite that is not INVALID: the score of the SAE, with its verdict."""
    from huggingface_hub import EvalResult

    found: list[Any] = []
    for suite in report.suites:
        score = next((arm.score for arm in suite.arms if arm.role == "trained"), None)
        if suite.verdict is Verdict.INVALID or score is None or not isfinite(score):
            continue
        found.append(
            EvalResult(
                task_type=TASK,
                task_name=f"does it beat random: {suite.verdict}",
                dataset_type=f"{TASK}/{suite.suite}",
                dataset_name=_named(suite.label),
                dataset_config=_named(suite.subject) or None,
                metric_type=suite.metric,
                metric_name=f"{suite.metric} ({suite.verdict} against random baselines)",
                metric_value=round(score, 6),
            )
        )
    return found


def _placed(card: str, made: str) -> str:
    """Text with the block in place of the old one, or at the end."""
    if (BEGIN in card) != (END in card) or card.count(BEGIN) > 1:
        msg = f"the card must hold {BEGIN} and {END} once each, or neither"
        raise ValueError(msg)
    newline = "\r\n" if "\r\n" in card else "\n"
    made = made.replace("\n", newline)
    if BEGIN in card:
        start, rest = card.split(BEGIN, 1)
        if END not in rest:
            msg = f"{END} stands before {BEGIN} in the card"
            raise ValueError(msg)
        return start + made.removesuffix(newline) + rest.split(END, 1)[1]
    gap = "" if not card else newline if card.endswith("\n") else newline * 2
    return card + gap + made


def _table(rows: Sequence[str]) -> list[str]:
    head = "| suite | verdict | metric | this SAE | decided by | difference [90 % interval] |"
    return [head, "|---|---|---|---:|---|---:|", *rows, ""] if rows else []


def _suite_row(suite: SuiteResult) -> list[str]:
    """A row of the table; without figures where the assay could not tell."""
    score, one = "–", deciding(suite)
    if suite.verdict is not Verdict.INVALID:
        score = next((f"{arm.score:.3f}" for arm in suite.arms if arm.role == "trained"), "–")
    cells = [suite.label, suite.verdict.value, suite.metric, score, one.baseline if one else "–", _interval(one)]
    return [f"| {' | '.join(map(_escaped, cells))} |"]


def _interval(one: Comparison | None) -> str:
    if one is None or one.estimate is None:
        return "–"
    found = one.estimate
    ends = f"{found.lo:+.3f}, {found.hi:+.3f}" if found.lo is not None and found.hi is not None else "not known"
    return f"{found.difference:+.3f} [{ends}]"


def _about(report: CheckReport) -> str:
    return "this way of training" if report.claim == "recipe" else "this SAE"


def _command(command: str) -> str:
    """On one line, with no comment in it that could end the block: `''` is nothing between quotes of a shell."""
    return shlex.join(shlex.split(_plain(command))).replace("<!--", "<''!--")


def _plain(text: str) -> str:
    """On one line, without control characters: names come from files and hubs."""
    return "".join(" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or unicodedata.category(c)[0] != "C")


def _named(text: str) -> str:
    """For the metadata, which stands before the block and must not look like its beginning."""
    return _plain(text).replace("<!--", "<--")


def _escaped(text: str) -> str:
    """Literal in Markdown and HTML."""
    return _MARKDOWN.sub(r"\\\1", escape(_plain(text), quote=False))
