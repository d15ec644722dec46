"""The two processes of PyTorch DistributedDataParallel that the benchmarks compare with: how they start and step."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

PROCESSES = 2


def run_processes(script: str, *arguments: str) -> Any:
    """Start a script once for each rank, as ``script *arguments --rank RANK``; return what rank 0 printed as JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, *arguments, "--rank"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, str(rank)], env=environment, **piped) for rank in range(PROCESSES)]
    outputs = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(outputs[0][1] + outputs[1][1])
    return json.loads(outputs[0][0].splitlines()[-1])


def own_rows(n_rows: int, rank: int) -> slice:
    """Return a rank's half of the rows."""
    return slice(rank * n_rows // PROCESSES, (rank + 1) * n_rows // PROCESSES)


def join_group(rank: int) -> None:
    """Be a rank, with one thread."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)


def leave_group(result: Any) -> NoReturn:
    """Print a result and end the process, past the end of Python: now and then a thread of PyTorch's aborts that."""
    import torch.distributed as dist

    print(json.dumps(result), flush=True)
    dist.destroy_process_group()
    os._exit(0)


def own_samples(folder: Path, rank: int) -> tuple[Any, Any, int]:
    """Return a rank's own half of the samples of `random_samples.write_dense` as tensors, and the number of classes."""
    import torch

    features, classes = np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "y.npy")
    own = own_rows(len(features), rank)
    x, y = torch.from_numpy(features[own].copy()), torch.from_numpy(classes[own].astype(np.int64))
    return x, y, int(classes.max()) + 1


def print_steps(linear: Any, x: Any, y: Any, steps: int) -> NoReturn:
    """Take full-batch steps of gradient descent from a linear module, print the seconds of each, and leave."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    model = DistributedDataParallel(linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    leave_group(seconds)
