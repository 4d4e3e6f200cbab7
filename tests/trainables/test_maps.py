"""Mapped arrays go to workers by the names of their files."""

import numpy as np
import pytest

from trainables.maps import files_of, joined, opened, place_of, sent


@pytest.fixture
def mapped(tmp_path):
    images = np.arange(20 * 12, dtype=np.uint8).reshape(20, 3, 2, 2)
    np.save(tmp_path / "images.npy", images)
    return images, np.load(tmp_path / "images.npy", mmap_mode="r")


def test_a_part_of_a_file_is_found_again_by_its_place(mapped, tmp_path):
    images, whole = mapped
    _, part, _ = np.split(whole, [6, 15])
    assert place_of(part) == (str(tmp_path / "images.npy"), "|u1", (9, 3, 2, 2), place_of(whole)[3] + 6 * 12)
    for array in (part, np.ascontiguousarray(part), np.asarray(part)[2:]):  # views of other classes too
        again = opened(place_of(array))
        assert isinstance(again, np.memmap) and not again.flags.writeable
        assert np.array_equal(again, array)
    assert np.array_equal(opened(place_of(part)), images[6:15])


def test_an_array_that_is_not_a_slice_of_a_file_is_sent_whole(mapped):
    images, whole = mapped
    assert place_of(images) is None
    for scattered in (whole[::2], whole[[3, 1]], whole.transpose(1, 0, 2, 3)):
        assert place_of(scattered) is None
        again = opened(sent(scattered))
        assert type(again) is np.ndarray and np.array_equal(again, scattered)


def test_neighbours_in_a_file_are_joined_without_a_copy(mapped, tmp_path):
    images, whole = mapped
    first, second, third = np.split(whole, [6, 15])
    assert place_of(joined(first, second)) == place_of(whole[:15])
    assert np.array_equal(joined(first, second), images[:15])
    for one, two in ((second, first), (first, third), (images[:6], second), (first, images[6:15])):
        assert place_of(joined(one, two)) is None
        assert np.array_equal(joined(one, two), np.concatenate([one, two]))


def test_the_files_of_arrays_are_named_once(mapped, tmp_path):
    images, whole = mapped
    assert files_of([whole, whole[3:], images]) == {tmp_path / "images.npy"}
