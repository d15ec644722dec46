#!/usr/bin/env bash
# Trains on this machine: sets everything up, then starts the ranks.
#
#   launch/local.sh [-n RANKS] [--mpi mpich|openmpi] [--max-restarts N] [options of python -m distsoftmax.train]
#
# Ctrl-C, SIGTERM and SIGUSR1 end the run in order: the step is finished and a checkpoint saved (exit status 75). A second
# Ctrl-C, a second or more later, ends it at once. A run that dies is started again, at most N times (default 3).
set -euo pipefail

ranks=4
restarts=3
mpi=${MPI:-mpich}
options=()
while [ $# -gt 0 ]; do
    case $1 in
        -n) ranks=${2:?"-n needs the number of ranks"} && shift 2 ;;
        --mpi) mpi=${2:?"--mpi needs mpich or openmpi"} && shift 2 ;;
        --max-restarts) restarts=${2:?"--max-restarts needs a number"} && shift 2 ;;
        *) options+=("$1") && shift ;;
    esac
done
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/setup.sh" "$mpi"
case $mpi in
    mpich) venv=$here/../.venv ;;
    *) venv=$here/../.venv-$mpi ;;
esac
# shellcheck source=/dev/null
source "$venv/bin/activate"

# A rank that is lost costs a restart from where the run was or, where Open MPI repairs the job in place, no restart.
launcher=(mpirun)
[ "$mpi" != openmpi ] || launcher+=(--with-ft ulfm)
exec python -m distsoftmax.supervise --max-restarts "$restarts" -- \
    "${launcher[@]}" -n "$ranks" python -m distsoftmax.train ${options[@]+"${options[@]}"}
