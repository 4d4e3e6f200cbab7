"""Going on with a sweep after its driver has ended: what changed, what failed, what is added, and what a new one takes
over."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from made_up import event

from sweep.config import SweepConfig
from sweep.driver import changes, launch, provenance
from sweep.driver.confirm import confirm
from sweep.record import Record, Trials, read
from sweep.search.plan import plan
from sweep.search.study import Spec, Study
from sweep.search.warm import KEPT, warmed

TINY = {"methods": ["vae", "beta_vae"], "trials": 4, "epochs": 9, "samples": 100}
PINS = {"network": "mlp_8", "latent_dim": 2}
FCD = "valid/fcd"


@pytest.fixture
def sweep(tmp_path):
    """The folder of a sweep of two studies; its trials are given as (study, number, state, value, learning rate)."""

    def make(*trials: tuple, name: str = "s", **fields):
        config = launch.anywhere(SweepConfig(out=tmp_path, name=name, **TINY | {"set": PINS} | fields))
        planned, folder = plan(config), tmp_path / name
        folder.mkdir()
        launch._write_config(config, folder)
        with Record(folder / "record.jsonl") as record:
            record.append(
                "sweep", sweep="s1", resumed=False, config=config.model_dump(mode="json"),
                studies=[study.spec.to_record() for study in planned.studies],
                code="0123456789ab", versions={"torch": "0.4.1", "python": "2.7"},
                data={splits.name: provenance.data(splits, "") for splits in planned.splits.values()},
            )  # fmt: skip
            for study, number, state, value, rate in trials:
                trial = f"{study}-{number:04d}"
                values = next(s.hand_tuned_values for s in planned.studies if s.name == study) | {"learning_rate": rate}
                origin = "search" if number else "paper"
                record.append("start", trial=trial, study=study, number=number, values=values, origin=origin, seed=0,
                              attempt=1)  # fmt: skip
                metrics = {} if value is None else {FCD: value}
                record.append(
                    "report", trial=trial, rows=[{"epoch": 9, "stage": "train", "time": 0.0, "metrics": metrics}]
                )
                record.append("end", trial=trial, state=state, epoch=9, reason="", worker=None)
            record.append("finish", outcome="done")
        return folder

    return make


@pytest.fixture
def carried_out(monkeypatch) -> list:
    """What would have been carried out: plans, and the trials that run again."""
    heard = []

    def drive(job, announce):
        job.go_on()
        heard.append((job.plan, list(job.again)))

    monkeypatch.setattr(launch, "drive", drive)
    return heard


def edit(folder, **fields) -> None:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | fields))


# What has changed


@pytest.mark.parametrize(
    "field, value", [("epochs", 12), ("metric", "fid"), ("seed", 1), ("set", {"network": "mlp_16"})]
)
def test_what_gives_the_numbers_another_meaning_is_refused(sweep, carried_out, field, value):
    folder = sweep()
    edit(folder, **{field: value})
    with pytest.raises(ValueError, match=f"^{field} is .*, but the sweep began with .*; restore it in config.yaml"):
        launch.resume(folder)
    assert not carried_out


@pytest.mark.parametrize(
    "methods, words",
    [
        (["vae"], "without beta_vae-digits"),
        (["vae", "beta_vae", "gae"], "with gae-digits"),
        (["vae", "gae"], "without beta_vae-digits and with gae-digits"),
        (["beta_vae", "vae"], "in another order"),
    ],
)
def test_other_studies_are_refused(sweep, carried_out, methods, words):
    folder = sweep()
    edit(folder, methods=methods)
    with pytest.raises(ValueError, match=f"the sweep would continue {words}; restore methods and datasets"):
        launch.resume(folder)


def test_where_and_how_wide_it_runs_may_change(sweep, carried_out, capsys):
    folder = sweep()
    edit(folder, concurrent=3, retries=7)
    launch.resume(folder, tracking_uri="http://elsewhere:5000")
    ((planned, again),) = carried_out
    assert (planned.config.concurrent, planned.config.retries) == (3, 7) and not again
    assert planned.config.tracking_uri == "http://elsewhere:5000"
    assert capsys.readouterr().out == ""


def test_an_edited_search_space_is_named_and_the_recorded_one_used(sweep, carried_out, tmp_path):
    file = tmp_path / "vae.toml"
    text = """
[[paper]]
source   = "made up"
datasets = ["digits"]
values   = { latent_dim = 2, learning_rate = 1e-3, batch_size = 20, network = "mlp_8", likelihood = "bce" }

