import numpy as np
import pytest

from mae_jax.evaluation.measures import Tally


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 10)).astype(np.float32) * 2, rng.integers(0, 10, 200)


def test_measures_are_scikit_learns(answers):
    from sklearn import metrics

    logits, labels = answers
    tally = Tally(10)
    for start in range(0, 200, 7):
        tally.add(logits[start : start + 7], labels[start : start + 7])
    found = tally.measures()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert tally.images == 200
    assert found["top1"] == pytest.approx(metrics.accuracy_score(labels, logits.argmax(1)))
    assert found["top5"] == pytest.approx(metrics.top_k_accuracy_score(labels, logits, k=5))
    assert found["loss"] == pytest.approx(metrics.log_loss(labels, p), rel=1e-5)
    np.testing.assert_array_equal(
        tally.confusion, metrics.confusion_matrix(labels, logits.argmax(1))
    )
    recall = metrics.recall_score(labels, logits.argmax(1), average=None)
    np.testing.assert_allclose(tally.per_class(), recall)
    assert found["mean_class_accuracy"] == pytest.approx(recall.mean())


def test_calibration_error_is_the_definition(answers):
    logits, labels = answers
    tally = Tally(10)
    tally.add(logits, labels)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert tally.measures()["calibration_error"] == pytest.approx(expected, rel=1e-6)
    assert sum(row["images"] for row in tally.calibration()) == 200


def test_certain_and_right_is_perfect_and_a_class_without_images_counts_nowhere():
    tally = Tally(3)
    tally.add(np.eye(3)[[0, 2, 2]] * 1000, np.array([0, 2, 2]))
    found = tally.measures()
    assert found["top1"] == found["mean_class_accuracy"] == 1
    assert found["loss"] == found["calibration_error"] == 0
    np.testing.assert_array_equal(tally.per_class(), [1, np.nan, 1])
    assert tally.confusion.dtype == np.int64


def test_of_equal_logits_the_first_is_taken():
    tally = Tally(8)
    tally.add(np.zeros((8, 8)), np.arange(8))
    assert tally.measures()["top1"] == 1 / 8
    assert tally.measures()["top5"] == 5 / 8


def test_calibration_is_a_table_of_all_bins():
    # Nothing known, as of twenty classes; nearly certain, once right and once wrong; certain.
    p = np.full((4, 20), 0.05)
    p[1:3], p[3] = 0.1 / 19, 1e-300
    p[1:3, 7], p[3, 2] = 0.9, 1
    tally = Tally(20)
    tally.add(np.log(p), np.array([0, 7, 8, 2]))
    rows = tally.calibration()
    assert [row["up_to"] for row in rows] == [n / 15 for n in range(1, 16)]
    found = {
        index: (row["images"], pytest.approx(row["confidence"]), row["accuracy"])
        for index, row in enumerate(rows)
        if row["images"]
    }
    assert found == {0: (1, 0.05, 1), 13: (2, 0.9, 0.5), 14: (1, 1.0, 1)}
    assert rows[5] == {"up_to": 6 / 15, "images": 0, "confidence": None, "accuracy": None}
