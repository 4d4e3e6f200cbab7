"""The confirmation of a sweep: what is trained again, on which images, with which seeds, and that it happens once."""

import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from made_up import event
from ray.exceptions import RayError
from rich.console import Console

from analysis.confirm import confirmation_of, confirmed, points, verdict
from analysis.load import read_sweep
from sweep import commands
from sweep.commands import _ending, stop
from sweep.commands.run import confirmation_cost, front_door
from sweep.config import SweepConfig
from sweep.driver import confirm as confirmation
from sweep.driver import executor, launch
from sweep.driver.conductor import Conductor
from sweep.driver.confirm import (
    ALONE,
    chosen,
    confirm,
    evaluations,
    looks_at_test,
    seconds_per_epoch,
    sweep_of,
    tidy,
    time_alone,
)
from sweep.driver.inbox import Inbox, send
from sweep.driver.job import default_tracking
from sweep.driver.resources import Resources
from sweep.driver.screen import Screen
from sweep.driver.stop import Stop, Stopped
from sweep.record import Progress, Record, Row, Trial, Trials, parse, read
from sweep.search import plan as planning
from sweep.search.study import Study
from sweep.tracking.address import fingerprint
from sweep.tracking.story import PARENT, Story

CONFIG = {"methods": ["vae"], "trials": 6, "epochs": 9, "samples": 100, "set": {"network": "mlp_8"}}


def searched(make_plan, values: list[float | None]) -> Trials:
    """A search whose trials came to these values, None for one that diverged; trial 0 is the paper's."""
    planned = make_plan(methods=["vae"])
    spec = planned.studies[0].spec
    events = [event("sweep", sweep="s1", studies=[spec.to_record()])]
    study = Study(replace(spec, trials=len(values), budget_epochs=None), seed=0)
    for value in values:
        asked = study.ask()
        about = {"number": asked.number, "values": asked.values, "origin": asked.origin}
        events.append(event("start", trial=asked.trial, study=spec.study, **about))
        if value is not None:
            rows = [{"epoch": 9, "metrics": {"valid/fcd": value}}]
            events.append(event("report", trial=asked.trial, rows=rows))
        state = "diverged" if value is None else "complete"
        events.append(event("end", trial=asked.trial, state=state, epoch=9))
        study.end(asked.number, state, 9)
    return Trials.from_events(events)


def names(found: dict) -> list[tuple]:
    return [(claim["point"], claim["value"], claim["rank"]) for claim in found["points"]["vae-digits"]]


def test_the_hand_tuned_and_the_best_are_chosen(make_plan):
    trials = searched(make_plan, [5.0, 3.0, None, 2.0, 4.0])
    planned, found = chosen(trials, SweepConfig(**CONFIG), 2, (1, 2, 3))
    assert [claim["origin"] for claim in found["points"]["vae-digits"]] == ["paper", "search", "search"]
    assert names(found) == [("hand-tuned", 5.0, 4), ("tuned 1", 2.0, 1), ("tuned 2", 3.0, 2)]
    spec = planned.studies[0].spec
    assert (spec.trials, spec.metric) == (9, "test/fcd")
    ran = [trials.trials[f"vae-digits-000{n}"].values for n in (0, 3, 1)]
    study = Study(spec, seed=0)
    asked = [study.ask() for _ in range(9)]
    assert study.ask() is None
    assert [a.values for a in asked] == ran * 3
    assert [planned.seed_of("vae-digits", a.number) for a in asked] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_hand_tuned_point_that_won_is_compared_with_the_best_other(make_plan):
    """One training may have been lucky."""
    planned, found = chosen(searched(make_plan, [1.0, 3.0, 2.0]), SweepConfig(**CONFIG), 1, (1, 2))
    assert names(found) == [("hand-tuned", 1.0, 1), ("tuned 1", 2.0, 2)] and planned.studies[0].spec.trials == 4


def test_a_hand_tuned_point_alone_is_trained_once_for_both(make_plan):
    planned, found = chosen(searched(make_plan, [1.0, None]), SweepConfig(**CONFIG), 1, (1, 2))
    assert names(found) == [("hand-tuned", 1.0, 1)] and planned.studies[0].spec.trials == 2


