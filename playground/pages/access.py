"""Who is asking, and whether they may: every function of the app goes through here before it runs.

Hiding a button is no check. `guard` wraps each function that a browser can call, by one table from its name to the least
role; what is not in the table is the owner's alone. Denied is denied before anything of it has run.
"""

from __future__ import annotations

import inspect
import ipaddress
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from types import CodeType
from typing import Any, Literal

import gradio as gr
from gradio.context import LocalContext

from playground import profiles
from playground.limits import Budget, Hold, Rates, TooOften, UsedUp
from playground.pages.errors import Refused, shown_to_user
from playground.pages.text import as_language, say
from playground.profiles import Profile
from playground.users import Role, Users, at_least
from playground.visits import Visits

log = logging.getLogger(__name__)

_VISITOR = """
    frame.readiness frame.greet labels.Labels.updates text.as_language screen.badge screen.choices_now
    compare.begin compare.stream compare.settle compare.stop compare.judge_now compare.judge_automatically
    compare.new_conversation compare.redraw compare.show_differences compare.build.<lambda> compare.build.on_chip
    browse.build.<lambda> browse.build.pick_category browse.build.pick_prompt browse.choose_suite browse.find browse.show
    browse.turn_page browse.unveil browse.use
    history.build.on_pick history.find history.models_now history.show history.turn_page history.use
    quality.show quality.unveil quality.visit
    serving.leave
    results.arrive results.leave results.look results.redraw results.choose results_page._wire.on_pair results_page._wire.on_run
    train_watch.leave consent.agree privacy.close
"""
_RATER = "compare.vote"
_OPERATOR = """
    bench_form.choices_now bench_form.forecast results.start results.halt results.resume results.judge_again
    results.forecast_again results_files.report results_files.tables
    results.bench_adapter history.ask_to_delete history.delete
    serving.arrive serving.look serving.redraw serving.start serving.stop
    train.build.<lambda> train.check train.choices_now train.count train.end_check train.fill train.hold_out train.redraw
    train.start train.start_sweep train.unveil train_watch.arrive train_watch.build.on_pick train_watch.compare_run train_watch.halt
    train_watch.keep train_watch.look train_watch.redraw train_watch.resume
    adapters.show adapters.build.on_pick adapters.compare_adapter adapters.export adapters.rename
"""
# "Really delete?" is asked of those alone who may answer yes.
_OWNER = """
    adapters.bring_in adapters.ask_to_delete adapters.delete adapters.push results_sql.ask privacy.ask_to_purge privacy.purge
"""

# Function of the pages, as `handler_name` says it -> the least role that may call it.
LEAST: Mapping[str, Role] = {
    name: role
    for role, names in (("visitor", _VISITOR), ("rater", _RATER), ("operator", _OPERATOR), ("owner", _OWNER))
    for name in names.split()
}  # type: ignore[assignment]
# In a public profile these reach nothing but the caller's own session (visits.py), so everybody may.
OWN_SESSION = frozenset(
    {"compare.vote", "history.ask_to_delete", "history.delete", "privacy.ask_to_purge", "privacy.purge"}
)
# What a profile may switch off, for everybody.
FEATURES: Mapping[str, str] = {
    **{
        name: "training"
        for name in LEAST
        if name.startswith(("train.", "train_watch.")) and name != "train_watch.leave"
    },
    **{name: "own_adapters" for name in LEAST if name.startswith("adapters.")},
    **dict.fromkeys(("results.start", "results.resume", "results.judge_again"), "benchmark"),
    "results_sql.ask": "sql",
}
# What a machine works for each time: counted against the rates of the profile. `compare.judge_automatically` comes after
# every answer, wanted or not, and counts itself where there is something to judge.
COSTLY: Mapping[str, Literal["answer", "verdict"]] = {
    "compare.begin": "answer",
    "compare.judge_now": "verdict",
}
# Parts of the page, by the id of the element: what each is there for. Who may not do that has no use for its fields.
PARTS: Mapping[str, str] = {
    "bench-form": "results.start",
    "bench-again-part": "results.judge_again",
    "bench-keep": "results_files.report",
    "bench-sql": "results_sql.ask",
    "adapter-import-part": "adapters.bring_in",
    "adapter-push-part": "adapters.push",
}
# Events that nobody pressed: one of these that is not allowed changes nothing and says nothing.
_AMBIENT = frozenset({"load", "tick", "change", "select", "then", "success", "unload"})
SIGNED_IN_S = 12 * 3600.0
COOKIE = "playground-sign-in"


