from mae_jax.reports import curves, read


def run_of(tmp_path, **series):
    tmp_path.mkdir(exist_ok=True)
    return read.Run(tmp_path, "run", {}, series, {}, [], [], [], [])


def test_a_spike_is_not_thinned_away(tmp_path):
    points = [(step, 1000.0 if step == 777 else 1.0) for step in range(4000)]
    (figure,) = curves.of_run(run_of(tmp_path, loss=points))
    assert ">1000<" in figure.markup  # the axis reaches it
    assert "the least to the greatest" in figure.caption


def test_unknown_numbers_have_a_figure_each(tmp_path):
    points = [(1, 1.0), (2, 2.0)]
    run = run_of(tmp_path, skipped_updates=points, loss=points, eval_loss=points)
    titles = [figure.title for figure in curves.of_run(run)]
    assert titles == ["Loss", "Skipped updates"]


def test_nothing_finite_is_a_figure_too(tmp_path):
    points = [(1, float("nan")), (2, float("nan"))]
    (figure,) = curves.of_run(run_of(tmp_path, loss=points))
    assert "no finite value" in figure.markup and "2 of 2 values" in figure.caption
