"""What `bench.py` runs, in short form, and what the issues of this project wanted of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One row of the table: a figure that a benchmark says, and what was wanted of it."""

    key: str
    """Its name in what the benchmark says."""
    what: str
    """Its name in words."""
    least: float | None = None
    """What it has to reach."""
    most: float | None = None
    """What it must not exceed."""
    unit: str = ""
    """Put behind it: `times`, `s`, `GiB`."""

    def met(self, values: list[float]) -> bool | None:
        """Whether all values are as they were wanted; None where nothing was."""
        if self.least is None and self.most is None:
            return None
        low = float("-inf") if self.least is None else self.least
        high = float("inf") if self.most is None else self.most
        return all(low <= value <= high for value in values)

    @property
    def wanted(self) -> str:
        """The same in words."""
        unit = f" {self.unit}" if self.unit else ""
        if self.least is not None and self.most is not None:
            return f"{number(self.least)} to {number(self.most)}{unit}"
        if self.least is not None:
            return f"at least {number(self.least)}{unit}"
        return f"at most {number(self.most)}{unit}" if self.most is not None else ""


@dataclass(frozen=True)
class Benchmark:
    """One file of this folder with the arguments of its short form."""

    name: str
    """Its name here, and of its JSON file."""
    figures: tuple[Figure, ...]
    """Rows of the table."""
    arguments: tuple[str, ...] = ()
    """Of its command line."""
    file: str = ""
    """Name of the file without its ending, where it is not the name."""
    repeats: int = 1
    """How often it runs; 3 where that is short."""
    threads: int | None = None
    """OMP_NUM_THREADS of it; None as the machine has it."""
    variables: dict[str, str] = field(default_factory=dict)
    """Further variables."""

    @property
    def script(self) -> str:
        """Name of the file without its ending."""
        return self.file or self.name

    @property
    def command(self) -> str:
        """What one would type."""
        return " ".join(("python", f"benchmarks/{self.script}.py", *self.arguments))


def number(value: float) -> str:
    """A figure as a reader wants it: three digits, thousands apart."""
    if value and abs(value) < 1e-3:
        return f"{value:.4f}" if abs(value) >= 5e-5 else "under 0.0001"
    size = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    text = f"{value:,.{max(0, 3 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _faster(key: str, what: str, least: float | None = 3.0) -> Figure:
    return Figure(key, what, least=least, unit="times as fast")


def _same(when: str) -> Figure:
    return Figure("explained variance", f"greatest difference of explained variance of these arms, {when}", most=0.002)


_ARCHITECTURES = {
    "batchtopk": "BatchTopK",
    "topk": "TopK",
    "jumprelu": "JumpReLU",
    "matryoshka_batchtopk": "Matryoshka",
}
_DRAWN = "other random numbers"
_UNLIKE = {"jumprelu": "other random numbers and another L0: not to be compared"}
_PLANNED = {"sweep": "a sweep", "synthetic": "a synthetic run", "judge": "a check with a judge"}


def _planned() -> tuple[Figure, ...]:
    """Predicted by actual."""
    rows: list[Figure] = []
    for case, words in _PLANNED.items():
        rows += [
            Figure(f"{case} seconds", f"time of {words}, planned by an earlier run: predicted / actual", 0.75, 1.25),
            Figure(
                f"{case} seconds, thumbs", f"time of {words}, planned by rules of thumb: predicted / actual", 0.75, 1.25
            ),
        ]
        disk = ("results",) if case == "synthetic" else ("results", "cache")
        rows += [Figure(f"{case} {each}", f"disk of {words} ({each}): predicted / actual", 0.75, 1.25) for each in disk]
    return (*rows, Figure("judge tokens", "tokens of the judge: predicted / actual", 0.75, 1.25))


