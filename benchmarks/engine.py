"""What the engine costs and what it gains: parts of a step, overhead, memory, prefetching, compiling. Both backends.

    python benchmarks/engine.py --mxnet-python PYTHON --torch-python PYTHON [--peer-python PYTHON] [--parts PART ...]
        [--rounds N] [--threads N] [--device DEVICE] [--output FILE]

Parts:
    steps      where the time of a step goes, by `Trainer(profile=True)`: ResNet-18 (batch 32, 224 px, JPEGs loaded and
               augmented) and TextCNN (batch 50)
    overhead   the whole engine (loader, prefetching, metrics, progress bar, log) over the loop that everybody writes,
               whose batches lie ready in memory: the same network, precision, optimiser and compiling (PyTorch: eager,
               channels_last, autocast, fused optimiser; MXNet: hybridized with static memory and shapes). Once more
               with a network that does nothing, on the same pictures: the milliseconds that the loop itself adds. They
               are no bound: what the engine's memory traffic does to a large network beside it is not among them
    memory     a run of 2,000 steps with augmentation, two loader processes and a validation after every 200: what the
               process and its workers take, beside GluonCV's training loop on MXNet
    prefetch   the engine with its prefetching, and with loading and copying between the steps
    compile    the compiled training step against the eager one on this device, and what compiling takes

Contestants are processes that take turns (a process that waits is stopped), and what counts is the median over the
rounds of the quotient within a round; its interval is that of 2,000 bootstrap samples (95 %). Where the machine did
other work meanwhile, CPU seconds are compared, which include loader threads; the system's load is noted. Parts that
are not asked for, and contestants that are not measured again, keep the figures that they have in the output file.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import report

PARTS = ("steps", "overhead", "memory", "prefetch", "compile")
BACKENDS = ("mxnet", "torch")
WORKLOADS = ("pictures", "nothing", "texts")
# Steps of a turn; those of ResNet-18 are an option.
TURN = {"nothing": 20, "texts": 20}
MEMORY_STEPS, MEMORY_EPOCH, MEMORY_SAMPLE, MEMORY_IGNORED = 2000, 200, 10, 500
# A process that waits for a core has more seconds of the clock than of its CPU.
SHARED = 1.1
_MARK = "@answer "
_READ_EVERY = 50


# ----------------------------------------------------------------------------------------------------------------------
# Contestants: each is a generator that makes one step at a time, in a process of its own
# ----------------------------------------------------------------------------------------------------------------------


class Turns:
    """A contestant's side: waits for a line, makes so many steps, and answers what they took."""

    def __init__(self) -> None:
        self._left = 0
        self._steps = 0
        self._start = (0.0, 0.0)
        self._begun = time.perf_counter()

    def step(self, synchronize: Callable[[], None]) -> None:
        """Called before every step: ends a turn, and waits for the next one, when it is time for that."""
        if self._left == 0:
            synchronize()
            if self._steps:
                clock, cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
                answer(clock=clock / self._steps, cpu=cpu / self._steps)
            else:
                answer(ready=time.perf_counter() - self._begun, versions=report.versions(_DISTRIBUTIONS))
            line = sys.stdin.readline()
            if not line:
                raise SystemExit(0)
            self._left = self._steps = int(line)
            self._start = (time.perf_counter(), time.process_time())
        self._left -= 1


_DISTRIBUTIONS = (
    "glueball-core",
    "glueball-cv-classification",
    "glueball-nlp-embedding-lm",
    "mxnet",
    "torch",
    "gluoncv",
)


def answer(**figures: Any) -> None:
    print(_MARK + json.dumps(figures), flush=True)


@contextlib.contextmanager
def plugins() -> Iterator[None]:
    """All installed plugins, and the one of this benchmark."""
    import synthetic

    from glueball.testing import isolated_catalog

    with isolated_catalog({"bench": synthetic.Plugin()}, installed=True):
        yield


def run_engine(recipe: Any, turns: Turns, device: str | None, *, inline: bool = False) -> None:
    """The engine as users run it, held up before each step until it is its turn."""
    from glueball.engine import Trainer, trainer

    if inline:
        trainer.Prefetcher = Inline  # type: ignore[misc, assignment]

    class TurnTaker(Trainer):
        def _train_batch(self, loaded: Any) -> None:
            turns.step(lambda: self.backend.synchronize(self.device))
            super()._train_batch(loaded)

        def _bar(self, title: str, total: int, initial: int) -> Any:
            # Standard error is no terminal here, and the bar is a part of what is measured.
            from tqdm import tqdm

            return tqdm(total=total, initial=initial, desc=title, file=null)

    with open(os.devnull, "w") as null, tempfile.TemporaryDirectory() as out:
        TurnTaker(recipe, out, overwrite=True, device=device).fit()


