"""Serves the page to this machine alone."""

import os
import socket
from typing import Any

import gradio as gr
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from une_jax.app import look
from une_jax.app.pictures import MAX_BYTES
from une_jax.errors import UneError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
MAX_WAITING = 32  # requests in the queue; further ones are refused


def serve(page: gr.Blocks, *, port: int, open_browser: bool = False) -> str:
    """Starts serving in the background, gives the address; port 0 is any that is free.

    Loopback only, nothing shared, nothing reported to anybody; no file of this machine
    can be asked for, and no other site's page can ask (the host's name is checked).

    Raises:
        UneError: the port is taken.
    """
    for block in page.blocks.values():
        # Gradio would fetch an address that is sent in place of an uploaded file.
        setattr(block, "async_move_resource_to_block_cache", _uploaded_only)  # noqa: B010
    page.queue(default_concurrency_limit=1, max_size=MAX_WAITING, api_open=False)
    port = port or _free()  # of gradio's own way of 0, nobody is told the number
    # Gradio asks its own page whether it is up: not by way of a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    ours = [
        Middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES)),
        Middleware(_OwnPages),
    ]
    try:
        _, url, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            footer_links=[],
            run_history=False,
            allowed_paths=[],
            max_file_size=MAX_BYTES,
            enable_monitoring=False,
            strict_cors=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            app_kwargs={"middleware": ours, "openapi_url": None},
            theme=look.theme(),
            css=look.CSS,
        )
    except OSError as error:
        raise UneError(f"port {port} is taken; choose another with --port") from error
    return url


class _OwnPages:
    """Answers no request that another site's page makes. A browser says where its page
    is from; gradio keeps answers from others, but would do what they send. Another
    port of this machine is another site."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        origin = headers.get("origin")
        if origin is None or origin.partition("://")[2] == headers.get("host"):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("another site's page", 403)(scope, receive, send)


def _free() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        return listening.getsockname()[1]


async def _uploaded_only(path: Any) -> str | None:
    """What has been uploaded stays where it is; gradio has checked that it is there."""
    text = str(path)
    if "://" in text:
        raise UneError("addresses are not fetched; upload the image")
    return text
