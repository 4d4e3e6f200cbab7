"""Continue an interrupted sweep or confirmation, also from its copy in a bucket."""

from pathlib import Path
from typing import Any

from sweep.commands._arguments import Address, Out, Source, TrackingUri
from sweep.commands._ending import conclude, conclude_confirmation, say
from sweep.config import refuse_credentials
from sweep.driver import confirm as confirmation
from sweep.driver import launch, mirror
from trainables.datasets import expanded


def main(
    source: Source, /, *, out: Out = Path("sweeps"), tracking_uri: TrackingUri = None, address: Address = None
) -> None:
    if "://" in source:
        try:
            refuse_credentials(source)
        except ValueError as error:
            raise ValueError(f"the address {error}") from None
        folder = mirror.fetch(source, out, say)
    else:
        folder = expanded(source)
    where: dict[str, Any] = {"tracking_uri": tracking_uri, "address": address}
    if (home := confirmation.sweep_of(folder)) is not None:
        conclude_confirmation(confirmation.confirm(home, say, **where))
    else:
        conclude(launch.resume(folder, say, **where), **where)
