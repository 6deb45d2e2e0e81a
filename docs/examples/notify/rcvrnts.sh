#!/bin/sh
# An example of what `orscore launch --keep` runs after a switchover, as the white paper's RCVRNTS.CMD: the letters d1 … dn
# and the status parameters are its arguments, and the same is in its environment.
set -eu
echo "$(date '+%F %T') $*"
for d in ${ORS_DRIVES:-}; do
  echo "drive $d"
done
if [ -n "${ORS_D1_PATH:-}" ]; then # a group may have no drives
  echo "first drive in $ORS_D1_PATH: $(ls "$ORS_D1_PATH" | wc -l) entries"
fi
# Status 0: every drive has its own letter. 1: a letter was taken here, so look at the arguments instead of at E:.
[ "$ORS_STATUS" = 0 ] || echo "status $ORS_STATUS: take the drives from the arguments"
