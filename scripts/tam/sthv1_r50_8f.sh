#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 8 frames, Something-Something V1.
# Training: effective batch 64 = 8 processes x 8 videos, lr 0.01.
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 46.5 % with 8 frames x 1 clip x 1 crop, 224 (TAM's README).
#   bash scripts/tam/sthv1_r50_8f.sh train [flags of main.py]
#   bash scripts/tam/sthv1_r50_8f.sh test [flags of the test front, such as --weights FILE]
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tam_sthv1_r50_8f
choose_mode "train test" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py something RGB --module tam --arch resnet50 --num_segments 8 \
        --lr 0.01 --lr_batch 64 --lr_type step --lr_steps 30 40 45 --epochs 50 --batch-size 8 --wd 1e-3 --gd 20 \
        --dropout 0.6 --npb --flip none -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_center_crop.py something --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --sample uniform-1 --output_dir $run/scores "$@"
    ;;
esac
