#!/usr/bin/env bash
# Install what the tests need and this machine lacks: PostgreSQL, nginx, BIND, tools for filesystems and networks, a C
# compiler for the race detector, gRPC for the example plugin in Python. On Debian, as root; otherwise say what is missing.
# Nothing that is installed starts a service, now or at the next boot, and no database cluster is made: the tests bring
# their own.
set -euo pipefail

# package, and a program that proves it is there; several of them where a package has several uses
needs() {
  cat <<'END'
bind9           named
bind9-utils     tsig-keygen
ca-certificates /etc/ssl/certs/ca-certificates.crt
e2fsprogs       mkfs.ext4
e2fsprogs       debugfs
fuse3           fusermount3
gcc             gcc
libc6-dev       /usr/include/stdlib.h
iproute2        ip
jq              jq
mount           losetup
nftables        nft
nginx-light     nginx
postgresql      /usr/lib/postgresql/*/bin/postgres
procps          ps
protobuf-compiler protoc
python3-cryptography /usr/lib/python3/dist-packages/cryptography/__init__.py
python3-grpcio  /usr/lib/python3/dist-packages/grpc/__init__.py
python3-protobuf /usr/lib/python3/dist-packages/google/protobuf/__init__.py
systemd         /lib/systemd/systemd
util-linux      setpriv
END
}

present() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
  esac
}

missing() {
  needs | while read -r package program; do
    present "$program" || echo "$package"
  done | sort -u
}

mapfile -t packages < <(missing)
if ((${#packages[@]} == 0)); then
  echo "all that the tests need is installed"
  exit 0
fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "missing: ${packages[*]}"
  echo "install them with: apt-get install ${packages[*]}; tests that need them fail or say that they are skipped"
  exit 0
fi

# invoke-rc.d asks this file whether a service may be started; 101 forbids it.
policy=/usr/sbin/policy-rc.d
guarded=
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 0755 "$policy"
  guarded=yes
fi
clusters=/etc/postgresql-common/createcluster.conf
trap '[[ -z $guarded ]] || rm -f "$policy"; [[ ! -e $clusters.before-ors ]] || mv "$clusters.before-ors" "$clusters"' EXIT

export DEBIAN_FRONTEND=noninteractive
install_packages() {
  echo "apt-get install $*"
  apt-get -qq -o DPkg::Lock::Timeout=120 install --no-install-recommends --yes "$@" >/dev/null
}

apt-get -qq -o DPkg::Lock::Timeout=120 update
if [[ " ${packages[*]} " == *" postgresql "* ]]; then
  install_packages postgresql-common # alone and first: its settings say whether the server's package makes a cluster
  cp -p "$clusters" "$clusters.before-ors"
  echo 'create_main_cluster = false' >>"$clusters"
fi
install_packages "${packages[@]}"
for package in "${packages[@]}"; do
  case $package in
    postgresql) update-rc.d postgresql disable ;;
    nginx-light) update-rc.d nginx disable ;;
    bind9) update-rc.d named disable ;;
  esac
done
mapfile -t packages < <(missing)
if ((${#packages[@]} > 0)); then
  echo "still missing after the installation: ${packages[*]}" >&2
  exit 1
fi
