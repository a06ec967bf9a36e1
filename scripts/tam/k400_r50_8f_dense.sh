#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 8 frames, Kinetics-400, dense sampling.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (the 8 of TAM's script is meant per GPU, as MMAction2 has it
#   too).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 76.1 % with 8 frames x 10 clips x 3 crops, 256, dense (TAM's README).
#   bash scripts/tam/k400_r50_8f_dense.sh train [flags of main.py]
#   bash scripts/tam/k400_r50_8f_dense.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tam_k400_r50_8f_dense
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tam --arch resnet50 --num_segments 8 \
        --dense_sample --lr 0.01 --lr_batch 64 --lr_type step --lr_steps 50 75 90 --epochs 100 --batch-size 8 \
        --wd 1e-4 --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 3 \
        --full_res --sample dense-10 --output_dir $run/scores "$@"
    ;;
esac