@dataclass(frozen=True)
class Caller:
    """Who is asking. `role` is None for somebody who may do nothing, as a user who was removed from the file."""

    role: Role | None
    name: str | None = None  # None for a visitor
    address: str = ""
    session: str = ""

    def may(self, least: Role) -> bool:
        return at_least(self.role, least)


class Access:
    """The roles and bounds of one app. Made without arguments it is a person's own machine: whoever asks is the owner."""

    def __init__(
        self,
        profile: Profile | None = None,
        users: Users | None = None,
        *,
        hub_users: Mapping[str, Role] | None = None,
        proxies: int = 0,
        budget: Budget | None = None,
        visits: Visits | None = None,
    ) -> None:
        """`hub_users`: roles of people who sign in with Hugging Face; None where that is not offered.

        `proxies`: how many proxies stand before the app, each of which adds the address it was asked from.
        """
        self.profile = profile or profiles.profile("local")
        self.users = users
        self.hub_users = hub_users
        self.visits = visits
        self._proxies = proxies
        self._budget = budget
        self._rates = Rates()
        self._tokens: dict[str, tuple[str, float, str | None]] = {}  # name, until when, the password's mark
        self._mutex = threading.Lock()

    # ---- who is asking ----

    @property
    def signs_in(self) -> bool:
        """Whether there is anybody to sign in as."""
        return self.users is not None or self.hub_users is not None

    def caller(self, request: Any = None) -> Caller:
        """Who makes this request; without one, who makes the request that this thread works for."""
        asking = request if request is not None else LocalContext.request.get(None)
        session = str(getattr(asking, "session_hash", None) or "")
        if not self.signs_in and not self.profile.public:
            return Caller("owner", session=session)
        stranger: Role | None = "visitor" if self.profile.public else None
        if asking is None:
            return Caller(stranger)
        address = self.address(asking)
        name = self.name(asking)
        if name is not None:
            role = self.users.role(name) if self.users is not None else (self.hub_users or {}).get(name)
            return Caller(role or stranger, name, address, session)
        return Caller(stranger, None, address, session)

    def name(self, request: Any) -> str | None:
        """The name that somebody has signed in with, or None."""
        made = getattr(request, "request", None) or request
        if self.users is not None:
            token = getattr(made, "cookies", {}).get(COOKIE, "")
            with self._mutex:
                name, until, mark = self._tokens.get(token, ("", 0.0, None))
            if not name or time.monotonic() >= until:
                return None
            # A name that is gone stays a name, which has no role; one with a new password has to be signed in anew.
            return name if self.users.password_mark(name) in (mark, None) else None
        if self.hub_users is not None:
            told = (getattr(made, "scope", None) or {}).get("session", {}).get("oauth_info") or {}
            expires = told.get("expires_at")
            if expires is None or expires > time.time():
                return (told.get("userinfo") or {}).get("preferred_username")
        return None

    def address(self, request: Any) -> str:
        """The address that asks. What a request says of itself counts only as far as our own proxies have written it."""
        client = getattr(request, "client", None)
        direct = str(getattr(client, "host", "") or "")
        if self._proxies == 0:
            return _network(direct)
        made = getattr(request, "request", None) or request
        # A proxy may add a line of its own; the first line is then the caller's.
        headers = getattr(made, "headers", None) or {}
        lines = [value for name, value in headers.items() if name.lower() == "x-forwarded-for"]
        hops = [hop.strip() for hop in ",".join(lines).split(",") if hop.strip()]
        return _network(hops[-self._proxies] if len(hops) >= self._proxies else direct)

    def let_in(self, name: str) -> str:
        """The cookie of a user whose password was right; it holds SIGNED_IN_S seconds or until the app ends."""
        token = secrets.token_urlsafe(32)
        now = time.monotonic()
        with self._mutex:
            self._tokens = {known: entry for known, entry in self._tokens.items() if now < entry[1]}
            mark = self.users.password_mark(name) if self.users is not None else None
            self._tokens[token] = (name, now + SIGNED_IN_S, mark)
        return token

    def let_out(self, token: str) -> None:
        with self._mutex:
            self._tokens.pop(token, None)

    def at_the_door(self, request: Any) -> str | None:
        """What Gradio asks for every page and event: a name, "" for a visitor, None for nobody who may come in."""
        caller = self.caller(request)
        return (caller.name or "") if caller.role is not None else None

    # ---- what they may ----

    def allows(self, handler: str, caller: Caller) -> bool:
        """Whether the caller may call that function."""
        if not self.offers(handler):
            return False
        least: Role = LEAST.get(handler, "owner")
        if self.profile.public and handler in OWN_SESSION and not caller.may("operator"):
            least = "visitor"
        return caller.may(least)

    def offers(self, handler: str) -> bool:
        """Whether this profile has that function at all."""
        return handler not in FEATURES or bool(getattr(self.profile, FEATURES[handler]))

    def admit(self, handler: str, language: str) -> None:
        """Let the call through, and count it. Raises Refused."""
        caller = self.caller()
        if self.visits is not None and caller.session:
            self.visits.touch(caller.session)
        if not self.allows(handler, caller):
            raise Refused(say(language, "access.denied" if self.offers(handler) else "access.absent"))
        if handler in COSTLY:
            self.count(COSTLY[handler], language)

    def count(self, kind: Literal["answer", "verdict"], language: str) -> None:
        """Count one piece of work against the rates of a bounded caller. Raises Refused."""
        caller = self.caller()
        if not self.bounded(caller):
            return
        try:
            self._rates.take(
                kind, caller.name or caller.session, caller.address, self.profile.requests_per_minute,
                self.profile.requests_per_minute_address,
            )  # fmt: skip
        except TooOften as error:
            whose = say(language, f"limit.whose.{error.whose}")
            raise Refused(say(language, "limit.rate", whose=whose, limit=error.limit, seconds=error.wait_s)) from error

    def rater(self) -> str:
        """Whose vote it is, as it is recorded: a user's name, `visitor`, or `local` on a person's own machine."""
        caller = self.caller()
        return caller.name or ("visitor" if self.profile.public else "local")

    def bounded(self, caller: Caller | None = None) -> bool:
        """Whether the bounds of the profile hold for the caller."""
        return self.profile.public and not (caller or self.caller()).may("operator")

    def check_question(self, question: object, max_tokens: int, language: str) -> None:
        """Raises Refused when a bounded caller asks for more than the profile gives."""
        if not self.bounded():
            return
        length, limit = len(str(question or "")), self.profile.longest_question
        if length > limit:
            raise Refused(say(language, "error.long", what=say(language, "question"), limit=limit, length=length))
        if max_tokens > self.profile.max_new_tokens:
            raise Refused(say(language, "limit.tokens", limit=self.profile.max_new_tokens, asked=max_tokens))

    def check_checkpoints(self, models: Iterable[str], offered: Collection[str], language: str) -> None:
        """Raises Refused when somebody but the owner names a checkpoint that is not offered: it would be fetched, as the owner."""
        if self.caller().may("owner"):
            return
        for model in models:
            if model.startswith(("hub:", "path:")) and model not in offered:
                raise Refused(say(language, "error.model", model=model))

    def spending(self, language: str, tokens: int = 0, usd: float | None = 0.0) -> AbstractContextManager[Hold]:
        """Set aside what a bounded caller's work can take at most; say in the Hold what it took. Raises Refused.

        `usd` is None where nobody knows the price; then it is refused: the money is somebody's.
        """
        if self._budget is None or not self.bounded():
            return nullcontext(Hold(tokens, usd or 0.0))
        if usd is None:
            raise Refused(say(language, "limit.price"))
        return _Spending(self._budget.hold(tokens, usd), language)


