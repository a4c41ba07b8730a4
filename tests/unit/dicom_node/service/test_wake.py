from __future__ import annotations

import threading
from pathlib import Path

from dicom_node.service.wake import Notifier, listen


def test_a_wake_up_sets_every_event(tmp_path: Path) -> None:
    events = [threading.Event(), threading.Event()]
    listen(tmp_path, events)
    Notifier(tmp_path)()
    assert all(event.wait(10) for event in events)


def test_nodes_with_other_spools_are_left_alone(tmp_path: Path) -> None:
    mine, other = threading.Event(), threading.Event()
    listen(tmp_path / "mine", [mine])
    listen(tmp_path / "other", [other])
    Notifier(tmp_path / "mine")()
    assert mine.wait(10)
    assert not other.is_set()


def test_a_long_path_and_a_link_to_it_are_the_same_node(tmp_path: Path) -> None:
    spool = tmp_path / ("long" * 40) / ("path" * 40)
    spool.mkdir(parents=True)
    (tmp_path / "link").symlink_to(spool)
    event = threading.Event()
    listen(spool, [event])
    Notifier(tmp_path / "link")()
    assert event.wait(10)


def test_waking_nobody_fails_and_waits_for_nothing(tmp_path: Path) -> None:
    Notifier(tmp_path)()


def test_more_wake_ups_than_are_taken_do_not_hold_up_the_sender(tmp_path: Path) -> None:
    event = threading.Event()
    listen(tmp_path, [event])
    notify = Notifier(tmp_path)
    for _ in range(2000):
        notify()
    assert event.wait(10)
