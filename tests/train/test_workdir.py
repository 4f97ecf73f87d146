"""The work folder: what it notes of the machine; full disks, mounted buckets."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mae_jax import pixels
from mae_jax.config import default_config, with_defaults
from mae_jax.errors import NoSpace, UsageError
from mae_jax.train import loop, mounts, workdir


def test_other_hardware_is_noted(tmp_path):
    folder, config = tmp_path / "run", pixels.settled(with_defaults(default_config().to_dict()))
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


def test_a_run_of_a_version_with_other_keys_is_not_read(tmp_path):
    config = pixels.settled(default_config().to_dict())
    with workdir.claim(tmp_path, config) as claimed:
        claimed.record(0)
    assert workdir.read_config(tmp_path)["seed"] == 0
    record = json.loads((tmp_path / "config.json").read_text())
    record["config"]["model"]["gates"] = 2
    record["versions"]["mae_jax"] = "7.1"
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"'model.gates', which .* does not know; .* it \(7.1\)"):
        workdir.read_config(tmp_path)


@contextlib.contextmanager
def full_disk(folder):
    """A file system of one page, which is taken."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (folder / ".config.json").write_bytes(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_when_a_run_begins_is_one_sentence(digits_config, tmp_path):
    with full_disk(tmp_path):
        for _ in range(2):  # what is left by the first is not taken for another run
            with pytest.raises(NoSpace, match=r"no room for .*config.json; make room, and the"):
                loop.run(digits_config, tmp_path, quiet=True)
        assert (tmp_path / "config.json").stat().st_size == 0


def test_a_disk_that_is_full_when_a_run_goes_on_is_one_sentence(digits_config, tmp_path):
    config = digits_config.to_dict()
    (tmp_path / "config.json").write_text('{"config": {}}')
    claimed = workdir.Claim(tmp_path, config)
    (tmp_path / ".config.json").symlink_to("/dev/full")
    with pytest.raises(NoSpace, match=r"no room for .*\.config\.json"):
        claimed._replace("text")
    claimed.close()
    assert (tmp_path / "config.json").read_text() == '{"config": {}}'


MOUNTS = """\
/dev/vda / ext4 rw 0 0
s3fs /my\\040bucket fuse.s3fs rw 0 0
tmpfs /my\\040bucket/inner tmpfs rw 0 0
s3:b /bucket fuse.rclone rw 0 0
host:/home /home fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "program"),
    [
        ("/my bucket/runs/new", "s3fs"), ("/my bucket/inner/x", None), ("/bucket", "rclone"),
        ("/bucket2/x", None), ("/home/me", None), ("/elsewhere", None),
    ],
)  # fmt: skip
def test_folders_in_mounted_buckets_are_known(tmp_path, folder, program):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert mounts.bucket(Path(folder), tmp_path / "mounts") == program
    assert mounts.bucket(Path(folder), tmp_path / "none") is None


def test_a_run_in_a_mounted_bucket_is_told_what_its_lock_is_worth(
    digits_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(mounts, "bucket", lambda folder: "s3fs")
    with workdir.claim(tmp_path / "run", digits_config.to_dict()):
        pass
    assert "in a bucket that s3fs mounts: its lock holds on this machine" in capsys.readouterr().err


def lose_some(path, target):
    os.rename(path, target)
    (target / "2").unlink()


def refuse(path, target):
    raise OSError(errno.EMFILE, "Too many open files")  # gcsfuse, without its option


@pytest.mark.parametrize(
    ("rename", "why"),
    [
        (lose_some, "loses 1 of 4 files of a folder that is renamed"),
        (refuse, "does not rename folders .Too many open files."),
    ],
)
def test_a_bucket_that_would_lose_checkpoints_is_refused(
    digits_config, tmp_path, monkeypatch, rename, why
):
    monkeypatch.setattr(mounts, "bucket", lambda folder: "rclone")
    monkeypatch.setattr(mounts.Path, "rename", rename)
    with (
        pytest.raises(UsageError, match=f"that rclone mounts, which {why}, and so would lose che"),
        workdir.claim(tmp_path / "run", digits_config.to_dict()),
    ):
        pass
    assert not (tmp_path / "run").exists()


@pytest.fixture
def bucket(tmp_path):
    """A real bucket of a real S3 server, mounted; where moto, s3fs and FUSE are."""
    pytest.importorskip("moto.server")
    if not (shutil.which("s3fs") and os.path.exists("/dev/fuse")):
        pytest.skip("s3fs or FUSE is not there")
    port = 20_000 + os.getpid() % 20_000
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url, place, secret = f"http://127.0.0.1:{port}", tmp_path / "bucket", tmp_path / "secret"
    secret.write_text("a:b")
    secret.chmod(0o600)
    place.mkdir()
    made = ["curl", "-sf", "-X", "PUT", f"{url}/bucket"]
    for _ in range(100):
        if subprocess.run(made, stdout=subprocess.DEVNULL).returncode == 0:
            break
        time.sleep(0.2)
    options = f"passwd_file={secret},url={url},use_path_request_style"
    try:
        subprocess.run(["s3fs", "bucket", str(place), "-o", options], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)])
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_run_in_a_bucket_resumes_and_ends_as_on_a_disk(bucket, digits_config, tmp_path, capsys):
    from mae_jax.commands import checkpoint
    from mae_jax.train import metrics

    digits_config.train.steps = 8
    whole = loop.run(digits_config, tmp_path / "disk", quiet=True)
    digits_config.train.steps = 6
    loop.run(digits_config, bucket / "run", quiet=True)
    digits_config.train.steps = 8
    found = loop.run(digits_config, bucket / "run", quiet=True)
    assert found["measures"].keys() == whole["measures"].keys()
    verified = checkpoint.verify(bucket / "run")["checkpoints"]
    assert [one["step"] for one in verified] == [6, 8]
    assert all(one["manifest"] and one["damage"] is None for one in verified)
    steps = [line["step"] for line in metrics.read(bucket / "run") if "loss" in line]
    assert steps == [*range(1, 9)]
    assert "a bucket that s3fs mounts" in capsys.readouterr().err
