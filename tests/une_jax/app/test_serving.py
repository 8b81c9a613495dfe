"""Who is answered, and what is never read or fetched, whatever is sent."""

import json
import socket
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from served import ask, post, serving
from tiny import NOISE, painted, png

pytest.importorskip("gradio", reason="needs the extra: pip install 'une-jax[app]'")


@pytest.fixture(scope="module")
def url(opened, patterns):
    with serving(opened.path, patterns) as address:
        yield address


@pytest.fixture(scope="module")
def config(url):
    return json.loads(ask(f"{url}/config")[1])


def call(url, config, target, file):
    """What the server answers to a file, as to the page's upload: its last message."""
    parts = {c["id"]: c for c in config["components"]}
    deps = config["dependencies"]
    dep = next(d for d in deps if d["targets"] and d["targets"][0][1] == target)
    data = [
        file if parts[i]["type"] == "file" else parts[i]["props"].get("value")
        for i in dep["inputs"]
    ]
    session = uuid.uuid4().hex
    asked = {"data": data, "fn_index": dep["id"], "session_hash": session}
    status, body = post(f"{url}/gradio_api/queue/join", asked)
    if status != 200:
        return {"status": status, "body": body}
    _, told = ask(f"{url}/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line[6:]) for line in told.decode().splitlines() if line.startswith("data: ")]  # fmt: skip
    return next(m for m in messages if m["msg"] == "process_completed")


def named(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}


def uploaded(url, data, **headers):
    """Sends a file as the page does; (status, where it lies on the server)."""
    mark = "patternpattern"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="a.png"'
    body = f"{head}\r\nContent-Type: image/png\r\n\r\n".encode() + data + f"\r\n--{mark}--\r\n".encode()  # fmt: skip
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}", **headers}
    return ask(f"{url}/gradio_api/upload", body, kind)


def test_it_listens_on_the_loopback_alone(url):
    host, _, port = url.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no other address")
        other = probe.getsockname()[0]
    with pytest.raises(OSError), socket.create_connection((other, int(port)), 5):
        pass


def test_another_hosts_name_is_not_answered(url):
    """A page elsewhere whose name is made to lead here (DNS rebinding) gets nothing."""
    assert ask(url, headers={"Host": "evil.example"})[0] == 400
    assert ask(url, headers={"Host": "localhost"})[0] == 200


def test_other_sites_pages_cannot_send(url):
    outside = ("https://evil.example", "null", "http://127.0.0.1.evil.example")
    for origin in (*outside, "http://127.0.0.1:1", "http://localhost"):
        assert uploaded(url, b"x", Origin=origin)[0] == 403
    assert uploaded(url, b"x", Origin=url)[0] == 200


def test_no_file_of_the_machine_can_be_had(url, opened, patterns):
    for path in ("/etc/passwd", opened.path / "manifest.json", patterns / "000.png"):
        assert ask(f"{url}/gradio_api/file={path}")[0] in (403, 404)
    for page in ("/docs", "/openapi.json", "/monitoring", "/gradio_api/mcp/"):
        assert ask(url + page)[0] in (403, 404)


def test_nothing_is_offered_to_programs(url, config):
    endpoints = json.loads(ask(f"{url}/gradio_api/info")[1])
    assert endpoints == {"named_endpoints": {}, "unnamed_endpoints": {}}
    assert config["analytics_enabled"] is False
    assert config["max_file_size"] == 20 * 2**20


def test_an_uploaded_image_is_edited(url, config):
    status, where = uploaded(url, png(painted(NOISE[9:10])[0]))
    done = call(url, config, "upload", named(json.loads(where)[0]))
    assert status == 200 and done["success"], done
    assert "your picture" in json.dumps(done["output"])


def test_a_bad_file_is_refused_in_plain_words(url, config):
    _, where = uploaded(url, b"<b>no image</b>")
    done = call(url, config, "upload", named(json.loads(where)[0]))
    assert not done["success"]
    assert "does not open as an image" in done["output"]["error"]
    assert "Traceback" not in json.dumps(done)


def test_too_large_a_file_is_refused_while_it_comes(url):
    assert uploaded(url, bytes(20 * 2**20 + 1))[0] == 413


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "000.png"])
def test_a_path_in_place_of_an_upload_is_not_read(url, config, path):
    done = call(url, config, "upload", named(path))
    assert not done.get("success") and "root:" not in json.dumps(done, default=str)


def test_an_address_in_place_of_an_upload_is_not_fetched(url, config):
    asked = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Trap) as trap:
        threading.Thread(target=trap.serve_forever, daemon=True).start()
        done = call(url, config, "upload", named(f"http://127.0.0.1:{trap.server_port}/a.png"))  # fmt: skip
        trap.shutdown()
    assert not done.get("success") and asked == []


def test_no_address_at_all_is_fetched_by_any_part():
    """Gradio itself would fetch public ones."""
    said = subprocess.run(
        [sys.executable, "-c", _NO_ADDRESS], capture_output=True, text=True, timeout=120
    )
    assert said.stdout.split() == ["refused", "/tmp/a.png"], said.stderr


_NO_ADDRESS = """
import asyncio
from une_jax.app.serving import _uploaded_only
from une_jax.errors import UneError
try:
    asyncio.run(_uploaded_only("https://example.com/a.png"))
except UneError:
    print("refused")
print(asyncio.run(_uploaded_only("/tmp/a.png")))
"""
