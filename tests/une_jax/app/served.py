"""The page, served to the tests by a process of its own, as it is to people.

That process also keeps from the tests' own what gradio leaves unclosed: event loops and
sockets, whose warnings would be errors of whichever test runs next.
"""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import tiny


@contextlib.contextmanager
def serving(zoo, folder=None):
    """The address of a studio over this zoo."""
    command = [sys.executable, __file__, str(zoo), *([str(folder)] if folder else [])]
    # The helpers of the other folders of tests are found where pytest finds them.
    where = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, env=where, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().rstrip("/")
            assert address, "the server ended before it served; see its stderr"
            yield address
        finally:
            process.terminate()


def ask(url, data=None, headers=()):
    """(status, body) of a request."""
    request = urllib.request.Request(url, data, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def post(url, value):
    """``ask`` with JSON."""
    kind = {"Content-Type": "application/json"}
    return ask(url, json.dumps(value).encode(), kind)


def main(zoo, folder=None):
    """Serves until it is told to end."""
    import threading

    import une_jax.zoo
    from une_jax.app import page, serving

    opened = une_jax.zoo.open(zoo)
    studio, _ = tiny.make_studio(opened, folder, judges=(tiny.Judge(),), inside=True)
    print(serving.serve(page.build(studio), port=0), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
