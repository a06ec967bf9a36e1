#!/usr/bin/env bash
# Checks this project on one NVIDIA GPU in less than eight minutes: the tests of tests/gpu, then the
# networks beside the originals. It installs nothing and needs no network: PyTorch, torchvision,
# pytest and safetensors must be there; what else is missing is left out.
#   bash scripts/gpu_check.sh [FOLDER] [flags of tools/gpu_check.py]
# The results are FOLDER/report.md and FOLDER/report.json (FOLDER: runs/gpu_check). PYTHON chooses
# the interpreter; the .venv of this repository comes before the one on PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-}
if [ -z "$python" ] && [ -x .venv/bin/python ]; then
    python=.venv/bin/python
fi
folder=runs/gpu_check
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    folder=$1
    shift
fi
exec "${python:-python3}" tools/gpu_check.py --out "$folder" "$@"
