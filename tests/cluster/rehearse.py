"""A sweep on a cluster, for real: `doctor`, `ray up`, `ray submit`, a worker lost on the way, `ray down`.

    sudo .venv/bin/python tests/cluster/rehearse.py [--lose nobody|power|cable] [--heal early|late] [--job]

With --job, `ray job submit` starts the sweep; the job is stopped midway, and the same command resumes the sweep.

A laptop, a head and two uneven workers, each with its own address, processes and disk, made of namespaces on this
machine (Linux; Debian's iproute2, openssh-server, rsync and curl); cluster.local.yaml as it stands but for addresses
and pip. Some minutes. Nothing listens outside the namespaces, and nothing stays behind.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from machines import REPOSITORY, SSHD, USER, Machine, switch_on

from sweep.record import Event, read

TRIALS = 7
CPUS = {"worker-1": 2, "worker-2": 3}  # that a worker says it has
PLACES = sum(CPUS.values())
SECONDS_WITHOUT_CABLE = 20  # before it is plugged in early; Ray gives a node up after about a minute
ABOUT = [
    "--address", "auto", "--out", "/shared/sweeps", "--data-root", "/shared/data",
    "--tracking-uri", "http://127.0.0.1:5000",
]  # fmt: skip
DASHBOARD = "http://127.0.0.1:8265"
RUN = 'source ~/.bashrc; cd ~/autoencoder-sweep && exec python sweep/run.py "$@"'
FLAGS = [
    *ABOUT, "--name", "rehearsal", "--methods", "vae", "--searcher", "none", "--trials", TRIALS, "--epochs", 300,
    "--set", "network=mlp_8", "latent_dim=2", "--samples", 100, "--concurrent", PLACES, "--cpus-per-trial", 1,
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lose", choices=["nobody", "power", "cable"], default="power", help="of a worker, midway")
    parser.add_argument(
        "--heal", choices=["early", "late"],
        help=f"plug the cable in again after {SECONDS_WITHOUT_CABLE} s, or once the worker's trials are lost",
    )  # fmt: skip
    parser.add_argument("--job", action="store_true", help="start the sweep by `ray job submit`")
    flags = parser.parse_args()
    if flags.heal and flags.lose != "cable":
        parser.error("--heal needs --lose cable")
    if os.environ.get("REHEARSAL") != "inside":
        missing = [
            tool for tool in ("unshare", "nsenter", "ip", "ssh", "rsync", SSHD.split()[0]) if not shutil.which(tool)
        ]
        if os.geteuid() != 0 or missing:
            sys.exit(f"needs root (for namespaces){', and ' + ', '.join(missing) if missing else ''}")
        own = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvpe(own[0], [*own, sys.executable, *sys.argv], os.environ | {"REHEARSAL": "inside"})
    with folder() as work:
        rehearse(work, flags.lose, flags.heal, flags.job)


@contextmanager
def folder() -> Iterator[Path]:
    """What the machines share, and the points where their disks are mounted."""
    work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    subprocess.run(["mount", "-t", "tmpfs", "rehearsal", work], check=True)  # seen in our namespace only
    try:
        yield work
    finally:
        os.chdir("/")
        subprocess.run(["umount", "--lazy", work], check=True)
        work.rmdir()


def rehearse(work: Path, lose: str, heal: str | None, job: bool) -> None:
    (work / "shared").mkdir()
    (work / "ssh").mkdir()
    key = work / "ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shutil.copy(f"{key}.pub", work / "ssh" / "authorized_keys")
    switch_on()
    laptop = Machine("laptop", 1, work, ":")
    head, *workers = (Machine(name, 10 + i, work, SSHD) for i, name in enumerate(["head", "worker-1", "worker-2"]))

    cluster = work / "shared" / "cluster.yaml"
    cluster.write_text(yaml.safe_dump(for_these(head, workers)))
    step("ray get-auth-token --generate")
    laptop.run("ray", "get-auth-token", "--generate", stdout=subprocess.DEVNULL)
    laptop.run("bash", "-c", "chmod 600 ~/.ray/auth_token")
    step("doctor, before")
    examine(laptop, "/shared/cluster.yaml")
    step("ray up")
    laptop.run("ray", "up", "-y", "--no-config-cache", "/shared/cluster.yaml")
    step("doctor, of every node")
    wait_until(lambda: "3 nodes" in doctor(head, *ABOUT)[1], 600)
    examine(head, *ABOUT)
    forgotten = f"/home/{USER}/autoencoder-sweep/sweep/search/plan.py"
    workers[1].run("sed", "-i", "$ a # an older version", forgotten)
    code, words = doctor(head, *ABOUT)
    (bad,) = (line for line in words.splitlines() if line.startswith("bad"))
    assert code == 2 and bad.split()[1] == "worker-2" and "run ray up again" in bad, words
    workers[1].run("sed", "-i", "$ d", forgotten)
    record = work / "shared" / "sweeps" / "rehearsal" / "record.jsonl"
    sweep = submit_job(laptop, record) if job else submit(laptop)
    try:
        if lose != "nobody":
            wait_until(lambda: all_at_work(record), 1800, sweep)
            step(f"worker-1 loses its {lose}")
            workers[0].lose_power() if lose == "power" else workers[0].cut_off()
        if heal == "early":
            time.sleep(SECONDS_WITHOUT_CABLE)
            step("worker-1 gets its cable back")
            workers[0].plug_in_again()
        if heal == "late":
            wait_until(lambda: len(of(record, "lost")) == CPUS["worker-1"], 1800, sweep)
            print("worker-1 alone:", "trains" if trials_on(workers[0]) else "has ended its trials")
            step("worker-1 gets its cable back")
            workers[0].plug_in_again()
            wait_until(lambda: not trials_on(workers[0]), 600, sweep)
            step("worker-1 has ended the lost trials")
        if code := sweep.wait(3600):
            sys.exit(f"the sweep ended with exit code {code}")
    finally:
        sweep.kill()
    lost = 0 if lose == "nobody" or heal == "early" else CPUS["worker-1"]
    found = verify(record, head, lost, again=PLACES if job else 0)
    step("ray down")
    laptop.run("ray", "down", "-y", "/shared/cluster.yaml")
    for machine in (head, *workers[0 if heal else 1 :]):
        wait_until(lambda machine=machine: not rays_on(machine), 600)
    step(f"done: {found}")


def submit(laptop: Machine) -> subprocess.Popen:
    step("ray submit")
    command = ["ray", "submit", "--no-config-cache", "/shared/cluster.yaml", "sweep/run.py", "--"]
    return laptop.start(*command, *map(str, FLAGS))


def submit_job(laptop: Machine, record: Path) -> subprocess.Popen:
    """Runs the sweep as a job, stops it midway, and returns the command that runs it again, which must resume it."""
    laptop.start("ray", "exec", "--no-config-cache", "--port-forward", "8265", "/shared/cluster.yaml", "sleep infinity")
    wait_until(lambda: laptop.start("curl", "-s", "-o", "/dev/null", DASHBOARD).wait() == 0, 60)

    def submitted(name: str) -> subprocess.Popen:
        step(f"ray job submit, {name}")
        command = ["ray", "job", "submit", "--address", DASHBOARD, "--submission-id", name, "--"]
        sweep = ["bash", "-c", RUN, "run", "--resume-if-exists", *map(str, FLAGS)]
        return laptop.start(*command, *sweep)

    first = submitted("first")
    wait_until(lambda: all_at_work(record), 1800, first)
    step("ray job stop")
    laptop.run("ray", "job", "stop", "--address", DASHBOARD, "first")  # waits until it has ended
    return submitted("second")


def for_these(head: Machine, workers: list[Machine]) -> dict:
    """cluster.local.yaml for these machines. They have the packages already, and cannot reach a registry."""
    cluster = yaml.safe_load((REPOSITORY / "cluster.local.yaml").read_text())
    cluster["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address for worker in workers]}
    cluster["auth"]["ssh_user"] = USER
    cpus = " ".join(f"{name}) echo {number};;" for name, number in CPUS.items())
    cluster["worker_start_ray_commands"][-1] += f" --num-cpus=$(case $(hostname) in {cpus} esac)"
    (pip,) = (command for command in cluster["setup_commands"] if "pip install" in command)
    code = "echo 'export PYTHONPATH=$HOME/autoencoder-sweep' >> ~/.bashrc"
    cluster["setup_commands"] = [code if command == pip else command for command in cluster["setup_commands"]]
    return cluster


def examine(machine: Machine, *about: str) -> None:
    """Nothing may be found that would break the sweep."""
    code, words = doctor(machine, *about)
    print(words)
    assert code == 0 and "bad" not in words, words


def doctor(machine: Machine, *about: str) -> tuple[int, str]:
    """Its exit code and words, from the code that is on the machine; the laptop's is the repository's."""
    prepare = "source ~/.bashrc && cd ~/autoencoder-sweep && " if "--address" in about else ""
    ask = f'{prepare}exec python -m sweep doctor "$@"'
    program = machine.start("bash", "-c", ask, "doctor", *about, stdout=subprocess.PIPE, text=True)
    words, _ = program.communicate(timeout=600)
    return program.returncode, words


def verify(record: Path, head: Machine, lost: int, again: int) -> str:
    """What must be true after a sweep that has lost some trials' processes, and was resumed while `again` trials ran.
    Returns it in words."""
    starts, ends, finishes = of(record, "start"), of(record, "end"), of(record, "finish")
    assert finishes[-1].outcome == "done" and len(of(record, "sweep")) == (2 if again else 1)
    assert sorted(end.trial for end in ends) == [f"vae-digits-{i:04d}" for i in range(TRIALS)]
    states = Counter(end.state for end in ends)
    assert set(states) == {"complete"}, states
    hosts = Counter(end.worker["host"] for end in ends)
    assert set(hosts) <= {"worker-1", "worker-2"}, hosts  # never on the head
    repeated = {start.trial for start in starts if start.attempt > 1}
    assert max(lost, again) <= len(repeated) <= lost + again, repeated
    found = [(report.trial, row.epoch) for report in of(record, "report") for row in report.rows]
    assert len(found) == len(set(found)) == sum(end.epoch for end in ends)

    ask = """
