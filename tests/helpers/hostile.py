"""Make hostile files from good ones, and run a parser on many of them in a process of its own."""

import io
import json
import os
import pickletools
import random
import re
import resource
import time
import traceback
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch

from ops.data.readers.base import UnreadableVideo
from ops.utils.errors import UserError

ROOM, HUGE = 64 * 2**20, 2**33
# Damaged files for each parser; docs/reliability.md gives this number and their sum.
CASES = 3_000
NUMBERS = [
    -1,
    0,
    1,
    2,
    255,
    2**15,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**64,
    -(2**63),
    10**30,
]
TEXTS = [
    "",
    "-1",
    "1e999",
    "0.5",
    "9" * 18,
    "9" * 25,
    "9" * 5000,
    "nan",
    "é",
    "\0",
    "\n",
    "\t",
    "\r",
    " ",
    "\ud800",
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "x" * 300,
    "{}",
    "{0.__class__}",
    "{:999999999d}",
    "$HOME",
    "a;b",
    "\u2028",
    "http://x.shards/v",
]
PLAIN = [
    None,
    True,
    False,
    0.5,
    1e308,
    float("inf"),
    float("nan"),
    [],
    {},
    [[]],
    [0],
    {"a": 1},
    *NUMBERS,
    *TEXTS,
]


def damaged(draw: random.Random, data: bytes, times: int = 3) -> bytes:
    """Change, cut, insert, repeat and exchange bytes; make numbers huge or negative."""
    data = bytearray(data)
    for _ in range(draw.randint(1, times)):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(9)
        if kind == 0:
            data[at : at + 1] = bytes([draw.randrange(256)])
        elif kind == 1:
            del data[at : at + draw.choice((1, 1, 2, 8, 64))]
        elif kind == 2:
            data[at:at] = draw.randbytes(draw.choice((1, 2, 8)))
        elif kind == 3:
            data[at:at] = data[at : at + draw.choice((1, 4, 16, 64))]
        elif kind == 4 and draw.random() < 0.3:
            del data[at:]
        elif kind == 5:
            size = draw.choice((1, 2, 4, 8))
            number = draw.choice(NUMBERS) % 2 ** (8 * size)
            data[at : at + size] = number.to_bytes(size, draw.choice(("little", "big")))
        elif kind == 6 and (found := list(re.finditer(rb"[0-9]+", data))):
            match = draw.choice(found)
            data[match.start() : match.end()] = draw.choice(
                (str(draw.choice(NUMBERS)), draw.choice(TEXTS[1:7]))
            ).encode()
        elif kind == 7:
            data[at:at] = draw.choice(TEXTS).encode(errors="surrogatepass")
        else:
            other = draw.randrange(len(data) + 1)
            data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]
    return bytes(data)


def _places(value: object) -> list[tuple]:
    """(container, key) of everything in a tree of dicts and lists."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def changed(draw: random.Random, tree: object, times: int = 2, values: list = PLAIN) -> object:
    """Copy dicts and lists with values exchanged, removed, repeated, renamed or deeply nested."""
    top = [json.loads(json.dumps(tree)) if values is PLAIN else tree]
    for _ in range(draw.randint(1, times)):
        holder, key = draw.choice(_places(top))
        kind = draw.randrange(7)
        if kind <= 2:
            holder[key] = draw.choice(values)
        elif kind == 3 and holder is not top:
            del holder[key]
        elif kind == 4:
            other, place = draw.choice(_places(top))
            holder[key] = other[place] if not _inside(other[place], holder) else None
        elif kind == 5 and isinstance(holder, dict):
            holder[draw.choice(TEXTS)] = holder.pop(key)
        else:
            for _ in range(draw.choice((1, 3, 2000)) if draw.random() < 0.05 else 1):
                holder[key] = [holder[key]]
    return top[0]


def _inside(value: object, holder: object) -> bool:
    return value is holder or any(_inside(place[0][place[1]], holder) for place in _places(value))


def as_json(draw: random.Random, tree: object) -> bytes:
    """A changed tree as JSON text, now and then damaged as well."""
    try:
        text = json.dumps(changed(draw, tree), ensure_ascii=draw.random() < 0.5)
    except RecursionError:
        text = "[" * 10**5
    data = text.encode(errors="surrogatepass")
    return damaged(draw, data) if draw.random() < 0.2 else data


def opcodes(data: bytes) -> list[bytes]:
    """The opcodes of a pickle, or of several in a row, each with its argument."""
    file, parts = io.BytesIO(data), []
    while file.tell() < len(data):
        start = file.tell()
        places = [place - start for _, _, place in pickletools.genops(file)] + [file.tell() - start]
        parts += [data[start + a : start + b] for a, b in pairwise(places)]
    return parts


def reprogrammed(draw: random.Random, parts: list[bytes], others: list[bytes] = ()) -> bytes:
    """A pickle with opcodes removed, repeated, exchanged, changed, or ``others`` inserted."""
    parts = list(parts)
    for _ in range(draw.randint(1, 3)):
        at, kind = draw.randrange(len(parts)), draw.randrange(7)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [parts[draw.randrange(len(parts))]]
        elif kind == 2:
            parts[at:at] = [
                draw.choice(
                    [
                        b"K\xff",
                        b"J\xff\xff\xff\xff",
                        b"\x8a\x09" + b"\xff" * 8 + b"\0",
                        b"N",
                        b")",
                        b"]",
                        b"}",
                        b"(",
                        b"t",
                        b"0",
                        b".",
                        b"\x85",
                        b"R",
                        b"b",
                        b"s",
                        b"h\x00",
                        b"q\x00",
                        *others,
                    ]
                )
            ]
        elif kind == 3 and parts[at][:1] in b"KMJX":
            parts[at] = parts[at][:1] + damaged(draw, parts[at][1:], 1)
        elif kind == 4 and parts[at][:1] in b"KMJ":
            number = draw.choice(NUMBERS)
            parts[at] = b"\x8a\x10" + number.to_bytes(16, "little", signed=True)
        elif kind == 5:
            parts[at] = parts[draw.randrange(len(parts))]
        elif kind == 6:
            parts[at:at] = parts[at : at + draw.randint(1, 6)]
        if not parts:
            return b"."
    return b"".join(parts)


def write_new(path, data):
    """Replace a file: ext4 would wait 4 ms for the disk when one is overwritten."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def reading(path, read):
    """Write the case to the path, then read it."""

    def run(data):
        write_new(path, data)
        return read(path)

    path.touch()
    return run