CATALOGUE = (
    Benchmark(
        "training",
        (
            _faster("ratio", "four BatchTopK arms of 1,024 latents on one stream against `SAETrainer` one by one"),
            _faster("ratio of CPU", "that in CPU seconds", None),
            _same("after 120 steps, the whole training of the demo"),
        ),
        ("--texts", "--steps", "120"),
        threads=1,
    ),
    Benchmark(
        "training_4096",
        (_faster("ratio", "four BatchTopK arms of 4,096 latents likewise"), _same("after 8 steps")),
        ("--texts", "--steps", "8", "--d-sae", "4096"),
        file="training",
        repeats=3,
        threads=1,
    ),
    Benchmark(
        "training_topk",
        (_faster("ratio", "four TopK arms of 1,024 latents likewise"), _same("after 20 steps")),
        ("--texts", "--steps", "20", "--architecture", "topk"),
        file="training",
        repeats=3,
        threads=1,
    ),
    Benchmark(
        "synthetic_training",
        tuple(
            row
            for name, words in _ARCHITECTURES.items()
            for row in (
                _faster(f"{name} ratio", f"four {words} arms in a synthetic world against SAELens' toy training"),
                Figure(f"{name} explained variance", f"difference of explained variance ({_UNLIKE.get(name, _DRAWN)})"),
            )
        ),
        ("--steps", "40", "--rounds", "3", "--architectures", *_ARCHITECTURES),
        threads=1,
    ),
    Benchmark(
        "synthetic_sampler",
        (
            _faster("constant 3200", "samples of a world of 3,200 features against `sae_lens.synthetic`", 1.0),
            _faster("constant 51200", "samples of a world of 51,200 features likewise", 1.0),
        ),
        ("--seconds", "1"),
        threads=1,
    ),
    Benchmark(
        "activations",
        (
            _faster("collect / plain", "activations to disk against a forward pass of all layers", None),
            _faster("collect / stopped", "activations to disk against a forward pass that a plain hook stops", None),
            Figure("batches", "a batch of 2,048 from files in the page cache (no disk is read)", unit="ms"),
        ),
        ("--tokens", "20000"),
    ),
    Benchmark(
        "l0_matching",
        (Figure("greatest error", "greatest error of a matched L0", most=0.05),),
        ("--architectures", "batchtopk,jumprelu,standard"),
    ),
    Benchmark(
        "autointerp",
        (
            _faster("ratio", "a judge's questions about five SAEs against SAEBench one by one", 5.0),
            Figure("questions a second", "questions a second to an instant judge", least=50.0),
        ),
        ("--latents", "60", "--tokens", "20000"),
    ),
    Benchmark(
        "causal_editing",
        (Figure("ratio", "causal editing of five SAEs: time in times of that of SAEBench's one", most=1.5),),
        ("--pairs", "128"),
    ),
    Benchmark(
        "report_speed",
        (
            Figure("processor", "statistics and report of a million rows, one core", most=10.0, unit="s"),
            Figure("memory", "peak memory of that", most=2.0, unit="GiB"),
            _faster("sign-flip", "one comparison with its tests against scipy's sign-flip", None),
            _faster("mixed model", "one comparison with its tests against a mixed model", None),
        ),
        ("--formats", "table,json,markdown,html,junit,github"),
        threads=1,
    ),
    Benchmark(
        "memory",
        (
            Figure("peak", "peak memory of a check with ten times the tokens", most=6.0, unit="GiB"),
            Figure("ratio", "that by the peak with a tenth of them (flat)", most=1.25),
        ),
    ),
    Benchmark(
        "demo",
        (
            Figure("smoke minutes", "`check demo --profile smoke`, nothing cached", most=2.0, unit="min"),
            Figure("demo minutes", "`check demo`, nothing cached", most=10.0, unit="min"),
            Figure("demo memory", "peak memory of that", most=6.0, unit="GiB"),
            Figure(
                "demo seconds, planned",
                "the demo's time, planned by the smoke run before: predicted / actual",
                0.75,
                1.25,
            ),
            Figure("demo seconds, thumbs, planned", "that by rules of thumb: predicted / actual", 0.75, 1.25),
            Figure(
                "smoke seconds, thumbs, planned",
                "time of its smoke profile, planned by rules of thumb: predicted / actual",
                0.75,
                1.25,
            ),
            Figure("demo results, planned", "the demo's results folder: predicted / actual", 0.75, 1.25),
            Figure("demo cache, planned", "the demo's cache: predicted / actual", 0.75, 1.25),
        ),
    ),
    Benchmark(
        "executors",
        (
            Figure("efficiency", "two Ray workers: share of twice the speed of one", least=0.9),
            Figure("at a cell", "share of their time that two workers are at a cell"),
        ),
        ("--repeats", "3"),
        threads=1,
    ),
    Benchmark("plan_accuracy", _planned()),
)
"""In the order of the table; chosen to take about 40 minutes on two idle cores, an estimate: never timed as a whole."""
