"""No shipped source unpickles, evaluates text as code, or starts a shell: read from the syntax trees of all of them.

A test of the rule itself comes first: each forbidden thing is found in every form in which it can be written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [
    *sorted((ROOT / "core" / "src").rglob("*.py")),
    *sorted((ROOT / "plugins").glob("*/src/**/*.py")),
    *sorted((ROOT / "examples").rglob("*.py")),
    ROOT / "bootstrap.py",
]

# Modules that turn bytes into objects of any class, or text into code.
MODULES = {
    *(
        "pickle",
        "_pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "marshal",
        "shelve",
        "jsonpickle",
        "yaml",
        "ruamel",
    ),
    *("code", "codeop", "runpy", "imp"),
    # Queues and pipes of processes pickle; parsers of XML expand what a file tells them to.
    *("multiprocessing", "xmlrpc", "xml", "lxml"),
    # Archives and compressed files are read by glueball.archives, which bounds what comes out of them.
    *("zipfile", "tarfile", "gzip", "bz2", "lzma", "zipimport"),
}
# Functions that run text, by their whole names and as attributes of anything.
BUILTINS = {"eval", "exec", "compile", "__import__", "execfile"}
FUNCTIONS = {
    *("os.system", "os.popen", "os.execl", "os.execv", "os.execvp", "os.spawnl", "os.spawnv", "pty.spawn"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "builtins.eval"),
    *("builtins.exec", "builtins.compile", "shutil.unpack_archive", "tempfile.mktemp", "pandas.read_pickle"),
    "logging.config.listen",
}
# Methods that unpack an archive to the disk under the names that it holds.
UNPACKING = {"extractall", "extract", "unpack_archive"}
# Methods of torch.distributed that unpickle what another machine sends.
PICKLING = {
    *("all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list", "recv_object_list"),
    "send_object_list",
}

ALLOWED = {
    # The loader's worker processes are our own children: what both sides pickle goes through a pipe that nobody else
    # has, and through memory without a name.
    "core/src/glueball/data/process.py": {"pickle"},
    "core/src/glueball/data/child.py": {"pickle", "runpy"},
    "core/src/glueball/archives.py": {"zipfile", "tarfile", "gzip", "bz2", "lzma"},
    # It writes an archive.
    "plugins/nlp_embedding_lm/src/glueball_nlp_embedding_lm/embedding/formats/npz.py": {"zipfile"},
    # A test of the template looks into the wheel that it has built.
    "examples/glueball-plugin-template/tests/test_wheel.py": {"zipfile"},
}
"""File -> what it may do, with the reason above it."""


def dotted(node: ast.AST) -> str:
    """The whole name of an attribute or a name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def names_of(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports stand for: ``import os as o`` gives {"o": "os"}."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def is_constant(node: ast.AST | None, *values: object) -> bool:
    return isinstance(node, ast.Constant) and any(node.value is value for value in values)


def findings(source: str, name: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of each forbidden thing."""
    tree = ast.parse(source, name)
    imported = names_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in MODULES:
                    yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = (node.module or "").partition(".")[0]
            if module in MODULES:
                yield node.lineno, module
            for alias in node.names:
                if f"{node.module}.{alias.name}" in FUNCTIONS:
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call):
            yield from _findings_of_call(node, imported)
        elif isinstance(node, ast.Attribute) and _resolved(node, imported) in FUNCTIONS:
            yield node.lineno, _resolved(node, imported)


def _resolved(node: ast.AST, imported: dict[str, str]) -> str:
    whole = dotted(node)
    first, dot, rest = whole.partition(".")
    return imported.get(first, first) + dot + rest


def _findings_of_call(node: ast.Call, imported: dict[str, str]) -> Iterator[tuple[int, str]]:
    whole = _resolved(node.func, imported)
    last = whole.rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
        yield node.lineno, node.func.id
    named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
    if whole == "importlib.import_module" and str(named).partition(".")[0] in MODULES:
        yield node.lineno, str(named)
    # Options that are not written out can hold anything.
    if whole in ("torch.load", "torch.serialization.load") and not is_constant(options.get("weights_only"), True):
        yield node.lineno, "torch.load without weights_only=True"
    if whole in (
        "torch.jit.load",
        "torch.package.PackageImporter",
        "torch.hub.load",
        "torch.hub.load_state_dict_from_url",
    ):
        yield node.lineno, whole
    if last in ("load", "read_array", "write_array", "open_memmap") and whole.startswith(("numpy.", "np.")):
        if not is_constant(options.get("allow_pickle"), False):
            yield node.lineno, f"{whole} without allow_pickle=False"
    elif "allow_pickle" in options and not is_constant(options["allow_pickle"], False):
        yield node.lineno, "allow_pickle"
    if "shell" in options and not is_constant(options["shell"], False):
        yield node.lineno, "shell="
    if isinstance(node.func, ast.Attribute) and node.func.attr in UNPACKING | PICKLING:
        yield node.lineno, f".{node.func.attr}()"


def test_the_sources_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in SHIPPED}
    assert len(names) > 150
    assert set(ALLOWED) | {"bootstrap.py", "core/src/glueball/cli/__init__.py"} <= names
    assert any(name.startswith("plugins/nlp_embedding_lm/src/") for name in names)
    assert any(name.startswith("examples/") for name in names)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("import pickle as p", "pickle"),
        ("from pickle import loads", "pickle"),
        ("def f():\n    from cloudpickle import load", "cloudpickle"),
        ("import importlib\nimportlib.import_module('pickle')", "pickle"),
        ("from importlib import import_module as m\nm('yaml.loader')", "yaml.loader"),
        ("__import__('os')", "__import__"),
        ("import yaml", "yaml"),
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("compile('1', 'x', 'eval')", "compile"),
        ("import os\nos.system('ls')", "os.system"),
        ("from os import system as s", "os.system"),
        ("import os as o\nrun = o.popen", "os.popen"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell="),
        ("import subprocess\nsubprocess.run('ls', shell=chosen)", "shell="),
        ("import torch\ntorch.load(path)", "torch.load without weights_only=True"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("from torch import load\nload(path)", "torch.load without weights_only=True"),
        ("import numpy as np\nnp.load(path)", "numpy.load without allow_pickle=False"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load without allow_pickle=False"),
        ("import numpy\nnumpy.lib.format.read_array(f)", "numpy.lib.format.read_array without allow_pickle=False"),
        ("f(allow_pickle=True)", "allow_pickle"),
        ("import tarfile\ntarfile.open(p).extractall()", ".extractall()"),
        ("archive.extract(member, folder)", ".extract()"),
        ("import torch.distributed as dist\ndist.all_gather_object(a, b)", ".all_gather_object()"),
        ("from multiprocessing import Queue", "multiprocessing"),
        ("import gzip", "gzip"),
    ],
)
def test_what_is_forbidden_is_found(source: str, found: str) -> None:
    assert found in [what for _, what in findings(source, "x.py")]


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('x')",
        "network.eval()",
        "import torch\ntorch.compile(network)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import ast\nast.literal_eval('1')",
        "import json\njson.load(file)",
        "import subprocess\nsubprocess.run(['ls'])",
        "from glueball.backend import eval_mode",
    ],
)
def test_what_is_harmless_is_not(source: str) -> None:
    assert list(findings(source, "x.py")) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    allowed = ALLOWED.get(name, set())
    wrong = [
        f"{name}, line {line}: {what}"
        for line, what in findings(path.read_text("utf-8"), name)
        if what.partition(" ")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ALLOWED)
def test_no_exception_outlives_its_reason(name: str) -> None:
    used = {what for _, what in findings((ROOT / name).read_text("utf-8"), name)}
    assert used == ALLOWED[name]
