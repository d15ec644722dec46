#!/usr/bin/env bash
# A batch job under PBS (OpenPBS, PBS Pro, Torque); call it on a login node, in the project's folder:
#
#   launch/pbs.sh [options of qsub --] [options of python -m distsoftmax.train]
#
#   launch/pbs.sh -l select=2:ncpus=16:mpiprocs=16 -l walltime=06:00:00 -- --data letter.csv --label Letter
#   launch/pbs.sh -l nodes=2:ppn=16,walltime=06:00:00 -- --data letter.csv --label Letter            (Torque)
#
# It submits a script of two lines that calls it again in the job, for PBS passes no arguments to a script. mpiprocs is
# the number of ranks on a node: ncpus=16:mpiprocs=2 gives each of two ranks 8 threads. Before its time is up a run
# saves and exits with 75; the job is then submitted again, with the same options, and goes on, unless it came no
# further. (qrerun would do, but is for operators.) A node that is lost is left out; a job that PBS itself requeues goes
# on, too. qdel ends it for good.
set -uo pipefail

fail() {
    echo "pbs.sh: $1" >&2
    exit 2
}

self=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)/pbs.sh
qsub_options=()
for word in "$@"; do
    if [ "$word" = -- ]; then # what stands before it is qsub's
        while [ "$1" != -- ]; do qsub_options+=("$1") && shift; done
        shift
        break
    fi
done
# All jobs of a run share a folder of results, so it has its name before the first begins, unless an option gives one.
out=${DISTSOFTMAX_PBS_OUT:-runs/pbs-$(date +%Y-%m-%d-%H%M%S)-$$}

# submit OPTIONS: submits a job that trains with these options
submit() {
    local call
    printf -v call '%q ' exec env DISTSOFTMAX_PBS_OUT="$out" "$self" ${qsub_options[@]+"${qsub_options[@]}"} -- "$@"
    printf '#!/bin/bash\ncd %q || exit 2\n%s\n' "$PWD" "$call" |
        qsub -N distsoftmax -r y -j oe ${qsub_options[@]+"${qsub_options[@]}"}
}

if [ -z "${PBS_JOBID:-}" ]; then
    command -v qsub >/dev/null || fail "there is no qsub; call this on a login node of a cluster with PBS"
    submit "$@"
    exit
fi

# The site's own MPI: load its module here, and set up once on a login node with MPI=system launch/setup.sh
if [ -d .venv-system ]; then venv=.venv-system; else venv=.venv; fi
# shellcheck source=/dev/null
source "$venv/bin/activate" || fail "there is no $venv in $PWD; call launch/setup.sh, and submit from that folder"

# PBS names a node once for each rank; mpirun takes red:16,blue:16.
hosts=$(awk '!($1 in n) { name[++k] = $1 } { n[$1]++ }
    END { for (i = 1; i <= k; i++) printf "%s%s:%d", (i > 1 ? "," : ""), name[i], n[name[i]] }' "$PBS_NODEFILE")
ranks=$(wc -l <"$PBS_NODEFILE")
# PBS sends no signal before the time is up, so the run has a deadline.
seconds=${PBS_WALLTIME:-$(qstat -f "$PBS_JOBID" 2>/dev/null | awk '$1 == "Resource_List.walltime" {
    n = split($3, part, ":"); for (i = 1; i <= n; i++) sum = sum * 60 + part[i]; print sum }')}
deadline=()
[ -z "$seconds" ] || deadline=(--deadline "$(($(date +%s) + seconds))")

start=(mpirun)
# Open MPI 5 repairs a job that has lost a rank; any other MPI starts again, within this job.
[[ $(mpirun --version 2>/dev/null) != *"Open MPI) 5"* ]] || start+=(--with-ft ulfm)
deleted=""
# by qdel, or because PBS itself requeues the job; set before there is a process, so that nothing comes in between
trap 'deleted=1; [ -z "${!:-}" ] || kill -USR1 "$!" 2>/dev/null' TERM
python -m distsoftmax.supervise --must-advance --out "$out" -- "${start[@]}" --host "$hosts" -n "$((ranks))" \
    python -m distsoftmax.train ${deadline[@]+"${deadline[@]}"} "$@" &
supervisor=$!
status=0
while :; do
    wait "$supervisor" && status=0 || status=$?
    kill -0 "$supervisor" 2>/dev/null || break # else a signal has only interrupted the wait
done
if [ "$status" = 75 ] && [ -z "$deleted" ]; then
    submit "$@" || echo "pbs.sh: the job could not be submitted again from here; do it on a login node" >&2
fi
exit "$status"