def test_a_hand_tuned_point_that_diverged_gets_its_chance(make_plan):
    _, found = chosen(searched(make_plan, [None, 3.0]), SweepConfig(**CONFIG), 1, (1,))
    assert names(found) == [("hand-tuned", None, None), ("tuned 1", 3.0, 1)]


def test_a_point_that_ran_twice_counts_once(make_plan):
    trials = searched(make_plan, [5.0, 3.0, 4.0, 6.0])
    trials.trials["vae-digits-0002"].values = trials.trials["vae-digits-0001"].values
    _, found = chosen(trials, SweepConfig(**CONFIG), 3, (1,))
    assert names(found) == [("hand-tuned", 5.0, 2), ("tuned 1", 3.0, 1), ("tuned 2", 6.0, 3)]


def test_a_point_that_ran_with_several_seeds_is_chosen_by_its_mean(make_plan):
    """As in the leaderboard: the second point has the lowest run of all, and the higher mean."""
    trials = searched(make_plan, [None, 2.0, 4.0, 9.0, 6.0, None])
    for number, trial in enumerate(trials.trials.values()):
        trial.values, trial.origin = {"latent_dim": 2 + number % 2}, "paper"
    _, found = chosen(trials, SweepConfig(**CONFIG), 2, (1,))
    assert names(found) == [("hand-tuned", 5.0, 1), ("tuned 1", 5.5, 2)]


def test_a_study_goes_on_with_further_seeds_while_its_points_cannot_be_told_apart(make_plan, tmp_path):
    """The driver's conductor gets the values of a study whose points differ clearly, or hardly."""
    trained = {}
    for name, gap in (("clear", 2.0), ("unclear", 0.01)):
        trials = searched(make_plan, [5.0, 3.0])
        planned, claims = chosen(trials, SweepConfig(**CONFIG), 1, (4, 5, 6, 7, 8), rounds=(3, 5))
        assert claims["rounds"] == [3, 5]
        with Record(tmp_path / name / "record.jsonl") as record:
            entries = [study.spec.to_record() for study in planned.studies]
            opening = record.append("sweep", sweep="c", studies=entries, confirms=claims)
            studies = {study.name: planned.study(study) for study in planned.studies}
            resources = Resources(cpus=1, gpus=0.0, slots=4, ahead=4, total_gpus=0)
            console = Console(file=io.StringIO(), width=150)
            screen = Screen(planned, studies, resources, tmp_path / name, console)
            conductor = Conductor(planned, studies, record, [opening], tmp_path / name, resources, screen.hear)
            (study,) = studies.values()
            running = []
            while not conductor.done:
                while conductor.next(ray_id := f"ray-{len(conductor.trials.trials)}") is not None:
                    running.append(ray_id)
                assert study.most_epochs in (6 * 9, 10 * 9) and conductor.places == len(running) + study.open_places
                number = conductor.trials.trials[conductor.running[ray_id := running.pop(0)]].number
                value = (10.0, 10.0 / math.exp(gap))[number % 2] + number % 5 / 10
                row = Row(epoch=9, stage="train", time=0.0, metrics={"test/fcd": value})
                conductor.hear(ray_id, Progress(epoch=9, rows=[row], value=value, state="complete"))
        said = "its points cannot be told apart yet, so it goes on to 10 trainings"
        assert console.file.getvalue().count(said) == (name == "unclear")
        table = confirmed(read_sweep(tmp_path / name)).set_index("point")
        trained[name] = [conductor.trials.trials[trial].seed for trial in conductor.trials.trials]
        again = planned.study(planned.studies[0]).replay(read(tmp_path / name / "record.jsonl"))
        assert again.share == study.share >= 1 and again.most_epochs == study.most_epochs
        row = table.loc["tuned 1"]
        assert verdict(row) == {"clear": "tuned point is better", "unclear": "cannot be told apart"}[name]
        assert row["planned"] == row["seeds"] == {"clear": 3, "unclear": 5}[name]
    assert trained == {"clear": [4, 4, 5, 5, 6, 6], "unclear": [4, 4, 5, 5, 6, 6, 7, 7, 8, 8]}


