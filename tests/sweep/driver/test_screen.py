"""What a sweep shows: a table on a terminal, plain lines elsewhere."""

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from made_up import event
from rich.console import Console

from sweep.driver.resources import Resources
from sweep.driver.screen import Screen, duration, screen, steady_output
from sweep.record import Trials

RESOURCES = Resources(cpus=1, gpus=0.0, slots=1, ahead=2, total_gpus=0)


class Stage:
    """A screen, and the events of a sweep that it shows."""

    def __init__(self, planned, folder, clock, trials=None, time=90.0):
        self.console = Console(file=io.StringIO(), width=150)
        self.planned, self.events = planned, []
        self.screen = Screen(planned, self.studies(), RESOURCES, folder, self.console)
        self.trials, self.clock = trials or Trials(), clock
        studies = [study.spec.to_record() for study in planned.studies]
        self.tell("sweep", time=time if trials else 0.0, sweep="s", studies=studies, resumed=trials is not None)

    def tell(self, kind, **fields):
        written = event(kind, **fields)
        self.events.append(written)
        self.screen.studies = self.studies()
        self.trials.tell(written)
        self.screen.hear(written, self.trials)

    def studies(self):
        return {study.name: self.planned.study(study).replay(self.events) for study in self.planned.studies}

    def start(self, study, number):
        trial = f"{study}-{number:04d}"
        self.tell("start", trial=trial, study=study, number=number, values={})
        return trial

    def report(self, trial, epoch, value=None):
        metrics = {} if value is None else {"valid/fcd": value}
        self.tell("report", trial=trial, rows=[{"epoch": epoch, "metrics": metrics}])

    def run(self, study, number, state, epoch, value=None, reason=""):
        trial = self.start(study, number)
        self.report(trial, epoch, value)
        self.tell("end", trial=trial, state=state, epoch=epoch, reason=reason)

    @property
    def lines(self):
        return self.console.file.getvalue().splitlines()

    def table(self):
        console = Console(file=io.StringIO(), width=150)
        console.print(self.screen)
        return console.file.getvalue()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("sweep.driver.screen.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def stage(make_plan, tmp_path, clock):
    return Stage(make_plan(trials=4), tmp_path / "quick", clock)


def test_elsewhere_a_line_for_every_end(stage):
    stage.run("vae-digits", 0, "complete", 9, 12.3456)
    stage.run("vae-digits", 1, "pruned", 1, 99.0, "not among those that pass the rung at epoch 1")
    stage.run("beta_vae-digits", 0, "diverged", 2, reason="stage train, epoch 2, loss: 21 non-finite steps")
    assert [" ".join(line.split()) for line in stage.lines] == [
        "12% vae-digits-0000 complete epoch 9 fcd 12.35 best 12.35, hand-tuned 12.35",
        "14% vae-digits-0001 pruned epoch 1 fcd 99 best 12.35, hand-tuned 12.35",
        "17% beta_vae-digits-0000 diverged epoch 2 best -, hand-tuned diverged"
        " (stage train, epoch 2, loss: 21 non-finite steps)",
    ]


def test_a_trial_that_must_run_again_says_why_and_from_where(stage):
    trial = stage.start("vae-digits", 0)
    stage.report(trial, 3)
    stage.tell("lost", trial=trial, state="preempted", epoch=3, reason="its node was lost", worker=None)
    assert [" ".join(line.split()) for line in stage.lines] == [
        "vae-digits-0000 preempted at epoch 3 (its node was lost), will run again"
    ]


def test_a_trial_that_outgrew_its_share_of_a_gpu_says_where_its_study_goes_on(stage):
    trial = stage.start("vae-digits", 0)
    for worker in ({"gpus": 0.25}, {"gpus": 1.0}, {}, None):
        stage.tell("lost", trial=trial, state="out_of_memory", epoch=0, reason="too large", worker=worker)
    ends = [line.partition("will run again")[2] for line in stage.lines]
    assert ends == [" on a whole GPU, as further trials of its study will", "", "", ""]


def test_a_long_reason_stays_one_line(stage):
    stage.run("vae-digits", 0, "failed", 1, reason="RuntimeError: [bold]shapes[/] " + "do not match " * 40)
    assert len(stage.lines) == 1 and "[bold]shapes[/]" in stage.lines[0]  # the output of a program is not markup


def test_the_table_says_where_each_study_stands(stage):
    stage.run("vae-digits", 0, "complete", 9, 12.3456)
    stage.run("vae-digits", 1, "pruned", 1, 99.0)
    stage.run("vae-digits", 2, "failed", 1)
    stage.run("vae-digits", 3, "complete", 9, 11.5)
    stage.run("vae-digits", 4, "paused", 1, 50.0)
    stage.start("beta_vae-digits", 0)
    headline, header, vae, beta_vae, *_ = stage.table().splitlines()
    assert headline.startswith("quick: 29% of the epochs, 5 trials, 0 s, ")
    assert " ".join(header.split()) == "study spent ended running pruned failed best fcd hand-tuned"
    assert vae.split() == ["vae-digits", "58%", "5", "2", "1", "11.5", "12.35"]
    assert beta_vae.split() == ["beta_vae-digits", "0%", "0", "1"]


def test_a_study_whose_last_trial_exceeds_its_budget_has_spent_all_of_it(stage):
    for number, epochs in enumerate((9, 9, 9, 4, 9)):  # the last one starts with five epochs left: 40 of 36
        stage.run("vae-digits", number, "complete", epochs, 12.0)
    _, header, vae, *_ = stage.table().splitlines()
    assert header.split()[1] == "spent" and vae.split()[1] == "100%"


def test_the_table_renders_before_anything_has_happened(make_plan, tmp_path):
    console = Console(file=io.StringIO(), width=100)
    planned = make_plan()
    studies = {study.name: planned.study(study) for study in planned.studies}
    console.print(Screen(planned, studies, RESOURCES, tmp_path / "quick", console))
    assert "vae-digits" in console.file.getvalue() and "estimating the time left" in console.file.getvalue()


def test_a_distance_of_nothing_is_a_number(stage):
    stage.run("vae-digits", 0, "complete", 9, 0.0)
    assert stage.lines[0].endswith("best 0, hand-tuned 0")
    assert stage.table().splitlines()[2].split() == ["vae-digits", "25%", "1", "0", "0"]


def test_a_hand_tuned_point_without_an_end_of_its_budget_has_no_value(stage):
    trial = stage.start("vae-digits", 0)
    stage.report(trial, 3, 12.0)
    stage.tell("end", trial=trial, state="diverged", epoch=4, reason="")
    assert "hand-tuned diverged" in stage.lines[0] and "12" in stage.lines[0]


def test_the_time_left_follows_the_pace(stage, clock):
    assert "estimating" in stage.table()
    clock[0] += 90
    stage.run("vae-digits", 0, "complete", 9, 12.0)  # 10 seconds an epoch
    stage.run("vae-digits", 1, "complete", 9, 12.0)
    clock[0] += 90  # 18 epochs in 180 s, six trials of as many epochs to go
    assert "3 min 00 s, about 9 min 00 s left" in stage.table()


def test_a_resumed_sweep_goes_on_from_the_time_and_the_pace_of_its_earlier_sittings(make_plan, tmp_path, clock):
    before = Stage(make_plan(trials=4), tmp_path / "quick", clock)
    before.run("vae-digits", 0, "complete", 9, 12.0)
    before.tell("finish", time=90.0, outcome="interrupted")
    resumed = Stage(make_plan(trials=4), tmp_path / "quick", clock, before.trials)
    assert "12% of the epochs, 1 trial, 1 min 30 s, about 10 min 30 s left" in resumed.table()  # 63 of 72 epochs
    clock[0] += 90
    resumed.run("vae-digits", 1, "complete", 9, 12.0)
    assert "25% of the epochs, 2 trials, 3 min 00 s, about 9 min 00 s left" in resumed.table()


def test_a_trial_that_waits_for_its_slot_does_not_run(stage):
    first, second = stage.start("vae-digits", 0), stage.start("beta_vae-digits", 0)
    stage.report(first, 2)
    table = stage.table()
    assert first in table and second not in table
    _, _, vae, beta_vae, *_ = table.splitlines()
    assert vae.split() == ["vae-digits", "6%", "0", "1"] and beta_vae.split() == ["beta_vae-digits", "0%", "0"]


def test_an_interrupted_trial_waits_until_its_turn_comes_again(make_plan, tmp_path, clock):
    before = Stage(make_plan(trials=4), tmp_path / "quick", clock)
    trial = before.start("vae-digits", 0)
    before.tell("finish", time=90.0, outcome="interrupted")
    resumed = Stage(make_plan(trials=4), tmp_path / "quick", clock, before.trials, time=100.0)
    assert trial not in resumed.table()
    resumed.tell("start", time=101.0, trial=trial, study="vae-digits", number=0, values={}, attempt=2)
    assert trial in resumed.table()


def test_a_running_trial_shows_its_epoch_and_the_last_that_is_known(stage):
    trial = stage.start("vae-digits", 0)
    assert "epoch 0/9" in stage.table() and "not evaluated yet" in stage.table()
    stage.tell("report", trial=trial, rows=[{"epoch": 1, "metrics": {"train/loss": 27.25}}])
    assert "epoch 1/9" in stage.table() and "loss 27.25" in stage.table()
    stage.report(trial, 3, 12.0)
    stage.tell("report", trial=trial, rows=[{"epoch": 4, "metrics": {"train/loss": 27.0}}])
    assert "epoch 4/9" in stage.table() and "fcd 12" in stage.table()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 12), (200, 50)])
