"""Long work outside the app's process: a run folder, a queue, a lease on a device, and one child process for each run.

May import `evaluation`, `training`, `playground.settings` and, for work that opens models, `playground.catalog`; knows
no page and no command line. Start at `supervisor.Supervisor`, which the app owns; the command line uses the same
functions without one. `work.py` is the child's side; to add a kind of work, write a `Worker` and name it in
`workers.py`. docs/runs.md tells how a run lives, dies and comes back.
"""

from playground.jobs.chat import claim_for_chat
from playground.jobs.job import Job
from playground.jobs.leases import DeviceBusy, DeviceUse, Holder, default_device
from playground.jobs.supervisor import Supervisor
from playground.jobs.waiting import Waiter

__all__ = ["DeviceBusy", "DeviceUse", "Holder", "Job", "Supervisor", "Waiter", "claim_for_chat", "default_device"]
