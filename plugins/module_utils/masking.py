# Copyright: celeryops.stack contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hides secrets in output, and only secrets: the cause of an error must stay visible. No I/O here.

Runs on managed hosts as well.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

from ansible_collections.celeryops.stack.plugins.module_utils.endpoints import HIDDEN_ACCOUNT, each_address
from ansible_collections.celeryops.stack.plugins.module_utils.secret_names import MASK, NOT_SHOWN, named_like_a_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: A file that a name without such an ending leads to, as GOOGLE_APPLICATION_CREDENTIALS does.
_FILE = re.compile(r"\.?\.?/[\w.@/ -]*\.(json|pem|key|crt|cer|txt|ya?ml|toml|ini|cfg|conf|p12|pfx|py)")
_SAID = frozenset({"true", "false", "yes", "no", "on", "off", "none", "null"})
#: The start of an address that may hold a user and a password. A password that is not encoded can hold any sign, so
#: what a variable holds is read up to its last "@" where the address has one host only.
#: Everything here is bounded, or begins with what is rare: a value may be a file of 100 kB that somebody encoded, or
#: that is full of addresses.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)
_SSH = re.compile(r"(git\+|svn\+)?ssh://", re.IGNORECASE)
#: So much of an address is read, which is more than a user and a password can have.
_ADDRESS = 4096
#: What may be an address in a text that anybody wrote: without a blank or a quote, up to its last "@", so that behind
#: each "://" there is one, and what was read before it is a part of what is found.
_SHOWN_WORD = re.compile(r"[^\s'\"<>]+")
#: In there, a name, then perhaps a password, before the host.
_SHOWN_URL = re.compile(r"://(?:[^/?#:@]*:(?!\d+[/?#])[^@]*(?:@[^/@]+)*|[^/?#@]+)@")
#: Text that holds a secret under a name: a DSN (password=...), a dictionary, a query.
_ASSIGNED = re.compile(
    r"(?:passw(?:or)?d|passphrase|secret|token|credential|api_?key|access_?key|private_?key)[\w-]{0,64}"
    r"['\"]?\s*[=:]\s*(?:\"(?P<in_double>(?:[^\"\\]|\\.)+)\"|'(?P<in_single>(?:[^'\\]|\\.)+)'"
    r"|['\"]?(?P<value>[^\s'\",;&}\]]+))",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\\(.)")
#: Secrets that can be told by how they look: private keys, and the tokens of well-known services.
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL
)
_KNOWN_TOKEN = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|sk_(?:live|test)_\w{10,}"
    r"|pypi-[\w-]{30,}|AKIA[0-9A-Z]{16})"
)
#: A JSON web token, with what stands before it without a blank: where its first part begins is looked for in what is
#: found, not at each place where one might begin.
_WEB_TOKEN = re.compile(r"(?<![\w-])(?P<first>[\w-]{13,})(?P<rest>\.eyJ[\w-]{10,}\.[\w-]{10,})")
_WEB_TOKEN_BEGINS = re.compile(r"\beyJ(?=[\w-]{10})")
#: Nobody writes a scheme with capitals and digits; who writes a password alone may.
_NAME_OF_A_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*|[A-Za-z+]+")
#: A host, a port and a path, with nothing behind them that could belong to something else.
_PLACE = re.compile(
    r"(?P<shown>(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(:[0-9]{1,5}|:(?=/))?(/[a-z0-9_.,~%+:/-]*)?)(?P<query>[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
#: The user of an address whose parts are beyond doubt; a token in its place is longer.
_USER = re.compile(r"(?P<user>[a-z][a-z0-9_.-]{0,19}):[^\s/?#;:@\\'\"]+@[^@]*", re.DOTALL)
NO_SCHEME = "(no scheme, not shown)"
#: The password of a URL: what stands between the first ":" of the user part and the last "@" of the authority.
_URL_PASSWORD = re.compile(r"(?P<head>://[^:/?#\s]*):[^\s]*@")
#: From here on a value is no accident in another word.
_LONG = 12
#: A line of a text of several lines that is long enough to be told from another one.
_LINE = 8
#: In base64 what is not longer may be a part of any other word.
_SHORT = 5


def looks_like_a_secret(text: str) -> bool:
    """Whether a text holds a private key or a token that can be told by its form, whatever it is called."""
    if _KEY_BLOCK.search(text) or _KNOWN_TOKEN.search(text):
        return True
    return any(_WEB_TOKEN_BEGINS.search(match["first"]) for match in _WEB_TOKEN.finditer(text))


def secrets_of(variables: Mapping[str, object], addresses: Iterable[object] = ()) -> list[str]:
    """Return what must not be shown of an environment and of further addresses, such as those of package indexes.

    A value under a name of a secret is one as a whole. Of any other value only what it holds is: the user part of an
    address, what stands behind ``password=``, a private key, a token that can be told by its form.

    Arguments:
        variables: name -> value.
        addresses: URLs, or any text with a secret in it.
    """
    found: dict[str, None] = {}
    for name, raw in variables.items():
        value = str(raw)
        inside = list(_inside(value))
        found.update(dict.fromkeys(inside))
        is_address = bool(_SCHEME.match(value)) and re.search(r"(^|_)DSN$", name, re.IGNORECASE)
        harmless = value.lower() in _SAID or _FILE.fullmatch(value) or is_address
        if named_like_a_secret(name) and not harmless:
            found[value] = None
    for address in addresses:
        found.update(dict.fromkeys(_inside(str(address))))
    return [secret for secret in found if secret.strip()]


def user_part(address: str) -> tuple[str, str | None]:
    """Return the user and the password of a URL as they were written, ``("", None)`` where it has neither.

    Arguments:
        address: a URL; signs of the password that should have been encoded are taken for what they were meant as.
    """
    scheme = _SCHEME.match(address)
    rest = address[scheme.end() :] if scheme else ""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        part = authority.rpartition("@")[0]
    elif re.match(r"[^/?#@:]*:[^@]*@", rest) and not re.match(r"[^:/?#]*:\d+[/?#]", rest):
        # A sign that ends the host stands in the password itself.
        part = rest[: rest.rindex("@")]
    else:
        return "", None
    user, separator, password = part.partition(":")
    return user, password if separator else None


def _inside(value: str) -> Iterator[str]:
    """Yield the secrets that a text holds, whatever it is called."""
    for address in _addresses(value):
        # Several addresses stand in one text, or a password has the sign that separates them: both readings.
        for reading in dict.fromkeys((address, address.partition(";")[0])):
            user, password = user_part(reading)
            if password:
                yield password
                yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
            elif user and (password == "" or not _SSH.match(address)):
                # A token in the user's place; to SSH it is the name of an account.
                yield user
                yield base64.b64encode(f"{unquote(user)}:".encode()).decode()
    for match in _ASSIGNED.finditer(value):
        yield match["value"] or _QUOTED.sub(r"\1", match["in_double"] or match["in_single"])
    for match in _KEY_BLOCK.finditer(value):
        yield match[0]
    for match in _KNOWN_TOKEN.finditer(value):
        yield match[0]
    for match in _WEB_TOKEN.finditer(value):
        if begin := _WEB_TOKEN_BEGINS.search(match["first"]):
            yield match[0][begin.start() :]


def _addresses(text: str) -> Iterator[str]:
    """Yield what may be an address with a user, and what stands behind it up to the next blank."""
    # What begins as an address and has no second one is one, whatever blanks its password has.
    whole = _SCHEME.match(text) and text.count("://") == 1
    for word in [text] if whole else text.split():
        for match in _SCHEME.finditer(word):
            address = word[match.start() : match.start() + _ADDRESS]
            if "@" in address:
                yield address


def masked(text: str, secrets: Iterable[str] = (), public: Iterable[str] = ()) -> str:
    """Return a text without secrets, in whatever form they stand in it, and with everything else.

    Arguments:
        text: what a program printed, or an error.
        secrets: what :func:`secrets_of` found. A short one is hidden only where it stands as a word of its own, or in
            quotes, since it may be part of any other word.
        public: words that stand in the text anyway, such as the app's name; one that is somebody's password as well is
            hidden in addresses only.
    """
    known = {word for word in public if word}
    forms = {form for secret in secrets if secret not in known for form in _forms(secret) if form not in known}
    for form in sorted(forms, key=lambda one: (-len(one), one)):
        text = _pattern(form).sub(MASK, text)
    text = _KEY_BLOCK.sub(MASK, text)
    text = _KNOWN_TOKEN.sub(MASK, text)
    text = _WEB_TOKEN.sub(_without_token, text)
    return _SHOWN_WORD.sub(_without_login, text)


def tail(output: str, secrets: Sequence[str] = (), lines: int = 25, *, public: Sequence[str] = ()) -> str:
    """Return the end of an installer's output, fit to be shown.

    Arguments:
        output: what the program printed.
        secrets: what must not appear (``masking.secrets_of``).
        lines: how many lines to keep.
        public: words that may appear although somebody uses them as a password.
    """
    text = masked(output, secrets, public)
    return "\n".join(line.rstrip() for line in text.strip().splitlines()[-lines:])


def _without_token(match: re.Match[str]) -> str:
    begin = _WEB_TOKEN_BEGINS.search(match["first"])
    return match["first"][: begin.start()] + MASK if begin else match[0]


def _without_login(match: re.Match[str]) -> str:
    word = match[0]
    end = word.rfind("@") + 1
    return _SHOWN_URL.sub(f"://{MASK}@", word[:end]) + word[end:] if end and "://" in word else word


def _forms(secret: str) -> Iterator[str]:
    """Yield how a secret may be written: encoded for an address or a form, in base64 or hexadecimal, quoted by a shell,
    Python, JSON or HTML, once or twice, line by line."""
    written = {
        secret,
        secret.strip(),
        unquote(secret),
        quote(secret, safe=""),
        quote(secret),
        quote(unquote(secret), safe=""),
    }
    written |= {quote_plus(secret), quote_plus(unquote(secret))}
    for one in list(written):
        written |= {repr(one)[1:-1], json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
        written |= {html.escape(one, quote=False), (page := html.escape(one))}
        # As MarkupSafe writes the quotes, for Jinja's pages.
        written.add(page.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))
        written |= {shlex.quote(one)[1:-1] if "'" in one else one, re.sub(r'([\\"$`])', r"\\\1", one)}
    written |= {json.dumps(one)[1:-1] for one in list(written)}
    for one in (secret, unquote(secret)):
        raw = one.encode("utf-8", "surrogateescape")
        written.add(repr(raw)[2:-1])
        if len(raw) > _SHORT:
            written |= {raw.hex(), raw.hex().upper()}
            written |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    yield from (one for one in written if one.strip())
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= _LINE and not line.startswith("-----"))


