"""How much of a device's arithmetic and bandwidth the swap of a batch and a step of a fit reach.

    python benchmarks/measure_roofline.py --out benchmarks/results/roofline.jsonl

Their floating-point operations (FlopCounterMode) and bytes (what every operator reads and writes of its tensors) are
counted from shapes, and divided by the measured time and by what a large matrix product and a large copy reach in the
same process. The bytes are those of operators one by one: a fused kernel moves fewer. A swap is counted without its
graph, whose operators nobody sees, and timed with it; how many images are swapped differs from call to call.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from typing import Any

import torch
from measure_speed import quick_fit
from shared.runner import Row, arguments, machine, run
from shared.training import precision
from speed.fits import start_fit
from speed.timing import Action, random_images
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

SWITCH = "GLICO_CUDA_GRAPHS"


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
    args = arguments(
        __doc__,
        has_data=False,
        side=(32, "of the images"),
        batch=(128, "images per batch"),
        rounds=(50, "calls timed together"),
        size=(8192, "side of the matrices whose product is the peak"),
    )
    device = torch.device(args.device)
    here = {"device": device.type, "machine": machine(device)["machine"], "side": args.side, "batch": args.batch}
    run(args, [{"what": what} | here for what in ("swap", "fit step")], measure)


def measure(args: argparse.Namespace, unit: Row) -> Row:
    device = torch.device(args.device)
    images, labels = random_images(max(args.batch, 100), args.side)
    if unit["what"] == "swap":
        images, labels, kind = images[: args.batch], labels[: args.batch], torch.float32
        fit = quick_fit(100, args.side, "tensor", args.side, device)
        work = partial(fit, (images / 255).to(device), labels.to(device))
    else:
        kind = getattr(torch, precision(device))  # which is that of a default fit as well
        work = start_fit(TensorDataset(images, labels), device, steps=100_000, batch_size=args.batch).step
    peaks = peak_flops(device, args.size, kind), peak_bytes(device, args.size)
    return {"precision": str(kind).removeprefix("torch.")} | roofline(work, device, args.rounds, *peaks)


def roofline(work: Action, device: torch.device, rounds: int, peak_flops: float, peak_bytes: float) -> Row:
    """What the work counts, how long it takes, and the shares of the two peaks that it reaches."""
    switch = os.environ.get(SWITCH, "1")
    os.environ[SWITCH] = "0"
    counters = FlopCounterMode(display=False), ByteCounter()
    for counter in counters:
        torch.manual_seed(0)
        with counter:
            work()
    os.environ[SWITCH] = switch
    flops, moved, seconds = counters[0].get_total_flops(), counters[1].total, timed(work, device, rounds)
    return {
        "milliseconds": 1000 * seconds,
        "gflop": flops / 1e9,
        "megabytes": moved / 1e6,
        "peak_tflops": peak_flops / 1e12,
        "peak_gb_a_second": peak_bytes / 1e9,
        "arithmetic": flops / seconds / peak_flops,
        "bandwidth": moved / seconds / peak_bytes,
    }


def peak_flops(device: torch.device, size: int, kind: torch.dtype) -> float:
    """What a matrix product of ``size`` a side reaches; float32 may use TF32, as convolutions do by default."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    seconds = timed(partial(torch.mm, left, right), device, 10)
    torch.set_float32_matmul_precision(allowed)
    return 2 * size**3 / seconds


def peak_bytes(device: torch.device, size: int) -> float:
    """What a copy of ``16 · size²`` bytes reaches."""
    source = torch.zeros(16 * size**2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / timed(partial(target.copy_, source), device, 10)


def timed(work: Action, device: torch.device, rounds: int) -> float:
    """Seconds of one call, on average over ``rounds`` made one after the other and waited for at the end."""
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    for _ in range(50 if device.type == "cuda" else 3):  # a swap has a graph for each number of images
        work()
    wait()
    start = time.perf_counter()
    for _ in range(rounds):
        work()
    wait()
    return (time.perf_counter() - start) / rounds


if __name__ == "__main__":
    main()
