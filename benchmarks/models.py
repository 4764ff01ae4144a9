"""Pictures a second in inference and training: our models against GluonCV's and against plain PyTorch.

    python benchmarks/models.py [--mxnet-python PYTHON] [--torch-python PYTHON] [--output FILE] ...

Contestants:
    gluoncv          GluonCV's network, hybridized with static memory and shapes, and Gluon's Trainer
    mxnet            ours on mxnet: the backend's predictor and training step
    twin             the same network in ordinary torch.nn code: eager, contiguous, float32, torch.optim
    torch-plain      ours on torch, used the same way as the twin
    torch            ours on torch as it runs by default: the backend's predictor and training step (channels_last,
                     compiled where it gains, bfloat16 where the device gains)

Each runs in a process of its own, in the interpreter that has its libraries, and they take turns: in every round each
one times the same number of batches, and the median of the rounds counts. Data stay on the device; loading is another
benchmark's matter. Training is SGD with momentum and weight decay on the mean cross entropy. An interpreter that lacks
a contestant's libraries leaves it out. The process that this command starts in needs none of the libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import report

MODELS = ("resnet18_v1b", "resnet50_v1b", "mobilenet1.0")
MODES = ("inference", "training")
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4

# Contestant: the backend whose interpreter it needs.
CONTESTANTS = {"gluoncv": "mxnet", "mxnet": "mxnet", "twin": "torch", "torch-plain": "torch", "torch": "torch"}
# (ours, peer, mode) -> how many times the peer's speed is wanted.
GOALS = {
    ("mxnet", "gluoncv", "inference"): 1.1,
    ("mxnet", "gluoncv", "training"): 1.0,
    ("torch-plain", "twin", "inference"): 0.98,
    ("torch-plain", "twin", "training"): 0.98,
    ("torch", "twin", "inference"): 2.0,
    ("torch", "twin", "training"): 2.0,
}

Batch = tuple[Any, Any]
Contestant = tuple[Callable[[], Any], Callable[[], Any], int]
"""What runs one batch, what waits until all is done, and the number of trained values."""


# ----------------------------------------------------------------------------------------------------------------------
# Contestants on MXNet
# ----------------------------------------------------------------------------------------------------------------------


def gluoncv(model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    from glueball import backend

    backend.use("mxnet")  # MXNet needs names that NumPy has dropped since; this brings them back
    import mxnet as mx
    from gluoncv import model_zoo

    context = mx.gpu(0) if device.startswith("cuda") else mx.cpu()
    network = model_zoo.get_model(model, pretrained=False)
    network.initialize(mx.init.MSRAPrelu(), ctx=context)
    network.hybridize(static_alloc=True, static_shape=True)
    data = mx.nd.random.normal(shape=(batch, 3, size, size), ctx=context)
    label = mx.nd.arange(batch, ctx=context) % 10
    network(data).wait_to_read()
    count = sum(parameter.data().size for parameter in _trained(network.collect_params().values()))
    if mode == "inference":
        return lambda: network(data), mx.nd.waitall, count
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss.hybridize(static_alloc=True, static_shape=True)
    options = {"learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "wd": WEIGHT_DECAY}
    trainer = mx.gluon.Trainer(network.collect_params(), "sgd", options)

    def step() -> None:
        with mx.autograd.record():
            losses = loss(network(data), label)
        losses.backward()
        trainer.step(batch)

    return step, mx.nd.waitall, count


def _trained(parameters: Iterable[Any]) -> list[Any]:
    return [parameter for parameter in parameters if parameter.grad_req != "null"]


# ----------------------------------------------------------------------------------------------------------------------
# Ours
# ----------------------------------------------------------------------------------------------------------------------


def _ours(name: str, model: str, batch: int, size: int, device: str) -> tuple[Any, Any, Batch, int]:
    """The backend, the network, a batch on the device, and the number of trained values."""
    import numpy as np

    import glueball
    from glueball import backend

    backend.use(name)
    current = backend.current()
    network = current.to_device(glueball.get_model(model), device)
    random = np.random.default_rng(0)
    data = current.array(random.normal(size=(batch, 3, size, size)).astype(np.float32), device)
    label = current.array((np.arange(batch) % 10).astype(np.float32), device)
    network(data)  # settles the shapes that depend on the pictures
    count = sum(int(np.prod(parameter.shape)) for parameter in _trained(current.parameters(network).values()))
    return current, network, (data, label), count


def _default(name: str, model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    current, network, (data, label), count = _ours(name, model, batch, size, device)
    from glueball import loss, nn
    from glueball.backend.base import OptimizerSpec, StepOptions

    precision = "float32" if current.supports_precision("bfloat16", device) else "bfloat16"
    if mode == "inference":
        predict = current.predictor(network, device=device, precision=precision)
        return lambda: predict(data), lambda: current.synchronize(device), count

    class Graph(nn.HybridBlock):
        """The network with its loss, compiled as one."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.loss = loss.SoftmaxCrossEntropyLoss()

        def hybrid_forward(self, F: Any, data: Any, label: Any) -> Any:
            output = self.network(data)
            return self.loss(output, label), output

    optimizer = OptimizerSpec(name="sgd", momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    step = current.training_step(network, Graph(), StepOptions(optimizer=optimizer, precision=precision), device)
    return lambda: step((data, label), LEARNING_RATE), lambda: current.synchronize(device), count


def mxnet(model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    return _default("mxnet", model, mode, batch, size, device)


def torch_default(model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    return _default("torch", model, mode, batch, size, device)


def torch_plain(model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    current, network, (data, label), count = _ours("torch", model, batch, size, device)
    run = _torch_loop(network, mode, data, label.long())
    return run, lambda: current.synchronize(device), count


# ----------------------------------------------------------------------------------------------------------------------
# Plain PyTorch
# ----------------------------------------------------------------------------------------------------------------------


def _torch_loop(network: Any, mode: str, data: Any, label: Any) -> Callable[[], Any]:
    """The loop that everybody writes."""
    import torch

    if mode == "inference":
        network.eval()

        def predict() -> Any:
            with torch.no_grad():
                return network(data)

        return predict
    network.train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        criterion(network(data), label).backward()
        optimizer.step()

    return step


def twin(model: str, mode: str, batch: int, size: int, device: str) -> Contestant:
    import torch

    network = _torch_twin(model).to(device)
    data = torch.randn(batch, 3, size, size, device=device)
    label = torch.arange(batch, device=device) % 10

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return _torch_loop(network, mode, data, label), wait, sum(values.numel() for values in network.parameters())


def _torch_twin(model: str) -> Any:
    """The architecture in ordinary torch.nn code."""
    import torch
    from torch import nn

    class BasicBlock(nn.Module):
        expansion = 1

        def __init__(self, in_channels: int, planes: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, planes, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = _shortcut(in_channels, planes, stride)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shortcut = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(x)) + shortcut)

    class Bottleneck(nn.Module):
        expansion = 4

        def __init__(self, in_channels: int, planes: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * planes)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = _shortcut(in_channels, 4 * planes, stride)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shortcut = x if self.downsample is None else self.downsample(x)
            x = self.relu(self.bn1(self.conv1(x)))
            x = self.relu(self.bn2(self.conv2(x)))
            return self.relu(self.bn3(self.conv3(x)) + shortcut)

    def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module | None:
        if stride == 1 and in_channels == channels:
            return None
        return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def resnet(block: Any, layers: tuple[int, ...]) -> nn.Module:
        modules: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]
        channels = 64
        for index, num_blocks in enumerate(layers):
            planes = 64 * 2**index
            for position in range(num_blocks):
                modules.append(block(channels, planes, 2 if index > 0 and position == 0 else 1))
                channels = planes * block.expansion
        return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))

    def mobilenet() -> nn.Module:
        def unit(in_channels: int, channels: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
            return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]

        modules, channels = unit(3, 32, 3, 2), 32
        widths = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
        for index, width in enumerate(widths):
            modules += unit(channels, channels, 3, 2 if index in (1, 3, 5, 11) else 1, groups=channels)
            modules += unit(channels, width, 1, 1)
            channels = width
        return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))

    if model == "resnet18_v1b":
        return resnet(BasicBlock, (2, 2, 2, 2))
    if model == "resnet50_v1b":
        return resnet(Bottleneck, (3, 4, 6, 3))
    if model == "mobilenet1.0":
        return mobilenet()
    raise ValueError(f"There is no twin of {model!r}; expected one of {', '.join(MODELS)}.")


