"""What an operator may ask of alert rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dicom_node.alert.catalogue import ChannelError, open_channels
from dicom_node.alert.message import compose_test
from dicom_node.settings import AlertRule, Settings
from pipelines.reasons import Reason


@dataclass(frozen=True, slots=True)
class ChannelAnswer:
    """Whether a channel works; `reason` says why not."""

    channel: str
    reason: Reason | None


def check_channels(rule: AlertRule) -> tuple[ChannelAnswer, ...]:
    """Whether the channels of a rule can be opened. Nothing is sent."""
    channels = open_channels(url.get_secret_value() for url in rule.channels)
    return tuple(ChannelAnswer(channel.name, channel.problem) for channel in channels)


def send_test(rule: str, settings: Settings, now: datetime) -> tuple[ChannelAnswer, ...]:
    """Send a message that says it is a test through every channel of a rule."""
    message = compose_test(rule, settings.node.ae_title, now)
    answers = []
    for channel in open_channels(url.get_secret_value() for url in settings.alerts[rule].channels):
        try:
            channel.send(message)
            answers.append(ChannelAnswer(channel.name, None))
        except ChannelError as error:
            answers.append(ChannelAnswer(channel.name, error.reason))
    return tuple(answers)
