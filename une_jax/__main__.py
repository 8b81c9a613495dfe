"""``python -m une_jax`` is ``une-jax``."""

from une_jax.cli import main

raise SystemExit(main())