def test_training_uses_train_and_validation_and_only_the_end_uses_the_test_split(make_plan, tmp_path):
    planned, _ = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG), 1, (4, 5))
    splits = planned.splits["digits"]
    images = planned.trained_on(splits)
    assert np.array_equal(images, np.concatenate([splits.train.images, splits.valid.images]))
    with Record(tmp_path / "record.jsonl") as record:
        studies = {s.name: Study(s.spec, 0) for s in planned.studies}
        opening = record.append("sweep", sweep="c", studies=[s.spec.to_record() for s in planned.studies])
        resources = Resources(cpus=1, gpus=0.0, slots=4, ahead=4, total_gpus=0)
        conductor = Conductor(planned, studies, record, [opening], tmp_path, resources, lambda *_: None)
        described = [conductor.next(ray_id) for ray_id in "abcd"]
    assert [d["fit"]["seed"] for d in described] == [4, 4, 5, 5]
    assert {d["evaluate"]["split"] for d in described} == {"test"}
    assert all(d["rungs"] == [] and d["metric"] == "test/fcd" and d["fit"]["epochs"] == 9 for d in described)


def test_with_folds_each_seed_has_a_test_split_of_its_own(make_plan, tmp_path):
    planned, found = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG), 1, (4, 5, 6), folds=True)
    parts = planned.parts_of("digits")
    study = planned.studies[0]
    assert [planned.part_of(study, number) for number in range(6)] == [name for name in parts for _ in "ab"]
    whole = planned.splits["digits"]
    for part in parts.values():
        assert len(planned.trained_on(part)) + len(part.test) == len(whole.train) + len(whole.valid) + len(whole.test)
        assert part.valid is whole.valid and part.is_fold
    assert found["folds"] and found["seeds"] == [4, 5, 6]
    other, _ = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG), 1, (7, 8, 9), folds=True)
    firsts = [next(iter(p.parts_of("digits").values())).test.images for p in (planned, other)]
    assert not np.array_equal(*firsts)  # a second look has other folds


def test_folds_replace_seeds(looked):
    (looked / "record.jsonl").write_text((looked / "confirm" / "record.jsonl").read_text())
    (looked / "confirm" / "record.jsonl").unlink()
    with pytest.raises(ValueError, match="omit --seeds 3 or --folds 4"):
        confirm(looked, seeds=3, folds=4)
    with pytest.raises(ValueError, match="--folds must be a whole number, at least 2, got 1"):
        confirm(looked, folds=1)
    with pytest.raises(RuntimeError, match=r"begins with \(1, 2, 3, 4\)"):
        confirm(looked, folds=4)
    (looked / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"confirm_folds": 3}))
    with pytest.raises(RuntimeError, match=r"begins with \(1, 2, 3\)"):
        confirm(looked)
    with pytest.raises(RuntimeError, match=r"begins with \(1, 2\)"):
        confirm(looked, seeds=2)


def test_folds_are_for_few_images(make_plan, monkeypatch):
    """A sweep that is to confirm on folds is refused before its search, which may take hours."""
    made = searched(make_plan, [5.0])
    monkeypatch.setattr(planning, "ENOUGH", 300)
    words = "digits has 300 test images, which are enough; omit --{}"
    with pytest.raises(ValueError, match=words.format("folds")):
        chosen(made, SweepConfig(**CONFIG), 1, (1, 2), folds=True)
    with pytest.raises(ValueError, match=words.format("confirm-folds")):
        make_plan(confirm_folds=5)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"digits has \d+ training and test images; 900 folds need 1800"):
        make_plan(confirm_folds=900)


