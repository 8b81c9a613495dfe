"""Serves the page to this machine alone."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from une_jax.app import look
from une_jax.app.pictures import MAX_BYTES
from une_jax.errors import UneError

HOST = "127.0.0.1"
MAX_WAITING = 32  # requests in the queue; further ones are refused


def serve(page: gr.Blocks, *, port: int, open_browser: bool = False) -> str:
    """Starts serving in the background, gives the address.

    Loopback only, nothing shared, nothing reported to anybody; no file of this machine
    can be asked for, and no other site's page can ask (the host's name is checked).

    Raises:
        UneError: the port is taken.
    """
    for block in page.blocks.values():
        # Gradio would fetch an address that is sent in place of an uploaded file.
        setattr(block, "async_move_resource_to_block_cache", _uploaded_only)  # noqa: B010
    page.queue(default_concurrency_limit=1, max_size=MAX_WAITING, api_open=False)
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
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
            app_kwargs={"middleware": [hosts], "docs_url": None, "redoc_url": None},
            theme=look.theme(),
            css=look.CSS,
        )
    except OSError as error:
        raise UneError(f"port {port} is taken; choose another with --port") from error
    return url


async def _uploaded_only(path: Any) -> str | None:
    """What has been uploaded stays where it is; gradio has checked that it is there."""
    text = str(path)
    if "://" in text:
        raise UneError("addresses are not fetched; upload the image")
    return text
