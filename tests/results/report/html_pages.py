"""Pages for tests: a report in which nothing is empty, with harmless or hostile words, and what it is made of."""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_rows import design, rows

from sae_sanity.results.analysis import analyse
from sae_sanity.results.comparison import ClusterDifference
from sae_sanity.results.decision import Decision, LockStatus, RunComparison, SuiteComparison
from sae_sanity.results.latents_seen import LatentSeen, SeenAnswer, SeenText, SideBySide
from sae_sanity.results.outcome import RecipeClaim, Verdict
from sae_sanity.results.report.html_format import to_html
from sae_sanity.results.synthetic import summarise

HOSTILE = (
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</style><img src=x onerror=alert(1)>",
    "</title></svg>]]><!-- {{ 7*7 }} {% raw %}",
    "javascript:alert(1)",
    "\x00\x1b[2J\x07\x85\u202e\u2066 gone",
    "W" * 300,
)
"""What a name, a text or a judge may say."""

NAMES = re.compile("frozen_encoder@iso|explained_variance|accuracy|auc|sparse_probing|family 7|held-out|torch|texts")
"""Strings of the report below that may come from outside."""

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "col", "source", "embed", "wbr", "area", "track"}
"""Elements that are never closed."""


class Tree(HTMLParser):
    """What the page is made of; raises where elements are not closed in order."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.all, self.texts, self.words = [], [], {}, []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs), tuple(self.open)))
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.all.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def tags(self, *names):
        return [one for one in self.all if one[0] in names]


def clusters(n, centre=0.03):
    return tuple(ClusterDifference(cluster=f"family {i}", difference=centre + 0.01 * (i % 9 - 4)) for i in range(n))


def latent(arm, said="words that it likes"):
    return LatentSeen(
        arm=arm,
        seed=1,
        latent=1234,
        firing_rate=0.0012,
        stratum=2,
        explanation=said,
        detection=0.75,
        saebench=0.81,
        top=(SeenText(text=f"a quick {said} fox", active=((2, 7),)),),
        detected=(
            SeenAnswer(text=said, label=True, prediction=False, active=((0, 3),)),
            SeenAnswer(text="x", label=False, prediction=None),
        ),
    )


@cache
def synthetic_suite():
    frame = rows(n_features=200)
    (suite,) = analyse(frame, design(frame))
    world = summarise(frame, world="variable", n_features=200, d_in=100, true_l0=20.0, chance_mean_cosine=0.348)
    return suite.model_copy(update={"detail": world})


def probing(make):
    suite = make.probing()
    taus = {"0.9": 0.76, "0.95": 0.72, "0.99": 0.66}
    more = (make.arm(f"soft_frozen@{tau}", "baseline", score) for tau, score in taus.items())
    shown = suite.comparisons[0].model_copy(update={"clusters": clusters(41)})
    recipe = RecipeClaim(
        arm="retrained", verdict=Verdict.BEATS, reason="It does.", p=0.01, p_holm=0.02, comparisons=(shown,)
    )
    frozen = make.arm("frozen_decoder@iso", "baseline", 0.61)
    changes = {"arms": (*suite.arms, *more, frozen), "recipe": recipe, "votes": False}
    return suite.model_copy(update=changes | {"comparisons": (shown, *suite.comparisons[1:])})


def sampled(make):
    one = make.comparison("random", "EQUIVALENT", make.estimate(0.001, 0.004), sampled=True)
    return make.probing().model_copy(update={"suite": "autointerp", "comparisons": (one,)})


def whole(make, said="words that it likes", name=""):
    """A report in which nothing is empty; `said` and `name` stand wherever somebody else's words may."""
    since = make.comparison(f"the last release {name}", "WORSE", make.estimate(-0.031, 0.004))
    report = make.report(
        target=f"demo {name}",
        suites=(make.reconstruction(), probing(make), sampled(make), synthetic_suite()),
        recipe="PASS",
        decision=Decision(action="fail", reasons=(f"worse than {name or 'the last'}", "no plan")),
        lock=LockStatus(sha256="9a" * 32, departures=(f"seeds were 5, the run has 3 {name}",)),
        since=RunComparison(
            ours="demo",
            theirs=f"the last release {name}",
            comparisons=(SuiteComparison(suite="reconstruction", comparison=since),),
            skipped=(f"sparse_probing: other data {name}",),
            notes=(f"one of them is older {name}",),
        ),
        latents=(
            SideBySide(why="random", stratum=2, latents=(latent("trained", said), latent("random"))),
            SideBySide(why="different", stratum=2, latents=(latent("trained"), latent("random", said))),
        ),
    )
    return report


def renamed(value, hostile, keys=False):
    """Data with a string in place of every name of an arm, a metric, a suite or a cluster."""
    if isinstance(value, dict):
        pairs = ((renamed(key, hostile) if keys else key, key, one) for key, one in value.items())
        return {new: renamed(one, hostile, key in ("secondary", "hashes", "versions")) for new, key, one in pairs}
    if isinstance(value, list | tuple):
        return tuple(renamed(one, hostile) for one in value)
    return NAMES.sub(lambda _: hostile, value) if isinstance(value, str) else value


def with_names(report, hostile):
    """The report with a string in place of every name that may come from outside."""
    return type(report).model_validate(renamed(report.model_dump(), hostile))


@cache
def parsed(page):
    return Tree(page)


@cache
def plain_page(make):
    """The page of the hostile ones with harmless words instead."""
    return to_html(with_names(whole(make, "said", "name"), "name"))


@cache
def cached(make, *said):
    """The report of `whole` with its page: it is the same in every test."""
    report = whole(make, *said)
    return report, to_html(report)


@cache
def pages(make):
    hostile = with_names(whole(make, HOSTILE[3] + HOSTILE[7], "W" * 300), HOSTILE[0])
    return {"whole": cached(make)[1], "small": to_html(make.report()), "hostile": to_html(hostile)}
