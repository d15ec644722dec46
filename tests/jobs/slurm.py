"""A Slurm of two nodes on this machine: munged, slurmctld and two slurmd, on the loopback interface. Linux, as root.

All that they keep is in the folder that is given. Each daemon is killed with the process of the tests, however that
ends; what jobs have started is known by its environment, and killed at the end.
"""

import contextlib
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time

import psutil

RED, BLUE = NODES = ("red", "blue")
CPUS = 4  # of each node, whatever this machine has
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "setpriv")
PACKAGES = "slurmctld slurmd slurm-client munge"
START_SECONDS = 60.0
SBIN = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
NODE = "DISTSOFTMAX_TEST_NODE"  # in the environment of a node's slurmd, and of what manages its steps
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdTimeout=300
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus}
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""


def missing():
    """Return why there can be no Slurm here; empty where there can."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "a Slurm of its own takes Linux, and root"
    absent = [name for name in NEEDED if shutil.which(name, path=SBIN) is None]
    return f"a Slurm of its own takes {', '.join(absent)}: apt-get install {PACKAGES}" if absent else ""


class Slurm:
    """The daemons, and the commands that talk to them. Used as a context.

    Parameters
    ----------
    folder : Path
        For configuration, state and logs. Its path is short: a Unix socket's may have 107 bytes.
    """

    def __init__(self, folder):
        self._folder = folder
        self._configuration = folder / "slurm.conf"
        self._daemons = {}
        # nothing of a Slurm in which the tests themselves may run
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        self.environment = {**clean, "SLURM_CONF": str(self._configuration)}

    def __enter__(self):
        try:
            self._write_files()
            files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "seed"}
            options = [f"--{name}={self._folder / file}" for name, file in files.items()]
            self._start("munged", "munged", "--foreground", "--force", *options)
            self._wait_for((self._folder / "munge.socket").exists, "munged")
            self._start("slurmctld", "slurmctld", "-D", "-c")
            for node in NODES:
                self._start_node(node)
            self._wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        deadline = time.monotonic() + START_SECONDS
        while remaining := self._processes("SLURM_CONF", str(self._configuration)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"these processes do not end: {remaining}")
            _kill(remaining)
            time.sleep(0.05)
        for daemon in self._daemons.values():
            daemon.wait()

    def run(self, *words, check=True, **options):
        """Run a command of Slurm, and return what it prints."""
        words = [str(word) for word in words]
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False, **options
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def submit(self, script, *arguments, cwd, environment, options):
        """Submit a script from a folder; return the job's number."""
        names = {**self.environment, **environment}
        words = ["sbatch", "--parsable", *options, script, *arguments]
        return subprocess.check_output([str(word) for word in words], cwd=cwd, env=names, text=True).strip()

    def state(self, job):
        """Return the state of a job; of an array those of its tasks."""
        fields = self.run("scontrol", "--oneliner", "show", "job", job).split()
        states = [field.removeprefix("JobState=") for field in fields if field.startswith("JobState=")]
        return " ".join(sorted(set(states)))

    def has_ended(self, job):
        return all(state in ENDED for state in self.state(job).split())

    def nodes_of(self, job):
        """Return the names of a job's nodes; the script runs on the first."""
        return self.run("squeue", "--noheader", "--jobs", job, "--format", "%N").split(",")

    def start_again(self, job):
        """Let a job that was requeued start soon: Slurm makes it wait for two minutes.

        Not in the second in which it has ended: its slurmd would take that for a start that was revoked.
        """
        self._wait_for(lambda: self.state(job) == "PENDING", f"job {job} to be requeued")
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+2")

    @contextlib.contextmanager
    def lost(self, node):
        """Take a node away, as if its power had failed: nobody tells slurmctld. At the end it is back."""
        while remaining := self._processes(NODE, node) + self._processes("SLURMD_NODENAME", node):
            _kill(remaining)
            time.sleep(0.02)
        try:
            yield
        finally:
            self._daemons.pop(node).wait()
            self._start_node(node)
            self._wait_for_nodes()

    def processes_of(self, job, name):
        """Return the processes of a job with this name, the oldest first."""
        processes = [process for process in self._processes("SLURM_JOB_ID", job) if _name(process) == name]
        return sorted(processes, key=lambda process: process.pid)

    def _processes(self, name, text):
        """Return the processes of this Slurm that have this in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if environment.get("SLURM_CONF") == str(self._configuration) and environment.get(name) == text:
                    found.append(process)
        return found

    def _write_files(self):
        key = self._folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        (self._folder / "state").mkdir()
        for node in NODES:
            (self._folder / f"spool-{node}").mkdir()
        host = os.uname().nodename.partition(".")[0]
        values = {"folder": self._folder, "host": host, "ports": _free_ports(3), "nodes": NODES, "cpus": CPUS}
        self._configuration.write_text(CONFIGURATION.format(**values))

    def _start_node(self, node):
        self._start(node, "slurmd", "-D", "-N", node, environment={NODE: node})

    def _start(self, name, *words, environment=None):
        with (self._folder / f"{name}.out").open("w") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**self.environment, "PATH": SBIN, **(environment or {})},
                start_new_session=True,
            )

    def _wait_for_nodes(self):
        words = ["sinfo", "--noheader", "--partition=main", "--format=%D %t"]
        self._wait_for(lambda: self.run(*words, check=False) == f"{len(NODES)} idle", "all nodes to be idle")

    def _wait_for(self, condition, what):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = [f"{path.name}: {path.read_text()[-2000:]}" for path in self._folder.glob("*.out")]
                raise TimeoutError("\n".join([f"waited in vain for {what}", *logs]))
            time.sleep(0.05)


def _free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def _kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def _name(process):
    try:
        return process.name()
    except psutil.Error:
        return None
