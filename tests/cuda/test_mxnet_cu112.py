"""mxnet-cu112 imports and computes on a machine that has neither a GPU nor an NVIDIA driver.

The CUDA 11 libraries come as wheels and are loaded by Glueball before ``import mxnet``; only the driver's library has
to be stood in for, by one that the test compiles.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = """
import sys
import numpy as np
import glueball
from glueball import backend
current = backend.current()
assert current.name == "mxnet", current.name
import mxnet
assert mxnet.runtime.Features().is_enabled("CUDA"), "this is not the CUDA build"
result = mxnet.nd.dot(mxnet.nd.array([[1.0, 2.0]]), mxnet.nd.array([[3.0], [4.0]])).asnumpy()
assert result.tolist() == [[11.0]], result
from glueball import nn
network = nn.Conv2D(2, kernel_size=3, in_channels=1)
network.initialize()
print(mxnet.__version__, current.devices(), tuple(network(mxnet.nd.ones((1, 1, 5, 5))).shape))
"""


def distribution_is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not distribution_is_installed("mxnet-cu112"), reason="mxnet-cu112 is not installed (about 3 GB; tox -e mxnet-cu112)"
)


@pytest.fixture(scope="module")
def driver_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that reports no device."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make the stand-in for the driver's library")
    folder = tmp_path_factory.mktemp("driver")
    source = HERE / "stand_in_libcuda.c"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1", source],
        check=True,
    )
    return folder


def python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment |= {"GLUEBALL_BACKEND": "mxnet", **variables}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def test_imports_and_computes_on_the_cpu(driver_folder: Path) -> None:
    finished = python(PROGRAM, LD_LIBRARY_PATH=str(driver_folder))
    assert finished.returncode == 0, finished.stderr
    version, devices, shape = finished.stdout.strip().split(" ", 2)
    assert version == "1.9.1"
    assert "cpu" in devices + shape
    assert shape.endswith("(1, 2, 3, 3)")


def test_without_preloading_the_import_fails(driver_folder: Path) -> None:
    """Otherwise the test above would prove nothing about the preloading."""
    finished = python("import numpy as n; n.bool = bool; import mxnet", LD_LIBRARY_PATH=str(driver_folder))
    assert finished.returncode != 0
    assert "cannot open shared object file" in finished.stderr


@pytest.mark.skipif(
    any(Path(folder, "libcuda.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")),
    reason="an NVIDIA driver is installed here",
)
def test_without_a_driver_the_error_names_the_cure() -> None:
    finished = python("from glueball import backend; backend.current()")
    assert finished.returncode != 0
    assert "libcuda.so.1" in finished.stderr
    assert "driver" in finished.stderr
