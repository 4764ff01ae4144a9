"""The catalogue with synthetic distributions on sys.path."""

from __future__ import annotations

import itertools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic_distributions import install

import glueball
from glueball import catalog
from glueball.catalog import Catalog
from glueball.catalog.compatibility import _fits_plainly, unmet_requirement
from glueball.catalog.discovery import installed_sources
from glueball.catalog.families import FAMILIES, Family, family_of
from glueball.catalog.selection import Selection
from glueball.catalog.suggestions import near_names
from glueball.errors import AmbiguousNameError, OptionError, PluginError, UnknownNameError
from glueball.plugin import Weights, hookimpl
from glueball.testing import check_plugin, isolated_catalog


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder at the front of sys.path; the environment selects nothing, and imports are undone."""
    for variable in ("GLUEBALL_PLUGINS", "GLUEBALL_BLOCK_PLUGINS", "GLUEBALL_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def only(*names: str, **selection: object) -> Catalog:
    """A catalogue of the installed plugins with these distributions."""
    return Catalog(
        lambda: [source for source in installed_sources() if source.distribution in names],
        lambda: Selection(**selection),  # type: ignore[arg-type]
    )


def info(current: Catalog, name: str) -> catalog.PluginInfo:
    return next(found for found in current.plugins() if name in (found.name, found.distribution))


# ----------------------------------------------------------------------------------------------------------------------
# Discovery
# ----------------------------------------------------------------------------------------------------------------------


def test_plugin_is_found_and_its_target_resolved(site: Path) -> None:
    module = install(site, "glueball-sample", plugin="sample", model="sample_net", version="2.3")
    current = only("glueball-sample")
    assert [
        (found.name, found.distribution, found.version, found.module, found.state, dict(found.counts), found.location)
        for found in current.plugins()
    ] == [("sample", "glueball-sample", "2.3", module, "active", {"model": 1}, str(site))]
    entry = current.find("model", "sample_net")
    assert (entry.plugin, entry.distribution, entry.qualified_name) == (
        "sample",
        "glueball-sample",
        "sample/sample_net",
    )
    assert f"{module}_targets" not in sys.modules, "listing must not import targets"
    assert current.resolve(entry)(depth=3) == {"depth": 3}


def test_nothing_is_scanned_before_the_first_question_and_then_once(site: Path) -> None:
    asked = []

    def sources() -> list:
        asked.append(1)
        return []

    current = Catalog(sources)
    assert not asked
    current.entries("model")
    current.entries("dataset")
    assert len(asked) == 1
    current.refresh()
    current.plugins()
    assert len(asked) == 2


def test_refresh_finds_what_was_installed_meanwhile(site: Path) -> None:
    current = only("glueball-late")
    assert current.entries("model") == []
    install(site, "glueball-late", plugin="late", model="late_net")
    assert current.entries("model") == []
    current.refresh()
    assert [entry.name for entry in current.entries("model")] == ["late_net"]


def test_distribution_that_is_on_the_path_twice_counts_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "glueball-twice", plugin="twice", model="twice_net")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    assert [found.state for found in only("glueball-twice").plugins()] == ["active"]


def test_first_distribution_on_the_path_shadows_later_ones(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later"
    later.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    install(site, "glueball-shadow", plugin="shadow", model="new_net", version="2.0")
    install(later, "Glueball_Shadow", plugin="shadow", model="old_net", version="1.0", module="old_module")
    install(site, "glueball-dropped", version="2.0")  # the newer one is no plugin any more
    install(later, "glueball-dropped", plugin="dropped", model="dropped_net", version="1.0")
    current = only("glueball-shadow", "Glueball_Shadow", "glueball-dropped")
    assert [(found.name, found.version) for found in current.plugins()] == [("shadow", "2.0")]
    assert [entry.name for entry in current.entries("model")] == ["new_net"]


def test_editable_installation_is_found(site: Path, tmp_path: Path) -> None:
    source = tmp_path / "checkout"
    source.mkdir()
    module = install(source, "glueball-editable", plugin="editable", model="editable_net")
    # What an editable wheel leaves: metadata in site-packages, and a .pth line that puts the checkout on the path.
    (source / "glueball_editable-1.0.dist-info").rename(site / "glueball_editable-1.0.dist-info")
    sys.path.append(str(source))
    try:
        current = only("glueball-editable")
        assert current.find("model", "editable_net").target == f"{module}_targets:build"
    finally:
        sys.path.remove(str(source))


def test_egg_info_folder_is_found(site: Path) -> None:
    install(site, "glueball-egg", plugin="egg", model="egg_net")
    folder = (site / "glueball_egg-1.0.dist-info").rename(site / "glueball_egg.egg-info")
    (folder / "METADATA").rename(folder / "PKG-INFO")
    assert info(only("glueball-egg"), "egg").state == "active"


def test_leftover_without_metadata_is_ignored(site: Path) -> None:
    install(site, "glueball-leftover", plugin="leftover", model="leftover_net")
    (site / "glueball_leftover-1.0.dist-info" / "METADATA").unlink()
    assert "leftover" not in [source.name for source in installed_sources()]


def test_group_named_elsewhere_in_the_file_is_no_plugin(site: Path) -> None:
    install(site, "glueball-mention", entry_points="[other]\nname = module:glueball.plugins\n")
    assert "glueball-mention" not in [source.distribution for source in installed_sources()]


# ----------------------------------------------------------------------------------------------------------------------
# States
# ----------------------------------------------------------------------------------------------------------------------

REGISTER = "from glueball.plugin import hookimpl\n\n@hookimpl\ndef register_models(register):\n    "
GOOD = 'register("good_net", "module:good", task="image_classification")\n    '

BROKEN = {
    "import error": ("import a_module_that_is_not_there\n", "a_module_that_is_not_there.*force-reinstall"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    "hook raises": (REGISTER + GOOD + "raise ValueError('no such width')", "ValueError: no such width"),
    "hook exits": (REGISTER + GOOD + "raise SystemExit", "SystemExit"),
    "misspelt hook": (
        REGISTER.replace("register_models", "register_model") + "pass",
        "register_model', which is no hook.*Did you mean 'register_models'",
    ),
    "wrong argument": (REGISTER.replace("(register)", "(registrar)") + "pass", "registrar"),
    "unmarked hook": (
        REGISTER + GOOD + "\ndef register_losses(register): pass",
        "register_losses' is not marked.*@hookimpl",
    ),
    "no hook": ("VALUE = 1\n", "implements no hook"),
    "generator": (REGISTER + GOOD + "yield", "returned.*do not yield"),
    "returned list": (REGISTER + GOOD + "return ['good_net']", "hook returns nothing"),
    "bad target": (REGISTER + 'register("net", "module.build", task="x")', "package.module:attribute.*'module.build'"),
    "target no text": (REGISTER + 'register("net", print, task="x")', "so that listing imports nothing"),
    "bad name": (REGISTER + 'register("a/b", "module:build", task="x")', "must be letters.*'a/b'"),
    "name no text": (REGISTER + 'register(None, "module:build", task="x")', "must be letters.*None"),
    "no task": (REGISTER + 'register("net", "module:build")', "which task"),
    "bad task": (REGISTER + 'register("net", "module:build", task=print)', "task of model 'net' must be the name"),
    "bad shape": (REGISTER + 'register("net", "module:build", task="x", input_shape=(3, 0))', "positive integers"),
    "bad test inputs": (
        REGISTER + 'register("net", "module:build", task="x", test_inputs=("words",))',
        "test_inputs.*array, tokens, length",
    ),
    "bad test options": (REGISTER + 'register("net", "module:build", task="x", test_options=5)', "names of options"),
    "bad classes": (REGISTER + 'register("net", "module:build", task="x", classes=True)', "positive integer"),
    "bad weights": (REGISTER + 'register("net", "module:build", task="x", weights={"a": "b"})', "Weights"),
    "bad backends": (REGISTER + 'register("net", "module:build", task="x", backends=())', "backend"),
    "bad summary": (REGISTER + 'register("net", "module:build", task="x", summary="a\\nb")', "one line"),
    "registered twice": (
        REGISTER + GOOD + 'register("Good_Net", "module:b", task="x")',
        "twice.*'module:good'.*'module:b'",
    ),
    "short hash": (
        "from glueball.plugin import Weights, hookimpl\nWeights(file='a.params', sha1='2d9d980c')\n",
        "40 lower-case.*2d9d980c",
    ),
    "swallowed error": (
        REGISTER + GOOD + 'try:\n        register("a b", "m:b", task="x")\n    except Exception:\n        pass',
        "must be letters.*'a b'",
    ),
    "asks the catalogue": (REGISTER + "import glueball; glueball.list_models()", "while the catalogue is asking"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_reported_and_keeps_nothing(case: str, site: Path) -> None:
    code, message = BROKEN[case]
    install(site, "glueball-broken", plugin="broken", code=code)
    install(site, "glueball-sound", plugin="sound", model="sound_net")
    with catalog.replaced(only("glueball-broken", "glueball-sound")) as current:
        broken = info(current, "broken")
        assert broken.state == "failed"
        assert re.search(message, broken.reason, re.DOTALL), broken.reason
        # Nothing half-registered, and the other plugin is unhurt.
        assert [entry.qualified_name for entry in current.entries("model")] == ["sound/sound_net"]
        with pytest.raises(UnknownNameError, match="could not be used: broken"):
            current.find("model", "good_net")


def test_failure_keeps_the_traceback_of_the_plugins_code(site: Path) -> None:
    install(site, "glueball-broken", plugin="broken", code=REGISTER + "raise ValueError('deep inside')")
    details = info(only("glueball-broken"), "broken").details
    assert "glueball_broken_module.py" in details
    assert "deep inside" in details


def test_strict_selection_raises_with_the_cause(site: Path) -> None:
    install(site, "glueball-broken", plugin="broken", code=REGISTER + "raise ValueError('deep inside')")
    with pytest.raises(PluginError, match=r"'broken' of glueball-broken is failed.*GLUEBALL_STRICT_PLUGINS") as caught:
        only("glueball-broken", strict=True).entries("model")
    assert isinstance(caught.value.__cause__, PluginError)
    assert isinstance(caught.value.__cause__.__cause__, ValueError)


def test_register_that_is_kept_and_called_later_is_refused(site: Path) -> None:
    kept = []

    class Keeper:
        @hookimpl
        def register_models(self, register: Callable) -> None:
            kept.append(register)

    with isolated_catalog({"keeper": Keeper()}) as current:
        assert info(current, "keeper").state == "active"
        with pytest.raises(PluginError, match="after the hooks were through"):
            kept[0]("late", "module:late", task="image_classification")
        assert current.entries("model") == []


def test_two_distributions_that_claim_one_plugin_name_conflict(site: Path) -> None:
    install(site, "glueball-one", plugin="same", model="one_net")
    install(site, "glueball-two", plugin="same", model="two_net")
    current = only("glueball-one", "glueball-two")
    assert [found.state for found in current.plugins()] == ["conflict", "conflict"]
    for found in current.plugins():
        for text in ("glueball-one", "glueball-two", "pip uninstall", "GLUEBALL_BLOCK_PLUGINS"):
            assert text in found.reason
    assert current.entries("model") == []
    with pytest.raises(PluginError, match="conflict"):
        only("glueball-one", "glueball-two", strict=True).plugins()
    # The second cure of the message: the name of the distribution tells them apart.
    cured = only("glueball-one", "glueball-two", block=("glueball-two",))
    assert [(found.distribution, found.state) for found in cured.plugins()] == [
        ("glueball-one", "active"),
        ("glueball-two", "blocked"),
    ]
    assert cured.find("model", "one_net").distribution == "glueball-one"


def test_distribution_that_claims_a_name_twice_conflicts_with_itself(site: Path) -> None:
    install(
        site,
        "glueball-double",
        plugin="double",
        model="net",
        entry_points="[glueball.plugins]\ndouble = glueball_double_module\ndouble = another_module\n",
    )
    assert {found.state for found in only("glueball-double").plugins()} == {"conflict"}


def test_plugin_for_another_core_is_not_imported(site: Path) -> None:
    requirement = "glueball-core<9,>=7"
    module = install(site, "glueball-future", plugin="future", model="future_net", requires=["numpy", requirement])
    found = info(only("glueball-future"), "future")
    assert found.state == "incompatible"
    for text in (requirement, "glueball-future 1.0", f"glueball-core {glueball.__version__}", "pip install --upgrade"):
        assert text in found.reason
    assert module not in sys.modules


def test_environment_selects_plugins(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "abc":
        install(site, f"glueball-{letter}", plugin=f"plugin_{letter}", model=f"net_{letter}")
    names = [f"glueball-{letter}" for letter in "abc"]

    def active() -> list[str]:
        current = Catalog(lambda: [source for source in installed_sources() if source.distribution in names])
        for found in current.plugins():
            assert (found.state == "active") == (not found.reason)
        return [found.name[-1] for found in current.plugins() if found.state == "active"]

    assert active() == ["a", "b", "c"]
    monkeypatch.setenv("GLUEBALL_PLUGINS", "plugin_a, glueball-b")
    assert active() == ["a", "b"]
    monkeypatch.setenv("GLUEBALL_BLOCK_PLUGINS", "plugin_b")
    assert active() == ["a"]
    monkeypatch.setenv("GLUEBALL_PLUGINS", "")
    assert active() == []
    monkeypatch.delenv("GLUEBALL_PLUGINS")
    assert active() == ["a", "c"]


def test_blocked_plugin_is_not_imported_and_says_how_to_get_it_back(site: Path) -> None:
    module = install(site, "glueball-unwanted", plugin="unwanted", code="raise RuntimeError")
    found = info(only("glueball-unwanted", block=("unwanted",)), "unwanted")
    assert (found.state, module in sys.modules) == ("blocked", False)
    assert "GLUEBALL_BLOCK_PLUGINS" in found.reason
    found = info(only("glueball-unwanted", only=("other",)), "unwanted")
    assert found.state == "blocked"
    assert "GLUEBALL_PLUGINS=other,unwanted" in found.reason


def test_misspelt_name_in_the_environment_is_a_problem(site: Path) -> None:
    install(site, "glueball-wanted", plugin="wanted", model="net")
    current = only("glueball-wanted", only=("wantd",))
    assert current.problems() == [
        "GLUEBALL_PLUGINS names 'wantd', but no such plugin is installed. Did you mean 'wanted'?"
    ]
    with pytest.raises(PluginError, match="wantd"):
        only("glueball-wanted", only=("wantd",), strict=True).plugins()


# ----------------------------------------------------------------------------------------------------------------------
# What core itself offers
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("only_these", "blocked"), [(None, None), ("", None), ("sample", None), (None, "sample")])
def test_losses_and_metrics_of_core_are_there_whatever_is_selected(
    only_these: str | None, blocked: str | None, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "glueball-sample", plugin="sample", model="sample_net")
    for variable, value in (("GLUEBALL_PLUGINS", only_these), ("GLUEBALL_BLOCK_PLUGINS", blocked)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    current = Catalog()
    assert info(current, "core").state == "active"
    assert current.find("metric", "accuracy").qualified_name == "core/accuracy"
    assert current.find("loss", "softmax_cross_entropy").distribution == "glueball-core"
    assert current.problems() == []


def test_core_cannot_be_blocked_and_says_so() -> None:
    for name in ("core", "glueball_core"):
        current = Catalog(installed_sources, lambda name=name: Selection(block=(name,)))
        assert info(current, "core").state == "active"
        assert [problem for problem in current.problems() if f"'{name}', which is a part of Glueball" in problem]
    with pytest.raises(PluginError, match="'core', which is a part of Glueball itself"):
        Catalog(installed_sources, lambda: Selection(block=("core",), strict=True)).plugins()


def test_no_distribution_takes_the_place_of_core(site: Path) -> None:
    install(site, "glueball-usurper", plugin="core", model="usurped_net")
    sources = [source for source in installed_sources() if source.name == "core"]
    assert len(sources) == 2
    current = Catalog(lambda: sources, Selection)
    assert {found.distribution: found.state for found in current.plugins()} == {
        "glueball-core": "active",
        "glueball-usurper": "conflict",
    }
    assert "which is Glueball's own" in info(current, "glueball-usurper").reason
    assert current.find("metric", "core/accuracy").distribution == "glueball-core"
    with pytest.raises(UnknownNameError):
        current.find("model", "usurped_net")


def test_core_keeps_the_promises_that_plugins_make() -> None:
    with isolated_catalog():
        report = check_plugin("core")
    # State, light import, and two checks for each entry.
    assert report.checked == 2 + 2 * (
        len(glueball.list_metrics(plugin="core")) + len(glueball.list_losses(plugin="core"))
    )
    assert report.skipped == ["metric 'confusion_matrix': it needs arguments"]


def test_other_plugins_register_no_name_of_core() -> None:
    current = Catalog(installed_sources, Selection)
    core = {(kind, entry.name) for kind in catalog.KINDS for entry in current.entries(kind) if entry.plugin == "core"}
    twice = [(kind, name) for kind, name in core if current.is_ambiguous(current.find(kind, f"core/{name}"))]
    assert core
    assert twice == []


@pytest.mark.parametrize(
    ("value", "strict"), [("1", True), ("true", True), ("0", False), ("", False), ("false", False), (None, False)]
)
def test_strictness_from_the_environment(value: str | None, strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLUEBALL_STRICT_PLUGINS", raising=False)
    if value is not None:
        monkeypatch.setenv("GLUEBALL_STRICT_PLUGINS", value)
    assert Selection.from_environment().strict is strict


# ----------------------------------------------------------------------------------------------------------------------
# Compatibility
# ----------------------------------------------------------------------------------------------------------------------


def test_plain_requirements_are_judged_as_packaging_does() -> None:
    from packaging.requirements import Requirement

    versions = ["0", "0.0.9", "0.1", "0.1.0", "0.1.1", "0.2", "0.10", "1", "1.0.0"]
    operators = ["==", "!=", ">=", "<=", ">", "<"]
    clauses = ["".join(pair) for pair in itertools.product(operators, versions)]
    both = [f"{one},{other}" for one, other in itertools.product(clauses[::5], clauses[::7])]
    for clause, version in itertools.product(["", *clauses, *both], versions):
        text = f"Glueball_Core[torch] {clause}"
        expected = Requirement(text).specifier.contains(version, prereleases=True)
        assert _fits_plainly(text, version) is expected, (text, version)


@pytest.mark.parametrize(
    ("requirement", "version", "met"),
    [
        ("glueball-core", "0.1.0", True),
        ("glueball-core>=0.1,<0.2", "0.1.0", True),
        ("glueball.core >= 0.2", "0.1.0", False),
        ("glueball-core~=0.1.0", "0.1.7", True),
        ("glueball-core~=0.1.0", "0.2.0", False),
        ("glueball-core==0.1.*", "0.1.9", True),
        ("glueball-core==0.1.*", "0.2.0", False),
        ("glueball-core>=0.2.0rc1", "0.2.0rc2", True),
        ("glueball-core>=0.2", "0.2.0.dev1", False),
        ("glueball-core (>=0.1)", "0.1.0", True),
        ("glueball-core===0.1.0", "0.1.0", True),
        ("glueball-core>=9; extra == 'future'", "0.1.0", True),
        ("glueball-core>=9; python_version >= '3'", "0.1.0", False),
        ("glueball-core>=9; python_version < '3'", "0.1.0", True),
        ("glueball-core-extras>=9", "0.1.0", True),
        ("numpy>=99", "0.1.0", True),
        ("glueball-core>=what", "0.1.0", False),
    ],
)
def test_requirements_on_core(requirement: str, version: str, met: bool) -> None:
    assert unmet_requirement([requirement], version) == (None if met else requirement)


# ----------------------------------------------------------------------------------------------------------------------
# Resolution
# ----------------------------------------------------------------------------------------------------------------------


def test_name_of_two_plugins_is_ambiguous_and_nothing_wins(site: Path) -> None:
    install(site, "glueball-first", plugin="first", model="net")
    install(site, "glueball-second", plugin="second", model="NET")
    with catalog.replaced(only("glueball-first", "glueball-second")) as current:
        with pytest.raises(AmbiguousNameError) as caught:
            current.find("model", "net")
        for text in (
            "glueball-first",
            "glueball-second",
            "'first/net'",
            "'second/NET'",
            "GLUEBALL_BLOCK_PLUGINS=second",
        ):
            assert text in str(caught.value)
        assert current.find("model", "first/net").distribution == "glueball-first"
        assert current.find("model", "second/net").distribution == "glueball-second"
        assert glueball.list_models() == ["first/net", "second/NET"]


def test_names_are_found_in_any_case() -> None:
    with isolated_catalog({"shapes": Shapes()}) as current:
        assert current.find("model", "SHAPES/Shape_NET1.0").name == "shape_net1.0"


def test_plugins_are_named_in_any_case() -> None:
    with isolated_catalog({"shapes": Shapes()}) as current:
        assert current.plugin("Shapes").name == "shapes"
        assert glueball.list_models(plugin="SHAPES") == glueball.list_models(plugin="shapes") != []
        with pytest.raises(UnknownNameError) as caught:
            current.find("model", "SHAPES/shapenet_1.0")
        assert "Did you mean 'shape_net1.0'" in str(caught.value)
        assert "is installed" not in str(caught.value)


def test_what_a_plugin_prints_does_not_mix_with_answers(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = """
from glueball.plugin import hookimpl

