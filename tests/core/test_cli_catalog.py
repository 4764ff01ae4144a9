"""The command line around the catalogue, in this process and as the installed command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from synthetic_distributions import install

import glueball
from glueball import backend, catalog, cli
from glueball.catalog.discovery import Source
from glueball.cli import doctor
from glueball.errors import DataError, PluginError
from glueball.plugin import Weights, hookimpl
from glueball.testing import isolated_catalog


class Garden:
    """A plugin with several kinds."""

    @hookimpl
    def register_models(self, register: Callable) -> None:
        weights = {"tag": Weights(file="rose-00000000.params", sha1="0" * 40, classes=7, metrics={"top1": 71.5})}
        register(
            "rose_net", "builtins:dict", task="image_classification", classes=7, weights=weights, summary="A rose."
        )
        register("tulip_net", "builtins:dict", task="image_detection", input_shape=(3, 8, 8))

    @hookimpl
    def register_datasets(self, register: Callable) -> None:
        register("roses", f"{__name__}:roses", summary="Pictures of roses.")

    @hookimpl
    def register_recipes(self, register: Callable) -> None:
        register("roses", f"{__name__}:roses", task="image_classification")


def roses(size: int = 3, *, color: str = "red") -> tuple[int, str]:
    return size, color


@pytest.fixture
def garden() -> Iterator[None]:
    broken = Source("weeds", "a_module_that_is_not_there", "glueball-weeds", "0.3")
    with isolated_catalog({"garden": Garden()}, sources=[broken]):
        yield


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(words)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.usefixtures("garden")
def test_list_without_arguments_counts(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "list")
    assert status == 0
    assert [line.split() for line in out.splitlines()[1:3]] == [["models", "2"], ["datasets", "1"]]
    assert "could not be used: weeds" in err


@pytest.mark.usefixtures("garden")
def test_list_models_is_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "list", "models")
    heading, first, second = out.splitlines()
    assert status == 0
    assert heading.split() == ["NAME", "TASK", "CLASSES", "PRETRAINED", "SUMMARY"]
    assert first.split() == ["rose_net", "image_classification", "7", "tag", "A", "rose."]
    assert heading.index("TASK") == first.index("image_classification") == second.index("image_detection")


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["models", "*_net"], ["rose_net", "tulip_net"]),
        (["models", "tulip"], ["tulip_net"]),
        (["models", "--task", "image_classification"], ["rose_net"]),
        (["models", "--pretrained"], ["rose_net"]),
        (["models", "--pretrained", "other"], []),
        (["datasets", "--plugin", "garden"], ["roses"]),
        (["recipes", "^r"], ["roses"]),
        (["losses", "--plugin", "garden"], []),
    ],
)
def test_list_as_json(words: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "list", *words, "--json")
    assert status == 0
    assert [entry["name"] for entry in json.loads(out)] == names


@pytest.mark.usefixtures("garden")
def test_list_json_holds_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = json.loads(call(capsys, "list", "models", "rose", "--json")[1])
    assert entry["weights"]["tag"]["metrics"] == {"top1": 71.5}
    assert (entry["plugin"], entry["task"], entry["classes"]) == ("garden", "image_classification", 7)


@pytest.mark.usefixtures("garden")
def test_list_of_nothing_says_so_and_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "list", "models", "rosenet2")
    assert (status, out) == (0, "")
    assert "no models fit. Did you mean 'rose_net'? There are 2 in all." in err


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "models", "--task", "image_classificatoin"], "Did you mean 'image_classification'"),
        (["list", "models", "--plugin", "gardn"], "Did you mean 'garden'"),
        (["list", "models", "--plugin", "weeds"], "it is failed"),
        (["list", "datasets", "--pretrained"], "--pretrained is for models only"),
        (["info", "rosenet"], "Did you mean 'rose_net'"),
        (["info", "roses", "--kind", "loss"], "No plugin offers a loss named 'roses'"),
        (["plugins", "info", "gardens"], "Did you mean 'garden'"),
    ],
)
def test_mistakes_are_sentences_on_standard_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("glueball: ")
    assert message in err
    assert "Traceback" not in err


def test_misspelt_command_suggests_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["plugin"])
    assert caught.value.code == 2
    assert "Did you mean 'plugins'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "usage", "message"),
    [
        (["list", "model"], "glueball list", "invalid choice: 'model'"),
        (["list", "model"], "glueball list", "Did you mean 'models'?"),
        (["list", "models", "--jsn"], "glueball list", "arguments: --jsn. Did you mean --json?"),
        (["evaluate", "run", "--splt=train"], "glueball evaluate", "Did you mean --split?"),
        (["evaluate", "run", "--split", "tset"], "glueball evaluate", "Did you mean 'test'?"),
        (["plugins", "lst"], "glueball plugins", "Did you mean 'list'?"),
        (["plugins", "list", "--jason"], "glueball plugins list", "Did you mean --json?"),
        (["--verion"], "glueball", "Did you mean --version?"),
        (["list", "models", "--zzzzzzzzz"], "glueball list", "unrecognized arguments: --zzzzzzzzz\n"),
    ],
)
def test_mistyped_options_and_choices_suggest_those_of_the_subcommand(
    words: list[str], usage: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"usage: {usage} ")
    assert message in errors


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize("json_wanted", [False, True])
def test_output_that_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch, json_wanted: bool) -> None:
    entry = catalog.current().entries("model")[0]
    summary = "A rosé, 玫瑰."
    changed = attrs.evolve(entry, metadata={**entry.metadata, "summary": summary})
    monkeypatch.setattr(catalog.current(), "entries", lambda kind: [changed])
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert cli.main(["list", "models", *(["--json"] if json_wanted else [])]) == 0
    shown = content.getvalue().decode("ascii")
    if json_wanted:
        assert json.loads(shown)[0]["summary"] == summary
    else:
        assert r"ros\xe9" in shown


def test_files_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(doctor, "run", refuse)
    assert call(capsys, "doctor") == (2, "", "glueball: /some/file cannot be used: Permission denied.\n")

    def fail(_: object) -> int:
        raise OSError("nothing of the user's")

    monkeypatch.setattr(doctor, "run", fail)
    with pytest.raises(OSError, match="nothing of the user's"):
        cli.main(["doctor"])


@pytest.mark.usefixtures("garden")
def test_info_describes_without_importing(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "info", "garden/ROSE_net")
    assert status == 0
    for text in ("model rose_net", "A rose.", "garden (", "builtins:dict", "rose-00000000.params", "top1 71.5"):
        assert text in out


@pytest.mark.usefixtures("garden")
def test_info_shows_every_kind_that_has_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert [entry["kind"] for entry in json.loads(call(capsys, "info", "roses", "--json")[1])] == ["dataset", "recipe"]
    out = call(capsys, "info", "roses", "--kind", "recipe")[1]
    assert "recipe roses" in out
    assert "dataset roses" not in out


@pytest.mark.usefixtures("garden")
def test_info_options(capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = json.loads(call(capsys, "info", "roses", "--kind", "dataset", "--options", "--json")[1])
    assert list(entry["options"]) == ["size", "color"]
    assert "color: 'str' = 'red'" in call(capsys, "info", "roses", "--kind", "dataset", "--options")[1]


@pytest.mark.usefixtures("garden")
def test_plugins_list_shows_states_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "plugins", "list")
    assert status == 0
    assert "2 models, 1 dataset, 1 recipe" in out
    assert "weeds of glueball-weeds is failed: Importing 'a_module_that_is_not_there'" in out
    states = {info["name"]: info["state"] for info in json.loads(call(capsys, "plugins", "list", "--json")[1])}
    assert states == {"core": "active", "garden": "active", "weeds": "failed"}


@pytest.mark.usefixtures("garden")
def test_plugins_info_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "plugins", "info", "glueball-weeds")
    assert status == 0
    assert "Traceback" in out
    assert "ModuleNotFoundError" in out
    (info,) = json.loads(call(capsys, "plugins", "info", "garden", "--json")[1])
    assert info["entries"] == {"models": ["rose_net", "tulip_net"], "datasets": ["roses"], "recipes": ["roses"]}


@pytest.mark.usefixtures("garden")
def test_plugins_check_fails_for_a_failed_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "plugins", "check", "weeds", "--json")
    (report,) = json.loads(out)["plugins"]
    assert status == 1
    assert "it is failed" in report["problems"][0]


def test_plugins_check_finds_targets_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    class Hollow:
        @hookimpl
        def register_models(self, register: Callable) -> None:
            register("hollow_net", "builtins:no_such_thing", task="image_classification")
            register("sound_net", "builtins:dict", task="image_classification")

    with isolated_catalog({"hollow": Hollow()}):
        status, out, _ = call(capsys, "plugins", "check")
    assert status == 1
    assert "hollow: not ok" in out
    assert "'builtins' has no 'no_such_thing'" in out
    assert "problem: model 'sound_net'" not in out


def test_plugins_check_finds_heavy_plugin_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import attrs\nimport numpy\nimport glueball.catalog\nfrom glueball.plugin import hookimpl\n"
    code += "@hookimpl\ndef register_losses(register): pass\n"
    module = install(tmp_path, "glueball-heavy", plugin="heavy", code=code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with isolated_catalog(sources=[Source("heavy", module, "glueball-heavy")]):
        status, out, _ = call(capsys, "plugins", "check")
    assert status == 1
    (problem,) = [line for line in out.splitlines() if "problem" in line]
    assert "numpy" in problem
    assert "glueball.catalog" in problem
    assert "attrs" not in problem.replace("glueball_heavy", ""), "glueball.plugin loads attrs itself"


def absent_roses() -> None:
    from glueball.weights.download import download

    download("https://roses.invalid/roses.zip", Path("roses.zip"))


def missing_roses() -> None:
    raise DataError(f"Put roses.zip into {Path.home() / 'roses'}.")


def test_plugins_check_downloads_nothing_and_wants_a_place_for_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Remote:
        @hookimpl
        def register_datasets(self, register: Callable) -> None:
            register("absent_roses", f"{__name__}:absent_roses")
            register("missing_roses", f"{__name__}:missing_roses")

    def connect(*arguments: object) -> None:
        pytest.fail(f"a check asks for {arguments}")

    monkeypatch.setattr("socket.getaddrinfo", connect)
    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.delenv("GLUEBALL_OFFLINE", raising=False)
    with isolated_catalog({"remote": Remote()}):
        status, out, _ = call(capsys, "plugins", "check", "remote", "--build", "--json")
    (report,) = json.loads(out)["plugins"]
    assert status == 1
    assert "GLUEBALL_OFFLINE" not in os.environ
    (problem,) = (problem for problem in report["problems"] if "import" not in problem)
    assert problem.startswith("dataset 'absent_roses': its data is not here, and its error names no place")
    assert "roses.zip is not downloaded: GLUEBALL_OFFLINE is set" in problem
    assert any("a check downloads nothing: Put roses.zip into" in reason for reason in report["skipped"])


def test_plugins_list_without_plugins_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with isolated_catalog():
        status, out, err = call(capsys, "plugins", "list")
        assert status == 0
        assert [line.split()[0] for line in out.splitlines()] == ["PLUGIN", "core"]
        assert "pip install glueball-cv-classification" in err
        (core,) = json.loads(call(capsys, "plugins", "list", "--json")[1])
        assert (core["name"], core["distribution"], core["state"]) == ("core", "glueball-core", "active")
        assert call(capsys, "plugins", "check")[0] == 0


@pytest.mark.usefixtures("garden")
def test_plugins_list_with_plugins_does_not_ask_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "pip install" not in call(capsys, "plugins", "list")[2]


# ----------------------------------------------------------------------------------------------------------------------
# The doctor
# ----------------------------------------------------------------------------------------------------------------------


def probe_result(name: str, *, installed: bool, error: str | None = None) -> backend.ProbeResult:
    devices = ("cpu: a processor",) if installed and error is None else ()
    return backend.ProbeResult(name, installed, name if installed else None, "1.0", devices, error)


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize(
    ("mxnet", "torch", "selected", "status", "message"),
    [
        ((True, None), (False, "no library"), "mxnet", 0, None),
        ((True, "libfoo is missing"), (False, "no library"), "mxnet", 1, "libfoo is missing"),
        ((True, "libfoo is missing"), (True, None), "mxnet", 0, "set GLUEBALL_BACKEND=torch"),
        ((False, "Install one"), (False, "Install one"), "mxnet", 1, "Install one"),
    ],
)
def test_doctor_judges_by_the_backends(
    mxnet: tuple[bool, str | None],
    torch: tuple[bool, str | None],
    selected: str,
    status: int,
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = {"mxnet": mxnet, "torch": torch}
    monkeypatch.setenv("GLUEBALL_BACKEND", selected)
    monkeypatch.setattr(
        backend, "probe", lambda name: probe_result(name, installed=found[name][0], error=found[name][1])
    )
    assert call(capsys, "doctor")[0] == status
    _, out, _ = call(capsys, "doctor")
    assert "What to do:" in out, "a plugin has failed"
    assert "Plugin weeds of glueball-weeds is failed" in out
    if message is not None:
        assert message in out.partition("What to do:")[2]
    status_json, out, _ = call(capsys, "doctor", "--json")
    assert status_json == status
    report = json.loads(out)
    assert [entry["works"] for entry in report["backends"]] == [
        found[name][0] and found[name][1] is None for name in backend.BACKENDS
    ]


def test_doctor_does_not_call_a_broken_plugin_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def strict() -> None:
        raise PluginError("The plugin weeds cannot be imported.")

    monkeypatch.setattr(backend, "probe", lambda name: probe_result(name, installed=True))
    monkeypatch.setattr(catalog, "current", strict)
    _, out, _ = call(capsys, "doctor")
    assert "- The plugin weeds cannot be imported." in out
    assert "pip install glueball-cv-classification" not in out


def test_doctor_names_the_cache_and_whether_it_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "not" / "there" / "yet"))
    assert doctor._cache() == {"folder": str(tmp_path / "not" / "there" / "yet"), "writable": True}
    assert not (tmp_path / "not").exists(), "looking creates nothing"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "file" / "below"))
    assert doctor._cache()["writable"] is False


def test_doctor_tries_the_selected_backend_for_real(capsys: pytest.CaptureFixture[str]) -> None:
    with isolated_catalog():
        status, out, _ = call(capsys, "doctor", "--json")
    report = json.loads(out)
    working = [found for found in report["backends"] if found["works"]]
    assert (status == 0) == bool(working)
    for found in working:
        assert found["version"]
        assert found["devices"]


# ----------------------------------------------------------------------------------------------------------------------
# The command as a process
# ----------------------------------------------------------------------------------------------------------------------


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glueball", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_command_says_its_version() -> None:
    assert run("--version").stdout.strip() == f"glueball {glueball.__version__}"


def test_command_without_arguments_shows_all_subcommands() -> None:
    process = run()
    assert process.returncode == 0
    for name in cli.COMMANDS:
        assert name in process.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_subcommand_explains_itself(command: str) -> None:
    process = run(command, "--help")
    assert process.returncode == 0
    assert process.stdout.startswith(f"usage: glueball {command}")


def test_listing_loads_nothing_heavy_and_one_subcommand() -> None:
    program = (
        "import sys; from glueball.cli import main; status = main(['list', 'models']);"
        "print('LOADED', *sys.modules); sys.exit(status)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(process.stdout.partition("LOADED")[2].split())
    assert {"glueball.cli.list_entries", "glueball.catalog"} <= loaded
    heavy = {"numpy", "mxnet", "torch", "PIL", "cv2", "scipy", "sklearn", "matplotlib", "tqdm", "safetensors"}
    assert not heavy & loaded
    assert not {module for module, _ in cli.COMMANDS.values()} & loaded - {"glueball.cli.list_entries"}
    assert "glueball.engine" not in loaded


def test_reader_that_has_seen_enough_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "glueball", "list", "models", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read().decode()
        process.wait()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_strict_plugins_make_the_command_fail(tmp_path: Path) -> None:
    install(tmp_path, "glueball-broken", plugin="broken", code="raise ValueError('not today')")
    environment = {"PYTHONPATH": str(tmp_path), "GLUEBALL_PLUGINS": "broken"}
    process = run("list", "models", **environment, GLUEBALL_STRICT_PLUGINS="1")
    assert process.returncode == 2
    assert "not today" in process.stderr
    assert "Traceback" not in process.stderr
    process = run("list", "models", **environment, GLUEBALL_STRICT_PLUGINS="0")
    assert process.returncode == 0
    assert "could not be used: broken" in process.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_misspelt_selection_is_shown(words: tuple[str, ...]) -> None:
    process = run("plugins", "list", *words, GLUEBALL_PLUGINS="cv_clasification", GLUEBALL_STRICT_PLUGINS="0")
    assert process.returncode == 0
    assert "cv_clasification" in process.stderr
    if words:
        json.loads(process.stdout)
