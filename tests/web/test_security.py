"""Who may come in: token, cookie, Host, Origin; what every answer says to the browser; sizes and counts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from pggan.cli import run
from pggan.web.explorer import MOST_TABS
from pggan.web.security import Guardian
from pggan.web.serve import address, listening_socket
from pggan.web.server import application, assets
from tests.helpers.explorers import HOST, ORIGIN, PORT, SOCKET, client_of, explorer_of, page_of


@pytest.fixture(scope="module")
def explorer():
    return explorer_of()


@pytest.fixture
def guardian():
    return Guardian(PORT)


@pytest.fixture
def stranger(explorer, guardian):
    """A browser without the cookie. Its server's threads do not run: nothing reaches them."""
    return TestClient(application(explorer, guardian), base_url=ORIGIN)


def test_the_token_opens_the_page_and_the_cookie_everything_else(stranger, guardian):
    for path in ("/", "/assets/app.js", "/?token=", "/?token=wrong", f"/assets/app.js?token={guardian.token}"):
        answer = stranger.get(path)
        assert answer.status_code == 403, path
        assert "set-cookie" not in answer.headers
        assert "pggan explore" in answer.text
    answer = stranger.get("/", params={"token": guardian.token})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"pggan-{PORT}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guardian.token not in cookie
    assert stranger.get("/assets/app.js").status_code == 200
    assert stranger.get("/").status_code == 200


def test_the_address_that_is_printed_holds_any_token():
    guardian = Guardian(PORT, token="a+b&c=d#e%41 f?/\u00fc")
    assert guardian.knows_token(urlsplit(address(guardian)).query.encode())


def test_a_cookie_of_another_start_is_worth_nothing(stranger):
    other = Guardian(PORT)
    stranger.cookies.set(other.cookie_name, other.cookie().split("=", 1)[1].split(";")[0])
    assert stranger.get("/").status_code == 403
    stranger.cookies.set(other.cookie_name, '"\\u0000;;=')
    assert stranger.get("/").status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        f"127.0.0.1:{PORT + 1}",
        "127.0.0.1",
        f"127.0.0.1.evil:{PORT}",
        "",
        f"[::1]:{PORT}x",
    ],
)
def test_other_hosts_are_refused(stranger, guardian, host):
    answer = stranger.get("/", params={"token": guardian.token}, headers={"host": host})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", [HOST, f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_servers_own_hosts_are_welcome(stranger, guardian, host):
    assert stranger.get("/", params={"token": guardian.token}, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", f"https://{HOST}", f"http://localhost:{PORT}", ORIGIN + "/"]
)
def test_sockets_and_posts_of_other_pages_are_refused(explorer, origin):
    headers = {} if origin is None else {"origin": origin}
    with client_of(explorer_of()) as client:
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(SOCKET, headers=headers):
            pass
        assert refused.value.code == 1008
        assert client.post("/upload", content=b"x", headers=headers).status_code == 403


def test_a_socket_needs_the_cookie(stranger, guardian):
    address = f"{SOCKET}?token={guardian.token}"
    with pytest.raises(WebSocketDisconnect), stranger.websocket_connect(address, headers={"origin": ORIGIN}):
        pass


def test_every_answer_has_the_policy(stranger, guardian):
    for path in ("/", f"/?token={guardian.token}", "/assets/app.js", "/nowhere", "/assets/nothing"):
        headers = stranger.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' blob:; media-src 'self' blob:")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


def test_files_are_named_never_paths():
    with client_of(explorer_of()) as client:
        for path in ("..%2fserver.py", "%2e%2e/server.py", "..%5cserver.py", "/etc/passwd", "app.js%00", "__init__.py"):
            assert client.get(f"/assets/{path}").status_code == 404, path


def test_assets_load_nothing_from_outside():
    text = b"\n".join(assets().values()).decode()
    assert len(assets()) > 15
    hosts = set(re.findall(r"(?:\w+:)?//([\w.-]+\.\w+)", text))
    assert hosts == {"www.w3.org"}  # the name space of SVG
    assert "eval(" not in text
    assert "innerHTML" not in text


def test_tabs_are_counted():
    with client_of(explorer_of()) as client:
        pages = [page_of(client) for _ in range(MOST_TABS)]
        for page in pages:
            page.__enter__()
        with pytest.raises(WebSocketDisconnect) as refused, page_of(client):
            pass
        assert refused.value.code == 1013
        pages.pop().__exit__(None, None, None)
        with page_of(client) as page:
            assert page.ask("hello")["model"]["resolution"] == 16
        for page in pages:
            page.__exit__(None, None, None)


@pytest.mark.parametrize(
    "arguments,advice",
    [
        (["--host", "0.0.0.0"], "--token"),
        (["--host", "0.0.0.0", "--token", "short"], "16 characters"),
        (["--token", ""], "16 characters"),
        (["--port", "70000"], "65535"),
    ],
)
def test_other_machines_need_a_token(capsys, arguments, advice):
    assert run(["explore", *arguments]) == 2
    assert advice in capsys.readouterr().err


def test_a_server_for_other_machines_takes_numbers_and_its_own_name():
    guardian = Guardian(80, "0.0.0.0", "a-secret-of-sixteen")
    assert not guardian.is_local
    assert guardian.knows_host("192.168.0.7:80")
    assert not guardian.knows_host("evil.example:80")
    assert "token=a-secret-of-sixteen" in address(guardian)


def test_a_port_that_is_taken_is_one_line_or_the_next_one():
    first = listening_socket("127.0.0.1", 0, False)
    port = first.getsockname()[1]
    with pytest.raises(Exception, match=r"taken by another program.*--port"):
        listening_socket("127.0.0.1", port, False)
    second = listening_socket("127.0.0.1", port, True)
    assert second.getsockname()[1] > port
    with pytest.raises(Exception, match="choose another"):
        listening_socket("192.0.2.1", 0, False)
    first.close()
    second.close()
