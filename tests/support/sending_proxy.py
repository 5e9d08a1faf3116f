"""A real nginx in front of a node, with the configuration that `deploy/` has."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from hashlight_node.config import split_address

from .nodes import free_port, make_settings, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.config import Settings

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_STATIC: Final = _CHECKOUT / "deploy" / "nginx" / "static.conf"
_IN_EXAMPLE: Final = "alias /srv/hashlight/static/;"

NGINX: Final = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

needs_nginx: Final = pytest.mark.skipif(
    NGINX is None,
    reason="NO NGINX HERE: that a proxy sends what the node would is NOT tested "
    "(install nginx)",
)

_CONFIG: Final = """\
{user}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream hashlight_federation {{ server {node}; keepalive 32; }}
    server {{
        listen {address};
        {static}
        location / {{
            proxy_pass http://hashlight_federation;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 40s;
        }}
    }}
}}
"""


def settings_behind_nginx(directory: Path, name: str) -> Settings:
    """Make the files of a node that peers reach through a proxy."""
    extra = (
        f'\n[federation]\nlisten = "127.0.0.1:{free_port()}"\n'
        'static_directory = "static"\n'
    )
    return make_settings(directory, name, extra)


@asynccontextmanager
async def run_nginx(directory: Path, settings: Settings) -> AsyncIterator[None]:
    """Run nginx where the base of a node says that the node is."""
    assert NGINX is not None
    home = directory / "nginx"
    home.mkdir()
    static = _STATIC.read_text(encoding="utf-8")
    assert _IN_EXAMPLE in static
    alias = f"alias {settings.federation.static_directory}/;"
    address = settings.node.authority
    config = home / "nginx.conf"
    text = _CONFIG.format(
        user="user root;" if os.geteuid() == 0 else "",
        home=home,
        node=settings.federation.listen,
        address=address,
        static=static.replace(_IN_EXAMPLE, alias),
    )
    config.write_text(text, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        NGINX, "-p", str(home), "-c", str(config)
    )
    try:
        await until(lambda: _is_open(address))
        yield
    finally:
        process.terminate()
        await process.wait()


async def _is_open(address: str) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection(*split_address(address))
        writer.close()
        return True
    return False
