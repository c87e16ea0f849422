#!/bin/sh
# Run one check: a line when it holds, its whole output when it does not.
# run_check.sh NAME [--show-last-line] COMMAND...
name=$1
shift
show=false
[ "$1" = --show-last-line ] && show=true && shift

started=$(date +%s)
if output=$("$@" 2>&1); then
    $show && note=", $(printf '%s\n' "$output" | tail -n 1)" || note=
    printf '  ok    %s (%s s%s)\n' "$name" "$(($(date +%s) - started))" "$note"
else
    status=$?
    printf '  FAIL  %s (%s s): %s\n%s\n' "$name" "$(($(date +%s) - started))" "$*" "$output"
    exit "$status"
fi