class Inline:
    """Stands for the engine's ``Prefetcher``: loads and copies when a batch is asked for."""

    def __init__(self, batches: Any, to_device: Any, *, state: Any = None, check: Any = None, **_: Any) -> None:
        self._batches, self._to_device, self._state, self._check = batches, to_device, state, check

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        from glueball.engine.prefetch import LoadedBatch

        for batch in self._batches:
            if self._check is not None:
                self._check()
            device = tuple(self._to_device(array) for array in batch)
            yield LoadedBatch(tuple(batch), device, None if self._state is None else self._state())


def recipe_of(workload: str, precision: str, folder: Path) -> Any:
    import synthetic

    if workload == "pictures":
        return synthetic.picture_recipe(precision)
    if workload == "nothing":
        return synthetic.picture_recipe(precision, "bench_nothing")
    return synthetic.text_recipe(folder / "texts.tsv", precision)


def engine(workload: str, precision: str, folder: Path, device: str | None) -> None:
    with plugins():
        run_engine(recipe_of(workload, precision, folder), Turns(), device)


def prepared(workload: str, precision: str, folder: Path, device: str | None) -> tuple[Any, Any, str, list[Any], Any]:
    """The backend, the recipe, the device, some batches as they reach the device, and the network there."""
    from glueball import backend as backends
    from glueball.engine.trainer import checked_device
    from glueball.named import get_task

    backend: Any = backends.current()
    device = checked_device(backend, device)
    recipe = recipe_of(workload, precision, folder)
    task: Any = get_task(recipe.task, recipe=recipe)
    task.set_device(device)
    network = backend.to_device(task.build_network(), device)
    network(*(backend.array(array, device) for array in task.example_inputs()))
    loader = task.loader("train", training=True)
    loader.set_epoch(0)
    # A whole epoch of texts, in the engine's order: batches of texts differ in length.
    count = len(loader) if workload == "texts" else 4
    batches = [batch for batch, _ in zip(loader, range(count), strict=False)]
    return backend, recipe, device, batches, network


def bare(workload: str, precision: str, folder: Path, device: str | None) -> None:
    with plugins():
        backend, recipe, device, batches, network = prepared(workload, precision, folder, device)
        loop = _bare_torch if backend.name == "torch" else _bare_mxnet
        loop(recipe, batches, network, device, Turns(), lambda: backend.synchronize(device))


def _bare_torch(
    recipe: Any, batches: list[Any], network: Any, device: str, turns: Turns, synchronize: Callable[[], None]
) -> None:
    import torch

    network.train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if any(parameter.ndim == 4 for parameter in parameters):
        network.to(memory_format=torch.channels_last)
    spec = recipe.optimizer
    optimizer: Any
    if spec.name == "sgd":
        optimizer = torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=True
        )
    else:
        optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, fused=True)
    criterion = torch.nn.CrossEntropyLoss()
    dtype = {"bfloat16": torch.bfloat16}.get(recipe.precision)
    kind = torch.device(device).type
    step = 0
    while True:
        for batch in batches:
            turns.step(synchronize)
            *inputs, labels = (torch.from_numpy(np.ascontiguousarray(array)) for array in batch)
            if kind == "cuda":
                inputs = [values.pin_memory().to(device, non_blocking=True) for values in inputs]
                labels = labels.pin_memory().to(device, non_blocking=True)
            inputs = [
                values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
                for values in inputs
            ]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
                loss = criterion(network(*inputs), labels.long())
            loss.backward()
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
            optimizer.step()
            step += 1
            if step % _READ_EVERY == 0:
                loss.item()


def _bare_mxnet(
    recipe: Any, batches: list[Any], network: Any, device: str, turns: Turns, synchronize: Callable[[], None]
) -> None:
    import mxnet as mx

    context = mx.cpu() if device == "cpu" else mx.gpu(0)
    # A static plan belongs to one shape; batches of texts have several.
    static_shape = len({tuple(array.shape for array in batch) for batch in batches}) == 1
    network.hybridize(static_alloc=True, static_shape=static_shape)
    criterion = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    criterion.hybridize(static_alloc=True, static_shape=static_shape)
    spec = recipe.optimizer
    options: dict[str, Any] = {"learning_rate": recipe.learning_rate}
    if spec.name == "sgd":
        options.update(momentum=spec.momentum, wd=spec.weight_decay)
    parameters = network.collect_params()
    trainer = mx.gluon.Trainer(parameters, spec.name, options)
    trained = [parameter for parameter in parameters.values() if parameter.grad_req != "null"]
    step = 0
    while True:
        for batch in batches:
            turns.step(synchronize)
            *inputs, labels = (mx.nd.array(array, ctx=context, dtype=array.dtype) for array in batch)
            with mx.autograd.record():
                loss = criterion(network(*inputs), labels).mean()
            loss.backward()
            if recipe.clip_norm is not None:
                gradients = [parameter.grad(context) for parameter in trained]
                mx.gluon.utils.clip_global_norm(gradients, recipe.clip_norm, check_isfinite=False)
            trainer.step(1)
            step += 1
            if step % _READ_EVERY == 0:
                loss.asscalar()


