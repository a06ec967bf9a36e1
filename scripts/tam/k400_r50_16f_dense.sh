#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 16 frames, Kinetics-400, dense sampling.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01 (the recipe that is published for 8 frames).
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 76.9 % with 16 frames x 10 clips x 3 crops, 256, dense (TAM's README).
#   bash scripts/tam/k400_r50_16f_dense.sh train [flags of main.py]
#   bash scripts/tam/k400_r50_16f_dense.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tam_k400_r50_16f_dense
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py kinetics RGB --module tam --arch resnet50 --num_segments 16 \
        --dense_sample --lr 0.01 --lr_batch 64 --lr_type step --lr_steps 50 75 90 --epochs 100 --batch-size 8 \
        --wd 1e-4 --gd 20 --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py kinetics --archs resnet50 --weights $run/best.pth --test_segments 16 --test_crops 3 \
        --full_res --sample dense-10 --output_dir $run/scores "$@"
    ;;
esac
