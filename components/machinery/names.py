"""What names may look like: labels, subdomains, qualified names, keys, ports and addresses.

Every check returns the list of what is wrong with the text, empty when nothing is; callers turn the messages
into findings with a path. The rules are those of the Kubernetes API ("Object Names and IDs", "Labels and
Selectors"), RFC 1035 and RFC 1123.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

NameCheck = Callable[[str], list[str]]

LABEL_MAX = 63
SUBDOMAIN_MAX = 253
GENERATED_LENGTH = 5
_GENERATED_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and nothing that looks like a vowel, so that no word can appear."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_label_1035 = re.compile(_LABEL_1035).fullmatch
_qualified = re.compile(_QUALIFIED).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch
_wildcard = re.compile(r"\*\." + _SUBDOMAIN).fullmatch
_http_path = re.compile(_HTTP_PATH).fullmatch
_http_header = re.compile(_HTTP_HEADER).fullmatch
_percent = re.compile(_PERCENT).fullmatch
_port_characters = re.compile("[-a-z0-9]+").fullmatch
_some_letter = re.compile("[a-z]").search
_printable_not_equals = re.compile(r"[ -<>-~]+").fullmatch

LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    f"and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
    f"validation is '{_LABEL}')"
)
SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_SUBDOMAIN}')"
)
LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    f"validation is '{_LABEL_1035}')"
)
_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_LABEL_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    f"for validation is '({_QUALIFIED})?')"
)
_CONFIG_KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    f"'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
)
_WILDCARD_MESSAGE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
    "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. "
    rf"'*.example.com', regex used for validation is '\*\.{_SUBDOMAIN}')"
)
PERCENT_MESSAGE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
    f"used for validation is '{_PERCENT}')"
)
ADDRESS_MESSAGE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_MESSAGE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
DOMAIN_PREFIXED_MESSAGE = 'must be a domain-prefixed path (such as "acme.io/foo")'


def _too_long(limit: int, unit: str = "characters") -> str:
    return f"must be no more than {limit} {unit}"


@lru_cache(maxsize=8192)
def _label_problems(text: str) -> tuple[str, ...]:
    problems = []
    if len(text) > LABEL_MAX:
        problems.append(_too_long(LABEL_MAX))
    if not _label(text):
        problems.append("must not contain dots" if _subdomain(text) else LABEL_MESSAGE)
    return tuple(problems)


def dns1123_label(text: str) -> list[str]:
    """What keeps the text from being an RFC 1123 label: a container, a volume, a namespace."""
    return list(_label_problems(text))


@lru_cache(maxsize=8192)
def _subdomain_problems(text: str) -> tuple[str, ...]:
    problems = []
    if len(text) > SUBDOMAIN_MAX:
        problems.append(_too_long(SUBDOMAIN_MAX))
    if not _subdomain(text):
        problems.append(SUBDOMAIN_MESSAGE)
    return tuple(problems)


def dns1123_subdomain(text: str) -> list[str]:
    """What keeps the text from being an RFC 1123 subdomain: the name of most objects."""
    return list(_subdomain_problems(text))


def dns1035_label(text: str) -> list[str]:
    """What keeps the text from being an RFC 1035 label: the plural name of a custom resource."""
    problems = []
    if len(text) > LABEL_MAX:
        problems.append(_too_long(LABEL_MAX))
    if not _label_1035(text):
        problems.append(LABEL_1035_MESSAGE)
    return problems


def wildcard_subdomain(text: str) -> list[str]:
    """What keeps the text from being a wildcard host such as `*.example.com`."""
    problems = []
    if len(text) > SUBDOMAIN_MAX:
        problems.append(_too_long(SUBDOMAIN_MAX))
    if not _wildcard(text):
        problems.append(_WILDCARD_MESSAGE)
    return problems


def dns1123_subdomain_with_underscore(text: str) -> list[str]:
    """A subdomain whose labels may also hold underscores, as DNS search paths do."""
    return dns1123_subdomain(text.replace("_", "0"))


@lru_cache(maxsize=8192)
def _qualified_problems(text: str) -> tuple[str, ...]:
    parts = text.split("/")
    problems = []
    if len(parts) == 2:
        prefix = parts[0]
        if not prefix:
            problems.append("prefix part must be non-empty")
        else:
            problems += [f"prefix part {problem}" for problem in _subdomain_problems(prefix)]
    elif len(parts) > 2:
        return (
            f"a qualified name {_QUALIFIED_MESSAGE} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    name = parts[-1]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > LABEL_MAX:
        problems.append(f"name part {_too_long(LABEL_MAX)}")
    if not _qualified(name):
        problems.append(f"name part {_QUALIFIED_MESSAGE}")
    return tuple(problems)


def qualified_name(text: str) -> list[str]:
    """What keeps the text from being `[prefix/]name`: label keys, annotation keys, condition types."""
    return list(_qualified_problems(text))


@lru_cache(maxsize=8192)
def _label_value_problems(text: str) -> tuple[str, ...]:
    problems = []
    if len(text) > LABEL_MAX:
        problems.append(_too_long(LABEL_MAX, "bytes"))
    if text and not _qualified(text):
        problems.append(_LABEL_VALUE_MESSAGE)
    return tuple(problems)


def label_value(text: str) -> list[str]:
    """What keeps the text from being the value of a label; empty text is one."""
    return list(_label_value_problems(text))


def config_key(text: str) -> list[str]:
    """What keeps the text from being a key of a ConfigMap or a Secret, which becomes a file name."""
    problems = []
    if len(text) > SUBDOMAIN_MAX:
        problems.append(_too_long(SUBDOMAIN_MAX))
    if not _config_key(text):
        problems.append(_CONFIG_KEY_MESSAGE)
    return problems + _directory_steps(text)


def _directory_steps(text: str) -> list[str]:
    if text == ".":
        return ["must not be '.'"]
    if text == "..":
        return ["must not be '..'"]
    if text.startswith(".."):
        return ["must not start with '..'"]
    return []


def environment_variable(text: str) -> list[str]:
    """What keeps the text from naming an environment variable."""
    if _printable_not_equals(text):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
    ]


def port_name(text: str) -> list[str]:
    """What keeps the text from being a port name (RFC 6335 service name)."""
    problems = []
    if len(text) > 15:
        problems.append(_too_long(15))
    if not _port_characters(text):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _some_letter(text):
        problems.append("must contain at least one letter (a-z)")
    if "--" in text:
        problems.append("must not contain consecutive hyphens")
    if text and (text[0] == "-" or text[-1] == "-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(number: int) -> list[str]:
    """What keeps the number from being a port."""
    return [] if 1 <= number <= 65535 else ["must be between 1 and 65535, inclusive"]


def path_segment(text: str) -> list[str]:
    """What keeps the text from being one segment of a URL path: the least that any object's name must be."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{mark}'" for mark in "/%" if mark in text]


