"""The typed configuration of a sweep; its fields are the flags of `sweep/run.py` and the keys of `--config FILE`."""

import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainables.catalog import label, matching
from trainables.config import ImageSize, Metric, Seed, UserPath
from trainables.flags import configured, laid_over, read_flags
from trainables.metrics import CHOICES
from trainables.outside import installed_words

PRESET_FILES = files("sweep") / "presets"
Objective = Literal["mse", "dssim", "active_dims", "probe_error", "knn_error", "train_seconds"]
LONGEST_NAME = 200  # bytes; file systems take 255, and names of files are made of it
PositiveInt = Annotated[int, Field(ge=1)]


class SweepConfig(BaseModel):
    """What is compared, on which images, at which budget, and where it runs and is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    groups: ClassVar = {
        "What is compared": "methods datasets set points spaces networks",
        "Budget": "trials epochs scale seconds_per_study factor first_rung",
        "Search": "searcher search seeds seed warm_start",
        "What is measured": "metric objectives samples split looks pairs inception_splits fid_weights",
        "Confirmation": "confirm confirm_top confirm_seeds",
        "Images": "data_root present_only image_size channels",
        "What is kept, and where": "out name tracking_uri experiment keep keep_gb",
        "The machine": "concurrent cpus_per_trial gpus_per_trial address retries",
    }

    methods: list[str] = Field(
        ["vae", "beta_vae", "wae", "rae_l2", "gae"],
        min_length=1,
        description=f"methods, all, patterns such as iaae_*, {installed_words('methods')}or package.module:Class",
    )
    datasets: list[str] = Field(
        ["digits"],
        min_length=1,
        description=f"data sets, {installed_words('datasets')}folder:PATH, file:PATH, or package.module:read",
    )
    trials: PositiveInt = Field(
        6,
        description="budget of a study, one method on one data set, in full trainings: the epochs that stopped trials "
        "save buy further trials; runs of each hand-tuned point without a searcher",
    )
    seconds_per_study: Annotated[float, Field(gt=0)] | None = Field(
        None, description="seconds of training and evaluation after which a study begins no more trials"
    )
    epochs: PositiveInt = Field(27, description="full budget of a trial, all its stages together")
    scale: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the epochs to train, e.g. 0.1 of a preset's; schedules given as shares follow"
    )
    metric: Metric | None = Field(
        None,
        description=f"what is minimised: {CHOICES}; unless given fcd for data sets with labels, fsd without, mse for "
        "points",
    )
    objectives: list[Objective] = Field(
        [], description="what else the search minimises; halving and the leaderboard go by the metric alone"
    )
    samples: Annotated[int, Field(ge=2)] = Field(5000, description="images drawn for each distance")
    split: Literal["valid", "test"] = Field(
        "valid",
        description="split that trials are scored on; test also trains on the validation images, scores each trial "
        "once, at its end, unless there are looks, and needs searcher none",
    )
    looks: list[PositiveInt] = Field(
        [],
        description="further epochs at which trials are scored, also in a first stage, by what is trained by then; "
        "needs searcher none",
    )
    pairs: PositiveInt = Field(2000, description="codes, and images of each side, compared in pairs at a trial's end")
    inception_splits: PositiveInt = Field(10, description="parts of the Inception Score's images")
    searcher: Literal["tpe", "prior", "random", "none"] = Field(
        "tpe",
        description="how new points are chosen; prior looks near the hand-tuned and the best points as well; none runs "
        "the hand-tuned ones alone, each run with its own seed",
    )
    seeds: PositiveInt | None = Field(
        None, description="trainings of each hand-tuned point, each with its own seed; needs searcher none"
    )
    factor: Annotated[int, Field(ge=2)] = Field(
        3, description="successive halving keeps one trial in FACTOR at each rung"
    )
    first_rung: PositiveInt | None = Field(None, description="epoch of the first rung; epochs / 9 unless given")
    seed: Seed = Field(0, description="of the search and of every training")
    set: dict[str, Any] = Field(
        {},
        description="hyperparameters fixed for all trials; METHOD.KEY for one method; "
        "a list, in a file, makes every hand-tuned point one with each of its values",
    )
    search: list[str] = Field(
        [],
        description="hyperparameters to search that are fixed otherwise, e.g. batch_size; METHOD.KEY for one method; "
        "[optional] in a method's search space lists them with their ranges",
    )
    networks: str | None = Field(
        None,
        description="shared: one network for all methods; paper: that of each hand-tuned point; or a kind, for all, "
        "see python -m trainables --networks; unless given, shared for folders and for data sets on which a method "
        "has no hand-tuned point, else paper",
    )
    points: list[str] | None = Field(
        None, min_length=1, description="names of the hand-tuned points to take; all of a data set unless given"
    )
    spaces: dict[str, UserPath] = Field({}, description="METHOD=FILE: search spaces to use instead of the methods' own")

    warm_start: UserPath | None = Field(
        None, description="folder of an earlier sweep, whose best points are tried after the hand-tuned ones"
    )

    confirm: bool = Field(False, description="confirm the sweep at once when its search is done")
    confirm_top: PositiveInt = Field(1, description="how many of each study's best points are confirmed")
    confirm_seeds: PositiveInt = Field(5, description="trainings of each confirmed point")

    data_root: UserPath = Field(Path("data"), description="where data sets lie or are downloaded to")
    present_only: bool = Field(False, description="leave out data sets that are not under data_root, and download none")
    image_size: ImageSize | None = Field(None, description="square side in pixels that images are brought to")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour")
    fid_weights: UserPath | None = Field(None, description="pytorch-fid's Inception weights, when not to be downloaded")

    out: UserPath = Field(Path("sweeps"), description="folder that holds the sweeps")
    name: str | None = Field(None, description="this sweep's folder in it; made from data sets and time unless given")
    tracking_uri: str | None = Field(
        None, min_length=1, description="MLflow; MLFLOW_TRACKING_URI, or sqlite in the sweeps' folder, unless given"
    )
    experiment: str = Field("autoencoder-sweep", min_length=1, description="MLflow experiment")

    concurrent: PositiveInt | None = Field(None, description="trials at a time; what the machine holds unless given")
    cpus_per_trial: PositiveInt | None = Field(None, description="CPU cores of a trial")
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of a GPU for a trial, at most 1: a training uses one GPU"
    )
    address: str | None = Field(
        None, min_length=1, description="a running Ray cluster, e.g. auto; a local one is started unless given"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        3, description="restarts of a trial whose process or node dies again and again before it gets any further"
    )

    keep: PositiveInt = Field(3, description="trained models kept per study, besides that of the hand-tuned point")
    keep_gb: Annotated[float, Field(ge=0)] = Field(
        10.0, description="GB that all models of a sweep may take; a study's best and its hand-tuned one always stay"
    )

    @field_validator("methods")
    @classmethod
    def each_by_its_name(cls, names: list[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            named = matching(name)
            found += named if named == [name] else [method for method in named if method not in found + names]
        return found

    @field_validator("methods", "datasets", "objectives", "search")
    @classmethod
    def distinct(cls, names: list[str]) -> list[str]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands twice; name each once")
        return names

    @field_validator("name")
    @classmethod
    def one_folder(cls, name: str | None) -> str | None:
        if name is not None and (not name.strip() or "/" in name or name.startswith(".")):
            raise ValueError("a sweep's name is the name of one folder: no slash, no leading dot")
        if name is not None and (not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME):
            raise ValueError(f"a sweep's name has at most {LONGEST_NAME} bytes, all of characters that can be seen")
        return name

    @model_validator(mode="after")
    def rung_within_budget(self) -> Self:
        if self.first_rung is not None and self.first_rung > self.epochs:
            raise ValueError(
                f"first_rung = {self.first_rung} is beyond epochs = {self.epochs}; choose one of 1..{self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def objectives_are_searched_for(self) -> Self:
        if self.objectives and self.searcher != "tpe":
            told = ", ".join(self.objectives)
            raise ValueError(
                f"objectives = {told} mean nothing to searcher {self.searcher!r}; take tpe or leave them out"
            )
        return self

    @model_validator(mode="after")
    def hand_tuned_points_alone(self) -> Self:
        given = {"split": self.split == "test", "seeds": self.seeds is not None, "looks": bool(self.looks)}
        for name in (name for name, wanted in given.items() if wanted and self.searcher != "none"):
            raise ValueError(
                f"{name} = {getattr(self, name)} needs searcher = none, got {self.searcher}: a search chooses by the "
                "validation split and trains each point once; confirm its best points instead"
            )
        return self

    @model_validator(mode="after")
    def searched_knobs_are_free(self) -> Self:
        if self.search and self.searcher == "none":
            raise ValueError(f"search = {', '.join(self.search)} means nothing to searcher 'none'; take tpe")
        for name in self.search:
            if by := {name, name.rpartition(".")[2]} & self.set.keys():
                raise ValueError(f"search = {name} is fixed by set = {by.pop()}; keep one")
        return self

    @property
    def keep_bytes(self) -> float:
        """The budget of all models together."""
        return self.keep_gb * 1e9

    @property
    def rung_epoch(self) -> int:
        """The epoch of the first rung; on the test split the last epoch, for a rung is another look at it."""
        return self.epochs if self.split == "test" else self.first_rung or max(1, self.epochs // 9)


Kind = TypeVar("Kind", bound=SweepConfig)


def read_config(kind: type[Kind], argv: Sequence[str], prog: str, about: str) -> Kind:
    """The sweep that `--preset NAME`, `--config FILE` and the flags of `argv` describe. Raises ValueError."""
    return _scaled(read_flags(kind, argv, prog, about, presets=PRESET_FILES, over=_of_the_methods_above))


def from_flags(
    kind: type[Kind], command: Callable[[Kind], None], positional: Sequence[str] = ()
) -> Callable[..., None]:
    """`command(sweep)` as a command whose flags describe the sweep, see `trainables.flags.configured`."""
    return configured(kind, lambda config: command(_scaled(config)), positional, PRESET_FILES, _of_the_methods_above)


def _scaled(config: Kind) -> Kind:
    """`scale` taken into the epochs, here, so that a resumed sweep does not scale them again."""
    if config.scale == 1.0:
        return config
    scaled = {name: value and max(1, round(config.scale * value)) for name, value in _epochs(config).items()}
    looks = [max(1, round(config.scale * epoch)) for epoch in config.looks]
    return config.model_copy(update=scaled | {"looks": list(dict.fromkeys(looks)), "scale": 1.0})


def _epochs(config: SweepConfig) -> dict[str, int | None]:
    return {"epochs": config.epochs, "first_rung": config.first_rung}


def _of_the_methods_above(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`. Where it names other methods, what was set for those it drops goes with them."""
    before, after = below.get("methods", SweepConfig().methods), above.get("methods")
    if isinstance(before, list) and isinstance(after, list):
        gone = {str(method) for method in before} - {name for method in after for name in matching(str(method))}
        gone |= {label(method) for method in gone}
        for name in ("set", "spaces"):
            if isinstance(below.get(name), dict):
                kept = {key: v for key, v in below[name].items() if not {str(key), str(key).rpartition(".")[0]} & gone}
                below = {**below, name: kept}
    return laid_over(below, above)
