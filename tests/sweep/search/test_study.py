"""A study: the points it tries, the trials it stops, what its sampler gets, and a replay that continues as before."""

import dataclasses
import json
import math
import random
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import event
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import TrialState

from sweep.record import Event, StudyEntry, by_study
from sweep.search import study as module
from sweep.search.sampler import rank
from sweep.search.space import Choice, Fixed, Point, Range, Space
from sweep.search.study import Spec, Study, distribution, parameter, value_of

METRIC = "valid/fcd"
POINTS = (
    Point("a table", ("mnist",), {"latent_dim": 10, "learning_rate": 1e-3, "depth": 3, "network": "mlp"}),
    Point("a text", ("mnist",), {"latent_dim": 2, "learning_rate": 2e-3, "depth": 3, "network": "mlp"}, "text"),
)
DIMENSIONS = {
    "latent_dim": Choice((2, 10, 16)),
    "learning_rate": Range(1e-4, 1e-1, log=True),
    "depth": Range(1, 8, integer=True),
    "network": Fixed("mlp"),
}
SPACE = Space(POINTS, DIMENSIONS, dict.fromkeys(DIMENSIONS, True))


def make(trials=40, epochs=9, first_rung=1, sampler="tpe", name="vae-mnist", space=SPACE, **more) -> Spec:
    spec = Spec(name, "vae", "mnist", trials, epochs, METRIC, space, first_rung, sampler=sampler)
    return dataclasses.replace(spec, **more)


def quality(values: dict, epoch: int) -> float:
    """A stand-in for training: best at a rate of 1e-2 and depth 4, better with every epoch."""
    off = abs(math.log10(values["learning_rate"] / 1e-2)) + 0.1 * abs(values["depth"] - 4)
    return 100 * off + 10 / epoch


