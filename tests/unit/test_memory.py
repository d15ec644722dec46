"""The step that a run goes on from after ranks were lost is the newest that any survivor knows to be committed."""

from types import SimpleNamespace

from ranks import on_ranks

from distsoftmax.training.memory import Memory
from distsoftmax.training.result import Review


def proposed(memory, step):
    memory.propose(SimpleNamespace(step=step), Review())
    return memory


def test_there_is_nothing_to_recall_before_the_first_step_is_committed():
    assert on_ranks(2, lambda rank: proposed(Memory(), 0).recall(rank)) == [None, None]


def test_a_step_that_one_survivor_has_committed_is_committed_by_all():
    def work(rank):
        memory = proposed(Memory(), 4)
        memory.commit()
        proposed(memory, 5)
        if rank.rank == 1:
            memory.commit()
        return memory.recall(rank)[0].step

    assert on_ranks(3, work) == [5, 5, 5]


def test_a_step_that_no_survivor_has_committed_is_done_again():
    def work(rank):
        memory = proposed(Memory(), 4)
        memory.commit()
        return proposed(memory, 5).recall(rank)[0].step

    assert on_ranks(2, work) == [4, 4]
