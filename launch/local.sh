#!/usr/bin/env bash
# Trains on this machine: sets everything up, then starts the ranks.
#
#   launch/local.sh [-n RANKS] [--mpi mpich|openmpi] [options of python -m distsoftmax.train]
#
# Ctrl-C, SIGTERM and SIGUSR1 end the run in order: the step is finished and a checkpoint saved (exit status 75).
set -euo pipefail

ranks=4
mpi=${MPI:-mpich}
options=()
while [ $# -gt 0 ]; do
    case $1 in
        -n) ranks=${2:?"-n needs the number of ranks"} && shift 2 ;;
        --mpi) mpi=${2:?"--mpi needs mpich or openmpi"} && shift 2 ;;
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

# Open MPI kills the ranks on SIGTERM and SIGINT, MPICH does on a second Ctrl-C, with a page of assertions. Both pass
# SIGUSR1 on, as often as it comes. In a session of its own mpirun does not get the terminal's Ctrl-C either.
setsid mpirun -n "$ranks" python -m distsoftmax.train ${options[@]+"${options[@]}"} </dev/null &
launcher=$!
trap 'kill -USR1 "$launcher" 2>/dev/null' TERM INT USR1 HUP
status=0
while :; do
    wait "$launcher" && status=0 || status=$?
    kill -0 "$launcher" 2>/dev/null || break # else a signal has only interrupted the wait
done
exit "$status"
