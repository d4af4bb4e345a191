"""What a hub may answer, from a server on this machine: one sentence each, and only what may pass is tried again."""

import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from refusal_cliff import hub

SCRIPT = """
from refusal_cliff.hub import take_snapshot
try:
    take_snapshot("owner/name", "model", "main", "model 'mine'")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def answering():
    """Start a server that gives one answer to everything; its address."""
    servers = []

    def start(status, body, headers=()):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(tmp_path, endpoint):
    path = {"PYTHONPATH": str(Path(hub.__file__).parents[1]), "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint}
    environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment | path, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (401, b"{}", [("X-Error-Message", "Invalid user token.")], "UserError .*the hub refuses the token .HTTP 401"),
        (401, b"{}", [("X-Error-Code", "RepoNotFound")], "UserError .*is not on the hub, or not open to you"),
        (403, b"{}", [("X-Error-Code", "GatedRepo")], "UserError .*is gated; accept its conditions"),
        (403, b"{}", [], "UserError .*the hub refuses the token .HTTP 403"),
        (404, b"{}", [("X-Error-Code", "RevisionNotFound")], "UserError .*has no revision 'main'"),
        (200, b"<html>Please log in</html>", [("Content-Type", "text/html")], "UserError .*is not the hub"),
        (200, b"[]", [], "UserError .*is not the hub"),
        (400, b"{}", [], "PassingError .*cannot be reached"),
    ],
)
def test_every_answer_is_one_sentence(tmp_path, answering, status, body, headers, message):
    found = said(tmp_path, answering(status, body, headers))
    assert re.match(message, found), found
    assert "model 'mine'" in found and "\n" not in found


def test_a_network_that_is_down_is_tried_again(tmp_path):
    assert said(tmp_path, "http://127.0.0.1:9").startswith("PassingError model 'mine' cannot be reached")


def test_a_name_that_no_repository_can_have_is_told():
    from refusal_cliff.errors import UserError

    with pytest.raises(UserError, match="write owner/name in column location"):
        hub.take_snapshot("a/b/c", "model", "main", "model 'mine'")
