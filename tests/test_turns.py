"""A worker's requests are answered in the order in which they came, light ones together."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from app.turns import MOST, Turns


class Network:
    """Gives back what it is given, and remembers how much that was; waits for `open`."""

    def __init__(self):
        self.sizes = []
        self.open = threading.Event()

    def __call__(self, pixels):
        self.open.wait(10)
        self.sizes.append(len(pixels))
        return pixels


def work(number, served=None, count=1):
    """Work whose answer is its number, as the network gave it back."""
    probabilities = yield np.full((count, 1), number)
    if served is not None:
        served.append(number)
    assert probabilities.shape == (count, 1)
    return int(probabilities[0, 0])


def failing(before):
    """Work that fails before the network or after it."""
    if before:
        raise ValueError("before")
    yield np.zeros((1, 1))
    raise ValueError("after")


class Crowd:
    """Requests that come one after the other while the first is at work."""

    def __init__(self, turns, network):
        self.turns, self.network = turns, network
        self.answers, self.threads = {}, []

    def come(self, name, steps, light=True):
        def ask():
            try:
                self.answers[name] = self.turns.do(steps, self.network, light=light)
            except ValueError as error:
                self.answers[name] = str(error)

        thread = threading.Thread(target=ask)
        waiting = len(self.turns._waiting)
        thread.start()
        self.threads.append(thread)
        while len(self.turns._waiting) == waiting and len(self.threads) > 1:
            time.sleep(0.001)
        while not self.turns._busy or (len(self.threads) == 1 and self.turns._waiting):
            time.sleep(0.001)

    def leave(self):
        self.network.open.set()
        for thread in self.threads:
            thread.join(10)
        assert not self.turns._busy


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def crowd(network):
    return Crowd(Turns(), network)


def test_those_who_wait_are_answered_in_their_order(crowd):
    served = []
    for number in range(20):
        crowd.come(number, work(number, served))
    crowd.leave()
    assert served == list(range(20))
    assert crowd.answers == {number: number for number in range(20)}


def test_light_requests_that_wait_go_through_the_network_together(crowd, network):
    for number in range(MOST + 3):
        crowd.come(number, work(number))
    crowd.leave()
    assert network.sizes == [1, MOST, 2]


def test_a_heavy_request_goes_alone(crowd, network):
    for number in range(6):
        crowd.come(number, work(number), light=number != 3)
    crowd.leave()
    assert network.sizes == [1, 2, 1, 2]
    assert crowd.answers == {number: number for number in range(6)}


def test_each_gets_the_answers_for_its_own_pictures(crowd, network):
    for number in range(5):
        crowd.come(number, work(number, count=number + 1))
    crowd.leave()
    assert network.sizes == [1, 2 + 3 + 4 + 5]
    assert crowd.answers == {number: number for number in range(5)}


def test_networks_are_not_mixed(crowd, network):
    other = Network()
    other.open.set()
    crowd.come(0, work(0))
    crowd.come(1, work(1))
    crowd.network = other
    crowd.come(2, work(2))
    crowd.network = network
    crowd.leave()
    assert (network.sizes, other.sizes) == ([1, 1], [1])


@pytest.mark.parametrize("before", [True, False])
def test_one_that_fails_leaves_the_others_their_answers(crowd, before):
    for number in range(3):
        crowd.come(number, work(number))
    crowd.come("bad", failing(before))
    crowd.come(4, work(4))
    crowd.leave()
    assert crowd.answers == {0: 0, 1: 1, 2: 2, 4: 4, "bad": "before" if before else "after"}


def test_a_network_that_fails_fails_all_who_went_together_and_no_one_after(crowd, network):
    def broken(pixels):
        network.open.wait(10)
        raise ValueError("broken")

    crowd.come(0, work(0))
    crowd.network = broken
    crowd.come(1, work(1))
    crowd.come(2, work(2))
    crowd.network = network
    crowd.come(3, work(3))
    crowd.leave()
    assert crowd.answers == {0: 0, 1: "broken", 2: "broken", 3: 3}


def test_a_thread_that_is_ended_leaves_no_one_waiting():
    turns = Turns()

    def ended():
        raise SystemExit
        yield

    with pytest.raises(SystemExit):
        turns.do(ended(), lambda pixels: pixels, light=True)
    assert turns.do(work(1), lambda pixels: pixels, light=True) == 1


def test_many_threads_all_get_their_answers():
    turns, wrong = Turns(), []

    def ask(number):
        for each in range(100):
            light = (number + each) % 3 > 0
            got = turns.do(work(each, count=1 + each % 4), lambda pixels: pixels, light=light)
            if got != each:
                wrong.append(each)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong
    assert not turns._busy
