"""The station's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.options import Config, Json, settings_of
from agent.clock import SystemClock
from agent.errors import ConfigurationInvalid
from agent.owner import as_owner

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.crypto.keys import StationKeys

keys = typer.Typer(no_args_is_help=True, help="The station's keys.")
DAY_S = 86_400


@keys.command("init")
def keys_init(config: Config = None) -> None:
    """Makes the station's keys (mode 0600, or sealed); never overwrites any."""
    from agent.cli.output import say
    from agent.crypto.keys import init_station_keys
    from agent.crypto.sealed_keys import CREDENTIAL, seal_new_keys

    settings = settings_of(config)
    path = CREDENTIAL if settings.keys.sealed else settings.keys.station
    if settings.keys.sealed:
        if CREDENTIAL.exists():
            raise ConfigurationInvalid(f"{CREDENTIAL}: exists already; it is never overwritten")
        made = seal_new_keys()
    else:
        with as_owner(settings.station.state_dir):
            made = init_station_keys(path)
    say(f"{path}: made; thumbprint {made.thumbprint()}")
    say("Give the authority what `print-agent keys show` prints.")


@keys.command("show")
def keys_show(
    config: Config = None,
    as_json: Json = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Prints the public keys (a JWK Set) for the authority."""
    from agent.cli.output import say_json
    from agent.crypto.sealed_keys import open_station_keys

    settings = settings_of(config)
    say_json(open_station_keys(settings.keys.station, sealed=settings.keys.sealed).public_jwks())


@keys.command("rotate")
def keys_rotate(
    config: Config = None,
    overlap_days: Annotated[
        int,
        typer.Option(
            min=0, max=3_650, help="How long documents for the old encryption key are still taken."
        ),
    ] = 30,
) -> None:
    """Makes new keys; the next start announces them by a receipt that the old key signs."""
    from agent.cli.output import say
    from agent.crypto.keys import replace_station_keys
    from agent.crypto.sealed_keys import CREDENTIAL, open_station_keys, seal_keys

    settings = settings_of(config)
    path = CREDENTIAL if settings.keys.sealed else settings.keys.station
    held = open_station_keys(settings.keys.station, sealed=settings.keys.sealed)
    _require_announced(settings, held)
    made = held.rotate(SystemClock().now(), overlap_days * DAY_S)
    if settings.keys.sealed:
        seal_keys(made)
    else:
        with as_owner(settings.station.state_dir):
            replace_station_keys(path, made)
    say(f"{path}: new keys; thumbprint {made.thumbprint()}")
    say("Restart the agent: it announces them by the receipt keys-rotated.")
    say("Then give the authority what `print-agent keys show` prints.")


def _require_announced(settings: Settings, held: StationKeys) -> None:
    """A second rotation before the first was announced would lose the key that must sign it."""
    import apsw

    from agent.errors import JournalDamaged
    from agent.queue.journal import Reader, open_for_reading
    from agent.queue.start import last_signer_kid

    path = settings.journal_path
    if not path.is_file():
        return
    try:
        kid = last_signer_kid(Reader(open_for_reading(path)))
    except apsw.Error as error:
        raise JournalDamaged(
            f"{path}: the journal cannot be read ({type(error).__name__}); the keys stay as they are"
        ) from error
    if kid not in (None, held.kid):
        raise ConfigurationInvalid(
            f"{settings.keys.station}: the last rotation is not announced yet; start the agent first"
        )
