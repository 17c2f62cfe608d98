"""Data sets for the experiments, split and standardised: what scikit-learn ships, and any folder of IDX files."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from sklearn import datasets
from sklearn.model_selection import train_test_split

from jaxbp.experiments.common.idx import read_idx_folder
from jaxbp.experiments.common.messages import quoted, suggestion

CLASSIFICATION = ("digits", "iris", "wine", "breast_cancer")
REGRESSION = ("diabetes", "linnerud")
NAMES = (*CLASSIFICATION, *REGRESSION, "mnist")

_ROWS = 1024  # as many are in float64 at a time: a copy of all of MNIST would take 376 MB
_LEAST_DEVIATION = 1e-150  # what is smaller has no square in float64


@dataclass(frozen=True, eq=False)
class Scaling:
    """How values were standardised: less the mean, and over the scale, one pair for all of them or for each column."""

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The standardised values, in float64."""
        return (values - self.mean) / self.scale

    def undone(self, values: np.ndarray) -> np.ndarray:
        """What they were before."""
        return values * self.scale + self.mean


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Data:
    """A data set in its two parts, standardised by the training part.

    Attributes:
        name: What reports call it.
        x_train: `(examples, features)`, floating.
        y_train: int32 class ids `(examples,)`; for a regression standardised targets `(examples, outputs)`.
        x_test: Like x_train.
        y_test: Like y_train.
        classes: The number of classes; None for a regression.
        x_scaling: How x was standardised.
        y_scaling: How the targets of a regression were.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int | None
    x_scaling: Scaling
    y_scaling: Scaling | None = None


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
    test_share: float = 0.2,
) -> Data:
    """A data set by its name, split into a training and a test part and standardised.

    Mean and standard deviation are those of the training part: one pair for each feature of a table, but a single
    pair for all pixels of images, so that rare pixels are not blown up. What is constant is only centred.

    Args:
        name: One of `NAMES`; with a `data_dir` any name.
        data_dir: A folder of IDX files (see `read_idx_folder`), which is then read whatever the name is. Unless that
            is `mnist`, the data set is called like the folder.
        seed: Fixes the split, which keeps the shares of the classes; IDX files have their own test part.
        dtype: Of x, and of the targets of a regression. Statistics are in float64 whatever it is.
        test_share: The share of the examples that is kept for the test, above 0 and below 1; unused for IDX files.

    Returns:
        The data set.

    Raises:
        ValueError: The name is unknown, `mnist` comes without a `data_dir`, the share or the dtype does not do, an
            IDX file is refused, or values cannot be standardised in that dtype.
        FileNotFoundError: An IDX file or its folder is missing.
    """
    dtype = np.dtype(dtype)
    if dtype.type(0.5) != 0.5:  # np.issubdtype does not know bfloat16
        raise ValueError(f"dtype is {dtype}, expected a floating one, e.g. float32")
    if data_dir is not None:
        return _from_idx_folder(name, Path(data_dir), dtype)
    if name == "mnist":
        raise ValueError("mnist is read from its four IDX files; pass their folder with --data-dir (data_dir=)")
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}{suggestion(name, NAMES)}; known are {quoted(NAMES)}")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share}, expected a number above 0 and below 1, e.g. 0.2")

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    classes = len(np.unique(y)) if name in CLASSIFICATION else None
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=test_share, random_state=seed, stratify=None if classes is None else y
    )
    axis = None if name == "digits" else 0
    x_train, x_test, x_scaling = _standardised(x_train, x_test, axis, dtype, f"examples of {name}")
    if classes is None:
        y_train, y_test = (y.reshape(len(y), -1) for y in (y_train, y_test))
        y_train, y_test, y_scaling = _standardised(y_train, y_test, 0, dtype, f"targets of {name}")
        return Data(name, x_train, y_train, x_test, y_test, None, x_scaling, y_scaling)
    return Data(name, x_train, y_train.astype(np.int32), x_test, y_test.astype(np.int32), classes, x_scaling)


def pixels(data_dir: str | os.PathLike[str] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images with numbers from 0 to 1 in float32, not standardised, and what they show: x, y, and those of the test.

    Args:
        data_dir: A folder of IDX files; scikit-learn's digits when None.
    """
    if data_dir is None:
        digits = load("digits", dtype=np.float64)
        x, y, x_test, y_test = digits.x_train, digits.y_train, digits.x_test, digits.y_test
        low, high = min(x.min(), x_test.min()), max(x.max(), x_test.max())
        x, x_test = ((part - low) / (high - low) for part in (x, x_test))
    else:
        x, y, x_test, y_test = read_idx_folder(data_dir)
        x, x_test = x / 255, x_test / 255
    x, x_test = (np.reshape(part, (len(part), -1)).astype(np.float32) for part in (x, x_test))
    return x, y.astype(np.int32), x_test, y_test.astype(np.int32)


def _from_idx_folder(name: str, folder: Path, dtype: np.dtype) -> Data:
    x_train, y_train, x_test, y_test = read_idx_folder(folder)
    x_train, x_test = (x.reshape(len(x), -1) for x in (x_train, x_test))
    x_train, x_test, scaling = _standardised(x_train, x_test, None, dtype, f"images in {folder}")
    return Data(
        name if name == "mnist" else folder.resolve().name,
        x_train,
        y_train.astype(np.int32),
        x_test,
        y_test.astype(np.int32),
        int(max(y_train.max(), y_test.max())) + 1,
        scaling,
    )


def _standardised(
    train: np.ndarray, test: np.ndarray, axis: int | None, dtype: np.dtype, what: str
) -> tuple[np.ndarray, np.ndarray, Scaling]:
    """Both parts of `what`, standardised by mean and deviation of the training part along `axis`; and these."""
    mean = train.mean(axis, dtype=np.float64)
    squares = sum(((rows - mean) ** 2).sum(axis) for rows in _pieces(train))
    deviation = np.sqrt(squares * mean.size / train.size)
    # not deviation == 0: the mean of equal values may be off by a rounding error, and so is the deviation
    scale = np.where(train.min(axis) == train.max(axis), 1.0, deviation)
    if np.any(scale < _LEAST_DEVIATION):
        raise ValueError(f"the training {what} differ by too little to be told apart, expected a larger range")

    scaling = Scaling(mean, scale)

    def standardised(x: np.ndarray, part: str) -> np.ndarray:
        out = np.empty(x.shape, dtype)
        for rows, place in zip(_pieces(x), _pieces(out), strict=True):
            with np.errstate(over="ignore"):  # said better below
                place[:] = scaling(rows).astype(dtype)
        if not (fine := np.isfinite(out)).all():
            row, column = (int(index) for index in np.unravel_index(fine.argmin(), x.shape))
            raise ValueError(
                f"the {part} {what} hold {x[row, column]} at ({row}, {column}), too far from the training part to be "
                f"standardised in {dtype}; take it out or pass a wider dtype"
            )
        return out

    return standardised(train, "training"), standardised(test, "test"), scaling


def _pieces(x: np.ndarray) -> list[np.ndarray]:
    """Views of a few rows each."""
    return [x[start : start + _ROWS] for start in range(0, len(x), _ROWS)]
