"""Data sets: what they hold, how they are split, and that only the training part says how they are scaled."""

import gzip
import re

import ml_dtypes
import numpy as np
import pytest
from sklearn import datasets
from test_idx import write_folder

from jaxbp.experiments.common import data

SHAPES = {  # (training examples, test examples, features, classes or outputs)
    "digits": (1437, 360, 64, 10),
    "iris": (120, 30, 4, 3),
    "wine": (142, 36, 13, 3),
    "breast_cancer": (455, 114, 30, 2),
    "diabetes": (353, 89, 10, 1),
    "linnerud": (16, 4, 3, 3),
}


@pytest.fixture
def plant(monkeypatch):
    """Puts arrays in the place of what scikit-learn ships by a name."""

    def put(name: str, x: np.ndarray, y: np.ndarray) -> None:
        monkeypatch.setattr(datasets, f"load_{name}", lambda return_X_y: (x, y))

    return put


def parts(loaded: data.Data) -> tuple[np.ndarray, ...]:
    return loaded.x_train, loaded.y_train, loaded.x_test, loaded.y_test


def same(one: data.Data, other: data.Data) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))


def test_the_table_holds_every_name():
    assert {*SHAPES, "mnist"} == set(data.NAMES)


@pytest.mark.parametrize("name", data.CLASSIFICATION)
def test_shapes_of_a_classification(name):
    train, test, features, classes = SHAPES[name]
    loaded = data.load(name)
    assert loaded.name == name
    assert loaded.classes == classes
    assert [part.shape for part in parts(loaded)] == [(train, features), (train,), (test, features), (test,)]
    assert [part.dtype for part in parts(loaded)] == [np.float32, np.int32, np.float32, np.int32]
    assert set(loaded.y_train) == set(loaded.y_test) == set(range(classes))


@pytest.mark.parametrize("name", data.REGRESSION)
def test_shapes_of_a_regression(name):
    train, test, features, outputs = SHAPES[name]
    loaded = data.load(name)
    assert loaded.name == name
    assert loaded.classes is None
    assert [part.shape for part in parts(loaded)] == [
        (train, features),
        (train, outputs),
        (test, features),
        (test, outputs),
    ]
    assert {part.dtype for part in parts(loaded)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "dtype", [np.float16, "float32", np.float64, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
@pytest.mark.parametrize("name", ["digits", "linnerud"])
def test_the_dtype_is_kept_and_rounded_to_once(name, dtype):
    dtype = np.dtype(dtype)
    rounded, exact = data.load(name, dtype=dtype), data.load(name, dtype=np.float64)
    floats = 4 if name == "linnerud" else 1
    for got, expected in list(zip(parts(rounded), parts(exact), strict=True))[:floats]:
        np.testing.assert_array_equal(got, expected.astype(dtype), strict=True)


@pytest.mark.parametrize("name", SHAPES)
def test_the_split_is_fixed_by_the_seed(name):
    assert same(data.load(name), data.load(name, seed=0))
    assert same(data.load(name, seed=7), data.load(name, seed=7))
    assert not same(data.load(name, seed=7), data.load(name, seed=8))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", data.CLASSIFICATION)
def test_the_split_keeps_the_shares_of_the_classes(name, seed, share):
    loaded = data.load(name, seed=seed, test_share=share)
    train, test = np.bincount(loaded.y_train), np.bincount(loaded.y_test)
    expected = (train + test) * (test.sum() / (train.sum() + test.sum()))
    assert np.all(np.abs(test - expected) < 1)  # each count is the expected one, rounded up or down


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.75])
def test_the_share_of_the_test_part(share):
    loaded = data.load("diabetes", test_share=share)
    assert len(loaded.x_test) == len(loaded.y_test) == np.ceil(442 * share)


