"""The architecture, held by reading the code: arrows point one way, backends stay behind their contract."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from glueball.testing.checks import _heavy_imports

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core" / "src" / "glueball"
PLUGINS = sorted((ROOT / "plugins").glob("*/src/*"))
SOURCES = sorted(CORE.rglob("*.py")) + [file for plugin in PLUGINS for file in sorted(plugin.rglob("*.py"))]
EXAMPLES = sorted((ROOT / "examples").glob("*/src/**/*.py"))

# What each part of core may import of core, at the top or inside functions. Types alone (TYPE_CHECKING) do not count:
# they are not there at run time.
LIGHT = {"errors", "__init__"}
CATALOG = LIGHT | {"catalog", "plugin", "hookspecs"}
ALLOWED = {
    "errors": set(),
    "files": LIGHT,
    "archives": LIGHT,
    "plugin": set(),
    "hookspecs": set(),
    "catalog": CATALOG,
    "data": LIGHT | {"data", "archives", "files", "init"},
    "metrics": LIGHT | {"metrics"},
    "builtin": LIGHT | {"builtin", "plugin", "nn"},
    "init": LIGHT | {"init"},
    # The blocks of a backend hand parameters to the readers and writers of files, and start them by the initialisers.
    "backend": LIGHT | {"backend", "files", "init", "weights", "seeding"},
    "nn": LIGHT | {"backend"},
    "ops": LIGHT | {"backend"},
    "loss": LIGHT | {"backend"},
    "rnn": LIGHT | {"backend"},
    "autograd": LIGHT | {"backend"},
    "seeding": LIGHT | {"backend", "init"},
    "weights": LIGHT | {"weights", "backend", "catalog", "plugin", "archives", "files"},
    "named": CATALOG | {"backend"},
    "models": CATALOG | {"named", "backend", "weights", "nn"},
    "testing": CATALOG | {"testing", "named", "models", "backend", "weights"},
    "engine": CATALOG
    | {"engine", "named", "models", "backend", "nn", "loss", "ops", "autograd", "init", "seeding", "weights", "data"}
    | {"metrics", "files"},
    "deploy": CATALOG | {"deploy", "nn", "data", "weights", "backend", "files"},
    "cli": None,  # the top: may import everything
    "__main__": {"cli"},
    "__init__": None,  # the face: hands everything on
}

PUBLIC_TO_PLUGINS = {
    *(
        "nn",
        "rnn",
        "init",
        "loss",
        "ops",
        "autograd",
        "data",
        "engine",
        "weights",
        "errors",
        "plugin",
        "files",
        "archives",
        "backend",
    ),
    *("get_model", "get_dataset", "get_transform", "get_loss", "get_metric", "metrics", "named", "models", "seeding"),
    *("get_recipe", "get_task", "list_models", "list_datasets", "testing", "catalog", "seed", "load"),
}


def part_of(file: Path) -> str:
    """The part of core that a file belongs to: a package or a module right below ``glueball``."""
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            for other in child.orelse:  # type: ignore[attr-defined]
                yield from run_time_nodes(other)
            continue
        yield child
        yield from run_time_nodes(child)


def imported(file: Path) -> Iterator[str]:
    """Dotted names that a file imports at run time; ``from a import b`` gives ``a.b``."""
    for node in run_time_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                folder = file.parents[node.level - 1]
                root = folder
                while (root.parent / "__init__.py").exists():
                    root = root.parent
                module = ".".join(part for part in (*folder.relative_to(root.parent).parts, module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 40
    assert PLUGINS
    assert EXAMPLES


def test_every_part_of_core_has_its_arrows() -> None:
    parts = {part_of(file) for file in CORE.rglob("*.py")}
    assert parts <= set(ALLOWED), f"say what {parts - set(ALLOWED)} may import"


@pytest.mark.parametrize("part", [part for part, allowed in ALLOWED.items() if allowed is not None])
def test_imports_inside_core_point_one_way(part: str) -> None:
    allowed = ALLOWED[part]
    assert allowed is not None
    wrong = []
    for file in CORE.rglob("*.py"):
        if part_of(file) != part:
            continue
        for name in imported(file):
            if name.partition(".")[0] != "glueball":
                continue
            target = name.split(".")[1] if "." in name else "__init__"
            if not (CORE / target).is_dir() and not (CORE / f"{target}.py").is_file():
                target = "__init__"  # a public name such as __version__
            if target not in allowed | {part}:
                wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_backends_import_their_libraries() -> None:
    wrong = []
    for file in SOURCES + EXAMPLES:
        parts = file.relative_to(CORE).parts if file.is_relative_to(CORE) else ()
        for name in imported(file):
            library = name.partition(".")[0]
            if library in ("mxnet", "torch", "torchvision", "gluoncv", "gluonnlp", "timm", "tensorflow", "jax"):
                own = parts[:2] == ("backend", library)
                if not own:
                    wrong.append(f"{file.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_backend_package_imports_no_library_when_it_is_imported() -> None:
    for name in ("__init__.py", "base.py", "dialect.py", "optimizers.py"):
        libraries = {found.partition(".")[0] for found in imported(CORE / "backend" / name)}
        assert not libraries & {"mxnet", "torch"}, name


def compared_names(node: ast.Compare) -> Iterator[str]:
    for side in (node.left, *node.comparators):
        yield ast.unparse(side)


def test_nobody_asks_which_backend_runs() -> None:
    wrong = []
    for file in SOURCES + EXAMPLES:
        if file.is_relative_to(CORE / "backend"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare):
                continue
            sides = [side.value if isinstance(side, ast.Constant) else None for side in (node.left, *node.comparators)]
            texts = " ".join(compared_names(node)).lower()
            if any(side in ("mxnet", "torch") for side in sides) and ("backend" in texts or ".name" in texts):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


# Calls that would be refused elsewhere, with the reason. The list should not grow.
PICKLE_BETWEEN_OWN_PROCESSES = {
    # A loader and the workers that it has started talk through private pipes, as multiprocessing does; no byte of it
    # comes from a file or another program.
    "core/src/glueball/data/child.py",
    "core/src/glueball/data/process.py",
}


def test_nothing_is_unpickled_or_evaluated() -> None:
    wrong = []
    for file in SOURCES + EXAMPLES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("eval", "exec", "compile", "__import__", "yaml.load", "torch.load", "os.system"):
                    wrong.append(f"{where}: {called}")
                exempt = str(file.relative_to(ROOT)) in PICKLE_BETWEEN_OWN_PROCESSES and called.startswith("pickle.")
                if called.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "shelve") and not exempt:
                    wrong.append(f"{where}: {called}")
                for keyword in node.keywords:
                    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                    if (keyword.arg in ("allow_pickle", "shell") and value is not False) or (
                        keyword.arg == "weights_only" and value is not True
                    ):
                        wrong.append(f"{where}: {keyword.arg}={ast.unparse(keyword.value)}")
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            if any(name.partition(".")[0] in ("cPickle", "dill", "joblib", "shelve") for name in names):
                wrong.append(f"{where}: imports {names}")
    assert not wrong, "\n".join(wrong)


def test_plugins_use_the_public_api_only() -> None:
    wrong = []
    for plugin in PLUGINS:
        others = {other.name for other in PLUGINS} - {plugin.name}
        for file in plugin.rglob("*.py"):
            for name in imported(file):
                first, *rest = name.split(".")
                if first in others:
                    wrong.append(f"{file.relative_to(ROOT)} imports {name}, of another plugin")
                if first == "glueball" and rest and rest[0] not in PUBLIC_TO_PLUGINS:
                    wrong.append(f"{file.relative_to(ROOT)} imports {name}")
                if first == "glueball" and any(part.startswith("_") for part in rest):
                    wrong.append(f"{file.relative_to(ROOT)} imports the private {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [plugin / "plugin.py" for plugin in PLUGINS], ids=lambda file: file.parent.name)
def test_plugin_file_stays_light(file: Path) -> None:
    package = file.parent.name
    for name in imported(file):
        first = name.partition(".")[0]
        assert first in sys.stdlib_module_names or first == package or name.startswith("glueball.plugin"), name
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed here, so only its text was checked")
    assert _heavy_imports(f"{package}.plugin") is None


def test_the_face_and_the_catalogue_load_nothing_heavy() -> None:
    program = (
        "import json, sys, glueball; first = set(sys.modules); glueball.list_models(); glueball.list_datasets();"
        "print(json.dumps([sorted(first), sorted(sys.modules)]))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, listed = map(set, json.loads(process.stdout))
    heavy = {"numpy", "mxnet", "torch", "PIL", "cv2", "scipy", "sklearn", "matplotlib", "pandas", "tqdm", "safetensors"}
    assert not heavy & listed
    # The face alone is lighter still: no attrs, no pluggy, no scan.
    assert not {"attr", "pluggy", "importlib_metadata", "typing"} & (first - bare_modules())


def bare_modules() -> set[str]:
    """What an interpreter that imports nothing has loaded; .pth files of the environment may load something."""
    program = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout))


def test_exemptions_are_still_needed() -> None:
    for name in PICKLE_BETWEEN_OWN_PROCESSES:
        assert "pickle.loads" in (ROOT / name).read_text(encoding="utf-8"), f"{name} needs no exemption any more"


def test_the_architecture_tests_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef f():\n    from mxnet import nd\n"
    )
    assert set(imported(file)) == {"typing.TYPE_CHECKING", "mxnet.nd"}
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").write_text("from . import one\nfrom .two import three\n")
    assert set(imported(package / "module.py")) == {"package.one", "package.two.three"}
