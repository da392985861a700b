"""What is confidential, and how it is hidden: the one place that knows it.

Two things tell a secret: what it is called (``HF_TOKEN``, ``--api-key``), and what it looks like (a
password in an address, the tokens of known services, a private key). Reports are sent to others,
differences of runs are pasted into messages, and a site's umask may let others read a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

HIDDEN = "(hidden)"
EMBEDDED = "data_uri"
"""Key of a file's content in base64."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ANYWHERE = re.compile(
    r"passw(or)?ds?|passphrases?|passcodes?|secrets?|credentials?|creds|private|bearer|jwt|cookies?"
    r"|\w*(password|passwd|passphrase|secret|apikeys?|(access|secret|private|account|auth)keys?)"
    r"|connectionstring|connstr|dsn"
)
"""Words of a name that make it a secret's wherever they stand."""

_AT_THE_END = re.compile(
    r"\w*token|authorization|auth|sas|pat|pwd|\w+pwd|pass|sshpass|userpass|session|sessionid|keys?"
)
"""Words that do so at the end of a name; `_HARMLESS` may stand before them."""

_VALUE_OF = re.compile(r"value|text|string|str|raw|b64|base64|encoded|[0-9]+")
"""What a name may end in besides: ``HF_TOKEN_2``."""

_HARMLESS = {
    "token": "pad padding mask eos bos unk sep cls start end stop special max min num n per",
    "key": "num n max min sort primary foreign public partition feature image label data dataset "
    "metric input output group index cache lookup join query row column col target state monitor "
    "text example unique hot by",
    "pass": "num n first second third single multi one two forward backward low high band per max",
    "auth": "use no enable disable require skip with has",
    "session": "tf desktop new per num n max",
}
_NO_SECRETS = ("PWD", "OLDPWD")
"""The shell's own variables: folders."""

_SHORTEST = 4
"""Characters of a value that is looked for everywhere: shorter ones are in any text, and are hidden
beside their names alone."""

_USER_INFO = re.compile(
    r"(?P<before>\b(?P<scheme>[a-z][a-z0-9+.-]*)://)(?P<info>[^/\s'\"<>?#]+)@", re.I
)
_CONDA_TOKEN = re.compile(r"(?P<before>://[^/\s]+(?:/[^/\s]+)*?/t/)(?P<info>[^/\s]+)(?=/)")
_QUERY = re.compile(r"(?P<before>[?&](?P<name>[\w.-]+)=)(?P<info>[^&\s'\"<>#]+)")
_QUERY_NAMES = ("sig", "signature", "code", "x-amz-signature", "x-goog-signature", "se-signature")

