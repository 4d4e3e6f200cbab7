"""A user's own extractor, named by tests by its dotted path."""

from torch import nn

pixels = nn.Flatten()
thumbnail = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
