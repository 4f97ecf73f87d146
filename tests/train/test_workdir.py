"""What a work folder notes of the machine."""

import json

from mae_jax.train import workdir


def test_other_hardware_is_noted(tmp_path, digits_config):
    folder, config = tmp_path / "run", digits_config.to_dict()
    with workdir.claim(folder, config) as claimed:
        claimed.record(0)
    record = json.loads((folder / "config.json").read_text())
    assert record["hardware"] | {"cores": 0} == {
        "devices": 8, "kind": "cpu", "processes": 1, "cores": 0
    }  # fmt: skip
    for before, noted in (({"devices": 2}, ["hardware.devices: 2 -> 8"]), (None, None)):
        old = {**record, "hardware": record["hardware"] | before} if before else dict(record)
        if before is None:
            old.pop("hardware")  # as versions before this one wrote it
        (folder / "config.json").write_text(json.dumps(old))
        with workdir.claim(folder, config) as claimed:
            assert claimed.record(4) == []
        found = json.loads((folder / "config.json").read_text())
        assert found["hardware"] == record["hardware"]
        assert found.get("changed") == (noted and [{"step": 4, "keys": noted}])
