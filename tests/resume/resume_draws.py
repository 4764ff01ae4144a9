"""Configurations drawn by a seeded generator: everything in a recipe that keeps state, in any combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import attrs
from resume_moments import PHASES

OPTIMIZERS = ("sgd", "nag", "adam", "adamw", "rmsprop", "lamb", "lars")
TEXT_MODELS: Mapping[str, Mapping[str, Any]] = {
    "textcnn": {"mode": "rand", "num_filters": 6, "embed_size": 8, "dropout": 0.2},
    "bilstm_attention": {"embed_size": 6, "hidden_size": 5, "num_layers": 2, "attention_units": 4, "dropout": 0.3},
    "fasttext_classifier": {"embed_size": 8, "dropout": 0.2},
}


@attrs.define(kw_only=True)
class Configuration:
    """One run to be killed."""

    family: str
    changes: dict[str, Any]
    """Plain fields of the recipe that differ from the family's."""
    workers: int
    worker_type: str
    compile: bool
    folds: int | None = None
    precision: str | None = None
    """One that the backend refuses on this CPU for slowness only."""
    features: tuple[str, ...] = ()
    """What is told apart in the totals."""

    def loading(self) -> dict[str, Any]:
        return {"workers": self.workers, "worker_type": self.worker_type}

    def seen(self) -> dict[str, Any]:
        """What ``resume_traces.not_once`` must know."""
        changes = self.changes
        batch_size = changes.get("batch_size", 8)
        # Texts are put into batches of similar length, and none is discarded.
        discards = changes.get("last_batch") == "discard" and self.family != "texts"
        bad = frozenset(_train_options(changes).get("bad", ()))
        return {
            # In a fold, samples have other indices than in the data.
            "left_out": frozenset() if self.folds else bad,
            "discard": batch_size if discards else 0,
            "some": "bad numbers" in self.features or bool(self.folds and bad),
        }


