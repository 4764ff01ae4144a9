"""Selection of the backend, each case in a process of its own, with stand-ins for libraries that are not here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import glueball
from glueball import backend as backends
from glueball.errors import BackendError

SOURCE = str(Path(glueball.__file__).parents[1])

STAND_IN_DRIVER = """
/* What Glueball asks of the NVIDIA driver, for one GPU of a given compute capability. */
int cuInit(unsigned int flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? MAJOR : attribute == 76 ? MINOR : 0;
    return 0;
}
"""


def run(
    program: str, *, path: tuple[Path, ...] = (), environment: dict[str, str] | None = None, isolated: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a program on a fresh interpreter; ``path`` comes first, ``isolated`` hides every installed backend."""
    variables = {key: value for key, value in os.environ.items() if key not in ("GLUEBALL_BACKEND", "PYTHONPATH")}
    variables["PYTHONPATH"] = os.pathsep.join([*map(str, path), SOURCE])
    variables |= environment or {}
    if isolated:
        hide = """
            import importlib.abc, sys
            class Hide(importlib.abc.MetaPathFinder):
                def find_spec(self, name, path=None, target=None):
                    if name in ("mxnet", "torch"):
                        raise ModuleNotFoundError(name=name)
            sys.meta_path.insert(0, Hide())
        """
        program = textwrap.dedent(hide) + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env=variables,
        timeout=120,
        check=False,
    )


SHOW_ERROR = """
    from glueball import backend
    from glueball.errors import BackendError
    try:
        backend.current()
    except BackendError as error:
        print(error)
        print("cause:", repr(error.__cause__))
        print("selected:", backend.selected_name())
    else:
        raise SystemExit("no error")
"""


