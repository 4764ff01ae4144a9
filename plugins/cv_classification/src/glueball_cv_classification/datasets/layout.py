"""How a folder of pictures is divided: the one place that knows what ``train``, ``val`` and their likes mean.

Everything is decided by the names of the pictures, so that a folder and a .tar file of it are understood alike, and
training and evaluation cannot see the same folder differently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from glueball.errors import DataError, OptionError

from .pictures import PictureFiles

TRAIN, VALIDATION, TEST, ALL = "train", "val", "test", "all"

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "eval"), VALIDATION),
    "test": TEST,
}
"""Name of a folder, in small letters, -> the part that it holds. Splits may be asked for by the same names."""


@attrs.frozen
class Layout:
    """What was found in a folder or .tar file."""

    base: str
    """The folder that everything lies in, relative to the root; "" is the root itself."""
    parts: Mapping[str, str]
    """Part -> its folder, relative to the root; empty where class folders lie in ``base`` itself."""
    left_out: tuple[str, ...] = ()
    """Folders beside the parts that belong to none of them, and why where that is not plain."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """The parts that are not for training."""
        return tuple(part for part in (VALIDATION, TEST) if part in self.parts)


def part_of_split(split: str) -> str:
    """The part that a split means, or "all".

    Raises:
        OptionError: the split is unknown.
    """
    if split == ALL:
        return ALL
    if split not in PARTS:
        raise OptionError(
            f"Unknown split. Expected one of {', '.join((TRAIN, VALIDATION, TEST, ALL))}. Received: split={split!r}."
        )
    return PARTS[split]


def find_layout(files: PictureFiles, classes: Collection[str] = ()) -> Layout:
    """Finds the parts among the folders of ``files``.

    A folder that holds nothing but one other folder is passed through, however often that repeats: archives are packed
    so. Class folders may be called "test" or "train"; such folders are parts only where nothing else lies beside them,
    or where a training part and a held-out part lie side by side.

    Args:
        classes: names that are known to be classes, and so are neither parts nor passed through.

    Raises:
        DataError: a part is empty, two folders claim to be the same part, or a part lies among class folders.
    """
    base, tops, names = _pass_through(files.names, classes)
    filled: dict[str, list[str]] = {}
    for top in sorted(tops - set(classes)):
        if (part := PARTS.get(top.casefold())) is not None:
            filled.setdefault(part, []).append(top)
    named = {top for found in filled.values() for top in found}
    others = tops - named
    held_out = filled.keys() & {VALIDATION, TEST}
    if not filled or (others and not (TRAIN in filled and held_out)):
        _check_parts_among_classes(files, base, named, others, names)
        return Layout(base.rstrip("/"), {})
    _check_empty_parts(files, base, tops, classes)
    for found in filled.values():
        if len(found) > 1:
            raise DataError(
                f"{' and '.join(found)} in {files.place / base} claim to be the same part of the data. Expected one "
                "folder for each of train, val and test. Rename or remove the others."
            )
    parts = {part: found[0] for part, found in filled.items()}
    left_out = sorted(others)
    if TRAIN in parts and TEST in parts and _is_flat(names, parts[TEST]):
        # Competitions hand out test pictures without labels; nothing can be measured on these.
        left_out.append(f"{parts.pop(TEST)} (pictures without class folders)")
    return Layout(base.rstrip("/"), {part: base + top for part, top in parts.items()}, tuple(left_out))


def _pass_through(names: Sequence[str], classes: Collection[str]) -> tuple[str, set[str], list[str]]:
    """The innermost folder that everything lies in (with its slash), its folders, and the names below it."""
    base, below = "", list(names)
    while True:
        tops = {name.partition("/")[0] for name in below if "/" in name}
        if len(tops) != 1:
            return base, tops, below
        (top,) = tops
        # Pictures two levels down: what lies in ``top`` are folders, so it is no class folder.
        if top in classes or top.casefold() in PARTS or not all(name.count("/") >= 2 for name in below):
            return base, tops, below
        base += top + "/"
        below = [name[len(top) + 1 :] for name in below]


def _is_flat(names: Sequence[str], top: str) -> bool:
    return all(name.count("/") == 1 for name in names if name.startswith(top + "/"))


def _check_empty_parts(files: PictureFiles, base: str, tops: Collection[str], classes: Collection[str]) -> None:
    """An empty part is a mistake: going on without it would measure something else than was meant."""
    beside = {folder[len(base) :] for folder in files.folders if folder.startswith(base)}
    empty = sorted(
        folder for folder in beside if folder.casefold() in PARTS and folder not in tops and folder not in classes
    )
    if empty:
        raise DataError(
            f"{files.place / base / empty[0]} is empty. Expected class folders with pictures in it "
            f"({empty[0]}/<class>/<picture>.jpg). Put them there, or remove the folder."
        )


def _check_parts_among_classes(
    files: PictureFiles, base: str, named: Collection[str], others: Collection[str], names: Sequence[str]
) -> None:
    """A folder ``test`` that has the same class folders as lie around it is no class."""
    for top in sorted(named):
        inside = {name.split("/")[1] for name in names if name.startswith(top + "/") and name.count("/") >= 2}
        if shared := sorted(inside & set(others)):
            raise DataError(
                f"{files.place / base / top} holds class folders ({', '.join(shared[:5])}) and lies beside folders of "
                f"the same names. Expected either class folders alone, or the parts train, val and test alone. Move "
                "the class folders beside it into a folder train."
            )
