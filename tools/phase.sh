#!/usr/bin/env bash
# phase.sh NAME COMMAND…: run a command under a headline, and say how long it took and how it ended.
set -uo pipefail
name=$1
shift
echo "== $name"
SECONDS=0
"$@"
code=$?
if ((code == 0)); then
  echo "== $name: passed in $SECONDS s"
else
  echo "== $name: FAILED after $SECONDS s" >&2
fi
exit "$code"