def percent(text: str) -> list[str]:
    """What keeps the text from being a percentage such as `25%`."""
    return [] if _percent(text) else [PERCENT_MESSAGE]


def http_header(text: str) -> list[str]:
    """What keeps the text from being the name of an HTTP header."""
    if _http_header(text):
        return []
    return [
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex "
        f"used for validation is '{_HTTP_HEADER}')"
    ]


def domain_prefixed_path(text: str) -> list[str]:
    """What keeps the text from being `domain/path`, as controllers name themselves."""
    if not text:
        return ["must not be empty"]
    domain, slash, path = text.partition("/")
    if not (slash and domain and path):
        return [DOMAIN_PREFIXED_MESSAGE]
    problems = dns1123_subdomain(domain)
    if not _http_path(path):
        problems.append(f"Invalid path (regex used for validation is '{_HTTP_PATH}')")
    return problems


def fully_qualified_domain(text: str, segments: int = 3) -> list[str]:
    """What keeps the text from being a domain of at least that many segments, as webhooks are named."""
    problems = dns1123_subdomain(text)
    if not problems and text.count(".") < segments - 1:
        words = {2: "two", 3: "three"}[segments]
        problems.append(f"should be a domain with at least {words} segments separated by dots")
    return problems


def ip_address(text: str) -> list[str]:
    """What keeps the text from being an IPv4 or IPv6 address."""
    return [] if parse_address(text) is not None else [ADDRESS_MESSAGE]


@lru_cache(maxsize=4096)
def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None when the text is not one (zone suffixes are refused, as the API does)."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def cidr(text: str) -> list[str]:
    """What keeps the text from being a network such as `10.0.0.0/8`; host bits may be set."""
    return [] if parse_network(text) is not None else [CIDR_MESSAGE]


@lru_cache(maxsize=1024)
def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network the text lies in, or None when it is not a CIDR."""
    if "/" not in text or not text.rpartition("/")[2].isdigit():
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class Choices(Protocol):
    """The part of a random source that generated names need."""

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 to stop - 1."""
        ...


def generate_name(base: str, rng: Choices) -> str:
    """`base` with five random characters behind it, cut so that the result is a label's length at most."""
    kept = base[: LABEL_MAX - GENERATED_LENGTH]
    size = len(_GENERATED_ALPHABET)
    return kept + "".join(_GENERATED_ALPHABET[rng.randrange(size)] for _ in range(GENERATED_LENGTH))
