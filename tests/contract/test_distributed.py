"""Batch normalisation over two processes equals that of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glueball import autograd, backend, nn

# Each process takes a part of the batch, of unequal sizes, and writes what its layer gave.
SCRIPT = """
import os
import sys
import numpy as np
import torch
from glueball import autograd, nn

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
data = torch.from_numpy(np.load(f"{folder}/data.npy"))
part = (data[:5] if rank == 0 else data[5:]).requires_grad_(True)
layer = nn.SyncBatchNorm(in_channels=3)
layer.initialize()
with autograd.record():
    output = layer(part)
(output * output * output).sum().backward()
gamma = layer.gamma.grad()
torch.distributed.all_reduce(gamma)
np.savez(f"{folder}/{rank}.npz", output=output.detach(), gradient=part.grad, gamma=gamma,
         mean=layer.running_mean.data(), variance=layer.running_var.data())
torch.distributed.barrier()
torch.distributed.destroy_process_group()
# PyTorch's own threads can abort an interpreter that ends on a busy machine; what is tested is in the files by now.
os._exit(0)
"""


def test_synchronized_batch_norm(tmp_path: Path) -> None:
    if backend.current().name != "torch":
        pytest.skip("torch.distributed; MXNet's own SyncBatchNorm works within one process")
    generator = np.random.Generator(np.random.Philox(9))
    data = generator.normal(2.0, 3.0, (8, 3, 4)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    environment = {**os.environ, "GLUEBALL_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    parts = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2)]

    layer = nn.BatchNorm(in_channels=3)
    layer.initialize()
    whole = nn.Parameter("data", shape=data.shape, init="zeros")
    whole.initialize()
    whole.set_data(data)
    with autograd.record():
        output = layer(whole.data())
    autograd.backward((output * output * output).sum())
    expected = {
        "output": output.detach().numpy(),
        "gradient": whole.grad().numpy(),
        "gamma": layer.gamma.grad().numpy(),
        "mean": layer.running_mean.data().numpy(),
        "variance": layer.running_var.data().numpy(),
    }
    for name in ("output", "gradient"):
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(joined, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for name in ("gamma", "mean", "variance"):
        for part in parts:
            np.testing.assert_allclose(part[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
