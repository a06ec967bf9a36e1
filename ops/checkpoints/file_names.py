"""What the names of published weight files contain: options that their weights do not show."""

import re
from pathlib import Path

# The names that TSM's main.py gives its runs (store_name), for example
# TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50[_cos][_dense][_nl]
_TSM = re.compile(
    r"TSM_(?P<dataset>[A-Za-z0-9-]+)_(?P<modality>RGB|Flow)_(?P<arch>[A-Za-z0-9-]+)"
    r"(?:_shift(?P<div>\d+)_(?P<place>[a-z]+))?(?P<pool>_tpool)?"
    r"_(?:avg|identity)_segment(?P<T>\d+)_e\d+"
    r"(?P<rest>(?:_[A-Za-z0-9-]+)*)"
)
# The file of TSM's online demo, mobilenetv2_jester_online.pth.tar
_ONLINE = re.compile(r"(?P<arch>mobilenetv2)_(?P<dataset>[a-z0-9]+)_online")


def spec_of_name(path):
    """The options that the name of a file contains, or else the name of its folder.

    Args:
        path: of the file.

    Returns:
        a dict with ``dataset`` and arguments of ``ops.models.TSN``, ``num_segments`` among them;
        empty for a name of another form.
    """
    path = Path(path)
    for name in (path.name, path.resolve().parent.name):
        if match := _TSM.match(name):
            return _spec_of_run(match)
        if match := _ONLINE.match(name):
            return {
                "dataset": match["dataset"],
                "arch": match["arch"],
                "module": "tsm",
                "shift_direction": "past",
            }
    return {}


def _spec_of_run(match):
    """The options in a name that TSM's main.py made."""
    spec = {
        "dataset": match["dataset"],
        "modality": match["modality"],
        "arch": match["arch"],
        "num_segments": int(match["T"]),
        "module": "tsn",
        "temporal_pool": bool(match["pool"]),
        "non_local": "nl" in match["rest"].split("_"),
    }
    if match["div"]:
        spec["module"] = "tsm"
        spec["shift_div"] = int(match["div"])
        spec["shift_place"] = match["place"]
        spec["shift_direction"] = "both"  # TSM's main.py trains no other
    return spec
