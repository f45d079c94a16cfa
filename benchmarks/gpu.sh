#!/usr/bin/env bash
# What a GPU is wanted for, in stages of less than ten minutes each:
#
#     bash benchmarks/gpu.sh [--toy] OUT [pack|tests|speed|small|accuracy|report …]
#
# All stages, one after the other, if none is named. Everything is written to OUT: results to OUT/results, the packed
# data to OUT/data, fits and unfinished trainings to OUT/fits. The same command skips what is done and goes on with what
# is not; the exit status is 75 if the time of a stage (MINUTES, 8.5) was too short for it. The environment says the rest:
# DATA (the folder with cifar10/train/<class>/ and, for small, signs/, mnist/ and omniglot/; for pack alone), PYTHON, DEVICE
# (cuda), JOBS (trainings side by side, of small batches). --toy makes as little of everything as it takes, to rehearse.
#
# Trainings side by side go through NVIDIA's Multi-Process Service where it is there, without which their kernels take
# turns. One of WRN-28-10 fills a GPU, and runs alone.
set -euo pipefail
unset PYTEST_ADDOPTS # those of a caller, coverage say, are of a whole run

say() { echo "gpu.sh: $*" >&2; }

toy=
if [[ ${1-} == --toy ]]; then
    toy=1
    shift
