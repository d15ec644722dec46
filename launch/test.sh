#!/usr/bin/env bash
# Sets everything up and runs the test suite, on MPICH and on Open MPI; the last line has the totals.
#
#   launch/test.sh [--full] [--coverage] [mpich|openmpi ...]      default: both
#
# Of the long sweeps a sample is run, drawn by DISTSOFTMAX_TEST_SEED, which is drawn, too, where it is not set. On Open
# MPI run the tests that touch a launcher or MPI. --full runs every test on both, and in-job tests on 1 and 2 ranks, too.
# --coverage measures the lines of the package that are run, of which a floor stands in pyproject.toml.
set -uo pipefail

here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.." || exit 2
mpis=() full=() coverage=() all_ranks=(3 4)
for word in "$@"; do
    case $word in
        --full) full=(--full) && all_ranks=(1 2 3 4) ;;
        --coverage) coverage=(--cov --cov-append --cov-report= --cov-fail-under=0) && rm -f .coverage ;;
        mpich | openmpi) mpis+=("$word") ;;
        *) echo "test: unknown word '$word'; say --full, --coverage, mpich or openmpi" >&2 && exit 2 ;;
    esac
done
[ ${#mpis[@]} -gt 0 ] || mpis=(mpich openmpi)
unset PYTHONDONTWRITEBYTECODE # or every rank of every job would compile the package anew
export DISTSOFTMAX_TEST_SEED=${DISTSOFTMAX_TEST_SEED:-$RANDOM}
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
    LOGS=$logs COVERAGE=${coverage[*]-} TESTS="python -m pytest -q --color=no ${full[*]-} --with-mpi tests/mpi" \
        timeout --kill-after=10 240 mpirun -n "$1" bash -c '
            rank=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}
            if [ "$rank" = 0 ]; then exec $TESTS $COVERAGE; fi
            exec $TESTS >"$LOGS/rank-$rank" 2>&1'
    status=$?
    [ "$status" -eq 0 ] || tail -n 30 "$logs"/rank-* 2>/dev/null
    return "$status"
}

# all environments before the first test: what is installed while tests run would disturb them
for mpi in "${mpis[@]}"; do "$here/setup.sh" "$mpi" || exit 2; done
first=1
for mpi in "${mpis[@]}"; do
    if [ "$mpi" = mpich ]; then venv=.venv; else venv=.venv-$mpi; fi
    # shellcheck source=/dev/null
    source "$venv/bin/activate"
    if [ "$first" = 1 ]; then
        suite "unit" python -m pytest -q --color=no --durations=20 -n auto --dist worksteal \
            ${full[@]+"${full[@]}"} ${coverage[@]+"${coverage[@]}"} tests/unit
        first=0
    fi
    for ranks in "${all_ranks[@]}"; do
        suite "mpi, $ranks ranks, $mpi" in_job "$ranks"
    done
    chosen=()
    [ "$mpi" = mpich ] || [ ${#full[@]} -gt 0 ] || chosen=(-m launcher)
    # two at once: a job waits for timeouts, restarts and the launcher for much of its time; the tests of a file share runs
    suite "jobs, $mpi" timeout --kill-after=10 3000 python -m pytest -q --color=no --durations=5 -n 2 --dist loadfile \
        ${full[@]+"${full[@]}"} ${chosen[@]+"${chosen[@]}"} tests/jobs
    deactivate
done
if [ ${#coverage[@]} -gt 0 ]; then
    "$venv/bin/python" -m coverage report || failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