def error_of(completed: subprocess.CompletedProcess[str]) -> str:
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def fake_library(folder: Path, name: str, body: str, version: str = "1.9.1", distribution: str | None = None) -> Path:
    """A package ``name`` and the metadata of its distribution, as pip would leave them."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(textwrap.dedent(body))
    metadata = folder / f"{(distribution or name).replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: {version}\n")
    return folder


def test_nothing_is_imported_before_the_first_use() -> None:
    completed = run("""
        import sys
        import glueball
        from glueball import backend
        assert backend.selected_name() is None
        assert backend.installed()
        print(sorted({"mxnet", "torch", "numpy"} & set(sys.modules)))
    """)
    assert error_of(completed).strip() == "[]"


def test_only_the_chosen_library_is_imported() -> None:
    name = backends.installed()[0]
    other = "torch" if name == "mxnet" else "mxnet"
    completed = run(
        f"""
        import sys
        from glueball import backend
        print(backend.current().name, backend.selected_name(), {other!r} in sys.modules)
        assert backend.current() is backend.use({name!r})
        """,
        environment={"GLUEBALL_BACKEND": name},
    )
    assert error_of(completed).split() == [name, name, "False"]


def test_the_only_installed_library_is_taken() -> None:
    found = backends.installed()
    completed = run("from glueball import backend; print(backend.current().name)")
    assert error_of(completed).strip() == found[0]


def test_mxnet_comes_first_where_both_are_installed(tmp_path: Path) -> None:
    fake_library(tmp_path, "mxnet", "raise ImportError('stand-in for mxnet')")
    fake_library(tmp_path, "torch", "raise ImportError('stand-in for torch')")
    completed = run(
        """
        from glueball import backend
        print(backend.installed(), backend._choose())
        """,
        path=(tmp_path,),
    )
    assert error_of(completed).strip() == "['mxnet', 'torch'] mxnet"


def test_none_installed_shows_both_commands() -> None:
    text = error_of(run(SHOW_ERROR, isolated=True))
    assert "No deep-learning library is installed" in text
    assert 'pip install "glueball-core[mxnet]"' in text
    assert 'pip install "glueball-core[torch]"' in text
    assert "selected: None" in text


def test_the_one_asked_for_is_not_installed() -> None:
    text = error_of(run(SHOW_ERROR, isolated=True, environment={"GLUEBALL_BACKEND": "torch"}))
    assert "Backend 'torch' was asked for, but its library is not installed" in text
    assert 'pip install "glueball-core[torch]"' in text


@pytest.mark.parametrize(("wrong", "meant"), [("mxnte", "mxnet"), ("pytorch", "torch"), ("Torch", "torch")])
def test_unknown_name_suggests_the_near_one(wrong: str, meant: str) -> None:
    text = error_of(run(SHOW_ERROR, environment={"GLUEBALL_BACKEND": wrong}))
    assert f"received {wrong!r}" in text
    assert f"Did you mean {meant!r}?" in text


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    text = error_of(run(SHOW_ERROR, environment={"GLUEBALL_BACKEND": "qqqq"}))
    assert "Expected one of ['mxnet', 'torch']" in text
    assert "Did you mean" not in text


@pytest.mark.parametrize("name", ["mxnet", "torch"])
def test_a_broken_library_shows_its_own_error_as_the_cause(tmp_path: Path, name: str) -> None:
    # NumPy 2 is refused before a broken mxnet is even tried.
    numpy = "import types, sys; import numpy; numpy.__version__ = '1.26.4'\n"
    fake_library(tmp_path, name, "raise OSError('libsomething.so.3: cannot open shared object file')")
    text = error_of(run(numpy + textwrap.dedent(SHOW_ERROR), path=(tmp_path,), environment={"GLUEBALL_BACKEND": name}))
    assert f"Backend {name!r} is installed" in text
    assert "cannot be imported: OSError: libsomething.so.3" in text
    assert "cause: OSError('libsomething.so.3" in text
    assert "Reinstall it" in text
    assert "selected: None" in text


def test_a_folder_of_that_name_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "mxnet").mkdir()
    name = backends.installed()[0]
    completed = run("from glueball import backend; print(backend.installed())", path=(tmp_path,))
    assert error_of(completed).strip() == f"[{name!r}]"


def test_numpy_2_with_mxnet_names_version_and_cure(tmp_path: Path) -> None:
    fake_library(tmp_path, "mxnet", "raise AssertionError('must not be imported')")
    program = "import numpy; numpy.__version__ = '2.3.1'\n" + textwrap.dedent(SHOW_ERROR)
    text = error_of(run(program, path=(tmp_path,), environment={"GLUEBALL_BACKEND": "mxnet"}))
    assert "received NumPy 2.3.1" in text
    assert 'pip install "numpy<2"' in text
    assert "GLUEBALL_BACKEND=torch" in text


def test_change_after_selection_is_an_error() -> None:
    name = backends.installed()[0]
    other = "torch" if name == "mxnet" else "mxnet"
    completed = run(
        f"""
        import os
        from glueball import backend
        from glueball.errors import BackendError
        first = backend.use({name!r})
        for change in ("use", "environment"):
            try:
                if change == "use":
                    backend.use({other!r})
                else:
                    os.environ["GLUEBALL_BACKEND"] = {other!r}
                    backend.current()
            except BackendError as error:
                print(error)
            else:
                raise SystemExit("no error: " + change)
        os.environ["GLUEBALL_BACKEND"] = {name!r}
        assert backend.current() is first
        """
    )
    first, second = error_of(completed).strip().splitlines()
    assert f"use({other!r}) was called, but this process already runs on backend {name!r}" in first
    assert f"GLUEBALL_BACKEND was set to {other!r}, but this process already runs on backend {name!r}" in second
    assert f"Start a new process with GLUEBALL_BACKEND={other}" in first


def test_a_failed_selection_can_be_repeated() -> None:
    completed = run(
        """
        import os
        from glueball import backend
        from glueball.errors import BackendError
        try:
            backend.current()
        except BackendError:
            os.environ.pop("GLUEBALL_BACKEND")
        print(backend.current().name)
        """,
        environment={"GLUEBALL_BACKEND": "nonsense"},
    )
    assert error_of(completed).strip() == backends.installed()[0]


def test_threads_select_once() -> None:
    completed = run("""
        import threading
        from glueball import backend
        found = []
        threads = [threading.Thread(target=lambda: found.append(backend.current())) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(found), len(set(map(id, found))))
    """)
    assert error_of(completed).split() == ["8", "1"]


def test_distribution_tells_the_builds_apart(tmp_path: Path) -> None:
    fake_library(tmp_path, "mxnet", "", distribution="mxnet-cu112")
    program = """
        import importlib.metadata
        from glueball import backend
        from glueball.backend.mxnet import cuda
        known = importlib.metadata.version
        def version(name):
            if name == "mxnet":
                raise importlib.metadata.PackageNotFoundError(name)
            return known(name)
        importlib.metadata.version = version
        print(backend.distribution("mxnet"), cuda.is_cuda_build())
    """
    assert error_of(run(program, path=(tmp_path,))).split() == ["mxnet-cu112", "True"]


def test_probe_reports_without_importing_here() -> None:
    name = backends.installed()[0]
    completed = run(f"""
        import sys
        from glueball import backend
        result = backend.probe({name!r})
        print(result.installed, result.error, result.version, result.distribution, result.devices[-1].split(":")[0])
        print({name!r} in sys.modules, backend.selected_name())
    """)
    first, second = error_of(completed).strip().splitlines()
    assert first.startswith("True None ")
    assert first.endswith(" cpu")
    assert second == "False None"


def test_probe_of_a_broken_library_returns_its_error(tmp_path: Path) -> None:
    fake_library(tmp_path, "torch", "raise ImportError('half a torch')", version="2.9.0")
    program = """
        from glueball import backend
        result = backend.probe("torch")
        print(result.installed, result.distribution, result.devices)
        print(result.error)
    """
    text = error_of(run(program, path=(tmp_path,)))
    assert text.startswith("True torch ()")
    assert "ImportError: half a torch" in text


def test_probe_survives_a_library_that_kills_the_process(tmp_path: Path) -> None:
    fake_library(tmp_path, "torch", "import os; os.write(2, b'Illegal instruction'); os._exit(132)")
    text = error_of(run("from glueball import backend; print(backend.probe('torch').error)", path=(tmp_path,)))
    assert "ended with status 132: Illegal instruction" in text


def test_probe_of_what_is_not_installed() -> None:
    text = error_of(run("from glueball import backend; print(backend.probe('torch'))", isolated=True))
    assert "installed=False" in text
    assert "glueball-core[torch]" in text


def test_unknown_name_lists_what_is_installed(tmp_path: Path) -> None:
    fake_library(tmp_path, "torch", "")
    unknown = {"GLUEBALL_BACKEND": "foo"}
    text = error_of(run(SHOW_ERROR, path=(tmp_path,), environment=unknown))
    assert "GLUEBALL_BACKEND names an unknown backend. Expected one of ['mxnet', 'torch'], received 'foo'." in text
    assert re.search(r"Installed: (mxnet, )?torch\.", text)
    text = error_of(run(SHOW_ERROR, environment=unknown, isolated=True))
    assert "None of them is installed" in text
    assert "glueball-core[torch]" in text


def test_probe_refuses_unknown_names() -> None:
    with pytest.raises(BackendError, match="unknown backend"):
        backends.probe("tensorflow")


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """Folders with a stand-in libcuda.so.1 that reports one GPU of a compute capability."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the stand-in driver")
    folders = {}
    for major, minor in ((8, 6), (9, 0)):
        folder = tmp_path_factory.mktemp(f"driver{major}{minor}")
        source = folder / "driver.c"
        source.write_text(STAND_IN_DRIVER)
        subprocess.run(
            [compiler, "-shared", "-fPIC", f"-DMAJOR={major}", f"-DMINOR={minor}", "-o", "libcuda.so.1", str(source)],
            check=True,
            cwd=folder,
        )
        folders[major, minor] = folder
    return folders


