"""The typed configuration of one training run, and one-line messages for invalid ones."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trainables.catalog import find
from trainables.credentials import redact
from trainables.datasets import LARGEST_SIDE, SMALLEST_SIDE, expanded
from trainables.method import Method
from trainables.metrics import choose
from trainables.strict import StrictModel
from trainables.words import did_you_mean


def of_this_machine(path: Any) -> Any:
    """Returns the path unchanged. Raises ValueError if it is empty or a URL."""
    if not str(path).strip():
        raise ValueError("is empty; give a path")
    if "://" in str(path):
        raise ValueError("is a URL; give a path on this machine or on a mounted share")
    return path


ImageSize = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # NumPy accepts 32 bits, and further seeds count up from this one
UserPath = Annotated[Path, BeforeValidator(of_this_machine), AfterValidator(expanded)]
Model = TypeVar("Model", bound=BaseModel)


def usable_device(name: str) -> str:
    """Returns the name of a PyTorch device, or auto. Raises ValueError if this machine does not have the device."""
    if name == "auto":
        return name
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        why = str(error).partition("\n")[0]
        raise ValueError(f"not available on this machine ({why}); choose cpu, or cuda or cuda:N with a GPU") from None
    return name


Device = Annotated[str, AfterValidator(usable_device)]


def _chosen(metric: str) -> str:
    choose(metric)
    return metric


Metric = Annotated[str, AfterValidator(_chosen)]  # a name that `choose` accepts


class Config(StrictModel):
    """The method, data set and epochs of one training run. `values` are the hyperparameters of the method."""

    model_config = ConfigDict(frozen=True)

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
        """The values as the typed Hyper of the method. Raises ValueError naming the method and the key."""
        return checked(find(self.method).Hyper, self.values, self.method)


def hyper_fields(method: str) -> dict[str, bool]:
    """Returns the hyperparameters of a method and whether each is required."""
    return {name: field.is_required() for name, field in find(method).Hyper.model_fields.items()}


def checked(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Builds a pydantic model. Raises a one-line ValueError: the value, the allowed values, the remedy."""
    try:
        return model(**values)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error, model)}" if where else explain(error, model)) from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Returns all errors of a validation in one line."""
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
    return redact("; ".join(faults))  # they quote the input