def _pattern(secret: str) -> re.Pattern[str]:
    """Return what finds a secret in a text."""
    # The digits of an encoded sign may be written in either case.
    escaped = re.sub(r"%([0-9A-Fa-f]{2})", r"%(?i:\1)", re.escape(secret))
    if len(secret) >= _LONG or not re.fullmatch(r"\w+", secret):
        # Long enough, or with signs that no word has; of the latter a very short one may be any punctuation.
        if len(secret) > 3:
            return re.compile(escaped)
    elif len(secret) > 3:
        return re.compile(rf"(?<!\w){escaped}(?!\w)")
    return re.compile(rf"(?<=['\"]){escaped}(?=['\"])|(?<=[=:]){escaped}(?=[@\s'\"&;,]|$)")


def hidden(url: object, only: str = "") -> str:
    """Return what can be shown of a value that is meant to be one or several addresses.

    A password with a sign that separates the parts of an address (``; / # ? @`` and others) moves what comes behind it
    into another part. So what may be shown does not follow from the parts: nothing in front of the last ``@`` is, and
    without one only what cannot be anything but a host.

    Arguments:
        url: the whole value, since one of its addresses may be a part of a password.
        only: the address to show, when they can be told apart.
    """
    text = str(url).strip()
    if not text:
        return ""
    scheme, separator, _rest = text.partition("://")
    if not separator:
        return text if text in (NO_SCHEME, NOT_SHOWN) else NO_SCHEME
    if not _NAME_OF_A_SCHEME.fullmatch(scheme):
        return NOT_SHOWN
    several = each_address(text)
    if len({"@" in address for address in several}) > 1:
        # Of some with an account and some without, the latter may be the beginning of a password.
        return _hidden(text)
    return ";".join(map(_hidden, [only] if only else several))