print("imported")

@hookimpl
def register_models(register):
    print("asked")
    register("loud_net", "loud:build", task="image_classification")
"""
    install(site, "glueball-loud", plugin="loud", code=code)
    assert only("glueball-loud").find("model", "loud_net").plugin == "loud"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "imported\nasked\n"


def test_unknown_names_suggest_near_ones() -> None:
    with isolated_catalog({"shapes": Shapes()}) as current:
        with pytest.raises(UnknownNameError, match=r"Did you mean 'shape_net1\.0'"):
            current.find("model", "shapenet_1.0")
        with pytest.raises(UnknownNameError, match=r"No plugin 'shpes' is installed. Did you mean 'shapes'"):
            current.find("model", "shpes/shape_net1.0")
        with pytest.raises(UnknownNameError, match="Did you mean 'dataset'"):
            current.find("datasets", "anything")
        with pytest.raises(UnknownNameError, match="glueball list losses"):
            current.find("loss", "qqqq")


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("bert_12_768_12", "glueball-nlp-bert"),
        ("nlp_bert/anything", "glueball-nlp-bert"),
        ("SSD_512_resnet50_v1_voc", "glueball-cv-detection"),
        ("deeplab_resnet101_ade", "glueball-cv-segmentation"),
        ("resnet50_v1b_kinetics400", "glueball-cv-pose-video"),
        ("transformer_en_de_512_WMT2014", "glueball-nlp-translation"),
        ("awd_lstm_lm_1150", "glueball-nlp-embedding-lm"),
        ("resnet50_v1b", "glueball-cv-classification"),
        ("ssd_512", "glueball-cv-detection"),
        ("SSD512", "glueball-cv-detection"),
        ("ssd", "glueball-cv-detection"),
        ("yolov3", "glueball-cv-detection"),
        ("FasterRCNN_resnet50", "glueball-cv-detection"),
        ("deeplabv3", "glueball-cv-segmentation"),
        ("NLP_BERT/anything", "glueball-nlp-bert"),
        ("textcnn", "glueball-nlp-embedding-lm"),
        ("TextCNN-TREC", "glueball-nlp-embedding-lm"),
        ("fasttext_classifier", "glueball-nlp-embedding-lm"),
        ("bilstm_attention", "glueball-nlp-embedding-lm"),
        ("text-classification", "glueball-nlp-embedding-lm"),
        ("text_classification", "glueball-nlp-embedding-lm"),
        ("text_file", "glueball-nlp-embedding-lm"),
        *((name, "glueball-nlp-embedding-lm") for name in ("trec", "MR", "cr", "subj", "mpqa", "sst1", "sst-2")),
        ("imdb", "glueball-nlp-embedding-lm"),
        ("movie_reviews", "glueball-nlp-embedding-lm"),
    ],
)
def test_unknown_name_tells_which_distribution_ships_it(name: str, distribution: str) -> None:
    with isolated_catalog() as current, pytest.raises(UnknownNameError, match=f"pip install {distribution}$"):
        current.find("model", name)


def test_unknown_name_of_a_blocked_family_says_so(site: Path) -> None:
    install(site, "glueball-nlp-bert", plugin="nlp_bert", model="bert_net")
    with pytest.raises(UnknownNameError, match=r"'nlp_bert' \(blocked\): GLUEBALL_BLOCK_PLUGINS"):
        only("glueball-nlp-bert", block=("nlp_bert",)).find("model", "bert_12_768_12")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.plugin)
def test_every_name_of_an_installed_family_would_be_found_without_it(family: Family) -> None:
    current = Catalog(installed_sources, Selection)
    if family.plugin not in [found.name for found in current.plugins()]:
        pytest.skip(f"{family.distribution} is not installed here")
    names = {
        entry.name
        for kind in ("model", "dataset", "task", "recipe")
        for entry in current.entries(kind)
        if entry.plugin == family.plugin
    }
    assert names
    assert {name for name in names if family_of(name) is not family} == set()


def test_families_have_distinct_plugins_and_claim_no_foreign_name() -> None:
    assert len({family.plugin for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family_of(family.plugin) is family
    for name in ("my_own_net", "crnet", "mrcnn", "my_trec", "ssdnet", "not_ssd_512", "fcnet"):
        assert family_of(name) is None


def test_near_names_ignore_separators_and_keep_to_the_limit() -> None:
    known = ["resnet18_v1b", "resnet50_v1b", "mobilenet1.0", "vgg16"]
    assert near_names("ResNet50-V1b", known)[0] == "resnet50_v1b"
    assert near_names("mobilenet_1_0", known) == ["mobilenet1.0"]
    assert near_names("resnet", known, limit=1) == ["resnet18_v1b"]
    assert near_names("", known) == near_names("transformer", known) == []


RESOLUTIONS = {
    "missing module": ("not_there_at_all:build", "names a module that it does not have"),
    "missing dependency": ("needs_more:build", "force-reinstall glueball-pointer"),
    "raising module": ("raises_on_import:build", "ValueError: not today"),
    "missing attribute": ("glueball_pointer_module_targets:biuld", "no 'biuld'. Did you mean 'build'"),
    "not callable": ("glueball_pointer_module:VALUE", "not callable"),
}


@pytest.mark.parametrize("case", RESOLUTIONS)
def test_target_that_cannot_be_used_names_its_owner(case: str, site: Path) -> None:
    target, message = RESOLUTIONS[case]
    code = f"VALUE = 3\n{REGISTER}register('net', {target!r}, task='image_classification')\n"
    files = {
        "needs_more.py": "import a_module_that_is_not_there",
        "raises_on_import.py": "raise ValueError('not today')",
    }
    install(site, "glueball-pointer", plugin="pointer", code=code, files=files)
    current = only("glueball-pointer")
    with pytest.raises(PluginError, match=re.escape(message)) as caught:
        current.resolve(current.find("model", "net"))
    assert "'pointer' (distribution glueball-pointer)" in str(caught.value)


# ----------------------------------------------------------------------------------------------------------------------
# The public functions
# ----------------------------------------------------------------------------------------------------------------------


class Shapes:
    """Registers one entry of several kinds, as an object instead of a module."""

    @hookimpl
    def register_models(self, register: Callable) -> None:
        weights = {"tag": Weights(file="a.params", sha1="0" * 40, metrics={"top1": 50.0})}
        register("shape_net1.0", "builtins:dict", task="image_classification", weights=weights, summary="One.")
        register("shape_net2.0", "builtins:dict", task="image_detection")
        register("other", "builtins:dict", task="image_classification")

    @hookimpl
    def register_datasets(self, register: Callable) -> None:
        register("parts", f"{__name__}:parts")
        register("strict", f"{__name__}:strict_outer")

    @hookimpl
    def register_recipes(self, register: Callable) -> None:
        register("quick", f"{__name__}:parts", task="image_classification")


def parts(size: int = 3, *, color: str = "red") -> tuple[int, str]:
    return size, color


def strict_outer(**options: object) -> object:
    return _strict_inner(**options)  # type: ignore[arg-type]


def _strict_inner(path: str, width: int = 1) -> tuple[str, int]:
    if width < 0:
        raise TypeError("unexpected keyword argument 'elsewhere'")
    return path, width


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ({}, ["other", "shape_net1.0", "shape_net2.0"]),
        ({"pattern": "shape_net*"}, ["shape_net1.0", "shape_net2.0"]),
        ({"pattern": "SHAPE"}, ["shape_net1.0", "shape_net2.0"]),
        ({"pattern": "net1.0"}, ["shape_net1.0"]),
        ({"pattern": "net1?0"}, []),
        ({"pattern": "*net1?0"}, ["shape_net1.0"]),
        ({"pattern": "^(other|shape_net2)"}, ["other", "shape_net2.0"]),
        ({"pattern": re.compile(r"\d")}, ["shape_net1.0", "shape_net2.0"]),
        ({"task": "image_classification"}, ["other", "shape_net1.0"]),
        ({"pretrained": True}, ["shape_net1.0"]),
        ({"pretrained": "tag"}, ["shape_net1.0"]),
        ({"pretrained": "other_tag"}, []),
        ({"pretrained": False}, ["other", "shape_net2.0"]),
        ({"plugin": "shapes", "task": "image_detection"}, ["shape_net2.0"]),
    ],
)
def test_list_models_conditions(conditions: dict, names: list[str]) -> None:
    with isolated_catalog({"shapes": Shapes()}):
        assert glueball.list_models(**conditions) == names


def test_list_conditions_that_cannot_be_met_are_errors() -> None:
    with isolated_catalog({"shapes": Shapes()}):
        with pytest.raises(OptionError, match="Did you mean 'image_detection'"):
            glueball.list_models(task="image_detections")
        with pytest.raises(UnknownNameError, match="Did you mean 'shapes'"):
            glueball.list_datasets(plugin="shape")
        with pytest.raises(OptionError, match="regular expression"):
            glueball.list_models("^(")


def test_every_kind_has_a_get_and_a_list_function() -> None:
    for kind, plural in catalog.PLURALS.items():
        assert callable(getattr(glueball, f"get_{kind}"))
        assert callable(getattr(glueball, f"list_{plural}"))


def test_get_passes_options_on() -> None:
    with isolated_catalog({"shapes": Shapes()}):
        assert glueball.get_dataset("parts", size=4, color="blue") == (4, "blue")
        assert glueball.get_recipe("shapes/quick") == (3, "red")
        assert glueball.list_recipes(task="image_classification") == ["quick"]


def test_unknown_options_are_told_with_near_ones() -> None:
    with isolated_catalog({"shapes": Shapes()}):
        with pytest.raises(OptionError, match=r"has no option 'colour'. Did you mean 'color'. It takes: size, color\."):
            glueball.get_dataset("parts", colour="blue")
        with pytest.raises(OptionError, match=r"has no option 'widht'. Did you mean 'width'") as caught:
            glueball.get_dataset("strict", path="x", widht=2)
        assert isinstance(caught.value.__cause__, TypeError)
        # A TypeError that is none of the caller's doing stays what it is.
        with pytest.raises(TypeError, match="elsewhere"):
            glueball.get_dataset("strict", path="x", width=-1)


def test_missing_option_is_told() -> None:
    class Needy:
        @hookimpl
        def register_transforms(self, register: Callable) -> None:
            register("needy", f"{__name__}:_strict_inner")

    with isolated_catalog({"needy": Needy()}), pytest.raises(OptionError, match=r"'path'.*It takes: path, width"):
        glueball.get_transform("needy")


@pytest.mark.parametrize("classes", [0, -3, 2.5, True, "ten"])
def test_get_model_refuses_classes_that_are_no_number_of_classes(classes: object) -> None:
    with isolated_catalog({"shapes": Shapes()}), pytest.raises(OptionError, match="positive integer"):
        glueball.get_model("shape_net1.0", classes=classes)  # type: ignore[arg-type]


def test_model_for_another_backend_is_refused() -> None:
    class Elsewhere:
        @hookimpl
        def register_models(self, register: Callable) -> None:
            register("net", "builtins:dict", task="image_classification", backends=("abacus",))

    from glueball.errors import BackendError

    with isolated_catalog({"elsewhere": Elsewhere()}), pytest.raises(BackendError, match="GLUEBALL_BACKEND=abacus"):
        glueball.get_model("net")


# ----------------------------------------------------------------------------------------------------------------------
# Threads and isolation
# ----------------------------------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_scan_once() -> None:
    scans = []
    ready = threading.Barrier(8)

    def sources() -> list:
        scans.append(threading.get_ident())
        return []

    current = Catalog(sources, Selection)

    def ask() -> None:
        ready.wait()
        current.entries("model")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scans) == 1


def test_scan_that_raised_can_be_tried_again(site: Path) -> None:
    answers = iter([PluginError("not now"), []])

    def sources() -> list:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    current = Catalog(sources, Selection)
    with pytest.raises(PluginError, match="not now"):
        current.plugins()
    assert current.plugins() == []


def test_isolated_catalog_ends_with_its_block() -> None:
    outside = catalog.current()
    with isolated_catalog({"shapes": Shapes()}) as inside:
        assert catalog.current() is inside
        assert inside.entries("task") == []
        with isolated_catalog() as empty:
            assert catalog.current() is empty
            assert glueball.list_models() == []
        assert catalog.current() is inside
    assert catalog.current() is outside


def test_entries_cannot_be_changed() -> None:
    with isolated_catalog({"shapes": Shapes()}) as current:
        entry = current.find("model", "shape_net1.0")
        with pytest.raises(AttributeError):
            entry.name = "another"  # type: ignore[misc]
        with pytest.raises(TypeError):
            entry.metadata["task"] = "another"  # type: ignore[index]
        current.entries("model").clear()
        assert len(current.entries("model")) == 3
