"""A window with the picture of the camera and what is seen on it.

This file imports no PyAV, and the window is to be opened before anything does: the libraries of X11
in the packages of PyAV and of OpenCV have the same names, and OpenCV waits forever in PyAV's.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lib.pictures.captions import caption, draw_panel, label

TITLE = "live (Q: quit, F: full screen)"
_LEAST_HEIGHT = 480  # pixels; smaller pictures are enlarged, so that text can be read
_KEYS_TO_QUIT = (ord("q"), ord("Q"), 27)  # Esc
_KEYS_FOR_FULLSCREEN = (ord("f"), ord("F"))
_TEXT_ONLY = "(--no_window to ask for text only)"


class Window:
    """A window of OpenCV. Q or Esc ends the program, F fills the screen.

    Args:
        cv2: the module, with a GUI.
    """

    def __init__(self, cv2: Any) -> None:
        self._cv2 = cv2
        self._fills_screen = False
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(TITLE, flags)
        self._size: tuple[int, int] | None = None

    def show(
        self, image: np.ndarray, seen: str, top: Sequence[tuple[str, float]], status: str
    ) -> None:
        """Show a frame.

        Args:
            image: RGB, uint8 ``[H, W, 3]``; is not changed.
            seen: the class that is seen, empty for none.
            top: names and probabilities of the most probable classes.
            status: frame rate and latency.
        """
        cv2 = self._cv2
        scale = max(1, -(-_LEAST_HEIGHT // len(image)))
        shown = image.repeat(scale, axis=0).repeat(scale, axis=1)
        draw_panel(shown, [status, *(caption(*entry) for entry in top)])
        label(shown, seen)
        size = (shown.shape[1], shown.shape[0])
        if size != self._size:
            cv2.resizeWindow(TITLE, *size)
            self._size = size
        cv2.imshow(TITLE, shown[:, :, ::-1])

    def handle_keys(self) -> bool:
        """Draw, and handle a key; returns whether the window is still wanted."""
        cv2 = self._cv2
        key = cv2.waitKey(1) & 0xFF
        if key in _KEYS_TO_QUIT:
            return False
        if key in _KEYS_FOR_FULLSCREEN:
            self._fills_screen = not self._fills_screen
            mode = cv2.WINDOW_NORMAL
            if self._fills_screen:
                mode = cv2.WINDOW_FULLSCREEN
            cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, mode)
        return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) > 0

    def close(self) -> None:
        self._cv2.destroyAllWindows()


def open_window(note: Callable[[str], None]) -> Window | None:
    """A window, if this machine has a display and OpenCV can draw on it; see the top of the file.

    Args:
        note: prints why there is none, where one could be expected.
    """
    if not has_display():
        return None
    try:
        import cv2
    except ImportError:
        note(f"no window: it needs OpenCV: pip install opencv-contrib-python {_TEXT_ONLY}")
        return None
    try:
        return Window(cv2)
    except cv2.error:
        note(
            "no window: this OpenCV is a headless one; pip uninstall opencv-contrib-python-headless"
            f" and pip install opencv-contrib-python {_TEXT_ONLY}"
        )
        return None


def has_display() -> bool:
    """Whether programs can open windows here."""
    if sys.platform.startswith(("darwin", "win32")):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
