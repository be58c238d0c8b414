"""What a Python program under test says to the machine it runs in.

The same calls as the C SDK's, with the same meaning (docs/guest-programs.md): assertions that must hold always or
become true sometimes, the moment the set-up is done, random numbers that the host chooses. Standard library only, so
the directory can be copied into any guest image.

Outside a machine the messages go to the file named by CHAOSCONTROL_SDK_LOCAL_OUTPUT, one line of JSON each, or nowhere.

    from chaoscontrol_sdk import always, sometimes, setup_complete
    setup_complete({"nodes": 3})
    always(balance >= 0, "the balance is never negative", {"balance": balance})
"""

from ._assertions import (
    always,
    always_greater_than,
    always_greater_than_or_equal_to,
    always_less_than,
    always_less_than_or_equal_to,
    always_or_unreachable,
    always_some,
    announce,
    reachable,
    sometimes,
    sometimes_all,
    sometimes_greater_than,
    sometimes_greater_than_or_equal_to,
    sometimes_less_than,
    sometimes_less_than_or_equal_to,
    unreachable,
)
from ._lifecycle import choice, coverage_init, inside_machine, random, record_edge, send_event, setup_complete

__all__ = [
    "always",
    "always_greater_than",
    "always_greater_than_or_equal_to",
    "always_less_than",
    "always_less_than_or_equal_to",
    "always_or_unreachable",
    "always_some",
    "announce",
    "choice",
    "coverage_init",
    "inside_machine",
    "random",
    "reachable",
    "record_edge",
    "send_event",
    "setup_complete",
    "sometimes",
    "sometimes_all",
    "sometimes_greater_than",
    "sometimes_greater_than_or_equal_to",
    "sometimes_less_than",
    "sometimes_less_than_or_equal_to",
    "unreachable",
]
