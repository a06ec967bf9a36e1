#!/usr/bin/env bash
# TAM-ResNet50 (TANet), 8 frames, Something-Something V2.
# Training: effective batch 128 = 8 processes x 16 videos, lr 0.02.
#   On G GPUs set GPUS=G and --accumulate 8/G, or --scale_lr; where memory is short halve --batch-size, double --accumulate.
# Expected: Prec@1 62.7 % with 8 frames x 2 clips x 3 crops, 256 (TAM's README). No number is published for 8 frames x 1 clip
#   x 1 crop, 224.
#   bash scripts/tam/sthv2_r50_8f.sh train [flags of main.py]
#   bash scripts/tam/sthv2_r50_8f.sh test [flags of the test front, such as --weights FILE] full resolution, 2 clips
#   bash scripts/tam/sthv2_r50_8f.sh test1 [...] one center crop
set -euo pipefail
source "$(dirname "$0")/../recipe.sh"
run=runs/tam_sthv2_r50_8f
choose_mode "train test test1" "$@"
shift
case $mode in
train)
    torchrun --nproc_per_node "${GPUS:-8}" main.py somethingv2 RGB --module tam --arch resnet50 --num_segments 8 \
        --lr 0.02 --lr_batch 128 --lr_type step --lr_steps 30 40 45 --epochs 50 --batch-size 16 --wd 5e-4 --gd 20 \
        --dropout 0.5 --npb -j 4 --output_dir $run --resume auto "$@"
    ;;
test)
    python test_models_three_crops.py somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 3 \
        --full_res --sample uniform-2 --output_dir $run/scores "$@"
    ;;
test1)
    python test_models_center_crop.py somethingv2 --archs resnet50 --weights $run/best.pth --test_segments 8 --test_crops 1 \
        --sample uniform-1 --output_dir $run/scores1 "$@"
    ;;
esac
