"""A worker's requests are answered one at a time, in the order in which they came."""

from __future__ import annotations

import threading
import time

from app.predict import InTurn


def test_those_who_wait_are_served_in_their_order():
    turns, served = InTurn(), []

    def wait(number: int) -> None:
        with turns:
            served.append(number)

    threads = []
    with turns:
        for number in range(20):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert served == list(range(20))


def test_one_at_a_time_and_free_again_after_a_failure():
    turns, inside, most = InTurn(), [], []

    def work() -> None:
        for _ in range(200):
            try:
                with turns:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    raise ValueError
            except ValueError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 1600
    assert max(most) == 1
    assert not turns._taken
