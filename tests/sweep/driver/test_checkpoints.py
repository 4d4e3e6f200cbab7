"""Which models and checkpoints stay, while a sweep runs and when somebody tidies up."""

import math

import pytest
from made_up import ENTRY, event

from sweep.commands import main
from sweep.driver.checkpoints import Keeper, dispensable, superfluous
from sweep.record import CHECKPOINT, WEIGHTS, Event, Record, Trials

STUDIES = ("vae-digits", "gae-digits")


def name(study: int, number: int) -> str:
    return f"{STUDIES[study]}-{number:04d}"


def events_of(*fates: tuple[int, int, str, float | None]) -> list[Event]:
    """The events of trials (study, number, state, value)."""
    events = [event("sweep", sweep="s", studies=[{"study": study, **ENTRY} for study in STUDIES])]
    for study, number, state, value in fates:
        trial = name(study, number)
        events.append(event("start", trial=trial, study=STUDIES[study], number=number, values={}))
        if value is not None:
            rows = [{"epoch": 9, "metrics": {"valid/fcd": value}}]
            events.append(event("report", trial=trial, rows=rows))
        if state != "running":
            events.append(event("end", trial=trial, state=state, epoch=9))
    return events


FATES = [
    (0, 0, "complete", 9.0), (0, 1, "complete", 2.0), (0, 2, "complete", 3.0), (0, 3, "complete", 1.0),
    (1, 0, "complete", 5.0), (1, 1, "complete", 7.0), (1, 2, "complete", 6.0), (1, 3, "running", 1.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "budget", "left"),
    [
        (1, math.inf, {(0, 0), (0, 3), (1, 0), (1, 3)}),
        (2, math.inf, {(0, 0), (0, 3), (0, 1), (1, 0), (1, 2), (1, 3)}),
        (9, math.inf, {study_and_number[:2] for study_and_number in FATES}),
        (9, 50.0, {(0, 0), (0, 3), (0, 1), (1, 0), (1, 2), (1, 3)}),
        (9, 30.0, {(0, 0), (0, 3), (1, 0), (1, 3)}),
        (9, 0.0, {(0, 0), (0, 3), (1, 0), (1, 3)}),
    ],
)
def test_the_best_stay_within_the_budget_and_the_indispensable_beyond_it(keep, budget, left):
    """Models of 10 bytes; the best of the studies are 3 and 0, the hand-tuned ones 0; (1, 3) still runs."""
    held = {name(*fate[:2]): 10 for fate in FATES}
    going = dispensable(held, Trials.from_events(events_of(*FATES)), keep, budget)
    assert set(held) - set(going) == {name(*trial) for trial in left}
    assert len(going) == len(set(going))


@pytest.fixture
def folder(tmp_path):
    """A sweep with a model and a checkpoint of every trial, of one byte each."""
    fates = [*FATES, (0, 4, "pruned", 4.0), (0, 5, "failed", None), (0, 6, "preempted", None), (0, 7, "paused", 4.0)]
    events = events_of(*fates)
    with Record(tmp_path / "record.jsonl", durable=False) as record:
        for found in events:
            record.append(found.event, **found.model_dump(exclude={"time", "event", "format"}))
    (tmp_path / "config.yaml").write_text("trials: 7\n")
    for study, number, *_ in fates:
        place = tmp_path / "trials" / name(study, number)
        place.mkdir(parents=True)
        for file in (WEIGHTS, CHECKPOINT, "samples.png"):
            (place / file).write_text("x")
    return tmp_path


def files(folder) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("trials/*/*")}


def test_gc_leaves_what_a_resume_or_a_retry_needs_and_all_pictures(folder, capsys):
    before = files(folder)
    main(["gc", str(folder), "--keep", "1", "--dry-run"])
    assert files(folder) == before and "would free" in capsys.readouterr().out
    main(["gc", str(folder), "--keep", "1"])
    assert "freed" in capsys.readouterr().out
    left = files(folder)
    assert {path for path in left if path.endswith(".png")} == {path for path in before if path.endswith(".png")}
    running, again = name(1, 3), {name(0, 5), name(0, 6), name(0, 7)}
    assert {path.split("/")[0] for path in left if path.endswith(CHECKPOINT)} == {running, *again}
    kept = {name(0, 0), name(0, 3), name(1, 0), running}
    assert {path.split("/")[0] for path in left if path.endswith(WEIGHTS)} == kept
    main(["gc", str(folder), "--keep", "1"])
    assert "nothing to delete" in capsys.readouterr().out and files(folder) == left


def test_gc_refuses_an_invalid_number_of_models(folder):
    with pytest.raises(SystemExit) as refused:
        main(["gc", str(folder), "--keep", "0"])
    assert refused.value.code == 2


def test_while_a_sweep_runs_no_more_models_lie_about_than_are_kept(tmp_path):
    keeper, trials, most = Keeper(tmp_path, keep=2, budget=math.inf), Trials(), 0
    values = [9.0, 5.0, 6.0, 4.0, 7.0, 3.0, 8.0]
    for found in events_of(*((0, number, "complete", value) for number, value in enumerate(values))):
        if found.event == "end":
            model = tmp_path / "trials" / found.trial / WEIGHTS
            model.parent.mkdir(parents=True)
            model.write_text("x")
        trials.tell(found)
        keeper.hear(found, trials)
        most = max(most, len(files(tmp_path)))
    assert files(tmp_path) == {f"{name(0, number)}/{WEIGHTS}" for number in (0, 3, 5)} and most == 3
    assert not list(superfluous(tmp_path, trials, 2, math.inf))
