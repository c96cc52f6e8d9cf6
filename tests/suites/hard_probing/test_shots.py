from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from sae_sanity.suites.hard_probing.arrows import Missed, Shot
from sae_sanity.suites.hard_probing.shots import ShotStore, key_of

KEY, OTHER = key_of({"problem": 1}), key_of({"problem": 2})


def shots(store, key, arrows, shoot):
    """What a suite does: only what is lacking is shot."""
    for name in arrows:
        if name not in store.read(key):
            store.add(key, name, shoot(name))
    found = store.read(key)
    return {name: found[name] for name in arrows}


class Shooter:
    """Numbers with all their digits, and who was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, name):
        self.asked.append(name)
        rng = np.random.default_rng(len(name))
        return Missed("knn: one class") if name == "knn" else Shot(float(rng.random()), float(rng.random()))


@pytest.fixture
def store(tmp_path):
    return ShotStore(tmp_path / "shots")


def path_of(store, key=KEY):
    return store.folder / f"{key[:32]}.json"


def test_what_is_kept_is_what_was_shot_to_the_last_digit(store):
    first = shots(store, KEY, ["logreg", "knn", "mlp"], Shooter())
    again = Shooter()
    assert shots(store, KEY, ["logreg", "knn", "mlp"], again) == first
    assert again.asked == []
    assert first["knn"] == Missed("knn: one class")


def test_only_arrows_that_are_lacking_are_shot_and_the_order_is_the_asked_one(store):
    shots(store, KEY, ["mlp"], Shooter())
    more = Shooter()
    assert list(shots(store, KEY, ["logreg", "mlp"], more)) == ["logreg", "mlp"]
    assert more.asked == ["logreg"]


def test_another_problem_has_its_own_shots(store):
    shots(store, KEY, ["mlp"], Shooter())
    other = Shooter()
    shots(store, OTHER, ["mlp"], other)
    assert other.asked == ["mlp"]


def test_the_key_changes_with_every_ingredient_and_not_with_their_order():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": [1]})}) == 4


def test_the_same_shots_are_the_same_bytes(tmp_path):
    files = []
    for name in ("one", "two"):
        store = ShotStore(tmp_path / name)
        shots(store, KEY, ["logreg", "knn"], Shooter())
        files.append(path_of(store).read_bytes())
    assert files[0] == files[1]
    assert json.loads(files[0])["key"] == KEY  # JSON: nothing is unpickled


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("0.", "0.1", 1),
        lambda text: text.replace(KEY, OTHER),
        lambda text: text.replace("test_auc", "auc"),
        lambda text: '{"key": "' + KEY + '", "sha256": 1, "arrows": {"logreg": null}}',
    ],
)
def test_a_damaged_file_is_shot_again(store, damage):
    first = shots(store, KEY, ["logreg"], Shooter())
    path_of(store).write_text(damage(path_of(store).read_text()))
    again = Shooter()
    assert shots(store, KEY, ["logreg"], again) == first
    assert again.asked == ["logreg"]
    assert shots(store, KEY, ["logreg"], lambda name: Missed("not asked")) == first


def test_a_fit_that_fails_leaves_the_earlier_ones(store):
    def failing(name):
        if name == "mlp":
            raise RuntimeError("no memory")
        return Shot(0.25, 0.75)

    with pytest.raises(RuntimeError, match="no memory"):
        shots(store, KEY, ["logreg", "mlp"], failing)
    again = Shooter()
    shots(store, KEY, ["logreg", "mlp"], again)
    assert again.asked == ["mlp"]
    assert [path.name for path in store.folder.iterdir()] == [path_of(store).name]  # no half-written file


def test_a_killed_run_goes_on_after_the_last_arrow(store):
    def shoot(name):
        if name == "xgboost":
            os.kill(os.getpid(), signal.SIGKILL)
        return Shot(0.1, 0.2)

    # A fork, which has the libraries already: importing them takes seconds.
    run = multiprocessing.get_context("fork").Process(
        target=shots, args=(store, KEY, ["logreg", "pca", "xgboost"], shoot)
    )
    run.start()
    run.join(60)
    assert run.exitcode == -signal.SIGKILL
    again = Shooter()
    found = shots(store, KEY, ["logreg", "pca", "xgboost"], again)
    assert again.asked == ["xgboost"]
    assert found["logreg"] == Shot(0.1, 0.2)


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        ShotStore(Path(tmp_path / "file" / "shots")).add(KEY, "logreg", Shot(0.1, 0.2))
