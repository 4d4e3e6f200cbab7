"""Run a sweep; the same as `sweep/run.py`."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from analysis.page.names import counted
from sweep.commands._ending import conclude, say
from sweep.config import SweepConfig, from_flags, read_config
from sweep.driver import launch
from sweep.driver.resources import of_this_machine
from sweep.driver.screen import duration, steady_output
from sweep.driver.shares import choose_share, needs_of, own_gpus
from sweep.search.plan import Plan, epoch_seconds, expected_epochs, plan
from sweep.search.warm import warmed
from sweep.simulation.simulate import foresee
from trainables import flags as command_line
from trainables.config import UserPath
from trainables.datasets import refuse_identical
from trainables.memory import readable
from trainables.metrics import needs_inception


class RunFlags(SweepConfig):
    """The flags of `sweep/run.py` in addition to the configuration."""

    dry_run: bool = Field(False, description="show studies, points and the estimated cost without running")
    simulate: bool = Field(False, description="simulate wall time, utilisation and trials per rung without training")
    curves: UserPath | None = Field(None, description="folder of a sweep whose curves --simulate replays")
    resume: UserPath | None = Field(None, description="folder of an interrupted sweep to continue")
    resume_if_exists: bool = Field(
        False, description="resume the sweep --name if it exists with the same configuration, else start it"
    )


def front_door(about: str, argv: Sequence[str] | None = None) -> None:
    """Run the program `sweep/run.py`; its help begins with `about`."""
    with steady_output():
        command_line.run("sweep/run.py", lambda argv: act(read_config(RunFlags, argv, "sweep/run.py", about)), argv)


def act(flags: RunFlags) -> None:
    """Run, resume, simulate or plan the sweep that the flags describe. Raises ValueError."""
    config = SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields), exclude_unset=True))
    if flags.resume is not None:
        resume(flags.resume, flags, config)
    elif flags.simulate:
        foresee(warmed(plan(config)), flags.curves, say)
    elif flags.curves is not None:
        raise ValueError(f"--curves {flags.curves} requires --simulate; add it")
    elif flags.dry_run:
        show_plan(config)
    else:
        begin = launch.start_or_resume if flags.resume_if_exists else launch.start
        conclude(begin(config, say), tracking_uri=config.tracking_uri, address=config.address)


main = from_flags(RunFlags, act)


def resume(folder: Path, flags: RunFlags, config: SweepConfig) -> None:
    """Continue a sweep as it was configured. Raises ValueError for flags that would change it."""
    if changing := flags.model_fields_set - {"resume", "tracking_uri", "address"}:
        raise ValueError(
            f"--resume continues a sweep as configured and allows only --tracking-uri and --address, got "
            f"{', '.join(sorted(changing))}"
        )
    where = {"tracking_uri": config.tracking_uri, "address": config.address}
    conclude(launch.resume(folder, say, **where), **where)


def show_plan(config: SweepConfig) -> None:
    """Show studies, points, ranges and the cost, estimated by a few steps of each hand-tuned point."""
    planned = warmed(plan(config))
    weights = weights_of_fid(planned)
    for data in planned.splits.values():
        refuse_identical(data, ("train", config.split))
    for line in planned.readings():
        say(line)
    resources, gpus = None, own_gpus()
    if config.address is None:
        resources = of_this_machine(config, choose_share(planned, gpus, say))
    device = "cuda" if resources and resources.gpus else "cpu"
    seconds, memory = epoch_seconds(planned, device), {need.study: need for need in needs_of(planned)}
    for study in planned.studies:
        spec = study.spec
        budget = f"{spec.budget_epochs} epochs in trials" if spec.count is None else f"{spec.count} trials"
        say(f"{study.name}: {budget} of up to {counted(spec.epochs, 'epoch')}, rungs {planned.rungs or 'none'}")
        for i, point in enumerate(spec.space.paper[: spec.trials]):
            values = ", ".join(f"{name} = {value}" for name, value in point.values.items())
            say(f"  trial {i}: {values}\n           {point.source}")
        if warm := ", ".join(point.source for point in spec.warm):
            say(f"  then: {warm}")
        if probes := ", ".join(f"{name} x {factor:g}" for name, factor in spec.probes):
            say(f"  probes of the best point: {probes}")
        say(f"  memory: {memory[study.name]}")
        searched = {name: d for name, d in spec.space.dimensions.items() if "value" not in d.to_record()}
        for name, dimension in searched.items():
            scale = " (log scale)" if dimension.to_record().get("log") else ""
            say(f"  searched: {name} in {dimension}{scale}")
    if resources and resources.gpus:
        say(f"memory per trial: {resources.gpus:g} of a GPU, {readable(resources.gpus * gpus[0])} of the smallest")
    show_disk(planned)
    if weights is not None:
        say(weights)
    show_cost(planned, seconds, resources.slots if resources else None)


def show_disk(planned: Plan) -> None:
    """Show what trained models, and the checkpoints of paused trials, take on disk."""
    config, memory = planned.config, planned.footprints
    kept = sum((config.keep + 1) * memory[study.name].network for study in planned.studies)
    size = min(kept, config.keep_bytes) / 1e6
    say(f"kept models: about {size:.3g} MB in {config.out} at the size of the hand-tuned points")
    searching = [study for study in planned.studies if study.spec.count is None and planned.rungs]
    trials = [study.spec.most_epochs / expected_epochs(planned) for study in searching]
    # A checkpoint holds the network and two moments of Adam; the optimiser's bytes include gradients instead.
    paused = sum(n * memory[study.name].optimiser for n, study in zip(trials, searching, strict=True)) / 1e6
    if paused:
        say(f"checkpoints of paused trials: at most about {paused:.3g} MB until their study ends")


def weights_of_fid(planned: Plan) -> str | None:
    """Return where the weights of the FID's network are, or None if no study needs them.

    Raises ValueError if --fid-weights names no file.
    """
    if not any(needs_inception(planned.metric_of(study.dataset)) for study in planned.studies):
        return None
    from trainables.metrics.inception import hub_file, refuse_missing  # torchvision takes seconds to import

    given = planned.config.fid_weights
    if given is not None:
        refuse_missing(given)
    file = given or hub_file()
    return f"weights of the FID: {file}{'' if file.is_file() else ', to be downloaded when the sweep starts'}"


def show_cost(planned: Plan, seconds: dict[str, float], slots: int | None) -> None:
    specs = [study.spec for study in planned.studies]
    epochs = sum(spec.most_epochs for spec in specs)
    training = sum(seconds[spec.study] * spec.most_epochs for spec in specs)
    trials = sum(spec.count or round(spec.most_epochs / expected_epochs(planned)) for spec in specs)
    say(
        f"{counted(len(specs), 'study')}, {counted(epochs, 'epoch')}, "
        f"about {trials} trials if halving stops the expected number; "
        f"training takes about {duration(training)} of trial time"
    )
    if planned.config.seconds_per_study is not None:
        limit = duration(planned.config.seconds_per_study)
        say(f"a study ends earlier once it has used {limit} of training and evaluation")
    if slots:
        say(f"on this machine with {slots} concurrent trials: about {duration(training / slots)}, plus evaluations")
    if planned.config.confirm:
        trainings, cost = confirmation_cost(planned, seconds)
        say(f"then the confirmation: at most {trainings} full trainings, about {duration(cost)} of trial time")


def confirmation_cost(planned: Plan, seconds: dict[str, float]) -> tuple[int, float]:
    """Return the maximum number of trainings of a confirmation and their total seconds, estimated from the seconds per
    epoch of each study's hand-tuned point."""
    config = planned.config
    folds = config.confirm_folds
    each = (1 + config.confirm_top) * (folds or config.confirm_seeds[-1])
    cost = 0.0
    for study in planned.studies:
        data = planned.splits[study.dataset]
        trained = len(data.train) if folds is None else (len(data.train) + len(data.test)) * (1 - 1 / folds)
        grown = (trained + len(data.valid)) / len(data.train)  # confirmation also trains on validation images
        cost += each * config.epochs * seconds[study.name] * grown
    return each * len(planned.studies), cost
