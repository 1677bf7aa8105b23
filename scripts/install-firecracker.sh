#!/bin/sh
# Installs Firecracker and its jailer from an official release, after comparing it with the release's own checksum file.
#
#   install-firecracker.sh [--version 1.16.1] [--prefix /usr/local] [--base-url URL]
#
# --base-url is a folder of releases, as the project's own has it: URL/v1.16.1/firecracker-v1.16.1-x86_64.tgz
set -eu

version=1.16.1
prefix=/usr/local
base=https://github.com/firecracker-microvm/firecracker/releases/download

fail() {
  printf 'install-firecracker: %s\n' "$1" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case "$1" in
  --version | --prefix | --base-url)
    [ -n "${2:-}" ] || fail "$1 needs a value"
    case "$1" in
    --version) version=${2#v} ;;
    --prefix) prefix=$2 ;;
    --base-url) base=${2%/} ;;
    esac
    shift 2
    ;;
  -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *) fail "unknown argument $1; --version, --prefix and --base-url are known" ;;
  esac
done

# Three numbers, and nothing that would mean something in a path.
printf '%s\n' "$version" | grep -Eq '^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$' ||
  fail "$version is no version, such as 1.16.1"

# below A.B.C: whether the wanted version is older.
below() {
  oldest=$(printf '%s\n%s\n' "$version" "$1" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)
  [ "$version" != "$1" ] && [ "$oldest" = "$version" ]
}

! below 1.14.4 || fail "Firecracker $version has CVE-2026-1386 and CVE-2026-5747; 1.14.4 and 1.15.1 are the oldest without"
[ "$version" != 1.15.0 ] || fail "Firecracker 1.15.0 has CVE-2026-5747; take 1.15.1 or later"
[ "$version" != 1.16.0 ] || fail "Firecracker 1.16.0 loses vsock when a snapshot is restored; take 1.16.1 or later"

machine=$(uname -m)
case "$machine" in
x86_64 | aarch64) ;;
*) fail "there are no releases for $machine; only for x86_64 and aarch64" ;;
esac
for program in curl tar sha256sum; do
  command -v "$program" >/dev/null 2>&1 ||
    fail "$program is missing: install the Debian packages curl, tar and coreutils"
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/firecracker.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

# fetch NAME BYTES: a file of the release, of at most so many bytes. An address with TLS never leads to one without.
fetch() {
  case "$base" in
  https://*) only='=https' ;;
  *) only='=http,https' ;;
  esac
  curl --fail --silent --show-error --location --proto "$only" --max-time 600 --max-filesize "$2" \
    --output "$folder/$1" "$base/v$version/$1" ||
    fail "cannot fetch $base/v$version/$1"
}

archive=firecracker-v$version-$machine.tgz
fetch "$archive.sha256.txt" 65536
fetch "$archive" 268435456

wanted=$(awk -v name="$archive" '$2 == name || $2 == "*" name { print $1; exit }' "$folder/$archive.sha256.txt")
printf '%s\n' "$wanted" | grep -Eq '^[0-9a-f]{64}$' || fail "the release's checksum file says nothing about $archive"
found=$(sha256sum "$folder/$archive" | cut -d ' ' -f 1)
[ "$wanted" = "$found" ] || fail "$archive is not what the release's checksum file says: $found instead of $wanted"

release=release-v$version-$machine
for program in firecracker jailer; do
  member=$release/$program-v$version-$machine
  # To standard output, so that nothing in the archive says where it goes.
  tar -xzOf "$folder/$archive" "$member" >"$folder/$program" 2>/dev/null || fail "$archive has no $member"
  [ -s "$folder/$program" ] || fail "$archive has an empty $member"
done
# Both or none.
for program in firecracker jailer; do
  mkdir -p "$prefix/bin"
  install -m 0755 "$folder/$program" "$prefix/bin/.$program.new" ||
    fail "cannot write to $prefix/bin; run this as root, or give --prefix"
done
for program in firecracker jailer; do
  mv -f "$prefix/bin/.$program.new" "$prefix/bin/$program"
done
printf 'Firecracker %s: %s/bin/firecracker, %s/bin/jailer\n' "$version" "$prefix" "$prefix"