def loading(how: str, precision: str, folder: Path, device: str | None) -> None:
    """The engine on JPEGs and a network that is quick: with prefetching ("prefetch") or without ("inline")."""
    import glueball

    with plugins():
        recipe = glueball.get_recipe("image-folder", data=str(folder / "pictures"), model="mobilenet0.25", holdout=0.02)
        changes = {"precision": precision, "workers": "0", "epochs": "1000", "validate_every": "1000"}
        run_engine(recipe.override(changes), Turns(), device, inline=how == "inline")


def stepping(how: str, workload: str, precision: str, folder: Path, device: str | None) -> None:
    """The training step alone, on batches of one shape: "compiled" or "eager"."""
    from glueball.backend.base import StepOptions
    from glueball.named import get_task

    with plugins():
        backend, recipe, device, batches, network = prepared(workload, precision, folder, device)
        # The longest texts: one shape, and the most work.
        batch = max(batches, key=lambda batch: batch[0].size)
        task: Any = get_task(recipe.task, recipe=recipe)
        options = StepOptions(
            optimizer=recipe.optimizer, precision=precision, clip_norm=recipe.clip_norm, compile=how == "compiled"
        )
        step = backend.training_step(network, task.training_graph(network), options, device)
        if how == "compiled" and backend.name == "torch":
            # The engine tries it on GPUs only; here it has to be shown why not on this device.
            step._compilation.choice = step._compilation.COMPILED
        arrays = [backend.array(array, device) for array in batch]
        begin = time.perf_counter()
        step(arrays, recipe.learning_rate)
        backend.synchronize(device)
        answer(first_step=time.perf_counter() - begin)
        for _ in range(2):
            step(arrays, recipe.learning_rate)
        turns = Turns()
        while True:
            turns.step(lambda: backend.synchronize(device))
            step(arrays, recipe.learning_rate)


# ----------------------------------------------------------------------------------------------------------------------
# Where the time of a step goes
# ----------------------------------------------------------------------------------------------------------------------


def profiled(workload: str, precision: str, folder: Path, device: str | None) -> None:
    """One epoch with a profile; the answer is its summary."""
    import glueball
    from glueball.engine import Trainer

    with plugins(), tempfile.TemporaryDirectory() as out:
        if workload == "pictures":
            recipe = glueball.get_recipe("image-folder", data=str(folder / "pictures"), holdout=0.02)
            changes = {"precision": precision, "workers": "2", "epochs": "1"}
        else:
            recipe, changes = recipe_of("texts", precision, folder), {"epochs": "1"}
        trainer = Trainer(recipe.override(changes), out, overwrite=True, quiet=True, device=device, profile=True)
        trainer.fit()
        assert trainer.profile is not None
        answer(
            summary=trainer.profile.summary(),
            rows=trainer.profile.rows(),
            precision=trainer.precision,
            versions=report.versions(_DISTRIBUTIONS),
        )


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def family_memory() -> int:
    """Bytes of this process and its children that are theirs: pages that they share count once, files not at all.

    (Of a library's file only those pages count that nobody else has open, so that figures would change with whatever
    else runs on the machine.)
    """
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += [int(word) for word in (task / "children").read_text().split()]
    return total


class Sampler:
    """What a run of many steps takes, sampled on its way."""

    def __init__(self, backend_memory: Callable[[], int | None]) -> None:
        self._backend_memory = backend_memory
        self._step = 0
        self._figures: dict[str, list[Any]] = {"step": [], "memory": [], "blocks": [], "backend": []}

    def step(self) -> None:
        """Called after each step."""
        self._step += 1
        if self._step % MEMORY_SAMPLE == 0:
            self._figures["step"].append(self._step)
            self._figures["memory"].append(family_memory())
            self._figures["blocks"].append(sys.getallocatedblocks())
            self._figures["backend"].append(self._backend_memory())
        if self._step == MEMORY_STEPS:
            answer(figures=self._figures, versions=report.versions(_DISTRIBUTIONS))
            sys.stdin.readline()
            raise SystemExit(0)


def engine_memory(device: str | None) -> None:
    import synthetic

    from glueball.engine import Trainer

    class Sampled(Trainer):
        def _train_batch(self, loaded: Any) -> None:
            super()._train_batch(loaded)
            sampler.step()

    with plugins(), tempfile.TemporaryDirectory() as out:
        recipe = synthetic.small_recipe(MEMORY_EPOCH, workers=2, worker_type="process")
        trainer = Sampled(recipe, out, overwrite=True, quiet=True, device=device)
        sampler = Sampler(lambda: trainer.backend.memory(trainer.device))
        trainer.fit()