def _train_options(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    options: Mapping[str, Any] = changes.get("data", {}).get("train", {}).get("options", {})
    return options


def draw_loading(random: Random) -> dict[str, Any]:
    """Threads mostly: a process takes as long to start as a whole run takes."""
    workers = random.choice((0, 2, 4))
    return {"workers": workers, "worker_type": "process" if random.random() < 0.12 else "thread"}


def draw(random: Random, families: Sequence[str], supports: Mapping[str, str | None]) -> Configuration:
    """A configuration; the same generator gives the same one.

    Args:
        supports: precision -> None, or why the backend refuses it on this CPU.
    """
    family = random.choice(families)
    features = [family]
    changes: dict[str, Any] = {
        "epochs": random.choice((1, 2, 2, 3)),
        "seed": random.randrange(1000),
        "batch_size": random.choice((6, 8, 13)),
        "optimizer": {"name": random.choice(OPTIMIZERS), "weight_decay": random.choice((0.0, 1e-3))},
        "learning_rate": random.choice((0.003, 0.02)),
        "log_every": random.choice((1, 2, 3, 5)),
        "checkpoint_every": random.choice((None, 1, 2, 3)),
        "keep_checkpoints": random.choice((1, 2, 3)),
        "validate_every": random.choice((1, 1, 2)),
        "last_batch": random.choice(("discard", "keep")),
        "no_decay": random.random() < 0.5,
        "clip_norm": random.choice((None, 0.5)),
        "patience": 1 if random.random() < 0.15 else None,
    }
    for feature, chance, drawn in (
        ("accumulation", 0.5, {"accumulate": random.choice((2, 3))}),
        ("EMA", 0.5, {"ema_decay": random.choice((0.9, 0.99))}),
        ("label smoothing", 0.3, {"label_smoothing": 0.1}),
    ):
        present = random.random() < chance and not (feature == "label smoothing" and family == "points")
        changes.update(drawn if present else {"accumulate": 1} if feature == "accumulation" else {})
        if present:
            features.append(feature)
        elif feature == "EMA":
            changes["ema_decay"] = None
    warmup = random.choice((0.0, 0.5, 1.0))
    name = random.choice(("constant", "linear", "cosine", "poly", "step"))
    changes["schedule"] = {"name": name, "warmup": warmup, "milestones": [0.5, 1.5] if name == "step" else []}
    features += [f"schedule {name}"] + (["warm-up"] if warmup else [])
    _draw_family(random, family, changes, features)
    precision = _draw_precision(random, changes, features, supports)
    folds = random.choice((2, 3)) if random.random() < 0.2 and "bad numbers" not in features else None
    if folds:
        features.append("cross-validation")
        changes["epochs"] = min(2, changes["epochs"])
    compile = random.random() < 0.5
    loading = draw_loading(random)
    return Configuration(
        family=family,
        changes=changes,
        compile=compile,
        folds=folds,
        precision=precision,
        features=tuple(features),
        **loading,
    )


def _draw_family(random: Random, family: str, changes: dict[str, Any], features: list[str]) -> None:
    dropout = random.choice((0.0, 0.3))
    if family == "texts":
        name = random.choice(tuple(TEXT_MODELS))
        changes["model"] = {"name": name, "options": {**TEXT_MODELS[name], "dropout": dropout}}
        features.append(name)
    else:
        changes["model"] = {"options": {"dropout": dropout}}
    if dropout:
        features.append("dropout")
    if family == "points" and random.random() < 0.2:
        # A point at infinity: the batch that holds it makes no number.
        poisoned = {"count": 50, "poison": random.randrange(50)}
        changes["data"] = {"train": {"name": "resume_points", "options": poisoned}}
        changes.update(nan_policy=random.choice(("skip", "stop")), last_batch="keep")
        features.append("bad numbers")
    elif family != "texts" and random.random() < 0.2:
        options: dict[str, Any] = {"count": 45, "bad": sorted(random.sample(range(45), 2))}
        changes["data"] = {"train": {"name": f"resume_{family}", "options": options}}
        changes.update(on_bad_sample="skip", last_batch="keep")
        features.append("bad samples")
    if family == "pictures":
        if random.random() < 0.4:
            features.append("augmentation")
        else:
            plain = [{"name": "center_crop", "options": {"size": 8}}, {"name": "to_tensor", "options": {}}]
            changes["transforms"] = {"train": plain, "evaluation": plain}
        for feature in ("mixup", "cutmix"):
            if random.random() < 0.4:
                changes[feature] = 0.4
                features.append(feature)
        if "mixup" in features and random.random() < 0.5:
            changes["mixing_stops_before"] = 1
    elif family == "points":
        features.append("augmentation")  # each access shakes a point


def _draw_precision(
    random: Random, changes: dict[str, Any], features: list[str], supports: Mapping[str, str | None]
) -> str | None:
    """Float32 mostly. Float16 where the backend could compute it, though the CPU lacks instructions for it."""
    chance = random.random()
    changes["precision"] = "float32"
    if chance < 0.15 and supports.get("bfloat16", "") is None:
        changes["precision"] = random.choice(("bfloat16", "auto"))
        features.append("bfloat16")
    elif 0.15 <= chance < 0.3:
        reason = supports.get("float16", "")
        # PyTorch computes it without them, except for recurrent layers.
        if reason is None or ("instructions" in reason and "bilstm_attention" not in features):
            changes["precision"] = "float16"
            features.append("loss scaling")
            return None if reason is None else "float16"
    return None


def draw_plan(
    random: Random, counts: Sequence[Sequence[Any]], seconds: float, tries: int, is_new: bool
) -> dict[str, Any]:
    """Where a process is to die: at a moment that the run passes, each phase as likely as any other, or at any time.

    Args:
        counts: [phase, label, how often] of the run that was not killed.
        seconds: how long that took.
        tries: how often this run has been killed: the later, the less is left of it.
        is_new: there is no checkpoint yet, so that it will begin with the first step.
    """
    if random.random() < 0.3:
        return {"after": random.uniform(0.0, seconds / (1 + 0.3 * tries))}
    present = [phase for phase in PHASES if any(item[0] == phase for item in counts)]
    phase = random.choice([phase for phase in present if is_new or phase != "first step"])
    _, label, often = random.choice([item for item in counts if item[0] == phase])
    return {"plan": [phase, label, random.randint(1, max(1, often // (1 + tries) ** 2))]}
