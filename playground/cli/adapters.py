"""adapters list, import, export, rename, delete, push: what the Train page does with adapters."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsRejected
from playground import adapters
from playground.adapter_imports import import_adapter
from playground.adapters import AdapterInfo
from playground.cli.output import json_option, print_json, print_table, progress
from playground.settings import load_settings


def add(commands: Any) -> None:
    """Declare the commands."""
    family = commands.add_parser("adapters", help="the adapters of the embedded model").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = family.add_parser("list", help="what there is, and where it came from")
    listing.set_defaults(run=list_all)
    bring = family.add_parser("import", help="from a folder, a .zip or the hub; safetensors only")
    bring.add_argument("source", metavar="FOLDER|FILE.zip|hub:ORG/NAME")
    bring.add_argument("--as", dest="new", default="", metavar="NAME")
    bring.set_defaults(run=bring_in)
    out = family.add_parser("export", help="with its card, as a .zip or a folder")
    out.add_argument("name")
    out.add_argument("to", type=Path, metavar="FILE.zip|FOLDER")
    out.set_defaults(run=export)
    named = family.add_parser("rename", help="give one of your own another name")
    named.add_argument("name")
    named.add_argument("new", metavar="NEW_NAME")
    named.set_defaults(run=rename)
    gone = family.add_parser("delete", help="delete one of your own for good")
    gone.add_argument("name")
    gone.add_argument("--yes", action="store_true", help="without asking")
    gone.set_defaults(run=delete)
    sent = family.add_parser("push", help="upload to the hub; needs HF_TOKEN")
    sent.add_argument("name")
    sent.add_argument("repository", metavar="ORG/NAME")
    sent.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    sent.set_defaults(run=push)
    for parser in (listing, bring, out, named, gone, sent):
        json_option(parser)


def document(info: AdapterInfo) -> dict[str, Any]:
    """An adapter for --json."""
    return {**asdict(info), "folder": str(info.folder), "data": dict(info.data), "warnings": list(info.warnings)}


def list_all(options: argparse.Namespace) -> None:
    """List the adapters, the shipped ones first."""
    found = adapters.list_adapters(load_settings())
    if options.json:
        print_json([document(info) for info in found])
        return
    rows = [
        (
            info.name,
            f"{info.size_bytes / 1e6:.1f} MB",
            ", ".join(f"{suite} {rows}" for suite, rows in info.data) or "-",
            (info.made_at or "-")[:10],
            info.sha256[:12],
            "shipped" if info.shipped else info.source or (f"run {info.run_id}" if info.run_id else "-"),
        )
        for info in found
    ]
    print_table(("adapter", "size", "data (rows)", "date", "sha256", "from"), rows)


def bring_in(options: argparse.Namespace) -> None:
    """Import one."""
    settings = load_settings()
    found = import_adapter(settings, options.source, options.new)
    for warning in found.warnings:
        progress(f"warning: {warning}")
    _show(adapters.find(settings, found.name), as_json=options.json)


def rename(options: argparse.Namespace) -> None:
    """Rename one."""
    _show(adapters.rename(load_settings(), options.name, options.new), as_json=options.json)


def _show(info: AdapterInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(document(info))
    else:
        print(f"adapter {info.name}: {info.folder}")


def export(options: argparse.Namespace) -> None:
    """Export one."""
    to = adapters.export(load_settings(), options.name, options.to)
    if options.json:
        print_json({"name": options.name, "to": str(to)})
    else:
        print(to)


def delete(options: argparse.Namespace) -> None:
    """Delete one, after asking."""
    settings = load_settings()
    info = adapters.find(settings, options.name)
    if not options.yes and not info.shipped:  # a shipped one is refused without a question
        try:
            answer = input(f"Delete adapter {info.name} in {info.folder} for good? [y/N] ")
        except EOFError:
            raise SettingsRejected(f"Nobody is there to ask; call delete {info.name} --yes.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise SettingsRejected(f"Adapter {info.name} was not deleted.")
    adapters.delete(settings, info.name)
    if options.json:
        print_json({"name": info.name, "deleted": True})
    else:
        print(f"adapter {info.name}: deleted")


def push(options: argparse.Namespace) -> None:
    """Upload one."""
    address = adapters.push(load_settings(), options.name, options.repository, private=not options.public)
    if options.json:
        print_json({"name": options.name, "address": address})
    else:
        print(address)