def gluoncv_memory() -> None:
    """The loop of GluonCV's training scripts on the same data: its network, Gluon's DataLoader and Trainer."""
    from glueball import backend

    backend.use("mxnet")  # MXNet needs names that NumPy has dropped since; this brings them back
    import mxnet as mx
    import synthetic
    from gluoncv import model_zoo
    from mxnet import autograd, gluon
    from mxnet.gluon.data.vision import transforms

    recipe = synthetic.small_recipe(MEMORY_EPOCH, 2, "process")
    raw = synthetic.Pictures(**recipe.data.train.options)

    class Wrapped(gluon.data.Dataset):
        def __init__(self, count: int) -> None:
            self._count = count

        def __len__(self) -> int:
            return self._count

        def __getitem__(self, index: int) -> Any:
            picture, label = raw[index]
            return mx.nd.array(picture, dtype="uint8"), label

    normalise = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    train = Wrapped(len(raw)).transform_first(transforms.Compose([transforms.RandomFlipLeftRight(), *normalise]))
    test = Wrapped(10 * recipe.batch_size).transform_first(transforms.Compose(normalise))
    train_data = gluon.data.DataLoader(train, recipe.batch_size, shuffle=True, last_batch="discard", num_workers=2)
    test_data = gluon.data.DataLoader(test, recipe.batch_size, num_workers=2)
    network = model_zoo.get_model("cifar_resnet20_v1", classes=10)
    network.initialize(mx.init.Xavier())
    network.hybridize()
    spec = recipe.optimizer
    options = {"learning_rate": recipe.learning_rate, "momentum": spec.momentum, "wd": spec.weight_decay}
    trainer = gluon.Trainer(network.collect_params(), "sgd", options)
    criterion = gluon.loss.SoftmaxCrossEntropyLoss()
    metric, test_metric = mx.metric.Accuracy(), mx.metric.Accuracy()
    sampler = Sampler(lambda: None)
    while True:
        metric.reset()
        for batch in train_data:
            data, label = (array.as_in_context(mx.cpu()) for array in batch)
            with autograd.record():
                output = network(data)
                loss = criterion(output, label)
            loss.backward()
            trainer.step(recipe.batch_size)
            metric.update(label, output)
            sampler.step()
        test_metric.reset()
        for batch in test_data:
            data, label = (array.as_in_context(mx.cpu()) for array in batch)
            test_metric.update(label, network(data))


def slope(steps: list[int], values: list[int]) -> tuple[float, float]:
    """Growth per step after the beginning, by least squares, and its standard error.

    Neighbouring samples are not independent, so the error is that of the means of twenty blocks.
    """
    x, y = np.array(steps, float), np.array(values, float)
    chosen = x > MEMORY_IGNORED
    blocks = 20
    x_blocks = np.array([part.mean() for part in np.array_split(x[chosen], blocks)])
    y_blocks = np.array([part.mean() for part in np.array_split(y[chosen], blocks)])
    centred = x_blocks - x_blocks.mean()
    slope = float(centred @ y_blocks / (centred @ centred))
    residual = y_blocks - y_blocks.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / (blocks - 2) / (centred @ centred)))
    return slope, error


# ----------------------------------------------------------------------------------------------------------------------
# The driver
# ----------------------------------------------------------------------------------------------------------------------


