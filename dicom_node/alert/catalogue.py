"""Finds the kinds of alert channel by scanning `channels`: a module of it exports its kind as `KIND`."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from dicom_node.alert import channels
from pipelines.reasons import Reason, TriageError


@dataclass(frozen=True, slots=True)
class Message:
    """What a person reads. The title fits on a phone's lock screen; the text is plain."""

    title: str
    text: str
    urgency: Literal["urgent", "attention", "information"]


class ChannelError(TriageError):
    """The channel did not take the message, or cannot be used at all."""


class Channel(Protocol):
    """A way to a person. `name` says which one, without its secrets."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> None:
        """Hand the message over, in bounded time. Raises `ChannelError`."""
        ...


class Kind(Protocol):
    """A medium, for the URLs of its schemes."""

    @property
    def schemes(self) -> frozenset[str]: ...

    def open(self, url: str) -> Channel:
        """The channel behind a URL; nothing is sent yet. Raises `ChannelError` for a URL that cannot be used."""
        ...


@cache
def catalogue() -> Mapping[str, Kind]:
    """All kinds of channel by scheme. Two that claim one scheme are a programming error (`ValueError`)."""
    found: dict[str, Kind] = {}
    for module in pkgutil.iter_modules(channels.__path__, f"{channels.__name__}."):
        kind: Kind = importlib.import_module(module.name).KIND
        if twice := kind.schemes & found.keys():
            raise ValueError(f"two kinds of channel claim {', '.join(sorted(twice))}")
        found.update(dict.fromkeys(kind.schemes, kind))
    return found


@dataclass(frozen=True, slots=True)
class RuleChannel:
    """A channel under a name that no other of its rule has. One that cannot be opened fails at every message, so that
    the others of its rule work on and the reason stays visible."""

    name: str
    opened: Channel | ChannelError

    @property
    def problem(self) -> Reason | None:
        """Why it cannot be used, as far as its URL alone tells."""
        return self.opened.reason if isinstance(self.opened, ChannelError) else None

    def send(self, message: Message) -> None:
        if isinstance(self.opened, ChannelError):
            raise self.opened
        self.opened.send(message)


def open_channels(urls: Iterable[str]) -> tuple[RuleChannel, ...]:
    """The channels of a rule. Of several with one name the second is called `name#2`, and so on."""
    seen: Counter[str] = Counter()
    named = []
    for opened in map(_open, urls):
        name = str(opened.reason.facts["channel"]) if isinstance(opened, ChannelError) else opened.name
        seen[name] += 1
        named.append(RuleChannel(name if seen[name] == 1 else f"{name}#{seen[name]}", opened))
    return tuple(named)


def _open(url: str) -> Channel | ChannelError:
    scheme = url.partition("://")[0].lower() if "://" in url else "no scheme"
    kind = catalogue().get(scheme)
    if kind is None:
        return unusable(scheme, "there is no channel of this kind")
    try:
        return kind.open(url)
    except ChannelError as error:
        return error


def unusable(channel: str, detail: str) -> ChannelError:
    """For a URL that no message can be sent to."""
    return ChannelError(Reason("alert.channel_unusable", {"channel": channel, "detail": detail}))


def failed(channel: str, detail: str) -> ChannelError:
    """For a message that was not taken."""
    return ChannelError(Reason("alert.channel_failed", {"channel": channel, "detail": detail}))