GPU_PROGRAM = """
    import warnings
    from glueball import backend
    from glueball.backend.mxnet import cuda
    cuda.is_cuda_build = lambda: True  # the stand-in of mxnet-cu112, on the CPU build that is here
    cuda.preload = lambda: []
    print(cuda.compute_capabilities())
    selected = backend.use("mxnet")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(selected.devices(), selected.devices())
    print(len(caught), *(str(one.message) for one in caught))
    try:
        from glueball.backend.mxnet.device import context
        print(context("cuda:0"))
    except backend.BackendError as error:
        print("refused:", error)
    import numpy
    print(selected.numpy(selected.array(numpy.ones(2))).sum())
"""


@pytest.mark.skipif("mxnet" not in backends.installed(), reason="needs MXNet")
def test_a_gpu_without_code_is_refused_before_the_first_kernel(drivers: dict[tuple[int, int], Path]) -> None:
    completed = run(GPU_PROGRAM, environment={"LD_LIBRARY_PATH": str(drivers[9, 0])})
    lines = error_of(completed).strip().splitlines()
    assert lines[0] == "[(9, 0)]"
    assert lines[1] == "['cpu'] ['cpu']"
    assert lines[2].startswith("1 Backend 'mxnet' cannot use cuda:0: this GPU has compute capability 9.0")
    assert lines[3].startswith("refused: Device 'cuda:0' cannot be used by backend 'mxnet'")
    for line in lines[2:4]:
        assert "GLUEBALL_BACKEND=torch" in line
        assert "5.0 to 8.9" in line
    assert lines[4] == "2.0"


