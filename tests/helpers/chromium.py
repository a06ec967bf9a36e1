"""Open a page in headless Chromium, with a video file as its camera. The page posts its results."""

import contextlib
import os
import shutil
import subprocess

import pytest

# Debian's name first, then those of other distributions.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--headless",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--mute-audio",
)
_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def find_chromium():
    """The path of the browser; the test is skipped where there is none."""
    for name in _NAMES:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip("no Chromium: apt-get install chromium")


@contextlib.contextmanager
def opened(url, folder, camera=None):
    """A page that is open while the context lasts.

    Args:
        url: of the page.
        folder: for the profile of the browser.
        camera: .mjpeg file that the camera shows, again and again.
    """
    command = [find_chromium(), *_QUIET, f"--user-data-dir={folder / 'profile'}"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which root cannot use
    if camera:
        command += [*_CAMERA, f"--use-file-for-fake-video-capture={camera}"]
    with open(folder / "chromium.log", "wb") as log:
        browser = subprocess.Popen(
            [*command, url], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(timeout=20)
