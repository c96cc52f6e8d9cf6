"""What a policy makes of a verdict: go on, warn or stop; and the two things that may speak against going on."""

from __future__ import annotations

from typing import Literal

from .comparison import Comparison
from .frozen import Frozen

Action = Literal["pass", "warn", "fail"]


class Decision(Frozen):
    """What a gate should do. The exit code states the verdict whatever the decision is."""

    action: Action = "fail"
    """`pass`: go on; `warn`: go on and say why it is no pass; `fail`: stop."""
    reasons: tuple[str, ...] = ()
    """One line for each thing that is not as the policy wants it; empty for `pass`."""


class LockStatus(Frozen):
    """A registered plan that a run is held against."""

    sha256: str
    """Hash of the registered plan, without the file's layout."""
    departures: tuple[str, ...] = ()
    """Where the run is not what was registered, one line each; empty where it is."""
    before: bool = True
    """Whether the run knew the plan before its first score; False where it was only held against it afterwards."""


class RunComparison(Frozen):
    """The SAE under test against that of another run, item by item."""

    ours: str
    """What the run under test checked."""
    theirs: str
    """What the other run checked."""
    comparisons: tuple[SuiteComparison, ...]
    """One for each suite that both runs have."""
    skipped: tuple[str, ...] = ()
    """Suites that only one of them has, and why others could not be paired, one line each."""
    notes: tuple[str, ...] = ()
    """What differs between the runs and may: how the SAEs were made, L0, versions; one line each."""


class SuiteComparison(Frozen):
    """One suite of two runs."""

    suite: str
    """Name of the suite, with its SAE where a check has several."""
    comparison: Comparison
    """Ours minus theirs on the primary metric; `baseline` is what the other run checked."""


RunComparison.model_rebuild()