class Driver:
    """Runs a study and keeps its record, one small step at a time."""

    def __init__(self, study: Study, events: list[Event] | None = None):
        self.study = study
        self.events = events if events is not None else []
        self.epochs = {asked.number: 0 for asked in study.unfinished}  # number -> epochs done, of open trials
        self.asked = {asked.number: asked for asked in study.unfinished}
        self.reached: dict[int, int] = {}  # number -> epochs done, of paused trials

    def write(self, kind: str, **fields) -> None:
        self.events.append(event(kind, **fields))

    def start(self) -> bool:
        asked = self.study.ask()
        if asked is None:
            return False
        self.asked[asked.number], self.epochs[asked.number] = asked, self.reached.pop(asked.number, 0)
        self.write(
            "start",
            trial=asked.trial,
            study="vae-mnist",
            number=asked.number,
            values=asked.values,
            origin=asked.origin,
        )
        return True

    def train(self, number: int) -> None:
        asked = self.asked[number]
        self.epochs[number] += 1
        epoch, value = self.epochs[number], quality(asked.values, self.epochs[number])
        metrics = {"train/loss": 1.0} if epoch == 2 else {METRIC: value}  # not every epoch is evaluated
        self.write("report", trial=asked.trial, rows=[{"epoch": epoch, "metrics": metrics}])
        goes_on = METRIC not in metrics or self.study.report(number, epoch, value)
        if not goes_on or epoch == 9:
            self.end(number, "complete" if goes_on else self.study.stopped)

    def end(self, number: int, state: str) -> None:
        self.study.end(number, state, self.epochs[number])
        self.write("end", trial=self.asked[number].trial, state=state, epoch=self.epochs[number])
        if state == "paused":
            self.reached[number] = self.epochs[number]
        del self.epochs[number]

    def step(self, choice: int, workers: int = 3) -> bool:
        """One thing that can happen, picked by `choice`. False when nothing is left to do."""
        if len(self.epochs) < workers and self.start():
            return True
        if not self.epochs:
            return False
        number = sorted(self.epochs)[choice % len(self.epochs)]
        fate = {7: "diverged", 8: "failed", 9: "preempted", 10: "out_of_memory", 11: "cancelled"}.get(choice // 10)
        if fate is None:
            self.train(number)
        else:
            self.end(number, fate)
        return True


def run(study: Study) -> Driver:
    driver = Driver(study)
    while driver.step(0, workers=1):
        pass
    return driver


def suggestions(study: Study) -> list[dict]:
    driver = run(study)
    return [driver.asked[number].values for number in sorted(driver.asked)]


def test_the_points_come_first_then_the_search_until_the_budget_is_used_up():
    study = Study(make(trials=4), seed=0)
    asked = [study.ask() for _ in range(4)]
    assert [a.values for a in asked[:2]] == [dict(point.values) for point in POINTS]
    assert [a.origin for a in asked] == ["paper", "paper", "search", "search"]
    assert [(a.trial, a.number) for a in asked] == [(f"vae-mnist-000{i}", i) for i in range(4)]
    assert study.ask() is None and study.unfinished == asked


def test_what_stopped_trials_save_buys_further_ones_until_the_epochs_are_spent():
    study = Study(make(trials=6, budget_epochs=54), seed=0)
    trained = 0
    while asked := study.ask():
        epochs = 9 if asked.origin == "paper" else (1, 3)[asked.number % 2]
        trained += epochs
        study.end(asked.number, "complete" if epochs == 9 else "pruned", epochs)
    assert study.spent == trained == pytest.approx(54, abs=4.5)
    assert asked is None and len(study.history()) == 2 + 16  # of 1 and 3 epochs in turn, 36 to share


@pytest.mark.parametrize(("left", "asks"), [(5, True), (4, False)])
def test_a_training_is_begun_while_half_of_one_is_left(left, asks):
    study = Study(make(trials=2, budget_epochs=18), seed=0)
    study.ask(), study.ask()
    assert study.ask() is None and study.open_places == 0, "those that run may use all of it"
    study.end(0, "complete", 9)
    study.end(1, "diverged", 9 - left)
    assert (study.ask() is not None) == asks


def test_a_study_whose_trials_fail_at_once_comes_to_an_end():
    study = Study(make(trials=2, budget_epochs=18, first_rung=3), seed=0)
    while asked := study.ask():
        study.end(asked.number, "failed", 0)
    assert len(study.history()) == 5  # each takes the epochs of the first rung


def test_an_attempt_more_takes_back_what_its_failure_had_left():
    study = Study(make(trials=2, budget_epochs=18), seed=0)
    study.ask()
    study.end(0, "failed", 4)
    assert study.spent == 4
    study.reopen(0)
    assert study.spent == 9
    study.end(0, "complete", 9)
    assert study.spent == 9


def test_suggestions_are_complete_typed_and_within_their_ranges():
    for values in suggestions(Study(make(), seed=0)):
        assert list(values) == list(DIMENSIONS)
        assert all(dimension.contains(values[name]) for name, dimension in DIMENSIONS.items())
        assert [type(value) for value in values.values()] == [int, float, int, str]
        assert json.loads(json.dumps(values)) == values


def test_a_space_without_anything_to_search_is_tried_at_its_points_only():
    for only in (Fixed(10), Choice((10,))):
        space = Space(POINTS[:1], {"latent_dim": only, "learning_rate": Fixed(1e-3)}, {})
        study = Study(make(space=space, budget_epochs=360), seed=0)
        assert study.ask().origin == "paper" and study.ask() is None
        assert study.spec.to_record().trials == 1, "the report names the budget that it has"


def test_tpe_finds_the_valley_that_random_search_only_passes():
    def last(sampler):
        found = [suggestions(Study(make(sampler=sampler), seed))[-10:] for seed in range(3)]
        return sum(quality(values, 9) for ten in found for values in ten) / 30

    assert last("tpe") < 0.7 * last("random")


@pytest.mark.parametrize("sampler", ["tpe", "prior", "random"])
def test_suggestions_depend_on_seed_and_study_only(sampler):
    first = suggestions(Study(make(20, sampler=sampler), seed=1))
    random.seed(0)
    assert suggestions(Study(make(20, sampler=sampler), seed=1)) == first
    assert suggestions(Study(make(20, sampler=sampler), seed=2))[2:] != first[2:]
    assert suggestions(Study(make(20, sampler=sampler, name="gae-mnist"), seed=1))[2:] != first[2:]
    assert len({json.dumps(values) for values in first}) == 20


def test_nothing_is_printed_and_nothing_deprecated(capsys, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = Study(make(20), seed=0)
        run(study)
    assert capsys.readouterr() == ("", "") and not caplog.records


def test_the_papers_points_are_never_stopped_and_others_are():
    study = Study(make(), seed=0)
    for _ in range(5):
        study.ask()
    verdicts = {number: study.report(number, 1, value) for number, value in ((4, 1.0), (3, 2.0), (2, 3.0))}
    assert verdicts == {4: True, 3: True, 2: False}
    assert study.report(0, 1, 100.0) and study.report(1, 1, 200.0), "the papers' points, though the worst"
    events = run(Study(make(), seed=0)).events
    assert sum(getattr(event, "state", None) == "pruned" for event in events) > 10
    assert Study(make(), seed=0).replay(events).rungs.exempt == {0, 1}


def test_the_first_value_of_an_epoch_stays_and_late_reports_are_ignored():
    study = Study(make(), seed=0)
    study.ask()
    assert study.report(0, 3, 5.0) and study.report(0, 3, 1.0) and study.report(0, 1, 7.0)
    study.end(0, "complete", 9)
    assert study.report(0, 9, 0.0) is False
    assert study.history()[0].value == 5.0


def output(state: str, *reports: tuple[int, float]) -> tuple:
    study = Study(make(), seed=0)
    study.ask()
    for epoch, value in reports:
        study.report(0, epoch, value)
    if state != "running":
        study.end(0, state, 9)
    (trial,) = study.history()
    return trial.state, trial.value, trial.intermediate_values


@pytest.mark.parametrize(
    "state, reports, expected",
    [
        ("running", [(1, 4.0)], (TrialState.RUNNING, None, {})),
        ("complete", [(3, 4.0), (9, 3.0)], (TrialState.COMPLETE, 3.0, {})),
        ("complete", [], (TrialState.FAIL, None, {})),
        ("complete", [(3, 4.0), (9, math.nan)], (TrialState.PRUNED, None, {})),
        ("complete", [(9, math.inf)], (TrialState.PRUNED, None, {})),
        ("pruned", [(1, 6.0), (3, 5.0)], (TrialState.PRUNED, 5.0, {3: 5.0})),
        ("pruned", [(1, math.nan)], (TrialState.PRUNED, None, {})),
        ("diverged", [(1, 1.0), (3, 0.1)], (TrialState.PRUNED, None, {})),
        ("diverged", [], (TrialState.PRUNED, None, {})),
        ("failed", [(1, 6.0)], (TrialState.FAIL, None, {})),
        ("out_of_memory", [(1, 6.0)], (TrialState.FAIL, None, {})),
        ("cancelled", [(1, 6.0)], (TrialState.FAIL, None, {})),
        ("preempted", [(1, 6.0)], (TrialState.FAIL, None, {})),
    ],
)
def test_what_the_sampler_gets(state, reports, expected):
    assert output(state, *reports) == expected


@pytest.mark.parametrize("objectives", [(), ("valid/mse",)], ids=["one objective", "two objectives"])
def test_of_many_trials_the_sampler_sees_the_best_the_latest_and_the_running(objectives, monkeypatch):
    """Beside a list that is sorted anew, while trials pause, go on, fail, start again and end."""
    monkeypatch.setattr(module, "SHOWN", 12)
    monkeypatch.setattr(module, "GOOD", 4)
    spec = make(trials=60, epochs=9, budget_epochs=540, promotes=True, sampler="random", objectives=objectives)
    study, chance, running = Study(spec, seed=0), random.Random(0), []
    for step in range(400):
        if len(running) < 3 and (asked := study.ask()):
            running.append(asked.number)
        if running:
            number = running.pop(chance.randrange(len(running)))
            fate = chance.choice(["complete", "complete", "diverged", "failed", "pruned", "stopped"])
            for epoch in (1, 3, 9):
                others = {"valid/mse": chance.random()}
                if not study.report(number, epoch, chance.random(), others) or (epoch == 1 and fate == "stopped"):
                    fate = study.stopped
                    break
            study.end(number, fate, epoch)
            if fate == "failed" and chance.random() < 0.5:
                running.append(study.reopen(number).number)
        every = [frozen for number in sorted(study._trials) if (frozen := study._freeze(study._trials[number]))]
        ended = [trial for trial in every if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(ended) > 12:
            best = study._oracle(ended).best_trials if objectives else ended
            seen = {t.number for t in (*sorted(best, key=rank)[:4], *ended[-8:])}
            every = [t for t in every if t.number in seen or t.state == TrialState.RUNNING]
        assert [shown(trial) for trial in study.history()] == [shown(trial) for trial in every], step
    assert len(study._trials) > 60


def test_tpe_ranks_a_diverged_trial_behind_everything():
    study = Study(make(), seed=0)
    stories = [
        ("diverged", [(1, 1.0), (3, 0.5), (8, 0.1)]),  # it looked best until it blew up
        ("complete", [(9, 900.0)]),
        ("pruned", [(1, 800.0)]),
        ("pruned", [(3, 700.0)]),
        ("complete", [(9, 20.0)]),
    ]
    for number, (state, reports) in enumerate(stories):
        study.ask()
        for epoch, value in reports:
            study.report(number, epoch, value)
        study.end(number, state, 9)
    oracle = optuna.create_study()
    oracle.add_trials(study.history())
    good = [{t.number for t in _split_trials(oracle, oracle.trials, n)[0]} for n in range(1, 6)]
    assert good == [{4}, {4, 1}, {4, 1, 3}, {4, 1, 3, 2}, {4, 1, 3, 2, 0}]


def test_tpe_keeps_away_from_where_trials_diverge():
    """Rates above 2e-2 diverge, and the valley is just below: a sampler that hears nothing runs into them."""

    def diverged(state: str) -> int:
        count = 0
        for seed in range(2):
            study = Study(make(), seed)
            while asked := study.ask():
                if asked.values["learning_rate"] > 2e-2:
                    count += 1
                    study.report(asked.number, 1, 1.0)
                    study.end(asked.number, state, 9)
                else:
                    study.report(asked.number, 9, quality(asked.values, 9))
                    study.end(asked.number, "complete", 9)
        return count

    assert diverged("diverged") < 0.6 * diverged("failed")


@pytest.mark.parametrize("state", ["failed", "out_of_memory", "preempted"])
def test_what_says_nothing_of_the_values_moves_no_suggestion(state):
    """If it were shown as bad, the sampler would avoid the best region because a neighbour took the memory."""

    def after(end: str) -> Study:
        study = Study(make(), seed=1)
        for number in range(12):
            asked = study.ask()
            study.report(number, 9, 1e6 if number == 11 else quality(asked.values, 9))
            study.end(number, end if number == 11 else "complete", 9)
        return study

    never_heard = after(state)
    output = never_heard.history()[:11]
    never_heard.history = lambda: output
    expected = never_heard.ask().values
    assert after(state).ask().values == expected
    assert after("diverged").ask().values != expected


def test_no_trial_is_left_running_for_the_sampler_when_all_have_ended():
    study = Study(make(10), seed=0)
    for number, state in enumerate(
        ("complete", "pruned", "diverged", "failed", "out_of_memory", "cancelled", "preempted", "diverged")
    ):
        study.ask()
        study.end(number, state, 9)
    assert not study.unfinished
    assert all(trial.state.is_finished() for trial in study.history()) and len(study.history()) == 8


def test_a_failed_trial_can_be_reopened_and_a_judged_one_cannot():
    study = Study(make(), seed=0)
    first, second = study.ask(), study.ask()
    study.report(0, 3, 5.0)
    study.end(0, "failed", 9)
    study.end(1, "preempted", 9)
    assert study.unfinished == []
    assert study.reopen(0) == first and study.reopen(1) == second
    assert study.unfinished == [first, second]
    study.end(0, "complete", 9)
    assert study.history()[0].value == 5.0
    with pytest.raises(ValueError, match="vae-mnist-0000 cannot be retried: it is complete"):
        study.reopen(0)


def test_a_replay_reopens_what_was_started_again_and_keeps_the_first_of_two_ends():
    driver = Driver(Study(make(), seed=0))
    driver.start()
    driver.train(0)
    driver.end(0, "failed")
    began, ended = driver.events[0], driver.events[-1]

    again = Study(make(), seed=0).replay([*driver.events, began.model_copy(update={"attempt": 2})])
    assert again.unfinished == [driver.asked[0]] and again.history()[0].state == TrialState.RUNNING
    complete = Study(make(), seed=0).replay(
        [*driver.events, began.model_copy(update={"attempt": 2}), ended.model_copy(update={"state": "complete"}), ended]
    )
    assert complete.history()[0].state == TrialState.COMPLETE and not complete.unfinished


def test_misuse_is_named():
    study = Study(make(), seed=0)
    with pytest.raises(ValueError, match="vae-mnist has no trial 3; call ask"):
        study.report(3, 1, 1.0)
    study.ask()
    with pytest.raises(ValueError, match="state must be one of complete, paused, pruned"):
        study.end(0, "done", 9)
    study.end(0, "failed", 9)
    with pytest.raises(ValueError, match="vae-mnist-0000 cannot end as complete: it already ended as failed"):
        study.end(0, "complete", 9)
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        make(trials=0)
    with pytest.raises(ValueError, match="sampler must be 'tpe', 'prior', 'random' or 'none', got 'grid'"):
        make(sampler="grid")


def test_the_spec_survives_the_record():
    weighs, rules = {"learning_rate": {"network": ["mlp"]}}, {"geco": {"method": ["geco"]}}
    spec = make(space=dataclasses.replace(SPACE, balance=weighs, rules=rules))
    entry = StudyEntry.model_validate_json(spec.to_record().model_dump_json())
    assert (entry.balance, entry.rules) == (weighs, rules)
    assert entry.rungs == [1, 3] and entry.hand_tuned == dict(POINTS[0].values)
    assert entry.hand_tuned_source == "a table"
    assert entry.space["learning_rate"] == {"low": 1e-4, "high": 1e-1, "log": True}
    again = Spec.from_record(entry)
    assert again.to_record() == spec.to_record() and again.count == 40
    for rule in ("promotes", "adaptive"):
        assert getattr(Spec.from_record(dataclasses.replace(spec, **{rule: True}).to_record()), rule)
        assert not getattr(again, rule)
    spending = make(budget_epochs=360)
    assert Spec.from_record(spending.to_record()).budget_epochs == 360 and spending.count is None
    points_only = dataclasses.replace(spending, sampler="none").to_record()
    assert points_only.budget_epochs is None, "without a search the points are counted"
    assert suggestions(Study(again, 0)) == suggestions(Study(spec, 0))


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(0, 119), max_size=150),
    st.integers(0, 150),
    st.sampled_from(["tpe", "prior"]),
    st.sampled_from([None, 90]),
    st.sampled_from([{}, {"promotes": True}, {"promotes": True, "adaptive": True}]),
    st.booleans(),
)
def test_a_replayed_study_goes_on_as_the_undisturbed_one(choices, cut, sampler, budget_epochs, rungs, probes):
    first = (("learning_rate", 4.0), ("depth", 0.2), ("depth", 5.0)) if probes else ()
    spec = make(trials=25, sampler=sampler, budget_epochs=budget_epochs, probes=first, **rungs)
    lived = Driver(Study(spec, seed=3))
    for choice in choices[:cut]:
        lived.step(choice)

    replayed = Driver(Study(spec, seed=3).replay(lived.events), list(lived.events))
    assert replayed.study.unfinished == lived.study.unfinished
    assert replayed.study.rungs == lived.study.rungs and replayed.study.spent == lived.study.spent
    assert [shown(t) for t in replayed.study.history()] == [shown(t) for t in lived.study.history()]

    replayed.epochs, replayed.reached = dict(lived.epochs), dict(lived.reached)
    for choice in choices[cut:] + [0] * 40:
        assert replayed.step(choice) == lived.step(choice)
    assert replayed.events == lived.events


def shown(trial) -> tuple:
    return trial.state, trial.values, trial.params, trial.intermediate_values


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 89), min_size=20, max_size=120), st.data())
def test_a_replay_of_repeated_work_changes_nothing(choices, data):
    """A resumed trial starts again and repeats the epochs since its checkpoint: they are recorded twice."""
    lived = Driver(Study(make(trials=25), seed=3))
    for choice in choices:
        lived.step(choice)
    repeated = list(lived.events)
    for asked in lived.study.unfinished:
        mine = [e for e in lived.events if e.trial == asked.trial]
        checkpoint = data.draw(st.integers(1, len(mine)))
        repeated += [mine[0].model_copy(update={"attempt": 2}), *mine[checkpoint:]]
    again = Study(make(trials=25), seed=3).replay(repeated)
    assert again.rungs == lived.study.rungs and again.unfinished == lived.study.unfinished
    assert again.ask() == lived.study.ask()


