"""The two processes of PyTorch DistributedDataParallel that the benchmarks compare with: how they start and begin."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def join_group(folder: Path, rank: int) -> tuple[Any, Any, int]:
    """Be a rank, with one thread; return its own half of the samples in a folder as tensors, and the classes' number."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    features, classes = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    own = slice(rank * len(features) // PROCESSES, (rank + 1) * len(features) // PROCESSES)
    x, y = torch.from_numpy(features[own].copy()), torch.from_numpy(classes[own].astype(np.int64))
    return x, y, int(classes.max()) + 1
