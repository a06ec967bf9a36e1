"""ops/errors.py: exit statuses and what the user sees."""

import pytest

from ops.errors import UserError, run_front


@pytest.mark.parametrize(
    "error, status, shown",
    [(UserError("a.txt:3: no label"), 2, "error: a.txt:3: no label\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_errors_for_users(capsys, error, status, shown):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_front(main)
    assert caught.value.code == status
    assert capsys.readouterr() == ("", shown)


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_front(lambda: 1 / 0)


def test_success_returns():
    assert run_front(lambda: None) is None