def test_a_paused_trial_goes_on_when_it_is_among_the_best_and_before_new_ones():
    spec = make(trials=20, epochs=3, factor=2, budget_epochs=60, sampler="random", promotes=True)
    driver = Driver(Study(spec, seed=0))

    def end(value: float) -> str:
        driver.start()
        (number,) = driver.epochs
        asked, driver.epochs[number] = driver.asked[number], 1
        driver.write("report", trial=asked.trial, rows=[{"epoch": 1, "metrics": {METRIC: value}}])
        goes_on = driver.study.report(number, 1, value)
        driver.epochs[number] = 3 if goes_on else 1
        driver.end(number, "complete" if goes_on else driver.study.stopped)
        return asked.trial

    for value in (5.0, 6.0, 1.0, 5.5, 9.0, 9.5):  # the first two are hand-tuned
        end(value)
    assert [e.trial for e in driver.events if e.event == "end" and e.state == "paused"] == [
        f"vae-mnist-000{number}" for number in (3, 4, 5)
    ]
    spent = driver.study.spent
    assert driver.study.history()[-1].state == TrialState.PRUNED
    fresh = Study(spec, seed=0).replay(driver.events)
    assert fresh.ask() == driver.study.ask() == driver.asked[3] and driver.study.spent == spent + 2
    assert fresh.rungs == driver.study.rungs and driver.study.goes_on(3)
    assert driver.study.ask().number == 6


