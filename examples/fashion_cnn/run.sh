#!/bin/sh
# From nothing to a classified test set: installs what is missing, builds gradc, compiles the trained model to C, builds
# a program around it, and runs it over the 10,000 test images. Everything made lies in build/example.
set -eu
cd "$(dirname "$0")/../.."
step() { printf '\n== %s\n' "$*"; }

step "Debian packages"
sh tools/packages.sh build example

step "building gradc"
cmake -S . -B build >/dev/null
cmake --build build -j2 --target gradc gradc_llvm | grep -E '%|error|warning' || true

out=build/example
here=examples/fashion_cnn
mkdir -p "$out"
step "compiling $here/fashion_cnn.onnx"
build/gradc compile $here/fashion_cnn.onnx --emit c -o "$out/c"
build/gradc compile $here/fashion_cnn.onnx -o "$out/fashion_cnn"
build/gradc ir $here/fashion_cnn.onnx --dump-ir "$out/ir" >/dev/null
cc -O3 -march=native -fopenmp -I "$out/c" -o "$out/classify" $here/classify.c "$out"/c/fashion_cnn.c -lz -lm

step "classifying the 10,000 test images"
"$out/classify"
printf 'program   %s bytes (%s), with the weights in it\n' "$(stat -c %s "$out/classify")" "$out/classify"
printf 'C sources %s\n' "$(echo "$out"/c/*.[ch])"
printf 'IR dumps  %s, one a pass\n' "$out/ir"
printf 'by LLVM   %s: the same model as a program of its own, try --help\n' "$out/fashion_cnn"
