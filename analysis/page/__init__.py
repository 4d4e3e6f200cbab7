"""The report page: plots, pictures and words."""
