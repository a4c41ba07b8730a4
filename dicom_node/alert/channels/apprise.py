"""Everything that apprise can talk to: e-mail, webhooks, chat, push services."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, PersistentStoreMode
from apprise.manager_plugins import NotificationManager

from dicom_node.alert.catalogue import Channel, Message, failed, unusable

READ_TIMEOUT_S = 15.0
WHOLE_TIMEOUT_S = 30.0
"""Whatever a plug-in does, after this time the message counts as not taken (it may still arrive)."""

TYPES = {"urgent": NotifyType.FAILURE, "attention": NotifyType.WARNING, "information": NotifyType.INFO}
SHORTEST_SECRET = 4

# What plug-ins say may hold parts of the URL; it is told with the message's fate instead, after redaction.
logging.getLogger("apprise").propagate = False


class AppriseKind:
    """Opens a channel for any URL that apprise knows."""

    @cached_property
    def schemes(self) -> frozenset[str]:
        return frozenset(NotificationManager().schemas())  # type: ignore[no-untyped-call]  # apprise's own

    def open(self, url: str) -> Channel:
        # No pictures are fetched, no redirection is followed, nothing is kept on disk: only the channel is talked to.
        asset = AppriseAsset(
            app_id="triage-node",
            app_desc="triage-node",
            app_url="",
            image_url_mask="",
            image_url_logo="",
            http_redirects=False,
            allow_templates=False,
            storage_mode=PersistentStoreMode.MEMORY,
            service_timeout=WHOLE_TIMEOUT_S,
        )
        plugin = Apprise.instantiate(url, asset=asset)
        if plugin is None:
            raise unusable(url.partition("://")[0], "the URL is not complete or not valid")
        if "rto=" not in url:
            plugin.socket_read_timeout = READ_TIMEOUT_S
        return AppriseChannel(_name(plugin), url, plugin, asset)


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """One URL of apprise's."""

    name: str
    url: str
    plugin: Any
    asset: Any

    def send(self, message: Message) -> None:
        sender = Apprise(asset=self.asset)
        sender.add(self.plugin)
        result = sender.notify(
            title=message.title, body=message.text, body_format=NotifyFormat.TEXT, notify_type=TYPES[message.urgency]
        )
        if not result:
            said = [entry.message for entry in result.logs() if entry.level in ("ERROR", "WARNING", "CRITICAL")]
            raise failed(self.name, _redacted(" ".join(said), self.url) or "it does not say why")


def _name(plugin: Any) -> str:
    """Scheme and host, as far as they are no secret: some services have their token where others have the host."""
    masked = urlsplit(plugin.url(privacy=True))
    return f"{masked.scheme}://{masked.netloc.rpartition('@')[2].partition(':')[0]}"


def _redacted(text: str, url: str) -> str:
    """The text without user, password, path and query values of the URL."""
    parts = urlsplit(url)
    secret = re.split(r"[/?&=@:#,]", url.replace(parts.hostname or "", "", 1).partition("://")[2])
    for word in sorted({*secret, *map(unquote, secret)}, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, "***")
    return text.strip()


KIND = AppriseKind()