class Contestant:
    """The driver's end of a process; it is stopped whenever it is not its turn."""

    def __init__(self, python: str, backend: str, words: tuple[str, ...], arguments: argparse.Namespace) -> None:
        environment = {**os.environ, "GLUEBALL_BACKEND": backend}
        if arguments.threads:
            environment["OMP_NUM_THREADS"] = str(arguments.threads)
        here = str(Path(__file__).resolve().parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
        self._words = words
        self._process = subprocess.Popen(
            [
                python,
                __file__,
                "--contestant",
                json.dumps(words),
                *(["--device", arguments.device] * bool(arguments.device)),
            ],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """The next answer; the process is stopped after it.

        Raises:
            MissingError: the interpreter lacks what the contestant needs.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                found: dict[str, Any] = json.loads(line[len(_MARK) :])
                if "missing" in found:
                    raise MissingError(found["missing"])
                if "error" in found:
                    raise RuntimeError(f"{self._words}:\n{found['error']}")
                return found
        raise RuntimeError(f"{self._words} ended with status {self._process.wait()} without an answer.")

    def stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def turn(self, steps: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        found = self.read()
        self.stop()
        return found

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


Results = Iterator[tuple[str, dict[str, Any]]]


class MissingError(Exception):
    """An interpreter lacks what a contestant needs."""


def race(
    title: str,
    contestants: dict[str, tuple[str, str, tuple[str, ...]]],
    steps: int,
    arguments: argparse.Namespace,
    answers_before: int = 0,
) -> dict[str, Any]:
    """All rounds of some contestants: name -> (interpreter, backend, words)."""
    from tqdm import tqdm

    processes: dict[str, Contestant] = {}
    facts: dict[str, dict[str, Any]] = {}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    load = []
    try:
        for name, (python, backend, words) in contestants.items():
            processes[name] = Contestant(python, backend, words, arguments)
            facts[name] = {}
            for _ in range(answers_before + 1):
                facts[name].update(processes[name].read())
            processes[name].stop()
        end = time.monotonic() + 60 * arguments.minutes
        for number in tqdm(range(arguments.rounds + 1), desc=title, unit="round", file=sys.stderr):
            if number > 3 and time.monotonic() > end:
                break
            # Every other round runs backwards, so that nobody always follows the same neighbour.
            order = list(processes) if number % 2 == 0 else list(processes)[::-1]
            taken = {name: processes[name].turn(steps) for name in order}
            load.append(os.getloadavg()[0])
            if number:  # the first one warms up
                for name, figures in taken.items():
                    rounds[name].append(figures)
    finally:
        for process in processes.values():
            process.close()
    return {"rounds": rounds, "facts": facts, "load": statistics.median(load), "steps_of_a_turn": steps}


def compared_by(result: dict[str, Any]) -> str:
    """Seconds of the clock, or of the CPU where the machine did other work."""
    if result.get("by"):
        return str(result["by"])
    waited = [turn["clock"] / turn["cpu"] for turns in result["rounds"].values() for turn in turns if turn["cpu"]]
    return "cpu" if statistics.median(waited) > SHARED else "clock"


def ratio(result: dict[str, Any], one: str, other: str, by: str | None = None) -> tuple[float, float, float]:
    """The median over the rounds of one / other, and its interval."""
    by = by or compared_by(result)
    quotients = np.array([a[by] / b[by] for a, b in zip(result["rounds"][one], result["rounds"][other], strict=True)])
    random = np.random.default_rng(0)
    medians = np.median(random.choice(quotients, (2000, len(quotients))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(quotients)), float(low), float(high)


def milliseconds(result: dict[str, Any], name: str, by: str | None = None) -> float:
    return 1000 * statistics.median(turn[by or compared_by(result)] for turn in result["rounds"][name])


def pythons(arguments: argparse.Namespace) -> dict[str, str]:
    found = {"mxnet": arguments.mxnet_python, "torch": arguments.torch_python}
    return {backend: python for backend, python in found.items() if python and backend in arguments.backends}


def measure_steps(arguments: argparse.Namespace) -> Results:
    for workload in set(arguments.workloads) - {"nothing"}:
        for backend, python in pythons(arguments).items():
            for precision in ("float32", "auto") if backend == "torch" else ("float32",):
                contestant = Contestant(
                    python, backend, ("profiled", workload, precision, str(arguments.folder)), arguments
                )
                try:
                    found = contestant.read()
                finally:
                    contestant.close()
                found["load"] = os.getloadavg()[0]
                yield f"{workload}, {backend}, {found['precision']}", found


def measure_overhead(arguments: argparse.Namespace) -> Results:
    for workload in arguments.workloads:
        for backend, python in pythons(arguments).items():
            # MXNet's automatic casts need another loop than the one that everybody writes.
            for precision in ("float32", "bfloat16") if backend == "torch" else ("float32",):
                if precision == "bfloat16" and not arguments.bfloat16:
                    continue
                name = f"{workload}, {backend}, {precision}"
                contestants = {
                    kind: (python, backend, (kind, workload, precision, str(arguments.folder)))
                    for kind in ("bare", "engine")
                }
                steps = TURN.get(workload, arguments.picture_steps)
                yield name, race(f"overhead, {name}", contestants, steps, arguments)


def measure_prefetch(arguments: argparse.Namespace) -> Results:
    for backend, python in pythons(arguments).items():
        contestants = {
            how: (python, backend, ("loading", how, "float32", str(arguments.folder))) for how in ("inline", "prefetch")
        }
        # A thread that works beside the step saves seconds of the clock, none of the CPU.
        yield backend, {**race(f"prefetch, {backend}", contestants, 4, arguments), "by": "clock"}


def measure_compile(arguments: argparse.Namespace) -> Results:
    for workload in set(arguments.workloads) - {"nothing"}:
        for backend, python in pythons(arguments).items():
            for precision in ("float32", "bfloat16") if backend == "torch" else ("float32",):
                if precision == "bfloat16" and not arguments.bfloat16:
                    continue
                name = f"{workload}, {backend}, {precision}"
                contestants = {
                    how: (python, backend, ("stepping", how, workload, precision, str(arguments.folder)))
                    for how in ("eager", "compiled")
                }
                steps = TURN.get(workload, arguments.picture_steps)
                yield name, race(f"compile, {name}", contestants, steps, arguments, answers_before=1)


def measure_memory(arguments: argparse.Namespace) -> Results:
    contestants = {
        f"engine, {backend}": (python, backend, ("engine_memory",)) for backend, python in pythons(arguments).items()
    }
    if arguments.peer_python:
        contestants["GluonCV's loop, mxnet"] = (arguments.peer_python, "mxnet", ("gluoncv_memory",))
    for name, (python, backend, words) in contestants.items():
        contestant = Contestant(python, backend, words, arguments)
        try:
            found = contestant.read()
        except MissingError as missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
            continue
        finally:
            contestant.close()
        growth, error = slope(found["figures"]["step"], found["figures"]["memory"])
        yield name, {**found, "load": os.getloadavg()[0], "growth": growth, "error": error}


MEASURE: dict[str, Callable[[argparse.Namespace], Results]] = {
    "steps": measure_steps,
    "overhead": measure_overhead,
    "memory": measure_memory,
    "prefetch": measure_prefetch,
    "compile": measure_compile,
}


# ----------------------------------------------------------------------------------------------------------------------
# What is written
# ----------------------------------------------------------------------------------------------------------------------


def words_of(by: str) -> str:
    return "CPU ms" if by == "cpu" else "ms"


def write_steps(part: dict[str, Any]) -> tuple[list[str], list[report.Goal]]:
    from glueball.engine.step_profile import BACKGROUND_PARTS, STEP_PARTS

    shown = {name: words for name, words in STEP_PARTS.items() if name != "checkpoint"}
    header = ["part of a step, ms (median)", *part["results"]]
    rows = []
    for name, words in shown.items():
        rows.append([words, *(_part_text(found["summary"]["parts"][name]) for found in part["results"].values())])
    rows.append(
        ["the whole step", *(f"{found['summary']['step']['median']:.1f}" for found in part["results"].values())]
    )
    for name, words in BACKGROUND_PARTS.items():
        figures = [found["summary"]["background"][name]["median"] for found in part["results"].values()]
        rows.append([f"beside it: {words}", *(f"{figure:.1f}" for figure in figures)])
    alone = [found["summary"]["to_device_alone"] for found in part["results"].values()]
    rows.append(["bringing a batch to the idle device", *("-" if one is None else f"{one:.1f}" for one in alone)])
    lines = [
        *report.table(header, rows),
        "",
        "In brackets: the share of the whole, by means, which a step now and then that waits for its batch moves and "
        "the median does not. The device is waited for after each part, which MXNet does not do otherwise. What stands "
        "beside the step is done by a thread meanwhile; with 2 workers, making a batch is waiting for theirs.",
    ]
    return lines, []


def _part_text(figures: dict[str, Any]) -> str:
    return f"{figures['median']:.1f} ({figures['share']:.1%})"


def write_overhead(part: dict[str, Any]) -> tuple[list[str], list[report.Goal]]:
    rows, goals = [], []
    for name, result in part["results"].items():
        by = compared_by(result)
        middle, low, high = ratio(result, "engine", "bare")
        rows.append(
            (
                name,
                f"{milliseconds(result, 'bare'):.1f}",
                f"{milliseconds(result, 'engine'):.1f}",
                f"{100 * (middle - 1):+.1f} %",
                f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %",
                f"{len(result['rounds']['bare'])} x {result['steps_of_a_turn']}",
                "CPU" if by == "cpu" else "clock",
                f"{result['load']:.1f}",
            )
        )
        if name.startswith("pictures"):
            text = f"overhead of the engine in per cent, {name}"
            goals.append(report.Goal(text, 100 * (middle - 1), 2.0, more_is_better=False))
            if part["device"].startswith("cuda"):
                extra = milliseconds(result, "engine") - milliseconds(result, "bare")
                goals.append(
                    report.Goal(f"overhead of the engine in ms a step, {name}", extra, 1.0, more_is_better=False)
                )
    header = ("ms a step", "bare loop", "engine", "overhead", "95 % interval", "rounds x steps", "seconds of", "load")
    lines = [
        *report.table(header, rows),
        "",
        "The bare loop has its batches ready in memory; the engine makes them of samples, counts accuracy, logs.",
    ]
    return lines, goals


def write_memory(part: dict[str, Any]) -> tuple[list[str], list[report.Goal]]:
    rows, goals = [], []
    for name, found in part["results"].items():
        figures = found["figures"]
        blocks, blocks_error = slope(figures["step"], figures["blocks"])
        backend = [value for value in figures["backend"] if value is not None]
        growth, error = (1000 * found[key] / 2**20 for key in ("growth", "error"))
        rows.append(
            (
                name,
                f"{figures['memory'][MEMORY_IGNORED // MEMORY_SAMPLE] / 2**20:.0f}",
                f"{figures['memory'][-1] / 2**20:.0f}",
                f"{growth:+.2f} +- {error:.2f}",
                f"{1000 * blocks:+.0f} +- {1000 * blocks_error:.0f}",
                f"{backend[-1] / 2**20:.0f}" if backend else "-",
                f"{found['load']:.1f}",
            )
        )
        if name.startswith("engine"):
            text = f"memory, {name}: MiB more in 1,000 steps"
            goals.append(report.Goal(text, growth, 1.0, more_is_better=False))
    header = (
        "MiB",
        f"after {MEMORY_IGNORED} steps",
        f"after {MEMORY_STEPS}",
        "growth in 1,000 steps",
        "blocks of Python in 1,000 steps",
        "backend",
        "load",
    )
    lines = [
        *report.table(header, rows),
        "",
        f"Growth by least squares after {MEMORY_IGNORED} steps, with its standard error. The process and its workers "
        "together, shared pages counted once, files not at all. On the CPU the backends do not say what they hold.",
    ]
    return lines, goals


def write_prefetch(part: dict[str, Any]) -> tuple[list[str], list[report.Goal]]:
    rows = []
    for name, result in part["results"].items():
        middle, low, high = ratio(result, "inline", "prefetch")
        cpu = milliseconds(result, "inline", "cpu"), milliseconds(result, "prefetch", "cpu")
        rows.append(
            (
                name,
                f"{milliseconds(result, 'inline'):.0f}",
                f"{milliseconds(result, 'prefetch'):.0f}",
                f"{middle:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{cpu[0]:.0f} / {cpu[1]:.0f}",
                f"{result['load']:.1f}",
            )
        )
    header = ("ms a step", "without prefetching", "with it", "times faster", "95 % interval", "CPU ms", "load")
    lines = [
        *report.table(header, rows),
        "",
        "MobileNet 0.25 (batch 32, 224 px, float32) on JPEGs, no loader workers: one thread loads and copies while the "
        "step runs. It can gain where a core is free for it.",
    ]
    return lines, []


def write_compile(part: dict[str, Any]) -> tuple[list[str], list[report.Goal]]:
    rows = []
    for name, result in part["results"].items():
        middle, low, high = ratio(result, "eager", "compiled")
        taken = result["facts"]["compiled"]["first_step"] - result["facts"]["eager"]["first_step"]
        saved = (milliseconds(result, "eager", "clock") - milliseconds(result, "compiled", "clock")) / 1000
        rows.append(
            (
                name,
                f"{milliseconds(result, 'eager'):.1f}",
                f"{milliseconds(result, 'compiled'):.1f}",
                f"{middle:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{max(taken, 0.0):.1f}",
                f"{taken / saved:,.0f}" if saved > 0 and taken > 0 else "never" if saved <= 0 else "0",
                f"{result['load']:.1f}",
            )
        )
    header = (
        "ms a step",
        "eager",
        "compiled",
        "times faster",
        "95 % interval",
        "compiling, s",
        "steps that win it back",
        "load",
    )
    lines = [
        *report.table(header, rows),
        "",
        "Compiled is torch.compile, and hybridize with static memory and shapes. On CPUs the engine always hybridizes, "
        "and never uses torch.compile: two runs of one seed could differ in their last bits by what a clock said. On "
        "GPUs it tries, and keeps what is faster by 5 % at least (`CompileChoice`).",
    ]
    return lines, []


WRITE = {
    "steps": ("Where the time of a step goes", write_steps),
    "overhead": ("The engine over a bare loop", write_overhead),
    "memory": ("Memory", write_memory),
    "prefetch": ("Prefetching", write_prefetch),
    "compile": ("Compiling", write_compile),
}


def draw(document: dict[str, Any], path: Path) -> None:
    """The parts of steps, and memory over the steps, as pictures beside the tables."""
    from matplotlib.figure import Figure

    from glueball.engine.chart import COLORS
    from glueball.engine.step_profile import STEP_PARTS

    parts = [name for name in ("steps", "memory") if name in document]
    if not parts:
        return
    figure = Figure(figsize=(9, 3.8 * len(parts)), dpi=130, layout="constrained")
    for number, part in enumerate(parts):
        axes = figure.add_subplot(len(parts), 1, number + 1)
        axes.spines[["top", "right"]].set_visible(False)
        results = document[part]["results"]
        if part == "steps":
            left = np.zeros(len(results))
            for index, (name, words) in enumerate(STEP_PARTS.items()):
                shares = [100 * found["summary"]["parts"][name]["share"] for found in results.values()]
                if any(shares):
                    axes.barh(list(results), shares, left=left, label=words, color=COLORS[index % len(COLORS)])
                left += shares
            axes.invert_yaxis()
            axes.set_xlabel("share of a step, %")
            axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=3, frameon=False, fontsize=8)
            axes.set_title("where the time of a step goes", loc="left", fontsize=11, fontweight="bold")
        else:
            for index, (name, found) in enumerate(results.items()):
                sizes = [value / 2**20 for value in found["figures"]["memory"]]
                axes.plot(found["figures"]["step"], sizes, label=name, color=COLORS[index % len(COLORS)], linewidth=1.2)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("step")
            axes.set_ylabel("MiB")
            axes.grid(axis="y", color="#e4e7eb")
            axes.legend(frameon=False, fontsize=8)
            axes.set_title("memory of the process and its workers", loc="left", fontsize=11, fontweight="bold")
    figure.savefig(path)


def make_data(folder: Path) -> None:
    import loader
    import synthetic

    pictures = folder / "pictures"
    if not pictures.exists():
        loader.make_folder(pictures, 480)
    if not (folder / "texts.tsv").exists():
        synthetic.write_texts(folder / "texts.tsv", 25000)


def serve(words: list[str], device: str | None) -> None:
    """In a contestant's process."""
    name, *rest = words
    try:
        if name == "engine_memory":
            engine_memory(device)
        elif name == "gluoncv_memory":
            gluoncv_memory()
        else:
            kind: Callable[..., None] = {
                "engine": engine,
                "bare": bare,
                "loading": loading,
                "stepping": stepping,
                "profiled": profiled,
            }[name]
            functools.partial(kind, *rest[:-1])(Path(rest[-1]), device)
    except ImportError as error:
        answer(missing=str(error))
    except Exception:
        answer(error=traceback.format_exc())


def main() -> None:
    """Prints the tables; with --output, writes JSON, a table and a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mxnet-python", default=sys.executable, help="interpreter with Glueball, both plugins and mxnet"
    )
    parser.add_argument(
        "--torch-python", default=sys.executable, help="interpreter with Glueball, both plugins and torch"
    )
    parser.add_argument("--peer-python", help="interpreter with gluoncv and mxnet, for the peer of the memory's part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="fewer rounds, at least 3, if those of a pair take longer"
    )
    parser.add_argument("--picture-steps", type=int, default=1, help="steps of ResNet-18 in a turn (default: 1)")
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false", help="float32 only")
    parser.add_argument("--threads", type=int, default=0, help="threads of each contestant (default: the library's)")
    parser.add_argument("--device", help="such as cuda:0 (default: the backend's best one)")
    parser.add_argument("--folder", type=Path, help="where the data are kept (default: made for the run)")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        serve(json.loads(arguments.contestant), arguments.device)
        return
    document: dict[str, Any] = {}
    if arguments.output is not None and arguments.output.exists():
        before = json.loads(arguments.output.read_text(encoding="utf-8"))
        document = {name: before[name] for name in PARTS if name in before}
        document = {name: part for name, part in document.items() if part.get("threads") == arguments.threads}
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        make_data(arguments.folder)
        for part in arguments.parts:
            results = document.get(part, {}).get("results", {})
            for name, found in MEASURE[part](arguments):
                # At once, and beside what is there: hours of work must not wait for the last minute.
                results[name] = {**found, "date": report.machine()["date"]}
                conditions = {"threads": arguments.threads, "device": arguments.device or "cpu", **report.machine()}
                document[part] = {**conditions, "results": results}
                write(document, arguments)


def write(document: dict[str, Any], arguments: argparse.Namespace) -> None:
    """All parts that there are, those of earlier runs too."""
    lines: list[str] = []
    goals: list[report.Goal] = []
    found: dict[str, str] = {}
    for name in PARTS:
        if name not in document:
            continue
        part = document[name]
        title, writer = WRITE[name]
        table, part_goals = writer(part)
        threads = f"{part['threads']} computing thread(s)" if part["threads"] else "threads as the libraries choose"
        lines += [f"## {title}", "", *table, "", f"{part['date'][:16]}, {threads}, {part['device']}.", ""]
        goals += part_goals
        for result in part["results"].values():
            for fact in [result, *result.get("facts", {}).values()]:
                found.update(fact.get("versions", {}))
    report.finish(
        arguments.output,
        title="The engine",
        script="benchmarks/engine.py",
        where={**report.machine(), "versions": found},
        document=document,
        lines=lines[:-1],
        goals=goals,
    )
    if arguments.output is not None:
        draw(document, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
