"""The files in launch/ without a batch system: shellcheck, the MPI Operator's schema, and PBS with stand-ins."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from distsoftmax.supervision.hosts import hosts_of, ranks_of

ROOT = Path(__file__).parents[2]

LAUNCH = ROOT / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch", ROOT / ".ci" / "run"]
STARTING = ["local.sh", "slurm.sbatch", "pbs.sh"]
TRAIN = "python -m distsoftmax.train"

# What Kubernetes and the MPI Operator (kubeflow.org/v2beta1, release 0.6) take, as far as a file of ours may use it:
# fields by name, those that must be given with a star, [x] a list of x, {str: x} a map, a set one of its items.
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
RESOURCES = {"requests": {str: QUANTITY}, "limits": {str: QUANTITY}}
PROBE = {
    "tcpSocket": {"port*": int, "host": str},
    "exec": {"command": [str]},
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
CONTAINER = {
    "name*": str,
    "image": str,
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [{"name*": str, "value": str}],
    "ports": [{"containerPort*": int, "name": str, "protocol": {"TCP", "UDP", "SCTP"}}],
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "lifecycle": {"preStop": {"exec": {"command": [str]}}, "postStart": {"exec": {"command": [str]}}},
    "resources": RESOURCES,
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "capabilities": {"add": [str], "drop": [str]},
        "privileged": bool,
        "readOnlyRootFilesystem": bool,
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
    },
    "volumeMounts": [{"name*": str, "mountPath*": str, "subPath": str, "readOnly": bool}],
}
VOLUME = {
    "name*": str,
    "persistentVolumeClaim": {"claimName*": str, "readOnly": bool},
    "emptyDir": {"medium": {"", "Memory"}, "sizeLimit": QUANTITY},
    "configMap": {"name": str, "defaultMode": int},
}
POD = {
    "containers*": [CONTAINER],
    "initContainers": [CONTAINER],
    "volumes": [VOLUME],
    "nodeSelector": {str: str},
    "serviceAccountName": str,
    "priorityClassName": str,
    "terminationGracePeriodSeconds": int,
    "securityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "fsGroup": int,
        "supplementalGroups": [int],
    },
}
METADATA = {"name": str, "namespace": str, "labels": {str: str}, "annotations": {str: str}}
REPLICAS = {
    "replicas": int,
    "restartPolicy": {"Always", "OnFailure", "Never", "ExitCode"},
    "template": {"metadata": METADATA, "spec": POD},
}
MPI_JOB = {
    "apiVersion*": {"kubeflow.org/v2beta1"},
    "kind*": {"MPIJob"},
    "metadata*": METADATA,
    "spec*": {
        "slotsPerWorker": int,
        "runLauncherAsWorker": bool,
        "sshAuthMountPath": str,
        "launcherCreationPolicy": {"AtStartup", "WaitForWorkersReady"},
        "mpiImplementation": {"OpenMPI", "Intel", "MPICH"},
        "runPolicy": {
            "cleanPodPolicy": {"None", "Running", "All"},
            "ttlSecondsAfterFinished": int,
            "activeDeadlineSeconds": int,
            "backoffLimit": int,
            "suspend": bool,
            "managedBy": str,
        },
        "mpiReplicaSpecs*": {"Launcher*": REPLICAS, "Worker*": REPLICAS},
    },
}


def mismatches(value, schema, path=""):
    """Return what of a value does not fit, each with its path."""
    if isinstance(schema, set):
        return [] if value in schema else [f"{path}: {value!r} is none of {sorted(schema)}"]
    if isinstance(schema, re.Pattern):
        fits = type(value) in (int, str) and schema.fullmatch(str(value))
        return [] if fits else [f"{path}: {value!r} is no quantity"]
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{path}: {value!r} is no {schema.__name__}"]
    if type(value) is not type(schema):
        return [f"{path}: {value!r} is no {type(schema).__name__}"]
    if isinstance(schema, list):
        found = [mismatches(item, schema[0], f"{path}[{number}]") for number, item in enumerate(value)]
        return [line for lines in found for line in lines]
    if str in schema:
        return [line for name, item in value.items() for line in mismatches(item, schema[str], f"{path}.{name}")]
    fields = {name.rstrip("*"): field for name, field in schema.items()}
    lines = [f"{path}.{name} is missing" for name in schema if name[-1] == "*" and name[:-1] not in value]
    for name, item in value.items():
        unknown = [f"{path}.{name} is no field"]
        lines += mismatches(item, fields[name], f"{path}.{name}") if name in fields else unknown
    return lines


@pytest.fixture
def job():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install -e '.[test]'")
    return yaml.safe_load((LAUNCH / "mpijob.yaml").read_text())


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install -e '.[lint]'")
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", STARTING)
def test_every_launch_script_ends_in_the_same_command_under_the_supervisor(name):
    text = (LAUNCH / name).read_text()
    (command,) = re.findall(rf"python -m distsoftmax\.supervise (?:.*\\\n)*?.*{TRAIN} .*", text)
    assert "--" in command.split()


def test_the_mpi_job_fits_the_operators_schema(job):
    assert mismatches(job, MPI_JOB) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.mpiImplementation", "MPI"),
        ("spec.slotsPerWorkers", 4),
        ("spec.slotsPerWorker", "4"),
        ("spec.runPolicy.restartPolicy", "Never"),
        ("spec.mpiReplicaSpecs.Launcher.template.spec.containers", {"name": "launcher"}),
        ("spec.mpiReplicaSpecs.Worker.template.spec.securityContext.runAsNonRoot", "true"),
        ("apiVersion", "kubeflow.org/v1"),
    ],
)
def test_what_does_not_fit_the_schema_is_found(job, path, value):
    *folders, name = path.split(".")
    inner = job
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    (line,) = mismatches(job, MPI_JOB)
    assert line.startswith(f".{path}")


def test_the_mpi_job_starts_a_rank_a_slot_and_no_process_as_root_and_keeps_results_on_a_volume(job, tmp_path):
    spec = job["spec"]
    roles = spec["mpiReplicaSpecs"]
    launcher, worker = (roles[role]["template"]["spec"] for role in ("Launcher", "Worker"))
    (container,) = launcher["containers"]
    supervise, words = " ".join(container["command"]).split(" -- ")
    words = [*words.split(), *container["args"]]
    assert supervise == "python -m distsoftmax.supervise"
    assert f" {TRAIN} " in " ".join(words)
    assert ranks_of(words) == roles["Worker"]["replicas"] * spec["slotsPerWorker"]
    assert ("-f", "/etc/mpi/hostfile") in pairwise(words)  # where the operator writes it
    (tmp_path / "hostfile").write_text("job-worker-0.job.team.svc:4\njob-worker-1.job.team.svc:4\n")
    words[words.index("-f") + 1] = str(tmp_path / "hostfile")
    assert [host.slots for host in hosts_of(words)] == [4, 4]
    (out,) = [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    for pod in (launcher, worker):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000
        (mounted,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        claims = [mount for mount in mounted["volumeMounts"] if "persistentVolumeClaim" in volumes[mount["name"]]]
        assert any(out.startswith(f"{mount['mountPath']}/") for mount in claims)


def test_the_image_has_what_the_mpi_job_starts(job):
    text = (LAUNCH / "Containerfile").read_text()
    worker = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    keys = job["spec"]["sshAuthMountPath"]
    assert f"HostKey {keys}/id_rsa" in text
    assert f">{worker['command'][-1]}" in text
    assert text.count(f"Port {worker['readinessProbe']['tcpSocket']['port']}'") == 2  # of ssh and of sshd
    assert "--uid 1000 mpiuser" in text
    sources = re.findall(r"^COPY (.*) /source", text, re.MULTILINE)
    for name in " ".join(sources).split():
        assert (ROOT / name).exists(), name


@pytest.fixture
def pbs(tmp_path):
    """Submit by pbs.sh, run what was submitted as a PBS job does, with stand-ins for PBS, mpirun and Python."""
    for folder in ("launch", "bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(LAUNCH / "pbs.sh", tmp_path / "launch")
    stand_ins = {
        "qsub": 'n=$(ls job.* 2>/dev/null | wc -l); echo "$@" >options.$n; cat >job.$n',
        "qstat": "echo '    Resource_List.walltime = 01:00:10'",
        "mpirun": "echo 'HYDRA build details:'",
        "python": 'printf "%s\\n" "$@" >words; if [ -e wait ]; then trap "exit 75" USR1; touch waits; '
        "for ((i = 0; i < 500; i++)); do sleep 0.02; done; fi; exit $(cat status)",
        "date": 'if [ "$1" = +%s ]; then echo 1000; else echo 2026-01-02-030405; fi',
    }
    for name, script in stand_ins.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
    (tmp_path / ".venv/bin/activate").touch()
    (tmp_path / "nodes").write_text("red\nred\nblue\nblue\n")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    in_job = {**environment, "PBS_JOBID": "7.server", "PBS_NODEFILE": "nodes"}

    class Pbs:
        def submit(self, *words):
            with subprocess.Popen([tmp_path / "launch" / "pbs.sh", *words], cwd=tmp_path, env=environment) as script:
                assert script.wait(60) == 0
            return f"runs/pbs-2026-01-02-030405-{script.pid}"  # the folder of a run whose options name none

        def start(self, number):
            return subprocess.Popen(["bash", tmp_path / f"job.{number}"], cwd=tmp_path, env=in_job)

        def run(self, number, status):
            (tmp_path / "status").write_text(str(status))
            return self.start(number).wait(60)

        def let_time_pass(self):
            date = tmp_path / "bin" / "date"
            date.write_text(date.read_text().replace("2026-01-02", "2026-01-03"))

        def submitted(self):
            return [(tmp_path / f"options.{number}").read_text() for number in range(len(list(tmp_path.glob("job.*"))))]

        def words(self):
            return (tmp_path / "words").read_text().splitlines()

    return Pbs()


def test_a_pbs_job_starts_a_rank_a_slot_on_its_nodes_with_a_deadline(pbs):
    out = pbs.submit(
        "-l", "select=2:ncpus=2:mpiprocs=2", "--", "--data", "a file.csv", "--features", "it's", "--out", "run"
    )
    assert pbs.submitted() == ["-N distsoftmax -r y -j oe -l select=2:ncpus=2:mpiprocs=2\n"]
    assert pbs.run(0, 0) == 0
    supervise = f"-m distsoftmax.supervise --must-advance --out {out} --"
    expected = f"{supervise} mpirun --host red:2,blue:2 -n 4 python -m distsoftmax.train --deadline 4610"
    assert pbs.words() == [*expected.split(), "--data", "a file.csv", "--features", "it's", "--out", "run"]
    assert len(pbs.submitted()) == 1


def test_a_pbs_job_that_has_stopped_early_submits_itself_again_into_the_same_folder(pbs):
    out = pbs.submit("-q", "long", "--", "--config", "options.toml")  # which may name no folder
    assert pbs.run(0, 75) == 75
    first = pbs.words()
    pbs.let_time_pass()
    assert pbs.submitted() == ["-N distsoftmax -r y -j oe -q long\n"] * 2
    assert pbs.run(1, 2) == 2
    assert pbs.words() == first
    assert first[:6] == ["-m", "distsoftmax.supervise", "--must-advance", "--out", out, "--"]
    assert len(pbs.submitted()) == 2


PYTHON = """#!/bin/bash
# in place of Python: makes an environment without packages, and tells what was done to it
case "$*" in
    *"import sys; print"*) echo "{version} /usr" ;;
    "-m venv --clear "*) echo made >>log; rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; sleep 0.3 ;;
    *"-m pip install"*) echo installed >>log; [ ! -e offline ] ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """Set up an environment in a folder that has no more of the project than that takes, with stand-ins for Python."""
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "setup.sh", tmp_path / "launch")
    (tmp_path / "pyproject.toml").touch()
    for name, version in (("python3", "3.12"), ("other", "3.13")):
        (tmp_path / name).write_text(PYTHON.format(version=version))
        (tmp_path / name).chmod(0o755)

    class Clone:
        log = tmp_path / "log"

        def start(self, folder=tmp_path, **environment):
            path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
            words = [folder / "launch" / "setup.sh"]
            return subprocess.Popen(words, cwd=folder, env=path | environment, stderr=subprocess.PIPE, text=True)

        def set_up(self, **options):
            """Return the status, what was said, and what was done."""
            before = self.done()
            process = self.start(**options)
            _, err = process.communicate(timeout=60)
            return process.returncode, err, self.done()[len(before) :]

        def done(self):
            return self.log.read_text().split() if self.log.exists() else []

    return Clone()


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock there is no lock")
def test_of_two_that_set_up_an_environment_at_once_one_does_it(clone):
    both = [clone.start(), clone.start()]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert clone.done() == ["made", "installed"]
    assert sum("setup: waiting for another one" in text for text in said) == 1


