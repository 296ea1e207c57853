"""What another user of the machine can reach. Run as a program by test_other_users.py; prints JSON.

    intruder.py tcp PORT…          what whoever listens there answers to orders, and to requests for pages
    intruder.py unix PATH…         whether one can connect to these sockets
    intruder.py read TEXT FOLDER…  files below the folders that can be read and hold the text

Where it may, it first gives up all rights but nobody's; what it needs has been imported by then.
"""

import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed.comm import connect
from distributed.core import send_recv
from distributed.protocol.pickle import dumps
from distributed.security import Security

NOBODY = 65534
PAGES = ("/info", "/json", "/metrics", "/health", "/sysmon", "/status", "/")
PATIENCE = 3.0


async def order(port: int, kind: str, security: dict[str, Any]) -> str:
    """Have whoever listens run a function."""
    comm = await connect(f"{kind}://127.0.0.1:{port}", timeout=PATIENCE, **security)
    call = send_recv(comm, op="run", function=dumps(os.getuid), args=(), kwargs={}, reply=True)
    return f"ran: {await asyncio.wait_for(call, PATIENCE)}"


async def page(port: int, path: str, context: ssl.SSLContext | None) -> str:
    """A web page, its status line first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return f"page: {(await reader.read(1 << 16)).decode(errors='replace')}"


async def outcome(attack: Coroutine[Any, Any, str]) -> str:
    try:
        return await asyncio.wait_for(attack, 2 * PATIENCE)
    except Exception as error:  # noqa: BLE001 - a refusal of any kind
        return f"refused: {type(error).__name__}"


async def attack(ports: list[int]) -> list[str]:
    """With plain TCP, and with TLS and a certificate of one's own."""
    security = Security.temporary().get_connection_args("client")
    context = security["ssl_context"]
    context.verify_mode = ssl.CERT_NONE
    orders = [order(port, *how) for port in ports for how in (("tcp", {}), ("tls", security))]
    pages = [page(port, path, how) for port in ports for path in PAGES for how in (None, context)]
    return list(await asyncio.gather(*map(outcome, orders + pages)))


def connection_to(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError as error:
            return f"refused: {type(error).__name__}"
    return "connected"


def files_with(text: str, folders: list[str]) -> list[str]:
    found = []
    for path in (
        Path(root, name) for folder in folders for root, _, names in os.walk(folder) for name in names
    ):
        with suppress(OSError):
            if path.is_file() and path.stat().st_size < 1 << 20 and text.encode() in path.read_bytes():
                found.append(str(path))
    return found


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if kind == "tcp":
        found = asyncio.run(attack([int(port) for port in arguments]))
    elif kind == "unix":
        found = [connection_to(path) for path in arguments]
    else:
        found = files_with(arguments[0], arguments[1:])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
