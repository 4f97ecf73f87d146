import numpy as np
import pytest

from mae_jax.evaluate.measures import Tally


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
    assert np.isnan(tally.per_class()[1])


def test_of_equal_logits_the_first_is_taken():
    tally = Tally(8)
    tally.add(np.zeros((8, 8)), np.arange(8))
    assert tally.measures()["top1"] == 1 / 8
    assert tally.measures()["top5"] == 5 / 8
