"""How text is compared in a search: the same folding for what is stored and for what is typed."""

import unicodedata

from evaluation.disk import utf8


def folded(text: str) -> str:
    """NFKC and case folded: full-width and half-width forms, ｶﾀｶﾅ and カタカナ, ＡＢ and ab are one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def terms(query: str) -> list[str]:
    """The words of a query, each of which must occur. An ideographic space parts words too."""
    return folded(utf8(query).decode()).split()  # half a surrogate pair, which a raw request can send, is no text
