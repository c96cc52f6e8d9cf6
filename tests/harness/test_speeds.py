from __future__ import annotations

import json

import pytest

from sae_sanity.harness.baseline_store import cache_folder
from sae_sanity.harness.speeds import FILE, KEPT, About, Speeds, Took

CPU = About("cpu", "model", "batchtopk")


def took(seconds: float, *, thumb: float = 10.0, stage: str = "training", about: About = CPU) -> Took:
    return Took(stage, about, thumb, seconds)


@pytest.fixture
def speeds(tmp_path):
    return Speeds(tmp_path / "cache" / FILE)


def test_nothing_is_known_at_first(speeds):
    assert speeds.factor("training", CPU, 10.0) is None


def test_a_run_twice_as_slow_doubles_the_next_plan_of_any_size_of_its_kind(speeds):
    speeds.add([took(20.0)])
    assert speeds.factor("training", CPU, 10.0) == 2.0
    assert speeds.factor("training", CPU, 1000.0) == 2.0
    assert speeds.factor("arms", CPU, 10.0) is None


def test_it_is_read_again_by_the_next_command(speeds):
    speeds.add([took(20.0)])
    speeds.add([took(30.0, stage="arms")])
    again = Speeds(speeds.path)
    assert [each.stage for each in again.took] == ["training", "arms"]
    assert again.factor("arms", CPU, 10.0) == 3.0


def test_one_run_beside_a_busy_neighbour_decides_nothing(speeds):
    speeds.add([took(20.0), took(200.0), took(22.0)])
    assert speeds.factor("training", CPU, 10.0) == 2.2


def test_the_newest_count(speeds):
    speeds.add([took(20.0)] * 5 + [took(50.0)] * 3)
    assert speeds.factor("training", CPU, 10.0) == 5.0


@pytest.mark.parametrize("field", ["model", "architecture"])
def test_runs_of_the_same_kind_are_preferred_and_others_are_better_than_nothing(speeds, field):
    other = About(**(vars(CPU) | {field: "other"}))
    speeds.add([took(70.0, about=other)])
    assert speeds.factor("training", CPU, 10.0) == 7.0
    speeds.add([took(20.0), took(70.0, about=other)])
    assert speeds.factor("training", CPU, 10.0) == 2.0


def test_another_device_says_nothing(speeds):
    speeds.add([took(20.0)])
    assert speeds.factor("training", About("cuda", "model", "batchtopk"), 10.0) is None


def test_runs_of_about_the_same_size_are_preferred(speeds):
    speeds.add([took(20.0), took(3000.0, thumb=1000.0)])
    assert speeds.factor("training", CPU, 12.0) == 2.0
    assert speeds.factor("training", CPU, 900.0) == 3.0


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"took": 3}', b'{"took": [{"stage": 1}]}', b'{"took": [[]]}', b"\xff\xfe"]
)
def test_a_damaged_file_counts_as_empty_and_is_written_anew(speeds, content):
    speeds.path.parent.mkdir()
    speeds.path.write_bytes(content)
    assert Speeds(speeds.path).took == ()
    Speeds(speeds.path).add([took(20.0)])
    assert len(Speeds(speeds.path).took) == 1


def test_records_of_other_rules_of_thumb_are_left_out(speeds):
    speeds.add([took(20.0)])
    data = json.loads(speeds.path.read_text())
    speeds.path.write_text(json.dumps(data | {"version": data["version"] - 1}))
    assert Speeds(speeds.path).factor("training", CPU, 10.0) is None
    speeds.add([took(30.0)])
    assert [each.seconds for each in Speeds(speeds.path).took] == [30.0]


def test_numbers_that_cannot_be_are_left_out(speeds):
    speeds.add([took(20.0), took(20.0, thumb=0.0), took(float("inf")), took(-1.0)])
    assert len(Speeds(speeds.path).took) == 1


def test_the_file_stays_small(speeds):
    for _ in range(4):
        speeds.add([took(20.0)] * 100)
    assert len(Speeds(speeds.path).took) == KEPT


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    Speeds(tmp_path / "file" / FILE).add([took(20.0)])


def test_the_user_s_own_is_in_the_cache():
    assert Speeds.of_user().path == cache_folder() / FILE


def test_nothing_is_written_for_nothing(speeds):
    speeds.add([])
    assert not speeds.path.exists()


def test_the_file_holds_numbers_and_names_of_models_and_nothing_else(speeds):
    speeds.add([took(20.0)])
    (entry,) = json.loads(speeds.path.read_text())["took"]
    assert set(entry) == {"stage", "about", "thumb", "seconds"}
