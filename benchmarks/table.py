"""The table of docs/performance.md, from the JSON files that `bench.py` wrote."""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from catalogue import Benchmark, Figure, number

from sae_sanity.results.files import write_output

BEGIN, END = "<!-- bench.py writes from here -->", "<!-- to here -->"


def write_table(page: Path, folder: Path, catalogue: Sequence[Benchmark]) -> None:
    """Put the table between the markers of a page.

    Raises:
        ValueError: The page has no markers, or not in this order.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has not the lines {BEGIN!r} and {END!r}, between which the table goes")
    made = "\n".join((BEGIN, "", *lines(folder, catalogue), "", END))
    write_output(page, f"{before}{made}{after}".encode())


def lines(folder: Path, catalogue: Sequence[Benchmark]) -> Iterator[str]:
    """The table and, below it, the machines."""
    records = {each.name: record(folder / f"{each.name}.json") for each in catalogue}
    machines = list(dict.fromkeys(described(found) for found in records.values() if found))
    yield "| what | measured (least to greatest) | wanted | met | by |"
    yield "|---|---|---|---|---|"
    for benchmark in catalogue:
        found = records[benchmark.name]
        where = f" ({machines.index(described(found)) + 1})" if found and len(machines) > 1 else ""
        yield from rows(benchmark, found, where)
    for place, words in enumerate(machines, 1):
        yield ""
        yield f"{f'({place}) ' if len(machines) > 1 else ''}{words}"


def record(path: Path) -> dict[str, Any]:
    """One file; nothing where the benchmark has not run yet."""
    return json.loads(path.read_bytes()) if path.is_file() else {}


def rows(benchmark: Benchmark, found: dict[str, Any], where: str) -> Iterator[str]:
    """The rows of one benchmark: one for each figure, or one that says why there is none."""
    by = f"`{escaped(benchmark.command.removeprefix('python benchmarks/'))}`{where}"
    if "failed" in found:
        yield f"| {benchmark.figures[0].what} | failed: {escaped(found['failed'])} | | **no** | {by} |"
        return
    for figure in benchmark.figures:
        values = found.get("figures", {}).get(figure.key)
        yield f"| {figure.what} | {cell(figure, values)} | {figure.wanted} | {met(figure, values)} | {by} |"
        by = ""


def cell(figure: Figure, values: dict[str, Any] | None) -> str:
    """Median and spread."""
    if values is None:
        return "not measured"
    unit = f" {figure.unit}" if figure.unit else ""
    spread = f" ({number(values['least'])} to {number(values['greatest'])})" if len(values["values"]) > 1 else ""
    return f"{number(values['median'])}{unit}{spread}"


def met(figure: Figure, values: dict[str, Any] | None) -> str:
    """Yes or no in words; nothing where nothing was wanted. By today's target, whatever it was when it was measured."""
    if values is None or (answer := figure.met(values["values"])) is None:
        return ""
    return "yes" if answer else "**no**"


def described(found: dict[str, Any]) -> str:
    """The machine of a record and its versions, in words."""
    if not found:
        return ""
    of, used = found["machine"], found["versions"]
    packages = ", ".join(f"{name} {which}" for name, which in used.items())
    return f"{of['processor']}, {of['cores']} cores, {of['memory_gib']:g} GiB; {packages}."


def escaped(text: str) -> str:
    """A text that cannot leave its cell."""
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ").replace("<", "&lt;")
