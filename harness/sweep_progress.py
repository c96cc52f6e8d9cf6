"""One view of the progress of many checks: which of them is at work, and at which stage."""

from __future__ import annotations

from .progress import Progress, RichProgress


class SweepProgress:
    """Puts the number and the name of the check before each of its stages."""

    def __init__(self, inner: Progress) -> None:
        """Show on `inner`."""
        self.inner, self.prefix = inner, ""

    def begin(self, number: int, total: int, name: str) -> None:
        """Say that a check begins.

        Args:
            number: of the check, from 1.
            total: checks in all.
            name: of its SAE.
        """
        self.prefix = f"[{number}/{total}] {printable(name)}: "

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""
        self.inner.start(f"{self.prefix}{stage}", total)

    def advance(self, done: int) -> None:
        """Say how far the stage is."""
        self.inner.advance(done)

    def finish(self) -> None:
        """End the stage."""
        self.inner.finish()


class RichSweepProgress(SweepProgress):
    """The same with bars: one of the whole sweep, and those of the check that is at work."""

    def __init__(self, inner: RichProgress) -> None:
        """Show on `inner`, whose bars of earlier checks go away."""
        super().__init__(inner)
        self.bars, self.whole = inner.bars, None

    def begin(self, number: int, total: int, name: str) -> None:
        """Say that a check begins."""
        for task in self.bars.tasks:
            if task.id != self.whole:
                self.bars.update(task.id, visible=False)
        if self.whole is None:
            self.whole = self.bars.add_task("sweep", total=total)
        self.bars.update(self.whole, completed=number - 1)
        super().begin(number, total, name)


def printable(name: str) -> str:
    """A name without what would move a cursor or be read as markup."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("[", "(").replace("]", ")")