[space]
learning_rate = { low = 1e-4, high = HIGH, log = true }
"""
    file.write_text(text.replace("HIGH", "5e-3"))
    folder = sweep(methods=["vae"], spaces={"vae": file})
    heard = []
    launch.resume(folder, heard.append)
    file.write_text(text.replace("HIGH", "5e-2"))
    launch.resume(folder, heard.append)
    assert heard == ["the search space of vae-digits was edited; the sweep continues with the recorded one"]
    spaces = [planned.studies[0].spec.space.to_record()["learning_rate"]["high"] for planned, _ in carried_out]
    assert spaces == [5e-3, 5e-3]


def test_a_point_that_the_code_does_not_take_any_more_is_refused(sweep, carried_out):
    folder = sweep()
    record = folder / "record.jsonl"
    record.write_text(record.read_text().replace('"likelihood": "bce"', '"likelihood": "sonnets"'))
    with pytest.raises(ValueError, match=r"^vae-digits: .*sonnets"):
        launch.resume(folder)


def test_other_code_and_versions_are_named_in_a_line_each(sweep):
    (opening, *_) = read(sweep() / "record.jsonl")
    code, versions = changes.since(opening)
    assert code.startswith("the code has changed since the sweep began (0123456789ab → ") and "\n" not in code
    assert "torch 0.4.1 → " in versions and "python 2.7 → " in versions and "numpy" not in versions
    assert changes.since(event("sweep", sweep="s", studies=[])) == []


def test_a_budget_in_seconds_is_not_extended_by_trials(sweep, carried_out):
    folder = sweep(seconds_per_study=60)
    with pytest.raises(ValueError, match="each study ends after 60 seconds; raise seconds_per_study"):
        launch.extend(folder, 5)
    assert not carried_out


GO_ON = {
    "resume": launch.resume,
    "retry": launch.retry,
    "extend": lambda folder, **where: launch.extend(folder, 3, **where),
    "confirm": confirm,
}


@pytest.fixture
def leaves(tmp_path):
    """Writes a data set of so many images with this seed, and gives its name."""

    def make(count: int, seed: int) -> str:
        images = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), np.uint8)
        np.savez(tmp_path / "leaves.npz", images=images)
        return f"file:{tmp_path / 'leaves.npz'}"

    return make


@pytest.mark.parametrize("command", GO_ON)
def test_other_images_are_refused(sweep, leaves, command):
    trials = ("vae-leaves", 0, "complete", 5.0, 1e-3), ("vae-leaves", 1, "failed", None, 1e-3)
    folder = sweep(*trials, methods=["vae"], datasets=[leaves(200, seed=0)])
    before = (folder / "record.jsonl").read_bytes(), (folder / "config.yaml").read_bytes()
    nowhere = {"tracking_uri": "nowhere"}  # so that nothing runs
    with pytest.raises(ValueError, match="--tracking-uri nowhere"):  # the images are the same
        GO_ON[command](folder, **nowhere)
    leaves(200, seed=1)
    refused = r"^leaves: the images have changed .* \(digest \w+ → digest \w+\), .*; restore those in file:.*, or "
    with pytest.raises(ValueError, match=refused):
        GO_ON[command](folder, **nowhere)
    leaves(240, seed=0)
    with pytest.raises(ValueError, match=r"\(train 162, valid 18, .* → train 195, valid 21, .*\)"):
        GO_ON[command](folder, **nowhere)
    assert before == ((folder / "record.jsonl").read_bytes(), (folder / "config.yaml").read_bytes())


def test_a_record_without_a_digest_goes_on(sweep):
    (opening, *_) = read(sweep() / "record.jsonl")
    changes.refuse_data(opening.data, opening)
    other = {"digits": opening.data["digits"] | {"digest": "of other images"}}
    with pytest.raises(ValueError, match="of other images"):
        changes.refuse_data(other, opening)
    for had in ({}, {"digits": {"source": "digits"}}):
        changes.refuse_data(other, opening.model_copy(update={"data": had}))


# What failed runs again


def test_retry_is_for_what_says_nothing_of_the_values(sweep, carried_out):
    states = ("complete", "failed", "diverged", "out_of_memory", "pruned", "preempted")
    folder = sweep(*(("vae-digits", number, state, 5.0, 1e-3) for number, state in enumerate(states)))
    heard = []
    launch.retry(folder, heard.append)
    ((_, again),) = carried_out
    assert again == ["vae-digits-0001", "vae-digits-0003", "vae-digits-0005"]
    assert heard == ["retrying: vae-digits-0001, vae-digits-0003, vae-digits-0005"]


def test_nothing_to_retry_is_said(sweep, carried_out):
    with pytest.raises(ValueError, match="none failed, ran out of memory or was preempted"):
        launch.retry(sweep(("vae-digits", 0, "diverged", None, 1e-3)))


# More trials


def test_extend_adds_trials_and_keeps_all_else(sweep, carried_out):
    folder = sweep(("vae-digits", 0, "complete", 5.0, 1e-3))
    before = yaml.safe_load((folder / "config.yaml").read_text())
    launch.extend(folder, 3, tracking_uri="http://elsewhere:5000")
    ((planned, _),) = carried_out
    assert [study.spec.trials for study in planned.studies] == [7, 7]
    assert yaml.safe_load((folder / "config.yaml").read_text()) == before | {"trials": 7}
    launch.resume(folder)  # had it been interrupted
    assert [study.spec.trials for study in carried_out[-1][0].studies] == [7, 7]


def test_a_budget_is_extended_in_what_it_was_given_in(sweep, carried_out):
    folder = sweep()
    launch.extend(folder, 3)
    assert [study.spec.budget_epochs for study in carried_out[-1][0].studies] == [7 * 9, 7 * 9]
    record = folder / "record.jsonl"
    text = record.read_text()
    record.write_text(text.replace('"budget_epochs": 36, ', ""))  # as versions before wrote it
    assert record.read_text() != text
    launch.extend(folder, 1)
    assert [(s.spec.count, s.spec.budget_epochs) for s in carried_out[-1][0].studies] == [(8, None), (8, None)]


@pytest.mark.parametrize("go_on", [launch.resume, lambda folder, announce: launch.extend(folder, 1, announce)])
def test_a_study_that_is_held_by_hand_is_named(sweep, carried_out, go_on):
    """It begins no trial, also of a budget that is added; a paused sweep would wait without a word."""
    folder, heard = sweep(), []
    with Record(folder / "record.jsonl") as record:
        record.append("request", request="1", action="stop", study="vae-digits")
    go_on(folder, heard.append)
    assert heard == [
        "no trial begins in vae-digits, stopped or paused by hand; to begin trials there again: "
        f"python -m sweep unpause {folder} vae-digits"
    ]


def test_extending_by_nothing_is_refused(sweep, carried_out):
    with pytest.raises(ValueError, match="--trials must be at least 1, got 0"):
        launch.extend(sweep(), 0)
    pins = PINS | {"learning_rate": 1e-3, "batch_size": 20, "likelihood": "bce"}
    folder = sweep(("vae-digits", 0, "complete", 5.0, 1e-3), name="fixed", methods=["vae"], set=pins)
    with pytest.raises(ValueError, match="searches nothing; more trials"):
        launch.extend(folder, 3)
    assert "trials: 4" in (folder / "config.yaml").read_text() and not carried_out


# A warm start

RATES = [1e-3, 2e-3, 3e-3, 4e-3, 4.5e-3]


@pytest.fixture
def new_plan(sweep):
    """A plan that starts from a sweep with five complete trials of one study, the better the later."""
    folder = sweep(
        *(("vae-digits", number, "complete", 50.0 - number, rate) for number, rate in enumerate(RATES)),
        ("vae-digits", 5, "pruned", 1.0, 1.5e-3),
        name="old",
    )

    def make(**fields):
        return warmed(plan(SweepConfig(**TINY | {"set": PINS, "warm_start": folder, "trials": 6} | fields)))

    return make


def test_the_best_points_come_after_the_hand_tuned_one_and_can_be_stopped(new_plan):
    vae, beta_vae = new_plan().studies
    assert beta_vae.spec.warm == ()
    assert [point.values["learning_rate"] for point in vae.spec.warm] == RATES[: -KEPT - 1 : -1]
    assert vae.spec.warm[0].source == "vae-digits-0004 of old: valid/fcd 46"
    study = Study(vae.spec, seed=0)
    asked = [study.ask() for _ in range(6)]
    assert [a.origin for a in asked] == ["paper", "warm", "warm", "warm", "search", "search"]
    assert [a.values["learning_rate"] for a in asked[1:4]] == RATES[:1:-1]
    assert study.rungs.exempt == {0, 4}, "the hand-tuned point and the probe of the learning rate"


def test_warm_points_survive_the_record_and_the_sweep_they_came_from(new_plan, carried_out, tmp_path):
    planned = new_plan()
    spec = planned.studies[0].spec
    assert Spec.from_record(spec.to_record()).warm == spec.warm
    config = planned.config.model_copy(update={"warm_start": tmp_path / "gone", "out": tmp_path, "name": "new"})
    folder = tmp_path / "new"
    folder.mkdir()
    launch._write_config(config, folder)
    with Record(folder / "record.jsonl") as record:
        record.append("sweep", sweep="s2", config=config.model_dump(mode="json"),
                      studies=[study.spec.to_record() for study in planned.studies])  # fmt: skip
    launch.resume(folder)
    assert carried_out[0][0].studies[0].spec.warm == spec.warm


def test_what_is_fixed_now_is_fixed_in_the_points_too(new_plan):
    (vae, _) = new_plan(set={"network": "mlp_16", "latent_dim": 4}).studies
    assert {(p.values["network"], p.values["latent_dim"]) for p in vae.spec.warm} == {("mlp_16", 4)}
    with pytest.raises(ValueError, match="no complete trial that matches vae-digits, beta_vae-digits"):
        new_plan(
            set=PINS | {"learning_rate": vae.hand_tuned_values["learning_rate"]}
        )  # all points have become the paper's


def test_points_outside_the_ranges_are_left_out(new_plan):
    planned = new_plan()
    narrow = replace(
        planned.studies[0].spec.space,
        dimensions={**planned.studies[0].spec.space.dimensions,
                    "learning_rate": replace(planned.studies[0].spec.space.dimensions["learning_rate"], high=3.5e-3)},
    )  # fmt: skip
    studies = (replace(planned.studies[0], spec=replace(planned.studies[0].spec, space=narrow)), planned.studies[1])
    again = warmed(replace(planned, studies=studies))
    assert [point.values["learning_rate"] for point in again.studies[0].spec.warm] == [3e-3, 2e-3]


def test_a_warm_start_from_nothing_is_refused(tmp_path, new_plan):
    with pytest.raises(ValueError, match=r"warm_start: .* has no record"):
        new_plan(warm_start=tmp_path)
    with pytest.raises(
        ValueError, match="has no complete trial that matches gae-digits; its studies: vae-digits, beta"
    ):
        new_plan(methods=["gae"])
    with pytest.raises(ValueError, match="warm_start requires a searcher, got none"):
        new_plan(searcher="none")


def test_a_sweep_whose_driver_died_before_the_first_line_begins(sweep, carried_out):
    folder = sweep()
    (folder / "record.jsonl").write_text("")
    launch.resume(folder)
    assert len(carried_out) == 1 and Trials.from_events(read(folder / "record.jsonl")).trials == {}


FLAGS = {**TINY, "set": PINS, "name": "s"}
WRITTEN = ["record.lock", ".record.holder.1.part", "record.holder", "record.jsonl", "trials/", "real/digits.png"]


@pytest.mark.parametrize("count", range(1, len(WRITTEN) + 2))
def test_a_driver_killed_before_its_first_event_leaves_no_folder_that_is_refused(tmp_path, carried_out, count):
    """`WRITTEN` and then config.yaml is what a new sweep writes before it, in this order."""
    config, folder = launch.anywhere(SweepConfig(out=tmp_path, **FLAGS)), tmp_path / "s"
    for name in WRITTEN[:count]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    if count > len(WRITTEN):
        launch._write_config(config, folder)
        (folder / "record.jsonl").write_text('{"time": 1, "event": "swe')  # the disk was full
        launch.resume(folder)
    else:
        launch.start(config)
        with pytest.raises(
            ValueError, match=r"has no config.yaml; (give the folder of a sweep|its driver ended before)"
        ):
            launch.resume(folder)
    launch.start_or_resume(config)
    assert len(carried_out) == 2


def test_a_sweep_that_exists_is_resumed_by_the_command_that_started_it(sweep, tmp_path, carried_out):
    folder = sweep(("vae-digits", 0, "complete", 5.0, 1e-3))
    given = SweepConfig(out=tmp_path, address="auto", **FLAGS)
    launch.start_or_resume(given)
    ((planned, again),) = carried_out
    assert planned.config.address == "auto" and planned.config.out / planned.config.name == folder and not again


def test_a_sweep_that_does_not_exist_is_started(tmp_path, carried_out):
    launch.start_or_resume(SweepConfig(out=tmp_path, **FLAGS))
    assert len(carried_out) == 1 and not (tmp_path / "s").exists()


def test_a_sweep_of_another_configuration_is_not_resumed(sweep, tmp_path, carried_out):
    sweep()
    with pytest.raises(ValueError, match=r"another configuration: trials = 5 \(there 4\), seed = 3 \(there 0\); use"):
        launch.start_or_resume(SweepConfig(out=tmp_path, seed=3, **FLAGS | {"trials": 5}))
    with pytest.raises(ValueError, match="--resume-if-exists requires --name"):
        launch.start_or_resume(SweepConfig(out=tmp_path, **FLAGS | {"name": None}))
    assert not carried_out


def test_a_sweep_with_more_epochs_for_few_images_is_not_another(sweep, tmp_path, carried_out):
    sweep()
    flags = {name: value for name, value in FLAGS.items() if name != "epochs"}
    launch.start_or_resume(SweepConfig(out=tmp_path, **flags))
    assert len(carried_out) == 1


def test_data_sets_that_are_absent_do_not_make_another_configuration(sweep, tmp_path, carried_out):
    sweep(present_only=True)
    launch.start_or_resume(SweepConfig(out=tmp_path, present_only=True, datasets=["digits", "mnist"], **FLAGS))
    assert len(carried_out) == 1
