"""What runs a sweep and looks after its folder."""
