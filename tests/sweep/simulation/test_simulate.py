"""Sweeps on a virtual clock: successive halving, fairness and the use of slots are read from what they recorded."""

from collections import Counter
from itertools import combinations
from zlib import crc32

import numpy as np
import pytest

from sweep.commands.run import front_door
from sweep.driver.conductor import Conductor
from sweep.driver.resources import Resources
from sweep.record import Event, Record, read
from sweep.search.study import Study
from sweep.simulation.curves import Evaluated, Recorded, Synthetic
from sweep.simulation.simulate import simulate

SLOTS, TRIALS, FACTOR, SEED, SPARED = 8, 60, 3, 0, 0.05


@pytest.fixture
def simulated(make_plan, tmp_path):
    """A simulated sweep of two studies, and the events of its record."""

    def make(curves=None, slots=SLOTS, name="virtual", **changes):
        plan = make_plan(**{"trials": TRIALS, "epochs": 9, "searcher": "random", "seed": SEED} | changes)
        curves = curves or synthetic(plan)
        (tmp_path / name).mkdir()
        return simulate(plan, curves, slots, tmp_path / name), read(tmp_path / name / "record.jsonl")

    return make


def synthetic(plan) -> Synthetic:
    seconds = {study.name: 1.0 + number for number, study in enumerate(plan.studies)}
    return Wild([study.spec for study in plan.studies], seconds, seed=0)


class Wild(Synthetic):
    DIVERGING = 0.1


class Even:
    """Every trial takes a second per epoch and shows its number."""

    def course(self, study, number, values, levels):
        return (Evaluated(level, float(level), float(number)) for level in levels)


@pytest.mark.slow
def test_halving_follows_its_rule_read_from_the_record(simulated):
    """Asynchronous halving, written again: at a rung a trial is paused unless it is among the best third of those seen
    there so far, itself included, or among more if the rung has ranked those that ended badly; the paper's point and
    spared trials always pass. No new trial starts while a paused one would pass its rung."""
    _, events = simulated()
    first = {event.trial: event for event in reversed(events) if event.event == "start"}
    lots = {name: crc32(f"{SEED}/{e.study}/{e.number}/spared".encode()) / 2**32 for name, e in first.items()}
    always = {name for name, event in first.items() if event.origin == "paper" or lots[name] < SPARED}
    seen, paused, states, promoted, last = {}, {}, Counter(), 0, {}

    def passing(rung):
        came = [(rung[trial], last[trial]) for trial in rung if trial in last]
        signs = [np.sign((a - b) * (c - d)) for (a, c), (b, d) in combinations(came, 2)]
        tau = (20 + sum(signs)) / (20 + np.count_nonzero(signs))
        return int(len(rung) / (1 + (FACTOR - 1) * max(0, tau)) + 1e-9)

    for event in events:
        if event.event == "start":
            rungs = {epoch: rung for (study, epoch), rung in seen.items() if study == event.study}
            best = {(t, e) for e, r in rungs.items() for t in sorted(r, key=r.get)[: passing(r)]}
            waiting = best & paused.items()
            assert event.trial in dict(waiting) if event.trial in paused else not waiting
            promoted += paused.pop(event.trial, None) is not None
        elif event.event == "report":
            (row,) = event.rows
            assert event.trial not in paused, "it went on after it was paused"
            if row.epoch < 9:
                rung = seen.setdefault((first[event.trial].study, row.epoch), {})
                value = rung[event.trial] = row.metrics["valid/fcd"]
                rank = sum(other < value for other in rung.values())
                if rank >= passing(rung) and event.trial not in always:
                    paused[event.trial] = row.epoch
            else:
                last[event.trial] = row.metrics["valid/fcd"]
        elif event.event == "end":
            states[event.state] += 1
            assert (event.state, event.epoch) == ("paused", paused.get(event.trial)) or event.trial not in paused
    assert states.keys() == {"complete", "paused", "diverged"} and promoted > 3 and len(paused) > TRIALS
    assert [event.study for event in events if event.event == "close"] == sorted({e.study for e in first.values()})[
        ::-1
    ]


