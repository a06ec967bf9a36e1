import contextlib
import os
import signal
from fractions import Fraction
from pathlib import Path

import pytest

# Windows: without the tests of signals, forked processes, bash, file modes and links.
if os.name == "nt":
    collect_ignore = [
        "faults",
        "test_check_videos.py",
        "test_distributed.py",
        "test_doctor.py",
        "test_download.py",
        "test_extract_flow.py",
        "test_extract_frames.py",
        "test_files.py",
        "test_frame_folder.py",
        "test_help.py",
        "test_inference.py",
        "test_loader.py",
        "test_locks.py",
        "test_machine.py",
        "test_make_motion_dataset.py",
        "test_make_shards.py",
        "test_pickle_file.py",
        "test_portability.py",
        "test_reader_base.py",
        "test_resize_videos.py",
        "test_scripts.py",
        "test_shards.py",
        "test_sharing.py",
        "test_signals.py",
        "test_slurm_train.py",
        "test_sturdy_pool.py",
        "test_test_run.py",
        "test_torch_file.py",
        "test_training.py",
        "test_video_jobs.py",
    ]


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real videos beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip(f"no real videos in {folder}")
    return folder


def pytest_configure():
    # In a background job of a shell Ctrl-C is ignored, also by all child processes; tests send it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_vpx_encoders()


def _open_vpx_encoders():
    """Open PyAV's VP8 and VP9 encoders once before decord is imported.

    decord exports the symbols of its own libvpx to the whole process, with which they fail to open.
    """
    try:
        import av
    except ImportError:  # the tests of tests/gpu need no decoder
        return
    for codec in ("libvpx", "libvpx-vp9"):
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width = encoder.height = 64
            encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 30), 1
            encoder.open()


def pytest_addoption(parser):
    parser.addoption(
        "--slow",
        action="store_true",
        help="run the tests marked slow, which a plain run leaves out",
    )
    parser.addoption(
        "--device",
        metavar="NAME",
        help="run the tests marked gpu, which other runs leave out, on this device: cuda, or cpu "
        "for a dry run",
    )


def pytest_collection_modifyitems(config, items):
    """Keep the tests marked gpu with --device, those marked slow with --slow, else the others."""
    wanted = "others"
    if config.getoption("--device"):
        wanted = "gpu"
    elif config.getoption("--slow"):
        wanted = "slow"
    kept = []
    left_out = []
    for item in items:
        (kept if _kind(item) == wanted else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def _kind(item):
    for marker in ("gpu", "slow"):
        if item.get_closest_marker(marker):
            return marker
    return "others"