# ----------------------------------------------------------------------------------------------------------------------
# One process for each contestant
# ----------------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[str, str, int, int, str], Contestant]] = {
    "gluoncv": gluoncv,
    "mxnet": mxnet,
    "twin": twin,
    "torch-plain": torch_plain,
    "torch": torch_default,
}
# Libraries print to stdout as they please; only lines with this mark are answers.
_MARK = "@answer "


# NumPy is another one in each environment.
_DISTRIBUTIONS = ("glueball-core", "mxnet", "gluoncv", "torch")


def serve(contestant: str) -> None:
    """In the contestant's process: prepares and times as the lines on stdin say."""
    run: Callable[[], Any] = lambda: None  # noqa: E731 - replaced by the first request
    wait: Callable[[], Any] = run
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if request["do"] == "prepare":
                device = request["device"] or _device(contestant)
                threads = request["threads"]
                if threads and CONTESTANTS[contestant] == "torch":
                    import torch

                    torch.set_num_threads(threads)
                maker = MAKERS[contestant]
                run, wait, count = maker(request["model"], request["mode"], request["batch"], request["size"], device)
                start = time.perf_counter()
                for _ in range(request["warm_up"]):
                    run()
                wait()
                answer = {"values": count, "device": device, "warm_up_seconds": time.perf_counter() - start}
                answer["versions"] = report.versions(_DISTRIBUTIONS)
            else:
                start = time.perf_counter()
                for _ in range(request["batches"]):
                    run()
                wait()
                answer = {"seconds": time.perf_counter() - start}
        except ImportError as error:
            answer = {"missing": str(error)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(_MARK + json.dumps(answer), flush=True)


def _device(contestant: str) -> str:
    if contestant in ("gluoncv", "mxnet"):
        return "cpu"
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


class Process:
    """The driver's end of a contestant."""

    def __init__(self, contestant: str, python: str, threads: int) -> None:
        environment = dict(os.environ)
        environment["GLUEBALL_BACKEND"] = CONTESTANTS[contestant]
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [python, __file__, "--contestant", contestant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer; raises RuntimeError with the other side's traceback."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(_MARK):
                answer = json.loads(line[len(_MARK) :])
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer
        raise RuntimeError(f"{process.args} ended with status {process.wait()} without an answer.")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def race(
    pythons: dict[str, str], contestants: list[str], model: str, mode: str, arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Pictures a second of each contestant in each round, and what each said of itself."""
    processes: dict[str, Process] = {}
    facts: dict[str, dict[str, Any]] = {}
    try:
        for name in contestants:
            process = Process(name, pythons[CONTESTANTS[name]], arguments.threads)
            processes[name] = process
            answer = process.ask(
                do="prepare",
                model=model,
                mode=mode,
                batch=arguments.batch,
                size=arguments.size,
                device=arguments.device,
                threads=arguments.threads,
                warm_up=arguments.warm_up,
            )
            if "missing" in answer:
                print(f"{name} is left out: {answer['missing']}", file=sys.stderr)
                processes.pop(name).close()
            else:
                facts[name] = answer
        sizes = {name: answer["values"] for name, answer in facts.items()}
        if len(set(sizes.values())) > 1:
            raise RuntimeError(f"The contestants do not train the same network: {sizes}")
        rates: dict[str, list[float]] = {name: [] for name in processes}
        for turn in range(arguments.rounds):
            # Every other round runs backwards, so that nobody always follows the same neighbour.
            order = list(processes) if turn % 2 == 0 else list(processes)[::-1]
            for name in order:
                seconds = processes[name].ask(do="time", batches=arguments.batches)["seconds"]
                rates[name].append(arguments.batch * arguments.batches / seconds)
        return rates, facts
    finally:
        for process in processes.values():
            process.close()


def main() -> None:
    """Prints a table, the ratios and whether they meet their goals; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mxnet-python", default=sys.executable, help="interpreter with mxnet and gluoncv")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="height and width of the pictures")
    parser.add_argument("--batches", type=int, default=4, help="batches that one turn times")
    parser.add_argument("--warm-up", type=int, default=3, help="batches before the first round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="threads of each contestant (default: the library's)")
    parser.add_argument("--device", default="", help="such as cuda:0 (default: what the backend prefers; MXNet: cpu)")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contestant", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        serve(arguments.contestant)
        return

    pythons = {"mxnet": arguments.mxnet_python, "torch": arguments.torch_python}
    results: list[dict[str, Any]] = []
    goals: list[report.Goal] = []
    rows: list[list[str]] = []
    found: dict[str, str] = {}
    for model in arguments.models:
        for mode in arguments.modes:
            rates, facts = race(pythons, arguments.contestants, model, mode, arguments)
            medians = {name: statistics.median(values) for name, values in rates.items()}
            cells = [f"{medians[name]:.1f}" if name in medians else "-" for name in arguments.contestants]
            rows.append([f"{model} {mode}", *cells])
            print(" ".join(rows[-1]), flush=True)
            row = {"model": model, "mode": mode, "pictures_per_second": rates, "medians": medians, "facts": facts}
            results.append(row)
            for fact in facts.values():
                found.update(fact["versions"])
            for (ours, peer, goal_mode), wanted in GOALS.items():
                if goal_mode == mode and ours in medians and peer in medians:
                    ratio = medians[ours] / medians[peer]
                    goals.append(report.Goal(f"{model} {mode}: {ours} / {peer}", ratio, wanted))
    options = {name: getattr(arguments, name) for name in ("batch", "size", "batches", "rounds", "threads")}
    devices = sorted({fact["device"] for result in results for fact in result["facts"].values()})
    report.finish(
        arguments.output,
        title=f"Models, pictures/s (batch {arguments.batch}, {arguments.size} px, {', '.join(devices)})",
        script="benchmarks/models.py",
        where={**report.machine(), "versions": found},
        document={"options": options, "results": results},
        lines=report.table(("", *arguments.contestants), rows),
        goals=goals,
    )


if __name__ == "__main__":
    main()
