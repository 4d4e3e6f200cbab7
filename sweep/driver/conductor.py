"""Scheduling decisions for all studies of a sweep, independent of Ray and processes."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from sweep.driver.resources import Resources
from sweep.record import CHECKPOINT, HUNG, REPORTED, Event, Progress, Record, Request, Row, Trial, Trials
from sweep.search.plan import Plan, Planned
from sweep.search.study import Study
from trainables.catalog import place

STOPPED = "stopped by hand"

Listener = Callable[[Event, Trials], None]


class Conductor:
    """Chooses the next trial and pauses unpromising trials. Every decision is in the record before it is used."""

    def __init__(
        self,
        plan: Plan,
        studies: Mapping[str, Study],
        record: Record,
        history: list[Event],
        folder: Path,
        resources: Resources,
        listener: Listener,
    ):
        self.plan, self.studies, self.record = plan, studies, record
        self.folder, self.resources, self.listener = folder, resources, listener
        self.planned: dict[str, Planned] = {study.name: study for study in plan.studies}
        self.trials = Trials.from_events(history)
        running = (trial for trial in self.trials.trials.values() if trial.state == "running")
        self.waiting = deque(sorted(running, key=lambda trial: trial.begun or math.inf))  # as they were started
        self.running: dict[str, str] = {}  # Ray's trial id -> our trial

    @property
    def exhausted(self) -> bool:
        """True while no study requests another trial. A stopped trial may free enough budget for another one, and a
        trial whose process is lost runs again."""
        asking = (name for name in self.studies if name not in self.trials.stopped)
        return not self.waiting and all(self._share(name) >= 1 for name in asking)

    @property
    def done(self) -> bool:
        """True once all trials have ended and no more will start."""
        return self.exhausted and all(trial.state != "running" for trial in self.trials.trials.values())

    @property
    def _occupied(self) -> int:
        """The slots of the trials that Ray has; a trial with a whole GPU takes all slots of that GPU."""
        whole = int(1 / self.resources.gpus) if self.resources.gpus else 1
        return sum(whole if self._wants_room(self._trial(ray_id)) else 1 for ray_id in self.running)

    @property
    def places(self) -> int:
        """The maximum number of trials that could run concurrently from now on."""
        held = self.trials.stopped | self.trials.paused
        open_places = sum(study.open_places for name, study in self.studies.items() if name not in held)
        return open_places + len(self.waiting) + len(self.running)

    def accept(self, request: Request) -> bool:
        """Record and follow a request; return False if it was followed before, or comes too late: for a trial that has
        ended, or to stop or pause a study that has spent its budget.

        A running trial ends at the next message of its worker.
        """
        if any(request.request == known.request for known in self.trials.requests) or not self._in_time(request):
            return False
        self._tell("request", **request.model_dump())
        self._end_stopping()
        for name in self.studies:
            self._close(name)
        return True

    def _in_time(self, request: Request) -> bool:
        if request.trial is not None:
            trial = self.trials.trials.get(request.trial)
            return trial is not None and trial.state == "running"
        if request.study is None or request.study not in self.studies:
            return request.study is None
        return request.action not in ("stop", "pause") or not self._is_over(request.study)

    def _end_stopping(self) -> None:
        """End the trials that are to stop and have no process."""
        for trial in [trial for trial in self.waiting if trial.stopping]:
            self.waiting.remove(trial)
            self._end(trial, "cancelled", STOPPED, trial.epoch, None)

    def retry(self, names: Iterable[str]) -> None:
        """Schedule ended trials to run again: preempted ones from their checkpoint, the others from the start."""
        self.waiting.extend(self.trials.trials[name] for name in names)

    def add(self, trial: Trial, metrics: Mapping[str, float]) -> None:
        """Record values of a trial that were measured outside its training, as epoch 0."""
        row = Row(epoch=0, stage="alone", time=time.time(), metrics=dict(metrics))
        self._tell("report", trial=trial.name, rows=[row])

    def settle(self) -> None:
        """Repair the state after the previous driver died: trials that had reached their end are ended and not run
        again, unless their last evaluation has no value: they had failed or diverged, and the record lacks how."""
        for trial in [trial for trial in self.waiting if trial.state == "running"]:
            if trial.epoch >= self.plan.config.epochs and trial.metric in trial.rows[trial.epoch].metrics:
                self._end(trial, "complete", "", trial.epoch, None)
            elif not self.studies[trial.study].goes_on(trial.number) and not trial.stopping:
                self._pause(trial, trial.epoch, None)
            if trial.state != "running":
                self.waiting.remove(trial)
        self._end_stopping()
        for name in self.studies:
            for trial in self.trials.paused_in(name):
                self._keep(trial)
            self._close(name)

    def next(self, ray_id: str) -> dict[str, Any] | None:
        """Return the next trial for Ray to run, or None while enough trials run."""
        if self._occupied >= self.resources.ahead:
            return None
        if self.waiting:
            trial = self.waiting.popleft()
            self.studies[trial.study].reopen(trial.number)
            name, study, number, attempt = trial.name, trial.study, trial.number, trial.attempt + 1
            values, origin = trial.values, trial.origin
        else:
            held = self.trials.stopped | self.trials.paused
            shares = {name: self._share(name) for name in self.studies if name not in held}
            # Fair share: choose the study that has used the smallest share of its budget.
            study = min(shares, key=shares.__getitem__, default="")
            if not study or shares[study] >= 1:
                return None
            asked = self.studies[study].ask(next(iter(self.trials.enqueued.get(study, [])), None))
            assert asked is not None  # its budget is left
            name, number, values, origin = asked.trial, asked.number, asked.values, asked.origin
            attempt = self.trials.trials[name].attempt + 1 if name in self.trials.trials else 1  # a promoted trial
        self._tell(
            "start", trial=name, study=study, number=number, values=values, origin=origin, attempt=attempt,
            seed=self.plan.seed_of(study, number),
        )  # fmt: skip
        self.running[ray_id] = name
        return self._describe(self.trials.trials[name])

    def hear(self, ray_id: str, progress: Progress) -> bool:
        """Process a worker's message; return whether its trial continues."""
        trial = self._trial(ray_id)
        study = self.studies[trial.study]
        rows = [row for row in progress.rows if row.epoch not in trial.rows]  # the others are repeated epochs
        if rows:
            self._tell("report", trial=trial.name, rows=rows)
        state, reason = progress.state, progress.reason
        continues = True
        if progress.value is not None:
            metrics = next((row.metrics for row in progress.rows if row.epoch == progress.epoch), {})
            continues = study.report(trial.number, progress.epoch, progress.value, metrics)
        if state is None and trial.stopping:
            state, reason = "cancelled", STOPPED
        if state is None and continues:
            return True
        del self.running[ray_id]
        if state is None:
            self._pause(trial, progress.epoch, progress.worker)
        elif state == "out_of_memory" and not self._had_room(trial, progress.worker):
            self._again(trial, state, reason, progress.worker)
        elif state == "preempted":
            self._set_back(trial, state, reason, progress.worker)
        else:
            self._end(trial, state, reason, max(progress.epoch, trial.epoch), progress.worker)
        return False

    def lost(self, ray_id: str, state: str, reason: str) -> str:
        """Handle the loss of a trial's process, and return the reason, which may be that it hung. The trial runs again
        from its checkpoint, unless it has run out of memory before or was lost too often without progress; then it ends
        as `state`."""
        if ray_id not in self.running:
            return reason
        trial = self._trial(ray_id)
        del self.running[ray_id]
        hung = self._checkpoint(trial).with_name(HUNG)
        with suppress(OSError):
            if hung.stat().st_size:
                reason = f"it hung ({hung.name} shows where)"
        if state == "out_of_memory":
            if self._had_room(trial, None):
                self._end(trial, state, reason, trial.epoch, None)
            else:
                self._again(trial, state, reason, None)
        else:
            self._set_back(trial, state, reason, None)
        return reason

    def _trial(self, ray_id: str) -> Trial:
        return self.trials.trials[self.running[ray_id]]

    def _checkpoint(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.name / CHECKPOINT

    def _pause(self, trial: Trial, epoch: int, worker: dict[str, Any] | None) -> None:
        """Follow a rung that has stopped a trial; the checkpoint is kept if the trial can be promoted."""
        state = self.studies[trial.study].stopped
        self._end(trial, state, f"not among those that pass the rung at epoch {epoch}", epoch, worker)

    def _end(self, trial: Trial, state: str, reason: str, epoch: int, worker: dict[str, Any] | None) -> None:
        self.studies[trial.study].end(trial.number, state, epoch)
        self._tell("end", trial=trial.name, state=state, epoch=epoch, reason=reason, worker=worker)
        if state == "paused":
            self._keep(trial)
        elif state != "preempted":  # by its storage or nodes; `retry` continues it
            self._discard(trial)
        self._close(trial.study)

    def _keep(self, trial: Trial) -> None:
        """Make the state at the last report of a paused trial its checkpoint: the record has the report now."""
        with suppress(OSError):  # without a checkpoint a promoted trial starts again
            self._checkpoint(trial).with_name(REPORTED).replace(self._checkpoint(trial))

    def _discard(self, trial: Trial) -> None:
        for name in (CHECKPOINT, REPORTED):
            with suppress(OSError):  # `gc` deletes it later
                self._checkpoint(trial).with_name(name).unlink(missing_ok=True)

    def _close(self, name: str) -> None:
        """End the paused trials of a study if no trial of it runs and none will start."""
        study = self.studies[name]
        stopped = name in self.trials.stopped and not study.unfinished
        if (stopped or self._is_over(name)) and (paused := self.trials.paused_in(name)):
            study.close()
            self._tell("close", study=name)
            for trial in paused:
                self._discard(trial)

    def _is_over(self, name: str) -> bool:
        """Return whether a study has spent its budget and none of its trials runs."""
        return self._share(name) >= 1 and not self.studies[name].unfinished

    def _set_back(self, trial: Trial, state: str, reason: str, worker: dict[str, Any] | None) -> None:
        """Run a trial again after a loss outside its control, unless it was lost too often without progress."""
        if trial.stalled < self.plan.config.retries:
            self._again(trial, "preempted", reason, worker)
        else:
            self._end(trial, state, f"{reason} {trial.stalled + 1} times", trial.epoch, worker)

    def _again(self, trial: Trial, state: str, reason: str, worker: dict[str, Any] | None) -> None:
        """Record that an attempt ended as `state`, and schedule the trial to run next, unless it is to stop."""
        if trial.stopping:
            self._end(trial, "cancelled", STOPPED, trial.epoch, worker)
            return
        self._tell("lost", trial=trial.name, state=state, epoch=trial.epoch, reason=reason, worker=worker)
        self.waiting.append(trial)

    def _tell(self, event: str, **fields: Any) -> None:
        written = self.record.append(event, **fields)
        self.trials.tell(written)
        self.listener(written, self.trials)

    def _share(self, study: str) -> float:
        """Return the share of its budget that a study has used: of its epochs or trials, or of its seconds if that is
        more; at 1 it is exhausted."""
        share, limit = self.studies[study].share, self.plan.config.seconds_per_study
        return share if limit is None else max(share, self._seconds(study) / limit)

    def _seconds(self, study: str) -> float:
        """Return the seconds that a study will have used, and half a training, as `Spec.share` counts epochs: those of
        its trials so far, and of the rest of those that run at the mean pace so far, 0 before the first report.

        Only recorded seconds count, so a resumed sweep decides in the same way.
        """
        seconds, epochs, full = self.trials.seconds[study], self.trials.epochs[study], self.plan.config.epochs
        pace = seconds / epochs if epochs else 0.0
        return seconds + pace * (self.trials.left[study] + full / 2)

    def _describe(self, trial: Trial) -> dict[str, Any]:
        planned, config = self.planned[trial.study], self.plan.config
        seed = self.plan.seed_of(trial.study, trial.number)
        metric = self.plan.metric_of(planned.dataset)
        evaluate = {"metric": metric, "split": self.plan.split, "samples": config.samples}
        evaluate |= {name: getattr(config, name) for name in ("pairs", "inception_splits", "against_training")}
        if config.fid_weights is not None:
            evaluate["fid_weights"] = str(config.fid_weights.absolute())
        return {
            "trial": trial.name,
            "folder": str(self.folder.absolute() / "trials" / trial.name),
            "record": str(self.record.path.absolute()),
            "holder": self.record.holder,
            "epoch": trial.epoch,  # the last one in the record
            "part": self.plan.part_of(planned, trial.number),
            "fit": self.plan.fit_config(planned, trial.values, seed).model_dump(mode="json"),
            "metric": planned.spec.metric,
            "outside": outside_label(planned.method),
            "rungs": self.plan.rungs,
            "looks": self.plan.config.looks,
            "evaluate": evaluate,
            "cpus": self.resources.cpus,
            "gpus": self.gpus_of(trial),
            "wants_room": self._wants_room(trial),
        }

    def gpus_of(self, trial: Trial) -> float:
        """Return the GPUs for the next training of a trial: its share, or a whole one if that has been too small."""
        gpus = self.resources.gpus
        return 1.0 if self._wants_room(trial) and 0 < gpus < 1 else gpus

    def _wants_room(self, trial: Trial) -> bool:
        """Return whether a trial runs with fewer concurrent trials: it has run out of memory, or a trial of its study
        has on a share of a GPU as large as the present one."""
        return _ran_out(trial) or self.trials.outgrown.get(trial.study, 0.0) >= self.resources.gpus > 0

    def _had_room(self, trial: Trial, worker: dict[str, Any] | None) -> bool:
        """Return whether a trial has run with fewer concurrent trials; a further attempt would not have more memory."""
        return _ran_out(trial) or (worker or {}).get("gpus", 0.0) > self.resources.gpus


def outside_label(method: str) -> str:
    """Return a label for the processes of an outside method; "" for built-in ones, which share theirs."""
    path = place(method)
    return f"outside-{crc32(path.encode()):08x}" if path else ""


def _ran_out(trial: Trial) -> bool:
    """Return whether a trial has run out of memory; it runs again once."""
    return trial.setbacks["out_of_memory"] > 0
