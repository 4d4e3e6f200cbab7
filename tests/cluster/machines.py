"""Machines made of namespaces: own address, own processes, own disk over the host's files, and a switch between them.

All of it lives in the namespaces of the process that makes it (see `rehearse.py`): nothing is reachable from outside,
and when that process ends, however it ends, the kernel takes everything away.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
USER = "ubuntu"  # the only account of a machine; root under another name and with another home
NETWORK = "10.77.0"

BOOT = """
set -e
hostname {name}
ip link set lo up
read -r  # until its cable is plugged in
ip link set eth0 up
ip address add {address}/24 dev eth0
ip route add default via {network}.254  # nobody there; but Ray finds out its own address by looking at its routes

mount -t tmpfs disk {disk}
mkdir {disk}/written {disk}/work {disk}/root
mount -t overlay overlay -o lowerdir=/,upperdir={disk}/written,workdir={disk}/work {disk}/root
cd {disk}/root
mount --rbind /dev dev
mount -t tmpfs shm dev/shm
mount -t tmpfs run run
mount -t proc proc proc
mount -t tmpfs tmp tmp
for folder in {visible}; do mkdir -p .$folder; mount --bind $folder .$folder; done
mkdir -p shared home/{user} run/sshd
mount --bind {shared} shared
ln -s {prefix} home/{user}/venv
cp -r {ssh} home/{user}/.ssh
chmod 700 home/{user} home/{user}/.ssh
echo '{user}:x:0:0::/home/{user}:/bin/bash' > etc/passwd
echo 'sshd:x:99:99::/run/sshd:/bin/false' >> etc/passwd
echo '{user}:*:::::::' > etc/shadow
rm -f etc/resolv.conf
touch etc/resolv.conf
echo '127.0.0.1 localhost {name}' > etc/hosts
exec chroot . /bin/bash -c '{serve}; sleep infinity & wait'  # bash, as process 1, buries orphans
"""

SSHD = "/usr/sbin/sshd -f /dev/null -h $HOME/.ssh/id_ed25519 -o UsePAM=no -o UseDNS=no -o PasswordAuthentication=no"


class Machine:
    """One machine, switched on. `serve` is what it starts by itself."""

    def __init__(self, name: str, number: int, work: Path, serve: str):
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.cable = f"to-{name}"
        disk = work / name
        disk.mkdir()
        # Python and the repository may lie where a machine has something of its own, or on another disk of the host.
        visible = {str(path) for path in (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix))}
        home = f"/home/{USER}"
        self.environment = {
            "HOME": home, "USER": USER, "LANG": "C.UTF-8", "TERM": "dumb", "RAY_AUTH_MODE": "token",
            "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }  # fmt: skip
        boot = BOOT.format(
            name=name, address=self.address, network=NETWORK, disk=disk, user=USER, serve=serve, prefix=sys.prefix,
            visible=shlex.join(sorted(visible)), shared=work / "shared", ssh=work / "ssh",
        )  # fmt: skip
        self.shell = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "bash", "-c", boot],
            env=self.environment, stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first = self._first_process()
        self._plug_in()

    def _first_process(self) -> int:
        children = Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/children")
        while self.shell.poll() is None:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not start")

    def _plug_in(self) -> None:
        far = ["peer", "name", "eth0", "netns", str(self.first)]
        call("ip", "link", "add", self.cable, "type", "veth", *far)
        call("ip", "link", "set", self.cable, "master", "switch", "up")
        self.shell.stdin.write("\n")
        self.shell.stdin.flush()
        while Path(f"/proc/{self.first}/root").readlink() == Path("/"):  # until it has a disk of its own
            time.sleep(0.05)

    def start(self, *command: str, **options) -> subprocess.Popen:
        """A command on this machine, in the repository."""
        enter = ["nsenter", "--target", str(self.first), "--all", "--root", "env", "-C", str(REPOSITORY)]
        return subprocess.Popen([*enter, *command], env=self.environment, stdin=subprocess.DEVNULL, **options)

    def run(self, *command: str, seconds: float = 600, **options) -> str:
        """The same, and what it prints on stdout if that is a pipe. Raises CalledProcessError if it fails."""
        program = self.start(*command, text=True, **options)
        output, _ = program.communicate(timeout=seconds)
        if program.returncode:
            raise subprocess.CalledProcessError(program.returncode, command)
        return output

    def lose_power(self) -> None:
        """All its processes end at once."""
        os.kill(self.first, signal.SIGKILL)
        self.shell.wait()

    def cut_off(self) -> None:
        """Its cable is pulled: it goes on, and nobody hears of it."""
        call("ip", "link", "set", self.cable, "down")

    def plug_in_again(self) -> None:
        """Its cable is plugged in again: it is heard again, with what it did alone."""
        call("ip", "link", "set", self.cable, "up")


def switch_on() -> None:
    """The switch between all machines."""
    call("ip", "link", "add", "switch", "type", "bridge")
    call("ip", "link", "set", "switch", "up")


def call(*command: str) -> None:
    subprocess.run(command, check=True)