def in_child(function, *args, peak="VmPeak") -> dict:
    """``function(*args)``, a dict, run in a forked process, and under ``grown`` its memory, bytes.

    Args:
        function: returns a dict.
        *args: its arguments.
        peak: "VmPeak" for what was allocated at most, "VmHWM" for what was used of it.

    Raises:
        AssertionError: the process did not end as it should.
    """

    def memory() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{peak}:\s*([0-9]+) kB", status)[1])

    ours, its = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            torch.set_num_threads(1)
            before = memory()
            result = function(*args)
            result["grown"] = memory() - before
        except BaseException:
            result = {"failed": traceback.format_exc()}
        with os.fdopen(its, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(its)
    with os.fdopen(ours) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    assert not status, f"the process ended with status {status}"
    result = json.loads(text)
    assert "failed" not in result, result["failed"]
    return result


def run_cases(name: str, cases: int, make, read, folder: Path, seed: int = 0) -> dict:
    """Read many made files; each must be read, or refused in one line.

    Nothing may warn, and no file may appear in ``folder`` and the working directory.

    Args:
        name: of the test, a part of the seed.
        cases: number of files.
        make: a function of a random.Random that returns the argument of ``read``.
        read: the parser.
        folder: the folder that is watched.
        seed: of the cases.
    """
    reasons, slowest, there = Counter(), 0.0, _files(folder)
    warnings.simplefilter("error")
    for number in range(cases):
        case = make(random.Random(f"{name} {seed} {number}"))
        told, started = (
            f"{name}, case {number} of seed {seed}: {str(case)[:3000]}",
            time.process_time(),
        )
        try:
            read(case)
            reasons["read"] += 1
        except (UserError, UnreadableVideo) as error:
            line = str(error)
            assert line and not re.search("[\n\r\0]", line) and len(line) < 10_000, (
                f"{told}\n{line!r}"
            )
            assert "MemoryError" not in line and "allocate" not in line, f"{told}\n{line!r}"
            reasons[re.sub("[0-9]+|'.*'", "#", line.replace(str(folder), ""))[:90]] += 1
        except BaseException as error:
            raise AssertionError(told) from error
        slowest = max(slowest, time.process_time() - started)
    assert _files(folder) == there, f"{name} made files"
    return {
        "cases": sum(reasons.values()),
        "read": reasons["read"],
        "reasons": reasons,
        "slowest": slowest,
    }


def _files(folder: Path) -> list[str]:
    return sorted(map(str, folder.rglob("*"))) + sorted(os.listdir())


def fuzz(
    name: str,
    make,
    read,
    folder: Path,
    cases: int = CASES,
    share: float = 0.02,
    kinds: int = 5,
    peak: str = "VmPeak",
) -> None:
    """Give hostile cases to a parser in a process of its own, in 128 MiB, each within 5 s.

    Args:
        name: of the parser; the cases depend on it.
        make: random generator -> case.
        read: case -> None, or raises ``UserError`` or ``UnreadableVideo``.
        folder: where ``read`` finds files; none may appear there.
        cases: number of cases.
        share: least share of the cases that is read.
        kinds: least number of different refusals. With fewer the cases would test nothing.
        peak: the memory that counts, see :func:`in_child`.
    """
    result = in_child(run_cases, name, cases, make, read, folder, peak=peak)
    print(
        f"{name}: {result['cases']} cases, {result['read']} read, {len(result['reasons'])} kinds, "
        f"{result['grown'] / 2**20:.0f} MiB, slowest {result['slowest']:.3f} s"
    )
    assert result["cases"] == cases
    assert result["read"] >= share * cases and len(result["reasons"]) >= kinds, result["reasons"]
    assert result["grown"] < 128 * 2**20 and result["slowest"] < 5, result


def takes_little(data, path, read, refused="", room=ROOM, peak="VmPeak"):
    """A file of at most 100 kB is read or refused in little memory and 5 s of processor time."""
    assert len(data) < 102_400

    def run():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        try:
            reading(path, read)(data)
            line = ""
        except (UserError, UnreadableVideo) as error:
            line = str(error)
        return {"line": line, "seconds": resource.getrusage(resource.RUSAGE_SELF).ru_utime - before}

    result = in_child(run, peak=peak)
    assert result["grown"] < room and result["seconds"] < 5, result
    assert (
        "\n" not in result["line"]
        and "MemoryError" not in result["line"]
        and "allocate" not in result["line"]
    )
    assert refused in result["line"] and (not refused or result["line"])
    return result["line"]
