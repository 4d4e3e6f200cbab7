"""A copied folder of a sweep is another sweep; a moved one is not."""

import shutil

import pytest

from sweep.config import SweepConfig
from sweep.driver.copies import rename
from sweep.driver.launch import anywhere
from sweep.record import Record, read


@pytest.fixture
def original(tmp_path):
    config = anywhere(SweepConfig(out=tmp_path, name="a")).model_dump(mode="json")
    for place in ("", "confirm"):
        with Record(tmp_path / "a" / place / "record.jsonl") as record:
            record.append("sweep", sweep=f"old {place}", config=config, studies=[])
            record.append("finish", outcome="interrupted")
            record.append("sweep", sweep=f"old {place}", config=config, studies=[])
    return tmp_path / "a"


def config_at(folder) -> SweepConfig:
    return SweepConfig(out=folder.parent, name=folder.name)


def nameless(event) -> dict:
    return event.model_dump(exclude={"sweep"})


def ids(record) -> list[str]:
    return [event.sweep for event in read(record) if event.event == "sweep"]


@pytest.mark.parametrize("place", ["", "confirm"], ids=["search", "confirmation"])
def test_a_copy_gets_an_id_of_its_own_in_all_its_lines(original, tmp_path, place):
    shutil.copytree(original, tmp_path / "b")
    record = tmp_path / "b" / place / "record.jsonl"
    before = read(record)
    assert rename(record, config_at(tmp_path / "b"), "new")
    assert ids(record) == ["new", "new"]
    assert [nameless(event) for event in read(record)] == [nameless(event) for event in before]
    assert ids(original / place / "record.jsonl") == [f"old {place}"] * 2


def test_a_folder_that_is_not_a_copy_keeps_its_id(original, tmp_path):
    assert not rename(original / "record.jsonl", config_at(original), "new")
    (tmp_path / "link").symlink_to(original)
    assert not rename(tmp_path / "link" / "record.jsonl", config_at(tmp_path / "link"), "new")
    moved = original.rename(tmp_path / "moved")
    assert not rename(moved / "record.jsonl", config_at(moved), "new")
    with Record(tmp_path / "a" / "record.jsonl") as another:
        another.append("sweep", sweep="another", config={}, studies=[])
    assert not rename(moved / "record.jsonl", config_at(moved), "new")
    assert ids(moved / "record.jsonl") == ["old ", "old "]


def test_nothing_is_renamed_where_nothing_is(tmp_path):
    assert not rename(tmp_path / "record.jsonl", config_at(tmp_path), "new")
