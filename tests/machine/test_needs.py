"""What a machine needs beyond packages and drivers: room on its disk, where the run fills it."""

from dataclasses import dataclass

from stj.machine.needs import MachineNeeds


@dataclass(frozen=True)
class FullDisk:
    def fault(self) -> str | None:
        return "training writes 212 GB and 10 GB are free"


def test_a_full_disk_is_a_fault_of_a_machine_that_does_the_work() -> None:
    needs = MachineNeeds(room=FullDisk())
    assert needs.fault() == needs.without_gpu().fault() == "training writes 212 GB and 10 GB are free"
    assert MachineNeeds(gpu=True, room=FullDisk()).without_gpu().fault() is None  # a head fetches no model
