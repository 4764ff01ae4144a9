"""Pictures a second and core: our loader against MXNet's, as GluonCV's training script uses it, and a Pillow pipeline.

    python benchmarks/loader.py [--pictures 384] [--rounds 3] [--folder DIR] [--output FILE]

All of them read a folder of JPEGs (500 x 375, quality 90, cut from the photographs that come with scikit-learn, or any
folder of class folders), take a random resized crop of 224, flip, normalise and make float32 batches of 64. Each
contestant runs in a process of its own, bound to one core, or to two for two workers, so that what one core does is
compared, not who starts more threads; contestants take turns, and the median of the rounds counts. The first batches
are not timed. MXNet's contestants are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
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


def pillow(folder: str, workers: int, kind: str) -> Epoch:
    from PIL import Image

    paths = sorted(str(path) for path in Path(folder).rglob("*.jpg"))
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

    def epoch() -> Iterator[Any]:
        order = generator.permutation(len(paths))
        for start in range(0, len(order), BATCH):
            yield np.stack([sample(paths[index]) for index in order[start : start + BATCH]])

    return epoch


CONTESTANTS: dict[str, tuple[Callable[[str, int, str], Epoch], int, str, dict[str, str]]] = {
    "ours, no workers": (ours, 0, "thread", {}),
    "ours, no workers, Pillow decodes": (ours, 0, "thread", {"GLUEBALL_IMAGE_DECODER": "pillow"}),
    "ours, 2 threads": (ours, 2, "thread", {}),
    "ours, 2 processes": (ours, 2, "process", {}),
    "MXNet, no workers": (mxnet, 0, "thread", {}),
    "MXNet, 2 threads": (mxnet, 2, "thread", {}),
    "MXNet, 2 processes": (mxnet, 2, "process", {}),
    "Pillow + NumPy, no workers": (pillow, 0, "thread", {}),
}
"""Name -> (what makes an epoch, workers, their kind, environment)."""


def run_contestant(name: str, folder: str) -> None:
    """In the contestant's own process: prints its pictures a second and core."""
    make, workers, kind, _ = CONTESTANTS[name]
    cores = sorted(os.sched_getaffinity(0))[: max(workers, 1)]
    # Before the library starts threads, so that all of them are bound as well.
    os.sched_setaffinity(0, cores)
    epoch = make(folder, workers, kind)
    # One whole pass: workers have started, files lie in the page cache.
    for _ in epoch():
        pass
    pictures, start = 0, time.perf_counter()
    for batch in epoch():
        pictures += len(batch[0]) if isinstance(batch, (tuple, list)) else len(batch)
    print(json.dumps(pictures / (time.perf_counter() - start) / len(cores)))


def measure(folder: str, rounds: int) -> dict[str, list[float]]:
    names = [name for name in CONTESTANTS if "MXNet" not in name or importlib.util.find_spec("mxnet") is not None]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", **CONTESTANTS[name][3]}
            done = subprocess.run(
                [sys.executable, __file__, "--contestant", name, "--folder", folder],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rates[name].append(json.loads(done.stdout.splitlines()[-1]))
    return rates


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
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="a folder of class folders, instead of one that is made for the run")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contestant", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        run_contestant(arguments.contestant, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if not arguments.folder:
            make_folder(Path(temporary), arguments.pictures)
        folder = arguments.folder or temporary
        decoders = decoding(folder)
        rates = measure(folder, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    goals = []
    for peer, mine in (
        ("MXNet, no workers", "ours, no workers"),
        ("MXNet, 2 threads", "ours, 2 threads"),
        ("MXNet, 2 processes", "ours, 2 processes"),
        ("Pillow + NumPy, no workers", "ours, no workers"),
    ):
        if peer in medians:
            goals.append(report.Goal(f"{mine} / {peer}", medians[mine] / medians[peer], 1.5))
    report.finish(
        arguments.output,
        title="Loading and augmenting pictures",
        script="benchmarks/loader.py",
        where=report.machine(("glueball-core", "numpy", "pillow", "simplejpeg", "opencv-python-headless", "mxnet")),
        document={
            "pictures_per_second_and_core": rates,
            "medians": medians,
            "decoding_milliseconds": decoders,
        },
        lines=[
            *report.table(("loader", "pictures/s and core"), ((name, f"{rate:.1f}") for name, rate in medians.items())),
            "",
            *report.table(
                ("decoder", "ms for a picture of 500 x 375"),
                ((name, f"{milliseconds:.2f}") for name, milliseconds in decoders.items()),
            ),
        ],
        goals=goals,
    )


if __name__ == "__main__":
    main()
