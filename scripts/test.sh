#!/usr/bin/env bash
# Runs the tests: bash scripts/test.sh [--slow] [arguments of pytest]
# --slow runs the fault, fuzz and process tests instead of the others.
set -euo pipefail
source "$(dirname "$0")/venv.sh"
install requirements.txt
install tests/requirements.txt
# Two processes of one thread each: threads that wait for a busy core would cost more than they bring.
OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile "$@"
