#!/usr/bin/env bash
# Builds llama-server once from the llama.cpp source that ships in the llama-cpp-python source
# distribution, and prints the path of the binary. Later runs find it in the cache.
#
#   LLAMA_CPP_PYTHON_VERSION  version of the source distribution (default below)
#   PROMPTLY_CACHE            cache folder of the build (default ~/.cache/promptly)
set -euo pipefail

version=${LLAMA_CPP_PYTHON_VERSION:-0.3.36}
cache=${PROMPTLY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/promptly}
binary=$cache/llama-server-$version
python=${PYTHON:-python3}

if [ -x "$binary" ]; then
  echo "$binary"
  exit 0
fi

mkdir -p "$cache"
build=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$build"' EXIT

{
  "$python" -m pip download --quiet --no-deps --no-binary :all: --dest "$build" \
    "llama-cpp-python==$version"
  tar -xzf "$build"/llama_cpp_python-"$version".tar.gz -C "$build"
  source=$build/llama_cpp_python-$version/vendor/llama.cpp
  # The model is tiny, so a build in a third less time is worth more than a faster server.
  cmake -S "$source" -B "$build/out" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DGGML_NATIVE=OFF -DBUILD_SHARED_LIBS=OFF
  cmake --build "$build/out" --target llama-server --parallel "$(nproc)"
  # A rename is atomic: a concurrent run never sees half a binary.
  cp "$build/out/bin/llama-server" "$build/llama-server"
  mv "$build/llama-server" "$binary"
} >&2
echo "$binary"
