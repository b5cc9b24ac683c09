"""Labels as a source gives them, checked: integers 0..n-1, one-hot vectors, or names."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import brief, printable
from postmean.importers import limits


def numbered(
    labels: Mapping[str, Any], place: Callable[[str], str], origin: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Labels of a source's images as integers, and the name of each.

    Integers stay as they are and name themselves; one-hot vectors become integers; names are numbered in sorted order.

    Args:
        labels: image -> an integer, a vector or a name, of one kind for all images.
        place: names a file in errors.
        origin: the file that holds the labels, or what such files are called.
    Raises:
        DataError: a label is none of these, too large to be a class, or of another kind or length than the first.
    """
    kinds: set[object] = set()
    for image, label in labels.items():
        kinds.add(_kind(label, place(image), origin))
        if len(kinds) > 1:
            raise DataError(f"{place(origin)}: labels of different kinds or lengths: make the data set again")
    if kinds == {str}:
        names = sorted(set(labels.values()))
        _check_classes(len(names), len(labels), "names of classes")
        numbers = {name: number for number, name in enumerate(names)}
        return {image: numbers[name] for image, name in labels.items()}, tuple(map(printable, names))
    vectors = kinds != {int}
    integers = {image: label.index(1) if vectors else label for image, label in labels.items()}
    classes = next(len(label) for label in labels.values()) if vectors else max(integers.values()) + 1
    largest = max(integers, key=lambda image: integers[image])
    _check_classes(classes, len(labels), f"{place(largest)}: label {shown(classes - 1)}, the last of")
    return integers, tuple(map(str, range(classes)))


def numbered_array(labels: np.ndarray, place: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels in an array as int64 [n], and the name of each; see `numbered`.

    Args:
        labels: integers or texts [n] or [n, 1], or one-hot rows [n, K] of numbers.
        place: names the array in errors.
    Raises:
        DataError: a label is none of these, or too large to be a class.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        if not (((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
            raise DataError(f"{place}: rows of labels that are not one-hot: give a class for each image")
        _check_classes(labels.shape[1], len(labels), f"{place}: {labels.shape[1]} columns,")
        return labels.argmax(1).astype(np.int64), tuple(map(str, range(labels.shape[1])))
    if labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        what = f"{labels.dtype} of shape {list(labels.shape)}"
        raise DataError(f"{place}: labels of {what}: expected whole numbers [n], or one-hot rows [n, K]")
    if labels.dtype.kind in "US":
        names, numbers = np.unique(labels, return_inverse=True)
        texts = [name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in names]
        if not all(map(is_name, texts)):
            raise DataError(f"{place}: label {shown(next(t for t in texts if not is_name(t)))}: expected a name")
        _check_classes(len(texts), len(labels), f"{place}: names of")
        return numbers.astype(np.int64), tuple(map(printable, texts))
    least, largest = int(labels.min(initial=0)), int(labels.max(initial=0))
    if least < 0:
        raise DataError(f"{place}: label {least}: expected 0, 1, 2, ...")
    _check_classes(largest + 1, len(labels), f"{place}: label {largest}, the last of")
    return labels.astype(np.int64), tuple(map(str, range(largest + 1)))


def shown(value: Any) -> str:
    """A foreign value in a message, cut short however long, deep or shared its parts are."""
    return brief(reprlib.repr(value))


def _kind(label: Any, place: str, origin: str) -> object:
    """int, str, or the length of a one-hot vector."""
    if isinstance(label, list):
        numbers = all(isinstance(value, int | float) for value in label)
        if not numbers or label.count(1) != 1 or label.count(0) != len(label) - 1:
            raise DataError(f"{place}: its label is a vector but not one-hot: give a class")
        return len(label)
    if isinstance(label, str) and is_name(label):
        return str
    if type(label) is not int or label < 0:
        raise DataError(f"{place}: label {shown(label)} in {origin.split('/')[-1]}: expected 0, 1, 2, ...")
    return int


def is_name(text: str) -> bool:
    """Whether a text can be the name of a class: neither a number nor nothing."""
    if not 0 < len(text) <= 200 or text.lower() in ("none", "null") or text[0] in "[{(":
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def whole_number(text: str) -> int | str:
    """The integer that a text is, else the text."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 30 else text


def _check_classes(classes: int, images: int, what: str) -> None:
    most = limits.most_classes(images)
    if classes > most:
        raise DataError(
            f"{what} {shown(classes)} classes, more than {most:,}: identity numbers? give classes 0, 1, 2, ..."
        )