import json
from mlflow import MlflowClient
client = MlflowClient("http://127.0.0.1:5000")
(experiment,) = [e for e in client.search_experiments() if e.name == "autoencoder-sweep"]
runs = client.search_runs([experiment.experiment_id])
rows = {r.data.tags["trial_id"]: len(client.get_metric_history(r.info.run_id, "train/loss"))
        for r in runs if "trial_id" in r.data.tags}
print(json.dumps([[r.info.status for r in runs], rows]))
"""
    answer = head.run("python", "-c", ask, stdout=subprocess.PIPE)
    statuses, rows = json.loads(answer.splitlines()[-1])
    assert len(statuses) == TRIALS + 1 and "RUNNING" not in statuses, statuses
    assert rows == {end.trial: end.epoch for end in ends}, rows
    return f"trials {dict(states)} on {dict(hosts)}, started again: {sorted(repeated)}; every epoch once in MLflow"


def of(record: Path, kind: str) -> list[Event]:
    return [event for event in read(record) if event.event == kind] if record.exists() else []


def all_at_work(record: Path) -> bool:
    """True while all places of both workers are taken by trials that have got somewhere."""
    running = {report.trial for report in of(record, "report")} - {end.trial for end in of(record, "end")}
    return len(running) == PLACES


def trials_on(machine: Machine) -> bool:
    return machine.start("pgrep", "-f", "ray::.*Trainable", stdout=subprocess.DEVNULL).wait() == 0


def rays_on(machine: Machine) -> bool:
    return machine.start("pgrep", "-f", "/raylet/raylet|/gcs/gcs_server", stdout=subprocess.DEVNULL).wait() == 0


def wait_until(holds, seconds: float, program: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until or (program and program.poll() is not None):
            sys.exit("it did not come to that")
        time.sleep(0.2)


def step(text: str) -> None:
    print(f"\n=== {time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    main()
