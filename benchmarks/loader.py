"""Samples a second and core: our loader against MXNet's, as GluonCV's training script uses it, and against PyTorch's.

    python benchmarks/loader.py [--pictures 384] [--texts 25000] [--rounds 3] [--folder DIR] [--mxnet-python PYTHON]
        [--torch-python PYTHON] [--output FILE]

Pictures: all of them read a folder of JPEGs (500 x 375, quality 90, cut from the photographs that come with
scikit-learn, or any folder of class folders), take a random resized crop of 224, flip, normalise and make float32
batches of 64. PyTorch's loader gets its samples from Pillow, by torchvision where that is installed, otherwise by the
same steps written out. Texts: all of them cut labelled sentences of 5 to 40 words into words by the same function, look
these up in a vocabulary and pad batches of 64 to their longest text.

Each contestant runs in a process of its own, bound to one core, or to two for two workers, so that what one core does
is compared, not who starts more threads; contestants take turns, and the median of the rounds counts. One whole pass
goes before the timed ones. Where the machine did other work meanwhile, seconds of the CPU are compared, those of all
workers and threads together. Contestants whose library is not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import report

BATCH = 64
SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# A process that waits for a core has more seconds of the clock than of its CPU.
SHARED = 1.1
# What the system counts of the CPU's time comes in hundredths of a second.
LEAST_SECONDS = 2.0

Epoch = Callable[[], Iterable[Any]]


def make_folder(folder: Path, pictures: int) -> None:
    """Photographs in class folders: parts of real ones, with a camera's noise."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    for number in range(pictures):
        source = photographs[number % len(photographs)]
        scale = generator.uniform(0.6, 1.0)
        width, height = int(500 * scale), int(375 * scale)
        left, top = generator.integers(source.width - width), generator.integers(source.height - height)
        picture = source.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture, np.float32) + generator.normal(0, 2, (375, 500, 3))
        path = folder / f"class{number % 4}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)


def ours(folder: str, workers: int, kind: str) -> Epoch:
    from glueball.data import DataLoader, ImageFolderDataset
    from glueball_cv_classification import transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomFlipLeftRight(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    dataset = ImageFolderDataset(folder).transform_first(pipeline)
    loader = DataLoader(dataset, BATCH, shuffle=True, workers=workers, worker_type=kind)
    return lambda: loader


def mxnet(folder: str, workers: int, kind: str) -> Epoch:
    from glueball import backend

    backend.use("mxnet")
    from mxnet import gluon
    from mxnet.gluon.data.vision import transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomFlipLeftRight(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    dataset = gluon.data.vision.ImageFolderDataset(folder).transform_first(pipeline)
    loader = gluon.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, thread_pool=kind == "thread")

    def epoch() -> Iterator[Any]:
        for images, labels in loader:
            # The engine works behind: a batch is there when its values are.
            images.wait_to_read()
            yield images, labels

    return epoch


def pillow_sample() -> Callable[[str], np.ndarray]:
    """Picture file -> float32 (3, 224, 224), by Pillow and NumPy."""
    from PIL import Image

    generator = np.random.default_rng(0)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def sample(path: str) -> np.ndarray:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for _ in range(10):
            area = generator.uniform(0.08, 1.0) * image.width * image.height
            ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
            width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if width <= image.width and height <= image.height:
                break
        else:
            width, height = image.size
        left = generator.integers(image.width - width + 1)
        top = generator.integers(image.height - height + 1)
        box = (left, top, left + width, top + height)
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
        if generator.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)

    return sample


def pillow(folder: str, workers: int, kind: str) -> Epoch:
    paths = sorted(str(path) for path in Path(folder).rglob("*.jpg"))
    sample, generator = pillow_sample(), np.random.default_rng(0)

    def epoch() -> Iterator[Any]:
        order = generator.permutation(len(paths))
        for start in range(0, len(order), BATCH):
            yield np.stack([sample(paths[index]) for index in order[start : start + BATCH]])

    return epoch


class TorchPictures:
    """A data set as torch's loader takes it: the sample's picture as float32 (3, 224, 224), and its class."""

    def __init__(self, folder: str) -> None:
        self._paths = sorted(str(path) for path in Path(folder).rglob("*.jpg"))
        classes = sorted({Path(path).parent.name for path in self._paths})
        self._labels = [classes.index(Path(path).parent.name) for path in self._paths]
        self._sample: Any = None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        if self._sample is None:  # in the worker: neither closures nor generators are sent
            self._sample = torchvision_sample() or pillow_sample()
        return self._sample(self._paths[index]), self._labels[index]