def test_many_studies_fit_the_terminal(width, height, make_plan, tmp_path, clock):
    methods = ["vae", "beta_vae", "wae", "rae_l2", "gae", "aae", "vamp_vae", "info_vae", "vade", "two_stage_vae"]
    planned = make_plan(methods=methods, trials=2)
    studies = []
    for i in range(3):
        studies += [replace(one, spec=replace(one.spec, study=f"{one.name}-{i}")) for one in planned.studies]
    stage = Stage(replace(planned, studies=tuple(studies)), tmp_path / "quick", clock)
    for study in stage.trials.studies:
        if study != "two_stage_vae-digits-2":
            stage.run(study, 0, "complete", 9, 12.0)
    stage.start("two_stage_vae-digits-2", 0)
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(stage.screen)
    lines = console.file.getvalue().splitlines()
    assert len(lines) < height and max(map(len, lines)) <= width
    assert any(line.startswith("two_stage_vae-digits-2 ") for line in lines)
    left = 30 - sum(" 50% " in line or " 0% " in line for line in lines)
    assert (f"and {left} more studies" in console.file.getvalue()) == (left > 0) == (height < 50)


def test_on_a_terminal_the_table_only(make_plan, tmp_path, monkeypatch):
    shown = Console(file=io.StringIO(), width=150, force_terminal=True)
    monkeypatch.setattr("sweep.driver.screen.Console", lambda **_: shown)
    planned = make_plan()
    studies = {study.name: planned.study(study) for study in planned.studies}
    with screen(planned, studies, RESOURCES, tmp_path / "quick") as on_screen:
        stage = Stage(make_plan(), tmp_path / "quick", None)
        stage.screen, on_screen.trials = on_screen, stage.trials
        stage.run("vae-digits", 0, "complete", 9, 12.0)
    text = shown.file.getvalue()
    assert "hand-tuned" in text and "epoch 9" not in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (3725, "1 h 02 min"), (360_000, "100 h 00 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["closed pipe", pytest.param("full disk", marks=pytest.mark.slow)])
def test_the_program_outlives_its_screen(broken, tmp_path):
    """Real ones: a pipe without a reader, and the device that is always full."""
    program = (
        "from sweep.driver.screen import steady_output\n"
        "with steady_output():\n"
        "    for _ in range(3):\n"
        "        print('x' * 100_000, flush=True)\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    if broken == "full disk":
        with open("/dev/full", "w") as full:
            ended = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    else:
        read, write = os.pipe()
        os.close(read)
        ended = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_screen_that_works_shows_everything_and_is_given_back(capsys):
    before = sys.stdout
    with steady_output():
        print("seen")
    assert sys.stdout is before and capsys.readouterr().out == "seen\n"


def test_a_paused_and_a_stopped_study_are_said_to_be(make_plan, tmp_path, clock):
    stage = Stage(make_plan(), tmp_path, clock)
    stage.tell("request", request="1", action="pause", study="vae-digits")
    stage.tell("request", request="2", action="stop", study="beta_vae-digits")
    table = stage.table()
    assert "vae-digits (paused)" in table and "beta_vae-digits (stopped)" in table
