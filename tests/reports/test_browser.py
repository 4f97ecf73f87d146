"""A report in a real browser without a network."""

import shutil
import subprocess

import pytest
from PIL import Image

from mae_jax.reports import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_has_nothing_to_complain_of(new_run, tmp_path):
    out = tmp_path / "page.html"
    page.write(new_run(tmp_path / "run"), out)
    picture = tmp_path / "page.png"
    told = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--v=0", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--window-size=600,900",
            "--hide-scrollbars", f"--screenshot={picture}", out.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    ).stderr  # fmt: skip
    assert "CONSOLE" not in told
    assert len(Image.open(picture).convert("RGB").getcolors(1 << 24)) > 50  # not an empty page
