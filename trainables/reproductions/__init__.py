"""Programs that reproduce printed tables which the validation split of a sweep cannot be compared with."""