@pytest.fixture
def looked(tmp_path, make_plan):
    """The folder of a sweep whose confirmation has been opened."""
    home = tmp_path / "s"
    planned, found = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG), 1, (1, 2))
    studies = [s.spec.to_record().model_dump() for s in planned.studies]
    opening = {"time": 0.0, "event": "sweep", "sweep": "c", "title": "s confirmed", "studies": studies}
    (home / "confirm").mkdir(parents=True)
    (home / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (home / "record.jsonl").touch()
    write(home, **opening | {"confirms": found | {"look": 1}})
    return home


def write(home: Path, **event) -> None:
    """The next line of the confirmation's record."""
    with (home / "confirm" / "record.jsonl").open("a") as file:
        file.write(json.dumps({"time": 1.0} | event) + "\n")


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """A job that reaches its run is recorded instead of run."""

    def drive(job, announce):
        raise RuntimeError(f"{job.folder.name} {'goes on' if job.resumed else 'begins'} with {job.plan.seeds}")

    monkeypatch.setattr(confirmation, "drive", drive)
    monkeypatch.setattr(confirmation, "tidy", lambda sweep, config: None)


def test_a_second_look_is_refused_unless_asked_for(looked):
    report = {"trial": "vae-digits-0000", "rows": [{"epoch": 9, "metrics": {"test/fcd": 4.0}}]}
    write(looked, event="start", trial="vae-digits-0000", study="vae-digits", number=0, values={}, origin="paper",
                 seed=1, attempt=1)  # fmt: skip
    write(looked, event="report", **report)
    write(looked, event="report", **report)  # reported twice by a trial that was resumed
    write(looked, event="finish", outcome="done")
    assert looks_at_test(looked) == [looked / "confirm"]
    with pytest.raises(ValueError, match=r"already scored on the test split \(1 trained models, .*--again"):
        confirm(looked)
    with pytest.raises(RuntimeError, match=r"confirm-2 begins with \(3, 4, 5\)"):  # and not with the seeds 1 and 2
        (looked / "record.jsonl").write_text((looked / "confirm" / "record.jsonl").read_text())
        confirm(looked, again=True, seeds=3)


def test_seeds_are_fresh_also_after_a_sweep_without_a_searcher(looked):
    """Such a sweep has trained its points with the seeds 0, 1, 2, ..."""
    lines = (looked / "confirm" / "record.jsonl").read_text()
    (looked / "confirm" / "record.jsonl").unlink()
    for seed in range(3):
        about = {"study": "vae-digits", "number": seed, "values": {"latent_dim": 2}, "origin": "paper", "seed": seed}
        lines += json.dumps({"time": 1.0, "event": "start", "trial": f"t{seed}"} | about) + "\n"
    (looked / "record.jsonl").write_text(lines)
    with pytest.raises(RuntimeError, match=r"confirm begins with \(3, 4\)"):
        confirm(looked, seeds=2)


def test_an_interrupted_one_goes_on_as_it_was_begun(looked):
    write(looked, event="finish", outcome="interrupted")
    with pytest.raises(RuntimeError, match=r"confirm goes on with \(1, 2\)"):
        confirm(looked)
    for changed in ({"seeds": 5}, {"folds": 2}):
        with pytest.raises(ValueError, match="began with --top 1 --seeds 2"):
            confirm(looked, **changed)
    with pytest.raises(ValueError, match="is not done; continue it"):
        confirm(looked, again=True)
    assert sweep_of(looked / "confirm") == looked and sweep_of(looked) is None


def test_no_search_is_confirmed_while_it_runs(looked):
    with Record(looked / "record.jsonl"), pytest.raises(ValueError, match="is being written by"):
        confirm(looked)


@pytest.mark.parametrize(
    ("flag", "given", "rule"),
    [
        ("top", 0, "a whole number, at least 1, got 0"),
        ("top", 1.6, "a whole number, at least 1, got 1.6"),
        ("seeds", 0, "increasing whole numbers from 1 to 1,000, got 0"),
        ("seeds", [5, 5], "increasing whole numbers from 1 to 1,000, got 5 5"),
        ("seeds", [2.5, 5], "increasing whole numbers from 1 to 1,000, got 2.5 5"),
        ("seeds", True, "increasing whole numbers from 1 to 1,000, got True"),
        ("seeds", 10**20, f"increasing whole numbers from 1 to 1,000, got {10**20}"),
        ("seeds", [], "increasing whole numbers from 1 to 1,000, got none"),
    ],
)
def test_impossible_numbers_are_refused(looked, flag, given, rule):
    with pytest.raises(ValueError, match=f"--{flag} must be {rule}"):
        confirm(looked, **{flag: given})


def test_mlflow_gets_point_and_seed(looked):
    story = Story("confirm")
    for line in (looked / "confirm" / "record.jsonl").read_text().splitlines():
        story.add(parse(line))
    start = {"trial": "vae-digits-0003", "study": "vae-digits", "number": 3, "values": {}, "origin": "paper"}
    story.add(event("start", seed=2, **start))
    assert story.portrait(PARENT).name == "s confirmed"
    portrait = story.portrait("vae-digits-0003")
    assert portrait.name == "vae / digits / tuned 1 / seed 2" and portrait.tags["point"] == "tuned 1"


def test_the_models_scored_are_counted_not_the_lines():
    rows = [{"epoch": 9, "metrics": {"test/fcd": 1.0, "test/mse": 0.1}}, {"epoch": 8, "metrics": {"train/loss": 1.0}}]
    events = [event("report", trial=trial, rows=rows) for trial in "aab"] + [event("finish", outcome="done")]
    assert evaluations(events) == 2


@pytest.fixture
def searched_to(monkeypatch, looked, make_plan):
    """A sweep that is to be confirmed, and whose search has just come to an outcome; what is confirmed is heard."""
    (looked / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"confirm": True}))
    heard = []

    def make(outcome: str) -> list:
        monkeypatch.setattr(_ending, "show_end", lambda folder: outcome)
        monkeypatch.setattr(launch, "start", lambda config, announce: looked)
        monkeypatch.setattr(launch, "resume", lambda folder, announce, **where: looked)
        monkeypatch.setattr(confirmation, "confirm", lambda folder, announce, **where: heard.append((folder, where)))
        monkeypatch.setattr(_ending, "conclude_confirmation", lambda folder: None)
        monkeypatch.setattr(_ending, "read_trials", lambda folder: searched(make_plan, [1.0]))
        return heard

    return make