def torchvision_sample() -> Callable[[str], Any] | None:
    """The same by torchvision; None where it is not installed, or does not fit the installed PyTorch."""
    try:
        from torchvision import transforms
    except (ImportError, RuntimeError):
        return None
    from PIL import Image

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )

    def sample(path: str) -> Any:
        with Image.open(path) as opened:
            return pipeline(opened.convert("RGB"))

    return sample


def torch(folder: str, workers: int, kind: str) -> Epoch:
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    loader: Any = DataLoader(
        TorchPictures(folder),  # type: ignore[arg-type]
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: loader


# ----------------------------------------------------------------------------------------------------------------------
# Texts
# ----------------------------------------------------------------------------------------------------------------------


def read_texts(folder: str) -> tuple[list[tuple[int, str]], Any]:
    """The texts with their labels, and what makes samples of them."""
    import synthetic

    lines = Path(folder, "texts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts = [(int(label == "good"), text) for label, _, text in (line.partition("\t") for line in lines)]
    vocabulary: dict[str, int] = {}
    for _, text in texts:
        for word in synthetic.cut(text):
            vocabulary.setdefault(word, len(vocabulary) + 1)
    return texts, synthetic.Words(vocabulary)


def our_texts(folder: str, workers: int, kind: str) -> Epoch:
    from glueball.data import DataLoader, SimpleDataset
    from glueball.data.batchify import Pad, Stack, Tuple

    texts, words = read_texts(folder)
    dataset = SimpleDataset(texts).transform(words)
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        batchify=Tuple(Pad(), Stack(), Stack()),
        workers=workers,
        worker_type=kind,
    )
    return lambda: loader


class Mapped:
    """A data set as both peers take it."""

    def __init__(self, samples: list[Any], function: Callable[[Any], Any]) -> None:
        self._samples, self._function = samples, function

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Any:
        return self._function(*self._samples[index])


def padded(samples: list[Any]) -> np.ndarray:
    """The token ids of some texts, as long as the longest."""
    ids = np.zeros((len(samples), max(count for _, count, _ in samples)), np.int32)
    for row, (values, count, _) in zip(ids, samples, strict=True):
        row[:count] = values
    return ids


def torch_batch(samples: list[Any]) -> Any:
    import torch

    _, lengths, labels = zip(*samples, strict=True)
    return torch.from_numpy(padded(samples)), torch.tensor(lengths), torch.tensor(labels)


def mxnet_batch(samples: list[Any]) -> Any:
    import mxnet as mx

    _, lengths, labels = zip(*samples, strict=True)
    # Gluon's loader sends batches between processes in shared memory, which is a context of its own.
    context = mx.Context("cpu_shared", 0) if mxnet_batch.shared else mx.cpu()  # type: ignore[attr-defined]
    arrays = padded(samples), np.array(lengths, np.float32), np.array(labels, np.float32)
    return [mx.nd.array(array, ctx=context, dtype=array.dtype) for array in arrays]


mxnet_batch.shared = False  # type: ignore[attr-defined]


def torch_texts(folder: str, workers: int, kind: str) -> Epoch:
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    loader: Any = DataLoader(
        Mapped(*read_texts(folder)),  # type: ignore[arg-type]
        BATCH,
        shuffle=True,
        collate_fn=torch_batch,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: loader


def mxnet_texts(folder: str, workers: int, kind: str) -> Epoch:
    from glueball import backend

    backend.use("mxnet")
    from mxnet import gluon

    mxnet_batch.shared = workers > 0 and kind == "process"  # type: ignore[attr-defined]
    loader = gluon.data.DataLoader(
        Mapped(*read_texts(folder)),
        BATCH,
        shuffle=True,
        batchify_fn=mxnet_batch,
        num_workers=workers,
        thread_pool=kind == "thread",
    )

    def epoch() -> Iterator[Any]:
        for batch in loader:
            batch[0].wait_to_read()
            yield batch

    return epoch


CONTESTANTS: dict[str, tuple[Callable[[str, int, str], Epoch], int, str, dict[str, str]]] = {
    "ours, no workers": (ours, 0, "thread", {}),
    "ours, no workers, Pillow decodes": (ours, 0, "thread", {"GLUEBALL_IMAGE_DECODER": "pillow"}),
    "ours, 2 threads": (ours, 2, "thread", {}),
    "ours, 2 processes": (ours, 2, "process", {}),
    "MXNet, no workers": (mxnet, 0, "thread", {}),
    "MXNet, 2 threads": (mxnet, 2, "thread", {}),
    "MXNet, 2 processes": (mxnet, 2, "process", {}),
    "PyTorch, no workers": (torch, 0, "process", {}),
    "PyTorch, 2 processes": (torch, 2, "process", {}),
    "Pillow + NumPy, no workers": (pillow, 0, "thread", {}),
}
"""Name -> (what makes an epoch, workers, their kind, environment)."""

TEXT_CONTESTANTS: dict[str, tuple[Callable[[str, int, str], Epoch], int, str, dict[str, str]]] = {
    "ours, no workers": (our_texts, 0, "thread", {}),
    "ours, 2 threads": (our_texts, 2, "thread", {}),
    "ours, 2 processes": (our_texts, 2, "process", {}),
    "MXNet, no workers": (mxnet_texts, 0, "thread", {}),
    "MXNet, 2 threads": (mxnet_texts, 2, "thread", {}),
    "MXNet, 2 processes": (mxnet_texts, 2, "process", {}),
    "PyTorch, no workers": (torch_texts, 0, "process", {}),
    "PyTorch, 2 processes": (torch_texts, 2, "process", {}),
}

KINDS = {"pictures": CONTESTANTS, "texts": TEXT_CONTESTANTS}

# (peer, ours): PyTorch's loader has no threads, so that ours by threads stand against its processes too.
GOALS = (
    ("MXNet, no workers", "ours, no workers"),
    ("MXNet, 2 threads", "ours, 2 threads"),
    ("MXNet, 2 processes", "ours, 2 processes"),
    ("PyTorch, no workers", "ours, no workers"),
    ("PyTorch, 2 processes", "ours, 2 threads"),
    ("PyTorch, 2 processes", "ours, 2 processes"),
    ("Pillow + NumPy, no workers", "ours, no workers"),
)


def family_seconds() -> float:
    """CPU seconds of this process, its threads and its workers, those that have ended included."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += [int(word) for word in (task / "children").read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
    return total / os.sysconf("SC_CLK_TCK")


def run_contestant(kind: str, name: str, folder: str) -> None:
    """In the contestant's own process: prints its samples a second and core, by the clock and by the CPU."""
    make, workers, worker_type, _ = KINDS[kind][name]
    cores = sorted(os.sched_getaffinity(0))[: max(workers, 1)]
    # Before the library starts threads, so that all of them are bound as well.
    os.sched_setaffinity(0, cores)
    epoch = make(folder, workers, worker_type)
    # One whole pass: workers have started, files lie in the page cache.
    for _ in epoch():
        pass
    samples, start, cpu = 0, time.perf_counter(), family_seconds()
    while not samples or time.perf_counter() - start < LEAST_SECONDS:
        for batch in epoch():
            samples += len(batch[0]) if isinstance(batch, (tuple, list)) else len(batch)
    clock, cpu = time.perf_counter() - start, family_seconds() - cpu
    print(json.dumps({"clock": samples / clock / len(cores), "cpu": samples / cpu}))


def measure(kind: str, folder: str, rounds: int, pythons: dict[str, str]) -> dict[str, list[dict[str, float]]]:
    """Samples a second and core of each contestant in each round, by the clock and by the CPU."""
    from tqdm import tqdm

    installed = {library: _has(pythons[library], library.lower()) for library in ("MXNet", "PyTorch")}
    names = [name for name in KINDS[kind] if installed.get(name.partition(",")[0], True)]
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in tqdm(range(rounds), desc=kind, unit="round", file=sys.stderr):
        for name in names:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **KINDS[kind][name][3]}
            python = pythons.get(name.partition(",")[0], sys.executable)
            done = subprocess.run(
                [python, __file__, "--contestant", name, "--kind", kind, "--folder", folder],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rates[name].append(json.loads(done.stdout.splitlines()[-1]))
    return rates


def _has(python: str, library: str) -> bool:
    module = {"pytorch": "torch"}.get(library, library)
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", program], check=False).returncode == 0


def decoding(folder: str) -> dict[str, float]:
    """Milliseconds for one picture with each decoder that is installed."""
    from glueball.data import images

    data = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))[:64]]
    best: dict[str, float] = {}
    for _ in range(5):
        for name in images.DECODERS:
            os.environ["GLUEBALL_IMAGE_DECODER"] = name
            try:
                images.decoder()
            except images.OptionError:
                continue
            start = time.perf_counter()
            for picture in data:
                images.decode(picture)
            elapsed = (time.perf_counter() - start) / len(data) * 1000
            best[name] = min(elapsed, best.get(name, elapsed))
    del os.environ["GLUEBALL_IMAGE_DECODER"]
    return best