def numbered(name: str, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples that can be told apart: the first feature is their number, and so is the target of a regression."""
    number = np.arange(examples, dtype=np.float64)
    x = np.stack([number, np.sin(number)], axis=1)
    return x, number if name in data.REGRESSION else np.arange(examples) % 3


def numbers(loaded: data.Data) -> tuple[np.ndarray, np.ndarray]:
    """Which of `numbered` went into each part: scaling keeps their order."""
    order = np.argsort(np.argsort(np.concatenate([loaded.x_train[:, 0], loaded.x_test[:, 0]])))
    return order[: len(loaded.x_train)], order[len(loaded.x_train) :]


@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_each_example_is_in_one_part_and_keeps_its_target(name, plant):
    x, y = numbered(name, 60)
    plant(name, x, y)
    loaded = data.load(name, dtype=np.float64)
    train, test = numbers(loaded)
    assert len(train) == 48
    assert sorted([*train, *test]) == list(range(60))
    both = np.concatenate([loaded.x_train, loaded.x_test])
    chosen = np.concatenate([train, test])
    # an affine map of the raw features takes them to what was loaded: nothing was lost, doubled or exchanged
    for feature in range(2):
        slope, offset = np.polyfit(x[chosen, feature], both[:, feature], 1)
        np.testing.assert_allclose(both[:, feature], slope * x[chosen, feature] + offset, atol=1e-9)
    if name == "diabetes":
        np.testing.assert_allclose(loaded.y_train[:, 0], loaded.x_train[:, 0], atol=1e-12)
        np.testing.assert_allclose(loaded.y_test[:, 0], loaded.x_test[:, 0], atol=1e-12)
    else:
        np.testing.assert_array_equal(np.concatenate([loaded.y_train, loaded.y_test]), chosen % 3)


@pytest.mark.parametrize("name", ["digits", "iris", "diabetes"])
def test_the_test_part_has_no_say_in_the_statistics(name, plant):
    x, y = numbered(name, 60)
    plant(name, x, y)
    before = data.load(name)
    _, test = numbers(before)
    x[test] = 1e6
    if name == "diabetes":
        y[test] = -1e6
    after = data.load(name)
    np.testing.assert_array_equal(before.x_train, after.x_train)
    np.testing.assert_array_equal(before.y_train, after.y_train)
    assert np.all(after.x_test > 1e3)
    if name == "diabetes":
        assert np.all(after.y_test < -1e3)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "linnerud"])
def test_each_feature_of_a_table_is_standardised(name):
    loaded = data.load(name, dtype=np.float64)
    np.testing.assert_allclose(loaded.x_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(loaded.x_train.std(axis=0), 1, atol=1e-12)


@pytest.mark.parametrize("name", data.REGRESSION)
def test_each_target_is_standardised(name):
    loaded = data.load(name, dtype=np.float64)
    np.testing.assert_allclose(loaded.y_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(loaded.y_train.std(axis=0), 1, atol=1e-12)


def test_images_have_one_mean_and_one_deviation():
    loaded = data.load("digits", dtype=np.float64)
    assert abs(loaded.x_train.mean()) < 1e-12
    assert abs(loaded.x_train.std() - 1) < 1e-12
    rare = loaded.x_train.std(axis=0) < 0.1
    assert rare.sum() >= 10  # pixels at the rim; were each scaled on its own, all would be 0 or 1
    assert np.max(np.abs(loaded.x_train)) < 3


def test_more_rows_than_are_scaled_at_a_time(plant):
    x = np.random.default_rng(0).normal(5, 3, (2500, 2)) * [1, 1e6]
    plant("iris", x, np.arange(2500) % 3)
    loaded = data.load("iris", dtype=np.float64, test_share=0.5)
    np.testing.assert_allclose(loaded.x_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(loaded.x_train.std(axis=0), 1, atol=1e-12)
    assert np.all(np.isfinite(loaded.x_test))


# the mean of many 0.1 is not 0.1, so that their deviation is not 0 either
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_a_constant_feature_is_centred_and_not_blown_up(constant, plant):
    x, y = numbered("iris", 60)
    x[:, 1] = constant
    plant("iris", x, y)
    train, test = numbers(data.load("iris"))
    x[test, 1] += 2
    loaded = data.load("iris", dtype=np.float64)
    np.testing.assert_allclose(loaded.x_train[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(loaded.x_test[:, 1], 2, atol=1e-6)
    assert len(train) + len(test) == 60


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_all_constant(name, plant):
    plant(name, np.full((60, 2), 0.1), np.arange(60) % 3 if name == "digits" else np.full(60, 0.1))
    loaded = data.load(name, dtype=np.float64)
    np.testing.assert_allclose(loaded.x_train, 0, atol=1e-12)
    if name == "diabetes":
        np.testing.assert_allclose(loaded.y_train, 0, atol=1e-12)


@pytest.mark.parametrize("share", [0, 1, -0.2, 1.5, 36, float("nan")])
def test_no_share(share):
    with pytest.raises(ValueError, match=f"test_share is {share}, expected a number above 0 and below 1"):
        data.load("iris", test_share=share)


@pytest.mark.parametrize("dtype", [int, np.uint8, bool])
@pytest.mark.parametrize("name", ["iris", "mnist"])
def test_no_floating_dtype(dtype, name, tmp_path):
    with pytest.raises(ValueError, match=f"dtype is {np.dtype(dtype)}, expected a floating one, e.g. float32"):
        data.load(name, dtype=dtype, data_dir=tmp_path if name == "mnist" else None)


def test_an_unknown_name():
    message = "unknown data set 'wines' (did you mean 'wine'?); known are 'digits', 'iris', 'wine', 'breast_cancer', "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}'diabetes', 'linnerud', 'mnist'$"):
        data.load("wines")
    with pytest.raises(ValueError, match=r"^unknown data set 'sample_image'; known are"):  # scikit-learn has one
        data.load("sample_image")


def test_mnist_needs_a_folder():
    with pytest.raises(ValueError, match=r"mnist .* pass their folder with --data-dir"):
        data.load("mnist")


@pytest.mark.parametrize(("name", "called"), [("mnist", "mnist"), ("digits", "fashion"), ("anything", "fashion")])
def test_a_folder_is_read_whatever_the_name(name, called, tmp_path):
    x_train = np.array([[[0, 0, 4], [0, 0, 0]], [[8, 4, 4], [0, 2, 2]]], np.uint8)
    x_test = np.full((3, 2, 3), 255, np.uint8)
    labels = {"train_labels": np.array([0, 2], np.uint8), "t10k_labels": np.array([1, 4, 0], np.uint8)}
    folder = write_folder(tmp_path / "fashion", train_images=x_train, t10k_images=x_test, **labels)
    loaded = data.load(name, data_dir=folder, dtype=np.float64)
    assert loaded.name == called
    assert loaded.classes == 5
    np.testing.assert_allclose(loaded.x_train, (x_train.reshape(2, 6) - x_train.mean()) / x_train.std(), atol=1e-12)
    np.testing.assert_allclose(loaded.x_test, (x_test.reshape(3, 6) - x_train.mean()) / x_train.std(), atol=1e-12)
    np.testing.assert_array_equal(loaded.y_train, np.array([0, 2], np.int32), strict=True)
    np.testing.assert_array_equal(loaded.y_test, np.array([1, 4, 0], np.int32), strict=True)


@pytest.mark.parametrize(("train", "test"), [(6, 2), (2, 6)])
def test_classes_of_either_part_count(train, test, tmp_path):
    labels = {"train_labels": np.full(5, train, np.uint8), "t10k_labels": np.full(2, test, np.uint8)}
    assert data.load("mnist", data_dir=write_folder(tmp_path, **labels)).classes == 7


def test_a_folder_is_called_by_its_own_name_however_it_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path / "fashion"))
    assert data.load("x", data_dir=".").name == "fashion"
    assert data.load("x", data_dir="../fashion/").name == "fashion"


def test_the_seed_and_the_share_leave_a_folder_alone(tmp_path):
    write_folder(tmp_path)
    assert same(data.load("mnist", data_dir=tmp_path), data.load("mnist", data_dir=tmp_path, seed=1, test_share=0.5))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_the_dtype_of_a_folder(dtype, tmp_path):
    loaded = data.load("mnist", data_dir=write_folder(tmp_path), dtype=dtype)
    assert [part.dtype for part in parts(loaded)] == [dtype, np.int32, dtype, np.int32]


@pytest.mark.parametrize("stored", [np.int8, np.int16, np.int32, np.float32, np.float64], ids=lambda d: d.__name__)
def test_images_of_other_types(stored, tmp_path):
    x_train = (np.array([[[-100, 100], [0, 7]]] * 5) / 3).astype(stored)  # thirds: a float32 mean would show
    write_folder(tmp_path, train_images=x_train, t10k_images=x_train[:2])
    loaded = data.load("mnist", data_dir=tmp_path, dtype=np.float64)
    expected = (x_train.reshape(5, 4) - x_train.mean(dtype=float)) / x_train.std(dtype=float)
    np.testing.assert_allclose(loaded.x_train, expected, atol=1e-12)


def test_values_that_cannot_be_standardised(tmp_path):
    def message(train, test, dtype=np.float32):
        images = {"train_images": np.array([train] * 5), "t10k_images": np.array([test] * 2)}
        with pytest.raises(ValueError, match=re.escape(f"images in {tmp_path} ")) as caught:
            data.load("mnist", data_dir=write_folder(tmp_path, **images), dtype=dtype)
        return str(caught.value).replace(str(tmp_path), "here")

    far = "too far from the training part to be standardised in"
    assert message([0.0, 1e-9], [0.0, 1e38]).startswith(f"the test images in here hold 1e+38 at (0, 1), {far} float32;")
    assert message([0.0, 1.0], [-1e5, 0.0], np.float16).startswith(
        f"the test images in here hold -100000.0 at (0, 0), {far} float16;"
    )
    for tiny in (1e-200, 5e-324):  # their squares are 0, and so would their deviation be
        assert message([0.0, tiny], [0.0, 1.0]).startswith("the training images in here differ by too little")


def spoilt(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file in one of the ways in which files are spoilt: often by one bit, and often near its header."""
    place = int(random.integers(min(len(content), 20)) if random.random() < 0.4 else random.integers(len(content)))
    junk = random.bytes(int(random.integers(1, 9)))
    return [
        content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :],
        content[:place] + junk + content[place + len(junk) :],
        content[:place],
        content[:place] + content[place + len(junk) :],
        content + junk,
        other[:16] + content[16:],
        content[:16] + other[16:],
    ][max(0, int(random.integers(-4, 7)))]