_SHAPES = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b               # Amazon
    | \bgh[pousr]_[A-Za-z0-9]{30,}                          # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{22,}
    | \bgl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,}  # GitLab
    | \bhf_[A-Za-z0-9]{30,}                                 # Hugging Face
    | \bsk-[A-Za-z0-9_-]{20,}                               # OpenAI, Anthropic
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,}                      # Slack
    | \bAIza[0-9A-Za-z_-]{35}                               # Google
    | \bya29\.[A-Za-z0-9_-]{20,}
    | \bnpm_[A-Za-z0-9]{36}
    | \bpypi-[A-Za-z0-9_-]{50,}
    | \b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}                # Stripe
    | \bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}          # SendGrid
    | \bdop_v1_[0-9a-f]{64}                                 # DigitalOcean
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+  # JSON web tokens
    | (?<=hooks\.slack\.com/services/)[A-Za-z0-9/]+
    | (?i:(?<=AccountKey=)|(?<=SharedAccessKey=)|(?<=SharedAccessSignature=))[^;\s"']+  # Azure
    | (?i:(?<=bearer\ )|(?<=authorization:\ basic\ )|(?<=authorization:\ token\ ))
      [A-Za-z0-9._~+/=-]{6,}
    """,
    re.VERBOSE,
)
"""Secrets that are known by their look."""

_LEAST = len("AccountKey=x")
"""Characters of the shortest text that has one of these."""

_ASSIGNED = re.compile(
    r"(?P<before>(?<![\w-])(?:--)?(?P<name>[A-Za-z_][\w.-]*)(?:=|:\s*|(?<=\w)\s+(?=['\"])))"
    r"(?P<info>\"[^\"]*\"|'[^']*'|[^\s;&|'\"]+)"
)


_LITERAL = re.compile(
    r"(?P<before>(?P<name>[A-Za-z_]\w{2,})['\"]?\]?\s*[=:]\s*[rbuf]?(?P<quote>['\"]))"
    r"(?P<info>[^'\"\n]{4,})(?=(?P=quote))"
)
_OPTION = re.compile(
    r"(?P<before>(?<!\S)(?P<name>--[A-Za-z][\w-]*)\s+)"
    r"(?P<info>\"[^\"]*\"|'[^']*'|[^\s;&|'\"-][^\s;&|]*)"
)


def is_secret(name: str) -> bool:
    """Whether a variable or an option is called as those are that hold secrets."""
    name = name.lstrip("-").partition("=")[0]
    if name in _NO_SECRETS:
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    if any(_ANYWHERE.fullmatch(word) for word in words) or words[-2:] == ["session", "id"]:
        return True
    if "connection" in words and "string" in words:
        return True
    while len(words) > 1 and _VALUE_OF.fullmatch(words[-1]):
        words.pop()
    if not words or not _AT_THE_END.fullmatch(words[-1]):
        return False
    harmless = _HARMLESS.get(words[-1].removesuffix("s") if words[-1] == "keys" else words[-1], "")
    return len(words) < 2 or words[-2] not in harmless.split()


def hidden(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text with what looks like a secret hidden, and the given secrets."""
    found = _without(text, HIDDEN)
    if len(text) >= _LEAST:
        found = _SHAPES.sub(HIDDEN, found)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            found = found.replace(secret, HIDDEN)
    return found


def hidden_in_shell(text: str) -> str:
    """Return shell lines, or an error's words, as `hidden` does, and the values of what is called
    as secrets are: ``export HF_TOKEN=...``."""

    def hide_value(match: re.Match[str]) -> str:
        return match["before"] + (HIDDEN if is_secret(match["name"]) else match["info"])

    text = hidden(text)  # before: of "Authorization: Bearer x" the value would be "Bearer"
    return _OPTION.sub(hide_value, _ASSIGNED.sub(hide_value, text))


def hidden_in_code(text: str) -> str:
    """Return code as `hidden` does, and literals that are assigned to what is called as secrets
    are: ``API_KEY = "..."``; a ``key`` alone is a parameter's."""

    def hide_literal(match: re.Match[str]) -> str:
        is_one = match["name"].lower() != "key" and is_secret(match["name"])
        return match["before"] + (HIDDEN if is_one else match["info"])

    return hidden(_LITERAL.sub(hide_literal, text))


def hidden_in_words(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text that may be a shell line, as those of a site's prologue, as `hidden` does."""
    return hidden(hidden_in_shell(text) if len(text.split()) > 1 else text, secrets)


def without_credentials(value: Any) -> Any:
    """Return plain data whose addresses have no passwords, and work for who has them elsewhere
    (netrc, a keyring); a tuple stays one."""
    if isinstance(value, str):
        return _without(value, "")
    if isinstance(value, dict):
        return {key: without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_credentials(inner) for inner in value)
    return value


def credentials_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the passwords and tokens of addresses, as they are written and as they are meant."""
    found = set()
    for text in texts:
        for match in _USER_INFO.finditer(text):
            user, colon, password = match["info"].partition(":")
            found |= {match["info"], password if colon else user}
        found |= {match["info"] for match in _CONDA_TOKEN.finditer(text)}
        found |= {m["info"] for m in _QUERY.finditer(text) if _is_secret_in_query(m["name"])}
    return frozenset(
        one for secret in found for one in (secret, unquote(secret)) if len(one) >= _SHORTEST
    )


def _without(text: str, instead: str) -> str:
    """Return a text with something instead of the passwords in its addresses."""
    if "://" not in text:
        return text

    def user_info(match: re.Match[str]) -> str:
        if match["scheme"].lower().endswith("ssh") and ":" not in match["info"]:
            return match[0]  # a name alone: git+ssh://git@
        if match["info"] == HIDDEN:
            return match[0]
        return f"{match['before']}{instead}@" if instead else match["before"]

    def query(match: re.Match[str]) -> str:
        return match["before"] + (instead if _is_secret_in_query(match["name"]) else match["info"])

    text = _USER_INFO.sub(user_info, text)
    text = _CONDA_TOKEN.sub(lambda match: match["before"] + (instead or "TOKEN"), text)
    return _QUERY.sub(query, text)


def _is_secret_in_query(name: str) -> bool:
    return name.lower() in _QUERY_NAMES or is_secret(name)


def secrets_of(variables: Mapping[str, str], commands: Iterable[list[str]]) -> set[str]:
    """Return the values of variables and options that are called as secrets are: in a command,
    ``--api-key X``, ``--api-key=X`` and ``--env API_KEY=X`` count."""
    found = {value for name, value in variables.items() if is_secret(name)}
    for words in commands:
        found |= {value for _, value in _values_in(words) if value is not None}
    return {value for value in found if len(value) >= _SHORTEST}


def _values_in(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each word's part before the value of what is called as a secret, and that value; of a
    word that has none, the whole word and None."""
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        inner, inner_equals, inner_value = value.partition("=")
        if equals and is_secret(name):
            yield f"{name}=", value
        elif inner_equals and name.startswith("--") and is_secret(inner):
            yield f"{name}={inner}=", inner_value  # --env=API_KEY=X
        elif before.startswith("--") and "=" not in before and is_secret(before):
            yield "", word
        else:
            yield word, None


def secrets_of_run(entry: Mapping[str, Any], record: Mapping[str, Any]) -> set[str]:
    """Return the secrets that a run's plan (its ``entry``) and record hold, as `secrets_of`."""
    commands = (record.get("command"), entry["command"])
    texts = [[str(word) for word in words] for words in commands if isinstance(words, list)]
    return secrets_of(entry["environment"], texts)


def labels(values: Any) -> dict[str, str]:
    """Return parameters or tags as texts, those hidden that are called as secrets are; what is not
    a mapping holds none."""
    if not isinstance(values, Mapping):
        return {}
    return {
        name: "" if value is None else HIDDEN if is_secret(name) else hidden(str(value))
        for name, value in values.items()
    }


def without_secrets(words: Iterable[str]) -> list[str]:
    """Return an argument vector with the values hidden of what is called as secrets are."""
    return [
        hidden_in_words(before) if value is None else before + HIDDEN
        for before, value in _values_in(list(words))
    ]


def hide(value: Any, secrets: set[str]) -> Any:
    """Return plain data with each secret in any of its texts replaced by `HIDDEN`, and what looks
    like one; what is under `EMBEDDED` stays, since it is no text."""
    if isinstance(value, str):
        return hidden(value, secrets)
    if isinstance(value, dict):
        return {
            hide(key, secrets): inner if key == EMBEDDED else hide(inner, secrets)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [hide(inner, secrets) for inner in value]
    return value


_SURE = 8
"""Characters of a value that is taken for the same secret wherever it stands in a document."""


def confided_values(document: Any) -> set[str]:
    """Return the secrets of plain data that are long enough to be found again elsewhere in it."""
    found = set(credentials_in(_texts(document)))
    for _, value, shown in _secret_places((), document):
        before, hides, after = shown.partition(HIDDEN)
        text = str(value)
        if hides and text.startswith(before) and text.endswith(after):
            found.add(text[len(before) : len(text) - len(after)])
    return {value for value in found if len(value) >= _SURE}


def confided(document: Any, known: Iterable[str]) -> tuple[Any, list[tuple[list[Any], Any]]]:
    """Return plain data without its secrets, and where each of them belongs; those `known` are
    hidden wherever they stand."""
    places = []
    for place, value, shown in _secret_places((), document, tuple(known)):
        places.append((list(place), value))
        document = _replaced(document, place, shown)
    return document, places


def _secret_places(
    place: tuple[Any, ...], value: Any, known: Iterable[str] = ()
) -> Iterator[tuple[tuple[Any, ...], Any, str]]:
    """Yield (place, value, what is shown instead) of all that is secret in plain data."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if is_secret(str(key)) and isinstance(inner, (str, int, float)) and inner != "":
                yield (*place, key), inner, HIDDEN
            else:
                yield from _secret_places((*place, key), inner, known)
    elif isinstance(value, (list, tuple)):
        texts = [inner if isinstance(inner, str) else "" for inner in value]
        for number, (inner, shown) in enumerate(zip(value, without_secrets(texts), strict=True)):
            if not isinstance(inner, str):
                yield from _secret_places((*place, number), inner, known)
            elif hidden(shown, known) != inner:
                yield (*place, number), inner, hidden(shown, known)
    elif isinstance(value, str) and hidden_in_words(value, known) != value:
        yield place, value, hidden_in_words(value, known)


def _replaced(document: Any, place: Sequence[Any], value: Any) -> Any:
    """Return plain data with another value at a place; the data itself stays as it is."""
    if not place:
        return value
    first, *rest = place
    copy = dict(document) if isinstance(document, Mapping) else list(document)
    copy[first] = _replaced(copy[first], rest, value)
    return copy


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def public(document: Any) -> Any:
    """Return plain data as others may see it."""
    return confided(document, confided_values(document))[0]
