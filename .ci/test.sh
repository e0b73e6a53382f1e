#!/bin/sh
# Installs what the tests need from Debian's packages, builds, runs them.
set -eu
cd "$(dirname "$0")/.."
if ! dpkg -s gcc cmake make libcmocka-dev >/dev/null 2>&1; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq gcc libc6-dev cmake make libcmocka-dev
fi
cmake -S . -B build
cmake --build build -j2
ctest --test-dir build --output-on-failure
