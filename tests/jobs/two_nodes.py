"""Nodes and a machine to log in on, joined by a switch: network namespaces of Linux, and a sshd on each node.

Each has its own host name, processes, memory (/dev/shm) and disk (/var/tmp, TMPDIR); all share the rest of the file
system, as by NFS. The first process of each ends with the process of the tests, however that ends, and everything goes
with it. Nothing outside is touched: no interface, no file but those in the folder that is given, no configuration.
"""

import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LOGIN, RED, BLUE, GREEN = "login", "red", "blue", "green"
ADDRESSES = {LOGIN: "10.77.0.1", RED: "10.77.0.2", BLUE: "10.77.0.3", GREEN: "10.77.0.4"}
NEEDED = ("sshd", "ssh", "ssh-keygen", "ip", "tc", "nsenter", "unshare", "setpriv")
START_SECONDS = 30.0
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
OPTIONS = ("PYTHONPATH", "OMPI_", "PRTE_", "HYDRA_", "DISTSOFTMAX_")  # of the environment, which the nodes have, too

# what the first process of each does: own mounts, a network device of its own for itself, and that others may begin
COMMON = """
set -e
hostname {name}
for folder in /run /dev/shm /var/tmp; do mount -t tmpfs tmpfs $folder; done
mkdir /run/sshd
mount --bind {folder}/hosts /etc/hosts
ip link set lo up
"""
SWITCH = """
ip link add switch type bridge
ip address add {address}/24 dev switch
ip link set switch up
touch {folder}/{name}.up
exec sleep infinity
"""
NODE = """
touch {folder}/{name}.up
until ip link set eth0 up 2>/dev/null; do sleep 0.01; done
ip address add {address}/24 dev eth0
exec {sshd} -D -e -f {folder}/sshd_config 2>{folder}/{name}.sshd
"""
SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv {environment}
"""
SSH = """
Host *
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {folder}/known_hosts
"""


def missing():
    """Return why there can be no nodes here; empty where there can."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "two nodes take Linux, and root"
    absent = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
    if absent:
        return f"two nodes take {', '.join(absent)}"
    bridge = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "ip", "link", "add", "probe", "type", "bridge"]
    tried = subprocess.run(bridge, env={**os.environ, "PATH": SBIN}, capture_output=True, text=True, check=False)
    return f"two nodes take namespaces and a bridge: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Node:
    """One of them: its name, and the number of its first process."""

    name: str
    pid: int

    def ranks(self):
        """Return the ranks that run on it, by their number at the start."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                rank = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK"))
                if rank is not None and "distsoftmax.train" in process.cmdline():
                    found[int(rank)] = process
        return dict(sorted(found.items()))

    def processes(self):
        """Return all that run on it."""
        own = _namespace(self.pid)
        return [process for process in psutil.process_iter() if own and _namespace(process.pid) == own]

    def lose(self):
        """Take it away, with all that runs on it, its memory and its disk."""
        os.kill(self.pid, signal.SIGKILL)


class Cluster:
    """All of them. Used as a context.

    Parameters
    ----------
    folder : Path
        For keys, configuration and logs.
    names : sequence of str
        Of the nodes.
    bare : bool
        Whether those who log in find nothing of the environment of the tests.
    """

    def __init__(self, folder, names=(RED, BLUE), *, bare=False):
        self._folder = folder
        self._names = names
        self._bare = bare
        self._first = []
        self._all = {}

    def __enter__(self):
        try:
            self._write_files()
            self._all = {name: Node(name, self._start(name)) for name in (LOGIN, *self._names)}
            for name in self._names:
                self._plug_in(name)
            for name in self._names:
                self._wait_for_sshd(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for process in self._first:
            process.kill()  # its only child, the first process, is killed with it
            process.wait()

    def __getitem__(self, name):
        return self._all[name]

    @property
    def nodes(self):
        """Those that ranks run on."""
        return [self[name] for name in self._names]

    def ranks(self):
        """Return the ranks of all, by their number at the start."""
        return {number: rank for node in self.nodes for number, rank in node.ranks().items()}

    def command(self, *words, cwd):
        """Return the words that start a command on the machine to log in on, with this ssh first on the PATH."""
        path = f"{self._folder}/bin:{os.environ['PATH']}"
        inside = ["env", f"--chdir={cwd}", f"PATH={path}", "TMPDIR=/var/tmp", *map(str, words)]
        target = str(self._all[LOGIN].pid)
        return ["nsenter", "--target", target, "--mount", "--uts", "--net", "--pid", "--", *inside]

    @contextlib.contextmanager
    def ending_after(self, seconds):
        """Let everything end when the block is not through by then."""
        timer = threading.Timer(seconds, self.__exit__)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def pull_the_cable(self, name):
        """Disconnect a node at the switch. It goes on by itself."""
        self._in(LOGIN, "ip", "link", "set", name, "down")

    def limit(self, rate):
        """Let each node send no faster than a rate, in the words of `tc tbf`, such as 100mbit."""
        for name in self._names:
            words = ["dev", "eth0", "root", "tbf", "rate", rate, "burst", "4kb", "latency", "50ms"]
            self._in(name, "tc", "qdisc", "replace", *words)

    def hide(self, name, folder):
        """Let a node see an empty folder in place of one that all share."""
        self._in(name, "mount", "-t", "tmpfs", "tmpfs", str(folder))

    def _in(self, name, *words):
        inside = ["nsenter", "--target", str(self._all[name].pid), "--mount", "--uts", "--net", "--"]
        return subprocess.run([*inside, *words], env={**os.environ, "PATH": SBIN}, capture_output=True, check=True)

    def _write_files(self):
        folder = self._folder
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        hosts = [f"{address} {name}\n" for name, address in ADDRESSES.items()]
        (folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *hosts]))
        public = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text("".join(f"{name} {public}" for name in ADDRESSES))
        environment = {"TMPDIR": "/var/tmp", "HOME": "/var/tmp"}
        if not self._bare:
            environment |= {name: text for name, text in os.environ.items() if name.startswith((*OPTIONS, "PATH"))}
        words = " ".join(f'"{name}={text}"' for name, text in environment.items())
        (folder / "sshd_config").write_text(SSHD.format(folder=folder, environment=words))
        (folder / "ssh_config").write_text(SSH.format(folder=folder))
        (folder / "bin").mkdir()
        ssh = folder / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(folder / "ssh_config"))} "$@"\n')
        ssh.chmod(0o755)

    def _start(self, name):
        """Start the first process, and return its number."""
        values = {
            "folder": self._folder,
            "name": name,
            "address": ADDRESSES[name],
            "sshd": shutil.which("sshd", path=SBIN),
        }
        script = (COMMON + (SWITCH if name == LOGIN else NODE)).format(**values)
        unshare = ["unshare", "--mount", "--uts", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
        with (self._folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *unshare, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": SBIN},
                start_new_session=True,
            )
        self._first.append(process)
        self._wait_for((self._folder / f"{name}.up").exists, name)
        (child,) = psutil.Process(process.pid).children()
        return child.pid

    def _plug_in(self, name):
        target = str(self._all[name].pid)
        self._in(LOGIN, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", target)
        self._in(LOGIN, "ip", "link", "set", name, "master", "switch", "up")

    def _wait_for_sshd(self, name):
        words = self.command("ssh", "-o", "ConnectTimeout=1", name, "true", cwd="/")
        self._wait_for(lambda: subprocess.run(words, capture_output=True, check=False).returncode == 0, name)

    def _wait_for(self, condition, name):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text() for path in self._folder.glob(f"{name}.*")]
                raise TimeoutError(f"{name} does not start:\n{''.join(logs)}")
            time.sleep(0.02)


def _namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return None


def main():
    """Start a command on the machine to log in on: python two_nodes.py FOLDER COMMAND..."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    with Cluster(folder) as cluster:
        words = cluster.command(*sys.argv[2:], cwd=os.getcwd())
        sys.exit(subprocess.run(words, check=False).returncode)


if __name__ == "__main__":
    main()