@pytest.mark.parametrize("program", ["--address auto", "--resume s --address auto", "resume s --address auto"])
def test_a_search_that_is_done_goes_on_to_its_confirmation(searched_to, looked, program):
    heard = searched_to("done")
    words = program.split()
    commands.main(words) if words[0] == "resume" else front_door("about", words)
    assert heard == [(looked, {"tracking_uri": None, "address": "auto"})]


def test_a_resume_continues_a_confirmation_that_its_own_command_began(searched_to, looked, capsys):
    heard = searched_to("done")
    (looked / "config.yaml").write_text(yaml.safe_dump(CONFIG))  # without `confirm`
    commands.main(["resume", "s"])
    write(looked, event="finish", outcome="done")
    commands.main(["resume", "s"])
    assert [folder for folder, _ in heard] == [looked]
    assert f"already confirmed ({looked}/confirm)" in capsys.readouterr().out


def test_a_confirmation_in_which_nothing_of_a_study_completed_exits_with_1(monkeypatch, capsys):
    entries = [SimpleNamespace(study=name) for name in ("vae-digits", "wae-digits")]
    states = {"vae-digits": "complete", "wae-digits": "failed"}
    found = SimpleNamespace(
        outcome="done", sweep=SimpleNamespace(studies=entries), of=lambda name: [SimpleNamespace(state=states[name])]
    )
    monkeypatch.setattr(_ending, "show_confirmation", lambda folder: None)
    monkeypatch.setattr(_ending, "read_trials", lambda folder: found)
    with pytest.raises(SystemExit) as end:
        _ending.conclude_confirmation(Path("s/confirm"))
    assert end.value.code == 1 and "No training of wae-digits completed." in capsys.readouterr().out
    states["wae-digits"] = "diverged"  # a result, but of no use to the table
    with pytest.raises(SystemExit):
        _ending.conclude_confirmation(Path("s/confirm"))
    states["wae-digits"] = "complete"
    _ending.conclude_confirmation(Path("s/confirm"))


def test_an_interrupted_search_is_not_confirmed_and_a_confirmed_one_not_twice(searched_to, looked, capsys):
    heard = searched_to("interrupted")
    with pytest.raises(SystemExit):
        _ending.conclude(looked)
    searched_to("done")
    write(looked, event="finish", outcome="done")
    _ending.conclude(looked)
    assert heard == [] and f"python -m sweep confirm {looked} --again" in capsys.readouterr().out


def test_a_search_without_a_complete_trial_fails(searched_to, looked, make_plan, monkeypatch, capsys):
    heard = searched_to("done")
    monkeypatch.setattr(_ending, "read_trials", lambda folder: searched(make_plan, [None, None]))
    with pytest.raises(SystemExit) as ended:
        _ending.conclude(looked)
    assert ended.value.code == 1 and heard == []
    assert "No trial of vae-digits completed." in capsys.readouterr().out


