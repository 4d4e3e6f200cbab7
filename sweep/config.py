"""The typed configuration of a sweep. Its fields are the flags of `sweep/run.py` and the keys of `--config FILE`."""

import os
from collections.abc import Callable, Sequence
from importlib.resources import files
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from trainables.catalog import label, matching
from trainables.config import ImageSize, Metric, Seed, UserPath, of_this_machine
from trainables.flags import configured, laid_over, read_flags
from trainables.metrics import CHOICES, ERROR_OF
from trainables.outside import installed_words
from trainables.strict import StrictModel

PRESET_FILES = files("sweep") / "presets"
Objective = Literal[
    "mse", "active_dims", "train_seconds",
    "probe_error", "knn_error", "nmi_error", "ari_error", "dssim", "psnr_rmse",
    "probe_accuracy", "knn_accuracy", "nmi", "ari", "ssim", "psnr",
]  # fmt: skip
LONGEST_NAME = 200  # bytes; file systems allow 255, and file names contain it
PositiveInt = Annotated[int, Field(ge=1)]


def refuse_credentials(address: str) -> None:
    """Raise ValueError, without the address, if it contains credentials: messages and files would show them."""
    parts = urlsplit(address)
    if parts.username or parts.password or parts.query:
        raise ValueError("must not contain credentials; set them in the environment, e.g. AWS_PROFILE")


MOST_SEEDS = 1000  # trainings of a confirmed point


def increasing(numbers: Sequence[Any]) -> list[int]:
    """Return the numbers as a list. Raises ValueError if there are none, or if they are not whole numbers that increase
    from at least 1 to at most MOST_SEEDS."""
    whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in numbers)
    if not numbers or not whole or numbers[0] < 1 or any(a >= b for a, b in pairwise([*numbers, MOST_SEEDS + 1])):
        given = " ".join(map(str, numbers)) or "none"
        raise ValueError(f"must be increasing whole numbers from 1 to {MOST_SEEDS:,}, got {given}")
    return [int(number) for number in numbers]


# Files of earlier versions hold one number.
Rounds = Annotated[
    list[int],
    BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given]),
    AfterValidator(increasing),
]


