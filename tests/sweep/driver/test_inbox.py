"""What other terminals ask of a running sweep: nothing is lost, doubled, or decided otherwise after a kill."""

import json

import pytest
from test_conductor import EPOCHS, Tune, events, fates

from sweep.driver import inbox, job
from sweep.driver.inbox import Inbox
from sweep.driver.stop import Stop
from sweep.record import CHECKPOINT, RECORD, REQUESTS, Request, read_trials
from sweep.search.study import Spec


@pytest.fixture
def look(monkeypatch):
    """The driver's look at its inbox, without the pause between two looks; returns what was announced."""
    monkeypatch.setattr(inbox, "SECONDS_BETWEEN_LOOKS", 0.0)

    def look(conductor) -> list[str]:
        said = []
        Inbox(conductor, Stop(), said.append).look()
        return said

    return look


def ask(conductor, **fields) -> Request:
    return inbox.send(conductor.folder, **fields)


def faster(conductor) -> dict:
    return inbox.point(conductor.studies["vae-digits"].spec, {"learning_rate": 2e-3})


def named(conductor, number, study="vae-digits"):
    return conductor.trials.trials[f"{study}-{number:04d}"]


def test_a_stopped_trial_ends_at_its_next_report_and_gives_its_budget_back(begin, look):
    conductor = begin(methods=["vae"], trials=4)
    tune = Tune(conductor)
    while "vae-digits-0001" not in conductor.trials.trials:
        tune.step()
    ask(conductor, action="stop", trial="vae-digits-0001")
    assert len(look(conductor)) == 1
    assert named(conductor, 1).state == "running"
    tune.run()
    trial = named(conductor, 1)
    assert (trial.state, trial.reason, trial.epoch) == ("cancelled", "stopped by hand", 1)
    assert conductor.done
    assert abs(spent(conductor) - 4 * EPOCHS) <= EPOCHS / 2


def test_a_stopped_trial_is_not_run_again_when_its_process_is_lost(begin, look):
    conductor = begin(methods=["vae"])
    assert conductor.next("a")["trial"] == "vae-digits-0000"
    ask(conductor, action="stop", trial="vae-digits-0000")
    look(conductor)
    conductor.lost("a", "preempted", "its node was lost")
    assert named(conductor, 0).state == "cancelled" and not conductor.waiting


def test_a_trial_that_waits_to_go_on_is_stopped_at_once_with_its_checkpoint(begin, look, tmp_path):
    begin(methods=["vae"]).next("a")
    conductor = begin(methods=["vae"])
    checkpoint = tmp_path / "quick" / "trials" / "vae-digits-0000" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    ask(conductor, action="stop", trial="vae-digits-0000")
    look(conductor)
    assert named(conductor, 0).state == "cancelled" and not checkpoint.exists()
    assert conductor.next("b")["trial"] == "vae-digits-0001"


def spent(conductor, study="vae-digits") -> int:
    return sum(trial.epoch for trial in conductor.trials.of(study))


def test_a_paused_study_begins_nothing_and_the_sweep_waits_for_it(begin, look):
    conductor = begin()
    ask(conductor, action="pause", study="vae-digits")
    look(conductor)
    Tune(conductor).run()
    assert not conductor.trials.of("vae-digits") and not conductor.exhausted
    assert abs(spent(conductor, "beta_vae-digits") - 4 * EPOCHS) <= EPOCHS / 2
    ask(conductor, action="unpause")
    look(conductor)
    Tune(conductor).run()
    assert conductor.done and abs(spent(conductor) - 4 * EPOCHS) <= EPOCHS / 2


def test_a_paused_sweep_ends_what_runs_and_stays_paused_after_a_kill(begin, look):
    conductor = begin()
    tune = Tune(conductor)
    for _ in range(7):
        tune.step()
    begun = len(conductor.trials.trials)
    ask(conductor, action="pause")
    look(conductor)
    tune.run()
    assert len(conductor.trials.trials) == conductor.trials.ended == begun

    resumed = begin()
    Tune(resumed).run()
    assert len(resumed.trials.trials) == begun and not resumed.done
    ask(resumed, action="unpause")
    look(resumed)
    Tune(resumed).run()
    assert resumed.done and abs(spent(resumed) - 4 * EPOCHS) <= EPOCHS / 2


@pytest.mark.parametrize("action", ["stop", "pause"])
def test_a_study_that_has_spent_its_budget_is_not_stopped_before_its_end(begin, look, action):
    """The report would say that its budget is not equal to those of others, and `extend` would leave it out."""
    conductor = begin(methods=["vae"])
    tune = Tune(conductor)
    tune.step()
    ask(conductor, action="pause", study="vae-digits")
    ask(conductor, action="unpause", study="vae-digits")
    look(conductor)
    tune.run()
    ask(conductor, action=action, study="vae-digits")
    look(conductor)
    assert not conductor.trials.stopped and not conductor.trials.paused
    assert [request.action for request in conductor.trials.requests] == ["pause", "unpause"]