def test_no_slot_rests_while_a_study_can_pay_for_a_training(simulated):
    _, events = simulated()
    study = {event.trial: event.study for event in events if event.event == "start"}
    assert len(study) > 2 * TRIALS
    running, taken, reached, at = 0, Counter(), {}, {}  # epochs that running trials may train, and that ended ones did
    for event in events[1:-1]:
        if event.event == "start":
            running, taken[event.study] = running + 1, taken[event.study] + 9 - reached.get(event.trial, 0)
        elif event.event == "end":
            running, taken[study[event.trial]] = running - 1, taken[study[event.trial]] - 9 + event.epoch
            reached[event.trial] = event.epoch
        at[event.time] = running, min(taken.values())
    assert max(count for count, _ in at.values()) == SLOTS
    assert all(count == SLOTS or least >= TRIALS * 9 - 4.5 for count, least in at.values())
    assert sum(count == SLOTS for count, _ in at.values()) > 0.8 * len(at)


def test_studies_get_equal_epochs_though_one_is_slower_and_its_trials_are_stopped_sooner(simulated):
    done, _ = simulated()
    spent = {name: sum(trial.epoch for trial in done.trials.of(name)) for name in done.studies}
    assert all(TRIALS * 9 * 0.95 < epochs <= TRIALS * 9 + 4.5 for epochs in spent.values()), spent  # some diverge


def test_studies_get_equal_shares_at_any_time_though_one_is_slower(simulated):
    _, events = simulated(first_rung=9, curves=Even())
    asked = {"vae-digits": 0, "beta_vae-digits": 0}
    for event in events:
        if event.event == "start":
            asked[event.study] += 1
            assert max(asked.values()) - min(asked.values()) <= 1
    assert set(asked.values()) == {TRIALS}


@pytest.mark.parametrize(("slots", "wall", "utilisation"), [(2, 18.0, 1.0), (3, 18.0, 2 / 3), (4, 9.0, 1.0)])
def test_time_and_utilisation_are_those_of_a_schedule_by_hand(simulated, slots, wall, utilisation):
    done, _ = simulated(Even(), slots, methods=["vae"], trials=4, first_rung=9)
    assert (done.wall, done.utilisation, done.epochs) == (wall, pytest.approx(utilisation), 36)
    assert done.reached("vae-digits") == {9: 4}
    assert done.best_found("vae-digits") == [(9.0, 0.0)]


class Slow:
    """Every epoch of VAE takes a second, of others two."""

    def course(self, study, number, values, levels):
        pace = 1.0 if study == "vae-digits" else 2.0
        return (Evaluated(level, pace * level, float(number)) for level in levels)


IN_SECONDS = {"first_rung": 9, "seconds_per_study": 40.0}  # a trial takes 9 seconds, or 18


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_budget_in_seconds_is_the_same_for_a_study_whose_trials_take_longer(simulated, slots):
    """To within half a training, whatever the number of trials that run when it is almost spent."""
    done, events = simulated(Slow(), slots, trials=80, **IN_SECONDS | {"seconds_per_study": 240.0})
    for name, training in (("vae-digits", 9), ("beta_vae-digits", 18)):
        assert done.trials.seconds[name] == pytest.approx(240, abs=training / 2)
    assert {trial.state for trial in done.trials.trials.values()} == {"complete"}  # what runs ends as ever
    assert events[-1].outcome == "done"


def test_trials_still_end_a_study_that_has_seconds_left(simulated):
    done, _ = simulated(Slow(), 2, trials=2, **IN_SECONDS)
    assert [len(done.trials.of(name)) for name in done.studies] == [2, 2]


