"""What scikit-learn's other ways to fit the probes of hard_probing would save, and what they would change.

    python benchmarks/probe_solvers.py [--draws 6]     # a minute on one core

Made-up sparse latents. sae-probes fits ten strengths of penalty from zero by L-BFGS; beside that stand L-BFGS and
Newton's method, from zero or from the fit before. Printed are the milliseconds of ten fits, and by how much the largest
of their ten AUCs on held-out rows, by which an arrow is chosen, is another one at most.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from sae_sanity.suites.hard_probing.arrows import calm
from sae_sanity.suites.hard_probing.sae_arrow import CS, KS, auc

ROWS = ((12, 2), (119, 24), (200, 50))
"""Rows that train and rows that are held out: a fold of 14 and of 143 rows, and of 250."""
WAYS = {
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs, warm": {"solver": "lbfgs", "warm_start": True},
    "newton": {"solver": "newton-cholesky"},
    "newton, warm": {"solver": "newton-cholesky", "warm_start": True},
}


def main() -> None:
    """Print a line for each size and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=6, help="of latents and labels")
    draws = parser.parse_args().draws
    for rows in ROWS:
        for k in KS:
            found = np.array([[best(way, *rows, k, draw) for way in WAYS] for draw in range(draws)])
            for n, way in enumerate(WAYS):
                milliseconds, apart = 1000 * found[:, n, 0].mean(), np.abs(found[:, n, 1] - found[:, 0, 1]).max()
                print(f"{rows[0]:>4} rows, k = {k:<3}  {way:<12} {milliseconds:6.1f} ms  AUC {apart:.3f} apart at most")


def best(way: str, n_train: int, n_held_out: int, k: int, draw: int) -> tuple[float, float]:
    """Seconds of ten fits, and the largest of their AUCs on the rows held out."""
    rng = np.random.default_rng(draw)
    y = np.concatenate([rng.permutation(np.arange(n) % 2) for n in (n_train, n_held_out)])
    signal = 0.3 * y[:, None] * (rng.random(k) < 0.1)
    x = np.maximum(rng.normal(size=(len(y), k)) - 1 + signal, 0) * rng.gamma(1, 2, size=k) / 10
    model = LogisticRegression(max_iter=1000, **WAYS[way])
    order = CS[::-1] if "warm" in way else CS  # a warm start goes from strong penalties to weak ones
    with calm():
        begun = time.process_time()
        fits = [model.set_params(C=C).fit(x[:n_train], y[:n_train]).predict_proba(x[n_train:])[:, 1] for C in order]
        seconds = time.process_time() - begun
    return seconds, float(auc(y[n_train:], np.stack(fits)).max())


if __name__ == "__main__":
    main()
