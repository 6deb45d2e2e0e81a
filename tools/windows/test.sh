#!/usr/bin/env bash
# Run the tests of what ORS does in its own way on Windows with Wine, on Debian. Wine is no Windows: it shows that the programs
# start, and what they do with files, names, line ends and locks; not what a server's drives, services and adapters do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=(
  ./internal/safefile ./internal/bootclock ./core/store ./core/ledger ./core/decision ./core/storage/directory
  ./plugins/ipset/internal/hosts ./plugins/domino/internal/notesini ./plugins/domino/internal/nrpc
  ./plugins/sdk/environment
)

if ! command -v wine >/dev/null || ! command -v x86_64-w64-mingw32-gcc-win32 >/dev/null; then
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "missing: wine64 wine gcc-mingw-w64-x86-64-win32" >&2
    exit 1
  fi
  apt-get -qq -o DPkg::Lock::Timeout=120 update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install --no-install-recommends --yes \
    wine64 wine gcc-mingw-w64-x86-64-win32 >/dev/null
fi

work=$(mktemp -d)
export WINEPREFIX=$work/prefix WINEDEBUG=-all
trap 'wineserver=$(command -v wineserver || echo /usr/lib/wine/wineserver); "$wineserver" -k 2>/dev/null || true; "$wineserver" -w 2>/dev/null || true; rm -rf "$work"' EXIT

wine wineboot --init >/dev/null 2>&1
system=$WINEPREFIX/drive_c/windows/system32
if [[ ! -e $system/bcryptprimitives.dll ]]; then
  x86_64-w64-mingw32-gcc-win32 -shared -O2 -o "$system/bcryptprimitives.dll" tools/windows/bcryptprimitives.c -ladvapi32
fi

# os.RemoveAll tries FileDispositionInformationEx and falls back where Windows says that it does not know it. Wine 8 says
# so in another way.
source=$(go env GOROOT)/src/internal/syscall/windows/at_windows.go
sed 's/case STATUS_INVALID_INFO_CLASS,/case NTStatus(0xC0000002) \/* STATUS_NOT_IMPLEMENTED *\/, STATUS_INVALID_INFO_CLASS,/' "$source" >"$work/at_windows.go"
printf '{"Replace": {"%s": "%s"}}\n' "$source" "$work/at_windows.go" >"$work/overlay.json"

GOOS=windows go build -o "$work/" ./cmd/orscore ./plugins/generic ./plugins/ipset ./plugins/domino
printed=$(cd "$work" && timeout 60 wine orscore.exe version)
echo "$printed"
[[ $printed == *windows/amd64* ]]
windows_test() { GOOS=windows timeout 600 go test -count=1 -p 1 -timeout 120s -overlay "$work/overlay.json" -exec wine "$@"; }
windows_test "${packages[@]}"
windows_test ./core -run '^TestBootID$'
windows_test ./plugins/domino/internal/domino -run '^(TestCommandLines|TestSchemaFitsConfig)$'
