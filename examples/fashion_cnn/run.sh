#!/bin/sh
# From nothing to a network trained and classifying: installs what is missing, builds gradc, trains Keras's CNN on Fashion-MNIST
# by a compiled program of its own, compiles the trained model to C, builds a program around it, and runs it over the 10,000
# test images. Everything made lies in build/example.
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
model=examples/keras_cnn/cnn.model
images=/usr/share/datasets/fashion-mnist
weights="$out/fashion_cnn.safetensors"

step "training $model on the 60,000 images of $images"
build/gradc compile --train $model -o "$out/cnn"
"$out/cnn" train --data idx:$images --epochs 5 -o "$weights"

step "compiling $model with the weights"
compile() { build/gradc "$@" --params "$weights" --prefix fashion_cnn; }
compile compile $model --emit c -o "$out/c"
compile compile $model -o "$out/fashion_cnn"
compile ir $model --dump-ir "$out/ir" >/dev/null
build/gradc export $model --params "$weights" -o "$out/fashion_cnn.onnx"
cc -O3 -march=native -fopenmp -I "$out/c" -o "$out/classify" $here/classify.c "$out"/c/fashion_cnn.c -lz -lm

step "classifying the 10,000 test images"
"$out/classify"
printf 'program   %s bytes (%s), with the weights in it\n' "$(stat -c %s "$out/classify")" "$out/classify"
printf 'weights   %s, as ONNX for other runtimes %s\n' "$weights" "$out/fashion_cnn.onnx"
printf 'C sources %s\n' "$(echo "$out"/c/*.[ch])"
printf 'IR dumps  %s, one a pass\n' "$out/ir"
printf 'by LLVM   %s: the same model as a program of its own; %s trains it: try --help\n' "$out/fashion_cnn" "$out/cnn"