def test_a_resumed_sweep_spends_its_seconds_as_if_it_had_never_stopped(simulated, tmp_path):
    done, events = simulated(Slow(), 1, **IN_SECONDS)
    starts = [at for at, event in enumerate(events) if event.event == "start"]
    for at in (*starts, len(events) - 1):
        with Record(tmp_path / f"cut-{at}" / "record.jsonl") as record:
            studies = {s.name: Study(s.spec, done.plan.config.seed).replay(events[:at]) for s in done.plan.studies}
            resources = Resources(cpus=1, gpus=0.0, slots=1, ahead=1, total_gpus=0)
            resumed = Conductor(done.plan, studies, record, events[:at], tmp_path, resources, lambda *_: None)
            asked = resumed.next("a")
        if at in starts:
            assert (asked["trial"], asked["fit"]["values"]) == (events[at].trial, events[at].values)
        else:
            assert asked is None and resumed.done


def test_more_slots_find_nothing_else_only_sooner(simulated):
    few, _ = simulated(Even(), 2, "few", methods=["vae"], trials=12, first_rung=9)
    many, _ = simulated(Even(), 6, "many", methods=["vae"], trials=12, first_rung=9)
    assert few.wall == 3 * many.wall and few.epochs == many.epochs


def test_a_sweep_simulated_from_its_own_record_happens_again(simulated, tmp_path):
    first, events = simulated(searcher="tpe", trials=20)
    curves = Recorded(tmp_path / "virtual", [study.spec for study in first.plan.studies])
    _, again = simulated(curves, name="again", searcher="tpe", trials=20)
    assert len(events) > 80 and timeless(again) == timeless(events)
    assert [event.time for event in again] == pytest.approx([event.time for event in events])


def timeless(events: list[Event]) -> list[dict]:
    """Events without what floating point may round otherwise."""
    kept = []
    for event in events[1:]:
        kept.append(event.model_dump(exclude={"time", "rows"}))
        for row in getattr(event, "rows", ()):
            kept[-1]["row"] = (row.epoch, pytest.approx(row.metrics["valid/fcd"]))
    return kept


def test_a_curve_that_was_stopped_goes_on_as_the_others_did(simulated, tmp_path):
    first, _ = simulated()
    spec = first.plan.studies[0].spec
    curves = Recorded(tmp_path / "virtual", [spec])
    trials = first.trials.of(spec.study)
    stopped = next(t for t in trials if t.state == "pruned" and t.epoch == 1)
    ratios = sorted(
        t.rows[9].metrics["valid/fcd"] / t.rows[1].metrics["valid/fcd"] for t in trials if t.state == "complete"
    )
    *_, last = curves.course(spec.study, 99, stopped.values, [1, 3, 9])
    assert ratios[0] <= last.value / stopped.value <= ratios[-1] < 1
    assert last.seconds == pytest.approx(9 * stopped.rows[1].metrics["time/train_seconds"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [({"methods": ["gae"]}, "no study 'gae-digits'"), ({"epochs": 27}, "up to epoch 9"), ({"metric": "fid"}, "with ")],
)
def test_curves_that_say_nothing_of_a_study_are_refused(simulated, make_plan, tmp_path, changes, says):
    simulated()
    plan = make_plan(**{"epochs": 9} | changes)
    with pytest.raises(ValueError, match=says):
        Recorded(tmp_path / "virtual", [study.spec for study in plan.studies])


def test_the_command_line_tells_what_a_budget_buys(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sweep.simulation.simulate.epoch_seconds", lambda planned, device: {s.name: 60.0 for s in planned.studies}
    )
    flags = ["--methods", "vae", "--trials", "9", "--epochs", "9", "--concurrent", "4", "--searcher", "random"]
    front_door("about", ["--simulate", *flags, "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert (
        "epochs trained of a budget of 81" in shown
        and "on 4 slots" in shown
        and "utilisation" in shown
        and "at epoch 3" in shown
    )
    assert (tmp_path / "simulation.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.png"]