def test_a_study_without_a_complete_trial_fails_the_sweep_unless_it_was_stopped(
    searched_to, looked, make_plan, monkeypatch, capsys
):
    heard, trials = searched_to("done"), searched(make_plan, [1.0])
    trials.sweep.studies.append(trials.sweep.studies[0].model_copy(update={"study": "gae-digits"}))
    monkeypatch.setattr(_ending, "read_trials", lambda folder: trials)
    with pytest.raises(SystemExit) as ended:
        _ending.conclude(looked)
    assert ended.value.code == 1 and len(heard) == 1  # the other study was confirmed
    assert "No trial of gae-digits completed." in capsys.readouterr().out
    trials.stopped.add("gae-digits")
    _ending.conclude(looked)


def test_what_a_confirmation_that_was_killed_at_its_end_left_undone_is_done(looked, tmp_path, monkeypatch):
    write(looked, event="finish", outcome="done")
    done = []
    monkeypatch.setattr(confirmation, "write_confirmed", lambda folder: done.append("tables"))
    monkeypatch.setattr(confirmation, "write_page", lambda folder: done.append("report"))
    monkeypatch.setattr(confirmation.tracking, "track", lambda folder, uri, experiment: done.append("tracking"))
    config = launch.config_of(looked)
    tidy(looked, config)
    assert done == ["tables", "report", "tracking"]
    (looked / "confirm" / "confirmed.csv").touch()  # when it was interrupted before, or by the driver that died
    done.clear()
    tidy(looked, config)
    assert done == ["tables", "report", "tracking"]
    (looked / "report.html").touch()
    position = looked / "confirm" / f"tracking-{fingerprint(default_tracking(config))}.json"
    for events, left in ((1, ["tracking"]), (2, [])):
        position.write_text(json.dumps({"sweep": "c", "events": events}))
        done.clear()
        tidy(looked, config)
        assert done == left
    os.utime(looked / "report.html", (0, 0))
    tidy(looked, config)
    assert done == ["tables", "report"]


def test_stopping_a_sweep_stops_its_confirmation(looked, capsys):
    with pytest.raises(ValueError, match="nothing to stop"):
        stop.main(looked)
    with Record(looked / "confirm" / "record.jsonl"):
        stop.main(looked)
    (request,) = (looked / "confirm" / "requests").glob("*.json")
    assert json.loads(request.read_text())["action"] == "stop" and not (looked / "requests").exists()
    assert f"{looked / 'confirm'} stops" in capsys.readouterr().out


def test_ctrl_c_before_the_confirmation_says_how_to_go_on(searched_to, looked, monkeypatch, capsys):
    searched_to("done")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(confirmation, "confirm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _ending.conclude(looked)
    assert f"Continue with:  python -m sweep confirm {looked}" in capsys.readouterr().out


def test_the_confirmation_takes_top_and_seeds_of_the_configuration(looked):
    (looked / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"confirm_top": 2, "confirm_seeds": 3}))
    (looked / "record.jsonl").write_text((looked / "confirm" / "record.jsonl").read_text())
    (looked / "confirm" / "record.jsonl").unlink()
    with pytest.raises(RuntimeError, match=r"confirm begins with \(1, 2, 3\)"):
        confirm(looked)


def test_what_a_confirmation_costs_is_foreseen(make_plan):
    planned = make_plan(methods=["vae"], epochs=9, confirm_top=2, confirm_seeds=3)
    train, valid = (len(split) for split in (planned.splits["digits"].train, planned.splits["digits"].valid))
    trainings, cost = confirmation_cost(planned, {"vae-digits": 2.0})
    assert trainings == 3 * 3 and cost == pytest.approx(9 * 9 * 2.0 * (train + valid) / train)
    folded = replace(planned, config=planned.config.model_copy(update={"confirm_folds": 4}))
    trainings, cost = confirmation_cost(folded, {"vae-digits": 2.0})
    test = len(planned.splits["digits"].test)
    assert trainings == 3 * 4 and cost == pytest.approx(12 * 9 * 2.0 * ((train + test) * 3 / 4 + valid) / train)


def test_the_seconds_of_a_search_do_not_end_its_confirmation(make_plan):
    planned, _ = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG, seconds_per_study=1.0), 1, (1,))
    assert planned.config.seconds_per_study is None


