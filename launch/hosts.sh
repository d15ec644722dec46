#!/usr/bin/env bash
# Trains on several hosts that ssh reaches, without a batch system.
#
#   launch/hosts.sh --hosts a,b:4,c | --hostfile FILE [-n RANKS] [--mpi mpich|openmpi] [--max-restarts N]
#       [options of python -m distsoftmax.train]
#
# Takes the virtual environment that is active, or sets one up. The hosts need the same folder and environment at the
# same path, as by NFS or rsync: all are asked first, by ssh and at once, and each that is not ready is named, with the
# reason (exit status 2). RANKS is by default the number of slots, those of a host by default its cores. Signals and
# restarts are as for launch/local.sh; hosts that do not answer any more are left out of a restart.
set -euo pipefail

named=()
ranks=""
restarts=10
mpi=${MPI:-}
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --hosts | --hostfile | -n | --mpi | --max-restarts)
            [ -n "${2:-}" ] || { echo "hosts: $1 needs a word after it" >&2 && exit 2; }
            ;;
    esac
    case $1 in
        --hosts | --hostfile) named+=("$1" "$2") && shift 2 ;;
        -n) ranks=$2 && shift 2 ;;
        --mpi) mpi=$2 && shift 2 ;;
        --max-restarts) restarts=$2 && shift 2 ;;
        *) options+=("$1") && shift ;;
    esac
done
if [ ${#named[@]} -ne 2 ]; then
    echo "hosts: name the hosts, by --hosts a,b:4,c or by --hostfile FILE" >&2
    exit 2
fi
if [ -z "${VIRTUAL_ENV:-}" ] || [ -n "$mpi" ]; then
    here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    "$here/setup.sh" "${mpi:=mpich}"
    case $mpi in
        mpich) venv=$here/../.venv ;;
        *) venv=$here/../.venv-$mpi ;;
    esac
    # shellcheck source=/dev/null
    source "$venv/bin/activate"
fi

# Other hosts know nothing of an environment that is active here, so programs are named by their whole paths.
python=$(command -v python) mpirun=$(command -v mpirun) || {
    echo "hosts: there is no mpirun on PATH; activate the environment that has one, or load its module" >&2
    exit 2
}
ready=$("$python" -m distsoftmax.supervision.ready "${named[@]}") || exit 2
read -r hosts slots <<<"$ready"

launcher=("$mpirun" --host "$hosts" -n "${ranks:-$slots}")
version=$("$mpirun" --version 2>/dev/null) || version=""
# Open MPI 5 repairs a job that has lost a rank. It takes no variables of the environment along but its own.
[[ $version != *"Open MPI) 5"* ]] || launcher+=(--with-ft ulfm)
for name in PYTHONPATH DISTSOFTMAX_ISA; do
    [[ $version != *"Open MPI"* || -z ${!name:-} ]] || launcher+=(-x "$name")
done
exec "$python" -m distsoftmax.supervise --max-restarts "$restarts" -- \
    "${launcher[@]}" "$python" -m distsoftmax.train ${options[@]+"${options[@]}"}
