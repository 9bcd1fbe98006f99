"""The client app that Flower runs at a site: the same in simulation and in a hospital.

Every message, of whatever type, goes to `answer`, which raises nothing. Flower would send the words
of an exception to the hub, so what happens outside of it is caught here too.
"""

from __future__ import annotations

import logging

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from pixcell_share.federation import RoundKind, Sealed
from pixcell_share.federation.records import pack, unpack
from site_agent.federation.answering import answer
from site_agent.federation.where import site_home
from site_agent.hub_link import HubLink

_log = logging.getLogger(__name__)
_NOTHING = Sealed(b"{}", "", b"")


class SiteApp(ClientApp):
    """A client app that answers each message by a code or a receipt, never by an exception."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message of a hub."""
        try:
            return Message(self._content(message, context), reply_to=message)
        except Exception:
            _log.exception("a message was not answered")
            return Message(pack(_NOTHING), reply_to=message)

    def _content(self, message: Message, context: Context) -> RecordDict:
        home = site_home(context.node_config)
        sealed, arrays = unpack(message.content)
        kind = RoundKind.of(message.metadata.message_type)
        reply = answer(home, HubLink.load(home).hub_key_id, kind, sealed, arrays)
        return pack(reply.sealed, reply.arrays)


app = SiteApp()
