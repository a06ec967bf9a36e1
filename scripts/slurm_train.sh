#!/usr/bin/env bash
# Trains on a Slurm cluster with one task per GPU, and resumes after a time limit or a preemption.
#   sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 --cpus-per-task 8 --time 8:00:00 \
#       scripts/slurm_train.sh something RGB --module tdn --batch-size 8 -j 7 --output_dir runs/tdn
# The arguments are those of main.py; --resume auto is added. Three minutes before the time limit
# Slurm sends SIGUSR1: every process saves the run and exits with status 75, and the job is
# requeued. Any other failure ends the job.
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
if [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "error: start it with sbatch (see the comment in $0); without Slurm, use torchrun" >&2
    exit 2
fi
[ -x .venv/bin/python ] && export PATH="$PWD/.venv/bin:$PATH"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT="${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 20000))}"
# exec: main.py replaces the shell of the task, so that Slurm's signals reach it.
srun --kill-on-bad-exit=1 bash -c \
    'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec python main.py "$@"' \
    main.py "$@" --resume auto
status=$?
if [ $status = 75 ]; then
    echo "stopped and saved; requeueing the job"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