class SweepConfig(StrictModel):
    """Configuration of a sweep: methods, data sets, budget, search, measurements, resources and storage."""

    model_config = ConfigDict(frozen=True)
    groups: ClassVar = {
        "Methods and data sets": "methods datasets set points spaces networks",
        "Budget": "trials epochs scale schedule_scale seconds_per_study factor first_rung",
        "Search": "searcher search seeds seed warm_start",
        "Evaluation": "metric objectives samples split looks pairs inception_splits against_training fid_weights",
        "Confirmation": "confirm confirm_top confirm_seeds confirm_folds",
        "Images": "data_root present_only image_size channels",
        "Storage and tracking": "out mirror name tracking_uri experiment keep keep_gb at_end",
        "Resources": "concurrent cpus_per_trial gpus_per_trial address retries",
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
        description="budget of a study (one method on one data set) in full trainings; epochs saved by stopped trials "
        "pay for further trials. Without a searcher: runs of each hand-tuned point",
    )
    seconds_per_study: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="seconds of training and evaluation that a study may use; it ends earlier if its epochs are spent",
    )
    epochs: PositiveInt = Field(
        27, description="maximum epochs of a trial, over all its stages; larger by default for few images"
    )
    scale: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="fraction of the epochs to train, e.g. 0.1; schedules scale with it, see schedule_scale"
    )
    schedule_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="fraction of the hyperparameters that are counted in epochs, such as warm_up, also in set; "
        "scale multiplies it",
    )
    metric: Metric | None = Field(
        None,
        description=f"metric to optimise: {CHOICES}. Default: fcd for data sets with labels, fsd for those without, "
        "mse for points",
    )
    objectives: list[Objective] = Field(
        [],
        description="further objectives; scores such as nmi are maximised, by their errors, and all others minimised. "
        "Halving and the leaderboard use the metric alone",
    )
    samples: Annotated[int, Field(ge=2)] = Field(5000, description="images to sample for each distance")
    split: Literal["valid", "test"] = Field(
        "valid",
        description="split to score trials on. test also trains on the validation images, scores each trial only at "
        "its end and at looks, and requires searcher none",
    )
    looks: list[PositiveInt] = Field(
        [],
        description="additional epochs at which to score trials, including epochs of a first stage; "
        "requires searcher none",
    )
    pairs: PositiveInt = Field(
        2000, description="number of codes, and of images of each side, to compare in pairs at the end of a trial"
    )
    inception_splits: PositiveInt = Field(10, description="number of splits of the Inception Score")
    against_training: bool = Field(
        False,
        description="at the end of a trial also compare as many samples as training images with all of these, which "
        "some papers print",
    )
    searcher: Literal["tpe", "prior", "random", "none"] = Field(
        "tpe",
        description="how to choose new points. prior also samples near the hand-tuned and the best points; none runs "
        "only the hand-tuned points, each run with a different seed",
    )
    seeds: PositiveInt | None = Field(
        None, description="trainings of each hand-tuned point, each with a different seed; requires searcher none"
    )
    factor: Annotated[int, Field(ge=2)] = Field(
        3,
        description="reduction factor of successive halving: a rung keeps one trial in FACTOR, more if it ranks badly",
    )
    first_rung: PositiveInt | None = Field(
        None,
        description="epoch of the first rung; there is none if FACTOR times it exceeds the epochs. Default: epochs / 9",
    )
    seed: Seed = Field(0, description="random seed of the search and of every training")
    set: dict[str, Any] = Field(
        {},
        description="hyperparameters to fix for all trials; METHOD.KEY for one method. In a file, a list repeats every "
        "hand-tuned point with each of its values",
    )
    search: list[str] = Field(
        [],
        description="hyperparameters to search that are fixed by default, e.g. batch_size; METHOD.KEY for one method. "
        "[optional] in a method's search space lists them with their ranges",
    )
    networks: str | None = Field(
        None,
        description="shared: one network for all methods; paper: the network of each hand-tuned point; or a kind "
        "listed by python -m trainables --networks. Default: shared for folders and for data sets on which a method "
        "has no hand-tuned point, else paper",
    )
    points: list[str] | None = Field(
        None, min_length=1, description="names of the hand-tuned points to run; default: all points of the data set"
    )
    spaces: dict[str, UserPath] = Field({}, description="METHOD=FILE: search spaces that replace those of the methods")

    warm_start: UserPath | None = Field(
        None, description="folder of an earlier sweep; its best points are tried after the hand-tuned ones"
    )

    confirm: bool = Field(False, description="confirm the sweep as soon as its search is done")
    confirm_top: PositiveInt = Field(
        1, description="number of best points of each study to confirm besides the hand-tuned one"
    )
    confirm_seeds: Rounds = Field(
        [5, 10, 20],
        description="numbers of trainings of each confirmed point: a study goes on with the next number while its "
        "points cannot be told apart; intervals and verdicts require 3",
    )
    confirm_folds: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="number of folds: train each confirmed point once per fold instead, with another part of the "
        "training and test images as test split",
    )

    data_root: UserPath = Field(Path("data"), description="folder to read data sets from and to download them to")
    present_only: bool = Field(False, description="skip data sets that are not under data_root; download nothing")
    image_size: ImageSize | None = Field(None, description="side in pixels to which images are resized (square)")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour")
    fid_weights: UserPath | None = Field(None, description="file of pytorch-fid's Inception weights; default: download")

    out: UserPath = Field(Path("sweeps"), description="folder that holds the sweeps, or an address as for mirror")
    mirror: str | None = Field(
        None,
        description="fsspec address such as s3://BUCKET/FOLDER to which the sweep is copied while it runs; given as "
        "--out, the sweep itself is in the default folder",
    )
    name: str | None = Field(None, description="name of this sweep's folder; default: made from data sets and time")
    tracking_uri: str | None = Field(
        None, min_length=1, description="MLflow store; default: MLFLOW_TRACKING_URI, or sqlite in the sweeps' folder"
    )
    experiment: str = Field("autoencoder-sweep", min_length=1, description="MLflow experiment")

    at_end: str | None = Field(
        None,
        min_length=1,
        description="shell command to run whenever the sweep or its confirmation ends or is interrupted, with "
        "SWEEP_FOLDER and SWEEP_OUTCOME (done or interrupted) in its environment",
    )

    concurrent: PositiveInt | None = Field(
        None, description="maximum number of concurrent trials; default: as many as the machine has room for"
    )
    cpus_per_trial: PositiveInt | None = Field(None, description="CPU cores per trial")
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="fraction of a GPU per trial, at most 1: a training uses one GPU; default: the smallest of 0.25, "
        "0.5 and 1 into which a trial of each study fits",
    )
    address: str | None = Field(
        None, min_length=1, description="address of a running Ray cluster, e.g. auto; default: start a local one"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        3, description="maximum number of consecutive restarts of a trial whose process or node dies without progress"
    )

    keep: PositiveInt = Field(3, description="trained models to keep per study, besides that of the hand-tuned point")
    keep_gb: Annotated[float, Field(ge=0)] = Field(
        10.0, description="GB that all models of a sweep may use; a study's best and its hand-tuned one are always kept"
    )

    @model_validator(mode="before")
    @classmethod
    def address_as_mirror(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "://" not in str(fields.get("out", "")):
            return fields
        if fields.get("mirror") is not None:
            raise ValueError(f"out = {fields['out']} is an address, as is mirror; give out a folder")
        return {name: value for name, value in fields.items() if name != "out"} | {"mirror": str(fields["out"])}

    @field_validator("mirror")
    @classmethod
    def address_without_credentials(cls, address: str | None) -> str | None:
        if address is None:
            return None
        if not urlsplit(address).scheme or "://" not in address:
            raise ValueError("must be an address such as s3://BUCKET/FOLDER; for a folder, use out")
        refuse_credentials(address)
        return address.rstrip("/")

    @field_validator("methods")
    @classmethod
    def each_by_its_name(cls, names: list[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            named = matching(name)
            found += named if named == [name] else [method for method in named if method not in found + names]
        return found

    @field_validator("datasets")
    @classmethod
    def paths_of_this_machine(cls, names: list[str]) -> list[str]:
        for kind, _, path in (name.partition(":") for name in names):
            if path and kind in ("folder", "file"):
                try:
                    of_this_machine(path)
                except ValueError as error:
                    raise ValueError(f"{kind} {error}") from None
        return names

    @field_validator("objectives")
    @classmethod
    def as_errors(cls, names: list[Objective]) -> list[Objective]:
        return [cast(Objective, ERROR_OF.get(name, name)) for name in names]

    @field_validator("methods", "datasets", "objectives", "search")
    @classmethod
    def distinct(cls, names: list[str]) -> list[str]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"duplicate {', '.join(twice)}; give each name once")
        return names

    @field_validator("name")
    @classmethod
    def one_folder(cls, name: str | None) -> str | None:
        if name is not None and (not name.strip() or "/" in name or name.startswith(".")):
            raise ValueError("a sweep's name must be a folder name without a slash or a leading dot")
        if name is not None and (not name.isprintable() or len(os.fsencode(name)) > LONGEST_NAME):
            raise ValueError(f"a sweep's name must have at most {LONGEST_NAME} bytes, all printable")
        return name

    @model_validator(mode="after")
    def objectives_are_searched_for(self) -> Self:
        if self.objectives and self.searcher != "tpe":
            names = ", ".join(self.objectives)
            raise ValueError(f"objectives = {names} requires searcher = tpe, got {self.searcher}; use tpe or omit them")
        return self

    @model_validator(mode="after")
    def hand_tuned_points_alone(self) -> Self:
        given = {"split": self.split == "test", "seeds": self.seeds is not None, "looks": bool(self.looks)}
        for name in (name for name, wanted in given.items() if wanted and self.searcher != "none"):
            raise ValueError(
                f"{name} = {getattr(self, name)} requires searcher = none, got {self.searcher}: a search uses the "
                "validation split and trains each point once; confirm its best points instead"
            )
        return self

    @model_validator(mode="after")
    def searched_knobs_are_free(self) -> Self:
        if self.search and self.searcher == "none":
            raise ValueError(f"search = {', '.join(self.search)} requires a searcher, got none; use tpe")
        for name in self.search:
            if by := {name, name.rpartition(".")[2]} & self.set.keys():
                raise ValueError(f"search = {name} is fixed by set = {by.pop()}; keep one")
        return self

    @property
    def mirror_address(self) -> str | None:
        """The address to which this sweep is copied. The sweep must have a name."""
        return self.mirror and f"{self.mirror}/{self.name}"

    @property
    def keep_bytes(self) -> float:
        """The maximum total size of a sweep's models in bytes."""
        return self.keep_gb * 1e9

    @property
    def rung_epoch(self) -> int:
        """The epoch of the first rung; the last epoch on the test split, because a rung scores the split once more."""
        return self.epochs if self.split == "test" else self.first_rung or max(1, self.epochs // 9)


Kind = TypeVar("Kind", bound=SweepConfig)


def read_config(kind: type[Kind], argv: Sequence[str], prog: str, about: str) -> Kind:
    """Return the configuration given by `--preset NAME`, `--config FILE` and the flags in `argv`. Raises ValueError."""
    return scaled(read_flags(kind, argv, prog, about, presets=PRESET_FILES, over=_of_the_methods_above))


def from_flags(
    kind: type[Kind], command: Callable[[Kind], None], positional: Sequence[str] = ()
) -> Callable[..., None]:
    """Wrap `command(sweep)` as a command whose flags describe the sweep; see `trainables.flags.configured`."""
    return configured(kind, lambda config: command(scaled(config)), positional, PRESET_FILES, _of_the_methods_above)


def scaled(config: Kind) -> Kind:
    """Apply `scale` to the epochs and to `schedule_scale` and reset it to 1, so that a resumed sweep does not scale
    them again."""
    if config.scale == 1.0:
        return config
    epochs = {name: value and max(1, round(config.scale * value)) for name, value in _epochs(config).items()}
    looks = [max(1, round(config.scale * epoch)) for epoch in config.looks]
    schedules = {"scale": 1.0, "schedule_scale": config.scale * config.schedule_scale}
    return config.model_copy(update=epochs | schedules | {"looks": list(dict.fromkeys(looks))})


def _epochs(config: SweepConfig) -> dict[str, int | None]:
    return {"epochs": config.epochs, "first_rung": config.first_rung}


def _of_the_methods_above(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge `above` over `below`. If `above` names other methods, drop the settings of the removed methods."""
    before, after = below.get("methods", SweepConfig().methods), above.get("methods")
    if isinstance(before, list) and isinstance(after, list):
        gone = {str(method) for method in before} - {name for method in after for name in matching(str(method))}
        gone |= {label(method) for method in gone}
        for name in ("set", "spaces"):
            if isinstance(below.get(name), dict):
                kept = {key: v for key, v in below[name].items() if not {str(key), str(key).rpartition(".")[0]} & gone}
                below = {**below, name: kept}
    return laid_over(below, above)
