"""What a run is looked at by."""

from PIL import Image

from mae_jax.data import sources
from mae_jax.train import watch


def test_panels_show_every_class_of_a_sorted_folder(tmp_path):
    for kind in "abcd":
        (tmp_path / kind).mkdir()
        for number in range(30):
            Image.new("L", (4, 4)).save(tmp_path / kind / f"{number:02d}.png")
    source = sources.FolderSource(str(tmp_path), "all")
    drawn = watch._spread(source, 64)
    assert len(drawn) == 16
    assert sorted(set(drawn.labels().tolist())) == [0, 1, 2, 3]
    assert len(watch._spread(sources.Subset(source, [5, 7]), 64)) == 2