def test_a_closed_study_promotes_nothing_even_with_a_larger_budget():
    spec = make(trials=9, budget_epochs=81, sampler="random", promotes=True)
    driver = run(Study(spec, seed=0))
    paused = [number for number in driver.asked if driver.study._trials[number].state == "paused"]
    spent = driver.study.spent
    driver.study.close()
    driver.write("close", study="vae-mnist")
    assert paused and driver.study.spent == spent
    longer = Study(dataclasses.replace(spec, budget_epochs=810), seed=0).replay(driver.events)
    open_before = Study(dataclasses.replace(spec, budget_epochs=810), seed=0).replay(driver.events[:-1])
    assert [shown(t) for t in longer.history()] == [shown(t) for t in open_before.history()]
    asked = [longer.ask().number for _ in range(9)]
    assert not set(asked) & set(paused)


def test_a_replay_skips_other_studies_and_keeps_what_was_run():
    lived = run(Study(make(12), seed=0))
    other = [e.model_copy(update={"trial": e.trial.replace("vae", "gae")}) for e in lived.events]
    other = [e.model_copy(update={"study": "gae-mnist"}) if e.event == "start" else e for e in other]
    mixed = [
        event("sweep", sweep="s", studies=[]),
        *(e for pair in zip(lived.events, other, strict=True) for e in pair),
    ]
    mixed += [event("finish", outcome="interrupted")]
    assert by_study(mixed)["vae-mnist"] == lived.events
    again = Study(make(12), seed=99).replay(mixed)
    assert [shown(t) for t in again.history()] == [shown(t) for t in lived.study.history()]
    assert again.ask() is None
    assert Study(make(14), seed=0).replay(mixed).ask().number == 12, "a larger budget goes on where it ended"


