"""Many images through a loader with a bank: what grows."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, RandomSampler

from glico_augment import SyntheticBank

WARM_UP = 0.2  # of the images, before the first look: caches fill, threads start


class _Images(torch.utils.data.Dataset):
    """A map-style set that a spawned worker can be sent."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


def growth(augment, images, labels, *, count, start, batch_size=500):
    """Draw ``count`` images through two workers, refreshing the bank once in a while.

    Returns:
        ``images`` drawn, by how much memory (MiB), descriptors and shared memory (MiB) of this process and its workers
        grew after the warm-up, and ``rate``, images a second of the second half of the rest over those of the first.
    """
    bank = SyntheticBank(augment, device="cpu")
    swapped = augment.wrap(_Images(images, labels), bank=bank)
    sampler = RandomSampler(swapped, replacement=True, num_samples=count)
    loader = DataLoader(
        swapped, batch_size, sampler=sampler, num_workers=2, multiprocessing_context=start, prefetch_factor=2
    )
    before, n_drawn, halfway = None, 0, 0.0
    first, last = WARM_UP * count, count - 4 * batch_size
    batches = iter(loader)
    for batch, _ in batches:
        n_drawn += len(batch)
        if n_drawn % (20 * batch_size) == 0:
            bank.refresh()
        if before is None and n_drawn >= first:
            before, started, first = _look(batches), time.perf_counter(), n_drawn
        if not halfway and n_drawn >= (first + last) / 2:
            halfway, middle = time.perf_counter(), n_drawn
        # The workers end with the last batch; what they had by then is in the last look before it.
        if n_drawn == last:
            after, ended = _look(batches), time.perf_counter()
    rate = (last - middle) / (ended - halfway) / ((middle - first) / (halfway - started))
    return {"images": n_drawn, "rate": round(rate, 2)} | {name: round(after[name] - before[name], 2) for name in before}


def _look(batches):
    processes = [os.getpid(), *(worker.pid for worker in batches._workers)]
    status = [
        dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()) for pid in processes
    ]
    return {
        "memory": sum(int(each["VmRSS"].split()[0]) for each in status) / 1024,
        "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes),
        "shared memory": shutil.disk_usage("/dev/shm").used / 2**20,
    }
