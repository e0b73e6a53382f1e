#!/bin/sh
# Installs what the tests need, builds, runs them. GRADC_DATA names a folder with the official ONNX cases (onnx-backend/) and
# other models; where it is not set, ../shared/data is looked at; without either, the tests that need them are left out.
set -eu
cd "$(dirname "$0")/.."
sh tools/packages.sh build test
if [ -z "${GRADC_DATA:-}" ] && [ -d ../shared/data/onnx-backend ]; then GRADC_DATA=$(cd ../shared/data && pwd); fi
if [ -n "${GRADC_DATA:-}" ]; then export GRADC_DATA; else echo "no ONNX cases here: conformance is left out"; fi
cmake -S . -B build ${GRADC_CMAKE:-} >/dev/null
cmake --build build -j2
ctest --test-dir build --output-on-failure -E '^conformance$' # which comes last, with its own closing line
backend=llvm
[ -e build/gradc_llvm.so ] || backend=c
if [ -n "${GRADC_DATA:-}" ]; then build/conformance --backend $backend --known tests/conformance/known.txt "$GRADC_DATA/onnx-backend"; fi
