"""What a power cut may do to a folder, read off recorded lists of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.disk import Mount, Refused, dangers_of, mount_of, write_cache_of

# Recorded on Debian 12; the last line lies over the one before it.
RECORDED = r"""22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
36 28 0:31 / /dev/shm rw,nosuid,nodev shared:4 - tmpfs tmpfs rw,inode64
94 28 0:44 / /srv/books rw,relatime shared:50 - nfs4 nas:/books rw,vers=4.2,rsize=1048576,hard,proto=tcp
95 28 0:45 / /srv/share rw,relatime - cifs //nas/share rw,vers=3.1.1,cache=strict
96 28 0:46 / /srv/far rw,nosuid,nodev,relatime shared:51 - fuse.sshfs op@far:/ rw,user_id=0,group_id=0
97 28 8:17 / /srv/stick rw,relatime - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,allow_other,blksize=4096
98 28 8:33 / /srv/usb\040stick rw,relatime - vfat /dev/sdc1 rw,fmask=0022
99 28 8:49 / /srv/fast rw,noatime - ext4 /dev/sdd1 rw,nobarrier,data=writeback
100 28 8:65 / /srv/fast2 rw,noatime - xfs /dev/sde1 rw,attr2,nobarrier,inode64
101 28 0:52 / /srv/box rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
102 28 259:3 / /var/lib rw,relatime shared:60 - xfs /dev/nvme0n1p3 rw,attr2,inode64
103 28 259:2 /old /var/lib ro,relatime shared:61 - ext4 /dev/nvme0n1p2 rw
"""


def mount(folder):
    found = mount_of(Path(folder), RECORDED)
    assert found is not None
    return found


def test_the_nearest_mount_counts_and_the_later_of_two():
    assert mount("/home/operator").source == "/dev/nvme0n1p2"
    assert mount("/srv/bookshelf").point == "/"
    assert mount("/srv/books/station").kind == "nfs4"
    assert mount("/srv/usb stick/x").kind == "vfat"
    assert mount("/var/lib/print-agent") == Mount(
        "259:2",
        "/var/lib",
        "ext4",
        "/dev/nvme0n1p2",
        frozenset({"ro", "rw", "relatime"}),
    )


def test_a_kernel_that_tells_nothing_is_no_fault():
    assert mount_of(Path("/var/lib"), "") is None


def test_the_machine_of_the_test_tells_its_own():
    found = mount_of(Path.cwd())
    assert found is not None
    assert Path.cwd().is_relative_to(found.point)


@pytest.mark.parametrize("folder", ["/srv/books", "/srv/share", "/srv/far"])
def test_a_journal_on_a_network_file_system_is_refused(folder):
    with pytest.raises(Refused, match="local disk"):
        dangers_of(mount(folder))


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("/", []),
        ("/dev/shm/x", ["memory"]),
        ("/srv/stick", ["user space"]),
        ("/srv/usb stick", ["no journal"]),
        ("/srv/fast", ["nobarrier", "data=writeback"]),
        ("/srv/fast2", ["nobarrier"]),
        ("/srv/box", ["layered"]),
    ],
)
def test_what_a_power_cut_may_take_is_told(folder, words):
    dangers = dangers_of(mount(folder))
    assert len(dangers) == len(words)
    for danger, word in zip(dangers, words, strict=True):
        assert word in danger
        assert ";" in danger, "it says what to do"


def test_a_partition_has_its_disks_cache(tmp_path):
    disk = tmp_path / "devices" / "nvme0n1"
    partition = disk / "nvme0n1p2"
    partition.mkdir(parents=True)
    (disk / "queue").mkdir()
    (disk / "queue" / "write_cache").write_text("write back\n")
    block = tmp_path / "block"
    block.mkdir()
    (block / "259:2").symlink_to(partition)
    (block / "259:0").symlink_to(disk)
    assert write_cache_of(mount("/"), devices=block) == "write back"
    whole = Mount("259:0", "/", "ext4", "/dev/nvme0n1", frozenset())
    assert write_cache_of(whole, devices=block) == "write back"
    assert write_cache_of(mount("/dev/shm"), devices=block) is None
