"""The events of a record, and the message from a worker to the driver, as typed models.

A record is a file of JSON lines; each line is one of the events below. Fields missing in older versions have defaults,
and unknown fields of later versions of the same format are ignored, so a record stays readable in both directions.
Incompatible changes increment `FORMAT`.

    {"time": 1795257000.2, "event": "start", "trial": "vae-mnist-0000", "study": "vae-mnist", ...}
"""

import math
from numbers import Real
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

FORMAT = 3  # format of the records that this version writes; it reads all formats up to this one

State = Literal["complete", "paused", "pruned", "diverged", "failed", "out_of_memory", "preempted", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
SETBACKS = ("preempted", "out_of_memory", "failed")  # independent of the values; another attempt may succeed

Origin = Literal["paper", "warm", "enqueued", "search"]
Action = Literal["stop", "pause", "unpause", "enqueue"]


class Row(BaseModel):
    """The report of a trial after one epoch.

    metrics: `split/name` -> finite value. vectors: vector-valued results of an evaluation, e.g. the variance of each
    latent. recipes: metric -> how it was measured (`trainables.metrics.recipe.Recipe`); since format 2 the hash under
    which the record has them.
    """

    epoch: int
    stage: str = ""
    time: float | None = None  # on the worker's clock, seconds since 1970
    metrics: dict[str, float]
    vectors: dict[str, Any] = {}
    recipes: dict[str, dict[str, Any]] | str = {}

    @field_validator("metrics", mode="before")
    @classmethod
    def _finite(cls, metrics: Any) -> Any:
        """Drop values that JSON cannot express: a divergence is a state of the trial, not a number."""
        if not isinstance(metrics, dict):
            return metrics
        return {
            name: value
            for name, value in metrics.items()
            # The first condition is that of almost all values, and isinstance with Real takes six times as long.
            if (type(value) is float and math.isfinite(value))
            or not (value is None or (isinstance(value, Real) and not math.isfinite(value)))
        }


class StudyEntry(BaseModel):
    """The description of a study in the record; `sweep.search.study.Spec` is built from it.

    budget_epochs: maximum total epochs of its trials; None if the budget is the number of `trials`, as in all older
    records.
    spared: share of trials that no rung stops.
    promotes: whether a rung pauses a trial, which may continue later, instead of ending it as pruned.
    adaptive: whether a rung stops fewer trials the worse it has ranked those that ended.
    probes: hyperparameters and factors of the first new points (`sweep.search.probes`).
    """

    study: str
    method: str
    dataset: str
    trials: int
    budget_epochs: int | None = None
    epochs: int
    metric: str
    objectives: list[str] = []
    rungs: list[int] = []
    first_rung: int | None = None
    factor: int = 3
    spared: float = 0.0
    promotes: bool = False
    adaptive: bool = False
    probes: list[tuple[str, float]] = []
    sampler: str = "tpe"
    hand_tuned: dict[str, Any] = {}  # values of the hand-tuned point
    hand_tuned_source: str = ""
    hand_tuned_carried: str = ""  # the network or data set of the point, if it is used on another
    points: list[dict[str, Any]] = []
    warm: list[dict[str, Any]] = []
    space: dict[str, dict[str, Any]] = {}
    balance: dict[str, dict[str, list[Any]]] | None = None  # None: not given by the search space
    rules: dict[str, dict[str, list[Any]]] = {}


class _Event(BaseModel):
    time: float  # on the driver's clock, seconds since 1970


class SweepEvent(_Event):
    """A driver starts or continues a sweep. `sweep` is the sweep's id, the same in all events of a record."""

    event: Literal["sweep"] = "sweep"
    format: int = 0
    sweep: str
    studies: list[StudyEntry]
    config: dict[str, Any] = {}
    resumed: bool = False
    versions: dict[str, str] = {}
    machine: dict[str, Any] = {}
    code: str = ""
    commit: str = ""  # of git, if the code is a working copy; with the suffix "-dirty" if files were changed
    user: str = ""  # owner of the driver's process
    data: dict[str, dict[str, Any]] = {}  # by data set: digest, shape and number of its images, and the source
    resources: dict[str, float] = {}
    resolutions: dict[str, dict[str, Any]] = {}  # by data set: resolution of its distance with few held-out images
    simulated: bool = False
    title: str | None = None
    readings: dict[str, dict[str, Any]] = {}  # by data set: how a folder of images was read
    confirms: dict[str, Any] | None = None  # in a confirmation: sweep, look, top, seeds, rounds, ...


class StartEvent(_Event):
    """An attempt of a trial starts."""

    event: Literal["start"] = "start"
    trial: str
    study: str
    number: int
    values: dict[str, Any]
    origin: Origin = "search"
    seed: int = 0
    attempt: int = 1


class ReportEvent(_Event):
    """A trial reports finished epochs. `recipes`, by hash, are those that no earlier line has."""

    event: Literal["report"] = "report"
    trial: str
    rows: list[Row]
    recipes: dict[str, dict[str, dict[str, Any]]] = {}


class LostEvent(_Event):
    """An attempt has ended, but the trial has not: it runs again from its checkpoint."""

    event: Literal["lost"] = "lost"
    trial: str
    state: State
    epoch: int = 0
    reason: str | None = None
    worker: dict[str, Any] | None = None


class EndEvent(_Event):
    """A trial has ended, or a rung has paused it; a start event continues a paused trial."""

    event: Literal["end"] = "end"
    trial: str
    state: State
    epoch: int | None = None
    reason: str | None = None
    worker: dict[str, Any] | None = None


class CloseEvent(_Event):
    """The paused trials of a study end as pruned: its budget is spent, or a user stopped it. Since format 3."""

    event: Literal["close"] = "close"
    study: str


class Request(BaseModel):
    """A user's request to a running sweep: about one trial, one study, or, if neither is named, all studies.

    values: all values of the point to try, if the action is "enqueue".
    """

    request: str  # an id
    action: Action
    study: str | None = None
    trial: str | None = None
    values: dict[str, Any] = {}
    user: str = ""


class RequestEvent(_Event, Request):
    """The driver has accepted a request."""

    event: Literal["request"] = "request"


class FinishEvent(_Event):
    """The driver exits: the sweep is `done` or `interrupted`; the reason is empty if a user interrupted it."""

    event: Literal["finish"] = "finish"
    outcome: str
    reason: str = ""


Event = SweepEvent | StartEvent | ReportEvent | LostEvent | EndEvent | CloseEvent | RequestEvent | FinishEvent
EVENTS: dict[str, type[Event]] = {kind.model_fields["event"].default: kind for kind in get_args(Event)}
ANY_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class Progress(BaseModel):
    """A message from a worker to the driver: the epochs since the last message, and the final state of the trial.

    `value` is the study's metric after `epoch`, None if that epoch was not evaluated. `state` is None while the trial
    can continue.
    """

    model_config = ConfigDict(extra="forbid")

    rows: list[Row] = []
    epoch: int = 0
    value: float | None = None
    state: State | None = None
    reason: str = ""
    worker: dict[str, Any] | None = None
    node: str = ""  # Ray's id of the worker's node; empty if it is not the cause of the state
