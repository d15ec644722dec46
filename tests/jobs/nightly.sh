#!/usr/bin/env bash
# Trains tonight's model, and puts it in place of yesterday's where it is better on held-out samples.
#
#   nightly.sh TRAINING HELD_OUT LABEL [options of python -m distsoftmax.train]
#
# In the working directory: runs/<date-time> is tonight's run, current is a link to the run whose model is in use, and
# whoever predicts reads current/model.safetensors. Copy it, and set what is set here:
#   LAUNCHER  what starts the ranks, such as "mpirun -n 8"; empty: one process, which uses every core by its threads
#   KEEP      how many runs are kept, besides the current one
#
# Exit status: 0 promoted, or kept for a good reason that is told; 2 bad input, which somebody must look at; 3 tonight's
# run did not reach its tolerance; 75 it was stopped early: the same command goes on from there; 1 anything else.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 TRAINING HELD_OUT LABEL [options of training]" >&2; exit 2; }
training=$1 held_out=$2 label=$3
shift 3
read -ra launcher <<<"${LAUNCHER:-}"
keep=${KEEP:-7}

on_ranks() { ${launcher[@]+"${launcher[@]}"} python -m "distsoftmax.$1" "${@:2}"; }

# A field of a JSON file: field FILE KEY
field() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }

# One at a time: a run that takes longer than a day must not be started twice.
exec 9>nightly.lock
flock -n 9 || { echo "nightly: another one is still at work; nothing is done" >&2; exit 1; }

# An interrupted run goes on; else there is a new one.
run=$(cat unfinished 2>/dev/null || true)
[ -n "$run" ] || run=runs/$(date +%Y-%m-%d-%H%M%S)
mkdir -p runs
echo "$run" >unfinished

# --strict: exit with 3 where the tolerance was not reached, so that half a model is never promoted.
status=0
on_ranks train --data "$training" --label "$label" --strict --out "$run" "$@" || status=$?
case $status in
    0) rm unfinished ;;
    2) rm unfinished ;; # the message above names the file, the row and the remedy
    3) rm unfinished; echo "nightly: $run did not reach its tolerance; yesterday's model stays" >&2 ;;
    75) echo "nightly: $run was stopped early; start this again to go on" >&2 ;;
    *) echo "nightly: training ended with status $status; start this again to go on" >&2; status=1 ;;
esac
[ "$status" = 0 ] || exit "$status"

# Both models on the same held-out samples. Written to a temporary name first: a file that is there is whole.
evaluate() {
    on_ranks evaluate "$1" --data "$held_out" --label "$label" --json >"$2.tmp" && mv "$2.tmp" "$2"
}
evaluate "$run" "$run/evaluation.json"
tonight=$(field "$run/evaluation.json" log_loss)
verdict=promoted
if [ -e current/model.safetensors ]; then
    # Yesterday's model may not know a class that is new today: then it cannot be compared, and has served its time.
    if evaluate current "$run/yesterday.json"; then
        yesterday=$(field "$run/yesterday.json" log_loss)
        python -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$tonight" "$yesterday" ||
            verdict="kept out: yesterday's model has a log loss of $yesterday"
    else
        echo "nightly: yesterday's model cannot be measured on $held_out any more" >&2
    fi
fi

if [ "$verdict" = promoted ]; then
    # The report is for people; a model without one is no worse.
    python -m distsoftmax.report "$run" --out "$run/report.html" >&2 || echo "nightly: no report of $run" >&2
    # A link is replaced by a rename, so that whoever reads current finds one model or the other, and never none.
    ln -sfn "$run" current.new
    mv -T current.new current
fi
echo "nightly: $run, $(field "$run/result.json" n_training) samples, log loss $tonight, $verdict"

# What is old and not in use goes.
in_use=$(readlink current)
find runs -mindepth 1 -maxdepth 1 -type d | sort -r | tail -n "+$((keep + 1))" | while read -r old; do
    [ "$old" = "$in_use" ] || rm -r "$old"
done
