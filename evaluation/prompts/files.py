"""The door: what a file is, whether it is what its name says, and its text in Unicode.

A file is read once, in blocks, and refused at the first line that is too long. Nothing in it is trusted.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from evaluation.errors import ImportRejected

MAX_LINE_BYTES = 10_000_000
MAX_FILE_BYTES = 200_000_000  # after decompression; the largest set we know of is a tenth of it
BLOCK_BYTES = 1 << 20
TEXT_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT_SUFFIXES, ".xlsx", ".parquet")

_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive (an XLSX file is one)", (".xlsx",), "rename it to .xlsx or unpack it"),
    (b"PAR1", "a Parquet file", (".parquet",), "rename it to .parquet"),
    (b"\x1f\x8b", "gzip-compressed", (".gz",), "add .gz to its name"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)", (), "save it as .xlsx"),
    (b"%PDF-", "a PDF", (), "export the rows as CSV"),
    (b"\x80\x04\x95", "a Python pickle, which is never loaded", (), "export the rows as JSON Lines"),
)
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def shown(value: object, limit: int = 60) -> str:
    """`value` fit for one line of a message: control characters out, cut to `limit` characters."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", str(value)).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def refusal(path: Path, where: str | None, problem: str) -> ImportRejected:
    """An ImportRejected in one line: the file, the line or row, and what is wrong and what to change."""
    place = f"{shown(path.name, 100)}, {where}" if where else shown(path.name, 100)
    return ImportRejected(f"{place}: {problem}")


def kind_of(path: Path) -> str:
    """The suffix that decides how `path` is read, without .gz, lower case. Raises ImportRejected."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    if kind not in SUFFIXES or (suffixes[-1] == ".gz" and kind not in TEXT_SUFFIXES):
        named = (
            f"the ending {shown(''.join(suffixes[-2:]), 20)!r} is not known" if suffixes else "the name has no ending"
        )
        raise refusal(path, None, f"{named}; use {', '.join(SUFFIXES)}, or a text format with .gz.")
    return kind


def check_signature(path: Path) -> None:
    """Refuse a file whose first bytes say that it is something else than its name does. Raises ImportRejected."""
    kind = kind_of(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise refusal(path, None, f"cannot be read ({error.strerror}); check the path.") from error
    if not head:
        raise refusal(path, None, "the file is empty; give a file with at least one question.")
    if size > MAX_FILE_BYTES:
        raise refusal(path, None, f"the file is larger than {MAX_FILE_BYTES // 1_000_000} MB; split it.")
    ending = ".gz" if path.suffix.lower() == ".gz" else kind
    for signature, what, endings, advice in _SIGNATURES:
        if head.startswith(signature) and ending not in endings:
            raise refusal(path, None, f"the file is {what}, not {ending}; {advice}.")
        if not head.startswith(signature) and ending in endings:
            raise refusal(path, None, f"the name ends in {ending} but the file is not {what}; correct the name.")


def read_bytes(path: Path) -> bytes:
    """The file's bytes, gunzipped, read in one pass that stops at a line over MAX_LINE_BYTES.

    Raises ImportRejected also for a file that grows past MAX_FILE_BYTES or a damaged gzip.
    """
    content = bytearray()
    line, line_start = 1, 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                offset = len(content)
                content += block
                for end in re.finditer(rb"\n|\r(?!\n)", block):
                    if offset + end.start() - line_start > MAX_LINE_BYTES:
                        break
                    line, line_start = line + 1, offset + end.end()
                if len(content) - line_start > MAX_LINE_BYTES:
                    limit = MAX_LINE_BYTES // 1_000_000
                    raise refusal(path, f"line {line}", f"the line is longer than {limit} MB; write one row a line.")
                if len(content) > MAX_FILE_BYTES:
                    raise refusal(path, None, f"it holds more than {MAX_FILE_BYTES // 1_000_000} MB; split it.")
    except (OSError, EOFError, zlib.error) as error:
        raise refusal(path, None, "cannot be read to its end; the file is damaged, make it again.") from error
    return bytes(content)


def read_text(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """The file's text without a byte order mark, and the encoding it was in.

    Without `encoding`, tells UTF-8, UTF-16 and CP932 apart. Raises ImportRejected when none fits, when the
    text holds NUL characters, or when it is blank.
    """
    raw = read_bytes(path)
    name = encoding or _detect(path, raw)
    try:
        text = raw.decode(name)
    except LookupError as error:
        raise refusal(path, None, f"the encoding {shown(name)!r} is not known; try utf-8 or cp932.") from error
    except (UnicodeError, ValueError) as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        problem = f"this is not {shown(name)} text; give the right one with --encoding, or save the file as UTF-8."
        raise refusal(path, _line_at(raw, start), problem) from error
    if not isinstance(text, str):  # "hex", "zlib" and others are codecs too
        raise refusal(path, None, f"{shown(name)!r} is not a text encoding; try utf-8 or cp932.")
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        before = text.count("\n", 0, text.index("\0"))
        raise refusal(
            path, f"line {before + 1}", "the text holds a NUL character; remove it or save the file as UTF-8 text."
        )
    if not text.strip():
        raise refusal(path, None, "the file holds only blank lines; give a file with at least one question.")
    return text, name


def _line_at(raw: bytes, offset: int) -> str:
    before = raw.count(b"\n", 0, offset)
    return f"line {before + 1}"


def _detect(path: Path, raw: bytes) -> str:
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return name
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        damage = error
    else:
        # Latin text in UTF-16 is valid UTF-8 with a NUL beside every letter.
        return _utf16_order(raw) or "utf-8" if raw.count(0) > len(raw) // 4 else "utf-8"
    if order := _utf16_order(raw):
        return order
    # Text in another encoding hardly ever forms whole UTF-8 sequences; where most do, this is UTF-8 that was cut
    # or damaged, and reading it as CP932 would import garbage.
    whole = len(re.findall(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}", raw))
    broken = raw.decode("utf-8", "replace").count("\ufffd")
    if whole > 2 * broken or damage.reason == "unexpected end of data":
        problem = "this is UTF-8 text with damaged or missing bytes; download or save the file again."
        raise refusal(path, _line_at(raw, damage.start), problem)
    try:
        text = raw.decode("cp932")
    except UnicodeDecodeError:
        text = ""
    kana = len(re.findall(r"[\u3041-\u30ff]", text))
    halfwidth = len(re.findall(r"[\uff61-\uff9f]", text))  # what EUC-JP and damaged text turn into
    if kana > halfwidth:
        return "cp932"
    problem = "the encoding is neither UTF-8, UTF-16 nor CP932; name it with --encoding (e.g. euc_jp) or save as UTF-8."
    raise refusal(path, _line_at(raw, damage.start), problem)


def _utf16_order(raw: bytes) -> str | None:
    """utf-16-le or -be for UTF-16 text without a mark: it decodes without a NUL and looks like writing."""
    if raw.count(0) < 2:
        return None
    found = []
    for name in ("utf-16-le", "utf-16-be"):
        text = raw.decode(name, "replace")
        usual = len(re.findall(r"[\t\r\n -~\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]", text)) / len(text)
        if "\0" not in text and usual >= 0.9:
            found.append((usual, name))  # Latin letters read in the wrong order look like kanji, but less so
    return max(found)[1] if found else None
