"""vLLM servers: started, watched and ended here, or somebody else's, which are only spoken to.

A server is a process in an environment of its own (`make vllm`), private to the app that started it: bound to
127.0.0.1, with a random key, and gone when the app is gone. What is generated on it is `playground.engine`'s business.

Start at `server.VllmServer`, which the app owns and lends to the processes of runs (`lending`); `running_server` starts
one for the length of a command. `environment` finds vLLM, `plan` divides the memory, `command` writes the call,
`reasons` reads the log, `guard` is the small process that a server runs under. May import
`playground.{settings,jobs,engine,catalog}`; knows no page and no command line.
docs/vllm.md tells how it is used.
"""

from playground.serving.lending import LentServer, lent_server, lent_to
from playground.serving.local import running_server, vllm_server
from playground.serving.reasons import Reason, ServerFailed
from playground.serving.remote import RemoteServers
from playground.serving.server import VllmServer
from playground.serving.state import Server, ServerState

__all__ = [
    "LentServer", "Reason", "RemoteServers", "Server", "ServerFailed", "ServerState", "VllmServer", "lent_server",
    "lent_to", "running_server", "vllm_server",
]  # fmt: skip
