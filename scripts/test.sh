#!/usr/bin/env bash
# Runs the tests: bash scripts/test.sh [arguments of pytest]
set -euo pipefail
source "$(dirname "$0")/venv.sh"
install requirements.txt
install tests/requirements.txt
python -m pytest -q "$@"
