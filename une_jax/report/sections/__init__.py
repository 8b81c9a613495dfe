"""The sections of the report that need no generator, one a file.

Each is a function ``write(subject, tell) -> Chapter``; ``tell`` is told which part of its
work is done, from 0 to 1. What a finding says is made from its numbers by a function
of its own.
"""
