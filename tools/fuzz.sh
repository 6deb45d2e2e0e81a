#!/usr/bin/env bash
# fuzz.sh TIME [PATTERN]: run every fuzz target whose "FOLDER TARGET" matches PATTERN for TIME (30s, 10m, 5000x), two at
# a time, and print a line about each. Inputs that reach new code are kept in Go's cache and used again by the next run.
# An input that fails is printed with the command that runs it again; it is in the target's testdata from then on.
set -uo pipefail
time=${1:?usage: tools/fuzz.sh TIME [PATTERN]}
pattern=${2:-.}
jobs=2
work=$PWD/build/fuzz
rm -rf "$work"
mkdir -p "$work"
cache=$(go env GOCACHE)/fuzz
module=$(go list -m)

# A target that hangs must end, too: it gets twice its time and two minutes.
case $time in
*h) limit=$((${time%h} * 7200 + 120)) ;;
*m) limit=$((${time%m} * 120 + 120)) ;;
*s) limit=$((${time%s} * 2 + 120)) ;;
*) limit=86400 ;;
esac

mapfile -t targets < <(git ls-files --cached --others --exclude-standard '*_test.go' |
  xargs grep -HE '^func Fuzz[A-Za-z0-9_]*\(' |
  sed -nE 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*)\(.*|\1 \2|p' | sort -u | grep -E -- "$pattern")
if ((${#targets[@]} == 0)); then
  echo "no fuzz target matches $pattern" >&2
  exit 1
fi

# One instrumented test program a package, before the clock of any target runs.
SECONDS=0
for folder in $(printf '%s\n' "${targets[@]}" | cut -d' ' -f1 | sort -u); do
  go test -c -fuzz=Fuzz -o "$work/${folder//\//_}.test" "./$folder" || exit 1
done
echo "${#targets[@]} targets, $time each, $jobs at a time; built in $SECONDS s"

# one FOLDER TARGET: fuzz one target, and print its line.
one() {
  local folder=$1 target=$2 log code=0
  log=$work/${folder//\//_}.$target.log
  (
    cd "$folder" && exec timeout -s INT -k 10 "$limit" "$work/${folder//\//_}.test" -test.run='^$' \
      -test.fuzz="^$target\$" -test.fuzztime="$time" -test.fuzzminimizetime=100ms -test.parallel=1 \
      -test.fuzzcachedir="$cache/$module/$folder"
  ) >"$log" 2>&1 || code=$?
  local last execs rate new
  last=$(grep -E '^fuzz: elapsed:.* execs: ' "$log" | tail -1)
  execs=$(sed -nE 's/.*execs: ([0-9]+) .*/\1/p' <<<"$last")
  rate=$(awk -v n="${execs:-0}" -v last="$last" 'BEGIN {
    match(last, /elapsed: [0-9hms]+/); t = substr(last, RSTART + 9, RLENGTH - 9); s = 0
    while (match(t, /^[0-9]+[hms]/)) { u = substr(t, RLENGTH, 1); v = substr(t, 1, RLENGTH - 1)
      s += v * (u == "h" ? 3600 : u == "m" ? 60 : 1); t = substr(t, RLENGTH + 1) }
    printf "%d", s ? n / s : 0 }')
  new=$(sed -nE 's/.*new interesting: ([0-9]+) .*/\1/p' <<<"$last")
  # The end of its time may be reported as the failure of an input that was under way; no input is written then.
  if ((code == 1)) && ! grep -q 'Failing input written' "$log" && grep -qE '^ *context deadline exceeded$' "$log"; then
    code=0
  fi
  local result=ok
  if ((code != 0)); then
    result=FAIL
    echo "$folder $target" >>"$work/failed"
  elif [[ -z $execs || $execs == 0 ]]; then
    result=FAIL # a target that runs nothing finds nothing
    echo "$folder $target" >>"$work/failed"
  fi
  printf '%-4s  %-30s %-18s %10s execs  %8s/s  %4s new inputs\n' \
    "$result" "$folder" "$target" "${execs:-0}" "$rate" "${new:-0}"
  if [[ $result == FAIL ]]; then
    failure "$folder" "$target" "$log"
  fi
}

# failure prints what is needed to see a failure again.
failure() {
  local folder=$1 target=$2 log=$3 input
  sed 's/^/    /' "$log" | tail -40
  input=$(sed -nE 's|^ *Failing input written to (.*)$|\1|p' "$log" | tail -1)
  if [[ -n $input && -f $folder/$input ]]; then
    echo "    the input, in $folder/$input:"
    sed 's/^/      /' "$folder/$input"
    echo "    to run it again: go test ./$folder -run '$target/$(basename "$input")'"
  fi
}

trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
for t in "${targets[@]}"; do
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  # shellcheck disable=SC2086 # two words
  one $t &
done
wait
if [[ -s $work/failed ]]; then
  echo "failed: $(paste -sd, "$work/failed")" >&2
  exit 1
fi