@dataclass
class _Spending(AbstractContextManager[Hold]):
    """A Budget's hold that is refused in the visitor's language."""

    inner: AbstractContextManager[Hold]
    language: str

    def __enter__(self) -> Hold:
        try:
            return self.inner.__enter__()
        except UsedUp as error:
            hours, minutes = divmod(error.minutes, 60)
            raise Refused(say(self.language, f"limit.{error.what}.day", hours=hours, minutes=minutes)) from error

    def __exit__(self, *failure: Any) -> bool | None:
        return self.inner.__exit__(*failure)


def _network(address: str) -> str:
    """What one household has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a name
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


# ---- the guard ----


Buttons = dict[str, set[str]]  # id of a button's element -> functions behind it


def handler_name(fn: Callable[..., Any]) -> str:
    """`module.function` of what a page has wired, as the table has it."""
    plain = _plain(fn)
    return f"{plain.__module__.rpartition('.')[2]}.{plain.__qualname__.replace('.<locals>', '')}"


def _plain(fn: Callable[..., Any]) -> Any:
    while isinstance(fn, partial):
        fn = fn.func
    return fn


def guard(app: gr.Blocks, access: Access, language: Any) -> Buttons:
    """Put the check before every function of the app. `language` is the switch, so that a refusal is in its language.

    Raises ValueError when two functions have one name: a rule for one would silently hold for the other.
    """
    buttons: Buttons = {}
    codes: dict[str, CodeType] = {}
    for event in app.fns.values():
        if event.fn is None:
            continue
        name = handler_name(event.fn)
        code = _plain(event.fn).__code__
        if codes.setdefault(name, code) is not code:
            raise ValueError(f"Two functions of the pages are called {name}; give one of them a name of its own.")
        place = next((at for at, component in enumerate(event.inputs) if component is language), None)
        triggers = {str(kind) for _, kind in event.targets}
        event.fn = _guarded(event.fn, name, access, place, len(event.outputs) if triggers <= _AMBIENT else None)
        for component, kind in event.targets:
            block = app.blocks.get(component) if component is not None else None
            if kind == "click" and isinstance(block, gr.Button):
                buttons.setdefault(block.elem_id or f"component-{block._id}", set()).add(name)
    return buttons


def _guarded(
    fn: Callable[..., Any], name: str, access: Access, place: int | None, quiet: int | None
) -> Callable[..., Any]:
    """`fn` with the check before it. `place` of the language among its inputs; `quiet`: outputs to leave as they are."""

    def let_through(values: tuple[Any, ...]) -> bool:
        language = as_language(values[place]) if place is not None and place < len(values) else "ja"
        if quiet is not None and not access.allows(name, access.caller()):
            return False
        with shown_to_user(language):
            access.admit(name, language)
        return True

    def nothing() -> Any:
        return gr.skip() if quiet == 1 else tuple(gr.skip() for _ in range(quiet or 0)) or None

    if inspect.isgeneratorfunction(_plain(fn)):

        @wraps(fn)
        def streaming(*values, **more):  # type: ignore[no-untyped-def]
            if let_through(values):
                yield from fn(*values, **more)
            else:
                yield nothing()

        return streaming

    @wraps(fn)
    def calling(*values, **more):  # type: ignore[no-untyped-def]
        return fn(*values, **more) if let_through(values) else nothing()

    return calling


def hidden(buttons: Buttons, access: Access, caller: Caller) -> list[str]:
    """Ids of the elements that are of no use to the caller."""
    parts = [part for part, use in PARTS.items() if not access.allows(use, caller)]
    return sorted(
        {
            *parts,
            *(button for button, names in buttons.items() if not any(access.allows(n, caller) for n in names)),
        }
    )
