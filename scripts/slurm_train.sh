#!/usr/bin/env bash
# Trains on a Slurm cluster, one task a GPU, and goes on by itself when the time is up or the machines are wanted by others.
#   sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 --cpus-per-task 8 --time 8:00:00 scripts/slurm_train.sh \
#       something RGB --module tdn --batch-size 8 -j 7 --output_dir runs/tdn
# The arguments are those of main.py; --resume auto is added. Three minutes before the end Slurm sends SIGUSR1; each process
# saves the run and ends with status 75, and the job goes back into the queue. Any other failure ends the job.
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
if [ -z "${SLURM_JOB_ID:-}" ]; then
    echo "error: start it with sbatch (see the comment in $0); without Slurm, torchrun starts several processes" >&2
    exit 2
fi
[ -x .venv/bin/python ] && export PATH="$PWD/.venv/bin:$PATH"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT="${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 20000))}"
# The shell of each task becomes the process itself, so that Slurm's signals reach it.
srun --kill-on-bad-exit=1 bash -c \
    'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec python main.py "$@"' \
    main.py "$@" --resume auto
status=$?
if [ $status = 75 ]; then
    echo "stopped and saved: back into the queue"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
