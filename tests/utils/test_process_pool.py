"""The pool of worker processes: order, errors, and that no task keeps it from hearing a signal."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import process

import pytest

from pggan.utils import process_pool
from pggan.utils.process_pool import WorkerDied, ordered_map


def double(number):
    return 2 * number


def hang(number):
    """Sleeps deaf to signals, as a decoder written in C is."""
    if number:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        time.sleep(600)
    return os.getpid()


def die(number):
    os._exit(1)


def fail(number):
    raise TimeoutError("of the work")


@pytest.mark.long
def test_results_come_in_order():
    assert list(ordered_map(double, range(50), 2)) == [2 * i for i in range(50)]
    assert not multiprocessing.active_children()


@pytest.mark.long
@pytest.mark.parametrize("work, error", [(die, WorkerDied), (fail, TimeoutError)])
def test_what_ends_a_worker_or_its_work_is_raised(work, error):
    with pytest.raises(error, match=r"fewer --workers|of the work"):
        list(ordered_map(work, range(5), 1, inline=False))
    assert not multiprocessing.active_children()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_workers_that_hear_none(number, monkeypatch):
    monkeypatch.setattr(process_pool, "GRACE_SECONDS", 0.3)
    handled = []
    before = signal.signal(number, lambda *_: handled.append(number))
    try:
        results = ordered_map(hang, [0, 1, 1, 1], 1, inline=False)
        pid = next(results)
        sender = threading.Timer(0.3, os.kill, [os.getpid(), number])
        sender.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert time.monotonic() - start < 60  # not the ten minutes of the task
    finally:
        signal.signal(number, before)
    assert handled == [number]
    assert not multiprocessing.active_children()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.long
def test_a_signal_between_two_results_waits_for_no_task(monkeypatch):
    monkeypatch.setattr(process_pool, "GRACE_SECONDS", 0.3)
    results = ordered_map(hang, [0, 1], 1, inline=False)
    next(results)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert not multiprocessing.active_children()


@pytest.mark.long
def test_items_under_way_weigh_no_more_than_the_limit(monkeypatch):
    monkeypatch.setattr(process_pool, "MAX_BYTES_UNDER_WAY", 25)
    taken = []

    def items():
        for number in range(12):
            taken.append(number)
            yield number

    weights = [10] * 10 + [1000, 10]
    done = 0
    for result in ordered_map(double, items(), 2, weigh=lambda number: weights[number]):
        assert result == 2 * done
        assert len(taken) - done <= 3  # two under way, and the one that waits
        done += 1
    assert done == 12


def test_a_system_without_semaphores_gets_one_process_and_a_note(monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process_pool, "ProcessPoolExecutor", refuse)
    for inline in (True, False):
        assert list(process_pool.ordered_map(abs, [-1, 2, -3], 2, inline=inline)) == [1, 2, 3]
    err = capsys.readouterr().err
    assert "one process does the work" in err
    assert "/dev/shm" in err


def test_a_process_that_cannot_be_started_names_the_option(monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(process_pool.ProcessPoolExecutor, "submit", refuse)
    with pytest.raises(process_pool.WorkerDied, match=r"could not be started .*fewer --workers"):
        list(process_pool.ordered_map(abs, [1], 2))


def test_a_pool_whose_feeding_thread_ended_is_told(monkeypatch):
    """As where memory is too short to start a thread: nobody would ever finish a task."""
    monkeypatch.setattr(process._ExecutorManagerThread, "run", lambda self: None)
    with pytest.raises(WorkerDied, match="what feeds the worker processes ended"):
        list(ordered_map(double, range(4), 2))
