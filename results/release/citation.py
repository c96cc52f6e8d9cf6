"""BibTeX of the tool and of the methods that a run used; the entries are in `published/references.bib`."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..outcome import CheckReport

FILE = "references.bib"

ALWAYS = ("korznikov2026sanity", "berger1982", "holm1979", "lakens2017", "schuirmann1987")
"""The question, and how every check concludes: intersection-union, Holm, equivalence."""

PAIRED = ("demsar2006", "miller2024", "owen2007")
"""What a suite of paired items rests on: Wilcoxon over datasets, paired differences of clusters, crossed variance."""

BY_SUITE = {
    "sparse_probing": ("kantamneni2025", "karvonen2025saebench"),
    "hard_probing": ("kantamneni2025",),
    "autointerp": ("paulo2024", "karvonen2025saebench"),
    "causal_editing": ("huang2024ravel", "karvonen2025saebench"),
    "synthetic": ("chanin2026synthsaebench",),
}
"""Where a suite's task comes from."""

SAES, SITE, SMALL_MODEL = "bloom2024saelens", "fiottokaufman2024nnsight", "allal2025smollm2"


def bibtex(report: CheckReport | None = None) -> str:
    """BibTeX of the tool, and of what a run used.

    Args:
        report: The report of the run; None for the tool and the paper whose question it asks.

    Returns:
        Entries apart from each other by an empty line, the tool first.
    """
    known = entries()
    used = [ALWAYS[0]] if report is None else used_by(report)
    return "\n".join([tool(), *(known[key] for key in used)])


def used_by(report: CheckReport) -> list[str]:
    """Keys of what a run used, in a fixed order, each once."""
    suites = [suite.suite for suite in report.suites]
    sampled = {suite.suite for suite in report.suites if any(one.sampled for one in suite.comparisons)}
    found = [*ALWAYS, *(PAIRED if set(suites) - sampled else ())]
    found += [key for suite in suites for key in BY_SUITE.get(suite, ())]
    found += [SAES]
    found += [SITE] if any(suite != "synthetic" for suite in suites) else []
    found += [SMALL_MODEL] if _small_model(report) else []
    return list(dict.fromkeys(found))


def _small_model(report: CheckReport) -> bool:
    """Whether the demo's language model was read, or the local judge asked, which is the same model."""
    settings = report.manifest.settings
    names = (str(settings.get("model", "")), *report.manifest.notes)
    return report.target == "demo" or settings.get("judge") == "local" or any("smollm2" in n.lower() for n in names)


def entries() -> dict[str, str]:
    """Every entry of the file by its key."""
    text = files("sae_sanity.results").joinpath("published", FILE).read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{([^,\s]+),.*?^\}\n", text, flags=re.MULTILINE | re.DOTALL)
    return {match[1]: match[0] for match in found}


def tool() -> str:
    """The entry of this tool, with the version that is installed."""
    return (
        "@software{sae_sanity,\n"
        "  title = {{sae-sanity}: Does this sparse autoencoder beat random?},\n"
        "  author = {{The sae-sanity contributors}},\n"
        f"  version = {{{_version()}}},\n"
        "  license = {Apache-2.0},\n"
        "}\n"
    )


def _version() -> str:
    try:
        return version("sae-sanity")
    except PackageNotFoundError:
        return "unknown"
