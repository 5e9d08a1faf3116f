"""Section `static`: what a node saves when a proxy sends its tiles and bundles.

One peer asks for the same full bundles again and again, with requests that it really
signed: past the proxy, through the proxy, and through it with files. What counts is
the CPU time of the node for a request, since that is what followers share.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from benchmarks.measuring import children_of, cpu_seconds, percentile
from benchmarks.servers import LIST, free_port, record_of
from benchmarks.wire import put_load, request
from hashlight_node.demo.company import make_company
from hashlight_node.keys import load_keyring
from hashlight_node.local_client import path_of
from hashlight_protocol import TILE_WIDTH, HttpRequest, sign_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.options import Options
    from benchmarks.results import Results
    from hashlight_node.demo.company import Company

_BUNDLES: Final = 8
_BATCH: Final = 1000
_CONNECTIONS: Final = 8
_SECONDS: Final = 6.0
_QUICK_SECONDS: Final = 1.0
_WARM_UP_SECONDS: Final = 0.3
_LISTEN: Final = "HASHLIGHT_FEDERATION_LISTEN"
_STATIC: Final = (
    Path(__file__).resolve().parents[1] / "deploy" / "nginx" / "static.conf"
)
_KINDS: Final = {
    "tiles": "tile/0/{:03}",
    "entries": "tile/entries/{:03}",
    "bodies": "bodies/{:03}",
}

_CONFIG: Final = """\
{user}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream hashlight_federation {{ server 127.0.0.1:{node}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{with_files};
        {static}
        location / {{ proxy_pass http://hashlight_federation; }}
    }}
    server {{
        listen 127.0.0.1:{without};
        location / {{
            proxy_pass http://hashlight_federation;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class _Scene(NamedTuple):
    """What is measured.

    Attributes:
        owner: The node.
        peer: Has a grant, and keys with which to ask.
        processes: Of the node and of nginx.
        ports: By way, where to ask.
    """

    owner: Company
    peer: Company
    processes: tuple[int, int]
    ports: Mapping[str, int]


def run(options: Options, results: Results) -> None:
    """Measure every kind of content in every way."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        print("  !! nginx is not installed: serving through it is LEFT OUT")
        return
    seconds = _QUICK_SECONDS if options.quick else _SECONDS
    with (
        tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory,
        _scene(Path(directory), nginx) as scene,
    ):
        for kind, path in _KINDS.items():
            paths = [path.format(it) for it in range(_BUNDLES)]
            for way in scene.ports:
                row = {"kind": kind, "way": way, **_measure(scene, way, paths, seconds)}
                results.add("static", row)
                print(
                    f"  {kind}, {way}: {row['requests_per_second']:,.0f} requests/s,"
                    f" {row['node_cpu_ms']:.2f} ms of the node",
                    flush=True,
                )


def _measure(
    scene: _Scene, way: str, paths: Sequence[str], seconds: float
) -> dict[str, float]:
    address = ("127.0.0.1", scene.ports[way])
    requests = _signed(scene, paths)
    warm = partial(put_load, address, requests, connections=_CONNECTIONS)
    warm(seconds=_WARM_UP_SECONDS)
    before = [cpu_seconds([process]) for process in scene.processes]
    load = put_load(address, requests, connections=_CONNECTIONS, seconds=seconds)
    used = [
        cpu_seconds([process]) - was
        for process, was in zip(scene.processes, before, strict=True)
    ]
    count = len(load.milliseconds)
    return {
        "requests_per_second": count / load.seconds,
        "node_cpu_ms": 1000 * used[0] / count,
        "proxy_cpu_ms": 1000 * used[1] / count,
        "p50_ms": percentile(load.milliseconds, 50),
        "answer_bytes": len(load.last),
    }


def _signed(scene: _Scene, paths: Sequence[str]) -> list[bytes]:
    """Sign each request as the peer does; they are good for minutes."""
    keyring = load_keyring(scene.peer.directory / "keys", scene.peer.name)
    made = []
    for path in paths:
        target = f"/hsf/v1/log/{LIST}/1/{path}"
        headers = sign_request(
            HttpRequest("GET", urlsplit(scene.owner.base).netloc, target),
            content_type=None,
            key_id=f"{scene.peer.name}#{keyring.http_key_id}",
            signer=keyring.http,
            now=int(time.time()),
        )
        accepts = {"Accept-Encoding": "zstd"}
        made.append(request("GET", target, headers={**headers, **accepts}))
    return made


@contextmanager
def _scene(home: Path, nginx: str) -> Iterator[_Scene]:
    node_port, without = free_port(), free_port()
    policy = (
        f'\n[federation]\nlisten = "127.0.0.1:{node_port}"\n'
        'static_directory = "static"\n'
    )
    owner = make_company(home, "owner.example", policy=policy)
    peer = make_company(home, "peer.example")
    ports = {
        "the node alone": node_port,
        "through nginx": without,
        "nginx, with files": urlsplit(owner.base).port or 0,
    }
    try:
        with _running_nginx(nginx, home, owner, ports) as proxy:
            known = set(children_of(os.getpid()))
            owner.start()
            (node,) = set(children_of(os.getpid())) - known
            peer.start()
            _fill(owner, peer)
            peer.stop()
            yield _Scene(owner, peer, (node, proxy), ports)
    finally:
        peer.stop()
        owner.stop()


def _fill(owner: Company, peer: Company) -> None:
    for here, there in ((owner, peer), (peer, owner)):
        here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    owner.client.post("/v1/lists", {"name": LIST})
    for _ in range(0, _BUNDLES * TILE_WIDTH, _BATCH):
        records = [record_of(secrets.token_bytes(32)) for _ in range(_BATCH)]
        owner.client.post(path_of("lists", LIST, "records"), {"records": records})
    owner.client.post("/v1/grants", {"peer": peer.name, "list": LIST})


@contextmanager
def _running_nginx(
    nginx: str, home: Path, owner: Company, ports: Mapping[str, int]
) -> Iterator[int]:
    node, without, with_files = ports.values()
    example = "alias /srv/hashlight/static/;"
    alias = f"alias {owner.directory}/static/;"
    config = home / "nginx.conf"
    text = _CONFIG.format(
        user="user root;" if os.geteuid() == 0 else "",
        home=home,
        node=node,
        without=without,
        with_files=with_files,
        static=_STATIC.read_text("utf-8").replace(example, alias),
    )
    config.write_text(text, "utf-8")
    process = subprocess.Popen(
        [nginx, "-p", str(home), "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()
