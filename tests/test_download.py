"""Downloads from a server on the loopback interface that breaks off, changes files and lies."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from helpers.file_server import file_server
from helpers.launch import ROOT, free_port, wait_until

from ops.checkpoints.download import fetch
from ops.utils.errors import UserError
from ops.utils.locks import waiting_lock

CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
QUICK = {"timeout": 5, "attempts": 3, "pause": 0.01, "progress": False}


@pytest.fixture
def server():
    with file_server(CONTENT, headers={"ETag": '"v1"'}) as served:
        yield served


def entry(*urls, file="file.pth", sha256=None):
    return {
        "id": "some_name",
        "file": file,
        "url": list(urls),
        "sha256": sha256,
        "page": "https://example.org",
        "take": None,
    }


def fetched(folder, *args, **options):
    """The content of a file that is fetched now."""
    path, is_new = fetch(entry(*args, **options), folder, **QUICK)
    assert is_new and sorted(os.listdir(folder)) in ([path.name], [path.name, "sha256.json"])
    return path.read_bytes()


def failure(folder, *args, **options):
    """The message of a download that fails; no file has the name, nor is one left that is whole."""
    with pytest.raises(UserError) as error:
        fetch(entry(*args, **options), folder, **QUICK)
    assert "\n" not in str(error.value)
    assert not os.path.exists(folder / "file.pth")
    return str(error.value)


def records(folder):
    return json.loads((folder / "sha256.json").read_text())


def start_part(folder, url, size, validator='"v1"', content=CONTENT, total=SIZE):
    """The start of a file, as an interrupted download leaves it."""
    (folder / "file.pth.part").write_bytes(content[:size])
    origin = {"url": url, "size": total, "validator": validator}
    (folder / "file.pth.part.json").write_text(json.dumps(origin))


@pytest.mark.parametrize("sha256", [None, DIGEST, DIGEST[:8]])
def test_a_file_is_downloaded(server, tmp_path, sha256):
    folder = tmp_path / "new" / "pretrained"
    assert fetched(folder, server.url, sha256=sha256) == CONTENT
    if sha256 is None:
        assert records(folder) == {"file.pth": {"id": "some_name", "sha256": DIGEST}}
    else:
        assert not (folder / "sha256.json").exists()


def test_an_existing_file_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "file.pth").write_bytes(CONTENT)
    path, is_new = fetch(entry(server.url, sha256=DIGEST[:8]), tmp_path, **QUICK)
    assert not is_new and path.read_bytes() == CONTENT and server.requests == []


def test_an_existing_file_with_another_hash_stays_and_is_named(server, tmp_path):
    (tmp_path / "file.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match=rf"file\.pth: .*{DIGEST[:8]}"):
        fetch(entry(server.url, sha256=DIGEST[:8]), tmp_path, **QUICK)
    assert (tmp_path / "file.pth").read_bytes() == b"mine" and server.requests == []


def test_the_hash_of_the_first_download_is_checked_afterwards(server, tmp_path):
    fetched(tmp_path, server.url)
    (tmp_path / "file.pth").unlink()
    server.content = CONTENT[::-1]
    server.headers = {"ETag": '"v2"'}
    assert DIGEST in failure(tmp_path, server.url)
    assert records(tmp_path)["file.pth"]["sha256"] == DIGEST
    assert sorted(os.listdir(tmp_path)) == ["sha256.json"]


def test_connections_that_break_off_are_continued(server, tmp_path):
    server.cut_after = [100_000, 50_000, 1, 60_000]
    assert fetched(tmp_path, server.url) == CONTENT
    ranges = [request.get("Range") for request in server.requests]
    assert ranges == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-", "bytes=210001-"]


def test_a_server_that_always_breaks_off_is_given_up(server, tmp_path):
    server.cut_after = [0] * 50
    message = failure(tmp_path, server.url)
    assert "0 of 256000 bytes" in message and len(server.requests) == QUICK["attempts"]


@pytest.mark.parametrize("sha256", [None, DIGEST])
def test_the_next_call_continues(server, tmp_path, sha256):
    start_part(tmp_path, server.url, 200_000)
    assert fetched(tmp_path, server.url, sha256=sha256) == CONTENT
    (request,) = server.requests
    assert (request["Range"], request["If-Range"]) == ("bytes=200000-", '"v1"')


def test_a_complete_part_is_not_downloaded_again(server, tmp_path):
    start_part(tmp_path, server.url, len(CONTENT))
    assert fetched(tmp_path, server.url) == CONTENT and server.requests == []


@pytest.mark.parametrize("checks_if_range", [True, False])
@pytest.mark.parametrize("sha256", [None, DIGEST])
def test_a_file_that_changed_on_the_server_is_downloaded_anew(
    server, tmp_path, checks_if_range, sha256
):
    """Its size differs, so that servers that ignore If-Range are noticed as well."""
    start_part(tmp_path, server.url, 1000, '"v0"', content=b"x" * 1000, total=5000)
    server.checks_if_range = checks_if_range
    assert fetched(tmp_path, server.url, sha256=sha256) == CONTENT


def test_a_file_that_became_smaller_is_downloaded_anew(server, tmp_path):
    server.checks_if_range = False
    start_part(tmp_path, server.url, 300_000, content=CONTENT * 2, total=400_000)
    assert fetched(tmp_path, server.url) == CONTENT
    assert [request.get("Range") for request in server.requests] == ["bytes=300000-", None]


def test_a_wrong_start_is_found_by_the_hash(server, tmp_path):
    start_part(tmp_path, server.url, 1000, None, content=b"x" * 1000)
    assert fetched(tmp_path, server.url, sha256=DIGEST) == CONTENT


def test_a_start_whose_change_would_not_be_noticed_is_not_continued(server, tmp_path):
    start_part(tmp_path, server.url, 1000, None, content=b"x" * 1000)
    assert fetched(tmp_path, server.url) == CONTENT
    assert "Range" not in server.requests[0]


def test_a_server_without_ranges(server, tmp_path):
    server.has_ranges = False
    server.cut_after = [100_000]
    assert fetched(tmp_path, server.url) == CONTENT


def test_a_weak_validator_is_not_used(server, tmp_path):
    server.headers = {"ETag": 'W/"v1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    server.cut_after = [100_000]
    assert fetched(tmp_path, server.url) == CONTENT
    assert server.requests[1]["If-Range"] == server.headers["Last-Modified"]


def test_damaged_notes_about_a_part_start_anew(server, tmp_path):
    for text in ("", "[]", '{"url": 3}', "{"):
        start_part(tmp_path, server.url, 1000, content=b"x" * 1000)
        (tmp_path / "file.pth.part.json").write_text(text)
        assert fetched(tmp_path, server.url) == CONTENT
        (tmp_path / "file.pth").unlink()


def test_a_file_of_unknown_size(server, tmp_path):
    """An end that comes too early would not be noticed without a hash."""
    server.sends_size = False
    assert "size" in failure(tmp_path, server.url)
    assert fetched(tmp_path, server.url, sha256=DIGEST) == CONTENT
    (tmp_path / "file.pth").unlink()
    server.cut_after = [1000]
    assert "wrong hash" in failure(tmp_path, server.url, sha256=DIGEST)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_the_server_does_not_have(server, tmp_path, status):
    server.status = status
    message = failure(tmp_path, server.url)
    assert str(status) in message and server.url in message and len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server, tmp_path, status):
    server.status = status
    assert str(status) in failure(tmp_path, server.url)
    assert len(server.requests) == QUICK["attempts"]


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_not_a_file(server, tmp_path, content_type):
    server.content = b"\n<!DOCTYPE html><html>sign in</html>"
    server.content_type = content_type
    assert "web page" in failure(tmp_path, server.url)
    assert "web page" in failure(tmp_path, server.url, sha256=DIGEST)


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
    message = failure(tmp_path, server.url, sha256="0123abcd")
    assert DIGEST in message and "0123abcd" in message
    assert os.listdir(tmp_path) == []


def test_the_next_mirror_is_used(server, tmp_path):
    with file_server(b"", status=404) as gone:
        assert fetched(tmp_path, gone.url, server.url) == CONTENT
        message = failure(tmp_path / "b", gone.url, gone.url + "2")
        assert gone.url in message and gone.url + "2" in message


def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(QUICK, "timeout", 0.2)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.pth"
        assert "within 0.2 s" in failure(tmp_path, url)


def test_a_server_that_stalls_is_continued(server, tmp_path, monkeypatch):
    monkeypatch.setitem(QUICK, "timeout", 0.3)
    server.content = CONTENT[:3500]
    server.stall = 0.6
    assert fetched(tmp_path, server.url) == CONTENT[:3500]
    assert len(server.requests) > 1


def test_no_server(tmp_path):
    port = free_port()
    message = failure(tmp_path, f"http://127.0.0.1:{port}/file.pth")
    assert "no connection to 127.0.0.1" in message


def test_no_network(tmp_path):
    message = failure(tmp_path, "http://name.invalid/file.pth")
    assert "name.invalid" in message and "network" in message


def test_the_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.rsplit("/", 1)[0])
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetched(tmp_path, "http://name.invalid/file.pth") == CONTENT
    assert server.requests[0]["path"] == "http://name.invalid/file.pth"
    monkeypatch.setenv("no_proxy", "name.invalid")
    assert "name.invalid" in failure(tmp_path / "b", "http://name.invalid/file.pth")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(server, tmp_path):
    (tmp_path / "file.pth.part").symlink_to("/dev/full")
    assert "the disk is full" in failure(tmp_path, server.url)


def test_a_file_that_is_larger_than_the_disk(server, tmp_path):
    server.claimed_size = 10**18
    assert "are free" in failure(tmp_path, server.url)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(entry(server.url), tmp_path / "file" / "pretrained", **QUICK)


def test_a_file_without_an_address(tmp_path):
    by_hand = {**entry(), "take": "the file of TDN, 8 frames"}
    with pytest.raises(UserError) as error:
        fetch(by_hand, tmp_path, **QUICK)
    assert "https://example.org" in str(error.value) and by_hand["take"] in str(error.value)


def test_two_threads_fetch_one_file(server, tmp_path):
    server.stall = 0.002
    results = []

    def run():
        results.append(fetch(entry(server.url), tmp_path, **QUICK)[1])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True] and len(server.requests) == 1
    assert (tmp_path / "file.pth").read_bytes() == CONTENT


FETCH = """
import json, signal, sys
from ops.checkpoints.download import fetch
from ops.utils.errors import repeatable, run_cli

def main():
    with repeatable():
        fetch(json.loads(sys.argv[1]), sys.argv[2], progress=False)

signal.signal(signal.SIGINT, signal.default_int_handler)
run_cli(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_download_is_continued_by_the_next(server, tmp_path, number):
    server.stall = 0.01
    command = [sys.executable, "-c", FETCH, json.dumps(entry(server.url)), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "file.pth.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 5000)
    process.send_signal(number)
    _, errors = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130 and "same command" in errors
    server.stall = 0
    assert not (tmp_path / "file.pth").exists()
    assert fetched(tmp_path, server.url) == CONTENT
    assert server.requests[-1]["Range"].startswith("bytes=")


def test_a_download_waits_for_another_process(server, tmp_path, capsys):
    with waiting_lock(tmp_path / ".file.pth.lock", ""):
        thread = threading.Thread(target=fetch, args=(entry(server.url), tmp_path), kwargs=QUICK)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and server.requests == []
    thread.join()
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert "waiting" in capsys.readouterr().err
