"""How optimistic are the validation AUCs that choose an arrow of `hard_probing`, on noise, where the truth is .5?

Activations, latents and labels are independent draws. An arrow is chosen for nothing but the optimism of its
validation then, and an SAE's two arrows among six should be one time in three.

    python benchmarks/validation_optimism.py [--rows 14 56 130 500] [--repeats 60]      # 4 minutes on one core
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from sae_sanity.suites.hard_probing.arrows import Missed, Shot, shoot
from sae_sanity.suites.hard_probing.sae_arrow import KS, shoot_sae

DENSE = ("logreg", "pca", "knn", "mlp")
WIDTH, LATENTS, TEST_ROWS, SEED = 64, 500, 20, 42


def validations(n_rows: int, draw: int) -> list[float]:
    """Validation AUC of every arrow on one draw of noise, the SAE's last; NaN where an arrow missed."""
    rng = np.random.default_rng(draw)
    n = n_rows + TEST_ROWS
    activations = rng.normal(size=(n, WIDTH)).astype(np.float32)
    latents = np.maximum(rng.normal(size=(n, LATENTS)), 0).astype(np.float32)
    y, y_test = rng.permutation(np.arange(n_rows) % 2), np.arange(TEST_ROWS) % 2

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return x[:n_rows], y, x[n_rows:], y_test

    shots: list[Shot | Missed] = [shoot(name, *parts(activations), SEED) for name in DENSE]
    shots += [shoot_sae(*parts(latents), SEED, k) for k in KS]
    return [shot.validation_auc if isinstance(shot, Shot) else math.nan for shot in shots]


def main() -> None:
    """Print one line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[14, 56, 130, 500])
    parser.add_argument("--repeats", type=int, default=60, help="draws; two and a half times as many from 128 rows on")
    args = parser.parse_args()
    arrows = [*DENSE, *(f"k={k}" for k in KS)]
    print(f"{'rows':>5}  {'  '.join(f'{name:>6}' for name in arrows)}  s.e.<=  SAE chosen")
    for n_rows in args.rows:
        repeats = args.repeats if n_rows < 128 else args.repeats * 5 // 2  # one fold there: quicker, and noisier
        found = np.array([validations(n_rows, draw) for draw in range(repeats)])
        error = (np.nanstd(found, axis=0) / math.sqrt(repeats)).max()
        chosen = (np.nanargmax(found, axis=1) >= len(DENSE)).mean()
        means = "  ".join(f"{mean:6.3f}" for mean in np.nanmean(found, axis=0))
        print(f"{n_rows:5}  {means}  {error:6.3f}  {chosen:10.0%}", flush=True)


if __name__ == "__main__":
    main()
