import pytest

from ops.data.toml_file import TomlFile, fill_in_variables
from ops.utils.errors import UserError


def test_places_of_keys(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('# x = 1\nx = 2\n[one]\n"x" = 3\ny.z = 4\n[two] # x = 5\n  x=6\n')
    file = TomlFile(str(path))
    assert file.content["one"]["x"] == 3
    lines = {("", "x"): 2, ("one", "x"): 4, ("one", "y"): 5, ("two", "x"): 7, ("", "two"): 6}
    for (section, key), line in lines.items():
        assert file.place(section, key) == f"{path}:{line}"
    assert file.place("two", "absent") == str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET/b", "a b/b"),
        ("${SET}b", "a bb"),
        ("${SET:-default}", "a b"),
        ("${UNSET:-de fault/$$}", "de fault/$$"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("5$$", "5$"),
        ("img_{:05d}.jpg", "img_{:05d}.jpg"),
    ],
)
def test_variables(monkeypatch, text, expected):
    monkeypatch.setenv("SET", "a b")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    assert fill_in_variables(text) == expected


@pytest.mark.parametrize("text", ["$UNSET", "${UNSET}", "5$", "${SET", "${-x}"])
def test_invalid_variables_raise(monkeypatch, text):
    monkeypatch.delenv("UNSET", raising=False)
    with pytest.raises(ValueError, match=r"UNSET is not set|\$ without a name"):
        fill_in_variables(text)


def test_a_file_that_is_not_toml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("a = 1\nb = \n")
    with pytest.raises(UserError, match=r"a\.toml:2: not TOML"):
        TomlFile(str(path))
