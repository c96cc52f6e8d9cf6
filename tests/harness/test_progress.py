from __future__ import annotations

import io

from sae_sanity.harness.progress import PlainProgress, Progress, RichProgress, Silent


def test_plain_lines_are_few(monkeypatch):
    now = iter([0.0, 0.0, 1.0, 2.0, 20.0, 20.0, 21.0, 22.0, 22.0])
    monkeypatch.setattr("sae_sanity.harness.progress.time.monotonic", lambda: next(now))
    stream = io.StringIO()
    progress = PlainProgress(stream, every=15.0)
    progress.start("training", 100)
    for done in (10, 20, 30):
        progress.advance(done)
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "sae-sanity: training …",
        "sae-sanity: training: 30 of 100",
        "sae-sanity: training: done in 21 s",
    ]


def test_rich_bars_end_full():
    with RichProgress() as progress:
        progress.advance(3)  # before any stage: nothing to draw, nothing to fail
        progress.start("measuring", 7)
        progress.advance(2)
        progress.finish()
        assert progress.bars.tasks[0].completed == 7


def test_all_are_what_long_work_calls():
    assert all(isinstance(p, Progress) for p in (Silent(), PlainProgress(), RichProgress()))
    Silent().start("x", 1)
    Silent().advance(1)
    Silent().finish()