def test_a_stopped_study_gives_up_its_budget_and_the_others_spend_theirs(begin, look):
    conductor = begin(trials=4)
    tune = Tune(conductor)
    while len(conductor.trials.trials) < 4:
        tune.step()
    ask(conductor, action="stop", study="vae-digits")
    look(conductor)
    begun = len(conductor.trials.of("vae-digits"))
    tune.run()
    assert conductor.done and len(conductor.trials.of("vae-digits")) == begun
    assert {trial.state for trial in conductor.trials.of("vae-digits")} <= {"complete", "pruned", "cancelled"}
    assert abs(spent(conductor, "beta_vae-digits") - 4 * EPOCHS) <= EPOCHS / 2

    resumed = begin(trials=4)
    assert resumed.done
    ask(resumed, action="unpause", study="vae-digits")
    look(resumed)
    assert not resumed.exhausted
    Tune(resumed).run()
    assert abs(spent(resumed) - 4 * EPOCHS) <= EPOCHS / 2


def test_enqueued_points_are_tried_next_in_their_order_and_once(begin, look):
    conductor = begin(methods=["vae"], trials=6)
    for rate in (1e-3, 2e-3):
        values = inbox.point(conductor.studies["vae-digits"].spec, {"learning_rate": rate})
        ask(conductor, action="enqueue", study="vae-digits", values=values)
    look(conductor)
    tune = Tune(conductor)
    while not any(trial.origin == "enqueued" for trial in conductor.trials.trials.values()):
        tune.step()

    resumed = begin(methods=["vae"], trials=6)  # killed between the first and the second
    Tune(resumed).run()
    tried = [trial for trial in resumed.trials.of("vae-digits") if trial.origin == "enqueued"]
    assert [(trial.number, trial.values["learning_rate"]) for trial in tried] == [(1, 1e-3), (2, 2e-3)]
    assert resumed.trials.enqueued == {"vae-digits": []}
    assert resumed.done


def test_what_does_not_fit_into_the_budget_waits_for_more(begin, look):
    conductor = begin(methods=["vae"], trials=1)
    values = faster(conductor)
    ask(conductor, action="enqueue", study="vae-digits", values=values)
    look(conductor)
    Tune(conductor).run()
    assert conductor.done and conductor.trials.enqueued == {"vae-digits": [values]}
    extended = begin(methods=["vae"], trials=2)
    Tune(extended).run()
    assert named(extended, 1).values == values


def test_a_request_is_followed_once_whenever_the_driver_dies(begin, look):
    conductor = begin(methods=["vae"])
    request = ask(conductor, action="enqueue", study="vae-digits", values=faster(conductor))
    assert conductor.accept(request)  # in the record, and the driver dies before it deletes the file
    resumed = begin(methods=["vae"])
    assert look(resumed) == []
    assert len(events(resumed, "request")) == 1 and len(resumed.trials.enqueued["vae-digits"]) == 1
    assert not list((resumed.folder / REQUESTS).iterdir())


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_sweep_cut_after_requests_goes_on_as_if_nothing_had_happened(begin, look, tmp_path, every):
    undisturbed = begin(tmp_path / "undisturbed")
    ask(undisturbed, action="enqueue", study="vae-digits", values={**faster(undisturbed), "learning_rate": 1e-3})
    ask(undisturbed, action="pause", study="beta_vae-digits")
    look(undisturbed)
    tune = Tune(undisturbed)
    while len(undisturbed.trials.of("vae-digits")) < 2:
        tune.step()
    ask(undisturbed, action="stop", trial="vae-digits-0001")
    ask(undisturbed, action="unpause", study="beta_vae-digits")
    look(undisturbed)
    tune.run()
    assert (named(undisturbed, 1).state, named(undisturbed, 1).origin) == ("cancelled", "enqueued")
    lines = undisturbed.record.path.read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if b'"event": "request"' in line)
    for cut in range(last + 1, len(lines) + 1, every):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / RECORD).write_bytes(b"".join(lines[:cut]))
        resumed = begin(folder)
        heard = named(resumed, 1).state == "cancelled"
        resumed.settle()
        Tune(resumed).run()
        assert resumed.done
        assert named(resumed, 1).state == "cancelled"
        assert fates(resumed) == fates(undisturbed) or not heard, cut  # else its rung lacks the stopped trial


