"""Real nginx and Caddy with the configurations that `deploy/` hands to operators."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.private_ca import ServerCertificate
from support.tools import CHECKOUT, tool

_START_SECONDS = 20
_NGINX = """\
worker_processes 1;
daemon off;
{user}
pid {home}/nginx.pid;
error_log {home}/nginx.log warn;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/hashlight.conf;
}}
"""


def changed(text: str, **changes: tuple[str, str]) -> str:
    """Replace what an operator has to replace; each place is there exactly once."""
    for old, new in changes.values():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(
    home: Path, port: int, node_port: int, certificate: ServerCertificate
) -> Iterator[None]:
    """Run nginx with deploy/nginx/hashlight.conf in front of a node."""
    program = tool("nginx")
    text = (CHECKOUT / "deploy" / "nginx" / "hashlight.conf").read_text("utf-8")
    text = changed(
        text,
        listen=("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        name=("server_name node.example;", "server_name localhost;"),
        chain=("/etc/ssl/hashlight/node.pem", str(certificate.chain)),
        key=("/etc/ssl/private/hashlight.key", str(certificate.key)),
        node=("server 127.0.0.1:8440;", f"server 127.0.0.1:{node_port};"),
    )
    (home / "hashlight.conf").write_text(text)
    user = "user root;" if home.owner() == "root" else ""
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, user=user))
    command = [program, "-e", str(home / "nginx.log"), "-c", str(config)]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with _running(command, port, home / "nginx.out"):
        yield


@contextmanager
def caddy(
    home: Path, port: int, node_port: int, certificate: ServerCertificate
) -> Iterator[None]:
    """Run Caddy with deploy/caddy/Caddyfile in front of a node."""
    program = tool("caddy")
    text = (CHECKOUT / "deploy" / "caddy" / "Caddyfile").read_text("utf-8")
    text = changed(
        text,
        # No certificate is fetched, no port but ours is opened.
        options=("{\n\tservers", "{\n\tadmin off\n\tauto_https off\n\tservers"),
        name=("node.example {", f"https://localhost:{port} {{\n\tbind 127.0.0.1"),
        tls=("tls {", f"tls {certificate.chain} {certificate.key} {{"),
        node=("127.0.0.1:8440", f"127.0.0.1:{node_port}"),
    )
    config = home / "Caddyfile"
    config.write_text(text)
    options = ["--adapter", "caddyfile", "--config", str(config)]
    environment = {"HOME": str(home), "XDG_DATA_HOME": str(home)}
    subprocess.run(
        [program, "validate", *options],
        check=True,
        capture_output=True,
        env=environment,
    )
    with _running([program, "run", *options], port, home / "caddy.out", environment):
        yield


@contextmanager
def _running(
    command: list[str], port: int, output: Path, env: dict[str, str] | None = None
) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env)
    try:
        _wait(port, process, output)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < give_up_at, output.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


def tls_context(
    certificate: ServerCertificate, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """Build what a caller trusts, and how new a TLS it speaks."""
    context = ssl.create_default_context(cafile=str(certificate.authority))
    context.maximum_version = newest
    return context
