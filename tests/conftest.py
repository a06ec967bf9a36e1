from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real videos beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip(f"no real videos in {folder}")
    return folder
