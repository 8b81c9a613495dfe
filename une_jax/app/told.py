"""Errors that a person can act on are told on the page, in their own words."""

import functools as ft
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gradio as gr

from une_jax.errors import UneError

P = ParamSpec("P")
T = TypeVar("T")


def told(handler: Callable[P, T]) -> Callable[P, T]:
    """A handler whose UneError becomes a message on the page; others stay in the log."""

    @ft.wraps(handler)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return handler(*args, **kwargs)
        except UneError as error:
            raise gr.Error(plain(str(error)), duration=8, print_exception=False) from error  # fmt: skip

    return wrapped


def plain(text: str) -> str:
    """The page takes messages for HTML, and there may be a stranger's words in them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