def test_a_crash_between_asking_and_recording_asks_the_same_again():
    driver = Driver(Study(make(), seed=0))
    for _ in range(80):
        driver.step(0)
    lost = driver.study.ask()
    again = Study(make(), seed=0).replay(driver.events).ask()
    assert again == lost


def test_a_trial_that_a_rung_stopped_before_its_end_was_recorded_is_known():
    driver = run(Study(make(), seed=0))
    pruned = next(e for e in driver.events if e.event == "end" and e.state == "pruned")
    study = Study(make(), seed=0).replay(driver.events[: driver.events.index(pruned)])
    (open_trial,) = study.unfinished
    assert open_trial.trial == pruned.trial and not study.goes_on(open_trial.number)
    assert study.goes_on(0)


def test_a_narrowed_space_forgets_what_lies_outside():
    driver = run(Study(make(20), seed=0))
    narrow = make(30, space=SPACE.with_fixed({"latent_dim": 10}))
    assert len(Study(narrow, seed=0).replay(driver.events).history()) == 20, "what is pinned is not sampled"
    narrow = Space(POINTS, {**DIMENSIONS, "learning_rate": Range(1e-4, 1e-2, log=True)}, {})
    study = Study(make(30, space=narrow), seed=0).replay(driver.events)
    kept = [a.values["learning_rate"] <= 1e-2 for a in driver.asked.values()]
    assert len(study.history()) == sum(kept) < 20
    assert study.ask().values["learning_rate"] <= 1e-2