fi
if (($# == 0)) || [[ $1 == -* ]]; then
    say "expected: gpu.sh [--toy] OUT [pack|tests|speed|small|accuracy|report …]"
    exit 2
fi
mkdir -p "$1/results"
out=$(cd "$1" && pwd)
shift
stages=("$@")
((${#stages[@]})) || stages=(pack tests speed small accuracy report)
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=$(cd "${DATA:-/dev/null}" 2>/dev/null && pwd || true)
python=${PYTHON:-python3}
[[ $python == */* && $python != /* ]] && python=$PWD/$python
cd "$checkout"

results=$out/results
device=${DEVICE:-cuda}
jobs=${JOBS:-6}
export PYTHONPATH=$checkout${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# A command with what is left of the stage's time.
limited() {
    local left=$((deadline - SECONDS)) status=0
    ((left > 0)) && { timeout "$left" "$@" || status=$?; }
    if ((left <= 0 || status == 124)); then
        say "the time of the stage is over; the same command goes on"
        exit 75
    fi
    return "$status"
}

pack() {
    if [[ -e $out/data/cifar10.zip ]]; then
        say "pack: $out/data/cifar10.zip is there"
        return
    elif [[ -z $data || ! -d $data/cifar10 ]]; then
        say "pack: there is no $out/data/cifar10.zip, and DATA names no folder that has cifar10/ in it"
        exit 1
    fi
    for set in signs mnist omniglot cifar10; do
        [[ -d $data/$set ]] && limited "$python" benchmarks/pack_data.py "$data/$set" "$out/data/$set.zip"
    done
}

# A process for each file, eight at a time: one line a file in tests.txt, and what failed in failures.txt.
tests() {
    local list=("${TESTS[@]}") left=()
    for file in "${list[@]}"; do
        grep -qxF "passed $file" "$results/tests.txt" 2>/dev/null || left+=("$file")
    done
    say "tests: ${#left[@]} of ${#list[@]} files to run"
    ((${#left[@]})) || return 0
    rm -f "$results/failures.txt"
    sed -i '/^failed /d' "$results/tests.txt" 2>/dev/null || true
    export python results
    limited xargs -P 8 -n 1 bash -c '
        log=$(mktemp)
        status=0
        "$python" -m pytest -q -rs -p no:cacheprovider "$1" >"$log" 2>&1 || status=$?
        if ((status == 0 || status == 5)); then  # 5: a file whose tests are all skipped at its top
            echo "passed $1" >>"$results/tests.txt"
        else
            echo "failed $1" >>"$results/tests.txt"
            cat "$log" >>"$results/failures.txt"
        fi
        echo "$1: $(tail -n 1 "$log")"
        grep "^SKIPPED" "$log" || true
        rm "$log"' _ <<<"$(printf '%s\n' "${left[@]}")"
    if grep -q '^failed ' "$results/tests.txt"; then
        say "tests: $(grep -c '^failed ' "$results/tests.txt") files failed, see $results/failures.txt"
        exit 1
    fi
}

speed() {
    local measure=("$python" benchmarks/measure_speed.py --out "$results/speed.jsonl" --device "$device")
    if [[ $toy ]]; then
        measure+=(--sides 10 --batches 4 --workers 0 --images 12 --rounds 2 --fit-steps 2 --threads 1)
        limited "${measure[@]}" --parts batch loader --samples tensor --ways bank
        limited "$python" benchmarks/measure_roofline.py --out "$results/roofline.jsonl" --device "$device" \
            --profile "$results/profile.txt" --side 10 --batch 4 --rounds 2 --size 64 --threads 1
        return
    fi
    limited "${measure[@]}" --parts batch --sides 32 100 224
    limited "$python" benchmarks/measure_roofline.py --out "$results/roofline.jsonl" --device "$device" \
        --profile "$results/profile.txt"
    limited "${measure[@]}" --parts fit --sides 32 64
    # Enough images for all workers to have batches.
    local loader=(--parts loader --workers 16 --ways bank "bank and refresh" fresh style)
    limited "${measure[@]}" "${loader[@]}" --sides 32 --images 10000
    limited "${measure[@]}" "${loader[@]}" --sides 224 --images 2000 --batches 32 --fit-side 64 --samples PIL JPEG
    limited "$python" benchmarks/measure_growth.py --out "$results/growth.jsonl" --device "$device"
}

# The small network, whose rows are for the processor as well, in a file of their own.
small() {
    local methods="none pixel style glico glico+style autoaugment" both="style+autoaugment glico+style+autoaugment"
    local main="cifar10-10 cifar10-50 signs-5 signs-10" five="0 1 2 3 4" ten="0 1 2 3 4 5 6 7 8 9"
    share_gpu
    if [[ $toy ]]; then
        ROWS=accuracy_gpu train 1 "cifar10-2 / none style / 0"
        return
    fi
    cp -n "$checkout/benchmarks/results/accuracy_gpu.jsonl" "$results" # what is there is not made again
    ROWS=accuracy_gpu train "${JOBS:-15}" \
        "$main / $methods $both / $ten" \
        "omniglot-2 omniglot-5 / $methods / $five" \
        "omniglot-1 / ${methods/ pixel/} / $five" \
        "mnist-5 mnist-10 digits-5 digits-10 / $methods / $five" \
        "$main / published / $ten" \
        "cifar10-10 / glico-transductive-train glico-transductive-test / 0 1 2" \
        "mnist-5 omniglot-1 cifar10-10 / glico-noise glico-random-out glico-other-class pixel-other-class / $five"
}

share_gpu() {
    if [[ $device == cuda && -z ${CUDA_MPS_PIPE_DIRECTORY-} ]] && command -v nvidia-cuda-mps-control >/dev/null; then
        export CUDA_MPS_PIPE_DIRECTORY=$out/mps CUDA_MPS_LOG_DIRECTORY=$out/mps
        mkdir -p "$out/mps"
        nvidia-cuda-mps-control -d
        trap 'echo quit | nvidia-cuda-mps-control' EXIT
    fi
}

# Seeds and settings in the order of what they tell for their time; the last lines are all that is left.
accuracy() {
    local main="none glico style pixel autoaugment style+autoaugment glico+style+autoaugment published"
    local few="none glico+style+autoaugment style+autoaugment"
    if [[ ! -e $out/data/cifar10.zip ]]; then
        say "accuracy: there is no $out/data/cifar10.zip: run the stage pack first, where the images are"
        exit 1
    fi
    share_gpu
    if [[ $toy ]]; then
        train 1 "cifar10-2 / none glico:min_steps=2,epochs=1,generator_width=4 autoaugment / 0"
        return
    fi
    train "$jobs" "cifar10-10-wrn16-8 / $main / 0 1 2"
    train 1 "cifar10-50-wrn28-10 / $few / 0"
    train "$jobs" "cifar10-50-wrn16-8 / $main / 0"
    train 1 "cifar10-10-wrn28-10 / $few / 0" "cifar10-50-wrn28-10 cifar10-10-wrn28-10 / $main / 0"
    train "$jobs" "cifar10-50-wrn16-8 / $main / 1 2"
    train 1 "cifar10-50-wrn28-10 cifar10-10-wrn28-10 / $main / 1 2"
}

# JOBS GRID…, as measure_accuracy.py has grids, to the file of ROWS
train() {
    local side_by_side=$1 left=$((deadline - SECONDS)) changes=(--set batched=true) grids=()
    shift
    for grid; do grids+=(--grid "$grid"); done
    [[ $toy ]] && changes+=(steps=30 batch_size=4 dropout=0.1)
    ((left > 0)) || left=0
    # A margin for trainings to be written.
    limited "$python" benchmarks/measure_accuracy.py --data "$out/data" --out "$results/${ROWS:-accuracy}.jsonl" \
        --fits "$out/fits" --device "$device" "${grids[@]}" "${changes[@]}" --threads 1 --jobs "$side_by_side" \
        --minutes "$(awk "BEGIN { print ($left > 30 ? $left - 30 : $left / 2) / 60 }")"
}

# The rows of OUT that benchmarks/results does not have yet go there, and the reports are written anew.
report() {
    local home=$checkout
    if [[ $toy ]]; then  # those of a copy
        home=$out/copy
        mkdir -p "$home"
        cp -r README.md benchmarks "$home"
    fi
    for file in accuracy accuracy_gpu speed growth roofline; do
        local from=$results/$file.jsonl to=$home/benchmarks/results/$file.jsonl
        [[ -e $from ]] || continue
        touch "$to"
        { grep -vxFf "$to" "$from" || true; } >"$out/new.jsonl"
        cat "$out/new.jsonl" >>"$to"
        rm "$out/new.jsonl"
    done
    limited "$python" "$home/benchmarks/report.py"
    limited "$python" "$home/benchmarks/report_speed.py"
}

if [[ $toy ]]; then
    TESTS=(tests/test_packaging.py tests/test_cuda.py)
else
    TESTS=(tests/test_cuda.py $(find tests -name 'test_*.py' ! -name test_cuda.py | sort))
fi
for stage in "${stages[@]}"; do
    if [[ ! $stage =~ ^(pack|tests|speed|small|accuracy|report)$ ]]; then
        say "the stages are pack, tests, speed, small, accuracy and report; got '$stage'"
        exit 2
    fi
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