def trained(stages: str) -> Trial:
    """A trial whose epochs ran in these stages, a letter each."""
    rows = {epoch: Row(epoch=epoch, stage=stage, metrics={}) for epoch, stage in enumerate(stages, start=1)}
    return Trial("vae-digits-0000", "vae-digits", 0, "test/fcd", {}, "paper", 1, 1, 0.0, "complete", rows=rows)


def test_seconds_alone_weigh_the_stages_as_the_whole_training_does():
    assert seconds_per_epoch(trained("aaa"), [("a", 9.0), ("a", 1.0), ("a", 7.0), ("a", 2.0)]) == 2.0
    assert seconds_per_epoch(trained("abbb"), [("a", 9.0), ("a", 1.0), ("b", 5.0)]) == (1 + 3 * 5) / 4
    assert seconds_per_epoch(trained("ab"), [("a", 9.0), ("a", 1.0)]) is None  # nobody saw how long b takes
    assert seconds_per_epoch(trained("a"), []) is None


@pytest.fixture
def trained_twice(make_plan, tmp_path) -> Iterator[Conductor]:
    """The conductor of a confirmation of two points whose trainings, two each, have all ended."""
    planned, _ = chosen(searched(make_plan, [5.0, 3.0]), SweepConfig(**CONFIG), 1, (4, 5))
    with Record(tmp_path / "record.jsonl") as record:
        studies = {s.name: Study(s.spec, 0) for s in planned.studies}
        opening = record.append("sweep", sweep="c", studies=[s.spec.to_record() for s in planned.studies])
        resources = Resources(cpus=1, gpus=0.0, slots=1, ahead=1, total_gpus=0)
        conductor = Conductor(planned, studies, record, [opening], tmp_path, resources, lambda *_: None)
        row = Row(epoch=9, stage="train", metrics={"test/fcd": 1.0})
        end = Progress(rows=[row], value=1.0, epoch=9, state="complete")
        while conductor.next("a") is not None:
            conductor.hear("a", end)
        yield conductor


def test_each_point_is_timed_once_with_its_first_seed_and_for_a_few_epochs(trained_twice, tmp_path, monkeypatch):
    heard, said = [], []

    def train_alone(conductor, trials, epochs, pool, inbox):
        for trial in trials:
            heard.append((trial.name, trial.seed, epochs))
            yield trial, [("train", 3.0), ("train", 0.5)]

    monkeypatch.setattr("sweep.driver.executor.train_alone", train_alone)
    inbox = Inbox(trained_twice, Stop(), print)
    for _ in range(2):  # as a resumed one does
        time_alone(trained_twice, trained_twice.plan.seeds[0], said.append, None, inbox)
    assert heard == [("vae-digits-0000", 4, 4), ("vae-digits-0001", 4, 4)]
    assert said == ["timing 2 points, one at a time, over 4 epochs each ..."]
    trials = Trials.from_events(read(tmp_path / "record.jsonl"))
    alone = {trial.seed: [t.rows[0].metrics for t in trials.trials.values() if t.seed == trial.seed and 0 in t.rows]
             for trial in trials.trials.values()}  # fmt: skip
    assert alone == {4: [{ALONE: 0.5}] * 2, 5: []} and {trial.epoch for trial in trials.trials.values()} == {9}


def of_task(name: str) -> SimpleNamespace:
    """A reference to what a task will return."""
    return SimpleNamespace(task_id=lambda: SimpleNamespace(hex=lambda: name))


def test_a_point_whose_timing_gives_no_sign_of_life_is_left_out(trained_twice, monkeypatch):
    refs, cancelled = [of_task("silent"), of_task("sound")], []

    def get(ref):
        if ref in cancelled:
            raise RayError("it was cancelled")
        return [("train", 0.5)]

    started = iter(refs)
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: next(started)))
    ray = SimpleNamespace(
        remote=lambda **_: lambda function: task, put=lambda images: images, get=get,
        wait=lambda asked, timeout: (asked, []) if asked[0] in (*cancelled, refs[1]) else ([], asked),
        cancel=lambda ref, force: cancelled.append(ref),
    )  # fmt: skip
    monkeypatch.setattr(executor, "ray", ray)
    monkeypatch.setattr(executor, "Signs", lambda: SimpleNamespace(silent=lambda names, started: {*names} & {"silent"}))
    trials = list(trained_twice.trials.trials.values())[:2]
    inbox = Inbox(trained_twice, Stop(), print)
    timed = [epochs for _, epochs in executor.train_alone(trained_twice, trials, 4, None, inbox)]
    assert timed == [[], [("train", 0.5)]] and cancelled == refs[:1]


