"""A saver whose saves do not depend on chance."""

from distsoftmax.coordinator.saver import Saver


class SaverAtOnce(Saver):
    """Saves before the next step."""

    def save(self, write):
        super().save(write)
        self.wait()
