#!/usr/bin/env bash
# Runs the tests: bash scripts/test.sh [--slow] [arguments of pytest]
# --slow runs the fault, fuzz and process tests instead of the others.
set -euo pipefail
source "$(dirname "$0")/venv.sh"
install requirements.txt
install tests/requirements.txt
install tools/requirements.txt
# Compiling the tests takes pytest as long as collecting them: the second run finds them compiled.
unset PYTHONDONTWRITEBYTECODE
# Fast tests of a file share fixtures that take seconds; slow ones are few and of very different
# lengths.
distribution=loadfile
if [[ " $* " == *" --slow "* ]]; then
    distribution=worksteal
fi
# One process with one thread per core: more threads than cores make the tests slower.
OMP_NUM_THREADS=1 python -m pytest -q -n auto --dist $distribution "$@"