def test_an_environment_that_is_complete_is_brought_up_to_date_and_never_cleared(clone, tmp_path):
    assert clone.set_up()[::2] == (0, ["made", "installed"])
    (tmp_path / "pyproject.toml").write_text("# of another commit")
    assert clone.set_up()[::2] == (0, ["installed"])
    assert clone.set_up() == (0, "", [])


def test_an_environment_keeps_the_python_that_made_it(clone, tmp_path):
    clone.set_up()
    status, err, done = clone.set_up(PYTHON=str(tmp_path / "other"))
    assert (status, done) == (2, [])
    assert f".venv was made by another Python than {tmp_path}/other (3.13 /usr), and jobs may run from it" in err
    shutil.move(tmp_path / "other", tmp_path / "python3")  # as another node may have it
    assert clone.set_up() == (0, "", [])
    (tmp_path / ".venv" / "bin" / "python").unlink()  # as where the node lacks that interpreter
    assert clone.set_up()[::2] == (2, [])


def test_an_environment_whose_own_python_was_renewed_is_brought_up_to_date(clone, tmp_path):
    """As by an update of the system: there is no other Python to name."""
    clone.set_up()
    (tmp_path / ".venv" / "bin" / "python").write_text(PYTHON.format(version="3.12.1"))
    assert clone.set_up()[::2] == (0, ["installed"])
    assert clone.set_up() == (0, "", [])


