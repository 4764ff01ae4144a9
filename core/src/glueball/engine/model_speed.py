"""How fast a model predicts and trains on this machine, and how much memory it takes.

What is measured is what users get: the backend's predictor and its training step, on data that lie on the device
already. One process measures one model once, because a process keeps the memory that it had at its highest. So this
module is also a program: ``python -m glueball.engine.model_speed`` reads a request from standard input and answers on
standard output, both JSON; ``glueball bench`` starts it for every model.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from glueball.catalog.entries import Entry
from glueball.errors import GlueballError, OptionError

MODES = ("inference", "training")

_FIRST_BATCHES = 3
_LEAST_TURNS = 5
# Waiting for a GPU after every batch would be a good part of a short one.
_TURN_SECONDS = 0.1
_VOCABULARY = 8  # what test_inputs promises of tokens
_STATUS = Path("/proc/self/status")
_PEAK_RESET = Path("/proc/self/clear_refs")


@attrs.frozen(kw_only=True)
class Speed:
    """What one measurement found."""

    model: str
    mode: str
    backend: str
    device: str
    precision: str
    batch_size: int
    input_shape: tuple[int, ...]
    samples_per_second: float
    """At the median turn."""
    slowest: float
    """Samples a second in the slowest turn."""
    fastest: float
    turns: int
    parameters: int
    """Values that training changes."""
    memory: int | None
    """Bytes: on an accelerator the most that was in use, on the CPU what the process grew by at most while the model
    was built and run; None where the system does not tell."""


def inputs_for(entry: Entry, batch_size: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Random inputs of the size that the model is used with, and the options that it is built with.

    The plugin names both: ``bench_input_shape``, or else ``input_shape``, or else ``test_input_shape``; and
    ``bench_options``, or else ``test_options``. Tokens are drawn from the ``vocab_size`` of the options.

    Raises:
        OptionError: the model states no shape at all.
    """
    metadata = entry.metadata
    shape = metadata.get("bench_input_shape") or metadata.get("input_shape") or metadata.get("test_input_shape")
    if shape is None:
        raise OptionError(
            f"The model '{entry.name}' states neither bench_input_shape nor input_shape, so that nobody knows what to "
            "run it on. Its plugin has to say it where it registers the model."
        )
    options = dict(metadata.get("bench_options") or metadata.get("test_options") or {})
    random = np.random.default_rng(0)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "array": lambda: random.standard_normal((batch_size, *shape)).astype(np.float32),
        "tokens": lambda: random.integers(0, options.get("vocab_size", _VOCABULARY), (batch_size, *shape)).astype(
            np.int32
        ),
        "length": lambda: np.full(batch_size, shape[0], np.float32),
    }
    return [makers[name]() for name in metadata.get("test_inputs", ("array",))], options


def measure(
    name: str,
    mode: str,
    *,
    batch_size: int = 16,
    device: str | None = None,
    precision: str = "auto",
    seconds: float = 3.0,
    warm_up: float = 0.0,
    compile: bool = True,
) -> Speed:
    """Builds a model with random weights, and predicts or trains with it for a while.

    Training is SGD with momentum: on the mean cross-entropy where the model's task is a classification, otherwise on
    the mean square of everything that the model returns.

    Args:
        name: one of ``glueball.list_models()``.
        mode: "inference" or "training".
        batch_size: samples in a batch.
        device: "cpu", "cuda:0", ...; the backend's best one by default.
        precision: "auto", "float32", "bfloat16" or "float16".
        seconds: how long the measured part takes; at least five turns of some batches are measured.
        warm_up: seconds before; at least three batches.
        compile: compile where the backend can.

    Raises:
        OptionError: the mode, device or precision does not exist here, or the model states no shape of its input.
        UnknownNameError: no plugin offers the model.
        BackendError: the model does not run on this backend.
    """
    from glueball import backend as backends
    from glueball import catalog
    from glueball.engine.trainer import checked_device, choose_precision
    from glueball.models import get_model
    from glueball.seeding import seed

    if mode not in MODES:
        raise OptionError(f"mode is one of {', '.join(MODES)}. Received: {mode!r}.")
    entry = catalog.current().find("model", name)
    arrays, options = inputs_for(entry, batch_size)
    backend = backends.current()
    device = checked_device(backend, device)
    precision = choose_precision(backend, precision, device)

    def runner(network: Any, batch: list[Any], classifies: bool) -> Callable[[], None]:
        settings: dict[str, Any] = {"device": device, "precision": precision, "compile": compile}
        if mode == "training":
            return _training(backend, network, batch, classifies, **settings)
        predict = backend.predictor(network, **settings)

        def run() -> None:
            predict(*batch)

        return run

    _use_once(backend, device, runner)
    before = _begin_memory()
    seed(0)
    network = backend.to_device(get_model(name, **options), device)
    batch = [backend.array(values, device) for values in arrays]
    network(*(values[:1] for values in batch))  # settles the shapes that depend on the input
    trained = [item for item in backend.parameters(network).values() if item.grad_req != "null"]
    parameters = sum(int(np.prod(item.shape)) for item in trained)
    run = runner(network, batch, (entry.task or "").endswith("_classification"))
    turns, batches = _timed(run, lambda: backend.synchronize(device), seconds, warm_up)
    memory = backend.memory(device)
    samples = batch_size * batches
    return Speed(
        model=name,
        mode=mode,
        backend=backend.name,
        device=device,
        precision=precision,
        batch_size=batch_size,
        input_shape=tuple(arrays[0].shape[1:]),
        samples_per_second=samples / statistics.median(turns),
        slowest=samples / max(turns),
        fastest=samples / min(turns),
        turns=len(turns),
        parameters=parameters,
        memory=_growth(before) if memory is None else memory,
    )