OTHER = "time/train_seconds"


def searched(objectives: tuple[str, ...]) -> tuple[Study, list[Event], list[float]]:
    """A study of 60 trials whose metric is lowest at a rate of 1e-3 and whose seconds are at 1e-2, its record and the
    logarithms of its last 30 rates."""
    study = Study(dataclasses.replace(make(trials=60, epochs=1), objectives=objectives), seed=0)
    events, tried = [], []
    while asked := study.ask():
        x = math.log10(asked.values["learning_rate"])
        metrics = {METRIC: (x + 3) ** 2, OTHER: (x + 2) ** 2}
        study.report(asked.number, 1, metrics[METRIC], metrics)
        study.end(asked.number, "complete", 9)
        named = {"trial": asked.trial, "study": "vae-mnist", "number": asked.number, "values": asked.values}
        events.append(event("start", origin=asked.origin, **named))
        events.append(event("report", trial=asked.trial, rows=[{"epoch": 1, "metrics": metrics}]))
        events.append(event("end", trial=asked.trial, state="complete"))
        tried.append(x)
    return study, events, tried[30:]


def test_a_search_for_two_objectives_covers_what_lies_between_them():
    def near(tried: list[float], x: float) -> int:
        return sum(abs(t - x) < 0.25 for t in tried)

    *_, alone = searched(())
    study, events, both = searched((OTHER,))
    assert near(alone, -3) > 15 and near(alone, -2) < 4
    assert near(both, -3) > 4 and near(both, -2) > 4 and sum(-3.25 < t < -1.75 for t in both) > 20
    again = Study(Spec.from_record(study.spec.to_record()), seed=0).replay(events)
    assert [shown(trial) for trial in again.history()] == [shown(trial) for trial in study.history()]
    assert {len(trial.values) for trial in study.history()} == {2}


