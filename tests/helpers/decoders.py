"""The decoders, for tests that read with each of them."""

import functools

import pytest

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import DECODERS
from ops.utils.errors import UserError


@functools.cache
def _is_installed(decoder: str) -> bool:
    """Whether the libraries of a decoder are installed; torchcodec needs FFmpeg as well."""
    try:
        DECODERS[decoder](__file__)
    except UserError:
        return False
    except UnreadableVideo:  # this file is no video
        return True
    raise AssertionError(f"{decoder} has read {__file__}")


def decoder_param(decoder: str, *values: object) -> object:
    """A parameter set that begins with a decoder, skipped where that is not installed."""
    missing = pytest.mark.skipif(
        not _is_installed(decoder), reason=f"--decoder {decoder} is not installed"
    )
    return pytest.param(decoder, *values, marks=missing)


# Runs a test once for each decoder.
every_decoder = pytest.mark.parametrize("decoder", [decoder_param(name) for name in DECODERS])

# Skips a test where torchcodec is not installed.
needs_torchcodec = decoder_param("torchcodec").marks[0]