def test_an_environment_that_is_not_complete_or_was_moved_is_made_anew(clone, tmp_path):
    (tmp_path / "offline").touch()
    assert clone.set_up()[::2] == (2, ["made", "installed"])
    (tmp_path / "offline").unlink()
    assert clone.set_up()[::2] == (0, ["made", "installed"])
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("log"))
    clone.log = tmp_path / "copy" / "log"
    assert clone.set_up(folder=tmp_path / "copy")[::2] == (0, ["made", "installed"])


def test_pbs_jobs_of_one_second_have_folders_of_their_own(pbs):
    folders = [pbs.submit(), pbs.submit()]
    assert folders[0] != folders[1]
    for number, folder in enumerate(folders):
        pbs.run(number, 0)
        assert pbs.words()[4] == folder


def test_a_pbs_job_that_is_deleted_is_saved_and_not_submitted_again(pbs, tmp_path):
    pbs.submit("--out", "run")
    (tmp_path / "wait").touch()
    job = pbs.start(0)
    while not (tmp_path / "waits").exists():
        assert job.poll() is None
    job.terminate()
    assert job.wait(60) == 75
    assert len(pbs.submitted()) == 1


@pytest.mark.parametrize("options", [["--l2", "1"], ["--config", "runs/night/config.toml"]], ids=" ".join)
def test_a_slurm_job_names_a_folder_only_where_its_options_name_none(options, pbs, tmp_path):
    (tmp_path / "status").write_text("0")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    subprocess.run(["bash", LAUNCH / "slurm.sbatch", *options], cwd=tmp_path, env=environment, check=True, timeout=60)
    expected = "-m distsoftmax.supervise --must-advance --out runs/slurm-7 -- mpirun -n 2 python -m distsoftmax.train"
    assert pbs.words() == [*expected.split(), *options]


@pytest.mark.parametrize(
    ("asked_for", "n_ranks"),
    [
        ({"SLURM_NTASKS": "24", "SLURM_JOB_NUM_NODES": "3"}, 24),
        ({"SLURM_NTASKS_PER_NODE": "32", "SLURM_JOB_NUM_NODES": "4"}, 128),
        ({"SLURM_JOB_NUM_NODES": "4"}, 4),
        ({}, 1),
    ],
)
def test_a_slurm_job_has_as_many_ranks_as_tasks_were_asked_for(asked_for, n_ranks, pbs, tmp_path):
    (tmp_path / "status").write_text("0")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **asked_for}
    subprocess.run(["bash", LAUNCH / "slurm.sbatch"], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert ranks_of(pbs.words()[pbs.words().index("--") + 1 :]) == n_ranks


def test_the_slurm_script_asks_for_no_tasks_of_its_own():
    """For beside --ntasks a user's --ntasks-per-node is but a maximum."""
    assert not re.findall(r"^#SBATCH (?:-n|--ntasks).*", (LAUNCH / "slurm.sbatch").read_text(), re.MULTILINE)
