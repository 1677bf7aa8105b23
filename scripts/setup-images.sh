#!/bin/sh
# Puts a guest kernel and a root file system where `--kernel` and `--rootfs` of the server expect them:
# DATA_DIR/images/vmlinux and DATA_DIR/images/rootfs.ext4.
#
#   setup-images.sh [--kvm-pvm] [RUNTIME]
#
# RUNTIME is what `impuls image build` takes (nodejs+python+provided). --kvm-pvm is for hosts whose KVM is the module
# kvm_pvm, and for no others. DATA_DIR is /var/lib/impuls unless it is set; IMPULS_KERNEL names a kernel that is taken
# instead of building one, IMPULS_AGENT the agent.
set -eu
cd "$(dirname "$0")/.."

fail() {
  printf 'setup-images: %s\n' "$1" >&2
  exit 1
}

kvm_pvm=
if [ "${1:-}" = --kvm-pvm ]; then
  kvm_pvm=$1
  shift
fi
case ${1:-} in
-*) fail "$1 is no option; there is --kvm-pvm, before the runtime" ;;
esac
runtime=${1:-nodejs+python+provided}
data=${DATA_DIR:-${IMPULS_DATA_DIR:-/var/lib/impuls}}

# The documents run this before anything is built, with sudo: what is built then is the user's own.
program=${IMPULS_PROGRAM:-build/impuls}
if [ ! -x "$program" ]; then
  [ -z "${IMPULS_PROGRAM:-}" ] || fail "$program is no program"
  if [ -n "${SUDO_USER:-}" ] && [ "$(id -u)" -eq 0 ]; then
    sudo -u "$SUDO_USER" -H make build
  else
    make build
  fi
fi

mkdir -p "$data/images" || fail "cannot write to $data; run this as root, or set DATA_DIR"
if [ -n "${IMPULS_KERNEL:-}" ]; then
  "$program" image kernel ${kvm_pvm:+"$kvm_pvm"} --data-dir "$data" --kernel "$IMPULS_KERNEL" \
    --output "$data/images/vmlinux"
else
  "$program" image kernel ${kvm_pvm:+"$kvm_pvm"} --data-dir "$data" --output "$data/images/vmlinux"
fi
"$program" image build "$runtime" --data-dir "$data" --format ext4 --output "$data/images/rootfs.ext4"