@pytest.mark.parametrize("seed", range(3))
def test_a_spoilt_folder_is_refused_by_name_or_read_as_sound(seed, tmp_path):
    random = np.random.default_rng(seed)
    images = random.normal(0, 100, (5, 2, 3)).astype(["f4", "f8", "u1"][seed], casting="unsafe")
    labels = np.array([0, 1, 2, 1, 0], ["u1", "i4", "i2"][seed])
    write_folder(tmp_path, train_images=images, train_labels=labels, t10k_images=images[:2], t10k_labels=labels[:2])
    sound = {file: file.read_bytes() for file in sorted(tmp_path.iterdir())}
    refused = read = 0
    for _ in range(100):
        (file, content), (_, other) = (list(sound.items())[index] for index in random.permutation(4)[:2])
        for path, bytes_ in sound.items():
            path.write_bytes(bytes_)
        way = random.integers(4)
        if way == 0:
            file.write_bytes(spoilt(gzip.compress(content), gzip.compress(other), random))
        else:
            file.write_bytes((gzip.compress if way == 1 else bytes)(spoilt(content, other, random)))
        try:
            loaded = data.load("mnist", data_dir=tmp_path)
        except (ValueError, OSError) as error:
            refused += 1
            assert any(name in str(error) for name in (*map(str, sound), f"images in {tmp_path}")), error  # noqa: PT017
            continue
        read += 1
        assert len(loaded.x_train) == len(loaded.y_train)
        assert len(loaded.x_test) == len(loaded.y_test)
        assert loaded.x_train.shape[1] == loaded.x_test.shape[1]
        assert np.isfinite(loaded.x_train).all()
        assert np.isfinite(loaded.x_test).all()
        assert loaded.classes is not None
        for y in (loaded.y_train, loaded.y_test):
            assert np.all((y >= 0) & (y < loaded.classes))
        assert loaded.classes <= len(loaded.y_train) + len(loaded.y_test)
    assert refused > 30
    assert read > 5


def test_a_folder_that_does_not_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        data.load("mnist", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        data.load("iris", data_dir=tmp_path / "nothing")


def test_a_data_set_is_frozen_and_can_be_compared():
    loaded = data.load("iris")
    with pytest.raises(AttributeError):
        loaded.name = "other"
    assert loaded == loaded
    assert loaded != data.load("iris")


def test_pixels_go_from_0_to_1_and_are_those_that_standardising_moves():
    x, y, x_test, y_test = data.pixels(None)
    digits = data.load("digits", dtype=np.float64)
    assert (x.min(), x.max(), x.dtype, y.dtype, len(x_test)) == (0, 1, np.float32, np.int32, len(y_test))
    np.testing.assert_allclose(digits.x_scaling(16 * x), digits.x_train, atol=1e-5)
