"""Requests to a running sweep from other terminals, also of other machines.

A request is a file in the sweep's folder. The driver writes it into the record, follows it, and deletes the file. If
the driver dies before it deletes the file, the next one finds the request's id in the record.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweep.driver import provenance
from sweep.driver.conductor import Conductor
from sweep.driver.stop import Stop
from sweep.record import RECORD, REQUESTS, Request, Trials
from sweep.search.space import Fixed
from sweep.search.study import Spec
from trainables.catalog import find, label
from trainables.config import checked
from trainables.files import whole
from trainables.locks import is_held
from trainables.words import did_you_mean

SECONDS_BETWEEN_LOOKS = 1.0


def send(folder: Path, **fields: Any) -> Request:
    """Leave a request for the driver of the sweep in `folder`, and return it; `fields` are those of `Request`."""
    name = f"{time.time():.6f}-{os.urandom(4).hex()}"  # in the order in which they were made
    request = Request(request=name, user=provenance.user(), **fields)
    (folder / REQUESTS).mkdir(exist_ok=True)
    with whole(folder / REQUESTS / f"{name}.json", durable=True) as part:
        part.write_text(request.model_dump_json(exclude_defaults=True))
    return request


def runs(folder: Path) -> bool:
    """Return whether a driver runs the sweep in `folder`."""
    return is_held((folder / RECORD).with_suffix(".lock"))


def forget_stops(folder: Path) -> None:
    """Delete the requests to end the sweep that were meant for an earlier driver; call it as soon as this one holds the
    record."""
    for file in (folder / REQUESTS).glob("*.json"):
        with suppress(OSError, ValidationError):  # the inbox will name the file
            if ends_sweep(Request.model_validate_json(file.read_bytes())):
                file.unlink(missing_ok=True)


class Inbox:
    """Requests to the sweep of a driver."""

    def __init__(self, conductor: Conductor, stop: Stop, announce: Callable[[str], None]):
        self.conductor, self.stop, self.announce = conductor, stop, announce
        self.folder = conductor.folder / REQUESTS
        self.looked = 0.0
        self.unread: set[Path] = set()  # files that cannot be read for the moment

    def look(self) -> None:
        """Follow new requests, at most once a second."""
        if time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        self.looked = time.monotonic()
        for file in self._files():
            if (request := self._read(file)) is None:
                continue
            accepted = self.conductor.accept(request)
            file.unlink(missing_ok=True)
            if accepted:
                self.announce(f"{request.user or 'somebody'} asked to {words(request)}")
                if ends_sweep(request):
                    self.stop.ask()

    def follow(self) -> None:
        """`look` as a step of the work. Raises Stopped."""
        with self.stop.going_on():
            self.look()

    def _files(self) -> list[Path]:
        """Return the files of requests in their order; none if the folder cannot be read for the moment."""
        with suppress(OSError):
            return sorted(self.folder.glob("*.json"))
        return []

    def _read(self, file: Path) -> Request | None:
        """Return the request in a file. A file that is not a request is deleted; one that cannot be read is kept for
        the next look."""
        try:
            return Request.model_validate_json(file.read_bytes())
        except ValidationError:
            self.announce(f"{file} is not a request; deleted")
            file.unlink(missing_ok=True)
        except OSError as error:
            if file not in self.unread:
                self.announce(f"{file} cannot be read ({error.strerror}); the driver tries again")
            self.unread.add(file)
        return None


def ends_sweep(request: Request) -> bool:
    """Return whether the driver is to end, as after Ctrl-C."""
    return request.action == "stop" and request.study is None and request.trial is None


def words(request: Request) -> str:
    """Return the request as words that follow "to"."""
    what = request.trial or request.study or "the sweep"
    if request.action == "enqueue":
        point = ", ".join(f"{name} = {value}" for name, value in request.values.items())
        return f"try {point} in {what}"
    return f"{request.action} {what}"


def named(trials: Trials, name: str) -> dict[str, str]:
    """Return the fields of a request that name a running trial or a study. Raises ValueError for another name."""
    if name in trials.studies:
        return {"study": name}
    if name not in trials.trials:
        hint = did_you_mean(name, [*trials.studies, *trials.trials])
        raise ValueError(f"no study or trial is called {name!r}{hint}; its studies are {', '.join(trials.studies)}")
    if (state := trials.trials[name].state) != "running":
        raise ValueError(f"{name} does not run ({state}); name one that runs, or a study")
    return {"trial": name}


def study_of(trials: Trials, method: str, dataset: str | None) -> Spec:
    """Return the spec of a method's study. Raises ValueError if there is none, or more than one."""
    known = trials.studies.values()
    found = [s for s in known if method in (s.method, label(s.method), s.study) and dataset in (None, s.dataset)]
    if len(found) != 1:
        which = "more than one study is" if found else "no study is"
        add = "; name its --dataset" if found else did_you_mean(method, [label(entry.method) for entry in known])
        raise ValueError(f"{which} of {method!r}{add}; studies: {', '.join(trials.studies)}")
    return Spec.from_record(found[0])


def point(spec: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the study's first hand-tuned point, updated by `given`.

    Raises ValueError for values outside the search space.
    """
    if (spec.count is not None and spec.count <= len(spec.space.paper)) or spec.sampler == "none":
        raise ValueError(f"{spec.study}: nothing is searched in it, so it takes no further point")
    values = dict(spec.space.paper[0].values)
    for name, value in given.items():
        if name not in spec.space.dimensions:
            known = ", ".join(spec.space.searched)
            raise ValueError(f"{spec.study}: {name!r} is unknown{did_you_mean(name, values)}; it searches {known}")
        dimension = spec.space.dimensions[name]
        if not dimension.contains(value):
            allowed = f"fixed at {dimension}" if isinstance(dimension, Fixed) else f"searched in {dimension}"
            raise ValueError(f"{spec.study}: {name} = {value!r} is outside its search space; it is {allowed}")
        values[name] = dimension.cast(value)
    checked(find(spec.method).Hyper, values, spec.method)
    return values
