import subprocess
import sys

import pytest

from ops.utils.deferred import deferred, names_of_package


def test_a_deferred_function_is_called_with_all_arguments():
    join = deferred("posixpath:join", "a", "b")
    assert join("c") == "a/b/c"
    assert deferred("builtins:dict", x=1)(y=2) == {"x": 1, "y": 2}


def test_a_missing_module_raises_when_it_is_called():
    function = deferred("ops.none:f")
    with pytest.raises(ModuleNotFoundError):
        function()


def test_names_of_a_package_are_imported_on_use():
    get = names_of_package("here", {"join": "posixpath", "f": "ops.none"})
    assert get("join")("a", "b") == "a/b"
    with pytest.raises(ModuleNotFoundError):
        get("f")
    with pytest.raises(AttributeError, match=r"here.*other"):
        get("other")


@pytest.mark.parametrize(
    "module",
    [
        "ops.backbones",
        "ops.backbones.modalities",
        "ops.checkpoints",
        "ops.checkpoints.layout_tables",
        "ops.checkpoints.manifest",
        "ops.export",
        "ops.streaming",
        "ops.temporal",
        "ops.temporal.consensus",
    ],
)
def test_tables_are_read_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
