"""How much of a device's arithmetic and bandwidth the swap of a batch and a step of a fit reach.

    python benchmarks/measure_roofline.py --out roofline.jsonl --profile profile.txt

Their floating-point operations (FlopCounterMode) and bytes (what every operator reads and writes of its tensors) are
counted from shapes, and divided by the measured time and by what a large matrix product and a large copy reach in the
same process. The bytes are those of operators one by one: a fused kernel moves fewer. A swap is counted without its
graph, whose operators nobody sees, and timed with it; how many images are swapped differs from call to call.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accuracy.rows import append_row, machine, read_rows
from accuracy.training import precision
from measure_speed import quick_fit
from speed.samples import random_images
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from glico_augment import FitConfig
from glico_augment.capture import SWITCH
from glico_augment.data.image_set import read_image_set
from glico_augment.fit.loop import Fit


class ByteCounter(TorchDispatchMode):
    """Adds up the bytes of the tensors that operators read and write; a view moves none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.name():
            tensors = [leaf for leaf in tree_leaves([args, kwargs, result]) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def main() -> None:
    args = parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    done = {(row["what"], row["device"], row["machine"]) for row in read_rows(args.out)}
    here = machine(device)
    works = {"swap": swap, "fit step": fit_step}
    if wanted := [what for what in works if (what, device.type, here["machine"]) not in done]:
        peaks = measure_peaks(device, args.size)
        for what in wanted:
            work, kind = works[what](device, args)
            row = {"what": what, "device": device.type, "side": args.side, "batch": args.batch, "precision": kind}
            row |= roofline(work, device, args.rounds, peaks[f"{kind} flops"], peaks["bytes"])
            append_row(args.out, row | here)
            print({name: row[name] for name in ("what", "milliseconds", "arithmetic", "bandwidth")}, flush=True)
    if args.profile is not None and not args.profile.exists():
        args.profile.write_text(profiled(fit_step(device, args)[0], device, args.rounds))


def swap(device: torch.device, args: argparse.Namespace) -> tuple[Callable[[], Any], str]:
    images, labels = random_images(100, args.side)
    order = torch.arange(args.batch) % len(images)
    batch, targets = (images[order] / 255).to(device), labels[order].to(device)
    return partial(quick_fit(len(images), args.side, "tensor", args.side, device), batch, targets), "float32"


def fit_step(device: torch.device, args: argparse.Namespace) -> tuple[Callable[[], Any], str]:
    image_set = read_image_set(TensorDataset(*random_images(max(args.batch, 100), args.side)))
    config = FitConfig(steps=100_000, batch_size=args.batch).resolved(len(image_set), image_set.image_shape)
    fit = Fit(image_set, config, device=device, seed=0)
    return fit.step, precision(device)  # which is that of a default fit as well


def roofline(
    work: Callable[[], Any], device: torch.device, rounds: int, peak_flops: float, peak_bytes: float
) -> dict[str, float]:
    """What the work counts, how long it takes, and the shares of the two peaks that it reaches."""
    switch = os.environ.get(SWITCH, "1")
    os.environ[SWITCH] = "0"
    torch.manual_seed(0)
    with FlopCounterMode(display=False) as flops:
        work()
    torch.manual_seed(0)
    with ByteCounter() as moved:
        work()
    os.environ[SWITCH] = switch
    seconds = timed(work, device, rounds)
    return {
        "milliseconds": 1000 * seconds,
        "gflop": flops.get_total_flops() / 1e9,
        "megabytes": moved.total / 1e6,
        "peak_tflops": peak_flops / 1e12,
        "peak_gb_a_second": peak_bytes / 1e9,
        "arithmetic": flops.get_total_flops() / seconds / peak_flops,
        "bandwidth": moved.total / seconds / peak_bytes,
    }


def measure_peaks(device: torch.device, size: int) -> dict[str, float]:
    """What a matrix product of ``size`` a side reaches, in each precision, and a copy of as many bytes as 16 of them.

    float32 may use TF32, as convolutions do by default.
    """
    peaks = {}
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    for kind in (torch.bfloat16, torch.float32):
        left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
        seconds = timed(partial(torch.mm, left, right), device, 10)
        peaks[f"{str(kind).removeprefix('torch.')} flops"] = 2 * size**3 / seconds
    torch.set_float32_matmul_precision(allowed)
    source = torch.zeros(16 * size**2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    peaks["bytes"] = 2 * source.numel() / timed(partial(target.copy_, source), device, 10)
    return peaks


def timed(work: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Seconds of one call, on average over ``rounds`` made one after the other and waited for at the end."""
    for _ in range(50 if device.type == "cuda" else 3):  # a swap has a graph for each number of images
        work()
    wait(device)
    start = time.perf_counter()
    for _ in range(rounds):
        work()
    wait(device)
    return (time.perf_counter() - start) / rounds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def profiled(work: Callable[[], Any], device: torch.device, rounds: int) -> str:
    """The operators and kernels of some calls as a table, the longest first."""
    work()
    wait(device)
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as profiler:
        for _ in range(rounds):
            work()
        wait(device)
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    return f"{rounds} steps of a fit\n{profiler.key_averages().table(sort_by=order, row_limit=40)}\n"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="result file, appended to")
    parser.add_argument("--profile", type=Path, help="file for a table of torch.profiler")
    parser.add_argument("--side", type=int, default=32, help="of the images")
    parser.add_argument("--batch", type=int, default=128, help="images a batch")
    parser.add_argument("--rounds", type=int, default=50, help="calls timed together")
    parser.add_argument("--size", type=int, default=8192, help="side of the matrices whose product is the peak")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
