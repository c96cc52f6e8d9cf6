"""What SAEBench's evals would fetch from a hub, small and made up; and the numbers in a result file of SAEBench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from tiny_site import WORDS


def results(file: Path) -> dict:
    """All numbers of a result file."""
    data = json.loads(file.read_text())
    return {key: data[key] for key in ("eval_result_metrics", "eval_result_details", "eval_result_unstructured")}


def make_hub(folder: Path) -> Path:
    """Folders that are named as datasets of the hub; they are found by a process that stands in `folder`."""
    _bias_in_bios(folder / "LabHC/bias_in_bios")
    _amazon(folder / "canrager/amazon_reviews_mcauley_1and5")
    _text(folder / "texts")
    return folder


def _sentence(rng: np.random.Generator, topic: int) -> str:
    """A text whose words tell its topic, more or less."""
    own = WORDS[topic * 10 : topic * 10 + 14]
    return " ".join(rng.choice(own if rng.random() < 0.6 else WORDS) for _ in range(14))


def _write(folder: Path, make_frame) -> None:
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        make_frame(np.random.default_rng(seed)).to_parquet(folder / f"{split}.parquet")


def _bias_in_bios(folder: Path) -> None:
    labels = [(job, gender) for job in (0, 1, 2, 6, 9, 11, 13, 21, 22, 25, 26) for gender in (0, 1) for _ in range(30)]
    _write(
        folder,
        lambda rng: pd.DataFrame(
            {
                "hard_text": [_sentence(rng, (job + 5 * gender) % 13) for job, gender in labels],
                "profession": [job for job, _ in labels],
                "gender": [gender for _, gender in labels],
            }
        ),
    )


def _amazon(folder: Path) -> None:
    labels = [(category, rating) for category in (1, 2, 3, 5, 6) for rating in (1.0, 5.0) for _ in range(30)]
    _write(
        folder,
        lambda rng: pd.DataFrame(
            {
                "text": [_sentence(rng, category) for category, _ in labels],
                "category": [category for category, _ in labels],
                "rating": [rating for _, rating in labels],
            }
        ),
    )


def _text(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 60)) for _ in range(400)]
    pd.DataFrame({"text": texts}).to_parquet(folder / "train.parquet")
