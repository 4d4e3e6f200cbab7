"""Run a sweep: what `sweep/run.py` does, as a command."""

from collections.abc import Sequence

from pydantic import Field

from sweep.commands._ending import conclude, say
from sweep.config import SweepConfig, from_flags, read_config
from sweep.driver import launch
from sweep.driver.resources import of_this_machine
from sweep.driver.screen import duration, steady_output
from sweep.search.plan import Plan, epoch_seconds, expected_epochs, plan
from sweep.search.warm import warmed
from sweep.simulation.simulate import foresee
from trainables import flags as command_line
from trainables.config import UserPath


class RunFlags(SweepConfig):
    """What `sweep/run.py` understands besides the configuration itself."""

    dry_run: bool = Field(False, description="show studies, points and the estimated cost, and run nothing")
    simulate: bool = Field(False, description="foresee wall time, use of slots and trials per rung, and run nothing")
    curves: UserPath | None = Field(None, description="folder of a sweep whose curves --simulate replays")
    resume: UserPath | None = Field(None, description="folder of an interrupted sweep to go on with")


def front_door(about: str, argv: Sequence[str] | None = None) -> None:
    """`sweep/run.py`: the program whose help begins with `about`."""
    with steady_output():
        command_line.run("sweep/run.py", lambda argv: act(read_config(RunFlags, argv, "sweep/run.py", about)), argv)


def act(flags: RunFlags) -> None:
    """Runs, resumes, simulates or plans the sweep that the flags describe. Raises ValueError."""
    config = SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields)))
    if flags.resume is not None:
        resume(flags, config)
    elif flags.simulate:
        foresee(warmed(plan(config)), flags.curves, say)
    elif flags.curves is not None:
        raise ValueError(f"--curves {flags.curves}: means something only with --simulate; add it")
    elif flags.dry_run:
        show_plan(config)
    else:
        conclude(launch.start(config, say), tracking_uri=config.tracking_uri, address=config.address)


main = from_flags(RunFlags, act)


def resume(flags: RunFlags, config: SweepConfig) -> None:
    """Goes on with a sweep as it was configured. Raises ValueError for flags that would change it."""
    if changing := flags.model_fields_set - {"resume", "tracking_uri", "address"}:
        raise ValueError(
            f"--resume goes on with a sweep as it was configured, got {', '.join(sorted(changing))} as well; "
            "only --tracking-uri and --address may be given with it"
        )
    where = {"tracking_uri": config.tracking_uri, "address": config.address}
    conclude(launch.resume(flags.resume, say, **where), **where)


def show_plan(config: SweepConfig) -> None:
    """Studies, points, ranges and an estimate of the cost, measured by a few steps of each hand-tuned point."""
    planned = warmed(plan(config))
    for line in planned.readings():
        say(line)
    resources = of_this_machine(config) if config.address is None else None
    device = "cuda" if resources and resources.gpus else "cpu"
    seconds = epoch_seconds(planned, device)
    for study in planned.studies:
        spec = study.spec
        budget = f"{spec.budget_epochs} epochs in trials" if spec.count is None else f"{spec.count} trials"
        say(f"{study.name}: {budget} of up to {spec.epochs} epochs, rungs {planned.rungs}")
        for i, point in enumerate(spec.space.paper[: spec.trials]):
            values = ", ".join(f"{name} = {value}" for name, value in point.values.items())
            say(f"  trial {i}: {values}\n           {point.source}")
        if warm := ", ".join(point.source for point in spec.warm):
            say(f"  then: {warm}")
        searched = {name: d for name, d in spec.space.dimensions.items() if "value" not in d.to_record()}
        for name, dimension in searched.items():
            say(f"  searched: {name} in {dimension}")
    show_cost(planned, seconds, resources.slots if resources else None)


def show_cost(planned: Plan, seconds: dict[str, float], slots: int | None) -> None:
    specs = [study.spec for study in planned.studies]
    epochs = sum(spec.most_epochs for spec in specs)
    training = sum(seconds[spec.study] * spec.most_epochs for spec in specs)
    trials = sum(spec.count or round(spec.budget_epochs / expected_epochs(planned)) for spec in specs)
    say(
        f"{len(specs)} studies, {epochs} epochs, about {trials} trials if halving stops as many as it aims to; "
        f"training alone about {duration(training)} of trial time"
    )
    if planned.config.seconds_per_study is not None:
        limit = duration(planned.config.seconds_per_study)
        say(f"a study begins no more trials once its own have trained and been evaluated for {limit}")
    if slots:
        say(f"on this machine, {slots} at a time: about {duration(training / slots)}, plus evaluations")
    if planned.config.confirm:
        trainings, cost = confirmation_cost(planned, seconds)
        say(f"then, to confirm: at most {trainings} trainings to the end, about {duration(cost)} of trial time")


def confirmation_cost(planned: Plan, seconds: dict[str, float]) -> tuple[int, float]:
    """How many trainings the confirmation of a sweep takes at most, and their seconds in all, by those of an epoch of
    each study's hand-tuned point."""
    config = planned.config
    each = (1 + config.confirm_top) * config.confirm_seeds
    cost = 0.0
    for study in planned.studies:
        data = planned.splits[study.dataset]
        grown = (len(data.train) + len(data.valid)) / len(data.train)  # validation images are trained on as well
        cost += each * config.epochs * seconds[study.name] * grown
    return each * len(planned.studies), cost
