from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from transforms.pools import Budget, Pool, Task, decode_pool, processors, read_pool

WAIT = 20  # seconds after which a test that hangs fails


def test_one_thread_runs_tasks_in_order() -> None:
    pool, done, order = Pool("test", 1), threading.Event(), []
    for number in range(50):
        pool.submit(Task(lambda number=number: order.append(number)))
    pool.submit(Task(done.set))
    assert done.wait(WAIT)
    assert order == list(range(50))


def test_as_many_tasks_at_once_as_threads() -> None:
    pool, together = Pool("test", 3), threading.Barrier(4)
    for _ in range(3):
        pool.submit(Task(together.wait))
    together.wait(WAIT)


def test_a_task_given_up_is_replaced_by_a_new_thread_and_ends_its_own() -> None:
    pool = Pool("test", 1)
    hangs, release, after = threading.Event(), threading.Event(), threading.Event()
    stuck: list[threading.Thread] = []

    def hang() -> None:
        stuck.append(threading.current_thread())
        hangs.set()
        release.wait(WAIT)

    task = Task(hang)
    pool.submit(task)
    assert hangs.wait(WAIT)
    ran: list[threading.Thread] = []

    def follow() -> None:
        ran.append(threading.current_thread())
        after.set()

    pool.submit(Task(follow))
    assert not after.is_set()
    pool.give_up(task)
    assert after.wait(WAIT)
    assert ran != stuck
    release.set()
    stuck[0].join(WAIT)
    assert not stuck[0].is_alive()
    assert ran[0].is_alive()


def test_a_hanging_thread_does_not_keep_the_process() -> None:
    program = (
        "import threading\n"
        "from transforms.pools import Pool, Task\n"
        "began = threading.Event()\n"
        "def hang():\n    began.set()\n    threading.Event().wait()\n"
        "Pool('test', 1).submit(Task(hang))\n"
        "began.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=WAIT, check=False).returncode == 0


def test_pools_are_the_process_own() -> None:
    assert read_pool() is read_pool()
    assert decode_pool() is decode_pool(processors())
    assert decode_pool(5) is decode_pool(5)
    assert decode_pool(5) is not read_pool()


def test_processors_are_those_this_process_may_use() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)


# Budgets.


def hold_in_thread(budget: Budget, amount: int) -> tuple[threading.Event, threading.Event, threading.Thread]:
    """A thread that holds `amount`: an event for when it has it, one to let it go, the thread."""
    has, release = threading.Event(), threading.Event()

    def work() -> None:
        with budget.hold(amount):
            has.set()
            release.wait(WAIT)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return has, release, thread


def test_what_fits_is_held_at_once() -> None:
    budget = Budget(10)
    with budget.hold(4), budget.hold(6):
        assert budget.exhausted
    assert not budget.exhausted


def test_what_does_not_fit_waits_until_it_does() -> None:
    budget = Budget(10)
    with budget.hold(6):
        has, release, thread = hold_in_thread(budget, 5)
        small, small_release, small_thread = hold_in_thread(budget, 4)
        assert small.wait(WAIT)
        assert not has.is_set()
    small_release.set()
    small_thread.join(WAIT)
    assert has.wait(WAIT)
    release.set()
    thread.join(WAIT)
    assert budget._held == 0


def test_what_is_larger_than_the_budget_gets_through_alone() -> None:
    budget = Budget(10)
    with budget.hold(1):
        has, release, thread = hold_in_thread(budget, 1000)
        assert not has.wait(0)
    assert has.wait(WAIT)
    assert budget.exhausted
    release.set()
    thread.join(WAIT)


def test_an_error_gives_back_what_was_held() -> None:
    budget = Budget(10)
    with pytest.raises(ZeroDivisionError), budget.hold(10):
        _ = 1 / 0
    assert budget._held == 0


def test_adding_does_not_wait_and_wakes_who_does() -> None:
    budget = Budget(10)
    budget.add(25)
    assert budget.exhausted
    has, release, thread = hold_in_thread(budget, 8)
    assert not has.wait(0)
    budget.add(-25)
    assert has.wait(WAIT)
    release.set()
    thread.join(WAIT)


def test_many_holders_never_exceed_the_limit() -> None:
    budget, guard = Budget(7), threading.Lock()
    held, most = [0], [0]

    def work() -> None:
        for amount in (1, 3, 2, 5, 7):
            with budget.hold(amount):
                with guard:
                    held[0] += amount
                    most[0] = max(most[0], held[0])
                with guard:
                    held[0] -= amount

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert held == [0]
    assert 1 <= most[0] <= 7
