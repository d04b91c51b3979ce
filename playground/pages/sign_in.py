"""The sign-in page, the cookie that it gives, and who is signed in as the masthead says it.

Gradio's own login lets nobody see the page without one. Here a public profile is open to visitors and its owner signs in
beside them; a private one sends everybody to the sign-in page first. Both use Gradio's `auth_dependency`.
"""

from __future__ import annotations

import html
import logging
import os
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from evaluation.errors import UserFacingError
from playground.pages import access as rules
from playground.pages import markup
from playground.pages.access import COOKIE, SIGNED_IN_S, Access, Buttons
from playground.pages.services import Services
from playground.pages.text import as_language, say
from playground.pages.text_errors import line_for

log = logging.getLogger(__name__)

PATH, OUT = "/sign-in", "/sign-out"
HUB_IN, HUB_OUT = "/login/huggingface?_target_url=/", "/logout?_target_url=/"  # Gradio's own, on a Space
_STYLE = (
    "body{font-family:system-ui,'Noto Sans JP',sans-serif;max-width:22rem;margin:12vh auto;padding:0 1rem;line-height:1.7}"
    "label{display:block;margin-top:1rem}input{width:100%;font:inherit;padding:.5rem;box-sizing:border-box}"
    "button{font:inherit;margin-top:1.5rem;padding:.5rem 1.5rem}[role=alert]{color:#c02c38}"
    "@media(prefers-color-scheme:dark){[role=alert]{color:#ff8a8a}}"
)


def page(problem: str = "") -> str:
    """The page, in both languages at once: nobody has chosen one yet."""
    said = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    words = {key: " / ".join(html.escape(say(lang, key)) for lang in ("ja", "en")) for key in _WORDS}
    return (
        '<!doctype html><html lang="ja"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>{words["access.sign_in"]}</title><style>{_STYLE}</style></head>'
        f'<body><main><h1>{html.escape(say("ja", "product"))}</h1>{said}<form method="post" action="{PATH}">'
        f'<label>{words["access.name"]}<input name="name" autocomplete="username" required autofocus maxlength="64"></label>'
        f'<label>{words["access.password"]}<input name="password" type="password" autocomplete="current-password" required '
        f'maxlength="1024"></label><button>{words["access.sign_in"]}</button></form></main></body></html>'
    )


_WORDS = ("access.sign_in", "access.name", "access.password")


def routes(access: Access) -> list[Route]:
    """What answers `/sign-in` and `/sign-out`; none where there is nobody to sign in as."""
    users = access.users
    if users is None:
        return []

    async def form(request: Request) -> Response:
        return HTMLResponse(page())

    async def sign_in(request: Request) -> Response:
        sent = await request.form(max_files=0, max_fields=4)
        name, password = (str(sent.get(field, "")) for field in ("name", "password"))
        address = access.address(request)
        try:
            # scrypt takes a quarter of a second; the page of everybody else must not wait for it.
            user = await run_in_threadpool(users.sign_in, name, password, address)
        except UserFacingError as error:
            return HTMLResponse(page(f"{line_for(error, 'ja')} / {error}"), status_code=429)
        if user is None:
            log.warning("a sign-in from %s was refused", address)
            return HTMLResponse(page(f"{say('ja', 'access.wrong')} / {say('en', 'access.wrong')}"), status_code=401)
        answer = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
        answer.set_cookie(
            COOKIE, access.let_in(user.name), max_age=int(SIGNED_IN_S), httponly=True, samesite="lax", secure=secure
        )
        return answer

    async def sign_out(request: Request) -> Response:
        access.let_out(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(PATH, status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    return [
        Route(PATH, form, methods=["GET"]),
        Route(PATH, sign_in, methods=["POST"]),
        Route(OUT, sign_out, methods=["POST"]),
    ]


async def to_the_sign_in_page(request: Request, refusal: Any) -> Response:
    """A person who is not signed in is sent to the form; a program gets the status."""
    if request.method == "GET" and request.url.path == "/":
        return RedirectResponse(PATH, status_code=303)
    return JSONResponse({"detail": "Not authenticated"}, status_code=401)


def launch_options(access: Access) -> dict[str, Any]:
    """What `launch` needs for it; `app_kwargs` are to be joined with those of others."""
    options: dict[str, Any] = {"max_file_size": access.profile.upload_bytes}
    if access.users is not None:
        options["auth_dependency"] = access.at_the_door
        options["app_kwargs"] = {"routes": routes(access), "exception_handlers": {401: to_the_sign_in_page}}
    return options


# ---- in the page ---------------------------------------------------------------------------------------------------


def hub_offers_sign_in() -> bool:
    """Whether this is a Space with `hf_oauth: true`; elsewhere Gradio would make the person up."""
    return all(os.environ.get(name) for name in ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"))


def who(services: Services, buttons: Buttons, language: str) -> str:
    """Who is signed in with a way in or out, and a rule that hides what the role cannot use."""
    access = services.access
    if not access.signs_in and not access.profile.public:
        return ""
    caller = access.caller()
    beyond = rules.hidden(buttons, access, caller)
    tabs = () if caller.may("operator") else ('button[data-tab-id="train"]', 'button[data-tab-id="serving"]')
    rules_for = ",".join([*(f"#{part}" for part in beyond), *tabs])
    hide = f"<style>{rules_for}{{display:none!important}}</style>" if rules_for else ""
    if not access.signs_in:
        return hide
    lang = as_language(language)
    by_hub = access.users is None
    if caller.name is None:
        words = say(lang, "access.sign_in_hub" if by_hub else "access.sign_in")
        return f'{hide}<div class="signed-in"><a href="{HUB_IN if by_hub else PATH}">{markup.esc(words)}</a></div>'
    role = say(lang, f"access.role.{caller.role}")
    name = f"<span>{markup.esc(say(lang, 'access.signed_in', name=caller.name, role=role))}</span>"
    sign_out = markup.esc(say(lang, "access.sign_out"))
    out = (
        f'<a href="{HUB_OUT}">{sign_out}</a>'
        if by_hub
        else f'<form method="post" action="{OUT}"><button type="submit">{sign_out}</button></form>'
    )
    return f'{hide}<div class="signed-in">{name}{out}</div>'


def build(services: Services) -> gr.HTML:
    """The place in the masthead that `who` fills.

    Gradio opens Hugging Face's sign-in where it finds a LoginButton. This one stays unseen: it speaks one language, does
    not tell the role, and is wider than a phone has room for.
    """
    place = gr.HTML("", elem_id="who", apply_default_css=False, js_on_load=None)
    if services.access.hub_users is not None:
        gr.LoginButton(visible=False)
    return place
