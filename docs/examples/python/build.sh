#!/bin/sh
# build.sh FOLDER: make FOLDER/ors-plugin-worker, one file that can be pinned by its hash.
# Needs protoc (protobuf-compiler) and python3.
set -eu
out=$1
here=$(CDPATH= cd "$(dirname "$0")" && pwd)
proto=$here/../../../proto/ors/plugin/v1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
protoc --proto_path="$proto" --python_out="$work" "$proto/plugin.proto"
cp "$here/plugin.py" "$work/__main__.py"
/usr/bin/python3 -m zipapp --python /usr/bin/python3 --output "$out/ors-plugin-worker" "$work"
chmod 0755 "$out/ors-plugin-worker"
