#!/usr/bin/env bash
# Sets everything up and runs the whole test suite, on MPICH and on Open MPI; the last line has the totals.
#
#   launch/test.sh [mpich|openmpi ...]      default: both
set -uo pipefail

here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.." || exit 2
mpis=("$@")
[ ${#mpis[@]} -gt 0 ] || mpis=(mpich openmpi)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0

# suite NAME COMMAND...: runs one pytest and adds its closing line to the totals
suite() {
    local name=$1 log=$logs/suite start=$SECONDS status
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    local summary
    summary=$(grep -aE '^=*[^=]*(passed|failed|skipped|error).* in [0-9.]+s' "$log" | tail -n 1)
    count() { grep -aoE "[0-9]+ $1" <<<"$summary" | grep -oE '[0-9]+' || echo 0; }
    passed=$((passed + $(count passed)))
    skipped=$((skipped + $(count skipped)))
    local bad=$(($(count failed) + $(count error)))
    # a suite that was killed or aborted has no closing line: that is one failure at least
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    [ "$status" -ne 0 ] || [ -n "$summary" ] || bad=1
    failed=$((failed + bad))
    echo "== $name: exit status $status after $((SECONDS - start)) s"
}

# in_job RANKS: the tests inside an MPI job; rank 0 speaks, the others are heard where something fails
in_job() {
    local status
    # shellcheck disable=SC2016
    timeout --kill-after=10 240 mpirun -n "$1" bash -c '
        rank=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}
        if [ "$rank" = 0 ]; then exec python -m pytest -q --color=no --with-mpi tests/mpi; fi
        exec python -m pytest -q --color=no --with-mpi tests/mpi >"$0/rank-$rank" 2>&1' "$logs"
    status=$?
    [ "$status" -eq 0 ] || tail -n 30 "$logs"/rank-* 2>/dev/null
    return "$status"
}

first=1
for mpi in "${mpis[@]}"; do
    "$here/setup.sh" "$mpi" || exit 2
    if [ "$mpi" = mpich ]; then venv=.venv; else venv=.venv-$mpi; fi
    # shellcheck source=/dev/null
    source "$venv/bin/activate"
    if [ "$first" = 1 ]; then
        suite "unit" python -m pytest -q --color=no tests/unit
        first=0
    fi
    for ranks in 1 2 3 4; do
        suite "mpi, $ranks ranks, $mpi" in_job "$ranks"
    done
    suite "jobs, $mpi" timeout --kill-after=10 1800 python -m pytest -q --color=no --durations=5 tests/jobs
    deactivate
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
