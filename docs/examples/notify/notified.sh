#!/bin/sh
# An example of a shell script that is told of groups: `orscore notify` prints a line of JSON for each step.
# notified.sh FOLDER: keeps a file for each group that is here. Needs jq.
set -eu
folder=$1
mkdir -p "$folder"
orscore notify notified.sh | while read -r line; do
  group=$(printf '%s' "$line" | jq -r '.group')
  case $(printf '%s' "$line" | jq -r '.step') in
  arrived | up) printf '%s' "$line" | jq -r '.event + " from " + (.from // "nobody"), ((.drives // [])[] | .letter + " " + .path)' >"$folder/$group" ;;
  leaving) rm -f "$folder/$group" ;; # from now on the drives must not be used any more
  esac
done
