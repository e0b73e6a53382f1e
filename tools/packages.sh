#!/bin/sh
# Installs what is missing from Debian's packages: `packages.sh build`, `packages.sh build example`, `packages.sh build test`.
set -eu
build="gcc libc6-dev cmake make pkg-config libprotobuf-c-dev protobuf-c-compiler libjansson-dev zlib1g-dev libzip-dev llvm-19-dev"
example="dataset-fashion-mnist"
test="libcmocka-dev g++ clang"
wanted="ca-certificates"
for group in "$@"; do
    case "$group" in
    build) wanted="$wanted $build" ;;
    example) wanted="$wanted $example" ;;
    test) wanted="$wanted $test" ;;
    *) echo "packages.sh: no group is named $group" >&2; exit 2 ;;
    esac
done
missing=
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
