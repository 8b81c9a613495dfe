"""The command line, ``une-jax``: the only place that knows both ports and une_jax."""

from une_jax.cli.main import main as main
