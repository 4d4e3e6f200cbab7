"""The typed configuration of one training run, and how a bad one is explained in one line."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trainables.catalog import find
from trainables.datasets import LARGEST_SIDE, SMALLEST_SIDE, expanded
from trainables.method import Method
from trainables.metrics import choose
from trainables.words import did_you_mean


def of_this_machine(path: Any) -> Any:
    """What a user gave as a path, unchanged. Raises ValueError for nothing and for an address."""
    if not str(path).strip():
        raise ValueError("is empty; give a path")
    if "://" in str(path):
        raise ValueError("is an address; give a path on this machine or on a share that is mounted here")
    return path


ImageSize = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # NumPy takes 32 bits, and seeds are counted up from it
UserPath = Annotated[Path, BeforeValidator(of_this_machine), AfterValidator(expanded)]
Model = TypeVar("Model", bound=BaseModel)


def usable_device(name: str) -> str:
    """The name of a device of PyTorch, or auto. Raises ValueError for one that this machine does not have."""
    if name == "auto":
        return name
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"this machine cannot use it ({why}); allowed are cpu, and cuda or cuda:N with a GPU"
        ) from None
    return name


Device = Annotated[str, AfterValidator(usable_device)]


def _chosen(metric: str) -> str:
    choose(metric)
    return metric


Metric = Annotated[str, AfterValidator(_chosen)]  # what a model can be judged by: a name that `choose` knows


class Config(BaseModel):
    """What one model is, what it is trained on and for how long. `values` are the method's hyperparameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: str
    dataset: str
    values: dict[str, Any]
    epochs: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data_root: Path = Path("data")
    image_size: ImageSize | None = None
    channels: Annotated[int, Field(ge=1, le=3)] | None = None

    @property
    def hyper(self) -> Method.Hyper:
        """The values as the method's own typed Hyper; raises ValueError naming the method and the key."""
        return checked(find(self.method).Hyper, self.values, self.method)


def hyper_fields(method: str) -> dict[str, bool]:
    """The hyperparameters of a method and whether each must be given."""
    return {name: field.is_required() for name, field in find(method).Hyper.model_fields.items()}


def checked(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Builds a pydantic model, or raises a one-line ValueError: what we got, what was allowed, what to do."""
    try:
        return model(**values)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error, model)}" if where else explain(error, model)) from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All faults of a validation in one line."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        match fault["type"]:
            case "extra_forbidden":
                known = model.model_fields
                faults.append(f"unknown key {key!r}{did_you_mean(key, known)} (known: {', '.join(sorted(known))})")
            case "missing":
                faults.append(f"{key} is missing; give it a value")
            case "value_error":
                faults.append(
                    f"{key} = {fault['input']!r}: {fault['ctx']['error']}" if key else str(fault["ctx"]["error"])
                )
            case _:
                message = fault["msg"][0].lower() + fault["msg"][1:]
                faults.append(f"{key} = {fault['input']!r}: {message}")
    return "; ".join(faults)
