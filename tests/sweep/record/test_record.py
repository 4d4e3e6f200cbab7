"""The record: what was appended is read again, whatever died, and by nobody else written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import ENTRY, event

from sweep.record import Event, Record, Row, Trials, began, first_event, follow, read, salvage
from sweep.record.events import FORMAT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some-sweep" / "record.jsonl"


def test_events_come_back_in_order(path):
    clock = iter([10.0, 11.5])
    with Record(path, clock=lambda: next(clock)) as record:
        first = record.append("sweep", sweep="s", studies=[])
        second = record.append("report", trial="t", rows=[{"epoch": 1, "metrics": {"train/loss": 0.1 + 0.2}}])
    assert read(path) == [first, second]
    assert (first.time, first.event, first.sweep, first.studies, first.format) == (10.0, "sweep", "s", [], FORMAT)
    assert second.time == 11.5 and second.rows[0].metrics["train/loss"] == 0.1 + 0.2


def test_the_first_event_is_read_without_the_others(path):
    with Record(path) as record:
        first = record.append("sweep", sweep="s", studies=[])
    line = path.read_bytes()
    path.write_bytes(line + b"damaged\n" + line)
    assert first_event(path) == first
    for cut in (b"", line[:-1], b"damaged\n"):  # the driver or its machine died during the first write
        path.write_bytes(cut)
        assert first_event(path) is None
    path.write_bytes(b"damaged\n" + line)
    with pytest.raises(ValueError, match="line 1 is not an event"):
        first_event(path)


def test_reopening_appends(path):
    for i in range(3):
        with Record(path) as record:
            record.append("finish", outcome=str(i))
    assert [event.outcome for event in read(path)] == ["0", "1", "2"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_json_has_no_word_for_are_refused_and_nothing_is_written(path, bad):
    with Record(path) as record:
        record.append("finish", outcome="done")
        with pytest.raises(ValueError, match=r"record\.jsonl: start event: .*omit such values"):
            record.append("start", trial="t", study="s", number=0, values={"beta": bad})
    assert len(read(path)) == 1


def test_text_that_no_reader_decodes_is_refused_and_nothing_is_written(path):
    with Record(path) as record:
        with pytest.raises(ValueError, match=r"record\.jsonl: sweep event: .*surrogate"):
            record.append("sweep", sweep="s", studies=[], config={"datasets": ["folder:/leaves\udcff"]})
        assert path.read_bytes() == b""
        record.append("finish", outcome="done")
    assert len(read(path)) == 1


def test_an_unknown_event_is_refused(path):
    with (
        Record(path) as record,
        pytest.raises(ValueError, match="unknown event 'ends'; known: sweep, start"),
    ):
        record.append("ends", trial="t")


def test_a_torn_last_line_does_not_count_and_is_cut_away(path):
    with Record(path) as record:
        record.append("finish", outcome="done")
    whole = path.read_bytes()
    for torn in (b'{"time": 1.0, "event": "fin', b"\0\0\0\0", b'{"time": 1.0, "event": "fin\n', b"{}\n"):
        path.write_bytes(whole + torn)
        assert [event.outcome for event in read(path)] == ["done"]
        assert follow(path)[1] == len(whole)
        with Record(path) as record:
            record.append("finish", outcome="again")
        assert [event.outcome for event in read(path)] == ["done", "again"]


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_crash_at_any_byte_leaves_a_readable_record(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("crash") / "record.jsonl"
    with Record(path, clock=lambda: 0.0) as record:
        events = [record.append("report", trial=data.draw(st.text()), rows=[]) for _ in range(3)]
    cut = data.draw(st.integers(0, path.stat().st_size))
    whole = path.read_bytes()[:cut].count(b"\n")
    os.truncate(path, cut)
    assert read(path) == events[:whole]
    with Record(path) as record:
        new = record.append("finish", outcome="done")
    assert read(path) == [*events[:whole], new]


@pytest.mark.parametrize("corrupt", [b"not json\n", b"[1, 2]\n", b'{"time": 1.0}\n', b"\xff\n"])
def test_a_corrupt_line_in_the_middle_is_named(path, corrupt):
    with Record(path) as record:
        record.append("finish", outcome="first")
        position = path.stat().st_size
        record.append("finish", outcome="last")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + corrupt + lines[1])
    for attempt in (lambda: read(path), lambda: follow(path, position), lambda: Record(path)):
        with pytest.raises(ValueError, match=r"record\.jsonl: line 2 is not an event; repair or remove it"):
            attempt()
    path.write_bytes(lines[0])
    Record(path).close()  # the failed opening has left no lock


def test_following_yields_each_event_once_and_waits_for_whole_lines(path):
    with Record(path) as record:
        first = record.append("finish", outcome="1")
        events, offset = follow(path)
        assert events == [first]
        assert follow(path, offset) == ([], offset)
        second, third = (record.append("finish", outcome=str(i)) for i in (2, 3))
        events, offset = follow(path, offset)
        assert events == [second, third]
    line = json.dumps({"time": 1.0, "event": "finish", "outcome": "4"})
    with open(path, "a") as file:
        file.write(line[:20])
        file.flush()
        assert follow(path, offset) == ([], offset)
        file.write(line[20:] + "\n")
    events, offset = follow(path, offset)
    assert [event.outcome for event in events] == ["4"] and offset == path.stat().st_size


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    with Record(path) as record:
        first = record.append("finish", outcome="1")

        class Full:
            """A file that takes ten bytes and then has no room."""

            def __init__(self, file):
                self.file, self.room = file, 10

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, data):
                if not self.room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.room -= 10
                return self.file.write(data[:10])

        with monkeypatch.context() as patch:
            patch.setattr(record, "_file", Full(record._file))
            with pytest.raises(OSError, match="No space left"):
                record.append("finish", outcome="2")
        third = record.append("finish", outcome="3")
    assert read(path) == [first, third]


def test_what_marks_a_fate_is_forced_to_the_disk(path, monkeypatch):
    with Record(path) as record:
        forced = []
        monkeypatch.setattr(os, "fsync", forced.append)
        record.append("report", trial="t", rows=[])
        assert not forced
        record.append("sweep", sweep="s", studies=[])
        record.append("start", trial="t", study="s", number=0, values={})
        record.append("end", trial="t", state="complete")
        record.append("finish", outcome="done")
        assert len(forced) == 4


def test_a_second_writer_learns_who_holds_the_record(path):
    with Record(path):
        with pytest.raises(ValueError, match=rf"record\.jsonl is being written by process {os.getpid()} on \S+;"):
            Record(path)
        read(path)
    Record(path).close()


@pytest.mark.slow
def test_the_lock_dies_with_its_process(path):
    code = (
        "import os, sys; from sweep.record import Record; r = Record(sys.argv[1]); r.append('finish', outcome='done');"
        " print('open', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ValueError, match=f"is being written by process {other.pid} on "):
            Record(path)
        other.kill()
        other.wait()
        Record(path).close()


def test_a_writer_that_was_cut_off_writes_nothing_more(path):
    """A network file system may give the lock of a machine that it does not reach to another."""
    with Record(path) as record:
        first = record.append("finish", outcome="1")
        path.with_suffix(".holder").write_text("process 7 on another machine\nid\n")
        with pytest.raises(ValueError, match="being written by process 7 on another machine by now; this driver stops"):
            record.append("finish", outcome="2")
    assert read(path) == [first]


def test_closing_twice_is_harmless(path):
    with Record(path) as record:
        record.close()


SWEEP = event("sweep", sweep="s", studies=[{"study": "vae-mnist", **ENTRY}])


def start(number: int, time: float = 1.0, attempt: int = 1) -> Event:
    return event(
        "start", time=time, trial=f"vae-mnist-{number:04d}", study="vae-mnist", number=number,
        values={"latent_dim": 10}, origin="paper" if number == 0 else "search", attempt=attempt,
    )  # fmt: skip


def report(number: int, *rows: tuple[int, dict]) -> Event:
    rows = [{"epoch": epoch, "metrics": metrics} for epoch, metrics in rows]
    return event("report", time=2.0, trial=f"vae-mnist-{number:04d}", rows=rows)


def end(number: int, state: str = "complete", time: float = 3.0, **fields) -> Event:
    return event("end", time=time, trial=f"vae-mnist-{number:04d}", state=state, **fields)


def test_the_table_of_trials():
    trials = Trials.from_events(
        [
            SWEEP,
            start(1),
            start(0),
            report(0, (1, {"train/loss": 9.0}), (2, {"train/loss": 8.0, "valid/fcd": 50.0})),
            report(0, (2, {"train/loss": -1.0, "valid/fcd": -1.0}), (3, {"train/loss": 7.0})),
            report(1, (1, {"valid/fcd": 40.0})),
            end(1, "failed", epoch=2, reason="broke", worker={"host": "a"}),
        ]
    )
    zero, one = trials.of("vae-mnist")
    assert (zero.number, zero.state, zero.epoch, zero.value, zero.origin) == (0, "running", 3, 50.0, "paper")
    assert zero.rows[2].metrics == {"train/loss": 8.0, "valid/fcd": 50.0}, "the first row of an epoch stays"
    assert (one.state, one.epoch, one.value, one.reason, one.ended) == ("failed", 2, 40.0, "broke", 3.0)
    assert trials.outcome is None and trials.sweep is SWEEP


def test_what_holds_no_sweep_event_is_refused_in_words():
    assert began([SWEEP, report(0)]) is SWEEP
    for events in ([], [report(0), SWEEP]):
        with pytest.raises(ValueError, match="must begin with a sweep event; repair its first line"):
            began(events)
    with pytest.raises(ValueError, match="has no sweep event"):
        _ = Trials().sweep


def test_a_new_attempt_runs_again_and_keeps_its_rows():
    events = [
        SWEEP,
        start(0),
        report(0, (1, {"valid/fcd": 5.0})),
        end(0, "preempted", reason="taken", epoch=1),
    ]
    trials = Trials.from_events([*events, start(0, time=8.0, attempt=2)])
    trial = trials.trials["vae-mnist-0000"]
    assert (trial.state, trial.attempt, trial.reason, trial.ended) == ("running", 2, None, None)
    assert (trial.started, trial.epoch, trial.value) == (1.0, 1, 5.0)


def lost(number: int, state: str) -> Event:
    return event("lost", time=2.0, trial=f"vae-mnist-{number:04d}", state=state)


def test_setbacks_are_counted_apart_and_getting_further_ends_a_stall():
    row = {"valid/fcd": 5.0}
    story = [SWEEP, start(0), lost(0, "preempted"), start(0, attempt=2), lost(0, "preempted"), start(0, attempt=3)]
    trials = Trials.from_events([*story, lost(0, "out_of_memory"), start(0, attempt=4)])
    (trial,) = trials.trials.values()
    assert trial.state == "running" and trial.stalled == 2
    assert trial.setbacks == {"preempted": 2, "out_of_memory": 1}
    trials.tell(report(0, (1, row)))
    assert trial.stalled == 0
    trials.tell(lost(0, "preempted"))
    trials.tell(report(0, (1, row)))  # an epoch that was known
    assert trial.stalled == 1
    trials.tell(end(0, "failed"))
    assert trial.stalled == 0 and trial.setbacks == {"preempted": 3, "out_of_memory": 1, "failed": 1}
    trials.tell(start(0, attempt=5))
    trials.tell(end(0, "complete"))
    assert trial.setbacks["failed"] == 1 and "complete" not in trial.setbacks


def test_what_runs_again_neither_counts_as_ended_nor_leads():
    events = [SWEEP]
    for number, value in ((0, 5.0), (1, 4.0)):
        events += [start(number), report(number, (9, {"valid/fcd": value})), end(number)]
    trials = Trials.from_events(events)
    assert (trials.ended, trials.best("vae-mnist").number) == (2, 1)
    trials.tell(start(1, attempt=2))
    assert (trials.ended, trials.best("vae-mnist").number) == (1, 0)
    trials.tell(end(1))
    assert (trials.ended, trials.best("vae-mnist").number) == (2, 1)


def test_the_epochs_of_a_study_are_those_of_its_trials():
    trials = Trials.from_events([SWEEP])
    row = {"valid/fcd": 5.0}
    steps = [
        start(0), report(0, (1, row), (3, row)), start(1), report(1, (2, row)), lost(1, "preempted"),
        start(1, attempt=2), report(1, (2, row)), end(0, "failed"), start(0, attempt=2), report(0, (4, row)), end(1),
    ]  # fmt: skip
    for step in steps:
        trials.tell(step)
        assert trials.epochs["vae-mnist"] == sum(trial.epoch for trial in trials.of("vae-mnist"))
        running = [trial for trial in trials.of("vae-mnist") if trial.state == "running"]
        full = trials.studies["vae-mnist"].epochs
        assert trials.left["vae-mnist"] == sum(full - trial.epoch for trial in running)
    assert trials.epochs.total() == sum(trial.epoch for trial in trials.trials.values()) > 0


def test_the_best_is_the_lowest_complete_one():
    events = [SWEEP]
    for number, (value, state) in enumerate(
        [(5.0, "complete"), (1.0, "pruned"), (4.0, "complete"), (4.0, "complete"), (0.1, "diverged")]
    ):
        events += [start(number), report(number, (1, {"valid/fcd": value})), end(number, state)]
    assert Trials.from_events(events).best("vae-mnist").number == 2
    assert Trials.from_events(events[:1]).best("vae-mnist") is None


def test_a_resumed_sweep_describes_itself_again():
    longer = event("sweep", sweep="s", resumed=True, studies=[{"study": "vae-mnist", **ENTRY, "trials": 99}])
    trials = Trials.from_events([SWEEP, event("finish", outcome="interrupted")])
    assert trials.outcome == "interrupted"
    trials.tell(longer)
    assert trials.outcome is None and trials.studies["vae-mnist"].trials == 99


def test_events_that_do_not_follow_are_named():
    with pytest.raises(ValueError, match="vae-mnist-0000 starts in study 'vae-mnist', which no sweep event lists"):
        Trials.from_events([start(0)])
    with pytest.raises(ValueError, match="vae-mnist-0003: end event before its start"):
        Trials.from_events([SWEEP, end(3)])


def test_numbers_that_are_not_finite_are_left_out_of_a_row():
    row = Row(epoch=1, metrics={"a": float("nan"), "b": float("inf"), "c": None, "d": 1.5})
    assert row.metrics == {"d": 1.5}


@pytest.mark.parametrize("unknown", [{"outcme": "done"}, {"outcome": "done", "trial": "t"}])
def test_a_field_that_is_unknown_or_missing_is_refused_and_nothing_is_written(path, unknown):
    with Record(path) as record, pytest.raises(ValueError, match=r"record\.jsonl: finish event"):
        record.append("finish", **unknown)
    assert read(path) == []


def test_a_record_without_a_format_is_read_with_todays_defaults(path):
    path.parent.mkdir()
    study = {"study": "vae-mnist", **ENTRY}
    lines = [{"event": "sweep", "sweep": "s", "studies": [study]}]
    lines += [{"event": "start", "trial": "t", "study": "vae-mnist", "number": 0, "values": {}, "later": 1}]
    path.write_text("".join(json.dumps({"time": 1.0, **line}) + "\n" for line in lines))
    opening, begun = read(path)
    assert (opening.format, opening.versions, opening.studies[0].sampler) == (0, {}, "tpe")
    assert (begun.attempt, begun.seed, begun.origin) == (1, 0, "search")


def test_a_record_of_a_later_format_is_refused_in_one_line(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"time": 1.0, "event": "sweep", "format": 99, "sweep": "s", "studies": []}) + "\n")
    for reader in (read, salvage, Record):
        with pytest.raises(ValueError, match=r"record\.jsonl: .*format 99, this version reads up to \d+\); upgrade"):
            reader(path)


def test_a_damaged_record_can_be_looked_at(path):
    with Record(path) as record:
        first, last = record.append("finish", outcome="1"), record.append("finish", outcome="2")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"not json\n\n" + lines[1] + b'{"time"')
    assert salvage(path) == ([first, last], 2)


def test_seconds_on_a_worker_span_all_attempts_and_those_on_a_device_neither_waits_nor_repetitions():
    seconds = {"time/train_seconds": 2.0, "time/evaluate_seconds": 0.5}
    row = {"valid/fcd": 5.0, **seconds}
    events = [
        start(0, time=1.0),
        report(0, (1, row)),
        event("lost", time=10.0, trial="vae-mnist-0000", state="preempted"),
    ]
    events += [start(0, time=100.0, attempt=2), end(0, time=104.0)]
    trials = Trials.from_events([SWEEP, *events])
    trial = trials.trials["vae-mnist-0000"]
    assert (trial.worker_seconds, trial.device_seconds) == (9.0 + 4.0, 2.5)


def test_the_device_seconds_of_a_study_are_those_of_its_trials_at_every_event():
    timed = {"time/train_seconds": 2.0, "time/evaluate_seconds": 0.5}
    longer = {"time/train_seconds": 3.0, "time/evaluate_seconds": 0.5}
    events = [
        start(0, time=1.0),
        report(0, (1, timed)),
        start(1, time=2.0),
        end(1, "failed", time=5.0),  # without a report, its wall time
        event("lost", time=10.0, trial="vae-mnist-0000", state="preempted"),
        start(1, time=11.0, attempt=2),
        start(0, time=100.0, attempt=2),
        report(0, (1, longer), (2, {"valid/fcd": 5.0})),  # the first epoch again, and one without seconds
        report(0, (3, longer)),
        end(0, time=104.0),
        end(1, time=106.0),
    ]
    trials = Trials.from_events([SWEEP])
    for told in events:
        trials.tell(told)
        assert trials.seconds["vae-mnist"] == sum(trial.device_seconds for trial in trials.of("vae-mnist"))
    assert trials.seconds["vae-mnist"] == 3.5 + 3.0 + 95.0


def test_a_trial_without_any_report_took_the_time_from_its_start_to_its_end():
    trials = Trials.from_events([SWEEP, start(0, time=1.0), end(0, "failed", time=4.0)])
    assert trials.trials["vae-mnist-0000"].device_seconds == 3.0


def test_bulky_parts_of_rows_are_kept_once():
    recipe = {"extractor": "a"}
    rows = [{"epoch": e, "metrics": {"valid/fcd": 1.0}, "vectors": {"v": [e]}, "recipes": {"valid/fcd": recipe}}
            for e in (1, 2)]  # fmt: skip
    trials = Trials.from_events([SWEEP, start(0), event("report", trial="vae-mnist-0000", rows=rows)])
    trial = trials.trials["vae-mnist-0000"]
    assert (trial.vectors, trial.vectors_epoch, trial.recipe) == ({"v": [2]}, 2, 0)
    assert trials.recipes == {"vae-mnist": [recipe]}
    assert all(not row.vectors and not row.recipes for row in trial.rows.values())


WAY, OTHER = {"valid/fcd": {"extractor": "a" * 300}}, {"valid/fcd": {"extractor": "b"}}


def found(record, ways):
    rows = [{"epoch": i, "metrics": {"valid/fcd": 1.0}, "recipes": way} for i, way in ways.items()]
    return record.append("report", trial="vae-mnist-0000", rows=rows)


def test_recipes_are_written_once_and_found_by_every_reader(path):
    with Record(path) as record:
        record.append("sweep", sweep="s", studies=[{"study": "vae-mnist", **ENTRY}])
        record.append("start", trial="vae-mnist-0000", study="vae-mnist", number=0, values={})
        found(record, {1: WAY, 2: WAY})
        found(record, {3: OTHER})
    with Record(path) as record:  # another driver knows what the record holds
        found(record, {4: dict(reversed(WAY.items())), 5: {}})
    assert path.read_text().count("a" * 300) == 1
    for events in (read(path), salvage(path)[0]):
        trials = Trials.from_events(events)
        assert trials.recipes == {"vae-mnist": [WAY["valid/fcd"], OTHER["valid/fcd"]]}
        assert trials.trials["vae-mnist-0000"].recipe == 0


def test_a_record_of_format_1_goes_on_as_one_of_today(path):
    path.parent.mkdir()
    row = {"epoch": 1, "metrics": {"valid/fcd": 2.0}, "recipes": WAY}
    lines = [SWEEP.model_copy(update={"format": 1}), start(0), event("report", trial="vae-mnist-0000", rows=[row])]
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    with Record(path) as record:
        found(record, {2: WAY, 3: OTHER})
    trials = Trials.from_events(read(path))
    assert trials.recipes == {"vae-mnist": [WAY["valid/fcd"], OTHER["valid/fcd"]]}
    assert [row.metrics["valid/fcd"] for row in trials.trials["vae-mnist-0000"].rows.values()] == [2.0, 1.0, 1.0]


def test_recipes_whose_line_is_damaged_are_unknown_to_those_who_only_look(path):
    with Record(path) as record:
        record.append("sweep", sweep="s", studies=[{"study": "vae-mnist", **ENTRY}])
        record.append("start", trial="vae-mnist-0000", study="vae-mnist", number=0, values={})
        found(record, {1: WAY})
        found(record, {2: WAY})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"damaged\n", lines[3]]))
    events, damaged = salvage(path)
    trials = Trials.from_events(events, strict=False)
    assert (damaged, trials.recipes, trials.trials["vae-mnist-0000"].recipe) == (1, {}, None)
    with pytest.raises(ValueError, match=r"vae-mnist-0000: the recipes [0-9a-f]+ of a report are missing"):
        Trials.from_events(events)


def test_a_report_that_could_not_be_written_leaves_its_recipes_to_the_next(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Record(path) as record:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(record, "_file", SimpleNamespace(seek=lambda *_: 0, write=full, truncate=lambda _: None))
            found(record, {1: WAY})
        found(record, {1: WAY})
    (report,) = read(path)
    assert report.recipes == {report.rows[0].recipes: WAY}