def _hidden(address: str) -> str:
    scheme, _separator, rest = address.partition("://")
    account, at, place = rest.rpartition("@")
    found = _PLACE.fullmatch(place)
    # A vhost, a database or a file; but a password that is a number looks like a port when there is no host.
    shown = found["shown"] if found and not (not at and found["shown"].startswith(":")) else NOT_SHOWN
    query = "?..." if found and found["query"] and shown != NOT_SHOWN else ""
    return f"{scheme}://{HIDDEN_ACCOUNT if account or at else ''}{shown}{query}"


def without_passwords(text: str) -> str:
    """Return any text without the passwords of the addresses in it; the users stay."""
    return re.sub(r"\S+", _without_password, text)


def _without_password(match: re.Match[str]) -> str:
    # Up to the last "@" alone: where none follows, each address would be read to the end of the word in vain.
    word = match[0]
    end = word.rfind("@") + 1
    return _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", word[:end]) + word[end:] if end and "://" in word else word


def without_accounts(text: str) -> str:
    """Return any value without the accounts of the addresses in it; one line is one address as far as ``@`` goes."""
    return "\n".join(map(_line_without_accounts, text.split("\n"))) if "://" in text else text


def _line_without_accounts(line: str) -> str:
    head, separator, rest = line.partition("://")
    if not separator or (HIDDEN_ACCOUNT in rest and "@" not in rest.replace(HIDDEN_ACCOUNT, "")):
        return line
    if "@" in rest:
        plain = _USER.fullmatch(rest)
        return f"{head}://{plain['user'] + ':' if plain else ''}{HIDDEN_ACCOUNT}{rest.rpartition('@')[2]}"
    authority = re.split(r"[/?#\s'\",)\]}]", rest, maxsplit=1)[0]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.startswith("[") or (host and re.fullmatch(r"[0-9]{0,5}", port)) or "{" in authority:
        return line
    return f"{head}://{NOT_SHOWN}"