def test_what_lacks_an_objective_is_not_seen_and_what_was_stopped_has_none():
    study = Study(dataclasses.replace(make(), objectives=(OTHER,)), seed=0)
    for metrics, state in (({OTHER: 1.0}, "complete"), ({}, "complete"), ({OTHER: 2.0}, "pruned"), ({}, "diverged")):
        asked = study.ask()
        study.report(asked.number, 1, 5.0, metrics)
        study.end(asked.number, state, 9)
    output = [(trial.state, trial.values, trial.intermediate_values) for trial in study.history()]
    stopped = (TrialState.PRUNED, None, {})
    assert output == [(TrialState.COMPLETE, [5.0, 1.0], {}), (TrialState.FAIL, None, {}), stopped, stopped]
    assert study.ask() is not None


def test_the_sampler_gets_the_front_of_a_long_search_for_two_objectives(monkeypatch):
    study, _, _ = searched((OTHER,))
    everything = study.history()
    values = [trial.values for trial in everything]
    front = [v for v in values if not any(w[0] < v[0] and w[1] < v[1] for w in values)]
    monkeypatch.setattr("sweep.search.study.SHOWN", 40)
    output = [trial.values for trial in study.history()]
    assert len(output) < len(values) and len(front) > 5
    assert sum(v in output for v in sorted(front)[:25]) == min(25, len(front))


