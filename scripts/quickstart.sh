#!/usr/bin/env bash
# Installs .venv, generates a small motion dataset, trains TSN and TDN on it, tests both and prints
# a table of the results. Then TDN predicts one of the test videos, and a picture shows which places
# of which frames its prediction is based on.
#   bash scripts/quickstart.sh [--all]
# --all also trains TSM, TIN and TAM: TIN starts from the weights of TSM, TAM from those of TIN. It
# trains a causal TSM, too, exports it for live video, and prints the command that opens the page.
# Needs Python 3.11 or newer. After the installation it takes about ten minutes on two CPU cores
# (--all: more than thirty); a GPU is used if there is one. All output is in runs/quickstart/; a
# second run reuses it.
set -euo pipefail
networks="tsn tdn"
case "$*" in
"") ;;
--all) networks="tsn tdn tsm tin tam causal-tsm" ;;
*)
    echo "error: quickstart.sh takes no argument or --all, not '$*'" >&2
    exit 2
    ;;
esac
source "$(dirname "$0")/venv.sh"
install requirements.txt
if [ "$*" = --all ]; then
    install tools/requirements.txt # the export needs onnx and onnxruntime
fi

out=runs/quickstart
data=$out/data
python tools/make_motion_dataset.py --videos 640 --size 64 --out "$data"

lists=(--root_path "$data" --class_names "$data/classes.txt" --val_list "$data/val.txt")
echo "| module | backbone | frames x crops x clips | videos | Prec@1 | Prec@5 |" >"$out/table.md"
echo "|---|---|---|---|---|---|" >>"$out/table.md"
steps="--batch-size 8 --dropout 0 --wd 1e-4"
for network in $networks; do
    run=$out/$network
    case $network in
    # Without pretrained weights TSM needs many steps before it learns motion; small frames make
    # them cheap. TIN starts from its weights. TAM, which starts close to the same temporal average
    # in every channel, needs larger frames as well.
    tsm)
        frames=8
        recipe="$steps --input_size 32 --epochs 40 --lr 0.01 --shift_div 4"
        ;;
    causal-tsm)
        frames=8
        recipe="$steps --input_size 32 --epochs 24 --lr 0.01 --shift_div 4 --shift_direction past"
        ;;
    tin)
        frames=8
        recipe="$steps --input_size 32 --epochs 12 --lr 0.01 --tune_from $out/tsm/last.pth"
        ;;
    tam)
        frames=4
        recipe="$steps --input_size 64 --epochs 16 --lr 0.005 --tune_from $out/tin/last.pth"
        ;;
    *)
        frames=4
        recipe="--input_size 48 --batch-size 16 --epochs 12 --lr 0.02 --dropout 0.2 --gd 20"
        ;;
    esac
    echo "== training $network"
    python main.py motion RGB "${lists[@]}" --train_list "$data/train.txt" \
        --module "${network#causal-}" --arch resnet18 --pretrain none --num_segments $frames \
        $recipe --lr_scheduler cosine \
        --warmup_epoch 2 --lr_policy flat --eval-freq 4 -j 2 --output_dir "$run" --resume auto
    echo "== testing $network"
    python test_models_center_crop.py motion "${lists[@]}" --archs=resnet18 \
        --weights "$run/last.pth" --test_segments=$frames --test_crops=1 --batch_size=16 -j 2 \
        --clip_index=0 --output_dir "$run/scores"
    result=$(python pkl_to_results.py "$run/scores")
    echo "$result"
    videos=$(grep -o '[0-9]*/[0-9]* videos' <<<"$result")
    top1=$(sed -n 's/.*Prec@1 \([0-9.]*\)%.*/\1/p' <<<"$result" | tail -1)
    top5=$(sed -n 's/.*Prec@5 \([0-9.]*\)%.*/\1/p' <<<"$result" | tail -1)
    row="| $(tr a-z A-Z <<<"$network") | resnet18 | $frames x 1 x 1 | ${videos% videos} | $top1 | $top5 |"
    echo "$row" >>"$out/table.md"
done
echo "== predicting and explaining a video with tdn"
weights=$out/tdn/last.pth
video=$data/$(sed -n '1s/ [0-9]*$//p' "$data/val.txt")
python tools/predict.py "$video" --weights "$weights"
python tools/explain.py "$video" --weights "$weights" --out "$out/explanation.png"
python pkl_to_results.py "$out/tdn/scores" --report "$out/report" --explain >"$out/report.log"
if [ "$*" = --all ]; then
    echo "== exporting causal-tsm for live video"
    python tools/export.py --weights "$out/causal-tsm/last.pth" --stream --out "$out/live.onnx"
fi
echo
cat "$out/table.md"
echo
echo "what TDN bases its prediction on: $out/explanation.png"
echo "report of the test of TDN:        $out/report/report.html"
if [ "$*" = --all ]; then
    echo "live in the browser (move the camera):"
    # The network was trained on 8 frames of videos of 2 seconds.
    echo "    .venv/bin/python tools/live.py --page --weights $out/live.onnx --fps 4"
fi