def test_a_request_to_end_the_sweep_is_for_the_driver_that_ran(begin, monkeypatch):
    monkeypatch.setattr(inbox, "SECONDS_BETWEEN_LOOKS", 0.0)
    conductor, stop = begin(methods=["vae"]), Stop()
    asked = []
    monkeypatch.setattr(stop, "ask", lambda reason="": asked.append(reason))
    ask(conductor, action="stop")
    conductor.record.close()
    next_driver = job.Job(conductor.plan, conductor.folder, resumed=True)
    with job._record(next_driver, print) as (conductor.record, *_):
        Inbox(conductor, stop, print).look()
        assert asked == []
        ask(conductor, action="stop")  # while it prepares the run
        Inbox(conductor, stop, print).look()
        assert asked == [""]


def test_what_is_not_a_request_or_too_late_changes_nothing(begin, look):
    conductor = begin(methods=["vae"], trials=1)
    Tune(conductor).run()
    before = (conductor.folder / RECORD).read_bytes()
    (conductor.folder / REQUESTS).mkdir()
    (conductor.folder / REQUESTS / "0.json").write_text("{")
    ask(conductor, action="stop", trial="vae-digits-0000")
    ask(conductor, action="pause", study="gae-digits")
    assert [line for line in look(conductor) if "is not a request" in line]
    assert (conductor.folder / RECORD).read_bytes() == before
    assert not list((conductor.folder / REQUESTS).iterdir())


def test_a_request_that_cannot_be_read_for_the_moment_is_kept(begin, monkeypatch):
    monkeypatch.setattr(inbox, "SECONDS_BETWEEN_LOOKS", 0.0)
    conductor, said = begin(methods=["vae"]), []
    asked = ask(conductor, action="pause", study="vae-digits")
    file = conductor.folder / REQUESTS / f"{asked.request}.json"
    kept = file.rename(file.with_suffix(".kept"))
    file.symlink_to("/proc/self/mem")  # which has no page at its beginning: EIO
    running = Inbox(conductor, Stop(), said.append)
    for _ in range(2):
        running.look()
    assert said == [f"{file} cannot be read (Input/output error); the driver tries again"]
    assert not conductor.trials.paused
    kept.replace(file)
    running.look()
    assert conductor.trials.paused == {"vae-digits"} and not file.exists()


def spec_of(conductor, study="vae-digits") -> Spec:
    return Spec.from_record(conductor.trials.studies[study])


def test_a_point_is_the_hand_tuned_one_with_what_is_given(begin):
    spec = spec_of(begin(methods=["vae"]))
    point = inbox.point(spec, {"learning_rate": 2e-3})
    assert point == {**spec.space.paper[0].values, "learning_rate": 2e-3}


@pytest.mark.parametrize(
    "given, said",
    [
        ({"learning_rate": 7.0}, "learning_rate = 7.0 is outside its search space; it is searched in 0.0001..0.005"),
        ({"latent_dim": 3}, "latent_dim = 3 is outside its search space; it is fixed at 2"),
        ({"learning_rat": 1e-3}, "'learning_rat' is unknown; did you mean 'learning_rate'?"),
    ],
)
def test_a_point_outside_the_search_space_is_refused(begin, given, said):
    with pytest.raises(ValueError) as refused:
        inbox.point(spec_of(begin(methods=["vae"])), given)
    assert said in str(refused.value)


def test_where_nothing_is_searched_no_point_is_taken(begin):
    with pytest.raises(ValueError, match="nothing is searched"):
        inbox.point(spec_of(begin(methods=["vae"], searcher="none")), {})


def test_names_are_those_of_studies_and_of_trials_that_run(begin):
    conductor = begin(trials=1)
    Tune(conductor).run()
    trials = read_trials(conductor.folder)
    assert inbox.named(trials, "vae-digits") == {"study": "vae-digits"}
    with pytest.raises(ValueError, match=r"does not run \(complete\)"):
        inbox.named(trials, "vae-digits-0000")
    with pytest.raises(ValueError, match="did you mean 'vae-digits'"):
        inbox.named(trials, "vae-digit")
    assert inbox.study_of(trials, "beta_vae", None).study == "beta_vae-digits"
    with pytest.raises(ValueError, match="no study is of 'gae'"):
        inbox.study_of(trials, "gae", None)


def test_a_request_file_holds_what_was_asked_and_by_whom(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox.provenance, "user", lambda: "ada")
    inbox.send(tmp_path, action="pause", study="vae-digits")
    (file,) = (tmp_path / REQUESTS).iterdir()
    asked = json.loads(file.read_text())
    assert asked.pop("request") == file.stem
    assert asked == {"action": "pause", "study": "vae-digits", "user": "ada"}