@pytest.mark.skipif("mxnet" not in backends.installed(), reason="needs MXNet")
def test_a_gpu_with_code_is_offered_first(drivers: dict[tuple[int, int], Path]) -> None:
    program = GPU_PROGRAM.partition("import numpy")[0]
    lines = error_of(run(program, environment={"LD_LIBRARY_PATH": str(drivers[8, 6])})).strip().splitlines()
    assert lines == ["[(8, 6)]", "['cuda:0', 'cpu'] ['cuda:0', 'cpu']", "0", "gpu(0)"]


def test_libraries_are_loaded_after_those_they_need(tmp_path: Path) -> None:
    """Stand-ins for cuBLAS: the second library finds the first by its soname, although no path leads there."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the stand-in libraries")
    folder = tmp_path / "nvidia" / "cublas" / "lib"
    folder.mkdir(parents=True)
    source = tmp_path / "light.c"
    source.write_text("int light(void) { return 42; }")
    user = tmp_path / "user.c"
    user.write_text("int light(void); int user(void) { return light(); }")
    light, full = folder / "libcublasLt.so.11", folder / "libcublas.so.11"
    shared = [compiler, "-shared", "-fPIC"]
    subprocess.run([*shared, "-Wl,-soname,libcublasLt.so.11", "-o", str(light), str(source)], check=True)
    subprocess.run([*shared, "-Wl,-soname,libcublas.so.11", "-o", str(full), str(user), str(light)], check=True)
    # CUDA 12 in the same folder, as a torch beside it would bring.
    shutil.copy(light, folder / "libcublasLt.so.12")
    completed = run(
        """
        import ctypes
        from glueball.backend.mxnet import cuda
        cuda.is_cuda_build = lambda: True
        print(*[path.rsplit("/", 1)[1] for path in cuda.preload()])
        print(ctypes.CDLL("libcublas.so.11").user())
        """,
        path=(tmp_path,),
    )
    names, value = error_of(completed).strip().splitlines()
    # A torch with CUDA beside it has libraries whose names serve both, such as libnccl.so.2.
    assert [name for name in names.split() if "cublas" in name] == ["libcublasLt.so.11", "libcublas.so.11"]
    assert value == "42"


def test_a_cpu_build_preloads_nothing() -> None:
    completed = run("""
        from glueball.backend.mxnet import cuda
        cuda.is_cuda_build = lambda: False
        print(cuda.preload())
    """)
    assert error_of(completed).strip() == "[]"


def test_unknown_and_missing_devices_are_named() -> None:
    backend = backends.current()
    for device in ("cuda:97", "quantum"):
        with pytest.raises(BackendError, match=device):
            backend.to_device(backend.nn.Dense(1), device)