def test_the_sampler_gets_all_good_trials_of_a_long_study_and_the_latest_others(monkeypatch):
    spec, chance = make(trials=1000), random.Random(0)
    driver = Driver(Study(spec, seed=0))
    for number in range(400):
        values = {"latent_dim": 10, "learning_rate": 10 ** chance.uniform(-4, -1), "depth": 3, "network": "mlp"}
        trial = f"t{number}"
        driver.write("start", trial=trial, study=spec.study, number=number, values=values)
        state = chance.choice(["complete"] + 9 * ["pruned"] + ["diverged", "failed", "running"])
        rows = [{"epoch": e, "metrics": {METRIC: chance.random()}} for e in (1, 3, 9)[: chance.randint(1, 3)]]
        driver.write("report", trial=trial, rows=rows)
        if state != "running":
            driver.write("end", trial=trial, state=state)
    study = Study(spec, seed=0).replay(driver.events)
    shown = study.history()
    monkeypatch.setattr("sweep.search.study.SHOWN", 1000)
    everything = study.history()

    def good(trials: list) -> set[int]:
        seen = [t for t in trials if t.state != TrialState.FAIL]
        return {t.number for t in _split_trials(optuna.create_study(), seen, 25)[0]}

    def numbers(trials: list, finished: bool) -> list[int]:
        return [t.number for t in trials if t.state.is_finished() == finished]

    assert len(everything) == 400 and good(shown) == good(everything)
    assert numbers(shown, finished=False) == numbers(everything, finished=False)
    latest = [t.number for t in everything if t.state in (TrialState.COMPLETE, TrialState.PRUNED)][-275:]
    assert set(numbers(shown, finished=True)) == good(everything) | set(latest)


@pytest.mark.parametrize("choices", [(2, 10, 16), (16.0, 10.0, 2.0)])
def test_an_ordered_choice_is_searched_by_its_order(choices):
    dimension = Choice(choices)
    assert distribution(dimension) == IntDistribution(0, 2)
    assert [parameter(dimension, choice) for choice in (*choices, 10)] == [0, 1, 2, 1]
    assert [value_of(dimension, place) for place in range(3)] == list(choices)


@pytest.mark.parametrize("choices", [(10, 2, 16), ("1", "2"), (False, True), ("mlp", "conv")])
def test_other_choices_have_no_order(choices):
    dimension = Choice(choices)
    assert distribution(dimension) == CategoricalDistribution(choices)
    assert [value_of(dimension, parameter(dimension, choice)) for choice in choices] == list(choices)
