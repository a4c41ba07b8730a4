from __future__ import annotations

import pytest

from dicom_node.alert.catalogue import ChannelError, Message, catalogue, open_channels
from dicom_node.alert.channels.apprise import _redacted

MESSAGE = Message("title", "text", "urgent")


def test_the_kinds_are_found_by_scanning() -> None:
    assert {"json", "jsons", "mailto", "mailtos", "slack", "ntfy"} <= catalogue().keys()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("json://user:secret@hooks.example.org:8080/path/token", "json://hooks.example.org"),
        ("mailtos://me:secret@example.org?to=doctor@example.org", "mailtos://example.org"),
    ],
)
def test_a_channel_is_named_by_scheme_and_host(url: str, name: str) -> None:
    [channel] = open_channels([url])
    assert (channel.name, channel.problem) == (name, None)


def test_a_token_in_the_place_of_the_host_is_masked() -> None:
    [channel] = open_channels(["slack://TokenA1234/TokenB5678/TokenC9123456789012345678/#chan"])
    assert "TokenA1234" not in channel.name and channel.name.startswith("slack://")


def test_channels_of_one_name_are_told_apart() -> None:
    urls = ["json://h/one", "json://h/two", "nosuch://x", "nosuch://y", "json://h/three"]
    assert [one.name for one in open_channels(urls)] == ["json://h", "json://h#2", "nosuch", "nosuch#2", "json://h#3"]


@pytest.mark.parametrize("url", ["json://", "nosuch://secret", "secret", "mailto://nobody"])
def test_a_url_that_cannot_be_used_fails_with_its_reason_and_without_its_secret(url: str) -> None:
    [channel] = open_channels([url])
    assert channel.problem is not None and channel.problem.code == "alert.channel_unusable"
    with pytest.raises(ChannelError) as caught:
        channel.send(MESSAGE)
    assert "secret" not in str(caught.value)


def test_secrets_are_taken_out_of_what_a_plug_in_says() -> None:
    url = "json://user:p%40ssword@hooks.example.org/path/T0ken?key=value99"
    said = "hooks.example.org/path/T0ken said p@ssword and value99 are wrong for user"
    assert _redacted(said, url) == "hooks.example.org/***/*** said *** and *** are wrong for ***"
