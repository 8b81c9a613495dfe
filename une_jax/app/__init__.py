"""The web app: a ``Studio`` that edits, plain Python, and the page around it."""
