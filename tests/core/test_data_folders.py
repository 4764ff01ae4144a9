"""Class folders and lists of pictures."""

from __future__ import annotations

import os

import numpy as np
import pytest

from glueball.data import DataLoader, ImageFolderDataset, ImageListDataset, images
from glueball.errors import DataError, OptionError

pytest.importorskip("PIL", reason="Pillow comes with the image plugins")


def _fill(root, names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images.encode(np.full((4, 5, 3), number, np.uint8), "png"))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pictures"
    _fill(folder, ["dog/b.PNG", "dog/a.png", "cat/deep/c.png", "cat/.hidden.png", "cat/notes.txt", ".git/x.png"])
    return folder


def test_classes_and_items_are_sorted(root):
    dataset = ImageFolderDataset(root)
    assert dataset.classes == ["cat", "dog"]
    assert [(os.path.relpath(path, root), label) for path, label in dataset.items] == [
        (os.path.join("cat", "deep", "c.png"), 0),
        (os.path.join("dog", "a.png"), 1),
        (os.path.join("dog", "b.PNG"), 1),
    ]
    image, label = dataset[1]
    assert image.shape == (4, 5, 3)
    assert (image == 1).all()
    assert label == 1
    assert dataset.labels().tolist() == [0, 1, 1]
    assert dataset.describe(2).endswith("b.PNG")
    (batch,) = DataLoader(dataset, 3)
    assert batch[0].dtype == np.uint8
    assert batch[1].dtype == np.int64
    encoded, _ = ImageFolderDataset(root, decode=False)[1]
    np.testing.assert_array_equal(np.asarray(encoded), image)


def test_links(root):
    (root / "cat" / "loop").symlink_to(root / "cat")
    (root / "fox").symlink_to(root / "dog")
    assert len(ImageFolderDataset(root)) == 5
    dataset = ImageFolderDataset(root, follow_links=False)
    assert dataset.classes == ["cat", "dog"]
    assert len(dataset) == 3


def test_given_classes(root):
    dataset = ImageFolderDataset(root, classes=["ant", "dog", "cat"])
    assert dataset.labels().tolist() == [1, 1, 2]
    with pytest.raises(DataError, match=r"no known class: .'cat'."):
        ImageFolderDataset(root, classes=["dog"])


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ImageFolderDataset(tmp_path / "none")
    with pytest.raises(DataError, match="is a file"):
        ImageFolderDataset(root / "dog" / "a.png")
    with pytest.raises(DataError, match="holds 2 pictures directly"):
        ImageFolderDataset(root / "dog")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        ImageFolderDataset(tmp_path / "void")
    (root / "emu").mkdir()
    with pytest.raises(DataError, match=r"these classes: \['emu'\]"):
        ImageFolderDataset(root)
    assert ImageFolderDataset(root, allow_empty=True).classes == ["cat", "dog", "emu"]
    with pytest.raises(DataError, match="no pictures"):
        ImageFolderDataset(root, suffixes=[".xyz"], allow_empty=True)


def test_a_corrupt_picture_is_named_by_the_loader(root):
    (root / "dog" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"Sample 1 \(.*a\.png\)"):
        list(DataLoader(ImageFolderDataset(root), 3))
    loader = DataLoader(ImageFolderDataset(root), 3, on_error="skip")
    assert [len(batch[1]) for batch in loader] == [2]
    assert loader.skipped == 1


def test_lists(root, tmp_path):
    lst = tmp_path / "a.lst"
    lst.write_text("0\t1.0\tdog/a.png\n\n1\t0\tcat/deep/c.png\n")
    dataset = ImageListDataset(lst, root)
    assert dataset.labels().tolist() == [1, 0]
    assert (dataset[0][0] == 1).all()
    lst.write_text("0\t1.0\t2.5\tdog/a.png\n")
    assert ImageListDataset(lst, root)[0][1].tolist() == [1.0, 2.5]
    table = root / "a.csv"
    table.write_text('\ufeffid,Image,Label\n1,"dog/a.png",dog\n2,cat/deep/c.png,cat\n', "utf-8")
    dataset = ImageListDataset(table)
    assert dataset.classes == ["cat", "dog"]
    assert dataset.labels().tolist() == [1, 0]
    assert (dataset[0][0] == 1).all()
    assert ImageListDataset(table, label_column="id").labels().tolist() == [1, 2]
    assert ImageListDataset(table, classes=["dog", "fox", "cat"]).labels().tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.lst", "0\tdog/a.png\n", "line 1: expected number, label and path"),
        ("a.lst", "0\tx\tdog/a.png\n", "line 1"),
        ("a.lst", "", "names no picture"),
        ("a.csv", "", "names no picture"),
        ("a.csv", "a,b\n1,2\n", "path or image"),
        ("a.csv", "path,label\nx.png\n", "line 2: expected 2 columns"),
        ("a.csv", "path,label\nx.png,\n", "line 2: the path or the label is empty"),
        ("a.tsv", "path\tlabel\nx.png\tcow\n", "no known class"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        ImageListDataset(path, classes=["dog"])


def test_unknown_kind_of_list(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(OptionError, match="lst"):
        ImageListDataset(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot be read"):
        ImageListDataset(tmp_path / "none.csv")
