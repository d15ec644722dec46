"""Trainings in this process, on any communicator, with what stands for signals and for the file system in memory."""

from distsoftmax.cluster.survival import surviving
from distsoftmax.coordinator import coordinator, folder, mirror
from distsoftmax.coordinator.saver import Saver
from distsoftmax.session import open_session
from distsoftmax.trainer import fit_and_save
from distsoftmax.training.signals import StopSignals


def signals_with(number):
    """Signals of which one has been received, without a handler."""
    signals = StopSignals.__new__(StopSignals)
    signals.received = number
    return signals


def trained(config, cluster):
    """Train, whichever ranks are lost, and return the model's digest."""
    with surviving(cluster, lambda: coordinator.Coordinator(config, cluster)) as own:
        session = surviving(cluster, lambda: open_session(config, cluster, signals_with(0), own))
        return fit_and_save(config, own, session)[1]


class SaverAtOnce(Saver):
    """Saves before the next step, so that what is kept does not depend on chance."""

    def save(self, write):
        super().save(write)
        self.wait()


def keep_every_step_in(memory, monkeypatch):
    """Make a folder that stands for the file system in memory, and keep the state of each step there."""
    memory.mkdir()
    for module in (coordinator, folder):
        monkeypatch.setattr(module, "MEMORY", memory)
    monkeypatch.setattr(mirror, "SHORTEST_SECONDS", 0.0)  # the folder lies on a disk, and a test's steps are quick
    monkeypatch.setattr(mirror, "SMALLEST_RATIO", 0.0)
    monkeypatch.setattr(mirror, "Saver", SaverAtOnce)