def main() -> None:
    """Prints the tables; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=384)
    parser.add_argument("--texts", type=int, default=25000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="a folder of class folders, instead of one that is made for the run")
    parser.add_argument(
        "--mxnet-python", default=sys.executable, help="interpreter with Glueball, both plugins and mxnet"
    )
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with Glueball, Pillow and torch")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=list(KINDS), default="pictures", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        run_contestant(arguments.kind, arguments.contestant, arguments.folder)
        return
    import synthetic

    pythons = {"MXNet": arguments.mxnet_python, "PyTorch": arguments.torch_python}
    with tempfile.TemporaryDirectory() as temporary:
        pictures, texts = Path(temporary, "pictures"), Path(temporary, "texts")
        if not arguments.folder:
            make_folder(pictures, arguments.pictures)
        texts.mkdir()
        synthetic.write_texts(texts / "texts.tsv", arguments.texts)
        folders = {"pictures": arguments.folder or str(pictures), "texts": str(texts)}
        decoders = decoding(folders["pictures"])
        load, rates = [os.getloadavg()[0]], {}
        for kind, folder in folders.items():
            rates[kind] = measure(kind, folder, arguments.rounds, pythons)
            load.append(os.getloadavg()[0])
    write(arguments, rates, decoders, load, pythons)


def write(
    arguments: argparse.Namespace,
    rates: dict[str, dict[str, list[dict[str, float]]]],
    decoders: dict[str, float],
    load: list[float],
    pythons: dict[str, str],
) -> None:
    """The tables and goals."""
    lines: list[str] = []
    goals = []
    for kind, found in rates.items():
        # Those without workers are always busy: what they wait for is a core.
        alone = [turns for name, turns in found.items() if name.endswith("no workers")]
        waited = statistics.median(turn["cpu"] / turn["clock"] for turns in alone for turn in turns)
        by = "cpu" if waited > SHARED else "clock"
        medians = {
            name: {unit: statistics.median(turn[unit] for turn in turns) for unit in ("clock", "cpu")}
            for name, turns in found.items()
        }
        rows = []
        for name, values in medians.items():
            turns = [turn[by] for turn in found[name]]
            rows.append(
                (name, f"{values['clock']:.1f}", f"{values['cpu']:.1f}", f"{min(turns):.1f} to {max(turns):.1f}")
            )
        lines += report.table((f"{kind}/s", "and core, by the clock", "of the CPU", f"from round to round, {by}"), rows)
        compared = "seconds of the CPU, since the machine did other work" if by == "cpu" else "the clock"
        lines += ["", f"Compared by {compared} (median of {arguments.rounds} rounds).", ""]
        for peer, mine in GOALS:
            if peer in medians:
                faster = medians[mine][by] / medians[peer][by]
                goals.append(report.Goal(f"{kind}: {mine} / {peer}", faster, 1.5))
    lines += report.table(
        ("decoder", "ms for a picture of 500 x 375"),
        ((name, f"{milliseconds:.2f}") for name, milliseconds in decoders.items()),
    )
    lines += ["", f"The system's load was {min(load):.1f} to {max(load):.1f} on {os.cpu_count()} cores."]
    distributions = ("glueball-core", "numpy", "pillow", "simplejpeg", "opencv-python-headless", "mxnet")
    where = report.machine(distributions)
    for python in pythons.values():
        program = "import report, json; print(json.dumps(report.versions(['mxnet', 'torch', 'torchvision'])))"
        told = subprocess.run(
            [python, "-c", program], stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent
        )
        where["versions"].update(json.loads(told.stdout))
    report.finish(
        arguments.output,
        title="Loading pictures and texts",
        script="benchmarks/loader.py",
        where=where,
        document={"samples_per_second_and_core": rates, "decoding_milliseconds": decoders, "load": load},
        lines=lines,
        goals=goals,
    )


if __name__ == "__main__":
    main()