def _use_once(backend: Any, device: str, runner: Callable[[Any, list[Any], bool], Callable[[], None]]) -> None:
    """Runs a tiny network, so that what libraries load at their first use is not taken for the model's memory."""
    from glueball import nn

    network = nn.HybridSequential()
    network.add(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(2, in_units=144))
    network.initialize()
    backend.to_device(network, device)
    data = backend.array(np.ones((2, 3, 8, 8), np.float32), device)
    network(data)
    runner(network, [data], True)()
    backend.synchronize(device)


def _training(
    backend: Any, network: Any, batch: list[Any], classifies: bool, *, device: str, precision: str, compile: bool
) -> Callable[[], None]:
    """A function that makes one training step."""
    from glueball import loss as losses
    from glueball import nn
    from glueball.backend.base import OptimizerSpec, StepOptions

    outputs = network(*batch)
    classifies = classifies and not isinstance(outputs, (list, tuple))

    class Graph(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix="")
            with self.name_scope():
                self.network = network
                self.criterion = losses.SoftmaxCrossEntropyLoss() if classifies else None

        def hybrid_forward(self, F: Any, *data: Any) -> Any:
            if self.criterion is not None:
                *inputs, labels = data
                return self.criterion(self.network(*inputs), labels)
            return sum(F.mean(F.square(output)) for output in _flat(self.network(*data)))

    if classifies:
        # MXNet's labels are floating-point numbers; PyTorch's side of the dialect takes them too.
        labels = np.arange(len(batch[0])) % outputs.shape[1]
        batch = [*batch, backend.array(labels.astype(np.float32), device)]
    del outputs
    # So small a rate that hundreds of steps on the same random batch end in no infinity.
    spec = OptimizerSpec(name="sgd", momentum=0.9, weight_decay=1e-4)
    step_options = StepOptions(optimizer=spec, precision=precision, compile=compile)
    step = backend.training_step(network, Graph(), step_options, device)

    def run() -> None:
        step(batch, 1e-4)

    return run


def _flat(outputs: Any) -> list[Any]:
    if isinstance(outputs, (list, tuple)):
        return [array for output in outputs for array in _flat(output)]
    return [outputs]


def _timed(
    run: Callable[[], None], synchronize: Callable[[], None], seconds: float, warm_up: float
) -> tuple[list[float], int]:
    """Seconds of each turn, and how many batches a turn has."""
    begin = time.perf_counter()
    count, last = 0, 0.0
    while count < _FIRST_BATCHES or time.perf_counter() - begin < warm_up:
        start = time.perf_counter()
        run()
        synchronize()
        last = time.perf_counter() - start
        count += 1
    batches = max(1, math.ceil(_TURN_SECONDS / last)) if last else 1
    turns: list[float] = []
    begin = time.perf_counter()
    while len(turns) < _LEAST_TURNS or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(batches):
            run()
        synchronize()
        turns.append(time.perf_counter() - start)
    return turns, batches


def _status(field: str) -> int | None:
    """A size in bytes from what Linux says about this process; None elsewhere."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _begin_memory() -> int | None:
    """What the process has now; its highest value is counted from here on, where the system allows it."""
    # Where it is not allowed, what importing took at its highest counts, if that was more than the model takes.
    with contextlib.suppress(OSError):
        _PEAK_RESET.write_text("5")
    return _status("VmRSS")


def _growth(before: int | None) -> int | None:
    highest = _status("VmHWM")
    return None if before is None or highest is None else max(0, highest - before)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the program prints for a request: the fields of ``Speed``, or ``{"error": ...}``."""
    try:
        return attrs.asdict(measure(**request))
    except GlueballError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever a model does wrong is a line in a table of many
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"}


def main() -> None:
    """Reads one request, prints one answer."""
    # Libraries print to standard output as they please: only the answer may go there.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    with stream:
        json.dump(answer(request), stream)


if __name__ == "__main__":
    main()