def test_the_timing_hears_a_request_to_stop_and_avoids_nodes_and_shares(trained_twice, monkeypatch):
    """Ray would train the first point for ever. Its study has outgrown a quarter of a GPU."""
    trained_twice.resources = Resources(1, 0.25, 4, 4, 1)
    trained_twice.trials.outgrown = dict.fromkeys(trained_twice.studies, 0.25)
    options, asked, looks = [], [], []

    def wait(refs, timeout):
        if not asked:
            asked.append(send(trained_twice.folder, action="stop"))
        return [], refs

    task = SimpleNamespace(
        options=lambda **given: options.append(given) or SimpleNamespace(remote=lambda *_: of_task("a"))
    )
    ray = SimpleNamespace(remote=lambda **_: lambda function: task, put=lambda images: images, wait=wait)
    monkeypatch.setattr("sweep.driver.executor.ray", ray)
    monkeypatch.setattr("sweep.driver.inbox.SECONDS_BETWEEN_LOOKS", 0.0)
    stop, said = Stop(), []
    inbox = Inbox(trained_twice, stop, said.append)
    excluded = {"bad": "its code differs", "worse": "it has not answered in 180 s"}
    pool = SimpleNamespace(set_aside=excluded, look=lambda: looks.append(1) or True, holding=list)
    with pytest.raises(Stopped):
        stop.attend(lambda: time_alone(trained_twice, 4, print, pool, inbox))
    assert options == [{"num_gpus": 1.0, "label_selector": {"ray.io/node-id": "!in(bad,worse)"}}]
    assert said[0].endswith("asked to stop the sweep")
    assert looks and said[1].startswith("waiting for nodes") and len(said) == 2
    assert trained_twice.trials.requests[0].request == asked[0].request


@pytest.mark.slow
def test_each_point_is_timed_in_a_process_of_its_own(trained_twice, monkeypatch):
    """With a share of a GPU, too: it limits the memory of its process for good."""
    trained_twice.resources = Resources(cpus=1, gpus=0.25, slots=1, ahead=1, total_gpus=1)
    monkeypatch.setattr(executor, "epochs_alone", lambda *_: [(str(os.getpid()), 0.5)])
    trials = list(trained_twice.trials.trials.values())[:2]
    with executor.cluster(None, trained_twice.resources, Stop()):
        timed = list(executor.train_alone(trained_twice, trials, 4, None, Inbox(trained_twice, Stop(), print)))
    ((one, _),), ((other, _),) = (epochs for _, epochs in timed)
    assert one != other


@pytest.mark.slow
def test_a_real_sweep_is_confirmed_by_its_own_flag(programs, capsys):
    flags = ("--methods", "vae", "--epochs", 3, "--confirm", "--confirm-seeds", 1, 2)
    screen = programs.sweep(*flags).ends_well()
    home = programs.folder / "sweeps" / "quick"
    assert "fcd on the test split" in screen and "scored on the test split, once" in screen
    assert "its points cannot be told apart yet, so it goes on to 4 trainings" in screen
    table = points(confirmation_of(home))
    assert set(table["seed"]) == {1, 2} and table["value"].notna().all() and table["value"].nunique() == len(table)
    assert (table["alone_seconds_per_epoch"] > 0).tolist() == (table["seed"] == 1).tolist()
    assert (home / "confirm" / "confirmed.csv").exists() and not (home / "confirm" / "config.yaml").exists()
    commands.main(["track", str(home / "confirm")])
    assert "4 trials" in capsys.readouterr().out
    folded = programs.start("-m", "sweep", "confirm", home, "--again", "--folds", 2)
    assert folded.wait() == 0 and "scored on folds that contain the test images, in 2 looks" in folded.output
    table = points(confirmation_of(home))
    assert set(table["seed"]) == {3, 4} and table["value"].notna().all()
    assert [len(recipes) for recipes in confirmation_of(home).recipes.values()] == [1]
