#!/usr/bin/env bash
# What a GPU is wanted for, in stages of less than ten minutes each:
#
#     bash benchmarks/gpu.sh [--toy] OUT [pack|wide|tests|speed|small|accuracy|report …]
#
# All stages, one after the other, if none is named. Everything is written to OUT: results to OUT/results, packed data to
# OUT/data, fits and unfinished trainings to OUT/fits. The same command skips what is done and goes on with what is not;
# the exit status is 75 if the time of a stage (MINUTES, 8.5) was too short. The environment says the rest: DATA (the
# folder with cifar10/train/<class>/ and, for small, signs/, mnist/ and omniglot/; for pack alone), PYTHON, DEVICE (cuda),
# JOBS (trainings side by side, of small batches). --toy makes as little of everything as it takes, to rehearse.
#
# Trainings side by side go through NVIDIA's Multi-Process Service where it is there, without which their kernels take
# turns. One of WRN-28-10 fills a GPU, and runs alone.
set -euo pipefail
unset PYTEST_ADDOPTS # those of a caller, coverage say, are of a whole run

say() { echo "gpu.sh: $*" >&2; }
end() { say "${@:2}"; exit "$1"; }

toy=
[[ ${1-} == --toy ]] && toy=1 && shift
(($#)) && [[ $1 != -* ]] || end 2 "expected: gpu.sh [--toy] OUT [pack|wide|tests|speed|small|accuracy|report …]"
mkdir -p "$1/results"
out=$(cd "$1" && pwd) results=$(cd "$1/results" && pwd)
shift
stages=("$@")
((${#stages[@]})) || stages=(pack wide tests speed small accuracy report)
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=$(cd "${DATA:-/dev/null}" 2>/dev/null && pwd || true)
python=${PYTHON:-python3} device=${DEVICE:-cuda} jobs=${JOBS:-6}
[[ $python == */* && $python != /* ]] && python=$PWD/$python
cd "$checkout"
export PYTHONPATH=$checkout:$checkout/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# A command with what is left of the stage's time.
limited() {
    local left=$((deadline - SECONDS)) status=0
    ((left > 0)) && { timeout "$left" "$@" || status=$?; }
    ((left > 0 && status != 124)) || end 75 "the time of the stage is over; the same command goes on"
    return "$status"
}

pack() {
    [[ -e $out/data/cifar10.zip ]] && say "pack: $out/data/cifar10.zip is there" && return
    [[ -n $data && -d $data/cifar10 ]] ||
        end 1 "pack: there is no $out/data/cifar10.zip, and DATA names no folder that has cifar10/ in it"
    limited "$python" benchmarks/shared/data.py "$data" "$out/data"
}

tests() {
    local status=0 files=tests
    [[ $toy ]] && files=tests/test_cuda.py
    limited "$python" -m pytest -n 0 -q -rs -p no:cacheprovider "$files" 2>&1 | tee "$results/tests.txt" || status=$?
    ((status == 0)) || end "$status" "tests: see $results/tests.txt"
}

speed() {
    local measure=("$python" benchmarks/measure_speed.py --out "$results/speed.jsonl" --device "$device")
    local roofline=("$python" benchmarks/measure_roofline.py --out "$results/roofline.jsonl" --device "$device")
    if [[ $toy ]]; then
        limited "${measure[@]}" --sides 10 --batches 4 --workers 0 --images 12 --rounds 2 --threads 1 --parts batch
        limited "${roofline[@]}" --side 10 --batch 4 --rounds 2 --size 64
        return
    fi
    limited "${measure[@]}" --parts batch --sides 32 100 224
    limited "${roofline[@]}"
    limited "${measure[@]}" --parts fit --sides 32 64
    # Enough images for all workers to have batches.
    limited "${measure[@]}" --parts loader --workers 16 --sides 32 --images 10000
    limited "${measure[@]}" --parts loader --workers 16 --sides 224 --images 2000 --batches 32 --fit-side 64 \
        --samples PIL JPEG
    limited "$python" benchmarks/measure_growth.py --out "$results/growth.jsonl" --device "$device"
}

share_gpu() {
    if [[ $device == cuda && -z ${CUDA_MPS_PIPE_DIRECTORY-} ]] && command -v nvidia-cuda-mps-control >/dev/null; then
        export CUDA_MPS_PIPE_DIRECTORY=$out/mps CUDA_MPS_LOG_DIRECTORY=$out/mps
        mkdir -p "$out/mps"
        nvidia-cuda-mps-control -d
        trap 'echo quit | nvidia-cuda-mps-control' EXIT
    fi
}

# FILE JOBS GRID…, as measure_accuracy.py has grids; with a margin for trainings to be written.
train() {
    local file=$1 side_by_side=$2 left=$((deadline - SECONDS)) changes=(batched=true)
    [[ $toy ]] && changes+=(steps=3 batch_size=4 dropout=0.1)
    [[ -e $out/chosen.json ]] && changes+=(--chosen "$out/chosen.json")
    [[ -e $out/data/cifar10.zip ]] ||
        end 1 "there is no $out/data/cifar10.zip: run the stage pack first, where the images are"
    limited "$python" benchmarks/measure_accuracy.py --data "$out/data" --out "$results/$file.jsonl" \
        --fits "$out/fits" --device "$device" --grid "${@:3}" --set "${changes[@]}" --jobs "$side_by_side" \
        --minutes "$(awk "BEGIN { print ($left > 30 ? $left - 30 : $left / 2) / 60 }")"
}

# The main table: the training and the fit are chosen first, then three draws of all rows, then more.
wide() {
    local all="none glico field style glico+style field+style pixel autoaugment style+autoaugment"
    all+=" glico+style+autoaugment field+style+autoaugment plain"
    local main="cifar10-10-wrn16-4 cifar10-50-wrn16-4 signs-5-wrn16-4 mnist-5-wrn16-4 signs-10-wrn16-4 omniglot-2-wrn16-4"
    local chosen=$out/chosen.json many=${JOBS:-15}
    share_gpu
    [[ $toy ]] && { train wide 1 "cifar10-2 / none style+autoaugment / 0"; return; }
    limited "$python" benchmarks/measure_tuning.py --data "$out/data" --out "$results/tuning.jsonl" --fits "$out/fits" \
        --device "$device" --jobs "$many" --seeds 100 101 --chosen "$chosen"
    train wide "$many" "$main / $all / 0 1 2" "cifar10-10-wrn16-4 signs-5-wrn16-4 mnist-5-wrn16-4 / published / 0 1 2" \
        "$main / glico+style+autoaugment-spared / 0 1 2" "$main / $all / 3 4" "$main / $all / 5 6 7 8 9"
}

# The small network, whose rows are for the processor as well, in a file of their own.
small() {
    local methods="none pixel style plain plain+style autoaugment" both="style+autoaugment plain+style+autoaugment"
    local main="cifar10-10 cifar10-50 signs-5 signs-10" five="0 1 2 3 4" ten="0 1 2 3 4 5 6 7 8 9"
    share_gpu
    [[ $toy ]] && { train accuracy_gpu 1 "cifar10-2 / none style / 0"; return; }
    cp -n benchmarks/results/accuracy_gpu.jsonl "$results" # what is there is not made again
    train accuracy_gpu "${JOBS:-15}" "$main / $methods $both / $ten" "omniglot-2 omniglot-5 / $methods / $five" \
        "omniglot-1 / ${methods/ pixel/} / $five" "mnist-5 mnist-10 digits-5 digits-10 / $methods / $five" \
        "$main / published / $ten" "cifar10-10 / glico-transductive-train glico-transductive-test / 0 1 2" \
        "mnist-5 omniglot-1 cifar10-10 / glico-noise glico-random-out glico-other-class / $five" \
        "mnist-5 cifar10-10 / pixel-other-class / $five"
}

# Seeds and settings in the order of what they tell for their time; the last line is all that is left.
accuracy() {
    local main="none plain style pixel autoaugment style+autoaugment plain+style+autoaugment published"
    local few="none plain+style+autoaugment style+autoaugment" wide="cifar10-50-wrn28-10 cifar10-10-wrn28-10"
    share_gpu
    [[ $toy ]] && { train accuracy 1 "cifar10-2 / none glico:min_steps=2,epochs=1,generator_width=4 autoaugment / 0"; return; }
    train accuracy "$jobs" "cifar10-10-wrn16-8 / $main / 0 1 2"
    train accuracy 1 "cifar10-50-wrn28-10 / $few / 0"
    train accuracy "$jobs" "cifar10-50-wrn16-8 / $main / 0"
    train accuracy 1 "cifar10-10-wrn28-10 / $few / 0" "$wide / $main / 0"
    train accuracy "$jobs" "cifar10-50-wrn16-8 / $main / 1 2"
    train accuracy 1 "$wide / $main / 1 2"
}

# The rows of OUT that benchmarks/results does not have yet go there, and the reports are written anew.
report() {
    local home=$checkout
    [[ $toy ]] && home=$out/copy && mkdir -p "$home" && cp -r README.md benchmarks "$home" # those of a copy
    for file in accuracy accuracy_gpu wide tuning speed growth roofline; do
        [[ -e $results/$file.jsonl ]] || continue
        { grep -vxFf "$home/benchmarks/results/$file.jsonl" "$results/$file.jsonl" || true; } >"$out/new.jsonl"
        cat "$out/new.jsonl" >>"$home/benchmarks/results/$file.jsonl"
    done
    limited "$python" "$home/benchmarks/report_accuracy.py"
    limited "$python" "$home/benchmarks/report_speed.py"
}

for stage in "${stages[@]}"; do
    [[ $stage =~ ^(pack|wide|tests|speed|small|accuracy|report)$ ]] ||
        end 2 "the stages are pack, wide, tests, speed, small, accuracy and report; got '$stage'"
done
for stage in "${stages[@]}"; do
    deadline=$((SECONDS + $(awk "BEGIN { print int(60 * ${MINUTES:-8.5}) }")))
    if [[ $stage != report ]] && grep -qxF "$stage" "$results/done.txt" 2>/dev/null; then
        say "$stage: done, as $results/done.txt says"
        continue
    fi
    "$stage"
    say "$stage: done"
    [[ $stage == report ]] || echo "$stage" >>"$results/done.txt"
done
